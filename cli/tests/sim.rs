//! `wavetank sim pipeline.sql`: a user's own script in simulated worlds, by the real program.

use std::fs;

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
