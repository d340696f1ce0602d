//! JSON files: one object a line.

use arrow::array::RecordBatch;
use wavetank_engine::options::Options;
use wavetank_engine::{Error, Result};

use super::compression::{Codec, Compressor};
use super::format::{FileEncoder, Kind, check_encoding_and_zone, formats, refuse_unknown};
use crate::values::json::{JsonStyle, object_encoder};

const OPTIONS: [&str; 8] = [
    "ignoreNullFields",
    "timestampFormat",
    "timestampNTZFormat",
    "dateFormat",
    "lineSep",
    "encoding",
    "charset",
    "timeZone",
];

/// The options of JSON files.
#[derive(Clone, Debug)]
pub(crate) struct JsonFormat {
    pub(crate) codec: Codec,
    style: JsonStyle,
    line_end: Vec<u8>,
}

impl JsonFormat {
    pub(crate) fn of(options: &Options) -> Result<Self> {
        refuse_unknown(Kind::Json, options, &OPTIONS)?;
        check_encoding_and_zone(options)?;
        let style =
            JsonStyle { ignore_null_fields: options.boolean("ignoreNullFields", true)?, formats: formats(options)? };
        Ok(Self { codec: Codec::of(options)?, style, line_end: line_end(options)? })
    }

    pub(crate) fn start(&self) -> Box<dyn FileEncoder> {
        Box::new(JsonEncoder { format: self.clone(), out: Compressor::new(self.codec) })
    }
}

/// The option `lineSep`.
pub(crate) fn line_end(options: &Options) -> Result<Vec<u8>> {
    match options.get("lineSep") {
        Some("") => Err(Error::analysis_class(
            "INVALID_LINE_SEPARATOR.EMPTY",
            "Invalid line separator configuration. The 'lineSep' option cannot be an empty string.",
        )),
        text => Ok(text.unwrap_or("\n").as_bytes().to_vec()),
    }
}

struct JsonEncoder {
    format: JsonFormat,
    out: Compressor,
}

impl FileEncoder for JsonEncoder {
    fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        let encode = object_encoder(rows.schema_ref().fields(), rows.columns(), &self.format.style)?;
        let mut bytes = Vec::with_capacity(rows.num_rows() * 16);
        for row in 0..rows.num_rows() {
            encode(row, &mut bytes);
            bytes.extend_from_slice(&self.format.line_end);
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
