//! One value per key.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::{Array, ArrayRef};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::cell::Cell;
use super::{Variable, VariableKind, VariableNumbers, VariableSpec};
use crate::error::Result;
use crate::groups::handle::{Shared, not_initialized};
use crate::groups::processor::TtlConfig;
use crate::state::{Found, SharedStore};

/// A state variable of one value (Spark: `ValueState`). Clones are the same variable; `default()` is none yet, to be
/// replaced in `init`.
#[derive(Debug)]
pub struct ValueState<T> {
    inner: Option<Arc<ValueVariable<T>>>,
}

impl<T> Clone for ValueState<T> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

impl<T> Default for ValueState<T> {
    fn default() -> Self {
        Self { inner: None }
    }
}

struct ValueVariable<T> {
    shared: Arc<Shared>,
    state: Mutex<Values<T>>,
}

struct Values<T> {
    cell: Cell<T>,
    /// What the store has for the groups at hand, once somebody asked.
    found: Option<Found>,
    /// What the groups at hand wrote; `None` was cleared.
    written: BTreeMap<usize, Option<T>>,
}

impl<T: Serialize + DeserializeOwned + Clone + Send + 'static> ValueState<T> {
    pub(crate) fn new(name: &str, ttl: TtlConfig, shared: Arc<Shared>) -> Self {
        let cell = Cell::new(name, ttl, Arc::clone(&shared));
        let state = Mutex::new(Values { cell, found: None, written: BTreeMap::new() });
        Self { inner: Some(Arc::new(ValueVariable { shared, state })) }
    }

    pub(crate) fn variable(&self) -> Result<Arc<dyn Variable>> {
        Ok(Arc::clone(self.inner.as_ref().ok_or_else(not_initialized)?) as _)
    }

    fn at(&self, operation: &str) -> Result<(usize, MutexGuard<'_, Values<T>>)> {
        let inner = self.inner.as_ref().ok_or_else(not_initialized)?;
        Ok((inner.shared.group(operation)?, inner.lock()))
    }

    /// Whether the key has a value.
    pub fn exists(&self) -> Result<bool> {
        Ok(self.get()?.is_some())
    }

    /// The key's value, if it has one.
    pub fn get(&self) -> Result<Option<T>> {
        let (group, mut values) = self.at("ValueState.get")?;
        if let Some(written) = values.written.get(&group) {
            return Ok(written.clone());
        }
        values.load()?;
        let Some(found) = &values.found else { return Ok(None) };
        let present = found.present.value(group) && found.values[0].is_valid(group);
        if !present || !values.cell.is_alive(&found.values, group) {
            return Ok(None);
        }
        values.cell.column.decode(found.values[0].as_ref(), group).map(Some)
    }

    /// Sets the key's value. A value that is null (`None`, for an `Option`) is none.
    pub fn update(&self, value: T) -> Result<()> {
        let (group, mut values) = self.at("ValueState.update")?;
        values.cell.numbers.updated += 1;
        values.written.insert(group, Some(value));
        Ok(())
    }

    /// Takes the key's value away.
    pub fn clear(&self) -> Result<()> {
        let (group, mut values) = self.at("ValueState.clear")?;
        values.cell.numbers.removed += 1;
        values.written.insert(group, None);
        Ok(())
    }
}

impl<T: Serialize + DeserializeOwned> Values<T> {
    fn load(&mut self) -> Result<()> {
        if self.found.is_none() {
            self.found = Some(self.cell.with_store(|store| store.get(&self.cell.keys))?);
        }
        Ok(())
    }

    fn write(&mut self) -> Result<()> {
        self.found = None;
        let written = std::mem::take(&mut self.written);
        let cleared: Vec<usize> =
            written.iter().filter(|(_, value)| value.is_none()).map(|(group, _)| *group).collect();
        let set: Vec<usize> = written.iter().filter(|(_, value)| value.is_some()).map(|(group, _)| *group).collect();
        if !cleared.is_empty() {
            let keys = self.cell.keys_of(&cleared)?;
            self.cell.with_store(|store| store.remove(&keys))?;
        }
        if set.is_empty() {
            return Ok(());
        }
        let encoded = self.cell.encode(written.values().flatten())?;
        let nulls: Vec<usize> = (0..set.len()).filter(|at| !encoded.valid.value(*at)).map(|at| set[at]).collect();
        if !nulls.is_empty() {
            let keys = self.cell.keys_of(&nulls)?;
            self.cell.with_store(|store| store.remove(&keys))?;
        }
        let keys = self.cell.keys_of(&set)?;
        let nulls = self.cell.with_store(|store| encoded.put(store, &keys))?;
        self.cell.numbers.updated = self.cell.numbers.updated.saturating_sub(nulls as u64);
        Ok(())
    }
}

impl<T> fmt::Debug for ValueVariable<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(stringify!(ValueVariable))
    }
}

impl<T> ValueVariable<T> {
    fn lock(&self) -> MutexGuard<'_, Values<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Variable for ValueVariable<T>
where
    T: Serialize + DeserializeOwned + Clone + Send + 'static,
{
    fn spec(&self, kind: VariableKind) -> VariableSpec {
        let values = self.lock();
        let (name, value) = (values.cell.name.clone(), values.cell.column.data_type().clone());
        VariableSpec { name, kind, map_key: None, value, has_ttl: values.cell.ttl.duration_ms > 0 }
    }

    fn open(&self, store: SharedStore) {
        self.lock().cell.open(store);
    }

    fn begin_groups(&self, keys: &[ArrayRef], groups: usize) {
        self.lock().cell.begin_groups(keys, groups);
    }

    fn end_groups(&self) -> Result<()> {
        self.lock().write()
    }

    fn finish(&self) -> Result<VariableNumbers> {
        self.lock().cell.finish()
    }
}
