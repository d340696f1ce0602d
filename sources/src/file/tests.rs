//! The file source over real files: the worked examples of `spec/06`, and what a stranger would try.
#![expect(clippy::disallowed_methods, reason = "tests make files with given times")]

use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{DataType, Int32Type, Schema, SchemaRef};
use datafusion::prelude::SessionContext;
use parquet::arrow::ArrowWriter;
use wavetank_engine::Result;
use wavetank_engine::checkpoint::{CompactibleLog, CompactibleOptions, SinkFile};
use wavetank_engine::environment::Environment;
use wavetank_engine::options::Options;
use wavetank_engine::source::{Offset, ReadLimit, Source, SourceContext, SourceDefinition, SourceProvider};
use wavetank_engine::sql::types::parse_ddl_schema;

use super::{FileFormat, FileProvider};
use crate::format::facts::shown;
use crate::test_world::{collect, now_environment};

/// A moment for files to be changed at; tests count seconds from here.
const DAY_0_MS: u64 = 1_700_000_000_000;

struct World {
    dir: tempfile::TempDir,
    environment: Environment,
}

impl World {
    fn new() -> Self {
        let world = Self { dir: tempfile::tempdir().unwrap(), environment: now_environment() };
        fs::create_dir(world.path("in")).unwrap();
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A file that was changed so many seconds after the start.
    fn write(&self, name: &str, content: impl AsRef<[u8]>, second: u64) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        let changed = UNIX_EPOCH + Duration::from_millis(DAY_0_MS + second * 1000);
        File::options().write(true).open(&path).unwrap().set_modified(changed).unwrap();
    }

    fn definition(&self, schema: Option<&str>, options: &[(&str, &str)]) -> SourceDefinition {
        let options: Options = options.iter().copied().collect();
        let path = options.get("path").map_or_else(|| self.path("in"), |path| self.path(path));
        let schema = schema.map(|schema| parse_ddl_schema(schema).unwrap());
        SourceDefinition { schema, options: options.with("path", path.to_str().unwrap()) }
    }

    async fn open(
        &self,
        format: FileFormat,
        schema: Option<&str>,
        options: &[(&str, &str)],
    ) -> Result<Arc<dyn Source>> {
        let (provider, definition) = (FileProvider::new(format), self.definition(schema, options));
        let schema = provider.stream_schema(&definition, &self.environment).await?;
        let folder = self.environment.storage.folder(self.path("checkpoint/sources/0").to_str().unwrap())?;
        provider.stream(&definition, SourceContext { environment: self.environment.clone(), folder, schema }).await
    }

    async fn text(&self, options: &[(&str, &str)]) -> Arc<dyn Source> {
        self.open(FileFormat::Text, None, options).await.unwrap()
    }
}

async fn rows(source: &dyn Source, start: Option<&Offset>, end: &Offset) -> Result<Vec<String>> {
    let batches = collect(source, start, end, None).await?;
    let mut rows: Vec<String> = shown(&batches).iter().map(|row| row["value"].as_str().unwrap().to_string()).collect();
    rows.sort();
    Ok(rows)
}

/// Runs triggers until one finds nothing new; gives the rows of each batch.
async fn drain(source: &dyn Source, mut at: Option<Offset>, limit: ReadLimit) -> (Vec<Vec<String>>, Option<Offset>) {
    let mut batches = Vec::new();
    loop {
        let end = source.latest_offset(at.as_ref(), limit).await.unwrap();
        if end == at {
            return (batches, at);
        }
        batches.push(rows(source, at.as_ref(), end.as_ref().unwrap()).await.unwrap());
        at = end;
    }
}

fn offset(step: u64) -> Offset {
    Offset::new(format!("{{\"logOffset\":{step}}}"))
}

