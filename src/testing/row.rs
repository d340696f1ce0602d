//! Rows as a test writes them down, and as they are shown: plain Rust values in, cells of a table out.
//!
//! Handles: cells in order or by name; times as text (`2024-01-01 00:00:10.5`) or as seconds since 1970; NULL; nested
//! structs, arrays and maps; decimals; floating point that was summed in another order. Absent: guessing. A value that
//! does not fit its column is an error that names both, never a NULL.

use std::sync::Arc;

use chrono::{DateTime, NaiveDate, NaiveDateTime};
use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{
    DataType, Float64Type, Int64Type, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType,
};
use datafusion::arrow::json::ReaderBuilder;
use datafusion::arrow::util::display::array_value_to_string;
use serde_json::{Map, Number, Value};

/// The SQL value NULL, as a cell: `rows![("a", 1), ("b", NULL)]`.
pub const NULL: Value = Value::Null;

/// No rows at all: `check_new_answer(NO_ROWS)`.
pub const NO_ROWS: [Row; 0] = [];

/// One row of input, or one row of an expected answer.
///
/// Made from a tuple, from a single value, from an array of JSON values (cells in the order of the columns), or from a
/// JSON object (cells by name; on input, columns that it does not name are NULL). A timestamp is written as text, as in
/// SQL, or as a number of seconds since 1970.
///
/// ```
/// use serde_json::json;
/// use wavetank::testing::Row;
///
/// assert_eq!(Row::from(("a", 1)), Row::from(json!(["a", 1])));
/// assert_eq!(Row::from("a"), Row::from(("a",)));
/// let by_name = Row::from(json!({"k": "a", "v": 1}));
/// # let _ = by_name;
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Row(Cells);

#[derive(Clone, Debug, PartialEq)]
enum Cells {
    InOrder(Vec<Value>),
    ByName(Map<String, Value>),
}

/// Rows of different shapes in one list: `rows![("a", 1), ("b", NULL)]`, which an array of tuples cannot be.
///
/// ```
/// use wavetank::testing::{NULL, rows};
///
/// assert_eq!(rows![("a", 1), ("b", NULL)].len(), 2);
/// ```
#[macro_export]
macro_rules! rows {
    ($($row:expr),* $(,)?) => {
        ::std::vec![$($crate::testing::Row::from($row)),*] as ::std::vec::Vec<$crate::testing::Row>
    };
}

impl From<Value> for Row {
    fn from(value: Value) -> Self {
        match value {
            Value::Object(cells) => Self(Cells::ByName(cells)),
            Value::Array(cells) => Self(Cells::InOrder(cells)),
            cell => Self(Cells::InOrder(vec![cell])),
        }
    }
}

macro_rules! row_from_one_value {
    ($($kind:ty),*) => {$(
        impl From<$kind> for Row {
            fn from(value: $kind) -> Self {
                Self(Cells::InOrder(vec![value.into()]))
            }
        }
    )*};
}

row_from_one_value!(i32, i64, u32, f64, bool, &str, String);

macro_rules! row_from_tuple {
    ($($cell:ident)+) => {
        impl<$($cell: Into<Value>),+> From<($($cell,)+)> for Row {
            #[allow(non_snake_case, reason = "each cell is named like its type")]
            fn from(($($cell,)+): ($($cell,)+)) -> Self {
                Self(Cells::InOrder(vec![$($cell.into()),+]))
            }
        }
    };
}

row_from_tuple!(A);
row_from_tuple!(A B);
row_from_tuple!(A B C);
row_from_tuple!(A B C D);
row_from_tuple!(A B C D E);
row_from_tuple!(A B C D E F);
row_from_tuple!(A B C D E F G);
row_from_tuple!(A B C D E F G H);
row_from_tuple!(A B C D E F G H I);
row_from_tuple!(A B C D E F G H I J);
row_from_tuple!(A B C D E F G H I J K);
row_from_tuple!(A B C D E F G H I J K L);

impl Row {
    /// The cells as a JSON object for these columns, each in the one form that readers of JSON take.
    pub(super) fn to_json(&self, schema: &Schema) -> Result<Value, String> {
        let cells = self.cells(schema)?;
        let named =
            schema.fields().iter().map(|field| field.name().clone()).zip(cells).filter(|(_, cell)| *cell != NULL);
        Ok(Value::Object(named.collect()))
    }

