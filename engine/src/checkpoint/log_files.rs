//! The numbered files of a log folder: what is there, making the next one, deleting the oldest.
//!
//! The folder is listed once, when the log is opened; from then on this run is the only one that changes it, and
//! another run is noticed by the name that is already taken.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::error::{Error, Result};
use crate::storage::{Folder, PutNew, Storage};

const COMPACT_SUFFIX: &str = ".compact";

/// The files of a log by id and kind, with the time of their last change in ms since 1970.
#[derive(Debug)]
pub(super) struct LogFiles {
    folder: Folder,
    files: BTreeMap<(u64, Kind), i64>,
    /// Names of Hadoop's checksum files that belong to log files (only logs that Spark wrote have them).
    checksums: BTreeSet<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// `<id>`
    Plain,
    /// `<id>.compact`
    Compact,
}

impl LogFiles {
    /// Makes durable and lists what is there.
    pub(super) async fn open(storage: &dyn Storage, folder: Folder) -> Result<Self> {
        storage.settle(&folder).await?;
        Self::list(folder).await
    }

    /// Lists what is there, as a reader that owns nothing.
    pub(super) async fn list(folder: Folder) -> Result<Self> {
        let (mut files, mut checksums) = (BTreeMap::new(), BTreeSet::new());
        for file in folder.list().await? {
            let name = file.location.filename().unwrap_or_default();
            if let Some(key) = parse(name) {
                files.insert(key, file.last_modified.timestamp_millis());
            } else if name.strip_prefix('.').and_then(|n| n.strip_suffix(".crc")).and_then(parse).is_some() {
                checksums.insert(name.to_string());
            }
        }
        Ok(Self { folder, files, checksums })
    }

    pub(super) fn latest(&self) -> Option<u64> {
        self.files.last_key_value().map(|((id, _), _)| *id)
    }

    /// The ids that have a file of this kind, ascending.
    pub(super) fn ids(&self, kind: Kind) -> impl DoubleEndedIterator<Item = u64> {
        self.files.keys().filter(move |key| key.1 == kind).map(|key| key.0)
    }

    pub(super) fn uri(&self, id: u64, kind: Kind) -> String {
        self.folder.uri(&name(id, kind))
    }

    pub(super) fn folder_uri(&self) -> String {
        self.folder.uri("")
    }

    pub(super) async fn get(&self, id: u64, kind: Kind) -> Result<Option<Bytes>> {
        self.folder.get(&name(id, kind)).await
    }

    /// Creates the file of this id. The same bytes there are ours; others are another run's.
    pub(super) async fn create(&mut self, id: u64, kind: Kind, bytes: Bytes, now_ms: i64) -> Result<()> {
        let name = name(id, kind);
        // The checksum of a deleted file of this name would make Hadoop refuse the new one.
        self.delete_checksum(&name).await?;
        match self.folder.put_new(&name, bytes).await? {
            PutNew::Written => {}
            PutNew::AlreadyThere(_) => {
                return Err(Error::ConcurrentLogUpdate { path: self.folder.uri(&name), batch_id: id });
            }
        }
        self.files.insert((id, kind), now_ms);
        Ok(())
    }

    /// Deletes files with ids below `end`, oldest first, up to the first that changed after `not_after_ms`. What it
    /// costs depends on what it deletes, not on what is there.
    pub(super) async fn delete_before(&mut self, end: u64, not_after_ms: i64) -> Result<()> {
        while let Some((&(id, kind), &modified_ms)) = self.files.first_key_value() {
            if id >= end || modified_ms > not_after_ms {
                break;
            }
            let name = name(id, kind);
            self.delete_checksum(&name).await?;
            self.folder.delete(&name).await?;
            self.files.remove(&(id, kind));
        }
        Ok(())
    }

    async fn delete_checksum(&mut self, name: &str) -> Result<()> {
        let checksum = format!(".{name}.crc");
        if self.checksums.contains(&checksum) {
            self.folder.delete(&checksum).await?;
            self.checksums.remove(&checksum);
        }
        Ok(())
    }
}

fn name(id: u64, kind: Kind) -> String {
    match kind {
        Kind::Plain => id.to_string(),
        Kind::Compact => format!("{id}{COMPACT_SUFFIX}"),
    }
}

/// The id and kind that a file name means; only names that [`name`] makes mean something.
fn parse(text: &str) -> Option<(u64, Kind)> {
    let (digits, kind) = match text.strip_suffix(COMPACT_SUFFIX) {
        Some(digits) => (digits, Kind::Compact),
        None => (text, Kind::Plain),
    };
    let id = digits.parse().ok()?;
    (name(id, kind) == text).then_some((id, kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_canonical_names_are_entries() {
        for (name, meaning) in [
            ("0", Some((0, Kind::Plain))),
            ("10", Some((10, Kind::Plain))),
            ("9.compact", Some((9, Kind::Compact))),
            ("18446744073709551615", Some((u64::MAX, Kind::Plain))),
            ("18446744073709551616", None),
            ("007", None),
            ("+5", None),
            ("-1", None),
            ("5.tmp", None),
            (".5.crc", None),
            ("5.compact.compact", None),
            (".compact", None),
            ("", None),
        ] {
            assert_eq!(parse(name), meaning, "{name}");
        }
    }
}
