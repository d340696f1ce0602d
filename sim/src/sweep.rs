//! The exhaustive driver: one crash before and after each effect, in each crash image, and again inside the recovery.
//!
//! Which crash points exist is read off the trace of the undisturbed run, so a hundred per cent of them can be reached
//! and is; the recovery's points are read off the trace of each crashed run. An effect that changes nothing (a read)
//! is worth one image only: what survives is what the effect before it left.

use std::collections::BTreeMap;
use std::fmt;

use crate::disk::CrashImage;
use crate::effects::{Effect, Outcome, kind_of};
use crate::fault::{Fault, Harm};
use crate::runner::{Failure, FailureKind, Run, judge, run};
use crate::scenario::Scenario;
use crate::subject::Subject;

/// How thorough a sweep is.
#[derive(Clone, Debug)]
pub struct Depth {
    /// The crash images to try at effects that change something.
    pub images: Vec<CrashImage>,
    /// Of the crash points inside a recovery, every how many-th is tried; 0 for none.
    pub recovery_stride: usize,
}

impl Depth {
    /// Every image, no second crash.
    pub fn single() -> Self {
        Self { images: CrashImage::ALL.to_vec(), recovery_stride: 0 }
    }

    /// Every image, and every crash point inside every recovery.
    pub fn twice() -> Self {
        Self { images: CrashImage::ALL.to_vec(), recovery_stride: 1 }
    }
}

/// What a sweep found.
#[derive(Clone, Debug, Default)]
pub struct Sweep {
    /// How many runs it took.
    pub runs_count: usize,
    /// How many lives ended in a crash.
    pub crashes_count: usize,
    /// How many effects there were in all runs.
    pub effects_count: usize,
    /// Crash points by kind of effect name: how many (name, before or after, image) exist, and how many were reached.
    pub points: BTreeMap<String, Reached>,
    /// The failures, each with the scenario that shows it.
    pub failures: Vec<(Scenario, Vec<Failure>)>,
    /// One number for all runs: two sweeps of one scenario must have the same.
    pub digest: u64,
}

/// How many there are, and how many of them were reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reached {
    /// How many crash points exist.
    pub exist: usize,
    /// At how many the process died.
    pub reached: usize,
}

impl Sweep {
    /// All crash points together.
    pub fn total(&self) -> Reached {
        self.points.values().fold(Reached::default(), |sum, point| Reached {
            exist: sum.exist + point.exist,
            reached: sum.reached + point.reached,
        })
    }

    fn add(&mut self, scenario: &Scenario, run: &Run, failures: Vec<Failure>) {
        self.runs_count += 1;
        self.effects_count += run.trace.len();
        self.crashes_count +=
            run.lives.iter().filter(|end| matches!(end, crate::runner::LifeEnd::Crashed { .. })).count();
        self.digest = twox_hash::XxHash64::oneshot(self.digest, &run.digest.to_le_bytes());
        if !failures.is_empty() {
            self.failures.push((scenario.clone(), failures));
        }
    }

    fn reach(&mut self, effect: &Effect, reached: bool) {
        let point = self.points.entry(kind_of(&effect.name)).or_default();
        point.exist += 1;
        point.reached += usize::from(reached);
    }
}

impl fmt::Display for Sweep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total = self.total();
        let percent = |point: &Reached| 100.0 * point.reached as f64 / point.exist.max(1) as f64;
        for (kind, point) in &self.points {
            writeln!(f, "{:>7.1} %  {:>6} of {:>6}  {kind}", percent(point), point.reached, point.exist)?;
        }
        writeln!(f, "{:>7.1} %  {:>6} of {:>6}  all crash points", percent(&total), total.reached, total.exist)?;
        write!(
            f,
            "{} runs, {} crashes, {} effects, {} failures",
            self.runs_count,
            self.crashes_count,
            self.effects_count,
            self.failures.len()
        )
    }
}

/// The crashes that can happen at an effect.
fn crashes_at(effect: &Effect, images: &[CrashImage]) -> Vec<Fault> {
    let one = [CrashImage::Strict];
    let images = if effect.op.changes() { images } else { &one[..] };
    let fault = |harm| Fault { life: effect.life, at: effect.name.clone(), harm };
    images
        .iter()
        .flat_map(|image| [Harm::CrashBefore { image: *image }, Harm::CrashAfter { image: *image }])
        .map(fault)
        .collect()
}

