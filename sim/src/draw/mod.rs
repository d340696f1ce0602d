//! The random driver: a seed becomes a scenario. Pipelines, rows, arrivals, settings and faults are all drawn.
//!
//! ```text
//! seed ─ fork "pipeline" ─► which query, source, sink, mode          (shapes.rs)
//!      ─ fork "settings" ─► small logs, small snapshots, partitions
//!      ─ fork "rows"     ─► blocks of rows: times around the edges of windows and watermarks
//!      ─ fork "steps"    ─► arrivals, settling, waiting, restarts
//!      ─ fork "faults"   ─► which kinds are on (swarm), where they strike: names of an undisturbed run
//!      ─ fork "places"   ─► what is in the object store, and "requests": what goes wrong there (places.rs)
//!      ─ fork "ends", "rate" ─► the engine's other sinks; a source without end (rate.rs)
//!      ─ fork "changing files", "dates" ─► files that others still write (changing.rs), files with odd times
//!      ─ fork "source formats", "sink formats", "text" ─► which files are not JSON (formats.rs)
//!      ─ fork "redeployed" ─► a query that is changed between two runs (redeployed.rs)
//! ```
//! Each stream is its own: drawing more rows does not move the faults.

mod changing;
mod formats;
mod places;
mod rate;
mod redeployed;

use std::collections::BTreeMap;

use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;
use wavetank_engine::environment::Entropy;

use crate::clock::EPOCH_US;
use crate::disk::CrashImage;
use crate::effects::{Effect, Op};
use crate::fault::{Fault, Harm};
use crate::groups;
use crate::scenario::{Scenario, Step};
use crate::shapes::{SHAPES, Shape};
use places::Places;

/// How long the windows of drawn pipelines are, in microseconds.
const WINDOW_US: i64 = 10_000_000;
/// How late rows of drawn pipelines may be, in microseconds.
const DELAY_US: i64 = 5_000_000;

/// The scenario of a seed, without faults.
pub fn scenario(seed: u64) -> Scenario {
    let special = changing::scenario(seed).or_else(|| rate::scenario(seed)).or_else(|| formats::text(seed));
    if let Some(scenario) = special {
        return scenario;
    }
    let entropy = Entropy::from_seed(seed);
    let mut pipeline = entropy.fork("pipeline").stream();
    // A share of its own, so that the other seeds keep their scenarios.
    let grouped = entropy.fork("groups").stream().random_ratio(1, 6);
    let shapes = if grouped { groups::SHAPES } else { SHAPES };
    let shape = shapes.choose_weighted(&mut pipeline, |shape| shape.weight).expect("there are shapes");
    let mode = shape.modes.choose(&mut pipeline).expect("each has a mode");
    let files = (shape.tables.len() == 1 && pipeline.random_ratio(1, 3)).then(|| formats::source(&entropy));
    // Folders of files take append only.
    let sink = match *mode {
        "append" if pipeline.random_ratio(1, 2) => *["json", "parquet"].choose(&mut pipeline).expect("two"),
        _ => other_end(&entropy, mode).unwrap_or("witness"),
    };
    let sink = formats::folder(&entropy, shape, sink);
    let places = Places::drawn(entropy);
    let scenario = Scenario {
        about: format!("drawn from seed {seed}"),
        seed,
        script: script(shape, mode, files, sink, &places),
        settings: settings(&mut entropy.fork("settings").stream()),
        views: shape.scenario_views(),
        plants: Vec::new(),
        steps: steps(&entropy, shape.tables, files, &places),
        faults: Vec::new(),
    };
    redeployed::redeployed(scenario, shape, mode, &mut entropy.fork("redeployed").stream())
}

/// For one seed of eight, another sink than the witness: one of the engine's own that end outside of storage.
fn other_end(entropy: &Entropy, mode: &str) -> Option<&'static str> {
    let mut random = entropy.fork("ends").stream();
    if !random.random_ratio(1, 8) {
        return None;
    }
    // A table in memory begins anew with its process, which is refused unless it is complete.
    let ends: &[&str] = match mode {
        "complete" => &["foreach", "foreachBatch", "memory", "memory", "console"],
        _ => &["foreach", "foreachBatch", "console"],
    };
    ends.choose(&mut random).copied()
}

