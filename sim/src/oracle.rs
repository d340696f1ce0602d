//! The first oracle: what the reference model computes from the ranges that the engine itself promised.
//!
//! ```text
//! offsets/N of every batch ─► rows of its ranges (tape blocks, files of the source log) ─► Model::run_batch
//!                             starts of lives ─► Model::restart                             │
//! watermark in offsets/N  ═ the model's watermark;  rows in the sink ═ the model's rows  ◄──┘
//! ```
//! It needs no undisturbed run, and judges every committed batch: rows, late rows, sizes of state, evictions, batches
//! without data, and where every input row went (the ledger). Only pipelines that it can follow are judged: one
//! streaming table over tapes and folders of JSON, each read once, into a witness or a folder; everything else is
//! [`Judged::Beyond`], which callers count and never hide.

use std::collections::BTreeMap;

use serde_json::Value as Json;
use wavetank_engine::options::Options;
use wavetank_engine::sql::types::spark_type_name;
use wavetank_engine::sql::{Statement, parse_script};

use crate::files::judge_files;
use crate::model::{
    Batch, Bucket, Model, OutputMode, Query, Source, Stage, Type, Value, View, ViewKind, parse_schema, parse_timestamp,
};
use crate::observe::Seen;
use crate::reports::OperatorReport;
use crate::runner::{Failure, FailureKind, LifeEnd, Run};
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
    let mut pipeline = match read_pipeline(scenario) {
        Ok(pipeline) => pipeline,
        Err(why) => return Judged::Beyond(why),
    };
    pipeline.query.conf.extend(pinned(&pipeline, run));
    let mut model = match Model::new(&pipeline.query) {
        Ok(model) => model.with_ledger(),
        Err(refusal) if refusal.stage == Stage::BeyondModel => return Judged::Beyond(refusal.to_string()),
        Err(refusal) => return Judged::Followed(vec![failure(format!("the model refuses the query: {refusal}"))]),
    };
    if !model.is_determined() {
        return Judged::Beyond("which rows LIMIT takes is not defined".to_owned());
    }
    match follow(&pipeline, &mut model, scenario, run) {
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
    /// By source, in the order of the query: the tape's name, or the folder that is read.
    inputs: Vec<Input>,
    /// The query's name, as progress reports have it.
    name: String,
    /// The sink's name as observations have it.
    sink: String,
    /// Its format.
    format: String,
    /// Whether the sink writes times as text, which Spark cuts to milliseconds.
    cuts_times: bool,
    checkpoint: String,
}

enum Input {
    Tape(String),
    Folder(String),
    Rate(Rate),
}

/// A `rate-micro-batch` source: how many rows a batch has, and when they are.
#[derive(Clone, Copy)]
struct Rate {
    rows_per_batch: u64,
    start_ms: i64,
    advance_ms: i64,
}

impl Rate {
    fn of(options: &Options) -> Result<Self, String> {
        let number = |name: &str, default: i64| match options.get(name) {
            Some(text) => text.parse::<i64>().map_err(|_| format!("{name} '{text}'")),
            None => Ok(default),
        };
        Ok(Self {
            rows_per_batch: number("rowsPerBatch", 0)?.unsigned_abs().max(1),
            start_ms: number("startTimestamp", 0)?,
            advance_ms: number("advanceMillisPerBatch", 1000)?,
        })
    }

    /// The rows of its n-th step: all of one moment, numbered on.
    fn rows(self, step: u64) -> Rows {
        let at_ms = self.start_ms + self.advance_ms * step as i64;
        let values = step * self.rows_per_batch..(step + 1) * self.rows_per_batch;
        values.map(|value| vec![Value::Timestamp(at_ms * 1000), Value::Int(value as i64)]).collect()
    }
}

