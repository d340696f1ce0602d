//! Streaming aggregation: partial states of this batch meet the states kept from earlier batches.
//!
//! Per partition and batch: late groups go, the batch's groups are numbered, their kept states are looked up, everything is
//! merged in columns, the merged states are put back, and what the output mode asks for is emitted.
//!
//! The full version has to handle: late groups (`<=` the late watermark, on the end of a window; null is never late),
//! groups that are created, evicted and emitted in one batch, update mode emitting a group that is evicted in the
//! same batch exactly once, a null event time (never evicted), no grouping columns (one row always, also without
//! input), order-sensitive aggregates (kept state comes before new rows), -0.0 and NaN keys (one group each),
//! aggregates without a vectorised accumulator, several state partitions, and a batch plan that is run twice
//! (`spec/02` sections 5 and 6, `spec/04` section 1).

use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, Int64Array, RecordBatch, UInt32Array, new_empty_array};
use arrow::compute::{concat, filter, filter_record_batch, take_arrays};
use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::error::Result;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::{Aggregate, EmitTo, GroupsAccumulator};
use datafusion::physical_expr::GroupsAccumulatorAdapter;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::group_values::new_group_values;
use datafusion::physical_plan::aggregates::order::GroupOrdering;
use futures::TryStreamExt;

use super::batch::OperatorWatermarks;
use super::expiry::{at_event_time, expire_old};
use super::stateful::{OperatorNumbers, StatefulOperator};
use super::stateful_exec::{StatefulRows, StatefulTask, StatefulWork, answer_once};
use super::watermark::on_time;
use crate::planted::planted;
use crate::sink::OutputMode;
use crate::state::{Cursor, StateRows, StateSchema, StateStore, Until, normalise_keys};

/// What is aggregated, and how.
#[derive(Debug)]
pub struct Aggregation {
    /// The aggregate functions, in the order of the output.
    pub functions: Vec<Arc<AggregateFunctionExpr>>,
    /// The grouping columns; empty for a global aggregation.
    pub keys: Vec<Arc<Field>>,
    /// Which grouping column is event time.
    pub event_time_key: Option<usize>,
    /// What to emit.
    pub mode: OutputMode,
}

impl Aggregation {
    /// What the state of this aggregation holds: the grouping columns, and the functions' partial states.
    pub fn state_schema(&self) -> Result<StateSchema> {
        let in_state = |key: &Arc<Field>| match key.name().as_str() {
            // As Spark's state has it.
            Aggregate::INTERNAL_GROUPING_ID => key.as_ref().clone().with_name("spark_grouping_id"),
            _ => key.as_ref().clone(),
        };
        let keys: Vec<_> = self.keys.iter().map(|key| Arc::new(in_state(key).with_nullable(true))).collect();
        let mut values = vec![];
        for function in &self.functions {
            for field in function.state_fields()? {
                values.push(Arc::new(field.as_ref().clone().with_nullable(true)));
            }
        }
        Ok(StateSchema::new(Arc::new(Schema::new(keys)), Arc::new(Schema::new(values)))?)
    }

    pub(super) fn accumulators(&self) -> Result<Vec<Accumulating>> {
        self.functions.iter().map(|function| Accumulating::new(function, !self.keys.is_empty())).collect()
    }

    /// Results from states: row i of the answer is the result of row i of `states`.
    pub(super) fn finish(&self, states: &[ArrayRef], rows: usize) -> Result<Vec<ArrayRef>> {
        let groups: Vec<usize> = (0..rows).collect();
        let mut results = Vec::with_capacity(self.functions.len());
        let mut rest = states;
        for mut accumulating in self.accumulators()? {
            let (own, others) = rest.split_at(accumulating.width);
            rest = others;
            accumulating.accumulator.merge_batch(own, &groups, rows)?;
            results.push(accumulating.accumulator.evaluate(EmitTo::All)?);
        }
        Ok(results)
    }
}

/// One aggregate function at work on numbered groups.
pub(super) struct Accumulating {
    pub(super) accumulator: Box<dyn GroupsAccumulator>,
    /// How many columns its state has.
    pub(super) width: usize,
    /// Whether there are grouping columns.
    is_grouped: bool,
}

impl Accumulating {
    /// Merges states, the i-th into group `groups_of[i]` of `groups`.
    fn merge(&mut self, states: &[ArrayRef], groups_of: &[usize], groups: usize) -> Result<()> {
        if self.is_grouped {
            return self.accumulator.merge_batch(states, groups_of, groups);
        }
        // One by one: some plain accumulators (`percentile_cont`) read no more than the first of several states.
        (0..groups_of.len()).try_for_each(|row| {
            let state: Vec<_> = states.iter().map(|column| column.slice(row, 1)).collect();
            self.accumulator.merge_batch(&state, &groups_of[row..=row], groups)
        })
    }

