//! The sink's rows against the model's, as far as the sink keeps what a value is.
//!
//! | sink | what is compared |
//! |---|---|
//! | witnesses, memory, Parquet | values |
//! | JSON, CSV | values, times cut to milliseconds as Spark writes them; in CSV texts without the blanks around them, and only columns that fit into a field |
//! | text | the only column; null is an empty line |
//! | console | cells as `show()` prints them (`spec/07` section 10), cut at twenty characters; of twenty rows at most |
//!
//! A batch that the sink knows is compared alone; a folder tells its batches not apart. Absent: the order of rows.

use std::collections::BTreeMap;

use crate::inputs::{Rows, decode_row};
use crate::model::{OutputMode, Type, Value, format_timestamp, parse_timestamp};
use crate::observe::Seen;
use crate::runner::{Failure, FailureKind};

/// How many rows the console shows.
const SHOWN: usize = 20;
/// Longer cells of the console are cut to this many characters, the last three of them dots.
const CELL_MAX: usize = 20;

/// How a sink writes values down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Written {
    /// As they are.
    Values,
    /// As values whose times are cut to milliseconds.
    Json,
    /// As fields.
    Csv,
    /// As a line.
    Text,
    /// As a table on a terminal.
    Console,
}

impl Written {
    /// As this format does.
    pub fn by(format: &str) -> Self {
        match format {
            "json" => Self::Json,
            "csv" => Self::Csv,
            "text" => Self::Text,
            "console" => Self::Console,
            _ => Self::Values,
        }
    }

    /// Whether a result with these columns can be read again.
    pub fn keeps(self, columns: &[(String, Type)]) -> bool {
        let is_flat = |(_, column): &(String, Type)| !matches!(column, Type::Array(_) | Type::Struct(_));
        match self {
            Self::Csv => columns.iter().all(is_flat),
            Self::Text => matches!(columns, [(_, Type::String)]),
            Self::Values | Self::Json | Self::Console => true,
        }
    }

    /// What is left of a row that is written down.
    pub fn cut(self, row: Vec<Value>) -> Vec<Value> {
        match self {
            Self::Json => row.into_iter().map(cut_time).collect(),
            Self::Csv => row.into_iter().map(cut_time).map(trimmed).collect(),
            Self::Text => {
                row.into_iter().map(|value| if value.is_null() { Value::Text(String::new()) } else { value }).collect()
            }
            Self::Values | Self::Console => row,
        }
    }

    fn read(self, row: &str, columns: &[(String, Type)]) -> Result<Vec<Value>, String> {
        match self {
            Self::Csv => read_fields(row, columns),
            Self::Text => Ok(vec![Value::Text(row.to_owned())]),
            _ => decode_row(row, columns),
        }
    }

    /// What the sink has otherwise than the model.
    pub fn differs(
        self,
        columns: &[(String, Type)],
        expected: &BTreeMap<u64, Rows>,
        seen: &Seen,
        mode: OutputMode,
    ) -> Result<Vec<Failure>, String> {
        if self == Self::Console {
            return Ok(printed_otherwise(columns, expected, seen));
        }
        let decoded = |rows: &[String]| rows.iter().map(|row| self.read(row, columns)).collect::<Result<Rows, _>>();
        let knows_batches = seen.batches.len() > 1 || mode != OutputMode::Append;
        if !knows_batches {
            let got = decoded(&seen.batches.values().flatten().cloned().collect::<Vec<_>>())?;
            let all = expected.values().flatten().cloned().collect();
            return Ok(difference("all batches", columns, all, got).into_iter().collect());
        }
        let mut failures = Vec::new();
        for (batch_id, rows) in expected {
            let got = decoded(seen.batches.get(batch_id).map_or(&[], Vec::as_slice))?;
            failures.extend(difference(&format!("batch {batch_id}"), columns, rows.clone(), got));
        }
        Ok(failures)
    }
}