    /// The cells in the order of the columns, each in the one form that answers have.
    pub(super) fn cells(&self, schema: &Schema) -> Result<Vec<Value>, String> {
        let fields = schema.fields();
        let names = || fields.iter().map(|field| field.name().as_str()).collect::<Vec<_>>().join(", ");
        match &self.0 {
            Cells::InOrder(cells) if cells.len() != fields.len() => Err(format!(
                "{} has {} cells, but there are {} columns: {}",
                Value::Array(cells.clone()),
                cells.len(),
                fields.len(),
                names()
            )),
            Cells::InOrder(cells) => {
                let cells = cells.iter().zip(fields);
                cells.map(|(cell, field)| settled(cell, field.data_type(), field.name())).collect()
            }
            Cells::ByName(cells) => {
                if let Some(name) = cells.keys().find(|name| schema.field_with_name(name).is_err()) {
                    return Err(format!("there is no column {name}; the columns are {}", names()));
                }
                let cell = |name: &str| cells.get(name).unwrap_or(&NULL);
                fields.iter().map(|field| settled(cell(field.name()), field.data_type(), field.name())).collect()
            }
        }
    }
}

/// Rows as a batch with this schema.
pub(super) fn record_batch(schema: &SchemaRef, rows: &[Row]) -> Result<RecordBatch, String> {
    let lines = rows.iter().map(|row| row.to_json(schema).map(|row| row.to_string())).collect::<Result<Vec<_>, _>>()?;
    let reader = ReaderBuilder::new(Arc::clone(schema)).with_batch_size(lines.len().max(1));
    let mut decoder = reader.build_decoder().map_err(|error| error.to_string())?;
    for line in &lines {
        let decoded = decoder.decode(line.as_bytes()).and_then(|_| decoder.decode(b"\n"));
        decoded.map_err(|error| format!("{line}: {error}"))?;
    }
    let batch = decoder.flush().map_err(|error| error.to_string())?;
    Ok(batch.unwrap_or_else(|| RecordBatch::new_empty(Arc::clone(schema))))
}

/// A cell in the one form that its type has.
fn settled(cell: &Value, kind: &DataType, name: &str) -> Result<Value, String> {
    let refused = |wanted: &str| Err(format!("column {name} ({kind}): {cell} is not {wanted}"));
    match (kind, cell) {
        (_, Value::Null) => Ok(NULL),
        (DataType::Timestamp(..), Value::Number(seconds)) => match exact_us(seconds) {
            Some(us) => Ok(time_text(us).into()),
            None => refused("a time"),
        },
        (DataType::Timestamp(..), Value::String(text)) => match time_us(text) {
            Some(us) => Ok(time_text(us).into()),
            None => refused("a time such as 2024-01-01 00:00:10.5"),
        },
        (DataType::Timestamp(..), _) => refused("a time such as 2024-01-01 00:00:10.5"),
        (DataType::Struct(fields), Value::Object(_) | Value::Array(_)) => {
            let cells = Row::from(cell.clone()).cells(&Schema::new(fields.clone()))?;
            Ok(Value::Object(fields.iter().map(|field| field.name().clone()).zip(cells).collect()))
        }
        (DataType::List(item) | DataType::LargeList(item), Value::Array(cells)) => {
            cells.iter().map(|cell| settled(cell, item.data_type(), name)).collect()
        }
        (DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View, Value::String(_)) => Ok(cell.clone()),
        (DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View, _) => refused("a text; write it in quotes"),
        (DataType::Boolean, Value::Bool(_)) => Ok(cell.clone()),
        (DataType::Boolean, _) => refused("true or false"),
        (kind, Value::Number(_)) if kind.is_numeric() => Ok(cell.clone()),
        (kind, Value::String(_)) if kind.is_floating() || is_decimal(kind) => Ok(cell.clone()),
        (kind, _) if kind.is_numeric() => refused("a number"),
        _ => Ok(cell.clone()),
    }
}

fn is_decimal(kind: &DataType) -> bool {
    matches!(kind, DataType::Decimal128(..) | DataType::Decimal256(..))
}

fn exact_us(seconds: &Number) -> Option<i64> {
    match seconds.as_i64() {
        Some(seconds) => seconds.checked_mul(1_000_000),
        None => seconds.as_f64().map(|seconds| (seconds * 1e6).round() as i64),
    }
}

/// Microseconds since 1970 of a time as people write it; without a zone it is UTC.
pub(super) fn time_us(text: &str) -> Option<i64> {
    if let Ok(zoned) = DateTime::parse_from_rfc3339(text) {
        return Some(zoned.timestamp_micros());
    }
    let text = text.trim().trim_end_matches('Z');
    for pattern in ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M"] {
        if let Ok(time) = NaiveDateTime::parse_from_str(text, pattern) {
            return Some(time.and_utc().timestamp_micros());
        }
    }
    let date = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
    Some(date.and_hms_opt(0, 0, 0)?.and_utc().timestamp_micros())
}

