//! The first oracle: what the reference model computes from the ranges that the engine itself promised.
//!
//! ```text
//! offsets/N of every batch ─► rows of its ranges (tape blocks, files of the source log) ─► Model::run_batch
//!                             starts of lives ─► Model::restart                             │
//! watermark in offsets/N  ═ the model's watermark;  rows in the sink ═ the model's rows  ◄──┘
//! ```
//! It needs no undisturbed run, and judges every committed batch: rows, late rows, sizes of state, evictions, batches
//! without data, and where every input row went (the ledger). Only pipelines that it can follow are judged: one
//! streaming table over tapes and folders, each read once (`inputs.rs`), into a sink that can be read again
//! (`outputs.rs`); everything else is [`Judged::Beyond`], which callers count and never hide.

use std::collections::BTreeMap;

use serde_json::Value as Json;
use wavetank_engine::sql::{Statement, parse_script};

use crate::files::judge_files;
use crate::inputs::{Input, Rows, source_log};
use crate::model::{Batch, Bucket, Model, OutputMode, Query, Source, Stage, View, ViewKind};
use crate::observe::Seen;
use crate::outputs::Written;
use crate::reports::OperatorReport;
use crate::runner::{Began, Failure, FailureKind, LifeEnd, Run};
use crate::scenario::{Keep, Scenario, Step};

/// What the model says about a run.
#[derive(Clone, Debug)]
pub enum Judged {
    /// It followed the run; these are the differences.
    Followed(Vec<Failure>),
    /// It cannot follow this pipeline.
    Beyond(String),
}

/// Judges a finished run by the model.
pub fn judge_by_model(scenario: &Scenario, run: &Run) -> Judged {
    if let Some(judged) = judge_files(scenario, run) {
        return judged;
    }
    let mut pipeline = match read_pipeline(&scenario.script, scenario) {
        Ok(pipeline) => pipeline,
        Err(why) => return Judged::Beyond(why),
    };
    let pinned = pinned(&pipeline, run);
    pipeline.query.conf.extend(pinned.clone());
    let mut model = match Model::new(&pipeline.query) {
        Ok(model) => model.with_ledger(),
        Err(refusal) if refusal.stage == Stage::BeyondModel => return Judged::Beyond(refusal.to_string()),
        Err(refusal) => return Judged::Followed(vec![failure(format!("the model refuses the query: {refusal}"))]),
    };
    if !model.is_determined() {
        return Judged::Beyond("which rows LIMIT takes is not defined".to_owned());
    }
    let mut queries = BTreeMap::new();
    for step in &scenario.steps {
        let Step::Redeploy { script } = step else { continue };
        match read_pipeline(script, scenario) {
            Ok(mut pipeline) => {
                pipeline.query.conf.extend(pinned.clone());
                queries.insert(script.as_str(), pipeline.query);
            }
            Err(why) => return Judged::Beyond(why),
        }
    }
    queries.insert(&scenario.script, pipeline.query.clone());
    match follow(&pipeline, &queries, &mut model, scenario, run) {
        Ok(failures) => Judged::Followed(failures),
        Err(why) => Judged::Beyond(why),
    }
}

fn failure(text: String) -> Failure {
    Failure { kind: FailureKind::Model, text }
}

/// What the model needs to know of a script.
struct Pipeline {
    query: Query,
    /// By source, in the order of the query.
    inputs: Vec<Input>,
    /// The query's name, as progress reports have it.
    name: String,
    /// The sink's name as observations have it.
    sink: String,
    /// How it writes values down.
    written: Written,
    checkpoint: String,
}

