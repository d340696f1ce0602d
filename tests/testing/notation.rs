//! Spark's recorded scenarios (`spark_measured.txt`) as input of a `StreamTest`, and a transcript in their notation.

use std::collections::BTreeMap;

use chrono::NaiveDateTime;
use serde_json::Value;
use wavetank::testing::{Job, Row, Start, StreamTest, Transcript};

/// One scenario: what happens, and the batches that Spark ran.
#[derive(Clone, Debug, Default)]
pub struct Scenario {
    events: Vec<Event>,
    batches: Vec<String>,
}

#[derive(Clone, Debug)]
enum Event {
    When(Vec<(String, Vec<Value>)>),
    Restart,
}

impl Scenario {
    /// Expects another line in the place of one that is there.
    pub fn replace(&mut self, line: &str, by: &str) {
        let at = self.batches.iter().position(|batch| batch == line);
        self.batches[at.unwrap_or_else(|| panic!("there is no line {line}"))] = by.to_owned();
    }
}

/// All scenarios of the file, by id.
pub fn scenarios() -> BTreeMap<String, Scenario> {
    let mut scenarios: BTreeMap<String, Scenario> = BTreeMap::new();
    let mut current = Scenario::default();
    let mut id = String::new();
    let text = include_str!("spark_measured.txt").split_once("\n\n\n").expect("a head").1;
    for line in text.lines().chain([""]) {
        if line.is_empty() {
            if !id.is_empty() {
                scenarios.insert(std::mem::take(&mut id), std::mem::take(&mut current));
            }
        } else if line == "restart" {
            current.events.push(Event::Restart);
        } else if let Some(rows) = line.strip_prefix("when ") {
            current.events.push(Event::When(arrivals(rows)));
        } else if !id.is_empty() && line.starts_with('b') {
            current.batches.push(settled(line));
        } else {
            id = line.split(' ').next().expect("an id").to_owned();
        }
    }
    scenarios
}

/// Runs a scenario of a job; what differs from Spark. `again` is how the query is started after a `restart`.
pub fn differs(scenario: &Scenario, job: &Job, again: &Start) -> Option<String> {
    let mut test = StreamTest::new(job.clone());
    for event in &scenario.events {
        test = match event {
            Event::Restart => test.stop().start_with(again.clone()),
            Event::When(arrivals) => {
                let rows = |rows: &Vec<Value>| rows.iter().cloned().map(Row::from).collect();
                let arrivals: Vec<(&str, Vec<Row>)> =
                    arrivals.iter().map(|(to, all)| (to.as_str(), rows(all))).collect();
                test.add_all(arrivals).process_all_available()
            }
        };
    }
    match test.try_run() {
        Err(report) => Some(report),
        Ok(transcript) => {
            let got = batches(&transcript);
            (got != scenario.batches).then(|| {
                let lines = |of: &[String]| of.iter().map(|line| format!("    {line}\n")).collect::<String>();
                format!("  Spark:\n{}  here:\n{}", lines(&scenario.batches), lines(&got))
            })
        }
    }
}

/// `L:(1,5)(2,7) R:(1,50)`, `10,11,null`.
fn arrivals(text: &str) -> Vec<(String, Vec<Value>)> {
    let parts = text.split_whitespace().map(|part| {
        let (source, rows) = part.split_once(':').unwrap_or(("s", part));
        let rows = match rows.strip_prefix('(') {
            Some(tuples) => {
                tuples.trim_end_matches(')').split(")(").map(|cells| cells.split(',').map(cell).collect()).collect()
            }
            None => rows.split(',').map(|value| Value::Array(vec![cell(value)])).collect(),
        };
        (source.to_owned(), rows)
    });
    parts.collect()
}

fn cell(text: &str) -> Value {
    match text {
        "null" => Value::Null,
        _ => text.parse::<i64>().map_or_else(|_| text.into(), Value::from),
    }
}

/// A line of the file with the rows of the batch in order.
fn settled(line: &str) -> String {
    let (head, rest) = line.split_once("out: ").unwrap_or((line, "-"));
    let (rows, state) = rest.split_once(" | ").map_or((rest, None), |(rows, state)| (rows, Some(state)));
    let mut sorted = split_rows(rows);
    sorted.sort();
    let state = state.map(|state| format!(" | {state}")).unwrap_or_default();
    format!("{head}out: {}{state}", if sorted.is_empty() { "-".to_owned() } else { sorted.join(" ") })
}

/// `[a,1] [[0s,5s],2]` as rows.
fn split_rows(text: &str) -> Vec<String> {
    let (mut rows, mut row, mut depth) = (vec![], String::new(), 0);
    for c in text.chars() {
        depth += i32::from(c == '[') - i32::from(c == ']');
        match (c, depth) {
            (' ' | '-', 0) => {}
            _ => row.push(c),
        }
        if depth == 0 && !row.is_empty() {
            rows.push(std::mem::take(&mut row));
        }
    }
    rows
}

/// A transcript in the notation of the file.
fn batches(transcript: &Transcript) -> Vec<String> {
    let batch = |batch: &wavetank::testing::Batch| {
        let read: Vec<String> = batch.input_rows.iter().map(|(_, rows)| rows.to_string()).collect();
        let watermark = batch.watermark.as_deref().map(|time| format!(" wm={}", seconds(time).unwrap_or_default()));
        let mut rows: Vec<String> = batch.rows.iter().map(|row| shown_row(row)).collect();
        rows.sort();
        let rows = if rows.is_empty() { "-".to_owned() } else { rows.join(" ") };
        let state = batch.state.iter().map(|of| {
            let name = match of.operator.as_str() {
                "stateStoreSave" => "agg",
                "sessionWindowStateStoreSaveExec" => "sess",
                "symmetricHashJoin" => "join",
                "globalLimit" => "limit",
                "dedupe" => "dedup",
                "dedupeWithinWatermark" => "dedupWW",
                other => other,
            };
            format!("{name} {}/{}/{}/{}", of.total, of.updated, of.removed, of.late)
        });
        let state = state.collect::<Vec<_>>().join("; ");
        let state = if state.is_empty() { state } else { format!(" | {state}") };
        format!("b{} rows={}{} out: {rows}{state}", batch.id, read.join("+"), watermark.unwrap_or_default())
    };
    transcript.batches().iter().map(batch).collect()
}

fn shown_row(cells: &[Value]) -> String {
    format!("[{}]", cells.iter().map(shown).collect::<Vec<_>>().join(","))
}

fn shown(cell: &Value) -> String {
    match cell {
        Value::String(text) => seconds(text).unwrap_or_else(|| text.clone()),
        Value::Object(cells) => format!("[{}]", cells.values().map(shown).collect::<Vec<_>>().join(",")),
        Value::Array(cells) => format!("({})", cells.iter().map(shown).collect::<Vec<_>>().join(",")),
        other => other.to_string(),
    }
}

/// `10s`, or `1999ms`.
fn seconds(time: &str) -> Option<String> {
    let ms = NaiveDateTime::parse_from_str(time, "%Y-%m-%d %H:%M:%S%.f").ok()?.and_utc().timestamp_millis();
    Some(if ms % 1000 == 0 { format!("{}s", ms / 1000) } else { format!("{ms}ms") })
}
