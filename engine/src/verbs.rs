//! DataFrame's rarer verbs: grouping sets, pivots, set operations, samples, offsets, and those about partitions.
//!
//! Which of them a stream can use is said by `plan::check` when the query starts; static frames can use all.

use datafusion::common::Column;
use datafusion::functions_aggregate::first_last::first_value_udaf;
use datafusion::logical_expr::{Expr, ExprFunctionExt, GroupingSet, LogicalPlanBuilder, SortExpr};

use crate::dataframe::{DataFrame, GroupedData};
use crate::error::{Error, Result};
use crate::functions::sample::is_in_sample;

impl DataFrame {
    /// Groups by all of these, by all but the last, and so on up to one group of all rows. What is left out is null.
    pub fn rollup(&self, exprs: impl IntoIterator<Item = Expr>) -> Result<GroupedData> {
        let (frame, columns) = self.as_columns(exprs)?;
        Ok(frame.group_by([Expr::GroupingSet(GroupingSet::Rollup(columns))]))
    }

    /// Groups by every subset of these.
    pub fn cube(&self, exprs: impl IntoIterator<Item = Expr>) -> Result<GroupedData> {
        let (frame, columns) = self.as_columns(exprs)?;
        Ok(frame.group_by([Expr::GroupingSet(GroupingSet::Cube(columns))]))
    }

    /// The frame with every expression that is not a column added as one, and the columns.
    fn as_columns(&self, exprs: impl IntoIterator<Item = Expr>) -> Result<(Self, Vec<Expr>)> {
        let (mut frame, mut columns) = (self.clone(), vec![]);
        for expr in exprs {
            if let Expr::Column(_) = expr {
                columns.push(expr);
                continue;
            }
            let name = expr.schema_name().to_string();
            frame = frame.with_column(&name, expr.unalias())?;
            columns.push(Expr::Column(Column::new_unqualified(name)));
        }
        Ok((frame, columns))
    }

    /// The distinct rows that `other` does not have, by position of the columns (SQL's `EXCEPT`).
    pub fn except(&self, other: &DataFrame) -> Result<Self> {
        self.with_plan(LogicalPlanBuilder::except(self.plan().clone(), other.plan().clone(), false)?)
    }

    /// The rows without those of `other` (SQL's `EXCEPT ALL`).
    pub fn except_all(&self, other: &DataFrame) -> Result<Self> {
        self.with_plan(LogicalPlanBuilder::except(self.plan().clone(), other.plan().clone(), true)?)
    }

    /// The distinct rows that both have (SQL's `INTERSECT`).
    pub fn intersect(&self, other: &DataFrame) -> Result<Self> {
        self.with_plan(LogicalPlanBuilder::intersect(self.plan().clone(), other.plan().clone(), false)?)
    }

    /// The rows that both have (SQL's `INTERSECT ALL`).
    pub fn intersect_all(&self, other: &DataFrame) -> Result<Self> {
        self.with_plan(LogicalPlanBuilder::intersect(self.plan().clone(), other.plan().clone(), true)?)
    }

    /// All but the first `rows` rows.
    pub fn offset(&self, rows: usize) -> Result<Self> {
        self.with_plan(LogicalPlanBuilder::from(self.plan().clone()).limit(rows, None)?.build()?)
    }

    /// About `fraction` (0 to 1) of the rows, without replacement.
    pub fn sample(&self, fraction: f64) -> Result<Self> {
        if !(0.0..=1.0).contains(&fraction) {
            return Err(Error::analysis(format!(
                "Sampling fraction ({fraction}) must be on interval [0, 1] without replacement. Give a part of 1, such as 0.1."
            )));
        }
        self.filter(is_in_sample(fraction))
    }

    /// Sorted rows in every partition. (The session's partitions being its own business, this sorts all rows.)
    pub fn sort_within_partitions(&self, by: impl IntoIterator<Item = SortExpr>) -> Result<Self> {
        self.order_by(by)
    }

    /// The same rows. In how many partitions they are computed is said by the session, not by the query; the verb is
    /// here so that programs that come from Spark need not be changed.
    pub fn repartition(&self, partitions: usize) -> Result<Self> {
        if partitions == 0 {
            return Err(Error::analysis("Number of partitions (0) must be positive. Give 1 or more."));
        }
        Ok(self.clone())
    }

    /// As [`DataFrame::repartition`].
    pub fn coalesce(&self, partitions: usize) -> Result<Self> {
        self.repartition(partitions)
    }
}

impl GroupedData {
    /// One column for each of these values of `column`: [`PivotedData::agg`] says what it holds.
    pub fn pivot(&self, column: &str, values: impl IntoIterator<Item = Expr>) -> PivotedData {
        PivotedData { grouped: self.clone(), column: column.to_owned(), values: values.into_iter().collect() }
    }
}

/// A frame, what it is grouped by, and the values that become columns.
#[derive(Clone, Debug)]
pub struct PivotedData {
    grouped: GroupedData,
    column: String,
    values: Vec<Expr>,
}

impl PivotedData {
    /// One row a group: what it is grouped by, then a column for each value, named by it: the aggregate over the
    /// group's rows that have the value, null where there is none.
    ///
    /// Two aggregations, as in Spark: first by the value as well, then one row of the values' results. So on a stream it
    /// needs append mode and a watermark (`spec/05`).
    pub fn agg(&self, aggregate: Expr) -> Result<DataFrame> {
        const RESULT: &str = "__pivoted";
        let (frame, columns) = self.grouped.frame().as_columns(self.grouped.by().iter().cloned())?;
        let pivot = Expr::Column(frame.top_level_column(&self.column)?);
        let by_value =
            frame.group_by(columns.iter().cloned().chain([pivot.clone()])).agg([aggregate.unalias().alias(RESULT)])?;
        let result = Expr::Column(Column::new_unqualified(RESULT));
        let results = self.values.iter().map(|value| {
            let is_it = pivot.clone().eq(value.clone());
            let name = match value {
                Expr::Literal(value, _) => value.to_string(),
                other => other.schema_name().to_string(),
            };
            Ok(first_value_udaf().call(vec![result.clone()]).filter(is_it).build()?.alias(name))
        });
        by_value.group_by(columns).agg(results.collect::<Result<Vec<_>>>()?)
    }
}