fn read_pipeline(script: &str, scenario: &Scenario) -> Result<Pipeline, String> {
    let statements = parse_script(script).map_err(|error| error.to_string())?;
    let (mut sources, mut inputs, mut views, mut target) = (Vec::new(), Vec::new(), Vec::new(), None);
    for located in statements {
        match located.statement {
            Statement::CreateTable(table) => {
                let (input, columns) = Input::of(&table)?;
                sources.push(Source { name: table.name, columns });
                inputs.push(input);
            }
            Statement::CreateView(view) => views.push(View { name: view.name, kind: ViewKind::Sql(view.query.sql) }),
            Statement::CreateStreamingTable(table) => {
                if target.replace(table).is_some() {
                    return Err("more than one streaming table".to_owned());
                }
            }
            _ => return Err("a statement that the model does not know".to_owned()),
        }
    }
    views.extend(scenario.views.iter().map(model_view));
    let target = target.ok_or("no streaming table")?;
    let format = target.using.clone().unwrap_or_default().to_lowercase();
    let sink = match format.as_str() {
        "witness" | "foreach" | "foreachbatch" | "memory" | "console" => {
            target.options.get("name").unwrap_or(&target.name).to_owned()
        }
        _ => target.options.get("path").ok_or("a sink that cannot be read")?.to_owned(),
    };
    let written = Written::by(&format);
    let mode = target.options.get("outputMode").unwrap_or("append");
    let query = Query {
        sources,
        tables: Vec::new(),
        views,
        sql: target.query.sql,
        mode: OutputMode::parse(mode).ok_or("an output mode that does not exist")?,
        conf: scenario.settings.get(&0).cloned().unwrap_or_default(),
    };
    let checkpoint = target.options.get("checkpointLocation").ok_or("no checkpointLocation")?.to_owned();
    Ok(Pipeline { query, inputs, name: target.name, sink, written, checkpoint })
}

fn model_view(view: &crate::scenario::View) -> View {
    let (from, columns) = (view.from.clone(), view.columns.clone());
    let kind = match view.keep {
        Keep::DropDuplicates => ViewKind::DropDuplicates { from, columns },
        Keep::DropDuplicatesWithinWatermark => ViewKind::DropDuplicatesWithinWatermark { from, columns },
        Keep::Groups(job) => ViewKind::Groups { from, columns, job },
    };
    View { name: view.name.clone(), kind }
}

/// A promise, as its log entry says it.
struct Promise {
    watermark_ms: i64,
    timestamp_ms: i64,
    /// By source: blocks of the tape, or steps of the file source's log, that have been read after this batch.
    ends: Vec<u64>,
}

fn promises(pipeline: &Pipeline, run: &Run) -> Result<BTreeMap<u64, Promise>, String> {
    let prefix = format!("{}/offsets/", pipeline.checkpoint);
    let entries = run.history.range(prefix.clone()..).take_while(|(path, _)| path.starts_with(&prefix));
    let read = entries.filter_map(|(path, text)| Some((path[prefix.len()..].parse::<u64>().ok()?, text)));
    read.map(|(batch_id, text)| {
        let mut lines = text.lines().skip(1);
        let metadata: Json = serde_json::from_str(lines.next().unwrap_or("")).map_err(|error| error.to_string())?;
        let ends = lines.enumerate().map(|(source, offset)| {
            let input =
                pipeline.inputs.get(source).ok_or_else(|| format!("offsets/{batch_id} has a source too many"))?;
            input.read_until(offset)
        });
        let ends = ends.collect::<Result<Vec<u64>, String>>()?;
        if ends.len() != pipeline.inputs.len() {
            return Err(format!("offsets/{batch_id} is for {} sources", ends.len()));
        }
        let number = |name: &str| metadata[name].as_i64().ok_or_else(|| format!("offsets/{batch_id} has no {name}"));
        let (watermark_ms, timestamp_ms) = (number("batchWatermarkMs")?, number("batchTimestampMs")?);
        Ok((batch_id, Promise { watermark_ms, timestamp_ms, ends }))
    })
    .collect()
}

/// What the first promise pins for good: whichever life made it.
fn pinned(pipeline: &Pipeline, run: &Run) -> BTreeMap<String, String> {
    let entry = run.history.get(&format!("{}/offsets/0", pipeline.checkpoint));
    let metadata = entry.and_then(|text| serde_json::from_str::<Json>(text.lines().nth(1)?).ok());
    metadata.and_then(|metadata| serde_json::from_value(metadata["conf"].clone()).ok()).unwrap_or_default()
}

