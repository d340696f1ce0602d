//! `CAST` and `TRY_CAST` where Spark's differ from Arrow's: texts, times as seconds, booleans, doubles to integers.
//!
//! A cast that the user wrote becomes a call of [`CAST_CALL`] or [`TRY_CAST_CALL`] with the type as text. Where Arrow
//! does the same as Spark, the optimizer gets Arrow's cast back, with which it can do more.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, PrimitiveArray, new_null_array};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Decimal128Type, Field, FieldRef, Float32Type, Float64Type, Int8Type,
    Int16Type, Int32Type, Int64Type, TimeUnit, TimestampMicrosecondType,
};
use datafusion::common::{ScalarValue, internal_err};
use datafusion::error::Result;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{Cast, Expr, ReturnFieldArgs, ScalarUDF, TryCast};

use super::call::{Arguments, Call, as_they_are};
use super::cast_text::{read_boolean, read_date, read_double, read_timestamp, to_strings};
use crate::error::Error;
use crate::sql::types::{parse_type, quoted_type_name};

/// `CAST(x AS type)` as written by a user: value, type as text.
pub(crate) const CAST_CALL: &str = "__cast";
/// `TRY_CAST(x AS type)`.
pub(crate) const TRY_CAST_CALL: &str = "__try_cast";

/// The functions of this file.
pub fn functions() -> Vec<Arc<ScalarUDF>> {
    vec![
        Call::with_simplify(
            CAST_CALL,
            as_they_are,
            cast_field,
            |a| cast(a, true),
            |args, info| simplify(args, info, true),
        ),
        Call::with_simplify(
            TRY_CAST_CALL,
            as_they_are,
            cast_field,
            |a| cast(a, false),
            |args, info| simplify(args, info, false),
        ),
    ]
}

/// A call of [`CAST_CALL`].
pub(super) fn cast_call(value: Expr, to: &str) -> Expr {
    let udf = Call::with_simplify(
        CAST_CALL,
        as_they_are,
        cast_field,
        |a| cast(a, true),
        |args, info| simplify(args, info, true),
    );
    udf.call(vec![value, datafusion::logical_expr::lit(to)])
}

fn cast_field(name: &str, args: ReturnFieldArgs) -> Result<FieldRef> {
    let Some(Some(Some(Some(target)))) = args.scalar_arguments.get(1).map(|a| a.map(ScalarValue::try_as_str)) else {
        return internal_err!("{name} takes a value and the text of a type");
    };
    let target = parse_type(target)?;
    let from = args.arg_fields[0].data_type();
    if !possible(from, &target) {
        return Err(Error::analysis_class(
            "DATATYPE_MISMATCH.CAST_WITHOUT_SUGGESTION",
            format!(
                "Cannot resolve a cast due to data type mismatch: cannot cast {} to {}.",
                quoted_type_name(from),
                quoted_type_name(&target)
            ),
        )
        .into());
    }
    Ok(Arc::new(Field::new(name, target, true)))
}

fn possible(from: &DataType, to: &DataType) -> bool {
    let time = |t: &DataType| matches!(t, DataType::Timestamp(..));
    let never = matches!(from, DataType::Date32) && (to.is_numeric() || *to == DataType::Boolean)
        || matches!(to, DataType::Date32) && (from.is_numeric() || *from == DataType::Boolean)
        || time(from) && *to == DataType::Boolean
        || time(to) && *from == DataType::Boolean;
    !never
        && (*from == DataType::Null
            || *to == DataType::Utf8
            || arrow::compute::can_cast_types(from, to)
            || own(from, to))
}

/// Pairs of types between which Spark's cast is not Arrow's.
fn own(from: &DataType, to: &DataType) -> bool {
    use DataType::{Binary, Boolean, Date32, Decimal128, Float32, Float64, Timestamp, Utf8};
    match (from, to) {
        (Utf8, Boolean | Date32 | Timestamp(..) | Float32 | Float64) => true,
        (Utf8, Decimal128(..)) => true,
        (Utf8, t) => t.is_integer(),
        (f, Utf8) => !(f.is_integer() || matches!(f, Utf8 | Boolean | Decimal128(..) | Date32)),
        (Timestamp(..), t) => t.is_numeric(),
        (f, Timestamp(..)) => f.is_numeric(),
        (Float32 | Float64 | Decimal128(..), t) if t.is_integer() => true,
        (f, t) if f.is_integer() && t.is_integer() => t.primitive_width() < f.primitive_width(),
        (Binary, _) => *to != Binary,
        _ => false,
    }
}

