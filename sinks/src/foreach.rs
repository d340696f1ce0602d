//! `foreach`: rows are handed to a writer of the user, partition by partition: open, process each row, close.
//!
//! At least once. A partition and an epoch (the batch's id) name the same rows only as long as the sources repeat
//! themselves and the partitioning stays (`spec/07` section 3).

use std::fmt::{self, Debug};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::execution::SendableRecordBatchStream;
use futures::TryStreamExt;
use futures::future::join_all;
use wavetank_engine::options::Options;
use wavetank_engine::sink::{OutputBatch, OutputMode, Sink, SinkContext, SinkProvider};
use wavetank_engine::{Error, Result};

use crate::foreach_batch::{UserError, with_causes};
use crate::rows::conform;

/// Writes the rows of one partition of one batch. Each partition of each batch has a writer of its own.
///
/// # Contract
/// * `open` is called first, for empty partitions too. When it answers `false` no row is handed over, but the rows
///   are still read and counted, and `close(None)` is called. When it fails, `close` is not called.
/// * `process` is called for each row, in order.
/// * `close` is called once, with the error when `process` (or the query itself) failed.
#[async_trait]
pub trait ForeachWriter: Send {
    /// Begins a partition of a batch; `false` skips its rows.
    async fn open(&mut self, partition_id: u64, epoch_id: u64) -> Result<bool, UserError>;

    /// Takes a row: a record batch of one row, to be read with Arrow's accessors.
    async fn process(&mut self, row: ForeachRow<'_>) -> Result<(), UserError>;

    /// Ends the partition, with what went wrong.
    async fn close(&mut self, error: Option<&Error>);
}

/// One row: a place in a record batch. Nothing is copied.
#[derive(Clone, Copy, Debug)]
pub struct ForeachRow<'a> {
    /// The record batch that holds the row.
    pub batch: &'a RecordBatch,
    /// The row's position in it.
    pub index: usize,
}

type Factory = dyn Fn() -> Box<dyn ForeachWriter> + Send + Sync;

/// The sink of `foreach`. It has no name: a query is given one by `write_stream().foreach(..)`.
#[derive(Clone)]
pub struct ForeachProvider {
    factory: Arc<Factory>,
}

impl ForeachProvider {
    /// A sink that makes a writer for every partition of every batch.
    pub fn new<W: ForeachWriter + 'static>(factory: impl Fn() -> W + Send + Sync + 'static) -> Self {
        Self { factory: Arc::new(move || Box::new(factory())) }
    }
}

impl Debug for ForeachProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForeachProvider").finish_non_exhaustive()
    }
}

#[async_trait]
impl SinkProvider for ForeachProvider {
    fn short_name(&self) -> &str {
        "foreach"
    }

    fn supports(&self, _mode: OutputMode) -> bool {
        true
    }

    fn allows_temporary_checkpoint(&self) -> bool {
        true
    }

    fn check_options(&self, options: &Options) -> Result<()> {
        options.refuse_unknown("The foreach sink", &["path"])
    }

    async fn sink(&self, context: SinkContext) -> Result<Arc<dyn Sink>> {
        Ok(Arc::new(ForeachSink { factory: self.factory.clone(), schema: context.schema }))
    }
}

/// A running [`ForeachProvider`].
struct ForeachSink {
    factory: Arc<Factory>,
    schema: SchemaRef,
}

impl Debug for ForeachSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForeachSink").finish_non_exhaustive()
    }
}

#[async_trait]
impl Sink for ForeachSink {
    fn describe(&self) -> String {
        "ForeachWriterTable".into()
    }

    async fn write(&self, batch: OutputBatch) -> Result<Option<u64>> {
        let epoch_id = batch.batch_id;
        let partitions = batch.partitions.into_iter().zip(0..);
        // Every partition runs to its own end, so that each writer is closed.
        let outcomes =
            join_all(partitions.map(|(stream, partition)| self.partition(partition, epoch_id, stream))).await;
        let counts = outcomes.into_iter().collect::<Result<Vec<u64>>>()?;
        Ok(Some(counts.iter().sum()))
    }

    async fn commit(&self, _batch_id: u64) -> Result<()> {
        Ok(())
    }
}

impl ForeachSink {
    async fn partition(&self, partition_id: u64, epoch_id: u64, stream: SendableRecordBatchStream) -> Result<u64> {
        let mut writer = (self.factory)();
        let wanted = writer.open(partition_id, epoch_id).await.map_err(user_error)?;
        let outcome = self.rows(writer.as_mut(), wanted, stream).await;
        writer.close(outcome.as_ref().err()).await;
        outcome
    }