#[tokio::test]
async fn the_worked_examples_of_limits() {
    let seven = ["1", "2", "3", "4", "5", "6", "7"];
    let eight = ["1", "2", "3", "4", "5", "6", "7", "8"];
    let big = ["bigbigbigb", "1", "2", "3", "4", "5", "6", "7", "8"];
    for (files, options, expected) in [
        (&seven[..], vec![("maxFilesPerTrigger", "2")], "1,2|3,4|5,6|7"),
        (&seven, vec![("maxFilesPerTrigger", "2"), ("latestFirst", "true")], "6,7|4,5|2,3|1"),
        (&seven, vec![("maxFilesPerTrigger", "2"), ("maxCachedFiles", "1")], "1,2|3|4,5|6|7"),
        (&seven, vec![("maxFilesPerTrigger", "2"), ("maxCachedFiles", "0")], "1,2|3,4|5,6|7"),
        (&seven, vec![], "1,2,3,4,5,6,7"),
        (&eight, vec![("maxBytesPerTrigger", "3")], "1,2,3|4,5,6|7,8"),
        (&big, vec![("maxBytesPerTrigger", "3")], "bigbigbigb|1,2,3|4,5,6|7,8"),
        (&eight, vec![("maxBytesPerTrigger", "3"), ("latestFirst", "true")], "6,7,8|3,4,5|1,2"),
    ] {
        let world = World::new();
        for (at, content) in files.iter().enumerate() {
            world.write(&format!("in/f{at}"), content, at as u64);
        }
        let source = world.text(&options).await;
        let (batches, _) = drain(&*source, None, ReadLimit::Default).await;
        let found: Vec<_> = batches.iter().map(|batch| batch.join(",")).collect();
        assert_eq!(found.join("|"), expected, "{options:?}");
        assert_eq!(drain(&*source, None, ReadLimit::AllAvailable).await.0.concat().len(), files.len());
    }
}

#[tokio::test]
async fn the_log_is_spark_s_and_a_restart_goes_on() {
    let world = World::new();
    world.write("in/a b.txt", "1", 1);
    world.write("in/c.txt", "2", 2);
    let options = [("maxFilesPerTrigger", "1")];
    let source = world.text(&options).await;
    assert_eq!(source.describe(), format!("FileStreamSource[file:{}]", world.path("in").display()));
    let (batches, at) = drain(&*source, None, ReadLimit::Default).await;
    assert_eq!((batches.concat(), at), (vec!["1".to_string(), "2".into()], Some(offset(1))));
    let log = fs::read_to_string(world.path("checkpoint/sources/0/0")).unwrap();
    let expected = format!(
        "v1\n{{\"path\":\"file://{}/a%20b.txt\",\"timestamp\":{},\"batchId\":0,\"wavetank.crc32\":\"",
        world.path("in").display(),
        DAY_0_MS + 1000
    );
    assert!(log.starts_with(&expected), "{log}");
    world.write("in/a b.txt", "rewritten", 50);
    world.write("in/late but not too late", "3", 0);
    for step in 2..12 {
        world.write(&format!("in/more{step}"), "x", step);
    }
    let again = world.text(&options).await;
    assert_eq!(rows(&*again, Some(&offset(0)), &offset(1)).await.unwrap(), ["2"]);
    let (batches, at) = drain(&*again, Some(offset(1)), ReadLimit::Default).await;
    assert_eq!((batches[0].concat(), batches.len(), at), ("3".to_string(), 11, Some(offset(12))));
    assert!(world.path("checkpoint/sources/0/9.compact").exists());
    // Compacted or not, a range is the files of its own steps.
    let again = world.text(&options).await;
    assert_eq!(rows(&*again, Some(&offset(1)), &offset(2)).await.unwrap(), ["3"]);
}

#[tokio::test]
async fn a_crash_after_the_source_log_loses_nothing() {
    let world = World::new();
    world.write("in/a", "1", 1);
    let source = world.text(&[]).await;
    // Logged, but the query died before it promised the offset.
    assert_eq!(source.latest_offset(None, ReadLimit::Default).await.unwrap(), Some(offset(0)));
    let again = world.text(&[]).await;
    assert_eq!(again.latest_offset(None, ReadLimit::Default).await.unwrap(), Some(offset(0)));
    assert_eq!(rows(&*again, None, &offset(0)).await.unwrap(), ["1"]);
    // With another file there by then, both are read.
    world.write("in/b", "2", 2);
    let again = world.text(&[]).await;
    assert_eq!(again.latest_offset(None, ReadLimit::Default).await.unwrap(), Some(offset(1)));
    assert_eq!(rows(&*again, None, &offset(1)).await.unwrap(), ["1", "2"]);
}

