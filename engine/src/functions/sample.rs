//! Calls that look at which row it is: samples, and `monotonically_increasing_id()`. Streams refuse both (`plan::check`).

use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use arrow::array::{ArrayRef, AsArray, BooleanArray, Int64Array};
use arrow::datatypes::{DataType, Field, Float64Type};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result;
use datafusion::functions::math::expr_fn::random;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{
    ColumnarValue, Expr, LogicalPlan, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, lit,
};

use super::call::{Arguments, Call};

/// The condition that keeps a part of the rows: `__sample(random(), fraction)`.
pub const SAMPLE_CALL: &str = "__sample";
/// Numbers rows.
pub const MONOTONICALLY_INCREASING_ID: &str = "monotonically_increasing_id";

/// The functions of this file.
pub fn functions() -> Vec<Arc<ScalarUDF>> {
    vec![sample_udf(), Arc::new(ScalarUDF::from(RowIds::new()))]
}

/// The condition under which a row is part of a sample of `fraction` of the rows (0 to 1).
pub fn is_in_sample(fraction: f64) -> Expr {
    sample_udf().call(vec![random(), lit(fraction)])
}

fn sample_udf() -> Arc<ScalarUDF> {
    Call::computed(
        SAMPLE_CALL,
        |_, types| Ok(vec![DataType::Float64; types.len()]),
        |name, _| Ok(Arc::new(Field::new(name, DataType::Boolean, true))),
        |Arguments { arrays, .. }: Arguments| {
            let (drawn, fraction) = (arrays[0].as_primitive::<Float64Type>(), arrays[1].as_primitive::<Float64Type>());
            let kept = drawn.iter().zip(fraction).map(|(drawn, fraction)| Some(drawn? < fraction?));
            Ok(Arc::new(kept.collect::<BooleanArray>()) as ArrayRef)
        },
    )
}

/// Gives every call of `monotonically_increasing_id()` in a plan a count of its own, from 0.
pub fn begin_row_ids(plan: LogicalPlan) -> Result<LogicalPlan> {
    let counted = plan.transform_up_with_subqueries(|node| {
        node.map_expressions(|expr| {
            expr.transform_up(|expr| match &expr {
                Expr::ScalarFunction(call) if call.name() == MONOTONICALLY_INCREASING_ID => {
                    let function = Arc::new(ScalarUDF::from(RowIds::new()));
                    Ok(Transformed::yes(Expr::ScalarFunction(ScalarFunction::new_udf(function, vec![]))))
                }
                _ => Ok(Transformed::no(expr)),
            })
        })
    })?;
    Ok(counted.data)
}

/// Counts the rows that pass by; unique over the partitions of a query, increasing in each.
#[derive(Debug)]
struct RowIds {
    next: AtomicI64,
    signature: Signature,
}

impl RowIds {
    fn new() -> Self {
        Self { next: AtomicI64::new(0), signature: Signature::nullary(Volatility::Volatile) }
    }
}

/// Two calls are the same only if they share their count.
impl PartialEq for RowIds {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

impl Eq for RowIds {}

impl Hash for RowIds {
    fn hash<H: Hasher>(&self, state: &mut H) {
        MONOTONICALLY_INCREASING_ID.hash(state);
    }
}

impl ScalarUDFImpl for RowIds {
    fn name(&self) -> &str {
        MONOTONICALLY_INCREASING_ID
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Int64)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows as i64;
        let first = self.next.fetch_add(rows, Ordering::Relaxed);
        Ok(ColumnarValue::Array(Arc::new(Int64Array::from_iter_values(first..first + rows))))
    }
}
