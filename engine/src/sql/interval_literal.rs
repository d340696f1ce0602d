//! Spark's interval literals: `INTERVAL 1 DAY 2 HOURS`, `INTERVAL '1 02:03' DAY TO MINUTE`, `INTERVAL '10 seconds'`.

use datafusion::sql::sqlparser::tokenizer::Token;

use super::cursor::{Cursor, string_value, syntax_error};
use super::duration::Interval;
use crate::error::Result;

/// An interval literal and the name that Spark gives a column of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IntervalLiteral {
    pub(crate) interval: Interval,
    pub(crate) name: String,
}

/// Units from coarse to fine; a literal spans from one to another.
const UNITS: [&str; 6] = ["YEAR", "MONTH", "DAY", "HOUR", "MINUTE", "SECOND"];
const OTHER_UNITS: [(&str, usize); 3] = [("WEEK", 2), ("MILLISECOND", 5), ("MICROSECOND", 5)];

const US_PER_SECOND: i64 = 1_000_000;

/// Reads a literal when one begins at the cursor; `None`, with nothing read, when `INTERVAL` is something else there
/// (a column's name).
pub(crate) fn parse_interval_literal(cursor: &mut Cursor) -> Result<Option<IntervalLiteral>> {
    let start = cursor.position();
    let at = cursor.location();
    if !cursor.take_word("INTERVAL") {
        return Ok(None);
    }
    let mut text = String::new();
    let (mut first, mut last) = (UNITS.len(), 0);
    loop {
        let term = cursor.position();
        let sign = if cursor.take(&Token::Minus) { "-" } else { "" };
        cursor.take(&Token::Plus);
        let amount = match cursor.peek() {
            Token::Number(digits, _) => digits.clone(),
            token => match string_value(token) {
                Some(quoted) => quoted.to_owned(),
                None => {
                    cursor.seek(term);
                    break;
                }
            },
        };
        cursor.advance();
        match take_unit(cursor) {
            Some((unit, index)) => {
                if cursor.take_word("TO") {
                    let Some((_, end)) = take_unit(cursor) else { return Err(cursor.unexpected(&UNITS)) };
                    return range_literal(&format!("{sign}{amount}"), index, end, at).map(Some);
                }
                text.push_str(&format!(" {sign}{} {unit}", amount.trim()));
                (first, last) = (first.min(index), last.max(index));
            }
            // INTERVAL '10 seconds': the text carries its units.
            None if text.is_empty() && amount.contains(|c: char| c.is_ascii_alphabetic()) => {
                let interval = Interval::parse(&format!("{sign}{amount}"))?;
                let (first, last) = span_of(interval);
                return Ok(Some(IntervalLiteral { interval, name: literal_name(interval, first, last) }));
            }
            None if text.is_empty() && term == start + 1 && string_value(cursor.peek()).is_none() => {
                cursor.seek(start);
                return Ok(None);
            }
            None => return Err(cursor.unexpected(&UNITS)),
        }
    }
    if text.is_empty() {
        cursor.seek(start);
        return Ok(None);
    }
    let interval = Interval::parse(&text)?;
    Ok(Some(IntervalLiteral { interval, name: literal_name(interval, first, last) }))
}

/// Takes a unit's word; its singular and its place in [`UNITS`].
fn take_unit(cursor: &mut Cursor) -> Option<(String, usize)> {
    let all = UNITS.iter().enumerate().map(|(i, unit)| (*unit, i)).chain(OTHER_UNITS);
    for (unit, index) in all {
        if cursor.take_word(unit) || cursor.take_word(&format!("{unit}S")) {
            return Some((unit.to_owned(), index));
        }
    }
    None
}

/// The coarsest and finest unit of an interval that is not zero.
fn span_of(interval: Interval) -> (usize, usize) {
    let seconds = interval.micros / US_PER_SECOND;
    let used = [
        interval.months / 12 != 0,
        interval.months % 12 != 0,
        interval.days != 0,
        seconds / 3_600 != 0,
        seconds / 60 % 60 != 0,
        interval.micros % (60 * US_PER_SECOND) != 0,
    ];
    let first = used.iter().position(|u| *u).unwrap_or(5);
    let last = used.iter().rposition(|u| *u).unwrap_or(5);
    (first, last)
}

/// `INTERVAL '1 02:03:04.5' DAY TO SECOND`, `INTERVAL '1-2' YEAR TO MONTH`.
fn range_literal(
    text: &str,
    first: usize,
    last: usize,
    at: datafusion::sql::sqlparser::tokenizer::Location,
) -> Result<IntervalLiteral> {
    let wrong = || {
        let (from, to) = (UNITS[first], UNITS[last.min(5)]);
        syntax_error(
            at,
            &format!(
                "Interval text '{text}' does not match {from} TO {to}. Write for example INTERVAL '1-2' YEAR TO MONTH or \
                 INTERVAL '1 02:03:04.5' DAY TO SECOND"
            ),
        )
    };
    let (negative, body) = match text.trim().strip_prefix('-') {
        Some(body) => (true, body),
        None => (false, text.trim()),
    };
    let fields: Vec<&str> = body.split([' ', ':', '-']).collect();
    if first >= last || last > 5 || (first < 2 && last != 1) || fields.len() != last - first + 1 {
        return Err(wrong());
    }
    let sign = if negative { "-" } else { "" };
    let terms: Vec<String> =
        fields.iter().zip(&UNITS[first..]).map(|(amount, unit)| format!("{sign}{} {unit}", amount.trim())).collect();
    let interval = Interval::parse(&terms.join(" ")).map_err(|_| wrong())?;
    Ok(IntervalLiteral { interval, name: literal_name(interval, first, last) })
}

