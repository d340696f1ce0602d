//! What somebody outside sees: the rows that readers of each sink get, and the two logs of each checkpoint.
//!
//! Nothing here shares code with the engine: a folder of files is read as Spark's own reader does, by its
//! `_spark_metadata` log (`spec/07`), and the logs of a checkpoint are read as text.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;
use wavetank_engine::sink::OutputMode;

use crate::witness::{Witness, Witnesses, json_rows};
use crate::world::{HOME, World};

/// What can be seen from outside at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// By sink: a witness's name, or a folder: relative to the home, or a location of the object store.
    pub sinks: BTreeMap<String, Seen>,
    /// By checkpoint folder, relative to the home.
    pub logs: BTreeMap<String, Logs>,
}

/// What readers of one sink see.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The query's mode, where the sink knows it.
    pub mode: OutputMode,
    /// Rows by batch, sorted. A folder of files does not tell its batches apart: all its rows are batch 0.
    pub batches: BTreeMap<u64, Vec<String>>,
    /// Whether what it shows dies with the process: a table in memory, a terminal.
    pub forgets: bool,
    /// What a reader trips over: a listed file that is not there, a torn file, a batch that changed.
    pub complaints: Vec<String>,
    /// Files with rows that the folder's log does not list: a reader that does not know the log sees them too.
    pub unlisted: Vec<String>,
}

/// The logs of a checkpoint, as text, by batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Logs {
    /// `offsets/N`.
    pub offsets: BTreeMap<u64, String>,
    /// `commits/N`.
    pub commits: BTreeMap<u64, String>,
}

impl Seen {
    /// The rows of all batches, sorted.
    pub fn all_rows(&self) -> Vec<&str> {
        let mut rows: Vec<&str> = self.batches.values().flatten().map(String::as_str).collect();
        rows.sort_unstable();
        rows
    }

    /// The rows of the batches that have any, in the order of their batches.
    pub fn filled_batches(&self) -> Vec<&Vec<String>> {
        self.batches.values().filter(|rows| !rows.is_empty()).collect()
    }
}

/// Looks at a world.
pub fn observe(world: &World, witnesses: &Witnesses) -> Observed {
    look_at(world.files(), witnesses)
}

/// The logs of all checkpoints, as far as they are durable.
pub fn durable_logs(world: &World) -> BTreeMap<String, Logs> {
    look_at(world.durable_files(), &Witnesses::default()).logs
}

fn look_at(files: BTreeMap<String, Bytes>, witnesses: &Witnesses) -> Observed {
    let mut observed = Observed { sinks: witnesses.ends.seen(), ..Observed::default() };
    for (name, witness) in witnesses.seen() {
        let Witness { mode, batches, complaints } = witness;
        let seen = Seen { mode, batches, complaints, ..Seen::default() };
        observed.sinks.insert(name, seen);
    }
    for (path, data) in &files {
        let Some((folder, name)) = path.rsplit_once('/') else { continue };
        if let Some(root) = folder.strip_suffix("/_spark_metadata") {
            if !observed.sinks.contains_key(root) {
                observed.sinks.insert(root.to_owned(), folder_sink(root, &files));
            }
        } else if let Some((root, log)) = folder.rsplit_once('/')
            && let Ok(batch_id) = name.parse::<u64>()
            && files.contains_key(&format!("{root}/metadata"))
        {
            let logs = observed.logs.entry(root.to_owned()).or_default();
            let text = String::from_utf8_lossy(data).into_owned();
            match log {
                "offsets" => logs.offsets.insert(batch_id, text),
                "commits" => logs.commits.insert(batch_id, text),
                _ => None,
            };
        }
    }
    observed
}

/// A folder as a reader of its `_spark_metadata` log sees it.
fn folder_sink(root: &str, files: &BTreeMap<String, Bytes>) -> Seen {
    let mut seen = Seen::default();
    let log_prefix = format!("{root}/_spark_metadata/");
    let mut entries: BTreeMap<u64, (bool, &Bytes)> = BTreeMap::new();
    for (path, data) in files.range(log_prefix.clone()..).take_while(|(path, _)| path.starts_with(&log_prefix)) {
        let name = &path[log_prefix.len()..];
        let compacted = name.strip_suffix(".compact");
        if let Ok(batch_id) = compacted.unwrap_or(name).parse() {
            entries.insert(batch_id, (compacted.is_some(), data));
        }
    }
    let first = entries.iter().rev().find(|(_, (compact, _))| *compact).map_or(0, |(batch_id, _)| *batch_id);
    let (mut rows, mut all_listed) = (Vec::new(), BTreeSet::new());
    for (batch_id, (_, data)) in entries.range(first..) {
        match listed_files(data) {
            Ok(listed) => {
                for (path, size) in listed {
                    if let (Some(size), Some(data)) = (size, files.get(&path))
                        && size != data.len() as u64
                    {
                        // Spark's reader believes the log: it would skip the file, or cut it.
                        let bytes = data.len();
                        seen.complaints.push(format!("{path} is listed with {size} bytes and has {bytes}"));
                    }
                    read_listed(root, &path, files, &mut rows, &mut seen.complaints);
                    all_listed.insert(path);
                }
            }
            Err(why) => seen.complaints.push(format!("{root}/_spark_metadata/{batch_id}: {why}")),
        }
    }
    rows.sort_unstable();
    seen.batches.insert(0, rows);
    let below = format!("{root}/");
    let there = files.range(below.clone()..).map(|(path, _)| path).take_while(|path| path.starts_with(&below));
    let shown = |path: &&String| !path[below.len()..].split('/').any(|name| name.starts_with(['.', '_']));
    seen.unlisted.extend(there.filter(shown).filter(|path| !all_listed.contains(*path)).cloned());
    seen
}

