//! The session: where connectors are registered, tables and views are known, and queries begin.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};

use datafusion::catalog::{
    CatalogProvider, CatalogProviderList, MemoryCatalogProvider, MemoryCatalogProviderList, MemorySchemaProvider,
    TableProvider,
};
use datafusion::common::TableReference;
use datafusion::datasource::{ViewTable, provider_as_source};
use datafusion::execution::SessionState;
use datafusion::logical_expr::{AggregateUDF, LogicalPlan, LogicalPlanBuilder, ScalarUDF};
use datafusion::prelude::{SessionConfig, SessionContext};

use crate::conf::Conf;
use crate::dataframe::DataFrame;
use crate::environment::Environment;
use crate::error::{Error, Result};
use crate::functions;
use crate::manager::StreamingQueryManager;
use crate::options::did_you_mean;
use crate::plan::physical::{SessionClock, StaticPlanner};
use crate::plan::relation::StreamingRelation;
use crate::plan::watermark::watermark_node;
use crate::reader::{DataFrameReader, DataStreamReader};
use crate::sink::SinkProvider;
use crate::source::{SourceDefinition, SourceProvider};
use crate::sql::{QueryText, plan_query, stream_relation_name};

/// Where everything begins. Cheap to clone; clones share tables, settings and queries.
#[derive(Clone)]
pub struct Session {
    pub(crate) inner: Arc<SessionInner>,
}

pub(crate) struct SessionInner {
    pub(crate) environment: Environment,
    pub(crate) parallelism: usize,
    pub(crate) context: SessionContext,
    pub(crate) sources: BTreeMap<String, Arc<dyn SourceProvider>>,
    pub(crate) sinks: BTreeMap<String, Arc<dyn SinkProvider>>,
    pub(crate) conf: RwLock<Conf>,
    pub(crate) streams: StreamingQueryManager,
    /// How many queries were started, for the run ids.
    started: AtomicU64,
    /// Tables and views by lower-cased name, with the name the user wrote: for "did you mean".
    names: Mutex<BTreeMap<String, String>>,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("environment", &self.inner.environment).finish_non_exhaustive()
    }
}

/// Makes a [`Session`].
#[derive(Debug)]
pub struct SessionBuilder {
    environment: Environment,
    parallelism: usize,
    sources: BTreeMap<String, Arc<dyn SourceProvider>>,
    sinks: BTreeMap<String, Arc<dyn SinkProvider>>,
    conf: Conf,
}

impl SessionBuilder {
    /// A session in this environment that works in one partition, without connectors but those that read checkpoints
    /// (`statestore`, `state-metadata`).
    pub fn new(environment: Environment) -> Self {
        let own = Self {
            environment,
            parallelism: 1,
            sources: BTreeMap::new(),
            sinks: BTreeMap::new(),
            conf: Conf::default(),
        };
        own.sources(crate::inspect::providers())
    }

    /// How many partitions sources are read in at the same time.
    pub fn parallelism(mut self, partitions: usize) -> Self {
        self.parallelism = partitions.max(1);
        self
    }

    /// Registers connectors to read from, by short name; a later one replaces an earlier one of the same name.
    pub fn sources(mut self, providers: impl IntoIterator<Item = Arc<dyn SourceProvider>>) -> Self {
        self.sources.extend(providers.into_iter().map(|provider| (provider.short_name().to_lowercase(), provider)));
        self
    }

    /// Registers connectors to write to, by short name.
    pub fn sinks(mut self, providers: impl IntoIterator<Item = Arc<dyn SinkProvider>>) -> Self {
        self.sinks.extend(providers.into_iter().map(|provider| (provider.short_name().to_lowercase(), provider)));
        self
    }

    /// Sets a configuration key.
    pub fn conf(mut self, key: &str, value: &str) -> Result<Self> {
        self.conf.set(key, value)?;
        Ok(self)
    }

