//! Tests of opening a checkpoint: what is refused, what is damaged, two at once.

#![expect(clippy::disallowed_methods, reason = "checkpoints that others wrote are put there behind the storage's back")]

use std::path::Path as FsPath;

use bytes::Bytes;

use super::*;
use crate::source::Offset;

struct Place {
    dir: tempfile::TempDir,
    environment: Environment,
}

fn place() -> Place {
    let dir = tempfile::tempdir().unwrap();
    let environment = Environment::real(dir.path().to_path_buf());
    Place { dir, environment }
}

impl Place {
    async fn open(&self) -> Result<Checkpoint> {
        Checkpoint::open(&self.environment, self.environment.storage.folder("ck")?).await
    }

    async fn refused(&self) -> Error {
        match self.open().await {
            Ok(opened) => panic!("the checkpoint was opened: {opened:?}"),
            Err(error) => error,
        }
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.dir.path().join("ck").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn files(&self) -> Vec<String> {
        fn walk(dir: &FsPath, root: &FsPath, found: &mut Vec<String>) {
            for entry in std::fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    walk(&path, root, found);
                } else {
                    found.push(path.strip_prefix(root).unwrap().display().to_string());
                }
            }
        }
        let mut found = Vec::new();
        walk(self.dir.path(), self.dir.path(), &mut found);
        found.sort_unstable();
        found
    }
}

fn entry(end: u64) -> OffsetEntry {
    OffsetEntry {
        batch_watermark_ms: end as i64,
        batch_timestamp_ms: 5,
        conf: Default::default(),
        offsets: vec![Some(Offset::new(end.to_string()))],
    }
}

fn done(watermark_ms: i64) -> CommitEntry {
    CommitEntry { next_batch_watermark_ms: watermark_ms }
}

#[tokio::test]
async fn a_query_keeps_its_id_and_its_logs() {
    let place = place();
    let mut first = place.open().await.unwrap();
    assert_eq!((first.offsets.latest(), first.commits.latest()), (None, None));
    assert_eq!(first.offsets.get(0).await.unwrap(), None);
    let id = first.id();
    let metadata = std::fs::read_to_string(place.dir.path().join("ck/metadata")).unwrap();
    assert!(metadata.starts_with(&format!("{{\"id\":\"{id}\",\"wavetank.crc32\":\"")), "{metadata}");
    for batch in 0..12 {
        first.offsets.add(batch, &entry(batch)).await.unwrap();
        first.commits.add(batch, &done(7)).await.unwrap();
    }
    first.offsets.add(12, &entry(12)).await.unwrap();
    drop(first);
    let second = place.open().await.unwrap();
    assert_eq!(second.id(), id);
    assert_eq!((second.offsets.latest(), second.commits.latest()), (Some(12), Some(11)));
    assert_eq!(second.offsets.get(12).await.unwrap(), Some(entry(12)));
    assert_eq!(second.commits.get(11).await.unwrap(), Some(done(7)));
    assert_eq!(second.commits.get(12).await.unwrap(), None);
    assert!(second.source_folder(0).uri("3").ends_with("/ck/sources/0/3"));
    assert!(second.state_folder().uri("").ends_with("/ck/state"));
}

#[tokio::test]
async fn sparks_checkpoint_is_continued() {
    let place = place();
    let spark = FsPath::new(env!("CARGO_MANIFEST_DIR")).join("testdata/spark-4.3.0");
    for name in ["metadata", "offsets/21", "offsets/22", "commits/21", "commits/22"] {
        place.write(name, &std::fs::read_to_string(spark.join(name)).unwrap());
    }
    place.write("offsets/.22.crc", "");
    place.write("offsets/.23.crc", "of a file that somebody deleted");
    let mut checkpoint = place.open().await.unwrap();
    assert_eq!(checkpoint.id().to_string(), "f40aabe3-a351-4f1c-8ba2-4b1d16e46b90");
    assert_eq!((checkpoint.offsets.latest(), checkpoint.commits.latest()), (Some(22), Some(22)));
    checkpoint.offsets.add(23, &entry(23)).await.unwrap();
    checkpoint.offsets.purge_before(23).await.unwrap();
    let offsets: Vec<_> = place.files().into_iter().filter(|name| name.contains("offsets")).collect();
    assert_eq!(offsets, ["ck/offsets/23"], "checksum files go with their files");
}

