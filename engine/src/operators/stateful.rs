//! What a stateful operator shares with the driver: its stores, its numbers, and when it wants a batch without data.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};

use crate::environment::Clock;
use crate::error::{Error, Result};
use crate::groups::{TIMERS_STORE, TransformNumbers, VariableKind};
use crate::progress::StateOperatorProgress;
use crate::sink::OutputMode;
use crate::state::{CommitReport, OperatorSpec, OperatorState, SharedStore, StoreSpec};

/// Spark's name of transformWithState in the progress report.
pub(crate) const TRANSFORM: &str = "transformWithStateExec";

/// One stateful operator of a running query.
#[derive(Debug)]
pub struct StatefulOperator {
    /// The operator's id: 0, 1, 2, ... bottom-up in the plan.
    pub id: usize,
    /// Spark's name for it in the progress report, for example `stateStoreSave`.
    pub name: &'static str,
    /// What its state holds, in how many partitions.
    pub spec: OperatorSpec,
    /// Whether a moved watermark calls for a batch without data.
    pub wants: NoDataBatch,
    /// For measuring.
    pub clock: Arc<dyn Clock>,
    state: OnceLock<OperatorState>,
    numbers: Mutex<OperatorNumbers>,
    /// The first batch of this run.
    first_batch: OnceLock<u64>,
}

/// When an operator wants another batch although there is no data (`spec/01` section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoDataBatch {
    /// Whenever its watermark rose past the one used last.
    WhenWatermarkRose,
    /// At every trigger: timeouts and timers by the clock.
    Always,
    /// Never.
    Never,
}

impl NoDataBatch {
    /// The rule of an aggregation in this output mode.
    pub fn of_aggregation(mode: OutputMode) -> Self {
        match mode {
            OutputMode::Append | OutputMode::Update => Self::WhenWatermarkRose,
            OutputMode::Complete => Self::Never,
        }
    }
}

/// What one batch did to an operator's state, over all partitions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OperatorNumbers {
    /// Rows put.
    pub updated: u64,
    /// Rows removed, by eviction or by the operator.
    pub removed: u64,
    /// Input rows that were late (for windows: pairs of row and window).
    pub dropped_by_watermark: u64,
    /// Rows that an operator had seen before (Spark: `numDroppedDuplicateRows`), for operators that look out for them.
    pub duplicates: Option<u64>,
    /// What a processor of transformWithState did.
    pub(crate) transform: Option<TransformNumbers>,
    /// Microseconds spent looking up, merging and putting.
    pub updates_us: u64,
    /// Microseconds spent evicting.
    pub removals_us: u64,
}

impl OperatorNumbers {
    fn add(&mut self, other: Self) {
        self.updated += other.updated;
        self.removed += other.removed;
        self.dropped_by_watermark += other.dropped_by_watermark;
        self.duplicates = self.duplicates.into_iter().chain(other.duplicates).reduce(|a, b| a + b);
        self.transform = self.transform.into_iter().chain(other.transform).reduce(TransformNumbers::plus);
        self.updates_us += other.updates_us;
        self.removals_us += other.removals_us;
    }
}

impl StatefulOperator {
    /// An operator whose state is not open yet.
    pub fn new(name: &'static str, spec: OperatorSpec, wants: NoDataBatch, clock: Arc<dyn Clock>) -> Self {
        let id = spec.operator_id as usize;
        Self {
            id,
            name,
            spec,
            wants,
            clock,
            state: OnceLock::new(),
            numbers: Mutex::default(),
            first_batch: OnceLock::new(),
        }
    }

    /// Gives the operator its state; once per run of a query.
    pub fn set_state(&self, state: OperatorState) -> Result<()> {
        let twice = |_| Error::internal(format!("the state of operator {} was opened twice", self.id));
        self.state.set(state).map_err(twice)
    }

    fn state(&self) -> Result<&OperatorState> {
        self.state.get().ok_or_else(|| Error::internal(format!("the state of operator {} is not open", self.id)))
    }

    /// How many partitions the state has.
    pub fn partitions(&self) -> usize {
        self.spec.partitions as usize
    }

    /// Checks that the operator's input has as many partitions as its state; an optimizer may have moved an exchange.
    pub fn check_partitions(&self, input: &Arc<dyn ExecutionPlan>) -> Result<()> {
        let (inputs, state) = (input.output_partitioning().partition_count(), self.partitions());
        if inputs == state {
            return Ok(());
        }
        Err(Error::internal(format!("{inputs} partitions flow into {state} partitions of state")))
    }