fn failure(text: String) -> Failure {
    Failure { kind: FailureKind::Model, text }
}

fn cut_time(value: Value) -> Value {
    match value {
        Value::Timestamp(us) => Value::Timestamp(us - us.rem_euclid(1000)),
        Value::Struct(fields) => Value::Struct(fields.into_iter().map(cut_time).collect()),
        Value::List(items) => Value::List(items.into_iter().map(cut_time).collect()),
        other => other,
    }
}

/// A field of CSV: blanks around a text are not written.
fn trimmed(value: Value) -> Value {
    match value {
        Value::Text(text) => Value::Text(text.trim_matches(|c| c <= ' ').to_owned()),
        other => other,
    }
}

/// A line of CSV as values: what is empty is null, and `""` is an empty text.
fn read_fields(row: &str, columns: &[(String, Type)]) -> Result<Vec<Value>, String> {
    let fields = fields(row).ok_or_else(|| format!("a quote without end in {row}"))?;
    if fields.len() != columns.len() {
        return Err(format!("{} fields for {} columns in {row}", fields.len(), columns.len()));
    }
    let read = |((field, quoted), (_, column)): (&(String, bool), &(String, Type))| {
        let odd = || format!("{field} as {column} in {row}");
        Ok(match column {
            _ if field.is_empty() && !quoted => Value::Null,
            Type::String => Value::Text(field.clone()),
            Type::Boolean => Value::Bool(field.parse().map_err(|_| odd())?),
            Type::Int | Type::BigInt => Value::Int(field.parse().map_err(|_| odd())?),
            Type::Double => Value::Double(field.parse().map_err(|_| odd())?),
            Type::Timestamp => Value::Timestamp(parse_timestamp(field).ok_or_else(odd)?),
            _ => return Err(odd()),
        })
    };
    fields.iter().zip(columns).map(read).collect()
}

/// The fields of a line, and whether each was quoted; within quotes a backslash stands before a quote.
fn fields(row: &str) -> Option<Vec<(String, bool)>> {
    let mut fields = vec![(String::new(), false)];
    let (mut chars, mut inside) = (row.chars(), false);
    while let Some(c) = chars.next() {
        let (field, quoted) = fields.last_mut()?;
        match c {
            '"' if inside => inside = false,
            '"' if field.is_empty() => (inside, *quoted) = (true, true),
            '\\' if inside => field.push(chars.next()?),
            ',' if !inside => fields.push((String::new(), false)),
            other => field.push(other),
        }
    }
    (!inside).then_some(fields)
}

/// The batches that were not printed, or otherwise: with other columns, another number of rows, or other cells.
fn printed_otherwise(columns: &[(String, Type)], expected: &BTreeMap<u64, Rows>, seen: &Seen) -> Vec<Failure> {
    let names: Vec<&str> = columns.iter().map(|(name, _)| name.as_str()).collect();
    let odd = expected.iter().filter_map(|(batch_id, rows)| {
        let Some((header, lines)) = seen.batches.get(batch_id).and_then(|lines| lines.split_first()) else {
            return Some(format!("batch {batch_id} was not printed"));
        };
        if cells(header) != names {
            return Some(format!("batch {batch_id} was printed with the columns {header}, the model has {names:?}"));
        }
        if let Some(line) = lines.iter().find(|line| line.chars().count() != header.chars().count()) {
            return Some(format!("batch {batch_id} was printed with the line {line} below {header}"));
        }
        if lines.len() != rows.len().min(SHOWN) {
            return Some(format!(
                "batch {batch_id} was printed with {} rows, the model has {}",
                lines.len(),
                rows.len()
            ));
        }
        let mut left: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(cell).collect()).collect();
        lines.iter().find_map(|line| {
            let got = cells(line);
            let at = left.iter().position(|row| {
                row.len() == got.len() && row.iter().zip(&got).zip(columns).all(|((a, b), (_, ty))| same_cell(a, b, ty))
            });
            match at {
                Some(at) => {
                    left.swap_remove(at);
                    None
                }
                None => Some(format!("batch {batch_id} was printed with the row {line}, the model has {left:?}")),
            }
        })
    });
    odd.map(failure).collect()
}

