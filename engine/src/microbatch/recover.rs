//! Where a run begins: a pure function of what the two logs say (`spec/01`, section 3).
//!
//! Every crash between two lines of the batch loop, or inside one, comes down to one row of the table in
//! `docs/CHECKPOINT.md`. No I/O here.

use std::collections::BTreeMap;

use crate::checkpoint::{CommitEntry, OffsetEntry};
use crate::error::{Error, Result};
use crate::planted::planted;
use crate::source::Offset;

/// Ends of the ranges of a batch, for each source in the order of the plan.
pub type Offsets = Vec<Option<Offset>>;

/// What was found in the logs of a checkpoint.
#[derive(Clone, Copy, Debug)]
pub struct Found<'a> {
    /// The offset log's newest entry.
    pub latest: Option<(u64, &'a OffsetEntry)>,
    /// The entry before the newest, `None` when it is missing (or the newest is entry 0).
    pub previous: Option<&'a OffsetEntry>,
    /// The commit log's newest entry.
    pub commit: Option<(u64, &'a CommitEntry)>,
    /// How many sources the query has (a source used twice counts twice).
    pub source_count: usize,
    /// The checkpoint, for messages.
    pub checkpoint: &'a str,
}

/// Where a run begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// A new query: batch 0, from the beginning, with watermark 0.
    Fresh,
    /// A batch was promised and is not known to be done: it is run again, exactly as it was promised. No source is
    /// asked and nothing is logged before.
    Rerun {
        /// The batch.
        batch_id: u64,
        /// Where it starts: the ends of the batch before it, nowhere for batch 0.
        start: Offsets,
        /// Where it ends, its watermark, its time, its settings.
        promised: OffsetEntry,
        /// Batches before it that are not known to be done either, and are not run again: worth a warning.
        lost: Option<(u64, u64)>,
    },
    /// Everything promised is done: the sources are asked for more.
    Next {
        /// The batch that comes next.
        batch_id: u64,
        /// Where it starts: where the last one ended.
        start: Offsets,
        /// The watermark it starts with, in ms since 1970.
        watermark_ms: i64,
        /// The settings of the checkpoint.
        conf: BTreeMap<String, String>,
    },
}

/// Decides where a run begins.
///
/// # Errors
/// An error of the checkpoint when the logs contradict each other, lack an entry that is needed, or belong to a query
/// with another number of sources.
pub fn start(found: Found<'_>) -> Result<Start> {
    let Some((batch_id, latest)) = found.latest else {
        return match found.commit {
            None => Ok(Start::Fresh),
            Some((done, _)) => Err(promise_missing(found.checkpoint, done)),
        };
    };
    check_source_count(&found, latest)?;
    let before = match (batch_id, found.previous) {
        (0, _) => vec![None; found.source_count],
        (_, Some(previous)) => {
            check_source_count(&found, previous)?;
            previous.offsets.clone()
        }
        (_, None) => return Err(previous_missing(found.checkpoint, batch_id - 1)),
    };
    let first_open = match found.commit {
        Some((done, _)) if done > batch_id => return Err(promise_missing(found.checkpoint, done)),
        Some((done, commit)) if done == batch_id && !planted("a-done-batch-runs-again") => {
            let watermark_ms = match () {
                () if planted("restart-forgets-the-watermark") => 0,
                () if planted("restart-takes-the-last-promised-watermark") => latest.batch_watermark_ms,
                () => latest.batch_watermark_ms.max(commit.next_batch_watermark_ms),
            };
            return Ok(Start::Next {
                batch_id: batch_id + 1,
                start: if planted("restart-reads-the-last-batch-again") { before } else { latest.offsets.clone() },
                watermark_ms,
                conf: latest.conf.clone(),
            });
        }
        Some((done, _)) => done + 1,
        // All commits were lost, or none was ever written; the latter only for batch 0, but nobody can tell: the
        // older entries of both logs may have been purged. Spark does not warn either.
        None => batch_id,
    };
    if planted("a-promise-is-taken-for-done") {
        return Ok(Start::Next {
            batch_id: batch_id + 1,
            start: latest.offsets.clone(),
            watermark_ms: latest.batch_watermark_ms,
            conf: latest.conf.clone(),
        });
    }
    let lost = (first_open < batch_id).then(|| (first_open, batch_id - 1));
    Ok(Start::Rerun { batch_id, start: before, promised: latest.clone(), lost })
}

fn check_source_count(found: &Found<'_>, entry: &OffsetEntry) -> Result<()> {
    let (logged, wanted) = (entry.offsets.len(), found.source_count);
    if logged == wanted {
        return Ok(());
    }
    Err(Error::checkpoint(
        found.checkpoint,
        format!(
            "There are [{logged}] sources in the checkpoint offsets and now there are [{wanted}] sources requested by \
             the query. Cannot continue. Give the query the sources it had, or use a new checkpointLocation."
        ),
    ))
}

