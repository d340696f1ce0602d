//! Plans a query or an expression: Spark's text in, DataFusion's logical plan out, with Spark's names and types.

use std::borrow::Cow;
use std::sync::Arc;

use datafusion::common::{DFSchema, DataFusionError};
use datafusion::config::ConfigOptions;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Cast, Expr, LogicalPlan, Projection};
use datafusion::optimizer::analyzer::AnalyzerRule;
use datafusion::optimizer::analyzer::type_coercion::TypeCoercion;
use datafusion::sql::parser::Statement as PlannedStatement;
use datafusion::sql::sqlparser::ast::{ExprWithAlias, SelectItem, Statement};

use super::catalog::Catalog;
use super::names::Namer;
use super::parse::{parse_query, parse_select_item};
use super::resolve::{Resolver, quoted};
use super::scope::{Columns, Names, Relation, Scope};
use super::script::QueryText;
use super::types::{nearest_spark_type, spark_type_name};
use super::watermark::{MakeWatermark, place_watermarks};
use crate::error::{Error, Result};
use crate::functions::generator::expand_generators;
use crate::functions::window_rewrite::rewrite_time_windows;
use arrow::datatypes::DataType;

/// Plans a query over the tables of a session. The state must come from [`crate::functions::session_builder`].
///
/// The plan's columns have Spark's names; their types are ones that Spark has. It is not analysed or optimized yet.
/// `make_watermark` is called for every `WATERMARK` clause. Errors have Spark's classes and lines of the script.
pub async fn plan_query(
    state: &SessionState,
    query: impl Into<QueryText>,
    make_watermark: MakeWatermark<'_>,
) -> Result<LogicalPlan> {
    let QueryText { sql, line } = query.into();
    // Line breaks before the text let every position in it be one of the script.
    let sql = if line > 1 { Cow::Owned("\n".repeat(line as usize - 1) + &sql) } else { Cow::Borrowed(&sql) };
    let mut query = parse_query(&sql)?;
    let catalog = Catalog::load(state, &query).await?;
    Resolver::new(&catalog).query(&mut query, None)?;
    let statement = PlannedStatement::Statement(Box::new(Statement::Query(Box::new(query))));
    let plan = state.statement_to_plan(statement).await.map_err(in_sparks_words)?;
    let plan = place_watermarks(plan, make_watermark)?;
    finish_plan(plan)
}

/// The rewrites after planning, for plans built without SQL too: generators, time windows, and types that Spark has.
pub fn finish_plan(plan: LogicalPlan) -> Result<LogicalPlan> {
    let plan = expand_generators(plan)?;
    let plan = rewrite_time_windows(plan)?;
    refuse_sets_of_maps(&plan)?;
    refuse_filters_of_null(&plan)?;
    with_spark_types(with_common_types(plan)?)
}

/// Maps have no equality in Spark's sets.
fn refuse_sets_of_maps(plan: &LogicalPlan) -> Result<()> {
    if let LogicalPlan::Distinct(distinct) = plan {
        let input = distinct.input();
        let mut fields = input.schema().fields().iter();
        if let Some(map) = fields.find(|field| matches!(field.data_type(), DataType::Map(..))) {
            return Err(Error::analysis_class(
                "UNSUPPORTED_FEATURE.SET_OPERATION_ON_MAP_TYPE",
                format!(
                    "The feature is not supported: Cannot have MAP type columns in a set operation (INTERSECT, EXCEPT, etc.), but \
                     the type of column `{}` is \"{}\". Select map_entries(..) of it, sorted, instead.",
                    map.name(),
                    spark_type_name(map.data_type()).to_uppercase()
                ),
            ));
        }
    }
    plan.inputs().into_iter().try_for_each(refuse_sets_of_maps)
}

/// `WHERE NULL` has no type that is a boolean.
fn refuse_filters_of_null(plan: &LogicalPlan) -> Result<()> {
    if let LogicalPlan::Filter(filter) = plan
        && matches!(&filter.predicate, Expr::Literal(value, _) if value.data_type() == DataType::Null)
    {
        return Err(not_a_boolean("Filter expression \"NULL\" of type \"VOID\" is not a boolean"));
    }
    plan.inputs().into_iter().try_for_each(refuse_filters_of_null)
}

fn not_a_boolean(what: &str) -> Error {
    let text = format!("{what}. Compare it with something, or cast it: CAST(.. AS BOOLEAN).");
    Error::analysis_class("DATATYPE_MISMATCH.FILTER_NOT_BOOLEAN", text)
}

/// DataFusion gives `CASE WHEN c THEN 1 ELSE 2.5 END` its common type only when it analyses a plan: where that changes
/// the type of a column, it is done here, so that a query's schema is known when it is defined.
fn with_common_types(plan: LogicalPlan) -> Result<LogicalPlan> {
    let coerced = TypeCoercion::new().analyze(plan.clone(), &ConfigOptions::default()).map_err(in_sparks_words)?;
    let same = plan.schema().fields().iter().zip(coerced.schema().fields());
    Ok(if same.into_iter().all(|(a, b)| a.data_type() == b.data_type()) { plan } else { coerced })
}