    /// The session.
    pub fn build(self) -> Result<Session> {
        let mut config = functions::session_config(self.parallelism);
        // Sources are read in as many partitions as there are; nothing is gained by dealing rows out once more.
        config.options_mut().optimizer.enable_round_robin_repartition = false;
        config.set_extension(Arc::new(SessionClock(Arc::clone(&self.environment.clock))));
        let context = SessionContext::new_with_state(new_state(config));
        Ok(Session {
            inner: Arc::new(SessionInner {
                environment: self.environment,
                parallelism: self.parallelism,
                context,
                sources: self.sources,
                sinks: self.sinks,
                conf: RwLock::new(self.conf),
                streams: StreamingQueryManager::default(),
                started: AtomicU64::new(0),
                names: Mutex::default(),
            }),
        })
    }
}

/// DataFusion's half of a session: all functions, no tables. Registering the functions takes longer than planning a
/// query does, so it is done once; sessions begin with copies.
fn new_state(config: SessionConfig) -> SessionState {
    static FIRST: OnceLock<SessionState> = OnceLock::new();
    let first = FIRST.get_or_init(|| {
        let builder = functions::session_builder(functions::session_config(1));
        builder.with_query_planner(Arc::new(StaticPlanner)).build()
    });
    let mut state = first.clone();
    let names = &config.options().catalog;
    let (schema, catalog) = (MemorySchemaProvider::new(), MemoryCatalogProvider::new());
    // A new catalog in memory takes every name.
    let _ = catalog.register_schema(&names.default_schema, Arc::new(schema));
    let catalogs = MemoryCatalogProviderList::new();
    catalogs.register_catalog(names.default_catalog.clone(), Arc::new(catalog));
    state.register_catalog_list(Arc::new(catalogs));
    *state.config_mut() = config;
    state
}

impl Session {
    /// Defines a stream to read.
    pub fn read_stream(&self) -> DataStreamReader {
        DataStreamReader::new(self.clone())
    }

    /// Defines a static table to read.
    pub fn read(&self) -> DataFrameReader {
        DataFrameReader::new(self.clone())
    }

    /// The result of a query over tables and views of this session; a stream if one of them is.
    pub async fn sql(&self, sql: impl Into<QueryText>) -> Result<DataFrame> {
        let plan = plan_query(&self.inner.context.state(), sql, &watermark_node).await?;
        Ok(DataFrame::new(self.clone(), plan))
    }

    /// A table or view by name.
    pub async fn table(&self, name: &str) -> Result<DataFrame> {
        self.sql(format!("SELECT * FROM `{name}`").as_str()).await
    }

    /// The running queries.
    pub fn streams(&self) -> &StreamingQueryManager {
        &self.inner.streams
    }

    /// Sets a configuration key for queries started from now on.
    pub fn set_conf(&self, key: &str, value: &str) -> Result<()> {
        self.inner.conf.write().unwrap_or_else(PoisonError::into_inner).set(key, value)
    }

