//! Values as Spark's text and back: what `CAST(x AS STRING)` prints and what `CAST('text' AS type)` reads.
//!
//! Printing: `1.0E10` for a double, `2024-03-01 12:00:01.5` for a time, `[1, null]`, `{a -> 1}`, `{1, x}`. Reading: white
//! space around a value is fine, nothing else is forgiven. Zones of times: `Z`, `UTC`, `GMT`, `+02:00`; none is UTC.

use std::fmt::Write;

use arrow::array::{Array, ArrayRef, AsArray, StringArray, StringBuilder};
use arrow::datatypes::{
    DataType, Date32Type, DurationMicrosecondType, Float32Type, Float64Type, IntervalMonthDayNanoType, TimeUnit,
    TimestampMicrosecondType,
};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use chrono::{Datelike, NaiveDate, Timelike};
use datafusion::error::Result;

use crate::sql::duration::Interval;

const DAY_US: i64 = 86_400_000_000;
const SECOND_US: i64 = 1_000_000;

/// The texts of a column, null where it is null.
pub(crate) fn to_strings(array: &ArrayRef) -> Result<StringArray> {
    let mut texts = StringBuilder::with_capacity(array.len(), array.len() * 8);
    let mut text = String::new();
    for row in 0..array.len() {
        if array.is_null(row) {
            texts.append_null();
            continue;
        }
        text.clear();
        write_value(&mut text, array.as_ref(), row)?;
        texts.append_value(&text);
    }
    Ok(texts.finish())
}

/// Writes one value that is not null.
fn write_value(out: &mut String, array: &dyn Array, row: usize) -> Result<()> {
    match array.data_type() {
        DataType::Float64 => write_double(out, array.as_primitive::<Float64Type>().value(row)),
        DataType::Float32 => write_float(out, array.as_primitive::<Float32Type>().value(row)),
        DataType::Binary => {
            out.push_str(&String::from_utf8_lossy(array.as_binary::<i32>().value(row)));
        }
        DataType::Date32 => write_date(out, i64::from(array.as_primitive::<Date32Type>().value(row))),
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            write_timestamp(out, array.as_primitive::<TimestampMicrosecondType>().value(row));
        }
        DataType::Duration(TimeUnit::Microsecond) => {
            write_day_time(out, array.as_primitive::<DurationMicrosecondType>().value(row));
        }
        DataType::Interval(arrow::datatypes::IntervalUnit::MonthDayNano) => {
            let value = array.as_primitive::<IntervalMonthDayNanoType>().value(row);
            let interval = Interval { months: value.months, days: value.days, micros: value.nanoseconds / 1_000 };
            out.push_str(&interval.to_text());
        }
        DataType::List(_) => {
            let items = array.as_list::<i32>().value(row);
            out.push('[');
            write_items(out, items.len(), |out, i| write_or_null(out, items.as_ref(), i))?;
            out.push(']');
        }
        DataType::Struct(_) => {
            let columns = array.as_struct().columns();
            out.push('{');
            write_items(out, columns.len(), |out, i| write_or_null(out, columns[i].as_ref(), row))?;
            out.push('}');
        }
        DataType::Map(..) => {
            let entries = array.as_map().value(row);
            let (keys, values) = (entries.column(0), entries.column(1));
            out.push('{');
            write_items(out, entries.len(), |out, i| {
                write_or_null(out, keys.as_ref(), i)?;
                out.push_str(" -> ");
                write_or_null(out, values.as_ref(), i)
            })?;
            out.push('}');
        }
        _ => {
            let formatter = ArrayFormatter::try_new(array, &FormatOptions::default())?;
            write!(out, "{}", formatter.value(row)).expect("a string takes everything");
        }
    }
    Ok(())
}

fn write_items(out: &mut String, count: usize, mut write: impl FnMut(&mut String, usize) -> Result<()>) -> Result<()> {
    for i in 0..count {
        if i > 0 {
            out.push_str(", ");
        }
        write(out, i)?;
    }
    Ok(())
}

fn write_or_null(out: &mut String, array: &dyn Array, row: usize) -> Result<()> {
    if array.is_null(row) || *array.data_type() == DataType::Null {
        out.push_str("null");
        return Ok(());
    }
    write_value(out, array, row)
}

/// Java's `Double.toString`: `1.0`, `1.0E10`, `1.0E-5`, `Infinity`.
pub(crate) fn write_double(out: &mut String, value: f64) {
    write_digits(out, value, &format!("{value:e}"));
}

fn write_float(out: &mut String, value: f32) {
    write_digits(out, f64::from(value), &format!("{value:e}"));
}

