//! What is fuzzed: every parser of bytes from outside. Nothing may panic; an error is an answer.
//!
//! The fuzzer calls these functions with bytes of its own (`cargo fuzz run script`), and `cargo test` calls them with
//! the corpus and with small damages of it (`tests/fuzz_corpus.rs`).
#![allow(dead_code, reason = "each fuzz target uses one of these functions")]

use std::sync::Arc;

use object_store::memory::InMemory;
use wavetank::engine::checkpoint::{CommitLog, OffsetLog};
use wavetank::engine::sql::{duration, parse_ddl_schema, parse_script};
use wavetank::engine::state::{HotStateStore, SnapshotPolicy, StateSchema, StateStore, StoreIdentity, StoreSpec};
use wavetank::engine::storage::{Folder, LocalStorage, RealPosix, Storage};
use wavetank::sim::campaign::check;
use wavetank::sim::disk::CrashImage;
use wavetank::sim::pipeline::Pipeline;
use wavetank::sim::{Fault, Harm, Scenario, draw, page, run};

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

/// CSV rows: permissive reading takes any text.
pub fn csv_rows(data: &[u8]) {
    let schema = parse_ddl_schema("a BIGINT, b STRING, c DOUBLE, t TIMESTAMP, d DATE, n DECIMAL(10,2), o BOOLEAN");
    let schema = schema.expect("a good schema");
    let lines = String::from_utf8_lossy(data);
    let rows = wavetank::sources::parse_csv_lines(&schema, &lines, &Default::default());
    rows.expect("permissive reading takes any text");
}

/// Times of a test, as people write them, go through the JSON reader's patterns too.
pub fn time_texts(data: &[u8]) {
    let schema = parse_ddl_schema("t TIMESTAMP, d DATE, n TIMESTAMP_NTZ").expect("a good schema");
    let text = String::from_utf8_lossy(data);
    let row = serde_json::json!({"t": text, "d": text, "n": text}).to_string();
    let rows = wavetank::sources::parse_json_lines(&schema, &row, &Default::default());
    rows.expect("permissive reading takes any text");
}

/// The store whose files are fuzzed.
pub fn store(folder: &Folder) -> HotStateStore {
    let columns = |ddl: &str| parse_ddl_schema(ddl).expect("a good schema");
    let schema = StateSchema::new(columns("word STRING, n BIGINT"), columns("sum BIGINT")).expect("types of state");
    let identity = StoreIdentity { operator_id: 0, partition: 3, store_name: "default".into() };
    let never = SnapshotPolicy { min_deltas: u64::MAX, growth_percent: 0, max_deltas: u64::MAX };
    HotStateStore::new(folder.clone(), &identity, &StoreSpec::default_store(schema), never).expect("a store")
}

/// The first file of a state store. Only as it is: what is behind a checksum that fits is Arrow's to read, which believes
/// the lengths it finds and would allocate them.
pub fn state_file(data: &[u8]) {
    for name in ["1.delta", "1.snapshot"] {
        let bytes = data.to_vec();
        in_memory("state", |folder| {
            Box::pin(async move {
                folder.put(name, bytes.into()).await.expect("memory takes it");
                let _ = store(&folder).begin(1).await;
            })
        });
    }
}

/// The text of a scenario: what is read is written and read again as the same.
pub fn scenario_text(data: &[u8]) {
    if let Ok(scenario) = Scenario::from_toml(&String::from_utf8_lossy(data)) {
        assert_eq!(Scenario::from_toml(&scenario.to_toml()).as_ref(), Ok(&scenario), "{}", scenario.to_toml());
    }
}

/// A scenario: the first four bytes draw pipeline, rows and steps; then every four bytes are a fault, by life, effect
/// of the undisturbed run, kind and crash image. Both runs must be right.
pub fn scenario(data: &[u8]) {
    let Some((seed, faults)) = data.split_first_chunk::<4>() else { return };
    let calm_scenario = draw::scenario(u64::from(u32::from_le_bytes(*seed)) % 4096);
    let calm = run(&calm_scenario, &Pipeline);
    let fault = |bytes: &[u8; 4]| {
        let effect = &calm.trace[usize::from(u16::from_le_bytes([bytes[1], bytes[2]])) % calm.trace.len()];
        let images: Vec<CrashImage> = CrashImage::ALL.into_iter().collect();
        let image = images[usize::from(bytes[3] >> 3) % images.len()];
        let harm = match bytes[3] % 8 {
            0..3 => Harm::CrashBefore { image },
            3..6 => Harm::CrashAfter { image },
            6 if effect.op.changes() => Harm::NoSpace,
            _ => Harm::Slow { us: 1_000 * u64::from(bytes[3]) },
        };
        Fault { life: u32::from(bytes[0] % 3), at: effect.name.clone(), harm }
    };
    let (chunks, _) = faults.as_chunks::<4>();
    let mut faults: Vec<Fault> = chunks.iter().take(4).map(fault).collect();
    faults.sort();
    faults.dedup_by(|a, b| a.life == b.life && a.at == b.at);
    // As campaigns judge: by the model where it can follow. What a batch says may depend on when it ran.
    let disturbed = calm_scenario.with_faults(faults);
    let (baseline, done, failures) = check(&disturbed, &Pipeline);
    assert!(
        failures.is_empty(),
        "{}\n{}",
        page::text(&disturbed, &done, &baseline, &failures, "-"),
        disturbed.to_toml()
    );
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

fn with_log_file(name: &str, data: &[u8], read: impl for<'a> FnOnce(&'a dyn Storage, Folder) -> Reading<'a>) {
    let storage = LocalStorage::new(Arc::new(RealPosix), "/", 0).with_store("mem", Arc::new(InMemory::new()));
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        let folder = storage.folder(&format!("mem://fuzz/{name}")).expect("a folder in memory");
        folder.put("0", data.to_vec().into()).await.expect("memory takes it");
        read(&storage, folder).await;
    });
}

/// Does something in a folder of its own.
pub fn in_memory(name: &str, act: impl FnOnce(Folder) -> Reading<'static>) {
    let storage = LocalStorage::new(Arc::new(RealPosix), "/", 0).with_store("mem", Arc::new(InMemory::new()));
    let folder = storage.folder(&format!("mem://fuzz/{name}")).expect("a folder in memory");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(act(folder));
}
