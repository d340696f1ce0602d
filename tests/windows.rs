//! Windows over streams: sessions step by step as Spark measured them, and random rows against the static engine.
//!
//! The same SQL over the same rows has the same answer whether they come as one static table or batch by batch in
//! complete mode. The static engine gives rows to windows one by one and knows no state: the slow and obvious way.

use std::sync::{Arc, Mutex};

use rand::{Rng, SeedableRng};
use wavetank::engine::progress::StreamingQueryProgress;
use wavetank::engine::sql::parse_ddl_schema;
use wavetank::prelude::*;
use wavetank::sinks::{ForeachBatch, ForeachBatchProvider};
use wavetank::{Environment, Error};

const SCHEMA: &str = "ts TIMESTAMP, k STRING, v BIGINT, gap STRING";

/// A row at a second after 1970, as JSON.
fn row(second: f64, key: Option<&str>, value: i64, gap: &str) -> String {
    let ts = chrono::DateTime::from_timestamp_micros((second * 1e6) as i64).unwrap().to_rfc3339();
    let key = key.map_or("null".to_owned(), |key| format!("\"{key}\""));
    format!("{{\"ts\":\"{ts}\",\"k\":{key},\"v\":{value},\"gap\":\"{gap}\"}}\n")
}

/// A session with a memory stream, and what each batch gave.
struct World {
    _folder: tempfile::TempDir,
    session: Session,
    stream: MemoryStream,
    answers: Arc<Mutex<Vec<ForeachBatch>>>,
}

impl World {
    async fn new(state_partitions: usize) -> Result<Self, Error> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let session = wavetank::session_builder(Environment::real(folder.path().to_owned())).parallelism(2).build()?;
        session.set_conf("spark.sql.shuffle.partitions", &state_partitions.to_string())?;
        let stream = MemoryStream::new(parse_ddl_schema(SCHEMA)?);
        let frame = session.stream_of("events", Arc::new(stream.clone()), Default::default()).await?;
        frame.create_or_replace_temp_view("events")?;
        Ok(Self { _folder: folder, session, stream, answers: Arc::default() })
    }

    async fn watermark(&self, delay: &str) -> Result<(), Error> {
        let marked = self.session.table("events").await?.with_watermark("ts", delay)?;
        marked.create_or_replace_temp_view("events")
    }

    async fn start(&self, sql: &str, mode: OutputMode) -> Result<StreamingQuery, Error> {
        let answers = Arc::clone(&self.answers);
        let sink = ForeachBatchProvider::new(move |batch: ForeachBatch| {
            answers.lock().expect("no panic").push(batch);
            async { Ok::<(), Error>(()) }
        });
        let query = self.session.sql(sql).await?.write_stream().sink(Arc::new(sink)).output_mode(mode);
        query.start().await
    }

    /// The rows of a batch as sorted lines of text.
    fn lines(&self, batch: usize) -> Vec<String> {
        let rows = self.answers.lock().expect("no panic")[batch].rows.clone();
        lines(&rows)
    }
}

/// Each row as its values, separated by spaces; windows as `[start,end)` in seconds; in order of the text.
fn lines(batches: &[arrow::array::RecordBatch]) -> Vec<String> {
    use arrow::array::{Array, AsArray};
    use arrow::datatypes::TimestampMicrosecondType;
    let mut lines = vec![];
    for batch in batches {
        for row in 0..batch.num_rows() {
            let value = |column: &arrow::array::ArrayRef| match column.as_struct_opt() {
                Some(window) if column.is_valid(row) => {
                    let second = |at: usize| {
                        window.column(at).as_primitive::<TimestampMicrosecondType>().value(row) as f64 / 1e6
                    };
                    format!("[{},{})", second(0), second(1))
                }
                _ if column.is_null(row) => "null".to_owned(),
                _ => arrow::util::display::array_value_to_string(column, row).expect("printable"),
            };
            lines.push(batch.columns().iter().map(value).collect::<Vec<_>>().join(" "));
        }
    }
    lines.sort();
    lines
}

