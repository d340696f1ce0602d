//! The logical nodes that DataFusion does not have: watermarks and the operators that remember.
//!
//! They stand in a DataFusion `LogicalPlan` as extension nodes, so that the optimizer moves filters and projections
//! around them, but never across them where that would change the answer:
//! * a filter passes below a [`Watermark`] only when it does not look at the event-time column (`spec/02` section 2);
//! * a filter passes below a [`StatefulAggregate`] when it looks at grouping columns only, as in Spark, where it keeps
//!   the other groups out of state. (A session counts as a grouping column: it is then each row's own initial session.)

use std::cmp::Ordering;
use std::collections::HashSet;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::common::{Column, DFSchemaRef, internal_err};
use datafusion::error::Result;
use datafusion::logical_expr::{
    Aggregate, Expr, Extension, GroupingSet, LogicalPlan, UserDefinedLogicalNode, UserDefinedLogicalNodeCore,
};

use super::check::grouping_columns;
use super::dedup::Deduplicate;
use super::groups::KeyedFunction;
use super::join::StreamJoin;
use super::limit::StreamLimit;
use super::watermark::OutputRule;
use crate::functions::session_assign::session_key;
use crate::functions::window_expand::Sliding;
use crate::sink::OutputMode;

/// `withWatermark(column, delay)`: rows pass unchanged; the event times of the column are observed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Watermark {
    input: Arc<LogicalPlan>,
    column: Column,
    delay_ms: i64,
    /// The call that made it: a view with a watermark that is read twice has one watermark, as in Spark (`nodeId`).
    origin: Origin,
    /// The node's number in plan order; set when the query is planned.
    id: Option<usize>,
    schema: DFSchemaRef,
}

/// Which call of `withWatermark` a node comes from: copies of one are equal.
#[derive(Clone, Debug, Default)]
pub struct Origin(Arc<()>);

impl PartialEq for Origin {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Origin {}

impl Hash for Origin {
    // Equal ones hash alike, which is all that is needed; an address would differ from run to run.
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

impl Watermark {
    /// Puts the watermark node on top of `input`. Whether the column is there, at top level and of a type that can
    /// carry event time is checked by `plan::watermark::watermark_node`, which users' calls go through.
    pub fn try_new(input: LogicalPlan, column: Column, delay_ms: i64) -> Result<LogicalPlan> {
        let schema = Arc::clone(input.schema());
        schema.index_of_column(&column)?;
        let node = Self { input: Arc::new(input), column, delay_ms, origin: Origin::default(), id: None, schema };
        Ok(LogicalPlan::Extension(Extension { node: Arc::new(node) }))
    }

    /// The rows observed.
    pub fn input(&self) -> &LogicalPlan {
        &self.input
    }

    /// The event-time column, by index into the schema.
    pub fn column_index(&self) -> Result<usize> {
        self.schema.index_of_column(&self.column)
    }

    /// How far the watermark stays behind the newest event time, in milliseconds.
    pub fn delay_ms(&self) -> i64 {
        self.delay_ms
    }

    /// The node's number; an error before the query is planned.
    pub fn id(&self) -> Result<usize> {
        numbered(self.id)
    }

    /// The call that made the node.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The same node with a number.
    pub fn with_id(&self, id: usize) -> LogicalPlan {
        let node = Self { id: Some(id), ..self.clone() };
        LogicalPlan::Extension(Extension { node: Arc::new(node) })
    }
}

impl PartialOrd for Watermark {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (&self.column, self.delay_ms).partial_cmp(&(&other.column, other.delay_ms))
    }
}

impl UserDefinedLogicalNodeCore for Watermark {
    fn name(&self) -> &str {
        "Watermark"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        vec![Expr::Column(self.column.clone())]
    }

    fn prevent_predicate_push_down_columns(&self) -> HashSet<String> {
        HashSet::from([self.column.name.clone()])
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "Watermark: {} delay={}ms", self.column, self.delay_ms)
    }

