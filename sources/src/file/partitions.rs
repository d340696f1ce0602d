//! Folders named `k=v` as columns: which there are, of what type, and a file's values.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::ScalarValue;
use percent_encoding::percent_decode_str;
use wavetank_engine::sql::types::timestamp_type;
use wavetank_engine::storage::{Folder, uri};
use wavetank_engine::{Error, Result};

use crate::format::time::{TimeFormats, date};

/// Hive's name for the folder of the nulls.
const NULL_FOLDER: &str = "__HIVE_DEFAULT_PARTITION__";

/// The column of a folder's name, if it is the folder of a partition.
pub(crate) fn name_of_partition(folder: &str) -> Option<&str> {
    folder.split_once('=').map(|(name, _)| name).filter(|name| !name.is_empty())
}

/// Partition columns found, from the outermost folder inwards, with their values as texts.
#[derive(Debug, Default)]
pub(crate) struct Discovered {
    columns: Vec<(String, BTreeSet<String>)>,
}

impl Discovered {
    /// A folder `column=value` was found in `folder`, so many levels down.
    pub(crate) fn add(&mut self, depth: usize, column: &str, value: &str, folder: &Folder) -> Result<()> {
        let column = unescaped(column);
        match self.columns.get_mut(depth) {
            None => self.columns.push((column, BTreeSet::from([unescaped(value)]))),
            Some((name, values)) if *name == column => {
                values.insert(unescaped(value));
            }
            Some((name, _)) => {
                return Err(Error::analysis_class(
                    "CONFLICTING_PARTITION_COLUMN_NAMES",
                    format!(
                        "Conflicting partition column names detected: {name}, {column} (in {}). For partitioned table \
                         directories, data files should only live in leaf directories, and directories at the same \
                         level should have the same partition column name. Rename the folders.",
                        folder.uri("")
                    ),
                ));
            }
        }
        Ok(())
    }

    /// The columns with their types: as the user declared them, otherwise what all values fit.
    pub(crate) fn fields(self, declared: impl Fn(&str) -> Option<FieldRef>) -> Vec<FieldRef> {
        let field = |(name, values): (String, BTreeSet<String>)| {
            declared(&name).unwrap_or_else(|| Arc::new(Field::new(name, common_type(&values), true)))
        };
        self.columns.into_iter().map(field).collect()
    }
}

fn unescaped(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// The narrowest type that all values fit, as Spark infers it.
fn common_type(values: &BTreeSet<String>) -> DataType {
    let types = values.iter().filter(|value| *value != NULL_FOLDER).map(|value| type_of(value));
    let wider = |one: DataType, other: DataType| match (&one, &other) {
        _ if one == other => one,
        (DataType::Int32, DataType::Int64) | (DataType::Int64, DataType::Int32) => DataType::Int64,
        (DataType::Int32 | DataType::Int64, DataType::Float64)
        | (DataType::Float64, DataType::Int32 | DataType::Int64) => DataType::Float64,
        (DataType::Decimal128(p, 0), DataType::Decimal128(q, 0)) => DataType::Decimal128(*p.max(q), 0),
        (DataType::Decimal128(p, 0), DataType::Int32 | DataType::Int64)
        | (DataType::Int32 | DataType::Int64, DataType::Decimal128(p, 0)) => DataType::Decimal128((*p).max(20), 0),
        (DataType::Decimal128(..), DataType::Float64) | (DataType::Float64, DataType::Decimal128(..)) => {
            DataType::Float64
        }
        (DataType::Date32, DataType::Timestamp(..)) => other,
        (DataType::Timestamp(..), DataType::Date32) => one,
        _ => DataType::Utf8,
    };
    types.reduce(wider).unwrap_or(DataType::Utf8)
}

fn type_of(value: &str) -> DataType {
    let is_number = value.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
    if is_number && value.parse::<i32>().is_ok() {
        return DataType::Int32;
    }
    if is_number && value.parse::<i64>().is_ok() {
        return DataType::Int64;
    }
    let digits = value.trim_start_matches(['+', '-']);
    if (1..=38).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return DataType::Decimal128(digits.len() as u8, 0);
    }
    if is_number && value.parse::<f64>().is_ok() {
        return DataType::Float64;
    }
    // Only whole dates: 2024-03 would be a date for CAST, but is rather a name.
    let is_dated = value.len() >= 8 && value.matches('-').count() >= 2;
    if is_dated && !value.contains([' ', 'T']) && date(value).is_some() {
        return DataType::Date32;
    }
    if is_dated && TimeFormats::default().timestamp(value).is_some() {
        return timestamp_type();
    }
    DataType::Utf8
}

