//! Puts parsed JSON values into typed columns by Spark's rules: what fits a type, and what is kept of a bad record.
//!
//! A field that does not fit becomes null and makes the record bad, while the other fields are kept. An array or map
//! with an item that does not fit is null as a whole, unless the item is a struct of which something could be kept.

use wavetank_engine::sql::types::quoted_type_name;

use crate::format::column::{Column, Values};
use crate::format::json::token::{Node, Value};
use crate::format::number::decimal;
use crate::format::time::TimeFormats;

/// How well a value fitted its column.
#[derive(Debug)]
pub(crate) enum Fit {
    /// One row was appended.
    Whole,
    /// One row was appended, but something in it is missing: the reason.
    Part(String),
    /// Nothing was appended: the reason.
    Not(String),
}

/// What conversions need to know.
#[derive(Debug)]
pub(crate) struct Rules<'a> {
    pub(crate) times: &'a TimeFormats,
    pub(crate) non_numeric_numbers: bool,
}

impl Rules<'_> {
    /// Appends a value to a column.
    pub(crate) fn append(&self, node: &Node<'_>, column: &mut Column) -> Fit {
        if matches!(node.value, Value::Null) {
            column.append_null();
            return Fit::Whole;
        }
        match &mut column.values {
            Values::Struct { .. } => self.append_struct(node, column),
            Values::List { .. } => self.append_list(node, column),
            Values::Map { .. } => self.append_map(node, column),
            Values::Bytes { is_text: true, .. } => {
                match &node.value {
                    Value::Text(text) => column.append_bytes(text.as_bytes()),
                    _ => column.append_bytes(node.raw.as_bytes()),
                }
                Fit::Whole
            }
            Values::Bytes { is_text: false, .. } => match &node.value {
                Value::Text(text) => match base64(text) {
                    Some(bytes) => {
                        column.append_bytes(&bytes);
                        Fit::Whole
                    }
                    None => misfit(node, column),
                },
                _ => misfit(node, column),
            },
            values => match self.push_scalar(node, values) {
                Some(()) => {
                    column.pushed();
                    Fit::Whole
                }
                None => misfit(node, column),
            },
        }
    }

    /// Pushes a value of fixed width; `None` when it does not fit, and then nothing was pushed.
    fn push_scalar(&self, node: &Node<'_>, values: &mut Values) -> Option<()> {
        let integer = || match node.value {
            Value::Integer => node.raw.parse::<i64>().ok(),
            _ => None,
        };
        match values {
            Values::Boolean(values) => match node.value {
                Value::Boolean(value) => values.append(value),
                _ => return None,
            },
            // Jackson takes unsigned bytes for bytes.
            Values::Int8(values) => {
                values.push(integer().filter(|value| (-128..=255).contains(value)).map(|value| value as i8)?);
            }
            Values::Int16(values) => values.push(i16::try_from(integer()?).ok()?),
            Values::Int32(values) => values.push(i32::try_from(integer()?).ok()?),
            Values::Int64(values) => values.push(integer()?),
            Values::Float32(values) => values.push(match node.value {
                // Not by way of f64: rounding twice can differ in the last bit.
                Value::Integer | Value::Float if !is_word(node.raw) => float_text(node.raw).parse().ok()?,
                _ => self.float(node)? as f32,
            }),
            Values::Float64(values) => values.push(self.float(node)?),
            Values::Decimal { values, precision, scale } => values.push(match &node.value {
                Value::Integer | Value::Float => decimal(node.raw, *precision, *scale)?,
                Value::Text(text) => decimal(&text.replace(',', ""), *precision, *scale)?,
                _ => return None,
            }),
            Values::Date(values) => match &node.value {
                Value::Text(text) => values.push(self.date(text)?),
                _ => return None,
            },
            Values::Timestamp { values, has_zone: true } => match &node.value {
                Value::Text(text) => values.push(self.times.timestamp(text)?),
                // Seconds; Spark lets the multiplication wrap.
                Value::Integer => values.push(integer()?.wrapping_mul(1_000_000)),
                _ => return None,
            },
            Values::Timestamp { values, has_zone: false } => match &node.value {
                Value::Text(text) => values.push(self.times.timestamp_ntz(text)?),
                _ => return None,
            },
            Values::Bytes { .. } | Values::Struct { .. } | Values::List { .. } | Values::Map { .. } => return None,
        }
        Some(())
    }

    fn float(&self, node: &Node<'_>) -> Option<f64> {
        match &node.value {
            Value::Integer | Value::Float => match node.raw {
                word if is_word(word) => special_float(word),
                number => float_text(number).parse().ok(),
            },
            Value::Text(text) if self.non_numeric_numbers => special_float(text),
            _ => None,
        }
    }

    fn date(&self, text: &str) -> Option<i32> {
        let parsed = self.times.date(text);
        // Without a pattern, days since 1970 are a date too (a text that is a number).
        parsed.or_else(|| if self.times.date.is_none() { text.parse().ok() } else { None })
    }

    fn append_struct(&self, node: &Node<'_>, column: &mut Column) -> Fit {
        let Value::Object(fields) = &node.value else { return misfit(node, column) };
        let row = column.len();
        let Values::Struct { names, children } = &mut column.values else { unreachable!("called for structs") };
        let bad = self.append_fields(fields, |name| names.find(name.as_bytes()), children, row);
        column.pushed();
        bad.map_or(Fit::Whole, Fit::Part)
    }

    /// Appends the fields of an object as row `row` of these columns; gives the first reason why something is missing.
    pub(crate) fn append_fields(
        &self,
        fields: &[(std::borrow::Cow<'_, str>, Node<'_>)],
        find: impl Fn(&str) -> Option<usize>,
        columns: &mut [Column],
        row: usize,
    ) -> Option<String> {
        let mut bad = None;
        for (name, node) in fields {
            let Some(position) = find(name) else { continue };
            let column = &mut columns[position];
            let is_repeated = column.len() > row;
            let (kept, reason) = match self.append(node, column) {
                Fit::Whole => (true, None),
                Fit::Part(reason) => (true, Some(reason)),
                Fit::Not(reason) => (false, Some(reason)),
            };
            // A name that comes twice: the last value that fits counts.
            if is_repeated && kept {
                column.truncate(row);
                self.append(node, column);
            }
            if let Some(reason) = reason {
                bad.get_or_insert_with(|| format!("field `{name}`: {reason}"));
            }
        }
        for column in columns.iter_mut().filter(|column| column.len() == row) {
            column.append_null();
        }
        bad
    }

    fn append_list(&self, node: &Node<'_>, column: &mut Column) -> Fit {
        let Value::Array(nodes) = &node.value else { return misfit(node, column) };
        let Values::List { item, .. } = &mut column.values else { unreachable!("called for lists") };
        let (before, mut part) = (item.len(), None);
        for node in nodes {
            match self.append(node, item) {
                Fit::Whole => {}
                Fit::Part(reason) => {
                    part.get_or_insert(reason);
                }
                Fit::Not(reason) => {
                    item.truncate(before);
                    return Fit::Not(reason);
                }
            }
        }
        column.close_items();
        part.map_or(Fit::Whole, Fit::Part)
    }

    fn append_map(&self, node: &Node<'_>, column: &mut Column) -> Fit {
        let Value::Object(fields) = &node.value else { return misfit(node, column) };
        let Values::Map { key, value, .. } = &mut column.values else { unreachable!("called for maps") };
        let (before, mut part) = (value.len(), None);
        for (name, node) in fields {
            match self.append(node, value) {
                Fit::Whole => {}
                Fit::Part(reason) => {
                    part.get_or_insert(reason);
                }
                Fit::Not(reason) => {
                    key.truncate(before);
                    value.truncate(before);
                    return Fit::Not(reason);
                }
            }
            key.append_bytes(name.as_bytes());
        }
        column.close_items();
        part.map_or(Fit::Whole, Fit::Part)
    }
}

