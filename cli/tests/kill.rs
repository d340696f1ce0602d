//! Real kills of the real program: whatever the moment, starting it again gives the folder of an undisturbed run.
//!
//! The folder is read in two ways with a Parquet reader that is not the engine: as Spark reads it, the files that
//! `_spark_metadata` names, and as everybody else does, the files that are there. A life of the program ends after a drawn number of its progress lines and a drawn number of microseconds.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use parquet::file::reader::{FileReader, SerializedFileReader};

mod place;

use place::Place;

const EXAMPLE: &str = "examples/earthquakes.sql";
const FINISHED: &str = "out/earthquakes/finished";

/// A folder with the example and its data; the files are as old as a clone's: each a little younger than the one before.
fn place_with_example() -> Place {
    let place = Place::empty();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let data = place.path("examples/data/earthquakes");
    fs::create_dir_all(&data).expect("made");
    let from = root.join("examples/data/earthquakes");
    let mut names: Vec<_> = fs::read_dir(from).expect("the data").map(|entry| entry.expect("read").path()).collect();
    names.sort();
    for (age, name) in names.iter().enumerate() {
        let to = data.join(name.file_name().expect("a file"));
        fs::copy(name, &to).expect("copied");
        let changed = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + age as u64);
        fs::File::options().write(true).open(to).expect("open").set_modified(changed).expect("dated");
    }
    fs::copy(root.join(EXAMPLE), place.path(EXAMPLE)).expect("copied");
    place
}

/// The rows of the folder, sorted, the same to both kinds of readers.
fn rows(folder: &Path) -> Vec<String> {
    let named = rows_of(named_files(folder));
    let listed = fs::read_dir(folder).expect("the folder").map(|entry| entry.expect("an entry").path());
    let shown = listed.filter(|path| !path.file_name().unwrap_or_default().to_string_lossy().starts_with(['.', '_']));
    assert_same(&rows_of(shown.collect()), &named, "what is listed against what is named");
    named
}

/// The files that the manifest names, each as large as it says.
fn named_files(folder: &Path) -> Vec<PathBuf> {
    let mut files: BTreeMap<String, u64> = BTreeMap::new();
    let mut entries: Vec<_> = fs::read_dir(folder.join("_spark_metadata"))
        .expect("a manifest")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| !path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.')))
        .collect();
    entries.sort();
    for path in entries {
        let text = fs::read_to_string(&path).expect("a manifest entry is text");
        let mut lines = text.lines();
        assert_eq!(lines.next(), Some("v1"), "{}", path.display());
        for line in lines {
            let entry: serde_json::Value = serde_json::from_str(line).expect("JSON");
            assert_eq!(entry["action"], "add");
            files.insert(entry["path"].as_str().expect("a path").to_owned(), entry["size"].as_u64().expect("a size"));
        }
    }
    let path_of = |(uri, size): (String, u64)| {
        let path = uri.strip_prefix("file://").expect("a local file").to_owned();
        assert_eq!(fs::metadata(&path).expect("a file that the manifest names").len(), size, "{path}");
        PathBuf::from(path)
    };
    files.into_iter().map(path_of).collect()
}

fn rows_of(files: Vec<PathBuf>) -> Vec<String> {
    let mut rows = vec![];
    for path in files {
        let reader = SerializedFileReader::new(fs::File::open(path).expect("open")).expect("a Parquet file");
        rows.extend(reader.get_row_iter(None).expect("rows").map(|row| row.expect("a row").to_string()));
    }
    rows.sort();
    rows
}

/// Both are sorted. Only what differs is said.
fn assert_same(got: &[String], expected: &[String], after: &str) {
    let count = |rows: &[String], row: &String| rows.iter().filter(|other| *other == row).count();
    let mut differs: Vec<_> =
        got.iter().chain(expected).filter(|row| count(got, row) != count(expected, row)).collect();
    differs.sort();
    differs.dedup();
    let said = differs.iter().map(|row| format!("{} for {}: {row}\n", count(got, row), count(expected, row)));
    assert!(differs.is_empty(), "{after}\n{}", said.collect::<String>());
}

fn run_to_the_end(place: &Place) {
    let output = place.wavetank(&["run", EXAMPLE]).output().expect("started");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn undisturbed() -> Vec<String> {
    let place = place_with_example();
    run_to_the_end(&place);
    let rows = rows(&place.path(FINISHED));
    assert!(rows.len() > 200, "{}", rows.len());
    rows
}

/// Reads this many lines of the child's stderr; answers them. Fewer means that the child has ended.
fn lines(stderr: &mut impl BufRead, count: u64) -> Vec<String> {
    stderr.lines().take(count as usize).map_while(Result::ok).collect()
}

/// Numbers from a seed (splitmix64), so that a failure can be tried again.
struct Draw(u64);

impl Draw {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % limit
    }
}

/// One life of the program, killed at the drawn moment. Answers whether it came to its end before.
fn one_life(place: &Place, lines_count: u64, delay: Duration) -> bool {
    let mut command = place.wavetank(&["run", EXAMPLE, "--progress", "line"]);
    // The console's tables are not what is compared.
    let mut child = command.stdout(Stdio::null()).spawn().expect("started");
    let mut stderr = BufReader::new(child.stderr.take().expect("captured"));
    lines(&mut stderr, lines_count);
    let killed_at = Instant::now() + delay;
    while Instant::now() < killed_at {
        std::hint::spin_loop();
    }
    child.kill().expect("killed");
    child.wait().expect("waited").success()
}

