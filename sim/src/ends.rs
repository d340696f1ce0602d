//! The engine's own sinks that end in a user's code, in memory or on a terminal, with somebody at their far end.
//!
//! | sink | who is there | what it must see |
//! |---|---|---|
//! | `foreach` | a table that keeps each partition of each epoch once, as users write them | each batch's rows |
//! | `foreachBatch` | a witness that knows batches by their id | each batch's rows |
//! | `memory` | who reads the table of the last life | what the batches of that life gave |
//! | `console` | who reads the table of each batch | every batch's columns and rows, as far as they are shown |
//!
//! What is in memory or on a terminal dies with its process: [`Seen::forgets`] says so.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use wavetank_engine::options::Options;
use wavetank_engine::sink::{OutputMode, Sink, SinkContext, SinkProvider};
use wavetank_engine::{Error, Result};
use wavetank_sinks::{
    ConsoleProvider, ForeachBatch, ForeachBatchProvider, ForeachProvider, ForeachRow, ForeachWriter, MemoryProvider,
    MemoryTables, UserError,
};

use crate::effects::{Begun, Effects, Op};
use crate::observe::Seen;
use crate::plant::Bug;
use crate::tape::refused;
use crate::witness::{Witnesses, json_rows};

/// What arrived at the far ends of a world. Clones share it; it outlives every life of the process.
#[derive(Clone, Debug, Default)]
pub struct Ends {
    state: Arc<Mutex<State>>,
}

/// The rows of partitions that were closed, by epoch and partition.
type Parts = BTreeMap<(u64, u64), Vec<String>>;
/// What was printed.
type Printed = Arc<Mutex<Vec<u8>>>;

#[derive(Default)]
struct State {
    /// By query.
    parts: BTreeMap<String, (OutputMode, Parts)>,
    /// By query, of the last life.
    tables: BTreeMap<String, (OutputMode, MemoryTables)>,
    /// By query, of all lives.
    terminals: BTreeMap<String, (OutputMode, Printed)>,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").finish_non_exhaustive()
    }
}

impl Ends {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was seen so far, by query.
    pub fn seen(&self) -> BTreeMap<String, Seen> {
        let state = self.state();
        let mut all = BTreeMap::new();
        for (name, (mode, parts)) in &state.parts {
            let mut seen = Seen { mode: *mode, ..Seen::default() };
            for ((epoch, _), rows) in parts {
                seen.batches.entry(*epoch).or_default().extend(rows.iter().cloned());
            }
            seen.batches.values_mut().for_each(|rows| rows.sort_unstable());
            all.insert(name.clone(), seen);
        }
        for (name, (mode, tables)) in &state.tables {
            all.insert(name.clone(), table_seen(*mode, name, tables));
        }
        for (name, (mode, terminal)) in &state.terminals {
            let text = terminal.lock().unwrap_or_else(PoisonError::into_inner);
            let (batches, complaints) = printed(&String::from_utf8_lossy(&text));
            all.insert(name.clone(), Seen { mode: *mode, batches, forgets: true, complaints, ..Seen::default() });
        }
        all
    }

    /// A number that changes whenever a partition was closed.
    pub fn version(&self) -> u64 {
        self.state().parts.values().map(|(_, parts)| parts.len() as u64).sum()
    }

    /// The sinks for one life of the process.
    pub fn providers(&self, witnesses: &Witnesses, effects: &Effects, life: u32) -> Vec<Arc<dyn SinkProvider>> {
        // The tables of the life before are gone.
        self.state().tables.clear();
        let end = |kind| -> Arc<dyn SinkProvider> {
            let (ends, witnesses, effects) = (self.clone(), witnesses.clone(), effects.clone());
            Arc::new(End { kind, ends, witnesses, effects, life })
        };
        ["foreach", "foreachBatch", "memory", "console"].map(end).into()
    }
}

