//! The leaf of a streaming plan: hands out the rows of this batch's offset range, in as many partitions as planned.
//!
//! The full version has to handle: any number of splits per batch over a fixed number of partitions (dealt round
//! robin, so partition k always reads the same splits again), a batch without news (no splits), the same source under
//! two projections in one plan (two leaves), and counting the rows that come out for the progress report (after a filter
//! that belongs to the scan).

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::EquivalenceProperties;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::filter::batch_filter;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PhysicalExpr, PlanProperties, ReplaceChildrenOptions,
};
use futures::{StreamExt, TryStreamExt};

use super::batch::BatchContext;

/// One leaf of a plan: which source it reads, and which of the source's columns.
#[derive(Debug)]
pub struct Leaf {
    /// The leaf's id: its index into [`super::batch::Batch::splits`].
    pub id: usize,
    /// The occurrence of a source in the query that this leaf reads.
    pub occurrence: usize,
    /// The columns read, by index into the source's schema; `None` is all.
    pub projection: Option<Vec<usize>>,
    rows: AtomicU64,
}

impl Leaf {
    /// A leaf that has not read anything.
    pub fn new(id: usize, occurrence: usize, projection: Option<Vec<usize>>) -> Self {
        Self { id, occurrence, projection, rows: AtomicU64::new(0) }
    }

    /// Rows that came out since the last call.
    pub fn take_rows(&self) -> u64 {
        self.rows.swap(0, Ordering::Relaxed)
    }
}

/// Reads the splits that the current batch has for one leaf.
#[derive(Debug)]
pub struct SourceScanExec {
    leaf: Arc<Leaf>,
    context: Arc<BatchContext>,
    name: String,
    filter: Option<Arc<dyn PhysicalExpr>>,
    properties: Arc<PlanProperties>,
}

impl SourceScanExec {
    /// A scan of `leaf` whose rows have `schema`, read in `partitions` partitions. `name` is for explain.
    pub fn new(
        leaf: Arc<Leaf>,
        context: Arc<BatchContext>,
        name: String,
        schema: SchemaRef,
        partitions: usize,
    ) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(partitions.max(1)),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Self { leaf, context, name, filter: None, properties: Arc::new(properties) }
    }

    /// The scan of only the rows of which this (boolean) expression is true. The others are not counted. It looks at what
    /// the leaf reads: the columns of the scan come first, what only the filter needs after them.
    pub fn with_filter(self, filter: Option<Arc<dyn PhysicalExpr>>) -> Self {
        Self { filter, ..self }
    }
}

impl DisplayAs for SourceScanExec {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "SourceScanExec: source={} leaf={}", self.name, self.leaf.id)?;
        match &self.filter {
            Some(filter) => write!(f, " filter={filter}"),
            None => Ok(()),
        }
    }
}

impl ExecutionPlan for SourceScanExec {
    fn name(&self) -> &'static str {
        "SourceScanExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![]
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        self.filter.as_ref().map_or(Ok(TreeNodeRecursion::Continue), f)
    }

    fn replace_children(
        self: Arc<Self>,
        _children: Vec<Arc<dyn ExecutionPlan>>,
        _options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn with_new_children(self: Arc<Self>, _children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn execute(&self, partition: usize, _context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let partitions = self.properties.partitioning.partition_count();
        let batch = self.context.current();
        let mine: Vec<_> = batch
            .splits
            .get(self.leaf.id)
            .map(|splits| splits.iter().skip(partition).step_by(partitions).cloned().collect())
            .unwrap_or_default();
        let columns: Vec<usize> = (0..self.schema().fields().len()).collect();
        let (leaf, filter) = (Arc::clone(&self.leaf), self.filter.clone());
        let rows = futures::stream::iter(mine)
            .map(|split| split.open().map_err(DataFusionError::from))
            .try_flatten()
            .map(move |rows| {
                let Some(filter) = &filter else { return rows };
                let kept = batch_filter(&rows?, filter)?;
                Ok(if kept.num_columns() == columns.len() { kept } else { kept.project(&columns)? })
            })
            .inspect_ok(move |rows| {
                leaf.rows.fetch_add(rows.num_rows() as u64, Ordering::Relaxed);
            });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), rows)))
    }
}
