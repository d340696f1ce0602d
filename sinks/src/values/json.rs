//! Values as JSON, as Spark's JSON writer spells them.
//!
//! Null fields of structs are left out (or written as `null`, as the option says), null items of arrays and values of
//! maps are always written; keys of maps are Spark's internal values (`{"1704067201500000": ..}` for a timestamp).

use std::io::Write;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::*;
use wavetank_engine::{Error, Result};

use super::number::DecimalText;
use super::plain::{Formats, Style, encoder as plain_encoder, temporal_text, timestamp_values};
use super::time::Moment;
use super::{Encoder, nulls_of, plain_layout};

/// How values are written, from the options of the writer.
#[derive(Clone, Debug)]
pub(crate) struct JsonStyle {
    /// Whether null fields of structs (rows among them) are left out.
    pub ignore_null_fields: bool,
    /// Formats of dates and timestamps.
    pub formats: Arc<Formats>,
}

/// The encoder of a whole row, `{"a":1,"b":"x"}`.
pub(crate) fn object_encoder(fields: &Fields, columns: &[ArrayRef], style: &JsonStyle) -> Result<Encoder<'static>> {
    let mut members = Vec::with_capacity(fields.len());
    for (field, column) in fields.iter().zip(columns) {
        let mut name = Vec::new();
        write_string(field.name(), &mut name);
        name.push(b':');
        members.push((name, nulls_of(column), value_encoder(column, style)?));
    }
    let ignore_nulls = style.ignore_null_fields;
    Ok(Box::new(move |row, out| {
        out.push(b'{');
        let mut first = true;
        for (name, nulls, encode) in &members {
            let is_null = nulls.as_ref().is_some_and(|nulls| nulls.is_null(row));
            if is_null && ignore_nulls {
                continue;
            }
            if !first {
                out.push(b',');
            }
            first = false;
            out.extend_from_slice(name);
            if is_null { out.extend_from_slice(b"null") } else { encode(row, out) }
        }
        out.push(b'}');
    }))
}

fn nullable_encoder(array: &ArrayRef, style: &JsonStyle) -> Result<Encoder<'static>> {
    let encode = value_encoder(array, style)?;
    Ok(match nulls_of(array) {
        None => encode,
        Some(nulls) => {
            Box::new(move |row, out| if nulls.is_null(row) { out.extend_from_slice(b"null") } else { encode(row, out) })
        }
    })
}

fn quoted(encode: Encoder<'static>) -> Encoder<'static> {
    Box::new(move |row, out| {
        out.push(b'"');
        encode(row, out);
        out.push(b'"');
    })
}

/// Encodes values that are not null.
fn value_encoder(array: &ArrayRef, style: &JsonStyle) -> Result<Encoder<'static>> {
    let array = &plain_layout(array)?;
    let plain = Style { null: "null", ..Style::csv(style.formats.clone()) };
    Ok(match array.data_type() {
        DataType::Utf8 => {
            let values = array.as_string::<i32>().clone();
            Box::new(move |row, out| write_string(values.value(row), out))
        }
        DataType::Binary => {
            let values = array.as_binary::<i32>().clone();
            quoted(Box::new(move |row, out| write_base64(values.value(row), out)))
        }
        DataType::Float32 => {
            let (values, finite) =
                (array.as_primitive::<Float32Type>().values().clone(), plain_encoder(array, &plain)?);
            let special = quoted(plain_encoder(array, &plain)?);
            Box::new(move |row, out| if values[row].is_finite() { finite(row, out) } else { special(row, out) })
        }
        DataType::Float64 => {
            let (values, finite) =
                (array.as_primitive::<Float64Type>().values().clone(), plain_encoder(array, &plain)?);
            let special = quoted(plain_encoder(array, &plain)?);
            Box::new(move |row, out| if values[row].is_finite() { finite(row, out) } else { special(row, out) })
        }
        DataType::Struct(fields) => object_encoder(fields, array.as_struct().columns(), style)?,
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            let (offsets, item) = (list.offsets().clone(), nullable_encoder(list.values(), style)?);
            Box::new(move |row, out| {
                out.push(b'[');
                let start = offsets[row] as usize;
                for position in start..offsets[row + 1] as usize {
                    out.extend_from_slice(if position == start { b"" } else { b"," });
                    item(position, out);
                }
                out.push(b']');
            })
        }
        DataType::Map(_, _) => {
            let map = array.as_map();
            let (offsets, key) = (map.offsets().clone(), key_encoder(map.keys())?);
            let value = nullable_encoder(map.values(), style)?;
            Box::new(move |row, out| {
                out.push(b'{');
                let start = offsets[row] as usize;
                for position in start..offsets[row + 1] as usize {
                    out.extend_from_slice(if position == start { b"" } else { b"," });
                    key(position, out);
                    out.push(b':');
                    value(position, out);
                }
                out.push(b'}');
            })
        }
        DataType::Date32 | DataType::Timestamp(_, _) => {
            // The user's format may hold any character.
            let text = plain_encoder(array, &plain)?;
            Box::new(move |row, out| {
                let mut bytes = Vec::with_capacity(32);
                text(row, &mut bytes);
                write_string(&String::from_utf8_lossy(&bytes), out);
            })
        }
        _ => match temporal_text(array)? {
            Some(text) => quoted(text),
            None => plain_encoder(array, &plain)?, // null, booleans, integers, decimals
        },
    })
}

