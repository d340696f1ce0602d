//! EXCEPT and INTERSECT, which DataFusion plans as joins in which nulls are equal.
//!
//! ```text
//! a EXCEPT b         Distinct(a) LEFT ANTI JOIN b        a EXCEPT ALL b       a LEFT ANTI JOIN b
//! a INTERSECT b      Distinct(a) LEFT SEMI JOIN b        a INTERSECT ALL b    a LEFT SEMI JOIN b
//! ```
//! A join that a user writes compares with `=`, or with `<=>` in its condition; only the optimizer makes null-equal keys of
//! the latter, and the checks come before it.

use datafusion::common::NullEquality;
use datafusion::logical_expr::{Distinct, Join, JoinType, LogicalPlan};

/// What a join stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::plan) enum SetOperation {
    /// EXCEPT, with or without ALL.
    Except,
    /// INTERSECT, with or without ALL.
    Intersect,
}

/// The set operation that a join of an analysed plan stands for, if it is one.
pub(in crate::plan) fn set_operation(join: &Join) -> Option<SetOperation> {
    if join.null_equality != NullEquality::NullEqualsNull {
        return None;
    }
    match join.join_type {
        JoinType::LeftAnti => Some(SetOperation::Except),
        JoinType::LeftSemi => Some(SetOperation::Intersect),
        _ => None,
    }
}

/// The left side of a set operation without the DISTINCT that belongs to it.
pub(in crate::plan) fn without_distinct(left: &LogicalPlan) -> &LogicalPlan {
    match left {
        LogicalPlan::Distinct(Distinct::All(input)) => input,
        other => other,
    }
}
