//! The sink of a test: it lives outside the process and keeps what every batch wrote, over restarts and crashes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::execution::SendableRecordBatchStream;
use futures::TryStreamExt;
use wavetank_engine::sink::{OutputBatch, OutputMode, Sink, SinkContext, SinkProvider};
use wavetank_engine::{Error, Result};

/// What a query wrote, batch by batch. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Collected {
    kept: Arc<Mutex<Kept>>,
}

/// Everything that was committed.
#[derive(Clone, Debug, Default)]
pub(super) struct Kept {
    /// The columns, once a query was started.
    pub(super) schema: Option<SchemaRef>,
    /// The mode of the query that was started last.
    pub(super) mode: OutputMode,
    /// The rows of each batch, in the order in which they were written.
    pub(super) batches: BTreeMap<u64, Vec<RecordBatch>>,
    /// The batches in the order in which they were committed; a batch that came again is there again.
    pub(super) commits: Vec<u64>,
}

impl Collected {
    /// What there is now.
    pub(super) fn now(&self) -> Kept {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl SinkProvider for Collected {
    fn short_name(&self) -> &str {
        "test"
    }

    fn supports(&self, _: OutputMode) -> bool {
        true
    }

    async fn sink(&self, context: SinkContext) -> Result<Arc<dyn Sink>> {
        let mut kept = self.lock();
        kept.schema = Some(context.schema);
        kept.mode = context.output_mode;
        Ok(Arc::new(CollectingSink { collected: self.clone(), staged: Mutex::default() }))
    }
}

#[derive(Debug)]
struct CollectingSink {
    collected: Collected,
    staged: Mutex<Option<(u64, Vec<RecordBatch>)>>,
}

#[async_trait]
impl Sink for CollectingSink {
    fn describe(&self) -> String {
        "TestSink".into()
    }

    async fn write(&self, batch: OutputBatch) -> Result<Option<u64>> {
        let mut rows = vec![];
        for partition in batch.partitions {
            rows.extend(read(partition).await?);
        }
        let count = rows.iter().map(RecordBatch::num_rows).sum::<usize>() as u64;
        *self.staged.lock().unwrap_or_else(PoisonError::into_inner) = Some((batch.batch_id, rows));
        Ok(Some(count))
    }

    async fn commit(&self, batch_id: u64) -> Result<()> {
        let staged = self.staged.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut kept = self.collected.lock();
        match staged.filter(|(staged_id, _)| *staged_id == batch_id) {
            Some((_, rows)) => {
                kept.commits.push(batch_id);
                // A batch that is there already was visible before the crash; the sink skips it.
                kept.batches.entry(batch_id).or_insert(rows);
                Ok(())
            }
            None if kept.batches.contains_key(&batch_id) => Ok(()),
            None => Err(Error::internal(format!("batch {batch_id} was committed but not written"))),
        }
    }
}

async fn read(partition: SendableRecordBatchStream) -> Result<Vec<RecordBatch>> {
    Ok(partition.try_collect().await?)
}
