//! Columns under construction that can take back their last rows: what a record that turns out bad needs.
//!
//! Arrow's builders cannot be shortened; these can. Every column knows how to append one value, a null, to be cut to
//! so many rows, and to become an Arrow array.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, BooleanBufferBuilder, Decimal128Array, ListArray, MapArray, PrimitiveArray,
    StringArray, StructArray,
};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::compute::cast;
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Field, FieldRef, Fields, Float32Type, Float64Type, Int8Type, Int16Type,
    Int32Type, Int64Type, TimeUnit, TimestampMicrosecondType,
};
use wavetank_engine::sql::types::quoted_type_name;
use wavetank_engine::{Error, Result};

/// The values of a column so far; a null has some value too, which nobody sees.
#[derive(Debug)]
pub(crate) enum Values {
    Boolean(BooleanBufferBuilder),
    Int8(Vec<i8>),
    Int16(Vec<i16>),
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    Float32(Vec<f32>),
    Float64(Vec<f64>),
    Decimal {
        values: Vec<i128>,
        precision: u8,
        scale: i8,
    },
    /// Text and binary; `is_text` tells which.
    Bytes {
        ends: Vec<i32>,
        bytes: Vec<u8>,
        is_text: bool,
    },
    Date(Vec<i32>),
    /// `has_zone` tells `TIMESTAMP` from `TIMESTAMP_NTZ`.
    Timestamp {
        values: Vec<i64>,
        has_zone: bool,
    },
    Struct {
        names: Names,
        children: Vec<Column>,
    },
    List {
        ends: Vec<i32>,
        item: Box<Column>,
    },
    Map {
        ends: Vec<i32>,
        key: Box<Column>,
        value: Box<Column>,
    },
}

/// One column under construction.
#[derive(Debug)]
pub(crate) struct Column {
    data_type: DataType,
    pub(crate) values: Values,
    valid: BooleanBufferBuilder,
}

/// Field names of a struct (or of the record), with a guess that the fields come in the order of the last record.
#[derive(Debug, Default)]
pub(crate) struct Names {
    index: HashMap<Box<[u8]>, usize>,
    /// Per place in the object: the name that stood there last, and its column.
    last: Vec<(Box<[u8]>, Option<usize>)>,
}

impl Names {
    pub(crate) fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let mut index = HashMap::new();
        for (position, name) in names.into_iter().enumerate() {
            index.entry(Box::from(name.as_bytes())).or_insert(position);
        }
        Self { index, last: Vec::new() }
    }

    /// The column with this name.
    pub(crate) fn find(&self, name: &[u8]) -> Option<usize> {
        self.index.get(name).copied()
    }

    /// The column with this name, which stands at this place of its object.
    #[inline]
    pub(crate) fn find_at(&mut self, place: usize, name: &[u8]) -> Option<usize> {
        if let Some((last, column)) = self.last.get(place)
            && **last == *name
        {
            return *column;
        }
        let column = self.find(name);
        // Objects with a great many keys are not worth remembering.
        if place < 256 {
            self.last.resize_with(self.last.len().max(place + 1), Default::default);
            self.last[place] = (Box::from(name), column);
        }
        column
    }
}

