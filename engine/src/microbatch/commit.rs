//! Making a batch count: state first, then the sink, then `commits/N`; and the report about it.

use std::collections::BTreeMap;

use futures::future::try_join_all;

use super::driver::{Driver, MicroBatch, Triggered};
use super::execute::Ran;
use super::measure::TriggerTimes;
use crate::checkpoint::CommitEntry;
use crate::error::Result;
use crate::planted::planted;
use crate::progress::{SinkProgress, SourceProgress, StateOperatorProgress, StreamingQueryProgress, iso_millis};
use crate::source::Offset;

impl Driver {
    /// Makes version N+1 of the state durable, and then the rows of batch N visible. A crash in between is answered by running
    /// batch N again: version N+1 is overwritten with the same content, and the sink makes the batch visible once.
    pub(super) async fn commit(&mut self, batch: &MicroBatch, times: &mut TriggerTimes) -> Result<()> {
        let since = times.now_us();
        if planted("done-before-the-state") {
            self.done_entry(batch).await?;
        }
        let reports = try_join_all(self.parts.plan.operators.iter().map(|operator| operator.commit())).await?;
        self.last_operators = reports;
        if planted("done-before-the-sink") {
            self.done_entry(batch).await?;
        }
        self.parts.sink.commit(batch.id).await?;
        times.step("addBatch", since);
        Ok(())
    }

    /// Writes `commits/N` with the watermark of the next batch. From here on batch N has happened.
    pub(super) async fn done(&mut self, batch: &MicroBatch, times: &mut TriggerTimes) -> Result<()> {
        let since = times.now_us();
        if !planted("done-before-the-sink") && !planted("done-before-the-state") {
            self.done_entry(batch).await?;
        }
        times.step("commitOffsets", since);
        for operator in &self.parts.plan.operators {
            operator.maintain(self.parts.settings.min_batches_to_retain).await?;
        }
        self.previous_watermark_ms = batch.watermark_ms;
        self.start = batch.end.clone();
        self.next_batch_id = batch.id + 1;
        Ok(())
    }

    async fn done_entry(&mut self, batch: &MicroBatch) -> Result<()> {
        let stale = planted("commit-entry-has-the-old-watermark");
        let next_batch_watermark_ms = if stale { batch.watermark_ms } else { self.tracker.current_ms() };
        self.parts.checkpoint.commits.add(batch.id, &CommitEntry { next_batch_watermark_ms }).await
    }

    /// The report of a batch.
    pub(super) fn report(&mut self, batch: MicroBatch, ran: Ran, times: TriggerTimes) -> StreamingQueryProgress {
        let mut event_time = BTreeMap::new();
        if let Some(stats) = ran.event_time {
            event_time.insert("avg", iso_millis(stats.avg_ms()));
            event_time.insert("max", iso_millis(stats.max_ms));
            event_time.insert("min", iso_millis(stats.min_ms));
        }
        let output_rows = ran.output_rows.map_or(-1, |rows| rows as i64);
        let report = self.progress(batch, &ran.input_rows, output_rows, event_time, &times);
        self.previous_trigger_us = Some(times.started_wall_us);
        self.last_steps_us.clone_from(times.steps_us());
        report
    }

    /// The report of a trigger that found nothing to do.
    pub(super) fn idle(&mut self, times: TriggerTimes, latest: Vec<Option<Offset>>) -> Triggered {
        for operator in &mut self.last_operators {
            operator.num_rows_updated = 0;
            operator.num_rows_dropped_by_watermark = 0;
        }
        let batch = MicroBatch {
            id: self.next_batch_id,
            start: self.start.clone(),
            end: self.start.clone(),
            latest,
            watermark_ms: self.tracker.current_ms(),
            timestamp_ms: 0,
            promised: false,
        };
        let nothing = vec![0; self.parts.sources.len()];
        let report = self.progress(batch, &nothing, 0, BTreeMap::new(), &times);
        self.previous_trigger_us = Some(times.started_wall_us);
        Triggered::Idle(Box::new(report))
    }

    fn progress(
        &self,
        batch: MicroBatch,
        input_rows: &[u64],
        num_output_rows: i64,
        mut event_time: BTreeMap<&'static str, String>,
        times: &TriggerTimes,
    ) -> StreamingQueryProgress {
        if self.parts.plan.has_watermark {
            event_time.insert("watermark", iso_millis(batch.watermark_ms));
        }
        let elapsed_ms = times.elapsed_ms();
        let since_previous_s =
            self.previous_trigger_us.map_or(f64::INFINITY, |before| (times.started_wall_us - before) as f64 / 1e6);
        let took_s = elapsed_ms.max(1) as f64 / 1e3;
        let source = |(index, rows): (usize, &u64)| {
            let occurrence = self.parts.plan.occurrences.iter().position(|of| *of == index).unwrap_or_default();
            SourceProgress {
                description: self.parts.sources[index].describe(),
                start_offset: batch.start[occurrence].clone(),
                end_offset: batch.end[occurrence].clone(),
                latest_offset: batch.latest[occurrence].clone(),
                num_input_rows: *rows,
                input_rows_per_second: *rows as f64 / since_previous_s,
                processed_rows_per_second: *rows as f64 / took_s,
            }
        };
        let rows: u64 = input_rows.iter().sum();
        StreamingQueryProgress {
            id: self.parts.identity.id.clone(),
            run_id: self.parts.identity.run_id.clone(),
            name: self.parts.identity.name.clone(),
            timestamp: iso_millis(times.started_wall_us.div_euclid(1000)),
            batch_id: batch.id,
            batch_duration: elapsed_ms,
            num_input_rows: rows,
            input_rows_per_second: rows as f64 / since_previous_s,
            processed_rows_per_second: rows as f64 / took_s,
            duration_ms: times.durations_ms(),
            event_time,
            state_operators: self.operators_from_sink(),
            sources: input_rows.iter().enumerate().map(source).collect(),
            sink: SinkProgress { description: self.parts.sink.describe(), num_output_rows },
        }
    }

    /// The last operator of the pipeline first, as Spark reports them. Empty before the first batch.
    fn operators_from_sink(&self) -> Vec<StateOperatorProgress> {
        let order = self.parts.plan.propagation.operators_from_sink();
        order.into_iter().filter_map(|id| self.last_operators.get(id).cloned()).collect()
    }
}
