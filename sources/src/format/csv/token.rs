//! Cuts a CSV line into tokens as Spark's parser (univocity) does.
//!
//! Quotes count only at the start of a token. A quote inside a quoted token that is neither escaped nor followed by a
//! separator makes the token raw: it then runs to the next separator, quotes and all (`STOP_AT_DELIMITER`).

use std::ops::Range;

use wavetank_engine::options::Options;
use wavetank_engine::{Error, Result};

/// How a line is cut.
#[derive(Clone, Debug)]
pub(crate) struct Dialect {
    pub(crate) separator: String,
    /// `None` when nothing is quoted.
    pub(crate) quote: Option<u8>,
    pub(crate) escape: Option<u8>,
    /// What escapes the escape character before a quote.
    pub(crate) escape_escape: Option<u8>,
    pub(crate) comment: Option<char>,
    pub(crate) trims_start: bool,
    pub(crate) trims_end: bool,
}

impl Dialect {
    pub(crate) fn new(options: &Options) -> Result<Self> {
        let separator = separator(options.get("sep").or(options.get("delimiter")).unwrap_or(","))?;
        let quote = one_byte(options, "quote", Some(b'"'))?;
        let escape = one_byte(options, "escape", Some(b'\\'))?;
        let default = if escape == quote { None } else { escape };
        if options.get("unescapedQuoteHandling").is_some_and(|how| !how.eq_ignore_ascii_case("STOP_AT_DELIMITER")) {
            return Err(Error::analysis(
                "Only 'STOP_AT_DELIMITER' (the default) is supported for the option 'unescapedQuoteHandling'. Leave \
                 the option out.",
            ));
        }
        Ok(Self {
            separator,
            quote,
            escape,
            escape_escape: one_byte(options, "charToEscapeQuoteEscaping", default)?,
            comment: options.get("comment").and_then(|text| text.chars().next()),
            trims_start: options.boolean("ignoreLeadingWhiteSpace", false)?,
            trims_end: options.boolean("ignoreTrailingWhiteSpace", false)?,
        })
    }
}

/// `sep`, in which `\t` and its like may be written with a backslash.
fn separator(text: &str) -> Result<String> {
    let unescaped = match text {
        "\\t" => "\t".into(),
        "\\r" | "\\n" => String::new(),
        "\\\\" => "\\".into(),
        "\\u0000" => "\0".into(),
        other => other.to_string(),
    };
    if unescaped.is_empty() {
        return Err(Error::analysis_class(
            "INVALID_DELIMITER_VALUE.EMPTY_STRING",
            "Invalid value for delimiter: it cannot be an empty string or the end of a line. Write for example ',' or \
             '\\t'.",
        ));
    }
    Ok(unescaped)
}

fn one_byte(options: &Options, name: &str, default: Option<u8>) -> Result<Option<u8>> {
    match options.get(name) {
        None => Ok(default),
        Some("" | "\0" | "\\u0000") => Ok(None),
        Some(text) if text.len() == 1 && text.is_ascii() => Ok(Some(text.as_bytes()[0])),
        Some(_) => {
            Err(Error::analysis(format!("{name} cannot be more than one character. Write one ASCII character.")))
        }
    }
}

/// A token of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    /// These bytes of the line.
    Plain(Range<usize>),
    /// These bytes of the scratch text: a token that was quoted and had something to unescape.
    Unescaped(Range<usize>),
    /// A quoted token of these bytes of the line.
    Quoted(Range<usize>),
}

impl Token {
    /// The token's text, and whether it was quoted.
    pub(crate) fn text<'a>(&self, line: &'a str, scratch: &'a str) -> (&'a str, bool) {
        match self {
            Self::Plain(range) => (&line[range.clone()], false),
            Self::Quoted(range) => (&line[range.clone()], true),
            Self::Unescaped(range) => (&scratch[range.clone()], true),
        }
    }
}

