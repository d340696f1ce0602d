//! The store that keeps its partition in memory: batches of columns in, row bytes in the table, columns out again.

use arrow::array::{Array, ArrayRef, BooleanArray, Int64Array};
use async_trait::async_trait;
use futures::stream::{self, StreamExt};

use crate::error::{Error, Result};
use crate::planted::planted;
use crate::state::content::{Columns, SectionTypes, expiry_at, write_section};
use crate::state::files::{History, SnapshotPolicy, StoreFiles};
use crate::state::frame::Kind;
use crate::state::load::{load, load_from};
use crate::state::operator::{StoreIdentity, StoreSpec};
use crate::state::rows::{Codecs, prefix};
use crate::state::schema::StateSchema;
use crate::state::store::{
    CHUNK_ROWS, CommitReport, Cursor, Found, MaintainReport, PrefixMatches, Reserved, SlotRef, StateRows, StateStore,
    StoreMetrics, Until,
};
use crate::state::table::Table;
use crate::storage::Folder;

/// A chunk of rows ends early when it has this many bytes, so that no column outgrows its offsets.
const CHUNK_BYTES: usize = 64 << 20;

/// Files that are deleted at the same time.
const DELETE_AT_ONCE: usize = 16;

/// A [`StateStore`] in memory over delta and snapshot files.
#[derive(Debug)]
pub struct HotStateStore {
    schema: StateSchema,
    codecs: Codecs,
    files: StoreFiles,
    policy: SnapshotPolicy,
    table: Table,
    history: History,
    /// Whether table and history are of the same version, ready for a batch.
    open: bool,
    /// Whether something may be staged: since `begin`, until `commit` or `abort`.
    in_batch: bool,
    metrics: StoreMetrics,
}

impl HotStateStore {
    /// The store with its files in `folder` (see [`StoreIdentity::folder`]). Nothing is read or written yet.
    pub fn new(folder: Folder, identity: &StoreIdentity, spec: &StoreSpec, policy: SnapshotPolicy) -> Result<Self> {
        let schema = spec.schema.clone();
        Ok(Self {
            codecs: Codecs::new(&schema, spec.prefix_columns)?,
            files: StoreFiles::new(folder, identity, spec),
            policy,
            table: Table::new(spec.prefix_columns > 0),
            history: History::default(),
            open: false,
            in_batch: false,
            metrics: StoreMetrics::default(),
            schema,
        })
    }

    /// Opens `version` from the snapshot of `base` and no other: for who looks at a checkpoint. Where there is no such
    /// snapshot, or it is not whole, the error says so.
    pub async fn begin_from(&mut self, base: u64, version: u64) -> Result<()> {
        let loaded = load_from(&self.files, &self.codecs, base, version).await?;
        (self.table, self.history) = (loaded.table, loaded.history);
        (self.open, self.in_batch) = (true, true);
        Ok(())
    }

    fn check_open(&self) -> Result<()> {
        match self.open {
            true => Ok(()),
            false => Err(Error::internal("state was used before a version of it was opened")),
        }
    }

    /// What is in these slots now.
    fn found(&self, slots: &[Option<SlotRef>]) -> Result<Found> {
        let rows: Vec<Option<&[u8]>> = slots.iter().map(|slot| slot.and_then(|slot| self.table.value(slot))).collect();
        let present = BooleanArray::from_iter(rows.iter().map(|row| Some(row.is_some())));
        let null_row = self.codecs.values.null_row();
        let values = self.codecs.values.decode(rows.iter().map(|row| row.unwrap_or(null_row)))?;
        Ok(Found { present, values })
    }

    fn slots_of(&mut self, keys: &[ArrayRef]) -> Result<Vec<SlotRef>> {
        self.check_open()?;
        self.in_batch = true;
        let keys = self.codecs.keys(keys)?;
        (0..keys.len()).map(|row| self.table.reserve(keys.key(row))).collect()
    }

    fn stage(&mut self, slots: &[SlotRef], values: &[ArrayRef], expiry: Option<&Int64Array>) -> Result<()> {
        let values = self.codecs.values.encode(values, slots.len())?;
        let lengths = (values.len(), expiry.map_or(slots.len(), Array::len));
        if lengths != (slots.len(), slots.len()) {
            let (values, expiry) = lengths;
            let keys = slots.len();
            return Err(Error::internal(format!(
                "{keys} keys of state were put with {values} values, {expiry} expiries"
            )));
        }
        for (row, slot) in slots.iter().enumerate() {
            self.table.put(*slot, values.row(row), expiry_at(expiry, row));
        }
        Ok(())
    }

    fn check_slots(&self, slots: &[SlotRef]) -> Result<()> {
        self.check_open()?;
        slots.iter().try_for_each(|slot| self.table.check_slot(*slot))
    }

    /// The end of the chunk of slots that starts at `start`.
    fn chunk_end(&self, slots: &[SlotRef], start: usize) -> usize {
        let mut bytes = 0;
        let limit = slots.len().min(start + CHUNK_ROWS);
        (start..limit)
            .find(|at| {
                let slot = slots[*at];
                bytes += self.table.key(slot).len() + self.table.last_value(slot).map_or(0, <[u8]>::len);
                bytes > CHUNK_BYTES && *at > start
            })
            .unwrap_or(limit)
    }

