//! Consecutive numbers dealt out to partitions, as the two rate sources make them: value and timestamp columns.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, RecordBatchOptions, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use wavetank_engine::Result;
use wavetank_engine::source::Split;
use wavetank_engine::sql::types::timestamp_type;

use crate::blocks::{BATCH_ROWS, MadeUpSplit, projected};

/// `timestamp TIMESTAMP, value BIGINT`: the columns of `rate` and `rate-micro-batch`.
pub(crate) fn rate_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("timestamp", timestamp_type(), true),
        Field::new("value", DataType::Int64, true),
    ]))
}

/// The values `first .. end`, dealt round robin to `partitions` parts; `timestamp_us(value)` is a row's other column.
pub(crate) fn ramp_splits(
    first: i64,
    end: i64,
    partitions: u64,
    projection: Option<&[usize]>,
    timestamp_us: impl Fn(i64) -> i64 + Send + Sync + 'static,
) -> Result<Vec<Arc<dyn Split>>> {
    let rows_count = end.saturating_sub(first).max(0) as u64;
    let schema = projected(&rate_schema(), projection)?;
    let columns: Arc<[usize]> = projection.unwrap_or(&[0, 1]).into();
    let timestamp_us = Arc::new(timestamp_us);
    let splits = (0..partitions.min(rows_count)).map(|partition| {
        let (schema, columns, timestamp_us) = (Arc::clone(&schema), Arc::clone(&columns), Arc::clone(&timestamp_us));
        let part_rows = (rows_count - partition).div_ceil(partitions);
        let split_schema = Arc::clone(&schema);
        let make = move |k: u64| {
            let from = k * BATCH_ROWS as u64;
            if from >= part_rows {
                return Ok(None);
            }
            let rows = from..(from + BATCH_ROWS as u64).min(part_rows);
            let values = rows.clone().map(|row| first + (partition + row * partitions) as i64);
            let arrays = columns.iter().map(|column| match column {
                0 => {
                    let times = TimestampMicrosecondArray::from_iter_values(values.clone().map(|v| timestamp_us(v)));
                    Arc::new(times.with_timezone("UTC")) as ArrayRef
                }
                _ => Arc::new(Int64Array::from_iter_values(values.clone())),
            });
            let options = RecordBatchOptions::new().with_row_count(Some((rows.end - rows.start) as usize));
            Ok(Some(RecordBatch::try_new_with_options(Arc::clone(&schema), arrays.collect(), &options)?))
        };
        Arc::new(MadeUpSplit { schema: split_schema, make: Arc::new(make) }) as Arc<dyn Split>
    });
    Ok(splits.collect())
}
