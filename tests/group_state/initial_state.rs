//! Keys that begin with a state.

use super::*;

fn from_initial(key: String, values: Values<'_, String>, state: &mut GroupState<i64>) -> Text {
    let count = values.count();
    let total = state.get_option().copied().unwrap_or(0) + count as i64;
    state.update(total);
    Ok(vec![(key, format!("{total}(n={count})"))])
}

fn with_initial<R: Into<Row>>(initial: impl IntoIterator<Item = R>) -> Job {
    Job::frame(async |session: Session| {
        let words = session.table("words").await?.group_by([col("k")]);
        let initial = session.table("initial").await?.group_by([col("key")]);
        words.flat_map_groups_with_initial_state(OutputMode::Update, NoTimeout, &initial, from_initial)
    })
    .source("words", "k STRING")
    .table("initial", "total INT, key STRING", initial)
    .output_mode(OutputMode::Update)
}

/// `spec/09` F06.
#[test]
fn initial_state_is_there_before_the_first_batch() {
    let run = StreamTest::new(with_initial([(10, "a"), (5, "z")]))
        .add_data("words", ["a", "b"])
        .process_all_available()
        .stop()
        .start()
        .add_data("words", ["z"])
        .process_all_available()
        .run();
    assert_eq!(
        told(&run),
        ["b0 rows=2 out: [a,11(n=1)] [b,1(n=1)] [z,5(n=0)] | 3/3/0/0", "b1 rows=1 out: [z,6(n=1)] | 3/1/0/0"]
    );
    let skipping = "spark.sql.streaming.flatMapGroupsWithState.skipEmittingInitialStateKeys";
    let run = StreamTest::new(with_initial([(10, "a"), (5, "z")]).conf(skipping, "true"))
        .add_data("words", ["a", "b"])
        .process_all_available()
        .add_data("words", ["z"])
        .process_all_available()
        .run();
    assert_eq!(told(&run), ["b0 rows=2 out: [a,11(n=1)] [b,1(n=1)] | 3/2/0/0", "b1 rows=1 out: [z,6(n=1)] | 3/1/0/0"]);
}

/// `spec/09` F07.
#[test]
fn an_initial_state_with_a_key_twice_fails_the_query() {
    StreamTest::new(with_initial([(10, "a"), (5, "a")]))
        .add_data("words", ["b"])
        .expect_failure("The initial state provided contained multiple rows(state) with the same key.")
        .run();
}

#[tokio::test]
async fn a_stream_cannot_be_the_initial_state() -> Result<(), Error> {
    let session = wavetank::session()?;
    let stream = MemoryStream::new(wavetank::engine::sql::parse_ddl_schema("k STRING, at TIMESTAMP")?);
    let plain = session.stream_of("events", Arc::new(stream), Default::default()).await?;
    let function = |key: String, _: Values<'_, Event>, _: &mut GroupState<i64>| Ok([(key, Timestamp(0))]);
    let initial = plain.select_expr(&["k", "1 AS n"])?.group_by([col("k")]);
    let groups = plain.group_by([col("k")]);
    let streaming = groups.flat_map_groups_with_initial_state(OutputMode::Append, NoTimeout, &initial, function)?;
    let error = streaming.write_stream().format("noop").explain().await.unwrap_err().to_string();
    assert!(error.contains("is not supported as the initial state"), "{error}");
    let complete =
        groups.flat_map_groups_with_state(OutputMode::Complete, NoTimeout, function).unwrap_err().to_string();
    assert!(complete.contains("The output mode of function should be append or update"), "{complete}");
    Ok(())
}
