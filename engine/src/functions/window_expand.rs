//! The node that gives each row once to every sliding window it lies in.
//!
//! Rows come out in the order of the input, the windows of one row latest start first, as Spark's `Expand` does
//! (`spec/03` section 1). Rows without a time are the business of a filter below.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use arrow::array::{Array, AsArray, RecordBatch, TimestampMicrosecondArray, UInt32Array};
use arrow::compute::take_arrays;
use arrow::datatypes::{SchemaRef, TimestampMicrosecondType};
use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DFSchema, DFSchemaRef, internal_err};
use datafusion::error::Result;
use datafusion::execution::context::TaskContext;
use datafusion::execution::{RecordBatchStream, SendableRecordBatchStream};
use datafusion::logical_expr::{
    Expr, ExprSchemable, Extension, LogicalPlan, UserDefinedLogicalNode, UserDefinedLogicalNodeCore,
};
use datafusion::physical_expr::{EquivalenceProperties, Partitioning, PhysicalExpr};
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use datafusion::physical_planner::{ExtensionPlanner, PhysicalPlanner};
use futures::{Stream, StreamExt};

use super::window::{TIME_WINDOW_KEY, time_type, window_array, window_field, windows_of, windows_per_time};

/// How many rows an output batch has at most (when one row has not more windows than that).
const OUTPUT_ROWS: usize = 32_768;

/// Width, slide and start of sliding windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Hash)]
pub struct Sliding {
    /// How long a window is.
    pub window_us: i64,
    /// From the start of one window to that of the next.
    pub slide_us: i64,
    /// Where windows begin, from 1970.
    pub start_us: i64,
}

/// Logical node: the columns of the input, then the window column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeWindowExpand {
    /// The rows to expand.
    pub input: Arc<LogicalPlan>,
    /// The time of a row, a timestamp in microseconds. A row for which it is null gets no window.
    pub time: Expr,
    /// The windows.
    pub sliding: Sliding,
    /// The name of the window column, the last of the output.
    pub name: String,
    schema: DFSchemaRef,
}

impl TimeWindowExpand {
    /// Puts the node on top of `input`.
    pub fn plan(
        input: LogicalPlan,
        time: Expr,
        window_us: i64,
        slide_us: i64,
        start_us: i64,
        name: &str,
    ) -> Result<LogicalPlan> {
        let node = Self::try_new(Arc::new(input), time, Sliding { window_us, slide_us, start_us }, name)?;
        Ok(LogicalPlan::Extension(Extension { node: Arc::new(node) }))
    }

    fn try_new(input: Arc<LogicalPlan>, time: Expr, sliding: Sliding, name: &str) -> Result<Self> {
        let data_type = time_type(&time.get_type(input.schema())?);
        let mut fields: Vec<_> =
            input.schema().iter().map(|(relation, field)| (relation.cloned(), Arc::clone(field))).collect();
        fields.push((None, window_field(name, &data_type, TIME_WINDOW_KEY, false)));
        let schema = DFSchema::new_with_metadata(fields, input.schema().metadata().clone())?;
        Ok(Self { input, time, sliding, name: name.to_owned(), schema: Arc::new(schema) })
    }

    /// The node behind a plan, when it is one.
    pub fn of(plan: &LogicalPlan) -> Option<&Self> {
        match plan {
            LogicalPlan::Extension(extension) => extension.node.as_any().downcast_ref(),
            _ => None,
        }
    }
}

impl Hash for TimeWindowExpand {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.input, &self.time, self.sliding, &self.name).hash(state);
    }
}

impl PartialOrd for TimeWindowExpand {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (&self.time, self.sliding, &self.name).partial_cmp(&(&other.time, other.sliding, &other.name))
    }
}

impl UserDefinedLogicalNodeCore for TimeWindowExpand {
    fn name(&self) -> &str {
        "TimeWindowExpand"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        vec![self.time.clone()]
    }

    /// A filter on an input column may go below: it rejects all windows of a row or none.
    fn prevent_predicate_push_down_columns(&self) -> std::collections::HashSet<String> {
        std::collections::HashSet::from([self.name.clone()])
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Sliding { window_us, slide_us, start_us } = self.sliding;
        write!(f, "TimeWindowExpand: {} window={window_us}us slide={slide_us}us start={start_us}us", self.time)
    }

