//! `simulate`: what a correct job survives, and what is said of one that is not.

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use proptest::prelude::Strategy;
use serde_json::json;
use wavetank::prelude::*;
use wavetank::testing::{Job, simulate};

fn counts() -> Job {
    Job::sql("SELECT k, count(*) AS n FROM STREAM events GROUP BY k")
        .source("events", "k STRING, v INT")
        .output_mode(OutputMode::Update)
}

fn windows() -> Job {
    Job::sql(
        "SELECT window.start AS start, count(*) AS n FROM STREAM events WATERMARK ts DELAY OF INTERVAL 10 MINUTES \
         GROUP BY window(ts, '1 hour')",
    )
    .source("events", "ts TIMESTAMP NOT NULL")
}

#[test]
fn a_correct_job_survives_every_seed() {
    let report = simulate(counts())
        .runs(12)
        .check("every row is counted once", |run| {
            let counted: i64 = run.latest_by(&["k"]).iter().map(|row| row["n"].as_i64().unwrap()).sum();
            assert_eq!(counted as usize, run.input("events").len());
        })
        .run();
    assert_eq!((report.seeds, report.runs), (12, 24));
    assert!(report.crashes > 3 && report.rows_in > 50 && report.rows_out > 20, "{report}");
}

#[test]
fn windows_come_out_once_whatever_happens() {
    let report = simulate(windows())
        .runs(12)
        .check("a window comes out once, with rows", |run| {
            let starts: Vec<_> = run.rows().iter().map(|row| row["start"].clone().to_string()).collect();
            assert_eq!(starts.iter().collect::<BTreeSet<_>>().len(), starts.len(), "{starts:?}");
            assert!(run.rows().iter().all(|row| row["n"].as_i64().unwrap() > 0));
        })
        .run();
    assert!(report.rows_out > 5 && report.crashes > 3, "{report}");
}

#[test]
fn joins_scripts_and_files_are_simulated_too() {
    let joined = Job::sql(
        "SELECT l.k, l.ts AS lt, r.ts AS rt FROM STREAM l WATERMARK ts DELAY OF INTERVAL 1 MINUTE LEFT JOIN STREAM r \
         WATERMARK ts DELAY OF INTERVAL 1 MINUTE ON l.k = r.k AND l.ts BETWEEN r.ts - INTERVAL 1 MINUTE AND r.ts",
    );
    simulate(joined.source("l", "k STRING, ts TIMESTAMP").source("r", "k STRING, ts TIMESTAMP")).runs(6).run();
    let script = "
        CREATE TABLE quakes (time TIMESTAMP, mag DOUBLE, net STRING) USING kafka OPTIONS (subscribe 'q');
        CREATE TABLE nets (net STRING, name STRING) USING csv OPTIONS (path 'nets.csv');
        CREATE STREAMING TABLE named USING parquet OPTIONS (path 'out') AS
          SELECT q.net, name, mag FROM STREAM quakes AS q JOIN nets ON q.net = nets.net WHERE q.net IN ('us', 'ci');";
    let report = simulate(Job::script(script).file("nets.csv", "us,United States\nci,California\n")).runs(6).run();
    assert!(report.rows_out > 5, "{report}");
}

#[test]
fn the_rows_may_be_the_tests_own() {
    let seen = Arc::new(Mutex::new(BTreeSet::new()));
    let all = Arc::clone(&seen);
    simulate(counts())
        .runs(4)
        .rows_of("events", (0..10).map(|v| ("fixed", v)))
        .check("all ten rows arrive, in their order", move |run| {
            let values: Vec<_> = run.input("events").iter().map(|row| row["v"].as_i64().unwrap()).collect();
            assert_eq!(values, (0..10).collect::<Vec<_>>());
            assert_eq!(run.latest_by(&["k"]), [json!({"k": "fixed", "n": 10})]);
            all.lock().unwrap().insert(run.batches().len());
        })
        .run();
    assert!(seen.lock().unwrap().len() > 1, "the seed cuts the blocks");
    simulate(counts())
        .runs(4)
        .rows_from("events", ("[xy]", 5..7_i32).prop_map(|(k, v)| json!({"k": k, "v": v})))
        .check("rows are of the strategy", |run| {
            for row in run.input("events") {
                assert!(
                    ["x", "y"].contains(&row["k"].as_str().unwrap()) && (5..7).contains(&row["v"].as_i64().unwrap())
                );
            }
        })
        .run();
}

/// A job with a bug that only a crash shows: it numbers rows from the memory of the process.
fn forgetful() -> Job {
    use datafusion::arrow::array::{ArrayRef, AsArray, Int64Array};
    use datafusion::arrow::datatypes::{DataType, Int32Type};
    use datafusion::logical_expr::{ColumnarValue, Volatility, create_udf};
    Job::sql("SELECT v, number(v) AS no FROM STREAM events").source("events", "v INT NOT NULL").set_up(|session| {
        let last = Arc::new(AtomicU64::new(0));
        let number = move |arguments: &[ColumnarValue]| {
            let values = ColumnarValue::values_to_arrays(arguments)?;
            let numbers =
                values[0].as_primitive::<Int32Type>().iter().map(|_| last.fetch_add(1, Ordering::Relaxed) as i64);
            Ok(ColumnarValue::Array(Arc::new(numbers.collect::<Int64Array>()) as ArrayRef))
        };
        let udf = create_udf("number", vec![DataType::Int32], DataType::Int64, Volatility::Volatile, Arc::new(number));
        session.datafusion().register_udf(udf);
        Ok(())
    })
}

