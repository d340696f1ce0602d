//! transformWithState: step by step as Spark measured it, and what its suites assert.

use std::time::Duration;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use datafusion::prelude::col;
use serde::{Deserialize, Serialize};
use wavetank::Error;
use wavetank::groups::{
    ExpiredTimerInfo, ListState, MapState, StatefulProcessor, StatefulProcessorHandle,
    StatefulProcessorWithInitialState, TimeMode, TimerValues, Timestamp, TtlConfig, ValueState, Values,
};
use wavetank::prelude::*;
use wavetank::testing::{Job, NO_ROWS, Row, Start, StateRows, StreamTest, Transcript};

type Rows = Result<Vec<(String, String)>, Error>;

/// Every batch: rows in, rows out, and total/updated/removed/late.
fn told(run: &Transcript) -> Vec<String> {
    let line = |batch: &wavetank::testing::Batch| {
        let rows: Vec<_> = batch.rows.iter().map(|row| serde_json::to_string(row).expect("JSON")).collect();
        let state = batch.state.last().expect("an operator");
        let input: u64 = batch.input_rows.iter().map(|(_, rows)| rows).sum();
        let numbers = format!("{}/{}/{}/{}", state.total, state.updated, state.removed, state.late);
        format!("b{} rows={input} out: {} | {numbers}", batch.id, rows.join(" ")).replace('"', "")
    };
    run.batches().iter().map(line).collect()
}

/// A job over a stream of words that this processor transforms.
fn job<P: StatefulProcessor>(processor: P, time_mode: TimeMode) -> Job {
    Job::frame(async move |session: Session| {
        let words = session.table("words").await?.group_by([col("k")]);
        words.transform_with_state(processor.clone(), time_mode, OutputMode::Update)
    })
    .source("words", "k STRING, v STRING")
    .output_mode(OutputMode::Update)
}

fn word(key: &str) -> Row {
    Row::from((key, ""))
}

#[derive(Deserialize)]
struct Word {
    v: String,
}

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

/// `spec/09` H02.
#[derive(Clone, Default)]
struct Ticking {
    handle: StatefulProcessorHandle,
    n: ValueState<i32>,
}

impl StatefulProcessor for Ticking {
    type Key = String;
    type Row = Word;
    type Output = (String, String);

    fn init(&mut self, handle: &StatefulProcessorHandle, _: OutputMode, _: TimeMode) -> Result<(), Error> {
        self.handle = handle.clone();
        self.n = handle.get_value_state("n", TtlConfig::NONE)?;
        Ok(())
    }

    fn handle_input_rows(&mut self, key: &String, rows: Values<'_, Word>, timers: &TimerValues) -> Rows {
        let now = timers.get_current_processing_time_ms();
        self.n.update(rows.count() as i32)?;
        self.handle.register_timer(now + 5000)?;
        self.handle.register_timer(now + 5000)?;
        let listed = self.listed()?;
        let wm = timers.get_current_watermark_ms();
        Ok(vec![(key.clone(), format!("n=1 pt={now} wm={wm} timers={listed}"))])
    }

    fn handle_expired_timer(&mut self, key: &String, _: &TimerValues, expired: &ExpiredTimerInfo) -> Rows {
        let (n, at) = (self.n.get()?.expect("a count"), expired.get_expiry_time_in_ms());
        if n >= 2 {
            self.n.clear()?;
        } else {
            self.handle.register_timer(at + 1)?;
            self.n.update(n + 1)?;
        }
        Ok(vec![(key.clone(), format!("timer@{at} n={n} remaining={}", self.listed()?))])
    }
}

impl Ticking {
    fn listed(&self) -> Result<String, Error> {
        Ok(self.handle.list_timers()?.iter().map(ToString::to_string).collect::<Vec<_>>().join("/"))
    }
}

