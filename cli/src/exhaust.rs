//! `wavetank sim --exhaust`: small scenarios, crashed before and after every effect, in every crash image; with
//! `--barriers` once more without each sync and each order of the protocol.

use std::time::Instant;

use wavetank::Error;
use wavetank::sim::barriers::{self, Findings};
use wavetank::sim::exhaust::scenarios;
use wavetank::sim::pipeline::Pipeline;
use wavetank::sim::sweep::{Depth, Sweep, sweep};

use crate::Outcome;

/// Sweeps all scenarios; says how many crash points there are and how many were reached, by kind of effect.
pub fn exhaust(jobs: usize, recoveries: usize, part: &str) -> Outcome {
    let mut all = Sweep::default();
    let begun = Instant::now();
    for (name, scenario) in scenarios().into_iter().filter(|(name, _)| name.contains(part)) {
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

/// Takes every barrier whose name has this part away in turn; prints what shows it (`sim/tests/barriers.toml`).
pub fn barriers(jobs: usize, part: &str) -> Outcome {
    let mut findings = Findings::default();
    let begun = Instant::now();
    for (plant, scenarios) in barriers::barriers() {
        if !plant.to_string().contains(part) {
            continue;
        }
        let since = Instant::now();
        let found = barriers::find(&plant, &scenarios, jobs);
        let shown = found.scenario.as_deref().unwrap_or("no crash");
        eprintln!("{:>7.1} s  {plant}: shown by {shown}", since.elapsed().as_secs_f64());
        findings.barrier.push(found);
    }
    eprintln!("{} barriers in {:.1} s", findings.barrier.len(), begun.elapsed().as_secs_f64());
    println!("{}", findings.to_toml());
    Ok(())
}
