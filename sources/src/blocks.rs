//! Parts of a batch that are already in memory, or made up while they are read.

use std::fmt::{self, Debug};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::stream;
use wavetank_engine::Result;
use wavetank_engine::source::Split;

/// Rows of one Arrow batch; what the readers here aim at.
pub(crate) const BATCH_ROWS: usize = 8192;

/// The schema under a projection.
pub(crate) fn projected(schema: &SchemaRef, projection: Option<&[usize]>) -> Result<SchemaRef> {
    Ok(match projection {
        None => Arc::clone(schema),
        Some(columns) => Arc::new(schema.project(columns)?),
    })
}

/// The part whose rows are these batches.
#[derive(Debug)]
pub(crate) struct BatchesSplit {
    pub(crate) schema: SchemaRef,
    pub(crate) batches: Vec<RecordBatch>,
}

impl Split for BatchesSplit {
    fn open(&self) -> Result<SendableRecordBatchStream> {
        let batches: Vec<_> = self.batches.iter().cloned().map(Ok).collect();
        Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), stream::iter(batches))))
    }
}

/// Makes the k-th batch of a part, or `None` after the last one.
type MakeBatch = dyn Fn(u64) -> Result<Option<RecordBatch>> + Send + Sync;

/// The part whose batches a function makes up when they are asked for.
pub(crate) struct MadeUpSplit {
    pub(crate) schema: SchemaRef,
    pub(crate) make: Arc<MakeBatch>,
}

impl Debug for MadeUpSplit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MadeUpSplit").field("schema", &self.schema).finish_non_exhaustive()
    }
}

impl Split for MadeUpSplit {
    fn open(&self) -> Result<SendableRecordBatchStream> {
        let make = Arc::clone(&self.make);
        let mut made = 0;
        let batches = std::iter::from_fn(move || {
            let batch = make(made).map_err(DataFusionError::from).transpose();
            made += 1;
            batch
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), stream::iter(batches))))
    }
}