fn table_seen(mode: OutputMode, name: &str, tables: &MemoryTables) -> Seen {
    let mut seen = Seen { mode, forgets: true, ..Seen::default() };
    for (batch_id, batches) in tables.table(name).map(|table| table.batches()).unwrap_or_default() {
        match json_rows(&batches) {
            Ok(mut rows) => {
                rows.sort_unstable();
                seen.batches.insert(batch_id, rows);
            }
            Err(error) => seen.complaints.push(error.to_string()),
        }
    }
    seen
}

/// The lines of each batch's table, the names of the columns first, and what is wrong with them. A batch that was printed
/// again counts as it was printed last, and must have the same rows.
fn printed(text: &str) -> (BTreeMap<u64, Vec<String>>, Vec<String>) {
    let mut tables: Vec<(u64, Vec<String>)> = Vec::new();
    for line in text.lines() {
        if let Some(batch_id) = line.strip_prefix("Batch: ").and_then(|number| number.parse().ok()) {
            tables.push((batch_id, Vec::new()));
        } else if let Some((_, lines)) = tables.last_mut()
            && line.starts_with('|')
        {
            lines.push(line.to_owned());
        }
    }
    let (mut batches, mut complaints) = (BTreeMap::new(), Vec::new());
    for (batch_id, mut lines) in tables {
        if let Some((_, rows)) = lines.split_first_mut() {
            rows.sort_unstable();
        }
        if let Some(first) = batches.insert(batch_id, lines.clone())
            && first != lines
        {
            complaints.push(format!("batch {batch_id} came again with other rows: {first:?}, then {lines:?}"));
        }
    }
    (batches, complaints)
}

/// One of the four sinks, in one life.
#[derive(Debug)]
struct End {
    kind: &'static str,
    ends: Ends,
    witnesses: Witnesses,
    effects: Effects,
    life: u32,
}

#[async_trait]
impl SinkProvider for End {
    fn short_name(&self) -> &str {
        self.kind
    }

    fn supports(&self, _: OutputMode) -> bool {
        true
    }

    fn allows_temporary_checkpoint(&self) -> bool {
        self.kind != "foreach"
    }

    fn recovers(&self, mode: OutputMode) -> bool {
        self.kind != "memory" || MemoryProvider::new(MemoryTables::new()).recovers(mode)
    }

    fn check_options(&self, _: &Options) -> Result<()> {
        Ok(())
    }

    async fn sink(&self, context: SinkContext) -> Result<Arc<dyn Sink>> {
        let name = context.query_name.clone().unwrap_or_else(|| "out".to_owned());
        self.provider(name, context.output_mode).sink(context).await
    }
}

impl End {
    /// The engine's provider, with its far end in this world.
    fn provider(&self, name: String, mode: OutputMode) -> Box<dyn SinkProvider> {
        let mut state = self.ends.state();
        match self.kind {
            "memory" => {
                let tables = MemoryTables::new();
                state.tables.insert(name, (mode, tables.clone()));
                Box::new(MemoryProvider::new(tables))
            }
            "console" => {
                let (_, terminal) = state.terminals.entry(name).or_insert_with(|| (mode, Arc::default()));
                Box::new(ConsoleProvider::new(terminal.clone()))
            }
            "foreach" => {
                state.parts.entry(name.clone()).or_default().0 = mode;
                Box::new(self.foreach(name))
            }
            _ => Box::new(self.foreach_batch(name, mode)),
        }
    }

    fn foreach(&self, name: String) -> ForeachProvider {
        let (ends, effects, life) = (self.ends.clone(), self.effects.clone(), self.life);
        ForeachProvider::new(move || Keeper {
            ends: ends.clone(),
            effects: effects.clone(),
            life,
            name: name.clone(),
            part: (0, 0),
            rows: Vec::new(),
            is_open: false,
        })
    }

