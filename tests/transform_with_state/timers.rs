//! Timers, by the clock and in event time.

use super::*;

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
