//! The verbs of `StreamTest`, and what it says when a step does not hold.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;
use wavetank::prelude::*;
use wavetank::testing::{Job, NO_ROWS, NULL, Start, StateRows, StreamTest, rows};

fn counts() -> Job {
    Job::sql("SELECT k, count(*) AS n FROM STREAM events GROUP BY k")
        .source("events", "k STRING")
        .output_mode(OutputMode::Update)
}

fn windows() -> Job {
    Job::sql(
        "SELECT window.start AS start, count(*) AS n FROM STREAM events WATERMARK ts DELAY OF INTERVAL 10 SECONDS \
         GROUP BY window(ts, '5 seconds')",
    )
    .source("events", "ts TIMESTAMP")
}

#[test]
fn answers_are_all_new_or_last() {
    StreamTest::new(counts())
        .add_data("events", ["a", "a", "b"])
        .check_answer([("b", 1), ("a", 2)])
        .check_new_answer(NO_ROWS)
        .add_data("events", ["a"])
        .process_all_available()
        .add_data("events", ["c"])
        .check_last_batch([("c", 1)])
        .check_answer_contains([("a", 3)])
        .check_answer_by("four rows", |rows| rows.len() == 4)
        .check_last_batch_id(2)
        .check_state(StateRows::total([3]).updated([4]).removed([0]).dropped([0]))
        .add_data("events", rows![NULL])
        .check_new_answer(rows![(NULL, 1)])
        .check_state(StateRows::total([4]).updated([1]))
        .run();
}

#[test]
fn complete_mode_answers_with_its_last_batch() {
    let job = Job::sql("SELECT k, count(*) AS n FROM STREAM events GROUP BY k ORDER BY n DESC, k")
        .source("events", "k STRING");
    StreamTest::new(job.output_mode(OutputMode::Complete))
        .add_data("events", ["a", "a", "b"])
        .check_last_batch_sorted([("a", 2), ("b", 1)])
        .add_data("events", ["b", "b"])
        .check_answer([("a", 2), ("b", 3)])
        .check_last_batch_sorted([("b", 3), ("a", 2)])
        .run();
}

#[test]
fn stops_crashes_and_power_cuts_lose_nothing() {
    for interrupt in
        [|test: StreamTest| test.stop(), |test: StreamTest| test.crash(), |test: StreamTest| test.power_cut()]
    {
        let test = StreamTest::new(windows())
            .add_data("events", [10, 11, 12, 25])
            .check_new_answer([(10, 3)])
            .check_watermark("1970-01-01 00:00:15");
        interrupt(test)
            .start()
            .add_data("events", [14, 26])
            .check_new_answer(NO_ROWS)
            .check_state(StateRows::total([1]).dropped([1]))
            .add_data("events", [40])
            .check_answer([(10, 3), (25, 2)])
            .check_last_batch_id(5)
            .run();
    }
}

#[test]
fn rows_that_arrive_while_nothing_runs_are_there_at_the_start() {
    StreamTest::new(counts())
        .add_data("events", ["a"])
        .start()
        .check_new_answer([("a", 1)])
        .stop()
        .add_data("events", ["a"])
        .add_data("events", ["b"])
        .start_with(Start::new().trigger(Trigger::Once))
        .await_termination()
        .check_new_answer([("a", 2), ("b", 1)])
        .check_last_batch_id(1)
        .run();
}

#[test]
fn a_manual_clock_moves_only_when_told() {
    // `spec/09` G02: what arrives while the query waits for its tick is taken at the tick.
    let job = Job::sql("SELECT v FROM STREAM numbers").source("numbers", "v INT");
    StreamTest::new(job)
        .manual_clock()
        .starting_at("1970-01-01 00:00:01")
        .start_with(Start::new().trigger(Trigger::processing_time("1 second").unwrap()))
        .add_data("numbers", [1])
        .advance_clock(Duration::from_secs(1))
        .check_new_answer([1])
        .add_data("numbers", [2, 3])
        .advance_clock(Duration::from_millis(500))
        .check_new_answer(NO_ROWS)
        .assert_on_query("it waits", |query| query.is_active() && !query.status().is_trigger_active)
        .advance_clock(Duration::from_millis(500))
        .check_new_answer([2, 3])
        .stop()
        .run();
}

