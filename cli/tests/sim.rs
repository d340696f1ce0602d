//! `wavetank sim pipeline.sql`: a user's own script in simulated worlds, by the real program.

use std::fs;
use std::process::Command;

mod place;

use place::Place;

const PIPELINE: &str = "
CREATE TABLE views (seen TIMESTAMP, page STRING) USING json OPTIONS (path 'not/there', maxFilesPerTrigger '1');
CREATE TABLE pages (page STRING, title STRING) USING csv OPTIONS (path 'pages.csv');
CREATE TABLE beats USING rate OPTIONS (rowsPerSecond '1');
CREATE STREAMING TABLE titled USING console OPTIONS (outputMode 'update', trigger 'availableNow')
  AS SELECT title, count(*) AS n FROM STREAM views AS v JOIN pages ON v.page = pages.page GROUP BY title;
CREATE STREAMING TABLE closed USING parquet OPTIONS (path 'out', checkpointLocation 'checkpoint')
  AS SELECT window.start AS since, count(*) AS n FROM STREAM views WATERMARK seen DELAY OF INTERVAL 5 MINUTES
  GROUP BY window(seen, '10 minutes');
CREATE STREAMING TABLE beating USING noop AS SELECT value FROM STREAM beats WHERE value % 2 = 0;
";

fn said(place: &Place, arguments: &[&str]) -> (Option<i32>, String) {
    let output = place.wavetank(arguments).output().expect("the program runs");
    (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

#[test]
fn every_query_of_a_script_is_simulated_and_nothing_is_left_behind() {
    let place = Place::empty();
    fs::write(place.path("pipeline.sql"), PIPELINE).unwrap();
    fs::write(place.path("pages.csv"), "a,The first\nb,The second\n").unwrap();
    let (code, text) = said(&place, &["sim", "pipeline.sql", "--seeds", "0..6", "--jobs", "2"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("6 seeds"), "{text}");
    let mut left: Vec<_> = fs::read_dir(place.path("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["pages.csv", "pipeline.sql"], "rows came from the world, and answers stayed in it");
}

#[test]
fn a_script_that_cannot_be_simulated_says_why() {
    let place = Place::empty();
    fs::create_dir(place.path("x")).unwrap();
    fs::write(place.path("empty.sql"), "CREATE TABLE t (a INT) USING json OPTIONS (path 'x');").unwrap();
    for (file, why) in [("empty.sql", "nothing to simulate"), ("missing.sql", "Cannot read missing.sql")] {
        let (code, text) = said(&place, &["sim", file]);
        assert!(code == Some(1) && text.contains(why), "{code:?} {text}");
    }
}

#[test]
fn saved_failures_run_first_and_count() {
    let place = Place::empty();
    fs::create_dir_all(place.path("out/sim")).unwrap();
    let scenario = |query: &str| {
        format!(
            "seed = 1\nscript = \"CREATE TABLE t (a BIGINT) USING tape OPTIONS (name 't'); CREATE STREAMING TABLE o USING witness OPTIONS \
             (checkpointLocation 'c') AS {query};\"\n[[step]]\ndo = 'add'\ntape = 't'\nrows = ['{{\"a\":1}}']\n[[step]]\ndo = \
             'settle'\n"
        )
    };
    fs::write(place.path("out/sim/right.toml"), scenario("SELECT a FROM STREAM t")).unwrap();
    fs::write(place.path("out/sim/wrong.toml"), scenario("SELECT raise_error('odd') FROM STREAM t")).unwrap();
    let (code, text) = said(&place, &["sim", "--seeds", "0..1", "--jobs", "1"]);
    assert_eq!(code, Some(1), "{text}");
    let (right, wrong) = (text.find("right.toml is right now"), text.find("wrong.toml still fails"));
    assert!(right.is_some() && right < wrong && wrong < text.find("1 seeds"), "{text}");
    assert!(text.contains("0 seeds failed, and 1 of the saved failures"), "{text}");
}

#[test]
fn a_failure_is_told_and_written_when_it_is_found() {
    let place = Place::empty();
    let script = "CREATE TABLE t (a BIGINT) USING json OPTIONS (path 'in'); CREATE STREAMING TABLE o USING noop AS SELECT \
                  raise_error('odd') AS e FROM STREAM t WHERE a IS NULL OR a IS NOT NULL;";
    fs::write(place.path("pipeline.sql"), script).unwrap();
    let output = place.wavetank(&["sim", "pipeline.sql", "--seeds", "0..3", "--jobs", "1"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let (told, said) = (String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&output.stdout));
    let line =
        told.lines().find(|line| line.starts_with("failed: wavetank replay ")).unwrap_or_else(|| panic!("{told}"));
    let scenario = line.trim_start_matches("failed: wavetank replay ");
    assert!(said.contains(&format!("  wavetank replay {scenario}\n")), "the same at the end: {said}");
    assert!(fs::read_to_string(place.path(scenario)).unwrap().contains("raise_error"));
}

#[test]
fn a_seed_is_replayed_as_a_page_and_as_a_trace() {
    let place = Place::empty();
    let (code, page) = said(&place, &["replay", "--seed", "7"]);
    assert!(code == Some(0) && page.contains("wavetank replay --seed 7"), "{page}");
    let (code, trace) = said(&place, &["replay", "--seed", "7", "--trace"]);
    assert!(code == Some(0) && trace.contains("checkpoint/commits/0 link"), "{trace}");
    assert_eq!(said(&place, &["replay", "--seed", "7", "--trace"]).1, trace, "in another process");
}

/// Whether the process has a handler for SIGINT by now: before, the signal would end it as it ends any program.
#[cfg(target_os = "linux")]
fn listens_to_interrupts(id: &str) -> bool {
    let status = fs::read_to_string(format!("/proc/{id}/status")).expect("the process is there");
    let caught =
        status.lines().find_map(|line| line.strip_prefix("SigCgt:")).expect("Linux says which signals are caught");
    u64::from_str_radix(caught.trim(), 16).expect("a mask in hex") & 0b10 != 0
}

#[cfg(target_os = "linux")]
#[test]
fn an_interrupted_campaign_reports_what_it_has_done() {
    let place = Place::empty();
    let mut command = place.wavetank(&["sim", "--seeds", "0..100000", "--jobs", "1", "--report", "report.json"]);
    let child = command.spawn().unwrap();
    let id = child.id().to_string();
    while !listens_to_interrupts(&id) {
        std::thread::yield_now();
    }
    let told = Command::new("kill").args(["-INT", &id]).status().expect("kill runs");
    assert!(told.success());
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(text.contains("Interrupted: "), "{text}");
    assert!(fs::read_to_string(place.path("report.json")).unwrap().contains("seeds_count"));
}
