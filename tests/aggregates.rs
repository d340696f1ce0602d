//! Every aggregate function there is keeps its state over batches and restarts: what complete mode answers after the
//! last batch is what a static query over all rows answers.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use arrow::array::{ArrayRef, AsArray, RecordBatch, StringArray};
use arrow::datatypes::Float64Type;
use arrow::util::pretty::pretty_format_batches;
use wavetank::engine::sql::parse_ddl_schema;
use wavetank::prelude::*;
use wavetank::sinks::{ForeachBatch, ForeachBatchProvider};
use wavetank::{Environment, Error};

/// Calls by the registered name of the function; several names may be one function.
const CALLS: &[(&str, &str)] = &[
    ("any_value", "any_value(c)"),
    ("approx_distinct", "approx_distinct(v)"),
    ("approx_count_distinct", "approx_count_distinct(v)"),
    ("approx_median", "approx_median(v)"),
    ("approx_percentile_cont", "approx_percentile_cont(0.5) WITHIN GROUP (ORDER BY v)"),
    ("approx_percentile_cont_with_weight", "approx_percentile_cont_with_weight(v, 0.5) WITHIN GROUP (ORDER BY v)"),
    ("approx_percentile", "approx_percentile(v, 0.5)"),
    ("array_agg", "array_agg(v)"),
    ("avg", "avg(v)"),
    ("mean", "mean(v)"),
    ("bit_and", "bit_and(v)"),
    ("bit_or", "bit_or(v)"),
    ("bit_xor", "bit_xor(v)"),
    ("bool_and", "bool_and(v > 1)"),
    ("bool_or", "bool_or(v > 1)"),
    ("collect_list", "collect_list(v)"),
    ("collect_set", "array_sort(collect_set(v))"),
    ("corr", "corr(v, d)"),
    ("count", "count(v)"),
    ("covar", "covar(v, d)"),
    ("covar_pop", "covar_pop(v, d)"),
    ("covar_samp", "covar_samp(v, d)"),
    ("first_value", "first_value(v)"),
    ("kurtosis", "kurtosis(v)"),
    ("last_value", "last_value(v)"),
    ("max", "max(s)"),
    ("max_by", "max_by(s, d)"),
    ("min_by", "min_by(s, d)"),
    ("mode", "mode(c)"),
    ("max", "max(struct(v, s)).s"),
    ("median", "median(v)"),
    ("min", "min(s)"),
    ("min", "array_max(min(array(v, 1L)))"),
    ("nth_value", "nth_value(v, 2)"),
    ("percentile_approx", "percentile_approx(d, 0.25)"),
    ("percentile_cont", "percentile_cont(0.25) WITHIN GROUP (ORDER BY d)"),
    ("quantile_cont", "quantile_cont(0.25) WITHIN GROUP (ORDER BY d)"),
    ("regr_avgx", "regr_avgx(v, d)"),
    ("regr_avgy", "regr_avgy(v, d)"),
    ("regr_count", "regr_count(v, d)"),
    ("regr_intercept", "regr_intercept(v, d)"),
    ("regr_r2", "regr_r2(v, d)"),
    ("regr_slope", "regr_slope(v, d)"),
    ("regr_sxx", "regr_sxx(v, d)"),
    ("regr_sxy", "regr_sxy(v, d)"),
    ("regr_syy", "regr_syy(v, d)"),
    ("skewness", "skewness(v)"),
    ("stddev", "stddev(v)"),
    ("stddev_pop", "stddev_pop(v)"),
    ("stddev_samp", "stddev_samp(v)"),
    ("string_agg", "string_agg(s, '-')"),
    ("sum", "sum(v)"),
    ("try_sum", "try_sum(v)"),
    ("var", "var(v)"),
    ("var_pop", "var_pop(v)"),
    ("var_population", "var_population(v)"),
    ("var_samp", "var_samp(v)"),
    ("var_sample", "var_sample(v)"),
];

/// Functions that answer something only together with what streams do not have.
const NOT_ALONE: &[&str] = &["grouping"];

const COLUMNS: &str = "k STRING, c STRING, v BIGINT, d DOUBLE, s STRING";
const BLOCKS: [&str; 3] = [
    r#"{"k":"a","c":"x","v":1,"d":0.5,"s":"p"}
{"k":"a","c":"x","v":null,"d":1.5,"s":null}
{"k":"b","c":"y","v":7,"d":-2.0,"s":"q"}
{"k":null,"c":null,"v":null,"d":null,"s":null}
"#,
    r#"{"k":"a","c":"x","v":4,"d":2.5,"s":"r"}
{"k":"b","c":"y","v":2,"d":8.0,"s":"a"}
{"k":"c","c":"z","v":9,"d":1.0,"s":"m"}
"#,
    r#"{"k":"b","c":"y","v":3,"d":3.25,"s":"t"}
{"k":"a","c":"x","v":6,"d":4.0,"s":"b"}
{"k":null,"c":null,"v":5,"d":1.25,"s":"n"}
"#,
];

