//! The calls that a batch makes of a processor: one partition's run from `init` to `close`.

use std::cell::RefCell;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, UInt32Array};
use arrow::compute::take_arrays;
use arrow::datatypes::SchemaRef;
use arrow::row::{RowConverter, SortField};

use super::call::guarded;
use super::handle::{CLOSED, CREATED, INITIALIZED, Made, PRE_INIT, Shared, StatefulProcessorHandle, TIMER_PROCESSED};
use super::processor::{ExpiredTimerInfo, StatefulProcessor, StatefulProcessorWithInitialState, TimeMode, TimerValues};
use super::variables::{TIMERS_STORE, TimerNumbers, Timers, Variable, VariableNumbers, VariableSpec};
use crate::error::Result;
use crate::rows::{RecordShape, Records, RowSource, Values};
use crate::sink::OutputMode;
use crate::state::{Evolution, SharedStore};

/// A processor with everything that planning has to know about it.
#[derive(Clone)]
pub(crate) struct TransformFunction {
    pub(crate) output: SchemaRef,
    pub(crate) variables: Vec<VariableSpec>,
    pub(crate) time_mode: TimeMode,
    /// What the processor was told of output modes; it must stay.
    pub(crate) mode: OutputMode,
    /// Variables that `init` deletes.
    pub(crate) deleted: Vec<String>,
    /// Whether values are compared by the names of their fields.
    pub(crate) by_name: bool,
    /// The column of the result that is event time, by index.
    pub(crate) event_time: Option<usize>,
    pub(crate) program: Arc<dyn TransformProgram>,
}

impl TransformFunction {
    /// What may change of its variables between runs.
    pub(crate) fn evolution(&self) -> Evolution {
        let time_mode = match self.time_mode {
            TimeMode::None => "NoTime",
            TimeMode::ProcessingTime => "ProcessingTime",
            TimeMode::EventTime => "EventTime",
        };
        let mode = match self.mode {
            OutputMode::Append => "Append",
            OutputMode::Update => "Update",
            OutputMode::Complete => "Complete",
        };
        let settings = [("timeMode", time_mode), ("outputMode", mode)];
        let kind = |variable: &VariableSpec| (variable.name.clone(), variable.kind.name().to_owned());
        Evolution {
            settings: settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            kinds: self.variables.iter().map(kind).collect(),
            deleted: self.deleted.clone(),
            by_name: self.by_name,
        }
    }
}

impl fmt::Debug for TransformFunction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.variables.iter().map(|variable| variable.name.as_str()).collect();
        write!(f, "transformWithState({}, [{}])", self.time_mode, names.join(", "))
    }
}

/// What the operator starts for each partition and batch.
pub(crate) trait TransformProgram: Send + Sync {
    /// A processor of its own, after `init`. `stores` answers the store of a variable.
    fn open(
        &self,
        batch_id: u64,
        times: TimerValues,
        stores: &dyn Fn(&str) -> Result<SharedStore>,
    ) -> Result<Box<dyn TransformRun + '_>>;
}

/// Groups to call the processor for, in order.
pub(crate) struct GroupRows<'a> {
    /// The key columns, a row per group.
    pub(crate) keys: &'a [ArrayRef],
    pub(crate) rows: &'a RecordBatch,
    /// The rows of each group.
    pub(crate) ranges: &'a [Range<usize>],
}

/// What a processor did in a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TransformNumbers {
    pub(crate) variables: VariableNumbers,
    pub(crate) timers: TimerNumbers,
}

impl TransformNumbers {
    /// Of two partitions.
    pub(crate) fn plus(self, other: Self) -> Self {
        let (a, b, x, y) = (self.variables, other.variables, self.timers, other.timers);
        Self {
            variables: VariableNumbers {
                updated: a.updated + b.updated,
                removed: a.removed + b.removed,
                expired: a.expired + b.expired,
            },
            timers: TimerNumbers {
                registered: x.registered + y.registered,
                deleted: x.deleted + y.deleted,
                expired: x.expired + y.expired,
            },
        }
    }
}

