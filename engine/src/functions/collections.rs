//! Spark's functions on arrays and maps that DataFusion lacks or counts differently.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Int64Array, ListArray, MapArray, StructArray, UInt64Array, new_empty_array,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type};
use datafusion::common::internal_err;
use datafusion::error::Result;
use datafusion::logical_expr::{ReturnFieldArgs, ScalarUDF};

use super::call::{Arguments, Call, as_they_are};
use super::window::add_gap;
use crate::error::Error;
use crate::sql::duration::Interval;
use crate::sql::types::{map_type, quoted_type_name};
use crate::sql::wrong_argument_count;

/// How many elements a sequence may have: Spark's `MAX_ROUNDED_ARRAY_LENGTH` is the memory's limit, this is ours.
const SEQUENCE_LIMIT: usize = 10_000_000;

/// `arrays_zip` with the names of the fields before the arrays, divided by zero bytes.
pub(crate) const ARRAYS_ZIP_CALL: &str = "__arrays_zip";

/// The functions of this file.
pub fn functions() -> Vec<Arc<ScalarUDF>> {
    vec![
        Call::computed("element_at", item_types, item_field, |a| item(a, Missing::Refused)),
        Call::computed("try_element_at", item_types, item_field, |a| item(a, Missing::Null)),
        Call::computed("get", item_types, item_field, |a| item(a, Missing::FromZero)),
        Call::computed("sequence", sequence_types, sequence_field, sequence),
        Call::computed(ARRAYS_ZIP_CALL, zip_types, zip_field, arrays_zip),
        Call::computed("__empty_map", as_they_are, empty_map_field, empty_map),
    ]
}

// ---- elements ----

/// What an index outside of the array is, and from where indices count.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Missing {
    Refused,
    Null,
    FromZero,
}

fn item_types(name: &str, types: &[DataType]) -> Result<Vec<DataType>> {
    let [container, _] = types else { return Err(wrong_argument_count(name, "2", types.len()).into()) };
    match container {
        DataType::List(_) => Ok(vec![container.clone(), DataType::Int64]),
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(entry) => Ok(vec![container.clone(), entry[0].data_type().clone()]),
            other => internal_err!("map entries of {other}"),
        },
        other => Err(not_a_container(name, other).into()),
    }
}

fn not_a_container(name: &str, found: &DataType) -> Error {
    Error::analysis_class(
        "DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE",
        format!(
            "Cannot resolve \"{name}\" due to data type mismatch: The first parameter requires the (\"ARRAY\" or \"MAP\") type, \
             however it has the type {}.",
            quoted_type_name(found)
        ),
    )
}

fn item_field(name: &str, args: ReturnFieldArgs) -> Result<FieldRef> {
    let element = match args.arg_fields.first().map(|f| f.data_type()) {
        Some(DataType::List(element)) => element.data_type().clone(),
        Some(DataType::Map(entries, _)) => match entries.data_type() {
            DataType::Struct(entry) => entry[1].data_type().clone(),
            other => return internal_err!("map entries of {other}"),
        },
        other => return Err(not_a_container(name, other.unwrap_or(&DataType::Null)).into()),
    };
    Ok(Arc::new(Field::new(name, element, true)))
}

fn item(arguments: Arguments, missing: Missing) -> Result<ArrayRef> {
    match arguments.arrays[0].data_type() {
        DataType::Map(..) => map_value(&arguments),
        _ => list_item(&arguments, missing),
    }
}

