//! One query's file sink: write(batch) stages files, commit(batch) adds the entry that makes them visible.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::Mutex;
use wavetank_engine::checkpoint::{CompactibleLog, CompactibleOptions, SinkFile};
use wavetank_engine::environment::Environment;
use wavetank_engine::options::Options;
use wavetank_engine::sink::{OutputBatch, Sink, SinkContext};
use wavetank_engine::storage::Folder;
use wavetank_engine::{Error, Result};

use super::abandoned;
use super::format::{Format, Kind};
use super::partition::Partitioning;
use super::path_of;
use super::stage::Stage;
use crate::rows;

/// The folder in an output folder that says which files are part of it, as Spark calls it.
pub const METADATA_FOLDER: &str = "_spark_metadata";

/// A running [`FileSinkProvider`](super::FileSinkProvider).
#[derive(Debug)]
pub(crate) struct FileSink {
    environment: Environment,
    stage: Stage,
    log_options: CompactibleOptions<SinkFile>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// `None` after a failed add, of which we do not know whether it arrived: the log is then read again.
    log: Option<CompactibleLog<SinkFile>>,
    /// The files of the batch that was written and not committed yet.
    staged: Option<(u64, Vec<SinkFile>)>,
}

impl FileSink {
    /// Checks the columns and reads the log of the output folder.
    pub(crate) async fn open(kind: Kind, context: SinkContext) -> Result<Self> {
        let partitioning = Partitioning::of(&context.schema, &context.partition_by)?;
        kind.check_schema(&partitioning.data_schema)?;
        let format = Format::of(kind, &context.options)?;
        let folder = context.environment.storage.folder(path_of(&context.options)?)?;
        let retention_ms = retention_ms(&context.options)?;
        let mut log_options = CompactibleOptions::default();
        if let Some(retention_ms) = retention_ms {
            log_options.retain =
                Some(Arc::new(move |file: &SinkFile, now_ms| now_ms - file.modification_time <= retention_ms));
        }
        let sink = Self {
            stage: Stage {
                entropy: context.environment.entropy.fork("file sink").fork(&folder.uri("")),
                folder,
                query_id: context.query_id,
                schema: context.schema,
                partitioning,
                ending: format.ending().into(),
                format,
            },
            environment: context.environment,
            log_options,
            state: Mutex::new(State { log: None, staged: None }),
        };
        let log = sink.open_log().await?;
        if context.is_new && log.latest().is_some() {
            return Err(sink.of_another_query());
        }
        sink.check_start(log.latest(), context.next_batch_id)?;
        if context.interrupted && log.latest() < Some(context.next_batch_id) {
            let cleared = abandoned::clear(&sink.stage.folder, sink.stage.mark(context.next_batch_id)).await?;
            if cleared > 0 {
                tracing::info!("{}: cleared away {cleared} files of an interrupted run", sink.describe());
            }
        }
        sink.state.lock().await.log = Some(log);
        Ok(sink)
    }

    fn log_folder(&self) -> Folder {
        self.stage.folder.child(METADATA_FOLDER)
    }

    async fn open_log(&self) -> Result<CompactibleLog<SinkFile>> {
        CompactibleLog::open(&self.environment, self.log_folder(), self.log_options.clone()).await
    }

    /// Spark skips the batches of a new query whose ids the folder has already, and says nothing.
    fn of_another_query(&self) -> Error {
        Error::checkpoint(
            self.log_folder().uri(""),
            "the output folder has batches of another query (or of this one with another checkpoint), and the query is new: \
             its first batches would be taken for those that are there, and be lost. Write to a new folder, or start with \
             the checkpointLocation that belongs to this one.",
        )
    }

    /// Compares the newest batch of the output folder with the batch that the query goes on with.
    fn check_start(&self, latest: Option<u64>, next_batch_id: u64) -> Result<()> {
        let expected = latest.map_or(0, |latest| latest + 1);
        if next_batch_id > expected {
            return Err(Error::checkpoint(
                self.log_folder().uri(""),
                format!(
                    "the query goes on with batch {next_batch_id}, but the next batch of this output folder is \
                     {expected}: the batches between are missing, or the output folder was changed. Write to the \
                     folder that this checkpoint belongs to, or use a new checkpointLocation."
                ),
            ));
        }
        if next_batch_id + 1 < expected {
            tracing::warn!(
                "{}: the output folder already has the batches up to {}, so the batches {next_batch_id} to {} of this \
                 query will be skipped.",
                self.describe(),
                expected - 1,
                expected - 1,
            );
        }
        Ok(())
    }

