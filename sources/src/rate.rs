//! `rate`: so many rows per second of the clock, as Spark's rate source counts them.
//!
//! What it must handle: the creation time kept in the source's own log (`sources/<k>/0`, `v1` and the milliseconds),
//! so that a restart goes on counting from it; a clock that goes back (the second never does); ramp-up; second counts
//! whose value would not fit 64 bits; and a first offset of 0 although there is no row yet (`spec/06`, section 3).

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use bytes::Bytes;
use wavetank_engine::environment::{Clock, Environment};
use wavetank_engine::options::Options;
use wavetank_engine::source::{Offset, ReadLimit, Source, SourceContext, SourceDefinition, SourceProvider, Split};
use wavetank_engine::storage::{Folder, PutNew};
use wavetank_engine::{Error, Result};

use crate::ramp::{ramp_splits, rate_schema};
use crate::rate_micro_batch::{number, refuse_schema};

const NAME: &str = "rate";
const OPTIONS: [&str; 3] = ["rowsPerSecond", "rampUpTime", "numPartitions"];

/// The provider of `rate`.
#[derive(Debug, Clone, Copy)]
pub struct RateProvider;

#[async_trait]
impl SourceProvider for RateProvider {
    fn short_name(&self) -> &str {
        NAME
    }

    async fn stream_schema(&self, definition: &SourceDefinition, _: &Environment) -> Result<SchemaRef> {
        refuse_schema(NAME, definition)?;
        Settings::new(&definition.options)?;
        Ok(rate_schema())
    }

    async fn stream(&self, definition: &SourceDefinition, context: SourceContext) -> Result<Arc<dyn Source>> {
        let settings = Settings::new(&definition.options)?;
        let clock = Arc::clone(&context.environment.clock);
        let created_ms = created_ms(&context.folder, clock.now_us().div_euclid(1000)).await?;
        Ok(Arc::new(Rate { settings, clock, created_ms, second: AtomicI64::new(0) }))
    }
}

/// Reads the creation time of this source from its log, or writes it.
async fn created_ms(folder: &Folder, now_ms: i64) -> Result<i64> {
    let bytes = match folder.get("0").await? {
        Some(bytes) => bytes,
        None => match folder.put_new("0", Bytes::from(format!("v1\n{now_ms}"))).await? {
            PutNew::Written => return Ok(now_ms),
            PutNew::AlreadyThere(bytes) => bytes,
        },
    };
    let text = std::str::from_utf8(&bytes).ok();
    let parsed = text.and_then(|text| text.strip_prefix("v1\n")).and_then(|text| text.trim().parse().ok());
    parsed.ok_or_else(|| {
        Error::checkpoint(
            folder.uri("0"),
            "expected `v1` and on the next line the creation time of the rate source in milliseconds. The file is \
             damaged or was written by a newer version; use a new checkpoint location.",
        )
    })
}

/// Seconds in a text such as `5s`, `2 minutes`, `500ms`, `10` (seconds).
fn duration_seconds(text: &str) -> Option<i64> {
    let text = text.trim().to_lowercase();
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '-').unwrap_or(text.len());
    let (count, unit) = (text[..split].parse::<i64>().ok()?, text[split..].trim());
    match unit {
        "" | "s" | "sec" | "secs" | "second" | "seconds" => Some(count),
        "us" | "microsecond" | "microseconds" => Some(count / 1_000_000),
        "ms" | "millisecond" | "milliseconds" => Some(count / 1000),
        "m" | "min" | "mins" | "minute" | "minutes" => count.checked_mul(60),
        "h" | "hour" | "hours" => count.checked_mul(3600),
        "d" | "day" | "days" => count.checked_mul(86_400),
        _ => None,
    }
}

#[derive(Debug)]
struct Settings {
    rows_per_second: i64,
    ramp_up_seconds: i64,
    partitions_count: u64,
}

