//! Long chains of operators, which parse to trees as deep as they are long: `AND` and `OR` are made shallow, others
//! have a limit, since everything after the parser walks (and frees) trees by calling itself.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{BinaryOperator, Expr, Query, Value, VisitMut, VisitorMut};

use crate::error::{Error, Result};

/// How many operators that cannot be regrouped may follow each other.
const MAX_CHAIN: usize = 100;

/// Up to this length a chain of `AND` or `OR` keeps its form, which Spark shows in the names of columns.
const KEPT_CHAIN: usize = 50;

/// Makes the chains of a query shallow. Class `FAILED_TO_PARSE_TOO_COMPLEX` when one cannot be.
pub(crate) fn shallow_chains(query: &mut Query) -> Result<()> {
    match query.visit(&mut Chains) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(operator) => Err(Error::analysis_class(
            "FAILED_TO_PARSE_TOO_COMPLEX",
            format!("More than {MAX_CHAIN} operators '{operator}' follow each other. Group them with parentheses."),
        )),
    }
}

struct Chains;

impl VisitorMut for Chains {
    type Break = BinaryOperator;

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<BinaryOperator> {
        let Expr::BinaryOp { op, .. } = expr else { return ControlFlow::Continue(()) };
        let op = op.clone();
        let length = chain_length(expr, &op);
        if matches!(op, BinaryOperator::And | BinaryOperator::Or) {
            if length > KEPT_CHAIN {
                let whole = std::mem::replace(expr, Expr::Value(Value::Null.with_empty_span()));
                *expr = balanced(terms(whole, &op), &op);
            }
            return ControlFlow::Continue(());
        }
        if length > MAX_CHAIN {
            // The tree is taken apart here, level by level: dropped as it is it would overflow the stack.
            let whole = std::mem::replace(expr, Expr::Value(Value::Null.with_empty_span()));
            drop(spine(whole));
            return ControlFlow::Break(op);
        }
        ControlFlow::Continue(())
    }
}

/// How many binary operators are nested on the left side. `AND` and `OR` count only their own kind.
fn chain_length(expr: &Expr, of: &BinaryOperator) -> usize {
    let logical = matches!(of, BinaryOperator::And | BinaryOperator::Or);
    let mut length = 0;
    let mut next = expr;
    while let Expr::BinaryOp { left, op, .. } = next {
        if logical && op != of {
            break;
        }
        length += 1;
        next = left;
    }
    length
}

/// The terms of a chain of one operator, in order.
fn terms(expr: Expr, of: &BinaryOperator) -> Vec<Expr> {
    let mut terms = Vec::new();
    let mut next = expr;
    loop {
        match next {
            Expr::BinaryOp { left, op, right } if op == *of => {
                terms.push(*right);
                next = *left;
            }
            other => {
                terms.push(other);
                terms.reverse();
                return terms;
            }
        }
    }
}

/// All right sides of a chain of any operators, and its first term.
fn spine(expr: Expr) -> Vec<Expr> {
    let mut parts = Vec::new();
    let mut next = expr;
    while let Expr::BinaryOp { left, right, .. } = next {
        parts.push(*right);
        next = *left;
    }
    parts.push(next);
    parts
}

/// `((a OR b) OR (c OR d))`: the same value whatever the grouping.
fn balanced(mut terms: Vec<Expr>, op: &BinaryOperator) -> Expr {
    if terms.len() == 1 {
        return terms.swap_remove(0);
    }
    let right = terms.split_off(terms.len() / 2);
    Expr::BinaryOp { left: Box::new(balanced(terms, op)), op: op.clone(), right: Box::new(balanced(right, op)) }
}
