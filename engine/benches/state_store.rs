//! What state costs: by number of keys, and for a batch of 1,000 keys at growing state.
//!
//! `cargo bench -p wavetank-engine --bench state_store [-- KEYS ...]`; ratios within one run are what it is for.

#![allow(clippy::disallowed_methods, reason = "a bench measures with the real clock")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, Int64Array, StringArray, StructArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Fields, Schema, TimeUnit};
use object_store::memory::InMemory;
use object_store::path::Path;
use wavetank_engine::state::{HotStateStore, SnapshotPolicy, StateSchema, StateStore, StoreIdentity, StoreSpec, Until};
use wavetank_engine::storage::Folder;

const BATCH_KEYS: i64 = 1_000;
const ROUNDS: usize = 31;

fn window_fields() -> Fields {
    let time = DataType::Timestamp(TimeUnit::Microsecond, None);
    Fields::from(vec![Field::new("start", time.clone(), false), Field::new("end", time, false)])
}

/// A windowed count and sum per text key.
fn spec() -> StoreSpec {
    let key =
        vec![Field::new("window", DataType::Struct(window_fields()), false), Field::new("k", DataType::Utf8, true)];
    let value = vec![Field::new("count", DataType::Int64, true), Field::new("sum", DataType::Int64, true)];
    let schema = StateSchema::new(Arc::new(Schema::new(key)), Arc::new(Schema::new(value)));
    StoreSpec::default_store(schema.expect("these types can be state"))
}

/// Keys number `from..to`, each in one of 24 windows; with their expiry.
fn keys(numbers: impl Iterator<Item = i64> + Clone) -> (Vec<ArrayRef>, Int64Array) {
    let start: TimestampMicrosecondArray = numbers.clone().map(|n| Some(n % 24 * 3_600_000_000)).collect();
    let end: TimestampMicrosecondArray = numbers.clone().map(|n| Some((n % 24 + 1) * 3_600_000_000)).collect();
    let expiry = Int64Array::from(end.values().to_vec());
    let window = StructArray::new(window_fields(), vec![Arc::new(start), Arc::new(end)], None);
    let texts: StringArray = numbers.map(|n| Some(format!("campaign-{n}"))).collect();
    (vec![Arc::new(window), Arc::new(texts)], expiry)
}

/// get -> merge -> put, as an aggregation does it.
fn upsert(store: &mut HotStateStore, (keys, expiry): (Vec<ArrayRef>, Int64Array)) {
    let reserved = store.reserve(&keys).expect("keys fit");
    let ones: ArrayRef = Arc::new(Int64Array::from(vec![1; expiry.len()]));
    store.put_slots(&reserved.slots, &[Arc::clone(&ones), ones], Some(&expiry)).expect("values fit");
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn per_second(count: i64, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64()
}

async fn measure(count: i64) {
    let folder =
        Folder { store: Arc::new(InMemory::new()), path: Path::from("state/0/0"), uri_root: "memory://".into() };
    let identity = StoreIdentity { operator_id: 0, partition: 0, store_name: "default".into() };
    let open = || HotStateStore::new(folder.clone(), &identity, &spec(), SnapshotPolicy::default());
    let mut store = open().expect("a store");
    store.begin(0).await.expect("version 0");
    let mut filling = Duration::ZERO;
    for from in (0..count).step_by(8_192) {
        let columns = keys(from..count.min(from + 8_192));
        let start = Instant::now();
        upsert(&mut store, columns);
        filling += start.elapsed();
    }
    let start = Instant::now();
    let first = store.commit().await.expect("a commit");
    let commit = start.elapsed();
    let mut version = 1;
    let (mut batches, mut largest) = (Vec::new(), Duration::ZERO);
    for round in 0..ROUNDS as i64 {
        let columns = keys((0..BATCH_KEYS).map(move |n| (n * 7_919 + round * 104_729) % count));
        let start = Instant::now();
        store.begin(version).await.expect("the version");
        upsert(&mut store, columns);
        let due = store.evict(Until::AtOrBefore(0)).expect("nothing is due");
        assert_eq!(due.remaining(), 0);
        version = store.commit().await.expect("a commit").version;
        batches.push(start.elapsed());
        let start = Instant::now();
        store.maintain(100).await.expect("maintenance");
        largest = largest.max(start.elapsed());
    }
    let start = Instant::now();
    let mut cursor = store.scan().expect("a scan");
    while store.next_rows(&mut cursor).expect("rows").is_some() {}
    let scan = start.elapsed();
    let start = Instant::now();
    let mut again = open().expect("a store");
    again.begin(version).await.expect("the version");
    let load = start.elapsed();
    store.begin(version).await.expect("the version");
    let start = Instant::now();
    let evicted = store.evict(Until::AtOrBefore(3_600_000_000)).expect("an eviction").remaining();
    let evict = start.elapsed();
    println!(
        "{count:>9} keys | upsert {:>9.0}/s | commit {:>9.0}/s, {:>4.1} bytes a key | batch of {BATCH_KEYS}: {:>7.3} ms | \
         scan {:>9.0}/s | load {:>9.0}/s | evict {:>9.0}/s | largest maintenance {:>8.3} ms | {:>5.1} bytes of memory a key",
        per_second(count, filling),
        per_second(count, commit),
        first.bytes_written as f64 / count as f64,
        median(batches).as_secs_f64() * 1e3,
        per_second(count, scan),
        per_second(count, load),
        per_second(evicted as i64, evict),
        largest.as_secs_f64() * 1e3,
        first.memory_bytes as f64 / count as f64,
    );
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let sizes: Vec<i64> = std::env::args().filter_map(|arg| arg.parse().ok()).collect();
    let sizes = if sizes.is_empty() { vec![10_000, 100_000, 1_000_000] } else { sizes };
    for size in sizes {
        measure(size).await;
    }
}
