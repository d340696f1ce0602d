//! The running file source of one query: which files belong to which offset.
//!
//! What it must handle: new files chosen under the limits and logged before the offset is promised; a crash between
//! the two (the logged files are the next batch, nothing is lost); a cache of files that were listed and not taken;
//! AvailableNow over the files of its start; files that are gone when a batch is run again; a folder written by a file
//! sink, whose log is read instead; clean-up after a batch. The log keeps every entry forever, as Spark's does.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt, stream};
use tokio::sync::Mutex;
use wavetank_engine::checkpoint::{CompactibleLog, CompactibleOptions, SourceFile};
use wavetank_engine::environment::Environment;
use wavetank_engine::source::{Offset, ReadLimit, Source, SourceContext, Split};
use wavetank_engine::{Error, Result};

use crate::file::clean::Cleaner;
use crate::file::listing::{FoundFile, Listing};
use crate::file::options::{Limit, StreamOptions};
use crate::file::scan::FileScan;
use crate::file::seen::SeenFiles;

/// How many files are asked for their size at the same time.
const HEADS_AT_ONCE: usize = 16;

/// A running file source.
#[derive(Debug)]
pub(crate) struct FileSource {
    environment: Environment,
    listing: Listing,
    scan: FileScan,
    options: StreamOptions,
    cleaner: Option<Cleaner>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    log: CompactibleLog<SourceFile>,
    seen: SeenFiles,
    /// Files that were listed, are new, and were not taken yet.
    unread: Vec<FoundFile>,
    /// AvailableNow: the files of its start.
    pinned: Option<Vec<FoundFile>>,
    /// Whether the folder was written by a file sink; unknown until a file is in it.
    has_sink_log: Option<bool>,
}

impl FileSource {
    /// `path` is the option's text.
    pub(crate) async fn open(
        path: &str,
        listing: Listing,
        scan: FileScan,
        options: StreamOptions,
        context: SourceContext,
    ) -> Result<Self> {
        let environment = context.environment;
        let cleaner = Cleaner::new(&options.clean_source, environment.storage.as_ref(), path)?;
        let log: CompactibleLog<SourceFile> =
            CompactibleLog::open(&environment, context.folder, CompactibleOptions::default()).await?;
        if !options.file_name_only {
            check_base(&listing, log.entries())?;
        }
        let mut seen = SeenFiles::new(options.max_file_age_ms, options.file_name_only);
        for file in log.entries() {
            seen.add(&file.path, file.timestamp);
        }
        seen.purge();
        if options.latest_first && options.limit.is_some() {
            tracing::info!("'latestFirst' is true with a limit per trigger: 'maxFileAge' is ignored");
        }
        let has_sink_log = listing.is_pattern().then_some(false);
        let state = Mutex::new(State { log, seen, unread: Vec::new(), pinned: None, has_sink_log });
        Ok(Self { environment, listing, scan, options, cleaner, state })
    }

    /// All files there are, in the order in which they are taken.
    async fn list(&self, state: &mut State) -> Result<Vec<FoundFile>> {
        let mut files = match state.has_sink_log {
            Some(true) => self.listing.sink_files().await?,
            Some(false) => self.listing.files(&self.scan.partition_names()).await?,
            None if self.listing.has_sink_log().await? => {
                self.take_sink_log(state)?;
                self.listing.sink_files().await?
            }
            None => {
                let files = self.listing.files(&self.scan.partition_names()).await?;
                // A sink may have begun to write between the two looks.
                if files.is_empty() {
                    files
                } else if self.listing.has_sink_log().await? {
                    self.take_sink_log(state)?;
                    self.listing.sink_files().await?
                } else {
                    state.has_sink_log = Some(false);
                    files
                }
            }
        };
        // The sort is stable: files of the same moment stay in the order of their paths.
        if self.options.latest_first {
            files.sort_by_key(|file| std::cmp::Reverse(file.changed_ms));
        } else {
            files.sort_by_key(|file| file.changed_ms);
        }
        Ok(files)
    }

