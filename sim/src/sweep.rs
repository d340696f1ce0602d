//! The exhaustive driver: one crash before and after each effect, in each crash image, and again inside the recovery.
//!
//! Which crash points exist is read off the trace of the undisturbed run, so a hundred per cent of them can be reached
//! and is; the recovery's points are read off the trace of each crashed run. Images that leave the same bytes on the
//! disk are one case: the first of them is run, the others count as reached with it. An effect that changes nothing (a
//! read) is worth one image: what survives is what the effect before it left.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::disk::CrashImage;
use crate::effects::{Effect, Outcome, kind_of};
use crate::fault::{Fault, Harm};
use crate::runner::{Failure, FailureKind, LifeEnd, Run, baseline_of, judge, run, run_with_images};
use crate::scenario::Scenario;
use crate::subject::Subject;

/// How thorough a sweep is.
#[derive(Clone, Debug)]
pub struct Depth {
    /// The crash images to try at effects that change something.
    pub images: Vec<CrashImage>,
    /// Of the crash points inside a recovery, every how many-th is tried; 0 for none.
    pub recovery_stride: usize,
    /// How many threads take crash points.
    pub jobs: usize,
}

impl Depth {
    /// Every image, no second crash.
    pub fn single() -> Self {
        let jobs = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
        Self { images: CrashImage::ALL.to_vec(), recovery_stride: 0, jobs }
    }

    /// Every image, and every crash point inside every recovery.
    pub fn twice() -> Self {
        Self { recovery_stride: 1, ..Self::single() }
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
        self.crashes_count += run.lives.iter().filter(|end| matches!(end, LifeEnd::Crashed { .. })).count();
        self.digest = twox_hash::XxHash64::oneshot(self.digest, &run.digest.to_le_bytes());
        if !failures.is_empty() {
            self.failures.push((scenario.clone(), failures));
        }
    }

    /// Adds what another sweep found.
    pub fn merge(&mut self, other: Sweep) {
        self.runs_count += other.runs_count;
        self.effects_count += other.effects_count;
        self.crashes_count += other.crashes_count;
        self.digest = twox_hash::XxHash64::oneshot(self.digest, &other.digest.to_le_bytes());
        self.failures.extend(other.failures);
        for (kind, point) in other.points {
            let sum = self.points.entry(kind).or_default();
            sum.exist += point.exist;
            sum.reached += point.reached;
        }
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

/// Sweeps a scenario. Its own faults stay in it; the sweep adds its crashes to them.
pub fn sweep(scenario: &Scenario, subject: &(dyn Subject + Sync), depth: &Depth) -> Sweep {
    let mut sweep = Sweep::default();
    let baseline = run(scenario, subject);
    let failures = judge(&baseline, &baseline);
    let sound = failures.is_empty();
    sweep.add(scenario, &baseline, failures);
    if !sound {
        return sweep; // there is nothing to compare with
    }
    let points: Vec<(&Effect, bool)> =
        baseline.trace.iter().flat_map(|effect| [(effect, true), (effect, false)]).collect();
    let calm = Mutex::new(BTreeMap::from([(Vec::new(), Arc::new(baseline.clone()))]));
    let sweeper = Sweeper { subject, calm, depth };
    let next = AtomicUsize::new(0);
    let parts = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for _ in 0..depth.jobs.max(1) {
            scope.spawn(|| {
                while let Some((effect, before)) = points.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let part = sweeper.point(scenario, effect, *before);
                    let key = (points_key(&baseline, effect), !before);
                    parts.lock().unwrap_or_else(PoisonError::into_inner).insert(key, part);
                }
            });
        }
    });
    // In the order of the trace, however many threads there were.
    parts.into_inner().unwrap_or_else(PoisonError::into_inner).into_values().for_each(|part| sweep.merge(part));
    sweep
}

fn points_key(baseline: &Run, effect: &Effect) -> usize {
    baseline.trace.iter().position(|other| std::ptr::eq(other, effect)).unwrap_or(0)
}

struct Sweeper<'a> {
    subject: &'a (dyn Subject + Sync),
    /// What to compare with, by interruptions.
    calm: Mutex<BTreeMap<Vec<Fault>, Arc<Run>>>,
    depth: &'a Depth,
}

