//! How a Rust type meets a table: which columns it is read from, which columns it becomes, and how it is kept.

use std::cell::RefCell;
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions, StructArray};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use serde::Serialize;
use serde::de::{Deserialize, DeserializeOwned};

use super::read::{Cell, spark_column};
use super::trace::column_type;
use super::write::Builder;
use crate::error::{Error, Result};
use crate::options::did_you_mean;
use crate::sql::types::{nearest_spark_type, spark_type_name};

/// The name of a type in messages, without the modules it is in.
fn name_of<T>() -> String {
    let name = std::any::type_name::<T>();
    name.split_inclusive(|c: char| !c.is_alphanumeric() && c != '_' && c != ':')
        .map(|part| part.rsplit("::").next().unwrap_or(part))
        .collect()
}

/// The column in which values of one type are kept. What has no columns is kept as JSON text.
#[derive(Debug)]
pub(crate) struct ValueColumn<T> {
    data_type: DataType,
    is_json: bool,
    values: PhantomData<fn(T) -> T>,
}

impl<T: Serialize + DeserializeOwned> ValueColumn<T> {
    /// The column of a type.
    pub(crate) fn new() -> Self {
        let (data_type, is_json) = match column_type::<T>() {
            Ok(data_type) => (data_type, false),
            Err(_) => (DataType::Utf8, true),
        };
        Self { data_type, is_json, values: PhantomData }
    }

    /// Its type.
    pub(crate) fn data_type(&self) -> &DataType {
        &self.data_type
    }

    /// Values as a column; no value is null.
    pub(crate) fn encode<'a>(&self, values: impl Iterator<Item = Option<&'a T>>) -> Result<ArrayRef>
    where
        T: 'a,
    {
        let unfit = |error: &dyn std::fmt::Display| {
            Error::analysis(format!("A {} cannot be kept as state: {error}. Keep another type.", name_of::<T>()))
        };
        let mut builder = Builder::new(&self.data_type).map_err(|error| unfit(&error))?;
        for value in values {
            match value {
                None => builder.append_null(),
                Some(value) if self.is_json => {
                    let json = serde_json::to_string(value).map_err(|error| unfit(&error))?;
                    json.serialize(&mut builder).map_err(|error| unfit(&error))?;
                }
                Some(value) => value.serialize(&mut builder).map_err(|error| unfit(&error))?,
            }
        }
        builder.finish().map_err(|error| unfit(&error))
    }

    /// The value of a row that is not null.
    pub(crate) fn decode(&self, column: &dyn Array, row: usize) -> Result<T> {
        let read = if self.is_json {
            serde_json::from_str(column.as_string::<i32>().value(row)).map_err(|error| error.to_string())
        } else {
            T::deserialize(Cell::new(column, row)).map_err(|error| error.to_string())
        };
        read.map_err(|error| Error::Data {
            class: None,
            message: format!(
                "State cannot be read as a {}: {error}. Has the type changed since the checkpoint was written? Give it \
                 back its earlier form, or start with a new checkpointLocation.",
                name_of::<T>()
            ),
        })
    }
}

/// The columns that a type becomes: those of a struct (of a tuple: `_1`, `_2`, ..), else one column `value`.
#[derive(Clone, Debug)]
pub(crate) struct RecordShape {
    row_type: DataType,
    is_struct: bool,
    schema: SchemaRef,
}

impl RecordShape {
    /// The columns of a type, in Spark's types, all nullable.
    pub(crate) fn of<T: DeserializeOwned>() -> Result<Self> {
        let traced = column_type::<T>().map_err(|why| {
            Error::analysis(format!(
                "Rows cannot be made of {}: {why}. Use a struct (or a tuple) of numbers, text, times, lists and maps.",
                name_of::<T>()
            ))
        })?;
        let row_type = nearest_spark_type(&traced);
        let (fields, is_struct) = match &row_type {
            DataType::Struct(fields) if !fields.is_empty() => (fields.clone(), true),
            DataType::Struct(_) | DataType::Null => {
                return Err(Error::analysis(format!(
                    "{} has no columns. Return a struct with fields.",
                    name_of::<T>()
                )));
            }
            other => (Fields::from(vec![Field::new("value", other.clone(), true)]), false),
        };
        Ok(Self { row_type, is_struct, schema: Arc::new(Schema::new(fields)) })
    }

    /// The columns.
    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// An empty table.
    pub(crate) fn records(&self) -> Result<RecordWriter<'_>> {
        Ok(RecordWriter { shape: self, builder: Builder::new(&self.row_type).map_err(unfit)?, rows: 0 })
    }
}

fn unfit(error: impl std::fmt::Display) -> Error {
    Error::Data {
        class: None,
        message: format!("A row of the result does not fit its columns: {error}. Change its type."),
    }
}

/// Rows on their way to a table.
pub(crate) struct RecordWriter<'a> {
    shape: &'a RecordShape,
    builder: Builder,
    rows: usize,
}

impl RecordWriter<'_> {
    /// Appends a row.
    pub(crate) fn push<T: Serialize>(&mut self, row: &T) -> Result<()> {
        self.rows += 1;
        row.serialize(&mut self.builder).map_err(unfit)
    }

    /// The table.
    pub(crate) fn finish(self) -> Result<RecordBatch> {
        let rows = self.builder.finish().map_err(unfit)?;
        let columns = match rows.as_struct_opt().filter(|_| self.shape.is_struct) {
            Some(row) => row.columns().to_vec(),
            None => vec![rows],
        };
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.shape.schema), columns, &options)?)
    }
}

