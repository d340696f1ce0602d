//! All planted bugs, by name: what each stands for, and how it is planted.
//!
//! A bug is planted at the seam (`plant.rs`), or in the engine's own code (`wavetank_engine::planted`, only in builds
//! for tests). The campaign must find every one of them (`tests/planted_bugs.rs`): this list is how the simulator is
//! itself tested. `docs/TESTING.md` has the table of how soon each is found.

use crate::plant::Plant;

/// A bug that can be planted.
#[derive(Clone, Copy, Debug)]
pub struct KnownBug {
    /// Its name.
    pub name: &'static str,
    /// What it stands for.
    pub stands_for: &'static str,
    /// How it is planted at the seam; `None` for a place in the engine's code that has the bug's name.
    pub at_seam: Option<&'static str>,
}

impl KnownBug {
    /// The name of the place in the engine's code, for those bugs that are one.
    pub fn engine_name(&self) -> Option<&'static str> {
        self.at_seam.is_none().then_some(self.name)
    }

    /// Whether it is a place in the code of user functions over groups.
    pub fn is_in_groups(&self) -> bool {
        let kinds = ["group-", "timer-", "ttl-", "list-", "map-", "value-"];
        self.at_seam.is_none() && kinds.iter().any(|kind| self.name.starts_with(kind))
    }

    /// The bug as a plant of a scenario.
    pub fn plant(&self) -> Plant {
        let text = self.at_seam.map_or_else(|| format!("engine {}", self.name), str::to_owned);
        text.parse().unwrap_or_else(|why| panic!("{}: {why}", self.name))
    }
}

const fn engine(name: &'static str, stands_for: &'static str) -> KnownBug {
    KnownBug { name, stands_for, at_seam: None }
}

const fn seam(name: &'static str, stands_for: &'static str, plant: &'static str) -> KnownBug {
    KnownBug { name, stands_for, at_seam: Some(plant) }
}