/// A processor at work on one partition of one batch.
pub(crate) trait TransformRun {
    /// Rows of the initial state.
    fn initial(&mut self, groups: &GroupRows<'_>) -> Result<()>;

    /// Rows of the input.
    fn input(&mut self, groups: &GroupRows<'_>) -> Result<RecordBatch>;

    /// Calls the timers whose time has come; rows go to `outputs`.
    fn timers(&mut self, until_ms: i64, outputs: &mut Vec<RecordBatch>) -> Result<()>;

    /// The end of the batch.
    fn finish(&mut self) -> Result<TransformNumbers>;
}

/// A processor over serde types.
pub(super) struct SerdeTransform<P: StatefulProcessor> {
    pub(super) processor: P,
    pub(super) keys: RowSource,
    pub(super) rows: RowSource,
    pub(super) initial: Option<InitialRows<P>>,
    pub(super) output: RecordShape,
    pub(super) mode: OutputMode,
    pub(super) time_mode: TimeMode,
}

/// How a processor takes its initial rows.
pub(super) struct InitialRows<P: StatefulProcessor> {
    pub(super) rows: RowSource,
    pub(super) call: fn(&mut P, &P::Key, &Records, usize, &TimerValues) -> Result<()>,
}

impl<P: StatefulProcessorWithInitialState> InitialRows<P> {
    pub(super) fn new(rows: RowSource) -> Self {
        let call = |processor: &mut P, key: &P::Key, records: &Records, row: usize, timers: &TimerValues| {
            let initial = records.get(row)?;
            call_user("handleInitialState", || processor.handle_initial_state(key, initial, timers))
        };
        Self { rows, call }
    }
}

fn call_user<T>(function: &str, call: impl FnOnce() -> Result<T>) -> Result<T> {
    let text = |reason: &str| {
        format!("An error occurred in the user-defined function {function} of the StatefulProcessor. Reason: {reason}.")
    };
    guarded("TRANSFORM_WITH_STATE_USER_FUNCTION_ERROR", text, call)
}

/// Asks a processor for its variables.
pub(super) fn variables_of<P: StatefulProcessor>(processor: &P, mode: OutputMode, time_mode: TimeMode) -> Result<Made> {
    let shared = Arc::new(Shared::new(0, 0, time_mode, PRE_INIT));
    let handle = StatefulProcessorHandle::new(shared, Arc::default());
    let mut processor = processor.clone();
    call_user("init", || processor.init(&handle, mode, time_mode))?;
    handle.made()
}

impl<P: StatefulProcessor> TransformProgram for SerdeTransform<P> {
    fn open(
        &self,
        batch_id: u64,
        times: TimerValues,
        stores: &dyn Fn(&str) -> Result<SharedStore>,
    ) -> Result<Box<dyn TransformRun + '_>> {
        let shared = Arc::new(Shared::new(batch_id, times.processing_ms, self.time_mode, CREATED));
        let timers = Arc::new(Timers::default());
        if self.time_mode != TimeMode::None {
            timers.open(stores(TIMERS_STORE)?);
        }
        let handle = StatefulProcessorHandle::new(Arc::clone(&shared), Arc::clone(&timers));
        let mut processor = self.processor.clone();
        call_user("init", || processor.init(&handle, self.mode, self.time_mode))?;
        let made = handle.made()?;
        for (variable, spec) in made.variables.iter().zip(&made.specs) {
            variable.open(stores(&spec.name)?);
        }
        shared.enter_stage(INITIALIZED);
        Ok(Box::new(Run { program: self, processor, variables: made.variables, timers, shared, times }))
    }
}

struct Run<'a, P: StatefulProcessor> {
    program: &'a SerdeTransform<P>,
    processor: P,
    variables: Vec<Arc<dyn Variable>>,
    timers: Arc<Timers>,
    shared: Arc<Shared>,
    times: TimerValues,
}

impl<P: StatefulProcessor> Run<'_, P> {
    fn begin_groups(&self, keys: &[ArrayRef], groups: usize) {
        self.variables.iter().for_each(|variable| variable.begin_groups(keys, groups));
        self.timers.begin_groups(keys);
    }

    fn end_groups(&self) -> Result<()> {
        self.shared.enter_group(None);
        self.variables.iter().try_for_each(|variable| variable.end_groups())?;
        self.timers.end_groups()
    }
}