/// What is expected of one executed batch.
struct Step {
    /// Rows of the batch: (second, key, gap); none for a batch without data.
    rows: &'static [(f64, &'static str, &'static str)],
    /// The watermark in force, in seconds.
    watermark: i64,
    /// Emitted rows: window, key, count.
    out: &'static [&'static str],
    /// numRowsTotal, numRowsUpdated, numRowsRemoved, numRowsDroppedByWatermark.
    state: [u64; 4],
}

/// Runs steps; consecutive steps without rows follow the one with rows by themselves.
async fn check(sql: &str, mode: OutputMode, delay: Option<&str>, steps: &[Step]) -> Result<(), Error> {
    let world = World::new(1).await?;
    if let Some(delay) = delay {
        world.watermark(delay).await?;
    }
    let query = world.start(sql, mode).await?;
    for step in steps.iter().filter(|step| !step.rows.is_empty()) {
        let json: String = step.rows.iter().map(|(second, key, gap)| row(*second, Some(key), 1, gap)).collect();
        world.stream.add_json(json.as_str())?;
        query.process_all_available().await?;
    }
    query.stop().await?;
    let executed: Vec<Arc<StreamingQueryProgress>> = {
        let mut reports = query.recent_progress();
        reports.dedup_by_key(|report| report.batch_id);
        reports.retain(|report| (report.batch_id as usize) < world.answers.lock().unwrap().len());
        reports
    };
    assert_eq!(executed.len(), steps.len(), "number of executed batches");
    for (batch, (step, report)) in steps.iter().zip(&executed).enumerate() {
        let mut expected: Vec<_> = step.out.iter().map(|line| (*line).to_owned()).collect();
        expected.sort();
        assert_eq!(world.lines(batch), expected, "rows of batch {batch}");
        let operator = &report.state_operators[0];
        assert_eq!(operator.operator_name, "sessionWindowStateStoreSaveExec");
        let state = [
            operator.num_rows_total,
            operator.num_rows_updated,
            operator.num_rows_removed,
            operator.num_rows_dropped_by_watermark,
        ];
        assert_eq!(state, step.state, "total, updated, removed, dropped of batch {batch}");
        if delay.is_some() {
            let watermark = chrono::DateTime::from_timestamp(step.watermark, 0).unwrap();
            let expected = watermark.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string();
            assert_eq!(report.event_time["watermark"], expected, "watermark of batch {batch}");
        }
    }
    Ok(())
}

const BY_KEY: &str = "SELECT session_window(ts, '10 seconds') AS w, k, count(*) AS n FROM events \
                      GROUP BY session_window(ts, '10 seconds'), k";

macro_rules! step {
    ($rows:expr, $watermark:expr, $out:expr, $state:expr) => {
        Step { rows: &$rows, watermark: $watermark, out: &$out, state: $state }
    };
}

#[tokio::test]
async fn sessions_in_append_mode_as_spark_measured_them() -> Result<(), Error> {
    let steps = [
        step!([(40.0, "a", ""), (41.0, "b", ""), (45.0, "a", "")], 0, [], [2, 2, 0, 0]),
        step!([], 15, [], [2, 0, 0, 0]),
        step!([(60.0, "a", ""), (90.0, "b", "")], 15, [], [4, 4, 0, 0]),
        step!([], 60, ["[40,55) a 2", "[41,51) b 1"], [2, 0, 2, 0]),
        step!([(50.0, "a", "")], 60, [], [2, 0, 0, 1]),
        step!([(110.0, "c", "")], 60, [], [3, 1, 0, 0]),
        step!([], 80, ["[60,70) a 1"], [2, 0, 1, 0]),
        step!([(80.0, "a", ""), (81.0, "a", "")], 80, [], [3, 1, 0, 0]),
        step!([(200.0, "c", "")], 80, [], [4, 2, 0, 0]),
        step!([], 170, ["[110,120) c 1", "[80,91) a 2", "[90,100) b 1"], [1, 0, 3, 0]),
    ];
    check(BY_KEY, OutputMode::Append, Some("30 seconds"), &steps).await
}

