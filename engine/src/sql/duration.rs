//! Spark's interval text (`10 seconds`, `interval 1 day -2 hours`) as months, days and microseconds.
//!
//! Source of the rules: `spec/02` section 1 (watermark delays), `spec/03` section 1 (window durations), Spark's
//! `IntervalUtils.stringToInterval`.

use crate::error::{Error, Result};
use crate::options::did_you_mean;

const US_PER_MS: i64 = 1_000;
const US_PER_SECOND: i64 = 1_000_000;
const US_PER_DAY: i64 = 86_400 * US_PER_SECOND;
/// A watermark delay counts each month as this many days.
const DAYS_PER_MONTH: i64 = 31;

/// Units in the order in which errors list them, with what one of each is.
const UNITS: [(&str, Unit); 9] = [
    ("year", Unit::Months(12)),
    ("month", Unit::Months(1)),
    ("week", Unit::Days(7)),
    ("day", Unit::Days(1)),
    ("hour", Unit::Micros(3_600 * US_PER_SECOND)),
    ("minute", Unit::Micros(60 * US_PER_SECOND)),
    ("second", Unit::Micros(US_PER_SECOND)),
    ("millisecond", Unit::Micros(US_PER_MS)),
    ("microsecond", Unit::Micros(1)),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Months(i64),
    Days(i64),
    Micros(i64),
}

/// A calendar interval: its three parts do not convert into each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Interval {
    /// Whole months, years included.
    pub months: i32,
    /// Whole days, weeks included.
    pub days: i32,
    /// Everything shorter than a day.
    pub micros: i64,
}

impl Interval {
    /// Reads interval text. Class `CANNOT_PARSE_INTERVAL` when it is none.
    pub fn parse(text: &str) -> Result<Self> {
        // Spark also takes the literal's spelling, with quotes around the number: interval '10' second.
        let bare = text.replace('\'', "");
        let mut rest = bare.trim();
        if rest.is_empty() {
            return Err(invalid(text, "Interval text cannot be empty"));
        }
        if let Some(after) = strip_word(rest, "interval") {
            rest = after.trim_start();
            if rest.is_empty() {
                return Err(invalid(text, "A number and a unit must follow the word 'interval'"));
            }
        }
        let mut interval = Self::default();
        while !rest.is_empty() {
            rest = interval.add_term(text, rest)?;
        }
        Ok(interval)
    }

    /// Adds one `<number> <unit>` term and gives the text after it.
    fn add_term<'a>(&mut self, text: &str, rest: &'a str) -> Result<&'a str> {
        let overflow = || invalid(text, "The interval is too large");
        let (negative, number) = match rest.as_bytes()[0] {
            b'-' => (true, rest[1..].trim_start()),
            b'+' => (false, rest[1..].trim_start()),
            _ => (false, rest),
        };
        let digits = number.find(|c: char| !c.is_ascii_digit()).unwrap_or(number.len());
        let (whole, after) = number.split_at(digits);
        let (fraction, after) = match after.strip_prefix('.') {
            None => (None, after),
            Some(after) => {
                let digits = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
                (Some(&after[..digits]), &after[digits..])
            }
        };
        if whole.is_empty() && fraction.is_none_or(str::is_empty) {
            let word = number.split_whitespace().next().unwrap_or(number);
            return Err(invalid(text, &format!("Expected a number, found '{word}'")));
        }
        let unit_text = after.trim_start();
        let letters = unit_text.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(unit_text.len());
        let (unit_name, next) = unit_text.split_at(letters);
        let number_text = &number[..number.len() - after.len()];
        if after.len() == unit_text.len() && !unit_text.is_empty() {
            return Err(invalid(
                text,
                &format!("Write a space between the number and the unit in '{number_text}{unit_name}'"),
            ));
        }
        let unit = unit_of(text, unit_name, number_text)?;
        let sign = if negative { -1 } else { 1 };
        let amount: i64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| overflow())? };
        self.add(unit, sign * amount).ok_or_else(overflow)?;
        if let Some(fraction) = fraction {
            let micros = fraction_micros(text, unit_name, unit, fraction)?;
            self.add(Unit::Micros(1), sign * micros).ok_or_else(overflow)?;
        }
        Ok(next.trim_start())
    }

    fn add(&mut self, unit: Unit, amount: i64) -> Option<()> {
        match unit {
            Unit::Months(each) => self.months = add_small(self.months, amount, each)?,
            Unit::Days(each) => self.days = add_small(self.days, amount, each)?,
            Unit::Micros(each) => self.micros = self.micros.checked_add(amount.checked_mul(each)?)?,
        }
        Some(())
    }

    /// Days and microseconds together, months as `days_per_month` days; `None` when that is too much for 64 bits.
    fn total_us(self, days_per_month: i64) -> Option<i64> {
        let days = i64::from(self.months).checked_mul(days_per_month)?.checked_add(i64::from(self.days))?;
        days.checked_mul(US_PER_DAY)?.checked_add(self.micros)
    }

    /// The parts with their units, as Spark prints an interval: `1 year 2 months 3 days 4 hours 5.5 seconds`.
    pub fn to_text(self) -> String {
        let mut terms = Vec::new();
        let mut push = |amount: i64, unit: &str| {
            if amount != 0 {
                terms.push(format!("{amount} {unit}"));
            }
        };
        push(i64::from(self.months / 12), "years");
        push(i64::from(self.months % 12), "months");
        push(i64::from(self.days), "days");
        push(self.micros / (3_600 * US_PER_SECOND), "hours");
        push(self.micros / (60 * US_PER_SECOND) % 60, "minutes");
        let seconds_us = self.micros % (60 * US_PER_SECOND);
        if seconds_us != 0 {
            let sign = if seconds_us < 0 { "-" } else { "" };
            let (whole, part) = (seconds_us.abs() / US_PER_SECOND, seconds_us.abs() % US_PER_SECOND);
            let part = format!("{part:06}");
            let part = part.trim_end_matches('0');
            let dot = if part.is_empty() { "" } else { "." };
            terms.push(format!("{sign}{whole}{dot}{part} seconds"));
        }
        if terms.is_empty() { "0 seconds".to_owned() } else { terms.join(" ") }
    }
}

