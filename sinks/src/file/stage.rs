//! The streams of one batch become data files that no reader sees yet.
//!
//! All partitions are read and written at the same time, in one task. Rows of folders (`partitionBy`) are kept until
//! the stream ends, so that only one encoder is open at a time; a folder that grows large is written as it grows.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::future::join_all;
use futures::{StreamExt, TryStreamExt};
use wavetank_engine::checkpoint::SinkFile;
use wavetank_engine::environment::Entropy;
use wavetank_engine::sink::OutputBatch;
use wavetank_engine::storage::Folder;
use wavetank_engine::{Error, Result};

use super::abandoned::Mark;
use super::format::{FileEncoder, Format};
use super::partition::Partitioning;
use super::upload::{FileName, Upload};
use crate::rows::conform;

/// A folder of `partitionBy` with this many bytes of rows is written without waiting for the end of the stream.
const FOLDER_BYTES_MAX: usize = 16 << 20;
/// How many folders of one stream are written at the same time, each waiting for the disk.
const FOLDERS_AT_ONCE: usize = 16;

/// Where and how the files of a sink are written.
#[derive(Debug)]
pub(crate) struct Stage {
    pub folder: Folder,
    pub entropy: Entropy,
    pub query_id: String,
    pub schema: SchemaRef,
    pub partitioning: Partitioning,
    pub format: Format,
    /// What follows the uuid in file names.
    pub ending: Arc<str>,
}

/// A batch that could not be written.
pub(crate) struct Failed {
    pub error: Error,
    /// Names of the files that are there already.
    pub written: Vec<String>,
}

/// What the streams of one batch share.
struct Batch<'a> {
    stage: &'a Stage,
    entropy: Entropy,
    mark: Mark,
    /// Names of the files that are there, to be deleted if the batch fails.
    written: Mutex<Vec<String>>,
}

impl Stage {
    /// What the names of a batch's files share.
    pub(crate) fn mark(&self, batch_id: u64) -> Mark {
        Mark::of(&self.query_id, batch_id)
    }

    /// Reads a batch to its end and writes its files.
    pub(crate) async fn write(&self, batch: OutputBatch) -> Result<Vec<SinkFile>, Failed> {
        let entropy = self.entropy.fork(&format!("batch {}", batch.batch_id));
        let shared = Batch { stage: self, entropy, mark: self.mark(batch.batch_id), written: Mutex::default() };
        let mut streams = batch.partitions;
        if streams.is_empty() {
            // Without partitionBy a batch without partitions still leaves one empty file, as in Spark.
            let none = RecordBatchStreamAdapter::new(self.schema.clone(), futures::stream::empty());
            streams.push(Box::pin(none));
        }
        let partitions = streams.into_iter().enumerate().map(|(task, stream)| shared.partition(task, stream));
        let mut outcomes = join_all(partitions).await;
        if let Some(failed) = outcomes.iter().position(Result::is_err)
            && let Err(error) = outcomes.swap_remove(failed)
        {
            let written = shared.written.into_inner().unwrap_or_else(PoisonError::into_inner);
            return Err(Failed { error, written });
        }
        Ok(outcomes.into_iter().flatten().flatten().collect())
    }
}

