//! One value per key.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arrow::array::Array;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Variable;
use super::cell::Cell;
use super::held::{Held, Kept};
use crate::error::Result;
use crate::groups::handle::Shared;
use crate::groups::processor::TtlConfig;
use crate::planted::planted;
use crate::state::Found;

/// A state variable of one value (Spark: `ValueState`). Clones are the same variable; `default()` is none yet, to be
/// replaced in `init`.
pub struct ValueState<T> {
    held: Held<Values<T>>,
}

impl<T> Clone for ValueState<T> {
    fn clone(&self) -> Self {
        Self { held: self.held.clone() }
    }
}

impl<T> Default for ValueState<T> {
    fn default() -> Self {
        Self { held: Held::default() }
    }
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
        Self { held: Held::new(shared, Values { cell, found: None, written: BTreeMap::new() }) }
    }

    pub(crate) fn variable(&self) -> Result<Arc<dyn Variable>> {
        self.held.variable()
    }

    /// Whether the key has a value.
    pub fn exists(&self) -> Result<bool> {
        Ok(self.get()?.is_some())
    }

    /// The key's value, if it has one.
    pub fn get(&self) -> Result<Option<T>> {
        let (group, mut values) = self.held.at("ValueState.get")?;
        if let Some(written) = values.written.get(&group).filter(|_| !planted("value-reads-pass-over-own-writes")) {
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
        let (group, mut values) = self.held.at("ValueState.update")?;
        values.cell.numbers.updated += 1;
        values.written.insert(group, Some(value));
        Ok(())
    }

    /// Takes the key's value away.
    pub fn clear(&self) -> Result<()> {
        let (group, mut values) = self.held.at("ValueState.clear")?;
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
}

impl<T: Serialize + DeserializeOwned + Send + 'static> Kept for Values<T> {
    type Value = T;

    fn cell(&mut self) -> &mut Cell<T> {
        &mut self.cell
    }

    fn write(&mut self) -> Result<()> {
        if !planted("value-of-the-group-before") {
            self.found = None;
        }
        let written = std::mem::take(&mut self.written);
        let cleared: Vec<usize> =
            written.iter().filter(|(_, value)| value.is_none()).map(|(group, _)| *group).collect();
        let set: Vec<usize> = written.iter().filter(|(_, value)| value.is_some()).map(|(group, _)| *group).collect();
        if !cleared.is_empty() && !planted("value-clear-is-forgotten") {
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

impl<T> fmt::Debug for ValueState<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ValueState").field(&self.held).finish()
    }
}
