//! Choosing what the next batch is: nothing durable happens here.

use super::driver::{Driver, MicroBatch};
use super::measure::TriggerTimes;
use super::trigger::Trigger;
use crate::error::Result;
use crate::operators::stateful::NoDataBatch;
use crate::planted::planted;
use crate::source::{Offset, ReadLimit};

/// What a trigger chose.
pub(super) enum Chosen {
    /// A batch to run.
    Batch(MicroBatch),
    /// Nothing; the newest offsets that were asked for.
    Nothing(Vec<Option<Offset>>),
}

impl Driver {
    /// The promised batch of an earlier run, else a batch with what is new, else a batch without data if a watermark
    /// calls for one, else nothing.
    pub(super) async fn choose(&mut self, times: &mut TriggerTimes) -> Result<Chosen> {
        if let Some(mut unfinished) = self.unfinished.take() {
            if planted("rerun-asks-the-clock") {
                unfinished.timestamp_ms = self.parts.environment.clock.now_us().div_euclid(1000);
            }
            if planted("rerun-asks-the-sources") {
                let limited = std::mem::replace(&mut self.one_batch_only, true);
                unfinished.end = self.ask_sources().await?.0;
                self.one_batch_only = limited;
            }
            if planted("rerun-with-the-watermark-before") {
                unfinished.watermark_ms = self.previous_watermark_ms;
            }
            return Ok(Chosen::Batch(unfinished));
        }
        let since = times.now_us();
        let (end, latest) = self.ask_sources().await?;
        times.step("latestOffset", since);
        let batch = MicroBatch {
            id: self.next_batch_id,
            start: self.start.clone(),
            end,
            latest,
            watermark_ms: self.tracker.current_ms(),
            // After the sources were asked: rows that are in the batch are not newer than its timestamp.
            timestamp_ms: self.parts.environment.clock.now_us().div_euclid(1000),
            promised: false,
        };
        if batch.has_data() || self.needs_no_data_batch(&batch)? {
            Ok(Chosen::Batch(batch))
        } else {
            Ok(Chosen::Nothing(batch.latest))
        }
    }

    /// How far the batch goes, and the newest offsets known, by occurrence.
    async fn ask_sources(&self) -> Result<(Vec<Option<Offset>>, Vec<Option<Offset>>)> {
        let limit = match self.parts.settings.trigger {
            Trigger::Once => ReadLimit::AllAvailable,
            _ if self.one_batch_only => ReadLimit::AllAvailable,
            _ => ReadLimit::Default,
        };
        let (mut ends, mut newest) = (vec![], vec![]);
        for (index, source) in self.parts.sources.iter().enumerate() {
            let start =
                self.parts.plan.occurrences.iter().position(|of| *of == index).and_then(|o| self.start[o].as_ref());
            let end = source.latest_offset(start, limit).await?;
            newest.push(source.report_latest_offset().await.or_else(|| end.clone()));
            // No answer leaves the previous entry untouched.
            ends.push(end.or_else(|| start.cloned()));
        }
        let by_occurrence = |of_sources: &[Option<Offset>]| {
            self.parts.plan.occurrences.iter().map(|s| of_sources[*s].clone()).collect()
        };
        Ok((by_occurrence(&ends), by_occurrence(&newest)))
    }

    /// Whether an operator of the batch that ran before in this run wants another one although there is no data.
    fn needs_no_data_batch(&self, batch: &MicroBatch) -> Result<bool> {
        if planted("no-batch-without-data")
            || !self.parts.settings.no_data_batches
            || self.parts.settings.trigger == Trigger::Once
        {
            return Ok(false);
        }
        let zeros = vec![0; self.parts.plan.operators.len()];
        let first = planted("restart-begins-with-a-batch-without-data").then_some(&zeros);
        let Some(used) = self.last_eviction_ms.as_ref().or(first) else { return Ok(false) };
        let watermarks = self.watermarks_of(batch)?;
        Ok(self.parts.plan.operators.iter().any(|operator| match operator.wants {
            NoDataBatch::WhenWatermarkRose if planted("batches-without-data-without-end") => true,
            NoDataBatch::WhenWatermarkRose => watermarks[operator.id].evict_ms > used[operator.id],
            // A run over what is there now would never end.
            NoDataBatch::Always => self.parts.settings.trigger != Trigger::AvailableNow,
            NoDataBatch::Never => false,
        }))
    }
}
