//! Spark's type names and Arrow's types, in both directions.
//!
//! `STRING` is `Utf8`, `TIMESTAMP` is microseconds in UTC, `TIMESTAMP_NTZ` microseconds without a zone, `INTERVAL DAY
//! TO SECOND` a microsecond duration, `INTERVAL YEAR TO MONTH` Arrow's year-month interval. Collation, `VARIANT` and
//! user-defined types are absent: they are refused by name.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, IntervalUnit, Schema, SchemaRef, TimeUnit};
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::planner::TypePlanner;
use datafusion::sql::sqlparser::ast;
use datafusion::sql::sqlparser::tokenizer::Token;

use super::cursor::Cursor;
use crate::error::{Error, Result};
use crate::options::did_you_mean;

/// The key of a field's metadata that holds the column's comment.
pub const COMMENT_KEY: &str = "comment";

/// Spark's widest decimal.
const MAX_DECIMAL_PRECISION: u8 = 38;

type MakeType = fn() -> DataType;

/// Type names without parameters, with the spelling variants that Spark takes.
const SIMPLE_TYPES: [(&str, MakeType); 22] = [
    ("BOOLEAN", || DataType::Boolean),
    ("TINYINT", || DataType::Int8),
    ("BYTE", || DataType::Int8),
    ("SMALLINT", || DataType::Int16),
    ("SHORT", || DataType::Int16),
    ("INT", || DataType::Int32),
    ("INTEGER", || DataType::Int32),
    ("BIGINT", || DataType::Int64),
    ("LONG", || DataType::Int64),
    ("FLOAT", || DataType::Float32),
    ("REAL", || DataType::Float32),
    ("DOUBLE", || DataType::Float64),
    ("STRING", || DataType::Utf8),
    ("BINARY", || DataType::Binary),
    ("DATE", || DataType::Date32),
    ("TIMESTAMP", timestamp_type),
    ("TIMESTAMP_LTZ", timestamp_type),
    ("TIMESTAMP_NTZ", || DataType::Timestamp(TimeUnit::Microsecond, None)),
    ("VOID", || DataType::Null),
    ("DECIMAL", || DataType::Decimal128(10, 0)),
    ("DEC", || DataType::Decimal128(10, 0)),
    ("NUMERIC", || DataType::Decimal128(10, 0)),
];

/// Spark's `TIMESTAMP`: microseconds since 1970 in UTC.
pub fn timestamp_type() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// Spark's type of a time window: `struct<start:timestamp,end:timestamp>` over the type of the time.
pub fn window_type(time: &DataType) -> DataType {
    DataType::Struct(Fields::from(vec![Field::new("start", time.clone(), true), Field::new("end", time.clone(), true)]))
}

/// Reads a schema in Spark's DDL: `ts TIMESTAMP, k STRING NOT NULL COMMENT 'key', s STRUCT<x: INT>`.
pub fn parse_ddl_schema(text: &str) -> Result<SchemaRef> {
    let mut cursor = Cursor::new(text)?;
    let fields = if cursor.at_end() { Vec::new() } else { parse_columns(&mut cursor)? };
    end_of(&cursor, Arc::new(Schema::new(fields)))
}

/// Reads one type: `array<struct<x:int>>`, `DECIMAL(10,2)`.
pub fn parse_type(text: &str) -> Result<DataType> {
    let mut cursor = Cursor::new(text)?;
    let data_type = parse_type_at(&mut cursor)?;
    end_of(&cursor, data_type)
}

fn end_of<T>(cursor: &Cursor, value: T) -> Result<T> {
    if cursor.at_end() { Ok(value) } else { Err(cursor.unexpected(&["','", "the end of the schema"])) }
}

