//! The variables and timers of transformWithState as Spark shows them (`spec/04`, "Reading state as a table").
//!
//! ```text
//! value   key, value, partition_id                     list    key, list_element, partition_id
//! map     key, user_map_key, user_map_value, partition_id
//! timers  key, expiration_timestamp_ms, partition_id
//! ```
//! What users keep is always a struct there: a plain value is `struct<value>`, one with a lifetime
//! `struct<value, ttlExpirationMs>`. Absent: lists and maps as one row each (`flattenCollectionTypes false`).

use std::sync::Arc;

use arrow::array::{ArrayRef, StructArray, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Fields};

use super::options::{StateOptions, Variable, invalid};
use super::store::{spark_fields, structs};
use crate::error::{Error, Result};
use crate::groups::{TIMERS_STORE, VariableKind};
use crate::operators::stateful::TRANSFORM;
use crate::sql::types::nearest_spark_type;
use crate::state::{Entries, OperatorSpec, RecordedOperator, StoreSpec};

/// How the entries of a variable's store are shown.
#[derive(Clone, Debug)]
pub(super) struct VariableView {
    store_name: String,
    shows: Shows,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shows {
    Variable(VariableKind),
    Timers,
}

impl VariableView {
    /// The view that the options ask for, of the variables that there were in this version; `None` when they ask for none.
    pub(super) fn of(options: &StateOptions, recorded: &RecordedOperator, version: u64) -> Result<Option<Self>> {
        let operator = &recorded.spec;
        let option = match &options.variable {
            Some(Variable::Named(_)) => "stateVarName",
            Some(Variable::Timers) => "readRegisteredTimers",
            None if operator.name == TRANSFORM && options.named_store.is_none() => {
                return Err(Error::analysis_class(
                    "STDS_REQUIRED_OPTION_UNSPECIFIED",
                    format!("'stateVarName' must be specified. The variables are: {}.", variables(operator)),
                ));
            }
            None => return Ok(None),
        };
        if operator.name != TRANSFORM {
            let why = format!(
                "Providing state variable names is only supported with the transformWithState operator. Found operator={}. \
                 Please remove this option and re-run the query.",
                operator.name
            );
            return Err(invalid(option, &why));
        }
        let store = |name: &str| recorded.store_at(name, version);
        let (store, shows) = match &options.variable {
            Some(Variable::Named(name)) if name != TIMERS_STORE => {
                let store = store(name).ok_or_else(|| {
                    let why = format!(
                        "State variable {name} is not defined for the transformWithState operator. The variables are: {}.",
                        variables(operator)
                    );
                    invalid(option, &why)
                })?;
                (store, Shows::Variable(VariableKind::of_store(store)))
            }
            _ => {
                let store = store(TIMERS_STORE)
                    .ok_or_else(|| invalid(option, "the operator has no timers: its time mode is none"))?;
                (store, Shows::Timers)
            }
        };
        if !options.flattened && matches!(shows, Shows::Variable(VariableKind::List | VariableKind::Map)) {
            let why = "Wavetank shows a row for each element. Leave the option out, and put them together with \
                       collect_list or map_from_entries.";
            return Err(invalid("flattenCollectionTypes", why));
        }
        Ok(Some(Self { store_name: store.name.clone(), shows }))
    }

    /// The store that is read.
    pub(super) fn store_name(&self) -> &str {
        &self.store_name
    }

    /// The columns, but for those that every table of state has.
    pub(super) fn fields(&self, store: &StoreSpec) -> Vec<Field> {
        let stored = store.schema.key.fields();
        let column = |name: &str, data_type: DataType| Field::new(name, data_type, true);
        let key = column("key", DataType::Struct(spark_fields(&stored[..self.key_columns(store)])));
        let value = || DataType::Struct(value_fields(store.schema.value.fields()));
        match self.shows {
            Shows::Timers => vec![key, column("expiration_timestamp_ms", DataType::Int64)],
            Shows::Variable(VariableKind::Value) => vec![key, column("value", value())],
            Shows::Variable(VariableKind::List) => vec![key, column("list_element", value())],
            Shows::Variable(VariableKind::Map) => {
                let map_key = stored.last().map_or(DataType::Null, |field| as_struct(field.data_type()));
                vec![key, column("user_map_key", map_key), column("user_map_value", value())]
            }
        }
    }

    /// Entries of the store as these columns.
    pub(super) fn columns(&self, store: &StoreSpec, entries: Entries) -> Result<Vec<ArrayRef>> {
        let (fields, count) = (self.fields(store), entries.count);
        let (keys, own) = entries.keys.split_at(self.key_columns(store));
        let mut columns = vec![structs(fields[0].data_type(), keys.to_vec(), count)?];
        if self.shows == Shows::Timers {
            columns.push(Arc::clone(&own[0]));
            return Ok(columns);
        }
        if let Shows::Variable(VariableKind::Map) = self.shows {
            columns.push(shown_in_struct(&own[0], fields[1].data_type())?);
        }
        let value_type = fields[fields.len() - 1].data_type();
        columns.push(match entries.values {
            None => new_null_array(value_type, count),
            Some(values) => match &values[..] {
                [value] => shown_in_struct(value, value_type)?,
                [value, ends] => {
                    let DataType::Struct(parts) = value_type else { return Err(not_a_struct()) };
                    let value = shown_in_struct(value, parts[0].data_type())?;
                    Arc::new(StructArray::try_new(parts.clone(), vec![value, Arc::clone(ends)], None)?)
                }
                _ => return Err(Error::internal("a variable keeps a value, and when it ends")),
            },
        });
        Ok(columns)
    }

    /// How many of the store's key columns are the group's.
    fn key_columns(&self, store: &StoreSpec) -> usize {
        match self.shows {
            Shows::Variable(VariableKind::Value) => store.schema.key.fields().len(),
            _ => store.prefix_columns,
        }
    }
}

fn variables(operator: &OperatorSpec) -> String {
    let names = operator.stores.iter().map(|store| store.name.as_str()).filter(|name| *name != TIMERS_STORE);
    names.collect::<Vec<_>>().join(", ")
}

/// What a variable keeps: the value's own fields, or with a lifetime the value and its end.
fn value_fields(stored: &Fields) -> Fields {
    let value = stored.first().map_or(DataType::Null, |field| as_struct(field.data_type()));
    match (&value, stored.get(1)) {
        (_, Some(ends)) => {
            let value: FieldRef = Arc::new(Field::new("value", value, true));
            [value, Arc::clone(ends)].into_iter().collect()
        }
        (DataType::Struct(fields), None) => fields.clone(),
        _ => Fields::empty(),
    }
}

/// Spark's encoders make a struct of everything.
fn as_struct(stored: &DataType) -> DataType {
    match nearest_spark_type(stored) {
        DataType::Struct(fields) => DataType::Struct(fields),
        plain => DataType::Struct(vec![Field::new("value", plain, true)].into()),
    }
}

fn shown_in_struct(column: &ArrayRef, shown: &DataType) -> Result<ArrayRef> {
    if let DataType::Struct(_) = column.data_type() {
        return Ok(cast(column, shown)?);
    }
    let DataType::Struct(fields) = shown else { return Err(not_a_struct()) };
    Ok(Arc::new(StructArray::try_new(fields.clone(), vec![cast(column, fields[0].data_type())?], None)?))
}

fn not_a_struct() -> Error {
    Error::internal("what a variable keeps is shown as a struct")
}