    fn rows_in_slots(&self, slots: &[SlotRef]) -> Result<StateRows> {
        let values: Option<Vec<&[u8]>> = slots.iter().map(|slot| self.table.last_value(*slot)).collect();
        let values = values.ok_or_else(|| Error::internal("a cursor over state was used after its batch"))?;
        Ok(StateRows {
            keys: self.codecs.keys.decode(slots.iter().map(|slot| self.table.key(*slot)))?,
            values: self.codecs.values.decode(values.into_iter())?,
            expiry: slots.iter().map(|slot| self.table.expiry(*slot)).collect(),
        })
    }

    /// The section of a file that holds the entries (or only the keys) in these slots.
    fn section(&self, slots: &[SlotRef], with_values: bool) -> Result<Vec<u8>> {
        let with_expiry = with_values && slots.iter().any(|slot| self.table.expiry(*slot).is_some());
        let types = SectionTypes {
            keys: self.codecs.keys.file_types(),
            values: if with_values { self.codecs.values.file_types() } else { &[] },
        };
        let mut start = 0;
        let chunks = std::iter::from_fn(|| {
            let end = self.chunk_end(slots, start);
            let chunk = (start < end).then(|| &slots[start..end]);
            start = end;
            chunk
        });
        write_section(
            types,
            slots.len(),
            with_expiry,
            chunks.map(|chunk| self.columns(chunk, with_values, with_expiry)),
        )
    }

    fn columns(&self, slots: &[SlotRef], with_values: bool, with_expiry: bool) -> Result<Columns> {
        let values = slots.iter().map(|slot| self.table.last_value(*slot).unwrap_or_default());
        Ok(Columns {
            rows: slots.len(),
            keys: self.codecs.keys.decode_file(slots.iter().map(|slot| self.table.key(*slot)))?,
            values: if with_values { self.codecs.values.decode_file(values)? } else { Vec::new() },
            expiry: with_expiry.then(|| slots.iter().map(|slot| self.table.expiry(*slot)).collect()),
        })
    }

    async fn write_snapshot(&mut self) -> Result<u64> {
        let mut slots = self.table.scan();
        if planted("snapshot-misses-an-entry") {
            slots.pop();
        }
        let section = self.section(&slots, true)?;
        let (version, link) = (self.history.version, self.history.checksum);
        let rows = [slots.len(), 0];
        let (_, bytes) = self.files.write(version, Kind::Snapshot, link, rows, [&section, &[]]).await?;
        self.history.snapshotted(bytes);
        self.metrics.last_snapshot = Some(version);
        Ok(bytes)
    }
}

#[async_trait]
impl StateStore for HotStateStore {
    fn schema(&self) -> &StateSchema {
        &self.schema
    }

    fn version(&self) -> Option<u64> {
        self.open.then_some(self.history.version)
    }

    async fn begin(&mut self, version: u64) -> Result<()> {
        self.table.abort();
        if !(self.open && self.history.version == version) {
            self.open = false;
            self.table = Table::new(self.codecs.prefix.is_some());
            let loaded = load(&self.files, &self.codecs, version).await?;
            for why in &loaded.repaired {
                tracing::warn!("state snapshot passed over, an older one and its deltas were used: {why}");
            }
            self.metrics.snapshots_repaired += loaded.repaired.len() as u64;
            self.metrics.last_snapshot = loaded.history.snapshots.last().copied();
            self.metrics.loads_from_files += 1;
            (self.table, self.history) = (loaded.table, loaded.history);
            self.open = true;
        } else {
            self.metrics.loads_from_memory += 1;
        }
        self.in_batch = true;
        Ok(())
    }

    fn get(&self, keys: &[ArrayRef]) -> Result<Found> {
        self.check_open()?;
        let keys = self.codecs.keys(keys)?;
        let slots: Vec<_> = (0..keys.len()).map(|row| self.table.find(keys.key(row))).collect();
        self.found(&slots)
    }

    fn reserve(&mut self, keys: &[ArrayRef]) -> Result<Reserved> {
        let slots = self.slots_of(keys)?;
        let found = self.found(&slots.iter().copied().map(Some).collect::<Vec<_>>())?;
        Ok(Reserved { slots, found })
    }

    fn put(&mut self, keys: &[ArrayRef], values: &[ArrayRef], expiry: Option<&Int64Array>) -> Result<()> {
        let slots = self.slots_of(keys)?;
        self.stage(&slots, values, expiry)
    }

    fn put_slots(&mut self, slots: &[SlotRef], values: &[ArrayRef], expiry: Option<&Int64Array>) -> Result<()> {
        self.check_slots(slots)?;
        self.in_batch = true;
        self.stage(slots, values, expiry)
    }

    fn remove(&mut self, keys: &[ArrayRef]) -> Result<usize> {
        self.check_open()?;
        self.in_batch = true;
        let keys = self.codecs.keys(keys)?;
        let slots: Vec<_> = (0..keys.len()).filter_map(|row| self.table.find(keys.key(row))).collect();
        Ok(slots.into_iter().filter(|slot| self.table.remove(*slot)).count())
    }

