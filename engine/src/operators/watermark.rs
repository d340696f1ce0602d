//! The watermark node: rows pass unchanged while the event times of one column are observed.
//!
//! The full version has to handle: null event times (read as 0, they take part, `spec/02` section 2), times before
//! 1970 (milliseconds are floored toward negative infinity), a window struct as event time (its end counts), batches
//! without rows (no statistics), several partitions at once, a LIMIT above that does not need all rows (those it does
//! not need are not observed), and a batch that is run again.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::buffer::BooleanBuffer;
use arrow::compute::{max, min};
use arrow::datatypes::{DataType, Schema, TimeUnit, TimestampMicrosecondType};
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::TryStreamExt;

use super::limit::RowDemand;
use super::stateless_exec::StatelessWork;
use crate::error::Error;
use crate::planted::planted;

/// What a watermark node saw in a batch, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EventTimeStats {
    /// Newest event time.
    pub max_ms: i64,
    /// Oldest event time.
    pub min_ms: i64,
    /// Rows seen; never 0.
    pub count: u64,
    /// Sum of all event times, for the average.
    pub sum_ms: i128,
}

impl EventTimeStats {
    /// The average event time in milliseconds, as Spark rounds it (toward zero, from a double).
    pub fn avg_ms(&self) -> i64 {
        (self.sum_ms as f64 / self.count as f64) as i64
    }

    fn merge(self, other: Self) -> Self {
        Self {
            max_ms: self.max_ms.max(other.max_ms),
            min_ms: self.min_ms.min(other.min_ms),
            count: self.count + other.count,
            sum_ms: self.sum_ms + other.sum_ms,
        }
    }

    /// The statistics of one column of event times; `None` without rows.
    fn of(times: &ArrayRef) -> Result<Option<Self>> {
        if times.is_empty() {
            return Ok(None);
        }
        let times = event_time_micros(times)?;
        let times = times.as_primitive::<TimestampMicrosecondType>();
        // A null event time counts as 0, as in Spark.
        let zero = (times.null_count() > 0).then_some(0);
        let newest = max(times).into_iter().chain(zero).max().unwrap_or(0);
        let oldest = min(times).into_iter().chain(zero).min().unwrap_or(0);
        let newest = if planted("watermark-follows-the-oldest-row") { oldest } else { newest };
        let newest = if planted("watermark-rounds-up") { newest + 999 } else { newest };
        let sum_ms = match times.null_count() {
            // No 64-bit sum of so many milliseconds overflows.
            0 => times
                .values()
                .chunks(512)
                .map(|us| i128::from(us.iter().map(|us| us.div_euclid(1000)).sum::<i64>()))
                .sum(),
            _ => times.iter().flatten().map(|us| i128::from(us.div_euclid(1000))).sum(),
        };
        Ok(Some(Self {
            max_ms: newest.div_euclid(1000),
            min_ms: oldest.div_euclid(1000),
            count: times.len() as u64,
            sum_ms,
        }))
    }
}

/// The event times of a column in microseconds: the column itself, or the `end` of a window struct.
pub fn event_time_micros(column: &ArrayRef) -> Result<ArrayRef> {
    match column.data_type() {
        DataType::Timestamp(_, zone) => {
            Ok(arrow::compute::cast(column, &DataType::Timestamp(TimeUnit::Microsecond, zone.clone()))?)
        }
        DataType::Struct(fields) => {
            let (end, _) = fields
                .find("end")
                .ok_or_else(|| Error::internal(format!("an event-time struct without end: {}", column.data_type())))?;
            let structs = column.as_struct();
            let ends = structs.column(end);
            // A null struct hides what its children hold.
            let ends = match structs.nulls() {
                Some(_) => arrow::compute::nullif(ends, &arrow::compute::is_null(structs)?)?,
                None => Arc::clone(ends),
            };
            event_time_micros(&ends)
        }
        other => Err(Error::internal(format!("event time of type {other}")).into()),
    }
}

