//! Time windows: the calls `window`, `session_window` and `window_time`, and the arithmetic behind them.
//!
//! Rules and formulas: `spec/03`. All times are microseconds since 1970 in UTC; a window is half-open, `[start, end)`;
//! times before 1970 are floored. A *pane* is the largest slice of time that lies in the same windows as a whole:
//! an aggregation may first aggregate by pane and then give each partial state to the pane's windows.
//!
//! In a finished plan a window column is one of these, which [`time_window_source`] and
//! [`super::window_expand::TimeWindowExpand`] recognise:
//! * tumbling: the scalar call [`TUMBLING_CALL`]`(time, width, start)` in a projection;
//! * sliding: the column that a `TimeWindowExpand` node adds;
//! * session: the scalar call [`SESSION_CALL`]`(time, gap)` in a projection: the row's initial `[time, time + gap)`.
//!
//! The columns carry Spark's metadata, [`TIME_WINDOW_KEY`] or [`SESSION_WINDOW_KEY`], wherever they go.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, NullBufferBuilder, StructArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type, TimeUnit, TimestampMicrosecondType};
use datafusion::common::{ScalarValue, internal_err};
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, ReturnFieldArgs, ScalarUDF};

use super::call::{Arguments, Call, as_they_are};
use crate::error::Error;
use crate::planted::planted;
use crate::sql::duration::Interval;
use crate::sql::types::{timestamp_type, window_type};

/// Metadata of a column that `window()` made; its value is `true`.
pub const TIME_WINDOW_KEY: &str = "spark.timeWindow";
/// Metadata of a column that `session_window()` made; its value is `true`.
pub const SESSION_WINDOW_KEY: &str = "spark.sessionWindow";

/// Spark's error for two different windows in one select.
pub(crate) const MULTIPLE_WINDOWS: &str = "Multiple time/session window expressions would result in a cartesian product \
    of rows, therefore they are currently not supported. Put one of them into a subquery.";

/// The user's call, until the rewrite replaces it.
pub const WINDOW: &str = "window";
/// The user's call, until the rewrite replaces it.
pub const SESSION_WINDOW: &str = "session_window";
/// `window_time(w)`: the last microsecond of a window.
pub const WINDOW_TIME: &str = "window_time";
/// `tumbling_window(time, width_us, start_us)`: the window of a time.
pub const TUMBLING_CALL: &str = "__tumbling_window";
/// `slice_start(time, width_us, start_us)`: where the slice of time (a pane) that a time lies in begins.
pub const SLICE_START_CALL: &str = "__slice_start";
/// `initial_session(time, gap)`: `[time, time + gap)`, null where the gap is null, unreadable, zero or negative.
pub const SESSION_CALL: &str = "__initial_session";

/// The functions of this file.
pub fn functions() -> Vec<Arc<ScalarUDF>> {
    vec![
        Call::marker(WINDOW, marker_field),
        Call::marker(SESSION_WINDOW, marker_field),
        Call::computed(WINDOW_TIME, as_they_are, window_time_field, window_time),
        tumbling_udf(),
        slice_start_udf(),
        session_udf(),
    ]
}

/// The function behind a tumbling window.
pub(crate) fn tumbling_udf() -> Arc<ScalarUDF> {
    Call::computed(TUMBLING_CALL, as_they_are, tumbling_field, tumbling)
}

/// The function behind panes.
pub(crate) fn slice_start_udf() -> Arc<ScalarUDF> {
    Call::computed(SLICE_START_CALL, as_they_are, slice_start_field, slice_starts)
}

/// The function behind a session window.
pub(crate) fn session_udf() -> Arc<ScalarUDF> {
    Call::computed(SESSION_CALL, as_they_are, session_field, initial_session)
}

/// The function `window_time`.
pub(crate) fn window_time_udf() -> Arc<ScalarUDF> {
    Call::computed(WINDOW_TIME, as_they_are, window_time_field, window_time)
}

// ---- arithmetic ----

/// The start of the latest slice of `width_us` (aligned to `start_us`) that begins at or before a time.
pub fn slice_start(time_us: i64, width_us: i64, start_us: i64) -> i64 {
    if planted("window-cuts-toward-zero") {
        return time_us - (time_us - start_us) % width_us;
    }
    let time_us = if planted("window-edge-belongs-to-the-window-before") { time_us - 1 } else { time_us };
    time_us.wrapping_sub(time_us.wrapping_sub(start_us).rem_euclid(width_us))
}

