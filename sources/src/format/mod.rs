//! Bytes of files become batches: `file -> pieces -> lines -> decoder -> rows`, and Parquet by row groups.
//!
//! | file | idea |
//! |---|---|
//! | [`options`] | the reader options of each format, checked once |
//! | [`lines`] | a piece of a file, cut at line ends |
//! | [`json`], [`csv`], [`text`] | one decoder each, fed line by line |
//! | [`parquet`] | row groups, adapted to the schema asked for |
//! | [`rows`], [`column`] | rows under construction; the parse modes |
//! | [`time`], [`pattern`], [`number`] | texts become values |
//!
//! Absent from here: which files are read and when (`file/`), partition columns, and offsets.

use std::fmt::{self, Debug};
use std::sync::Arc;

use arrow::array::RecordBatch;
use wavetank_engine::Result;

pub(crate) mod column;
pub(crate) mod csv;
pub(crate) mod json;
pub(crate) mod lines;
pub(crate) mod number;
pub(crate) mod options;
pub(crate) mod parquet;
pub(crate) mod pattern;
pub(crate) mod reader;
pub(crate) mod rows;
pub(crate) mod text;
pub(crate) mod time;

#[cfg(test)]
pub(crate) mod facts;

/// Where a record stands, for the error that names it.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// The file's URI.
    pub(crate) file: Arc<str>,
    /// Which line of the file it is, counted from 1, when the file is read from its start.
    pub(crate) line: Option<u64>,
    /// At which byte of the (uncompressed) file it starts.
    pub(crate) byte: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "file {}, line {line}", self.file),
            None => write!(f, "file {}, at byte {}", self.file, self.byte),
        }
    }
}

/// Turns lines into batches.
pub(crate) trait LineDecoder: Debug + Send {
    /// A new file begins; `is_at_start` is false for a piece from the middle of one.
    fn begin_file(&mut self, is_at_start: bool) {
        let _ = is_at_start;
    }

    /// Takes one line, without its end.
    fn line(&mut self, line: &[u8], place: &Place) -> Result<()>;

    /// Whether the rows so far should become a batch.
    fn is_full(&self) -> bool;

    /// Whether there are no rows.
    fn is_empty(&self) -> bool;

    /// The rows so far as a batch; afterwards there are none.
    fn finish(&mut self) -> Result<RecordBatch>;
}
