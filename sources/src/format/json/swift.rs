//! The swift way to read one JSON record: straight from its bytes into typed columns, in one pass.
//!
//! It knows only strict JSON whose values fit their columns, which is nearly every record there is. Whenever something
//! else comes along it gives up (`None`) and says nothing about why; the caller takes back the row and goes the careful
//! way. What it accepts, the careful way must read to the same row (a test compares them).

use crate::format::column::{Column, Names, Values};
use crate::format::number::decimal;
use crate::format::time::TimeFormats;

/// Unknown values nested deeper than this go the careful way.
const MAX_DEPTH: usize = 64;

/// A place in a record.
pub(crate) struct Swift<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    times: &'a TimeFormats,
}

impl<'a> Swift<'a> {
    pub(crate) fn new(text: &'a str, times: &'a TimeFormats) -> Self {
        Self { text, bytes: text.as_bytes(), at: 0, times }
    }

    /// Skips white space and tells whether there was nothing else.
    pub(crate) fn is_blank(&mut self) -> bool {
        self.blank();
        self.at == self.bytes.len()
    }

    #[inline]
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    #[inline]
    fn blank(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    #[inline]
    fn expect(&mut self, byte: u8) -> Option<()> {
        if self.peek()? != byte {
            return None;
        }
        self.at += 1;
        Some(())
    }

    fn word(&mut self, word: &[u8]) -> Option<()> {
        if !self.bytes[self.at..].starts_with(word) {
            return None;
        }
        self.at += word.len();
        self.ends_here()
    }

    /// A number or word must be followed by what may follow a value.
    #[inline]
    fn ends_here(&self) -> Option<()> {
        matches!(self.peek()?, b',' | b'}' | b']' | b' ' | b'\t' | b'\n' | b'\r').then_some(())
    }

    /// Appends an object's fields as row `row` of the columns.
    pub(crate) fn object(&mut self, names: &mut Names, columns: &mut [Column], row: usize) -> Option<()> {
        self.expect(b'{')?;
        self.blank();
        let mut filled = 0;
        if self.peek()? == b'}' {
            self.at += 1;
        } else {
            let mut place = 0;
            loop {
                let name = self.plain_string()?;
                self.blank();
                self.expect(b':')?;
                self.blank();
                match names.find_at(place, name.as_bytes()) {
                    Some(position) => {
                        let column = &mut columns[position];
                        if column.len() > row {
                            return None;
                        }
                        self.value(column)?;
                        filled += 1;
                    }
                    None => self.skip(0)?,
                }
                place += 1;
                self.blank();
                match self.peek()? {
                    b',' => self.at += 1,
                    b'}' => {
                        self.at += 1;
                        break;
                    }
                    _ => return None,
                }
                self.blank();
            }
        }
        if filled < columns.len() {
            columns.iter_mut().filter(|column| column.len() == row).for_each(Column::append_null);
        }
        Some(())
    }

    /// Appends one value to its column.
    fn value(&mut self, column: &mut Column) -> Option<()> {
        if self.peek()? == b'n' {
            self.word(b"null")?;
            column.append_null();
            return Some(());
        }
        let row = column.len();
        match &mut column.values {
            Values::Bytes { is_text: true, ends, bytes } => {
                self.text_into(bytes)?;
                ends.push(i32::try_from(bytes.len()).ok()?);
            }
            Values::Bytes { is_text: false, .. } => return None,
            Values::Int64(values) => values.push(self.integer()?),
            Values::Int32(values) => values.push(i32::try_from(self.integer()?).ok()?),
            Values::Int16(values) => values.push(i16::try_from(self.integer()?).ok()?),
            Values::Int8(values) => values.push(i8::try_from(self.integer()?).ok()?),
            Values::Float64(values) => values.push(float_text(self.number()?).parse().ok()?),
            Values::Float32(values) => values.push(float_text(self.number()?).parse().ok()?),
            Values::Decimal { values, precision, scale } => {
                values.push(decimal(self.number()?, *precision, *scale)?);
            }
            Values::Boolean(values) => {
                let value = self.peek()? == b't';
                self.word(if value { b"true" } else { b"false" })?;
                values.append(value);
            }
            Values::Timestamp { values, has_zone } => {
                let text = self.plain_string()?;
                let times = self.times;
                values.push(if *has_zone { times.timestamp(text)? } else { times.timestamp_ntz(text)? });
            }
            Values::Date(values) => {
                let text = self.plain_string()?;
                values.push(self.times.date(text)?);
            }
            Values::Struct { names, children } => self.object(names, children, row)?,
            Values::List { item, .. } => {
                self.list(item)?;
                column.close_items();
                return Some(());
            }
            Values::Map { key, value, .. } => {
                self.map(key, value)?;
                column.close_items();
                return Some(());
            }
        }
        column.pushed();
        Some(())
    }

    fn list(&mut self, item: &mut Column) -> Option<()> {
        self.expect(b'[')?;
        self.blank();
        if self.peek()? == b']' {
            self.at += 1;
            return Some(());
        }
        loop {
            self.value(item)?;
            self.blank();
            match self.peek()? {
                b',' => self.at += 1,
                b']' => {
                    self.at += 1;
                    return Some(());
                }
                _ => return None,
            }
            self.blank();
        }
    }

    fn map(&mut self, key: &mut Column, value: &mut Column) -> Option<()> {
        self.expect(b'{')?;
        self.blank();
        if self.peek()? == b'}' {
            self.at += 1;
            return Some(());
        }
        loop {
            let name = self.plain_string()?;
            self.blank();
            self.expect(b':')?;
            self.blank();
            self.value(value)?;
            key.append_bytes(name.as_bytes());
            self.blank();
            match self.peek()? {
                b',' => self.at += 1,
                b'}' => {
                    self.at += 1;
                    return Some(());
                }
                _ => return None,
            }
            self.blank();
        }
    }

    /// A string without escapes.
    #[inline]
    fn plain_string(&mut self) -> Option<&'a str> {
        self.expect(b'"')?;
        let from = self.at;
        self.at += plain_length(&self.bytes[from..]);
        let text = &self.text[from..self.at];
        self.expect(b'"')?;
        Some(text)
    }

