//! Datetime patterns (`yyyy-MM-dd HH:mm:ss`) of the options `timestampFormat`, `timestampNTZFormat` and `dateFormat`.
//!
//! The letters are those of Spark's datetime patterns as far as they can be read: `y u M L d D H h k K m s S a X x Z z V`,
//! quoted text, `[optional]` parts. What is missing from a text is taken from 1970-01-01 00:00. A pattern with other
//! letters is refused when the source is made, not when a row comes along.

use chrono::{Datelike, NaiveDate};
use wavetank_engine::{Error, Result};

use crate::format::time::{ShortNames, Zone, days_of_civil, local_us};

/// A pattern that texts can be read with.
#[derive(Clone, Debug)]
pub(crate) struct Pattern {
    items: Vec<Item>,
}

#[derive(Clone, Debug, PartialEq)]
enum Item {
    Literal(String),
    /// A number of the field: least and most digits.
    Number {
        field: Field,
        least: usize,
        most: usize,
    },
    /// `yy`: two digits of the years 2000 to 2099.
    ShortYear,
    /// 1 to so many digits of a second.
    Fraction(usize),
    /// The name of a month, three letters or all of it.
    MonthName {
        short: bool,
    },
    AmPm,
    Offset {
        colon: bool,
        letter_z: bool,
        least_parts: usize,
        most_parts: usize,
    },
    ZoneName(ShortNames),
    Optional(Vec<Item>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Year,
    Month,
    Day,
    DayOfYear,
    Hour,
    HourOfHalfDay,
    Minute,
    Second,
}

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

/// What was read so far.
#[derive(Clone, Debug, Default)]
struct Parts {
    numbers: [Option<i64>; 8],
    micros: u32,
    is_pm: Option<bool>,
    zone: Option<Zone>,
}

impl Pattern {
    /// A pattern from its text.
    pub(crate) fn new(pattern: &str) -> Result<Self> {
        let chars: Vec<char> = pattern.chars().collect();
        let mut at = 0;
        let items = items(&chars, &mut at, 0).filter(|_| at == chars.len());
        items.map(|items| Self { items }).ok_or_else(|| {
            Error::analysis_class(
                "INCONSISTENT_BEHAVIOR_CROSS_VERSION.DATETIME_PATTERN_RECOGNITION",
                format!(
                    "Fail to recognize '{pattern}' pattern in the DateTimeFormatter. Write it with the letters \
                     y M d D H h m s S a X x Z z V, text in single quotes and optional parts in [ ], for example \
                     yyyy-MM-dd'T'HH:mm:ss[.SSS][XXX]."
                ),
            )
        })
    }

