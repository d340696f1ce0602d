//! The careful way to read one JSON record: Jackson's grammar with Spark's options, into a tree.
//!
//! Only records that the swift way does not know go here. A syntax error anywhere up to the end of the record's value
//! makes the whole record bad; what follows the value is not looked at, as Spark does not.

use std::borrow::Cow;

/// Jackson's limit on nesting.
const MAX_DEPTH: usize = 1000;
/// Jackson's limit on the digits of a number.
const MAX_NUMBER_LENGTH: usize = 1000;

/// The `allow...` options of Spark's JSON reader.
#[derive(Clone, Debug)]
pub(crate) struct Grammar {
    pub(crate) comments: bool,
    pub(crate) unquoted_names: bool,
    pub(crate) single_quotes: bool,
    pub(crate) leading_zeros: bool,
    pub(crate) non_numeric_numbers: bool,
    pub(crate) backslash_any: bool,
    pub(crate) control_characters: bool,
}

impl Default for Grammar {
    fn default() -> Self {
        Self {
            comments: false,
            unquoted_names: false,
            single_quotes: true,
            leading_zeros: false,
            non_numeric_numbers: true,
            backslash_any: false,
            control_characters: false,
        }
    }
}

/// A value and the text it stands in.
#[derive(Clone, Debug)]
pub(crate) struct Node<'a> {
    pub(crate) raw: &'a str,
    pub(crate) value: Value<'a>,
}

/// A JSON value; numbers stay text.
#[derive(Clone, Debug)]
pub(crate) enum Value<'a> {
    Null,
    Boolean(bool),
    /// Digits with a sign, perhaps.
    Integer,
    /// A number with a fraction or an exponent, or `NaN` and its like.
    Float,
    Text(Cow<'a, str>),
    Array(Vec<Node<'a>>),
    Object(Vec<(Cow<'a, str>, Node<'a>)>),
}

/// What is wrong with a record, and at which byte of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SyntaxError {
    pub(crate) at: usize,
    pub(crate) what: &'static str,
}

/// Reads the first value of the text; `None` when there is only white space.
pub(crate) fn parse<'a>(text: &'a str, grammar: &Grammar) -> Result<Option<Node<'a>>, SyntaxError> {
    let mut reader = Reader { text, bytes: text.as_bytes(), at: 0, grammar };
    if text.starts_with('\u{feff}') {
        reader.at = '\u{feff}'.len_utf8();
    }
    reader.skip_blank()?;
    if reader.at == reader.bytes.len() {
        return Ok(None);
    }
    let node = reader.value(0)?;
    Ok(Some(node))
}

struct Reader<'a, 'g> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    grammar: &'g Grammar,
}

