//! Session windows over a stream: initial sessions of this batch meet the open sessions of their keys.
//!
//! Per partition and batch: late sessions go, the batch's keys are numbered, their open sessions are read back, all are
//! merged in order of start, the changed ones are put, sessions whose start disappeared are removed, and what the output
//! mode asks for is emitted. State: (keys, session start) -> (session end, partial states), expiring at the end.
//!
//! The full version has to handle: late rows (each by its own initial session, in complete mode too), a new row that
//! touches several open sessions or begins before one, gaps that differ from row to row, sessions that are created and
//! evicted in one batch, null, NaN and -0.0 keys, a query without a watermark (complete mode), aggregates that depend on
//! order (sessions are merged in order of start), any number of open sessions of one key, several state partitions, and
//! a batch plan that is run twice (`spec/03` section 3).

use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, TimestampMicrosecondArray, UInt32Array};
use arrow::compute::{interleave, take_arrays};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimestampMicrosecondType};
use datafusion::common::{internal_datafusion_err, internal_err};
use datafusion::error::Result;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::EmitTo;
use datafusion::physical_plan::ExecutionPlan;
use futures::TryStreamExt;

use super::aggregate::{Aggregation, NumberedGroups, number_groups, without_late};
use super::batch::OperatorWatermarks;
use super::expiry::{at_event_time, expire_old};
use super::stateful::{OperatorNumbers, StatefulOperator};
use super::stateful_exec::{StatefulRows, StatefulTask, StatefulWork, answer_once};
use crate::functions::session_assign::session_array;
use crate::functions::session_merge::{Sessions, merge_sessions};
use crate::planted::planted;
use crate::sink::OutputMode;
use crate::state::{Cursor, SlotRef, StateRows, StateSchema, StateStore, StoreSpec, Until};

/// What is aggregated by session.
#[derive(Debug)]
pub struct SessionAggregation {
    /// The functions and all grouping columns.
    pub aggregation: Aggregation,
    /// Which grouping column is the session; there is at least one other.
    pub session: usize,
}

impl SessionAggregation {
    /// The grouping columns without the session, by index.
    pub fn other_keys(&self) -> Vec<usize> {
        (0..self.aggregation.keys.len()).filter(|key| *key != self.session).collect()
    }

    fn other_fields(&self) -> Vec<Arc<Field>> {
        self.other_keys().into_iter().map(|key| Arc::clone(&self.aggregation.keys[key])).collect()
    }

    /// The type of a session's start and end.
    fn time_type(&self) -> Result<&DataType> {
        match self.aggregation.keys[self.session].data_type() {
            DataType::Struct(fields) if fields.len() == 2 => Ok(fields[0].data_type()),
            other => internal_err!("a session window is a struct and not {other}"),
        }
    }

    /// The store: looked up by the keys without the session start.
    pub fn store_spec(&self) -> Result<StoreSpec> {
        let whole = self.aggregation.state_schema()?;
        let time =
            |name| Ok::<_, datafusion::error::DataFusionError>(Field::new(name, self.time_type()?.clone(), false));
        let mut keys: Vec<Arc<Field>> =
            self.other_keys().into_iter().map(|key| whole.key.fields()[key].clone()).collect();
        let prefix_columns = keys.len();
        keys.push(Arc::new(time("session_start")?));
        let mut values = vec![Arc::new(time("session_end")?)];
        values.extend(whole.value.fields().iter().cloned());
        let schema = StateSchema::new(Arc::new(Schema::new(keys)), Arc::new(Schema::new(values)))?;
        Ok(StoreSpec { prefix_columns, ..StoreSpec::default_store(schema) })
    }

    /// When each session leaves: at its end, or at another key if that is event time.
    fn expiry(&self, entry_keys: &[ArrayRef], ends: &ArrayRef) -> Result<Int64Array> {
        let times = match self.aggregation.event_time_key {
            None => return Ok(Int64Array::new_null(ends.len())),
            Some(key) if key == self.session => Arc::clone(ends),
            Some(key) => Arc::clone(&entry_keys[key - usize::from(key > self.session)]),
        };
        at_event_time(&times)
    }
}

