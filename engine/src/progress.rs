//! The progress report of a batch, in Spark's JSON, key for key (`spec/01` section 10).

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};

use crate::source::Offset;

/// What one batch (or one idle trigger) did. Durations in milliseconds, rates in rows per second.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StreamingQueryProgress {
    /// The query's id: the same over restarts of one checkpoint.
    pub id: String,
    /// The run's id: new at every start.
    pub run_id: String,
    /// The query's name, if it has one.
    pub name: Option<String>,
    /// When the trigger started, UTC.
    pub timestamp: String,
    /// The batch's id; at an idle trigger the id of the next batch.
    pub batch_id: u64,
    /// From the trigger's start to its end.
    pub batch_duration: u64,
    /// Rows read, over all sources.
    pub num_input_rows: u64,
    /// Rows read per second since the previous trigger started; 0 at the first trigger of a run.
    #[serde(serialize_with = "one_decimal", skip_serializing_if = "is_not_finite")]
    pub input_rows_per_second: f64,
    /// Rows read per second of this batch.
    #[serde(serialize_with = "one_decimal", skip_serializing_if = "is_not_finite")]
    pub processed_rows_per_second: f64,
    /// How long each step took; a step that was not needed is absent.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub duration_ms: BTreeMap<&'static str, u64>,
    /// `avg`, `max`, `min` of the event times seen, and the `watermark` in force during this batch.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub event_time: BTreeMap<&'static str, String>,
    /// One entry a stateful operator, the last of the pipeline first.
    pub state_operators: Vec<StateOperatorProgress>,
    /// One entry a source.
    pub sources: Vec<SourceProgress>,
    /// The sink.
    pub sink: SinkProgress,
}

impl StreamingQueryProgress {
    /// One line of JSON.
    pub fn json(&self) -> String {
        serde_json::to_string(self).unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}"))
    }

    /// JSON for reading.
    pub fn pretty_json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}"))
    }
}

/// What a batch did to one operator's state.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StateOperatorProgress {
    /// Spark's name of the operator.
    pub operator_name: &'static str,
    /// Rows in state after the batch.
    pub num_rows_total: u64,
    /// Rows put.
    pub num_rows_updated: u64,
    /// Time for looking up, merging and putting.
    pub all_updates_time_ms: u64,
    /// Rows removed.
    pub num_rows_removed: u64,
    /// Time for evicting.
    pub all_removals_time_ms: u64,
    /// Time for making the new version durable.
    pub commit_time_ms: u64,
    /// Memory the state takes.
    pub memory_used_bytes: u64,
    /// Late rows; of an aggregation, late groups of each input partition, as Spark counts.
    pub num_rows_dropped_by_watermark: u64,
    /// Partitions of the state.
    pub num_shuffle_partitions: u64,
    /// Stores of the state.
    pub num_state_store_instances: u64,
    /// Numbers of particular operators and of the store.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub custom_metrics: BTreeMap<&'static str, u64>,
}

/// What a batch read from one source.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceProgress {
    /// The source, as it describes itself.
    pub description: String,
    /// Where the batch began.
    #[serde(serialize_with = "offset_json")]
    pub start_offset: Option<Offset>,
    /// Where it ended.
    #[serde(serialize_with = "offset_json")]
    pub end_offset: Option<Offset>,
    /// The newest offset known.
    #[serde(serialize_with = "offset_json")]
    pub latest_offset: Option<Offset>,
    /// Rows read; of JSON and CSV files, after the filters that Spark hands to their readers.
    pub num_input_rows: u64,
    /// Rows per second since the previous trigger started.
    #[serde(serialize_with = "one_decimal", skip_serializing_if = "is_not_finite")]
    pub input_rows_per_second: f64,
    /// Rows per second of this batch.
    #[serde(serialize_with = "one_decimal", skip_serializing_if = "is_not_finite")]
    pub processed_rows_per_second: f64,
}

/// What a batch gave to the sink.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SinkProgress {
    /// The sink, as it describes itself.
    pub description: String,
    /// Rows written; -1 for sinks that do not count.
    pub num_output_rows: i64,
}

/// Milliseconds since 1970 as Spark writes times: `2026-11-21T03:10:19.784Z`.
pub fn iso_millis(ms: i64) -> String {
    chrono::DateTime::from_timestamp_millis(ms)
        .map(|time| time.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string())
        .unwrap_or_else(|| format!("{ms} ms"))
}

/// Half up, one decimal, as Spark 4.1 and later print doubles.
fn one_decimal<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64((value * 10.0).round() / 10.0)
}

fn is_not_finite(value: &f64) -> bool {
    !value.is_finite()
}

/// Parsed JSON where it parses, else a string.
fn offset_json<S: Serializer>(offset: &Option<Offset>, serializer: S) -> Result<S::Ok, S::Error> {
    match offset {
        None => serializer.serialize_none(),
        Some(offset) => match serde_json::from_str::<serde_json::Value>(offset.as_str()) {
            Ok(json) => json.serialize(serializer),
            Err(_) => serializer.serialize_str(offset.as_str()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_printed_as_spark_does() {
        assert_eq!(iso_millis(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(iso_millis(1_795_230_619_784), "2026-11-21T03:10:19.784Z");
    }

    #[test]
    fn the_report_has_sparks_keys_in_sparks_order() {
        let progress = StreamingQueryProgress {
            id: "a".into(),
            run_id: "b".into(),
            name: Some("nm".into()),
            timestamp: iso_millis(0),
            batch_id: 0,
            batch_duration: 416,
            num_input_rows: 3,
            input_rows_per_second: f64::INFINITY,
            processed_rows_per_second: 7.25,
            duration_ms: BTreeMap::from([("walCommit", 58), ("addBatch", 280)]),
            event_time: BTreeMap::from([("watermark", iso_millis(0))]),
            state_operators: vec![StateOperatorProgress { operator_name: "dedupe", ..Default::default() }],
            sources: vec![SourceProgress {
                description: "MemoryStream".into(),
                start_offset: None,
                end_offset: Some(Offset::new("{\"logOffset\":0}")),
                latest_offset: Some(Offset::new("not json")),
                num_input_rows: 3,
                input_rows_per_second: 0.0,
                processed_rows_per_second: 7.25,
            }],
            sink: SinkProgress { description: "NoopTable".into(), num_output_rows: -1 },
        };
        assert_eq!(
            progress.json(),
            concat!(
                r#"{"id":"a","runId":"b","name":"nm","timestamp":"1970-01-01T00:00:00.000Z","batchId":0,"#,
                r#""batchDuration":416,"numInputRows":3,"processedRowsPerSecond":7.3,"#,
                r#""durationMs":{"addBatch":280,"walCommit":58},"eventTime":{"watermark":"1970-01-01T00:00:00.000Z"},"#,
                r#""stateOperators":[{"operatorName":"dedupe","numRowsTotal":0,"numRowsUpdated":0,"allUpdatesTimeMs":0,"#,
                r#""numRowsRemoved":0,"allRemovalsTimeMs":0,"commitTimeMs":0,"memoryUsedBytes":0,"#,
                r#""numRowsDroppedByWatermark":0,"numShufflePartitions":0,"numStateStoreInstances":0}],"#,
                r#""sources":[{"description":"MemoryStream","startOffset":null,"endOffset":{"logOffset":0},"#,
                r#""latestOffset":"not json","numInputRows":3,"inputRowsPerSecond":0.0,"processedRowsPerSecond":7.3}],"#,
                r#""sink":{"description":"NoopTable","numOutputRows":-1}}"#
            )
        );
    }
}
