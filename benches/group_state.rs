//! The time of a batch that touches 1,000 keys of group state, with 10 thousand, 100 thousand and 1 million keys in it.
//!
//! Every key has a timeout, as sessions have, so that the expiry index is as large as the state. Beside the batch the
//! user's function is called 1,000 times.
//!
//! `cargo bench --bench group_state`.

mod shared;

use std::time::Instant;

use datafusion::prelude::col;
use serde::{Deserialize, Serialize};
use shared::{events, percentile, rows, session};
use wavetank::engine::microbatch::driver::Triggered;
use wavetank::groups::{GroupState, GroupStateTimeout, Timestamp, Values};
use wavetank::prelude::*;

const TOUCHED: i64 = 1_000;
const BATCHES: i64 = 60;

#[derive(Deserialize)]
struct Event {
    ts: Timestamp,
    v: i64,
}

#[derive(Clone, Default, Serialize, Deserialize)]
struct Seen {
    events: i64,
    sum: i64,
    last: Timestamp,
}

fn see(
    key: String,
    events: Values<'_, Event>,
    state: &mut GroupState<Seen>,
) -> wavetank::Result<Option<(String, i64)>> {
    let mut seen = state.get_option().cloned().unwrap_or_default();
    for Event { ts, v } in events {
        seen.events += 1;
        seen.sum += v;
        seen.last = seen.last.max(ts);
    }
    let answer = (key, seen.sum);
    state.set_timeout_timestamp_after(seen.last.millis(), "1 day")?;
    state.update(seen);
    Ok(Some(answer))
}

fn main() -> wavetank::Result<()> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    println!("a batch of {TOUCHED} keys, {BATCHES} batches, microseconds; memory of the state a key, bytes");
    println!(
        "{:>10} {:>10} {:>10} {:>10} {:>12} {:>12} {:>14}",
        "keys", "p50", "p99", "max", "rows/s", "bytes a key", "fill, keys/s"
    );
    for keys in [10_000, 100_000, 1_000_000] {
        runtime.block_on(at_size(keys))?;
    }
    Ok(())
}

async fn at_size(keys: i64) -> wavetank::Result<()> {
    let folder = tempfile::tempdir().expect("a folder");
    let session = session(folder.path(), 1)?;
    let stream = events(&session, "events", "1 hour").await?;
    let mut driver = session
        .table("events")
        .await?
        .group_by([col("k")])
        .flat_map_groups_with_state(OutputMode::Update, GroupStateTimeout::EventTimeTimeout, see)?
        .write_stream()
        .format("noop")
        .output_mode(OutputMode::Update)
        .option("checkpointLocation", "checkpoint")
        .driver()
        .await?;
    // Fill, 100,000 keys a batch.
    let began = Instant::now();
    for from in (0..keys).step_by(100_000) {
        let until = (from + 100_000).min(keys);
        stream.add_data(rows(&stream, (from..until).map(|key| (1, format!("key-{key:08}"), 1))))?;
        driver.trigger().await?;
    }
    let fill = keys as f64 / began.elapsed().as_secs_f64();
    let mut took = vec![];
    let mut bytes = 0;
    for batch in 0..BATCHES {
        // A stride that is prime to the number of keys, so that the keys are spread and differ from batch to batch.
        let touched = (0..TOUCHED).map(|at| ((batch * TOUCHED + at) * 7_919) % keys);
        stream.add_data(rows(&stream, touched.map(|key| (1, format!("key-{key:08}"), 1))))?;
        let began = Instant::now();
        let triggered = driver.trigger().await?;
        took.push(began.elapsed().as_micros() as u64);
        if let Triggered::Ran(report) = triggered {
            assert_eq!(report.state_operators[0].num_rows_total, keys as u64);
            bytes = report.state_operators[0].memory_used_bytes / keys as u64;
        }
    }
    let (p50, p99, max) = (percentile(&mut took, 50), percentile(&mut took, 99), percentile(&mut took, 100));
    let rate = TOUCHED as f64 * 1e6 / p50 as f64;
    println!("{keys:>10} {p50:>10} {p99:>10} {max:>10} {rate:>12.0} {bytes:>12} {fill:>14.0}");
    Ok(())
}
