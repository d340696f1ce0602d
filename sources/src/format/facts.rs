//! Runs the table of facts: what real Spark 4.3.0 made of a file, in each parse mode, against what the decoders make.
//!
//! `facts/*.json` holds one case per entry: schema, options, the file's content, and Spark's rows as `to_json` wrote
//! them. Rows are compared as values: numbers by value, texts by text.

use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    TimestampMicrosecondType,
};
use chrono::{DateTime, Datelike, NaiveDate, TimeDelta};
use object_store::ObjectStoreExt;
use object_store::memory::InMemory;
use serde_json::{Map, Value, json};
use wavetank_engine::options::Options;

use crate::format::LineDecoder;
use crate::format::lines::{FileBytes, LineReader};
use crate::format::options::TextOptions;

/// One case of a table of facts.
#[derive(Debug, serde::Deserialize)]
pub(crate) struct Fact {
    pub(crate) name: String,
    pub(crate) schema: String,
    pub(crate) options: std::collections::BTreeMap<String, String>,
    pub(crate) content: String,
    pub(crate) permissive: Value,
    #[serde(default)]
    pub(crate) dropmalformed: Value,
    #[serde(default)]
    pub(crate) failfast: Value,
    #[serde(default)]
    pub(crate) first_column_only: Value,
}

impl Fact {
    pub(crate) fn options(&self, mode: &str) -> Options {
        self.options.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect::<Options>().with("mode", mode)
    }
}

/// Compares rows with Spark's; gives the differences as text.
pub(crate) fn differences(expected: &Value, found: &[Value]) -> Option<String> {
    let Some(expected) = expected.as_array() else {
        return Some(format!("Spark failed: {expected}; here: {found:?}"));
    };
    let expected: Vec<Value> =
        expected.iter().map(|row| serde_json::from_str(row.as_str().unwrap_or_default()).unwrap()).collect();
    let mut lines = Vec::new();
    for at in 0..expected.len().max(found.len()) {
        match (expected.get(at), found.get(at)) {
            (Some(one), Some(other)) if same(one, other) => {}
            (one, other) => lines.push(format!("  row {at}\n    Spark: {}\n    here:  {}", show(one), show(other))),
        }
    }
    (!lines.is_empty()).then(|| lines.join("\n"))
}

fn show(row: Option<&Value>) -> String {
    row.map_or("(none)".into(), |row| row.to_string().chars().take(300).collect())
}

fn same(spark: &Value, here: &Value) -> bool {
    match (spark, here) {
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|((k, one), (l, other))| k == l && same(one, other))
        }
        (Value::Number(one), Value::Number(other)) => one == other || one.as_f64() == other.as_f64(),
        (Value::Number(one), Value::String(other)) if other.starts_with("f32 ") => {
            one.as_f64().map(|value| value as f32) == other[4..].parse().ok()
        }
        _ => spark == here,
    }
}

/// The rows of batches as `to_json` shows them.
pub(crate) fn shown(batches: &[RecordBatch]) -> Vec<Value> {
    batches
        .iter()
        .flat_map(|batch| {
            (0..batch.num_rows()).map(|row| {
                let schema = batch.schema();
                let cells = schema.fields().iter().zip(batch.columns());
                Value::Object(cells.map(|(field, column)| (field.name().clone(), cell(column, row))).collect())
            })
        })
        .collect()
}

