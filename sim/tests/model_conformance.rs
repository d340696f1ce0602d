//! Every conformance case, and every fact that `facts/` adds in the same form, against the reference model alone: the
//! answers are real Spark's.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value as Json;
use wavetank_sim::model::{
    Batch, Model, OutputMode, Query, Refusal, Source, Stage, Table, Type, Value, View, ViewKind, format_timestamp,
    parse_schema, parse_timestamp,
};

/// How the report on a case begins that the model cannot run.
const OUTSIDE: &str = "outside the model";

/// Our own cases that the model does not judge; the engine answers all of them.
const BEYOND_MODEL: [&str; 64] = [
    "own-0001-session",
    "own-0002-key_agg",
    "own-0003-window_agg",
    "own-0004-except",
    "own-0005-key_agg",
    "own-0006-unsupported",
    "own-0012-join_shapes",
    "own-0014-session",
    "own-0038-global_agg",
    "own-0039-stateless",
    "own-0040-stateless",
    "own-0041-stateless",
    "own-0042-session",
    "own-0043-stateless",
    "own-0044-chain",
    "own-0045-window_fields",
    "own-0047-stateless",
    "own-0048-stateless",
    "own-0052-dedup",
    "own-0053-dedup",
    "own-0054-subquery",
    "own-0055-self_join",
    "own-0058-key_agg",
    "own-0059-ss_join",
    "own-0060-static_join",
    "own-0062-stateless",
    "own-0063-global_agg",
    "own-0064-window_agg",
    "own-0065-stateless",
    "own-0066-unsupported",
    "own-0067-stateless",
    "own-0068-stateless",
    "own-0070-ss_join",
    "own-0073-session",
    "own-0081-semi_join",
    "own-0082-semi_join",
    "own-0083-semi_join",
    "own-0088-semi_join",
    "own-0089-semi_join",
    "own-0095-semi_join",
    "own-0096-semi_join",
    "own-0097-subquery_filter",
    "own-0099-false_filter",
    "own-0100-window_fields",
    "own-0101-window_join",
    "own-0102-nulls",
    "own-0106-nulls",
    "own-0107-nulls",
    "own-0108-nulls",
    "own-0109-nulls",
    "own-0110-nulls",
    "own-0111-nulls",
    "own-0112-nulls",
    "own-restart-0046-window_fields",
    "own-restart-0049-order_limit",
    "own-restart-0050-agg_by_ts",
    "own-restart-0051-global_agg",
    "own-restart-0056-stateless",
    "own-restart-0057-static_join",
    "own-restart-0061-stateless",
    "own-restart-0071-key_agg",
    "own-restart-0072-key_agg",
    "own-restart-0074-session",
    "own-restart-0098-subquery_filter",
];

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// All case files of a folder, in order of name.
fn cases(folder: &Path) -> Vec<(String, Json)> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("entry").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|e| e == "json"));
    paths.sort();
    let read = |path: PathBuf| {
        let name = path.file_stem().expect("name").to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).expect("readable");
        (name, serde_json::from_str(&text).expect("JSON"))
    };
    paths.into_iter().map(read).collect()
}

fn text(json: &Json) -> String {
    json.as_str().unwrap_or_default().to_string()
}

fn value(json: &Json, ty: &Type) -> Value {
    match (json, ty) {
        (Json::Null, _) => Value::Null,
        (Json::Bool(b), _) => Value::Bool(*b),
        (Json::Number(n), Type::Double) => Value::Double(n.as_f64().expect("double")),
        (Json::Number(n), _) => Value::Int(n.as_i64().expect("integer")),
        (Json::String(s), Type::Timestamp) => Value::Timestamp(parse_timestamp(s).expect("timestamp")),
        (Json::String(s), Type::Double) => Value::Double(s.parse().expect("NaN or infinity")),
        (Json::String(s), _) => Value::Text(s.clone()),
        (Json::Array(items), Type::Array(ty)) => Value::List(items.iter().map(|i| value(i, ty)).collect()),
        (Json::Object(fields), Type::Struct(types)) => {
            Value::Struct(types.iter().map(|(name, ty)| value(&fields[name], ty)).collect())
        }
        other => panic!("a value of a type the runner does not know: {other:?}"),
    }
}

fn rows(json: &Json, columns: &[(String, Type)]) -> Vec<Vec<Value>> {
    let row = |row: &Json| columns.iter().map(|(name, ty)| value(row.get(name).unwrap_or(&Json::Null), ty)).collect();
    json.as_array().map(|rows| rows.iter().map(row).collect()).unwrap_or_default()
}

fn strings(json: &Json) -> Vec<String> {
    json.as_array().map(|items| items.iter().map(text).collect()).unwrap_or_default()
}

fn view(json: &Json) -> View {
    let from = text(&json["from"]);
    let kind = if let Some(pair) = json.get("withWatermark") {
        ViewKind::Watermark { from, column: text(&pair[0]), delay: text(&pair[1]) }
    } else if let Some(columns) = json.get("dropDuplicates") {
        ViewKind::DropDuplicates { from, columns: strings(columns) }
    } else if let Some(columns) = json.get("dropDuplicatesWithinWatermark") {
        ViewKind::DropDuplicatesWithinWatermark { from, columns: strings(columns) }
    } else {
        ViewKind::Sql(text(&json["sql"]))
    };
    View { name: text(&json["name"]), kind }
}

