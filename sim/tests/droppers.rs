//! Files that others still write, in named cases: the random driver draws many more of them (`sim/src/draw/changing.rs`).

use wavetank_sim::campaign::check;
use wavetank_sim::pipeline::Pipeline;
use wavetank_sim::{Fault, Harm, Run, Scenario};

const SCRIPT: &str = "CREATE TABLE events (v BIGINT) USING json OPTIONS (path 'in', maxFilesPerTrigger '1');
CREATE STREAMING TABLE out USING witness OPTIONS (outputMode 'append', checkpointLocation 'checkpoint')
  AS SELECT v FROM STREAM events WHERE v IS NOT NULL;";

/// The scenario with these steps and faults, as a file would have them.
fn scenario(steps: &str, faults: Vec<Fault>) -> Scenario {
    let text = format!("seed = 1\nscript = \"\"\"{SCRIPT}\"\"\"\n{steps}");
    let scenario = Scenario::from_toml(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    scenario.with_faults(faults)
}

/// Runs it with every oracle; the values that the sink has, by batch.
fn values(scenario: &Scenario) -> (Run, Vec<Vec<i64>>) {
    let (baseline, run, failures) = check(scenario, &Pipeline);
    assert!(failures.is_empty(), "{}", wavetank_sim::page::text(scenario, &run, &baseline, &failures, ""));
    let value = |row: &String| row.trim_matches(|c: char| !c.is_ascii_digit()).parse().expect("a value");
    let batches = run.observed.sinks.get("out").map(|seen| seen.filled_batches()).unwrap_or_default();
    let values = batches.into_iter().map(|rows| rows.iter().map(value).collect()).collect();
    (run, values)
}

/// An effect on the file `in/0.json` takes ten milliseconds.
fn slow(op: &str) -> Vec<Fault> {
    vec![Fault { life: 0, at: format!("in/0.json {op}"), harm: Harm::Slow { us: 10_000 } }]
}

fn drop(name: &str, rows: &str) -> String {
    format!("[[step]]\ndo = 'drop'\nfile = 'in/{name}.json'\nrows = [{rows}]\n")
}

const SETTLE: &str = "[[step]]\ndo = 'settle'\n";

#[test]
fn files_of_one_moment_and_files_from_before_are_all_read() {
    let touch = |name: &str, ms: i64| format!("[[step]]\ndo = 'touch'\nfile = 'in/{name}.json'\nmodified_ms = {ms}\n");
    let row = |v: i64| format!("'{{\"v\":{v}}}'");
    let mut steps = String::new();
    for (at, ms) in [(0, 5_000), (1, 5_000), (2, -3_600_000), (3, 5_000)] {
        steps.push_str(&[drop(&at.to_string(), &row(at)), touch(&at.to_string(), ms), SETTLE.to_owned()].concat());
    }
    assert_eq!(values(&scenario(&steps, vec![])).1, [[0], [1], [2], [3]]);
    // All at once: the oldest first, those of one moment by their names.
    let at_once: String = steps.replace(SETTLE, "") + SETTLE;
    assert_eq!(values(&scenario(&at_once, vec![])).1, [[2], [0], [1], [3]]);
}

#[test]
fn a_file_that_grows_after_it_was_listed_is_read_as_it_is_when_its_batch_reads_it() {
    let grows = "[[step]]\ndo = 'drop-later'\nms = 5\nfile = 'in/0.json'\nrows = ['{\"v\":1}', '{\"v\":2}']\n";
    let steps = [&drop("0", "'{\"v\":1}'"), grows, SETTLE].concat();
    // It grows after it was listed, and before its size was asked for.
    let listed = Fault { life: 0, at: "checkpoint/sources/0/0.tmp write".into(), harm: Harm::Slow { us: 10_000 } };
    assert_eq!(values(&scenario(&steps, vec![listed])).1, [[1, 2]]);
    // It grows after its size was asked for: what was added is not read, neither now nor later.
    assert_eq!(values(&scenario(&steps, slow("read"))).1, [[1]]);
}

#[test]
fn a_half_written_line_is_no_row_and_its_rest_is_not_read_later() {
    let half = "[[step]]\ndo = 'drop'\nfile = 'in/0.json'\nrows = ['{\"v\":1}', '{\"v\"']\ntorn = true\n";
    let steps = [half, SETTLE, &drop("0", "'{\"v\":1}', '{\"v\":2}'"), SETTLE].concat();
    assert_eq!(values(&scenario(&steps, vec![])).1, [[1]]);
}

#[test]
fn a_file_that_is_made_again_with_other_content_is_not_read_again() {
    let restart = "[[step]]\ndo = 'restart'\n";
    let steps = [&drop("0", "'{\"v\":1}'"), SETTLE, &drop("0", "'{\"v\":7}'"), SETTLE, restart, SETTLE].concat();
    assert_eq!(values(&scenario(&steps, vec![])).1, [[1]]);
}

#[test]
fn a_file_that_is_deleted_before_it_is_read_ends_the_query_once_and_is_passed_over_then() {
    let goes = "[[step]]\ndo = 'remove-later'\nms = 5\nfile = 'in/0.json'\n";
    let steps = [&drop("0", "'{\"v\":1}'"), &drop("1", "'{\"v\":2}'"), goes, SETTLE].concat();
    let (run, read) = values(&scenario(&steps, slow("read")));
    assert_eq!(read, [[2]]);
    let ends: Vec<String> = run.lives.iter().map(|end| format!("{end:?}")).collect();
    assert!(ends.len() == 2 && ends[0].contains("FAILED_READ_FILE.FILE_NOT_EXIST"), "{ends:?}");
    // Gone before its batch is planned: nobody notices.
    let gone = [&drop("0", "'{\"v\":1}'"), "[[step]]\ndo = 'remove'\nfile = 'in/0.json'\n", SETTLE].concat();
    assert_eq!(values(&scenario(&gone, vec![])).1, Vec::<Vec<i64>>::new());
}
