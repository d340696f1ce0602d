//! LIMIT over a stream as a node of the logical plan, and how it is planned.
//!
//! In append mode, and in complete mode below the aggregation, LIMIT counts over the query's whole life and is stateful;
//! above a streaming aggregation in complete mode it counts anew in each batch (`spec/04` section 7) and is
//! DataFusion's LIMIT.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::tree_node::TreeNode;
use datafusion::common::{DFSchemaRef, internal_err};
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, Extension, LogicalPlan, UserDefinedLogicalNodeCore};
use datafusion::physical_plan::ExecutionPlan;

use super::extension::StatefulPlanner;
use super::nodes::{StatefulAggregate, StatefulNode, Watermark, as_node, numbered};
use crate::functions::window::windows_per_time;
use crate::functions::window_expand::{Sliding, TimeWindowExpand};
use crate::operators::exchange::exchange;
use crate::operators::limit::{RowLimit, read_limit};
use crate::operators::stateful::NoDataBatch;
use crate::operators::stateful_exec::StatefulExec;
use crate::sink::OutputMode;
use crate::state::{StateSchema, StoreSpec};

/// Passes on the first rows of all batches together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StreamLimit {
    input: Arc<LogicalPlan>,
    rows: usize,
    id: Option<usize>,
    schema: DFSchemaRef,
}

impl StreamLimit {
    /// LIMIT `rows` on top of `input`, in which aggregations are stateful nodes already; `None` where it counts per
    /// batch. A LIMIT right above another one becomes one with it, as in Spark.
    pub fn plan(input: &Arc<LogicalPlan>, rows: usize, mode: OutputMode) -> Result<Option<LogicalPlan>> {
        if let Some(combined) = combined(input, rows)? {
            return Ok(Some(combined));
        }
        if mode != OutputMode::Append && has_aggregation(input)? {
            return Ok(None);
        }
        let node = Self { input: Arc::clone(input), rows, id: None, schema: Arc::clone(input.schema()) };
        Ok(Some(LogicalPlan::Extension(Extension { node: Arc::new(node) })))
    }
}

/// The lower LIMIT with the smaller number, if there is one below `plan` with only columns chosen in between.
fn combined(plan: &LogicalPlan, rows: usize) -> Result<Option<LogicalPlan>> {
    match plan {
        LogicalPlan::Extension(extension) => Ok(as_node::<StreamLimit>(extension.node.as_ref()).map(|below| {
            let node = StreamLimit { rows: below.rows.min(rows), ..below.clone() };
            LogicalPlan::Extension(Extension { node: Arc::new(node) })
        })),
        LogicalPlan::Projection(_) | LogicalPlan::SubqueryAlias(_) => {
            if plan.expressions().iter().any(Expr::is_volatile) {
                return Ok(None);
            }
            let Some(input) = combined(plan.inputs()[0], rows)? else { return Ok(None) };
            Ok(Some(plan.with_new_exprs(plan.expressions(), vec![input])?))
        }
        _ => Ok(None),
    }
}

fn has_aggregation(plan: &LogicalPlan) -> Result<bool> {
    plan.exists(|node| {
        let LogicalPlan::Extension(extension) = node else { return Ok(false) };
        Ok(as_node::<StatefulAggregate>(extension.node.as_ref()).is_some())
    })
}

impl StatefulNode for StreamLimit {
    fn id(&self) -> Result<usize> {
        numbered(self.id)
    }

    fn with_id(&self, id: usize) -> LogicalPlan {
        let node = Self { id: Some(id), ..self.clone() };
        LogicalPlan::Extension(Extension { node: Arc::new(node) })
    }
}

impl PartialOrd for StreamLimit {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        self.rows.partial_cmp(&other.rows)
    }
}

impl UserDefinedLogicalNodeCore for StreamLimit {
    fn name(&self) -> &str {
        "StreamLimit"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        vec![]
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "StreamLimit: {}", self.rows)
    }

    fn with_exprs_and_inputs(&self, _exprs: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> Result<Self> {
        let Some(input) = inputs.pop() else { return internal_err!("StreamLimit takes one input") };
        let schema = Arc::clone(input.schema());
        Ok(Self { input: Arc::new(input), schema, ..self.clone() })
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        Some(vec![output_columns.to_vec()])
    }
}

impl StatefulPlanner {
    /// input -> no more than the limit per partition -> one partition -> no more than the limit.
    pub(super) fn limit(&self, node: &StreamLimit, input: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
        let read = match row_by_row_widening(&node.input) {
            Some(widening) => read_limit(input, node.rows, widening)?,
            None => input,
        };
        let single = exchange(read, vec![], 1);
        let count = Schema::new(vec![Field::new("count", DataType::Int64, true)]);
        let store = StoreSpec::default_store(StateSchema::new(Arc::new(Schema::empty()), Arc::new(count))?);
        let operator = self.operator(node.id()?, "globalLimit", vec![store], 1, NoDataBatch::Never);
        let (schema, work) = (single.schema(), Arc::new(RowLimit { rows: node.rows }));
        Ok(Arc::new(StatefulExec::new(vec![single], work, operator, Arc::clone(&self.context), schema)))
    }
}

/// Spark leaves off reading after the limit when only row by row work is below it, so that what comes after is not
/// seen by watermark nodes either; what remembers or joins reads its whole input (`None`). Answers how many rows one
/// row can become.
fn row_by_row_widening(plan: &LogicalPlan) -> Option<usize> {
    let own = match plan {
        LogicalPlan::Projection(_)
        | LogicalPlan::Filter(_)
        | LogicalPlan::SubqueryAlias(_)
        | LogicalPlan::Union(_)
        | LogicalPlan::TableScan(_) => 1,
        LogicalPlan::Extension(extension) if as_node::<Watermark>(extension.node.as_ref()).is_some() => 1,
        other => {
            let Sliding { window_us, slide_us, .. } = TimeWindowExpand::of(other)?.sliding;
            windows_per_time(window_us, slide_us)
        }
    };
    let below = plan.inputs().into_iter().map(row_by_row_widening).collect::<Option<Vec<_>>>()?;
    Some(own.max(1).saturating_mul(below.into_iter().max().unwrap_or(1)))
}
