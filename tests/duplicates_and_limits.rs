//! Deduplication and LIMIT through the whole engine: what the conformance cases do not show.

use std::sync::{Arc, Mutex};

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use datafusion::datasource::MemTable;
use wavetank::engine::progress::StreamingQueryProgress;
use wavetank::engine::sql::parse_ddl_schema;
use wavetank::prelude::*;
use wavetank::sinks::{ForeachBatch, ForeachBatchProvider};
use wavetank::{Environment, Error};

const COLUMNS: &str = "ts TIMESTAMP, k STRING, d DOUBLE, v BIGINT";

/// A stream and a folder; queries run over them one after the other, on one checkpoint.
struct World {
    folder: tempfile::TempDir,
    stream: MemoryStream,
    mode: OutputMode,
    partitions: &'static str,
}

/// What a run showed: the last column of each batch that had rows, sorted, and the last report.
struct Run {
    batches: Vec<Vec<i64>>,
    report: Arc<StreamingQueryProgress>,
}

impl Run {
    fn state_rows(&self) -> Vec<u64> {
        self.report.state_operators.iter().map(|operator| operator.num_rows_total).collect()
    }
}

impl World {
    fn new(mode: OutputMode) -> Result<Self, Error> {
        let folder = tempfile::tempdir().expect("a folder");
        Ok(Self { folder, stream: MemoryStream::new(parse_ddl_schema(COLUMNS)?), mode, partitions: "3" })
    }

    /// A session in which the stream is the view `events`.
    async fn session(&self) -> Result<Session, Error> {
        let session = wavetank::session_builder(Environment::real(self.folder.path().to_owned())).build()?;
        session.set_conf("spark.sql.shuffle.partitions", self.partitions)?;
        let frame = session.stream_of("events", Arc::new(self.stream.clone()), Default::default()).await?;
        frame.create_or_replace_temp_view("events")?;
        Ok(session)
    }

    /// Hands in rows (a block each) and runs a new query over all that is unread, to the end.
    async fn run(
        &self,
        query: impl AsyncFn(&Session) -> Result<DataFrame, Error>,
        blocks: &[&str],
    ) -> Result<Run, Error> {
        for block in blocks {
            self.stream.add_json(block)?;
        }
        let session = self.session().await?;
        let seen = Arc::new(Mutex::new(vec![]));
        let answers = Arc::clone(&seen);
        let sink = ForeachBatchProvider::blocking(move |batch: ForeachBatch| {
            let columns = batch.rows.iter().map(|rows| rows.column(rows.num_columns() - 1));
            let mut values: Vec<_> = columns.flat_map(|v| v.as_primitive::<Int64Type>().values().to_vec()).collect();
            values.sort_unstable();
            if !values.is_empty() {
                answers.lock().expect("no panic here").push(values);
            }
            Ok::<(), Error>(())
        });
        let query = query(&session)
            .await?
            .write_stream()
            .sink(Arc::new(sink))
            .output_mode(self.mode)
            .trigger(Trigger::AvailableNow)
            .option("checkpointLocation", "checkpoint")
            .start()
            .await?;
        query.await_termination().await?;
        let batches = seen.lock().expect("no panic here").clone();
        Ok(Run { batches, report: query.last_progress().expect("a batch ran") })
    }
}

async fn sql(session: &Session, text: &str) -> Result<DataFrame, Error> {
    session.sql(text).await
}

