//! A map per key. Each entry of it is an entry of the store.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef};
use arrow::datatypes::DataType;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Variable;
use super::cell::Cell;
use super::held::{Held, Kept};
use crate::error::{Error, Result};
use crate::groups::handle::Shared;
use crate::groups::processor::TtlConfig;
use crate::planted::planted;
use crate::rows::ValueColumn;
use crate::state::normalise_keys;

/// A state variable of a map (Spark: `MapState`). Clones are the same variable; `default()` is none yet, to be replaced
/// in `init`.
pub struct MapState<K, V> {
    held: Held<Maps<K, V>>,
}

impl<K, V> Clone for MapState<K, V> {
    fn clone(&self) -> Self {
        Self { held: self.held.clone() }
    }
}

impl<K, V> Default for MapState<K, V> {
    fn default() -> Self {
        Self { held: Held::default() }
    }
}

struct Maps<K, V> {
    cell: Cell<V>,
    keys: ValueColumn<K>,
    /// What the groups at hand wrote, by group and key; `None` was removed.
    written: BTreeMap<(usize, K), Option<V>>,
}

impl<K, V> MapState<K, V>
where
    K: Serialize + DeserializeOwned + Clone + Ord + Send + 'static,
    V: Serialize + DeserializeOwned + Clone + Send + 'static,
{
    pub(crate) fn new(name: &str, ttl: TtlConfig, shared: Arc<Shared>) -> Self {
        let cell = Cell::new(name, ttl, Arc::clone(&shared));
        Self { held: Held::new(shared, Maps { cell, keys: ValueColumn::new(), written: BTreeMap::new() }) }
    }

    pub(crate) fn variable(&self) -> Result<Arc<dyn Variable>> {
        self.held.variable()
    }

    /// Whether the key's map has entries.
    pub fn exists(&self) -> Result<bool> {
        Ok(!self.entries()?.is_empty())
    }

    /// The value of an entry, if it is there.
    pub fn get_value(&self, key: &K) -> Result<Option<V>> {
        let (group, maps) = self.held.at("MapState.getValue")?;
        if let Some(written) = maps.written.get(&(group, key.clone())) {
            return Ok(written.clone());
        }
        let columns = maps.entry_keys(&[(group, key)])?;
        let found = maps.cell.with_store(|store| store.get(&columns))?;
        if !found.present.value(0) || found.values[0].is_null(0) || !maps.cell.is_alive(&found.values, 0) {
            return Ok(None);
        }
        maps.cell.column.decode(found.values[0].as_ref(), 0).map(Some)
    }

    /// Whether an entry is there.
    pub fn contains_key(&self, key: &K) -> Result<bool> {
        Ok(self.get_value(key)?.is_some())
    }

    /// Sets an entry.
    pub fn update_value(&self, key: K, value: V) -> Result<()> {
        let (group, mut maps) = self.held.at("MapState.updateValue")?;
        maps.cell.numbers.updated += 1;
        maps.written.insert((group, key), Some(value));
        Ok(())
    }

    /// Takes an entry away.
    pub fn remove_key(&self, key: &K) -> Result<()> {
        let (group, mut maps) = self.held.at("MapState.removeKey")?;
        maps.cell.numbers.removed += 1;
        maps.written.insert((group, key.clone()), None);
        Ok(())
    }

    /// All entries, in order of key (Spark: `iterator`).
    pub fn entries(&self) -> Result<Vec<(K, V)>> {
        let (group, maps) = self.held.at("MapState.iterator")?;
        Ok(maps.all(group)?.into_iter().collect())
    }

    /// All keys, in order.
    pub fn keys(&self) -> Result<Vec<K>> {
        Ok(self.entries()?.into_iter().map(|(key, _)| key).collect())
    }

    /// All values, in order of key.
    pub fn values(&self) -> Result<Vec<V>> {
        Ok(self.entries()?.into_iter().map(|(_, value)| value).collect())
    }

    /// Takes all entries away.
    pub fn clear(&self) -> Result<()> {
        let (group, mut maps) = self.held.at("MapState.clear")?;
        for key in maps.all(group)?.into_keys() {
            if planted("map-clear-leaves-what-is-new") && maps.written.contains_key(&(group, key.clone())) {
                continue;
            }
            maps.cell.numbers.removed += 1;
            maps.written.insert((group, key), None);
        }
        Ok(())
    }
}

impl<K, V> Maps<K, V>
where
    K: Serialize + DeserializeOwned + Clone + Ord,
    V: Serialize + DeserializeOwned + Clone,
{
    /// The key columns of entries.
    fn entry_keys(&self, entries: &[(usize, &K)]) -> Result<Vec<ArrayRef>> {
        let groups: Vec<usize> = entries.iter().map(|(group, _)| *group).collect();
        let mut columns = self.cell.keys_of(&groups)?;
        let keys = self.keys.encode(entries.iter().map(|(_, key)| Some(*key)))?;
        if keys.null_count() > 0 {
            return Err(Error::analysis_class(
                "ILLEGAL_STATE_STORE_VALUE.NULL_VALUE",
                format!(
                    "Illegal value provided to the State Store. Cannot write null values to State Store for StateName {}. \
                     Use another key.",
                    self.cell.name
                ),
            ));
        }
        columns.extend(normalise_keys(&[keys])?);
        Ok(columns)
    }

    /// The entries of a group that may be seen.
    fn all(&self, group: usize) -> Result<BTreeMap<K, V>> {
        let mut all = BTreeMap::new();
        for rows in self.cell.entries(group)? {
            let Some(keys) = rows.keys.last() else { continue };
            for row in (0..rows.rows_count()).filter(|row| self.cell.is_alive(&rows.values, *row)) {
                let key = self.keys.decode(keys.as_ref(), row)?;
                all.insert(key, self.cell.column.decode(rows.values[0].as_ref(), row)?);
            }
        }
        for ((of, key), value) in &self.written {
            match value {
                _ if *of != group => (),
                Some(value) => {
                    all.insert(key.clone(), value.clone());
                }
                None => {
                    all.remove(key);
                }
            }
        }
        Ok(all)
    }
}

impl<K, V> Kept for Maps<K, V>
where
    K: Serialize + DeserializeOwned + Clone + Ord + Send + 'static,
    V: Serialize + DeserializeOwned + Clone + Send + 'static,
{
    type Value = V;

    fn cell(&mut self) -> &mut Cell<V> {
        &mut self.cell
    }

    fn map_key(&self) -> Option<DataType> {
        Some(self.keys.data_type().clone())
    }

    fn write(&mut self) -> Result<()> {
        let written = std::mem::take(&mut self.written);
        let of = |set: bool| {
            let entries = written.iter().filter(move |(_, value)| value.is_some() == set);
            entries.map(|((group, key), _)| (*group, key)).collect::<Vec<_>>()
        };
        let (set, removed) = (of(true), of(false));
        if !removed.is_empty() && !planted("map-entry-comes-back") {
            let keys = self.entry_keys(&removed)?;
            self.cell.with_store(|store| store.remove(&keys))?;
        }
        if !set.is_empty() {
            let keys = self.entry_keys(&set)?;
            let encoded = self.cell.encode(written.values().flatten())?;
            let nulls = self.cell.with_store(|store| encoded.put(store, &keys))?;
            self.cell.numbers.updated = self.cell.numbers.updated.saturating_sub(nulls as u64);
        }
        Ok(())
    }
}

impl<K, V> fmt::Debug for MapState<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MapState").field(&self.held).finish()
    }
}