fn list_item(arguments: &Arguments, missing: Missing) -> Result<ArrayRef> {
    let lists = arguments.arrays[0].as_list::<i32>();
    let indices = arguments.arrays[1].as_primitive::<Int64Type>();
    let mut places = Vec::with_capacity(lists.len());
    for row in 0..lists.len() {
        if lists.is_null(row) || indices.is_null(row) {
            places.push(None);
            continue;
        }
        let (index, length) = (indices.value(row), i64::from(lists.value_length(row)));
        let from_zero = match missing {
            Missing::FromZero => index,
            _ if index < 0 => length + index,
            _ => index - 1,
        };
        if index == 0 && missing != Missing::FromZero {
            return Err(Error::analysis_class(
                "INVALID_INDEX_OF_ZERO",
                "The index 0 is invalid. An index shall be either < 0 or > 0 (the first element has index 1).",
            )
            .into());
        }
        let inside = (0..length).contains(&from_zero);
        if !inside && missing == Missing::Refused {
            return Err(Error::analysis_class(
                "INVALID_ARRAY_INDEX_IN_ELEMENT_AT",
                format!(
                    "The index {index} is out of bounds. The array has {length} elements. Use `try_element_at` to tolerate \
                     accessing element at invalid index and return NULL instead."
                ),
            )
            .into());
        }
        places.push(inside.then(|| i64::from(lists.value_offsets()[row]) + from_zero));
    }
    Ok(arrow::compute::take(lists.values(), &Int64Array::from(places), None)?)
}

fn map_value(arguments: &Arguments) -> Result<ArrayRef> {
    let maps = arguments.arrays[0].as_map();
    let equal = {
        // The key of each entry beside the key that its row asks for.
        let rows: UInt64Array = (0..maps.len())
            .flat_map(|row| std::iter::repeat_n(row as u64, maps.value_length(row) as usize))
            .collect::<Vec<_>>()
            .into();
        let first = maps.value_offsets()[0] as usize;
        let entries = maps.keys().slice(first, rows.len());
        let wanted = arrow::compute::take(&arguments.arrays[1], &rows, None)?;
        arrow::compute::kernels::cmp::eq(&entries, &wanted)?
    };
    let first = maps.value_offsets()[0];
    let places: Vec<Option<i64>> = (0..maps.len())
        .map(|row| {
            let range = maps.value_offsets()[row]..maps.value_offsets()[row + 1];
            let mut range = if maps.is_valid(row) { range } else { 0..0 };
            range.find(|at| equal.is_valid((at - first) as usize) && equal.value((at - first) as usize)).map(i64::from)
        })
        .collect();
    Ok(arrow::compute::take(maps.values(), &Int64Array::from(places), None)?)
}

// ---- sequence ----

fn sequence_types(name: &str, types: &[DataType]) -> Result<Vec<DataType>> {
    if !(2..=3).contains(&types.len()) {
        return Err(wrong_argument_count(name, "[2, 3]", types.len()).into());
    }
    let step = |of: DataType| [of.clone(), of.clone(), of][..types.len()].to_vec();
    match (&types[0], &types[1]) {
        (DataType::Date32 | DataType::Timestamp(..), _) => {
            let mut all = vec![types[0].clone(), types[0].clone()];
            if types.len() == 3 {
                all.push(DataType::Interval(arrow::datatypes::IntervalUnit::MonthDayNano));
            }
            Ok(all)
        }
        (a, b) if a.is_integer() && b.is_integer() => {
            let wide = types.contains(&DataType::Int64);
            Ok(step(if wide { DataType::Int64 } else { DataType::Int32 }))
        }
        (other, _) => Err(Error::analysis_class(
            "DATATYPE_MISMATCH.SEQUENCE_WRONG_INPUT_TYPES",
            format!(
                "`sequence` uses integers, dates or timestamps as start and stop, and an integer or an interval as step; got {}.",
                quoted_type_name(other)
            ),
        )
        .into()),
    }
}

fn sequence_field(name: &str, args: ReturnFieldArgs) -> Result<FieldRef> {
    let types: Vec<DataType> = args.arg_fields.iter().map(|f| f.data_type().clone()).collect();
    let element = sequence_types(name, &types)?.swap_remove(0);
    Ok(Arc::new(Field::new(name, DataType::List(Arc::new(Field::new_list_field(element, true))), true)))
}

