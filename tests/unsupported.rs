//! `docs/UNSUPPORTED.md` is true: what it says is refused is refused, with the class that it names.
//!
//! A row's first cell is run: as a query over the stream `events` (SQL, functions), as a format (sources, sinks), as a
//! setting. Functions of Spark that are not there are counted from the list of all of them (`tests/unsupported`).

use std::collections::BTreeSet;
use std::path::Path;

use wavetank::engine::source::SourceDefinition;
use wavetank::engine::sql::parse_ddl_schema;
use wavetank::prelude::*;
use wavetank::{Environment, Error};

const PAGE: &str = include_str!("../docs/UNSUPPORTED.md");
/// The names in the function registry of Spark 4.3.0, without operators and what SQL cannot call.
const FUNCTIONS: &str = include_str!("unsupported/spark_functions.txt");

/// A row of a table: the heading above it, the text in its first cell, the class in its second.
struct Row {
    heading: &'static str,
    text: &'static str,
    class: Option<&'static str>,
}

fn rows() -> Vec<Row> {
    let mut heading = "";
    let mut rows = Vec::new();
    for line in PAGE.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            heading = title;
        }
        let cells: Vec<_> = line.split(" | ").collect();
        let Some(text) = cells[0].strip_prefix("| `").and_then(|text| text.strip_suffix('`')) else { continue };
        let class = Some(cells[1].trim_matches('`')).filter(|class| *class != "-");
        rows.push(Row { heading, text, class });
    }
    rows
}

async fn session(folder: &Path) -> Result<Session, Error> {
    std::fs::create_dir_all(folder.join("in")).expect("a folder");
    std::fs::write(folder.join("in/0.json"), "{\"k\":\"a\",\"v\":1,\"ts\":\"2024-01-01T00:00:10Z\"}\n")
        .expect("a file");
    let session = wavetank::session_builder(Environment::real(folder.to_owned())).build()?;
    let definition = SourceDefinition {
        schema: Some(parse_ddl_schema("k STRING, v BIGINT, ts TIMESTAMP, arr ARRAY<INT>")?),
        options: [("path", "in")].into_iter().collect(),
    };
    session.create_table("events_table", "json", definition).await?;
    let events = session.sql("SELECT * FROM STREAM events_table").await?;
    events.create_or_replace_temp_view("events")?;
    events.with_watermark("ts", "10 seconds")?.create_or_replace_temp_view("marked")?;
    Ok(session)
}

async fn start(frame: DataFrame, sink: &str) -> Result<(), Error> {
    let writer = frame.write_stream().format(sink).option("checkpointLocation", "checkpoint").option("path", "out");
    writer.trigger(Trigger::AvailableNow).start().await?.await_termination().await
}

async fn answer(row: &Row) -> Result<(), Error> {
    let folder = tempfile::tempdir().expect("a folder");
    let session = session(folder.path()).await?;
    match row.heading {
        "Sources" => start(session.read_stream().format(row.text).load_path("in").await?, "noop").await,
        "Sinks" => start(session.table("events").await?, row.text).await,
        "Settings" => {
            let (key, value) = row.text.split_once(" = ").expect("key = value");
            session.set_conf(key, value)?;
            start(session.table("events").await?, "noop").await
        }
        // A bar inside of a cell is escaped.
        _ => start(session.sql(row.text.replace("\\|", "|").as_str()).await?, "noop").await,
    }
}

#[tokio::test]
async fn what_the_page_names_is_refused_as_it_says() {
    let mut wrong = vec![];
    for row in rows() {
        match answer(&row).await {
            Ok(()) => wrong.push(format!("{}: {} is supported", row.heading, row.text)),
            Err(error) if error.class() != row.class => {
                wrong.push(format!("{}: {}: {:?} {error}", row.heading, row.text, error.class()));
            }
            Err(_) => {}
        }
    }
    assert!(wrong.is_empty(), "{} rows:\n{}", wrong.len(), wrong.join("\n"));
}

#[tokio::test]
async fn the_functions_that_are_missing_are_the_ones_listed() {
    let folder = tempfile::tempdir().expect("a folder");
    let session = session(folder.path()).await.expect("a session");
    let mut missing = BTreeSet::new();
    for name in FUNCTIONS.lines() {
        // A call that cannot be right: what is not there is told from what is called wrongly.
        let error = match session.sql(format!("SELECT {name}(1, 2, 3, 4, 5, 6, 7, 8) FROM events").as_str()).await {
            Ok(_) => continue,
            Err(error) => error,
        };
        if error.class() == Some("UNRESOLVED_ROUTINE") {
            missing.insert(name);
        }
    }
    let (_, rest) = PAGE.split_once("<!-- missing functions -->\n").expect("the list");
    let (listed, _) = rest.split_once("\n<!-- end -->").expect("its end");
    let expected = missing.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    assert!(
        listed.replace('\n', " ") == expected,
        "the list should be:\n{expected}\n({} of {})",
        missing.len(),
        FUNCTIONS.lines().count()
    );
}
