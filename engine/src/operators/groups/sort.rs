//! The rows of a partition, sorted by key.

use std::cmp::Ordering;
use std::ops::Range;

use arrow::array::{ArrayRef, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, interleave, take_arrays, take_record_batch};
use arrow::datatypes::SchemaRef;
use arrow::row::{RowConverter, Rows, SortField};
use datafusion::common::internal_err;
use datafusion::error::Result;

use crate::planted::planted;
use crate::state::normalise_keys;

/// Groups in ascending order of key (null first), each with its rows in the order in which they came.
#[derive(Debug)]
pub(crate) struct SortedGroups {
    /// The key columns, a row per group.
    pub(crate) keys: Vec<ArrayRef>,
    /// The rows of all groups.
    pub(crate) rows: RecordBatch,
    /// The rows of each group.
    pub(crate) ranges: Vec<Range<usize>>,
}

/// Sorts by the columns `keys`; without any there is one group, if there are rows.
pub(crate) fn sort_groups(schema: &SchemaRef, rows: &[RecordBatch], keys: &[usize]) -> Result<SortedGroups> {
    let rows = concat_batches(schema, rows)?;
    let count = rows.num_rows();
    if u32::try_from(count).is_err() {
        return internal_err!("a partition of a batch has {count} rows");
    }
    let columns: Vec<_> = keys.iter().map(|key| rows.column(*key).clone()).collect();
    let columns = normalise_keys(&columns)?;
    if keys.is_empty() || count == 0 {
        let ranges = if count == 0 { vec![] } else { std::iter::once(0..count).collect() };
        return Ok(SortedGroups { keys: columns, rows, ranges });
    }
    let encoded = encode(&columns)?;
    let mut order: Vec<u32> = (0..count as u32).collect();
    if planted("group-null-keys-are-lost") {
        order.retain(|row| columns[0].is_valid(*row as usize));
    }
    order.sort_by(|a, b| encoded.row(*a as usize).cmp(&encoded.row(*b as usize)));
    let mut ranges: Vec<Range<usize>> = vec![];
    let mut firsts = vec![];
    for (at, row) in order.iter().enumerate() {
        match ranges.last_mut() {
            Some(range)
                if encoded.row(order[range.start] as usize) == encoded.row(*row as usize)
                    && !(planted("group-is-called-for-each-run-of-rows") && order[at - 1] + 1 != *row) =>
            {
                range.end = at + 1
            }
            _ => {
                ranges.push(at..at + 1);
                firsts.push(*row);
            }
        }
    }
    let keys = take_arrays(&columns, &UInt32Array::from(firsts), None)?;
    let rows = take_record_batch(&rows, &UInt32Array::from(order))?;
    Ok(SortedGroups { keys, rows, ranges })
}

fn encode(columns: &[ArrayRef]) -> Result<Rows> {
    let fields = columns.iter().map(|column| SortField::new(column.data_type().clone())).collect();
    Ok(RowConverter::new(fields)?.convert_columns(columns)?)
}

impl SortedGroups {
    /// These groups, and groups without rows for those of the keys (sorted, each once) that are not among them.
    pub(crate) fn with_keys(self, others: &[ArrayRef]) -> Result<Self> {
        let (count, other_count) = (self.ranges.len(), others.first().map_or(0, |column| column.len()));
        if other_count == 0 {
            return Ok(self);
        }
        let together = self.keys.iter().zip(others);
        let together: Vec<ArrayRef> = together
            .map(|(own, other)| Ok(arrow::compute::concat(&[own.as_ref(), other.as_ref()])?))
            .collect::<Result<_>>()?;
        let encoded = encode(&together)?;
        let (mut own, mut other) = (0, 0);
        let (mut chosen, mut ranges) = (vec![], vec![]);
        while own < count || other < other_count {
            let order = match (own < count, other < other_count) {
                (true, true) => encoded.row(own).cmp(&encoded.row(count + other)),
                (true, false) => Ordering::Less,
                _ => Ordering::Greater,
            };
            if order == Ordering::Greater {
                let end = ranges.last().map_or(0, |range: &Range<usize>| range.end);
                chosen.push((1, other));
                ranges.push(end..end);
            } else {
                chosen.push((0, own));
                ranges.push(self.ranges[own].clone());
            }
            own += usize::from(order != Ordering::Greater);
            other += usize::from(order != Ordering::Less);
        }
        let keys = self.keys.iter().zip(others);
        let keys = keys.map(|(own, other)| Ok(interleave(&[own.as_ref(), other.as_ref()], &chosen)?));
        Ok(Self { keys: keys.collect::<Result<_>>()?, rows: self.rows, ranges })
    }

