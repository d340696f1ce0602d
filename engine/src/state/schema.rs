//! The columns of a store: which types can be state, how they look on disk, and which changes of them are compatible.
//!
//! Three forms of a type meet here. *Declared*: what the operator gave and gets back. *Hot*: the same without
//! dictionaries and with every nested field nullable, because the row format knows neither. *File*: the hot form with
//! everything taken out that must not matter after a restart: names, the name of a time zone, the layout of strings
//! and lists. Declared, hot and file form of a value have the same row bytes; a test holds arrow to that.
//!
//! Compatible is what has the same file form, position by position (spec/04 "Schema check": names and nullability are
//! ignored).

use std::sync::Arc;

use arrow::array::{Array, ArrayData, ArrayRef, make_array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, IntervalUnit, SchemaRef, TimeUnit};
use arrow::row::{RowConverter, SortField};

use crate::error::{Error, Result};

/// The key and value columns of a store. Either may be without columns: a store without key columns has one entry at
/// most (the state of a global aggregation), one without value columns is a set.
#[derive(Clone, Debug, PartialEq)]
pub struct StateSchema {
    /// The key columns.
    pub key: SchemaRef,
    /// The value columns.
    pub value: SchemaRef,
}

impl StateSchema {
    /// Checks that every column can be state. Refused are unions, which Spark does not have either.
    pub fn new(key: SchemaRef, value: SchemaRef) -> Result<Self> {
        for field in key.fields().iter().chain(value.fields()) {
            if !can_be_state(field.data_type()) {
                return Err(Error::analysis(format!(
                    "Column '{}' of type {} cannot be kept as state. Cast it to a type that can: numbers, text, \
                     binary, dates, timestamps, intervals, and structs, arrays and maps of these.",
                    field.name(),
                    field.data_type()
                )));
            }
        }
        Ok(Self { key, value })
    }
}

fn can_be_state(data_type: &DataType) -> bool {
    fn has_union(data_type: &DataType) -> bool {
        match data_type {
            DataType::Union(_, _) => true,
            DataType::Dictionary(_, values) => has_union(values),
            DataType::RunEndEncoded(_, values) => has_union(values.data_type()),
            DataType::Struct(fields) => fields.iter().any(|field| has_union(field.data_type())),
            other => list_item(other).is_some_and(|item| has_union(item.data_type())),
        }
    }
    !has_union(data_type) && RowConverter::supports_fields(&[SortField::new(hot_type(data_type))])
}

/// The item of a list of any layout, the entries of a map.
fn list_item(data_type: &DataType) -> Option<&FieldRef> {
    match data_type {
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::ListView(item)
        | DataType::LargeListView(item)
        | DataType::FixedSizeList(item, _)
        | DataType::Map(item, _) => Some(item),
        _ => None,
    }
}

/// The hot form of a type.
pub(super) fn hot_type(data_type: &DataType) -> DataType {
    let item = |field: &FieldRef| Arc::new(Field::new(field.name(), hot_type(field.data_type()), true));
    match data_type {
        DataType::Dictionary(_, values) => hot_type(values),
        DataType::RunEndEncoded(_, values) => hot_type(values.data_type()),
        DataType::List(field) => DataType::List(item(field)),
        DataType::LargeList(field) => DataType::LargeList(item(field)),
        DataType::ListView(field) => DataType::ListView(item(field)),
        DataType::LargeListView(field) => DataType::LargeListView(item(field)),
        DataType::FixedSizeList(field, size) => DataType::FixedSizeList(item(field), *size),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(item).collect()),
        DataType::Map(entries, sorted) => map_type(entries, *sorted, hot_type, |field| field.name().clone()),
        other => other.clone(),
    }
}

