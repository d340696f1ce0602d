//! Takes `window()` and `session_window()` out of a planned query and puts the window column below the node that
//! called them.
//!
//! ```text
//! Aggregate [window(ts, '5 seconds'), k]          Aggregate [`window(ts,..)`, k]
//!   input                                    =>     Projection *, __tumbling_window(ts, 5000000, 0) AS `window(ts,..)`
//!                                                     Filter ts IS NOT NULL
//!                                                       input
//! ```
//! A sliding window gets a [`TimeWindowExpand`], a session window the same as a tumbling one with the row's initial
//! session (rows without one are filtered). The column keeps the name that the call had, so that nodes above find it.
//! Arguments are checked here; all rules and texts: `spec/03`.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, ScalarValue};
use datafusion::error::Result as PlanResult;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{
    Aggregate, Cast, Expr, ExprSchemable, Filter, LogicalPlan, LogicalPlanBuilder, Projection, lit,
};

use super::window::{
    MULTIPLE_WINDOWS, SESSION_WINDOW, WINDOW, is_window_field, not_a_window, session_udf, time_type, tumbling_udf,
    window_time_udf,
};
use super::window_expand::TimeWindowExpand;
use crate::error::{Error, Result};
use crate::sql::duration::{Interval, window_duration_us};
use crate::sql::types::{quoted_type_name, timestamp_type};
use crate::sql::wrong_argument_count;

/// Rewrites every node of a plan (subqueries too) that calls `window()` or `session_window()`.
pub fn rewrite_time_windows(plan: LogicalPlan) -> Result<LogicalPlan> {
    Ok(plan.transform_up_with_subqueries(|node| rewrite_node(node).map_err(Into::into))?.data)
}

fn rewrite_node(node: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let Some(call) = only_call(&node)? else { return Ok(Transformed::no(node)) };
    let name = Expr::ScalarFunction(call.clone()).schema_name().to_string();
    let replace = |expr: Expr| -> PlanResult<Expr> {
        let replaced = expr.transform_down(|e| match &e {
            Expr::ScalarFunction(c) if *c == call => {
                Ok(Transformed::new(Expr::Column(Column::new_unqualified(&name)), true, TreeNodeRecursion::Jump))
            }
            _ => Ok(Transformed::no(e)),
        })?;
        Ok(replaced.data)
    };
    let names = NamePreserver::new(&node);
    let replace_all = |exprs: Vec<Expr>| -> PlanResult<Vec<Expr>> {
        exprs
            .into_iter()
            .map(|expr| {
                let saved = names.save(&expr);
                Ok(saved.restore(replace(expr)?))
            })
            .collect()
    };
    let rewritten = match node {
        LogicalPlan::Projection(projection) => {
            let input = with_window(projection.input, &call, &name)?;
            LogicalPlan::Projection(Projection::try_new(replace_all(projection.expr)?, Arc::new(input))?)
        }
        LogicalPlan::Aggregate(aggregate) => {
            let input = with_window(aggregate.input, &call, &name)?;
            let (groups, aggregates) = (replace_all(aggregate.group_expr)?, replace_all(aggregate.aggr_expr)?);
            LogicalPlan::Aggregate(Aggregate::try_new(Arc::new(input), groups, aggregates)?)
        }
        LogicalPlan::Filter(filter) => {
            let columns: Vec<Expr> = columns_of(filter.input.schema());
            let input = with_window(filter.input, &call, &name)?;
            let filtered = LogicalPlan::Filter(Filter::try_new(replace(filter.predicate)?, Arc::new(input))?);
            LogicalPlanBuilder::from(filtered).project(columns)?.build()?
        }
        other => {
            return Err(Error::analysis(format!(
                "{}() cannot stand in this part of a query ({}). Call it in the select list, in GROUP BY or in WHERE of a \
                 subquery, and use its column here.",
                call.name(),
                other.display()
            )));
        }
    };
    Ok(Transformed::yes(rewritten))
}

/// The one window call of a node; an error when it has two that differ.
fn only_call(node: &LogicalPlan) -> Result<Option<ScalarFunction>> {
    let mut calls: Vec<ScalarFunction> = Vec::new();
    node.apply_expressions(|expr| {
        expr.apply(|e| {
            if let Expr::ScalarFunction(call) = e
                && [WINDOW, SESSION_WINDOW].contains(&call.name())
            {
                if !calls.contains(call) {
                    calls.push(call.clone());
                }
                return Ok(TreeNodeRecursion::Jump);
            }
            Ok(TreeNodeRecursion::Continue)
        })
    })?;
    if calls.len() > 1 {
        return Err(Error::analysis(MULTIPLE_WINDOWS));
    }
    Ok(calls.pop())
}

