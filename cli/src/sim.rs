//! `wavetank sim`: the engine in many simulated worlds, one a seed, with crashes and failing storage in them.

use std::io::{self, IsTerminal, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use clap::Args;
use wavetank::Error;
use wavetank::sim::campaign::{Campaign, Found, Progress, Report};
use wavetank::sim::draw;
use wavetank::sim::pipeline::Pipeline;
use wavetank::sim::user;

use crate::{Outcome, pipeline};

/// The command line of `wavetank sim`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// A pipeline of your own, as `wavetank run` takes it: its queries take turns over the seeds, with rows drawn from
    /// the columns of its streams. Without it pipelines are drawn too.
    file: Option<PathBuf>,
    /// The seeds: `7`, or `0..1000` without the last.
    #[arg(long, alias = "seed", default_value = "0..100", value_parser = seeds)]
    seeds: Range<u64>,
    /// How many seeds are run at the same time. The findings do not depend on it.
    #[arg(long, default_value_t = std::thread::available_parallelism().map_or(1, usize::from))]
    jobs: usize,
    /// How many runs may be spent on making a failure small.
    #[arg(long, default_value_t = 300)]
    shrink: usize,
    /// Where failures are written: a scenario to replay, a page and a picture each.
    #[arg(long, default_value = "out/sim")]
    out: PathBuf,
}

/// Runs the seeds; says what was reached; writes what failed.
pub fn sim(arguments: &Arguments) -> Outcome {
    let shows = io::stderr().is_terminal();
    let scripts = arguments.file.as_deref().map(pipeline::moved).transpose()?.unwrap_or_default();
    let scenario = |seed: u64| match scripts.len() as u64 {
        0 => draw::scenario(seed),
        count => user::scenario(seed, &scripts[(seed % count) as usize]),
    };
    let report = Campaign {
        seeds: arguments.seeds.clone(),
        jobs: arguments.jobs,
        shrink_tries: arguments.shrink,
        scenario: &scenario,
        subject: &Pipeline,
        progress: &|progress: &Progress| {
            if shows {
                eprint!(
                    "\r{} seeds, {} crashes, {} failures ",
                    progress.seeds_count, progress.crashes_count, progress.failures_count
                );
            }
        },
    }
    .run();
    if shows {
        eprintln!();
    }
    say(&report);
    for found in &report.failures {
        let replay = write(&arguments.out, found).map_err(|error| {
            Error::analysis(format!("Cannot write to {}: {error}. Choose another --out.", arguments.out.display()))
        })?;
        println!("\nseed {}: {}", found.seed, found.failures.join("; "));
        println!("  wavetank replay {}", replay.display());
    }
    match report.progress.failures_count {
        0 => Ok(()),
        1 => Err(Error::internal("1 seed failed")),
        count => Err(Error::internal(format!("{count} seeds failed"))),
    }
}

fn say(report: &Report) {
    let Progress { seeds_count, runs_count, crashes_count, batches_count, effects_count, .. } = report.progress;
    println!(
        "{seeds_count} seeds, {runs_count} runs, {crashes_count} crashes, {batches_count} batches, {effects_count} effects"
    );
    for (mark, count) in &report.marks {
        println!("{count:>8}  {mark}");
    }
}

/// Writes a failure; the scenario's path is what replays it.
fn write(folder: &Path, found: &Found) -> io::Result<PathBuf> {
    std::fs::create_dir_all(folder)?;
    let path = |ending: &str| folder.join(format!("seed-{}.{ending}", found.seed));
    for (ending, text) in [("toml", &found.scenario), ("txt", &found.page), ("svg", &found.picture)] {
        std::fs::File::create(path(ending))?.write_all(text.as_bytes())?;
    }
    Ok(path("toml"))
}

fn seeds(text: &str) -> Result<Range<u64>, String> {
    let number = |text: &str| text.trim().parse::<u64>().map_err(|error| format!("'{text}': {error}"));
    match text.split_once("..") {
        Some((from, to)) => Ok(number(from)?..number(to)?),
        None => number(text).map(|seed| seed..seed + 1),
    }
}
