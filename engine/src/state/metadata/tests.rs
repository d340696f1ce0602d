//! Tests of the record of operators.

use arrow::datatypes::{DataType, Field, TimeUnit};
use object_store::memory::InMemory;
use object_store::path::Path;

use super::*;

fn state() -> Folder {
    Folder { store: Arc::new(InMemory::new()), path: Path::from("checkpoint/state"), uri_root: "memory://".into() }
}

fn columns_of(columns: &[(&str, DataType)]) -> SchemaRef {
    Arc::new(Schema::new(columns.iter().map(|(name, t)| Field::new(*name, t.clone(), true)).collect::<Vec<_>>()))
}

fn operator(operator_id: u32, name: &str, key: &[(&str, DataType)], value: &[(&str, DataType)]) -> OperatorSpec {
    let schema = StateSchema::new(columns_of(key), columns_of(value)).unwrap();
    let stores = vec![StoreSpec::default_store(schema)];
    OperatorSpec { operator_id, name: name.into(), partitions: 3, stores, evolution: None }
}

fn count() -> OperatorSpec {
    let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let window = DataType::Struct(["start", "end"].map(|name| Field::new(name, time.clone(), false)).to_vec().into());
    operator(0, "stateStoreSave", &[("window", window), ("it's \"k\"", DataType::Utf8View)], &[("n", DataType::Int64)])
}

#[tokio::test]
async fn operator_metadata_is_sparks() {
    let state = state();
    record_operators(&state, &[count()]).await.unwrap();
    let file = state.get("0/_metadata/metadata").await.unwrap().unwrap();
    assert_eq!(
        std::str::from_utf8(&file).unwrap(),
        "v1\n{\"operatorInfo\":{\"operatorId\":0,\"operatorName\":\"stateStoreSave\"},\"stateStoreInfo\":\
         [{\"storeName\":\"default\",\"numColsPrefixKey\":0,\"numPartitions\":3}]}"
    );
}

#[tokio::test]
async fn what_was_recorded_is_read_without_the_query() {
    let state = state();
    let mut join = operator(1, "symmetricHashJoin", &[("k", DataType::Int32)], &[]);
    join.stores.push(StoreSpec { name: "left".into(), prefix_columns: 1, ..join.stores[0].clone() });
    let operators = [count(), join];
    record_operators(&state, &operators).await.unwrap();
    let read = read_operators(&state).await.unwrap();
    assert_eq!(read.iter().map(|op| op.spec.clone()).collect::<Vec<_>>(), operators);
    check_operators(&state, &operators, 1).await.unwrap();
}

#[tokio::test]
async fn a_repeated_first_batch_with_fewer_operators_leaves_no_trace_of_the_others() {
    let state = state();
    let dedupe = operator(1, "dedupe", &[("k", DataType::Int32)], &[]);
    record_operators(&state, &[count(), dedupe]).await.unwrap();
    record_operators(&state, &[count()]).await.unwrap();
    check_operators(&state, &[count()], 1).await.unwrap();
}

async fn refusal(recorded: &[OperatorSpec], now: &[OperatorSpec]) -> Error {
    let state = state();
    record_operators(&state, recorded).await.unwrap();
    check_operators(&state, now, 1).await.unwrap_err()
}

#[tokio::test]
async fn other_operators_are_refused_with_sparks_classes() {
    let dedupe = operator(0, "dedupe", &[("k", DataType::Int32)], &[]);
    let missing = refusal(&[], &[count()]).await;
    assert_eq!(missing.class(), Some("STREAMING_STATEFUL_OPERATOR_MISSING_STATE_DIRECTORY"));
    for (recorded, now) in
        [(vec![count()], vec![]), (vec![count()], vec![dedupe.clone()]), (vec![dedupe, count_as(1)], vec![count()])]
    {
        let error = refusal(&recorded, &now).await;
        assert_eq!(error.class(), Some("STREAMING_STATEFUL_OPERATOR_NOT_MATCH_IN_STATE_METADATA"));
        assert!(error.to_string().contains("OperatorId: 0 -> OperatorName: "), "{error}");
        assert!(error.to_string().contains("new checkpointLocation"), "{error}");
    }
}

fn count_as(operator_id: u32) -> OperatorSpec {
    OperatorSpec { operator_id, ..count() }
}

#[tokio::test]
async fn other_types_are_refused_other_names_are_not() {
    let sum = |key: &str, t: DataType, v: DataType| operator(0, "stateStoreSave", &[(key, t)], &[("s", v)]);
    let was = sum("k", DataType::Int64, DataType::Int64);
    let key = refusal(std::slice::from_ref(&was), &[sum("k", DataType::Utf8, DataType::Int64)]).await;
    assert_eq!(key.class(), Some("STATE_STORE_KEY_SCHEMA_NOT_COMPATIBLE"));
    assert!(key.to_string().contains("key_schema=(k bigint) and new key_schema=(k string)"), "{key}");
    let value = refusal(std::slice::from_ref(&was), &[sum("k", DataType::Int64, DataType::Float64)]).await;
    assert_eq!(value.class(), Some("STATE_STORE_VALUE_SCHEMA_NOT_COMPATIBLE"));
    let state = state();
    record_operators(&state, &[was]).await.unwrap();
    check_operators(&state, &[sum("renamed", DataType::Int64, DataType::Int64)], 1).await.unwrap();
}

#[tokio::test]
async fn another_number_of_partitions_or_other_stores_are_refused() {
    let error = refusal(&[count()], &[OperatorSpec { partitions: 4, ..count() }]).await.to_string();
    assert!(error.contains("spark.sql.shuffle.partitions to 3"), "{error}");
    let mut other = count();
    other.stores[0].name = "left".into();
    let error = refusal(&[count()], &[other]).await;
    assert_eq!(error.class(), Some("STREAMING_STATEFUL_OPERATOR_NOT_MATCH_IN_STATE_METADATA"));
}

#[tokio::test]
async fn files_that_cannot_be_read_are_named() {
    let cases = [
        ("metadata", "v1\n{\"operatorInfo\":{\"operatorId\":0", "damaged"),
        ("metadata", "", "damaged"),
        ("metadata", "v2\n{}", "newer Wavetank"),
        ("wavetank-stores", "v1\n{\"stores\":[]}", "does not fit"),
        ("wavetank-stores", "v9\n{}", "newer Wavetank"),
    ];
    for (name, content, expected) in cases {
        let state = state();
        record_operators(&state, &[count()]).await.unwrap();
        state.put(&format!("0/_metadata/{name}"), content.into()).await.unwrap();
        let error = check_operators(&state, &[count()], 1).await.unwrap_err().to_string();
        assert!(error.contains(&format!("0/_metadata/{name}")) && error.contains(expected), "{error}");
    }
    let state = state();
    record_operators(&state, &[count()]).await.unwrap();
    state.delete("0/_metadata/wavetank-stores").await.unwrap();
    assert!(check_operators(&state, &[count()], 1).await.unwrap_err().to_string().contains("wavetank-stores"));
}
