//! What Spark's optimiser does to a plan before it runs, as far as it can be seen from outside: which filters
//! sink below the watermark node or into a state operator's input, and which columns an operator still has.

use std::collections::BTreeSet;

use super::expr::{AggregateCall, Column, ColumnId, Comparison, Expr};
use super::plan::{JoinKind, Plan};
use super::value::{Type, Value};

type Ids = BTreeSet<ColumnId>;

/// Applies all rules.
pub fn optimize(plan: Plan) -> Plan {
    let plan = sink_semi_joins(push_down(without_limit_zero(plan), Vec::new()));
    let plan = collapse(push_down(infer(plan), Vec::new()));
    let wanted = plan.column_ids();
    prune(plan, &wanted)
}

/// LIMIT 0 leaves nothing of a stream: no operator, no watermark node.
fn without_limit_zero(mut plan: Plan) -> Plan {
    if matches!(plan, Plan::Limit { count: 0, .. }) && plan.is_streaming() {
        return Plan::Union { inputs: Vec::new(), columns: plan.columns() };
    }
    for input in plan.inputs_mut() {
        *input = without_limit_zero(taken(input));
    }
    plan
}

/// LEFT SEMI and LEFT ANTI joins sink below aggregations on their left, when keys are all that the condition says of it.
fn sink_semi_joins(mut plan: Plan) -> Plan {
    for input in plan.inputs_mut() {
        *input = sink_semi_joins(taken(input));
    }
    let Plan::Join { left, right, kind, condition: Some(condition), op } = plan else { return plan };
    let join = SemiJoin { right: *right, kind, op };
    match kind.left_only().then(|| join.below(&left, &condition)).flatten() {
        Some(sunk) => sunk,
        None => Plan::Join { left, right: Box::new(join.right), kind, condition: Some(condition), op },
    }
}

struct SemiJoin {
    right: Plan,
    kind: JoinKind,
    op: usize,
}

impl SemiJoin {
    /// The plan with the join below its next aggregation; `None` if there is none that it can pass.
    fn below(&self, plan: &Plan, condition: &Expr) -> Option<Plan> {
        match plan {
            Plan::Project { input, items } => {
                let sunk = self.below(input, &substitute(condition, items))?;
                Some(Plan::Project { input: Box::new(sunk), items: items.clone() })
            }
            Plan::Aggregate { input, keys, calls, session, op } if !keys.is_empty() => {
                let right = self.right.column_ids();
                let is_key = |id: &ColumnId| right.contains(id) || keys.iter().any(|key| key.id == *id);
                if !condition.columns().iter().all(is_key) {
                    return None;
                }
                let input = self.below(input, condition).unwrap_or_else(|| self.at(input, condition));
                let (keys, calls) = (keys.clone(), calls.clone());
                Some(Plan::Aggregate { input: Box::new(input), keys, calls, session: *session, op: *op })
            }
            Plan::Union { inputs, columns } if !self.right.is_streaming() => {
                let conditions = inputs.iter().map(|input| {
                    let items: Vec<_> = columns.iter().cloned().zip(input.columns().iter().map(Expr::column)).collect();
                    substitute(condition, &items)
                });
                let sunk: Vec<_> =
                    inputs.iter().zip(conditions).map(|(input, on)| (self.below(input, &on), input, on)).collect();
                if sunk.iter().all(|(below, ..)| below.is_none()) {
                    return None;
                }
                let joined = sunk.into_iter().map(|(below, input, on)| below.unwrap_or_else(|| self.at(input, &on)));
                Some(Plan::Union { inputs: joined.collect(), columns: columns.clone() })
            }
            _ => None,
        }
    }

    fn at(&self, left: &Plan, condition: &Expr) -> Plan {
        let (left, right) = (Box::new(left.clone()), Box::new(self.right.clone()));
        Plan::Join { left, right, kind: self.kind, condition: Some(condition.clone()), op: self.op }
    }
}