#[tokio::test]
async fn a_limit_goes_on_counting_after_a_restart_also_when_it_changed() -> wavetank::Result<()> {
    let world = World::new(OutputMode::Append)?;
    let limit = |rows: usize| {
        move |session: &Session| {
            let session = session.clone();
            async move { sql(&session, &format!("SELECT v FROM events LIMIT {rows}")).await }
        }
    };
    let first = world.run(limit(4), &["{\"v\":1}\n{\"v\":2}\n{\"v\":3}\n"]).await?;
    assert_eq!((first.batches, first.report.state_operators[0].num_rows_updated), (vec![vec![1, 2, 3]], 1));
    assert_eq!(world.run(limit(4), &["{\"v\":4}\n{\"v\":5}\n"]).await?.batches, [[4]]);
    let exhausted = world.run(limit(4), &["{\"v\":6}\n"]).await?;
    assert_eq!((exhausted.batches.len(), exhausted.report.state_operators[0].num_rows_updated), (0, 0));
    assert_eq!(world.run(limit(2), &["{\"v\":7}\n"]).await?.batches.len(), 0);
    let larger = world.run(limit(6), &["{\"v\":8}\n{\"v\":9}\n{\"v\":10}\n"]).await?;
    assert_eq!((larger.batches, larger.report.state_operators[0].num_rows_total), (vec![vec![8, 9]], 1));
    Ok(())
}

#[tokio::test]
async fn limits_on_top_of_each_other_are_one_operator() -> wavetank::Result<()> {
    for (text, expected) in [
        ("SELECT v FROM (SELECT k, v FROM events LIMIT 2) LIMIT 3", vec![1, 2]),
        ("SELECT v + 1 AS v FROM (SELECT k, v FROM events LIMIT 3) AS t LIMIT 1", vec![2]),
    ] {
        let world = World::new(OutputMode::Append)?;
        let run = world.run(async |session| sql(session, text).await, &["{\"v\":1}\n{\"v\":2}\n{\"v\":3}\n"]).await?;
        assert_eq!((run.batches, run.report.state_operators.len()), (vec![expected], 1), "{text}");
    }
    Ok(())
}

#[tokio::test]
async fn floats_that_are_equal_are_one_key_and_go_to_one_partition() -> wavetank::Result<()> {
    let world = World { partitions: "7", ..World::new(OutputMode::Append)? };
    let block = "{\"d\":0.0,\"v\":1}\n{\"d\":-0.0,\"v\":2}\n{\"d\":1.5,\"v\":3}\n{\"v\":4}\n{\"v\":5}\n";
    let run = world.run(async |session| session.table("events").await?.drop_duplicates(&["d"]), &[block]).await?;
    assert_eq!((run.batches, run.report.state_operators[0].num_rows_total), (vec![vec![1, 3, 4]], 3));
    Ok(())
}

#[tokio::test]
async fn the_report_counts_duplicates_and_late_rows_apart() -> wavetank::Result<()> {
    let world = World::new(OutputMode::Update)?;
    let query = async |session: &Session| {
        session.table("events").await?.with_watermark("ts", "10 seconds")?.drop_duplicates(&["k", "ts"])
    };
    let second = |second: u32, k: &str, v: u32| {
        format!("{{\"ts\":\"2024-01-01T00:00:{second:02}Z\",\"k\":\"{k}\",\"v\":{v}}}\n")
    };
    let block = [second(40, "a", 1), second(40, "a", 2), second(40, "b", 3)].concat();
    let run = world.run(query, &[&block]).await?;
    let operator = &run.report.state_operators[0];
    assert_eq!((operator.operator_name, operator.num_rows_total), ("dedupe", 2));

    // 30 is at the watermark: late, though its key was never seen.
    let block = [second(30, "c", 4), second(31, "c", 5), second(40, "b", 6), second(40, "b", 7)].concat();
    let world_report = |run: &Run| {
        let operator = &run.report.state_operators[0];
        (operator.num_rows_dropped_by_watermark, operator.custom_metrics["numDroppedDuplicateRows"])
    };
    let run = world.run(query, &[&block]).await?;
    assert_eq!((run.batches.clone(), world_report(&run)), (vec![vec![5]], (1, 2)));
    Ok(())
}

