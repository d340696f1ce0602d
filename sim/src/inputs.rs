//! What each source of a pipeline gave, by step of its offsets, as the reference model reads it.
//!
//! | source | a step is | where its rows are known from |
//! |---|---|---|
//! | `tape` | a block | the scenario |
//! | `json`, `parquet`, `text` | an entry of the source's log | the file that the entry names, as the scenario drops it |
//! | `rate-micro-batch` | a batch | arithmetic |
//!
//! Rows of Parquet are written in scenarios as those of JSON are; a line of text is a row, or with `wholetext` a file is.

use std::collections::BTreeMap;

use serde_json::Value as Json;
use wavetank_engine::options::Options;
use wavetank_engine::sql::script::CreateTable;
use wavetank_engine::sql::types::spark_type_name;

use crate::content::lines as lines_of;
use crate::model::{Type, Value, parse_schema, parse_timestamp};
use crate::runner::{Failure, FailureKind, Run};
use crate::scenario::{Scenario, Step};

/// Rows of values.
pub(crate) type Rows = Vec<Vec<Value>>;
/// Columns with their types.
pub(crate) type Columns = Vec<(String, Type)>;

/// Where a table's rows come from.
pub(crate) enum Input {
    /// A tape of this name.
    Tape(String),
    /// A folder, and what a line of a file in it is.
    Folder(String, Lines),
    /// A source that counts.
    Rate(Rate),
}

/// What the lines of a dropped file are.
#[derive(Clone, Copy)]
pub(crate) enum Lines {
    /// Objects of JSON; the file may be Parquet.
    Objects,
    /// The value of the only column, each.
    Values,
    /// The value of the only column, all together.
    Whole,
}

/// A `rate-micro-batch` source: how many rows a batch has, and when they are.
#[derive(Clone, Copy)]
pub(crate) struct Rate {
    rows_per_batch: u64,
    start_ms: i64,
    advance_ms: i64,
}

impl Rate {
    fn of(options: &Options) -> Result<Self, String> {
        let number = |name: &str, default: i64| match options.get(name) {
            Some(text) => text.parse::<i64>().map_err(|_| format!("{name} '{text}'")),
            None => Ok(default),
        };
        Ok(Self {
            rows_per_batch: number("rowsPerBatch", 0)?.unsigned_abs().max(1),
            start_ms: number("startTimestamp", 0)?,
            advance_ms: number("advanceMillisPerBatch", 1000)?,
        })
    }

    /// The rows of its n-th step: all of one moment, numbered on.
    fn rows(self, step: u64) -> Rows {
        let at_ms = self.start_ms + self.advance_ms * step as i64;
        let values = step * self.rows_per_batch..(step + 1) * self.rows_per_batch;
        values.map(|value| vec![Value::Timestamp(at_ms * 1000), Value::Int(value as i64)]).collect()
    }
}

impl Input {
    /// The source of a table, and its columns; what cannot be followed otherwise.
    pub fn of(table: &CreateTable) -> Result<(Self, Columns), String> {
        if table.using.as_deref() == Some("rate-micro-batch") {
            let columns = parse_schema("timestamp TIMESTAMP, value BIGINT").ok_or("the columns of rate")?;
            return Ok((Self::Rate(Rate::of(&table.options)?), columns));
        }
        let schema = table.columns.as_ref().ok_or("a table without columns")?;
        let fields = schema.fields().iter();
        let ddl: Vec<String> = fields.map(|f| format!("{} {}", f.name(), spark_type_name(f.data_type()))).collect();
        let columns = parse_schema(&ddl.join(", ")).ok_or("a column type that the model does not have")?;
        let option = |name| table.options.get(name).map(str::to_owned).ok_or(format!("no option {name}"));
        let whole = table.options.get("wholetext").is_some_and(|text| text.eq_ignore_ascii_case("true"));
        let input = match table.using.as_deref() {
            Some("tape") => Self::Tape(option("name")?),
            Some("json" | "parquet") => Self::Folder(option("path")?, Lines::Objects),
            Some("text") => Self::Folder(option("path")?, if whole { Lines::Whole } else { Lines::Values }),
            other => return Err(format!("a source of format {other:?}")),
        };
        Ok((input, columns))
    }

    /// How many steps have been read at this offset.
    pub fn read_until(&self, offset: &str) -> Result<u64, String> {
        let last = match serde_json::from_str::<Json>(offset) {
            Ok(Json::Object(rate)) if rate.contains_key("offset") => {
                let Self::Rate(Rate { rows_per_batch, .. }) = self else { return Err(format!("offset {offset}")) };
                rate["offset"].as_u64().map(|rows| (rows / rows_per_batch) as i64 - 1)
            }
            Ok(Json::Object(file)) => file.get("logOffset").and_then(Json::as_i64),
            Ok(number) => number.as_i64(),
            Err(_) => Some(-1), // "-": nothing yet
        };
        last.map(|last| (last + 1) as u64).ok_or_else(|| format!("offset {offset}"))
    }

