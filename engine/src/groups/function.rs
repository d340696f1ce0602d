//! The calls that a batch makes of a user's function: in columns on the outside, one key at a time on the inside.

use std::cell::RefCell;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, SchemaRef};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::call::guarded;
use super::group_state::{GroupState, GroupStateTimeout, GroupTimes};
use crate::error::{Error, Result};
use crate::rows::{RecordShape, RowSource, ValueColumn, Values};
use crate::sink::OutputMode;

/// A user's function with everything that planning has to know about it.
#[derive(Clone)]
pub(crate) struct StateFunction {
    /// The type of the state.
    pub(crate) state: DataType,
    /// The columns of the result.
    pub(crate) output: SchemaRef,
    /// When keys time out.
    pub(crate) timeout: GroupStateTimeout,
    /// What the function says of its result: only new rows (append), or changed ones too (update).
    pub(crate) mode: OutputMode,
    /// Whether it is mapGroupsWithState: one row a call.
    pub(crate) is_map: bool,
    /// Whether keys that have only an initial state are not called in the first batch.
    pub(crate) skip_initial_keys: bool,
    pub(crate) program: Arc<dyn GroupProgram>,
}

impl fmt::Debug for StateFunction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = if self.is_map { "mapGroupsWithState" } else { "flatMapGroupsWithState" };
        write!(f, "{name}({}, {})", self.mode, self.timeout)
    }
}

/// Groups to call the function for, in order.
pub(crate) struct Calls<'a> {
    /// The key columns, a row per group.
    pub(crate) keys: &'a [ArrayRef],
    /// The rows of all groups; columns as the frame that was grouped has them.
    pub(crate) rows: &'a RecordBatch,
    /// The rows of each group.
    pub(crate) ranges: &'a [Range<usize>],
    /// The state of each group, null where there is none.
    pub(crate) states: &'a ArrayRef,
    /// Whether the groups have timed out.
    pub(crate) timed_out: bool,
    pub(crate) times: GroupTimes,
}

/// What a call did to the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Nothing.
    Kept,
    /// It is the next value of [`Answers::updated`].
    Updated,
    /// It was removed.
    Removed,
}

/// What the calls answered.
pub(crate) struct Answers {
    /// Rows of the result, in the order of the calls.
    pub(crate) output: RecordBatch,
    /// For each group what became of its state.
    pub(crate) changes: Vec<Change>,
    /// The new states, one for each [`Change::Updated`].
    pub(crate) updated: ArrayRef,
    /// For each group its timeout, in milliseconds since 1970.
    pub(crate) timeouts: Vec<Option<i64>>,
}

/// What the operator calls.
pub(crate) trait GroupProgram: Send + Sync {
    /// Calls the user's function once for each group.
    fn call(&self, calls: &Calls<'_>) -> Result<Answers>;
}

/// What the calls so far did to the groups' states.
pub(super) struct States<S> {
    changes: Vec<Change>,
    updated: Vec<S>,
    timeouts: Vec<Option<i64>>,
}

impl<S> States<S> {
    pub(super) fn new(groups: usize) -> Self {
        Self { changes: Vec::with_capacity(groups), updated: vec![], timeouts: Vec::with_capacity(groups) }
    }

    /// After a call.
    pub(super) fn take(&mut self, state: GroupState<S>) {
        self.timeouts.push(state.timeout_timestamp_ms());
        self.changes.push(match (state.is_updated(), state.is_removed()) {
            (true, _) => Change::Updated,
            (_, true) => Change::Removed,
            _ => Change::Kept,
        });
        if state.is_updated() {
            self.updated.extend(state.into_value());
        }
    }

    pub(super) fn answers(self, output: RecordBatch, encode: impl FnOnce(&[S]) -> Result<ArrayRef>) -> Result<Answers> {
        let updated = encode(&self.updated)?;
        if updated.null_count() > 0 {
            return Err(Error::analysis("'null' is not a valid state value. Call remove() to have no state."));
        }
        Ok(Answers { output, changes: self.changes, updated, timeouts: self.timeouts })
    }
}

/// Calls a user's function; its failure is Spark's.
pub(super) fn call_user<T>(call: impl FnOnce() -> Result<T>) -> Result<T> {
    let text = |reason: &str| {
        format!("An error occurred in the user provided function in flatMapGroupsWithState. Reason: {reason}")
    };
    guarded("FLATMAPGROUPSWITHSTATE_USER_FUNCTION_ERROR", text, call)
}

/// A function over serde types.
pub(super) struct SerdeProgram<K, V, S, O, F> {
    pub(super) function: F,
    pub(super) keys: RowSource,
    pub(super) values: RowSource,
    pub(super) state: ValueColumn<S>,
    pub(super) output: RecordShape,
    pub(super) types: PhantomData<fn(K, V) -> O>,
}

impl<K, V, S, O, I, F> GroupProgram for SerdeProgram<K, V, S, O, F>
where
    K: DeserializeOwned,
    V: DeserializeOwned,
    S: Serialize + DeserializeOwned,
    O: Serialize,
    I: IntoIterator<Item = O>,
    F: for<'a> Fn(K, Values<'a, V>, &'a mut GroupState<S>) -> Result<I> + Send + Sync,
{
    fn call(&self, calls: &Calls<'_>) -> Result<Answers> {
        let groups = calls.ranges.len();
        let keys = self.keys.records(calls.keys, groups)?;
        let values = self.values.records(calls.rows.columns(), calls.rows.num_rows())?;
        let mut output = self.output.records()?;
        let mut states = States::new(groups);
        let unfit = RefCell::new(None);
        for (group, rows) in calls.ranges.iter().enumerate() {
            let key = keys.get(group)?;
            let has_state = calls.states.is_valid(group);
            let kept = has_state.then(|| self.state.decode(calls.states.as_ref(), group)).transpose()?;
            let mut state = GroupState::new(kept, calls.timed_out, calls.times);
            let rows = Values::new(Some(&values), rows.clone(), &unfit);
            let rows = call_user(|| {
                let rows = (self.function)(key, rows, &mut state)?;
                // Iterators are the user's code, too.
                Ok(rows.into_iter().collect::<Vec<_>>())
            });
            if let Some(error) = unfit.take() {
                return Err(error);
            }
            rows?.iter().try_for_each(|row| output.push(row))?;
            states.take(state);
        }
        states.answers(output.finish()?, |updated| self.state.encode(updated.iter().map(Some)))
    }
}