#[tokio::test]
async fn a_duplicate_does_not_prolong_a_key_and_an_expired_key_is_new() -> wavetank::Result<()> {
    let world = World::new(OutputMode::Append)?;
    let query = async |session: &Session| {
        session.table("events").await?.with_watermark("ts", "10 seconds")?.drop_duplicates_within_watermark(&["k"])
    };
    let row = |second: u32, k: &str, v: u32| {
        format!("{{\"ts\":\"1970-01-01T00:00:{second:02}Z\",\"k\":\"{k}\",\"v\":{v}}}\n")
    };
    // spec/04 section 2: accepted at 10, expires at 20; a duplicate at 19; at watermark 20 the key leaves.
    let blocks = [[row(10, "a", 1)], [row(29, "x", 2)], [row(25, "a", 3)], [row(30, "y", 4)], [row(26, "a", 5)]];
    let mut passed = vec![];
    for block in &blocks {
        passed.extend(world.run(query, &[&block.concat()]).await?.batches);
    }
    assert_eq!(passed, [[1], [2], [4], [5]]);
    Ok(())
}

#[tokio::test]
async fn what_remembers_reads_all_of_its_input_whatever_is_above() -> wavetank::Result<()> {
    let block = "{\"ts\":\"2024-01-01T00:00:40Z\",\"k\":\"a\",\"v\":1}\n{\"ts\":\"2024-01-01T00:00:50Z\",\"k\":\"b\",\"v\":2}\n";
    let joined = |frame: fn(DataFrame) -> Result<DataFrame, Error>| {
        async move |session: &Session| {
            // A static side without any row: the answer is known before the stream is read.
            let nothing = MemTable::try_new(parse_ddl_schema("name STRING, label BIGINT")?, vec![vec![]])?;
            session.register_table("names", Arc::new(nothing))?;
            let events = session.table("events").await?.with_watermark("ts", "10 seconds")?;
            frame(events)?.create_or_replace_temp_view("kept")?;
            session.sql("SELECT k, label, v FROM names JOIN kept ON k = name").await
        }
    };
    for (frame, state_rows, watermark) in [
        ((|events| events.drop_duplicates(&["k"])) as fn(DataFrame) -> Result<DataFrame, Error>, vec![2], "41"),
        (|events| Ok(events), vec![], "40"),
    ] {
        let world = World::new(OutputMode::Append)?;
        world.run(joined(frame), &[block]).await?;
        let run = world.run(joined(frame), &["{\"ts\":\"2024-01-01T00:00:51Z\",\"k\":\"b\",\"v\":3}\n"]).await?;
        assert_eq!(run.state_rows(), state_rows);
        // A batch without data follows the one with 51 where something remembers.
        assert_eq!(run.report.event_time["watermark"], format!("2024-01-01T00:00:{watermark}.000Z"));
    }

    let world = World::new(OutputMode::Complete)?;
    let limited =
        async |session: &Session| sql(session, "SELECT k, count(*) AS n FROM events GROUP BY k LIMIT 1").await;
    let run =
        world.run(limited, &["{\"k\":\"a\"}\n{\"k\":\"b\"}\n{\"k\":\"c\"}\n{\"k\":\"d\"}\n{\"k\":\"e\"}\n"]).await?;
    assert_eq!((run.state_rows(), run.batches), (vec![5], vec![vec![1]]));
    Ok(())
}

#[tokio::test]
async fn static_frames_are_deduplicated_at_once() -> wavetank::Result<()> {
    let session = wavetank::session()?;
    let frame = session.sql("SELECT * FROM VALUES ('a', 1L), ('a', 2L), ('b', 1L), ('a', 1L) AS t(k, v)").await?;
    let count = async |frame: DataFrame| -> Result<usize, Error> {
        assert_eq!(frame.schema().fields().iter().map(|f| f.name().as_str()).collect::<Vec<_>>(), ["k", "v"]);
        Ok(frame.collect().await?.iter().map(|rows| rows.num_rows()).sum())
    };
    assert_eq!(count(frame.distinct()?).await?, 3);
    assert_eq!(count(frame.drop_duplicates(&[])?).await?, 3);
    assert_eq!(count(frame.drop_duplicates(&["K"])?).await?, 2);
    assert_eq!(count(frame.drop_duplicates(&["v", "v", "k"])?).await?, 3);
    let unknown = frame.drop_duplicates(&["kk"]).expect_err("there is no such column");
    assert_eq!(unknown.class(), Some("UNRESOLVED_COLUMN_AMONG_FIELD_NAMES"));
    let within = frame.drop_duplicates_within_watermark(&[]).expect_err("not a stream");
    assert!(within.to_string().contains("not supported with batch DataFrames"), "{within}");
    Ok(())
}