fn taken(plan: &mut Plan) -> Plan {
    std::mem::replace(plan, Plan::Union { inputs: Vec::new(), columns: Vec::new() })
}

/// Removes an aggregation directly below another one that does not need it: the upper one asks only for keys
/// of the lower one, for `min` and `max` of them, and for sums of its `count(*)`.
fn collapse(mut plan: Plan) -> Plan {
    for input in plan.inputs_mut() {
        *input = collapse(taken(input));
    }
    let Plan::Aggregate { input, keys, calls, session: None, op } = plan else { return plan };
    let mut items: Vec<(Column, Expr)> = input.columns().into_iter().map(|c| (c.clone(), Expr::column(&c))).collect();
    let mut below = *input;
    while let Plan::Project { input, items: inner } = below {
        items = items.into_iter().map(|(c, e)| (c, substitute(&e, &inner))).collect();
        below = *input;
    }
    let key_exprs: Vec<(Column, Expr)> =
        keys.iter().map(|k| (k.clone(), substitute(&Expr::column(k), &items))).collect();
    let new_calls = calls.iter().map(|(c, call)| {
        let args = call.args.iter().map(|a| substitute(a, &items)).collect();
        (c.clone(), AggregateCall { args, ..call.clone() })
    });
    let new_calls: Option<Vec<_>> = match &below {
        Plan::Aggregate { session: None, .. } => {
            new_calls.map(|(c, call)| Some((c, over_lower(&call, &below)?))).collect()
        }
        _ => None,
    };
    match (below, new_calls) {
        (Plan::Aggregate { input: lower, keys: lower_keys, session: None, .. }, Some(new_calls))
            if key_exprs.iter().all(|(_, e)| e.columns().iter().all(|id| lower_keys.iter().any(|k| k.id == *id))) =>
        {
            let mut items: Vec<(Column, Expr)> = lower_keys.iter().map(|k| (k.clone(), Expr::column(k))).collect();
            items.extend(key_exprs.into_iter().filter(|(k, _)| lower_keys.iter().all(|l| l.id != k.id)));
            Plan::Aggregate {
                input: Box::new(Plan::Project { input: lower, items }),
                keys,
                calls: new_calls,
                session: None,
                op,
            }
        }
        (below, _) => {
            let input = Box::new(Plan::Project { input: Box::new(below), items });
            Plan::Aggregate { input, keys, calls, session: None, op }
        }
    }
}

/// The call over the lower aggregation's input, if it is one of those that need no lower aggregation.
fn over_lower(call: &AggregateCall, lower: &Plan) -> Option<AggregateCall> {
    let Plan::Aggregate { keys, calls, .. } = lower else { return None };
    if call.filter.is_some() {
        return None;
    }
    match (call.name.as_str(), call.args.as_slice()) {
        ("min" | "max", [arg]) if arg.columns().iter().all(|id| keys.iter().any(|k| k.id == *id)) => Some(call.clone()),
        ("sum", [Expr::Column(id, _)]) => {
            let (_, counted) = calls.iter().find(|(c, _)| c.id == *id)?;
            let counts_rows = counted.name == "count" && counted.args.is_empty() && counted.filter.is_none();
            let one = Expr::Literal(Value::Int(1), Type::BigInt);
            counts_rows.then(|| AggregateCall { args: vec![one], ..call.clone() })
        }
        _ => None,
    }
}

fn filtered(plan: Plan, conditions: Vec<Expr>) -> Plan {
    match Expr::conjunction(conditions) {
        Some(condition) => Plan::Filter { input: Box::new(plan), condition },
        None => plan,
    }
}

