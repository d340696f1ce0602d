//! LIMIT over a stream: at most so many rows over the query's life.
//!
//! ```text
//! input -> ReadLimitExec (each partition, each batch: leaves off reading) -> one partition -> StateLimitExec (counts)
//! ```
//! The full version has to handle: a limit reached in the middle of a batch of rows, batches after it was reached (they
//! still read, but emit nothing), a larger or smaller limit after a restart, batches without rows (no state is written
//! before the first row passed), an exact number of rows seen by watermark nodes below, and a batch plan that is run
//! twice. That operators below see all of their input is the business of [`super::read_to_end`].

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{Int64Type, Schema};
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::execution_plan::EmissionType;
use datafusion::physical_plan::filter::{FilterExec, FilterExecBuilder};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties, PlanProperties};
use futures::{StreamExt, TryStreamExt};

use super::stateful::{OperatorNumbers, StatefulOperator};
use super::stateful_exec::{StatefulRows, StatefulTask, StatefulWork};
use super::stateless_exec::{StatelessExec, StatelessWork, plain_properties};
use crate::planted::planted;
use crate::state::SharedStore;

/// How many rows a LIMIT above can take at once. Part of the context in which what is below it runs: a watermark node
/// hands on no more rows than that before it is asked again, so that it sees none that is not needed.
#[derive(Debug)]
pub struct RowDemand {
    rows: AtomicUsize,
}

impl RowDemand {
    /// The demand under which a plan runs, if a LIMIT is above it.
    pub fn of(context: &TaskContext) -> Option<Arc<Self>> {
        context.session_config().get_extension()
    }

    /// Never 0.
    pub fn rows(&self) -> usize {
        self.rows.load(Ordering::Relaxed)
    }

    fn begin(context: &TaskContext, rows: usize) -> (Arc<Self>, Arc<TaskContext>) {
        let demand = Arc::new(Self { rows: AtomicUsize::new(rows.max(1)) });
        let below = TaskContext::new(
            context.task_id(),
            context.session_id(),
            context.session_config().clone().with_extension(Arc::clone(&demand)),
            context.scalar_functions().clone(),
            context.higher_order_functions().clone(),
            context.aggregate_functions().clone(),
            context.window_functions().clone(),
            context.runtime_env(),
        );
        (demand, Arc::new(below))
    }

    fn change(&self, rows: usize) {
        self.rows.store(rows.max(1), Ordering::Relaxed);
    }
}

/// Reads at most so many rows of each partition of `input` in each batch, and nothing after them. One row below may become
/// `widening` rows of the input (the windows of a row).
pub fn read_limit(input: Arc<dyn ExecutionPlan>, rows: usize, widening: usize) -> Result<Arc<dyn ExecutionPlan>> {
    Ok(StatelessExec::over(row_by_row(input)?, Arc::new(ReadLimitWork { rows, widening })))
}

/// Filters gather rows until they have a good number of them. Below a LIMIT they must hand on each row at once, or they
/// would ask for rows that are not needed; as only rows that the LIMIT takes get so far, it costs little.
fn row_by_row(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    plan.transform_up(|node| {
        Ok(match (node.as_ref() as &dyn Any).downcast_ref::<FilterExec>() {
            Some(filter) => Transformed::yes(Arc::new(FilterExecBuilder::from(filter).with_batch_size(1).build()?)),
            None => Transformed::no(node),
        })
    })
    .data()
}

#[derive(Debug)]
struct ReadLimitWork {
    rows: usize,
    widening: usize,
}

