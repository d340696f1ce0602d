//! The files of one store: `<v>.delta` and `<v>.snapshot`, their names, reading and writing them, and when to delete.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::error::{Error, Result};
use crate::state::frame::{self, Damage, Header, Kind, Opened};
use crate::state::operator::{StoreIdentity, StoreSpec};
use crate::state::schema::{Part, fingerprint, not_compatible, types_text};
use crate::storage::Folder;

/// When a snapshot is written: after more than `min_deltas` deltas since the last one, once these have `growth_percent`
/// percent of its size, so that what snapshots cost stays in proportion to what changes; in any case after
/// `max_deltas`, so that loading does not read files without end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotPolicy {
    /// Spark's `spark.sql.streaming.stateStore.minDeltasForSnapshot`.
    pub min_deltas: u64,
    /// Size of the deltas, in percent of the last snapshot, from which a new snapshot pays.
    pub growth_percent: u64,
    /// The most deltas between two snapshots.
    pub max_deltas: u64,
}

impl Default for SnapshotPolicy {
    fn default() -> Self {
        Self { min_deltas: 10, growth_percent: 50, max_deltas: 1_000 }
    }
}

/// Which files there are for a version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) delta: bool,
    pub(super) snapshot: bool,
}

/// The version that is open and the files that it stands on.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    /// The version that is open.
    pub(super) version: u64,
    /// The checksum of its delta; 0 for version 0.
    pub(super) checksum: u32,
    pub(super) deltas_since_snapshot: u64,
    pub(super) delta_bytes_since_snapshot: u64,
    pub(super) snapshot_bytes: u64,
    /// Snapshots that are known to belong to this history: only these let older files go.
    pub(super) snapshots: BTreeSet<u64>,
    /// Files that may be there. A hint of what to delete, nothing else.
    pub(super) known: BTreeMap<u64, Known>,
}

impl History {
    /// A delta was written.
    pub(super) fn committed(&mut self, checksum: u32, bytes: u64) {
        self.version += 1;
        self.checksum = checksum;
        self.deltas_since_snapshot += 1;
        self.delta_bytes_since_snapshot += bytes;
        self.snapshots.remove(&self.version);
        self.known.entry(self.version).or_default().delta = true;
    }

    /// A snapshot of the open version was written.
    pub(super) fn snapshotted(&mut self, bytes: u64) {
        self.deltas_since_snapshot = 0;
        self.delta_bytes_since_snapshot = 0;
        self.snapshot_bytes = bytes;
        self.snapshots.insert(self.version);
        self.known.entry(self.version).or_default().snapshot = true;
    }

    pub(super) fn wants_snapshot(&self, policy: SnapshotPolicy) -> bool {
        let grown = self.delta_bytes_since_snapshot.saturating_mul(100)
            >= self.snapshot_bytes.saturating_mul(policy.growth_percent);
        self.deltas_since_snapshot > policy.min_deltas && (grown || self.deltas_since_snapshot >= policy.max_deltas)
    }

    /// Files that the last `retain` versions before the open one do not need: those older than the newest snapshot
    /// from which the oldest of these versions can be loaded (spec/04 section 10).
    pub(super) fn unneeded(&self, retain: u64) -> Vec<(u64, Kind)> {
        let oldest = self.version.saturating_sub(retain.max(1));
        let Some(base) = self.snapshots.range(..=oldest).next_back() else { return Vec::new() };
        (self.known.range(..base))
            .flat_map(|(version, known)| {
                let snapshot = known.snapshot.then_some((*version, Kind::Snapshot));
                snapshot.into_iter().chain(known.delta.then_some((*version, Kind::Delta)))
            })
            .collect()
    }

    /// A file was deleted.
    pub(super) fn deleted(&mut self, version: u64, kind: Kind) {
        if let Some(known) = self.known.get_mut(&version) {
            match kind {
                Kind::Delta => known.delta = false,
                Kind::Snapshot => known.snapshot = false,
            }
            if *known == Known::default() {
                self.known.remove(&version);
            }
        }
        if kind == Kind::Snapshot {
            self.snapshots.remove(&version);
        }
    }
}

/// What reading a file gave.
#[derive(Debug)]
pub(super) enum Read {
    /// The file, and its size.
    Whole(Opened, u64),
    /// There is no such file.
    Missing,
    /// The file cannot be trusted; why.
    Damaged(String),
}

/// The folder of a store.
#[derive(Debug)]
pub(super) struct StoreFiles {
    folder: Folder,
    /// The version at which the store begins, empty.
    pub(super) since: u64,
    identity: String,
    key_types: u64,
    value_types: u64,
    types_text: (String, String),
}

impl StoreFiles {
    pub(super) fn new(folder: Folder, identity: &StoreIdentity, spec: &StoreSpec) -> Self {
        let schema = &spec.schema;
        Self {
            folder,
            since: spec.since,
            identity: identity.to_string(),
            key_types: fingerprint(&schema.key),
            value_types: fingerprint(&schema.value),
            types_text: (types_text(&schema.key), types_text(&schema.value)),
        }
    }

    fn name(version: u64, kind: Kind) -> String {
        format!("{version}.{}", kind.suffix())
    }

