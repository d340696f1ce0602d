//! Stores that come, go and change between runs: the state variables of transformWithState (`spec/08`).
//!
//! ```text
//! what the checkpoint has at version V   +   what the query wants   ->  stores to open, what to write down, or a refusal
//! ```
//! Each store has a life: it begins, empty, at a version, and may end at one. A variable that the query has no more
//! sleeps: its store is carried on without changes, and comes back with the variable. One that is deleted ends; made
//! anew it begins empty. One whose value has other fields, or wider ones, ends and begins again with its entries turned.
//! What is written down at a start at V counts from the commit of batch V on: a start at V that follows sees the lives
//! as they were before.
//!
//! Measured on Spark 4.3.0: adding, removing, reordering and deleting variables, the classes of every refusal, and what
//! the Avro encoding lets change. Absent from here: files (`metadata.rs`).

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StructArray, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, SchemaRef};

use crate::error::{Error, Result};
use crate::state::metadata::{RecordedOperator, columns_text};
use crate::state::operator::{OperatorSpec, StoreSpec};
use crate::state::schema::{Part, conform, file_type, not_compatible, types_text};

/// What may change of an operator's stores between runs, and what may not.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Evolution {
    /// What must stay: name and value, as Spark names them (`timeMode`, `outputMode`).
    pub settings: BTreeMap<String, String>,
    /// By store: its kind, as Spark names it (`ValueState`).
    pub kinds: BTreeMap<String, String>,
    /// Stores whose content is to go.
    pub deleted: Vec<String>,
    /// Whether values are compared by the names of their fields, as Spark's Avro encoding does.
    pub by_name: bool,
}

/// A store that is no more.
#[derive(Clone, Debug, PartialEq)]
pub struct EndedStore {
    /// What it was.
    pub store: StoreSpec,
    /// The last version that has it.
    pub until: u64,
}

/// An operator as a start at some version has it.
#[derive(Clone, Debug)]
pub struct Reconciled {
    /// With the stores that sleep.
    pub spec: OperatorSpec,
    /// Stores whose entries are to be turned into those of the store of the same name, which begins with this version.
    pub turned: Vec<StoreSpec>,
    /// What is to be written down, if it differs from what is there.
    pub record: Option<RecordedOperator>,
}

/// Brings what a checkpoint has to what the query wants, for a start at `version`.
pub(super) fn reconcile(recorded: &RecordedOperator, wanted: &OperatorSpec, version: u64) -> Result<Reconciled> {
    let Some(evolution) = &wanted.evolution else {
        check_stores(recorded, wanted)?;
        return Ok(Reconciled { spec: wanted.clone(), turned: vec![], record: None });
    };
    let was = recorded.spec.evolution.clone().unwrap_or_default();
    check_settings(recorded, &was, evolution)?;
    let (there, mut ended) = lives_at(recorded, version);
    let (mut spec, mut turned) = (wanted.clone(), vec![]);
    let mut kinds = evolution.kinds.clone();
    for store in &mut spec.stores {
        let kept = there.iter().find(|kept| kept.name == store.name);
        store.since = match kept {
            Some(kept) if !evolution.deleted.contains(&kept.name) => {
                check_kind(recorded, kept, store, &was, evolution)?;
                if needs_turning(recorded, kept, store, evolution.by_name)? {
                    turned.push(kept.clone());
                    ended.push(EndedStore { store: kept.clone(), until: version });
                    version
                } else {
                    kept.since
                }
            }
            Some(kept) => {
                ended.push(EndedStore { store: kept.clone(), until: version });
                version
            }
            None => version,
        };
    }
    for kept in there {
        if wanted.stores.iter().any(|store| store.name == kept.name) {
            continue;
        }
        if evolution.deleted.contains(&kept.name) {
            ended.push(EndedStore { store: kept, until: version });
        } else {
            kinds.extend(was.kinds.get_key_value(&kept.name).map(|(name, kind)| (name.clone(), kind.clone())));
            spec.stores.push(kept);
        }
    }
    if let Some(evolution) = &mut spec.evolution {
        evolution.kinds = kinds;
    }
    let record = RecordedOperator { spec: spec.clone(), ended, path: recorded.path.clone() };
    let record = (!record.says_the_same_as(recorded)).then_some(record);
    Ok(Reconciled { spec, turned, record })
}