/// The width of the panes of windows: every window consists of whole panes of this width.
pub fn pane_width(window_us: i64, slide_us: i64) -> i64 {
    let (mut a, mut b) = (window_us, slide_us);
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// The starts of the windows that contain a time (or the pane that begins there), latest first, as Spark emits them.
pub fn windows_of(time_us: i64, window_us: i64, slide_us: i64, start_us: i64) -> impl Iterator<Item = i64> {
    let last = slice_start(time_us, slide_us, start_us);
    (0..)
        .map(move |i: i64| last.wrapping_sub(i.wrapping_mul(slide_us)))
        .take_while(move |start| time_us.wrapping_sub(*start) < window_us)
}

/// How many windows a time lies in at most.
pub fn windows_per_time(window_us: i64, slide_us: i64) -> usize {
    usize::try_from((window_us - 1) / slide_us + 1).unwrap_or(usize::MAX)
}

/// A time plus a gap: months by the calendar, days of 24 hours (the session's zone is UTC). `None` when it overflows.
pub fn add_gap(time_us: i64, gap: Interval) -> Option<i64> {
    const DAY_US: i64 = 86_400_000_000;
    let mut time_us = time_us;
    if gap.months != 0 {
        let time = chrono::DateTime::from_timestamp_micros(time_us)?;
        let months = chrono::Months::new(gap.months.unsigned_abs());
        let moved = if gap.months > 0 { time.checked_add_months(months) } else { time.checked_sub_months(months) };
        time_us = moved?.timestamp_micros();
    }
    time_us.checked_add(i64::from(gap.days).checked_mul(DAY_US)?)?.checked_add(gap.micros)
}

// ---- what the types are ----

/// The field of a window column over a time type.
pub(crate) fn window_field(name: &str, time: &DataType, key: &str, nullable: bool) -> FieldRef {
    let field = Field::new(name, window_type(time), nullable);
    Arc::new(field.with_metadata([(key.to_owned(), "true".to_owned())].into()))
}

/// The type of the time inside a window column, or of a time itself as a window's `start` has it.
pub(crate) fn time_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Timestamp(_, zone) => DataType::Timestamp(TimeUnit::Microsecond, zone.clone()),
        DataType::Struct(fields) if fields.len() == 2 => time_type(fields[0].data_type()),
        _ => timestamp_type(),
    }
}

/// Whether a field is a column that `window()` or `session_window()` made.
pub fn is_window_field(field: &Field) -> bool {
    [TIME_WINDOW_KEY, SESSION_WINDOW_KEY].iter().any(|key| field.metadata().contains_key(*key))
}

fn marker_field(name: &str, args: ReturnFieldArgs) -> Result<FieldRef> {
    let time = args.arg_fields.first().map_or_else(timestamp_type, |f| time_type(f.data_type()));
    let key = if name == WINDOW { TIME_WINDOW_KEY } else { SESSION_WINDOW_KEY };
    Ok(window_field(name, &time, key, false))
}

fn tumbling_field(name: &str, args: ReturnFieldArgs) -> Result<FieldRef> {
    Ok(window_field(name, &time_type(args.arg_fields[0].data_type()), TIME_WINDOW_KEY, false))
}

fn slice_start_field(name: &str, args: ReturnFieldArgs) -> Result<FieldRef> {
    Ok(Arc::new(Field::new(name, time_type(args.arg_fields[0].data_type()), args.arg_fields[0].is_nullable())))
}

fn session_field(name: &str, args: ReturnFieldArgs) -> Result<FieldRef> {
    Ok(window_field(name, &time_type(args.arg_fields[0].data_type()), SESSION_WINDOW_KEY, true))
}

fn window_time_field(name: &str, args: ReturnFieldArgs) -> Result<FieldRef> {
    match args.arg_fields {
        [window] if is_window_field(window) => Ok(Arc::new(Field::new(name, time_type(window.data_type()), true))),
        [other] => Err(not_a_window(other.name()).into()),
        others => Err(crate::sql::wrong_argument_count(WINDOW_TIME, "1", others.len()).into()),
    }
}

/// Spark's error for `window_time(x)` of something that no window function made.
pub(crate) fn not_a_window(what: &str) -> Error {
    Error::analysis(format!(
        "The input is not a correct window column: window_time({what}). Pass a column that window() or session_window() made."
    ))
}

// ---- computing ----

fn tumbling(arguments: Arguments) -> Result<ArrayRef> {
    let (starts, width_us) = starts_of(&arguments)?;
    windows(&starts, arguments.arrays[0].as_primitive(), width_us)
}

fn slice_starts(arguments: Arguments) -> Result<ArrayRef> {
    let (starts, _) = starts_of(&arguments)?;
    let zone = arguments.arrays[0].as_primitive::<TimestampMicrosecondType>().timezone().map(Arc::<str>::from);
    Ok(Arc::new(starts.with_timezone_opt(zone)))
}

