//! Spark's functions that take a function: `transform`, `filter`, `zip_with`, `aggregate`, `map_filter`, `transform_keys`
//! and `transform_values`.
//!
//! ```text
//! a list or map column   -> elements (flat), the row of each
//! lambda                 -> evaluated once over all elements of the batch (aggregate: once for each position)
//! the row of each        -> the columns of the query that the lambda uses, repeated to fit
//! ```
//! `transform` and `filter` hand their lambda the element and, to one with two parameters, its place from 0. A null list
//! or map gives null. Absent: `exists` and `forall` (DataFusion's `array_any_match`), `array_sort` with a comparator,
//! `map_zip_with`.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int32Array, ListArray, MapArray, StructArray, UInt64Array};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::{interleave, nullif, take, take_arrays};
use arrow::datatypes::{DataType, Field, FieldRef, Fields};
use datafusion::common::{exec_err, internal_err};
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, HigherOrderFunctionArgs, HigherOrderReturnFieldArgs, HigherOrderSignature, HigherOrderUDF,
    HigherOrderUDFImpl, LambdaArgument, LambdaParametersProgress, ValueOrLambda, Volatility,
};

use crate::error::Error;
use crate::sql::types::{map_type, quoted_type_name};
use crate::sql::wrong_argument_count;

/// The functions of this file.
pub fn functions() -> Vec<Arc<HigherOrderUDF>> {
    let all = [
        ("transform", Kind::Transform),
        ("filter", Kind::Filter),
        ("zip_with", Kind::ZipWith),
        ("map_filter", Kind::MapFilter),
        ("transform_keys", Kind::TransformKeys),
        ("transform_values", Kind::TransformValues),
        ("aggregate", Kind::Aggregate),
        ("reduce", Kind::Aggregate),
    ];
    let signature = || HigherOrderSignature::user_defined(Volatility::Immutable);
    let udf = |(name, kind)| HigherOrderUDF::new_from_impl(OverElements { name, kind, signature: signature() });
    all.into_iter().map(|function| Arc::new(udf(function))).collect()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Transform,
    Filter,
    ZipWith,
    MapFilter,
    TransformKeys,
    TransformValues,
    Aggregate,
}

impl Kind {
    /// How many values stand before the lambdas, and how many of them are collections.
    fn values(self) -> (usize, usize) {
        match self {
            Self::ZipWith => (2, 2),
            Self::Aggregate => (2, 1),
            _ => (1, 1),
        }
    }

    fn takes_maps(self) -> bool {
        matches!(self, Self::MapFilter | Self::TransformKeys | Self::TransformValues)
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct OverElements {
    name: &'static str,
    kind: Kind,
    signature: HigherOrderSignature,
}

impl OverElements {
    fn unexpected(&self, wanted: &str, found: &DataType) -> Error {
        Error::analysis_class(
            "DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE",
            format!(
                "Cannot resolve \"{}\" due to data type mismatch: a parameter requires the {wanted} type, however it has the \
                 type {}.",
                self.name,
                quoted_type_name(found)
            ),
        )
    }

    fn element(&self, of: &DataType) -> Result<FieldRef> {
        match of {
            DataType::List(element) => Ok(Arc::new(Field::new("", element.data_type().clone(), true))),
            other => Err(self.unexpected("\"ARRAY\"", other).into()),
        }
    }

    fn entry<'f>(&self, of: &'f DataType) -> Result<&'f Fields> {
        if let DataType::Map(entries, _) = of
            && let DataType::Struct(entry) = entries.data_type()
        {
            return Ok(entry);
        }
        Err(self.unexpected("\"MAP\"", of).into())
    }

    /// The predicate or combiner must have the type that is put to use.
    fn must_be(&self, wanted: &DataType, found: &DataType) -> Result<()> {
        let same = found.equals_datatype(wanted) || *found == DataType::Null;
        if same { Ok(()) } else { Err(self.unexpected(&quoted_type_name(wanted), found).into()) }
    }
}

impl HigherOrderUDFImpl for OverElements {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &HigherOrderSignature {
        &self.signature
    }

