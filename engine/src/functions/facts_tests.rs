//! Spark's functions, one fact a line: what Spark 4.3 answered for an expression (`spark_facts.jsonl`).
//!
//! Expressions up to `count(*)` are of the first row of the table, those after it of all three. What differs is listed
//! in `spark_facts_missing.txt` with the answer there is now: the test fails when that list is wrong in either direction.

use arrow::array::Array;
use datafusion::physical_plan::collect;
use datafusion::prelude::SessionContext;
use serde_json::Value;

use super::cast_text::to_strings;
use crate::error::Result;
use crate::functions::{session_builder, session_config};
use crate::sql::{plan_query, spark_type_name};

const FACTS: &str = include_str!("spark_facts.jsonl");
const MISSING: &str = include_str!("spark_facts_missing.txt");

const TABLE: &str = "SELECT * FROM VALUES
 (timestamp'2024-03-01 12:00:01.5', 'a', 5L, 1.5D, array(1,2), map('x',1), named_struct('x',1,'Y','s'), date'2024-03-01', 3, cast(1.25 as decimal(10,2)), cast(null as int)),
 (timestamp'2024-03-01 12:00:07',   'b', 7L, 2.5D, array(3),   map('y',2), named_struct('x',2,'Y','t'), date'2024-03-02', 4, cast(2.50 as decimal(10,2)), cast(null as int)),
 (timestamp'2024-03-01 12:00:12',   'c', 9L, 4.0D, cast(array() as array<int>), cast(null as map<string,int>), named_struct('x',3,'Y','u'), date'2024-03-03', 6, cast(3.75 as decimal(10,2)), cast(null as int))
 AS t(ts,k,v,d,a,m,s,dt,i,dec,n)";

/// Name, type and value (as Spark prints it) of the only column of the first row.
async fn answer(context: &SessionContext, sql: &str) -> Result<(String, String, Option<String>)> {
    let state = context.state();
    let plan = plan_query(&state, sql, &|input, _, _| Ok(input)).await?;
    let field = plan.schema().field(0).clone();
    let batches = collect(state.create_physical_plan(&plan).await?, context.task_ctx()).await?;
    let value = match batches.iter().find(|b| b.num_rows() > 0) {
        None => Some("no row".to_owned()),
        Some(batch) => {
            let column = batch.column(0);
            let texts = to_strings(column)?;
            (column.is_valid(0)).then(|| texts.value(0).to_owned())
        }
    };
    Ok((field.name().clone(), spark_type_name(field.data_type()), value))
}

/// The same text, or the same number within 1e-9.
fn same(found: Option<&str>, expected: Option<&str>) -> bool {
    match (found.and_then(|f| f.parse::<f64>().ok()), expected.and_then(|e| e.parse::<f64>().ok())) {
        (Some(f), Some(e)) if f != e => (f - e).abs() <= 1e-9 * e.abs() || f.is_nan() && e.is_nan(),
        _ => found == expected,
    }
}

/// What is wrong about one fact, if anything.
async fn difference(context: &SessionContext, fact: &Value) -> Option<String> {
    let rows = if fact["rows"] == "all" { "" } else { " WHERE v = 5" };
    let sql = format!("SELECT {} FROM t{rows}", fact["sql"].as_str().unwrap());
    let (name, data_type, value) = match answer(context, &sql).await {
        Ok(answer) => answer,
        Err(error) => return Some(format!("refused: {}", error.class().unwrap_or("without a class"))),
    };
    let expected = |key: &str| fact[key].as_str();
    // Spark says which fields of an interval a type has; we do not.
    let interval = expected("type").is_some_and(|t| t.starts_with("interval"));
    if !interval && expected("type") != Some(&data_type) {
        return Some(format!("type {data_type}"));
    }
    if interval || !same(value.as_deref(), expected("value")) && data_type != "void" {
        let value = value.unwrap_or_else(|| "null".to_owned());
        return (!interval || !data_type.starts_with("interval")).then(|| format!("value {value}"));
    }
    (expected("name") != Some(&name)).then(|| format!("name {name}"))
}

#[tokio::test]
async fn functions_answer_as_spark_does() {
    let context = SessionContext::new_with_state(session_builder(session_config(1)).build());
    let state = context.state();
    let table = plan_query(&state, TABLE, &|input, _, _| Ok(input)).await.unwrap();
    let batches = collect(state.create_physical_plan(&table).await.unwrap(), context.task_ctx()).await.unwrap();
    let table = datafusion::datasource::MemTable::try_new(batches[0].schema(), vec![batches]).unwrap();
    context.register_table("t", std::sync::Arc::new(table)).unwrap();
    let mut found = Vec::new();
    for line in FACTS.lines() {
        let fact: Value = serde_json::from_str(line).unwrap();
        if let Some(difference) = difference(&context, &fact).await {
            found.push(format!("{} => {difference}", fact["sql"].as_str().unwrap()));
        }
    }
    let found = found.join("\n");
    assert!(
        found == MISSING.trim_end(),
        "engine/src/functions/spark_facts_missing.txt should now be, of {} facts:\n{found}\n",
        FACTS.lines().count()
    );
}
