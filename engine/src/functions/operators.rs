//! Spark's operators where they differ from DataFusion's: `/` divides as double, integers overflow and division by
//! zero with an error (ANSI, Spark's default), `a[0]` is the first element, struct fields are found in any case.
//!
//! `+ - *` of integers are calls of our own because DataFusion's wrap around silently; all other operand types
//! (decimals, doubles, timestamps with intervals) stay DataFusion's operators, which know how to be moved around.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Datum, Int64Array, PrimitiveArray};
use arrow::compute::kernels::numeric;
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type, Int64Type};
use arrow::error::ArrowError;
use datafusion::common::{DFSchema, ScalarValue, internal_err};
use datafusion::error::{DataFusionError, Result};
use datafusion::functions::core::expr_fn::get_field;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr, RawFieldAccessExpr};
use datafusion::logical_expr::type_coercion::binary::BinaryTypeCoercer;
use datafusion::logical_expr::{Cast, Expr, ExprSchemable, GetFieldAccess, Operator, ReturnFieldArgs, ScalarUDF};
use datafusion::sql::sqlparser::ast::BinaryOperator;

use super::call::{Arguments, Call};
use crate::error::Error;
use crate::sql::types::quoted_type_name;

/// The functions of this file: they stand for operators, and `div` for itself.
pub fn functions() -> Vec<Arc<ScalarUDF>> {
    vec![divide_udf(), decimal_divide_udf(), integral_divide_udf(), remainder_udf(), array_item_udf()]
        .into_iter()
        .chain([Operator::Plus, Operator::Minus, Operator::Multiply].map(checked_udf))
        .chain([
            Call::computed("try_add", |_, t| common(Operator::Plus, t), same_field, |a| tried(&a, numeric::add)),
            Call::computed("try_subtract", |_, t| common(Operator::Minus, t), same_field, |a| tried(&a, numeric::sub)),
            Call::computed(
                "try_multiply",
                |_, t| common(Operator::Multiply, t),
                same_field,
                |a| tried(&a, numeric::mul),
            ),
        ])
        .collect()
}

fn divide_udf() -> Arc<ScalarUDF> {
    Call::computed("__divide", |_, types| Ok(vec![DataType::Float64; types.len()]), double_field, divide)
}

fn decimal_divide_udf() -> Arc<ScalarUDF> {
    Call::computed(
        "__decimal_divide",
        |_, types| types.iter().map(as_decimal).collect(),
        quotient_field,
        decimal_divide,
    )
}

fn integral_divide_udf() -> Arc<ScalarUDF> {
    Call::computed("div", |_, types| Ok(vec![DataType::Int64; types.len()]), bigint_field, integral_divide)
}

fn remainder_udf() -> Arc<ScalarUDF> {
    Call::computed("__remainder", |_, types| common(Operator::Modulo, types), same_field, remainder)
}

fn array_item_udf() -> Arc<ScalarUDF> {
    Call::computed("__array_item", |_, types| Ok(vec![types[0].clone(), DataType::Int64]), item_field, array_item)
}

fn checked_udf(operator: Operator) -> Arc<ScalarUDF> {
    match operator {
        Operator::Plus => Call::computed(
            "__add",
            |_, t| common(Operator::Plus, t),
            same_field,
            |a| checked(a, numeric::add, "try_add"),
        ),
        Operator::Minus => Call::computed(
            "__subtract",
            |_, t| common(Operator::Minus, t),
            same_field,
            |a| checked(a, numeric::sub, "try_subtract"),
        ),
        _ => Call::computed(
            "__multiply",
            |_, t| common(Operator::Multiply, t),
            same_field,
            |a| checked(a, numeric::mul, "try_multiply"),
        ),
    }
}

/// Plans operators and field accesses as Spark means them.
#[derive(Debug, Default)]
pub struct SparkOperatorPlanner;

