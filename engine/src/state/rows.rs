//! Columns to row bytes and back: arrow's row format, in which equal values have equal bytes that also sort like them.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, new_null_array};
use arrow::datatypes::{DataType, Fields};
use arrow::row::{RowConverter, RowParser, Rows, SortField};

use crate::error::{Error, Result};
use crate::state::index::{Prefix, hash_bytes};
use crate::state::schema::{StateSchema, conform, file_type, hot_type};
use crate::state::table::Key;

/// Turns the key columns (or the value columns) of a store into row bytes and back.
#[derive(Debug)]
pub(super) struct RowCodec {
    declared: Vec<DataType>,
    hot: Form,
    file: Form,
    null_row: Vec<u8>,
}

/// A converter for one form of the types, see [`crate::state::schema`].
#[derive(Debug)]
struct Form {
    types: Vec<DataType>,
    converter: RowConverter,
    parser: RowParser,
}

impl Form {
    fn new(types: Vec<DataType>) -> Result<Self> {
        let converter = RowConverter::new(types.iter().cloned().map(SortField::new).collect())?;
        let parser = converter.parser();
        Ok(Self { types, converter, parser })
    }

    fn decode<'a>(&self, rows: impl Iterator<Item = &'a [u8]>) -> Result<Vec<ArrayRef>> {
        let rows: Vec<&[u8]> = rows.collect();
        Ok(self.converter.convert_rows(rows.iter().map(|row| self.parser.parse(row)))?)
    }
}

/// The row bytes of a batch. A batch without columns has rows, too: empty ones.
#[derive(Debug)]
pub(super) enum EncodedRows {
    Rows(Rows),
    NoColumns(usize),
}

impl EncodedRows {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Rows(rows) => rows.num_rows(),
            Self::NoColumns(count) => *count,
        }
    }

    pub(super) fn row(&self, at: usize) -> &[u8] {
        match self {
            Self::Rows(rows) => rows.row(at).data(),
            Self::NoColumns(_) => &[],
        }
    }
}

impl RowCodec {
    pub(super) fn new(fields: &Fields) -> Result<Self> {
        let declared: Vec<DataType> = fields.iter().map(|field| field.data_type().clone()).collect();
        let hot = Form::new(declared.iter().map(hot_type).collect())?;
        let file = Form::new(declared.iter().map(file_type).collect())?;
        let nulls: Vec<ArrayRef> = hot.types.iter().map(|data_type| new_null_array(data_type, 1)).collect();
        let null_row =
            if nulls.is_empty() { Vec::new() } else { hot.converter.convert_columns(&nulls)?.row(0).data().to_vec() };
        Ok(Self { declared, hot, file, null_row })
    }

    /// How many columns there are.
    pub(super) fn width(&self) -> usize {
        self.declared.len()
    }

    /// The bytes of a row of nulls.
    pub(super) fn null_row(&self) -> &[u8] {
        &self.null_row
    }

    /// The types that the columns have in files.
    pub(super) fn file_types(&self) -> &[DataType] {
        &self.file.types
    }

    /// The row bytes of columns of the declared types. `rows` is the number of rows when there are no columns.
    pub(super) fn encode(&self, columns: &[ArrayRef], rows: usize) -> Result<EncodedRows> {
        self.encode_as(&self.hot, columns, rows)
    }

    /// The row bytes of columns of the file types.
    pub(super) fn encode_file(&self, columns: &[ArrayRef], rows: usize) -> Result<EncodedRows> {
        self.encode_as(&self.file, columns, rows)
    }