/// Merges a batch's initial sessions into the open ones.
impl StatefulWork for SessionAggregation {
    fn node_name(&self) -> &'static str {
        "StateSessionExec"
    }

    fn describe(&self, _inputs: &[Arc<dyn ExecutionPlan>], f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.aggregation.functions.iter().map(|function| function.name()).collect();
        write!(f, "mode={} aggr=[{}]", self.aggregation.mode, names.join(", "))
    }

    fn run(self: Arc<Self>, task: StatefulTask, mut inputs: Vec<SendableRecordBatchStream>) -> Result<StatefulRows> {
        let input = inputs.remove(0);
        Ok(answer_once(async move {
            let partials: Vec<RecordBatch> = input.try_collect().await?;
            let store = task.store()?;
            let mut store = store.lock().await;
            let mut run = PartitionRun {
                sessions: &self,
                operator: &task.operator,
                store: store.as_mut(),
                watermarks: task.watermarks(),
                schema: &task.schema,
                is_first_batch: task.is_first_batch(),
                numbers: OperatorNumbers::default(),
            };
            let out = run.run(partials)?;
            task.operator.count(run.numbers);
            Ok(out)
        }))
    }
}

/// One partition's work in one batch.
struct PartitionRun<'a> {
    sessions: &'a SessionAggregation,
    operator: &'a StatefulOperator,
    store: &'a mut dyn StateStore,
    watermarks: OperatorWatermarks,
    schema: &'a SchemaRef,
    is_first_batch: bool,
    numbers: OperatorNumbers,
}

