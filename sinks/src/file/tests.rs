//! The file sinks against a store that fails, restarts, other runs, and what Spark writes.

use std::sync::Arc;

use arrow::array::*;
use arrow::datatypes::{DataType, Field, Int32Type, Schema};
use wavetank_engine::checkpoint::{CompactibleLog, SinkFile, Snapshot};
use wavetank_engine::environment::{Entropy, Environment};
use wavetank_engine::sink::OutputBatch;
use wavetank_engine::storage::{Folder, LocalStorage, RealPosix, Storage};

use super::faulty::{Fault, FaultyStore, faulty_store};
use super::*;
use crate::contract::{self, Subject};
use crate::testing::{FixedClock, batch, broken_batch, context, rows, schema};

const NOW_MS: i64 = 1_700_000_000_000;

/// An output folder and what is needed to write to it.
struct World {
    store: Arc<FaultyStore>,
    format: FileFormat,
    partition_by: Vec<String>,
    options: Vec<(&'static str, &'static str)>,
    now_ms: i64,
}

impl World {
    fn new(partition_by: &[&str]) -> Self {
        let partition_by = partition_by.iter().map(|name| (*name).to_owned()).collect();
        Self { store: faulty_store(), format: FileFormat::Json, partition_by, options: Vec::new(), now_ms: NOW_MS }
    }

    fn storage(&self) -> LocalStorage {
        LocalStorage::new(Arc::new(RealPosix), "/", 0).with_impatient_store("mem", self.store.clone())
    }

    fn folder(&self) -> Folder {
        self.storage().folder("mem://bucket/out dir").unwrap()
    }

    fn context(&self, next_batch_id: u64, seed: u64) -> SinkContext {
        let mut context = context(schema(), OutputMode::Append, &[("path", "mem://bucket/out dir")]);
        for (name, value) in &self.options {
            context.options.set(*name, *value);
        }
        context.environment = Environment {
            clock: Arc::new(FixedClock(self.now_ms * 1000)),
            storage: Arc::new(self.storage()),
            entropy: Entropy::from_seed(seed),
        };
        SinkContext { next_batch_id, partition_by: self.partition_by.clone(), ..context }
    }

    /// A sink of a run that goes on with this batch; each run has random numbers of its own.
    async fn start(&self, next_batch_id: u64, seed: u64) -> Result<Arc<dyn Sink>> {
        FileSinkProvider::new(self.format).sink(self.context(next_batch_id, seed)).await
    }

    async fn log(&self) -> Option<Snapshot<SinkFile>> {
        CompactibleLog::read(&self.folder().child(METADATA_FOLDER)).await.unwrap()
    }

    /// What a reader that honours the log sees: the lines of the files it names, in its order.
    async fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for file in self.log().await.map(|log| log.entries).unwrap_or_default() {
            let at = self.storage().folder(&file.path).unwrap();
            let bytes = at.get("").await.unwrap().expect("a file that is named is there");
            assert_eq!(bytes.len() as u64, file.size);
            lines.extend(String::from_utf8(bytes.to_vec()).unwrap().lines().map(str::to_owned));
        }
        lines
    }

    /// The paths of all data files, named or not.
    async fn data_files(&self) -> Vec<String> {
        let files = self.folder().list_recursive().await.unwrap();
        let paths = files.iter().map(|f| f.location.to_string()).filter(|path| !path.contains(METADATA_FOLDER));
        paths.map(|path| path.strip_prefix("out dir/").unwrap().to_owned()).collect()
    }

    async fn fail_after(&self, calls: usize, fault: Fault) {
        *self.store.fault.lock().unwrap() = Some((calls, fault));
    }
}

fn two(batch_id: u64) -> OutputBatch {
    batch(batch_id, vec![rows(&[("a", 1), ("b", 2)]), rows(&[("a", 3)])])
}

