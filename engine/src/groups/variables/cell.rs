//! What all variables share: the groups at hand, the store, and values in columns with their lifetime.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, UInt32Array};
use arrow::compute::{filter, take_arrays};
use arrow::datatypes::Int64Type;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::VariableNumbers;
use crate::error::{Error, Result};
use crate::groups::handle::Shared;
use crate::groups::processor::TtlConfig;
use crate::planted::planted;
use crate::rows::ValueColumn;
use crate::state::{Cursor, SharedStore, StateRows, StateStore, Until};

/// A variable without its values.
pub(super) struct Cell<T> {
    pub(super) name: String,
    pub(super) ttl: TtlConfig,
    pub(super) shared: Arc<Shared>,
    pub(super) column: ValueColumn<T>,
    store: Option<SharedStore>,
    /// The key columns of the groups at hand.
    pub(super) keys: Vec<ArrayRef>,
    pub(super) groups: usize,
    pub(super) numbers: VariableNumbers,
}

impl<T: Serialize + DeserializeOwned> Cell<T> {
    pub(super) fn new(name: &str, ttl: TtlConfig, shared: Arc<Shared>) -> Self {
        let column = ValueColumn::new();
        let numbers = VariableNumbers::default();
        Self { name: name.to_owned(), ttl, shared, column, store: None, keys: vec![], groups: 0, numbers }
    }

    pub(super) fn open(&mut self, store: SharedStore) {
        self.store = Some(store);
    }

    pub(super) fn begin_groups(&mut self, keys: &[ArrayRef], groups: usize) {
        (self.keys, self.groups) = (keys.to_vec(), groups);
    }

    /// Works on the store. Nobody else does while a partition of a batch is run.
    pub(super) fn with_store<R>(&self, work: impl FnOnce(&mut dyn StateStore) -> Result<R>) -> Result<R> {
        let store = self.store.as_ref().and_then(|store| store.try_lock());
        let mut store = store.ok_or_else(|| Error::internal(format!("state variable {} has no store", self.name)))?;
        work(store.as_mut())
    }

    /// The key columns of one group, or of some.
    pub(super) fn keys_of(&self, groups: &[usize]) -> Result<Vec<ArrayRef>> {
        let groups = UInt32Array::from_iter_values(groups.iter().map(|group| *group as u32));
        Ok(take_arrays(&self.keys, &groups, None)?)
    }

    /// Whether an entry with these values may be seen.
    pub(super) fn is_alive(&self, values: &[ArrayRef], row: usize) -> bool {
        let now_ms = self.shared.processing_ms - i64::from(planted("ttl-ends-late"));
        match values.get(1) {
            _ if planted("ttl-is-not-looked-at") => true,
            Some(ends) if ends.is_valid(row) => ends.as_primitive::<Int64Type>().value(row) > now_ms,
            _ => true,
        }
    }

    /// Values in the columns of the store, and when they expire; which of the values are not null.
    pub(super) fn encode<'a>(&self, values: impl Iterator<Item = &'a T>) -> Result<Encoded>
    where
        T: 'a,
    {
        let value = self.column.encode(values.map(Some))?;
        let rows = value.len();
        let valid = BooleanArray::from_iter((0..rows).map(|row| Some(value.is_valid(row))));
        if self.ttl.duration_ms == 0 {
            return Ok(Encoded { columns: vec![value], expiry: None, valid });
        }
        let end_ms = self.shared.processing_ms.saturating_add(self.ttl.duration_ms);
        let ends: ArrayRef = Arc::new(Int64Array::from(vec![end_ms; rows]));
        let expiry = Int64Array::from(vec![end_ms.saturating_mul(1000); rows]);
        Ok(Encoded { columns: vec![value, ends], expiry: Some(expiry), valid })
    }

    /// All entries of one group that may be seen, in order of key.
    pub(super) fn entries(&self, group: usize) -> Result<Vec<StateRows>> {
        let prefix = self.keys_of(&[group])?;
        self.with_store(|store| {
            let mut matches = store.prefix_scan(&prefix)?;
            read_all(store, &mut matches.cursor)
        })
    }

    /// Removes all entries of some groups; answers how many there were.
    pub(super) fn remove_all(&self, groups: &[usize]) -> Result<usize> {
        if groups.is_empty() {
            return Ok(0);
        }
        let prefixes = self.keys_of(groups)?;
        self.with_store(|store| {
            let matches = store.prefix_scan(&prefixes)?;
            store.remove_slots(&matches.cursor.slots)
        })
    }

    /// What has outlived its lifetime leaves.
    pub(super) fn finish(&mut self) -> Result<VariableNumbers> {
        if self.ttl.duration_ms > 0 && !planted("ttl-is-never-cleaned") {
            let now_us = self.shared.processing_ms.saturating_mul(1000);
            let gone = self.with_store(|store| store.evict(Until::AtOrBefore(now_us)))?;
            self.numbers.removed += gone.slots.len() as u64;
            self.numbers.expired += gone.slots.len() as u64;
        }
        Ok(self.numbers)
    }
}

/// Values in columns.
pub(super) struct Encoded {
    columns: Vec<ArrayRef>,
    expiry: Option<Int64Array>,
    /// Which of them are not null.
    pub(super) valid: BooleanArray,
}

impl Encoded {
    /// Puts those that are not null; answers how many are.
    pub(super) fn put(self, store: &mut dyn StateStore, keys: &[ArrayRef]) -> Result<usize> {
        let nulls = self.valid.false_count();
        let kept = |columns: &[ArrayRef]| columns.iter().map(|column| filter(column, &self.valid)).collect();
        let (keys, columns): (Vec<_>, Vec<_>) = match nulls {
            0 => (keys.to_vec(), self.columns),
            _ => {
                let keys: Result<Vec<_>, arrow::error::ArrowError> = kept(keys);
                let columns: Result<Vec<_>, arrow::error::ArrowError> = kept(&self.columns);
                (keys?, columns?)
            }
        };
        let mut expiry = self.expiry.map(|expiry| expiry.slice(0, expiry.len() - nulls));
        let mut columns = columns;
        if planted("ttl-counts-from-the-first-write") && expiry.is_some() {
            let (found, new) = (store.get(&keys)?, columns[1].as_primitive::<Int64Type>());
            let old = found.values[1].as_primitive::<Int64Type>();
            let first = |row| if found.present.value(row) { old.value(row) } else { new.value(row) };
            let ends: Int64Array = (0..new.len()).map(|row| Some(first(row))).collect();
            expiry = Some(ends.unary(|ms| ms.saturating_mul(1000)));
            columns[1] = Arc::new(ends);
        }
        store.put(&keys, &columns, expiry.as_ref())?;
        Ok(nulls)
    }
}

fn read_all(store: &dyn StateStore, cursor: &mut Cursor) -> Result<Vec<StateRows>> {
    let mut batches = vec![];
    while let Some(rows) = store.next_rows(cursor)? {
        batches.push(rows);
    }
    Ok(batches)
}
