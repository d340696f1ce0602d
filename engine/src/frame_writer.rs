//! `write()`: a static frame is written once, to a sink's format, in one of Spark's four save modes.
//!
//! The full version has to handle: a stream (refused with Spark's class), a format that cannot be written to statically,
//! the path given twice, a folder that is there already (by mode), a frame that reads what it overwrites (the sink reads
//! everything before the old files go), and the same frame written twice.

use crate::dataframe::DataFrame;
use crate::error::{Error, Result};
use crate::options::Options;
use crate::sink::{OutputMode, SaveMode, SinkContext};

/// A write that is being defined.
#[derive(Clone, Debug)]
pub struct DataFrameWriter {
    frame: DataFrame,
    format: String,
    options: Options,
    mode: SaveMode,
    partition_by: Vec<String>,
}

impl DataFrameWriter {
    pub(crate) fn new(frame: DataFrame) -> Self {
        let (format, options) = ("parquet".to_owned(), Options::new());
        Self { frame, format, options, mode: SaveMode::default(), partition_by: vec![] }
    }

    /// The format's short name: `parquet` (the default), `json`, `csv`, `text`, `console`, `noop`.
    pub fn format(mut self, format: &str) -> Self {
        self.format = format.to_owned();
        self
    }

    /// Sets an option of the format.
    pub fn option(mut self, name: &str, value: impl ToString) -> Self {
        self.options.set(name, value.to_string());
        self
    }

    /// What happens when there is something already; an error by default.
    pub fn mode(mut self, mode: SaveMode) -> Self {
        self.mode = mode;
        self
    }

    /// Columns by whose values folders are made.
    pub fn partition_by(mut self, columns: &[&str]) -> Self {
        self.partition_by = columns.iter().map(|column| (*column).to_owned()).collect();
        self
    }

    /// Runs the frame and writes its rows to this folder.
    pub async fn save(mut self, path: &str) -> Result<()> {
        if self.options.get("path").is_some() {
            return Err(Error::analysis("There is a path in the option and one given to save. Give the path once."));
        }
        self.options.set("path", path);
        self.run().await
    }

    /// Runs the frame and writes its rows to where the options say.
    ///
    /// # Errors
    /// `CALL_ON_STREAMING_DATASET_UNSUPPORTED` for a stream; `PATH_ALREADY_EXISTS` as the save mode says; what the
    /// frame and the format refuse.
    pub async fn run(self) -> Result<()> {
        if self.frame.is_streaming() {
            return Err(Error::analysis_class(
                "CALL_ON_STREAMING_DATASET_UNSUPPORTED",
                "The method `write` can not be called on streaming Dataset/DataFrame. Use write_stream().",
            ));
        }
        let session = self.frame.session().clone();
        let provider = session.sink_provider(&self.format)?;
        if !self.partition_by.is_empty() && !provider.supports_partition_by() {
            return Err(Error::analysis(format!("'{}' does not support partitioning.", provider.short_name())));
        }
        provider.check_options(&self.options)?;
        let mut environment = session.environment().clone();
        // Two writes of one session draw different names for their files.
        environment.entropy = environment.entropy.fork(&format!("static write {}", session.next_start()));
        let partitions = self.frame.execute().await?;
        let context = SinkContext {
            environment,
            schema: self.frame.schema(),
            output_mode: OutputMode::Append,
            options: self.options,
            partition_by: self.partition_by,
            query_name: None,
            query_id: String::new(),
            next_batch_id: 0,
            is_new: false,
            interrupted: false,
        };
        provider.write_static(context, self.mode, partitions).await
    }
}
