//! Aggregates that choose one of the values they saw: `max_by`, `min_by` and `mode`.
//!
//! Among rows with equal order `max_by` and `min_by` keep the last, as Spark's comparisons do. Among values that are
//! equally frequent `mode` takes the one that comes first in Spark's hash table: Scala code iterates over it, so the
//! choice is decided by Murmur3 of the value's Java hash code.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, UInt32Array, make_comparator};
use arrow::compute::{SortOptions, take};
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type};
use datafusion::common::{ScalarValue, exec_err, internal_err};
use datafusion::error::Result;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, Signature, Volatility};

use super::murmur;
use crate::sql::wrong_argument_count;

/// The functions of this file.
pub fn functions() -> Vec<Arc<AggregateUDF>> {
    let signature = || Signature::user_defined(Volatility::Immutable);
    let by = |name, greatest| AggregateUDF::new_from_impl(By { name, greatest, signature: signature() });
    let mode = AggregateUDF::new_from_impl(Mode { signature: signature() });
    [by("max_by", true), by("min_by", false), mode].map(Arc::new).into()
}

fn one_row(array: &ArrayRef, row: usize) -> Result<ArrayRef> {
    // A copy: a slice would keep the whole batch alive.
    Ok(take(array, &UInt32Array::from(vec![row as u32]), None)?)
}

// ---- max_by(), min_by() ----

#[derive(Debug, PartialEq, Eq, Hash)]
struct By {
    name: &'static str,
    greatest: bool,
    signature: Signature,
}

impl AggregateUDFImpl for By {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        match types.len() {
            2 => Ok(types.to_vec()),
            found => Err(wrong_argument_count(self.name, "2", found).into()),
        }
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(types[0].clone())
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        if args.is_distinct {
            return exec_err!("{} of distinct values is not supported. Leave DISTINCT out.", self.name);
        }
        let types = [args.expr_fields[0].data_type().clone(), args.expr_fields[1].data_type().clone()];
        Ok(Box::new(ByAccumulator { best: None, types, greatest: self.greatest }))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let field = |part: usize, of: &str| {
            Arc::new(Field::new(format!("{}[{of}]", args.name), args.input_fields[part].data_type().clone(), true))
        };
        Ok(vec![field(0, "value"), field(1, "order")])
    }
}

/// The value and the order of the best row so far, as arrays of one.
struct ByAccumulator {
    best: Option<[ArrayRef; 2]>,
    types: [DataType; 2],
    greatest: bool,
}

impl fmt::Debug for ByAccumulator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ByAccumulator({})", self.types[0])
    }
}

impl Accumulator for ByAccumulator {
    fn update_batch(&mut self, columns: &[ArrayRef]) -> Result<()> {
        let [values, orders] = columns else { return internal_err!("a value and an order") };
        let options = SortOptions { descending: !self.greatest, nulls_first: self.greatest };
        let compare = make_comparator(orders, orders, options)?;
        // `max_by` answers the last of several greatest.
        let Some(row) = (0..orders.len()).filter(|row| orders.is_valid(*row)).max_by(|a, b| compare(*a, *b)) else {
            return Ok(());
        };
        let better = match &self.best {
            None => true,
            Some([_, best]) => make_comparator(orders, best, options)?(row, 0) != Ordering::Less,
        };
        if better {
            self.best = Some([one_row(values, row)?, one_row(orders, row)?]);
        }
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.update_batch(states)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        match &self.best {
            Some(best) => best.iter().map(|part| ScalarValue::try_from_array(part, 0)).collect(),
            None => self.types.iter().map(ScalarValue::try_from).collect(),
        }
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(self.state()?.swap_remove(0))
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.best.iter().flatten().map(|part| part.get_array_memory_size()).sum::<usize>()
    }
}

// ---- mode() ----

#[derive(Debug, PartialEq, Eq, Hash)]
struct Mode {
    signature: Signature,
}

impl AggregateUDFImpl for Mode {
    fn name(&self) -> &str {
        "mode"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        match types {
            [DataType::Map(..)] => exec_err!("mode has no equality of maps. Take the keys or values apart."),
            [_] => Ok(types.to_vec()),
            _ => Err(wrong_argument_count("mode", "1", types.len()).into()),
        }
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(types[0].clone())
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        if args.is_distinct {
            return exec_err!("mode of distinct values: each occurs once. Leave DISTINCT out.");
        }
        let data_type = args.expr_fields[0].data_type().clone();
        Ok(Box::new(ModeAccumulator { data_type, counts: Vec::new(), places: HashMap::new() }))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let list = |name: &str, data_type: DataType| {
            Arc::new(Field::new_list(format!("{}[{name}]", args.name), Field::new_list_field(data_type, true), true))
        };
        Ok(vec![list("values", args.input_fields[0].data_type().clone()), list("counts", DataType::Int64)])
    }
}