impl ExprPlanner for SparkOperatorPlanner {
    fn plan_binary_op(&self, mut raw: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        let (left, right) = (raw.left.get_type(schema)?, raw.right.get_type(schema)?);
        if is_decimal_type(&left) && right.is_integer() {
            raw.right = literal_as_decimal(raw.right);
        } else if is_decimal_type(&right) && left.is_integer() {
            raw.left = literal_as_decimal(raw.left);
        }
        if let BinaryOperator::Plus | BinaryOperator::Minus | BinaryOperator::Multiply | BinaryOperator::Modulo = raw.op
        {
            (raw.left, raw.right) = widened(raw.left, &left, raw.right, &right);
        }
        let (left, right) = (raw.left.get_type(schema)?, raw.right.get_type(schema)?);
        let function = match raw.op {
            BinaryOperator::Divide if is_decimal(&left, &right) => decimal_divide_udf(),
            BinaryOperator::Divide if divides(&left) && divides(&right) => divide_udf(),
            BinaryOperator::MyIntegerDivide => integral_divide_udf(),
            BinaryOperator::Modulo if left.is_numeric() && right.is_numeric() => remainder_udf(),
            BinaryOperator::Plus if left.is_integer() && right.is_integer() => checked_udf(Operator::Plus),
            BinaryOperator::Minus if left.is_integer() && right.is_integer() => checked_udf(Operator::Minus),
            BinaryOperator::Multiply if left.is_integer() && right.is_integer() => checked_udf(Operator::Multiply),
            _ => return Ok(PlannerResult::Original(raw)),
        };
        Ok(PlannerResult::Planned(function.call(vec![raw.left, raw.right])))
    }

    fn plan_field_access(
        &self,
        raw: RawFieldAccessExpr,
        schema: &DFSchema,
    ) -> Result<PlannerResult<RawFieldAccessExpr>> {
        let data_type = raw.expr.get_type(schema)?;
        match (&raw.field_access, &data_type) {
            (GetFieldAccess::NamedStructField { name }, DataType::Struct(fields)) => {
                let wanted = name.try_as_str().flatten().unwrap_or_default();
                let found = fields.iter().find(|f| f.name() == wanted);
                let found = found.or_else(|| fields.iter().find(|f| f.name().eq_ignore_ascii_case(wanted)));
                let Some(field) = found else { return Err(no_such_field(wanted, fields).into()) };
                Ok(PlannerResult::Planned(get_field(raw.expr, field.name().as_str())))
            }
            (GetFieldAccess::ListIndex { key }, DataType::List(_)) => {
                Ok(PlannerResult::Planned(array_item_udf().call(vec![raw.expr, key.as_ref().clone()])))
            }
            (GetFieldAccess::ListIndex { key }, DataType::Map(entries, _)) => {
                let key_type = match entries.data_type() {
                    DataType::Struct(entry) => entry[0].data_type().clone(),
                    other => return internal_err!("map entries of {other}"),
                };
                let key = Expr::Cast(Cast::new(key.clone(), key_type));
                let field_access = GetFieldAccess::ListIndex { key: Box::new(key) };
                Ok(PlannerResult::Original(RawFieldAccessExpr { field_access, ..raw }))
            }
            (_, DataType::Map(..) | DataType::List(_)) => Ok(PlannerResult::Original(raw)),
            (_, other) => Err(Error::analysis_class(
                "INVALID_EXTRACT_BASE_FIELD_TYPE",
                format!(
                    "Can't extract a value from \"{}\". Need a complex type [STRUCT, ARRAY, MAP] but got {}.",
                    raw.expr.schema_name(),
                    quoted_type_name(other)
                ),
            )
            .into()),
        }
    }
}

/// Beside an integer a text is read as BIGINT, beside another number as DOUBLE; FLOAT beside an integer or a decimal is
/// DOUBLE, too (ANSI).
fn widened(left: Expr, left_type: &DataType, right: Expr, right_type: &DataType) -> (Expr, Expr) {
    let wider = |own: &DataType, other: &DataType| match (own, other) {
        (DataType::Utf8, other) if other.is_integer() => Some("BIGINT"),
        (DataType::Utf8, other) if other.is_numeric() => Some("DOUBLE"),
        (DataType::Float32, other) if other.is_integer() || is_decimal_type(other) => Some("DOUBLE"),
        _ => None,
    };
    let cast = |expr: Expr, to: Option<&str>| match to {
        Some(to) => super::cast::cast_call(expr, to),
        None => expr,
    };
    (cast(left, wider(left_type, right_type)), cast(right, wider(right_type, left_type)))
}

