//! CSV: `line -> tokens (univocity's rules) -> typed columns`, one record per line.
//!
//! With all columns wanted, a record must have as many tokens as there are columns; when only some are wanted, nobody
//! counts (Spark's column pruning). Absent from here: records that go over several lines (`multiLine`), which are
//! refused.

use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use arrow::record_batch::RecordBatch;
use wavetank_engine::options::Options;
use wavetank_engine::sql::types::quoted_type_name;
use wavetank_engine::{Error, Result};

use crate::format::column::{Column, Values, is_text};
use crate::format::number::{decimal, java_double, java_float};
use crate::format::options::TextOptions;
use crate::format::rows::{BadRecord, Rows};
use crate::format::{LineDecoder, Place};

mod token;

#[cfg(test)]
mod tests;

use token::{Dialect, Token, cut};

/// The options of a CSV reader.
#[derive(Clone, Debug)]
pub(crate) struct CsvOptions {
    pub(crate) text: TextOptions,
    dialect: Dialect,
    has_header: bool,
    /// Take the user's column names, whatever the header says.
    enforces_schema: bool,
    null_value: String,
    empty_value: String,
    nan: String,
    positive_infinity: String,
    negative_infinity: String,
    max_columns: usize,
    max_chars: Option<usize>,
}

impl CsvOptions {
    pub(crate) fn new(options: &Options) -> Result<Self> {
        if options.boolean("multiLine", false)? {
            return Err(Error::analysis(
                "The option 'multiLine' is not supported for CSV. Write each record on one line, or use JSON.",
            ));
        }
        let text = |name: &str, default: &str| options.get(name).unwrap_or(default).to_string();
        let integer = |name: &str, default: i64| match options.get(name) {
            None => Ok(default),
            Some(text) => text
                .trim()
                .parse::<i64>()
                .map_err(|_| Error::analysis(format!("{name} should be an integer. Found {text}. Write a number."))),
        };
        let max_columns = integer("maxColumns", 20_480)?;
        let max_chars = integer("maxCharsPerColumn", -1)?;
        Ok(Self {
            text: TextOptions::records(options)?,
            dialect: Dialect::new(options)?,
            has_header: options.boolean("header", false)?,
            enforces_schema: options.boolean("enforceSchema", true)?,
            null_value: text("nullValue", ""),
            empty_value: text("emptyValue", ""),
            nan: text("nanValue", "NaN"),
            positive_infinity: text("positiveInf", "Inf"),
            negative_infinity: text("negativeInf", "-Inf"),
            max_columns: usize::try_from(max_columns).unwrap_or(usize::MAX),
            max_chars: usize::try_from(max_chars).ok().filter(|most| *most > 0),
        })
    }

    /// Refuses columns that no CSV file can hold.
    pub(crate) fn check_schema(schema: &SchemaRef) -> Result<()> {
        for field in schema.fields() {
            if let DataType::Struct(_) | DataType::List(_) | DataType::Map(..) = field.data_type() {
                return Err(Error::analysis_class(
                    "UNSUPPORTED_DATA_TYPE_FOR_DATASOURCE",
                    format!(
                        "The CSV datasource doesn't support the column `{}` of the type {}. Read it as STRING.",
                        field.name(),
                        quoted_type_name(field.data_type())
                    ),
                ));
            }
        }
        Ok(())
    }
}

/// The rows of a text of CSV lines, in one batch, as the CSV file source reads them under these reader options.
pub fn parse_csv_lines(schema: &SchemaRef, lines: &str, options: &Options) -> Result<RecordBatch> {
    CsvOptions::check_schema(schema)?;
    let mut decoder = CsvDecoder::new(Arc::clone(schema), schema, Arc::new(CsvOptions::new(options)?))?;
    let mut place = Place { file: "(text)".into(), line: Some(0), byte: 0 };
    for line in lines.lines() {
        place.line = place.line.map(|line| line + 1);
        decoder.line(line.as_bytes(), &place)?;
    }
    decoder.finish()
}