    fn coerce_value_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let (values, collections) = self.kind.values();
        if types.len() != values {
            return Err(wrong_argument_count(self.name, &(values + 1).to_string(), types.len() + 1).into());
        }
        let plain = |(at, data_type): (usize, &DataType)| match data_type {
            DataType::LargeList(e) | DataType::FixedSizeList(e, _) => DataType::List(Arc::clone(e)),
            DataType::Null if at < collections && self.kind.takes_maps() => map_type(DataType::Null, DataType::Null),
            DataType::Null if at < collections => DataType::new_list(DataType::Null, true),
            other => other.clone(),
        };
        let types: Vec<DataType> = types.iter().enumerate().map(plain).collect();
        for collection in &types[..collections] {
            if self.kind.takes_maps() {
                self.entry(collection).map(drop)?
            } else {
                self.element(collection).map(drop)?
            }
        }
        Ok(types)
    }

    fn lambda_parameters(
        &self,
        _: usize,
        fields: &[ValueOrLambda<FieldRef, Option<FieldRef>>],
    ) -> Result<LambdaParametersProgress> {
        let mut values = Vec::new();
        let mut lambdas = 0;
        for field in fields {
            match field {
                ValueOrLambda::Value(field) => values.push(field.data_type()),
                ValueOrLambda::Lambda(_) => lambdas += 1,
            }
        }
        let (count, _) = self.kind.values();
        let finish = usize::from(self.kind == Kind::Aggregate);
        if values.len() != count || lambdas == 0 || lambdas > 1 + finish {
            return Err(wrong_argument_count(self.name, &(count + 1).to_string(), fields.len()).into());
        }
        let of = |data_type: &DataType| Arc::new(Field::new("", data_type.clone(), true));
        let parameters = match self.kind {
            Kind::Transform | Kind::Filter => vec![vec![self.element(values[0])?, of(&DataType::Int32)]],
            Kind::ZipWith => vec![vec![self.element(values[0])?, self.element(values[1])?]],
            Kind::MapFilter | Kind::TransformKeys | Kind::TransformValues => {
                let entry = self.entry(values[0])?;
                vec![vec![of(entry[0].data_type()), of(entry[1].data_type())]]
            }
            Kind::Aggregate => vec![vec![of(values[1]), self.element(values[0])?], vec![of(values[1])]],
        };
        Ok(LambdaParametersProgress::Complete(parameters.into_iter().take(lambdas).collect()))
    }

    fn return_field_from_args(&self, args: HigherOrderReturnFieldArgs) -> Result<FieldRef> {
        let mut values = Vec::new();
        let mut lambdas = Vec::new();
        for field in args.arg_fields {
            match field {
                ValueOrLambda::Value(field) => values.push(field.data_type()),
                ValueOrLambda::Lambda(field) => lambdas.push(field.data_type()),
            }
        }
        let list_of = |element: &DataType| DataType::List(Arc::new(Field::new_list_field(element.clone(), true)));
        let data_type = match self.kind {
            Kind::Transform | Kind::ZipWith => list_of(lambdas[0]),
            Kind::Filter | Kind::MapFilter => {
                self.must_be(&DataType::Boolean, lambdas[0])?;
                values[0].clone()
            }
            Kind::TransformKeys => map_type(lambdas[0].clone(), self.entry(values[0])?[1].data_type().clone()),
            Kind::TransformValues => map_type(self.entry(values[0])?[0].data_type().clone(), lambdas[0].clone()),
            Kind::Aggregate => {
                self.must_be(values[1], lambdas[0])?;
                lambdas.get(1).copied().unwrap_or(values[1]).clone()
            }
        };
        Ok(Arc::new(Field::new(self.name, data_type, true)))
    }

    fn invoke_with_args(&self, args: HigherOrderFunctionArgs) -> Result<ColumnarValue> {
        let mut values = Vec::new();
        let mut lambdas = Vec::new();
        for arg in &args.args {
            match arg {
                ValueOrLambda::Value(value) => values.push(value.to_array(args.number_rows)?),
                ValueOrLambda::Lambda(lambda) => lambdas.push(lambda),
            }
        }
        let result = args.return_field.data_type();
        let array = match self.kind {
            Kind::Transform => transform(&values[0], lambdas[0], result)?,
            Kind::Filter => filter(&values[0], lambdas[0])?,
            Kind::ZipWith => zip_with(&values, lambdas[0], result)?,
            Kind::MapFilter => map_filter(&values[0], lambdas[0])?,
            Kind::TransformKeys | Kind::TransformValues => {
                transform_map(&values[0], lambdas[0], result, self.kind == Kind::TransformKeys)?
            }
            Kind::Aggregate => aggregate(&values, &lambdas)?,
        };
        Ok(ColumnarValue::Array(array))
    }
}

/// The elements of all rows that are not null, one after the other.
struct Elements {
    /// Where each stands in the values of the list or map.
    places: UInt64Array,
    /// The row of each.
    rows: UInt64Array,
    /// How many each row has.
    lengths: Vec<usize>,
}