#[tokio::test]
async fn a_step_that_was_logged_but_not_promised_is_a_batch_of_its_own() {
    let world = World::new();
    for (second, name) in ["a", "b", "c", "d"].iter().enumerate() {
        world.write(&format!("in/{name}"), name, second as u64);
    }
    let options = [("maxFilesPerTrigger", "1")];
    let source = world.text(&options).await;
    let first = source.latest_offset(None, ReadLimit::Default).await.unwrap();
    // The second step is logged; the process dies before it is promised.
    assert_eq!(source.latest_offset(first.as_ref(), ReadLimit::Default).await.unwrap(), Some(offset(1)));
    drop(source);
    let source = world.text(&options).await;
    let (batches, end) = drain(source.as_ref(), first, ReadLimit::Default).await;
    assert_eq!((batches, end), (vec![vec!["b".into()], vec!["c".into()], vec!["d".into()]], Some(offset(3))));
}

#[tokio::test]
async fn nothing_there_is_no_offset_and_lost_logs_are_noticed() {
    let world = World::new();
    let source = world.text(&[]).await;
    assert_eq!(source.latest_offset(None, ReadLimit::Default).await.unwrap(), None);
    for error in [
        source.latest_offset(Some(&offset(3)), ReadLimit::Default).await.unwrap_err(),
        source.read(None, &offset(0), None).await.unwrap_err(),
        source.read(None, &Offset::new("[1]"), None).await.unwrap_err(),
    ] {
        assert!(error.to_string().contains("checkpoint"), "{error}");
    }
}

#[tokio::test]
async fn files_that_are_gone() {
    let world = World::new();
    world.write("in/a", "1", 1);
    world.write("in/b", "2", 2);
    let source = world.text(&[]).await;
    let end = source.latest_offset(None, ReadLimit::Default).await.unwrap().unwrap();
    fs::remove_file(world.path("in/a")).unwrap();
    assert_eq!(rows(&*source, None, &end).await.unwrap(), ["2"]);
    // Gone between planning and reading.
    let splits = source.read(None, &end, None).await.unwrap();
    fs::remove_file(world.path("in/b")).unwrap();
    let read = async |split: &Arc<dyn wavetank_engine::source::Split>| {
        let batches: Result<Vec<RecordBatch>, _> = futures::TryStreamExt::try_collect(split.open().unwrap()).await;
        batches.map_err(wavetank_engine::Error::from)
    };
    let error = read(&splits[0]).await.unwrap_err();
    assert_eq!(error.class(), Some("FAILED_READ_FILE.FILE_NOT_EXIST"));
    assert!(error.to_string().contains("in/b"), "{error}");
    world.write("in/c", "3", 3);
    let source = world.text(&[("ignoreMissingFiles", "true")]).await;
    let end = source.latest_offset(Some(&end), ReadLimit::Default).await.unwrap().unwrap();
    let splits = source.read(Some(&offset(0)), &end, None).await.unwrap();
    fs::remove_file(world.path("in/c")).unwrap();
    assert!(read(&splits[0]).await.unwrap().is_empty());
}

#[tokio::test]
async fn age_counts_from_the_newest_file_read() {
    let world = World::new();
    world.write("in/old", "old", 0);
    world.write("in/new", "new", 1000);
    let source = world.text(&[("maxFileAge", "100s")]).await;
    let (batches, at) = drain(&*source, None, ReadLimit::Default).await;
    assert_eq!(batches.concat(), ["new", "old"], "the first batch takes all");
    world.write("in/too old", "too old", 800);
    world.write("in/old enough", "old enough", 950);
    world.write("in/old", "forgotten and rewritten", 960);
    let (batches, _) = drain(&*source, at, ReadLimit::Default).await;
    assert_eq!(batches.concat(), ["forgotten and rewritten", "old enough"]);
}

