//! Keys without data are called when their time has come.

use super::*;

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
