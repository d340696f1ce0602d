//! Group state in simulated worlds: queries with user functions are crashed at every effect, their sinks read afterwards.

use datafusion::prelude::col;
use futures::FutureExt;
use futures::future::LocalBoxFuture;
use serde::Deserialize;
use wavetank_engine::Result;
use wavetank_engine::conf::OWED_NO_DATA_BATCH;
use wavetank_engine::dataframe::DataFrame;
use wavetank_engine::groups::{
    ExpiredTimerInfo, GroupState, GroupStateTimeout, ListState, MapState, StatefulProcessor, StatefulProcessorHandle,
    TimeMode, TimerValues, Timestamp, TtlConfig, ValueState, Values,
};
use wavetank_engine::query::StreamingQuery;
use wavetank_engine::session::SessionBuilder;
use wavetank_engine::sink::OutputMode;
use wavetank_sim::subject::{Life, Running, Subject};
use wavetank_sim::sweep::{Depth, Sweep, sweep};
use wavetank_sim::{Scenario, Step, run};

/// A query that Rust builds over the script's table `events`.
struct Built {
    mode: OutputMode,
    build: fn(&DataFrame) -> Result<DataFrame>,
}

struct Query(StreamingQuery);

impl Subject for Built {
    fn start<'a>(&'a self, life: Life<'a>) -> LocalBoxFuture<'a, Result<Box<dyn Running>>> {
        async move {
            let session = SessionBuilder::new(life.environment).sources(life.sources).sinks(life.sinks).build()?;
            for (key, value) in &life.settings {
                session.set_conf(key, value)?;
            }
            // Whether a crash comes before or after the batch without data may not be seen.
            session.set_conf(OWED_NO_DATA_BATCH, "true")?;
            session.run_script(life.script).await?;
            let events = session.sql("SELECT * FROM STREAM events").await?.with_watermark("ts", "10 seconds")?;
            let query = (self.build)(&events)?
                .write_stream()
                .format("witness")
                .query_name("out")
                .output_mode(self.mode)
                .option("checkpointLocation", "checkpoint");
            Ok(Box::new(Query(query.start().await?)) as Box<dyn Running>)
        }
        .boxed_local()
    }
}

impl Running for Query {
    fn settle(&self) -> LocalBoxFuture<'_, Result<()>> {
        self.0.process_all_available().boxed_local()
    }

    fn stop(&self) -> LocalBoxFuture<'_, Result<()>> {
        self.0.stop_after_batch();
        self.0.await_termination().boxed_local()
    }
}

fn scenario() -> Scenario {
    let script = "CREATE TABLE events (ts TIMESTAMP, k STRING, v BIGINT) USING tape OPTIONS (name 'events', \
                  blocksPerTrigger '1');\nSET spark.sql.shuffle.partitions = 2;";
    let blocks: [&[(&str, &str, i64)]; 3] =
        [&[("01", "a", 1), ("04", "b", 2), ("02", "a", 3)], &[("31", "c", 4)], &[("59", "d", 5), ("35", "c", 6)]];
    let mut steps = vec![];
    for block in blocks {
        let row =
            |(second, k, v): &(&str, &str, i64)| format!(r#"{{"ts":"2024-01-01T00:00:{second}Z","k":"{k}","v":{v}}}"#);
        steps.push(Step::Add { tape: "events".into(), rows: block.iter().map(row).collect() });
        steps.push(Step::Settle);
    }
    Scenario { seed: 1, script: script.into(), steps, ..Scenario::default() }
}

fn assert_sound(found: &Sweep, subject: &Built) {
    println!("{found}");
    if let Some((scenario, failures)) = found.failures.first() {
        let baseline = run(&scenario.undisturbed(), subject);
        let run = run(scenario, subject);
        panic!("{}\n{found}", wavetank_sim::page::text(scenario, &run, &baseline, failures, &scenario.to_toml()));
    }
    let total = found.total();
    assert!(total.exist > 0, "{found}");
    assert_eq!(total.reached, total.exist, "{found}");
}

#[derive(Deserialize)]
struct Event {
    ts: Timestamp,
    v: i64,
}

/// Sums; a key comes out, and is forgotten, 5 seconds after its last row.
fn sums(events: &DataFrame) -> Result<DataFrame> {
    let sum = |key: String, events: Values<'_, Event>, state: &mut GroupState<(i64, Timestamp)>| {
        if state.has_timed_out() {
            let answer = (key, state.get()?.0);
            state.remove();
            return Ok(Some(answer));
        }
        let (mut sum, mut last) = state.get_option().copied().unwrap_or((0, Timestamp(0)));
        for Event { ts, v } in events {
            (sum, last) = (sum + v, last.max(ts));
        }
        state.update((sum, last));
        state.set_timeout_timestamp_after(last.millis(), "5 seconds")?;
        Ok(None)
    };
    events.group_by([col("k")]).flat_map_groups_with_state(OutputMode::Append, GroupStateTimeout::EventTimeTimeout, sum)
}

