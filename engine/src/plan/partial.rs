//! The part of a stateful aggregation that remembers nothing: a batch's rows reduced to partial states.
//!
//! ```text
//! input -> AggregateExec(Partial) by keys [-> PaneWindowsExec: states of panes become states of windows]
//! ```

use std::sync::Arc;

use arrow::datatypes::Field;
use datafusion::common::ScalarValue;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::aggregate::{AggregateExprBuilder, AggregateFunctionExpr, LoweredAggregateBuilder};
use datafusion::physical_expr::expressions::{BinaryExpr, Column, Literal};
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode, PhysicalGroupBy};
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::{ExecutionPlan, PhysicalExpr};

use super::extension::Planning;
use super::nodes::{StatefulAggregate, WindowKey};
use crate::operators::pane_windows::PaneWindowsWork;
use crate::operators::stateless_exec::StatelessExec;

/// A planned partial aggregation.
pub(super) struct Partial {
    /// The functions whose partial states the plan gives.
    pub(super) functions: Vec<Arc<AggregateFunctionExpr>>,
    /// Columns: the keys, the functions' states, and with grouping sets the number of rows of each group.
    pub(super) plan: Arc<dyn ExecutionPlan>,
}

/// The batch's rows reduced to one row of partial states per group and input partition (per window and pane, where
/// there are panes). With grouping sets a last column counts the rows of each group, so that groups of none can be left
/// out.
pub(super) fn partial_aggregate(
    aggregate: &StatefulAggregate,
    keys: &[Arc<Field>],
    input: Arc<dyn ExecutionPlan>,
    planning: &Planning<'_>,
) -> Result<Partial> {
    let logical_schema = aggregate.input.schema();
    let physical_schema = input.schema();
    let mut groups = Vec::with_capacity(keys.len());
    for (expr, key) in aggregate.group_exprs.iter().zip(keys) {
        let group = planning.planner.create_physical_expr(expr, logical_schema, planning.session, planning.context)?;
        groups.push((group, key.name().clone()));
    }
    let (mut functions, mut filters) = (vec![], vec![]);
    for expr in &aggregate.aggr_exprs {
        let props = planning.session.execution_props();
        let lowered =
            LoweredAggregateBuilder::new(expr, logical_schema, &physical_schema, props, planning.context).build()?;
        functions.push(lowered.aggregate);
        filters.push(lowered.filter);
    }
    let stateful = functions.clone();
    if aggregate.sets.is_some() {
        let one = Arc::new(Literal::new(ScalarValue::Int64(Some(1))));
        let count = datafusion::functions_aggregate::count::count_udaf();
        let rows = AggregateExprBuilder::new(count, vec![one])
            .schema(Arc::clone(&physical_schema))
            .alias("__rows")
            .build()
            .map_err(|error: DataFusionError| error.context("counting the rows of a group"))?;
        functions.push(Arc::new(rows));
        filters.push(None);
    }
    let groups = match &aggregate.sets {
        None => PhysicalGroupBy::new_single(groups),
        Some(sets) => {
            let null = |(_, name): &(_, String), key: &Arc<Field>| {
                let null: Arc<dyn PhysicalExpr> = Arc::new(Literal::new(ScalarValue::try_from(key.data_type())?));
                Ok((null, name.clone()))
            };
            let nulls = groups.iter().zip(keys).map(|(group, key)| null(group, key)).collect::<Result<Vec<_>>>()?;
            PhysicalGroupBy::new(groups, nulls, sets.clone(), true)
        }
    };
    let partial: Arc<dyn ExecutionPlan> =
        Arc::new(AggregateExec::try_new(AggregateMode::Partial, groups, functions, filters, input, physical_schema)?);
    let plan: Arc<dyn ExecutionPlan> = match aggregate.window {
        Some(WindowKey::Panes { key, windows }) => {
            let work = PaneWindowsWork { column: key, windows, window: Arc::clone(&keys[key]) };
            StatelessExec::over(partial, Arc::new(work))
        }
        None if aggregate.sets.is_some() => without_empty_groups(partial)?,
        _ => partial,
    };
    Ok(Partial { functions: stateful, plan })
}

/// DataFusion makes a group of no rows for the grouping set of all rows; Spark does not.
fn without_empty_groups(partial: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let rows = partial.schema().fields().len() - 1;
    let rows: Arc<dyn PhysicalExpr> = Arc::new(Column::new("__rows", rows));
    let none: Arc<dyn PhysicalExpr> = Arc::new(Literal::new(ScalarValue::Int64(Some(0))));
    Ok(Arc::new(FilterExec::try_new(Arc::new(BinaryExpr::new(rows, Operator::Gt, none)), partial)?))
}
