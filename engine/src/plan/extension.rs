//! From the logical nodes of [`super::nodes`] to operators, once per query.

use std::sync::Arc;

use arrow::datatypes::Field;
use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::ScalarValue;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{LogicalPlan, UserDefinedLogicalNode, UserDefinedLogicalNodeCore};
use datafusion::physical_expr::aggregate::{AggregateExprBuilder, AggregateFunctionExpr, LoweredAggregateBuilder};
use datafusion::physical_expr::expressions::Literal;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode, PhysicalGroupBy};
use datafusion::physical_planner::{ExtensionPlanner, PhysicalPlanner};

use super::dedup::Deduplicate;
use super::limit::StreamLimit;
use super::nodes::{StatefulAggregate, StatefulNode, Watermark, as_node};
use super::physical::{Handles, PlanSettings};
use crate::operators::aggregate::{Aggregation, StateAggregateExec};
use crate::operators::batch::BatchContext;
use crate::operators::exchange::exchange;
use crate::operators::stateful::{NoDataBatch, StatefulOperator};
use crate::operators::watermark::{WatermarkExec, WatermarkNode};
use crate::state::{OperatorSpec, StoreSpec};

/// Plans the nodes that DataFusion does not know.
pub(super) struct StatefulPlanner {
    pub(super) settings: PlanSettings,
    pub(super) context: Arc<BatchContext>,
    pub(super) handles: Arc<Handles>,
}

/// What DataFusion hands to an extension planner.
struct Planning<'a> {
    planner: &'a dyn PhysicalPlanner,
    session: &'a dyn Session,
    context: &'a PhysicalPlanningContext,
}

#[async_trait]
impl ExtensionPlanner for StatefulPlanner {
    async fn plan_extension(
        &self,
        planner: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        _logical_inputs: &[&LogicalPlan],
        physical_inputs: &[Arc<dyn ExecutionPlan>],
        session: &dyn Session,
        planning_ctx: &PhysicalPlanningContext,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let planning = Planning { planner, session, context: planning_ctx };
        if let Some(watermark) = as_node::<Watermark>(node) {
            return Ok(Some(self.watermark(watermark, Arc::clone(&physical_inputs[0]))?));
        }
        if let Some(aggregate) = as_node::<StatefulAggregate>(node) {
            return Ok(Some(self.aggregate(aggregate, Arc::clone(&physical_inputs[0]), &planning)?));
        }
        if let Some(deduplicate) = as_node::<Deduplicate>(node) {
            return Ok(Some(self.deduplicate(deduplicate, Arc::clone(&physical_inputs[0]))?));
        }
        if let Some(limit) = as_node::<StreamLimit>(node) {
            return Ok(Some(self.limit(limit, Arc::clone(&physical_inputs[0]))?));
        }
        Ok(None)
    }
}

impl StatefulPlanner {
    fn watermark(&self, watermark: &Watermark, input: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
        let node = Arc::new(WatermarkNode::new(watermark.id()?, watermark.delay_ms()));
        self.handles.with(|made| made.watermark_nodes.insert(node.id, Arc::clone(&node)));
        Ok(Arc::new(WatermarkExec::new(input, watermark.column_index()?, node)))
    }

    /// input -> partial aggregate per input partition -> exchange -> merge with state.
    fn aggregate(
        &self,
        aggregate: &StatefulAggregate,
        input: Arc<dyn ExecutionPlan>,
        planning: &Planning<'_>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let schema = Arc::new(UserDefinedLogicalNodeCore::schema(aggregate).as_arrow().clone());
        let keys: Vec<Arc<Field>> = schema.fields().iter().take(aggregate.group_exprs.len()).cloned().collect();
        let Partial { functions, plan: partial } = partial_aggregate(aggregate, &keys, input, planning)?;
        let partitions = if keys.is_empty() { 1 } else { self.settings.state_partitions };
        let exchanged = exchange(partial, (0..keys.len()).collect(), partitions);

        let aggregation =
            Arc::new(Aggregation { functions, keys, event_time_key: aggregate.event_time_key, mode: aggregate.mode });
        let store = StoreSpec::default_store(aggregation.state_schema()?);
        let wants = NoDataBatch::of_aggregation(aggregate.mode);
        let operator = self.operator(aggregate.id()?, "stateStoreSave", vec![store], partitions, wants);
        Ok(Arc::new(StateAggregateExec::new(exchanged, aggregation, operator, Arc::clone(&self.context), schema)))
    }

    /// An operator, known to the driver.
    pub(super) fn operator(
        &self,
        id: usize,
        name: &'static str,
        stores: Vec<StoreSpec>,
        partitions: usize,
        wants: NoDataBatch,
    ) -> Arc<StatefulOperator> {
        let (operator_id, partitions) = (id as u32, partitions as u32);
        let spec = OperatorSpec { operator_id, name: name.into(), partitions, stores };
        let operator = Arc::new(StatefulOperator::new(name, spec, wants, Arc::clone(&self.settings.clock)));
        self.handles.with(|made| made.operators.insert(operator.id, Arc::clone(&operator)));
        operator
    }
}

/// A partial aggregation, and the functions whose states it computes.
struct Partial {
    functions: Vec<Arc<AggregateFunctionExpr>>,
    plan: Arc<dyn ExecutionPlan>,
}

/// The batch's rows reduced to one row of partial states per group and input partition. With an event-time key a
/// last column counts the rows of each group, so that late rows can be counted.
fn partial_aggregate(
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
    if aggregate.event_time_key.is_some() {
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
    let partial = AggregateExec::try_new(
        AggregateMode::Partial,
        PhysicalGroupBy::new_single(groups),
        functions,
        filters,
        input,
        physical_schema,
    )?;
    Ok(Partial { functions: stateful, plan: Arc::new(partial) })
}
