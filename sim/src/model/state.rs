//! The stateful operators: what each keeps, what a batch does to it, what it forgets and when it wants another batch.

use std::collections::{BTreeMap, BTreeSet};

use super::OutputMode;
use super::aggregate::Buffer;
use super::exec::{Batch, Row, event_time_column, ids, index_of, is_up_to, key_of};
use super::expr::{AggregateCall, Column, ColumnId};
use super::groups::{self, Users};
use super::join::Sides;
use super::ledger::Bucket;
use super::plan::Plan;
use super::refusal::Refusal;
use super::value::Value;
use super::watermark::JoinBounds;

/// What one stateful operator remembers between batches.
#[derive(Debug, Clone)]
pub enum State {
    /// Aggregation: buffers by key.
    Groups(BTreeMap<Vec<Value>, Group>),
    /// Session windows: the open sessions by the other keys, in order of start.
    Sessions(BTreeMap<Vec<Value>, Vec<Session>>),
    /// Deduplication: keys seen, with the instant (microseconds) at which one seen within the watermark expires.
    Keys(BTreeMap<Vec<Value>, Option<i64>>),
    /// Stream-stream join: the buffered rows of both sides.
    Join(Sides),
    /// LIMIT: rows let through, once there was one.
    Passed(Option<i64>),
    /// A user function: what it keeps of each key.
    Users(Users),
}

/// One group.
#[derive(Debug, Clone)]
pub struct Group {
    /// One buffer an aggregate.
    pub buffers: Vec<Buffer>,
    /// Input rows in it.
    pub from: Vec<u32>,
}

/// One open session.
#[derive(Debug, Clone)]
pub struct Session {
    /// Start, microseconds.
    pub start_us: i64,
    /// End, microseconds.
    pub end_us: i64,
    /// Its buffers.
    pub group: Group,
}

impl State {
    /// The state before the first batch.
    pub fn empty(plan: &Plan) -> State {
        match plan {
            Plan::Aggregate { session: Some(_), .. } => State::Sessions(BTreeMap::new()),
            Plan::Dedup { .. } => State::Keys(BTreeMap::new()),
            Plan::Join { .. } => State::Join(Sides::default()),
            Plan::Limit { .. } => State::Passed(None),
            Plan::Groups { .. } => State::Users(Users::default()),
            _ => State::Groups(BTreeMap::new()),
        }
    }

    /// Rows in the state store, as Spark's `numRowsTotal` counts them.
    pub fn rows(&self) -> usize {
        match self {
            State::Groups(groups) => groups.len(),
            State::Sessions(sessions) => sessions.values().map(Vec::len).sum(),
            State::Keys(keys) => keys.len(),
            State::Join(sides) => sides.rows(),
            State::Passed(passed) => usize::from(passed.is_some()),
            State::Users(users) => users.rows(),
        }
    }

    /// The input rows that wait in here.
    pub fn held(&self) -> Vec<u32> {
        match self {
            State::Groups(groups) => groups.values().flat_map(|g| g.from.clone()).collect(),
            State::Sessions(all) => all.values().flatten().flat_map(|s| s.group.from.clone()).collect(),
            State::Join(sides) => sides.held(),
            // A key is no row: its first row went through.
            State::Keys(_) | State::Passed(_) => Vec::new(),
            // What a function does with its rows is its own affair: they count as kept from the call on.
            State::Users(_) => Vec::new(),
        }
    }
}

/// Whether an operator wants a batch without data (spec/01 section 4).
pub fn wants_another_batch(plan: &Plan, mode: OutputMode, used_ms: i64, next_ms: i64) -> bool {
    let moves = next_ms > used_ms;
    match plan {
        Plan::Aggregate { .. } => moves && mode != OutputMode::Complete,
        Plan::Dedup { .. } => moves,
        Plan::Groups { job, .. } => groups::wants_another_batch(*job, moves),
        Plan::Join { left, right, condition, .. } => {
            let bounds = JoinBounds::of(&left.columns(), &right.columns(), condition.as_ref());
            moves && (bounds.left.is_some() || bounds.right.is_some())
        }
        _ => false,
    }
}

