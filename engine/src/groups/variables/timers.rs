//! The timers of all keys: entries of a store without values that expire when the timers do.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use arrow::array::{ArrayRef, AsArray, Int64Array, UInt32Array};
use arrow::compute::{filter, take_arrays};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::planted::planted;
use crate::state::{Cursor, SharedStore, StateSchema, StateStore, StoreSpec, Until};

/// The store of the timers; a variable cannot have this name.
pub(crate) const TIMERS_STORE: &str = "_timers";

/// The timers of one partition, in one batch.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    state: Mutex<TimersState>,
}

#[derive(Debug, Default)]
struct TimersState {
    store: Option<SharedStore>,
    keys: Vec<ArrayRef>,
    /// What the groups at hand did, by group and time: registered or deleted.
    changed: BTreeMap<(usize, i64), bool>,
    numbers: TimerNumbers,
}

/// What was done to timers in a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TimerNumbers {
    pub(crate) registered: u64,
    pub(crate) deleted: u64,
    pub(crate) expired: u64,
}

impl TimersState {
    fn with_store<R>(&self, work: impl FnOnce(&mut dyn StateStore) -> Result<R>) -> Result<R> {
        let store = self.store.as_ref().and_then(|store| store.try_lock());
        let mut store = store.ok_or_else(|| Error::internal("timers have no store"))?;
        work(store.as_mut())
    }

    fn keys_of(&self, groups: impl Iterator<Item = usize>) -> Result<Vec<ArrayRef>> {
        Ok(take_arrays(&self.keys, &UInt32Array::from_iter_values(groups.map(|group| group as u32)), None)?)
    }
}

impl Timers {
    /// The store, for groups with these key columns.
    pub(crate) fn store(keys: &SchemaRef) -> Result<StoreSpec> {
        let mut key_fields: Vec<_> = keys.fields().iter().cloned().collect();
        let prefix_columns = key_fields.len();
        key_fields.push(Arc::new(Field::new("expiration_timestamp_ms", DataType::Int64, false)));
        let schema = StateSchema::new(Arc::new(Schema::new(key_fields)), Arc::new(Schema::empty()))?;
        Ok(StoreSpec { name: TIMERS_STORE.into(), schema, prefix_columns, since: 0 })
    }

    fn lock(&self) -> MutexGuard<'_, TimersState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn open(&self, store: SharedStore) {
        self.lock().store = Some(store);
    }

    pub(crate) fn begin_groups(&self, keys: &[ArrayRef]) {
        self.lock().keys = keys.to_vec();
    }

    pub(crate) fn set(&self, group: usize, expiry_ms: i64, registered: bool) -> Result<()> {
        let mut state = self.lock();
        if !registered && planted("timer-outlives-its-deletion") {
            return Ok(());
        }
        match registered {
            true => state.numbers.registered += 1,
            false => state.numbers.deleted += 1,
        }
        state.changed.insert((group, expiry_ms), registered);
        Ok(())
    }

    pub(crate) fn list(&self, group: usize) -> Result<Vec<i64>> {
        let state = self.lock();
        let prefix = state.keys_of(std::iter::once(group))?;
        let mut times = BTreeSet::new();
        state.with_store(|store| {
            let mut matches = store.prefix_scan(&prefix)?;
            while let Some(rows) = store.next_rows(&mut matches.cursor)? {
                times.extend(rows.keys.last().into_iter().flat_map(|times| times.as_primitive::<Int64Type>().values()));
            }
            Ok(())
        })?;
        for ((_, time), registered) in state.changed.range((group, i64::MIN)..=(group, i64::MAX)) {
            match registered {
                true => times.insert(*time),
                false => times.remove(time),
            };
        }
        Ok(times.into_iter().collect())
    }

    /// Whether a group at hand deleted this timer.
    pub(crate) fn is_deleted(&self, group: usize, expiry_ms: i64) -> bool {
        self.lock().changed.get(&(group, expiry_ms)) == Some(&false)
    }

    /// A timer has been called; it is gone, even if the call registered it again.
    pub(crate) fn called(&self, group: usize, expiry_ms: i64) {
        let mut state = self.lock();
        if !planted("timer-comes-again") {
            state.changed.insert((group, expiry_ms), false);
        }
        state.numbers.expired += 1;
    }

    pub(crate) fn end_groups(&self) -> Result<()> {
        let mut state = self.lock();
        let changed = std::mem::take(&mut state.changed);
        let of = |registered: bool| changed.iter().filter(move |(_, change)| **change == registered).map(|(at, _)| *at);
        let columns = |registered: bool| {
            let mut keys = state.keys_of(of(registered).map(|(group, _)| group))?;
            keys.push(Arc::new(Int64Array::from_iter_values(of(registered).map(|(_, time)| time))));
            Ok::<_, Error>(keys)
        };
        if of(false).next().is_some() {
            let keys = columns(false)?;
            state.with_store(|store| store.remove(&keys))?;
        }
        if of(true).next().is_some() {
            let keys = columns(true)?;
            let expiry: Int64Array = of(true).map(|(_, ms)| Some(ms.saturating_mul(1000))).collect();
            let expiry = Some(&expiry).filter(|_| !planted("timer-never-comes"));
            state.with_store(|store| store.put(&keys, &[], expiry))?;
        }
        Ok(())
    }

    /// The timers whose time has come, in order of time.
    pub(crate) fn due(&self, until_ms: i64) -> Result<Cursor> {
        let until_us = until_ms.saturating_mul(1000);
        let until = match planted("timer-comes-late") {
            true => Until::Before(until_us),
            false => Until::AtOrBefore(until_us),
        };
        self.lock().with_store(|store| store.expired(until))
    }

    /// The next of them: their keys and their times.
    pub(crate) fn next_due(&self, cursor: &mut Cursor) -> Result<Option<(Vec<ArrayRef>, Vec<i64>)>> {
        let state = self.lock();
        let Some(rows) = state.with_store(|store| store.next_rows(cursor))? else { return Ok(None) };
        // A call of an earlier one may have deleted some.
        let there = state.with_store(|store| store.get(&rows.keys))?.present;
        let mut keys = rows.keys.iter().map(|key| filter(key, &there)).collect::<Result<Vec<_>, _>>()?;
        let times = keys.pop().map(|times| times.as_primitive::<Int64Type>().values().to_vec());
        Ok(Some((keys, times.unwrap_or_default())))
    }

    pub(crate) fn numbers(&self) -> TimerNumbers {
        self.lock().numbers
    }
}
