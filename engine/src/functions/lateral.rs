//! `LATERAL VIEW explode(x) t AS c`: a lateral join whose right side is one generator becomes an `Unnest` on the left.

use arrow::datatypes::DataType;
use datafusion::common::TableReference;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{Expr, ExprSchemable, Join, LogicalPlan, Projection};
use std::sync::Arc;

use super::generator::{column, field_of, generated};
use crate::error::{Error, Result};
use crate::sql::{GENERATOR_FIELD_CALL, generator_name};

/// The rewritten join, when it is one with a generator: all columns of the left side, then the generator's.
pub(crate) fn expand_lateral(join: &Join) -> Result<Option<LogicalPlan>> {
    let Some((relation, items)) = generator_select(&join.right) else { return Ok(None) };
    let mut calls: Vec<ScalarFunction> = Vec::new();
    let mut columns = Vec::new();
    for item in &items {
        let (call, index, alias) = generator_item(item);
        let Some(call) = call else { return Ok(None) };
        if !calls.contains(call) {
            calls.push(call.clone());
        }
        columns.push((index, alias));
    }
    let [call] = calls.as_slice() else { return Ok(None) };
    let call = with_own_columns(call)?;
    let mut output: Vec<Expr> = join.left.schema().columns().into_iter().map(Expr::Column).collect();
    let unnested = generated(join.left.as_ref().clone(), &call)?;
    let row = column();
    let row_type = row.get_type(unnested.schema())?;
    for (index, alias) in columns {
        let value = match (index, &row_type) {
            (Some(index), DataType::Struct(fields)) => field_of(row.clone(), fields[index].name()),
            (None, DataType::Struct(_)) if has_columns(&call, join)? => return Err(name_the_columns(&call)),
            _ => row.clone(),
        };
        output.push(value.alias_qualified(relation.clone(), alias.unwrap_or_else(|| "col".to_owned())));
    }
    Ok(Some(LogicalPlan::Projection(Projection::try_new(output, Arc::new(unnested))?)))
}

/// Whether a generator makes several columns, which then must be named.
fn has_columns(call: &ScalarFunction, join: &Join) -> Result<bool> {
    Ok(call.name() != "explode" && call.name() != "explode_outer"
        || matches!(call.args[0].get_type(join.left.schema())?, DataType::Map(..)))
}

fn name_the_columns(call: &ScalarFunction) -> Error {
    let name = call.name();
    Error::analysis_class(
        "UDTF_ALIAS_NUMBER_MISMATCH",
        format!("{name}() makes several columns here. Name them all: LATERAL VIEW {name}(..) t AS key, value."),
    )
}

/// The select list below aliases and subqueries, when it stands on no relation.
fn generator_select(plan: &LogicalPlan) -> Option<(Option<TableReference>, Vec<Expr>)> {
    match plan {
        LogicalPlan::SubqueryAlias(alias) => {
            generator_select(&alias.input).map(|(_, items)| (Some(alias.alias.clone()), items))
        }
        LogicalPlan::Subquery(subquery) => generator_select(&subquery.subquery),
        LogicalPlan::Projection(projection) if matches!(*projection.input, LogicalPlan::EmptyRelation(_)) => {
            Some((None, projection.expr.clone()))
        }
        _ => None,
    }
}

/// The generator of an item, which of its fields is meant, and the item's alias.
fn generator_item(item: &Expr) -> (Option<&ScalarFunction>, Option<usize>, Option<String>) {
    match item {
        Expr::Alias(alias) => {
            let (call, index, _) = generator_item(&alias.expr);
            (call, index, Some(alias.name.clone()))
        }
        Expr::ScalarFunction(call) if call.name() == GENERATOR_FIELD_CALL => {
            let index = match &call.args[1] {
                Expr::Literal(datafusion::common::ScalarValue::Int64(Some(index)), _) => Some(*index as usize),
                _ => None,
            };
            (generator_item(&call.args[0]).0, index, None)
        }
        Expr::ScalarFunction(call) if generator_name(call.name()) => (Some(call), None, None),
        _ => (None, None, None),
    }
}

/// The columns of the left side were columns of an outer query.
fn with_own_columns(call: &ScalarFunction) -> Result<ScalarFunction> {
    let args = call.args.iter().map(|arg| {
        arg.clone().transform_down(|e| match e {
            Expr::OuterReferenceColumn(_, column) => Ok(Transformed::yes(Expr::Column(column))),
            other => Ok(Transformed::no(other)),
        })
    });
    let args = args.map(|arg| arg.map(|arg| arg.data)).collect::<datafusion::error::Result<Vec<_>>>()?;
    Ok(ScalarFunction::new_udf(Arc::clone(&call.func), args))
}