/// Where the slices begin that the times of `(time, width_us, start_us)` lie in, and their width.
fn starts_of(arguments: &Arguments) -> Result<(TimestampMicrosecondArray, i64)> {
    let [times, width, start] = arguments.arrays.as_slice() else { return internal_err!("three arguments") };
    let times = times.as_primitive::<TimestampMicrosecondType>();
    if times.is_empty() {
        return Ok((TimestampMicrosecondArray::new_null(0), 1));
    }
    let (width_us, start_us) = (width.as_primitive::<Int64Type>().value(0), start.as_primitive::<Int64Type>().value(0));
    Ok((times.unary(|time| slice_start(time, width_us, start_us)), width_us))
}

/// Windows of one width from their starts. Null where the time is.
fn windows(starts: &TimestampMicrosecondArray, times: &TimestampMicrosecondArray, width_us: i64) -> Result<ArrayRef> {
    let ends: TimestampMicrosecondArray = starts.unary(|start| start.wrapping_add(width_us));
    Ok(Arc::new(window_array(starts.clone(), ends, times)))
}

/// A window column from starts and ends, in the zone (and with the nulls) of the times.
pub(crate) fn window_array(
    starts: TimestampMicrosecondArray,
    ends: TimestampMicrosecondArray,
    times: &TimestampMicrosecondArray,
) -> StructArray {
    let zone = times.timezone().map(Arc::<str>::from);
    let nulls = starts.nulls().cloned();
    let time = DataType::Timestamp(TimeUnit::Microsecond, zone.clone());
    let DataType::Struct(fields) = window_type(&time) else { unreachable!("a window is a struct") };
    let (starts, ends) = (starts.with_timezone_opt(zone.clone()), ends.with_timezone_opt(zone));
    StructArray::new(fields, vec![Arc::new(starts), Arc::new(ends)], nulls)
}

fn window_time(arguments: Arguments) -> Result<ArrayRef> {
    let windows = arguments.arrays[0].as_struct();
    let ends = windows.column(1).as_primitive::<TimestampMicrosecondType>();
    let zone = ends.timezone().map(Arc::<str>::from);
    let nulls = arrow::buffer::NullBuffer::union(windows.nulls(), ends.nulls());
    let ends = TimestampMicrosecondArray::new(ends.values().clone(), nulls);
    let times: TimestampMicrosecondArray = ends.unary(|end| end.wrapping_sub(1));
    Ok(Arc::new(times.with_timezone_opt(zone)))
}

fn initial_session(arguments: Arguments) -> Result<ArrayRef> {
    let times = arguments.arrays[0].as_primitive::<TimestampMicrosecondType>();
    let gaps = gap_reader(&arguments.arrays[1])?;
    let mut valid = NullBufferBuilder::new(times.len());
    let mut ends = Vec::with_capacity(times.len());
    for row in 0..times.len() {
        let end = if times.is_null(row) {
            None
        } else {
            gaps(row).and_then(|gap| add_gap(times.value(row), gap)).filter(|end| *end > times.value(row))
        };
        valid.append(end.is_some());
        ends.push(end.unwrap_or(0));
    }
    let nulls = valid.finish();
    let starts = TimestampMicrosecondArray::new(times.values().clone(), nulls.clone());
    let ends = TimestampMicrosecondArray::new(ends.into(), nulls);
    Ok(Arc::new(window_array(starts, ends, times)))
}

type GapReader<'a> = Box<dyn Fn(usize) -> Option<Interval> + 'a>;

/// Reads the gap of a row: interval text, or an interval. Text that repeats from row to row is read once.
fn gap_reader(gaps: &ArrayRef) -> Result<GapReader<'_>> {
    use arrow::datatypes::{DurationMicrosecondType, IntervalMonthDayNanoType};
    match gaps.data_type() {
        DataType::Utf8 => {
            let texts = gaps.as_string::<i32>();
            let last: std::cell::RefCell<Option<(String, Option<Interval>)>> = std::cell::RefCell::default();
            Ok(Box::new(move |row| {
                if texts.is_null(row) {
                    return None;
                }
                let text = texts.value(row);
                let mut last = last.borrow_mut();
                match last.as_ref() {
                    Some((known, gap)) if known == text => *gap,
                    _ => {
                        let gap = Interval::parse(text).ok();
                        *last = Some((text.to_owned(), gap));
                        gap
                    }
                }
            }))
        }
        DataType::Interval(arrow::datatypes::IntervalUnit::MonthDayNano) => {
            let gaps = gaps.as_primitive::<IntervalMonthDayNanoType>();
            Ok(Box::new(move |row| {
                let gap = gaps.is_valid(row).then(|| gaps.value(row))?;
                Some(Interval { months: gap.months, days: gap.days, micros: gap.nanoseconds / 1_000 })
            }))
        }
        DataType::Duration(TimeUnit::Microsecond) => {
            let gaps = gaps.as_primitive::<DurationMicrosecondType>();
            Ok(Box::new(move |row| {
                let micros = gaps.is_valid(row).then(|| gaps.value(row))?;
                Some(Interval { micros, ..Interval::default() })
            }))
        }
        DataType::Null => Ok(Box::new(|_| None)),
        other => internal_err!("a session gap of type {other}"),
    }
}