/// Moves filters towards the sources. `conditions` are conjuncts that hold above `plan`.
fn push_down(plan: Plan, conditions: Vec<Expr>) -> Plan {
    match plan {
        Plan::Filter { input, condition } => {
            let mut all = condition.conjuncts();
            all.extend(conditions);
            push_down(*input, all)
        }
        Plan::Project { input, items } => {
            let substituted = conditions.iter().map(|c| substitute(c, &items)).collect();
            Plan::Project { input: Box::new(push_down(*input, substituted)), items }
        }
        // A condition on the event time stays above the watermark node, all others sink below it, so that
        // the rows they reject do not advance the watermark.
        Plan::Watermark { input, column, delay_ms, node } => {
            let (stay, sink) = split(conditions, |c| c.columns().contains(&column));
            filtered(Plan::Watermark { input: Box::new(push_down(*input, sink)), column, delay_ms, node }, stay)
        }
        Plan::Window { input, column, time, width_us, slide_us, start_us } => {
            let (stay, sink) = split(conditions, |c| c.columns().contains(&column.id));
            let input = Box::new(push_down(*input, sink));
            filtered(Plan::Window { input, column, time, width_us, slide_us, start_us }, stay)
        }
        Plan::Session { input, column, time, gap } => {
            let (stay, sink) = split(conditions, |c| c.columns().contains(&column.id));
            filtered(Plan::Session { input: Box::new(push_down(*input, sink)), column, time, gap }, stay)
        }
        Plan::Explode { input, column, array } => {
            let (stay, sink) = split(conditions, |c| c.columns().contains(&column.id));
            filtered(Plan::Explode { input: Box::new(push_down(*input, sink)), column, array }, stay)
        }
        // Below a grouping only what speaks of the keys. Spark counts the session among them, although merging
        // changes it: the condition is then tested on every row's own initial session.
        Plan::Aggregate { input, keys, calls, session, op } => {
            let key_ids: Ids = keys.iter().map(|k| k.id).collect();
            let (sink, stay) = split(conditions, |c| !c.columns().is_empty() && c.columns().is_subset(&key_ids));
            filtered(Plan::Aggregate { input: Box::new(push_down(*input, sink)), keys, calls, session, op }, stay)
        }
        Plan::Sort { input, by } => Plan::Sort { input: Box::new(push_down(*input, conditions)), by },
        Plan::Union { inputs, columns } => {
            let push = |input: Plan| {
                let items: Vec<(Column, Expr)> =
                    columns.iter().cloned().zip(input.columns().iter().map(Expr::column)).collect();
                push_down(input, conditions.iter().map(|c| substitute(c, &items)).collect())
            };
            Plan::Union { inputs: inputs.into_iter().map(push).collect(), columns: columns.clone() }
        }
        Plan::Join { left, right, kind, condition, op } => {
            push_through_join(*left, *right, kind, condition, op, conditions)
        }
        // Deduplication and LIMIT keep what is above them above; so does a source, having nothing below.
        Plan::Dedup { input, keys, within, op } => {
            filtered(Plan::Dedup { input: Box::new(push_down(*input, Vec::new())), keys, within, op }, conditions)
        }
        Plan::Groups { input, keys, job, columns, op } => {
            let input = Box::new(push_down(*input, Vec::new()));
            filtered(Plan::Groups { input, keys, job, columns, op }, conditions)
        }
        Plan::Limit { input, count, stateful, op } => {
            filtered(Plan::Limit { input: Box::new(push_down(*input, Vec::new())), count, stateful, op }, conditions)
        }
        Plan::Offset { input, count } => {
            filtered(Plan::Offset { input: Box::new(push_down(*input, Vec::new())), count }, conditions)
        }
        leaf @ (Plan::Stream { .. } | Plan::Table { .. }) => filtered(leaf, conditions),
    }
}

