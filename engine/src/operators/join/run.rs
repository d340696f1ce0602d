//! One partition's work in one batch of a stream-stream join, in the order of `spec/04` section 3.
//!
//! ```text
//! left rows   -> not late -> can match? -> against the right buffer (old)         -> buffered
//! right rows  -> not late -> can match? -> against the left buffer (old and new)  -> buffered
//! both buffers -> what the watermark lets go leaves; of an outer side it comes out if it never matched
//! ```
//! So every pair of two new rows is seen once: when its right row arrives.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions, UInt32Array, new_null_array};
use arrow::datatypes::{FieldRef, SchemaRef};
use datafusion::error::Result;

use super::StreamJoinParts;
use super::buffer::Buffer;
use super::pairs::{Joined, join};
use super::side::{JoinSide, SideRows, take_columns};
use crate::environment::Clock;
use crate::operators::batch::OperatorWatermarks;
use crate::operators::stateful::OperatorNumbers;
use crate::planted::planted;

pub(super) struct PartitionRun<'a> {
    pub(super) parts: &'a StreamJoinParts,
    pub(super) left: Buffer<'a>,
    pub(super) right: Buffer<'a>,
    pub(super) watermarks: OperatorWatermarks,
    pub(super) schema: &'a SchemaRef,
    pub(super) clock: &'a dyn Clock,
    pub(super) numbers: OperatorNumbers,
    pub(super) out: Vec<RecordBatch>,
}