#[test]
fn group_state_and_its_timeouts_survive_every_crash() {
    let subject = Built { mode: OutputMode::Append, build: sums };
    let undisturbed = run(&scenario(), &subject);
    assert!(undisturbed.failures.is_empty(), "{:?}", undisturbed.failures);
    assert_sound(&sweep(&scenario(), &subject, &Depth::single()), &subject);
}

/// All kinds of variables, and timers: what was seen of a key comes out 5 seconds after its last row.
#[derive(Clone, Default)]
struct Collector {
    handle: StatefulProcessorHandle,
    last: ValueState<i64>,
    values: ListState<i64>,
    counts: MapState<i64, i64>,
}

impl StatefulProcessor for Collector {
    type Key = String;
    type Row = Event;
    type Output = (String, String);

    fn init(&mut self, handle: &StatefulProcessorHandle, _: OutputMode, _: TimeMode) -> Result<()> {
        self.handle = handle.clone();
        self.last = handle.get_value_state("last", TtlConfig::NONE)?;
        self.values = handle.get_list_state("values", TtlConfig::NONE)?;
        self.counts = handle.get_map_state("counts", TtlConfig::NONE)?;
        Ok(())
    }

    fn handle_input_rows(
        &mut self,
        _: &String,
        events: Values<'_, Event>,
        _: &TimerValues,
    ) -> Result<Vec<(String, String)>> {
        for Event { ts, v } in events {
            self.values.append_value(v)?;
            self.counts.update_value(v % 2, self.counts.get_value(&(v % 2))?.unwrap_or(0) + 1)?;
            let before = self.last.get()?.unwrap_or(0);
            if ts.millis() > before {
                self.handle.delete_timer(before + 5000)?;
                self.handle.register_timer(ts.millis() + 5000)?;
                self.last.update(ts.millis())?;
            }
        }
        Ok(vec![])
    }

    fn handle_expired_timer(
        &mut self,
        key: &String,
        _: &TimerValues,
        _: &ExpiredTimerInfo,
    ) -> Result<Vec<(String, String)>> {
        let answer = format!("{:?} {:?}", self.values.get()?, self.counts.entries()?);
        self.last.clear()?;
        self.values.clear()?;
        self.counts.clear()?;
        Ok(vec![(key.clone(), answer)])
    }
}

#[test]
fn variables_and_timers_survive_every_crash() {
    let build = |events: &DataFrame| {
        let grouped = events.group_by([col("k")]);
        grouped.transform_with_state(Collector::default(), TimeMode::EventTime, OutputMode::Append)
    };
    let subject = Built { mode: OutputMode::Append, build };
    let images =
        vec![wavetank_sim::CrashImage::Kill, wavetank_sim::CrashImage::Strict, wavetank_sim::CrashImage::Chaos];
    assert_sound(&sweep(&scenario(), &subject, &Depth { images, ..Depth::single() }), &subject);
}
