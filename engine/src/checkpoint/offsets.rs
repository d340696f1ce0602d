//! The offset log: batch N will read exactly these ranges, with this watermark, at this time, under these settings.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use crate::checkpoint::log_files::{Kind, LogFiles};
use crate::checkpoint::log_text::{V1, damaged, json, lines};
use crate::error::{Error, Result};
use crate::source::Offset;
use crate::storage::{Folder, Storage};

/// How the log writes that a source has no offset yet.
const NO_OFFSET: &str = "-";
/// The setting that carries the checksum of the file; users of the log never see it.
const CHECKSUM_KEY: &str = "wavetank.crc32";
/// How the checksum stands in line 2, up to its eight digits.
const CHECKSUM_MARK: &str = "\"wavetank.crc32\":\"";
/// What stands for the checksum while it is computed.
const CHECKSUM_BLANK: &str = "00000000";

/// What is promised for a batch before it runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OffsetEntry {
    /// The watermark that the batch runs with, in ms since 1970.
    pub batch_watermark_ms: i64,
    /// The time that is "now" in the batch, in ms since 1970.
    pub batch_timestamp_ms: i64,
    /// The settings that stay as they are for the life of the checkpoint.
    pub conf: BTreeMap<String, String>,
    /// Up to where the batch reads, for each source in the order of the plan; `None`: the source has no offset yet.
    pub offsets: Vec<Option<Offset>>,
}

/// Line 2.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Header {
    batch_watermark_ms: i64,
    batch_timestamp_ms: i64,
    #[serde(default)]
    conf: BTreeMap<String, String>,
}

/// `offsets/<N>`: one entry for every batch that was promised.
#[derive(Debug)]
pub struct OffsetLog {
    files: LogFiles,
}

impl OffsetLog {
    /// Opens the log in this folder and finds out which entries there are.
    pub async fn open(storage: &dyn Storage, folder: Folder) -> Result<Self> {
        Ok(Self { files: LogFiles::open(storage, folder).await? })
    }

    /// The highest id in the log.
    pub fn latest(&self) -> Option<u64> {
        self.files.ids(Kind::Plain).next_back()
    }

    /// The entry of this batch, or `None` when it is not there.
    pub async fn get(&self, batch_id: u64) -> Result<Option<OffsetEntry>> {
        let Some(bytes) = self.files.get(batch_id, Kind::Plain).await? else { return Ok(None) };
        decode(&bytes, &self.files.uri(batch_id, Kind::Plain)).map(Some)
    }

    /// Promises a batch.
    ///
    /// # Errors
    /// [`Error::ConcurrentLogUpdate`] when another run has promised something else for this batch.
    pub async fn add(&mut self, batch_id: u64, entry: &OffsetEntry) -> Result<()> {
        self.files.create(batch_id, Kind::Plain, encode(entry)?, 0).await
    }

    /// Deletes the entries of batches below `end`; the newest stays in any case.
    pub async fn purge_before(&mut self, end: u64) -> Result<()> {
        let end = end.min(self.latest().unwrap_or(0));
        self.files.delete_before(end, i64::MAX).await
    }
}

fn encode(entry: &OffsetEntry) -> Result<Bytes> {
    let mut header = Header {
        batch_watermark_ms: entry.batch_watermark_ms,
        batch_timestamp_ms: entry.batch_timestamp_ms,
        conf: entry.conf.clone(),
    };
    header.conf.insert(CHECKSUM_KEY.to_string(), CHECKSUM_BLANK.to_string());
    let header = serde_json::to_string(&header).map_err(|error| Error::internal(format!("offset log: {error}")))?;
    let mut text = format!("{V1}\n{header}");
    for offset in &entry.offsets {
        text.push('\n');
        match offset {
            None => text.push_str(NO_OFFSET),
            Some(offset) if is_json_line(offset.as_str()) => text.push_str(offset.as_str()),
            Some(offset) => return Err(Error::internal(format!("a source's offset is no line of JSON: {offset}"))),
        }
    }
    if entry.offsets.is_empty() {
        return Err(Error::internal("a batch without sources cannot be logged"));
    }
    let at = checksum_at(&text).ok_or_else(|| Error::internal("the offset log lost its checksum"))?;
    let checksum = format!("{:08x}", crc32fast::hash(text.as_bytes()));
    text.replace_range(at..at + checksum.len(), &checksum);
    Ok(text.into())
}