impl Sweeper<'_> {
    /// The run to compare with: as undisturbed as this one allows.
    fn baseline(&self, scenario: &Scenario, crashed: &Run) -> Arc<Run> {
        let lock = || self.calm.lock().unwrap_or_else(PoisonError::into_inner);
        let known = lock().get(&crashed.interruptions).cloned();
        known.unwrap_or_else(|| {
            let calm = Arc::new(run(&baseline_of(scenario, crashed), self.subject));
            lock().insert(crashed.interruptions.clone(), Arc::clone(&calm));
            calm
        })
    }

    /// All images of one crash point.
    fn point(&self, scenario: &Scenario, effect: &Effect, before: bool) -> Sweep {
        let mut sweep = Sweep::default();
        let one = [CrashImage::Strict];
        let images = if effect.op.changes() { &self.depth.images[..] } else { &one[..] };
        let mut digests: BTreeMap<CrashImage, u64> = BTreeMap::new();
        let mut seen: BTreeSet<u64> = BTreeSet::new();
        for image in images {
            let known = digests.get(image);
            let reached = match known {
                Some(digest) if !seen.insert(*digest) => true,
                _ => {
                    let run = self.crash(&mut sweep, scenario, effect, before, *image);
                    if let Some(found) = run.images.get(&effect.life) {
                        digests.clone_from(found);
                        seen.extend(found.get(image));
                    }
                    died_at(&run, effect)
                }
            };
            let point = sweep.points.entry(kind_of(&effect.name)).or_default();
            point.exist += 1;
            point.reached += usize::from(reached);
        }
        sweep
    }

    /// One run with one more crash, and below it the runs that crash again while they recover from it.
    fn crash(&self, sweep: &mut Sweep, scenario: &Scenario, effect: &Effect, before: bool, image: CrashImage) -> Run {
        let harm = if before { Harm::CrashBefore { image } } else { Harm::CrashAfter { image } };
        let mut faults = scenario.faults.clone();
        faults.push(Fault { life: effect.life, at: effect.name.clone(), harm });
        let scenario = scenario.with_faults(faults);
        let crashed = run_with_images(&scenario, self.subject, &self.depth.images);
        let mut failures = judge(&crashed, &self.baseline(&scenario, &crashed));
        if !died_at(&crashed, effect) && failures.is_empty() {
            let text = format!("{} was not reached though the same run without the crash had it", effect.name);
            failures.push(Failure { kind: FailureKind::Determinism, text });
        }
        sweep.add(&scenario, &crashed, failures);
        if scenario.faults.len() < 2 && self.depth.recovery_stride > 0 {
            let recovery = crashed.trace.iter().filter(|e| e.life == effect.life + 1 && e.op.changes());
            for second in recovery.step_by(self.depth.recovery_stride) {
                // Before an effect is after the effect before it.
                sweep.merge(self.point(&scenario, second, false));
            }
        }
        crashed
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
    use super::*;
    use crate::mini::{Bug, Mini, scenario};

    fn small() -> Scenario {
        scenario(&[&["a", "b"], &["c"], &["a"]])
    }

    #[test]
    fn an_honest_engine_survives_every_crash_and_every_crash_in_its_recovery() {
        let depth = Depth { recovery_stride: 7, ..Depth::single() };
        let found = sweep(&small(), &Mini { bug: Bug::None }, &depth);
        assert!(found.failures.is_empty(), "{:?}", found.failures.first());
        let total = found.total();
        assert_eq!(total.exist, total.reached, "{found}");
        assert!(total.exist > 10_000 && found.crashes_count > 1000, "{found}");
        let again = sweep(&small(), &Mini { bug: Bug::None }, &Depth { jobs: 1, recovery_stride: 0, ..depth.clone() });
        let jobs = sweep(&small(), &Mini { bug: Bug::None }, &Depth { jobs: 3, recovery_stride: 0, ..depth });
        assert_eq!(again.digest, jobs.digest);
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
            let found = sweep(&scenario(&[&["a"]]), &Mini { bug }, &Depth::single());
            let kinds: BTreeSet<_> = found.failures.iter().flat_map(|(_, failures)| failures).map(|f| f.kind).collect();
            assert!(kinds.contains(&kind), "{bug:?}: {kinds:?}");
        }
    }
}
