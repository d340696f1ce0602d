//! `statestore`: the entries of one store of a checkpoint after a batch, or what batches changed in it.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray, StructArray, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::error::Result as PlanResult;
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;

use super::joins::{JoinView, Viewing};
use super::options::{StateOptions, Wanted, invalid};
use super::variables::VariableView;
use super::{checkpoint_folder, committed, only_static};
use crate::checkpoint::STATE;
use crate::environment::Environment;
use crate::error::{Error, Result};
use crate::source::{Source, SourceContext, SourceDefinition, SourceProvider};
use crate::sql::types::nearest_spark_type;
use crate::state::{
    Changes, DEFAULT_STORE, Entries, HotStateStore, OperatorSpec, SnapshotPolicy, StateStore, StoreIdentity, StoreSpec,
    read_changes, read_operators,
};
use crate::storage::Folder;

const NAME: &str = "statestore";

/// The provider of `statestore`.
#[derive(Debug)]
pub(super) struct StateStoreProvider;

#[async_trait]
impl SourceProvider for StateStoreProvider {
    fn short_name(&self) -> &str {
        NAME
    }

    async fn stream_schema(&self, definition: &SourceDefinition, environment: &Environment) -> Result<SchemaRef> {
        // So that CREATE TABLE finds out now what it could not read later.
        Ok(StateTable::open(definition, environment).await?.schema)
    }

    async fn stream(&self, _: &SourceDefinition, _: SourceContext) -> Result<Arc<dyn Source>> {
        Err(only_static(NAME))
    }

    async fn table(&self, definition: &SourceDefinition, environment: &Environment) -> Result<Arc<dyn TableProvider>> {
        Ok(Arc::new(StateTable::open(definition, environment).await?))
    }
}

/// A store of a checkpoint; it is read anew by every query.
#[derive(Debug)]
struct StateTable {
    folder: Folder,
    wanted: Wanted,
    operator: OperatorSpec,
    store: StoreSpec,
    view: View,
    schema: SchemaRef,
}

/// How entries become rows.
#[derive(Debug)]
enum View {
    /// Key and value, as they are stored.
    Plain,
    /// As Spark keeps a join's.
    Join(JoinView),
    /// As Spark shows what a processor keeps.
    Variable(VariableView),
}

impl StateTable {
    async fn open(definition: &SourceDefinition, environment: &Environment) -> Result<Self> {
        let options = StateOptions::of(&definition.options)?;
        let folder = checkpoint_folder(&definition.options, environment)?;
        // An empty checkpoint has neither batches nor operators: the former say it better.
        let (_, last) = batches(&folder, &options.wanted).await?;
        let operators = read_operators(&folder.child(STATE)).await?;
        let known: Vec<_> = operators.iter().map(|o| format!("{} ({})", o.spec.operator_id, o.spec.name)).collect();
        let recorded = operators.into_iter().find(|operator| operator.spec.operator_id == options.operator_id);
        let Some(recorded) = recorded else {
            return Err(unreadable(
                &folder,
                format!(
                    "Failed to read the state schema: there is no operator {}. The checkpoint's operators are: {}.",
                    options.operator_id,
                    if known.is_empty() { "none, the query keeps no state".into() } else { known.join(", ") }
                ),
            ));
        };
        let operator = recorded.spec.clone();
        let view = match (VariableView::of(&options, &recorded, last + 1)?, JoinView::of(&options, &operator)?) {
            (Some(variable), _) => View::Variable(variable),
            (None, Some(join)) => View::Join(join),
            (None, None) => View::Plain,
        };
        let store_name = match &view {
            View::Plain => options.store_name(),
            View::Join(join) => join.store_name(),
            View::Variable(variable) => variable.store_name(),
        };
        let Some(store) = recorded.store_at(store_name, last + 1).cloned() else {
            let names: Vec<_> = operator.stores.iter().map(|store| store.name.as_str()).collect();
            return Err(no_such_store(&folder, &operator, store_name, &names));
        };
        let key_and_value = |key: Fields, value: Fields| {
            vec![Field::new("key", DataType::Struct(key), true), Field::new("value", DataType::Struct(value), true)]
        };
        let mut fields = match &view {
            View::Plain => {
                key_and_value(spark_fields(store.schema.key.fields()), spark_fields(store.schema.value.fields()))
            }
            View::Join(join) => {
                let (key, value) = join.fields(&store);
                key_and_value(key, value)
            }
            View::Variable(variable) => variable.fields(&store),
        };
        fields.push(Field::new("partition_id", DataType::Int32, true));
        if let Wanted::Changes(..) = options.wanted {
            fields.insert(0, Field::new("batch_id", DataType::Int64, true));
            fields.insert(1, Field::new("change_type", DataType::Utf8, true));
        }
        let schema = Arc::new(Schema::new(fields));
        Ok(Self { folder, wanted: options.wanted, operator, store, view, schema })
    }

