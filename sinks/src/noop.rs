//! The sink that reads everything and keeps nothing, for measuring a query.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::execution::SendableRecordBatchStream;
use wavetank_engine::Result;
use wavetank_engine::options::Options;
use wavetank_engine::sink::{OutputBatch, OutputMode, SaveMode, Sink, SinkContext, SinkProvider};

use crate::rows;

/// The `noop` format: any output mode, no options.
#[derive(Debug, Default)]
pub struct NoopProvider;

#[async_trait]
impl SinkProvider for NoopProvider {
    fn short_name(&self) -> &str {
        "noop"
    }

    fn supports(&self, _mode: OutputMode) -> bool {
        true
    }

    fn supports_partition_by(&self) -> bool {
        true // and ignored, as in Spark
    }

    fn allows_temporary_checkpoint(&self) -> bool {
        true
    }

    fn check_options(&self, options: &Options) -> Result<()> {
        options.refuse_unknown("The noop sink", &["path"])
    }

    async fn sink(&self, _context: SinkContext) -> Result<Arc<dyn Sink>> {
        Ok(Arc::new(NoopSink))
    }

    async fn write_static(
        &self,
        _context: SinkContext,
        _mode: SaveMode,
        partitions: Vec<SendableRecordBatchStream>,
    ) -> Result<()> {
        rows::count(partitions).await.map(|_| ())
    }
}

/// A running [`NoopProvider`].
#[derive(Debug)]
struct NoopSink;

#[async_trait]
impl Sink for NoopSink {
    fn describe(&self) -> String {
        "NoopTable".into()
    }

    async fn write(&self, batch: OutputBatch) -> Result<Option<u64>> {
        Ok(Some(rows::count(batch.partitions).await?))
    }

    async fn commit(&self, _batch_id: u64) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{batch, broken_batch, context, rows, schema};

    #[tokio::test]
    async fn everything_is_read_and_counted() {
        let sink = NoopProvider.sink(context(schema(), OutputMode::Update, &[])).await.unwrap();
        let two = batch(0, vec![rows(&[("a", 1)]), rows(&[("b", 2), ("c", 3)])]);
        assert_eq!(sink.write(two).await.unwrap(), Some(3));
        assert!(sink.write(broken_batch(1)).await.is_err());
        assert!(NoopProvider.check_options(&Options::new().with("x", "1")).is_err());
    }
}