    fn take_sink_log(&self, state: &mut State) -> Result<()> {
        if self.cleaner.is_some() {
            return Err(Error::analysis(
                "Clean up source files is not supported when reading from the output directory of FileStreamSink. \
                 Leave the option cleanSource out.",
            ));
        }
        state.has_sink_log = Some(true);
        Ok(())
    }

    /// Logs the next files, as many as the limit allows.
    async fn advance(&self, state: &mut State, limit: ReadLimit) -> Result<()> {
        let is_pinned = state.pinned.is_some();
        let new = if state.unread.is_empty() {
            let all = match &state.pinned {
                Some(pinned) => pinned.clone(),
                None => self.list(state).await?,
            };
            all.into_iter().filter(|file| state.seen.is_new(&file.uri, file.changed_ms)).collect()
        } else {
            std::mem::take(&mut state.unread)
        };
        let limit = self.options.limit.filter(|_| limit == ReadLimit::Default);
        let taken_count = match limit {
            None => new.len(),
            Some(Limit::Files(most)) => new.len().min(usize::try_from(most).unwrap_or(usize::MAX)),
            Some(Limit::Bytes(most)) => fitting(&new, most),
        };
        let (taken, rest) = new.split_at(taken_count);
        if !taken.is_empty() {
            let step = state.log.latest().map_or(0, |latest| latest + 1);
            let entry =
                |file: &FoundFile| SourceFile { path: file.uri.clone(), timestamp: file.changed_ms, batch_id: step };
            state.log.add(step, taken.iter().map(entry).collect()).await?;
            for file in taken {
                state.seen.add(&file.uri, file.changed_ms);
            }
        }
        state.seen.purge();
        let is_kept = !self.options.latest_first && !is_pinned && limit.is_some_and(|limit| self.is_worth(rest, limit));
        if is_kept {
            state.unread = rest[..rest.len().min(self.options.max_cached_files)].to_vec();
        }
        Ok(())
    }

    /// Whether the files left over fill enough of the next batch to be kept; otherwise it lists again.
    fn is_worth(&self, rest: &[FoundFile], limit: Limit) -> bool {
        let (left, most) = match limit {
            Limit::Files(most) => (rest.len() as f64, most as f64),
            Limit::Bytes(most) => (rest.iter().map(|file| file.size as f64).sum(), most as f64),
        };
        left >= most * self.options.discard_cached_input_ratio
    }
}

/// Files that were read in the checkpoint's earlier runs must be below the path that is read now.
fn check_base(listing: &Listing, read: &[SourceFile]) -> Result<()> {
    let base = listing.base().uri("");
    let base = base.trim_end_matches('/');
    let is_below = |path: &str| path.strip_prefix(base).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    match read.last() {
        Some(file) if !is_below(&file.path) => Err(Error::checkpoint(
            &file.path,
            format!(
                "Wrong basePath {base} for the root path: the query has read this file before, which is not below the path \
                 that it reads now. Give the source the path that it had, or start the query with a new \
                 checkpointLocation. If the files were moved, set fileNameOnly to true."
            ),
        )),
        _ => Ok(()),
    }
}

/// The first file, and as many after it as fit.
fn fitting(files: &[FoundFile], most_bytes: u64) -> usize {
    let mut total = 0_u64;
    let fits = |file: &&FoundFile| {
        total = total.saturating_add(file.size);
        total <= most_bytes
    };
    files.iter().take_while(fits).count().max(usize::from(!files.is_empty()))
}

fn to_offset(step: u64) -> Offset {
    Offset::new(format!("{{\"logOffset\":{step}}}"))
}

/// The step of the log that an offset names; `None` is before the first.
fn step_of(offset: &Offset) -> Result<Option<u64>> {
    #[derive(serde::Deserialize)]
    struct LogOffset {
        #[serde(rename = "logOffset")]
        step: i64,
    }
    let parsed = serde_json::from_str::<LogOffset>(offset.as_str()).ok().filter(|offset| offset.step >= -1);
    // Old checkpoints hold the plain number.
    let step = parsed.map(|offset| offset.step).or_else(|| offset.as_str().parse().ok());
    step.map(|step| u64::try_from(step).ok()).ok_or_else(|| {
        Error::checkpoint(
            "offsets",
            format!(
                "expected an offset of a file source such as {{\"logOffset\":3}}, found {offset}. Was this checkpoint \
                 written by a query with another source? Use a new checkpoint location."
            ),
        )
    })
}

