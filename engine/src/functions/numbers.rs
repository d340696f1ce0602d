//! Functions of numbers that Spark answers with null or NaN where DataFusion fails or has infinities: logarithms,
//! `sqrt`; and `conv`, digits in another base.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int32Array, StringBuilder};
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type};
use datafusion::error::Result;
use datafusion::logical_expr::{ReturnFieldArgs, ScalarUDF};

use super::call::{Arguments, Call};
use crate::error::Error;
use crate::sql::wrong_argument_count;

/// The functions of this file.
pub fn functions() -> Vec<Arc<ScalarUDF>> {
    vec![
        Call::computed("ln", one_double, double_field, |a| logarithm(&a, 0.0, f64::ln)),
        Call::computed("log10", one_double, double_field, |a| logarithm(&a, 0.0, f64::log10)),
        Call::computed("log2", one_double, double_field, |a| logarithm(&a, 0.0, |x| x.ln() / std::f64::consts::LN_2)),
        Call::computed("log1p", one_double, double_field, |a| logarithm(&a, -1.0, f64::ln_1p)),
        Call::computed("log", two_doubles, double_field, log),
        Call::computed("sqrt", one_double, double_field, |a| {
            Ok(Arc::new(a.arrays[0].as_primitive::<Float64Type>().unary::<_, Float64Type>(f64::sqrt)))
        }),
        Call::computed("conv", conv_types, text_field, conv),
    ]
}

fn one_double(name: &str, types: &[DataType]) -> Result<Vec<DataType>> {
    doubles(name, types, 1)
}

fn two_doubles(name: &str, types: &[DataType]) -> Result<Vec<DataType>> {
    doubles(name, types, 2)
}

fn doubles(name: &str, types: &[DataType], count: usize) -> Result<Vec<DataType>> {
    if types.len() != count {
        return Err(wrong_argument_count(name, &count.to_string(), types.len()).into());
    }
    if let Some(other) = types.iter().find(|t| !(t.is_numeric() || t.is_null() || t.is_string())) {
        return Err(Error::analysis_class(
            "DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE",
            format!(
                "Cannot resolve \"{name}\" due to data type mismatch: the parameters require the \"DOUBLE\" type, however one has \
                 the type {}.",
                crate::sql::types::quoted_type_name(other)
            ),
        )
        .into());
    }
    Ok(vec![DataType::Float64; count])
}

fn double_field(name: &str, _: ReturnFieldArgs) -> Result<FieldRef> {
    Ok(Arc::new(Field::new(name, DataType::Float64, true)))
}

fn text_field(name: &str, _: ReturnFieldArgs) -> Result<FieldRef> {
    Ok(Arc::new(Field::new(name, DataType::Utf8, true)))
}

/// Null at and below the point where there is no logarithm.
fn logarithm(arguments: &Arguments, above: f64, of: fn(f64) -> f64) -> Result<ArrayRef> {
    let values = arguments.arrays[0].as_primitive::<Float64Type>();
    Ok(Arc::new(values.unary_opt::<_, Float64Type>(|x| (x > above || x.is_nan()).then(|| of(x)))))
}

/// `log(base, x)`.
fn log(arguments: Arguments) -> Result<ArrayRef> {
    let bases = arguments.arrays[0].as_primitive::<Float64Type>();
    let values = arguments.arrays[1].as_primitive::<Float64Type>();
    let both = bases.iter().zip(values).map(|(base, value)| {
        let (base, value) = base.zip(value)?;
        (!(base <= 0.0 || value <= 0.0)).then(|| value.ln() / base.ln())
    });
    Ok(Arc::new(both.collect::<Float64Array>()))
}

fn conv_types(name: &str, types: &[DataType]) -> Result<Vec<DataType>> {
    match types.len() {
        3 => Ok(vec![DataType::Utf8, DataType::Int32, DataType::Int32]),
        found => Err(wrong_argument_count(name, "3", found).into()),
    }
}

fn conv(arguments: Arguments) -> Result<ArrayRef> {
    let texts = arguments.arrays[0].as_string::<i32>();
    let bases = |at: usize| -> &Int32Array { arguments.arrays[at].as_primitive() };
    let (from, to) = (bases(1), bases(2));
    let mut converted = StringBuilder::new();
    for row in 0..texts.len() {
        if texts.is_null(row) || from.is_null(row) || to.is_null(row) {
            converted.append_null();
            continue;
        }
        converted.append_option(in_base(texts.value(row), from.value(row), to.value(row))?);
    }
    Ok(Arc::new(converted.finish()))
}

/// Digits up to the first that is none; a base below zero means a number with a sign.
fn in_base(text: &str, from: i32, to: i32) -> Result<Option<String>> {
    let text = text.trim();
    let (Ok(from), base) = (u32::try_from(from), to.unsigned_abs()) else { return Ok(None) };
    if text.is_empty() || !(2..=36).contains(&from) || !(2..=36).contains(&base) {
        return Ok(None);
    }
    let (mut negative, digits) = text.strip_prefix('-').map_or((false, text), |digits| (true, digits));
    let mut value: u64 = 0;
    for digit in digits.chars().map_while(|c| c.to_digit(from)) {
        let next = value.checked_mul(from.into()).and_then(|v| v.checked_add(digit.into()));
        value = next.ok_or_else(|| {
            Error::analysis_class("ARITHMETIC_OVERFLOW", "overflow in function conv(). Use fewer digits.")
        })?;
    }
    if negative && to > 0 {
        value = value.wrapping_neg();
    } else if to < 0 && (value as i64) < 0 {
        value = value.wrapping_neg();
        negative = true;
    }
    let mut reversed = Vec::new();
    loop {
        reversed.extend(char::from_digit((value % u64::from(base)) as u32, base));
        value /= u64::from(base);
        if value == 0 {
            break;
        }
    }
    if negative && to < 0 {
        reversed.push('-');
    }
    Ok(Some(reversed.iter().rev().collect::<String>().to_uppercase()))
}
