//! Values as text without quotes: the cells of the console, the fields of CSV, the folders of partitions.

use std::io::Write;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::*;
use wavetank_engine::{Error, Result};

use super::number::{DecimalText, write_decimal, write_f32, write_f64};
use super::pattern::Pattern;
use super::time::{Moment, write_calendar, write_date, write_day_time, write_time, write_timestamp, write_year_month};
use super::{Encoder, nulls_of, plain_layout};

/// How the places differ in which plain text is written.
#[derive(Clone, Debug)]
pub(crate) struct Style {
    /// What stands for null, nested ones too.
    pub null: &'static str,
    /// Bytes as `[48 65]`; otherwise as the UTF-8 text that they are.
    pub binary_as_hex: bool,
    /// Small decimals.
    pub decimal: DecimalText,
    /// Formats of dates and timestamps; `None` is Spark's text without trailing zeros.
    pub formats: Option<Arc<Formats>>,
}

/// The formats of a file writer's options.
#[derive(Clone, Debug)]
pub(crate) struct Formats {
    /// For `DATE`.
    pub date: Pattern,
    /// For `TIMESTAMP`.
    pub timestamp: Pattern,
    /// For `TIMESTAMP_NTZ`.
    pub timestamp_ntz: Pattern,
}

impl Style {
    /// Cells of the console (Spark's `ToPrettyString`).
    pub(crate) fn cell() -> Self {
        Self { null: "NULL", binary_as_hex: true, decimal: DecimalText::Plain, formats: None }
    }

    /// Folder names (Spark's `CAST(x AS STRING)`).
    pub(crate) fn cast() -> Self {
        Self { null: "null", binary_as_hex: false, decimal: DecimalText::Plain, formats: None }
    }

    /// Fields of a CSV file.
    pub(crate) fn csv(formats: Arc<Formats>) -> Self {
        Self { null: "", binary_as_hex: true, decimal: DecimalText::Scientific, formats: Some(formats) }
    }
}

/// The encoder of one column of one batch.
pub(crate) fn encoder(array: &ArrayRef, style: &Style) -> Result<Encoder<'static>> {
    let array = plain_layout(array)?;
    let nulls = nulls_of(&array);
    let encode = value_encoder(&array, style)?;
    Ok(match nulls {
        None => encode,
        Some(nulls) => or_null(nulls, style.null, encode),
    })
}

fn or_null(nulls: NullBuffer, null: &'static str, encode: Encoder<'static>) -> Encoder<'static> {
    Box::new(move |row, out| if nulls.is_null(row) { out.extend_from_slice(null.as_bytes()) } else { encode(row, out) })
}

fn integers<T: ArrowPrimitiveType>(array: &ArrayRef) -> Encoder<'static>
where
    T::Native: std::fmt::Display,
{
    let values = array.as_primitive::<T>().values().clone();
    Box::new(move |row, out| {
        let _ = write!(out, "{}", values[row]); // a Vec takes every write
    })
}