/// Plans one expression, with the alias after it if there is one (`sum(v) AS s`), over the columns of a schema.
/// Without an alias it gets the name that Spark would give it. Calls of `window()` and `explode()` stay in it: they
/// are rewritten when the plan they end up in goes through [`finish_plan`].
pub fn plan_expr(state: &SessionState, sql: &str, schema: &DFSchema) -> Result<Expr> {
    let catalog = Catalog::functions_of(state);
    let mut resolver = Resolver::new(&catalog);
    let scope = scope_of(schema);
    let names = Names { scope: &scope, outer: None };
    let (mut expr, alias) = match parse_select_item(sql)? {
        SelectItem::UnnamedExpr(expr) => {
            let name = Namer { is_relation: &|name| names.scope.has_relation(name) }.item(&expr);
            (expr, Some(name))
        }
        SelectItem::ExprWithAlias { expr, alias } => (expr, Some(alias.value)),
        other => {
            return Err(Error::analysis(format!("{other} stands for several columns. Select them one by one.")));
        }
    };
    resolver.expr(&mut expr, &names)?;
    let alias = alias.map(|alias| quoted(&alias));
    let planned =
        state.create_logical_expr_from_sql_expr(ExprWithAlias { expr, alias }, schema).map_err(in_sparks_words)?;
    Ok(match planned {
        // `k AS k` is the column itself.
        Expr::Alias(alias) if matches!(alias.expr.as_ref(), Expr::Column(c) if c.name == alias.name) => *alias.expr,
        // DataFusion names `count(*)` itself, inside.
        Expr::Alias(alias) => (*alias.expr).unalias().alias_qualified(alias.relation, alias.name),
        other => other,
    })
}

fn scope_of(schema: &DFSchema) -> Scope {
    let mut relations: Vec<Relation> = Vec::new();
    for (qualifier, field) in schema.iter() {
        let qualifier = qualifier.map(|q| q.table().to_owned());
        match relations.iter_mut().find(|r| r.qualifier == qualifier) {
            Some(relation) => relation.columns.names.push(field.name().clone()),
            None => {
                relations.push(Relation { qualifier, columns: Columns::known(vec![field.name().clone()]) });
            }
        }
    }
    Scope { relations, merged: Vec::new() }
}

/// Casts output columns whose type Spark does not have (unsigned integers, nanoseconds, string views).
fn with_spark_types(plan: LogicalPlan) -> Result<LogicalPlan> {
    let schema = Arc::clone(plan.schema());
    if schema.fields().iter().all(|f| nearest_spark_type(f.data_type()) == *f.data_type()) {
        return Ok(plan);
    }
    let columns = schema.iter().map(|(relation, field)| {
        let column = Expr::Column((relation, field).into());
        let data_type = nearest_spark_type(field.data_type());
        if data_type == *field.data_type() {
            return column;
        }
        Expr::Cast(Cast::new(Box::new(column), data_type)).alias_qualified(relation.cloned(), field.name())
    });
    Ok(LogicalPlan::Projection(Projection::try_new(columns.collect(), Arc::new(plan))?))
}

/// DataFusion's planning errors under Spark's classes, as far as they can be told apart.
fn in_sparks_words(error: DataFusionError) -> Error {
    let own = Error::from(error);
    let Error::DataFusion(inner) = &own else { return own };
    let text = inner.strip_backtrace();
    if text.contains("Cannot create filter with non-boolean predicate") {
        return not_a_boolean(text.trim_end_matches('.'));
    }
    let (class, advice) = if text.contains("arguments but received") {
        ("WRONG_NUM_ARGS.WITHOUT_SUGGESTION", "Give the function as many arguments as it takes.")
    } else if text.contains("to grouping function is not in grouping columns") {
        (
            "UNSUPPORTED_GROUPING_EXPRESSION",
            "grouping() can only be used with GROUPING SETS, CUBE or ROLLUP, and of a column they name.",
        )
    } else if text.contains("failed to match any signature") || text.contains("No function matches the given name") {
        ("DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE", "Cast the arguments to types that the function takes.")
    } else if text.contains("Column in HAVING must be in GROUP BY")
        || text.contains("Column in ORDER BY must be in GROUP BY")
    {
        (
            "UNRESOLVED_COLUMN.WITH_SUGGESTION",
            "After GROUP BY there are only the grouping columns and aggregates: use one of them.",
        )
    } else if text.contains("must appear in the GROUP BY clause") {
        (
            "MISSING_AGGREGATION",
            "Add the column to GROUP BY, or use it inside an aggregate function such as any_value().",
        )
    } else if text.contains("Projections require unique expression names") || text.contains("duplicate") {
        ("COLUMN_ALREADY_EXISTS", "Give the columns different names with AS.")
    } else {
        return own;
    };
    Error::analysis_class(class, format!("{}. {advice}", text.trim_end_matches('.')))
}

#[cfg(test)]
#[path = "query_tests.rs"]
mod tests;
