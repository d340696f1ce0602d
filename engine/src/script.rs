//! Running a Spark SQL script: tables, views and settings in order, then all its streaming tables side by side.
//!
//! Nothing runs before the whole script has been read, planned and checked: an error in the last statement keeps the
//! first query from starting.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use crate::dataframe::DataFrame;
use crate::error::{Error, Result};
use crate::microbatch::trigger::Trigger;
use crate::query::StreamingQuery;
use crate::session::Session;
use crate::source::SourceDefinition;
use crate::sql::script::{CreateStreamingTable, CreateTable, CreateView};
use crate::sql::{Located, Statement, parse_script};
use crate::start::{self, Ready};
use crate::writer::DataStreamWriter;

/// What a script answered, statement by statement, and the queries that it started.
#[derive(Debug, Default)]
pub struct ScriptRun {
    /// The answers of `SELECT`, `SET key` and `EXPLAIN`, in order.
    pub answers: Vec<Answer>,
    /// The running queries, in the order of their `CREATE STREAMING TABLE`.
    pub queries: Vec<StreamingQuery>,
}

/// The answer of one statement.
#[derive(Clone, Debug)]
pub enum Answer {
    /// The rows of a query over static tables.
    Rows {
        /// The columns.
        schema: SchemaRef,
        /// The rows.
        rows: Vec<RecordBatch>,
    },
    /// Text: a setting, a plan.
    Text(String),
}

impl Session {
    /// Runs a script. Its queries are tasks of the current tokio runtime; wait for them with
    /// [`StreamingQuery::await_termination`].
    pub async fn run_script(&self, text: &str) -> Result<ScriptRun> {
        let mut run = ScriptRun::default();
        let mut ready = vec![];
        for Located { line, statement, .. } in parse_script(text)? {
            let done = self.statement(statement, &mut run, &mut ready).await;
            done.map_err(|error| at_line(error, line))?;
        }
        run.queries = ready.into_iter().map(|ready| start::spawn(self, ready)).collect();
        Ok(run)
    }

    /// The plans of a script's streaming tables, by name, in order. Settings, tables and views of the script are made in
    /// this session, its `SELECT`s are not run, and no query is started.
    pub async fn explain_script(&self, text: &str) -> Result<Vec<(String, String)>> {
        let mut plans = vec![];
        for Located { line, statement, .. } in parse_script(text)? {
            let done = match statement {
                Statement::CreateStreamingTable(table) => {
                    let name = table.name.clone();
                    match self.streaming_writer(table).await {
                        Ok(writer) => writer.explain().await.map(|plan| plans.push((name, plan))),
                        Err(error) => Err(error),
                    }
                }
                Statement::Query(_) | Statement::Explain { .. } => Ok(()),
                other => self.statement(other, &mut ScriptRun::default(), &mut vec![]).await,
            };
            done.map_err(|error| at_line(error, line))?;
        }
        Ok(plans)
    }

    async fn statement(&self, statement: Statement, run: &mut ScriptRun, ready: &mut Vec<Ready>) -> Result<()> {
        match statement {
            Statement::Set { key, value } => run.answers.extend(self.set_statement(key, value)?),
            Statement::CreateTable(table) => self.create_table_statement(table).await?,
            Statement::CreateView(view) => self.create_view_statement(view).await?,
            Statement::CreateStreamingTable(table) => ready.push(self.streaming_table(table).await?),
            Statement::Query(query) => {
                let frame = self.sql(query).await?;
                run.answers.push(Answer::Rows { schema: frame.schema(), rows: frame.collect().await? });
            }
            Statement::Drop { name, if_exists, .. } => {
                if !self.drop_table(&name)? && !if_exists {
                    return Err(self.not_found(&name));
                }
            }
            Statement::Explain { query, .. } => {
                run.answers.push(Answer::Text(self.sql(query).await?.explain()));
            }
        }
        Ok(())
    }

