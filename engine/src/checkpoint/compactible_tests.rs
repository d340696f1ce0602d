//! Tests of compacted logs: rules, damage, and logs that Spark wrote.

#![expect(clippy::disallowed_methods, reason = "logs that others wrote are put there behind the storage's back")]

use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};

use futures::FutureExt;
use futures::future::BoxFuture;

use super::*;
use crate::checkpoint::{SinkFile, SourceFile};

/// A clock that stands still until it is set; in ms.
#[derive(Debug, Default)]
struct HandClock(AtomicI64);

impl Clock for HandClock {
    fn now_us(&self) -> i64 {
        self.0.load(Ordering::Relaxed) * 1000
    }
    fn monotonic_us(&self) -> u64 {
        0
    }
    fn sleep_until_us(&self, _: i64) -> BoxFuture<'static, ()> {
        async {}.boxed()
    }
}

struct Place {
    dir: tempfile::TempDir,
    environment: Environment,
    clock: Arc<HandClock>,
    folder: Folder,
}

fn place() -> Place {
    let dir = tempfile::tempdir().unwrap();
    let mut environment = Environment::real(dir.path().to_path_buf());
    let clock = Arc::new(HandClock::default());
    environment.clock = clock.clone();
    let folder = environment.storage.folder("log").unwrap();
    Place { dir, environment, clock, folder }
}

impl Place {
    async fn open(&self, options: CompactibleOptions<SourceFile>) -> Result<CompactibleLog<SourceFile>> {
        CompactibleLog::open(&self.environment, self.folder.clone(), options).await
    }

    async fn names(&self) -> Vec<String> {
        let files = self.folder.list().await.unwrap();
        files.iter().map(|file| file.location.filename().unwrap().to_string()).collect()
    }
}

fn every(interval: u64) -> CompactibleOptions<SourceFile> {
    CompactibleOptions { interval, ..CompactibleOptions::default() }
}

fn file(step: u64, name: &str) -> SourceFile {
    SourceFile { path: format!("file:///in/{name}"), timestamp: 1000 + step as i64, batch_id: step }
}

fn testdata(folder: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/spark-4.3.0").join(folder)
}

fn copy_testdata(place: &Place, folder: &str) {
    std::fs::create_dir_all(place.dir.path().join("log")).unwrap();
    for entry in std::fs::read_dir(testdata(folder)).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), place.dir.path().join("log").join(entry.file_name())).unwrap();
    }
}

#[tokio::test]
async fn golden_bytes_of_steps_and_compacted_steps() {
    let place = place();
    let mut log = place.open(every(3)).await.unwrap();
    assert_eq!(log.latest(), None);
    log.add(0, vec![file(0, "a%20b"), file(0, "ü")]).await.unwrap();
    log.add(1, vec![file(1, "b")]).await.unwrap();
    log.add(2, vec![file(2, "c")]).await.unwrap();
    log.add(3, vec![file(3, "d")]).await.unwrap();
    let line = |step: u64, name: &str, crc: &str| {
        format!("\n{{\"path\":\"file:///in/{name}\",\"timestamp\":{},\"batchId\":{step}{crc}}}", 1000 + step)
    };
    let crc = |digits: &str| format!(",\"wavetank.crc32\":\"{digits}\"");
    let step0 = |digits| format!("v1{}{}", line(0, "a%20b", &crc(digits)), line(0, "ü", ""));
    assert_eq!(place.names().await, ["0", "1", "2.compact", "3"]);
    assert_eq!(place.folder.get("0").await.unwrap().unwrap(), step0("2913bb19"));
    let gathered = format!("{}{}{}", step0("376cce72"), line(1, "b", ""), line(2, "c", ""));
    assert_eq!(place.folder.get("2.compact").await.unwrap().unwrap(), gathered);
    assert_eq!(log.entries().len(), 5);
    assert_eq!(log.between(None, 0).len(), 2);
    assert_eq!(log.between(Some(0), 1), [file(1, "b")]);
    assert_eq!(log.between(Some(0), 2), [file(1, "b"), file(2, "c")]);
    assert_eq!(log.between(Some(1), 3), [file(2, "c"), file(3, "d")]);
    assert_eq!(log.between(Some(3), 3), []);
    assert_eq!(log.between(Some(5), 2), []);
}

