//! `MemoryStream`: a source for tests, whose rows are handed in block by block.
//!
//! What it must handle: one block per `add_data`, numbered from 0 (the offset is the number of the last block, a plain
//! JSON number; no block yet is no offset); all new blocks in one batch unless `blocks_per_trigger` says less; blocks
//! kept until they are committed, by whichever query commits first; a second query reading what is left; AvailableNow
//! that pins (real Spark's memory stream forgets its pin: `spec/06`, section 6; this one does not).

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use wavetank_engine::environment::Environment;
use wavetank_engine::options::Options;
use wavetank_engine::source::{Offset, ReadLimit, Source, SourceContext, SourceDefinition, SourceProvider, Split};
use wavetank_engine::{Error, Result};

use crate::blocks::{BatchesSplit, projected};
use crate::format::json::parse_json_lines;

/// A stream of rows handed in by [`MemoryStream::add_data`]. Clones are handles on the same stream, and each is also
/// the [`SourceProvider`] that turns it into the source of a query.
#[derive(Clone, Debug)]
pub struct MemoryStream {
    schema: SchemaRef,
    name: Option<Arc<str>>,
    blocks_per_trigger: Option<NonZeroU64>,
    blocks: Arc<Mutex<Blocks>>,
}

#[derive(Debug, Default)]
struct Blocks {
    /// The number of the next block.
    next: u64,
    /// Blocks that were not committed yet, by number.
    kept: BTreeMap<u64, RecordBatch>,
}

impl MemoryStream {
    /// An empty stream with these columns.
    pub fn new(schema: SchemaRef) -> Self {
        Self { schema, name: None, blocks_per_trigger: None, blocks: Arc::default() }
    }

    /// The same stream, of which queries started from this handle read at most so many blocks per trigger.
    pub fn with_blocks_per_trigger(mut self, blocks_count: NonZeroU64) -> Self {
        self.blocks_per_trigger = Some(blocks_count);
        self
    }

    /// The same stream under a name, which progress reports show instead of the columns.
    pub fn named(mut self, name: &str) -> Self {
        self.name = Some(name.into());
        self
    }

    /// The columns.
    pub fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    /// Appends rows as one block and gives the offset that a query has when it has read them. The columns must be
    /// those of the stream, by name and type; an empty block is a block.
    pub fn add_data(&self, rows: RecordBatch) -> Result<Offset> {
        let fits = rows.num_columns() == self.schema.fields().len()
            && std::iter::zip(rows.schema().fields(), self.schema.fields())
                .all(|(given, own)| given.name() == own.name() && given.data_type() == own.data_type());
        if !fits {
            return Err(Error::analysis(format!(
                "The rows do not fit the memory stream. It has the columns {:?}, the rows have {:?}. Hand in the \
                 stream's columns.",
                self.schema.fields(),
                rows.schema().fields()
            )));
        }
        let rows = RecordBatch::try_new_with_options(
            self.schema(),
            rows.columns().to_vec(),
            &arrow::array::RecordBatchOptions::new().with_row_count(Some(rows.num_rows())),
        )?;
        let mut blocks = self.lock();
        let number = blocks.next;
        blocks.kept.insert(number, rows);
        blocks.next += 1;
        Ok(Offset::new(number.to_string()))
    }

    /// Appends the rows of JSON lines as one block, read as the JSON file source reads them (`PERMISSIVE`). No lines
    /// make an empty block.
    pub fn add_json(&self, lines: &str) -> Result<Offset> {
        self.add_data(parse_json_lines(&self.schema, lines, &Options::new())?)
    }

    /// How many blocks are kept because no query has committed them yet.
    pub fn kept_blocks_count(&self) -> usize {
        self.lock().kept.len()
    }

    /// A source of one query over this stream.
    pub fn source(&self) -> Arc<dyn Source> {
        Arc::new(MemorySource { stream: self.clone(), pin: Mutex::new(None) })
    }

    fn lock(&self) -> MutexGuard<'_, Blocks> {
        self.blocks.lock().expect("nothing panics while holding it")
    }

    /// How many blocks there ever were.
    fn count(&self) -> u64 {
        self.lock().next
    }
}

#[async_trait]
impl SourceProvider for MemoryStream {
    fn short_name(&self) -> &str {
        "memory"
    }

