//! The first oracle: what the reference model computes from the ranges that the engine itself promised.
//!
//! ```text
//! offsets/N of every batch ─► rows of its ranges (tape blocks, files of the source log) ─► Model::run_batch
//!                             starts of lives ─► Model::restart                             │
//! watermark in offsets/N  ═ the model's watermark;  rows in the sink ═ the model's rows  ◄──┘
//! ```
//! It needs no undisturbed run, and judges every committed batch: late rows, evictions, batches without data. Only
//! pipelines that it can follow are judged: one streaming table over one tape or one folder of JSON, into a witness
//! or a folder; everything else is [`Judged::Beyond`], which callers count and never hide.

use std::collections::BTreeMap;

use serde_json::Value as Json;
use wavetank_engine::sql::types::spark_type_name;
use wavetank_engine::sql::{Statement, parse_script};

use crate::model::{
    Model, OutputMode, Query, Source, Stage, Type, Value, View, ViewKind, parse_schema, parse_timestamp,
};
use crate::observe::Seen;
use crate::runner::{Failure, FailureKind, Run};
use crate::scenario::{Scenario, Step};

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
    let pipeline = match read_pipeline(scenario) {
        Ok(pipeline) => pipeline,
        Err(why) => return Judged::Beyond(why),
    };
    let mut model = match Model::new(&pipeline.query) {
        Ok(model) => model,
        Err(refusal) if refusal.stage == Stage::BeyondModel => return Judged::Beyond(refusal.to_string()),
        Err(refusal) => return Judged::Followed(vec![failure(format!("the model refuses the query: {refusal}"))]),
    };
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
    /// The tape's name, or the folder that is read.
    input: Input,
    /// The sink's name as observations have it.
    sink: String,
    /// Whether the sink writes times as text, which Spark cuts to milliseconds.
    cuts_times: bool,
    checkpoint: String,
}

enum Input {
    Tape(String),
    Folder(String),
}

