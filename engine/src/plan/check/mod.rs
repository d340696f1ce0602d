//! What cannot be streamed, found before anything runs, with Spark's error class and a sentence on what to do instead.
//!
//! The order of the checks is Spark's (`spec/05` section 1): output mode against the first streaming aggregation in
//! pre-order, then node by node from the bottom, then chains of operators that could lose late rows.
//!
//! ```text
//! mod.rs      output modes, nodes, chains      joins.rs  which joins, in which mode, with which watermarks
//! sets.rs     EXCEPT and INTERSECT, which DataFusion plans as joins
//! groups.rs   user functions over groups
//! ```
//! Every row of the matrix in `spec/05` section 2 is a test (`tests/matrix`). Absent: sinks (each says which modes it
//! takes) and what only shows in a checkpoint (`start`).

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Aggregate, Expr, Limit, LogicalPlan, SkipType};

use self::joins::check_join;
use self::sets::{SetOperation, set_operation, without_distinct};
use super::dedup::{Deduplicate, Memory};
use super::groups::KeyedFunction;
use super::nodes::as_node;
use super::relation::{has_streaming_subquery, is_streaming};
use super::watermark::{event_time_columns, mark_of};
use crate::conf::{Conf, JOIN_STATE_FORMAT};
use crate::error::{Error, Result};
use crate::functions::sample::{MONOTONICALLY_INCREASING_ID, SAMPLE_CALL};
use crate::functions::window::SESSION_WINDOW_KEY;
use crate::sink::OutputMode;

mod groups;
mod joins;
pub(super) mod sets;

/// Which checks are on.
#[derive(Clone, Copy, Debug)]
pub struct CheckSettings {
    /// `spark.sql.streaming.unsupportedOperationCheck`.
    pub unsupported_operations: bool,
    /// `spark.sql.streaming.statefulOperator.checkCorrectness.enabled`.
    pub correctness: bool,
    /// Whether joins are asked to keep their state in Spark's format 1 ([`JOIN_STATE_FORMAT`]).
    pub first_join_format: bool,
}

