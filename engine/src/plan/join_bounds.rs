//! From a join's condition and the event-time marks of its sides to what the watermark lets each side forget.
//!
//! Pure. The rules are those of Spark's `StreamingJoinHelper` (`spec/04` section 3):
//! * a join key that is the bare marked column of either side bounds both sides by the watermark itself, and then ranges
//!   do not count;
//! * otherwise each `<`, `<=`, `>`, `>=` that can be solved to `other's event time + constant < a timestamp of this
//!   side` bounds this side. Solved are sums and differences of one timestamp column per side and constants: intervals
//!   without months, numbers (seconds), timestamps; casts to numbers and timestamps are looked through. Equalities,
//!   functions, and the difference of two instants are not.

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::{Column, DFSchema, ScalarValue};
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};

use super::watermark::Marks;
use crate::functions::{CAST_CALL, TRY_CAST_CALL};
use crate::operators::join::bound::{Bound, Bounds, Range};
use crate::sql::types::parse_type;

/// One side of a join: its columns and which of them carry event time.
#[derive(Clone, Copy, Debug)]
pub struct Side<'a> {
    /// The columns.
    pub schema: &'a DFSchema,
    /// Their marks.
    pub marks: &'a Marks,
}

impl Side<'_> {
    fn index(&self, column: &Column) -> Option<usize> {
        self.schema.has_column(column).then(|| self.schema.maybe_index_of_column(column)).flatten()
    }

    fn is_marked(&self, column: &Column) -> bool {
        self.index(column).is_some_and(|index| self.marks[index].is_some())
    }

    fn event_time(&self) -> Option<usize> {
        self.marks.iter().position(Option::is_some)
    }
}

/// The bounds of both sides. `ranges` are all conjuncts that are no keys.
pub fn bounds<'a>(
    keys: &[(Expr, Expr)],
    ranges: impl Iterator<Item = &'a Expr> + Clone,
    left: Side,
    right: Side,
) -> Bounds {
    if let Some(key) = event_time_key(keys, left, right) {
        return Bounds { left: Some(Bound::Key(key)), right: Some(Bound::Key(key)) };
    }
    Bounds { left: rows_bound(ranges.clone(), left, right), right: rows_bound(ranges, right, left) }
}

/// The first join key that is a bare event-time column; the left side is asked first.
pub fn event_time_key(keys: &[(Expr, Expr)], left: Side, right: Side) -> Option<usize> {
    let marked = |expr: &Expr, side: Side| matches!(unaliased(expr), Expr::Column(column) if side.is_marked(column));
    let in_left = keys.iter().position(|(key, _)| marked(key, left));
    in_left.or_else(|| keys.iter().position(|(_, key)| marked(key, right)))
}

fn rows_bound<'a>(conditions: impl Iterator<Item = &'a Expr>, this: Side, other: Side) -> Option<Bound> {
    let column = this.event_time()?;
    let ranges: Vec<Range> = conditions.filter_map(|condition| range(condition, this, other)).collect();
    (!ranges.is_empty()).then_some(Bound::Rows { column, ranges })
}

/// The lower bound that a comparison puts on `this` side by the event time of the `other`.
pub fn range(condition: &Expr, this: Side, other: Side) -> Option<Range> {
    let Expr::BinaryExpr(BinaryExpr { left, op, right }) = unaliased(condition) else { return None };
    let (smaller, larger, inclusive) = match op {
        Operator::Lt => (left, right, false),
        Operator::LtEq => (left, right, true),
        Operator::Gt => (right, left, false),
        Operator::GtEq => (right, left, true),
        _ => return None,
    };
    // smaller - larger < 0 has to read: other + offset - this < 0.
    let mut sum = Sum::default();
    sum.add(smaller, 1.0)?;
    sum.add(larger, -1.0)?;
    let [(a, sign_a), (b, sign_b)] = sum.columns.as_slice() else { return None };
    let (bounded, bounding) = match (*sign_a < 0.0, *sign_b < 0.0) {
        (true, false) => (a, b),
        (false, true) => (b, a),
        _ => return None,
    };
    let is_timestamp =
        |index: usize| matches!(this.schema.field(index).data_type(), DataType::Timestamp(_, zone) if zone.is_some());
    (this.index(bounded).is_some_and(is_timestamp) && other.is_marked(bounding))
        .then_some(Range { offset_us: sum.constant_us, inclusive })
}

/// A sum of columns and constants.
#[derive(Default)]
struct Sum {
    columns: Vec<(Column, f64)>,
    constant_us: f64,
}