    /// Some of the groups, with only their rows.
    pub(crate) fn slice(&self, groups: Range<usize>) -> Self {
        let ranges = &self.ranges[groups.clone()];
        let (first, end) = match ranges {
            [first, .., last] => (first.start, last.end),
            [only] => (only.start, only.end),
            [] => (0, 0),
        };
        Self {
            keys: self.keys.iter().map(|key| key.slice(groups.start, groups.len())).collect(),
            rows: self.rows.slice(first, end - first),
            ranges: ranges.iter().map(|range| range.start - first..range.end - first).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Array, AsArray, Float64Array, Int64Array};
    use arrow::datatypes::{Float64Type, Int64Type};

    use super::*;

    fn rows(keys: &[Option<f64>], first: i64) -> RecordBatch {
        let values: ArrayRef = Arc::new(Int64Array::from_iter_values(first..first + keys.len() as i64));
        let keys: ArrayRef = Arc::new(Float64Array::from(keys.to_vec()));
        RecordBatch::try_from_iter([("v", values), ("k", keys)]).unwrap()
    }

    #[test]
    fn groups_are_in_order_of_key_and_rows_in_order_of_arrival() {
        let batches = [rows(&[Some(2.0), None, Some(-0.0), Some(f64::NAN)], 0), rows(&[Some(0.0), Some(2.0), None], 4)];
        let groups = sort_groups(&batches[0].schema(), &batches, &[1]).unwrap();
        assert_eq!(groups.ranges, [0..2, 2..4, 4..6, 6..7]);
        assert_eq!(groups.rows.column(0).as_primitive::<Int64Type>().values(), &[1, 6, 2, 4, 0, 5, 3]);
        let keys = groups.keys[0].as_primitive::<Float64Type>();
        assert!(keys.is_null(0) && keys.value(1) == 0.0 && keys.value(2) == 2.0 && keys.value(3).is_nan());
        let slice = groups.slice(1..3);
        assert_eq!((slice.ranges, slice.rows.num_rows()), (vec![0..2, 2..4], 4));
    }

    #[test]
    fn keys_without_rows_come_in_their_place() {
        let batch = rows(&[Some(2.0), Some(1.0), Some(2.0)], 0);
        let groups = sort_groups(&batch.schema(), &[batch], &[1]).unwrap();
        let others: ArrayRef = Arc::new(Float64Array::from(vec![None, Some(1.0), Some(1.5), Some(3.0)]));
        let groups = groups.with_keys(&[others]).unwrap();
        assert_eq!(groups.ranges, [0..0, 0..1, 1..1, 1..3, 3..3]);
        let keys: Vec<_> = groups.keys[0].as_primitive::<Float64Type>().iter().collect();
        assert_eq!(keys, [None, Some(1.0), Some(1.5), Some(2.0), Some(3.0)]);
        let slice = groups.slice(2..4);
        assert_eq!((slice.ranges, slice.rows.num_rows()), (vec![0..0, 0..2], 2));
    }

    #[test]
    fn without_keys_all_rows_are_one_group() {
        let batch = rows(&[Some(2.0), None], 0);
        let schema = batch.schema();
        assert_eq!(sort_groups(&schema, &[batch], &[]).unwrap().ranges, std::iter::once(0..2).collect::<Vec<_>>());
        assert!(sort_groups(&schema, &[], &[]).unwrap().ranges.is_empty());
    }
}
