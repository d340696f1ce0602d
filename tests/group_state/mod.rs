//! mapGroupsWithState and flatMapGroupsWithState: step by step as Spark measured them, and what its suite asserts.
//!
//! What may be streamed of them is in the matrix (`tests/matrix`), what may change between restarts in `tests/restarts`.

mod functions;
mod initial_state;
mod timeouts;
mod types;

use std::time::Duration;

use arrow::array::{AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use datafusion::common::ScalarValue;
use datafusion::prelude::col;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::sync::Arc;
use wavetank::Error;
use wavetank::groups::{ArrowTypes, GroupState, GroupStateTimeout, Timestamp, Values};
use wavetank::prelude::*;
use wavetank::testing::{Job, NO_ROWS, Row, Start, StateRows, StreamTest, Transcript, rows};

use GroupStateTimeout::{EventTimeTimeout, NoTimeout, ProcessingTimeTimeout};

/// Every batch: rows in, watermark in seconds (0 without one), rows out, and total/updated/removed/late.
fn told(run: &Transcript) -> Vec<String> {
    let line = |batch: &wavetank::testing::Batch| {
        let rows: Vec<_> = batch.rows.iter().map(|row| serde_json::to_string(row).expect("JSON")).collect();
        let state = &batch.state[0];
        let input: u64 = batch.input_rows.iter().map(|(_, rows)| rows).sum();
        let numbers = format!("{}/{}/{}/{}", state.total, state.updated, state.removed, state.late);
        format!("b{} rows={input} out: {} | {numbers}", batch.id, rows.join(" ")).replace('"', "")
    };
    run.batches().iter().map(line).collect()
}

type Count = Result<Vec<(String, i64)>, Error>;

/// `spec/09` F01: counts; a key is forgotten at 3.
fn count_to_three(key: String, values: Values<'_, String>, state: &mut GroupState<i64>) -> Count {
    let count = state.get_option().copied().unwrap_or(0) + values.count() as i64;
    if count >= 3 {
        state.remove();
        return Ok(vec![(key, -1)]);
    }
    state.update(count);
    Ok(vec![(key, count)])
}

fn counting(mode: OutputMode) -> Job {
    Job::frame(async move |session: Session| {
        let words = session.table("words").await?.group_by([col("k")]);
        words.flat_map_groups_with_state(mode, NoTimeout, count_to_three)
    })
    .source("words", "k STRING")
    .output_mode(mode)
}

fn words() -> StreamTest {
    StreamTest::new(counting(OutputMode::Update))
}

/// A row of the event-time tests.
#[derive(Deserialize)]
struct Event {
    at: Timestamp,
}

type Text = Result<Vec<(String, String)>, Error>;

fn event_time(
    mode: OutputMode,
    function: impl Fn(String, Values<'_, Event>, &mut GroupState<i64>) -> Text + Clone + Send + Sync + 'static,
) -> Job {
    Job::frame(async move |session: Session| {
        let events = session.table("events").await?.with_watermark("at", "10 seconds")?.group_by([col("k")]);
        events.flat_map_groups_with_state(mode, EventTimeTimeout, function.clone())
    })
    .source("events", "k STRING, at TIMESTAMP")
    .output_mode(mode)
}
