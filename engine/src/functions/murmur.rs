//! `hash(...)`: Spark's Murmur3 of values, and Murmur3 itself, by which `mode` orders equals.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int32Array};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Field, FieldRef, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, TimestampMicrosecondType,
};
use datafusion::error::Result;
use datafusion::logical_expr::{ReturnFieldArgs, ScalarUDF};

use super::call::{Call, as_they_are};
use crate::error::Error;
use crate::sql::types::quoted_type_name;

/// Where Spark's hash begins.
const SEED: u32 = 42;

/// The functions of this file.
pub fn functions() -> Vec<Arc<ScalarUDF>> {
    vec![Call::computed("hash", as_they_are, int_field, |a| {
        let hash = |row| -> Result<i32> {
            let hash = a.arrays.iter().try_fold(SEED, |hash, array| of_value(array, row, hash))?;
            Ok(hash as i32)
        };
        Ok(Arc::new((0..a.rows).map(hash).collect::<Result<Int32Array>>()?))
    })]
}

fn int_field(name: &str, _: ReturnFieldArgs) -> Result<FieldRef> {
    Ok(Arc::new(Field::new(name, DataType::Int32, false)))
}

fn of_value(array: &ArrayRef, row: usize, seed: u32) -> Result<u32> {
    if array.is_null(row) {
        return Ok(seed);
    }
    Ok(match array.data_type() {
        DataType::Null => seed,
        DataType::Boolean => of_int(i32::from(array.as_boolean().value(row)), seed),
        DataType::Int8 => of_int(array.as_primitive::<Int8Type>().value(row).into(), seed),
        DataType::Int16 => of_int(array.as_primitive::<Int16Type>().value(row).into(), seed),
        DataType::Int32 => of_int(array.as_primitive::<Int32Type>().value(row), seed),
        DataType::Date32 => of_int(array.as_primitive::<Date32Type>().value(row), seed),
        DataType::Int64 => of_long(array.as_primitive::<Int64Type>().value(row), seed),
        DataType::Timestamp(..) => of_long(array.as_primitive::<TimestampMicrosecondType>().value(row), seed),
        DataType::Float32 => {
            let value = array.as_primitive::<Float32Type>().value(row);
            of_int(if value == 0.0 { 0 } else { value.to_bits() as i32 }, seed)
        }
        DataType::Float64 => {
            let value = array.as_primitive::<Float64Type>().value(row);
            of_long(if value == 0.0 { 0 } else { value.to_bits() as i64 }, seed)
        }
        DataType::Decimal128(precision, _) => {
            let value = array.as_primitive::<Decimal128Type>().value(row);
            match i64::try_from(value) {
                Ok(value) if *precision <= 18 => of_long(value, seed),
                _ => of_bytes(shortest_bytes(&value.to_be_bytes()), seed),
            }
        }
        DataType::Utf8 => of_bytes(array.as_string::<i32>().value(row).as_bytes(), seed),
        DataType::Binary => of_bytes(array.as_binary::<i32>().value(row), seed),
        DataType::Struct(_) => {
            array.as_struct().columns().iter().try_fold(seed, |hash, column| of_value(column, row, hash))?
        }
        DataType::List(_) => {
            let values = array.as_list::<i32>().value(row);
            (0..values.len()).try_fold(seed, |hash, at| of_value(&values, at, hash))?
        }
        other => {
            return Err(Error::analysis_class(
                "DATATYPE_MISMATCH.HASH_MAP_TYPE",
                format!("Cannot hash {}. Hash its keys and values apart.", quoted_type_name(other)),
            )
            .into());
        }
    })
}

/// Java's `BigInteger.toByteArray`: as few bytes as keep the sign.
fn shortest_bytes(bytes: &[u8]) -> &[u8] {
    let mut rest = bytes;
    while let [first, second, ..] = rest
        && (*first == 0 && *second < 0x80 || *first == 0xff && *second >= 0x80)
    {
        rest = &rest[1..];
    }
    rest
}

/// Murmur3 of one 32-bit word.
pub(crate) fn of_int(value: i32, seed: u32) -> u32 {
    finish(mix(seed, value as u32), 4)
}

fn of_long(value: i64, seed: u32) -> u32 {
    finish(mix(mix(seed, value as u32), (value >> 32) as u32), 8)
}

/// Spark's own variant: the bytes after the last whole word are a word each.
pub(crate) fn of_bytes(bytes: &[u8], seed: u32) -> u32 {
    let (words, rest) = bytes.as_chunks::<4>();
    let hash = words.iter().fold(seed, |hash, word| mix(hash, u32::from_le_bytes(*word)));
    let hash = rest.iter().fold(hash, |hash, byte| mix(hash, i32::from(*byte as i8) as u32));
    finish(hash, bytes.len() as u32)
}

fn mix(hash: u32, word: u32) -> u32 {
    let word = word.wrapping_mul(0xcc9e_2d51).rotate_left(15).wrapping_mul(0x1b87_3593);
    (hash ^ word).rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64)
}

fn finish(hash: u32, length: u32) -> u32 {
    let hash = hash ^ length;
    let hash = (hash ^ (hash >> 16)).wrapping_mul(0x85eb_ca6b);
    let hash = (hash ^ (hash >> 13)).wrapping_mul(0xc2b2_ae35);
    hash ^ (hash >> 16)
}
