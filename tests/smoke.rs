//! The shortest way through the whole engine: rows in, a count out.

use std::sync::Arc;

use wavetank::engine::sql::parse_ddl_schema;
use wavetank::prelude::*;

#[tokio::test]
async fn rows_in_counts_out() -> wavetank::Result<()> {
    let session = wavetank::session()?;
    let stream = MemoryStream::new(parse_ddl_schema("k STRING, v BIGINT")?);
    let frame = session.stream_of("events", Arc::new(stream.clone()), Default::default()).await?;
    frame.create_or_replace_temp_view("events")?;
    let query = session
        .sql("SELECT k, count(*) AS n, sum(v) AS s FROM events GROUP BY k")
        .await?
        .write_stream()
        .format("memory")
        .query_name("counts")
        .output_mode(OutputMode::Complete)
        .start()
        .await?;
    let json = r#"{"k":"a","v":1}
{"k":"a","v":2}
{"k":"b","v":3}
"#;
    let mut reader = arrow::json::ReaderBuilder::new(stream.schema()).build(json.as_bytes())?;
    stream.add_data(reader.next().unwrap()?)?;
    query.process_all_available().await?;
    let rows = session.sql("SELECT * FROM counts ORDER BY k").await?.collect().await?;
    println!("{}", arrow::util::pretty::pretty_format_batches(&rows)?);
    println!("{}", query.last_progress().unwrap().pretty_json());
    println!("{}", query.explain());
    query.stop().await
}
