//! A scalar function of our own, written down once: a name, how its result is typed, how a batch is computed.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::internal_err;
use datafusion::error::Result;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

/// Types the result from the arguments, and refuses arguments that do not fit.
pub type ResultField = fn(&str, ReturnFieldArgs) -> Result<FieldRef>;
/// Gives the types to which arguments are cast before a call; the identity when the function takes what comes.
pub type Coerce = fn(&str, &[DataType]) -> Result<Vec<DataType>>;
/// Computes a batch: all arguments as arrays of `rows` values.
pub type Compute = fn(Arguments) -> Result<ArrayRef>;

/// Gives the optimizer something better than the call, where there is something.
pub type Simplify = fn(Vec<Expr>, &SimplifyContext) -> Result<ExprSimplifyResult>;

/// What a function computes from.
#[derive(Debug)]
pub struct Arguments {
    /// The arguments, each with as many values as the batch has rows.
    pub arrays: Vec<ArrayRef>,
    /// How many rows the batch has.
    pub rows: usize,
    /// The type that the result must have.
    pub field: FieldRef,
}

/// A scalar function: its parts are plain functions, so that what it does stands in one place.
#[derive(Clone)]
pub struct Call {
    name: &'static str,
    signature: Signature,
    field: ResultField,
    coerce: Coerce,
    compute: Option<Compute>,
    simplify: Option<Simplify>,
}

impl Call {
    /// A function that is computed.
    pub fn computed(name: &'static str, coerce: Coerce, field: ResultField, compute: Compute) -> Arc<ScalarUDF> {
        Self::udf(name, coerce, field, Some(compute), None)
    }

    /// [`Call::computed`], for which the optimizer may know something better.
    pub fn with_simplify(
        name: &'static str,
        coerce: Coerce,
        field: ResultField,
        compute: Compute,
        simplify: Simplify,
    ) -> Arc<ScalarUDF> {
        Self::udf(name, coerce, field, Some(compute), Some(simplify))
    }

    /// A function that a rewrite replaces before anything runs.
    pub fn marker(name: &'static str, field: ResultField) -> Arc<ScalarUDF> {
        Self::udf(name, as_they_are, field, None, None)
    }

    fn udf(
        name: &'static str,
        coerce: Coerce,
        field: ResultField,
        compute: Option<Compute>,
        simplify: Option<Simplify>,
    ) -> Arc<ScalarUDF> {
        // A marker must not be folded or shared by the optimizer as if it had a value.
        let signature = Signature::user_defined(Volatility::Immutable);
        Arc::new(ScalarUDF::new_from_impl(Self { name, signature, field, coerce, compute, simplify }))
    }
}

/// [`Coerce`] that takes the arguments as they come.
pub fn as_they_are(_: &str, types: &[DataType]) -> Result<Vec<DataType>> {
    Ok(types.to_vec())
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Call({})", self.name)
    }
}

/// Names are unique in a session, so a function is its name.
impl PartialEq for Call {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Call {}

impl Hash for Call {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for Call {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        (self.coerce)(self.name, arg_types)
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        internal_err!("{} is typed from its arguments", self.name)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        (self.field)(self.name, args)
    }

    fn simplify(&self, args: Vec<Expr>, info: &SimplifyContext) -> Result<ExprSimplifyResult> {
        match self.simplify {
            Some(simplify) => simplify(args, info),
            None => Ok(ExprSimplifyResult::Original(args)),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let Some(compute) = self.compute else {
            return internal_err!("{} was left in a plan that runs", self.name);
        };
        // A call of constants is computed once, on one row.
        let constant = args.args.iter().all(|a| matches!(a, ColumnarValue::Scalar(_)));
        let rows = if constant { 1 } else { args.number_rows };
        let arrays = args.args.into_iter().map(|a| a.into_array(rows)).collect::<Result<Vec<_>>>()?;
        let result = compute(Arguments { arrays, rows, field: args.return_field })?;
        if constant {
            return datafusion::common::ScalarValue::try_from_array(&result, 0).map(ColumnarValue::Scalar);
        }
        Ok(ColumnarValue::Array(result))
    }
}