    fn encode_as(&self, form: &Form, columns: &[ArrayRef], rows: usize) -> Result<EncodedRows> {
        if columns.len() != form.types.len() {
            let (got, want) = (columns.len(), form.types.len());
            return Err(Error::internal(format!("{got} state columns were given where {want} were declared")));
        }
        if columns.is_empty() {
            return Ok(EncodedRows::NoColumns(rows));
        }
        let columns = (columns.iter().zip(&form.types))
            .map(|(column, want)| match column.data_type().equals_datatype(want) {
                true => Ok(Arc::clone(column)),
                false => conform(column, want),
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(EncodedRows::Rows(form.converter.convert_columns(&columns)?))
    }

    /// Columns of the declared types from rows that [`RowCodec::encode`] or [`RowCodec::encode_file`] made.
    pub(super) fn decode<'a>(&self, rows: impl Iterator<Item = &'a [u8]>) -> Result<Vec<ArrayRef>> {
        if self.declared.is_empty() {
            return Ok(Vec::new());
        }
        let columns = self.hot.decode(rows)?;
        columns.iter().zip(&self.declared).map(|(column, want)| conform(column, want)).collect()
    }

    /// Columns of the file types from the same rows.
    pub(super) fn decode_file<'a>(&self, rows: impl Iterator<Item = &'a [u8]>) -> Result<Vec<ArrayRef>> {
        if self.declared.is_empty() {
            return Ok(Vec::new());
        }
        let columns = self.file.decode(rows)?;
        columns.iter().zip(&self.file.types).map(|(column, want)| conform(column, want)).collect()
    }
}

/// The codecs of a store: its key columns, its value columns and, with a prefix index, its first key columns.
#[derive(Debug)]
pub(super) struct Codecs {
    pub(super) keys: RowCodec,
    pub(super) values: RowCodec,
    pub(super) prefix: Option<RowCodec>,
}

/// Encoded keys, ready to be looked up.
#[derive(Debug)]
pub(super) struct Keys {
    rows: EncodedRows,
    prefixes: Option<EncodedRows>,
}

impl Keys {
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// The key of a row, with its hash.
    pub(super) fn key(&self, row: usize) -> Key<'_> {
        let bytes = self.rows.row(row);
        Key { hash: hash_bytes(bytes), bytes, prefix: self.prefixes.as_ref().map(|rows| prefix(rows, row)) }
    }
}

/// The prefix of a row, with its hash.
pub(super) fn prefix(rows: &EncodedRows, row: usize) -> Prefix<'_> {
    let bytes = rows.row(row);
    Prefix { hash: hash_bytes(bytes), bytes }
}

impl Codecs {
    /// Codecs of a store whose prefix index covers the first `prefix_columns` key columns (0: no index).
    pub(super) fn new(schema: &StateSchema, prefix_columns: usize) -> Result<Self> {
        let key_fields = schema.key.fields();
        if prefix_columns > key_fields.len() {
            let columns = key_fields.len();
            return Err(Error::internal(format!("a prefix of {prefix_columns} columns of a key of {columns}")));
        }
        let first = Fields::from(key_fields[..prefix_columns].to_vec());
        Ok(Self {
            keys: RowCodec::new(key_fields)?,
            values: RowCodec::new(schema.value.fields())?,
            prefix: (prefix_columns > 0).then(|| RowCodec::new(&first)).transpose()?,
        })
    }

    /// Keys in columns of the declared types; without key columns there is one key.
    pub(super) fn keys(&self, columns: &[ArrayRef]) -> Result<Keys> {
        let rows = self.keys.encode(columns, 1)?;
        let prefixes =
            self.prefix.as_ref().map(|codec| codec.encode(&columns[..codec.width()], rows.len())).transpose()?;
        Ok(Keys { rows, prefixes })
    }

    /// Keys in columns of the file types.
    pub(super) fn file_keys(&self, columns: &[ArrayRef], rows: usize) -> Result<Keys> {
        let rows = self.keys.encode_file(columns, rows)?;
        let prefixes =
            self.prefix.as_ref().map(|codec| codec.encode_file(&columns[..codec.width()], rows.len())).transpose()?;
        Ok(Keys { rows, prefixes })
    }
}

#[cfg(test)]
pub(super) mod tests;