    fn foreach_batch(&self, name: String, mode: OutputMode) -> ForeachBatchProvider {
        let (witnesses, effects, life) = (self.witnesses.clone(), self.effects.clone(), self.life);
        ForeachBatchProvider::blocking(move |batch: ForeachBatch| -> Result<(), Error> {
            let mut rows = json_rows(&batch.rows)?;
            rows.sort_unstable();
            let path = format!("/foreachBatch/{name}/{}", batch.batch_id);
            let commit = |begun: &Begun| {
                begun.check()?;
                if let Some(Bug::Hold { until }) = &begun.bug {
                    // A function that returns before what it does is durable.
                    let (witnesses, name) = (witnesses.clone(), name.clone());
                    let commit_later = move || drop(witnesses.commit(&name, mode, batch.batch_id, Some(rows)));
                    effects.hold(until, Box::new(commit_later));
                    return Ok(());
                }
                witnesses.commit(&name, mode, batch.batch_id, Some(rows))
            };
            effects.perform(life, Op::Commit, &path, |()| 0, commit).map_err(|error| refused(&path, error))
        })
    }
}

/// A user's writer that keeps a partition of an epoch when it is closed, and skips those that it has.
struct Keeper {
    ends: Ends,
    effects: Effects,
    life: u32,
    name: String,
    part: (u64, u64),
    rows: Vec<String>,
    is_open: bool,
}

impl Keeper {
    fn path(&self) -> String {
        format!("/foreach/{}/{}/{}", self.name, self.part.0, self.part.1)
    }
}

#[async_trait]
impl ForeachWriter for Keeper {
    async fn open(&mut self, partition_id: u64, epoch_id: u64) -> Result<bool, UserError> {
        self.part = (epoch_id, partition_id);
        self.effects.perform(self.life, Op::Stage, &self.path(), |()| 0, |begun| begun.check())?;
        let known = self.ends.state().parts.get(&self.name).is_some_and(|(_, parts)| parts.contains_key(&self.part));
        self.is_open = !known;
        Ok(self.is_open)
    }

    async fn process(&mut self, row: ForeachRow<'_>) -> Result<(), UserError> {
        self.rows.extend(json_rows(&[row.batch.slice(row.index, 1)])?);
        Ok(())
    }

    async fn close(&mut self, error: Option<&Error>) {
        if error.is_some() || !self.is_open {
            return;
        }
        let rows = std::mem::take(&mut self.rows);
        // A `close` cannot fail: the user's table is one that can be relied on. Who dies here is dead all the same.
        let (ends, name, part) = (self.ends.clone(), self.name.clone(), self.part);
        let insert = move || {
            if let Some((_, parts)) = ends.state().parts.get_mut(&name) {
                parts.insert(part, rows);
            }
        };
        let keep = |begun: &Begun| {
            match &begun.bug {
                Some(Bug::Skip) => {}
                // A writer whose `close` returns before its rows are durable.
                Some(Bug::Hold { until }) => self.effects.hold(until, Box::new(insert)),
                _ => insert(),
            }
            Ok(())
        };
        let _ = self.effects.perform(self.life, Op::Commit, &self.path(), |()| 0, keep);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_console_prints_is_read_by_batch() {
        let rule = "-------------------------------------------";
        let table = |id: u64, rows: &[&str]| {
            let body: String = rows.iter().map(|row| format!("|{row}|\n")).collect();
            format!("{rule}\nBatch: {id}\n{rule}\n+---+\n|  v|\n+---+\n{body}+---+\n\n")
        };
        let text = [table(0, &["  1", "  2"]), table(0, &["  2", "  1"]), table(1, &[]), table(1, &["  3"])].concat();
        let (batches, complaints) = printed(&text);
        assert_eq!(batches[&0], ["|  v|", "|  1|", "|  2|"]);
        assert_eq!(batches[&1], ["|  v|", "|  3|"]);
        assert_eq!(complaints.len(), 1, "{complaints:?}");
    }
}