    /// Its rows, by step. `steps_count` are promised; `log` is the source's own, if it has one.
    pub fn rows(
        &self,
        columns: &Columns,
        steps_count: u64,
        log: &[(u64, String)],
        scenario: &Scenario,
    ) -> Result<Vec<Rows>, String> {
        let decode = |rows: &[String]| rows.iter().map(|row| decode_row(row, columns)).collect::<Result<Rows, _>>();
        match self {
            Self::Rate(rate) => Ok((0..steps_count).map(|step| rate.rows(step)).collect()),
            Self::Tape(name) => {
                let blocks = scenario.steps.iter().filter_map(|step| match step {
                    Step::Add { tape, rows } if tape == name => Some(decode(rows)),
                    _ => None,
                });
                blocks.collect()
            }
            Self::Folder(folder, lines) => {
                let mut files: BTreeMap<&str, Rows> = BTreeMap::new();
                for step in &scenario.steps {
                    // Files that change are judged elsewhere.
                    if let Step::Drop { file, rows, torn } = step
                        && is_in(file, folder)
                    {
                        let rows = match lines {
                            Lines::Objects => decode(rows)?,
                            Lines::Values => rows.iter().map(|row| vec![Value::Text(row.clone())]).collect(),
                            Lines::Whole => vec![vec![Value::Text(lines_of(rows, *torn))]],
                        };
                        files.insert(file, rows);
                    }
                }
                let mut steps: Vec<Rows> = Vec::new();
                for (step, path) in log {
                    let step = *step as usize;
                    steps.resize(steps.len().max(step + 1), Vec::new());
                    let known = files.iter().find(|(file, _)| path.ends_with(**file));
                    let (_, rows) = known.ok_or_else(|| format!("{path} was never dropped"))?;
                    steps[step].extend(rows.iter().cloned());
                }
                Ok(steps)
            }
        }
    }

    /// The files that came and are not in the source's log, or are there more than once.
    pub fn taken_otherwise_than_once(&self, log: &[(u64, String)], scenario: &Scenario) -> Vec<Failure> {
        let Self::Folder(folder, _) = self else { return Vec::new() };
        let files = scenario.steps.iter().filter_map(|step| match step {
            Step::Drop { file, .. } if is_in(file, folder) => Some(file),
            _ => None,
        });
        let counted = files.map(|file| (file, log.iter().filter(|(_, path)| path.ends_with(file.as_str())).count()));
        let odd = counted.filter(|(_, times)| *times != 1);
        odd.map(|(file, times)| Failure {
            kind: if times == 0 { FailureKind::Liveness } else { FailureKind::Rows },
            text: format!("{file} was taken {times} times"),
        })
        .collect()
    }
}

/// Whether a file is in a folder (`in/0.json` in `in`), and not in one whose name only begins alike.
fn is_in(file: &str, folder: &str) -> bool {
    file.strip_prefix(folder.trim_end_matches('/')).is_some_and(|below| below.starts_with('/'))
}

/// Which file was read in which step, from the file source's own log.
pub(crate) fn source_log(checkpoint: &str, source: usize, run: &Run) -> Result<Vec<(u64, String)>, String> {
    let prefix = format!("{checkpoint}/sources/{source}/");
    let entries = run.history.range(prefix.clone()..).take_while(|(path, _)| path.starts_with(&prefix));
    let mut files = BTreeMap::new();
    for line in entries.flat_map(|(_, text)| text.lines().skip(1)).filter(|line| !line.is_empty()) {
        let entry: Json = serde_json::from_str(line).map_err(|error| error.to_string())?;
        let path = entry["path"].as_str().ok_or("no path")?.to_owned();
        files.insert((entry["batchId"].as_u64().ok_or("no batchId")?, path), ());
    }
    Ok(files.into_keys().collect())
}

/// A JSON object as a row.
pub(crate) fn decode_row(row: &str, columns: &[(String, Type)]) -> Result<Vec<Value>, String> {
    let json: Json = serde_json::from_str(row).map_err(|error| format!("{error} in {row}"))?;
    columns.iter().map(|(name, column)| decode(json.get(name).unwrap_or(&Json::Null), column)).collect()
}

fn decode(json: &Json, column: &Type) -> Result<Value, String> {
    let odd = || format!("{json} as {column}");
    Ok(match (json, column) {
        (Json::Null, _) => Value::Null,
        (Json::Bool(value), Type::Boolean) => Value::Bool(*value),
        (Json::Number(number), Type::Double) => Value::Double(number.as_f64().ok_or_else(odd)?),
        (Json::Number(number), Type::Int | Type::BigInt) => Value::Int(number.as_i64().ok_or_else(odd)?),
        (Json::String(text), Type::Timestamp) => Value::Timestamp(parse_timestamp(text).ok_or_else(odd)?),
        (Json::String(text), Type::String) => Value::Text(text.clone()),
        (Json::Array(items), Type::Array(item)) => {
            Value::List(items.iter().map(|json| decode(json, item)).collect::<Result<_, _>>()?)
        }
        (Json::Object(fields), Type::Struct(types)) => {
            let field = |(name, column): &(String, Type)| decode(fields.get(name).unwrap_or(&Json::Null), column);
            Value::Struct(types.iter().map(field).collect::<Result<_, _>>()?)
        }
        _ => return Err(odd()),
    })
}
