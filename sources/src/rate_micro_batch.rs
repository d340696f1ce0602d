//! `rate-micro-batch`: a fixed number of rows per batch, so that the same query gives the same rows every time.
//!
//! What it must handle: offsets `{"offset":n,"timestamp":ms}` that say everything (no state of its own), the end of the
//! 64-bit numbers, AvailableNow and Once (exactly one batch), and a `startTimestamp` that was changed although batch 0
//! has to be run again (`spec/06`, section 4).

use std::fmt::Display;
use std::str::FromStr;
use std::sync::{Arc, Mutex};

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use wavetank_engine::environment::Environment;
use wavetank_engine::options::Options;
use wavetank_engine::source::{Offset, ReadLimit, Source, SourceContext, SourceDefinition, SourceProvider, Split};
use wavetank_engine::{Error, Result};

use crate::ramp::{ramp_splits, rate_schema};

const NAME: &str = "rate-micro-batch";
const OPTIONS: [&str; 4] = ["rowsPerBatch", "numPartitions", "startTimestamp", "advanceMillisPerBatch"];

/// The provider of `rate-micro-batch`.
#[derive(Debug, Clone, Copy)]
pub struct RateMicroBatchProvider;

#[async_trait]
impl SourceProvider for RateMicroBatchProvider {
    fn short_name(&self) -> &str {
        NAME
    }

    async fn stream_schema(&self, definition: &SourceDefinition, _: &Environment) -> Result<SchemaRef> {
        refuse_schema(NAME, definition)?;
        Settings::new(&definition.options)?;
        Ok(rate_schema())
    }

    async fn stream(&self, definition: &SourceDefinition, _: SourceContext) -> Result<Arc<dyn Source>> {
        let settings = Settings::new(&definition.options)?;
        Ok(Arc::new(RateMicroBatch { settings, pin: Mutex::new(Pin::None) }))
    }
}

/// The columns of the rate sources are fixed.
pub(crate) fn refuse_schema(name: &str, definition: &SourceDefinition) -> Result<()> {
    match definition.schema {
        None => Ok(()),
        Some(_) => Err(Error::analysis(format!(
            "{name} source does not support user-specified schema. Its columns are timestamp TIMESTAMP and value \
             BIGINT; leave the schema out."
        ))),
    }
}

/// A whole-number option with the check and the text of Spark's two rate sources.
pub(crate) fn number<T: FromStr + PartialOrd + Default + Display>(
    options: &Options,
    name: &str,
    default: T,
    must_be: &str,
    holds: impl Fn(&T) -> bool,
) -> Result<T> {
    let Some(text) = options.get(name) else { return Ok(default) };
    let value = text.trim().parse::<T>().ok().filter(|value| holds(value));
    value.ok_or_else(|| Error::analysis(format!("Invalid value '{text}'. The option '{name}' must be {must_be}")))
}

#[derive(Debug)]
struct Settings {
    rows_per_batch: i64,
    partitions_count: u64,
    start_ms: i64,
    advance_ms: i64,
}

impl Settings {
    fn new(options: &Options) -> Result<Self> {
        options.refuse_unknown("Source rate-micro-batch", &OPTIONS)?;
        let rows_per_batch = number(options, "rowsPerBatch", 0, "positive", |value| *value > 0)?;
        if rows_per_batch == 0 {
            return Err(Error::analysis(
                "Invalid value '0'. The option 'rowsPerBatch' must be positive; it has no default, so write one.",
            ));
        }
        Ok(Self {
            rows_per_batch,
            partitions_count: number(options, "numPartitions", 1, "positive", |value| *value > 0)?,
            start_ms: number(options, "startTimestamp", 0, "non-negative", |value| *value >= 0)?,
            advance_ms: number(options, "advanceMillisPerBatch", 1000, "non-negative", |value| *value >= 0)?,
        })
    }
}

/// Fields in the order in which Spark writes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Position {
    offset: i64,
    timestamp: i64,
}

impl Position {
    fn to_offset(self) -> Offset {
        Offset::new(format!("{{\"offset\":{},\"timestamp\":{}}}", self.offset, self.timestamp))
    }