/// The file form of a type.
pub(super) fn file_type(data_type: &DataType) -> DataType {
    let item = |field: &FieldRef| Arc::new(Field::new("item", file_type(field.data_type()), true));
    match data_type {
        DataType::Dictionary(_, values) => file_type(values),
        DataType::RunEndEncoded(_, values) => file_type(values.data_type()),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => DataType::Binary,
        DataType::Timestamp(unit, Some(_)) => DataType::Timestamp(*unit, Some("UTC".into())),
        DataType::List(field)
        | DataType::LargeList(field)
        | DataType::ListView(field)
        | DataType::LargeListView(field) => DataType::List(item(field)),
        DataType::FixedSizeList(field, size) => DataType::FixedSizeList(item(field), *size),
        DataType::Struct(fields) => DataType::Struct(
            (fields.iter().enumerate())
                .map(|(at, field)| Field::new(at.to_string(), file_type(field.data_type()), true))
                .collect(),
        ),
        DataType::Map(entries, _) => {
            let mut names = ["entries", "key", "value"].into_iter().map(String::from);
            map_type(entries, false, file_type, |_| names.next().unwrap_or_default())
        }
        other => other.clone(),
    }
}

/// A map type with its key and value types turned by `turn`; `name` is asked for the entries, the key and the value.
fn map_type(
    entries: &FieldRef,
    sorted: bool,
    turn: fn(&DataType) -> DataType,
    mut name: impl FnMut(&FieldRef) -> String,
) -> DataType {
    let entries_name = name(entries);
    let fields = match entries.data_type() {
        DataType::Struct(fields) => (fields.iter().enumerate())
            .map(|(at, field)| Field::new(name(field), turn(field.data_type()), at > 0))
            .collect(),
        _ => Default::default(),
    };
    DataType::Map(Arc::new(Field::new(entries_name, DataType::Struct(fields), false)), sorted)
}

/// The types of these columns in file form, as text without names: what the fingerprint in every state file is made
/// of, and what people read in messages. This text is part of the format; changing it makes old state unreadable.
pub(super) fn types_text(schema: &SchemaRef) -> String {
    let columns: Vec<_> = schema.fields().iter().map(|field| type_text(&file_type(field.data_type()))).collect();
    format!("({})", columns.join(", "))
}

/// The fingerprint of these columns' types.
pub(super) fn fingerprint(schema: &SchemaRef) -> u64 {
    twox_hash::XxHash64::oneshot(0, types_text(schema).as_bytes())
}

fn type_text(data_type: &DataType) -> String {
    let unit = |unit: &TimeUnit| match unit {
        TimeUnit::Second => "s",
        TimeUnit::Millisecond => "ms",
        TimeUnit::Microsecond => "us",
        TimeUnit::Nanosecond => "ns",
    };
    match data_type {
        DataType::Null => "void".into(),
        DataType::Boolean => "boolean".into(),
        DataType::Int8 => "tinyint".into(),
        DataType::Int16 => "smallint".into(),
        DataType::Int32 => "int".into(),
        DataType::Int64 => "bigint".into(),
        DataType::UInt8 => "unsigned tinyint".into(),
        DataType::UInt16 => "unsigned smallint".into(),
        DataType::UInt32 => "unsigned int".into(),
        DataType::UInt64 => "unsigned bigint".into(),
        DataType::Float16 => "half".into(),
        DataType::Float32 => "float".into(),
        DataType::Float64 => "double".into(),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "string".into(),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => "binary".into(),
        DataType::FixedSizeBinary(size) => format!("binary({size})"),
        DataType::Date32 => "date".into(),
        DataType::Date64 => "date(ms)".into(),
        DataType::Timestamp(precision, None) => format!("timestamp_ntz({})", unit(precision)),
        DataType::Timestamp(precision, Some(_)) => format!("timestamp({})", unit(precision)),
        DataType::Time32(precision) => format!("time32({})", unit(precision)),
        DataType::Time64(precision) => format!("time64({})", unit(precision)),
        DataType::Duration(precision) => format!("interval day to second({})", unit(precision)),
        DataType::Interval(IntervalUnit::YearMonth) => "interval year to month".into(),
        DataType::Interval(IntervalUnit::DayTime) => "interval(days, ms)".into(),
        DataType::Interval(IntervalUnit::MonthDayNano) => "interval".into(),
        DataType::Decimal32(precision, scale) => format!("decimal32({precision},{scale})"),
        DataType::Decimal64(precision, scale) => format!("decimal64({precision},{scale})"),
        DataType::Decimal128(precision, scale) => format!("decimal({precision},{scale})"),
        DataType::Decimal256(precision, scale) => format!("decimal256({precision},{scale})"),
        DataType::Dictionary(_, values) => type_text(values),
        DataType::RunEndEncoded(_, values) => type_text(values.data_type()),
        DataType::FixedSizeList(item, size) => format!("array<{}>({size})", type_text(item.data_type())),
        DataType::List(item) | DataType::LargeList(item) => format!("array<{}>", type_text(item.data_type())),
        DataType::ListView(item) | DataType::LargeListView(item) => format!("array<{}>", type_text(item.data_type())),
        DataType::Struct(fields) => {
            let fields: Vec<_> = fields.iter().map(|field| type_text(field.data_type())).collect();
            format!("struct<{}>", fields.join(", "))
        }
        DataType::Map(entries, _) => format!("map<{}>", type_text(entries.data_type())),
        DataType::Union(_, _) => "union".into(),
    }
}

