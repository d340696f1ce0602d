//! Values of serde types become one column.
//!
//! The full version has to handle: null anywhere (also in place of a struct), fields that a value leaves out, tuples as
//! structs, numbers that do not fit the column (an error, never another number), and lists beyond 2^31 elements.

use std::fmt;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryBuilder, BooleanBuilder, ListArray, MapArray, NullArray, NullBufferBuilder,
    PrimitiveBuilder, StringBuilder, StructArray,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, FieldRef, Fields, Float32Type, Float64Type, Int8Type, Int16Type,
    Int32Type, Int64Type, TimeUnit, TimestampMicrosecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use serde::ser::{
    self, Error as _, Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeTuple, SerializeTupleStruct,
    Serializer,
};

/// Why a value does not fit its column.
#[derive(Debug)]
pub(super) struct WriteError(String);

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for WriteError {}

impl ser::Error for WriteError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

type Written<T = ()> = Result<T, WriteError>;

/// A column under construction.
#[derive(Debug)]
pub(super) enum Builder {
    Null(usize),
    Boolean(BooleanBuilder),
    Int8(PrimitiveBuilder<Int8Type>),
    Int16(PrimitiveBuilder<Int16Type>),
    Int32(PrimitiveBuilder<Int32Type>),
    Int64(PrimitiveBuilder<Int64Type>),
    UInt8(PrimitiveBuilder<UInt8Type>),
    UInt16(PrimitiveBuilder<UInt16Type>),
    UInt32(PrimitiveBuilder<UInt32Type>),
    UInt64(PrimitiveBuilder<UInt64Type>),
    Float32(PrimitiveBuilder<Float32Type>),
    Float64(PrimitiveBuilder<Float64Type>),
    Text(StringBuilder),
    Binary(BinaryBuilder),
    Date(PrimitiveBuilder<Date32Type>),
    Time(PrimitiveBuilder<TimestampMicrosecondType>),
    List(Box<ListBuilder>),
    Struct(StructBuilder),
}

/// A list, or a map, whose items are its entries.
#[derive(Debug)]
pub(super) struct ListBuilder {
    data_type: DataType,
    offsets: Vec<i32>,
    items: Builder,
    valid: NullBufferBuilder,
}

#[derive(Debug)]
pub(super) struct StructBuilder {
    fields: Fields,
    columns: Vec<Builder>,
    valid: NullBufferBuilder,
}

/// The same method of every builder of one value a row.
macro_rules! of_each {
    ($builder:expr, $inner:ident => $call:expr, $null:pat => $null_call:expr, $list:ident => $list_call:expr,
     $struct:ident => $struct_call:expr) => {
        match $builder {
            $null => $null_call,
            Builder::Boolean($inner) => $call,
            Builder::Int8($inner) => $call,
            Builder::Int16($inner) => $call,
            Builder::Int32($inner) => $call,
            Builder::Int64($inner) => $call,
            Builder::UInt8($inner) => $call,
            Builder::UInt16($inner) => $call,
            Builder::UInt32($inner) => $call,
            Builder::UInt64($inner) => $call,
            Builder::Float32($inner) => $call,
            Builder::Float64($inner) => $call,
            Builder::Text($inner) => $call,
            Builder::Binary($inner) => $call,
            Builder::Date($inner) => $call,
            Builder::Time($inner) => $call,
            Builder::List($list) => $list_call,
            Builder::Struct($struct) => $struct_call,
        }
    };
}

