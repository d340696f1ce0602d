//! The state of a running query between two triggers, and one trigger as six lines.
//!
//! The full version has to handle: a first batch without any offset, sources that answer no offset, a batch that an
//! earlier run promised and did not finish (run again with the logged ranges, no questions asked), batches without
//! data when a watermark moved, trigger Once (limits ignored, no batch without data), AvailableNow (pinned sources;
//! a source that cannot pin turns the query into one batch), and an error at any step (the driver is then worthless;
//! a new one recovers from the logs).

use std::sync::Arc;

use datafusion::execution::TaskContext;
use datafusion::physical_plan::ExecutionPlan;

use super::choose::Chosen;
use super::measure::TriggerTimes;
use super::trigger::Trigger;
use super::watermarks::WatermarkTracker;
use crate::checkpoint::Checkpoint;
use crate::environment::Environment;
use crate::error::Result;
use crate::operators::batch::OperatorWatermarks;
use crate::plan::physical::PlannedQuery;
use crate::planted::planted;
use crate::progress::StreamingQueryProgress;
use crate::sink::Sink;
use crate::source::{Offset, Source};
use crate::state::RecordedOperator;

/// The micro-batch that is under way.
#[derive(Clone, Debug)]
pub(super) struct MicroBatch {
    /// The batch's id.
    pub(super) id: u64,
    /// Where it starts, by occurrence of a source in the plan.
    pub(super) start: Vec<Option<Offset>>,
    /// Where it ends, by occurrence.
    pub(super) end: Vec<Option<Offset>>,
    /// The newest offsets known, by occurrence; only for the progress report.
    pub(super) latest: Vec<Option<Offset>>,
    /// The global watermark it is logged with, and runs with.
    pub(super) watermark_ms: i64,
    /// What `current_timestamp()` answers.
    pub(super) timestamp_ms: i64,
    /// Whether an earlier run promised it already.
    pub(super) promised: bool,
}

impl MicroBatch {
    /// Whether this occurrence of a source has news in this batch.
    pub(super) fn has_news(&self, occurrence: usize) -> bool {
        self.end[occurrence] != self.start[occurrence]
    }

    /// Whether any source has news.
    pub(super) fn has_data(&self) -> bool {
        (0..self.end.len()).any(|occurrence| self.has_news(occurrence))
    }
}

/// What one trigger did.
#[derive(Debug)]
pub enum Triggered {
    /// A batch ran; its report.
    Ran(Box<StreamingQueryProgress>),
    /// There was nothing to do; the report of an idle trigger.
    Idle(Box<StreamingQueryProgress>),
}

/// Who a query is.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The id in the checkpoint's `metadata`.
    pub id: String,
    /// New at every start.
    pub run_id: String,
    /// The name, if it has one.
    pub name: Option<String>,
}

/// Settings of a run that the logs do not keep.
#[derive(Clone, Debug)]
pub struct RunSettings {
    /// When batches run.
    pub trigger: Trigger,
    /// `spark.sql.streaming.noDataMicroBatches.enabled`.
    pub no_data_batches: bool,
    /// `wavetank.streaming.owedNoDataBatch.enabled`.
    pub owed_no_data_batch: bool,
    /// All stateful operators use the query's watermark, for late rows too ([`crate::conf::ALLOW_MULTIPLE`]).
    pub single_watermark: bool,
    /// `spark.sql.streaming.minBatchesToRetain`.
    pub min_batches_to_retain: u64,
}

