//! Group state: a user's function is called once for each key of a batch, and for each key whose timeout has passed.
//!
//! ```text
//! sort.rs   the rows of a partition, sorted by key: groups are ranges       run.rs   one partition's calls in one batch
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
use crate::groups::{GroupTimes, StateFunction};
use crate::state::DEFAULT_STORE;

/// What is called, for which groups.
#[derive(Debug)]
pub(crate) struct StatefulGroups {
    pub(crate) function: StateFunction,
    /// The columns of the rows.
    pub(crate) input: SchemaRef,
    /// The grouping columns, by index.
    pub(crate) keys: Vec<usize>,
    /// The event-time column, by index, if the input has one.
    pub(crate) event_time: Option<usize>,
    /// The grouping columns of the initial states, by index; the state is the last column.
    pub(crate) initial_keys: Vec<usize>,
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
    pub(crate) fn batch(&self, operator: usize) -> (Arc<Batch>, OperatorWatermarks) {
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

    /// Whether timeouts and timers come.
    pub(crate) fn is_stream(&self) -> bool {
        matches!(self, Self::Stream(_))
    }
}

/// The inputs, each in as many partitions as the state has.
#[derive(Clone, Debug)]
pub(crate) struct KeyedInput {
    pub(crate) rows: Arc<dyn ExecutionPlan>,
    pub(crate) initial: Option<Arc<dyn ExecutionPlan>>,
}

impl KeyedInput {
    pub(crate) fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        std::iter::once(&self.rows).chain(&self.initial).collect()
    }

    pub(crate) fn of(children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Self> {
        let mut children = children.into_iter();
        match (children.next(), children.next()) {
            (Some(rows), initial) => Ok(Self { rows, initial }),
            (None, _) => datafusion::common::internal_err!("groups have an input"),
        }
    }

    /// Reads everything; the initial states only in the first batch.
    pub(crate) fn execute(&self, partition: usize, batch_id: u64, context: &Arc<TaskContext>) -> Result<Reading> {
        let rows = self.rows.execute(partition, Arc::clone(context))?;
        let initial = match &self.initial {
            Some(initial) if batch_id == 0 => Some(initial.execute(partition, Arc::clone(context))?),
            _ => None,
        };
        Ok(Reading { rows, initial })
    }
}

/// The inputs of one partition.
pub(crate) struct Reading {
    rows: SendableRecordBatchStream,
    initial: Option<SendableRecordBatchStream>,
}

impl Reading {
    pub(crate) async fn all(self) -> Result<(Vec<RecordBatch>, Option<Vec<RecordBatch>>)> {
        let initial = match self.initial {
            Some(initial) => Some(initial.try_collect().await?),
            None => None,
        };
        Ok((self.rows.try_collect().await?, initial))
    }
}

/// Calls a user's function. Partition k of the output is state partition k; partition k of the inputs must hold the
/// rows of its keys.
#[derive(Debug)]
pub(crate) struct GroupStateExec {
    input: KeyedInput,
    groups: Arc<StatefulGroups>,
    operator: Arc<StatefulOperator>,
    life: Life,
    properties: Arc<PlanProperties>,
}

impl GroupStateExec {
    /// The inputs come from exchanges into the operator's partitions.
    pub(crate) fn new(
        input: KeyedInput,
        groups: Arc<StatefulGroups>,
        operator: Arc<StatefulOperator>,
        life: Life,
    ) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&groups.function.output)),
            Partitioning::UnknownPartitioning(operator.partitions()),
            EmissionType::Final,
            Boundedness::Bounded,
        );
        Self { input, groups, operator, life, properties: Arc::new(properties) }
    }
}

impl DisplayAs for GroupStateExec {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        let schema = self.input.rows.schema();
        let keys: Vec<_> = self.groups.keys.iter().map(|key| schema.field(*key).name().as_str()).collect();
        write!(
            f,
            "GroupStateExec: operator={} function={:?} keys=[{}]",
            self.operator.id,
            self.groups.function,
            keys.join(", ")
        )
    }
}

impl ExecutionPlan for GroupStateExec {
    fn name(&self) -> &'static str {
        "GroupStateExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        self.input.children()
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
        let (groups, operator) = (Arc::clone(&self.groups), Arc::clone(&self.operator));
        Ok(Arc::new(Self::new(KeyedInput::of(children)?, groups, operator, self.life.clone())))
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, super::recompute())
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        self.operator.check_partitions(&self.input.rows)?;
        let (batch, watermarks) = self.life.batch(self.operator.id);
        let reading = self.input.execute(partition, batch.id, &context)?;
        let (groups, operator) = (Arc::clone(&self.groups), Arc::clone(&self.operator));
        let is_stream = self.life.is_stream();
        let called = async move {
            let (rows, initial) = reading.all().await?;
            if !is_stream {
                operator.begin(0).await?;
            }
            let times = GroupTimes {
                timeout: groups.function.timeout,
                processing_ms: batch.timestamp_ms,
                watermark_ms: groups.event_time.map(|_| watermarks.evict_ms),
            };
            let store = operator.store(partition, DEFAULT_STORE)?;
            let mut store = store.lock().await;
            let mut run = run::PartitionRun::new(&groups, &operator, store.as_mut(), watermarks, times);
            run.data(rows, initial)?;
            if is_stream {
                run.timeouts()?;
            }
            Ok::<_, DataFusionError>(futures::stream::iter(run.finish().into_iter().map(Ok)))
        };
        let rows = futures::stream::once(called).try_flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), rows)))
    }
}
