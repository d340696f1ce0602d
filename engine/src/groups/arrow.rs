//! The same functions for those who want Arrow values instead of serde types.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, new_empty_array};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::ScalarValue;

use super::function::{Answers, Calls, GroupProgram, States, call_user};
use super::group_state::GroupState;
use crate::error::{Error, Result};
use arrow::array::Array;

/// The types of a function over Arrow values, which cannot be told from the function.
#[derive(Clone, Debug)]
pub struct ArrowTypes {
    /// The type of the state.
    pub state: DataType,
    /// The columns of the result.
    pub output: SchemaRef,
}

/// A function over Arrow values: the key's columns, the group's rows, its state -> rows of the result.
pub(super) struct ArrowProgram<F> {
    pub(super) function: F,
    pub(super) types: ArrowTypes,
    /// The columns of the frame that was grouped, without the grouping expressions beside them.
    pub(super) value_columns: Range<usize>,
    /// Whether every call gives one row.
    pub(super) is_map: bool,
}

impl<F> GroupProgram for ArrowProgram<F>
where
    F: Fn(&[ScalarValue], RecordBatch, &mut GroupState<ScalarValue>) -> Result<RecordBatch> + Send + Sync,
{
    fn call(&self, calls: &Calls<'_>) -> Result<Answers> {
        let columns: Vec<usize> = self.value_columns.clone().collect();
        let values = calls.rows.project(&columns)?;
        let mut outputs = Vec::with_capacity(calls.ranges.len());
        let mut states = States::new(calls.ranges.len());
        for (group, rows) in calls.ranges.iter().enumerate() {
            let keys = calls.keys.iter().map(|key| ScalarValue::try_from_array(key, group));
            let keys = keys.collect::<datafusion::error::Result<Vec<_>>>()?;
            let has_state = calls.states.is_valid(group);
            let kept = has_state.then(|| ScalarValue::try_from_array(calls.states, group)).transpose()?;
            let mut state = GroupState::new(kept, calls.timed_out, calls.times);
            let rows = values.slice(rows.start, rows.len());
            let output = call_user(|| (self.function)(&keys, rows, &mut state))?;
            outputs.push(self.checked(output)?);
            states.take(state);
        }
        states.answers(concat_batches(&self.types.output, &outputs)?, |updated| self.encode(updated))
    }
}

impl<F> ArrowProgram<F> {
    fn checked(&self, output: RecordBatch) -> Result<RecordBatch> {
        if self.is_map && output.num_rows() != 1 {
            return Err(Error::analysis(format!(
                "A function of map_groups_with_state_arrow gave {} rows instead of one. Use \
                 flat_map_groups_with_state_arrow.",
                output.num_rows()
            )));
        }
        let types = |schema: &SchemaRef| schema.fields().iter().map(|f| f.data_type().clone()).collect::<Vec<_>>();
        if types(&output.schema()) != types(&self.types.output) {
            return Err(Error::analysis(format!(
                "A function over Arrow values gave columns of the types {:?}; its output was declared as {:?}. Give what \
                 was declared.",
                types(&output.schema()),
                types(&self.types.output)
            )));
        }
        Ok(RecordBatch::try_new(Arc::clone(&self.types.output), output.columns().to_vec())?)
    }

    fn encode(&self, updated: &[ScalarValue]) -> Result<ArrayRef> {
        if updated.is_empty() {
            return Ok(new_empty_array(&self.types.state));
        }
        if let Some(other) = updated.iter().find(|value| value.data_type() != self.types.state) {
            return Err(Error::analysis(format!(
                "A state of type {} was given where {} was declared. Update with what was declared.",
                other.data_type(),
                self.types.state
            )));
        }
        Ok(ScalarValue::iter_to_array(updated.iter().cloned())?)
    }
}
