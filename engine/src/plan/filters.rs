//! Puts filters where Spark's optimizer puts them, before anything remembers.
//!
//! Where a filter stands can be seen: rows rejected below a watermark node do not advance the watermark, rows rejected
//! below a stateful operator do not enter its state. So this runs on the plan with ordinary nodes, in which filters
//! sink as far as DataFusion's rules let them (`WHERE` into joins, below aggregations on grouping columns, below watermark
//! nodes when they do not mention the event time), and adds what Spark infers:
//! * below a join, `IS NOT NULL` of every column without which the condition cannot be true;
//! * over an equality of two columns, what is known of one of them holds for the other;
//! * at a filter over several columns, `IS NOT NULL` of each, which may sink further than the filter can.
//!
//! After that, no filter moves across a stateful node any more.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema, ExprSchema, JoinType};
use datafusion::error::Result as PlanResult;
use datafusion::execution::SessionState;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{BinaryExpr, Expr, Filter, Join, LogicalPlan, Operator};
use datafusion::optimizer::Optimizer;
use datafusion::optimizer::eliminate_outer_join::EliminateOuterJoin;
use datafusion::optimizer::push_down_filter::PushDownFilter;
use datafusion::optimizer::simplify_expressions::SimplifyExpressions;

use super::join_condition::{conjuncts, looks_only_at};
use super::null_rejection::columns_that_reject_null;
use super::relation::is_streaming;
use super::semi_joins::{column_at, is_subquery, joins_of_subqueries, sink_semi_joins, unaliased, with_columns};
use crate::error::Result;

/// The plan with all filters in their places. Current-time functions must have been bound before: they would be folded.
pub fn place_filters(plan: LogicalPlan, session: &SessionState) -> Result<LogicalPlan> {
    let sink = Optimizer::with_rules(vec![
        Arc::new(SimplifyExpressions::new()),
        Arc::new(EliminateOuterJoin::new()),
        Arc::new(PushDownFilter::new()),
    ]);
    let plan = joins_of_subqueries(plan, session)?;
    let plan = sink_semi_joins(sink.optimize(plan, session, |_, _| {})?)?;
    let inferred =
        plan.transform_up(|node| if is_streaming(&node) { infer(node) } else { Ok(Transformed::no(node)) })?;
    if !inferred.transformed {
        return Ok(inferred.data);
    }
    Ok(sink.optimize(inferred.data, session, |_, _| {})?)
}

fn infer(node: LogicalPlan) -> PlanResult<Transformed<LogicalPlan>> {
    match node {
        LogicalPlan::Join(join) => infer_for_sides(join),
        LogicalPlan::Filter(filter) => infer_at_filter(filter),
        other => Ok(Transformed::no(other)),
    }
}

/// What the sides of a join must satisfy so that its condition can be true. A side whose rows come out also without a
/// match gets no filter.
fn infer_for_sides(mut join: Join) -> PlanResult<Transformed<LogicalPlan>> {
    if is_subquery(&join) {
        return Ok(Transformed::no(LogicalPlan::Join(join)));
    }
    let (to_left, to_right) = match join.join_type {
        JoinType::Inner | JoinType::LeftSemi | JoinType::RightSemi => (true, true),
        JoinType::Left | JoinType::LeftAnti => (false, true),
        JoinType::Right | JoinType::RightAnti => (true, false),
        JoinType::Full | JoinType::LeftMark | JoinType::RightMark => (false, false),
    };
    let (left, right) = (constraints(&join.left), constraints(&join.right));
    let mut known: Vec<Expr> = left.iter().chain(&right).cloned().chain(condition_of(&join)).collect();
    known.extend(carried_over_equalities(&known));
    let mut needed = BTreeSet::new();
    known.iter().for_each(|condition| columns_that_reject_null(condition, &mut needed));
    let mut changed = false;
    for (wanted, side, have) in [(to_left, &mut join.left, left), (to_right, &mut join.right, right)] {
        let schema = side.schema();
        let new = (known.iter().filter(|condition| looks_only_at(condition, schema)).cloned())
            .chain(not_nulls(&needed, schema))
            .filter(|condition| !have.contains(condition));
        if let Some(predicate) = conjunction(new).filter(|_| wanted) {
            *side = Arc::new(LogicalPlan::Filter(Filter::try_new(predicate, Arc::clone(side))?));
            changed = true;
        }
    }
    Ok(Transformed::new_transformed(LogicalPlan::Join(join), changed))
}