/// Everything a driver is made of; `start.rs` gathers it.
pub struct Parts {
    /// Clock, storage, entropy.
    pub environment: Environment,
    /// Who the query is.
    pub identity: Identity,
    /// What it runs.
    pub plan: PlannedQuery,
    /// The sources, by relation of the plan.
    pub sources: Vec<Arc<dyn Source>>,
    /// The sink.
    pub sink: Arc<dyn Sink>,
    /// What was promised and what was done; holds the lock.
    pub checkpoint: Checkpoint,
    /// Operators whose stores have changed since they were written down: the first promise of this run does that.
    pub changed_operators: Vec<RecordedOperator>,
    /// The session confs that are written with every promise.
    pub logged_conf: std::collections::BTreeMap<String, String>,
    /// What the logs do not keep.
    pub settings: RunSettings,
    /// What DataFusion's operators run in.
    pub task_context: Arc<TaskContext>,
}

/// Where the logs say that the run begins.
#[derive(Clone, Debug)]
pub struct StartPoint {
    /// The next batch, or the one to run again.
    pub batch_id: u64,
    /// Where it starts, by occurrence.
    pub start: Vec<Option<Offset>>,
    /// The global watermark.
    pub watermark_ms: i64,
    /// The watermark that the batch before was logged with (0 for batch 0).
    pub previous_watermark_ms: i64,
    /// For a batch to run again: its logged end and timestamp.
    pub unfinished: Option<(Vec<Option<Offset>>, i64)>,
}

impl StartPoint {
    /// The beginning of a new query.
    pub fn fresh(occurrences: usize) -> Self {
        let start = vec![None; occurrences];
        Self { batch_id: 0, start, watermark_ms: 0, previous_watermark_ms: 0, unfinished: None }
    }

    /// Whether an earlier run left anything.
    pub fn has_history(&self) -> bool {
        self.batch_id > 0 || self.unfinished.is_some()
    }
}

/// A running query between two triggers.
pub struct Driver {
    pub(super) parts: Parts,
    /// The plan, fresh for the next run.
    pub(super) physical: Arc<dyn ExecutionPlan>,
    pub(super) tracker: WatermarkTracker,
    /// The id of the next batch.
    pub(super) next_batch_id: u64,
    /// Where the next batch starts, by occurrence.
    pub(super) start: Vec<Option<Offset>>,
    /// A promised batch to run before anything else.
    pub(super) unfinished: Option<MicroBatch>,
    /// The global watermark that the batch before the next one was logged with.
    pub(super) previous_watermark_ms: i64,
    /// The eviction watermarks of the batch that ran last in this run, by operator; `None` before the first: a
    /// batch without data needs a batch before it in the same run, or the setting that also counts earlier runs.
    pub(super) last_eviction_ms: Option<Vec<i64>>,
    /// When the previous trigger of this run started (wall clock, microseconds).
    pub(super) previous_trigger_us: Option<i64>,
    /// State operators as last reported, for idle reports.
    pub(super) last_operators: Vec<crate::progress::StateOperatorProgress>,
    /// Whether AvailableNow runs as one batch because a source cannot pin.
    pub(super) one_batch_only: bool,
    /// How long the steps of the last batch took.
    pub(super) last_steps_us: std::collections::BTreeMap<&'static str, u64>,
}

impl Driver {
    /// A driver that begins where the logs say.
    pub async fn open(parts: Parts, from: StartPoint, tracker: WatermarkTracker) -> Result<Self> {
        let occurrences = parts.plan.occurrences.len();
        let unfinished = from.unfinished.map(|(end, timestamp_ms)| MicroBatch {
            id: from.batch_id,
            start: from.start.clone(),
            latest: end.clone(),
            end,
            watermark_ms: from.watermark_ms,
            timestamp_ms,
            promised: true,
        });
        debug_assert_eq!(from.start.len(), occurrences, "the start point was checked against the plan");
        let mut one_batch_only = parts.settings.trigger == Trigger::Once;
        if parts.settings.trigger == Trigger::AvailableNow {
            for source in &parts.sources {
                one_batch_only |= !source.pin_available_now().await?;
            }
        }
        let owed = parts.settings.owed_no_data_batch && from.batch_id > 0 && unfinished.is_none();
        let last_eviction_ms = match owed {
            true if parts.settings.single_watermark => {
                Some(vec![from.previous_watermark_ms; parts.plan.operators.len()])
            }
            true => {
                let last = parts.plan.propagation.simulate(from.previous_watermark_ms, parts.plan.operators.len())?;
                Some(last)
            }
            false => None,
        };
        Ok(Self {
            physical: Arc::clone(&parts.plan.physical),
            parts,
            tracker,
            next_batch_id: from.batch_id,
            start: from.start,
            unfinished,
            previous_watermark_ms: from.previous_watermark_ms,
            last_eviction_ms,
            previous_trigger_us: None,
            last_operators: vec![],
            one_batch_only,
            last_steps_us: Default::default(),
        })
    }

