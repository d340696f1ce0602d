//! Which joins with streams there are: by type, by side, by output mode, and with which watermarks (`spec/05`, keys J1 to
//! J5; what the watermarks are for: `spec/04` section 3).

use datafusion::logical_expr::{Join, JoinType, LogicalPlan};

use crate::error::{Error, Result};
use crate::plan::join_bounds::{Side, event_time_key, range};
use crate::plan::join_condition::{JoinCondition, conjuncts};
use crate::plan::relation::is_streaming;
use crate::plan::watermark::event_time_columns;
use crate::sink::OutputMode;

const LEFT_ANTI: &str = "LeftAnti joins with a streaming DataFrame/Dataset on the right are not supported";

/// Refuses a join of which one side at least is a stream.
pub(super) fn check_join(join: &Join, mode: OutputMode) -> Result<()> {
    let refuse = |what: String| Err(Error::analysis(what));
    match (is_streaming(&join.left), is_streaming(&join.right)) {
        (true, true) => check_stream_stream_join(join, mode),
        (true, false) => match join.join_type {
            JoinType::Inner | JoinType::Left | JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark => Ok(()),
            JoinType::Full => refuse(
                "FullOuter joins with streaming DataFrames/Datasets on the left and a static DataFrame/Dataset on the \
                 right is not supported: whether a static row has no match is never known. Use a left outer join."
                    .into(),
            ),
            other => refuse(format!(
                "{} with a streaming DataFrame/Dataset on the left and a static DataFrame/DataSet on the right not \
                 supported: whether a static row has no match is never known. Use an inner or left outer join.",
                join_name(other)
            )),
        },
        (false, _) => match join.join_type {
            JoinType::Inner | JoinType::Right => Ok(()),
            JoinType::LeftAnti | JoinType::LeftMark => refuse(format!(
                "{LEFT_ANTI}: whether a static row has no match is never known. Put the stream on the left."
            )),
            JoinType::Full => refuse(
                "FullOuter joins with streaming DataFrames/Datasets on the right and a static DataFrame/Dataset on the \
                 left is not supported: whether a static row has no match is never known. Use a right outer join."
                    .into(),
            ),
            other => refuse(format!(
                "{} with a streaming DataFrame/Dataset on the right and a static DataFrame/Dataset on the left is not \
                 supported. Put the stream on the left, or use an inner or right outer join.",
                join_name(other)
            )),
        },
    }
}

/// In Spark's first format of join state only inner joins are right; Spark finds out in the query's first batch.
pub(super) fn check_first_format(plan: &LogicalPlan) -> Result<()> {
    if let LogicalPlan::Join(join) = plan
        && join.join_type != JoinType::Inner
        && is_streaming(&join.left)
        && is_streaming(&join.right)
    {
        return Err(Error::analysis_class(
            "STREAM_FAILED",
            format!(
                "The query is using stream-stream {} with state format version 1 - correctness issue is discovered. Leave \
                 spark.sql.streaming.join.stateFormatVersion as it is. See SPARK-26154 for more details.",
                join_name(join.join_type)
            ),
        ));
    }
    plan.inputs().into_iter().try_for_each(check_first_format)
}

fn check_stream_stream_join(join: &Join, mode: OutputMode) -> Result<()> {
    let outer = matches!(join.join_type, JoinType::Left | JoinType::Right | JoinType::Full);
    if matches!(join.join_type, JoinType::LeftAnti | JoinType::RightAnti) {
        return Err(Error::analysis(format!(
            "{LEFT_ANTI}. Use a left outer join with watermarks on both inputs and keep the rows without a match."
        )));
    }
    let allowed = match mode {
        OutputMode::Append => true,
        OutputMode::Update => !outer,
        OutputMode::Complete => false,
    };
    if !allowed {
        let only = if outer { "only in Append output mode" } else { "only in Append and Update output modes" };
        let mode = if mode == OutputMode::Update { "Update" } else { "Complete" };
        return Err(Error::analysis(format!(
            "{} between two streaming DataFrames/Datasets is not supported in {mode} output mode, {only}. Write the \
             query in append mode.",
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
        JoinType::Full => "FullOuter join",
        JoinType::LeftSemi | JoinType::RightSemi => "LeftSemi join",
        JoinType::LeftAnti | JoinType::RightAnti => "LeftAnti join",
        JoinType::LeftMark | JoinType::RightMark => "Existence join",
    }
}
