//! Java's date-time patterns (`yyyy-MM-dd HH:mm:ss.SSS`), as far as Spark takes them: printing and reading, in UTC.
//!
//! Letters: `y u M L d D H h k K m s S a E Q X x Z z V`, quoted text, and everything that is no letter as itself. Week-based
//! letters are refused, as in Spark 3 and later.

use std::fmt::Write;

use chrono::{DateTime, Datelike, NaiveDate, NaiveTime, Timelike, Utc};

use crate::error::{Error, Result};

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
const DAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

/// The short name of a day of the week, 0 for Monday.
pub(crate) fn day_name(from_monday: u32) -> &'static str {
    &DAYS[from_monday as usize % 7][..3]
}

/// A compiled pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pattern {
    items: Vec<Item>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Item {
    Text(String),
    Field(char, usize),
}

impl Pattern {
    /// Compiles a pattern; class `INVALID_DATETIME_PATTERN` for letters that have no meaning.
    pub(crate) fn new(pattern: &str) -> Result<Self> {
        let mut items = Vec::new();
        let mut rest = pattern.chars().peekable();
        while let Some(c) = rest.next() {
            match c {
                '\'' => items.push(Item::Text(quoted(&mut rest))),
                'y' | 'u' | 'M' | 'L' | 'd' | 'D' | 'H' | 'h' | 'k' | 'K' | 'm' | 's' | 'S' | 'a' | 'E' | 'Q' | 'X'
                | 'x' | 'Z' | 'z' | 'V' | 'O' => {
                    let mut count = 1;
                    while rest.next_if_eq(&c).is_some() {
                        count += 1;
                    }
                    items.push(Item::Field(c, count));
                }
                c if c.is_ascii_alphabetic() => {
                    return Err(Error::analysis_class(
                        "INVALID_DATETIME_PATTERN.ILLEGAL_CHARACTER",
                        format!(
                            "Unrecognized datetime pattern: {pattern}. The letter '{c}' has no meaning in it. Put text into single \
                             quotes; letters are yMdHhmsSaEQXZ."
                        ),
                    ));
                }
                // Optional sections only matter for reading, where what they hold is tried as if it must be there.
                '[' | ']' => {}
                c => items.push(Item::Text(c.to_string())),
            }
        }
        Ok(Self { items })
    }

    /// Prints a time, in microseconds since 1970.
    pub(crate) fn print(&self, micros: i64) -> String {
        let mut out = String::new();
        let Some(time) = DateTime::<Utc>::from_timestamp_micros(micros) else { return out };
        for item in &self.items {
            match item {
                Item::Text(text) => out.push_str(text),
                Item::Field(letter, count) => print_field(&mut out, *letter, *count, &time),
            }
        }
        out
    }

    /// Reads a text as a whole; `None` when it does not match. A missing date is 1970-01-01, a missing time midnight.
    pub(crate) fn read(&self, text: &str) -> Option<i64> {
        let mut fields = Fields::default();
        let mut rest = text;
        for (i, item) in self.items.iter().enumerate() {
            match item {
                Item::Text(expected) => rest = rest.strip_prefix(expected.as_str())?,
                Item::Field(letter, count) => {
                    // Digits that touch the next field are as many as the pattern has letters.
                    let adjacent =
                        matches!(self.items.get(i + 1), Some(Item::Field(next, _)) if next.is_ascii_alphabetic());
                    rest = fields.read(*letter, *count, adjacent, rest)?;
                }
            }
        }
        rest.is_empty().then_some(())?;
        fields.micros()
    }
}

fn quoted(rest: &mut std::iter::Peekable<std::str::Chars>) -> String {
    if rest.next_if_eq(&'\'').is_some() {
        return "'".to_owned();
    }
    let mut text = String::new();
    while let Some(c) = rest.next() {
        if c != '\'' {
            text.push(c);
        } else if rest.next_if_eq(&'\'').is_some() {
            text.push('\'');
        } else {
            break;
        }
    }
    text
}

