//! Rows of columns become values of serde types.
//!
//! Columns have Spark's types here (see [`spark_column`]): no views, no dictionaries, times in microseconds. A time is
//! read as a number (microseconds since 1970) by types that want a number, as RFC 3339 text by those that want text.

use arrow::array::{Array, ArrayRef, AsArray, StructArray};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, DurationMicrosecondType, Float32Type, Float64Type, Int8Type, Int16Type,
    Int32Type, Int64Type, TimeUnit, TimestampMicrosecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use serde::de::value::{Error as ReadError, StrDeserializer};
use serde::de::{DeserializeSeed, Deserializer, Error as _, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;

use crate::error::Result as EngineResult;
use crate::sql::types::nearest_spark_type;

/// The column as [`Cell`] reads it.
pub(super) fn spark_column(column: &ArrayRef) -> EngineResult<ArrayRef> {
    let target = nearest_spark_type(column.data_type());
    Ok(if *column.data_type() == target { column.clone() } else { cast(column, &target)? })
}

type Read<T> = Result<T, ReadError>;

/// One value of a column.
#[derive(Clone, Copy)]
pub(crate) struct Cell<'a> {
    array: &'a dyn Array,
    row: usize,
}

impl<'a> Cell<'a> {
    /// Row `row` of a column.
    pub(crate) fn new(array: &'a dyn Array, row: usize) -> Self {
        Self { array, row }
    }

    fn fields(self) -> Option<Fields<'a>> {
        self.array.as_struct_opt().map(|rows| Fields { rows, row: self.row, next: 0 })
    }

    fn time_text(self) -> Option<String> {
        match self.array.data_type() {
            DataType::Timestamp(TimeUnit::Microsecond, zone) => {
                let micros = self.array.as_primitive::<TimestampMicrosecondType>().value(self.row);
                let time = chrono::DateTime::from_timestamp_micros(micros)?;
                let text = time.format("%Y-%m-%dT%H:%M:%S%.6f").to_string();
                Some(if zone.is_some() { text + "Z" } else { text })
            }
            DataType::Date32 => {
                let date = self.array.as_primitive::<Date32Type>().value_as_date(self.row)?;
                Some(date.format("%Y-%m-%d").to_string())
            }
            DataType::Decimal128(_, _) => Some(self.array.as_primitive::<Decimal128Type>().value_as_string(self.row)),
            _ => None,
        }
    }
}