impl<'a> Reader<'a, '_> {
    fn fail<T>(&self, what: &'static str) -> Result<T, SyntaxError> {
        Err(SyntaxError { at: self.at, what })
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn skip_blank(&mut self) -> Result<(), SyntaxError> {
        loop {
            match self.peek() {
                Some(b' ' | b'\t' | b'\n' | b'\r') => self.at += 1,
                Some(b'/') if self.grammar.comments => self.skip_comment()?,
                _ => return Ok(()),
            }
        }
    }

    fn skip_comment(&mut self) -> Result<(), SyntaxError> {
        let rest = &self.text[self.at..];
        if rest.starts_with("//") {
            self.at += rest.find('\n').unwrap_or(rest.len());
            Ok(())
        } else if rest.starts_with("/*") {
            match rest.find("*/") {
                Some(end) => self.at += end + 2,
                None => return self.fail("a comment that does not end"),
            }
            Ok(())
        } else {
            self.fail("a slash that begins no comment")
        }
    }

    fn value(&mut self, depth: usize) -> Result<Node<'a>, SyntaxError> {
        if depth > MAX_DEPTH {
            return self.fail("nesting deeper than 1000");
        }
        let from = self.at;
        let value = match self.peek() {
            Some(b'{') => self.object(depth)?,
            Some(b'[') => self.array(depth)?,
            Some(b'"') => Value::Text(self.string(b'"')?),
            Some(b'\'') if self.grammar.single_quotes => Value::Text(self.string(b'\'')?),
            Some(b'-' | b'+' | b'0'..=b'9') => self.number()?,
            Some(_) => self.word()?,
            None => return self.fail("the end of the record where a value must stand"),
        };
        Ok(Node { raw: &self.text[from..self.at], value })
    }

    fn object(&mut self, depth: usize) -> Result<Value<'a>, SyntaxError> {
        self.at += 1;
        let mut fields = Vec::new();
        self.skip_blank()?;
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(Value::Object(fields));
        }
        loop {
            let name = match self.peek() {
                Some(b'"') => self.string(b'"')?,
                Some(b'\'') if self.grammar.single_quotes => self.string(b'\'')?,
                Some(byte) if self.grammar.unquoted_names && is_name_byte(byte) => {
                    let from = self.at;
                    while self.peek().is_some_and(is_name_byte) {
                        self.at += 1;
                    }
                    Cow::Borrowed(&self.text[from..self.at])
                }
                _ => return self.fail("no field name where one must stand"),
            };
            self.skip_blank()?;
            if self.peek() != Some(b':') {
                return self.fail("no colon after a field name");
            }
            self.at += 1;
            self.skip_blank()?;
            fields.push((name, self.value(depth + 1)?));
            self.skip_blank()?;
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    return Ok(Value::Object(fields));
                }
                _ => return self.fail("neither a comma nor } after a field"),
            }
            self.skip_blank()?;
        }
    }

    fn array(&mut self, depth: usize) -> Result<Value<'a>, SyntaxError> {
        self.at += 1;
        let mut items = Vec::new();
        self.skip_blank()?;
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(Value::Array(items));
        }
        loop {
            items.push(self.value(depth + 1)?);
            self.skip_blank()?;
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.at += 1;
                    return Ok(Value::Array(items));
                }
                _ => return self.fail("neither a comma nor ] after an array's item"),
            }
            self.skip_blank()?;
        }
    }

    /// A string in these quotes; the reader stands on the first.
    fn string(&mut self, quote: u8) -> Result<Cow<'a, str>, SyntaxError> {
        self.at += 1;
        let mut unescaped: Option<String> = None;
        let mut from = self.at;
        loop {
            match self.peek() {
                None => return self.fail("a string that does not end"),
                Some(byte) if byte == quote => {
                    let tail = &self.text[from..self.at];
                    self.at += 1;
                    return Ok(match unescaped {
                        None => Cow::Borrowed(tail),
                        Some(head) => Cow::Owned(head + tail),
                    });
                }
                Some(b'\\') => {
                    let head = unescaped.get_or_insert_default();
                    head.push_str(&self.text[from..self.at]);
                    let c = self.escape()?;
                    unescaped.get_or_insert_default().push(c);
                    from = self.at;
                }
                Some(byte) if byte < b' ' && !self.grammar.control_characters => {
                    return self.fail("a control character in a string");
                }
                Some(_) => self.at += 1,
            }
        }
    }

    fn escape(&mut self) -> Result<char, SyntaxError> {
        self.at += 1;
        let Some(c) = self.text[self.at..].chars().next() else { return self.fail("a string that does not end") };
        self.at += c.len_utf8();
        Ok(match c {
            'b' => '\u{8}',
            't' => '\t',
            'n' => '\n',
            'f' => '\u{c}',
            'r' => '\r',
            '"' | '/' | '\\' => c,
            '\'' if self.grammar.single_quotes => c,
            'u' => {
                let high = self.hex()?;
                if !(0xD800..0xDC00).contains(&high) {
                    // Java writes a lone half of a pair as a question mark.
                    char::from_u32(high).unwrap_or('?')
                } else if self.bytes[self.at..].starts_with(b"\\u") {
                    let after_high = self.at;
                    self.at += 2;
                    let low = self.hex()?;
                    if (0xDC00..0xE000).contains(&low) {
                        char::from_u32(0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00)).unwrap_or('?')
                    } else {
                        self.at = after_high;
                        '?'
                    }
                } else {
                    '?'
                }
            }
            _ if self.grammar.backslash_any => c,
            _ => return self.fail("an escape that JSON does not have"),
        })
    }

    fn hex(&mut self) -> Result<u32, SyntaxError> {
        let digits = self.bytes.get(self.at..self.at + 4).filter(|four| four.iter().all(u8::is_ascii_hexdigit));
        let Some(digits) = digits else { return self.fail("an escape \\u without four hexadecimal digits") };
        self.at += 4;
        Ok(digits.iter().fold(0, |value, digit| value * 16 + (*digit as char).to_digit(16).unwrap_or(0)))
    }

    fn number(&mut self) -> Result<Value<'a>, SyntaxError> {
        let from = self.at;
        let has_sign = matches!(self.peek(), Some(b'-' | b'+'));
        if has_sign {
            for word in ["INF", "Infinity"] {
                if self.grammar.non_numeric_numbers && self.text[from + 1..].starts_with(word) {
                    self.at += 1 + word.len();
                    return self.end_of_word(Value::Float);
                }
            }
            if self.peek() == Some(b'+') {
                return self.fail("a number that begins with +");
            }
            self.at += 1;
        }
        let whole = self.digits();
        let starts_with_zero = self.bytes[self.at - whole..].starts_with(b"0");
        if whole == 0 || (whole > 1 && starts_with_zero && !self.grammar.leading_zeros) {
            return self.fail("a number that does not begin as JSON's do");
        }
        let mut value = Value::Integer;
        if self.peek() == Some(b'.') {
            self.at += 1;
            value = Value::Float;
            if self.digits() == 0 {
                return self.fail("a decimal point without digits after it");
            }
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            value = Value::Float;
            if matches!(self.peek(), Some(b'-' | b'+')) {
                self.at += 1;
            }
            if self.digits() == 0 {
                return self.fail("an exponent without digits");
            }
        }
        if self.at - from > MAX_NUMBER_LENGTH {
            return self.fail("a number longer than 1000 digits");
        }
        self.end_of_word(value)
    }

    fn digits(&mut self) -> usize {
        let count = self.bytes[self.at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += count;
        count
    }

    fn word(&mut self) -> Result<Value<'a>, SyntaxError> {
        let words = [
            ("null", Value::Null, true),
            ("true", Value::Boolean(true), true),
            ("false", Value::Boolean(false), true),
            ("NaN", Value::Float, self.grammar.non_numeric_numbers),
            ("Infinity", Value::Float, self.grammar.non_numeric_numbers),
        ];
        for (word, value, allowed) in words {
            if allowed && self.text[self.at..].starts_with(word) {
                self.at += word.len();
                return self.end_of_word(value);
            }
        }
        self.fail("a word that JSON does not have")
    }

    fn end_of_word(&self, value: Value<'a>) -> Result<Value<'a>, SyntaxError> {
        match self.peek() {
            Some(byte) if byte.is_ascii_alphanumeric() || byte >= 0x80 || matches!(byte, b'_' | b'.' | b'$') => {
                self.fail("a number or word that goes on where it must end")
            }
            _ => Ok(value),
        }
    }
}

/// Jackson's bytes of names without quotes.
fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte >= 0x80 || matches!(byte, b'_' | b'$' | b'#' | b'*' | b'-' | b'@' | b'+')
}
