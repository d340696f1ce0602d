//! Restarts of user functions over groups: the rows "(flat)mapGroupsWithState user function" and "transformWithState" of
//! `spec/08`, with what Spark 4.3.0 answered (`spark-4.3.0.json`: jobs apart by ` -> `, what each run answered).
//!
//! A job is `fm TYPE TIMEOUT [map] [neg] [intkey]`, a sum in the state of a function, or `tws TIME VARIABLES
//! [out=append]`, with variables `name:value:TYPE`, `name:list:TYPE`, `name:map:TYPE:TYPE`, `!ms` for a lifetime and
//! `-name` for delete_if_exists. ` @ ` is followed by the encoding format of each run.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use datafusion::prelude::col;
use serde::Deserialize;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use wavetank::groups::{
    GroupState, GroupStateTimeout, ListState, MapState, StatefulProcessor, StatefulProcessorHandle, TimeMode,
    TimerValues, Timestamp, TtlConfig, ValueState, Values,
};
use wavetank::prelude::*;
use wavetank::sinks::{ForeachBatch, ForeachBatchProvider};
use wavetank::{Environment, Error};

use super::{files, input, stream};
use crate::support;

const ANSWERS: &str = include_str!("spark-4.3.0.json");

/// Where we do otherwise, with the class that we answer in the last run.
const OTHERWISE: [(&str, &str); 1] = [
    // Spark takes the bytes of the values for lists: INTERNAL_ERROR, some batches later.
    (
        "tws None s:value:long,t:value:long -> tws None s:value:long -> tws None s:value:long,t:list:long",
        "STATE_STORE_INVALID_VARIABLE_TYPE_CHANGE",
    ),
];

