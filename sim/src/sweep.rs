//! The exhaustive driver: one crash before and after each effect, in each crash image, and again inside the recovery.
//!
//! Which crash points exist is read off the trace of the undisturbed run, so a hundred per cent of them can be reached
//! and is; the recovery's points are read off the trace of each crashed run. Points and images that leave the same to
//! the next life (bytes on the disk, rows outside, steps to do) are one case: the first of them is run, the others count
//! as reached with it. An effect that changes nothing (a read) is worth one image. A scenario whose batches depend on the
//! clock or on how often it starts is judged by the model alone, and its points are the same only at the same time.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::disk::CrashImage;
use crate::effects::{Outcome, kind_of};
use crate::fault::{Fault, Harm};
use crate::judge::{baseline_of, judge};
use crate::oracle::Judged;
use crate::runner::{Failure, FailureKind, LifeEnd, Run, run, run_probed};
use crate::scenario::Scenario;
use crate::subject::Subject;

/// How thorough a sweep is.
#[derive(Clone, Debug)]
pub struct Depth {
    /// The crash images to try at effects that change something.
    pub images: Vec<CrashImage>,
    /// Of the effects of the undisturbed run, every how many-th is a crash point; 1 for all.
    pub stride: usize,
    /// Of the crash points inside a recovery, every how many-th is tried; 0 for none.
    pub recovery_stride: usize,
    /// How many threads take crash points.
    pub jobs: usize,
    /// Whether the first failure ends it; what was under way then is still counted.
    pub stop_at_failure: bool,
}

impl Depth {
    /// Every image, no second crash.
    pub fn single() -> Self {
        let jobs = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
        Self { images: CrashImage::ALL.to_vec(), stride: 1, recovery_stride: 0, jobs, stop_at_failure: false }
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
    let baseline = run_probed(scenario, subject, &depth.images);
    let mut failures = judge(&baseline, &baseline);
    failures.extend(said_by_model(scenario, &baseline, subject));
    let sound = failures.is_empty();
    sweep.add(scenario, &baseline, failures);
    if !sound {
        return sweep; // there is nothing to compare with
    }
    let calm = Mutex::new(BTreeMap::from([(Vec::new(), Arc::new(baseline.clone()))]));
    let sweeper = Sweeper { subject, calm, depth };
    let mut seen = BTreeSet::new();
    let first = sweep.cases(scenario, &baseline, None, depth.stride, &mut seen);
    let crashed = sweeper.run_all(&mut sweep, first, depth.recovery_stride > 0);
    let mut again = Vec::new();
    for (scenario, run) in crashed {
        let life = scenario.faults.last().map(|fault| fault.life + 1);
        again.extend(sweep.cases(&scenario, &run, life, depth.recovery_stride, &mut seen));
    }
    if !sweeper.has_enough(&sweep) {
        sweeper.run_all(&mut sweep, again, false);
    }
    sweep
}

impl Sweep {
    /// The runs that reach all crash points of a run (of one life of it): of those that leave the same behind, one.
    fn cases(
        &mut self,
        scenario: &Scenario,
        run: &Run,
        life: Option<u32>,
        stride: usize,
        seen: &mut BTreeSet<u64>,
    ) -> Vec<Scenario> {
        let changes: BTreeSet<(u32, &str)> =
            run.trace.iter().filter(|e| e.op.changes()).map(|e| (e.life, e.name.as_str())).collect();
        let mut cases = Vec::new();
        let chosen = run.points.iter().filter(|point| life.is_none_or(|life| point.life == life));
        for (at, point) in chosen.enumerate() {
            // Two points for each effect: strides count effects.
            if (at / 2) % stride.max(1) != 0 {
                continue;
            }
            let all = changes.contains(&(point.life, point.name.as_str()));
            let tried = point.left.iter().filter(|(image, _)| all || *image == CrashImage::Strict);
            for (image, left) in tried {
                let count = self.points.entry(kind_of(&point.name)).or_default();
                count.exist += 1;
                if !seen.insert(*left) {
                    count.reached += 1; // by another way to the same end
                    continue;
                }
                let image = *image;
                let harm = if point.before { Harm::CrashBefore { image } } else { Harm::CrashAfter { image } };
                let mut faults = scenario.faults.clone();
                faults.push(Fault { life: point.life, at: point.name.clone(), harm });
                cases.push(scenario.with_faults(faults));
            }
        }
        cases
    }
}

struct Sweeper<'a> {
    subject: &'a (dyn Subject + Sync),
    /// What to compare with, by interruptions.
    calm: Mutex<BTreeMap<Vec<Fault>, Arc<Run>>>,
    depth: &'a Depth,
}

