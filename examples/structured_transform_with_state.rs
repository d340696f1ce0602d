//! Who is active: a running count per user that lapses after a while, and a note when a user falls silent.
//!
//! transformWithState with a value that lives for 10 seconds (its count starts anew after that), a list of what a user
//! did, and a timer 3 seconds after the last event. Run it for 30 seconds, or as many as you say:
//!
//! ```text
//! cargo run --example structured_transform_with_state -- 30
//! ```

use std::time::Duration;

use datafusion::prelude::col;
use serde::{Deserialize, Serialize};
use wavetank::groups::{
    ExpiredTimerInfo, ListState, StatefulProcessor, StatefulProcessorHandle, TimeMode, TimerValues, TtlConfig,
    ValueState, Values,
};
use wavetank::prelude::*;

/// A row of the input.
#[derive(Deserialize)]
pub struct Event {
    value: i64,
}

/// A row of the result.
#[derive(Serialize, Deserialize)]
pub struct Activity {
    user: String,
    what: String,
    count: i64,
}

/// The processor; its fields are set by `init` in every batch.
#[derive(Clone, Default)]
pub struct Watcher {
    handle: StatefulProcessorHandle,
    count: ValueState<i64>,
    recent: ListState<i64>,
    silent_at: ValueState<i64>,
}

impl StatefulProcessor for Watcher {
    type Key = String;
    type Row = Event;
    type Output = Activity;

    fn init(&mut self, handle: &StatefulProcessorHandle, _: OutputMode, _: TimeMode) -> wavetank::Result<()> {
        self.handle = handle.clone();
        self.count = handle.get_value_state("count", TtlConfig::of("10 seconds")?)?;
        self.recent = handle.get_list_state("recent", TtlConfig::of("10 seconds")?)?;
        self.silent_at = handle.get_value_state("silent_at", TtlConfig::NONE)?;
        Ok(())
    }

    fn handle_input_rows(
        &mut self,
        user: &String,
        events: Values<'_, Event>,
        timers: &TimerValues,
    ) -> wavetank::Result<Vec<Activity>> {
        let values: Vec<i64> = events.map(|event| event.value).collect();
        let count = self.count.get()?.unwrap_or(0) + values.len() as i64;
        self.count.update(count)?;
        self.recent.append_list(values)?;
        if let Some(before) = self.silent_at.get()? {
            self.handle.delete_timer(before)?;
        }
        let silent_at = timers.get_current_processing_time_ms() + 3000;
        self.handle.register_timer(silent_at)?;
        self.silent_at.update(silent_at)?;
        Ok(vec![Activity { user: user.clone(), what: "active".into(), count }])
    }

    fn handle_expired_timer(
        &mut self,
        user: &String,
        _: &TimerValues,
        _: &ExpiredTimerInfo,
    ) -> wavetank::Result<Vec<Activity>> {
        let recent: Vec<_> = self.recent.get()?.iter().map(ToString::to_string).collect();
        self.silent_at.clear()?;
        let what = format!("silent after {}", recent.join(", "));
        Ok(vec![Activity { user: user.clone(), what, count: self.count.get()?.unwrap_or(0) }])
    }
}

/// The activity of the users of a stream of `user` and `value`.
pub fn activity(events: &DataFrame) -> wavetank::Result<DataFrame> {
    events.group_by([col("user")]).transform_with_state(
        Watcher::default(),
        TimeMode::ProcessingTime,
        OutputMode::Update,
    )
}

#[tokio::main]
async fn main() -> wavetank::Result<()> {
    let seconds = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(30);
    let session = wavetank::session()?;
    // A user is busy for eight seconds, then it is another one's turn.
    let events = session.read_stream().format("rate").option("rowsPerSecond", 2).load().await?;
    let events = events.select_expr(&["concat('user-', CAST(floor(value / 16) AS STRING)) AS user", "value"])?;
    let query = activity(&events)?
        .write_stream()
        .format("console")
        .option("truncate", false)
        .output_mode(OutputMode::Update)
        .trigger(Trigger::processing_time("1 second")?)
        .start()
        .await?;
    // An example to look at: it runs for as long as it is told on the command line.
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    query.stop().await
}