#[tokio::test]
async fn names_alone_can_be_a_file_s_identity() {
    let world = World::new();
    world.write("in/x/f", "1", 1);
    let options = [("fileNameOnly", "true"), ("recursiveFileLookup", "true")];
    let source = world.text(&options).await;
    let (_, at) = drain(&*source, None, ReadLimit::Default).await;
    world.write("in/y/f", "2", 2);
    world.write("in/y/g", "3", 3);
    assert_eq!(drain(&*source, at, ReadLimit::Default).await.0.concat(), ["3"]);
}

#[tokio::test]
async fn available_now_and_once() {
    let world = World::new();
    for at in 1..4 {
        world.write(&format!("in/f{at}"), at.to_string(), at);
    }
    let source = world.text(&[("maxFilesPerTrigger", "2")]).await;
    let (batches, at) = drain(&*source, None, ReadLimit::AllAvailable).await;
    assert_eq!(batches.len(), 1);
    for at in 4..8 {
        world.write(&format!("in/f{at}"), at.to_string(), at);
    }
    assert!(source.pin_available_now().await.unwrap());
    world.write("in/f8", "8", 8);
    let (batches, at) = drain(&*source, at, ReadLimit::Default).await;
    assert_eq!(batches, [["4", "5"], ["6", "7"]]);
    let next_run = world.text(&[]).await;
    assert_eq!(drain(&*next_run, at, ReadLimit::Default).await.0.concat(), ["8"]);
}

#[tokio::test]
async fn what_is_listed() {
    let files =
        ["in/a.txt", "in/b.csv", "in/_hidden", "in/.hidden", "in/c.txt._COPYING_", "in/sub/d.txt", "in/sub/deep/e.txt"];
    for (path, options, expected) in [
        ("in", vec![], vec!["a.txt", "b.csv"]),
        ("in/a.txt", vec![], vec!["a.txt"]),
        ("in", vec![("pathGlobFilter", "*.txt")], vec!["a.txt"]),
        ("in", vec![("recursiveFileLookup", "true")], vec!["a.txt", "b.csv", "d.txt", "e.txt"]),
        ("in/*.txt", vec![], vec!["a.txt"]),
        ("in/{sub,none}", vec![], vec!["d.txt"]),
        ("*/sub", vec![], vec!["d.txt"]),
        ("i?/s*/d*", vec![], vec!["d.txt", "e.txt"]),
        ("in/nothing*", vec![], vec![]),
    ] {
        let world = World::new();
        for file in files {
            world.write(file, file.rsplit('/').next().unwrap(), 1);
        }
        let mut options = options.clone();
        options.push(("path", path));
        let source = world.text(&options).await;
        assert_eq!(drain(&*source, None, ReadLimit::Default).await.0.concat(), expected, "{options:?}");
    }
}

#[tokio::test]
async fn partition_folders_are_columns() {
    let world = World::new();
    world.write("in/d=2024-03-01/n=1/a.json", "{\"v\":1,\"n\":7}\n", 1);
    world.write("in/d=2024-03-02/n=2/b.json", "{\"v\":2}\n", 2);
    world.write("in/stray.json", "{\"v\":9}\n", 2);
    let source = world.open(FileFormat::Json, Some("n BIGINT, v INT"), &[]).await.unwrap();
    let names: Vec<_> = source.schema().fields().iter().map(|field| format!("{}", field)).collect();
    assert!(names[0].contains("\"v\"") && names[1].contains("Date32") && names[2].contains("Int64"), "{names:?}");
    world.write("in/d=__HIVE_DEFAULT_PARTITION__/n=3/c.json", "{\"v\":3}\n", 3);
    world.write("in/other=1/x.json", "{\"v\":4}\n", 3);
    let end = source.latest_offset(None, ReadLimit::Default).await.unwrap().unwrap();
    let found = shown(&collect(&*source, None, &end, None).await.unwrap());
    let expected = r#"[{"v":3,"d":null,"n":3},{"v":1,"d":"2024-03-01","n":1},{"v":2,"d":"2024-03-02","n":2}]"#;
    let mut sorted: Vec<String> = found.iter().map(ToString::to_string).collect();
    sorted.sort();
    let mut wanted: Vec<String> =
        serde_json::from_str::<Vec<serde_json::Value>>(expected).unwrap().iter().map(ToString::to_string).collect();
    wanted.sort();
    assert_eq!(sorted, wanted);
    // Any columns in any order, also none.
    let some = collect(&*source, None, &end, Some(&[2, 0])).await.unwrap();
    assert_eq!(some[0].schema().field(0).name(), "n");
    let none = collect(&*source, None, &end, Some(&[])).await.unwrap();
    assert_eq!(none.iter().map(RecordBatch::num_rows).sum::<usize>(), 3);
    world.write("in/n=5/d=1/x.json", "", 4);
    let error = world.open(FileFormat::Json, Some("v INT"), &[]).await.unwrap_err();
    assert_eq!(error.class(), Some("CONFLICTING_PARTITION_COLUMN_NAMES"));
}