/// Whether a sink writes to a folder.
fn is_folder(sink: &str) -> bool {
    matches!(sink, "json" | "parquet" | "csv" | "text")
}

/// `files` is the format of the files that are read; without them tapes are.
fn script(shape: &Shape, mode: &str, files: Option<&str>, sink: &str, places: &Places) -> String {
    let Places { checkpoint, input, output } = places;
    let mut script = String::new();
    for table in shape.tables {
        let source = match files {
            Some(format) => format!("{format} OPTIONS (path '{input}', maxFilesPerTrigger '1')"),
            None => format!("tape OPTIONS (name '{table}', blocksPerTrigger '1')"),
        };
        script.push_str(&format!("CREATE TABLE {table} (ts TIMESTAMP, k STRING, v BIGINT)\n  USING {source};\n"));
    }
    script.push_str(shape.views);
    let target = if is_folder(sink) { format!("path '{output}', ") } else { String::new() };
    // A batch at every trigger: time must pass in between.
    let trigger = if shape.is_clocked() { "trigger '1 second', " } else { "" };
    script.push_str(&format!(
        "CREATE STREAMING TABLE out USING {sink}\n  OPTIONS ({target}{trigger}outputMode '{mode}', checkpointLocation \
         '{checkpoint}')\n  AS {};\n",
        shape.query
    ));
    script
}

/// Settings of the first life, and of the ones after a change.
fn settings(random: &mut ChaCha8Rng) -> BTreeMap<u32, BTreeMap<String, String>> {
    let mut first = BTreeMap::new();
    let mut set = |key: &str, value: String| first.insert(format!("spark.sql.{key}"), value);
    if random.random() {
        set("shuffle.partitions", random.random_range(1..4).to_string());
    }
    if random.random() {
        set("streaming.minBatchesToRetain", random.random_range(1..4).to_string());
    }
    if random.random() {
        set("streaming.stateStore.minDeltasForSnapshot", random.random_range(1..4).to_string());
    }
    if random.random_ratio(1, 6) {
        set("streaming.multipleWatermarkPolicy", "max".to_owned());
    }
    if random.random_ratio(1, 10) {
        set("streaming.noDataMicroBatches.enabled", "false".to_owned());
    }
    let mut settings = BTreeMap::from([(0, first.clone())]);
    if random.random_ratio(1, 3) {
        // The checkpoint wins: nothing may change.
        let mut changed = first;
        changed.insert("spark.sql.shuffle.partitions".to_owned(), random.random_range(1..5).to_string());
        changed.insert("spark.sql.streaming.multipleWatermarkPolicy".to_owned(), "min".to_owned());
        settings.insert(random.random_range(1..3), changed);
    }
    settings
}

/// Arrivals and what lies between them.
fn steps(entropy: &Entropy, tables: &[&str], files: Option<&str>, places: &Places) -> Vec<Step> {
    let mut random = entropy.fork("steps").stream();
    let mut times = Times::drawn(entropy.fork("rows").stream());
    let mut dates = entropy.fork("dates").stream();
    let dated = files.is_some() && dates.random_ratio(1, 4);
    let mut steps = Vec::new();
    let blocks = if random.random_ratio(1, 20) { random.random_range(10..14) } else { random.random_range(1..8) };
    for block in 0..blocks {
        let rows = times.rows();
        let table = tables.choose(&mut random).expect("each shape has a table");
        let file = files.map(|format| format!("{}/{block:03}.{format}", places.input));
        steps.push(match file.clone() {
            Some(file) => Step::Drop { file, rows, torn: false },
            None => Step::Add { tape: (*table).to_owned(), rows },
        });
        if let Some(file) = file.filter(|_| dated && dates.random_ratio(2, 3)) {
            // Two of one moment, one from before all others; none so old that a source may pass it over.
            let modified_ms = *[0, 0, 1_000, 90_000, -1, -86_400_000].choose(&mut dates).expect("six");
            steps.push(Step::Touch { file, modified_ms });
        }
        match random.random_range(0..12) {
            0..5 => steps.push(Step::Settle),
            5..7 => steps.extend([Step::Settle, Step::Wait { ms: random.random_range(1..300) }, Step::Settle]),
            7..9 => steps.extend([Step::Settle, Step::Restart]),
            // While batches run, or before one has begun.
            9 => steps.push(Step::Restart),
            _ => {}
        }
    }
    steps.push(Step::Settle);
    steps
}

