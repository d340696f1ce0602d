//! `(a, b) IN (SELECT ..)`: DataFusion compares one column only, so a row in a subquery becomes an EXISTS.
//!
//! `(a, b) NOT IN (..)` is true when the comparison with every row is false: a row with which it is null keeps it from being.

use datafusion::sql::sqlparser::ast::{BinaryOperator, Expr, Ident, Query, SetExpr, TableFactor, Value};

use super::parse::parse_query;
use super::scope::Columns;
use crate::error::{Error, Result};

/// The alias of the subquery, and of its columns with a number behind it.
const ALIAS: &str = "__row_in";

/// Whether these (resolved) values are a row of the (resolved) subquery with these columns.
///
/// # Errors
/// DATATYPE_MISMATCH.IN_SUBQUERY_LENGTH_MISMATCH when the subquery has more columns, or fewer.
pub(super) fn row_in_subquery(values: Vec<Expr>, subquery: &Query, columns: &Columns, negated: bool) -> Result<Expr> {
    if !columns.open && columns.names.len() != values.len() {
        return Err(Error::analysis_class(
            "DATATYPE_MISMATCH.IN_SUBQUERY_LENGTH_MISMATCH",
            format!(
                "The number of columns in the left hand side of an IN subquery ({}) does not match the number of columns in \
                 the output of subquery ({}). Select as many columns as are compared.",
                values.len(),
                columns.names.len()
            ),
        ));
    }
    let names: Vec<String> = (0..values.len()).map(|at| format!("{ALIAS}_{at}")).collect();
    let mut exists = parse_query(&format!("SELECT 1 FROM (SELECT 1) AS {ALIAS} ({})", names.join(", ")))?;
    let equal = values.into_iter().zip(names).map(|(value, name)| {
        let column = Expr::CompoundIdentifier(vec![Ident::new(ALIAS), Ident::new(name)]);
        binary(value, BinaryOperator::Eq, column)
    });
    let same = equal.reduce(|all, next| binary(all, BinaryOperator::And, next));
    let same = same.unwrap_or_else(|| Expr::Value(Value::Boolean(true).into()));
    let shape = || Error::internal("a select from a subquery was parsed as something else");
    let SetExpr::Select(select) = exists.body.as_mut() else { return Err(shape()) };
    let Some(TableFactor::Derived { subquery: inner, .. }) = select.from.first_mut().map(|from| &mut from.relation)
    else {
        return Err(shape());
    };
    **inner = subquery.clone();
    select.selection = Some(if negated { Expr::IsNotFalse(Box::new(same)) } else { same });
    Ok(Expr::Exists { subquery: Box::new(exists), negated })
}

/// Whether this is `(a, b) [NOT] IN (SELECT ..)`, perhaps in parentheses.
pub(super) fn is_row_in(expr: &Expr) -> bool {
    match expr {
        Expr::Nested(inner) => is_row_in(inner),
        Expr::InSubquery { expr, .. } => matches!(expr.as_ref(), Expr::Tuple(_)),
        _ => false,
    }
}

/// `NOT (a, b) IN (SELECT ..)` is `(a, b) NOT IN (SELECT ..)`: an EXISTS that is turned round would not know of nulls.
pub(super) fn negated_row_in(expr: &Expr) -> Expr {
    match expr {
        Expr::Nested(inner) => negated_row_in(inner),
        Expr::InSubquery { expr, subquery, negated } => {
            Expr::InSubquery { expr: expr.clone(), subquery: subquery.clone(), negated: !negated }
        }
        other => other.clone(),
    }
}

/// `HAVING (k, count(*)) IN (SELECT ..)`: the values would be asked for where there are no groups.
pub(super) fn aggregates_in_a_row() -> Error {
    Error::analysis_class(
        "WAVETANK_NOT_SUPPORTED_YET",
        "An aggregate cannot be part of a row that is looked for in a subquery. Aggregate in a subquery in FROM, and compare its \
         columns around it.",
    )
}

fn binary(left: Expr, op: BinaryOperator, right: Expr) -> Expr {
    Expr::BinaryOp { left: Box::new(left), op, right: Box::new(right) }
}