fn add_small(sum: i32, amount: i64, each: i64) -> Option<i32> {
    i32::try_from(i64::from(sum).checked_add(amount.checked_mul(each)?)?).ok()
}

fn strip_word<'a>(text: &'a str, word: &str) -> Option<&'a str> {
    let head = text.get(..word.len())?;
    let tail = &text[word.len()..];
    (head.eq_ignore_ascii_case(word) && !tail.starts_with(|c: char| c.is_ascii_alphanumeric())).then_some(tail)
}

fn unit_of(text: &str, name: &str, number: &str) -> Result<Unit> {
    if name.is_empty() {
        return Err(invalid(text, &format!("A unit must follow the number '{number}'")));
    }
    let lower = name.to_ascii_lowercase();
    let singular = lower.strip_suffix('s').unwrap_or(&lower);
    UNITS.iter().find(|(unit, _)| *unit == singular).map(|(_, unit)| *unit).ok_or_else(|| {
        let near = did_you_mean(&lower, UNITS.iter().map(|(unit, _)| *unit));
        let units = UNITS.iter().map(|(unit, _)| *unit).collect::<Vec<_>>().join(", ");
        invalid(text, &format!("Unrecognized unit '{name}'.{near} Units are: {units}"))
    })
}

/// The microseconds of the digits after a point; only seconds may have them, nine at most, cut after six.
fn fraction_micros(text: &str, unit_name: &str, unit: Unit, fraction: &str) -> Result<i64> {
    if unit != Unit::Micros(US_PER_SECOND) {
        let message = format!("'{unit_name}' cannot have a fraction; only seconds can");
        return Err(invalid(text, &message));
    }
    if fraction.len() > 9 {
        return Err(invalid(text, "Seconds can have nine digits after the point at most"));
    }
    let digits: String = fraction.chars().chain("000000".chars()).take(6).collect();
    Ok(digits.parse().unwrap_or(0))
}

fn invalid(text: &str, message: &str) -> Error {
    let message = message.trim_end_matches('.');
    Error::analysis_class(
        "CANNOT_PARSE_INTERVAL",
        format!(
            "Unable to parse '{text}'. {message}. Write a number and a unit, for example '10 seconds' or \
             '1 hour 30 minutes'."
        ),
    )
}

/// The delay of a watermark in milliseconds: months count 31 days, microseconds are cut (`spec/02` section 1).
pub fn watermark_delay_ms(text: &str) -> Result<i64> {
    watermark_delay_of(Interval::parse(text)?, text)
}

/// [`watermark_delay_ms`] of an interval that was already read; `text` is what the user wrote.
pub fn watermark_delay_of(interval: Interval, text: &str) -> Result<i64> {
    let total_us = interval.total_us(DAYS_PER_MONTH).ok_or_else(|| invalid(text, "The interval is too large"))?;
    if total_us < 0 {
        // Spark's text, from Scala's `require`, to the letter.
        return Err(Error::analysis(format!("requirement failed: delay threshold ({text}) should not be negative.")));
    }
    Ok(total_us / US_PER_MS)
}