#[test]
fn the_grid_of_a_trigger_is_aligned_to_the_epoch_as_in_spark() {
    // `spec/09` G01.
    let job = Job::sql("SELECT v FROM STREAM numbers").source("numbers", "v STRING");
    let run = StreamTest::new(job)
        .manual_clock()
        .starting_at("1970-01-01 00:00:12.345")
        .add_data("numbers", ["x"])
        .start_with(Start::new().trigger(Trigger::processing_time("10 seconds").unwrap()))
        .check_new_answer(["x"])
        .add_data("numbers", ["y"])
        .advance_clock(Duration::from_millis(7_654))
        .check_new_answer(NO_ROWS)
        .advance_clock(Duration::from_millis(1))
        .check_new_answer(["y"])
        .add_data("numbers", ["z"])
        .advance_clock(Duration::from_secs(25))
        .check_new_answer(["z"])
        .add_data("numbers", ["w"])
        .advance_clock(Duration::from_secs(5))
        .check_new_answer(["w"])
        .run();
    assert_eq!(run.batches().len(), 4);
}

#[test]
fn failures_are_expected_by_class_or_by_text() {
    let unmarked = Job::sql("SELECT k, count(*) AS n FROM STREAM events GROUP BY k").source("events", "k STRING");
    StreamTest::new(unmarked)
        .start()
        .expect_failure("STREAMING_OUTPUT_MODE.UNSUPPORTED_OPERATION")
        .start_with(Start::new().job(counts()))
        .add_data("events", ["a"])
        .check_new_answer([("a", 1)])
        .run();
    let raising = Job::sql("SELECT CAST(v AS INT) AS v FROM STREAM numbers").source("numbers", "v STRING");
    StreamTest::new(raising)
        .add_data("numbers", ["1"])
        .check_new_answer([1])
        .add_data("numbers", ["x"])
        .expect_failure("CAST_INVALID_INPUT")
        .run();
}

#[test]
fn another_version_of_the_job_goes_on_from_the_same_checkpoint() {
    // `spec/09` K14 and K03: renaming a key is fine, another aggregate is not.
    let renamed = Job::sql("SELECT kk, count(*) AS n FROM (SELECT k AS kk FROM STREAM events) GROUP BY kk");
    let summed = Job::sql("SELECT k, count(*) AS n, sum(length(k)) AS s FROM STREAM events GROUP BY k");
    let update = |job: Job| job.source("events", "k STRING").output_mode(OutputMode::Update);
    StreamTest::new(counts())
        .add_data("events", ["a", "a"])
        .check_new_answer([("a", 2)])
        .stop()
        .start_with(Start::new().job(update(renamed)))
        .add_data("events", ["a"])
        .check_new_answer([("a", 3)])
        .stop()
        .start_with(Start::new().job(update(summed)))
        .expect_failure("STATE_STORE_VALUE_SCHEMA_NOT_COMPATIBLE")
        .run();
}

#[test]
fn a_script_is_tested_as_it_stands() {
    let script = "
        CREATE TABLE quakes (time TIMESTAMP, mag DOUBLE, net STRING) USING json OPTIONS (path 'in', nonsense 'x');
        CREATE TABLE nets (net STRING, name STRING) USING csv OPTIONS (path 'nets.csv');
        CREATE VIEW strong AS SELECT * FROM STREAM quakes WHERE mag >= 4;
        CREATE STREAMING TABLE named USING parquet OPTIONS (path 'out') AS
          SELECT strong.net, nets.name, mag FROM strong JOIN nets ON strong.net = nets.net;
        CREATE STREAMING TABLE counted USING console OPTIONS (outputMode 'complete', trigger 'availableNow') AS
          SELECT count(*) AS n FROM strong;";
    let job = Job::script(script).file("nets.csv", "us,United States\nci,California\n");
    StreamTest::new(job.clone().streaming_table("named"))
        .add_data("quakes", rows![json!({"mag": 4.5, "net": "us"}), json!({"mag": 3, "net": "ci"})])
        .check_answer([("us", "United States", 4.5)])
        .run();
    StreamTest::new(job.clone().streaming_table("counted"))
        .add_data("quakes", rows![("2024-01-01", 4.5, "us")])
        .check_answer([1])
        .run();
    let report = StreamTest::new(job).check_answer(NO_ROWS).try_run().unwrap_err();
    assert!(report.contains("Say which one is under test with streaming_table(name)"), "{report}");
}

#[test]
fn static_tables_and_user_functions_are_the_tests_own() {
    use wavetank::testing::Row;
    let job = Job::frame(async |session: Session| {
        session.sql("SELECT e.k, t.v FROM STREAM events e JOIN t ON e.k = t.k").await
    })
    .source("events", "k STRING")
    .table("t", "k STRING, v INT", [("a", 1), ("b", 2)])
    .set_up(|session| session.set_conf("spark.sql.shuffle.partitions", "1"));
    StreamTest::new(job).add_data("events", ["b", "c"]).check_answer([Row::from(("b", 2))]).run();
}