fn previous_missing(checkpoint: &str, batch_id: u64) -> Error {
    Error::checkpoint(
        checkpoint,
        format!(
            "batch {batch_id} doesn't exist: the file offsets/{batch_id} is missing, and with it where the batch \
             after it starts. Restore it from a backup, or use a new checkpointLocation."
        ),
    )
}

fn promise_missing(checkpoint: &str, batch_id: u64) -> Error {
    Error::checkpoint(
        checkpoint,
        format!(
            "batch {batch_id} is done (commits/{batch_id} is there) but was never promised (offsets/{batch_id} is \
             missing). Restore offsets/{batch_id} from a backup, or, to go back to an earlier batch on purpose, also \
             delete the newer files in commits, or use a new checkpointLocation."
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(end: &str, watermark_ms: i64) -> OffsetEntry {
        OffsetEntry {
            batch_watermark_ms: watermark_ms,
            batch_timestamp_ms: 1000 + watermark_ms,
            conf: [("spark.sql.shuffle.partitions".to_string(), watermark_ms.to_string())].into(),
            offsets: vec![Some(Offset::new(end)), None],
        }
    }

    fn rerun(batch_id: u64, start: Offsets, promised: OffsetEntry, lost: Option<(u64, u64)>) -> Result<Start, String> {
        Ok(Start::Rerun { batch_id, start, promised, lost })
    }

    fn next(batch_id: u64, end: &str, watermark_ms: i64, of: &OffsetEntry) -> Result<Start, String> {
        Ok(Start::Next { batch_id, start: entry(end, 0).offsets, watermark_ms, conf: of.conf.clone() })
    }

    #[test]
    fn every_row_of_the_table() {
        let (e6, e7) = (entry("6", 60), entry("7", 70));
        let begin = vec![None, None];
        let err = |text: &str| Err(text.to_string());
        for (name, latest, previous, commit, expected) in [
            ("nothing", None, None, None, Ok(Start::Fresh)),
            ("commits without offsets", None, None, Some((3, 0)), err("offsets/3 is missing")),
            ("batch 0 promised", Some((0, &e6)), None, None, rerun(0, begin.clone(), e6.clone(), None)),
            ("batch 0 done", Some((0, &e6)), None, Some((0, 0)), next(1, "6", 60, &e6)),
            ("C = L", Some((7, &e7)), Some(&e6), Some((7, 0)), next(8, "7", 70, &e7)),
            (
                "C = L, the commit's watermark is higher",
                Some((7, &e7)),
                Some(&e6),
                Some((7, 99)),
                next(8, "7", 99, &e7),
            ),
            ("C = L, previous missing", Some((7, &e7)), None, Some((7, 0)), err("batch 6 doesn't exist")),
            ("C = L-1", Some((7, &e7)), Some(&e6), Some((6, 99)), rerun(7, e6.offsets.clone(), e7.clone(), None)),
            ("C = L-1 = 0", Some((1, &e7)), Some(&e6), Some((0, 0)), rerun(1, e6.offsets.clone(), e7.clone(), None)),
            ("no commits", Some((7, &e7)), Some(&e6), None, rerun(7, e6.offsets.clone(), e7.clone(), None)),
            (
                "C < L-1",
                Some((7, &e7)),
                Some(&e6),
                Some((3, 0)),
                rerun(7, e6.offsets.clone(), e7.clone(), Some((4, 6))),
            ),
            ("C = L-1, previous missing", Some((7, &e7)), None, Some((6, 0)), err("batch 6 doesn't exist")),
            ("C > L", Some((7, &e7)), Some(&e6), Some((8, 0)), err("offsets/8 is missing")),
        ] {
            let commit = commit.map(|(id, next_batch_watermark_ms)| (id, CommitEntry { next_batch_watermark_ms }));
            let commit = commit.as_ref().map(|(id, entry)| (*id, entry));
            let found = Found { latest, previous, commit, source_count: 2, checkpoint: "file:///ck/" };
            match (start(found).map_err(|error| error.to_string()), expected) {
                (Err(error), Err(text)) => {
                    assert!(error.contains(&text) && error.contains("file:///ck/"), "{name}: {error}");
                }
                (got, expected) => assert_eq!(got, expected, "{name}"),
            }
        }
    }

    #[test]
    fn another_number_of_sources_is_refused_in_sparks_words() {
        let (two, mut one) = (entry("6", 0), entry("7", 0));
        one.offsets.pop();
        for (latest, previous, source_count, text) in [
            (&one, &two, 2, "There are [1] sources in the checkpoint offsets and now there are [2] sources requested"),
            (&two, &one, 2, "There are [1] sources in the checkpoint offsets and now there are [2] sources requested"),
            (&two, &two, 3, "There are [2] sources in the checkpoint offsets and now there are [3] sources requested"),
        ] {
            let found = Found {
                latest: Some((7, latest)),
                previous: Some(previous),
                commit: None,
                source_count,
                checkpoint: "c",
            };
            let error = start(found).unwrap_err().to_string();
            assert!(error.contains(text), "{error}");
        }
    }
}
