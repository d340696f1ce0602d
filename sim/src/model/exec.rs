//! One batch through a plan, row by row: the stateless nodes here, the stateful ones in [`super::state`].

use std::cmp::Ordering;
use std::collections::BTreeMap;

use super::OutputMode;
use super::aggregate::Buffer;
use super::expr::{AggregateCall, Column, ColumnId, Expr, Scope};
use super::ledger::{Bucket, Ledger};
use super::plan::{JoinKind, Plan, SortKey};
use super::refusal::Refusal;
use super::state::State;
use super::time;
use super::value::{Type, Value};

/// A row on its way, with the input rows it comes from (empty unless a ledger is kept).
#[derive(Debug, Clone)]
pub struct Row {
    /// One value a column.
    pub values: Vec<Value>,
    /// Ids of input rows.
    pub from: Vec<u32>,
}

/// Everything one batch reads and changes.
pub struct Batch<'a> {
    /// Output mode of the query.
    pub mode: OutputMode,
    /// Rows of every source.
    pub inputs: &'a [Vec<Row>],
    /// Batch timestamp.
    pub now_us: i64,
    /// Late-events watermark of every operator, milliseconds.
    pub late_ms: &'a [i64],
    /// Eviction watermark of every operator, milliseconds.
    pub evict_ms: &'a [i64],
    /// State of every operator.
    pub states: &'a mut [State],
    /// Late rows dropped by every operator.
    pub dropped: &'a mut [u64],
    /// Maximum event time minus delay of every watermark node.
    pub observed: &'a mut [Option<i64>],
    /// Where input rows end, if somebody asks.
    pub ledger: &'a mut Option<Ledger>,
    /// While a LIMIT reads: the one row that the streams show, with the number of the stream that shows it.
    pub only: Option<(usize, Row)>,
    /// Streams passed so far in a reading of `only`.
    pub streams: usize,
}

