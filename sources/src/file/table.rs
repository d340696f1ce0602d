//! The files of a path as a static table: those that are there when the table is defined.

use std::fmt::{self, Debug};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use futures::{StreamExt, TryStreamExt, stream};
use wavetank_engine::source::Split;

use crate::file::scan::{FileScan, ScanFile};

/// A fixed list of files.
#[derive(Debug)]
pub(crate) struct FileTable {
    scan: FileScan,
    schema: SchemaRef,
    files: Vec<ScanFile>,
}

impl FileTable {
    pub(crate) fn new(scan: FileScan, files: Vec<ScanFile>) -> Self {
        Self { schema: scan.schema(), scan, files }
    }
}

#[async_trait]
impl TableProvider for FileTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _: &[Expr],
        limit: Option<usize>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let schema = crate::blocks::projected(&self.schema, projection.map(Vec::as_slice))?;
        let splits = self.scan.splits(&self.files, projection.map(Vec::as_slice))?;
        let partitions_count = state.config().target_partitions().min(splits.len()).max(1);
        let mut parts = vec![Vec::new(); partitions_count];
        for (at, split) in splits.into_iter().enumerate() {
            parts[at % partitions_count].push(split);
        }
        let partitions = parts.into_iter().map(|splits| {
            Arc::new(SplitsPartition { schema: Arc::clone(&schema), splits: splits.into() }) as Arc<dyn PartitionStream>
        });
        let plan = StreamingTableExec::try_new(Arc::clone(&schema), partitions.collect(), None, None, false, limit)?;
        Ok(Arc::new(plan))
    }
}

/// Splits that are read one after the other.
struct SplitsPartition {
    schema: SchemaRef,
    splits: Arc<[Arc<dyn Split>]>,
}

impl Debug for SplitsPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} splits", self.splits.len())
    }
}

impl PartitionStream for SplitsPartition {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let splits: Vec<_> = self.splits.iter().cloned().collect();
        let batches = stream::iter(splits).map(|split| split.open().map_err(DataFusionError::from)).try_flatten();
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), batches))
    }
}