    /// One trigger: at most one batch, from the choice of its ranges to its last log entry.
    pub async fn trigger(&mut self) -> Result<Triggered> {
        let mut times = TriggerTimes::begin(Arc::clone(&self.parts.environment.clock));
        let batch = match self.choose(&mut times).await? {
            Chosen::Batch(batch) => batch,
            Chosen::Nothing(latest) => return Ok(self.idle(times, latest)),
        };
        if !planted("promise-after-the-batch") {
            self.promise(&batch, &mut times).await?;
        }
        let ran = self.run(&batch, &mut times).await?;
        self.commit(&batch, &mut times).await?;
        if planted("promise-after-the-batch") {
            self.promise(&batch, &mut times).await?;
        }
        self.done(&batch, &mut times).await?;
        Ok(Triggered::Ran(Box::new(self.report(batch, ran, times))))
    }

    /// Whether the run is over after one trigger (Once, or AvailableNow with a source that cannot pin).
    pub fn one_batch_only(&self) -> bool {
        self.one_batch_only
    }

    /// Microseconds by step of the last batch, with the names of the progress report's `durationMs`.
    pub fn last_steps_us(&self) -> &std::collections::BTreeMap<&'static str, u64> {
        &self.last_steps_us
    }

    /// The id of the batch that the next trigger runs.
    pub fn next_batch_id(&self) -> u64 {
        self.next_batch_id
    }

    /// Who the query is.
    pub fn identity(&self) -> &Identity {
        &self.parts.identity
    }

    /// What it runs.
    pub fn plan(&self) -> &PlannedQuery {
        &self.parts.plan
    }

    /// Where the next batch starts, by occurrence of a source.
    pub fn committed_offsets(&self) -> &[Option<Offset>] {
        &self.start
    }

    /// Gives back what sources and sink hold.
    pub async fn stop(&mut self) -> Result<()> {
        for source in &self.parts.sources {
            source.stop().await?;
        }
        self.parts.sink.stop().await
    }

    /// The two watermarks of every operator in a batch: late from the batch before, eviction from this one.
    pub(super) fn watermarks_of(&self, batch: &MicroBatch) -> Result<Vec<OperatorWatermarks>> {
        let operators = self.parts.plan.operators.len();
        if self.parts.settings.single_watermark {
            let both = OperatorWatermarks { late_ms: batch.watermark_ms, evict_ms: batch.watermark_ms };
            return Ok(vec![both; operators]);
        }
        let mut late = self.parts.plan.propagation.simulate(self.previous_watermark_ms, operators)?;
        let mut evict = self.parts.plan.propagation.simulate(batch.watermark_ms, operators)?;
        if planted("late-by-the-eviction-watermark") {
            late.clone_from(&evict);
        }
        if planted("evict-by-the-late-watermark") {
            evict.clone_from(&late);
        }
        if planted("late-rows-are-kept") {
            late.fill(i64::MIN);
        }
        if planted("every-operator-has-the-global-watermark") {
            evict.fill(batch.watermark_ms);
        }
        Ok(late.into_iter().zip(evict).map(|(late_ms, evict_ms)| OperatorWatermarks { late_ms, evict_ms }).collect())
    }
}