/// Which event times are not late: those after the late watermark (microseconds), and null. An event at the watermark
/// itself is late.
pub fn on_time(times: &ArrayRef, late_us: i64) -> Result<BooleanArray> {
    let times = event_time_micros(times)?;
    let times = times.as_primitive::<TimestampMicrosecondType>();
    let late_us = if planted("late-filter-passes-the-watermark-itself") { late_us - 1 } else { late_us };
    let after = BooleanBuffer::from_iter(times.values().iter().map(|time| *time > late_us));
    let on_time = match times.nulls() {
        Some(valid) if planted("a-null-event-time-is-late") => &after & valid.inner(),
        Some(valid) => &after | &!valid.inner(),
        None => after,
    };
    Ok(BooleanArray::new(on_time, None))
}

/// One watermark node of a query: its delay, and what it saw in the batch that ran last.
#[derive(Debug)]
pub struct WatermarkNode {
    /// The node's id, in plan order.
    pub id: usize,
    /// How far the watermark stays behind the newest event time, in milliseconds.
    pub delay_ms: i64,
    seen: Mutex<Option<EventTimeStats>>,
}

impl WatermarkNode {
    /// A node that has seen nothing.
    pub fn new(id: usize, delay_ms: i64) -> Self {
        Self { id, delay_ms, seen: Mutex::new(None) }
    }

    /// What was seen since the last call.
    pub fn take_seen(&self) -> Option<EventTimeStats> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn saw(&self, stats: EventTimeStats) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        *seen = Some(seen.map_or(stats, |before| before.merge(stats)));
    }
}

/// Passes rows on and observes the event times of one column.
#[derive(Debug)]
pub struct WatermarkWork {
    /// The column, by index.
    pub column: usize,
    /// Where the driver finds what was seen.
    pub node: Arc<WatermarkNode>,
}

impl StatelessWork for WatermarkWork {
    fn node_name(&self) -> &'static str {
        "WatermarkExec"
    }

    fn describe(&self, input: &Schema, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, ": column={} delay={}ms", input.field(self.column).name(), self.node.delay_ms)
    }

    fn keeps_order(&self) -> bool {
        true
    }

    fn run(
        self: Arc<Self>,
        input: &Arc<dyn ExecutionPlan>,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let (node, column) = (Arc::clone(&self.node), self.column);
        let demand = RowDemand::of(&context);
        let schema = input.schema();
        let input = input.execute(partition, context)?;
        let rows = futures::stream::try_unfold((input, None::<RecordBatch>), move |(mut input, rest)| {
            let (node, demand) = (Arc::clone(&node), demand.clone());
            async move {
                let rows = match rest {
                    Some(rest) => rest,
                    None => match input.try_next().await? {
                        Some(rows) => rows,
                        None => return Ok(None),
                    },
                };
                let wanted = demand.map_or(usize::MAX, |demand| demand.rows()).min(rows.num_rows());
                let rest = (wanted < rows.num_rows()).then(|| rows.slice(wanted, rows.num_rows() - wanted));
                let rows = rows.slice(0, wanted);
                if let Some(stats) = EventTimeStats::of(rows.column(column))? {
                    node.saw(stats);
                }
                Ok(Some((rows, (input, rest))))
            }
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)))
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::TimestampMicrosecondArray;

    use super::*;

    fn stats(times: Vec<Option<i64>>) -> EventTimeStats {
        let column: ArrayRef = Arc::new(TimestampMicrosecondArray::from(times).with_timezone("UTC"));
        EventTimeStats::of(&column).unwrap().unwrap()
    }

    #[test]
    fn a_null_event_time_is_zero_and_takes_part() {
        let seen = stats(vec![None, Some(20_000_000)]);
        assert_eq!((seen.min_ms, seen.max_ms, seen.avg_ms(), seen.count), (0, 20_000, 10_000, 2));
        assert_eq!(stats(vec![None, None]).max_ms, 0);
    }

    #[test]
    fn milliseconds_are_floored_toward_negative_infinity() {
        let seen = stats(vec![Some(-1), Some(-1001)]);
        assert_eq!((seen.max_ms, seen.min_ms), (-1, -2));
        assert_eq!(stats(vec![Some(1_999_999)]).max_ms, 1999);
    }

    #[test]
    fn sums_of_many_extreme_times_do_not_overflow() {
        for extreme in [i64::MIN, i64::MAX] {
            let seen = stats(vec![Some(extreme); 2_000]);
            assert_eq!(seen.sum_ms, 2_000 * i128::from(extreme.div_euclid(1000)));
        }
    }
}
