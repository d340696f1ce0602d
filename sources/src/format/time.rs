//! Text to `TIMESTAMP`, `TIMESTAMP_NTZ` and `DATE`, as Spark's readers do it without and with a pattern.
//!
//! Without a pattern the rules are those of Spark's `CAST`: `[+-]yyyy*[-[m]m[-[d]d[( |T)[h]h[:[m]m[:[s]s[.f*][zone]]]]]]`,
//! spaces around it ignored, digits after the microseconds cut off. One form that Spark takes is refused here: a time
//! without a date (`12:00:00`), which Spark puts on the day on which it happens to run, so that running a batch again
//! would give other rows.

use arrow::array::timezone::Tz;
use chrono::{DateTime, LocalResult, NaiveDate, Offset, TimeDelta, TimeZone};
use wavetank_engine::{Error, Result};

use crate::format::pattern::Pattern;

const DAY_US: i64 = 86_400_000_000;

/// How a reader turns text into times.
#[derive(Clone, Debug)]
pub(crate) struct TimeFormats {
    /// `timestampFormat`.
    pub(crate) timestamp: Option<Pattern>,
    /// `timestampNTZFormat`.
    pub(crate) timestamp_ntz: Option<Pattern>,
    /// `dateFormat`.
    pub(crate) date: Option<Pattern>,
    /// The zone of texts that name none (`timeZone`).
    pub(crate) zone: Zone,
}

impl Default for TimeFormats {
    fn default() -> Self {
        Self { timestamp: None, timestamp_ntz: None, date: None, zone: Zone::Utc }
    }
}

impl TimeFormats {
    /// Microseconds since 1970 UTC.
    pub(crate) fn timestamp(&self, text: &str) -> Option<i64> {
        match &self.timestamp {
            None => {
                let is_utc = matches!(self.zone, Zone::Utc);
                plain_timestamp(text.as_bytes(), is_utc).or_else(|| timestamp(text, &self.zone))
            }
            Some(pattern) => {
                let (local, zone) = pattern.parse(text)?;
                zone.as_ref().unwrap_or(&self.zone).to_utc_us(local)
            }
        }
    }

    /// Microseconds since 1970 of a clock on the wall somewhere.
    pub(crate) fn timestamp_ntz(&self, text: &str) -> Option<i64> {
        match &self.timestamp_ntz {
            None => timestamp_ntz(text),
            Some(pattern) => match pattern.parse(text)? {
                (local, None) => Some(local),
                (_, Some(_)) => None,
            },
        }
    }

    /// Days since 1970.
    pub(crate) fn date(&self, text: &str) -> Option<i32> {
        match &self.date {
            None => date(text),
            Some(pattern) => i32::try_from(pattern.parse(text)?.0.div_euclid(DAY_US)).ok(),
        }
    }
}

/// `yyyy-MM-dd[T ]HH:mm:ss[.f*]` with `Z`, `+hh:mm` or (when the reader's zone is UTC) nothing after it: nearly every
/// timestamp there is. `None` means only that the long way must be taken.
#[inline]
fn plain_timestamp(text: &[u8], is_utc: bool) -> Option<i64> {
    let two = |at: usize| -> Option<i64> {
        let (tens, ones) = (text[at].wrapping_sub(b'0'), text[at + 1].wrapping_sub(b'0'));
        (tens < 10 && ones < 10).then(|| i64::from(tens * 10 + ones))
    };
    if text.len() < 19 || text[4] != b'-' || text[7] != b'-' || !matches!(text[10], b'T' | b' ') {
        return None;
    }
    if text[13] != b':' || text[16] != b':' {
        return None;
    }
    let (year, month, day) = (two(0)? * 100 + two(2)?, two(5)?, two(8)?);
    let (hour, minute, second) = (two(11)?, two(14)?, two(17)?);
    let days_of_month = match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        1..=12 => 31,
        _ => return None,
    };
    if day < 1 || day > days_of_month || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let mut at = 19;
    let mut micros = 0;
    if text.get(at) == Some(&b'.') {
        at += 1;
        let from = at;
        while let Some(digit) = text.get(at).map(|byte| byte.wrapping_sub(b'0')).filter(|digit| *digit < 10) {
            if at - from < 6 {
                micros = micros * 10 + i64::from(digit);
            }
            at += 1;
        }
        let digits = (at - from).min(6);
        micros *= [1_000_000, 100_000, 10_000, 1000, 100, 10, 1][digits];
    }
    let offset_minutes = match text.get(at..)? {
        b"Z" => 0,
        b"" if is_utc => 0,
        [sign @ (b'+' | b'-'), _, _, b':', _, _] => {
            let (hours, minutes) = (two(at + 1)?, two(at + 4)?);
            if hours > 17 || minutes > 59 {
                return None;
            }
            if *sign == b'-' { -(hours * 60 + minutes) } else { hours * 60 + minutes }
        }
        _ => return None,
    };
    // Days since 1970 of a civil date: years begin in March, so that the leap day is the last of a year.
    let (y, m) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    let (era, of_era) = (y.div_euclid(400), y.rem_euclid(400));
    let of_year = (153 * m + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    Some(((days * 24 + hour) * 60 + minute - offset_minutes) * 60_000_000 + second * 1_000_000 + micros)
}

