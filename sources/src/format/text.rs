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
    fn line(&mut self, line: &[u8], place: &Place) -> Result<()> {
        self.rows.take_record(line.len(), place)?;
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::{DataType, Field, Schema};

    use super::*;
    use crate::format::facts::{Fact, decode, differences, shown};

    #[test]
    fn spark_s_facts() {
        let facts: Vec<Fact> = serde_json::from_str(include_str!("facts/text.json")).unwrap();
        assert!(facts.len() > 10);
        for fact in facts {
            let options = fact.options("PERMISSIVE");
            let mut text = TextOptions::lines(&options).unwrap();
            text.whole_file = options.boolean("wholetext", false).unwrap();
            let schema = Arc::new(Schema::new(vec![Field::new("value", DataType::Utf8, true)]));
            let mut decoder = TextDecoder::new(schema).unwrap();
            let found = shown(&decode(&mut decoder, &fact.content, &text).unwrap());
            assert_eq!(differences(&fact.permissive, &found), None, "{}", fact.name);
        }
    }
}