#[test]
fn a_job_that_keeps_something_in_memory_is_found_and_shrunk() {
    let page = simulate(forgetful()).try_run().unwrap_err();
    let replay = "replay: WAVETANK_SEED=";
    let name = "cargo test testing::simulate::a_job_that_keeps_something_in_memory_is_found_and_shrunk\n";
    assert!(page.starts_with("✗ ") && page.contains(replay) && page.contains(name), "{page}");
    let faults = page.lines().filter(|line| line.trim_start().starts_with("fault ")).count();
    let rows = page.lines().filter(|line| line.trim_start().starts_with("{\"v\"")).count();
    assert!(faults <= 1 && (1..=3).contains(&rows), "{faults} faults, {rows} rows\n{page}");
}

#[test]
fn columns_that_cannot_be_compared_are_left_out_when_asked() {
    let job = Job::sql("SELECT v, current_timestamp() AS seen FROM STREAM events").source("events", "v INT");
    let compared = simulate(job.clone()).runs(40).try_run();
    assert!(compared.is_err(), "a time in the output differs after some crash");
    simulate(job.clone()).ignoring(&["seen"]).runs(8).run();
    simulate(job).without_comparison().runs(8).run();
}

#[test]
fn a_check_that_does_not_hold_is_shrunk_to_the_row_that_matters() {
    let page = simulate(counts())
        .check("no key is b", |run| assert!(run.rows().iter().all(|row| row["k"] != "b"), "there is a b"))
        .try_run()
        .unwrap_err();
    assert!(page.starts_with("✗ Assertion: no key is b: there is a b"), "{page}");
    let rows: Vec<_> = page.lines().filter(|line| line.trim_start().starts_with("{\"k\"")).collect();
    assert_eq!(rows.len(), 1, "{page}");
    assert!(!page.contains("fault "), "{page}");
}

#[test]
fn mistakes_of_a_simulation_are_said_plainly() {
    for (simulation, said) in [
        (simulate(counts()).rows_of("event", [1]), "there is no source event; there are: events"),
        (simulate(counts()).rows_of("events", [1]), "source events: [1] has 1 cells, but there are 2 columns: k, v"),
        (simulate("SELECT 1"), "the job has no source"),
        (simulate(Job::sql("SELECT x FROM STREAM events").source("events", "k STRING")), "[UNRESOLVED_COLUMN"),
    ] {
        let error = simulation.runs(3).try_run().unwrap_err();
        assert!(error.contains(said), "{said}\n{error}");
    }
}

/// Run as it is by `cargo test`, and by the next test in a process of its own.
#[test]
fn told_seeds() {
    let seeds = Arc::new(Mutex::new(BTreeSet::new()));
    let seen = Arc::clone(&seeds);
    simulate(counts())
        .runs(2)
        .check("the seed is told", move |run| {
            seen.lock().unwrap().insert(run.seed());
        })
        .run();
    println!("the seeds were {:?}", seeds.lock().unwrap());
}

#[test]
fn the_environment_chooses_seeds_and_threads() {
    let told = |variables: &[(&str, &str)]| {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "testing::simulate::told_seeds", "--nocapture"]).envs(variables.iter().copied());
        let output = command.output().unwrap();
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    };
    for (variables, said) in [
        (&[][..], "the seeds were {0, 1}"),
        (&[("WAVETANK_SEED", "17")][..], "the seeds were {17}"),
        (&[("WAVETANK_RUNS", "5"), ("WAVETANK_JOBS", "3")][..], "the seeds were {0, 1, 2, 3, 4}"),
        (&[("WAVETANK_RUNS", "many")][..], "WAVETANK_RUNS=many is not a number"),
    ] {
        let told = told(variables);
        assert!(told.contains(said), "{said}\n{told}");
    }
}

#[test]
fn kept_failures_run_before_any_seed() {
    let folder = tempfile::tempdir().expect("a folder");
    let most = |most: usize, runs: u64| {
        simulate(counts())
            .runs(runs)
            .check("few rows", move |run| assert!(run.input("events").len() < most))
            .keep_failures_in(folder.path().join("kept"))
            .try_run()
    };
    let said = most(2, 20).expect_err("some seed has two rows");
    assert!(said.contains("kept as") && said.contains("kept_failures_run_before_any_seed-seed-"), "{said}");
    let endings: BTreeSet<_> = std::fs::read_dir(folder.path().join("kept"))
        .expect("the folder was made")
        .map(|entry| entry.expect("an entry").path().extension().map(|ending| ending.to_owned()))
        .collect();
    assert_eq!(endings.len(), 3, "{endings:?}");
    let said = most(2, 0).expect_err("what failed once is run first");
    assert!(said.contains("few rows") && said.contains("(kept in "), "{said}");
    assert_eq!(most(3, 0).expect("it was made small: two rows").runs, 0);
}