/// Reads `name [:] type [NOT NULL] [COMMENT 'text'], ...` as far as it goes.
pub(crate) fn parse_columns(cursor: &mut Cursor) -> Result<Vec<Field>> {
    let mut fields: Vec<Field> = Vec::new();
    loop {
        let at = cursor.position();
        let field = parse_field(cursor)?;
        if fields.iter().any(|f| f.name().eq_ignore_ascii_case(field.name())) {
            cursor.seek(at);
            return Err(Error::analysis_class(
                "COLUMN_ALREADY_EXISTS",
                format!(
                    "The column `{}` already exists (line {}). Choose another name or rename the existing column.",
                    field.name(),
                    cursor.location().line
                ),
            ));
        }
        fields.push(field);
        if !cursor.take(&Token::Comma) {
            return Ok(fields);
        }
    }
}

fn parse_field(cursor: &mut Cursor) -> Result<Field> {
    let name = cursor.expect_name("a column name")?;
    cursor.take(&Token::Colon);
    let data_type = parse_type_at(cursor)?;
    let mut field = Field::new(name, data_type, true);
    loop {
        if cursor.take_words(&["NOT", "NULL"]) {
            field.set_nullable(false);
        } else if cursor.take_word("COMMENT") {
            let comment = cursor.expect_string("the comment in quotes")?;
            field.set_metadata([(COMMENT_KEY.to_owned(), comment)].into());
        } else {
            return Ok(field);
        }
    }
}

/// Reads the type at the cursor.
pub(crate) fn parse_type_at(cursor: &mut Cursor) -> Result<DataType> {
    let at = cursor.position();
    let name = cursor.expect_name("a type")?.to_uppercase();
    match name.as_str() {
        "ARRAY" => {
            cursor.expect(&Token::Lt)?;
            let element = parse_type_at(cursor)?;
            cursor.expect_gt()?;
            Ok(DataType::List(Arc::new(Field::new_list_field(element, true))))
        }
        "MAP" => {
            cursor.expect(&Token::Lt)?;
            let key = parse_type_at(cursor)?;
            cursor.expect(&Token::Comma)?;
            let value = parse_type_at(cursor)?;
            cursor.expect_gt()?;
            Ok(map_type(key, value))
        }
        "STRUCT" => {
            if cursor.take(&Token::Neq) {
                return Ok(DataType::Struct(Fields::empty()));
            }
            cursor.expect(&Token::Lt)?;
            let fields = if *cursor.peek() == Token::Gt { Vec::new() } else { parse_columns(cursor)? };
            cursor.expect_gt()?;
            Ok(DataType::Struct(fields.into()))
        }
        "DECIMAL" | "DEC" | "NUMERIC" => parse_decimal(cursor),
        "VARCHAR" | "CHAR" | "CHARACTER" => {
            cursor.expect(&Token::LParen)?;
            expect_integer(cursor, "a length")?;
            cursor.expect(&Token::RParen)?;
            Ok(DataType::Utf8)
        }
        "INTERVAL" => parse_interval_type(cursor),
        "TIMESTAMP" if cursor.take_words(&["WITHOUT", "TIME", "ZONE"]) => {
            Ok(DataType::Timestamp(TimeUnit::Microsecond, None))
        }
        "TIMESTAMP" if cursor.take_words(&["WITH", "LOCAL", "TIME", "ZONE"]) => Ok(timestamp_type()),
        _ => match SIMPLE_TYPES.iter().find(|(known, _)| *known == name) {
            Some((_, make)) => Ok(make()),
            None => {
                cursor.seek(at);
                Err(unsupported_type(cursor, &name))
            }
        },
    }
}

fn unsupported_type(cursor: &Cursor, name: &str) -> Error {
    let known = SIMPLE_TYPES.iter().map(|(known, _)| *known).chain(["ARRAY", "MAP", "STRUCT", "VARCHAR", "CHAR"]);
    let near = did_you_mean(name, known);
    let at = cursor.location();
    Error::analysis_class(
        "UNSUPPORTED_DATATYPE",
        format!(
            "Unsupported data type \"{name}\" (line {}, pos {}).{near} Types are BOOLEAN, TINYINT, SMALLINT, INT, BIGINT, FLOAT, \
             DOUBLE, DECIMAL(p,s), STRING, BINARY, DATE, TIMESTAMP, TIMESTAMP_NTZ, ARRAY<t>, MAP<k,v> and STRUCT<x: t>.",
            at.line,
            at.column.saturating_sub(1)
        ),
    )
}

