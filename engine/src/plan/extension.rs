//! From the logical nodes of [`super::nodes`] to operators, once per query.

use std::sync::Arc;

use arrow::datatypes::Field;
use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::error::Result;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{LogicalPlan, UserDefinedLogicalNode, UserDefinedLogicalNodeCore};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_planner::{ExtensionPlanner, PhysicalPlanner};

use super::dedup::Deduplicate;
use super::groups::KeyedFunction;
use super::join::StreamJoin;
use super::limit::StreamLimit;
use super::nodes::{StatefulAggregate, StatefulNode, Watermark, WindowKey, as_node};
use super::partial::{Partial, partial_aggregate};
use super::physical::{Handles, PlanSettings};
use crate::operators::aggregate::Aggregation;
use crate::operators::batch::BatchContext;
use crate::operators::exchange::exchange;
use crate::operators::read_to_end::ReadToEndWork;
use crate::operators::session::SessionAggregation;
use crate::operators::stateful::{NoDataBatch, StatefulOperator};
use crate::operators::stateful_exec::StatefulExec;
use crate::operators::stateless_exec::StatelessExec;
use crate::operators::watermark::{WatermarkNode, WatermarkWork};
use crate::state::{OperatorSpec, StoreSpec};

/// Plans the nodes that DataFusion does not know.
pub(super) struct StatefulPlanner {
    pub(super) settings: PlanSettings,
    pub(super) context: Arc<BatchContext>,
    pub(super) handles: Arc<Handles>,
}

/// What DataFusion hands to an extension planner.
pub(super) struct Planning<'a> {
    pub(super) planner: &'a dyn PhysicalPlanner,
    pub(super) session: &'a dyn Session,
    pub(super) context: &'a PhysicalPlanningContext,
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
        let planned = if let Some(watermark) = as_node::<Watermark>(node) {
            self.watermark(watermark, Arc::clone(&physical_inputs[0]))?
        } else if let Some(aggregate) = as_node::<StatefulAggregate>(node) {
            self.aggregate(aggregate, Arc::clone(&physical_inputs[0]), &planning)?
        } else if let Some(deduplicate) = as_node::<Deduplicate>(node) {
            self.deduplicate(deduplicate, Arc::clone(&physical_inputs[0]))?
        } else if let Some(keyed) = as_node::<KeyedFunction>(node) {
            self.keyed_function(keyed, physical_inputs)?
        } else if let Some(limit) = as_node::<StreamLimit>(node) {
            self.limit(limit, Arc::clone(&physical_inputs[0]))?
        } else if let Some(join) = as_node::<StreamJoin>(node) {
            self.join(join, physical_inputs, &planning)?
        } else {
            return Ok(None);
        };
        Ok(Some(StatelessExec::over(planned, Arc::new(ReadToEndWork { context: Arc::clone(&self.context) }))))
    }
}

impl StatefulPlanner {
    fn watermark(&self, watermark: &Watermark, input: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
        let id = watermark.id()?;
        // A view that is read twice has its node twice in the plan: both see for one.
        let new = || Arc::new(WatermarkNode::new(id, watermark.delay_ms()));
        let node = self.handles.with(|made| Arc::clone(made.watermark_nodes.entry(id).or_insert_with(new)));
        Ok(StatelessExec::over(input, Arc::new(WatermarkWork { column: watermark.column_index()?, node })))
    }

    /// input -> partial aggregate per input partition -> exchange -> merge with state.
    fn aggregate(
        &self,
        aggregate: &StatefulAggregate,
        input: Arc<dyn ExecutionPlan>,
        planning: &Planning<'_>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let schema = Arc::new(UserDefinedLogicalNodeCore::schema(aggregate).as_arrow().clone());
        let keys: Vec<Arc<Field>> = schema.fields().iter().take(aggregate.key_width()).cloned().collect();
        let Partial { functions, plan: partial } = partial_aggregate(aggregate, &keys, input, planning)?;
        let partitions = if keys.is_empty() { 1 } else { self.settings.state_partitions };
        let (mode, event_time_key) = (aggregate.mode, aggregate.event_time_key);
        let aggregation = Aggregation { functions, keys, event_time_key, mode };
        let (wants, context) = (NoDataBatch::of_aggregation(mode), Arc::clone(&self.context));
        if let Some(WindowKey::Session { key: session }) = aggregate.window {
            let sessions = SessionAggregation { aggregation, session };
            let (name, store) = ("sessionWindowStateStoreSaveExec", sessions.store_spec()?);
            let operator = self.operator(aggregate.id()?, name, vec![store], partitions, wants);
            let exchanged = exchange(partial, sessions.other_keys(), partitions);
            return Ok(Arc::new(StatefulExec::new(vec![exchanged], Arc::new(sessions), operator, context, schema)));
        }
        let store = StoreSpec::default_store(aggregation.state_schema()?);
        let operator = self.operator(aggregate.id()?, "stateStoreSave", vec![store], partitions, wants);
        let exchanged = exchange(partial, (0..aggregation.keys.len()).collect(), partitions);
        Ok(Arc::new(StatefulExec::new(vec![exchanged], Arc::new(aggregation), operator, context, schema)))
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
        self.made(OperatorSpec { operator_id, name: name.into(), partitions, stores, evolution: None }, name, wants)
    }

    /// [`StatefulPlanner::operator`] with all that there is to say about its state.
    pub(super) fn made(&self, spec: OperatorSpec, name: &'static str, wants: NoDataBatch) -> Arc<StatefulOperator> {
        let operator = Arc::new(StatefulOperator::new(name, spec, wants, Arc::clone(&self.settings.clock)));
        self.handles.with(|made| made.operators.insert(operator.id, Arc::clone(&operator)));
        operator
    }
}
