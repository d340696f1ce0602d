//! What a streaming sink promises the engine: batch N becomes visible once, however often it is written.

use std::fmt::{self, Debug};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::TableProvider;
use datafusion::execution::SendableRecordBatchStream;

use crate::environment::Environment;
use crate::error::{Error, Result};
use crate::options::Options;

/// Which rows of the result a batch hands to the sink (`spec/05`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OutputMode {
    /// Rows that will never change again.
    #[default]
    Append,
    /// Rows that changed in this batch.
    Update,
    /// All rows, every batch.
    Complete,
}

impl OutputMode {
    /// Spark's text for the mode, in lower case.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Append => "append",
            Self::Update => "update",
            Self::Complete => "complete",
        }
    }
}

impl fmt::Display for OutputMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for OutputMode {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.to_lowercase().as_str() {
            "append" => Ok(Self::Append),
            "update" => Ok(Self::Update),
            "complete" => Ok(Self::Complete),
            _ => Err(Error::analysis_class(
                "STREAMING_OUTPUT_MODE.INVALID",
                format!("Invalid streaming output mode: {text}. Write append, update or complete."),
            )),
        }
    }
}

/// What happens when there is something already where a static frame is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SaveMode {
    /// An error.
    #[default]
    ErrorIfExists,
    /// The rows are added.
    Append,
    /// The rows take the place of what is there.
    Overwrite,
    /// Nothing is written.
    Ignore,
}

impl fmt::Display for SaveMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ErrorIfExists => "errorifexists",
            Self::Append => "append",
            Self::Overwrite => "overwrite",
            Self::Ignore => "ignore",
        })
    }
}

impl std::str::FromStr for SaveMode {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.to_lowercase().as_str() {
            "errorifexists" | "error" | "default" => Ok(Self::ErrorIfExists),
            "append" => Ok(Self::Append),
            "overwrite" => Ok(Self::Overwrite),
            "ignore" => Ok(Self::Ignore),
            _ => Err(Error::analysis_class(
                "INVALID_SAVE_MODE",
                format!(
                    "The specified save mode \"{text}\" is invalid. Valid save modes include \"append\", \"overwrite\", \
                     \"ignore\", \"error\", \"errorifexists\", and \"default\"."
                ),
            )),
        }
    }
}

/// The result of one batch, on its way into a sink.
pub struct OutputBatch {
    /// The batch's id: 0, 1, 2, ... without gaps; the same id again when a batch is run again.
    pub batch_id: u64,
    /// The batch timestamp of the offset log, in milliseconds since 1970.
    pub timestamp_ms: i64,
    /// The partitions of the result; each has the schema of [`SinkContext::schema`].
    pub partitions: Vec<SendableRecordBatchStream>,
}

/// A running sink of one query.
///
/// # Contract
/// * `write(batch)` reads every partition to its end (operators keep their state by being read), and makes nothing
///   visible that `commit` has not been called for, as far as the sink is able to (console and foreach are not).
/// * `commit(n)` makes batch n visible, atomically and durably; calling it again, in this run or after a restart, changes nothing.
/// * A batch id that is already visible may be written again after a crash; the sink skips it without a trace.
/// * `write(n)` without `commit(n)` (a crash in between) leaves nothing that a reader sees.
#[async_trait]
pub trait Sink: Debug + Send + Sync {
    /// The `description` of this sink in the progress report, for example `FileSink[file:/data/out]`.
    fn describe(&self) -> String;

    /// Stages a batch. Answers the number of rows written, or `None` for sinks that do not count them (the progress
    /// report then says -1, as Spark's v1 sinks do).
    async fn write(&self, batch: OutputBatch) -> Result<Option<u64>>;

    /// Makes a staged batch visible.
    async fn commit(&self, batch_id: u64) -> Result<()>;

    /// The query has ended; give back what is held.
    async fn stop(&self) -> Result<()> {
        Ok(())
    }

    /// The table that this sink fills, for sinks that fill one: the session shows it under the query's name.
    fn table(&self) -> Option<Arc<dyn TableProvider>> {
        None
    }
}

/// What a sink is made from.
#[derive(Clone, Debug)]
pub struct SinkContext {
    /// Clock, storage, entropy.
    pub environment: Environment,
    /// The columns of the result.
    pub schema: SchemaRef,
    /// The query's output mode; already checked against [`SinkProvider::supports`].
    pub output_mode: OutputMode,
    /// The options of the writer, `path` among them; the engine's own (checkpointLocation, ...) are taken out.
    pub options: Options,
    /// The columns of `partitionBy`.
    pub partition_by: Vec<String>,
    /// The query's name, if it has one.
    pub query_name: Option<String>,
    /// The query's id, the same in every run.
    pub query_id: String,
    /// The next batch of the query: 0 for a new checkpoint.
    pub next_batch_id: u64,
    /// No batch of the query was ever promised: what a sink has of batches is not this query's.
    pub is_new: bool,
    /// An earlier run, which is known to be over, may have left a part of the next batch in the sink: the sink may
    /// clear away what it finds of it.
    pub interrupted: bool,
}

/// A connector that can be written to, registered in a session by its short name.
#[async_trait]
pub trait SinkProvider: Debug + Send + Sync {
    /// The name after `USING` and in `format(..)`, in lower case.
    fn short_name(&self) -> &str;

    /// Whether the sink can take this output mode (`spec/05`, section 4).
    fn supports(&self, mode: OutputMode) -> bool;

    /// Whether `partitionBy` is accepted.
    fn supports_partition_by(&self) -> bool {
        false
    }

    /// Whether a query may run without a checkpoint location (console, memory, noop, foreach, foreachBatch: then a
    /// temporary one is used).
    fn allows_temporary_checkpoint(&self) -> bool {
        false
    }

    /// Whether a query in this mode may go on from a checkpoint that already has batches (the memory sink may only
    /// in complete mode).
    fn recovers(&self, mode: OutputMode) -> bool {
        let _ = mode;
        true
    }

    /// Refuses options before anything starts.
    fn check_options(&self, options: &Options) -> Result<()> {
        let _ = options;
        Ok(())
    }

    /// Makes the running sink of one query.
    async fn sink(&self, context: SinkContext) -> Result<Arc<dyn Sink>>;

    /// Writes a static result, whose partitions are read to their end. The options were checked.
    async fn write_static(
        &self,
        context: SinkContext,
        mode: SaveMode,
        partitions: Vec<SendableRecordBatchStream>,
    ) -> Result<()> {
        let _ = (context, mode, partitions);
        Err(Error::analysis(format!(
            "Data source {} does not support writing a static frame. Choose a file format, console or noop.",
            self.short_name()
        )))
    }
}
