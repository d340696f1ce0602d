//! The bytes of the formats, compared with files that Spark 4.3.0 wrote.

use std::io::Read;
use std::sync::Arc;

use arrow::array::*;
use arrow::datatypes::*;
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::reader::{FileReader, SerializedFileReader};
use serde_json::Value;
use wavetank_engine::options::Options;

use super::format::{Format, Kind};

fn table(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true))).unwrap()
}

fn bytes_of(kind: Kind, options: &Options, batches: &[RecordBatch]) -> Vec<u8> {
    let mut encoder = Format::of(kind, options).unwrap().start(batches[0].schema_ref()).unwrap();
    let mut bytes = Vec::new();
    for batch in batches {
        encoder.write(batch).unwrap();
        bytes.append(&mut encoder.take());
    }
    bytes.append(&mut encoder.finish().unwrap());
    bytes
}

fn text_of(kind: Kind, options: &[(&str, &str)], batch: RecordBatch) -> String {
    String::from_utf8(bytes_of(kind, &options.iter().copied().collect(), &[batch])).unwrap()
}

fn json(column: impl Array + 'static) -> String {
    text_of(Kind::Json, &[], table(vec![("c", Arc::new(column))]))
}

#[test]
fn csv_files_are_those_of_spark() {
    let facts: Value = serde_json::from_str(include_str!("csv_facts.json")).unwrap();
    let rows = facts["rows"].as_array().unwrap();
    let strings =
        |column: usize| -> ArrayRef { Arc::new(rows.iter().map(|r| r[column].as_str()).collect::<StringArray>()) };
    let numbers: Int32Array = rows.iter().map(|r| r[1].as_i64().map(|n| n as i32)).collect();
    let batch = table(vec![("s", strings(0)), ("i", Arc::new(numbers)), ("t", strings(2))]);
    let cases = facts["cases"].as_array().unwrap();
    assert!(cases.len() > 20);
    for case in cases {
        let options: Options =
            case["options"].as_object().unwrap().iter().map(|(n, v)| (n.clone(), v.as_str().unwrap())).collect();
        let file = String::from_utf8(bytes_of(Kind::Csv, &options, std::slice::from_ref(&batch))).unwrap();
        assert_eq!(file, case["file"].as_str().unwrap(), "with {}", case["options"]);
    }
}

#[test]
fn csv_headers_nulls_and_single_columns() {
    let one = || table(vec![("s", Arc::new(StringArray::from(vec![Some("a"), None, Some(""), Some(" "), Some("b")])))]);
    for (options, file) in [
        (vec![], "a\n\"\"\n\"\"\nb\n"),
        (vec![("nullValue", "N")], "a\nN\n\"\"\n\"\"\nb\n"),
        (vec![("header", "true")], "s\na\n\"\"\n\"\"\nb\n"),
        (vec![("emptyValue", "")], "a\nb\n"),
    ] {
        assert_eq!(text_of(Kind::Csv, &options, one()), file, "with {options:?}");
    }
    let one: ArrayRef = Arc::new(Int32Array::from(vec![1]));
    let names = ["a,b", "q\"r", " sp ", "#x"];
    let odd_names = table(names.iter().map(|name| (*name, one.clone())).collect());
    assert_eq!(text_of(Kind::Csv, &[("header", "true")], odd_names), "\"a,b\",\"q\\\"r\",sp,#x\n1,1,1,1\n");
    let comment = table(vec![("#h", one.clone()), ("#k", one)]);
    assert_eq!(text_of(Kind::Csv, &[("header", "true")], comment), "\"#h\",#k\n1,1\n");
}

