//! Watermarks: from observed event times to the global value, and from it to what each operator may forget.

use std::collections::BTreeSet;

use super::expr::{Arith, Column, ColumnId, Comparison, Expr};
use super::plan::Plan;
use super::refusal::Refusal;
use super::value::{Type, Value};

/// `spark.sql.streaming.multipleWatermarkPolicy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// The slowest input decides.
    Min,
    /// The fastest input decides.
    Max,
}

/// The global watermark of a query and what each watermark node has seen in this run.
#[derive(Debug, Clone)]
pub struct Tracker {
    policy: Policy,
    global_ms: i64,
    nodes: Vec<Option<i64>>,
}

impl Tracker {
    /// A tracker for a new query.
    pub fn new(policy: Policy, nodes: usize) -> Tracker {
        Tracker { policy, global_ms: 0, nodes: vec![None; nodes] }
    }

    /// The watermark in force, milliseconds.
    pub fn global_ms(&self) -> i64 {
        self.global_ms
    }

    /// Forgets what the nodes saw: only the global value survives a restart (spec/02 section 3).
    pub fn restart(&mut self) {
        self.nodes.fill(None);
    }

    /// Takes over what survives a restart from the tracker of the query before.
    pub fn go_on_from(&mut self, before: &Tracker) {
        self.global_ms = before.global_ms;
    }

    /// Takes a batch's maximum event time of every node (`None`: no rows) minus its delay.
    pub fn observe(&mut self, batch: &[Option<i64>]) {
        for (node, seen) in self.nodes.iter_mut().zip(batch) {
            *node = (*node).max(*seen);
        }
        // A node that has seen nothing in this run counts as 0.
        let values = self.nodes.iter().map(|n| n.unwrap_or(0));
        let chosen = match self.policy {
            Policy::Min => values.min(),
            Policy::Max => values.max(),
        };
        self.global_ms = self.global_ms.max(chosen.unwrap_or(0));
    }
}

/// The input watermark of every stateful operator when the global watermark is `global_ms`; 0 where an
/// operator has none (spec/02 section 4).
pub fn propagate(plan: &Plan, global_ms: i64, operators: usize) -> Result<Vec<i64>, Refusal> {
    let mut inputs = vec![0; operators];
    if global_ms > 0 {
        output_of(plan, global_ms, &mut inputs)?;
    }
    Ok(inputs)
}

fn output_of(plan: &Plan, global_ms: i64, inputs: &mut [i64]) -> Result<Option<i64>, Refusal> {
    let mut input = None;
    for child in plan.inputs() {
        let output = output_of(child, global_ms, inputs)?;
        input = match (input, output) {
            (Some(a), Some(b)) => Some(std::cmp::min::<i64>(a, b)),
            (a, b) => a.or(b),
        };
    }
    match plan {
        Plan::Watermark { .. } if input.is_some() => Err(Refusal::failed_text(
            "Redefining watermark is disallowed. You can set the config 'spark.sql.streaming.statefulOperator.allowMultiple' to 'false' to restore the previous behavior.",
        )),
        Plan::Watermark { .. } => Ok(Some(global_ms)),
        Plan::Aggregate { op, .. } | Plan::Dedup { op, .. } | Plan::Limit { op, .. }
            if plan.state_operator().is_some() =>
        {
            inputs[*op] = input.unwrap_or(0);
            Ok(input)
        }
        Plan::Groups { op, columns, .. } => {
            inputs[*op] = input.unwrap_or(0);
            // Rows of a function have no watermark, unless its result has event time.
            Ok(input.filter(|_| columns.iter().any(|c| c.delay_ms.is_some())))
        }
        Plan::Join { op, left, right, condition, .. } if plan.state_operator().is_some() => {
            inputs[*op] = input.unwrap_or(0);
            let Some(watermark_ms) = input else { return Ok(None) };
            let bounds = JoinBounds::of(&left.columns(), &right.columns(), condition.as_ref());
            let sides = [bounds.left, bounds.right].into_iter().flatten().map(|b| b.bound_ms(watermark_ms));
            Ok(sides.chain([watermark_ms]).min())
        }
        _ => Ok(input),
    }
}

/// What may be forgotten of one side of a stream-stream join.
#[derive(Debug, Clone, PartialEq)]
pub enum Forget {
    /// The n-th join key is the event time: keys up to the watermark go.
    Key(usize),
    /// Rows go whose event-time column is up to watermark + offset (milliseconds, as Spark's double arithmetic has it).
    Row {
        /// The side's event-time column.
        column: ColumnId,
        /// (constant in microseconds, whether the condition includes equality) of every usable condition.
        bounds: Vec<(i64, bool)>,
    },
}

impl Forget {
    /// The instant up to which (inclusive) is forgotten, milliseconds.
    pub fn bound_ms(&self, watermark_ms: i64) -> i64 {
        match self {
            Forget::Key(_) => watermark_ms,
            Forget::Row { bounds, .. } => {
                let one = |(constant_us, inclusive): &(i64, bool)| {
                    let micros = watermark_ms as f64 * 1000.0 + *constant_us as f64;
                    (micros / 1000.0) as i64 - i64::from(*inclusive)
                };
                bounds.iter().map(one).min().unwrap_or(i64::MIN)
            }
        }
    }
}