    async fn stream_schema(&self, definition: &SourceDefinition, _: &Environment) -> Result<SchemaRef> {
        if definition.schema.as_ref().is_some_and(|schema| *schema != self.schema) {
            return Err(Error::analysis(
                "memory source does not support user-specified schema. It has the schema it was made with; leave the \
                 schema out.",
            ));
        }
        definition.options.refuse_unknown("Source memory", &[])?;
        Ok(self.schema())
    }

    async fn stream(&self, _: &SourceDefinition, _: SourceContext) -> Result<Arc<dyn Source>> {
        Ok(self.source())
    }
}

/// The source of one query; the pin is the query's own.
#[derive(Debug)]
struct MemorySource {
    stream: MemoryStream,
    /// Blocks up to (not including) this one may be read.
    pin: Mutex<Option<u64>>,
}

/// The number of blocks that a query has read whose offset this is.
fn blocks_read(offset: Option<&Offset>) -> Result<u64> {
    let Some(offset) = offset else { return Ok(0) };
    // -1 is Spark's "no block yet".
    let number = offset.as_str().parse::<i64>().ok().filter(|number| *number >= -1);
    number.map(|number| (number + 1) as u64).ok_or_else(|| {
        Error::checkpoint(
            "offsets",
            format!(
                "expected an offset of a memory stream, a number such as 3, found {offset}. Was this checkpoint \
                 written by a query with another source? Use a new checkpoint location."
            ),
        )
    })
}

#[async_trait]
impl Source for MemorySource {
    fn describe(&self) -> String {
        if let Some(name) = &self.stream.name {
            return format!("MemoryStream[{name}]");
        }
        let names: Vec<_> = self.stream.schema.fields().iter().map(|field| field.name().as_str()).collect();
        format!("MemoryStream[{}]", names.join(","))
    }

    fn schema(&self) -> SchemaRef {
        self.stream.schema()
    }

    async fn latest_offset(&self, start: Option<&Offset>, limit: ReadLimit) -> Result<Option<Offset>> {
        let pin = *self.pin.lock().expect("nothing panics while holding it");
        let there = self.stream.count().min(pin.unwrap_or(u64::MAX));
        let read = blocks_read(start)?;
        let end = match (limit, self.stream.blocks_per_trigger) {
            (ReadLimit::Default, Some(most)) => {
                // A query that joins late starts at the first block that is still there.
                let first = self.stream.lock().kept.keys().next().copied().unwrap_or(read);
                there.min(read.max(first).saturating_add(most.get()))
            }
            _ => there,
        };
        // Never behind what the query has: after a restart of the process the stream may have fewer blocks than the
        // checkpoint has seen, and numbers must not go back.
        let end = end.max(read);
        Ok(end.checked_sub(1).map(|last| Offset::new(last.to_string())))
    }

    async fn report_latest_offset(&self) -> Option<Offset> {
        self.stream.count().checked_sub(1).map(|last| Offset::new(last.to_string()))
    }

    async fn pin_available_now(&self) -> Result<bool> {
        *self.pin.lock().expect("nothing panics while holding it") = Some(self.stream.count());
        Ok(true)
    }

    async fn read(
        &self,
        start: Option<&Offset>,
        end: &Offset,
        projection: Option<&[usize]>,
    ) -> Result<Vec<Arc<dyn Split>>> {
        let range = (Bound::Included(blocks_read(start)?), Bound::Excluded(blocks_read(Some(end))?));
        if matches!(range, (Bound::Included(from), Bound::Excluded(to)) if from >= to) {
            return Ok(Vec::new());
        }
        let schema = projected(&self.stream.schema, projection)?;
        let blocks: Vec<RecordBatch> = self.stream.lock().kept.range(range).map(|(_, block)| block.clone()).collect();
        let splits = blocks.into_iter().map(|block| {
            let block = match projection {
                None => block,
                Some(columns) => block.project(columns)?,
            };
            Ok(Arc::new(BatchesSplit { schema: Arc::clone(&schema), batches: vec![block] }) as Arc<dyn Split>)
        });
        splits.collect()
    }

    async fn commit(&self, end: &Offset) -> Result<()> {
        let read = blocks_read(Some(end))?;
        let mut blocks = self.stream.lock();
        blocks.kept = blocks.kept.split_off(&read);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array, ArrayRef, Int64Array};