impl Batch<'_> {
    async fn partition(&self, task: usize, stream: SendableRecordBatchStream) -> Result<Vec<SinkFile>> {
        match self.stage.partitioning.is_partitioned() {
            false => self.one_file(task, stream).await,
            true => self.folders(task, stream).await,
        }
    }

    fn open(&self, task: usize, partition: Arc<str>) -> Result<OpenFile> {
        let name =
            FileName { entropy: self.entropy, mark: self.mark, partition, task, ending: self.stage.ending.clone() };
        Ok(OpenFile {
            encoder: self.stage.format.start(&self.stage.partitioning.data_schema)?,
            upload: Upload::new(self.stage.folder.clone(), name),
        })
    }

    /// All rows in one file. Without rows there is none, except for the first partition.
    async fn one_file(&self, task: usize, mut stream: SendableRecordBatchStream) -> Result<Vec<SinkFile>> {
        let mut file = if task == 0 { Some(self.open(task, "".into())?) } else { None };
        let outcome: Result<()> = async {
            while let Some(rows) = stream.try_next().await? {
                if rows.num_rows() > 0 {
                    let rows = conform(&self.stage.schema, rows)?;
                    let open = match &mut file {
                        Some(open) => open,
                        none => none.insert(self.open(task, "".into())?),
                    };
                    open.write(&rows).await?;
                }
            }
            Ok(())
        }
        .await;
        match (outcome, file) {
            (Ok(()), None) => Ok(Vec::new()),
            (Ok(()), Some(file)) => Ok(vec![file.finish(&self.written).await?]),
            (Err(error), file) => {
                if let Some(file) = file {
                    file.upload.abort().await;
                }
                Err(error)
            }
        }
    }

    /// A file for each folder that has rows.
    async fn folders(&self, task: usize, stream: SendableRecordBatchStream) -> Result<Vec<SinkFile>> {
        let mut folders = BTreeMap::new();
        if let Err(error) = self.split(task, stream, &mut folders).await {
            for file in folders.into_values().filter_map(|folder: FolderRows| folder.file) {
                file.upload.abort().await;
            }
            return Err(error);
        }
        let files = futures::stream::iter(folders).map(|(folder, rows)| self.folder_file(task, folder, rows));
        let outcomes: Vec<Result<SinkFile>> = files.buffered(FOLDERS_AT_ONCE).collect().await;
        outcomes.into_iter().collect()
    }

    /// Reads a stream to its end; what is left in `folders` waits to be written.
    async fn split(
        &self,
        task: usize,
        mut stream: SendableRecordBatchStream,
        folders: &mut BTreeMap<Arc<str>, FolderRows>,
    ) -> Result<()> {
        let mut splitter = self.stage.partitioning.splitter(&self.stage.schema)?;
        while let Some(rows) = stream.try_next().await? {
            if rows.num_rows() == 0 {
                continue;
            }
            for (folder, rows) in splitter.split(&conform(&self.stage.schema, rows)?)? {
                let waiting = folders.entry(folder.clone()).or_default();
                waiting.bytes += rows.get_array_memory_size();
                waiting.rows.push(rows);
                if waiting.bytes > FOLDER_BYTES_MAX {
                    self.flush(task, folder, waiting).await?;
                }
            }
        }
        Ok(())
    }

    async fn flush(&self, task: usize, folder: Arc<str>, waiting: &mut FolderRows) -> Result<()> {
        let rows = concat_batches(&self.stage.partitioning.data_schema, &waiting.rows)?;
        waiting.rows.clear();
        waiting.bytes = 0;
        let file = match &mut waiting.file {
            Some(file) => file,
            none => none.insert(self.open(task, folder)?),
        };
        file.write(&rows).await
    }

    async fn folder_file(&self, task: usize, folder: Arc<str>, mut waiting: FolderRows) -> Result<SinkFile> {
        let mut file = match waiting.file.take() {
            Some(file) => file,
            None => self.open(task, folder)?,
        };
        let rows = concat_batches(&self.stage.partitioning.data_schema, &waiting.rows)?;
        drop(waiting);
        match file.write(&rows).await {
            Ok(()) => file.finish(&self.written).await,
            Err(error) => {
                file.upload.abort().await;
                Err(error)
            }
        }
    }
}

/// A file that rows are written to as they come.
struct OpenFile {
    encoder: Box<dyn FileEncoder>,
    upload: Upload,
}

impl OpenFile {
    async fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        self.encoder.write(rows)?;
        self.upload.push(self.encoder.take()).await
    }

    async fn finish(mut self, written: &Mutex<Vec<String>>) -> Result<SinkFile> {
        self.upload.push(self.encoder.finish()?).await?;
        self.upload.finish(written).await
    }
}

/// The rows of a folder that wait for the end of their stream.
#[derive(Default)]
struct FolderRows {
    rows: Vec<RecordBatch>,
    bytes: usize,
    /// Where the rows went that did not wait.
    file: Option<OpenFile>,
}
