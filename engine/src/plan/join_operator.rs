//! From the logical join of two streams to its operator.

use std::sync::Arc;

use arrow::datatypes::{Field, FieldRef, Schema};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, JoinType, internal_err};
use datafusion::error::Result;
use datafusion::logical_expr::logical_plan::builder::build_join_schema;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, LogicalPlan, UserDefinedLogicalNodeCore};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::{ExecutionPlan, PhysicalExpr};

use super::extension::{Planning, StatefulPlanner};
use super::join::StreamJoin;
use super::nodes::StatefulNode;
use crate::operators::exchange::exchange;
use crate::operators::join::bound::Bound;
use crate::operators::join::{JoinSide, PairFilter, StreamJoinParts};
use crate::operators::stateful::NoDataBatch;
use crate::operators::stateful_exec::StatefulExec;

/// What one side is planned from.
struct Input<'a> {
    name: &'static str,
    logical: &'a LogicalPlan,
    physical: &'a Arc<dyn ExecutionPlan>,
    keys: Vec<&'a Expr>,
    filter: &'a [Expr],
    event_time: Option<usize>,
    bound: Option<Bound>,
    outer: bool,
}

impl StatefulPlanner {
    /// Each input with its key columns -> exchange by key -> join with the other side's buffer.
    pub(super) fn join(
        &self,
        join: &StreamJoin,
        inputs: &[Arc<dyn ExecutionPlan>],
        planning: &Planning<'_>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let [left, right] = inputs else { return internal_err!("a join has two inputs") };
        let times = join.times()?;
        let forgets = times.bounds.forget();
        let left = Input {
            name: "left",
            logical: &join.left,
            physical: left,
            keys: join.condition.keys.iter().map(|(left, _)| left).collect(),
            filter: &join.condition.left_only,
            event_time: times.left,
            bound: times.bounds.left,
            outer: matches!(join.join_type, JoinType::Left | JoinType::Full),
        };
        let right = Input {
            name: "right",
            logical: &join.right,
            physical: right,
            keys: join.condition.keys.iter().map(|(_, right)| right).collect(),
            filter: &join.condition.right_only,
            event_time: times.right,
            bound: times.bounds.right,
            outer: matches!(join.join_type, JoinType::Right | JoinType::Full),
        };
        let filter = pair_filter(join, planning)?;
        let (left, left_input) = self.join_side(left, planning)?;
        let (right, right_input) = self.join_side(right, planning)?;
        let semi = join.join_type == JoinType::LeftSemi;
        let parts = Arc::new(StreamJoinParts { left, right, semi, filter });
        let wants = if forgets { NoDataBatch::WhenWatermarkRose } else { NoDataBatch::Never };
        let (stores, partitions) = (parts.store_specs()?, self.settings.state_partitions);
        let operator = self.operator(join.id()?, "symmetricHashJoin", stores, partitions, wants);
        let schema = Arc::new(UserDefinedLogicalNodeCore::schema(join).as_arrow().clone());
        let inputs = [left_input, right_input];
        Ok(Arc::new(StatefulExec::new(inputs.into(), parts, operator, Arc::clone(&self.context), schema)))
    }

    /// A side and its input: the side's columns, then the keys that are no columns of it, dealt by key.
    fn join_side(&self, input: Input<'_>, planning: &Planning<'_>) -> Result<(JoinSide, Arc<dyn ExecutionPlan>)> {
        let logical_schema = input.logical.schema();
        let schema = input.physical.schema();
        let columns: Vec<FieldRef> = schema.fields().iter().cloned().collect();
        let mut projected: Vec<(Arc<dyn PhysicalExpr>, String)> = (columns.iter().enumerate())
            .map(|(at, field)| (Arc::new(Column::new(field.name(), at)) as Arc<dyn PhysicalExpr>, field.name().clone()))
            .collect();
        let (mut keys, mut key_fields) = (vec![], vec![]);
        for (number, key) in input.keys.into_iter().enumerate() {
            let key = physical_expr(planning, key, logical_schema)?;
            match key.downcast_ref::<Column>() {
                Some(column) => keys.push(column.index()),
                None => {
                    keys.push(projected.len());
                    projected.push((Arc::clone(&key), format!("__key{number}")));
                }
            }
            key_fields.push(Arc::new(Field::new(format!("key{number}"), key.data_type(&schema)?, true)));
        }
        let filter = match conjunction(input.filter.iter().cloned()) {
            Some(filter) => Some(physical_expr(planning, &filter, logical_schema)?),
            None => None,
        };
        let arriving: Arc<dyn ExecutionPlan> = if projected.len() > columns.len() {
            Arc::new(ProjectionExec::try_new(projected, Arc::clone(input.physical))?)
        } else {
            Arc::clone(input.physical)
        };
        let arriving = exchange(arriving, keys.clone(), self.settings.state_partitions);
        let Input { name, event_time, bound, outer, .. } = input;
        Ok((JoinSide { name, columns, keys, key_fields, event_time, filter, bound, outer }, arriving))
    }
}

fn physical_expr(planning: &Planning<'_>, expr: &Expr, schema: &DFSchema) -> Result<Arc<dyn PhysicalExpr>> {
    planning.planner.create_physical_expr(expr, schema, planning.session, planning.context)
}

/// The rest of the condition over no more columns than it looks at.
fn pair_filter(join: &StreamJoin, planning: &Planning<'_>) -> Result<Option<PairFilter>> {
    let Some(condition) = conjunction(join.condition.rest.iter().cloned()) else { return Ok(None) };
    let both = build_join_schema(join.left.schema(), join.right.schema(), &JoinType::Full)?;
    let expr = physical_expr(planning, &condition, &both)?;
    let mut looked_at: Vec<usize> = collect_columns(&expr).iter().map(Column::index).collect();
    looked_at.sort_unstable();
    looked_at.dedup();
    let place = |index: usize| looked_at.binary_search(&index);
    let moved = expr.transform_down(|expr| match expr.downcast_ref::<Column>() {
        Some(column) => match place(column.index()) {
            Ok(at) => Ok(Transformed::yes(Arc::new(Column::new(column.name(), at)) as Arc<dyn PhysicalExpr>)),
            Err(_) => internal_err!("column {column} of a join's condition was lost"),
        },
        None => Ok(Transformed::no(expr)),
    })?;
    let width = join.left.schema().fields().len();
    let fields: Vec<FieldRef> = looked_at.iter().map(|index| Arc::clone(&both.fields()[*index])).collect();
    let columns =
        looked_at.iter().map(|index| if *index < width { (true, *index) } else { (false, *index - width) }).collect();
    Ok(Some(PairFilter { expr: moved.data, columns, schema: Arc::new(Schema::new(fields)) }))
}
