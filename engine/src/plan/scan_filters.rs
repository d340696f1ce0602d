//! Filters that a source applies while it reads, before its rows are counted.
//!
//! Spark hands the filters right above a source of JSON or CSV files to the reader, which leaves rejected rows out; so
//! `numInputRows` counts the others. Handed over is what Spark can say without expressions (`org.apache.spark.sql.sources.
//! Filter`): comparisons of a column with a literal, IN a list of literals, IS [NOT] NULL, LIKE with a plain prefix, suffix
//! or part, and AND, OR, NOT of those. What it cannot say stays above; but the columns that it needs not null to be true are
//! handed over as IS NOT NULL.

use std::collections::BTreeSet;

use datafusion::common::tree_node::Transformed;
use datafusion::error::Result;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Between, BinaryExpr, Expr, Filter, Like, LogicalPlan, Operator, TableScan};
use datafusion::optimizer::optimizer::ApplyOrder;
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};

use super::join_condition::conjuncts;
use super::null_rejection::columns_that_reject_null;

/// Puts such filters into the scans that take them. To be run before the last `optimize_projections`.
#[derive(Debug)]
pub(super) struct FiltersIntoScans {
    /// Whether a scan takes them.
    pub(super) takes_filters: fn(&TableScan) -> bool,
}

impl OptimizerRule for FiltersIntoScans {
    fn name(&self) -> &'static str {
        "filters_into_scans"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::BottomUp)
    }

    fn rewrite(&self, node: LogicalPlan, _config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let LogicalPlan::Filter(filter) = &node else { return Ok(Transformed::no(node)) };
        match filter.input.as_ref() {
            LogicalPlan::TableScan(scan) if (self.takes_filters)(scan) => into_scan(filter, scan.clone()),
            _ => Ok(Transformed::no(node)),
        }
    }
}

fn into_scan(filter: &Filter, mut scan: TableScan) -> Result<Transformed<LogicalPlan>> {
    let (taken, rest): (Vec<_>, Vec<_>) = conjuncts(&filter.predicate).into_iter().partition(is_sayable);
    let mut needed = BTreeSet::new();
    rest.iter().filter(|condition| !condition.is_volatile()).for_each(|it| columns_that_reject_null(it, &mut needed));
    let known = needed.into_iter().map(|column| Expr::Column(column).is_not_null());
    let (moved, before) = (!taken.is_empty(), scan.filters.len());
    for condition in taken.into_iter().chain(known) {
        if !scan.filters.contains(&condition) {
            scan.filters.push(condition);
        }
    }
    let moved = moved || scan.filters.len() > before;
    let scan = LogicalPlan::TableScan(scan);
    let plan = match conjunction(rest) {
        None => scan,
        Some(rest) => LogicalPlan::Filter(Filter::try_new(rest, scan.into())?),
    };
    Ok(Transformed::new_transformed(plan, moved))
}

/// Whether Spark can say the condition to a source.
fn is_sayable(condition: &Expr) -> bool {
    match condition {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::And | Operator::Or, right }) => {
            is_sayable(left) && is_sayable(right)
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if compares(*op) => {
            (is_column(left) && is_literal(right)) || (is_literal(left) && is_column(right))
        }
        // A boolean column.
        Expr::Column(_) => true,
        Expr::Not(inner) => is_sayable(inner),
        Expr::IsNull(inner) | Expr::IsNotNull(inner) => is_column(inner),
        Expr::InList(list) => is_column(&list.expr) && list.list.iter().all(is_literal),
        Expr::Between(Between { expr, low, high, .. }) => is_column(expr) && is_literal(low) && is_literal(high),
        Expr::Like(Like { expr, pattern, escape_char: None, case_insensitive: false, .. }) => {
            is_column(expr) && is_plain_pattern(pattern)
        }
        Expr::ScalarFunction(call) => {
            ["starts_with", "ends_with", "contains"].contains(&call.name())
                && matches!(call.args.as_slice(), [column, text] if is_column(column) && is_literal(text))
        }
        _ => false,
    }
}

fn compares(op: Operator) -> bool {
    matches!(
        op,
        Operator::Eq
            | Operator::NotEq
            | Operator::Lt
            | Operator::LtEq
            | Operator::Gt
            | Operator::GtEq
            | Operator::IsDistinctFrom
            | Operator::IsNotDistinctFrom
    )
}

fn is_column(expr: &Expr) -> bool {
    matches!(expr, Expr::Column(_))
}

fn is_literal(expr: &Expr) -> bool {
    matches!(expr, Expr::Literal(..))
}

/// `abc`, `abc%`, `%abc`, `%abc%`: what Spark makes a comparison of, or a search.
fn is_plain_pattern(pattern: &Expr) -> bool {
    let Expr::Literal(value, _) = pattern else { return false };
    let Some(Some(text)) = value.try_as_str() else { return false };
    let inner = text.strip_prefix('%').unwrap_or(text);
    let inner = inner.strip_suffix('%').unwrap_or(inner);
    !inner.contains(['%', '_', '\\'])
}

#[cfg(test)]
mod tests {
    use datafusion::functions::unicode::expr_fn::character_length;
    use datafusion::prelude::{col, lit};

    use super::*;

    #[test]
    fn what_spark_says_to_a_source() {
        let like = |pattern: &str| col("k").like(lit(pattern));
        let sayable = [
            col("v").gt(lit(3)),
            lit(3).eq(col("v")),
            col("v").is_null().or(col("k").not_eq(lit("a"))),
            col("k").in_list(vec![lit("a"), lit("b")], true),
            col("v").between(lit(1), lit(5)),
            like("a%"),
            like("%a%"),
            like("a"),
            !col("v").lt(lit(3)),
            col("b"),
        ];
        let not = [
            col("v").gt(col("w")),
            (col("v") + lit(1)).gt(lit(3)),
            character_length(col("k")).gt(lit(3)),
            col("v").gt(lit(3)).or(col("v").gt(col("w"))),
            like("a%b"),
            like("a_"),
            col("k").in_list(vec![col("l")], false),
        ];
        for condition in sayable {
            assert!(is_sayable(&condition), "{condition}");
        }
        for condition in not {
            assert!(!is_sayable(&condition), "{condition}");
        }
    }
}
