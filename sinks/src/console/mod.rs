//! The console sink: `rows -> cells -> Spark's table -> the terminal`, once per batch.
//!
//! `table` draws what Spark's `show()` draws. Absent: exactly-once; a batch that runs again after a crash is
//! printed again (`spec/07` sections 5 and 10).

use std::fmt::{self, Debug};
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use wavetank_engine::options::Options;
use wavetank_engine::sink::{OutputBatch, OutputMode, SaveMode, Sink, SinkContext, SinkProvider};
use wavetank_engine::{Error, Result};

use crate::rows;

mod table;

/// Where the console sink writes: standard output, or a buffer of a test or of the simulator.
pub type Terminal = Arc<Mutex<dyn Write + Send>>;

const RULE: &str = "-------------------------------------------";

/// The `console` format. Options: `numRows` (20), `truncate` (true; cells are cut at 20 characters).
pub struct ConsoleProvider {
    terminal: Terminal,
}

impl ConsoleProvider {
    /// A console that prints to `terminal`.
    pub fn new(terminal: Terminal) -> Self {
        Self { terminal }
    }

    /// A console that prints to standard output.
    pub fn stdout() -> Self {
        Self::new(Arc::new(Mutex::new(std::io::stdout())))
    }
}

impl Debug for ConsoleProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsoleProvider").finish_non_exhaustive()
    }
}

#[async_trait]
impl SinkProvider for ConsoleProvider {
    fn short_name(&self) -> &str {
        "console"
    }

    fn supports(&self, _mode: OutputMode) -> bool {
        true
    }

    fn supports_partition_by(&self) -> bool {
        true // and ignored, as in Spark
    }

    fn allows_temporary_checkpoint(&self) -> bool {
        true
    }

    fn check_options(&self, options: &Options) -> Result<()> {
        options.refuse_unknown("The console sink", &["numRows", "truncate", "path"])?;
        Layout::of(options).map(|_| ())
    }

    async fn sink(&self, context: SinkContext) -> Result<Arc<dyn Sink>> {
        Ok(Arc::new(ConsoleSink {
            terminal: self.terminal.clone(),
            schema: context.schema,
            layout: Layout::of(&context.options)?,
            staged: Mutex::default(),
        }))
    }

    /// Prints what `show()` prints.
    async fn write_static(
        &self,
        context: SinkContext,
        _mode: SaveMode,
        partitions: Vec<SendableRecordBatchStream>,
    ) -> Result<()> {
        let (table, _) = drawn(&context.schema, Layout::of(&context.options)?, partitions).await?;
        print(&self.terminal, &table)
    }
}

/// How a batch is shown.
#[derive(Clone, Copy, Debug)]
struct Layout {
    /// How many rows at most.
    rows: usize,
    /// Whether long cells are cut.
    truncate: bool,
}

impl Layout {
    fn of(options: &Options) -> Result<Self> {
        let rows = match options.get("numRows") {
            None => 20,
            Some(text) => text.trim().parse::<i32>().map_err(|_| {
                Error::analysis(format!("For input string: \"{text}\". Write a whole number for option 'numRows'."))
            })?,
        };
        Ok(Self { rows: usize::try_from(rows).unwrap_or(0), truncate: options.boolean("truncate", true)? })
    }
}

/// All rows as a table, as Spark's `show(truncate = false)` draws it: for answers outside a stream.
pub fn show(schema: &SchemaRef, rows: &[RecordBatch]) -> Result<String> {
    table::draw(schema, rows, false)
}

/// The table of the first rows, and how many there are in all.
async fn drawn(
    schema: &SchemaRef,
    layout: Layout,
    partitions: Vec<SendableRecordBatchStream>,
) -> Result<(String, u64)> {
    let Layout { rows: limit, truncate } = layout;
    let (first, total) = rows::head(schema, partitions, limit).await?;
    let mut text = table::draw(schema, &first, truncate)?;
    if total > limit as u64 {
        let noun = if limit == 1 { "row" } else { "rows" };
        text.push_str(&format!("only showing top {limit} {noun}"));
    }
    text.push('\n');
    Ok((text, total))
}

/// One write under one lock: the tables of two queries never mix.
fn print(terminal: &Terminal, text: &str) -> Result<()> {
    let mut terminal = terminal.lock().unwrap_or_else(PoisonError::into_inner);
    let printed = terminal.write_all(text.as_bytes()).and_then(|()| terminal.flush());
    Ok(printed.map_err(DataFusionError::from)?)
}

/// A running [`ConsoleProvider`].
struct ConsoleSink {
    terminal: Terminal,
    schema: SchemaRef,
    layout: Layout,
    /// What the batch that was written last will print when it is committed.
    staged: Mutex<Option<(u64, String)>>,
}

impl Debug for ConsoleSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsoleSink").field("layout", &self.layout).finish_non_exhaustive()
    }
}

#[async_trait]
impl Sink for ConsoleSink {
    fn describe(&self) -> String {
        "ConsoleTable".into()
    }

    async fn write(&self, batch: OutputBatch) -> Result<Option<u64>> {
        let (table, total) = drawn(&self.schema, self.layout, batch.partitions).await?;
        let text = format!("{RULE}\nBatch: {}\n{RULE}\n{table}", batch.batch_id);
        *self.staged.lock().unwrap_or_else(PoisonError::into_inner) = Some((batch.batch_id, text));
        Ok(Some(total))
    }

    async fn commit(&self, batch_id: u64) -> Result<()> {
        let staged = self.staged.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((_, text)) = staged.filter(|(staged_id, _)| *staged_id == batch_id) {
            print(&self.terminal, &text)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