    fn set_statement(&self, key: Option<String>, value: Option<String>) -> Result<Option<Answer>> {
        match (key, value) {
            (Some(key), Some(value)) => {
                self.set_conf(&key, &value)?;
                Ok(None)
            }
            (Some(key), None) => {
                let value = self.conf().get(&key).unwrap_or("<undefined>").to_owned();
                Ok(Some(Answer::Text(format!("{key}={value}"))))
            }
            (None, _) => {
                let all = self.conf().all();
                Ok(Some(Answer::Text(all.iter().map(|(key, value)| format!("{key}={value}\n")).collect())))
            }
        }
    }

    async fn create_table_statement(&self, table: CreateTable) -> Result<()> {
        if self.has_table(&table.name) && !table.replace {
            if table.if_not_exists {
                return Ok(());
            }
            return Err(already_exists(&table.name));
        }
        let Some(format) = table.using else {
            return Err(Error::analysis(format!(
                "CREATE TABLE {0} does not say where its rows are. Write CREATE TABLE {0} (...) USING format OPTIONS \
                 (path '...').",
                table.name
            )));
        };
        let definition = SourceDefinition { schema: table.columns, options: table.options };
        self.create_table(&table.name, &format, definition).await
    }

    async fn create_view_statement(&self, view: CreateView) -> Result<()> {
        if self.has_table(&view.name) && !view.replace {
            if view.if_not_exists {
                return Ok(());
            }
            return Err(already_exists(&view.name));
        }
        let mut frame = self.sql(view.query.clone()).await?;
        if !view.columns.is_empty() {
            frame = renamed(&frame, &view)?;
        }
        self.register_view(&view.name, &frame)
    }

    async fn streaming_table(&self, table: CreateStreamingTable) -> Result<Ready> {
        start::prepare(self.streaming_writer(table).await?).await
    }

    async fn streaming_writer(&self, table: CreateStreamingTable) -> Result<DataStreamWriter> {
        let mut writer: DataStreamWriter = self
            .sql(table.query)
            .await?
            .write_stream()
            .query_name(&table.name)
            .partition_by(&table.partitioned_by.iter().map(String::as_str).collect::<Vec<_>>());
        if let Some(format) = &table.using {
            writer = writer.format(format);
        }
        let mut options = table.options;
        if let Some(mode) = options.take("outputMode") {
            writer = writer.output_mode(mode.parse()?);
        }
        if let Some(trigger) = options.take("trigger") {
            writer = writer.trigger(Trigger::parse(&trigger)?);
        }
        for (name, value) in options.iter() {
            writer = writer.option(name, value);
        }
        Ok(writer)
    }
}

fn renamed(frame: &DataFrame, view: &CreateView) -> Result<DataFrame> {
    let columns = frame.plan().schema().columns();
    if columns.len() != view.columns.len() {
        return Err(Error::analysis_class(
            "CREATE_VIEW_COLUMN_ARITY_MISMATCH",
            format!(
                "Cannot create view `{}`: it names {} columns, its query has {}. Name all of them, or none.",
                view.name,
                view.columns.len(),
                columns.len()
            ),
        ));
    }
    let exprs = columns
        .into_iter()
        .zip(&view.columns)
        .map(|(column, name)| datafusion::logical_expr::Expr::Column(column).alias(name));
    frame.select(exprs.collect::<Vec<_>>())
}

fn already_exists(name: &str) -> Error {
    Error::analysis_class(
        "TABLE_OR_VIEW_ALREADY_EXISTS",
        format!(
            "Cannot create table or view `{name}` because it already exists. Choose another name, or write OR REPLACE."
        ),
    )
}

/// Says where in the script an error was found.
fn at_line(error: Error, line: u64) -> Error {
    match error {
        Error::Analysis { class, message } => {
            Error::Analysis { class, message: format!("{message} (statement at line {line})") }
        }
        other => other,
    }
}
