//! Spark's date and time functions that DataFusion lacks or means differently. The session's zone is UTC.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, PrimitiveArray, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{
    DataType, Date32Type, Field, FieldRef, Float64Type, Int32Type, Int64Type, TimestampMicrosecondType,
};
use chrono::{DateTime, Datelike, Months, Utc};
use datafusion::common::internal_err;
use datafusion::error::Result;
use datafusion::logical_expr::{ReturnFieldArgs, ScalarUDF};

use super::call::{Arguments, Call};
use super::cast_text::{read_date, read_timestamp};
use super::datetime_pattern::{Pattern, day_name};
use crate::error::Error;
use crate::sql::types::timestamp_type;
use crate::sql::wrong_argument_count;

const SECOND_US: i64 = 1_000_000;
const DAY_US: i64 = 86_400 * SECOND_US;

/// The functions of this file.
pub fn functions() -> Vec<Arc<ScalarUDF>> {
    vec![
        Call::computed("date_format", print_types, text_field, date_format),
        Call::computed("from_unixtime", from_unix_types, text_field, from_unixtime),
        Call::computed("to_timestamp", read_types, timestamp_field, |a| read_times("to_timestamp", &a)),
        Call::computed("to_date", read_types, date_field, to_date),
        Call::computed("unix_timestamp", read_types, bigint_field, |a| unix_timestamp("unix_timestamp", a)),
        Call::computed("to_unix_timestamp", read_types, bigint_field, |a| unix_timestamp("to_unix_timestamp", a)),
        Call::computed("timestamp_seconds", seconds_types, timestamp_field, timestamp_seconds),
        Call::computed("timestamp_millis", int_types, timestamp_field, |a| timestamp_of(a, 1_000)),
        Call::computed("timestamp_micros", int_types, timestamp_field, |a| timestamp_of(a, 1)),
        Call::computed("date_from_unix_date", |_, _| Ok(vec![DataType::Int32]), date_field, date_from_unix_date),
        Call::computed("timestampadd", add_types, timestamp_field, timestamp_add),
        Call::computed("timestampdiff", diff_types, bigint_field, timestamp_diff),
        Call::computed("dayname", |_, _| Ok(vec![DataType::Date32]), text_field, dayname),
    ]
}

// ---- types ----

fn text_field(name: &str, _: ReturnFieldArgs) -> Result<FieldRef> {
    Ok(Arc::new(Field::new(name, DataType::Utf8, true)))
}

fn timestamp_field(name: &str, _: ReturnFieldArgs) -> Result<FieldRef> {
    Ok(Arc::new(Field::new(name, timestamp_type(), true)))
}

fn date_field(name: &str, _: ReturnFieldArgs) -> Result<FieldRef> {
    Ok(Arc::new(Field::new(name, DataType::Date32, true)))
}

fn bigint_field(name: &str, _: ReturnFieldArgs) -> Result<FieldRef> {
    Ok(Arc::new(Field::new(name, DataType::Int64, true)))
}

fn count(name: &str, types: &[DataType], allowed: std::ops::RangeInclusive<usize>) -> Result<()> {
    if allowed.contains(&types.len()) {
        return Ok(());
    }
    let expected = allowed.map(|n| n.to_string()).collect::<Vec<_>>().join(", ");
    Err(wrong_argument_count(name, &format!("[{expected}]"), types.len()).into())
}

fn print_types(name: &str, types: &[DataType]) -> Result<Vec<DataType>> {
    count(name, types, 2..=2)?;
    Ok(vec![timestamp_type(), DataType::Utf8])
}

fn from_unix_types(name: &str, types: &[DataType]) -> Result<Vec<DataType>> {
    count(name, types, 1..=2)?;
    Ok([DataType::Int64, DataType::Utf8][..types.len()].to_vec())
}

/// A text with a pattern or without, or a time or date as it is.
fn read_types(name: &str, types: &[DataType]) -> Result<Vec<DataType>> {
    count(name, types, 1..=2)?;
    let first = match &types[0] {
        DataType::Timestamp(..) | DataType::Date32 => timestamp_type(),
        _ => DataType::Utf8,
    };
    Ok([first, DataType::Utf8][..types.len()].to_vec())
}

fn seconds_types(name: &str, types: &[DataType]) -> Result<Vec<DataType>> {
    count(name, types, 1..=1)?;
    Ok(vec![if types[0].is_integer() { DataType::Int64 } else { DataType::Float64 }])
}

fn int_types(name: &str, types: &[DataType]) -> Result<Vec<DataType>> {
    count(name, types, 1..=1)?;
    Ok(vec![DataType::Int64])
}

fn add_types(name: &str, types: &[DataType]) -> Result<Vec<DataType>> {
    count(name, types, 3..=3)?;
    Ok(vec![DataType::Utf8, DataType::Int64, timestamp_type()])
}

fn diff_types(name: &str, types: &[DataType]) -> Result<Vec<DataType>> {
    count(name, types, 3..=3)?;
    Ok(vec![DataType::Utf8, timestamp_type(), timestamp_type()])
}

// ---- printing ----

