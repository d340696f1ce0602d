//! `state-metadata`: which stateful operators a checkpoint has, and which batches they can be read after.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::TableProvider;
use datafusion::datasource::MemTable;
use serde_json::json;

use super::{checkpoint_folder, only_static};
use crate::checkpoint::{STATE, committed_batches};
use crate::environment::Environment;
use crate::error::Result;
use crate::source::{Source, SourceContext, SourceDefinition, SourceProvider};
use crate::state::{OperatorSpec, read_operators};

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

/// Settings and variables of transformWithState, as Spark's JSON; other operators have none.
fn properties(operator: &OperatorSpec) -> Option<String> {
    let evolution = operator.evolution.as_ref()?;
    let variable = |(name, kind): (&String, &String)| json!({"stateName": name, "stateVariableType": kind});
    let mut properties = json!({"stateVariables": evolution.kinds.iter().map(variable).collect::<Vec<_>>()});
    for (name, value) in &evolution.settings {
        properties[name] = json!(value);
    }
    Some(properties.to_string())
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
            Arc::new(StringArray::from_iter(rows.iter().map(|(operator, _)| properties(operator)))),
        ];
        let rows = RecordBatch::try_new(schema(), columns)?;
        Ok(Arc::new(MemTable::try_new(schema(), vec![vec![rows]])?))
    }
}