fn misfit(node: &Node<'_>, column: &Column) -> Fit {
    let shown: String = node.raw.chars().take(60).collect();
    Fit::Not(format!("{shown} is no {}", quoted_type_name(column.data_type())))
}

/// Whether a number is one of the words (`NaN`, `-Infinity`).
fn is_word(raw: &str) -> bool {
    raw.ends_with(|c: char| c.is_ascii_alphabetic())
}

/// Jackson reads an integer `-0` as 0.
fn float_text(raw: &str) -> &str {
    if raw == "-0" { "0" } else { raw }
}

fn special_float(text: &str) -> Option<f64> {
    match text {
        "NaN" => Some(f64::NAN),
        "Infinity" | "+Infinity" | "+INF" => Some(f64::INFINITY),
        "-Infinity" | "-INF" => Some(f64::NEG_INFINITY),
        _ => None,
    }
}

/// Jackson's base 64: white space between quartets is skipped, padding is required.
fn base64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let mut chars = text.bytes().filter(|byte| *byte > b' ');
    while let Some(first) = chars.next() {
        let quartet = [first, chars.next()?, chars.next()?, chars.next()?];
        let padding = quartet.iter().rev().take_while(|byte| **byte == b'=').count();
        let mut bits = 0_u32;
        for byte in &quartet[..4 - padding.min(2)] {
            bits = bits << 6 | u32::from(sextet(*byte)?);
        }
        match padding {
            0 => bytes.extend_from_slice(&bits.to_be_bytes()[1..]),
            1 => bytes.extend_from_slice(&(bits >> 2).to_be_bytes()[2..]),
            2 => bytes.push((bits >> 4) as u8),
            _ => return None,
        }
        if padding > 0 && chars.next().is_some() {
            return None;
        }
    }
    Some(bytes)
}

fn sextet(byte: u8) -> Option<u8> {
    match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    }
}
