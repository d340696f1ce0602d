//! What the file formats share: their options, the types they can hold, and how rows become bytes.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, IntervalUnit, Schema, SchemaRef};
use wavetank_engine::options::Options;
use wavetank_engine::{Error, Result};

use super::csv::CsvFormat;
use super::json::JsonFormat;
use super::parquet::ParquetFormat;
use super::text::TextFormat;
use crate::values::pattern::{self, Pattern};
use crate::values::plain::Formats;
use crate::values::type_name::sql_name;

/// Options that every file sink knows. (`partitionBy`, `checkpointLocation` and the like are not among the options.)
const SHARED_OPTIONS: [&str; 4] = ["path", "retention", "compression", "codec"];

/// The file formats, by Spark's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Apache Parquet.
    Parquet,
    /// JSON, one object a line.
    Json,
    /// Comma-separated values.
    Csv,
    /// Lines of text.
    Text,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Parquet, Self::Json, Self::Csv, Self::Text];

    /// The name in `format(..)`.
    pub fn short_name(self) -> &'static str {
        match self {
            Self::Parquet => "parquet",
            Self::Json => "json",
            Self::Csv => "csv",
            Self::Text => "text",
        }
    }

    /// The name in messages.
    fn title(self) -> &'static str {
        match self {
            Self::Parquet => "Parquet",
            Self::Json => "JSON",
            Self::Csv => "CSV",
            Self::Text => "Text",
        }
    }

    /// Refuses columns that files of this format cannot hold.
    pub(crate) fn check_schema(self, schema: &Schema) -> Result<()> {
        if schema.fields().is_empty() {
            return Err(Error::analysis_class(
                "EMPTY_SCHEMA_NOT_SUPPORTED_FOR_DATASOURCE",
                format!(
                    "The {} datasource does not support writing empty or nested empty schemas. Please make sure the \
                     data schema has at least one or more column(s).",
                    self.title()
                ),
            ));
        }
        for field in schema.fields() {
            if !self.holds(field.data_type()) {
                return Err(Error::analysis_class(
                    "UNSUPPORTED_DATA_TYPE_FOR_DATASOURCE",
                    format!(
                        "The {} datasource doesn't support the column `{}` of the type \"{}\". Cast the column to \
                         another type or leave it out.",
                        self.title(),
                        field.name(),
                        sql_name(field.data_type())
                    ),
                ));
            }
        }
        match self {
            Self::Text if schema.fields().len() > 1 => Err(Error::analysis(format!(
                "Text data source supports only a single column, and you have {} columns. Join them to one with \
                 concat_ws, or choose csv or json.",
                schema.fields().len()
            ))),
            Self::Json | Self::Parquet => check_names(schema),
            _ => Ok(()),
        }
    }

    fn holds(self, data_type: &DataType) -> bool {
        match (self, data_type) {
            (_, DataType::Dictionary(_, values)) => self.holds(values),
            (_, DataType::Union(..) | DataType::RunEndEncoded(..)) => false,
            (_, DataType::ListView(_) | DataType::LargeListView(_)) => false,
            (_, DataType::Interval(IntervalUnit::MonthDayNano)) => false,
            (Self::Text, other) => other.is_string(),
            (Self::Csv, other) => !other.is_nested() && *other != DataType::Null,
            (Self::Parquet, DataType::Interval(_) | DataType::Duration(_)) => false,
            (_, DataType::Struct(fields)) => !fields.is_empty() && fields.iter().all(|f| self.holds(f.data_type())),
            (_, DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _)) => {
                self.holds(item.data_type())
            }
            (Self::Json, DataType::Map(entries, _)) => {
                let DataType::Struct(pair) = entries.data_type() else { return false };
                !pair[0].data_type().is_nested() && self.holds(entries.data_type())
            }
            (_, DataType::Map(entries, _)) => self.holds(entries.data_type()),
            _ => true,
        }
    }
}

