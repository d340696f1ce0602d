//! `foreachBatch`: every batch is handed, whole, to a function of the user.
//!
//! At least once: a batch that runs again after a crash is handed over again with the same id; the function skips what
//! it has done before by that id, or repeats it harmlessly (`spec/07` section 4). It is called for empty batches too.

use std::fmt::{self, Debug};
use std::future::Future;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use futures::FutureExt;
use futures::future::BoxFuture;
use wavetank_engine::options::Options;
use wavetank_engine::sink::{OutputBatch, OutputMode, Sink, SinkContext, SinkProvider};
use wavetank_engine::{Error, Result};

use crate::rows;

/// What the user's function is given.
#[derive(Clone, Debug)]
pub struct ForeachBatch {
    /// The columns.
    pub schema: SchemaRef,
    /// The batch's id; the same again when the batch runs again.
    pub batch_id: u64,
    /// All rows of the batch, in the order of its partitions. Empty when the batch has none.
    pub rows: Vec<RecordBatch>,
}

impl ForeachBatch {
    /// How many rows there are.
    pub fn rows_count(&self) -> u64 {
        rows::rows_count(&self.rows)
    }
}

/// What a function of the user may fail with.
pub type UserError = Box<dyn std::error::Error + Send + Sync>;

type Function = dyn Fn(ForeachBatch) -> BoxFuture<'static, Result<(), UserError>> + Send + Sync;

/// The sink of `foreachBatch`. It has no name: a query is given one by
/// `write_stream().foreach_batch(..)`.
#[derive(Clone)]
pub struct ForeachBatchProvider {
    function: Arc<Function>,
}

impl ForeachBatchProvider {
    /// A sink that awaits `function` for every batch.
    pub fn new<F, R, E>(function: F) -> Self
    where
        F: Fn(ForeachBatch) -> R + Send + Sync + 'static,
        R: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<UserError>,
    {
        Self { function: Arc::new(move |batch| function(batch).map(|done| done.map_err(Into::into)).boxed()) }
    }

    /// A sink that calls `function` for every batch; for functions that neither wait nor block.
    pub fn blocking<F, E>(function: F) -> Self
    where
        F: Fn(ForeachBatch) -> Result<(), E> + Send + Sync + 'static,
        E: Into<UserError>,
    {
        Self {
            function: Arc::new(move |batch| {
                let done = function(batch).map_err(Into::into);
                std::future::ready(done).boxed()
            }),
        }
    }
}

impl Debug for ForeachBatchProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForeachBatchProvider").finish_non_exhaustive()
    }
}

#[async_trait]
impl SinkProvider for ForeachBatchProvider {
    fn short_name(&self) -> &str {
        "foreachBatch"
    }

    fn supports(&self, _mode: OutputMode) -> bool {
        true
    }

    fn allows_temporary_checkpoint(&self) -> bool {
        true
    }

    fn check_options(&self, options: &Options) -> Result<()> {
        options.refuse_unknown("The foreachBatch sink", &["path"])
    }

    async fn sink(&self, context: SinkContext) -> Result<Arc<dyn Sink>> {
        Ok(Arc::new(ForeachBatchSink { function: self.function.clone(), schema: context.schema }))
    }
}

/// A running [`ForeachBatchProvider`].
struct ForeachBatchSink {
    function: Arc<Function>,
    schema: SchemaRef,
}

impl Debug for ForeachBatchSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForeachBatchSink").finish_non_exhaustive()
    }
}

#[async_trait]
impl Sink for ForeachBatchSink {
    fn describe(&self) -> String {
        "ForeachBatchSink".into()
    }

    /// The rows are read to the end before the function sees them, so that a function that looks at none of them
    /// leaves the state of the query whole.
    async fn write(&self, batch: OutputBatch) -> Result<Option<u64>> {
        let rows = rows::collect(&self.schema, batch.partitions).await?.concat();
        let batch_id = batch.batch_id;
        let handed = ForeachBatch { schema: self.schema.clone(), batch_id, rows };
        (self.function)(handed).await.map_err(|error| Error::UserFunction {
            class: "FOREACH_BATCH_USER_FUNCTION_ERROR".into(),
            message: format!(
                "An error occurred in the user provided function in foreach batch sink. Reason: {} (batch {batch_id}). \
                 Correct the function and start the query again: the batch will be handed over again.",
                with_causes(error.as_ref())
            ),
        })?;
        Ok(None)
    }

    async fn commit(&self, _batch_id: u64) -> Result<()> {
        Ok(())
    }
}

/// The text of an error and of what caused it.
pub(crate) fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::testing::{batch, broken_batch, context, rows, schema};

    async fn sink(provider: ForeachBatchProvider) -> Arc<dyn Sink> {
        provider.sink(context(schema(), OutputMode::Update, &[])).await.unwrap()
    }

    #[tokio::test]
    async fn every_batch_is_handed_over_empty_ones_too() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = seen.clone();
        let sink = sink(ForeachBatchProvider::new(move |batch: ForeachBatch| {
            let log = log.clone();
            async move {
                log.lock().unwrap().push((batch.batch_id, batch.rows_count(), batch.schema.fields().len()));
                Ok::<_, Error>(())
            }
        }))
        .await;
        for (id, partitions) in [(0, vec![rows(&[("a", 1)]), rows(&[("b", 2)])]), (1, vec![]), (1, vec![])] {
            assert_eq!(sink.write(batch(id, partitions)).await.unwrap(), None);
            sink.commit(id).await.unwrap();
        }
        assert_eq!(*seen.lock().unwrap(), [(0, 2, 2), (1, 0, 2), (1, 0, 2)]);
    }

    #[tokio::test]
    async fn the_users_error_and_its_causes_are_told() {
        let sink = sink(ForeachBatchProvider::blocking(|_| {
            let inner = std::io::Error::other("the table is locked");
            Err::<(), _>(Error::from(datafusion::error::DataFusionError::from(inner)))
        }))
        .await;
        let error = sink.write(batch(3, vec![])).await.unwrap_err();
        assert_eq!(error.class(), Some("FOREACH_BATCH_USER_FUNCTION_ERROR"));
        let text = error.to_string();
        assert!(text.contains("the table is locked") && text.contains("batch 3"), "{text}");
    }

    #[tokio::test]
    async fn a_batch_that_fails_is_not_handed_over() {
        let sink = sink(ForeachBatchProvider::blocking(|_| Err::<(), _>("must not be called"))).await;
        assert!(sink.write(broken_batch(0)).await.unwrap_err().to_string().contains("the plan failed"));
    }
}