/// Runs the model over the promised batches and compares.
fn follow(
    pipeline: &Pipeline,
    queries: &BTreeMap<&str, Query>,
    model: &mut Model,
    scenario: &Scenario,
    run: &Run,
) -> Result<Vec<Failure>, String> {
    let mut script = scenario.script.as_str();
    let mut restart = |model: &mut Model, steps_done: usize| {
        model.restart();
        let next = scenario.script_at(steps_done);
        let is_other = std::mem::replace(&mut script, next) != next;
        if is_other { model.redeploy(&queries[next]).map_err(|refusal| refusal.to_string()) } else { Ok(()) }
    };
    let promises = promises(pipeline, run)?;
    let sources = 0..pipeline.inputs.len();
    let logs = sources.map(|source| source_log(&pipeline.checkpoint, source, run)).collect::<Result<Vec<_>, _>>()?;
    let inputs = pipeline.inputs.iter().enumerate().map(|(source, input)| {
        let steps_count = promises.values().filter_map(|promise| promise.ends.get(source).copied()).max().unwrap_or(0);
        input.rows(&pipeline.query.sources[source].columns, steps_count, &logs[source], scenario)
    });
    let inputs = inputs.collect::<Result<Vec<_>, _>>()?;
    let columns = model.schema().to_vec();
    if !pipeline.written.keeps(&columns) {
        return Err("a sink that does not keep what these values are".to_owned());
    }
    let done = run.observed.logs.get(&pipeline.checkpoint).and_then(|logs| logs.commits.keys().next_back());
    let Some(done) = done else { return Ok(Vec::new()) };
    let starts = run.starts.get(&pipeline.checkpoint).cloned().unwrap_or_default();
    restart(model, first_step(scenario, run, starts.len()))?;
    let starts = lasting(starts);
    let (mut failures, mut expected) = (Vec::new(), BTreeMap::new());
    let mut read: Vec<u64> = vec![0; inputs.len()];
    for batch_id in 0..=*done {
        let Some(promise) = promises.get(&batch_id) else {
            return Err(format!("nobody saw the promise of batch {batch_id}"));
        };
        let begins = starts.iter().filter(|start| start.batch_id == batch_id);
        if let Some(start) = begins.clone().next_back() {
            restart(model, start.steps_done)?;
        }
        // A promised batch is run again whatever it is; a run that chooses its first batch has no reason for one without data.
        let again = begins.clone().any(|start| start.promised);
        if promise.ends == read && !again && model.no_data_batch_due() == Ok(false) {
            failures.push(failure(format!("batch {batch_id} has no data, and the model saw no reason for it")));
        }
        let rows = inputs.iter().zip(read.iter().zip(&promise.ends)).map(|(steps, (from, to))| {
            let (from, to) = ((*from as usize).min(steps.len()), (*to as usize).min(steps.len()));
            steps[from..to.max(from)].concat()
        });
        let rows: Vec<Rows> = rows.collect();
        read.clone_from(&promise.ends);
        let batch = model.run_batch(&rows, promise.timestamp_ms * 1000).map_err(|refusal| refusal.to_string())?;
        failures.extend(batch_differs(pipeline, model, &batch, promise, &rows, run));
        expected.insert(batch_id, batch.rows.into_iter().map(|row| pipeline.written.cut(row)).collect());
    }
    if matches!(run.lives.last(), Some(LifeEnd::Done)) && scenario.steps.last() == Some(&Step::Settle) {
        let unread = inputs.iter().zip(&read).filter(|(steps, read)| (**read as usize) < steps.len());
        failures.extend(unread.map(|(steps, read)| Failure {
            kind: FailureKind::Liveness,
            text: format!("{read} of {} input steps were read", steps.len()),
        }));
        for (input, log) in pipeline.inputs.iter().zip(&logs) {
            failures.extend(input.taken_otherwise_than_once(log, scenario));
        }
        if let Some(start) = starts.iter().rfind(|start| start.batch_id > *done) {
            restart(model, start.steps_done)?;
        }
        // Where time is the clock's, one is always due.
        if model.no_data_batch_due() == Ok(true) && !model.is_clocked() {
            let text = format!("a batch without data is due after batch {done}");
            failures.push(Failure { kind: FailureKind::Liveness, text });
        }
    }
    let none = Seen::default();
    let seen = run.observed.sinks.get(&pipeline.sink).unwrap_or(&none);
    if seen.forgets && pipeline.written != Written::Console {
        // A table in memory shows what the batches of the last life gave.
        let since = starts.last().map_or(0, |start| start.batch_id);
        let last = if pipeline.query.mode == OutputMode::Complete { *done } else { 0 };
        expected.retain(|batch_id, _| *batch_id >= since.max(last));
    }
    failures.extend(pipeline.written.differs(&columns, &expected, seen, pipeline.query.mode)?);
    Ok(failures)
}