#[test]
fn inside_of_a_runtime_it_runs_too() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        StreamTest::new(counts()).add_data("events", ["a"]).check_answer([("a", 1)]).run();
    });
}

#[test]
fn things_happen_outside_of_the_query_in_their_order() {
    let happened = Arc::new(AtomicBool::new(false));
    let (set, seen) = (Arc::clone(&happened), Arc::clone(&happened));
    let job = Job::frame(async |session: Session| session.read_stream().format("text").load_path("in").await);
    StreamTest::new(job.file("in/a.txt", "1\n"))
        .check_new_answer(["1"])
        .execute("a flag is set", move || set.store(true, Ordering::Relaxed))
        .add_file("in/b.txt", "2\n3\n")
        .check_new_answer(["2", "3"])
        .assert_on_query("the flag is set", move |_| seen.load(Ordering::Relaxed))
        .run();
}

#[test]
fn a_report_says_what_was_expected_where_and_what_was_got() {
    let report = StreamTest::new(windows())
        .add_data("events", [10, 11])
        .check_new_answer(NO_ROWS)
        .add_data("events", [25])
        .check_new_answer([(10, 3), (15, 1)])
        .stop()
        .try_run()
        .unwrap_err();
    let shown = report.split("\nPLAN\n").next().unwrap();
    assert_eq!(
        shown,
        "\
step 5 of 6 does not hold: check_new_answer: 2 rows
  expected:
    [1970-01-01 00:00:10, 3]
    [1970-01-01 00:00:15, 1]
  got:
    [1970-01-01 00:00:10, 2]
  missing:
    [1970-01-01 00:00:10, 3]
    [1970-01-01 00:00:15, 1]
  not expected:
    [1970-01-01 00:00:10, 2]

STEPS
      1  start
      2  add 2 rows to events
      3  check_new_answer: no rows
      4  add 1 row to events
 =>   5  check_new_answer: 2 rows
      6  stop

BATCHES
  batch 0: 2 rows in, watermark 1970-01-01 00:00:00
    no rows
    state rows 1 (1 updated)
  batch 1: no rows in, watermark 1970-01-01 00:00:01
    no rows
    state rows 1
  batch 2: 1 row in, watermark 1970-01-01 00:00:01
    no rows
    state rows 2 (1 updated)
  batch 3: no rows in, watermark 1970-01-01 00:00:15
    | start               | n |
    | 1970-01-01 00:00:10 | 2 |
    state rows 1 (1 removed)

QUERY
  Waiting for data to arrive
"
    );
    assert!(report.contains("SourceScan"), "the plan is there: {report}");
}

#[test]
fn mistakes_of_a_test_are_said_plainly() {
    let add = |source: &str, row: serde_json::Value| StreamTest::new(windows()).add_data(source, [row]);
    for (test, said) in [
        (add("event", json!(1)), "there is no source event; there are: events"),
        (add("events", json!("soon")), "source events: column ts (Timestamp(µs, \"UTC\")): \"soon\" is not a time"),
        (add("events", json!([1, 2])), "[1,2] has 2 cells, but there are 1 columns: ts"),
        (StreamTest::new(windows()).check_answer([1]), "the expected rows do not fit the answer: [1] has 1 cells"),
        (StreamTest::new(windows()).start().start(), "the query is running; stop() it first"),
        (StreamTest::new(windows()).stop().check_answer(NO_ROWS), "batch"),
        (StreamTest::new(windows()).check_state(StateRows::total([1])), "no batch has run yet"),
        (
            StreamTest::new(counts()).add_data("events", ["a"]).check_watermark("2024-01-01"),
            "the query has no watermark",
        ),
        (StreamTest::new(counts()).expect_failure("X"), "expected a failure with X; none came"),
        (StreamTest::new("SELECT * FROM nothing").check_answer(NO_ROWS), "did not start: [TABLE_OR_VIEW_NOT_FOUND]"),
        (StreamTest::new(counts()).check_answer_by("never", |_| false), "not so: never"),
        (StreamTest::new(counts()).assert_on_query("never", |_| false), "not so: never"),
    ] {
        match test.try_run() {
            Err(report) => assert!(report.contains(said), "{said}\n{report}"),
            Ok(transcript) => assert_eq!(said, "batch", "{transcript}"),
        }
    }
}