fn no_such_field(wanted: &str, fields: &arrow::datatypes::Fields) -> Error {
    let known: Vec<String> = fields.iter().map(|f| format!("`{}`", f.name())).collect();
    let near = crate::options::did_you_mean(wanted, fields.iter().map(|f| f.name().as_str()));
    Error::analysis_class("FIELD_NOT_FOUND", format!("No such struct field `{wanted}` in {}.{near}", known.join(", ")))
}

/// Beside a decimal, a literal integer is a decimal of just its digits: `1.5 + 1` is DECIMAL(3,1).
fn literal_as_decimal(expr: Expr) -> Expr {
    let Expr::Cast(cast) = &expr else { return expr };
    let Expr::Literal(ScalarValue::Int64(Some(value)), _) = cast.expr.as_ref() else { return expr };
    let digits = value.unsigned_abs().to_string().len() as u8;
    Expr::Cast(Cast::new(cast.expr.clone(), DataType::Decimal128(digits, 0)))
}

/// Numbers, and texts that Spark reads as numbers.
fn divides(data_type: &DataType) -> bool {
    data_type.is_numeric() || matches!(data_type, DataType::Utf8 | DataType::Null)
}

/// Whether Spark computes with decimals: one side is one, and the other is no double.
fn is_decimal(left: &DataType, right: &DataType) -> bool {
    let exact = |t: &DataType| t.is_integer() || is_decimal_type(t);
    (is_decimal_type(left) || is_decimal_type(right)) && exact(left) && exact(right)
}

fn is_decimal_type(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Decimal128(..))
}

/// The types that both sides are cast to before an arithmetic operator.
fn common(operator: Operator, types: &[DataType]) -> Result<Vec<DataType>> {
    let [left, right] = types else { return internal_err!("an operator has two sides") };
    let (left, right) = BinaryTypeCoercer::new(left, &operator, right).get_input_types()?;
    Ok(vec![left, right])
}

fn double_field(name: &str, _: ReturnFieldArgs) -> Result<FieldRef> {
    Ok(Arc::new(Field::new(name, DataType::Float64, true)))
}

fn bigint_field(name: &str, _: ReturnFieldArgs) -> Result<FieldRef> {
    Ok(Arc::new(Field::new(name, DataType::Int64, true)))
}

fn same_field(name: &str, args: ReturnFieldArgs) -> Result<FieldRef> {
    let types: Vec<DataType> = args.arg_fields.iter().map(|f| f.data_type().clone()).collect();
    let operator = match name {
        "__add" | "try_add" => Operator::Plus,
        "__subtract" | "try_subtract" => Operator::Minus,
        "__multiply" | "try_multiply" => Operator::Multiply,
        _ => Operator::Modulo,
    };
    let types = common(operator, &types)?;
    let result = BinaryTypeCoercer::new(&types[0], &operator, &types[1]).get_result_type()?;
    Ok(Arc::new(Field::new(name, result, args.arg_fields.iter().any(|f| f.is_nullable()))))
}

fn item_field(name: &str, args: ReturnFieldArgs) -> Result<FieldRef> {
    match args.arg_fields[0].data_type() {
        DataType::List(element) => Ok(Arc::new(Field::new(name, element.data_type().clone(), true))),
        other => internal_err!("an item of {other}"),
    }
}

/// Spark's type of a decimal quotient (`DecimalPrecision`): six digits after the point at least, cut to 38 in all.
fn quotient_field(name: &str, args: ReturnFieldArgs) -> Result<FieldRef> {
    let sides = args.arg_fields.iter().map(|f| as_decimal(f.data_type())).collect::<Result<Vec<_>>>()?;
    let [DataType::Decimal128(p1, s1), DataType::Decimal128(p2, s2)] = sides.as_slice() else {
        return internal_err!("a quotient of decimals");
    };
    let (p1, s1, p2, s2) = (i32::from(*p1), i32::from(*s1), i32::from(*p2), i32::from(*s2));
    let scale = (s1 + p2 + 1).max(6);
    let precision = p1 - s1 + s2 + scale;
    let (precision, scale) = if precision <= 38 {
        (precision, scale)
    } else {
        let whole = precision - scale;
        (38, (38 - whole).max(scale.min(6)))
    };
    Ok(Arc::new(Field::new(name, DataType::Decimal128(precision as u8, scale as i8), true)))
}