/// The values of a file's partition columns, from the folders in its path.
pub(crate) fn values_of(file_uri: &str, columns: &[FieldRef]) -> Result<Vec<ScalarValue>> {
    if columns.is_empty() {
        return Ok(Vec::new());
    }
    let path = uri::decode(file_uri).unwrap_or_else(|| file_uri.to_string());
    let mut folders: Vec<&str> = path.split('/').collect();
    folders.pop();
    columns
        .iter()
        .map(|column| {
            // The innermost folder counts: what is above the source's own path is not ours.
            let value = folders.iter().rev().find_map(|folder| {
                let name = name_of_partition(folder)?;
                unescaped(name).eq_ignore_ascii_case(column.name()).then(|| unescaped(&folder[name.len() + 1..]))
            });
            match value {
                None => Ok(ScalarValue::try_from(column.data_type())?),
                Some(value) if value == NULL_FOLDER => Ok(ScalarValue::try_from(column.data_type())?),
                Some(value) => typed(value, column, file_uri),
            }
        })
        .collect()
}

fn typed(value: String, column: &FieldRef, file_uri: &str) -> Result<ScalarValue> {
    let scalar = match column.data_type() {
        DataType::Date32 => date(&value).map(|days| ScalarValue::Date32(Some(days))),
        DataType::Timestamp(_, Some(zone)) => TimeFormats::default()
            .timestamp(&value)
            .map(|micros| ScalarValue::TimestampMicrosecond(Some(micros), Some(Arc::clone(zone)))),
        DataType::Timestamp(_, None) => TimeFormats::default()
            .timestamp_ntz(&value)
            .map(|micros| ScalarValue::TimestampMicrosecond(Some(micros), None)),
        other => ScalarValue::try_from_string(value.clone(), other).ok(),
    };
    scalar.ok_or_else(|| Error::Data {
        class: Some("INVALID_PARTITION_VALUE".into()),
        message: format!(
            "Failed to cast value '{value}' to data type {} for partition column `{}` of file {file_uri}. Declare the \
             column as STRING, or rename the folder.",
            wavetank_engine::sql::types::quoted_type_name(column.data_type()),
            column.name()
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_that_all_values_fit() {
        for (values, expected) in [
            (vec!["1", "2"], DataType::Int32),
            (vec!["1", "3000000000"], DataType::Int64),
            (vec!["1", "2.5"], DataType::Float64),
            (vec!["1", "99999999999999999999"], DataType::Decimal128(20, 0)),
            (vec!["1", "x"], DataType::Utf8),
            (vec!["2024-03-01", "2024-03-02"], DataType::Date32),
            (vec!["2024-03-01", "2024-03-02 10:00:00"], timestamp_type()),
            (vec!["1", NULL_FOLDER], DataType::Int32),
            (vec![NULL_FOLDER], DataType::Utf8),
            (vec!["inf"], DataType::Utf8),
            (vec!["2024-03"], DataType::Utf8),
        ] {
            assert_eq!(common_type(&values.iter().map(|v| v.to_string()).collect()), expected, "{values:?}");
        }
    }

    #[test]
    fn values_come_from_the_innermost_folder() {
        let columns = [
            Arc::new(Field::new("k", DataType::Utf8, true)),
            Arc::new(Field::new("d", DataType::Date32, true)),
            Arc::new(Field::new("n", DataType::Int32, true)),
        ];
        let values = values_of("file:///k=out/in/k=a%2520b/d=2024-03-01/n=__HIVE_DEFAULT_PARTITION__/f.json", &columns);
        let expected = [ScalarValue::from("a b"), ScalarValue::Date32(Some(19_783)), ScalarValue::Int32(None)];
        assert_eq!(values.unwrap(), expected);
        let error = values_of("file:///n=x/f", &columns[2..]).unwrap_err().to_string();
        assert!(error.contains("`n`") && error.contains("'x'"), "{error}");
    }
}