/// All of them.
pub const BUGS: &[KnownBug] = &[
    engine("late-filter-passes-the-watermark-itself", "`>=` for `>`: a row at the watermark is not late"),
    engine("a-null-event-time-is-late", "a null event time is taken for a time before the watermark"),
    engine("late-rows-are-kept", "no operator drops late rows"),
    engine("late-by-the-eviction-watermark", "rows are judged by the watermark of this batch, not of the one before"),
    engine("evict-by-the-late-watermark", "eviction happens one batch late"),
    engine(
        "every-operator-has-the-global-watermark",
        "an operator above a join takes no account of what the join holds back",
    ),
    engine("watermark-follows-the-oldest-row", "minimum for maximum"),
    engine("watermark-rounds-up", "milliseconds are cut up, not down"),
    engine("watermark-without-delay", "the delay is forgotten"),
    engine("watermark-goes-back", "the watermark is that of the last batch, not of all"),
    engine("watermark-policy-max-for-min", "the fastest of two streams decides"),
    engine("a-silent-source-holds-nothing-back", "a stream that has brought nothing yet does not count"),
    engine("restart-forgets-the-watermark", "a restart begins with watermark 0"),
    engine("restart-takes-the-last-promised-watermark", "a restart does not read the watermark in the commit log"),
    engine("commit-entry-has-the-old-watermark", "the commit log says the watermark before the batch"),
    engine("restart-forgets-the-late-watermark", "after a restart nothing is late for one batch"),
    engine("restart-takes-the-new-watermark-for-late-rows", "after a restart rows are late that would not have been"),
    engine("rerun-asks-the-clock", "`now()` is evaluated again when a batch is run again"),
    engine(
        "rerun-asks-the-sources",
        "a batch that is run again takes all there is: with another limit than it was promised with",
    ),
    engine("rerun-with-the-watermark-before", "a batch that is run again has the watermark of the one before"),
    engine("restart-reads-the-last-batch-again", "the start of the last batch is taken for its end"),
    engine("a-promise-is-taken-for-done", "what was promised counts as done after a crash: the batch is lost"),
    engine("a-done-batch-runs-again", "`<=` for `<` between the two logs"),
    engine("promise-after-the-batch", "the offset log is written after the sink"),
    engine("done-before-the-sink", "the commit log is written before the sink commits"),
    engine("done-before-the-state", "the commit log is written before the state is"),
    engine("sources-forget-a-batch-too-early", "sources may drop a batch when it is promised, not when it is done"),
    engine("logs-are-purged-too-far", "the entry that says where the last batch begins is purged"),
    engine("no-batch-without-data", "windows close with the next data only"),
    engine("batches-without-data-without-end", "`>=` for `>`: the watermark always calls for one more"),
    engine("restart-begins-with-a-batch-without-data", "a restart closes windows that Spark leaves open"),
    engine(
        "partitions-follow-the-session",
        "a changed setting wins over the checkpoint: keys are looked for elsewhere",
    ),
    engine("keys-change-their-partition", "the partition of a key depends on the batch it comes in"),
    engine("agg-forgets-what-it-kept", "new partial states replace the kept ones"),
    engine("agg-merges-new-before-kept", "first, last and lists are in the wrong order"),
    engine("agg-update-emits-every-group", "update mode emits what did not change"),
    engine("agg-update-never-evicts", "state grows for ever in update mode"),
    engine("agg-append-emits-twice", "evicted groups stay"),
    engine("agg-evicts-before-merging", "groups leave before the batch's rows reach them"),
    engine("agg-evicts-before-the-window-ends", "a window is closed five seconds early"),
    engine("agg-evicts-one-instant-late", "`<` for `<=`: a window whose end is the watermark stays"),
    engine("agg-complete-evicts", "complete mode forgets closed windows"),
    engine("agg-complete-drops-late-rows", "complete mode has a late filter"),
    engine("session-touching-ones-stay-apart", "`<` for `<=` between sessions"),
    engine("session-swallowed-ones-stay", "a session that became part of an earlier one stays in state"),
    engine("session-takes-late-rows", "sessions have no late filter"),
    engine("session-leaves-before-its-end", "a session is closed while rows can still join it"),
    engine("window-cuts-toward-zero", "windows before 1970 are cut toward zero"),
    engine("window-edge-belongs-to-the-window-before", "`(start, end]` for `[start, end)`"),
    engine("panes-miss-a-window", "a pane is not expanded into its latest window"),
    engine("dedup-passes-both-of-a-batch", "two new rows of one key pass when they come in one batch"),
    engine("dedup-duplicates-prolong", "a duplicate makes its key live longer"),
    engine("dedup-forgets-the-delay", "keys seen within the watermark leave at their event time"),
    engine("dedup-evicts-before-it-looks", "keys leave before the batch's rows are looked up"),
    engine("dedup-never-forgets", "no key ever leaves"),
    engine("what-was-kept-without-a-watermark-stays", "old state is not given its expiry when a watermark comes"),
    engine("limit-is-per-batch", "LIMIT begins anew in each batch"),
    engine("limit-lets-one-more-pass", "`<=` for `<`"),
    engine("limit-counts-the-last-batch-only", "what passed is stored in the place of the sum"),
    engine("join-takes-late-rows", "the join has no late filter"),
    engine(
        "join-loses-the-left-rows-of-a-late-batch",
        "left rows that may be forgotten are never stored, though this batch's right rows match them",
    ),
    engine("join-forgets-right-rows-at-once", "right rows are not stored"),
    engine("join-never-forgets-right-rows", "the right side grows for ever"),
    engine("join-forgets-who-matched", "a matched row comes out padded, too"),
    engine("join-padded-rows-come-twice", "outer rows without a match come out twice"),
    engine("join-padded-rows-never-come", "outer rows without a match are dropped"),
    engine("join-full-outer-is-left-outer", "the right side of a full outer join is not preserved"),
    engine(
        "join-forgets-what-can-still-match",
        "`<` for `<=` in the bound of a range condition: one millisecond early",
    ),
    engine("join-semi-matches-again", "a semi-joined row comes out with each match"),
    engine(
        "group-timeout-at-its-own-instant",
        "`<=` for `<`: a timeout at the watermark, or at the batch's time, has passed",
    ),
    engine("group-timeout-comes-late", "`<` against the instant before: a timeout comes a millisecond late"),
    engine("group-timeout-by-the-watermark-before", "timeouts are judged by the watermark of the batch before"),
    engine("group-timeout-comes-before-the-rows", "a key whose timeout has passed and that has rows is called twice"),
    engine("group-timeout-outlives-the-call", "a timeout that a call does not set again stays"),
    engine("group-timeout-alone-is-not-kept", "a new timeout is kept only with a new state"),
    engine("group-timeout-goes-with-the-state", "a state that is removed takes the timeout of the same call with it"),
    engine("group-state-stays-after-its-timeout", "what a call for a timeout does to the state is not kept"),
    engine("group-removed-state-comes-back", "a state that was removed is there in the next batch"),
    engine("group-late-rows-reach-the-function", "a function with an event-time timeout gets late rows"),
    engine("group-late-rows-reach-the-processor", "a processor in event time gets late rows"),
    engine("group-rows-are-late-without-a-timeout", "a function without a timeout loses late rows"),
    engine("group-initial-state-in-every-batch", "initial states are put in again and again"),
    engine("group-null-keys-are-lost", "rows whose key is null are no group"),
    engine("group-is-called-for-each-run-of-rows", "rows of a key that do not come side by side are two groups"),
    engine("group-time-is-the-clocks", "functions ask the clock, not the batch: another time when a batch runs again"),
    engine("timer-outlives-its-deletion", "a deleted timer is still there"),
    engine("timer-comes-again", "a timer that has been called stays"),
    engine("timer-comes-late", "`<` for `<=`: a timer at the watermark has not come"),
    engine("timer-by-the-watermark-before", "timers are judged by the watermark of the batch before"),
    engine("timer-never-comes", "timers are kept, and not found when their time comes"),
    engine("ttl-is-not-looked-at", "what has outlived its lifetime is seen until it is cleaned up"),
    engine("ttl-ends-late", "`<` for `<=`: a value is seen at the end of its lifetime"),
    engine("ttl-is-never-cleaned", "what has outlived its lifetime stays in state"),
    engine("ttl-counts-from-the-first-write", "an update does not prolong a lifetime"),
    engine("list-append-replaces", "appending to a list forgets what was there"),
    engine("list-positions-begin-anew", "elements of a batch take the places of those of earlier ones"),
    engine("map-entry-comes-back", "an entry that was removed is there in the next batch"),
    engine("map-clear-leaves-what-is-new", "clearing a map forgets the entries of this batch"),
    engine("value-clear-is-forgotten", "a value that was cleared is there in the next batch"),
    engine("value-reads-pass-over-own-writes", "a call does not see what it wrote itself"),
    engine(
        "value-of-the-group-before",
        "the values that were looked up for earlier groups are taken for those of later ones",
    ),
    engine("state-comes-back-empty", "state is not loaded after a restart"),
    engine("state-misses-its-last-delta", "the newest delta is left out when state is loaded"),
    engine("state-brings-back-what-was-removed", "removals in deltas are not replayed"),
    engine("state-comes-back-without-expiries", "what was loaded is never evicted"),
    engine("state-skips-versions-without-change", "no file is written for a batch that changed nothing"),
    engine("snapshot-misses-an-entry", "a snapshot lacks one row"),
    engine("a-short-answer-is-believed", "an object store that sends half of an object is believed"),
    engine(
        "a-self-conflict-is-another-writer",
        "a conditional put that was done and conflicts with itself ends the query",
    ),
    engine(
        "another-writer-is-taken-for-oneself",
        "every conflict of a conditional put is taken for one's own earlier try",
    ),
    engine("a-put-made-again-forgets-its-condition", "the second try of a conditional put replaces what is there"),
    engine("equal-times-are-one-file", "a file is known by the time of its last change"),
    engine("late-files-are-lost", "files older than the newest one that was read are passed over"),
    engine("a-file-made-again-is-read-again", "a file that was rewritten counts as new"),
    seam("offsets-are-not-synced", "no fsync of the offset log's entry", "no-sync checkpoint/offsets/N.tmp fsync"),
    seam("offsets-have-no-durable-name", "no fsync of the offset log's folder", "no-sync checkpoint/offsets fsync-dir"),
    seam("commits-are-not-synced", "no fsync of the commit log's entry", "no-sync checkpoint/commits/N.tmp fsync"),
    seam("commits-have-no-durable-name", "no fsync of the commit log's folder", "no-sync checkpoint/commits fsync-dir"),
    seam(
        "deltas-are-not-synced",
        "an acknowledged state file is all zeros after a power cut",
        "no-sync checkpoint/state/N/N/N.delta.tmp fsync",
    ),
    seam(
        "deltas-have-no-durable-name",
        "a state file's name is lost by a power cut",
        "no-sync checkpoint/state/N/N fsync-dir",
    ),
    seam("deltas-are-not-renamed", "a state file stays a temporary file", "skip checkpoint/state/N/N/N.delta rename"),
    seam(
        "sink-files-are-not-synced",
        "an acknowledged file of rows is all zeros after a power cut",
        "no-sync out/part-N-*-cN.json.tmp fsync",
    ),
    seam("sink-log-is-not-synced", "no fsync of the sink's own log", "no-sync out/_spark_metadata/N.tmp fsync"),
    seam("sink-log-has-no-durable-name", "no fsync of the sink log's folder", "no-sync out/_spark_metadata fsync-dir"),
    seam("source-log-is-not-synced", "no fsync of the file source's log", "no-sync checkpoint/sources/N/N.tmp fsync"),
    seam(
        "source-log-has-no-durable-name",
        "no fsync of the source log's folder",
        "no-sync checkpoint/sources/N fsync-dir",
    ),
    seam("checkpoint-id-is-not-synced", "no fsync of the checkpoint's id", "no-sync checkpoint/metadata.tmp fsync"),
    seam(
        "promises-are-awaited-too-late",
        "the batch begins before its promise is written",
        "late checkpoint/offsets/N link",
    ),
    seam("source-log-is-forgotten", "files that were read are not written down", "skip checkpoint/sources/N/N link"),
    seam(
        "sink-log-says-wrong-sizes",
        "the sink's log says that files are empty: readers skip them",
        r#"rewrite out/_spark_metadata/N.tmp write /"size":#/"size":0/"#,
    ),
    seam(
        "commit-log-says-zero",
        "the commit log says watermark 0",
        r#"rewrite checkpoint/commits/N.tmp write /"nextBatchWatermarkMs":#/"nextBatchWatermarkMs":0/"#,
    ),
    seam(
        "offset-log-says-zero",
        "the offset log says watermark 0",
        r#"rewrite checkpoint/offsets/N.tmp write /"batchWatermarkMs":#/"batchWatermarkMs":0/"#,
    ),
    seam(
        "offset-log-keeps-no-partitions",
        "the offset log does not pin the number of partitions",
        r#"rewrite checkpoint/offsets/N.tmp write /"spark.sql.shuffle.partitions":/"spark.sql.shuffle.other":/"#,
    ),
    seam(
        "sink-commits-a-replayed-batch-twice",
        "the sink does not know which batches it has",
        "twice witness/out/N commit",
    ),
    seam(
        "listing-ends-after-its-first-page",
        "the first page of a listing of files is believed to be all",
        "skip blob://bucket/in list",
    ),
    seam(
        "log-listing-ends-after-its-first-page",
        "the first page of a log's listing is believed to be all",
        "skip blob://bucket/checkpoint/offsets list",
    ),
    seam(
        "promises-in-the-store-are-awaited-too-late",
        "the batch begins before its promise is put",
        "late blob://bucket/checkpoint/offsets/N put",
    ),
    seam(
        "promises-in-the-store-replace-others",
        "the promise is put without a condition",
        "replace blob://bucket/checkpoint/offsets/N put",
    ),
    seam(
        "deltas-in-the-store-are-not-put",
        "a state file never reaches the object store",
        "skip blob://bucket/checkpoint/state/N/N/N.delta put",
    ),
    seam("foreach-loses-partitions", "a partition that was closed is not kept", "skip foreach/out/N/N commit"),
    seam("sink-drops-a-row", "a row of each batch never reaches the sink", "skip witness/out/N stage"),
    seam("sink-loses-batches", "the sink says that it has committed and has not", "skip witness/out/N commit"),
    seam("source-gives-a-block-again", "a range begins one block too early", "late tape/events/N-N read"),
    seam("source-loses-a-block", "a range is read as empty", "skip tape/events/N-N read"),
    seam("source-doubles-rows", "a range is read twice", "twice tape/events/N-N read"),
    seam("source-drops-one-block-too-many", "a release includes the block after it", "twice tape/events/N release"),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn bugs_have_names_of_their_own_and_can_be_planted() {
        let names: BTreeSet<&str> = BUGS.iter().map(|bug| bug.name).collect();
        assert_eq!(names.len(), BUGS.len());
        let plants: BTreeSet<Plant> = BUGS.iter().map(KnownBug::plant).collect();
        assert_eq!(plants.len(), BUGS.len());
    }
}
