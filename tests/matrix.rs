//! What can be streamed: the matrix of queries and output modes of `spec/05`, every cell of it (`tests/matrix`).
//!
//! A cell that is OK is run and compared batch by batch with what Spark 4.3.0 answered; every other one must be refused
//! with Spark's class and in its words, followed by what to write instead, before any batch is promised.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use crate::support::case::{Batch, Case, Expect, Source, Table, View};
use crate::support::run::{Layout, Outcome, run};

/// `matrix.toml`.
#[derive(Deserialize)]
struct Matrix {
    errors: BTreeMap<String, Refusal>,
    case: Vec<Row>,
}

#[derive(Deserialize)]
struct Refusal {
    class: Option<String>,
    text: String,
}

#[derive(Deserialize)]
struct Row {
    row: String,
    name: String,
    #[serde(default)]
    views: Vec<View>,
    sql: String,
    append: String,
    update: String,
    complete: String,
}

/// `input.json`.
#[derive(Deserialize)]
struct Input {
    sources: BTreeMap<String, Source>,
    tables: BTreeMap<String, Table>,
    views: Vec<View>,
}

fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/matrix")
}

fn read(name: &str) -> String {
    let path = folder().join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The rows of the matrix in `spec/05` section 2, in its words.
const ROWS: &str = include_str!("matrix/rows.txt");

#[test]
fn every_row_of_the_matrix_has_a_query() {
    let matrix: Matrix = toml::from_str(&read("matrix.toml")).expect("a readable matrix");
    let tested: Vec<_> = matrix.case.iter().map(|case| case.row.as_str()).collect();
    let missing: Vec<_> = ROWS.lines().filter(|row| !tested.contains(row)).collect();
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn every_cell_is_as_in_spark() {
    let matrix: Matrix = toml::from_str(&read("matrix.toml")).expect("a readable matrix");
    let answers: BTreeMap<String, BTreeMap<String, Value>> =
        serde_json::from_str(&read("spark-4.3.0.json")).expect("readable answers");
    let only = std::env::var("WAVETANK_MATRIX").ok();
    let mut wrong = vec![];
    for row in &matrix.case {
        if only.as_ref().is_some_and(|only| *only != row.name) {
            continue;
        }
        for (mode, cell) in [("append", &row.append), ("update", &row.update), ("complete", &row.complete)] {
            let answer = answers.get(&row.name).and_then(|modes| modes.get(mode));
            if let Err(why) = check(&matrix, row, mode, cell, answer) {
                wrong.push(format!("{} | {} | {mode} | {cell}: {why}", row.row, row.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{} cells differ:\n{}", wrong.len(), wrong.join("\n"));
}

fn check(matrix: &Matrix, row: &Row, mode: &str, cell: &str, answer: Option<&Value>) -> Result<(), String> {
    let input: Input = serde_json::from_str(&read("input.json")).expect("readable input");
    let mut case = Case {
        file: row.name.clone(),
        kind: row.row.clone(),
        sources: input.sources,
        tables: input.tables,
        views: input.views.into_iter().chain(row.views.iter().cloned()).collect(),
        sql: row.sql.clone(),
        output_mode: mode.into(),
        conf: BTreeMap::new(),
        runs: vec![],
        ordered: false,
        expect: Expect::default(),
    };
    if cell == "OK" {
        let answer = answer.ok_or("Spark's answer is missing")?;
        case.expect.schema = serde_json::from_value(answer["schema"].clone()).map_err(|error| error.to_string())?;
        case.expect.batches = serde_json::from_value::<Vec<Batch>>(answer["batches"].clone())
            .map_err(|error| format!("Spark's answer: {error}"))?;
    }
    // A refusal does not depend on partitions.
    let layouts: &[Layout] = if cell == "OK" { &[Layout::SINGLE, Layout::SPREAD] } else { &[Layout::SINGLE] };
    for &layout in layouts {
        let ran = run(&case, layout);
        match (cell, &ran.failure) {
            ("OK", Some(error)) => return Err(format!("failed: {error}")),
            // How many rows of a limit come from which partition is anybody's choice.
            ("OK", None) if layout == Layout::SPREAD && row.sql.contains("LIMIT") => {}
            ("OK", None) => {
                if let Outcome::Differs(why) | Outcome::NotYet(why) = ran.compare(&case) {
                    return Err(format!("{layout:?}: {why}"));
                }
            }
            (_, None) => return Err("was not refused".into()),
            (cell, Some(error)) => {
                let (key, in_batch) = cell.strip_suffix(", in batch").map_or((cell, false), |key| (key, true));
                let expected = matrix.errors.get(key).ok_or_else(|| format!("no error {key}"))?;
                let (text, class) = (error.to_string(), error.class().map(str::to_owned));
                if !text.contains(&expected.text) || (!in_batch && class != expected.class) {
                    return Err(format!("expected {:?} {}, got {class:?} {text}", expected.class, expected.text));
                }
                if !in_batch && ran.promised {
                    return Err(format!("refused only after a batch was promised: {text}"));
                }
                says_more_than_spark(&text, &expected.text)?;
            }
        }
    }
    Ok(())
}

/// The text goes on after Spark's words: why, or what to write instead.
fn says_more_than_spark(text: &str, sparks: &str) -> Result<(), String> {
    let after = text.split(sparks).nth(1).unwrap_or_default();
    let words = after.split_whitespace().count();
    if words < 5 { Err(format!("it does not say what to do: {text}")) } else { Ok(()) }
}