/// The state watermarks of both sides of a join (spec/04 section 3).
#[derive(Debug, Clone, PartialEq)]
pub struct JoinBounds {
    /// Left side.
    pub left: Option<Forget>,
    /// Right side.
    pub right: Option<Forget>,
}

impl JoinBounds {
    /// Works the bounds out of the sides' marks and the condition.
    pub fn of(left: &[Column], right: &[Column], condition: Option<&Expr>) -> JoinBounds {
        if let Some(index) = marked_key(left, right, condition) {
            return JoinBounds { left: Some(Forget::Key(index)), right: Some(Forget::Key(index)) };
        }
        JoinBounds { left: row_bound(left, right, condition), right: row_bound(right, left, condition) }
    }
}

/// The equality pairs of a join condition: (left expression, right expression).
pub fn equal_pairs(left: &[Column], right: &[Column], condition: Option<&Expr>) -> Vec<(Expr, Expr)> {
    let (l, r) = (ids(left), ids(right));
    let mut pairs = Vec::new();
    for c in condition.map(Expr::conjuncts).unwrap_or_default() {
        let Expr::Compare(Comparison::Equal, a, b) = c else { continue };
        let (ca, cb) = (a.columns(), b.columns());
        if ca.is_empty() || cb.is_empty() {
            continue;
        }
        if ca.is_subset(&l) && cb.is_subset(&r) {
            pairs.push((*a, *b));
        } else if ca.is_subset(&r) && cb.is_subset(&l) {
            pairs.push((*b, *a));
        }
    }
    pairs
}

fn ids(columns: &[Column]) -> BTreeSet<ColumnId> {
    columns.iter().map(|c| c.id).collect()
}

/// The first join key that is a plain event-time column on either side (the left side is asked first).
fn marked_key(left: &[Column], right: &[Column], condition: Option<&Expr>) -> Option<usize> {
    let pairs = equal_pairs(left, right, condition);
    let marked = |e: &Expr, columns: &[Column]| matches!(e, Expr::Column(id, _) if columns.iter().any(|c| c.id == *id && c.delay_ms.is_some()));
    let in_left = pairs.iter().position(|(a, _)| marked(a, left));
    in_left.or_else(|| pairs.iter().position(|(_, b)| marked(b, right)))
}

fn row_bound(this: &[Column], other: &[Column], condition: Option<&Expr>) -> Option<Forget> {
    let column = this.iter().find(|c| c.delay_ms.is_some())?.id;
    let bounds = range_bounds(this, other, condition);
    (!bounds.is_empty()).then_some(Forget::Row { column, bounds })
}

/// The conditions that bound `this` side from below by the other side's event time.
pub fn range_bounds(this: &[Column], other: &[Column], condition: Option<&Expr>) -> Vec<(i64, bool)> {
    let mut bounds = Vec::new();
    for c in condition.map(Expr::conjuncts).unwrap_or_default() {
        let Expr::Compare(op, a, b) = c else { continue };
        let (smaller, larger, inclusive) = match op {
            Comparison::Less => (a, b, false),
            Comparison::LessOrEqual => (a, b, true),
            Comparison::Greater => (b, a, false),
            Comparison::GreaterOrEqual => (b, a, true),
            _ => continue,
        };
        if let Some(constant_us) = lower_bound(&smaller, &larger, this, other) {
            bounds.push((constant_us, inclusive));
        }
    }
    bounds
}

/// Solves `smaller < larger` to `other + constant < this`: the constant, in microseconds.
fn lower_bound(smaller: &Expr, larger: &Expr, this: &[Column], other: &[Column]) -> Option<i64> {
    // smaller - larger < 0: `this` must come with -1 and `other` with +1; the constants are what is added to `other`.
    let mut terms = Vec::new();
    let mut constant_us = 0;
    linear(smaller, 1, &mut terms, &mut constant_us)?;
    linear(larger, -1, &mut terms, &mut constant_us)?;
    let [(a, sign_a), (b, sign_b)] = terms.as_slice() else { return None };
    let (x, y) = match (sign_a, sign_b) {
        (-1, 1) => (a, b),
        (1, -1) => (b, a),
        _ => return None,
    };
    let is_this = this.iter().any(|c| c.id == *x);
    let is_event_time = other.iter().any(|c| c.id == *y && c.delay_ms.is_some());
    (is_this && is_event_time).then_some(constant_us)
}

/// Collects an expression of timestamp columns plus or minus constant intervals.
fn linear(e: &Expr, sign: i64, terms: &mut Vec<(ColumnId, i64)>, constant_us: &mut i64) -> Option<()> {
    match e {
        Expr::Column(id, Type::Timestamp) => terms.push((*id, sign)),
        Expr::Literal(Value::Interval(0, us), _) | Expr::Literal(Value::Timestamp(us), _) => {
            *constant_us = constant_us.saturating_add(us.saturating_mul(sign))
        }
        Expr::Arith(Arith::Plus, a, b, _) => {
            linear(a, sign, terms, constant_us)?;
            linear(b, sign, terms, constant_us)?;
        }
        // Not the difference of two instants: Spark does not solve that.
        Expr::Arith(Arith::Minus, a, b, _) if b.ty() == Type::Interval => {
            linear(a, sign, terms, constant_us)?;
            linear(b, -sign, terms, constant_us)?;
        }
        _ => return None,
    }
    Some(())
}
