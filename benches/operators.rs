//! Operators whose state has a life span, at 10 thousand, 100 thousand and 1 million keys in state: in every batch 1,000
//! rows come and as many keys expire, so the state keeps its size and the cost must follow the change.
//!
//! `cargo bench --bench operators`. One row a key, a millisecond of event time apart.

mod shared;

use std::time::Instant;

use shared::{events, percentile, rows, session};
use wavetank::engine::microbatch::driver::Triggered;
use wavetank::prelude::*;

const STEP_US: i64 = 1_000;
const NEW: i64 = 1_000;
const BATCHES: i64 = 60;
const FILL: i64 = 50_000;

#[derive(Clone, Copy)]
enum Operator {
    DedupWithinWatermark,
    SlidingWindowsAppend,
    InnerJoinInTimeRange,
}

impl Operator {
    const ALL: [(Self, &'static str); 3] = [
        (Self::DedupWithinWatermark, "dedup within watermark"),
        (Self::SlidingWindowsAppend, "sliding windows, append"),
        (Self::InnerJoinInTimeRange, "inner join in time range"),
    ];

    fn is_join(self) -> bool {
        matches!(self, Self::InnerJoinInTimeRange)
    }

    async fn query(self, session: &Session) -> wavetank::Result<DataFrame> {
        match self {
            Self::DedupWithinWatermark => session.table("events").await?.drop_duplicates_within_watermark(&["k"]),
            Self::SlidingWindowsAppend => {
                let window = "window(ts, '200 milliseconds', '100 milliseconds')";
                let sql = format!("SELECT {window} AS w, k, count(*) AS n FROM events GROUP BY {window}, k");
                session.sql(sql.as_str()).await
            }
            Self::InnerJoinInTimeRange => {
                let range = "o.ts BETWEEN e.ts AND e.ts + INTERVAL 1 SECOND";
                let sql = format!("SELECT e.k, e.ts, o.v FROM events e JOIN others o ON e.k = o.k AND {range}");
                session.sql(sql.as_str()).await
            }
        }
    }
}

fn main() -> wavetank::Result<()> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    println!("{NEW} rows come and as many keys expire a batch; {BATCHES} batches, microseconds; rows/s at the median");
    println!(
        "{:<26} {:>10} {:>9} {:>9} {:>9} {:>11} {:>12}",
        "", "in state", "p50", "p99", "max", "rows/s", "bytes a row"
    );
    for (operator, name) in Operator::ALL {
        for keys in [10_000, 100_000, 1_000_000] {
            runtime.block_on(at_size(operator, name, keys))?;
        }
    }
    Ok(())
}

async fn at_size(operator: Operator, name: &str, keys: i64) -> wavetank::Result<()> {
    let folder = tempfile::tempdir().expect("a folder");
    let session = session(folder.path(), 1)?;
    // So late that `keys` keys are younger than the watermark.
    let delay = format!("{keys} milliseconds");
    let stream = events(&session, "events", &delay).await?;
    let others = events(&session, "others", &delay).await?;
    let writer = operator.query(&session).await?.write_stream().format("noop").output_mode(OutputMode::Append);
    let mut driver = writer.option("checkpointLocation", "checkpoint").driver().await?;
    let row = |at: i64| (at * STEP_US, format!("key-{at:08}"), 1);
    let mut next = 0;
    while next < keys {
        let until = (next + FILL).min(keys);
        stream.add_data(rows(&stream, (next..until).map(row)))?;
        if operator.is_join() {
            others.add_data(rows(&others, std::iter::once(row(until - 1))))?;
        }
        run_until_idle(&mut driver).await?;
        next = until;
    }
    let (mut took, mut in_state, mut bytes) = (vec![], 0, 0);
    for _ in 0..BATCHES {
        stream.add_data(rows(&stream, (next..next + NEW).map(row)))?;
        if operator.is_join() {
            others.add_data(rows(&others, (next..next + NEW).map(row)))?;
        }
        next += NEW;
        let began = Instant::now();
        let report = run_until_idle(&mut driver).await?;
        took.push(began.elapsed().as_micros() as u64);
        (in_state, bytes) = report;
    }
    let (p50, p99, max) = (percentile(&mut took, 50), percentile(&mut took, 99), percentile(&mut took, 100));
    let came = NEW * if operator.is_join() { 2 } else { 1 };
    let rate = came as u64 * 1_000_000 / p50.max(1);
    println!("{name:<26} {in_state:>10} {p50:>9} {p99:>9} {max:>9} {rate:>11} {:>12}", bytes / in_state.max(1));
    Ok(())
}

/// The batch with data and the one without after it, which evicts. Rows and bytes in state.
async fn run_until_idle(driver: &mut wavetank::engine::microbatch::driver::Driver) -> wavetank::Result<(u64, u64)> {
    let mut last = (0, 0);
    while let Triggered::Ran(report) = driver.trigger().await? {
        let state = &report.state_operators[0];
        last = (state.num_rows_total, state.memory_used_bytes);
    }
    Ok(last)
}