fn cell(array: &Arc<dyn Array>, row: usize) -> Value {
    if array.is_null(row) {
        return Value::Null;
    }
    match array.data_type() {
        DataType::Boolean => json!(array.as_boolean().value(row)),
        DataType::Int8 => json!(array.as_primitive::<Int8Type>().value(row)),
        DataType::Int16 => json!(array.as_primitive::<Int16Type>().value(row)),
        DataType::Int32 => json!(array.as_primitive::<Int32Type>().value(row)),
        DataType::Int64 => json!(array.as_primitive::<Int64Type>().value(row)),
        // Marked, because Java and Rust print 32-bit floats with different digits.
        DataType::Float32 => match float(array.as_primitive::<Float32Type>().value(row).into()) {
            Value::Number(number) => json!(format!("f32 {number}")),
            word => word,
        },
        DataType::Float64 => float(array.as_primitive::<Float64Type>().value(row)),
        DataType::Decimal128(..) => {
            serde_json::from_str(&array.as_primitive::<Decimal128Type>().value_as_string(row)).unwrap()
        }
        DataType::Utf8 => json!(array.as_string::<i32>().value(row)),
        DataType::Binary => json!(base64(array.as_binary::<i32>().value(row))),
        DataType::Date32 => {
            let days = array.as_primitive::<Date32Type>().value(row);
            json!(date(days.into()))
        }
        DataType::Timestamp(_, zone) => {
            let micros = array.as_primitive::<TimestampMicrosecondType>().value(row);
            let time =
                DateTime::from_timestamp(0, 0).unwrap() + TimeDelta::microseconds(micros.rem_euclid(86_400_000_000));
            let end = if zone.is_some() { "Z" } else { "" };
            json!(format!("{}T{}{end}", date(micros.div_euclid(86_400_000_000)), time.format("%H:%M:%S%.6f")))
        }
        DataType::Struct(fields) => {
            let columns = array.as_struct().columns();
            Value::Object(
                fields.iter().zip(columns).map(|(field, column)| (field.name().clone(), cell(column, row))).collect(),
            )
        }
        DataType::List(_) => {
            let items = array.as_list::<i32>().value(row);
            (0..items.len()).map(|item| cell(&items, item)).collect()
        }
        DataType::Map(..) => {
            let entries = array.as_map().value(row);
            let (keys, values) = (entries.column(0).as_string::<i32>(), entries.column(1));
            Value::Object(
                (0..keys.len()).map(|at| (keys.value(at).to_owned(), cell(values, at))).collect::<Map<_, _>>(),
            )
        }
        other => panic!("no text for {other}"),
    }
}

fn float(value: f64) -> Value {
    if value.is_nan() {
        json!("NaN")
    } else if value.is_infinite() {
        json!(if value > 0.0 { "Infinity" } else { "-Infinity" })
    } else {
        json!(value)
    }
}

fn date(days: i64) -> String {
    // The calendar repeats itself every 400 years; chrono ends before Spark does.
    let (eras, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let date = NaiveDate::from_ymd_opt(1970, 1, 1).unwrap() + TimeDelta::days(of_era);
    let year = i64::from(date.year()) + eras * 400;
    let sign = if year > 9999 {
        "+"
    } else if year < 0 {
        "-"
    } else {
        ""
    };
    format!("{sign}{:04}-{:02}-{:02}", year.abs(), date.month(), date.day())
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let mut three = [0; 3];
        three[..chunk.len()].copy_from_slice(chunk);
        let bits = u32::from_be_bytes([0, three[0], three[1], three[2]]);
        for at in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * at) & 63) as usize] as char;
            text.push(if at <= chunk.len() { digit } else { '=' });
        }
    }
    text
}

/// What a decoder makes of a file with this content.
pub(crate) fn decode(
    decoder: &mut dyn LineDecoder,
    content: &str,
    options: &TextOptions,
) -> wavetank_engine::Result<Vec<RecordBatch>> {
    let store = Arc::new(InMemory::new());
    let location = object_store::path::Path::from("f");
    futures::executor::block_on(async {
        store.put(&location, content.as_bytes().to_vec().into()).await?;
        let size = content.len() as u64;
        let file = FileBytes { store, location, uri: "mem:///f".into(), size };
        let mut reader = LineReader::new(file, 0..size, options.line_separator.as_deref(), options.whole_file)?;
        let mut batches = Vec::new();
        loop {
            let is_done = reader.feed(decoder).await?;
            if !decoder.is_empty() {
                batches.push(decoder.finish()?);
            }
            if is_done {
                return Ok(batches);
            }
        }
    })
}
