//! The functions for map- and flatMapGroupsWithState.

use serde::{Deserialize, Serialize};
use wavetank_engine::Result;
use wavetank_engine::groups::{GroupState, Values};

use super::{Answer, Event, Key};

/// What a key's state is.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct Seen {
    rows: i64,
    sum: i64,
    last_ms: i64,
}

impl Seen {
    fn add(&mut self, events: Values<'_, Event>) {
        for Event { ts, v } in events {
            self.rows += 1;
            self.sum = self.sum.wrapping_add(v.unwrap_or(0));
            self.last_ms = self.last_ms.max(ts.map_or(0, |ts| ts.millis()));
        }
    }
}

pub(super) fn tally(key: Key, events: Values<'_, Event>, state: &mut GroupState<Seen>) -> Result<Answer> {
    let mut seen = state.get_option().copied().unwrap_or_default();
    seen.add(events);
    if seen.rows >= 5 {
        state.remove();
    } else {
        state.update(seen);
    }
    Ok((key, format!("sum {}", seen.sum), seen.rows))
}

/// Odd on purpose: every third count stays without a timeout, the fourth row leaves a timeout without a state, and a sum
/// that ends in 5 sets no timeout.
pub(super) fn sessions(key: Key, events: Values<'_, Event>, state: &mut GroupState<Seen>) -> Result<Option<Answer>> {
    if state.has_timed_out() {
        let Some(seen) = state.get_option().copied() else { return Ok(Some((key, "nothing".into(), 0))) };
        if seen.rows % 3 != 0 {
            state.remove();
        }
        return Ok(Some((key, format!("ended {}", seen.last_ms), seen.rows)));
    }
    let mut seen = state.get_option().copied().unwrap_or_default();
    seen.add(events);
    let ends_ms = (seen.last_ms + 5_000).max(state.get_current_watermark_ms()?).max(1);
    if seen.rows >= 4 {
        state.remove();
        state.set_timeout_timestamp(ends_ms)?;
        return Ok(Some((key, "full".into(), seen.rows)));
    }
    state.update(seen);
    if seen.sum.rem_euclid(10) != 5 {
        state.set_timeout_timestamp(ends_ms)?;
    }
    Ok(None)
}

/// Even counts stay after their timeout.
pub(super) fn visits(key: Key, events: Values<'_, Event>, state: &mut GroupState<Seen>) -> Result<Option<Answer>> {
    let now_ms = state.get_current_processing_time_ms();
    let mut seen = state.get_option().copied().unwrap_or_default();
    if state.has_timed_out() {
        if seen.rows % 2 != 0 {
            state.remove();
        }
        return Ok(Some((key, format!("gone at {now_ms}"), seen.rows)));
    }
    seen.add(events);
    state.update(seen);
    state.set_timeout_duration("2 seconds")?;
    Ok(Some((key, format!("seen at {now_ms}"), seen.rows)))
}

pub(super) fn numbers(key: Key, events: Values<'_, Event>, state: &mut GroupState<i64>) -> Result<Vec<Answer>> {
    let mut rows = state.get_option().copied().unwrap_or(0);
    let mut answers = vec![];
    for Event { v, .. } in events {
        rows += 1;
        answers.push((key.clone(), format!("{v:?}"), rows));
    }
    state.update(rows);
    Ok(answers)
}

pub(super) fn begun(key: Key, events: Values<'_, Event>, state: &mut GroupState<i64>) -> Result<Option<Answer>> {
    let before = state.get_option().copied();
    let after = before.unwrap_or(0) + events.count() as i64;
    state.update(after);
    Ok(Some((key, format!("from {before:?}"), after)))
}
