//! The reference model: a naive row-at-a-time interpreter of Structured Streaming that shares no code with the engine.
//!
//! ```text
//! text -> sql -> resolve, select, resolve_expr -> plan -> check -> rules -> exec (state, join, aggregate)
//!                                                 what Spark refuses ^        ^ a batch, with watermark before and after
//! ```
//! [`Model`] is told the rows of every committed batch and answers with the rows, the watermark and the state sizes that
//! Spark would have. It is plain loops over `Vec` and `BTreeMap`: obvious first, fast enough for thousands of small
//! batches a second. `tests/model_conformance.rs` holds it to every conformance case. [`Ledger`] says where each input
//! row ended.
//!
//! Absent: DataFusion, Arrow, I/O, time, randomness, checkpoints. Also absent, and refused as
//! [`Stage::BeyondModel`] rather than answered wrongly: decimals (a literal such as `1.5` is read as DOUBLE), dates,
//! maps, ROLLUP and CUBE, LATERAL VIEW, JOIN USING, sub-queries over static tables, user state functions
//! other than those that scenarios name (`groups.rs`).
//!
//! # Facts that are not in the specification
//! Found in the cases (with the number of cases that fail without the rule), or by asking Spark 4.3.0.
//!
//! Filters move before the query runs, and that can be seen in the watermark and in the state sizes:
//! * WHERE conjuncts that do not mention the event-time column sink below the watermark node, so that the rows they
//!   reject do not advance it (41); they also sink through an aggregation if they mention only its keys. This holds
//!   for a session window key too: a condition on the session is tested on each row's own initial session.
//! * Inner, semi and stream-static inner joins get IS NOT NULL filters on both sides for every column their condition
//!   cannot be true without (47), LEFT OUTER and LEFT ANTI on the right side only (8), RIGHT OUTER on the left side
//!   only, FULL OUTER none (4). They sink like other filters: a NULL join key does not count for the watermark, a NULL
//!   event time does (as the epoch) but is not stored. `a = b` carries conditions on a over to b.
//! * An aggregation directly above another one swallows it if it needs only the lower one's keys, `min` and `max` of
//!   keys, and sums of its `count(*)`: one state operator instead of two. A `window()` between them prevents that.
//! * A WHERE that rejects the padded rows makes an outer join a narrower one.
//! * ON conditions of one side are pushed into a side that may lose rows; on a preserved side they stay with the join,
//!   and a row that fails them comes out padded at once and is never stored.
//!
//! Operators:
//! * Join keys are compared as the state store does: in a FULL OUTER join NULL matches NULL (in the others the inferred
//!   filters leave at most one side with NULL keys).
//! * Session windows drop late rows in complete mode too (1); other aggregations do not (9).
//! * Left rows of a join are stored even if the watermark has passed them (9); a right row that it has passed is stored
//!   only for a right or full outer join without a match (2), a left row of a semi join that it has passed not at all. A
//!   semi-joined left row leaves with its first match (5).
//! * `dropDuplicatesWithinWatermark` reads a NULL event time as the epoch, as the watermark statistics do.
//! * LIMIT is stateful in append mode, and in complete mode if no aggregation is below it (4). It stops reading: as long
//!   as only filters, projections, windows and unions are below, a watermark node sees no row after the last one that
//!   was needed, in each batch and each branch of a union. LIMIT 0 removes all below it, watermark node included.
//! * Two event-time columns in the input of a join side are an error of the query, as in other operators.
//! * A restart forgets the maxima of the watermark nodes (2); late rows are judged by the watermark of the batch before,
//!   also across a restart (66).
//!
//! LEFT SEMI and LEFT ANTI joins sink below an aggregation on their left; Spark does so when the right side is small enough
//! for a broadcast, which is taken for granted. Open: which rows LIMIT takes from
//! an operator whose output has no defined order ([`Model::is_determined`]).

mod aggregate;
mod check;
mod exec;
mod expr;
mod functions;
mod groups;
mod join;
mod ledger;
mod plan;
mod refusal;
mod resolve;
mod resolve_expr;
mod rules;
mod select;
mod sql;
mod state;
mod time;
mod value;
mod watermark;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;

use exec::Row;
pub use ledger::{BUCKETS, Bucket, Ledger};
use plan::Plan;
pub use refusal::{Refusal, Stage};
use state::State;
pub use time::{format_timestamp, parse_timestamp};
pub use value::{Type, Value, parse_schema};
use watermark::{Policy, Tracker};