impl Builder {
    /// An empty column of a type that `trace` answers.
    pub(super) fn new(data_type: &DataType) -> Written<Self> {
        Ok(match data_type {
            DataType::Null => Self::Null(0),
            DataType::Boolean => Self::Boolean(BooleanBuilder::new()),
            DataType::Int8 => Self::Int8(PrimitiveBuilder::new()),
            DataType::Int16 => Self::Int16(PrimitiveBuilder::new()),
            DataType::Int32 => Self::Int32(PrimitiveBuilder::new()),
            DataType::Int64 => Self::Int64(PrimitiveBuilder::new()),
            DataType::UInt8 => Self::UInt8(PrimitiveBuilder::new()),
            DataType::UInt16 => Self::UInt16(PrimitiveBuilder::new()),
            DataType::UInt32 => Self::UInt32(PrimitiveBuilder::new()),
            DataType::UInt64 => Self::UInt64(PrimitiveBuilder::new()),
            DataType::Float32 => Self::Float32(PrimitiveBuilder::new()),
            DataType::Float64 => Self::Float64(PrimitiveBuilder::new()),
            DataType::Utf8 => Self::Text(StringBuilder::new()),
            DataType::Binary => Self::Binary(BinaryBuilder::new()),
            DataType::Date32 => Self::Date(PrimitiveBuilder::new()),
            DataType::Timestamp(TimeUnit::Microsecond, _) => {
                Self::Time(PrimitiveBuilder::new().with_data_type(data_type.clone()))
            }
            DataType::List(item) | DataType::Map(item, _) => Self::List(Box::new(ListBuilder {
                data_type: data_type.clone(),
                offsets: vec![0],
                items: Self::new(item.data_type())?,
                valid: NullBufferBuilder::new(0),
            })),
            DataType::Struct(fields) => Self::Struct(StructBuilder {
                fields: fields.clone(),
                columns: fields.iter().map(|field| Self::new(field.data_type())).collect::<Written<_>>()?,
                valid: NullBufferBuilder::new(0),
            }),
            other => return Err(WriteError::custom(format!("a value cannot be written as {other}"))),
        })
    }

    fn len(&self) -> usize {
        use arrow::array::ArrayBuilder as _;
        of_each!(self, inner => inner.len(), Self::Null(rows) => *rows, list => list.valid.len(), row => row.valid.len())
    }

    pub(super) fn append_null(&mut self) {
        of_each!(self, inner => inner.append_null(), Self::Null(rows) => *rows += 1, list => {
            list.offsets.extend(list.offsets.last().copied());
            list.valid.append_null();
        }, row => {
            row.columns.iter_mut().for_each(Self::append_null);
            row.valid.append_null();
        })
    }

    pub(super) fn finish(mut self) -> Written<ArrayRef> {
        Ok(of_each!(&mut self, inner => Arc::new(inner.finish()) as ArrayRef,
            Self::Null(rows) => Arc::new(NullArray::new(*rows)),
            list => return std::mem::replace(list.as_mut(), ListBuilder::none()).finish(),
            row => return row.finish()))
    }

    fn refuse<T>(&self, what: impl fmt::Display) -> Written<T> {
        Err(WriteError::custom(format!("{what} does not fit a column of {}", self.type_name())))
    }

    fn type_name(&self) -> &'static str {
        match self {
            Self::Null(_) => "nothing",
            Self::Boolean(_) => "BOOLEAN",
            Self::Int8(_) => "TINYINT",
            Self::Int16(_) => "SMALLINT",
            Self::Int32(_) => "INT",
            Self::Int64(_) => "BIGINT",
            Self::UInt8(_) | Self::UInt16(_) | Self::UInt32(_) | Self::UInt64(_) => "numbers without sign",
            Self::Float32(_) => "FLOAT",
            Self::Float64(_) => "DOUBLE",
            Self::Text(_) => "STRING",
            Self::Binary(_) => "BINARY",
            Self::Date(_) => "DATE",
            Self::Time(_) => "TIMESTAMP",
            Self::List(_) => "ARRAY or MAP",
            Self::Struct(_) => "STRUCT",
        }
    }

    fn integer<N: Copy + fmt::Display>(&mut self, value: N) -> Written
    where
        i128: From<N>,
    {
        fn put<T: ArrowPrimitiveType>(builder: &mut PrimitiveBuilder<T>, value: i128) -> bool
        where
            T::Native: TryFrom<i128>,
        {
            T::Native::try_from(value).map(|value| builder.append_value(value)).is_ok()
        }
        let whole = i128::from(value);
        let fits = match self {
            Self::Int8(builder) => put(builder, whole),
            Self::Int16(builder) => put(builder, whole),
            Self::Int32(builder) => put(builder, whole),
            Self::Int64(builder) => put(builder, whole),
            Self::UInt8(builder) => put(builder, whole),
            Self::UInt16(builder) => put(builder, whole),
            Self::UInt32(builder) => put(builder, whole),
            Self::UInt64(builder) => put(builder, whole),
            Self::Date(builder) => put(builder, whole),
            Self::Time(builder) => put(builder, whole),
            Self::Float64(builder) => {
                builder.append_value(whole as f64);
                true
            }
            _ => false,
        };
        if fits { Ok(()) } else { self.refuse(value) }
    }

    fn text(&mut self, value: &str) -> Written {
        match self {
            Self::Text(builder) => builder.append_value(value),
            Self::Date(builder) => match value.parse::<chrono::NaiveDate>() {
                Ok(date) => builder.append_value(Date32Type::from_naive_date(date)),
                Err(_) => return self.refuse(format!("'{value}'")),
            },
            Self::Time(builder) => {
                let time = chrono::DateTime::parse_from_rfc3339(value).map(|time| time.timestamp_micros());
                let time = time
                    .or_else(|_| value.parse::<chrono::NaiveDateTime>().map(|time| time.and_utc().timestamp_micros()));
                match time {
                    Ok(micros) => builder.append_value(micros),
                    Err(_) => return self.refuse(format!("'{value}'")),
                }
            }
            _ => return self.refuse(format!("'{value}'")),
        }
        Ok(())
    }

    fn list(&mut self) -> Written<Items<'_>> {
        match self {
            Self::List(list) => Ok(Items::List(list)),
            Self::Struct(row) => Ok(Items::Struct { row, next: 0 }),
            other => other.refuse("a list"),
        }
    }
}

