//! What was promised and what was done: the checkpoint folder of one query (`docs/CHECKPOINT.md` has every byte).
//!
//! ```text
//! open ─ lock ─ settle ─ metadata: who is this ─ offsets/, commits/: what is there ─ (microbatch::recover decides)
//! batch N ─ offsets.add(N) ......... run ......... commits.add(N) ─ purge_before(N - 100)
//! ```
//! `offsets.rs` and `commits.rs` are the two logs, `compactible.rs` the log of a file source or file sink with its
//! entries in `file_entries.rs`; all of them are text (`log_text.rs`) in numbered files (`log_files.rs`);
//! `metadata.rs` is the query's id.
//!
//! Absent: deciding where a query goes on (`microbatch/recover.rs`), the files of state stores (`state/`), which
//! settings are logged (the driver knows), and every access to storage that is not through a `Folder`.

use object_store::path::Path;
use uuid::Uuid;

use crate::environment::Environment;
use crate::error::{Error, Result};
use crate::storage::{Folder, Lock, LockGuard, uri};

mod commits;
mod compactible;
mod file_entries;
mod log_files;
mod log_text;
mod metadata;
mod offsets;
mod seal;

pub use commits::{CommitEntry, CommitLog};
pub use compactible::{CompactibleLog, CompactibleOptions, LogEntry, Snapshot};
pub use file_entries::{FileAction, SinkFile, SourceFile};
pub use offsets::{OffsetEntry, OffsetLog};

const OFFSETS: &str = "offsets";
const COMMITS: &str = "commits";
const SOURCES: &str = "sources";
/// The folder of state stores in a checkpoint.
pub(crate) const STATE: &str = "state";

/// The open checkpoint of a query that is about to run or running. Nobody else can open it until it is dropped (on
/// storage that knows locks; elsewhere the logs themselves find a second run out).
#[derive(Debug)]
pub struct Checkpoint {
    folder: Folder,
    id: Uuid,
    /// What was promised.
    pub offsets: OffsetLog,
    /// What was done.
    pub commits: CommitLog,
    /// Held as long as the run lives.
    lock: Option<Box<dyn LockGuard>>,
}

impl Checkpoint {
    /// Opens the checkpoint in this folder, or begins it.
    ///
    /// # Errors
    /// `CONCURRENT_QUERY` when another run has it; `STREAMING_CHECKPOINT_MISSING_METADATA_FILE` and
    /// `STATE_STORE_CHECKPOINT_LOCATION_NOT_EMPTY` as `spec/01`, section 3; an error that names the file when
    /// `metadata` is damaged. Nothing was changed then, but that an empty lock file may be there.
    pub async fn open(environment: &Environment, folder: Folder) -> Result<Self> {
        let storage = environment.storage.as_ref();
        let lock = match storage.lock(&folder).await? {
            Lock::Held(guard) => Some(guard),
            Lock::Unsupported => None,
            Lock::Taken => return Err(already_running(&folder).await),
        };
        storage.settle(&folder).await?;
        let id = metadata::read(&folder).await?;
        let offsets = OffsetLog::open(storage, folder.child(OFFSETS)).await?;
        let commits = CommitLog::open(storage, folder.child(COMMITS)).await?;
        if id.is_none() && (offsets.latest().is_some() || commits.latest().is_some()) {
            return Err(Error::checkpoint_class(
                "STREAMING_CHECKPOINT_MISSING_METADATA_FILE",
                folder.uri(""),
                "the checkpoint is in an inconsistent state: the metadata file is missing but offset and/or commit \
                 logs contain data. Restore the metadata file, or use a new checkpointLocation.",
            ));
        }
        if offsets.latest().is_none() {
            refuse_leftovers(&folder).await?;
        }
        let id = match id {
            Some(id) => id,
            None => metadata::create(&folder, environment.entropy.uuid(&format!("query {}", folder.uri("")))).await?,
        };
        Ok(Self { folder, id, offsets, commits, lock })
    }

    /// The query's id, the same in every run.
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// Whether no other run of the query can be alive: the storage knows locks, and we have it.
    pub fn is_locked(&self) -> bool {
        self.lock.is_some()
    }

    /// The checkpoint itself.
    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    /// The own folder of the source at this place of the plan: `sources/<k>`.
    pub fn source_folder(&self, index: usize) -> Folder {
        self.folder.child(SOURCES).child(&index.to_string())
    }

    /// Where the state stores are: `state`.
    pub fn state_folder(&self) -> Folder {
        self.folder.child(STATE)
    }
}

/// Refuses to run batch 0 over what another query left.
async fn refuse_leftovers(folder: &Folder) -> Result<()> {
    let named = |path: &Path| path.filename().is_some_and(|name| !name.starts_with('.'));
    for name in [OFFSETS, STATE, COMMITS] {
        let part = folder.child(name);
        let listed = part.store.list_with_delimiter(Some(&part.path)).await?;
        let is_promise =
            |path: &Path| name == OFFSETS && path.filename().is_some_and(|name| name.parse::<u64>().is_ok());
        if let Some(promise) = listed.objects.iter().map(|file| &file.location).find(|path| is_promise(path)) {
            // There was none when the log was opened: another run is at work here, and nobody should delete what it wrote.
            return Err(Error::ConcurrentLogUpdate { path: uri::join(&part.uri_root, promise), batch_id: 0 });
        }
        if listed.objects.iter().any(|file| named(&file.location)) || listed.common_prefixes.iter().any(named) {
            return Err(Error::checkpoint_class(
                "STATE_STORE_CHECKPOINT_LOCATION_NOT_EMPTY",
                part.uri(""),
                "the checkpoint location should be empty on batch 0. Use a new checkpointLocation, or delete the \
                 existing data in this one.",
            ));
        }
    }
    Ok(())
}

/// The first and the last batch that have an entry in the commit log, as a reader sees it who owns nothing; `None` without.
pub(crate) async fn committed_batches(checkpoint: &Folder) -> Result<Option<(u64, u64)>> {
    let files = log_files::LogFiles::list(checkpoint.child(COMMITS)).await?;
    let mut ids = files.ids(log_files::Kind::Plain);
    let Some(first) = ids.next() else { return Ok(None) };
    Ok(Some((first, ids.next_back().unwrap_or(first))))
}

async fn already_running(folder: &Folder) -> Error {
    let id = match metadata::read(folder).await {
        Ok(Some(id)) => format!("id {id}"),
        _ => "this checkpoint".to_string(),
    };
    Error::checkpoint_class(
        "CONCURRENT_QUERY",
        folder.uri(""),
        format!(
            "Cannot start query with {id} as another query with same id is already active: another run, of this \
             process or of another one, holds this checkpoint. Stop that run first, or give this query a \
             checkpointLocation of its own."
        ),
    )
}

#[cfg(test)]
mod tests;
