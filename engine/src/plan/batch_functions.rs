//! Functions whose answer belongs to the batch: the current time, and random values.
//!
//! DataFusion folds `now()` into a constant when it plans, and draws `random()` and `uuid()` from the operating system.
//! A streaming plan is planned once and runs for many batches, and a batch that is run again must repeat itself. So
//! before the optimizer sees the plan these functions are replaced by ones that ask the [`BatchContext`]
//! (`spec/01` step 3.3, ARCHITECTURE section 5).
//!
//! A random value depends on the query, the batch, the call in the plan and the number of the row. Rows have the same
//! numbers again only if they come in the same order, so a query with random functions reads its sources in one
//! partition ([`draws_randomly`]).

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, StringArray};
use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, LogicalPlan, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};
use rand::{Rng, RngCore};

use crate::environment::Entropy;
use crate::operators::batch::BatchContext;

/// The functions whose answer is the batch timestamp, as DataFusion and Spark name them.
const CURRENT_TIME: [&str; 8] = [
    "now",
    "current_timestamp",
    "current_date",
    "today",
    "curdate",
    "localtimestamp",
    "current_time",
    "transaction_timestamp",
];
/// The functions whose answer is drawn for every row.
const RANDOM: [&str; 2] = ["random", "uuid"];

/// Replaces every such function of the plan.
pub fn bind_batch_functions(plan: LogicalPlan, context: &Arc<BatchContext>) -> Result<LogicalPlan> {
    let mut calls = 0;
    let bound = plan.transform_up_with_subqueries(|node| {
        node.map_expressions(|expr| {
            let name = expr.schema_name().to_string();
            let bound = expr.transform_up(|expr| bind(expr, context, &mut calls))?;
            // The column keeps the name that the user's expression gave it.
            Ok(if bound.transformed { bound.update_data(|expr| named(expr, name)) } else { bound })
        })
    })?;
    Ok(bound.data)
}

/// Whether a plan draws random values.
pub fn draws_randomly(plan: &LogicalPlan) -> Result<bool> {
    let mut found = false;
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            found |= expr.exists(|expr| Ok(matches!(expr, Expr::ScalarFunction(call) if is_random(call))))?;
            Ok(TreeNodeRecursion::Continue)
        })
    })?;
    Ok(found)
}

fn is_random(call: &ScalarFunction) -> bool {
    call.args.is_empty() && RANDOM.contains(&call.func.name())
}

fn named(expr: Expr, name: String) -> Expr {
    if expr.schema_name().to_string() == name { expr } else { expr.alias(name) }
}

fn bind(expr: Expr, context: &Arc<BatchContext>, calls: &mut usize) -> Result<Transformed<Expr>> {
    let Expr::ScalarFunction(call) = &expr else { return Ok(Transformed::no(expr)) };
    let kind = match call.func.name() {
        name if call.args.is_empty() && CURRENT_TIME.contains(&name) => Kind::CurrentTime,
        "random" if is_random(call) => Kind::Random,
        "uuid" if is_random(call) => Kind::Uuid,
        _ => return Ok(Transformed::no(expr)),
    };
    *calls += 1;
    let function = BatchFunction {
        name: call.func.name().to_owned(),
        kind,
        call: *calls,
        return_type: expr.get_type(&datafusion::common::DFSchema::empty())?,
        context: Arc::clone(context),
        signature: Signature::nullary(Volatility::Volatile),
    };
    let func = Arc::new(ScalarUDF::from(function));
    Ok(Transformed::yes(Expr::ScalarFunction(ScalarFunction::new_udf(func, vec![]))))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    CurrentTime,
    Random,
    Uuid,
}

/// A function bound to a query.
#[derive(Debug)]
struct BatchFunction {
    name: String,
    kind: Kind,
    /// Which call of the plan it is: two calls of `random()` differ.
    call: usize,
    return_type: DataType,
    context: Arc<BatchContext>,
    signature: Signature,
}

impl PartialEq for BatchFunction {
    fn eq(&self, other: &Self) -> bool {
        (&self.name, self.call) == (&other.name, other.call) && Arc::ptr_eq(&self.context, &other.context)
    }
}

impl Eq for BatchFunction {}

impl Hash for BatchFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.name, self.call).hash(state);
    }
}

impl ScalarUDFImpl for BatchFunction {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _args: &[DataType]) -> Result<DataType> {
        Ok(self.return_type.clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let batch = self.context.current();
        if self.kind == Kind::CurrentTime {
            let moment = ScalarValue::TimestampMillisecond(Some(batch.timestamp_ms), None);
            return Ok(ColumnarValue::Scalar(moment.cast_to(&self.return_type)?));
        }
        let rows = args.number_rows;
        let first = batch.number_rows(self.call, rows as u64);
        let stream_of = |row: u64| Entropy::from_seed(batch.seed).fork(&format!("{}/{row}", self.call)).stream();
        let drawn = (first..first + rows as u64).map(stream_of);
        let values: ArrayRef = match self.kind {
            Kind::Uuid => Arc::new(StringArray::from_iter_values(drawn.map(|mut stream| {
                let mut bytes = [0; 16];
                stream.fill_bytes(&mut bytes);
                uuid::Builder::from_random_bytes(bytes).into_uuid().to_string()
            }))),
            _ => Arc::new(Float64Array::from_iter_values(drawn.map(|mut stream| stream.random::<f64>()))),
        };
        Ok(ColumnarValue::Array(arrow::compute::cast(&values, &self.return_type)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operators::batch::Batch;

    fn drawn(kind: Kind, batch: Batch) -> ArrayRef {
        let context = Arc::new(BatchContext::default());
        context.begin(batch);
        let function = BatchFunction {
            name: "f".into(),
            kind,
            call: 1,
            return_type: if kind == Kind::Uuid { DataType::Utf8 } else { DataType::Float64 },
            context,
            signature: Signature::nullary(Volatility::Volatile),
        };
        let field = Arc::new(arrow::datatypes::Field::new("f", function.return_type.clone(), true));
        let args = ScalarFunctionArgs {
            args: vec![],
            arg_fields: vec![],
            number_rows: 3,
            return_field: field,
            config_options: Arc::default(),
        };
        function.invoke_with_args(args).unwrap().into_array(3).unwrap()
    }

    #[test]
    fn a_batch_run_again_draws_the_same_values_and_the_next_one_others() {
        for kind in [Kind::Random, Kind::Uuid] {
            let of_seed = |seed| drawn(kind, Batch { seed, ..Batch::default() });
            assert_eq!(&of_seed(1), &of_seed(1));
            assert_ne!(&of_seed(1), &of_seed(2));
        }
    }
}
