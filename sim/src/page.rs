//! A failure on one page: the scenario, what happened in order, the batches, and what was expected and got.
//!
//! [`text`] is for a terminal and for a file beside the scenario; [`picture`](crate::picture) draws the same timeline.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use serde_json::Value;

use crate::clock::EPOCH_US;
use crate::effects::{Effect, Outcome};
use crate::observe::{Observed, Seen};
use crate::runner::{Failure, LifeEnd, Run};
use crate::scenario::{Scenario, Step};

/// More rows than this of one step or batch are counted, not shown.
const ROWS_SHOWN: usize = 12;

/// The page of a run. `replay` is the command that shows it again.
pub fn text(scenario: &Scenario, run: &Run, baseline: &Run, failures: &[Failure], replay: &str) -> String {
    let mut page = String::new();
    // Writing into a String cannot fail.
    let _ = write_page(&mut page, scenario, run, baseline, failures, replay);
    page
}

fn write_page(
    page: &mut String,
    scenario: &Scenario,
    run: &Run,
    baseline: &Run,
    failures: &[Failure],
    replay: &str,
) -> std::fmt::Result {
    for failure in failures {
        writeln!(page, "✗ {failure}")?;
    }
    if failures.is_empty() {
        writeln!(page, "✓ nothing is wrong with this run")?;
    }
    writeln!(page, "  replay: {replay}")?;
    writeln!(
        page,
        "  seed {}, {} steps, {} rows, {} faults, {} lives, {} effects, {} of virtual time",
        scenario.seed,
        scenario.steps.len(),
        scenario.rows_count(),
        scenario.faults.len(),
        run.lives.len(),
        run.trace.len(),
        duration(run.virtual_us),
    )?;
    write_scenario(page, scenario)?;
    write_timeline(page, scenario, run)?;
    write_batches(page, &run.observed)?;
    write_difference(page, &baseline.observed, &run.observed)
}

fn write_scenario(page: &mut String, scenario: &Scenario) -> std::fmt::Result {
    writeln!(page, "\nSCENARIO {}", scenario.about)?;
    write_script(page, "  ", &scenario.script)?;
    for (life, settings) in &scenario.settings {
        for (key, value) in settings {
            writeln!(page, "  from life {life}: SET {key} = {value}")?;
        }
    }
    for (at, step) in scenario.steps.iter().enumerate() {
        writeln!(page, "  step {at:<3} {step}")?;
        if let Step::Redeploy { script } = step {
            write_script(page, "           ", script)?;
        }
        let rows = step.rows().unwrap_or_default();
        for row in rows.iter().take(ROWS_SHOWN) {
            writeln!(page, "           {row}")?;
        }
        if rows.len() > ROWS_SHOWN {
            writeln!(page, "           ... {} more", rows.len() - ROWS_SHOWN)?;
        }
    }
    for fault in &scenario.faults {
        writeln!(page, "  fault    {fault}")?;
    }
    Ok(())
}

fn write_script(page: &mut String, indent: &str, script: &str) -> std::fmt::Result {
    let mut lines = script.lines().filter(|line| !line.trim().is_empty());
    lines.try_for_each(|line| writeln!(page, "{indent}{line}"))
}

/// Effects in order, those of one file on one line; what only looks is counted.
fn write_timeline(page: &mut String, scenario: &Scenario, run: &Run) -> std::fmt::Result {
    writeln!(page, "\nTIMELINE (seconds of virtual time since the world began)")?;
    let mut steps = run.steps.iter().peekable();
    for (life, end) in (0_u32..).zip(&run.lives) {
        writeln!(page, "  life {life}")?;
        let effects: Vec<&Effect> = run.trace.iter().filter(|effect| effect.life == life).collect();
        let faults: BTreeSet<&str> =
            run.fired.iter().filter(|(at, _)| *at == life).map(|(_, name)| name.as_str()).collect();
        for group in effects.chunk_by(|a, b| same_line(a, b, &faults)) {
            while let Some((at_us, _, step)) = steps.next_if(|step| step.1 == life && step.0 <= group[0].at_us) {
                writeln!(page, "  {:>11}  ── step {step}: {}", seconds(*at_us), scenario.steps[*step])?;
            }
            write_group(page, group, &faults)?;
        }
        while let Some((at_us, _, step)) = steps.next_if(|step| step.1 == life) {
            writeln!(page, "  {:>11}  ── step {step}: {}", seconds(*at_us), scenario.steps[*step])?;
        }
        match end {
            LifeEnd::Done => writeln!(page, "               all steps are done, the query was stopped")?,
            LifeEnd::Restarted => writeln!(page, "               the query was stopped, to be started again")?,
            LifeEnd::Crashed { at, image } => writeln!(page, "  ✗✗✗✗✗✗✗✗✗✗✗  died at {at}; the disk keeps: {image}")?,
            LifeEnd::Error(error) => writeln!(page, "  ✗            ended with: {error}")?,
            LifeEnd::GivenUp(why) => writeln!(page, "  ✗            given up: {why}")?,
        }
    }
    Ok(())
}

fn subject(effect: &Effect) -> &str {
    let name = effect.name.rsplit_once(' ').map_or("", |(subject, _)| subject);
    name.strip_suffix(".tmp").unwrap_or(name)
}

fn same_line(a: &Effect, b: &Effect, faults: &BTreeSet<&str>) -> bool {
    let plain = |effect: &Effect| effect.outcome == Outcome::Done && !faults.contains(effect.name.as_str());
    let looks = |effect: &Effect| !effect.op.changes() && plain(effect);
    a.at_us == b.at_us && ((looks(a) && looks(b)) || (subject(a) == subject(b) && plain(a) && plain(b)))
}

