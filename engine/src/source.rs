//! What a streaming source promises the engine: offsets, limits, and reading a range twice gives the same rows twice.

use std::fmt::{self, Debug, Display};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::TableProvider;
use datafusion::execution::SendableRecordBatchStream;

use crate::environment::Environment;
use crate::error::{Error, Result};
use crate::options::Options;
use crate::storage::Folder;

/// A position in a source, as the JSON text that the offset log stores. Two offsets are the same position if and only
/// if their texts are equal (`spec/01`, step 3.4: comparison is plain inequality, not ordering).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Offset(String);

impl Offset {
    /// An offset from its JSON text. The text must be one line and must not be `-`, which the log uses for "none".
    pub fn new(json: impl Into<String>) -> Self {
        let json = json.into();
        debug_assert!(!json.contains('\n') && json != "-", "an offset is one line of JSON: {json}");
        Self(json)
    }

    /// The JSON text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How much of what is there a trigger may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadLimit {
    /// What the source's own options say (`maxFilesPerTrigger`, ...); everything when they say nothing.
    Default,
    /// Everything; the options are ignored (trigger Once).
    AllAvailable,
}

/// One independent part of a batch's input. Parts of a batch may be read at the same time.
pub trait Split: Debug + Send + Sync {
    /// Opens the rows of this part. The schema is the source's schema under the projection given to
    /// [`Source::read`]. May be called more than once and gives the same rows each time.
    fn open(&self) -> Result<SendableRecordBatchStream>;
}

/// A running source of one query.
///
/// # Contract
/// * `read(start, end)` of the same two offsets gives the same rows, in this run and after any restart, until
///   `commit(end)` was called. A file that is gone at a re-run is skipped, as Spark does.
/// * `latest_offset` never answers an offset whose data could not be read now.
/// * `commit(end)` may be called twice with the same offset, or not at all (a crash); it only frees.
/// * All calls come from one task, never two at a time; methods take `&self` so that a source can be shared.
#[async_trait]
pub trait Source: Debug + Send + Sync {
    /// The `description` of this source in the progress report, for example `FileStreamSource[file:/data/in]`.
    fn describe(&self) -> String;

    /// Columns in order; every batch of every split has this schema (under the projection asked for).
    fn schema(&self) -> SchemaRef;

    /// How far a batch that starts at `start` may go; `None` when the source knows of no data yet and so has no
    /// offset. An answer equal to `start` means nothing new. `start` is `None` in a new query, until the first
    /// answer was logged.
    async fn latest_offset(&self, start: Option<&Offset>, limit: ReadLimit) -> Result<Option<Offset>>;

    /// The newest offset there is, whatever the limits: only for the progress report.
    async fn report_latest_offset(&self) -> Option<Offset> {
        None
    }

    /// Trigger AvailableNow: remember the newest offset of this moment and never answer a newer one from
    /// `latest_offset` again. Answers false when the source cannot do that (the whole query then runs one batch).
    async fn pin_available_now(&self) -> Result<bool> {
        Ok(false)
    }

    /// The rows after `start` up to and including `end`, in parts. `projection` lists the columns wanted, by index
    /// into [`Source::schema`], in the order wanted; `None` is all of them.
    async fn read(
        &self,
        start: Option<&Offset>,
        end: &Offset,
        projection: Option<&[usize]>,
    ) -> Result<Vec<Arc<dyn Split>>>;

    /// The batch that ended here is done and the next one is logged: what it read may be forgotten.
    async fn commit(&self, end: &Offset) -> Result<()>;

    /// The query has ended; give back what is held.
    async fn stop(&self) -> Result<()> {
        Ok(())
    }
}

/// What a user wrote to define a source: format, schema, options.
#[derive(Clone, Debug, Default)]
pub struct SourceDefinition {
    /// The columns, when the user gave them.
    pub schema: Option<SchemaRef>,
    /// The options, `path` among them.
    pub options: Options,
}

/// Where a source of a query lives.
#[derive(Clone, Debug)]
pub struct SourceContext {
    /// Clock, storage, entropy.
    pub environment: Environment,
    /// `<checkpoint>/sources/<k>`: the source's own folder.
    pub folder: Folder,
    /// The schema that [`SourceProvider::stream_schema`] resolved for this definition.
    pub schema: SchemaRef,
}

/// A connector that can be read from, registered in a session by its short name.
#[async_trait]
pub trait SourceProvider: Debug + Send + Sync {
    /// The name after `USING` and in `format(..)`, in lower case.
    fn short_name(&self) -> &str;

    /// Whether `numInputRows` of this source counts rows after the filters that Spark hands to its readers. So it is for
    /// JSON and CSV files.
    fn filters_while_reading(&self) -> bool {
        false
    }

    /// Resolves the schema of a stream: checks the options and the schema given. Errors here surface when the stream
    /// is defined.
    async fn stream_schema(&self, definition: &SourceDefinition, environment: &Environment) -> Result<SchemaRef>;

    /// Makes the running source of one query. Errors here end the query (Spark finds wrong option values here).
    async fn stream(&self, definition: &SourceDefinition, context: SourceContext) -> Result<Arc<dyn Source>>;

    /// The same definition as a static table. The rows are those that are there when the table is defined.
    async fn table(&self, definition: &SourceDefinition, environment: &Environment) -> Result<Arc<dyn TableProvider>> {
        let _ = (definition, environment);
        Err(Error::analysis(format!(
            "Source '{}' can only be read as a stream. Write STREAM before the table's name, or use readStream.",
            self.short_name()
        )))
    }
}
