//! The check of unsupported operations: what Spark refuses before a query starts (spec/05).

use super::OutputMode;
use super::expr::Column;
use super::plan::{JoinKind, Plan};
use super::refusal::Refusal;
use super::resolve::Notes;
use super::watermark::{equal_pairs, range_bounds};

/// Refuses what Spark refuses, in Spark's order.
pub fn check(plan: &Plan, mode: OutputMode, notes: &Notes) -> Result<(), Refusal> {
    if !plan.is_streaming() {
        return Err(Refusal::start(
            "WRITE_STREAM_NOT_ALLOWED",
            "[WRITE_STREAM_NOT_ALLOWED] `writeStream` can be called only on streaming",
        ));
    }
    check_output_mode(plan, mode)?;
    check_node(plan, mode, notes)?;
    check_correctness(plan, mode)
}

fn is_aggregation(plan: &Plan) -> bool {
    matches!(plan, Plan::Aggregate { .. }) && plan.is_streaming()
}

fn has_aggregation(plan: &Plan) -> bool {
    plan.nodes().into_iter().any(is_aggregation)
}

fn mode_error(mode: OutputMode, what: &str) -> Refusal {
    let class = "STREAMING_OUTPUT_MODE.UNSUPPORTED_OPERATION";
    Refusal::start(
        class,
        format!(
            "[{class}] Invalid streaming output mode: {mode}. This output mode is not supported for {what} on streaming DataFrames/DataSets. SQLSTATE: 42KDE"
        ),
    )
}

/// The output mode against the aggregation nearest to the sink.
fn check_output_mode(plan: &Plan, mode: OutputMode) -> Result<(), Refusal> {
    let first = plan.nodes().into_iter().find(|n| is_aggregation(n));
    match (mode, first) {
        (OutputMode::Append, Some(Plan::Aggregate { keys, .. })) if keys.iter().all(|k| k.delay_ms.is_none()) => {
            Err(mode_error(mode, "streaming aggregations without watermark"))
        }
        (OutputMode::Update, Some(Plan::Aggregate { session: Some(_), .. })) => {
            Err(mode_error(mode, "session window streaming aggregations"))
        }
        (OutputMode::Complete, None) => Err(mode_error(mode, "no streaming aggregations")),
        _ => Ok(()),
    }
}

fn check_node(plan: &Plan, mode: OutputMode, notes: &Notes) -> Result<(), Refusal> {
    for input in plan.inputs() {
        check_node(input, mode, notes)?;
    }
    let refuse = |text: &str| Err(Refusal::text(format!("{text};")));
    match plan {
        Plan::Aggregate { calls, .. } if plan.is_streaming() && calls.iter().any(|(_, c)| c.distinct) => refuse(
            "Distinct aggregations are not supported on streaming DataFrames/Datasets. Consider using approx_count_distinct() instead.",
        ),
        Plan::Dedup { within: true, input, .. } if plan.is_streaming() && !has_mark(&input.columns()) => {
            refuse("dropDuplicatesWithinWatermark is not supported on streaming DataFrames/DataSets without watermark")
        }
        Plan::Join { left, right, kind, .. } => check_join(plan, left, right, *kind, mode),
        Plan::Limit { .. } if plan.is_streaming() && mode == OutputMode::Update => {
            refuse("Limits are not supported on streaming DataFrames/Datasets in Update output mode")
        }
        Plan::Offset { .. } if plan.is_streaming() => {
            refuse("Offset is not supported on streaming DataFrames/Datasets")
        }
        Plan::Sort { input, .. }
            if plan.is_streaming() && !(mode == OutputMode::Complete && has_aggregation(input)) =>
        {
            refuse(
                "Sorting is not supported on streaming DataFrames/Datasets, unless it is on aggregated DataFrame/Dataset in Complete output mode",
            )
        }
        Plan::Union { inputs, .. } if plan.is_streaming() && !inputs.iter().all(Plan::is_streaming) => {
            refuse("Union between streaming and batch DataFrames/Datasets is not supported")
        }
        Plan::Project { .. } if plan.is_streaming() && notes.window_function.is_some() => Err(Refusal::start(
            "NON_TIME_WINDOW_NOT_SUPPORTED_IN_STREAMING",
            format!(
                "[NON_TIME_WINDOW_NOT_SUPPORTED_IN_STREAMING] Window function is not supported in {}()",
                notes.window_function.as_deref().unwrap_or_default()
            ),
        )),
        Plan::Project { .. } if plan.is_streaming() && notes.increasing_id => {
            refuse("Expression(s): monotonically_increasing_id() is not supported with streaming DataFrames/Datasets")
        }
        _ => Ok(()),
    }
}

