//! Spark's string functions that neither DataFusion nor datafusion-spark has.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int32Array, ListBuilder, StringArray, StringBuilder};
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
    vec![
        Call::computed("split", split_types, strings_field, split),
        Call::computed("locate", split_types, int_field, locate),
        Call::computed("regexp_extract", split_types, text_field, regexp_extract),
        Call::computed("regexp_substr", split_types, text_field, regexp_substr),
        Call::computed("regexp_extract_all", split_types, strings_field, regexp_extract_all),
        Call::computed("mask", mask_types, text_field, mask),
        Call::computed("typeof", super::call::as_they_are, text_field, type_of),
    ]
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

fn text_field(name: &str, _: ReturnFieldArgs) -> Result<FieldRef> {
    Ok(Arc::new(Field::new(name, DataType::Utf8, true)))
}

fn int_field(name: &str, _: ReturnFieldArgs) -> Result<FieldRef> {
    Ok(Arc::new(Field::new(name, DataType::Int32, true)))
}

fn mask_types(name: &str, types: &[DataType]) -> Result<Vec<DataType>> {
    match types.len() {
        1..=5 => Ok(vec![DataType::Utf8; types.len()]),
        found => Err(wrong_argument_count(name, "[1, 2, 3, 4, 5]", found).into()),
    }
}

/// `mask(text[, upper, lower, digit, other])`: what each kind of character is replaced by; null leaves it.
fn mask(arguments: Arguments) -> Result<ArrayRef> {
    let texts = arguments.arrays[0].as_string::<i32>();
    let mut masked = StringBuilder::new();
    for row in 0..texts.len() {
        if texts.is_null(row) {
            masked.append_null();
            continue;
        }
        let by = |at: usize, default: Option<char>| match arguments.arrays.get(at).map(|array| array.as_string::<i32>())
        {
            None => default,
            Some(with) if with.is_null(row) => None,
            Some(with) => with.value(row).chars().next(),
        };
        let [upper, lower, digit, other] = [by(1, Some('X')), by(2, Some('x')), by(3, Some('n')), by(4, None)];
        let text = texts.value(row).chars().map(|c| match c {
            c if c.is_uppercase() => upper.unwrap_or(c),
            c if c.is_lowercase() => lower.unwrap_or(c),
            c if c.is_ascii_digit() => digit.unwrap_or(c),
            c => other.unwrap_or(c),
        });
        masked.append_value(text.collect::<String>());
    }
    Ok(Arc::new(masked.finish()))
}

fn type_of(arguments: Arguments) -> Result<ArrayRef> {
    let name = crate::sql::spark_type_name(arguments.arrays[0].data_type());
    Ok(Arc::new(StringArray::from(vec![name; arguments.rows])))
}

/// `locate(part, text[, from])`: the place of the part, counted in characters from 1; 0 when it is not there.
fn locate(arguments: Arguments) -> Result<ArrayRef> {
    let parts = arguments.arrays[0].as_string::<i32>();
    let texts = arguments.arrays[1].as_string::<i32>();
    let from: Option<&Int32Array> = arguments.arrays.get(2).map(|from| from.as_primitive());
    let places = (0..texts.len()).map(|row| {
        if parts.is_null(row) || texts.is_null(row) {
            return None;
        }
        let start = from.map_or(1, |from| if from.is_valid(row) { from.value(row) } else { 0 });
        let Some(skip) = usize::try_from(start).ok().filter(|start| *start > 0) else { return Some(0) };
        let text = texts.value(row);
        let Some((at, _)) = text.char_indices().chain([(text.len(), ' ')]).nth(skip - 1) else { return Some(0) };
        let found = text[at..].find(parts.value(row));
        Some(found.map_or(0, |found| text[..at + found].chars().count() as i32 + 1))
    });
    Ok(Arc::new(places.collect::<Int32Array>()))
}

/// Text, compiled pattern and group of each row; `None` where one is null.
fn matches(
    name: &str,
    arguments: &Arguments,
    default_group: usize,
    mut row: impl FnMut(Option<(&str, &Regex, usize)>),
) -> Result<()> {
    let texts = arguments.arrays[0].as_string::<i32>();
    let patterns = arguments.arrays[1].as_string::<i32>();
    let groups: Option<&Int32Array> = arguments.arrays.get(2).map(|groups| groups.as_primitive());
    let mut compiled = Patterns::default();
    for at in 0..texts.len() {
        if texts.is_null(at) || patterns.is_null(at) || groups.is_some_and(|g| g.is_null(at)) {
            row(None);
            continue;
        }
        let pattern = compiled.get(name, patterns.value(at))?;
        let group = groups.map_or(default_group as i32, |g| g.value(at));
        let Some(group) = usize::try_from(group).ok().filter(|group| *group < pattern.captures_len()) else {
            return Err(Error::analysis_class(
                "INVALID_PARAMETER_VALUE.REGEX_GROUP_INDEX",
                format!(
                    "The value of parameter(s) `idx` in `{name}` is invalid: Expects group index between 0 and {}, but got {group}.",
                    pattern.captures_len() - 1
                ),
            )
            .into());
        };
        row(Some((texts.value(at), pattern, group)));
    }
    Ok(())
}

/// A group of the first match; empty text when there is none.
fn regexp_extract(arguments: Arguments) -> Result<ArrayRef> {
    let mut found = StringBuilder::new();
    matches("regexp_extract", &arguments, 1, |row| match row {
        None => found.append_null(),
        Some((text, pattern, group)) => {
            let matched = pattern.captures(text);
            found.append_value(matched.as_ref().and_then(|m| m.get(group)).map_or("", |m| m.as_str()));
        }
    })?;
    Ok(Arc::new(found.finish()))
}

/// The first match; null when there is none.
fn regexp_substr(arguments: Arguments) -> Result<ArrayRef> {
    let mut found = StringBuilder::new();
    matches("regexp_substr", &arguments, 0, |row| {
        found.append_option(row.and_then(|(text, pattern, _)| pattern.find(text)).map(|m| m.as_str()));
    })?;
    Ok(Arc::new(found.finish()))
}

/// A group of every match.
fn regexp_extract_all(arguments: Arguments) -> Result<ArrayRef> {
    let mut found = ListBuilder::new(StringBuilder::new());
    matches("regexp_extract_all", &arguments, 1, |row| {
        if let Some((text, pattern, group)) = row {
            for matched in pattern.captures_iter(text) {
                found.values().append_value(matched.get(group).map_or("", |m| m.as_str()));
            }
        }
        found.append(row.is_some());
    })?;
    Ok(Arc::new(found.finish()))
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
