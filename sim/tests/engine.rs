//! The engine in simulated worlds: small pipelines are crashed at every effect, and their sinks read afterwards.

use wavetank_sim::effects::kind_of;
use wavetank_sim::pipeline::Pipeline;
use wavetank_sim::sweep::{Depth, Sweep, sweep};
use wavetank_sim::{CrashImage, Fault, Harm, Scenario, Step, judge, run};

/// A pipeline over rows `(ts, k, v)`; blocks of rows arrive one after the other, each taken before the next comes.
fn scenario(source: &str, sink: &str, mode: &str, query: &str, blocks: &[&[(&str, &str, i64)]]) -> Scenario {
    let from = match source {
        "tape" => "tape OPTIONS (name 'events', blocksPerTrigger '1')",
        _ => "json OPTIONS (path 'in', maxFilesPerTrigger '1')",
    };
    let path = if sink == "witness" { "" } else { "path 'out', " };
    let script = format!(
        "CREATE TABLE events (ts TIMESTAMP, k STRING, v BIGINT) USING {from};\n\
         CREATE STREAMING TABLE out USING {sink}\n  \
         OPTIONS ({path}outputMode '{mode}', checkpointLocation 'checkpoint')\n  AS {query};"
    );
    let mut steps = Vec::new();
    for (at, block) in blocks.iter().enumerate() {
        let rows =
            block.iter().map(|(second, k, v)| format!(r#"{{"ts":"2024-01-01T00:00:{second}Z","k":"{k}","v":{v}}}"#));
        let rows = rows.collect();
        steps.push(match source {
            "tape" => Step::Add { tape: "events".into(), rows },
            _ => Step::Drop { file: format!("in/{at}.json"), rows, torn: false },
        });
        steps.push(Step::Settle);
    }
    Scenario { seed: 1, script, steps, ..Scenario::default() }
}

const WINDOWS: &str = "SELECT window(ts, '10 seconds').start AS w, k, count(*) AS n, sum(v) AS s FROM STREAM events \
                       WATERMARK ts DELAY OF INTERVAL 5 SECONDS GROUP BY window(ts, '10 seconds'), k";
const PLAIN: &str = "SELECT k, v + 1 AS v FROM STREAM events WHERE v > 0";
const TWO: &[&[(&str, &str, i64)]] =
    &[&[("01", "a", 1), ("04", "b", 2), ("02", "a", 3)], &[("31", "a", 4), ("03", "late", 5)]];

/// The images that differ most, at some of the crash points: for scenarios that are like another one. All images at
/// all points are `wavetank sim --exhaust`.
fn sample() -> Depth {
    let images = vec![CrashImage::Kill, CrashImage::Strict, CrashImage::Chaos];
    Depth { images, stride: 5, ..Depth::single() }
}

fn assert_sound(found: &Sweep) {
    if let Some((scenario, failures)) = found.failures.first() {
        let baseline = run(&scenario.undisturbed(), &Pipeline);
        let run = run(scenario, &Pipeline);
        panic!("{}\n{found}", wavetank_sim::page::text(scenario, &run, &baseline, failures, &scenario.to_toml()));
    }
    let total = found.total();
    assert_eq!(total.reached, total.exist, "{found}");
}

#[test]
fn an_undisturbed_run_has_the_rows_that_the_query_says() {
    let found = run(&scenario("tape", "witness", "append", WINDOWS, TWO), &Pipeline);
    assert_eq!(found.failures, []);
    let rows = found.observed.sinks["out"].all_rows().join("\n");
    // The second block is judged by the watermark before it, so its late row still counts; then the watermark is 26
    // seconds, and a batch without data gives the first window away.
    let expected = [("a", 2, 4), ("b", 1, 2), ("late", 1, 5)]
        .map(|(k, n, s)| format!(r#"{{"w":"2024-01-01T00:00:00Z","k":"{k}","n":{n},"s":{s}}}"#));
    assert_eq!(rows, expected.join("\n"));
}

#[test]
fn a_windowed_count_into_a_folder_of_json_survives_every_crash() {
    let found = sweep(&scenario("files", "json", "append", WINDOWS, TWO), &Pipeline, &Depth::single());
    println!("{found}");
    assert_sound(&found);
}

#[test]
fn a_windowed_count_into_a_witness_survives_every_crash_in_every_mode() {
    for mode in ["append", "update", "complete"] {
        let found = sweep(&scenario("tape", "witness", mode, WINDOWS, TWO), &Pipeline, &sample());
        println!("{mode}\n{found}");
        assert_sound(&found);
    }
}

#[test]
fn counts_by_key_survive_every_crash_in_update_and_complete_mode() {
    let query = "SELECT k, count(*) AS n, sum(v) AS s FROM STREAM events GROUP BY k";
    for mode in ["update", "complete"] {
        let found = sweep(&scenario("tape", "witness", mode, query, TWO), &Pipeline, &sample());
        println!("{mode}\n{found}");
        assert_sound(&found);
    }
}

#[test]
fn rows_of_files_into_a_folder_of_json_survive_every_crash() {
    let found = sweep(&scenario("files", "json", "append", PLAIN, TWO), &Pipeline, &sample());
    println!("{found}");
    assert_sound(&found);
}

#[test]
fn rows_into_a_folder_of_parquet_survive_every_crash() {
    let found = sweep(&scenario("tape", "parquet", "append", PLAIN, TWO), &Pipeline, &sample());
    println!("{found}");
    assert_sound(&found);
}

#[test]
fn the_effects_of_a_batch_have_their_names() {
    let found = run(&scenario("tape", "json", "append", PLAIN, TWO), &Pipeline);
    assert!(judge(&found, &found).is_empty(), "{:?}", found.failures);
    let names: Vec<String> = found.trace.iter().map(|effect| kind_of(&effect.name)).collect();
    for name in
        ["checkpoint/offsets/N link", "tape/events/N-N read", "out/_spark_metadata/N link", "checkpoint/commits/N link"]
    {
        assert!(names.iter().any(|n| n == name), "{name} is not among {names:?}");
    }
}

/// Set in the second process of [`two_processes_have_the_same_effects`].
const CHILD: &str = "WAVETANK_TEST_CHILD";

#[test]
fn two_processes_have_the_same_effects() {
    let query = "SELECT k, count(*) AS n FROM STREAM events GROUP BY k";
    let mut scenario = scenario("files", "witness", "update", query, TWO);
    let harm = Harm::CrashAfter { image: CrashImage::Chaos };
    scenario.faults = vec![Fault { life: 0, at: "checkpoint/commits/0.tmp fsync".into(), harm }];
    let run = run(&scenario, &Pipeline);
    let trace: Vec<String> = run.trace.iter().map(ToString::to_string).collect();
    let here = format!("{:016x}\n{}", run.digest, trace.join("\n"));
    if std::env::var_os(CHILD).is_some() {
        println!("BEGIN\n{here}\nEND");
        return;
    }
    assert!(trace.len() > 50, "{trace:?}");
    let child = std::process::Command::new(std::env::current_exe().expect("this test"))
        .args(["engine::two_processes_have_the_same_effects", "--exact", "--nocapture"])
        .env(CHILD, "1")
        .current_dir("/")
        .output()
        .expect("this test starts again");
    let said = String::from_utf8_lossy(&child.stdout);
    let there = said.split_once("BEGIN\n").and_then(|(_, rest)| rest.split_once("\nEND")).map(|(trace, _)| trace);
    assert_eq!(there, Some(here.as_str()));
}
