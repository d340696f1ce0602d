//! `wavetank sim`: the engine in many simulated worlds, one a seed, with crashes and failing storage in them.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use clap::Args;
use wavetank::Error;
use wavetank::sim::Scenario;
use wavetank::sim::campaign::{Campaign, Found, Progress, Report, SeedDone, check};
use wavetank::sim::draw;
use wavetank::sim::pipeline::Pipeline;
use wavetank::sim::saved::{save, saved, scenario_path};
use wavetank::sim::user;

use crate::ticker::Ticker;
use crate::{Outcome, exhaust, pipeline, signals, twice};

/// The command line of `wavetank sim`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// A pipeline of your own, as `wavetank run` takes it: its queries take turns over the seeds, with rows drawn from
    /// the columns of its streams. Without it pipelines are drawn too.
    pub file: Option<PathBuf>,
    /// The seeds: `7`, or `0..1000` without the last.
    #[arg(long, alias = "seed", default_value = "0..100", value_parser = seeds)]
    pub seeds: Range<u64>,
    /// How many seeds are run at the same time. The findings do not depend on it.
    #[arg(long, default_value_t = std::thread::available_parallelism().map_or(1, usize::from))]
    pub jobs: usize,
    /// How many runs may be spent on making a failure small.
    #[arg(long, default_value_t = 300)]
    pub shrink: usize,
    /// Where failures are written: a scenario to replay, a page and a picture each. Those that are there run first.
    #[arg(long, default_value = "out/sim")]
    out: PathBuf,
    /// Writes everything that was found as JSON into this file.
    #[arg(long)]
    report: Option<PathBuf>,
    /// Runs every seed a second time, in another process, and compares.
    #[arg(long)]
    check_determinism: bool,
    /// In the place of seeds: crashes small scenarios before and after every effect, in every crash image.
    #[arg(long)]
    exhaust: bool,
    /// With --exhaust: again before and after every how many-th effect of every recovery; 0 for none.
    #[arg(long, default_value_t = 0)]
    recoveries: usize,
    /// With --exhaust: only the scenarios whose names have this part; with --barriers: only such barriers.
    #[arg(long, default_value = "")]
    scenario: String,
    /// In the place of seeds: takes every sync and every order of the commit protocol away in turn, and says which crash
    /// shows it, as TOML.
    #[arg(long)]
    barriers: bool,
    /// Prints every effect of the seeds, and nothing else.
    #[arg(long, hide = true)]
    trace: bool,
}

