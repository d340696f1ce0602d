//! The model where the case files cannot go: restarts at odd moments, the ledger's buckets, errors while running.

use super::*;

const SECOND_US: i64 = 1_000_000;

fn query(views: &[(&str, ViewKind)], sql: &str, mode: OutputMode) -> Query {
    let columns = parse_schema("ts TIMESTAMP, k STRING, v BIGINT").expect("schema");
    Query {
        sources: vec![Source { name: "events".into(), columns }],
        tables: Vec::new(),
        views: views.iter().map(|(name, kind)| View { name: (*name).into(), kind: kind.clone() }).collect(),
        sql: sql.into(),
        mode,
        conf: BTreeMap::new(),
    }
}

fn watermark(delay: &str) -> (&'static str, ViewKind) {
    let kind = ViewKind::Watermark { from: "events".into(), column: "ts".into(), delay: delay.into() };
    ("e", kind)
}

fn row(second: i64, k: &str, v: i64) -> Vec<Value> {
    vec![Value::Timestamp(second * SECOND_US), Value::Text(k.into()), Value::Int(v)]
}

const WINDOWS: &str = "SELECT w.start AS s, n FROM \
    (SELECT window(ts, '5 seconds') AS w, count(*) AS n FROM e GROUP BY window(ts, '5 seconds'))";

fn windows() -> Model {
    let query = query(&[watermark("10 seconds")], WINDOWS, OutputMode::Append);
    Model::new(&query).expect("accepted").with_ledger()
}

/// One batch of rows at some seconds: (start second, count) of every window that came out.
fn seconds(model: &mut Model, rows: &[i64]) -> Vec<(i64, i64)> {
    let rows = rows.iter().map(|s| row(*s, "a", 0)).collect();
    let batch = model.run_batch(&[rows], 0).expect("a batch");
    let pair = |row: &Vec<Value>| match row[..] {
        [Value::Timestamp(start), Value::Int(n)] => (start / SECOND_US, n),
        _ => panic!("{row:?}"),
    };
    let mut pairs: Vec<(i64, i64)> = batch.rows.iter().map(pair).collect();
    pairs.sort_unstable();
    pairs
}

/// spec/09 L01: a batch without data that was logged and cut off runs again after the restart, although a run
/// that begins does not ask for one by itself.
#[test]
fn a_batch_without_data_runs_again_after_a_crash() {
    let mut model = windows();
    assert_eq!(seconds(&mut model, &[10, 11, 12]), []);
    assert!(model.no_data_batch_due().expect("no error"));
    assert_eq!(seconds(&mut model, &[]), []);
    assert_eq!(seconds(&mut model, &[25]), []);
    model.restart();
    assert!(!model.no_data_batch_due().expect("no error"));
    assert_eq!(seconds(&mut model, &[]), [(10, 3)]);
    assert_eq!(seconds(&mut model, &[26]), []);
}

/// spec/02 section 7: the batch after a restart judges late rows by the watermark of the batch before it.
#[test]
fn a_late_row_is_accepted_in_the_batch_after_a_restart() {
    let mut model = windows();
    assert_eq!(seconds(&mut model, &[10]), []);
    assert_eq!(seconds(&mut model, &[25]), []);
    model.restart();
    assert_eq!(seconds(&mut model, &[14, 30]), [(10, 2)]);
    assert_eq!(seconds(&mut model, &[13]), []);
    assert_eq!(model.ledger().expect("kept").ends()[4], Bucket::Late);
}

#[test]
fn every_row_has_one_end() {
    let mut model = windows();
    seconds(&mut model, &[10, 11]);
    seconds(&mut model, &[]);
    seconds(&mut model, &[40]);
    seconds(&mut model, &[]);
    seconds(&mut model, &[12, 41]);
    let ledger = model.ledger().expect("kept");
    use Bucket::{Emitted, InState, Late};
    assert_eq!(ledger.ends(), [Emitted, Emitted, InState, Late, InState]);
    assert_eq!(BUCKETS.iter().map(|b| ledger.count(*b)).sum::<usize>(), 5);
    assert!(ledger.balances());
}

#[test]
fn duplicates_and_filtered_rows_have_their_buckets() {
    let dedup = ViewKind::DropDuplicates { from: "events".into(), columns: vec!["k".into()] };
    let query = query(&[("d", dedup)], "SELECT k FROM d WHERE k <> 'b'", OutputMode::Append);
    let mut model = Model::new(&query).expect("accepted").with_ledger();
    model.run_batch(&[vec![row(1, "a", 0), row(2, "a", 0), row(3, "b", 0)]], 0).expect("a batch");
    assert_eq!(model.ledger().expect("kept").ends(), [Bucket::Emitted, Bucket::Duplicate, Bucket::Filtered]);
}

#[test]
fn a_view_may_take_the_name_of_what_it_is_made_from() {
    let kind = ViewKind::Watermark { from: "events".into(), column: "ts".into(), delay: "0 seconds".into() };
    let model = Model::new(&query(&[("events", kind)], "SELECT k FROM events", OutputMode::Append));
    assert!(model.expect("accepted").has_watermark());
}

#[test]
fn overflow_ends_the_query_and_not_the_process() {
    let query = query(&[], "SELECT v * 2 AS v FROM events", OutputMode::Append);
    let mut model = Model::new(&query).expect("accepted");
    let refusal = model.run_batch(&[vec![row(1, "a", i64::MAX)]], 0).expect_err("an overflow");
    assert_eq!(refusal.class.as_deref(), Some("ARITHMETIC_OVERFLOW"));
    assert_eq!(refusal.seen_class(), Some("STREAM_FAILED"));
}

#[test]
fn what_the_model_does_not_know_it_does_not_guess() {
    for sql in [
        "SELECT k FROM events LATERAL VIEW explode(split(k, ' ')) t AS w",
        "SELECT no_such_function(k) FROM events",
        "SELECT k, count(*) FROM events GROUP BY ROLLUP (k)",
        "SELECT percentile(v, 0.5) FROM events",
        "VALUES (1)",
    ] {
        let refusal = Model::new(&query(&[], sql, OutputMode::Update)).err().expect(sql);
        assert_eq!(refusal.stage, Stage::BeyondModel, "{sql}: {refusal}");
    }
}

#[test]
fn a_watermark_clause_may_stand_behind_a_query_in_parentheses() {
    let sql = "SELECT window(t, '5 seconds') AS w, count(*) AS n \
        FROM STREAM (SELECT ts AS t, k FROM STREAM events) WATERMARK t DELAY OF INTERVAL 1 MINUTE 30 SECONDS AS x \
        GROUP BY window(x.t, '5 seconds')";
    let mut model = Model::new(&query(&[], sql, OutputMode::Append)).expect("accepted");
    model.run_batch(&[vec![row(100, "a", 0)]], 0).expect("a batch");
    assert_eq!(model.watermark_ms(), 10_000);
}

#[test]
fn the_ends_of_time_do_not_stop_the_model() {
    let mut model = windows();
    let rows = [i64::MIN, i64::MIN + 1, -1, 0, i64::MAX - 1, i64::MAX];
    let rows = rows.iter().map(|us| vec![Value::Timestamp(*us), Value::Null, Value::Null]).collect();
    model.run_batch(&[rows], 0).expect("a batch");
    while model.no_data_batch_due().expect("no error") {
        model.run_batch(&[Vec::new()], 0).expect("a batch");
    }
    assert!(model.ledger().expect("kept").balances());
}
