//! Dates, timestamps and intervals as Spark writes them, for every value that an `i64` can hold, in UTC.

use std::io::Write;

use arrow::datatypes::TimeUnit;

const US_PER_SECOND: i64 = 1_000_000;
const US_PER_DAY: i64 = 86_400 * US_PER_SECOND;

/// A moment, split: days since 1970-01-01 and microseconds since midnight (never negative).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moment {
    pub days: i64,
    pub us_of_day: i64,
}

impl Moment {
    /// From an Arrow timestamp. Nanoseconds are cut down to microseconds, which is all Spark knows.
    pub(crate) fn of(value: i64, unit: TimeUnit) -> Self {
        let per_day = match unit {
            TimeUnit::Second => 86_400,
            TimeUnit::Millisecond => 86_400_000,
            TimeUnit::Microsecond => US_PER_DAY,
            TimeUnit::Nanosecond => US_PER_DAY * 1000,
        };
        let rest = value.rem_euclid(per_day);
        let us_of_day = match unit {
            TimeUnit::Nanosecond => rest / 1000,
            _ => rest * (US_PER_DAY / per_day),
        };
        Self { days: value.div_euclid(per_day), us_of_day }
    }

    /// The first moment of a day.
    pub(crate) fn of_day(days: i64) -> Self {
        Self { days, us_of_day: 0 }
    }

    /// Hour, minute, second and microsecond of the day.
    pub(crate) fn clock(self) -> (i64, i64, i64, i64) {
        let seconds = self.us_of_day / US_PER_SECOND;
        (seconds / 3600, seconds / 60 % 60, seconds % 60, self.us_of_day % US_PER_SECOND)
    }
}