fn write_group(page: &mut String, group: &[&Effect], faults: &BTreeSet<&str>) -> std::fmt::Result {
    let first = group[0];
    let when = seconds(first.at_us);
    if group.iter().all(|effect| !effect.op.changes()) && group.len() > 1 {
        return writeln!(page, "  {when:>11}  looks {} times, last at {}", group.len(), group[group.len() - 1].name);
    }
    let calls: Vec<String> = group
        .iter()
        .map(|effect| {
            let outcome = match effect.outcome {
                Outcome::Done => String::new(),
                Outcome::Refused(kind) => format!(" ({kind})"),
                Outcome::DiedBefore => " ✗ died before it".to_owned(),
                Outcome::DiedAfter => " ✗ died after it".to_owned(),
            };
            let fault = if faults.contains(effect.name.as_str()) && outcome.is_empty() { " (fault)" } else { "" };
            format!("{}{outcome}{fault}", effect.op.as_str())
        })
        .collect();
    writeln!(page, "  {when:>11}  {} {}", subject(first), calls.join(", "))
}

/// What each batch was promised, and how many rows of it sinks hold.
fn write_batches(page: &mut String, observed: &Observed) -> std::fmt::Result {
    for (root, logs) in &observed.logs {
        writeln!(page, "\nBATCHES of {root}")?;
        for (batch_id, text) in &logs.offsets {
            let lines: Vec<&str> = text.lines().collect();
            let metadata: Value = lines.get(1).and_then(|line| serde_json::from_str(line).ok()).unwrap_or_default();
            let watermark = metadata["batchWatermarkMs"].as_i64().map_or("?".to_owned(), |ms| ms.to_string());
            let ranges = lines.get(2..).unwrap_or_default().join("  ");
            let done = if logs.commits.contains_key(batch_id) { "done" } else { "not done" };
            writeln!(page, "  {batch_id:>4}  watermark {watermark} ms  up to {ranges}  {done}")?;
        }
    }
    Ok(())
}

/// Expected and got, at the first batch of each sink where they differ.
fn write_difference(page: &mut String, expected: &Observed, got: &Observed) -> std::fmt::Result {
    let names: BTreeSet<&String> = expected.sinks.keys().chain(got.sinks.keys()).collect();
    for name in names {
        let none = Seen::default();
        let (expected, got) = (expected.sinks.get(name).unwrap_or(&none), got.sinks.get(name).unwrap_or(&none));
        for complaint in &got.complaints {
            writeln!(page, "\nSINK {name}: {complaint}")?;
        }
        let ids: BTreeSet<&u64> = expected.batches.keys().chain(got.batches.keys()).collect();
        let Some(first) = ids.into_iter().find(|id| expected.batches.get(id) != got.batches.get(id)) else { continue };
        writeln!(page, "\nSINK {name}, batch {first}: - expected only, + got only")?;
        let mut counts: BTreeMap<&str, i64> = BTreeMap::new();
        expected.batches.get(first).into_iter().flatten().for_each(|row| *counts.entry(row).or_default() += 1);
        got.batches.get(first).into_iter().flatten().for_each(|row| *counts.entry(row).or_default() -= 1);
        for (row, count) in counts.iter().filter(|(_, count)| **count != 0).take(2 * ROWS_SHOWN) {
            writeln!(page, "  {} {row}", if *count > 0 { "-" } else { "+" }.repeat(count.unsigned_abs() as usize))?;
        }
    }
    Ok(())
}

fn seconds(at_us: i64) -> String {
    format!("{:.6}", (at_us - EPOCH_US) as f64 / 1e6)
}

fn duration(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} us"),
        1_000..1_000_000 => format!("{:.1} ms", us as f64 / 1e3),
        _ => format!("{:.1} s", us as f64 / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::CrashImage;
    use crate::fault::{Fault, Harm};
    use crate::judge::judge;
    use crate::mini::{Bug, Mini, scenario};
    use crate::runner::run;

    #[test]
    fn the_page_shows_scenario_timeline_crash_and_difference() {
        let subject = Mini { bug: Bug::PromiseIsDone };
        let scenario = scenario(&[&["a"], &["b"]]);
        let baseline = run(&scenario, &subject);
        let last = baseline.trace.iter().rfind(|e| e.name.starts_with("checkpoint/offsets fsync-dir")).unwrap();
        let harm = Harm::CrashAfter { image: CrashImage::Kill };
        let scenario = scenario.with_faults([Fault { life: 0, at: last.name.clone(), harm }]);
        let crashed = run(&scenario, &subject);
        let failures = judge(&crashed, &baseline);
        let page = text(&scenario, &crashed, &baseline, &failures, "wavetank replay x.toml");
        for part in [
            "✗ Rows: out: lost [\"{\\\"v\\\":\\\"b\\\"}\"]",
            "replay: wavetank replay x.toml",
            "step 2   1 rows on tape events",
            "fault    life 0: crash after (kill) at checkpoint/offsets fsync-dir",
            "checkpoint/offsets/0 unlink (entity not found)",
            "write, fsync, link, unlink",
            "✗ died after it",
            "life 1",
            "SINK out, batch 1: - expected only, + got only\n  - {\"v\":\"b\"}",
        ] {
            assert!(page.contains(part), "{part} is not on\n{page}");
        }
    }
}