/// The cells of a line of a table, without what aligns them.
fn cells(line: &str) -> Vec<&str> {
    line.trim_start_matches('|').trim_end_matches('|').split('|').map(str::trim).collect()
}

/// The same text; doubles as near as values must be, as far as they are printed: one that is cut has no exponent.
fn same_cell(expected: &str, got: &str, column: &Type) -> bool {
    let is_cut = expected.ends_with("...") || got.ends_with("...");
    let number = |text: &str| {
        let text = if is_cut { text.trim_end_matches("...").split('E').next().unwrap_or(text) } else { text };
        text.parse::<f64>().ok().map(Value::Double)
    };
    expected.trim() == got
        || *column == Type::Double && number(expected).zip(number(got)).is_some_and(|(a, b)| same(&a, &b))
}

/// A value as a cell.
fn cell(value: &Value) -> String {
    let text = shown(value);
    match text.chars().count() > CELL_MAX {
        true => text.chars().take(CELL_MAX - 3).chain("...".chars()).collect(),
        false => text,
    }
}

/// A value as Spark's `ToPrettyString` has it.
fn shown(value: &Value) -> String {
    let all = |items: &[Value]| items.iter().map(shown).collect::<Vec<_>>().join(", ");
    match value {
        Value::Null => "NULL".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::Double(value) => java_text(*value),
        Value::Text(text) => text.replace('\n', "\\n"),
        Value::Timestamp(us) => {
            let text = format_timestamp(*us).replace('T', " ");
            text.trim_end_matches('Z').trim_end_matches('0').trim_end_matches('.').to_owned()
        }
        Value::Interval(months, us) => format!("{months} months {us} us"),
        Value::List(items) => format!("[{}]", all(items)),
        Value::Struct(fields) => format!("{{{}}}", all(fields)),
    }
}

/// A double as Java writes it: the fewest digits that say it, with an exponent from ten million on and below a thousandth.
fn java_text(value: f64) -> String {
    let size = value.abs();
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        format!("{}Infinity", if value < 0.0 { "-" } else { "" })
    } else if size == 0.0 || (1e-3..1e7).contains(&size) {
        format!("{value:?}")
    } else {
        let text = format!("{value:E}");
        let (digits, exponent) = text.split_once('E').unwrap_or((&text, "0"));
        format!("{digits}{}E{exponent}", if digits.contains('.') { "" } else { ".0" })
    }
}

fn difference(
    what: &str,
    columns: &[(String, Type)],
    mut expected: Vec<Vec<Value>>,
    mut got: Vec<Vec<Value>>,
) -> Option<Failure> {
    expected.sort();
    got.sort();
    let same_row = |a: &Vec<Value>, b: &Vec<Value>| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b));
    if expected.len() == got.len() && expected.iter().zip(&got).all(|(a, b)| same_row(a, b)) {
        return None;
    }
    let only = |a: &[Vec<Value>], b: &[Vec<Value>]| -> Vec<String> {
        let missing = a.iter().filter(|row| !b.iter().any(|other| same_row(row, other)));
        missing.take(5).map(|row| format!("{row:?}")).collect()
    };
    let names: Vec<&str> = columns.iter().map(|(name, _)| name.as_str()).collect();
    Some(failure(format!(
        "{what}: the model has {} rows ({} not in the sink: {}), the sink has {} ({} not in the model: {}); columns {}",
        expected.len(),
        only(&expected, &got).len(),
        only(&expected, &got).join(" "),
        got.len(),
        only(&got, &expected).len(),
        only(&got, &expected).join(" "),
        names.join(", ")
    )))
}