    /// Local time in microseconds since 1970 and zone (where the text has one); `None` when the text does not fit.
    pub(crate) fn parse(&self, text: &str) -> Option<(i64, Option<Zone>)> {
        let mut parts = Parts::default();
        match read(&self.items, text, &mut parts)? {
            "" => parts.resolve(),
            _ => None,
        }
    }
}

fn items(chars: &[char], at: &mut usize, depth: usize) -> Option<Vec<Item>> {
    let mut items = Vec::new();
    while let Some(&c) = chars.get(*at) {
        match c {
            '[' => {
                *at += 1;
                items.push(Item::Optional(self::items(chars, at, depth + 1)?));
                *at += 1;
            }
            ']' if depth > 0 => return Some(items),
            '\'' => items.push(Item::Literal(quoted(chars, at)?)),
            _ if c.is_ascii_alphabetic() => {
                let count = chars[*at..].iter().take_while(|next| **next == c).count();
                *at += count;
                items.push(letters(c, count)?);
            }
            ']' | '{' | '}' | '#' => return None,
            _ => {
                items.push(Item::Literal(c.to_string()));
                *at += 1;
            }
        }
    }
    (depth == 0).then_some(items)
}

fn quoted(chars: &[char], at: &mut usize) -> Option<String> {
    *at += 1;
    if chars.get(*at) == Some(&'\'') {
        *at += 1;
        return Some("'".into());
    }
    let mut text = String::new();
    loop {
        match chars.get(*at)? {
            '\'' if chars.get(*at + 1) == Some(&'\'') => {
                text.push('\'');
                *at += 2;
            }
            '\'' => {
                *at += 1;
                return Some(text);
            }
            c => {
                text.push(*c);
                *at += 1;
            }
        }
    }
}

fn letters(letter: char, count: usize) -> Option<Item> {
    let number = |field, most_letters: usize| {
        let most = if count == 1 { 19 } else { count };
        (count <= most_letters).then_some(Item::Number { field, least: count, most })
    };
    match (letter, count) {
        ('y' | 'u', 2) => Some(Item::ShortYear),
        ('y' | 'u', _) => number(Field::Year, 6),
        ('M' | 'L', 3) => Some(Item::MonthName { short: true }),
        ('M' | 'L', 4) => Some(Item::MonthName { short: false }),
        ('M' | 'L', _) => number(Field::Month, 2),
        ('d', _) => number(Field::Day, 2),
        ('D', 1) => Some(Item::Number { field: Field::DayOfYear, least: 1, most: 3 }),
        ('D', _) => number(Field::DayOfYear, 3),
        ('H' | 'k', _) => number(Field::Hour, 2),
        ('h' | 'K', _) => number(Field::HourOfHalfDay, 2),
        ('m', _) => number(Field::Minute, 2),
        ('s', _) => number(Field::Second, 2),
        ('S', 1..=9) => Some(Item::Fraction(count)),
        ('a', 1) => Some(Item::AmPm),
        ('X' | 'x', 1..=5) => {
            let (least_parts, most_parts) = [(1, 2), (2, 2), (2, 2), (2, 3), (2, 3)][count - 1];
            Some(Item::Offset { colon: count == 3 || count == 5, letter_z: letter == 'X', least_parts, most_parts })
        }
        ('Z', 1..=3) => Some(Item::Offset { colon: false, letter_z: false, least_parts: 2, most_parts: 2 }),
        ('Z', 5) => Some(Item::Offset { colon: true, letter_z: true, least_parts: 2, most_parts: 3 }),
        ('V', 2) => Some(Item::ZoneName(ShortNames::Unknown)),
        ('z', 1..=4) => Some(Item::ZoneName(ShortNames::Known)),
        _ => None,
    }
}

/// Reads the items from the start of the text and gives what is left of it.
fn read<'a>(items: &[Item], mut text: &'a str, parts: &mut Parts) -> Option<&'a str> {
    for item in items {
        text = match item {
            Item::Literal(literal) => strip_prefix_ignoring_case(text, literal)?,
            Item::Optional(inner) => {
                let mut tried = parts.clone();
                match read(inner, text, &mut tried) {
                    Some(rest) => {
                        *parts = tried;
                        rest
                    }
                    None => text,
                }
            }
            Item::Number { field, least, most } => {
                let digits = leading_digits(text, *most);
                if digits < *least {
                    return None;
                }
                parts.numbers[*field as usize] = Some(text[..digits].parse().ok()?);
                &text[digits..]
            }
            Item::ShortYear => {
                if leading_digits(text, 2) < 2 {
                    return None;
                }
                parts.numbers[Field::Year as usize] = Some(2000 + text[..2].parse::<i64>().ok()?);
                &text[2..]
            }
            Item::Fraction(most) => {
                let digits = leading_digits(text, *most);
                if digits == 0 {
                    return None;
                }
                let kept = digits.min(6);
                parts.micros = text[..kept].parse::<u32>().ok()? * 10_u32.pow(6 - kept as u32);
                &text[digits..]
            }
            Item::MonthName { short } => {
                let (month, rest) = MONTHS.iter().enumerate().find_map(|(month, name)| {
                    let name = if *short { &name[..3] } else { name };
                    Some((month, strip_prefix_ignoring_case(text, name)?))
                })?;
                parts.numbers[Field::Month as usize] = Some(month as i64 + 1);
                rest
            }
            Item::AmPm => {
                let am = strip_prefix_ignoring_case(text, "am");
                parts.is_pm = Some(am.is_none());
                am.or_else(|| strip_prefix_ignoring_case(text, "pm"))?
            }
            Item::Offset { colon, letter_z, least_parts, most_parts } => {
                if *letter_z && text.starts_with(['Z', 'z']) {
                    parts.zone = Some(Zone::Utc);
                    &text[1..]
                } else {
                    let (seconds, rest) = offset(text, *colon, *least_parts, *most_parts)?;
                    parts.zone = Some(Zone::Fixed(seconds));
                    rest
                }
            }
            Item::ZoneName(short_names) => {
                let (name, rest) = zone_name(text);
                parts.zone = Some(Zone::parse(name, *short_names)?);
                rest
            }
        };
    }
    Some(text)
}

/// The longest start of the text that could name a zone, and the rest.
fn zone_name(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || "/_+-:~.".contains(c)));
    text.split_at(end.unwrap_or(text.len()))
}

fn leading_digits(text: &str, most: usize) -> usize {
    text.bytes().take(most).take_while(u8::is_ascii_digit).count()
}

fn strip_prefix_ignoring_case<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let head = text.get(..prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then(|| &text[prefix.len()..])
}

/// `+hh[[:]mm[[:]ss]]`: seconds east of UTC and the rest of the text.
fn offset(text: &str, colon: bool, least_parts: usize, most_parts: usize) -> Option<(i32, &str)> {
    let sign = match text.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let (mut rest, mut seconds, mut parts) = (&text[1..], 0, 0);
    for unit in [3600, 60, 1].into_iter().take(most_parts) {
        let part = if colon && parts > 0 { rest.strip_prefix(':') } else { Some(rest) };
        let Some(part) = part.filter(|part| leading_digits(part, 2) == 2) else { break };
        seconds += part[..2].parse::<i32>().ok()? * unit;
        rest = &part[2..];
        parts += 1;
    }
    (parts >= least_parts && seconds <= 18 * 3600).then_some((sign * seconds, rest))
}

impl Parts {
    fn number(&self, field: Field, default: i64) -> i64 {
        self.numbers[field as usize].unwrap_or(default)
    }

    fn resolve(self) -> Option<(i64, Option<Zone>)> {
        let year = self.number(Field::Year, 1970);
        let (month, day) = match self.numbers[Field::DayOfYear as usize] {
            Some(day) => {
                let date = NaiveDate::from_yo_opt(i32::try_from(year).ok()?, u32::try_from(day).ok()?)?;
                (date.month().into(), date.day().into())
            }
            None => (self.number(Field::Month, 1), self.number(Field::Day, 1)),
        };
        let hour = match self.numbers[Field::HourOfHalfDay as usize] {
            Some(hour) if (0..=12).contains(&hour) => hour % 12 + if self.is_pm == Some(true) { 12 } else { 0 },
            Some(_) => return None,
            None => self.number(Field::Hour, 0),
        };
        let (minute, second) = (self.number(Field::Minute, 0), self.number(Field::Second, 0));
        if year.abs() > 999_999 || month > 12 || day > 31 || hour > 23 || minute > 59 || second > 59 {
            return None;
        }
        let days = days_of_civil(year, month, day)?;
        Some((local_us(days.into(), (hour * 60 + minute) * 60 + second, self.micros.into())?, self.zone))
    }
}