/// Keys of maps: the text of Spark's internal value.
fn key_encoder(keys: &ArrayRef) -> Result<Encoder<'static>> {
    let keys = &plain_layout(keys)?;
    let style = Style { decimal: DecimalText::Plain, ..Style::cast() };
    Ok(match keys.data_type() {
        DataType::Utf8 => {
            let values = keys.as_string::<i32>().clone();
            Box::new(move |row, out| write_string(values.value(row), out))
        }
        DataType::Date32 => {
            let values = keys.as_primitive::<Date32Type>().values().clone();
            quoted(Box::new(move |row, out| {
                let _ = write!(out, "{}", values[row]); // a Vec takes every write
            }))
        }
        DataType::Timestamp(unit, _) => {
            let (values, unit) = (timestamp_values(keys, *unit), *unit);
            quoted(Box::new(move |row, out| {
                let Moment { days, us_of_day } = Moment::of(values[row], unit);
                let us = i128::from(days) * 86_400_000_000 + i128::from(us_of_day);
                let _ = write!(out, "{us}"); // a Vec takes every write
            }))
        }
        key if key.is_numeric() || *key == DataType::Boolean => quoted(plain_encoder(keys, &style)?),
        other => {
            return Err(Error::analysis(format!(
                "A map with keys of type {} cannot be written as JSON. Cast the keys to STRING.",
                super::type_name::sql_name(other)
            )));
        }
    })
}

/// Appends a JSON string. Only what JSON demands is escaped, control characters in upper-case hex.
pub(crate) fn write_string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut written = 0;
    for (position, byte) in bytes.iter().enumerate() {
        let escape: &[u8] = match byte {
            b'"' => b"\\\"",
            b'\\' => b"\\\\",
            b'\n' => b"\\n",
            b'\r' => b"\\r",
            b'\t' => b"\\t",
            0x08 => b"\\b",
            0x0c => b"\\f",
            0..0x20 => b"",
            _ => continue,
        };
        out.extend_from_slice(&bytes[written..position]);
        written = position + 1;
        if escape.is_empty() {
            let _ = write!(out, "\\u{byte:04X}"); // a Vec takes every write
        } else {
            out.extend_from_slice(escape);
        }
    }
    out.extend_from_slice(&bytes[written..]);
    out.push(b'"');
}

/// Appends bytes in base 64 with padding.
fn write_base64(bytes: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for chunk in bytes.chunks(3) {
        let padded = [chunk[0], chunk.get(1).copied().unwrap_or(0), chunk.get(2).copied().unwrap_or(0)];
        let bits = u32::from_be_bytes([0, padded[0], padded[1], padded[2]]);
        for digit in 0..4 {
            let index = (bits >> (18 - 6 * digit)) & 63;
            out.push(if digit <= chunk.len() { DIGITS[index as usize] } else { b'=' });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_padded() {
        for (bytes, expected) in [
            (&b""[..], ""),
            (b"\x01", "AQ=="),
            (b"\x00\xff", "AP8="),
            (b"\x48\x65\xff", "SGX/"),
            (b"\x48\x65\xff\x00", "SGX/AA=="),
        ] {
            let mut out = Vec::new();
            write_base64(bytes, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }

    #[test]
    fn strings_escape_what_json_demands() {
        for (text, expected) in [
            ("a\nb\tc\rd\\e", r#""a\nb\tc\rd\\e""#),
            ("x\x07\x08\x0b\x0cy\0\x01\x1f\x7f", "\"x\\u0007\\b\\u000B\\fy\\u0000\\u0001\\u001F\x7f\""),
            ("say \"hi\"", r#""say \"hi\"""#),
            ("a/b <é日😀>", "\"a/b <é日😀>\""),
        ] {
            let mut out = Vec::new();
            write_string(text, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }
}