/// The parts of a timestamp text: local time in microseconds since 1970, and the zone's name, if it has one.
fn segments(text: &str) -> Option<(i64, Option<&str>)> {
    let text = text.trim_matches(|c: char| c <= ' ');
    let (sign, body) = match text.as_bytes().first()? {
        b'-' => (-1, &text[1..]),
        b'+' => (1, &text[1..]),
        _ => (1, text),
    };
    let bytes = body.as_bytes();
    // year, month, day, hour, minute, second, microsecond
    let mut parts = [1_i64, 1, 1, 0, 0, 0, 0];
    let (mut part, mut value, mut digits, mut zone) = (0, 0_i64, 0, None);
    for (at, byte) in bytes.iter().enumerate() {
        if byte.is_ascii_digit() {
            if part != 6 || digits < 6 {
                value = value.checked_mul(10)?.checked_add(i64::from(byte - b'0'))?;
            }
            digits += 1;
            continue;
        }
        let goes_on = match (part, byte) {
            (0 | 1, b'-') | (2, b' ' | b'T') | (3 | 4, b':') | (5, b'.') => true,
            (5 | 6, _) => false,
            _ => return None,
        };
        close(&mut parts, part, value, digits)?;
        if !goes_on {
            zone = Some(body[at..].trim());
            // The seconds are closed; there is nothing left to close.
            part = 7;
            break;
        }
        (part, value, digits) = (part + 1, 0, 0);
    }
    if part < 7 {
        close(&mut parts, part, value, digits)?;
    }
    let days = days_of_civil(parts[0] * sign, parts[1], parts[2])?;
    let [_, _, _, hour, minute, second, micros] = parts;
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    Some((local_us(days.into(), (hour * 60 + minute) * 60 + second, micros)?, zone))
}

/// Microseconds since 1970 from days, seconds of the day and microseconds of the second.
pub(crate) fn local_us(days: i64, second: i64, micros: i64) -> Option<i64> {
    i64::try_from(i128::from(days) * i128::from(DAY_US) + i128::from(second * 1_000_000 + micros)).ok()
}

/// Stores a part, if it has as many digits as such a part may have.
fn close(parts: &mut [i64; 7], part: usize, value: i64, digits: usize) -> Option<()> {
    let fits = match part {
        0 => (4..=6).contains(&digits),
        6 => true,
        _ => (1..=2).contains(&digits),
    };
    if !fits {
        return None;
    }
    parts[part] = if part == 6 { value * 10_i64.pow(6 - digits.min(6) as u32) } else { value };
    Some(())
}

fn timestamp(text: &str, default_zone: &Zone) -> Option<i64> {
    let (local, zone) = segments(text)?;
    match zone {
        None => default_zone.to_utc_us(local),
        Some(name) => Zone::parse(name, ShortNames::Known)?.to_utc_us(local),
    }
}

fn timestamp_ntz(text: &str) -> Option<i64> {
    match segments(text)? {
        (local, None) => Some(local),
        (_, Some(_)) => None,
    }
}

