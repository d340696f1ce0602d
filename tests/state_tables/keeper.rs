//! A processor that keeps something in every kind of variable.

use serde::{Deserialize, Serialize};
use wavetank::Error;
use wavetank::groups::{
    ListState, MapState, StatefulProcessor, StatefulProcessorHandle, TimeMode, TimerValues, TtlConfig, ValueState,
    Values,
};
use wavetank::prelude::*;

/// Keeps each row of a key in every kind of variable, and when it came in a timer far away.
#[derive(Clone, Default)]
pub struct Keeper {
    last: ValueState<Event>,
    count: ValueState<i64>,
    texts: ListState<String>,
    by_text: MapState<String, i64>,
    handle: StatefulProcessorHandle,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Event {
    c: String,
    v: Option<i32>,
}

impl StatefulProcessor for Keeper {
    type Key = Option<String>;
    type Row = Event;
    type Output = i64;

    fn init(&mut self, handle: &StatefulProcessorHandle, _: OutputMode, mode: TimeMode) -> Result<(), Error> {
        let ttl = if mode == TimeMode::ProcessingTime { TtlConfig::of("1 hour")? } else { TtlConfig::NONE };
        self.last = handle.get_value_state("last", TtlConfig::NONE)?;
        self.count = handle.get_value_state("count", ttl)?;
        self.texts = handle.get_list_state("texts", TtlConfig::NONE)?;
        self.by_text = handle.get_map_state("byText", TtlConfig::NONE)?;
        self.handle = handle.clone();
        Ok(())
    }

    fn handle_input_rows(
        &mut self,
        _: &Option<String>,
        rows: Values<'_, Event>,
        _: &TimerValues,
    ) -> Result<Vec<i64>, Error> {
        for row in rows {
            self.count.update(self.count.get()?.unwrap_or(0) + 1)?;
            self.texts.append_value(row.c.clone())?;
            self.by_text.update_value(row.c.clone(), row.v.unwrap_or(0).into())?;
            self.last.update(row)?;
        }
        self.handle.register_timer(2_000_000_000_000)?;
        Ok(vec![])
    }
}
