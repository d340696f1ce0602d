//! A reader of the output that goes away (`| head -1`) ends the program without a word, as it ends other programs.

use std::fs;
use std::io::pipe;
use std::process::Stdio;

mod place;

use place::Place;

const PIPELINE: &str = "
CREATE TABLE words (word STRING) USING json OPTIONS (path 'words', maxFilesPerTrigger '1');
CREATE STREAMING TABLE shown USING console OPTIONS (trigger 'availableNow', checkpointLocation 'checkpoint')
  AS SELECT word FROM STREAM words;
";

/// Runs with a standard output that nobody reads: how it ended, and what it said elsewhere.
fn unread(place: &Place, arguments: &[&str]) -> (Option<i32>, String) {
    let (reader, writer) = pipe().expect("a pipe");
    drop(reader);
    let output = place.wavetank(arguments).stdout(writer).stderr(Stdio::piped()).output().expect("the program runs");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn output_that_nobody_reads_ends_the_program_quietly() {
    let place = Place::empty();
    fs::create_dir(place.path("words")).unwrap();
    for file in 0..3 {
        fs::write(place.path(&format!("words/{file}.json")), format!("{{\"word\":\"w{file}\"}}\n")).unwrap();
    }
    fs::write(place.path("pipeline.sql"), PIPELINE).unwrap();
    // The console sink, `println!`, and the same under a live line.
    for arguments in [
        &["run", "pipeline.sql"][..],
        &["explain", "pipeline.sql"],
        &["replay", "--seed", "3", "--trace"],
        &["run", "pipeline.sql", "--progress", "live"],
    ] {
        let (code, said) = unread(&place, arguments);
        assert_eq!(code, Some(141), "{arguments:?}: {said}");
        assert!(!["error", "panicked", "Broken pipe"].iter().any(|word| said.contains(word)), "{arguments:?}: {said}");
    }
    // It is no failure of the query: the batches are there for the next run.
    let output = place.wavetank(&["run", "pipeline.sql"]).output().expect("the program runs");
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && ["w0", "w1", "w2"].iter().all(|word| shown.contains(word)), "{shown}");
}