impl Batch<'_> {
    /// Runs a stateful node.
    pub fn run_stateful(&mut self, plan: &Plan) -> Result<Vec<Row>, Refusal> {
        match plan {
            Plan::Aggregate { input, keys, calls, session: None, op } => self.aggregate(input, keys, calls, *op),
            Plan::Aggregate { input, keys, calls, session: Some(session), op } => {
                self.sessions(input, keys, calls, *session, *op)
            }
            Plan::Dedup { input, keys, within, op } => self.dedup(input, keys, *within, *op),
            Plan::Limit { input, count, op, .. } => {
                let rows = self.run_for_limit(input, *count)?;
                let State::Passed(passed) = &mut self.states[*op] else { return wrong_state() };
                let left = count - passed.unwrap_or(0);
                let through = left.clamp(0, rows.len() as i64);
                if through > 0 {
                    *passed = Some(passed.unwrap_or(0) + through);
                }
                Ok(self.cut(rows, through))
            }
            Plan::Groups { input, keys, job, op, .. } => self.user_groups(input, keys, *job, *op),
            Plan::Join { .. } => self.stream_join(plan),
            _ => wrong_state(),
        }
    }

    /// The groups of this batch's rows alone, in order of arrival.
    fn partial(
        &mut self,
        rows: Vec<Row>,
        input: &Plan,
        keys: &[Column],
        calls: &[(Column, AggregateCall)],
    ) -> Result<BTreeMap<Vec<Value>, Group>, Refusal> {
        let (ids, columns) = (ids(input), input.columns());
        let mut groups = BTreeMap::new();
        for row in rows {
            let group = groups.entry(key_of(&row.values, &columns, keys)?).or_insert_with(|| empty_group(calls));
            for (buffer, (_, call)) in group.buffers.iter_mut().zip(calls) {
                buffer.update(call, &self.scope(&ids, &row.values))?;
            }
            group.from.extend(row.from);
        }
        Ok(groups)
    }

    /// Aggregation without sessions (spec/04 section 1, spec/02 section 6): drop late groups, put the merged
    /// ones, then look for what the watermark closes.
    fn aggregate(
        &mut self,
        input: &Plan,
        keys: &[Column],
        calls: &[(Column, AggregateCall)],
        op: usize,
    ) -> Result<Vec<Row>, Refusal> {
        let rows = self.run(input)?;
        let mut batch = self.partial(rows, input, keys, calls)?;
        if keys.is_empty() {
            // A global aggregation has its one group even when no row came.
            batch.entry(Vec::new()).or_insert_with(|| empty_group(calls));
        }
        let time = event_time_column(keys)?.map(|c| index_of(keys, c.id)).transpose()?;
        let (late_ms, evict_ms) = (self.late_ms[op], self.evict_ms[op]);
        let State::Groups(mut groups) = std::mem::replace(&mut self.states[op], State::Passed(None)) else {
            return wrong_state();
        };
        let mut out = Vec::new();
        for (key, new) in batch {
            let is_late = time.is_some_and(|t| is_up_to(&key[t], late_ms));
            if is_late && self.mode != OutputMode::Complete {
                self.dropped[op] += 1;
                self.note(&new.from, Bucket::Late);
                continue;
            }
            let group = groups.entry(key.clone()).or_insert_with(|| empty_group(calls));
            merge(group, &new)?;
            if self.mode == OutputMode::Update {
                out.push(emitted(key, group, calls));
            }
        }
        match self.mode {
            OutputMode::Complete => {
                out = groups.iter().map(|(key, group)| emitted(key.clone(), group, calls)).collect()
            }
            OutputMode::Append | OutputMode::Update => {
                let closed = |key: &Vec<Value>| time.is_some_and(|t| is_up_to(&key[t], evict_ms));
                let evicted: Vec<Vec<Value>> = groups.keys().filter(|k| closed(k)).cloned().collect();
                for key in evicted {
                    let group = groups.remove(&key);
                    if let (OutputMode::Append, Some(group)) = (self.mode, group) {
                        out.push(emitted(key, &group, calls));
                    }
                }
            }
        }
        self.states[op] = State::Groups(groups);
        Ok(out)
    }

    /// Session windows (spec/03 section 3): late rows go first, each by its own initial session; then the
    /// sessions of every key that has rows are merged anew, touching ones included.
    fn sessions(
        &mut self,
        input: &Plan,
        keys: &[Column],
        calls: &[(Column, AggregateCall)],
        session: ColumnId,
        op: usize,
    ) -> Result<Vec<Row>, Refusal> {
        if keys.len() == 1 {
            return Err(Refusal::failed_text(
                "Global aggregation with session window in streaming query is not supported.",
            ));
        }
        let at = index_of(keys, session)?;
        let in_row = index_of(&input.columns(), session)?;
        let marked = keys[at].delay_ms.is_some();
        let columns = input.columns();
        let places = keys.iter().map(|key| index_of(&columns, key.id)).collect::<Result<Vec<_>, _>>()?;
        // Equal initial sessions of a key are one by the time that late ones are counted.
        let mut late = BTreeSet::new();
        let mut in_time = Vec::new();
        for row in self.run(input)? {
            if marked && is_up_to(&row.values[in_row], self.late_ms[op]) {
                late.insert(places.iter().map(|at| row.values[*at].clone()).collect::<Vec<_>>());
                self.note(&row.from, Bucket::Late);
            } else {
                in_time.push(row);
            }
        }
        self.dropped[op] += late.len() as u64;
        let batch = self.partial(in_time, input, keys, calls)?;
        let State::Sessions(mut all) = std::mem::replace(&mut self.states[op], State::Passed(None)) else {
            return wrong_state();
        };
        let mut touched: BTreeMap<Vec<Value>, Vec<Session>> = BTreeMap::new();
        for (mut key, group) in batch {
            let Value::Struct(bounds) = key.remove(at) else { return wrong_state() };
            let [Value::Timestamp(start_us), Value::Timestamp(end_us)] = bounds[..] else { return wrong_state() };
            let stored = all.remove(&key).unwrap_or_default();
            touched.entry(key).or_insert(stored).push(Session { start_us, end_us, group });
        }
        for (key, sessions) in touched {
            all.insert(key, merged(sessions)?);
        }
        let mut out = Vec::new();
        let row = |key: &Vec<Value>, s: &Session| {
            let mut key = key.clone();
            key.insert(at, Value::window(s.start_us, s.end_us));
            emitted(key, &s.group, calls)
        };
        if self.mode == OutputMode::Complete {
            out = all.iter().flat_map(|(key, sessions)| sessions.iter().map(|s| row(key, s))).collect();
        } else {
            let evict_us = self.evict_ms[op].saturating_mul(1000);
            for (key, sessions) in &mut all {
                sessions.retain(|s| {
                    let closed = marked && s.end_us <= evict_us;
                    if closed {
                        out.push(row(key, s));
                    }
                    !closed
                });
            }
            all.retain(|_, sessions| !sessions.is_empty());
        }
        self.states[op] = State::Sessions(all);
        Ok(out)
    }

    /// Deduplication (spec/04 section 2): all input first, then eviction.
    fn dedup(&mut self, input: &Plan, keys: &[ColumnId], within: bool, op: usize) -> Result<Vec<Row>, Refusal> {
        let rows = self.run(input)?;
        let columns = input.columns();
        let key_columns: Vec<Column> = columns.iter().filter(|c| keys.contains(&c.id)).cloned().collect();
        let time = event_time_column(&columns)?;
        let delay_us = time.and_then(|t| t.delay_ms).unwrap_or(0).saturating_mul(1000);
        let time = time.map(|c| (c.id, index_of(&columns, c.id))).map(|(id, i)| i.map(|i| (id, i))).transpose()?;
        let key_time = time.and_then(|(id, _)| key_columns.iter().position(|c| c.id == id));
        let mut out = Vec::new();
        for row in rows {
            if time.is_some_and(|(_, i)| is_up_to(&row.values[i], self.late_ms[op])) {
                self.dropped[op] += 1;
                self.note(&row.from, Bucket::Late);
                continue;
            }
            let key = key_of(&row.values, &columns, &key_columns)?;
            let State::Keys(seen) = &mut self.states[op] else { return wrong_state() };
            if seen.contains_key(&key) {
                self.note(&row.from, Bucket::Duplicate);
                continue;
            }
            // A NULL event time is read as the epoch here too.
            let expires = |i: usize| row.values[i].event_time_us().unwrap_or(0).saturating_add(delay_us);
            seen.insert(key, time.filter(|_| within).map(|(_, i)| expires(i)));
            out.push(row);
        }
        let evict_ms = self.evict_ms[op];
        let State::Keys(seen) = &mut self.states[op] else { return wrong_state() };
        seen.retain(|key, expires_us| match expires_us {
            Some(expires_us) => *expires_us > evict_ms.saturating_mul(1000),
            None => !key_time.is_some_and(|i| is_up_to(&key[i], evict_ms)),
        });
        Ok(out)
    }
}

