//! The tape: a replayable source outside the process, like a topic of a log broker, whose every reading is an effect.
//!
//! Rows arrive as blocks of JSON objects and outlive every crash of the process. The offset is the number of the last
//! block, as in Spark's memory stream. A block that was released (`commit`) is gone for the query that released it: an
//! engine that releases what it may have to read again loses it here, as it would with a broker that forgets. Each
//! query reads a tape on its own; which query it is says the folder of its checkpoint.
//!
//! In SQL: `CREATE TABLE events (ts TIMESTAMP, ...) USING tape OPTIONS (name 'events', blocksPerTrigger '1')`.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::json::ReaderBuilder;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::memory::MemoryStream;
use wavetank_engine::environment::Environment;
use wavetank_engine::source::{Offset, ReadLimit, Source, SourceContext, SourceDefinition, SourceProvider, Split};
use wavetank_engine::{Error, Result};

use crate::effects::{Effects, Op, Outcome};
use crate::plant::Bug;

/// The tapes of a world, by name. Clones share them; they outlive every life of the process.
#[derive(Clone, Debug, Default)]
pub struct Tapes {
    tapes: Arc<Mutex<BTreeMap<String, Tape>>>,
}

#[derive(Debug, Default)]
struct Tape {
    blocks: Vec<Vec<String>>,
    /// By reader: blocks before this one are gone.
    released: BTreeMap<String, usize>,
}

impl Tapes {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Tape>> {
        self.tapes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Rows arrive on a tape, as one block. JSON objects, one per row.
    pub fn add(&self, tape: &str, rows: Vec<String>) {
        self.lock().entry(tape.to_owned()).or_default().blocks.push(rows);
    }

    /// A number that changes whenever rows arrived or were released.
    pub fn version(&self) -> u64 {
        self.lock().values().map(|tape| (tape.blocks.len() + tape.released.values().sum::<usize>()) as u64).sum()
    }

    /// The source for one life of the process.
    pub fn provider(&self, effects: &Effects, life: u32) -> Arc<dyn SourceProvider> {
        Arc::new(TapeProvider { tapes: self.clone(), effects: effects.clone(), life })
    }

    fn blocks_count(&self, tape: &str) -> usize {
        self.lock().get(tape).map_or(0, |tape| tape.blocks.len())
    }

    /// The rows of some blocks that are still there.
    fn rows(&self, tape: &str, reader: &str, from: usize, to: usize) -> Vec<String> {
        let tapes = self.lock();
        let Some(tape) = tapes.get(tape) else { return Vec::new() };
        let to = to.min(tape.blocks.len());
        let released = tape.released.get(reader).copied().unwrap_or_default();
        tape.blocks[from.max(released).min(to)..to].concat()
    }

    fn release(&self, tape: &str, reader: &str, before: usize) {
        if let Some(tape) = self.lock().get_mut(tape) {
            let before = before.min(tape.blocks.len());
            let released = tape.released.entry(reader.to_owned()).or_default();
            *released = before.max(*released);
        }
    }
}

#[derive(Debug)]
struct TapeProvider {
    tapes: Tapes,
    effects: Effects,
    life: u32,
}

#[async_trait]
impl SourceProvider for TapeProvider {
    fn short_name(&self) -> &str {
        "tape"
    }

    async fn stream_schema(&self, definition: &SourceDefinition, _: &Environment) -> Result<SchemaRef> {
        definition.options.refuse_unknown("Source tape", &["name", "blocksPerTrigger"])?;
        definition
            .schema
            .clone()
            .ok_or_else(|| Error::analysis("A tape needs columns: CREATE TABLE t (a INT) USING tape."))
    }

