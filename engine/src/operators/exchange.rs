//! Brings each row to the state partition its key belongs to.
//!
//! DataFusion's own repartitioning hashes with its own hash, which may change with an upgrade; which partition a key
//! belongs to must not, because the checkpoint fixes it. So the partition is Spark's xxhash64 of the key columns
//! (`state::partitioning`).
//!
//! The full version has to handle: any number of input partitions, read at the same time; output partitions asked in
//! any order, or from several tasks at once; an error in one input (every output fails); a plan that is run again.
//! What is exchanged is already reduced to the batch's groups, and every operator above has to see all of it before
//! it can answer, so the exchange gathers everything first.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::EquivalenceProperties;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, Distribution, ExecutionPlan, ExecutionPlanProperties, Partitioning, PhysicalExpr,
    PlanProperties, ReplaceChildrenOptions,
};
use futures::future::{BoxFuture, Shared};
use futures::{FutureExt, StreamExt, TryStreamExt};

use super::in_order::InOrderWork;
use super::stateless_exec::StatelessExec;
use crate::planted::planted;
use crate::state::{normalise_keys, partition_of};

type Gathered = Shared<BoxFuture<'static, Result<Arc<Vec<Vec<RecordBatch>>>, Arc<DataFusionError>>>>;

/// Deals rows to `partitions` outputs by the hash of their key columns.
pub struct StateExchangeExec {
    input: Arc<dyn ExecutionPlan>,
    /// The key columns, by index.
    keys: Vec<usize>,
    partitions: usize,
    /// The gathering of the run at hand, begun by whoever asks first.
    gathered: Mutex<Option<Gathered>>,
    properties: Arc<PlanProperties>,
}

/// Puts `input` into `partitions` state partitions by its columns `keys`: with one partition by merely bringing all
/// input together. The operator above says [`required_distribution`], so that it stays so.
pub fn exchange(input: Arc<dyn ExecutionPlan>, keys: Vec<usize>, partitions: usize) -> Arc<dyn ExecutionPlan> {
    let is_single = input.output_partitioning().partition_count() <= 1;
    let single = if is_single { input } else { StatelessExec::over(input, Arc::new(InOrderWork)) };
    if partitions <= 1 { single } else { Arc::new(StateExchangeExec::new(single, keys, partitions)) }
}

/// What a stateful operator with so many state partitions requires of its exchanged input.
pub fn required_distribution(partitions: usize) -> Distribution {
    if partitions <= 1 { Distribution::SinglePartition } else { Distribution::UnspecifiedDistribution }
}

impl StateExchangeExec {
    /// `input` has one partition.
    fn new(input: Arc<dyn ExecutionPlan>, keys: Vec<usize>, partitions: usize) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(input.schema()),
            Partitioning::UnknownPartitioning(partitions),
            EmissionType::Final,
            Boundedness::Bounded,
        );
        Self { input, keys, partitions, gathered: Mutex::new(None), properties: Arc::new(properties) }
    }

    fn gather(&self, context: Arc<TaskContext>) -> Result<Gathered> {
        let mut gathered = self.gathered.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = gathered.as_ref() {
            return Ok(running.clone());
        }
        let mut input = self.input.execute(0, context)?;
        let (keys, partitions) = (self.keys.clone(), self.partitions);
        let gathering = async move {
            let mut dealt = vec![vec![]; partitions];
            while let Some(rows) = input.try_next().await.map_err(Arc::new)? {
                deal(&rows, &keys, &mut dealt).map_err(Arc::new)?;
            }
            Ok(Arc::new(dealt))
        };
        let running = gathering.boxed().shared();
        *gathered = Some(running.clone());
        Ok(running)
    }
}

/// Appends the rows of each partition to its list.
fn deal(rows: &RecordBatch, keys: &[usize], dealt: &mut [Vec<RecordBatch>]) -> Result<()> {
    let columns: Vec<_> = keys.iter().map(|key| Arc::clone(rows.column(*key))).collect();
    // Equal keys belong to one partition, also 0.0 and -0.0.
    let columns = normalise_keys(&columns)?;
    let mut indices = vec![vec![]; dealt.len()];
    for (row, partition) in partition_of(&columns, rows.num_rows(), dealt.len())?.values().iter().enumerate() {
        let moved = if planted("keys-change-their-partition") { rows.num_rows() } else { 0 };
        indices[(*partition as usize + moved) % dealt.len()].push(row as u32);
    }
    for (list, indices) in dealt.iter_mut().zip(indices) {
        if !indices.is_empty() {
            list.push(take_record_batch(rows, &UInt32Array::from(indices))?);
        }
    }
    Ok(())
}

impl fmt::Debug for StateExchangeExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StateExchangeExec").field("keys", &self.keys).field("partitions", &self.partitions).finish()
    }
}

impl DisplayAs for StateExchangeExec {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "StateExchangeExec: partitions={} keys={:?}", self.partitions, self.keys)
    }
}

impl ExecutionPlan for StateExchangeExec {
    fn name(&self) -> &'static str {
        "StateExchangeExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    /// Said aloud, because DataFusion's optimizer removes a coalescing that nobody requires.
    fn required_input_distribution(&self) -> Vec<Distribution> {
        vec![Distribution::SinglePartition]
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

    /// Also how a plan is reset for its next run: the new node has gathered nothing.
    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(Self::new(children.swap_remove(0), self.keys.clone(), self.partitions)))
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, super::recompute())
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let gathered = self.gather(context)?;
        let rows = async move {
            let dealt = gathered.await.map_err(DataFusionError::Shared)?;
            let mine = dealt[partition].clone();
            Ok::<_, DataFusionError>(futures::stream::iter(mine).map(Ok))
        };
        let rows = futures::stream::once(rows).try_flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), rows)))
    }
}
