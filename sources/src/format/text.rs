//! The text format: a line is a row (or, with `wholetext`, a file is).

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use wavetank_engine::Result;

use crate::format::options::TextOptions;
use crate::format::rows::Rows;
use crate::format::{LineDecoder, Place};

/// Turns lines into rows of the one column `value` (or of none, when only their number is wanted).
#[derive(Debug)]
pub(crate) struct TextDecoder {
    rows: Rows,
}

impl TextDecoder {
    pub(crate) fn new(schema: SchemaRef) -> Result<Self> {
        Ok(Self { rows: Rows::new(schema, &TextOptions::default())? })
    }
}

impl LineDecoder for TextDecoder {
    fn line(&mut self, line: &[u8], _: &Place) -> Result<()> {
        for column in self.rows.columns() {
            match std::str::from_utf8(line) {
                Ok(text) => column.append_bytes(text.as_bytes()),
                Err(_) => column.append_bytes(String::from_utf8_lossy(line).as_bytes()),
            }
        }
        self.rows.close_row();
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.rows.is_full()
    }

    fn is_empty(&self) -> bool {
        self.rows.len() == 0
    }

    fn finish(&mut self) -> Result<RecordBatch> {
        self.rows.finish()
    }
}
