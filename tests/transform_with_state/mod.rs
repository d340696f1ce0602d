//! transformWithState: step by step as Spark measured it, and what its suites assert.
//!
//! What may be streamed of it is in the matrix (`tests/matrix`), what may change between restarts in `tests/restarts`.

mod lives;
mod misuse;
mod timers;
mod variables;

use std::time::Duration;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use datafusion::prelude::col;
use serde::{Deserialize, Serialize};
use wavetank::Error;
use wavetank::groups::{
    ExpiredTimerInfo, ListState, MapState, StatefulProcessor, StatefulProcessorHandle,
    StatefulProcessorWithInitialState, TimeMode, TimerValues, Timestamp, TtlConfig, ValueState, Values,
};
use wavetank::prelude::*;
use wavetank::testing::{Job, NO_ROWS, Row, Start, StateRows, StreamTest, Transcript};

type Rows = Result<Vec<(String, String)>, Error>;

/// Every batch: rows in, rows out, and total/updated/removed/late.
fn told(run: &Transcript) -> Vec<String> {
    let line = |batch: &wavetank::testing::Batch| {
        let rows: Vec<_> = batch.rows.iter().map(|row| serde_json::to_string(row).expect("JSON")).collect();
        let state = batch.state.last().expect("an operator");
        let input: u64 = batch.input_rows.iter().map(|(_, rows)| rows).sum();
        let numbers = format!("{}/{}/{}/{}", state.total, state.updated, state.removed, state.late);
        format!("b{} rows={input} out: {} | {numbers}", batch.id, rows.join(" ")).replace('"', "")
    };
    run.batches().iter().map(line).collect()
}

/// A job over a stream of words that this processor transforms.
fn job<P: StatefulProcessor>(processor: P, time_mode: TimeMode) -> Job {
    Job::frame(async move |session: Session| {
        let words = session.table("words").await?.group_by([col("k")]);
        words.transform_with_state(processor.clone(), time_mode, OutputMode::Update)
    })
    .source("words", "k STRING, v STRING")
    .output_mode(OutputMode::Update)
}

fn word(key: &str) -> Row {
    Row::from((key, ""))
}

#[derive(Deserialize)]
struct Word {
    v: String,
}

fn every_second() -> Start {
    Start::new().trigger(Trigger::processing_time("1 second").expect("a trigger"))
}

const SECOND: Duration = Duration::from_secs(1);

/// A row with a time.
#[derive(Deserialize)]
struct Event {
    at: Timestamp,
}
