//! `partitionBy`: which rows go into which folder `k=v`, named as Spark and Hive name them.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use arrow::row::{OwnedRow, RowConverter, SortField};
use wavetank_engine::options::did_you_mean;
use wavetank_engine::{Error, Result};

use crate::values::plain::{Style, encoder};
use crate::values::type_name::sql_name;
use crate::values::{Encoder, nulls_of};

/// The folder of null and of the empty text.
const DEFAULT_PARTITION: &str = "__HIVE_DEFAULT_PARTITION__";

/// Which columns name folders and which are written into files.
#[derive(Clone, Debug)]
pub(crate) struct Partitioning {
    /// Positions of the partition columns, in the order of `partitionBy`.
    keys: Vec<usize>,
    /// Positions of the columns in the files.
    data: Vec<usize>,
    /// Names of the partition columns, escaped.
    names: Vec<String>,
    /// The columns in the files.
    pub(crate) data_schema: SchemaRef,
}

impl Partitioning {
    /// Finds and checks the columns of `partitionBy`; names are compared ignoring case.
    pub(crate) fn of(schema: &SchemaRef, partition_by: &[String]) -> Result<Self> {
        let mut keys = Vec::with_capacity(partition_by.len());
        for name in partition_by {
            let position = schema
                .fields()
                .iter()
                .position(|f| f.name() == name)
                .or_else(|| schema.fields().iter().position(|f| f.name().eq_ignore_ascii_case(name)))
                .ok_or_else(|| missing(name, schema))?;
            if keys.contains(&position) {
                return Err(Error::analysis_class(
                    "COLUMN_ALREADY_EXISTS",
                    format!("The column `{name}` already exists. Name each column of partitionBy once."),
                ));
            }
            check_type(schema.field(position).data_type())?;
            keys.push(position);
        }
        if !keys.is_empty() && keys.len() == schema.fields().len() {
            return Err(Error::analysis_class(
                "ALL_PARTITION_COLUMNS_NOT_ALLOWED",
                "Cannot use all columns for partition columns. Leave one column for the files.",
            ));
        }
        let data: Vec<usize> = (0..schema.fields().len()).filter(|position| !keys.contains(position)).collect();
        let names = keys.iter().map(|key| escape(schema.field(*key).name())).collect();
        let data_schema = Arc::new(schema.project(&data)?);
        Ok(Self { keys, data, names, data_schema })
    }

    /// Whether there are partition columns.
    pub(crate) fn is_partitioned(&self) -> bool {
        !self.keys.is_empty()
    }

    /// A splitter for the rows of one stream.
    pub(crate) fn splitter(&self, schema: &Schema) -> Result<Splitter> {
        let fields = self.keys.iter().map(|key| SortField::new(schema.field(*key).data_type().clone())).collect();
        Ok(Splitter { partitioning: self.clone(), converter: RowConverter::new(fields)?, folders: HashMap::new() })
    }