impl Batch<'_> {
    /// Notes the end of a row.
    pub fn note(&mut self, from: &[u32], bucket: Bucket) {
        if let Some(ledger) = self.ledger {
            ledger.note(from, bucket);
        }
    }

    /// Runs a plan and gives its rows.
    pub fn run(&mut self, plan: &Plan) -> Result<Vec<Row>, Refusal> {
        match plan {
            Plan::Stream { source, .. } => Ok(self.read(*source)),
            Plan::Table { rows, .. } => Ok(rows.iter().map(|r| Row { values: r.clone(), from: Vec::new() }).collect()),
            Plan::Watermark { input, column, delay_ms, node } => self.watermark(input, *column, *delay_ms, *node),
            Plan::Filter { input, condition } => {
                let ids = ids(input);
                let mut kept = Vec::new();
                for row in self.run(input)? {
                    if condition.holds(&self.scope(&ids, &row.values))? {
                        kept.push(row);
                    } else {
                        self.note(&row.from, Bucket::Filtered);
                    }
                }
                Ok(kept)
            }
            Plan::Project { input, items } => {
                let ids = ids(input);
                let mut rows = self.run(input)?;
                for row in &mut rows {
                    let scope = self.scope(&ids, &row.values);
                    row.values = items.iter().map(|(_, e)| e.eval(&scope)).collect::<Result<_, _>>()?;
                }
                Ok(rows)
            }
            Plan::Window { input, time, width_us, slide_us, start_us, .. } => {
                self.expand(input, |scope| Ok(windows(&time.eval(scope)?, *width_us, *slide_us, *start_us)))
            }
            Plan::Session { input, time, gap, .. } => {
                self.expand(input, |scope| Ok(initial_session(&time.eval(scope)?, &gap.eval(scope)?)))
            }
            Plan::Explode { input, array, .. } => self.expand(input, |scope| match array.eval(scope)? {
                Value::List(items) => Ok(items),
                _ => Ok(Vec::new()),
            }),
            Plan::Union { inputs, .. } => {
                let mut all = Vec::new();
                for input in inputs {
                    all.extend(self.run(input)?);
                }
                Ok(all)
            }
            Plan::Sort { input, by } => self.sort(input, by),
            _ if plan.state_operator().is_some() => self.run_stateful(plan),
            Plan::Limit { input, count, .. } => {
                let rows = self.run_for_limit(input, *count)?;
                Ok(self.cut(rows, *count))
            }
            Plan::Offset { input, count } => {
                let mut rows = self.run(input)?;
                Ok(rows.split_off(rows.len().min(*count as usize)))
            }
            Plan::Aggregate { input, keys, calls, .. } => self.static_aggregate(input, keys, calls),
            Plan::Dedup { .. } => Err(Refusal::beyond("dropDuplicates of a static table")),
            Plan::Groups { .. } => Err(Refusal::beyond("a user function over a static table")),
            Plan::Join { left, right, kind, condition, .. } => self.static_join(left, right, *kind, condition.as_ref()),
        }
    }

    fn read(&mut self, source: usize) -> Vec<Row> {
        let Some((stream, row)) = &self.only else { return self.inputs[source].clone() };
        let shows = *stream == self.streams;
        let rows = if shows { vec![row.clone()] } else { Vec::new() };
        self.streams += 1;
        rows
    }

    /// Runs a plan for at most `count` rows of each of its streams: as long as no operator below needs all
    /// rows, reading stops when there are enough, and a watermark node never sees the others.
    pub fn run_for_limit(&mut self, plan: &Plan, count: i64) -> Result<Vec<Row>, Refusal> {
        if self.only.is_some() || !is_pipeline(plan) {
            return self.run(plan);
        }
        let sources = plan.nodes().into_iter().filter_map(|n| match n {
            Plan::Stream { source, .. } => Some(*source),
            _ => None,
        });
        let mut all = Vec::new();
        for (stream, source) in sources.enumerate() {
            let mut enough = Vec::new();
            for row in self.inputs[source].clone() {
                if enough.len() as i64 >= count {
                    self.note(&row.from, Bucket::Filtered);
                    continue;
                }
                self.streams = 0;
                self.only = Some((stream, row));
                let rows = self.run(plan);
                self.only = None;
                enough.extend(rows?);
            }
            all.extend(self.cut(enough, count));
        }
        Ok(all)
    }

    /// A row with the ids of its columns.
    pub fn scope<'r>(&self, columns: &'r [ColumnId], values: &'r [Value]) -> Scope<'r> {
        Scope { columns, values, now_us: self.now_us }
    }

    fn watermark(&mut self, input: &Plan, column: ColumnId, delay_ms: i64, node: usize) -> Result<Vec<Row>, Refusal> {
        let rows = self.run(input)?;
        let index = index_of(&input.columns(), column)?;
        for row in &rows {
            // A NULL event time counts as the epoch (spec/02 section 2).
            let millis = row.values[index].event_time_us().unwrap_or(0).div_euclid(1000);
            self.observed[node] = self.observed[node].max(Some(millis.saturating_sub(delay_ms)));
        }
        Ok(rows)
    }

    /// Adds a column to every row, once for each value that `values` gives.
    fn expand(
        &mut self,
        input: &Plan,
        values: impl Fn(&Scope<'_>) -> Result<Vec<Value>, Refusal>,
    ) -> Result<Vec<Row>, Refusal> {
        let ids = ids(input);
        let mut all = Vec::new();
        for row in self.run(input)? {
            let added = values(&self.scope(&ids, &row.values))?;
            if added.is_empty() {
                self.note(&row.from, Bucket::Filtered);
            }
            for value in added {
                let mut row = row.clone();
                row.values.push(value);
                all.push(row);
            }
        }
        Ok(all)
    }

    fn sort(&mut self, input: &Plan, by: &[SortKey]) -> Result<Vec<Row>, Refusal> {
        let ids = ids(input);
        let mut keyed = Vec::new();
        for row in self.run(input)? {
            let scope = self.scope(&ids, &row.values);
            let key = by.iter().map(|k| k.expr.eval(&scope)).collect::<Result<Vec<_>, _>>()?;
            keyed.push((key, row));
        }
        keyed.sort_by(|(a, _), (b, _)| {
            let orders = by.iter().zip(a.iter().zip(b)).map(|(key, (a, b))| sort_order(key, a, b));
            orders.fold(Ordering::Equal, Ordering::then)
        });
        Ok(keyed.into_iter().map(|(_, row)| row).collect())
    }

    /// The first `count` rows; the others are noted as filtered.
    pub fn cut(&mut self, mut rows: Vec<Row>, count: i64) -> Vec<Row> {
        let rest = rows.split_off(rows.len().min(count.max(0) as usize));
        for row in rest {
            self.note(&row.from, Bucket::Filtered);
        }
        rows
    }

    fn static_aggregate(
        &mut self,
        input: &Plan,
        keys: &[Column],
        calls: &[(Column, AggregateCall)],
    ) -> Result<Vec<Row>, Refusal> {
        let ids = ids(input);
        let columns = input.columns();
        if calls.iter().any(|(_, call)| call.distinct) {
            return Err(Refusal::beyond("DISTINCT in an aggregate over a static table"));
        }
        let mut groups: BTreeMap<Vec<Value>, Vec<Buffer>> = BTreeMap::new();
        let empty = || calls.iter().map(|(_, call)| Buffer::empty(call)).collect::<Vec<_>>();
        if keys.is_empty() {
            groups.insert(Vec::new(), empty());
        }
        for row in self.run(input)? {
            let buffers = groups.entry(key_of(&row.values, &columns, keys)?).or_insert_with(empty);
            for (buffer, (_, call)) in buffers.iter_mut().zip(calls) {
                buffer.update(call, &self.scope(&ids, &row.values))?;
            }
        }
        let finish = |(mut values, buffers): (Vec<Value>, Vec<Buffer>)| {
            values.extend(buffers.iter().zip(calls).map(|(b, (_, call))| b.result(call)));
            Row { values, from: Vec::new() }
        };
        Ok(groups.into_iter().map(finish).collect())
    }

    /// A join of which at most one side streams: both sides are there as a whole.
    fn static_join(
        &mut self,
        left: &Plan,
        right: &Plan,
        kind: JoinKind,
        condition: Option<&Expr>,
    ) -> Result<Vec<Row>, Refusal> {
        let (left_rows, right_rows) = (self.run(left)?, self.run(right)?);
        let (left_count, right_count) = (left.columns().len(), right.columns().len());
        let ids: Vec<ColumnId> = ids(left).into_iter().chain(self::ids(right)).collect();
        let mut all = Vec::new();
        let mut right_matched = vec![false; right_rows.len()];
        for l in &left_rows {
            let mut matched = false;
            for (r, right_matched) in right_rows.iter().zip(&mut right_matched) {
                let both = joined(l, r);
                let holds = match condition {
                    Some(condition) => condition.holds(&self.scope(&ids, &both.values))?,
                    None => true,
                };
                if holds {
                    matched = true;
                    *right_matched = true;
                    if !kind.left_only() {
                        all.push(both);
                    }
                }
            }
            match kind {
                JoinKind::LeftSemi if matched => all.push(l.clone()),
                JoinKind::LeftAnti if !matched => all.push(l.clone()),
                JoinKind::LeftAnti => self.note(&l.from, Bucket::Filtered),
                _ if !matched && kind.keeps_left() => all.push(padded_right(l, right_count)),
                _ if !matched => self.note(&l.from, Bucket::Unmatched),
                _ => {}
            }
        }
        for (r, matched) in right_rows.iter().zip(right_matched) {
            match matched {
                false if kind.keeps_right() => all.push(padded_left(r, left_count)),
                false => self.note(&r.from, Bucket::Unmatched),
                true => {}
            }
        }
        Ok(all)
    }
}

