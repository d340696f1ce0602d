//! The execution plan of every stateful operator: what they share, so that each says only what it does.
//!
//! Partition k of the output is state partition k; partition k of every input must hold the rows of its keys, which is
//! required aloud and checked, since DataFusion's optimizer moves exchanges.

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::EquivalenceProperties;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, Distribution, ExecutionPlan, Partitioning, PhysicalExpr, PlanProperties,
    ReplaceChildrenOptions,
};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};

use super::batch::{Batch, BatchContext, OperatorWatermarks};
use super::exchange::required_distribution;
use super::stateful::StatefulOperator;
use crate::state::{DEFAULT_STORE, SharedStore};

/// What a stateful operator does with one partition of one batch.
pub trait StatefulWork: fmt::Debug + Send + Sync + 'static {
    /// The node's name in explained plans.
    fn node_name(&self) -> &'static str;

    /// What an explained plan says of it, after the operator's number.
    fn describe(&self, inputs: &[Arc<dyn ExecutionPlan>], f: &mut fmt::Formatter<'_>) -> fmt::Result;

    /// Whether rows come out while the input is still being read.
    fn emission(&self) -> EmissionType {
        EmissionType::Final
    }

    /// The rows of one partition in one batch. All state changes have happened when the stream ends.
    fn run(self: Arc<Self>, task: StatefulTask, inputs: Vec<SendableRecordBatchStream>) -> Result<StatefulRows>;
}

/// The rows that come out of a partition.
pub type StatefulRows = BoxStream<'static, Result<RecordBatch>>;

/// One partition of one batch.
#[derive(Clone, Debug)]
pub struct StatefulTask {
    /// The partition, of inputs, state and output.
    pub partition: usize,
    /// The operator whose state it is.
    pub operator: Arc<StatefulOperator>,
    /// The batch.
    pub batch: Arc<Batch>,
    /// The output's columns.
    pub schema: SchemaRef,
}

impl StatefulTask {
    /// The operator's watermarks in this batch.
    pub fn watermarks(&self) -> OperatorWatermarks {
        self.batch.watermarks[self.operator.id]
    }

    /// Whether the batch is the first of this run of the query.
    pub(super) fn is_first_batch(&self) -> bool {
        self.operator.is_first_batch(self.batch.id)
    }

    /// The partition's store, of an operator that has one.
    pub fn store(&self) -> Result<SharedStore> {
        Ok(self.operator.store(self.partition, DEFAULT_STORE)?)
    }
}

/// Work that needs all of its input before it has an answer.
pub fn answer_once(answer: impl Future<Output = Result<Vec<RecordBatch>>> + Send + 'static) -> StatefulRows {
    let rows = async move { Ok::<_, DataFusionError>(futures::stream::iter(answer.await?.into_iter().map(Ok))) };
    futures::stream::once(rows).try_flatten().boxed()
}

/// A stateful operator in a physical plan.
#[derive(Debug)]
pub struct StatefulExec {
    inputs: Vec<Arc<dyn ExecutionPlan>>,
    work: Arc<dyn StatefulWork>,
    operator: Arc<StatefulOperator>,
    context: Arc<BatchContext>,
    properties: Arc<PlanProperties>,
}

impl StatefulExec {
    /// `inputs` come from exchanges into the operator's partitions; `schema` is the output.
    pub fn new(
        inputs: Vec<Arc<dyn ExecutionPlan>>,
        work: Arc<dyn StatefulWork>,
        operator: Arc<StatefulOperator>,
        context: Arc<BatchContext>,
        schema: SchemaRef,
    ) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(operator.partitions()),
            work.emission(),
            Boundedness::Bounded,
        );
        Self { inputs, work, operator, context, properties: Arc::new(properties) }
    }
}

impl DisplayAs for StatefulExec {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}: operator={} ", self.work.node_name(), self.operator.id)?;
        self.work.describe(&self.inputs, f)
    }
}

impl ExecutionPlan for StatefulExec {
    fn name(&self) -> &str {
        self.work.node_name()
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        self.inputs.iter().collect()
    }

    fn required_input_distribution(&self) -> Vec<Distribution> {
        vec![required_distribution(self.operator.partitions()); self.inputs.len()]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false; self.inputs.len()]
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        inputs: Vec<Arc<dyn ExecutionPlan>>,
        _options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(Self {
            inputs,
            work: Arc::clone(&self.work),
            operator: Arc::clone(&self.operator),
            context: Arc::clone(&self.context),
            properties: Arc::clone(&self.properties),
        }))
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, super::recompute())
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let mut inputs = vec![];
        for input in &self.inputs {
            self.operator.check_partitions(input)?;
            inputs.push(input.execute(partition, Arc::clone(&context))?);
        }
        let (operator, batch, schema) = (Arc::clone(&self.operator), self.context.current(), self.schema());
        let task = StatefulTask { partition, operator, batch, schema };
        let rows = Arc::clone(&self.work).run(task, inputs)?;
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), rows)))
    }
}