use crate::groups::{GroupJob, Timing};

/// Output mode of a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputMode {
    /// Only rows that never change again.
    Append,
    /// Rows that changed in the batch.
    Update,
    /// The whole result, every batch.
    Complete,
}

impl OutputMode {
    /// Reads the mode's name, in any case.
    pub fn parse(text: &str) -> Option<OutputMode> {
        Some(match text.to_ascii_lowercase().as_str() {
            "append" => OutputMode::Append,
            "update" => OutputMode::Update,
            "complete" => OutputMode::Complete,
            _ => return None,
        })
    }
}

impl fmt::Display for OutputMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            OutputMode::Append => "append",
            OutputMode::Update => "update",
            OutputMode::Complete => "complete",
        })
    }
}

/// A streaming source: a name and columns.
#[derive(Debug, Clone)]
pub struct Source {
    /// Name in SQL.
    pub name: String,
    /// Columns.
    pub columns: Vec<(String, Type)>,
}

/// A static table.
#[derive(Debug, Clone)]
pub struct Table {
    /// Name in SQL.
    pub name: String,
    /// Columns.
    pub columns: Vec<(String, Type)>,
    /// Rows, in column order.
    pub rows: Vec<Vec<Value>>,
}

/// A named view over sources, tables and earlier views.
#[derive(Debug, Clone)]
pub struct View {
    /// Name in SQL.
    pub name: String,
    /// What it does.
    pub kind: ViewKind,
}

/// What a view does.
#[derive(Debug, Clone)]
pub enum ViewKind {
    /// A query.
    Sql(String),
    /// `withWatermark(column, delay)`.
    Watermark {
        /// The relation below.
        from: String,
        /// Event-time column.
        column: String,
        /// Interval text.
        delay: String,
    },
    /// `dropDuplicates(columns)`; none means all.
    DropDuplicates {
        /// The relation below.
        from: String,
        /// Key columns.
        columns: Vec<String>,
    },
    /// `dropDuplicatesWithinWatermark(columns)`; none means all.
    DropDuplicatesWithinWatermark {
        /// The relation below.
        from: String,
        /// Key columns.
        columns: Vec<String>,
    },
    /// A user function over groups.
    Groups {
        /// The relation below.
        from: String,
        /// Key columns.
        columns: Vec<String>,
        /// The function.
        job: GroupJob,
    },
}

/// A query with everything it names.
#[derive(Debug, Clone)]
pub struct Query {
    /// Streaming sources; the order is that of the inputs of [`Model::run_batch`].
    pub sources: Vec<Source>,
    /// Static tables.
    pub tables: Vec<Table>,
    /// Views, in order of definition.
    pub views: Vec<View>,
    /// The query.
    pub sql: String,
    /// Output mode.
    pub mode: OutputMode,
    /// Spark configuration entries; unknown ones are ignored.
    pub conf: BTreeMap<String, String>,
}

/// What one batch gave.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// Batch id.
    pub id: u64,
    /// Output rows. Their order means something only if [`Model::ordered`].
    pub rows: Vec<Vec<Value>>,
    /// The watermark in force during the batch, milliseconds.
    pub watermark_ms: i64,
    /// Stateful operators, the last of the pipeline first.
    pub operators: Vec<Operator>,
}

/// A stateful operator after a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operator {
    /// Spark's name.
    pub name: &'static str,
    /// Rows in its state.
    pub state_rows: usize,
    /// Late input rows it dropped in this batch (for an aggregation: late groups, as Spark counts).
    pub late: u64,
}

/// A running query.
///
/// # Contract
/// `run_batch` is called once for every *committed* batch, in order, with exactly the rows of that batch. A
/// batch that was logged, cut off by a crash and run again is one batch. `restart` is called where a run ended.
pub struct Model {
    plan: Plan,
    schema: Vec<(String, Type)>,
    has_watermark: bool,
    mode: OutputMode,
    no_data_batches: bool,
    one_watermark: bool,
    tracker: Tracker,
    states: Vec<State>,
    ledger: Option<Ledger>,
    next_id: u64,
    /// Watermark in force in the batch before, whose simulation gives the late-events watermarks.
    previous_ms: i64,
    /// Eviction watermarks of the last batch of this run; `None` before the first.
    used_ms: Option<Vec<i64>>,
}