impl<'de> Deserializer<'de> for Cell<'de> {
    type Error = ReadError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Read<V::Value> {
        let Self { array, row } = self;
        if array.is_null(row) {
            return visitor.visit_unit();
        }
        match array.data_type() {
            DataType::Null => visitor.visit_unit(),
            DataType::Boolean => visitor.visit_bool(array.as_boolean().value(row)),
            DataType::Int8 => visitor.visit_i8(array.as_primitive::<Int8Type>().value(row)),
            DataType::Int16 => visitor.visit_i16(array.as_primitive::<Int16Type>().value(row)),
            DataType::Int32 => visitor.visit_i32(array.as_primitive::<Int32Type>().value(row)),
            DataType::Int64 => visitor.visit_i64(array.as_primitive::<Int64Type>().value(row)),
            DataType::UInt8 => visitor.visit_u8(array.as_primitive::<UInt8Type>().value(row)),
            DataType::UInt16 => visitor.visit_u16(array.as_primitive::<UInt16Type>().value(row)),
            DataType::UInt32 => visitor.visit_u32(array.as_primitive::<UInt32Type>().value(row)),
            DataType::UInt64 => visitor.visit_u64(array.as_primitive::<UInt64Type>().value(row)),
            DataType::Float32 => visitor.visit_f32(array.as_primitive::<Float32Type>().value(row)),
            DataType::Float64 => visitor.visit_f64(array.as_primitive::<Float64Type>().value(row)),
            DataType::Utf8 => visitor.visit_borrowed_str(array.as_string::<i32>().value(row)),
            DataType::Binary => visitor.visit_borrowed_bytes(array.as_binary::<i32>().value(row)),
            DataType::Date32 => visitor.visit_i32(array.as_primitive::<Date32Type>().value(row)),
            DataType::Timestamp(TimeUnit::Microsecond, _) => {
                visitor.visit_i64(array.as_primitive::<TimestampMicrosecondType>().value(row))
            }
            DataType::Duration(TimeUnit::Microsecond) => {
                visitor.visit_i64(array.as_primitive::<DurationMicrosecondType>().value(row))
            }
            DataType::Decimal128(_, _) => visitor.visit_string(self.time_text().unwrap_or_default()),
            DataType::List(_) => {
                let offsets = array.as_list::<i32>().value_offsets();
                let items = array.as_list::<i32>().values().as_ref();
                visitor.visit_seq(Elements { items, next: offsets[row] as usize, end: offsets[row + 1] as usize })
            }
            DataType::Map(_, _) => {
                let offsets = array.as_map().value_offsets();
                let entries = array.as_map().entries();
                visitor.visit_map(Entries { entries, next: offsets[row] as usize, end: offsets[row + 1] as usize })
            }
            DataType::Struct(_) => visitor.visit_map(Fields { rows: array.as_struct(), row, next: 0 }),
            other => Err(ReadError::custom(format!("a column of type {other} cannot be read into a Rust value"))),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Read<V::Value> {
        match self.time_text().filter(|_| self.array.is_valid(self.row)) {
            Some(text) => visitor.visit_string(text),
            None => self.deserialize_any(visitor),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Read<V::Value> {
        self.deserialize_str(visitor)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Read<V::Value> {
        match self.array.data_type() {
            DataType::Decimal128(_, _) if self.array.is_valid(self.row) => {
                let text = self.time_text().unwrap_or_default();
                visitor.visit_f64(text.parse().map_err(ReadError::custom)?)
            }
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Read<V::Value> {
        let is_null = self.array.is_null(self.row) || self.array.data_type() == &DataType::Null;
        if is_null { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Read<V::Value> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Read<V::Value> {
        match self.fields().filter(|_| self.array.is_valid(self.row)) {
            Some(fields) => visitor.visit_seq(fields),
            None => self.deserialize_any(visitor),
        }
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(self, _: &'static str, len: usize, visitor: V) -> Read<V::Value> {
        self.deserialize_tuple(len, visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Read<V::Value> {
        match self.array.as_string_opt::<i32>() {
            Some(names) if names.is_valid(self.row) => {
                let name: StrDeserializer<ReadError> = names.value(self.row).into_deserializer();
                visitor.visit_enum(name)
            }
            _ => self.deserialize_any(visitor),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 char bytes byte_buf unit unit_struct seq map struct identifier
        ignored_any
    }
}

/// The fields of a row, by name or in order.
struct Fields<'a> {
    rows: &'a StructArray,
    row: usize,
    next: usize,
}

impl<'de> SeqAccess<'de> for Fields<'de> {
    type Error = ReadError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Read<Option<T::Value>> {
        let Some(column) = self.rows.columns().get(self.next) else { return Ok(None) };
        self.next += 1;
        seed.deserialize(Cell::new(column.as_ref(), self.row)).map(Some)
    }
}

impl<'de> MapAccess<'de> for Fields<'de> {
    type Error = ReadError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Read<Option<K::Value>> {
        let Some(field) = self.rows.fields().get(self.next) else { return Ok(None) };
        seed.deserialize(StrDeserializer::<ReadError>::new(field.name())).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Read<V::Value> {
        let at = self.next;
        self.next += 1;
        seed.deserialize(Cell::new(self.rows.column(at).as_ref(), self.row))
            .map_err(|error| ReadError::custom(format!("column `{}`: {error}", self.rows.fields()[at].name())))
    }
}

/// Some elements of a column.
struct Elements<'a> {
    items: &'a dyn Array,
    next: usize,
    end: usize,
}

impl<'de> SeqAccess<'de> for Elements<'de> {
    type Error = ReadError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Read<Option<T::Value>> {
        if self.next == self.end {
            return Ok(None);
        }
        self.next += 1;
        seed.deserialize(Cell::new(self.items, self.next - 1)).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.end - self.next)
    }
}

/// Some entries of a map.
struct Entries<'a> {
    entries: &'a StructArray,
    next: usize,
    end: usize,
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = ReadError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Read<Option<K::Value>> {
        if self.next == self.end {
            return Ok(None);
        }
        seed.deserialize(Cell::new(self.entries.column(0).as_ref(), self.next)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Read<V::Value> {
        self.next += 1;
        seed.deserialize(Cell::new(self.entries.column(1).as_ref(), self.next - 1))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.end - self.next)
    }
}
