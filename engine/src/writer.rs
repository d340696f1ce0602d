//! `write_stream()`: a stream, a sink, an output mode, a trigger and a checkpoint become a running query.

use std::sync::Arc;

use crate::dataframe::DataFrame;
use crate::error::{Error, Result};
use crate::microbatch::driver::Driver;
use crate::microbatch::trigger::Trigger;
use crate::options::Options;
use crate::query::StreamingQuery;
use crate::sink::{OutputMode, SinkProvider};
use crate::start;

/// A query that is being defined.
#[derive(Clone, Debug)]
pub struct DataStreamWriter {
    pub(crate) frame: DataFrame,
    pub(crate) sink: SinkChoice,
    pub(crate) options: Options,
    pub(crate) output_mode: OutputMode,
    pub(crate) trigger: Trigger,
    pub(crate) query_name: Option<String>,
    pub(crate) partition_by: Vec<String>,
}

/// Where the rows go.
#[derive(Clone, Debug)]
pub(crate) enum SinkChoice {
    /// A connector of the session.
    Format(String),
    /// A connector made by the caller: foreachBatch, foreach, a test's own.
    Provider(Arc<dyn SinkProvider>),
}

impl DataStreamWriter {
    pub(crate) fn new(frame: DataFrame) -> Self {
        Self {
            frame,
            sink: SinkChoice::Format("parquet".into()),
            options: Options::new(),
            output_mode: OutputMode::default(),
            trigger: Trigger::default(),
            query_name: None,
            partition_by: vec![],
        }
    }

    /// The sink's short name: `console`, `parquet`, `memory`, ...
    pub fn format(mut self, format: &str) -> Self {
        self.sink = SinkChoice::Format(format.to_owned());
        self
    }

    /// A sink that is not registered by name, such as `wavetank_sinks::foreach_batch(..)`.
    pub fn sink(mut self, provider: Arc<dyn SinkProvider>) -> Self {
        self.sink = SinkChoice::Provider(provider);
        self
    }

    /// Sets an option of the sink, or one of the query: `checkpointLocation`, `path`.
    pub fn option(mut self, name: &str, value: impl ToString) -> Self {
        self.options.set(name, value.to_string());
        self
    }

    /// Which rows a batch hands to the sink; append by default.
    pub fn output_mode(mut self, mode: OutputMode) -> Self {
        self.output_mode = mode;
        self
    }

    /// When batches run; as fast as possible by default.
    pub fn trigger(mut self, trigger: Trigger) -> Self {
        self.trigger = trigger;
        self
    }

    /// The query's name, unique among the running queries of the session.
    pub fn query_name(mut self, name: &str) -> Self {
        self.query_name = Some(name.to_owned());
        self
    }

    /// Columns by whose values a file sink makes folders.
    pub fn partition_by(mut self, columns: &[&str]) -> Self {
        self.partition_by = columns.iter().map(|column| (*column).to_owned()).collect();
        self
    }

    /// Checks everything, recovers from the checkpoint and starts the query as a task of the current tokio runtime.
    ///
    /// Unlike Spark's `start()`, errors of sources and sinks that can be found without running a batch come from
    /// here, too.
    pub async fn start(self) -> Result<StreamingQuery> {
        let session = self.frame.session().clone();
        Ok(start::spawn(&session, start::prepare(self).await?))
    }

    /// [`DataStreamWriter::start`] with the option `path`.
    pub async fn start_path(self, path: &str) -> Result<StreamingQuery> {
        if self.options.get("path").is_some() {
            return Err(Error::analysis("There is a path in the option and one given to start. Give the path once."));
        }
        self.option("path", path).start().await
    }

    /// How the query would be run: its logical and its physical plan. Everything that can be checked without the
    /// checkpoint is checked; nothing is written.
    pub async fn explain(self) -> Result<String> {
        start::explain(self).await
    }

    pub(crate) fn sink_provider(&self) -> Result<Arc<dyn SinkProvider>> {
        match &self.sink {
            SinkChoice::Format(format) => self.frame.session().sink_provider(format),
            SinkChoice::Provider(provider) => Ok(Arc::clone(provider)),
        }
    }

    /// Like [`DataStreamWriter::start`], but nothing runs: the caller triggers the batches, one by one.
    pub async fn driver(self) -> Result<Driver> {
        Ok(start::prepare(self).await?.driver)
    }
}