    /// A string, unescaped, to the end of these bytes.
    fn text_into(&mut self, bytes: &mut Vec<u8>) -> Option<()> {
        self.expect(b'"')?;
        loop {
            let from = self.at;
            self.at += plain_length(&self.bytes[from..]);
            bytes.extend_from_slice(&self.bytes[from..self.at]);
            match self.peek()? {
                b'"' => {
                    self.at += 1;
                    return Some(());
                }
                b'\\' => {
                    let c = self.escape()?;
                    bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                }
                // A control character.
                _ => return None,
            }
        }
    }

    fn escape(&mut self) -> Option<char> {
        let c = *self.bytes.get(self.at + 1)?;
        self.at += 2;
        Some(match c {
            b'"' | b'\\' | b'/' => c as char,
            b'n' => '\n',
            b't' => '\t',
            b'r' => '\r',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'u' => {
                let mut code = 0;
                for digit in self.bytes.get(self.at..self.at + 4)? {
                    code = code * 16 + (*digit as char).to_digit(16)?;
                }
                self.at += 4;
                // Halves of surrogate pairs are no characters: the careful way puts them together.
                char::from_u32(code)?
            }
            _ => return None,
        })
    }

    /// A whole number of at most 18 digits.
    #[inline]
    fn integer(&mut self) -> Option<i64> {
        let is_negative = self.peek()? == b'-';
        self.at += usize::from(is_negative);
        let from = self.at;
        let mut value: i64 = 0;
        while let Some(digit) = self.peek().map(|byte| byte.wrapping_sub(b'0')).filter(|digit| *digit < 10) {
            value = value.wrapping_mul(10).wrapping_add(i64::from(digit));
            self.at += 1;
        }
        let digits = self.at - from;
        if digits == 0 || digits > 18 || (digits > 1 && self.bytes[from] == b'0') {
            return None;
        }
        self.ends_here()?;
        Some(if is_negative { -value } else { value })
    }

