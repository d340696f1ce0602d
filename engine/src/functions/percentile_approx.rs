//! `percentile_approx(value, fraction[, accuracy])`: a value that was seen, below which lies that fraction of all.
//!
//! Spark keeps a sketch that is off by one in `accuracy` (10,000); here every value is kept, as `percentile` does in both,
//! and the answer is exact: the same as Spark's for groups of fewer values than `accuracy`.

use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, new_empty_array};
use arrow::datatypes::{DataType, Field, FieldRef, Schema};
use datafusion::common::{ScalarValue, internal_err};
use datafusion::error::Result;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, ColumnarValue, Signature, Volatility};

use crate::error::Error;
use crate::sql::types::quoted_type_name;
use crate::sql::wrong_argument_count;

/// The functions of this file.
pub fn functions() -> Vec<Arc<AggregateUDF>> {
    let signature = || Signature::user_defined(Volatility::Immutable);
    let one = |name| Arc::new(AggregateUDF::new_from_impl(PercentileApprox { name, signature: signature() }));
    ["percentile_approx", "approx_percentile"].map(one).into()
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct PercentileApprox {
    name: &'static str,
    signature: Signature,
}

impl AggregateUDFImpl for PercentileApprox {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let value = match types {
            [value, _] | [value, _, _] => value,
            _ => return Err(wrong_argument_count(self.name, "[2, 3]", types.len()).into()),
        };
        let ordered = value.is_numeric() || matches!(value, DataType::Date32 | DataType::Timestamp(..));
        let value = match value {
            DataType::Utf8 | DataType::Null => DataType::Float64,
            value if ordered => value.clone(),
            other => {
                return Err(Error::analysis_class(
                    "DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE",
                    format!(
                        "Cannot resolve \"{}\" due to data type mismatch: The first parameter requires numbers, dates or times, \
                         however it has the type {}.",
                        self.name,
                        quoted_type_name(other)
                    ),
                )
                .into());
            }
        };
        Ok([value, DataType::Float64, DataType::Int64][..types.len()].to_vec())
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(types[0].clone())
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let nothing = RecordBatch::new_empty(Arc::new(Schema::empty()));
        let fraction = match args.exprs[1].evaluate(&nothing) {
            Ok(ColumnarValue::Scalar(ScalarValue::Float64(Some(fraction)))) if (0.0..=1.0).contains(&fraction) => {
                fraction
            }
            Ok(ColumnarValue::Scalar(_)) => {
                return Err(Error::analysis_class(
                    "DATATYPE_MISMATCH.VALUE_OUT_OF_RANGE",
                    format!("The percentage of {} must be between 0.0 and 1.0.", self.name),
                )
                .into());
            }
            _ => {
                return Err(Error::analysis_class(
                    "DATATYPE_MISMATCH.NON_FOLDABLE_INPUT",
                    format!("The percentage of {} must be a literal.", self.name),
                )
                .into());
            }
        };
        let data_type = args.expr_fields[0].data_type().clone();
        Ok(Box::new(AllValues { values: Vec::new(), data_type, fraction }))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let value = Field::new_list_field(args.input_fields[0].data_type().clone(), true);
        Ok(vec![Arc::new(Field::new_list(format!("{}[values]", args.name), value, true))])
    }
}

/// The values so far without nulls, batch by batch.
struct AllValues {
    values: Vec<ArrayRef>,
    data_type: DataType,
    fraction: f64,
}

impl fmt::Debug for AllValues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AllValues({})", self.data_type)
    }
}

impl AllValues {
    fn together(&self) -> Result<ArrayRef> {
        if self.values.is_empty() {
            return Ok(new_empty_array(&self.data_type));
        }
        let parts: Vec<&dyn Array> = self.values.iter().map(AsRef::as_ref).collect();
        Ok(arrow::compute::concat(&parts)?)
    }
}

impl Accumulator for AllValues {
    fn update_batch(&mut self, columns: &[ArrayRef]) -> Result<()> {
        let known = arrow::compute::is_not_null(&columns[0])?;
        let values = arrow::compute::filter(&columns[0], &known)?;
        if !values.is_empty() {
            self.values.push(values);
        }
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let Some(lists) = states[0].as_list_opt::<i32>() else { return internal_err!("the state is a list") };
        for row in (0..lists.len()).filter(|row| lists.is_valid(*row)) {
            self.update_batch(&[lists.value(row)])?;
        }
        Ok(())
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let together = self.together()?;
        self.values = vec![Arc::clone(&together)];
        let values = (0..together.len()).map(|row| ScalarValue::try_from_array(&together, row));
        let values = values.collect::<Result<Vec<_>>>()?;
        Ok(vec![ScalarValue::List(ScalarValue::new_list_nullable(&values, &self.data_type))])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let sorted = arrow::compute::sort(&self.together()?, None)?;
        if sorted.is_empty() {
            return ScalarValue::try_from(&self.data_type);
        }
        let rank = (self.fraction * sorted.len() as f64).ceil() as usize;
        ScalarValue::try_from_array(&sorted, rank.clamp(1, sorted.len()) - 1)
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.values.iter().map(|part| part.get_array_memory_size()).sum::<usize>()
    }
}