fn every_second() -> Start {
    Start::new().trigger(Trigger::processing_time("1 second").expect("a trigger"))
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn timers_fire_at_their_time_and_those_of_callbacks_in_the_next_batch() {
    let run = StreamTest::new(job(Ticking::default(), TimeMode::ProcessingTime))
        .manual_clock()
        .starting_at("1970-01-01 00:00:01")
        .start_with(every_second())
        .add_data("words", [word("a")])
        .advance_clock(SECOND)
        .advance_clock(4 * SECOND)
        .advance_clock(SECOND)
        .advance_clock(SECOND)
        .advance_clock(SECOND)
        .stop()
        .run();
    let lines: Vec<_> = told(&run).into_iter().filter(|line| line.contains('[')).collect();
    assert_eq!(
        lines,
        [
            "b0 rows=1 out: [a,n=1 pt=2000 wm=0 timers=7000] | 1/1/0/0",
            "b2 rows=0 out: [a,timer@7000 n=1 remaining=7000/7001] | 1/1/0/0",
            "b3 rows=0 out: [a,timer@7001 n=2 remaining=7001] | 0/0/1/0",
        ],
        "{:#?}",
        told(&run)
    );
}

/// `spec/09` U03: a timer is replaced, over a restart.
#[derive(Clone, Default)]
struct Replacing {
    handle: StatefulProcessorHandle,
    at: ValueState<i64>,
}

impl StatefulProcessor for Replacing {
    type Key = String;
    type Row = Word;
    type Output = (String, String);

    fn init(&mut self, handle: &StatefulProcessorHandle, _: OutputMode, _: TimeMode) -> Result<(), Error> {
        self.handle = handle.clone();
        self.at = handle.get_value_state("at", TtlConfig::NONE)?;
        Ok(())
    }

    fn handle_input_rows(&mut self, key: &String, _: Values<'_, Word>, timers: &TimerValues) -> Rows {
        let delay = match self.at.get()? {
            Some(before) => {
                self.handle.delete_timer(before)?;
                7500
            }
            None => 5000,
        };
        let at = timers.get_current_processing_time_ms() + delay;
        self.handle.register_timer(at)?;
        self.at.update(at)?;
        Ok(vec![(key.clone(), at.to_string())])
    }

    fn handle_expired_timer(&mut self, key: &String, _: &TimerValues, expired: &ExpiredTimerInfo) -> Rows {
        Ok(vec![(key.clone(), format!("fired {}", expired.get_expiry_time_in_ms()))])
    }
}

#[test]
fn a_deleted_timer_does_not_fire_and_the_new_one_fires_once_after_a_restart() {
    let run = StreamTest::new(job(Replacing::default(), TimeMode::ProcessingTime))
        .manual_clock()
        .starting_at("1970-01-01 00:00:00")
        .start_with(every_second())
        .add_data("words", [word("a")])
        .advance_clock(SECOND)
        .add_data("words", [word("a")])
        .advance_clock(2 * SECOND)
        .crash()
        .add_data("words", [word("d")])
        .start_with(every_second())
        .advance_clock(10 * SECOND)
        .advance_clock(SECOND)
        .stop()
        .run();
    let rows: Vec<_> = run.rows().iter().map(|row| format!("{} {}", row[0], row[1]).replace('"', "")).collect();
    let fired: Vec<_> = rows.iter().filter(|row| row.contains("fired")).collect();
    assert_eq!(fired.iter().filter(|row| row.starts_with("a")).count(), 1, "{rows:?}");
    assert!(rows.contains(&"a fired 10500".to_owned()), "{rows:?}");
}

/// `spec/09` H07 and a time mode without timers.
#[derive(Clone, Default)]
struct Past {
    handle: StatefulProcessorHandle,
}

impl StatefulProcessor for Past {
    type Key = String;
    type Row = Word;
    type Output = (String, String);

    fn init(&mut self, handle: &StatefulProcessorHandle, _: OutputMode, _: TimeMode) -> Result<(), Error> {
        self.handle = handle.clone();
        Ok(())
    }

    fn handle_input_rows(&mut self, key: &String, _: Values<'_, Word>, _: &TimerValues) -> Rows {
        self.handle.register_timer(-5)?;
        Ok(vec![(key.clone(), "ok".into())])
    }

    fn handle_expired_timer(&mut self, key: &String, _: &TimerValues, expired: &ExpiredTimerInfo) -> Rows {
        Ok(vec![(key.clone(), format!("fired {}", expired.get_expiry_time_in_ms()))])
    }
}

#[test]
fn a_timer_in_the_past_fires_in_the_same_batch() {
    let run = StreamTest::new(job(Past::default(), TimeMode::ProcessingTime))
        .manual_clock()
        .starting_at("1970-01-01 00:00:01")
        .start_with(every_second())
        .add_data("words", [word("a")])
        .advance_clock(SECOND)
        .stop()
        .run();
    assert_eq!(told(&run)[0], "b0 rows=1 out: [a,fired -5] [a,ok] | 0/0/0/0");
    StreamTest::new(job(Past::default(), TimeMode::None))
        .add_data("words", [word("a")])
        .expect_failure("STATEFUL_PROCESSOR_CANNOT_PERFORM_OPERATION_WITH_INVALID_TIME_MODE")
        .run();
}

/// `spec/09` H03: the greatest second, a timer 5 s later; nothing kept but timers.
#[derive(Clone, Default)]
struct Latest {
    handle: StatefulProcessorHandle,
}

#[derive(Deserialize)]
struct Event {
    at: Timestamp,
}

impl StatefulProcessor for Latest {
    type Key = String;
    type Row = Event;
    type Output = (String, String);

    fn init(&mut self, handle: &StatefulProcessorHandle, _: OutputMode, _: TimeMode) -> Result<(), Error> {
        self.handle = handle.clone();
        Ok(())
    }

    fn handle_input_rows(&mut self, key: &String, rows: Values<'_, Event>, timers: &TimerValues) -> Rows {
        let max = rows.map(|event| event.at.millis()).max().unwrap_or(0);
        self.handle.register_timer(max + 5000)?;
        Ok(vec![(key.clone(), format!("max={} wm={}", max / 1000, timers.get_current_watermark_ms()))])
    }

    fn handle_expired_timer(&mut self, key: &String, timers: &TimerValues, expired: &ExpiredTimerInfo) -> Rows {
        let (at, wm) = (expired.get_expiry_time_in_ms(), timers.get_current_watermark_ms());
        Ok(vec![(key.clone(), format!("timer@{at} wm={wm}"))])
    }
}

#[test]
fn event_time_timers_fire_when_the_watermark_reaches_them() {
    let job = Job::frame(async |session: Session| {
        let events = session.table("events").await?.with_watermark("at", "10 seconds")?.group_by([col("k")]);
        events.transform_with_state(Latest::default(), TimeMode::EventTime, OutputMode::Update)
    });
    let run = StreamTest::new(job.source("events", "k STRING, at TIMESTAMP").output_mode(OutputMode::Update))
        .add_data("events", [("a", 10), ("b", 8)])
        .process_all_available()
        .add_data("events", [("c", 23)])
        .process_all_available()
        .add_data("events", [("d", 5), ("d", 14)])
        .process_all_available()
        .add_data("events", [("c", 30)])
        .process_all_available()
        .run();
    assert_eq!(
        told(&run),
        [
            "b0 rows=2 out: [a,max=10 wm=0] [b,max=8 wm=0] | 0/0/0/0",
            "b1 rows=1 out: [c,max=23 wm=0] | 0/0/0/0",
            "b2 rows=0 out: [b,timer@13000 wm=13000] | 0/0/0/0",
            "b3 rows=2 out: [d,max=14 wm=13000] | 0/0/0/1",
            "b4 rows=1 out: [c,max=30 wm=13000] | 0/0/0/0",
            "b5 rows=0 out: [a,timer@15000 wm=20000] [d,timer@19000 wm=20000] | 0/0/0/0",
        ]
    );
}

/// `spec/09` H05: 3 s on value, list and map.
#[derive(Clone, Default)]
struct Expiring {
    value: ValueState<i64>,
    list: ListState<i64>,
    map: MapState<String, i64>,
}

impl StatefulProcessor for Expiring {
    type Key = String;
    type Row = Word;
    type Output = (String, String);

    fn init(&mut self, handle: &StatefulProcessorHandle, _: OutputMode, _: TimeMode) -> Result<(), Error> {
        let ttl = TtlConfig::of("3 seconds")?;
        self.value = handle.get_value_state("v", ttl)?;
        self.list = handle.get_list_state("l", ttl)?;
        self.map = handle.get_map_state("m", ttl)?;
        Ok(())
    }

    fn handle_input_rows(&mut self, key: &String, rows: Values<'_, Word>, timers: &TimerValues) -> Rows {
        for row in rows {
            match row.v.split_once(':') {
                Some(("put", x)) => {
                    let n = x.parse().expect("a number");
                    self.value.update(n)?;
                    self.list.append_value(n)?;
                    self.map.update_value(x.to_owned(), n)?;
                }
                Some(("mput", x)) => {
                    self.map.update_value(x.to_owned(), format!("{x}{x}").parse().expect("a number"))?
                }
                _ => (),
            }
        }
        let value = self.value.get()?.map_or("-".to_owned(), |value| value.to_string());
        let list: Vec<_> = self.list.get()?.iter().map(ToString::to_string).collect();
        let map: Vec<_> = self.map.entries()?.iter().map(|(k, v)| format!("({k} {v})")).collect();
        let now = timers.get_current_processing_time_ms();
        assert_eq!((list.is_empty(), map.is_empty()), (!self.list.exists()?, !self.map.exists()?));
        Ok(vec![(key.clone(), format!("pt={now} v={value} l={} m={}", list.join("+"), map.join("+")))])
    }
}

#[test]
fn values_elements_and_entries_end_with_their_lifetime() {
    let put = |what: &str| [Row::from(("k", what))];
    let run = StreamTest::new(job(Expiring::default(), TimeMode::ProcessingTime))
        .manual_clock()
        .starting_at("1970-01-01 00:00:01")
        .start_with(every_second())
        .add_data("words", put("put:1"))
        .advance_clock(SECOND)
        .add_data("words", put("get"))
        .advance_clock(SECOND)
        .add_data("words", put("put:2"))
        .advance_clock(SECOND)
        .add_data("words", put("get"))
        .advance_clock(SECOND)
        .add_data("words", put("mput:2"))
        .advance_clock(SECOND)
        .add_data("words", put("get"))
        .advance_clock(SECOND)
        .advance_clock(SECOND)
        .add_data("words", put("get"))
        .advance_clock(SECOND)
        .stop()
        .run();
    assert_eq!(
        told(&run),
        [
            "b0 rows=1 out: [k,pt=2000 v=1 l=1 m=(1 1)] | 3/3/0/0",
            "b1 rows=1 out: [k,pt=3000 v=1 l=1 m=(1 1)] | 3/0/0/0",
            "b2 rows=1 out: [k,pt=4000 v=2 l=1+2 m=(1 1)+(2 2)] | 4/3/0/0",
            "b3 rows=1 out: [k,pt=5000 v=2 l=2 m=(2 2)] | 3/0/2/0",
            "b4 rows=1 out: [k,pt=6000 v=2 l=2 m=(2 22)] | 3/1/0/0",
            "b5 rows=1 out: [k,pt=7000 v=- l= m=(2 22)] | 1/0/2/0",
            "b6 rows=0 out:  | 1/0/0/0",
            "b7 rows=1 out: [k,pt=9000 v=- l= m=] | 0/0/1/0",
        ]
    );
}

/// `spec/09` H06, and every method of the three kinds of variables, over a crash.
#[derive(Clone, Default)]
struct Everything {
    value: ValueState<Option<i64>>,
    list: ListState<String>,
    map: MapState<(i32, String), Vec<i64>>,
}

impl StatefulProcessor for Everything {
    type Key = String;
    type Row = Word;
    type Output = (String, String);

    fn init(&mut self, handle: &StatefulProcessorHandle, _: OutputMode, _: TimeMode) -> Result<(), Error> {
        self.value = handle.get_value_state("value", TtlConfig::NONE)?;
        self.list = handle.get_list_state("list", TtlConfig::NONE)?;
        self.map = handle.get_map_state("map", TtlConfig::NONE)?;
        Ok(())
    }

    fn handle_input_rows(&mut self, key: &String, rows: Values<'_, Word>, _: &TimerValues) -> Rows {
        let entry = |n: i32| (n, format!("e{n}"));
        for row in rows {
            match row.v.as_str() {
                "null" => self.value.update(None)?,
                "value" => self.value.update(Some(self.value.get()?.flatten().unwrap_or(0) + 1))?,
                "append" => {
                    self.list.append_value("x".into())?;
                    self.list.append_list(vec!["y".into(), "z".into()])?;
                }
                "put" => self.list.put(vec!["p".into()])?,
                "empty" => self.list.put(vec![])?,
                "map" => {
                    self.map.update_value(entry(1), vec![1])?;
                    self.map.update_value(entry(2), vec![])?;
                    self.map.update_value(entry(1), vec![1, 1])?;
                    assert!(self.map.contains_key(&entry(1))? && !self.map.contains_key(&entry(9))?);
                }
                "unmap" => self.map.remove_key(&entry(1))?,
                "clear" => {
                    self.value.clear()?;
                    self.list.clear()?;
                    self.map.clear()?;
                }
                _ => (),
            }
        }
        let map = self.map.keys()?.into_iter().zip(self.map.values()?).map(|((n, _), v)| format!("{n}:{}", v.len()));
        let map = map.collect::<Vec<_>>().join(",");
        Ok(vec![(key.clone(), format!("{:?} {} {map}", self.value.get()?.flatten(), self.list.get()?.concat()))])
    }
}

#[test]
fn all_kinds_of_variables_do_what_their_methods_say() {
    let send = |what: &[&'static str]| what.iter().map(|v| Row::from(("k", *v))).collect::<Vec<_>>();
    StreamTest::new(job(Everything::default(), TimeMode::None))
        .add_data("words", send(&["null"]))
        .check_new_answer([("k", "None  ")])
        .check_state(StateRows::total([0]).updated([0]))
        .add_data("words", send(&["value", "append", "map", "value"]))
        .check_new_answer([("k", "Some(2) xyz 1:2,2:0")])
        .check_state(StateRows::total([4]))
        .crash()
        .start()
        .add_data("words", send(&["append", "unmap", "value"]))
        .check_new_answer([("k", "Some(3) xyzxyz 2:0")])
        .check_state(StateRows::total([3]))
        .add_data("words", send(&["put", "append"]))
        .check_new_answer([("k", "Some(3) pxyz 2:0")])
        .stop()
        .start()
        .add_data("words", send(&["get"]))
        .check_new_answer([("k", "Some(3) pxyz 2:0")])
        .add_data("words", send(&["clear", "map"]))
        .check_new_answer([("k", "None  1:2,2:0")])
        .check_state(StateRows::total([2]))
        .add_data("words", send(&["clear"]))
        .check_new_answer([("k", "None  ")])
        .check_state(StateRows::total([0]))
        .add_data("words", send(&["empty"]))
        .expect_failure("ILLEGAL_STATE_STORE_VALUE.EMPTY_LIST_VALUE")
        .run();
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

/// What a processor may not do (`spec/09` U07, `spec/04` section 6).
#[derive(Clone, Default)]
struct Wrong {
    what: &'static str,
    handle: StatefulProcessorHandle,
    value: ValueState<i64>,
}

impl StatefulProcessor for Wrong {
    type Key = String;
    type Row = Word;
    type Output = (String, String);

    fn init(&mut self, handle: &StatefulProcessorHandle, _: OutputMode, _: TimeMode) -> Result<(), Error> {
        self.handle = handle.clone();
        let state = |name: &str, ttl| handle.get_value_state::<i64>(name, ttl);
        match self.what {
            "twice" => drop((state("a", TtlConfig::NONE)?, state("a", TtlConfig::NONE)?)),
            "name" => drop(state("", TtlConfig::NONE)?),
            "reserved" => drop(state("_a", TtlConfig::NONE)?),
            "ttl" => drop(state("a", TtlConfig { duration_ms: 5 })?),
            "negative" => drop(state("a", TtlConfig { duration_ms: -5 })?),
            "use" => state("a", TtlConfig::NONE)?.update(1)?,
            "timer" => handle.register_timer(1)?,
            _ => (),
        }
        Ok(())
    }

    fn handle_input_rows(&mut self, _: &String, _: Values<'_, Word>, _: &TimerValues) -> Rows {
        match self.what {
            "late" => drop(self.handle.get_value_state::<i64>("late", TtlConfig::NONE)?),
            "none" => self.value.update(1)?,
            "error" => return Err(Error::analysis("no")),
            "panic" => panic!("no"),
            _ => (),
        }
        Ok(vec![])
    }
}

#[tokio::test]
async fn misuse_is_refused_with_sparks_classes() -> Result<(), Error> {
    let session = wavetank::session()?;
    let words = session.sql("SELECT 'a' AS k, 'b' AS v").await?.group_by([col("k")]);
    let wrong = |what| Wrong { what, ..Wrong::default() };
    let invalid = "STATEFUL_PROCESSOR_CANNOT_PERFORM_OPERATION_WITH_INVALID_HANDLE_STATE";
    for (what, class) in [
        ("twice", "STATEFUL_PROCESSOR_DUPLICATE_STATE_VARIABLE_DEFINED"),
        ("name", "STATE_STORE_CANNOT_USE_COLUMN_FAMILY_WITH_INVALID_NAME"),
        ("reserved", "STATE_STORE_CANNOT_CREATE_COLUMN_FAMILY_WITH_RESERVED_CHARS"),
        ("ttl", "STATEFUL_PROCESSOR_INCORRECT_TIME_MODE_TO_ASSIGN_TTL"),
        ("negative", "STATEFUL_PROCESSOR_TTL_DURATION_MUST_BE_POSITIVE"),
        ("use", invalid),
        ("timer", invalid),
    ] {
        let error = words.transform_with_state(wrong(what), TimeMode::EventTime, OutputMode::Update).unwrap_err();
        assert_eq!(error.class(), Some(class), "{what}: {error}");
    }
    for (what, class) in [
        ("late", invalid),
        ("none", "STATE_STORE_HANDLE_NOT_INITIALIZED"),
        ("error", "TRANSFORM_WITH_STATE_USER_FUNCTION_ERROR"),
        ("panic", "TRANSFORM_WITH_STATE_USER_FUNCTION_ERROR"),
    ] {
        let frame = words.transform_with_state(wrong(what), TimeMode::None, OutputMode::Update)?;
        let error = frame.collect().await.unwrap_err();
        assert_eq!(error.class(), Some(class), "{what}: {error}");
    }
    Ok(())
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

/// Five thousand keys with two timers each: several visits of the stores, all timers in one batch.
#[derive(Clone, Default)]
struct Twice {
    handle: StatefulProcessorHandle,
    fired: ValueState<i64>,
}

impl StatefulProcessor for Twice {
    type Key = String;
    type Row = Event;
    type Output = (String, i64);

    fn init(&mut self, handle: &StatefulProcessorHandle, _: OutputMode, _: TimeMode) -> Result<(), Error> {
        self.handle = handle.clone();
        self.fired = handle.get_value_state("fired", TtlConfig::NONE)?;
        Ok(())
    }

    fn handle_input_rows(
        &mut self,
        _: &String,
        _: Values<'_, Event>,
        _: &TimerValues,
    ) -> Result<Vec<(String, i64)>, Error> {
        self.handle.register_timer(20_000)?;
        self.handle.register_timer(20_001)?;
        Ok(vec![])
    }

    fn handle_expired_timer(
        &mut self,
        key: &String,
        _: &TimerValues,
        _: &ExpiredTimerInfo,
    ) -> Result<Vec<(String, i64)>, Error> {
        let fired = self.fired.get()?.unwrap_or(0) + 1;
        self.fired.update(fired)?;
        Ok(vec![(key.clone(), fired)])
    }
}

#[test]
fn many_timers_fire_in_one_batch() {
    let job = Job::frame(async |session: Session| {
        let events = session.table("events").await?.with_watermark("at", "10 seconds")?.group_by([col("k")]);
        events.transform_with_state(Twice::default(), TimeMode::EventTime, OutputMode::Append)
    });
    let rows: Vec<Row> = (0..5_000).map(|n| Row::from((format!("k{n}"), 10))).collect();
    StreamTest::new(job.source("events", "k STRING, at TIMESTAMP"))
        .add_data("events", rows)
        .check_new_answer(NO_ROWS)
        .crash()
        .start()
        .add_data("events", [("last", 40)])
        .check_answer_by("each fired twice", |rows| {
            rows.len() == 10_002 && rows.iter().filter(|row| row[1] == 2).count() == 5_001
        })
        .check_state(StateRows::total([5_001]))
        .run();
}