fn parse_decimal(cursor: &mut Cursor) -> Result<DataType> {
    if !cursor.take(&Token::LParen) {
        return Ok(DataType::Decimal128(10, 0));
    }
    let at = cursor.location();
    let precision = expect_integer(cursor, "a precision")?;
    let scale = if cursor.take(&Token::Comma) { expect_integer(cursor, "a scale")? } else { 0 };
    cursor.expect(&Token::RParen)?;
    match (u8::try_from(precision), i8::try_from(scale)) {
        (Ok(p), Ok(s)) if p <= MAX_DECIMAL_PRECISION && scale <= precision => Ok(DataType::Decimal128(p.max(1), s)),
        _ => Err(Error::analysis_class(
            "DECIMAL_PRECISION_EXCEEDS_MAX_PRECISION",
            format!(
                "DECIMAL({precision},{scale}) is not possible (line {}): the precision is at most 38 and the scale at most the precision.",
                at.line
            ),
        )),
    }
}

fn expect_integer(cursor: &mut Cursor, what: &str) -> Result<u32> {
    if let Token::Number(digits, _) = cursor.peek()
        && let Ok(value) = digits.parse()
    {
        cursor.advance();
        return Ok(value);
    }
    Err(cursor.unexpected(&[what]))
}

fn parse_interval_type(cursor: &mut Cursor) -> Result<DataType> {
    const UNITS: [&str; 6] = ["YEAR", "MONTH", "DAY", "HOUR", "MINUTE", "SECOND"];
    let Some(first) = UNITS.iter().position(|unit| cursor.take_word(unit)) else {
        return Ok(DataType::Interval(IntervalUnit::MonthDayNano));
    };
    if cursor.take_word("TO") && !UNITS[first + 1..].iter().any(|unit| cursor.take_word(unit)) {
        return Err(cursor.unexpected(&UNITS[first + 1..]));
    }
    Ok(if first < 2 { DataType::Interval(IntervalUnit::YearMonth) } else { DataType::Duration(TimeUnit::Microsecond) })
}

/// The Arrow form of Spark's `MAP<key, value>`, with the field names that DataFusion's own map functions use.
pub fn map_type(key: DataType, value: DataType) -> DataType {
    let entries = Fields::from(vec![Field::new("key", key, false), Field::new("value", value, true)]);
    DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entries), false)), false)
}

/// Spark's name of a type (`simpleString`): `bigint`, `struct<start:timestamp,end:timestamp>`.
///
/// Arrow types that Spark lacks are named as the Spark type that holds their values.
pub fn spark_type_name(data_type: &DataType) -> String {
    match data_type {
        DataType::Null => "void".to_owned(),
        DataType::Boolean => "boolean".to_owned(),
        DataType::Int8 => "tinyint".to_owned(),
        DataType::Int16 | DataType::UInt8 => "smallint".to_owned(),
        DataType::Int32 | DataType::UInt16 => "int".to_owned(),
        DataType::Int64 | DataType::UInt32 | DataType::UInt64 => "bigint".to_owned(),
        DataType::Float16 | DataType::Float32 => "float".to_owned(),
        DataType::Float64 => "double".to_owned(),
        DataType::Decimal32(p, s)
        | DataType::Decimal64(p, s)
        | DataType::Decimal128(p, s)
        | DataType::Decimal256(p, s) => format!("decimal({p},{s})"),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "string".to_owned(),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            "binary".to_owned()
        }
        DataType::Date32 | DataType::Date64 => "date".to_owned(),
        DataType::Time32(_) | DataType::Time64(_) => "time(6)".to_owned(),
        DataType::Timestamp(_, Some(_)) => "timestamp".to_owned(),
        DataType::Timestamp(_, None) => "timestamp_ntz".to_owned(),
        DataType::Duration(_) | DataType::Interval(IntervalUnit::DayTime) => "interval day to second".to_owned(),
        DataType::Interval(IntervalUnit::YearMonth) => "interval year to month".to_owned(),
        DataType::Interval(IntervalUnit::MonthDayNano) => "interval".to_owned(),
        DataType::List(f)
        | DataType::LargeList(f)
        | DataType::ListView(f)
        | DataType::LargeListView(f)
        | DataType::FixedSizeList(f, _) => format!("array<{}>", spark_type_name(f.data_type())),
        DataType::Struct(fields) => {
            let fields: Vec<_> =
                fields.iter().map(|f| format!("{}:{}", f.name(), spark_type_name(f.data_type()))).collect();
            format!("struct<{}>", fields.join(","))
        }
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(kv) if kv.len() == 2 => {
                format!("map<{},{}>", spark_type_name(kv[0].data_type()), spark_type_name(kv[1].data_type()))
            }
            other => spark_type_name(other),
        },
        DataType::Dictionary(_, values) => spark_type_name(values),
        DataType::RunEndEncoded(_, values) => spark_type_name(values.data_type()),
        DataType::Union(..) => "variant".to_owned(),
    }
}

