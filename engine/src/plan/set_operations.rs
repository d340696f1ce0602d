//! EXCEPT and INTERSECT as Spark computes them, in place of DataFusion's joins.
//!
//! ```text
//! a EXCEPT b            Distinct(a LEFT ANTI JOIN b)           the DISTINCT above the join: what is thrown away is not
//!                                                              remembered
//! a EXCEPT ALL b        rows of a count +1, rows of b -1; each row as often as its sum says
//! a INTERSECT ALL b     rows counted on both sides; each row as often as the smaller count says
//! ```
//! DataFusion's ALL forms do not count. INTERSECT without ALL stays as it is.

use std::sync::Arc;

use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, ScalarValue};
use datafusion::error::Result as PlanResult;
use datafusion::functions::core::expr_fn::least;
use datafusion::functions_aggregate::expr_fn::{count, sum};
use datafusion::functions_nested::repeat::array_repeat_udf;
use datafusion::logical_expr::{Distinct, Expr, Join, JoinType, LogicalPlan, LogicalPlanBuilder, lit};

use super::check::sets::{SetOperation, set_operation, without_distinct};
use crate::error::Result;

const LEFT: &str = "__left";
const RIGHT: &str = "__right";
const COPIES: &str = "__copies";

/// Rewrites every set operation of a plan; to be called after `plan::check`.
pub fn plan_set_operations(plan: LogicalPlan) -> Result<LogicalPlan> {
    Ok(plan.transform_up_with_subqueries(rewrite)?.data)
}

fn rewrite(node: LogicalPlan) -> PlanResult<Transformed<LogicalPlan>> {
    let LogicalPlan::Join(join) = &node else { return Ok(Transformed::no(node)) };
    let Some(operation) = set_operation(join) else { return Ok(Transformed::no(node)) };
    let is_all = !matches!(join.left.as_ref(), LogicalPlan::Distinct(_));
    match (operation, is_all) {
        (SetOperation::Intersect, false) => Ok(Transformed::no(node)),
        (SetOperation::Except, false) => distinct_last(join).map(Transformed::yes),
        (_, true) => counted(join, operation).map(Transformed::yes),
    }
}

fn distinct_last(join: &Join) -> PlanResult<LogicalPlan> {
    let left = Arc::new(without_distinct(&join.left).clone());
    let anti = Join::try_new(
        left,
        Arc::clone(&join.right),
        join.on.clone(),
        join.filter.clone(),
        JoinType::LeftAnti,
        join.join_constraint,
        join.null_equality,
        join.null_aware,
    )?;
    Ok(LogicalPlan::Distinct(Distinct::All(Arc::new(LogicalPlan::Join(anti)))))
}

/// One row for each row of either side that says on which side it was; then the rows grouped, and repeated.
fn counted(join: &Join, operation: SetOperation) -> PlanResult<LogicalPlan> {
    let columns: Vec<Column> = join.left.schema().columns();
    let is_except = operation == SetOperation::Except;
    let (here, away) = if is_except { (lit(1_i64), lit(-1_i64)) } else { (lit(1_i64), lit(ScalarValue::Int64(None))) };
    let on_left =
        columns.iter().cloned().map(Expr::Column).chain([here.clone().alias(LEFT), away.clone().alias(RIGHT)]);
    let left = LogicalPlanBuilder::from(join.left.as_ref().clone()).project(on_left.collect::<Vec<_>>())?;
    let own = join.right.schema().columns().into_iter().map(Expr::Column);
    let on_right = own.chain([away.alias(LEFT), here.alias(RIGHT)]);
    let right = LogicalPlanBuilder::from(join.right.as_ref().clone()).project(on_right.collect::<Vec<_>>())?;
    let both = left.union(right.build()?)?;

    let names = both.schema().columns();
    let (keys, marks) = names.split_at(columns.len());
    let (of_left, of_right) = (Expr::Column(marks[0].clone()), Expr::Column(marks[1].clone()));
    let keys: Vec<Expr> = keys.iter().cloned().map(Expr::Column).collect();
    let unqualified = |name: &str| Expr::Column(Column::new_unqualified(name));
    let (grouped, copies) = if is_except {
        (both.aggregate(keys.clone(), [sum(of_left).alias(COPIES)])?, unqualified(COPIES))
    } else {
        let counts = [count(of_left).alias(LEFT), count(of_right).alias(RIGHT)];
        (both.aggregate(keys.clone(), counts)?, least(vec![unqualified(LEFT), unqualified(RIGHT)]))
    };
    let repeated = array_repeat_udf().call(vec![lit(true), copies.clone()]).alias(COPIES);
    let rows = grouped
        .filter(copies.gt(lit(0_i64)))?
        .project(keys.iter().cloned().chain([repeated]).collect::<Vec<_>>())?
        .unnest_column(Column::new_unqualified(COPIES))?;
    let named =
        keys.into_iter().zip(&columns).map(|(key, column)| key.alias_qualified(column.relation.clone(), &column.name));
    rows.project(named.collect::<Vec<_>>())?.build()
}