/// Which of the columns offered a type is read from.
#[derive(Clone, Debug)]
pub(crate) struct RowSource {
    /// By index, under the name that the type knows it by.
    columns: Vec<(usize, String)>,
    /// Whether a value is a row of them, or what is in the only one.
    is_row: bool,
}

impl RowSource {
    /// Finds the columns of a type: those of a struct by name (in any case), those of a tuple by position, all for a
    /// type that takes what comes, and for a type of one value the only column, or else column `alone`.
    pub(crate) fn of<T: DeserializeOwned>(offered: &Fields, alone: Option<usize>) -> Result<Self> {
        let all = || offered.iter().enumerate().map(|(at, field)| (at, field.name().clone())).collect();
        match column_type::<T>() {
            Err(_) => Ok(Self { columns: all(), is_row: true }),
            Ok(DataType::Struct(fields)) => match named(&fields, offered) {
                Ok(columns) => Ok(Self { columns, is_row: true }),
                Err(_) if is_tuple(&fields) && fields.len() == offered.len() => {
                    Ok(Self { columns: all(), is_row: true })
                }
                Err(_) if offered.len() == 1 && matches!(offered[0].data_type(), DataType::Struct(_)) => {
                    Ok(Self { columns: all(), is_row: false })
                }
                Err(missing) => Err(unresolved::<T>(&missing, offered)),
            },
            Ok(one) => {
                let column = if offered.len() == 1 { Some(0) } else { alone };
                let column = column.ok_or_else(|| {
                    Error::analysis(format!(
                        "A {} is read from one column, but there are {}: {}. Select one of them first, or read a struct.",
                        spark_type_name(&one),
                        offered.len(),
                        names(offered)
                    ))
                })?;
                Ok(Self { columns: vec![(column, offered[column].name().clone())], is_row: false })
            }
        }
    }

    /// The rows of a table.
    pub(crate) fn records(&self, columns: &[ArrayRef], rows: usize) -> Result<Records> {
        if let (false, [(column, _)]) = (self.is_row, &self.columns[..]) {
            return Ok(Records { rows: spark_column(&columns[*column])? });
        }
        let chosen = self.columns.iter().map(|(at, _)| spark_column(&columns[*at])).collect::<Result<Vec<_>>>()?;
        let fields: Fields = (self.columns.iter().zip(&chosen))
            .map(|((_, name), column)| Field::new(name, column.data_type().clone(), true))
            .collect();
        let rows: ArrayRef = if chosen.is_empty() {
            Arc::new(StructArray::new_empty_fields(rows, None))
        } else {
            Arc::new(StructArray::try_new(fields, chosen, None)?)
        };
        Ok(Records { rows })
    }
}

fn is_tuple(fields: &Fields) -> bool {
    fields.iter().enumerate().all(|(at, field)| *field.name() == format!("_{}", at + 1))
}

/// The columns of a struct's fields; the error is the name of one that is not there.
fn named(fields: &Fields, offered: &Fields) -> Result<Vec<(usize, String)>, String> {
    let find = |field: &FieldRef| {
        let exact = offered.iter().position(|column| column.name() == field.name());
        let found =
            exact.or_else(|| offered.iter().position(|column| column.name().eq_ignore_ascii_case(field.name())));
        found.map(|at| (at, field.name().clone())).ok_or_else(|| field.name().clone())
    };
    fields.iter().map(find).collect()
}

fn names(fields: &Fields) -> String {
    fields.iter().map(|field| field.name().as_str()).collect::<Vec<_>>().join(", ")
}

fn unresolved<T>(name: &str, offered: &Fields) -> Error {
    Error::analysis_class(
        "UNRESOLVED_COLUMN.WITH_SUGGESTION",
        format!(
            "A column with name `{name}` cannot be resolved, which {} has as a field.{} The columns are: {}.",
            name_of::<T>(),
            did_you_mean(name, offered.iter().map(|field| field.name().as_str())),
            names(offered)
        ),
    )
}

/// Rows to be read as Rust values.
#[derive(Debug)]
pub(crate) struct Records {
    rows: ArrayRef,
}

impl Records {
    /// A row as a value.
    pub(crate) fn get<'a, T: Deserialize<'a>>(&'a self, row: usize) -> Result<T> {
        T::deserialize(Cell::new(self.rows.as_ref(), row)).map_err(|error| Error::Data {
            class: Some("EXPRESSION_DECODING_FAILED".into()),
            message: format!(
                "Failed to decode a row to a {}: {error}. Give the field the column's type, and make it an Option where \
                 the column can be null.",
                name_of::<T>()
            ),
        })
    }
}

/// The rows of one group, one after the other, each once.
///
/// A row that does not fit `V` ends the iteration, and the batch fails once the function has returned.
#[derive(Debug)]
pub struct Values<'a, V> {
    records: Option<&'a Records>,
    rows: Range<usize>,
    failed: &'a RefCell<Option<Error>>,
    values: PhantomData<fn() -> V>,
}

impl<'a, V> Values<'a, V> {
    pub(crate) fn new(records: Option<&'a Records>, rows: Range<usize>, failed: &'a RefCell<Option<Error>>) -> Self {
        Self { records, rows, failed, values: PhantomData }
    }
}

impl<V: DeserializeOwned> Iterator for Values<'_, V> {
    type Item = V;

    fn next(&mut self) -> Option<V> {
        let records = self.records?;
        let row = self.rows.next()?;
        match records.get(row) {
            Ok(value) => Some(value),
            Err(error) => {
                self.rows = 0..0;
                self.failed.borrow_mut().get_or_insert(error);
                None
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.rows.len()))
    }
}

#[cfg(test)]
mod tests;
