//! The logical plan: a tree of relational nodes whose columns carry ids, types and the event-time mark.

use std::collections::BTreeSet;
use std::rc::Rc;

use super::OutputMode;
use super::expr::{AggregateCall, Column, ColumnId, Expr};
use super::value::Value;
use crate::groups::GroupJob;

/// Types of join. A cross join is an inner join without a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JoinKind {
    /// Inner and cross.
    Inner,
    /// Left outer.
    LeftOuter,
    /// Right outer.
    RightOuter,
    /// Full outer.
    FullOuter,
    /// Left semi.
    LeftSemi,
    /// Left anti.
    LeftAnti,
}

impl JoinKind {
    /// Spark's name in messages.
    pub fn name(self) -> &'static str {
        match self {
            JoinKind::Inner => "Inner",
            JoinKind::LeftOuter => "LeftOuter",
            JoinKind::RightOuter => "RightOuter",
            JoinKind::FullOuter => "FullOuter",
            JoinKind::LeftSemi => "LeftSemi",
            JoinKind::LeftAnti => "LeftAnti",
        }
    }

    /// Whether left rows without a partner come out padded with NULL.
    pub fn keeps_left(self) -> bool {
        matches!(self, JoinKind::LeftOuter | JoinKind::FullOuter)
    }

    /// Whether right rows without a partner come out padded with NULL.
    pub fn keeps_right(self) -> bool {
        matches!(self, JoinKind::RightOuter | JoinKind::FullOuter)
    }

    /// Whether the right columns are not part of the result.
    pub fn left_only(self) -> bool {
        matches!(self, JoinKind::LeftSemi | JoinKind::LeftAnti)
    }
}

/// One key of ORDER BY.
#[derive(Debug, Clone, PartialEq)]
pub struct SortKey {
    /// What to sort by.
    pub expr: Expr,
    /// DESC.
    pub descending: bool,
    /// NULLS FIRST.
    pub nulls_first: bool,
}

/// A plan node. `op` numbers the stateful operators, `node` the watermark nodes, both set by
/// [`Plan::number`] after the rules have run, from the top of the pipeline down.
#[derive(Debug, Clone)]
pub enum Plan {
    /// The rows a source gives in this batch.
    Stream { source: usize, columns: Vec<Column> },
    /// A static table.
    Table { columns: Vec<Column>, rows: Rc<Vec<Vec<Value>>> },
    /// `withWatermark`.
    Watermark { input: Box<Plan>, column: ColumnId, delay_ms: i64, node: usize },
    /// WHERE and HAVING.
    Filter { input: Box<Plan>, condition: Expr },
    /// SELECT without aggregates.
    Project { input: Box<Plan>, items: Vec<(Column, Expr)> },
    /// Adds the window column, one output row for each window of the row. Sizes in microseconds.
    Window { input: Box<Plan>, column: Column, time: Expr, width_us: i64, slide_us: i64, start_us: i64 },
    /// Adds the row's own initial session `[time, time + gap)`.
    Session { input: Box<Plan>, column: Column, time: Expr, gap: Expr },
    /// Adds one element of the array, one output row for each.
    Explode { input: Box<Plan>, column: Column, array: Expr },
    /// Grouping; output is the keys, then the calls. `session` is the key that is a session window.
    Aggregate {
        input: Box<Plan>,
        keys: Vec<Column>,
        calls: Vec<(Column, AggregateCall)>,
        session: Option<ColumnId>,
        op: usize,
    },
    /// `dropDuplicates` and `dropDuplicatesWithinWatermark`.
    Dedup { input: Box<Plan>, keys: Vec<ColumnId>, within: bool, op: usize },
    /// A user function over groups.
    Groups { input: Box<Plan>, keys: Vec<ColumnId>, job: GroupJob, columns: Vec<Column>, op: usize },
    /// Any join.
    Join { left: Box<Plan>, right: Box<Plan>, kind: JoinKind, condition: Option<Expr>, op: usize },
    /// UNION ALL, by position. Without inputs it is a stream that never has rows.
    Union { inputs: Vec<Plan>, columns: Vec<Column> },
    /// ORDER BY.
    Sort { input: Box<Plan>, by: Vec<SortKey> },
    /// LIMIT; `stateful` (set by [`Plan::number`]) if it counts over all batches.
    Limit { input: Box<Plan>, count: i64, stateful: bool, op: usize },
    /// OFFSET, which a stream never runs.
    Offset { input: Box<Plan>, count: i64 },
}

impl Plan {
    /// Output columns, in order.
    pub fn columns(&self) -> Vec<Column> {
        match self {
            Plan::Stream { columns, .. }
            | Plan::Table { columns, .. }
            | Plan::Union { columns, .. }
            | Plan::Groups { columns, .. } => columns.clone(),
            Plan::Watermark { input, column, delay_ms, .. } => {
                let mut columns = input.columns();
                for c in &mut columns {
                    // A later call moves the mark.
                    c.delay_ms = (c.id == *column).then_some(*delay_ms);
                }
                columns
            }
            Plan::Filter { input, .. }
            | Plan::Dedup { input, .. }
            | Plan::Sort { input, .. }
            | Plan::Limit { input, .. }
            | Plan::Offset { input, .. } => input.columns(),
            Plan::Project { items, .. } => items.iter().map(|(column, _)| column.clone()).collect(),
            Plan::Window { input, column, .. }
            | Plan::Session { input, column, .. }
            | Plan::Explode { input, column, .. } => {
                let mut columns = input.columns();
                columns.push(column.clone());
                columns
            }
            Plan::Aggregate { keys, calls, .. } => keys.iter().chain(calls.iter().map(|(c, _)| c)).cloned().collect(),
            Plan::Join { left, right, kind, .. } => {
                let mut columns = left.columns();
                if !kind.left_only() {
                    columns.extend(right.columns());
                }
                columns
            }
        }
    }