#[tokio::test]
async fn folders_that_come_between_definition_and_start_change_no_column() {
    let world = World::new();
    world.write("in/K=1/a.json", "{\"v\":1}\n", 1);
    for (declared, expected) in [("v INT, k STRING", "v INT, k STRING"), ("v INT", "v INT, K INT")] {
        let provider = FileProvider::new(FileFormat::Json);
        let definition = world.definition(Some(declared), &[]);
        let schema = provider.stream_schema(&definition, &world.environment).await.unwrap();
        assert_eq!(schema.fields(), parse_ddl_schema(expected).unwrap().fields());
        // The new value alone would make the column wider.
        world.write("in/K=3000000000/b.json", "", 2);
        let folder = world.environment.storage.folder(world.path(declared).to_str().unwrap()).unwrap();
        let context = SourceContext { environment: world.environment.clone(), folder, schema: Arc::clone(&schema) };
        let source = provider.stream(&definition, context).await.unwrap();
        assert_eq!(source.schema(), schema);
        fs::remove_dir_all(world.path("in/K=3000000000")).unwrap();
        let end = source.latest_offset(None, ReadLimit::Default).await.unwrap().unwrap();
        let found = shown(&collect(&*source, None, &end, None).await.unwrap());
        assert_eq!(found[0]["v"], 1);
        assert!(!found[0].as_object().unwrap().values().any(serde_json::Value::is_null), "{found:?}");
    }
}

#[tokio::test]
async fn a_sink_s_log_is_the_truth() {
    let world = World::new();
    world.write("in/part-0", "1", 1);
    world.write("in/part-1-never-committed", "2", 2);
    let uri = |name: &str| format!("file://{}", world.path(name).display());
    let folder = world.environment.storage.folder(world.path("in/_spark_metadata").to_str().unwrap()).unwrap();
    let mut log = CompactibleLog::open(&world.environment, folder, CompactibleOptions::default()).await.unwrap();
    log.add(0, vec![SinkFile::added(uri("in/part-0"), 1, 5)]).await.unwrap();
    let source = world.text(&[]).await;
    let (batches, at) = drain(&*source, None, ReadLimit::Default).await;
    assert_eq!(batches.concat(), ["1"]);
    world.write("in/part-2", "3", 3);
    log.add(1, vec![SinkFile::added(uri("in/part-2"), 1, 6)]).await.unwrap();
    assert_eq!(drain(&*source, at, ReadLimit::Default).await.0.concat(), ["3"]);
    let source = world.text(&[("cleanSource", "delete")]).await;
    let error = source.latest_offset(None, ReadLimit::Default).await.unwrap_err();
    assert!(error.to_string().contains("Clean up source files is not supported"), "{error}");
    let table = FileProvider::new(FileFormat::Text).table(&world.definition(None, &[]), &world.environment).await;
    assert_eq!(count(table.unwrap()).await.unwrap(), 2);
}

