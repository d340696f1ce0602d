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

use super::check::grouping_columns;
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
            let keys = grouping_columns(&aggregate);
            let event_time_key = keys.iter().position(|expr| mark_of(expr, &aggregate.input, &marks).is_some());
            if session_key(&aggregate.schema.fields()[..keys.len()]).is_some() {
                check_session(&aggregate, keys.len())?;
            }
            if mode == OutputMode::Append && event_time_key.is_none() {
                return Err(no_eviction());
            }
            Ok(Transformed::yes(StatefulAggregate::plan(aggregate, event_time_key, mode)))
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

/// What `plan::check` refuses unless it is switched off, or the aggregation is the DISTINCT of an EXCEPT, which Spark does
/// not look at: it fails in the first batch.
fn no_eviction() -> datafusion::error::DataFusionError {
    Error::analysis_class(
        "STREAM_FAILED",
        "Watermark needs to be defined for streaming aggregation query in append mode: without one no group is ever \
         complete, so no row would ever come out. (EXCEPT counts as an aggregation by all columns.) Call withWatermark on a \
         column that is grouped by, or use update mode.",
    )
    .into()
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

/// Spark finds out when it plans the first batch that a session is all there is to group by, and fails the query; here it
/// fails before anything is written.
fn check_session(aggregate: &Aggregate, keys: usize) -> PlanResult<()> {
    if matches!(aggregate.group_expr.as_slice(), [Expr::GroupingSet(_)]) {
        return Err(not_yet("A session window in GROUPING SETS, ROLLUP or CUBE on a stream"));
    }
    if keys > 1 {
        return Ok(());
    }
    let only_session = Error::analysis_class(
        "STREAM_FAILED",
        "Global aggregation with session window in streaming query is not supported. Group by at least one more \
         column.",
    );
    Err(only_session.into())
}

fn not_yet(what: &str) -> datafusion::error::DataFusionError {
    Error::analysis_class(
        NOT_YET,
        format!("{what} is part of Structured Streaming but not supported by this version of Wavetank."),
    )
    .into()
}
