//! Instants and intervals as text: what Spark accepts, in microseconds, in UTC.

/// Microseconds in a second.
pub const SECOND_US: i64 = 1_000_000;
const DAY_US: i64 = 86_400 * SECOND_US;

/// Days since the epoch of a civil date (proleptic Gregorian).
pub fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year - era * 400;
    let day_of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// The civil date (year, month, day) of a day since the epoch.
pub fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let mp = (5 * day_of_year + 2) / 153;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day_of_year - (153 * mp + 2) / 5 + 1)
}

/// Reads `2024-01-01T00:00:01.5Z` and its shorter forms (a space for the T, no zone, a date alone).
pub fn parse_timestamp(text: &str) -> Option<i64> {
    let text = text.trim();
    let text = text.strip_suffix('Z').unwrap_or(text);
    let (date, clock) = match text.split_once(['T', ' ']) {
        Some((date, clock)) => (date, clock),
        None => (text, "00:00:00"),
    };
    let mut date = date.splitn(3, '-');
    let mut number = || date.next()?.parse::<i64>().ok();
    let (year, month, day) = (number()?, number()?, number()?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || year.abs() > 200_000 {
        return None;
    }
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, ""));
    let mut seconds = 0;
    let mut parts = 0;
    for part in clock.split(':') {
        seconds = seconds * 60 + i64::from(part.parse::<u16>().ok()?);
        parts += 1;
        if parts > 3 {
            return None;
        }
    }
    for _ in parts..3 {
        seconds *= 60;
    }
    let micros = format!("{:0<6}", fraction.get(..6).unwrap_or(fraction)).parse::<i64>().ok()?;
    Some(days_from_civil(year, month, day) * DAY_US + seconds * SECOND_US + micros)
}

/// Writes an instant as `2024-01-01T00:00:01.500000Z`.
pub fn format_timestamp(us: i64) -> String {
    let (year, month, day) = civil_from_days(us.div_euclid(DAY_US));
    let of_day = us.rem_euclid(DAY_US);
    let (seconds, micros) = (of_day / SECOND_US, of_day % SECOND_US);
    let (h, m, s) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}.{micros:06}Z")
}

/// Adds calendar months (the day is clamped to the length of the month) and microseconds.
pub fn add_interval(us: i64, months: i64, micros: i64) -> Option<i64> {
    if months == 0 {
        return us.checked_add(micros);
    }
    let (year, month, day) = civil_from_days(us.div_euclid(DAY_US));
    let month0 = (year * 12 + month - 1).checked_add(months)?;
    let (year, month) = (month0.div_euclid(12), month0.rem_euclid(12) + 1);
    if year.abs() > 300_000 {
        // Beyond the range of a timestamp.
        return None;
    }
    let next = if month == 12 { days_from_civil(year + 1, 1, 1) } else { days_from_civil(year, month + 1, 1) };
    let first = days_from_civil(year, month, 1);
    let day = day.min(next - first);
    (first + day - 1).checked_mul(DAY_US)?.checked_add(us.rem_euclid(DAY_US))?.checked_add(micros)
}

/// Reads an interval text such as `10 seconds`, `interval 1 hour 30 minutes`, `-5 seconds`, `1.5 seconds`:
/// (months, microseconds). `None` if it is not one.
pub fn parse_interval(text: &str) -> Option<(i64, i64)> {
    let text = text.trim().to_ascii_lowercase();
    let text = text.strip_prefix("interval").unwrap_or(&text);
    let words: Vec<&str> = text.split_whitespace().collect();
    if words.is_empty() || !words.len().is_multiple_of(2) {
        return None;
    }
    let (mut months, mut micros) = (0, 0);
    for pair in words.chunks(2) {
        let (m, us) = interval_of(pair[0], pair[1])?;
        months = i64::checked_add(months, m)?;
        micros = i64::checked_add(micros, us)?;
    }
    Some((months, micros))
}

/// One number with its unit (singular or plural) as (months, microseconds).
pub fn interval_of(number: &str, unit: &str) -> Option<(i64, i64)> {
    let unit = unit.to_ascii_lowercase();
    let unit_us = match unit.strip_suffix('s').unwrap_or(&unit) {
        "year" => return Some((number.parse::<i64>().ok()?.checked_mul(12)?, 0)),
        "month" => return Some((number.parse::<i64>().ok()?, 0)),
        "week" => 7 * DAY_US,
        "day" => DAY_US,
        "hour" => 3600 * SECOND_US,
        "minute" => 60 * SECOND_US,
        // Only seconds may carry a fraction.
        "second" => return fraction_us(number).map(|us| (0, us)),
        "millisecond" => 1000,
        "microsecond" => 1,
        _ => return None,
    };
    Some((0, number.parse::<i64>().ok()?.checked_mul(unit_us)?))
}

fn fraction_us(number: &str) -> Option<i64> {
    let (sign, digits) = match number.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, number.strip_prefix('+').unwrap_or(number)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if fraction.len() > 9 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let whole = if whole.is_empty() { 0 } else { whole.parse::<i64>().ok()? };
    let micros = format!("{:0<6}", fraction.get(..6).unwrap_or(fraction)).parse::<i64>().ok()?;
    Some(sign * (whole.checked_mul(SECOND_US)? + micros))
}

/// The delay of a watermark in milliseconds: months count 31 days, the rest is truncated (spec/02 section 1).
pub fn delay_ms(months: i64, micros: i64) -> i64 {
    months.saturating_mul(31 * (DAY_US / 1000)).saturating_add(micros / 1000)
}
