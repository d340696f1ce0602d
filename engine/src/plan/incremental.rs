//! Replaces what must remember, above a streaming leaf, by nodes that do.
//!
//! Works on the analysed plan, bottom-up, before the optimizer: an aggregate (or DISTINCT) whose input is a stream
//! becomes a [`StatefulAggregate`], a join of two streams a [`StreamJoin`], a LIMIT a [`StreamLimit`].
//! Everything without a streaming leaf below it stays as it is and is computed anew in each
//! batch. What is not allowed was refused by `plan::check` before; what this release cannot run yet is refused here,
//! with the class [`NOT_YET`].

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result as PlanResult;
use datafusion::logical_expr::{Aggregate, Distinct, Expr, FetchType, Limit, LogicalPlan, SkipType};

use super::dedup::Deduplicate;
use super::join::StreamJoin;
use super::limit::StreamLimit;
use super::nodes::{StatefulAggregate, as_node};
use super::relation::is_streaming;
use super::watermark::{event_time_columns, mark_of};
use crate::error::{Error, Result};
use crate::functions::session_assign::session_key;
use crate::sink::OutputMode;

/// The class of errors that say: Structured Streaming has this, Wavetank does not yet.
pub const NOT_YET: &str = "WAVETANK_NOT_SUPPORTED_YET";

/// The plan with its stateful nodes.
pub fn incremental(plan: LogicalPlan, mode: OutputMode) -> Result<LogicalPlan> {
    let plan = plan.transform_up(|node| remember(node, mode))?;
    Ok(plan.data)
}

fn remember(node: LogicalPlan, mode: OutputMode) -> PlanResult<Transformed<LogicalPlan>> {
    if !node.inputs().iter().any(|input| is_streaming(input)) {
        return Ok(Transformed::no(node));
    }
    match node {
        LogicalPlan::Aggregate(aggregate) => {
            let marks = event_time_columns(&aggregate.input);
            let event_time_key =
                aggregate.group_expr.iter().position(|expr| mark_of(expr, &aggregate.input, &marks).is_some());
            if aggregate.group_expr.iter().any(|e| matches!(e, Expr::GroupingSet(_))) {
                return Err(not_yet("GROUPING SETS, ROLLUP and CUBE on a stream"));
            }
            if aggregate.group_expr.len() == 1 && session_key(&aggregate.schema.fields()[..1]).is_some() {
                return Err(only_session());
            }
            Ok(Transformed::yes(StatefulAggregate::plan(
                Arc::clone(&aggregate.input),
                aggregate.group_expr,
                aggregate.aggr_expr,
                event_time_key,
                mode,
                aggregate.schema,
            )))
        }
        LogicalPlan::Join(join) if is_streaming(&join.left) && is_streaming(&join.right) => {
            Ok(Transformed::yes(StreamJoin::plan(join)?))
        }
        LogicalPlan::Distinct(Distinct::All(input)) => distinct(input, mode),
        LogicalPlan::Distinct(Distinct::On(_)) => Err(not_yet("DISTINCT ON on a stream")),
        LogicalPlan::Limit(limit) => remember_limit(limit, mode),
        LogicalPlan::Extension(extension) => match as_node::<Deduplicate>(extension.node.as_ref()) {
            Some(deduplicate) => Ok(Transformed::yes(deduplicate.narrowable()?)),
            None => Ok(Transformed::no(LogicalPlan::Extension(extension))),
        },
        other => Ok(Transformed::no(other)),
    }
}

/// SQL's DISTINCT is an aggregation without aggregate functions (`spec/04` section 1).
fn distinct(input: Arc<LogicalPlan>, mode: OutputMode) -> PlanResult<Transformed<LogicalPlan>> {
    let columns = input.schema().columns().into_iter().map(Expr::Column).collect();
    remember(LogicalPlan::Aggregate(Aggregate::try_new(input, columns, vec![])?), mode)
}

fn remember_limit(limit: Limit, mode: OutputMode) -> PlanResult<Transformed<LogicalPlan>> {
    // The check refuses OFFSET; with the check off it is DataFusion's, batch by batch.
    let without_offset = matches!(limit.get_skip_type()?, SkipType::Literal(0));
    match limit.get_fetch_type()? {
        FetchType::Literal(Some(rows)) if rows > 0 && without_offset => {
            match StreamLimit::plan(&limit.input, rows, mode)? {
                Some(stateful) => Ok(Transformed::yes(stateful)),
                None => Ok(Transformed::no(LogicalPlan::Limit(limit))),
            }
        }
        // Nothing at all, or everything.
        _ => Ok(Transformed::no(LogicalPlan::Limit(limit))),
    }
}

/// Spark finds this out when it plans the first batch, and fails the query; here it fails before anything is written.
fn only_session() -> datafusion::error::DataFusionError {
    Error::analysis_class(
        "STREAM_FAILED",
        "Global aggregation with session window in streaming query is not supported. Group by at least one more \
         column.",
    )
    .into()
}

fn not_yet(what: &str) -> datafusion::error::DataFusionError {
    Error::analysis_class(
        NOT_YET,
        format!("{what} is part of Structured Streaming but not supported by this version of Wavetank."),
    )
    .into()
}