#[tokio::test]
async fn functions_change_between_restarts_as_in_spark() {
    let answers: BTreeMap<String, Vec<Value>> = serde_json::from_str(ANSWERS).expect("readable answers");
    let only = std::env::var("WAVETANK_RESTART").ok();
    let mut wrong = vec![];
    for (question, answers) in &answers {
        if only.as_ref().is_some_and(|only| !question.contains(only)) {
            continue;
        }
        let folder = tempfile::tempdir().expect("a folder");
        if let Err(why) = check(question, answers, folder.path()).await {
            wrong.push(format!("{question}: {why}"));
        }
    }
    assert!(answers.len() > 70 && wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}

async fn check(question: &str, answers: &[Value], folder: &Path) -> Result<(), String> {
    let (jobs, formats) = question.split_once(" @ ").unwrap_or((question, "unsaferow"));
    let formats: Vec<_> = formats.split(' ').collect();
    let jobs: Vec<_> = jobs.split(" -> ").collect();
    let arrivals: &[std::ops::Range<usize>] = if jobs.len() == 2 { &[0..2, 2..4] } else { &[0..2, 2..3, 3..5] };
    let once = question.contains("ProcessingTime");
    for (at, (job, answer)) in jobs.iter().zip(answers).enumerate() {
        input(folder, arrivals[at].clone());
        let written = files(&folder.join("checkpoint"));
        let format = formats.get(at).unwrap_or(&formats[0]);
        let got = run(job, format, once, folder).await;
        let otherwise =
            OTHERWISE.iter().find(|(of, _)| *of == question && at + 1 == jobs.len()).map(|(_, class)| *class);
        let refused = otherwise.map(Value::from).or_else(|| answer.get("class").cloned());
        match (refused, got) {
            (Some(class), Err(error)) if error.class() == class.as_str() => {
                let words = error.to_string().split_whitespace().count();
                if files(&folder.join("checkpoint")) != written || words < 12 {
                    return Err(format!("run {at}: refused, but the checkpoint changed, or too short: {error}"));
                }
            }
            (None, Ok(got)) if got == rows_of(answer) => {}
            (_, got) => return Err(format!("run {at}: expected {answer}, got {got:?}")),
        }
    }
    Ok(())
}

#[tokio::test]
async fn the_state_of_a_batch_is_read_as_it_was_then() -> Result<(), Error> {
    let folder = tempfile::tempdir().expect("a folder");
    input(folder.path(), 0..2);
    run("tws None s:value:long,t:value:long", "unsaferow", false, folder.path()).await?;
    input(folder.path(), 2..4);
    run("tws None s:value:double,-t,u:list:long", "avro", false, folder.path()).await?;
    let session = wavetank::session_builder(Environment::real(folder.path().to_owned())).build()?;
    let state = async |store: &str, batch_id: &str| {
        let table = session.read().format("statestore").option("storeName", store).option("batchId", batch_id);
        let rows = table.load_path("checkpoint").await?.select_expr(&["value.value AS v"])?.collect().await?;
        let mut rows: Vec<_> = support::compare::rows_of(&rows).iter().map(|row| row[0].to_string()).collect();
        rows.sort();
        Ok::<_, Error>(rows.join(" "))
    };
    assert_eq!((state("t", "1").await?, state("s", "1").await?), ("2 4".into(), "2 4".into()));
    assert_eq!((state("s", "2").await?, state("u", "3").await?), ("2.0 9.0".into(), "5 7".into()));
    for (store, batch_id) in [("t", "2"), ("u", "1")] {
        let error = state(store, batch_id).await.expect_err("it is not there").to_string();
        assert!(error.contains(&format!("has no store '{store}'")), "{error}");
    }
    Ok(())
}

/// Batches of rows; a batch's rows have no order.
fn rows_of(answer: &Value) -> Vec<Vec<String>> {
    let batch = |batch: &Value| {
        let mut rows: Vec<_> = batch.as_array().into_iter().flatten().map(Value::to_string).collect();
        rows.sort();
        rows
    };
    answer.as_array().into_iter().flatten().map(batch).collect()
}

async fn run(job: &str, format: &str, once: bool, folder: &Path) -> Result<Vec<Vec<String>>, Error> {
    let session = wavetank::session_builder(Environment::real(folder.to_owned())).build()?;
    session.set_conf("spark.sql.streaming.stateStore.encodingFormat", format)?;
    session.set_conf("spark.sql.shuffle.partitions", "2")?;
    let columns = "k STRING, v INT, ts TIMESTAMP";
    let events =
        stream(&session, "events", "json", Some(columns), &[("path", "in"), ("maxFilesPerTrigger", "1")]).await?;
    let words: Vec<&str> = job.split(' ').collect();
    let events = if words.contains(&"EventTime") { events.with_watermark("ts", "10 seconds")? } else { events };
    let frame = if words[0] == "fm" { function(&events, &words)? } else { processor(&events, &words)? };
    let batches = Arc::new(Mutex::new(BTreeMap::new()));
    let seen = Arc::clone(&batches);
    let sink = ForeachBatchProvider::blocking(move |batch: ForeachBatch| {
        let rows = Value::from_iter(support::compare::rows_of(&batch.rows).into_iter().map(Value::Array));
        seen.lock().expect("no panic here").insert(batch.batch_id, rows);
        Ok::<(), Error>(())
    });
    let trigger = if once { Trigger::Once } else { Trigger::AvailableNow };
    let writer = frame.write_stream().output_mode(OutputMode::Update).trigger(trigger).sink(Arc::new(sink));
    writer.option("checkpointLocation", "checkpoint").start().await?.await_termination().await?;
    let batches = batches.lock().expect("no panic here");
    Ok(rows_of(&batches.values().cloned().collect()))
}

/// A value that functions keep, made of a number.
trait Number: Serialize + DeserializeOwned + Clone + Send + Sync + 'static {
    fn of(n: i64) -> Self;
    fn number(&self) -> i64;
    fn text(&self) -> String;
}

impl Number for i64 {
    fn of(n: i64) -> Self {
        n
    }
    fn number(&self) -> i64 {
        *self
    }
    fn text(&self) -> String {
        self.to_string()
    }
}

impl Number for i32 {
    fn of(n: i64) -> Self {
        n as Self
    }
    fn number(&self) -> i64 {
        (*self).into()
    }
    fn text(&self) -> String {
        self.to_string()
    }
}

impl Number for f64 {
    fn of(n: i64) -> Self {
        n as Self
    }
    fn number(&self) -> i64 {
        *self as i64
    }
    fn text(&self) -> String {
        format!("{self:?}")
    }
}

impl Number for String {
    fn of(n: i64) -> Self {
        n.to_string()
    }
    fn number(&self) -> i64 {
        self.parse().expect("a number")
    }
    fn text(&self) -> String {
        self.clone()
    }
}

impl<T: Number> Number for Option<T> {
    fn of(n: i64) -> Self {
        Some(T::of(n))
    }
    fn number(&self) -> i64 {
        self.as_ref().map_or(0, T::number)
    }
    fn text(&self) -> String {
        self.as_ref().map_or("null".into(), T::text)
    }
}

