//! One partition's calls in one batch.

use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, new_null_array};
use arrow::compute::{cast, filter_record_batch, interleave};
use arrow::datatypes::{Int64Type, SchemaRef};
use datafusion::error::Result;

use super::sort::{SortedGroups, sort_groups};
use super::{KeyedTask, KeyedWork};
use crate::error::Error;
use crate::groups::{Answers, Calls, Change, GroupStateTimeout, GroupTimes, StateFunction};
use crate::operators::batch::OperatorWatermarks;
use crate::operators::stateful::{OperatorNumbers, StatefulOperator};
use crate::operators::watermark::on_time;
use crate::planted::planted;
use crate::state::{DEFAULT_STORE, SlotRef, StateStore, Until};

/// How many groups are called between two visits of the store.
const GROUPS_AT_ONCE: usize = 4096;

/// What a state without a timeout has as its timestamp, as in Spark.
const NO_TIMESTAMP: i64 = -1;

/// What is called, for which groups.
#[derive(Debug)]
pub(crate) struct StatefulGroups {
    pub(crate) function: StateFunction,
    /// The columns of the rows.
    pub(crate) input: SchemaRef,
    /// The grouping columns, by index.
    pub(crate) keys: Vec<usize>,
    /// The event-time column, by index, if the input has one.
    pub(crate) event_time: Option<usize>,
    /// The grouping columns of the initial states, by index; the state is the last column.
    pub(crate) initial_keys: Vec<usize>,
}

impl KeyedWork for StatefulGroups {
    fn function(&self) -> &dyn fmt::Debug {
        &self.function
    }

    fn output(&self) -> &SchemaRef {
        &self.function.output
    }

    fn run(&self, task: &KeyedTask<'_>, rows: Vec<RecordBatch>, initial: Vec<RecordBatch>) -> Result<Vec<RecordBatch>> {
        let times = GroupTimes {
            timeout: self.function.timeout,
            processing_ms: task.processing_ms(),
            watermark_ms: self.event_time.map(|_| task.watermarks.evict_ms),
        };
        let store = task.operator.store(task.partition, DEFAULT_STORE)?;
        let mut store = store.try_lock().ok_or_else(|| Error::internal("two runs of one partition of state"))?;
        let mut run = PartitionRun::new(self, task.operator, store.as_mut(), task.watermarks, times);
        let timeouts_first = planted("group-timeout-comes-before-the-rows");
        if task.is_stream && timeouts_first {
            run.timeouts()?;
        }
        run.data(rows, initial)?;
        if task.is_stream && !timeouts_first {
            run.timeouts()?;
        }
        Ok(run.finish())
    }
}

/// One partition's work in one batch.
struct PartitionRun<'a> {
    groups: &'a StatefulGroups,
    operator: &'a StatefulOperator,
    store: &'a mut dyn StateStore,
    watermarks: OperatorWatermarks,
    times: GroupTimes,
    numbers: OperatorNumbers,
    outputs: Vec<RecordBatch>,
}

/// Groups as they are in the store before they are called.
struct Kept {
    slots: Vec<SlotRef>,
    states: ArrayRef,
    timeouts: Vec<i64>,
}

impl Kept {
    fn new(slots: Vec<SlotRef>, values: &[ArrayRef]) -> Self {
        let timeouts = match values.get(1) {
            Some(timeouts) => {
                timeouts.as_primitive::<Int64Type>().iter().map(|timeout| timeout.unwrap_or(NO_TIMESTAMP)).collect()
            }
            None => vec![NO_TIMESTAMP; slots.len()],
        };
        Self { slots, states: Arc::clone(&values[0]), timeouts }
    }
}

impl<'a> PartitionRun<'a> {
    fn new(
        groups: &'a StatefulGroups,
        operator: &'a StatefulOperator,
        store: &'a mut dyn StateStore,
        watermarks: OperatorWatermarks,
        times: GroupTimes,
    ) -> Self {
        let numbers = OperatorNumbers::default();
        Self { groups, operator, store, watermarks, times, numbers, outputs: vec![] }
    }

