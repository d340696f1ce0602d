//! The session's configuration: Spark's keys, their defaults, and which of them a checkpoint pins.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::options::did_you_mean;

/// Keys that the engine reads, with their defaults and what they mean.
pub const KNOWN: [(&str, &str, &str); 13] = [
    (SHUFFLE_PARTITIONS, "1", "partitions of state; fixed by a query's first batch"),
    (WATERMARK_POLICY, "min", "how several watermarks become one: min or max; fixed by a query's first batch"),
    ("spark.sql.streaming.noDataMicroBatches.enabled", "true", "batches without data when a watermark moved"),
    (OWED_NO_DATA_BATCH, "false", "a start makes up for the batch without data that a crash prevented; Spark does not"),
    ("spark.sql.streaming.minBatchesToRetain", "100", "how many batches of logs and state are kept"),
    (MIN_DELTAS_FOR_SNAPSHOT, "10", "how many changes of state are kept before a snapshot is written"),
    (ENCODING_FORMAT, "unsaferow", "avro: fields of state variables may come, go and become wider between runs"),
    ("spark.sql.streaming.numRecentProgressUpdates", "100", "how many progress reports a query keeps, plus one"),
    ("spark.sql.streaming.unsupportedOperationCheck", "true", "refuse at start what cannot be streamed"),
    ("spark.sql.streaming.statefulOperator.checkCorrectness.enabled", "true", "refuse chains that may lose late rows"),
    (
        ALLOW_MULTIPLE,
        "true",
        "each stateful operator has a watermark of its own; false: one for all, late rows by it too",
    ),
    (SKIP_INITIAL_KEYS, "false", "whether keys that have only an initial state are not called in the first batch"),
    ("spark.sql.session.timeZone", "UTC", "only UTC is supported"),
];

/// Spark's keys that have nothing to mean here, close to ones that have: taken, and without effect, so that a job's
/// settings need not be changed.
const WITHOUT_EFFECT: [&str; 4] = [
    "spark.sql.streaming.stateStore.providerClass",
    "spark.sql.streaming.stateStore.compression.codec",
    "spark.sql.streaming.stateStore.maintenanceInterval",
    "spark.sql.streaming.stateStore.rocksdb.formatVersion",
];

/// How many partitions state has.
pub const SHUFFLE_PARTITIONS: &str = "spark.sql.shuffle.partitions";
/// `min` or `max`.
pub const WATERMARK_POLICY: &str = "spark.sql.streaming.multipleWatermarkPolicy";
/// Whether a start runs the batch without data that the last run owed: in Spark a process that dies between a batch
/// that raised the watermark and the batch without data after it leaves its windows open until data comes (`spec/01`,
/// section 3).
pub const OWED_NO_DATA_BATCH: &str = "wavetank.streaming.owedNoDataBatch.enabled";
/// Whether the watermark of each stateful operator follows from what the ones below it hold back. `false` is Spark 3.3: the
/// query's watermark counts for all of them, and at once (`UseSingleWatermarkPropagator`).
pub const ALLOW_MULTIPLE: &str = "spark.sql.streaming.statefulOperator.allowMultiple";
/// Read by joins only: format 1 forgot which rows had matched, so that only inner joins are right in it (SPARK-26154).
pub const JOIN_STATE_FORMAT: &str = "spark.sql.streaming.join.stateFormatVersion";
/// For group functions with an initial state.
pub const SKIP_INITIAL_KEYS: &str = "spark.sql.streaming.flatMapGroupsWithState.skipEmittingInitialStateKeys";
/// Spark's `minDeltasForSnapshot`: a snapshot of state is written after more than this many deltas.
pub const MIN_DELTAS_FOR_SNAPSHOT: &str = "spark.sql.streaming.stateStore.minDeltasForSnapshot";
/// How values of state variables are compared with those of a checkpoint: by position (`unsaferow`), or by name (`avro`).
pub const ENCODING_FORMAT: &str = "spark.sql.streaming.stateStore.encodingFormat";
/// Where checkpoints go when a query names none.
pub const CHECKPOINT_LOCATION: &str = "spark.sql.streaming.checkpointLocation";

/// Under which the offset log keeps the formats of a query's sources; Spark passes over keys that it does not know.
pub(crate) const SOURCES: &str = "wavetank.sources";