#[tokio::test]
async fn files_are_cleaned_one_batch_late() {
    let world = World::new();
    world.write("in/a.txt", "1", 1);
    world.write("in/b.txt", "2", 2);
    let archive = world.path("arch");
    let options =
        [("maxFilesPerTrigger", "1"), ("cleanSource", "ARCHIVE"), ("sourceArchiveDir", archive.to_str().unwrap())];
    let source = world.text(&options).await;
    drain(&*source, None, ReadLimit::Default).await;
    source.commit(&offset(0)).await.unwrap();
    source.commit(&offset(0)).await.unwrap();
    let archived = format!("{}{}", archive.display(), world.path("in/a.txt").display());
    assert_eq!(fs::read_to_string(archived).unwrap(), "1");
    assert!(!world.path("in/a.txt").exists() && world.path("in/b.txt").exists());
    let source = world.text(&[("cleanSource", "delete")]).await;
    source.commit(&offset(1)).await.unwrap();
    assert!(!world.path("in/b.txt").exists());
    let inside = world.path("in/archive");
    let options = [("cleanSource", "archive"), ("sourceArchiveDir", inside.to_str().unwrap())];
    let error = world.open(FileFormat::Text, None, &options).await.unwrap_err();
    assert!(error.to_string().contains("possibly match with source pattern"), "{error}");
}

#[tokio::test]
async fn definitions_are_checked() {
    let world = World::new();
    for (format, schema, options, text) in [
        (FileFormat::Json, Some("a INT"), vec![("path", "nowhere")], "[PATH_NOT_FOUND] Path does not exist: file:///"),
        (FileFormat::Json, None, vec![], "Schema must be specified when creating a streaming source DataFrame."),
        (FileFormat::Json, Some("a INT"), vec![("maxFiles", "1")], "has no option 'maxFiles'"),
        (FileFormat::Text, Some("a INT"), vec![], "single column of type STRING"),
        (FileFormat::Csv, Some("a ARRAY<INT>"), vec![], "[UNSUPPORTED_DATA_TYPE_FOR_DATASOURCE]"),
        (FileFormat::Csv, Some("a INT"), vec![("multiLine", "true")], "not supported for CSV"),
        (FileFormat::Json, Some("_corrupt_record INT"), vec![], "[INVALID_CORRUPT_RECORD_TYPE]"),
        (FileFormat::Json, Some("a INT"), vec![("timestampFormat", "yyyy-QQ")], "DATETIME_PATTERN_RECOGNITION"),
    ] {
        let definition = world.definition(schema, &options);
        let error = FileProvider::new(format).stream_schema(&definition, &world.environment).await.unwrap_err();
        assert!(error.to_string().contains(text), "{options:?}: {error}");
    }
    let schema = FileProvider::new(FileFormat::Json)
        .stream_schema(&world.definition(Some("a INT NOT NULL, s STRUCT<x: INT NOT NULL>"), &[]), &world.environment)
        .await
        .unwrap();
    assert!(schema.field(0).is_nullable());
    let mut twins = world.definition(None, &[]);
    let field = |name: &str| arrow::datatypes::Field::new(name, DataType::Int32, true);
    twins.schema = Some(Arc::new(Schema::new(vec![field("a"), field("A")])));
    let error = FileProvider::new(FileFormat::Json).stream_schema(&twins, &world.environment).await.unwrap_err();
    assert_eq!(error.class(), Some("COLUMN_ALREADY_EXISTS"));
    let DataType::Struct(fields) = schema.field(1).data_type() else { panic!("a struct") };
    assert!(fields[0].is_nullable());
    // Wrong values are found when the query starts.
    let options = [("maxFilesPerTrigger", "0")];
    let definition = world.definition(Some("a INT"), &options);
    FileProvider::new(FileFormat::Json).stream_schema(&definition, &world.environment).await.unwrap();
    assert!(world.open(FileFormat::Json, Some("a INT"), &options).await.is_err());
}