/// The stores that version `version` has, and those that ended before. What an earlier start at this version wrote down
/// has not come true.
fn lives_at(recorded: &RecordedOperator, version: u64) -> (Vec<StoreSpec>, Vec<EndedStore>) {
    let (ended, open): (Vec<_>, Vec<_>) = recorded.ended.iter().cloned().partition(|ended| ended.until < version);
    let current = recorded.spec.stores.iter().filter(|store| store.since < version).cloned();
    let open = open.into_iter().map(|ended| ended.store).filter(|store| store.since < version);
    let mut there: Vec<StoreSpec> = vec![];
    for store in open.chain(current) {
        // The older of two lives is the one that has come true.
        if !there.iter().any(|other| other.name == store.name) {
            there.push(store);
        }
    }
    (there, ended)
}

fn check_settings(recorded: &RecordedOperator, was: &Evolution, now: &Evolution) -> Result<()> {
    for (name, old) in &was.settings {
        if let Some(new) = now.settings.get(name).filter(|new| *new != old) {
            return Err(Error::checkpoint_class(
                "STATE_STORE_INVALID_CONFIG_AFTER_RESTART",
                &recorded.path,
                format!(
                    "Cannot change {name} from {old} to {new} between restarts. Please set {name} to {old}, or restart \
                     with a new checkpointLocation."
                ),
            ));
        }
    }
    Ok(())
}

fn check_kind(
    recorded: &RecordedOperator,
    kept: &StoreSpec,
    store: &StoreSpec,
    was: &Evolution,
    now: &Evolution,
) -> Result<()> {
    let name = &store.name;
    let (Some(old), Some(new)) = (was.kinds.get(name), now.kinds.get(name)) else { return Ok(()) };
    if old == new {
        return Ok(());
    }
    // A map has other keys than a value or a list, which Spark finds out first.
    if [old, new].iter().any(|kind| *kind == "MapState") {
        let (there, here) = (columns_text(&kept.schema.key), columns_text(&store.schema.key));
        return Err(not_compatible(Part::Key, recorded.path.clone(), &there, &here));
    }
    Err(Error::checkpoint_class(
        "STATE_STORE_INVALID_VARIABLE_TYPE_CHANGE",
        &recorded.path,
        format!(
            "Cannot change {name} to {new} between query restarts. Please set {name} to {old}, or restart with a new \
             checkpointLocation. A variable of another name can be added; delete_if_exists drops what {name} has."
        ),
    ))
}

/// All stores must be there, with the same columns.
fn check_stores(recorded: &RecordedOperator, wanted: &OperatorSpec) -> Result<()> {
    let there = &recorded.spec;
    let names = |stores: &[StoreSpec]| stores.iter().map(|store| store.name.clone()).collect::<Vec<_>>();
    if names(&there.stores) != names(&wanted.stores) {
        return Err(Error::checkpoint_class(
            "STREAMING_STATEFUL_OPERATOR_NOT_MATCH_IN_STATE_METADATA",
            &recorded.path,
            format!(
                "operator {} keeps its state in the stores {:?}, the query wants {:?}. Run the query as it was, or \
                 start it with a new checkpointLocation.",
                there.operator_id,
                names(&there.stores),
                names(&wanted.stores)
            ),
        ));
    }
    for (old, new) in there.stores.iter().zip(&wanted.stores) {
        needs_turning(recorded, old, new, false)?;
    }
    Ok(())
}

