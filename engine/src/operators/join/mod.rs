//! The join of two streams: each side's rows are remembered until the other side can match them no more.
//!
//! ```text
//! left input  -> exchange by key --\
//!                                   StreamJoinExec (run.rs) -> joined rows, padded rows
//! right input -> exchange by key --/      |         |
//!                                   buffer.rs x 2   pairs.rs    side.rs, bound.rs: what a side is, when it is forgotten
//! ```
//! The full version has to handle: inner, left, right, full and left semi joins; late rows on each side by its own event
//! time; rows that fail their own side's part of the condition (never stored; padded at once on an outer side); a pair of
//! two new rows (once); one row against very many (in pieces); null keys (equal to each other: where they must not match,
//! a filter below the join has removed them); -0.0 and NaN keys; window structs as keys; key expressions; an event time
//! that is null (never leaves); rows that come when the watermark has passed them already; a matched flag that changes
//! while the row is buffered; several partitions; a consumer that stops reading early (all state changes happen
//! before the first row comes out); and a batch that is run again.
//!
//! Absent from here: what bounds a side (`plan/join_bounds.rs`), and the join of a stream with a static table, which is
//! DataFusion's own.

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::EquivalenceProperties;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, Distribution, ExecutionPlan, Partitioning, PhysicalExpr, PlanProperties,
    ReplaceChildrenOptions,
};
use futures::TryStreamExt;

pub mod bound;
mod buffer;
mod pairs;
mod run;
mod side;

#[cfg(test)]
mod tests;

pub use pairs::PairFilter;
pub use side::JoinSide;

use self::buffer::Buffer;
use self::run::PartitionRun;
use super::batch::BatchContext;
use super::exchange::required_distribution;
use super::stateful::{OperatorNumbers, StatefulOperator};
use crate::state::StoreSpec;

/// What is joined, and how.
#[derive(Debug)]
pub struct StreamJoinParts {
    /// The left side.
    pub left: JoinSide,
    /// The right side.
    pub right: JoinSide,
    /// Whether only left rows come out, each once, when it has a match.
    pub semi: bool,
    /// What a pair with equal keys must satisfy besides.
    pub filter: Option<PairFilter>,
}

impl StreamJoinParts {
    /// What the state of this join holds: a store per side.
    pub fn store_specs(&self) -> Result<Vec<StoreSpec>> {
        Ok(vec![buffer::store_spec(&self.left)?, buffer::store_spec(&self.right)?])
    }
}

/// Joins two streams. Partition k of the output is state partition k; partition k of both inputs must hold the rows of
/// its keys.
#[derive(Debug)]
pub struct StreamJoinExec {
    left: Arc<dyn ExecutionPlan>,
    right: Arc<dyn ExecutionPlan>,
    parts: Arc<StreamJoinParts>,
    operator: Arc<StatefulOperator>,
    context: Arc<BatchContext>,
    properties: Arc<PlanProperties>,
}

impl StreamJoinExec {
    /// `schema` is the output: the columns of the left side, then (but for a semi join) of the right side.
    pub fn new(
        inputs: [Arc<dyn ExecutionPlan>; 2],
        parts: Arc<StreamJoinParts>,
        operator: Arc<StatefulOperator>,
        context: Arc<BatchContext>,
        schema: SchemaRef,
    ) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(operator.partitions()),
            EmissionType::Final,
            Boundedness::Bounded,
        );
        let [left, right] = inputs;
        Self { left, right, parts, operator, context, properties: Arc::new(properties) }
    }
}

impl DisplayAs for StreamJoinExec {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        let StreamJoinParts { left, right, semi, filter } = self.parts.as_ref();
        let kind = match (semi, left.outer, right.outer) {
            (true, _, _) => "LeftSemi",
            (_, true, true) => "Full",
            (_, true, false) => "Left",
            (_, false, true) => "Right",
            (_, false, false) => "Inner",
        };
        write!(f, "StreamJoinExec: operator={} type={kind}", self.operator.id)?;
        match filter {
            Some(filter) => write!(f, " filter={}", filter.expr),
            None => Ok(()),
        }
    }
}

impl ExecutionPlan for StreamJoinExec {
    fn name(&self) -> &'static str {
        "StreamJoinExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.left, &self.right]
    }

    fn required_input_distribution(&self) -> Vec<Distribution> {
        vec![required_distribution(self.operator.partitions()); 2]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false, false]
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
        let right = children.swap_remove(1);
        let left = children.swap_remove(0);
        Ok(Arc::new(Self {
            left,
            right,
            parts: Arc::clone(&self.parts),
            operator: Arc::clone(&self.operator),
            context: Arc::clone(&self.context),
            properties: Arc::clone(&self.properties),
        }))
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, super::recompute())
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        self.operator.check_partitions(&self.left)?;
        self.operator.check_partitions(&self.right)?;
        let left = self.left.execute(partition, Arc::clone(&context))?;
        let right = self.right.execute(partition, context)?;
        let (parts, operator) = (Arc::clone(&self.parts), Arc::clone(&self.operator));
        let batch = self.context.current();
        let schema = self.schema();
        let joined = async move {
            let (left, right): (Vec<RecordBatch>, Vec<RecordBatch>) =
                futures::future::try_join(left.try_collect(), right.try_collect()).await?;
            let (left_store, right_store) =
                (operator.store(partition, parts.left.name)?, operator.store(partition, parts.right.name)?);
            let (mut left_store, mut right_store) = (left_store.lock().await, right_store.lock().await);
            let mut run = PartitionRun {
                parts: &parts,
                left: Buffer::new(&parts.left, left_store.as_mut(), batch.id),
                right: Buffer::new(&parts.right, right_store.as_mut(), batch.id),
                watermarks: batch.watermarks[operator.id],
                schema: &schema,
                clock: operator.clock.as_ref(),
                numbers: OperatorNumbers::default(),
                out: vec![],
            };
            run.run(left, right)?;
            operator.count(run.numbers);
            let out = run.out;
            Ok::<_, DataFusionError>(futures::stream::iter(out.into_iter().map(Ok)))
        };
        let rows = futures::stream::once(joined).try_flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), rows)))
    }
}