    async fn stream(&self, definition: &SourceDefinition, context: SourceContext) -> Result<Arc<dyn Source>> {
        let Some(name) = definition.options.get("name") else {
            return Err(Error::analysis("Say which tape: OPTIONS (name 'events')."));
        };
        Ok(Arc::new(TapeSource {
            name: name.to_owned(),
            reader: context.folder.uri(""),
            schema: context.schema,
            blocks_per_trigger: definition.options.positive_integer("blocksPerTrigger")?,
            tapes: self.tapes.clone(),
            effects: self.effects.clone(),
            life: self.life,
            pin: Mutex::new(None),
        }))
    }
}

#[derive(Debug)]
struct TapeSource {
    name: String,
    reader: String,
    schema: SchemaRef,
    blocks_per_trigger: Option<u64>,
    tapes: Tapes,
    effects: Effects,
    life: u32,
    /// Blocks from this one on are not for this query (AvailableNow).
    pin: Mutex<Option<usize>>,
}

impl TapeSource {
    fn effect<T>(
        &self,
        op: Op,
        what: &str,
        digest: impl FnOnce(&T) -> u64,
        act: impl FnOnce(Option<&Bug>) -> T,
    ) -> Result<T> {
        let path = format!("/tape/{}{what}", self.name);
        let done = self.effects.perform(self.life, op, &path, digest, |begun| {
            begun.check()?;
            Ok(act(begun.bug.as_ref()))
        });
        done.map_err(|error| refused(&path, error))
    }
}

/// An effect that failed, as the storage error that a connector would give.
pub(crate) fn refused(path: &str, error: io::Error) -> Error {
    let source = Box::new(io::Error::new(error.kind(), format!("{path}: {error}")));
    Error::Storage(object_store::Error::Generic { store: "simulated", source })
}

/// How many blocks have been read at this offset.
fn blocks_read(offset: Option<&Offset>) -> Result<usize> {
    let Some(offset) = offset else { return Ok(0) };
    offset.as_str().parse::<usize>().map(|last| last + 1).map_err(|_| {
        Error::checkpoint("offsets", format!("'{offset}' is no offset of a tape. Use a new checkpoint location."))
    })
}

#[async_trait]
impl Source for TapeSource {
    fn describe(&self) -> String {
        format!("Tape[{}]", self.name)
    }

    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    async fn latest_offset(&self, start: Option<&Offset>, limit: ReadLimit) -> Result<Option<Offset>> {
        let read = blocks_read(start)?;
        let there = self.effect(Op::Query, "", |there| *there as u64, |_| self.tapes.blocks_count(&self.name))?;
        let pin = *self.pin.lock().unwrap_or_else(PoisonError::into_inner);
        let mut end = there.min(pin.unwrap_or(usize::MAX)).max(read);
        if let (ReadLimit::Default, Some(most)) = (limit, self.blocks_per_trigger) {
            end = end.min(read + most as usize);
        }
        Ok(end.checked_sub(1).map(|last| Offset::new(last.to_string())))
    }

    async fn report_latest_offset(&self) -> Option<Offset> {
        self.tapes.blocks_count(&self.name).checked_sub(1).map(|last| Offset::new(last.to_string()))
    }

    async fn pin_available_now(&self) -> Result<bool> {
        *self.pin.lock().unwrap_or_else(PoisonError::into_inner) = Some(self.tapes.blocks_count(&self.name));
        Ok(true)
    }

    async fn read(
        &self,
        start: Option<&Offset>,
        end: &Offset,
        projection: Option<&[usize]>,
    ) -> Result<Vec<Arc<dyn Split>>> {
        let (from, to) = (blocks_read(start)?, blocks_read(Some(end))?);
        let what = format!("/{from}-{to}");
        let rows = self.effect(
            Op::Read,
            &what,
            |rows: &Vec<String>| rows.iter().fold(0, |hash, row| twox_hash::XxHash64::oneshot(hash, row.as_bytes())),
            |bug| match bug {
                Some(Bug::Skip) => Vec::new(),
                Some(Bug::Twice) => {
                    let rows = self.tapes.rows(&self.name, &self.reader, from, to);
                    [rows.clone(), rows].concat()
                }
                Some(Bug::Late) => self.tapes.rows(&self.name, &self.reader, from.saturating_sub(1), to),
                _ => self.tapes.rows(&self.name, &self.reader, from, to),
            },
        )?;
        let mut batch = decode(&self.schema, &rows)?;
        if let Some(columns) = projection {
            batch = batch.project(columns)?;
        }
        Ok(vec![Arc::new(TapeSplit { batch })])
    }

    async fn commit(&self, end: &Offset) -> Result<()> {
        let before = blocks_read(Some(end))?;
        self.effect(
            Op::Release,
            &format!("/{before}"),
            |()| 0,
            |bug| {
                if let Some(Bug::Hold { until }) = bug {
                    let (tapes, name, reader) = (self.tapes.clone(), self.name.clone(), self.reader.clone());
                    let release_later = move || tapes.release(&name, &reader, before);
                    self.effects.hold(until, Box::new(release_later));
                    return;
                }
                // The bug of a source that forgets one block too many.
                self.tapes.release(&self.name, &self.reader, before + usize::from(bug == Some(&Bug::Twice)));
            },
        )
    }
}

/// JSON objects as a batch with this schema.
pub(crate) fn decode(schema: &SchemaRef, rows: &[String]) -> Result<RecordBatch> {
    let mut decoder = ReaderBuilder::new(Arc::clone(schema)).with_batch_size(rows.len().max(1)).build_decoder()?;
    for row in rows {
        decoder.decode(row.as_bytes())?;
        decoder.decode(b"\n")?;
    }
    Ok(decoder.flush()?.unwrap_or_else(|| RecordBatch::new_empty(Arc::clone(schema))))
}

#[derive(Debug)]
struct TapeSplit {
    batch: RecordBatch,
}

impl Split for TapeSplit {
    fn open(&self) -> Result<SendableRecordBatchStream> {
        Ok(Box::pin(MemoryStream::try_new(vec![self.batch.clone()], self.batch.schema(), None)?))
    }
}

/// Used by the witness too: the end of an effect that waits, as an engine result.
pub(crate) fn ended(effects: &Effects, begun: crate::effects::Begun, path: &str, digest: u64) -> Result<()> {
    effects.end(begun, Outcome::Done, digest).map_err(|error| refused(path, error))
}
