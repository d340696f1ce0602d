//! The random driver: a seed becomes a scenario. Pipelines, rows, arrivals, settings and faults are all drawn.
//!
//! ```text
//! seed ─ fork "pipeline" ─► which query, source, sink, mode          (shapes of `PIPELINES`)
//!      ─ fork "settings" ─► small logs, small snapshots, partitions
//!      ─ fork "rows"     ─► blocks of rows: times around the edges of windows and watermarks
//!      ─ fork "steps"    ─► arrivals, settling, waiting, restarts
//!      ─ fork "faults"   ─► which kinds are on (swarm), where they strike: names of an undisturbed run
//! ```
//! Each stream is its own: drawing more rows does not move the faults.

use std::collections::BTreeMap;

use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;
use wavetank_engine::environment::Entropy;

use crate::clock::EPOCH_US;
use crate::disk::CrashImage;
use crate::effects::{Effect, Op};
use crate::fault::{Fault, Harm};
use crate::scenario::{Scenario, Step};

/// How long the windows of drawn pipelines are, in microseconds.
const WINDOW_US: i64 = 10_000_000;
/// How late rows of drawn pipelines may be, in microseconds.
const DELAY_US: i64 = 5_000_000;

/// The query of a drawn pipeline, with the output modes that it can run in.
const QUERIES: [(&str, &[&str]); 6] = [
    ("SELECT k, v + 1 AS v FROM STREAM events WHERE v IS NOT NULL AND v % 3 <> 0", &["append", "update"]),
    ("SELECT k, count(*) AS n, sum(v) AS s FROM STREAM events GROUP BY k", &["update", "complete"]),
    ("SELECT count(*) AS n, max(v) AS m, min(k) AS k FROM STREAM events", &["update", "complete"]),
    (
        "SELECT window(ts, '10 seconds') AS w, k, count(*) AS n FROM STREAM events WATERMARK ts DELAY OF INTERVAL 5 SECONDS \
         GROUP BY window(ts, '10 seconds'), k",
        &["append", "update", "complete"],
    ),
    (
        "SELECT window(ts, '10 seconds', '5 seconds') AS w, count(*) AS n, avg(v) AS a FROM STREAM events WATERMARK ts DELAY OF INTERVAL 5 \
         SECONDS GROUP BY window(ts, '10 seconds', '5 seconds')",
        &["append", "update", "complete"],
    ),
    (
        "SELECT ts, count(*) AS n FROM STREAM events WATERMARK ts DELAY OF INTERVAL 5 SECONDS GROUP BY ts",
        &["append", "update"],
    ),
];

/// The scenario of a seed, without faults.
pub fn scenario(seed: u64) -> Scenario {
    let entropy = Entropy::from_seed(seed);
    let mut pipeline = entropy.fork("pipeline").stream();
    let (query, modes) = QUERIES.choose(&mut pipeline).expect("there are queries");
    let mode = modes.choose(&mut pipeline).expect("each has a mode");
    let files = pipeline.random_ratio(1, 3);
    // Folders of files take append only.
    let sink = match *mode {
        "append" if pipeline.random_ratio(1, 2) => *["json", "parquet"].choose(&mut pipeline).expect("two"),
        _ => "witness",
    };
    Scenario {
        about: format!("drawn from seed {seed}"),
        seed,
        script: script(query, mode, files, sink),
        settings: BTreeMap::from([(0, settings(&mut entropy.fork("settings").stream()))]),
        plants: Vec::new(),
        steps: steps(&entropy, files),
        faults: Vec::new(),
    }
}

fn script(query: &str, mode: &str, files: bool, sink: &str) -> String {
    let source = match files {
        true => "json OPTIONS (path 'in', maxFilesPerTrigger '1')",
        false => "tape OPTIONS (name 'events', blocksPerTrigger '1')",
    };
    let target = if sink == "witness" { String::new() } else { "path 'out', ".to_owned() };
    format!(
        "CREATE TABLE events (ts TIMESTAMP, k STRING, v BIGINT)\n  USING {source};\n\
         CREATE STREAMING TABLE out USING {sink}\n  \
         OPTIONS ({target}outputMode '{mode}', checkpointLocation 'checkpoint')\n  AS {query};\n"
    )
}

fn settings(random: &mut ChaCha8Rng) -> BTreeMap<String, String> {
    let mut settings = BTreeMap::new();
    let mut set = |key: &str, value: u32| settings.insert(format!("spark.sql.{key}"), value.to_string());
    if random.random() {
        set("shuffle.partitions", random.random_range(1..4));
    }
    if random.random() {
        set("streaming.minBatchesToRetain", random.random_range(1..4));
    }
    settings
}

