//! What a file holds that somebody drops: the lines of its step, or the same rows as Parquet where the pipeline reads that.

use bytes::Bytes;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::file::properties::WriterProperties;
use wavetank_engine::sql::{Located, Statement, parse_script};

use crate::tape;

/// Rows of a row group: few, so that small files have several.
const GROUP_ROWS: usize = 2;

/// The formats of the folders that a pipeline reads.
#[derive(Clone, Debug, Default)]
pub(crate) struct Contents {
    /// Folders of Parquet, with the columns of their tables.
    parquet: Vec<(String, SchemaRef)>,
}

impl Contents {
    /// What this script says of its folders. A script that cannot be read has lines: its query will say what is wrong.
    pub fn of(script: &str) -> Self {
        let tables = parse_script(script).unwrap_or_default().into_iter().filter_map(|located| {
            let Located { statement: Statement::CreateTable(table), .. } = located else { return None };
            let folder = table.options.get("path")?.trim_end_matches('/');
            (table.using.as_deref() == Some("parquet")).then_some((format!("{folder}/"), table.columns?))
        });
        Self { parquet: tables.collect() }
    }

    /// The content of a file with these rows; half of it when it is `torn`. Rows that do not fit the columns of a table of
    /// Parquet stay lines, which a reader of Parquet refuses.
    pub fn bytes(&self, file: &str, rows: &[String], torn: bool) -> Bytes {
        let schema =
            self.parquet.iter().find(|(folder, _)| file.starts_with(folder.as_str())).map(|(_, schema)| schema);
        match schema.and_then(|schema| parquet(schema, rows)) {
            Some(whole) if torn => whole.slice(..whole.len() / 2),
            Some(whole) => whole,
            None => lines(rows, torn).into(),
        }
    }
}

/// Lines; the last one has no end when the file is `torn`.
pub(crate) fn lines(rows: &[String], torn: bool) -> String {
    let end = if torn || rows.is_empty() { "" } else { "\n" };
    format!("{}{end}", rows.join("\n"))
}

fn parquet(schema: &SchemaRef, rows: &[String]) -> Option<Bytes> {
    let batch = tape::decode(schema, rows).ok()?;
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(GROUP_ROWS)).build();
    let mut writer = ArrowWriter::try_new(Vec::new(), schema.clone(), Some(properties)).ok()?;
    writer.write(&batch).ok()?;
    writer.into_inner().ok().map(Bytes::from)
}

#[cfg(test)]
mod tests {
    use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

    use super::*;

    const SCRIPT: &str = "CREATE TABLE a (ts TIMESTAMP, v BIGINT) USING parquet OPTIONS (path 'in');\n\
                          CREATE TABLE b (v BIGINT) USING json OPTIONS (path 'inside');";

    #[test]
    fn a_folder_of_parquet_gets_parquet_and_every_other_one_lines() {
        let contents = Contents::of(SCRIPT);
        let rows: Vec<String> = (0..3).map(|v| format!("{{\"ts\":\"2024-01-01T00:00:0{v}Z\",\"v\":{v}}}")).collect();
        let file = contents.bytes("in/0.parquet", &rows, false);
        let reader = ParquetRecordBatchReaderBuilder::try_new(file.clone()).expect("a Parquet file");
        assert_eq!((reader.metadata().num_row_groups(), reader.metadata().file_metadata().num_rows()), (2, 3));
        assert_eq!(contents.bytes("in/0.parquet", &rows, true).len(), file.len() / 2);
        assert_eq!(contents.bytes("inside/0.json", &rows[..1], false), format!("{}\n", rows[0]));
        assert_eq!(contents.bytes("in/0.parquet", &["{".to_owned()], false), "{\n");
    }
}