fn push_through_join(
    left: Plan,
    right: Plan,
    kind: JoinKind,
    condition: Option<Expr>,
    op: usize,
    above: Vec<Expr>,
) -> Plan {
    let (l, r) = (left.column_ids(), right.column_ids());
    let kind = without_null_rows(kind, &above, &l, &r);
    // WHERE: onto each side that is not padded.
    let (above_left, above) =
        split(above, |c| of(c, &l) && !matches!(kind, JoinKind::RightOuter | JoinKind::FullOuter));
    let (above_right, mut above) =
        split(above, |c| of(c, &r) && matches!(kind, JoinKind::Inner | JoinKind::RightOuter));
    // ON: onto each side whose rows may be lost.
    let mut on = condition.map(|c| c.conjuncts()).unwrap_or_default();
    if kind == JoinKind::Inner {
        on.append(&mut above);
    }
    let left_droppable = matches!(kind, JoinKind::Inner | JoinKind::LeftSemi | JoinKind::RightOuter);
    let right_droppable = !matches!(kind, JoinKind::RightOuter | JoinKind::FullOuter);
    let (on_left, on) = split(on, |c| left_droppable && of(c, &l));
    let (on_right, on) = split(on, |c| right_droppable && of(c, &r));
    let left = push_down(left, above_left.into_iter().chain(on_left).collect());
    let right = push_down(right, above_right.into_iter().chain(on_right).collect());
    let condition = Expr::conjunction(on);
    filtered(Plan::Join { left: Box::new(left), right: Box::new(right), kind, condition, op }, above)
}

/// Whether a condition looks at columns of one side only (and at any).
fn of(condition: &Expr, side: &Ids) -> bool {
    let columns = condition.columns();
    !columns.is_empty() && columns.is_subset(side)
}

/// A WHERE that no padded row can pass turns an outer join into a narrower one.
fn without_null_rows(kind: JoinKind, above: &[Expr], left: &Ids, right: &Ids) -> JoinKind {
    let rejects = |side: &Ids| {
        above.iter().any(|c| {
            let mut rejected = Ids::new();
            c.null_rejecting_columns(&mut rejected);
            rejected.iter().any(|id| side.contains(id))
        })
    };
    match kind {
        JoinKind::FullOuter => match (rejects(left), rejects(right)) {
            (true, true) => JoinKind::Inner,
            (true, false) => JoinKind::LeftOuter,
            (false, true) => JoinKind::RightOuter,
            (false, false) => kind,
        },
        JoinKind::LeftOuter if rejects(right) => JoinKind::Inner,
        JoinKind::RightOuter if rejects(left) => JoinKind::Inner,
        _ => kind,
    }
}

fn split(conditions: Vec<Expr>, first: impl Fn(&Expr) -> bool) -> (Vec<Expr>, Vec<Expr>) {
    conditions.into_iter().partition(|c| first(c))
}

fn substitute(condition: &Expr, items: &[(Column, Expr)]) -> Expr {
    condition.rewrite(&mut |e| match e {
        Expr::Column(id, _) => items.iter().find(|(c, _)| c.id == *id).map(|(_, expr)| expr.clone()),
        _ => None,
    })
}

/// Adds to the sides of every join the filters that follow from its condition: IS NOT NULL of what the
/// condition cannot be true without, and the other side's conditions carried over an equality.
fn infer(mut plan: Plan) -> Plan {
    for input in plan.inputs_mut() {
        *input = infer(taken(input));
    }
    let Plan::Join { left, right, kind, condition, op } = plan else { return plan };
    let mut known = constraints(&left);
    known.extend(constraints(&right));
    known.extend(condition.iter().flat_map(Expr::conjuncts));
    known.extend(carried_over_equality(&known));
    let mut not_null = Ids::new();
    for c in &known {
        c.null_rejecting_columns(&mut not_null);
    }
    let add = |side: Plan| {
        let columns = side.columns();
        let ids = side.column_ids();
        let have = constraints(&side);
        let mut new: Vec<Expr> = known.iter().filter(|c| of(c, &ids) && !have.contains(c)).cloned().collect();
        let rejecting = columns.iter().filter(|c| not_null.contains(&c.id));
        new.extend(rejecting.map(|c| Expr::column(c).not_null()).filter(|c| !have.contains(c)));
        filtered(side, new)
    };
    let (left, right) = match kind {
        JoinKind::Inner | JoinKind::LeftSemi => (add(*left), add(*right)),
        JoinKind::RightOuter => (add(*left), *right),
        JoinKind::LeftOuter | JoinKind::LeftAnti => (*left, add(*right)),
        JoinKind::FullOuter => (*left, *right),
    };
    Plan::Join { left: Box::new(left), right: Box::new(right), kind, condition, op }
}