#[tokio::test]
async fn one_run_at_a_time() {
    let place = place();
    let running = place.open().await.unwrap();
    let before = place.files();
    let other_process = Environment::real(place.dir.path().to_path_buf());
    for environment in [&place.environment, &other_process] {
        let error = Checkpoint::open(environment, environment.storage.folder("ck").unwrap()).await.unwrap_err();
        assert_eq!(error.class(), Some("CONCURRENT_QUERY"));
        let text = error.to_string();
        let expected =
            format!("Cannot start query with id {} as another query with same id is already active", running.id());
        assert!(text.contains(&expected) && text.contains("checkpointLocation of its own"), "{text}");
    }
    assert_eq!(place.files(), before, "a refused run changes nothing");
    drop(running);
    place.open().await.unwrap();
}

#[tokio::test]
async fn missing_metadata_and_leftovers_are_refused() {
    for (left, class) in [
        ("offsets/0", "STREAMING_CHECKPOINT_MISSING_METADATA_FILE"),
        ("commits/3", "STREAMING_CHECKPOINT_MISSING_METADATA_FILE"),
        ("state/0/0/1.delta", "STATE_STORE_CHECKPOINT_LOCATION_NOT_EMPTY"),
        ("offsets/x", "STATE_STORE_CHECKPOINT_LOCATION_NOT_EMPTY"),
    ] {
        let place = place();
        place.write(left, "v1\n{}\n0");
        let error = place.refused().await;
        assert_eq!(error.class(), Some(class), "{left}: {error}");
        assert!(error.to_string().contains("/ck"), "{error}");
        assert!(!place.files().contains(&"ck/metadata".to_string()), "nothing was begun");
    }
    let place = place();
    place.open().await.unwrap();
    place.write("commits/0", "v1\n{}");
    assert_eq!(place.refused().await.class(), Some("STATE_STORE_CHECKPOINT_LOCATION_NOT_EMPTY"));
}

#[tokio::test]
async fn what_does_not_matter_is_ignored() {
    let place = place();
    place.write("offsets/.0.crc", "x");
    place.write("offsets/.wt-tmp-1-0-0", "half an entry of a killed run");
    place.write("sources/0/0", "a source's");
    std::fs::create_dir_all(place.dir.path().join("ck/state")).unwrap();
    let mut checkpoint = place.open().await.unwrap();
    assert_eq!(checkpoint.offsets.latest(), None);
    assert!(!place.files().iter().any(|name| name.contains("wt-tmp")), "{:?}", place.files());
    checkpoint.offsets.add(0, &entry(0)).await.unwrap();
    for name in ["offsets/007", "offsets/99.tmp", "offsets/.100", "offsets/9.compact", "offsets/-5"] {
        place.write(name, "x");
    }
    drop(checkpoint);
    assert_eq!(place.open().await.unwrap().offsets.latest(), Some(0));
}

#[tokio::test]
async fn damaged_metadata_is_named() {
    for text in [
        "",
        "{\"id\":\"f40aab",
        "{\"id\":\"no\"}",
        "garbage",
        "{\"id\":\"f40aabe3-a351-4f1c-8ba2-4b1d16e46b90\",\"x\":1}",
    ] {
        let place = place();
        place.write("metadata", text);
        let error = place.refused().await.to_string();
        assert!(error.contains("/ck/metadata") && error.contains("another checkpointLocation"), "{text:?}: {error}");
    }
}

#[tokio::test]
async fn a_second_run_without_locks_is_found_out_at_its_first_entry() {
    let memory = std::sync::Arc::new(object_store::memory::InMemory::new());
    let place = place();
    let storage = crate::storage::LocalStorage::new(std::sync::Arc::new(crate::storage::RealPosix), "/", 1)
        .with_store("mem", memory);
    let environment = Environment { storage: std::sync::Arc::new(storage), ..place.environment.clone() };
    let open =
        async || Checkpoint::open(&environment, environment.storage.folder("mem://b/ck").unwrap()).await.unwrap();
    let (mut one, mut two) = (open().await, open().await);
    assert_eq!(one.id(), two.id());
    one.offsets.add(0, &entry(1)).await.unwrap();
    let error = two.offsets.add(0, &entry(2)).await.unwrap_err();
    assert_eq!(error.class(), Some("CONCURRENT_STREAM_LOG_UPDATE"));
    assert!(error.to_string().contains("mem://b/ck/offsets/0"), "{error}");
    assert_eq!(two.offsets.latest(), None, "it was not added");
    two.offsets.add(0, &entry(1)).await.expect("the same promise is our own lost try");
    one.commits.add(0, &done(1)).await.unwrap();
    assert_eq!(two.commits.add(0, &done(2)).await.unwrap_err().class(), Some("CONCURRENT_STREAM_LOG_UPDATE"));
    assert_eq!(open().await.offsets.get(0).await.unwrap(), Some(entry(1)), "a promise is never rewritten");
}

