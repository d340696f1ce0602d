//! What panes save: a batch's rows to merged state, given to windows row by row against aggregated by pane first.
//!
//! `cargo bench --bench sliding [-- ROWS]`; rows/s of one core, best of five; the ratio is what it
//! is for. Both sides end in the same state, which is checked.

use std::sync::Arc;
use std::time::Instant;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::common::ScalarValue;
use datafusion::config::ConfigOptions;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::error::Result;
use datafusion::execution::TaskContext;
use datafusion::functions_aggregate::{count::count_udaf, min_max::max_udaf, sum::sum_udaf};
use datafusion::physical_expr::ScalarFunctionExpr;
use datafusion::physical_expr::aggregate::{AggregateExprBuilder, AggregateFunctionExpr};
use datafusion::physical_expr::expressions::{Literal, col};
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode, PhysicalGroupBy};
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::{ExecutionPlan, PhysicalExpr, collect};
use wavetank::engine::environment::Environment;
use wavetank::engine::functions::window::{SLICE_START_CALL, functions, pane_width};
use wavetank::engine::functions::window_expand::{Sliding, TimeWindowExpandExec};
use wavetank::engine::operators::aggregate::Aggregation;
use wavetank::engine::operators::batch::{Batch, BatchContext, OperatorWatermarks};
use wavetank::engine::operators::pane_windows::PaneWindowsWork;
use wavetank::engine::operators::stateful::{NoDataBatch, StatefulOperator};
use wavetank::engine::operators::stateful_exec::StatefulExec;
use wavetank::engine::operators::stateless_exec::StatelessExec;
use wavetank::engine::sink::OutputMode;
use wavetank::engine::sql::parse_ddl_schema;
use wavetank::engine::state::{OperatorSpec, OperatorState, SnapshotPolicy, StoreSpec};

const SECOND: i64 = 1_000_000;
const BATCH_ROWS: usize = 8_192;
const KEYS: usize = 1_000;
/// How much time the rows of a batch spread over.
const SPREAD_US: i64 = 600 * SECOND;

/// Rows in order of time, as record batches of a source have them.
fn rows(count: usize) -> (SchemaRef, Vec<RecordBatch>) {
    let schema = parse_ddl_schema("ts TIMESTAMP, k STRING, v BIGINT").expect("a schema");
    let batch = |from: usize| {
        let of_batch = from..count.min(from + BATCH_ROWS);
        let time = |row: usize| 1_700_000_000 * SECOND + SPREAD_US * row as i64 / count as i64;
        let key = |row: usize| format!("campaign-{:04}", row * 7_919 % KEYS);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(TimestampMicrosecondArray::from_iter_values(of_batch.clone().map(time)).with_timezone("UTC")),
            Arc::new(StringArray::from_iter_values(of_batch.clone().map(key))),
            Arc::new(Int64Array::from_iter_values(of_batch.map(|row| row as i64 % 100))),
        ];
        RecordBatch::try_new(Arc::clone(&schema), columns).expect("columns of the schema")
    };
    let batches = (0..count).step_by(BATCH_ROWS).map(batch).collect();
    (schema, batches)
}

fn window_field() -> Arc<Field> {
    let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let bounds = ["start", "end"].map(|name| Field::new(name, time.clone(), true));
    Arc::new(Field::new("w", DataType::Struct(bounds.to_vec().into()), false))
}

/// count(*), sum(v), max(v), and the number of rows for late ones.
fn aggregates(schema: &SchemaRef) -> Result<Vec<Arc<AggregateFunctionExpr>>> {
    let v = || col("v", schema);
    let one = || -> Arc<dyn PhysicalExpr> { Arc::new(Literal::new(ScalarValue::Int64(Some(1)))) };
    [(count_udaf(), one(), "n"), (sum_udaf(), v()?, "s"), (max_udaf(), v()?, "m"), (count_udaf(), one(), "__rows")]
        .into_iter()
        .map(|(function, argument, name)| {
            let builder = AggregateExprBuilder::new(function, vec![argument]);
            builder.schema(Arc::clone(schema)).alias(name).build().map(Arc::new)
        })
        .collect()
}

