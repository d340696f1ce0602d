//! User functions over groups, a second time: what `crate::groups` does with the engine's state, done on plain maps.
//!
//! Spec/04 sections 5 and 6, one key and one row at a time: every key with rows is called once, then every key whose
//! timeout has passed, or every timer whose time has come. What has outlived its lifetime is never seen, and gone at
//! the end of the batch.

use std::collections::{BTreeMap, BTreeSet};

use super::exec::{Batch, Row, event_time_column, index_of, is_up_to, key_of};
use super::expr::{Column, ColumnId};
use super::ledger::Bucket;
use super::plan::Plan;
use super::refusal::Refusal;
use super::state::{State, wrong_state};
use super::value::{Type, Value};
use crate::groups::{GroupJob, Timing};

/// What a function keeps, by key.
#[derive(Debug, Clone, Default)]
pub struct Users {
    begun: bool,
    keys: BTreeMap<Vec<Value>, Kept>,
}

/// What is kept of one key: a state with its timeout, or variables with timers.
#[derive(Debug, Clone, Default)]
struct Kept {
    state: Option<Seen>,
    timeout_ms: Option<i64>,
    value: Option<Living>,
    list: Vec<Living>,
    map: BTreeMap<i64, Living>,
    timers: BTreeSet<i64>,
    /// A state that was removed with a timeout, which has passed: an entry without anything stays for ever.
    is_hollow: bool,
}

#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    rows: i64,
    sum: i64,
    last_ms: i64,
}

/// A number that may have an end.
#[derive(Debug, Clone, Copy)]
struct Living {
    n: i64,
    ends_ms: Option<i64>,
}

/// A row as functions take it.
struct Event {
    ts_us: Option<i64>,
    v: Option<i64>,
}

impl Event {
    fn ts_ms(&self) -> Option<i64> {
        self.ts_us.map(|us| us.div_euclid(1000))
    }
}

/// The times of a batch.
#[derive(Clone, Copy)]
struct Times {
    now_ms: i64,
    watermark_ms: i64,
}

/// What comes out besides the key.
type Answer = (Value, i64);

fn text(text: String, n: i64) -> Answer {
    (Value::Text(text), n)
}

impl Users {
    /// Rows in state, as Spark counts: a list is one.
    pub fn rows(&self) -> usize {
        let count = |kept: &Kept| {
            let function = usize::from(kept.state.is_some() || kept.timeout_ms.is_some() || kept.is_hollow);
            function + usize::from(kept.value.is_some()) + usize::from(!kept.list.is_empty()) + kept.map.len()
        };
        self.keys.values().map(count).sum()
    }
}

impl Kept {
    fn is_empty(&self) -> bool {
        let function = self.state.is_some() || self.timeout_ms.is_some() || self.is_hollow;
        let variables = self.value.is_some() || !self.list.is_empty() || !self.map.is_empty();
        !function && !variables && self.timers.is_empty()
    }

    fn forget_before(&mut self, now_ms: i64) {
        let lives = |one: &Living| one.ends_ms.is_none_or(|ends_ms| ends_ms > now_ms);
        self.value = self.value.filter(lives);
        self.list.retain(lives);
        self.map.retain(|_, one| lives(one));
    }

    fn add(&mut self, v: i64, ends_ms: Option<i64>) {
        self.value = Some(Living { n: v, ends_ms });
        self.list.push(Living { n: v, ends_ms });
        let third = v.rem_euclid(3);
        let n = self.map.get(&third).map_or(0, |one| one.n) + 1;
        self.map.insert(third, Living { n, ends_ms });
    }

    fn text(&self) -> String {
        let list: Vec<i64> = self.list.iter().map(|one| one.n).collect();
        let map: Vec<(i64, i64)> = self.map.iter().map(|(key, one)| (*key, one.n)).collect();
        format!("{:?} {list:?} {map:?}", self.value.map(|one| one.n))
    }

    fn timers(&self) -> Vec<i64> {
        self.timers.iter().copied().collect()
    }
}

/// The output columns of a function over these.
pub fn columns(job: GroupJob, input: &[Column], mut column: impl FnMut(&str, Type) -> Column) -> Vec<Column> {
    let second = if job == GroupJob::Stamped { Type::Timestamp } else { Type::String };
    let mut columns = vec![column("_1", Type::String), column("_2", second), column("_3", Type::BigInt)];
    if job == GroupJob::Stamped {
        columns[1].delay_ms = input.iter().find_map(|c| c.delay_ms);
    }
    columns
}

/// Whether a batch without data is wanted.
pub fn wants_another_batch(job: GroupJob, watermark_moves: bool) -> bool {
    match job.timing() {
        Timing::None => false,
        Timing::Clock => true,
        Timing::EventTime => watermark_moves,
    }
}