/// The input with the window column as its last.
fn with_window(input: Arc<LogicalPlan>, call: &ScalarFunction, name: &str) -> Result<LogicalPlan> {
    let input = Arc::unwrap_or_clone(input);
    if call.name() == SESSION_WINDOW {
        return session(input, call, name);
    }
    let (time, durations) = match call.args.as_slice() {
        [time, durations @ ..] if (1..=3).contains(&durations.len()) => (time, durations),
        others => return Err(wrong_argument_count(WINDOW, "[2, 3, 4]", others.len())),
    };
    let mut micros = durations.iter().map(duration_us).collect::<Result<Vec<i64>>>()?;
    if micros.len() == 1 {
        micros.push(micros[0]);
    }
    micros.resize(3, 0);
    let (width_us, slide_us, start_us) = (micros[0], micros[1], micros[2]);
    let shown = format!("window({time_name}, {width_us}, {slide_us}, {start_us})", time_name = bare_name(time));
    check_window(&shown, width_us, slide_us, start_us)?;
    let time = event_time(time, input.schema(), &shown)?;
    let known = Filter::try_new(time.clone().is_not_null(), Arc::new(input))?;
    let input = LogicalPlan::Filter(known);
    if width_us != slide_us {
        return Ok(TimeWindowExpand::plan(input, time, width_us, slide_us, start_us, name)?);
    }
    let window = tumbling_udf().call(vec![time, lit(width_us), lit(start_us)]);
    added(input, window, name)
}

fn session(input: LogicalPlan, call: &ScalarFunction, name: &str) -> Result<LogicalPlan> {
    let [time, gap] = call.args.as_slice() else {
        return Err(wrong_argument_count(SESSION_WINDOW, "2", call.args.len()));
    };
    let time = event_time(time, input.schema(), &format!("session_window({}, {})", bare_name(time), bare_name(gap)))?;
    let gap_type = gap.get_type(input.schema())?;
    let gap = match gap_type {
        DataType::Interval(_) | DataType::Duration(_) if holds_interval_literal(gap)? => {
            return Err(Error::analysis(
                "Gap duration expression used in session window must be CalendarIntervalType, but got an interval literal, which is \
                 of another type. Write a text such as '5 minutes', or make_interval(..).",
            ));
        }
        DataType::Utf8 | DataType::Interval(_) | DataType::Duration(_) | DataType::Null => gap.clone(),
        DataType::Utf8View | DataType::LargeUtf8 => Expr::Cast(Cast::new(Box::new(gap.clone()), DataType::Utf8)),
        other => {
            return Err(Error::analysis(format!(
                "Gap duration expression used in session window must be CalendarIntervalType, but got {}. Write a text such as \
                 '5 minutes', or an expression that gives one.",
                quoted_type_name(&other)
            )));
        }
    };
    let never = never_a_gap(&gap);
    let with_session = added(input, session_udf().call(vec![time, gap]), name)?;
    let there = if never { lit(false) } else { Expr::Column(Column::new_unqualified(name)).is_not_null() };
    Ok(LogicalPlan::Filter(Filter::try_new(there, Arc::new(with_session))?))
}

/// Whether every row's gap is null. Spark folds the condition on sessions then, and the watermark sees no row either.
fn never_a_gap(gap: &Expr) -> bool {
    match gap {
        Expr::Literal(ScalarValue::Utf8(Some(text)), _) => Interval::parse(text).is_err(),
        Expr::Literal(value, _) => value.is_null(),
        _ => false,
    }
}

/// Spark has three types of intervals where we have one: literals are of the other two, which a gap must not be.
fn holds_interval_literal(expr: &Expr) -> Result<bool> {
    let is_literal = |e: &Expr| match e {
        Expr::Literal(value, _) => matches!(value.data_type(), DataType::Interval(_) | DataType::Duration(_)),
        _ => false,
    };
    Ok(expr.exists(|e| Ok(is_literal(e)))?)
}

/// `SELECT *, expr AS name`.
fn added(input: LogicalPlan, expr: Expr, name: &str) -> Result<LogicalPlan> {
    let mut columns = columns_of(input.schema());
    columns.push(expr.alias(name));
    Ok(LogicalPlan::Projection(Projection::try_new(columns, Arc::new(input))?))
}

fn columns_of(schema: &DFSchema) -> Vec<Expr> {
    schema.columns().into_iter().map(Expr::Column).collect()
}