fn sequence(arguments: Arguments) -> Result<ArrayRef> {
    let DataType::List(element) = arguments.field.data_type() else { return internal_err!("a list is made") };
    let mut values: Vec<i64> = Vec::new();
    let mut lengths = Vec::with_capacity(arguments.rows);
    let mut known = Vec::with_capacity(arguments.rows);
    let wide = |at: usize| -> Result<Option<Int64Array>> {
        let Some(array) = arguments.arrays.get(at) else { return Ok(None) };
        let array = match array.data_type() {
            DataType::Date32 => arrow::compute::cast(array, &DataType::Int32)?,
            _ => Arc::clone(array),
        };
        Ok(Some(arrow::compute::cast(&array, &DataType::Int64)?.as_primitive::<Int64Type>().clone()))
    };
    let (Some(starts), Some(stops)) = (wide(0)?, wide(1)?) else { return internal_err!("start and stop") };
    let steps = Steps::new(&arguments)?;
    for row in 0..starts.len() {
        let before = values.len();
        let all_known = starts.is_valid(row) && stops.is_valid(row) && steps.is_known(row);
        if all_known {
            steps.fill(row, starts.value(row), stops.value(row), &mut values)?;
        }
        lengths.push(values.len() - before);
        known.push(all_known);
    }
    let values: ArrayRef = Arc::new(Int64Array::from(values));
    let values = match element.data_type() {
        DataType::Date32 => {
            let days = arrow::compute::cast(&values, &DataType::Int32)?;
            arrow::compute::cast(&days, &DataType::Date32)?
        }
        other => arrow::compute::cast(&values, other)?,
    };
    let nulls = arrow::buffer::NullBuffer::from(known);
    Ok(Arc::new(ListArray::new(Arc::clone(element), OffsetBuffer::from_lengths(lengths), values, Some(nulls))))
}

/// From one element to the next.
enum Steps {
    /// Integers: 1 or -1 when not given.
    Numbers(Option<Int64Array>),
    /// Dates or times: an interval, one day when not given; `unit_us` is what one of the values is.
    Intervals { steps: Option<arrow::array::IntervalMonthDayNanoArray>, unit_us: i64 },
}

impl Steps {
    fn new(arguments: &Arguments) -> Result<Self> {
        let step = arguments.arrays.get(2);
        let unit_us = match arguments.arrays[0].data_type() {
            DataType::Date32 => 86_400_000_000,
            DataType::Timestamp(..) => 1,
            _ => {
                let step = match step {
                    Some(step) => {
                        Some(arrow::compute::cast(step, &DataType::Int64)?.as_primitive::<Int64Type>().clone())
                    }
                    None => None,
                };
                return Ok(Self::Numbers(step));
            }
        };
        Ok(Self::Intervals { steps: step.map(|s| s.as_primitive().clone()), unit_us })
    }

    fn is_known(&self, row: usize) -> bool {
        match self {
            Self::Numbers(steps) => steps.as_ref().is_none_or(|s| s.is_valid(row)),
            Self::Intervals { steps, .. } => steps.as_ref().is_none_or(|s| s.is_valid(row)),
        }
    }

    fn fill(&self, row: usize, start: i64, stop: i64, values: &mut Vec<i64>) -> Result<()> {
        let forward = stop >= start;
        let (step, unit_us) = match self {
            Self::Numbers(steps) => {
                let step = steps.as_ref().map_or(if forward { 1 } else { -1 }, |s| s.value(row));
                (Interval { micros: step, ..Interval::default() }, 1)
            }
            Self::Intervals { steps, unit_us } => {
                let step = match steps {
                    Some(steps) => {
                        let s = steps.value(row);
                        Interval { months: s.months, days: s.days, micros: s.nanoseconds / 1_000 }
                    }
                    None => Interval { days: if forward { 1 } else { -1 }, ..Interval::default() },
                };
                (step, *unit_us)
            }
        };
        let ascending = add_gap(0, step).unwrap_or(0);
        if ascending == 0 && start != stop || ascending > 0 && !forward || ascending < 0 && forward && start != stop {
            return Err(Error::analysis_class(
                "INVALID_PARAMETER_VALUE.BOUNDARY",
                format!(
                    "Illegal sequence boundaries: {start} to {stop} by {}. The step must lead to the stop.",
                    step.to_text()
                ),
            )
            .into());
        }
        let mut count: i32 = 0;
        loop {
            let scaled = |n: i32| n.checked_mul(count);
            let moved = scaled(step.months).zip(scaled(step.days)).zip(step.micros.checked_mul(i64::from(count)));
            let Some(((months, days), micros)) = moved else { break };
            let Some(from) = start.checked_mul(unit_us) else { break };
            let Some(at) = add_gap(from, Interval { months, days, micros }) else { break };
            let at = at.div_euclid(unit_us);
            if if forward { at > stop } else { at < stop } {
                break;
            }
            values.push(at);
            count += 1;
            if ascending == 0 {
                break;
            }
            if values.len() > SEQUENCE_LIMIT {
                return Err(Error::analysis_class(
                    "COLLECTION_SIZE_LIMIT_EXCEEDED.FUNCTION",
                    format!("Can't create a sequence of more than {SEQUENCE_LIMIT} elements. Use a larger step."),
                )
                .into());
            }
        }
        Ok(())
    }
}