impl Settings {
    fn new(options: &Options) -> Result<Self> {
        options.refuse_unknown("Source rate", &OPTIONS)?;
        let rows_per_second = number(options, "rowsPerSecond", 1, "positive", |value| *value > 0)?;
        let ramp_up_seconds = match options.get("rampUpTime") {
            None => 0,
            Some(text) => duration_seconds(text).filter(|seconds| *seconds >= 0).ok_or_else(|| {
                Error::analysis(format!(
                    "Invalid value '{text}'. The option 'rampUpTime' must not be negative; write for example 5s or \
                     2 minutes"
                ))
            })?,
        };
        let settings = Self {
            rows_per_second,
            ramp_up_seconds,
            partitions_count: number(options, "numPartitions", 1, "positive", |value| *value > 0)?,
        };
        let most = settings.max_seconds();
        if ramp_up_seconds > most {
            return Err(Error::analysis_class(
                "INCORRECT_RAMP_UP_RATE",
                format!(
                    "Max offset with {rows_per_second} rowsPerSecond is {most}, but 'rampUpTimeSeconds' is \
                     {ramp_up_seconds}. Write a smaller rampUpTime."
                ),
            ));
        }
        Ok(settings)
    }

    fn max_seconds(&self) -> i64 {
        i64::MAX / self.rows_per_second
    }

    /// The number of rows up to this second.
    fn value_at(&self, second: i64) -> Result<i64> {
        if second > self.max_seconds() {
            return Err(Error::analysis_class(
                "INCORRECT_END_OFFSET",
                format!(
                    "Integer overflow. Max offset with {} rowsPerSecond is {}, but it's {second} now. Write a smaller \
                     rowsPerSecond and use a new checkpoint location.",
                    self.rows_per_second,
                    self.max_seconds()
                ),
            ));
        }
        let step = self.rows_per_second / (self.ramp_up_seconds + 1);
        let ramped = |second: i64| {
            let doubled = i128::from(step) * i128::from(second) * (i128::from(second) + 1);
            (doubled / 2) as i64
        };
        Ok(if second <= self.ramp_up_seconds {
            ramped(second)
        } else {
            ramped(self.ramp_up_seconds) + (second - self.ramp_up_seconds) * self.rows_per_second
        })
    }
}

/// A running `rate`.
#[derive(Debug)]
struct Rate {
    settings: Settings,
    clock: Arc<dyn Clock>,
    created_ms: i64,
    /// The newest second answered.
    second: AtomicI64,
}

fn second_of(offset: &Offset) -> Result<i64> {
    offset.as_str().parse().map_err(|_| {
        Error::checkpoint(
            "offsets",
            format!(
                "expected an offset of the rate source, a number of seconds, found {offset}. Was this checkpoint \
                 written by a query with another source? Use a new checkpoint location."
            ),
        )
    })
}

#[async_trait]
impl Source for Rate {
    fn describe(&self) -> String {
        let Settings { rows_per_second, ramp_up_seconds, partitions_count } = &self.settings;
        format!(
            "RateStreamV2[rowsPerSecond={rows_per_second}, rampUpTimeSeconds={ramp_up_seconds}, \
             numPartitions={partitions_count}"
        )
    }

    fn schema(&self) -> SchemaRef {
        rate_schema()
    }

    async fn latest_offset(&self, _: Option<&Offset>, _: ReadLimit) -> Result<Option<Offset>> {
        let now_ms = self.clock.now_us().div_euclid(1000);
        let passed = (now_ms - self.created_ms).max(0) / 1000;
        // A clock that goes back must not take back seconds.
        let second = passed.max(self.second.fetch_max(passed, Ordering::Relaxed));
        Ok(Some(Offset::new(second.to_string())))
    }

    async fn read(
        &self,
        start: Option<&Offset>,
        end: &Offset,
        projection: Option<&[usize]>,
    ) -> Result<Vec<Arc<dyn Split>>> {
        let (from, to) = (start.map_or(Ok(0), second_of)?, second_of(end)?);
        let (first, past) = (self.settings.value_at(from)?, self.settings.value_at(to)?);
        if first >= past {
            return Ok(Vec::new());
        }
        let ms_per_value = (to - from) as f64 * 1000.0 / (past - first) as f64;
        let from_ms = self.created_ms.saturating_add(from.saturating_mul(1000));
        ramp_splits(first, past, self.settings.partitions_count, projection, move |value| {
            // Java's Math.round: halves go up.
            from_ms.saturating_add(((value - first) as f64 * ms_per_value + 0.5).floor() as i64).saturating_mul(1000)
        })
    }

    async fn commit(&self, _: &Offset) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_world::{ManualClock, collect_values, context, environment_at};

