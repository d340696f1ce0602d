//! The rows of one side that a join remembers: stored by join key, found by it, and gone by event time.
//!
//! An entry is one row. Its key: the join key, then the batch and the number of the row in it, so that rows of equal
//! keys are apart and in the order in which they came. Its value: the columns of the row that are not in the key
//! already, and whether the row ever matched. Looked up by prefix; evicted by the store's index of expiries, which costs
//! what leaves.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int32Array, Int64Array, UInt32Array, new_empty_array};
use arrow::compute::{concat, take};
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::error::Result;

use super::side::{JoinSide, SideRows, take_columns};
use crate::error::Error;
use crate::operators::expiry::expire_old;
use crate::planted::planted;
use crate::state::{Cursor, SlotRef, StateRows, StateSchema, StateStore, StoreSpec, Until};

/// Where a column of the side is kept in an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kept {
    Key(usize),
    Value(usize),
}

/// What the state of one side holds.
pub(super) fn store_spec(side: &JoinSide) -> Result<StoreSpec> {
    let nullable = |field: &Arc<Field>| Arc::new(field.as_ref().clone().with_nullable(true));
    let mut keys: Vec<_> = side.key_fields.iter().map(nullable).collect();
    keys.push(Arc::new(Field::new("__batch", DataType::Int64, false)));
    keys.push(Arc::new(Field::new("__row", DataType::Int32, false)));
    let mut values: Vec<_> = (side.columns.iter().zip(layout(side)))
        .filter(|(_, kept)| matches!(kept, Kept::Value(_)))
        .map(|(field, _)| nullable(field))
        .collect();
    values.push(Arc::new(Field::new("__matched", DataType::Boolean, true)));
    let schema = StateSchema::new(Arc::new(Schema::new(keys)), Arc::new(Schema::new(values)))?;
    Ok(StoreSpec { name: side.name.into(), schema, prefix_columns: side.keys.len(), since: 0 })
}

/// A column that is a join key is kept once, unless normalising may change it (floats).
fn layout(side: &JoinSide) -> Vec<Kept> {
    let mut values = 0;
    (0..side.columns.len())
        .map(|column| match side.keys.iter().position(|key| *key == column) {
            Some(key) if is_kept_as_it_is(side.columns[column].data_type()) => Kept::Key(key),
            _ => {
                values += 1;
                Kept::Value(values - 1)
            }
        })
        .collect()
}

fn is_kept_as_it_is(data_type: &DataType) -> bool {
    match data_type {
        DataType::Struct(fields) => fields.iter().all(|field| matches!(field.data_type(), DataType::Timestamp(..))),
        other => !other.is_nested() && !other.is_floating() && !matches!(other, DataType::Dictionary(..)),
    }
}

/// One side's buffer in one partition, during one batch.
pub(super) struct Buffer<'a> {
    layout: Vec<Kept>,
    store: &'a mut dyn StateStore,
    batch_id: i64,
    /// Rows put so far in this batch.
    put_count: i32,
}

/// Buffered rows that have one of the keys asked for.
pub(super) struct Matches {
    /// The side's own columns.
    pub(super) columns: Vec<ArrayRef>,
    /// For each key asked for, its rows.
    pub(super) of_key: Vec<Range<usize>>,
    slots: Vec<SlotRef>,
    values: Vec<ArrayRef>,
    expiry: Int64Array,
}

/// Buffered rows that left.
pub(super) struct Left {
    /// The side's own columns.
    pub(super) columns: Vec<ArrayRef>,
    /// Whether they ever matched.
    pub(super) matched: BooleanArray,
}

impl<'a> Buffer<'a> {
    pub(super) fn new(side: &JoinSide, store: &'a mut dyn StateStore, batch_id: u64) -> Self {
        Self { layout: layout(side), store, batch_id: batch_id as i64, put_count: 0 }
    }

    /// Rows that were buffered when there was no watermark get their expiry ([`expire_old`]).
    pub(super) fn expire_old(&mut self, is_first_batch: bool, side: &JoinSide) -> Result<()> {
        if side.bound.is_none() {
            return Ok(());
        }
        let layout = &self.layout;
        expire_old(is_first_batch, self.store, |rows| {
            let expiry = side.expiry(&rows.keys, &own_columns(layout, rows))?;
            Ok(expiry.unwrap_or_else(|| Int64Array::new_null(rows.rows_count())))
        })
    }