    async fn rows(
        &self,
        writer: &mut dyn ForeachWriter,
        wanted: bool,
        mut stream: SendableRecordBatchStream,
    ) -> Result<u64> {
        let mut count = 0;
        while let Some(batch) = stream.try_next().await? {
            count += batch.num_rows() as u64;
            if !wanted {
                continue;
            }
            let batch = conform(&self.schema, batch)?;
            for index in 0..batch.num_rows() {
                writer.process(ForeachRow { batch: &batch, index }).await.map_err(user_error)?;
            }
        }
        Ok(count)
    }
}

fn user_error(error: UserError) -> Error {
    Error::UserFunction {
        class: "FOREACH_USER_FUNCTION_ERROR".into(),
        message: format!(
            "An error occurred in the user provided function in foreach sink. Reason: {}. Correct the writer and start \
             the query again: the batch will be handed over again.",
            with_causes(error.as_ref())
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use arrow::array::AsArray;

    use super::*;
    use crate::testing::{batch, broken_batch, context, rows, schema};

    /// Notes every call; the partition named in `refuse` is not opened, a row "bad" fails, epoch 9 fails to open.
    struct Noting {
        log: Arc<Mutex<Vec<String>>>,
        refuse: u64,
        place: String,
    }

    impl Noting {
        fn note(&self, what: String) {
            self.log.lock().unwrap().push(format!("{} {what}", self.place));
        }
    }

    #[async_trait]
    impl ForeachWriter for Noting {
        async fn open(&mut self, partition_id: u64, epoch_id: u64) -> Result<bool, UserError> {
            self.place = format!("p{partition_id} e{epoch_id}:");
            self.note("open".into());
            if epoch_id == 9 { Err("no connection".into()) } else { Ok(partition_id != self.refuse) }
        }

        async fn process(&mut self, row: ForeachRow<'_>) -> Result<(), UserError> {
            let key = row.batch.column(0).as_string::<i32>().value(row.index).to_owned();
            self.note(key.clone());
            if key == "bad" { Err("bad row".into()) } else { Ok(()) }
        }

        async fn close(&mut self, error: Option<&Error>) {
            self.note(format!("close {}", error.map_or("null".into(), Error::to_string)));
        }
    }

    async fn run(refuse: u64, batch: OutputBatch) -> (Result<Option<u64>>, Vec<String>) {
        let log = Arc::new(Mutex::new(Vec::new()));
        let of_writer = log.clone();
        let provider = ForeachProvider::new(move || Noting { log: of_writer.clone(), refuse, place: String::new() });
        let sink = provider.sink(context(schema(), OutputMode::Append, &[])).await.unwrap();
        let outcome = sink.write(batch).await;
        let mut notes = log.lock().unwrap().clone();
        notes.sort_by_key(|note| note[..2].to_owned()); // stable: partitions may take turns
        (outcome, notes)
    }

    #[tokio::test]
    async fn writers_are_opened_fed_and_closed_as_in_spark() {
        let partitions = || vec![rows(&[]), rows(&[("a", 1), ("b", 2)])];
        let (outcome, notes) = run(7, batch(3, partitions())).await;
        assert_eq!(outcome.unwrap(), Some(2));
        assert_eq!(
            notes,
            ["p0 e3: open", "p0 e3: close null", "p1 e3: open", "p1 e3: a", "p1 e3: b", "p1 e3: close null"]
        );
        let (outcome, notes) = run(1, batch(0, partitions())).await;
        assert_eq!(outcome.unwrap(), Some(2), "rows that nobody wanted are counted");
        assert_eq!(notes, ["p0 e0: open", "p0 e0: close null", "p1 e0: open", "p1 e0: close null"]);
    }

    #[tokio::test]
    async fn a_writer_that_fails_is_closed_with_its_error_unless_it_never_opened() {
        let (outcome, notes) = run(7, batch(0, vec![rows(&[("bad", 1), ("b", 2)])])).await;
        assert_eq!(outcome.unwrap_err().class(), Some("FOREACH_USER_FUNCTION_ERROR"));
        assert_eq!(notes[..2], ["p0 e0: open", "p0 e0: bad"]);
        assert!(notes[2].contains("close") && notes[2].contains("bad row"), "{notes:?}");
        let (outcome, notes) = run(7, batch(9, vec![rows(&[("a", 1)])])).await;
        assert!(outcome.unwrap_err().to_string().contains("no connection"));
        assert_eq!(notes, ["p0 e9: open"]);
        let (outcome, notes) = run(7, broken_batch(0)).await;
        assert!(outcome.is_err() && notes.last().unwrap().contains("the plan failed"));
    }
}
