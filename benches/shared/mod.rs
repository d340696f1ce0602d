//! What the benches share: a session, rows, and percentiles.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use wavetank::Environment;
use wavetank::engine::sql::parse_ddl_schema;
use wavetank::prelude::*;

/// A session whose relative paths start at `folder`.
pub fn session(folder: &Path, parallelism: usize) -> wavetank::Result<Session> {
    wavetank::session_builder(Environment::real(folder.to_owned())).parallelism(parallelism).build()
}

/// A memory stream of `ts TIMESTAMP, k STRING, v BIGINT`, one block a trigger, as a view with a watermark.
pub async fn events(session: &Session, view: &str, delay: &str) -> wavetank::Result<MemoryStream> {
    let one = std::num::NonZeroU64::MIN;
    let stream = MemoryStream::new(parse_ddl_schema("ts TIMESTAMP, k STRING, v BIGINT")?).with_blocks_per_trigger(one);
    let frame = session.stream_of(view, Arc::new(stream.clone()), Default::default()).await?;
    frame.with_watermark("ts", delay)?.create_or_replace_temp_view(view)?;
    Ok(stream)
}

/// Rows for [`events`].
pub fn rows(stream: &MemoryStream, rows: impl Iterator<Item = (i64, String, i64)>) -> RecordBatch {
    let (mut times, mut keys, mut values) = (vec![], vec![], vec![]);
    for (time_us, key, value) in rows {
        times.push(time_us);
        keys.push(key);
        values.push(value);
    }
    let columns: Vec<ArrayRef> = vec![
        Arc::new(TimestampMicrosecondArray::from(times).with_timezone("UTC")),
        Arc::new(StringArray::from(keys)),
        Arc::new(Int64Array::from(values)),
    ];
    RecordBatch::try_new(stream.schema(), columns).expect("columns of the stream")
}

/// The value below which `percent` of the samples lie.
pub fn percentile(samples: &mut [u64], percent: usize) -> u64 {
    samples.sort_unstable();
    samples[(samples.len() - 1) * percent / 100]
}