/// Cuts a line into at most `most` tokens.
pub(crate) fn cut(line: &str, dialect: &Dialect, most: usize, tokens: &mut Vec<Token>, scratch: &mut String) {
    tokens.clear();
    scratch.clear();
    let has_quotes = dialect.quote.is_some_and(|quote| memchr::memchr(quote, line.as_bytes()).is_some());
    let mut at = 0;
    while tokens.len() < most {
        let from = if dialect.trims_start { skip_blank(line, at, dialect) } else { at };
        let (token, end) = match dialect.quote {
            Some(quote) if has_quotes && line.as_bytes().get(from) == Some(&quote) => {
                quoted(line, from, quote, dialect, scratch)
            }
            _ => {
                let end = next_separator(line, from, dialect);
                (Token::Plain(from..trimmed_end(line, from, end, dialect)), end)
            }
        };
        tokens.push(token);
        if end >= line.len() {
            return;
        }
        at = end + dialect.separator.len();
    }
}

fn next_separator(line: &str, from: usize, dialect: &Dialect) -> usize {
    let bytes = &line.as_bytes()[from..];
    let found = match dialect.separator.as_bytes() {
        [one] => memchr::memchr(*one, bytes),
        more => memchr::memmem::find(bytes, more),
    };
    found.map_or(line.len(), |at| from + at)
}

fn is_separator(line: &str, at: usize, dialect: &Dialect) -> bool {
    line.as_bytes()[at..].starts_with(dialect.separator.as_bytes())
}

fn skip_blank(line: &str, mut at: usize, dialect: &Dialect) -> usize {
    while line.as_bytes().get(at).is_some_and(|byte| *byte <= b' ') && !is_separator(line, at, dialect) {
        at += 1;
    }
    at
}

fn trimmed_end(line: &str, from: usize, end: usize, dialect: &Dialect) -> usize {
    if !dialect.trims_end {
        return end;
    }
    from + line[from..end].trim_end_matches(|c: char| c <= ' ').len()
}

/// The quoted token that starts at `from`, and where it ends.
fn quoted(line: &str, from: usize, quote: u8, dialect: &Dialect, scratch: &mut String) -> (Token, usize) {
    let bytes = line.as_bytes();
    let scratch_from = scratch.len();
    // What is before `copied` is in the scratch text already.
    let (mut at, mut copied) = (from + 1, from + 1);
    loop {
        let special = match dialect.escape {
            Some(escape) => memchr::memchr2(quote, escape, &bytes[at..]),
            None => memchr::memchr(quote, &bytes[at..]),
        };
        let Some(special) = special else {
            // Never closed: the rest of the line is the token.
            return (token(line, from, copied, line.len(), scratch_from, scratch), line.len());
        };
        at += special;
        let next = bytes.get(at + 1).copied();
        let is_escape = Some(bytes[at]) == dialect.escape;
        if is_escape && next == Some(quote) || is_escape && next.is_some() && next == dialect.escape_escape {
            // The escape goes, what it escapes stays.
            scratch.push_str(&line[copied..at]);
            copied = at + 1;
            at += 2;
            continue;
        }
        if bytes[at] != quote {
            at += 1;
            continue;
        }
        let end = skip_blank(line, at + 1, dialect);
        if end == line.len() || is_separator(line, end, dialect) {
            return (token(line, from, copied, at, scratch_from, scratch), end);
        }
        if next == Some(quote) {
            // The first of two quotes is text; the second may still close the token.
            at += 1;
            continue;
        }
        let end = next_separator(line, at, dialect);
        scratch.push_str(&line[copied..trimmed_end(line, copied, end, dialect)]);
        scratch.insert(scratch_from, quote as char);
        return (Token::Unescaped(scratch_from..scratch.len()), end);
    }
}

fn token(line: &str, from: usize, copied: usize, end: usize, scratch_from: usize, scratch: &mut String) -> Token {
    if copied == from + 1 {
        return Token::Quoted(copied..end);
    }
    scratch.push_str(&line[copied..end]);
    Token::Unescaped(scratch_from..scratch.len())
}
