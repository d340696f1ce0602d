//! `explode` and its family: calls in a select list that make several rows of one.
//!
//! ```text
//! Projection [k, explode(a) AS x]     =>   Projection [k, `__generated` AS x]
//!   input                                    Unnest `__generated`
//!                                              Projection [*, __elements(a) AS `__generated`]
//!                                                input
//! ```
//! One generator per select list, as in Spark. `explode` drops rows whose array or map is null or empty; the `_outer`
//! forms keep them with nulls. `LATERAL VIEW` comes here as a lateral join with a select of a generator.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int32Array, ListArray, StructArray};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, NullHandling, ScalarValue, UnnestOptions, internal_err};
use datafusion::error::Result as PlanResult;
use datafusion::functions::core::expr_fn::get_field;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{
    Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, Projection, ReturnFieldArgs, ScalarUDF,
};

use super::call::{Arguments, Call, as_they_are};
use crate::error::{Error, Result};
use crate::sql::types::quoted_type_name;
use crate::sql::{GENERATOR_FIELD_CALL, generator_name, wrong_argument_count};

/// The list of what a generator makes of a row; `__positions` numbers them.
const ELEMENTS_CALL: &str = "__elements";
const POSITIONS_CALL: &str = "__positions";
/// The column of the plan that holds one generated value a row.
const GENERATED: &str = "__generated";

/// The functions of this file.
pub fn functions() -> Vec<Arc<ScalarUDF>> {
    let markers = ["explode", "explode_outer", "posexplode", "posexplode_outer", "inline", "inline_outer"];
    let mut functions: Vec<_> = markers.into_iter().map(|name| Call::marker(name, marker_field)).collect();
    functions.push(Call::marker(GENERATOR_FIELD_CALL, generator_field));
    functions
}

fn elements_udf(positions: bool) -> Arc<ScalarUDF> {
    if positions {
        Call::computed(POSITIONS_CALL, as_they_are, list_field, numbered_elements)
    } else {
        Call::computed(ELEMENTS_CALL, as_they_are, list_field, elements)
    }
}

// ---- types ----

/// The type of what one row of a generator holds: an element, or a struct when there are several columns.
fn row_type(name: &str, argument: &DataType) -> Result<DataType> {
    let positions = name.starts_with("pos") || name == POSITIONS_CALL;
    let column = |name: &str, data_type: &DataType| Arc::new(Field::new(name, data_type.clone(), true));
    let columns: Vec<FieldRef> = match argument {
        DataType::List(element) | DataType::LargeList(element) | DataType::FixedSizeList(element, _) => {
            match element.data_type() {
                DataType::Struct(fields) if name.starts_with("inline") => {
                    return Ok(DataType::Struct(fields.clone()));
                }
                element if positions => vec![column("pos", &DataType::Int32), column("col", element)],
                element => return Ok(element.clone()),
            }
        }
        DataType::Map(entries, _) if !name.starts_with("inline") => {
            let DataType::Struct(entry) = entries.data_type() else {
                return Err(Error::internal("a map without entries"));
            };
            let mut columns = vec![column("key", entry[0].data_type()), column("value", entry[1].data_type())];
            if positions {
                columns.insert(0, column("pos", &DataType::Int32));
            }
            columns
        }
        other => {
            return Err(Error::analysis_class(
                "DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE",
                format!(
                    "Cannot resolve \"{name}\" due to data type mismatch: The first parameter requires the (\"ARRAY\" or \"MAP\") \
                     type, however it has the type {}.",
                    quoted_type_name(other)
                ),
            ));
        }
    };
    Ok(DataType::Struct(columns.into()))
}

fn marker_field(name: &str, args: ReturnFieldArgs) -> PlanResult<FieldRef> {
    let [argument] = args.arg_fields else {
        return Err(wrong_argument_count(name, "1", args.arg_fields.len()).into());
    };
    Ok(Arc::new(Field::new(name, row_type(name, argument.data_type())?, true)))
}