/// Keys that are written into every offset log entry and that win over the session at a restart.
const PINNED: [&str; 2] = [SHUFFLE_PARTITIONS, WATERMARK_POLICY];

/// Settings by key. Keys that the engine does not know are kept: other parts may read them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conf {
    set: BTreeMap<String, String>,
}

impl Conf {
    /// Sets a key. Keys in Spark's streaming namespace that nobody reads are refused with the nearest right one, so
    /// that a misspelt setting is not silently without effect.
    pub fn set(&mut self, key: &str, value: &str) -> Result<()> {
        let known = || KNOWN.iter().map(|(key, ..)| *key).chain([CHECKPOINT_LOCATION]);
        if key == "spark.sql.session.timeZone"
            && !["utc", "etc/utc", "z", "+00:00"].contains(&value.to_lowercase().as_str())
        {
            return Err(Error::analysis(format!("The session time zone '{value}' is not supported. Only UTC is.")));
        }
        if !known().chain(WITHOUT_EFFECT).any(|name| name == key) {
            let near = did_you_mean(key, known());
            if !near.is_empty() {
                return Err(Error::analysis(format!("Unknown setting '{key}'.{near}")));
            }
        }
        self.set.insert(key.to_owned(), value.to_owned());
        Ok(())
    }

    /// The value of a key, or its default.
    pub fn get(&self, key: &str) -> Option<&str> {
        let default = || KNOWN.iter().find(|(known, ..)| *known == key).map(|(_, default, _)| *default);
        self.set.get(key).map(String::as_str).or_else(default)
    }

    /// All keys with their values, defaults included.
    pub fn all(&self) -> BTreeMap<String, String> {
        let mut all: BTreeMap<_, _> = KNOWN.iter().map(|(k, v, _)| ((*k).to_owned(), (*v).to_owned())).collect();
        all.extend(self.set.clone());
        all
    }

    /// A boolean setting.
    pub fn boolean(&self, key: &str) -> Result<bool> {
        match self.get(key).map(str::to_lowercase).as_deref() {
            Some("true") => Ok(true),
            Some("false") => Ok(false),
            other => Err(bad_value(key, other, "true or false")),
        }
    }

    /// A setting that is a positive integer.
    pub fn positive(&self, key: &str) -> Result<u64> {
        let text = self.get(key);
        match text.and_then(|text| text.trim().parse().ok()) {
            Some(value) if value > 0 => Ok(value),
            _ => Err(bad_value(key, text, "a positive integer")),
        }
    }

    /// What an offset log entry records.
    pub fn pinned(&self) -> BTreeMap<String, String> {
        PINNED.iter().filter_map(|key| Some(((*key).to_owned(), self.get(key)?.to_owned()))).collect()
    }

    /// This configuration under what a checkpoint pinned; a key that an old log lacks keeps the session's value.
    pub fn with_pinned(&self, logged: &BTreeMap<String, String>) -> Self {
        let mut conf = self.clone();
        for key in PINNED {
            if let Some(value) = logged.get(key) {
                conf.set.insert(key.to_owned(), value.clone());
            }
        }
        conf
    }
}

fn bad_value(key: &str, value: Option<&str>, expected: &str) -> Error {
    Error::analysis(format!("The value '{}' of '{key}' must be {expected}.", value.unwrap_or("")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_wins_over_the_session_for_what_it_pins() {
        let mut conf = Conf::default();
        conf.set(SHUFFLE_PARTITIONS, "7").unwrap();
        let logged = BTreeMap::from([(SHUFFLE_PARTITIONS.to_owned(), "3".to_owned()), ("other".into(), "x".into())]);
        assert_eq!(conf.with_pinned(&logged).positive(SHUFFLE_PARTITIONS).unwrap(), 3);
        assert_eq!(conf.pinned()[WATERMARK_POLICY], "min");
    }

    #[test]
    fn a_misspelt_key_is_refused_and_an_unrelated_one_is_kept() {
        let mut conf = Conf::default();
        let error = conf.set("spark.sql.shuffle.partition", "7").unwrap_err();
        assert!(error.to_string().contains("Did you mean 'spark.sql.shuffle.partitions'?"));
        conf.set("my.own.key", "v").unwrap();
        assert_eq!(conf.get("my.own.key"), Some("v"));
    }
}
