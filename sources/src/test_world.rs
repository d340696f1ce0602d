//! A small world for the tests of sources: a clock that is set by hand, storage in memory or in a temporary folder.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Int64Type, SchemaRef, TimestampMicrosecondType};
use futures::TryStreamExt;
use futures::future::BoxFuture;
use object_store::memory::InMemory;
use wavetank_engine::Result;
use wavetank_engine::environment::{Clock, Entropy, Environment};
use wavetank_engine::source::{Offset, Source, SourceContext};
use wavetank_engine::storage::{LocalStorage, RealPosix};

/// A clock that moves when it is told to.
#[derive(Debug)]
pub(crate) struct ManualClock(AtomicI64);

impl ManualClock {
    pub(crate) fn at_ms(ms: i64) -> Arc<Self> {
        Arc::new(Self(AtomicI64::new(ms * 1000)))
    }

    pub(crate) fn set_ms(&self, ms: i64) {
        self.0.store(ms * 1000, Ordering::Relaxed);
    }
}

impl Clock for ManualClock {
    fn now_us(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }

    fn monotonic_us(&self) -> u64 {
        self.now_us() as u64
    }

    fn sleep_until_us(&self, _: i64) -> BoxFuture<'static, ()> {
        Box::pin(async {})
    }
}

/// Local files under `/`, and `mem://` for a store in memory.
pub(crate) fn environment_at(clock: Arc<ManualClock>) -> Environment {
    let storage = LocalStorage::new(Arc::new(RealPosix), "/", 0).with_store("mem", Arc::new(InMemory::new()));
    Environment { clock, storage: Arc::new(storage), entropy: Entropy::from_seed(0) }
}

pub(crate) fn now_environment() -> Environment {
    environment_at(ManualClock::at_ms(1_700_000_000_000))
}

/// The first source of a checkpoint in memory.
pub(crate) fn context(environment: &Environment, schema: SchemaRef) -> SourceContext {
    let folder = environment.storage.folder("mem://checkpoint/sources/0").unwrap();
    SourceContext { environment: environment.clone(), folder, schema }
}

/// The rows of a range, split after split.
pub(crate) async fn collect(
    source: &dyn Source,
    start: Option<&Offset>,
    end: &Offset,
    projection: Option<&[usize]>,
) -> Result<Vec<RecordBatch>> {
    let mut batches = Vec::new();
    for split in source.read(start, end, projection).await? {
        let stream = split.open()?;
        let schema = stream.schema();
        let of_split: Vec<RecordBatch> = stream.try_collect().await?;
        assert!(of_split.iter().all(|batch| batch.schema() == schema), "a batch has another schema than its stream");
        batches.extend(of_split);
    }
    Ok(batches)
}

/// The rows `(timestamp in microseconds, value)` of a rate source.
pub(crate) async fn collect_values(source: &dyn Source, start: Option<&Offset>, end: &Offset) -> Vec<(i64, i64)> {
    let batches = collect(source, start, end, None).await.unwrap();
    let rows = batches.iter().flat_map(|batch| {
        let times = batch.column(0).as_primitive::<TimestampMicrosecondType>();
        let values = batch.column(1).as_primitive::<Int64Type>();
        (0..times.len()).map(|row| (times.value(row), values.value(row)))
    });
    rows.collect()
}
