//! Tests of what may change of an operator's stores.

use arrow::array::{Int32Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{Field, Schema};

use super::*;
use crate::state::schema::StateSchema;

fn columns(columns: &[(&str, DataType)]) -> SchemaRef {
    Arc::new(Schema::new(columns.iter().map(|(name, t)| Field::new(*name, t.clone(), true)).collect::<Vec<_>>()))
}

fn store(name: &str, value: DataType, since: u64) -> StoreSpec {
    let schema = StateSchema::new(columns(&[("k", DataType::Utf8)]), columns(&[("value", value)])).unwrap();
    StoreSpec { since, name: name.into(), ..StoreSpec::default_store(schema) }
}

fn operator(stores: Vec<StoreSpec>, deleted: &[&str]) -> OperatorSpec {
    let kinds = stores.iter().map(|store| (store.name.clone(), "ValueState".to_owned())).collect();
    let deleted = deleted.iter().map(|name| (*name).to_owned()).collect();
    let evolution = Some(Evolution { kinds, deleted, ..Evolution::default() });
    OperatorSpec { operator_id: 0, name: "x".into(), partitions: 1, stores, evolution }
}

fn recorded(stores: Vec<StoreSpec>) -> RecordedOperator {
    RecordedOperator { spec: operator(stores, &[]), ended: vec![], path: "file".into() }
}

fn lives(reconciled: &Reconciled) -> Vec<(&str, u64)> {
    reconciled.spec.stores.iter().map(|store| (store.name.as_str(), store.since)).collect()
}

const LONG: DataType = DataType::Int64;

#[test]
fn a_store_that_comes_begins_where_the_run_does_and_one_that_goes_sleeps() {
    let first = recorded(vec![store("s", LONG, 0), store("t", LONG, 0)]);
    let without = reconcile(&first, &operator(vec![store("s", LONG, 0)], &[]), 3).unwrap();
    assert_eq!(lives(&without), [("s", 0), ("t", 0)]);
    assert!(without.record.is_none(), "nothing has changed");
    let more = reconcile(&first, &operator(vec![store("u", LONG, 0), store("t", LONG, 0)], &[]), 3).unwrap();
    assert_eq!(lives(&more), [("u", 3), ("t", 0), ("s", 0)]);
    let written = more.record.unwrap();
    // The batch did not come about: another start at 3 sees what was there, a later one what is.
    let again = reconcile(&written, &operator(vec![store("s", LONG, 0)], &[]), 3).unwrap();
    assert_eq!(lives(&again), [("s", 0), ("t", 0)]);
    let later = reconcile(&written, &operator(vec![store("s", LONG, 0)], &[]), 4).unwrap();
    assert_eq!(lives(&later), [("s", 0), ("u", 3), ("t", 0)]);
}

#[test]
fn a_store_that_is_deleted_ends_when_the_first_batch_is_committed() {
    let first = recorded(vec![store("s", LONG, 0), store("t", LONG, 0)]);
    let gone = reconcile(&first, &operator(vec![store("s", LONG, 0)], &["t", "never"]), 3).unwrap();
    assert_eq!(lives(&gone), [("s", 0)]);
    let gone = gone.record.unwrap();
    assert_eq!(gone.ended, [EndedStore { store: store("t", LONG, 0), until: 3 }]);
    assert_eq!((gone.store_at("t", 3), gone.store_at("t", 4)), (Some(&store("t", LONG, 0)), None));
    let both = || operator(vec![store("s", LONG, 0), store("t", LONG, 0)], &[]);
    assert_eq!(lives(&reconcile(&gone, &both(), 3).unwrap()), [("s", 0), ("t", 0)], "it has not come true");
    assert_eq!(lives(&reconcile(&gone, &both(), 4).unwrap()), [("s", 0), ("t", 4)]);
    let anew = operator(vec![store("s", LONG, 0), store("t", DataType::Utf8, 0)], &["t"]);
    let anew = reconcile(&first, &anew, 3).unwrap();
    assert_eq!(lives(&anew), [("s", 0), ("t", 3)]);
    let anew = anew.record.unwrap();
    assert_eq!(anew.store_at("t", 3).unwrap().since, 0);
    assert_eq!(anew.store_at("t", 4).unwrap().since, 3);
}

#[test]
fn sleeping_stores_wake_up_with_the_types_that_they_have() {
    let first = recorded(vec![store("s", LONG, 0), store("t", LONG, 0)]);
    let other = operator(vec![store("t", DataType::Utf8, 0)], &[]);
    let error = reconcile(&first, &other, 3).unwrap_err();
    assert_eq!(error.class(), Some("STATE_STORE_VALUE_SCHEMA_NOT_COMPATIBLE"));
    let mut list = operator(vec![store("t", LONG, 0)], &[]);
    list.evolution.as_mut().unwrap().kinds.insert("t".into(), "ListState".into());
    let error = reconcile(&first, &list, 3).unwrap_err();
    assert_eq!(error.class(), Some("STATE_STORE_INVALID_VARIABLE_TYPE_CHANGE"));
}

fn fields(fields: &[(&str, DataType)]) -> DataType {
    DataType::Struct(columns(fields).fields().clone())
}

#[test]
fn by_name_fields_come_go_and_become_wider() {
    let old = fields(&[("a", DataType::Int32), ("b", LONG)]);
    let kept = recorded(vec![store("s", old.clone(), 0)]);
    let wanted = |value: &DataType, by_name| {
        let mut wanted = operator(vec![store("s", value.clone(), 0)], &[]);
        wanted.evolution.as_mut().unwrap().by_name = by_name;
        reconcile(&kept, &wanted, 3)
    };
    let new = fields(&[("c", DataType::Utf8), ("a", LONG)]);
    assert_eq!(wanted(&new, false).unwrap_err().class(), Some("STATE_STORE_VALUE_SCHEMA_NOT_COMPATIBLE"));
    let reconciled = wanted(&new, true).unwrap();
    assert_eq!((lives(&reconciled), reconciled.turned.len()), (vec![("s", 3)], 1));
    assert!(wanted(&old, true).unwrap().turned.is_empty());
    let narrower = fields(&[("a", DataType::Int32), ("b", DataType::Int32)]);
    assert_eq!(wanted(&narrower, true).unwrap_err().class(), Some("STATE_STORE_INVALID_VALUE_SCHEMA_EVOLUTION"));
    let values: Vec<ArrayRef> = vec![Arc::new(Int32Array::from(vec![1])), Arc::new(Int64Array::from(vec![2]))];
    let DataType::Struct(names) = &old else { panic!("a struct") };
    let values: ArrayRef = Arc::new(StructArray::try_new(names.clone(), values, None).unwrap());
    let turned = turned(&[values], &columns(&[("value", new)])).unwrap();
    let expected: Vec<ArrayRef> =
        vec![Arc::new(StringArray::from(vec![None::<&str>])), Arc::new(Int64Array::from(vec![1]))];
    let row = RecordBatch::try_new(columns(&[("c", DataType::Utf8), ("a", LONG)]), expected).unwrap();
    assert_eq!(turned[0].as_struct(), &StructArray::from(row));
}