fn decode(bytes: &[u8], path: &str) -> Result<OffsetEntry> {
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let lines = lines(bytes, path)?;
    let [header, offsets @ ..] = &lines[..] else { return Err(damaged(path, "ends after its first line")) };
    if offsets.is_empty() {
        return Err(damaged(path, "names no source"));
    }
    let mut header = match *header {
        "" => Header { batch_watermark_ms: 0, batch_timestamp_ms: 0, conf: BTreeMap::new() },
        line => json(line, path, 2)?,
    };
    match header.conf.remove(CHECKSUM_KEY) {
        Some(checksum) => verify(bytes, &checksum, path)?,
        // Spark logs no other settings; another name is the checksum's, damaged.
        None => {
            if let Some(name) = header.conf.keys().find(|name| !name.starts_with("spark.")) {
                return Err(damaged(path, format!("has an unknown setting '{name}' and no checksum")));
            }
        }
    }
    let offsets = offsets.iter().enumerate().map(|(index, line)| match *line {
        NO_OFFSET => Ok(None),
        line if is_json_line(line) => Ok(Some(Offset::new(line))),
        _ => Err(damaged(path, format!("has no offset in line {}", index + 3))),
    });
    Ok(OffsetEntry {
        batch_watermark_ms: header.batch_watermark_ms,
        batch_timestamp_ms: header.batch_timestamp_ms,
        conf: header.conf,
        offsets: offsets.collect::<Result<_>>()?,
    })
}

fn verify(bytes: &[u8], checksum: &str, path: &str) -> Result<()> {
    // It was UTF-8 when its lines were split.
    let mut text = String::from_utf8_lossy(bytes).into_owned();
    let found = checksum_at(&text).filter(|at| text.is_char_boundary(at + CHECKSUM_BLANK.len())).and_then(|at| {
        text.replace_range(at..at + CHECKSUM_BLANK.len(), CHECKSUM_BLANK);
        (format!("{:08x}", crc32fast::hash(text.as_bytes())) == checksum).then_some(())
    });
    found.ok_or_else(|| damaged(path, "does not match its own checksum"))
}

/// Where the checksum's digits are. The first mark is the right one: quotes inside of JSON texts are escaped.
fn checksum_at(text: &str) -> Option<usize> {
    let at = text.find(CHECKSUM_MARK)? + CHECKSUM_MARK.len();
    (text.len() >= at + CHECKSUM_BLANK.len()).then_some(at)
}