/// Rows of the table of `spec/05` section 2 that are about deduplication, DISTINCT and LIMIT: `A` and so on are its
/// error keys, in append, update and complete mode.
#[tokio::test]
async fn output_modes_are_as_in_the_table() -> wavetank::Result<()> {
    type Make = fn(DataFrame) -> Result<DataFrame, Error>;
    let grouped = |frame: DataFrame| -> Result<DataFrame, Error> {
        frame.group_by([frame.expr("window(ts, '5 seconds') AS w")?, frame.expr("k")?]).count()
    };
    type Change = Box<dyn Fn(DataFrame) -> Result<DataFrame, Error>>;
    let rows: Vec<(&str, Change, [&str; 3])> = vec![
        ("distinct()", Box::new((|e| e.distinct()) as Make), ["OK", "OK", "C"]),
        ("dropDuplicates", Box::new((|e| e.drop_duplicates(&["k"])) as Make), ["OK", "OK", "C"]),
        (
            "within",
            Box::new((|e| e.with_watermark("ts", "1 second")?.drop_duplicates_within_watermark(&["k"])) as Make),
            ["OK", "OK", "C"],
        ),
        (
            "within without watermark",
            Box::new((|e| e.drop_duplicates_within_watermark(&["k"])) as Make),
            ["W", "W", "C"],
        ),
        ("limit", Box::new((|e| e.limit(3)) as Make), ["OK", "L", "C"]),
        ("limit then dedup", Box::new((|e| e.limit(3)?.distinct()) as Make), ["OK", "L", "C"]),
        (
            "dedup(k, t) then window agg",
            Box::new(move |e| grouped(e.with_watermark("ts", "1 second")?.drop_duplicates(&["k", "ts"])?)),
            ["OK", "OK", "OK"],
        ),
        (
            "window agg then dedup(w)",
            Box::new(move |e| grouped(e.with_watermark("ts", "1 second")?)?.drop_duplicates(&["w"])),
            ["OK", "G", "G"],
        ),
        (
            "window agg then dedup(k)",
            Box::new(move |e| grouped(e.with_watermark("ts", "1 second")?)?.drop_duplicates(&["k"])),
            ["OK", "OK", "OK"],
        ),
        (
            "window agg then dedup within",
            Box::new(move |e| grouped(e.with_watermark("ts", "1 second")?)?.drop_duplicates_within_watermark(&["k"])),
            ["OK", "G", "G"],
        ),
        (
            "window agg then limit",
            Box::new(move |e| grouped(e.with_watermark("ts", "1 second")?)?.limit(1)),
            ["OK", "L", "OK"],
        ),
    ];
    for (name, make, expected) in &rows {
        for (mode, expected) in [OutputMode::Append, OutputMode::Update, OutputMode::Complete].into_iter().zip(expected)
        {
            let world = World::new(mode)?;
            let run =
                world.run(async |session| make(session.table("events").await?), &["{\"k\":\"a\",\"v\":1}\n"]).await;
            let text = match run {
                Ok(_) => "OK".to_owned(),
                Err(error) => error.to_string(),
            };
            let starts = match *expected {
                "C" => "no streaming aggregations",
                "W" => {
                    "dropDuplicatesWithinWatermark is not supported on streaming DataFrames/DataSets without watermark"
                }
                "L" => "Limits are not supported on streaming DataFrames/Datasets in Update output mode",
                "G" => "possible 'correctness' issue due to global watermark",
                other => other,
            };
            assert!(text.contains(starts), "{name} in {mode} mode: {text}");
        }
    }
    Ok(())
}
