//! Puts left semi and anti joins where Spark's optimizer puts them: below aggregations, and below watermarks.
//!
//! A row that a semi join rejects below an aggregation does not enter its state, and one that it rejects below a watermark
//! does not advance it. Two kinds of such joins:
//! * `a LEFT SEMI JOIN b ON ..` sinks through projections and aggregations whose grouping columns are all that the
//!   condition mentions of `a` (Spark: `PushDownLeftSemiAntiJoin`); a watermark stops it.
//! * `WHERE k IN (SELECT ..)`, `WHERE EXISTS (..)`: Spark moves the condition as the filter it is, also below a watermark
//!   when it does not mention the event time, and makes a join of it there.
//!
//! Spark moves an explicit join only when the right side is small enough to be broadcast; here sizes decide nothing.
//!
//! The full version has to handle: conditions over computed columns, aliases, chained aggregations, several grouping sets
//! (their columns are not those of the input), functions with another answer each time (they stop it), anti joins with
//! conditions on one side only, subqueries that refer to the outside by name (an alias would hide it: they become joins
//! before they sink), and subqueries below OR (they stay conditions while they sink).

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, JoinType};
use datafusion::error::Result as PlanResult;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Aggregate, Distinct, Expr, Join, LogicalPlan, SubqueryAlias, Union};
use datafusion::optimizer::Optimizer;
use datafusion::optimizer::decorrelate_predicate_subquery::DecorrelatePredicateSubquery;
use datafusion::optimizer::push_down_filter::PushDownFilter;
use datafusion::optimizer::scalar_subquery_to_join::ScalarSubqueryToJoin;

use super::nodes::{Watermark, as_node};
use super::relation::is_streaming;
use crate::error::Result;
use crate::functions::window::TUMBLING_CALL;

/// The plan with a join in place of each condition with a subquery, where Spark has it.
pub(super) fn joins_of_subqueries(plan: LogicalPlan, session: &SessionState) -> Result<LogicalPlan> {
    let subqueries = subqueries_of(&plan)?;
    if !subqueries.any {
        return Ok(plan);
    }
    let plan = match subqueries.correlated {
        true => plan,
        false => Optimizer::with_rules(vec![Arc::new(PushDownFilter::new())]).optimize(plan, session, |_, _| {})?,
    };
    let joins = Optimizer::with_rules(vec![
        Arc::new(DecorrelatePredicateSubquery::new()),
        Arc::new(ScalarSubqueryToJoin::new()),
    ]);
    sink_joins(joins.optimize(plan, session, |_, _| {})?, is_subquery)
}

/// The plan with its left semi and anti joins below the aggregations that they can pass.
pub(super) fn sink_semi_joins(plan: LogicalPlan) -> Result<LogicalPlan> {
    sink_joins(plan, |join| !is_subquery(join))
}

fn sink_joins(plan: LogicalPlan, which: impl Fn(&Join) -> bool) -> Result<LogicalPlan> {
    let sunk = plan.transform_up(|node| match &node {
        LogicalPlan::Join(join) if which(join) && is_streaming(&join.left) => Ok(match lowered(join)? {
            Some(lower) => Transformed::yes(lower),
            None => Transformed::no(node),
        }),
        _ => Ok(Transformed::no(node)),
    })?;
    Ok(sunk.data)
}

/// Whether a join was a condition with a subquery.
pub(super) fn is_subquery(join: &Join) -> bool {
    let mut relations = join.right.schema().iter().filter_map(|(relation, _)| relation);
    relations.any(|relation| relation.table().starts_with("__correlated_sq_"))
}

#[derive(Default)]
struct Subqueries {
    any: bool,
    /// One of them mentions columns of the query around it.
    correlated: bool,
}

