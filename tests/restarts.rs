//! Restarts with a changed query: every row of `spec/08`. What is allowed goes on with a defined answer; everything else is
//! refused, by name, before a byte of the checkpoint has changed.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use wavetank::engine::source::SourceDefinition;
use wavetank::engine::sql::parse_ddl_schema;
use wavetank::prelude::*;
use wavetank::sinks::{ForeachBatch, ForeachBatchProvider};
use wavetank::{Environment, Error};

mod changes;
mod groups;

use crate::support;
use changes::Expect::{Answers, Refused};
use changes::{COUNTS, Change, JOB, Job, changes};
use support::files::files;

/// Rows of `spec/08` about what this version does not have (sources named in an offset log of version 2, Kafka, Spark's
/// own upgrades), and those of user functions, which have a table of their own (`groups`).
const ELSEWHERE: [&str; 6] = [
    "sources with offset log v2 and names (4.2+)",
    "kafka topic set / pattern",
    "kafka sink topic",
    "(flat)mapGroupsWithState user function",
    "transformWithState",
    "Spark upgrade",
];

const ROWS: &str = include_str!("restarts/rows.txt");

#[test]
fn every_row_has_a_change() {
    let changes = changes();
    let tested = |row: &&str| changes.iter().any(|change| change.row == *row) || ELSEWHERE.contains(row);
    let missing: Vec<_> = ROWS.lines().filter(|row| !tested(row)).collect();
    assert!(missing.is_empty(), "{missing:#?}");
}