/// `[+-]yyyy*[-[m]m[-[d]d[( |T)anything]]]`.
pub(crate) fn date(text: &str) -> Option<i32> {
    let text = text.trim_matches(|c: char| c <= ' ');
    let (sign, body) = match text.as_bytes().first()? {
        b'-' => (-1, &text[1..]),
        b'+' => (1, &text[1..]),
        _ => (1, text),
    };
    let end = body.find([' ', 'T']).unwrap_or(body.len());
    let mut parts = [1_i64, 1, 1];
    let mut count = 0;
    for part in body[..end].split('-') {
        let fits = if count == 0 { (4..=7).contains(&part.len()) } else { (1..=2).contains(&part.len()) };
        if count > 2 || !fits || !part.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        parts[count] = part.parse().ok()?;
        count += 1;
    }
    if count < 3 && end < body.len() {
        return None;
    }
    days_of_civil(parts[0] * sign, parts[1], parts[2])
}

/// Days since 1970 for any year that a date text can hold (more than chrono can).
pub(crate) fn days_of_civil(year: i64, month: i64, day: i64) -> Option<i32> {
    // The calendar repeats itself every 400 years.
    let shift = year.div_euclid(400) - 4;
    let date = NaiveDate::from_ymd_opt((year - shift * 400) as i32, month as u32, day as u32)?;
    let days = date.signed_duration_since(NaiveDate::default()).num_days();
    i32::try_from(days + shift * 146_097).ok()
}

/// A time zone of a text.
#[derive(Clone, Debug)]
pub(crate) enum Zone {
    Utc,
    /// Seconds east of UTC.
    Fixed(i32),
    Region(Tz),
}

/// Whether the three-letter names of old (`PST`) mean something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ShortNames {
    Known,
    Unknown,
}

/// Java's `ZoneId.SHORT_IDS`, which Spark accepts.
const SHORT_IDS: [(&str, &str); 28] = [
    ("ACT", "Australia/Darwin"),
    ("AET", "Australia/Sydney"),
    ("AGT", "America/Argentina/Buenos_Aires"),
    ("ART", "Africa/Cairo"),
    ("AST", "America/Anchorage"),
    ("BET", "America/Sao_Paulo"),
    ("BST", "Asia/Dhaka"),
    ("CAT", "Africa/Harare"),
    ("CNT", "America/St_Johns"),
    ("CST", "America/Chicago"),
    ("CTT", "Asia/Shanghai"),
    ("EAT", "Africa/Addis_Ababa"),
    ("ECT", "Europe/Paris"),
    ("IET", "America/Indiana/Indianapolis"),
    ("IST", "Asia/Kolkata"),
    ("JST", "Asia/Tokyo"),
    ("MIT", "Pacific/Apia"),
    ("NET", "Asia/Yerevan"),
    ("NST", "Pacific/Auckland"),
    ("PLT", "Asia/Karachi"),
    ("PNT", "America/Phoenix"),
    ("PRT", "America/Puerto_Rico"),
    ("PST", "America/Los_Angeles"),
    ("SST", "Pacific/Guadalcanal"),
    ("VST", "Asia/Ho_Chi_Minh"),
    ("EST", "-05:00"),
    ("MST", "-07:00"),
    ("HST", "-10:00"),
];

impl Zone {
    /// A zone by what `java.time.ZoneId.of` accepts, and single digits (`+2`, `+1:2`) as Spark does.
    pub(crate) fn parse(name: &str, short_names: ShortNames) -> Option<Self> {
        let name = match SHORT_IDS.iter().find(|(short, _)| *short == name) {
            Some((_, long)) if short_names == ShortNames::Known => long,
            _ => name,
        };
        if matches!(name, "Z" | "UTC" | "GMT" | "UT") {
            return Some(Self::Utc);
        }
        if name.starts_with(['+', '-']) {
            return offset_seconds(name).map(Self::Fixed);
        }
        let prefix = ["UTC", "GMT", "UT"].into_iter().find(|prefix| name.starts_with(prefix));
        if let Some(rest) = prefix.and_then(|prefix| name.strip_prefix(prefix))
            && rest.starts_with(['+', '-'])
        {
            return offset_seconds(rest).map(Self::Fixed);
        }
        let is_region = name.starts_with(|c: char| c.is_ascii_alphabetic());
        if is_region { name.parse::<Tz>().ok().map(Self::Region) } else { None }
    }

