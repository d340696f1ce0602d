//! Tests of row bytes and back.

use arrow::array::{
    BinaryViewArray, BooleanArray, Decimal128Array, Decimal256Array, DictionaryArray, Float64Array, Int32Array,
    IntervalMonthDayNanoArray, LargeListArray, LargeStringArray, ListArray, ListViewArray, MapBuilder, StringArray,
    StringBuilder, StringViewArray, StructArray, TimestampMicrosecondArray,
};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{Field, Int32Type, IntervalMonthDayNano, i256};

use super::*;

const LONG: &str = "longer than the twelve bytes that a view holds by itself, and than one block of the row format";

fn span(n: i32) -> IntervalMonthDayNano {
    IntervalMonthDayNano::new(n, -n, 5)
}

/// Four rows of every kind of column that state can have, the last one null.
pub(in crate::state) fn columns() -> Vec<ArrayRef> {
    let words = [Some("a"), Some(""), Some(LONG), None];
    let numbers = Int32Array::from(vec![Some(1), Some(-2), Some(3), None]);
    let lists = || {
        ListArray::from_iter_primitive::<Int32Type, _, _>([
            Some(vec![Some(1), None]),
            Some(vec![]),
            Some(vec![Some(3)]),
            None,
        ])
    };
    let items = |values: ArrayRef| (Arc::new(Field::new("element", values.data_type().clone(), false)), values);
    let (item, values) = items(Arc::new(StringArray::from(vec!["x", "y", "z"])));
    let offsets = arrow::buffer::OffsetBuffer::from_lengths([1, 0, 2, 0]);
    let nulls = NullBuffer::from(vec![true, true, true, false]);
    let strings_list = LargeListArray::new(item, offsets, values, Some(nulls.clone()));
    let time = TimestampMicrosecondArray::from(vec![Some(1), Some(2), Some(3), None]).with_timezone("Europe/Vienna");
    // Fields that are declared non-null under a struct that is not: what window columns look like.
    let window = StructArray::new(
        ["start", "end"].map(|name| Field::new(name, time.data_type().clone(), false)).to_vec().into(),
        vec![Arc::new(time.clone()), Arc::new(time.clone())],
        Some(nulls),
    );
    let mut map = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
    for row in 0..4 {
        if row < 2 {
            map.keys().append_value("k");
            map.values().append_option((row == 0).then_some("v"));
        }
        map.append(row < 3).unwrap();
    }
    vec![
        Arc::new(numbers.clone()),
        Arc::new(BooleanArray::from(vec![Some(true), Some(false), Some(true), None])),
        Arc::new(Decimal128Array::from(vec![Some(1), Some(-2), Some(i128::MAX / 7), None])),
        Arc::new(Decimal256Array::from(vec![Some(i256::ONE), Some(i256::MINUS_ONE), Some(i256::ZERO), None])),
        Arc::new(IntervalMonthDayNanoArray::from(vec![Some(span(1)), Some(span(-2)), Some(span(0)), None])),
        Arc::new(Float64Array::from(vec![Some(0.5), Some(-0.0), Some(f64::NAN), None])),
        Arc::new(StringArray::from_iter(words)),
        Arc::new(LargeStringArray::from_iter(words)),
        Arc::new(StringViewArray::from_iter(words)),
        Arc::new(BinaryViewArray::from_iter(words.map(|word| word.map(str::as_bytes)))),
        Arc::new(words.into_iter().collect::<DictionaryArray<Int32Type>>()),
        Arc::new(time),
        Arc::new(window),
        Arc::new(lists()),
        Arc::new(ListViewArray::from(lists())),
        Arc::new(strings_list),
        Arc::new(map.finish()),
        arrow::array::new_null_array(&DataType::Null, 4),
    ]
}

fn codec(columns: &[ArrayRef]) -> RowCodec {
    let fields: Vec<_> = columns.iter().map(|column| Field::new("c", column.data_type().clone(), true)).collect();
    RowCodec::new(&fields.into()).unwrap()
}