#[tokio::test]
async fn a_session_is_extended_backwards() -> Result<(), Error> {
    let sql = BY_KEY.replace("10 seconds", "5 seconds");
    let steps = [
        step!([(100.0, "a", "")], 0, [], [1, 1, 0, 0]),
        step!([], 100, [], [1, 0, 0, 0]),
        step!([(95.0, "a", "")], 100, [], [1, 0, 0, 1]),
        step!([(96.0, "a", "")], 100, [], [1, 1, 1, 0]),
        step!([(120.0, "b", "")], 100, [], [2, 1, 0, 0]),
        step!([], 120, ["[96,105) a 2"], [1, 0, 1, 0]),
    ];
    check(&sql, OutputMode::Append, Some("0 seconds"), &steps).await
}

#[tokio::test]
async fn a_row_bridges_two_sessions_in_complete_mode() -> Result<(), Error> {
    let steps = [
        step!([(40.0, "a", ""), (45.0, "a", "")], 0, ["[40,55) a 2"], [1, 1, 0, 0]),
        step!([(60.0, "a", "")], 0, ["[40,55) a 2", "[60,70) a 1"], [2, 2, 0, 0]),
        step!([(52.0, "a", "")], 0, ["[40,70) a 4"], [1, 1, 1, 0]),
    ];
    check(BY_KEY, OutputMode::Complete, None, &steps).await
}

/// Unlike other aggregations. What is open stays open.
#[tokio::test]
async fn late_rows_are_dropped_in_complete_mode_too() -> Result<(), Error> {
    let steps = [
        step!([(40.0, "a", "")], 0, ["[40,50) a 1"], [1, 1, 0, 0]),
        step!([(90.0, "b", "")], 40, ["[40,50) a 1", "[90,100) b 1"], [2, 1, 0, 0]),
        step!([(30.0, "a", ""), (29.9, "a", "")], 90, ["[40,50) a 1", "[90,100) b 1"], [2, 0, 0, 2]),
    ];
    // Late is what the watermark of the batch before says: 40.
    check(BY_KEY, OutputMode::Complete, Some("0 seconds"), &steps).await
}

#[tokio::test]
async fn each_row_may_have_a_gap_of_its_own() -> Result<(), Error> {
    let sql = "SELECT session_window(ts, gap) AS w, k, count(*) AS n FROM events GROUP BY session_window(ts, gap), k";
    let steps = [
        step!(
            [
                (40.0, "a", "5 seconds"),
                (40.0, "b", "20 seconds"),
                (40.0, "z", "0 seconds"),
                (40.0, "n", "-1 seconds"),
                (40.0, "x", "soon")
            ],
            0,
            ["[40,45) a 1", "[40,60) b 1"],
            [2, 2, 0, 0]
        ),
        // A short gap does not shorten a session.
        step!([(41.0, "b", "1 second")], 0, ["[40,45) a 1", "[40,60) b 2"], [2, 1, 0, 0]),
    ];
    check(sql, OutputMode::Complete, None, &steps).await
}

/// Rows of one seed, dealt to batches.
fn random_batches(seed: u64) -> Vec<String> {
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    let gaps = ["1 second", "3 seconds", "0 seconds", "12 seconds"];
    let batch = |random: &mut rand_chacha::ChaCha8Rng| {
        (0..random.random_range(0..30))
            .map(|_| {
                let key = [None, Some("a"), Some("b"), Some("c")][random.random_range(0..4)];
                let second = f64::from(random.random_range(-200_i32..600)) / 4.0;
                row(second, key, random.random_range(-5..5), gaps[random.random_range(0..4)])
            })
            .collect::<String>()
    };
    (0..random.random_range(1..6)).map(|_| batch(&mut random)).collect()
}

/// Streams the batches in complete mode, several state partitions, and compares with the static answer.
async fn agrees_with_static(sql: &str, seed: u64) -> Result<String, Error> {
    let world = World::new(3).await?;
    let batches = random_batches(seed);
    let query = world.start(sql, OutputMode::Complete).await?;
    for batch in batches.iter().filter(|batch| !batch.is_empty()) {
        world.stream.add_json(batch)?;
        query.process_all_available().await?;
    }
    query.stop().await?;
    let path = world._folder.path().join("rows.json");
    std::fs::write(&path, batches.concat()).expect("a written file");
    let rows = world.session.read().format("json").schema_ddl(SCHEMA)?.load_path("rows.json").await?;
    rows.create_or_replace_temp_view("rows")?;
    let expected = lines(&world.session.sql(sql.replace("FROM events", "FROM rows").as_str()).await?.collect().await?);
    let executed = world.answers.lock().unwrap().len();
    let got = if executed == 0 { vec![] } else { world.lines(executed - 1) };
    assert_eq!(got, expected, "seed {seed}: {sql}");
    Ok(query.explain().to_owned())
}