impl Sum {
    /// Adds `sign` times the expression; `None` if it is no sum.
    fn add(&mut self, expr: &Expr, sign: f64) -> Option<()> {
        if let Some((inner, target)) = as_cast(expr) {
            let transparent = target.is_numeric() || matches!(target, DataType::Timestamp(_, Some(_)));
            return if transparent { self.add(inner, sign) } else { None };
        }
        match expr {
            Expr::Alias(alias) => self.add(&alias.expr, sign),
            Expr::Column(column) => {
                self.columns.push((column.clone(), sign));
                Some(())
            }
            Expr::Literal(value, _) => {
                self.constant_us += sign * constant_us(value)?;
                Some(())
            }
            Expr::Negative(inner) => self.add(inner, -sign),
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::Plus, right }) => self.both(left, right, sign, sign),
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::Minus, right }) => self.difference(left, right, sign),
            Expr::ScalarFunction(call) => match (call.name(), call.args.as_slice()) {
                ("__add", [left, right]) => self.both(left, right, sign, sign),
                ("__subtract", [left, right]) => self.both(left, right, sign, -sign),
                _ => None,
            },
            _ => None,
        }
    }

    fn both(&mut self, left: &Expr, right: &Expr, sign_left: f64, sign_right: f64) -> Option<()> {
        self.add(left, sign_left)?;
        self.add(right, sign_right)
    }

    /// A difference, but not of two instants: Spark does not solve that.
    fn difference(&mut self, left: &Expr, right: &Expr, sign: f64) -> Option<()> {
        if is_instant(right) { None } else { self.both(left, right, sign, -sign) }
    }
}

/// A cast, in any of its forms: what is cast, and to which type.
fn as_cast(expr: &Expr) -> Option<(&Expr, DataType)> {
    match expr {
        Expr::Cast(cast) => Some((&cast.expr, cast.field.data_type().clone())),
        Expr::TryCast(cast) => Some((&cast.expr, cast.field.data_type().clone())),
        Expr::ScalarFunction(call) if [CAST_CALL, TRY_CAST_CALL].contains(&call.name()) => {
            let [value, Expr::Literal(text, _)] = call.args.as_slice() else { return None };
            Some((value, parse_type(text.try_as_str()??).ok()?))
        }
        _ => None,
    }
}

/// Whether a part of a sum is a point in time (and not an interval, or a number made of one).
fn is_instant(expr: &Expr) -> bool {
    if let Some((_, target)) = as_cast(expr) {
        return matches!(target, DataType::Timestamp(..));
    }
    match expr {
        Expr::Alias(alias) => is_instant(&alias.expr),
        // A column of a sum is a timestamp, or the sum solves nothing.
        Expr::Column(_) => true,
        Expr::Literal(value, _) => matches!(value.data_type(), DataType::Timestamp(..)),
        Expr::BinaryExpr(BinaryExpr { left, right, .. }) => is_instant(left) || is_instant(right),
        _ => false,
    }
}

/// A constant in microseconds: intervals as they are (none with months), numbers as seconds.
fn constant_us(value: &ScalarValue) -> Option<f64> {
    const SECOND: f64 = 1e6;
    const DAY: f64 = 86_400e6;
    Some(match value {
        ScalarValue::IntervalMonthDayNano(Some(interval)) if interval.months == 0 => {
            f64::from(interval.days) * DAY + interval.nanoseconds as f64 / 1e3
        }
        ScalarValue::IntervalDayTime(Some(interval)) => {
            f64::from(interval.days) * DAY + f64::from(interval.milliseconds) * 1e3
        }
        ScalarValue::DurationSecond(Some(seconds)) => *seconds as f64 * SECOND,
        ScalarValue::DurationMillisecond(Some(millis)) => *millis as f64 * 1e3,
        ScalarValue::DurationMicrosecond(Some(micros)) => *micros as f64,
        ScalarValue::DurationNanosecond(Some(nanos)) => *nanos as f64 / 1e3,
        ScalarValue::TimestampMicrosecond(Some(micros), _) => *micros as f64,
        timestamp if matches!(timestamp.data_type(), DataType::Timestamp(..)) => {
            match timestamp.cast_to(&DataType::Timestamp(TimeUnit::Microsecond, None)).ok()? {
                ScalarValue::TimestampMicrosecond(Some(micros), _) => micros as f64,
                _ => return None,
            }
        }
        number if number.data_type().is_numeric() => match number.cast_to(&DataType::Float64).ok()? {
            ScalarValue::Float64(Some(seconds)) => seconds * SECOND,
            _ => return None,
        },
        _ => return None,
    })
}