impl Elements {
    fn new(offsets: &OffsetBuffer<i32>, nulls: Option<&NullBuffer>) -> Self {
        let mut places = Vec::new();
        let mut rows = Vec::new();
        let mut lengths = Vec::new();
        for (row, range) in offsets.windows(2).enumerate() {
            let before = places.len();
            if nulls.is_none_or(|nulls| nulls.is_valid(row)) {
                places.extend(range[0] as u64..range[1] as u64);
                rows.resize(places.len(), row as u64);
            }
            lengths.push(places.len() - before);
        }
        Self { places: places.into(), rows: rows.into(), lengths }
    }

    fn of(&self, values: &ArrayRef) -> Result<ArrayRef> {
        Ok(take(values, &self.places, None)?)
    }

    /// The place of each element in its row, from 0.
    fn numbers(&self) -> ArrayRef {
        Arc::new(Int32Array::from_iter_values(self.lengths.iter().flat_map(|length| 0..*length as i32)))
    }

    /// A lambda of two parameters over all elements.
    fn evaluate(&self, lambda: &LambdaArgument, first: &ArrayRef, second: &ArrayRef) -> Result<ArrayRef> {
        call(lambda, &[first, second], &self.rows)
    }

    fn offsets(&self) -> OffsetBuffer<i32> {
        OffsetBuffer::from_lengths(self.lengths.iter().copied())
    }
}

/// A lambda over columns of equal length; `rows` says to which row of the query each of their values belongs.
fn call(lambda: &LambdaArgument, columns: &[&ArrayRef], rows: &UInt64Array) -> Result<ArrayRef> {
    let column = |at: usize| -> Result<ArrayRef> {
        match columns.get(at) {
            Some(column) => Ok(Arc::clone(column)),
            None => internal_err!("a lambda has as many parameters as there are columns"),
        }
    };
    let (first, second) = (|| column(0), || column(1));
    let parameters: [&dyn Fn() -> Result<ArrayRef>; 2] = [&first, &second];
    let captured = |outer: &[ArrayRef]| Ok(take_arrays(outer, rows, None)?);
    lambda.evaluate(&parameters[..columns.len()], captured)?.into_array(rows.len())
}

fn list_type(result: &DataType) -> Result<FieldRef> {
    match result {
        DataType::List(element) => Ok(Arc::clone(element)),
        other => internal_err!("a list is made, not {other}"),
    }
}

fn transform(list: &ArrayRef, lambda: &LambdaArgument, result: &DataType) -> Result<ArrayRef> {
    let list = list.as_list::<i32>();
    let elements = Elements::new(list.offsets(), list.nulls());
    let values = elements.evaluate(lambda, &elements.of(list.values())?, &elements.numbers())?;
    Ok(Arc::new(ListArray::new(list_type(result)?, elements.offsets(), values, list.nulls().cloned())))
}

/// Which elements are kept, and how many of each row.
fn kept(elements: &Elements, predicate: &ArrayRef) -> Result<(BooleanArray, Vec<usize>)> {
    if *predicate.data_type() == DataType::Null {
        return Ok((BooleanArray::from(vec![false; predicate.len()]), vec![0; elements.lengths.len()]));
    }
    let Some(answers) = predicate.as_boolean_opt() else { return exec_err!("the lambda must answer true or false") };
    let keep = |at: usize| answers.is_valid(at) && answers.value(at);
    let mut start = 0;
    let mut lengths = Vec::with_capacity(elements.lengths.len());
    for length in &elements.lengths {
        lengths.push((start..start + length).filter(|at| keep(*at)).count());
        start += length;
    }
    Ok(((0..answers.len()).map(|at| Some(keep(at))).collect(), lengths))
}

fn filter(list: &ArrayRef, lambda: &LambdaArgument) -> Result<ArrayRef> {
    let list = list.as_list::<i32>();
    let elements = Elements::new(list.offsets(), list.nulls());
    let values = elements.of(list.values())?;
    let (keep, lengths) = kept(&elements, &elements.evaluate(lambda, &values, &elements.numbers())?)?;
    let values = arrow::compute::filter(&values, &keep)?;
    let offsets = OffsetBuffer::from_lengths(lengths);
    Ok(Arc::new(ListArray::new(list_type(list.data_type())?, offsets, values, list.nulls().cloned())))
}

