//! Which partition of state a key belongs to: Spark's `xxhash64` of the key columns, modulo the number of partitions.
//!
//! Never DataFusion's or the process's hash: a checkpoint must open on any machine and after any upgrade, and its keys
//! must be found where they were put. The hash is Spark's `XxHash64` expression with seed 42: columns are chained (the
//! hash of one is the seed of the next), nulls leave the hash as it is, structs, arrays and maps are chained through.

use arrow::array::{Array, ArrayRef, AsArray, GenericListArray, OffsetSizeTrait, UInt32Array};
use arrow::compute::cast;
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Date64Type, Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type,
    DurationMicrosecondType, DurationMillisecondType, DurationNanosecondType, DurationSecondType, Float16Type,
    Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, IntervalDayTimeType, IntervalMonthDayNanoType,
    IntervalUnit, IntervalYearMonthType, Time32MillisecondType, Time32SecondType, Time64MicrosecondType,
    Time64NanosecondType, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};

use crate::error::{Error, Result};

/// The seed of Spark's `xxhash64` function.
const SEED: u64 = 42;

/// The partition (`0..partitions`) of every row of these key columns. `rows` is the number of rows, for keys without
/// columns: they belong to partition 0.
pub fn partition_of(keys: &[ArrayRef], rows: usize, partitions: usize) -> Result<UInt32Array> {
    let count = i64::try_from(partitions).ok().filter(|count| *count > 0 && *count <= i64::from(u32::MAX));
    let Some(count) = count else {
        return Err(Error::internal(format!("{partitions} is no number of partitions")));
    };
    if keys.is_empty() {
        return Ok(UInt32Array::from(vec![0; rows]));
    }
    Ok(xxhash64(keys, rows)?.into_iter().map(|hash| hash.rem_euclid(count) as u32).collect())
}

/// Spark's `xxhash64(column, ...)` of every row.
pub fn xxhash64(columns: &[ArrayRef], rows: usize) -> Result<Vec<i64>> {
    let mut hashes = vec![SEED; rows];
    for column in columns {
        if column.len() != rows {
            return Err(Error::internal(format!("a key column has {} rows, not {rows}", column.len())));
        }
        let chain = chain(column.as_ref())?;
        for (row, hash) in hashes.iter_mut().enumerate() {
            *hash = chain(row, *hash);
        }
    }
    Ok(hashes.into_iter().map(|hash| hash as i64).collect())
}

/// From a row and the hash so far to the hash with this column's value.
type Chain = Box<dyn Fn(usize, u64) -> u64>;

fn chain(array: &dyn Array) -> Result<Chain> {
    use DataType as T;
    Ok(match array.data_type() {
        T::Null => Box::new(|_, seed| seed),
        T::Boolean => {
            let array = array.as_boolean().clone();
            nullable(array.clone(), move |row, seed| hash_int(array.value(row).into(), seed))
        }
        T::Int8 => ints::<Int8Type>(array, i32::from),
        T::Int16 => ints::<Int16Type>(array, i32::from),
        T::Int32 => ints::<Int32Type>(array, |v| v),
        T::Int64 => longs::<Int64Type>(array, |v| v),
        T::UInt8 => ints::<UInt8Type>(array, i32::from),
        T::UInt16 => ints::<UInt16Type>(array, i32::from),
        T::UInt32 => longs::<UInt32Type>(array, i64::from),
        T::UInt64 => longs::<UInt64Type>(array, |v| v as i64),
        T::Float16 => ints::<Float16Type>(array, |v| float_bits(v.to_f32())),
        T::Float32 => ints::<Float32Type>(array, float_bits),
        T::Float64 => longs::<Float64Type>(array, double_bits),
        T::Date32 => ints::<Date32Type>(array, |v| v),
        T::Date64 => ints::<Date64Type>(array, |v| v.div_euclid(86_400_000) as i32),
        T::Decimal32(_, _) => longs::<Decimal32Type>(array, i64::from),
        T::Decimal64(_, _) => longs::<Decimal64Type>(array, |v| v),
        T::Decimal128(precision, _) if *precision <= 18 => longs::<Decimal128Type>(array, |v| v as i64),
        T::Decimal128(_, _) => decimals::<Decimal128Type>(array, |v| v.to_be_bytes().to_vec()),
        T::Decimal256(_, _) => decimals::<Decimal256Type>(array, |v| v.to_be_bytes().to_vec()),
        T::Timestamp(_, _) | T::Time32(_) | T::Time64(_) | T::Duration(_) | T::Interval(_) => chain_time(array)?,
        T::Utf8 => text(array.as_string::<i32>().clone()),
        T::LargeUtf8 => text(array.as_string::<i64>().clone()),
        T::Utf8View => text(array.as_string_view().clone()),
        T::Binary => binary(array.as_binary::<i32>().clone()),
        T::LargeBinary => binary(array.as_binary::<i64>().clone()),
        T::BinaryView => binary(array.as_binary_view().clone()),
        T::FixedSizeBinary(_) => binary(array.as_fixed_size_binary().clone()),
        T::Dictionary(_, values) => chain(cast(array, values)?.as_ref())?,
        T::RunEndEncoded(_, values) => chain(cast(array, values.data_type())?.as_ref())?,
        T::Struct(_) => chain_struct(array)?,
        T::List(_) => chain_list(array.as_list::<i32>())?,
        T::LargeList(_) => chain_list(array.as_list::<i64>())?,
        T::ListView(item) => chain(cast(array, &T::List(item.clone()))?.as_ref())?,
        T::LargeListView(item) => chain(cast(array, &T::LargeList(item.clone()))?.as_ref())?,
        T::FixedSizeList(item, _) => chain(cast(array, &T::List(item.clone()))?.as_ref())?,
        T::Map(_, _) => {
            let map = array.as_map();
            let (keys, values) = (chain(map.keys().as_ref())?, chain(map.values().as_ref())?);
            let offsets = map.offsets().clone();
            nullable(map.clone(), move |row, seed| {
                let entries = offsets[row] as usize..offsets[row + 1] as usize;
                entries.fold(seed, |hash, entry| values(entry, keys(entry, hash)))
            })
        }
        T::Union(_, _) => {
            return Err(Error::analysis("A union cannot be a key: cast the column to one type before grouping by it."));
        }
    })
}