    /// Remembers rows; `matched` says which of them have matched already.
    pub(super) fn put(&mut self, rows: &SideRows, matched: BooleanArray) -> Result<()> {
        let count = rows.count();
        let first = self.put_count;
        self.put_count = i32::try_from(count).ok().and_then(|count| first.checked_add(count)).ok_or_else(|| {
            Error::analysis(
                "More than 2147483647 rows of one batch have to be buffered in one partition of a join. Read less per batch \
                 (maxFilesPerTrigger, maxOffsetsPerTrigger), or raise spark.sql.shuffle.partitions of a new query.",
            )
        })?;
        let mut keys = rows.keys.clone();
        keys.push(Arc::new(Int64Array::from(vec![self.batch_id; count])));
        keys.push(Arc::new(Int32Array::from_iter_values(first..self.put_count)));
        let kept = rows.columns.iter().zip(&self.layout).filter(|(_, kept)| matches!(kept, Kept::Value(_)));
        let mut values: Vec<ArrayRef> = kept.map(|(column, _)| Arc::clone(column)).collect();
        values.push(Arc::new(matched));
        Ok(self.store.put(&keys, &values, Some(&rows.expiry))?)
    }

    /// The buffered rows of these (distinct) keys.
    pub(super) fn find(&self, keys: &[ArrayRef]) -> Result<Matches> {
        let found = self.store.prefix_scan(keys)?;
        let keys_count = keys.first().map_or(0, |key| key.len());
        let mut of_key = Vec::with_capacity(keys_count);
        let mut at = 0;
        for key in 0..keys_count {
            let start = at;
            while found.prefix_rows.get(at) == Some(&(key as u32)) {
                at += 1;
            }
            of_key.push(start..at);
        }
        let slots = found.cursor.slots.clone();
        let rows = self.read(found.cursor)?;
        let columns = own_columns(&self.layout, &rows);
        Ok(Matches { columns, of_key, slots, values: rows.values, expiry: rows.expiry })
    }

    /// The rows at these places of `matches` have matched.
    pub(super) fn mark(&mut self, matches: &Matches, matched: &[bool]) -> Result<()> {
        let known = matches.values[matches.values.len() - 1].as_boolean();
        let news: UInt32Array =
            (0..matched.len()).filter(|row| matched[*row] && !known.value(*row)).map(|row| row as u32).collect();
        if news.is_empty() || planted("join-forgets-who-matched") {
            return Ok(());
        }
        let mut values = take_columns(&matches.values, &news)?;
        values.pop();
        values.push(Arc::new(BooleanArray::from(vec![true; news.len()])));
        let expiry = take(&matches.expiry, &news, None)?;
        let slots: Vec<SlotRef> = news.values().iter().map(|row| matches.slots[*row as usize]).collect();
        Ok(self.store.put_slots(&slots, &values, Some(expiry.as_primitive()))?)
    }

    /// Forgets the rows at these places of `matches`; answers how many there were.
    pub(super) fn remove(&mut self, matches: &Matches, rows: &UInt32Array) -> Result<u64> {
        let slots: Vec<SlotRef> = rows.values().iter().map(|row| matches.slots[*row as usize]).collect();
        Ok(self.store.remove_slots(&slots)? as u64)
    }

    /// Forgets the rows whose time has come.
    pub(super) fn evict(&mut self, until_us: i64) -> Result<Cursor> {
        Ok(self.store.evict(Until::AtOrBefore(until_us))?)
    }

    /// The next of the rows that [`Buffer::evict`] removed.
    pub(super) fn next_left(&self, cursor: &mut Cursor) -> Result<Option<Left>> {
        let Some(rows) = self.store.next_rows(cursor)? else { return Ok(None) };
        let matched = rows.values[rows.values.len() - 1].as_boolean().clone();
        Ok(Some(Left { columns: own_columns(&self.layout, &rows), matched }))
    }

    /// All rows of a cursor in one piece.
    fn read(&self, mut cursor: Cursor) -> Result<StateRows> {
        let mut chunks = vec![];
        while let Some(rows) = self.store.next_rows(&mut cursor)? {
            chunks.push(rows);
        }
        if chunks.len() == 1 {
            return Ok(chunks.swap_remove(0));
        }
        let schema = self.store.schema();
        let whole = |fields: &arrow::datatypes::Fields, columns: fn(&StateRows) -> &[ArrayRef]| {
            (fields.iter().enumerate())
                .map(|(at, field)| {
                    let parts: Vec<&dyn Array> = chunks.iter().map(|rows| columns(rows)[at].as_ref()).collect();
                    if parts.is_empty() { Ok(new_empty_array(field.data_type())) } else { Ok(concat(&parts)?) }
                })
                .collect::<Result<Vec<_>>>()
        };
        let expiry: Vec<Option<i64>> = chunks.iter().flat_map(|rows| rows.expiry.iter()).collect();
        Ok(StateRows {
            keys: whole(schema.key.fields(), |rows| &rows.keys)?,
            values: whole(schema.value.fields(), |rows| &rows.values)?,
            expiry: Int64Array::from(expiry),
        })
    }
}

/// The side's own columns of entries.
fn own_columns(layout: &[Kept], rows: &StateRows) -> Vec<ArrayRef> {
    let column = |kept: &Kept| match kept {
        Kept::Key(at) => &rows.keys[*at],
        Kept::Value(at) => &rows.values[*at],
    };
    layout.iter().map(|kept| Arc::clone(column(kept))).collect()
}