#[test]
fn csv_values() {
    let stamps = TimestampMicrosecondArray::from(vec![Some(1_704_067_201_123_456), None]);
    let batch = table(vec![
        ("ts", Arc::new(stamps.clone().with_timezone("UTC"))),
        ("ntz", Arc::new(stamps)),
        ("d", Arc::new(Date32Array::from(vec![Some(19724), None]))),
        ("f", Arc::new(Float64Array::from(vec![1e10, f64::NAN]))),
        ("dec", Arc::new(Decimal128Array::from(vec![1, 0]).with_precision_and_scale(10, 7).unwrap())),
        ("bin", Arc::new(BinaryArray::from(vec![&[0x48, 0xff][..], &[]]))),
        ("b", Arc::new(BooleanArray::from(vec![true, false]))),
        ("dt", Arc::new(DurationMicrosecondArray::from(vec![93_784_500_000, 0]))),
    ]);
    assert_eq!(
        text_of(Kind::Csv, &[], batch.clone()),
        "2024-01-01T00:00:01.123Z,2024-01-01T00:00:01.123,2024-01-02,1.0E10,1E-7,[48 FF],true,\
         INTERVAL '1 02:03:04.5' DAY TO SECOND\n,,,NaN,0E-7,[],false,INTERVAL '0 00:00:00' DAY TO SECOND\n"
    );
    let options = [("timestampFormat", "yyyy/MM/dd HH:mm:ss"), ("dateFormat", "dd.MM.yyyy")];
    let first = batch.slice(0, 1).project(&[0, 2]).unwrap();
    assert_eq!(text_of(Kind::Csv, &options, first), "2024/01/01 00:00:01,02.01.2024\n");
}

#[test]
fn json_values() {
    assert_eq!(json(StringArray::from(vec![Some("a"), Some(""), None])), "{\"c\":\"a\"}\n{\"c\":\"\"}\n{}\n");
    assert_eq!(json(Int64Array::from(vec![i64::MAX])), "{\"c\":9223372036854775807}\n");
    assert_eq!(
        json(Float64Array::from(vec![1e10, -0.0, f64::NAN, f64::NEG_INFINITY])),
        "{\"c\":1.0E10}\n{\"c\":-0.0}\n{\"c\":\"NaN\"}\n{\"c\":\"-Infinity\"}\n"
    );
    assert_eq!(json(Float32Array::from(vec![0.1, f32::INFINITY])), "{\"c\":0.1}\n{\"c\":\"Infinity\"}\n");
    let decimals = Decimal128Array::from(vec![1_234_500, 0]).with_precision_and_scale(38, 18).unwrap();
    assert_eq!(json(decimals), "{\"c\":1.234500E-12}\n{\"c\":0E-18}\n");
    assert_eq!(json(BinaryArray::from(vec![&[0x48, 0x65, 0xff, 0][..]])), "{\"c\":\"SGX/AA==\"}\n");
    assert_eq!(json(Date32Array::from(vec![19724])), "{\"c\":\"2024-01-02\"}\n");
    let stamps = TimestampMicrosecondArray::from(vec![1_704_067_201_000_001]);
    assert_eq!(json(stamps.clone()), "{\"c\":\"2024-01-01T00:00:01.000\"}\n");
    assert_eq!(json(stamps.with_timezone("UTC")), "{\"c\":\"2024-01-01T00:00:01.000Z\"}\n");
    assert_eq!(
        json(DurationMicrosecondArray::from(vec![-1])),
        "{\"c\":\"INTERVAL '-0 00:00:00.000001' DAY TO SECOND\"}\n"
    );
    assert_eq!(json(NullArray::new(1)), "{}\n");
    assert_eq!(json(BooleanArray::from(vec![true])), "{\"c\":true}\n");
}

#[test]
fn nested_json() {
    let list = ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), None]), None, Some(vec![])]);
    assert_eq!(json(list), "{\"c\":[1,null]}\n{}\n{\"c\":[]}\n");
    let fields = Fields::from(vec![Field::new("a b", DataType::Int32, true), Field::new("c,d", DataType::Utf8, true)]);
    let columns: Vec<ArrayRef> =
        vec![Arc::new(Int32Array::from(vec![Some(1), None])), Arc::new(StringArray::from(vec![None, Some("q\"u")]))];
    let structs = StructArray::new(fields, columns, None);
    assert_eq!(json(structs.clone()), "{\"c\":{\"a b\":1}}\n{\"c\":{\"c,d\":\"q\\\"u\"}}\n");
    let all = text_of(Kind::Json, &[("ignoreNullFields", "false")], table(vec![("c", Arc::new(structs))]));
    assert_eq!(all, "{\"c\":{\"a b\":1,\"c,d\":null}}\n{\"c\":{\"a b\":null,\"c,d\":\"q\\\"u\"}}\n");

    let mut strings = MapBuilder::new(None, StringBuilder::new(), Int32Builder::new());
    strings.keys().append_value("k");
    strings.values().append_value(1);
    strings.keys().append_value("z");
    strings.values().append_null();
    strings.append(true).unwrap();
    assert_eq!(json(strings.finish()), "{\"c\":{\"k\":1,\"z\":null}}\n");
    let mut times = MapBuilder::new(None, TimestampMicrosecondBuilder::new(), BinaryBuilder::new());
    times.keys().append_value(1_704_067_201_500_000);
    times.values().append_value([0, 0xff]);
    times.append(true).unwrap();
    assert_eq!(json(times.finish()), "{\"c\":{\"1704067201500000\":\"AP8=\"}}\n");
    let mut days = MapBuilder::new(None, Date32Builder::new(), BooleanBuilder::new());
    days.keys().append_value(19723);
    days.values().append_value(true);
    days.append(true).unwrap();
    assert_eq!(json(days.finish()), "{\"c\":{\"19723\":true}}\n");
}