/// The shorter list is filled up with nulls.
fn zip_with(values: &[ArrayRef], lambda: &LambdaArgument, result: &DataType) -> Result<ArrayRef> {
    let (left, right) = (values[0].as_list::<i32>(), values[1].as_list::<i32>());
    let nulls = NullBuffer::union(left.nulls(), right.nulls());
    let (mut rows, mut lengths) = (Vec::new(), Vec::new());
    let (mut of_left, mut of_right) = (Vec::new(), Vec::new());
    for row in 0..left.len() {
        let known = nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row));
        let length = |list: &ListArray| if known { list.value_length(row) as u64 } else { 0 };
        let both = length(left).max(length(right));
        for at in 0..both {
            let place = |list: &ListArray| (at < length(list)).then(|| list.value_offsets()[row] as u64 + at);
            of_left.push(place(left));
            of_right.push(place(right));
            rows.push(row as u64);
        }
        lengths.push(both as usize);
    }
    let first = take(left.values(), &UInt64Array::from(of_left), None)?;
    let second = take(right.values(), &UInt64Array::from(of_right), None)?;
    let values = call(lambda, &[&first, &second], &rows.into())?;
    Ok(Arc::new(ListArray::new(list_type(result)?, OffsetBuffer::from_lengths(lengths), values, nulls)))
}

fn map_filter(map: &ArrayRef, lambda: &LambdaArgument) -> Result<ArrayRef> {
    let map = map.as_map();
    let elements = Elements::new(map.offsets(), map.nulls());
    let (keys, values) = (elements.of(map.keys())?, elements.of(map.values())?);
    let (keep, lengths) = kept(&elements, &elements.evaluate(lambda, &keys, &values)?)?;
    let keys = arrow::compute::filter(&keys, &keep)?;
    let values = arrow::compute::filter(&values, &keep)?;
    map_of(map.data_type(), OffsetBuffer::from_lengths(lengths), keys, values, map.nulls())
}

fn transform_map(map: &ArrayRef, lambda: &LambdaArgument, result: &DataType, of_keys: bool) -> Result<ArrayRef> {
    let map = map.as_map();
    let elements = Elements::new(map.offsets(), map.nulls());
    let (mut keys, mut values) = (elements.of(map.keys())?, elements.of(map.values())?);
    let changed = elements.evaluate(lambda, &keys, &values)?;
    *(if of_keys { &mut keys } else { &mut values }) = changed;
    if keys.null_count() > 0 {
        return Err(Error::analysis_class("NULL_MAP_KEY", "Cannot use null as map key. Make another key of it.").into());
    }
    map_of(result, elements.offsets(), keys, values, map.nulls())
}

fn map_of(
    data_type: &DataType,
    offsets: OffsetBuffer<i32>,
    keys: ArrayRef,
    values: ArrayRef,
    nulls: Option<&NullBuffer>,
) -> Result<ArrayRef> {
    let DataType::Map(entries, sorted) = data_type else { return internal_err!("a map is made, not {data_type}") };
    let DataType::Struct(fields) = entries.data_type() else { return internal_err!("a map without entries") };
    let columns = StructArray::try_new(fields.clone(), vec![keys, values], None)?;
    Ok(Arc::new(MapArray::try_new(Arc::clone(entries), offsets, columns, nulls.cloned(), *sorted)?))
}

/// Position by position, over all rows at once that have one there.
fn aggregate(values: &[ArrayRef], lambdas: &[&LambdaArgument]) -> Result<ArrayRef> {
    let list = values[0].as_list::<i32>();
    let mut memory = Arc::clone(&values[1]);
    let length = |row: usize| if list.is_valid(row) { list.value_length(row) } else { 0 };
    let longest = (0..list.len()).map(length).max().unwrap_or(0);
    for position in 0..longest {
        let rows: Vec<u64> = (0..list.len()).filter(|row| length(*row) > position).map(|row| row as u64).collect();
        let places = rows.iter().map(|row| (list.value_offsets()[*row as usize] + position) as u64);
        let element = take(list.values(), &UInt64Array::from_iter_values(places), None)?;
        let mut merge: Vec<(usize, usize)> = (0..list.len()).map(|row| (0, row)).collect();
        for (at, row) in rows.iter().enumerate() {
            merge[*row as usize] = (1, at);
        }
        let rows = UInt64Array::from(rows);
        let so_far = take(&memory, &rows, None)?;
        let merged = call(lambdas[0], &[&so_far, &element], &rows)?;
        let merged = arrow::compute::cast(&merged, memory.data_type())?;
        memory = interleave(&[memory.as_ref(), merged.as_ref()], &merge)?;
    }
    if let Some(finish) = lambdas.get(1) {
        let rows: UInt64Array = (0..list.len() as u64).collect::<Vec<_>>().into();
        memory = call(finish, &[&memory], &rows)?;
    }
    let null: BooleanArray = (0..list.len()).map(|row| Some(list.is_null(row))).collect();
    Ok(if list.null_count() > 0 { nullif(&memory, &null)? } else { memory })
}
