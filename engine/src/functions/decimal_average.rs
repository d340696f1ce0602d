//! `avg` of decimals: DataFusion's sums and counts, divided as Spark divides them, half up. DataFusion cuts the rest off.

use std::fmt;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Decimal128Array};
use arrow::datatypes::{DataType, Decimal256Type, UInt64Type, i256};
use datafusion::common::{ScalarValue, internal_err};
use datafusion::error::Result;
use datafusion::logical_expr::{Accumulator, EmitTo, GroupsAccumulator};

use crate::error::Error;

/// The average of one group.
pub(super) struct DecimalAverage {
    pub(super) of: Box<dyn Accumulator>,
    pub(super) result: DataType,
}

impl fmt::Debug for DecimalAverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DecimalAverage({})", self.result)
    }
}

impl Accumulator for DecimalAverage {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.of.update_batch(values)
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.of.merge_batch(states)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.of.state()
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let state = self.of.state()?.iter().map(ScalarValue::to_array).collect::<Result<Vec<_>>>()?;
        ScalarValue::try_from_array(&quotients(&state, &self.result)?, 0)
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.of.size()
    }
}

/// The averages of many groups.
pub(super) struct DecimalAverages {
    pub(super) of: Box<dyn GroupsAccumulator>,
    pub(super) result: DataType,
}

impl GroupsAccumulator for DecimalAverages {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total: usize,
    ) -> Result<()> {
        self.of.update_batch(values, groups, filter, total)
    }

    fn merge_batch(&mut self, states: &[ArrayRef], groups: &[usize], total: usize) -> Result<()> {
        self.of.merge_batch(states, groups, total)
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        quotients(&self.of.state(emit_to)?, &self.result)
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        self.of.state(emit_to)
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        self.of.convert_to_state(values, filter)
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.of.size()
    }
}

/// Sums by counts, with as many digits after the point as the result has.
fn quotients(state: &[ArrayRef], result: &DataType) -> Result<ArrayRef> {
    let ([counts, sums], DataType::Decimal128(precision, scale)) = (state, result) else {
        return internal_err!("a count and a sum make a decimal");
    };
    let scale_of_sums = match sums.data_type() {
        DataType::Decimal128(_, scale) | DataType::Decimal256(_, scale) => *scale,
        other => return internal_err!("the sum of decimals is {other}"),
    };
    let factor = i256::from_i128(10).wrapping_pow((scale - scale_of_sums).max(0) as u32);
    let sums = arrow::compute::cast(sums, &DataType::Decimal256(76, scale_of_sums))?;
    let sums = sums.as_primitive::<Decimal256Type>();
    let counts = counts.as_primitive::<UInt64Type>();
    let averages = (0..sums.len()).map(|row| {
        let known = sums.is_valid(row) && counts.is_valid(row) && counts.value(row) > 0;
        known.then(|| half_up(sums.value(row).wrapping_mul(factor), counts.value(row))).transpose()
    });
    let averages: Decimal128Array = averages.collect::<Result<_>>()?;
    let averages = averages.with_precision_and_scale(*precision, *scale)?;
    averages.validate_decimal_precision(*precision)?;
    Ok(std::sync::Arc::new(averages))
}

fn half_up(sum: i256, count: u64) -> Result<i128> {
    let count = i256::from_i128(count.into());
    let (quotient, rest) = (sum.wrapping_div(count), sum.wrapping_rem(count));
    let half = rest.wrapping_abs().wrapping_mul(i256::from_i128(2)) >= count;
    let away = if sum.is_negative() { i256::MINUS_ONE } else { i256::ONE };
    let rounded = if half { quotient.wrapping_add(away) } else { quotient };
    rounded.to_i128().ok_or_else(|| {
        Error::analysis_class("ARITHMETIC_OVERFLOW", "overflow in avg(). Cast the values to a narrower decimal.").into()
    })
}