impl Batch<'_> {
    /// Runs a function over the groups of a batch.
    pub fn user_groups(
        &mut self,
        input: &Plan,
        keys: &[ColumnId],
        job: GroupJob,
        op: usize,
    ) -> Result<Vec<Row>, Refusal> {
        let columns = input.columns();
        let key_columns: Vec<Column> =
            keys.iter().map(|id| index_of(&columns, *id).map(|at| columns[at].clone())).collect::<Result<_, _>>()?;
        let time = event_time_column(&columns)?.map(|c| index_of(&columns, c.id)).transpose()?;
        let named = |name: &str| {
            let found = columns.iter().position(|c| c.name == name);
            found.ok_or_else(|| Refusal::beyond(format!("a function over rows without {name}")))
        };
        let (ts, v) = (named("ts")?, named("v")?);
        let mut groups: BTreeMap<Vec<Value>, (Vec<Event>, Vec<u32>)> = BTreeMap::new();
        for row in self.run(input)? {
            let late = time.is_some_and(|at| is_up_to(&row.values[at], self.late_ms[op]));
            if late && job.timing() == Timing::EventTime {
                self.dropped[op] += 1;
                self.note(&row.from, Bucket::Late);
                continue;
            }
            self.note(&row.from, Bucket::InState);
            let group = groups.entry(key_of(&row.values, &columns, &key_columns)?).or_default();
            let v = if let Value::Int(v) = row.values[v] { Some(v) } else { None };
            group.0.push(Event { ts_us: row.values[ts].event_time_us(), v });
            group.1.extend(row.from);
        }
        let times = Times { now_ms: self.now_us.div_euclid(1000), watermark_ms: self.evict_ms[op] };
        let State::Users(users) = &mut self.states[op] else { return wrong_state() };
        if !std::mem::replace(&mut users.begun, true) {
            begin(job, users, &mut groups);
        }
        let mut rows = vec![];
        let mut out = |key: &[Value], from: Vec<u32>, answers: Vec<Answer>| {
            for (second, third) in answers {
                rows.push(Row { values: vec![key[0].clone(), second, Value::Int(third)], from: from.clone() });
            }
        };
        for kept in users.keys.values_mut() {
            kept.forget_before(times.now_ms);
        }
        for (key, (events, from)) in groups {
            let kept = users.keys.entry(key.clone()).or_default();
            let answers = match job.is_processor() {
                true => process(job, kept, &events, times),
                false => call(job, kept, Some(&events), times),
            };
            out(&key, from, answers);
        }
        let passed = if job.timing() == Timing::Clock { times.now_ms } else { times.watermark_ms };
        match job.is_processor() {
            true => ring(job, users, passed, times, &mut out),
            false => {
                let due = |kept: &Kept| kept.timeout_ms.is_some_and(|at_ms| at_ms < passed);
                let due: Vec<_> = users.keys.iter().filter(|(_, kept)| due(kept)).map(|(key, _)| key.clone()).collect();
                for key in due {
                    let kept = users.keys.entry(key.clone()).or_default();
                    let answers = call(job, kept, None, times);
                    out(&key, vec![], answers);
                }
            }
        }
        users.keys.retain(|_, kept| !kept.is_empty());
        Ok(rows)
    }
}

/// What keys begin with, in the first batch. A function is called for them, with or without rows.
fn begin(job: GroupJob, users: &mut Users, groups: &mut BTreeMap<Vec<Value>, (Vec<Event>, Vec<u32>)>) {
    let key = |text: &str| vec![Value::Text(text.to_owned())];
    match job {
        GroupJob::Begun => {
            for (name, rows) in [("a", 10), ("z", 5)] {
                let state = Some(Seen { rows, ..Seen::default() });
                users.keys.insert(key(name), Kept { state, ..Kept::default() });
                groups.entry(key(name)).or_default();
            }
        }
        GroupJob::Opened => {
            for (name, n) in [("a", 10), ("a", 11), ("z", 5)] {
                users.keys.entry(key(name)).or_default().list.push(Living { n, ends_ms: None });
            }
        }
        _ => {}
    }
}

fn added(state: Option<Seen>, events: &[Event]) -> Seen {
    let mut seen = state.unwrap_or_default();
    for event in events {
        seen.rows += 1;
        seen.sum = seen.sum.wrapping_add(event.v.unwrap_or(0));
        seen.last_ms = seen.last_ms.max(event.ts_ms().unwrap_or(0));
    }
    seen
}

/// A call of a function of map- or flatMapGroupsWithState; no events: its timeout has passed.
fn call(job: GroupJob, kept: &mut Kept, events: Option<&[Event]>, times: Times) -> Vec<Answer> {
    // A timeout holds until the next call, whatever that is.
    (kept.timeout_ms, kept.is_hollow) = (None, false);
    let Some(events) = events else { return timed_out(job, kept, times) };
    let before = kept.state;
    let seen = added(before, events);
    kept.state = Some(seen);
    match job {
        GroupJob::Tally => {
            kept.state = (seen.rows < 5).then_some(seen);
            vec![text(format!("sum {}", seen.sum), seen.rows)]
        }
        GroupJob::Sessions => {
            let ends_ms = Some((seen.last_ms + 5_000).max(times.watermark_ms).max(1));
            if seen.rows >= 4 {
                (kept.state, kept.timeout_ms) = (None, ends_ms);
                return vec![text("full".into(), seen.rows)];
            }
            kept.timeout_ms = ends_ms.filter(|_| seen.sum.rem_euclid(10) != 5);
            vec![]
        }
        GroupJob::Visits => {
            kept.timeout_ms = Some(times.now_ms + 2_000);
            vec![text(format!("seen at {}", times.now_ms), seen.rows)]
        }
        GroupJob::Numbers => {
            let first = before.map_or(0, |before| before.rows) + 1;
            events.iter().zip(first..).map(|(event, n)| text(format!("{:?}", event.v), n)).collect()
        }
        _ => vec![text(format!("from {:?}", before.map(|before| before.rows)), seen.rows)],
    }
}

