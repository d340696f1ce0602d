//! A join's condition taken apart: the pairs that must be equal, what looks at one side only, and the rest.

use datafusion::common::DFSchema;
use datafusion::logical_expr::utils::split_conjunction_owned;
use datafusion::logical_expr::{Between, BinaryExpr, Expr, Join, Operator, binary_expr};

/// The conjuncts of an ON condition, by what they look at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd)]
pub struct JoinCondition {
    /// Equalities between the sides: (left, right). The order is that of the condition.
    pub keys: Vec<(Expr, Expr)>,
    /// What looks only at the left side.
    pub left_only: Vec<Expr>,
    /// What looks only at the right side.
    pub right_only: Vec<Expr>,
    /// What has to see a joined row; also what is not the same each time it is asked.
    pub rest: Vec<Expr>,
}

impl JoinCondition {
    /// Takes the condition of a join apart.
    pub fn of(join: &Join) -> Self {
        let (left, right) = (join.left.schema(), join.right.schema());
        let mut condition = Self { keys: join.on.clone(), ..Self::default() };
        for conjunct in join.filter.iter().flat_map(conjuncts) {
            if let Some(pair) = equal_pair(&conjunct, left, right) {
                condition.keys.push(pair);
            } else if conjunct.is_volatile() {
                condition.rest.push(conjunct);
            } else if looks_only_at(&conjunct, left) {
                condition.left_only.push(conjunct);
            } else if looks_only_at(&conjunct, right) {
                condition.right_only.push(conjunct);
            } else {
                condition.rest.push(conjunct);
            }
        }
        condition
    }
}

/// Splits at AND; BETWEEN is two comparisons.
pub fn conjuncts(condition: &Expr) -> Vec<Expr> {
    split_conjunction_owned(condition.clone())
        .into_iter()
        .flat_map(|conjunct| match conjunct.unalias() {
            Expr::Between(Between { expr, negated: false, low, high }) => vec![
                binary_expr(expr.as_ref().clone(), Operator::GtEq, *low),
                binary_expr(*expr, Operator::LtEq, *high),
            ],
            other => vec![other],
        })
        .collect()
}

/// Whether an expression looks at columns of this schema and at no others.
pub fn looks_only_at(expr: &Expr, schema: &DFSchema) -> bool {
    let columns = expr.column_refs();
    !columns.is_empty() && columns.into_iter().all(|column| schema.has_column(column))
}

/// `left = right` (or `<=>`) between the sides, in that order.
fn equal_pair(conjunct: &Expr, left: &DFSchema, right: &DFSchema) -> Option<(Expr, Expr)> {
    let Expr::BinaryExpr(BinaryExpr { left: a, op: Operator::Eq | Operator::IsNotDistinctFrom, right: b }) = conjunct
    else {
        return None;
    };
    if conjunct.is_volatile() {
        return None;
    }
    if looks_only_at(a, left) && looks_only_at(b, right) {
        Some((a.as_ref().clone(), b.as_ref().clone()))
    } else if looks_only_at(b, left) && looks_only_at(a, right) {
        Some((b.as_ref().clone(), a.as_ref().clone()))
    } else {
        None
    }
}
