//! The functions for transformWithState.

use wavetank_engine::Result;
use wavetank_engine::groups::{
    ExpiredTimerInfo, ListState, MapState, StatefulProcessor, StatefulProcessorHandle,
    StatefulProcessorWithInitialState, TimeMode, TimerValues, Timestamp, TtlConfig, ValueState, Values,
};
use wavetank_engine::sink::OutputMode;

use super::{Answer, Event, Key};

/// A value, a list and a map.
#[derive(Clone, Default)]
struct Three {
    last: ValueState<i64>,
    all: ListState<i64>,
    counts: MapState<i64, i64>,
}

impl Three {
    fn made(handle: &StatefulProcessorHandle, ttl: TtlConfig) -> Result<Self> {
        Ok(Self {
            last: handle.get_value_state("last", ttl)?,
            all: handle.get_list_state("all", ttl)?,
            counts: handle.get_map_state("counts", ttl)?,
        })
    }

    fn add(&self, v: i64) -> Result<()> {
        self.last.update(v)?;
        self.all.append_value(v)?;
        let third = v.rem_euclid(3);
        self.counts.update_value(third, self.counts.get_value(&third)?.unwrap_or(0) + 1)
    }

    fn text(&self) -> Result<String> {
        Ok(format!("{:?} {:?} {:?}", self.last.get()?, self.all.get()?, self.counts.entries()?))
    }
}

/// The same value twice clears the value, a huge one the map, rows without values the list; a null takes an entry from
/// the map; five elements become the last two.
#[derive(Clone, Default)]
pub(super) struct Variables {
    three: Three,
}

impl StatefulProcessor for Variables {
    type Key = Key;
    type Row = Event;
    type Output = Answer;

    fn init(&mut self, handle: &StatefulProcessorHandle, _: OutputMode, _: TimeMode) -> Result<()> {
        self.three = Three::made(handle, TtlConfig::NONE)?;
        Ok(())
    }

    fn handle_input_rows(&mut self, key: &Key, events: Values<'_, Event>, _: &TimerValues) -> Result<Vec<Answer>> {
        let three = &self.three;
        let mut values = 0;
        for Event { v, .. } in events {
            let Some(v) = v else {
                three.counts.remove_key(&0)?;
                continue;
            };
            values += 1;
            let before = three.last.get()?;
            three.add(v)?;
            if before == Some(v) {
                three.last.clear()?;
            }
            if v > 1_000_000 {
                three.counts.clear()?;
            }
        }
        let all = three.all.get()?;
        if values == 0 {
            three.all.clear()?;
        } else if all.len() >= 5 {
            three.all.put(all[all.len() - 2..].to_vec())?;
        }
        Ok(vec![(key.clone(), three.text()?, values)])
    }
}

/// A timer five seconds after each row; some rows delete the earliest one; odd counts ring once more, and timers at even
/// seconds delete the latest.
#[derive(Clone, Default)]
pub(super) struct Alarms {
    handle: StatefulProcessorHandle,
    rows: ValueState<i64>,
}

impl StatefulProcessor for Alarms {
    type Key = Key;
    type Row = Event;
    type Output = Answer;

    fn init(&mut self, handle: &StatefulProcessorHandle, _: OutputMode, _: TimeMode) -> Result<()> {
        self.handle = handle.clone();
        self.rows = handle.get_value_state("rows", TtlConfig::NONE)?;
        Ok(())
    }

    fn handle_input_rows(&mut self, key: &Key, events: Values<'_, Event>, times: &TimerValues) -> Result<Vec<Answer>> {
        let mut rows = self.rows.get()?.unwrap_or(0);
        for Event { ts, v } in events {
            rows += 1;
            if let Some(ts) = ts {
                self.handle.register_timer(ts.millis() + 5_000)?;
            }
            if v.is_some_and(|v| v.rem_euclid(4) == 1)
                && let Some(first) = self.handle.list_timers()?.first()
            {
                self.handle.delete_timer(*first)?;
            }
        }
        self.rows.update(rows)?;
        let text = format!("{:?} at {}", self.handle.list_timers()?, times.get_current_watermark_ms());
        Ok(vec![(key.clone(), text, rows)])
    }

    fn handle_expired_timer(&mut self, key: &Key, _: &TimerValues, expired: &ExpiredTimerInfo) -> Result<Vec<Answer>> {
        let at_ms = expired.get_expiry_time_in_ms();
        let (timers, rows) = (self.handle.list_timers()?, self.rows.get()?.unwrap_or(0));
        if rows % 2 != 0 {
            self.handle.register_timer(at_ms + 3_000)?;
            self.rows.update(rows + 1)?;
        } else if timers.len() == 1 {
            self.rows.clear()?;
        }
        if let Some(latest) = timers.last().filter(|_| at_ms % 2_000 == 0) {
            self.handle.delete_timer(*latest)?;
        }
        Ok(vec![(key.clone(), format!("{at_ms} of {timers:?}"), rows)])
    }
}

/// Everything lives for two seconds; timers look at it after one and after two.
#[derive(Clone, Default)]
pub(super) struct Lifetimes {
    handle: StatefulProcessorHandle,
    three: Three,
}

impl StatefulProcessor for Lifetimes {
    type Key = Key;
    type Row = Event;
    type Output = Answer;

    fn init(&mut self, handle: &StatefulProcessorHandle, _: OutputMode, _: TimeMode) -> Result<()> {
        self.handle = handle.clone();
        self.three = Three::made(handle, TtlConfig { duration_ms: 2_000 })?;
        Ok(())
    }