    /// The file, as the storage names it.
    pub(super) fn uri(&self, version: u64, kind: Kind) -> String {
        self.folder.uri(&Self::name(version, kind))
    }

    /// Which files there are, as far as the storage's listing knows.
    pub(super) async fn list(&self) -> Result<BTreeMap<u64, Known>> {
        let mut known: BTreeMap<u64, Known> = BTreeMap::new();
        for file in self.folder.list().await? {
            let Some((version, suffix)) = file.location.filename().and_then(|name| name.split_once('.')) else {
                continue;
            };
            let Ok(version) = version.parse() else { continue };
            match suffix {
                "delta" => known.entry(version).or_default().delta = true,
                "snapshot" => known.entry(version).or_default().snapshot = true,
                _ => (),
            }
        }
        Ok(known)
    }

    /// Reads and checks a file. State of other types, or of a newer Wavetank, is an error.
    pub(super) async fn read(&self, version: u64, kind: Kind) -> Result<Read> {
        let Some(file) = self.folder.get(&Self::name(version, kind)).await? else { return Ok(Read::Missing) };
        let opened = match frame::open(&file) {
            Ok(opened) => opened,
            Err(Damage::Bytes(why)) => return Ok(Read::Damaged(why)),
            Err(Damage::Newer(format)) => {
                return Err(Error::checkpoint_class(
                    "CANNOT_LOAD_STATE_STORE.UNCATEGORIZED",
                    self.uri(version, kind),
                    format!(
                        "the file has format {format}, which a newer Wavetank wrote; this one reads format 1. Run the \
                         query with the newer Wavetank, or start it with a new checkpointLocation."
                    ),
                ));
            }
        };
        let header = &opened.header;
        if (header.kind, header.version, &header.identity) != (kind, version, &self.identity) {
            return Ok(Read::Damaged(format!(
                "it is the {} of version {} of state {}, not of version {version} of {}",
                header.kind.suffix(),
                header.version,
                header.identity,
                self.identity
            )));
        }
        self.check_types(header)?;
        let size = file.len() as u64;
        Ok(Read::Whole(opened, size))
    }

    fn check_types(&self, header: &Header) -> Result<()> {
        let uri = || self.uri(header.version, header.kind);
        let other = |found: u64| format!("(other types, fingerprint {found:016x})");
        if header.key_types != self.key_types {
            return Err(not_compatible(Part::Key, uri(), &other(header.key_types), &self.types_text.0));
        }
        if header.value_types != self.value_types {
            return Err(not_compatible(Part::Value, uri(), &other(header.value_types), &self.types_text.1));
        }
        Ok(())
    }

    /// Writes a file, replacing what an earlier try left. `rows` counts the rows of the two sections.
    pub(super) async fn write(
        &self,
        version: u64,
        kind: Kind,
        link: u32,
        rows: [usize; 2],
        sections: [&[u8]; 2],
    ) -> Result<(u32, u64)> {
        let header = Header {
            kind,
            version,
            link,
            key_types: self.key_types,
            value_types: self.value_types,
            puts: rows[0] as u64,
            removes: rows[1] as u64,
            identity: self.identity.clone(),
        };
        let (file, checksum): (Bytes, u32) = frame::seal(&header, sections[0], sections[1]);
        let size = file.len() as u64;
        self.folder.put(&Self::name(version, kind), file).await?;
        Ok((checksum, size))
    }

    pub(super) async fn delete(&self, version: u64, kind: Kind) -> Result<()> {
        self.folder.delete(&Self::name(version, kind)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(version: u64, snapshots: &[u64]) -> History {
        let known = (1..=version).map(|v| (v, Known { delta: true, snapshot: snapshots.contains(&v) })).collect();
        History { version, snapshots: snapshots.iter().copied().collect(), known, ..History::default() }
    }

    #[test]
    fn files_go_once_the_oldest_kept_version_has_a_snapshot_without_them() {
        assert_eq!(history(120, &[]).unneeded(100), []);
        assert_eq!(history(120, &[21]).unneeded(100), []);
        assert_eq!(history(121, &[21]).unneeded(100).len(), 20);
        let gone = history(121, &[11, 21, 32]).unneeded(100);
        assert_eq!(gone.len(), 21);
        assert!(gone.contains(&(11, Kind::Snapshot)) && !gone.contains(&(21, Kind::Delta)));
        let mut history = history(121, &[11, 21, 32]);
        gone.into_iter().for_each(|(version, kind)| history.deleted(version, kind));
        assert_eq!(history.unneeded(100), []);
        assert_eq!(history.snapshots, [21, 32].into());
    }

    #[test]
    fn snapshots_pay_by_size_and_come_at_last_by_number() {
        let policy = SnapshotPolicy::default();
        let history = |deltas, bytes| History {
            deltas_since_snapshot: deltas,
            delta_bytes_since_snapshot: bytes,
            snapshot_bytes: 1_000,
            ..History::default()
        };
        assert!(!history(10, 5_000).wants_snapshot(policy));
        assert!(history(11, 500).wants_snapshot(policy));
        assert!(!history(999, 499).wants_snapshot(policy));
        assert!(history(1_000, 1).wants_snapshot(policy));
    }
}
