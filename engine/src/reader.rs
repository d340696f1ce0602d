//! `read_stream()` and `read()`: a format, options and a schema become a frame.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;

use crate::dataframe::DataFrame;
use crate::error::Result;
use crate::session::{Session, scan_of};
use crate::source::SourceDefinition;
use crate::sql::parse_ddl_schema;

/// Spark's default format (`spark.sql.sources.default`).
const DEFAULT_FORMAT: &str = "parquet";

/// Defines a stream. Nothing runs before the result is written with `write_stream().start()`.
#[derive(Debug)]
pub struct DataStreamReader {
    session: Session,
    format: String,
    definition: SourceDefinition,
}

impl DataStreamReader {
    pub(crate) fn new(session: Session) -> Self {
        Self { session, format: DEFAULT_FORMAT.into(), definition: SourceDefinition::default() }
    }

    /// The connector's short name: `json`, `rate-micro-batch`, ...
    pub fn format(mut self, format: &str) -> Self {
        self.format = format.to_owned();
        self
    }

    /// Sets an option; names are case-insensitive.
    pub fn option(mut self, name: &str, value: impl ToString) -> Self {
        self.definition.options.set(name, value.to_string());
        self
    }

    /// The columns.
    pub fn schema(mut self, schema: SchemaRef) -> Self {
        self.definition.schema = Some(schema);
        self
    }

    /// The columns in Spark's DDL: `"ts TIMESTAMP, k STRING"`.
    pub fn schema_ddl(mut self, ddl: &str) -> Result<Self> {
        self.definition.schema = Some(parse_ddl_schema(ddl)?);
        Ok(self)
    }

    /// The stream.
    pub async fn load(self) -> Result<DataFrame> {
        let provider = self.session.source_provider(&self.format)?;
        self.session.stream_of(&self.format, provider, self.definition).await
    }

    /// [`DataStreamReader::load`] with the option `path`.
    pub async fn load_path(self, path: &str) -> Result<DataFrame> {
        self.option("path", path).load().await
    }
}

/// Defines a static table.
#[derive(Debug)]
pub struct DataFrameReader {
    session: Session,
    format: String,
    definition: SourceDefinition,
}

impl DataFrameReader {
    pub(crate) fn new(session: Session) -> Self {
        Self { session, format: DEFAULT_FORMAT.into(), definition: SourceDefinition::default() }
    }

    /// The connector's short name: `json`, `parquet`, ...
    pub fn format(mut self, format: &str) -> Self {
        self.format = format.to_owned();
        self
    }

    /// Sets an option; names are case-insensitive.
    pub fn option(mut self, name: &str, value: impl ToString) -> Self {
        self.definition.options.set(name, value.to_string());
        self
    }

    /// The columns.
    pub fn schema(mut self, schema: SchemaRef) -> Self {
        self.definition.schema = Some(schema);
        self
    }

    /// The columns in Spark's DDL.
    pub fn schema_ddl(mut self, ddl: &str) -> Result<Self> {
        self.definition.schema = Some(parse_ddl_schema(ddl)?);
        Ok(self)
    }

    /// The table. Its files are those of this moment.
    pub async fn load(self) -> Result<DataFrame> {
        let provider = self.session.source_provider(&self.format)?;
        let table = provider.table(&self.definition, self.session.environment()).await?;
        let plan = scan_of(&self.format, Arc::clone(&table))?;
        Ok(DataFrame::new(self.session, plan))
    }

    /// [`DataFrameReader::load`] with the option `path`.
    pub async fn load_path(self, path: &str) -> Result<DataFrame> {
        self.option("path", path).load().await
    }
}
