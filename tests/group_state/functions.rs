//! What functions are called with, what becomes of what they answer, and what happens when they fail.

use super::*;

#[test]
fn a_running_count_is_removed_at_three() {
    let run = words()
        .add_data("words", ["a"])
        .process_all_available()
        .add_data("words", ["a", "b"])
        .process_all_available()
        .add_data("words", ["a"])
        .process_all_available()
        .add_data("words", ["a", "c"])
        .process_all_available()
        .run();
    assert_eq!(
        told(&run),
        [
            "b0 rows=1 out: [a,1] | 1/1/0/0",
            "b1 rows=2 out: [a,2] [b,1] | 2/2/0/0",
            "b2 rows=1 out: [a,-1] | 1/0/1/0",
            "b3 rows=2 out: [a,1] [c,1] | 3/2/0/0",
        ]
    );
}

/// `spec/09` T04, and the same over crashes and power cuts: state is that of the last committed batch.
#[test]
fn state_outlives_stops_crashes_and_power_cuts() {
    for interrupt in
        [|test: StreamTest| test.stop(), |test: StreamTest| test.crash(), |test: StreamTest| test.power_cut()]
    {
        let test = words().add_data("words", ["a"]).check_new_answer([("a", 1)]);
        let test = interrupt(test).start().add_data("words", ["a", "b"]).check_new_answer([("a", 2), ("b", 1)]);
        let test = interrupt(test).start().add_data("words", ["a", "b"]).check_new_answer([("a", -1), ("b", 2)]);
        let test = test.check_state(StateRows::total([1]));
        let test = interrupt(test).start().add_data("words", ["a", "c"]).check_new_answer([("a", 1), ("c", 1)]);
        test.check_state(StateRows::total([3])).run();
    }
}

/// `spec/09` F05.
#[test]
fn map_groups_gives_one_row_a_call() {
    let job = Job::frame(async |session: Session| {
        let words = session.table("words").await?.group_by([col("k")]);
        words.map_groups_with_state(
            NoTimeout,
            |key: String, values: Values<'_, String>, state: &mut GroupState<i64>| {
                Ok(count_to_three(key, values, state)?.remove(0))
            },
        )
    });
    let run = StreamTest::new(job.source("words", "k STRING").output_mode(OutputMode::Update))
        .add_data("words", ["a"])
        .process_all_available()
        .add_data("words", ["a", "b"])
        .process_all_available()
        .add_data("words", ["b", "b"])
        .process_all_available()
        .run();
    assert_eq!(
        told(&run),
        ["b0 rows=1 out: [a,1] | 1/1/0/0", "b1 rows=2 out: [a,2] [b,1] | 2/2/0/0", "b2 rows=2 out: [b,-1] | 1/0/1/0",]
    );
}

/// `spec/09` T06: aggregated in complete mode, over restarts.
#[test]
fn rows_of_append_functions_can_be_aggregated() {
    let job = Job::frame(async |session: Session| {
        let words = session.table("words").await?.group_by([col("k")]);
        let once =
            |key: String, values: Values<'_, String>, state: &mut GroupState<i64>| -> Result<Vec<String>, Error> {
                state.update(0);
                Ok(values.map(|_| key.clone()).collect())
            };
        words.flat_map_groups_with_state(OutputMode::Append, NoTimeout, once)?.group_by([col("value")]).count()
    });
    StreamTest::new(job.source("words", "k STRING").output_mode(OutputMode::Complete))
        .add_data("words", ["a"])
        .check_answer([("a", 1)])
        .add_data("words", ["a", "b"])
        .check_answer([("a", 2), ("b", 1)])
        .stop()
        .start()
        .add_data("words", ["a", "b"])
        .check_answer([("a", 3), ("b", 2)])
        .crash()
        .start()
        .add_data("words", ["a", "c"])
        .check_answer([("a", 4), ("b", 2), ("c", 1)])
        .check_state(StateRows::total([3, 3]))
        .run();
}

/// `spec/09` T09: a failed attempt leaves no state. A panic is a failure like any other.
#[test]
fn a_failing_function_fails_the_query_and_leaves_no_state() {
    use std::sync::atomic::{AtomicU8, Ordering};
    static FAIL: AtomicU8 = AtomicU8::new(0);
    let job = Job::frame(async |session: Session| {
        let words = session.table("words").await?.group_by([col("k")]);
        words.flat_map_groups_with_state(
            OutputMode::Update,
            NoTimeout,
            |key: String, values: Values<'_, String>, state: &mut GroupState<i64>| {
                let answer = count_to_three(key, values, state);
                match FAIL.load(Ordering::Relaxed) {
                    0 => answer,
                    1 => Err(Error::analysis("no")),
                    _ => panic!("no {}", "panic"),
                }
            },
        )
    });
    let set = |to: u8| move || FAIL.store(to, Ordering::Relaxed);
    StreamTest::new(job.source("words", "k STRING").output_mode(OutputMode::Update))
        .add_data("words", ["a"])
        .check_new_answer([("a", 1)])
        .execute("fail", set(1))
        .add_data("words", ["a"])
        .expect_failure("FLATMAPGROUPSWITHSTATE_USER_FUNCTION_ERROR")
        .execute("panic", set(2))
        .start()
        .expect_failure("Reason: it panicked: no panic")
        .execute("work", set(0))
        .start()
        .check_new_answer([("a", 2)])
        .check_last_batch_id(1)
        .run();
}

/// `spec/04` section 5: once, without timeouts.
#[tokio::test]
async fn static_frames_are_called_once_for_each_key() -> Result<(), Error> {
    let session = wavetank::session()?;
    let words = session.sql("SELECT * FROM (VALUES ('b', 1), ('a', 2), (NULL, 3), ('a', 4)) AS t(k, v)").await?;
    let initial = session.sql("SELECT 'a' AS k, CAST(10 AS BIGINT) AS s UNION ALL SELECT 'c', 20").await?;
    let sums = words.group_by([col("k")]).flat_map_groups_with_initial_state(
        OutputMode::Append,
        ProcessingTimeTimeout,
        &initial.group_by([col("k")]),
        |key: Option<String>, values: Values<'_, i64>, state: &mut GroupState<i64>| {
            assert!(state.get_current_processing_time_ms() > 0 && state.get_current_watermark_ms().is_err());
            state.set_timeout_duration("1 millisecond")?;
            let sum = values.sum::<i64>() + state.get_option().unwrap_or(&0);
            state.update(sum);
            Ok([(key.unwrap_or_default(), sum)])
        },
    )?;
    for _ in 0..2 {
        let batches = sums.collect().await?;
        let mut rows = vec![];
        for batch in &batches {
            let (keys, sums) = (batch.column(0).as_string::<i32>(), batch.column(1).as_primitive::<Int64Type>());
            rows.extend((0..batch.num_rows()).map(|row| format!("{}={}", keys.value(row), sums.value(row))));
        }
        assert_eq!(rows, ["=3", "a=16", "b=1", "c=20"]);
    }
    Ok(())
}