/// Whether the values of a store have to be turned; an error if they, or the keys, are others altogether.
fn needs_turning(recorded: &RecordedOperator, old: &StoreSpec, new: &StoreSpec, by_name: bool) -> Result<bool> {
    let (old, new) = (&old.schema, &new.schema);
    let other = |part, old: &SchemaRef, new: &SchemaRef| {
        Err(not_compatible(part, recorded.path.clone(), &columns_text(old), &columns_text(new)))
    };
    if types_text(&old.key) != types_text(&new.key) {
        return other(Part::Key, &old.key, &new.key);
    }
    if !by_name || old.value.fields().len() != new.value.fields().len() {
        return match types_text(&old.value) == types_text(&new.value) {
            true => Ok(false),
            false => other(Part::Value, &old.value, &new.value),
        };
    }
    let mut columns = old.value.fields().iter().zip(new.value.fields());
    if columns.any(|(old, new)| !can_turn(old.data_type(), new.data_type())) {
        return Err(Error::checkpoint_class(
            "STATE_STORE_INVALID_VALUE_SCHEMA_EVOLUTION",
            &recorded.path,
            format!(
                "Schema evolution is not possible new value_schema={} and old value_schema={}. Fields may come, go, \
                 change their order and become wider (int to bigint, float or double). Give the field another name, or \
                 start with a new checkpointLocation.",
                columns_text(&new.value),
                columns_text(&old.value)
            ),
        ));
    }
    let mut columns = old.value.fields().iter().zip(new.value.fields());
    Ok(!columns.all(|(old, new)| same_names(old.data_type(), new.data_type())))
}

/// Avro's rules: fields by name, numbers may become wider.
fn can_turn(old: &DataType, new: &DataType) -> bool {
    use DataType::{Float32, Float64, Int8, Int16, Int32, Int64};
    match (old, new) {
        (DataType::Struct(old), DataType::Struct(new)) => new.iter().all(|field| match old.find(field.name()) {
            Some((_, was)) => can_turn(was.data_type(), field.data_type()),
            None => field.is_nullable(),
        }),
        (DataType::List(old), DataType::List(new)) => can_turn(old.data_type(), new.data_type()),
        (Int8, Int16 | Int32 | Int64 | Float32 | Float64) | (Int16, Int32 | Int64 | Float32 | Float64) => true,
        (Int32, Int64 | Float32 | Float64) | (Int64, Float32 | Float64) | (Float32, Float64) => true,
        (old, new) => file_type(old) == file_type(new),
    }
}

/// Whether the types are the same, and the names of their fields.
fn same_names(old: &DataType, new: &DataType) -> bool {
    match (old, new) {
        (DataType::Struct(old), DataType::Struct(new)) => {
            let same = |(old, new): (&Arc<arrow::datatypes::Field>, &Arc<arrow::datatypes::Field>)| {
                old.name() == new.name() && same_names(old.data_type(), new.data_type())
            };
            old.len() == new.len() && old.iter().zip(new).all(same)
        }
        (DataType::List(old), DataType::List(new)) => same_names(old.data_type(), new.data_type()),
        (old, new) => file_type(old) == file_type(new),
    }
}

/// Values of a store as those of a store that [`can_turn`] says it can be turned into.
pub(super) fn turned(values: &[ArrayRef], new: &SchemaRef) -> Result<Vec<ArrayRef>> {
    values.iter().zip(new.fields()).map(|(column, field)| turn(column, field.data_type())).collect()
}

fn turn(column: &ArrayRef, new: &DataType) -> Result<ArrayRef> {
    match (column.data_type(), new) {
        (DataType::Struct(_), DataType::Struct(fields)) => {
            let old = column.as_struct();
            let field = |field: &Arc<arrow::datatypes::Field>| match old.column_by_name(field.name()) {
                Some(column) => turn(column, field.data_type()),
                None => Ok(new_null_array(field.data_type(), old.len())),
            };
            let columns = fields.iter().map(field).collect::<Result<Vec<_>>>()?;
            if columns.is_empty() {
                return Ok(Arc::new(StructArray::new_empty_fields(old.len(), old.nulls().cloned())));
            }
            Ok(Arc::new(StructArray::try_new(fields.clone(), columns, old.nulls().cloned())?))
        }
        (DataType::List(_), DataType::List(item)) => {
            let old = column.as_list::<i32>();
            let items = turn(old.values(), item.data_type())?;
            let list =
                arrow::array::ListArray::try_new(Arc::clone(item), old.offsets().clone(), items, old.nulls().cloned())?;
            Ok(Arc::new(list))
        }
        (old, new) if file_type(old) == file_type(new) => conform(column, new),
        _ => Ok(cast(column, new)?),
    }
}

#[cfg(test)]
mod tests;