/// What is compared between a checkpoint and the running query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// The key columns.
    Key,
    /// The value columns.
    Value,
}

/// The error for state whose columns have other types than the query's (Spark's
/// `STATE_STORE_KEY_SCHEMA_NOT_COMPATIBLE` and its sibling).
pub(super) fn not_compatible(part: Part, path: String, existing: &str, new: &str) -> Error {
    let (class, name, causes) = match part {
        Part::Key => ("STATE_STORE_KEY_SCHEMA_NOT_COMPATIBLE", "key", "grouping columns or other keys"),
        Part::Value => ("STATE_STORE_VALUE_SCHEMA_NOT_COMPATIBLE", "value", "aggregates or other stored columns"),
    };
    Error::checkpoint_class(
        class,
        path,
        format!(
            "Provided {name} schema does not match existing state {name} schema. Please check number and type of \
             fields. Existing {name}_schema={existing} and new {name}_schema={new}. Give the query back the {causes} \
             that it had when this checkpoint was written, or start it with a new checkpointLocation."
        ),
    )
}

/// The array with another, equivalent type: dictionaries built or resolved, strings and binaries in another layout,
/// nested fields with other names or nullability. Shares what it can.
pub(super) fn conform(array: &ArrayRef, target: &DataType) -> Result<ArrayRef> {
    if array.data_type() == target {
        return Ok(Arc::clone(array));
    }
    Ok(make_array(conform_data(array.to_data(), target)?))
}

fn conform_data(data: ArrayData, target: &DataType) -> Result<ArrayData> {
    if data.data_type() == target {
        return Ok(data);
    }
    let is_text = |t: &DataType| file_type(t) == DataType::Utf8 || file_type(t) == DataType::Binary;
    let from = data.data_type().clone();
    match (&from, target) {
        (DataType::Dictionary(_, _) | DataType::RunEndEncoded(_, _), _) => {
            let plain = cast(&make_array(data), &plain_type(&from))?;
            conform_data(plain.to_data(), target)
        }
        (_, DataType::Dictionary(_, values)) => {
            let plain = make_array(conform_data(data, values)?);
            Ok(cast(&plain, target)?.to_data())
        }
        (_, DataType::RunEndEncoded(_, values)) => {
            let plain = make_array(conform_data(data, values.data_type())?);
            Ok(cast(&plain, target)?.to_data())
        }
        (a, b) if is_text(a) && file_type(a) == file_type(b) => Ok(cast(&make_array(data), target)?.to_data()),
        (DataType::Timestamp(a, Some(_)), DataType::Timestamp(b, Some(_))) if a == b => {
            Ok(data.into_builder().data_type(target.clone()).build()?)
        }
        (a, b) if file_type(a) == file_type(b) => conform_nested(data, target),
        (a, b) => Err(Error::internal(format!("a state column of type {a} was given where {b} was declared"))),
    }
}