fn print_field(out: &mut String, letter: char, count: usize, time: &DateTime<Utc>) {
    let named = |name: &str| if count >= 4 { name.to_owned() } else { name[..3].to_owned() };
    let hour12 = time.hour() % 12;
    let number = match letter {
        'y' | 'u' if count == 2 => time.year().rem_euclid(100) as u32,
        'y' | 'u' => {
            write!(out, "{:0count$}", time.year()).expect("a string takes everything");
            return;
        }
        'M' | 'L' if count >= 3 => return out.push_str(&named(MONTHS[time.month0() as usize])),
        'M' | 'L' => time.month(),
        'd' => time.day(),
        'D' => time.ordinal(),
        'H' => time.hour(),
        'k' => (time.hour() + 23) % 24 + 1,
        'K' => hour12,
        'h' => (hour12 + 11) % 12 + 1,
        'm' => time.minute(),
        's' => time.second(),
        'Q' if count >= 3 => {
            write!(out, "Q{}", time.month0() / 3 + 1).expect("a string takes everything");
            return;
        }
        'Q' => time.month0() / 3 + 1,
        'S' => {
            let digits = format!("{:09}", time.nanosecond());
            return out.push_str(&digits[..count.min(9)]);
        }
        'a' => return out.push_str(if time.hour() < 12 { "AM" } else { "PM" }),
        'E' => return out.push_str(&named(DAYS[time.weekday().num_days_from_monday() as usize])),
        'X' => return out.push('Z'),
        'x' | 'Z' => return out.push_str(if count == 3 || count == 5 { "+00:00" } else { "+0000" }),
        'O' => return out.push_str("GMT"),
        _ => return out.push_str("UTC"),
    };
    write!(out, "{number:0count$}").expect("a string takes everything");
}

/// What was read so far.
#[derive(Debug, Default)]
struct Fields {
    year: Option<i32>,
    month: Option<u32>,
    day: Option<u32>,
    day_of_year: Option<u32>,
    hour: Option<u32>,
    hour12: Option<u32>,
    afternoon: Option<bool>,
    minute: Option<u32>,
    second: Option<u32>,
    nanos: u32,
    offset_us: i64,
}

impl Fields {
    /// Reads one field and gives what follows it.
    fn read<'t>(&mut self, letter: char, count: usize, adjacent: bool, text: &'t str) -> Option<&'t str> {
        let most = match letter {
            'y' | 'u' if count != 2 => 9,
            'S' => count,
            _ => count.max(2),
        };
        match letter {
            'M' | 'L' if count >= 3 => {
                let (at, rest) = read_name(text, &MONTHS, count >= 4)?;
                self.month = Some(at as u32 + 1);
                return Some(rest);
            }
            'E' => return read_name(text, &DAYS, count >= 4).map(|(_, rest)| rest),
            'a' => {
                let (half, rest) = text.split_at_checked(2)?;
                self.afternoon = Some(match half.to_ascii_uppercase().as_str() {
                    "AM" => false,
                    "PM" => true,
                    _ => return None,
                });
                return Some(rest);
            }
            'X' | 'x' | 'Z' | 'z' | 'V' | 'O' => return self.read_zone(text),
            _ => {}
        }
        let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let end = end.min(if adjacent { count } else { most });
        let digits = &text[..end];
        if digits.len() < if letter == 'S' || count > 1 { count } else { 1 } {
            return None;
        }
        let number: u32 = digits.parse().ok()?;
        match letter {
            'y' | 'u' if count == 2 => self.year = Some(2000 + number as i32),
            'y' | 'u' => self.year = Some(number as i32),
            'M' | 'L' => self.month = Some(number),
            'd' => self.day = Some(number),
            'D' => self.day_of_year = Some(number),
            'H' => self.hour = Some(number),
            'k' => self.hour = Some(number % 24),
            'h' | 'K' => self.hour12 = Some(number % 12),
            'm' => self.minute = Some(number),
            's' => self.second = Some(number),
            'S' => self.nanos = number * 10_u32.pow(9_u32.checked_sub(digits.len() as u32)?),
            _ => {}
        }
        Some(&text[end..])
    }

    fn read_zone<'t>(&mut self, text: &'t str) -> Option<&'t str> {
        for name in ["UTC", "GMT", "Z"] {
            if let Some(rest) = text.strip_prefix(name) {
                return Some(rest);
            }
        }
        let sign = match text.as_bytes().first()? {
            b'+' => 1,
            b'-' => -1,
            _ => return None,
        };
        let body = &text[1..];
        let hours: i64 = body.get(..2)?.parse().ok()?;
        let after = &body[2..];
        let after = after.strip_prefix(':').unwrap_or(after);
        let minutes: i64 = after.get(..2).and_then(|m| m.parse().ok()).unwrap_or(0);
        let used = after.get(..2).filter(|m| m.parse::<u8>().is_ok()).map_or(0, str::len);
        self.offset_us = sign * (hours * 60 + minutes) * 60_000_000;
        Some(&after[used..])
    }

    fn micros(self) -> Option<i64> {
        let year = self.year.unwrap_or(1970);
        let date = match self.day_of_year {
            Some(day) => NaiveDate::from_yo_opt(year, day)?,
            None => NaiveDate::from_ymd_opt(year, self.month.unwrap_or(1), self.day.unwrap_or(1))?,
        };
        let hour = match (self.hour, self.hour12) {
            (Some(hour), _) => hour,
            (None, Some(hour)) => hour + if self.afternoon == Some(true) { 12 } else { 0 },
            (None, None) => 0,
        };
        let (minute, second) = (self.minute.unwrap_or(0), self.second.unwrap_or(0));
        let time = NaiveTime::from_hms_nano_opt(hour, minute, second, self.nanos)?;
        date.and_time(time).and_utc().timestamp_micros().checked_sub(self.offset_us)
    }
}

