//! The witness: a sink outside the process, like a table of a database, that remembers every batch it was given.
//!
//! Committing is atomic and durable; committing a batch again changes nothing, but is compared with what was committed
//! first: a batch that is run again after a crash must have the same rows. In SQL: `USING witness OPTIONS (name 'out')`.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::json::WriterBuilder;
use datafusion::arrow::json::writer::LineDelimited;
use futures::TryStreamExt;
use futures::future::try_join_all;
use twox_hash::XxHash64;
use wavetank_engine::sink::{OutputBatch, OutputMode, Sink, SinkContext, SinkProvider};
use wavetank_engine::{Error, Result};

use crate::effects::{Begun, Effects, Op};
use crate::ends::Ends;
use crate::plant::Bug;
use crate::tape::{ended, refused};

/// The witnesses of a world, by name. Clones share them; they outlive every life of the process.
#[derive(Clone, Debug, Default)]
pub struct Witnesses {
    tables: Arc<Mutex<BTreeMap<String, Witness>>>,
    /// Those at the far ends of the engine's own sinks.
    pub ends: Ends,
}

/// What one witness has seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Witness {
    /// The mode of the query that wrote to it.
    pub mode: OutputMode,
    /// Committed batches: their rows as JSON objects, sorted.
    pub batches: BTreeMap<u64, Vec<String>>,
    /// What an honest engine never does: gaps, and batches that came again with other rows.
    pub complaints: Vec<String>,
}

impl Witnesses {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Witness>> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was seen so far, by name.
    pub fn seen(&self) -> BTreeMap<String, Witness> {
        self.lock().clone()
    }

    /// A number that changes whenever a batch was committed.
    pub fn version(&self) -> u64 {
        let committed = |witness: &Witness| (witness.batches.len() + witness.complaints.len()) as u64;
        self.lock().values().map(committed).sum::<u64>() + self.ends.version()
    }

    /// The sinks for one life of the process: the witness, and the engine's own with somebody at their end.
    pub fn providers(&self, effects: &Effects, life: u32) -> Vec<Arc<dyn SinkProvider>> {
        let mut providers = vec![self.provider(effects, life)];
        providers.extend(self.ends.providers(self, effects, life));
        providers
    }

    /// The sink for one life of the process.
    pub fn provider(&self, effects: &Effects, life: u32) -> Arc<dyn SinkProvider> {
        Arc::new(WitnessProvider { witnesses: self.clone(), effects: effects.clone(), life })
    }

    /// The bug of a sink that does not know which batches it has: rows of a batch that is there are added again.
    fn append(&self, name: &str, batch_id: u64, rows: Option<Vec<String>>) {
        let mut tables = self.lock();
        if let Some(there) = tables.get_mut(name).and_then(|witness| witness.batches.get_mut(&batch_id)) {
            there.extend(rows.into_iter().flatten());
        }
    }

    /// Makes a batch visible. `rows` is what was staged for it in this life, if anything was.
    pub(crate) fn commit(
        &self,
        name: &str,
        mode: OutputMode,
        batch_id: u64,
        rows: Option<Vec<String>>,
    ) -> io::Result<()> {
        let mut tables = self.lock();
        let witness = tables.entry(name.to_owned()).or_default();
        witness.mode = mode;
        match (witness.batches.get(&batch_id), rows) {
            (Some(_), None) => {}
            (Some(first), Some(again)) => {
                if *first != again {
                    let text = format!("batch {batch_id} came again with other rows: {first:?}, then {again:?}");
                    witness.complaints.push(text);
                }
            }
            (None, None) => return Err(io::Error::other(format!("batch {batch_id} was committed but not written"))),
            (None, Some(rows)) => {
                let expected_id = witness.batches.keys().next_back().map_or(0, |last| last + 1);
                if batch_id != expected_id {
                    witness.complaints.push(format!("batch {batch_id} came where {expected_id} was expected"));
                }
                witness.batches.insert(batch_id, rows);
            }
        }
        Ok(())
    }
}

#[derive(Debug)]
struct WitnessProvider {
    witnesses: Witnesses,
    effects: Effects,
    life: u32,
}

#[async_trait]
impl SinkProvider for WitnessProvider {
    fn short_name(&self) -> &str {
        "witness"
    }

    fn supports(&self, _: OutputMode) -> bool {
        true
    }

