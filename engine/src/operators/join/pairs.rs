//! Finds the pairs of an arriving and a buffered row that match: by key, then by the rest of the condition.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::{filter, take};
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::cast::as_boolean_array;
use datafusion::error::Result;
use datafusion::logical_expr::EmitTo;
use datafusion::physical_plan::PhysicalExpr;
use datafusion::physical_plan::aggregates::group_values::new_group_values;
use datafusion::physical_plan::aggregates::order::GroupOrdering;

use super::buffer::{Buffer, Matches};
use super::side::{JoinSide, SideRows};

/// How many pairs are looked at together.
const PAIRS: usize = 8192;

/// The part of a condition that has to see a joined row.
#[derive(Debug)]
pub struct PairFilter {
    /// Over the columns of `schema`.
    pub expr: Arc<dyn PhysicalExpr>,
    /// Where each column comes from: (from the left side, index in that side).
    pub columns: Vec<(bool, usize)>,
    /// The columns that the expression looks at.
    pub schema: SchemaRef,
}

/// What arriving rows of one side found in the buffer of the other.
pub(super) struct Joined {
    /// The buffered rows that have the key of an arriving row.
    pub(super) matches: Matches,
    /// Pairs of places: (arriving, buffered), in pieces.
    pub(super) pairs: Vec<(UInt32Array, UInt32Array)>,
    /// Which arriving rows are in a pair.
    pub(super) arriving: Vec<bool>,
    /// Which buffered rows are in a pair.
    pub(super) buffered: Vec<bool>,
}

/// Joins arriving rows of `side` with what the other side has buffered.
pub(super) fn join(
    side: &JoinSide,
    rows: &SideRows,
    arriving_left: bool,
    other: &Buffer,
    condition: Option<&PairFilter>,
) -> Result<Joined> {
    let (key_of_row, keys) = distinct_keys(side, rows)?;
    let matches = other.find(&keys)?;
    let (mut arriving, mut buffered) = (vec![false; rows.count()], vec![false; matches.count()]);
    let mut pairs = vec![];
    let mut add = |some: (Vec<u32>, Vec<u32>)| -> Result<()> {
        let some = (UInt32Array::from(some.0), UInt32Array::from(some.1));
        let (a, b) = match condition {
            Some(condition) => condition.holding(some, &rows.columns, &matches.columns, arriving_left)?,
            None => some,
        };
        a.values().iter().for_each(|row| arriving[*row as usize] = true);
        b.values().iter().for_each(|row| buffered[*row as usize] = true);
        if !a.is_empty() {
            pairs.push((a, b));
        }
        Ok(())
    };
    let mut some = (vec![], vec![]);
    for (row, key) in key_of_row.into_iter().enumerate() {
        for found in matches.of_key[key].clone() {
            some.0.push(row as u32);
            some.1.push(found as u32);
            if some.0.len() == PAIRS {
                add(std::mem::take(&mut some))?;
            }
        }
    }
    if !some.0.is_empty() {
        add(some)?;
    }
    Ok(Joined { matches, pairs, arriving, buffered })
}

/// For each row the number of its key, and the keys by number.
fn distinct_keys(side: &JoinSide, rows: &SideRows) -> Result<(Vec<usize>, Vec<ArrayRef>)> {
    let schema = Arc::new(Schema::new(side.key_fields.clone()));
    let mut values = new_group_values(schema, &GroupOrdering::None)?;
    let mut key_of_row = vec![];
    values.intern(&rows.keys, &mut key_of_row)?;
    Ok((key_of_row, values.emit(EmitTo::All)?))
}

impl PairFilter {
    /// The pairs for which the condition is true.
    fn holding(
        &self,
        (arriving, buffered): (UInt32Array, UInt32Array),
        arriving_columns: &[ArrayRef],
        buffered_columns: &[ArrayRef],
        arriving_left: bool,
    ) -> Result<(UInt32Array, UInt32Array)> {
        let column = |(of_left, index): &(bool, usize)| -> Result<ArrayRef> {
            let (columns, rows) =
                if *of_left == arriving_left { (arriving_columns, &arriving) } else { (buffered_columns, &buffered) };
            Ok(take(&columns[*index], rows, None)?)
        };
        let columns = self.columns.iter().map(column).collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(arriving.len()));
        let joined = RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?;
        let holds = self.expr.evaluate(&joined)?.into_array(arriving.len())?;
        let holds = as_boolean_array(&holds)?;
        let kept = |rows: &UInt32Array| -> Result<UInt32Array> {
            let kept = filter(rows, holds)?;
            Ok(arrow::array::AsArray::as_primitive(kept.as_ref()).clone())
        };
        Ok((kept(&arriving)?, kept(&buffered)?))
    }
}

impl Matches {
    /// How many rows there are.
    pub(super) fn count(&self) -> usize {
        self.of_key.last().map_or(0, |range| range.end)
    }
}
