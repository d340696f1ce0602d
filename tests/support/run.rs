//! Runs a case through the engine and compares, batch by batch.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use wavetank::engine::plan::incremental::NOT_YET;
use wavetank::engine::progress::StreamingQueryProgress;
use wavetank::engine::source::SourceDefinition;
use wavetank::engine::sql::{parse_ddl_schema, spark_type_name};
use wavetank::prelude::*;
use wavetank::sinks::{ForeachBatch, ForeachBatchProvider};
use wavetank::{Environment, Error};

use super::case::{Case, Refusal, Verb, View};
use super::compare::{differ, rows_of};

/// How a case ended.
pub enum Outcome {
    /// As in Spark.
    Agrees,
    /// Refused with Wavetank's own class for what it cannot do yet.
    NotYet(String),
    /// Otherwise.
    Differs(String),
}

/// What the engine answered, over all runs.
#[derive(Default)]
struct Answers {
    batches: BTreeMap<u64, ForeachBatch>,
    reports: BTreeMap<u64, StreamingQueryProgress>,
}

/// Keeps the report of every batch.
struct Listener(Arc<Mutex<Answers>>);

impl StreamingQueryListener for Listener {
    fn on_query_progress(&self, progress: &StreamingQueryProgress) {
        let mut answers = self.0.lock().expect("no panic while answering");
        answers.reports.insert(progress.batch_id, progress.clone());
    }
}

/// In how many partitions a case is run; the answers must not depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Partitions of state.
    pub state: usize,
    /// Partitions that sources are read in.
    pub scan: usize,
}

impl Layout {
    /// As the cases were recorded.
    pub const SINGLE: Self = Self { state: 1, scan: 1 };
    /// Several of each.
    pub const SPREAD: Self = Self { state: 3, scan: 2 };
}

/// Runs the case and compares.
pub fn run_case(case: &Case, layout: Layout) -> Outcome {
    let ran = run(case, layout);
    match (&ran.failure, &case.expect.error) {
        (Some(error), _) if error.class() == Some(NOT_YET) => Outcome::NotYet(error.to_string()),
        (Some(error), Some(refusal)) => refused(case, ran.promised, error, refusal),
        (Some(error), None) => Outcome::Differs(format!("failed: {error}")),
        (None, Some(refusal)) => Outcome::Differs(format!("should have been refused: {}", refusal.text)),
        (None, None) => ran.compare(case),
    }
}

/// A case that has run.
pub struct Ran {
    /// Why it did not run to its end.
    pub failure: Option<Error>,
    /// Whether a batch was promised.
    pub promised: bool,
    answers: Answers,
}

impl Ran {
    /// Whether what it answered is what is expected.
    pub fn compare(&self, case: &Case) -> Outcome {
        compare(case, &self.answers)
    }
}

/// Runs the case.
pub fn run(case: &Case, layout: Layout) -> Ran {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let answers = Arc::new(Mutex::new(Answers::default()));
    let mut failure = None;
    let longest = case.sources.values().map(|source| source.batches.len()).max().unwrap_or(0);
    let mut from = 0;
    for until in case.runs.iter().copied().chain([longest]) {
        write_batches(case, folder.path(), from..until);
        from = until;
        if let Err(error) = runtime.block_on(one_run(case, layout, folder.path(), &answers)) {
            failure = Some(error);
            break;
        }
    }
    let offsets = std::fs::read_dir(folder.path().join("checkpoint/offsets"));
    let promised = offsets.is_ok_and(|mut entries| entries.next().is_some());
    let answers = std::mem::take(&mut *answers.lock().expect("no panic while answering"));
    Ran { failure, promised, answers }
}

/// One file a source and input batch, each younger than the one before.
fn write_batches(case: &Case, folder: &Path, batches: std::ops::Range<usize>) {
    for (name, source) in &case.sources {
        let folder = folder.join("in").join(name);
        std::fs::create_dir_all(&folder).expect("a folder");
        for (number, rows) in source.batches.iter().enumerate() {
            if batches.contains(&number) {
                let mut file = File::create(folder.join(format!("{number:04}.json"))).expect("a file");
                for row in rows {
                    writeln!(file, "{row}").expect("a written row");
                }
                let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + number as u64);
                file.set_modified(modified).expect("a file time");
            }
        }
    }
}

