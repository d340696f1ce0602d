//! Values as text: `column -> an encoder, made once per batch -> the bytes of one row after another`.
//!
//! [`number`] and [`time`] know how Spark (and Java below it) spells a value, [`pattern`] the user's own date formats,
//! [`plain`] puts values into console cells, CSV fields and partition folders, [`json`] into JSON, and [`type_name`]
//! names a column's type in messages. Absent from here: quoting and layout, which belong to each format.
//!
//! Time zones: text is always written in UTC, the zone that the engine's sessions run in.

use arrow::array::{Array, ArrayRef};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use wavetank_engine::Result;

pub(crate) mod json;
pub(crate) mod number;
pub(crate) mod pattern;
pub(crate) mod plain;
pub(crate) mod time;
pub(crate) mod type_name;

/// Appends the text of the value in this row.
pub(crate) type Encoder<'a> = Box<dyn Fn(usize, &mut Vec<u8>) + 'a>;

/// Brings the many Arrow layouts of the same values down to the few that the encoders read.
pub(crate) fn plain_layout(array: &ArrayRef) -> Result<ArrayRef> {
    let simpler = match array.data_type() {
        DataType::Dictionary(_, values) => values.as_ref().clone(),
        DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
        DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => DataType::Binary,
        DataType::FixedSizeList(item, _) | DataType::LargeList(item) => DataType::List(item.clone()),
        DataType::Decimal32(precision, scale) | DataType::Decimal64(precision, scale) => {
            DataType::Decimal128(*precision, *scale)
        }
        DataType::Float16 => DataType::Float32,
        DataType::Date64 => DataType::Date32,
        _ => return Ok(array.clone()),
    };
    plain_layout(&cast(array, &simpler)?)
}

/// The rows of a batch's columns without null slots, for readers of one column.
pub(crate) fn nulls_of(array: &ArrayRef) -> Option<arrow::buffer::NullBuffer> {
    array.logical_nulls().filter(|nulls| nulls.null_count() > 0)
}
