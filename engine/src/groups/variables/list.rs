//! A list per key. Each element is an entry of its own, so that appending costs what is appended.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arrow::array::Int64Array;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Variable;
use super::cell::Cell;
use super::held::{Held, Kept};
use crate::error::{Error, Result};
use crate::groups::handle::Shared;
use crate::groups::processor::TtlConfig;
use crate::planted::planted;

/// A state variable of a list (Spark: `ListState`). Clones are the same variable; `default()` is none yet, to be replaced
/// in `init`.
pub struct ListState<T> {
    held: Held<Lists<T>>,
}

impl<T> Clone for ListState<T> {
    fn clone(&self) -> Self {
        Self { held: self.held.clone() }
    }
}

impl<T> Default for ListState<T> {
    fn default() -> Self {
        Self { held: Held::default() }
    }
}

struct Lists<T> {
    cell: Cell<T>,
    /// What the groups at hand wrote.
    written: BTreeMap<usize, Written<T>>,
    /// Elements appended in this batch, to number them.
    appended: i64,
}

struct Written<T> {
    /// Whether what the store has is to go.
    cleared: bool,
    appended: Vec<T>,
}

impl<T> Default for Written<T> {
    fn default() -> Self {
        Self { cleared: false, appended: vec![] }
    }
}

impl<T: Serialize + DeserializeOwned + Clone + Send + 'static> ListState<T> {
    pub(crate) fn new(name: &str, ttl: TtlConfig, shared: Arc<Shared>) -> Self {
        let cell = Cell::new(name, ttl, Arc::clone(&shared));
        Self { held: Held::new(shared, Lists { cell, written: BTreeMap::new(), appended: 0 }) }
    }

    pub(crate) fn variable(&self) -> Result<Arc<dyn Variable>> {
        self.held.variable()
    }

    /// Whether the key's list has elements.
    pub fn exists(&self) -> Result<bool> {
        Ok(!self.get()?.is_empty())
    }

    /// The elements of the key's list, in the order in which they were appended.
    pub fn get(&self) -> Result<Vec<T>> {
        let (group, lists) = self.held.at("ListState.get")?;
        let written = lists.written.get(&group);
        let mut elements = vec![];
        if written.is_none_or(|written| !written.cleared) {
            for rows in lists.cell.entries(group)? {
                for row in (0..rows.rows_count()).filter(|row| lists.cell.is_alive(&rows.values, *row)) {
                    elements.push(lists.cell.column.decode(rows.values[0].as_ref(), row)?);
                }
            }
        }
        elements.extend(written.into_iter().flat_map(|written| written.appended.iter().cloned()));
        Ok(elements)
    }

    /// Puts these elements in the place of the key's list; there must be some.
    pub fn put(&self, elements: Vec<T>) -> Result<()> {
        let (group, mut lists) = self.held.at("ListState.put")?;
        lists.check_some(&elements)?;
        lists.cell.numbers.updated += elements.len() as u64;
        lists.written.insert(group, Written { cleared: true, appended: elements });
        Ok(())
    }

    /// Appends an element.
    pub fn append_value(&self, element: T) -> Result<()> {
        self.append_list(vec![element])
    }

    /// Appends elements; there must be some.
    pub fn append_list(&self, elements: Vec<T>) -> Result<()> {
        let (group, mut lists) = self.held.at("ListState.appendList")?;
        lists.check_some(&elements)?;
        lists.cell.numbers.updated += elements.len() as u64;
        let list = lists.written.entry(group).or_default();
        list.cleared |= planted("list-append-replaces");
        list.appended.extend(elements);
        Ok(())
    }

    /// Takes the key's list away.
    pub fn clear(&self) -> Result<()> {
        let (group, mut lists) = self.held.at("ListState.clear")?;
        lists.cell.numbers.removed += 1;
        lists.written.insert(group, Written { cleared: true, appended: vec![] });
        Ok(())
    }
}

impl<T: Serialize + DeserializeOwned> Lists<T> {
    fn check_some(&self, elements: &[T]) -> Result<()> {
        if !elements.is_empty() {
            return Ok(());
        }
        Err(Error::analysis_class(
            "ILLEGAL_STATE_STORE_VALUE.EMPTY_LIST_VALUE",
            format!(
                "Illegal value provided to the State Store. Cannot write empty list values to State Store for StateName \
                 {}. Call clear() to have no list.",
                self.cell.name
            ),
        ))
    }
}

impl<T: Serialize + DeserializeOwned + Send + 'static> Kept for Lists<T> {
    type Value = T;

    fn cell(&mut self) -> &mut Cell<T> {
        &mut self.cell
    }

    fn write(&mut self) -> Result<()> {
        let written = std::mem::take(&mut self.written);
        let cleared: Vec<usize> = written.iter().filter(|(_, list)| list.cleared).map(|(group, _)| *group).collect();
        self.cell.remove_all(&cleared)?;
        let groups: Vec<usize> =
            written.iter().flat_map(|(group, list)| std::iter::repeat_n(*group, list.appended.len())).collect();
        if groups.is_empty() {
            return Ok(());
        }
        let encoded = self.cell.encode(written.values().flat_map(|list| &list.appended))?;
        if encoded.valid.false_count() > 0 {
            return Err(Error::analysis_class(
                "ILLEGAL_STATE_STORE_VALUE.NULL_VALUE",
                format!(
                    "Illegal value provided to the State Store. Cannot write null values to State Store for StateName {}. \
                     Leave them out.",
                    self.cell.name
                ),
            ));
        }
        // After all elements of earlier batches, and of this one.
        let batch_id = if planted("list-positions-begin-anew") { 0 } else { self.cell.shared.batch_id };
        let first = (batch_id as i64).saturating_mul(1 << 32).saturating_add(self.appended);
        self.appended += groups.len() as i64;
        let mut keys = self.cell.keys_of(&groups)?;
        keys.push(Arc::new(Int64Array::from_iter_values(first..first + groups.len() as i64)));
        self.cell.with_store(|store| encoded.put(store, &keys))?;
        Ok(())
    }
}

impl<T> fmt::Debug for ListState<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ListState").field(&self.held).finish()
    }
}