    fn with_exprs_and_inputs(&self, mut exprs: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> Result<Self> {
        let (Some(time), Some(input)) = (exprs.pop(), inputs.pop()) else {
            return internal_err!("TimeWindowExpand takes one expression and one input");
        };
        Self::try_new(Arc::new(input), time, self.sliding, &self.name)
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let input = self.input.schema();
        let width = input.fields().len();
        let mut needed: Vec<usize> = output_columns.iter().copied().filter(|i| *i < width).collect();
        let read = self.time.column_refs().into_iter().map(|column| input.index_of_column(column).ok());
        needed.extend(read.collect::<Option<Vec<usize>>>()?);
        needed.sort_unstable();
        needed.dedup();
        Some(vec![needed])
    }
}

/// Plans [`TimeWindowExpand`]; one of the extension planners of a session.
#[derive(Debug, Default)]
pub struct TimeWindowExpandPlanner;

#[async_trait]
impl ExtensionPlanner for TimeWindowExpandPlanner {
    async fn plan_extension(
        &self,
        planner: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        logical_inputs: &[&LogicalPlan],
        physical_inputs: &[Arc<dyn ExecutionPlan>],
        session: &dyn Session,
        planning_ctx: &datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let Some(node) = node.as_any().downcast_ref::<TimeWindowExpand>() else { return Ok(None) };
        let ([logical], [input]) = (logical_inputs, physical_inputs) else {
            return internal_err!("TimeWindowExpand takes one input");
        };
        let time = planner.create_physical_expr(&node.time, logical.schema(), session, planning_ctx)?;
        let schema = Arc::clone(node.schema.inner());
        Ok(Some(Arc::new(TimeWindowExpandExec::new(Arc::clone(input), time, node.sliding, schema))))
    }
}

/// Physical node of [`TimeWindowExpand`].
#[derive(Debug)]
pub struct TimeWindowExpandExec {
    input: Arc<dyn ExecutionPlan>,
    time: Arc<dyn PhysicalExpr>,
    sliding: Sliding,
    properties: Arc<PlanProperties>,
}

impl TimeWindowExpandExec {
    /// `schema`: the columns of the input, then the window column.
    pub fn new(
        input: Arc<dyn ExecutionPlan>,
        time: Arc<dyn PhysicalExpr>,
        sliding: Sliding,
        schema: SchemaRef,
    ) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(input.properties().partitioning.partition_count()),
            input.properties().emission_type,
            input.properties().boundedness,
        );
        Self { input, time, sliding, properties: Arc::new(properties) }
    }
}

impl DisplayAs for TimeWindowExpandExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        let Sliding { window_us, slide_us, start_us } = self.sliding;
        write!(f, "TimeWindowExpandExec: {} window={window_us}us slide={slide_us}us start={start_us}us", self.time)
    }
}

impl ExecutionPlan for TimeWindowExpandExec {
    fn name(&self) -> &str {
        "TimeWindowExpandExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        f(&self.time)
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        let (Some(input), true) = (children.pop(), children.is_empty()) else {
            return internal_err!("TimeWindowExpandExec takes one input");
        };
        Ok(Arc::new(Self::new(input, Arc::clone(&self.time), self.sliding, self.schema())))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        Ok(Box::pin(ExpandStream {
            input: self.input.execute(partition, context)?,
            time: Arc::clone(&self.time),
            sliding: self.sliding,
            schema: self.schema(),
            rest: None,
        }))
    }
}

/// Expands batch by batch, in parts so that an output batch stays small however many windows a row has.
struct ExpandStream {
    input: SendableRecordBatchStream,
    time: Arc<dyn PhysicalExpr>,
    sliding: Sliding,
    schema: SchemaRef,
    rest: Option<RecordBatch>,
}

impl Stream for ExpandStream {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let batch = match self.rest.take() {
            Some(rest) => rest,
            None => match ready!(self.input.poll_next_unpin(cx)) {
                Some(Ok(batch)) => batch,
                other => return Poll::Ready(other),
            },
        };
        let windows = windows_per_time(self.sliding.window_us, self.sliding.slide_us);
        let rows = (OUTPUT_ROWS / windows).max(1).min(batch.num_rows());
        if rows < batch.num_rows() {
            self.rest = Some(batch.slice(rows, batch.num_rows() - rows));
        }
        Poll::Ready(Some(expand(&batch.slice(0, rows), &self.time, self.sliding, &self.schema)))
    }
}

impl RecordBatchStream for ExpandStream {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
}

/// One batch, expanded.
fn expand(
    batch: &RecordBatch,
    time: &Arc<dyn PhysicalExpr>,
    sliding: Sliding,
    schema: &SchemaRef,
) -> Result<RecordBatch> {
    let times = time.evaluate(batch)?.into_array(batch.num_rows())?;
    let times = times.as_primitive::<TimestampMicrosecondType>();
    let Sliding { window_us, slide_us, start_us } = sliding;
    let capacity = batch.num_rows() * windows_per_time(window_us, slide_us).min(OUTPUT_ROWS);
    let (mut rows, mut starts) = (Vec::with_capacity(capacity), Vec::with_capacity(capacity));
    for row in 0..times.len() {
        if times.is_null(row) {
            continue;
        }
        for start in windows_of(times.value(row), window_us, slide_us, start_us) {
            rows.push(row as u32);
            starts.push(start);
        }
    }
    let mut columns = take_arrays(batch.columns(), &UInt32Array::from(rows), None)?;
    let starts = TimestampMicrosecondArray::from(starts);
    let ends: TimestampMicrosecondArray = starts.unary(|start| start.wrapping_add(window_us));
    columns.push(Arc::new(window_array(starts, ends, times)));
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}
