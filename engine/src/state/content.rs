//! The sections of a state file: entries, or keys, as Arrow IPC streams of columns in file form.
//!
//! A column is named by its place (`k0`, `k1`, .. `v0`, ..), `expiry_us` follows when an entry of the section expires.
//! What the columns are called in the query is in the operator's metadata; here it must not matter.

use std::io::Cursor;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::{IpcWriteOptions, StreamWriter};
use arrow::ipc::{CompressionType, MetadataVersion};

use crate::error::Result;

/// Sections of at least this many rows are compressed (LZ4); smaller ones would not get smaller.
const COMPRESS_FROM_ROWS: usize = 16;
/// Bytes that buffers in a section are padded to: what IPC asks for at least. Small deltas are mostly padding otherwise.
const ALIGNMENT: usize = 8;

/// Some rows of a section.
#[derive(Clone, Debug)]
pub(super) struct Columns {
    pub(super) rows: usize,
    pub(super) keys: Vec<ArrayRef>,
    /// No columns in a section of removed keys.
    pub(super) values: Vec<ArrayRef>,
    /// `None` when no entry of the section expires.
    pub(super) expiry: Option<Int64Array>,
}

/// The types of a section.
#[derive(Clone, Copy, Debug)]
pub(super) struct SectionTypes<'a> {
    pub(super) keys: &'a [DataType],
    pub(super) values: &'a [DataType],
}

impl SectionTypes<'_> {
    fn schema(&self, with_expiry: bool) -> SchemaRef {
        let columns = |prefix: &'static str, types: &[DataType]| -> Vec<Field> {
            let field =
                |(at, data_type): (usize, &DataType)| Field::new(format!("{prefix}{at}"), data_type.clone(), true);
            types.iter().enumerate().map(field).collect()
        };
        let mut fields = columns("k", self.keys);
        fields.extend(columns("v", self.values));
        fields.extend(with_expiry.then(|| Field::new("expiry_us", DataType::Int64, true)));
        Arc::new(Schema::new(fields))
    }
}

/// The bytes of a section of `rows` rows that come in chunks; no bytes when there are no rows.
pub(super) fn write_section(
    types: SectionTypes<'_>,
    rows: usize,
    with_expiry: bool,
    chunks: impl Iterator<Item = Result<Columns>>,
) -> Result<Vec<u8>> {
    if rows == 0 {
        return Ok(Vec::new());
    }
    let schema = types.schema(with_expiry);
    let compression = (rows >= COMPRESS_FROM_ROWS).then_some(CompressionType::LZ4_FRAME);
    let options = IpcWriteOptions::try_new(ALIGNMENT, false, MetadataVersion::V5)?.try_with_compression(compression)?;
    let mut writer = StreamWriter::try_new_with_options(Vec::new(), &schema, options)?;
    for chunk in chunks {
        let Columns { rows, keys, values, expiry } = chunk?;
        let mut columns = keys;
        columns.extend(values);
        if with_expiry {
            columns.push(Arc::new(expiry.unwrap_or_else(|| Int64Array::new_null(rows))));
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        writer.write(&RecordBatch::try_new_with_options(Arc::clone(&schema), columns, &options)?)?;
    }
    Ok(writer.into_inner()?)
}

/// Hands the rows of a section to `take`, chunk by chunk; answers how many there were.
pub(super) fn read_section(
    types: SectionTypes<'_>,
    section: &[u8],
    mut take: impl FnMut(Columns) -> Result<()>,
) -> Result<u64> {
    if section.is_empty() {
        return Ok(0);
    }
    let reader = opened(section)?;
    let with_expiry = reader.schema().fields().len() == types.keys.len() + types.values.len() + 1;
    let expected = types.schema(with_expiry);
    if reader.schema() != expected {
        return Err(ArrowError::IpcError("its columns are not those that its header tells".into()).into());
    }
    let mut rows = 0;
    for batch in reader {
        let batch = batch?;
        rows += batch.num_rows() as u64;
        let (keys, rest) = batch.columns().split_at(types.keys.len());
        let (values, expiry) = rest.split_at(types.values.len());
        take(Columns {
            rows: batch.num_rows(),
            keys: keys.to_vec(),
            values: values.to_vec(),
            expiry: expiry.first().map(|column| column.as_primitive::<Int64Type>().clone()),
        })?;
    }
    Ok(rows)
}

/// Arrow's reader panics on some schemas that are none, instead of refusing them.
fn opened(section: &[u8]) -> Result<StreamReader<Cursor<&[u8]>>> {
    let opened = std::panic::catch_unwind(|| StreamReader::try_new(Cursor::new(section), None));
    let no_schema = |_| ArrowError::IpcError("its columns cannot be told".into());
    Ok(opened.map_err(no_schema)??)
}

/// The expiry of a row.
pub(super) fn expiry_at(expiry: Option<&Int64Array>, row: usize) -> Option<i64> {
    expiry.filter(|column| column.is_valid(row)).map(|column| column.value(row))
}