/// `scientific` are the shortest digits that give the value back: `d.ddde±x`.
fn write_digits(out: &mut String, value: f64, scientific: &str) {
    if value.is_nan() {
        out.push_str("NaN");
        return;
    }
    if value.is_infinite() {
        out.push_str(if value > 0.0 { "Infinity" } else { "-Infinity" });
        return;
    }
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |m| ("-", m));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    out.push_str(sign);
    let nonempty = |text: &str| if text.is_empty() { "0".to_owned() } else { text.to_owned() };
    match exponent {
        // Java prints plainly from 10^-3 up to 10^7.
        -3..=-1 => {
            let zeros = "0".repeat((-exponent - 1) as usize);
            write!(out, "0.{zeros}{digits}").expect("a string takes everything");
        }
        0..=6 => {
            let point = exponent as usize + 1;
            let padded = format!("{digits:0<point$}");
            let (whole, fraction) = padded.split_at(point);
            write!(out, "{whole}.{}", nonempty(fraction)).expect("a string takes everything");
        }
        _ => write!(out, "{whole}.{}E{exponent}", nonempty(fraction)).expect("a string takes everything"),
    }
}

fn date_of(days: i64) -> Option<NaiveDate> {
    NaiveDate::from_epoch_days(i32::try_from(days).ok()?)
}

fn write_date(out: &mut String, days: i64) {
    match date_of(days) {
        Some(date) => write!(out, "{:04}-{:02}-{:02}", date.year(), date.month(), date.day()),
        None => write!(out, "{days} days"),
    }
    .expect("a string takes everything");
}

/// `2024-03-01 12:00:01.5`: fractions of a second without zeros at the end.
pub(crate) fn write_timestamp(out: &mut String, micros: i64) {
    write_date(out, micros.div_euclid(DAY_US));
    let of_day = micros.rem_euclid(DAY_US);
    let seconds = of_day / SECOND_US;
    write!(out, " {:02}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60).expect("a string");
    write_fraction(out, of_day % SECOND_US);
}

fn write_fraction(out: &mut String, micros: i64) {
    if micros != 0 {
        let digits = format!("{micros:06}");
        write!(out, ".{}", digits.trim_end_matches('0')).expect("a string takes everything");
    }
}

/// `INTERVAL '1 02:03:04.5' DAY TO SECOND`.
fn write_day_time(out: &mut String, micros: i64) {
    let sign = if micros < 0 { "-" } else { "" };
    let micros = micros.unsigned_abs();
    let (days, of_day) = (micros / DAY_US as u64, micros % DAY_US as u64);
    let seconds = of_day / SECOND_US as u64;
    write!(out, "INTERVAL '{sign}{days} {:02}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60)
        .expect("a string takes everything");
    write_fraction(out, (of_day % SECOND_US as u64) as i64);
    out.push_str("' DAY TO SECOND");
}

// ---- reading ----

/// `true`, `t`, `yes`, `y`, `1` and their opposites.
pub(crate) fn read_boolean(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "t" | "yes" | "y" | "1" => Some(true),
        "false" | "f" | "no" | "n" | "0" => Some(false),
        _ => None,
    }
}

/// A double as Java reads it: `1.5`, `1e3`, `Infinity`, `NaN`, a `d` or `f` at the end.
pub(crate) fn read_double(text: &str) -> Option<f64> {
    let text = text.trim();
    let lower = text.to_ascii_lowercase();
    match lower.trim_start_matches(['+', '-']) {
        "infinity" | "inf" => Some(if lower.starts_with('-') { f64::NEG_INFINITY } else { f64::INFINITY }),
        "nan" => Some(f64::NAN),
        digits if digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') => {
            let body = lower.strip_suffix(['d', 'f']).unwrap_or(&lower);
            body.parse().ok()
        }
        _ => None,
    }
}

/// Days since 1970 of `y`, `y-M` or `y-M-d`; what follows a blank or `T` after the day is not looked at.
pub(crate) fn read_date(text: &str) -> Option<i32> {
    let text = text.trim();
    let (date, rest) = split_date(text)?;
    (rest.is_empty() || rest.starts_with([' ', 'T'])).then_some(())?;
    i32::try_from(date.signed_duration_since(NaiveDate::default()).num_days()).ok()
}