fn as_decimal(data_type: &DataType) -> Result<DataType> {
    Ok(match data_type {
        DataType::Decimal128(..) => data_type.clone(),
        DataType::Int8 => DataType::Decimal128(3, 0),
        DataType::Int16 => DataType::Decimal128(5, 0),
        DataType::Int32 => DataType::Decimal128(10, 0),
        _ => DataType::Decimal128(20, 0),
    })
}

// ---- computing ----

fn overflow(instead: &str) -> DataFusionError {
    Error::analysis_class(
        "ARITHMETIC_OVERFLOW",
        format!("overflow. Use '{instead}' to tolerate overflow and return NULL instead, or cast to a wider type."),
    )
    .into()
}

fn divided_by_zero() -> DataFusionError {
    Error::analysis_class(
        "DIVIDE_BY_ZERO",
        "Division by zero. Use `try_divide` to tolerate divisor being 0 and return NULL instead, or nullif(x, 0).",
    )
    .into()
}

type Kernel = fn(&dyn Datum, &dyn Datum) -> Result<ArrayRef, ArrowError>;

fn checked(arguments: Arguments, kernel: Kernel, instead: &str) -> Result<ArrayRef> {
    let (left, right) = (&arguments.arrays[0], &arguments.arrays[1]);
    kernel(left, right).map_err(|error| match error {
        ArrowError::ArithmeticOverflow(_) => overflow(instead),
        other => other.into(),
    })
}

/// A kernel whose overflows are nulls: all at once where none overflows, else row by row.
fn tried(arguments: &Arguments, kernel: Kernel) -> Result<ArrayRef> {
    let (left, right) = (&arguments.arrays[0], &arguments.arrays[1]);
    match kernel(left, right) {
        Err(ArrowError::ArithmeticOverflow(_)) => {}
        other => return Ok(other?),
    }
    let none = arrow::array::new_null_array(arguments.field.data_type(), 1);
    let rows: Vec<ArrayRef> = (0..left.len())
        .map(|row| match kernel(&left.slice(row, 1), &right.slice(row, 1)) {
            Err(ArrowError::ArithmeticOverflow(_)) => Ok(Arc::clone(&none)),
            other => other,
        })
        .collect::<Result<_, _>>()?;
    let rows: Vec<&dyn Array> = rows.iter().map(AsRef::as_ref).collect();
    Ok(arrow::compute::concat(&rows)?)
}

fn divide(arguments: Arguments) -> Result<ArrayRef> {
    let left = arguments.arrays[0].as_primitive::<Float64Type>();
    let right = arguments.arrays[1].as_primitive::<Float64Type>();
    if right.values().contains(&0.0) {
        let zero = |row: usize| right.is_valid(row) && left.is_valid(row) && right.value(row) == 0.0;
        if (0..right.len()).any(zero) {
            return Err(divided_by_zero());
        }
    }
    let quotient: PrimitiveArray<Float64Type> = arrow::compute::binary(left, right, |l, r| l / r)?;
    Ok(Arc::new(quotient))
}

fn integral_divide(arguments: Arguments) -> Result<ArrayRef> {
    let left = arguments.arrays[0].as_primitive::<Int64Type>();
    let right = arguments.arrays[1].as_primitive::<Int64Type>();
    let quotient: Int64Array = arrow::compute::try_binary(left, right, |l, r| match r {
        0 => Err(ArrowError::DivideByZero),
        _ => l.checked_div(r).ok_or_else(|| ArrowError::ArithmeticOverflow("div".to_owned())),
    })
    .map_err(|error| match error {
        ArrowError::DivideByZero => divided_by_zero(),
        ArrowError::ArithmeticOverflow(_) => overflow("try_divide"),
        other => other.into(),
    })?;
    Ok(Arc::new(quotient))
}