/// A window's duration, slide or start in microseconds; months are refused (`spec/03` section 1).
pub fn window_duration_us(text: &str) -> Result<i64> {
    let interval = Interval::parse(text)?;
    if interval.months != 0 {
        return Err(Error::analysis(format!("Intervals greater than a month is not supported ({text}).")));
    }
    interval.total_us(0).ok_or_else(|| invalid(text, "The interval is too large"))
}

/// The interval of `trigger` (processing time, `checkpointInterval`) in milliseconds; neither months nor negative.
pub fn trigger_interval_ms(text: &str) -> Result<i64> {
    let interval = Interval::parse(text)?;
    if interval.months != 0 {
        return Err(Error::analysis(format!(
            "Doesn't support month or year interval: {text}. Write the trigger's interval in weeks or shorter units."
        )));
    }
    let total_us = interval.total_us(0).ok_or_else(|| invalid(text, "The interval is too large"))?;
    if total_us < 0 {
        return Err(Error::analysis(format!(
            "requirement failed: the interval of trigger should not be negative, but is '{text}'."
        )));
    }
    Ok(total_us / US_PER_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_become_months_days_and_micros() {
        for (text, months, days, micros) in [
            ("10 seconds", 0, 0, 10_000_000),
            ("interval 1 hour 30 minutes", 0, 0, 5_400_000_000),
            ("INTERVAL 1 HOUR", 0, 0, 3_600_000_000),
            ("1 day -2 hours", 0, 1, -7_200_000_000),
            ("1.5 seconds", 0, 0, 1_500_000),
            (".5 seconds", 0, 0, 500_000),
            ("- 5 second", 0, 0, -5_000_000),
            ("-1.25 seconds", 0, 0, -1_250_000),
            ("1 year 2 weeks", 12, 14, 0),
            ("1 month 3 milliseconds 4 microseconds", 1, 0, 3_004),
            ("  1.1234567 second ", 0, 0, 1_123_456),
            ("5. seconds", 0, 0, 5_000_000),
            ("interval '10' second", 0, 0, 10_000_000),
        ] {
            assert_eq!(Interval::parse(text).unwrap(), Interval { months, days, micros }, "{text}");
        }
    }

    #[test]
    fn what_is_no_interval_says_why() {
        for (text, reason) in [
            ("", "cannot be empty"),
            ("interval", "must follow the word 'interval'"),
            ("abc", "Expected a number, found 'abc'"),
            ("10", "A unit must follow the number '10'"),
            ("10 secs", "Unrecognized unit 'secs'"),
            ("10seconds", "Write a space"),
            ("1.5 minutes", "'minutes' cannot have a fraction"),
            ("1.1234567899 seconds", "nine digits"),
            ("99999999999999999999 days", "too large"),
            ("3000000000 days", "too large"),
        ] {
            let error = Interval::parse(text).unwrap_err();
            assert_eq!(error.class(), Some("CANNOT_PARSE_INTERVAL"), "{text}");
            assert!(error.to_string().contains(reason), "{error}");
        }
        assert!(Interval::parse("10 minuts").unwrap_err().to_string().contains("Did you mean 'minute'?"));
    }

    #[test]
    fn delays_are_milliseconds_with_long_months() {
        assert_eq!(watermark_delay_ms("1 month").unwrap(), 2_678_400_000);
        assert_eq!(watermark_delay_ms("1 year 2 days").unwrap(), 32_313_600_000);
        assert_eq!(watermark_delay_ms("1999 microseconds").unwrap(), 1);
        assert_eq!(watermark_delay_ms("0 seconds").unwrap(), 0);
        assert_eq!(
            watermark_delay_ms("-10 seconds").unwrap_err().to_string(),
            "requirement failed: delay threshold (-10 seconds) should not be negative."
        );
    }

    #[test]
    fn windows_refuse_months_and_triggers_refuse_the_past() {
        assert_eq!(window_duration_us("1 day").unwrap(), 86_400_000_000);
        assert_eq!(
            window_duration_us("1 month").unwrap_err().to_string(),
            "Intervals greater than a month is not supported (1 month)."
        );
        assert_eq!(trigger_interval_ms("0 seconds").unwrap(), 0);
        assert!(trigger_interval_ms("-1 second").is_err());
    }

    #[test]
    fn the_text_of_an_interval_reads_back_as_itself() {
        for text in ["1 years 2 months 3 days 4 hours 5 minutes 6.5 seconds", "-1.25 seconds", "0 seconds"] {
            assert_eq!(Interval::parse(text).unwrap().to_text(), text);
        }
    }
}