    async fn source(clock: &Arc<ManualClock>, folder: &Folder, options: &[(&str, &str)]) -> Result<Arc<dyn Source>> {
        let definition = SourceDefinition { schema: None, options: options.iter().copied().collect() };
        let environment = environment_at(Arc::clone(clock));
        let schema = RateProvider.stream_schema(&definition, &environment).await?;
        let mut context = context(&environment, schema);
        context.folder = folder.clone();
        RateProvider.stream(&definition, context).await
    }

    fn folder() -> Folder {
        context(&environment_at(ManualClock::at_ms(0)), rate_schema()).folder
    }

    #[test]
    fn rows_up_to_a_second() {
        for (rate, ramp, expected) in [
            ("10", "4s", vec![0, 2, 6, 12, 20, 30, 40, 50]),
            ("3", "5s", vec![0, 0, 0, 0, 0, 0, 3, 6, 9]),
            ("4", "0s", vec![0, 4, 8]),
        ] {
            let options: Options = [("rowsPerSecond", rate), ("rampUpTime", ramp)].into_iter().collect();
            let settings = Settings::new(&options).unwrap();
            let values: Vec<i64> = (0..expected.len()).map(|s| settings.value_at(s as i64).unwrap()).collect();
            assert_eq!(values, expected, "{rate} rows, ramp {ramp}");
        }
    }

    #[tokio::test]
    async fn one_second_of_rows_in_two_partitions() {
        let (clock, folder) = (ManualClock::at_ms(500), folder());
        let source = source(&clock, &folder, &[("rowsPerSecond", "4"), ("numPartitions", "2")]).await.unwrap();
        let zero = source.latest_offset(None, ReadLimit::Default).await.unwrap().unwrap();
        assert_eq!(zero.as_str(), "0");
        assert!(source.read(None, &zero, None).await.unwrap().is_empty());
        clock.set_ms(1499);
        assert_eq!(source.latest_offset(None, ReadLimit::Default).await.unwrap().unwrap().as_str(), "0");
        clock.set_ms(1500);
        let one = source.latest_offset(None, ReadLimit::Default).await.unwrap().unwrap();
        assert_eq!(one.as_str(), "1");
        let rows = collect_values(&*source, Some(&zero), &one).await;
        assert_eq!(rows, [(500_000, 0), (1_000_000, 2), (750_000, 1), (1_250_000, 3)]);
        // The clock goes back, the second stays.
        clock.set_ms(600);
        assert_eq!(source.latest_offset(None, ReadLimit::Default).await.unwrap(), Some(one));
    }

    #[tokio::test]
    async fn a_restart_goes_on_from_the_creation_time() {
        let (clock, folder) = (ManualClock::at_ms(1000), folder());
        source(&clock, &folder, &[]).await.unwrap();
        assert_eq!(folder.get("0").await.unwrap().unwrap(), "v1\n1000");
        clock.set_ms(5999);
        let again = source(&clock, &folder, &[]).await.unwrap();
        assert_eq!(again.latest_offset(None, ReadLimit::Default).await.unwrap().unwrap().as_str(), "4");
        folder.put("0", Bytes::from("v9\nx")).await.unwrap();
        let error = source(&clock, &folder, &[]).await.unwrap_err().to_string();
        assert!(error.contains("sources/0/0") && error.contains("new checkpoint"), "{error}");
    }

    #[tokio::test]
    async fn what_does_not_fit_is_refused() {
        let (clock, folder) = (ManualClock::at_ms(0), folder());
        for (options, text) in [
            (vec![("rowsPerSecond", "0")], "Invalid value '0'. The option 'rowsPerSecond' must be positive"),
            (vec![("rampUpTime", "-1s")], "'rampUpTime' must not be negative"),
            (
                vec![("rowsPerSecond", "9223372036854775807"), ("rampUpTime", "2s")],
                "Max offset with 9223372036854775807 rowsPerSecond is 1, but 'rampUpTimeSeconds' is 2",
            ),
        ] {
            let error = source(&clock, &folder, &options).await.unwrap_err().to_string();
            assert!(error.contains(text), "{options:?}: {error}");
        }
        let source = source(&clock, &folder, &[("rowsPerSecond", "9223372036854775807")]).await.unwrap();
        let error = source.read(None, &Offset::new("2"), None).await.unwrap_err().to_string();
        assert!(error.contains("Max offset with 9223372036854775807 rowsPerSecond is 1, but it's 2 now"), "{error}");
    }
}