impl Sweeper<'_> {
    /// Runs the cases on all threads; the result is the same however many there are. Answers the runs if asked to.
    fn run_all(&self, sweep: &mut Sweep, cases: Vec<Scenario>, keep: bool) -> Vec<(Scenario, Run)> {
        let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
        let done = Mutex::new(BTreeMap::new());
        std::thread::scope(|scope| {
            for _ in 0..self.depth.jobs.max(1) {
                scope.spawn(|| {
                    loop {
                        let at = next.fetch_add(1, Ordering::Relaxed);
                        let Some(case) = cases.get(at) else { return };
                        if self.depth.stop_at_failure && failed.load(Ordering::Relaxed) {
                            return;
                        }
                        let (mut part, run) = self.crash(case, keep);
                        failed.fetch_or(!part.failures.is_empty(), Ordering::Relaxed);
                        part.digest = run.digest;
                        let run = keep.then_some(run);
                        done.lock().unwrap_or_else(PoisonError::into_inner).insert(at, (part, run));
                    }
                });
            }
        });
        let done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut kept = Vec::new();
        for (at, (part, run)) in done {
            sweep.merge(part);
            kept.extend(run.map(|run| (cases[at].clone(), run)));
        }
        kept
    }

    fn has_enough(&self, sweep: &Sweep) -> bool {
        self.depth.stop_at_failure && !sweep.failures.is_empty()
    }

    /// One run that dies where its last fault says.
    fn crash(&self, scenario: &Scenario, probed: bool) -> (Sweep, Run) {
        let images = if probed { &self.depth.images[..] } else { &[] };
        let crashed = match probed {
            true => run_probed(scenario, self.subject, images),
            false => run(scenario, self.subject),
        };
        let mut failures = match scenario.is_repeatable() {
            true => judge(&crashed, &self.baseline(scenario, &crashed)),
            false => judge(&crashed, &crashed),
        };
        failures.extend(said_by_model(scenario, &crashed, self.subject));
        let mut part = Sweep::default();
        if let Some(fault) = scenario.faults.last() {
            let reached = died_at(&crashed, fault);
            let name = kind_of(&fault.at);
            part.points.insert(name, Reached { exist: 0, reached: usize::from(reached) });
            if !reached && failures.is_empty() {
                let text = format!("{} was not reached though the same run without the crash had it", fault.at);
                failures.push(Failure { kind: FailureKind::Determinism, text });
            }
        }
        part.add(scenario, &crashed, failures);
        (part, crashed)
    }

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
}

fn said_by_model(scenario: &Scenario, run: &Run, subject: &dyn Subject) -> Vec<Failure> {
    match subject.oracle(scenario, run) {
        Judged::Followed(failures) if run.failures.is_empty() => failures,
        Judged::Beyond(why) if !scenario.is_repeatable() => {
            // There is no other run to compare it with.
            vec![Failure { kind: FailureKind::Model, text: format!("nobody can judge this run: {why}") }]
        }
        _ => Vec::new(),
    }
}

fn died_at(run: &Run, fault: &Fault) -> bool {
    run.trace.iter().any(|line| {
        line.life == fault.life
            && line.name == fault.at
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
        assert!(total.exist > 3_000 && found.crashes_count > 300, "{found}");
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