#[test]
fn json_and_text_options() {
    let batch = || {
        let stamps = TimestampMicrosecondArray::from(vec![Some(1_704_067_201_000_000), None]).with_timezone("UTC");
        table(vec![("s", Arc::new(StringArray::from(vec![Some("x"), None]))), ("ts", Arc::new(stamps))])
    };
    let options = [("timestampFormat", "yyyy-MM-dd 'at' \"HH\""), ("lineSep", ";")];
    assert_eq!(text_of(Kind::Json, &options, batch()), "{\"s\":\"x\",\"ts\":\"2024-01-01 at \\\"00\\\"\"};{};");
    let lines =
        table(vec![("s", Arc::new(StringViewArray::from(vec![Some("a b"), None, Some(""), Some("p%/:=?é#")])))]);
    assert_eq!(text_of(Kind::Text, &[], lines.clone()), "a b\n\n\np%/:=?é#\n");
    assert_eq!(text_of(Kind::Text, &[("lineSep", "\r\n")], lines.slice(0, 2)), "a b\r\n\r\n");
}

#[test]
fn compressed_text_is_the_same_text() {
    let batch = || table(vec![("s", Arc::new(StringArray::from(vec!["x"; 1000])))]);
    let plain = bytes_of(Kind::Json, &Options::new(), &[batch(), batch()]);
    for (codec, ending) in [("gzip", ".json.gz"), ("deflate", ".json.deflate"), ("NONE", ".json")] {
        let options = Options::new().with("compression", codec);
        assert_eq!(Format::of(Kind::Json, &options).unwrap().ending(), ending);
        let packed = bytes_of(Kind::Json, &options, &[batch(), batch()]);
        assert_eq!(packed, bytes_of(Kind::Json, &options, &[batch(), batch()]), "the same bytes twice");
        let mut unpacked = Vec::new();
        match codec {
            "gzip" => flate2::read::GzDecoder::new(packed.as_slice()).read_to_end(&mut unpacked).unwrap(),
            "deflate" => flate2::read::ZlibDecoder::new(packed.as_slice()).read_to_end(&mut unpacked).unwrap(),
            _ => packed.as_slice().read_to_end(&mut unpacked).unwrap(),
        };
        assert_eq!(unpacked, plain);
        assert!(codec == "NONE" || packed.len() < plain.len() / 10);
    }
}

#[test]
fn parquet_files_hold_what_spark_expects() {
    let list = ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), None])]);
    let batch = table(vec![
        ("ts", Arc::new(TimestampNanosecondArray::from(vec![1_704_067_201_000_001_999]).with_timezone("+00:00"))),
        ("ntz", Arc::new(TimestampMillisecondArray::from(vec![1_704_067_201_000]))),
        ("s", Arc::new(StringViewArray::from(vec!["x"]))),
        ("l", Arc::new(list)),
        ("dict", Arc::new(vec![Some("x")].into_iter().collect::<DictionaryArray<Int32Type>>())),
    ]);
    for (codec, ending) in [
        ("snappy", ".snappy.parquet"),
        ("none", ".parquet"),
        ("gzip", ".gz.parquet"),
        ("zstd", ".zstd.parquet"),
        ("lz4", ".lz4hadoop.parquet"),
        ("lz4_raw", ".lz4raw.parquet"),
    ] {
        let options = Options::new().with("compression", codec);
        assert_eq!(Format::of(Kind::Parquet, &options).unwrap().ending(), ending);
        let file = Bytes::from(bytes_of(Kind::Parquet, &options, std::slice::from_ref(&batch)));
        assert_eq!(file, bytes_of(Kind::Parquet, &options, std::slice::from_ref(&batch)), "the same bytes twice");
        let metadata = SerializedFileReader::new(file.clone()).unwrap().metadata().clone();
        assert_eq!(metadata.file_metadata().key_value_metadata(), None);
        let columns = metadata.file_metadata().schema_descr().columns().to_vec();
        let logical = |column: usize| format!("{:?}", columns[column].logical_type_ref().unwrap());
        assert!(logical(0).contains("is_adjusted_to_u_t_c: true") && logical(0).contains("MICROS"), "{}", logical(0));
        assert!(logical(1).contains("is_adjusted_to_u_t_c: false") && logical(1).contains("MICROS"), "{}", logical(1));
        assert_eq!(columns[3].path().string(), "l.list.element");
        let rows = ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap().next().unwrap().unwrap();
        assert_eq!(rows.column(0).as_primitive::<TimestampMicrosecondType>().value(0), 1_704_067_201_000_001);
        assert_eq!(rows.column(4).as_string::<i32>().value(0), "x");
    }
}