    /// The configuration as it is now.
    pub fn conf(&self) -> Conf {
        self.inner.conf.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Clock, storage, entropy.
    pub fn environment(&self) -> &Environment {
        &self.inner.environment
    }

    /// DataFusion's session below this one: for registering user functions and tables of one's own.
    pub fn datafusion(&self) -> &SessionContext {
        &self.inner.context
    }

    /// Registers a user's scalar function, for SQL and expressions over streams and tables.
    pub fn register_udf(&self, function: ScalarUDF) {
        self.inner.context.register_udf(function);
    }

    /// Registers a user's aggregate function. In streams its accumulator's partial state is what is kept between
    /// batches and over restarts.
    pub fn register_udaf(&self, function: AggregateUDF) {
        self.inner.context.register_udaf(function);
    }

    /// Registers a static table.
    pub fn register_table(&self, name: &str, table: Arc<dyn TableProvider>) -> Result<()> {
        self.put_table(name, table)
    }

    /// Registers a view: a name for a plan, stream or not.
    pub fn register_view(&self, name: &str, frame: &DataFrame) -> Result<()> {
        let view = ViewTable::new(frame.plan().clone(), None);
        self.put_table(name, Arc::new(view))
    }

    /// Registers what `CREATE TABLE ... USING` names: to be read statically as `name`, as a stream as `STREAM name`.
    /// Whichever of the two the connector cannot do is refused when it is used.
    pub async fn create_table(&self, name: &str, format: &str, definition: SourceDefinition) -> Result<()> {
        let provider = self.source_provider(format)?;
        let stream = self.streaming_relation(name, Arc::clone(&provider), definition.clone()).await?;
        let table: Arc<dyn TableProvider> = match provider.table(&definition, &self.inner.environment).await {
            Ok(table) => table,
            // Only a stream: reading it statically says so.
            Err(_) => Arc::clone(&stream) as _,
        };
        self.put_table(&stream_relation_name(name), stream)?;
        self.put_table(name, table)
    }

    /// Forgets a table or view; answers whether it was there.
    pub fn drop_table(&self, name: &str) -> Result<bool> {
        let _ = self.inner.context.deregister_table(table_reference(&stream_relation_name(name)))?;
        self.names().remove(&name.to_lowercase());
        Ok(self.inner.context.deregister_table(table_reference(name))?.is_some())
    }

    /// Makes a stream of a provider's definition readable as a frame.
    pub async fn stream_of(
        &self,
        name: &str,
        provider: Arc<dyn SourceProvider>,
        definition: SourceDefinition,
    ) -> Result<DataFrame> {
        let relation = self.streaming_relation(name, provider, definition).await?;
        let scan = LogicalPlanBuilder::scan(name, provider_as_source(relation), None)?.build()?;
        Ok(DataFrame::new(self.clone(), scan))
    }

    async fn streaming_relation(
        &self,
        name: &str,
        provider: Arc<dyn SourceProvider>,
        definition: SourceDefinition,
    ) -> Result<Arc<StreamingRelation>> {
        let schema = provider.stream_schema(&definition, &self.inner.environment).await?;
        Ok(Arc::new(StreamingRelation { name: name.to_owned(), provider, definition, schema }))
    }

    /// The connector to read from with this short name.
    pub(crate) fn source_provider(&self, format: &str) -> Result<Arc<dyn SourceProvider>> {
        find(&self.inner.sources, format, "read from")
    }

    /// The connector to write to with this short name.
    pub(crate) fn sink_provider(&self, format: &str) -> Result<Arc<dyn SinkProvider>> {
        find(&self.inner.sinks, format, "write to")
    }

    /// A number that no other start of this session has had.
    pub(crate) fn next_start(&self) -> u64 {
        self.inner.started.fetch_add(1, Ordering::Relaxed)
    }

    fn put_table(&self, name: &str, table: Arc<dyn TableProvider>) -> Result<()> {
        let reference = table_reference(name);
        // Registering replaces; DataFusion refuses to, so what was there goes first.
        self.inner.context.deregister_table(reference.clone())?;
        self.inner.context.register_table(reference, table)?;
        self.names().insert(name.to_lowercase(), name.to_owned());
        Ok(())
    }

    /// Whether a table or view has this name.
    pub fn has_table(&self, name: &str) -> bool {
        self.names().contains_key(&name.to_lowercase())
    }

    /// The error for a name that no table or view has, with the nearest that one has.
    pub(crate) fn not_found(&self, name: &str) -> Error {
        let names = self.names();
        Error::analysis_class(
            "TABLE_OR_VIEW_NOT_FOUND",
            format!(
                "The table or view `{name}` cannot be found. Verify the spelling and correctness of the schema and \
                 catalog.{}",
                did_you_mean(name, names.values().map(String::as_str))
            ),
        )
    }

    fn names(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        self.inner.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Names of tables are case-insensitive, as in Spark: they are kept in lower case.
fn table_reference(name: &str) -> TableReference {
    TableReference::bare(name.to_lowercase())
}

fn find<T: ?Sized>(providers: &BTreeMap<String, Arc<T>>, format: &str, what: &str) -> Result<Arc<T>> {
    providers.get(&format.to_lowercase()).cloned().ok_or_else(|| {
        let known: Vec<_> = providers.keys().map(String::as_str).collect();
        Error::analysis_class(
            "DATA_SOURCE_NOT_FOUND",
            format!(
                "Failed to find the data source: {format}.{} Formats to {what}: {}.",
                did_you_mean(format, known.iter().copied()),
                known.join(", ")
            ),
        )
    })
}

/// The plan of a table scan, for frames made without SQL.
pub(crate) fn scan_of(name: &str, table: Arc<dyn TableProvider>) -> Result<LogicalPlan> {
    Ok(LogicalPlanBuilder::scan(name, provider_as_source(table), None)?.build()?)
}
