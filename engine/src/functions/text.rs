//! Spark's string functions that neither DataFusion nor datafusion-spark has.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int32Array, ListBuilder, StringBuilder};
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::internal_err;
use datafusion::error::Result;
use datafusion::logical_expr::{ReturnFieldArgs, ScalarUDF};
use regex::Regex;

use super::call::{Arguments, Call};
use crate::error::Error;
use crate::sql::wrong_argument_count;

/// The functions of this file.
pub fn functions() -> Vec<Arc<ScalarUDF>> {
    vec![Call::computed("split", split_types, strings_field, split)]
}

fn split_types(name: &str, types: &[DataType]) -> Result<Vec<DataType>> {
    match types.len() {
        2 => Ok(vec![DataType::Utf8; 2]),
        3 => Ok(vec![DataType::Utf8, DataType::Utf8, DataType::Int32]),
        found => Err(wrong_argument_count(name, "[2, 3]", found).into()),
    }
}

fn strings_field(name: &str, _: ReturnFieldArgs) -> Result<FieldRef> {
    let element = Field::new_list_field(DataType::Utf8, true);
    Ok(Arc::new(Field::new(name, DataType::List(Arc::new(element)), true)))
}

/// A pattern that was compiled for the row before is not compiled again.
#[derive(Default)]
pub(crate) struct Patterns {
    last: Option<(String, Regex)>,
}

impl Patterns {
    /// The compiled pattern; Spark's error when it is none.
    pub(crate) fn get(&mut self, function: &str, pattern: &str) -> Result<&Regex> {
        if self.last.as_ref().is_none_or(|(known, _)| known != pattern) {
            let compiled = Regex::new(pattern).map_err(|error| {
                Error::analysis_class(
                    "INVALID_PARAMETER_VALUE.PATTERN",
                    format!("The value of parameter(s) `regexp` in `{function}` is invalid: '{pattern}'. {error}"),
                )
            })?;
            self.last = Some((pattern.to_owned(), compiled));
        }
        match &self.last {
            Some((_, compiled)) => Ok(compiled),
            None => internal_err!("a pattern was just compiled"),
        }
    }
}

/// `split(text, pattern[, limit])`: a limit above zero is the largest number of parts, any other means all of them.
fn split(arguments: Arguments) -> Result<ArrayRef> {
    let texts = arguments.arrays[0].as_string::<i32>();
    let patterns = arguments.arrays[1].as_string::<i32>();
    let limits: Option<&Int32Array> = arguments.arrays.get(2).map(|limits| limits.as_primitive());
    let mut compiled = Patterns::default();
    let mut parts = ListBuilder::new(StringBuilder::new());
    for row in 0..texts.len() {
        let known = texts.is_valid(row) && patterns.is_valid(row) && limits.is_none_or(|l| l.is_valid(row));
        if known {
            let limit = limits.map_or(-1, |l| l.value(row));
            let pattern = patterns.value(row);
            split_one(texts.value(row), compiled.get("split", pattern)?, pattern.is_empty(), limit, |part| {
                parts.values().append_value(part);
            });
        }
        parts.append(known);
    }
    Ok(Arc::new(parts.finish()))
}

/// Java's `String.split` with trailing empty parts kept: a match of no width at the very start splits nothing off.
fn split_one(text: &str, pattern: &Regex, every_char: bool, limit: i32, mut push: impl FnMut(&str)) {
    let most = usize::try_from(limit).ok().filter(|limit| *limit > 0).unwrap_or(usize::MAX);
    let (mut start, mut count) = (0, 1);
    for found in pattern.find_iter(text) {
        if count >= most {
            break;
        }
        // With an empty pattern Spark gives the characters alone, without an empty part after the last.
        let outside = found.is_empty() && (found.start() == 0 || every_char && found.start() == text.len());
        if outside {
            continue;
        }
        push(&text[start..found.start()]);
        start = found.end();
        count += 1;
    }
    push(&text[start..]);
}