    fn with_exprs_and_inputs(&self, mut exprs: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> Result<Self> {
        let (Some(Expr::Column(column)), Some(input)) = (exprs.pop(), inputs.pop()) else {
            return internal_err!("Watermark takes one column and one input");
        };
        let schema = Arc::clone(input.schema());
        Ok(Self { input: Arc::new(input), column, schema, ..self.clone() })
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let mut needed = output_columns.to_vec();
        needed.push(self.column_index().ok()?);
        needed.sort_unstable();
        needed.dedup();
        Some(vec![needed])
    }
}

/// A grouping expression whose groups are made by the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WindowKey {
    /// The expression gives a row's initial session; those of equal other keys that touch become one.
    Session {
        /// The expression's index.
        key: usize,
    },
    /// The expression gives the start of a row's pane; a pane's states go to each of its windows.
    Panes {
        /// The expression's index.
        key: usize,
        /// The windows.
        windows: Sliding,
    },
}

/// A grouped (or global) aggregation whose groups live on from batch to batch.
///
/// Shape: the columns of `group_exprs` (with `sets`, then `__grouping_id`), then those of `aggr_exprs`, as DataFusion's
/// own `Aggregate`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatefulAggregate {
    /// The rows to aggregate.
    pub input: Arc<LogicalPlan>,
    /// The grouping expressions; empty for a global aggregation.
    pub group_exprs: Vec<Expr>,
    /// The aggregate function calls.
    pub aggr_exprs: Vec<Expr>,
    /// Which grouping expression is the marked event-time column (or window of it): its values are late, and its
    /// groups leave state, by the watermark.
    pub event_time_key: Option<usize>,
    /// Which groups a batch emits.
    pub mode: OutputMode,
    /// The grouping expression that is not simply a value to group by, if there is one.
    pub window: Option<WindowKey>,
    /// With GROUPING SETS, ROLLUP or CUBE: for each set, which of the grouping expressions it leaves out (they are null
    /// there). A column `__grouping_id` then follows the grouping columns, and is one of them.
    pub sets: Option<Vec<Vec<bool>>>,
    /// The operator's number, bottom-up in the plan; set when the query is planned.
    id: Option<usize>,
    schema: DFSchemaRef,
}

impl StatefulAggregate {
    /// The stateful form of an `Aggregate` node.
    pub fn plan(aggregate: Aggregate, event_time_key: Option<usize>, mode: OutputMode) -> LogicalPlan {
        let (group_exprs, sets) = grouping_sets(&aggregate);
        let Aggregate { input, aggr_expr: aggr_exprs, schema, .. } = aggregate;
        let window = session_key(&schema.fields()[..group_exprs.len()]).map(|key| WindowKey::Session { key });
        let node = Self { input, group_exprs, aggr_exprs, event_time_key, mode, window, sets, id: None, schema };
        LogicalPlan::Extension(Extension { node: Arc::new(node) })
    }

    /// How many columns a group's key has: the first of the schema.
    pub fn key_width(&self) -> usize {
        self.group_exprs.len() + usize::from(self.sets.is_some())
    }

    /// The same aggregation with the start of a pane in place of grouping expression `key`, which is a window.
    pub fn by_panes(&self, input: LogicalPlan, key: usize, windows: Sliding) -> LogicalPlan {
        let window = Some(WindowKey::Panes { key, windows });
        let node = Self { input: Arc::new(input), window, ..self.clone() };
        LogicalPlan::Extension(Extension { node: Arc::new(node) })
    }
}

/// What an aggregation groups by, and which of it each grouping set leaves out.
fn grouping_sets(aggregate: &Aggregate) -> (Vec<Expr>, Option<Vec<Vec<bool>>>) {
    let columns: Vec<Expr> = grouping_columns(aggregate).into_iter().cloned().collect();
    let width = columns.len();
    let sets = match aggregate.group_expr.as_slice() {
        [Expr::GroupingSet(GroupingSet::GroupingSets(sets))] => {
            sets.iter().map(|set| columns.iter().map(|column| !set.contains(column)).collect()).collect()
        }
        [Expr::GroupingSet(GroupingSet::Rollup(_))] => {
            (0..=width).map(|kept| (0..width).map(|column| column >= kept).collect()).collect()
        }
        [Expr::GroupingSet(GroupingSet::Cube(_))] => {
            (0..1_usize << width).map(|set| (0..width).map(|column| set >> column & 1 == 1).collect()).collect()
        }
        _ => return (columns, None),
    };
    (columns, Some(sets))
}

impl StatefulNode for StatefulAggregate {
    fn id(&self) -> Result<usize> {
        numbered(self.id)
    }

    fn with_id(&self, id: usize) -> LogicalPlan {
        let node = Self { id: Some(id), ..self.clone() };
        LogicalPlan::Extension(Extension { node: Arc::new(node) })
    }
}

