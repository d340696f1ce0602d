//! Clauses that are another query in disguise: PIVOT, TABLESAMPLE, SORT BY, and `grouping_id()` without arguments.
//!
//! ```text
//! t TABLESAMPLE (10 PERCENT)            (SELECT * FROM t WHERE __sample(random(), 0.1)) AS t
//! t PIVOT (sum(v) FOR c IN ('x'))       (SELECT k, first_value(p) FILTER (WHERE c = 'x') AS x
//!                                        FROM (SELECT k, c, sum(v) AS p FROM t GROUP BY k, c) GROUP BY k)
//! ```
//! Rewritten before names are resolved, so that what is written inside is resolved like everything else.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, ExprWithAlias, FunctionArg, FunctionArgExpr, FunctionArguments, GroupByExpr, OrderBy, OrderByKind,
    PivotValueSource, Query, Select, SetExpr, TableFactor, TableSample, TableSampleKind, TableSampleUnit,
    TableWithJoins, visit_expressions, visit_expressions_mut,
};

use super::catalog::parts;
use super::parse::parse_query;
use super::resolve::{Resolver, table_alias};
use super::scope::{Names, Scope};
use crate::error::{Error, Result};
use crate::functions::sample::SAMPLE_CALL;

impl Resolver<'_> {
    /// Replaces a relation with a PIVOT or TABLESAMPLE clause by the subquery that it stands for.
    pub(crate) fn rewrite_table_clauses(&mut self, factor: &mut TableFactor, outer: Option<&Names>) -> Result<()> {
        match factor {
            TableFactor::Table { name, alias, sample, .. } => {
                let Some(TableSampleKind::BeforeTableAlias(clause) | TableSampleKind::AfterTableAlias(clause)) =
                    sample.take()
                else {
                    return Ok(());
                };
                let default = parts(name).pop().unwrap_or_default();
                let default = default.strip_prefix(super::STREAM_PREFIX).unwrap_or(&default).to_owned();
                let alias = alias.take().unwrap_or_else(|| table_alias(&default));
                let query = over(&sampled(&clause)?, factor.clone())?;
                *factor = TableFactor::Derived {
                    lateral: false,
                    subquery: Box::new(query),
                    alias: Some(alias),
                    sample: None,
                };
                Ok(())
            }
            TableFactor::Pivot { .. } => self.rewrite_pivot(factor, outer),
            _ => Ok(()),
        }
    }

    fn rewrite_pivot(&mut self, factor: &mut TableFactor, outer: Option<&Names>) -> Result<()> {
        let TableFactor::Pivot { table, aggregate_functions, value_column, value_source, alias, .. } = &*factor else {
            return Ok(());
        };
        let ([aggregate], [column]) = (aggregate_functions.as_slice(), value_column.as_slice()) else {
            return Err(unsupported(
                "PIVOT with several aggregates or columns",
                "Write one PIVOT for each and join them",
            ));
        };
        let PivotValueSource::List(values) = value_source else {
            return Err(unsupported("PIVOT without a list of values", "List the values: FOR c IN ('x', 'y')"));
        };
        let mut scratch = Scope::default();
        self.relation(&mut table.as_ref().clone(), &mut scratch, outer)?;
        let input = scratch.all_columns();
        if input.open {
            return Err(unsupported("PIVOT of a relation whose columns are not named", "Name them in a subquery"));
        }
        let used = names_in(&aggregate.expr).into_iter().chain(names_in(column)).collect::<Vec<_>>();
        let is_used = |name: &String| used.iter().any(|used| used.eq_ignore_ascii_case(name));
        let keys: Vec<String> = input
            .names
            .iter()
            .filter(|name| !is_used(name))
            .map(|name| format!("`{}`", name.replace('`', "``")))
            .collect();
        let query = pivoted(&keys, &column.to_string(), &aggregate.expr.to_string(), values);
        let subquery = over(&query, table.as_ref().clone())?;
        let alias = alias.clone().or_else(|| Some(table_alias("__pivot")));
        *factor = TableFactor::Derived { lateral: false, subquery: Box::new(subquery), alias, sample: None };
        Ok(())
    }
}

const PLACE: &str = "__place";