/// Runs the saved failures and the seeds; says what was reached; writes what failed.
pub fn sim(arguments: &Arguments) -> Outcome {
    if arguments.exhaust {
        return exhaust::exhaust(arguments.jobs, arguments.recoveries, &arguments.scenario);
    }
    if arguments.barriers {
        return exhaust::barriers(arguments.jobs, &arguments.scenario);
    }
    let draw = drawing(arguments.file.as_deref())?;
    let ticker = Ticker::new(arguments.seeds.clone().count() as u64)?;
    let asked = signals::listen("the running seeds")
        .map_err(|error| Error::analysis(format!("Cannot listen for signals: {error}.")))?;
    let unwritten = OnceLock::new();
    let campaign = Campaign {
        seeds: arguments.seeds.clone(),
        jobs: arguments.jobs,
        shrink_tries: arguments.shrink,
        scenario: &draw,
        subject: &Pipeline,
        stop_at_failure: false,
        progress: &|SeedDone { progress, missing, found }| {
            ticker.tick(progress, missing);
            // At once: a campaign that is killed leaves what it has found.
            match found.map(|found| write(&arguments.out, found)) {
                Some(Ok(scenario)) => ticker.say(&format!("failed: wavetank replay {}", scenario.display())),
                Some(Err(error)) => drop(unwritten.set(error)),
                None => {}
            }
            unwritten.get().is_none() && !*asked.borrow()
        },
    };
    if arguments.trace {
        arguments.seeds.clone().flat_map(|seed| campaign.trace(seed)).for_each(|line| println!("{line}"));
        return Ok(());
    }
    let still_failing = run_saved(&arguments.out)?;
    let report = campaign.run();
    ticker.finish(&report.progress);
    say(&report);
    for found in &report.failures {
        println!("\nseed {}: {}", found.seed, found.failures.join("; "));
        println!("  wavetank replay {}", scenario_path(&arguments.out, &name(found)).display());
    }
    if let Some(error) = unwritten.get() {
        return Err(cannot_write(&arguments.out, error));
    }
    if let Some(path) = &arguments.report {
        std::fs::write(path, report.to_json()).map_err(|error| cannot_write(path, &error))?;
    }
    let interrupted = *asked.borrow();
    if arguments.check_determinism && !interrupted {
        twice::check(arguments, &campaign, &report)?;
    }
    match (report.progress.failures_count, still_failing) {
        (0, 0) if interrupted => Err(Error::analysis(format!(
            "Interrupted: {} of {} seeds were run.",
            report.progress.seeds_count,
            arguments.seeds.clone().count()
        ))),
        (0, 0) => Ok(()),
        (1, 0) => Err(Error::analysis("1 seed failed.")),
        (count, 0) => Err(Error::analysis(format!("{count} seeds failed."))),
        (count, saved) => Err(Error::analysis(format!("{count} seeds failed, and {saved} of the saved failures."))),
    }
}

/// What draws the scenario of a seed, without faults: for the queries of this script, or for pipelines that are drawn too.
pub fn drawing(file: Option<&Path>) -> wavetank::Result<impl Fn(u64) -> Scenario + Sync + use<>> {
    let scripts = file.map(pipeline::moved).transpose()?.unwrap_or_default();
    Ok(move |seed: u64| match scripts.len() as u64 {
        0 => draw::scenario(seed),
        count => user::scenario(seed, &scripts[(seed % count) as usize]),
    })
}

/// Runs the failures of earlier campaigns; how many still fail.
fn run_saved(folder: &Path) -> wavetank::Result<u64> {
    let mut failing = 0;
    for (path, scenario) in saved(folder).map_err(|error| Error::analysis(format!("A saved failure: {error}.")))? {
        let (_, _, failures) = check(&scenario, &Pipeline);
        match failures.first() {
            Some(failure) => println!("{} still fails: {failure}", path.display()),
            None => println!("{} is right now; delete it, or keep it in a corpus", path.display()),
        }
        failing += u64::from(!failures.is_empty());
    }
    Ok(failing)
}

pub fn cannot_write(path: &Path, error: &io::Error) -> Error {
    Error::analysis(format!("Cannot write to {}: {error}. Choose another place.", path.display()))
}

/// What was found goes to stdout, the same for the same seeds; how fast it was is not for comparing.
fn say(report: &Report) {
    let Progress { seeds_count, runs_count, crashes_count, batches_count, effects_count, .. } = report.progress;
    println!(
        "{seeds_count} seeds, {runs_count} runs, {crashes_count} crashes, {batches_count} batches, {effects_count} effects"
    );
    for (mark, count) in &report.marks {
        println!("{count:>8}  {mark}");
    }
}

fn name(found: &Found) -> String {
    format!("seed-{}", found.seed)
}

/// Writes a failure; the scenario's path is what replays it.
fn write(folder: &Path, found: &Found) -> io::Result<PathBuf> {
    save(folder, &name(found), &found.scenario, &found.page, &found.picture)
}

fn seeds(text: &str) -> Result<Range<u64>, String> {
    let number = |text: &str| text.trim().parse::<u64>().map_err(|error| format!("'{text}': {error}"));
    match text.split_once("..") {
        Some((from, to)) => Ok(number(from)?..number(to)?),
        None => number(text).map(|seed| seed..seed + 1),
    }
}
