//! What cannot be streamed, found before anything runs, with Spark's error class and a sentence on what to do instead.
//!
//! The order of the checks is Spark's (`spec/05` section 1): output mode against the first streaming aggregation in
//! pre-order, then node by node from the bottom, then chains of operators that could lose late rows.

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Expr, Join, JoinType, Limit, LogicalPlan, SkipType};

use super::dedup::{Deduplicate, Memory};
use super::join_bounds::{Side, event_time_key, range};
use super::join_condition::{JoinCondition, conjuncts};
use super::nodes::as_node;
use super::relation::{has_streaming_subquery, is_streaming};
use super::watermark::{event_time_columns, mark_of};
use crate::conf::Conf;
use crate::error::{Error, Result};
use crate::functions::window::SESSION_WINDOW_KEY;
use crate::sink::OutputMode;

/// Which checks are on.
#[derive(Clone, Copy, Debug)]
pub struct CheckSettings {
    /// `spark.sql.streaming.unsupportedOperationCheck`.
    pub unsupported_operations: bool,
    /// `spark.sql.streaming.statefulOperator.checkCorrectness.enabled`.
    pub correctness: bool,
}

impl CheckSettings {
    /// As the session says.
    pub fn from_conf(conf: &Conf) -> Result<Self> {
        Ok(Self {
            unsupported_operations: conf.boolean("spark.sql.streaming.unsupportedOperationCheck")?,
            correctness: conf.boolean("spark.sql.streaming.statefulOperator.checkCorrectness.enabled")?,
        })
    }
}

/// Refuses an analysed plan that cannot be streamed in this output mode.
pub fn check_streaming(plan: &LogicalPlan, mode: OutputMode, settings: &CheckSettings) -> Result<()> {
    if has_streaming_subquery(plan)? {
        return Err(Error::analysis_class(
            "INVALID_SUBQUERY_EXPRESSION.STREAMING_QUERY",
            "Invalid subquery: Streaming query is not allowed in subquery expressions. Join with the stream instead.",
        ));
    }
    if !settings.unsupported_operations {
        return Ok(());
    }
    check_output_mode(plan, mode)?;
    check_nodes(plan, mode)?;
    check_chains(plan, mode, settings)
}

/// Rule 3 of `spec/05` section 1.
fn check_output_mode(plan: &LogicalPlan, mode: OutputMode) -> Result<()> {
    let first = first_in_pre_order(plan, is_streaming_aggregation);
    let refused = |what: &str, instead: &str| {
        Err(Error::analysis_class(
            "STREAMING_OUTPUT_MODE.UNSUPPORTED_OPERATION",
            format!(
                "Invalid streaming output mode: {mode}. This output mode is not supported for {what} on streaming \
                 DataFrames/DataSets. {instead}"
            ),
        ))
    };
    match (mode, first) {
        (OutputMode::Complete, None) => refused("no streaming aggregations", "Use append or update mode."),
        (OutputMode::Append, Some(aggregation)) if !has_event_time_key(aggregation) => refused(
            "streaming aggregations without watermark",
            "Group by an event-time column or window that has a watermark (withWatermark, or WATERMARK .. DELAY OF), or use update or \
             complete mode.",
        ),
        (OutputMode::Update, Some(aggregation)) if groups_by_session(aggregation) => {
            refused("session window streaming aggregations", "Use append or complete mode.")
        }
        _ => Ok(()),
    }
}

fn first_in_pre_order(plan: &LogicalPlan, wanted: fn(&LogicalPlan) -> bool) -> Option<&LogicalPlan> {
    if wanted(plan) {
        return Some(plan);
    }
    plan.inputs().into_iter().find_map(|input| first_in_pre_order(input, wanted))
}

/// An aggregate over a stream; SQL's DISTINCT is one.
fn is_streaming_aggregation(plan: &LogicalPlan) -> bool {
    matches!(plan, LogicalPlan::Aggregate(_) | LogicalPlan::Distinct(_)) && is_streaming(plan)
}

fn has_event_time_key(aggregation: &LogicalPlan) -> bool {
    match aggregation {
        LogicalPlan::Aggregate(aggregate) => {
            let marks = event_time_columns(&aggregate.input);
            aggregate.group_expr.iter().any(|expr| mark_of(expr, &aggregate.input, &marks).is_some())
        }
        distinct => event_time_columns(distinct).iter().any(Option::is_some),
    }
}

fn groups_by_session(aggregation: &LogicalPlan) -> bool {
    let LogicalPlan::Aggregate(aggregate) = aggregation else { return false };
    let fields = aggregate.schema.fields();
    fields.iter().take(aggregate.group_expr.len()).any(|field| field.metadata().contains_key(SESSION_WINDOW_KEY))
}

