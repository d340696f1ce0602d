//! Keys in which equal values have equal bits: -0.0 becomes 0.0, every NaN the same NaN, also inside structs and lists.

use std::sync::Arc;

use arrow::array::{Array, ArrayData, ArrayRef, AsArray, make_array};
use arrow::datatypes::{ArrowPrimitiveType, DataType, Float16Type, Float32Type, Float64Type};

use crate::error::Result;

type Half = <Float16Type as ArrowPrimitiveType>::Native;

/// Key columns as Spark groups by them: -0.0 = 0.0 and NaN = NaN (spec/04 section 0). Operators run this over their key
/// columns before they hash them or give them to a store, and emit the normalised keys, as Spark does. Columns without
/// floats are passed on as they are.
pub fn normalise_keys(keys: &[ArrayRef]) -> Result<Vec<ArrayRef>> {
    keys.iter().map(normalise).collect()
}

fn normalise(array: &ArrayRef) -> Result<ArrayRef> {
    let data_type = array.data_type();
    if !has_floats(data_type) {
        return Ok(Arc::clone(array));
    }
    Ok(match data_type {
        DataType::Float16 => Arc::new(array.as_primitive::<Float16Type>().unary::<_, Float16Type>(|v| {
            if v.is_nan() {
                Half::NAN
            } else if v == Half::default() {
                Half::default()
            } else {
                v
            }
        })),
        DataType::Float32 => Arc::new(array.as_primitive::<Float32Type>().unary::<_, Float32Type>(|v| match v {
            0.0 => 0.0,
            v if v.is_nan() => f32::NAN,
            v => v,
        })),
        DataType::Float64 => Arc::new(array.as_primitive::<Float64Type>().unary::<_, Float64Type>(|v| match v {
            0.0 => 0.0,
            v if v.is_nan() => f64::NAN,
            v => v,
        })),
        _ => make_array(normalise_children(array.to_data())?),
    })
}

fn normalise_children(data: ArrayData) -> Result<ArrayData> {
    let children = (data.child_data().iter())
        .map(|child| Ok(normalise(&make_array(child.clone()))?.to_data()))
        .collect::<Result<Vec<_>>>()?;
    Ok(data.into_builder().child_data(children).build()?)
}

fn has_floats(data_type: &DataType) -> bool {
    match data_type {
        DataType::Float16 | DataType::Float32 | DataType::Float64 => true,
        DataType::Struct(fields) => fields.iter().any(|field| has_floats(field.data_type())),
        DataType::Dictionary(_, values) => has_floats(values),
        DataType::RunEndEncoded(_, values) => has_floats(values.data_type()),
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::ListView(item)
        | DataType::LargeListView(item)
        | DataType::FixedSizeList(item, _)
        | DataType::Map(item, _) => has_floats(item.data_type()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Float32Array, Float64Array, Int64Array, ListArray, StructArray};
    use arrow::datatypes::{Field, Float64Type};

    use super::*;

    const ODD_NAN: f64 = f64::from_bits(0xfff8_0000_0000_0001);

    fn bits(array: &dyn Array) -> Vec<Option<u64>> {
        array.as_primitive::<Float64Type>().iter().map(|v| v.map(f64::to_bits)).collect()
    }

    #[test]
    fn zeros_and_nans_become_one() {
        let floats: ArrayRef = Arc::new(Float64Array::from(vec![Some(-0.0), Some(ODD_NAN), None, Some(-1.5)]));
        let out = normalise_keys(&[floats]).unwrap();
        assert_eq!(bits(&out[0]), [Some(0), Some(f64::NAN.to_bits()), None, Some((-1.5f64).to_bits())]);
        let singles: ArrayRef = Arc::new(Float32Array::from(vec![-0.0, f32::from_bits(0xffc0_0001)]));
        let out = normalise_keys(&[singles]).unwrap();
        let out: Vec<u32> = out[0].as_primitive::<Float32Type>().values().iter().map(|v| v.to_bits()).collect();
        assert_eq!(out, [0, f32::NAN.to_bits()]);
    }

    #[test]
    fn also_inside_slices_of_structs_and_lists() {
        let list = ListArray::from_iter_primitive::<Float64Type, _, _>([
            Some(vec![Some(1.0)]),
            None,
            Some(vec![Some(-0.0), None, Some(ODD_NAN)]),
        ]);
        let field = Arc::new(Field::new("l", list.data_type().clone(), true));
        let nested = StructArray::from(vec![(field, Arc::new(list) as ArrayRef)]).slice(1, 2);
        let out = normalise_keys(&[Arc::new(nested)]).unwrap();
        let list = out[0].as_struct().column(0).as_list::<i32>().clone();
        assert!(list.is_null(0));
        assert_eq!(bits(&list.value(1)), [Some(0), None, Some(f64::NAN.to_bits())]);
    }

    #[test]
    fn columns_without_floats_are_not_copied() {
        let ints: ArrayRef = Arc::new(Int64Array::from(vec![1]));
        let out = normalise_keys(std::slice::from_ref(&ints)).unwrap();
        assert!(Arc::ptr_eq(&ints, &out[0]));
    }
}