    /// Deletes the files of a batch that failed, as far as the storage lets us; what stays is an orphan that no entry
    /// names. Nothing is deleted when somebody else has committed the batch meanwhile: the files could be theirs.
    async fn delete_files(&self, batch_id: u64, names: &[String]) {
        if self.open_log().await.is_ok_and(|log| log.latest() < Some(batch_id)) {
            for name in names {
                let _ = self.stage.folder.delete(name).await; // the batch's own error is the one to tell
            }
        }
    }

    /// The log, read again if we lost track of it.
    async fn current<'a>(&self, state: &'a mut State) -> Result<&'a mut CompactibleLog<SinkFile>> {
        match &mut state.log {
            Some(log) => Ok(log),
            none => Ok(none.insert(self.open_log().await?)),
        }
    }
}

#[async_trait]
impl Sink for FileSink {
    fn describe(&self) -> String {
        let Folder { path, uri_root, .. } = &self.stage.folder;
        // Hadoop's text of a path: `file:/data/out`, not percent-encoded.
        let root = if uri_root == "file://" { "file:" } else { uri_root.as_str() };
        format!("FileSink[{root}/{path}]")
    }

    async fn write(&self, batch: OutputBatch) -> Result<Option<u64>> {
        let mut state = self.state.lock().await;
        state.staged = None;
        let batch_id = batch.batch_id;
        if self.current(&mut state).await?.latest() >= Some(batch_id) {
            tracing::info!("Skipping already committed batch {batch_id}");
            rows::count(batch.partitions).await?;
            return Ok(None);
        }
        match self.stage.write(batch).await {
            Ok(files) => {
                state.staged = Some((batch_id, files));
                Ok(None)
            }
            Err(failed) => {
                self.delete_files(batch_id, &failed.written).await;
                Err(failed.error)
            }
        }
    }

    async fn commit(&self, batch_id: u64) -> Result<()> {
        let mut state = self.state.lock().await;
        if self.current(&mut state).await?.latest() >= Some(batch_id) {
            return Ok(());
        }
        let files = match &state.staged {
            Some((staged_id, files)) if *staged_id == batch_id => files.clone(),
            _ => return Err(Error::internal(format!("file sink: batch {batch_id} was committed but never written"))),
        };
        let Some(mut log) = state.log.take() else {
            return Err(Error::internal("file sink: the log was not opened"));
        };
        log.add(batch_id, files).await?; // an error drops the log: it may or may not have the entry now
        state.log = Some(log);
        state.staged = None;
        Ok(())
    }
}

/// The option `retention`: for how long (ms) files stay in the log, counted from their last change.
pub(crate) fn retention_ms(options: &Options) -> Result<Option<i64>> {
    let Some(text) = options.get("retention") else { return Ok(None) };
    let trimmed = text.trim().to_lowercase();
    let digits = trimmed.len() - trimmed.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = trimmed.split_at(digits);
    let unit_us: Option<i64> = match unit.trim().strip_suffix('s').filter(|u| u.len() > 2).unwrap_or(unit.trim()) {
        "us" => Some(1),
        "" | "ms" | "millisecond" => Some(1000),
        "s" | "second" => Some(1_000_000),
        "m" | "min" | "minute" => Some(60_000_000),
        "h" | "hour" => Some(3_600_000_000),
        "d" | "day" => Some(86_400_000_000),
        _ => None,
    };
    let retention = number.parse::<i64>().ok().zip(unit_us).and_then(|(number, unit)| number.checked_mul(unit));
    match retention {
        Some(us) => Ok(Some(us / 1000)),
        None => Err(Error::analysis(format!(
            "Time must be specified as seconds (s), milliseconds (ms), microseconds (us), minutes (m or min), hour (h), \
             or day (d). E.g. 50s, 100ms, or 250us. Failed to parse time string: {text} (option 'retention')."
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retention_is_read_as_in_spark_and_in_words() {
        for (text, ms) in [
            ("12h", 43_200_000),
            ("12 hours", 43_200_000),
            ("1 day", 86_400_000),
            ("10s", 10_000),
            ("100", 100),
            ("250us", 0),
            ("3min", 180_000),
            ("1 HOUR", 3_600_000),
        ] {
            assert_eq!(retention_ms(&Options::new().with("retention", text)).unwrap(), Some(ms), "{text}");
        }
        assert_eq!(retention_ms(&Options::new()).unwrap(), None);
        for text in ["xyz", "", "1.5h", "-1h", "1 month", "9223372036854775807d", "h"] {
            let error = retention_ms(&Options::new().with("retention", text)).unwrap_err().to_string();
            assert!(error.contains("Failed to parse time string"), "{error}");
        }
    }
}