impl PartitionRun<'_> {
    /// Joins a batch; the result is in `out`, what was done in `numbers`.
    pub(super) fn run(&mut self, left: Vec<RecordBatch>, right: Vec<RecordBatch>) -> Result<()> {
        let started_us = self.clock.monotonic_us();
        for rows in left {
            self.take_left(rows)?;
        }
        for rows in right {
            self.take_right(rows)?;
        }
        let joined_us = self.clock.monotonic_us();
        self.numbers.updates_us += joined_us.saturating_sub(started_us);
        self.forget_left()?;
        self.forget_right()?;
        self.numbers.removals_us += self.clock.monotonic_us().saturating_sub(joined_us);
        Ok(())
    }

    fn take_left(&mut self, rows: RecordBatch) -> Result<()> {
        let parts = self.parts;
        let Some(rows) = self.able_to_match(&parts.left, rows)? else { return Ok(()) };
        let found = join(&parts.left, &rows, true, &self.right, parts.filter.as_ref())?;
        if parts.right.outer {
            self.right.mark(&found.matches, &found.buffered)?;
        }
        if !parts.semi {
            self.emit_pairs(&found, &rows.columns, true)?;
            // Also a row that the watermark has passed already: this batch's right rows may match it.
            self.numbers.updated += rows.count() as u64;
            if planted("join-loses-the-left-rows-of-a-late-batch")
                && let Some(until_us) = parts.left.leaves_until_us(self.watermarks.evict_ms)
                && rows.expiry.iter().flatten().any(|at| at <= until_us)
            {
                return Ok(());
            }
            return self.left.put(&rows, BooleanArray::from(found.arriving));
        }
        // A row of a left semi join that has its match needs no place in the buffer.
        let matched = places(&found.arriving, true);
        self.emit(take_columns(&rows.columns, &matched)?, matched.len())?;
        // One that the watermark has passed does not wait, not even for this batch's right rows (as Spark has it).
        let gone = self.gone(&parts.left, &rows);
        let waits: Vec<bool> = (0..rows.count()).map(|row| !found.arriving[row] && !gone(row)).collect();
        let waiting = rows.take(&places(&waits, true))?;
        self.numbers.updated += waiting.count() as u64;
        self.left.put(&waiting, BooleanArray::from(vec![false; waiting.count()]))
    }

    fn take_right(&mut self, rows: RecordBatch) -> Result<()> {
        let parts = self.parts;
        let Some(rows) = self.able_to_match(&parts.right, rows)? else { return Ok(()) };
        let found = join(&parts.right, &rows, false, &self.left, parts.filter.as_ref())?;
        if parts.semi {
            // Its first match takes a left row out of the buffer.
            let matched = places(&found.buffered, true);
            self.emit(take_columns(&found.matches.columns, &matched)?, matched.len())?;
            if !planted("join-semi-matches-again") {
                self.numbers.removed += self.left.remove(&found.matches, &matched)?;
            }
        } else {
            if parts.left.outer {
                self.left.mark(&found.matches, &found.buffered)?;
            }
            self.emit_pairs(&found, &rows.columns, false)?;
        }
        // No later left row can match a row that the watermark has passed: it is kept only to come out without a match.
        let gone = self.gone(&parts.right, &rows);
        let stays: Vec<bool> = (found.arriving.iter().enumerate())
            .map(|(row, matched)| !gone(row) || (parts.right.outer && !matched))
            .map(|stays| stays && !planted("join-forgets-right-rows-at-once"))
            .collect();
        let kept = places(&stays, true);
        self.numbers.updated += kept.len() as u64;
        if kept.len() == rows.count() {
            return self.right.put(&rows, BooleanArray::from(found.arriving));
        }
        let matched: BooleanArray = kept.values().iter().map(|row| Some(found.arriving[*row as usize])).collect();
        self.right.put(&rows.take(&kept)?, matched)
    }

    /// Which arriving rows the watermark has passed already.
    fn gone<'r>(&self, side: &JoinSide, rows: &'r SideRows) -> impl Fn(usize) -> bool + use<'r> {
        let until_us = side.leaves_until_us(self.watermarks.evict_ms);
        move |row| until_us.is_some_and(|until| rows.expiry.is_valid(row) && rows.expiry.value(row) <= until)
    }

    /// The arriving rows that are not late and that can match. The others of an outer side come out at once.
    fn able_to_match(&mut self, side: &JoinSide, rows: RecordBatch) -> Result<Option<SideRows>> {
        let late_us = if planted("join-takes-late-rows") { i64::MIN } else { self.watermarks.late_us() };
        let (rows, late) = side.without_late(rows, late_us)?;
        self.numbers.dropped_by_watermark += late;
        let (rows, unable) = side.split(rows)?;
        if let Some(unable) = unable.filter(|_| side.outer) {
            self.emit_padded(side, side.own_columns(&unable), unable.num_rows())?;
        }
        if rows.num_rows() == 0 { Ok(None) } else { Ok(Some(side.keyed(&rows)?)) }
    }

    fn forget_left(&mut self) -> Result<()> {
        let parts = self.parts;
        let Some(until_us) = parts.left.leaves_until_us(self.watermarks.evict_ms) else { return Ok(()) };
        let mut leaving = self.left.evict(until_us)?;
        self.numbers.removed += leaving.remaining() as u64;
        while parts.left.outer
            && let Some(rows) = self.left.next_left(&mut leaving)?
        {
            self.emit_unmatched(&parts.left, &rows.columns, &rows.matched)?;
        }
        Ok(())
    }

    fn forget_right(&mut self) -> Result<()> {
        let parts = self.parts;
        let Some(until_us) = parts.right.leaves_until_us(self.watermarks.evict_ms) else { return Ok(()) };
        if planted("join-never-forgets-right-rows") {
            return Ok(());
        }
        let mut leaving = self.right.evict(until_us)?;
        self.numbers.removed += leaving.remaining() as u64;
        while parts.right.outer
            && !(parts.left.outer && planted("join-full-outer-is-left-outer"))
            && let Some(rows) = self.right.next_left(&mut leaving)?
        {
            self.emit_unmatched(&parts.right, &rows.columns, &rows.matched)?;
        }
        Ok(())
    }

    fn emit_unmatched(&mut self, side: &JoinSide, columns: &[ArrayRef], matched: &BooleanArray) -> Result<()> {
        let matched: Vec<bool> = matched.values().iter().collect();
        let unmatched = places(&matched, false);
        if planted("join-padded-rows-come-twice") {
            self.emit_padded(side, take_columns(columns, &unmatched)?, unmatched.len())?;
        }
        if planted("join-padded-rows-never-come") {
            return Ok(());
        }
        self.emit_padded(side, take_columns(columns, &unmatched)?, unmatched.len())
    }

    /// Emits joined rows. `arriving` are the columns of the rows that found something.
    fn emit_pairs(&mut self, found: &Joined, arriving: &[ArrayRef], arriving_left: bool) -> Result<()> {
        for (a, b) in &found.pairs {
            let (mut first, mut second) = (take_columns(arriving, a)?, take_columns(&found.matches.columns, b)?);
            if !arriving_left {
                std::mem::swap(&mut first, &mut second);
            }
            first.append(&mut second);
            self.emit(first, a.len())?;
        }
        Ok(())
    }

    /// Emits rows of one side with nulls for the other.
    fn emit_padded(&mut self, side: &JoinSide, columns: Vec<ArrayRef>, rows: usize) -> Result<()> {
        let nulls = |fields: &[FieldRef]| -> Vec<ArrayRef> {
            fields.iter().map(|field| new_null_array(field.data_type(), rows)).collect()
        };
        let parts = self.parts;
        let columns = if std::ptr::eq(side, &parts.left) {
            columns.into_iter().chain(nulls(&parts.right.columns)).collect()
        } else {
            nulls(&parts.left.columns).into_iter().chain(columns).collect()
        };
        self.emit(columns, rows)
    }

    fn emit(&mut self, columns: Vec<ArrayRef>, rows: usize) -> Result<()> {
        if rows > 0 {
            let options = RecordBatchOptions::new().with_row_count(Some(rows));
            self.out.push(RecordBatch::try_new_with_options(Arc::clone(self.schema), columns, &options)?);
        }
        Ok(())
    }
}

/// The places at which the flag is `wanted`.
fn places(flags: &[bool], wanted: bool) -> UInt32Array {
    flags.iter().enumerate().filter(|(_, flag)| **flag == wanted).map(|(row, _)| row as u32).collect()
}
