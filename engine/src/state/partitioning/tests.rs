//! Tests of partitioning against Spark's hashes.

use std::sync::Arc;

use arrow::array::{
    BinaryArray, BooleanArray, Date32Array, Decimal128Array, DictionaryArray, DurationMicrosecondArray,
    FixedSizeListArray, Float32Array, Float64Array, Int8Array, Int16Array, Int32Array, Int64Array,
    IntervalMonthDayNanoArray, IntervalYearMonthArray, LargeStringArray, ListArray, MapBuilder, NullArray, StringArray,
    StringBuilder, StringViewArray, StructArray, Time64NanosecondArray, TimestampMicrosecondArray,
    TimestampMillisecondArray, TimestampNanosecondArray, TimestampSecondArray,
};
use arrow::array::{Int32Builder, IntervalMonthDayNanoArray as Calendar};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{Field, Fields, IntervalMonthDayNano};
use datafusion::config::ConfigOptions;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl};
use datafusion_spark::function::hash::xxhash64::SparkXxhash64;

use super::*;

fn hash(columns: &[ArrayRef]) -> Vec<i64> {
    xxhash64(columns, columns[0].len()).unwrap()
}

fn array(values: impl Array + 'static) -> ArrayRef {
    Arc::new(values)
}

fn list<O: OffsetSizeTrait>(values: ArrayRef, lengths: &[usize]) -> ArrayRef {
    let item = Arc::new(Field::new("item", values.data_type().clone(), true));
    let offsets = OffsetBuffer::<O>::from_lengths(lengths.iter().copied());
    array(GenericListArray::<O>::new(item, offsets, values, None))
}

/// Answers of Spark 4.3.0 to `SELECT xxhash64(...)`, session time zone UTC.
#[test]
fn hashes_are_sparks() {
    let decimal = |values: Vec<i128>, precision, scale| {
        array(Decimal128Array::from(values).with_precision_and_scale(precision, scale).unwrap())
    };
    let cases: Vec<(&str, ArrayRef, Vec<i64>)> = vec![
        ("tinyint", array(Int8Array::from(vec![1])), vec![-6698625589789238999]),
        ("smallint", array(Int16Array::from(vec![-1])), vec![2017008487422258757]),
        (
            "int",
            array(Int32Array::from(vec![Some(1), Some(0), Some(-1), Some(i32::MAX), Some(i32::MIN), None])),
            vec![
                -6698625589789238999,
                3614696996920510707,
                2017008487422258757,
                1508894993788531228,
                2073849959933241805,
                42,
            ],
        ),
        (
            "bigint",
            array(Int64Array::from(vec![1, 0, -1, i64::MAX])),
            vec![-7001672635703045582, -5252525462095825812, 3858142552250413010, -3246596055638297850],
        ),
        ("boolean", array(BooleanArray::from(vec![true, false])), vec![-6698625589789238999, 3614696996920510707]),
        (
            "float",
            array(Float32Array::from(vec![0.0, -0.0, 1.5, f32::NAN, f32::from_bits(0xffc0_0001)])),
            vec![
                3614696996920510707,
                3614696996920510707,
                6163473420726370430,
                2692338816207849720,
                2692338816207849720,
            ],
        ),
        (
            "double",
            array(Float64Array::from(vec![0.0, -0.0, 1.5, -f64::NAN, f64::NEG_INFINITY])),
            vec![
                -5252525462095825812,
                -5252525462095825812,
                7738255526519901366,
                -3127944061524951246,
                5326262080505358431,
            ],
        ),
        (
            "string",
            array(StringArray::from(vec!["", "a", "hello", "abcdefghijklmnopqrstuvwxyz0123456789-and-more", "天地"])),
            vec![
                -7444071767201028348,
                -8582455328737087284,
                -4367754540140381902,
                -5251317513056392838,
                -235771157374669727,
            ],
        ),
        (
            "binary",
            array(BinaryArray::from(vec![&b""[..], &[0x00, 0xff, 0x10]])),
            vec![-7444071767201028348, 5415089035989094387],
        ),
        ("date", array(Date32Array::from(vec![19_782, -3_653])), vec![4183429117450946631, 5231712984053086986]),
        (
            "timestamp",
            array(TimestampMicrosecondArray::from(vec![1_709_210_096_789_012]).with_timezone("UTC")),
            vec![-2021281541725647388],
        ),
        (
            "timestamp_ntz",
            array(TimestampMicrosecondArray::from(vec![-315_619_199_999_999])),
            vec![-3441894432473594826],
        ),
        ("decimal(10,2)", decimal(vec![1_234], 10, 2), vec![-3802813071951760351]),
        ("decimal(18,2)", decimal(vec![-1_234], 18, 2), vec![-1614697014534150208]),
        (
            "decimal(20,0)",
            decimal(vec![0, 127, 128, -128, -129], 20, 0),
            vec![
                -8959994473701255385,
                -5998106174972408993,
                6715097930120473301,
                -7898411661632158123,
                -6459515886037897956,
            ],
        ),
        (
            "decimal(38,0)",
            decimal(vec![99_999_999_999_999_999_999_999_999_999_999_999_999], 38, 0),
            vec![-47190729175993179],
        ),
        ("decimal(38,3)", decimal(vec![-12_345_678_901_234_567_890_123], 38, 3), vec![93767350383175058]),
        ("months", array(IntervalYearMonthArray::from(vec![1])), vec![-6698625589789238999]),
        ("days to seconds", array(DurationMicrosecondArray::from(vec![93_784_500_000])), vec![-5867921652851782348]),
        (
            "interval",
            array(Calendar::from(vec![IntervalMonthDayNano::new(14, 25, 18_367_500_000_000)])),
            vec![6449704631820846915],
        ),
        ("time", array(Time64NanosecondArray::from(vec![45_296_789_000_000])), vec![3761060651865760818]),
        ("array<int>", list::<i32>(array(Int32Array::from(vec![1, 2, 3])), &[3, 0]), vec![8592097078962733837, 42]),
        (
            "array<int> with null",
            list::<i64>(array(Int32Array::from(vec![None, Some(2)])), &[2]),
            vec![8420071140774656230],
        ),
        (
            "array<array<string>>",
            list::<i32>(list::<i32>(array(StringArray::from(vec!["a", "b", "c"])), &[1, 2]), &[2]),
            vec![-8775012835737190202],
        ),
    ];
    for (name, column, expected) in cases {
        assert_eq!(hash(&[column]), expected, "{name}");
    }
}

