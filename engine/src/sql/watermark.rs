//! The `WATERMARK` clause between the token pass and the plan: a filter whose condition is a marker call.

use arrow::datatypes::{DataType, Field};
use datafusion::common::Column;
use datafusion::common::tree_node::{Transformed, TreeNodeRecursion};
use datafusion::logical_expr::{Expr as PlanExpr, LogicalPlan, ScalarUDF};
use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, ObjectName, SelectItem, TableFactor,
    TableWithJoins, WildcardAdditionalOptions,
};
use std::cell::RefCell;
use std::sync::Arc;

use super::WATERMARK_CALL;
use super::calls::positional;
use super::names::{Namer, string_arguments};
use super::resolve::quoted;
use super::scope::Names;
use crate::error::{Error, Result};
use crate::functions::call::Call;

/// Makes a watermark node: input, event-time column, delay in milliseconds.
pub type MakeWatermark<'a> = &'a (dyn Fn(LogicalPlan, Column, i64) -> Result<LogicalPlan> + Sync);

/// The function that a `WATERMARK` clause is planned as, until [`place_watermarks`] replaces it.
pub(crate) fn watermark_marker() -> Arc<ScalarUDF> {
    Call::marker(WATERMARK_CALL, |name, _| Ok(Arc::new(Field::new(name, DataType::Boolean, false))))
}

/// Whether a function name is the marker's.
pub(crate) fn is_marker(name: &ObjectName) -> bool {
    name.to_string() == WATERMARK_CALL
}

/// The named expression of `WATERMARK e AS name`, which the marker then refers to by name; `None` for a plain column.
pub(crate) fn name_expression(function: &mut Function, names: &Names) -> Result<Option<SelectItem>> {
    let arguments = positional(function);
    let Some(expr) = arguments.first().cloned() else { return Ok(None) };
    let given = string_arguments(function).get(1).cloned();
    let column = match &expr {
        Expr::Identifier(id) => names.find(std::slice::from_ref(id))?.is_some_and(|(found, _)| found.parts == 1),
        Expr::CompoundIdentifier(ids) => names.find(ids)?.is_some_and(|(found, _)| found.parts == ids.len()),
        _ => false,
    };
    let name = match (&given, &expr) {
        (None, Expr::Identifier(_)) => return Ok(None),
        (None, Expr::CompoundIdentifier(ids)) if !column => ids.last().map(|id| id.value.clone()).unwrap_or_default(),
        (None, _) if column => return Ok(None),
        (Some(name), _) => name.clone(),
        (None, _) => {
            let text = Namer { is_relation: &|name| names.scope.has_relation(name) }.text(&expr);
            return Err(Error::analysis_class(
                "REQUIRES_EXPLICIT_NAME_IN_WATERMARK_CLAUSE",
                format!(
                    "The watermark clause requires an explicit name if expression is specified, but got {text}. Write \
                     WATERMARK {text} AS name DELAY OF ..."
                ),
            ));
        }
    };
    if let FunctionArguments::List(list) = &mut function.args {
        list.args.truncate(2);
        list.args[0] = FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Identifier(quoted(&name))));
    }
    Ok(Some(SelectItem::ExprWithAlias { expr, alias: quoted(&name) }))
}

/// `(SELECT item, * FROM relation) AS relation's name`.
pub(crate) fn projected(item: SelectItem, from: Vec<TableWithJoins>) -> TableWithJoins {
    let items = vec![item, SelectItem::Wildcard(WildcardAdditionalOptions::default())];
    let subquery = super::parse::select_query(items, from).expect("a select of columns");
    let relation = TableFactor::Derived { lateral: false, subquery: Box::new(subquery), alias: None, sample: None };
    TableWithJoins { relation, joins: Vec::new() }
}

/// Replaces every filter with a marker by the node that `make` makes.
pub(crate) fn place_watermarks(plan: LogicalPlan, make: MakeWatermark) -> Result<LogicalPlan> {
    let failed = RefCell::new(None);
    let placed = plan.transform_up_with_subqueries(|node| {
        let LogicalPlan::Filter(filter) = &node else { return Ok(Transformed::no(node)) };
        let Some((column, delay_ms)) = marker(&filter.predicate) else { return Ok(Transformed::no(node)) };
        match column.and_then(|column| make(filter.input.as_ref().clone(), column, delay_ms)) {
            Ok(watermark) => Ok(Transformed::yes(watermark)),
            Err(error) => {
                failed.replace(Some(error));
                Ok(Transformed::new(node, false, TreeNodeRecursion::Stop))
            }
        }
    })?;
    match failed.into_inner() {
        Some(error) => Err(error),
        None => Ok(placed.data),
    }
}

/// The column and delay of a marker call.
fn marker(predicate: &PlanExpr) -> Option<(Result<Column>, i64)> {
    let PlanExpr::ScalarFunction(call) = predicate else { return None };
    if call.name() != WATERMARK_CALL {
        return None;
    }
    let PlanExpr::Literal(delay, _) = call.args.get(1)? else { return None };
    let delay_ms = delay.try_as_str()??.parse().ok()?;
    let column = match call.args.first()? {
        PlanExpr::Column(column) => Ok(column.clone()),
        other => Err(Error::analysis_class(
            "EVENT_TIME_MUST_BE_TOP_LEVEL_COLUMN",
            format!("The event time {other} is not a top-level column. Select it under a name of its own first."),
        )),
    };
    Some((column, delay_ms))
}