fn subqueries_of(plan: &LogicalPlan) -> PlanResult<Subqueries> {
    let mut found = Subqueries::default();
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|part| {
                let subquery = match part {
                    Expr::InSubquery(part) => &part.subquery,
                    Expr::Exists(part) => &part.subquery,
                    Expr::SetComparison(part) => &part.subquery,
                    Expr::ScalarSubquery(subquery) => subquery,
                    _ => return Ok(TreeNodeRecursion::Continue),
                };
                found.any = true;
                found.correlated |= !subquery.outer_ref_columns.is_empty();
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    Ok(found)
}

/// The join below the next aggregation (or watermark, if it was a condition) and whatever else it can pass; `None` when
/// there is none to pass.
fn lowered(join: &Join) -> PlanResult<Option<LogicalPlan>> {
    if !matches!(join.join_type, JoinType::LeftSemi | JoinType::LeftAnti) {
        return Ok(None);
    }
    let (left, right) = (join.left.schema(), join.right.schema());
    let mark = |column: &Column| match right.maybe_index_of_column(column) {
        Some(at) => (!left.has_column(column)).then(|| right_column(at)),
        None => Some(column.clone()),
    };
    let filter = join.filter.as_ref().map(|filter| with_columns(filter, &mark));
    if matches!(filter, Some(None)) {
        return Ok(None);
    }
    let condition =
        Condition { keys: join.on.iter().map(|(left, _)| left.clone()).collect(), filter: filter.flatten() };
    Sinking { join }.sink(&join.left, &condition)
}

/// The condition of a join in terms of one plan on its left side; columns of the right side are [`right_column`]s.
struct Condition {
    /// What equals the keys of the right side.
    keys: Vec<Expr>,
    filter: Option<Expr>,
}

const RIGHT: &str = "__right";

fn right_column(at: usize) -> Column {
    Column::new(Some(RIGHT), at.to_string())
}

fn right_place(column: &Column) -> Option<usize> {
    let relation = column.relation.as_ref().filter(|relation| relation.table() == RIGHT);
    relation.and_then(|_| column.name.parse().ok())
}

impl Condition {
    /// The condition in terms of an input of the plan; `inner` says what a column of the plan is there.
    fn inside(&self, inner: impl Fn(&Column) -> Option<Expr>) -> Option<Self> {
        let inner = |column: &Column| match right_place(column) {
            Some(_) => Some(Expr::Column(column.clone())),
            None => inner(column),
        };
        let rename = |expr: &Expr| with_exprs(expr, &inner).filter(|renamed| !renamed.is_volatile());
        let keys = self.keys.iter().map(rename).collect::<Option<_>>()?;
        match &self.filter {
            None => Some(Self { keys, filter: None }),
            Some(filter) => Some(Self { keys, filter: Some(rename(filter)?) }),
        }
    }
}

/// A join on its way down.
struct Sinking<'a> {
    join: &'a Join,
}

impl Sinking<'_> {
    /// The plan with the join below what it must pass at least.
    fn sink(&self, plan: &Arc<LogicalPlan>, condition: &Condition) -> PlanResult<Option<LogicalPlan>> {
        let was_condition = is_subquery(self.join);
        let again = |input: LogicalPlan| plan.with_new_exprs(plan.expressions(), vec![input]);
        match plan.as_ref() {
            LogicalPlan::Aggregate(aggregate) if !aggregate.group_expr.is_empty() => {
                let inner = |column: &Column| {
                    let key = aggregate.group_expr.get(aggregate.schema.maybe_index_of_column(column)?)?;
                    (!matches!(key, Expr::GroupingSet(_))).then(|| unaliased(key).clone())
                };
                let Some(condition) = condition.inside(inner) else { return Ok(None) };
                let Some(input) = self.deepest(&aggregate.input, &condition)? else { return Ok(None) };
                let (keys, functions) = (aggregate.group_expr.clone(), aggregate.aggr_expr.clone());
                Ok(Some(LogicalPlan::Aggregate(Aggregate::try_new(Arc::new(input), keys, functions)?)))
            }
            LogicalPlan::Distinct(Distinct::All(input)) => {
                Ok(self.deepest(input, condition)?.map(|input| LogicalPlan::Distinct(Distinct::All(Arc::new(input)))))
            }
            LogicalPlan::Extension(extension) => {
                let watermark = as_node::<Watermark>(extension.node.as_ref()).filter(|_| was_condition);
                let Some(watermark) = watermark else { return Ok(None) };
                let event_time = column_at(watermark.input().schema(), watermark.column_index()?);
                let inner = |column: &Column| (*column != event_time).then(|| Expr::Column(column.clone()));
                let Some(condition) = condition.inside(inner) else { return Ok(None) };
                self.deepest(&Arc::new(watermark.input().clone()), &condition)?.map(again).transpose()
            }
            LogicalPlan::SubqueryAlias(alias) => {
                let input = alias.input.schema();
                let inner = |column: &Column| {
                    alias.schema.maybe_index_of_column(column).map(|at| Expr::Column(column_at(input, at)))
                };
                let Some(condition) = condition.inside(inner) else { return Ok(None) };
                let again = |input| SubqueryAlias::try_new(Arc::new(input), alias.alias.clone());
                Ok(self.sink(&alias.input, &condition)?.map(again).transpose()?.map(LogicalPlan::SubqueryAlias))
            }
            LogicalPlan::Projection(projection) if was_condition || !makes_a_window(&projection.expr)? => {
                let inner = |column: &Column| {
                    projection.schema.maybe_index_of_column(column).map(|at| unaliased(&projection.expr[at]).clone())
                };
                let Some(condition) = condition.inside(inner) else { return Ok(None) };
                self.sink(&projection.input, &condition)?.map(again).transpose()
            }
            // A condition among conditions; an explicit join stays above filters in Spark.
            LogicalPlan::Filter(filter) if was_condition => self.sink(&filter.input, condition)?.map(again).transpose(),
            // Past a join of the same kind: rows that either rejects are rejected, in any order.
            LogicalPlan::Join(inner) if matches!(inner.join_type, JoinType::LeftSemi | JoinType::LeftAnti) => {
                let Some(left) = self.sink(&inner.left, condition)? else { return Ok(None) };
                Ok(Some(LogicalPlan::Join(Join { left: Arc::new(left), ..inner.clone() })))
            }
            // Each input is joined; a stream on the right would be read once for each.
            LogicalPlan::Union(union) if !is_streaming(&self.join.right) => {
                let mut sunk = false;
                let mut inputs = Vec::with_capacity(union.inputs.len());
                for input in &union.inputs {
                    let inner = |column: &Column| {
                        let at = union.schema.maybe_index_of_column(column)?;
                        Some(Expr::Column(column_at(input.schema(), at)))
                    };
                    let Some(condition) = condition.inside(inner) else { return Ok(None) };
                    let lower = self.sink(input, &condition)?;
                    sunk |= lower.is_some();
                    let Some(joined) = lower.map_or_else(|| self.joined(input, &condition), |lower| Ok(Some(lower)))?
                    else {
                        return Ok(None);
                    };
                    inputs.push(Arc::new(joined));
                }
                Ok(if sunk { Some(LogicalPlan::Union(Union::try_new(inputs)?)) } else { None })
            }
            _ => Ok(None),
        }
    }

    /// The plan joined, as deep in it as can be.
    fn deepest(&self, plan: &Arc<LogicalPlan>, condition: &Condition) -> PlanResult<Option<LogicalPlan>> {
        match self.sink(plan, condition)? {
            Some(sunk) => Ok(Some(sunk)),
            None => self.joined(plan, condition),
        }
    }

    /// The plan joined here; `None` if a column of it is called like one of the right side that the condition mentions.
    fn joined(&self, plan: &Arc<LogicalPlan>, condition: &Condition) -> PlanResult<Option<LogicalPlan>> {
        let (left, right) = (plan.schema(), self.join.right.schema());
        let unmark = |column: &Column| match right_place(column) {
            Some(at) => Some(column_at(right, at)).filter(|column| !left.has_column(column)),
            None => (!right.has_column(column)).then(|| column.clone()),
        };
        let unmarked = |expr: &Expr| with_columns(expr, &unmark);
        if self.join.on.iter().any(|(_, right)| right.column_refs().into_iter().any(|column| left.has_column(column))) {
            return Ok(None);
        }
        let keys = condition.keys.iter().zip(&self.join.on);
        let Some(on) = keys.map(|(left, (_, right))| Some((unmarked(left)?, right.clone()))).collect::<Option<_>>()
        else {
            return Ok(None);
        };
        let filter = condition.filter.as_ref().map(unmarked);
        if matches!(filter, Some(None)) {
            return Ok(None);
        }
        let Join { right, join_type, join_constraint, null_equality, null_aware, .. } = self.join;
        let (left, right) = (Arc::clone(plan), Arc::clone(right));
        let join = Join::try_new(
            left,
            right,
            on,
            filter.flatten(),
            *join_type,
            *join_constraint,
            *null_equality,
            *null_aware,
        )?;
        Ok(Some(LogicalPlan::Join(join)))
    }
}

