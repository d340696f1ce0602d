//! Text files: the one string column, a line a row; null is an empty line.

use arrow::array::{AsArray, RecordBatch};
use wavetank_engine::Result;
use wavetank_engine::options::Options;

use super::compression::{Codec, Compressor};
use super::format::{FileEncoder, Kind, refuse_unknown};
use super::json::line_end;
use crate::values::plain_layout;

/// The options of text files.
#[derive(Clone, Debug)]
pub(crate) struct TextFormat {
    pub(crate) codec: Codec,
    line_end: Vec<u8>,
}

impl TextFormat {
    pub(crate) fn of(options: &Options) -> Result<Self> {
        refuse_unknown(Kind::Text, options, &["lineSep"])?;
        Ok(Self { codec: Codec::of(options)?, line_end: line_end(options)? })
    }

    pub(crate) fn start(&self) -> Box<dyn FileEncoder> {
        Box::new(TextEncoder { line_end: self.line_end.clone(), out: Compressor::new(self.codec) })
    }
}

struct TextEncoder {
    line_end: Vec<u8>,
    out: Compressor,
}

impl FileEncoder for TextEncoder {
    fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        let column = plain_layout(rows.column(0))?;
        let mut bytes = Vec::with_capacity(rows.num_rows() * 16);
        for line in column.as_string::<i32>() {
            bytes.extend_from_slice(line.unwrap_or_default().as_bytes());
            bytes.extend_from_slice(&self.line_end);
        }
        self.out.push(bytes)
    }

    fn take(&mut self) -> Vec<u8> {
        self.out.take()
    }

    fn finish(self: Box<Self>) -> Result<Vec<u8>> {
        self.out.finish()
    }
}
