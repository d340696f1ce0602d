//! Group state: a user's function is called once for each key of a batch, and for each key whose timeout has passed.
//!
//! ```text
//! sort.rs   the rows of a partition, sorted by key: groups are ranges       run.rs   one partition's calls in one batch
//! transform.rs   the same for processors with state variables and timers
//! ```
//! Per partition: late rows go (with an event-time timeout), rows are sorted by key, initial states are put in (batch
//! 0), the function is called for groups in order of key with their states looked up in columns, then for keys whose
//! timeout has passed, found by the store's expiry index. State: keys -> (user's state, timeout), expiring at the
//! timeout.
//!
//! The full version has to handle: a key with a passed timeout that has data (only the data call), a timeout that is not
//! set again (it is gone), state removed with a timeout set (the entry stays, without a state), a function that fails or
//! panics (the batch fails, nothing is stored), initial states with a key twice (an error), initial keys without data,
//! null, NaN and -0.0 keys, no keys at all, batches without data, several state partitions, more groups than fit one
//! call, static frames (once, no timeouts), and a batch plan that is run twice (`spec/04` section 5).

mod run;
mod sort;
mod transform;

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
use futures::TryStreamExt;

use super::batch::{Batch, BatchContext, OperatorWatermarks};
use super::exchange::required_distribution;
use super::stateful::StatefulOperator;
use crate::environment::Clock;
use crate::planted::planted;

pub(crate) use run::StatefulGroups;
pub(crate) use transform::TransformGroups;

/// What is done with one partition of one batch.
pub(crate) trait KeyedWork: fmt::Debug + Send + Sync {
    /// The function, for explained plans.
    fn function(&self) -> &dyn fmt::Debug;

    /// The columns of the result.
    fn output(&self) -> &SchemaRef;

    /// The rows of the result. All state changes have happened then.
    fn run(&self, task: &KeyedTask<'_>, rows: Vec<RecordBatch>, initial: Vec<RecordBatch>) -> Result<Vec<RecordBatch>>;
}

/// One partition of one batch.
pub(crate) struct KeyedTask<'a> {
    pub(crate) partition: usize,
    pub(crate) operator: &'a StatefulOperator,
    pub(crate) batch: &'a Batch,
    pub(crate) watermarks: OperatorWatermarks,
    /// Whether timeouts and timers come: not over static frames.
    pub(crate) is_stream: bool,
}

impl KeyedTask<'_> {
    /// The time of the batch, which a batch that runs again has again.
    fn processing_ms(&self) -> i64 {
        match planted("group-time-is-the-clocks") {
            true => self.operator.clock.now_us().div_euclid(1000),
            false => self.batch.timestamp_ms,
        }
    }
}

/// Where the batches come from.
#[derive(Clone, Debug)]
pub(crate) enum Life {
    /// A stream: batch after batch.
    Stream(Arc<BatchContext>),
    /// A static frame: one batch, with an empty state of its own.
    Once(Arc<dyn Clock>),
}

impl Life {
    /// The batch to run, with the operator's watermarks.
    fn batch(&self, operator: usize) -> (Arc<Batch>, OperatorWatermarks) {
        match self {
            Self::Stream(context) => {
                let batch = context.current();
                let watermarks = batch.watermarks[operator];
                (batch, watermarks)
            }
            Self::Once(clock) => {
                let timestamp_ms = clock.now_us().div_euclid(1000);
                (Arc::new(Batch { timestamp_ms, ..Batch::default() }), OperatorWatermarks::default())
            }
        }
    }
}

/// The inputs, each in as many partitions as the state has.
#[derive(Clone, Debug)]
pub(crate) struct KeyedInput {
    pub(crate) rows: Arc<dyn ExecutionPlan>,
    pub(crate) initial: Option<Arc<dyn ExecutionPlan>>,
}

/// Calls a user's function. Partition k of the output is state partition k; partition k of the inputs must hold the
/// rows of its keys. The initial states are read in the first batch only, and not even opened later, which is why this
/// is an execution plan of its own.
#[derive(Debug)]
pub(crate) struct KeyedExec {
    input: KeyedInput,
    work: Arc<dyn KeyedWork>,
    operator: Arc<StatefulOperator>,
    life: Life,
    properties: Arc<PlanProperties>,
}

impl KeyedExec {
    /// The inputs come from exchanges into the operator's partitions.
    pub(crate) fn new(
        input: KeyedInput,
        work: Arc<dyn KeyedWork>,
        operator: Arc<StatefulOperator>,
        life: Life,
    ) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(work.output())),
            Partitioning::UnknownPartitioning(operator.partitions()),
            EmissionType::Final,
            Boundedness::Bounded,
        );
        Self { input, work, operator, life, properties: Arc::new(properties) }
    }
}

impl DisplayAs for KeyedExec {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "KeyedExec: operator={} function={:?}", self.operator.id, self.work.function())
    }
}

impl ExecutionPlan for KeyedExec {
    fn name(&self) -> &'static str {
        "KeyedExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        std::iter::once(&self.input.rows).chain(&self.input.initial).collect()
    }

    fn required_input_distribution(&self) -> Vec<Distribution> {
        vec![required_distribution(self.operator.partitions()); self.children().len()]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false; self.children().len()]
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        _options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let mut children = children.into_iter();
        let (Some(rows), initial) = (children.next(), children.next()) else {
            return datafusion::common::internal_err!("groups have an input");
        };
        let (work, operator) = (Arc::clone(&self.work), Arc::clone(&self.operator));
        Ok(Arc::new(Self::new(KeyedInput { rows, initial }, work, operator, self.life.clone())))
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, super::recompute())
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        self.operator.check_partitions(&self.input.rows)?;
        let (batch, watermarks) = self.life.batch(self.operator.id);
        let rows = self.input.rows.execute(partition, Arc::clone(&context))?;
        let initial = match &self.input.initial {
            Some(initial) if batch.id == 0 || planted("group-initial-state-in-every-batch") => {
                Some(initial.execute(partition, context)?)
            }
            _ => None,
        };
        let (work, operator) = (Arc::clone(&self.work), Arc::clone(&self.operator));
        let is_stream = matches!(self.life, Life::Stream(_));
        let called = async move {
            let initial = match initial {
                Some(initial) => initial.try_collect().await?,
                None => vec![],
            };
            let rows = rows.try_collect().await?;
            if !is_stream {
                operator.begin(0).await?;
            }
            let task = KeyedTask { partition, operator: &operator, batch: &batch, watermarks, is_stream };
            let outputs = work.run(&task, rows, initial)?;
            Ok::<_, DataFusionError>(futures::stream::iter(outputs.into_iter().map(Ok)))
        };
        let rows = futures::stream::once(called).try_flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), rows)))
    }
}
