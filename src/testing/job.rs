//! A streaming job under test, said once: what it reads, what it computes, how its output is to be understood.
//!
//! Handles: a `SELECT`, a whole pipeline script, or Rust that builds a frame; the columns of its streams, with or
//! without the script's own `CREATE TABLE`; static tables; files; settings; user functions. What a test does with the
//! job (`stream_test.rs`, `simulate.rs`) is not known here.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::datasource::MemTable;
use futures::FutureExt;
use futures::future::LocalBoxFuture;
use wavetank_engine::dataframe::DataFrame;
use wavetank_engine::session::Session;
use wavetank_engine::sink::OutputMode;
use wavetank_engine::sql::script::CreateStreamingTable;
use wavetank_engine::sql::{Located, Statement, parse_ddl_schema, parse_script};
use wavetank_engine::{Error, Result};
use wavetank_sim::user::streams_of;

use super::row::{Row, record_batch};

type MakeFrame = Arc<dyn Fn(Session) -> LocalBoxFuture<'static, Result<DataFrame>> + Send + Sync>;
type SetUp = Arc<dyn Fn(&Session) -> Result<()> + Send + Sync>;

/// A streaming job to be tested: by [`StreamTest`](super::StreamTest) step by step, by [`simulate`](super::simulate())
/// in many worlds.
///
/// ```
/// use wavetank::prelude::*;
/// use wavetank::testing::{Job, StreamTest};
///
/// let counts = Job::sql("SELECT k, count(*) AS n FROM STREAM events GROUP BY k")
///     .source("events", "k STRING")
///     .output_mode(OutputMode::Update);
///
/// StreamTest::new(counts).add_data("events", ["a", "b", "a"]).check_answer([("a", 2), ("b", 1)]).run();
/// ```
#[derive(Clone)]
pub struct Job {
    what: What,
    pub(super) sources: BTreeMap<String, SchemaRef>,
    tables: BTreeMap<String, (SchemaRef, Vec<Row>)>,
    pub(super) files: BTreeMap<String, Vec<u8>>,
    pub(super) conf: BTreeMap<String, String>,
    set_up: Vec<SetUp>,
    mode: Option<OutputMode>,
    pub(super) parallelism: usize,
}

#[derive(Clone)]
enum What {
    Sql(String),
    Script(Script),
    Frame(MakeFrame),
}

/// A script, taken apart.
#[derive(Clone)]
pub(super) struct Script {
    /// Everything before the streaming tables that makes settings, tables and views; without the streams' tables.
    prelude: String,
    /// The streaming tables.
    pub(super) queries: Vec<CreateStreamingTable>,
    /// The one under test.
    chosen: Option<String>,
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job").field("sources", &self.sources.keys()).finish_non_exhaustive()
    }
}

impl Job {
    /// The job that is this `SELECT`, over streams and tables that the test declares.
    pub fn sql(select: &str) -> Self {
        Self::new(What::Sql(select.trim().trim_end_matches(';').to_owned()))
    }

    /// The job of a pipeline script, as `wavetank run` takes it: usually `include_str!("../pipeline.sql")`.
    ///
    /// The tables that it reads with `STREAM` become streams of the test, with their declared columns. Its one
    /// `CREATE STREAMING TABLE` is the query under test, with its output mode; where there are several, say which with
    /// [`Job::streaming_table`]. Format and options of both are left aside: rows come from the test, answers go to it.
    ///
    /// # Panics
    /// When the text is not a script.
    #[track_caller]
    pub fn script(text: &str) -> Self {
        let statements = parse_script(text).unwrap_or_else(|error| panic!("this is not a pipeline: {error}"));
        let streams = streams_of(&statements);
        let mut job = Self::new(What::Sql(String::new()));
        let mut script = Script { prelude: String::new(), queries: vec![], chosen: None };
        for Located { text, statement, .. } in statements {
            match statement {
                Statement::CreateTable(table) if streams.contains(&table.name.to_lowercase()) => {
                    if let Some(columns) = table.columns {
                        job.sources.insert(table.name, columns);
                    }
                }
                Statement::CreateStreamingTable(table) => script.queries.push(table),
                // What they answer is for people.
                Statement::Query(_) | Statement::Explain { .. } => {}
                _ => script.prelude.push_str(&format!("{text};\n")),
            }
        }
        job.what = What::Script(script);
        job
    }

    /// The job that this function builds, in a session that knows the streams and tables of the test by name.
    ///
    /// ```
    /// use wavetank::prelude::*;
    /// use wavetank::testing::{Job, StreamTest};
    ///
    /// let job = Job::frame(async |session: Session| session.table("numbers").await?.where_("v % 2 = 0"));
    /// StreamTest::new(job.source("numbers", "v INT")).add_data("numbers", [1, 2, 3]).check_answer([2]).run();
    /// ```
    pub fn frame<F>(build: F) -> Self
    where
        F: AsyncFn(Session) -> Result<DataFrame> + Send + Sync + 'static,
    {
        let build = Arc::new(build);
        Self::new(What::Frame(Arc::new(move |session| {
            let build = Arc::clone(&build);
            async move { build(session).await }.boxed_local()
        })))
    }

    fn new(what: What) -> Self {
        Self {
            what,
            sources: BTreeMap::new(),
            tables: BTreeMap::new(),
            files: BTreeMap::new(),
            conf: BTreeMap::from([("spark.sql.shuffle.partitions".into(), "2".into())]),
            set_up: vec![],
            mode: None,
            parallelism: 1,
        }
    }

