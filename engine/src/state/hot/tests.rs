//! Tests of the store in memory over its files.

use std::sync::Arc;

use arrow::array::{AsArray, StringArray};
use arrow::datatypes::Int64Type;

use super::*;
use crate::state::contract::{Entry, get, identity, key_columns, memory, put, scan, spec};

const NEVER: SnapshotPolicy = SnapshotPolicy { min_deltas: u64::MAX, growth_percent: 0, max_deltas: u64::MAX };

fn store(folder: &Folder) -> HotStateStore {
    HotStateStore::new(folder.clone(), &identity(), &spec(), NEVER).unwrap()
}

fn entries(range: std::ops::Range<i64>) -> Vec<Entry> {
    range.map(|n| (("k", n), n * 3, Some(n % 50))).collect()
}

#[tokio::test]
async fn memory_comes_back_after_most_of_the_state_has_gone() {
    let mut store = store(&memory());
    store.begin(0).await.unwrap();
    put(&mut store, &entries(0..50_000));
    store.commit().await.unwrap();
    store.maintain(100).await.unwrap();
    let full = store.memory_bytes();
    assert!(full < 50_000 * 160, "{full} bytes for 50,000 keys");
    store.begin(1).await.unwrap();
    store.evict(Until::Before(48)).unwrap();
    let expected = scan(&store);
    store.commit().await.unwrap();
    store.maintain(100).await.unwrap();
    assert!(store.memory_bytes() < full / 10, "{} of {full} bytes left", store.memory_bytes());
    store.begin(2).await.unwrap();
    assert_eq!(scan(&store), expected);
    assert_eq!(store.expired(Until::AtOrBefore(48)).unwrap().remaining(), 1_000);
    assert_eq!(store.prefix_scan(&key_columns(&[("k", 0)])[..1]).unwrap().prefix_rows.len(), 2_000);
    put(&mut store, &entries(0..10));
    assert_eq!(get(&store, &[("k", 3), ("k", 48), ("k", 50)]), [Some(9), Some(144), None]);
}

#[tokio::test]
async fn memory_does_not_grow_when_as_much_goes_as_comes() {
    let mut store = store(&memory());
    let mut after_warm_up = 0;
    for version in 0..60 {
        store.begin(version).await.unwrap();
        let start = version as i64 * 500;
        let batch: Vec<Entry> = (start..start + 500).map(|n| (("k", n), n, Some(n))).collect();
        put(&mut store, &batch);
        store.evict(Until::Before(start - 1_000)).unwrap();
        store.commit().await.unwrap();
        store.maintain(100).await.unwrap();
        if version == 10 {
            after_warm_up = store.memory_bytes();
        }
    }
    assert!(store.memory_bytes() <= after_warm_up + after_warm_up / 10);
    assert_eq!(store.rows_total(), 1_500);
}

#[tokio::test]
async fn values_may_be_long_and_change_their_length() {
    use arrow::datatypes::{DataType, Field, Schema};
    let text = Arc::new(Schema::new(vec![Field::new("t", DataType::Utf8View, true)]));
    let store_spec = StoreSpec { schema: StateSchema::new(spec().schema.key, text).unwrap(), ..spec() };
    let folder = memory();
    let length = |n: usize, version: usize| (n * 7_919 + version * 104_729) % 90_000;
    let keys: Vec<_> = (0..40).map(|n| ("k", n)).collect();
    for version in 0..6 {
        let mut store = HotStateStore::new(folder.clone(), &identity(), &store_spec, NEVER).unwrap();
        store.begin(version as u64).await.unwrap();
        if version > 0 {
            let found = store.get(&key_columns(&keys)).unwrap();
            let lengths: Vec<_> = found.values[0].as_string_view().iter().map(|text| text.unwrap().len()).collect();
            assert_eq!(lengths, (0..40).map(|n| length(n, version - 1)).collect::<Vec<_>>());
        }
        let texts: StringArray = (0..40).map(|n| Some("x".repeat(length(n, version)))).collect();
        store.put(&key_columns(&keys), &[Arc::new(texts)], None).unwrap();
        store.commit().await.unwrap();
    }
}

/// A restart must not show in any output: not in the order of a scan either.
#[tokio::test]
async fn order_does_not_tell_whether_the_state_was_loaded() {
    let folder = memory();
    let mut lived = HotStateStore::new(folder.clone(), &identity(), &spec(), SnapshotPolicy::default()).unwrap();
    for version in 0..30i64 {
        lived.begin(version as u64).await.unwrap();
        put(&mut lived, &(0..40).map(|n| (("k", (n * 17 + version * 5) % 300), n, Some(n % 7))).collect::<Vec<_>>());
        if version % 3 == 0 {
            lived.evict(Until::AtOrBefore(version % 4)).unwrap();
        }
        lived.commit().await.unwrap();
        lived.maintain(100).await.unwrap();
    }
    assert_eq!(lived.metrics().last_snapshot, Some(22));
    lived.begin(30).await.unwrap();
    let mut loaded = store(&folder);
    loaded.begin(30).await.unwrap();
    assert_eq!(scan(&lived), scan(&loaded));
    let due = |store: &HotStateStore| {
        let mut cursor = store.expired(Until::AtOrBefore(5)).unwrap();
        store.next_rows(&mut cursor).unwrap().unwrap().keys[1].as_primitive::<Int64Type>().clone()
    };
    assert_eq!(due(&lived), due(&loaded));
}

/// Every type, as key and as value, through a delta and through a snapshot.
#[tokio::test]
async fn every_type_comes_back_from_files_as_it_was_declared() {
    use arrow::datatypes::{Field, Schema};
    for column in crate::state::rows::tests::columns() {
        let schema = Arc::new(Schema::new(vec![Field::new("c", column.data_type().clone(), true)]));
        let number = Arc::new(arrow::array::Int64Array::from(vec![1, 2, 3, 4]));
        let numbered = Arc::new(Schema::new(vec![
            Field::new("n", arrow::datatypes::DataType::Int64, false),
            Field::new("c", column.data_type().clone(), true),
        ]));
        let store_spec = StoreSpec { schema: StateSchema::new(numbered, schema).unwrap(), ..spec() };
        let early = SnapshotPolicy { min_deltas: 0, growth_percent: 0, max_deltas: 1 };
        for policy in [NEVER, early] {
            let folder = memory();
            let mut store = HotStateStore::new(folder.clone(), &identity(), &store_spec, policy).unwrap();
            store.begin(0).await.unwrap();
            store.put(&[number.clone(), column.clone()], std::slice::from_ref(&column), None).unwrap();
            store.commit().await.unwrap();
            store.maintain(100).await.unwrap();
            let mut again = HotStateStore::new(folder, &identity(), &store_spec, NEVER).unwrap();
            again.begin(1).await.unwrap();
            assert_eq!(again.metrics().last_snapshot, (policy == early).then_some(1));
            let mut cursor = again.scan().unwrap();
            let rows = again.next_rows(&mut cursor).unwrap().unwrap();
            assert_eq!((&rows.keys[1], &rows.values[0]), (&column, &column), "{}", column.data_type());
            let found = again.get(&[number.clone(), column.clone()]).unwrap();
            assert_eq!((found.present.true_count(), &found.values[0]), (4, &column), "{}", column.data_type());
        }
    }
}