impl CheckSettings {
    /// As the session says.
    pub fn from_conf(conf: &Conf) -> Result<Self> {
        Ok(Self {
            unsupported_operations: conf.boolean("spark.sql.streaming.unsupportedOperationCheck")?,
            correctness: conf.boolean("spark.sql.streaming.statefulOperator.checkCorrectness.enabled")?,
            first_join_format: conf.get(JOIN_STATE_FORMAT) == Some("1"),
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
    if settings.first_join_format {
        joins::check_first_format(plan)?;
    }
    if !settings.unsupported_operations {
        return Ok(());
    }
    groups::check_number(plan, mode)?;
    check_output_mode(plan, mode)?;
    check_nodes(plan, mode, first_aggregation(plan).is_some())?;
    check_chains(plan, mode, settings)
}

/// Rule 3 of `spec/05` section 1.
fn check_output_mode(plan: &LogicalPlan, mode: OutputMode) -> Result<()> {
    let first = first_aggregation(plan);
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

/// The first streaming aggregation in pre-order. The DISTINCT that is a part of EXCEPT or INTERSECT is not looked at:
/// Spark puts it there only after its checks.
fn first_aggregation(plan: &LogicalPlan) -> Option<&LogicalPlan> {
    if is_streaming_aggregation(plan) {
        return Some(plan);
    }
    if let LogicalPlan::Join(join) = plan
        && set_operation(join).is_some()
    {
        return first_aggregation(without_distinct(&join.left)).or_else(|| first_aggregation(&join.right));
    }
    plan.inputs().into_iter().find_map(first_aggregation)
}

/// An aggregate over a stream; SQL's DISTINCT is one.
fn is_streaming_aggregation(plan: &LogicalPlan) -> bool {
    matches!(plan, LogicalPlan::Aggregate(_) | LogicalPlan::Distinct(_)) && is_streaming(plan)
}

fn has_event_time_key(aggregation: &LogicalPlan) -> bool {
    match aggregation {
        LogicalPlan::Aggregate(aggregate) => {
            let marks = event_time_columns(&aggregate.input);
            grouping_columns(aggregate).iter().any(|expr| mark_of(expr, &aggregate.input, &marks).is_some())
        }
        distinct => event_time_columns(distinct).iter().any(Option::is_some),
    }
}

fn groups_by_session(aggregation: &LogicalPlan) -> bool {
    let LogicalPlan::Aggregate(aggregate) = aggregation else { return false };
    let fields = aggregate.schema.fields();
    fields.iter().take(grouping_columns(aggregate).len()).any(|field| field.metadata().contains_key(SESSION_WINDOW_KEY))
}

/// What an aggregation groups by: the columns of all its grouping sets, each once.
pub(super) fn grouping_columns(aggregate: &Aggregate) -> Vec<&Expr> {
    match aggregate.group_expr.as_slice() {
        [Expr::GroupingSet(sets)] => sets.distinct_expr(),
        exprs => exprs.iter().collect(),
    }
}

fn check_nodes(plan: &LogicalPlan, mode: OutputMode, aggregates: bool) -> Result<()> {
    for input in plan.inputs() {
        check_nodes(input, mode, aggregates)?;
    }
    if !is_streaming(plan) {
        return Ok(());
    }
    check_expressions(plan)?;
    match plan {
        LogicalPlan::Aggregate(aggregate) => check_distinct_aggregates(&aggregate.aggr_expr),
        LogicalPlan::Join(join) => match set_operation(join) {
            Some(operation) => check_set_operation(operation, is_streaming(&join.right)),
            None => check_join(join, mode),
        },
        LogicalPlan::Limit(limit) => check_limit(limit, mode),
        LogicalPlan::Sort(sort) => {
            if mode == OutputMode::Complete && first_aggregation(&sort.input).is_some() {
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
        LogicalPlan::Extension(_) if KeyedFunction::of(plan).is_some() => {
            KeyedFunction::of(plan).map_or(Ok(()), |node| groups::check_function(node, mode, aggregates))
        }
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

/// Functions whose answer would be another one in each batch.
fn check_expressions(plan: &LogicalPlan) -> Result<()> {
    let (mut samples, mut numbers) = (false, false);
    plan.apply_expressions(|expr| {
        expr.apply(|expr| {
            if let Expr::ScalarFunction(call) = expr {
                samples |= call.name() == SAMPLE_CALL;
                numbers |= call.name() == MONOTONICALLY_INCREASING_ID;
            }
            Ok(TreeNodeRecursion::Continue)
        })
    })?;
    if samples {
        return Err(Error::analysis(
            "Sampling is not supported on streaming DataFrames/Datasets. Keep part of the rows with a condition, such as \
             WHERE rand() < 0.1.",
        ));
    }
    if numbers {
        return Err(Error::analysis(
            "Expression(s): monotonically_increasing_id() is not supported with streaming DataFrames/Datasets: it would \
             count from 0 again in every batch. Use uuid(), or number the rows when reading the result.",
        ));
    }
    Ok(())
}

/// The left side may be a stream where the right one is not.
fn check_set_operation(operation: SetOperation, right_is_streaming: bool) -> Result<()> {
    match operation {
        SetOperation::Except if !right_is_streaming => Ok(()),
        SetOperation::Except => Err(Error::analysis(
            "Except on a streaming DataFrame/Dataset on the right is not supported: a row that was put out could be \
             taken back by a later one. Use a static table on the right, or a left outer join of the two streams with \
             watermarks and keep the rows without a match.",
        )),
        SetOperation::Intersect => Err(Error::analysis(
            "Intersect of streaming DataFrames/Datasets is not supported. Use LEFT SEMI JOIN, with a static table or \
             with a stream and watermarks on both.",
        )),
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
         withWatermark(column, delay) before it, or use dropDuplicates, which remembers for ever.",
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
                 approx_count_distinct() instead. Where the count must be exact, drop duplicates first (dropDuplicates \
                 with a watermark) and count the rows.",
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

/// Rule 5 of `spec/05` section 1: what an aggregation emits early may be late for the next stateful operator.
fn check_chains(plan: &LogicalPlan, mode: OutputMode, settings: &CheckSettings) -> Result<()> {
    if !settings.correctness {
        return Ok(());
    }
    if !may_lose_rows(plan, mode) {
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

fn may_lose_rows(plan: &LogicalPlan, mode: OutputMode) -> bool {
    let stateful = match plan {
        LogicalPlan::Join(join) if set_operation(join).is_some() => {
            return may_lose_rows(without_distinct(&join.left), mode) || may_lose_rows(&join.right, mode);
        }
        LogicalPlan::Join(join) => is_streaming(&join.left) && is_streaming(&join.right),
        LogicalPlan::Extension(_) => {
            groups::is_stateful(plan) || as_deduplicate(plan).is_some_and(forgets_by_watermark)
        }
        other => is_streaming_aggregation(other),
    };
    let inputs = plan.inputs();
    let emits_late = |input: &LogicalPlan| {
        (mode != OutputMode::Append && first_aggregation(input).is_some()) || groups::emits_late(input)
    };
    (stateful && inputs.iter().any(|input| emits_late(input)))
        || inputs.into_iter().any(|input| may_lose_rows(input, mode))
}