/// A time of a progress report as tables show it.
pub(super) fn plain_time(text: &str) -> String {
    time_us(text).map_or_else(|| text.to_owned(), time_text)
}

/// `2024-01-01 00:00:10`, with as many digits after the second as are needed.
pub(super) fn time_text(us: i64) -> String {
    let Some(time) = DateTime::from_timestamp_micros(us) else { return format!("{us} us") };
    let text = time.format("%Y-%m-%d %H:%M:%S%.6f").to_string();
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// The rows of batches, as cells in the order of the columns.
pub(super) fn cells_of(batches: &[RecordBatch]) -> Vec<Vec<Value>> {
    let row = |batch: &RecordBatch, row: usize| batch.columns().iter().map(|column| value(column, row)).collect();
    batches.iter().flat_map(|batch| (0..batch.num_rows()).map(move |at| row(batch, at))).collect()
}

fn value(column: &ArrayRef, row: usize) -> Value {
    if column.is_null(row) {
        return NULL;
    }
    let as_type = |kind: &DataType| cast(&column.slice(row, 1), kind).ok();
    match column.data_type() {
        DataType::Struct(fields) => {
            let columns = column.as_struct().columns();
            Value::Object(fields.iter().zip(columns).map(|(f, c)| (f.name().clone(), value(c, row))).collect())
        }
        DataType::List(_) => items(&column.as_list::<i32>().value(row)),
        DataType::LargeList(_) => items(&column.as_list::<i64>().value(row)),
        DataType::Map(..) => {
            let entries = column.as_map().value(row);
            let (keys, values) = (entries.column(0), entries.column(1));
            (0..entries.len()).map(|at| (shown(&value(keys, at)), value(values, at))).collect::<Map<_, _>>().into()
        }
        DataType::Timestamp(..) => as_type(&DataType::Timestamp(TimeUnit::Microsecond, None))
            .map_or(NULL, |times| time_text(times.as_primitive::<TimestampMicrosecondType>().value(0)).into()),
        DataType::Boolean => column.as_boolean().value(row).into(),
        kind if kind.is_floating() => as_type(&DataType::Float64).map_or(NULL, |numbers| {
            let number = numbers.as_primitive::<Float64Type>().value(0);
            Number::from_f64(number).map_or_else(|| format!("{number}").into(), Value::Number)
        }),
        kind if kind.is_integer() && *kind != DataType::UInt64 => {
            as_type(&DataType::Int64).map_or(NULL, |numbers| numbers.as_primitive::<Int64Type>().value(0).into())
        }
        _ => array_value_to_string(column, row).unwrap_or_else(|error| error.to_string()).into(),
    }
}

fn items(list: &ArrayRef) -> Value {
    (0..list.len()).map(|at| value(list, at)).collect()
}

/// A cell as text, as a table shows it: text without quotes, NULL in capitals.
pub(super) fn shown(cell: &Value) -> String {
    match cell {
        Value::Null => "NULL".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(cells) => format!("[{}]", cells.iter().map(shown).collect::<Vec<_>>().join(", ")),
        Value::Object(cells) => format!("{{{}}}", cells.values().map(shown).collect::<Vec<_>>().join(", ")),
        other => other.to_string(),
    }
}

/// A row as one line.
pub(super) fn shown_row(row: &[Value]) -> String {
    format!("[{}]", row.iter().map(shown).collect::<Vec<_>>().join(", "))
}

/// Whether two rows are the same; floating point within 1e-9 relative, decimals whatever zeros they end in.
pub(super) fn same_row(expected: &[Value], got: &[Value]) -> bool {
    expected.len() == got.len() && expected.iter().zip(got).all(|(expected, got)| same(expected, got))
}

fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(x), Value::Number(y)) => match (x.as_i64(), y.as_i64(), x.as_f64(), y.as_f64()) {
            (Some(x), Some(y), ..) => x == y,
            (.., Some(x), Some(y)) => x == y || (x - y).abs() <= 1e-9 * x.abs().max(y.abs()),
            _ => x == y,
        },
        (Value::Number(number), Value::String(text)) | (Value::String(text), Value::Number(number)) => {
            plain_number(text) == plain_number(&number.to_string()) && plain_number(text).is_some()
        }
        (Value::String(x), Value::String(y)) => {
            x == y || (plain_number(x).is_some() && plain_number(x) == plain_number(y))
        }
        (Value::Object(x), Value::Object(y)) => {
            x.len() == y.len() && x.iter().all(|(key, x)| y.get(key).is_some_and(|y| same(x, y)))
        }
        (Value::Array(x), Value::Array(y)) => same_row(x, y),
        (a, b) => a == b,
    }
}

