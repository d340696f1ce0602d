//! A conformance case as its file has it.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::groups::Groups;

/// One streaming query, its input, and what Spark answered.
#[derive(Debug, Deserialize)]
pub struct Case {
    /// The file's name without `.json`.
    #[serde(skip)]
    pub file: String,
    /// What the query is about: the last part of the name.
    #[serde(skip)]
    pub kind: String,
    /// The streams.
    pub sources: BTreeMap<String, Source>,
    /// The static tables.
    #[serde(default)]
    pub tables: BTreeMap<String, Table>,
    /// Views, in order.
    #[serde(default)]
    pub views: Vec<View>,
    /// The query.
    pub sql: String,
    /// append, update or complete.
    #[serde(rename = "outputMode")]
    pub output_mode: String,
    /// Settings.
    #[serde(default)]
    pub conf: BTreeMap<String, String>,
    /// How many input batches each run but the last finds.
    #[serde(default)]
    pub runs: Vec<usize>,
    /// Whether the order of rows inside a batch counts.
    #[serde(default)]
    pub ordered: bool,
    /// What Spark answered.
    pub expect: Expect,
}

/// A stream and its input batches.
#[derive(Clone, Debug, Deserialize)]
pub struct Source {
    /// Spark DDL.
    pub schema: String,
    /// Batches of rows.
    pub batches: Vec<Vec<Value>>,
}

/// A static table.
#[derive(Clone, Debug, Deserialize)]
pub struct Table {
    /// Spark DDL.
    pub schema: String,
    /// Its rows.
    pub rows: Vec<Value>,
}

/// A view: a query, or a verb applied to another view.
#[derive(Clone, Debug, Deserialize)]
pub struct View {
    /// Its name.
    pub name: String,
    /// Its query.
    pub sql: Option<String>,
    /// What the verb is applied to.
    pub from: Option<String>,
    /// The verb.
    #[serde(flatten)]
    pub verb: Option<Verb>,
}

/// A verb of DataFrame with its arguments; columns of no names are all.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Verb {
    /// Column and delay.
    WithWatermark(String, String),
    /// The columns.
    DropDuplicates(Vec<String>),
    /// The columns.
    DropDuplicatesWithinWatermark(Vec<String>),
    /// True.
    Distinct(bool),
    /// How many.
    Repartition(usize),
    /// How many.
    Coalesce(usize),
    /// How many rows.
    Offset(usize),
    /// Which part of the rows.
    Sample(f64),
    /// Expressions.
    Sort(Vec<String>),
    /// Expressions.
    SortWithinPartitions(Vec<String>),
    /// A view.
    Except(String),
    /// A view.
    ExceptAll(String),
    /// A view.
    Intersect(String),
    /// A view.
    IntersectAll(String),
    /// A user function.
    Groups(Groups),
    /// Expressions to group by, and an aggregate.
    Rollup {
        /// Expressions.
        by: Vec<String>,
        /// The aggregate.
        agg: String,
    },
    /// Expressions to group by, and an aggregate.
    Cube {
        /// Expressions.
        by: Vec<String>,
        /// The aggregate.
        agg: String,
    },
    /// Expressions to group by, the column whose values become columns, these values, and an aggregate.
    Pivot {
        /// Expressions.
        by: Vec<String>,
        /// The column.
        column: String,
        /// Its values.
        values: Vec<String>,
        /// The aggregate.
        agg: String,
    },
}

/// Batches, or a refusal.
#[derive(Debug, Default, Deserialize)]
pub struct Expect {
    /// Name and Spark type of each column.
    #[serde(default)]
    pub schema: Vec<(String, String)>,
    /// What each batch answered.
    #[serde(default)]
    pub batches: Vec<Batch>,
    /// The refusal.
    pub error: Option<Refusal>,
}

/// What a batch answered.
#[derive(Debug, Deserialize)]
pub struct Batch {
    /// Its id.
    #[serde(rename = "batchId")]
    pub batch_id: u64,
    /// Its rows, values in schema order.
    pub rows: Vec<Vec<Value>>,
    /// The watermark in force; absent without a watermark.
    pub watermark: Option<String>,
    /// Rows in state after the batch, by operator, last of the pipeline first.
    #[serde(rename = "stateRows", default)]
    pub state_rows: Vec<u64>,
    /// Spark's names of these operators, where it was asked.
    #[serde(rename = "stateOperators", default)]
    pub state_operators: Option<Vec<String>>,
    /// Late rows, by operator, where it was asked.
    #[serde(rename = "droppedByWatermark", default)]
    pub dropped_by_watermark: Option<Vec<u64>>,
    /// Rows read, where it was asked.
    #[serde(rename = "inputRows", default)]
    pub input_rows: Option<u64>,
}

/// A refusal.
#[derive(Debug, Deserialize)]
pub struct Refusal {
    /// Spark's error class.
    pub class: Option<String>,
    /// The start of the message.
    pub text: String,
}

impl Case {
    /// All cases of a folder, by name.
    pub fn read_folder(folder: &Path) -> Vec<Self> {
        let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let mut paths: Vec<_> = entries.map(|entry| entry.expect("a readable folder").path()).collect();
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
        paths.sort();
        paths.iter().map(|path| Self::read(path)).collect()
    }

    fn read(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let case = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let file = path.file_stem().expect("a file has a name").to_string_lossy().into_owned();
        Self { kind: kind_of(&file), file, ..case }
    }
}

/// `open-restart-0007-session` is about `session`; `own-..` are those that we asked Spark ourselves; a name without a
/// number is its own kind.
fn kind_of(file: &str) -> String {
    if file.starts_with("own-") {
        return "own".to_owned();
    }
    let parts: Vec<_> = file.split('-').collect();
    match parts.iter().position(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit())) {
        Some(number) if parts.len() > number + 1 && !["guide", "real"].contains(&parts[0]) => {
            parts[number + 1..].join("-")
        }
        _ => file.to_owned(),
    }
}