#[tokio::test]
async fn streamed_windows_are_static_windows() -> Result<(), Error> {
    let aggregates = "count(*), sum(v), min(v), max(v), avg(v), count(CASE WHEN v > 0 THEN v END)";
    let cases = [
        ("window(ts, '10 seconds')", true),
        ("window(ts, '10 seconds', '5 seconds')", true),
        ("window(ts, '10 seconds', '3 seconds', '1 second')", true),
        ("window(ts, '1500 milliseconds', '700 milliseconds', '-300 milliseconds')", true),
        ("session_window(ts, '4 seconds')", false),
        ("session_window(ts, gap)", false),
    ];
    for (window, has_panes) in cases {
        for seed in 0..6 {
            let sql = format!("SELECT {window} AS w, k, {aggregates} FROM events GROUP BY {window}, k");
            let plan = agrees_with_static(&sql, seed).await?;
            assert_eq!(plan.contains("PaneWindowsExec"), has_panes, "{plan}");
            let by_expression = format!(
                "SELECT coalesce(k, '-') AS kk, {window} AS w, count(*) FROM events GROUP BY coalesce(k, '-'), {window}"
            );
            agrees_with_static(&by_expression, seed).await?;
        }
    }
    Ok(())
}

/// What else looks at the window, or depends on the order of rows, keeps rows from being aggregated by pane.
#[tokio::test]
async fn panes_are_left_alone_where_they_would_show() -> Result<(), Error> {
    for (select, group, has_panes) in [
        ("count(*)", "w", true),
        ("last(v)", "w", false),
        ("count(*)", "w, w.start", false),
        ("max(w.end)", "w", false),
    ] {
        for (window, slides) in [("window(ts, '10 seconds', '5 seconds')", true), ("window(ts, '10 seconds')", false)] {
            let sql = format!("SELECT w, {select} FROM (SELECT {window} AS w, v FROM events) GROUP BY {group}");
            let world = World::new(1).await?;
            let query = world.start(sql.as_str(), OutputMode::Complete).await?;
            let expected = has_panes || (!slides && select == "last(v)");
            assert_eq!(query.explain().contains("PaneWindowsExec"), expected, "{sql}\n{}", query.explain());
            query.stop().await?;
        }
    }
    Ok(())
}

/// As in Spark: a condition on the session is tested on each row's own, before merging.
#[tokio::test]
async fn static_sessions_need_no_other_key_and_take_distinct() -> Result<(), Error> {
    let world = World::new(1).await?;
    let rows: String = [1.0, 2.0, 2.0, 9.0, 30.0].iter().map(|t| row(*t, None, *t as i64, "")).collect();
    std::fs::write(world._folder.path().join("rows.json"), rows).expect("a written file");
    let table = world.session.read().format("json").schema_ddl(SCHEMA)?.load_path("rows.json").await?;
    table.create_or_replace_temp_view("rows")?;
    let sql = "SELECT session_window(ts, '7 seconds') AS w, count(DISTINCT v), count(*) FROM rows \
               GROUP BY session_window(ts, '7 seconds')";
    assert_eq!(lines(&world.session.sql(sql).await?.collect().await?), ["[1,16) 3 4", "[30,37) 1 1"]);
    let distinct = "SELECT DISTINCT session_window(ts, '7 seconds') AS w FROM rows";
    assert_eq!(lines(&world.session.sql(distinct).await?.collect().await?), ["[1,16)", "[30,37)"]);
    let empty = format!("{sql} HAVING count(*) > 100");
    assert!(lines(&world.session.sql(empty.as_str()).await?.collect().await?).is_empty());
    Ok(())
}
