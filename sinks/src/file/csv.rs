//! CSV files, quoted and trimmed as univocity does it for Spark; the cases in the tests were asked of Spark 4.3.0.
//!
//! Differences on purpose: a field that holds a separator of several characters is quoted (Spark writes a line that
//! nobody can split again), and text of blanks alone becomes the empty value also when only trailing blanks are cut.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use wavetank_engine::options::Options;
use wavetank_engine::{Error, Result};

use super::compression::{Codec, Compressor};
use super::format::{FileEncoder, Kind, check_encoding_and_zone, formats, refuse_unknown};
use super::json::line_end;
use crate::values::nulls_of;
use crate::values::plain::{Style, encoder};

const OPTIONS: [&str; 19] = [
    "sep",
    "delimiter",
    "header",
    "quote",
    "escape",
    "charToEscapeQuoteEscaping",
    "escapeQuotes",
    "quoteAll",
    "nullValue",
    "emptyValue",
    "ignoreLeadingWhiteSpace",
    "ignoreTrailingWhiteSpace",
    "lineSep",
    "timestampFormat",
    "timestampNTZFormat",
    "dateFormat",
    "encoding",
    "charset",
    "timeZone",
];

/// A field that starts with it in the first column would read as a comment.
const COMMENT: char = '#';

/// The options of CSV files.
#[derive(Clone, Debug)]
pub(crate) struct CsvFormat {
    pub(crate) codec: Codec,
    style: Style,
    header: bool,
    line_end: Vec<u8>,
    dialect: Dialect,
    null: String,
    empty: String,
}

/// When and how a field is quoted.
#[derive(Clone, Debug)]
struct Dialect {
    separator: String,
    line_end: String,
    quote: char,
    escape: char,
    /// Written before an escape character within quotes; `\0` for nothing.
    escape_of_escape: char,
    quote_all: bool,
    escape_quotes: bool,
    trim_start: bool,
    trim_end: bool,
}

impl CsvFormat {
    pub(crate) fn of(options: &Options) -> Result<Self> {
        refuse_unknown(Kind::Csv, options, &OPTIONS)?;
        check_encoding_and_zone(options)?;
        let line_end = line_end(options)?;
        if line_end.len() > 2 {
            return Err(Error::analysis_class(
                "INVALID_LINE_SEPARATOR.TOO_LONG",
                format!(
                    "Invalid line separator configuration. The 'lineSep' option can contain at most 2 characters, but \
                     got {} characters.",
                    line_end.len()
                ),
            ));
        }
        Ok(Self {
            codec: Codec::of(options)?,
            style: Style::csv(formats(options)?),
            header: options.boolean("header", false)?,
            dialect: Dialect::of(options, String::from_utf8_lossy(&line_end).into_owned())?,
            line_end,
            null: options.get("nullValue").unwrap_or_default().to_owned(),
            empty: options.get("emptyValue").unwrap_or("\"\"").to_owned(),
        })
    }

    pub(crate) fn start(&self, schema: &SchemaRef) -> Result<Box<dyn FileEncoder>> {
        let columns = 0..schema.fields().len();
        let special = |text: &str| columns.clone().map(|column| self.dialect.special(text, column)).collect();
        let mut encoder = CsvEncoder {
            out: Compressor::new(self.codec),
            nulls: special(&self.null),
            empties: special(&self.empty),
            format: self.clone(),
        };
        if self.header {
            let mut bytes = Vec::new();
            for (column, field) in schema.fields().iter().enumerate() {
                encoder.separate(column, &mut bytes);
                encoder.field(field.name(), column, &mut bytes);
            }
            bytes.extend_from_slice(&self.line_end);
            encoder.out.push(bytes)?;
        }
        Ok(Box::new(encoder))
    }
}

/// An option of one character; empty means none.
fn character(options: &Options, name: &str, default: char) -> Result<char> {
    let Some(text) = options.get(name) else { return Ok(default) };
    let mut chars = text.chars();
    match (chars.next(), chars.next()) {
        (None, _) => Ok('\0'),
        (Some(c), None) => Ok(c),
        _ => Err(Error::analysis_class(
            "OPTION_VALUE_EXCEEDS_ONE_CHARACTER",
            format!("The value of {name} cannot be more than one character, but got {text}."),
        )),
    }
}

/// The options `sep` and `delimiter`, with the escapes that Spark knows in them.
fn separator(options: &Options) -> Result<String> {
    let text = options.get("sep").or_else(|| options.get("delimiter")).unwrap_or(",");
    let refuse =
        |why| Err(Error::analysis(format!("{why} (option 'sep' is '{text}'). Write for example ';' or '\\t'.")));
    let mut separator = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            separator.push(c);
            continue;
        }
        separator.push(match chars.next() {
            Some('t') => '\t',
            Some('r') => '\r',
            Some('b') => '\u{8}',
            Some('f') => '\u{c}',
            Some(same @ ('\\' | '"' | '\'')) => same,
            Some(_) => return refuse("Unsupported special character for delimiter"),
            None => return refuse("Single backslash is prohibited: it begins an escape sequence"),
        });
    }
    if separator.is_empty() { refuse("Delimiter cannot be empty") } else { Ok(separator) }
}

