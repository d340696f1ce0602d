//! The fuzz targets run on their corpus, and on every truncation and a flipped bit at every byte of it.

use std::path::Path;
use std::sync::{Arc, Mutex};

use arrow::array::{ArrayRef, Int64Array, StringArray};
use wavetank::engine::state::StateStore;

#[path = "../fuzz/targets.rs"]
mod targets;

type Target = fn(&[u8]);

const TARGETS: [(&str, Target); 10] = [
    ("script", targets::script),
    ("duration", targets::duration),
    ("schema", targets::schema),
    ("json_rows", targets::json_rows),
    ("csv_rows", targets::csv_rows),
    ("time_texts", targets::time_texts),
    ("state_file", targets::state_file),
    ("scenario_text", targets::scenario_text),
    ("offset_log", targets::offset_log),
    ("commit_log", targets::commit_log),
];

#[test]
fn nothing_panics_on_the_corpus_or_on_damaged_corpus() {
    for (name, target) in TARGETS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
        let mut inputs = 0;
        for entry in std::fs::read_dir(&folder).expect("a corpus") {
            let bytes = std::fs::read(entry.expect("a readable folder").path()).expect("a readable file");
            inputs += 1;
            target(&bytes);
            damaged(target, &bytes);
        }
        assert!(inputs > 0, "{name} has no corpus");
    }
}

#[test]
fn scenarios_of_the_corpus_end_as_they_must() {
    // Runs of the engine: the corpus itself, and a fault more or less.
    for entry in
        std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/scenario")).expect("a corpus")
    {
        let bytes = std::fs::read(entry.expect("a readable folder").path()).expect("a readable file");
        targets::scenario(&bytes);
        targets::scenario(&bytes[..bytes.len().min(8)]);
    }
}

#[test]
fn state_files_as_they_are_written_survive_damage() {
    let bytes = written_state_file();
    if std::env::var_os("WAVETANK_UPDATE").is_some() {
        // A good seed for the fuzzer, when the format of the files has changed.
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/state_file");
        std::fs::write(folder.join("delta"), &bytes).expect("a written file");
    }
    assert!(bytes.starts_with(b"WVTKSTAT") && bytes.len() > 100, "{} bytes", bytes.len());
    targets::state_file(&bytes);
    damaged(targets::state_file, &bytes);
}

/// Truncations, and a flipped bit at every byte: of a long input at a few hundred places, spread evenly.
fn damaged(target: Target, bytes: &[u8]) {
    for at in (0..bytes.len()).step_by(bytes.len().div_ceil(300).max(1)) {
        target(&bytes[..at]);
        let mut flipped = bytes.to_vec();
        flipped[at] ^= 1 << (at % 8);
        target(&flipped);
    }
}

/// A state file as it is written.
fn written_state_file() -> Vec<u8> {
    let file = Arc::new(Mutex::new(vec![]));
    let written = Arc::clone(&file);
    targets::in_memory("state", |folder| {
        Box::pin(async move {
            let mut store = targets::store(&folder);
            store.begin(0).await.expect("an empty store");
            let keys: Vec<ArrayRef> =
                vec![Arc::new(StringArray::from(vec!["a", "b"])), Arc::new(Int64Array::from(vec![1, 2]))];
            let values: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(vec![Some(7), None]))];
            store.put(&keys, &values, None).expect("fitting columns");
            store.commit().await.expect("memory takes it");
            *written.lock().expect("nobody else") =
                folder.get("1.delta").await.expect("readable").expect("there").to_vec();
        })
    });
    file.lock().expect("nobody else").clone()
}
