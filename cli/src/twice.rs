//! `wavetank sim --check-determinism`: the same seeds in another process must have the same effects and the same bytes.

use std::process::Command;

use wavetank::Error;
use wavetank::sim::campaign::{Campaign, Report};

use crate::Outcome;
use crate::sim::{Arguments, cannot_write};

/// Runs the campaign again in another process and compares, seed by seed; shows the first effect that differs.
pub fn check(arguments: &Arguments, campaign: &Campaign<'_>, here: &Report) -> Outcome {
    let path = std::env::temp_dir().join(format!("wavetank-twice-{}.json", std::process::id()));
    let range = format!("{}..{}", arguments.seeds.start, arguments.seeds.end);
    let (jobs, report) = (arguments.jobs.to_string(), path.display().to_string());
    again(
        arguments,
        &["--seeds", &range, "--jobs", &jobs, "--shrink", "0", "--report", &report, "--out", &format!("{report}.out")],
    )?;
    let there = std::fs::read_to_string(&path).map_err(|error| cannot_write(&path, &error))?;
    std::fs::remove_file(&path).map_err(|error| cannot_write(&path, &error))?;
    // Failures may have been shrunk here; the digests are of the seeds themselves.
    let digests = |text: &str| text.split_once("\"digests\"").map(|(_, digests)| digests.to_owned());
    if digests(&there).is_some() && digests(&there) == digests(&here.to_json()) {
        println!("another process had the same effects and bytes for all {} seeds", here.digests.len());
        return Ok(());
    }
    for seed in arguments.seeds.clone() {
        let there = again(arguments, &["--seed", &seed.to_string(), "--trace"])?;
        let here = campaign.trace(seed).join("\n");
        if let Some((at, (a, b))) = here.lines().zip(there.lines()).enumerate().find(|(_, (a, b))| a != b) {
            return Err(Error::internal(format!(
                "seed {seed}: effect {at} differs between two processes (life, virtual time in us, name, outcome, digest): \
                 '{a}' and '{b}'"
            )));
        }
    }
    Err(Error::internal("two processes stored different bytes, with the same effects"))
}

fn again(arguments: &Arguments, more: &[&str]) -> wavetank::Result<String> {
    let program = std::env::current_exe().map_err(|error| Error::internal(error.to_string()))?;
    let output = Command::new(program).arg("sim").args(&arguments.file).args(more).output();
    let output = output.map_err(|error| Error::internal(format!("cannot start another process: {error}")))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
