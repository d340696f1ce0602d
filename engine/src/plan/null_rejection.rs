//! Which columns must not be null if a condition is to be true (Spark: `NullIntolerant`).
//!
//! A column that is found here although the condition can be true of its nulls loses rows. So functions are named that are
//! known to answer null when an argument is; no other does, least of all a user's. `IS NOT NULL` says so only where it is
//! the condition itself: below another operator it is a value like any other, and null columns may satisfy that.

use std::collections::BTreeSet;

use datafusion::common::Column;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};

/// Adds the columns that a condition (a conjunct) rejects nulls of.
pub(super) fn columns_that_reject_null(condition: &Expr, found: &mut BTreeSet<Column>) {
    match condition {
        Expr::IsNotNull(tested) => strict_columns(tested, found),
        Expr::Not(inner) => match inner.as_ref() {
            Expr::IsNull(tested) => strict_columns(tested, found),
            other => strict_columns(other, found),
        },
        Expr::Between(between) if !between.negated => {
            [&between.expr, &between.low, &between.high].into_iter().for_each(|expr| strict_columns(expr, found));
        }
        other => strict_columns(other, found),
    }
}

/// Adds the columns of which a null makes the expression null.
fn strict_columns(expr: &Expr, found: &mut BTreeSet<Column>) {
    match expr {
        Expr::Column(column) => {
            found.insert(column.clone());
        }
        Expr::Alias(alias) => strict_columns(&alias.expr, found),
        Expr::Cast(cast) => strict_columns(&cast.expr, found),
        Expr::TryCast(cast) => strict_columns(&cast.expr, found),
        Expr::Negative(inner) | Expr::Not(inner) => strict_columns(inner, found),
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if is_strict(*op) => {
            strict_columns(left, found);
            strict_columns(right, found);
        }
        Expr::Like(like) => {
            strict_columns(&like.expr, found);
            strict_columns(&like.pattern, found);
        }
        // The value; of the bounds one may be null and the other decide.
        Expr::Between(between) => strict_columns(&between.expr, found),
        Expr::ScalarFunction(call) if STRICT.contains(&call.name()) => {
            call.args.iter().for_each(|arg| strict_columns(arg, found));
        }
        _ => {}
    }
}

fn is_strict(op: Operator) -> bool {
    !matches!(
        op,
        Operator::And | Operator::Or | Operator::IsDistinctFrom | Operator::IsNotDistinctFrom | Operator::StringConcat
    )
}

/// Functions that answer null when an argument is null, and of which Spark says so. Not rounding, and not a field of a struct:
/// there Spark does not say it of the column.
const STRICT: [&str; 62] = [
    "__add",
    "__cast",
    "__decimal_divide",
    "__divide",
    "__multiply",
    "__remainder",
    "__seconds",
    "__slice_start",
    "__subtract",
    "__try_cast",
    "abs",
    "ascii",
    "btrim",
    "cbrt",
    "ceil",
    "char_length",
    "character_length",
    "contains",
    "date_add",
    "date_diff",
    "date_part",
    "date_sub",
    "date_trunc",
    "datediff",
    "day",
    "dayofmonth",
    "dayofweek",
    "dayofyear",
    "ends_with",
    "exp",
    "floor",
    "hour",
    "initcap",
    "instr",
    "length",
    "ln",
    "log10",
    "log2",
    "lower",
    "ltrim",
    "minute",
    "month",
    "negative",
    "pmod",
    "power",
    "quarter",
    "regexp_like",
    "repeat",
    "replace",
    "reverse",
    "rtrim",
    "second",
    "signum",
    "sqrt",
    "starts_with",
    "substr",
    "substring",
    "timestamp_seconds",
    "trim",
    "upper",
    "window_time",
    "year",
];

#[cfg(test)]
mod tests {
    use datafusion::functions::string::expr_fn::lower;
    use datafusion::functions::unicode::expr_fn::character_length;
    use datafusion::prelude::{coalesce, col, lit};

    use super::*;

    fn rejecting(condition: &Expr) -> Vec<String> {
        let mut found = BTreeSet::new();
        columns_that_reject_null(condition, &mut found);
        found.into_iter().map(|column| column.name).collect()
    }

    /// Rows were lost: a null column can make each of the second half true.
    #[test]
    fn only_what_no_null_can_satisfy_rejects_nulls() {
        let exactly_one = col("a").is_not_null().not_eq(col("b").is_not_null());
        for (condition, columns) in [
            (col("a").gt(lit(1)), &["a"][..]),
            ((col("a") + col("b")).lt(lit(3)), &["a", "b"]),
            (character_length(lower(col("a"))).gt(lit(3)), &["a"]),
            (col("a").is_not_null(), &["a"]),
            (!col("a").is_null(), &["a"]),
            (!(col("a").eq(col("b"))), &["a", "b"]),
            (col("a").between(col("b"), col("c")), &["a", "b", "c"]),
            (col("a").not_between(col("b"), col("c")), &["a"]),
            (!(col("a").between(col("b"), col("c"))), &["a"]),
            (exactly_one, &[]),
            (col("a").is_null(), &[]),
            (!col("a").is_not_null(), &[]),
            (coalesce(vec![col("a"), lit(1)]).gt(lit(0)), &[]),
            (col("a").gt(lit(1)).or(col("b").gt(lit(1))), &[]),
            (col("a").is_true(), &[]),
        ] {
            assert_eq!(rejecting(&condition), columns, "{condition}");
        }
    }
}