fn pivoted(keys: &[String], column: &str, aggregate: &str, values: &[ExprWithAlias]) -> String {
    let results = values.iter().map(|value| {
        let name = match (&value.alias, &value.expr) {
            (Some(alias), _) => alias.value.clone(),
            (None, expr) => expr.to_string().trim_matches('\'').to_owned(),
        };
        let name = name.replace('`', "``");
        format!("first_value(__pivoted) FILTER (WHERE __pivot = {}) AS `{name}`", value.expr)
    });
    let select = keys.iter().cloned().chain(results).collect::<Vec<_>>().join(", ");
    let inner = keys
        .iter()
        .cloned()
        .chain([format!("{column} AS __pivot"), format!("{aggregate} AS __pivoted")])
        .collect::<Vec<_>>()
        .join(", ");
    let groups = keys.iter().cloned().chain([column.to_owned()]).collect::<Vec<_>>().join(", ");
    let outer_groups = if keys.is_empty() { String::new() } else { format!(" GROUP BY {}", keys.join(", ")) };
    format!("SELECT {select} FROM (SELECT {inner} FROM {PLACE} GROUP BY {groups}){outer_groups}")
}

fn sampled(clause: &TableSample) -> Result<String> {
    let refused =
        || unsupported("this TABLESAMPLE", "Write TABLESAMPLE (10 PERCENT), (5 ROWS) or (BUCKET 1 OUT OF 10)");
    let fraction = match (&clause.quantity, &clause.bucket) {
        (Some(quantity), None) => match &quantity.unit {
            Some(TableSampleUnit::Percent) => format!("({}) / 100", quantity.value),
            Some(TableSampleUnit::Rows) => return Ok(format!("SELECT * FROM {PLACE} LIMIT {}", quantity.value)),
            None => return Err(refused()),
        },
        (None, Some(bucket)) if bucket.on.is_none() => format!("{} / {}", bucket.bucket, bucket.total),
        _ => return Err(refused()),
    };
    Ok(format!("SELECT * FROM {PLACE} WHERE {SAMPLE_CALL}(random(), {fraction})"))
}

/// The query with this relation in its place.
fn over(sql: &str, relation: TableFactor) -> Result<Query> {
    let mut query = parse_query(sql)?;
    put(&mut query, relation);
    Ok(query)
}

fn put(query: &mut Query, relation: TableFactor) {
    let SetExpr::Select(select) = query.body.as_mut() else { return };
    match select.from.first_mut() {
        Some(TableWithJoins { relation: TableFactor::Derived { subquery, .. }, .. }) => put(subquery, relation),
        Some(place) => place.relation = relation,
        None => {}
    }
}

/// The last parts of the names in an expression.
fn names_in(expr: &Expr) -> Vec<String> {
    let mut names = vec![];
    let _ = visit_expressions(expr, |expr| {
        match expr {
            Expr::Identifier(name) => names.push(name.value.clone()),
            Expr::CompoundIdentifier(name) => names.extend(name.last().map(|name| name.value.clone())),
            _ => {}
        }
        ControlFlow::<()>::Continue(())
    });
    names
}

fn unsupported(what: &str, instead: &str) -> Error {
    Error::analysis_class("UNSUPPORTED_FEATURE", format!("{what} is not supported. {instead}."))
}

/// SORT BY sorts every partition; here all rows, which are in no order between partitions anyway.
pub(crate) fn sort_by_as_order_by(query: &mut Query) {
    let SetExpr::Select(select) = query.body.as_mut() else { return };
    let by = std::mem::take(&mut select.sort_by);
    if !by.is_empty() && query.order_by.is_none() {
        query.order_by = Some(OrderBy { kind: OrderByKind::Expressions(by), interpolate: None });
    }
}

/// `grouping_id()` is about all that is grouped by.
pub(crate) fn name_grouping_columns(select: &mut Select) {
    let GroupByExpr::Expressions(exprs, _) = &select.group_by else { return };
    let sets: Vec<&Expr> = exprs
        .iter()
        .flat_map(|expr| match expr {
            Expr::GroupingSets(sets) | Expr::Cube(sets) | Expr::Rollup(sets) => sets.iter().flatten().collect(),
            other => vec![other],
        })
        .collect();
    let mut columns: Vec<Expr> = vec![];
    for column in sets {
        if !columns.contains(column) {
            columns.push(column.clone());
        }
    }
    let _ = visit_expressions_mut(&mut select.projection, |expr| {
        if let Expr::Function(function) = expr
            && function.name.to_string().eq_ignore_ascii_case("grouping_id")
            && let FunctionArguments::List(list) = &mut function.args
            && list.args.is_empty()
        {
            let all = columns.iter().cloned();
            list.args = all.map(|column| FunctionArg::Unnamed(FunctionArgExpr::Expr(column))).collect();
        }
        ControlFlow::<()>::Continue(())
    });
}