impl Model {
    /// Analyses, checks and optimises a query, as Spark does in `start()`.
    pub fn new(query: &Query) -> Result<Model, Refusal> {
        let mut resolver = resolve::Resolver::new(query);
        for view in &query.views {
            // Spark analyses a view when it is made, used or not.
            resolver.relation(&view.name)?;
        }
        resolver.notes = resolve::Notes::default();
        let plan = resolver.query_text(&query.sql)?.plan;
        check::check(&plan, query.mode, &resolver.notes)?;
        let schema = exec::schema(&plan);
        let has_watermark = plan.nodes().iter().any(|n| matches!(n, Plan::Watermark { .. }));
        let mut plan = rules::optimize(plan);
        let (mut operators, mut nodes) = (0, 0);
        plan.number(query.mode, &mut operators, &mut nodes);
        let conf = |key: &str| query.conf.get(&format!("spark.sql.streaming.{key}")).map(String::as_str);
        let policy = match conf("multipleWatermarkPolicy").map(str::to_ascii_lowercase).as_deref() {
            None | Some("min") => Policy::Min,
            Some("max") => Policy::Max,
            Some(other) => return Err(Refusal::text(format!("Could not recognize watermark policy '{other}'"))),
        };
        let stateful = plan.nodes().into_iter().filter(|n| n.state_operator().is_some());
        let states = stateful.map(State::empty).collect();
        Ok(Model {
            schema,
            has_watermark,
            mode: query.mode,
            no_data_batches: conf("noDataMicroBatches.enabled") != Some("false"),
            one_watermark: conf("statefulOperator.allowMultiple") == Some("false"),
            tracker: Tracker::new(policy, nodes),
            states,
            ledger: None,
            next_id: 0,
            previous_ms: 0,
            used_ms: None,
            plan,
        })
    }

    /// Keeps a ledger of where every input row ends (off by default: it costs memory for every row).
    pub fn with_ledger(mut self) -> Model {
        self.ledger = Some(Ledger::default());
        self
    }

    /// Output columns: names and types.
    pub fn schema(&self) -> &[(String, Type)] {
        &self.schema
    }

    /// Whether the order of the rows of a batch is defined.
    pub fn ordered(&self) -> bool {
        fn sorted(plan: &Plan) -> bool {
            match plan {
                Plan::Sort { .. } => true,
                Plan::Project { input, .. } | Plan::Limit { input, .. } => sorted(input),
                _ => false,
            }
        }
        sorted(&self.plan)
    }

    /// Whether the rows are defined at all: LIMIT above an aggregation or a join without ORDER BY takes any rows.
    pub fn is_determined(&self) -> bool {
        fn has_no_order(plan: &Plan) -> bool {
            let none = matches!(plan, Plan::Aggregate { .. } | Plan::Join { .. } | Plan::Groups { .. });
            none || (!matches!(plan, Plan::Sort { .. }) && plan.inputs().into_iter().any(has_no_order))
        }
        !self.plan.nodes().iter().any(|n| matches!(n, Plan::Limit { input, .. } if has_no_order(input)))
    }

    /// Whether the query has a watermark at all.
    pub fn has_watermark(&self) -> bool {
        self.has_watermark
    }

    /// The watermark that the next batch will have in force, milliseconds.
    pub fn watermark_ms(&self) -> i64 {
        self.tracker.global_ms()
    }

