//! The memory sink: a table that is filled by a query and can be queried while it runs.
//!
//! The rows live as long as the [`MemoryTables`] that was given to the provider; a query that starts again starts
//! with an empty table (`spec/07` section 6). Absent: bounds. A table grows as long as its query appends to it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;
use wavetank_engine::options::Options;
use wavetank_engine::sink::{OutputBatch, OutputMode, Sink, SinkContext, SinkProvider};
use wavetank_engine::{Error, Result};

use crate::rows;

/// The memory tables of a session, by the name of their query. Clones share the tables.
#[derive(Clone, Debug, Default)]
pub struct MemoryTables {
    tables: Arc<Mutex<BTreeMap<String, Arc<MemoryTable>>>>,
}

impl MemoryTables {
    /// No tables.
    pub fn new() -> Self {
        Self::default()
    }

    /// The table of the query with this name (names are compared as Spark does: ignoring case).
    pub fn table(&self, query_name: &str) -> Option<Arc<MemoryTable>> {
        lock(&self.tables).get(&query_name.to_lowercase()).cloned()
    }

    /// The names under which there are tables, lower-cased and sorted.
    pub fn names(&self) -> Vec<String> {
        lock(&self.tables).keys().cloned().collect()
    }

    fn replace(&self, query_name: &str, table: Arc<MemoryTable>) {
        lock(&self.tables).insert(query_name.to_lowercase(), table);
    }
}

/// What a query has written so far: a table for DataFusion that shows the rows there are when it is scanned.
#[derive(Debug)]
pub struct MemoryTable {
    schema: SchemaRef,
    /// Committed batches in the order of their ids; in complete mode only the last.
    batches: Mutex<Vec<(u64, Vec<RecordBatch>)>>,
}

impl MemoryTable {
    /// A table without rows.
    pub fn new(schema: SchemaRef) -> Self {
        Self { schema, batches: Mutex::default() }
    }

    /// The committed micro-batches that the table shows, each with its id: all of them in append and update mode, the
    /// last one in complete mode.
    pub fn batches(&self) -> Vec<(u64, Vec<RecordBatch>)> {
        lock(&self.batches).clone()
    }

    /// All rows, in the order in which they were written.
    pub fn rows(&self) -> Vec<RecordBatch> {
        lock(&self.batches).iter().flat_map(|(_, rows)| rows.iter().cloned()).collect()
    }

    /// The id of the last committed micro-batch.
    pub fn latest_batch_id(&self) -> Option<u64> {
        lock(&self.batches).last().map(|(id, _)| *id)
    }

    /// The columns.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn contains(&self, batch_id: u64) -> bool {
        self.latest_batch_id().is_some_and(|latest| batch_id <= latest)
    }

    fn add(&self, mode: OutputMode, batch_id: u64, rows: Vec<RecordBatch>) {
        let mut batches = lock(&self.batches);
        if mode == OutputMode::Complete {
            batches.clear();
        }
        batches.push((batch_id, rows));
    }
}

#[async_trait]
impl TableProvider for MemoryTable {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        _limit: Option<usize>,
    ) -> datafusion::error::Result<Arc<dyn ExecutionPlan>> {
        let source = MemorySourceConfig::try_new_exec(&[self.rows()], self.schema.clone(), projection.cloned())?;
        Ok(source)
    }
}

/// The `memory` format. Its queries need a name; the table gets that name.
#[derive(Debug, Default)]
pub struct MemoryProvider {
    tables: MemoryTables,
}

impl MemoryProvider {
    /// A provider whose sinks show their rows in `tables`.
    pub fn new(tables: MemoryTables) -> Self {
        Self { tables }
    }
}

#[async_trait]
impl SinkProvider for MemoryProvider {
    fn short_name(&self) -> &str {
        "memory"
    }

    fn supports(&self, _mode: OutputMode) -> bool {
        true
    }

    fn allows_temporary_checkpoint(&self) -> bool {
        true
    }

    fn recovers(&self, mode: OutputMode) -> bool {
        mode == OutputMode::Complete // the others would show a table without its first rows
    }

    fn check_options(&self, options: &Options) -> Result<()> {
        options.refuse_unknown("The memory sink", &["path"])
    }

    async fn sink(&self, context: SinkContext) -> Result<Arc<dyn Sink>> {
        let Some(query_name) = &context.query_name else {
            return Err(Error::analysis(
                "queryName must be specified for memory sink. Give the query a name; its rows are read under that name.",
            ));
        };
        let table = Arc::new(MemoryTable::new(context.schema.clone()));
        self.tables.replace(query_name, table.clone());
        Ok(Arc::new(MemorySink {
            table,
            mode: context.output_mode,
            first_batch_id: context.next_batch_id,
            staged: Mutex::default(),
        }))
    }
}

/// A running [`MemoryProvider`].
#[derive(Debug)]
struct MemorySink {
    table: Arc<MemoryTable>,
    mode: OutputMode,
    /// Batches before this one belong to an earlier run, whose rows are gone.
    first_batch_id: u64,
    /// The batch that was written and not committed yet.
    staged: Mutex<Option<(u64, Vec<RecordBatch>)>>,
}

#[async_trait]
impl Sink for MemorySink {
    fn describe(&self) -> String {
        "MemorySink".into()
    }

    async fn write(&self, batch: OutputBatch) -> Result<Option<u64>> {
        if batch.batch_id < self.first_batch_id || self.table.contains(batch.batch_id) {
            return Ok(Some(rows::count(batch.partitions).await?));
        }
        let rows = rows::collect(&self.table.schema, batch.partitions).await?.concat();
        let count = rows::rows_count(&rows);
        *lock(&self.staged) = Some((batch.batch_id, rows));
        Ok(Some(count))
    }