    /// Calls every key that has rows; in the first batch also those that have only an initial state.
    fn data(&mut self, rows: Vec<RecordBatch>, initial: Vec<RecordBatch>) -> Result<()> {
        let started_us = self.operator.clock.monotonic_us();
        let initial_keys = self.put_initial(initial)?;
        let rows = rows.into_iter().map(|rows| self.without_late(rows)).collect::<Result<Vec<_>>>()?;
        if let Some(schema) = rows.first().map(RecordBatch::schema) {
            let sorted = sort_groups(&schema, &rows, &self.groups.keys)?;
            let with_initial = match initial_keys.filter(|_| !self.groups.function.skip_initial_keys) {
                Some(keys) => sorted.with_keys(&keys)?,
                None => sorted,
            };
            self.call_groups(&with_initial)?;
        } else if let Some(keys) = initial_keys.filter(|_| !self.groups.function.skip_initial_keys) {
            self.call_groups(&self.without_rows(&keys))?;
        }
        self.numbers.updates_us += self.operator.clock.monotonic_us().saturating_sub(started_us);
        Ok(())
    }

    /// Groups that have no rows.
    fn without_rows(&self, keys: &[ArrayRef]) -> SortedGroups {
        let groups = keys.first().map_or(1, |key| key.len());
        let rows = RecordBatch::new_empty(Arc::clone(&self.groups.input));
        SortedGroups { keys: keys.to_vec(), rows, ranges: vec![0..0; groups] }
    }

    fn without_late(&mut self, rows: RecordBatch) -> Result<RecordBatch> {
        let is_event_time = self.times.timeout == GroupStateTimeout::EventTimeTimeout
            || planted("group-rows-are-late-without-a-timeout");
        let Some(time) = self.groups.event_time.filter(|_| is_event_time) else { return Ok(rows) };
        let on_time = on_time(rows.column(time), self.watermarks.late_us())?;
        let late = on_time.false_count();
        if late == 0 || planted("group-late-rows-reach-the-function") {
            return Ok(rows);
        }
        self.numbers.dropped_by_watermark += late as u64;
        Ok(filter_record_batch(&rows, &on_time)?)
    }

    /// Puts the initial states in; answers their keys.
    fn put_initial(&mut self, initial: Vec<RecordBatch>) -> Result<Option<Vec<ArrayRef>>> {
        let Some(schema) = initial.first().map(RecordBatch::schema) else { return Ok(None) };
        let sorted = sort_groups(&schema, &initial, &self.groups.initial_keys)?;
        if sorted.ranges.is_empty() {
            return Ok(None);
        }
        if sorted.ranges.iter().any(|range| range.len() > 1) {
            return Err(Error::analysis(
                "The initial state provided contained multiple rows(state) with the same key. Make sure to de-duplicate \
                 the initial state before passing it.",
            )
            .into());
        }
        let state = sorted.rows.column(schema.fields().len() - 1);
        let states = cast(state, &self.groups.function.state)?;
        if states.null_count() > 0 {
            return Err(Error::analysis("'null' is not a valid state value. Leave keys without a state out.").into());
        }
        let mut values = vec![states];
        if self.times.timeout != GroupStateTimeout::NoTimeout {
            values.push(Arc::new(Int64Array::from(vec![NO_TIMESTAMP; sorted.ranges.len()])));
        }
        self.store.put(&sorted.keys, &values, None)?;
        Ok(Some(sorted.keys))
    }

    fn call_groups(&mut self, sorted: &SortedGroups) -> Result<()> {
        let groups = sorted.ranges.len();
        for start in (0..groups).step_by(GROUPS_AT_ONCE) {
            let some = sorted.slice(start..groups.min(start + GROUPS_AT_ONCE));
            let reserved = self.store.reserve(&some.keys)?;
            let kept = Kept::new(reserved.slots, &reserved.found.values);
            self.call(&some, kept, false)?;
        }
        Ok(())
    }

