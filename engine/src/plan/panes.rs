//! Lets an aggregation by time windows reduce a batch's rows by pane before they are given to their windows.
//!
//! ```text
//! StatefulAggregate [w, k]                     StatefulAggregate [w, k] panes=w
//!   Projection w, k, v                    =>     Projection w, k, v
//!     TimeWindowExpand ts AS w                     Projection *, __slice_start(ts, pane, start) AS w
//! ```
//! Below the aggregation the column then holds the start of a row's pane; the operator makes windows of it after the
//! partial aggregation (`operators::pane_windows`). Done last, on the optimized plan, so that marks and filters have
//! found their places by the real window. Left alone: a window column that anything else looks at (another key, an
//! aggregate, a filter), and, where windows overlap, aggregates whose result depends on the order of rows; and grouping sets, which need not have the window.

use std::sync::Arc;

use datafusion::common::Column;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, Filter, LogicalPlan, Projection, SubqueryAlias, lit};

use super::nodes::{StatefulAggregate, as_node};
use crate::functions::window::{TimeWindowKind, pane_width, slice_start_udf, time_window_source};
use crate::functions::window_expand::{Sliding, TimeWindowExpand};

/// Aggregates without a declared sensitivity to order whose partial states may be merged in any order all the same.
const ORDER_DOES_NOT_MATTER: [&str; 22] = [
    "approx_distinct",
    "approx_median",
    "approx_percentile_cont",
    "avg",
    "bit_and",
    "bit_or",
    "bit_xor",
    "bool_and",
    "bool_or",
    "corr",
    "count",
    "covar_pop",
    "covar_samp",
    "max",
    "median",
    "min",
    "stddev",
    "stddev_pop",
    "sum",
    "try_sum",
    "var",
    "var_pop",
];

/// The plan with panes wherever an aggregation can have them.
pub fn aggregate_by_panes(plan: LogicalPlan) -> Result<LogicalPlan> {
    let rewritten = plan.transform_up(|node| {
        let LogicalPlan::Extension(extension) = &node else { return Ok(Transformed::no(node)) };
        let Some(aggregate) = as_node::<StatefulAggregate>(extension.node.as_ref()) else {
            return Ok(Transformed::no(node));
        };
        Ok(match by_panes(aggregate)? {
            Some(aggregate) => Transformed::yes(aggregate),
            None => Transformed::no(node),
        })
    })?;
    Ok(rewritten.data)
}

fn by_panes(aggregate: &StatefulAggregate) -> Result<Option<LogicalPlan>> {
    if aggregate.window.is_some() || aggregate.sets.is_some() {
        return Ok(None);
    }
    for (key, expr) in aggregate.group_exprs.iter().enumerate() {
        let Expr::Column(column) = expr else { continue };
        let mut others = aggregate.group_exprs.iter().enumerate().filter(|(at, _)| *at != key).map(|(_, expr)| expr);
        if others.any(|other| mentions(other, column)) || aggregate.aggr_exprs.iter().any(|e| mentions(e, column)) {
            continue;
        }
        let Some((input, windows)) = with_panes(&aggregate.input, column)? else { continue };
        let overlap = windows.slide_us < windows.window_us;
        if overlap && !aggregate.aggr_exprs.iter().all(order_does_not_matter) {
            return Ok(None);
        }
        return Ok(Some(aggregate.by_panes(input, key, windows)));
    }
    Ok(None)
}

/// The plan with the start of a pane in place of the window in `column`, if it is one that nothing in between reads.
fn with_panes(plan: &LogicalPlan, column: &Column) -> Result<Option<(LogicalPlan, Sliding)>> {
    match plan {
        LogicalPlan::Projection(projection) => {
            let index = projection.schema.index_of_column(column)?;
            let inner = match projection.expr[index].clone().unalias() {
                Expr::Column(inner) => inner,
                _ => return tumbling(projection, index),
            };
            let mut others = projection.expr.iter().enumerate().filter(|(at, _)| *at != index).map(|(_, expr)| expr);
            if others.any(|other| mentions(other, &inner)) {
                return Ok(None);
            }
            let Some((input, windows)) = with_panes(&projection.input, &inner)? else { return Ok(None) };
            let rebuilt = Projection::try_new(projection.expr.clone(), Arc::new(input))?;
            Ok(Some((LogicalPlan::Projection(rebuilt), windows)))
        }
        LogicalPlan::Filter(filter) if !mentions(&filter.predicate, column) => {
            let Some((input, windows)) = with_panes(&filter.input, column)? else { return Ok(None) };
            let rebuilt = Filter::try_new(filter.predicate.clone(), Arc::new(input))?;
            Ok(Some((LogicalPlan::Filter(rebuilt), windows)))
        }
        LogicalPlan::SubqueryAlias(alias) => {
            let index = alias.schema.index_of_column(column)?;
            let inner = Column::from(alias.input.schema().qualified_field(index));
            let Some((input, windows)) = with_panes(&alias.input, &inner)? else { return Ok(None) };
            let rebuilt = SubqueryAlias::try_new(Arc::new(input), alias.alias.clone())?;
            Ok(Some((LogicalPlan::SubqueryAlias(rebuilt), windows)))
        }
        other => match TimeWindowExpand::of(other) {
            Some(expand) if expand.name == column.name && column.relation.is_none() => sliding(expand).map(Some),
            _ => Ok(None),
        },
    }
}

/// A projection that computes a tumbling window as its column `index`.
fn tumbling(projection: &Projection, index: usize) -> Result<Option<(LogicalPlan, Sliding)>> {
    let Some((TimeWindowKind::Tumbling { width_us, start_us }, time)) = time_window_source(&projection.expr[index])
    else {
        return Ok(None);
    };
    let (relation, field) = projection.schema.qualified_field(index);
    let pane = slice_start_udf().call(vec![time.clone(), lit(width_us), lit(start_us)]);
    let mut exprs = projection.expr.clone();
    exprs[index] = pane.alias_qualified(relation.cloned(), field.name());
    let rebuilt = Projection::try_new(exprs, Arc::clone(&projection.input))?;
    Ok(Some((LogicalPlan::Projection(rebuilt), Sliding { window_us: width_us, slide_us: width_us, start_us })))
}

fn sliding(expand: &TimeWindowExpand) -> Result<(LogicalPlan, Sliding)> {
    let Sliding { window_us, slide_us, start_us } = expand.sliding;
    let width_us = pane_width(window_us, slide_us);
    let pane = slice_start_udf().call(vec![expand.time.clone(), lit(width_us), lit(start_us)]);
    let mut exprs: Vec<Expr> = expand.input.schema().columns().into_iter().map(Expr::Column).collect();
    exprs.push(pane.alias(&expand.name));
    let rebuilt = Projection::try_new(exprs, Arc::clone(&expand.input))?;
    Ok((LogicalPlan::Projection(rebuilt), expand.sliding))
}

fn mentions(expr: &Expr, column: &Column) -> bool {
    expr.column_refs().contains(column)
}

fn order_does_not_matter(expr: &Expr) -> bool {
    let mut ok = true;
    let walked = expr.apply(|expr| {
        if let Expr::AggregateFunction(call) = expr {
            ok &= call.params.order_by.is_empty()
                && !call.params.distinct
                && (call.func.order_sensitivity().is_insensitive()
                    || ORDER_DOES_NOT_MATTER.contains(&call.func.name()));
        }
        Ok(TreeNodeRecursion::Continue)
    });
    ok && walked.is_ok()
}