/// Turns CSV lines into batches.
#[derive(Debug)]
pub(crate) struct CsvDecoder {
    options: Arc<CsvOptions>,
    rows: Rows,
    /// Names of the file's columns, in order.
    file_columns: Vec<String>,
    /// For each wanted column, which token it is.
    positions: Vec<usize>,
    /// A record must have exactly this many tokens.
    tokens_count: Option<usize>,
    expects_header: bool,
    tokens: Vec<Token>,
    scratch: String,
}

impl CsvDecoder {
    /// A decoder for the columns of `wanted`, in this order, of files with the columns of `all`.
    pub(crate) fn new(wanted: SchemaRef, all: &SchemaRef, options: Arc<CsvOptions>) -> Result<Self> {
        let corrupt = all
            .fields()
            .iter()
            .position(|field| *field.name() == options.text.corrupt_column && is_text(field.data_type()));
        let fields = all.fields().iter().enumerate().filter(|(position, _)| Some(*position) != corrupt);
        let file_columns: Vec<String> = fields.map(|(_, field)| field.name().clone()).collect();
        let rows = Rows::new(wanted, &options.text)?;
        let position_of = |name: &str| {
            file_columns.iter().position(|column| column == name).ok_or_else(|| {
                Error::internal(format!("column {name} was asked of a CSV file that has {file_columns:?}"))
            })
        };
        let positions = rows.data_names().map(position_of).collect::<Result<Vec<_>>>()?;
        let tokens_count = (positions.len() == file_columns.len()).then_some(file_columns.len());
        Ok(Self {
            rows,
            positions,
            tokens_count,
            file_columns,
            expects_header: options.has_header,
            tokens: Vec::new(),
            scratch: String::new(),
            options,
        })
    }

    fn check_header(&self, line: &str, place: &Place) -> Result<()> {
        let (mut tokens, mut scratch) = (Vec::new(), String::new());
        cut(line, &self.options.dialect, usize::MAX, &mut tokens, &mut scratch);
        let header: Vec<&str> = tokens.iter().map(|token| token.text(line, &scratch).0).collect();
        let conforms = header.len() == self.file_columns.len()
            && header.iter().zip(&self.file_columns).all(|(found, column)| found.eq_ignore_ascii_case(column));
        if conforms {
            return Ok(());
        }
        let message = format!(
            "CSV header does not conform to the schema. Header: {}. Schema: {}. {place}.",
            header.join(", "),
            self.file_columns.join(", ")
        );
        if self.options.enforces_schema {
            tracing::warn!("{message}");
            return Ok(());
        }
        Err(Error::Data { class: None, message: format!("{message} Write the schema as the header has it.") })
    }

    fn record(&mut self, line: &str, place: &Place) -> Result<()> {
        let from = self.rows.len();
        if self.positions.is_empty() {
            self.rows.close_row();
            return Ok(());
        }
        let options = &*self.options;
        // One token more than wanted tells that there are too many.
        let most = match self.tokens_count {
            Some(count) => count + 1,
            None => self.positions.iter().max().map_or(0, |last| last + 1),
        };
        cut(line, &options.dialect, most.min(options.max_columns), &mut self.tokens, &mut self.scratch);
        let mut bad: Option<String> = None;
        if let Some(count) = self.tokens_count
            && self.tokens.len() != count
        {
            let found = if self.tokens.len() > count { "more".into() } else { self.tokens.len().to_string() };
            bad = Some(format!("it should have {count} tokens and has {found}"));
        }
        for (position, column) in self.positions.iter().zip(self.rows.columns()) {
            let text = match self.tokens.get(*position) {
                None => None,
                Some(token) => match token.text(line, &self.scratch) {
                    ("", false) => None,
                    ("", true) if options.empty_value != options.null_value => Some(options.empty_value.as_str()),
                    (text, _) => Some(text).filter(|text| *text != options.null_value),
                },
            };
            let Some(text) = text else {
                column.append_null();
                continue;
            };
            if options.max_chars.is_some_and(|most| text.len() > most && text.chars().count() > most) {
                return Err(too_long(text, place));
            }
            if !append(text, column, options) {
                column.append_null();
                bad.get_or_insert_with(|| {
                    let shown: String = text.chars().take(60).collect();
                    let name = &self.file_columns[*position];
                    format!("field `{name}`: {shown} is no {}", quoted_type_name(column.data_type()))
                });
            }
        }
        self.rows.close_row();
        match bad {
            None => Ok(()),
            Some(reason) => self.rows.bad_record(from, BadRecord { text: line, reason, place }),
        }
    }
}