#[tokio::test]
async fn a_restart_at_any_step_goes_on_with_the_same_log() {
    for interval in [1, 2, 3, 10] {
        let place = place();
        let mut written = Vec::new();
        for step in 0..35 {
            let mut log = place.open(every(interval)).await.unwrap();
            assert_eq!(log.entries(), written, "interval {interval} step {step}");
            assert_eq!(log.latest(), (0..step).next_back());
            let new = vec![file(step, "x"); 1 + (step % 3) as usize];
            log.add(step, new.clone()).await.unwrap();
            written.extend(new);
            let read = CompactibleLog::<SourceFile>::read(&place.folder).await.unwrap().unwrap();
            assert_eq!(read, Snapshot { latest: step, entries: written.clone() });
            let name = if (step + 1) % interval == 0 { format!("{step}.compact") } else { step.to_string() };
            assert!(place.names().await.contains(&name), "interval {interval} step {step}");
        }
    }
}

#[tokio::test]
async fn sparks_source_log_is_read_and_continued() {
    let place = place();
    copy_testdata(&place, "source_log");
    let mut log = place.open(every(4)).await.unwrap();
    assert_eq!((log.latest(), log.interval(), log.entries().len()), (Some(22), 10, 23));
    for (step, entry) in log.entries().iter().enumerate() {
        assert_eq!(entry.path, format!("file:///data/in%20dir%25ü/f%20{step:02}.json"));
        assert_eq!((entry.timestamp, entry.batch_id), (1_700_000_000_000 + 1000 * step as i64, step as u64));
        let source = place.environment.storage.folder(&entry.path).unwrap();
        assert_eq!(source.path.as_ref(), format!("data/in dir%ü/f {step:02}.json"));
        assert_eq!(source.uri(""), entry.path);
    }
    for step in 23..30 {
        log.add(step, vec![file(step, "new")]).await.unwrap();
    }
    let compacted = place.folder.get("29.compact").await.unwrap().unwrap();
    let compacted = String::from_utf8(compacted.to_vec()).unwrap();
    let (head, rest) = compacted.split_once(",\"wavetank.crc32\":\"").unwrap();
    let unsealed = format!("{head}{}", &rest["01234567\"".len()..]);
    let sparks = std::fs::read_to_string(testdata("source_log/19.compact")).unwrap();
    assert!(unsealed.starts_with(&sparks), "Spark's entries are gathered byte for byte");
}

#[tokio::test]
async fn sparks_sink_log_is_read() {
    let place = place();
    copy_testdata(&place, "sink_log");
    let log = CompactibleLog::<SinkFile>::open(&place.environment, place.folder.clone(), CompactibleOptions::default());
    let log = log.await.unwrap();
    assert_eq!((log.latest(), log.entries().len()), (Some(22), 23));
    let first = &log.entries()[0];
    assert_eq!(*first, SinkFile::added(first.path.clone(), 39, first.modification_time));
    let sparks = std::fs::read(testdata("sink_log/19.compact")).unwrap();
    assert_eq!(encode(&log.entries()[..20]).unwrap(), sparks);
    assert_eq!(CompactibleLog::<SinkFile>::read(&place.folder).await.unwrap().unwrap().entries, log.entries());
}

#[test]
fn intervals_are_derived_as_spark_does() {
    for (configured, compacted, interval) in [
        (5, 4, 5),
        (4, 9, 5),
        (10, 9, 10),
        (3, 9, 5),
        (2, 9, 2),
        (5, 9, 10),
        (20, 9, 10),
        (6, 11, 12),
        (5, 11, 6),
        (1, 6, 1),
        (2, 6, 7),
    ] {
        assert_eq!(derived_interval(configured, compacted), interval, "configured {configured}, {compacted}.compact");
    }
}