fn entries(json: &Json) -> Vec<(&String, &Json)> {
    json.as_object().map(|o| o.iter().collect()).unwrap_or_default()
}

fn columns(json: &Json) -> Vec<(String, Type)> {
    parse_schema(&text(&json["schema"])).expect("schema")
}

fn query(case: &Json) -> Query {
    let source = |(name, json): (&String, &Json)| Source { name: name.clone(), columns: columns(json) };
    let table = |(name, json): (&String, &Json)| {
        let columns = columns(json);
        Table { name: name.clone(), rows: rows(&json["rows"], &columns), columns }
    };
    Query {
        sources: entries(&case["sources"]).into_iter().map(source).collect(),
        tables: entries(&case["tables"]).into_iter().map(table).collect(),
        views: case["views"].as_array().map(|v| v.iter().map(view).collect()).unwrap_or_default(),
        sql: text(&case["sql"]),
        mode: OutputMode::parse(&text(&case["outputMode"])).expect("output mode"),
        conf: entries(&case["conf"]).into_iter().map(|(k, v)| (k.clone(), text(v))).collect(),
    }
}

/// Drives the model as AvailableNow drives Spark: in every run all input of the run, then batches without data.
fn drive(case: &Json, model: &mut Model) -> Result<Vec<Batch>, Refusal> {
    let sources = entries(&case["sources"]);
    let inputs: Vec<Vec<Vec<Vec<Value>>>> = sources
        .iter()
        .map(|(_, json)| {
            let columns = columns(json);
            json["batches"].as_array().map(|all| all.iter().map(|b| rows(b, &columns)).collect()).unwrap_or_default()
        })
        .collect();
    let count = inputs.iter().map(Vec::len).max().unwrap_or(0);
    let mut ends: Vec<usize> = case["runs"]
        .as_array()
        .map(|r| r.iter().map(|n| n.as_u64().unwrap_or(0) as usize).collect())
        .unwrap_or_default();
    ends.push(count);
    let (mut batches, mut next) = (Vec::new(), 0);
    for end in ends {
        for index in next..end.min(count) {
            let batch: Vec<Vec<Vec<Value>>> =
                inputs.iter().map(|s| s.get(index).cloned().unwrap_or_default()).collect();
            batches.push(model.run_batch(&batch, 0)?);
        }
        next = next.max(end);
        while model.no_data_batch_due()? {
            batches.push(model.run_batch(&vec![Vec::new(); inputs.len()], 0)?);
        }
        model.restart();
    }
    Ok(batches)
}

/// Equality of results: doubles within 1e-9 relative.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Double(x), Value::Double(y)) => {
            x == y || x.is_nan() && y.is_nan() || (x - y).abs() <= 1e-9 * x.abs().max(y.abs())
        }
        (Value::Struct(a), Value::Struct(b)) | (Value::List(a), Value::List(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (a, b) => a == b,
    }
}

fn same_rows(mut got: Vec<Vec<Value>>, mut expected: Vec<Vec<Value>>, ordered: bool) -> bool {
    if !ordered {
        got.sort();
        expected.sort();
    }
    got.len() == expected.len()
        && got.iter().zip(&expected).all(|(a, b)| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)))
}

fn refused(expected: &Json, refusal: &Refusal) -> Result<(), String> {
    let class = expected["class"].as_str();
    let wanted = text(&expected["text"]);
    if refusal.stage == Stage::BeyondModel {
        return Err(format!("{OUTSIDE}: {refusal}"));
    }
    match class {
        Some(class) if refusal.seen_class() != Some(class) => Err(format!("expected class {class}, got {refusal}")),
        None if refusal.class.is_some()
            || !(wanted.starts_with(&refusal.text) || refusal.text.starts_with(&wanted)) =>
        {
            Err(format!("expected {wanted}, got {refusal}"))
        }
        _ => Ok(()),
    }
}

/// SQL that the model does not read as Spark does: hints, time windows in a join's condition, gaps that are no interval;
/// and settings whose other value it does not know.
const BEYOND_SQL: [&str; 3] = ["/*+", "ON window(", "session_window(ts, 'foo')"];
const BEYOND_SETTING: &str = "spark.sql.streaming.join.stateFormatVersion";

/// What of a case the model cannot even be told: types of columns, settings, and the SQL above.
fn untold(case: &Json) -> Option<String> {
    let relations = entries(&case["sources"]).into_iter().chain(entries(&case["tables"]));
    let types = relations.map(|(_, json)| text(&json["schema"])).find(|schema| parse_schema(schema).is_none());
    let sql = text(&case["sql"]);
    let words = BEYOND_SQL.iter().find(|words| sql.contains(**words)).map(|words| (*words).to_owned());
    let setting = case["conf"].get(BEYOND_SETTING).map(|_| BEYOND_SETTING.to_owned());
    types.or(words).or(setting)
}

