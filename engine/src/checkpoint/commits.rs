//! The commit log: batch N is done, and batch N+1 may run with this watermark.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::checkpoint::log_files::{Kind, LogFiles};
use crate::checkpoint::log_text::{V1, damaged, json, lines};
use crate::checkpoint::seal::{seal, unseal};
use crate::error::Result;
use crate::storage::{Folder, Storage};

/// What is known once a batch is done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CommitEntry {
    /// The watermark after the batch, in ms since 1970.
    pub next_batch_watermark_ms: i64,
}

/// `commits/<N>`: one entry for every batch that is done.
#[derive(Debug)]
pub struct CommitLog {
    files: LogFiles,
}

impl CommitLog {
    /// Opens the log in this folder and finds out which entries there are.
    pub async fn open(storage: &dyn Storage, folder: Folder) -> Result<Self> {
        Ok(Self { files: LogFiles::open(storage, folder).await? })
    }

    /// The highest id in the log.
    pub fn latest(&self) -> Option<u64> {
        self.files.ids(Kind::Plain).next_back()
    }

    /// The entry of this batch, or `None` when it is not there.
    pub async fn get(&self, batch_id: u64) -> Result<Option<CommitEntry>> {
        let Some(bytes) = self.files.get(batch_id, Kind::Plain).await? else { return Ok(None) };
        decode(&bytes, &self.files.uri(batch_id, Kind::Plain)).map(Some)
    }

    /// Logs that a batch is done.
    ///
    /// # Errors
    /// [`crate::Error::ConcurrentLogUpdate`] when another run has logged something else for this batch.
    pub async fn add(&mut self, batch_id: u64, entry: &CommitEntry) -> Result<()> {
        self.files.create(batch_id, Kind::Plain, encode(entry), 0).await
    }

    /// Deletes the entries of batches below `end`; the newest stays in any case.
    pub async fn purge_before(&mut self, end: u64) -> Result<()> {
        let end = end.min(self.latest().unwrap_or(0));
        self.files.delete_before(end, i64::MAX).await
    }
}

fn encode(entry: &CommitEntry) -> Bytes {
    seal(format!("{V1}\n{{\"nextBatchWatermarkMs\":{}}}", entry.next_batch_watermark_ms)).into()
}

fn decode(bytes: &[u8], path: &str) -> Result<CommitEntry> {
    let text = unseal(bytes, path)?;
    match lines(text.as_bytes(), path)?[..] {
        [] | [""] => Err(damaged(path, "ends after its first line")),
        // Spark before 2.4 knew no watermark here.
        ["{}"] => Ok(CommitEntry::default()),
        [line] => json(line, path, 2),
        _ => Err(damaged(path, "has more than two lines")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_bytes() {
        let entry = CommitEntry { next_batch_watermark_ms: 5000 };
        assert_eq!(encode(&entry), "v1\n{\"nextBatchWatermarkMs\":5000,\"wavetank.crc32\":\"663323f5\"}");
        for (spark, ms) in [
            (include_bytes!("../../testdata/spark-4.3.0/commits/0").as_slice(), 1704067199000),
            (include_bytes!("../../testdata/spark-4.3.0/commits/21"), 1704067220000),
            (include_bytes!("../../testdata/spark-4.3.0/commits/22"), 1704067221000),
        ] {
            assert_eq!(decode(spark, "commits/x").unwrap().next_batch_watermark_ms, ms);
        }
        for old in ["v1\n{}", "v1\n{}\n"] {
            assert_eq!(decode(old.as_bytes(), "x").unwrap(), CommitEntry::default(), "{old:?}");
        }
        assert_eq!(decode(b"v1\n{\"nextBatchWatermarkMs\":-7}\n", "x").unwrap().next_batch_watermark_ms, -7);
    }

    #[test]
    fn damage_is_found() {
        let good = encode(&CommitEntry { next_batch_watermark_ms: 5000 });
        assert_eq!(decode(&good, "x").unwrap().next_batch_watermark_ms, 5000);
        for end in 0..good.len() {
            assert!(decode(&good[..end], "x").is_err(), "cut at {end}");
        }
        for (at, bit) in (0..good.len()).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
            let mut flipped = good.to_vec();
            flipped[at] ^= 1 << bit;
            assert!(decode(&flipped, "x").is_err(), "byte {at} bit {bit}: {flipped:?}");
        }
    }

    #[test]
    fn other_versions_and_other_things_are_refused_by_name() {
        for (text, class, why) in [
            ("v2\n{\"nextBatchWatermarkMs\":0}", Some("INVALID_LOG_VERSION.MAX_SUPPORTED_VERSION"), "newer version"),
            ("v0\n{}", Some("MALFORMED_LOG_FILE"), "log version"),
            ("", Some("MALFORMED_LOG_FILE"), "log version"),
            ("v1\r\n{}", Some("MALFORMED_LOG_FILE"), "log version"),
            ("{\"nextBatchWatermarkMs\":0}", Some("MALFORMED_LOG_FILE"), "log version"),
            ("v1\n{\"nextBatchWatermarkMs\":0,\"x\":1}", None, "line 2 (unknown field"),
            ("v1\n{\"nextBatchWatermarkMs\":\"0\"}", None, "line 2 (invalid type"),
            ("v1\n{}\n{}", None, "more than two lines"),
        ] {
            let error = decode(text.as_bytes(), "file:/ck/commits/3").unwrap_err();
            let shown = error.to_string();
            assert_eq!(error.class(), class, "{text:?}: {shown}");
            assert!(shown.contains("file:/ck/commits/3") && shown.contains(why), "{text:?}: {shown}");
            assert!(shown.contains("checkpointLocation"), "says what to do: {shown}");
        }
    }
}