    fn remove_slots(&mut self, slots: &[SlotRef]) -> Result<usize> {
        self.check_slots(slots)?;
        self.in_batch = true;
        Ok(slots.iter().filter(|slot| self.table.remove(**slot)).count())
    }

    fn scan(&self) -> Result<Cursor> {
        self.check_open()?;
        Ok(Cursor { slots: self.table.scan(), next: 0 })
    }

    fn without_expiry(&self) -> Result<Cursor> {
        self.check_open()?;
        Ok(Cursor { slots: self.table.without_expiry(), next: 0 })
    }

    fn expired(&self, until: Until) -> Result<Cursor> {
        self.check_open()?;
        Ok(Cursor { slots: self.table.due(until), next: 0 })
    }

    fn evict(&mut self, until: Until) -> Result<Cursor> {
        let cursor = self.expired(until)?;
        self.in_batch = true;
        cursor.slots.iter().for_each(|slot| {
            self.table.remove(*slot);
        });
        Ok(cursor)
    }

    fn prefix_scan(&self, columns: &[ArrayRef]) -> Result<PrefixMatches> {
        self.check_open()?;
        let Some(codec) = &self.codecs.prefix else {
            return Err(Error::internal("state was asked for a prefix that it has no index for"));
        };
        let prefixes = codec.encode(columns, 0)?;
        let mut matches = PrefixMatches::default();
        for row in 0..prefixes.len() {
            let members = self.table.members(prefix(&prefixes, row));
            matches.prefix_rows.extend(std::iter::repeat_n(row as u32, members.len()));
            matches.cursor.slots.extend(members);
        }
        Ok(matches)
    }

    fn next_rows(&self, cursor: &mut Cursor) -> Result<Option<StateRows>> {
        let slots = &cursor.slots[cursor.next..];
        if slots.is_empty() {
            return Ok(None);
        }
        self.check_slots(&slots[..slots.len().min(CHUNK_ROWS)])?;
        let end = self.chunk_end(slots, 0);
        let rows = self.rows_in_slots(&slots[..end])?;
        cursor.next += end;
        Ok(Some(rows))
    }

    fn rows_total(&self) -> u64 {
        self.table.len() as u64
    }

    fn memory_bytes(&self) -> u64 {
        self.table.memory_bytes() as u64
    }

    fn metrics(&self) -> StoreMetrics {
        self.metrics
    }

    async fn commit(&mut self) -> Result<CommitReport> {
        self.check_open()?;
        let (puts, removes) = (self.table.staged_puts(), self.table.staged_removes());
        let sections = [self.section(&puts, true)?, self.section(&removes, false)?];
        let unchanged = puts.is_empty() && removes.is_empty();
        let (version, link) = (self.history.version + 1, self.history.checksum);
        let rows = [puts.len(), removes.len()];
        let sections = [&sections[0][..], &sections[1][..]];
        let (checksum, bytes_written) = match unchanged && planted("state-skips-versions-without-change") {
            true => (link, 0),
            false => self.files.write(version, Kind::Delta, link, rows, sections).await?,
        };
        // From here on the version exists. Should memory not follow, the next `begin` reads the files.
        self.open = false;
        self.table.commit()?;
        self.history.committed(checksum, bytes_written);
        self.open = true;
        self.in_batch = false;
        Ok(CommitReport {
            version,
            bytes_written,
            puts: puts.len() as u64,
            removes: removes.len() as u64,
            rows_total: self.rows_total(),
            prefixes_total: self.table.prefixes() as u64,
            memory_bytes: self.memory_bytes(),
        })
    }

    fn abort(&mut self) {
        self.table.abort();
        self.in_batch = false;
    }

    async fn maintain(&mut self, retain_versions: u64) -> Result<MaintainReport> {
        self.check_open()?;
        if self.in_batch {
            return Err(Error::internal("maintenance of state was asked for within a batch"));
        }
        let mut report = MaintainReport::default();
        if self.history.wants_snapshot(self.policy) {
            match self.write_snapshot().await {
                Ok(bytes) => report.snapshot_bytes = Some(bytes),
                Err(error) => report.problems.push(format!("no snapshot was written: {error}")),
            }
        }
        let unneeded = self.history.unneeded(retain_versions);
        let files = &self.files;
        let deletions = unneeded.into_iter().map(|(version, kind)| async move {
            let result = files.delete(version, kind).await;
            (version, kind, result)
        });
        let results: Vec<_> = stream::iter(deletions).buffered(DELETE_AT_ONCE).collect().await;
        for (version, kind, result) in results {
            match result {
                Ok(()) => {
                    self.history.deleted(version, kind);
                    report.deleted_files += 1;
                }
                Err(error) => report.problems.push(format!("{}: {error}", self.files.uri(version, kind))),
            }
        }
        if let Some(small) = self.table.shrunk()? {
            self.table = small;
        }
        Ok(report)
    }
}

#[cfg(test)]
mod tests;
