//! The repository keeps its own rules (`docs/STYLE.md`, `docs/ARCHITECTURE.md`).

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file of the workspace.
fn rust_files() -> Vec<PathBuf> {
    let mut files = vec![];
    for folder in ["src", "engine", "sources", "sinks", "sim", "cli", "tests", "benches", "examples", "fuzz"] {
        walk(&root().join(folder), &mut files);
    }
    files.sort();
    assert!(files.len() > 50, "found {} files", files.len());
    files
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.expect("a readable folder").path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
            walk(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The part of a file before its tests.
fn without_tests(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod ").next().unwrap_or(text)
}

#[test]
fn every_file_opens_with_its_idea() {
    let silent: Vec<_> = rust_files().into_iter().filter(|path| !text(path).starts_with("//!")).collect();
    assert!(silent.is_empty(), "{silent:?}");
}

#[test]
fn no_file_is_longer_than_600_lines_without_its_tests() {
    let is_test = |path: &Path| path.file_stem().is_some_and(|stem| stem.to_string_lossy().ends_with("tests"));
    let long: Vec<_> = rust_files()
        .into_iter()
        .filter(|path| !is_test(path) && without_tests(&text(path)).lines().count() > 600)
        .collect();
    assert!(long.is_empty(), "{long:?}");
}

#[test]
fn nothing_is_left_undone_asleep_or_ignored() {
    // In two parts, so that this file does not find itself.
    let banned = [("todo", "!("), ("unimplemented", "!("), ("#[ig", "nore"), ("thread::", "sleep"), ("FIX", "ME")];
    let mut found = vec![];
    for path in rust_files() {
        let text = text(&path);
        for (a, b) in banned {
            if text.contains(&format!("{a}{b}")) {
                found.push(format!("{}: {a}{b}", path.display()));
            }
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn crates_depend_only_along_the_arrows() {
    let arrows: [(&str, &[&str]); 6] = [
        ("engine", &[]),
        ("sources", &["wavetank-engine"]),
        ("sinks", &["wavetank-engine"]),
        ("sim", &["wavetank-engine", "wavetank-sources", "wavetank-sinks"]),
        (".", &["wavetank-engine", "wavetank-sources", "wavetank-sinks", "wavetank-sim"]),
        ("cli", &["wavetank"]),
    ];
    for (member, allowed) in arrows {
        let manifest = text(&root().join(member).join("Cargo.toml"));
        let dependencies = manifest.split("\n[dependencies]\n").nth(1).expect("dependencies");
        let dependencies = dependencies.split("\n[").next().expect("a section");
        let names: BTreeSet<_> = dependencies
            .lines()
            .filter_map(|line| line.split(['.', ' ', '=']).next())
            .filter(|name| name.starts_with("wavetank"))
            .collect();
        let allowed: BTreeSet<_> = allowed.iter().copied().collect();
        assert!(names.is_subset(&allowed), "{member} depends on {names:?}, may on {allowed:?}");
    }
}

#[test]
fn the_folders_and_pages_that_the_readme_names_are_there() {
    for path in [
        "README.md",
        "CHANGELOG.md",
        "LICENSE",
        ".ci/run",
        "docs/ARCHITECTURE.md",
        "docs/CHECKPOINT.md",
        "docs/STYLE.md",
        "docs/TESTING.md",
        "docs/BENCHMARKS.md",
        "docs/decisions",
        "examples/earthquakes.sql",
        "examples/data/earthquakes",
        "fuzz/Cargo.toml",
        "tests/conformance/FORMAT.md",
    ] {
        assert!(root().join(path).exists(), "{path}");
    }
}