fn timed_out(job: GroupJob, kept: &mut Kept, times: Times) -> Vec<Answer> {
    let Some(seen) = kept.state else {
        kept.is_hollow = true;
        return vec![text("nothing".into(), 0)];
    };
    if job == GroupJob::Visits {
        if seen.rows % 2 != 0 {
            kept.state = None;
        }
        return vec![text(format!("gone at {}", times.now_ms), seen.rows)];
    }
    if seen.rows % 3 != 0 {
        kept.state = None;
    }
    vec![text(format!("ended {}", seen.last_ms), seen.rows)]
}

/// A call of a processor for a key's rows.
fn process(job: GroupJob, kept: &mut Kept, events: &[Event], times: Times) -> Vec<Answer> {
    let values = events.iter().filter_map(|event| event.v);
    match job {
        GroupJob::Variables => variables(kept, events),
        GroupJob::Alarms => {
            let mut rows = kept.value.map_or(0, |one| one.n);
            for event in events {
                rows += 1;
                kept.timers.extend(event.ts_ms().map(|ms| ms + 5_000));
                if event.v.is_some_and(|v| v.rem_euclid(4) == 1) {
                    kept.timers.pop_first();
                }
            }
            kept.value = Some(Living { n: rows, ends_ms: None });
            vec![text(format!("{:?} at {}", kept.timers(), times.watermark_ms), rows)]
        }
        GroupJob::Lifetimes => {
            values.for_each(|v| kept.add(v, Some(times.now_ms + 2_000)));
            kept.timers.extend([times.now_ms + 1_000, times.now_ms + 2_000]);
            vec![text(kept.text(), times.now_ms)]
        }
        GroupJob::Stamped => {
            let first = kept.value.map_or(0, |one| one.n) + 1;
            let answers: Vec<Answer> = (events.iter().filter_map(|event| event.ts_us).zip(first..))
                .map(|(us, n)| (Value::Timestamp(us), n))
                .collect();
            kept.value = Some(Living { n: first - 1 + answers.len() as i64, ends_ms: None });
            answers
        }
        _ => {
            kept.list.extend(values.map(|n| Living { n, ends_ms: None }));
            let list: Vec<i64> = kept.list.iter().map(|one| one.n).collect();
            vec![text(format!("{list:?}"), list.len() as i64)]
        }
    }
}

fn variables(kept: &mut Kept, events: &[Event]) -> Vec<Answer> {
    let mut values = 0;
    for event in events {
        let Some(v) = event.v else {
            kept.map.remove(&0);
            continue;
        };
        values += 1;
        let before = kept.value.map(|one| one.n);
        kept.add(v, None);
        if before == Some(v) {
            kept.value = None;
        }
        if v > 1_000_000 {
            kept.map.clear();
        }
    }
    if values == 0 {
        kept.list.clear();
    } else if kept.list.len() >= 5 {
        kept.list.drain(..kept.list.len() - 2);
    }
    vec![text(kept.text(), values)]
}

/// Timers whose time has come when this phase begins, the earliest first, unless an earlier one has deleted them.
fn ring(
    job: GroupJob,
    users: &mut Users,
    passed_ms: i64,
    times: Times,
    out: &mut impl FnMut(&[Value], Vec<u32>, Vec<Answer>),
) {
    if job.timing() == Timing::None {
        return;
    }
    let mut due: Vec<(i64, Vec<Value>)> = vec![];
    for (key, kept) in &users.keys {
        due.extend(kept.timers.range(..=passed_ms).map(|at_ms| (*at_ms, key.clone())));
    }
    due.sort();
    for (at_ms, key) in due {
        let Some(kept) = users.keys.get_mut(&key).filter(|kept| kept.timers.contains(&at_ms)) else { continue };
        let answer = if job == GroupJob::Alarms {
            let (timers, rows) = (kept.timers(), kept.value.map_or(0, |one| one.n));
            if rows % 2 != 0 {
                kept.timers.insert(at_ms + 3_000);
                kept.value = Some(Living { n: rows + 1, ends_ms: None });
            } else if timers.len() == 1 {
                kept.value = None;
            }
            if at_ms % 2_000 == 0 {
                timers.last().map(|latest| kept.timers.remove(latest));
            }
            text(format!("{at_ms} of {timers:?}"), rows)
        } else {
            kept.forget_before(times.now_ms);
            text(format!("left {}", kept.text()), at_ms)
        };
        out(&key, vec![], vec![answer]);
        kept.timers.remove(&at_ms);
    }
}