#[tokio::test]
async fn only_the_corrupt_column_is_refused() {
    let world = World::new();
    world.write("in/a", "x", 1);
    let source = world.open(FileFormat::Json, Some("a INT, _corrupt_record STRING"), &[]).await.unwrap();
    let end = source.latest_offset(None, ReadLimit::Default).await.unwrap().unwrap();
    let error = source.read(None, &end, Some(&[1])).await.unwrap_err();
    assert_eq!(error.class(), Some("UNSUPPORTED_FEATURE.QUERY_ONLY_CORRUPT_RECORD_COLUMN"));
    assert_eq!(collect(&*source, None, &end, Some(&[1, 0])).await.unwrap()[0].num_rows(), 1);
}

#[tokio::test]
async fn empty_files_are_batches_without_rows_and_growing_files_are_read_once() {
    let world = World::new();
    world.write("in/empty.json", "", 1);
    let source = world.open(FileFormat::Json, Some("a INT"), &[("maxFilesPerTrigger", "1")]).await.unwrap();
    let first = source.latest_offset(None, ReadLimit::Default).await.unwrap();
    assert_eq!(first, Some(offset(0)));
    assert!(collect(&*source, None, &offset(0), None).await.unwrap().is_empty());
    world.write("in/half.json", "{\"a\":1}\n{\"a\":", 2);
    let second = source.latest_offset(first.as_ref(), ReadLimit::Default).await.unwrap().unwrap();
    let found = shown(&collect(&*source, first.as_ref(), &second, None).await.unwrap());
    assert_eq!(serde_json::Value::from(found).to_string(), r#"[{"a":1},{"a":null}]"#);
    world.write("in/half.json", "{\"a\":1}\n{\"a\":2}\n", 3);
    assert_eq!(source.latest_offset(Some(&second), ReadLimit::Default).await.unwrap(), Some(second));
}

#[tokio::test]
async fn large_and_many_files_in_parallel_parts() {
    let world = World::new();
    let line = |n: u64| format!("{{\"n\":{n},\"pad\":\"{}\"}}\n", "x".repeat((n % 90) as usize));
    world.write("in/large.json", (0..150_000).map(line).collect::<String>(), 1);
    for n in 0..200 {
        world.write(&format!("in/small{n}.json"), line(150_000 + n), 2);
    }
    let source = world.open(FileFormat::Json, Some("n BIGINT"), &[]).await.unwrap();
    let end = source.latest_offset(None, ReadLimit::Default).await.unwrap().unwrap();
    let splits = source.read(None, &end, None).await.unwrap();
    assert!((4..12).contains(&splits.len()), "{} splits", splits.len());
    let batches = collect(&*source, None, &end, None).await.unwrap();
    assert!(batches.len() < 40, "small files share batches: {}", batches.len());
    let mut numbers: Vec<i64> = batches
        .iter()
        .flat_map(|batch| batch.column(0).as_primitive::<arrow::datatypes::Int64Type>().values().to_vec())
        .collect();
    numbers.sort_unstable();
    assert!(numbers.into_iter().eq(0..150_200));
}

fn parquet(batch: &RecordBatch) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), None).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
    bytes
}