    async fn commit(&self, batch_id: u64) -> Result<()> {
        if batch_id < self.first_batch_id || self.table.contains(batch_id) {
            return Ok(());
        }
        match lock(&self.staged).take() {
            Some((staged_id, rows)) if staged_id == batch_id => {
                self.table.add(self.mode, batch_id, rows);
                Ok(())
            }
            _ => Err(Error::internal(format!("memory sink: batch {batch_id} was committed but never written"))),
        }
    }

    fn table(&self) -> Option<Arc<dyn TableProvider>> {
        Some(self.table.clone())
    }
}

/// Nothing panics while one of these locks is held, so a poisoned one still guards whole values.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;
    use arrow::datatypes::Int32Type;
    use arrow::util::pretty::pretty_format_batches;
    use datafusion::prelude::SessionContext;

    use super::*;
    use crate::contract::{self, Subject};
    use crate::testing::{batch, context, rows, schema};

    async fn sink(tables: &MemoryTables, mode: OutputMode, next_batch_id: u64) -> Arc<dyn Sink> {
        let provider = MemoryProvider::new(tables.clone());
        provider.sink(SinkContext { next_batch_id, ..context(schema(), mode, &[]) }).await.unwrap()
    }

    fn shown(tables: &MemoryTables) -> Vec<(u64, u64)> {
        let batches = tables.table("Q").unwrap().batches();
        batches.iter().map(|(id, rows)| (*id, rows::rows_count(rows))).collect()
    }

    #[tokio::test]
    async fn append_and_update_add_while_complete_replaces() {
        for (mode, expected) in [
            (OutputMode::Append, vec![(0, 2), (1, 0), (2, 1)]),
            (OutputMode::Update, vec![(0, 2), (1, 0), (2, 1)]),
            (OutputMode::Complete, vec![(2, 1)]),
        ] {
            let tables = MemoryTables::new();
            let sink = sink(&tables, mode, 0).await;
            let answers = [
                sink.write(batch(0, vec![rows(&[("a", 1)]), rows(&[("b", 2)])])).await.unwrap(),
                {
                    sink.commit(0).await.unwrap();
                    sink.write(batch(1, vec![])).await.unwrap()
                },
                {
                    sink.commit(1).await.unwrap();
                    sink.write(batch(2, vec![rows(&[("c", 3)])])).await.unwrap()
                },
            ];
            assert_eq!(answers, [Some(2), Some(0), Some(1)]);
            assert_eq!(shown(&tables).last(), Some(&(1, 0)));
            sink.commit(2).await.unwrap();
            assert_eq!(shown(&tables), expected);
        }
    }

    #[tokio::test]
    async fn the_table_shows_the_rows_there_are_when_it_is_scanned() {
        let tables = MemoryTables::new();
        let sink = sink(&tables, OutputMode::Append, 0).await;
        let session = SessionContext::new();
        session.register_table("q", sink.table().unwrap()).unwrap();
        let mut answers = Vec::new();
        for id in 0..2 {
            let answer =
                session.sql("select v, k from q where v >= 0 order by v").await.unwrap().collect().await.unwrap();
            answers.push(pretty_format_batches(&answer).unwrap().to_string());
            sink.write(batch(id, vec![rows(&[("x", 1), ("y", -1)])])).await.unwrap();
            sink.commit(id).await.unwrap();
        }
        assert!(!answers[0].contains('x'));
        assert!(answers[1].contains("| 1 | x |") && !answers[1].contains('y'), "{}", answers[1]);
    }

    #[tokio::test]
    async fn a_restart_starts_empty_and_does_not_ask_for_old_batches() {
        let tables = MemoryTables::new();
        let first = sink(&tables, OutputMode::Complete, 0).await;
        first.write(batch(0, vec![rows(&[("a", 1)])])).await.unwrap();
        first.commit(0).await.unwrap();
        let second = sink(&tables, OutputMode::Complete, 1).await;
        assert!(shown(&tables).is_empty());
        second.commit(0).await.unwrap();
        assert!(shown(&tables).is_empty());
        assert!(second.commit(1).await.is_err());
        second.write(batch(1, vec![rows(&[("b", 1)])])).await.unwrap();
        second.commit(1).await.unwrap();
        assert_eq!(shown(&tables), [(1, 1)]);
    }

    struct Memory(MemoryTables, OutputMode);

    #[async_trait]
    impl Subject for Memory {
        async fn start(&self, next_batch_id: u64) -> Arc<dyn Sink> {
            sink(&self.0, self.1, next_batch_id).await
        }

        async fn visible(&self) -> Vec<i32> {
            let rows = self.0.table("q").unwrap().rows();
            rows.iter().flat_map(|rows| rows.column(1).as_primitive::<Int32Type>().values().to_vec()).collect()
        }

        fn survives_restart(&self) -> bool {
            false
        }

        fn replaces(&self) -> bool {
            self.1 == OutputMode::Complete
        }
    }

    #[tokio::test]
    async fn the_contract_holds() {
        for mode in [OutputMode::Append, OutputMode::Update, OutputMode::Complete] {
            contract::check(&Memory(MemoryTables::new(), mode)).await;
        }
    }

    #[tokio::test]
    async fn a_query_without_a_name_is_refused() {
        let provider = MemoryProvider::default();
        let nameless = SinkContext { query_name: None, ..context(schema(), OutputMode::Append, &[]) };
        let error = provider.sink(nameless).await.unwrap_err().to_string();
        assert!(error.starts_with("queryName must be specified for memory sink."), "{error}");
        assert!(!provider.recovers(OutputMode::Append) && provider.recovers(OutputMode::Complete));
        assert!(provider.check_options(&Options::new().with("rows", "1")).is_err());
    }
}
