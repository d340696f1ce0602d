//! Which columns carry event time, and which watermark each stateful operator works with (`spec/02` sections 1 and 4).
//!
//! Two walks over a logical plan, both pure: [`event_time_columns`] follows the mark that `withWatermark` puts on a
//! column from node to node; [`Propagation`] is the little tree that turns one global watermark into one input
//! watermark per stateful operator.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::{Column, ExprSchema};
use datafusion::logical_expr::{Expr, LogicalPlan};

use super::check::grouping_columns;
use super::groups::{KeyedFunction, marks_of_result};
use super::nodes::{StatefulAggregate, Watermark, as_node};
use crate::error::{Error, Result};
use crate::functions::window::{SLICE_START_CALL, time_window_source};
use crate::functions::window_expand::TimeWindowExpand;
use crate::operators::join::bound::Bounds;

/// For each output column of a plan, the delay in milliseconds of the watermark it carries, if it carries one.
pub type Marks = Vec<Option<i64>>;

/// `withWatermark(column, delay)` with the checks of `spec/02` section 1: the column must be there, at top level, and
/// a timestamp with local time zone or a time window.
pub fn watermark_node(input: LogicalPlan, column: Column, delay_ms: i64) -> Result<LogicalPlan> {
    let field = input.schema().field_from_column(&column).map_err(Error::from)?.clone();
    if !can_carry_event_time(field.data_type()) {
        return Err(Error::analysis_class(
            "EVENT_TIME_IS_NOT_ON_TIMESTAMP_TYPE",
            format!(
                "The event time `{}` has the invalid type \"{}\", but expected \"TIMESTAMP\". Cast the column to \
                 TIMESTAMP before the watermark.",
                column.name,
                crate::sql::types::spark_type_name(field.data_type()).to_uppercase()
            ),
        ));
    }
    Ok(Watermark::try_new(input, column, delay_ms)?)
}

fn can_carry_event_time(data_type: &DataType) -> bool {
    match data_type {
        DataType::Timestamp(_, zone) => zone.is_some(),
        DataType::Struct(fields) => {
            fields.len() == 2
                && ["start", "end"].iter().zip(fields.iter()).all(|(name, field)| {
                    field.name() == name && matches!(field.data_type(), DataType::Timestamp(_, Some(_)))
                })
        }
        _ => false,
    }
}

/// Follows the marks of `withWatermark` through a plan.
pub fn event_time_columns(plan: &LogicalPlan) -> Marks {
    match plan {
        LogicalPlan::Projection(projection) => of_exprs(&projection.expr, &projection.input),
        LogicalPlan::Aggregate(aggregate) => {
            let mut marks = of_exprs(grouping_columns(aggregate), &aggregate.input);
            marks.resize(plan.schema().fields().len(), None);
            marks
        }
        LogicalPlan::SubqueryAlias(alias) => event_time_columns(&alias.input),
        LogicalPlan::Extension(extension) => {
            if let Some(node) = as_node::<Watermark>(extension.node.as_ref()) {
                // A later call moves the mark: the key is removed from every other column.
                let mut marks = vec![None; plan.schema().fields().len()];
                if let Ok(index) = node.column_index() {
                    marks[index] = Some(node.delay_ms());
                }
                return marks;
            }
            if let Some(node) = as_node::<StatefulAggregate>(extension.node.as_ref()) {
                let mut marks = of_exprs(&node.group_exprs, &node.input);
                marks.resize(plan.schema().fields().len(), None);
                return marks;
            }
            if let Some(node) = KeyedFunction::of(plan) {
                // What comes out has nothing to do with the columns that go in.
                return marks_of_result(node);
            }
            if let Some(node) = TimeWindowExpand::of(plan) {
                // The columns of the input, then the window.
                let mut marks = event_time_columns(&node.input);
                marks.push(mark_of(&node.time, &node.input, &marks));
                return marks;
            }
            by_name(plan)
        }
        // A union's columns are those of its first input.
        LogicalPlan::Union(union) => union.inputs.first().map(|first| event_time_columns(first)).unwrap_or_default(),
        _ => by_name(plan),
    }
}

/// The one event-time column of a stateful operator's input, by index, with its delay in milliseconds.
///
/// Several are an error, `MULTIPLE_EVENT_TIME_COLUMNS` (`spec/02` section 5). Spark finds out in the query's first batch,
/// so the class that its users see is that of a failed query.
pub fn event_time_column(input: &LogicalPlan) -> Result<Option<(usize, i64)>> {
    let marks = event_time_columns(input);
    let mut marked = marks.iter().enumerate().filter_map(|(index, delay)| Some((index, (*delay)?)));
    let first = marked.next();
    if marked.next().is_none() {
        return Ok(first);
    }
    let fields = input.schema().fields().iter().zip(&marks);
    let names: Vec<_> = fields.filter(|(_, mark)| mark.is_some()).map(|(field, _)| field.name().as_str()).collect();
    Err(Error::analysis_class(
        "STREAM_FAILED",
        format!(
            "[MULTIPLE_EVENT_TIME_COLUMNS] More than one event time columns are available. Available columns: {}. Select only one of them before the \
             stateful operation.",
            names.join(", ")
        ),
    ))
}

fn of_exprs<'a>(exprs: impl IntoIterator<Item = &'a Expr>, input: &Arc<LogicalPlan>) -> Marks {
    let marks = event_time_columns(input);
    exprs.into_iter().map(|expr| mark_of(expr, input, &marks)).collect()
}

