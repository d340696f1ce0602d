//! A log that gathers its older files into one now and then: what a file source has seen, what a file sink has written.
//!
//! The full version must: read what Spark wrote and write what Spark reads; take over the interval of a log that
//! exists; never skip a missing file; keep its entries in memory, so that gathering reads nothing again; delete what
//! was gathered only when it is old enough for no reader to be in it; let entries go by a retention rule; be read by
//! others while it is written.

use std::fmt::{self, Debug};
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::checkpoint::log_files::{Kind, LogFiles};
use crate::checkpoint::log_text::{V1, damaged, json, lines};
use crate::checkpoint::seal::{seal, unseal};
use crate::environment::{Clock, Environment};
use crate::error::{Error, Result};
use crate::storage::Folder;

/// A reader that finds files gone that were listed (the writer tidies up) looks again this often.
const READ_TRIES: usize = 5;

/// What such a log holds: written as one line of JSON.
pub trait LogEntry: Clone + Debug + Serialize + DeserializeOwned + Send + Sync + 'static {
    /// Whether the log's files carry a checksum and are never without entries; not those that others read.
    const SEALED: bool;

    /// The step (file id) that this entry belongs to, when entries of this type say so.
    fn step(&self) -> Option<u64> {
        None
    }
}

/// How a log is kept.
#[derive(Clone)]
pub struct CompactibleOptions<T> {
    /// Every how many steps older files are gathered (`spark.sql.streaming.fileSource.log.compactInterval`,
    /// `fileSink.log.compactInterval`); a log that exists may keep another one.
    pub interval: u64,
    /// How old a gathered file must be to be deleted, in ms (`...log.cleanupDelay`).
    pub cleanup_delay_ms: i64,
    /// Whether gathered files are deleted at all (`...log.deletion`).
    pub deletes: bool,
    /// How many of the newest steps keep their own files (`spark.sql.streaming.minBatchesToRetain`).
    pub min_batches_to_retain: u64,
    /// Whether an entry is still kept at a time (ms since 1970); asked when files are gathered and by
    /// [`CompactibleLog::snapshot`]. `None` keeps everything.
    pub retain: Option<Retain<T>>,
}

/// See [`CompactibleOptions::retain`].
pub type Retain<T> = Arc<dyn Fn(&T, i64) -> bool + Send + Sync>;

impl<T> Default for CompactibleOptions<T> {
    fn default() -> Self {
        let cleanup_delay_ms = 10 * 60 * 1000;
        Self { interval: 10, cleanup_delay_ms, deletes: true, min_batches_to_retain: 100, retain: None }
    }
}

impl<T> Debug for CompactibleOptions<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CompactibleOptions")
            .field("interval", &self.interval)
            .field("cleanup_delay_ms", &self.cleanup_delay_ms)
            .field("deletes", &self.deletes)
            .field("min_batches_to_retain", &self.min_batches_to_retain)
            .field("retain", &self.retain.is_some())
            .finish()
    }
}

/// A log of this run, which is the only one that adds to it.
#[derive(Debug)]
pub struct CompactibleLog<T> {
    files: LogFiles,
    clock: Arc<dyn Clock>,
    options: CompactibleOptions<T>,
    interval: u64,
    entries: Vec<T>,
}

/// All entries of a log up to a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot<T> {
    /// The newest step that is in it.
    pub latest: u64,
    /// The entries, in the order of the steps.
    pub entries: Vec<T>,
}

impl<T: LogEntry> CompactibleLog<T> {
    /// Opens the log in this folder to add to it; a folder that is not there is an empty log.
    ///
    /// # Errors
    /// An error that names the file when one is missing or damaged; one that names the interval when it is 0.
    pub async fn open(environment: &Environment, folder: Folder, options: CompactibleOptions<T>) -> Result<Self> {
        if options.interval == 0 {
            return Err(Error::analysis("The compact interval of a log must be positive. Write 1 or more."));
        }
        let files = LogFiles::open(environment.storage.as_ref(), folder).await?;
        let interval = interval_of(&files, options.interval);
        let entries = match files.latest() {
            Some(latest) => read_all(&files, latest).await?,
            None => Vec::new(),
        };
        Ok(Self { files, clock: environment.clock.clone(), options, interval, entries })
    }