// ---- arrays_zip ----

fn zip_types(_: &str, types: &[DataType]) -> Result<Vec<DataType>> {
    if let Some(other) = types.iter().skip(1).find(|t| !matches!(t, DataType::List(_))) {
        return Err(not_a_container("arrays_zip", other).into());
    }
    Ok(types.to_vec())
}

fn zip_field(name: &str, args: ReturnFieldArgs) -> Result<FieldRef> {
    let Some(Some(Some(Some(names)))) = args.scalar_arguments.first().map(|a| a.map(|a| a.try_as_str())) else {
        return internal_err!("{name} takes the names of the fields first");
    };
    let arrays = args.arg_fields[1..].iter().map(|field| match field.data_type() {
        DataType::List(element) => Ok(element.data_type().clone()),
        other => Err(not_a_container("arrays_zip", other)),
    });
    let fields = names.split('\u{0}').zip(arrays);
    let fields = fields.map(|(name, of)| Ok(Field::new(name, of?, true))).collect::<Result<Vec<_>>>()?;
    let element = Field::new_list_field(DataType::Struct(fields.into()), true);
    Ok(Arc::new(Field::new(name, DataType::List(Arc::new(element)), true)))
}

/// Shorter arrays are filled up with nulls; a null array makes a null.
fn arrays_zip(arguments: Arguments) -> Result<ArrayRef> {
    let DataType::List(element) = arguments.field.data_type() else { return internal_err!("a list is made") };
    let DataType::Struct(fields) = element.data_type() else { return internal_err!("a list of structs is made") };
    let lists: Vec<&ListArray> = arguments.arrays[1..].iter().map(|array| array.as_list()).collect();
    let known = |row: usize| lists.iter().all(|list| list.is_valid(row));
    let longest = |row: usize| lists.iter().map(|list| list.value_length(row)).max().unwrap_or(0);
    let lengths: Vec<i32> = (0..arguments.rows).map(|row| if known(row) { longest(row) } else { 0 }).collect();
    let columns = lists.iter().map(|list| {
        let places = lengths.iter().enumerate().flat_map(|(row, length)| {
            (0..*length).map(move |at| (at < list.value_length(row)).then(|| i64::from(list.value_offsets()[row] + at)))
        });
        Ok(arrow::compute::take(list.values(), &places.collect::<Int64Array>(), None)?)
    });
    let columns = columns.collect::<Result<Vec<_>>>()?;
    let values = StructArray::try_new(fields.clone(), columns, None)?;
    let offsets = OffsetBuffer::from_lengths(lengths.iter().map(|length| *length as usize));
    let nulls = arrow::buffer::NullBuffer::from((0..arguments.rows).map(known).collect::<Vec<bool>>());
    Ok(Arc::new(ListArray::new(Arc::clone(element), offsets, Arc::new(values), Some(nulls))))
}

// ---- maps ----

fn empty_map_field(name: &str, _: ReturnFieldArgs) -> Result<FieldRef> {
    Ok(Arc::new(Field::new(name, map_type(DataType::Null, DataType::Null), false)))
}

fn empty_map(arguments: Arguments) -> Result<ArrayRef> {
    let DataType::Map(entries, _) = arguments.field.data_type() else { return internal_err!("a map is made") };
    let none = new_empty_array(entries.data_type());
    let offsets = OffsetBuffer::from_lengths(std::iter::repeat_n(0, arguments.rows));
    let none: StructArray = none.as_struct().clone();
    Ok(Arc::new(MapArray::new(Arc::clone(entries), offsets, none, None, false)))
}