fn has_mark(columns: &[Column]) -> bool {
    columns.iter().any(|c| c.delay_ms.is_some())
}

fn check_join(plan: &Plan, left: &Plan, right: &Plan, kind: JoinKind, mode: OutputMode) -> Result<(), Refusal> {
    let name = kind.name();
    let refuse = |text: String| Err(Refusal::text(format!("{text};")));
    match (left.is_streaming(), right.is_streaming()) {
        (false, false) => Ok(()),
        (true, true) => check_stream_stream(plan, kind, mode),
        (true, false) => match kind {
            JoinKind::FullOuter => refuse(
                "FullOuter joins with streaming DataFrames/Datasets on the left and a static DataFrame/Dataset on the right is not supported".into(),
            ),
            JoinKind::RightOuter => refuse(
                "RightOuter join with a streaming DataFrame/Dataset on the left and a static DataFrame/DataSet on the right not supported".into(),
            ),
            _ => Ok(()),
        },
        (false, true) => match kind {
            JoinKind::FullOuter => refuse(
                "FullOuter joins with streaming DataFrames/Datasets on the right and a static DataFrame/Dataset on the left is not supported".into(),
            ),
            JoinKind::LeftAnti => {
                refuse("LeftAnti joins with a streaming DataFrame/Dataset on the right are not supported".into())
            }
            JoinKind::LeftOuter | JoinKind::LeftSemi => refuse(format!(
                "{name} join with a streaming DataFrame/Dataset on the right and a static DataFrame/Dataset on the left is not supported"
            )),
            JoinKind::Inner | JoinKind::RightOuter => Ok(()),
        },
    }
}

fn check_stream_stream(plan: &Plan, kind: JoinKind, mode: OutputMode) -> Result<(), Refusal> {
    let Plan::Join { left, right, condition, .. } = plan else { return Ok(()) };
    let name = kind.name();
    if kind == JoinKind::LeftAnti {
        return Err(Refusal::text("LeftAnti joins with a streaming DataFrame/Dataset on the right are not supported;"));
    }
    let free = matches!(kind, JoinKind::Inner | JoinKind::LeftSemi);
    let mode_text = match mode {
        OutputMode::Append => None,
        OutputMode::Update if free => None,
        OutputMode::Update => Some("Update"),
        OutputMode::Complete => Some("Complete"),
    };
    if let Some(mode) = mode_text {
        let allowed = if free { "only in Append and Update output modes" } else { "only in Append output mode" };
        return Err(Refusal::text(format!(
            "{name} join between two streaming DataFrames/Datasets is not supported in {mode} output mode, {allowed};"
        )));
    }
    let (l, r) = (left.columns(), right.columns());
    let key_marked = equal_pairs(&l, &r, condition.as_ref()).iter().any(|(a, b)| {
        super::plan::mark_of(a, &l).is_some() && matches!(a, super::expr::Expr::Column(..))
            || super::plan::mark_of(b, &r).is_some() && matches!(b, super::expr::Expr::Column(..))
    });
    let left_bounded = !range_bounds(&l, &r, condition.as_ref()).is_empty();
    let right_bounded = !range_bounds(&r, &l, condition.as_ref()).is_empty();
    let valid = key_marked
        || match kind {
            JoinKind::Inner | JoinKind::LeftAnti => true,
            JoinKind::LeftOuter | JoinKind::LeftSemi => left_bounded,
            JoinKind::RightOuter => right_bounded,
            JoinKind::FullOuter => left_bounded || right_bounded,
        };
    if valid {
        return Ok(());
    }
    Err(Refusal::text(format!(
        "Stream-stream {name} join between two streaming DataFrame/Datasets is not supported without a watermark in the join keys, or a watermark on the nullable side and an appropriate range condition;"
    )))
}

/// A stateful operator above an aggregation sees rows that the global watermark calls late, unless the mode is append.
fn check_correctness(plan: &Plan, mode: OutputMode) -> Result<(), Refusal> {
    if mode == OutputMode::Append {
        return Ok(());
    }
    let counts = |node: &Plan| match node {
        Plan::Dedup { input, keys, within, .. } => {
            *within || input.columns().iter().any(|c| c.delay_ms.is_some() && keys.contains(&c.id))
        }
        Plan::Limit { .. } => false,
        other => other.state_operator().is_some(),
    };
    for node in plan.nodes() {
        if counts(node) && node.inputs().into_iter().any(has_aggregation) {
            return Err(Refusal::text(
                "Detected pattern of possible 'correctness' issue due to global watermark. The query contains stateful operation which can emit rows older than the current watermark plus allowed late record delay, which are \"late rows\" in downstream stateful operations and these rows can be discarded.",
            ));
        }
    }
    Ok(())
}