async fn one_run(case: &Case, layout: Layout, folder: &Path, answers: &Arc<Mutex<Answers>>) -> Result<(), Error> {
    let environment = Environment::real(folder.to_owned());
    let session = wavetank::session_builder(environment).parallelism(layout.scan).build()?;
    session.set_conf("spark.sql.shuffle.partitions", &layout.state.to_string())?;
    for (key, value) in &case.conf {
        session.set_conf(key, value)?;
    }
    session.streams().add_listener(Arc::new(Listener(Arc::clone(answers))));
    for (name, source) in &case.sources {
        let definition = SourceDefinition {
            schema: Some(parse_ddl_schema(&source.schema)?),
            options: [("path", format!("in/{name}")), ("maxFilesPerTrigger", "1".into())].into_iter().collect(),
        };
        session.create_table(name, "json", definition).await?;
        // The cases name their streams plainly; `STREAM name` means the same.
        let stream = session.sql(format!("SELECT * FROM STREAM `{name}`").as_str()).await?;
        stream.create_or_replace_temp_view(name)?;
    }
    for (name, table) in &case.tables {
        let path = folder.join(format!("{name}.json"));
        let lines: String = table.rows.iter().map(|row| format!("{row}\n")).collect();
        std::fs::write(&path, lines).expect("a written table");
        let frame = session.read().format("json").schema_ddl(&table.schema)?.load_path(&format!("{name}.json")).await?;
        frame.create_or_replace_temp_view(name)?;
    }
    for view in &case.views {
        make_view(&session, view).await?;
    }
    let sink_answers = Arc::clone(answers);
    let sink = ForeachBatchProvider::new(move |batch: ForeachBatch| {
        sink_answers.lock().expect("no panic while answering").batches.insert(batch.batch_id, batch);
        async { Ok::<(), Error>(()) }
    });
    let query = session
        .sql(case.sql.as_str())
        .await?
        .write_stream()
        .sink(Arc::new(sink))
        .output_mode(case.output_mode.parse()?)
        .trigger(Trigger::AvailableNow)
        .option("checkpointLocation", "checkpoint")
        .start()
        .await?;
    if std::env::var_os("WAVETANK_EXPLAIN").is_some() {
        println!("{}", query.explain());
    }
    query.await_termination().await
}

async fn make_view(session: &Session, view: &View) -> Result<(), Error> {
    let frame = match (&view.sql, &view.from) {
        (Some(sql), _) => session.sql(sql.as_str()).await?,
        (None, Some(from)) => session.table(from).await?,
        (None, None) => panic!("view {} has neither sql nor from", view.name),
    };
    let frame = match &view.verb {
        None => frame,
        Some(verb) => apply(session, frame, verb).await?,
    };
    frame.create_or_replace_temp_view(&view.name)
}

async fn apply(session: &Session, frame: DataFrame, verb: &Verb) -> Result<DataFrame, Error> {
    let exprs = |texts: &[String]| texts.iter().map(|text| frame.expr(text)).collect::<Result<Vec<_>, Error>>();
    let sorts = |texts: &[String]| Ok::<_, Error>(exprs(texts)?.into_iter().map(|expr| expr.sort(true, true)));
    Ok(match verb {
        Verb::WithWatermark(column, delay) => frame.with_watermark(column, delay)?,
        Verb::DropDuplicates(columns) => frame.drop_duplicates(&strs(columns))?,
        Verb::DropDuplicatesWithinWatermark(columns) => frame.drop_duplicates_within_watermark(&strs(columns))?,
        Verb::Distinct(true) => frame.distinct()?,
        Verb::Distinct(false) => frame,
        Verb::Repartition(partitions) => frame.repartition(*partitions)?,
        Verb::Coalesce(partitions) => frame.coalesce(*partitions)?,
        Verb::Offset(rows) => frame.offset(*rows)?,
        Verb::Sample(fraction) => frame.sample(*fraction)?,
        Verb::Sort(by) => frame.order_by(sorts(by)?)?,
        Verb::SortWithinPartitions(by) => frame.sort_within_partitions(sorts(by)?)?,
        Verb::Except(other) => frame.except(&session.table(other).await?)?,
        Verb::ExceptAll(other) => frame.except_all(&session.table(other).await?)?,
        Verb::Intersect(other) => frame.intersect(&session.table(other).await?)?,
        Verb::IntersectAll(other) => frame.intersect_all(&session.table(other).await?)?,
        Verb::Groups(groups) => super::groups::apply(&frame, groups)?,
        Verb::Rollup { by, agg } => frame.rollup(exprs(by)?)?.agg([frame.expr(agg)?])?,
        Verb::Cube { by, agg } => frame.cube(exprs(by)?)?.agg([frame.expr(agg)?])?,
        Verb::Pivot { by, column, values, agg } => {
            let values = values.iter().map(datafusion::logical_expr::lit);
            frame.group_by(exprs(by)?).pivot(column, values).agg(frame.expr(agg)?)?
        }
    })
}