    /// Calls every key whose timeout has passed.
    fn timeouts(&mut self) -> Result<()> {
        let threshold_ms = match self.times.timeout {
            GroupStateTimeout::NoTimeout => return Ok(()),
            GroupStateTimeout::ProcessingTimeTimeout => self.times.processing_ms,
            GroupStateTimeout::EventTimeTimeout if planted("group-timeout-by-the-watermark-before") => {
                self.watermarks.late_ms
            }
            GroupStateTimeout::EventTimeTimeout => self.watermarks.evict_ms,
        };
        let threshold_ms = threshold_ms - i64::from(planted("group-timeout-comes-late"));
        let started_us = self.operator.clock.monotonic_us();
        // Strictly before: a timeout at the watermark itself has not passed.
        let threshold_us = threshold_ms.saturating_mul(1000);
        let until = match planted("group-timeout-at-its-own-instant") {
            true => Until::AtOrBefore(threshold_us),
            false => Until::Before(threshold_us),
        };
        let mut cursor = self.store.expired(until)?;
        loop {
            let first = cursor.next;
            let Some(rows) = self.store.next_rows(&mut cursor)? else { break };
            let kept = Kept::new(cursor.slots[first..cursor.next].to_vec(), &rows.values);
            let groups = self.without_rows(&rows.keys);
            self.call(&groups, kept, true)?;
        }
        self.numbers.removals_us += self.operator.clock.monotonic_us().saturating_sub(started_us);
        Ok(())
    }

    fn call(&mut self, groups: &SortedGroups, kept: Kept, timed_out: bool) -> Result<()> {
        let mut answers = self.groups.function.program.call(&Calls {
            keys: &groups.keys,
            rows: &groups.rows,
            ranges: &groups.ranges,
            states: &kept.states,
            timed_out,
            times: self.times,
        })?;
        if timed_out && planted("group-state-stays-after-its-timeout") {
            answers.changes.fill(Change::Kept);
        }
        self.store_answers(&kept, &answers)?;
        if answers.output.num_rows() > 0 {
            self.outputs.push(answers.output);
        }
        Ok(())
    }

    /// State is removed only without a timeout; it is written if it, or its timeout, changed (`spec/04` section 5).
    fn store_answers(&mut self, kept: &Kept, answers: &Answers) -> Result<()> {
        let (mut removed, mut put, mut put_timeouts, mut sources) = (vec![], vec![], vec![], vec![]);
        let mut updated = 0;
        for (group, slot) in kept.slots.iter().enumerate() {
            let (change, timeout) = (answers.changes[group], answers.timeouts[group]);
            let source = match change {
                Change::Kept => (0, group),
                Change::Updated => (1, updated),
                Change::Removed => (2, 0),
            };
            updated += usize::from(change == Change::Updated);
            let not_set = match planted("group-timeout-outlives-the-call") {
                true => kept.timeouts[group],
                false => NO_TIMESTAMP,
            };
            let timeout_ms = timeout.unwrap_or(not_set);
            let is_removed = timeout.is_none() || planted("group-timeout-goes-with-the-state");
            let timeout_changed = timeout_ms != kept.timeouts[group] && !planted("group-timeout-alone-is-not-kept");
            if change == Change::Removed && is_removed {
                removed.push(*slot);
            } else if change != Change::Kept || timeout_changed {
                put.push(*slot);
                put_timeouts.push(timeout_ms);
                sources.push(source);
            }
        }
        if !planted("group-removed-state-comes-back") {
            self.store.remove_slots(&removed)?;
        }
        self.numbers.removed += removed.len() as u64;
        self.numbers.updated += put.len() as u64;
        if put.is_empty() {
            return Ok(());
        }
        let none = new_null_array(&self.groups.function.state, 1);
        let states = [kept.states.as_ref(), answers.updated.as_ref(), none.as_ref()];
        let mut values = vec![interleave(&states, &sources)?];
        if self.times.timeout == GroupStateTimeout::NoTimeout {
            return Ok(self.store.put_slots(&put, &values, None)?);
        }
        let expires = |ms: &i64| (*ms != NO_TIMESTAMP).then(|| ms.saturating_mul(1000));
        let expiry: Int64Array = put_timeouts.iter().map(expires).collect();
        values.push(Arc::new(Int64Array::from(put_timeouts)));
        Ok(self.store.put_slots(&put, &values, Some(&expiry))?)
    }

    /// Reports the numbers; answers the rows of the result.
    fn finish(self) -> Vec<RecordBatch> {
        self.operator.count(self.numbers);
        self.outputs
    }
}
