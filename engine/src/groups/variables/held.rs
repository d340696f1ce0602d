//! What users hold of a variable: nothing yet, or the one variable that all clones are.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::cell::Cell;
use super::{Variable, VariableKind, VariableNumbers, VariableSpec};
use crate::error::Result;
use crate::groups::handle::{Shared, not_initialized};
use crate::state::SharedStore;

/// What is kept of the groups at hand, by a kind of variable.
pub(super) trait Kept: Send + 'static {
    type Value: Serialize + DeserializeOwned;

    fn cell(&mut self) -> &mut Cell<Self::Value>;

    /// The type of a map's keys.
    fn map_key(&self) -> Option<DataType> {
        None
    }

    /// What the groups at hand wrote goes to the store.
    fn write(&mut self) -> Result<()>;
}

/// A variable that users hold clones of.
pub(super) struct Held<K> {
    inner: Option<Arc<Inner<K>>>,
}

struct Inner<K> {
    shared: Arc<Shared>,
    kept: Mutex<K>,
}

impl<K> Clone for Held<K> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

impl<K> Default for Held<K> {
    fn default() -> Self {
        Self { inner: None }
    }
}

impl<K> fmt::Debug for Held<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.inner.is_some() { "Held" } else { "nothing yet" })
    }
}

impl<K> fmt::Debug for Inner<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Variable")
    }
}

impl<K: Kept> Held<K> {
    pub(super) fn new(shared: Arc<Shared>, kept: K) -> Self {
        Self { inner: Some(Arc::new(Inner { shared, kept: Mutex::new(kept) })) }
    }

    /// As the operator drives it.
    pub(super) fn variable(&self) -> Result<Arc<dyn Variable>> {
        Ok(Arc::clone(self.inner.as_ref().ok_or_else(not_initialized)?) as _)
    }

    /// The group that is being called, and what is kept; an error outside of calls.
    pub(super) fn at(&self, operation: &str) -> Result<(usize, MutexGuard<'_, K>)> {
        let inner = self.inner.as_ref().ok_or_else(not_initialized)?;
        Ok((inner.shared.group(operation)?, inner.lock()))
    }
}

impl<K> Inner<K> {
    fn lock(&self) -> MutexGuard<'_, K> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Kept> Variable for Inner<K> {
    fn spec(&self, kind: VariableKind) -> VariableSpec {
        let mut kept = self.lock();
        let map_key = kept.map_key();
        let cell = kept.cell();
        let (name, value) = (cell.name.clone(), cell.column.data_type().clone());
        VariableSpec { name, kind, map_key, value, has_ttl: cell.ttl.duration_ms > 0 }
    }

    fn open(&self, store: SharedStore) {
        self.lock().cell().open(store);
    }

    fn begin_groups(&self, keys: &[ArrayRef], groups: usize) {
        self.lock().cell().begin_groups(keys, groups);
    }

    fn end_groups(&self) -> Result<()> {
        self.lock().write()
    }

    fn finish(&self) -> Result<VariableNumbers> {
        self.lock().cell().finish()
    }
}