    /// The text of a number in JSON's grammar.
    fn number(&mut self) -> Option<&'a str> {
        let from = self.at;
        self.at += usize::from(self.peek()? == b'-');
        let whole = self.digits();
        if whole == 0 || (whole > 1 && self.bytes[self.at - whole] == b'0') {
            return None;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            if self.digits() == 0 {
                return None;
            }
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            self.at += usize::from(matches!(self.peek(), Some(b'+' | b'-')));
            if self.digits() == 0 {
                return None;
            }
        }
        self.ends_here()?;
        (self.at - from < 400).then(|| &self.text[from..self.at])
    }

    fn digits(&mut self) -> usize {
        let from = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        self.at - from
    }

    /// Passes over a value that no column wants; its grammar counts all the same.
    fn skip(&mut self, depth: usize) -> Option<()> {
        match self.peek()? {
            b'"' => self.skip_string(),
            b't' => self.word(b"true"),
            b'f' => self.word(b"false"),
            b'n' => self.word(b"null"),
            b'{' | b'[' if depth < MAX_DEPTH => self.skip_items(depth),
            b'-' | b'0'..=b'9' => self.number().map(|_| ()),
            _ => None,
        }
    }

    fn skip_string(&mut self) -> Option<()> {
        self.expect(b'"')?;
        loop {
            self.at += plain_length(&self.bytes[self.at..]);
            match self.peek()? {
                b'"' => {
                    self.at += 1;
                    return Some(());
                }
                b'\\' => {
                    self.escape()?;
                }
                _ => return None,
            }
        }
    }

    fn skip_items(&mut self, depth: usize) -> Option<()> {
        let is_object = self.peek()? == b'{';
        let end = if is_object { b'}' } else { b']' };
        self.at += 1;
        self.blank();
        if self.peek()? == end {
            self.at += 1;
            return Some(());
        }
        loop {
            if is_object {
                self.skip_string()?;
                self.blank();
                self.expect(b':')?;
                self.blank();
            }
            self.skip(depth + 1)?;
            self.blank();
            match self.peek()? {
                b',' => self.at += 1,
                byte if byte == end => {
                    self.at += 1;
                    return Some(());
                }
                _ => return None,
            }
            self.blank();
        }
    }
}

/// Jackson reads an integer `-0` as 0.
fn float_text(number: &str) -> &str {
    if number == "-0" { "0" } else { number }
}

/// How many bytes come before the first `"`, `\` or control character, eight at a time.
#[inline]
fn plain_length(bytes: &[u8]) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = ONES * 0x80;
    let mut at = 0;
    while let Some(Ok(eight)) = bytes.get(at..at + 8).map(<[u8; 8]>::try_from) {
        let word = u64::from_le_bytes(eight);
        let (quote, backslash) = (word ^ (ONES * 0x22), word ^ (ONES * 0x5c));
        // A byte's high bit is set where it is zero (or below 0x20); what is above the first hit may be wrong.
        let hits = (quote.wrapping_sub(ONES) & !quote
            | backslash.wrapping_sub(ONES) & !backslash
            | word.wrapping_sub(ONES * 0x20) & !word)
            & HIGHS;
        if hits != 0 {
            return at + (hits.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    let rest = &bytes[at..];
    at + rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1f)).unwrap_or(rest.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_length_stops_where_a_loop_would() {
        for stop in 0..=255_u8 {
            for at in 0..20 {
                let mut bytes = vec![b'a'; 20];
                bytes[at] = stop;
                let slow = bytes.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1f)).unwrap_or(20);
                assert_eq!(plain_length(&bytes), slow, "byte {stop} at {at}");
            }
        }
        assert_eq!(plain_length("ünïcödé€😀\"".as_bytes()), "ünïcödé€😀".len());
    }
}
