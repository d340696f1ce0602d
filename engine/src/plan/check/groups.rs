//! What cannot be streamed of user functions over groups (`spec/05` sections 1 and 2).

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::LogicalPlan;

use crate::error::{Error, Result};
use crate::groups::{GroupStateTimeout, StateFunction};
use crate::plan::groups::{KeyedFunction, KeyedKind, has_event_time};
use crate::plan::relation::is_streaming;
use crate::sink::OutputMode;

/// The functions with group state over streams, from the top.
fn functions(plan: &LogicalPlan) -> Result<Vec<(&KeyedFunction, &StateFunction)>> {
    let mut found = vec![];
    plan.apply(|node| {
        if let Some(keyed) = KeyedFunction::of(node).filter(|keyed| keyed.is_stateful())
            && let KeyedKind::State(function) = keyed.kind()
        {
            found.push((keyed, function));
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(found)
}

/// Rule 2: how many there may be.
pub(super) fn check_number(plan: &LogicalPlan, mode: OutputMode) -> Result<()> {
    let functions = functions(plan)?;
    let maps = functions.iter().filter(|(_, function)| function.is_map).count();
    if maps > 0 && maps < functions.len() {
        return Err(Error::analysis(
            "Mixing mapGroupsWithStates and flatMapGroupsWithStates are not supported on a streaming \
             DataFrames/Datasets. Use flat_map_groups_with_state for both, in append mode.",
        ));
    }
    if maps > 1 {
        return Err(Error::analysis(
            "Multiple mapGroupsWithStates are not supported on a streaming DataFrames/Datasets. Use \
             flat_map_groups_with_state in append mode, or two queries.",
        ));
    }
    let all_append = mode == OutputMode::Append && functions.iter().all(|(_, f)| f.mode == OutputMode::Append);
    if maps == 0 && functions.len() > 1 && !all_append {
        return Err(Error::analysis(
            "Multiple flatMapGroupsWithStates are not supported when they are not all in append mode or the output mode \
             is not append on a streaming DataFrames/Datasets. Use append mode for the functions and for the query.",
        ));
    }
    Ok(())
}

/// Rule 4, for one node. `aggregates` says whether the query has a streaming aggregation anywhere.
pub(super) fn check_function(node: &KeyedFunction, mode: OutputMode, aggregates: bool) -> Result<()> {
    if node.initial().is_some_and(is_streaming) {
        return Err(Error::analysis(
            "Non-streaming DataFrame/Dataset is not supported as the initial state in [map|flatMap]GroupsWithState \
             operation on a streaming DataFrame/Dataset. Read the initial state as a static frame.",
        ));
    }
    let KeyedKind::State(function) = node.kind() else { return Ok(()) };
    let refuse = |what: String| Err(Error::analysis(what));
    match (function.is_map, aggregates) {
        // Also below an aggregation, measured: Spark 4.3.0 counts the rows of every call.
        (true, _) if mode != OutputMode::Update => {
            return refuse(format!(
                "mapGroupsWithState is not supported with {} output mode on a streaming DataFrame/Dataset. Use update \
                 mode, or flat_map_groups_with_state.",
                spark_name(mode)
            ));
        }
        (false, false) if function.mode != mode => {
            return refuse(format!(
                "flatMapGroupsWithState in {} mode is not supported with {} output mode on a streaming \
                 DataFrame/Dataset. Use the same mode for both.",
                function.mode,
                spark_name(mode)
            ));
        }
        (false, true) if function.mode == OutputMode::Update => {
            return refuse(
                "flatMapGroupsWithState in update mode is not supported with aggregation on a streaming \
                 DataFrame/Dataset. Use it in append mode."
                    .into(),
            );
        }
        _ => (),
    }
    if function.timeout == GroupStateTimeout::EventTimeTimeout && !has_event_time(node) {
        return refuse(
            "Watermark must be specified in the query using '[Dataset/DataFrame].withWatermark()' for using event-time \
             timeout in a [map|flatMap]GroupsWithState. Event-time timeout not supported without watermark. Call \
             with_watermark on the event-time column, before group_by."
                .into(),
        );
    }
    Ok(())
}

/// As Spark prints modes.
fn spark_name(mode: OutputMode) -> &'static str {
    match mode {
        OutputMode::Append => "Append",
        OutputMode::Update => "Update",
        OutputMode::Complete => "Complete",
    }
}

/// Rule 5: whether it is a stateful operator over a stream.
pub(super) fn is_stateful(plan: &LogicalPlan) -> bool {
    KeyedFunction::of(plan).is_some_and(KeyedFunction::is_stateful)
}

/// Rule 5: whether rows from here may be late for the next stateful operator, in any mode.
pub(super) fn emits_late(plan: &LogicalPlan) -> bool {
    let by_event_time = |(_, function): &(_, &StateFunction)| function.timeout == GroupStateTimeout::EventTimeTimeout;
    functions(plan).is_ok_and(|functions| functions.iter().any(by_event_time))
}
