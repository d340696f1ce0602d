//! Streaming deduplication: a row passes if its key has not been seen before.
//!
//! Per partition: each input batch is freed of late rows, its keys are looked up at once, the first row of each new key
//! passes and the key is stored; after all input, keys that have expired leave.
//!
//! The full version has to handle: several rows of a new key in one batch (the first passes), a key that expires in the
//! very batch in which a duplicate comes (the duplicate is dropped: all input comes before eviction), duplicates not
//! prolonging a key's life, a late row of an unknown key (dropped, not stored), a null event time (never late; as part
//! of the key never evicted; within the watermark it counts as 1970), -0.0 and NaN keys (one key each), an event-time
//! column that was pruned (no late filter), frames without columns (one key), times near the end of the type, and a
//! batch plan that is run twice (`spec/02` sections 5 and 6, `spec/04` section 2).

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, UInt32Array};
use arrow::compute::{filter_record_batch, take_record_batch};
use arrow::datatypes::TimestampMicrosecondType;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::EquivalenceProperties;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, Distribution, ExecutionPlan, Partitioning, PhysicalExpr, PlanProperties,
    ReplaceChildrenOptions,
};
use futures::TryStreamExt;

use super::batch::{BatchContext, OperatorWatermarks};
use super::exchange::required_distribution;
use super::stateful::{OperatorNumbers, StatefulOperator};
use super::watermark::{event_time_micros, on_time};
use crate::state::{DEFAULT_STORE, SharedStore, StateStore, Until, normalise_keys};

/// What is deduplicated, and how.
#[derive(Debug)]
pub struct Deduplication {
    /// The columns that make rows the same, by index.
    pub keys: Vec<usize>,
    /// The event-time column, by index, if the input has one: rows are late by it.
    pub event_time: Option<usize>,
    /// How long a key is remembered.
    pub lifetime: Lifetime,
}

/// How long a key is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// For ever: the key has no event time.
    Forever,
    /// Until the watermark reaches the event time, which is part of the key.
    UntilEventTime,
    /// Until the watermark reaches the event time of the first row plus this.
    AfterDelay {
        /// Microseconds.
        delay_us: i64,
    },
}

impl Deduplication {
    /// When the keys of these rows expire, in microseconds.
    fn expiry(&self, rows: &RecordBatch) -> Result<Option<Int64Array>> {
        let (Some(time), true) = (self.event_time, self.lifetime != Lifetime::Forever) else { return Ok(None) };
        let times = event_time_micros(rows.column(time))?;
        let times = times.as_primitive::<TimestampMicrosecondType>();
        Ok(Some(match self.lifetime {
            Lifetime::AfterDelay { delay_us } => {
                times.iter().map(|time| Some(time.unwrap_or(0).saturating_add(delay_us))).collect()
            }
            Lifetime::UntilEventTime | Lifetime::Forever => {
                Int64Array::new(times.values().clone(), times.nulls().cloned())
            }
        }))
    }
}

/// Passes on the first row of each key. Partition k of the output is state partition k; partition k of the input must
/// hold the rows of its keys.
#[derive(Debug)]
pub struct StateDeduplicateExec {
    input: Arc<dyn ExecutionPlan>,
    deduplication: Arc<Deduplication>,
    operator: Arc<StatefulOperator>,
    context: Arc<BatchContext>,
    properties: Arc<PlanProperties>,
}

impl StateDeduplicateExec {
    /// `input` comes from the exchange into the operator's partitions.
    pub fn new(
        input: Arc<dyn ExecutionPlan>,
        deduplication: Arc<Deduplication>,
        operator: Arc<StatefulOperator>,
        context: Arc<BatchContext>,
    ) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(input.schema()),
            Partitioning::UnknownPartitioning(operator.partitions()),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Self { input, deduplication, operator, context, properties: Arc::new(properties) }
    }
}

impl DisplayAs for StateDeduplicateExec {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        let schema = self.input.schema();
        let keys: Vec<_> = self.deduplication.keys.iter().map(|key| schema.field(*key).name().as_str()).collect();
        write!(
            f,
            "StateDeduplicateExec: operator={} keys=[{}] lifetime={:?}",
            self.operator.id,
            keys.join(", "),
            self.deduplication.lifetime
        )
    }
}