/// How often each value was seen, in the order in which they came first.
#[derive(Debug)]
struct ModeAccumulator {
    data_type: DataType,
    counts: Vec<(ScalarValue, i64)>,
    places: HashMap<ScalarValue, usize>,
}

impl ModeAccumulator {
    fn add(&mut self, value: ScalarValue, count: i64) {
        match self.places.get(&value) {
            Some(place) => self.counts[*place].1 += count,
            None => {
                self.places.insert(value.clone(), self.counts.len());
                self.counts.push((value, count));
            }
        }
    }
}

impl Accumulator for ModeAccumulator {
    fn update_batch(&mut self, columns: &[ArrayRef]) -> Result<()> {
        let values = &columns[0];
        for row in (0..values.len()).filter(|row| values.is_valid(*row)) {
            self.add(ScalarValue::try_from_array(values, row)?, 1);
        }
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let (values, counts) = (states[0].as_list::<i32>(), states[1].as_list::<i32>());
        for row in (0..values.len()).filter(|row| values.is_valid(*row)) {
            let (values, counts) = (values.value(row), counts.value(row));
            for (at, count) in counts.as_primitive::<Int64Type>().values().iter().enumerate() {
                self.add(ScalarValue::try_from_array(&values, at)?, *count);
            }
        }
        Ok(())
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let values: Vec<ScalarValue> = self.counts.iter().map(|(value, _)| value.clone()).collect();
        let counts = Int64Array::from_iter_values(self.counts.iter().map(|(_, count)| *count));
        let counts: Vec<ScalarValue> = counts.iter().map(ScalarValue::Int64).collect();
        Ok(vec![
            ScalarValue::List(ScalarValue::new_list_nullable(&values, &self.data_type)),
            ScalarValue::List(ScalarValue::new_list_nullable(&counts, &DataType::Int64)),
        ])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let Some(most) = self.counts.iter().map(|(_, count)| *count).max() else {
            return ScalarValue::try_from(&self.data_type);
        };
        let slots = slots(self.counts.len());
        let often = self.counts.iter().filter(|(_, count)| *count == most);
        let first = often.min_by_key(|(value, _)| slot(value, slots)).map(|(value, _)| value.clone());
        first.map_or_else(|| ScalarValue::try_from(&self.data_type), Ok)
    }

    fn size(&self) -> usize {
        let each = |(value, _): &(ScalarValue, i64)| 2 * value.size() + size_of::<i64>() + size_of::<usize>();
        size_of_val(self) + self.counts.iter().map(each).sum::<usize>()
    }
}

/// The capacity of Spark's `OpenHashMap`: it begins with 64 and doubles when it is more than 70 % full.
fn slots(values: usize) -> u32 {
    let mut capacity: u32 = 64;
    while values as f64 > 0.7 * f64::from(capacity) {
        capacity *= 2;
    }
    capacity
}

/// Where a value goes in a table of so many slots, when nothing is there yet.
fn slot(value: &ScalarValue, slots: u32) -> u32 {
    let long = |value: i64| (value ^ ((value as u64) >> 32) as i64) as i32;
    let code = match value {
        ScalarValue::Utf8(Some(text)) => murmur::of_bytes(text.as_bytes(), 42) as i32,
        ScalarValue::Int64(Some(value)) | ScalarValue::TimestampMicrosecond(Some(value), _) => long(*value),
        ScalarValue::Int32(Some(value)) | ScalarValue::Date32(Some(value)) => *value,
        ScalarValue::Int16(Some(value)) => (*value).into(),
        ScalarValue::Int8(Some(value)) => (*value).into(),
        ScalarValue::Float64(Some(value)) => long(value.to_bits() as i64),
        ScalarValue::Float32(Some(value)) => value.to_bits() as i32,
        ScalarValue::Boolean(Some(value)) => {
            if *value {
                1231
            } else {
                1237
            }
        }
        _ => 0,
    };
    murmur::of_int(code, 0) & (slots - 1)
}
