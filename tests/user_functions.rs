//! Users' functions in streams: scalar ones in every batch, aggregates with their state kept and restored.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type};
use arrow::util::pretty::pretty_format_batches;
use datafusion::common::ScalarValue;
use datafusion::error::Result as PlanResult;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, ColumnarValue, Signature, Volatility, create_udf,
};
use tempfile::TempDir;
use wavetank::engine::sql::parse_ddl_schema;
use wavetank::prelude::*;
use wavetank::sinks::{ForeachBatch, ForeachBatchProvider};
use wavetank::{Environment, Session};

/// The longest run of equal values so far: an aggregate that no kept sum or count could answer.
#[derive(Debug, PartialEq, Eq, Hash)]
struct LongestRun {
    signature: Signature,
}

impl AggregateUDFImpl for LongestRun {
    fn name(&self) -> &str {
        "longest_run"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> PlanResult<DataType> {
        Ok(DataType::Int64)
    }

    fn accumulator(&self, _arguments: AccumulatorArgs) -> PlanResult<Box<dyn Accumulator>> {
        Ok(Box::new(Run::default()))
    }

    fn state_fields(&self, _arguments: StateFieldsArgs) -> PlanResult<Vec<FieldRef>> {
        let field = |name: &str| Arc::new(Field::new(name, DataType::Int64, true));
        Ok(["last", "length", "longest"].map(field).to_vec())
    }
}

#[derive(Debug, Default)]
struct Run {
    last: Option<i64>,
    length: i64,
    longest: i64,
}

impl Accumulator for Run {
    fn update_batch(&mut self, values: &[ArrayRef]) -> PlanResult<()> {
        for value in values[0].as_primitive::<Int64Type>().iter().flatten() {
            self.length = if self.last == Some(value) { self.length + 1 } else { 1 };
            self.last = Some(value);
            self.longest = self.longest.max(self.length);
        }
        Ok(())
    }

    /// What comes is later than what is there.
    fn merge_batch(&mut self, states: &[ArrayRef]) -> PlanResult<()> {
        let column = |index: usize| states[index].as_primitive::<Int64Type>();
        for row in (0..states[0].len()).filter(|row| !states[0].is_null(*row)) {
            self.last = Some(column(0).value(row));
            self.length = column(1).value(row);
            self.longest = self.longest.max(column(2).value(row));
        }
        Ok(())
    }

    fn state(&mut self) -> PlanResult<Vec<ScalarValue>> {
        let numbers = [self.last, Some(self.length), Some(self.longest)];
        Ok(numbers.map(ScalarValue::Int64).to_vec())
    }

    fn evaluate(&mut self) -> PlanResult<ScalarValue> {
        Ok(ScalarValue::Int64(Some(self.longest)))
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }
}

fn session(folder: &TempDir) -> Session {
    let session = wavetank::session_builder(Environment::real(folder.path().to_owned())).build().unwrap();
    let doubled = |arguments: &[ColumnarValue]| {
        let arrays = ColumnarValue::values_to_arrays(arguments)?;
        let doubled: Int64Array = arrays[0].as_primitive::<Int64Type>().unary(|value| 2 * value);
        Ok(ColumnarValue::Array(Arc::new(doubled)))
    };
    let types = (vec![DataType::Int64], DataType::Int64);
    session.register_udf(create_udf("doubled", types.0, types.1, Volatility::Immutable, Arc::new(doubled)));
    let signature = Signature::exact(vec![DataType::Int64], Volatility::Immutable);
    session.register_udaf(AggregateUDF::from(LongestRun { signature }));
    session
}

/// Runs a query over one more batch of rows, in a new session on the same checkpoint; its answer.
async fn batch(folder: &TempDir, stream: &MemoryStream, query: &str, rows: &str) -> String {
    stream.add_json(&rows.replace("; ", "\n")).unwrap();
    let session = session(folder);
    let frame = session.stream_of("t", Arc::new(stream.clone()), Default::default()).await.unwrap();
    frame.create_or_replace_temp_view("t").unwrap();
    let answer: Arc<std::sync::Mutex<Vec<RecordBatch>>> = Arc::default();
    let kept = Arc::clone(&answer);
    let keep = ForeachBatchProvider::blocking(move |batch: ForeachBatch| {
        kept.lock().unwrap().extend(batch.rows);
        Ok::<_, wavetank::Error>(())
    });
    let writer = session.sql(query).await.unwrap().write_stream().sink(Arc::new(keep));
    let writer = writer.output_mode(OutputMode::Update).trigger(Trigger::AvailableNow);
    writer.option("checkpointLocation", "ck").start().await.unwrap().await_termination().await.unwrap();
    let answer = answer.lock().unwrap();
    let table = pretty_format_batches(&answer).unwrap().to_string();
    table.lines().filter(|line| line.starts_with("| ")).skip(1).map(str::trim).collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn a_scalar_function_is_called_in_every_batch() {
    let folder = tempfile::tempdir().unwrap();
    let stream = MemoryStream::new(parse_ddl_schema("k STRING, v BIGINT").unwrap());
    let query = "SELECT k, doubled(v) AS d FROM t WHERE doubled(v) > 2";
    assert_eq!(batch(&folder, &stream, query, r#"{"k":"a","v":1}; {"k":"b","v":2}"#).await, "| b | 4 |");
    assert_eq!(batch(&folder, &stream, query, r#"{"k":"c","v":5}"#).await, "| c | 10 |");
}

#[tokio::test]
async fn the_state_of_an_aggregate_function_is_kept_over_batches_and_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let stream = MemoryStream::new(parse_ddl_schema("k STRING, v BIGINT").unwrap());
    let query = "SELECT k, longest_run(v) AS longest, count(*) AS n FROM t GROUP BY k";
    let rows = r#"{"k":"a","v":1}; {"k":"a","v":1}; {"k":"b","v":7}"#;
    assert_eq!(batch(&folder, &stream, query, rows).await, "| a | 2       | 2 |\n| b | 1       | 1 |");
    // Each call is a run of its own: the first two rows of "a" are only in the state. The accumulator merges states,
    // so a run that goes on in the next batch begins anew there, and the longest so far is never forgotten.
    let rows = r#"{"k":"a","v":1}; {"k":"a","v":1}; {"k":"a","v":1}"#;
    assert_eq!(batch(&folder, &stream, query, rows).await, "| a | 3       | 5 |");
    assert_eq!(batch(&folder, &stream, query, r#"{"k":"a","v":9}"#).await, "| a | 3       | 6 |");
}

#[tokio::test]
async fn a_function_that_nobody_registered_is_refused_with_the_nearest_name() {
    let folder = tempfile::tempdir().unwrap();
    let session = session(&folder);
    let error = session.sql("SELECT doubledd(1)").await.unwrap_err();
    assert_eq!(error.class(), Some("UNRESOLVED_ROUTINE"), "{error}");
    assert!(error.to_string().contains("doubled"), "{error}");
}
