//! `round`, `bround` and `format_number`: numbers cut to so many digits, as Spark's `BigDecimal` does it.
//!
//! A double is rounded as the shortest decimal that reads back as it, so `round(2.345, 2)` is 2.35 although the double
//! lies below. `round` goes away from zero at a half, `bround` and `format_number` to the even digit.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, PrimitiveArray, StringBuilder};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Decimal128Type, Field, FieldRef, Float32Type, Float64Type, Int8Type, Int16Type,
    Int32Type, Int64Type,
};
use datafusion::common::{ScalarValue, internal_err};
use datafusion::error::Result;
use datafusion::logical_expr::{ReturnFieldArgs, ScalarUDF};

use super::call::{Arguments, Call};
use crate::error::Error;
use crate::sql::types::quoted_type_name;
use crate::sql::wrong_argument_count;

/// The functions of this file.
pub fn functions() -> Vec<Arc<ScalarUDF>> {
    vec![
        Call::computed("round", round_types, rounded_field, |a| round(&a, Half::Up)),
        Call::computed("bround", round_types, rounded_field, |a| round(&a, Half::Even)),
        Call::computed("format_number", format_types, text_field, format_number),
    ]
}

/// Where a half goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Half {
    Up,
    Even,
}

fn round_types(name: &str, types: &[DataType]) -> Result<Vec<DataType>> {
    let value = match types {
        [DataType::Utf8 | DataType::Null] | [DataType::Utf8 | DataType::Null, _] => DataType::Float64,
        [value] | [value, _] if value.is_numeric() => value.clone(),
        [value] | [value, _] => return Err(not_a_number(name, value).into()),
        _ => return Err(wrong_argument_count(name, "[1, 2]", types.len()).into()),
    };
    Ok([value, DataType::Int64][..types.len()].to_vec())
}

fn not_a_number(name: &str, found: &DataType) -> Error {
    Error::analysis_class(
        "DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE",
        format!(
            "Cannot resolve \"{name}\" due to data type mismatch: The first parameter requires the \"NUMERIC\" type, however it \
             has the type {}.",
            quoted_type_name(found)
        ),
    )
}

/// Decimals get the digits that are left, and one more before the point: 9.9 becomes 10.
fn rounded_field(name: &str, args: ReturnFieldArgs) -> Result<FieldRef> {
    let scale = match args.scalar_arguments.get(1) {
        None => 0,
        Some(Some(ScalarValue::Int64(Some(scale)))) => *scale,
        Some(Some(value)) if value.is_null() => 0,
        _ => {
            return Err(Error::analysis_class(
                "DATATYPE_MISMATCH.NON_FOLDABLE_INPUT",
                format!("Cannot resolve \"{name}\": the number of digits must be a literal integer."),
            )
            .into());
        }
    };
    let data_type = match args.arg_fields[0].data_type() {
        DataType::Decimal128(precision, own) => {
            let whole = i64::from(*precision) - i64::from(*own) + 1;
            let scale_left = i64::from(*own).min(scale).max(0);
            let precision = if scale < 0 { whole.max(1 - scale) } else { whole + scale_left };
            DataType::Decimal128(precision.min(38) as u8, scale_left as i8)
        }
        other => other.clone(),
    };
    Ok(Arc::new(Field::new(name, data_type, true)))
}

fn round(arguments: &Arguments, half: Half) -> Result<ArrayRef> {
    let values = &arguments.arrays[0];
    let scale = match arguments.arrays.get(1) {
        None => 0,
        Some(scales) if scales.is_empty() => 0,
        Some(scales) if scales.is_null(0) => {
            return Ok(arrow::array::new_null_array(arguments.field.data_type(), values.len()));
        }
        Some(scales) => scales.as_primitive::<Int64Type>().value(0),
    };
    match values.data_type() {
        DataType::Float64 => {
            let rounded = values.as_primitive::<Float64Type>().unary(|x| round_double(x, scale, half));
            Ok(Arc::new(rounded as PrimitiveArray<Float64Type>))
        }
        DataType::Float32 => {
            let rounded = values.as_primitive::<Float32Type>().unary(|x| round_double(x.into(), scale, half) as f32);
            Ok(Arc::new(rounded as PrimitiveArray<Float32Type>))
        }
        DataType::Decimal128(_, own) => round_decimals(arguments, i64::from(*own), scale, half),
        _ if scale >= 0 => Ok(Arc::clone(values)),
        DataType::Int8 => round_integers::<Int8Type>(values, scale, half),
        DataType::Int16 => round_integers::<Int16Type>(values, scale, half),
        DataType::Int32 => round_integers::<Int32Type>(values, scale, half),
        DataType::Int64 => round_integers::<Int64Type>(values, scale, half),
        other => internal_err!("rounding {other}"),
    }
}

fn round_integers<T>(values: &ArrayRef, scale: i64, half: Half) -> Result<ArrayRef>
where
    T: ArrowPrimitiveType,
    T::Native: Into<i128> + TryFrom<i128>,
{
    let digits = scale.unsigned_abs().min(38) as u32;
    let rounded: PrimitiveArray<T> = values.as_primitive::<T>().try_unary(|value| {
        let kept = without_digits(value.into(), digits, half) * 10_i128.pow(digits.min(20));
        T::Native::try_from(kept).map_err(|_| {
            Error::analysis_class("ARITHMETIC_OVERFLOW", "overflow when rounding. Cast the value to a wider type.")
        })
    })?;
    Ok(Arc::new(rounded))
}

