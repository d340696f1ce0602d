//! The options of the file readers: Spark's names, checked once, unknown ones refused.

use wavetank_engine::options::Options;
use wavetank_engine::{Error, Result};

use crate::format::json::Grammar;
use crate::format::pattern::Pattern;
use crate::format::time::{TimeFormats, Zone, zone_option};

/// What happens to a record that does not fit (`mode`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mode {
    /// What does not fit becomes null.
    #[default]
    Permissive,
    /// The record is left out.
    DropMalformed,
    /// The query fails.
    FailFast,
}

/// Options of the JSON reader beyond those of every file source.
pub(crate) const JSON_OPTIONS: &[&str] = &[
    "mode",
    "columnNameOfCorruptRecord",
    "timestampFormat",
    "timestampNTZFormat",
    "dateFormat",
    "timeZone",
    "lineSep",
    "encoding",
    "charset",
    "multiLine",
    "locale",
    "allowComments",
    "allowUnquotedFieldNames",
    "allowSingleQuotes",
    "allowNumericLeadingZeros",
    "allowNonNumericNumbers",
    "allowBackslashEscapingAnyCharacter",
    "allowUnquotedControlChars",
    "primitivesAsString",
    "prefersDecimal",
    "dropFieldIfAllNull",
    "samplingRatio",
    "inferTimestamp",
];

/// Options of the CSV reader beyond those of every file source.
pub(crate) const CSV_OPTIONS: &[&str] = &[
    "mode",
    "columnNameOfCorruptRecord",
    "timestampFormat",
    "timestampNTZFormat",
    "dateFormat",
    "timeZone",
    "lineSep",
    "encoding",
    "charset",
    "multiLine",
    "locale",
    "sep",
    "delimiter",
    "quote",
    "escape",
    "charToEscapeQuoteEscaping",
    "comment",
    "header",
    "enforceSchema",
    "inferSchema",
    "preferDate",
    "samplingRatio",
    "ignoreLeadingWhiteSpace",
    "ignoreTrailingWhiteSpace",
    "nullValue",
    "emptyValue",
    "nanValue",
    "positiveInf",
    "negativeInf",
    "maxColumns",
    "maxCharsPerColumn",
    "unescapedQuoteHandling",
];

/// Options of the text reader beyond those of every file source.
pub(crate) const TEXT_OPTIONS: &[&str] = &["wholetext", "lineSep", "encoding", "charset"];

/// Options of the Parquet reader beyond those of every file source.
pub(crate) const PARQUET_OPTIONS: &[&str] = &["mergeSchema", "datetimeRebaseMode", "int96RebaseMode"];

/// What the three text formats share, and the grammar of each.
#[derive(Clone, Debug, Default)]
pub(crate) struct TextOptions {
    pub(crate) mode: Mode,
    pub(crate) corrupt_column: String,
    pub(crate) times: TimeFormats,
    /// What ends a line; `None` is any of `\n`, `\r\n`, `\r`.
    pub(crate) line_separator: Option<Vec<u8>>,
    /// A file is one record.
    pub(crate) whole_file: bool,
    pub(crate) grammar: Grammar,
}

impl TextOptions {
    /// The options of a JSON reader.
    pub(crate) fn json(options: &Options) -> Result<Self> {
        let flag = |name: &str, default: bool| options.boolean(name, default);
        let default = Grammar::default();
        let grammar = Grammar {
            comments: flag("allowComments", default.comments)?,
            unquoted_names: flag("allowUnquotedFieldNames", default.unquoted_names)?,
            single_quotes: flag("allowSingleQuotes", default.single_quotes)?,
            leading_zeros: flag("allowNumericLeadingZeros", default.leading_zeros)?,
            non_numeric_numbers: flag("allowNonNumericNumbers", default.non_numeric_numbers)?,
            backslash_any: flag("allowBackslashEscapingAnyCharacter", default.backslash_any)?,
            control_characters: flag("allowUnquotedControlChars", default.control_characters)?,
        };
        Ok(Self { grammar, whole_file: flag("multiLine", false)?, ..Self::records(options)? })
    }

    /// What the options of JSON and CSV have in common.
    pub(crate) fn records(options: &Options) -> Result<Self> {
        refuse_locale(options)?;
        let pattern = |name: &str| options.get(name).map(Pattern::new).transpose();
        let times = TimeFormats {
            timestamp: pattern("timestampFormat")?,
            timestamp_ntz: pattern("timestampNTZFormat")?,
            date: pattern("dateFormat")?,
            zone: options.get("timeZone").map_or(Ok(Zone::Utc), zone_option)?,
        };
        let corrupt_column = options.get("columnNameOfCorruptRecord").unwrap_or("_corrupt_record").into();
        Ok(Self { mode: mode(options), corrupt_column, times, ..Self::lines(options)? })
    }

    /// What the options of all three text formats have in common.
    pub(crate) fn lines(options: &Options) -> Result<Self> {
        refuse_encoding(options)?;
        let line_separator = match options.get("lineSep") {
            None => None,
            Some("") => return Err(Error::analysis("'lineSep' cannot be an empty string. Write for example \\n.")),
            Some(text) => Some(text.as_bytes().to_vec()),
        };
        Ok(Self { line_separator, ..Self::default() })
    }
}

/// Spark reads an unknown mode as PERMISSIVE, with a warning.
fn mode(options: &Options) -> Mode {
    match options.get("mode").map(str::to_uppercase).as_deref() {
        None | Some("PERMISSIVE") => Mode::Permissive,
        Some("DROPMALFORMED") => Mode::DropMalformed,
        Some("FAILFAST") => Mode::FailFast,
        Some(other) => {
            tracing::warn!("{other} is not a valid parse mode. Using PERMISSIVE.");
            Mode::Permissive
        }
    }
}

fn refuse_encoding(options: &Options) -> Result<()> {
    for name in ["encoding", "charset"] {
        if let Some(encoding) = options.get(name)
            && !["utf-8", "utf8", "us-ascii", "ascii"].contains(&encoding.to_lowercase().as_str())
        {
            return Err(Error::analysis(format!(
                "The {name} '{encoding}' is not supported, only UTF-8 is. Convert the files to UTF-8."
            )));
        }
    }
    Ok(())
}

fn refuse_locale(options: &Options) -> Result<()> {
    match options.get("locale") {
        Some(locale) if !locale.eq_ignore_ascii_case("en-US") => Err(Error::analysis(format!(
            "The locale '{locale}' is not supported, only en-US is. Leave the option out."
        ))),
        _ => Ok(()),
    }
}
