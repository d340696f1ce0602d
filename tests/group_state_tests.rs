//! mapGroupsWithState and flatMapGroupsWithState: step by step as Spark measured them, and what its suite asserts.

use std::time::Duration;

use arrow::array::{AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use datafusion::common::ScalarValue;
use datafusion::prelude::col;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::sync::Arc;
use wavetank::Error;
use wavetank::groups::{ArrowTypes, GroupState, GroupStateTimeout, Timestamp, Values};
use wavetank::prelude::*;
use wavetank::testing::{Job, NO_ROWS, Row, Start, StateRows, StreamTest, Transcript, rows};

use GroupStateTimeout::{EventTimeTimeout, NoTimeout, ProcessingTimeTimeout};

/// Every batch: rows in, watermark in seconds (0 without one), rows out, and total/updated/removed/late.
fn told(run: &Transcript) -> Vec<String> {
    let line = |batch: &wavetank::testing::Batch| {
        let rows: Vec<_> = batch.rows.iter().map(|row| serde_json::to_string(row).expect("JSON")).collect();
        let state = &batch.state[0];
        let input: u64 = batch.input_rows.iter().map(|(_, rows)| rows).sum();
        let numbers = format!("{}/{}/{}/{}", state.total, state.updated, state.removed, state.late);
        format!("b{} rows={input} out: {} | {numbers}", batch.id, rows.join(" ")).replace('"', "")
    };
    run.batches().iter().map(line).collect()
}

type Count = Result<Vec<(String, i64)>, Error>;

/// `spec/09` F01: counts; a key is forgotten at 3.
fn count_to_three(key: String, values: Values<'_, String>, state: &mut GroupState<i64>) -> Count {
    let count = state.get_option().copied().unwrap_or(0) + values.count() as i64;
    if count >= 3 {
        state.remove();
        return Ok(vec![(key, -1)]);
    }
    state.update(count);
    Ok(vec![(key, count)])
}

fn counting(mode: OutputMode) -> Job {
    Job::frame(async move |session: Session| {
        let words = session.table("words").await?.group_by([col("k")]);
        words.flat_map_groups_with_state(mode, NoTimeout, count_to_three)
    })
    .source("words", "k STRING")
    .output_mode(mode)
}

fn words() -> StreamTest {
    StreamTest::new(counting(OutputMode::Update))
}

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

/// `spec/09` F02.
#[test]
fn processing_time_timeouts_fire_strictly_after_their_time() {
    fn count(
        key: String,
        values: Values<'_, String>,
        state: &mut GroupState<i64>,
    ) -> Result<Vec<(String, String)>, Error> {
        if state.has_timed_out() {
            assert_eq!(values.count(), 0);
            state.remove();
            return Ok(vec![(key, format!("timeout@{}", state.get_current_processing_time_ms()))]);
        }
        let count = state.get_option().copied().unwrap_or(0) + values.count() as i64;
        state.update(count);
        state.set_timeout_duration("10 seconds")?;
        Ok(vec![(key, count.to_string())])
    }
    let job = Job::frame(async |session: Session| {
        let words = session.table("words").await?.group_by([col("k")]);
        words.flat_map_groups_with_state(OutputMode::Update, ProcessingTimeTimeout, count)
    });
    let second = Duration::from_secs(1);
    let run = StreamTest::new(job.source("words", "k STRING").output_mode(OutputMode::Update))
        .manual_clock()
        .starting_at("1970-01-01 00:00:01")
        .start_with(Start::new().trigger(Trigger::processing_time("1 second").unwrap()))
        .add_data("words", ["a"])
        .advance_clock(second)
        .add_data("words", ["b"])
        .advance_clock(second)
        .advance_clock(8 * second)
        .advance_clock(second)
        .advance_clock(second)
        .add_data("words", ["b", "b"])
        .advance_clock(second)
        .advance_clock(9 * second)
        .advance_clock(2 * second)
        .stop()
        .run();
    let out: Vec<_> =
        told(&run).into_iter().filter(|line| !line.contains("out:  |") || line.contains("0/0/0/0")).collect();
    assert_eq!(
        out,
        [
            "b0 rows=1 out: [a,1] | 1/1/0/0",
            "b1 rows=1 out: [b,1] | 2/1/0/0",
            "b4 rows=0 out: [a,timeout@13000] | 1/0/1/0",
            "b5 rows=2 out: [b,3] | 1/1/0/0",
            "b7 rows=0 out: [b,timeout@25000] | 0/0/1/0",
        ],
        "{:#?}",
        told(&run)
    );
}

/// A row of the event-time tests.
#[derive(Deserialize)]
struct Event {
    at: Timestamp,
}

type Text = Result<Vec<(String, String)>, Error>;

/// `spec/09` F03: the greatest second, timeout 5 s later.
fn greatest(key: String, events: Values<'_, Event>, state: &mut GroupState<i64>) -> Text {
    let watermark = state.get_current_watermark_ms()?;
    if state.has_timed_out() {
        let answer = format!("timeout wm={watermark} v={}", state.get()?);
        state.remove();
        return Ok(vec![(key, answer)]);
    }
    let seen = events.map(|event| event.at.millis() / 1000).max().unwrap_or(0);
    let max = seen.max(state.get_option().copied().unwrap_or(0));
    state.update(max);
    state.set_timeout_timestamp_after(max * 1000, "5 seconds")?;
    Ok(vec![(key, format!("{max} wm={watermark}"))])
}

fn event_time(
    mode: OutputMode,
    function: impl Fn(String, Values<'_, Event>, &mut GroupState<i64>) -> Text + Clone + Send + Sync + 'static,
) -> Job {
    Job::frame(async move |session: Session| {
        let events = session.table("events").await?.with_watermark("at", "10 seconds")?.group_by([col("k")]);
        events.flat_map_groups_with_state(mode, EventTimeTimeout, function.clone())
    })
    .source("events", "k STRING, at TIMESTAMP")
    .output_mode(mode)
}

#[test]
fn event_time_timeouts_fire_when_the_watermark_has_passed_them() {
    let run = StreamTest::new(event_time(OutputMode::Update, greatest))
        .add_data("events", [("a", 11), ("a", 13), ("a", 15)])
        .process_all_available()
        .add_data("events", [("a", 4)])
        .process_all_available()
        .add_data("events", [("a", 6)])
        .process_all_available()
        .add_data("events", [("b", 30)])
        .process_all_available()
        .add_data("events", [("b", 31)])
        .process_all_available()
        .add_data("events", [("c", 100)])
        .process_all_available()
        .run();
    assert_eq!(
        told(&run),
        [
            "b0 rows=3 out: [a,15 wm=0] | 1/1/0/0",
            "b1 rows=0 out:  | 1/0/0/0",
            "b2 rows=1 out:  | 1/0/0/1",
            "b3 rows=1 out: [a,15 wm=5000] | 1/1/0/0",
            "b4 rows=1 out: [b,30 wm=5000] | 2/1/0/0",
            "b5 rows=0 out:  | 2/0/0/0",
            "b6 rows=1 out: [b,31 wm=20000] | 2/1/0/0",
            "b7 rows=0 out: [a,timeout wm=21000 v=15] | 1/0/1/0",
            "b8 rows=1 out: [c,100 wm=21000] | 2/1/0/0",
            "b9 rows=0 out: [b,timeout wm=90000 v=31] | 1/0/1/0",
        ]
    );
}

/// A timeout is found in the state that was loaded from files, too.
#[test]
fn timeouts_outlive_a_restart() {
    StreamTest::new(event_time(OutputMode::Append, greatest))
        .add_data("events", [("a", 11), ("b", 40)])
        .check_new_answer([("a", "11 wm=0"), ("b", "40 wm=0"), ("a", "timeout wm=30000 v=11")])
        .add_data("events", [("b", 41)])
        .check_new_answer([("b", "41 wm=30000")])
        .crash()
        .start()
        .add_data("events", [("c", 58)])
        .check_new_answer([("c", "58 wm=31000"), ("b", "timeout wm=48000 v=41")])
        .check_state(StateRows::total([1]).removed([2]))
        .run();
}

/// `spec/09` F04.
#[test]
fn a_timeout_before_the_watermark_fails_the_query() {
    fn always(key: String, events: Values<'_, Event>, state: &mut GroupState<i64>) -> Text {
        if !state.has_timed_out() {
            state.update(1);
            state.set_timeout_timestamp(1000)?;
        }
        Ok(vec![(key, events.count().to_string())])
    }
    StreamTest::new(event_time(OutputMode::Update, always))
        .add_data("events", [("a", 5)])
        .check_new_answer([("a", "1")])
        .add_data("events", [("b", 30)])
        .check_new_answer([("b", "1"), ("a", "0"), ("b", "0")])
        .check_state(StateRows::total([2]).updated([4]))
        .add_data("events", [("b", 40)])
        .expect_failure("Timeout timestamp (1000) cannot be earlier than the current watermark (20000)")
        .run();
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

/// `spec/09` F08.
#[test]
fn a_timeout_without_state_keeps_an_entry_and_one_not_set_again_is_gone() {
    fn timeouts(key: String, values: Values<'_, String>, state: &mut GroupState<i64>) -> Text {
        let call = if state.has_timed_out() { "T" } else { "D" };
        assert_eq!(values.count() == 0, state.has_timed_out());
        match key.as_str() {
            _ if state.has_timed_out() => (),
            "r" => {
                state.update(1);
                state.remove();
                state.set_timeout_duration_ms(1000)?;
            }
            "n" => state.set_timeout_duration_ms(1000)?,
            _ => {
                if !state.exists() {
                    state.set_timeout_duration_ms(3000)?;
                }
                state.update(1);
            }
        }
        Ok(vec![(key, format!("{call} exists={}", state.exists()))])
    }
    let job = Job::frame(async |session: Session| {
        let words = session.table("words").await?.group_by([col("k")]);
        words.flat_map_groups_with_state(OutputMode::Update, ProcessingTimeTimeout, timeouts)
    });
    let second = Duration::from_secs(1);
    let run = StreamTest::new(job.source("words", "k STRING").output_mode(OutputMode::Update))
        .manual_clock()
        .starting_at("1970-01-01 00:00:01")
        .start_with(Start::new().trigger(Trigger::processing_time("1 second").unwrap()))
        .add_data("words", ["r", "n", "once"])
        .advance_clock(second)
        .add_data("words", ["once"])
        .advance_clock(second)
        .advance_clock(second)
        .advance_clock(5 * second)
        .stop()
        .run();
    assert_eq!(
        told(&run)[..3],
        [
            "b0 rows=3 out: [n,D exists=false] [once,D exists=true] [r,D exists=false] | 3/3/0/0",
            "b1 rows=1 out: [once,D exists=true] | 3/1/0/0",
            "b2 rows=0 out: [n,T exists=false] [r,T exists=false] | 3/2/0/0",
        ]
    );
    assert!(told(&run)[3..].iter().all(|line| line.ends_with("rows=0 out:  | 3/0/0/0")), "{:#?}", told(&run));
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

/// State as an enum with data, rows and results as structs, the key an expression.
#[test]
fn structs_enums_and_key_expressions() {
    #[derive(Serialize, Deserialize)]
    enum Door {
        Closed,
        Open { times: u32 },
    }
    #[derive(Deserialize)]
    struct Push {
        strength: Option<f64>,
    }
    #[derive(Serialize, Deserialize)]
    struct Report {
        door: String,
        opened: u32,
        strongest: Option<f64>,
    }
    let job = Job::frame(async |session: Session| {
        let pushes = session.table("pushes").await?;
        let by = [pushes.expr("upper(door) AS door")?, pushes.expr("floor % 10 AS level")?];
        pushes.group_by(by).map_groups_with_state(
            NoTimeout,
            |(door, level): (String, i64), pushes: Values<'_, Push>, state: &mut GroupState<Door>| {
                let strongest = pushes.filter_map(|push| push.strength).max_by(f64::total_cmp);
                let opened = match state.get_option() {
                    Some(Door::Open { times }) => times + 1,
                    _ => 1,
                };
                state.update(if opened > 2 { Door::Closed } else { Door::Open { times: opened } });
                Ok(Report { door: format!("{door}{level}"), opened, strongest })
            },
        )
    });
    StreamTest::new(job.source("pushes", "door STRING, floor INT, strength DOUBLE").output_mode(OutputMode::Update))
        .add_data("pushes", rows![json!(["a", 1, 0.5]), json!(["A", 11, null]), json!(["b", 2, null])])
        .check_new_answer(rows![json!(["A1", 1, 0.5]), json!(["B2", 1, null])])
        .add_data("pushes", rows![json!(["a", 21, 2.0])])
        .check_new_answer(rows![json!(["A1", 2, 2.0])])
        .crash()
        .start()
        .add_data("pushes", rows![json!(["a", 1, 1.0])])
        .check_new_answer(rows![json!(["A1", 3, 1.0])])
        .add_data("pushes", rows![json!(["a", 1, 1.0])])
        .check_new_answer(rows![json!(["A1", 1, 1.0])])
        .run();
}

#[test]
fn arrow_values_need_no_serde() {
    let output = Schema::new(vec![Field::new("k", DataType::Utf8, false), Field::new("sum", DataType::Int64, false)]);
    let types = ArrowTypes { state: DataType::Int64, output: Arc::new(output) };
    let job = Job::frame(async move |session: Session| {
        let numbers = session.table("numbers").await?.group_by([col("k")]);
        let schema = Arc::clone(&types.output);
        numbers.flat_map_groups_with_state_arrow(
            types.clone(),
            OutputMode::Update,
            NoTimeout,
            move |key: &[ScalarValue], rows: RecordBatch, state: &mut GroupState<ScalarValue>| {
                let before = match state.get_option() {
                    Some(ScalarValue::Int64(Some(before))) => *before,
                    _ => 0,
                };
                let sum = before + rows.column(1).as_primitive::<Int64Type>().values().iter().sum::<i64>();
                state.update(ScalarValue::Int64(Some(sum)));
                let key = StringArray::from(vec![key[0].to_string()]);
                let columns: Vec<arrow::array::ArrayRef> = vec![Arc::new(key), Arc::new(Int64Array::from(vec![sum]))];
                Ok(RecordBatch::try_new(Arc::clone(&schema), columns)?)
            },
        )
    });
    StreamTest::new(job.source("numbers", "k STRING, v BIGINT").output_mode(OutputMode::Update))
        .add_data("numbers", [("a", 1), ("b", 5), ("a", 2)])
        .check_new_answer([("a", 3), ("b", 5)])
        .stop()
        .start()
        .add_data("numbers", [("a", 10)])
        .check_new_answer([("a", 13)])
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

#[test]
fn another_type_of_state_is_refused_at_the_restart() {
    let other = Job::frame(async |session: Session| {
        let words = session.table("words").await?.group_by([col("k")]);
        words.flat_map_groups_with_state(
            OutputMode::Update,
            NoTimeout,
            |key: String, _: Values<'_, String>, _: &mut GroupState<(i64, String)>| Ok([(key, 0)]),
        )
    });
    let other = other.source("words", "k STRING").output_mode(OutputMode::Update);
    words()
        .add_data("words", ["a"])
        .check_new_answer([("a", 1)])
        .stop()
        .start_with(Start::new().job(other))
        .expect_failure("STATE_STORE_VALUE_SCHEMA_NOT_COMPATIBLE")
        .start_with(Start::new().job(counting(OutputMode::Update)))
        .add_data("words", ["a"])
        .check_new_answer([("a", 2)])
        .run();
}

/// Ten thousand keys in one batch: more than one visit of the store, timeouts of all of them at once.
#[test]
fn many_keys_in_one_batch() {
    let job = event_time(OutputMode::Append, |key, events, state| {
        if state.has_timed_out() {
            return Ok(vec![(key, "gone".into())]);
        }
        state.update(events.count() as i64);
        state.set_timeout_timestamp(20_000)?;
        Ok(vec![])
    });
    let rows: Vec<Row> = (0..10_000).map(|n| Row::from((format!("k{n}"), 10))).collect();
    StreamTest::new(job)
        .add_data("events", rows)
        .check_new_answer(NO_ROWS)
        .add_data("events", [("last", 40)])
        .check_answer_by("all are gone", |rows| rows.len() == 10_001)
        .check_state(StateRows::total([10_001]))
        .run();
}

/// `spec/05` section 2: what may not be streamed.
#[tokio::test]
async fn the_checks_are_sparks() -> Result<(), Error> {
    let session = wavetank::session()?;
    let stream = MemoryStream::new(wavetank::engine::sql::parse_ddl_schema("k STRING, at TIMESTAMP")?);
    let plain = session.stream_of("events", Arc::new(stream), Default::default()).await?;
    let marked = plain.with_watermark("at", "1 second")?;
    let function = |key: String, _: Values<'_, Event>, _: &mut GroupState<i64>| Ok([(key, Timestamp(0))]);
    let flat = |frame: &DataFrame, mode, timeout| {
        frame.group_by([frame.expr("k")?]).flat_map_groups_with_state(mode, timeout, function)
    };
    let named = |frame: DataFrame| frame.select_expr(&["_1 AS k", "_2 AS at"]);
    let map = |frame: &DataFrame, timeout| {
        let one = move |key: String, _: Values<'_, Event>, _: &mut GroupState<i64>| Ok((key, Timestamp(0)));
        frame.group_by([frame.expr("k")?]).map_groups_with_state(timeout, one)
    };
    let (append, update) = (OutputMode::Append, OutputMode::Update);
    let window_counts = marked.group_by([marked.expr("window(at, '5 seconds') AS w")?]).count()?;
    let windows = window_counts.select_expr(&["CAST(count AS STRING) AS k", "w.start AS at"])?;
    let f1 = "mapGroupsWithState is not supported with Append output mode";
    let f2 = "Watermark must be specified in the query using '[Dataset/DataFrame].withWatermark()'";
    let f3 = "flatMapGroupsWithState in append mode is not supported with Update output mode";
    let f4 = "flatMapGroupsWithState in update mode is not supported with Append output mode";
    let f5 = "flatMapGroupsWithState in update mode is not supported with aggregation";
    let f6 = "Multiple flatMapGroupsWithStates are not supported when they are not all in append mode";
    let f7 = "Multiple mapGroupsWithStates are not supported";
    let mixed = "Mixing mapGroupsWithStates and flatMapGroupsWithStates are not supported";
    let (a, c, g) = ("streaming aggregations without watermark", "no streaming aggregations", "Detected pattern");
    let counted = |frame: DataFrame| frame.group_by([col("_1")]).count();
    let cases: Vec<(&str, DataFrame, [&str; 3])> = vec![
        ("map", map(&plain, NoTimeout)?, [f1, "", c]),
        ("map, event time without watermark", map(&plain, EventTimeTimeout)?, [f1, f2, c]),
        ("flat map append", flat(&plain, append, NoTimeout)?, ["", f3, c]),
        ("flat map update", flat(&plain, update, NoTimeout)?, [f4, "", c]),
        ("flat map append, then count", counted(flat(&plain, append, NoTimeout)?)?, [a, "", ""]),
        ("flat map append by event time, then count", counted(flat(&marked, append, EventTimeTimeout)?)?, [a, g, g]),
        ("flat map update, then count", counted(flat(&plain, update, NoTimeout)?)?, [a, f5, f5]),
        ("count, then flat map append", flat(&windows, append, NoTimeout)?, ["", g, g]),
        ("two flat maps append", flat(&named(flat(&plain, append, NoTimeout)?)?, append, NoTimeout)?, ["", f6, f6]),
        (
            "two flat maps by event time",
            flat(&named(flat(&marked, append, EventTimeTimeout)?)?, append, NoTimeout)?,
            [g, f6, f6],
        ),
        ("two flat maps update", flat(&named(flat(&plain, update, NoTimeout)?)?, update, NoTimeout)?, [f6, f6, f6]),
        ("two maps", map(&named(map(&plain, NoTimeout)?)?, NoTimeout)?, [f7, f7, f7]),
        ("map, then flat map", flat(&named(map(&plain, NoTimeout)?)?, update, NoTimeout)?, [mixed, mixed, mixed]),
    ];
    for (name, frame, expected) in cases {
        for (mode, expected) in [append, update, OutputMode::Complete].into_iter().zip(expected) {
            let plan = frame.write_stream().format("noop").output_mode(mode).explain().await;
            let got = plan.err().map_or(String::new(), |error| error.to_string());
            assert!(if expected.is_empty() { got.is_empty() } else { got.contains(expected) }, "{name}, {mode}: {got}");
        }
    }
    let complete = flat(&plain, OutputMode::Complete, NoTimeout).unwrap_err().to_string();
    assert!(complete.contains("The output mode of function should be append or update"), "{complete}");
    let initial = plain.select_expr(&["k", "1 AS n"])?.group_by([col("k")]);
    let streaming =
        plain.group_by([col("k")]).flat_map_groups_with_initial_state(append, NoTimeout, &initial, function)?;
    let error = streaming.write_stream().format("noop").explain().await.unwrap_err().to_string();
    assert!(error.contains("is not supported as the initial state"), "{error}");
    Ok(())
}