fn too_long(text: &str, place: &Place) -> Error {
    Error::Data {
        class: Some("FAILED_READ_FILE.NO_HINT".into()),
        message: format!(
            "A value of {} characters is longer than the option 'maxCharsPerColumn' allows ({place}). Write a larger \
             number.",
            text.chars().count()
        ),
    }
}

/// Appends a text as a value; false when it does not fit, and then nothing was appended.
fn append(text: &str, column: &mut Column, options: &CsvOptions) -> bool {
    if let Values::Bytes { .. } = column.values {
        column.append_bytes(text.as_bytes());
        return true;
    }
    let fits = push(text, &mut column.values, options).is_some();
    if fits {
        column.pushed();
    }
    fits
}

fn push(text: &str, values: &mut Values, options: &CsvOptions) -> Option<()> {
    let special = |text: &str| match text {
        _ if text == options.nan => Some(f64::NAN),
        _ if text == options.negative_infinity => Some(f64::NEG_INFINITY),
        _ if text == options.positive_infinity => Some(f64::INFINITY),
        _ => None,
    };
    let times = &options.text.times;
    match values {
        Values::Boolean(values) => values.append(match text {
            _ if text.eq_ignore_ascii_case("true") => true,
            _ if text.eq_ignore_ascii_case("false") => false,
            _ => return None,
        }),
        Values::Int8(values) => values.push(text.parse().ok()?),
        Values::Int16(values) => values.push(text.parse().ok()?),
        Values::Int32(values) => values.push(text.parse().ok()?),
        Values::Int64(values) => values.push(text.parse().ok()?),
        Values::Float32(values) => values.push(special(text).map(|value| value as f32).or_else(|| java_float(text))?),
        Values::Float64(values) => values.push(special(text).or_else(|| java_double(text))?),
        Values::Decimal { values, precision, scale } => {
            let value = if text.contains(',') {
                decimal(&text.replace(',', ""), *precision, *scale)
            } else {
                decimal(text, *precision, *scale)
            };
            values.push(value?);
        }
        Values::Date(values) => values.push(times.date(text)?),
        Values::Timestamp { values, has_zone: true } => values.push(times.timestamp(text)?),
        Values::Timestamp { values, has_zone: false } => values.push(times.timestamp_ntz(text)?),
        Values::Bytes { .. } | Values::Struct { .. } | Values::List { .. } | Values::Map { .. } => return None,
    }
    Some(())
}

impl LineDecoder for CsvDecoder {
    fn begin_file(&mut self, is_at_start: bool) {
        self.expects_header = self.options.has_header && is_at_start;
    }

    fn line(&mut self, line: &[u8], place: &Place) -> Result<()> {
        if line.iter().all(|byte| *byte <= b' ') {
            return Ok(());
        }
        self.rows.take_record(line.len(), place)?;
        let line = String::from_utf8_lossy(line);
        if self.options.dialect.comment.is_some_and(|comment| line.starts_with(comment)) {
            return Ok(());
        }
        if self.expects_header {
            self.expects_header = false;
            return self.check_header(&line, place);
        }
        self.record(&line, place)
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