    /// Declares a stream, with its columns in Spark's DDL: `"ts TIMESTAMP, k STRING"`. Queries read it as `STREAM name`
    /// or as `name`.
    ///
    /// # Panics
    /// When the columns cannot be read.
    #[track_caller]
    pub fn source(mut self, name: &str, columns: &str) -> Self {
        self.sources.insert(name.to_owned(), columns_of(name, columns));
        self
    }

    /// Declares a static table with its rows.
    ///
    /// # Panics
    /// When the columns cannot be read.
    #[track_caller]
    pub fn table<R: Into<Row>>(mut self, name: &str, columns: &str, rows: impl IntoIterator<Item = R>) -> Self {
        let rows = rows.into_iter().map(Into::into).collect();
        self.tables.insert(name.to_owned(), (columns_of(name, columns), rows));
        self
    }

    /// Puts a file where the job looks for it; relative paths start where the job's do. The job sees no other files:
    /// its disk is simulated.
    pub fn file(mut self, path: &str, content: impl Into<Vec<u8>>) -> Self {
        self.files.insert(path.to_owned(), content.into());
        self
    }

    /// A setting, as `SET key = value` makes it. `spark.sql.shuffle.partitions` is 2 unless it is set.
    pub fn conf(mut self, key: &str, value: impl ToString) -> Self {
        self.conf.insert(key.to_owned(), value.to_string());
        self
    }

    /// Called with every new session before the job is built: the place to register user functions.
    pub fn set_up(mut self, set_up: impl Fn(&Session) -> Result<()> + Send + Sync + 'static) -> Self {
        self.set_up.push(Arc::new(set_up));
        self
    }

    /// The output mode; append by default, or what the script says.
    pub fn output_mode(mut self, mode: OutputMode) -> Self {
        self.mode = Some(mode);
        self
    }

    /// In how many partitions sources are read; 1 by default.
    pub fn parallelism(mut self, partitions: usize) -> Self {
        self.parallelism = partitions;
        self
    }

    /// Which streaming table of the script is under test.
    ///
    /// # Panics
    /// When the job is not a script, or when the script has no such streaming table.
    #[track_caller]
    pub fn streaming_table(mut self, name: &str) -> Self {
        let What::Script(script) = &mut self.what else { panic!("only a script has streaming tables") };
        let names: Vec<_> = script.queries.iter().map(|query| query.name.as_str()).collect();
        assert!(names.contains(&name), "the script has no streaming table {name}; it has {}", names.join(", "));
        script.chosen = Some(name.to_owned());
        self
    }

    /// The query under test of a script.
    fn chosen(&self) -> Result<Option<&CreateStreamingTable>> {
        let What::Script(script) = &self.what else { return Ok(None) };
        let found = match (&script.chosen, &*script.queries) {
            (None, [only]) => Some(only),
            (None, _) => None,
            (Some(name), queries) => queries.iter().find(|query| query.name == *name),
        };
        let names: Vec<_> = script.queries.iter().map(|query| query.name.as_str()).collect();
        found.map(Some).ok_or_else(|| {
            Error::analysis(format!(
                "The script has the streaming tables {}. Say which one is under test with streaming_table(name).",
                names.join(", ")
            ))
        })
    }

    /// The output mode that the job runs in.
    pub(super) fn mode(&self) -> Result<OutputMode> {
        match (self.mode, self.chosen()?.and_then(|query| query.options.get("outputMode"))) {
            (Some(mode), _) => Ok(mode),
            (None, Some(mode)) => mode.parse(),
            (None, None) => Ok(OutputMode::Append),
        }
    }

    /// The job's query as SQL text, with the statements before it; `None` when Rust builds it.
    pub(super) fn text(&self) -> Result<Option<(String, String)>> {
        Ok(match (&self.what, self.chosen()?) {
            (What::Sql(sql), _) => Some((String::new(), sql.clone())),
            (What::Script(script), Some(query)) => Some((script.prelude.clone(), query.query.sql.clone())),
            _ => None,
        })
    }

    /// Makes settings, tables and user functions in a new session.
    pub(super) fn furnish(&self, session: &Session) -> Result<()> {
        for (key, value) in &self.conf {
            session.set_conf(key, value)?;
        }
        for (name, (schema, rows)) in &self.tables {
            let rows = record_batch(schema, rows).map_err(|error| Error::analysis(format!("table {name}: {error}")))?;
            session.register_table(name, Arc::new(MemTable::try_new(Arc::clone(schema), vec![vec![rows]])?))?;
        }
        self.set_up.iter().try_for_each(|set_up| set_up(session))
    }

    /// The job's frame, in a session that has its streams.
    pub(super) async fn build(&self, session: &Session) -> Result<DataFrame> {
        if let What::Frame(build) = &self.what {
            return build(session.clone()).await;
        }
        let (prelude, query) = self.text()?.expect("what is not a frame is text");
        session.run_script(&prelude).await?;
        session.sql(query.as_str()).await
    }
}

impl From<&str> for Job {
    /// A script if it creates something, otherwise a `SELECT`.
    fn from(text: &str) -> Self {
        match parse_script(text) {
            Ok(statements) if statements.len() > 1 => Self::script(text),
            _ => Self::sql(text),
        }
    }
}

#[track_caller]
fn columns_of(name: &str, columns: &str) -> SchemaRef {
    parse_ddl_schema(columns).unwrap_or_else(|error| panic!("{name}: {error}"))
}