fn is_json_line(text: &str) -> bool {
    !text.contains(['\n', '\r']) && serde_json::from_str::<IgnoredAny>(text).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPARK: &[u8] = include_bytes!("../../testdata/spark-4.3.0/offsets/22");

    fn entry() -> OffsetEntry {
        OffsetEntry {
            batch_watermark_ms: 5000,
            batch_timestamp_ms: 1795230091332,
            conf: [("spark.sql.shuffle.partitions", "1"), ("spark.sql.streaming.multipleWatermarkPolicy", "min")]
                .map(|(k, v)| (k.to_string(), v.to_string()))
                .into(),
            offsets: vec![Some(Offset::new("{\"logOffset\":3}")), None, Some(Offset::new("7"))],
        }
    }

    #[test]
    fn golden_bytes() {
        let text = encode(&entry()).unwrap();
        assert_eq!(
            text,
            "v1\n{\"batchWatermarkMs\":5000,\"batchTimestampMs\":1795230091332,\"conf\":{\
             \"spark.sql.shuffle.partitions\":\"1\",\"spark.sql.streaming.multipleWatermarkPolicy\":\"min\",\
             \"wavetank.crc32\":\"6a9f8070\"}}\n{\"logOffset\":3}\n-\n7"
        );
        assert_eq!(decode(&text, "x").unwrap(), entry());
        let with_end = [&text[..], b"\n"].concat();
        assert_eq!(decode(&with_end, "x").unwrap(), entry(), "a line end at the end is fine");
    }

    #[test]
    fn sparks_entry_is_read_and_comes_back_the_same_but_for_order_and_checksum() {
        let read = decode(SPARK, "x").unwrap();
        assert_eq!((read.batch_watermark_ms, read.batch_timestamp_ms), (1704067220000, 1795260738869));
        assert_eq!(read.offsets, [Some(Offset::new("{\"logOffset\":22}"))]);
        assert_eq!(read.conf.len(), 17);
        assert_eq!(read.conf["spark.sql.shuffle.partitions"], "1");
        assert_eq!(decode(&encode(&read).unwrap(), "x").unwrap(), read);
        let lines =
            |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap().lines().map(String::from).collect::<Vec<_>>();
        let (spark, ours) = (lines(SPARK), lines(&encode(&read).unwrap()));
        let parse = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap();
        let (spark_header, mut our_header) = (parse(&spark[1]), parse(&ours[1]));
        our_header["conf"].as_object_mut().unwrap().remove(CHECKSUM_KEY);
        assert_eq!((&spark[0], spark_header, &spark[2..]), (&ours[0], our_header, &ours[2..]));
    }

    #[test]
    fn old_entries_are_read() {
        let read = decode(b"v1\n\n{\"logOffset\":0}\n-", "x").unwrap();
        assert_eq!(read.offsets.len(), 2);
        assert_eq!((read.batch_watermark_ms, read.conf.len()), (0, 0));
        let read = decode(b"v1\n{\"batchWatermarkMs\":0,\"batchTimestampMs\":1480981499528}\n0", "x").unwrap();
        assert_eq!(read.batch_timestamp_ms, 1480981499528);
    }

    #[test]
    fn damage_is_found() {
        let good = encode(&entry()).unwrap();
        for end in 0..good.len() {
            assert!(decode(&good[..end], "x").is_err(), "cut at {end}");
        }
        for (at, bit) in (0..good.len()).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
            let mut flipped = good.to_vec();
            flipped[at] ^= 1 << bit;
            assert!(decode(&flipped, "x").is_err(), "byte {at} bit {bit}");
        }
        for end in 0..SPARK.len() {
            assert!(decode(&SPARK[..end], "x").is_err(), "Spark's, cut at {end}");
        }
        for (at, bit) in (0..SPARK.len()).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
            let mut flipped = SPARK.to_vec();
            flipped[at] ^= 1 << bit;
            if let Ok(other) = decode(&flipped, "x") {
                // Without a checksum only a value can have become another of its kind.
                assert_ne!(
                    other,
                    decode(SPARK, "x").unwrap(),
                    "byte {at} bit {bit}: the same meaning from other bytes"
                );
                assert_eq!(other.offsets.len(), 1, "byte {at} bit {bit}");
            }
        }
    }

    #[test]
    fn other_versions_and_other_things_are_refused_by_name() {
        let head = "v1\n{\"batchWatermarkMs\":0,\"batchTimestampMs\":0,\"conf\":{}}";
        for (text, class, why) in [
            ("v2\n{}\na:-".to_string(), Some("INVALID_LOG_VERSION.MAX_SUPPORTED_VERSION"), "newer version"),
            (head.replace("v1", "v999999999999"), Some("MALFORMED_LOG_FILE"), "log version"),
            (head.to_string(), None, "names no source"),
            ("v1".to_string(), None, "ends after its first line"),
            (format!("{head}\n\n"), None, "no offset in line 3"),
            (format!("{head}\n{{\"a\":"), None, "no offset in line 3"),
            (format!("{head}\n-\n--"), None, "no offset in line 4"),
            (format!("{head}\n-\r"), None, "no offset in line 3"),
            (format!("{}\n-", head.replace("conf", "cong")), None, "unknown field"),
            (format!("{}\n-", head.replace("{}", "{\"wavetank.crc33\":\"0\"}")), None, "unknown setting"),
            (format!("{}\n-", head.replace("{}", "{\"wavetank.crc32\":\"\"}")), None, "own checksum"),
            (format!("{}\n-", head.replace("{}", "{\"wavetank.crc32\":\"€€€\"}")), None, "own checksum"),
        ] {
            let error = decode(text.as_bytes(), "file:/ck/offsets/3").unwrap_err();
            let shown = error.to_string();
            assert_eq!(error.class(), class, "{text:?}: {shown}");
            assert!(shown.contains("file:/ck/offsets/3") && shown.contains(why), "{text:?}: {shown}");
            assert!(shown.contains("checkpointLocation"), "says what to do: {shown}");
        }
    }

    #[test]
    fn what_could_not_be_read_back_is_not_written() {
        let with = |offsets| OffsetEntry { offsets, ..entry() };
        assert!(encode(&with(vec![Some(Offset::new("not json"))])).is_err());
        assert!(encode(&with(vec![])).is_err());
    }
}