fn lines_of_two(partitioned: bool) -> Vec<&'static str> {
    match partitioned {
        false => vec![r#"{"k":"a","v":1}"#, r#"{"k":"b","v":2}"#, r#"{"k":"a","v":3}"#],
        true => vec![r#"{"v":1}"#, r#"{"v":2}"#, r#"{"v":3}"#],
    }
}

#[async_trait]
impl Subject for World {
    async fn start(&self, next_batch_id: u64) -> Arc<dyn Sink> {
        World::start(self, next_batch_id, next_batch_id).await.unwrap()
    }

    async fn visible(&self) -> Vec<i32> {
        let mut values = Vec::new();
        for file in self.log().await.map(|log| log.entries).unwrap_or_default() {
            let bytes = self.storage().folder(&file.path).unwrap().get("").await.unwrap().unwrap();
            let text = || String::from_utf8(bytes.to_vec()).unwrap();
            match self.format {
                FileFormat::Parquet => {
                    for rows in ::parquet::arrow::arrow_reader::ParquetRecordBatchReader::try_new(bytes, 100).unwrap() {
                        let rows = rows.unwrap();
                        let column = rows.column_by_name("v").unwrap();
                        values.extend_from_slice(column.as_primitive::<Int32Type>().values());
                    }
                }
                FileFormat::Csv => {
                    values.extend(text().lines().map(|l| l.rsplit(',').next().unwrap().parse::<i32>().unwrap()));
                }
                _ => {
                    let value = |l: &str| serde_json::from_str::<serde_json::Value>(l).unwrap()["v"].as_i64().unwrap();
                    values.extend(text().lines().map(|l| value(l) as i32));
                }
            }
        }
        values
    }

    fn survives_restart(&self) -> bool {
        true
    }
}

#[tokio::test]
async fn the_contract_holds() {
    for format in [FileFormat::Json, FileFormat::Csv, FileFormat::Parquet] {
        for partition_by in [&[][..], &["k"]] {
            contract::check(&World { format, ..World::new(partition_by) }).await;
        }
    }
}

#[tokio::test]
async fn a_failure_of_any_call_leaves_all_or_nothing_and_a_retry_ends_well() {
    for (partition_by, fault) in
        [(&[][..], Fault::Before), (&[], Fault::After), (&["k"], Fault::Before), (&["k"], Fault::After)]
    {
        let expected = lines_of_two(!partition_by.is_empty());
        let mut failures = 0;
        for calls in 0.. {
            assert!(calls < 100, "the batch never works");
            let world = World::new(partition_by);
            world.fail_after(calls, fault).await;
            let attempt = async {
                let sink = world.start(0, 1).await?;
                sink.write(two(0)).await?;
                let committed = sink.commit(0).await;
                if committed.is_err() {
                    // The same sink may be asked again: it must find out by itself what has arrived.
                    sink.write(two(0)).await?;
                    sink.commit(0).await?;
                    assert_eq!(world.lines().await, expected);
                }
                committed
            };
            let outcome = attempt.await;
            let struck = world.store.fault.lock().unwrap().take().is_none();
            if outcome.is_ok() && !struck {
                break;
            }
            failures += 1;
            let visible = world.lines().await;
            assert!(visible.is_empty() || visible == expected, "after {calls} calls: {visible:?}");
            let sink = world.start(0, 2).await.unwrap();
            sink.write(two(0)).await.unwrap();
            sink.commit(0).await.unwrap();
            assert_eq!(world.lines().await, expected, "after {calls} calls");
        }
        assert!(failures >= 6, "only {failures} calls failed");
    }
}

#[tokio::test]
async fn a_plan_that_fails_leaves_no_file() {
    for partition_by in [&[][..], &["k"]] {
        let world = World::new(partition_by);
        let sink = world.start(0, 1).await.unwrap();
        let mut failing = two(0);
        failing.partitions.extend(broken_batch(0).partitions);
        assert!(sink.write(failing).await.unwrap_err().to_string().contains("the plan failed"));
        assert_eq!(world.data_files().await, Vec::<String>::new());
        assert!(sink.commit(0).await.is_err());
        sink.write(two(0)).await.unwrap();
        sink.commit(0).await.unwrap();
        assert_eq!(world.lines().await, lines_of_two(!partition_by.is_empty()));
    }
}

/// What the folder lists and what the entries name are the same files, whenever a run that died is taken up.
#[tokio::test]
async fn a_run_that_takes_up_a_batch_clears_what_the_dead_one_left() {
    for partition_by in [&[][..], &["k"]] {
        let world = World::new(partition_by);
        let taken_up = async |next_batch_id, seed| {
            let context = SinkContext { interrupted: true, ..world.context(next_batch_id, seed) };
            FileSinkProvider::new(world.format).sink(context).await.unwrap()
        };
        let first = world.start(0, 1).await.unwrap();
        first.write(two(0)).await.unwrap();
        first.commit(0).await.unwrap();
        let committed = world.data_files().await;
        world.folder().put("part-00000-mine.json", "theirs".into()).await.unwrap();
        first.write(two(1)).await.unwrap();
        drop(first); // it dies before the commit
        let left = world.data_files().await.len();

        // Nobody knows that the first run is over: nothing is deleted.
        drop(world.start(1, 2).await.unwrap());
        assert_eq!(world.data_files().await.len(), left);

        let second = taken_up(1, 3).await;
        let mut expected = committed.clone();
        expected.push("part-00000-mine.json".into());
        expected.sort();
        assert_eq!(world.data_files().await, expected);
        second.write(two(1)).await.unwrap();
        second.commit(1).await.unwrap();
        let whole = world.data_files().await;
        assert_eq!(whole.len(), 2 * committed.len() + 1);

        // Taken up once more because its commit log entry was lost: the entry of the sink is there, so nothing goes.
        let third = taken_up(1, 4).await;
        third.write(two(1)).await.unwrap();
        third.commit(1).await.unwrap();
        assert_eq!(world.data_files().await, whole);
    }
}

#[tokio::test]
async fn the_manifest_has_sparks_bytes() {
    let world = World::new(&["k"]);
    let sink = world.start(0, 7).await.unwrap();
    sink.write(batch(0, vec![rows(&[("p%é d", 4), ("", 5)])])).await.unwrap();
    sink.commit(0).await.unwrap();
    let text = world.folder().child(METADATA_FOLDER).get("0").await.unwrap().unwrap();
    let text = String::from_utf8(text.to_vec()).unwrap();
    let names = world.data_files().await;
    let [default, percent] = names.as_slice() else { panic!("{names:?}") };
    let uuid = |name: &str| name.split("part-00000-").nth(1).unwrap()[..36].to_owned();
    assert_eq!(default, &format!("k=__HIVE_DEFAULT_PARTITION__/part-00000-{}.c000.json", uuid(default)));
    assert_eq!(percent, &format!("k=p%25é d/part-00000-{}.c000.json", uuid(percent)));
    assert_ne!(uuid(default), uuid(percent));
    let entry = |folder: &str, uuid: &str| {
        format!(
            "{{\"path\":\"mem://bucket/out%20dir/{folder}/part-00000-{uuid}.c000.json\",\"size\":8,\"isDir\":false,\
             \"modificationTime\":1700000000000,\"blockReplication\":1,\"blockSize\":33554432,\"action\":\"add\"}}"
        )
    };
    let golden = [
        "v1".to_owned(),
        entry("k=__HIVE_DEFAULT_PARTITION__", &uuid(default)),
        entry("k=p%2525é%20d", &uuid(percent)),
    ];
    assert_eq!(text, golden.join("\n"));
    assert_eq!(sink.describe(), "FileSink[mem://bucket/out dir]");
}

#[tokio::test]
async fn files_are_named_by_task_and_empty_tasks_write_none_but_the_first() {
    let world = World { format: FileFormat::Parquet, ..World::new(&[]) };
    let sink = world.start(0, 7).await.unwrap();
    let mut partitions = vec![rows(&[]); 40];
    partitions[12] = rows(&[("a", 1)]);
    partitions[39] = rows(&[("b", 2)]);
    sink.write(batch(0, partitions)).await.unwrap();
    sink.commit(0).await.unwrap();
    sink.write(batch(1, vec![])).await.unwrap();
    sink.commit(1).await.unwrap();
    let entries = world.log().await.unwrap().entries;
    let names: Vec<&str> = entries.iter().map(|file| file.path.rsplit('/').next().unwrap()).collect();
    let shapes: Vec<_> = names.iter().map(|name| (&name[..11], name.split_at(11 + 36).1)).collect();
    let ending = "-c000.snappy.parquet";
    assert_eq!(
        shapes,
        [("part-00000-", ending), ("part-00012-", ending), ("part-00039-", ending), ("part-00000-", ending)]
    );
    assert_ne!(names[0], names[3], "each batch has names of its own");

    let world = World::new(&["k"]);
    let sink = world.start(0, 7).await.unwrap();
    sink.write(batch(0, vec![])).await.unwrap();
    sink.commit(0).await.unwrap();
    assert_eq!(world.folder().child(METADATA_FOLDER).get("0").await.unwrap().unwrap(), "v1");
    assert!(world.data_files().await.is_empty());
}

#[tokio::test]
async fn a_name_that_is_taken_by_other_bytes_is_left_alone() {
    let world = World::new(&[]);
    let one = world.start(0, 7).await.unwrap();
    let late = world.start(0, 7).await.unwrap();
    one.write(batch(0, vec![rows(&[("first", 1)])])).await.unwrap();
    // Another run with the same random numbers: the same rows are the same file, other rows another one.
    let other = world.start(0, 7).await.unwrap();
    other.write(batch(0, vec![rows(&[("first", 1)])])).await.unwrap();
    assert_eq!(world.data_files().await.len(), 1);
    other.write(batch(0, vec![rows(&[("second", 2)])])).await.unwrap();
    assert_eq!(world.data_files().await.len(), 2);
    one.commit(0).await.unwrap();
    assert_eq!(world.lines().await, [r#"{"k":"first","v":1}"#]);
    let error = other.commit(0).await.unwrap_err();
    assert_eq!(error.class(), Some("CONCURRENT_STREAM_LOG_UPDATE"));
    assert_eq!(world.lines().await, [r#"{"k":"first","v":1}"#]);
    // A run that fails over files that are now somebody else's leaves them alone.
    let mut failing = batch(0, vec![rows(&[("first", 1)])]);
    failing.partitions.extend(broken_batch(0).partitions);
    assert!(late.write(failing).await.unwrap_err().to_string().contains("the plan failed"));
    assert_eq!(world.lines().await, [r#"{"k":"first","v":1}"#]);
}

#[tokio::test]
async fn the_log_is_compacted_and_retention_hides_old_files() {
    let mut world = World::new(&[]);
    world.options.push(("retention", "1h"));
    let sink = world.start(0, 1).await.unwrap();
    for id in 0..12 {
        if id == 5 {
            *world.store.modified_ms.lock().unwrap() = NOW_MS - 3_600_001;
        } else {
            *world.store.modified_ms.lock().unwrap() = NOW_MS - 3_600_000;
        }
        sink.write(batch(id, vec![rows(&[("k", id as i32)])])).await.unwrap();
        sink.commit(id).await.unwrap();
    }
    let names: Vec<_> = world.folder().child(METADATA_FOLDER).list().await.unwrap();
    let names: Vec<_> = names.iter().filter_map(|file| file.location.filename()).collect();
    assert!(names.contains(&"9.compact") && names.contains(&"11") && !names.contains(&"9"), "{names:?}");
    let visible = world.lines().await;
    assert_eq!(visible.len(), 11, "{visible:?}");
    assert!(!visible.iter().any(|line| line.contains("\"v\":5")));
    assert_eq!(world.data_files().await.len(), 12, "data files are not deleted");
    let restarted = world.start(12, 2).await.unwrap();
    restarted.write(batch(12, vec![rows(&[("k", 12)])])).await.unwrap();
    restarted.commit(12).await.unwrap();
    assert_eq!(world.lines().await.len(), 12);
}

#[tokio::test]
async fn a_torn_or_foreign_log_is_named() {
    let world = World::new(&[]);
    let sink = world.start(0, 1).await.unwrap();
    for id in 0..2 {
        sink.write(two(id)).await.unwrap();
        sink.commit(id).await.unwrap();
    }
    let log = world.folder().child(METADATA_FOLDER);
    let whole = log.get("1").await.unwrap().unwrap();
    for torn in [&b""[..], b"v", b"v1\n{\"path\":\"mem://", &whole[..whole.len() - 1]] {
        log.put("1", torn.to_vec().into()).await.unwrap();
        let error = world.start(2, 2).await.unwrap_err().to_string();
        assert!(error.contains("mem://bucket/out%20dir/_spark_metadata/1") && error.contains("Restore"), "{error}");
    }
    log.put("1", whole).await.unwrap();
    log.delete("0").await.unwrap();
    let error = world.start(2, 2).await.unwrap_err().to_string();
    assert!(error.contains("_spark_metadata/0") && error.contains("doesn't exist (latestId: 1"), "{error}");

    let fresh = World::new(&[]);
    let error = fresh.start(3, 1).await.unwrap_err().to_string();
    assert!(
        error.contains("goes on with batch 3") && error.contains("next batch of this output folder is 0"),
        "{error}"
    );
}

#[tokio::test]
async fn large_files_go_up_in_parts_and_large_folders_do_not_wait() {
    for partition_by in [&[][..], &["k"]] {
        let world = World { format: FileFormat::Text, ..World::new(partition_by) };
        let mut columns = vec![Field::new("s", DataType::Utf8, true)];
        let line = "x".repeat(1 << 20);
        let lines: ArrayRef = Arc::new(StringArray::from(vec![line.as_str(); 7]));
        let mut arrays = vec![lines];
        if !partition_by.is_empty() {
            columns.push(Field::new("k", DataType::Int32, true));
            arrays.push(Arc::new(Int32Array::from(vec![1, 1, 1, 1, 2, 1, 1])));
        }
        let schema = Arc::new(Schema::new(columns));
        let batch = RecordBatch::try_new(schema.clone(), arrays).unwrap();
        let context = SinkContext { schema: schema.clone(), ..world.context(0, 1) };
        let sink = FileSinkProvider::new(world.format).sink(context).await.unwrap();
        let stream = crate::testing::stream_of(schema, vec![batch; 3]);
        sink.write(OutputBatch { batch_id: 0, timestamp_ms: 0, partitions: vec![stream] }).await.unwrap();
        sink.commit(0).await.unwrap();
        let visible = world.lines().await;
        assert_eq!(visible.len(), 21);
        assert!(visible.iter().all(|text| *text == line));
        let sizes: Vec<u64> = world.log().await.unwrap().entries.iter().map(|file| file.size).collect();
        let line_size = line.len() as u64 + 1;
        let expected = if partition_by.is_empty() { vec![21 * line_size] } else { vec![18 * line_size, 3 * line_size] };
        assert_eq!(sizes, expected);
    }
}

#[tokio::test]
async fn real_folders_hold_odd_names() {
    let dir = tempfile::tempdir().unwrap();
    let storage = LocalStorage::new(Arc::new(RealPosix), dir.path(), 1);
    let world = World::new(&["k"]);
    let mut context = world.context(0, 1);
    context.options.set("path", "out put");
    context.environment.storage = Arc::new(storage.clone());
    let sink = FileSinkProvider::new(FileFormat::Json).sink(context).await.unwrap();
    assert_eq!(sink.describe(), format!("FileSink[file:{}/out put]", dir.path().display()));
    let odd = "a b/ü%日=~|<>`&+;$@!()";
    sink.write(batch(0, vec![rows(&[(odd, 4), (".", 1), ("..", 2)])])).await.unwrap();
    sink.commit(0).await.unwrap();
    let folder = dir.path().join("out put").join("k=a b%2Fü%25日%3D~|<>`&+;$@!()");
    assert!(folder.is_dir(), "{folder:?}");
    let log = storage.folder("out put/_spark_metadata").unwrap();
    for file in CompactibleLog::<SinkFile>::read(&log).await.unwrap().unwrap().entries {
        let value = ["/k=./", "/k=../"].iter().position(|folder| file.path.contains(folder)).map_or(4, |at| at + 1);
        let bytes = storage.folder(&file.path).unwrap().get("").await.unwrap().unwrap();
        assert_eq!(bytes, format!("{{\"v\":{value}}}\n"));
    }
}

#[tokio::test]
async fn refusals_come_before_anything_is_written() {
    let refused = |world: World| async move {
        let error = world.start(0, 1).await.unwrap_err().to_string();
        assert!(world.data_files().await.is_empty() && world.log().await.is_none());
        error
    };
    assert!(
        refused(World::new(&["zz"])).await.starts_with("Partition column zz not found in existing columns (k, v).")
    );
    assert!(refused(World::new(&["k", "v"])).await.starts_with("[ALL_PARTITION_COLUMNS_NOT_ALLOWED]"));
    assert!(refused(World { format: FileFormat::Text, ..World::new(&[]) }).await.contains("the column `v`"));
    let provider = FileSinkProvider::new(FileFormat::Json);
    assert!(!provider.supports(OutputMode::Update) && !provider.supports(OutputMode::Complete));
    let error = provider.check_options(&Options::new()).unwrap_err().to_string();
    assert!(error.starts_with("'path' is not specified."), "{error}");
    assert!(provider.check_options(&Options::new().with("path", "x").with("retention", "xyz")).is_err());
    let names: Vec<_> = FileFormat::ALL.map(|format| FileSinkProvider::new(format).short_name().to_owned()).into();
    assert_eq!(names, ["parquet", "json", "csv", "text"]);
}

#[tokio::test]
async fn partition_columns_may_stand_anywhere() {
    let world = World { format: FileFormat::Parquet, ..World::new(&["K"]) };
    let sink = world.start(0, 1).await.unwrap();
    sink.write(two(0)).await.unwrap();
    sink.commit(0).await.unwrap();
    let mut values = Vec::new();
    for file in world.log().await.unwrap().entries {
        assert!(file.path.contains("/k=a/") || file.path.contains("/k=b/"), "{}", file.path);
        let bytes = world.storage().folder(&file.path).unwrap().get("").await.unwrap().unwrap();
        let reader = ::parquet::arrow::arrow_reader::ParquetRecordBatchReader::try_new(bytes, 100).unwrap();
        for rows in reader {
            let rows = rows.unwrap();
            assert_eq!(rows.schema().fields().len(), 1);
            values.extend_from_slice(rows.column(0).as_primitive::<Int32Type>().values());
        }
    }
    assert_eq!(values, [1, 2, 3]);
}