fn pair(a: ArrayRef, b: ArrayRef) -> ArrayRef {
    let fields: Fields =
        [("a", &a), ("b", &b)].map(|(name, column)| Field::new(name, column.data_type().clone(), true)).to_vec().into();
    array(StructArray::new(fields, vec![a, b], None))
}

#[test]
fn columns_structs_and_maps_are_chained_as_spark_does() {
    let ints = |values: Vec<Option<i32>>| array(Int32Array::from(values));
    let strings = |values: Vec<Option<&str>>| array(StringArray::from(values));
    let longs = |values: Vec<Option<i64>>| array(Int64Array::from(values));
    assert_eq!(hash(&[ints(vec![Some(1)]), strings(vec![Some("a")])]), [8205864924878002737]);
    assert_eq!(hash(&[strings(vec![Some("a")]), ints(vec![Some(1)])]), [-4810547614043336770]);
    assert_eq!(hash(&[strings(vec![None]), longs(vec![Some(1)])]), [-7001672635703045582]);
    assert_eq!(hash(&[longs(vec![Some(1)]), strings(vec![None])]), [-7001672635703045582]);
    let structs = pair(ints(vec![Some(1), None]), strings(vec![Some("x"), Some("x")]));
    assert_eq!(hash(&[structs]), [8510603489595372987, -5636050478767222463]);
    let window = pair(
        array(TimestampMicrosecondArray::from(vec![1_704_067_200_000_000]).with_timezone("UTC")),
        array(TimestampMicrosecondArray::from(vec![1_704_067_800_000_000]).with_timezone("UTC")),
    );
    assert_eq!(hash(&[window, strings(vec![Some("ad-17")])]), [1588541630115213031]);
    let item = pair(longs(vec![Some(1)]), array(Float64Array::from(vec![1.5])));
    assert_eq!(hash(&[list::<i32>(item, &[1])]), [5705534175103899719]);
    let mut map = MapBuilder::new(None, StringBuilder::new(), Int32Builder::new());
    map.keys().append_value("a");
    map.keys().append_value("b");
    map.values().append_slice(&[1, 2]);
    map.append(true).unwrap();
    assert_eq!(hash(&[array(map.finish())]), [7428138486932782616]);
}

