//! What is fuzzed: every parser of bytes from outside. Nothing may panic; an error is an answer.
//!
//! The fuzzer calls these functions with bytes of its own (`cargo fuzz run script`), and `cargo test` calls them with
//! the corpus and with small damages of it (`tests/fuzz_corpus.rs`).
#![allow(dead_code, reason = "each fuzz target uses one of these functions")]

use std::sync::Arc;

use object_store::memory::InMemory;
use wavetank::engine::checkpoint::{CommitLog, OffsetLog};
use wavetank::engine::sql::{duration, parse_ddl_schema, parse_script};
use wavetank::engine::storage::{LocalStorage, RealPosix, Storage};

/// A Spark SQL script.
pub fn script(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = parse_script(text);
    }
}

/// Interval texts: of watermarks, windows and triggers.
pub fn duration(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = duration::watermark_delay_ms(text);
        let _ = duration::window_duration_us(text);
        let _ = duration::trigger_interval_ms(text);
    }
}

/// A schema in Spark's DDL.
pub fn schema(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = parse_ddl_schema(text);
    }
}

/// JSON rows: permissive reading takes any text.
pub fn json_rows(data: &[u8]) {
    let schema = parse_ddl_schema("a BIGINT, b STRING, c DOUBLE, t TIMESTAMP, s STRUCT<x: INT, y: ARRAY<STRING>>");
    let schema = schema.expect("a good schema");
    let lines = String::from_utf8_lossy(data);
    let rows = wavetank::sources::parse_json_lines(&schema, &lines, &Default::default());
    rows.expect("permissive reading takes any text");
}

/// An entry of the offset log.
pub fn offset_log(data: &[u8]) {
    with_log_file("offsets", data, |storage, folder| {
        Box::pin(async move {
            if let Ok(log) = OffsetLog::open(storage, folder).await {
                let _ = log.get(0).await;
            }
        })
    });
}

/// An entry of the commit log.
pub fn commit_log(data: &[u8]) {
    with_log_file("commits", data, |storage, folder| {
        Box::pin(async move {
            if let Ok(log) = CommitLog::open(storage, folder).await {
                let _ = log.get(0).await;
            }
        })
    });
}

type Reading<'a> = std::pin::Pin<Box<dyn Future<Output = ()> + 'a>>;

fn with_log_file(
    name: &str,
    data: &[u8],
    read: impl for<'a> FnOnce(&'a dyn Storage, wavetank::engine::storage::Folder) -> Reading<'a>,
) {
    let storage = LocalStorage::new(Arc::new(RealPosix), "/", 0).with_store("mem", Arc::new(InMemory::new()));
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        let folder = storage.folder(&format!("mem://fuzz/{name}")).expect("a folder in memory");
        folder.put("0", data.to_vec().into()).await.expect("memory takes it");
        read(&storage, folder).await;
    });
}
