//! A static table whose rows stand in the script itself, so that a scenario needs nothing beside its text.
//!
//! In SQL: `CREATE TABLE t (k STRING) USING given OPTIONS (rows '{"k":"a"}\n{"k":"b"}')`.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::datasource::MemTable;
use wavetank_engine::environment::Environment;
use wavetank_engine::source::{Source, SourceContext, SourceDefinition, SourceProvider};
use wavetank_engine::{Error, Result};

use crate::tape::decode;

/// The connector with the short name `given`.
#[derive(Clone, Copy, Debug, Default)]
pub struct GivenProvider;

fn columns(definition: &SourceDefinition) -> Result<SchemaRef> {
    definition.options.refuse_unknown("Source given", &["rows"])?;
    let columns = definition.schema.clone();
    columns.ok_or_else(|| Error::analysis("Given rows need columns: CREATE TABLE t (a INT) USING given."))
}

#[async_trait]
impl SourceProvider for GivenProvider {
    fn short_name(&self) -> &str {
        "given"
    }

    async fn stream_schema(&self, definition: &SourceDefinition, _: &Environment) -> Result<SchemaRef> {
        columns(definition)
    }

    async fn stream(&self, _: &SourceDefinition, _: SourceContext) -> Result<Arc<dyn Source>> {
        Err(Error::analysis("Given rows are a static table. Read it without STREAM."))
    }

    async fn table(&self, definition: &SourceDefinition, _: &Environment) -> Result<Arc<dyn TableProvider>> {
        let schema = columns(definition)?;
        let rows: Vec<String> = definition.options.get("rows").unwrap_or_default().lines().map(str::to_owned).collect();
        Ok(Arc::new(MemTable::try_new(Arc::clone(&schema), vec![vec![decode(&schema, &rows)?]])?))
    }
}