/// Kills until nothing is left to do. Answers how often.
fn kill_until_done(place: &Place, seed: u64) -> u32 {
    let mut draw = Draw(seed);
    for life in 0..400 {
        // Lives of no line die while they start and recover.
        let (lines_count, delay_us) = (draw.below(6), draw.below(25_000));
        if one_life(place, lines_count, Duration::from_micros(delay_us)) {
            return life;
        }
    }
    panic!("seed {seed}: no life came to its end");
}

#[test]
fn sigkill_at_any_moment_loses_and_doubles_nothing() {
    let expected = undisturbed();
    for seed in 1..=3 {
        let place = place_with_example();
        let kills = kill_until_done(&place, seed);
        assert!(kills >= 8, "seed {seed}: only {kills} kills");
        assert_same(&rows(&place.path(FINISHED)), &expected, &format!("seed {seed}, {kills} kills"));
    }
}

fn send(child: &Child, signal: &str) {
    let sent = Command::new("kill").args([signal, &child.id().to_string()]).status().expect("kill is a program");
    assert!(sent.success());
}

/// The newest entry of a log.
fn newest(log: &Path) -> u64 {
    let names = fs::read_dir(log).expect("a log").map(|entry| entry.expect("read").file_name());
    names.filter_map(|name| name.to_str()?.parse().ok()).max().expect("an entry")
}

#[test]
fn sigterm_finishes_the_running_batch_and_exits_0() {
    let place = place_with_example();
    let mut command = place.wavetank(&["run", EXAMPLE, "--progress", "line"]);
    let mut child = command.stdout(Stdio::null()).spawn().expect("started");
    let mut stderr = BufReader::new(child.stderr.take().expect("captured"));
    assert_eq!(lines(&mut stderr, 4).len(), 4);
    send(&child, "-TERM");
    let mut said = String::new();
    stderr.read_to_string(&mut said).expect("text");
    assert_eq!(child.wait().expect("waited").code(), Some(0), "{said}");
    for query in ["watching", "finished"] {
        let checkpoint = place.path("out/earthquakes/checkpoints").join(query);
        assert_eq!(newest(&checkpoint.join("offsets")), newest(&checkpoint.join("commits")), "{query}: {said}");
    }
    run_to_the_end(&place);
    assert_same(&rows(&place.path(FINISHED)), &undisturbed(), "after SIGTERM");
}

/// A query whose one batch takes far longer than a test, and tells when it has begun.
const LONG: &str = "
CREATE TABLE numbers USING `rate-micro-batch` OPTIONS (rowsPerBatch '100000000000');
CREATE STREAMING TABLE long USING console OPTIONS (outputMode 'complete', checkpointLocation 'out/long')
AS SELECT max(value % 7) FROM STREAM numbers;
";

#[test]
fn the_second_signal_stops_at_once() {
    let place = Place::empty();
    fs::write(place.path("long.sql"), LONG).expect("written");
    let mut child = place.wavetank(&["run", "long.sql"]).spawn().expect("started");
    // The batch is under way as soon as it is promised.
    while !place.path("out/long/offsets/0").exists() {
        assert!(child.try_wait().expect("waited").is_none(), "it ended by itself");
        std::thread::yield_now();
    }
    let mut stderr = BufReader::new(child.stderr.take().expect("captured"));
    send(&child, "-INT");
    let said = lines(&mut stderr, 1);
    assert!(said[0].contains("stopping after the running batch"), "{said:?}");
    assert!(child.try_wait().expect("waited").is_none(), "the first signal waits for the batch");
    send(&child, "-INT");
    assert_eq!(child.wait().expect("waited").code(), Some(130));
    assert!(!place.path("out/long/commits/0").exists());
}

#[test]
fn a_second_run_on_one_checkpoint_is_refused() {
    let place = Place::empty();
    fs::write(place.path("long.sql"), LONG).expect("written");
    let mut first = place.wavetank(&["run", "long.sql"]).spawn().expect("started");
    while !place.path("out/long/offsets/0").exists() {
        assert!(first.try_wait().expect("waited").is_none(), "it ended by itself");
        std::thread::yield_now();
    }
    let second = place.wavetank(&["run", "long.sql"]).output().expect("started");
    first.kill().expect("killed");
    first.wait().expect("waited");
    let said = String::from_utf8_lossy(&second.stderr);
    assert_eq!(second.status.code(), Some(1), "{said}");
    assert!(said.contains("[CONCURRENT_STREAM_LOG_UPDATE]") || said.contains("another"), "{said}");
}

/// The pipeline that the README shows.
#[test]
fn the_pipeline_of_the_readme_runs() {
    let place = place_with_example();
    let readme = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md")).expect("the README");
    let sql = readme.split("```sql\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a pipeline");
    fs::write(place.path("readme.sql"), sql).expect("written");
    let output = place.wavetank(&["run", "readme.sql"]).output().expect("started");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(rows(&place.path("out/strongest")).len() > 100);
}

#[test]
fn a_seed_gives_the_same_output_twice_and_what_it_wrote_replays() {
    let place = Place::empty();
    let sim = || place.wavetank(&["sim", "--seeds", "0..3"]).output().expect("started");
    let (one, two) = (sim(), sim());
    let said = String::from_utf8_lossy(&one.stdout).into_owned();
    assert_eq!(one.stdout, two.stdout);
    assert!(said.starts_with("3 seeds, "), "{said}");
    for found in fs::read_dir(place.path("out/sim")).into_iter().flatten() {
        let path = found.expect("read").path();
        if path.extension().is_some_and(|ending| ending == "toml") {
            let output = place.wavetank(&["replay", &path.to_string_lossy()]).output().expect("started");
            assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stdout));
        }
    }
    let none = place.wavetank(&["replay", "nothing.toml"]).output().expect("started");
    assert!(String::from_utf8_lossy(&none.stderr).starts_with("error: Cannot read nothing.toml"));
}
