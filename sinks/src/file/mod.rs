//! The file sinks: `rows -> data files under their final names -> one entry of _spark_metadata`, per batch.
//!
//! ```text
//! format.rs       what the four formats share: options, types, the trait of their encoders
//! csv.rs json.rs text.rs parquet.rs                  rows -> bytes, as Spark writes them
//! compression.rs  codecs and the endings of file names
//! partition.rs    partitionBy: rows -> folders `k=v`, escaped as Hive does
//! abandoned.rs    what a run left that died in the middle of a batch
//! upload.rs       bytes -> one file in the store
//! stage.rs        the streams of a batch -> its files
//! once.rs         a static result -> files, without entries
//! sink.rs         write(batch) stages files, commit(batch) adds the entry
//! ```
//! A batch becomes visible when its entry is there, and only then; who lists the folder without reading the entries
//! sees the files of a batch while it is unfinished (`spec/07` section 1): those of a run that died go when the query is
//! started again. Absent: the text of the entries and their compaction
//! (`wavetank_engine::checkpoint`), and deleting data files of committed batches; a retention only hides them.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::execution::SendableRecordBatchStream;
use wavetank_engine::options::Options;
use wavetank_engine::sink::{OutputBatch, OutputMode, SaveMode, Sink, SinkContext, SinkProvider};
use wavetank_engine::{Error, Result};

mod abandoned;
mod compression;
mod csv;
mod format;
mod json;
mod once;
mod parquet;
mod partition;
mod sink;
mod stage;
mod text;
mod upload;

use format::Format;
pub use format::Kind as FileFormat;
pub use sink::METADATA_FOLDER;

/// A format that is written to files: `parquet`, `json`, `csv` or `text`.
///
/// Options of all formats: `path` (required), `compression`, `retention` (`12h`: entries of older files are dropped
/// when the log is compacted). Batches that are already in the folder's log are skipped, so every batch is there once.
#[derive(Clone, Copy, Debug)]
pub struct FileSinkProvider {
    format: FileFormat,
}

impl FileSinkProvider {
    /// A provider of one format.
    pub fn new(format: FileFormat) -> Self {
        Self { format }
    }
}

#[async_trait]
impl SinkProvider for FileSinkProvider {
    fn short_name(&self) -> &str {
        self.format.short_name()
    }

    fn supports(&self, mode: OutputMode) -> bool {
        mode == OutputMode::Append
    }

    fn supports_partition_by(&self) -> bool {
        true
    }

    fn check_options(&self, options: &Options) -> Result<()> {
        Format::of(self.format, options)?;
        sink::retention_ms(options)?;
        path_of(options).map(|_| ())
    }

    async fn sink(&self, context: SinkContext) -> Result<Arc<dyn Sink>> {
        self.check_options(&context.options)?;
        Ok(Arc::new(sink::FileSink::open(self.format, context).await?))
    }

    async fn write_static(
        &self,
        context: SinkContext,
        mode: SaveMode,
        partitions: Vec<SendableRecordBatchStream>,
    ) -> Result<()> {
        let timestamp_ms = context.environment.clock.now_us().div_euclid(1000);
        once::write(self.format, context, mode, OutputBatch { batch_id: 0, timestamp_ms, partitions }).await
    }
}

fn path_of(options: &Options) -> Result<&str> {
    options
        .get("path")
        .ok_or_else(|| Error::analysis("'path' is not specified. Give the folder to write to as option 'path'."))
}

#[cfg(test)]
mod faulty;
#[cfg(test)]
mod format_tests;
#[cfg(test)]
mod tests;