#[tokio::test]
async fn a_changed_interval_never_loses_the_log() {
    for (first, steps, then) in [(10, 8, 5), (3, 7, 10), (10, 12, 4), (10, 25, 3), (100, 30, 7), (10, 9, 1), (2, 3, 1)]
    {
        let place = place();
        for step in 0..60 {
            let configured = if step < steps { first } else { then };
            let mut log = place.open(every(configured)).await.unwrap();
            assert_eq!(log.entries().len() as u64, step, "{first} to {then} at {step}");
            log.add(step, vec![file(step, "x")]).await.unwrap();
        }
    }
}

#[tokio::test]
async fn old_files_are_deleted_when_gathered_and_old_enough() {
    let place = place();
    place.clock.0.store(4_000_000_000_000, Ordering::Relaxed);
    let options = CompactibleOptions { interval: 3, min_batches_to_retain: 5, ..CompactibleOptions::default() };
    let mut log = place.open(options.clone()).await.unwrap();
    for step in 0..10 {
        log.add(step, vec![file(step, "x")]).await.unwrap();
    }
    assert_eq!(place.names().await.len(), 10, "nothing is old enough");
    place.clock.0.fetch_add(options.cleanup_delay_ms, Ordering::Relaxed);
    log.add(10, vec![file(10, "x")]).await.unwrap();
    // m = 10 + 1 - 5 = 6, so everything before 6 - 0 - 1 = 5.
    assert_eq!(place.names().await, ["10", "5.compact", "6", "7", "8.compact", "9"]);
    assert_eq!(place.open(options.clone()).await.unwrap().entries().len(), 11, "nothing is lost");
    // A new run knows the age of files from the storage, and never deletes more.
    let mut log = place.open(options.clone()).await.unwrap();
    log.add(11, vec![file(11, "x")]).await.unwrap();
    log.add(12, vec![file(12, "x")]).await.unwrap();
    assert_eq!(place.names().await, ["10", "11.compact", "12", "5.compact", "6", "7", "8.compact", "9"]);
    log.add(13, vec![file(13, "x")]).await.unwrap();
    assert_eq!(place.names().await, ["10", "11.compact", "12", "13", "8.compact", "9"]);
    let keeps = CompactibleOptions { deletes: false, cleanup_delay_ms: 0, ..options };
    let mut log = place.open(keeps).await.unwrap();
    for step in 14..30 {
        log.add(step, vec![file(step, "x")]).await.unwrap();
    }
    assert_eq!(place.names().await.len(), 6 + 16);
    assert_eq!(log.entries().len(), 30);
}

#[tokio::test]
async fn a_retention_rule_drops_entries_when_files_are_gathered() {
    let place = place();
    let options = CompactibleOptions {
        interval: 3,
        retain: Some(Arc::new(|file: &SourceFile, now_ms| now_ms - file.timestamp <= 10)),
        ..CompactibleOptions::default()
    };
    place.clock.0.store(1005, Ordering::Relaxed);
    let mut log = place.open(options.clone()).await.unwrap();
    for step in 0..3 {
        log.add(step, vec![file(step, "x")]).await.unwrap();
    }
    assert_eq!(log.entries().len(), 3);
    place.clock.0.store(1012, Ordering::Relaxed);
    assert_eq!(log.snapshot(), [file(2, "x")]);
    for step in 3..6 {
        log.add(step, vec![file(step, "x")]).await.unwrap();
    }
    assert_eq!(log.entries().iter().map(|file| file.batch_id).collect::<Vec<_>>(), [2, 3, 4, 5]);
    assert_eq!(place.open(options).await.unwrap().entries(), log.entries());
}

#[tokio::test]
async fn a_second_writer_is_found_out() {
    let place = place();
    let (mut one, mut two) = (place.open(every(3)).await.unwrap(), place.open(every(3)).await.unwrap());
    for step in 0..3 {
        one.add(step, vec![file(step, "one")]).await.unwrap();
        let error = two.add(step, vec![file(step, "two")]).await.unwrap_err();
        assert_eq!(error.class(), Some("CONCURRENT_STREAM_LOG_UPDATE"));
        assert_eq!(two.latest(), (0..step).next_back(), "it is as it was");
        // The same entries are our own lost try.
        two.add(step, vec![file(step, "one")]).await.unwrap();
    }
    assert_eq!(one.entries(), two.entries());
    let error = one.add(1, vec![]).await.unwrap_err();
    assert_eq!(error.class(), Some("CONCURRENT_STREAM_LOG_UPDATE"), "a step is added once");
}

