//! The contract of a state store: a versioned table of keys and values that is read and written batch-wise.

use std::fmt::Debug;

use arrow::array::{ArrayRef, BooleanArray, Int64Array};
use async_trait::async_trait;

use crate::error::Result;
use crate::state::schema::StateSchema;

/// A plain number that stands for a key of a store until the batch ends (`commit`, `abort`, `begin`).
pub type SlotRef = u32;

/// The most rows that [`StateStore::next_rows`] answers at once.
pub const CHUNK_ROWS: usize = 8192;

/// What `get` found, row by row of the keys asked for.
#[derive(Clone, Debug)]
pub struct Found {
    /// Whether the key has an entry. Has no nulls.
    pub present: BooleanArray,
    /// The value columns, null where there is no entry.
    pub values: Vec<ArrayRef>,
}

/// What `reserve` answers.
#[derive(Clone, Debug)]
pub struct Reserved {
    /// A slot for every key asked for; equal keys have equal slots.
    pub slots: Vec<SlotRef>,
    /// What is there now.
    pub found: Found,
}

/// A time up to which entries have expired, in microseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// Entries with `expiry <= time`: windows, deduplication, joins.
    AtOrBefore(i64),
    /// Entries with `expiry < time`: timeouts of group state.
    Before(i64),
}

/// Entries in columns.
#[derive(Clone, Debug)]
pub struct StateRows {
    /// The key columns.
    pub keys: Vec<ArrayRef>,
    /// The value columns.
    pub values: Vec<ArrayRef>,
    /// When each entry expires (microseconds since 1970), null where it never does.
    pub expiry: Int64Array,
}

impl StateRows {
    /// The number of entries (also when there are no columns).
    pub fn rows_count(&self) -> usize {
        self.expiry.len()
    }
}

/// Entries yet to be read, as plain numbers; give it to [`StateStore::next_rows`] until that answers `None`. It holds
/// until the batch ends, or until one of its entries that is yet to be read is put again.
#[derive(Clone, Debug, Default)]
pub struct Cursor {
    /// The entries, in order.
    pub slots: Vec<SlotRef>,
    /// How many of them have been read.
    pub next: usize,
}

impl Cursor {
    /// Entries not read yet.
    pub fn remaining(&self) -> usize {
        self.slots.len() - self.next
    }
}

/// What `prefix_scan` found.
#[derive(Clone, Debug, Default)]
pub struct PrefixMatches {
    /// The entries found, grouped by the prefix asked for, in order of key within a group.
    pub cursor: Cursor,
    /// For every entry of the cursor the row of the prefix columns that it matches.
    pub prefix_rows: Vec<u32>,
}

/// What a commit did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CommitReport {
    /// The version that is open now.
    pub version: u64,
    /// Size of the delta file.
    pub bytes_written: u64,
    /// Keys whose value was put.
    pub puts: u64,
    /// Keys that were removed.
    pub removes: u64,
    /// Entries in this version.
    pub rows_total: u64,
    /// Different prefixes of their keys, in a store with a prefix index.
    pub prefixes_total: u64,
    /// Memory held by the store.
    pub memory_bytes: u64,
}

/// What maintenance did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MaintainReport {
    /// Size of the snapshot written, if one was.
    pub snapshot_bytes: Option<u64>,
    /// Files deleted.
    pub deleted_files: u64,
    /// What did not work and will be tried again; nothing is lost by it.
    pub problems: Vec<String>,
}

/// Counters of a store since it was made, for the custom metrics of the progress report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreMetrics {
    /// `begin` found the version in memory (Spark: `loadedMapCacheHitCount`).
    pub loads_from_memory: u64,
    /// `begin` read the version from files (Spark: `loadedMapCacheMissCount`).
    pub loads_from_files: u64,
    /// Damaged snapshots that an older one and its deltas made up for (Spark: `numSnapshotsAutoRepaired`).
    pub snapshots_repaired: u64,
    /// The version of the last snapshot that this store wrote or read; `None` is Spark's -1.
    pub last_snapshot: Option<u64>,
}

