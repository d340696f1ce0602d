//! Spark's JSON functions: `get_json_object`, `from_json`, `to_json`, `json_array_length`, `json_object_keys`.
//!
//! `from_json` reads in PERMISSIVE mode: what is no JSON gives a struct of nulls, a field that does not fit its type is
//! null. Schemas are DDL texts; options are absent.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Int32Array, ListBuilder, RecordBatch, StringArray, StringBuilder, StructArray,
};
use arrow::datatypes::{DataType, Field, FieldRef, Schema};
use datafusion::common::internal_err;
use datafusion::error::Result;
use datafusion::logical_expr::{ReturnFieldArgs, ScalarUDF};
use serde_json::Value;

use super::call::{Arguments, Call};
use crate::error::Error;
use crate::sql::types::{parse_ddl_schema, parse_type};
use crate::sql::wrong_argument_count;

/// The functions of this file.
pub fn functions() -> Vec<Arc<ScalarUDF>> {
    vec![
        Call::computed("get_json_object", two_texts, text_field, get_json_object),
        Call::computed("from_json", two_texts, from_json_field, from_json),
        Call::computed("to_json", super::call::as_they_are, text_field, to_json),
        Call::computed("json_array_length", one_text, |n, _| nullable(n, DataType::Int32), array_length),
        Call::computed("json_object_keys", one_text, keys_field, object_keys),
    ]
}

fn one_text(name: &str, types: &[DataType]) -> Result<Vec<DataType>> {
    if types.len() == 1 { Ok(vec![DataType::Utf8]) } else { Err(wrong_argument_count(name, "1", types.len()).into()) }
}

fn two_texts(name: &str, types: &[DataType]) -> Result<Vec<DataType>> {
    if types.len() == 2 {
        Ok(vec![DataType::Utf8; 2])
    } else {
        Err(wrong_argument_count(name, "2", types.len()).into())
    }
}

fn nullable(name: &str, data_type: DataType) -> Result<FieldRef> {
    Ok(Arc::new(Field::new(name, data_type, true)))
}

fn text_field(name: &str, _: ReturnFieldArgs) -> Result<FieldRef> {
    nullable(name, DataType::Utf8)
}

fn keys_field(name: &str, _: ReturnFieldArgs) -> Result<FieldRef> {
    nullable(name, DataType::List(Arc::new(Field::new_list_field(DataType::Utf8, true))))
}

fn from_json_field(name: &str, args: ReturnFieldArgs) -> Result<FieldRef> {
    let Some(ddl) = args.scalar_arguments.get(1).and_then(|a| a.and_then(|a| a.try_as_str().flatten())) else {
        return Err(Error::analysis_class(
            "INVALID_SCHEMA.NON_STRING_LITERAL",
            "The second argument of from_json is the schema as a literal text, for example 'a INT, b STRING'.",
        )
        .into());
    };
    // A list of columns, or one type such as struct<a:int>.
    let data_type = match parse_ddl_schema(ddl) {
        Ok(schema) => DataType::Struct(schema.fields().clone()),
        Err(error) => parse_type(ddl).map_err(|_| error)?,
    };
    nullable(name, data_type)
}

// ---- paths ----

/// One step of a path such as `$.a[0].b`.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Field(String),
    Index(usize),
    Every,
}

fn path(text: &str) -> Option<Vec<Step>> {
    let mut rest = text.strip_prefix('$')?;
    let mut steps = Vec::new();
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('.') {
            let end = after.find(['.', '[']).unwrap_or(after.len());
            let name = &after[..end];
            steps.push(if name == "*" { Step::Every } else { Step::Field(name.to_owned()) });
            rest = &after[end..];
        } else {
            let after = rest.strip_prefix('[')?;
            let end = after.find(']')?;
            let inside = after[..end].trim();
            steps.push(match inside.strip_prefix('\'').and_then(|i| i.strip_suffix('\'')) {
                Some(name) => Step::Field(name.to_owned()),
                None if inside == "*" => Step::Every,
                None => Step::Index(inside.parse().ok()?),
            });
            rest = &after[end + 1..];
        }
    }
    Some(steps)
}

fn walk(value: &Value, steps: &[Step]) -> Option<Value> {
    let Some((step, rest)) = steps.split_first() else { return Some(value.clone()) };
    match step {
        Step::Field(name) => walk(value.get(name)?, rest),
        Step::Index(index) => walk(value.get(*index)?, rest),
        Step::Every => {
            let found: Vec<Value> = value.as_array()?.iter().filter_map(|item| walk(item, rest)).collect();
            match found.len() {
                0 => None,
                1 => found.into_iter().next(),
                _ => Some(Value::Array(found)),
            }
        }
    }
}

