//! The contract of `StateStore`, clause by clause, and a model that random operations are compared with.

mod model;

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use object_store::memory::InMemory;
use object_store::path::Path;

use crate::state::files::SnapshotPolicy;
use crate::state::hot::HotStateStore;
use crate::state::operator::{StoreIdentity, StoreSpec};
use crate::state::schema::StateSchema;
use crate::state::store::{Cursor, StateRows, StateStore, Until};
use crate::storage::Folder;

/// Keys of (string, bigint), values of (bigint), an index of the first key column.
pub(super) fn spec() -> StoreSpec {
    let key = [Field::new("word", DataType::Utf8, true), Field::new("n", DataType::Int64, true)];
    let value = [Field::new("sum", DataType::Int64, true)];
    let schema = StateSchema::new(Arc::new(Schema::new(key.to_vec())), Arc::new(Schema::new(value.to_vec()))).unwrap();
    StoreSpec { name: "default".into(), schema, prefix_columns: 1, since: 0 }
}

pub(super) fn memory() -> Folder {
    Folder { store: Arc::new(InMemory::new()), path: Path::from("state/0/3"), uri_root: "memory://".into() }
}

pub(super) fn identity() -> StoreIdentity {
    StoreIdentity { operator_id: 0, partition: 3, store_name: "default".into() }
}

/// Snapshots early, so that small tests have some.
pub(super) const EARLY: SnapshotPolicy = SnapshotPolicy { min_deltas: 2, growth_percent: 0, max_deltas: 5 };

/// Every implementation of the trait is made here, over the same folder again and again.
pub(super) fn stores(folder: &Folder) -> Vec<Box<dyn StateStore>> {
    vec![Box::new(HotStateStore::new(folder.clone(), &identity(), &spec(), EARLY).unwrap())]
}