#[tokio::test]
async fn gaps_are_errors_that_name_the_file() {
    let place = place();
    let mut log = place.open(every(10)).await.unwrap();
    let error = log.add(2, vec![]).await.unwrap_err().to_string();
    assert!(error.contains("log/0: the file doesn't exist (latestId: 2)"), "{error}");
    for step in 0..15 {
        log.add(step, vec![file(step, "x")]).await.unwrap();
    }
    for missing in ["12", "9.compact"] {
        let saved = place.folder.get(missing).await.unwrap().unwrap();
        place.folder.delete(missing).await.unwrap();
        for error in [
            place.open(every(10)).await.unwrap_err().to_string(),
            CompactibleLog::<SourceFile>::read(&place.folder).await.unwrap_err().to_string(),
        ] {
            assert!(error.contains("doesn't exist") && error.contains("Restore the file"), "{missing}: {error}");
        }
        place.folder.put(missing, saved).await.unwrap();
    }
    place.folder.delete("3").await.unwrap();
    assert_eq!(place.open(every(10)).await.unwrap().entries().len(), 15, "what was gathered is not needed");
    let wrong = log.add(15, vec![file(14, "x")]).await.unwrap_err().to_string();
    assert!(wrong.contains("internal"), "{wrong}");
    assert!(place.open(every(0)).await.is_err());
}

#[tokio::test]
async fn a_reader_of_nothing_finds_nothing() {
    let place = place();
    assert_eq!(CompactibleLog::<SinkFile>::read(&place.folder).await.unwrap(), None);
    place.folder.put(".0.crc", Bytes::new()).await.unwrap();
    place.folder.put("notes.txt", Bytes::new()).await.unwrap();
    assert_eq!(CompactibleLog::<SinkFile>::read(&place.folder).await.unwrap(), None);
}

#[test]
fn damage_is_found() {
    let good = encode(&[file(4, "a"), file(4, "b")]).unwrap();
    let decode = |bytes: &[u8], id, kind| {
        let mut entries: Vec<SourceFile> = Vec::new();
        decode_into(bytes, "file:/log/4", id, kind, &mut entries).map(|()| entries)
    };
    assert_eq!(decode(&good, 4, Kind::Plain).unwrap(), [file(4, "a"), file(4, "b")]);
    for end in 0..good.len() {
        assert!(decode(&good[..end], 4, Kind::Plain).is_err(), "cut at {end}");
    }
    for (at, bit) in (0..good.len()).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
        let mut flipped = good.to_vec();
        flipped[at] ^= 1 << bit;
        assert!(
            decode(&flipped, 4, Kind::Plain).is_err(),
            "byte {at} bit {bit}: {}",
            String::from_utf8_lossy(&flipped)
        );
    }
    assert!(decode(&good, 5, Kind::Plain).is_err(), "a file under another name");
    assert!(decode(&good, 5, Kind::Compact).is_ok());
    assert!(decode(&good, 3, Kind::Compact).is_err(), "an entry of the future");
    let back = encode(&[file(4, "a"), file(3, "b")]).unwrap();
    assert!(decode(&back, 9, Kind::Compact).is_err(), "steps go forward");
    for (text, why) in [
        ("v1\n{\"path\":\"x\",\"timestamp\":1,\"batchId\":4,\"more\":0}", "unknown field"),
        ("v1\n{\"path\":\"x\",\"timestamp\":1}", "missing field"),
        ("v1\n{\"path\":\"x\",\"timestamp\":1 ,\"batchId\":4}", "a space in line 2"),
        ("v2\n", "newer version"),
        ("", "log version"),
    ] {
        let error = decode(text.as_bytes(), 4, Kind::Plain).unwrap_err().to_string();
        assert!(error.contains(why) && error.contains("file:/log/4"), "{error}");
    }
}
