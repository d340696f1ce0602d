//! A batch of one row through a windowed count, with a durable checkpoint on the local disk: how long, and where.
//!
//! `cargo bench --bench latency`. `WAVETANK_BENCH_DIR` chooses the disk (a temporary folder otherwise).

mod shared;

use std::collections::BTreeMap;
use std::time::Instant;

use shared::{events, percentile, rows, session};
use wavetank::prelude::*;

const WARM_UP: i64 = 50;
const BATCHES: i64 = 500;

fn main() -> wavetank::Result<()> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let folder = match std::env::var_os("WAVETANK_BENCH_DIR") {
        Some(folder) => tempfile::tempdir_in(folder),
        None => tempfile::tempdir(),
    }
    .expect("a folder");
    runtime.block_on(run(folder.path()))
}

async fn run(folder: &std::path::Path) -> wavetank::Result<()> {
    let session = session(folder, 1)?;
    let stream = events(&session, "events", "10 seconds").await?;
    let mut driver = session
        .sql("SELECT window(ts, '10 seconds') AS w, k, count(*) AS n FROM events GROUP BY window(ts, '10 seconds'), k")
        .await?
        .write_stream()
        .format("noop")
        .output_mode(OutputMode::Update)
        .option("checkpointLocation", "checkpoint")
        .driver()
        .await?;
    let (mut whole, mut steps) = (vec![], BTreeMap::<&str, Vec<u64>>::new());
    for batch in 0..WARM_UP + BATCHES {
        stream.add_data(rows(&stream, std::iter::once((batch * 1000, format!("key{}", batch % 100), 1))))?;
        let began = Instant::now();
        driver.trigger().await?;
        if batch >= WARM_UP {
            whole.push(began.elapsed().as_micros() as u64);
            for (step, us) in driver.last_steps_us() {
                steps.entry(step).or_default().push(*us);
            }
        }
    }
    println!("one row a batch, {BATCHES} batches, microseconds");
    println!("{:<16} {:>8} {:>8}", "", "p50", "p99");
    println!("{:<16} {:>8} {:>8}", "whole trigger", percentile(&mut whole, 50), percentile(&mut whole, 99));
    for (step, mut us) in steps {
        println!("{step:<16} {:>8} {:>8}", percentile(&mut us, 50), percentile(&mut us, 99));
    }
    Ok(())
}
