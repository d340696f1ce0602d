//! `wavetank replay`: one scenario again, as it was written down or as a seed draws it, shown on a page.

use std::path::{Path, PathBuf};

use clap::Args;
use wavetank::Error;
use wavetank::sim::pipeline::Pipeline;
use wavetank::sim::{Scenario, campaign, page, picture, saved};

use crate::{Outcome, sim};

/// The command line of `wavetank replay`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The scenario, as `wavetank sim` writes it: TOML with script, steps and faults. With --seed: a pipeline of your own.
    #[arg(required_unless_present = "seed")]
    file: Option<PathBuf>,
    /// The scenario of this seed, as a campaign runs it, before it is made small.
    #[arg(long)]
    seed: Option<u64>,
    /// Prints every effect of the run, and nothing else: life, virtual time in microseconds, name, outcome, digest.
    #[arg(long)]
    trace: bool,
    /// Also draws the timeline as SVG into this file.
    #[arg(long)]
    picture: Option<PathBuf>,
}

/// Runs the scenario without and with its faults, and shows both.
pub fn replay(arguments: &Arguments) -> Outcome {
    let file = arguments.file.as_deref();
    let (name, scenario) = match (arguments.seed, file) {
        (Some(seed), file) => {
            let script = file.map(|file| format!("{} ", file.display())).unwrap_or_default();
            let drawn = sim::drawing(file)?(seed);
            (format!("{script}--seed {seed}"), campaign::with_drawn_faults(&drawn, &Pipeline))
        }
        (None, Some(file)) => (file.display().to_string(), read(file)?),
        (None, None) => return Err(Error::analysis("There is nothing to replay. Name a scenario, or a --seed.")),
    };
    let (baseline, run, failures) = campaign::check(&scenario, &Pipeline);
    if arguments.trace {
        run.trace.iter().for_each(|effect| println!("{effect}"));
    } else {
        let text = page::text(&scenario, &run, &baseline, &failures, &format!("wavetank replay {name}"));
        println!("{}", text.trim_end());
    }
    if let Some(path) = &arguments.picture {
        std::fs::write(path, picture::svg(&scenario, &run))
            .map_err(|error| Error::analysis(format!("Cannot write {}: {error}.", path.display())))?;
    }
    if failures.is_empty() { Ok(()) } else { Err(Error::analysis(format!("{name} fails."))) }
}

fn read(file: &Path) -> wavetank::Result<Scenario> {
    saved::read(file).map_err(|error| Error::analysis(format!("{error}. `wavetank sim` writes scenarios.")))
}