    /// Microseconds since 1970 UTC of a local time. In a gap the clock is put forward by the gap; of two possible
    /// moments the first is taken (Java's rules).
    pub(crate) fn to_utc_us(&self, local_us: i64) -> Option<i64> {
        let east_seconds = match self {
            Self::Utc => 0,
            Self::Fixed(seconds) => *seconds,
            Self::Region(zone) => {
                let local = DateTime::from_timestamp_micros(local_us)?.naive_utc();
                let offset = match zone.offset_from_local_datetime(&local) {
                    LocalResult::Single(offset) | LocalResult::Ambiguous(offset, _) => offset,
                    // Before the gap the old offset holds: reading the local time with it lands after the gap.
                    LocalResult::None => zone.offset_from_local_datetime(&(local - TimeDelta::hours(3))).earliest()?,
                };
                offset.fix().local_minus_utc()
            }
        };
        local_us.checked_sub(i64::from(east_seconds) * 1_000_000)
    }
}

/// `+h`, `+hh`, `+h[h]:m[m]`, `+hhmm`, `+hh:mm:ss`, `+hhmmss`, at most 18 hours.
fn offset_seconds(text: &str) -> Option<i32> {
    let sign = if text.starts_with('-') { -1 } else { 1 };
    let body = &text[1..];
    if !body.bytes().all(|byte| byte.is_ascii_digit() || byte == b':') {
        return None;
    }
    let parts: Vec<&str> = if body.contains(':') {
        let parts: Vec<_> = body.split(':').collect();
        // With seconds, Java wants two digits everywhere.
        if parts.len() == 3 && parts.iter().any(|part| part.len() != 2) {
            return None;
        }
        parts
    } else {
        match body.len() {
            1 | 2 => vec![body],
            4 => vec![&body[..2], &body[2..]],
            6 => vec![&body[..2], &body[2..4], &body[4..]],
            _ => return None,
        }
    };
    if parts.len() > 3 || parts.iter().any(|part| part.is_empty() || part.len() > 2) {
        return None;
    }
    let number = |at: usize| parts.get(at).map_or(Some(0), |part| part.parse::<i32>().ok());
    let (hours, minutes, seconds) = (number(0)?, number(1)?, number(2)?);
    let total = hours * 3600 + minutes * 60 + seconds;
    (minutes < 60 && seconds < 60 && total <= 18 * 3600).then_some(sign * total)
}

/// The zone of the `timeZone` option.
pub(crate) fn zone_option(name: &str) -> Result<Zone> {
    Zone::parse(name, ShortNames::Known).ok_or_else(|| {
        Error::analysis_class(
            "INVALID_TIMEZONE",
            format!(
                "The timezone: {name} is invalid. Write a region such as Europe/Paris or an offset such as +02:00."
            ),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_short_way_agrees_with_the_long_way() {
        for year in [1, 1600, 1899, 1900, 1970, 1999, 2000, 2023, 2024, 2100, 9999] {
            for month in 0..=13 {
                for day in [0, 1, 28, 29, 30, 31, 32] {
                    for rest in
                        ["T00:00:00Z", " 23:59:59.1Z", "T12:30:45.1234567+05:30", "T12:00:00-17:59", " 01:02:03.5"]
                    {
                        let text = format!("{year:04}-{month:02}-{day:02}{rest}");
                        assert_eq!(plain_timestamp(text.as_bytes(), true), timestamp(&text, &Zone::Utc), "{text}");
                    }
                }
            }
        }
    }

    #[test]
    fn what_the_short_way_does_not_know_it_leaves() {
        for text in ["2024-03-01T12:00:00", "2024-03-01T12:00:00+18:00", "2024-03-01T12:00:00 Z", "", "x"] {
            assert_eq!(plain_timestamp(text.as_bytes(), false), None, "{text}");
        }
    }
}