    use wavetank_engine::sql::types::parse_ddl_schema;

    use super::*;
    use crate::test_world::collect;

    fn named_rows(name: &str, values: &[i64]) -> RecordBatch {
        let column: ArrayRef = Arc::new(Int64Array::from(values.to_vec()));
        RecordBatch::try_from_iter([(name, column)]).unwrap()
    }

    fn rows(values: &[i64]) -> RecordBatch {
        named_rows("value", values)
    }

    fn stream() -> MemoryStream {
        MemoryStream::new(rows(&[]).schema())
    }

    async fn values(source: &dyn Source, start: Option<&Offset>, end: &Offset) -> Vec<i64> {
        let batches = collect(source, start, end, None).await.unwrap();
        batches
            .iter()
            .flat_map(|b| b.column(0).as_any().downcast_ref::<Int64Array>().unwrap().values().to_vec())
            .collect()
    }

    #[tokio::test]
    async fn blocks_are_kept_until_committed() {
        let stream = stream();
        let source = stream.source();
        assert_eq!(source.latest_offset(None, ReadLimit::Default).await.unwrap(), None);
        assert_eq!(stream.add_data(rows(&[1, 2])).unwrap().as_str(), "0");
        let second = stream.add_data(rows(&[3])).unwrap();
        let end = source.latest_offset(None, ReadLimit::Default).await.unwrap().unwrap();
        assert_eq!(end, second);
        assert_eq!(values(&*source, None, &end).await, [1, 2, 3]);
        assert_eq!(values(&*source, Some(&Offset::new("0")), &end).await, [3]);
        source.commit(&Offset::new("0")).await.unwrap();
        source.commit(&Offset::new("0")).await.unwrap();
        assert_eq!(stream.kept_blocks_count(), 1);
        // A second query finds what is left.
        assert_eq!(values(&*stream.source(), None, &end).await, [3]);
        // Nothing new is the same offset.
        assert_eq!(source.latest_offset(Some(&end), ReadLimit::Default).await.unwrap(), Some(end));
    }

    #[tokio::test]
    async fn a_pinned_query_reads_no_later_block() {
        let stream = stream();
        stream.add_data(rows(&[1])).unwrap();
        let source = stream.source();
        assert!(source.pin_available_now().await.unwrap());
        stream.add_data(rows(&[2])).unwrap();
        assert_eq!(source.latest_offset(None, ReadLimit::Default).await.unwrap().unwrap().as_str(), "0");
        assert_eq!(source.report_latest_offset().await.unwrap().as_str(), "1");
    }

    #[tokio::test]
    async fn blocks_per_trigger_limits_default_reads_only() {
        let stream = stream().with_blocks_per_trigger(NonZeroU64::MIN);
        for value in 0..3 {
            stream.add_data(rows(&[value])).unwrap();
        }
        let source = stream.source();
        let mut at = None;
        for expected in ["0", "1", "2", "2"] {
            at = source.latest_offset(at.as_ref(), ReadLimit::Default).await.unwrap();
            assert_eq!(at.as_ref().unwrap().as_str(), expected);
        }
        assert_eq!(source.latest_offset(None, ReadLimit::AllAvailable).await.unwrap().unwrap().as_str(), "2");
    }

    #[tokio::test]
    async fn rows_can_be_written_as_json() {
        let stream = MemoryStream::new(parse_ddl_schema("value BIGINT").unwrap());
        stream.add_json("{\"value\":1}\n{\"value\":\"x\"}\n{\"other\":2}").unwrap();
        let end = stream.add_json("").unwrap();
        let batches = collect(&*stream.source(), None, &end, None).await.unwrap();
        let column = batches[0].column(0);
        assert_eq!((column.len(), column.null_count(), batches[1].num_rows()), (3, 2, 0));
    }

    #[tokio::test]
    async fn other_columns_and_other_offsets_are_refused() {
        let error = stream().add_data(named_rows("other", &[1])).unwrap_err();
        assert!(error.to_string().contains("Hand in the stream's columns"), "{error}");
        let error = stream().source().read(None, &Offset::new("{}"), None).await.unwrap_err();
        assert!(error.to_string().contains("new checkpoint location"), "{error}");
    }
}