/// Sweeps a scenario. Its own faults stay in it; the sweep adds its crashes to them.
pub fn sweep(scenario: &Scenario, subject: &dyn Subject, depth: &Depth) -> Sweep {
    let mut sweep = Sweep::default();
    let baseline = run(scenario, subject);
    let failures = judge(&baseline, &baseline);
    let sound = failures.is_empty();
    sweep.add(scenario, &baseline, failures);
    if !sound {
        return sweep; // there is nothing to compare with
    }
    for effect in &baseline.trace {
        for fault in crashes_at(effect, &depth.images) {
            let mut faults = scenario.faults.clone();
            faults.push(fault);
            crash(&mut sweep, &scenario.with_faults(faults), subject, &baseline, effect, depth);
        }
    }
    sweep
}

/// One run with a crash at `effect`, and below it the runs that crash again while they recover from it.
fn crash(
    sweep: &mut Sweep,
    scenario: &Scenario,
    subject: &dyn Subject,
    baseline: &Run,
    effect: &Effect,
    depth: &Depth,
) {
    let crashed = run(scenario, subject);
    let mut failures = judge(&crashed, baseline);
    let reached = died_at(&crashed, effect);
    sweep.reach(effect, reached);
    if !reached && failures.is_empty() {
        let text = format!("{} was not reached though the same run without the crash had it", effect.name);
        failures.push(Failure { kind: FailureKind::Determinism, text });
    }
    sweep.add(scenario, &crashed, failures);
    let may_crash_again = scenario.faults.len() < 2 && depth.recovery_stride > 0;
    if !may_crash_again {
        return;
    }
    let recovery = crashed.trace.iter().filter(|e| e.life == effect.life + 1 && e.op.changes());
    for second in recovery.step_by(depth.recovery_stride) {
        // Before an effect is after the effect before it; one harm and the image of the first crash are enough.
        let image = scenario.faults.last().and_then(|fault| fault.harm.crash_image()).unwrap_or(CrashImage::Strict);
        let mut faults = scenario.faults.clone();
        faults.push(Fault { life: second.life, at: second.name.clone(), harm: Harm::CrashAfter { image } });
        crash(sweep, &scenario.with_faults(faults), subject, baseline, second, depth);
    }
}

fn died_at(run: &Run, effect: &Effect) -> bool {
    run.trace.iter().any(|line| {
        line.life == effect.life
            && line.name == effect.name
            && matches!(line.outcome, Outcome::DiedBefore | Outcome::DiedAfter)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::mini::{Bug, Mini, scenario};

    fn small() -> Scenario {
        scenario(&[&["a", "b"], &["c"], &["a"]])
    }

    #[test]
    fn an_honest_engine_survives_every_crash_and_every_crash_in_its_recovery() {
        let found = sweep(&small(), &Mini { bug: Bug::None }, &Depth { recovery_stride: 83, ..Depth::single() });
        assert!(found.failures.is_empty(), "{:?}", found.failures.first());
        let total = found.total();
        assert_eq!(total.exist, total.reached, "{found}");
        assert!(found.crashes_count > 1000, "{found}");
    }

    #[test]
    fn every_planted_bug_of_the_protocol_is_found() {
        for (bug, kind) in [
            (Bug::DoneBeforeSink, FailureKind::Rows),
            (Bug::PromiseIsDone, FailureKind::Rows),
            (Bug::ReleaseBeforeSink, FailureKind::Rows),
            (Bug::OtherRows, FailureKind::Torn),
            (Bug::Hangs, FailureKind::Liveness),
            (Bug::Panics, FailureKind::Panic),
        ] {
            let depth = Depth { images: vec![CrashImage::Kill], recovery_stride: 0 };
            let found = sweep(&scenario(&[&["a"]]), &Mini { bug }, &depth);
            let kinds: BTreeSet<_> = found.failures.iter().flat_map(|(_, failures)| failures).map(|f| f.kind).collect();
            assert!(kinds.contains(&kind), "{bug:?}: {kinds:?}");
        }
    }
}
