//! Facts of Spark 4.3.0: its `show()` was asked for every cell and every shape below.

use arrow::array::*;
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use arrow::datatypes::*;

use super::*;
use crate::testing::{batch, context, rows, schema};

fn one(array: impl Array + 'static) -> (SchemaRef, RecordBatch) {
    let schema = Arc::new(Schema::new(vec![Field::new("c", array.data_type().clone(), true)]));
    let batch = RecordBatch::try_new(schema.clone(), vec![Arc::new(array)]).unwrap();
    (schema, batch)
}

/// The rule and the cells of a table of one column.
fn drawn(array: impl Array + 'static, truncate: bool) -> (String, Vec<String>) {
    let (schema, batch) = one(array);
    let text = table::draw(&schema, &[batch], truncate).unwrap();
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    (lines[0].clone(), lines[3..lines.len() - 1].to_vec())
}

fn full(array: impl Array + 'static) -> Vec<String> {
    drawn(array, false).1
}

#[test]
fn text_cells() {
    for (cell, whole, cut) in [
        ("abc", "|abc|", "|abc|"),
        ("", "|   |", "|   |"),
        ("a\nb\tc\rd\\e", "|a\\nb\\tc\\rd\\e|", "|a\\nb\\tc\\rd\\e|"),
        ("x\x07\x08\x0b\x0cy\0\x01\x1f\x7f", "|x\\a\\b\\v\\fy\0\x01\x1f\x7f|", "|x\\a\\b\\v\\fy\0\x01\x1f\x7f|"),
        ("  lead and trail  ", "|  lead and trail  |", "|  lead and trail  |"),
        ("123456789012345678901", "|123456789012345678901|", "|12345678901234567...|"),
        ("12345678901234567890", "|12345678901234567890|", "|12345678901234567890|"),
        ("日本語テスト", "|日本語テスト|", "|日本語テスト|"),
        ("1234567890123456😀90123", "|1234567890123456😀90123|", "|1234567890123456?...|"),
    ] {
        assert_eq!(full(StringArray::from(vec![cell])), [whole]);
        assert_eq!(drawn(StringArray::from(vec![cell]), true).1, [cut]);
    }
}

#[test]
fn wide_characters_take_two_places() {
    for (cell, rule) in [
        ("日本語テスト", "+------------+"),
        ("ＡＢＣ", "+------+"),
        ("ｱｲｳ", "+---+"),
        ("a😀b", "+----+"),
        ("日本語日本語日本語日本語日本語日本語日本語日", "+-------------------------------------+"),
    ] {
        assert_eq!(drawn(StringArray::from(vec![cell]), true).0, rule);
    }
}

#[test]
fn scalar_cells() {
    assert_eq!(full(Int8Array::from(vec![Some(-5), None])), ["|-5  |", "|NULL|"]);
    assert_eq!(full(BooleanArray::from(vec![true])), ["|true|"]);
    assert_eq!(full(NullArray::new(1)), ["|NULL|"]);
    assert_eq!(
        full(Float64Array::from(vec![1.0, f64::NAN, f64::INFINITY])),
        ["|1.0     |", "|NaN     |", "|Infinity|"]
    );
    assert_eq!(full(Float32Array::from(vec![1e10])), ["|1.0E10|"]);
    let decimal = Decimal128Array::from(vec![1]).with_precision_and_scale(10, 7).unwrap();
    assert_eq!(full(decimal), ["|0.0000001|"]);
    assert_eq!(full(BinaryArray::from(vec![&[0x48, 0x65, 0xff, 0][..], &[]])), ["|[48 65 FF 00]|", "|[]           |"]);
    assert_eq!(full(Date32Array::from(vec![19724])), ["|2024-01-02|"]);
    let at = 1_704_067_201_100_000;
    let stamps = TimestampMicrosecondArray::from(vec![at]).with_timezone("UTC");
    assert_eq!(full(stamps.clone()), ["|2024-01-01 00:00:01.1|"]);
    assert_eq!(drawn(stamps, true).1, ["|2024-01-01 00:00:...|"]);
    assert_eq!(full(DurationMicrosecondArray::from(vec![-93_784_000_000])), ["|INTERVAL '-1 02:03:04' DAY TO SECOND|"]);
    let dictionary: DictionaryArray<Int32Type> = vec![Some("x"), None].into_iter().collect();
    assert_eq!(full(dictionary), ["|x   |", "|NULL|"]);
    assert_eq!(full(LargeStringArray::from(vec!["big"])), ["|big|"]);
    assert_eq!(full(StringViewArray::from(vec!["view"])), ["|view|"]);
}