/// Draws blocks of rows around a moment that moves on: event times on, just before and just after the edges of windows
/// and of the watermark; equal, missing, late, very late and far in the future; few keys, few values.
pub struct Times {
    random: ChaCha8Rng,
    event_us: i64,
    last_us: i64,
    /// Whether all times are whole seconds: then edges, watermarks and bounds of joins meet often.
    whole_seconds: bool,
}

impl Times {
    /// A stream of blocks; most begin in 2024, some around 1970.
    pub fn drawn(mut random: ChaCha8Rng) -> Self {
        let event_us = if random.random_ratio(1, 6) { random.random_range(-4..1) * WINDOW_US } else { EPOCH_US };
        Self { event_us, last_us: event_us, whole_seconds: random.random(), random }
    }

    /// The next block.
    pub fn rows(&mut self) -> Vec<String> {
        let rows = (0..self.random.random_range(0..6)).map(|_| self.row()).collect();
        self.event_us += match self.random.random_range(0..8) {
            0 => 0,
            1 => 10 * WINDOW_US,
            _ => self.random.random_range(0..2 * WINDOW_US),
        };
        rows
    }

    fn row(&mut self) -> String {
        let random = &mut self.random;
        let window_us = self.event_us - self.event_us.rem_euclid(WINDOW_US);
        let beside_us = *[-1_001, -1_000, -999, -1, 0, 0, 1, 999, 1_000].choose(random).expect("nine");
        let us = match random.random_range(0..40) {
            0..15 => Some(self.event_us + random.random_range(0..WINDOW_US)),
            15..21 => Some(window_us + WINDOW_US * random.random_range(-2..3) + random.random_range(-1..2)),
            21..27 => Some(self.event_us - DELAY_US + beside_us),
            27 => Some(self.event_us),
            // Where a session ends, and the bound of a join.
            28 => Some(self.last_us + DELAY_US),
            29..34 => Some(self.event_us - random.random_range(0..4 * WINDOW_US)),
            34 => Some(self.event_us - 100 * WINDOW_US),
            35..37 => None,
            37..39 => Some(self.event_us + random.random_range(0..3) * WINDOW_US),
            _ => Some(self.event_us + random.random_range(1..30) * WINDOW_US),
        };
        self.last_us = us.unwrap_or(self.last_us);
        let grid_us = if self.whole_seconds { 1_000_000 } else { 1 };
        let ts = us.map_or("null".to_owned(), |us| format!("\"{}\"", timestamp(us - us.rem_euclid(grid_us))));
        let k = ["\"a\"", "\"a\"", "\"b\"", "\"b\"", "\"c\"", "null"].choose(random).expect("six");
        let v = match random.random_range(0..8) {
            0 => "null".to_owned(),
            1 => "9007199254740993".to_owned(),
            n => (n - 3).to_string(),
        };
        format!("{{\"ts\":{ts},\"k\":{k},\"v\":{v}}}")
    }
}

/// `2024-01-01T00:00:00.000001Z`.
fn timestamp(us: i64) -> String {
    let (days, of_day_us) = (us.div_euclid(86_400_000_000), us.rem_euclid(86_400_000_000));
    let (year, month, day) = civil(days);
    let (seconds, fraction) = (of_day_us / 1_000_000, of_day_us % 1_000_000);
    let (h, m, s) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}.{fraction:06}Z")
}

/// Days since 1970 as a date of the Gregorian calendar.
fn civil(days: i64) -> (i64, i64, i64) {
    // Years begin in March, so that the leap day is the last one; eras are 400 years.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, year) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (year_of_era + era * 400 + year, month, day)
}

