//! Files as a source: `path -> listing -> new files -> source log -> offset`, `offsets -> files -> pieces -> splits`.
//!
//! | file | idea |
//! |---|---|
//! | `provider` | what the session registers; a definition becomes columns, a stream or a table |
//! | `options` | Spark's options of file sources |
//! | `listing`, `glob` | what is there now |
//! | `partitions` | folders named `k=v` become columns |
//! | `seen` | which files are new |
//! | `source` | the running source: offsets, limits, the log |
//! | `clean` | what is done with files that were read |
//! | `scan` | files cut into splits, splits read |
//! | `table` | the same files as a static table |
//!
//! Absent from here: how bytes become rows (`format/`) and how the log is written (`wavetank_engine::checkpoint`).

use std::fmt;

mod clean;
pub(crate) mod glob;
mod listing;
pub(crate) mod options;
mod partitions;
mod provider;
mod scan;
mod seen;
mod source;
mod table;

#[cfg(test)]
mod tests;

pub use provider::FileProvider;

/// The formats that file sources read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FileFormat {
    /// Newline-delimited JSON (or, with `multiLine`, a file that is one value).
    Json,
    /// Comma-separated values.
    Csv,
    /// A line is a row.
    Text,
    /// Apache Parquet.
    Parquet,
}

impl FileFormat {
    /// All formats.
    pub const ALL: [Self; 4] = [Self::Json, Self::Csv, Self::Text, Self::Parquet];

    /// The name after `USING` and in `format(..)`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Csv => "csv",
            Self::Text => "text",
            Self::Parquet => "parquet",
        }
    }
}

impl fmt::Display for FileFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