    /// The folder of the values in this row.
    fn folder(&self, keys: &[ArrayRef], spell: &[Encoder<'_>], row: usize) -> Arc<str> {
        let mut folder = String::new();
        for ((name, key), spell) in self.names.iter().zip(keys).zip(spell) {
            let mut bytes = Vec::new();
            if !nulls_of(key).is_some_and(|nulls| nulls.is_null(row)) {
                spell(row, &mut bytes);
            }
            let text = String::from_utf8_lossy(&bytes);
            let value = if text.is_empty() { DEFAULT_PARTITION.to_owned() } else { escape(&text) };
            let gap = if folder.is_empty() { "" } else { "/" };
            let _ = write!(folder, "{gap}{name}={value}"); // a String takes every write
        }
        folder.into()
    }
}

fn missing(name: &str, schema: &Schema) -> Error {
    let names: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
    Error::analysis(format!(
        "Partition column {name} not found in existing columns ({}).{}",
        names.join(", "),
        did_you_mean(name, names.iter().copied())
    ))
}

fn check_type(data_type: &DataType) -> Result<()> {
    if data_type.is_nested() || matches!(data_type, DataType::Null) {
        return Err(Error::analysis_class(
            "INVALID_PARTITION_COLUMN_DATA_TYPE",
            format!("Cannot use \"{}\" for partition column. Choose a column of a simple type.", sql_name(data_type)),
        ));
    }
    Ok(())
}

/// Splits record batches by folder. Values are compared as row-format bytes, so that a folder's name is spelled once
/// per value and not once per row.
pub(crate) struct Splitter {
    partitioning: Partitioning,
    converter: RowConverter,
    /// Looked up, never iterated.
    folders: HashMap<OwnedRow, Arc<str>>,
}

impl Splitter {
    /// The rows of a record batch by folder (`k=v/l=w`), without the partition columns, in their order.
    pub(crate) fn split(&mut self, rows: &RecordBatch) -> Result<BTreeMap<Arc<str>, RecordBatch>> {
        let keys: Vec<ArrayRef> = self.partitioning.keys.iter().map(|key| rows.column(*key).clone()).collect();
        let converted = self.converter.convert_columns(&keys)?;
        let spell = keys.iter().map(|key| encoder(key, &Style::cast())).collect::<Result<Vec<_>>>()?;
        let mut rows_of: BTreeMap<Arc<str>, Vec<u32>> = BTreeMap::new();
        let mut last: Option<(usize, Arc<str>)> = None;
        for row in 0..rows.num_rows() {
            let folder = match &last {
                Some((before, folder)) if converted.row(*before) == converted.row(row) => folder.clone(),
                _ => {
                    let folder = self.folders.entry(converted.row(row).owned());
                    folder.or_insert_with(|| self.partitioning.folder(&keys, &spell, row)).clone()
                }
            };
            rows_of.entry(folder.clone()).or_default().push(row as u32);
            last = Some((row, folder));
        }
        let data = rows.project(&self.partitioning.data)?;
        let mut split = BTreeMap::new();
        for (folder, positions) in rows_of {
            let whole = positions.len() == data.num_rows();
            split.insert(folder, if whole { data.clone() } else { pick(&data, positions)? });
        }
        Ok(split)
    }
}

fn pick(data: &RecordBatch, positions: Vec<u32>) -> Result<RecordBatch> {
    let positions = UInt32Array::from(positions);
    let columns = data.columns().iter().map(|column| take(column, &positions, None)).collect::<Result<Vec<_>, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(positions.len()));
    Ok(RecordBatch::try_new_with_options(data.schema(), columns, &options)?)
}

