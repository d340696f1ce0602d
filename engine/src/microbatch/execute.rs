//! Running a promised batch: from the sources' ranges to rows staged in the sink and state staged in the stores.

use std::sync::Arc;

use datafusion::physical_plan::common::spawn_buffered;
use datafusion::physical_plan::{ExecutionPlanProperties, execution_plan::reset_plan_states};

use super::driver::{Driver, MicroBatch};
use super::measure::TriggerTimes;
use crate::environment::Entropy;
use crate::error::Result;
use crate::operators::batch::Batch;
use crate::operators::watermark::EventTimeStats;
use crate::sink::OutputBatch;
use crate::source::Split;
use crate::sql::duplicates::user_rows;

/// What running a batch showed.
pub(super) struct Ran {
    /// Rows read, by source.
    pub(super) input_rows: Vec<u64>,
    /// Rows the sink counted.
    pub(super) output_rows: Option<u64>,
    /// What the first watermark node with rows saw.
    pub(super) event_time: Option<EventTimeStats>,
}

impl Driver {
    /// Reads, computes and stages batch `batch`; moves the watermark by what was seen.
    pub(super) async fn run(&mut self, batch: &MicroBatch, times: &mut TriggerTimes) -> Result<Ran> {
        let since = times.now_us();
        let splits = self.read(batch).await?;
        times.step("getBatch", since);

        let since = times.now_us();
        let watermarks = self.watermarks_of(batch)?;
        for operator in &self.parts.plan.operators {
            operator.begin(batch.id).await?;
        }
        let eviction_ms = watermarks.iter().map(|watermarks| watermarks.evict_ms).collect();
        let seed = Entropy::from_seed(0).fork(&format!("{} {}", self.parts.identity.id, batch.id)).seed();
        let (id, timestamp_ms) = (batch.id, batch.timestamp_ms);
        let run = Batch { id, timestamp_ms, splits, watermarks, seed, ..Batch::default() };
        self.parts.plan.context.begin(run);
        let run = self.parts.plan.context.current();
        let reading = run.unread.begin();
        let plan = Arc::clone(&self.physical);
        times.step("queryPlanning", since);

        let since = times.now_us();
        let partitions = plan.output_partitioning().partition_count();
        let mut outputs = Vec::with_capacity(partitions);
        for partition in 0..partitions {
            let rows = user_rows(plan.execute(partition, Arc::clone(&self.parts.task_context))?);
            // Several partitions work at the same time; one needs no task of its own.
            outputs.push(if partitions > 1 { spawn_buffered(rows, 1) } else { rows });
        }
        let output = OutputBatch { batch_id: batch.id, timestamp_ms: batch.timestamp_ms, partitions: outputs };
        let output_rows = self.parts.sink.write(output).await?;
        reading.to_end().await?;
        times.step("addBatch", since);

        self.physical = reset_plan_states(plan)?;
        self.last_eviction_ms = Some(eviction_ms);
        Ok(self.observe(output_rows))
    }

    /// The input of every leaf: the ranges with news, nothing for the others.
    async fn read(&self, batch: &MicroBatch) -> Result<Vec<Vec<Arc<dyn Split>>>> {
        let plan = &self.parts.plan;
        let mut splits = vec![vec![]; plan.occurrences.len()];
        for leaf in &plan.leaves {
            if let (true, Some(end)) = (batch.has_news(leaf.occurrence), &batch.end[leaf.occurrence]) {
                let source = &self.parts.sources[plan.occurrences[leaf.occurrence]];
                let start = batch.start[leaf.occurrence].as_ref();
                splits[leaf.id] = source.read(start, end, leaf.projection.as_deref()).await?;
            }
        }
        Ok(splits)
    }

    fn observe(&mut self, output_rows: Option<u64>) -> Ran {
        let plan = &self.parts.plan;
        let mut input_rows = vec![0; self.parts.sources.len()];
        for leaf in &plan.leaves {
            input_rows[plan.occurrences[leaf.occurrence]] += leaf.take_rows();
        }
        let seen: Vec<_> = plan.watermark_nodes.iter().map(|node| (node.as_ref(), node.take_seen())).collect();
        let event_time = seen.iter().find_map(|(_, stats)| *stats);
        self.tracker.update(seen);
        Ran { input_rows, output_rows, event_time }
    }
}