impl Column {
    /// An empty column; types that no text format can hold are refused.
    pub(crate) fn new(data_type: &DataType) -> Result<Self> {
        let values = match data_type {
            DataType::Boolean => Values::Boolean(BooleanBufferBuilder::new(0)),
            DataType::Int8 => Values::Int8(Vec::new()),
            DataType::Int16 => Values::Int16(Vec::new()),
            DataType::Int32 => Values::Int32(Vec::new()),
            DataType::Int64 => Values::Int64(Vec::new()),
            DataType::Float32 => Values::Float32(Vec::new()),
            DataType::Float64 => Values::Float64(Vec::new()),
            DataType::Decimal128(precision, scale) => {
                Values::Decimal { values: Vec::new(), precision: *precision, scale: *scale }
            }
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
                Values::Bytes { ends: Vec::new(), bytes: Vec::new(), is_text: true }
            }
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView => {
                Values::Bytes { ends: Vec::new(), bytes: Vec::new(), is_text: false }
            }
            DataType::Date32 => Values::Date(Vec::new()),
            DataType::Timestamp(_, zone) => Values::Timestamp { values: Vec::new(), has_zone: zone.is_some() },
            DataType::Struct(fields) => Values::Struct {
                names: Names::new(fields.iter().map(|field| field.name().as_str())),
                children: fields.iter().map(|field| Self::new(field.data_type())).collect::<Result<_>>()?,
            },
            DataType::List(item) => Values::List { ends: Vec::new(), item: Box::new(Self::new(item.data_type())?) },
            DataType::Map(entries, _) => match entries.data_type() {
                DataType::Struct(pair) if pair.len() == 2 && is_text(pair[0].data_type()) => Values::Map {
                    ends: Vec::new(),
                    key: Box::new(Self::new(pair[0].data_type())?),
                    value: Box::new(Self::new(pair[1].data_type())?),
                },
                _ => return Err(unsupported(data_type)),
            },
            _ => return Err(unsupported(data_type)),
        };
        Ok(Self { data_type: data_type.clone(), values, valid: BooleanBufferBuilder::new(0) })
    }

    /// The type of the array that the column becomes.
    pub(crate) fn data_type(&self) -> &DataType {
        &self.data_type
    }

    /// Rows so far.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.valid.len()
    }

    /// Marks the value that was just pushed into `values` as one that is there.
    #[inline]
    pub(crate) fn pushed(&mut self) {
        self.valid.append(true);
    }

    /// Appends a null.
    pub(crate) fn append_null(&mut self) {
        match &mut self.values {
            Values::Boolean(values) => values.append(false),
            Values::Int8(values) => values.push(0),
            Values::Int16(values) => values.push(0),
            Values::Int32(values) | Values::Date(values) => values.push(0),
            Values::Int64(values) | Values::Timestamp { values, .. } => values.push(0),
            Values::Float32(values) => values.push(0.0),
            Values::Float64(values) => values.push(0.0),
            Values::Decimal { values, .. } => values.push(0),
            Values::Bytes { ends, bytes, .. } => ends.push(bytes.len() as i32),
            Values::Struct { children, .. } => children.iter_mut().for_each(Self::append_null),
            Values::List { ends, item } => ends.push(item.len() as i32),
            Values::Map { ends, value, .. } => ends.push(value.len() as i32),
        }
        self.valid.append(false);
    }

    /// Appends the end of a list or map whose items were just appended.
    pub(crate) fn close_items(&mut self) {
        match &mut self.values {
            Values::List { ends, item } => ends.push(item.len() as i32),
            Values::Map { ends, value, .. } => ends.push(value.len() as i32),
            _ => unreachable!("only lists and maps have items"),
        }
        self.valid.append(true);
    }

    /// Appends text or binary.
    #[inline]
    pub(crate) fn append_bytes(&mut self, value: &[u8]) {
        let Values::Bytes { ends, bytes, .. } = &mut self.values else { unreachable!("the column holds bytes") };
        bytes.extend_from_slice(value);
        ends.push(bytes.len() as i32);
        self.valid.append(true);
    }

    /// Takes back all rows from this one on, also rows of children that were begun and not finished.
    pub(crate) fn truncate(&mut self, rows: usize) {
        if self.valid.len() > rows {
            self.valid.truncate(rows);
        }
        match &mut self.values {
            Values::Boolean(values) => {
                if values.len() > rows {
                    values.truncate(rows);
                }
            }
            Values::Int8(values) => values.truncate(rows),
            Values::Int16(values) => values.truncate(rows),
            Values::Int32(values) | Values::Date(values) => values.truncate(rows),
            Values::Int64(values) | Values::Timestamp { values, .. } => values.truncate(rows),
            Values::Float32(values) => values.truncate(rows),
            Values::Float64(values) => values.truncate(rows),
            Values::Decimal { values, .. } => values.truncate(rows),
            Values::Bytes { ends, bytes, .. } => {
                ends.truncate(rows);
                bytes.truncate(ends.last().map_or(0, |end| *end as usize));
            }
            Values::Struct { children, .. } => children.iter_mut().for_each(|child| child.truncate(rows)),
            Values::List { ends, item } => {
                ends.truncate(rows);
                item.truncate(ends.last().map_or(0, |end| *end as usize));
            }
            Values::Map { ends, key, value } => {
                ends.truncate(rows);
                let items = ends.last().map_or(0, |end| *end as usize);
                key.truncate(items);
                value.truncate(items);
            }
        }
    }

    /// The rows so far as an array of the column's type; the column is empty again.
    pub(crate) fn finish(&mut self) -> Result<ArrayRef> {
        let rows = self.valid.len();
        let nulls = Some(NullBuffer::new(self.valid.finish())).filter(|nulls| nulls.null_count() > 0);
        let array: ArrayRef = match &mut self.values {
            Values::Boolean(values) => Arc::new(BooleanArray::new(values.finish(), nulls)),
            Values::Int8(values) => primitive::<Int8Type>(values, nulls)?,
            Values::Int16(values) => primitive::<Int16Type>(values, nulls)?,
            Values::Int32(values) => primitive::<Int32Type>(values, nulls)?,
            Values::Int64(values) => primitive::<Int64Type>(values, nulls)?,
            Values::Float32(values) => primitive::<Float32Type>(values, nulls)?,
            Values::Float64(values) => primitive::<Float64Type>(values, nulls)?,
            Values::Decimal { values, precision, scale } => Arc::new(
                Decimal128Array::try_new(ScalarBuffer::from(std::mem::take(values)), nulls)?
                    .with_precision_and_scale(*precision, *scale)?,
            ),
            Values::Date(values) => primitive::<Date32Type>(values, nulls)?,
            Values::Timestamp { values, .. } => {
                let times = PrimitiveArray::<TimestampMicrosecondType>::try_new(
                    ScalarBuffer::from(std::mem::take(values)),
                    nulls,
                )?;
                match &self.data_type {
                    DataType::Timestamp(_, Some(zone)) => Arc::new(times.with_timezone(Arc::clone(zone))),
                    _ => Arc::new(times),
                }
            }
            Values::Bytes { ends, bytes, is_text } => {
                let offsets = offsets(ends);
                let bytes = Buffer::from_vec(std::mem::take(bytes));
                if *is_text {
                    Arc::new(StringArray::try_new(offsets, bytes, nulls)?)
                } else {
                    Arc::new(BinaryArray::try_new(offsets, bytes, nulls)?)
                }
            }
            Values::Struct { children, .. } => {
                let DataType::Struct(fields) = &self.data_type else { unreachable!("made from a struct type") };
                let arrays = children.iter_mut().map(Self::finish).collect::<Result<Vec<_>>>()?;
                Arc::new(StructArray::try_new_with_length(fields.clone(), arrays, nulls, rows)?)
            }
            Values::List { ends, item } => {
                let DataType::List(field) = &self.data_type else { unreachable!("made from a list type") };
                Arc::new(ListArray::try_new(Arc::clone(field), offsets(ends), item.finish()?, nulls)?)
            }
            Values::Map { ends, key, value } => {
                let DataType::Map(field, sorted) = &self.data_type else { unreachable!("made from a map type") };
                let DataType::Struct(pair) = field.data_type() else { unreachable!("a map's entries are structs") };
                let entries = StructArray::try_new(pair.clone(), vec![key.finish()?, value.finish()?], None)?;
                Arc::new(MapArray::try_new(Arc::clone(field), offsets(ends), entries, nulls, *sorted)?)
            }
        };
        // Text is gathered as `Utf8` and times in microseconds, whatever the column's own flavour is.
        if *array.data_type() == self.data_type { Ok(array) } else { Ok(cast(&array, &self.data_type)?) }
    }
}