    /// A store of one partition, by name.
    pub fn store(&self, partition: usize, name: &str) -> Result<SharedStore> {
        self.state()?.store(partition, name)
    }

    /// Adds what one partition did.
    pub fn count(&self, numbers: OperatorNumbers) {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner).add(numbers);
    }

    /// Batch `batch_id` is about to run: opens version `batch_id` and forgets what an earlier try staged.
    pub async fn begin(&self, batch_id: u64) -> Result<()> {
        *self.numbers.lock().unwrap_or_else(PoisonError::into_inner) = OperatorNumbers::default();
        self.first_batch.get_or_init(|| batch_id);
        self.state()?.begin(batch_id).await
    }

    /// Whether this batch is the first of this run.
    pub(super) fn is_first_batch(&self, batch_id: u64) -> bool {
        self.first_batch.get() == Some(&batch_id)
    }

    /// Makes what the batch staged the next version; answers what the batch did.
    pub async fn commit(&self) -> Result<StateOperatorProgress> {
        let since_us = self.clock.monotonic_us();
        let reports = self.state()?.commit().await?;
        let numbers = *self.numbers.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(StateOperatorProgress {
            operator_name: self.name,
            num_rows_total: self.rows_total(&reports)?,
            num_rows_updated: numbers.updated,
            all_updates_time_ms: numbers.updates_us / 1000,
            num_rows_removed: numbers.removed,
            all_removals_time_ms: numbers.removals_us / 1000,
            commit_time_ms: self.clock.monotonic_us().saturating_sub(since_us) / 1000,
            memory_used_bytes: reports.iter().map(|report| report.memory_bytes).sum(),
            num_rows_dropped_by_watermark: numbers.dropped_by_watermark,
            num_shuffle_partitions: self.spec.partitions.into(),
            num_state_store_instances: reports.len() as u64,
            custom_metrics: self.custom_metrics(numbers).await?,
        })
    }

    /// What users call rows of state: of transformWithState no timers, and a list as one.
    fn rows_total(&self, reports: &[CommitReport]) -> Result<u64> {
        let stores = &self.state()?.spec().stores;
        if self.name != TRANSFORM {
            return Ok(reports.iter().map(|report| report.rows_total).sum());
        }
        let of_store = |(report, store): (&CommitReport, &StoreSpec)| match VariableKind::of_store(store) {
            _ if store.name == TIMERS_STORE => 0,
            VariableKind::List => report.prefixes_total,
            VariableKind::Value | VariableKind::Map => report.rows_total,
        };
        Ok(reports.iter().zip(stores.iter().cycle()).map(of_store).sum())
    }

    async fn custom_metrics(&self, numbers: OperatorNumbers) -> Result<BTreeMap<&'static str, u64>> {
        let (mut hits, mut misses, mut repaired) = (0, 0, 0);
        for store in self.state()?.stores() {
            let metrics = store.lock().await.metrics();
            hits += metrics.loads_from_memory;
            misses += metrics.loads_from_files;
            repaired += metrics.snapshots_repaired;
        }
        let of_store = [
            ("loadedMapCacheHitCount", hits),
            ("loadedMapCacheMissCount", misses),
            ("numSnapshotsAutoRepaired", repaired),
        ];
        let of_operator = numbers.duplicates.map(|rows| ("numDroppedDuplicateRows", rows));
        let of_transform = numbers.transform.map(|numbers| {
            [
                ("numRegisteredTimers", numbers.timers.registered),
                ("numDeletedTimers", numbers.timers.deleted),
                ("numExpiredTimers", numbers.timers.expired),
                ("numValuesRemovedDueToTTLExpiry", numbers.variables.expired),
            ]
        });
        Ok(of_store.into_iter().chain(of_operator).chain(of_transform.into_iter().flatten()).collect())
    }

    /// After a commit: snapshots and cleaning. Trouble is not fatal; it is tried again.
    pub async fn maintain(&self, retain_versions: u64) -> Result<()> {
        let report = self.state()?.maintain(retain_versions).await?;
        for problem in report.problems {
            tracing::warn!(operator = self.id, "state maintenance: {problem}");
        }
        Ok(())
    }
}