impl PartitionRun<'_> {
    fn run(&mut self, partials: Vec<RecordBatch>) -> Result<Vec<RecordBatch>> {
        let started_us = self.operator.clock.monotonic_us();
        let aggregation = &self.sessions.aggregation;
        if aggregation.event_time_key.is_some() {
            expire_old(self.is_first_batch, self.store, |rows| self.sessions.expiry(&rows.keys, &rows.values[0]))?;
        }
        let partials = match aggregation.event_time_key {
            // Unlike other aggregations in complete mode, too.
            Some(key) if !planted("session-takes-late-rows") => {
                let (kept, late_count) = without_late(partials, key, self.watermarks.late_us())?;
                self.numbers.dropped_by_watermark += late_count;
                kept
            }
            _ => partials,
        };
        self.merge(&partials)?;
        let merged_us = self.operator.clock.monotonic_us();
        self.numbers.updates_us += merged_us.saturating_sub(started_us);
        match aggregation.mode {
            OutputMode::Append => {
                let evicted = self.evict()?;
                self.numbers.removals_us += self.operator.clock.monotonic_us().saturating_sub(merged_us);
                self.emit(evicted)
            }
            OutputMode::Complete => self.emit(self.store.scan()?),
            OutputMode::Update => internal_err!("session windows were planned in update mode"),
        }
    }

    /// Brings the sessions of the batch's keys up to date.
    fn merge(&mut self, partials: &[RecordBatch]) -> Result<()> {
        let others = self.sessions.other_keys();
        let columns = partials.iter().map(|partial| take_columns(partial, &others)).collect();
        let NumberedGroups { keys, count, groups_of } = number_groups(&self.sessions.other_fields(), columns)?;
        if count == 0 {
            return Ok(());
        }
        let kept = Kept::read(self.store, &keys)?;
        let rows = Rows::gather(&kept, partials, self.sessions.session, &groups_of)?;
        let merged = merge_sessions(&rows.keys, &rows.starts, &rows.ends);
        // All sessions of touched keys count, also those that stay as they are, as in Spark.
        self.numbers.updated += merged.count() as u64;
        let vanished = rows.vanished(&kept, &merged);
        let vanished = if planted("session-swallowed-ones-stay") { vec![] } else { vanished };
        self.numbers.removed += self.store.remove_slots(&vanished)? as u64;

        let changed = Changed::of(&merged, kept.slots.len());
        let states = self.merged_states(&changed, &kept, partials)?;
        self.put(&keys, &merged, &changed, states)
    }

    /// The states of the changed sessions, merged in order of start.
    fn merged_states(&self, changed: &Changed, kept: &Kept, partials: &[RecordBatch]) -> Result<Vec<ArrayRef>> {
        let rows: Vec<(usize, usize)> = {
            let lengths =
                kept.batches.iter().map(StateRows::rows_count).chain(partials.iter().map(RecordBatch::num_rows));
            let positions: Vec<(usize, usize)> =
                lengths.enumerate().flat_map(|(batch, rows)| (0..rows).map(move |row| (batch, row))).collect();
            changed.rows.iter().map(|row| positions[*row as usize]).collect()
        };
        let aggregation = &self.sessions.aggregation;
        let sessions = changed.sessions.len();
        // Where the state at hand starts in the kept values (after the session's end), and in the partial rows.
        let (mut at_kept, mut at_partial) = (1, aggregation.keys.len());
        let mut states = vec![];
        for mut accumulating in aggregation.accumulators()? {
            let mut columns = Vec::with_capacity(accumulating.width);
            for column in 0..accumulating.width {
                let of_kept = kept.batches.iter().map(|batch| batch.values[at_kept + column].as_ref());
                let of_partials = partials.iter().map(|partial| partial.column(at_partial + column).as_ref());
                columns.push(interleave(&of_kept.chain(of_partials).collect::<Vec<_>>(), &rows)?);
            }
            accumulating.accumulator.merge_batch(&columns, &changed.session_of, sessions)?;
            states.extend(accumulating.accumulator.state(EmitTo::All)?);
            at_kept += accumulating.width;
            at_partial += accumulating.width;
        }
        Ok(states)
    }

    fn put(&mut self, keys: &[ArrayRef], merged: &Sessions, changed: &Changed, states: Vec<ArrayRef>) -> Result<()> {
        let of_changed = |times: &[i64]| changed.sessions.iter().map(|session| times[*session as usize]).collect();
        let (starts, ends): (Vec<i64>, Vec<i64>) = (of_changed(&merged.starts), of_changed(&merged.ends));
        let keys_of = UInt32Array::from_iter_values(changed.sessions.iter().map(|at| merged.keys[*at as usize]));
        let mut entry_keys = take_arrays(keys, &keys_of, None)?;
        entry_keys.push(self.times(starts)?);
        let mut values = vec![self.times(ends)?];
        values.extend(states);
        let expiry = self.sessions.expiry(&entry_keys, &values[0])?;
        Ok(self.store.put(&entry_keys, &values, Some(&expiry))?)
    }

    fn times(&self, times: Vec<i64>) -> Result<ArrayRef> {
        let data_type = self.sessions.time_type()?.clone();
        Ok(Arc::new(TimestampMicrosecondArray::from(times).with_data_type(data_type)))
    }

    fn evict(&mut self) -> Result<Cursor> {
        if self.sessions.aggregation.event_time_key.is_none() {
            return Ok(Cursor::default());
        }
        let until_us =
            self.watermarks.evict_us() + if planted("session-leaves-before-its-end") { 3_000_000 } else { 0 };
        let evicted = self.store.evict(Until::AtOrBefore(until_us))?;
        self.numbers.removed += evicted.remaining() as u64;
        Ok(evicted)
    }

    fn emit(&self, mut sessions: Cursor) -> Result<Vec<RecordBatch>> {
        let mut out = vec![];
        while let Some(rows) = self.store.next_rows(&mut sessions)? {
            let field = &self.sessions.aggregation.keys[self.sessions.session];
            let count = rows.rows_count();
            let mut columns = rows.keys;
            let starts = columns.pop().ok_or_else(|| internal_datafusion_err!("a session has a start"))?;
            let session = session_array(field, micros(&starts), micros(&rows.values[0]))?;
            columns.insert(self.sessions.session, session);
            columns.extend(self.sessions.aggregation.finish(&rows.values[1..], count)?);
            out.push(RecordBatch::try_new(Arc::clone(self.schema), columns)?);
        }
        Ok(out)
    }
}

