//! Values through columns and back.

use std::collections::BTreeMap;

use arrow::array::{DictionaryArray, Int32Array, Int64Array, StringArray, StringViewArray, TimestampNanosecondArray};
use arrow::datatypes::Int32Type;
use serde::{Deserialize, Serialize};

use super::*;
use crate::rows::Timestamp;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Colour {
    Red,
    Green,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Inner {
    x: f32,
    y: Option<u8>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Everything {
    flag: bool,
    small: i8,
    unsigned: u32,
    huge: u64,
    real: f64,
    text: Option<String>,
    letter: char,
    colour: Colour,
    at: Timestamp,
    list: Vec<Option<i64>>,
    nested: Vec<Vec<Inner>>,
    map: BTreeMap<String, Vec<i16>>,
    pair: (i32, String),
    inner: Option<Inner>,
}

fn some() -> Everything {
    Everything {
        flag: true,
        small: -3,
        unsigned: 4_000_000_000,
        huge: 7,
        real: -0.5,
        text: Some("é".into()),
        letter: 'ß',
        colour: Colour::Green,
        at: Timestamp(-1),
        list: vec![Some(i64::MIN), None],
        nested: vec![vec![], vec![Inner { x: 1.0, y: None }, Inner { x: 2.0, y: Some(255) }]],
        map: BTreeMap::from([("a".into(), vec![1, 2]), ("b".into(), vec![])]),
        pair: (5, "p".into()),
        inner: Some(Inner { x: 0.0, y: Some(0) }),
    }
}

fn none() -> Everything {
    let empty = Everything { text: None, inner: None, list: vec![], nested: vec![], map: BTreeMap::new(), ..some() };
    Everything { colour: Colour::Red, ..empty }
}

#[test]
fn values_come_back_from_their_column() {
    let column = ValueColumn::<Everything>::new();
    let (a, b) = (some(), none());
    let array = column.encode([Some(&a), None, Some(&b)].into_iter()).unwrap();
    assert_eq!(array.data_type(), column.data_type());
    assert!(array.is_null(1));
    assert_eq!(column.decode(array.as_ref(), 0).unwrap(), a);
    assert_eq!(column.decode(array.as_ref(), 2).unwrap(), b);
}

#[test]
fn rows_come_back_from_their_columns() {
    let shape = RecordShape::of::<Everything>().unwrap();
    let mut rows = shape.records().unwrap();
    rows.push(&some()).unwrap();
    rows.push(&none()).unwrap();
    let table = rows.finish().unwrap();
    // In types that Spark has.
    assert_eq!(table.schema().field_with_name("huge").unwrap().data_type(), &DataType::Int64);
    let source = RowSource::of::<Everything>(table.schema().fields(), None).unwrap();
    let records = source.records(table.columns(), 2).unwrap();
    assert_eq!(records.get::<Everything>(0).unwrap(), some());
    assert_eq!(records.get::<Everything>(1).unwrap(), none());
}

#[test]
fn a_number_too_great_for_sparks_types_is_an_error() {
    let shape = RecordShape::of::<u64>().unwrap();
    assert_eq!(shape.schema().field(0).name(), "value");
    let mut rows = shape.records().unwrap();
    rows.push(&(i64::MAX as u64)).unwrap();
    let error = rows.push(&u64::MAX).unwrap_err().to_string();
    assert!(error.contains("18446744073709551615 does not fit a column of BIGINT"), "{error}");
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Door {
    Closed,
    Open { since: i64 },
}

#[test]
fn what_has_no_columns_is_kept_as_json() {
    let column = ValueColumn::<Door>::new();
    assert_eq!(column.data_type(), &DataType::Utf8);
    let array = column.encode([Some(&Door::Open { since: 3 }), Some(&Door::Closed)].into_iter()).unwrap();
    assert_eq!(array.as_string::<i32>().value(0), r#"{"Open":{"since":3}}"#);
    assert_eq!(column.decode(array.as_ref(), 0).unwrap(), Door::Open { since: 3 });
    let error = RecordShape::of::<Door>().unwrap_err().to_string();
    assert!(error.contains("Rows cannot be made of Door: it has an enum whose variants have data"), "{error}");
}

fn offered() -> (Fields, Vec<ArrayRef>) {
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("User", Arc::new(StringViewArray::from(vec!["u"]))),
        ("n", Arc::new(Int32Array::from(vec![7]))),
        ("at", Arc::new(TimestampNanosecondArray::from(vec![1_500]).with_timezone("+00:00"))),
        ("d", Arc::new(DictionaryArray::<Int32Type>::from_iter(["x"]))),
    ];
    let table = RecordBatch::try_from_iter(columns).unwrap();
    (table.schema().fields().clone(), table.columns().to_vec())
}

fn read<T: DeserializeOwned>(alone: Option<usize>) -> Result<T> {
    let (fields, columns) = offered();
    let source = RowSource::of::<T>(&fields, alone)?;
    source.records(&columns, 1)?.get(0)
}

#[test]
fn columns_are_found_by_name_position_or_alone() {
    #[derive(Debug, PartialEq, Deserialize)]
    struct Some {
        d: String,
        user: String,
        n: i64,
        at: Timestamp,
    }
    let row: Some = read(None).unwrap();
    assert_eq!(row, Some { d: "x".into(), user: "u".into(), n: 7, at: Timestamp(1) });
    type Tuple = (String, f64, String, char);
    assert_eq!(read::<Tuple>(None).unwrap(), ("u".into(), 7.0, "1970-01-01T00:00:00.000001Z".into(), 'x'));
    assert_eq!(read::<i64>(Option::Some(1)).unwrap(), 7);
    let error = read::<i64>(None).unwrap_err().to_string();
    assert!(error.contains("A bigint is read from one column, but there are 4: User, n, at, d."), "{error}");
    let error = read::<(i64,)>(None).unwrap_err().to_string();
    assert!(error.contains("`_1` cannot be resolved"), "{error}");
    let map: BTreeMap<String, serde_json::Value> = read(None).unwrap();
    assert_eq!(map["n"], 7);
}

#[test]
fn null_where_a_value_must_be_says_which_column() {
    #[derive(Debug, Deserialize)]
    struct Row {
        #[expect(dead_code, reason = "it cannot be read")]
        n: i64,
    }
    let columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(vec![None]))];
    let fields = Fields::from(vec![Field::new("n", DataType::Int64, true)]);
    let records = RowSource::of::<Row>(&fields, None).unwrap().records(&columns, 1).unwrap();
    let error = records.get::<Row>(0).unwrap_err();
    assert_eq!(error.class(), Some("EXPRESSION_DECODING_FAILED"));
    assert!(error.to_string().contains("column `n`: invalid type: unit value, expected i64"), "{error}");
}

#[test]
fn a_column_of_structs_alone_is_the_value() {
    let inner: ArrayRef = Arc::new(StringArray::from(vec!["s"]));
    let field = Arc::new(Field::new("start", DataType::Utf8, true));
    let window: ArrayRef = Arc::new(StructArray::from(vec![(field, inner)]));
    #[derive(Deserialize)]
    struct Window {
        start: String,
    }
    let fields = Fields::from(vec![Field::new("window", window.data_type().clone(), true)]);
    let records = RowSource::of::<Window>(&fields, None).unwrap().records(&[window], 1).unwrap();
    assert_eq!(records.get::<Window>(0).unwrap().start, "s");
}

#[test]
fn type_names_are_short() {
    assert_eq!(name_of::<Vec<Option<Everything>>>(), "Vec<Option<Everything>>");
}
