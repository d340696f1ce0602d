//! The time of a batch that touches 1,000 keys, with 10 thousand, 100 thousand and 1 million keys in state.
//!
//! `cargo bench --bench state_size`.

mod shared;

use std::time::Instant;

use shared::{events, percentile, rows, session};
use wavetank::prelude::*;

const TOUCHED: i64 = 1_000;
const BATCHES: i64 = 60;

fn main() -> wavetank::Result<()> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    println!("a batch of {TOUCHED} keys, {BATCHES} batches, microseconds; memory of the state a key, bytes");
    println!("{:>10} {:>10} {:>10} {:>10} {:>12}", "keys", "p50", "p99", "max", "bytes a key");
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
        .sql("SELECT k, count(*) AS n, sum(v) AS s, max(ts) AS last FROM events GROUP BY k")
        .await?
        .write_stream()
        .format("noop")
        .output_mode(OutputMode::Update)
        .option("checkpointLocation", "checkpoint")
        .driver()
        .await?;
    // Fill, 100,000 keys a batch.
    for from in (0..keys).step_by(100_000) {
        let until = (from + 100_000).min(keys);
        stream.add_data(rows(&stream, (from..until).map(|key| (0, format!("key-{key:08}"), 1))))?;
        driver.trigger().await?;
    }
    let mut took = vec![];
    let mut bytes = 0;
    for batch in 0..BATCHES {
        // A stride that is prime to the number of keys, so that the keys are spread and differ from batch to batch.
        let touched = (0..TOUCHED).map(|at| ((batch * TOUCHED + at) * 7_919) % keys);
        stream.add_data(rows(&stream, touched.map(|key| (0, format!("key-{key:08}"), 1))))?;
        let began = Instant::now();
        let triggered = driver.trigger().await?;
        took.push(began.elapsed().as_micros() as u64);
        if let wavetank::engine::microbatch::driver::Triggered::Ran(report) = triggered {
            assert_eq!(report.state_operators[0].num_rows_total, keys as u64);
            bytes = report.state_operators[0].memory_used_bytes / keys as u64;
        }
    }
    let (p50, p99, max) = (percentile(&mut took, 50), percentile(&mut took, 99), percentile(&mut took, 100));
    println!("{keys:>10} {p50:>10} {p99:>10} {max:>10} {bytes:>12}");
    Ok(())
}