/// Whether rows stream through a plan one by one: no operator needs all of them.
fn is_pipeline(plan: &Plan) -> bool {
    // A join with a static table is none: unless the table is broadcast, its rows are sorted first.
    let one_by_one = !matches!(
        plan,
        Plan::Limit { .. }
            | Plan::Offset { .. }
            | Plan::Sort { .. }
            | Plan::Aggregate { .. }
            | Plan::Dedup { .. }
            | Plan::Groups { .. }
            | Plan::Join { .. }
    );
    one_by_one && plan.inputs().into_iter().all(is_pipeline)
}

/// The ids of a plan's columns.
pub fn ids(plan: &Plan) -> Vec<ColumnId> {
    plan.columns().iter().map(|c| c.id).collect()
}

/// Where a column is in the row.
pub fn index_of(columns: &[Column], id: ColumnId) -> Result<usize, Refusal> {
    columns.iter().position(|c| c.id == id).ok_or_else(|| Refusal::beyond(format!("column {id} was pruned")))
}

/// The grouping key of a row.
pub fn key_of(values: &[Value], columns: &[Column], keys: &[Column]) -> Result<Vec<Value>, Refusal> {
    keys.iter().map(|k| Ok(values[index_of(columns, k.id)?].clone().normalized())).collect()
}

