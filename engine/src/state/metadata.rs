//! What a checkpoint says about its stateful operators: written in the first batch, compared at every later start.
//!
//! `state/<op>/_metadata/metadata` is Spark's operator metadata, version 1 (spec/04 "Operator metadata").
//! `state/<op>/_metadata/wavetank-stores` is our own: the columns of every store, so that state can be compared with a
//! changed query before it is loaded, and read as a table without the query.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::state::evolution::{EndedStore, Evolution, Reconciled, reconcile};
use crate::state::operator::{OperatorSpec, StoreSpec};
use crate::state::schema::{StateSchema, types_text};
use crate::storage::{Folder, Storage};

const FORMAT: &str = "v1";

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct OperatorFile {
    operator_info: OperatorInfo,
    state_store_info: Vec<StoreInfo>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct OperatorInfo {
    operator_id: u32,
    operator_name: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct StoreInfo {
    store_name: String,
    num_cols_prefix_key: usize,
    num_partitions: u32,
}

#[derive(Serialize, Deserialize)]
struct StoresFile {
    stores: Vec<StoreColumns>,
    /// Of operators whose stores come and go: for them this file alone says which there are, so that one write changes
    /// everything. The file beside it is for people and other programs then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    evolution: Option<EvolutionFile>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct EvolutionFile {
    num_partitions: u32,
    settings: BTreeMap<String, String>,
    kinds: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct StoreColumns {
    store_name: String,
    key: ColumnsFile,
    value: ColumnsFile,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    life: Option<LifeFile>,
}

/// From which version to which a store is there.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct LifeFile {
    num_cols_prefix_key: usize,
    since: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<u64>,
}

/// Columns twice: for people, and as what Arrow reads (the schema message of an IPC stream, in hexadecimal digits).
#[derive(Serialize, Deserialize)]
struct ColumnsFile {
    columns: Vec<ColumnFile>,
    arrow: String,
}

#[derive(Serialize, Deserialize)]
struct ColumnFile {
    name: String,
    r#type: String,
    nullable: bool,
}

/// A stateful operator as a checkpoint has it.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordedOperator {
    /// The operator, with its stores in the order in which they were recorded.
    pub spec: OperatorSpec,
    /// Stores that it had before.
    pub ended: Vec<EndedStore>,
    /// The folder that says so, as the storage names it.
    pub path: String,
}

impl RecordedOperator {
    /// Whether the files of both would say the same.
    pub(super) fn says_the_same_as(&self, other: &Self) -> bool {
        let text = |operator: &Self| stores_text(&operator.spec, &operator.ended).ok();
        text(self) == text(other)
    }

    /// The store with this name that a version has.
    pub fn store_at(&self, name: &str, version: u64) -> Option<&StoreSpec> {
        let ended = self.ended.iter().filter(|ended| version <= ended.until).map(|ended| &ended.store);
        // Version 0 has no entries, but stores.
        let mut there = ended.chain(&self.spec.stores).filter(|store| store.since < version.max(1));
        there.find(|store| store.name == name)
    }
}

fn metadata_folder(state: &Folder, operator_id: u32) -> Folder {
    state.child(&format!("{operator_id}/_metadata"))
}

const OPERATOR_FILE: &str = "metadata";
const STORES_FILE: &str = "wavetank-stores";

/// Writes down the operators of a query, in its first batch, before state is committed. What an earlier try of that
/// batch wrote is replaced.
pub async fn record_operators(state: &Folder, operators: &[OperatorSpec]) -> Result<()> {
    for operator in operators {
        record_operator(state, operator, &[]).await?;
    }
    // Operators beyond ours are of an earlier try with another query.
    let mut next = operators.len() as u32;
    loop {
        let folder = metadata_folder(state, next);
        if folder.get(OPERATOR_FILE).await?.is_none() {
            return Ok(());
        }
        folder.delete(OPERATOR_FILE).await?;
        folder.delete(STORES_FILE).await?;
        next += 1;
    }
}

/// Writes down an operator whose stores have changed.
pub async fn record_operator(state: &Folder, operator: &OperatorSpec, ended: &[EndedStore]) -> Result<()> {
    let folder = metadata_folder(state, operator.operator_id);
    folder.put(STORES_FILE, stores_text(operator, ended)?.into()).await?;
    folder.put(OPERATOR_FILE, operator_text(operator)?.into()).await?;
    Ok(())
}

/// The operators that a checkpoint has, by id; none when it has no state.
pub async fn read_operators(state: &Folder) -> Result<Vec<RecordedOperator>> {
    let mut operators = Vec::new();
    loop {
        // Ids are given without gaps, so nothing needs to be listed.
        let operator_id = operators.len() as u32;
        let folder = metadata_folder(state, operator_id);
        let Some(operator) = folder.get(OPERATOR_FILE).await? else { return Ok(operators) };
        let operator: OperatorFile = parse(&folder.uri(OPERATOR_FILE), &operator)?;
        let path = folder.uri(STORES_FILE);
        let Some(stores) = folder.get(STORES_FILE).await? else {
            return Err(Error::checkpoint(
                path,
                "the file is missing, though the operator's metadata is there (as after Spark). Restore it from a copy, \
                 or start the query with a new checkpointLocation.",
            ));
        };
        let stores: StoresFile = parse(&path, &stores)?;
        let (spec, ended) = recorded_spec(operator_id, &operator, stores)
            .ok_or_else(|| unusable(&path, "it does not fit the file `metadata` beside it"))?;
        operators.push(RecordedOperator { spec, ended, path });
    }
}

/// Makes durable what [`check_operators`] is about to read, of operators whose stores may change between runs.
///
/// A run that was killed may have written down new stores without syncing their name. The next one finds nothing to write
/// down any more, and state of the new types would outlive what says so when the power goes. Operators that do not change
/// are written down by each try of the first batch.
pub async fn settle_operators(storage: &dyn Storage, state: &Folder, operators: &[OperatorSpec]) -> Result<()> {
    for operator in operators.iter().filter(|operator| operator.evolution.is_some()) {
        storage.settle(&metadata_folder(state, operator.operator_id)).await?;
    }
    Ok(())
}

/// Compares the operators of a query with those of its checkpoint, in a run that starts at a version but the first.
/// Refused are other operators (or none on one side), another number of partitions, and columns of other types. Answers
/// the operators as they are to be opened, in the same order.
pub async fn check_operators(state: &Folder, operators: &[OperatorSpec], version: u64) -> Result<Vec<Reconciled>> {
    let recorded = read_operators(state).await?;
    if recorded.is_empty() && !operators.is_empty() {
        return Err(Error::checkpoint_class(
            "STREAMING_STATEFUL_OPERATOR_MISSING_STATE_DIRECTORY",
            state.uri(""),
            "Cannot restart streaming query with stateful operators because the state directory is empty or missing. \
             Either its files were deleted, or the query had no stateful operators before. Restore the state from a \
             copy, take the stateful operators out of the query, or start it with a new checkpointLocation.",
        ));
    }
    let there: BTreeMap<u32, &str> = recorded.iter().map(|op| (op.spec.operator_id, &*op.spec.name)).collect();
    let here: BTreeMap<u32, &str> = operators.iter().map(|op| (op.operator_id, &*op.name)).collect();
    if there != here {
        return Err(other_operators(state.uri(""), &there, &here));
    }
    let mut reconciled = vec![];
    for operator in operators {
        let recorded = recorded.iter().find(|recorded| recorded.spec.operator_id == operator.operator_id);
        let recorded = recorded.ok_or_else(|| Error::internal("an operator that was compared is not there"))?;
        check_partitions(recorded, operator)?;
        reconciled.push(reconcile(recorded, operator, version)?);
    }
    Ok(reconciled)
}

fn other_operators(path: String, there: &BTreeMap<u32, &str>, here: &BTreeMap<u32, &str>) -> Error {
    let text = |operators: &BTreeMap<u32, &str>| {
        let texts: Vec<_> =
            operators.iter().map(|(id, name)| format!("(OperatorId: {id} -> OperatorName: {name})")).collect();
        texts.join(", ")
    };
    Error::checkpoint_class(
        "STREAMING_STATEFUL_OPERATOR_NOT_MATCH_IN_STATE_METADATA",
        path,
        format!(
            "Streaming stateful operator name does not match with the operator in state metadata. This is likely to \
             happen when stateful operators of an existing query were added, removed or changed. Stateful operators in \
             the metadata: [{}]; stateful operators in the current batch: [{}]. Give the query its earlier operators \
             back, or start it with a new checkpointLocation.",
            text(there),
            text(here)
        ),
    )
}

fn check_partitions(recorded: &RecordedOperator, here: &OperatorSpec) -> Result<()> {
    let there = &recorded.spec;
    if there.partitions == here.partitions {
        return Ok(());
    }
    Err(Error::checkpoint(
        &recorded.path,
        format!(
            "the state has {} partitions, the query {}. Their number is fixed for the life of a checkpoint: set \
             spark.sql.shuffle.partitions to {} again, or start with a new checkpointLocation.",
            there.partitions, here.partitions, there.partitions
        ),
    ))
}

/// Names and types, for messages.
pub(super) fn columns_text(schema: &SchemaRef) -> String {
    let columns: Vec<_> = (schema.fields().iter())
        .map(|field| {
            let alone: SchemaRef = Arc::new(Schema::new(vec![Arc::clone(field)]));
            let types = types_text(&alone);
            format!("{} {}", field.name(), &types[1..types.len() - 1])
        })
        .collect();
    format!("({})", columns.join(", "))
}

fn operator_text(operator: &OperatorSpec) -> Result<String> {
    let store = |store: &StoreSpec| StoreInfo {
        store_name: store.name.clone(),
        num_cols_prefix_key: store.prefix_columns,
        num_partitions: operator.partitions,
    };
    text(&OperatorFile {
        operator_info: OperatorInfo { operator_id: operator.operator_id, operator_name: operator.name.clone() },
        state_store_info: operator.stores.iter().map(store).collect(),
    })
}

fn stores_text(operator: &OperatorSpec, ended: &[EndedStore]) -> Result<String> {
    let store = |store: &StoreSpec, until: Option<u64>| {
        let life = LifeFile { num_cols_prefix_key: store.prefix_columns, since: store.since, until };
        Ok(StoreColumns {
            store_name: store.name.clone(),
            key: columns_file(&store.schema.key)?,
            value: columns_file(&store.schema.value)?,
            life: operator.evolution.is_some().then_some(life),
        })
    };
    let stores = operator.stores.iter().map(|open| store(open, None));
    let stores = stores.chain(ended.iter().map(|ended| store(&ended.store, Some(ended.until))));
    let evolution = operator.evolution.as_ref().map(|evolution| EvolutionFile {
        num_partitions: operator.partitions,
        settings: evolution.settings.clone(),
        kinds: evolution.kinds.clone(),
    });
    text(&StoresFile { stores: stores.collect::<Result<_>>()?, evolution })
}

fn text(content: &impl Serialize) -> Result<String> {
    let json = serde_json::to_string(content).map_err(|error| Error::internal(error.to_string()))?;
    Ok(format!("{FORMAT}\n{json}"))
}

fn parse<T: for<'a> Deserialize<'a>>(path: &str, file: &[u8]) -> Result<T> {
    let text = std::str::from_utf8(file).map_err(|_| unusable(path, "it is not text"))?;
    let (format, json) = text.split_once('\n').unwrap_or((text, ""));
    match format.strip_prefix('v').and_then(|number| number.parse::<u32>().ok()) {
        Some(1) => serde_json::from_str(json).map_err(|error| unusable(path, &error.to_string())),
        Some(newer) => Err(Error::checkpoint(
            path,
            format!(
                "the file has format v{newer}, which this Wavetank does not know; it reads {FORMAT}. Run the query \
                 with a newer Wavetank, or start it with a new checkpointLocation."
            ),
        )),
        None => Err(unusable(path, &format!("its first line is not {FORMAT}"))),
    }
}

fn unusable(path: &str, why: &str) -> Error {
    Error::checkpoint(
        path,
        format!(
            "the file is damaged: {why}. Restore it from a copy, or start the query with a new checkpointLocation."
        ),
    )
}

fn columns_file(schema: &SchemaRef) -> Result<ColumnsFile> {
    let plain = |field: &arrow::datatypes::FieldRef| field.as_ref().clone().with_metadata(Default::default());
    let schema = Schema::new(schema.fields().iter().map(plain).collect::<Vec<_>>());
    let column = |field: &arrow::datatypes::FieldRef| ColumnFile {
        name: field.name().clone(),
        r#type: field.data_type().to_string(),
        nullable: field.is_nullable(),
    };
    let columns = schema.fields().iter().map(column).collect();
    let message = StreamWriter::try_new(Vec::new(), &schema)?.into_inner()?;
    Ok(ColumnsFile { columns, arrow: message.iter().map(|byte| format!("{byte:02x}")).collect() })
}

fn recorded_spec(
    operator_id: u32,
    operator: &OperatorFile,
    stores: StoresFile,
) -> Option<(OperatorSpec, Vec<EndedStore>)> {
    if operator.operator_info.operator_id != operator_id {
        return None;
    }
    let name = operator.operator_info.operator_name.clone();
    if let Some(EvolutionFile { num_partitions, settings, kinds }) = stores.evolution {
        let (mut open, mut ended) = (vec![], vec![]);
        for store in stores.stores {
            let life = store.life.as_ref()?;
            let (prefix_columns, since) = (life.num_cols_prefix_key, life.since);
            let schema = StateSchema { key: columns(&store.key)?, value: columns(&store.value)? };
            let spec = StoreSpec { name: store.store_name, schema, prefix_columns, since };
            match life.until {
                None => open.push(spec),
                Some(until) => ended.push(EndedStore { store: spec, until }),
            }
        }
        let evolution = Some(Evolution { settings, kinds, ..Evolution::default() });
        let spec = OperatorSpec { operator_id, name, partitions: num_partitions, stores: open, evolution };
        return Some((spec, ended));
    }
    let infos = &operator.state_store_info;
    if infos.len() != stores.stores.len() {
        return None;
    }
    let partitions = infos.first().map_or(0, |info| info.num_partitions);
    let stores = (stores.stores.into_iter().zip(infos))
        .map(|(store, info)| {
            let schema = StateSchema { key: columns(&store.key)?, value: columns(&store.value)? };
            let same = store.store_name == info.store_name && info.num_partitions == partitions;
            let prefix_columns = info.num_cols_prefix_key;
            same.then_some(StoreSpec { name: store.store_name, schema, prefix_columns, since: 0 })
        })
        .collect::<Option<Vec<_>>>()?;
    Some((OperatorSpec { operator_id, name, partitions, stores, evolution: None }, vec![]))
}

fn columns(file: &ColumnsFile) -> Option<SchemaRef> {
    let digits = file.arrow.as_bytes();
    let message: Option<Vec<u8>> =
        (digits.chunks(2)).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect();
    let reader = StreamReader::try_new(Cursor::new(message?), None).ok()?;
    let names = file.columns.iter().map(|column| &column.name);
    let schema = reader.schema();
    schema.fields().iter().map(|field| field.name()).eq(names).then_some(schema)
}

#[cfg(test)]
mod tests;
