//! `current_timestamp()` and its kin answer the batch timestamp: the same for every row, and again at a re-run.
//!
//! DataFusion folds them into constants when it plans; a streaming plan is planned once and runs for many batches, so
//! before the optimizer sees the plan they are replaced by functions that ask the [`BatchContext`] (`spec/01` step 3.3).

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, LogicalPlan, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};

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

/// Replaces every current-time function of the plan.
pub fn bind_batch_time(plan: LogicalPlan, context: &Arc<BatchContext>) -> Result<LogicalPlan> {
    let bound = plan.transform_up_with_subqueries(|node| {
        node.map_expressions(|expr| {
            let name = expr.schema_name().to_string();
            let bound = expr.transform_up(|expr| bind(expr, context))?;
            // The column keeps the name that the user's expression gave it.
            Ok(if bound.transformed { bound.update_data(|expr| named(expr, name)) } else { bound })
        })
    })?;
    Ok(bound.data)
}

fn named(expr: Expr, name: String) -> Expr {
    if expr.schema_name().to_string() == name { expr } else { expr.alias(name) }
}

fn bind(expr: Expr, context: &Arc<BatchContext>) -> Result<Transformed<Expr>> {
    match &expr {
        Expr::ScalarFunction(call) if call.args.is_empty() && CURRENT_TIME.contains(&call.func.name()) => {
            let return_type = expr.get_type(&datafusion::common::DFSchema::empty())?;
            let time = BatchTime {
                name: call.func.name().to_owned(),
                return_type,
                context: Arc::clone(context),
                signature: Signature::nullary(Volatility::Volatile),
            };
            let func = Arc::new(ScalarUDF::from(time));
            Ok(Transformed::yes(Expr::ScalarFunction(ScalarFunction::new_udf(func, vec![]))))
        }
        _ => Ok(Transformed::no(expr)),
    }
}

/// A current-time function bound to a query.
#[derive(Debug)]
struct BatchTime {
    name: String,
    return_type: DataType,
    context: Arc<BatchContext>,
    signature: Signature,
}

impl PartialEq for BatchTime {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.return_type == other.return_type && Arc::ptr_eq(&self.context, &other.context)
    }
}

impl Eq for BatchTime {}

impl Hash for BatchTime {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
        self.return_type.hash(state);
    }
}

impl ScalarUDFImpl for BatchTime {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _args: &[DataType]) -> Result<DataType> {
        Ok(self.return_type.clone())
    }

    fn invoke_with_args(&self, _args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let timestamp_ms = self.context.current().timestamp_ms;
        let moment = ScalarValue::TimestampMillisecond(Some(timestamp_ms), None);
        Ok(ColumnarValue::Scalar(moment.cast_to(&self.return_type)?))
    }
}