#[tokio::test]
async fn changes_work_or_are_refused_before_anything_is_written() {
    let mut wrong = vec![];
    for change in changes() {
        let folder = tempfile::tempdir().expect("a folder");
        if let Err(why) = check(&change, folder.path()).await {
            wrong.push(format!("{} | {}: {why}", change.row, change.name));
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}

async fn check(change: &Change, folder: &Path) -> Result<(), String> {
    input(folder, 0..2);
    run(&change.before, folder).await.map_err(|error| format!("before: {error}"))?;
    (change.meanwhile)(folder);
    input(folder, 2..4);
    let written = files(&folder.join(change.after.checkpoint));
    let output = files(&folder.join("out"));
    let answer = run(&change.after, folder).await;
    match (&change.expect, answer) {
        (Answers(expected), Ok(answer)) if answer == *expected => Ok(()),
        (Answers(expected), Ok(answer)) => Err(format!("expected\n  {expected}\ngot\n  {answer}")),
        (Answers(_), Err(error)) => Err(format!("failed: {error}")),
        (Refused(..), Ok(answer)) => Err(format!("was not refused, but answered {answer}")),
        (Refused(class, text), Err(error)) => {
            if error.class() != *class || !error.to_string().contains(text) {
                return Err(format!("expected {class:?} {text}, got {:?} {error}", error.class()));
            }
            let now = files(&folder.join(change.after.checkpoint));
            let differs = now.iter().filter(|(path, bytes)| written.get(*path) != Some(bytes)).map(|(path, _)| path);
            // A checkpoint that did not exist has an id and a lock by now, and nothing else.
            let differs: Vec<_> = differs.filter(|path| !written.is_empty() || !is_begun(path)).collect();
            if !differs.is_empty() || now.len() < written.len() {
                return Err(format!("refused, but the checkpoint changed: {differs:?}"));
            }
            if files(&folder.join("out")) != output {
                return Err("refused, but the output changed".into());
            }
            Ok(())
        }
    }
}

fn is_begun(path: &str) -> bool {
    path.ends_with("/metadata") || path.rsplit('/').next().is_some_and(|name| name.starts_with('.'))
}

const EVENTS: [&str; 5] = [
    "{\"k\":\"a\",\"v\":1,\"ts\":\"2024-01-01T00:00:10Z\"}\n{\"k\":\"b\",\"v\":2,\"ts\":\"2024-01-01T00:00:11Z\"}\n",
    "{\"k\":\"a\",\"v\":3,\"ts\":\"2024-01-01T00:00:30Z\"}\n",
    "{\"k\":\"a\",\"v\":5,\"ts\":\"2024-01-01T00:00:31Z\"}\n",
    "{\"k\":\"c\",\"v\":7,\"ts\":\"2024-01-01T00:01:00Z\",\"x\":\"new\"}\n",
    "{\"k\":\"a\",\"v\":9,\"ts\":\"2024-01-01T00:01:01Z\"}\n",
];

/// The second stream has no row that matches but the first.
const OTHERS: [&str; 5] = [
    "{\"k2\":\"z\",\"w\":10,\"ts2\":\"2024-01-01T00:00:10Z\"}\n",
    "{\"k2\":\"z\",\"w\":20,\"ts2\":\"2024-01-01T00:00:30Z\"}\n",
    "{\"k2\":\"z\",\"w\":30,\"ts2\":\"2024-01-01T00:00:31Z\"}\n",
    "{\"k2\":\"z\",\"w\":40,\"ts2\":\"2024-01-01T00:01:00Z\"}\n",
    "{\"k2\":\"z\",\"w\":50,\"ts2\":\"2024-01-01T00:01:01Z\"}\n",
];

fn input(folder: &Path, files: std::ops::Range<usize>) {
    for (name, rows) in [("in", EVENTS), ("in2", OTHERS)] {
        let folder = folder.join(name);
        std::fs::create_dir_all(&folder).expect("a folder");
        for number in files.clone() {
            let path = folder.join(format!("{number}.json"));
            std::fs::write(&path, rows[number]).expect("a written file");
            let modified = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000 + number as u64);
            std::fs::File::options()
                .write(true)
                .open(&path)
                .and_then(|file| file.set_modified(modified))
                .expect("a time");
        }
    }
}

async fn stream(
    session: &Session,
    name: &str,
    format: &str,
    columns: Option<&str>,
    options: &[(&str, &str)],
) -> Result<DataFrame, Error> {
    let definition = SourceDefinition {
        schema: columns.map(parse_ddl_schema).transpose()?,
        options: options.iter().map(|(name, value)| (*name, *value)).collect(),
    };
    session.create_table(&format!("{name}_table"), format, definition).await?;
    let frame = session.sql(format!("SELECT * FROM STREAM {name}_table").as_str()).await?;
    frame.create_or_replace_temp_view(name)?;
    Ok(frame)
}

/// Runs the job to its end; answers the rows of its batches.
async fn run(job: &Job, folder: &Path) -> Result<String, Error> {
    Ok(run_and_count(job, folder).await?.0)
}

/// As [`run`], with the number of rows in the state of each operator after each batch.
async fn run_and_count(job: &Job, folder: &Path) -> Result<(String, Vec<Vec<u64>>), Error> {
    let session = wavetank::session_builder(Environment::real(folder.to_owned())).build()?;
    for (key, value) in job.conf {
        session.set_conf(key, value)?;
    }
    let files = job.files_per_trigger.to_string();
    let events = stream(
        &session,
        "events",
        job.format,
        Some(job.columns),
        &[("path", job.path), ("maxFilesPerTrigger", &files)],
    )
    .await?;
    let others = [("path", "in2"), ("maxFilesPerTrigger", "1")];
    let others = stream(&session, "plain_others", "json", Some("k2 STRING, w INT, ts2 TIMESTAMP"), &others).await?;
    let ramp =
        |start: &'static str| [("rowsPerBatch", "2"), ("startTimestamp", start), ("advanceMillisPerBatch", "1000")];
    stream(&session, "ramp", "rate-micro-batch", None, &ramp("0")).await?;
    stream(&session, "late_ramp", "rate-micro-batch", None, &ramp("1000000")).await?;
    if job.columns.contains(" ts ") {
        let marked = events.with_watermark("ts", job.delay)?;
        marked.create_or_replace_temp_view("marked")?;
        marked.drop_duplicates(&["k", "ts"])?.create_or_replace_temp_view("once")?;
        events.drop_duplicates(&["k"])?.create_or_replace_temp_view("once_by_key")?;
    }
    others.with_watermark("ts2", job.delay)?.create_or_replace_temp_view("others")?;
    let mut frame = session.sql(job.sql).await?;
    if !job.drop_duplicates.is_empty() {
        frame = frame.drop_duplicates(job.drop_duplicates)?;
    }
    let batches = Arc::new(Mutex::new(BTreeMap::new()));
    let writer = frame
        .write_stream()
        .output_mode(job.mode)
        .trigger(job.trigger)
        .query_name(job.name)
        .option("checkpointLocation", job.checkpoint);
    let writer = match job.sink {
        "" => {
            let batches = Arc::clone(&batches);
            writer.sink(Arc::new(ForeachBatchProvider::blocking(move |batch: ForeachBatch| {
                let mut rows: Vec<_> = support::compare::rows_of(&batch.rows)
                    .into_iter()
                    .map(|row| serde_json::Value::Array(row).to_string())
                    .collect();
                rows.sort();
                batches.lock().expect("no panic here").insert(batch.batch_id, rows.join(" "));
                Ok::<(), Error>(())
            })))
        }
        "json" => writer.format("json").option("path", job.output),
        format => writer.format(format),
    };
    let query = writer.start().await?;
    query.await_termination().await?;
    let batches = batches.lock().expect("no panic here");
    let progress = query.recent_progress();
    let counts = progress.iter().map(|batch| batch.state_operators.iter().map(|state| state.num_rows_total).collect());
    let counts = counts.collect();
    Ok((batches.values().cloned().collect::<Vec<_>>().join(" | "), counts))
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a readable folder") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("a copied file");
        }
    }
}