/// Arrow's cast, where it is Spark's.
fn simplify(mut args: Vec<Expr>, info: &SimplifyContext, strict: bool) -> Result<ExprSimplifyResult> {
    let target = match args.get(1) {
        Some(Expr::Literal(text, _)) => text.try_as_str().flatten().and_then(|text| parse_type(text).ok()),
        _ => None,
    };
    let Some(to) = target else { return Ok(ExprSimplifyResult::Original(args)) };
    if own(&info.get_data_type(&args[0])?, &to) {
        return Ok(ExprSimplifyResult::Original(args));
    }
    let value = Box::new(args.swap_remove(0));
    Ok(ExprSimplifyResult::Simplified(if strict {
        Expr::Cast(Cast::new(value, to))
    } else {
        Expr::TryCast(TryCast::new(value, to))
    }))
}

fn cast(arguments: Arguments, strict: bool) -> Result<ArrayRef> {
    let (from, to) = (&arguments.arrays[0], arguments.field.data_type());
    if from.data_type() == to {
        return Ok(Arc::clone(from));
    }
    if *from.data_type() == DataType::Null {
        return Ok(new_null_array(to, from.len()));
    }
    if own(from.data_type(), to) {
        return own_cast(from, to, strict);
    }
    let options = CastOptions { safe: !strict, ..CastOptions::default() };
    cast_with_options(from, to, &options).map_err(|error| {
        Error::analysis_class(
            "NUMERIC_VALUE_OUT_OF_RANGE",
            format!(
                "A value of type {} does not fit {}: {error}. Use `try_cast` to get NULL instead.",
                quoted_type_name(from.data_type()),
                quoted_type_name(to)
            ),
        )
        .into()
    })
}

fn own_cast(from: &ArrayRef, to: &DataType, strict: bool) -> Result<ArrayRef> {
    match (from.data_type(), to) {
        (_, DataType::Utf8) => Ok(Arc::new(to_strings(from)?)),
        (DataType::Utf8, _) => from_text(from, to, strict),
        (DataType::Timestamp(..), _) => {
            let times = from.as_primitive::<TimestampMicrosecondType>();
            if to.is_integer() {
                let seconds: PrimitiveArray<Int64Type> = times.unary(|us| us.div_euclid(1_000_000));
                return integers(&seconds, to, strict);
            }
            let seconds: PrimitiveArray<Float64Type> = times.unary(|us| us as f64 / 1e6);
            Ok(arrow::compute::cast(&seconds, to)?)
        }
        (_, DataType::Timestamp(..)) => to_timestamp(from, to, strict),
        (DataType::Float32 | DataType::Float64, _) => {
            let doubles = arrow::compute::cast(from, &DataType::Float64)?;
            let doubles = doubles.as_primitive::<Float64Type>();
            let read = |row: usize| {
                let value = doubles.value(row).trunc();
                (-9.223372036854775e18..9.223372036854775e18).contains(&value).then_some(value as i64)
            };
            let whole = each::<Int64Type>(doubles, to, strict, read)?;
            integers(&whole, to, strict)
        }
        (DataType::Decimal128(_, scale), _) => {
            let decimals = from.as_primitive::<Decimal128Type>();
            let unit = 10_i128.pow(u32::try_from(*scale).unwrap_or(0));
            let whole = each::<Int64Type>(decimals, to, strict, |row| i64::try_from(decimals.value(row) / unit).ok())?;
            integers(&whole, to, strict)
        }
        _ => {
            let wide = arrow::compute::cast(from, &DataType::Int64)?;
            integers(wide.as_primitive::<Int64Type>(), to, strict)
        }
    }
}

fn to_timestamp(from: &ArrayRef, to: &DataType, strict: bool) -> Result<ArrayRef> {
    let times: PrimitiveArray<TimestampMicrosecondType> = if from.data_type().is_integer() {
        let seconds = arrow::compute::cast(from, &DataType::Int64)?;
        let seconds = seconds.as_primitive::<Int64Type>();
        each(seconds, to, strict, |row| seconds.value(row).checked_mul(1_000_000))?
    } else {
        let seconds = arrow::compute::cast(from, &DataType::Float64)?;
        let seconds = seconds.as_primitive::<Float64Type>();
        each(seconds, to, strict, |row| {
            let micros = seconds.value(row) * 1e6;
            (micros.abs() < 9.2e18).then_some(micros as i64)
        })?
    };
    zoned(times, to)
}

fn zoned(times: PrimitiveArray<TimestampMicrosecondType>, to: &DataType) -> Result<ArrayRef> {
    match to {
        DataType::Timestamp(TimeUnit::Microsecond, zone) => Ok(Arc::new(times.with_timezone_opt(zone.clone()))),
        other => internal_err!("{other} is no time of ours"),
    }
}