fn check_nodes(plan: &LogicalPlan, mode: OutputMode) -> Result<()> {
    for input in plan.inputs() {
        check_nodes(input, mode)?;
    }
    if !is_streaming(plan) {
        return Ok(());
    }
    match plan {
        LogicalPlan::Aggregate(aggregate) => check_distinct_aggregates(&aggregate.aggr_expr),
        LogicalPlan::Join(join) => check_join(join, mode),
        LogicalPlan::Limit(limit) => check_limit(limit, mode),
        LogicalPlan::Sort(sort) => {
            if mode == OutputMode::Complete && first_in_pre_order(&sort.input, is_streaming_aggregation).is_some() {
                return Ok(());
            }
            Err(Error::analysis(
                "Sorting is not supported on streaming DataFrames/Datasets, unless it is on aggregated \
                 DataFrame/Dataset in Complete output mode. Sort when reading the result instead.",
            ))
        }
        LogicalPlan::Window(window) => Err(Error::analysis_class(
            "NON_TIME_WINDOW_NOT_SUPPORTED_IN_STREAMING",
            format!(
                "Window function is not supported in {} on streaming DataFrames/Datasets. Structured Streaming only supports \
                 time windows: group by window(..).",
                window.window_expr.iter().map(|expr| expr.schema_name().to_string()).collect::<Vec<_>>().join(", ")
            ),
        )),
        LogicalPlan::Extension(_) => as_deduplicate(plan).map_or(Ok(()), check_deduplicate),
        LogicalPlan::Union(union) => {
            if union.inputs.iter().all(|input| is_streaming(input)) {
                return Ok(());
            }
            Err(Error::analysis(
                "Union between streaming and batch DataFrames/Datasets is not supported. Read the static side as a \
                 stream, too.",
            ))
        }
        _ => Ok(()),
    }
}

fn as_deduplicate(plan: &LogicalPlan) -> Option<&Deduplicate> {
    let LogicalPlan::Extension(extension) = plan else { return None };
    as_node(extension.node.as_ref())
}

fn check_deduplicate(deduplicate: &Deduplicate) -> Result<()> {
    if deduplicate.memory() == Memory::OfKey || event_time_columns(deduplicate.input()).iter().any(Option::is_some) {
        return Ok(());
    }
    Err(Error::analysis(
        "dropDuplicatesWithinWatermark is not supported on streaming DataFrames/DataSets without watermark. Call \
         withWatermark first.",
    ))
}

/// A deduplication without event time in its key never takes a row for late because of what came before.
fn forgets_by_watermark(deduplicate: &Deduplicate) -> bool {
    let marks = event_time_columns(deduplicate.input());
    let schema = deduplicate.input().schema();
    let is_marked = |key| schema.index_of_column(key).is_ok_and(|index| marks[index].is_some());
    deduplicate.memory() != Memory::OfKey || deduplicate.keys().iter().any(is_marked)
}

fn check_distinct_aggregates(exprs: &[Expr]) -> Result<()> {
    for expr in exprs {
        let is_distinct =
            expr.exists(|expr| Ok(matches!(expr, Expr::AggregateFunction(call) if call.params.distinct)))?;
        if is_distinct {
            return Err(Error::analysis(
                "Distinct aggregations are not supported on streaming DataFrames/Datasets. Consider using \
                 approx_count_distinct() instead.",
            ));
        }
    }
    Ok(())
}

fn check_limit(limit: &Limit, mode: OutputMode) -> Result<()> {
    if !matches!(limit.get_skip_type()?, SkipType::Literal(0)) {
        return Err(Error::analysis(
            "Offset is not supported on streaming DataFrames/Datasets. Skip rows when reading the result instead.",
        ));
    }
    if mode == OutputMode::Update {
        return Err(Error::analysis(
            "Limits are not supported on streaming DataFrames/Datasets in Update output mode. Use append mode, or \
             complete mode after an aggregation.",
        ));
    }
    Ok(())
}

fn check_join(join: &Join, mode: OutputMode) -> Result<()> {
    let refuse = |what: String| Err(Error::analysis(what));
    match (is_streaming(&join.left), is_streaming(&join.right)) {
        (true, true) => check_stream_stream_join(join, mode),
        (true, false) => match join.join_type {
            JoinType::Inner | JoinType::Left | JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark => Ok(()),
            other => refuse(format!(
                "{} with streaming DataFrames/Datasets on the left and a static DataFrame/Dataset on the right is not \
                 supported. Use an inner or left outer join.",
                join_name(other)
            )),
        },
        (false, _) => match join.join_type {
            JoinType::Inner | JoinType::Right => Ok(()),
            other => refuse(format!(
                "{} with a streaming DataFrame/Dataset on the right and a static DataFrame/Dataset on the left is not \
                 supported. Put the stream on the left, or use an inner or right outer join.",
                join_name(other)
            )),
        },
    }
}

