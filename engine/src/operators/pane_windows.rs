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
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::EquivalenceProperties;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, PhysicalExpr, PlanProperties,
    ReplaceChildrenOptions,
};
use futures::{StreamExt, TryStreamExt};

use crate::functions::window::{window_array, windows_of, windows_per_time};
use crate::functions::window_expand::Sliding;
use crate::planted::planted;

/// How many rows an output batch has at most (when a pane has not more windows than that).
const OUTPUT_ROWS: usize = 32_768;

/// Replaces a column of pane starts by a column of windows.
#[derive(Debug)]
pub struct PaneWindowsExec {
    input: Arc<dyn ExecutionPlan>,
    /// The column of pane starts, by index.
    column: usize,
    windows: Sliding,
    properties: Arc<PlanProperties>,
}

impl PaneWindowsExec {
    /// `window` is the field of the window column.
    pub fn new(input: Arc<dyn ExecutionPlan>, column: usize, windows: Sliding, window: Arc<Field>) -> Self {
        let mut fields = input.schema().fields().to_vec();
        fields[column] = window;
        Self::with_schema(input, column, windows, Arc::new(Schema::new(fields)))
    }

    fn with_schema(input: Arc<dyn ExecutionPlan>, column: usize, windows: Sliding, schema: SchemaRef) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            datafusion::physical_plan::Partitioning::UnknownPartitioning(input.output_partitioning().partition_count()),
            input.pipeline_behavior(),
            input.boundedness(),
        );
        Self { input, column, windows, properties: Arc::new(properties) }
    }
}

impl DisplayAs for PaneWindowsExec {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        let Sliding { window_us, slide_us, start_us } = self.windows;
        let name = self.schema().field(self.column).name().clone();
        write!(f, "PaneWindowsExec: {name} window={window_us}us slide={slide_us}us start={start_us}us")
    }
}

impl ExecutionPlan for PaneWindowsExec {
    fn name(&self) -> &'static str {
        "PaneWindowsExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(Self::with_schema(children.swap_remove(0), self.column, self.windows, self.schema())))
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, super::recompute())
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let (column, windows, schema) = (self.column, self.windows, self.schema());
        let panes_at_once = (OUTPUT_ROWS / windows_per_time(windows.window_us, windows.slide_us)).max(1);
        let rows = self.input.execute(partition, context)?.map_ok(move |panes| {
            let schema = Arc::clone(&schema);
            let starts = (0..panes.num_rows()).step_by(panes_at_once);
            futures::stream::iter(starts.map(move |start| {
                let length = panes_at_once.min(panes.num_rows() - start);
                windows_of_panes(&panes.slice(start, length), column, windows, &schema)
            }))
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), rows.try_flatten().boxed())))
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