fn strs(texts: &[String]) -> Vec<&str> {
    texts.iter().map(String::as_str).collect()
}

fn refused(case: &Case, promised: bool, error: &Error, refusal: &Refusal) -> Outcome {
    let class = error.class().map(str::to_owned);
    if refusal.class.is_some() && class != refusal.class {
        return Outcome::Differs(format!("expected class {:?}, got {class:?}: {error}", refusal.class));
    }
    // Raised before anything was promised.
    if case.runs.is_empty() && promised {
        return Outcome::Differs(format!("refused only after a batch was promised: {error}"));
    }
    Outcome::Agrees
}

fn compare(case: &Case, answers: &Answers) -> Outcome {
    let expected: Vec<_> = case.expect.batches.iter().map(|batch| batch.batch_id).collect();
    let got: Vec<_> = answers.batches.keys().copied().collect();
    if expected != got {
        return Outcome::Differs(format!("expected batches {expected:?}, got {got:?}"));
    }
    let mut read_otherwise = false;
    for batch in &case.expect.batches {
        let (output, report) = (&answers.batches[&batch.batch_id], &answers.reports[&batch.batch_id]);
        let at = |what: String| Outcome::Differs(format!("batch {}: {what}", batch.batch_id));
        let fields = output.schema.fields();
        let schema: Vec<_> =
            fields.iter().map(|field| (field.name().clone(), spark_type_name(field.data_type()))).collect();
        if schema != case.expect.schema {
            return at(format!("expected columns {:?}, got {schema:?}", case.expect.schema));
        }
        if let Some(what) = differ(&batch.rows, &rows_of(&output.rows), case.ordered) {
            return at(what);
        }
        let watermark = report.event_time.get("watermark").cloned();
        if watermark != batch.watermark {
            return at(format!("expected watermark {:?}, got {watermark:?}", batch.watermark));
        }
        let state_rows: Vec<_> = report.state_operators.iter().map(|operator| operator.num_rows_total).collect();
        if state_rows != batch.state_rows {
            return at(format!("expected state rows {:?}, got {state_rows:?}", batch.state_rows));
        }
        let names: Vec<_> = report.state_operators.iter().map(|operator| operator.operator_name).collect();
        if batch.state_operators.as_ref().is_some_and(|expected| names != *expected) {
            return at(format!("expected the operators {:?}, got {names:?}", batch.state_operators));
        }
        let late: Vec<_> =
            report.state_operators.iter().map(|operator| operator.num_rows_dropped_by_watermark).collect();
        // Late groups are counted in each partition that is read; layouts of several read in several.
        let parts = report.state_operators.iter().map(|operator| operator.num_shuffle_partitions).max().unwrap_or(1);
        if batch.dropped_by_watermark.as_ref().is_some_and(|expected| late != *expected && parts == 1) {
            return at(format!("expected {:?} late rows, got {late:?}", batch.dropped_by_watermark));
        }
        read_otherwise |= batch.input_rows.is_some_and(|rows| rows != report.num_input_rows);
    }
    if read_otherwise != READ_OTHERWISE.contains(&case.file.as_str()) {
        return Outcome::Differs(format!("rows read are counted as Spark does: {}", !read_otherwise));
    }
    Outcome::Agrees
}

/// Cases in which `numInputRows` is known to differ: a limit in the middle of a file, and one scan that Spark uses for
/// both sides of a self join.
const READ_OTHERWISE: [&str; 2] = ["own-0023-limit", "own-restart-0030-join_shapes"];