fn remainder(arguments: Arguments) -> Result<ArrayRef> {
    let (left, right) = (&arguments.arrays[0], &arguments.arrays[1]);
    let by_zero = || {
        Error::analysis_class(
            "REMAINDER_BY_ZERO",
            "Remainder by zero. Use `try_mod` to tolerate divisor being 0 and return NULL instead, or nullif(x, 0).",
        )
    };
    if right.data_type() == &DataType::Float64 {
        let (l, r) = (left.as_primitive::<Float64Type>(), right.as_primitive::<Float64Type>());
        if (0..r.len()).any(|row| r.is_valid(row) && l.is_valid(row) && r.value(row) == 0.0) {
            return Err(by_zero().into());
        }
    }
    numeric::rem(left, right).map_err(|error| match error {
        ArrowError::DivideByZero => by_zero().into(),
        other => other.into(),
    })
}

fn decimal_divide(arguments: Arguments) -> Result<ArrayRef> {
    use arrow::array::{Decimal128Array, Decimal256Array};
    use arrow::datatypes::{Decimal128Type, Decimal256Type, i256};
    let DataType::Decimal128(precision, scale) = *arguments.field.data_type() else {
        return internal_err!("a decimal quotient");
    };
    let left = arguments.arrays[0].as_primitive::<Decimal128Type>();
    let right = arguments.arrays[1].as_primitive::<Decimal128Type>();
    // quotient * 10^scale = left * 10^(scale - s1 + s2) / right, rounded half up; 256 bits hold the product.
    let shift = i32::from(scale) - i32::from(left.scale()) + i32::from(right.scale());
    let factor = i256::from_i128(10).wrapping_pow(u32::try_from(shift.max(0)).unwrap_or(0));
    let round = |l: i128, r: i128| -> Result<i256, ArrowError> {
        if r == 0 {
            return Err(ArrowError::DivideByZero);
        }
        let (numerator, divisor) = (i256::from_i128(l).wrapping_mul(factor), i256::from_i128(r));
        let (quotient, rest) = (numerator.wrapping_div(divisor), numerator.wrapping_rem(divisor));
        let twice = rest.wrapping_abs().wrapping_mul(i256::from_i128(2));
        if twice < divisor.wrapping_abs() {
            return Ok(quotient);
        }
        let away = if (l < 0) == (r < 0) { i256::ONE } else { i256::MINUS_ONE };
        Ok(quotient.wrapping_add(away))
    };
    let wide: PrimitiveArray<Decimal256Type> =
        arrow::compute::try_binary(left, right, round).map_err(|error| match error {
            ArrowError::DivideByZero => divided_by_zero(),
            other => other.into(),
        })?;
    let wide: Decimal256Array = wide;
    let mut narrow = Decimal128Array::builder(wide.len());
    for row in 0..wide.len() {
        if wide.is_null(row) {
            narrow.append_null();
        } else {
            narrow.append_value(wide.value(row).to_i128().ok_or_else(|| overflow("try_divide"))?);
        }
    }
    let narrow = narrow.finish().with_precision_and_scale(precision, scale)?;
    narrow.validate_decimal_precision(precision).map_err(|_| overflow("try_divide"))?;
    Ok(Arc::new(narrow))
}

/// `array[i]` from 0; outside is an error, as Spark's ANSI mode has it.
fn array_item(arguments: Arguments) -> Result<ArrayRef> {
    let lists = arguments.arrays[0].as_list::<i32>();
    let indices = arguments.arrays[1].as_primitive::<Int64Type>();
    let mut places = Vec::with_capacity(lists.len());
    for row in 0..lists.len() {
        if lists.is_null(row) || indices.is_null(row) {
            places.push(None);
            continue;
        }
        let (index, length) = (indices.value(row), i64::from(lists.value_length(row)));
        if !(0..length).contains(&index) {
            return Err(Error::analysis_class(
                "INVALID_ARRAY_INDEX",
                format!(
                    "The index {index} is out of bounds. The array has {length} elements. Use the SQL function `get()` to \
                     tolerate accessing element at invalid index and return NULL instead."
                ),
            )
            .into());
        }
        places.push(Some(i64::from(lists.value_offsets()[row]) + index));
    }
    Ok(arrow::compute::take(lists.values(), &Int64Array::from(places), None)?)
}