/// One (operator, partition, store name): version N+1 is version N and the changes of batch N (spec/04 section 10).
///
/// # Contract
/// * `begin(N)` opens version N and forgets everything staged; version 0 is empty. It may be called again and again
///   with the same N (a batch plan may be executed twice), and with an older N whose files are still kept.
/// * Reads see what was staged since `begin`. The last change of a key wins, also within one call.
/// * `commit` makes the staged changes version N+1, durably, also when nothing changed, and opens it. It overwrites
///   what an earlier try left of N+1. If it fails, nothing has changed: it may be called again, or `abort`.
/// * A batch costs what it touches; only `scan`, `without_expiry` and loading may cost as much as the whole state.
/// * Keys equal in arrow's row format are the same key: nulls are equal to each other; -0.0 and 0.0 are not, nor are
///   NaNs of different bits. The caller runs [`crate::state::normalise_keys`] first.
/// * `expiry` only feeds `expired` and `evict`; an entry does not go away by itself.
/// * Every order is the same in every run: it depends on what was committed and staged, in which order, on nothing else.
/// * A store without key columns has one key: pass no key columns, and one row of values.
#[async_trait]
pub trait StateStore: Debug + Send + Sync {
    /// The columns.
    fn schema(&self) -> &StateSchema;

    /// The version that is open, `None` before the first `begin`.
    fn version(&self) -> Option<u64>;

    /// Opens version `version` and forgets what was staged.
    async fn begin(&mut self, version: u64) -> Result<()>;

    /// Looks keys up.
    fn get(&self, keys: &[ArrayRef]) -> Result<Found>;

    /// Looks keys up in order to write them: the slots make [`StateStore::put_slots`] cheap. Keys that are not there
    /// have a slot, too; nothing is stored for them unless something is put.
    fn reserve(&mut self, keys: &[ArrayRef]) -> Result<Reserved>;

    /// Sets values. Without `expiry`, or where it is null, an entry never expires.
    fn put(&mut self, keys: &[ArrayRef], values: &[ArrayRef], expiry: Option<&Int64Array>) -> Result<()>;

    /// Sets the values of slots that were reserved (or found by a cursor) in this batch.
    fn put_slots(&mut self, slots: &[SlotRef], values: &[ArrayRef], expiry: Option<&Int64Array>) -> Result<()>;

    /// Removes keys; answers how many of them were there.
    fn remove(&mut self, keys: &[ArrayRef]) -> Result<usize>;

    /// Removes the entries of slots; answers how many were there.
    fn remove_slots(&mut self, slots: &[SlotRef]) -> Result<usize>;

    /// All entries, in the order in which their keys first came (a key that was removed comes anew).
    fn scan(&self) -> Result<Cursor>;

    /// Entries that never expire, in the order of `scan`. Costs nothing when there are none, else as much as `scan`.
    fn without_expiry(&self) -> Result<Cursor>;

    /// Entries that have expired, ordered by expiry, then key. Costs what it finds.
    fn expired(&self, until: Until) -> Result<Cursor>;

    /// Removes the entries that have expired; they can still be read with the cursor, in the order of `expired`.
    fn evict(&mut self, until: Until) -> Result<Cursor>;

    /// Entries whose first key columns equal a row of these columns (as many as the store was made for), ordered by
    /// row, then key. Costs what it finds.
    fn prefix_scan(&self, prefix: &[ArrayRef]) -> Result<PrefixMatches>;

    /// The next entries of a cursor, at most [`CHUNK_ROWS`]; `None` at the end.
    fn next_rows(&self, cursor: &mut Cursor) -> Result<Option<StateRows>>;

    /// Entries that are there now, staged changes included.
    fn rows_total(&self) -> u64;

    /// Memory held, in bytes.
    fn memory_bytes(&self) -> u64;

    /// Counters since the store was made.
    fn metrics(&self) -> StoreMetrics;

    /// Makes the staged changes the next version.
    async fn commit(&mut self) -> Result<CommitReport>;

    /// Forgets the staged changes.
    fn abort(&mut self);

    /// Between a commit and the next `begin`: writes a snapshot if it pays, and deletes what the last
    /// `retain_versions` versions do not need. Trouble here is reported, not fatal.
    async fn maintain(&mut self, retain_versions: u64) -> Result<MaintainReport>;
}