fn check_stream_stream_join(join: &Join, mode: OutputMode) -> Result<()> {
    let outer = matches!(join.join_type, JoinType::Left | JoinType::Right | JoinType::Full);
    if matches!(join.join_type, JoinType::LeftAnti | JoinType::RightAnti) {
        return Err(Error::analysis(
            "LeftAnti joins with a streaming DataFrame/Dataset on the right are not supported. Use a left outer join \
             and keep the rows without a match.",
        ));
    }
    let allowed = match mode {
        OutputMode::Append => true,
        OutputMode::Update => !outer,
        OutputMode::Complete => false,
    };
    if !allowed {
        let only = if outer { "only in Append output mode" } else { "only in Append and Update output modes" };
        return Err(Error::analysis(format!(
            "{} between two streaming DataFrames/Datasets is not supported in {mode} output mode, {only}.",
            join_name(join.join_type)
        )));
    }
    check_watermarks_of_join(join)
}

/// A row of an outer side comes out without a match, and one of a semi join is forgotten, only if the watermark can tell
/// that no match will come.
fn check_watermarks_of_join(join: &Join) -> Result<()> {
    let (left_marks, right_marks) = (event_time_columns(&join.left), event_time_columns(&join.right));
    let left = Side { schema: join.left.schema(), marks: &left_marks };
    let right = Side { schema: join.right.schema(), marks: &right_marks };
    let condition = JoinCondition::of(join);
    // A range counts also where the bounded side has no event time: Spark accepts that (and never emits its rows).
    let bounded = |this: Side, other: Side| {
        join.filter.iter().flat_map(conjuncts).any(|conjunct| range(&conjunct, this, other).is_some())
    };
    let can_tell = match join.join_type {
        JoinType::Left | JoinType::LeftSemi => bounded(left, right),
        JoinType::Right => bounded(right, left),
        JoinType::Full => bounded(left, right) || bounded(right, left),
        _ => true,
    };
    if can_tell || event_time_key(&condition.keys, left, right).is_some() {
        return Ok(());
    }
    let kind = match join.join_type {
        JoinType::LeftSemi => "LeftSemi",
        JoinType::Right => "RightOuter",
        JoinType::Full => "FullOuter",
        _ => "LeftOuter",
    };
    Err(Error::analysis(format!(
        "Stream-stream {kind} join between two streaming DataFrame/Datasets is not supported without a watermark in the \
         join keys, or a watermark on the nullable side and an appropriate range condition. Call withWatermark on both \
         inputs and add a condition such as right.time BETWEEN left.time AND left.time + INTERVAL 1 HOUR."
    )))
}

fn join_name(join_type: JoinType) -> &'static str {
    match join_type {
        JoinType::Inner => "Inner join",
        JoinType::Left => "LeftOuter join",
        JoinType::Right => "RightOuter join",
        JoinType::Full => "FullOuter joins",
        JoinType::LeftSemi | JoinType::RightSemi => "LeftSemi join",
        JoinType::LeftAnti | JoinType::RightAnti => "LeftAnti join",
        JoinType::LeftMark | JoinType::RightMark => "Existence join",
    }
}

/// Rule 5 of `spec/05` section 1: what an aggregation emits early may be late for the next stateful operator.
fn check_chains(plan: &LogicalPlan, mode: OutputMode, settings: &CheckSettings) -> Result<()> {
    if mode == OutputMode::Append || !settings.correctness {
        return Ok(());
    }
    let mut refused = false;
    plan.apply(|node| {
        let stateful = match node {
            LogicalPlan::Join(join) => is_streaming(&join.left) && is_streaming(&join.right),
            LogicalPlan::Extension(_) => as_deduplicate(node).is_some_and(forgets_by_watermark),
            other => is_streaming_aggregation(other),
        };
        refused |= stateful
            && node.inputs().into_iter().any(|input| first_in_pre_order(input, is_streaming_aggregation).is_some());
        Ok(if refused { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    if !refused {
        return Ok(());
    }
    Err(Error::analysis(
        "Detected pattern of possible 'correctness' issue due to global watermark. The query contains stateful \
         operation which can emit rows older than the current watermark plus allowed late record delay, which are \
         \"late rows\" in downstream stateful operations and these rows can be discarded. Use append mode. If you \
         understand the risk and still need to run the query, you can disable this check by setting the config \
         `spark.sql.streaming.statefulOperator.checkCorrectness.enabled` to false.",
    ))
}