/// A struct with all fields made of the same number.
macro_rules! number_struct {
    ($name:ident, $($field:ident: $type:ty),+) => {
        #[derive(Clone, Serialize, Deserialize)]
        struct $name { $($field: $type),+ }
        impl Number for $name {
            fn of(n: i64) -> Self {
                Self { $($field: Number::of(n)),+ }
            }
            fn number(&self) -> i64 {
                [$(self.$field.number()),+][0]
            }
            fn text(&self) -> String {
                format!("[{}]", [$(self.$field.text()),+].join(","))
            }
        }
    };
}
number_struct!(A, a: i64);
number_struct!(AB, a: i64, b: i64);
number_struct!(BA, b: i64, a: i64);
number_struct!(AC, a: i64, c: i64);
number_struct!(Abc, a: i64, b: i64, c: Option<i64>);
number_struct!(AbText, a: i64, b: String);
number_struct!(IntAB, a: i32, b: i64);
number_struct!(TextAB, a: String, b: i64);

#[derive(Deserialize)]
struct Event {
    v: i64,
    ts: Timestamp,
}

fn function(events: &DataFrame, words: &[&str]) -> Result<DataFrame, Error> {
    match words[1] {
        "long" => sums::<i64>(events, words),
        "int" => sums::<i32>(events, words),
        "string" => sums::<String>(events, words),
        "a_long" => sums::<A>(events, words),
        "a_long;b_long" => sums::<AB>(events, words),
        "a_long;c_long" => sums::<AC>(events, words),
        "a_long;b_string" => sums::<AbText>(events, words),
        other => panic!("a state of type {other}"),
    }
}

fn sums<S: Number>(events: &DataFrame, words: &[&str]) -> Result<DataFrame, Error> {
    let timeout = match words[2] {
        "ProcessingTime" => GroupStateTimeout::ProcessingTimeTimeout,
        "EventTime" => GroupStateTimeout::EventTimeTimeout,
        _ => GroupStateTimeout::NoTimeout,
    };
    let sign = if words.contains(&"neg") { -1 } else { 1 };
    let sum = move |key: String, events: Values<'_, Event>, state: &mut GroupState<S>| {
        if state.has_timed_out() {
            let text = state.get()?.text();
            state.remove();
            return Ok::<_, Error>((key, format!("timed out {text}")));
        }
        let (mut sum, mut latest_ms) = (state.get_option().map_or(0, S::number), 0);
        for Event { v, ts } in events {
            sum += sign * v;
            latest_ms = ts.millis().max(latest_ms);
        }
        state.update(S::of(sum));
        match timeout {
            GroupStateTimeout::NoTimeout => (),
            GroupStateTimeout::ProcessingTimeTimeout => state.set_timeout_duration("1 hour")?,
            GroupStateTimeout::EventTimeTimeout => state.set_timeout_timestamp(latest_ms + 20_000)?,
        }
        Ok((key, S::of(sum).text()))
    };
    let groups = events.group_by([col("k")]);
    if words.contains(&"map") {
        return groups.map_groups_with_state(timeout, sum);
    }
    if words.contains(&"intkey") {
        let by_number = move |key: i64, events: Values<'_, Event>, state: &mut GroupState<S>| {
            sum(key.to_string(), events, state).map(Some)
        };
        return events.group_by([col("v")]).flat_map_groups_with_state(OutputMode::Update, timeout, by_number);
    }
    let one =
        move |key: String, events: Values<'_, Event>, state: &mut GroupState<S>| sum(key, events, state).map(Some);
    groups.flat_map_groups_with_state(OutputMode::Update, timeout, one)
}

fn processor(events: &DataFrame, words: &[&str]) -> Result<DataFrame, Error> {
    let time_mode = match words[1] {
        "ProcessingTime" => TimeMode::ProcessingTime,
        "EventTime" => TimeMode::EventTime,
        _ => TimeMode::None,
    };
    let mode = if words.contains(&"out=append") { OutputMode::Append } else { OutputMode::Update };
    let processor = Variables { wanted: words[2].to_owned(), made: vec![] };
    events.group_by([col("k")]).transform_with_state(processor, time_mode, mode)
}

/// A state variable of any kind and type: takes the values of a batch, says what it has.
trait Variable: Send + Sync {
    fn take(&self, values: &[i64]) -> Result<String, Error>;
}