    fn from_offset(offset: &Offset) -> Result<Self> {
        serde_json::from_str(offset.as_str()).map_err(|_| {
            Error::checkpoint(
                "offsets",
                format!(
                    "expected an offset of {NAME} such as {{\"offset\":5,\"timestamp\":1000}}, found {offset}. Was \
                     this checkpoint written by a query with another source? Use a new checkpoint location."
                ),
            )
        })
    }
}

/// What trigger AvailableNow has settled.
#[derive(Debug)]
enum Pin {
    None,
    /// Asked for; the first answer after it becomes the pin.
    Wanted,
    At(Position),
}

/// A running `rate-micro-batch`.
#[derive(Debug)]
struct RateMicroBatch {
    settings: Settings,
    pin: Mutex<Pin>,
}

impl RateMicroBatch {
    /// The position of a query's start; a new query starts at the `startTimestamp` option.
    fn position(&self, start: Option<&Offset>) -> Result<Position> {
        match start {
            None => Ok(Position { offset: 0, timestamp: self.settings.start_ms }),
            Some(offset) => Position::from_offset(offset),
        }
    }
}

#[async_trait]
impl Source for RateMicroBatch {
    fn describe(&self) -> String {
        let Settings { rows_per_batch, partitions_count, start_ms, advance_ms } = &self.settings;
        format!(
            "RatePerMicroBatchStream[rowsPerBatch={rows_per_batch}, numPartitions={partitions_count}, \
             startTimestamp={start_ms}, advanceMsPerBatch={advance_ms}]"
        )
    }

    fn schema(&self) -> SchemaRef {
        rate_schema()
    }

    async fn latest_offset(&self, start: Option<&Offset>, _: ReadLimit) -> Result<Option<Offset>> {
        let from = self.position(start)?;
        let next = Position {
            offset: from.offset.saturating_add(self.settings.rows_per_batch),
            timestamp: from.timestamp.saturating_add(self.settings.advance_ms),
        };
        let mut pin = self.pin.lock().expect("nothing panics while holding it");
        match *pin {
            Pin::None => Ok(Some(next.to_offset())),
            Pin::At(pinned) => Ok(Some(pinned.to_offset())),
            Pin::Wanted => {
                *pin = Pin::At(next);
                Ok(Some(next.to_offset()))
            }
        }
    }

    async fn pin_available_now(&self) -> Result<bool> {
        *self.pin.lock().expect("nothing panics while holding it") = Pin::Wanted;
        Ok(true)
    }

    async fn read(
        &self,
        start: Option<&Offset>,
        end: &Offset,
        projection: Option<&[usize]>,
    ) -> Result<Vec<Arc<dyn Split>>> {
        let (from, to) = (self.position(start)?, Position::from_offset(end)?);
        const CLASS: &str = "MALFORMED_STATE_IN_RATE_PER_MICRO_BATCH_SOURCE";
        if from.offset > to.offset {
            return Err(Error::analysis_class(
                format!("{CLASS}.INVALID_OFFSET"),
                format!(
                    "Malformed state in RatePerMicroBatch source. The offset value is invalid: startOffset should \
                     less than or equal to the endOffset, but startOffset({}) > endOffset({}). Please consider using \
                     a new checkpoint location.",
                    from.offset, to.offset
                ),
            ));
        }
        if from.timestamp > to.timestamp {
            return Err(Error::analysis_class(
                format!("{CLASS}.INVALID_TIMESTAMP"),
                format!(
                    "Malformed state in RatePerMicroBatch source. The timestamp value is invalid: startTimestamp \
                     should less than or equal to the endTimestamp, but startTimestamp({}) > endTimestamp({}). This \
                     could happen when the streaming query is restarted with a newer `startingTimestamp` and \
                     reprocess the first batch (i.e. batch 0). Please consider using a new checkpoint location.",
                    from.timestamp, to.timestamp
                ),
            ));
        }
        let timestamp_us = from.timestamp.saturating_mul(1000);
        ramp_splits(from.offset, to.offset, self.settings.partitions_count, projection, move |_| timestamp_us)
    }

    async fn commit(&self, _: &Offset) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_world::{collect_values, context, now_environment};

