//! Tests of all stores of one operator.

use arrow::array::{Array, ArrayRef, AsArray, Int64Array};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use object_store::memory::InMemory;
use object_store::path::Path;

use super::*;

fn state() -> Folder {
    Folder { store: Arc::new(InMemory::new()), path: Path::from("ckpt/state"), uri_root: "memory://".into() }
}

fn schema(key: bool, value: bool) -> StateSchema {
    let columns = |there: bool| there.then(|| Field::new("c", DataType::Int64, true)).into_iter().collect::<Vec<_>>();
    StateSchema::new(Arc::new(Schema::new(columns(key))), Arc::new(Schema::new(columns(value)))).unwrap()
}

fn spec(partitions: u32, stores: &[(&str, bool, bool)]) -> OperatorSpec {
    let store = |(name, key, value): &(&str, bool, bool)| StoreSpec {
        name: (*name).into(),
        schema: schema(*key, *value),
        prefix_columns: 0,
        since: 0,
    };
    let stores = stores.iter().map(store).collect();
    OperatorSpec { operator_id: 2, name: "x".into(), partitions, stores, evolution: None }
}

fn longs(values: Vec<i64>) -> Vec<ArrayRef> {
    vec![Arc::new(Int64Array::from(values))]
}

#[tokio::test]
async fn stores_live_where_spark_has_them() {
    let state = state();
    let operator =
        OperatorState::new(&state, spec(2, &[("default", true, true), ("left", true, true)]), Default::default());
    let operator = operator.unwrap();
    operator.begin(0).await.unwrap();
    let reports = operator.commit().await.unwrap();
    assert_eq!(reports.iter().map(|report| report.version).collect::<Vec<_>>(), [1; 4]);
    let files = state.list_recursive().await.unwrap();
    let files: Vec<_> = files.iter().map(|file| file.location.to_string()).collect();
    assert_eq!(
        files,
        [
            "ckpt/state/2/0/1.delta",
            "ckpt/state/2/0/left/1.delta",
            "ckpt/state/2/1/1.delta",
            "ckpt/state/2/1/left/1.delta"
        ]
    );
    assert!(operator.store(1, "left").is_ok());
    assert!(operator.store(2, "left").is_err() && operator.store(0, "right").is_err());
    for name in ["default", "a/b"] {
        let twice = spec(2, &[("default", true, true), (name, true, true)]);
        assert!(OperatorState::new(&state, twice, SnapshotPolicy::default()).is_err());
    }
}

#[tokio::test]
async fn all_stores_commit_abort_and_reopen_together() {
    let state = state();
    let spec = spec(3, &[("default", true, true)]);
    let operator = OperatorState::new(&state, spec.clone(), Default::default()).unwrap();
    for version in 0..2 {
        operator.begin(version).await.unwrap();
        for partition in 0..3 {
            let store = operator.store(partition, DEFAULT_STORE).unwrap();
            store.lock().await.put(&longs(vec![version as i64]), &longs(vec![partition as i64]), None).unwrap();
        }
        if version == 0 {
            operator.commit().await.unwrap();
            assert_eq!(operator.maintain(100).await.unwrap(), MaintainReport::default());
        } else {
            operator.abort().await;
        }
    }
    let again = OperatorState::new(&state, spec, Default::default()).unwrap();
    for stores in [&operator, &again] {
        stores.begin(1).await.unwrap();
        for (partition, store) in stores.stores().iter().enumerate() {
            let found = store.lock().await.get(&longs(vec![0, 1])).unwrap();
            let found: Vec<_> = found.values[0].as_primitive::<Int64Type>().iter().collect();
            assert_eq!(found, [Some(partition as i64), None]);
        }
    }
}

#[tokio::test]
async fn a_store_without_key_columns_has_one_entry_and_one_without_value_columns_is_a_set() {
    let state = state();
    let spec = spec(1, &[("global", false, true), ("set", true, false), ("flag", false, false)]);
    for version in 0..3 {
        let operator = OperatorState::new(&state, spec.clone(), Default::default()).unwrap();
        operator.begin(version).await.unwrap();
        let (global, set) = (operator.store(0, "global").unwrap(), operator.store(0, "set").unwrap());
        let flag = operator.store(0, "flag").unwrap();
        let (mut global, mut set, mut flag) = (global.lock().await, set.lock().await, flag.lock().await);
        let found = global.get(&[]).unwrap();
        let value = found.values[0].as_primitive::<Int64Type>();
        assert_eq!(value.iter().collect::<Vec<_>>(), [(version > 0).then_some(version as i64)]);
        let reserved = global.reserve(&[]).unwrap();
        global.put_slots(&reserved.slots, &longs(vec![version as i64 + 1]), None).unwrap();
        assert!(global.put(&[], &longs(vec![1, 2]), None).is_err());
        let found = set.get(&longs(vec![0, 1, 2])).unwrap();
        assert_eq!(found.present.iter().flatten().filter(|there| *there).count(), version as usize);
        set.put(&longs(vec![version as i64]), &[], None).unwrap();
        assert_eq!(flag.get(&[]).unwrap().present.value(0), version == 1);
        if version == 0 {
            flag.put(&[], &[], None).unwrap();
        } else {
            flag.remove(&[]).unwrap();
        }
        let mut all = set.scan().unwrap();
        let rows = set.next_rows(&mut all).unwrap().unwrap();
        assert_eq!(
            (rows.rows_count(), rows.keys[0].len(), rows.values.len()),
            (version as usize + 1, version as usize + 1, 0)
        );
        drop((global, set, flag));
        operator.commit().await.unwrap();
    }
}