/// Arrivals and what lies between them.
fn steps(entropy: &Entropy, files: bool) -> Vec<Step> {
    let mut random = entropy.fork("steps").stream();
    let mut rows_random = entropy.fork("rows").stream();
    let mut event_us = EPOCH_US;
    let mut steps = Vec::new();
    for block in 0..random.random_range(1..8) {
        let rows = rows(&mut rows_random, &mut event_us);
        steps.push(if files {
            Step::Drop { file: format!("in/{block:03}.json"), rows, torn: false }
        } else {
            Step::Add { tape: "events".to_owned(), rows }
        });
        // Whoever waits or restarts settles before: whether a batch without data ran between two blocks decides which
        // rows are late, and a crash must not be able to change that for a comparison with the undisturbed run.
        match random.random_range(0..10) {
            0..5 => steps.push(Step::Settle),
            5..7 => steps.extend([Step::Settle, Step::Wait { ms: random.random_range(1..300) }, Step::Settle]),
            7 => steps.extend([Step::Settle, Step::Restart]),
            _ => {}
        }
    }
    steps.push(Step::Settle);
    steps
}

/// A block of rows around a moment that moves on: event times on, just before and just after the edges of windows and
/// of the watermark; equal, missing, late, very late and far in the future; few keys, few values.
pub fn rows(random: &mut ChaCha8Rng, event_us: &mut i64) -> Vec<String> {
    let rows = (0..random.random_range(0..6)).map(|_| {
        let window_us = *event_us - event_us.rem_euclid(WINDOW_US);
        let us = match random.random_range(0..20) {
            0..8 => Some(*event_us + random.random_range(0..WINDOW_US)),
            8..11 => Some(window_us + WINDOW_US * random.random_range(-2..3) + random.random_range(-1..2)),
            11..14 => Some(*event_us - DELAY_US + random.random_range(-1_001..1_002)),
            14 => Some(*event_us),
            15..17 => Some(*event_us - random.random_range(0..4 * WINDOW_US)),
            17 => Some(*event_us - 100 * WINDOW_US),
            18 => None,
            _ => Some(*event_us + random.random_range(0..3) * WINDOW_US),
        };
        let ts = us.map_or("null".to_owned(), |us| format!("\"{}\"", timestamp(us)));
        let k = ["\"a\"", "\"b\"", "\"c\"", "null"].choose(random).expect("four");
        let v = match random.random_range(0..8) {
            0 => "null".to_owned(),
            1 => "9007199254740993".to_owned(),
            n => (n - 3).to_string(),
        };
        format!("{{\"ts\":{ts},\"k\":{k},\"v\":{v}}}")
    });
    let rows = rows.collect();
    *event_us += match random.random_range(0..8) {
        0 => 0,
        1 => 10 * WINDOW_US,
        _ => random.random_range(0..2 * WINDOW_US),
    };
    rows
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
    let kinds: Vec<u32> = (0..6).filter(|_| random.random()).collect();
    let mut faults = Vec::new();
    if trace.is_empty() {
        return faults;
    }
    for _ in 0..random.random_range(1..5) {
        let life = random.random_range(0..3_u32).saturating_sub(u32::from(random.random_ratio(1, 2)));
        let effect = trace.choose(&mut random).expect("not empty");
        let image = images.choose(&mut random).copied().unwrap_or(CrashImage::Strict);
        let harm = match kinds.choose(&mut random) {
            Some(0) | Some(1) => Harm::CrashBefore { image },
            Some(2) if can_be_refused(effect.op) => Harm::Eio,
            Some(3) if effect.op.changes() => Harm::NoSpace,
            Some(4) => Harm::Slow { us: random.random_range(0..100_000_000) },
            Some(5) => Harm::StepWall { us: random.random_range(-100_000_000..100_000_000) },
            _ => Harm::CrashAfter { image },
        };
        faults.push(Fault { life, at: effect.name.clone(), harm });
    }
    faults.sort();
    faults.dedup_by(|a, b| a.life == b.life && a.at == b.at);
    faults
}

fn can_be_refused(op: Op) -> bool {
    !matches!(op, Op::Stat)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_draws_the_same_scenario_again_and_another_seed_another() {
        assert_eq!(scenario(7), scenario(7));
        let scripts: std::collections::BTreeSet<_> = (0..60).map(|seed| scenario(seed).script).collect();
        assert!(scripts.len() > 15, "{}", scripts.len());
        assert!((0..60).any(|seed| scenario(seed).steps.contains(&Step::Restart)));
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
        let mut random = Entropy::from_seed(3).stream();
        let mut event_us = EPOCH_US;
        let rows: Vec<String> = (0..3000).flat_map(|_| rows(&mut random, &mut event_us)).collect();
        for part in ["00.000000Z", "00.000001Z", "9.999999Z", "\"ts\":null", "\"k\":null", "\"v\":null"] {
            assert!(rows.iter().any(|row| row.contains(part)), "no {part}");
        }
    }
}