fn primitive<T: ArrowPrimitiveType>(values: &mut Vec<T::Native>, nulls: Option<NullBuffer>) -> Result<ArrayRef> {
    Ok(Arc::new(PrimitiveArray::<T>::try_new(ScalarBuffer::from(std::mem::take(values)), nulls)?))
}

fn offsets(ends: &mut Vec<i32>) -> OffsetBuffer<i32> {
    let mut offsets = Vec::with_capacity(ends.len() + 1);
    offsets.push(0);
    offsets.append(ends);
    OffsetBuffer::new(ScalarBuffer::from(offsets))
}

/// Whether the type is one of Arrow's three text types.
pub(crate) fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

fn unsupported(data_type: &DataType) -> Error {
    Error::analysis_class(
        "UNSUPPORTED_DATA_TYPE_FOR_DATASOURCE",
        format!(
            "No reader of text files supports the type {}. Read the column as STRING and convert it.",
            quoted_type_name(data_type)
        ),
    )
}

/// The same type with every field nullable, as Spark's file sources force it.
pub(crate) fn nullable(field: &FieldRef) -> FieldRef {
    let data_type = match field.data_type() {
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(nullable).collect::<Fields>()),
        DataType::List(item) => DataType::List(nullable(item)),
        DataType::Map(entries, sorted) => match entries.data_type() {
            DataType::Struct(pair) if pair.len() == 2 => {
                let pair = DataType::Struct(Fields::from(vec![Arc::clone(&pair[0]), nullable(&pair[1])]));
                DataType::Map(Arc::new(Field::new(entries.name(), pair, false)), *sorted)
            }
            _ => field.data_type().clone(),
        },
        // Spark has microseconds only.
        DataType::Timestamp(_, zone) => DataType::Timestamp(TimeUnit::Microsecond, zone.clone()),
        other => other.clone(),
    };
    Arc::new(Field::new(field.name(), data_type, true).with_metadata(field.metadata().clone()))
}
