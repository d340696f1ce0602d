//! The promise: `offsets/N` says what batch N reads, before anything runs. Then the sources may forget batch N-1.

use super::driver::{Driver, MicroBatch};
use super::measure::TriggerTimes;
use crate::checkpoint::OffsetEntry;
use crate::error::{Error, Result};
use crate::planted::planted;
use crate::state::{record_operator, record_operators};

impl Driver {
    /// Writes `offsets/N` (unless an earlier run did), commits batch N-1 to the sources, and purges old log entries.
    pub(super) async fn promise(&mut self, batch: &MicroBatch, times: &mut TriggerTimes) -> Result<()> {
        if !batch.promised {
            self.log_promise(batch, times).await?;
        }
        if batch.id == 0 {
            // Not before the promise: a checkpoint with state and without a promise is one that somebody damaged.
            let specs: Vec<_> = self.parts.plan.operators.iter().map(|operator| operator.spec.clone()).collect();
            record_operators(&self.parts.checkpoint.state_folder(), &specs).await?;
        }
        for changed in std::mem::take(&mut self.parts.changed_operators) {
            let state = self.parts.checkpoint.state_folder();
            record_operator(&state, &changed.spec, &changed.ended).await?;
        }
        Ok(())
    }

    async fn log_promise(&mut self, batch: &MicroBatch, times: &mut TriggerTimes) -> Result<()> {
        let since = times.now_us();
        let entry = OffsetEntry {
            batch_watermark_ms: batch.watermark_ms,
            batch_timestamp_ms: batch.timestamp_ms,
            conf: self.parts.logged_conf.clone(),
            offsets: batch.end.clone(),
        };
        self.parts.checkpoint.offsets.add(batch.id, &entry).await?;
        if batch.id > 0 {
            self.release(batch).await?;
        }
        let retain = self.parts.settings.min_batches_to_retain;
        let retain = if planted("logs-are-purged-too-far") { retain - 1 } else { retain };
        if batch.id > retain {
            self.parts.checkpoint.offsets.purge_before(batch.id - retain).await?;
            self.parts.checkpoint.commits.purge_before(batch.id - retain).await?;
        }
        times.step("walCommit", since);
        Ok(())
    }

    /// Batch N is promised, so what batch N-1 read is never asked for again.
    async fn release(&mut self, batch: &MicroBatch) -> Result<()> {
        for (index, source) in self.parts.sources.iter().enumerate() {
            let occurrence = self.parts.plan.occurrences.iter().position(|of| *of == index);
            let occurrence = occurrence.ok_or_else(|| Error::internal("a source without an occurrence in the plan"))?;
            let ends = if planted("sources-forget-a-batch-too-early") { &batch.end } else { &batch.start };
            if let Some(end) = &ends[occurrence] {
                source.commit(end).await?;
            }
        }
        Ok(())
    }
}
