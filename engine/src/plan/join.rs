//! The logical node of a join of two streams.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::common::{DFSchemaRef, JoinType, internal_err};
use datafusion::error::Result;
use datafusion::logical_expr::logical_plan::builder::build_join_schema;
use datafusion::logical_expr::{Expr, Extension, Join, LogicalPlan, Projection, UserDefinedLogicalNodeCore};

use super::join_bounds::{Side, bounds};
use super::join_condition::JoinCondition;
use super::nodes::{StatefulNode, numbered};
use super::watermark::{OutputRule, event_time_column, event_time_columns};
use crate::error::Error;
use crate::operators::join::bound::Bounds;

/// A join whose both inputs are streams: each side remembers its rows until the other side can match them no more.
///
/// Shape: the columns of the left side, then those of the right side, as DataFusion's own `Join`; a left semi join has
/// those of the left side only. No filter passes below it: what can, has passed before (`plan::filters`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamJoin {
    /// The left stream.
    pub left: Arc<LogicalPlan>,
    /// The right stream.
    pub right: Arc<LogicalPlan>,
    /// Inner, left, right, full, or left semi.
    pub join_type: JoinType,
    /// When two rows match.
    pub condition: JoinCondition,
    /// The operator's number, bottom-up in the plan; set when the query is planned.
    id: Option<usize>,
    schema: DFSchemaRef,
}

/// What a stream-stream join knows about time.
#[derive(Clone, Debug, PartialEq)]
pub struct JoinTimes {
    /// The event-time column of the left side, by index: by it rows are late.
    pub left: Option<usize>,
    /// The event-time column of the right side.
    pub right: Option<usize>,
    /// What the watermark lets each side forget.
    pub bounds: Bounds,
}

impl StreamJoin {
    /// The stateful form of a join of two streams. Refuses a join without an equality between the sides.
    pub fn plan(join: Join) -> Result<LogicalPlan> {
        let condition = JoinCondition::of(&join);
        if condition.keys.is_empty() {
            // Spark finds out in the query's first batch, hence the class.
            let refusal = Error::analysis_class(
                "STREAM_FAILED",
                "Stream-stream join without equality predicate is not supported. Add a condition such as a.key = b.key \
                 to the join.",
            );
            return Err(refusal.into());
        }
        let node = Self {
            left: Arc::new(cut_to_size(join.left)?),
            right: Arc::new(cut_to_size(join.right)?),
            join_type: join.join_type,
            condition,
            id: None,
            schema: join.schema,
        };
        Ok(LogicalPlan::Extension(Extension { node: Arc::new(node) }))
    }

    /// The event-time columns of the sides as they are in this plan, and what follows from them. A side with two of
    /// them is an error, as in Spark.
    pub fn times(&self) -> Result<JoinTimes> {
        let (left_marks, right_marks) = (event_time_columns(&self.left), event_time_columns(&self.right));
        let left = Side { schema: self.left.schema(), marks: &left_marks };
        let right = Side { schema: self.right.schema(), marks: &right_marks };
        let JoinCondition { keys, left_only, right_only, rest } = &self.condition;
        let others = left_only.iter().chain(right_only).chain(rest);
        Ok(JoinTimes {
            left: event_time_column(&self.left)?.map(|(column, _)| column),
            right: event_time_column(&self.right)?.map(|(column, _)| column),
            bounds: bounds(keys, others, left, right),
        })
    }
}

/// A projection of all columns, from which the optimizer takes those that nobody needs: a column that is not needed is
/// not stored, and an event time that is not needed makes no row late (`spec/02` section 5).
fn cut_to_size(input: Arc<LogicalPlan>) -> Result<LogicalPlan> {
    let columns = input.schema().columns().into_iter().map(Expr::Column).collect();
    Ok(LogicalPlan::Projection(Projection::try_new(columns, input)?))
}

impl StatefulNode for StreamJoin {
    fn id(&self) -> Result<usize> {
        numbered(self.id)
    }

    fn with_id(&self, id: usize) -> LogicalPlan {
        let node = Self { id: Some(id), ..self.clone() };
        LogicalPlan::Extension(Extension { node: Arc::new(node) })
    }

    fn output_rule(&self) -> Result<OutputRule> {
        Ok(OutputRule::OfJoin(self.times()?.bounds))
    }
}

impl Hash for StreamJoin {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.left, &self.right, self.join_type, &self.condition).hash(state);
    }
}

impl PartialOrd for StreamJoin {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        self.condition.partial_cmp(&other.condition)
    }
}

impl UserDefinedLogicalNodeCore for StreamJoin {
    fn name(&self) -> &str {
        "StreamJoin"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.left, &self.right]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        let JoinCondition { keys, left_only, right_only, rest } = &self.condition;
        let keys = keys.iter().flat_map(|(left, right)| [left, right]);
        keys.chain(left_only).chain(right_only).chain(rest).cloned().collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let list = |exprs: &[Expr]| exprs.iter().map(ToString::to_string).collect::<Vec<_>>().join(" AND ");
        let JoinCondition { keys, left_only, right_only, rest } = &self.condition;
        let keys: Vec<_> = keys.iter().map(|(left, right)| format!("{left} = {right}")).collect();
        write!(f, "StreamJoin: {} on=[{}]", self.join_type, keys.join(", "))?;
        for (what, exprs) in [("left", left_only), ("right", right_only), ("filter", rest)] {
            if !exprs.is_empty() {
                write!(f, " {what}=[{}]", list(exprs))?;
            }
        }
        Ok(())
    }

    fn with_exprs_and_inputs(&self, exprs: Vec<Expr>, inputs: Vec<LogicalPlan>) -> Result<Self> {
        let [left, right] = <[LogicalPlan; 2]>::try_from(inputs).or_else(|_| internal_err!("a join has two inputs"))?;
        let schema = Arc::new(build_join_schema(left.schema(), right.schema(), &self.join_type)?);
        let mut exprs = exprs.into_iter();
        let mut take = |count: usize| exprs.by_ref().take(count).collect::<Vec<_>>();
        let mut keys = vec![];
        for _ in &self.condition.keys {
            let [left, right] =
                <[Expr; 2]>::try_from(take(2)).or_else(|_| internal_err!("a join key has two expressions"))?;
            keys.push((left, right));
        }
        let condition = JoinCondition {
            keys,
            left_only: take(self.condition.left_only.len()),
            right_only: take(self.condition.right_only.len()),
            rest: take(self.condition.rest.len()),
        };
        let (left, right) = (Arc::new(left), Arc::new(right));
        Ok(Self { left, right, condition, schema, join_type: self.join_type, id: self.id })
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let (left, right) = (self.left.schema(), self.right.schema());
        let width = left.fields().len();
        let (mut of_left, mut of_right): (Vec<usize>, Vec<usize>) = output_columns.iter().partition(|i| **i < width);
        of_right.iter_mut().for_each(|index| *index -= width);
        for expr in UserDefinedLogicalNodeCore::expressions(self) {
            // In hash order, which does not matter: the indices are sorted below.
            let (on_left, on_right): (Vec<_>, Vec<_>) =
                expr.column_refs().into_iter().partition(|column| left.has_column(column));
            of_left.extend(on_left.into_iter().filter_map(|column| left.maybe_index_of_column(column)));
            of_right.extend(on_right.into_iter().filter_map(|column| right.maybe_index_of_column(column)));
        }
        for needed in [&mut of_left, &mut of_right] {
            needed.sort_unstable();
            needed.dedup();
        }
        Some(vec![of_left, of_right])
    }
}