/// Left and right side by side.
pub fn joined(left: &Row, right: &Row) -> Row {
    let values = left.values.iter().chain(&right.values).cloned().collect();
    Row { values, from: left.from.iter().chain(&right.from).copied().collect() }
}

/// A left row with NULL for every right column.
pub fn padded_right(left: &Row, right_columns: usize) -> Row {
    let mut row = left.clone();
    row.values.extend(std::iter::repeat_n(Value::Null, right_columns));
    row
}

/// A right row with NULL for every left column.
pub fn padded_left(right: &Row, left_columns: usize) -> Row {
    let mut values = vec![Value::Null; left_columns];
    values.extend(right.values.iter().cloned());
    Row { values, from: right.from.clone() }
}

fn sort_order(key: &SortKey, a: &Value, b: &Value) -> Ordering {
    match (a.is_null(), b.is_null()) {
        (true, true) => Ordering::Equal,
        (true, false) if key.nulls_first => Ordering::Less,
        (true, false) => Ordering::Greater,
        (false, true) if key.nulls_first => Ordering::Greater,
        (false, true) => Ordering::Less,
        (false, false) if key.descending => b.cmp(a),
        (false, false) => a.cmp(b),
    }
}

/// All windows of an instant, the latest start first (spec/03 section 1). A NULL instant has none.
pub fn windows(time: &Value, width_us: i64, slide_us: i64, start_us: i64) -> Vec<Value> {
    let Value::Timestamp(t) = *time else { return Vec::new() };
    let count = width_us / slide_us + i64::from(width_us % slide_us != 0);
    let last_start = t.saturating_sub(t.saturating_sub(start_us).rem_euclid(slide_us));
    let starts = (0..count).map(|i| last_start.saturating_sub(i * slide_us));
    let holds = |start: &i64| *start <= t && t < start.saturating_add(width_us);
    starts.filter(holds).map(|start| Value::window(start, start.saturating_add(width_us))).collect()
}

/// `[time, time + gap)`; nothing if either is NULL, the gap is no interval or it is not above zero.
pub fn initial_session(time: &Value, gap: &Value) -> Vec<Value> {
    let gap = match gap {
        Value::Interval(months, us) => Some((*months, *us)),
        Value::Text(text) => time::parse_interval(text),
        _ => None,
    };
    let (Value::Timestamp(start), Some((months, us))) = (time, gap) else { return Vec::new() };
    match time::add_interval(*start, months, us) {
        Some(end) if end > *start => vec![Value::window(*start, end)],
        _ => Vec::new(),
    }
}

/// The one event-time column among some; two different ones are an error of the query (spec/02 section 5).
pub fn event_time_column(columns: &[Column]) -> Result<Option<&Column>, Refusal> {
    let mut marked = columns.iter().filter(|c| c.delay_ms.is_some());
    let first = marked.next();
    match marked.find(|c| Some(c.id) != first.map(|f| f.id)) {
        None => Ok(first),
        Some(_) => Err(Refusal::failed(
            "MULTIPLE_EVENT_TIME_COLUMNS",
            "[MULTIPLE_EVENT_TIME_COLUMNS] More than one event time columns are available.",
        )),
    }
}

/// Whether an event time is at or before a watermark. NULL never is.
pub fn is_up_to(time: &Value, watermark_ms: i64) -> bool {
    time.event_time_us().is_some_and(|us| us <= watermark_ms.saturating_mul(1000))
}

/// The output schema as (name, type).
pub fn schema(plan: &Plan) -> Vec<(String, Type)> {
    plan.columns().into_iter().map(|c| (c.name, c.ty)).collect()
}