fn parquet_rows() -> RecordBatch {
    use arrow::array::{ArrayRef, Int32Array, StringArray, StructArray, TimestampNanosecondArray};
    let inner: Vec<(&str, ArrayRef)> = vec![("X", Arc::new(Int32Array::from(vec![Some(5), None])))];
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("Id", Arc::new(Int32Array::from(vec![1, 2]))),
        ("name", Arc::new(StringArray::from(vec![Some("a"), None]))),
        ("t", Arc::new(TimestampNanosecondArray::from(vec![1_700_000_000_123_456_789, -1]).with_timezone("UTC"))),
        ("s", Arc::new(StructArray::try_from(inner).unwrap())),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

#[tokio::test]
async fn parquet_columns_by_name_and_adapted() {
    let world = World::new();
    world.write("in/a.parquet", parquet(&parquet_rows()), 1);
    let schema = "t TIMESTAMP, id BIGINT, gone DOUBLE, s STRUCT<x: BIGINT, y: STRING>, name STRING";
    let source = world.open(FileFormat::Parquet, Some(schema), &[]).await.unwrap();
    let end = source.latest_offset(None, ReadLimit::Default).await.unwrap().unwrap();
    let found = shown(&collect(&*source, None, &end, None).await.unwrap());
    let expected = concat!(
        r#"[{"t":"2023-11-14T22:13:20.123456Z","id":1,"gone":null,"s":{"x":5,"y":null},"name":"a"},"#,
        r#"{"t":"1969-12-31T23:59:59.999999Z","id":2,"gone":null,"s":{"x":null,"y":null},"name":null}]"#
    );
    assert_eq!(serde_json::Value::from(found).to_string(), expected);
    for projection in [&[][..], &[2], &[4, 1]] {
        let batches = collect(&*source, None, &end, Some(projection)).await.unwrap();
        assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 2, "{projection:?}");
    }
    let source = world.open(FileFormat::Parquet, Some("id STRING"), &[]).await.unwrap();
    let error = collect(&*source, None, &end, None).await.unwrap_err();
    assert_eq!(error.class(), Some("FAILED_READ_FILE.PARQUET_COLUMN_DATA_TYPE_MISMATCH"));
    world.write("in/b.parquet", "no parquet", 2);
    let end = source.latest_offset(Some(&end), ReadLimit::Default).await.unwrap().unwrap();
    let error = collect(&*source, Some(&offset(0)), &end, None).await.unwrap_err();
    assert_eq!(error.class(), Some("FAILED_READ_FILE.CANNOT_READ_FILE_FOOTER"));
    assert!(error.to_string().contains("in/b.parquet"), "{error}");
}

async fn count(table: Arc<dyn datafusion::catalog::TableProvider>) -> datafusion::error::Result<usize> {
    SessionContext::new().read_table(table)?.count().await
}

#[tokio::test]
async fn static_tables_have_the_files_of_their_definition() {
    let world = World::new();
    world.write("in/a.csv", "1,x\n2,y\n", 1);
    world.write("in/old.csv", "8,x\n", 0);
    let csv = FileProvider::new(FileFormat::Csv);
    let after = ("modifiedAfter", "2023-11-14T22:13:20.5");
    let definition = world.definition(Some("n INT, s STRING"), &[after]);
    let table = csv.table(&definition, &world.environment).await.unwrap();
    world.write("in/b.csv", "3,z\n", 2);
    assert_eq!(count(Arc::clone(&table)).await.unwrap(), 2);
    let rows = SessionContext::new().read_table(Arc::clone(&table)).unwrap().select_columns(&["n"]).unwrap();
    let batches = rows.collect().await.unwrap();
    assert_eq!(batches[0].column(0).as_primitive::<Int32Type>().values(), &[1, 2]);
    fs::remove_file(world.path("in/a.csv")).unwrap();
    assert!(count(table).await.unwrap_err().to_string().contains("a.csv"));
    let error = csv.table(&world.definition(None, &[]), &world.environment).await.unwrap_err();
    assert_eq!(error.class(), Some("UNABLE_TO_INFER_SCHEMA"));
}

#[tokio::test]
async fn a_parquet_table_brings_its_schema() {
    let world = World::new();
    let provider = FileProvider::new(FileFormat::Parquet);
    let error = provider.table(&world.definition(None, &[]), &world.environment).await.unwrap_err();
    assert_eq!(error.class(), Some("UNABLE_TO_INFER_SCHEMA"));
    world.write("in/k=1/a.parquet", parquet(&record_batch_of_ids()), 1);
    let table = provider.table(&world.definition(None, &[]), &world.environment).await.unwrap();
    let schema: SchemaRef = table.schema();
    let expected = parse_ddl_schema("id INT, k INT").unwrap();
    assert_eq!(Schema::clone(&schema).fields(), expected.fields());
    assert_eq!(count(table).await.unwrap(), 2);
}

fn record_batch_of_ids() -> RecordBatch {
    let column: arrow::array::ArrayRef = Arc::new(arrow::array::Int32Array::from(vec![1, 2]));
    RecordBatch::try_from_iter([("id", column)]).unwrap()
}
