//! Columns of one name in a select list, which Spark has and DataFusion has not: later ones carry a mark after the name
//! inside of plans, and lose it where rows leave the engine.
//!
//! Names in queries are resolved before the mark is set, so that `k` of two columns `k` is ambiguous.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::error::Result;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::StreamExt;

/// Stands between a name and the number that tells it from its equals; no text that a user writes has it.
const MARK: char = '\u{1}';

/// A name for the column at a place of a select list that has the name already.
pub(super) fn marked(name: &str, at: usize) -> String {
    format!("{name}{MARK}{at}")
}

/// The name that the user gave.
fn plain(name: &str) -> &str {
    name.split_once(MARK).map_or(name, |(name, _)| name)
}

/// The columns under the names that the user gave.
pub(crate) fn user_schema(schema: SchemaRef) -> SchemaRef {
    if schema.fields().iter().all(|field| plain(field.name()) == field.name()) {
        return schema;
    }
    let rename = |field: &Arc<Field>| field.as_ref().clone().with_name(plain(field.name()));
    let fields: Vec<Field> = schema.fields().iter().map(rename).collect();
    Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()))
}

/// Rows under the names that the user gave.
pub(crate) fn user_rows(rows: SendableRecordBatchStream) -> SendableRecordBatchStream {
    let schema = user_schema(rows.schema());
    if schema == rows.schema() {
        return rows;
    }
    Box::pin(RecordBatchStreamAdapter::new(schema, rows.map(|batch| user_batch(batch?))))
}

/// One batch under the names that the user gave.
pub(crate) fn user_batch(batch: RecordBatch) -> Result<RecordBatch> {
    let schema = user_schema(batch.schema());
    Ok(if schema == batch.schema() { batch } else { RecordBatch::try_new(schema, batch.columns().to_vec())? })
}