impl ExecutionPlan for StateDeduplicateExec {
    fn name(&self) -> &'static str {
        "StateDeduplicateExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn required_input_distribution(&self) -> Vec<Distribution> {
        vec![required_distribution(self.operator.partitions())]
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
        let deduplication = Arc::clone(&self.deduplication);
        let (operator, context) = (Arc::clone(&self.operator), Arc::clone(&self.context));
        Ok(Arc::new(Self::new(children.swap_remove(0), deduplication, operator, context)))
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, super::recompute())
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        self.operator.check_partitions(&self.input)?;
        let input = self.input.execute(partition, context)?;
        let run = PartitionRun {
            deduplication: Arc::clone(&self.deduplication),
            store: self.operator.store(partition, DEFAULT_STORE)?,
            watermarks: self.context.current().watermarks[self.operator.id],
            operator: Arc::clone(&self.operator),
            numbers: OperatorNumbers { duplicates: Some(0), ..Default::default() },
        };
        let rows = futures::stream::try_unfold(Some((input, run)), |running| async {
            let Some((mut input, mut run)) = running else { return Ok(None) };
            while let Some(rows) = input.try_next().await? {
                if let Some(passed) = run.take(rows).await? {
                    return Ok(Some((passed, Some((input, run)))));
                }
            }
            run.finish().await?;
            Ok(None)
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), rows)))
    }
}

/// One partition's work in one batch.
struct PartitionRun {
    deduplication: Arc<Deduplication>,
    operator: Arc<StatefulOperator>,
    store: SharedStore,
    watermarks: OperatorWatermarks,
    numbers: OperatorNumbers,
}

impl PartitionRun {
    /// The rows of new keys, if there are any; their keys are stored.
    async fn take(&mut self, rows: RecordBatch) -> Result<Option<RecordBatch>> {
        let started_us = self.operator.clock.monotonic_us();
        let rows = self.without_late(rows)?;
        let store = Arc::clone(&self.store);
        let mut store = store.lock().await;
        let passed = if rows.num_rows() == 0 { None } else { self.first_of_keys(&rows, store.as_mut())? };
        self.numbers.updates_us += self.operator.clock.monotonic_us().saturating_sub(started_us);
        Ok(passed)
    }

    fn without_late(&mut self, rows: RecordBatch) -> Result<RecordBatch> {
        let Some(time) = self.deduplication.event_time else { return Ok(rows) };
        let on_time = on_time(rows.column(time), self.watermarks.late_us())?;
        let late = on_time.false_count();
        if late == 0 {
            return Ok(rows);
        }
        self.numbers.dropped_by_watermark += late as u64;
        Ok(filter_record_batch(&rows, &on_time)?)
    }

    fn first_of_keys(&mut self, rows: &RecordBatch, store: &mut dyn StateStore) -> Result<Option<RecordBatch>> {
        let keys: Vec<_> = self.deduplication.keys.iter().map(|key| Arc::clone(rows.column(*key))).collect();
        let (slots, present) = if keys.is_empty() {
            // One key, however many rows.
            let reserved = store.reserve(&[])?;
            (vec![reserved.slots[0]; rows.num_rows()], vec![reserved.found.present.value(0); rows.num_rows()])
        } else {
            let reserved = store.reserve(&normalise_keys(&keys)?)?;
            (reserved.slots, reserved.found.present.values().iter().collect())
        };
        let mut new = HashSet::new();
        let firsts: Vec<u32> = (0..rows.num_rows())
            .filter(|row| !present[*row] && new.insert(slots[*row]))
            .map(|row| row as u32)
            .collect();
        *self.numbers.duplicates.get_or_insert(0) += (rows.num_rows() - firsts.len()) as u64;
        if firsts.is_empty() {
            return Ok(None);
        }
        let slots: Vec<_> = firsts.iter().map(|row| slots[*row as usize]).collect();
        self.numbers.updated += firsts.len() as u64;
        let passed = take_record_batch(rows, &UInt32Array::from(firsts))?;
        let expiry = self.deduplication.expiry(&passed)?;
        let values: Vec<ArrayRef> = match (self.deduplication.lifetime, &expiry) {
            (Lifetime::AfterDelay { .. }, Some(expiry)) => vec![Arc::new(expiry.clone())],
            _ => vec![],
        };
        store.put_slots(&slots, &values, expiry.as_ref())?;
        Ok(Some(passed))
    }

    /// After all input: keys that have expired leave.
    async fn finish(&mut self) -> Result<()> {
        if self.deduplication.lifetime != Lifetime::Forever {
            let started_us = self.operator.clock.monotonic_us();
            let evicted = self.store.lock().await.evict(Until::AtOrBefore(self.watermarks.evict_us()))?;
            self.numbers.removed += evicted.remaining() as u64;
            self.numbers.removals_us += self.operator.clock.monotonic_us().saturating_sub(started_us);
        }
        self.operator.count(self.numbers);
        Ok(())
    }
}
