//! What names mean in a session: its tables with their columns, its functions; looked up without regard to case.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use datafusion::common::TableReference;
use datafusion::execution::SessionState;
use datafusion::sql::sqlparser::ast::{ObjectName, Query, visit_relations};

use super::STREAM_PREFIX;
use super::calls::OWN_CALLS;
use crate::error::Result;

/// A table or view as the session has it.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    /// The parts of its name as registered.
    pub(crate) name: Vec<String>,
    /// Its columns, in order.
    pub(crate) columns: Vec<String>,
}

/// The tables that a query names and the functions that it may call.
#[derive(Debug)]
pub(crate) struct Catalog<'s> {
    state: &'s SessionState,
    tables: BTreeMap<String, Table>,
    table_names: BTreeSet<String>,
}

impl<'s> Catalog<'s> {
    /// The functions of a session, without any table.
    pub(crate) fn functions_of(state: &'s SessionState) -> Self {
        Self { state, tables: BTreeMap::new(), table_names: BTreeSet::new() }
    }

    /// The functions of a session and every table that this query names.
    pub(crate) async fn load(state: &'s SessionState, query: &Query) -> Result<Self> {
        let mut names = Vec::new();
        let _ = visit_relations(query, |name: &ObjectName| {
            names.push(parts(name));
            ControlFlow::<()>::Continue(())
        });
        let mut catalog = Self::functions_of(state);
        if let Ok(schema) = state.schema_for_ref(TableReference::bare("_")) {
            catalog.table_names.extend(schema.table_names());
        }
        for name in names {
            if let Some(table) = catalog.find_table(state, &name).await? {
                catalog.tables.insert(key(&name), table);
            }
        }
        Ok(catalog)
    }

    /// `__stream.t` falls back to `t`: a view over streams is read as a stream either way.
    async fn find_table(&self, state: &SessionState, name: &[String]) -> Result<Option<Table>> {
        let mut candidates = vec![name.to_vec()];
        if let [single] = name
            && let Some(plain) = single.strip_prefix(STREAM_PREFIX)
        {
            candidates.push(vec![plain.to_owned()]);
            candidates.push(plain.split('.').map(str::to_owned).collect());
        }
        if name.len() > 1 {
            candidates.push(vec![name.join(".")]);
        }
        for parts in candidates {
            let Some(reference) = reference(&parts) else { continue };
            let Ok(schema) = state.schema_for_ref(reference.clone()) else { continue };
            let wanted = reference.table();
            let registered: Option<String> = if schema.table_exist(wanted) {
                Some(wanted.to_owned())
            } else {
                let mut names = schema.table_names();
                names.sort();
                names.into_iter().find(|n| n.eq_ignore_ascii_case(wanted))
            };
            let Some(registered) = registered else { continue };
            if let Some(table) = schema.table(&registered).await? {
                let mut name = parts;
                *name.last_mut().expect("a name has a part") = registered;
                let columns = table.schema().fields().iter().map(|f| f.name().clone()).collect();
                return Ok(Some(Table { name, columns }));
            }
        }
        Ok(None)
    }

    /// The table of a name, if the session has it.
    pub(crate) fn table(&self, name: &[String]) -> Option<&Table> {
        self.tables.get(&key(name))
    }

    /// The names of the tables of the default schema, for suggestions.
    pub(crate) fn table_names(&self) -> impl Iterator<Item = &str> {
        self.table_names.iter().map(String::as_str).filter(|name| !name.starts_with("__"))
    }

    /// Whether a function of this lower-case name can be called.
    pub(crate) fn has_function(&self, name: &str) -> bool {
        self.is_aggregate(name)
            || OWN_CALLS.iter().any(|(own, _)| *own == name)
            || self.state.scalar_functions().contains_key(name)
            || self.state.window_functions().contains_key(name)
            || self.state.higher_order_functions().contains_key(name)
    }

    /// Whether the function of this lower-case name aggregates.
    pub(crate) fn is_aggregate(&self, name: &str) -> bool {
        OWN_CALLS.iter().any(|(own, aggregate)| *aggregate && *own == name)
            || self.state.aggregate_functions().contains_key(name)
    }

    /// The names of all functions that users may call, in order, for suggestions.
    pub(crate) fn function_names(&self) -> BTreeSet<&str> {
        let scalar = self.state.scalar_functions().keys().chain(self.state.window_functions().keys());
        let other = self.state.aggregate_functions().keys().chain(self.state.higher_order_functions().keys());
        let own = OWN_CALLS.iter().map(|(name, _)| *name);
        let all = scalar.chain(other).map(String::as_str).chain(own);
        all.filter(|name| !name.starts_with("__")).collect()
    }
}

/// The parts of a name as text.
pub(crate) fn parts(name: &ObjectName) -> Vec<String> {
    name.0.iter().map(|part| part.as_ident().map_or_else(|| part.to_string(), |i| i.value.clone())).collect()
}

fn key(name: &[String]) -> String {
    name.join("\u{0}").to_lowercase()
}

fn reference(parts: &[String]) -> Option<TableReference> {
    match parts {
        [table] => Some(TableReference::bare(table.clone())),
        [schema, table] => Some(TableReference::partial(schema.clone(), table.clone())),
        [catalog, schema, table] => Some(TableReference::full(catalog.clone(), schema.clone(), table.clone())),
        _ => None,
    }
}