/// The time that windows are made of: a timestamp, what casts to one, or the time of a window column.
fn event_time(expr: &Expr, input: &DFSchema, shown: &str) -> Result<Expr> {
    let (_, field) = expr.to_field(input)?;
    match field.data_type() {
        DataType::Struct(fields) if fields.len() == 2 && matches!(fields[0].data_type(), DataType::Timestamp(..)) => {
            if !is_window_field(&field) {
                return Err(not_a_window(&bare_name(expr)));
            }
            Ok(window_time_udf().call(vec![expr.clone()]))
        }
        data_type @ DataType::Timestamp(..) if *data_type == time_type(data_type) => Ok(expr.clone()),
        DataType::Timestamp(..)
        | DataType::Date32
        | DataType::Date64
        | DataType::Utf8
        | DataType::Utf8View
        | DataType::LargeUtf8
        | DataType::Null => {
            let time = match field.data_type() {
                DataType::Timestamp(..) => time_type(field.data_type()),
                _ => timestamp_type(),
            };
            Ok(Expr::Cast(Cast::new(Box::new(expr.clone()), time)))
        }
        other => Err(Error::analysis_class(
            "DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE",
            format!(
                "Cannot resolve \"{shown}\" due to data type mismatch: The first parameter requires the (\"(TIMESTAMP OR \
                 TIMESTAMP WITHOUT TIME ZONE)\" or \"STRUCT<start: TIMESTAMP, end: TIMESTAMP>\" or \"STRUCT<start: \
                 TIMESTAMP_NTZ, end: TIMESTAMP_NTZ>\") type, however \"{}\" has the type {}.",
                bare_name(expr),
                quoted_type_name(other)
            ),
        )),
    }
}

/// A duration argument: text, or a whole number of microseconds.
fn duration_us(expr: &Expr) -> Result<i64> {
    let mut expr = expr;
    while let Expr::Cast(cast) = expr {
        expr = &cast.expr;
    }
    let value = match expr {
        Expr::Literal(value, _) => value,
        Expr::Negative(inner) => return duration_us(inner).map(|us| -us),
        _ => &ScalarValue::Null,
    };
    match value {
        ScalarValue::Int8(Some(us)) => Ok(i64::from(*us)),
        ScalarValue::Int16(Some(us)) => Ok(i64::from(*us)),
        ScalarValue::Int32(Some(us)) => Ok(i64::from(*us)),
        ScalarValue::Int64(Some(us)) => Ok(*us),
        text => match text.try_as_str() {
            Some(Some(text)) => window_duration_us(text),
            _ => Err(Error::analysis(
                "The duration and time inputs to window must be an integer, long or string literal. Write a text such as \
                 '10 minutes', or microseconds.",
            )),
        },
    }
}

fn check_window(shown: &str, width_us: i64, slide_us: i64, start_us: i64) -> Result<()> {
    for (what, value) in [("window_duration", width_us), ("slide_duration", slide_us)] {
        if value <= 0 {
            return Err(Error::analysis_class(
                "DATATYPE_MISMATCH.VALUE_OUT_OF_RANGE",
                format!(
                    "Cannot resolve \"{shown}\" due to data type mismatch: The `{what}` must be between (0, \
                     9223372036854775807] (current value = {value}L). Write a duration longer than nothing."
                ),
            ));
        }
    }
    let violated = if slide_us > width_us {
        Some(format!("`slide_duration`({slide_us}L) must be <= the `window_duration`({width_us}L)"))
    } else if start_us.unsigned_abs() >= slide_us.unsigned_abs() {
        let start_us = start_us.unsigned_abs();
        Some(format!("`abs(start_time)`({start_us}L) must be < the `slide_duration`({slide_us}L)"))
    } else {
        None
    };
    match violated {
        None => Ok(()),
        Some(rule) => Err(Error::analysis_class(
            "DATATYPE_MISMATCH.PARAMETER_CONSTRAINT_VIOLATION",
            format!("Cannot resolve \"{shown}\" due to data type mismatch: The {rule}. Change one of the durations."),
        )),
    }
}

/// An expression as Spark shows it in errors: columns without their relation, texts without quotes.
fn bare_name(expr: &Expr) -> String {
    match expr {
        Expr::Column(column) => column.name.clone(),
        Expr::Literal(value, _) => match value.try_as_str() {
            Some(Some(text)) => text.to_owned(),
            _ => value.to_string(),
        },
        other => other.schema_name().to_string(),
    }
}
