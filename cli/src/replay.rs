//! `wavetank replay`: one scenario again, as it was written down, shown on a page.

use std::path::PathBuf;

use clap::Args;
use wavetank::Error;
use wavetank::sim::pipeline::Pipeline;
use wavetank::sim::{Scenario, campaign, page, picture};

use crate::Outcome;

/// The command line of `wavetank replay`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The scenario, as `wavetank sim` writes it: TOML with script, steps and faults.
    file: PathBuf,
    /// Also draws the timeline as SVG into this file.
    #[arg(long)]
    picture: Option<PathBuf>,
}

/// Runs the scenario without and with its faults, and shows both.
pub fn replay(arguments: &Arguments) -> Outcome {
    let name = arguments.file.display();
    let text = std::fs::read_to_string(&arguments.file)
        .map_err(|error| Error::analysis(format!("Cannot read {name}: {error}. Name a scenario.")))?;
    let scenario = Scenario::from_toml(&text)
        .map_err(|error| Error::analysis(format!("{name} is no scenario: {error}. `wavetank sim` writes them.")))?;
    let (baseline, run, failures) = campaign::check(&scenario, &Pipeline);
    println!("{}", page::text(&scenario, &run, &baseline, &failures, &format!("wavetank replay {name}")).trim_end());
    if let Some(path) = &arguments.picture {
        std::fs::write(path, picture::svg(&scenario, &run))
            .map_err(|error| Error::analysis(format!("Cannot write {}: {error}.", path.display())))?;
    }
    if failures.is_empty() { Ok(()) } else { Err(Error::internal(format!("{name} fails"))) }
}