/// The paths that an entry of the log adds, relative to the home, and their sizes in bytes as the entry has them.
fn listed_files(entry: &Bytes) -> Result<Vec<(String, Option<u64>)>, String> {
    let text = std::str::from_utf8(entry).map_err(|error| error.to_string())?;
    let mut lines = text.lines();
    if lines.next() != Some("v1") {
        return Err(format!("does not begin with v1: {text:?}"));
    }
    lines
        .filter(|line| !line.is_empty())
        .map(|line| {
            let action: Value = serde_json::from_str(line).map_err(|error| format!("{error} in {line:?}"))?;
            let path = action["path"].as_str().ok_or_else(|| format!("no path in {line:?}"))?;
            let local = path.strip_prefix("file://").unwrap_or(path);
            let below = local.strip_prefix(HOME).unwrap_or(local).trim_start_matches('/');
            Ok((percent_decoded(below), action["size"].as_u64()))
        })
        .collect()
}

fn percent_decoded(path: &str) -> String {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let hex = (*first == b'%').then(|| after.get(..2)).flatten().and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn read_listed(
    root: &str,
    path: &str,
    files: &BTreeMap<String, Bytes>,
    rows: &mut Vec<String>,
    complaints: &mut Vec<String>,
) {
    let Some(data) = files.get(path) else {
        complaints.push(format!("{path} is listed but is not there"));
        return;
    };
    // A partition's values are part of its rows.
    let below = path.strip_prefix(root).unwrap_or(path).trim_start_matches('/');
    let partition = below.rsplit_once('/').map_or(String::new(), |(dir, _)| format!("{dir} "));
    match rows_of(path, data) {
        Ok(found) => rows.extend(found.into_iter().map(|row| format!("{partition}{row}"))),
        Err(why) => complaints.push(format!("{path}: {why}")),
    }
}

fn rows_of(path: &str, data: &Bytes) -> Result<Vec<String>, String> {
    if path.ends_with(".parquet") {
        let reader = ParquetRecordBatchReaderBuilder::try_new(data.clone()).and_then(|builder| builder.build());
        let batches: Result<Vec<_>, _> = reader.map_err(|error| error.to_string())?.collect();
        return json_rows(&batches.map_err(|error| error.to_string())?).map_err(|error| error.to_string());
    }
    let text = std::str::from_utf8(data).map_err(|error| error.to_string())?;
    if !text.is_empty() && !text.ends_with('\n') {
        return Err("its last line has no end".to_owned());
    }
    let rows: Vec<String> = text.lines().map(str::to_owned).collect();
    if path.ends_with(".json")
        && let Some(torn) = rows.iter().find(|row| serde_json::from_str::<Value>(row).is_err())
    {
        return Err(format!("a line is no JSON: {torn:?}"));
    }
    Ok(rows)
}

/// What is wrong with the logs of all checkpoints, given what was durable when they were looked at before: such an
/// entry is a promise. `unlinks_float` says that a crash may have brought some purged entries back.
pub fn log_complaints(before: &BTreeMap<String, Logs>, now: &Observed, unlinks_float: bool) -> Vec<String> {
    let mut complaints = Vec::new();
    for (root, logs) in &now.logs {
        for (name, log) in [("offsets", &logs.offsets), ("commits", &logs.commits)] {
            // Promises are kept for the newest batch and the one before. Commits are purged when a batch is promised, whose
            // own commit is still to come.
            let kept = if name == "offsets" { 2 } else { 1 };
            let judged = if unlinks_float { kept } else { usize::MAX };
            shape_complaints(&format!("{root}/{name}"), log, judged, &mut complaints);
        }
        let (promised, done) = (logs.offsets.keys().next_back(), logs.commits.keys().next_back());
        match (promised, done) {
            (promised, Some(done)) if promised.is_none_or(|promised| done > promised) => {
                complaints.push(format!("{root}: batch {done} is committed, but the last promise is {promised:?}"));
            }
            (Some(promised), done) if *promised > done.map_or(0, |done| done + 1) => {
                complaints.push(format!("{root}: batch {promised} is promised, but the last commit is {done:?}"));
            }
            _ => {}
        }
    }
    for (root, earlier) in before {
        let none = Logs::default();
        let logs = now.logs.get(root).unwrap_or(&none);
        for (name, then, log) in
            [("offsets", &earlier.offsets, &logs.offsets), ("commits", &earlier.commits, &logs.commits)]
        {
            promise_complaints(&format!("{root}/{name}"), then, log, &mut complaints);
        }
    }
    complaints
}

/// Entries that came back from a purge may have gaps between them and before the newest `judged` ones, which were never
/// purged.
fn shape_complaints(name: &str, log: &BTreeMap<u64, String>, judged: usize, complaints: &mut Vec<String>) {
    let judged: Vec<u64> = log.keys().rev().take(judged).copied().collect();
    let gaps = judged.windows(2).filter(|pair| pair[1] + 1 != pair[0]);
    complaints.extend(gaps.map(|pair| format!("{name}: {} follows {}", pair[0], pair[1])));
    let torn = log.iter().filter(|(_, text)| !text.starts_with("v1\n"));
    complaints.extend(torn.map(|(batch_id, text)| format!("{name}/{batch_id} does not begin with v1: {text:?}")));
}

fn promise_complaints(
    name: &str,
    then: &BTreeMap<u64, String>,
    now: &BTreeMap<u64, String>,
    complaints: &mut Vec<String>,
) {
    for (batch_id, text) in then {
        if let Some(now) = now.get(batch_id).filter(|now| *now != text) {
            complaints.push(format!("{name}/{batch_id} was {text:?} and is {now:?} now"));
        }
    }
    // Entries go from the front only (purge); the newest one stays.
    if let Some(newest) = then.keys().next_back()
        && now.keys().next_back().is_none_or(|now| now < newest)
    {
        complaints.push(format!("{name}/{newest} is gone"));
    }
}

#[cfg(test)]
mod tests {
    use wavetank_engine::storage::Posix;

    use super::*;

    fn world_with(files: &[(&str, &str)]) -> Observed {
        let world = World::new(0);
        let outside = world.disk().outside();
        for (path, text) in files {
            let full = format!("{HOME}/{path}");
            for (at, _) in full.match_indices('/').skip(1) {
                let _ = outside.mkdir(full[..at].as_ref());
            }
            outside.write(full.as_ref(), text.as_bytes()).unwrap();
        }
        observe(&world, &Witnesses::default())
    }

    fn added(path: &str) -> String {
        format!("v1\n{{\"path\":\"file:///world/{path}\",\"action\":\"add\"}}")
    }

    #[test]
    fn a_folder_is_read_by_its_log_from_the_last_compaction_on() {
        let observed = world_with(&[
            ("out/_spark_metadata/0", &added("out/gone.json")),
            ("out/_spark_metadata/1.compact", &added("out/k=a%20b/p.json")),
            ("out/_spark_metadata/2", &added("out/q.json")),
            ("out/k=a b/p.json", "{\"v\":1}\n{\"v\":2}\n"),
            ("out/q.json", "{\"v\":0}\n"),
            ("out/unlisted.json", "{\"v\":9}\n"),
        ]);
        let seen = &observed.sinks["out"];
        assert_eq!(seen.complaints, Vec::<String>::new());
        assert_eq!(seen.all_rows(), ["k=a b {\"v\":1}", "k=a b {\"v\":2}", "{\"v\":0}"]);
    }

    #[test]
    fn readers_trip_over_missing_and_torn_files() {
        let observed = world_with(&[
            ("out/_spark_metadata/0", &added("out/gone.json")),
            ("out/_spark_metadata/1", &added("out/torn.json")),
            ("out/_spark_metadata/2", "\0\0\0"),
            ("out/torn.json", "{\"v\":1}\n{\"v\""),
        ]);
        assert_eq!(observed.sinks["out"].complaints.len(), 3, "{observed:?}");
    }

    #[test]
    fn logs_must_be_gapless_in_step_and_must_not_change() {
        let fine = [("c/metadata", "{}"), ("c/offsets/4", "v1\na"), ("c/offsets/5", "v1\nb"), ("c/commits/4", "v1\nc")];
        let before = world_with(&fine);
        assert_eq!(log_complaints(&before.logs, &before, false), Vec::<String>::new());
        for (change, said) in [
            (("c/offsets/7", "v1\nx"), "7 follows 5"),
            (("c/offsets/5", "v1\nx"), "is \"v1\\nx\" now"),
            (("c/commits/6", "v1\nx"), "6 is committed"),
            (("c/offsets/6", "v1\nx"), "6 is promised"),
            (("c/offsets/5", ""), "does not begin with v1"),
        ] {
            let mut files = fine.to_vec();
            files.push(change);
            let complaints = log_complaints(&before.logs, &world_with(&files), false);
            assert!(complaints.iter().any(|complaint| complaint.contains(said)), "{said}: {complaints:?}");
        }
        let lost = log_complaints(&before.logs, &world_with(&fine[..2]), false);
        assert!(lost.iter().any(|complaint| complaint.contains("offsets/5 is gone")), "{lost:?}");
    }
}