/// Year, month (1..) and day (1..) of a day counted from 1970-01-01, in the proleptic Gregorian calendar.
pub(crate) fn civil(days: i64) -> (i64, i64, i64) {
    // Eras of 400 years that start on 0000-03-01, so that the leap day is the last day of a year.
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// Appends a year as Java does: four digits at least, with a sign outside 0..=9999.
pub(crate) fn write_year(year: i64, out: &mut Vec<u8>) {
    let _ = match year {
        0..=9999 => write!(out, "{year:04}"),
        _ if year > 9999 => write!(out, "+{year}"),
        _ => write!(out, "-{:04}", -year),
    }; // a Vec takes every write
}

/// Appends `2024-01-02`.
pub(crate) fn write_date(days: i64, out: &mut Vec<u8>) {
    let (year, month, day) = civil(days);
    write_year(year, out);
    let _ = write!(out, "-{month:02}-{day:02}"); // a Vec takes every write
}

/// Appends `2024-01-01 00:00:01.5`: no fraction when it is zero, no trailing zeros in it.
pub(crate) fn write_timestamp(moment: Moment, out: &mut Vec<u8>) {
    write_date(moment.days, out);
    out.push(b' ');
    write_time(moment, out);
}

/// Appends `00:00:01.5`.
pub(crate) fn write_time(moment: Moment, out: &mut Vec<u8>) {
    let (hour, minute, second, us) = moment.clock();
    let _ = write!(out, "{hour:02}:{minute:02}:{second:02}"); // a Vec takes every write
    write_fraction(us, out);
}

fn write_fraction(us: i64, out: &mut Vec<u8>) {
    if us != 0 {
        let text = format!(".{us:06}");
        out.extend_from_slice(text.trim_end_matches('0').as_bytes());
    }
}

/// Appends `INTERVAL '1-2' YEAR TO MONTH`.
pub(crate) fn write_year_month(months: i64, out: &mut Vec<u8>) {
    let sign = if months < 0 { "-" } else { "" };
    let months = months.abs();
    let _ = write!(out, "INTERVAL '{sign}{}-{}' YEAR TO MONTH", months / 12, months % 12); // a Vec takes every write
}

/// Appends `INTERVAL '1 02:03:04.5' DAY TO SECOND`.
pub(crate) fn write_day_time(us: i128, out: &mut Vec<u8>) {
    out.extend_from_slice(b"INTERVAL '");
    if us < 0 {
        out.push(b'-');
    }
    let us = us.abs();
    let days = us / i128::from(US_PER_DAY);
    let _ = write!(out, "{days} "); // a Vec takes every write
    write_time(Moment { days: 0, us_of_day: (us % i128::from(US_PER_DAY)) as i64 }, out);
    out.extend_from_slice(b"' DAY TO SECOND");
}

/// Appends a calendar interval: `1 years 2 months 10 days 4 hours 5 minutes 6.5 seconds`, `0 seconds`.
pub(crate) fn write_calendar(months: i64, days: i64, us: i64, out: &mut Vec<u8>) {
    let start = out.len();
    let hours = us / (3600 * US_PER_SECOND);
    let minutes = us / (60 * US_PER_SECOND) % 60;
    let rest = us % (60 * US_PER_SECOND);
    for (value, unit) in
        [(months / 12, "years"), (months % 12, "months"), (days, "days"), (hours, "hours"), (minutes, "minutes")]
    {
        if value != 0 {
            let _ = write!(out, "{value} {unit} "); // a Vec takes every write
        }
    }
    if rest != 0 || out.len() == start {
        let sign = if rest < 0 { "-" } else { "" };
        let _ = write!(out, "{sign}{}", rest.abs() / US_PER_SECOND); // a Vec takes every write
        write_fraction(rest.abs() % US_PER_SECOND, out);
        out.extend_from_slice(b" seconds");
    } else {
        out.pop(); // the blank after the last unit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn dates_reach_as_far_as_their_type() {
        let facts: &[(i64, &str)] = &[
            (0, "1970-01-01"),
            (19_724, "2024-01-02"),
            (-719_162, "0001-01-01"),
            (-719_163, "0000-12-31"),
            (2_932_896, "9999-12-31"),
            (2_932_897, "+10000-01-01"),
            (i64::from(i32::MAX), "+5881580-07-11"),
            (i64::from(i32::MIN), "-5877641-06-23"),
            (11_016, "2000-02-29"),
        ];
        for (days, expected) in facts {
            assert_eq!(text(|out| write_date(*days, out)), *expected);
        }
    }

    #[test]
    fn timestamps_are_cut_to_what_they_have() {
        let us = |v| Moment::of(v, TimeUnit::Microsecond);
        let facts = [
            (us(1_704_067_201_000_000), "2024-01-01 00:00:01"),
            (us(1_704_067_201_100_000), "2024-01-01 00:00:01.1"),
            (us(1_704_067_201_000_001), "2024-01-01 00:00:01.000001"),
            (us(-1000), "1969-12-31 23:59:59.999"),
            (us(i64::MAX), "+294247-01-10 04:00:54.775807"),
            (us(i64::MIN), "-290308-12-21 19:59:05.224192"),
            (Moment::of(-1, TimeUnit::Nanosecond), "1969-12-31 23:59:59.999999"),
            (Moment::of(1_704_067_201, TimeUnit::Second), "2024-01-01 00:00:01"),
            (Moment::of(1_704_067_201_500, TimeUnit::Millisecond), "2024-01-01 00:00:01.5"),
        ];
        for (moment, expected) in facts {
            assert_eq!(text(|out| write_timestamp(moment, out)), expected);
        }
    }

    #[test]
    fn intervals_look_as_in_spark() {
        assert_eq!(text(|out| write_year_month(-14, out)), "INTERVAL '-1-2' YEAR TO MONTH");
        assert_eq!(text(|out| write_day_time(93_784_500_000, out)), "INTERVAL '1 02:03:04.5' DAY TO SECOND");
        assert_eq!(text(|out| write_day_time(-1, out)), "INTERVAL '-0 00:00:00.000001' DAY TO SECOND");
        assert_eq!(
            text(|out| write_day_time(i128::from(i64::MAX), out)),
            "INTERVAL '106751991 04:00:54.775807' DAY TO SECOND"
        );
        let second = US_PER_SECOND;
        assert_eq!(
            text(|out| write_calendar(14, 10, 4 * 3600 * second + 5 * 60 * second + 6_500_000, out)),
            "1 years 2 months 10 days 4 hours 5 minutes 6.5 seconds"
        );
        assert_eq!(text(|out| write_calendar(-2, 0, -250_000, out)), "-2 months -0.25 seconds");
        assert_eq!(text(|out| write_calendar(0, 0, 0, out)), "0 seconds");
        assert_eq!(
            text(|out| write_calendar(-13, 0, -(25 * 3600 + 60 * 60 - 1) * second, out)),
            "-1 years -1 months -25 hours -59 minutes -59 seconds"
        );
        assert_eq!(text(|out| write_calendar(0, 1, 0, out)), "1 days");
    }
}
