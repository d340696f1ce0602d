//! The fuzz targets run on their corpus, and on every truncation and a flipped bit at every byte of it.

use std::path::Path;

#[path = "../fuzz/targets.rs"]
mod targets;

type Target = fn(&[u8]);

const TARGETS: [(&str, Target); 6] = [
    ("script", targets::script),
    ("duration", targets::duration),
    ("schema", targets::schema),
    ("json_rows", targets::json_rows),
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
            // A long input is damaged at a few hundred places, spread evenly.
            for at in (0..bytes.len()).step_by(bytes.len().div_ceil(300).max(1)) {
                target(&bytes[..at]);
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << (at % 8);
                target(&flipped);
            }
        }
        assert!(inputs > 0, "{name} has no corpus");
    }
}
