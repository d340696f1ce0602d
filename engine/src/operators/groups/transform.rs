//! transformWithState: a user's processor is called for each key of a batch and for each timer whose time has come.
//!
//! Per partition: late rows go (in event time), rows are sorted by key, the processor is called for initial rows (batch
//! 0), for groups in order of key, for timers in order of time; what has outlived its lifetime leaves. State: one store
//! per variable, and one for timers.
//!
//! The full version has to handle: everything that `groups/mod.rs` lists, timers in the past (they fire in the same
//! batch) and registered within timer calls (in the next), several timers of a key at once, deleted timers, rows that
//! are older than the watermark where the result has event time (an error), and variables that come, go and come back
//! between runs (`spec/04` section 6).

use std::fmt;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{SchemaRef, TimestampMicrosecondType};
use datafusion::error::Result;

use super::sort::{SortedGroups, sort_groups};
use super::{KeyedTask, KeyedWork};
use crate::error::Error;
use crate::groups::{GroupRows, TimeMode, TimerValues, TransformFunction, TransformRun};
use crate::operators::batch::OperatorWatermarks;
use crate::operators::stateful::{OperatorNumbers, StatefulOperator};
use crate::operators::watermark::on_time;
use crate::planted::planted;

/// How many groups are called before what they wrote goes to the stores.
const GROUPS_AT_ONCE: usize = 4096;

/// What is called, for which groups.
#[derive(Debug)]
pub(crate) struct TransformGroups {
    pub(crate) function: TransformFunction,
    /// The grouping columns, by index.
    pub(crate) keys: Vec<usize>,
    /// The event-time column, by index, if the input has one.
    pub(crate) event_time: Option<usize>,
    /// The grouping columns of the initial rows, by index.
    pub(crate) initial_keys: Vec<usize>,
}

impl KeyedWork for TransformGroups {
    fn function(&self) -> &dyn fmt::Debug {
        &self.function
    }

    fn output(&self) -> &SchemaRef {
        &self.function.output
    }

    fn run(&self, task: &KeyedTask<'_>, rows: Vec<RecordBatch>, initial: Vec<RecordBatch>) -> Result<Vec<RecordBatch>> {
        let (operator, watermarks) = (task.operator, task.watermarks);
        let times = TimerValues { processing_ms: task.processing_ms(), watermark_ms: watermarks.evict_ms };
        let stores = |name: &str| operator.store(task.partition, name);
        let run = self.function.program.open(task.batch.id, times, &stores)?;
        let numbers = OperatorNumbers::default();
        let partition = PartitionRun { groups: self, operator, run, times, watermarks, numbers, outputs: vec![] };
        partition.run(rows, initial)
    }
}

/// One partition's work in one batch.
struct PartitionRun<'a> {
    groups: &'a TransformGroups,
    operator: &'a StatefulOperator,
    run: Box<dyn TransformRun + 'a>,
    times: TimerValues,
    watermarks: OperatorWatermarks,
    numbers: OperatorNumbers,
    outputs: Vec<RecordBatch>,
}

impl PartitionRun<'_> {
    fn run(mut self, rows: Vec<RecordBatch>, initial: Vec<RecordBatch>) -> Result<Vec<RecordBatch>> {
        let started_us = self.operator.clock.monotonic_us();
        if let Some(sorted) = sorted(initial, &self.groups.initial_keys)? {
            for some in in_parts(&sorted) {
                self.run.initial(&group_rows(&some))?;
            }
        }
        let rows = rows.into_iter().map(|rows| self.without_late(rows)).collect::<Result<Vec<_>>>()?;
        if let Some(sorted) = sorted(rows, &self.groups.keys)? {
            for some in in_parts(&sorted) {
                let output = self.run.input(&group_rows(&some))?;
                self.outputs.push(output);
            }
        }
        match self.groups.function.time_mode {
            TimeMode::None => (),
            TimeMode::ProcessingTime => self.run.timers(self.times.processing_ms, &mut self.outputs)?,
            TimeMode::EventTime if planted("timer-by-the-watermark-before") => {
                self.run.timers(self.watermarks.late_ms, &mut self.outputs)?
            }
            TimeMode::EventTime => self.run.timers(self.times.watermark_ms, &mut self.outputs)?,
        }
        let called_us = self.operator.clock.monotonic_us();
        self.numbers.updates_us += called_us.saturating_sub(started_us);
        let numbers = self.run.finish()?;
        self.numbers.removals_us += self.operator.clock.monotonic_us().saturating_sub(called_us);
        self.numbers.updated += numbers.variables.updated;
        self.numbers.removed += numbers.variables.removed;
        self.numbers.transform = Some(numbers);
        self.outputs.retain(|output| output.num_rows() > 0);
        self.outputs.iter().try_for_each(|output| self.check_event_time(output))?;
        self.operator.count(self.numbers);
        Ok(self.outputs)
    }

    fn without_late(&mut self, rows: RecordBatch) -> Result<RecordBatch> {
        let is_event_time = self.groups.function.time_mode == TimeMode::EventTime;
        let Some(time) = self.groups.event_time.filter(|_| is_event_time) else { return Ok(rows) };
        let on_time = on_time(rows.column(time), self.watermarks.late_us())?;
        let late = on_time.false_count();
        if late == 0 || planted("group-late-rows-reach-the-processor") {
            return Ok(rows);
        }
        self.numbers.dropped_by_watermark += late as u64;
        Ok(filter_record_batch(&rows, &on_time)?)
    }

    /// Rows of a result with event time may not be late for what comes after.
    fn check_event_time(&self, output: &RecordBatch) -> Result<()> {
        let Some(column) = self.groups.function.event_time else { return Ok(()) };
        let on_time = on_time(output.column(column), self.watermarks.late_us())?;
        let Some(late) = (0..on_time.len()).find(|row| on_time.is_valid(*row) && !on_time.value(*row)) else {
            return Ok(());
        };
        let time_us = output.column(column).as_primitive::<TimestampMicrosecondType>().value(late);
        Err(Error::analysis_class(
            "EMITTING_ROWS_OLDER_THAN_WATERMARK_NOT_ALLOWED",
            format!(
                "Previous node emitted a row with eventTime={} which is older than current_watermark_value={}. This can \
                 lead to correctness issues in the stateful operators downstream in the execution pipeline. Please correct \
                 the operator logic to emit rows after current global watermark value.",
                time_us.div_euclid(1000),
                self.watermarks.late_ms
            ),
        )
        .into())
    }
}

fn sorted(rows: Vec<RecordBatch>, keys: &[usize]) -> Result<Option<SortedGroups>> {
    match rows.first().map(RecordBatch::schema) {
        Some(schema) => sort_groups(&schema, &rows, keys).map(Some),
        None => Ok(None),
    }
}

fn in_parts(sorted: &SortedGroups) -> impl Iterator<Item = SortedGroups> + '_ {
    let groups = sorted.ranges.len();
    (0..groups).step_by(GROUPS_AT_ONCE).map(move |start| sorted.slice(start..groups.min(start + GROUPS_AT_ONCE)))
}

fn group_rows(sorted: &SortedGroups) -> GroupRows<'_> {
    GroupRows { keys: &sorted.keys, rows: &sorted.rows, ranges: &sorted.ranges }
}