impl Hash for StatefulAggregate {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.input.hash(state);
        self.group_exprs.hash(state);
        self.aggr_exprs.hash(state);
        self.event_time_key.hash(state);
        self.mode.hash(state);
        self.window.hash(state);
        self.sets.hash(state);
    }
}

impl PartialOrd for StatefulAggregate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        self.group_exprs.partial_cmp(&other.group_exprs)
    }
}

impl UserDefinedLogicalNodeCore for StatefulAggregate {
    fn name(&self) -> &str {
        "StatefulAggregate"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        self.group_exprs.iter().chain(&self.aggr_exprs).cloned().collect()
    }

    fn prevent_predicate_push_down_columns(&self) -> HashSet<String> {
        let is_key =
            |column: &Column| self.group_exprs.iter().any(|expr| matches!(expr, Expr::Column(key) if key == column));
        // With grouping sets a key is null where its set leaves the column out, whatever the rows say.
        let is_key = |column: &Column| self.sets.is_none() && is_key(column);
        self.schema.columns().into_iter().filter(|column| !is_key(column)).map(|column| column.name).collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let list = |exprs: &[Expr]| exprs.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        write!(
            f,
            "StatefulAggregate: {} groupBy=[{}] aggr=[{}]",
            self.mode,
            list(&self.group_exprs),
            list(&self.aggr_exprs)
        )?;
        if let Some(sets) = &self.sets {
            write!(f, " sets={}", sets.len())?;
        }
        match self.window {
            Some(WindowKey::Session { key }) => write!(f, " sessions={}", self.group_exprs[key]),
            Some(WindowKey::Panes { key, .. }) => write!(f, " panes={}", self.group_exprs[key]),
            None => Ok(()),
        }
    }

    fn with_exprs_and_inputs(&self, mut exprs: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> Result<Self> {
        let Some(input) = inputs.pop() else { return internal_err!("StatefulAggregate takes one input") };
        let aggr_exprs = exprs.split_off(self.group_exprs.len());
        Ok(Self { input: Arc::new(input), group_exprs: exprs, aggr_exprs, ..self.clone() })
    }

    /// All columns that the expressions read, whatever is asked for: state keeps every aggregate, so that what a
    /// query selects afterwards never changes what is stored.
    fn necessary_children_exprs(&self, _output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let input = self.input.schema();
        let mut needed: Vec<usize> = (self.group_exprs.iter().chain(&self.aggr_exprs))
            .flat_map(|expr| expr.column_refs().into_iter().filter_map(|c| input.index_of_column(c).ok()))
            .collect();
        needed.sort_unstable();
        needed.dedup();
        Some(vec![needed])
    }
}

/// What planning needs to know of a node whose operator remembers, whatever the operator does.
pub trait StatefulNode {
    /// The operator's number; an error before the query is planned.
    fn id(&self) -> Result<usize>;

    /// The same node with a number.
    fn with_id(&self, id: usize) -> LogicalPlan;

    /// Which watermark what is above works with.
    fn output_rule(&self) -> Result<OutputRule> {
        Ok(OutputRule::SameAsInput)
    }
}

/// The node as one whose operator remembers, if it is one.
pub fn as_stateful(plan: &LogicalPlan) -> Option<&dyn StatefulNode> {
    let LogicalPlan::Extension(extension) = plan else { return None };
    let node = extension.node.as_ref();
    let aggregate = || as_node::<StatefulAggregate>(node).map(|node| node as &dyn StatefulNode);
    let join = || as_node::<StreamJoin>(node).map(|node| node as &dyn StatefulNode);
    let deduplicate = || as_node::<Deduplicate>(node).map(|node| node as &dyn StatefulNode);
    let limit = || as_node::<StreamLimit>(node).map(|node| node as &dyn StatefulNode);
    let keyed =
        || as_node::<KeyedFunction>(node).filter(|node| node.is_stateful()).map(|node| node as &dyn StatefulNode);
    aggregate().or_else(keyed).or_else(join).or_else(deduplicate).or_else(limit)
}

/// The node as one of the engine's own kinds, if it is of that kind.
pub fn as_node<T: 'static>(node: &dyn UserDefinedLogicalNode) -> Option<&T> {
    node.as_any().downcast_ref()
}

pub(super) fn numbered(id: Option<usize>) -> Result<usize> {
    id.map_or_else(|| internal_err!("a stateful node was used before the plan was numbered"), Ok)
}
