//! A processor from its first row on: over crashes, with an initial state, over static frames, and what comes after it.

use super::*;

/// `spec/09` H01: counts, cleared at 3.
#[derive(Clone, Default)]
struct Counter {
    count: ValueState<i64>,
}

impl StatefulProcessor for Counter {
    type Key = String;
    type Row = Word;
    type Output = (String, i64);

    fn init(&mut self, handle: &StatefulProcessorHandle, _: OutputMode, _: TimeMode) -> Result<(), Error> {
        self.count = handle.get_value_state("count", TtlConfig::NONE)?;
        Ok(())
    }

    fn handle_input_rows(
        &mut self,
        key: &String,
        rows: Values<'_, Word>,
        _: &TimerValues,
    ) -> Result<Vec<(String, i64)>, Error> {
        let count = self.count.get()?.unwrap_or(0) + rows.count() as i64;
        if count >= 3 {
            self.count.clear()?;
            return Ok(vec![]);
        }
        self.count.update(count)?;
        Ok(vec![(key.clone(), count)])
    }
}

#[test]
fn a_count_is_cleared_at_three() {
    let run = StreamTest::new(job(Counter::default(), TimeMode::None))
        .add_data("words", [word("a")])
        .process_all_available()
        .add_data("words", [word("a"), word("b")])
        .process_all_available()
        .add_data("words", [word("a")])
        .process_all_available()
        .add_data("words", [word("a")])
        .process_all_available()
        .run();
    assert_eq!(
        told(&run),
        [
            "b0 rows=1 out: [a,1] | 1/1/0/0",
            "b1 rows=2 out: [a,2] [b,1] | 2/2/0/0",
            "b2 rows=1 out:  | 1/0/1/0",
            "b3 rows=1 out: [a,1] | 2/1/0/0",
        ]
    );
}

/// `spec/09` U01, also over crashes and power cuts.
#[test]
fn state_outlives_stops_crashes_and_power_cuts() {
    for interrupt in
        [|test: StreamTest| test.stop(), |test: StreamTest| test.crash(), |test: StreamTest| test.power_cut()]
    {
        let test = StreamTest::new(job(Counter::default(), TimeMode::None));
        let test = test.add_data("words", [word("a")]).check_new_answer([("a", 1)]);
        let test = test.add_data("words", [word("a"), word("b")]).check_new_answer([("a", 2), ("b", 1)]);
        let test = interrupt(test).start().add_data("words", [word("a"), word("b")]).check_new_answer([("b", 2)]);
        let test = interrupt(test).start().add_data("words", [word("a"), word("c")]);
        test.check_new_answer([("a", 1), ("c", 1)]).check_state(StateRows::total([3])).run();
    }
}

/// `spec/09` H08: a window over a result that has event time.
#[derive(Clone, Default)]
struct PassOn {
    offset_ms: i64,
}

#[derive(Serialize, Deserialize)]
struct Passed {
    k: String,
    at: Timestamp,
}

impl StatefulProcessor for PassOn {
    type Key = String;
    type Row = Event;
    type Output = Passed;

    fn init(&mut self, _: &StatefulProcessorHandle, _: OutputMode, _: TimeMode) -> Result<(), Error> {
        Ok(())
    }

    fn handle_input_rows(
        &mut self,
        key: &String,
        rows: Values<'_, Event>,
        _: &TimerValues,
    ) -> Result<Vec<Passed>, Error> {
        let at = |event: Event| Timestamp::from_millis(event.at.millis() + self.offset_ms);
        Ok(rows.map(|event| Passed { k: key.clone(), at: at(event) }).collect())
    }
}

fn windowed(offset_ms: i64) -> Job {
    Job::frame(async move |session: Session| {
        let events = session.table("events").await?.with_watermark("at", "5 seconds")?.group_by([col("k")]);
        let passed = events.transform_with_state_event_time(PassOn { offset_ms }, "at", OutputMode::Append)?;
        let window = passed.expr("window(at, '10 seconds') AS w")?;
        passed.group_by([window]).count()?.select_expr(&["unix_seconds(w.start) AS s", "count AS n"])
    })
    .source("events", "k STRING, at TIMESTAMP")
}

#[test]
fn a_result_with_event_time_can_be_windowed() {
    StreamTest::new(windowed(0))
        .add_data("events", [("a", 1), ("a", 12)])
        .check_new_answer(NO_ROWS)
        .add_data("events", [("a", 30)])
        .check_new_answer([(0, 1), (10, 1)])
        .check_state(StateRows::total([1, 0]))
        .run();
    StreamTest::new(windowed(-20_000))
        .add_data("events", [("a", 30)])
        .check_new_answer([(10, 1)])
        .add_data("events", [("a", 31)])
        .expect_failure("EMITTING_ROWS_OLDER_THAN_WATERMARK_NOT_ALLOWED")
        .run();
}

#[derive(Deserialize)]
struct Given {
    n: i64,
}

impl StatefulProcessorWithInitialState for Counter {
    type Initial = Given;

    fn handle_initial_state(&mut self, _: &String, initial: Given, _: &TimerValues) -> Result<(), Error> {
        let before = self.count.get()?.unwrap_or(0);
        self.count.update(before + initial.n)
    }
}

/// Several rows of a key are allowed; they come before any input, once.
#[test]
fn initial_rows_come_before_the_first_input() {
    let job = Job::frame(async |session: Session| {
        let initial = session.table("initial").await?.group_by([col("key")]);
        let words = session.table("words").await?.group_by([col("k")]);
        words.transform_with_initial_state(Counter::default(), TimeMode::None, OutputMode::Update, &initial)
    });
    let job = job.source("words", "k STRING, v STRING").output_mode(OutputMode::Update);
    StreamTest::new(job.table("initial", "key STRING, n BIGINT", [("a", -7), ("a", -2), ("z", 1)]))
        .add_data("words", [word("a"), word("b")])
        .check_new_answer([("a", -8), ("b", 1)])
        .check_state(StateRows::total([3]))
        .crash()
        .start()
        .add_data("words", [word("a"), word("z")])
        .check_new_answer([("a", -7), ("z", 2)])
        .run();
}

#[tokio::test]
async fn static_frames_are_transformed_once() -> Result<(), Error> {
    let session = wavetank::session()?;
    let words = session.sql("SELECT * FROM (VALUES ('b', ''), ('a', ''), ('a', '')) AS t(k, v)").await?;
    let counts =
        words.group_by([col("k")]).transform_with_state(Counter::default(), TimeMode::None, OutputMode::Append)?;
    for _ in 0..2 {
        let batches = counts.collect().await?;
        let (keys, counts) =
            (batches[0].column(0).as_string::<i32>(), batches[0].column(1).as_primitive::<Int64Type>());
        assert_eq!((keys.value(0), counts.value(0), keys.value(1), counts.value(1)), ("a", 2, "b", 1));
    }
    Ok(())
}