fn generator_field(name: &str, args: ReturnFieldArgs) -> PlanResult<FieldRef> {
    let index = match args.scalar_arguments.get(1) {
        Some(Some(ScalarValue::Int64(Some(index)))) => *index as usize,
        _ => return internal_err!("{name} takes a generator and a number"),
    };
    match args.arg_fields[0].data_type() {
        DataType::Struct(fields) if index < fields.len() => {
            Ok(Arc::new(Field::new(name, fields[index].data_type().clone(), true)))
        }
        other => Err(Error::analysis_class(
            "UDTF_ALIAS_NUMBER_MISMATCH",
            format!("There are more names after AS than the generator makes columns ({}).", quoted_type_name(other)),
        )
        .into()),
    }
}

fn list_field(name: &str, args: ReturnFieldArgs) -> PlanResult<FieldRef> {
    let element = row_type(name, args.arg_fields[0].data_type())?;
    Ok(Arc::new(Field::new(name, DataType::List(Arc::new(Field::new_list_field(element, true))), true)))
}

// ---- computing ----

/// A list column as it is, a map column as a list of its entries.
fn elements(arguments: Arguments) -> PlanResult<ArrayRef> {
    list_of(&arguments, false)
}

/// [`elements`] with the position of each as first field.
fn numbered_elements(arguments: Arguments) -> PlanResult<ArrayRef> {
    list_of(&arguments, true)
}

fn list_of(arguments: &Arguments, numbered: bool) -> PlanResult<ArrayRef> {
    let DataType::List(element) = arguments.field.data_type() else { return internal_err!("a list is made") };
    let (offsets, mut columns, nulls) = parts(&arguments.arrays[0])?;
    if numbered {
        columns.insert(0, positions(&offsets, columns[0].len()));
    }
    let values = match (columns.len(), element.data_type()) {
        (1, _) => columns.remove(0),
        (_, DataType::Struct(fields)) => Arc::new(StructArray::new(fields.clone(), columns, None)),
        (_, other) => return internal_err!("several columns in {other}"),
    };
    Ok(Arc::new(ListArray::new(Arc::clone(element), offsets, values, nulls)))
}

type Parts = (OffsetBuffer<i32>, Vec<ArrayRef>, Option<NullBuffer>);

/// Offsets, columns of the elements and nulls of a list or map column.
fn parts(array: &ArrayRef) -> PlanResult<Parts> {
    match array.data_type() {
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            Ok((list.offsets().clone(), vec![Arc::clone(list.values())], list.nulls().cloned()))
        }
        DataType::Map(..) => {
            let map = array.as_map();
            let columns = vec![Arc::clone(map.keys()), Arc::clone(map.values())];
            Ok((map.offsets().clone(), columns, map.nulls().cloned()))
        }
        DataType::LargeList(element) | DataType::FixedSizeList(element, _) => {
            parts(&arrow::compute::cast(array, &DataType::List(Arc::clone(element)))?)
        }
        other => internal_err!("elements of {other}"),
    }
}

/// 0, 1, 2, ... within each list.
fn positions(offsets: &OffsetBuffer<i32>, values: usize) -> ArrayRef {
    let mut numbers = vec![0; values];
    for range in offsets.windows(2) {
        for (position, at) in (range[0]..range[1]).enumerate() {
            numbers[at as usize] = position as i32;
        }
    }
    Arc::new(Int32Array::from(numbers))
}

// ---- the rewrite ----

/// Rewrites every select list (subqueries too) that calls a generator.
pub fn expand_generators(plan: LogicalPlan) -> Result<LogicalPlan> {
    // Lateral joins first: inside them a generator stands on the columns of the other side.
    let plan = plan
        .transform_down_with_subqueries(|node| match &node {
            LogicalPlan::Join(join) => match super::lateral::expand_lateral(join)? {
                Some(joined) => Ok(Transformed::yes(joined)),
                None => Ok(Transformed::no(node)),
            },
            _ => Ok(Transformed::no(node)),
        })?
        .data;
    Ok(plan.transform_up_with_subqueries(|node| expand_node(node).map_err(Into::into))?.data)
}