#[tokio::test]
async fn purge_keeps_what_recovery_needs() {
    let place = place();
    let mut checkpoint = place.open().await.unwrap();
    for batch in 0..8 {
        checkpoint.offsets.add(batch, &entry(batch)).await.unwrap();
        checkpoint.commits.add(batch, &done(0)).await.unwrap();
        if let Some(end) = batch.checked_sub(3) {
            checkpoint.offsets.purge_before(end).await.unwrap();
            checkpoint.commits.purge_before(end).await.unwrap();
        }
    }
    let kept: Vec<_> =
        place.files().into_iter().filter_map(|name| name.strip_prefix("ck/offsets/").map(String::from)).collect();
    assert_eq!(kept, ["4", "5", "6", "7"]);
    // Somebody brings one back (a power cut does): the next run purges it.
    place.write("offsets/2", "x");
    drop(checkpoint);
    let mut checkpoint = place.open().await.unwrap();
    checkpoint.offsets.purge_before(5).await.unwrap();
    assert!(!place.files().contains(&"ck/offsets/2".to_string()));
    checkpoint.offsets.purge_before(100).await.unwrap();
    assert_eq!(checkpoint.offsets.latest(), Some(7), "the newest stays");
    assert!(checkpoint.offsets.get(7).await.unwrap().is_some());
    place.folder_gone();
    checkpoint.commits.purge_before(7).await.expect("what is gone already is fine");
}

impl Place {
    fn folder_gone(&self) {
        std::fs::remove_dir_all(self.dir.path().join("ck/commits")).unwrap();
    }
}

#[tokio::test]
async fn storage_that_refuses_is_an_error_and_nothing_more() {
    let place = place();
    let mut checkpoint = place.open().await.unwrap();
    checkpoint.offsets.add(0, &entry(0)).await.unwrap();
    // The commit log's folder cannot be made: a file has its name.
    place.write("commits", "in the way");
    let error = checkpoint.commits.add(0, &done(0)).await.unwrap_err().to_string();
    assert!(error.contains("A part of this path is a file"), "{error}");
    assert_eq!(checkpoint.commits.latest(), None);
    let folder = checkpoint.folder().clone();
    drop(checkpoint);
    folder.delete("commits").await.unwrap();
    place.open().await.unwrap().commits.add(0, &done(0)).await.unwrap();
    assert_eq!(
        folder.get("commits/0").await.unwrap(),
        Some(Bytes::from("v1\n{\"nextBatchWatermarkMs\":0,\"wavetank.crc32\":\"c84dd94a\"}"))
    );
}

#[tokio::test]
async fn the_lock_dies_with_its_process() {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};
    // The other process is this same test, told where to hold a checkpoint until it is killed.
    if let Some(location) = std::env::args().find_map(|arg| arg.strip_prefix("holder:").map(String::from)) {
        let real = Environment::real("/".into());
        let _held = Checkpoint::open(&real, real.storage.folder(&location).unwrap()).await.unwrap();
        println!("holding");
        return std::future::pending().await;
    }
    let place = place();
    let location = format!("holder:{}", place.dir.path().join("ck").display());
    let mut holder = Command::new(std::env::current_exe().unwrap())
        .args(["--nocapture", "--exact", "checkpoint::tests::the_lock_dies_with_its_process", "--skip", &location])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(holder.stdout.take().unwrap()).lines();
    let holds = lines.map_while(Result::ok).any(|line| line.contains("holding"));
    let refused = place.open().await.map(|_| ()).map_err(|error| error.class().map(String::from));
    holder.kill().unwrap();
    holder.wait().unwrap();
    assert!(holds, "the other process opened the checkpoint");
    assert_eq!(refused, Err(Some("CONCURRENT_QUERY".to_string())));
    place.open().await.expect("a lock ends with the process that held it");
}
