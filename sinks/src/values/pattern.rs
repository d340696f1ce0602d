//! Date and time formats that users write (`yyyy-MM-dd'T'HH:mm:ss.SSSXXX`), for writing, in UTC.
//!
//! The letters are those of Spark's datetime patterns that mean the same in every place and language; names of months
//! and days are English. Refused with the letter named: week-based fields, and what Spark itself refuses.

use std::io::Write;

use wavetank_engine::{Error, Result};

use super::time::{Moment, civil, write_year};

/// Spark's default for timestamps in JSON and CSV.
pub(crate) const TIMESTAMP: &str = "yyyy-MM-dd'T'HH:mm:ss.SSSXXX";
/// Spark's default for timestamps without a zone in JSON and CSV.
pub(crate) const TIMESTAMP_NTZ: &str = "yyyy-MM-dd'T'HH:mm:ss.SSS";
/// Spark's default for dates in JSON and CSV.
pub(crate) const DATE: &str = "yyyy-MM-dd";

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
/// 1970-01-01 was a Thursday.
const DAYS: [&str; 7] = ["Thursday", "Friday", "Saturday", "Sunday", "Monday", "Tuesday", "Wednesday"];

/// A parsed format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pattern {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Field(char, usize),
}

impl Pattern {
    /// Reads the format of this option.
    pub(crate) fn parse(option: &str, text: &str) -> Result<Self> {
        let refuse = |why: String| {
            Err(Error::analysis_class(
                "INVALID_DATETIME_PATTERN.WITH_SUGGESTION",
                format!(
                    "Unrecognized datetime pattern '{text}' of option '{option}': {why}. Write for example {TIMESTAMP}."
                ),
            ))
        };
        let mut parts = Vec::new();
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            match c {
                '\'' if chars.peek() == Some(&'\'') => {
                    chars.next();
                    parts.push(Part::Text("'".into()));
                }
                '\'' => match quoted(&mut chars) {
                    Some(literal) => parts.push(Part::Text(literal)),
                    None => return refuse("a quote is not closed".into()),
                },
                '[' | ']' => {} // what is optional for reading is always written
                'a'..='z' | 'A'..='Z' => {
                    let mut count = 1;
                    while chars.next_if_eq(&c).is_some() {
                        count += 1;
                    }
                    if !is_known(c, count) {
                        return refuse(format!("'{}' is not supported", c.to_string().repeat(count)));
                    }
                    parts.push(Part::Field(c, count));
                }
                '{' | '}' | '#' => return refuse(format!("'{c}' is reserved")),
                other => parts.push(Part::Text(other.into())),
            }
        }
        Ok(Self { parts })
    }

    /// Appends a moment.
    pub(crate) fn write(&self, moment: Moment, out: &mut Vec<u8>) {
        for part in &self.parts {
            match part {
                Part::Text(text) => out.extend_from_slice(text.as_bytes()),
                Part::Field(letter, count) => write_field(*letter, *count, moment, out),
            }
        }
    }
}

fn quoted(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<String> {
    let mut literal = String::new();
    loop {
        match chars.next()? {
            '\'' if chars.next_if_eq(&'\'').is_some() => literal.push('\''),
            '\'' => return Some(literal),
            other => literal.push(other),
        }
    }
}

fn is_known(letter: char, count: usize) -> bool {
    let longest = match letter {
        'y' => 6,
        'S' => 9,
        'M' | 'L' | 'E' => 4,
        'D' => 3,
        'd' | 'H' | 'h' | 'k' | 'K' | 'm' | 's' => 2,
        'a' => 1,
        'X' | 'x' | 'Z' => 5,
        'z' => 4,
        _ => 0,
    };
    count <= longest && !(letter == 'z' && count == 4)
}

fn write_field(letter: char, count: usize, moment: Moment, out: &mut Vec<u8>) {
    let (year, month, day) = civil(moment.days);
    let (hour, minute, second, us) = moment.clock();
    let number = match letter {
        'y' if count == 2 => year.rem_euclid(100),
        'y' if count == 4 => return write_year(year, out),
        'y' => year,
        'M' | 'L' if count > 2 => return write_name(MONTHS[(month - 1) as usize], count == 4, out),
        'M' | 'L' => month,
        'E' => return write_name(DAYS[moment.days.rem_euclid(7) as usize], count == 4, out),
        'd' => day,
        'D' => moment.days - days_before(moment.days, month, day),
        'H' => hour,
        'h' => (hour + 11) % 12 + 1,
        'k' => (hour + 23) % 24 + 1,
        'K' => hour % 12,
        'm' => minute,
        's' => second,
        'S' => {
            let digits = format!("{us:06}000");
            return out.extend_from_slice(&digits.as_bytes()[..count]);
        }
        'a' => return out.extend_from_slice(if hour < 12 { b"AM" } else { b"PM" }),
        _ => return out.extend_from_slice(utc(letter, count).as_bytes()),
    };
    let _ = write!(out, "{number:0count$}"); // a Vec takes every write
}

/// The last day of the year before, counted from 1970.
fn days_before(days: i64, month: i64, day: i64) -> i64 {
    let mut first = days - (day - 1);
    for _ in 1..month {
        let (_, _, length) = civil(first - 1);
        first -= length;
    }
    first - 1
}

fn write_name(name: &str, long: bool, out: &mut Vec<u8>) {
    out.extend_from_slice(if long { name.as_bytes() } else { &name.as_bytes()[..3] });
}

/// How the zone UTC is spelled by this field.
fn utc(letter: char, count: usize) -> &'static str {
    match (letter, count) {
        ('X', _) | ('Z', 5) => "Z",
        ('x', 1) => "+00",
        ('x', 2 | 4) | ('Z', 1..=3) => "+0000",
        ('x', _) => "+00:00",
        ('Z', _) => "GMT",
        _ => "UTC",
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::TimeUnit;

    use super::*;

    #[test]
    fn formats_are_written_as_spark_writes_them() {
        let moment = Moment::of(1_709_647_629_123_456, TimeUnit::Microsecond);
        let facts = [
            ("yyyy-MM-dd'T'HH:mm:ss.SSSSSSXXX", "2024-03-05T14:07:09.123456Z"),
            ("yyyy-MM-dd HH:mm:ss[.SSSSSS]", "2024-03-05 14:07:09.123456"),
            ("d/M/yy h:m:s a", "5/3/24 2:7:9 PM"),
            ("EEE, dd MMM yyyy", "Tue, 05 Mar 2024"),
            ("EEEE MMMM", "Tuesday March"),
            ("yyyy-MM-dd'T'HH:mm:ssZ", "2024-03-05T14:07:09+0000"),
            ("yyyy-MM-dd HH:mm:ss z", "2024-03-05 14:07:09 UTC"),
            ("xxx XX x ZZZZZ", "+00:00 Z +00 Z"),
            ("D", "65"),
            ("S SSS SSSSSSSSS", "1 123 123456000"),
            ("yyyy''MM 'o''clock'", "2024'03 o'clock"),
            ("kk KK H y yyyyyy", "14 02 14 2024 002024"),
        ];
        for (pattern, expected) in facts {
            let mut out = Vec::new();
            Pattern::parse("timestampFormat", pattern).unwrap().write(moment, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }

    #[test]
    fn unknown_letters_are_named() {
        for (pattern, why) in
            [("yyyy-ww", "'ww' is not supported"), ("'x", "not closed"), ("uuuu", "'uuuu'"), ("{", "reserved")]
        {
            let error = Pattern::parse("dateFormat", pattern).unwrap_err().to_string();
            assert!(error.contains(why) && error.contains("dateFormat"), "{error}");
        }
    }
}