#[tokio::test]
async fn every_registered_aggregate_function_is_in_the_table() -> wavetank::Result<()> {
    let session = wavetank::session()?;
    let listed: BTreeSet<_> = CALLS.iter().map(|(name, _)| *name).chain(NOT_ALONE.iter().copied()).collect();
    let state = session.datafusion().state();
    let missing: BTreeSet<_> =
        state.aggregate_functions().keys().filter(|name| !listed.contains(name.as_str())).cloned().collect();
    assert_eq!(missing, BTreeSet::new());
    Ok(())
}

#[tokio::test]
async fn state_over_batches_and_restarts_is_what_a_static_query_answers() -> wavetank::Result<()> {
    let mut wrong = vec![];
    for (name, call) in CALLS {
        for query in [by_key(call), over_all(call)] {
            match (streamed(&query).await, at_once(&query).await) {
                (Ok(streamed), Ok(at_once)) if streamed == at_once => {}
                (streamed, at_once) => {
                    wrong.push(format!("{name}: {query}\n stream {streamed:?}\n static {at_once:?}"))
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

fn by_key(call: &str) -> String {
    format!("SELECT k, {call} AS answer FROM events GROUP BY k ORDER BY k")
}

/// Without groups: other accumulators.
fn over_all(call: &str) -> String {
    format!("SELECT {call} AS answer FROM events")
}

/// The last batch's answer, after a restart before each block.
async fn streamed(query: &str) -> Result<String, Error> {
    let folder = tempfile::tempdir().expect("a folder");
    let stream = MemoryStream::new(parse_ddl_schema(COLUMNS)?);
    let last = Arc::new(Mutex::new(String::new()));
    for block in BLOCKS {
        stream.add_json(block)?;
        let session = wavetank::session_builder(Environment::real(folder.path().to_owned())).build()?;
        let frame = session.stream_of("events", Arc::new(stream.clone()), Default::default()).await?;
        frame.create_or_replace_temp_view("events")?;
        let seen = Arc::clone(&last);
        let sink = ForeachBatchProvider::blocking(move |batch: ForeachBatch| {
            *seen.lock().expect("no panic here") = text(&batch.rows);
            Ok::<(), Error>(())
        });
        let query = session
            .sql(query)
            .await?
            .write_stream()
            .sink(Arc::new(sink))
            .output_mode(OutputMode::Complete)
            .trigger(Trigger::AvailableNow)
            .option("checkpointLocation", "checkpoint")
            .start()
            .await?;
        query.await_termination().await?;
    }
    let last = last.lock().expect("no panic here").clone();
    Ok(last)
}

async fn at_once(query: &str) -> Result<String, Error> {
    let session = wavetank::session_builder(Environment::real("/".into())).build()?;
    let schema = parse_ddl_schema(COLUMNS)?;
    let rows = wavetank::sources::parse_json_lines(&schema, &BLOCKS.concat(), &Default::default())?;
    let table = datafusion::datasource::MemTable::try_new(schema, vec![vec![rows]])?;
    session.register_table("events", Arc::new(table))?;
    let rows = session.sql(query).await?.collect().await?;
    Ok(text(&rows))
}

/// The rows as text; floating point to ten digits, because sums are added up in another order.
fn text(rows: &[RecordBatch]) -> String {
    let rounded = rows.iter().map(|rows| {
        let columns = rows.columns().iter().map(|column| match column.as_primitive_opt::<Float64Type>() {
            Some(values) => {
                let digits = values.iter().map(|value| value.map(|value| format!("{:.9e}", value + 0.0)));
                Arc::new(digits.collect::<StringArray>()) as ArrayRef
            }
            None => Arc::clone(column),
        });
        let names = rows.schema().fields().iter().map(|field| field.name().clone()).collect::<Vec<_>>();
        RecordBatch::try_from_iter_with_nullable(
            names.into_iter().zip(columns).map(|(name, column)| (name, column, true)),
        )
        .expect("columns of one length")
    });
    pretty_format_batches(&rounded.collect::<Vec<_>>()).expect("printable rows").to_string()
}
