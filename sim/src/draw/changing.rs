//! Files that others still write: half-written, grown, made again with other content, deleted, dated back; at any moment.
//!
//! Every row has a value of its own, so that `judge_files` (`files.rs`) can tell of each row of the sink which version
//! of which file it is from. The query passes rows through: what else there is to know is which version was read.

use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;
use wavetank_engine::environment::Entropy;

use super::places::Places;
use crate::effects::{Effect, Op};
use crate::fault::{Fault, Harm};
use crate::scenario::{Scenario, Step};

/// How far apart things that happen later are, in milliseconds.
const LATER_MS: u64 = 40;

/// The scenario of one seed of twelve; the others have files that stay as they are.
pub(super) fn scenario(seed: u64) -> Option<Scenario> {
    let entropy = Entropy::from_seed(seed).fork("changing files");
    let mut random = entropy.stream();
    if !random.random_ratio(1, 12) {
        return None;
    }
    let places = Places::drawn(entropy);
    let csv = random.random_ratio(1, 4);
    // A stream of its own, so that the others keep their scenarios.
    let others = ["json", "json", "json", "parquet", "text"];
    let format = if csv { "csv" } else { others.choose(&mut entropy.fork("changing formats").stream()).expect("five") };
    let mut options = format!("path '{}'", places.input);
    if random.random_ratio(3, 4) {
        options.push_str(&format!(", maxFilesPerTrigger '{}'", random.random_range(1..4)));
    }
    if random.random_ratio(1, 6) {
        options.push_str(", latestFirst 'true'");
    }
    let sink = *["witness", "witness", "json", "csv", "text", "parquet"].choose(&mut random).expect("six");
    let path = if sink == "witness" { String::new() } else { format!("path '{}', ", places.output) };
    let (columns, value, there) = match (format, sink) {
        ("text", "text") => ("value STRING", "value AS v", "value"),
        ("text", _) => ("value STRING", "CAST(value AS BIGINT) AS v", "value"),
        (_, "text") => ("v BIGINT", "CAST(v AS STRING) AS v", "v"),
        _ => ("v BIGINT", "v", "v"),
    };
    let script = format!(
        "CREATE TABLE events ({columns})\n  USING {format} OPTIONS ({options});\nCREATE STREAMING TABLE out USING {sink}\n  \
         OPTIONS ({path}outputMode 'append', checkpointLocation '{}')\n  AS SELECT {value} FROM STREAM events WHERE {there} IS \
         NOT NULL;\n",
        places.checkpoint
    );
    let writer = Writer { random, format, folder: places.input, files: Vec::new(), values_count: 0, steps: Vec::new() };
    Some(Scenario {
        about: format!("drawn from seed {seed}"),
        seed,
        script,
        steps: writer.steps(),
        ..Scenario::default()
    })
}

/// Slow effects of a run over such files: meanwhile the files change.
pub(super) fn faults(seed: u64, trace: &[Effect]) -> Vec<Fault> {
    if scenario(seed).is_none() {
        return Vec::new();
    }
    let mut random = Entropy::from_seed(seed).fork("changing meanwhile").stream();
    let touched: Vec<&Effect> = trace.iter().filter(|effect| effect.name.contains("in/")).collect();
    let read: Vec<&Effect> = touched.iter().filter(|e| matches!(e.op, Op::Read | Op::Get)).copied().collect();
    let faults = (0..random.random_range(0..4)).filter_map(|_| {
        let among = if random.random() { &read } else { &touched };
        let at = among.choose(&mut random)?.name.clone();
        Some(Fault { life: 0, at, harm: Harm::Slow { us: random.random_range(1..100) * 1_000 } })
    });
    faults.collect()
}

/// Somebody who writes files and does not care who reads them.
struct Writer {
    random: ChaCha8Rng,
    format: &'static str,
    folder: String,
    /// What each file has now; `None`: it is gone.
    files: Vec<Option<Vec<String>>>,
    values_count: u64,
    steps: Vec<Step>,
}

impl Writer {
    fn steps(mut self) -> Vec<Step> {
        for _ in 0..self.random.random_range(3..12) {
            self.write();
            match self.random.random_range(0..8) {
                0..3 => self.steps.push(Step::Settle),
                3 => self.steps.push(Step::Wait { ms: self.random.random_range(1..60) }),
                4 => self.steps.extend([Step::Settle, Step::Restart]),
                _ => {}
            }
        }
        // Until everything that was to happen later has happened.
        self.steps.extend([Step::Wait { ms: LATER_MS * 2 }, Step::Settle]);
        self.steps
    }

    fn name(&self, at: usize) -> String {
        format!("{}/{at}.{}", self.folder, self.format)
    }

    /// One thing that happens to a file.
    fn write(&mut self) {
        let known = self.files.len();
        if known == 0 || self.random.random_ratio(2, 5) {
            let rows = self.rows();
            self.files.push(Some(rows));
            self.drop(known);
            if self.random.random_ratio(1, 3) {
                let modified_ms = *[0, 0, 1_000, -5_000, -86_400_000].choose(&mut self.random).expect("five");
                self.steps.push(Step::Touch { file: self.name(known), modified_ms });
            }
            if self.random.random_ratio(1, 6) {
                self.files[known] = None;
                let ms = self.random.random_range(1..LATER_MS);
                self.steps.push(Step::RemoveLater { ms, file: self.name(known) });
            }
            return;
        }
        let at = self.random.random_range(0..known);
        match self.random.random_range(0..4) {
            0 => {
                self.files[at] = None;
                let file = self.name(at);
                self.steps.push(match self.random.random() {
                    true => Step::Remove { file },
                    false => Step::RemoveLater { ms: self.random.random_range(1..LATER_MS), file },
                });
            }
            1 => {
                self.files[at] = Some(self.rows());
                self.drop(at);
            }
            _ => {
                let more = self.rows();
                let mut rows = self.files[at].take().unwrap_or_default();
                rows.extend(more);
                self.files[at] = Some(rows);
                self.drop(at);
            }
        }
    }

    fn rows(&mut self) -> Vec<String> {
        let count = self.random.random_range(1..4);
        let rows = (0..count).map(|_| {
            self.values_count += 1;
            let value = 1_000 + self.values_count;
            match self.format {
                "csv" | "text" => value.to_string(),
                _ => format!("{{\"v\":{value}}}"),
            }
        });
        rows.collect()
    }

    /// The file gets the content that it has; sometimes in two halves, sometimes later.
    fn drop(&mut self, at: usize) {
        let (file, rows) = (self.name(at), self.files[at].clone().unwrap_or_default());
        let ms = self.random.random_range(1..LATER_MS);
        match self.random.random_range(0..6) {
            // Half a number is a number.
            0 if matches!(self.format, "json" | "parquet") => {
                let mut half = rows.clone();
                // Of a file of Parquet half its bytes come: no reader can do anything with them.
                if let Some(last) = half.last_mut().filter(|_| self.format == "json") {
                    last.truncate(last.len() / 2);
                }
                self.steps.push(Step::Drop { file: file.clone(), rows: half, torn: true });
                self.steps.push(match self.random.random() {
                    true => Step::DropLater { ms, file, rows, torn: false },
                    false => Step::Drop { file, rows, torn: false },
                });
            }
            1 => self.steps.push(Step::DropLater { ms, file, rows, torn: false }),
            _ => self.steps.push(Step::Drop { file, rows, torn: false }),
        }
    }
}
