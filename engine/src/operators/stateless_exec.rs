//! The execution plan of every operator of ours with one input and no state: what they share, so that each says only what
//! it does. Its counterpart for those with state is [`stateful_exec`](super::stateful_exec).

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::EquivalenceProperties;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, Partitioning, PhysicalExpr, PlanProperties,
    ReplaceChildrenOptions,
};

/// What an operator without state does with the rows of its input.
pub trait StatelessWork: fmt::Debug + Send + Sync + 'static {
    /// The node's name in explained plans.
    fn node_name(&self) -> &'static str;

    /// What an explained plan says of it, after its name.
    fn describe(&self, _input: &Schema, _f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Ok(())
    }

    /// What DataFusion may know of the rows that come out; of rows that are passed on, what it knows of the input's.
    fn properties(&self, input: &Arc<dyn ExecutionPlan>) -> PlanProperties {
        PlanProperties::clone(input.properties())
    }

    /// Whether rows come out in the order in which they come in, partition by partition.
    fn keeps_order(&self) -> bool {
        false
    }

    /// The rows of one partition in one batch.
    fn run(
        self: Arc<Self>,
        input: &Arc<dyn ExecutionPlan>,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream>;
}

/// Properties of rows with these columns, in so many partitions, about whose order and values nothing is known.
pub fn plain_properties(input: &Arc<dyn ExecutionPlan>, schema: SchemaRef, partitions: usize) -> PlanProperties {
    PlanProperties::new(
        EquivalenceProperties::new(schema),
        Partitioning::UnknownPartitioning(partitions),
        input.pipeline_behavior(),
        input.boundedness(),
    )
}

/// An operator without state in a physical plan.
#[derive(Debug)]
pub struct StatelessExec {
    input: Arc<dyn ExecutionPlan>,
    work: Arc<dyn StatelessWork>,
    properties: Arc<PlanProperties>,
}

impl StatelessExec {
    /// Does `work` with what comes from `input`.
    pub fn over(input: Arc<dyn ExecutionPlan>, work: Arc<dyn StatelessWork>) -> Arc<dyn ExecutionPlan> {
        let properties = Arc::new(work.properties(&input));
        Arc::new(Self { input, work, properties })
    }
}

impl DisplayAs for StatelessExec {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.work.node_name())?;
        self.work.describe(&self.input.schema(), f)
    }
}

impl ExecutionPlan for StatelessExec {
    fn name(&self) -> &str {
        self.work.node_name()
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![self.work.keeps_order()]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Self::over(children.swap_remove(0), Arc::clone(&self.work)))
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, super::recompute())
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        Arc::clone(&self.work).run(&self.input, partition, context)
    }
}