fn run(case: &Json) -> Result<(), String> {
    if let Some(what) = untold(case) {
        return Err(format!("{OUTSIDE}: {what}"));
    }
    let expect = &case["expect"];
    let mut model = match Model::new(&query(case)) {
        Ok(model) => model.with_ledger(),
        Err(refusal) => return refused(&expect["error"], &refusal),
    };
    let batches = match drive(case, &mut model) {
        Ok(batches) => batches,
        Err(refusal) => return refused(&expect["error"], &refusal),
    };
    if expect.get("error").is_some() {
        return Err(format!("expected an error: {}", expect["error"]));
    }
    let ledger = model.ledger().expect("a ledger was asked for");
    if !ledger.balances() {
        return Err(format!("rows without an end: {:?}", ledger.ends()));
    }
    let schema: Vec<(String, String)> = model.schema().iter().map(|(n, t)| (n.clone(), t.to_string())).collect();
    let wanted: Vec<(String, String)> =
        expect["schema"].as_array().map(|s| s.iter().map(|c| (text(&c[0]), text(&c[1]))).collect()).unwrap_or_default();
    if schema != wanted {
        return Err(format!("schema {schema:?}, expected {wanted:?}"));
    }
    let expected = expect["batches"].as_array().ok_or("no batches")?;
    let types = model.schema().to_vec();
    for (got, wanted) in batches.iter().zip(expected) {
        compare(got, wanted, &types, case["ordered"] == Json::Bool(true), model.has_watermark())?;
    }
    if batches.len() != expected.len() {
        return Err(format!("{} batches, expected {}", batches.len(), expected.len()));
    }
    Ok(())
}

fn compare(
    got: &Batch,
    wanted: &Json,
    types: &[(String, Type)],
    ordered: bool,
    watermarked: bool,
) -> Result<(), String> {
    let at = format!("batch {}", got.id);
    if wanted["batchId"].as_u64() != Some(got.id) {
        return Err(format!("{at}: expected id {}", wanted["batchId"]));
    }
    let state: Vec<u64> = got.operators.iter().map(|o| o.state_rows as u64).collect();
    let wanted_state: Vec<u64> =
        wanted["stateRows"].as_array().map(|s| s.iter().filter_map(Json::as_u64).collect()).unwrap_or_default();
    if state != wanted_state {
        return Err(format!("{at}: state rows {state:?}, expected {wanted_state:?}"));
    }
    let names: Vec<String> = got.operators.iter().map(|o| o.name.to_string()).collect();
    if names != strings(&wanted["stateOperators"]) {
        return Err(format!("{at}: operators {names:?}, expected {}", wanted["stateOperators"]));
    }
    let wanted_watermark = wanted.get("watermark").map(|w| parse_timestamp(&text(w)));
    let watermark = watermarked.then(|| Some(got.watermark_ms * 1000));
    if wanted_watermark != watermark {
        return Err(format!(
            "{at}: watermark {}, expected {:?}",
            format_timestamp(got.watermark_ms * 1000),
            wanted.get("watermark")
        ));
    }
    let row = |row: &Json| types.iter().enumerate().map(|(i, (_, ty))| value(&row[i], ty)).collect::<Vec<_>>();
    let rows: Vec<Vec<Value>> = wanted["rows"].as_array().map(|r| r.iter().map(row).collect()).unwrap_or_default();
    if !same_rows(got.rows.clone(), rows.clone(), ordered) {
        return Err(format!("{at}: rows {:?}\n    expected {rows:?}", got.rows));
    }
    Ok(())
}

/// Fails where a case differs; answers the cases of our own that are outside the model.
fn check(cases: &[(String, Json)]) -> Vec<&str> {
    let only = std::env::var("CASE").unwrap_or_default();
    let (mut failures, mut beyond) = (BTreeMap::new(), vec![]);
    for (name, case) in cases.iter().filter(|(name, _)| name.contains(&only)) {
        match run(case) {
            // Our own cases also ask for what a naive interpreter need not know: functions, types.
            Err(why) if name.starts_with("own-") && why.starts_with(OUTSIDE) => beyond.push(name.as_str()),
            Err(why) => drop(failures.insert(name, why)),
            Ok(()) => {}
        }
    }
    let report: Vec<String> = failures.iter().map(|(name, why)| format!("{name}: {why}")).collect();
    assert!(failures.is_empty(), "{} of {} cases differ:\n{}", failures.len(), cases.len(), report.join("\n"));
    beyond
}

#[test]
fn the_model_gives_what_spark_gave() {
    let cases = cases(&folder("../tests/conformance"));
    assert!(cases.len() >= 500, "only {} cases", cases.len());
    let beyond = check(&cases);
    if std::env::var_os("CASE").is_none() {
        assert_eq!(beyond, BEYOND_MODEL, "other cases than the listed ones are outside the model");
    }
}

#[test]
fn the_model_knows_what_no_document_says() {
    let cases = cases(&folder("tests/facts"));
    assert!(cases.len() >= 90, "only {} facts", cases.len());
    assert_eq!(check(&cases), Vec::<&str>::new(), "every fact is the model's to answer");
}