/// The open sessions of the batch's keys.
struct Kept {
    slots: Vec<SlotRef>,
    /// For each of them the number of its key.
    keys: Vec<u32>,
    /// Their entries, in the same order.
    batches: Vec<StateRows>,
}

impl Kept {
    fn read(store: &dyn StateStore, keys: &[ArrayRef]) -> Result<Self> {
        let mut matches = store.prefix_scan(keys)?;
        let mut batches = vec![];
        while let Some(rows) = store.next_rows(&mut matches.cursor)? {
            batches.push(rows);
        }
        Ok(Self { slots: matches.cursor.slots, keys: matches.prefix_rows, batches })
    }
}

/// The sessions to be merged: first the kept ones, then those of the batch.
struct Rows {
    keys: Vec<u32>,
    starts: Vec<i64>,
    ends: Vec<i64>,
}

impl Rows {
    fn gather(kept: &Kept, partials: &[RecordBatch], session: usize, groups_of: &[Vec<usize>]) -> Result<Self> {
        let mut rows = Self { keys: kept.keys.clone(), starts: vec![], ends: vec![] };
        for batch in &kept.batches {
            let start = batch.keys.last().ok_or_else(|| internal_datafusion_err!("a session has a start"))?;
            rows.starts.extend(micros(start));
            rows.ends.extend(micros(&batch.values[0]));
        }
        for (partial, groups) in partials.iter().zip(groups_of) {
            let initial = partial.column(session).as_struct();
            rows.keys.extend(groups.iter().map(|group| *group as u32));
            rows.starts.extend(micros(initial.column(0)));
            rows.ends.extend(micros(initial.column(1)));
        }
        if rows.keys.len() != rows.starts.len() || u32::try_from(rows.keys.len()).is_err() {
            return internal_err!("{} keys and {} sessions of a batch", rows.keys.len(), rows.starts.len());
        }
        Ok(rows)
    }

    /// Kept sessions whose start is no longer one: they were merged into a session that began before.
    fn vanished(&self, kept: &Kept, merged: &Sessions) -> Vec<SlotRef> {
        let with_session = merged.order.iter().zip(&merged.session_of);
        with_session
            .filter(|(row, session)| {
                let row = **row as usize;
                row < kept.slots.len() && self.starts[row] != merged.starts[**session as usize]
            })
            .map(|(row, _)| kept.slots[*row as usize])
            .collect()
    }
}

/// What has to be merged and put: all but kept sessions that nothing touched.
struct Changed {
    /// The changed sessions, by number.
    sessions: Vec<u32>,
    /// The rows they are made of, in order.
    rows: Vec<u32>,
    /// For each of `rows` its session, as an index into `sessions`.
    session_of: Vec<usize>,
}

impl Changed {
    /// The first `kept_count` rows are the kept ones.
    fn of(merged: &Sessions, kept_count: usize) -> Self {
        let mut changed = Self { sessions: vec![], rows: vec![], session_of: vec![] };
        let mut start = 0;
        while start < merged.order.len() {
            let session = merged.session_of[start];
            let length = merged.session_of[start..].iter().take_while(|other| **other == session).count();
            let rows = &merged.order[start..start + length];
            start += length;
            if length == 1 && (rows[0] as usize) < kept_count {
                continue;
            }
            changed.session_of.resize(changed.session_of.len() + length, changed.sessions.len());
            changed.rows.extend(rows);
            changed.sessions.push(session);
        }
        changed
    }
}

fn take_columns(batch: &RecordBatch, columns: &[usize]) -> Vec<ArrayRef> {
    columns.iter().map(|column| Arc::clone(batch.column(*column))).collect()
}

/// The values of a column of starts or ends, which has no nulls.
fn micros(times: &ArrayRef) -> Vec<i64> {
    times.as_primitive::<TimestampMicrosecondType>().values().to_vec()
}