/// The pattern of the row before is not compiled again.
#[derive(Default)]
struct Patterns {
    last: Option<(String, Pattern)>,
}

impl Patterns {
    fn get(&mut self, text: &str) -> Result<&Pattern> {
        if self.last.as_ref().is_none_or(|(known, _)| known != text) {
            self.last = Some((text.to_owned(), Pattern::new(text)?));
        }
        match &self.last {
            Some((_, pattern)) => Ok(pattern),
            None => internal_err!("a pattern was just compiled"),
        }
    }
}

fn print(times: &TimestampMicrosecondArray, patterns: Option<&StringArray>) -> Result<ArrayRef> {
    let mut compiled = Patterns::default();
    let mut texts = Vec::with_capacity(times.len());
    for row in 0..times.len() {
        if times.is_null(row) || patterns.is_some_and(|p| p.is_null(row)) {
            texts.push(None);
            continue;
        }
        let pattern = compiled.get(patterns.map_or("yyyy-MM-dd HH:mm:ss", |p| p.value(row)))?;
        texts.push(Some(pattern.print(times.value(row))));
    }
    Ok(Arc::new(StringArray::from(texts)))
}

fn date_format(arguments: Arguments) -> Result<ArrayRef> {
    print(arguments.arrays[0].as_primitive(), Some(arguments.arrays[1].as_string()))
}

fn from_unixtime(arguments: Arguments) -> Result<ArrayRef> {
    let seconds = arguments.arrays[0].as_primitive::<Int64Type>();
    let times: TimestampMicrosecondArray = seconds.unary(|s| s.saturating_mul(SECOND_US));
    print(&times, arguments.arrays.get(1).map(|p| p.as_string()))
}

fn dayname(arguments: Arguments) -> Result<ArrayRef> {
    let dates = arguments.arrays[0].as_primitive::<Date32Type>();
    // 1970-01-01 was a Thursday.
    let names = dates.iter().map(|day| day.map(|day| day_name((i64::from(day) + 3).rem_euclid(7) as u32)));
    Ok(Arc::new(names.collect::<StringArray>()))
}

// ---- reading ----

fn read_times(name: &str, arguments: &Arguments) -> Result<ArrayRef> {
    if arguments.arrays[0].data_type() != &DataType::Utf8 {
        return Ok(Arc::clone(&arguments.arrays[0]));
    }
    let texts = arguments.arrays[0].as_string::<i32>();
    let patterns = arguments.arrays.get(1).map(|p| p.as_string::<i32>());
    let mut compiled = Patterns::default();
    let mut times = TimestampMicrosecondArray::builder(texts.len());
    for row in 0..texts.len() {
        if texts.is_null(row) || patterns.is_some_and(|p| p.is_null(row)) {
            times.append_null();
            continue;
        }
        let text = texts.value(row);
        let time = match patterns {
            None => read_timestamp(text),
            Some(patterns) => compiled.get(patterns.value(row))?.read(text),
        };
        times.append_value(time.ok_or_else(|| unreadable(name, text, patterns.map(|p| p.value(row))))?);
    }
    Ok(Arc::new(times.finish().with_timezone("UTC")))
}

fn unreadable(name: &str, text: &str, pattern: Option<&str>) -> Error {
    let with = pattern.map(|p| format!(" with the pattern '{p}'")).unwrap_or_default();
    Error::analysis_class(
        "CANNOT_PARSE_TIMESTAMP",
        format!("Text '{text}' could not be parsed by {name}{with}. Use `try_to_timestamp` to tolerate invalid input."),
    )
}

fn to_date(arguments: Arguments) -> Result<ArrayRef> {
    let plain = arguments.arrays.len() == 1 && arguments.arrays[0].data_type() == &DataType::Utf8;
    if plain {
        let texts = arguments.arrays[0].as_string::<i32>();
        let mut dates = PrimitiveArray::<Date32Type>::builder(texts.len());
        for text in texts {
            dates.append_option(match text {
                None => None,
                Some(text) => Some(read_date(text).ok_or_else(|| unreadable("to_date", text, None))?),
            });
        }
        return Ok(Arc::new(dates.finish()));
    }
    let times = read_times("to_date", &arguments)?;
    let days: PrimitiveArray<Date32Type> =
        times.as_primitive::<TimestampMicrosecondType>().unary(|us| us.div_euclid(DAY_US) as i32);
    Ok(Arc::new(days))
}

fn unix_timestamp(name: &str, arguments: Arguments) -> Result<ArrayRef> {
    let times = read_times(name, &arguments)?;
    let seconds: Int64Array = times.as_primitive::<TimestampMicrosecondType>().unary(|us| us.div_euclid(SECOND_US));
    Ok(Arc::new(seconds))
}

// ---- from numbers ----

fn timestamp_seconds(arguments: Arguments) -> Result<ArrayRef> {
    if arguments.arrays[0].data_type() == &DataType::Int64 {
        return timestamp_of(arguments, SECOND_US);
    }
    let seconds = arguments.arrays[0].as_primitive::<Float64Type>();
    let times: TimestampMicrosecondArray = seconds.unary(|s| (s * 1e6) as i64);
    Ok(Arc::new(times.with_timezone("UTC")))
}

