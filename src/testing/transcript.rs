//! What a job did, batch by batch, as text that a person reads and a snapshot keeps.
//!
//! Stable: nothing in it depends on the machine, on ids, on durations or on the order of a hash map. Rows are sorted,
//! unless the job itself sorts them.

use std::fmt;

use serde_json::Value;
use wavetank_engine::progress::StreamingQueryProgress;

use super::row::shown;

/// What every batch of a job did. Its [`Display`](fmt::Display) form is made for snapshots:
///
/// ```
/// use wavetank::testing::{Job, StreamTest};
///
/// let job = Job::sql(
///     "SELECT window.start AS start, count(*) AS n
///      FROM STREAM events WATERMARK ts DELAY OF INTERVAL 10 SECONDS
///      GROUP BY window(ts, '5 seconds')",
/// );
/// let run = StreamTest::new(job.source("events", "ts TIMESTAMP"))
///     .add_data("events", [10, 11])
///     .process_all_available()
///     .add_data("events", [25, 2])
///     .process_all_available()
///     .run();
/// assert_eq!(
///     run.to_snapshot(),
///     "\
/// batch 0: 2 rows in, watermark 1970-01-01 00:00:00
///   no rows
///   state rows 1 (1 updated)
/// batch 1: no rows in, watermark 1970-01-01 00:00:01
///   no rows
///   state rows 1
/// batch 2: 2 rows in, watermark 1970-01-01 00:00:01
///   no rows
///   state rows 3 (2 updated)
/// batch 3: no rows in, watermark 1970-01-01 00:00:15
///   | start               | n |
///   | 1970-01-01 00:00:00 | 1 |
///   | 1970-01-01 00:00:10 | 2 |
///   state rows 1 (2 removed)
/// "
/// );
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Transcript {
    pub(super) batches: Vec<Batch>,
}

/// What one batch did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// The batch's id.
    pub id: u64,
    /// Rows read, by source.
    pub input_rows: Vec<(String, u64)>,
    /// The watermark it ran with, when the job has one.
    pub watermark: Option<String>,
    /// The names of the columns.
    pub columns: Vec<String>,
    /// The rows written, as cells; sorted unless the job sorts.
    pub rows: Vec<Vec<Value>>,
    /// What it did to the state of each stateful operator, the last of the pipeline first.
    pub state: Vec<OperatorState>,
}

/// What a batch did to the state of an operator.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OperatorState {
    /// Spark's name of the operator.
    pub operator: String,
    /// Rows in state after the batch.
    pub total: u64,
    /// Rows put.
    pub updated: u64,
    /// Rows removed.
    pub removed: u64,
    /// Rows (groups, for an aggregation) that came too late.
    pub late: u64,
}

impl Transcript {
    /// The batches, in order.
    pub fn batches(&self) -> &[Batch] {
        &self.batches
    }

    /// All rows, batch after batch.
    pub fn rows(&self) -> Vec<Vec<Value>> {
        self.batches.iter().flat_map(|batch| batch.rows.iter().cloned()).collect()
    }

    /// The text for a snapshot: `insta::assert_snapshot!(run.to_snapshot())`.
    pub fn to_snapshot(&self) -> String {
        self.to_string()
    }
}

impl fmt::Display for Transcript {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.batches.iter().try_for_each(|batch| batch.fmt(f))
    }
}

impl Batch {
    /// What the report of a batch says, beside its rows.
    pub(super) fn of_progress(&mut self, progress: &StreamingQueryProgress) {
        let sources = progress.sources.iter();
        self.input_rows = sources.map(|source| (name_of(&source.description), source.num_input_rows)).collect();
        self.watermark = progress.event_time.get("watermark").map(|text| super::row::plain_time(text));
        let operators = progress.state_operators.iter().map(|operator| OperatorState {
            operator: operator.operator_name.to_owned(),
            total: operator.num_rows_total,
            updated: operator.num_rows_updated,
            removed: operator.num_rows_removed,
            late: operator.num_rows_dropped_by_watermark,
        });
        self.state = operators.collect();
    }
}

impl fmt::Display for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "batch {}: ", self.id)?;
        match &*self.input_rows {
            [] => f.write_str("no rows in")?,
            [(_, count)] => write!(f, "{} in", rows(*count))?,
            several => {
                let each = several.iter().map(|(name, count)| format!("{} of {name}", rows(*count)));
                write!(f, "{} in", each.collect::<Vec<_>>().join(", "))?;
            }
        }
        if let Some(watermark) = &self.watermark {
            write!(f, ", watermark {watermark}")?;
        }
        writeln!(f)?;
        write_table(f, &self.columns, &self.rows)?;
        for operator in &self.state {
            match self.state.len() {
                1 => write!(f, "  state rows {}", operator.total)?,
                _ => write!(f, "  {}: state rows {}", operator.operator, operator.total)?,
            }
            let parts = [(operator.updated, "updated"), (operator.removed, "removed"), (operator.late, "late")];
            let parts = parts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}"));
            let parts = parts.collect::<Vec<_>>().join(", ");
            writeln!(f, "{}", if parts.is_empty() { String::new() } else { format!(" ({parts})") })?;
        }
        Ok(())
    }
}

/// `MemoryStream[events]` is `events`.
fn name_of(description: &str) -> String {
    let named = description.strip_prefix("MemoryStream[").and_then(|rest| rest.strip_suffix(']'));
    named.unwrap_or(description).to_owned()
}

fn rows(count: u64) -> String {
    match count {
        0 => "no rows".to_owned(),
        1 => "1 row".to_owned(),
        count => format!("{count} rows"),
    }
}

/// Rows under the names of their columns, each cell as wide as its column.
fn write_table(f: &mut fmt::Formatter<'_>, columns: &[String], rows: &[Vec<Value>]) -> fmt::Result {
    if rows.is_empty() {
        return writeln!(f, "  no rows");
    }
    let lines: Vec<Vec<String>> = std::iter::once(columns.to_vec())
        .chain(rows.iter().map(|row| row.iter().map(|cell| shown(cell).replace('\n', "\\n")).collect()))
        .collect();
    let width = |at: usize| lines.iter().filter_map(|line| line.get(at)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns.len()).map(|at| width(at).unwrap_or_default()).collect();
    for line in &lines {
        let cells = line.iter().zip(&widths).map(|(cell, width)| format!(" {cell:<width$} |"));
        writeln!(f, "  |{}", cells.collect::<String>())?;
    }
    Ok(())
}
