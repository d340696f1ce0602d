//! `df.write()`: static frames become files in each of Spark's save modes, and what cannot be is refused by its class.

use std::fs;
use std::path::Path;

use arrow::util::pretty::pretty_format_batches;
use tempfile::TempDir;
use wavetank::engine::sink::SaveMode;
use wavetank::{Environment, Session};

struct Place {
    folder: TempDir,
    session: Session,
}

fn place() -> Place {
    let folder = tempfile::tempdir().unwrap();
    let session = wavetank::session_builder(Environment::real(folder.path().to_owned())).build().unwrap();
    Place { folder, session }
}

impl Place {
    /// The rows that the session reads from a folder, sorted.
    async fn rows(&self, format: &str, path: &str) -> Vec<String> {
        let frame = self.session.read().format(format).schema_ddl("a INT, b STRING").unwrap().option("path", path);
        let table = pretty_format_batches(&frame.load().await.unwrap().collect().await.unwrap()).unwrap().to_string();
        let mut rows: Vec<_> = table.lines().filter(|line| line.starts_with("| ")).skip(1).map(str::to_owned).collect();
        rows.sort();
        rows
    }

    fn names(&self, path: &str) -> Vec<String> {
        let mut names = vec![];
        walk(&self.folder.path().join(path), &mut names);
        names.sort();
        names
    }
}

fn walk(folder: &Path, names: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => walk(&path, names),
            false => names.push(path.file_name().unwrap().to_string_lossy().into_owned()),
        }
    }
}

#[tokio::test]
async fn every_mode_in_every_format() {
    for format in ["parquet", "json", "csv"] {
        let place = place();
        let one = place.session.sql("SELECT 1 AS a, 'x' AS b").await.unwrap();
        let two = place.session.sql("SELECT 2 AS a, 'y' AS b").await.unwrap();
        one.write().format(format).save("out").await.unwrap();
        assert!(place.names("out").contains(&"_SUCCESS".to_owned()));
        assert_eq!(place.rows(format, "out").await, ["| 1 | x |"]);

        let refused = two.write().format(format).save("out").await.unwrap_err();
        assert_eq!(refused.class(), Some("PATH_ALREADY_EXISTS"), "{refused}");
        two.write().format(format).mode(SaveMode::Ignore).save("out").await.unwrap();
        assert_eq!(place.rows(format, "out").await, ["| 1 | x |"]);

        two.write().format(format).mode(SaveMode::Append).save("out").await.unwrap();
        two.write().format(format).mode(SaveMode::Append).save("out").await.unwrap();
        assert_eq!(place.rows(format, "out").await, ["| 1 | x |", "| 2 | y |", "| 2 | y |"]);

        two.write().format(format).mode(SaveMode::Overwrite).save("out").await.unwrap();
        assert_eq!(place.rows(format, "out").await, ["| 2 | y |"]);
        assert_eq!(place.names("out").len(), 2, "what was replaced is gone");
    }
}

#[tokio::test]
async fn a_frame_may_read_what_it_overwrites() {
    let place = place();
    place.session.sql("SELECT 1 AS a, 'x' AS b").await.unwrap().write().save("out").await.unwrap();
    let read = place.session.read().format("parquet").schema_ddl("a INT, b STRING").unwrap().option("path", "out");
    let raised = read.load().await.unwrap().select_expr(&["a + 1 AS a", "b"]).unwrap();
    raised.write().mode(SaveMode::Overwrite).save("out").await.unwrap();
    assert_eq!(place.rows("parquet", "out").await, ["| 2 | x |"]);
}

#[tokio::test]
async fn folders_by_value_are_columns_again() {
    let place = place();
    let frame = place.session.sql("SELECT a, b FROM VALUES (1, 'x'), (2, 'y'), (3, 'y') AS t(a, b)").await.unwrap();
    frame.write().partition_by(&["b"]).save("out").await.unwrap();
    assert!(place.folder.path().join("out/b=y").is_dir());
    assert_eq!(place.rows("parquet", "out").await, ["| 1 | x |", "| 2 | y |", "| 3 | y |"]);
}

#[tokio::test]
async fn a_write_that_fails_leaves_what_was_there() {
    let place = place();
    place.session.sql("SELECT 1 AS a, 'x' AS b").await.unwrap().write().save("out").await.unwrap();
    let names = place.names("out");
    let failing = place.session.sql("SELECT CAST(b AS INT) AS a, b FROM VALUES ('x') AS t(b)").await.unwrap();
    failing.write().mode(SaveMode::Overwrite).save("out").await.unwrap_err();
    assert_eq!(place.names("out"), names);
}

#[tokio::test]
async fn what_cannot_be_written_is_refused() {
    let place = place();
    let stream = place.session.read_stream().format("rate-micro-batch").option("rowsPerBatch", 1).load().await.unwrap();
    let error = stream.write().save("out").await.unwrap_err();
    assert_eq!(error.class(), Some("CALL_ON_STREAMING_DATASET_UNSUPPORTED"));
    let frame = place.session.sql("SELECT 1 AS a").await.unwrap();
    let error = frame.write().format("memory").run().await.unwrap_err().to_string();
    assert!(error.contains("does not support writing a static frame"), "{error}");
    let error = frame.write().format("parqet").save("out").await.unwrap_err().to_string();
    assert!(error.contains("Did you mean 'parquet'?"), "{error}");
    let error = frame.write().option("path", "a").save("out").await.unwrap_err().to_string();
    assert!(error.contains("Give the path once"), "{error}");
    assert_eq!("nothing".parse::<SaveMode>().unwrap_err().class(), Some("INVALID_SAVE_MODE"));
    frame.write().format("noop").run().await.unwrap();
    assert!(!place.folder.path().join("out").exists());
}