#[async_trait]
impl Source for FileSource {
    fn describe(&self) -> String {
        format!("FileStreamSource[{}]", self.listing.shown())
    }

    fn schema(&self) -> SchemaRef {
        self.scan.schema()
    }

    async fn latest_offset(&self, start: Option<&Offset>, limit: ReadLimit) -> Result<Option<Offset>> {
        let mut state = self.state.lock().await;
        let promised = start.map(step_of).transpose()?.flatten();
        if let Some(promised) = promised
            && state.log.latest().is_none_or(|latest| latest < promised)
        {
            return Err(Error::checkpoint(
                "offsets",
                format!(
                    "the query has read step {promised} of its file source, but the log of the source ends at {:?}. \
                     The folder sources/ of the checkpoint is incomplete; restore it, or use a new checkpoint location.",
                    state.log.latest()
                ),
            ));
        }
        // A step that was logged, but whose batch was not promised before the process died, is a batch of its own: where
        // batches end must not depend on crashes, because which rows are late does. (Spark merges it into the next.)
        let next = promised.map_or(0, |promised| promised + 1);
        let is_limited = self.options.limit.is_some() && limit == ReadLimit::Default;
        if is_limited && state.log.latest().is_some_and(|latest| next <= latest) {
            return Ok(Some(to_offset(next)));
        }
        self.advance(&mut state, limit).await?;
        Ok(state.log.latest().map(to_offset))
    }

    async fn pin_available_now(&self) -> Result<bool> {
        let mut state = self.state.lock().await;
        state.unread.clear();
        state.pinned = Some(self.list(&mut state).await?);
        Ok(true)
    }

    async fn read(
        &self,
        start: Option<&Offset>,
        end: &Offset,
        projection: Option<&[usize]>,
    ) -> Result<Vec<Arc<dyn Split>>> {
        let start = start.map(step_of).transpose()?.flatten();
        let Some(end) = step_of(end)? else { return Ok(Vec::new()) };
        let entries = {
            let state = self.state.lock().await;
            if state.log.latest().is_none_or(|latest| latest < end) {
                return Err(Error::checkpoint(
                    "sources",
                    format!(
                        "step {end} of the log of {} is promised in the offset log, but the source's log does not have \
                         it. Restore the folder sources/ of the checkpoint, or use a new checkpoint location.",
                        self.describe()
                    ),
                ));
            }
            state.log.between(start, end).to_vec()
        };
        let storage = self.environment.storage.as_ref();
        let files = stream::iter(entries)
            .map(|entry| async move {
                let Some(meta) = storage.folder(&entry.path)?.head("").await? else {
                    tracing::warn!("{} is gone and is skipped", entry.path);
                    return Ok(None);
                };
                let found = FoundFile { uri: entry.path, size: meta.size, changed_ms: entry.timestamp };
                self.scan.file(storage, &found).map(Some)
            })
            .buffered(HEADS_AT_ONCE)
            .try_filter_map(|file| async move { Ok::<_, Error>(file) })
            .try_collect::<Vec<_>>()
            .await?;
        self.scan.splits(&files, projection)
    }

    async fn commit(&self, end: &Offset) -> Result<()> {
        let (Some(cleaner), Some(step)) = (&self.cleaner, step_of(end)?) else { return Ok(()) };
        let entries = {
            let state = self.state.lock().await;
            state.log.between(step.checked_sub(1), step).to_vec()
        };
        for entry in entries.iter().filter(|entry| entry.batch_id == step) {
            cleaner.clean(&self.environment.storage.folder(&entry.path)?).await;
        }
        Ok(())
    }
}