/// Which of the names a text begins with (its first three letters, or all of it), and what follows.
fn read_name<'t>(text: &'t str, names: &[&str], whole: bool) -> Option<(usize, &'t str)> {
    names.iter().enumerate().find_map(|(i, name)| {
        let name = if whole { name } else { &name[..3] };
        let (head, rest) = text.split_at_checked(name.len())?;
        head.eq_ignore_ascii_case(name).then_some((i, rest))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: i64 = 1_709_294_401_500_000; // 2024-03-01 12:00:01.5, a Friday

    #[test]
    fn patterns_print_as_in_java() {
        for (pattern, text) in [
            ("yyyy-MM-dd HH:mm:ss.SSS", "2024-03-01 12:00:01.500"),
            ("E MMM d", "Fri Mar 1"),
            ("EEEE, d MMMM yy", "Friday, 1 March 24"),
            ("hh:mm a 'o''clock'", "12:00 PM o'clock"),
            ("D Q QQQ XXX", "61 1 Q1 Z"),
        ] {
            assert_eq!(Pattern::new(pattern).unwrap().print(T), text);
        }
        assert!(Pattern::new("YYYY").unwrap_err().to_string().contains("'Y' has no meaning"));
    }

    #[test]
    fn what_is_printed_reads_back() {
        for pattern in
            ["yyyy-MM-dd'T'HH:mm:ss.SSSXXX", "dd/MM/yyyy hh:mm:ss.SS a", "yyyyMMddHHmmssS", "d MMM yyyy HH:mm:ss.S"]
        {
            let pattern = Pattern::new(pattern).unwrap();
            assert_eq!(pattern.read(&pattern.print(T)), Some(T), "{pattern:?}");
        }
        let day = Pattern::new("dd/MM/yyyy").unwrap();
        assert_eq!(day.read("01/03/2024"), Some(1_709_251_200_000_000));
        for wrong in ["1/3/2024", "01/13/2024", "01/03/2024x", "x", ""] {
            assert_eq!(day.read(wrong), None, "{wrong}");
        }
        let zoned = Pattern::new("yyyy-MM-dd HH:mm Z").unwrap();
        assert_eq!(zoned.read("2024-03-01 14:00 +0200"), Some(T - 1_500_000));
    }
}