fn empty_group(calls: &[(Column, AggregateCall)]) -> Group {
    Group { buffers: calls.iter().map(|(_, call)| Buffer::empty(call)).collect(), from: Vec::new() }
}

fn merge(group: &mut Group, later: &Group) -> Result<(), Refusal> {
    for (buffer, new) in group.buffers.iter_mut().zip(&later.buffers) {
        buffer.merge(new)?;
    }
    group.from.extend(&later.from);
    Ok(())
}

fn emitted(key: Vec<Value>, group: &Group, calls: &[(Column, AggregateCall)]) -> Row {
    let mut values = key;
    values.extend(group.buffers.iter().zip(calls).map(|(b, (_, call))| b.result(call)));
    Row { values, from: group.from.clone() }
}

/// Merges sessions that overlap or touch.
fn merged(mut sessions: Vec<Session>) -> Result<Vec<Session>, Refusal> {
    sessions.sort_by_key(|s| s.start_us);
    let mut all: Vec<Session> = Vec::new();
    for session in sessions {
        match all.last_mut() {
            Some(open) if session.start_us <= open.end_us => {
                open.end_us = open.end_us.max(session.end_us);
                merge(&mut open.group, &session.group)?;
            }
            _ => all.push(session),
        }
    }
    Ok(all)
}

/// The answer for a state that is not the operator's.
pub fn wrong_state<T>() -> Result<T, Refusal> {
    Err(Refusal::beyond("a state of another operator"))
}