/// Two columns of one name would make files that nobody can read.
fn check_names(schema: &Schema) -> Result<()> {
    let mut names: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
    names.sort_unstable();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        None => Ok(()),
        Some(pair) => Err(Error::analysis_class(
            "COLUMN_ALREADY_EXISTS",
            format!("The column `{}` already exists. Choose another name or rename the existing column.", pair[0]),
        )),
    }
}

/// A format with its options.
#[derive(Clone, Debug)]
pub(crate) enum Format {
    Parquet(ParquetFormat),
    Json(JsonFormat),
    Csv(CsvFormat),
    Text(TextFormat),
}

impl Format {
    /// Reads and checks the options.
    pub(crate) fn of(kind: Kind, options: &Options) -> Result<Self> {
        Ok(match kind {
            Kind::Parquet => Self::Parquet(ParquetFormat::of(options)?),
            Kind::Json => Self::Json(JsonFormat::of(options)?),
            Kind::Csv => Self::Csv(CsvFormat::of(options)?),
            Kind::Text => Self::Text(TextFormat::of(options)?),
        })
    }

    /// How file names end: `.snappy.parquet`, `.json.gz`.
    pub(crate) fn ending(&self) -> String {
        match self {
            Self::Parquet(format) => format!("{}.parquet", format.codec_ending()),
            Self::Json(format) => format!(".json{}", format.codec.ending()),
            Self::Csv(format) => format!(".csv{}", format.codec.ending()),
            Self::Text(format) => format!(".txt{}", format.codec.ending()),
        }
    }

    /// Starts a file of rows of this schema.
    pub(crate) fn start(&self, schema: &SchemaRef) -> Result<Box<dyn FileEncoder>> {
        match self {
            Self::Parquet(format) => format.start(schema),
            Self::Json(format) => Ok(format.start()),
            Self::Csv(format) => format.start(schema),
            Self::Text(format) => Ok(format.start()),
        }
    }
}

/// Turns the rows of one file into its bytes.
pub(crate) trait FileEncoder: Send {
    /// Adds rows.
    fn write(&mut self, rows: &RecordBatch) -> Result<()>;

    /// The bytes that will not change any more and were not taken before.
    fn take(&mut self) -> Vec<u8>;

    /// The last bytes of the file.
    fn finish(self: Box<Self>) -> Result<Vec<u8>>;
}

/// Refuses options that neither every file sink nor this format (`known`) has.
pub(crate) fn refuse_unknown(kind: Kind, options: &Options, known: &[&str]) -> Result<()> {
    let known: Vec<&str> = SHARED_OPTIONS.iter().chain(known).copied().collect();
    options.refuse_unknown(&format!("The {} sink", kind.short_name()), &known)
}

/// The options `dateFormat`, `timestampFormat` and `timestampNTZFormat`.
pub(crate) fn formats(options: &Options) -> Result<Arc<Formats>> {
    let format = |name, default| Pattern::parse(name, options.get(name).unwrap_or(default));
    Ok(Arc::new(Formats {
        date: format("dateFormat", pattern::DATE)?,
        timestamp: format("timestampFormat", pattern::TIMESTAMP)?,
        timestamp_ntz: format("timestampNTZFormat", pattern::TIMESTAMP_NTZ)?,
    }))
}

/// Refuses every `encoding` but UTF-8 and every `timeZone` but UTC: these are what is written.
pub(crate) fn check_encoding_and_zone(options: &Options) -> Result<()> {
    if let Some(encoding) = options.get("encoding").or_else(|| options.get("charset"))
        && !["utf-8", "utf8"].contains(&encoding.to_lowercase().as_str())
    {
        return Err(Error::analysis(format!("Files are written in UTF-8, not in {encoding}. Leave out 'encoding'.")));
    }
    if let Some(zone) = options.get("timeZone")
        && !["utc", "gmt", "z", "etc/utc", "+00:00"].contains(&zone.to_lowercase().as_str())
    {
        return Err(Error::analysis(format!("Timestamps are written in UTC, not in {zone}. Leave out 'timeZone'.")));
    }
    Ok(())
}