impl ListBuilder {
    fn none() -> Self {
        Self { data_type: DataType::Null, offsets: vec![0], items: Builder::Null(0), valid: NullBufferBuilder::new(0) }
    }

    fn end(&mut self) -> Written {
        let end = i32::try_from(self.items.len());
        self.offsets.push(end.map_err(|_| WriteError::custom("a batch's lists have more than 2^31 elements"))?);
        self.valid.append_non_null();
        Ok(())
    }

    fn finish(mut self) -> Written<ArrayRef> {
        let items = self.items.finish()?;
        let offsets = OffsetBuffer::new(self.offsets.into());
        let nulls = self.valid.finish();
        let array: Result<ArrayRef, _> = match &self.data_type {
            DataType::Map(entries, sorted) => {
                let rows = items.as_any().downcast_ref::<StructArray>().cloned();
                let rows = rows.ok_or_else(|| WriteError::custom("the entries of a map are no struct"))?;
                MapArray::try_new(Arc::clone(entries), offsets, rows, nulls, *sorted).map(|map| Arc::new(map) as _)
            }
            DataType::List(item) => {
                ListArray::try_new(Arc::clone(item), offsets, items, nulls).map(|list| Arc::new(list) as _)
            }
            other => return Err(WriteError::custom(format!("{other} is no list"))),
        };
        array.map_err(WriteError::custom)
    }
}

impl StructBuilder {
    /// After a row: fields that it left out are null.
    fn end(&mut self) {
        self.valid.append_non_null();
        let rows = self.valid.len();
        self.columns.iter_mut().filter(|column| column.len() < rows).for_each(Builder::append_null);
    }

    /// The column of a field: usually the one after the last, `at`.
    fn column(&mut self, name: &str, at: usize) -> Option<usize> {
        let is_it = |field: &FieldRef| field.name() == name;
        match self.fields.get(at) {
            Some(field) if is_it(field) => Some(at),
            _ => self.fields.iter().position(is_it),
        }
    }

    fn finish(&mut self) -> Written<ArrayRef> {
        let columns =
            std::mem::take(&mut self.columns).into_iter().map(Builder::finish).collect::<Written<Vec<_>>>()?;
        let (rows, nulls) = (self.valid.len(), self.valid.finish());
        let array = if columns.is_empty() {
            StructArray::new_empty_fields(rows, nulls)
        } else {
            StructArray::try_new(self.fields.clone(), columns, nulls).map_err(WriteError::custom)?
        };
        Ok(Arc::new(array))
    }
}

/// The elements of a list, a map, a tuple or a struct.
pub(super) enum Items<'a> {
    List(&'a mut ListBuilder),
    Struct { row: &'a mut StructBuilder, next: usize },
}

impl Items<'_> {
    fn item<T: Serialize + ?Sized>(&mut self, value: &T) -> Written {
        match self {
            Self::List(list) => value.serialize(&mut list.items),
            Self::Struct { row, next } => {
                let Some(column) = row.columns.get_mut(*next) else {
                    return Err(WriteError::custom("a tuple has more elements than its column"));
                };
                *next += 1;
                value.serialize(column)
            }
        }
    }

    fn field<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) -> Written {
        let Self::Struct { row, next } = self else { return Err(WriteError::custom("a struct is no list")) };
        // What the column's type does not know was skipped when the type was traced.
        let Some(at) = row.column(name, *next) else { return Ok(()) };
        *next = at + 1;
        value.serialize(&mut row.columns[at])
    }

    /// The key (column 0) or the value (column 1) of a map's entry.
    fn entry<T: Serialize + ?Sized>(&mut self, column: usize, value: &T) -> Written {
        let Self::List(list) = self else { return Err(WriteError::custom("a map is no struct")) };
        let Builder::Struct(entry) = &mut list.items else { return Err(WriteError::custom("a map is no list")) };
        value.serialize(&mut entry.columns[column])?;
        if column == 1 {
            entry.end();
        }
        Ok(())
    }

    fn done(self) -> Written {
        match self {
            Self::List(list) => list.end(),
            Self::Struct { row, .. } => {
                row.end();
                Ok(())
            }
        }
    }
}