/// Times as Spark has them: timestamps and durations in microseconds, times of day in nanoseconds.
fn chain_time(array: &dyn Array) -> Result<Chain> {
    use DataType as T;
    use TimeUnit as U;
    Ok(match array.data_type() {
        T::Timestamp(U::Second, _) => longs::<TimestampSecondType>(array, |v| v.wrapping_mul(1_000_000)),
        T::Timestamp(U::Millisecond, _) => longs::<TimestampMillisecondType>(array, |v| v.wrapping_mul(1_000)),
        T::Timestamp(U::Microsecond, _) => longs::<TimestampMicrosecondType>(array, |v| v),
        T::Timestamp(U::Nanosecond, _) => longs::<TimestampNanosecondType>(array, |v| v.div_euclid(1_000)),
        T::Duration(U::Second) => longs::<DurationSecondType>(array, |v| v.wrapping_mul(1_000_000)),
        T::Duration(U::Millisecond) => longs::<DurationMillisecondType>(array, |v| v.wrapping_mul(1_000)),
        T::Duration(U::Microsecond) => longs::<DurationMicrosecondType>(array, |v| v),
        T::Duration(U::Nanosecond) => longs::<DurationNanosecondType>(array, |v| v.div_euclid(1_000)),
        T::Time32(U::Second) => longs::<Time32SecondType>(array, |v| i64::from(v) * 1_000_000_000),
        T::Time32(_) => longs::<Time32MillisecondType>(array, |v| i64::from(v) * 1_000_000),
        T::Time64(U::Microsecond) => longs::<Time64MicrosecondType>(array, |v| v.wrapping_mul(1_000)),
        T::Time64(_) => longs::<Time64NanosecondType>(array, |v| v),
        T::Interval(IntervalUnit::YearMonth) => ints::<IntervalYearMonthType>(array, |v| v),
        T::Interval(IntervalUnit::DayTime) => {
            values::<IntervalDayTimeType>(array, |v, seed| interval(0, v.days, i64::from(v.milliseconds) * 1_000, seed))
        }
        T::Interval(IntervalUnit::MonthDayNano) => values::<IntervalMonthDayNanoType>(array, |v, seed| {
            interval(v.months, v.days, v.nanoseconds.div_euclid(1_000), seed)
        }),
        other => return Err(Error::internal(format!("{other} is no type of time"))),
    })
}

fn interval(months: i32, days: i32, micros: i64, seed: u64) -> u64 {
    hash_int(months, hash_int(days, hash_long(micros, seed)))
}

fn chain_struct(array: &dyn Array) -> Result<Chain> {
    let array = array.as_struct();
    let columns = array.columns().iter().map(|column| chain(column.as_ref())).collect::<Result<Vec<_>>>()?;
    Ok(nullable(array.clone(), move |row, seed| columns.iter().fold(seed, |hash, column| column(row, hash))))
}

fn chain_list<O: OffsetSizeTrait>(array: &GenericListArray<O>) -> Result<Chain> {
    let items = chain(array.values().as_ref())?;
    let offsets = array.offsets().clone();
    Ok(nullable(array.clone(), move |row, seed| {
        (offsets[row].as_usize()..offsets[row + 1].as_usize()).fold(seed, |hash, item| items(item, hash))
    }))
}

