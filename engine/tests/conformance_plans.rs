//! Every query of the conformance cases plans, and has the columns, by Spark's names and types, that Spark gave it.
//!
//! What the rows are is checked by the runner of the root package; this test needs no sources, no sinks and no batch.
#![allow(clippy::disallowed_methods)] // a test reads its cases from files

use std::path::PathBuf;
use std::sync::Arc;

use datafusion::catalog::view::ViewTable;
use datafusion::common::Column;
use datafusion::datasource::empty::EmptyTable;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder};
use datafusion::prelude::SessionContext;
use serde_json::Value;
use wavetank_engine::functions::{session_builder, session_config};
use wavetank_engine::plan::nodes::Watermark;
use wavetank_engine::sql::{duration, parse_ddl_schema, plan_query, spark_type_name, stream_relation_name};
use wavetank_engine::{Error, Result};

/// Classes that are found while a query is planned; others are found later, by the checks for streaming.
const PLANNING_CLASSES: [&str; 3] =
    ["PARSE_SYNTAX_ERROR", "TABLE_OR_VIEW_NOT_FOUND", "DATATYPE_MISMATCH.PARAMETER_CONSTRAINT_VIOLATION"];

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("{key} of {value}"))
}

fn watermark(input: LogicalPlan, column: Column, delay_ms: i64) -> Result<LogicalPlan> {
    Watermark::try_new(input, column, delay_ms).map_err(Error::from)
}

async fn plan_case(case: &Value) -> Result<(SessionState, LogicalPlan)> {
    let state = session_builder(session_config(1)).build();
    let context = SessionContext::new_with_state(state);
    for (kind, stream) in [("sources", true), ("tables", false)] {
        for (name, source) in case[kind].as_object().into_iter().flatten() {
            let table = Arc::new(EmptyTable::new(parse_ddl_schema(text(source, "schema"))?));
            context.register_table(name.as_str(), Arc::clone(&table) as _)?;
            if stream {
                let name = stream_relation_name(name);
                context.register_table(datafusion::common::TableReference::bare(name), table)?;
            }
        }
    }
    for view in case["views"].as_array().into_iter().flatten() {
        let plan = match view["sql"].as_str() {
            Some(sql) => plan_query(&context.state(), sql, &watermark).await?,
            None => {
                let name = text(view, "from");
                let provider = context.table_provider(name).await?;
                let source = datafusion::datasource::provider_as_source(provider);
                let plan = LogicalPlanBuilder::scan(name, source, None)?.build()?;
                match view["withWatermark"].as_array() {
                    Some(mark) => {
                        let delay_ms = duration::watermark_delay_ms(mark[1].as_str().unwrap())?;
                        watermark(plan, Column::new_unqualified(mark[0].as_str().unwrap()), delay_ms)?
                    }
                    None => plan,
                }
            }
        };
        context.register_table(text(view, "name"), Arc::new(ViewTable::new(plan, None)))?;
    }
    let state = context.state();
    let plan = plan_query(&state, text(case, "sql"), &watermark).await?;
    Ok((state, plan))
}

/// What is wrong with a case, if anything.
async fn check(case: &Value) -> std::result::Result<(), String> {
    let planned = plan_case(case).await;
    let expect = &case["expect"];
    if let Some(class) = expect["error"]["class"].as_str().filter(|class| PLANNING_CLASSES.contains(class)) {
        return match planned {
            Err(error) if error.class() == Some(class) => Ok(()),
            Err(error) => Err(format!("expected {class}, got {error}")),
            Ok(_) => Err(format!("expected {class}, but it planned")),
        };
    }
    let expected: Vec<(String, String)> = match expect["schema"].as_array() {
        Some(schema) => {
            schema.iter().map(|c| (c[0].as_str().unwrap().to_owned(), c[1].as_str().unwrap().to_owned())).collect()
        }
        None => return Ok(()),
    };
    let (state, plan) = planned.map_err(|error| error.to_string())?;
    let columns = |plan: &LogicalPlan| -> Vec<(String, String)> {
        plan.schema().fields().iter().map(|f| (f.name().clone(), spark_type_name(f.data_type()))).collect()
    };
    if columns(&plan) != expected {
        return Err(format!("columns {:?}, expected {expected:?}", columns(&plan)));
    }
    let optimized = state.optimize(&plan).map_err(|error| format!("{error}\n{}", plan.display_indent()))?;
    if columns(&optimized) != expected {
        return Err(format!("optimized columns {:?}, expected {expected:?}", columns(&optimized)));
    }
    Ok(())
}

#[tokio::test]
async fn every_case_plans_to_the_columns_that_spark_gave() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/conformance");
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|e| e == "json"));
    files.sort();
    assert!(files.len() > 400, "the cases are in {}", folder.display());
    let mut wrong = Vec::new();
    for file in &files {
        let case: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
        if let Err(message) = check(&case).await {
            wrong.push(format!("{}: {}\n  {message}", file.file_name().unwrap().to_string_lossy(), case["sql"]));
        }
    }
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), files.len(), wrong.join("\n"));
}