    /// Runs one batch. `inputs` has the rows of every source, in the order of [`Query::sources`]; all
    /// empty for a batch without data. `now_us` is the batch timestamp.
    pub fn run_batch(&mut self, inputs: &[Vec<Vec<Value>>], now_us: i64) -> Result<Batch, Refusal> {
        let watermark_ms = self.tracker.global_ms();
        let evict_ms = self.watermarks(watermark_ms)?;
        let late_ms = if self.one_watermark { evict_ms.clone() } else { self.watermarks(self.previous_ms)? };
        let inputs = self.read(inputs);
        let read =
            |index| self.plan.nodes().iter().any(|n| matches!(n, Plan::Stream { source, .. } if *source == index));
        if let Some(ledger) = &mut self.ledger {
            // What no part of the plan reads (LIMIT 0) is filtered before it is read.
            for row in inputs.iter().enumerate().filter(|(i, _)| !read(*i)).flat_map(|(_, rows)| rows) {
                ledger.note(&row.from, Bucket::Filtered);
            }
        }
        let mut dropped = vec![0; self.states.len()];
        let mut observed = vec![None; self.plan.nodes().len()];
        let mut batch = exec::Batch {
            mode: self.mode,
            inputs: &inputs,
            now_us,
            late_ms: &late_ms,
            evict_ms: &evict_ms,
            states: &mut self.states,
            dropped: &mut dropped,
            observed: &mut observed,
            ledger: &mut self.ledger,
            only: None,
            streams: 0,
        };
        let rows = batch.run(&self.plan)?;
        for row in &rows {
            batch.note(&row.from, Bucket::Emitted);
        }
        self.tracker.observe(&observed);
        self.previous_ms = watermark_ms;
        self.used_ms = Some(evict_ms);
        let id = self.next_id;
        self.next_id += 1;
        let names = self.plan.nodes().into_iter().filter_map(Plan::state_operator);
        let operators = names.zip(&self.states).zip(dropped);
        let operators =
            operators.map(|((name, state), late)| Operator { name, state_rows: state.rows(), late }).collect();
        Ok(Batch { id, rows: rows.into_iter().map(|r| r.values).collect(), watermark_ms, operators })
    }

    /// Whether a batch without data follows if no source has new rows (spec/01 section 4).
    pub fn no_data_batch_due(&self) -> Result<bool, Refusal> {
        let Some(used) = self.used_ms.as_ref().filter(|_| self.no_data_batches) else { return Ok(false) };
        let next = self.watermarks(self.tracker.global_ms())?;
        let stateful = self.plan.nodes().into_iter().filter(|n| n.state_operator().is_some());
        let mut wants = stateful
            .zip(used.iter().zip(&next))
            .map(|(node, (used, next))| state::wants_another_batch(node, self.mode, *used, *next));
        Ok(wants.any(|w| w))
    }

    /// Whether a batch without data is due at every trigger: functions that go by the clock.
    pub fn is_clocked(&self) -> bool {
        let clocked = |node: &Plan| matches!(node, Plan::Groups { job, .. } if job.timing() == Timing::Clock);
        self.plan.nodes().into_iter().any(clocked)
    }

    /// The query was stopped, or it died, and starts again from its checkpoint.
    pub fn restart(&mut self) {
        self.tracker.restart();
        self.used_ms = None;
    }

    /// The query was stopped and starts again from its checkpoint as another one, with the same stateful operators
    /// (`spec/08`): state and watermark go on, what may be forgotten is the new query's affair.
    ///
    /// # Errors
    /// When the new query is refused, or has other operators: then nothing has changed.
    pub fn redeploy(&mut self, query: &Query) -> Result<(), Refusal> {
        let next = Model::new(query)?;
        let operators =
            |model: &Model| model.plan.nodes().into_iter().filter_map(Plan::state_operator).collect::<Vec<_>>();
        if operators(&next) != operators(self) {
            return Err(Refusal::text("the operators of the changed query are others".to_owned()));
        }
        let mut tracker = next.tracker;
        tracker.go_on_from(&self.tracker);
        *self = Model {
            tracker,
            states: std::mem::take(&mut self.states),
            ledger: self.ledger.take(),
            next_id: self.next_id,
            previous_ms: self.previous_ms,
            ..next
        };
        Ok(())
    }

    /// Where every input row is now. `None` unless [`Model::with_ledger`] was called.
    pub fn ledger(&self) -> Option<Ledger> {
        let mut ledger = self.ledger.clone()?;
        for state in &self.states {
            ledger.note(&state.held(), Bucket::InState);
        }
        Some(ledger)
    }

    fn watermarks(&self, global_ms: i64) -> Result<Vec<i64>, Refusal> {
        if self.one_watermark {
            return Ok(vec![global_ms; self.states.len()]);
        }
        watermark::propagate(&self.plan, global_ms, self.states.len())
    }

    fn read(&mut self, inputs: &[Vec<Vec<Value>>]) -> Vec<Vec<Row>> {
        let mut open = || self.ledger.as_mut().map(Ledger::open).into_iter().collect();
        let mut row = |values: &Vec<Value>| Row { values: values.clone(), from: open() };
        inputs.iter().map(|rows| rows.iter().map(&mut row).collect()).collect()
    }
}