    fn handle_input_rows(&mut self, key: &Key, events: Values<'_, Event>, times: &TimerValues) -> Result<Vec<Answer>> {
        let now_ms = times.get_current_processing_time_ms();
        events.filter_map(|event| event.v).try_for_each(|v| self.three.add(v))?;
        self.handle.register_timer(now_ms + 1_000)?;
        self.handle.register_timer(now_ms + 2_000)?;
        Ok(vec![(key.clone(), self.three.text()?, now_ms)])
    }

    fn handle_expired_timer(&mut self, key: &Key, _: &TimerValues, expired: &ExpiredTimerInfo) -> Result<Vec<Answer>> {
        Ok(vec![(key.clone(), format!("left {}", self.three.text()?), expired.get_expiry_time_in_ms())])
    }
}

/// Numbers each key's rows that have a time, and passes the time on.
#[derive(Clone, Default)]
pub(super) struct Stamped {
    rows: ValueState<i64>,
}

impl StatefulProcessor for Stamped {
    type Key = Key;
    type Row = Event;
    type Output = (Key, Timestamp, i64);

    fn init(&mut self, handle: &StatefulProcessorHandle, _: OutputMode, _: TimeMode) -> Result<()> {
        self.rows = handle.get_value_state("rows", TtlConfig::NONE)?;
        Ok(())
    }

    fn handle_input_rows(
        &mut self,
        key: &Key,
        events: Values<'_, Event>,
        _: &TimerValues,
    ) -> Result<Vec<(Key, Timestamp, i64)>> {
        let mut rows = self.rows.get()?.unwrap_or(0);
        let mut answers = vec![];
        for ts in events.filter_map(|event| event.ts) {
            rows += 1;
            answers.push((key.clone(), ts, rows));
        }
        self.rows.update(rows)?;
        Ok(answers)
    }
}

/// A list that begins with what was given.
#[derive(Clone, Default)]
pub(super) struct Opened {
    all: ListState<i64>,
}

/// A row of what is given.
#[derive(serde::Deserialize)]
pub(super) struct Given {
    n: i64,
}

impl StatefulProcessor for Opened {
    type Key = Key;
    type Row = Event;
    type Output = Answer;

    fn init(&mut self, handle: &StatefulProcessorHandle, _: OutputMode, _: TimeMode) -> Result<()> {
        self.all = handle.get_list_state("all", TtlConfig::NONE)?;
        Ok(())
    }

    fn handle_input_rows(&mut self, key: &Key, events: Values<'_, Event>, _: &TimerValues) -> Result<Vec<Answer>> {
        events.filter_map(|event| event.v).try_for_each(|v| self.all.append_value(v))?;
        let all = self.all.get()?;
        Ok(vec![(key.clone(), format!("{all:?}"), all.len() as i64)])
    }
}

impl StatefulProcessorWithInitialState for Opened {
    type Initial = Given;

    fn handle_initial_state(&mut self, _: &Key, initial: Given, _: &TimerValues) -> Result<()> {
        self.all.append_value(initial.n)
    }
}

/// First a value, a list and a narrow struct; later a map and the value, and the struct with another field, and wider. The
/// list is dropped.
#[derive(Clone)]
pub(super) struct Changing {
    later: bool,
    last: ValueState<i64>,
    all: ListState<i64>,
    counts: MapState<i64, i64>,
    narrow: ValueState<Narrow>,
    wide: ValueState<Wide>,
}

#[derive(Clone, serde::Serialize, serde::Deserialize)]
pub(super) struct Narrow {
    rows: i32,
}

#[derive(Clone, serde::Serialize, serde::Deserialize)]
pub(super) struct Wide {
    more: Option<String>,
    rows: i64,
}

impl Changing {
    pub(super) fn new(later: bool) -> Self {
        Self {
            later,
            last: ValueState::default(),
            all: ListState::default(),
            counts: MapState::default(),
            narrow: ValueState::default(),
            wide: ValueState::default(),
        }
    }
}

impl StatefulProcessor for Changing {
    type Key = Key;
    type Row = Event;
    type Output = Answer;

    fn init(&mut self, handle: &StatefulProcessorHandle, _: OutputMode, _: TimeMode) -> Result<()> {
        let forever = TtlConfig::NONE;
        if self.later {
            self.counts = handle.get_map_state("counts", forever)?;
            self.wide = handle.get_value_state("rows", forever)?;
            handle.delete_if_exists("all")?;
        } else {
            self.all = handle.get_list_state("all", forever)?;
            self.narrow = handle.get_value_state("rows", forever)?;
        }
        self.last = handle.get_value_state("last", forever)?;
        Ok(())
    }

    fn handle_input_rows(&mut self, key: &Key, events: Values<'_, Event>, _: &TimerValues) -> Result<Vec<Answer>> {
        let values: Vec<i64> = events.filter_map(|event| event.v).collect();
        let before = self.last.get()?;
        if let Some(last) = values.last() {
            self.last.update(*last)?;
        }
        let rows = if self.later {
            values.iter().try_for_each(|v| self.counts.update_value(*v, 1))?;
            let rows = self.wide.get()?.map_or(0, |wide| wide.rows) + values.len() as i64;
            self.wide.update(Wide { more: Some("later".into()), rows })?;
            rows
        } else {
            values.iter().try_for_each(|v| self.all.append_value(*v))?;
            let rows = self.narrow.get()?.map_or(0, |narrow| narrow.rows) + values.len() as i32;
            self.narrow.update(Narrow { rows })?;
            rows.into()
        };
        Ok(vec![(key.clone(), format!("after {before:?}"), rows)])
    }
}
