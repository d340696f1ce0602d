//! What the tests of all sinks share: contexts, batches, streams.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::future::BoxFuture;
use futures::stream;
use wavetank_engine::environment::{Clock, Entropy, Environment};
use wavetank_engine::options::Options;
use wavetank_engine::sink::{OutputBatch, OutputMode, SinkContext};
use wavetank_engine::storage::{Folder, Storage};
use wavetank_engine::{Error, Result};

/// A clock that stands still.
#[derive(Debug)]
pub(crate) struct FixedClock(pub i64);

impl Clock for FixedClock {
    fn now_us(&self) -> i64 {
        self.0
    }
    fn monotonic_us(&self) -> u64 {
        0
    }
    fn sleep_until_us(&self, _deadline_us: i64) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }
}

/// A store for sinks that must not touch any.
#[derive(Debug)]
struct NoStorage;

impl Storage for NoStorage {
    fn folder(&self, location: &str) -> Result<Folder> {
        Err(Error::internal(format!("{location} was opened")))
    }
}

/// A context without storage.
pub(crate) fn context(schema: SchemaRef, output_mode: OutputMode, options: &[(&str, &str)]) -> SinkContext {
    SinkContext {
        environment: Environment {
            clock: Arc::new(FixedClock(1_700_000_000_000_000)),
            storage: Arc::new(NoStorage),
            entropy: Entropy::from_seed(7),
        },
        schema,
        output_mode,
        options: options.iter().map(|(name, value)| (*name, *value)).collect::<Options>(),
        partition_by: Vec::new(),
        query_name: Some("q".into()),
        query_id: "q".into(),
        next_batch_id: 0,
        is_new: false,
        interrupted: false,
    }
}

/// `k: string, v: int`.
pub(crate) fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("k", DataType::Utf8, true), Field::new("v", DataType::Int32, true)]))
}

/// Rows of [`schema`].
pub(crate) fn rows(rows: &[(&str, i32)]) -> RecordBatch {
    let keys: ArrayRef = Arc::new(StringArray::from_iter_values(rows.iter().map(|(k, _)| *k)));
    let values: ArrayRef = Arc::new(Int32Array::from_iter_values(rows.iter().map(|(_, v)| *v)));
    RecordBatch::try_new(schema(), vec![keys, values]).unwrap()
}

/// A stream of record batches.
pub(crate) fn stream_of(schema: SchemaRef, batches: Vec<RecordBatch>) -> SendableRecordBatchStream {
    Box::pin(RecordBatchStreamAdapter::new(schema, stream::iter(batches.into_iter().map(Ok))))
}

/// A batch with one record batch per partition.
pub(crate) fn batch(batch_id: u64, partitions: Vec<RecordBatch>) -> OutputBatch {
    let partitions = partitions.into_iter().map(|rows| stream_of(rows.schema(), vec![rows])).collect();
    OutputBatch { batch_id, timestamp_ms: 0, partitions }
}

/// A batch whose only partition ends with an error.
pub(crate) fn broken_batch(batch_id: u64) -> OutputBatch {
    let failure = Err(Error::analysis("the plan failed").into());
    let stream = stream::iter(vec![Ok(rows(&[("lost", 1)])), failure]);
    let partition = Box::pin(RecordBatchStreamAdapter::new(schema(), stream));
    OutputBatch { batch_id, timestamp_ms: 0, partitions: vec![partition] }
}
