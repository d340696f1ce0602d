//! State variables: what a processor keeps per key, and its timers.
//!
//! ```text
//! value.rs  one value: keys -> value                       list.rs    keys, position -> element
//! map.rs    a map:     keys, map key -> value              timers.rs  keys, time -> nothing
//! held.rs   what users hold of each: clones of one variable behind a lock, as the operator drives it
//! cell.rs   what they share: the column of a type with its lifetime, the store, the groups at hand
//! ```
//! Groups are called some at a time. What calls write is kept beside the store until those groups are done, and then
//! written in columns; what they read comes from there, or from the store: values of all groups at hand at once, lists,
//! maps and timers key by key, because what is not asked for need not be read. An element that has outlived its
//! lifetime is not seen; it leaves the store by the expiry index at the end of the batch.

mod cell;
mod held;
mod list;
mod map;
mod timers;
mod value;

use std::fmt::Debug;
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, Field, SchemaRef};

use crate::error::Result;
use crate::state::{SharedStore, StateSchema, StoreSpec};

pub use list::ListState;
pub use map::MapState;
pub use value::ValueState;

pub(crate) use timers::{TIMERS_STORE, TimerNumbers, Timers};

/// Whether a variable holds a value, a list or a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum VariableKind {
    Value,
    List,
    Map,
}

impl VariableKind {
    /// Spark's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Value => "ValueState",
            Self::List => "ListState",
            Self::Map => "MapState",
        }
    }

    /// The kind that a store's last key column says.
    pub(crate) fn of_store(store: &StoreSpec) -> Self {
        let columns = store.schema.key.fields();
        match columns.last().map(|field| field.name().as_str()) {
            Some(LIST_POSITION) if store.prefix_columns < columns.len() => Self::List,
            Some(USER_MAP_KEY) if store.prefix_columns < columns.len() => Self::Map,
            _ => Self::Value,
        }
    }
}

/// The key column of a list's elements.
pub(crate) const LIST_POSITION: &str = "list_position";
/// The key column of a map's entries, as Spark's state reader names it.
pub(crate) const USER_MAP_KEY: &str = "user_map_key";
/// When a value with a lifetime ends, as Spark's state reader names it.
pub(crate) const TTL_COLUMN: &str = "ttlExpirationMs";

/// A state variable, as planning has to know it.
#[derive(Clone, Debug)]
pub(crate) struct VariableSpec {
    pub(crate) name: String,
    pub(crate) kind: VariableKind,
    /// The map key's type.
    pub(crate) map_key: Option<DataType>,
    pub(crate) value: DataType,
    pub(crate) has_ttl: bool,
}

impl VariableSpec {
    /// Its store, for groups with these key columns.
    pub(crate) fn store(&self, keys: &SchemaRef) -> Result<StoreSpec> {
        let mut key_fields: Vec<_> = keys.fields().iter().cloned().collect();
        let prefix_columns = key_fields.len();
        match (self.kind, &self.map_key) {
            (VariableKind::List, _) => key_fields.push(Arc::new(Field::new(LIST_POSITION, DataType::Int64, false))),
            (VariableKind::Map, Some(key)) => key_fields.push(Arc::new(Field::new(USER_MAP_KEY, key.clone(), true))),
            _ => (),
        }
        let mut values = vec![Field::new("value", self.value.clone(), true)];
        if self.has_ttl {
            values.push(Field::new(TTL_COLUMN, DataType::Int64, true));
        }
        let key = Arc::new(arrow::datatypes::Schema::new(key_fields));
        let schema = StateSchema::new(key, Arc::new(arrow::datatypes::Schema::new(values)))?;
        let prefix_columns = if self.kind == VariableKind::Value { 0 } else { prefix_columns };
        Ok(StoreSpec { name: self.name.clone(), schema, prefix_columns, since: 0 })
    }
}

/// What became of a variable in a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct VariableNumbers {
    pub(crate) updated: u64,
    pub(crate) removed: u64,
    /// Of those, by their lifetime.
    pub(crate) expired: u64,
}

/// A state variable, as the operator drives it.
pub(crate) trait Variable: Debug + Send + Sync {
    fn spec(&self, kind: VariableKind) -> VariableSpec;

    /// Where its entries are, for this batch.
    fn open(&self, store: SharedStore);

    /// The next groups to be called have these keys.
    fn begin_groups(&self, keys: &[ArrayRef], groups: usize);

    /// The groups have been called: what they wrote goes to the store.
    fn end_groups(&self) -> Result<()>;

    /// The batch is over: what has outlived its lifetime leaves.
    fn finish(&self) -> Result<VariableNumbers>;
}
