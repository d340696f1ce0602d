//! The rows of a text format under construction, and what becomes of a bad record: Spark's parse modes.

use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use wavetank_engine::{Error, Result};

use crate::blocks::BATCH_ROWS;
use crate::format::Place;
use crate::format::column::{Column, is_text};
use crate::format::options::{Mode, TextOptions};

/// A batch ends early when the records in it had so many bytes, far from the 2 GiB at which offsets would overflow.
const MAX_BATCH_BYTES: usize = 64 << 20;
/// The longest record, and the most that the texts of one record's bad rows may take together.
const MAX_RECORD_BYTES: usize = 512 << 20;

/// Columns in the order of the schema, of which one may be the column for corrupt records.
#[derive(Debug)]
pub(crate) struct Rows {
    schema: SchemaRef,
    mode: Mode,
    /// The columns that come from the data.
    data: Vec<Column>,
    /// The column for corrupt records and its place in the schema.
    corrupt: Option<(usize, Column)>,
    rows_count: usize,
    /// Bytes of the records that the rows came from.
    record_bytes: usize,
}

/// A record that does not fit.
pub(crate) struct BadRecord<'a> {
    pub(crate) text: &'a str,
    pub(crate) reason: String,
    pub(crate) place: &'a Place,
}

impl Rows {
    /// No rows yet of these columns.
    pub(crate) fn new(schema: SchemaRef, options: &TextOptions) -> Result<Self> {
        let mut data = Vec::with_capacity(schema.fields().len());
        let mut corrupt = None;
        for (position, field) in schema.fields().iter().enumerate() {
            let column = Column::new(field.data_type())?;
            if *field.name() == options.corrupt_column && is_text(field.data_type()) && corrupt.is_none() {
                corrupt = Some((position, column));
            } else {
                data.push(column);
            }
        }
        let mode = options.mode;
        Ok(Self { schema, mode, data, corrupt, rows_count: 0, record_bytes: 0 })
    }

    /// The names of the columns that come from the data.
    pub(crate) fn data_names(&self) -> impl Iterator<Item = &str> {
        let corrupt = self.corrupt.as_ref().map(|(position, _)| *position);
        let fields = self.schema.fields().iter().enumerate().filter(move |(position, _)| Some(*position) != corrupt);
        fields.map(|(_, field)| field.name().as_str())
    }

    /// The columns that come from the data.
    #[inline]
    pub(crate) fn columns(&mut self) -> &mut [Column] {
        &mut self.data
    }

    /// Rows so far.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.rows_count
    }

    /// The data columns have one row more: a good one.
    #[inline]
    pub(crate) fn close_row(&mut self) {
        self.rows_count += 1;
        if let Some((_, column)) = &mut self.corrupt {
            column.append_null();
        }
    }

    /// A record of so many bytes is about to become rows.
    #[inline]
    pub(crate) fn take_record(&mut self, bytes_count: usize, place: &Place) -> Result<()> {
        self.record_bytes += bytes_count;
        if bytes_count > MAX_RECORD_BYTES { Err(too_large(bytes_count, place)) } else { Ok(()) }
    }

    /// Takes back all rows from this one on.
    pub(crate) fn truncate(&mut self, rows: usize) {
        self.data.iter_mut().for_each(|column| column.truncate(rows));
        if let Some((_, column)) = &mut self.corrupt {
            column.truncate(rows);
        }
        self.rows_count = rows;
    }

    /// The record whose rows, as far as there are any, begin at `from` is bad: does what the mode says.
    pub(crate) fn bad_record(&mut self, from: usize, record: BadRecord<'_>) -> Result<()> {
        match self.mode {
            Mode::DropMalformed => self.truncate(from),
            Mode::FailFast => return Err(malformed(&record)),
            Mode::Permissive => {
                if self.rows_count == from {
                    self.truncate(from);
                    self.data.iter_mut().for_each(Column::append_null);
                    self.close_row();
                }
                if let Some((_, column)) = &mut self.corrupt {
                    column.truncate(from);
                    // Each of the record's rows gets all of its text.
                    let text_bytes = record.text.len().saturating_mul(self.rows_count - from);
                    if text_bytes > MAX_RECORD_BYTES {
                        return Err(too_large(text_bytes, record.place));
                    }
                    self.record_bytes += text_bytes;
                    for _ in from..self.rows_count {
                        column.append_bytes(record.text.as_bytes());
                    }
                }
            }
        }
        Ok(())
    }

    pub(crate) fn is_full(&self) -> bool {
        self.rows_count >= BATCH_ROWS || self.record_bytes >= MAX_BATCH_BYTES
    }

    /// The rows so far; afterwards there are none.
    pub(crate) fn finish(&mut self) -> Result<RecordBatch> {
        let mut arrays = self.data.iter_mut().map(Column::finish).collect::<Result<Vec<_>>>()?;
        if let Some((position, column)) = &mut self.corrupt {
            arrays.insert(*position, column.finish()?);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows_count));
        self.rows_count = 0;
        self.record_bytes = 0;
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.schema), arrays, &options)?)
    }
}

fn too_large(bytes_count: usize, place: &Place) -> Error {
    Error::Data {
        class: None,
        message: format!(
            "A record takes {bytes_count} bytes, more than the {MAX_RECORD_BYTES} that are possible ({place}). Is the \
             option lineSep right? Write shorter records."
        ),
    }
}

/// Mode `FAILFAST`: the query fails.
fn malformed(record: &BadRecord<'_>) -> Error {
    let shown: String = record.text.trim_end_matches(['\n', '\r']).chars().take(200).collect();
    let dots = if shown.len() < record.text.trim_end_matches(['\n', '\r']).len() { "..." } else { "" };
    Error::Data {
        class: Some("MALFORMED_RECORD_IN_PARSING.WITHOUT_SUGGESTION".into()),
        message: format!(
            "Malformed records are detected in record parsing: {shown}{dots} ({}: {}). Parse Mode: FAILFAST. To \
             process malformed records as null result, try setting the option 'mode' as 'PERMISSIVE'.",
            record.place, record.reason
        ),
    }
}