fn round_decimals(arguments: &Arguments, own: i64, scale: i64, half: Half) -> Result<ArrayRef> {
    let DataType::Decimal128(precision, result_scale) = *arguments.field.data_type() else {
        return internal_err!("a decimal is made");
    };
    let dropped = (own - scale).clamp(0, 39) as u32;
    let zeros = (-scale).clamp(0, 38) as u32;
    let values = arguments.arrays[0].as_primitive::<Decimal128Type>();
    let rounded: PrimitiveArray<Decimal128Type> =
        values.unary(|value| without_digits(value, dropped, half).checked_mul(10_i128.pow(zeros)).unwrap_or(i128::MAX));
    let rounded = rounded.with_precision_and_scale(precision, result_scale)?;
    rounded.validate_decimal_precision(precision).map_err(|_| {
        Error::analysis_class("NUMERIC_VALUE_OUT_OF_RANGE", "The rounded decimal has too many digits. Cast it first.")
    })?;
    Ok(Arc::new(rounded))
}

/// A number without its last digits.
fn without_digits(value: i128, digits: u32, half: Half) -> i128 {
    if digits > 38 {
        return 0;
    }
    let unit = 10_i128.pow(digits);
    let (quotient, rest) = (value / unit, (value % unit).unsigned_abs());
    let other = unit.unsigned_abs() - rest;
    let away = match rest.cmp(&other) {
        std::cmp::Ordering::Less => false,
        std::cmp::Ordering::Greater => true,
        std::cmp::Ordering::Equal => half == Half::Up || quotient % 2 != 0,
    };
    if away { quotient + value.signum() } else { quotient }
}

/// The digits of the shortest decimal that reads back as this number, and how many of them stand after the point.
fn shortest_decimal(value: f64) -> Option<(i128, i64)> {
    let text = format!("{value:e}");
    let (digits, exponent) = text.split_once('e')?;
    let after = digits.split_once('.').map_or(0, |(_, after)| after.len() as i64);
    Some((digits.replace('.', "").parse().ok()?, after - exponent.parse::<i64>().ok()?))
}

fn round_double(value: f64, scale: i64, half: Half) -> f64 {
    let Some((digits, after)) = shortest_decimal(value).filter(|_| value.is_finite()) else { return value };
    if after <= scale {
        return value;
    }
    let kept = without_digits(digits, u32::try_from(after - scale).unwrap_or(u32::MAX), half);
    format!("{kept}e{}", -scale).parse().unwrap_or(value)
}

// ---- format_number ----

fn format_types(name: &str, types: &[DataType]) -> Result<Vec<DataType>> {
    match types {
        [value @ (DataType::Float32 | DataType::Float64 | DataType::Decimal128(..)), _] => {
            let value = if *value == DataType::Float32 { DataType::Float64 } else { value.clone() };
            Ok(vec![value, DataType::Int32])
        }
        [value, _] if value.is_integer() => Ok(vec![DataType::Int64, DataType::Int32]),
        [DataType::Null | DataType::Utf8, _] => Ok(vec![DataType::Float64, DataType::Int32]),
        [value, _] => Err(not_a_number(name, value).into()),
        _ => Err(wrong_argument_count(name, "2", types.len()).into()),
    }
}

fn text_field(name: &str, _: ReturnFieldArgs) -> Result<FieldRef> {
    Ok(Arc::new(Field::new(name, DataType::Utf8, true)))
}

fn format_number(arguments: Arguments) -> Result<ArrayRef> {
    let values = &arguments.arrays[0];
    let places = arguments.arrays[1].as_primitive::<Int32Type>();
    let mut texts = StringBuilder::new();
    for row in 0..values.len() {
        let known = values.is_valid(row) && places.is_valid(row);
        let Some(places) = known.then(|| places.value(row)).and_then(|places| usize::try_from(places).ok()) else {
            texts.append_null();
            continue;
        };
        let plain = match values.data_type() {
            DataType::Float64 => match values.as_primitive::<Float64Type>().value(row) {
                value if value.is_infinite() => {
                    texts.append_value(if value > 0.0 { "\u{221e}" } else { "-\u{221e}" });
                    continue;
                }
                value => format!("{value:.places$}"),
            },
            DataType::Decimal128(_, scale) => {
                decimal_text(values.as_primitive::<Decimal128Type>().value(row), i64::from(*scale), places)
            }
            _ => decimal_text(values.as_primitive::<Int64Type>().value(row).into(), 0, places),
        };
        texts.append_value(in_groups(&plain));
    }
    Ok(Arc::new(texts.finish()))
}

/// A decimal with exactly so many digits after the point.
fn decimal_text(value: i128, scale: i64, places: usize) -> String {
    let dropped = (scale - places as i64).clamp(0, 39) as u32;
    let kept = without_digits(value, dropped, Half::Even);
    let after = (scale - i64::from(dropped)).max(0) as usize;
    let digits = format!("{:0>width$}", kept.unsigned_abs(), width = after + 1);
    let (whole, fraction) = digits.split_at(digits.len() - after);
    let sign = if value < 0 { "-" } else { "" };
    let point = if places > 0 { "." } else { "" };
    format!("{sign}{whole}{point}{fraction:0<places$}")
}

/// Commas between groups of three digits before the point.
fn in_groups(plain: &str) -> String {
    let (sign, digits) = plain.strip_prefix('-').map_or(("", plain), |digits| ("-", digits));
    let (whole, fraction) = digits.find('.').map_or((digits, ""), |point| digits.split_at(point));
    let mut grouped = String::from(sign);
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at).is_multiple_of(3) && digit.is_ascii_digit() {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped + fraction
}
