//! JSON lines: `line -> swift (strict and fitting) -> columns`, else `line -> careful tree -> Spark's rules -> columns`.
//!
//! One record per line; with `multiLine` the caller hands in the whole file as one. Absent from here: where lines come
//! from and where they end.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use wavetank_engine::Result;
use wavetank_engine::options::Options;

use crate::format::column::{Column, Names};
use crate::format::options::TextOptions;
use crate::format::rows::{BadRecord, Rows};
use crate::format::{LineDecoder, Place};

mod fit;
mod swift;
mod token;

#[cfg(test)]
pub(crate) mod tests;

use fit::Rules;
use swift::Swift;
pub(crate) use token::Grammar;
use token::{Node, Value};

/// Turns JSON records into batches.
#[derive(Debug)]
pub(crate) struct JsonDecoder {
    options: Arc<TextOptions>,
    names: Names,
    rows: Rows,
}

impl JsonDecoder {
    /// A decoder for these columns, in this order.
    pub(crate) fn new(schema: SchemaRef, options: Arc<TextOptions>) -> Result<Self> {
        let rows = Rows::new(schema, &options)?;
        Ok(Self { names: Names::new(rows.data_names()), rows, options })
    }

    fn careful(&mut self, text: &str, place: &Place) -> Result<()> {
        let from = self.rows.len();
        let bad = match token::parse(text, &self.options.grammar) {
            Ok(None) => return Ok(()),
            Ok(Some(node)) => self.append_root(&node),
            Err(error) => Some(format!("{} at character {}", error.what, error.at + 1)),
        };
        match bad {
            None => Ok(()),
            Some(reason) => self.rows.bad_record(from, BadRecord { text, reason, place }),
        }
    }

    /// Appends the rows of a record; gives the reason when something of it is missing.
    fn append_root(&mut self, node: &Node<'_>) -> Option<String> {
        let from = self.rows.len();
        let objects = match &node.value {
            Value::Object(_) => std::slice::from_ref(node),
            Value::Array(nodes) => nodes.as_slice(),
            _ => return Some("it is neither an object nor an array of objects".into()),
        };
        let rules = Rules { times: &self.options.times, non_numeric_numbers: self.options.grammar.non_numeric_numbers };
        let mut bad = None;
        for node in objects {
            let Value::Object(fields) = &node.value else {
                self.rows.truncate(from);
                return Some("an item of its array is not an object".into());
            };
            let (names, row) = (&self.names, self.rows.len());
            let reason = rules.append_fields(fields, |name| names.find(name.as_bytes()), self.rows.columns(), row);
            self.rows.close_row();
            bad = bad.or(reason);
        }
        bad
    }
}

/// The rows of a text of JSON lines, in one batch, as the JSON file source reads them under these reader options.
pub fn parse_json_lines(schema: &SchemaRef, lines: &str, options: &Options) -> Result<RecordBatch> {
    let mut decoder = JsonDecoder::new(Arc::clone(schema), Arc::new(TextOptions::json(options)?))?;
    let mut place = Place { file: "(text)".into(), line: Some(0), byte: 0 };
    for line in lines.lines() {
        place.line = place.line.map(|line| line + 1);
        decoder.line(line.as_bytes(), &place)?;
    }
    decoder.finish()
}

impl LineDecoder for JsonDecoder {
    fn line(&mut self, line: &[u8], place: &Place) -> Result<()> {
        let text = String::from_utf8_lossy(line);
        let mut swift = Swift::new(&text, &self.options.times);
        if swift.is_blank() {
            return Ok(());
        }
        self.rows.take_record(line.len(), place)?;
        let row = self.rows.len();
        let columns: &mut [Column] = self.rows.columns();
        if swift.object(&mut self.names, columns, row).is_some() {
            self.rows.close_row();
            return Ok(());
        }
        self.rows.truncate(row);
        self.careful(&text, place)
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