impl StatelessWork for ReadLimitWork {
    fn node_name(&self) -> &'static str {
        "ReadLimitExec"
    }

    fn describe(&self, _input: &Schema, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, ": rows={}", self.rows)
    }

    fn properties(&self, input: &Arc<dyn ExecutionPlan>) -> PlanProperties {
        plain_properties(input, input.schema(), input.output_partitioning().partition_count())
    }

    fn run(
        self: Arc<Self>,
        input: &Arc<dyn ExecutionPlan>,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let widening = self.widening;
        let (demand, below) = RowDemand::begin(&context, self.rows / widening);
        let schema = input.schema();
        let input = input.execute(partition, below)?;
        let rows = futures::stream::try_unfold((input, self.rows), move |(mut input, room)| {
            let demand = Arc::clone(&demand);
            async move {
                if room == 0 {
                    return Ok(None);
                }
                let Some(rows) = input.try_next().await? else { return Ok(None) };
                let rows = rows.slice(0, rows.num_rows().min(room));
                let room = room - rows.num_rows();
                demand.change(room / widening);
                Ok(Some((rows, (input, room))))
            }
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)))
    }
}

/// Passes on rows until, with those of earlier batches, the limit is reached.
#[derive(Clone, Copy, Debug)]
pub struct RowLimit {
    /// The most rows over the query's life.
    pub rows: usize,
}

impl StatefulWork for RowLimit {
    fn node_name(&self) -> &'static str {
        "StateLimitExec"
    }

    fn describe(&self, _inputs: &[Arc<dyn ExecutionPlan>], f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rows={}", self.rows)
    }

    fn emission(&self) -> EmissionType {
        EmissionType::Incremental
    }

    fn run(self: Arc<Self>, task: StatefulTask, mut inputs: Vec<SendableRecordBatchStream>) -> Result<StatefulRows> {
        let (input, limit) = (inputs.remove(0), self.rows as u64);
        let begun = async move { Ok::<_, DataFusionError>((input, LimitRun::begin(task, limit).await?)) };
        let rows = futures::stream::once(begun).map_ok(|(input, run)| {
            futures::stream::try_unfold(Some((input, run)), |running| async {
                let Some((mut input, mut run)) = running else { return Ok(None) };
                // Also when the limit is reached: watermark nodes see the rows that ReadLimitExec still asks for.
                while let Some(rows) = input.try_next().await? {
                    if let Some(passed) = run.take(&rows) {
                        return Ok(Some((passed, Some((input, run)))));
                    }
                }
                run.finish().await?;
                Ok(None)
            })
        });
        Ok(rows.try_flatten().boxed())
    }
}

/// One batch's counting.
struct LimitRun {
    operator: Arc<StatefulOperator>,
    store: SharedStore,
    /// Rows that earlier batches let pass.
    before: u64,
    /// Rows that may still pass.
    room: u64,
    passed: u64,
}

impl LimitRun {
    async fn begin(task: StatefulTask, limit: u64) -> Result<Self> {
        let store = task.store()?;
        let found = store.lock().await.get(&[])?;
        let before = if found.present.value(0) { found.values[0].as_primitive::<Int64Type>().value(0) } else { 0 };
        let before = if planted("limit-is-per-batch") { 0 } else { before.max(0) as u64 };
        let limit = limit + u64::from(planted("limit-lets-one-more-pass"));
        let operator = task.operator;
        Ok(Self { operator, store, before, room: limit.saturating_sub(before), passed: 0 })
    }

    fn take(&mut self, rows: &RecordBatch) -> Option<RecordBatch> {
        let count = (rows.num_rows() as u64).min(self.room);
        self.room -= count;
        self.passed += count;
        (count > 0).then(|| rows.slice(0, count as usize))
    }

    async fn finish(&mut self) -> Result<()> {
        let mut numbers = OperatorNumbers::default();
        if self.passed > 0 {
            let started_us = self.operator.clock.monotonic_us();
            let before = if planted("limit-counts-the-last-batch-only") { 0 } else { self.before };
            let count: ArrayRef = Arc::new(Int64Array::from(vec![(before + self.passed) as i64]));
            self.store.lock().await.put(&[], &[count], None)?;
            numbers.updated = 1;
            numbers.updates_us = self.operator.clock.monotonic_us().saturating_sub(started_us);
        }
        self.operator.count(numbers);
        Ok(())
    }
}
