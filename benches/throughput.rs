//! The Yahoo-style query (filter, join with a static table, 10-second window count per campaign) over newline JSON and
//! over Parquet: Wavetank's rows/s against plain DataFusion running the same SQL once over the same files.
//!
//! `cargo bench --bench throughput`; `WAVETANK_BENCH_ROWS` sets the rows (2 million otherwise). Both work with two
//! partitions, in one process, one after the other, three times; the best of each counts.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{ArrayRef, RecordBatch, StringArray, TimestampMicrosecondArray};
use datafusion::prelude::{JsonReadOptions, ParquetReadOptions, SessionConfig, SessionContext};
use wavetank::engine::sql::parse_ddl_schema;
use wavetank::prelude::*;

const SCHEMA: &str = "user_id STRING, page_id STRING, ad_id STRING, ad_type STRING, event_type STRING, event_time TIMESTAMP, \
                      ip_address STRING";
const FILES: usize = 8;
const CAMPAIGNS: usize = 100;
const ADS: usize = 1_000;
const PARTITIONS: usize = 2;

fn main() -> wavetank::Result<()> {
    let rows = std::env::var("WAVETANK_BENCH_ROWS").ok().and_then(|rows| rows.parse().ok()).unwrap_or(2_000_000);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let folder = tempfile::tempdir().expect("a folder");
    write_input(folder.path(), rows).expect("written input");
    println!("{rows} rows in {FILES} files, {PARTITIONS} partitions, best of 3, rows/s");
    println!("{:<10} {:>12} {:>12} {:>8}", "format", "wavetank", "datafusion", "ratio");
    for format in ["json", "parquet"] {
        let (mut ours, mut theirs) = (f64::INFINITY, f64::INFINITY);
        for _ in 0..3 {
            ours = ours.min(runtime.block_on(wavetank_seconds(folder.path(), format))?);
            theirs = theirs.min(runtime.block_on(datafusion_seconds(folder.path(), format)).expect("DataFusion runs"));
        }
        let rate = |seconds: f64| rows as f64 / seconds;
        println!("{format:<10} {:>12.0} {:>12.0} {:>8.2}", rate(ours), rate(theirs), theirs / ours);
    }
    Ok(())
}

async fn wavetank_seconds(folder: &Path, format: &str) -> wavetank::Result<f64> {
    let session =
        wavetank::session_builder(wavetank::Environment::real(folder.to_owned())).parallelism(PARTITIONS).build()?;
    let script = format!(
        "CREATE TABLE events ({SCHEMA}) USING {format} OPTIONS (path 'events-{format}');
         CREATE TABLE campaigns (c_ad_id STRING, campaign_id STRING) USING json OPTIONS (path 'campaigns');"
    );
    session.run_script(&script).await?;
    let mut driver = session
        .sql(
            "SELECT window(event_time, '10 seconds') AS w, campaign_id, count(*) AS n
             FROM STREAM events WATERMARK event_time DELAY OF INTERVAL 10 SECONDS AS e
             JOIN campaigns ON ad_id = c_ad_id WHERE event_type = 'view'
             GROUP BY window(event_time, '10 seconds'), campaign_id",
        )
        .await?
        .write_stream()
        .format("noop")
        .output_mode(OutputMode::Update)
        .trigger(Trigger::Once)
        .driver()
        .await?;
    let began = Instant::now();
    driver.trigger().await?;
    Ok(began.elapsed().as_secs_f64())
}

async fn datafusion_seconds(folder: &Path, format: &str) -> datafusion::error::Result<f64> {
    let context = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(PARTITIONS));
    let path = |name: &str| folder.join(name).to_string_lossy().into_owned();
    let schema = parse_ddl_schema(SCHEMA).expect("a schema");
    let campaigns = parse_ddl_schema("c_ad_id STRING, campaign_id STRING").expect("a schema");
    let json = || JsonReadOptions::default().file_extension(".json");
    match format {
        "json" => context.register_json("events", path("events-json"), json().schema(&schema)).await?,
        _ => context.register_parquet("events", path("events-parquet"), ParquetReadOptions::default()).await?,
    }
    context.register_json("campaigns", path("campaigns"), json().schema(&campaigns)).await?;
    let frame = context
        .sql(
            "SELECT date_bin(INTERVAL '10 seconds', event_time) AS w, campaign_id, count(*) AS n
             FROM events JOIN campaigns ON ad_id = c_ad_id WHERE event_type = 'view'
             GROUP BY date_bin(INTERVAL '10 seconds', event_time), campaign_id",
        )
        .await?;
    let began = Instant::now();
    frame.collect().await?;
    Ok(began.elapsed().as_secs_f64())
}

/// The same rows as JSON lines and as Parquet, and the campaigns of the ads.
fn write_input(folder: &Path, rows: usize) -> Result<(), Box<dyn std::error::Error>> {
    for name in ["events-json", "events-parquet", "campaigns"] {
        std::fs::create_dir(folder.join(name))?;
    }
    let mut campaigns = BufWriter::new(File::create(folder.join("campaigns/campaigns.json"))?);
    for ad in 0..ADS {
        writeln!(campaigns, r#"{{"c_ad_id":"ad-{ad:06}","campaign_id":"campaign-{:04}"}}"#, ad % CAMPAIGNS)?;
    }
    let schema = parse_ddl_schema(SCHEMA)?;
    for file in 0..FILES {
        let of_file = (file * rows / FILES)..((file + 1) * rows / FILES);
        let time_us = |row: usize| 1_700_000_000_000_000 + row as i64 * 100;
        let texts = |text: &dyn Fn(usize) -> String| -> ArrayRef {
            Arc::new(StringArray::from_iter_values(of_file.clone().map(text)))
        };
        let times: Vec<_> = of_file.clone().map(time_us).collect();
        let columns = vec![
            texts(&|row| format!("user-{:08}", row * 31 % 100_000)),
            texts(&|row| format!("page-{:08}", row * 17 % 10_000)),
            texts(&|row| format!("ad-{:06}", row * 7 % ADS)),
            texts(&|row| ["banner", "modal", "sponsored-search", "mail", "mobile"][row % 5].to_owned()),
            texts(&|row| ["view", "click", "purchase"][row % 3].to_owned()),
            Arc::new(TimestampMicrosecondArray::from(times).with_timezone("UTC")) as ArrayRef,
            texts(&|row| format!("10.{}.{}.1", row % 256, row / 256 % 256)),
        ];
        let batch = RecordBatch::try_new(Arc::clone(&schema), columns)?;
        let mut json =
            arrow::json::LineDelimitedWriter::new(File::create(folder.join(format!("events-json/{file}.json")))?);
        json.write(&batch)?;
        json.finish()?;
        let parquet = File::create(folder.join(format!("events-parquet/{file}.parquet")))?;
        let mut parquet = parquet::arrow::ArrowWriter::try_new(parquet, Arc::clone(&schema), None)?;
        parquet.write(&batch)?;
        parquet.close()?;
    }
    Ok(())
}