/// Encodes values that are not null (null slots of nested values are handled by the encoder around this one).
fn value_encoder(array: &ArrayRef, style: &Style) -> Result<Encoder<'static>> {
    Ok(match array.data_type() {
        DataType::Null => {
            let null = style.null;
            Box::new(move |_, out| out.extend_from_slice(null.as_bytes()))
        }
        DataType::Boolean => {
            let values = array.as_boolean().values().clone();
            Box::new(move |row, out| out.extend_from_slice(if values.value(row) { b"true" } else { b"false" }))
        }
        DataType::Int8 => integers::<Int8Type>(array),
        DataType::Int16 => integers::<Int16Type>(array),
        DataType::Int32 => integers::<Int32Type>(array),
        DataType::Int64 => integers::<Int64Type>(array),
        DataType::UInt8 => integers::<UInt8Type>(array),
        DataType::UInt16 => integers::<UInt16Type>(array),
        DataType::UInt32 => integers::<UInt32Type>(array),
        DataType::UInt64 => integers::<UInt64Type>(array),
        DataType::Float32 => {
            let values = array.as_primitive::<Float32Type>().values().clone();
            Box::new(move |row, out| write_f32(values[row], out))
        }
        DataType::Float64 => {
            let values = array.as_primitive::<Float64Type>().values().clone();
            Box::new(move |row, out| write_f64(values[row], out))
        }
        DataType::Decimal128(_, scale) => {
            let (values, scale, text) =
                (array.as_primitive::<Decimal128Type>().values().clone(), *scale, style.decimal);
            Box::new(move |row, out| write_decimal(&values[row].to_string(), scale, text, out))
        }
        DataType::Decimal256(_, scale) => {
            let (values, scale, text) =
                (array.as_primitive::<Decimal256Type>().values().clone(), *scale, style.decimal);
            Box::new(move |row, out| write_decimal(&values[row].to_string(), scale, text, out))
        }
        DataType::Utf8 => {
            let values = array.as_string::<i32>().clone();
            Box::new(move |row, out| out.extend_from_slice(values.value(row).as_bytes()))
        }
        DataType::Binary => binary(array, style),
        DataType::Struct(_) => structs(array, style)?,
        DataType::List(_) => lists(array, style)?,
        DataType::Map(_, _) => maps(array, style)?,
        _ => times(array, style)?,
    })
}

fn binary(array: &ArrayRef, style: &Style) -> Encoder<'static> {
    let values = array.as_binary::<i32>().clone();
    if !style.binary_as_hex {
        return Box::new(move |row, out| out.extend_from_slice(String::from_utf8_lossy(values.value(row)).as_bytes()));
    }
    Box::new(move |row, out| {
        out.push(b'[');
        for (position, byte) in values.value(row).iter().enumerate() {
            let gap = if position == 0 { "" } else { " " };
            let _ = write!(out, "{gap}{byte:02X}"); // a Vec takes every write
        }
        out.push(b']');
    })
}

fn structs(array: &ArrayRef, style: &Style) -> Result<Encoder<'static>> {
    let fields = array.as_struct().columns().iter().map(|c| encoder(c, style)).collect::<Result<Vec<_>>>()?;
    Ok(Box::new(move |row, out| {
        out.push(b'{');
        for (position, field) in fields.iter().enumerate() {
            out.extend_from_slice(if position == 0 { b"" } else { b", " });
            field(row, out);
        }
        out.push(b'}');
    }))
}

fn lists(array: &ArrayRef, style: &Style) -> Result<Encoder<'static>> {
    let list = array.as_list::<i32>();
    let (offsets, item) = (list.offsets().clone(), encoder(list.values(), style)?);
    Ok(Box::new(move |row, out| {
        out.push(b'[');
        let start = offsets[row] as usize;
        for position in start..offsets[row + 1] as usize {
            out.extend_from_slice(if position == start { b"" } else { b", " });
            item(position, out);
        }
        out.push(b']');
    }))
}

fn maps(array: &ArrayRef, style: &Style) -> Result<Encoder<'static>> {
    let map = array.as_map();
    let (offsets, key, value) = (map.offsets().clone(), encoder(map.keys(), style)?, encoder(map.values(), style)?);
    Ok(Box::new(move |row, out| {
        out.push(b'{');
        let start = offsets[row] as usize;
        for position in start..offsets[row + 1] as usize {
            out.extend_from_slice(if position == start { b"" } else { b", " });
            key(position, out);
            out.extend_from_slice(b" -> ");
            value(position, out);
        }
        out.push(b'}');
    }))
}

/// Dates, timestamps, times of day and intervals.
fn times(array: &ArrayRef, style: &Style) -> Result<Encoder<'static>> {
    Ok(match array.data_type() {
        DataType::Date32 => {
            let (values, formats) = (array.as_primitive::<Date32Type>().values().clone(), style.formats.clone());
            Box::new(move |row, out| match &formats {
                None => write_date(i64::from(values[row]), out),
                Some(formats) => formats.date.write(Moment::of_day(i64::from(values[row])), out),
            })
        }
        DataType::Timestamp(unit, zone) => {
            let (values, unit, zoned) = (timestamp_values(array, *unit), *unit, zone.is_some());
            let formats = style.formats.clone();
            Box::new(move |row, out| {
                let moment = Moment::of(values[row], unit);
                match &formats {
                    None => write_timestamp(moment, out),
                    Some(formats) if zoned => formats.timestamp.write(moment, out),
                    Some(formats) => formats.timestamp_ntz.write(moment, out),
                }
            })
        }
        other => match temporal_text(array)? {
            Some(encode) => encode,
            None => return Err(no_text(other)),
        },
    })
}