#[test]
fn columns_that_a_format_cannot_hold_are_refused_as_in_spark() {
    let int = DataType::Int32;
    let list = DataType::List(Arc::new(Field::new("item", int.clone(), true)));
    let pair = Fields::from(vec![Field::new("key", list.clone(), false), Field::new("value", int.clone(), true)]);
    let list_keys = DataType::Map(Arc::new(Field::new("entries", DataType::Struct(pair), false)), false);
    let interval = DataType::Interval(IntervalUnit::MonthDayNano);
    for (kind, types, message) in [
        (Kind::Text, vec![&int], "The Text datasource doesn't support the column `c0` of the type \"INT\"."),
        (Kind::Text, vec![&DataType::Utf8, &DataType::Utf8], "supports only a single column, and you have 2 columns."),
        (Kind::Csv, vec![&list], "The CSV datasource doesn't support the column `c0` of the type \"ARRAY<INT>\"."),
        (Kind::Csv, vec![&DataType::Null], "of the type \"VOID\""),
        (
            Kind::Json,
            vec![&int, &interval],
            "The JSON datasource doesn't support the column `c1` of the type \"INTERVAL\".",
        ),
        (Kind::Json, vec![&list_keys], "of the type \"MAP<ARRAY<INT>, INT>\""),
        (Kind::Parquet, vec![&interval], "The Parquet datasource doesn't support the column `c0`"),
        (Kind::Parquet, vec![], "[EMPTY_SCHEMA_NOT_SUPPORTED_FOR_DATASOURCE]"),
    ] {
        let fields = types.iter().enumerate().map(|(i, t)| Field::new(format!("c{i}"), (*t).clone(), true));
        let error = kind.check_schema(&Schema::new(fields.collect::<Vec<_>>())).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
    let twice = Schema::new(vec![Field::new("c", int.clone(), true), Field::new("c", int, true)]);
    assert_eq!(Kind::Json.check_schema(&twice).unwrap_err().class(), Some("COLUMN_ALREADY_EXISTS"));
    assert!(Kind::Csv.check_schema(&twice).is_ok());
}

#[test]
fn options_are_checked() {
    for (kind, name, value, message) in [
        (Kind::Json, "timestampFromat", "x", "Did you mean 'timestampFormat'?"),
        (Kind::Json, "header", "true", "The json sink has no option 'header'."),
        (
            Kind::Parquet,
            "compression",
            "bogus",
            "[CODEC_NOT_AVAILABLE.WITH_AVAILABLE_CODECS_SUGGESTION] The codec bogus",
        ),
        (Kind::Csv, "compression", "zstd", "Available codecs are none, uncompressed, gzip, deflate."),
        (Kind::Csv, "quote", "ab", "The value of quote cannot be more than one character, but got ab."),
        (Kind::Csv, "sep", "", "Delimiter cannot be empty"),
        (Kind::Csv, "sep", "\\", "Single backslash is prohibited"),
        (Kind::Csv, "lineSep", "abc", "can contain at most 2 characters, but got 3 characters"),
        (Kind::Csv, "header", "x", "x is not a boolean string."),
        (Kind::Text, "lineSep", "", "[INVALID_LINE_SEPARATOR.EMPTY]"),
        (Kind::Json, "encoding", "UTF-16", "Files are written in UTF-8, not in UTF-16."),
        (Kind::Json, "timeZone", "Europe/Berlin", "Timestamps are written in UTC"),
        (Kind::Csv, "dateFormat", "ww", "'ww' is not supported"),
    ] {
        let error = Format::of(kind, &Options::new().with(name, value)).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
}