/// The type as Spark prints it in errors: `"STRUCT<start: TIMESTAMP, end: TIMESTAMP>"`, quotes included.
pub fn quoted_type_name(data_type: &DataType) -> String {
    fn sql(data_type: &DataType) -> String {
        match data_type {
            DataType::Struct(fields) => {
                let fields: Vec<_> = fields.iter().map(|f| format!("{}: {}", f.name(), sql(f.data_type()))).collect();
                format!("STRUCT<{}>", fields.join(", "))
            }
            DataType::List(f) => format!("ARRAY<{}>", sql(f.data_type())),
            other => spark_type_name(other).to_uppercase(),
        }
    }
    format!("\"{}\"", sql(data_type))
}

/// The type that holds the same values and that Spark has: strings without views, timestamps in microseconds of UTC,
/// signed integers. Gives the same type back when it already is one of Spark's.
pub fn nearest_spark_type(data_type: &DataType) -> DataType {
    let same = |f: &FieldRef| Arc::new(f.as_ref().clone().with_data_type(nearest_spark_type(f.data_type())));
    match data_type {
        DataType::UInt8 => DataType::Int16,
        DataType::UInt16 => DataType::Int32,
        DataType::UInt32 | DataType::UInt64 => DataType::Int64,
        DataType::Float16 => DataType::Float32,
        DataType::Utf8View | DataType::LargeUtf8 => DataType::Utf8,
        DataType::BinaryView | DataType::LargeBinary | DataType::FixedSizeBinary(_) => DataType::Binary,
        DataType::Date64 => DataType::Date32,
        DataType::Timestamp(_, Some(_)) => timestamp_type(),
        DataType::Timestamp(_, None) => DataType::Timestamp(TimeUnit::Microsecond, None),
        DataType::Duration(_) => DataType::Duration(TimeUnit::Microsecond),
        DataType::Dictionary(_, values) => nearest_spark_type(values),
        DataType::List(f) | DataType::LargeList(f) | DataType::ListView(f) | DataType::FixedSizeList(f, _) => {
            DataType::List(same(f))
        }
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(same).collect()),
        DataType::Map(entries, sorted) => DataType::Map(same(entries), *sorted),
        other => other.clone(),
    }
}

/// Gives SQL's type names (`CAST(x AS TIMESTAMP)`) the same Arrow types as the DDL.
#[derive(Debug, Default)]
pub struct SparkTypePlanner;