impl<T: Number> Variable for ValueState<T> {
    fn take(&self, values: &[i64]) -> Result<String, Error> {
        let before = self.get()?;
        let after = T::of(before.as_ref().map_or(0, T::number) + values.iter().sum::<i64>());
        self.update(after.clone())?;
        Ok(format!("{}>{}", before.map_or("-".into(), |before| before.text()), after.text()))
    }
}

impl<T: Number> Variable for ListState<T> {
    fn take(&self, values: &[i64]) -> Result<String, Error> {
        self.append_list(values.iter().map(|v| T::of(*v)).collect())?;
        Ok(self.get()?.iter().map(T::text).collect::<Vec<_>>().join("/"))
    }
}

impl<K: Number + Ord, V: Number> Variable for MapState<K, V> {
    fn take(&self, values: &[i64]) -> Result<String, Error> {
        values.iter().try_for_each(|v| self.update_value(K::of(*v), V::of(v * 10)))?;
        let mut all: Vec<_> = self.entries()?.iter().map(|(k, v)| format!("{}:{}", k.text(), v.text())).collect();
        all.sort();
        Ok(all.join("/"))
    }
}

fn variable(handle: &StatefulProcessorHandle, text: &str) -> Result<Arc<dyn Variable>, Error> {
    fn value<T: Number>(
        handle: &StatefulProcessorHandle,
        name: &str,
        ttl: TtlConfig,
    ) -> Result<Arc<dyn Variable>, Error> {
        Ok(Arc::new(handle.get_value_state::<T>(name, ttl)?))
    }
    let (text, ttl) = match text.split_once('!') {
        Some((text, ms)) => (text, TtlConfig { duration_ms: ms.parse().expect("milliseconds") }),
        None => (text, TtlConfig::NONE),
    };
    let parts: Vec<&str> = text.split(':').collect();
    let name = parts[0];
    Ok(match &parts[1..] {
        ["value", "long"] => value::<i64>(handle, name, ttl)?,
        ["value", "int"] => value::<i32>(handle, name, ttl)?,
        ["value", "double"] => value::<f64>(handle, name, ttl)?,
        ["value", "string"] => value::<String>(handle, name, ttl)?,
        ["value", "a_long"] => value::<A>(handle, name, ttl)?,
        ["value", "a_long;b_long"] => value::<AB>(handle, name, ttl)?,
        ["value", "b_long;a_long"] => value::<BA>(handle, name, ttl)?,
        ["value", "a_long;c_long"] => value::<AC>(handle, name, ttl)?,
        ["value", "a_long;b_long;c_long"] => value::<Abc>(handle, name, ttl)?,
        ["value", "a_int;b_long"] => value::<IntAB>(handle, name, ttl)?,
        ["value", "a_string;b_long"] => value::<TextAB>(handle, name, ttl)?,
        ["list", "long"] => Arc::new(handle.get_list_state::<i64>(name, ttl)?),
        ["list", "int"] => Arc::new(handle.get_list_state::<i32>(name, ttl)?),
        ["map", "long", "long"] => Arc::new(handle.get_map_state::<i64, i64>(name, ttl)?),
        ["map", "string", "long"] => Arc::new(handle.get_map_state::<String, i64>(name, ttl)?),
        ["map", "long", "string"] => Arc::new(handle.get_map_state::<i64, String>(name, ttl)?),
        other => panic!("a variable {other:?}"),
    })
}

#[derive(Clone)]
struct Variables {
    wanted: String,
    made: Vec<(String, Arc<dyn Variable>)>,
}

impl StatefulProcessor for Variables {
    type Key = String;
    type Row = Event;
    type Output = (String, String);

    fn init(&mut self, handle: &StatefulProcessorHandle, _: OutputMode, _: TimeMode) -> Result<(), Error> {
        for text in self.wanted.split(',') {
            match text.strip_prefix('-') {
                Some(name) => handle.delete_if_exists(name)?,
                None => self.made.push((text.split(':').next().unwrap_or("").to_owned(), variable(handle, text)?)),
            }
        }
        Ok(())
    }

    fn handle_input_rows(
        &mut self,
        key: &String,
        rows: Values<'_, Event>,
        _: &TimerValues,
    ) -> Result<Vec<(String, String)>, Error> {
        let values: Vec<i64> = rows.map(|event| event.v).collect();
        let texts = self.made.iter().map(|(name, variable)| Ok(format!("{name}={}", variable.take(&values)?)));
        Ok(vec![(key.clone(), texts.collect::<Result<Vec<_>, Error>>()?.join(" "))])
    }
}
