//! `wavetank sim --exhaust`: small scenarios, crashed before and after every effect, in every crash image.

use std::time::Instant;

use wavetank::Error;
use wavetank::sim::exhaust::scenarios;
use wavetank::sim::pipeline::Pipeline;
use wavetank::sim::sweep::{Depth, Sweep, sweep};

use crate::Outcome;

/// Sweeps all scenarios; says how many crash points there are and how many were reached, by kind of effect.
pub fn exhaust(jobs: usize, recoveries: usize) -> Outcome {
    let mut all = Sweep::default();
    let begun = Instant::now();
    for (name, scenario) in scenarios() {
        let since = Instant::now();
        let found = sweep(&scenario, &Pipeline, &Depth { jobs, recovery_stride: recoveries, ..Depth::single() });
        let total = found.total();
        println!(
            "{:>7.1} s  {} of {} crash points, {} runs, {} failures  {name}",
            since.elapsed().as_secs_f64(),
            total.reached,
            total.exist,
            found.runs_count,
            found.failures.len()
        );
        all.merge(found);
    }
    println!("\n{all} in {:.1} s", begun.elapsed().as_secs_f64());
    for (scenario, failures) in all.failures.iter().take(3) {
        let text: Vec<String> = failures.iter().map(ToString::to_string).collect();
        println!("\n{}\n{}", text.join("\n"), scenario.to_toml());
    }
    match all.failures.len() {
        0 => Ok(()),
        count => Err(Error::internal(format!("{count} crashes were not survived"))),
    }
}