/// The date at the beginning of a text, and what follows it.
fn split_date(text: &str) -> Option<(NaiveDate, &str)> {
    let (negative, body) = match text.strip_prefix('-') {
        Some(body) => (true, body),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (year, mut rest) = digits(body, 4, 7)?;
    let (mut month, mut day) = (1, 1);
    if let Some(after) = rest.strip_prefix('-') {
        (month, rest) = digits(after, 1, 2)?;
        if let Some(after) = rest.strip_prefix('-') {
            (day, rest) = digits(after, 1, 2)?;
        }
    }
    let year = if negative { -(year as i32) } else { year as i32 };
    Some((NaiveDate::from_ymd_opt(year, month, day)?, rest))
}

/// Microseconds since 1970 of a date with or without a time and a zone; without a zone it is UTC.
pub(crate) fn read_timestamp(text: &str) -> Option<i64> {
    let text = text.trim();
    let (date, rest) = split_date(text)?;
    let days = date.signed_duration_since(NaiveDate::default()).num_days();
    let day_us = days.checked_mul(DAY_US)?;
    if rest.is_empty() {
        return Some(day_us);
    }
    let rest = rest.strip_prefix([' ', 'T'])?;
    if rest.is_empty() {
        return Some(day_us);
    }
    let (time_us, zone) = read_time(rest)?;
    day_us.checked_add(time_us)?.checked_sub(read_zone(zone)?)
}

/// `h:m[:s[.f]]` as microseconds of the day, and the text after it.
fn read_time(text: &str) -> Option<(i64, &str)> {
    let (hour, rest) = digits(text, 1, 2)?;
    let (minute, mut rest) = digits(rest.strip_prefix(':')?, 1, 2)?;
    let (mut second, mut micros) = (0, 0);
    if let Some(after) = rest.strip_prefix(':') {
        (second, rest) = digits(after, 1, 2)?;
        if let Some(after) = rest.strip_prefix('.') {
            let end = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
            let six: String = after[..end].chars().chain("000000".chars()).take(6).collect();
            micros = six.parse().ok()?;
            rest = &after[end..];
        }
    }
    let time = chrono::NaiveTime::from_hms_opt(hour, minute, second)?;
    Some((i64::from(time.num_seconds_from_midnight()) * SECOND_US + micros, rest))
}

/// What a zone adds to UTC, in microseconds.
fn read_zone(text: &str) -> Option<i64> {
    let text = text.trim();
    let offset = match text.to_ascii_uppercase().as_str() {
        "" | "Z" | "UTC" | "GMT" => return Some(0),
        upper => upper.strip_prefix("UTC").or_else(|| upper.strip_prefix("GMT")).unwrap_or(upper).to_owned(),
    };
    let (sign, body) = match offset.split_at_checked(1)? {
        ("+", body) => (1, body),
        ("-", body) => (-1, body),
        _ => return None,
    };
    let (hours, rest) = digits(body, 1, 2)?;
    let (minutes, rest) = match rest.strip_prefix(':') {
        Some(rest) => digits(rest, 1, 2)?,
        None if rest.is_empty() => (0, rest),
        None => digits(rest, 2, 2)?,
    };
    (rest.is_empty() && hours <= 18 && minutes < 60).then_some(())?;
    Some(sign * i64::from(hours * 60 + minutes) * 60 * SECOND_US)
}

/// A number of `least` to `most` digits at the beginning of a text, and what follows it.
fn digits(text: &str, least: usize, most: usize) -> Option<(u32, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    (least..=most).contains(&end).then_some(())?;
    Some((text[..end].parse().ok()?, &text[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_print_as_in_java() {
        for (value, text) in [
            (1.0, "1.0"),
            (0.0, "0.0"),
            (-1.5, "-1.5"),
            (0.001, "0.001"),
            (0.0001, "1.0E-4"),
            (1234567.0, "1234567.0"),
            (12345678.0, "1.2345678E7"),
            (1e10, "1.0E10"),
            (0.1 + 0.2, "0.30000000000000004"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-Infinity"),
        ] {
            let mut out = String::new();
            write_double(&mut out, value);
            assert_eq!(out, text);
        }
    }

    #[test]
    fn times_read_in_sparks_forms_and_no_others() {
        for (text, expected) in [
            ("2024-03-01 12:00:01.5", Some("2024-03-01 12:00:01.5")),
            ("2024-03-01T12:00:01Z", Some("2024-03-01 12:00:01")),
            ("2024-03-01T12:00:01+02:00", Some("2024-03-01 10:00:01")),
            ("2024-03-01 12:00 UTC", Some("2024-03-01 12:00:00")),
            ("2024-3-1", Some("2024-03-01 00:00:00")),
            ("2024", Some("2024-01-01 00:00:00")),
            (" 1969-12-31 23:59:59.999999 ", Some("1969-12-31 23:59:59.999999")),
            ("2024-13-01", None),
            ("2024-03-01 25:00:00", None),
            ("2024-03-01x", None),
            ("x", None),
            ("", None),
        ] {
            let read = read_timestamp(text).map(|micros| {
                let mut out = String::new();
                write_timestamp(&mut out, micros);
                out
            });
            assert_eq!(read.as_deref(), expected, "{text}");
        }
        assert_eq!(read_date("1970-01-02T10:00"), Some(1));
        assert_eq!(read_date("1969-12-31"), Some(-1));
        assert_eq!(read_date("1970-01-02x"), None);
    }
}