fn timestamp_of(arguments: Arguments, unit_us: i64) -> Result<ArrayRef> {
    let numbers = arguments.arrays[0].as_primitive::<Int64Type>();
    let times: TimestampMicrosecondArray = numbers.try_unary(|n| n.checked_mul(unit_us).ok_or_else(too_far))?;
    Ok(Arc::new(times.with_timezone("UTC")))
}

fn too_far() -> Error {
    Error::analysis_class("DATETIME_OVERFLOW", "A time lies too far from 1970 for a TIMESTAMP.")
}

fn date_from_unix_date(arguments: Arguments) -> Result<ArrayRef> {
    let days: PrimitiveArray<Date32Type> = arguments.arrays[0].as_primitive::<Int32Type>().unary(|day| day);
    Ok(Arc::new(days))
}

// ---- arithmetic with units ----

/// Months, or microseconds, of one unit.
enum Unit {
    Months(i64),
    Micros(i64),
}

fn unit(name: &str) -> Result<Unit> {
    Ok(match name.to_ascii_lowercase().as_str() {
        "microsecond" => Unit::Micros(1),
        "millisecond" => Unit::Micros(1_000),
        "second" => Unit::Micros(SECOND_US),
        "minute" => Unit::Micros(60 * SECOND_US),
        "hour" => Unit::Micros(3_600 * SECOND_US),
        "day" | "dayofyear" => Unit::Micros(DAY_US),
        "week" => Unit::Micros(7 * DAY_US),
        "month" => Unit::Months(1),
        "quarter" => Unit::Months(3),
        "year" => Unit::Months(12),
        _ => {
            let known =
                ["microsecond", "millisecond", "second", "minute", "hour", "day", "week", "month", "quarter", "year"];
            return Err(Error::analysis_class(
                "INVALID_PARAMETER_VALUE.DATETIME_UNIT",
                format!(
                    "'{name}' is not a unit of time.{} Units are {}.",
                    crate::options::did_you_mean(name, known),
                    known.join(", ")
                ),
            )
            .into());
        }
    })
}

fn timestamp_add(arguments: Arguments) -> Result<ArrayRef> {
    let units = arguments.arrays[0].as_string::<i32>();
    let amounts = arguments.arrays[1].as_primitive::<Int64Type>();
    let times = arguments.arrays[2].as_primitive::<TimestampMicrosecondType>();
    let mut moved = TimestampMicrosecondArray::builder(times.len());
    for row in 0..times.len() {
        if units.is_null(row) || amounts.is_null(row) || times.is_null(row) {
            moved.append_null();
            continue;
        }
        let (amount, time) = (amounts.value(row), times.value(row));
        let result = match unit(units.value(row))? {
            Unit::Micros(each) => amount.checked_mul(each).and_then(|us| time.checked_add(us)),
            Unit::Months(each) => amount.checked_mul(each).and_then(|months| add_months(time, months)),
        };
        moved.append_value(result.ok_or_else(too_far)?);
    }
    Ok(Arc::new(moved.finish().with_timezone("UTC")))
}

fn add_months(time_us: i64, months: i64) -> Option<i64> {
    let time = DateTime::<Utc>::from_timestamp_micros(time_us)?;
    let count = Months::new(u32::try_from(months.unsigned_abs()).ok()?);
    let moved = if months < 0 { time.checked_sub_months(count) } else { time.checked_add_months(count) };
    Some(moved?.timestamp_micros())
}

fn timestamp_diff(arguments: Arguments) -> Result<ArrayRef> {
    let units = arguments.arrays[0].as_string::<i32>();
    let starts = arguments.arrays[1].as_primitive::<TimestampMicrosecondType>();
    let ends = arguments.arrays[2].as_primitive::<TimestampMicrosecondType>();
    let mut counts = Int64Array::builder(starts.len());
    for row in 0..starts.len() {
        if units.is_null(row) || starts.is_null(row) || ends.is_null(row) {
            counts.append_null();
            continue;
        }
        let (start, end) = (starts.value(row), ends.value(row));
        counts.append_value(match unit(units.value(row))? {
            Unit::Micros(each) => end.wrapping_sub(start) / each,
            Unit::Months(each) => whole_months(start, end).ok_or_else(too_far)? / each,
        });
    }
    Ok(Arc::new(counts.finish()))
}

/// How many months lie wholly between two times.
fn whole_months(start_us: i64, end_us: i64) -> Option<i64> {
    let (start, end) =
        (DateTime::<Utc>::from_timestamp_micros(start_us)?, DateTime::<Utc>::from_timestamp_micros(end_us)?);
    let months = i64::from(end.year() - start.year()) * 12 + i64::from(end.month()) - i64::from(start.month());
    let rest = (end.day(), end.time()).cmp(&(start.day(), start.time()));
    Some(match rest {
        std::cmp::Ordering::Less if months > 0 => months - 1,
        std::cmp::Ordering::Greater if months < 0 => months + 1,
        _ => months,
    })
}
