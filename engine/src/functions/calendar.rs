//! Functions between times and their parts: `months_between`, `make_timestamp`, the seconds of a time with their
//! fraction (`extract(SECOND FROM t)`). The session's zone is UTC.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Decimal128Array, Float64Array, PrimitiveArray};
use arrow::datatypes::{DataType, Decimal128Type, Field, FieldRef, Int32Type, TimestampMicrosecondType};
use chrono::{DateTime, Datelike, NaiveDate, Utc};
use datafusion::error::Result;
use datafusion::logical_expr::{ReturnFieldArgs, ScalarUDF};

use super::call::{Arguments, Call};
use crate::error::Error;
use crate::sql::types::timestamp_type;
use crate::sql::wrong_argument_count;

const SECOND_US: i64 = 1_000_000;
const MINUTE_US: i64 = 60 * SECOND_US;
const DAY_US: i64 = 24 * 60 * MINUTE_US;
/// `months_between` counts the rest in months of 31 days.
const MONTH_SECONDS: f64 = 31.0 * 86_400.0;

/// The seconds of a time as DECIMAL(8,6).
pub(crate) const SECONDS_CALL: &str = "__seconds";

/// The functions of this file.
pub fn functions() -> Vec<Arc<ScalarUDF>> {
    vec![
        Call::computed("months_between", between_types, double_field, months_between),
        Call::computed("make_timestamp", parts_types, timestamp_field, make_timestamp),
        Call::computed(SECONDS_CALL, |_, _| Ok(vec![timestamp_type()]), seconds_field, seconds),
    ]
}

fn between_types(name: &str, types: &[DataType]) -> Result<Vec<DataType>> {
    match types.len() {
        2 | 3 => Ok([timestamp_type(), timestamp_type(), DataType::Boolean][..types.len()].to_vec()),
        found => Err(wrong_argument_count(name, "[2, 3]", found).into()),
    }
}

fn parts_types(name: &str, types: &[DataType]) -> Result<Vec<DataType>> {
    let mut all = vec![DataType::Int32; 5];
    all.push(DataType::Decimal128(16, 6));
    match types.len() {
        6 => Ok(all),
        found => Err(wrong_argument_count(name, "6", found).into()),
    }
}

fn double_field(name: &str, _: ReturnFieldArgs) -> Result<FieldRef> {
    Ok(Arc::new(Field::new(name, DataType::Float64, true)))
}

fn timestamp_field(name: &str, _: ReturnFieldArgs) -> Result<FieldRef> {
    Ok(Arc::new(Field::new(name, timestamp_type(), true)))
}

fn seconds_field(name: &str, _: ReturnFieldArgs) -> Result<FieldRef> {
    Ok(Arc::new(Field::new(name, DataType::Decimal128(8, 6), true)))
}

fn seconds(arguments: Arguments) -> Result<ArrayRef> {
    let times = arguments.arrays[0].as_primitive::<TimestampMicrosecondType>();
    let seconds: Decimal128Array = times.unary(|time| i128::from(time.rem_euclid(MINUTE_US)));
    Ok(Arc::new(seconds.with_precision_and_scale(8, 6)?))
}

fn months_between(arguments: Arguments) -> Result<ArrayRef> {
    let ends = arguments.arrays[0].as_primitive::<TimestampMicrosecondType>();
    let starts = arguments.arrays[1].as_primitive::<TimestampMicrosecondType>();
    let round = arguments.arrays.get(2).map(|round| round.as_boolean());
    let months = (0..ends.len()).map(|row| {
        if ends.is_null(row) || starts.is_null(row) || round.is_some_and(|round| round.is_null(row)) {
            return None;
        }
        let months = months_of(ends.value(row), starts.value(row))?;
        let rounded = round.is_none_or(|round| round.value(row));
        // Java's Math.round: halves go up.
        Some(if rounded { (months * 1e8 + 0.5).floor() / 1e8 } else { months })
    });
    Ok(Arc::new(months.collect::<Float64Array>()))
}

/// Whole months where both are the same day of the month, or both the last; otherwise with a fraction.
fn months_of(end_us: i64, start_us: i64) -> Option<f64> {
    let end = DateTime::<Utc>::from_timestamp_micros(end_us)?.date_naive();
    let start = DateTime::<Utc>::from_timestamp_micros(start_us)?.date_naive();
    let months = f64::from((end.year() - start.year()) * 12 + end.month() as i32 - start.month() as i32);
    let is_last = |day: NaiveDate| day.succ_opt().is_none_or(|next| next.month() != day.month());
    if end.day() == start.day() || is_last(end) && is_last(start) {
        return Some(months);
    }
    let of_day = |time: i64| time.rem_euclid(DAY_US).div_euclid(SECOND_US);
    let days = i64::from(end.day()) - i64::from(start.day());
    Some(months + (days * 86_400 + of_day(end_us) - of_day(start_us)) as f64 / MONTH_SECONDS)
}

fn make_timestamp(arguments: Arguments) -> Result<ArrayRef> {
    let part = |at: usize| arguments.arrays[at].as_primitive::<Int32Type>();
    let seconds = arguments.arrays[5].as_primitive::<Decimal128Type>();
    let mut times = PrimitiveArray::<TimestampMicrosecondType>::builder(arguments.rows);
    for row in 0..arguments.rows {
        if arguments.arrays.iter().any(|part| part.is_null(row)) {
            times.append_null();
            continue;
        }
        let [year, month, day, hour, minute] = [0, 1, 2, 3, 4].map(|at| i64::from(part(at).value(row)));
        let time = time_of([year, month, day], [hour, minute], seconds.value(row) as i64);
        times.append_value(time.ok_or_else(|| {
            Error::analysis_class(
                "DATETIME_FIELD_OUT_OF_BOUNDS.WITH_SUGGESTION",
                format!(
                    "There is no time {year}-{month}-{day} {hour}:{minute} with these seconds. Use `try_make_timestamp` to get \
                     NULL instead."
                ),
            )
        })?);
    }
    Ok(Arc::new(times.finish().with_data_type(timestamp_type())))
}

/// 60 seconds without a fraction are the next minute.
fn time_of([year, month, day]: [i64; 3], [hour, minute]: [i64; 2], seconds_us: i64) -> Option<i64> {
    let date = NaiveDate::from_ymd_opt(year.try_into().ok()?, month.try_into().ok()?, day.try_into().ok()?)?;
    let in_day = (0..24).contains(&hour) && (0..60).contains(&minute) && (0..=MINUTE_US).contains(&seconds_us);
    let midnight = date.and_hms_opt(0, 0, 0)?.and_utc().timestamp_micros();
    in_day.then(|| midnight + hour * 60 * MINUTE_US + minute * MINUTE_US + seconds_us)
}