/// Spark's text of a literal: `INTERVAL '10' SECOND`, `INTERVAL '01' HOUR`, `INTERVAL '1 02' DAY TO HOUR`.
fn literal_name(interval: Interval, first: usize, last: usize) -> String {
    if first < 2 && last >= 2 {
        return interval.to_text();
    }
    let (negative, fields) = if first < 2 {
        let months = i64::from(interval.months).abs();
        let month = if first == 0 { months % 12 } else { months };
        (interval.months < 0, vec![(months / 12).to_string(), month.to_string()])
    } else {
        let total_us = i128::from(interval.days) * 86_400_000_000 + i128::from(interval.micros);
        (total_us < 0, day_time_fields(total_us.unsigned_abs(), first))
    };
    let base = if first < 2 { 0 } else { 2 };
    let mut text = String::new();
    for unit in first..=last {
        text.push_str(match unit - first {
            0 => "",
            _ if unit == 1 => "-",
            1 if first == 2 => " ",
            _ => ":",
        });
        text.push_str(&fields[unit - base]);
    }
    let sign = if negative { "-" } else { "" };
    let units = if first == last { UNITS[first].to_owned() } else { format!("{} TO {}", UNITS[first], UNITS[last]) };
    format!("INTERVAL '{sign}{text}' {units}")
}

/// Days, hours, minutes and seconds as text; the coarsest unit asked for takes all that is above it.
fn day_time_fields(total_us: u128, first: usize) -> Vec<String> {
    let seconds = total_us / 1_000_000;
    let fraction = format!("{:06}", total_us % 1_000_000);
    let fraction = fraction.trim_end_matches('0');
    let limited = |value: u128, limit: u128, unit: usize| if unit == first { value } else { value % limit };
    let dot = if fraction.is_empty() { "" } else { "." };
    vec![
        (seconds / 86_400).to_string(),
        format!("{:02}", limited(seconds / 3_600, 24, 3)),
        format!("{:02}", limited(seconds / 60, 60, 4)),
        format!("{:02}{dot}{fraction}", limited(seconds, 60, 5)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_read_and_are_named_as_in_spark() {
        for (sql, text, name) in [
            ("INTERVAL 10 SECONDS", "10 seconds", "INTERVAL '10' SECOND"),
            ("INTERVAL '1' HOUR", "1 hours", "INTERVAL '01' HOUR"),
            ("INTERVAL -5 DAYS", "-5 days", "INTERVAL '-5' DAY"),
            ("INTERVAL 1 DAY 2 HOURS", "1 days 2 hours", "INTERVAL '1 02' DAY TO HOUR"),
            (
                "INTERVAL '1 02:03:04.5' DAY TO SECOND",
                "1 days 2 hours 3 minutes 4.5 seconds",
                "INTERVAL '1 02:03:04.5' DAY TO SECOND",
            ),
            ("INTERVAL '1-2' YEAR TO MONTH", "1 years 2 months", "INTERVAL '1-2' YEAR TO MONTH"),
            ("INTERVAL '10 seconds'", "10 seconds", "INTERVAL '10' SECOND"),
            ("INTERVAL 90 MINUTES", "1 hours 30 minutes", "INTERVAL '90' MINUTE"),
            ("INTERVAL 2 WEEKS", "14 days", "INTERVAL '14' DAY"),
            ("interval 1 month", "1 months", "INTERVAL '1' MONTH"),
            ("INTERVAL '12:30' HOUR TO MINUTE", "12 hours 30 minutes", "INTERVAL '12:30' HOUR TO MINUTE"),
        ] {
            let literal = parse_interval_literal(&mut Cursor::new(sql).unwrap()).unwrap().unwrap();
            assert_eq!((literal.interval.to_text().as_str(), literal.name.as_str()), (text, name), "{sql}");
        }
    }

    #[test]
    fn a_column_called_interval_is_no_literal() {
        for sql in ["interval + 1", "interval", "interval, k", "interval.start"] {
            let mut cursor = Cursor::new(sql).unwrap();
            assert_eq!(parse_interval_literal(&mut cursor).unwrap(), None, "{sql}");
            assert_eq!(cursor.position(), 0);
        }
        for sql in ["INTERVAL '1 2' DAY TO SECOND", "INTERVAL 1 DAY 2", "INTERVAL '1' DAY TO"] {
            assert!(parse_interval_literal(&mut Cursor::new(sql).unwrap()).is_err(), "{sql}");
        }
    }
}