// ---- recognising ----

/// What a window expression makes of a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeWindowKind {
    /// A tumbling window: `start`, `end` of the slice of time.
    Tumbling {
        /// Its width.
        width_us: i64,
        /// Where slices begin, from 1970.
        start_us: i64,
    },
    /// A row's initial session.
    Session,
    /// The last microsecond of a window.
    WindowTime,
}

/// Says what an expression of a finished plan makes of which time: `w` of `tumbling(ts)`, `session(ts)`,
/// `window_time(w)`, through aliases. `None` for anything else. The source may itself be such an expression
/// (`window(window_time(w), ..)`): ask again.
pub fn time_window_source(expr: &Expr) -> Option<(TimeWindowKind, &Expr)> {
    match expr {
        Expr::Alias(alias) => time_window_source(&alias.expr),
        Expr::ScalarFunction(call) => {
            let source = call.args.first()?;
            let number = |at: usize| match call.args.get(at) {
                Some(Expr::Literal(ScalarValue::Int64(Some(value)), _)) => Some(*value),
                _ => None,
            };
            match call.name() {
                TUMBLING_CALL => {
                    Some((TimeWindowKind::Tumbling { width_us: number(1)?, start_us: number(2)? }, source))
                }
                SESSION_CALL => Some((TimeWindowKind::Session, source)),
                WINDOW_TIME => Some((TimeWindowKind::WindowTime, source)),
                _ => None,
            }
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: i64 = 1_000_000;

    #[test]
    fn windows_are_those_that_spark_measured() {
        for (window, slide, start, time, expected) in [
            (5, 5, 0, -6, vec![-10]),
            (5, 5, 0, -5, vec![-5]),
            (5, 5, 0, 4, vec![0]),
            (10, 5, 0, -1, vec![-5, -10]),
            (10, 3, 0, 9, vec![9, 6, 3, 0]),
            (10, 3, 0, 10, vec![9, 6, 3]),
            (10, 3, 0, -1, vec![-3, -6, -9]),
            (10, 10, 3, -8, vec![-17]),
            (10, 10, 3, 2, vec![-7]),
            (10, 10, -3, 7, vec![7]),
            (10, 4, 1, 0, vec![-3, -7]),
            (10, 4, 1, 1, vec![1, -3, -7]),
        ] {
            let starts: Vec<i64> = windows_of(time * S, window * S, slide * S, start * S).map(|t| t / S).collect();
            assert_eq!(starts, expected, "w={window} s={slide} o={start} t={time}");
        }
        assert_eq!(windows_of(S, 1_500_000, 700_000, 0).collect::<Vec<_>>(), [700_000, 0]);
    }

    #[test]
    fn every_time_of_a_pane_lies_in_the_windows_of_the_pane() {
        for (window, slide, start) in [(10, 5, 0), (10, 3, 1), (10, 4, -3), (15, 6, 2), (7, 7, 3)] {
            let pane = pane_width(window, slide);
            for time in -40..40 {
                let of_time: Vec<i64> = windows_of(time, window, slide, start).collect();
                let of_pane: Vec<i64> = windows_of(slice_start(time, pane, start), window, slide, start).collect();
                assert_eq!(of_time, of_pane, "w={window} s={slide} o={start} t={time}");
                assert!(of_time.len() <= windows_per_time(window, slide));
            }
        }
    }

    #[test]
    fn a_gap_of_months_follows_the_calendar() {
        let month = Interval { months: 1, ..Interval::default() };
        assert_eq!(add_gap(0, month), Some(31 * 86_400 * S));
        assert_eq!(add_gap(30 * 86_400 * S, month), Some(58 * 86_400 * S), "31 January to 28 February");
        assert_eq!(add_gap(i64::MAX, Interval { days: 1, ..Interval::default() }), None);
    }
}