/// For every `a = b` of two columns: the other conditions with a in place of b and b in place of a.
fn carried_over_equality(known: &[Expr]) -> Vec<Expr> {
    let mut carried = Vec::new();
    for equality in known {
        let Expr::Compare(Comparison::Equal, a, b) = equality else { continue };
        let (Expr::Column(a_id, _), Expr::Column(b_id, _)) = (&**a, &**b) else { continue };
        for other in known.iter().filter(|o| *o != equality) {
            for (from, to) in [(a_id, b), (b_id, a)] {
                let replaced = other.rewrite(&mut |e| match e {
                    Expr::Column(id, _) if id == from => Some((**to).clone()),
                    _ => None,
                });
                if replaced != *other && !known.contains(&replaced) && !carried.contains(&replaced) {
                    carried.push(replaced);
                }
            }
        }
    }
    carried
}

/// Conditions that hold for every row of a plan.
fn constraints(plan: &Plan) -> Vec<Expr> {
    let within =
        |conditions: Vec<Expr>, ids: Ids| conditions.into_iter().filter(|c| c.columns().is_subset(&ids)).collect();
    match plan {
        Plan::Filter { input, condition } => {
            let mut all = condition.conjuncts();
            all.extend(constraints(input));
            all
        }
        Plan::Project { input, items } => {
            let renamed = constraints(input).into_iter().map(|c| {
                c.rewrite(&mut |e| match e {
                    Expr::Column(id, _) => items
                        .iter()
                        .find(|(_, e)| matches!(e, Expr::Column(i, _) if i == id))
                        .map(|(c, _)| Expr::column(c)),
                    _ => None,
                })
            });
            within(renamed.collect(), plan.column_ids())
        }
        Plan::Aggregate { input, .. } => within(constraints(input), plan.column_ids()),
        Plan::Join { left, right, kind, condition, .. } => match kind {
            JoinKind::Inner => constraints(left)
                .into_iter()
                .chain(constraints(right))
                .chain(condition.iter().flat_map(Expr::conjuncts))
                .collect(),
            JoinKind::LeftSemi | JoinKind::LeftOuter | JoinKind::LeftAnti => constraints(left),
            JoinKind::RightOuter => constraints(right),
            JoinKind::FullOuter => Vec::new(),
        },
        Plan::Stream { .. } | Plan::Table { .. } | Plan::Union { .. } => Vec::new(),
        other => other.inputs().into_iter().flat_map(constraints).collect(),
    }
}