/// The raw values of a timestamp column.
pub(crate) fn timestamp_values(array: &ArrayRef, unit: TimeUnit) -> arrow::buffer::ScalarBuffer<i64> {
    match unit {
        TimeUnit::Second => array.as_primitive::<TimestampSecondType>().values().clone(),
        TimeUnit::Millisecond => array.as_primitive::<TimestampMillisecondType>().values().clone(),
        TimeUnit::Microsecond => array.as_primitive::<TimestampMicrosecondType>().values().clone(),
        TimeUnit::Nanosecond => array.as_primitive::<TimestampNanosecondType>().values().clone(),
    }
}

/// Times of day and intervals: the types whose text is the same everywhere.
pub(crate) fn temporal_text(array: &ArrayRef) -> Result<Option<Encoder<'static>>> {
    Ok(Some(match array.data_type() {
        DataType::Time32(_) | DataType::Time64(TimeUnit::Nanosecond) => {
            let micros = arrow::compute::cast(array, &DataType::Time64(TimeUnit::Microsecond))?;
            return temporal_text(&micros);
        }
        DataType::Time64(_) => {
            let values = array.as_primitive::<Time64MicrosecondType>().values().clone();
            Box::new(move |row, out| write_time(Moment { days: 0, us_of_day: values[row] }, out))
        }
        DataType::Duration(unit) => {
            let (values, unit) = (duration_values(array, *unit), *unit);
            Box::new(move |row, out| {
                let us = match unit {
                    TimeUnit::Second => i128::from(values[row]) * 1_000_000,
                    TimeUnit::Millisecond => i128::from(values[row]) * 1000,
                    TimeUnit::Microsecond => i128::from(values[row]),
                    TimeUnit::Nanosecond => i128::from(values[row]) / 1000,
                };
                write_day_time(us, out);
            })
        }
        DataType::Interval(IntervalUnit::YearMonth) => {
            let values = array.as_primitive::<IntervalYearMonthType>().values().clone();
            Box::new(move |row, out| write_year_month(i64::from(values[row]), out))
        }
        DataType::Interval(IntervalUnit::DayTime) => {
            let values = array.as_primitive::<IntervalDayTimeType>().values().clone();
            Box::new(move |row, out| {
                let IntervalDayTime { days, milliseconds } = values[row];
                write_day_time(i128::from(days) * 86_400_000_000 + i128::from(milliseconds) * 1000, out);
            })
        }
        DataType::Interval(IntervalUnit::MonthDayNano) => {
            let values = array.as_primitive::<IntervalMonthDayNanoType>().values().clone();
            Box::new(move |row, out| {
                let IntervalMonthDayNano { months, days, nanoseconds } = values[row];
                write_calendar(i64::from(months), i64::from(days), nanoseconds / 1000, out);
            })
        }
        _ => return Ok(None),
    }))
}

fn duration_values(array: &ArrayRef, unit: TimeUnit) -> arrow::buffer::ScalarBuffer<i64> {
    match unit {
        TimeUnit::Second => array.as_primitive::<DurationSecondType>().values().clone(),
        TimeUnit::Millisecond => array.as_primitive::<DurationMillisecondType>().values().clone(),
        TimeUnit::Microsecond => array.as_primitive::<DurationMicrosecondType>().values().clone(),
        TimeUnit::Nanosecond => array.as_primitive::<DurationNanosecondType>().values().clone(),
    }
}

fn no_text(data_type: &DataType) -> Error {
    Error::analysis(format!(
        "A column of type {data_type} cannot be written as text. Cast it to a type that Spark has."
    ))
}