impl<P: StatefulProcessor> TransformRun for Run<'_, P> {
    fn initial(&mut self, groups: &GroupRows<'_>) -> Result<()> {
        let Some(initial) = &self.program.initial else { return Ok(()) };
        let keys = self.program.keys.records(groups.keys, groups.ranges.len())?;
        let rows = initial.rows.records(groups.rows.columns(), groups.rows.num_rows())?;
        self.begin_groups(groups.keys, groups.ranges.len());
        for (group, range) in groups.ranges.iter().enumerate() {
            self.shared.enter_group(Some(group));
            let key: P::Key = keys.get(group)?;
            for row in range.clone() {
                (initial.call)(&mut self.processor, &key, &rows, row, &self.times)?;
            }
        }
        self.end_groups()
    }

    fn input(&mut self, groups: &GroupRows<'_>) -> Result<RecordBatch> {
        let keys = self.program.keys.records(groups.keys, groups.ranges.len())?;
        let rows = self.program.rows.records(groups.rows.columns(), groups.rows.num_rows())?;
        let mut output = self.program.output.records()?;
        let unfit = RefCell::new(None);
        self.begin_groups(groups.keys, groups.ranges.len());
        for (group, range) in groups.ranges.iter().enumerate() {
            self.shared.enter_group(Some(group));
            let key: P::Key = keys.get(group)?;
            let values = Values::new(Some(&rows), range.clone(), &unfit);
            let (processor, times) = (&mut self.processor, &self.times);
            let answer = call_user("handleInputRows", || processor.handle_input_rows(&key, values, times));
            if let Some(error) = unfit.take() {
                return Err(error);
            }
            answer?.iter().try_for_each(|row| output.push(row))?;
        }
        self.end_groups()?;
        output.finish()
    }

    fn timers(&mut self, until_ms: i64, outputs: &mut Vec<RecordBatch>) -> Result<()> {
        let mut due = self.timers.due(until_ms)?;
        while let Some((key_columns, times)) = self.timers.next_due(&mut due)? {
            let (groups_of, key_columns, groups) = distinct(&key_columns)?;
            let keys = self.program.keys.records(&key_columns, groups)?;
            let mut output = self.program.output.records()?;
            self.begin_groups(&key_columns, groups);
            for (group, expiry_ms) in groups_of.into_iter().zip(times) {
                if self.timers.is_deleted(group, expiry_ms) {
                    continue;
                }
                self.shared.enter_group(Some(group));
                let key: P::Key = keys.get(group)?;
                let (processor, times, expired) = (&mut self.processor, &self.times, ExpiredTimerInfo { expiry_ms });
                let rows = call_user("handleExpiredTimer", || processor.handle_expired_timer(&key, times, &expired))?;
                rows.iter().try_for_each(|row| output.push(row))?;
                self.timers.called(group, expiry_ms);
            }
            self.end_groups()?;
            outputs.push(output.finish()?);
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<TransformNumbers> {
        self.shared.enter_stage(TIMER_PROCESSED);
        let processor = &mut self.processor;
        call_user("close", || processor.close())?;
        self.shared.enter_stage(CLOSED);
        let mut sum = TransformNumbers { timers: self.timers.numbers(), ..Default::default() };
        for variable in &self.variables {
            let numbers = variable.finish()?;
            sum.variables.updated += numbers.updated;
            sum.variables.removed += numbers.removed;
            sum.variables.expired += numbers.expired;
        }
        Ok(sum)
    }
}

/// For each row the number of its key, the keys by number, and how many there are.
fn distinct(keys: &[ArrayRef]) -> Result<(Vec<usize>, Vec<ArrayRef>, usize)> {
    let fields = keys.iter().map(|key| SortField::new(key.data_type().clone())).collect();
    let rows = RowConverter::new(fields)?.convert_columns(keys)?;
    let mut numbers = std::collections::BTreeMap::new();
    let (mut groups_of, mut firsts) = (vec![], vec![]);
    for row in 0..rows.num_rows() {
        let next = numbers.len();
        let number = *numbers.entry(rows.row(row)).or_insert(next);
        if number == next {
            firsts.push(row as u32);
        }
        groups_of.push(number);
    }
    let groups = firsts.len();
    Ok((groups_of, take_arrays(keys, &UInt32Array::from(firsts), None)?, groups))
}