fn nullable(array: impl Array + 'static, hash: impl Fn(usize, u64) -> u64 + 'static) -> Chain {
    match array.nulls().cloned() {
        Some(nulls) => Box::new(move |row, seed| if nulls.is_null(row) { seed } else { hash(row, seed) }),
        None => Box::new(hash),
    }
}

fn values<T: ArrowPrimitiveType>(array: &dyn Array, hash: fn(T::Native, u64) -> u64) -> Chain {
    let array = array.as_primitive::<T>().clone();
    let numbers = array.values().clone();
    nullable(array, move |row, seed| hash(numbers[row], seed))
}

fn ints<T: ArrowPrimitiveType>(array: &dyn Array, int: fn(T::Native) -> i32) -> Chain {
    let array = array.as_primitive::<T>().clone();
    let numbers = array.values().clone();
    nullable(array, move |row, seed| hash_int(int(numbers[row]), seed))
}

fn longs<T: ArrowPrimitiveType>(array: &dyn Array, long: fn(T::Native) -> i64) -> Chain {
    let array = array.as_primitive::<T>().clone();
    let numbers = array.values().clone();
    nullable(array, move |row, seed| hash_long(long(numbers[row]), seed))
}

/// Decimals of more than 18 digits: the bytes of Java's `BigInteger.toByteArray`, the shortest big-endian two's
/// complement that keeps the sign.
fn decimals<T: ArrowPrimitiveType>(array: &dyn Array, big_endian: fn(T::Native) -> Vec<u8>) -> Chain {
    let array = array.as_primitive::<T>().clone();
    let numbers = array.values().clone();
    nullable(array, move |row, seed| {
        let bytes = big_endian(numbers[row]);
        let is_filler = |at: usize| {
            let filler = if bytes[at + 1] & 0x80 == 0 { 0x00 } else { 0xff };
            bytes[at] == filler
        };
        let start = (0..bytes.len() - 1).find(|at| !is_filler(*at)).unwrap_or(bytes.len() - 1);
        hash_bytes(&bytes[start..], seed)
    })
}

fn text<A>(array: A) -> Chain
where
    A: Array + Clone + 'static,
    for<'b> &'b A: arrow::array::ArrayAccessor<Item = &'b str>,
{
    use arrow::array::ArrayAccessor;
    nullable(array.clone(), move |row, seed| hash_bytes((&array).value(row).as_bytes(), seed))
}

fn binary<A>(array: A) -> Chain
where
    A: Array + Clone + 'static,
    for<'b> &'b A: arrow::array::ArrayAccessor<Item = &'b [u8]>,
{
    use arrow::array::ArrayAccessor;
    nullable(array.clone(), move |row, seed| hash_bytes((&array).value(row), seed))
}

/// Java's `floatToIntBits` with -0.0 as 0.0.
fn float_bits(value: f32) -> i32 {
    match value {
        0.0 => 0,
        v if v.is_nan() => 0x7fc0_0000,
        v => v.to_bits() as i32,
    }
}

/// Java's `doubleToLongBits` with -0.0 as 0.0.
fn double_bits(value: f64) -> i64 {
    match value {
        0.0 => 0,
        v if v.is_nan() => 0x7ff8_0000_0000_0000,
        v => v.to_bits() as i64,
    }
}

const PRIME_1: u64 = 0x9E37_79B1_85EB_CA87;
const PRIME_2: u64 = 0xC2B2_AE3D_27D4_EB4F;
const PRIME_3: u64 = 0x1656_67B1_9E37_79F9;
const PRIME_4: u64 = 0x85EB_CA77_C2B2_AE63;
const PRIME_5: u64 = 0x27D4_EB2F_1656_67C5;

/// xxHash64 of the four bytes of an int, written out because it is the hot path.
fn hash_int(value: i32, seed: u64) -> u64 {
    let hash = seed.wrapping_add(PRIME_5).wrapping_add(4) ^ u64::from(value as u32).wrapping_mul(PRIME_1);
    avalanche(hash.rotate_left(23).wrapping_mul(PRIME_2).wrapping_add(PRIME_3))
}

/// xxHash64 of the eight bytes of a long.
fn hash_long(value: i64, seed: u64) -> u64 {
    let round = (value as u64).wrapping_mul(PRIME_2).rotate_left(31).wrapping_mul(PRIME_1);
    let hash = seed.wrapping_add(PRIME_5).wrapping_add(8) ^ round;
    avalanche(hash.rotate_left(27).wrapping_mul(PRIME_1).wrapping_add(PRIME_4))
}

fn hash_bytes(bytes: &[u8], seed: u64) -> u64 {
    twox_hash::XxHash64::oneshot(seed, bytes)
}

fn avalanche(hash: u64) -> u64 {
    let hash = (hash ^ (hash >> 33)).wrapping_mul(PRIME_2);
    let hash = (hash ^ (hash >> 29)).wrapping_mul(PRIME_3);
    hash ^ (hash >> 32)
}

#[cfg(test)]
mod tests;