fn read_pipeline(scenario: &Scenario) -> Result<Pipeline, String> {
    let statements = parse_script(&scenario.script).map_err(|error| error.to_string())?;
    let (mut sources, mut views, mut input, mut target) = (Vec::new(), Vec::new(), None, None);
    for located in statements {
        match located.statement {
            Statement::CreateTable(table) => {
                let schema = table.columns.ok_or("a table without columns")?;
                let fields = schema.fields().iter();
                let ddl: Vec<String> =
                    fields.map(|f| format!("{} {}", f.name(), spark_type_name(f.data_type()))).collect();
                let columns = parse_schema(&ddl.join(", ")).ok_or("a column type that the model does not have")?;
                sources.push(Source { name: table.name, columns });
                let option = |name| table.options.get(name).map(str::to_owned).ok_or(format!("no option {name}"));
                let known = match table.using.as_deref() {
                    Some("tape") => Input::Tape(option("name")?),
                    Some("json") => Input::Folder(option("path")?),
                    other => return Err(format!("a source of format {other:?}")),
                };
                if input.replace(known).is_some() {
                    return Err("more than one source".to_owned());
                }
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
    let (input, target) = (input.ok_or("no source")?, target.ok_or("no streaming table")?);
    let sink = match target.using.as_deref() {
        Some("witness") => target.options.get("name").unwrap_or(&target.name).to_owned(),
        _ => target.options.get("path").ok_or("a sink that cannot be read")?.to_owned(),
    };
    let cuts_times = matches!(target.using.as_deref(), Some("json" | "csv"));
    let mode = target.options.get("outputMode").unwrap_or("append");
    let query = Query {
        sources,
        tables: Vec::new(),
        views,
        sql: target.query.sql,
        mode: OutputMode::parse(mode).ok_or("an output mode that does not exist")?,
        conf: BTreeMap::new(),
    };
    let checkpoint = target.options.get("checkpointLocation").ok_or("no checkpointLocation")?.to_owned();
    Ok(Pipeline { query, input, sink, cuts_times, checkpoint })
}

/// A promise, as its log entry says it.
struct Promise {
    watermark_ms: i64,
    timestamp_ms: i64,
    /// Blocks of the tape, or steps of the file source's log, that have been read after this batch.
    end: u64,
}

fn promises(checkpoint: &str, run: &Run) -> Result<BTreeMap<u64, Promise>, String> {
    let prefix = format!("{checkpoint}/offsets/");
    let entries = run.history.range(prefix.clone()..).take_while(|(path, _)| path.starts_with(&prefix));
    let read = entries.filter_map(|(path, text)| Some((path[prefix.len()..].parse::<u64>().ok()?, text)));
    read.map(|(batch_id, text)| {
        let lines: Vec<&str> = text.lines().collect();
        let [_, metadata, offset] = lines[..] else { return Err(format!("offsets/{batch_id} is not for one source")) };
        let metadata: Json = serde_json::from_str(metadata).map_err(|error| error.to_string())?;
        let last = match serde_json::from_str::<Json>(offset) {
            Ok(Json::Object(file)) => file.get("logOffset").and_then(Json::as_i64),
            Ok(number) => number.as_i64(),
            Err(_) => Some(-1), // "-": nothing yet
        };
        let end = last.map(|last| (last + 1) as u64).ok_or_else(|| format!("offset {offset}"))?;
        let number = |name: &str| metadata[name].as_i64().ok_or_else(|| format!("offsets/{batch_id} has no {name}"));
        let (watermark_ms, timestamp_ms) = (number("batchWatermarkMs")?, number("batchTimestampMs")?);
        Ok((batch_id, Promise { watermark_ms, timestamp_ms, end }))
    })
    .collect()
}

/// The input's rows, by step of its offsets.
fn input_rows(pipeline: &Pipeline, scenario: &Scenario, run: &Run) -> Result<Vec<Vec<Vec<Value>>>, String> {
    let columns = &pipeline.query.sources[0].columns;
    let decode = |rows: &[String]| rows.iter().map(|row| decode_row(row, columns)).collect::<Result<Vec<_>, _>>();
    match &pipeline.input {
        Input::Tape(name) => {
            let blocks = scenario.steps.iter().filter_map(|step| match step {
                Step::Add { tape, rows } if tape == name => Some(decode(rows)),
                _ => None,
            });
            blocks.collect()
        }
        Input::Folder(folder) => {
            let mut files: BTreeMap<&str, Vec<Vec<Value>>> = BTreeMap::new();
            for step in &scenario.steps {
                if let Step::Drop { file, rows, torn: false } = step {
                    if files.insert(file, decode(rows)?).is_some() {
                        return Err(format!("{file} is dropped twice"));
                    }
                } else if matches!(step, Step::Drop { .. } | Step::Remove { .. }) {
                    return Err("files that are torn or removed".to_owned());
                }
            }
            let order = source_log(&pipeline.checkpoint, run)?;
            let mut steps: Vec<Vec<Vec<Value>>> = Vec::new();
            for (step, path) in order {
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

/// Which file was read in which step, from the file source's own log.
fn source_log(checkpoint: &str, run: &Run) -> Result<Vec<(u64, String)>, String> {
    let prefix = format!("{checkpoint}/sources/0/");
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
    let promises = promises(&pipeline.checkpoint, run)?;
    let input = input_rows(pipeline, scenario, run)?;
    let columns = model.schema().to_vec();
    let done = run.observed.logs.get(&pipeline.checkpoint).and_then(|logs| logs.commits.keys().next_back());
    let Some(done) = done else { return Ok(Vec::new()) };
    let starts = run.starts.get(&pipeline.checkpoint).cloned().unwrap_or_default();
    let (mut failures, mut expected, mut read) = (Vec::new(), BTreeMap::new(), 0);
    for batch_id in 0..=*done {
        let Some(promise) = promises.get(&batch_id) else {
            return Err(format!("nobody saw the promise of batch {batch_id}"));
        };
        if starts.contains(&batch_id) {
            model.restart();
        }
        let has_data = promise.end != read;
        if !has_data && !starts.contains(&batch_id) && model.no_data_batch_due() == Ok(false) {
            failures.push(failure(format!("batch {batch_id} has no data, and the model saw no reason for it")));
        }
        let (from, to) = ((read as usize).min(input.len()), (promise.end as usize).min(input.len()));
        let rows = input[from..to.max(from)].concat();
        read = promise.end;
        let batch = model.run_batch(&[rows], promise.timestamp_ms * 1000).map_err(|refusal| refusal.to_string())?;
        if model.has_watermark() && batch.watermark_ms != promise.watermark_ms {
            let text = format!(
                "batch {batch_id} ran with watermark {} ms, the model has {} ms",
                promise.watermark_ms, batch.watermark_ms
            );
            failures.push(failure(text));
        }
        let cut = |row: Vec<Value>| if pipeline.cuts_times { row.into_iter().map(cut_time).collect() } else { row };
        expected.insert(batch_id, batch.rows.into_iter().map(cut).collect());
    }
    if matches!(run.lives.last(), Some(crate::runner::LifeEnd::Done)) && (read as usize) < input.len() {
        failures.push(failure(format!("{} of {} input steps were read", read, input.len())));
    }
    let none = Seen::default();
    let seen = run.observed.sinks.get(&pipeline.sink).unwrap_or(&none);
    failures.extend(compare(&columns, &expected, seen, pipeline.query.mode)?);
    Ok(failures)
}

fn cut_time(value: Value) -> Value {
    match value {
        Value::Timestamp(us) => Value::Timestamp(us - us.rem_euclid(1000)),
        Value::Struct(fields) => Value::Struct(fields.into_iter().map(cut_time).collect()),
        Value::List(items) => Value::List(items.into_iter().map(cut_time).collect()),
        other => other,
    }
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