#[test]
fn nested_cells() {
    let list =
        ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), Some(2), None]), None, Some(vec![])]);
    assert_eq!(full(list.slice(0, 2)), ["|[1, 2, NULL]|", "|NULL        |"]);
    assert_eq!(full(list.slice(1, 2)), ["|NULL|", "|[]  |"]);

    let fields = Fields::from(vec![Field::new("a", DataType::Int32, true), Field::new("b", DataType::Utf8, true)]);
    let columns: Vec<ArrayRef> =
        vec![Arc::new(Int32Array::from(vec![Some(1), None])), Arc::new(StringArray::from(vec![Some("x"), Some("y")]))];
    let structs = StructArray::new(fields, columns, Some(vec![true, false].into()));
    assert_eq!(full(structs), ["|{1, x}|", "|NULL  |"]);

    let mut map = MapBuilder::new(None, StringBuilder::new(), Int32Builder::new());
    map.keys().append_value("k");
    map.values().append_value(1);
    map.keys().append_value("z");
    map.values().append_null();
    map.append(true).unwrap();
    map.append(true).unwrap();
    assert_eq!(full(map.finish()), ["|{k -> 1, z -> NULL}|", "|{}                 |"]);

    let item = Arc::new(Field::new("item", list.data_type().clone(), true));
    let outer = ListArray::new(item, OffsetBuffer::new(ScalarBuffer::from(vec![0, 2])), Arc::new(list), None);
    assert_eq!(full(outer), ["|[[1, 2, NULL], NULL]|"]);
}

#[test]
fn a_type_without_text_is_refused_by_name() {
    let union = UnionArray::try_new(
        UnionFields::try_new([0], [Field::new("i", DataType::Int32, true)]).unwrap(),
        vec![0].into(),
        None,
        vec![Arc::new(Int32Array::from(vec![1]))],
    );
    let (schema, batch) = one(union.unwrap());
    assert!(table::draw(&schema, &[batch], true).unwrap_err().to_string().contains("cannot be written as text"));
}

/// What a sink with these options prints for these batches.
async fn printed(options: &[(&str, &str)], batches: Vec<OutputBatch>) -> String {
    let buffer = Arc::new(Mutex::new(Vec::new()));
    let provider = ConsoleProvider::new(buffer.clone());
    let sink = provider.sink(context(schema(), OutputMode::Append, options)).await.unwrap();
    for batch in batches {
        let batch_id = batch.batch_id;
        let before = buffer.lock().unwrap().len();
        sink.write(batch).await.unwrap();
        assert_eq!(buffer.lock().unwrap().len(), before, "nothing is printed before the commit");
        sink.commit(batch_id).await.unwrap();
        sink.commit(batch_id).await.unwrap();
    }
    let text = buffer.lock().unwrap().clone();
    String::from_utf8(text).unwrap()
}

#[tokio::test]
async fn batches_look_as_in_spark() {
    let rows_of_two_partitions = || vec![rows(&[("a", 1), ("a very very very long", 20)]), rows(&[("c", 3)])];
    let text = printed(&[], vec![batch(0, rows_of_two_partitions()), batch(1, vec![])]).await;
    let expected = "\
-------------------------------------------
Batch: 0
-------------------------------------------
+--------------------+---+
|                   k|  v|
+--------------------+---+
|                   a|  1|
|a very very very ...| 20|
|                   c|  3|
+--------------------+---+

-------------------------------------------
Batch: 1
-------------------------------------------
+---+---+
|  k|  v|
+---+---+
+---+---+

";
    assert_eq!(text, expected);
    let text = printed(&[("numRows", "2"), ("truncate", "FALSE")], vec![batch(7, rows_of_two_partitions())]).await;
    let expected = "\
-------------------------------------------
Batch: 7
-------------------------------------------
+---------------------+---+
|k                    |v  |
+---------------------+---+
|a                    |1  |
|a very very very long|20 |
+---------------------+---+
only showing top 2 rows
";
    assert_eq!(text, expected);
    assert!(
        printed(&[("numRows", "1")], vec![batch(0, rows_of_two_partitions())]).await.ends_with("showing top 1 row\n")
    );
    let none = printed(&[("numRows", "-1")], vec![batch(0, rows_of_two_partitions())]).await;
    assert!(none.ends_with("+---+---+\n+---+---+\nonly showing top 0 rows\n"), "{none}");
}

#[test]
fn a_table_without_columns_and_a_long_header() {
    let none = Arc::new(Schema::empty());
    let two =
        RecordBatch::try_new_with_options(none.clone(), vec![], &RecordBatchOptions::new().with_row_count(Some(1)));
    assert_eq!(table::draw(&none, &[two.unwrap()], true).unwrap(), "++\n||\n++\n||\n++\n");
    let long = Arc::new(Schema::new(vec![Field::new("long\tname of column here over twenty", DataType::Int32, true)]));
    assert!(table::draw(&long, &[], true).unwrap().contains("|long\\tname of column here over twenty|"));
}

#[test]
fn options_are_checked() {
    let check = |name: &str, value: &str| {
        ConsoleProvider::stdout().check_options(&Options::new().with(name, value)).unwrap_err().to_string()
    };
    assert!(check("truncate", "5").starts_with("5 is not a boolean string."));
    assert!(check("numRows", "x").starts_with("For input string: \"x\""));
    assert!(check("numrow", "3").contains("Did you mean 'numRows'?"));
}

#[tokio::test]
async fn a_closed_terminal_fails_the_query() {
    #[derive(Debug)]
    struct Closed;
    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let provider = ConsoleProvider::new(Arc::new(Mutex::new(Closed)));
    let sink = provider.sink(context(schema(), OutputMode::Append, &[])).await.unwrap();
    sink.write(batch(0, vec![rows(&[("a", 1)])])).await.unwrap();
    assert!(sink.commit(0).await.unwrap_err().to_string().contains("broken pipe"));
}
