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
use crate::state::operator::{OperatorSpec, StoreSpec};
use crate::state::schema::{Part, StateSchema, not_compatible, types_text};
use crate::storage::Folder;

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
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct StoreColumns {
    store_name: String,
    key: ColumnsFile,
    value: ColumnsFile,
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
    /// The folder that says so, as the storage names it.
    pub path: String,
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
        let folder = metadata_folder(state, operator.operator_id);
        folder.put(STORES_FILE, stores_text(operator)?.into()).await?;
        folder.put(OPERATOR_FILE, operator_text(operator)?.into()).await?;
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
        let spec = recorded_spec(operator_id, &operator, stores)
            .ok_or_else(|| unusable(&path, "it does not fit the file `metadata` beside it"))?;
        operators.push(RecordedOperator { spec, path });
    }
}

/// Compares the operators of a query with those of its checkpoint, in a run that does not start with the first batch.
/// Refused are other operators (or none on one side), another number of partitions, and columns of other types.
pub async fn check_operators(state: &Folder, operators: &[OperatorSpec]) -> Result<()> {
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
    for operator in operators {
        let recorded = recorded.iter().find(|recorded| recorded.spec.operator_id == operator.operator_id);
        if let Some(recorded) = recorded {
            check_operator(recorded, operator)?;
        }
    }
    Ok(())
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

fn check_operator(recorded: &RecordedOperator, operator: &OperatorSpec) -> Result<()> {
    let (there, here) = (&recorded.spec, operator);
    if there.partitions != here.partitions {
        return Err(Error::checkpoint(
            &recorded.path,
            format!(
                "the state has {} partitions, the query {}. Their number is fixed for the life of a checkpoint: set \
                 spark.sql.shuffle.partitions to {} again, or start with a new checkpointLocation.",
                there.partitions, here.partitions, there.partitions
            ),
        ));
    }
    let names = |stores: &[StoreSpec]| stores.iter().map(|store| store.name.clone()).collect::<Vec<_>>();
    if names(&there.stores) != names(&here.stores) {
        return Err(Error::checkpoint_class(
            "STREAMING_STATEFUL_OPERATOR_NOT_MATCH_IN_STATE_METADATA",
            &recorded.path,
            format!(
                "operator {} keeps its state in the stores {:?}, the query wants {:?}. Run the query as it was, or \
                 start it with a new checkpointLocation.",
                there.operator_id,
                names(&there.stores),
                names(&here.stores)
            ),
        ));
    }
    for (old, new) in there.stores.iter().zip(&here.stores) {
        for (part, old, new) in
            [(Part::Key, &old.schema.key, &new.schema.key), (Part::Value, &old.schema.value, &new.schema.value)]
        {
            if types_text(old) != types_text(new) {
                return Err(not_compatible(part, recorded.path.clone(), &columns_text(old), &columns_text(new)));
            }
        }
    }
    Ok(())
}

/// Names and types, for messages.
fn columns_text(schema: &SchemaRef) -> String {
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

fn stores_text(operator: &OperatorSpec) -> Result<String> {
    let store = |store: &StoreSpec| {
        Ok(StoreColumns {
            store_name: store.name.clone(),
            key: columns_file(&store.schema.key)?,
            value: columns_file(&store.schema.value)?,
        })
    };
    text(&StoresFile { stores: operator.stores.iter().map(store).collect::<Result<_>>()? })
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

fn recorded_spec(operator_id: u32, operator: &OperatorFile, stores: StoresFile) -> Option<OperatorSpec> {
    let infos = &operator.state_store_info;
    if operator.operator_info.operator_id != operator_id || infos.len() != stores.stores.len() {
        return None;
    }
    let partitions = infos.first().map_or(0, |info| info.num_partitions);
    let stores = (stores.stores.into_iter().zip(infos))
        .map(|(store, info)| {
            let schema = StateSchema { key: columns(&store.key)?, value: columns(&store.value)? };
            let same = store.store_name == info.store_name && info.num_partitions == partitions;
            same.then_some(StoreSpec { name: store.store_name, schema, prefix_columns: info.num_cols_prefix_key })
        })
        .collect::<Option<Vec<_>>>()?;
    Some(OperatorSpec { operator_id, name: operator.operator_info.operator_name.clone(), partitions, stores })
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