    async fn source(options: &[(&str, &str)]) -> Result<Arc<dyn Source>> {
        let definition = SourceDefinition { schema: None, options: options.iter().copied().collect() };
        let environment = now_environment();
        let schema = RateMicroBatchProvider.stream_schema(&definition, &environment).await?;
        RateMicroBatchProvider.stream(&definition, context(&environment, schema)).await
    }

    #[tokio::test]
    async fn two_batches_of_rows_with_their_timestamps() {
        let options = [("rowsPerBatch", "3"), ("startTimestamp", "1000"), ("advanceMillisPerBatch", "50")];
        let source = source(&options).await.unwrap();
        let first = source.latest_offset(None, ReadLimit::Default).await.unwrap().unwrap();
        assert_eq!(first.as_str(), r#"{"offset":3,"timestamp":1050}"#);
        let second = source.latest_offset(Some(&first), ReadLimit::Default).await.unwrap().unwrap();
        assert_eq!(second.as_str(), r#"{"offset":6,"timestamp":1100}"#);
        assert_eq!(collect_values(&*source, None, &first).await, [(1_000_000, 0), (1_000_000, 1), (1_000_000, 2)]);
        assert_eq!(
            collect_values(&*source, Some(&first), &second).await,
            [(1_050_000, 3), (1_050_000, 4), (1_050_000, 5)]
        );
    }

    #[tokio::test]
    async fn partitions_deal_the_values_out() {
        let source = source(&[("rowsPerBatch", "20000"), ("numPartitions", "3")]).await.unwrap();
        let end = source.latest_offset(None, ReadLimit::Default).await.unwrap().unwrap();
        assert_eq!(source.read(None, &end, None).await.unwrap().len(), 3);
        let values: Vec<i64> = collect_values(&*source, None, &end).await.into_iter().map(|row| row.1).collect();
        assert_eq!(values[..3], [0, 3, 6]);
        let mut sorted = values;
        sorted.sort_unstable();
        assert!(sorted.into_iter().eq(0..20000));
    }

    #[tokio::test]
    async fn available_now_is_one_batch() {
        let source = source(&[("rowsPerBatch", "2")]).await.unwrap();
        assert!(source.pin_available_now().await.unwrap());
        let first = source.latest_offset(None, ReadLimit::Default).await.unwrap();
        assert_eq!(source.latest_offset(first.as_ref(), ReadLimit::Default).await.unwrap(), first);
    }

    #[tokio::test]
    async fn values_end_where_the_numbers_end() {
        let source = source(&[("rowsPerBatch", "10")]).await.unwrap();
        let near = Offset::new(format!("{{\"offset\":{},\"timestamp\":0}}", i64::MAX - 2));
        let end = source.latest_offset(Some(&near), ReadLimit::Default).await.unwrap().unwrap();
        assert_eq!(collect_values(&*source, Some(&near), &end).await.len(), 2);
    }

    #[tokio::test]
    async fn a_later_start_timestamp_cannot_rerun_batch_0() {
        let source = source(&[("rowsPerBatch", "1"), ("startTimestamp", "5000")]).await.unwrap();
        let error = source.read(None, &Offset::new(r#"{"offset":1,"timestamp":1000}"#), None).await.unwrap_err();
        assert_eq!(error.class(), Some("MALFORMED_STATE_IN_RATE_PER_MICRO_BATCH_SOURCE.INVALID_TIMESTAMP"));
    }

    #[tokio::test]
    async fn options_are_refused_with_spark_s_words() {
        for (options, text) in [
            (vec![("rowsPerBatch", "0")], "Invalid value '0'. The option 'rowsPerBatch' must be positive"),
            (vec![], "The option 'rowsPerBatch' must be positive"),
            (vec![("rowsPerBatch", "1"), ("startTimestamp", "-1")], "'startTimestamp' must be non-negative"),
            (
                vec![("rowsPerBatch", "1"), ("advanceMillisPerBatch", "-1")],
                "'advanceMillisPerBatch' must be non-negative",
            ),
            (vec![("rowsPerBatch", "1"), ("numPartitions", "0")], "'numPartitions' must be positive"),
            (vec![("rowPerBatch", "1")], "Did you mean 'rowsPerBatch'?"),
        ] {
            let error = source(&options).await.unwrap_err().to_string();
            assert!(error.contains(text), "{options:?}: {error}");
        }
    }
}