pub(super) type Entry = ((&'static str, i64), i64, Option<i64>);

pub(super) fn key_columns(keys: &[(&str, i64)]) -> Vec<ArrayRef> {
    let words: StringArray = keys.iter().map(|(word, _)| Some(*word)).collect();
    vec![Arc::new(words), Arc::new(Int64Array::from_iter_values(keys.iter().map(|(_, n)| *n)))]
}

pub(super) fn put(store: &mut dyn StateStore, entries: &[Entry]) {
    let keys: Vec<_> = entries.iter().map(|(key, _, _)| *key).collect();
    let values = Int64Array::from_iter_values(entries.iter().map(|(_, value, _)| *value));
    let expiry: Int64Array = entries.iter().map(|(_, _, expiry)| *expiry).collect();
    store.put(&key_columns(&keys), &[Arc::new(values)], Some(&expiry)).unwrap();
}

pub(super) fn get(store: &dyn StateStore, keys: &[(&str, i64)]) -> Vec<Option<i64>> {
    let found = store.get(&key_columns(keys)).unwrap();
    let values = found.values[0].as_primitive::<Int64Type>();
    for row in 0..keys.len() {
        assert!(found.present.value(row) || values.is_null(row));
    }
    values.iter().collect()
}

pub(super) type Row = (String, i64, Option<i64>, Option<i64>);

/// All rows of a cursor: word, n, value, expiry.
pub(super) fn read(store: &dyn StateStore, mut cursor: Cursor) -> Vec<Row> {
    let mut rows = Vec::new();
    while let Some(StateRows { keys, values, expiry }) = store.next_rows(&mut cursor).unwrap() {
        let words = keys[0].as_string::<i32>().iter().map(|word| word.unwrap().to_string());
        let numbers = keys[1].as_primitive::<Int64Type>().values().iter().copied();
        let values = values[0].as_primitive::<Int64Type>().iter();
        rows.extend(words.zip(numbers).zip(values.zip(expiry.iter())).map(|((w, n), (v, e))| (w, n, v, e)));
    }
    rows
}

pub(super) fn scan(store: &dyn StateStore) -> Vec<Row> {
    read(store, store.scan().unwrap())
}

fn row((word, n): (&str, i64), value: i64, expiry: Option<i64>) -> Row {
    (word.into(), n, Some(value), expiry)
}

#[tokio::test]
async fn nothing_works_before_begin() {
    for mut store in stores(&memory()) {
        assert_eq!(store.version(), None);
        assert!(store.get(&key_columns(&[("a", 1)])).is_err());
        assert!(store.scan().is_err());
        assert!(store.commit().await.is_err());
        store.begin(0).await.unwrap();
        assert_eq!(store.version(), Some(0));
        assert_eq!(scan(&*store), []);
    }
}

#[tokio::test]
async fn a_batch_reads_what_it_staged_and_the_last_change_wins() {
    for mut store in stores(&memory()) {
        store.begin(0).await.unwrap();
        put(&mut *store, &[(("a", 1), 10, None), (("b", 1), 20, Some(5)), (("a", 1), 11, Some(6))]);
        assert_eq!(get(&*store, &[("b", 1), ("a", 1), ("a", 2)]), [Some(20), Some(11), None]);
        assert_eq!(store.remove(&key_columns(&[("a", 1), ("a", 1), ("c", 0)])).unwrap(), 1);
        assert_eq!(get(&*store, &[("a", 1)]), [None]);
        put(&mut *store, &[(("a", 1), 12, None)]);
        assert_eq!(scan(&*store), [row(("a", 1), 12, None), row(("b", 1), 20, Some(5))]);
        assert_eq!(store.rows_total(), 2);
    }
}

#[tokio::test]
async fn versions_count_up_and_can_be_opened_again() {
    let folder = memory();
    for mut store in stores(&folder) {
        store.begin(0).await.unwrap();
        put(&mut *store, &[(("a", 1), 1, Some(7)), (("b", 1), 2, None)]);
        let report = store.commit().await.unwrap();
        assert_eq!((report.version, report.puts, report.removes, report.rows_total), (1, 2, 0, 2));
        assert!(report.bytes_written > 0 && report.memory_bytes > 0);
        store.begin(1).await.unwrap();
        store.remove(&key_columns(&[("a", 1)])).unwrap();
        put(&mut *store, &[(("c", 1), 3, Some(9))]);
        let report = store.commit().await.unwrap();
        assert_eq!((report.version, report.puts, report.removes, report.rows_total), (2, 1, 1, 2));
        let empty = store.begin(2).await.map(|()| store.commit()).unwrap().await.unwrap();
        assert_eq!((empty.version, empty.puts, empty.removes), (3, 0, 0));
        assert!(empty.bytes_written < 120, "an empty delta has {} bytes", empty.bytes_written);
        let expected = [
            vec![],
            vec![row(("a", 1), 1, Some(7)), row(("b", 1), 2, None)],
            vec![row(("b", 1), 2, None), row(("c", 1), 3, Some(9))],
            vec![row(("b", 1), 2, None), row(("c", 1), 3, Some(9))],
        ];
        for version in [3, 0, 2, 1, 1, 3] {
            store.begin(version).await.unwrap();
            assert_eq!(scan(&*store), expected[version as usize], "version {version}");
        }
        for mut again in stores(&folder) {
            again.begin(2).await.unwrap();
            assert_eq!(scan(&*again), expected[2]);
            assert_eq!(read(&*again, again.expired(Until::AtOrBefore(9)).unwrap()), [row(("c", 1), 3, Some(9))]);
        }
    }
}

#[tokio::test]
async fn abort_and_begin_forget_what_was_staged() {
    for mut store in stores(&memory()) {
        store.begin(0).await.unwrap();
        put(&mut *store, &[(("a", 1), 1, Some(7)), (("b", 1), 2, None)]);
        store.commit().await.unwrap();
        let before = scan(&*store);
        for round in 0..4 {
            store.begin(1).await.unwrap();
            put(&mut *store, &[(("a", 1), 50, Some(70)), (("z", 1), 9, Some(1)), (("z", 1), 8, Some(2))]);
            store.reserve(&key_columns(&[("y", 0)])).unwrap();
            store.remove(&key_columns(&[("b", 1)])).unwrap();
            store.evict(Until::AtOrBefore(2)).unwrap();
            assert_eq!(scan(&*store), [row(("a", 1), 50, Some(70))]);
            if round % 2 == 0 {
                store.abort();
            } else {
                store.begin(1).await.unwrap();
            }
            assert_eq!(scan(&*store), before);
            assert_eq!(store.rows_total(), 2);
            assert_eq!(read(&*store, store.expired(Until::AtOrBefore(100)).unwrap()), [row(("a", 1), 1, Some(7))]);
            assert_eq!(store.prefix_scan(&key_columns(&[("z", 0)])[..1]).unwrap().prefix_rows, [] as [u32; 0]);
        }
    }
}

#[tokio::test]
async fn slots_stand_for_keys_until_the_batch_ends() {
    for mut store in stores(&memory()) {
        store.begin(0).await.unwrap();
        put(&mut *store, &[(("a", 1), 1, None)]);
        store.commit().await.unwrap();
        store.begin(1).await.unwrap();
        let keys = key_columns(&[("b", 1), ("a", 1), ("b", 1), ("c", 1)]);
        let reserved = store.reserve(&keys).unwrap();
        assert_eq!(reserved.slots[0], reserved.slots[2]);
        assert_eq!(
            reserved.found.values[0].as_primitive::<Int64Type>().iter().collect::<Vec<_>>(),
            [None, Some(1), None, None]
        );
        assert_eq!(store.rows_total(), 1);
        let values: ArrayRef = Arc::new(Int64Array::from(vec![20, 10]));
        store.put_slots(&reserved.slots[..2], &[values], None).unwrap();
        assert_eq!(get(&*store, &[("a", 1), ("b", 1), ("c", 1)]), [Some(10), Some(20), None]);
        assert_eq!(store.remove_slots(&reserved.slots[2..]).unwrap(), 1);
        let report = store.commit().await.unwrap();
        assert_eq!((report.puts, report.removes, report.rows_total), (1, 0, 1));
        store.begin(2).await.unwrap();
        assert_eq!(scan(&*store), [row(("a", 1), 10, None)]);
        let values: ArrayRef = Arc::new(Int64Array::from(vec![0]));
        assert!(store.put_slots(&[reserved.slots[3]], &[values], None).is_err());
    }
}

#[tokio::test]
async fn expired_entries_come_by_time_then_key_and_eviction_removes_them() {
    for mut store in stores(&memory()) {
        store.begin(0).await.unwrap();
        put(&mut *store, &[(("c", 1), 1, Some(5)), (("a", 1), 2, Some(9)), (("b", 1), 3, Some(5))]);
        put(&mut *store, &[(("d", 1), 4, None), (("e", 1), 5, Some(10)), (("f", 1), 6, Some(i64::MIN))]);
        store.commit().await.unwrap();
        store.begin(1).await.unwrap();
        put(&mut *store, &[(("e", 1), 50, Some(1)), (("a", 0), 7, Some(5))]);
        let due = |until| read(&*store, store.expired(until).unwrap()).into_iter().map(|r| r.2.unwrap()).collect();
        let strict: Vec<i64> = due(Until::Before(5));
        assert_eq!(strict, [6, 50]);
        let inclusive: Vec<i64> = due(Until::AtOrBefore(5));
        assert_eq!(inclusive, [6, 50, 7, 3, 1]);
        let evicted = store.evict(Until::AtOrBefore(5)).unwrap();
        assert_eq!(store.rows_total(), 2);
        assert_eq!(read(&*store, store.expired(Until::AtOrBefore(5)).unwrap()), []);
        let values: Vec<_> = read(&*store, evicted).into_iter().map(|r| (r.2.unwrap(), r.3)).collect();
        assert_eq!(values, [(6, Some(i64::MIN)), (50, Some(1)), (7, Some(5)), (3, Some(5)), (1, Some(5))]);
        let report = store.commit().await.unwrap();
        assert_eq!((report.puts, report.removes, report.rows_total), (0, 4, 2));
    }
}

#[tokio::test]
async fn a_prefix_finds_its_keys_in_order() {
    for mut store in stores(&memory()) {
        store.begin(0).await.unwrap();
        put(&mut *store, &[(("a", 3), 1, None), (("ab", 1), 2, None), (("a", -1), 3, None), (("b", 0), 4, None)]);
        store.commit().await.unwrap();
        store.begin(1).await.unwrap();
        put(&mut *store, &[(("a", 2), 5, None), (("b", 0), 6, None)]);
        store.remove(&key_columns(&[("a", 3)])).unwrap();
        let prefixes: ArrayRef = Arc::new(StringArray::from(vec!["b", "zz", "a", "b"]));
        let matches = store.prefix_scan(&[prefixes]).unwrap();
        assert_eq!(matches.prefix_rows, [0, 2, 2, 3]);
        let found = read(&*store, matches.cursor);
        let (b, a1, a2) = (row(("b", 0), 6, None), row(("a", -1), 3, None), row(("a", 2), 5, None));
        assert_eq!(found, [b.clone(), a1, a2, b]);
    }
}

#[tokio::test]
async fn scans_come_in_chunks() {
    for mut store in stores(&memory()) {
        store.begin(0).await.unwrap();
        let entries: Vec<Entry> = (0..20_000).map(|n| (("k", n), n, None)).collect();
        put(&mut *store, &entries);
        store.commit().await.unwrap();
        let mut cursor = store.scan().unwrap();
        let mut sizes = Vec::new();
        while let Some(rows) = store.next_rows(&mut cursor).unwrap() {
            sizes.push(rows.rows_count());
        }
        assert_eq!(sizes, [8192, 8192, 3616]);
        for mut again in stores(&memory()) {
            again.begin(0).await.unwrap();
            assert_eq!(again.scan().unwrap().remaining(), 0);
        }
        store.begin(0).await.unwrap();
        store.begin(1).await.unwrap();
        assert_eq!(scan(&*store).len(), 20_000);
    }
}

#[tokio::test]
async fn wrong_columns_are_refused_and_change_nothing() {
    for mut store in stores(&memory()) {
        store.begin(0).await.unwrap();
        let keys = key_columns(&[("a", 1), ("b", 1)]);
        let values: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
        let texts: ArrayRef = Arc::new(StringArray::from(vec!["1", "2"]));
        assert!(store.put(&keys[..1], std::slice::from_ref(&values), None).is_err());
        assert!(store.put(&keys, &[texts], None).is_err());
        assert!(store.put(&keys, &[values.slice(0, 1)], None).is_err());
        assert!(store.put(&keys, &[values], Some(&Int64Array::from(vec![1]))).is_err());
        assert!(store.get(&keys[..1]).is_err());
        assert_eq!(scan(&*store), []);
        let report = store.commit().await.unwrap();
        assert_eq!((report.puts, report.rows_total), (0, 0));
    }
}

#[tokio::test]
async fn maintenance_between_batches_keeps_what_the_last_versions_need() {
    let folder = memory();
    for mut store in stores(&folder) {
        store.begin(0).await.unwrap();
        assert!(store.maintain(3).await.is_err());
        let mut snapshots = 0;
        for version in 0..30 {
            store.begin(version).await.unwrap();
            put(&mut *store, &[(("k", version as i64 % 10), version as i64, None)]);
            store.commit().await.unwrap();
            let report = store.maintain(3).await.unwrap();
            assert_eq!(report.problems, [] as [String; 0]);
            snapshots += report.snapshot_bytes.iter().count();
        }
        assert_eq!(snapshots, 10);
        let left: Vec<String> =
            folder.list().await.unwrap().iter().map(|f| f.location.filename().unwrap().into()).collect();
        let expected = ["27.delta", "27.snapshot", "28.delta", "29.delta", "30.delta", "30.snapshot"];
        assert_eq!(left, expected.map(String::from));
        for mut again in stores(&folder) {
            for version in 27..=30 {
                again.begin(version).await.unwrap();
                assert_eq!(again.rows_total(), 10);
                assert_eq!(get(&*again, &[("k", version as i64 % 10)]), [Some(version as i64 - 10)]);
            }
            let error = again.begin(26).await.unwrap_err();
            assert_eq!(error.class(), Some("CANNOT_LOAD_STATE_STORE.CANNOT_READ_DELTA_FILE_NOT_EXISTS"));
        }
    }
}