impl TypePlanner for SparkTypePlanner {
    fn plan_type_field(&self, sql_type: &ast::DataType) -> DataFusionResult<Option<FieldRef>> {
        let data_type = parse_type(&sql_type.to_string())?;
        Ok(Some(Arc::new(Field::new("", data_type, true))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spark_type_reads_and_prints() {
        for (ddl, name) in [
            ("BOOLEAN", "boolean"),
            ("TINYINT", "tinyint"),
            ("byte", "tinyint"),
            ("SHORT", "smallint"),
            ("integer", "int"),
            ("LONG", "bigint"),
            ("REAL", "float"),
            ("DOUBLE", "double"),
            ("DECIMAL", "decimal(10,0)"),
            ("DEC(5)", "decimal(5,0)"),
            ("NUMERIC(38, 18)", "decimal(38,18)"),
            ("VARCHAR(10)", "string"),
            ("CHAR(1)", "string"),
            ("BINARY", "binary"),
            ("DATE", "date"),
            ("TIMESTAMP", "timestamp"),
            ("TIMESTAMP_LTZ", "timestamp"),
            ("TIMESTAMP_NTZ", "timestamp_ntz"),
            ("INTERVAL DAY TO SECOND", "interval day to second"),
            ("INTERVAL HOUR", "interval day to second"),
            ("INTERVAL YEAR TO MONTH", "interval year to month"),
            ("VOID", "void"),
            ("ARRAY<ARRAY<INT>>", "array<array<int>>"),
            ("MAP<STRING, ARRAY<STRUCT<a: INT, b: ARRAY<INT>>>>", "map<string,array<struct<a:int,b:array<int>>>>"),
            ("STRUCT<x INT, `odd name`: STRING>", "struct<x:int,odd name:string>"),
            ("STRUCT<>", "struct<>"),
        ] {
            assert_eq!(spark_type_name(&parse_type(ddl).unwrap()), name, "{ddl}");
        }
    }

    #[test]
    fn a_schema_keeps_names_nullability_and_comments() {
        let schema = parse_ddl_schema(
            "ts TIMESTAMP, `a key` STRING NOT NULL COMMENT 'it''s', d: DECIMAL(10,2), end STRUCT<x: INT NOT NULL>",
        )
        .unwrap();
        let names: Vec<_> = schema.fields().iter().map(|f| f.name().as_str()).collect();
        assert_eq!(names, ["ts", "a key", "d", "end"]);
        assert_eq!(schema.field(0).data_type(), &timestamp_type());
        assert!(schema.field(0).is_nullable());
        assert!(!schema.field(1).is_nullable());
        assert_eq!(schema.field(1).metadata()[COMMENT_KEY], "it's");
        assert!(parse_ddl_schema("").unwrap().fields().is_empty());
    }

    #[test]
    fn a_wrong_schema_says_where_and_what_instead() {
        for (ddl, expected) in [
            ("k STRIN", "Unsupported data type \"STRIN\" (line 1, pos 2). Did you mean 'STRING'?"),
            ("k STRING,\n v", "expected a type. (line 2, pos"),
            ("k STRING v INT", "expected ',' or the end of the schema"),
            ("k ARRAY<INT", "expected '>'"),
            ("k DECIMAL(39,1)", "at most 38"),
            ("k DECIMAL(3,4)", "at most the precision"),
            ("k INT, K STRING", "[COLUMN_ALREADY_EXISTS] The column `K` already exists"),
            ("k 'x'", "expected a type"),
            ("i INTERVAL DAY TO YEAR", "expected HOUR or MINUTE or SECOND"),
        ] {
            let message = parse_ddl_schema(ddl).unwrap_err().to_string();
            assert!(message.contains(expected), "{ddl}: {message}");
        }
    }

    #[test]
    fn types_that_spark_lacks_have_a_nearest_one() {
        assert_eq!(nearest_spark_type(&DataType::UInt64), DataType::Int64);
        assert_eq!(
            nearest_spark_type(&DataType::Timestamp(TimeUnit::Nanosecond, Some("+00:00".into()))),
            timestamp_type()
        );
        let list = DataType::List(Arc::new(Field::new_list_field(DataType::Utf8View, true)));
        assert_eq!(spark_type_name(&nearest_spark_type(&list)), "array<string>");
        assert_eq!(quoted_type_name(&window_type(&timestamp_type())), "\"STRUCT<start: TIMESTAMP, end: TIMESTAMP>\"");
    }
}
