//! A copy of a stream whose producer sends some records twice: of two records with one id the second is dropped if it
//! comes within a day of event time (`dropDuplicatesWithinWatermark`); ids are forgotten after that, so the state stays
//! small.
//!
//! `cargo run --example copy_without_duplicates` prints how many records came and how many were passed on.

use wavetank::prelude::*;

#[tokio::main]
async fn main() -> wavetank::Result<()> {
    let session = wavetank::session()?;
    let quakes = session
        .read_stream()
        .format("json")
        .schema_ddl("id STRING, time TIMESTAMP, mag DOUBLE, place STRING")?
        .option("path", "examples/data/earthquakes")
        .option("pathGlobFilter", "2018-01-31*.json")
        .option("maxFilesPerTrigger", 1)
        .load()
        .await?;
    let sent_twice = quakes.union(&quakes)?;

    let query = sent_twice
        .with_watermark("time", "1 day")?
        .drop_duplicates_within_watermark(&["id"])?
        .write_stream()
        .format("memory")
        .query_name("copy")
        .trigger(Trigger::AvailableNow)
        .start()
        .await?;
    query.await_termination().await?;

    let copied = session.sql("SELECT count(*) AS copied, count(DISTINCT id) AS ids FROM copy").await?;
    let came: u64 = query.recent_progress().iter().map(|batch| batch.num_input_rows).sum();
    println!("{came} records came");
    copied.write().format("console").run().await
}