fn bytes(rows: &EncodedRows) -> Vec<&[u8]> {
    (0..rows.len()).map(|row| rows.row(row)).collect()
}

#[test]
fn columns_come_back_with_the_declared_types() {
    for column in columns().iter().map(std::slice::from_ref).chain([&columns()[..]]) {
        let codec = codec(column);
        let rows = codec.encode(column, 4).unwrap();
        let back = codec.decode(bytes(&rows).into_iter()).unwrap();
        assert_eq!(back, column, "{}", column[0].data_type());
    }
}

#[test]
fn declared_and_file_form_have_the_same_row_bytes() {
    for column in columns() {
        let codec = codec(std::slice::from_ref(&column));
        let rows = codec.encode(std::slice::from_ref(&column), 4).unwrap();
        let filed = codec.decode_file(bytes(&rows).into_iter()).unwrap();
        assert_eq!(filed[0].data_type(), &file_type(column.data_type()));
        assert_eq!(bytes(&codec.encode_file(&filed, 4).unwrap()), bytes(&rows), "{}", column.data_type());
    }
}

#[test]
fn the_null_row_is_what_a_row_of_nulls_encodes_to() {
    let columns = columns();
    let codec = codec(&columns);
    let rows = codec.encode(&columns, 4).unwrap();
    assert_eq!(codec.null_row(), rows.row(3));
}

#[test]
fn columns_of_equivalent_types_are_taken() {
    let declared: ArrayRef = Arc::new(StringArray::from(vec!["a", "b"]));
    let codec = codec(std::slice::from_ref(&declared));
    let want = codec.encode(std::slice::from_ref(&declared), 2).unwrap();
    let view: ArrayRef = Arc::new(StringViewArray::from(vec!["a", "b"]));
    let dictionary: ArrayRef = Arc::new(vec!["a", "b"].into_iter().collect::<DictionaryArray<Int32Type>>());
    for column in [view, dictionary] {
        assert_eq!(bytes(&codec.encode(&[column], 2).unwrap()), bytes(&want));
    }
    let number: ArrayRef = Arc::new(Int32Array::from(vec![1, 2]));
    let error = codec.encode(&[number], 2).unwrap_err().to_string();
    assert!(error.contains("Int32") && error.contains("Utf8"), "{error}");
    assert!(codec.encode(&[], 2).is_err());
}

#[test]
fn a_prefix_of_columns_is_a_prefix_of_bytes() {
    let columns = columns();
    for count in 1..columns.len() {
        let all = codec(&columns).encode(&columns, 4).unwrap();
        let first = codec(&columns[..count]).encode(&columns[..count], 4).unwrap();
        for row in 0..4 {
            assert!(all.row(row).starts_with(first.row(row)), "{count} columns, row {row}");
        }
    }
}

#[test]
fn no_columns_make_empty_rows() {
    let codec = RowCodec::new(&Fields::empty()).unwrap();
    let rows = codec.encode(&[], 3).unwrap();
    assert_eq!(bytes(&rows), [&[] as &[u8]; 3]);
    assert_eq!(codec.decode(bytes(&rows).into_iter()).unwrap().len(), 0);
}

#[test]
fn slices_and_empty_batches_are_encoded_like_anything_else() {
    let columns = columns();
    let codec = codec(&columns);
    let all = codec.encode(&columns, 4).unwrap();
    for (start, len) in [(0, 0), (1, 2), (2, 2), (4, 0)] {
        let slices: Vec<_> = columns.iter().map(|column| column.slice(start, len)).collect();
        let rows = codec.encode(&slices, len).unwrap();
        assert_eq!(bytes(&rows), bytes(&all)[start..start + len]);
        assert_eq!(codec.decode(bytes(&rows).into_iter()).unwrap(), slices);
    }
}