/// Whether a time window is computed here: Spark has a filter on the event time below it.
fn makes_a_window(exprs: &[Expr]) -> PlanResult<bool> {
    let call = |expr: &Expr| matches!(expr, Expr::ScalarFunction(call) if call.name() == TUMBLING_CALL);
    exprs.iter().try_fold(false, |found, expr| Ok(found || expr.exists(|expr| Ok(call(expr)))?))
}

/// The column at this place.
pub(super) fn column_at(schema: &DFSchema, at: usize) -> Column {
    Column::from(schema.qualified_field(at))
}

/// The condition with every column renamed; `None` if one has no new name.
pub(super) fn with_columns(condition: &Expr, renamed: &dyn Fn(&Column) -> Option<Column>) -> Option<Expr> {
    with_exprs(condition, &|column| renamed(column).map(Expr::Column))
}

/// The condition with an expression in place of every column; `None` if there is none for one of them.
fn with_exprs(condition: &Expr, of_column: &dyn Fn(&Column) -> Option<Expr>) -> Option<Expr> {
    let mut lost = false;
    let replaced = condition.clone().transform_up(|expr| match &expr {
        Expr::Column(column) => Ok(match of_column(column) {
            Some(replaced) => Transformed::yes(replaced),
            None => {
                lost = true;
                Transformed::new(expr, false, TreeNodeRecursion::Stop)
            }
        }),
        _ => Ok(Transformed::no(expr)),
    });
    replaced.ok().filter(|_| !lost).map(|replaced| replaced.data)
}

/// The expression that an alias names.
pub(super) fn unaliased(expr: &Expr) -> &Expr {
    match expr {
        Expr::Alias(alias) => unaliased(&alias.expr),
        other => other,
    }
}