/// [`conform_data`] for structs, lists and maps whose file form is the same.
fn conform_nested(data: ArrayData, target: &DataType) -> Result<ArrayData> {
    if std::mem::discriminant(data.data_type()) != std::mem::discriminant(target) {
        // A list of another layout: let arrow change the layout, keep the item.
        let Some(item) = list_item(data.data_type()).cloned() else {
            return Err(Error::internal(format!("no way from state type {} to {target}", data.data_type())));
        };
        let layout = match target {
            DataType::List(_) => DataType::List(item),
            DataType::LargeList(_) => DataType::LargeList(item),
            DataType::ListView(_) => DataType::ListView(item),
            _ => DataType::LargeListView(item),
        };
        return conform_data(cast(&make_array(data), &layout)?.to_data(), target);
    }
    let targets: Vec<&DataType> = match target {
        DataType::Struct(fields) => fields.iter().map(|field| field.data_type()).collect(),
        other => list_item(other).map(|item| item.data_type()).into_iter().collect(),
    };
    let children = (data.child_data().iter().zip(targets))
        .map(|(child, target)| conform_data(child.clone(), target))
        .collect::<Result<Vec<_>>>()?;
    Ok(data.into_builder().data_type(target.clone()).child_data(children).build()?)
}

/// The type without its outermost dictionary or run-end encoding.
fn plain_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Dictionary(_, values) => plain_type(values),
        DataType::RunEndEncoded(_, values) => plain_type(values.data_type()),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::Schema;

    use super::*;

    fn schema(types: &[DataType]) -> SchemaRef {
        Arc::new(Schema::new(
            types.iter().enumerate().map(|(i, t)| Field::new(format!("c{i}"), t.clone(), true)).collect::<Vec<_>>(),
        ))
    }

    fn window(names: [&str; 2], nullable: bool, zone: Option<&str>) -> DataType {
        let time = DataType::Timestamp(TimeUnit::Microsecond, zone.map(Into::into));
        DataType::Struct(names.iter().map(|name| Field::new(*name, time.clone(), nullable)).collect())
    }

    #[test]
    fn names_nullability_zones_and_layouts_do_not_matter() {
        let a = schema(&[window(["start", "end"], false, Some("UTC")), DataType::Utf8View]);
        let b = schema(&[
            window(["a", "b"], true, Some("Europe/Vienna")),
            DataType::Dictionary(DataType::Int32.into(), DataType::LargeUtf8.into()),
        ]);
        assert_eq!(types_text(&a), "(struct<timestamp(us), timestamp(us)>, string)");
        assert_eq!(fingerprint(&a), fingerprint(&b));
    }

    #[test]
    fn types_order_and_number_do_matter() {
        let texts = [
            schema(&[]),
            schema(&[DataType::Int32]),
            schema(&[DataType::Int64]),
            schema(&[DataType::Int32, DataType::Int64]),
            schema(&[DataType::Int64, DataType::Int32]),
            schema(&[window(["start", "end"], false, None)]),
            schema(&[window(["start", "end"], false, Some("UTC"))]),
        ]
        .map(|schema| fingerprint(&schema));
        for (i, a) in texts.iter().enumerate() {
            assert!(texts[..i].iter().all(|b| a != b));
        }
    }

    #[test]
    fn the_fingerprint_is_part_of_the_format() {
        assert_eq!(fingerprint(&schema(&[DataType::Int64, DataType::Utf8])), 0xfe8d_976d_3654_b6de);
    }

    #[test]
    fn unions_are_refused_by_name() {
        let union = DataType::Union(arrow::datatypes::UnionFields::empty(), arrow::datatypes::UnionMode::Sparse);
        let error = StateSchema::new(schema(&[union]), schema(&[])).unwrap_err().to_string();
        assert!(error.contains("Column 'c0'") && error.contains("Cast it"), "{error}");
    }
}