fn expand_node(node: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let mut calls: Vec<ScalarFunction> = Vec::new();
    node.apply_expressions(|expr| {
        expr.apply(|e| {
            if let Expr::ScalarFunction(call) = e
                && generator_name(call.name())
                && !calls.contains(call)
            {
                calls.push(call.clone());
            }
            Ok(TreeNodeRecursion::Continue)
        })
    })?;
    let Some(call) = calls.pop() else { return Ok(Transformed::no(node)) };
    if !calls.is_empty() {
        return Err(Error::analysis_class(
            "UNSUPPORTED_GENERATOR.MULTI_GENERATOR",
            "The generator is not supported: only one generator allowed per SELECT clause. Put the other into a subquery.",
        ));
    }
    let LogicalPlan::Projection(projection) = node else {
        return Err(Error::analysis_class(
            "UNSUPPORTED_GENERATOR.OUTSIDE_SELECT",
            format!("The generator is not supported: outside the SELECT clause, found: {}().", call.name()),
        ));
    };
    let unnested = generated(Arc::unwrap_or_clone(projection.input), &call)?;
    let row = row_type(call.name(), &call.args[0].get_type(unnested.schema())?)?;
    let names = NamePreserver::new_for_projection();
    let mut items = Vec::with_capacity(projection.expr.len());
    for item in projection.expr {
        let saved = names.save(&item);
        match (is_call(&item, &call), &row) {
            (true, DataType::Struct(fields)) if matches!(item, Expr::ScalarFunction(_)) => {
                items.extend(fields.iter().map(|f| field_of(column(), f.name()).alias(f.name())));
            }
            (true, _) if matches!(item, Expr::ScalarFunction(_)) => items.push(column().alias("col")),
            (true, _) => items.push(saved.restore(column())),
            (false, _) => items.push(saved.restore(replace_fields(item, &call, &row)?)),
        }
    }
    Ok(Transformed::yes(LogicalPlan::Projection(Projection::try_new(items, Arc::new(unnested))?)))
}

/// The input with one row per generated value, which is in the last column ([`column`]).
pub(crate) fn generated(input: LogicalPlan, call: &ScalarFunction) -> Result<LogicalPlan> {
    let outer = call.name().ends_with("_outer");
    let positions = call.name().starts_with("pos");
    let list = elements_udf(positions).call(vec![call.args[0].clone()]);
    let mut columns: Vec<Expr> = input.schema().columns().into_iter().map(Expr::Column).collect();
    columns.push(list.alias(GENERATED));
    let null_handling = if outer { NullHandling::PreserveAndExpandEmpty } else { NullHandling::Drop };
    let options = UnnestOptions { null_handling, recursions: Vec::new() };
    let generated = Column::new_unqualified(GENERATED);
    Ok(LogicalPlanBuilder::from(input).project(columns)?.unnest_column_with_options(generated, options)?.build()?)
}

/// The generated column.
pub(crate) fn column() -> Expr {
    Expr::Column(Column::new_unqualified(GENERATED))
}

pub(crate) fn field_of(row: Expr, name: &str) -> Expr {
    get_field(row, name)
}

fn is_call(item: &Expr, call: &ScalarFunction) -> bool {
    match item {
        Expr::ScalarFunction(c) => c == call,
        Expr::Alias(alias) => matches!(alias.expr.as_ref(), Expr::ScalarFunction(c) if c == call),
        _ => false,
    }
}

/// Replaces `__generator_field(call, i)` by the i-th field; a call anywhere deeper is refused.
fn replace_fields(item: Expr, call: &ScalarFunction, row: &DataType) -> Result<Expr> {
    let replaced = item.transform_down(|e| match &e {
        Expr::ScalarFunction(c) if c.name() == GENERATOR_FIELD_CALL => match (&c.args[1], row) {
            (Expr::Literal(ScalarValue::Int64(Some(i)), _), DataType::Struct(fields)) => {
                let field = field_of(column(), fields[*i as usize].name());
                Ok(Transformed::new(field, true, TreeNodeRecursion::Jump))
            }
            _ => internal_err!("a field of a generator"),
        },
        Expr::ScalarFunction(c) if c == call => Err(Error::analysis_class(
            "UNSUPPORTED_GENERATOR.NESTED_IN_EXPRESSIONS",
            format!(
                "The generator is not supported: nested in expressions. Put {}() into a subquery and use its column.",
                call.name()
            ),
        )
        .into()),
        _ => Ok(Transformed::no(e)),
    })?;
    Ok(replaced.data)
}