/// The starts whose batch a later one did not go back behind: a power cut took the entry that said it was done.
fn lasting(starts: Vec<Began>) -> Vec<Began> {
    let mut lasting: Vec<Began> = Vec::new();
    for start in starts {
        lasting.retain(|earlier| earlier.batch_id <= start.batch_id);
        lasting.push(start);
    }
    lasting
}

/// How many steps were done when the life began that made the checkpoint; so many others followed on it.
fn first_step(scenario: &Scenario, run: &Run, others_count: usize) -> usize {
    let life = run.lives.len().saturating_sub(others_count + 1);
    let first = run.steps.iter().find(|(_, of, _)| *of as usize >= life);
    first.map_or(scenario.steps.len(), |(.., step)| *step)
}

/// The same operators, sizes and late rows. The engine counts the late groups of an aggregation in each input
/// partition, as Spark does, the model in the whole batch: none or some, and not fewer.
fn same_operators(engine: &[OperatorReport], model: &[OperatorReport]) -> bool {
    engine.len() == model.len()
        && engine.iter().zip(model).all(|(engine, model)| {
            let late = match model.name {
                "stateStoreSave" | "sessionWindowStateStoreSaveExec" => {
                    (engine.late == 0) == (model.late == 0) && engine.late >= model.late
                }
                _ => engine.late == model.late,
            };
            engine.name == model.name && engine.state_rows == model.state_rows && late
        })
}

/// What a batch says about itself besides its rows: the watermark, the sizes of its state, its late rows, where its rows went.
fn batch_differs(
    pipeline: &Pipeline,
    model: &Model,
    batch: &Batch,
    promise: &Promise,
    rows: &[Rows],
    run: &Run,
) -> Vec<Failure> {
    let (id, mut texts) = (batch.id, Vec::new());
    if model.has_watermark() && batch.watermark_ms != promise.watermark_ms {
        let (ran, has) = (promise.watermark_ms, batch.watermark_ms);
        texts.push(format!("batch {id} ran with watermark {ran} ms, the model has {has} ms"));
    }
    if let Some(report) = run.reports.get(&pipeline.name).and_then(|reports| reports.get(&id)) {
        let of_model = batch.operators.iter().map(|operator| OperatorReport {
            name: operator.name,
            state_rows: operator.state_rows as u64,
            late: operator.late,
        });
        let of_model: Vec<OperatorReport> = of_model.collect();
        if !same_operators(&report.operators, &of_model) {
            texts.push(format!("batch {id} says of its state {:?}, the model {of_model:?}", report.operators));
        }
        let arrived: usize = rows.iter().map(Vec::len).sum();
        if report.input_rows > arrived as u64 {
            texts.push(format!("batch {id} says that it read {} rows; {arrived} arrived", report.input_rows));
        }
    }
    if let Some(ledger) = model.ledger().filter(|ledger| !ledger.balances()) {
        texts.push(format!("{} rows have no end after batch {id}", ledger.count(Bucket::Lost)));
    }
    texts.into_iter().map(failure).collect()
}