impl Dialect {
    fn of(options: &Options, line_end: String) -> Result<Self> {
        let quote = character(options, "quote", '"')?;
        let escape = character(options, "escape", '\\')?;
        let default_escape_of_escape = if escape == quote { '\0' } else { escape };
        Ok(Self {
            separator: separator(options)?,
            line_end,
            quote,
            escape,
            escape_of_escape: character(options, "charToEscapeQuoteEscaping", default_escape_of_escape)?,
            quote_all: options.boolean("quoteAll", false)?,
            escape_quotes: options.boolean("escapeQuotes", true)?,
            trim_start: options.boolean("ignoreLeadingWhiteSpace", true)?,
            trim_end: options.boolean("ignoreTrailingWhiteSpace", true)?,
        })
    }

    /// Cuts the blanks that the options say: every character up to U+0020, as in Java.
    fn trim<'a>(&self, text: &'a str) -> &'a str {
        let is_blank = |c: char| c <= ' ';
        let text = if self.trim_start { text.trim_start_matches(is_blank) } else { text };
        if self.trim_end { text.trim_end_matches(is_blank) } else { text }
    }

    fn needs_quotes(&self, text: &str, column: usize) -> bool {
        self.quote_all
            || text.starts_with(self.quote)
            || (column == 0 && text.starts_with(COMMENT))
            || text.contains(&self.separator)
            || text.contains(['\n', '\r'])
            || (self.line_end.len() == 1 && text.contains(&self.line_end))
            || (self.escape_quotes && text.contains(self.quote))
    }

    /// Appends a text that was trimmed.
    fn append(&self, text: &str, column: usize, out: &mut Vec<u8>) {
        if !self.needs_quotes(text, column) {
            return out.extend_from_slice(text.as_bytes());
        }
        let mut buffer = [0; 4];
        let mut push = |c: char| out.extend_from_slice(c.encode_utf8(&mut buffer).as_bytes());
        push(self.quote);
        for c in text.chars() {
            if c == self.quote {
                push(self.escape);
            } else if c == self.escape && self.escape_of_escape != '\0' {
                push(self.escape_of_escape);
            } else if c == '\n' && self.line_end == "\r\n" {
                push('\r');
            }
            push(c);
        }
        push(self.quote);
    }

    /// The bytes that stand for null or for the empty text in this column: what is quoted already stays as it is.
    fn special(&self, text: &str, column: usize) -> Vec<u8> {
        let is_quoted = text.chars().count() >= 2 && text.starts_with(self.quote) && text.ends_with(self.quote);
        let mut out = Vec::new();
        if is_quoted {
            out.extend_from_slice(text.as_bytes());
        } else {
            self.append(self.trim(text), column, &mut out);
        }
        out
    }
}

struct CsvEncoder {
    format: CsvFormat,
    out: Compressor,
    /// Per column: what stands for null.
    nulls: Vec<Vec<u8>>,
    /// Per column: what stands for the empty text.
    empties: Vec<Vec<u8>>,
}

impl CsvEncoder {
    fn separate(&self, column: usize, out: &mut Vec<u8>) {
        if column > 0 {
            out.extend_from_slice(self.format.dialect.separator.as_bytes());
        }
    }

    fn field(&self, text: &str, column: usize, out: &mut Vec<u8>) {
        match self.format.dialect.trim(text) {
            "" => out.extend_from_slice(&self.empties[column]),
            text => self.format.dialect.append(text, column, out),
        }
    }
}

impl FileEncoder for CsvEncoder {
    fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        let mut columns = Vec::with_capacity(rows.num_columns());
        for column in rows.columns() {
            columns.push((nulls_of(column), encoder(column, &self.format.style)?));
        }
        let (mut bytes, mut text) = (Vec::with_capacity(rows.num_rows() * 16), Vec::new());
        for row in 0..rows.num_rows() {
            let line_start = bytes.len();
            for (column, (nulls, encode)) in columns.iter().enumerate() {
                self.separate(column, &mut bytes);
                if nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
                    bytes.extend_from_slice(&self.nulls[column]);
                    continue;
                }
                text.clear();
                encode(row, &mut text);
                self.field(&String::from_utf8_lossy(&text), column, &mut bytes);
            }
            if bytes.len() > line_start {
                bytes.extend_from_slice(&self.format.line_end); // Spark skips lines that would be empty
            }
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