/// `n > k` rejects null keys: `k IS NOT NULL` may sink below the aggregation that made n.
fn infer_at_filter(mut filter: Filter) -> PlanResult<Transformed<LogicalPlan>> {
    let conditions = conjuncts(&filter.predicate);
    let mut needed = BTreeSet::new();
    for condition in conditions.iter().filter(|condition| condition.column_refs().len() > 1) {
        columns_that_reject_null(condition, &mut needed);
    }
    let have = constraints(&filter.input);
    let new: Vec<Expr> = not_nulls(&needed, filter.input.schema())
        .filter(|condition| !have.contains(condition) && !conditions.contains(condition))
        .collect();
    let changed = !new.is_empty();
    filter.predicate = new.into_iter().fold(filter.predicate, Expr::and);
    Ok(Transformed::new_transformed(LogicalPlan::Filter(filter), changed))
}

fn not_nulls(columns: &BTreeSet<Column>, schema: &DFSchema) -> impl Iterator<Item = Expr> {
    let nullable = |column: &&Column| schema.field_from_column(column).is_ok_and(|field| field.is_nullable());
    let wanted = columns.iter().filter(|column| schema.has_column(column)).filter(nullable);
    wanted.map(|column| Expr::Column(column.clone()).is_not_null())
}

fn condition_of(join: &Join) -> Vec<Expr> {
    let keys = join.on.iter().map(|(left, right)| left.clone().eq(right.clone()));
    keys.chain(join.filter.iter().flat_map(conjuncts)).filter(|condition| !condition.is_volatile()).collect()
}

/// For every `a = b` of two columns: the other conditions with a in place of b and b in place of a.
fn carried_over_equalities(known: &[Expr]) -> Vec<Expr> {
    let mut carried = vec![];
    for equality in known {
        let Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) = equality else { continue };
        let (Expr::Column(a), Expr::Column(b)) = (left.as_ref(), right.as_ref()) else { continue };
        for other in known.iter().filter(|other| *other != equality) {
            for (from, to) in [(a, b), (b, a)] {
                if let Some(replaced) = with_column(other, from, to)
                    && !known.contains(&replaced)
                    && !carried.contains(&replaced)
                {
                    carried.push(replaced);
                }
            }
        }
    }
    carried
}

/// The condition with another column in place of `from`; `None` if it is not in it.
fn with_column(condition: &Expr, from: &Column, to: &Column) -> Option<Expr> {
    let replaced = condition.clone().transform(|expr| match &expr {
        Expr::Column(column) if column == from => Ok(Transformed::yes(Expr::Column(to.clone()))),
        _ => Ok(Transformed::no(expr)),
    });
    replaced.ok().filter(|replaced| replaced.transformed).map(|replaced| replaced.data)
}

/// Conditions that hold for every row of a plan, as far as filters and inner joins in it say so.
fn constraints(plan: &LogicalPlan) -> Vec<Expr> {
    let in_schema = |conditions: Vec<Expr>| -> Vec<Expr> {
        conditions.into_iter().filter(|condition| looks_only_at(condition, plan.schema())).collect()
    };
    match plan {
        LogicalPlan::Filter(filter) => {
            let own = conjuncts(&filter.predicate).into_iter().filter(|condition| !condition.is_volatile());
            own.chain(constraints(&filter.input)).collect()
        }
        LogicalPlan::Projection(projection) => {
            let renamed = |from: &Column| {
                let is_it = |expr: &Expr| matches!(unaliased(expr), Expr::Column(column) if column == from);
                projection.expr.iter().position(is_it).map(|at| column_at(&projection.schema, at))
            };
            constraints(&projection.input).iter().filter_map(|condition| with_columns(condition, &renamed)).collect()
        }
        LogicalPlan::SubqueryAlias(alias) => {
            let input = alias.input.schema();
            let renamed = |from: &Column| input.maybe_index_of_column(from).map(|at| column_at(&alias.schema, at));
            constraints(&alias.input).iter().filter_map(|condition| with_columns(condition, &renamed)).collect()
        }
        LogicalPlan::Join(join) => {
            let (left, right) = (constraints(&join.left), constraints(&join.right));
            match join.join_type {
                JoinType::Inner => left.into_iter().chain(right).chain(condition_of(join)).collect(),
                JoinType::Left | JoinType::LeftSemi | JoinType::LeftAnti => left,
                JoinType::Right | JoinType::RightSemi | JoinType::RightAnti => right,
                JoinType::Full | JoinType::LeftMark | JoinType::RightMark => vec![],
            }
        }
        // A union's rows satisfy what all its inputs do: too seldom to be worth looking for.
        LogicalPlan::Union(_) => vec![],
        other => in_schema(other.inputs().into_iter().flat_map(constraints).collect()),
    }
}