    /// What a log holds now, read by somebody who does not add to it; `None` when it is not there or has no step yet.
    /// A retention rule is the caller's.
    pub async fn read(folder: &Folder) -> Result<Option<Snapshot<T>>> {
        let mut tries = 0;
        loop {
            tries += 1;
            let files = LogFiles::list(folder.clone()).await?;
            let Some(latest) = files.latest() else { return Ok(None) };
            match read_all(&files, latest).await {
                Ok(entries) => return Ok(Some(Snapshot { latest, entries })),
                Err(error) => {
                    // The writer may have gathered and deleted what was listed; then there is more now.
                    let again = LogFiles::list(folder.clone()).await?;
                    if tries == READ_TRIES || again.latest() == Some(latest) {
                        return Err(error);
                    }
                }
            }
        }
    }

    /// The newest step, `None` for an empty log.
    pub fn latest(&self) -> Option<u64> {
        self.files.latest()
    }

    /// Every how many steps this log gathers its files.
    pub fn interval(&self) -> u64 {
        self.interval
    }

    /// All entries, in the order of the steps; also those that the retention rule will drop when files are next
    /// gathered.
    pub fn entries(&self) -> &[T] {
        &self.entries
    }

    /// The entries of the steps after `start` (`None`: from the first) up to and including `end`. Only for entries
    /// that know their step.
    pub fn between(&self, start: Option<u64>, end: u64) -> &[T] {
        let from = start.map_or(0, |start| self.entries.partition_point(|entry| entry.step() <= Some(start)));
        let to = self.entries.partition_point(|entry| entry.step() <= Some(end));
        &self.entries[from.min(to)..to]
    }

    /// All entries that the retention rule keeps now.
    pub fn snapshot(&self) -> Vec<T> {
        let now_ms = self.now_ms();
        self.entries.iter().filter(|entry| self.keeps(entry, now_ms)).cloned().collect()
    }

    /// Adds the next step, durably: [`CompactibleLog::latest`] plus 1, or 0.
    ///
    /// # Errors
    /// [`Error::ConcurrentLogUpdate`] when the step was already added by another run, with other entries; an error of
    /// the checkpoint when steps before it are missing. The log is then as it was.
    pub async fn add(&mut self, id: u64, entries: Vec<T>) -> Result<()> {
        let next = self.latest().map_or(0, |latest| latest + 1);
        if id < next {
            return Err(Error::ConcurrentLogUpdate { path: self.files.uri(id, self.kind(id)), batch_id: id });
        }
        if id > next {
            return Err(missing(&self.files, next, self.kind(next), id));
        }
        if T::SEALED && entries.is_empty() {
            return Err(Error::internal(format!("step {id} of a log that knows no empty steps has no entries")));
        }
        if let Some(other) = entries.iter().find(|entry| entry.step().is_some_and(|step| step != id)) {
            return Err(Error::internal(format!("{other:?} was added to step {id} of a log")));
        }
        let now_ms = self.now_ms();
        match self.kind(id) {
            Kind::Plain => {
                self.files.create(id, Kind::Plain, encode(&entries)?, now_ms).await?;
                self.entries.extend(entries);
            }
            Kind::Compact if self.options.retain.is_none() => {
                let bytes = encode(self.entries.iter().chain(&entries))?;
                self.files.create(id, Kind::Compact, bytes, now_ms).await?;
                self.entries.extend(entries);
            }
            Kind::Compact => {
                let kept: Vec<_> =
                    self.entries.iter().chain(&entries).filter(|entry| self.keeps(entry, now_ms)).collect();
                let bytes = encode(kept.iter().copied())?;
                let kept = kept.into_iter().cloned().collect();
                self.files.create(id, Kind::Compact, bytes, now_ms).await?;
                self.entries = kept;
            }
        }
        self.delete_gathered(id, now_ms).await
    }

