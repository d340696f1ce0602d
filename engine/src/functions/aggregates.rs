//! Aggregate functions that DataFusion lacks, or answers otherwise than Spark.
//!
//! `min` and `max` of structs and arrays order nulls first inside them, as Spark does (flat values are left to
//! DataFusion); `sum` and `avg` read texts as numbers; `skewness` and `kurtosis` are Spark's central moments. Absent:
//! what is another expression of functions there are (`sql::calls`).

use std::fmt;
use std::sync::Arc;

use super::decimal_average::{DecimalAverage, DecimalAverages};
use arrow::array::{Array, ArrayRef, AsArray, make_comparator};
use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type};
use datafusion::common::{ScalarValue, exec_err, plan_err};
use datafusion::error::Result;
use datafusion::functions_aggregate::{average, min_max, sum};
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::function::{AccumulatorArgs, AggregateFunctionSimplification, StateFieldsArgs};
use datafusion::logical_expr::type_coercion::functions::fields_with_udf;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, Expr, ExprSchemable, GroupsAccumulator, Signature, Volatility,
};

/// The functions of this file.
pub fn functions() -> Vec<Arc<AggregateUDF>> {
    let extremes = [("min", min_max::min_udaf(), false), ("max", min_max::max_udaf(), true)].map(
        |(name, flat, greatest)| -> Arc<dyn AggregateUDFImpl> {
            Arc::new(Extreme { name, flat, greatest, signature: user_defined() })
        },
    );
    let numeric = [("sum", sum::sum_udaf()), ("avg", average::avg_udaf())].map(
        |(name, of): (_, _)| -> Arc<dyn AggregateUDFImpl> {
            Arc::new(OfNumbers { name, of, signature: user_defined() })
        },
    );
    let shapes = [("skewness", Shape::Skewness), ("kurtosis", Shape::Kurtosis)].map(
        |(name, shape)| -> Arc<dyn AggregateUDFImpl> { Arc::new(Moments { name, shape, signature: user_defined() }) },
    );
    let all = extremes.into_iter().chain(numeric).chain(shapes);
    all.map(|function| Arc::new(AggregateUDF::new_from_shared_impl(function))).collect()
}

fn user_defined() -> Signature {
    Signature::user_defined(Volatility::Immutable)
}

/// The types that arguments have after DataFusion's own coercion for a function.
fn coerced(function: &AggregateUDF, types: &[DataType]) -> Result<Vec<DataType>> {
    let fields: Vec<FieldRef> = types.iter().map(|t| Arc::new(Field::new("", t.clone(), true))).collect();
    Ok(fields_with_udf(&fields, function)?.iter().map(|f| f.data_type().clone()).collect())
}

fn call_of(function: &Arc<AggregateUDF>, call: AggregateFunction) -> Expr {
    Expr::AggregateFunction(AggregateFunction { func: Arc::clone(function), ..call })
}

// ---- min(), max() ----

/// `min` or `max`. The optimizer puts DataFusion's in its place when the values are flat.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Extreme {
    name: &'static str,
    flat: Arc<AggregateUDF>,
    greatest: bool,
    signature: Signature,
}

impl AggregateUDFImpl for Extreme {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        match types {
            [DataType::Map(..)] => plan_err!("{} has no order of maps. Take the keys or values apart.", self.name),
            _ => coerced(&self.flat, types),
        }
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(types[0].clone())
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let data_type = args.return_field.data_type().clone();
        Ok(Box::new(ExtremeAccumulator { best: None, data_type, greatest: self.greatest }))
    }

    fn simplify(&self) -> Option<AggregateFunctionSimplification> {
        let flat = Arc::clone(&self.flat);
        Some(Box::new(move |call, context| {
            let nested = call.params.args[0].get_type(context.schema())?.is_nested();
            Ok(if nested { Expr::AggregateFunction(call) } else { call_of(&flat, call) })
        }))
    }
}

/// The best value so far, as an array of one.
struct ExtremeAccumulator {
    best: Option<ArrayRef>,
    data_type: DataType,
    greatest: bool,
}

impl fmt::Debug for ExtremeAccumulator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ExtremeAccumulator({})", self.data_type)
    }
}

impl Accumulator for ExtremeAccumulator {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let values = &values[0];
        let order = SortOptions { descending: self.greatest, nulls_first: !self.greatest };
        let compare = make_comparator(values, values, order)?;
        let Some(best) = (0..values.len()).filter(|row| values.is_valid(*row)).min_by(|a, b| compare(*a, *b)) else {
            return Ok(());
        };
        let candidate = values.slice(best, 1);
        let better = match &self.best {
            None => true,
            Some(best) => make_comparator(&candidate, best, order)?(0, 0).is_lt(),
        };
        if better {
            // A copy: a slice would keep the whole batch alive.
            self.best = Some(arrow::compute::take(&candidate, &arrow::array::UInt32Array::from(vec![0]), None)?);
        }
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.update_batch(states)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![self.evaluate()?])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        match &self.best {
            Some(best) => ScalarValue::try_from_array(best, 0),
            None => ScalarValue::try_from(&self.data_type),
        }
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.best.as_ref().map_or(0, |best| best.get_array_memory_size())
    }
}

// ---- sum(), avg() ----