/// The digits of a decimal without zeros that say nothing; `None` for other texts.
fn plain_number(text: &str) -> Option<&str> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = digits.split_once('.')?;
    let all_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    (all_digits(whole) && all_digits(fraction)).then(|| text.trim_end_matches('0').trim_end_matches('.'))
}

/// How two lists of rows differ.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Difference {
    /// Expected, and not there.
    pub(super) missing: Vec<Vec<Value>>,
    /// There, and not expected.
    pub(super) surplus: Vec<Vec<Value>>,
}

/// What differs between two lists of rows, taken as multisets.
pub(super) fn difference(expected: &[Vec<Value>], got: &[Vec<Value>]) -> Difference {
    let mut surplus = got.to_vec();
    let mut missing = vec![];
    for row in expected {
        match surplus.iter().position(|candidate| same_row(row, candidate)) {
            Some(at) => drop(surplus.remove(at)),
            None => missing.push(row.clone()),
        }
    }
    Difference { missing, surplus }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use wavetank_engine::sql::parse_ddl_schema;

    use super::*;

    fn there_and_back(ddl: &str, row: Row) -> Result<Vec<Value>, String> {
        let schema = parse_ddl_schema(ddl).unwrap();
        let batch = record_batch(&schema, std::slice::from_ref(&row))?;
        let (expected, got) = (row.cells(&schema)?, cells_of(&[batch]));
        assert!(same_row(&expected, &got[0]), "{expected:?} {got:?}");
        Ok(got[0].clone())
    }

    #[test]
    fn rows_come_back_as_they_were_written() {
        let ddl = "t TIMESTAMP, d DATE, n DECIMAL(10,3), x DOUBLE, s STRUCT<a: INT, b: ARRAY<STRING>>";
        let row = json!(["2024-01-01T00:00:10.500Z", "2024-02-29", "1.50", 0.1, [1, ["p", null]]]);
        let got = there_and_back(ddl, row.into()).unwrap();
        assert_eq!(shown_row(&got), "[2024-01-01 00:00:10.5, 2024-02-29, 1.500, 0.1, {1, [p, NULL]}]");
        assert_eq!(there_and_back("t TIMESTAMP", 10.into()).unwrap(), ["1970-01-01 00:00:10"]);
        assert_eq!(there_and_back("t TIMESTAMP", (1.000001,).into()).unwrap(), ["1970-01-01 00:00:01.000001"]);
        assert_eq!(there_and_back("a INT, b STRING", json!({"b": "x"}).into()).unwrap(), [NULL, "x".into()]);
    }

    #[test]
    fn what_does_not_fit_is_refused_by_name() {
        for (ddl, row, said) in [
            ("a INT, b INT", Row::from(1), "[1] has 1 cells, but there are 2 columns: a, b"),
            ("a INT", Row::from("x"), "column a (Int32): \"x\" is not a number"),
            ("a STRING", Row::from(1), "column a (Utf8): 1 is not a text"),
            ("t TIMESTAMP", Row::from("soon"), "\"soon\" is not a time"),
            ("a INT", Row::from(json!({"b": 1})), "there is no column b; the columns are a"),
            ("a INT", Row::from(i64::MAX), "a"),
        ] {
            let error = there_and_back(ddl, row).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }

    #[test]
    fn equal_is_equal_in_value_and_the_difference_is_a_multiset() {
        for (a, b, equal) in [
            (json!(0.1 + 0.2), json!(0.3), true),
            (json!(3), json!(3.0), true),
            (json!(9007199254740993_i64), json!(9007199254740992_i64), false),
            (json!("1.50"), json!("1.5"), true),
            (json!(1.5), json!("1.500"), true),
            (json!("1.5"), json!("1.55"), false),
            (json!("a"), json!(null), false),
        ] {
            assert_eq!(same(&a, &b), equal, "{a} {b}");
        }
        let rows = |values: &[i64]| values.iter().map(|value| vec![json!(value)]).collect::<Vec<_>>();
        let found = difference(&rows(&[1, 1, 2]), &rows(&[1, 3, 1, 1]));
        assert_eq!((found.missing, found.surplus), (rows(&[2]), rows(&[3, 1])));
    }
}