    /// Without grouping columns the partial aggregation below has one plain accumulator a function, whose state need not
    /// be that of the function's accumulator of groups (`corr` keeps means in one and sums in the other).
    fn new(function: &Arc<AggregateFunctionExpr>, is_grouped: bool) -> Result<Self> {
        let accumulator = if is_grouped && function.groups_accumulator_supported() {
            function.create_groups_accumulator()?
        } else {
            let function = Arc::clone(function);
            Box::new(GroupsAccumulatorAdapter::new(move || function.create_accumulator()))
        };
        Ok(Self { accumulator, width: function.state_fields()?.len(), is_grouped })
    }
}

/// Merges a batch's partial states into the kept ones.
impl StatefulWork for Aggregation {
    fn node_name(&self) -> &'static str {
        "StateAggregateExec"
    }

    fn describe(&self, _inputs: &[Arc<dyn ExecutionPlan>], f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.functions.iter().map(|function| function.name()).collect();
        write!(f, "mode={} aggr=[{}]", self.mode, names.join(", "))
    }

    fn run(self: Arc<Self>, task: StatefulTask, mut inputs: Vec<SendableRecordBatchStream>) -> Result<StatefulRows> {
        let input = inputs.remove(0);
        Ok(answer_once(async move {
            let partials: Vec<RecordBatch> = input.try_collect().await?;
            let store = task.store()?;
            let mut store = store.lock().await;
            let mut run = PartitionRun {
                aggregation: &self,
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
    aggregation: &'a Aggregation,
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
        self.expire_old()?;
        let partials = self.without_late(partials)?;
        let early = if planted("agg-evicts-before-merging") { self.evict()? } else { Cursor::default() };
        let early = self.emit(early)?;
        let touched = self.merge(&partials)?;
        self.numbers.updated += touched.expiry.len() as u64;
        let merged_us = self.operator.clock.monotonic_us();
        self.numbers.updates_us += merged_us.saturating_sub(started_us);

        let evicted = self.evict()?;
        self.numbers.removals_us += self.operator.clock.monotonic_us().saturating_sub(merged_us);
        match self.aggregation.mode {
            OutputMode::Update if planted("agg-update-emits-every-group") => self.emit(self.store.scan()?),
            OutputMode::Update => Ok(self.finished(touched)?.into_iter().collect()),
            OutputMode::Append => Ok([early, self.emit(evicted)?].concat()),
            OutputMode::Complete => self.emit(self.store.scan()?),
        }
    }

    fn expire_old(&mut self) -> Result<()> {
        let Some(key) = self.aggregation.event_time_key else { return Ok(()) };
        expire_old(self.is_first_batch, self.store, |rows| at_event_time(&rows.keys[key]))
    }

    /// Drops groups whose event time is at or before the late watermark; complete mode keeps all.
    fn without_late(&mut self, partials: Vec<RecordBatch>) -> Result<Vec<RecordBatch>> {
        match self.aggregation.event_time_key {
            Some(key) if self.aggregation.mode != OutputMode::Complete || planted("agg-complete-drops-late-rows") => {
                let (kept, late_count) = without_late(partials, key, self.watermarks.late_us())?;
                self.numbers.dropped_by_watermark += late_count;
                Ok(kept)
            }
            _ => Ok(partials),
        }
    }

    /// Merges kept and new states of the batch's groups and puts them back; answers the groups with their new states.
    fn merge(&mut self, partials: &[RecordBatch]) -> Result<StateRows> {
        let width = self.aggregation.keys.len();
        let NumberedGroups { keys, count: groups, groups_of } = self.number_groups(partials)?;
        if groups == 0 {
            return Ok(StateRows { keys, values: vec![], expiry: Int64Array::new_null(0) });
        }
        let reserved = self.store.reserve(&keys)?;
        let nothing = BooleanArray::from(vec![false; groups]);
        let present = if planted("agg-forgets-what-it-kept") { &nothing } else { &reserved.found.present };
        let kept_groups: Vec<usize> = present.values().set_indices().collect();
        let kept_states =
            reserved.found.values.iter().map(|column| filter(column, present)).collect::<Result<Vec<_>, _>>()?;

        // One merge with kept before new (first/last/collect_list keep the order of arrival), and not one merge each:
        // accumulators take it that every group below the number of groups has a row by the end of a call, and hold
        // a group without one for a group without nulls.
        let mut groups_of = [kept_groups, groups_of.concat()].concat();
        let turned = planted("agg-merges-new-before-kept").then(|| {
            groups_of.reverse();
            (0..groups_of.len() as u32).rev().collect::<UInt32Array>()
        });
        let mut values = vec![];
        // Where each function's state starts in the kept values, and in the partial rows.
        let (mut at_kept, mut at_partial) = (0, width);
        for mut accumulating in self.aggregation.accumulators()? {
            let width = accumulating.width;
            let states = (0..width).map(|column| {
                let kept = &kept_states[at_kept + column];
                let new = partials.iter().map(|partial| partial.column(at_partial + column).as_ref());
                concat(&std::iter::once(kept.as_ref()).chain(new).collect::<Vec<_>>())
            });
            let states = states.collect::<Result<Vec<_>, _>>()?;
            let states = match &turned {
                Some(turned) => take_arrays(&states, turned, None)?,
                None => states,
            };
            accumulating.merge(&states, &groups_of, groups)?;
            values.extend(accumulating.accumulator.state(EmitTo::All)?);
            at_kept += width;
            at_partial += width;
        }
        let expiry = self.expiry(&keys, groups)?;
        self.store.put_slots(&reserved.slots, &values, Some(&expiry))?;
        Ok(StateRows { keys, values, expiry })
    }

    /// Without grouping columns there is one group, also when there is no row.
    fn number_groups(&self, partials: &[RecordBatch]) -> Result<NumberedGroups> {
        let width = self.aggregation.keys.len();
        if width == 0 {
            let groups_of = partials.iter().map(|partial| vec![0; partial.num_rows()]).collect();
            return Ok(NumberedGroups { keys: vec![], count: 1, groups_of });
        }
        let columns = partials.iter().map(|partial| partial.columns()[..width].to_vec()).collect();
        number_groups(&self.aggregation.keys, columns)
    }

    /// When each group leaves: its event time, if it has one.
    fn expiry(&self, keys: &[ArrayRef], groups: usize) -> Result<Int64Array> {
        let Some(key) = self.aggregation.event_time_key else { return Ok(Int64Array::new_null(groups)) };
        let times = at_event_time(&keys[key])?;
        if planted("agg-evicts-before-the-window-ends") {
            return Ok(times.iter().map(|time| Some(time? - 5_000_000)).collect());
        }
        Ok(times)
    }

    fn evict(&mut self) -> Result<Cursor> {
        let complete = self.aggregation.mode == OutputMode::Complete && !planted("agg-complete-evicts");
        let kept = self.aggregation.mode == OutputMode::Update && planted("agg-update-never-evicts");
        if self.aggregation.event_time_key.is_none() || complete || kept {
            return Ok(Cursor::default());
        }
        let mut until = Until::AtOrBefore(self.watermarks.evict_us());
        if planted("agg-evicts-one-instant-late") {
            until = Until::Before(self.watermarks.evict_us());
        }
        if planted("agg-append-emits-twice") {
            return Ok(self.store.expired(until)?);
        }
        let evicted = self.store.evict(until)?;
        self.numbers.removed += evicted.remaining() as u64;
        Ok(evicted)
    }

    fn emit(&self, mut groups: Cursor) -> Result<Vec<RecordBatch>> {
        let mut out = vec![];
        while let Some(rows) = self.store.next_rows(&mut groups)? {
            out.extend(self.finished(rows)?);
        }
        Ok(out)
    }

    fn finished(&self, groups: StateRows) -> Result<Option<RecordBatch>> {
        let rows = groups.rows_count();
        if rows == 0 {
            return Ok(None);
        }
        let mut columns = groups.keys;
        columns.extend(self.aggregation.finish(&groups.values, rows)?);
        Ok(Some(RecordBatch::try_new(Arc::clone(self.schema), columns)?))
    }
}

/// Partial states without those whose event time (grouping column `key`) is at or before the late watermark, and how
/// many of those there were: Spark counts late groups of a batch, not the rows they were made of.
pub(super) fn without_late(partials: Vec<RecordBatch>, key: usize, late_us: i64) -> Result<(Vec<RecordBatch>, u64)> {
    let (mut kept, mut late_count) = (Vec::with_capacity(partials.len()), 0);
    for partial in partials {
        let on_time = on_time(partial.column(key), late_us)?;
        if on_time.true_count() == on_time.len() {
            kept.push(partial);
            continue;
        }
        late_count += on_time.false_count() as u64;
        kept.push(filter_record_batch(&partial, &on_time)?);
    }
    Ok((kept, late_count))
}

/// The distinct keys of a batch.
pub(super) struct NumberedGroups {
    /// The keys, in order of number.
    pub(super) keys: Vec<ArrayRef>,
    /// How many there are.
    pub(super) count: usize,
    /// For each row of each partial batch the number of its key.
    pub(super) groups_of: Vec<Vec<usize>>,
}

/// Numbers keys (of one column at least) in order of appearance. `columns` are the key columns of each partial batch.
pub(super) fn number_groups(fields: &[Arc<Field>], columns: Vec<Vec<ArrayRef>>) -> Result<NumberedGroups> {
    let key_schema = Arc::new(Schema::new(fields.to_vec()));
    let mut values = new_group_values(key_schema, &GroupOrdering::None)?;
    let mut groups_of = Vec::with_capacity(columns.len());
    for columns in columns {
        let mut groups = vec![];
        values.intern(&normalise_keys(&columns)?, &mut groups)?;
        groups_of.push(groups);
    }
    let count = values.len();
    let keys = match count {
        0 => fields.iter().map(|key| new_empty_array(key.data_type())).collect(),
        _ => values.emit(EmitTo::All)?,
    };
    Ok(NumberedGroups { keys, count, groups_of })
}
