//! One input of a stream-stream join: which of its columns are the key, when a row is late, when it may be forgotten.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, UInt32Array};
use arrow::compute::{filter_record_batch, not, prep_null_mask_filter, take};
use arrow::datatypes::{FieldRef, TimestampMicrosecondType};
use datafusion::common::cast::as_boolean_array;
use datafusion::error::Result;
use datafusion::physical_plan::PhysicalExpr;

use super::bound::Bound;
use crate::operators::expiry::at_event_time;
use crate::operators::watermark::event_time_micros;
use crate::state::normalise_keys;

/// What one side of a join looks like, the same for every batch.
#[derive(Debug)]
pub struct JoinSide {
    /// The name of its store: `left` or `right`.
    pub name: &'static str,
    /// The side's own columns: the first ones of the rows that arrive. Key expressions follow them.
    pub columns: Vec<FieldRef>,
    /// The columns of the arriving rows that are the join key.
    pub keys: Vec<usize>,
    /// The types of the key columns.
    pub key_fields: Vec<FieldRef>,
    /// The event-time column: rows at or before the late watermark are dropped.
    pub event_time: Option<usize>,
    /// What a row must satisfy to match anything.
    pub filter: Option<Arc<dyn PhysicalExpr>>,
    /// When buffered rows leave; `None` for never.
    pub bound: Option<Bound>,
    /// Whether rows without a match come out, with nulls for the other side.
    pub outer: bool,
}

/// Rows of one side in columns, with what the join needs to know of each.
#[derive(Debug)]
pub(super) struct SideRows {
    /// The side's own columns.
    pub(super) columns: Vec<ArrayRef>,
    /// The join key, normalised.
    pub(super) keys: Vec<ArrayRef>,
    /// When each row leaves (microseconds since 1970), null for never.
    pub(super) expiry: Int64Array,
}

impl SideRows {
    pub(super) fn count(&self) -> usize {
        self.expiry.len()
    }

    /// The rows at these places.
    pub(super) fn take(&self, rows: &UInt32Array) -> Result<Self> {
        Ok(Self {
            columns: take_columns(&self.columns, rows)?,
            keys: take_columns(&self.keys, rows)?,
            expiry: take(&self.expiry, rows, None)?.as_primitive().clone(),
        })
    }
}

/// The rows of these columns at these places.
pub(super) fn take_columns(columns: &[ArrayRef], rows: &UInt32Array) -> Result<Vec<ArrayRef>> {
    columns.iter().map(|column| Ok(take(column, rows, None)?)).collect()
}

impl JoinSide {
    /// The rows that are not late, and how many were. A row at the watermark itself is late, a null event time never.
    pub(super) fn without_late(&self, rows: RecordBatch, late_us: i64) -> Result<(RecordBatch, u64)> {
        let Some(column) = self.event_time else { return Ok((rows, 0)) };
        let times = event_time_micros(rows.column(column))?;
        let times = times.as_primitive::<TimestampMicrosecondType>();
        let on_time: BooleanArray = times.iter().map(|time| Some(time.is_none_or(|time| time > late_us))).collect();
        let late = on_time.len() - on_time.true_count();
        if late == 0 {
            return Ok((rows, 0));
        }
        Ok((filter_record_batch(&rows, &on_time)?, late as u64))
    }

    /// The rows that can match, and those that cannot whatever the other side brings.
    pub(super) fn split(&self, rows: RecordBatch) -> Result<(RecordBatch, Option<RecordBatch>)> {
        let Some(filter) = &self.filter else { return Ok((rows, None)) };
        let holds = filter.evaluate(&rows)?.into_array(rows.num_rows())?;
        let holds = as_boolean_array(&holds)?;
        // Unknown is not true.
        let holds = if holds.null_count() > 0 { prep_null_mask_filter(holds) } else { holds.clone() };
        if holds.true_count() == holds.len() {
            return Ok((rows, None));
        }
        let failing = filter_record_batch(&rows, &not(&holds)?)?;
        Ok((filter_record_batch(&rows, &holds)?, Some(failing)))
    }

    /// The side's own columns of arriving rows.
    pub(super) fn own_columns(&self, rows: &RecordBatch) -> Vec<ArrayRef> {
        rows.columns()[..self.columns.len()].to_vec()
    }

    /// The rows with their keys and expiries.
    pub(super) fn keyed(&self, rows: &RecordBatch) -> Result<SideRows> {
        let columns = self.own_columns(rows);
        let keys: Vec<ArrayRef> = self.keys.iter().map(|key| Arc::clone(rows.column(*key))).collect();
        let keys = normalise_keys(&keys)?;
        let expiry = self.expiry(&keys, &columns)?.unwrap_or_else(|| Int64Array::new_null(rows.num_rows()));
        Ok(SideRows { columns, keys, expiry })
    }

    /// When rows with these keys and columns leave, if they ever do.
    pub(super) fn expiry(&self, keys: &[ArrayRef], columns: &[ArrayRef]) -> Result<Option<Int64Array>> {
        let times = match &self.bound {
            None => return Ok(None),
            Some(Bound::Key(key)) => &keys[*key],
            Some(Bound::Rows { column, .. }) => &columns[*column],
        };
        at_event_time(times).map(Some)
    }

    /// Rows whose expiry is `<=` this (microseconds) leave; `None` for never.
    pub(super) fn leaves_until_us(&self, evict_ms: i64) -> Option<i64> {
        self.bound.as_ref().map(|bound| bound.state_watermark_ms(evict_ms).saturating_mul(1000))
    }
}