#[test]
fn what_spark_calls_one_type_hashes_alike_in_every_layout() {
    let words = vec![Some("a"), None, Some("abcdefghijklmnopqrstuvwxyz0123456789-and-more"), Some("a")];
    let expected = hash(&[array(StringArray::from(words.clone()))]);
    let same: Vec<ArrayRef> = vec![
        array(StringViewArray::from(words.clone())),
        array(LargeStringArray::from(words.clone())),
        array(words.into_iter().collect::<DictionaryArray<Int32Type>>()),
    ];
    for column in same {
        assert_eq!(hash(std::slice::from_ref(&column)), expected, "{}", column.data_type());
        let sliced = column.slice(2, 2);
        assert_eq!(hash(&[sliced]), expected[2..], "{}", column.data_type());
    }
    let micros = hash(&[array(TimestampMicrosecondArray::from(vec![-5_000_000]))]);
    assert_eq!(hash(&[array(TimestampSecondArray::from(vec![-5]))]), micros);
    assert_eq!(hash(&[array(TimestampMillisecondArray::from(vec![-5_000]))]), micros);
    assert_eq!(hash(&[array(TimestampNanosecondArray::from(vec![-5_000_000_000]))]), micros);
    let list: ListArray = list::<i32>(array(Int32Array::from(vec![1, 2, 3, 4])), &[2, 2]).as_list::<i32>().clone();
    let fixed = FixedSizeListArray::from_iter_primitive::<Int32Type, _, _>(
        [Some(vec![Some(1), Some(2)]), Some(vec![Some(3), Some(4)])],
        2,
    );
    assert_eq!(hash(&[array(list.slice(1, 1))]), hash(&[array(fixed)])[1..]);
    assert_eq!(hash(&[array(NullArray::new(2))]), [42, 42]);
    assert_eq!(hash(&[array(IntervalMonthDayNanoArray::new_null(1))]), [42]);
}

#[test]
fn datafusion_spark_agrees_on_the_types_that_it_gets_right() {
    let columns: Vec<ArrayRef> = vec![
        array(Int32Array::from_iter((0..500).map(|i| (i % 7 > 0).then_some(i * 7_919)))),
        array(StringArray::from_iter((0..500).map(|i| (i % 5 > 0).then(|| "x".repeat(i as usize % 90))))),
        array(Float64Array::from_iter((0..500).map(|i| Some(f64::from(i) * -0.37)))),
        array(TimestampMicrosecondArray::from_iter_values((0..500).map(|i| i * 1_000_003))),
    ];
    for count in 1..=columns.len() {
        let columns = &columns[..count];
        let args = ScalarFunctionArgs {
            args: columns.iter().cloned().map(ColumnarValue::Array).collect(),
            arg_fields: columns.iter().map(|c| Arc::new(Field::new("c", c.data_type().clone(), true))).collect(),
            number_rows: 500,
            return_field: Arc::new(Field::new("h", DataType::Int64, false)),
            config_options: Arc::new(ConfigOptions::default()),
        };
        let theirs = SparkXxhash64::new().invoke_with_args(args).unwrap().into_array(500).unwrap();
        assert_eq!(hash(columns), theirs.as_primitive::<Int64Type>().values().to_vec());
    }
}

#[test]
fn partitions_are_the_hash_modulo_their_number_and_never_negative() {
    let column = array(Int64Array::from_iter_values(-1_000..1_000));
    let hashes = hash(std::slice::from_ref(&column));
    let partitions = partition_of(std::slice::from_ref(&column), 2_000, 7).unwrap();
    let mut counts = [0; 7];
    for (partition, hash) in partitions.values().iter().zip(hashes) {
        assert_eq!(i64::from(*partition), ((hash % 7) + 7) % 7);
        counts[*partition as usize] += 1;
    }
    assert!(counts.iter().all(|count| (200..400).contains(count)), "{counts:?}");
    assert_eq!(partition_of(&[], 3, 5).unwrap().values().to_vec(), [0, 0, 0]);
    assert!(partition_of(&[column], 2_000, 0).is_err());
}
