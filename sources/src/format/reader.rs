//! One reader for all formats: `format + options -> reader`, `reader + piece of a file -> batches`.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use wavetank_engine::options::Options;
use wavetank_engine::{Error, Result};

use crate::file::FileFormat;
use crate::format::LineDecoder;
use crate::format::column::{Column, is_text};
use crate::format::csv::{CsvDecoder, CsvOptions};
use crate::format::json::JsonDecoder;
use crate::format::lines::{Compression, FileBytes, LineReader};
use crate::format::options::TextOptions;
use crate::format::parquet::ParquetReader;
use crate::format::text::TextDecoder;

/// A format with its options, checked.
#[derive(Clone, Debug)]
pub(crate) enum FormatReader {
    Json(Arc<TextOptions>),
    Csv(Arc<CsvOptions>),
    Text(Arc<TextOptions>),
    Parquet,
}

impl FormatReader {
    /// A reader of files with these columns.
    pub(crate) fn new(format: FileFormat, options: &Options, columns: &SchemaRef) -> Result<Self> {
        let reader = match format {
            FileFormat::Json => Self::Json(Arc::new(TextOptions::json(options)?)),
            FileFormat::Csv => Self::Csv(Arc::new(CsvOptions::new(options)?)),
            FileFormat::Text => {
                let whole_file = options.boolean("wholetext", false)?;
                Self::Text(Arc::new(TextOptions { whole_file, ..TextOptions::lines(options)? }))
            }
            FileFormat::Parquet => Self::Parquet,
        };
        if let Self::Csv(_) = reader {
            CsvOptions::check_schema(columns)?;
        }
        if !matches!(reader, Self::Parquet) {
            columns.fields().iter().try_for_each(|field| Column::new(field.data_type()).map(|_| ()))?;
        }
        reader.check_corrupt_column(columns)?;
        Ok(reader)
    }

    fn text_options(&self) -> Option<&TextOptions> {
        match self {
            Self::Json(options) | Self::Text(options) => Some(options),
            Self::Csv(options) => Some(&options.text),
            Self::Parquet => None,
        }
    }

    /// The name of the column for corrupt records, where the format has one.
    fn corrupt_column(&self) -> Option<&str> {
        match self {
            Self::Json(_) | Self::Csv(_) => self.text_options().map(|options| options.corrupt_column.as_str()),
            Self::Text(_) | Self::Parquet => None,
        }
    }

    fn check_corrupt_column(&self, columns: &SchemaRef) -> Result<()> {
        let Some(name) = self.corrupt_column() else { return Ok(()) };
        match columns.fields().iter().find(|field| field.name() == name) {
            Some(field) if !is_text(field.data_type()) => Err(Error::analysis_class(
                "INVALID_CORRUPT_RECORD_TYPE",
                format!(
                    "The column `{name}` for corrupt records must have the nullable STRING type, but got {}. Declare \
                     it as STRING, or name another column with columnNameOfCorruptRecord.",
                    wavetank_engine::sql::types::quoted_type_name(field.data_type())
                ),
            )),
            _ => Ok(()),
        }
    }

    /// Refuses to read nothing but the column for corrupt records, as Spark does: without other columns no record is
    /// looked at closely enough to know that it is corrupt.
    pub(crate) fn check_projection(&self, wanted: &SchemaRef) -> Result<()> {
        match (wanted.fields().as_ref(), self.corrupt_column()) {
            ([only], Some(name)) if only.name() == name => Err(Error::analysis_class(
                "UNSUPPORTED_FEATURE.QUERY_ONLY_CORRUPT_RECORD_COLUMN",
                format!(
                    "The feature is not supported: Queries from raw JSON/CSV/XML files are disallowed when the \
                     referenced columns only include the internal corrupt record column (named `{name}`). Select \
                     another column of the files too."
                ),
            )),
            _ => Ok(()),
        }
    }

    /// Whether a file may be read in pieces.
    pub(crate) fn is_splittable(&self, file: &FileBytes) -> bool {
        match self.text_options() {
            None => true,
            Some(options) => {
                !options.whole_file
                    && options.line_separator.is_none()
                    && matches!(Compression::of(&file.location), Ok(Compression::None))
            }
        }
    }

    /// A decoder for the text formats, which is fed one piece after the other.
    pub(crate) fn decoder(&self, wanted: &SchemaRef, all: &SchemaRef) -> Result<Option<Box<dyn LineDecoder>>> {
        let wanted = Arc::clone(wanted);
        Ok(match self {
            Self::Json(options) => Some(Box::new(JsonDecoder::new(wanted, Arc::clone(options))?)),
            Self::Csv(options) => Some(Box::new(CsvDecoder::new(wanted, all, Arc::clone(options))?)),
            Self::Text(_) => Some(Box::new(TextDecoder::new(wanted)?)),
            Self::Parquet => None,
        })
    }

    /// Begins to read a piece of a file.
    pub(crate) async fn open(&self, file: FileBytes, range: Range<u64>, wanted: &SchemaRef) -> Result<PieceReader> {
        Ok(match self.text_options() {
            None => PieceReader::Parquet(Box::new(ParquetReader::open(file, range, Arc::clone(wanted)).await?)),
            Some(options) => {
                let separator = options.line_separator.as_deref();
                PieceReader::Lines(Box::new(LineReader::new(file, range, separator, options.whole_file)?))
            }
        })
    }
}

/// A piece of a file, being read.
pub(crate) enum PieceReader {
    Lines(Box<LineReader>),
    Parquet(Box<ParquetReader>),
}

/// What reading on gave.
pub(crate) enum Progress {
    /// Rows.
    Batch(RecordBatch),
    /// The decoder is full.
    Full,
    /// The piece is at its end; the decoder may hold rows of it.
    End,
}

impl PieceReader {
    /// Reads on; lines go into the decoder.
    pub(crate) async fn next(&mut self, decoder: Option<&mut dyn LineDecoder>) -> Result<Progress> {
        match (self, decoder) {
            (Self::Parquet(reader), _) => Ok(reader.next().await?.map_or(Progress::End, Progress::Batch)),
            (Self::Lines(reader), Some(decoder)) => {
                Ok(if reader.feed(decoder).await? { Progress::End } else { Progress::Full })
            }
            (Self::Lines(_), None) => Err(Error::internal("lines without a decoder")),
        }
    }
}