impl SerializeSeq for Items<'_> {
    type Ok = ();
    type Error = WriteError;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Written {
        self.item(value)
    }

    fn end(self) -> Written {
        self.done()
    }
}

impl SerializeTuple for Items<'_> {
    type Ok = ();
    type Error = WriteError;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Written {
        self.item(value)
    }

    fn end(self) -> Written {
        self.done()
    }
}

impl SerializeTupleStruct for Items<'_> {
    type Ok = ();
    type Error = WriteError;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Written {
        self.item(value)
    }

    fn end(self) -> Written {
        self.done()
    }
}

impl SerializeStruct for Items<'_> {
    type Ok = ();
    type Error = WriteError;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Written {
        self.field(name, value)
    }

    fn end(self) -> Written {
        self.done()
    }
}

impl SerializeMap for Items<'_> {
    type Ok = ();
    type Error = WriteError;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Written {
        self.entry(0, key)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Written {
        self.entry(1, value)
    }

    fn end(self) -> Written {
        self.done()
    }
}

macro_rules! integers {
    ($($method:ident $type:ty;)*) => {
        $(fn $method(self, value: $type) -> Written {
            self.integer(value)
        })*
    };
}

impl<'a> Serializer for &'a mut Builder {
    type Ok = ();
    type Error = WriteError;
    type SerializeSeq = Items<'a>;
    type SerializeTuple = Items<'a>;
    type SerializeTupleStruct = Items<'a>;
    type SerializeTupleVariant = ser::Impossible<(), WriteError>;
    type SerializeMap = Items<'a>;
    type SerializeStruct = Items<'a>;
    type SerializeStructVariant = ser::Impossible<(), WriteError>;

    integers! {
        serialize_i8 i8;
        serialize_i16 i16;
        serialize_i32 i32;
        serialize_i64 i64;
        serialize_u8 u8;
        serialize_u16 u16;
        serialize_u32 u32;
        serialize_u64 u64;
    }

    fn serialize_bool(self, value: bool) -> Written {
        match self {
            Builder::Boolean(builder) => builder.append_value(value),
            other => return other.refuse(value),
        }
        Ok(())
    }

    fn serialize_f32(self, value: f32) -> Written {
        match self {
            Builder::Float32(builder) => builder.append_value(value),
            Builder::Float64(builder) => builder.append_value(value.into()),
            other => return other.refuse(value),
        }
        Ok(())
    }

    fn serialize_f64(self, value: f64) -> Written {
        match self {
            Builder::Float64(builder) => builder.append_value(value),
            other => return other.refuse(value),
        }
        Ok(())
    }

    fn serialize_char(self, value: char) -> Written {
        self.text(value.encode_utf8(&mut [0; 4]))
    }

    fn serialize_str(self, value: &str) -> Written {
        self.text(value)
    }

    fn serialize_bytes(self, value: &[u8]) -> Written {
        match self {
            Builder::Binary(builder) => builder.append_value(value),
            other => return other.refuse("binary data"),
        }
        Ok(())
    }

    fn serialize_none(self) -> Written {
        self.append_null();
        Ok(())
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Written {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Written {
        self.append_null();
        Ok(())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Written {
        self.serialize_unit()
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Written {
        self.text(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Written {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: &T,
    ) -> Written {
        self.refuse(format!("{variant} with its data"))
    }

    fn serialize_seq(self, _: Option<usize>) -> Written<Items<'a>> {
        self.list()
    }

    fn serialize_tuple(self, _: usize) -> Written<Items<'a>> {
        self.list()
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Written<Items<'a>> {
        self.list()
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Written<Self::SerializeTupleVariant> {
        self.refuse(format!("{variant} with its data"))
    }

    fn serialize_map(self, _: Option<usize>) -> Written<Items<'a>> {
        self.list()
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Written<Items<'a>> {
        self.list()
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Written<Self::SerializeStructVariant> {
        self.refuse(format!("{variant} with its data"))
    }
}
