//! `state-metadata`: which stateful operators a checkpoint has, and which batches they can be read after.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray, new_null_array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::TableProvider;
use datafusion::datasource::MemTable;

use super::{checkpoint_folder, only_static};
use crate::checkpoint::{STATE, committed_batches};
use crate::environment::Environment;
use crate::error::Result;
use crate::source::{Source, SourceContext, SourceDefinition, SourceProvider};
use crate::state::read_operators;

const NAME: &str = "state-metadata";

/// The provider of `state-metadata`.
#[derive(Debug)]
pub(super) struct StateMetadataProvider;

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("operatorId", DataType::Int64, true),
        Field::new("operatorName", DataType::Utf8, true),
        Field::new("stateStoreName", DataType::Utf8, true),
        Field::new("numPartitions", DataType::Int32, true),
        Field::new("minBatchId", DataType::Int64, true),
        Field::new("maxBatchId", DataType::Int64, true),
        Field::new("operatorProperties", DataType::Utf8, true),
    ]))
}

#[async_trait]
impl SourceProvider for StateMetadataProvider {
    fn short_name(&self) -> &str {
        NAME
    }

    async fn stream_schema(&self, definition: &SourceDefinition, environment: &Environment) -> Result<SchemaRef> {
        // So that CREATE TABLE finds out now what it could not read later.
        self.table(definition, environment).await?;
        Ok(schema())
    }

    async fn stream(&self, _: &SourceDefinition, _: SourceContext) -> Result<Arc<dyn Source>> {
        Err(only_static(NAME))
    }

    /// A row for each store, as the files are now; none when there is no state.
    async fn table(&self, definition: &SourceDefinition, environment: &Environment) -> Result<Arc<dyn TableProvider>> {
        definition.options.refuse_unknown("Source state-metadata", &["path", "checkpointLocation"])?;
        let folder = checkpoint_folder(&definition.options, environment)?;
        let operators = read_operators(&folder.child(STATE)).await?;
        let batches = committed_batches(&folder).await?;
        let rows: Vec<_> = operators
            .iter()
            .flat_map(|operator| operator.spec.stores.iter().map(move |store| (&operator.spec, store)))
            .collect();
        let batch_id = |id: fn((u64, u64)) -> u64| batches.map(|batches| id(batches) as i64);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from_iter_values(rows.iter().map(|(operator, _)| operator.operator_id.into()))),
            Arc::new(StringArray::from_iter_values(rows.iter().map(|(operator, _)| &operator.name))),
            Arc::new(StringArray::from_iter_values(rows.iter().map(|(_, store)| &store.name))),
            Arc::new(Int32Array::from_iter_values(rows.iter().map(|(operator, _)| operator.partitions as i32))),
            Arc::new(Int64Array::from_iter(rows.iter().map(|_| batch_id(|(first, _)| first)))),
            Arc::new(Int64Array::from_iter(rows.iter().map(|_| batch_id(|(_, last)| last)))),
            new_null_array(&DataType::Utf8, rows.len()),
        ];
        let rows = RecordBatch::try_new(schema(), columns)?;
        Ok(Arc::new(MemTable::try_new(schema(), vec![vec![rows]])?))
    }
}