fn get_json_object(arguments: Arguments) -> Result<ArrayRef> {
    let texts = arguments.arrays[0].as_string::<i32>();
    let paths = arguments.arrays[1].as_string::<i32>();
    let mut last: Option<(&str, Option<Vec<Step>>)> = None;
    let mut found = StringBuilder::new();
    for row in 0..texts.len() {
        if texts.is_null(row) || paths.is_null(row) {
            found.append_null();
            continue;
        }
        if last.as_ref().is_none_or(|(known, _)| *known != paths.value(row)) {
            last = Some((paths.value(row), path(paths.value(row))));
        }
        let steps = last.as_ref().and_then(|(_, steps)| steps.as_ref());
        let value = steps.and_then(|steps| {
            let value: Value = serde_json::from_str(texts.value(row)).ok()?;
            walk(&value, steps)
        });
        match value {
            None | Some(Value::Null) => found.append_null(),
            Some(Value::String(text)) => found.append_value(text),
            Some(other) => found.append_value(other.to_string()),
        }
    }
    Ok(Arc::new(found.finish()))
}

// ---- structs ----

fn from_json(arguments: Arguments) -> Result<ArrayRef> {
    let texts = arguments.arrays[0].as_string::<i32>();
    // Rows are read as objects with the one field `v`, so that any type can stand at the top.
    let field = Field::new("v", arguments.field.data_type().clone(), true);
    let schema = Arc::new(Schema::new(vec![field]));
    let rows: Vec<Value> = (0..texts.len())
        .map(|row| {
            let value = if texts.is_null(row) { None } else { serde_json::from_str(texts.value(row)).ok() };
            serde_json::json!({ "v": value.unwrap_or(Value::Null) })
        })
        .collect();
    let read = match decode(&schema, &rows) {
        Ok(read) => read,
        // A value of some row does not fit: take row by row, and null for those.
        Err(_) => {
            let parts: Vec<ArrayRef> = rows
                .iter()
                .map(|row| {
                    decode(&schema, std::slice::from_ref(row)).or_else(|_| decode(&schema, &[serde_json::json!({})]))
                })
                .collect::<Result<_>>()?;
            let parts: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
            arrow::compute::concat(&parts)?
        }
    };
    let DataType::Struct(fields) = read.data_type() else { return Ok(read) };
    // PERMISSIVE: text that is no JSON is a struct of nulls, only a null text is null.
    let structs = read.as_struct();
    Ok(Arc::new(StructArray::new(fields.clone(), structs.columns().to_vec(), texts.nulls().cloned())))
}

fn decode(schema: &Arc<Schema>, rows: &[Value]) -> Result<ArrayRef> {
    if rows.is_empty() {
        return Ok(arrow::array::new_empty_array(schema.field(0).data_type()));
    }
    let mut decoder =
        arrow::json::ReaderBuilder::new(Arc::clone(schema)).with_batch_size(rows.len()).build_decoder()?;
    decoder.serialize(rows)?;
    match decoder.flush()? {
        Some(batch) => Ok(Arc::clone(batch.column(0))),
        None => internal_err!("rows were given"),
    }
}

fn to_json(arguments: Arguments) -> Result<ArrayRef> {
    let values = &arguments.arrays[0];
    let field = Field::new("v", values.data_type().clone(), true);
    let batch = RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![Arc::clone(values)])?;
    let mut writer = arrow::json::LineDelimitedWriter::new(Vec::new());
    writer.write(&batch)?;
    writer.finish()?;
    let lines = String::from_utf8_lossy(&writer.into_inner()).into_owned();
    let texts: StringArray = lines
        .lines()
        .map(|line| line.strip_prefix("{\"v\":").and_then(|rest| rest.strip_suffix('}')).map(str::to_owned))
        .collect();
    Ok(Arc::new(texts))
}

fn array_length(arguments: Arguments) -> Result<ArrayRef> {
    let lengths = arguments.arrays[0].as_string::<i32>().iter().map(|text| {
        let value: Value = serde_json::from_str(text?).ok()?;
        i32::try_from(value.as_array()?.len()).ok()
    });
    Ok(Arc::new(lengths.collect::<Int32Array>()))
}

fn object_keys(arguments: Arguments) -> Result<ArrayRef> {
    let mut keys = ListBuilder::new(StringBuilder::new());
    for text in arguments.arrays[0].as_string::<i32>() {
        let value: Option<Value> = text.and_then(|text| serde_json::from_str(text).ok());
        let object = value.as_ref().and_then(Value::as_object);
        for key in object.into_iter().flat_map(|o| o.keys()) {
            keys.values().append_value(key);
        }
        keys.append(object.is_some());
    }
    Ok(Arc::new(keys.finish()))
}