    /// The rows of one partition.
    async fn partition(&self, partition: u32, first: u64, last: u64) -> Result<Vec<RecordBatch>> {
        let identity =
            StoreIdentity { operator_id: self.operator.operator_id, partition, store_name: self.store.name.clone() };
        let folder = identity.folder(&self.folder.child(STATE));
        let mut batches = vec![];
        if let Wanted::Changes(..) = self.wanted {
            for batch_id in first..=last {
                let Changes { put, removed } =
                    read_changes(folder.clone(), &identity, &self.store, batch_id + 1).await?;
                for (change, rows) in [("update", put), ("delete", removed)] {
                    batches.push(self.shown(partition, Some((batch_id, change)), rows)?);
                }
            }
            return Ok(batches);
        }
        let mut store = HotStateStore::new(folder, &identity, &self.store, SnapshotPolicy::default())?;
        match self.wanted {
            Wanted::FromSnapshot { start, .. } => store.begin_from(start + 1, last + 1).await?,
            _ => store.begin(last + 1).await?,
        }
        let mut cursor = store.scan()?;
        let mut view = if let View::Join(join) = &self.view { Some(join.begin()) } else { None };
        while let Some(rows) = store.next_rows(&mut cursor)? {
            let rows = Entries { count: rows.rows_count(), keys: rows.keys, values: Some(rows.values) };
            match &mut view {
                Some(view) => view.add(rows, &self.store, |rows| {
                    batches.push(self.shown(partition, None, rows)?);
                    Ok(())
                })?,
                None => batches.push(self.shown(partition, None, rows)?),
            }
        }
        if let Some(rows) = view.map(Viewing::finish).transpose()?.flatten() {
            batches.push(self.shown(partition, None, rows)?);
        }
        Ok(batches)
    }

    /// Entries as rows of this table.
    fn shown(&self, partition: u32, change: Option<(u64, &str)>, rows: Entries) -> Result<RecordBatch> {
        let count = rows.count;
        let mut columns = match &self.view {
            View::Variable(variable) => variable.columns(&self.store, rows)?,
            View::Plain | View::Join(_) => {
                let of_type = |name: &str| self.schema.field_with_name(name).map(Field::data_type).map_err(Error::from);
                let key = structs(of_type("key")?, rows.keys, count)?;
                let value = match rows.values {
                    Some(values) => structs(of_type("value")?, values, count)?,
                    None => new_null_array(of_type("value")?, count),
                };
                vec![key, value]
            }
        };
        columns.push(Arc::new(Int32Array::from_value(partition as i32, count)));
        if let Some((batch_id, change)) = change {
            columns.insert(0, Arc::new(Int64Array::from_value(batch_id as i64, count)));
            columns.insert(1, Arc::new(StringArray::from_iter_values(std::iter::repeat_n(change, count))));
        }
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }
}

/// Columns as one of structs, of types that Spark has.
pub(super) fn structs(data_type: &DataType, columns: Vec<ArrayRef>, count: usize) -> Result<ArrayRef> {
    let DataType::Struct(fields) = data_type else { return Err(Error::internal("state is shown in structs")) };
    if fields.is_empty() {
        return Ok(Arc::new(StructArray::new_empty_fields(count, None)));
    }
    let columns = columns.iter().zip(fields).map(|(column, field)| cast(column, field.data_type()));
    Ok(Arc::new(StructArray::try_new(fields.clone(), columns.collect::<Result<Vec<_>, _>>()?, None)?))
}

/// The columns with types that Spark has, without what they carry beside.
pub(super) fn spark_fields<'a>(fields: impl IntoIterator<Item = &'a Arc<Field>>) -> Fields {
    let shown = |field: &Arc<Field>| match field.name().as_str() {
        "spark_grouping_id" => Field::new(field.name(), DataType::Int64, true),
        // The call that made the window is DataFusion's name for it.
        name if name.starts_with("window(") => Field::new("window", nearest_spark_type(field.data_type()), true),
        name => Field::new(name, nearest_spark_type(field.data_type()), true),
    };
    fields.into_iter().map(shown).collect::<Vec<_>>().into()
}

#[async_trait]
impl TableProvider for StateTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _session: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        _limit: Option<usize>,
    ) -> PlanResult<Arc<dyn ExecutionPlan>> {
        let (first, last) = batches(&self.folder, &self.wanted).await?;
        let mut rows = vec![];
        let partitions = match self.wanted {
            Wanted::FromSnapshot { partition, .. } => partition..(partition + 1).min(self.operator.partitions),
            _ => 0..self.operator.partitions,
        };
        for partition in partitions {
            rows.extend(self.partition(partition, first, last).await?);
        }
        let source = MemorySourceConfig::try_new_exec(&[rows], Arc::clone(&self.schema), projection.cloned())?;
        Ok(source)
    }
}

/// The batches to read: the last one alone, unless changes are wanted.
async fn batches(folder: &Folder, wanted: &Wanted) -> Result<(u64, u64)> {
    let (_, latest) = committed(folder).await?;
    let (first, last) = match *wanted {
        Wanted::After(batch_id) => (batch_id.unwrap_or(latest), batch_id.unwrap_or(latest)),
        Wanted::FromSnapshot { start, after, .. } => (start, after.unwrap_or(latest)),
        Wanted::Changes(first, last) => (first, last.unwrap_or(latest)),
    };
    if last > latest || first > last {
        return Err(Error::checkpoint_class(
            "STDS_COMMITTED_BATCH_UNAVAILABLE",
            folder.uri(""),
            format!(
                "Batch {} is not committed: the last committed batch is {latest}. Ask for that or an earlier one.",
                last.max(first)
            ),
        ));
    }
    Ok((first, last))
}

fn unreadable(folder: &Folder, why: String) -> Error {
    Error::checkpoint_class("STDS_FAILED_TO_READ_STATE_SCHEMA", folder.uri(""), why)
}

fn no_such_store(folder: &Folder, operator: &OperatorSpec, name: &str, names: &[&str]) -> Error {
    let names = names.join(", ");
    let of = format!("operator {} ({})", operator.operator_id, operator.name);
    if name == DEFAULT_STORE {
        let why = format!(
            "Failed to read the state schema: {of} has several stores. Say joinSide left or right, or a storeName: {names}."
        );
        return unreadable(folder, why);
    }
    invalid("storeName", &format!("{of} has no store '{name}'. Its stores are: {names}."))
}
