//! User functions over groups, as views of a case name them: they count a key's rows, until a timeout takes the key away.

use datafusion::prelude::col;
use serde::Deserialize;
use wavetank::Error;
use wavetank::groups::{
    ExpiredTimerInfo, GroupState, GroupStateTimeout, StatefulProcessor, StatefulProcessorHandle, TimeMode, TimerValues,
    Timestamp, TtlConfig, ValueState, Values,
};
use wavetank::prelude::*;

/// A function, and what it is declared to be.
#[derive(Clone, Debug, Deserialize)]
pub struct Groups {
    /// map, flatMap, transform, or pass (transform whose result has event time).
    pub function: String,
    /// The key.
    pub by: String,
    /// By what there are timeouts or timers: none, if not said; else event or processing.
    #[serde(default)]
    pub time: String,
    /// The function's output mode: append, if not said.
    #[serde(default)]
    pub mode: String,
}

#[derive(Deserialize)]
struct Nothing {}

#[derive(Deserialize)]
struct Event {
    ts: Option<Timestamp>,
}

type Count = (Option<String>, i64);

/// How long after its last row a key is forgotten, in milliseconds.
const FORGET_MS: i64 = 20_000;

/// Applies a function.
pub fn apply(frame: &DataFrame, groups: &Groups) -> Result<DataFrame, Error> {
    let keyed = frame.group_by([col(groups.by.as_str())]);
    let mode: OutputMode = if groups.mode.is_empty() { OutputMode::Append } else { groups.mode.parse()? };
    let (timeout, time_mode) = match groups.time.as_str() {
        "" => (GroupStateTimeout::NoTimeout, TimeMode::None),
        "event" => (GroupStateTimeout::EventTimeTimeout, TimeMode::EventTime),
        "processing" => (GroupStateTimeout::ProcessingTimeTimeout, TimeMode::ProcessingTime),
        other => panic!("no time {other}"),
    };
    let timed = |key, events: Values<'_, Event>, state: &mut GroupState<i64>| {
        let latest = events.map(|event| event.ts.map_or(0, |ts| ts.millis())).collect::<Vec<_>>();
        count(key, latest.len(), state, latest.into_iter().max().map(|ms| ms + FORGET_MS))
    };
    let untimed = |key, rows: Values<'_, Nothing>, state: &mut GroupState<i64>| count(key, rows.count(), state, None);
    match (groups.function.as_str(), timeout) {
        ("map", GroupStateTimeout::NoTimeout) => keyed.map_groups_with_state(timeout, untimed),
        ("map", _) => keyed.map_groups_with_state(timeout, timed),
        ("flatMap", GroupStateTimeout::NoTimeout) => {
            keyed.flat_map_groups_with_state(mode, timeout, move |key, rows, state: &mut GroupState<i64>| {
                untimed(key, rows, state).map(Some)
            })
        }
        ("flatMap", _) => {
            keyed.flat_map_groups_with_state(mode, timeout, move |key, rows, state: &mut GroupState<i64>| {
                timed(key, rows, state).map(Some)
            })
        }
        ("transform", _) => keyed.transform_with_state(Counting::default(), time_mode, mode),
        ("pass", _) => keyed.transform_with_state_event_time(Passing::default(), "_2", mode),
        (other, _) => panic!("no function {other}"),
    }
}

fn count(key: Option<String>, rows: usize, state: &mut GroupState<i64>, until: Option<i64>) -> Result<Count, Error> {
    let rows = state.get_option().copied().unwrap_or(0) + rows as i64;
    if state.has_timed_out() {
        state.remove();
        return Ok((key, -rows));
    }
    state.update(rows);
    until.map_or(Ok(()), |until| state.set_timeout_timestamp(until))?;
    Ok((key, rows))
}

#[derive(Clone, Default)]
struct Counting {
    handle: StatefulProcessorHandle,
    n: ValueState<i64>,
    by_event_time: bool,
}

impl StatefulProcessor for Counting {
    type Key = Option<String>;
    type Row = Event;
    type Output = Count;

    fn init(&mut self, handle: &StatefulProcessorHandle, _: OutputMode, time_mode: TimeMode) -> Result<(), Error> {
        self.n = handle.get_value_state("n", TtlConfig::NONE)?;
        (self.handle, self.by_event_time) = (handle.clone(), time_mode == TimeMode::EventTime);
        Ok(())
    }

    fn handle_input_rows(
        &mut self,
        key: &Option<String>,
        rows: Values<'_, Event>,
        _: &TimerValues,
    ) -> Result<Vec<Count>, Error> {
        let times: Vec<i64> = rows.map(|event| event.ts.map_or(0, |ts| ts.millis())).collect();
        let n = self.n.get()?.unwrap_or(0) + times.len() as i64;
        self.n.update(n)?;
        if let Some(latest) = times.into_iter().max().filter(|_| self.by_event_time) {
            self.handle.register_timer(latest + FORGET_MS)?;
        }
        Ok(vec![(key.clone(), n)])
    }

    fn handle_expired_timer(
        &mut self,
        key: &Option<String>,
        _: &TimerValues,
        _: &ExpiredTimerInfo,
    ) -> Result<Vec<Count>, Error> {
        let n = self.n.get()?.unwrap_or(0);
        self.n.clear()?;
        Ok(vec![(key.clone(), -n)])
    }
}

#[derive(Clone, Default)]
struct Passing {
    n: ValueState<i64>,
}

impl StatefulProcessor for Passing {
    type Key = Option<String>;
    type Row = Event;
    type Output = (Option<String>, Option<Timestamp>, i64);

    fn init(&mut self, handle: &StatefulProcessorHandle, _: OutputMode, _: TimeMode) -> Result<(), Error> {
        self.n = handle.get_value_state("n", TtlConfig::NONE)?;
        Ok(())
    }

    fn handle_input_rows(
        &mut self,
        key: &Option<String>,
        rows: Values<'_, Event>,
        _: &TimerValues,
    ) -> Result<Vec<Self::Output>, Error> {
        let first = self.n.get()?.unwrap_or(0) + 1;
        let passed: Vec<_> = rows.zip(first..).map(|(event, n)| (key.clone(), event.ts, n)).collect();
        self.n.update(first - 1 + passed.len() as i64)?;
        Ok(passed)
    }
}