/// Equal; doubles within 1e-9 relative, because sums may be made in another order.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Double(a), Value::Double(b)) => {
            a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= 1e-9 * a.abs().max(b.abs())
        }
        (Value::Struct(a), Value::Struct(b)) | (Value::List(a), Value::List(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (a, b) => a == b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_csv_is_read_as_spark_writes_it() {
        let columns = ["a", "b", "c"].map(|name| (name.to_owned(), Type::String));
        let text = |text: &str| Value::Text(text.to_owned());
        for (row, values) in [
            ("x,,\"\"", vec![text("x"), Value::Null, text("")]),
            ("\"a,b\",\"say \\\"x\\\"\",\\", vec![text("a,b"), text("say \"x\""), text("\\")]),
        ] {
            assert_eq!(read_fields(row, &columns).expect(row), values, "{row}");
        }
        for odd in ["a,b", "a,b,\"c", "a,b,c,d"] {
            assert!(read_fields(odd, &columns).is_err(), "{odd}");
        }
        let times = [("t".to_owned(), Type::Timestamp), ("n".to_owned(), Type::BigInt)];
        let read = read_fields("2024-01-01T00:00:01.500Z,-7", &times).expect("a time and a number");
        assert_eq!(read, [Value::Timestamp(1_704_067_201_500_000), Value::Int(-7)]);
    }

    #[test]
    fn values_are_shown_as_spark_shows_them() {
        let at = 1_704_067_201_100_000;
        for (value, text) in [
            (Value::Null, "NULL"),
            (Value::Double(1.0), "1.0"),
            (Value::Double(1e10), "1.0E10"),
            (Value::Double(-1.5e-4), "-1.5E-4"),
            (Value::Double(f64::NEG_INFINITY), "-Infinity"),
            (Value::Timestamp(at), "2024-01-01 00:00:..."),
            (Value::Timestamp(1_704_067_200_000_000), "2024-01-01 00:00:00"),
            (Value::List(vec![Value::Int(1), Value::Null]), "[1, NULL]"),
            (Value::Struct(vec![Value::Int(1), Value::Bool(true)]), "{1, true}"),
            (Value::Text("12345678901234567890".into()), "12345678901234567890"),
            (Value::Text("123456789012345678901".into()), "12345678901234567..."),
        ] {
            assert_eq!(cell(&value), text);
        }
        assert_eq!(shown(&Value::Timestamp(at)), "2024-01-01 00:00:01.1");
    }

    #[test]
    fn what_is_printed_must_be_what_the_model_has() {
        let columns = [("k".to_owned(), Type::String), ("n".to_owned(), Type::Double)];
        let row = |k: &str, n: f64| vec![Value::Text(k.to_owned()), Value::Double(n)];
        let expected = BTreeMap::from([(3, vec![row("a", 1.0), row("b", 2.0)])]);
        let header = "|  k|  n|";
        for (lines, said) in [
            (vec![header, "|  b|2.0|", "|  a|1.0|"], None),
            (vec![header, "|  b|2.0|", "|  b|2.0|"], Some("the row")),
            (vec![header, "|  a|1.0|", "|  b|2.5|"], Some("the row")),
            (vec![header, "|  a|1.0|"], Some("with 1 rows")),
            (vec![header, "|  a|1.0|", "|b|2.0|"], Some("the line")),
            (vec!["|  x|  n|", "|  a|1.0|", "|  b|2.0|"], Some("the columns")),
            (vec![], Some("not printed")),
        ] {
            let batches = BTreeMap::from([(3, lines.iter().map(|line| (*line).to_owned()).collect())]);
            let failures = printed_otherwise(&columns, &expected, &Seen { batches, ..Seen::default() });
            match said {
                None => assert_eq!(failures, []),
                Some(said) => {
                    assert!(failures.iter().any(|failure| failure.text.contains(said)), "{said}: {failures:?}")
                }
            }
        }
    }
}