/// Faults for a scenario whose undisturbed run had this trace. Which kinds are on is drawn first, then where they
/// strike: in life 0 by the names of the trace; in later lives by the same names, which a recovery reaches or not.
pub fn faults(seed: u64, trace: &[Effect]) -> Vec<Fault> {
    let mut random = Entropy::from_seed(seed).fork("faults").stream();
    let images: Vec<CrashImage> = CrashImage::ALL.into_iter().filter(|_| random.random()).collect();
    let crashes = random.random_ratio(4, 5);
    let kinds: Vec<u32> = (2..6).filter(|_| random.random()).collect();
    let mut faults = Vec::new();
    if trace.is_empty() {
        return faults;
    }
    for _ in 0..random.random_range(1..6) {
        let life = random.random_range(0..3_u32).saturating_sub(u32::from(random.random_ratio(1, 2)));
        // Every other fault strikes where something changes.
        let changing: Vec<&Effect> = trace.iter().filter(|effect| effect.op.changes()).collect();
        let any = trace.choose(&mut random).expect("not empty");
        let effect = if random.random() { changing.choose(&mut random).copied().unwrap_or(any) } else { any };
        let image = images.choose(&mut random).copied().unwrap_or(CrashImage::Strict);
        let crash = crashes && random.random_ratio(2, 3);
        let harm = match kinds.choose(&mut random).filter(|_| !crash) {
            Some(2) if can_be_refused(effect.op) => Harm::Eio,
            Some(3) if effect.op.changes() => Harm::NoSpace,
            Some(4) => Harm::Slow { us: random.random_range(0..100_000_000) },
            Some(5) => Harm::StepWall { us: random.random_range(-100_000_000..100_000_000) },
            _ if random.random() => Harm::CrashBefore { image },
            _ => Harm::CrashAfter { image },
        };
        faults.push(Fault { life, at: effect.name.clone(), harm });
    }
    faults.extend(places::faults(Entropy::from_seed(seed), trace));
    faults.extend(changing::faults(seed, trace));
    faults.sort();
    faults.dedup_by(|a, b| a.life == b.life && a.at == b.at);
    faults
}

fn can_be_refused(op: Op) -> bool {
    !matches!(op, Op::Stat)
}

#[cfg(test)]
mod tests {
    use std::cmp::Ordering;
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_seed_draws_the_same_scenario_again_and_another_seed_another() {
        assert_eq!(scenario(7), scenario(7));
        let scripts: std::collections::BTreeSet<_> = (0..60).map(|seed| scenario(seed).script).collect();
        assert!(scripts.len() > 15, "{}", scripts.len());
        assert!((0..60).any(|seed| scenario(seed).steps.contains(&Step::Restart)));
    }

    #[test]
    fn watermarks_come_and_go_and_move_between_two_runs() {
        let changes = (0..600).filter_map(|seed| {
            let scenario = scenario(seed);
            let then = scenario.script_at(scenario.steps.len());
            let marks = |script: &str| script.matches(" WATERMARK ").count();
            (then != scenario.script).then(|| marks(then).cmp(&marks(&scenario.script)))
        });
        let changes: BTreeSet<Ordering> = changes.collect();
        assert_eq!(changes.len(), 3, "{changes:?}");
    }

    #[test]
    fn times_are_dates_of_the_calendar() {
        for (us, text) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (-1, "1969-12-31T23:59:59.999999Z"),
            (EPOCH_US + 1, "2024-01-01T00:00:00.000001Z"),
            (951_782_400_000_000, "2000-02-29T00:00:00.000000Z"),
            (1_709_251_199_000_000, "2024-02-29T23:59:59.000000Z"),
        ] {
            assert_eq!(timestamp(us), text);
        }
    }

    #[test]
    fn rows_lie_on_both_sides_of_every_edge() {
        let rows: Vec<String> = (0..30)
            .flat_map(|seed| {
                let mut times = Times::drawn(Entropy::from_seed(seed).stream());
                (0..100).flat_map(|_| times.rows()).collect::<Vec<_>>()
            })
            .collect();
        for part in ["00.000000Z", "00.000001Z", "9.999999Z", "\"ts\":null", "\"k\":null", "\"v\":null"] {
            assert!(rows.iter().any(|row| row.contains(part)), "no {part}");
        }
    }
}