/// `sum` or `avg`: DataFusion's, which texts reach as numbers; averages of decimals are rounded.
#[derive(Debug, PartialEq, Eq, Hash)]
struct OfNumbers {
    name: &'static str,
    of: Arc<AggregateUDF>,
    signature: Signature,
}

impl OfNumbers {
    fn divides_decimals(&self, result: &DataType) -> bool {
        self.name == "avg" && matches!(result, DataType::Decimal128(..))
    }
}

impl AggregateUDFImpl for OfNumbers {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        match types {
            [DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View] => Ok(vec![DataType::Float64]),
            _ => coerced(&self.of, types),
        }
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.of.return_type(types)
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let result = args.return_field.data_type().clone();
        let divides = self.divides_decimals(&result) && !args.is_distinct;
        let of = self.of.accumulator(args)?;
        Ok(if divides { Box::new(DecimalAverage { of, result }) } else { of })
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        self.of.state_fields(args)
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        self.of.groups_accumulator_supported(args)
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        let result = args.return_field.data_type().clone();
        let of = self.of.create_groups_accumulator(args)?;
        Ok(if self.divides_decimals(&result) { Box::new(DecimalAverages { of, result }) } else { of })
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        self.of.create_sliding_accumulator(args)
    }

    fn simplify(&self) -> Option<AggregateFunctionSimplification> {
        let (of, averages) = (Arc::clone(&self.of), self.name == "avg");
        Some(Box::new(move |call, context| {
            let decimal = averages && call.params.args[0].get_type(context.schema())?.is_decimal();
            Ok(if decimal { Expr::AggregateFunction(call) } else { call_of(&of, call) })
        }))
    }
}

// ---- skewness(), kurtosis() ----

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Shape {
    Skewness,
    Kurtosis,
}

/// A measure of a distribution's shape, from its central moments.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Moments {
    name: &'static str,
    shape: Shape,
    signature: Signature,
}

impl AggregateUDFImpl for Moments {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        match types {
            [t] if t.is_numeric() || t.is_null() || t.is_string() => Ok(vec![DataType::Float64]),
            _ => plan_err!("{} takes one number", self.name),
        }
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        if args.is_distinct {
            return exec_err!("{} of distinct values is not supported. Group by the value first.", self.name);
        }
        Ok(Box::new(MomentsAccumulator { shape: self.shape, moments: Default::default() }))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let field = |part| Arc::new(Field::new(format!("{}[{part}]", args.name), DataType::Float64, false));
        Ok(["count", "mean", "m2", "m3", "m4"].map(field).into())
    }
}

#[derive(Debug)]
struct MomentsAccumulator {
    shape: Shape,
    moments: CentralMoments,
}

/// Count, mean, and the sums of the 2nd to 4th powers of the distances from the mean.
#[derive(Clone, Copy, Debug, Default)]
struct CentralMoments {
    count: f64,
    mean: f64,
    m2: f64,
    m3: f64,
    m4: f64,
}

impl CentralMoments {
    /// Of both together (Pébay 2008), as Spark merges them.
    fn and(self, other: Self) -> Self {
        if self.count == 0.0 {
            return other;
        }
        if other.count == 0.0 {
            return self;
        }
        let (n1, n2) = (self.count, other.count);
        let n = n1 + n2;
        let delta = other.mean - self.mean;
        let part = delta / n;
        let m2 = self.m2 + other.m2 + delta * part * n1 * n2;
        let m3 = self.m3
            + other.m3
            + part * part * delta * n1 * n2 * (n1 - n2)
            + 3.0 * part * (n1 * other.m2 - n2 * self.m2);
        let m4 = self.m4
            + other.m4
            + part * part * part * delta * n1 * n2 * (n1 * n1 - n1 * n2 + n2 * n2)
            + 6.0 * part * part * (n1 * n1 * other.m2 + n2 * n2 * self.m2)
            + 4.0 * part * (n1 * other.m3 - n2 * self.m3);
        Self { count: n, mean: self.mean + part * n2, m2, m3, m4 }
    }
}

impl Accumulator for MomentsAccumulator {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        for value in values[0].as_primitive::<Float64Type>().iter().flatten() {
            self.moments = self.moments.and(CentralMoments { count: 1.0, mean: value, ..Default::default() });
        }
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let column = |at: usize| states[at].as_primitive::<Float64Type>();
        for row in 0..states[0].len() {
            let part = |at: usize| column(at).value(row);
            let other = CentralMoments { count: part(0), mean: part(1), m2: part(2), m3: part(3), m4: part(4) };
            self.moments = self.moments.and(other);
        }
        Ok(())
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let CentralMoments { count, mean, m2, m3, m4 } = self.moments;
        Ok([count, mean, m2, m3, m4].map(|part| ScalarValue::Float64(Some(part))).into())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let CentralMoments { count, m2, m3, m4, .. } = self.moments;
        // One value, or equal ones, have no shape: null, not 0/0.
        let known = count > 0.0 && m2 != 0.0;
        Ok(ScalarValue::Float64(known.then(|| match self.shape {
            Shape::Skewness => count.sqrt() * m3 / (m2 * m2 * m2).sqrt(),
            Shape::Kurtosis => count * m4 / (m2 * m2) - 3.0,
        })))
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }
}