/// The mark of an expression: a bare column keeps it, also under an alias; time windows of a marked column have it;
/// any other expression loses it.
pub fn mark_of(expr: &Expr, input: &LogicalPlan, marks: &Marks) -> Option<i64> {
    match expr {
        Expr::Column(column) => input.schema().index_of_column(column).ok().and_then(|index| marks[index]),
        Expr::Alias(alias) => mark_of(&alias.expr, input, marks),
        // The start of a row's pane stands for the window of it (`plan::panes`).
        Expr::ScalarFunction(call) if call.name() == SLICE_START_CALL => mark_of(call.args.first()?, input, marks),
        other => time_window_source(other).and_then(|(_, time)| mark_of(time, input, marks)),
    }
}

/// Columns that a node passes on keep their mark: found by qualified name, then by position for equal schemas.
fn by_name(plan: &LogicalPlan) -> Marks {
    let inputs: Vec<_> = plan.inputs().into_iter().map(|input| (input, event_time_columns(input))).collect();
    plan.schema()
        .columns()
        .iter()
        .map(|column| {
            inputs.iter().find_map(|(input, marks)| {
                let index = input.schema().maybe_index_of_column(column)?;
                marks[index]
            })
        })
        .collect()
}

/// How a stateful operator's input watermark becomes the watermark of its output.
#[derive(Clone, Debug, PartialEq)]
pub enum OutputRule {
    /// Aggregation, session, dedup, limit: as it came in.
    SameAsInput,
    /// Group state functions: downstream has none.
    None,
    /// Stream-stream join: the least of the input and what each side's state still holds.
    OfJoin(Bounds),
}

/// A query's shape as far as watermarks are concerned.
#[derive(Clone, Debug)]
pub enum Propagation {
    /// A node that only passes rows on; no children for a source.
    Plain(Vec<Propagation>),
    /// A watermark node.
    Watermark(Box<Propagation>),
    /// A stateful operator with its id.
    Stateful {
        /// The operator's id.
        operator: usize,
        /// What is below it.
        inputs: Vec<Propagation>,
        /// What comes out above it.
        rule: OutputRule,
    },
}

impl Propagation {
    /// The input watermark (milliseconds) of every stateful operator when the global watermark is `global_ms`, by
    /// operator id. An operator without one uses 0.
    pub fn simulate(&self, global_ms: i64, operators: usize) -> Result<Vec<i64>> {
        let mut inputs = vec![0; operators];
        // With a global watermark of 0 nothing is simulated, and nothing is refused.
        if global_ms > 0 {
            self.walk(global_ms, &mut inputs)?;
        }
        Ok(inputs)
    }

    /// The ids of all stateful operators, from the sink down, left before right: the order of the progress report.
    pub fn operators_from_sink(&self) -> Vec<usize> {
        match self {
            Self::Plain(children) => children.iter().flat_map(Self::operators_from_sink).collect(),
            Self::Watermark(child) => child.operators_from_sink(),
            Self::Stateful { operator, inputs, .. } => {
                std::iter::once(*operator).chain(inputs.iter().flat_map(Self::operators_from_sink)).collect()
            }
        }
    }

    fn walk(&self, global_ms: i64, operators: &mut [i64]) -> Result<Option<i64>> {
        match self {
            Self::Plain(children) => min_of(children, global_ms, operators),
            Self::Watermark(child) => match child.walk(global_ms, operators)? {
                Some(_) => Err(Error::analysis(
                    "Redefining watermark is disallowed. You can set the config \
                     'spark.sql.streaming.statefulOperator.allowMultiple' to 'false' to restore the previous \
                     behavior. Note that multiple stateful operators will be disallowed. Better: call withWatermark \
                     once, before the first stateful operator.",
                )),
                None => Ok(Some(global_ms)),
            },
            Self::Stateful { operator, inputs, rule } => {
                let input = min_of(inputs, global_ms, operators)?;
                operators[*operator] = input.unwrap_or(0);
                Ok(match rule {
                    OutputRule::SameAsInput => input,
                    OutputRule::None => None,
                    OutputRule::OfJoin(bounds) => input.map(|watermark| bounds.output_watermark_ms(watermark)),
                })
            }
        }
    }
}

fn min_of(children: &[Propagation], global_ms: i64, operators: &mut [i64]) -> Result<Option<i64>> {
    let mut least = None;
    for child in children {
        if let Some(watermark) = child.walk(global_ms, operators)? {
            least = Some(least.map_or(watermark, |l: i64| l.min(watermark)));
        }
    }
    Ok(least)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stateful(operator: usize, inputs: Vec<Propagation>, rule: OutputRule) -> Propagation {
        Propagation::Stateful { operator, inputs, rule }
    }

    fn source() -> Propagation {
        Propagation::Plain(vec![])
    }

    #[test]
    fn each_operator_sees_the_minimum_of_its_inputs() {
        let marked = Propagation::Watermark(Box::new(source()));
        let lower = stateful(0, vec![marked, source()], OutputRule::SameAsInput);
        let upper = stateful(1, vec![Propagation::Plain(vec![lower])], OutputRule::SameAsInput);
        assert_eq!(upper.simulate(15_000, 2).unwrap(), [15_000, 15_000]);
        assert_eq!(upper.simulate(0, 2).unwrap(), [0, 0]);
    }

    #[test]
    fn nothing_comes_out_of_group_state() {
        let marked = Propagation::Watermark(Box::new(source()));
        let lower = stateful(0, vec![marked], OutputRule::None);
        let upper = stateful(1, vec![lower], OutputRule::SameAsInput);
        assert_eq!(upper.simulate(9, 2).unwrap(), [9, 0]);
    }

    #[test]
    fn redefining_fails_only_once_the_watermark_moved() {
        let twice = Propagation::Watermark(Box::new(Propagation::Watermark(Box::new(source()))));
        assert!(twice.simulate(0, 0).is_ok());
        assert!(twice.simulate(1, 0).unwrap_err().to_string().starts_with("Redefining watermark is disallowed"));
    }
}