    /// Deletes files whose entries are in a compacted file and that no reader should need any more.
    async fn delete_gathered(&mut self, id: u64, now_ms: i64) -> Result<()> {
        let Some(oldest) = (id + 1).checked_sub(self.options.min_batches_to_retain) else { return Ok(()) };
        if !self.options.deletes || oldest < self.interval {
            return Ok(());
        }
        let end = oldest - oldest % self.interval - 1;
        self.files.delete_before(end, now_ms.saturating_sub(self.options.cleanup_delay_ms)).await
    }

    fn kind(&self, id: u64) -> Kind {
        if (id + 1).is_multiple_of(self.interval) { Kind::Compact } else { Kind::Plain }
    }

    fn keeps(&self, entry: &T, now_ms: i64) -> bool {
        self.options.retain.as_ref().is_none_or(|retain| retain(entry, now_ms))
    }

    fn now_ms(&self) -> i64 {
        self.clock.now_us().div_euclid(1000)
    }
}

/// Reads the newest compacted file and every file after it.
async fn read_all<T: LogEntry>(files: &LogFiles, latest: u64) -> Result<Vec<T>> {
    let compacted = files.ids(Kind::Compact).next_back();
    let mut entries = Vec::new();
    for id in compacted.unwrap_or(0)..=latest {
        let kind = if compacted == Some(id) { Kind::Compact } else { Kind::Plain };
        let bytes = files.get(id, kind).await?.ok_or_else(|| missing(files, id, kind, latest))?;
        decode_into(&bytes, &files.uri(id, kind), id, kind, &mut entries)?;
    }
    Ok(entries)
}

fn missing(files: &LogFiles, id: u64, kind: Kind, latest: u64) -> Error {
    Error::checkpoint(
        files.uri(id, kind),
        format!(
            "the file doesn't exist (latestId: {latest}): the log in {} has lost a part, or belongs to another query. \
             Restore the file from a backup, or start over with a new checkpointLocation (and, for a file sink, a new \
             output folder).",
            files.folder_uri()
        ),
    )
}

fn encode<'a, T: LogEntry>(entries: impl IntoIterator<Item = &'a T>) -> Result<Bytes> {
    let mut text = V1.to_owned();
    for entry in entries {
        text.push('\n');
        text += &serde_json::to_string(entry)
            .map_err(|error| Error::internal(format!("a log entry cannot be written: {error}")))?;
    }
    Ok(if T::SEALED { seal(text) } else { text }.into())
}

fn decode_into<T: LogEntry>(bytes: &[u8], path: &str, id: u64, kind: Kind, entries: &mut Vec<T>) -> Result<()> {
    let unsealed = if T::SEALED { Some(unseal(bytes, path)?) } else { None };
    let lines = lines(unsealed.as_ref().map_or(bytes, String::as_bytes), path)?;
    if T::SEALED && lines.is_empty() {
        return Err(damaged(path, "ends after its first line"));
    }
    for (index, line) in lines.into_iter().enumerate() {
        let entry: T = json(line, path, index + 2)?;
        if let Some(step) = entry.step() {
            let before = entries.last().and_then(LogEntry::step).unwrap_or(0);
            let fits = if kind == Kind::Compact { (before..=id).contains(&step) } else { step == id };
            if !fits {
                return Err(damaged(path, format!("has an entry of step {step} in line {}", index + 2)));
            }
        }
        entries.push(entry);
    }
    Ok(())
}

/// The interval that a log goes on with (`docs/CHECKPOINT.md`).
fn interval_of(files: &LogFiles, configured: u64) -> u64 {
    let mut newest = files.ids(Kind::Compact).rev();
    match (newest.next(), newest.next()) {
        (Some(latest), Some(previous)) => latest - previous,
        (Some(only), None) => derived_interval(configured, only),
        // Spark would take the configured one and then miss compacted files that were never written.
        _ => files.latest().map_or(configured, |latest| (latest + 2).next_multiple_of(configured)),
    }
}

/// Spark's `deriveCompactInterval`.
fn derived_interval(configured: u64, compacted: u64) -> u64 {
    let steps = compacted + 1;
    if steps <= configured || configured >= steps / 2 {
        return steps;
    }
    (configured..=steps / 2).find(|divisor| steps.is_multiple_of(*divisor)).unwrap_or(steps)
}

#[cfg(test)]
#[path = "compactible_tests.rs"]
mod tests;
