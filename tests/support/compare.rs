//! Rows as Spark wrote them down, and when two of them are the same.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float32Type, Float64Type, TimeUnit, TimestampMicrosecondType};
use serde_json::{Map, Value};

/// A batch's rows as JSON values in column order.
pub fn rows_of(batches: &[RecordBatch]) -> Vec<Vec<Value>> {
    let row = |batch: &RecordBatch, row: usize| batch.columns().iter().map(|column| value(column, row)).collect();
    batches.iter().flat_map(|batch| (0..batch.num_rows()).map(move |at| row(batch, at))).collect()
}

fn value(column: &ArrayRef, row: usize) -> Value {
    if column.is_null(row) {
        return Value::Null;
    }
    match column.data_type() {
        DataType::Struct(fields) => {
            let columns = column.as_struct().columns();
            let entries = fields.iter().zip(columns).map(|(field, column)| (field.name().clone(), value(column, row)));
            Value::Object(entries.collect::<Map<_, _>>())
        }
        DataType::List(_) => {
            let items = column.as_list::<i32>().value(row);
            (0..items.len()).map(|at| value(&items, at)).collect()
        }
        DataType::Map(..) => {
            let entries = column.as_map().value(row);
            let (keys, values) = (entries.column(0), entries.column(1));
            let text = |at| match value(keys, at) {
                Value::String(text) => text,
                other => other.to_string(),
            };
            Value::Object((0..entries.len()).map(|at| (text(at), value(values, at))).collect::<Map<_, _>>())
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            let us = column.as_primitive::<TimestampMicrosecondType>().value(row);
            let time = chrono::DateTime::from_timestamp_micros(us).expect("a time within chrono's range");
            time.format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string().into()
        }
        DataType::Float64 => column.as_primitive::<Float64Type>().value(row).into(),
        DataType::Float32 => f64::from(column.as_primitive::<Float32Type>().value(row)).into(),
        DataType::Boolean => column.as_boolean().value(row).into(),
        DataType::Utf8 => column.as_string::<i32>().value(row).into(),
        other if other.is_integer() => {
            let wide = arrow::compute::cast(column, &DataType::Int64).expect("integers widen");
            wide.as_primitive::<arrow::datatypes::Int64Type>().value(row).into()
        }
        _ => arrow::util::display::array_value_to_string(column, row).expect("a printable value").into(),
    }
}

/// What differs between two batches' rows; rows are a multiset unless `ordered`.
pub fn differ(expected: &[Vec<Value>], got: &[Vec<Value>], ordered: bool) -> Option<String> {
    if ordered {
        let same = expected.len() == got.len() && expected.iter().zip(got).all(|(a, b)| same_row(a, b));
        return (!same).then(|| format!("expected in this order\n  {}\ngot\n  {}", lines(expected), lines(got)));
    }
    let mut surplus: Vec<_> = got.to_vec();
    let mut missing = vec![];
    for row in expected {
        match surplus.iter().position(|candidate| same_row(row, candidate)) {
            Some(at) => drop(surplus.swap_remove(at)),
            None => missing.push(row.clone()),
        }
    }
    (!missing.is_empty() || !surplus.is_empty())
        .then(|| format!("missing rows\n  {}\nrows too many\n  {}", lines(&missing), lines(&surplus)))
}

fn lines(rows: &[Vec<Value>]) -> String {
    let lines: Vec<_> = rows.iter().map(|row| Value::Array(row.clone()).to_string()).collect();
    lines.join("\n  ")
}

fn same_row(a: &[Value], b: &[Value]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
}

/// Equal, floating point within 1e-9 relative.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(x), Value::Number(y)) if x.is_f64() || y.is_f64() => match (x.as_f64(), y.as_f64()) {
            (Some(x), Some(y)) => x == y || (x - y).abs() <= 1e-9 * x.abs().max(y.abs()),
            _ => false,
        },
        (Value::Object(x), Value::Object(y)) => {
            x.len() == y.len() && x.iter().zip(y).all(|((k, x), (l, y))| k == l && same(x, y))
        }
        (Value::Array(x), Value::Array(y)) => same_row(x, y),
        (a, b) => a == b,
    }
}