    /// The ids of the output columns.
    pub fn column_ids(&self) -> BTreeSet<ColumnId> {
        self.columns().iter().map(|c| c.id).collect()
    }

    /// Direct inputs.
    pub fn inputs(&self) -> Vec<&Plan> {
        match self {
            Plan::Stream { .. } | Plan::Table { .. } => vec![],
            Plan::Join { left, right, .. } => vec![left, right],
            Plan::Union { inputs, .. } => inputs.iter().collect(),
            Plan::Watermark { input, .. }
            | Plan::Filter { input, .. }
            | Plan::Project { input, .. }
            | Plan::Window { input, .. }
            | Plan::Session { input, .. }
            | Plan::Explode { input, .. }
            | Plan::Aggregate { input, .. }
            | Plan::Dedup { input, .. }
            | Plan::Groups { input, .. }
            | Plan::Sort { input, .. }
            | Plan::Limit { input, .. }
            | Plan::Offset { input, .. } => vec![input],
        }
    }

    /// Direct inputs, to change them.
    pub fn inputs_mut(&mut self) -> Vec<&mut Plan> {
        match self {
            Plan::Stream { .. } | Plan::Table { .. } => vec![],
            Plan::Join { left, right, .. } => vec![left, right],
            Plan::Union { inputs, .. } => inputs.iter_mut().collect(),
            Plan::Watermark { input, .. }
            | Plan::Filter { input, .. }
            | Plan::Project { input, .. }
            | Plan::Window { input, .. }
            | Plan::Session { input, .. }
            | Plan::Explode { input, .. }
            | Plan::Aggregate { input, .. }
            | Plan::Dedup { input, .. }
            | Plan::Groups { input, .. }
            | Plan::Sort { input, .. }
            | Plan::Limit { input, .. }
            | Plan::Offset { input, .. } => vec![input],
        }
    }

    /// Whether any input below is a stream.
    pub fn is_streaming(&self) -> bool {
        let nothing = matches!(self, Plan::Union { inputs, .. } if inputs.is_empty());
        nothing || matches!(self, Plan::Stream { .. }) || self.inputs().into_iter().any(Plan::is_streaming)
    }

    /// All nodes, parents before children, left before right.
    pub fn nodes(&self) -> Vec<&Plan> {
        let mut all = vec![self];
        for input in self.inputs() {
            all.extend(input.nodes());
        }
        all
    }

    /// Spark's name of the state operator this node runs as; `None` for stateless nodes.
    pub fn state_operator(&self) -> Option<&'static str> {
        if !self.is_streaming() {
            return None;
        }
        match self {
            Plan::Aggregate { session: Some(_), .. } => Some("sessionWindowStateStoreSaveExec"),
            Plan::Aggregate { .. } => Some("stateStoreSave"),
            Plan::Dedup { within: false, .. } => Some("dedupe"),
            Plan::Dedup { within: true, .. } => Some("dedupeWithinWatermark"),
            Plan::Join { left, right, .. } if left.is_streaming() && right.is_streaming() => Some("symmetricHashJoin"),
            Plan::Groups { job, .. } if job.is_processor() => Some("transformWithStateExec"),
            Plan::Groups { .. } => Some("flatMapGroupsWithState"),
            Plan::Limit { stateful: true, .. } => Some("globalLimit"),
            _ => None,
        }
    }

    /// Numbers the stateful operators and the watermark nodes. A LIMIT above an aggregation cuts each
    /// batch for itself, except in append mode: there the aggregation's output too is a stream of rows.
    pub fn number(&mut self, mode: OutputMode, next_op: &mut usize, next_node: &mut usize) {
        if let Plan::Limit { input, stateful, .. } = self {
            let aggregated = input.nodes().iter().any(|n| matches!(n, Plan::Aggregate { .. }) && n.is_streaming());
            *stateful = input.is_streaming() && (mode == OutputMode::Append || !aggregated);
        }
        if self.state_operator().is_some() {
            match self {
                Plan::Aggregate { op, .. }
                | Plan::Dedup { op, .. }
                | Plan::Groups { op, .. }
                | Plan::Join { op, .. }
                | Plan::Limit { op, .. } => {
                    *op = *next_op;
                    *next_op += 1;
                }
                _ => {}
            }
        }
        if let Plan::Watermark { node, .. } = self {
            *node = *next_node;
            *next_node += 1;
        }
        for input in self.inputs_mut() {
            input.number(mode, next_op, next_node);
        }
    }
}

/// The event-time mark an expression keeps: a bare column's own, and `window_time` of a marked window.
/// Every other expression loses it (spec/02 section 1).
pub fn mark_of(expr: &Expr, columns: &[Column]) -> Option<i64> {
    match expr {
        Expr::Column(id, _) => columns.iter().find(|c| c.id == *id)?.delay_ms,
        Expr::Call(name, args, _) if name == "window_time" => mark_of(&args[0], columns),
        _ => None,
    }
}