/// What was kept before there was a watermark leaves when it has passed, as Spark 4.3.0 counts it (the same input, one
/// partition): the rows of state after each batch.
#[tokio::test]
async fn what_was_kept_before_there_was_a_watermark_leaves_the_state() {
    const PAIRS: &str = "ON k <> k2 AND length(k) = length(k2) AND v * 10 <> w AND ts >= ts2 - INTERVAL 5 SECONDS AND ts <= ts2 + INTERVAL 5 SECONDS";
    let keys = |sql| Job { sql, drop_duplicates: &["k", "ts"], ..JOB };
    let groups = |sql| Job { sql, ..COUNTS };
    let (plain, marked) = (
        format!("SELECT k, v, w FROM events JOIN plain_others {PAIRS}"),
        format!("SELECT k, v, w FROM marked JOIN others {PAIRS}"),
    );
    let pairs = |sql: String| Job { sql: sql.leak(), ..JOB };
    for (name, before, after, counts) in [
        (
            "update mode",
            groups("SELECT ts, count(*) AS n FROM events GROUP BY ts"),
            groups("SELECT ts, count(*) AS n FROM marked GROUP BY ts"),
            [4, 3, 1],
        ),
        ("deduplication", keys("SELECT k, v, ts FROM events"), keys("SELECT k, v, ts FROM marked"), [4, 3, 1]),
        ("join", pairs(plain), pairs(marked), [7, 6, 2]),
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        input(folder.path(), 0..2);
        run(&before, folder.path()).await.expect(name);
        input(folder.path(), 2..4);
        let (_, state_rows) = run_and_count(&after, folder.path()).await.expect(name);
        assert_eq!(state_rows, counts.map(|count| vec![count]), "{name}");
    }
}

#[tokio::test]
async fn the_number_of_partitions_is_the_checkpoints() -> wavetank::Result<()> {
    let folder = tempfile::tempdir().expect("a folder");
    input(folder.path(), 0..2);
    run(&Job { conf: &[("spark.sql.shuffle.partitions", "3")], ..COUNTS }, folder.path()).await?;
    input(folder.path(), 2..4);
    run(&Job { conf: &[("spark.sql.shuffle.partitions", "5")], ..COUNTS }, folder.path()).await?;
    let session = wavetank::session_builder(Environment::real(folder.path().to_owned())).build()?;
    let rows = session.read().format("state-metadata").load_path("checkpoint").await?.collect().await?;
    let rows = serde_json::to_string(&support::compare::rows_of(&rows)).expect("JSON");
    assert_eq!(rows, r#"[[0,"stateStoreSave","default",3,0,3,null]]"#);
    Ok(())
}

#[tokio::test]
async fn a_second_run_on_the_same_checkpoint_is_refused_while_the_first_one_lives() -> wavetank::Result<()> {
    let folder = tempfile::tempdir().expect("a folder");
    input(folder.path(), 0..2);
    let session = wavetank::session_builder(Environment::real(folder.path().to_owned())).build()?;
    let events = stream(&session, "events", "json", Some(JOB.columns), &[("path", "in")]).await?;
    let writer = events.write_stream().format("noop").option("checkpointLocation", "checkpoint");
    let first = writer.clone().start().await?;
    first.process_all_available().await?;
    let error = writer.start().await.expect_err("the checkpoint is taken");
    assert_eq!(error.class(), Some("CONCURRENT_QUERY"), "{error}");
    first.stop().await
}