fn unaliased(expr: &Expr) -> &Expr {
    match expr {
        Expr::Alias(alias) => unaliased(&alias.expr),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{Field, Schema};

    use super::*;
    use crate::functions;
    use crate::plan::join_condition::conjuncts;
    use crate::sql::{parse_ddl_schema, plan_expr};

    /// A schema in SQL, and the marked columns.
    fn side(relation: &str, ddl: &str, marked: &[&str]) -> (DFSchema, Marks) {
        let schema: Schema = parse_ddl_schema(ddl).unwrap().as_ref().clone();
        let marks =
            schema.fields().iter().map(|f: &std::sync::Arc<Field>| marked.contains(&f.name().as_str()).then_some(0));
        let marks = marks.collect();
        (DFSchema::try_from_qualified_schema(relation, &schema).unwrap(), marks)
    }

    /// The state watermarks (left, right) in milliseconds at a watermark of 100 s.
    fn watermarks(condition: &str, left_marked: &[&str], right_marked: &[&str]) -> (Option<i64>, Option<i64>) {
        let left = side("l", "lts TIMESTAMP, lother TIMESTAMP, lk STRING, lv BIGINT", left_marked);
        let right = side("r", "rts TIMESTAMP, rk STRING, rv BIGINT", right_marked);
        let both = left.0.join(&right.0).unwrap();
        let state = functions::session_builder(functions::session_config(1)).build();
        let (mut keys, mut ranges) = (vec![], vec![]);
        for conjunct in conjuncts(&plan_expr(&state, condition, &both).unwrap()) {
            match conjunct {
                Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) => keys.push((*left, *right)),
                other => ranges.push(other),
            }
        }
        let (left, right) = (Side { schema: &left.0, marks: &left.1 }, Side { schema: &right.0, marks: &right.1 });
        let bounds = bounds(&keys, ranges.iter(), left, right);
        let at = |bound: Option<Bound>| bound.map(|bound| bound.state_watermark_ms(100_000));
        (at(bounds.left), at(bounds.right))
    }

    #[test]
    fn ranges_bound_the_side_that_they_hold_above_the_other() {
        let both = |condition: &str| watermarks(&format!("lk = rk AND {condition}"), &["lts"], &["rts"]);
        for (condition, left, right) in [
            // From spec/04: strict keeps W + c, inclusive W + c - 1 ms.
            ("lts > rts - INTERVAL 5 SECONDS", Some(95_000), None),
            ("rts - INTERVAL 5 SECONDS < lts", Some(95_000), None),
            ("rts <= lts + INTERVAL 10 SECONDS", Some(89_999), None),
            ("rts >= lts", None, Some(99_999)),
            ("rts > lts", None, Some(100_000)),
            ("lts BETWEEN rts - INTERVAL 5 SECONDS AND rts + INTERVAL 5 SECONDS", Some(94_999), Some(94_999)),
            ("rts >= lts AND rts <= lts + INTERVAL 1 HOUR", Some(100_000 - 3_600_000 - 1), Some(99_999)),
            // Several bounds: the least.
            ("lts > rts - INTERVAL 5 SECONDS AND lts > rts - INTERVAL 7 SECONDS", Some(93_000), None),
            ("lts + INTERVAL 2 SECONDS > rts - INTERVAL 1 DAY", Some(100_000 - 86_400_000 - 2_000), None),
            // Microseconds are cut toward zero.
            ("lts > rts - INTERVAL 1500 MICROSECONDS", Some(99_998), None),
            // Not the event time of this side, but a timestamp of it: Spark takes it for the event time.
            ("lother > rts - INTERVAL 5 SECONDS", Some(95_000), None),
            // Numbers are seconds.
            ("CAST(lts AS BIGINT) > CAST(rts AS BIGINT) - 5", Some(95_000), None),
            ("CAST(lts AS BIGINT) - CAST(rts AS BIGINT) > -5", Some(95_000), None),
            ("CAST(lts AS DOUBLE) > CAST(rts AS DOUBLE) - 0.5", Some(99_500), None),
            ("lts - rts < INTERVAL 5 SECONDS", None, None),
            ("lts > rts - INTERVAL 1 MONTH", None, None),
            ("date_trunc('hour', lts) > rts", None, None),
            ("lts > rts - INTERVAL 5 SECONDS OR lv = 1", None, None),
            ("lv < rv", None, None),
            ("lts <> rts", None, None),
        ] {
            assert_eq!(both(condition), (left, right), "{condition}");
        }
    }

    #[test]
    fn only_a_marked_other_side_bounds_and_only_a_marked_side_is_bounded() {
        let range = "lk = rk AND lts BETWEEN rts - INTERVAL 5 SECONDS AND rts + INTERVAL 5 SECONDS";
        assert_eq!(watermarks(range, &["lts"], &[]), (None, None));
        assert_eq!(watermarks(range, &[], &["rts"]), (None, None));
        assert_eq!(watermarks(range, &["lts"], &["rts"]), (Some(94_999), Some(94_999)));
    }

    #[test]
    fn an_event_time_key_bounds_both_sides_and_ranges_do_not_count() {
        assert_eq!(watermarks("lk = rk AND lts = rts", &["lts"], &["rts"]), (Some(100_000), Some(100_000)));
        assert_eq!(watermarks("lts = rts", &[], &["rts"]), (Some(100_000), Some(100_000)));
        let with_range = "lts = rts AND lts > rts - INTERVAL 5 SECONDS";
        assert_eq!(watermarks(with_range, &["lts"], &["rts"]), (Some(100_000), Some(100_000)));
        // A key made of the event time is none.
        assert_eq!(watermarks("date_trunc('hour', lts) = rts", &["lts"], &[]), (None, None));
    }

    #[test]
    fn the_output_watermark_is_the_least_of_all() {
        let rows = |offset_us: f64| Some(Bound::Rows { column: 0, ranges: vec![Range { offset_us, inclusive: true }] });
        let bounds = Bounds { left: rows(-5e6), right: rows(20e6) };
        assert_eq!(bounds.output_watermark_ms(30_000), 24_999);
        let bounds = Bounds { left: None, right: rows(20e6) };
        assert_eq!(bounds.output_watermark_ms(30_000), 30_000);
    }
}