    async fn sink(&self, context: SinkContext) -> Result<Arc<dyn Sink>> {
        let name = context.options.get("name").or(context.query_name.as_deref()).unwrap_or("out").to_owned();
        Ok(Arc::new(WitnessSink {
            name,
            mode: context.output_mode,
            witnesses: self.witnesses.clone(),
            effects: self.effects.clone(),
            life: self.life,
            staged: Mutex::default(),
        }))
    }
}

#[derive(Debug)]
struct WitnessSink {
    name: String,
    mode: OutputMode,
    witnesses: Witnesses,
    effects: Effects,
    life: u32,
    staged: Mutex<Option<(u64, Vec<String>)>>,
}

#[async_trait]
impl Sink for WitnessSink {
    fn describe(&self) -> String {
        format!("Witness[{}]", self.name)
    }

    async fn write(&self, batch: OutputBatch) -> Result<Option<u64>> {
        let path = format!("/witness/{}/{}", self.name, batch.batch_id);
        let begun = self.effects.begin(self.life, Op::Stage, &path).map_err(|error| refused(&path, error))?;
        begun.check().map_err(|error| refused(&path, error))?;
        let partitions = batch.partitions.into_iter().map(|stream| stream.try_collect::<Vec<RecordBatch>>());
        let batches = try_join_all(partitions).await.map_err(Error::from)?.concat();
        let mut rows = json_rows(&batches)?;
        match begun.bug {
            Some(Bug::Skip) => drop(rows.pop()),
            Some(Bug::Twice) => rows.extend(rows.first().cloned()),
            _ => {}
        }
        rows.sort_unstable();
        let rows_count = rows.len() as u64;
        let digest = rows.iter().fold(0, |hash, row| XxHash64::oneshot(hash, row.as_bytes()));
        *self.staged.lock().unwrap_or_else(PoisonError::into_inner) = Some((batch.batch_id, rows));
        ended(&self.effects, begun, &path, digest)?;
        Ok(Some(rows_count))
    }

    async fn commit(&self, batch_id: u64) -> Result<()> {
        let path = format!("/witness/{}/{batch_id}", self.name);
        let staged = self.staged.lock().unwrap_or_else(PoisonError::into_inner).take();
        let rows = staged.filter(|(staged_id, _)| *staged_id == batch_id).map(|(_, rows)| rows);
        let commit = |begun: &Begun| {
            begun.check()?;
            match &begun.bug {
                Some(Bug::Skip) => return Ok(()),
                Some(Bug::Hold { until }) => {
                    let (witnesses, name, mode) = (self.witnesses.clone(), self.name.clone(), self.mode);
                    let commit_later = move || drop(witnesses.commit(&name, mode, batch_id, rows));
                    self.effects.hold(until, Box::new(commit_later));
                    return Ok(());
                }
                Some(Bug::Twice) => self.witnesses.append(&self.name, batch_id, rows.clone()),
                _ => {}
            }
            self.witnesses.commit(&self.name, self.mode, batch_id, rows)
        };
        let done = self.effects.perform(self.life, Op::Commit, &path, |()| 0, commit);
        done.map_err(|error| refused(&path, error))
    }
}

/// Rows as JSON objects with every column, nulls too, in their order.
pub fn json_rows(batches: &[RecordBatch]) -> Result<Vec<String>> {
    let mut text = Vec::new();
    let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(&mut text);
    for batch in batches {
        writer.write(batch)?;
    }
    writer.finish()?;
    drop(writer);
    let text = String::from_utf8(text).map_err(|error| Error::internal(format!("JSON that is not UTF-8: {error}")))?;
    Ok(text.lines().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(text: &str) -> Option<Vec<String>> {
        Some(vec![text.to_owned()])
    }

    #[test]
    fn a_batch_counts_once_and_must_not_change() {
        let witnesses = Witnesses::default();
        let commit = |id, rows| witnesses.commit("t", OutputMode::Append, id, rows);
        commit(0, rows("a")).unwrap();
        commit(0, rows("a")).unwrap();
        commit(0, None).unwrap();
        assert!(commit(1, None).is_err());
        assert_eq!(witnesses.seen()["t"].complaints, Vec::<String>::new());
        commit(0, rows("b")).unwrap();
        commit(2, rows("c")).unwrap();
        let seen = &witnesses.seen()["t"];
        assert_eq!(seen.batches[&0], ["a"]);
        assert_eq!(seen.complaints.len(), 2, "{:?}", seen.complaints);
    }
}
