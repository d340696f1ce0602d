//! Gives the partial states of each pane to the windows it lies in.
//!
//! Rows are aggregated by pane first, a slice of time that lies in the same windows as a whole: a row then costs one
//! update instead of one per window, and its group key is a plain timestamp. Here the start of a pane becomes window
//! structs: one for tumbling windows, several for sliding ones. What follows sees the same columns as if rows had been
//! given to windows one by one.
//!
//! The full version has to handle: windows that are no multiple of their slide (panes are their greatest common
//! divisor), a row without time (no window), times before 1970, many windows per pane (output stays in small batches).

use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch, TimestampMicrosecondArray, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{Field, Schema, SchemaRef, TimestampMicrosecondType};
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties, PlanProperties};
use futures::{StreamExt, TryStreamExt};

use super::stateless_exec::{StatelessWork, plain_properties};
use crate::functions::window::{window_array, windows_of, windows_per_time};
use crate::functions::window_expand::Sliding;
use crate::planted::planted;

/// How many rows an output batch has at most (when a pane has not more windows than that).
const OUTPUT_ROWS: usize = 32_768;

/// Replaces a column of pane starts by a column of windows.
#[derive(Debug)]
pub struct PaneWindowsWork {
    /// The column of pane starts, by index.
    pub column: usize,
    /// Which windows a pane lies in.
    pub windows: Sliding,
    /// The window column.
    pub window: Arc<Field>,
}

impl PaneWindowsWork {
    fn schema(&self, input: &Arc<dyn ExecutionPlan>) -> SchemaRef {
        let mut fields = input.schema().fields().to_vec();
        fields[self.column] = Arc::clone(&self.window);
        Arc::new(Schema::new(fields))
    }
}

impl StatelessWork for PaneWindowsWork {
    fn node_name(&self) -> &'static str {
        "PaneWindowsExec"
    }

    fn describe(&self, _input: &Schema, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Sliding { window_us, slide_us, start_us } = self.windows;
        write!(f, ": {} window={window_us}us slide={slide_us}us start={start_us}us", self.window.name())
    }

    fn properties(&self, input: &Arc<dyn ExecutionPlan>) -> PlanProperties {
        plain_properties(input, self.schema(input), input.output_partitioning().partition_count())
    }

    fn run(
        self: Arc<Self>,
        input: &Arc<dyn ExecutionPlan>,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let (column, windows, schema) = (self.column, self.windows, self.schema(input));
        let output = Arc::clone(&schema);
        let panes_at_once = (OUTPUT_ROWS / windows_per_time(windows.window_us, windows.slide_us)).max(1);
        let rows = input.execute(partition, context)?.map_ok(move |panes| {
            let schema = Arc::clone(&schema);
            let starts = (0..panes.num_rows()).step_by(panes_at_once);
            futures::stream::iter(starts.map(move |start| {
                let length = panes_at_once.min(panes.num_rows() - start);
                windows_of_panes(&panes.slice(start, length), column, windows, &schema)
            }))
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(output, rows.try_flatten().boxed())))
    }
}

/// The rows of some panes, once for each window of the pane, latest window first.
fn windows_of_panes(panes: &RecordBatch, column: usize, windows: Sliding, schema: &SchemaRef) -> Result<RecordBatch> {
    let Sliding { window_us, slide_us, start_us } = windows;
    let pane_starts = panes.column(column).as_primitive::<TimestampMicrosecondType>();
    let is_tumbling = window_us == slide_us;
    let (rows, starts) = if is_tumbling && pane_starts.null_count() == 0 {
        // A pane is its window.
        (None, pane_starts.clone())
    } else {
        let capacity = pane_starts.len() * windows_per_time(window_us, slide_us).min(OUTPUT_ROWS);
        let (mut rows, mut starts) = (Vec::with_capacity(capacity), Vec::with_capacity(capacity));
        let skipped = usize::from(planted("panes-miss-a-window"));
        for (row, pane) in pane_starts.iter().enumerate() {
            for start in pane.into_iter().flat_map(|pane| windows_of(pane, window_us, slide_us, start_us)).skip(skipped)
            {
                rows.push(row as u32);
                starts.push(start);
            }
        }
        (Some(UInt32Array::from(rows)), TimestampMicrosecondArray::from(starts))
    };
    let ends: TimestampMicrosecondArray = starts.unary(|start| start.wrapping_add(window_us));
    let window = window_array(starts, ends, pane_starts);
    let mut columns = Vec::with_capacity(panes.num_columns());
    for (at, states) in panes.columns().iter().enumerate() {
        columns.push(match &rows {
            _ if at == column => Arc::new(window.clone()),
            Some(rows) => take(states, rows, None)?,
            None => Arc::clone(states),
        });
    }
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}
