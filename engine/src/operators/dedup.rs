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

use arrow::array::{ArrayRef, Int64Array, RecordBatch, UInt32Array};
use arrow::compute::{filter_record_batch, take_record_batch};
use datafusion::error::Result;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::execution_plan::EmissionType;
use futures::{StreamExt, TryStreamExt};

use super::batch::OperatorWatermarks;
use super::expiry::{at_event_time, expire_old};
use super::stateful::{OperatorNumbers, StatefulOperator};
use super::stateful_exec::{StatefulRows, StatefulTask, StatefulWork};
use super::watermark::on_time;
use crate::planted::planted;
use crate::state::{SharedStore, StateStore, Until, normalise_keys};

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
    /// Which key column is the event time, if keys are remembered until then.
    fn event_time_key(&self) -> Option<usize> {
        match self.lifetime {
            Lifetime::UntilEventTime => self.keys.iter().position(|key| Some(*key) == self.event_time),
            Lifetime::Forever | Lifetime::AfterDelay { .. } => None,
        }
    }

    /// When the keys of these rows expire, in microseconds.
    fn expiry(&self, rows: &RecordBatch) -> Result<Option<Int64Array>> {
        let (Some(time), true) = (self.event_time, self.lifetime != Lifetime::Forever) else { return Ok(None) };
        let times = at_event_time(rows.column(time))?;
        Ok(Some(match self.lifetime {
            Lifetime::AfterDelay { delay_us } => {
                let delay_us = if planted("dedup-forgets-the-delay") { 0 } else { delay_us };
                times.iter().map(|time| Some(time.unwrap_or(0).saturating_add(delay_us))).collect()
            }
            Lifetime::UntilEventTime | Lifetime::Forever => times,
        }))
    }
}

/// Lets the first row of each key pass.
impl StatefulWork for Deduplication {
    fn node_name(&self) -> &'static str {
        "StateDeduplicateExec"
    }

    fn describe(&self, inputs: &[Arc<dyn ExecutionPlan>], f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let schema = inputs[0].schema();
        let keys: Vec<_> = self.keys.iter().map(|key| schema.field(*key).name().as_str()).collect();
        write!(f, "keys=[{}] lifetime={:?}", keys.join(", "), self.lifetime)
    }

    fn emission(&self) -> EmissionType {
        EmissionType::Incremental
    }

    fn run(self: Arc<Self>, task: StatefulTask, mut inputs: Vec<SendableRecordBatchStream>) -> Result<StatefulRows> {
        let input = inputs.remove(0);
        let run = PartitionRun {
            deduplication: self,
            store: task.store()?,
            watermarks: task.watermarks(),
            is_first_batch: task.is_first_batch(),
            operator: task.operator,
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
        Ok(rows.boxed())
    }
}

/// One partition's work in one batch.
struct PartitionRun {
    deduplication: Arc<Deduplication>,
    operator: Arc<StatefulOperator>,
    store: SharedStore,
    watermarks: OperatorWatermarks,
    is_first_batch: bool,
    numbers: OperatorNumbers,
}

impl PartitionRun {
    /// The rows of new keys, if there are any; their keys are stored.
    async fn take(&mut self, rows: RecordBatch) -> Result<Option<RecordBatch>> {
        let started_us = self.operator.clock.monotonic_us();
        if planted("dedup-evicts-before-it-looks") {
            self.store.lock().await.evict(Until::AtOrBefore(self.watermarks.evict_us()))?;
        }
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
            .filter(|row| !present[*row] && (new.insert(slots[*row]) || planted("dedup-passes-both-of-a-batch")))
            .map(|row| row as u32)
            .collect();
        if planted("dedup-duplicates-prolong")
            && let (Some(expiry), Lifetime::AfterDelay { .. }) =
                (self.deduplication.expiry(rows)?, self.deduplication.lifetime)
        {
            store.put_slots(&slots, &[Arc::new(expiry.clone())], Some(&expiry))?;
        }
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
        if self.deduplication.lifetime != Lifetime::Forever && !planted("dedup-never-forgets") {
            let started_us = self.operator.clock.monotonic_us();
            let mut store = self.store.lock().await;
            if let Some(key) = self.deduplication.event_time_key() {
                expire_old(self.is_first_batch, store.as_mut(), |rows| at_event_time(&rows.keys[key]))?;
            }
            let evicted = store.evict(Until::AtOrBefore(self.watermarks.evict_us()))?;
            drop(store);
            self.numbers.removed += evicted.remaining() as u64;
            self.numbers.removals_us += self.operator.clock.monotonic_us().saturating_sub(started_us);
        }
        self.operator.count(self.numbers);
        Ok(())
    }
}