fn from_text(from: &ArrayRef, to: &DataType, strict: bool) -> Result<ArrayRef> {
    let texts = from.as_string::<i32>();
    match to {
        DataType::Boolean => {
            let mut values = Vec::with_capacity(texts.len());
            for row in 0..texts.len() {
                let value = texts.is_valid(row).then(|| read_boolean(texts.value(row)));
                if strict && value == Some(None) {
                    return Err(malformed(texts.value(row), to).into());
                }
                values.push(value.flatten());
            }
            Ok(Arc::new(BooleanArray::from(values)))
        }
        DataType::Date32 => Ok(Arc::new(read_each::<Date32Type>(texts, to, strict, read_date)?)),
        DataType::Timestamp(..) => zoned(read_each::<TimestampMicrosecondType>(texts, to, strict, read_timestamp)?, to),
        DataType::Float64 => Ok(Arc::new(read_each::<Float64Type>(texts, to, strict, read_double)?)),
        DataType::Float32 => {
            Ok(Arc::new(read_each::<Float32Type>(texts, to, strict, |text| read_double(text).map(|d| d as f32))?))
        }
        DataType::Int8 => Ok(Arc::new(read_each::<Int8Type>(texts, to, strict, |t| t.trim().parse().ok())?)),
        DataType::Int16 => Ok(Arc::new(read_each::<Int16Type>(texts, to, strict, |t| t.trim().parse().ok())?)),
        DataType::Int32 => Ok(Arc::new(read_each::<Int32Type>(texts, to, strict, |t| t.trim().parse().ok())?)),
        DataType::Int64 => Ok(Arc::new(read_each::<Int64Type>(texts, to, strict, |t| t.trim().parse().ok())?)),
        DataType::Decimal128(precision, scale) => {
            let trimmed: arrow::array::StringArray = texts.iter().map(|t| t.map(str::trim)).collect();
            let options = CastOptions { safe: true, ..CastOptions::default() };
            let values = cast_with_options(&trimmed, &DataType::Decimal128(*precision, *scale), &options)?;
            if strict && let Some(row) = (0..texts.len()).find(|row| texts.is_valid(*row) && values.is_null(*row)) {
                return Err(malformed(texts.value(row), to).into());
            }
            Ok(values)
        }
        other => internal_err!("text to {other}"),
    }
}

fn read_each<T: ArrowPrimitiveType>(
    texts: &arrow::array::StringArray,
    to: &DataType,
    strict: bool,
    read: impl Fn(&str) -> Option<T::Native>,
) -> Result<PrimitiveArray<T>> {
    let mut values = PrimitiveArray::<T>::builder(texts.len());
    for row in 0..texts.len() {
        let value = if texts.is_null(row) { None } else { read(texts.value(row)) };
        if strict && value.is_none() && texts.is_valid(row) {
            return Err(malformed(texts.value(row), to).into());
        }
        values.append_option(value);
    }
    Ok(values.finish())
}

fn malformed(text: &str, to: &DataType) -> Error {
    Error::analysis_class(
        "CAST_INVALID_INPUT",
        format!(
            "The value '{text}' of the type \"STRING\" cannot be cast to {} because it is malformed. Correct the value as per \
             the syntax, or change its target type. Use `try_cast` to tolerate malformed input and return NULL instead.",
            quoted_type_name(to)
        ),
    )
}

/// Computes each value that is not null; what has none overflows.
fn each<T: ArrowPrimitiveType>(
    from: &dyn Array,
    to: &DataType,
    strict: bool,
    value: impl Fn(usize) -> Option<T::Native>,
) -> Result<PrimitiveArray<T>> {
    let mut values = PrimitiveArray::<T>::builder(from.len());
    for row in 0..from.len() {
        let value = if from.is_null(row) { None } else { value(row) };
        if strict && value.is_none() && from.is_valid(row) {
            return Err(too_large(to).into());
        }
        values.append_option(value);
    }
    Ok(values.finish())
}

/// 64-bit integers as a smaller type.
fn integers(wide: &PrimitiveArray<Int64Type>, to: &DataType, strict: bool) -> Result<ArrayRef> {
    let options = CastOptions { safe: !strict, ..CastOptions::default() };
    cast_with_options(wide, to, &options).map_err(|_| too_large(to).into())
}

fn too_large(to: &DataType) -> Error {
    Error::analysis_class(
        "CAST_OVERFLOW",
        format!(
            "A value cannot be cast to {} due to an overflow. Use `try_cast` to tolerate overflow and return NULL instead.",
            quoted_type_name(to)
        ),
    )
}