/// Drops columns that nothing above looks at, where that can be seen: below state operators.
fn prune(plan: Plan, wanted: &Ids) -> Plan {
    let with = |more: Ids| -> Ids { wanted.union(&more).copied().collect() };
    let without = |id: ColumnId, more: Ids| -> Ids {
        let mut ids: Ids = wanted.union(&more).copied().collect();
        ids.remove(&id);
        ids
    };
    match plan {
        Plan::Filter { input, condition } => {
            let wanted = with(condition.columns());
            Plan::Filter { input: Box::new(prune(*input, &wanted)), condition }
        }
        Plan::Project { input, items } => {
            let items: Vec<(Column, Expr)> = items.into_iter().filter(|(c, _)| wanted.contains(&c.id)).collect();
            let below = items.iter().flat_map(|(_, e)| e.columns()).collect();
            Plan::Project { input: Box::new(prune(*input, &below)), items }
        }
        Plan::Watermark { input, column, delay_ms, node } => {
            Plan::Watermark { input: Box::new(prune(*input, &with(Ids::from([column])))), column, delay_ms, node }
        }
        Plan::Window { input, column, time, width_us, slide_us, start_us } => {
            let input = Box::new(prune(*input, &without(column.id, time.columns())));
            Plan::Window { input, column, time, width_us, slide_us, start_us }
        }
        Plan::Session { input, column, time, gap } => {
            let below = time.columns().union(&gap.columns()).copied().collect();
            Plan::Session { input: Box::new(prune(*input, &without(column.id, below))), column, time, gap }
        }
        Plan::Explode { input, column, array } => {
            let input = Box::new(prune(*input, &without(column.id, array.columns())));
            Plan::Explode { input, column, array }
        }
        Plan::Aggregate { input, keys, calls, session, op } => {
            let mut below: Ids = keys.iter().map(|k| k.id).collect();
            for (_, call) in &calls {
                below.extend(call.args.iter().chain(&call.filter).flat_map(Expr::columns));
            }
            Plan::Aggregate { input: Box::new(trimmed(*input, &below)), keys, calls, session, op }
        }
        // The event-time column of an operator that does not need it is gone: then it has no late filter.
        Plan::Dedup { input, keys, within, op } => {
            let mut below = with(keys.iter().copied().collect());
            if within {
                below.extend(input.columns().iter().filter(|c| c.delay_ms.is_some()).map(|c| c.id));
            }
            Plan::Dedup { input: Box::new(trimmed(*input, &below)), keys, within, op }
        }
        // A function may look at every column, and all that it gives is there.
        Plan::Groups { input, keys, job, columns, op } => {
            let below = input.column_ids();
            Plan::Groups { input: Box::new(trimmed(*input, &below)), keys, job, columns, op }
        }
        Plan::Join { left, right, kind, condition, op } => {
            let below = with(condition.as_ref().map(Expr::columns).unwrap_or_default());
            let (left, right) = (trimmed(*left, &below), trimmed(*right, &below));
            Plan::Join { left: Box::new(left), right: Box::new(right), kind, condition, op }
        }
        Plan::Union { inputs, columns } => prune_union(inputs, columns, wanted),
        Plan::Sort { input, by } => {
            let wanted = with(by.iter().flat_map(|k| k.expr.columns()).collect());
            Plan::Sort { input: Box::new(prune(*input, &wanted)), by }
        }
        Plan::Limit { input, count, stateful, op } => {
            Plan::Limit { input: Box::new(prune(*input, wanted)), count, stateful, op }
        }
        Plan::Offset { input, count } => Plan::Offset { input: Box::new(prune(*input, wanted)), count },
        leaf @ (Plan::Stream { .. } | Plan::Table { .. }) => leaf,
    }
}

fn prune_union(inputs: Vec<Plan>, columns: Vec<Column>, wanted: &Ids) -> Plan {
    let keep: Vec<bool> = columns.iter().map(|c| wanted.contains(&c.id)).collect();
    let kept = |columns: Vec<Column>| -> Vec<Column> {
        columns.into_iter().zip(&keep).filter(|(_, keep)| **keep).map(|(c, _)| c).collect()
    };
    let trim = |input: Plan| {
        let kept = kept(input.columns());
        let below = kept.iter().map(|c| c.id).collect();
        select(prune(input, &below), kept)
    };
    Plan::Union { inputs: inputs.into_iter().map(trim).collect(), columns: kept(columns) }
}

/// Prunes an input and cuts its output to the wanted columns.
fn trimmed(input: Plan, wanted: &Ids) -> Plan {
    let input = prune(input, wanted);
    let columns = input.columns();
    if columns.iter().all(|c| wanted.contains(&c.id)) {
        return input;
    }
    let kept = columns.into_iter().filter(|c| wanted.contains(&c.id)).collect();
    select(input, kept)
}

fn select(input: Plan, kept: Vec<Column>) -> Plan {
    let items = kept
        .into_iter()
        .map(|c| {
            let expr = Expr::column(&c);
            (c, expr)
        })
        .collect();
    Plan::Project { input: Box::new(input), items }
}