fn read_pipeline(scenario: &Scenario) -> Result<Pipeline, String> {
    let statements = parse_script(&scenario.script).map_err(|error| error.to_string())?;
    let (mut sources, mut inputs, mut views, mut target) = (Vec::new(), Vec::new(), Vec::new(), None);
    for located in statements {
        match located.statement {
            Statement::CreateTable(table) => {
                if table.using.as_deref() == Some("rate-micro-batch") {
                    let columns = parse_schema("timestamp TIMESTAMP, value BIGINT").ok_or("the columns of rate")?;
                    sources.push(Source { name: table.name, columns });
                    inputs.push(Input::Rate(Rate::of(&table.options)?));
                    continue;
                }
                let schema = table.columns.ok_or("a table without columns")?;
                let fields = schema.fields().iter();
                let ddl: Vec<String> =
                    fields.map(|f| format!("{} {}", f.name(), spark_type_name(f.data_type()))).collect();
                let columns = parse_schema(&ddl.join(", ")).ok_or("a column type that the model does not have")?;
                sources.push(Source { name: table.name, columns });
                let option = |name| table.options.get(name).map(str::to_owned).ok_or(format!("no option {name}"));
                inputs.push(match table.using.as_deref() {
                    Some("tape") => Input::Tape(option("name")?),
                    Some("json") => Input::Folder(option("path")?),
                    other => return Err(format!("a source of format {other:?}")),
                });
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
    if matches!(format.as_str(), "csv" | "text") {
        return Err("a sink that does not keep types".to_owned());
    }
    let cuts_times = format == "json";
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
    Ok(Pipeline { query, inputs, name: target.name, sink, format, cuts_times, checkpoint })
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
        let ends = lines.enumerate().map(|(source, offset)| read_until(offset, pipeline.inputs.get(source)));
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

/// How many steps of a source have been read at this offset.
fn read_until(offset: &str, input: Option<&Input>) -> Result<u64, String> {
    let last = match serde_json::from_str::<Json>(offset) {
        Ok(Json::Object(rate)) if rate.contains_key("offset") => {
            let Some(Input::Rate(Rate { rows_per_batch, .. })) = input else { return Err(format!("offset {offset}")) };
            rate["offset"].as_u64().map(|rows| (rows / rows_per_batch) as i64 - 1)
        }
        Ok(Json::Object(file)) => file.get("logOffset").and_then(Json::as_i64),
        Ok(number) => number.as_i64(),
        Err(_) => Some(-1), // "-": nothing yet
    };
    last.map(|last| (last + 1) as u64).ok_or_else(|| format!("offset {offset}"))
}

type Rows = Vec<Vec<Value>>;

/// A source's rows, by step of its offsets.
fn input_rows(pipeline: &Pipeline, source: usize, scenario: &Scenario, run: &Run) -> Result<Vec<Rows>, String> {
    let columns = &pipeline.query.sources[source].columns;
    let decode = |rows: &[String]| rows.iter().map(|row| decode_row(row, columns)).collect::<Result<Rows, _>>();
    match &pipeline.inputs[source] {
        Input::Rate(rate) => {
            let ends = promises(pipeline, run)?.into_values().filter_map(|promise| promise.ends.get(source).copied());
            Ok((0..ends.max().unwrap_or(0)).map(|step| rate.rows(step)).collect())
        }
        Input::Tape(name) => {
            let blocks = scenario.steps.iter().filter_map(|step| match step {
                Step::Add { tape, rows } if tape == name => Some(decode(rows)),
                _ => None,
            });
            blocks.collect()
        }
        Input::Folder(folder) => {
            let mut files: BTreeMap<&str, Rows> = BTreeMap::new();
            for step in &scenario.steps {
                // Files that change are judged elsewhere.
                if let Step::Drop { file, rows, .. } = step {
                    files.insert(file, decode(rows)?);
                }
            }
            let mut steps: Vec<Rows> = Vec::new();
            for (step, path) in source_log(&pipeline.checkpoint, source, run)? {
                let step = step as usize;
                steps.resize(steps.len().max(step + 1), Vec::new());
                let known = files.iter().find(|(file, _)| path.ends_with(*file) && file.starts_with(folder.as_str()));
                let (_, rows) = known.ok_or_else(|| format!("{path} was never dropped"))?;
                steps[step].extend(rows.iter().cloned());
            }
            Ok(steps)
        }
    }
}

/// The files that came and are not in the source's log, or are there more than once.
fn files_taken_otherwise_than_once(
    pipeline: &Pipeline,
    source: usize,
    scenario: &Scenario,
    run: &Run,
) -> Result<Vec<Failure>, String> {
    let Input::Folder(folder) = &pipeline.inputs[source] else { return Ok(Vec::new()) };
    let taken = source_log(&pipeline.checkpoint, source, run)?;
    let files = scenario.steps.iter().filter_map(|step| match step {
        Step::Drop { file, .. } if file.starts_with(folder.as_str()) => Some(file),
        _ => None,
    });
    let counted = files.map(|file| (file, taken.iter().filter(|(_, path)| path.ends_with(file.as_str())).count()));
    Ok(counted
        .filter(|(_, times)| *times != 1)
        .map(|(file, times)| Failure {
            kind: if times == 0 { FailureKind::Liveness } else { FailureKind::Rows },
            text: format!("{file} was taken {times} times"),
        })
        .collect())
}

/// Which file was read in which step, from the file source's own log.
fn source_log(checkpoint: &str, source: usize, run: &Run) -> Result<Vec<(u64, String)>, String> {
    let prefix = format!("{checkpoint}/sources/{source}/");
    let entries = run.history.range(prefix.clone()..).take_while(|(path, _)| path.starts_with(&prefix));
    let mut files = BTreeMap::new();
    for line in entries.flat_map(|(_, text)| text.lines().skip(1)).filter(|line| !line.is_empty()) {
        let entry: Json = serde_json::from_str(line).map_err(|error| error.to_string())?;
        let path = entry["path"].as_str().ok_or("no path")?.to_owned();
        files.insert((entry["batchId"].as_u64().ok_or("no batchId")?, path), ());
    }
    Ok(files.into_keys().collect())
}

fn decode_row(row: &str, columns: &[(String, Type)]) -> Result<Vec<Value>, String> {
    let json: Json = serde_json::from_str(row).map_err(|error| format!("{error} in {row}"))?;
    columns.iter().map(|(name, column)| decode(json.get(name).unwrap_or(&Json::Null), column)).collect()
}

fn decode(json: &Json, column: &Type) -> Result<Value, String> {
    let odd = || format!("{json} as {column}");
    Ok(match (json, column) {
        (Json::Null, _) => Value::Null,
        (Json::Bool(value), Type::Boolean) => Value::Bool(*value),
        (Json::Number(number), Type::Double) => Value::Double(number.as_f64().ok_or_else(odd)?),
        (Json::Number(number), Type::Int | Type::BigInt) => Value::Int(number.as_i64().ok_or_else(odd)?),
        (Json::String(text), Type::Timestamp) => Value::Timestamp(parse_timestamp(text).ok_or_else(odd)?),
        (Json::String(text), Type::String) => Value::Text(text.clone()),
        (Json::Array(items), Type::Array(item)) => {
            Value::List(items.iter().map(|json| decode(json, item)).collect::<Result<_, _>>()?)
        }
        (Json::Object(fields), Type::Struct(types)) => {
            let field = |(name, column): &(String, Type)| decode(fields.get(name).unwrap_or(&Json::Null), column);
            Value::Struct(types.iter().map(field).collect::<Result<_, _>>()?)
        }
        _ => return Err(odd()),
    })
}

/// Runs the model over the promised batches and compares.
fn follow(pipeline: &Pipeline, model: &mut Model, scenario: &Scenario, run: &Run) -> Result<Vec<Failure>, String> {
    let promises = promises(pipeline, run)?;
    let sources = 0..pipeline.inputs.len();
    let inputs = sources.map(|source| input_rows(pipeline, source, scenario, run)).collect::<Result<Vec<_>, _>>()?;
    let columns = model.schema().to_vec();
    let done = run.observed.logs.get(&pipeline.checkpoint).and_then(|logs| logs.commits.keys().next_back());
    let Some(done) = done else { return Ok(Vec::new()) };
    let starts = run.starts.get(&pipeline.checkpoint).cloned().unwrap_or_default();
    let (mut failures, mut expected) = (Vec::new(), BTreeMap::new());
    let mut read: Vec<u64> = vec![0; inputs.len()];
    for batch_id in 0..=*done {
        let Some(promise) = promises.get(&batch_id) else {
            return Err(format!("nobody saw the promise of batch {batch_id}"));
        };
        let begins = starts.iter().filter(|start| start.batch_id == batch_id);
        if begins.clone().count() > 0 {
            model.restart();
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
        let cut = |row: Vec<Value>| if pipeline.cuts_times { row.into_iter().map(cut_time).collect() } else { row };
        expected.insert(batch_id, batch.rows.into_iter().map(cut).collect());
    }
    if matches!(run.lives.last(), Some(LifeEnd::Done)) && scenario.steps.last() == Some(&Step::Settle) {
        let unread = inputs.iter().zip(&read).filter(|(steps, read)| (**read as usize) < steps.len());
        failures.extend(unread.map(|(steps, read)| Failure {
            kind: FailureKind::Liveness,
            text: format!("{read} of {} input steps were read", steps.len()),
        }));
        for source in 0..pipeline.inputs.len() {
            failures.extend(files_taken_otherwise_than_once(pipeline, source, scenario, run)?);
        }
        if starts.iter().any(|start| start.batch_id > *done) {
            model.restart();
        }
        // Where time is the clock's, one is always due.
        if model.no_data_batch_due() == Ok(true) && !model.is_clocked() {
            let text = format!("a batch without data is due after batch {done}");
            failures.push(Failure { kind: FailureKind::Liveness, text });
        }
    }
    let none = Seen::default();
    let seen = run.observed.sinks.get(&pipeline.sink).unwrap_or(&none);
    if pipeline.format == "console" {
        failures.extend(printed_otherwise(&expected, seen));
        return Ok(failures);
    }
    if seen.forgets {
        // A table in memory shows what the batches of the last life gave.
        let since = starts.last().map_or(0, |start| start.batch_id);
        let last = if pipeline.query.mode == OutputMode::Complete { *done } else { 0 };
        expected.retain(|batch_id, _| *batch_id >= since.max(last));
    }
    failures.extend(compare(&columns, &expected, seen, pipeline.query.mode)?);
    Ok(failures)
}

/// The same operators, sizes and late rows. The engine counts the late rows of an aggregation, Spark and the model its late
/// groups (`docs/decisions/0006`): none or some, and not fewer.
fn same_operators(engine: &[OperatorReport], model: &[OperatorReport]) -> bool {
    engine.len() == model.len()
        && engine.iter().zip(model).all(|(engine, model)| {
            let late = match model.name {
                "stateStoreSave" => (engine.late == 0) == (model.late == 0) && engine.late >= model.late,
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

fn cut_time(value: Value) -> Value {
    match value {
        Value::Timestamp(us) => Value::Timestamp(us - us.rem_euclid(1000)),
        Value::Struct(fields) => Value::Struct(fields.into_iter().map(cut_time).collect()),
        Value::List(items) => Value::List(items.into_iter().map(cut_time).collect()),
        other => other,
    }
}

/// The batches that were not printed, or with another number of rows. A terminal has no types.
fn printed_otherwise(expected: &BTreeMap<u64, Vec<Vec<Value>>>, seen: &Seen) -> Vec<Failure> {
    /// How many rows Spark shows.
    const SHOWN: usize = 20;
    let odd = expected.iter().filter_map(|(batch_id, rows)| match seen.batches.get(batch_id) {
        None => Some(format!("batch {batch_id} was not printed")),
        Some(lines) if lines.len() != rows.len().min(SHOWN) => {
            Some(format!("batch {batch_id} was printed with {} rows, the model has {}", lines.len(), rows.len()))
        }
        Some(_) => None,
    });
    odd.map(failure).collect()
}

/// The sink's rows against the model's: by batch where the sink knows its batches, all together otherwise.
fn compare(
    columns: &[(String, Type)],
    expected: &BTreeMap<u64, Vec<Vec<Value>>>,
    seen: &Seen,
    mode: OutputMode,
) -> Result<Vec<Failure>, String> {
    let decoded = |rows: &[String]| rows.iter().map(|row| decode_row(row, columns)).collect::<Result<Vec<_>, _>>();
    let knows_batches = seen.batches.len() > 1 || mode != OutputMode::Append;
    if !knows_batches {
        let got = decoded(&seen.batches.values().flatten().cloned().collect::<Vec<_>>())?;
        let all = expected.values().flatten().cloned().collect();
        return Ok(difference("all batches", columns, all, got).into_iter().collect());
    }
    let mut failures = Vec::new();
    for (batch_id, rows) in expected {
        let got = decoded(seen.batches.get(batch_id).map_or(&[], Vec::as_slice))?;
        failures.extend(difference(&format!("batch {batch_id}"), columns, rows.clone(), got));
    }
    Ok(failures)
}

fn difference(
    what: &str,
    columns: &[(String, Type)],
    mut expected: Vec<Vec<Value>>,
    mut got: Vec<Vec<Value>>,
) -> Option<Failure> {
    expected.sort();
    got.sort();
    let same_row = |a: &Vec<Value>, b: &Vec<Value>| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b));
    if expected.len() == got.len() && expected.iter().zip(&got).all(|(a, b)| same_row(a, b)) {
        return None;
    }
    let only = |a: &[Vec<Value>], b: &[Vec<Value>]| -> Vec<String> {
        let missing = a.iter().filter(|row| !b.iter().any(|other| same_row(row, other)));
        missing.take(5).map(|row| format!("{row:?}")).collect()
    };
    let names: Vec<&str> = columns.iter().map(|(name, _)| name.as_str()).collect();
    Some(failure(format!(
        "{what}: the model has {} rows ({} not in the sink: {}), the sink has {} ({} not in the model: {}); columns {}",
        expected.len(),
        only(&expected, &got).len(),
        only(&expected, &got).join(" "),
        got.len(),
        only(&got, &expected).len(),
        only(&got, &expected).join(" "),
        names.join(", ")
    )))
}

/// Equal; doubles within 1e-9 relative, because sums may be made in another order.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Double(a), Value::Double(b)) => {
            a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= 1e-9 * a.abs().max(b.abs())
        }
        (Value::Struct(a), Value::Struct(b)) | (Value::List(a), Value::List(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (a, b) => a == b,
    }
}