/// Percent-escapes what Hive does not allow in a folder's name; the set was asked of Spark 4.3.0.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_ascii_control() || "\"#%'*/:=?[\\]^{".contains(c) {
            let _ = write!(escaped, "%{:02X}", u32::from(c)); // a String takes every write
        } else {
            escaped.push(c);
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use arrow::array::*;
    use arrow::datatypes::{Field, Int32Type};

    use super::*;

    fn schema(fields: &[(&str, DataType)]) -> SchemaRef {
        Arc::new(Schema::new(fields.iter().map(|(n, t)| Field::new(*n, t.clone(), true)).collect::<Vec<_>>()))
    }

    fn folders_of(column: impl Array + 'static) -> Vec<String> {
        let schema = schema(&[("k", column.data_type().clone()), ("v", DataType::Int32)]);
        let values = Arc::new(Int32Array::from_iter_values(0..column.len() as i32));
        let rows = RecordBatch::try_new(schema.clone(), vec![Arc::new(column), values]).unwrap();
        let partitioning = Partitioning::of(&schema, &["k".into()]).unwrap();
        let split = partitioning.splitter(&schema).unwrap().split(&rows).unwrap();
        assert_eq!(split.values().map(RecordBatch::num_rows).sum::<usize>(), rows.num_rows());
        split.keys().map(|folder| folder.to_string()).collect()
    }

    #[test]
    fn folders_are_named_as_in_spark() {
        let texts = vec![
            Some("a b"),
            None,
            Some(""),
            Some("p%/:=?é#"),
            Some("c\nd\x7f"),
            Some("say \"hi\", ok"),
            Some("{}[]^~|<>`&+;$@!().-_"),
            Some("日本"),
        ];
        let mut expected = vec![
            "k=a b",
            "k=__HIVE_DEFAULT_PARTITION__",
            "k=p%25%2F%3A%3D%3Fé%23",
            "k=c%0Ad%7F",
            "k=say %22hi%22, ok",
            "k=%7B}%5B%5D%5E~|<>`&+;$@!().-_",
            "k=日本",
        ];
        expected.sort_unstable();
        assert_eq!(folders_of(StringArray::from(texts)), expected);
        assert_eq!(folders_of(Float64Array::from(vec![1.0, 1e10, f64::NAN])), ["k=1.0", "k=1.0E10", "k=NaN"]);
        assert_eq!(folders_of(BooleanArray::from(vec![true])), ["k=true"]);
        assert_eq!(folders_of(Date32Array::from(vec![19724])), ["k=2024-01-02"]);
        let stamps = TimestampMicrosecondArray::from(vec![1_704_067_201_100_000]).with_timezone("UTC");
        assert_eq!(folders_of(stamps), ["k=2024-01-01 00%3A00%3A01.1"]);
        let decimals = Decimal128Array::from(vec![0]).with_precision_and_scale(38, 18).unwrap();
        assert_eq!(folders_of(decimals), ["k=0.000000000000000000"]);
        let dictionary: DictionaryArray<Int32Type> = vec![Some("x"), None].into_iter().collect();
        assert_eq!(folders_of(dictionary), ["k=__HIVE_DEFAULT_PARTITION__", "k=x"]);
    }

    #[test]
    fn rows_keep_their_order_and_lose_the_partition_columns() {
        let schema = schema(&[("V", DataType::Int32), ("a=b c/d", DataType::Int32), ("K", DataType::Utf8)]);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int32Array::from(vec![1, 2, 3, 4])),
            Arc::new(Int32Array::from(vec![1, 2, 1, 1])),
            Arc::new(StringArray::from(vec!["x", "x", "x", "y"])),
        ];
        let rows = RecordBatch::try_new(schema.clone(), columns).unwrap();
        let partitioning = Partitioning::of(&schema, &["k".into(), "a=b c/d".into()]).unwrap();
        let mut splitter = partitioning.splitter(&schema).unwrap();
        for _ in 0..2 {
            let split = splitter.split(&rows).unwrap();
            let values = |rows: &RecordBatch| rows.column(0).as_primitive::<Int32Type>().values().to_vec();
            let shown: Vec<_> = split.iter().map(|(folder, rows)| (folder.to_string(), values(rows))).collect();
            assert_eq!(
                shown,
                [
                    ("K=x/a%3Db c%2Fd=1".to_owned(), vec![1, 3]),
                    ("K=x/a%3Db c%2Fd=2".to_owned(), vec![2]),
                    ("K=y/a%3Db c%2Fd=1".to_owned(), vec![4])
                ]
            );
            assert!(split.values().all(|rows| rows.schema_ref() == &partitioning.data_schema));
        }
    }

    #[test]
    fn bad_columns_are_refused_as_in_spark() {
        let list = DataType::List(Arc::new(Field::new("item", DataType::Int32, true)));
        let schema = schema(&[("key", DataType::Utf8), ("m", list)]);
        for (columns, message) in [
            (vec!["kye"], "Partition column kye not found in existing columns (key, m). Did you mean 'key'?"),
            (vec!["key", "KEY"], "[COLUMN_ALREADY_EXISTS]"),
            (vec!["m"], "[INVALID_PARTITION_COLUMN_DATA_TYPE] Cannot use \"ARRAY<INT>\" for partition column."),
        ] {
            let columns: Vec<String> = columns.into_iter().map(String::from).collect();
            let error = Partitioning::of(&schema, &columns).unwrap_err().to_string();
            assert!(error.starts_with(message), "{error}");
        }
        let only = Partitioning::of(&Arc::new(schema.project(&[0]).unwrap()), &["key".into()]).unwrap_err();
        assert_eq!(only.class(), Some("ALL_PARTITION_COLUMNS_NOT_ALLOWED"));
    }
}