/// Partial states by window and key.
fn partial(input: Arc<dyn ExecutionPlan>, windows: Sliding, by_panes: bool) -> Result<Arc<dyn ExecutionPlan>> {
    let schema = input.schema();
    let expanded: Arc<dyn ExecutionPlan> = if by_panes {
        let width = pane_width(windows.window_us, windows.slide_us);
        let number = |us: i64| -> Arc<dyn PhysicalExpr> { Arc::new(Literal::new(ScalarValue::Int64(Some(us)))) };
        let slice_start = functions().into_iter().find(|f| f.name() == SLICE_START_CALL).expect("a function");
        let arguments = vec![col("ts", &schema)?, number(width), number(windows.start_us)];
        let config = Arc::new(ConfigOptions::default());
        let pane = Arc::new(ScalarFunctionExpr::try_new(slice_start, arguments, &schema, config)?);
        let columns = [("k", col("k", &schema)?), ("v", col("v", &schema)?), ("w", pane)];
        let columns = columns.map(|(name, expr)| (expr, name.to_owned())).to_vec();
        Arc::new(ProjectionExec::try_new(columns, input)?)
    } else {
        let mut fields = schema.fields().to_vec();
        fields.push(window_field());
        let expanded = Arc::new(Schema::new(fields));
        Arc::new(TimeWindowExpandExec::new(input, col("ts", &schema)?, windows, expanded))
    };
    let schema = expanded.schema();
    let groups = ["w", "k"].map(|name| col(name, &schema).map(|column| (column, name.to_owned())));
    let groups = groups.into_iter().collect::<Result<Vec<_>>>()?;
    let functions = aggregates(&schema)?;
    let filters = vec![None; functions.len()];
    let groups = PhysicalGroupBy::new_single(groups);
    let partial = AggregateExec::try_new(AggregateMode::Partial, groups, functions, filters, expanded, schema)?;
    let partial: Arc<dyn ExecutionPlan> = Arc::new(partial);
    let work = PaneWindowsWork { column: 0, windows, window: window_field() };
    Ok(if by_panes { StatelessExec::over(partial, Arc::new(work)) } else { partial })
}

/// Runs one batch into empty state; seconds, and how many groups there are.
async fn run(schema: &SchemaRef, batches: &[RecordBatch], windows: Sliding, by_panes: bool) -> Result<(f64, u64)> {
    let input = MemorySourceConfig::try_new_exec(&[batches.to_vec()], Arc::clone(schema), None)?;
    let mut functions = aggregates(schema)?;
    functions.pop();
    let keys = vec![window_field(), Arc::new(Field::new("k", DataType::Utf8, true))];
    let mut output = keys.clone();
    output.extend(functions.iter().map(|function| function.field()));
    let aggregation = Aggregation { functions, keys, event_time_key: Some(0), mode: OutputMode::Append };
    let stores = vec![StoreSpec::default_store(aggregation.state_schema()?)];
    let spec = OperatorSpec { operator_id: 0, name: "stateStoreSave".into(), partitions: 1, stores, evolution: None };
    let folder = tempfile::tempdir()?;
    let environment = Environment::real(folder.path().to_owned());
    let state = environment.storage.folder("state")?;
    let wants = NoDataBatch::Never;
    let operator = Arc::new(StatefulOperator::new("stateStoreSave", spec.clone(), wants, environment.clock));
    operator.set_state(OperatorState::new(&state, spec, SnapshotPolicy::default())?)?;
    operator.begin(0).await?;
    let context = Arc::new(BatchContext::default());
    context.begin(Batch { watermarks: vec![OperatorWatermarks::default()], ..Batch::default() });
    let partial = partial(input, windows, by_panes)?;
    let output = Arc::new(Schema::new(output));
    let plan = StatefulExec::new(vec![partial], Arc::new(aggregation), Arc::clone(&operator), context, output);
    let began = Instant::now();
    collect(Arc::new(plan), Arc::new(TaskContext::default())).await?;
    let seconds = began.elapsed().as_secs_f64();
    Ok((seconds, operator.commit().await?.num_rows_total))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let count = std::env::args().find_map(|arg| arg.parse().ok()).unwrap_or(2_000_000);
    let (schema, batches) = rows(count);
    println!("{count} rows over {} s, {KEYS} keys; rows/s", SPREAD_US / SECOND);
    println!("{:<24} {:>12} {:>12} {:>7} {:>10}", "window / slide", "row by row", "by pane", "ratio", "groups");
    for (window, slide) in [(10, 10), (60, 60), (60, 30), (600, 60), (3_600, 60), (90, 60)] {
        let windows = Sliding { window_us: window * SECOND, slide_us: slide * SECOND, start_us: 0 };
        let (mut best, mut groups) = ([f64::INFINITY; 2], [0; 2]);
        for _ in 0..5 {
            for by_panes in [false, true] {
                let (seconds, found) = run(&schema, &batches, windows, by_panes).await?;
                best[usize::from(by_panes)] = seconds.min(best[usize::from(by_panes)]);
                groups[usize::from(by_panes)] = found;
            }
        }
        assert_eq!(groups[0], groups[1], "both ways have the same groups");
        let [rows, panes] = best.map(|seconds| count as f64 / seconds);
        let name = format!("{window} s / {slide} s");
        println!("{name:<24} {rows:>12.0} {panes:>12.0} {:>7.1} {:>10}", panes / rows, groups[0]);
    }
    Ok(())
}
