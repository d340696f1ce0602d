//! Many seeds: each draws a scenario, runs it with and without faults, and compares. Failures are shrunk and written.
//!
//! ```text
//! seed ─► draw scenario ─► undisturbed run ─► draw faults from its trace ─► run ─► judge ─► fails? shrink, page
//!                              └─► the model agrees? (oracle)                └─► crash points, marks: what was reached
//! ```
//! Seeds are independent: jobs take the next one each, and the report does not depend on how many jobs there are.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde::Serialize;

use crate::blob::SimBlob;
use crate::draw;
use crate::effects::{Effect, Op, Outcome, kind_of};
use crate::judge::{baseline_of, judge};
use crate::oracle::Judged;
use crate::page;
use crate::runner::{Failure, LifeEnd, Run, run};
use crate::scenario::{Scenario, Step};
use crate::shrink::shrink;
use crate::subject::Subject;

/// What a campaign runs.
pub struct Campaign<'a> {
    /// The seeds.
    pub seeds: Range<u64>,
    /// How many threads take seeds.
    pub jobs: usize,
    /// How many runs may be spent on making one failure small; 0 leaves failures as they were drawn.
    pub shrink_tries: usize,
    /// Draws the scenario of a seed, without faults.
    pub scenario: &'a (dyn Fn(u64) -> Scenario + Sync),
    /// Whether it ends with the first failure; with several jobs, seeds that have begun are still done.
    pub stop_at_failure: bool,
    /// What lives in the worlds.
    pub subject: &'a (dyn Subject + Sync),
    /// Told after each seed. Answers whether to go on; seeds that have begun are still done, and the report is of those
    /// that were.
    pub progress: &'a (dyn Fn(SeedDone<'_>) -> bool + Sync),
}

/// A seed of a campaign is done.
pub struct SeedDone<'a> {
    /// How far the campaign is.
    pub progress: &'a Progress,
    /// Which marks were not reached yet.
    pub missing: &'a [&'a str],
    /// The failure, if it failed.
    pub found: Option<&'a Found>,
}

/// How far a campaign is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Progress {
    /// Seeds that are done.
    pub seeds_count: u64,
    /// Runs with faults and without.
    pub runs_count: u64,
    /// Lives that ended in a crash.
    pub crashes_count: u64,
    /// Batches that were committed, in all runs.
    pub batches_count: u64,
    /// Effects, in all runs.
    pub effects_count: u64,
    /// Seeds that failed.
    pub failures_count: u64,
}

/// A seed that failed.
#[derive(Clone, Debug, Serialize)]
pub struct Found {
    /// The seed.
    pub seed: u64,
    /// What was wrong, of the shrunk scenario.
    pub failures: Vec<String>,
    /// The smallest scenario that shows it, as TOML.
    pub scenario: String,
    /// The page.
    #[serde(skip)]
    pub page: String,
    /// The picture.
    #[serde(skip)]
    pub picture: String,
}

/// What a campaign found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// The numbers.
    pub progress: Progress,
    /// The failures, by seed.
    pub failures: Vec<Found>,
    /// How often each kind of effect was seen, and how often a process died at it: `[seen, died]`.
    pub reached: BTreeMap<String, [u64; 2]>,
    /// Things that should happen sometimes, and how often they did.
    pub marks: BTreeMap<String, u64>,
    /// By seed, a digest of both runs: two campaigns over the same seeds must agree.
    pub digests: BTreeMap<u64, u64>,
}

/// What one seed came to.
struct SeedRun {
    baseline: Run,
    disturbed: Run,
    found: Option<Found>,
    modelled: bool,
    /// Whether the query was changed between two runs.
    redeployed: bool,
}

/// What is wrong with a run, and who said so.
struct Verdict {
    failures: Vec<Failure>,
    /// Whether the reference model could follow.
    modelled: bool,
}

impl Campaign<'_> {
    /// Runs it.
    pub fn run(&self) -> Report {
        let (next, enough) = (AtomicU64::new(self.seeds.start), AtomicBool::new(false));
        let report = Mutex::new(Report { marks: no_marks(), ..Report::default() });
        std::thread::scope(|scope| {
            for _ in 0..self.jobs.max(1) {
                scope.spawn(|| {
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= self.seeds.end || enough.load(Ordering::Relaxed) {
                            return;
                        }
                        let done = self.seed(seed);
                        enough.fetch_or(self.stop_at_failure && done.found.is_some(), Ordering::Relaxed);
                        let mut report = report.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                        report.add(seed, done);
                        let found = report.failures.last().filter(|found| found.seed == seed);
                        let missing: Vec<&str> = report.missing();
                        let goes_on =
                            (self.progress)(SeedDone { progress: &report.progress, missing: &missing, found });
                        enough.fetch_or(!goes_on, Ordering::Relaxed);
                    }
                });
            }
        });
        let mut report = report.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        report.failures.sort_by_key(|found| found.seed);
        report
    }

    fn seed(&self, seed: u64) -> SeedRun {
        let scenario = (self.scenario)(seed);
        let redeployed = scenario.steps.iter().any(|step| matches!(step, Step::Redeploy { .. }));
        let baseline = run(&scenario, self.subject);
        let verdict = judge_alone(&scenario, &baseline, self.subject);
        if !verdict.failures.is_empty() {
            let found = Some(self.failed(seed, &scenario, &verdict.failures));
            return SeedRun { disturbed: baseline.clone(), baseline, found, modelled: true, redeployed };
        }
        let scenario = scenario.with_faults(draw::faults(seed, &baseline.trace));
        let disturbed = run(&scenario, self.subject);
        let verdict = judge_against(&scenario, &disturbed, &baseline, self.subject);
        let found = (!verdict.failures.is_empty()).then(|| self.failed(seed, &scenario, &verdict.failures));
        SeedRun { baseline, disturbed, found, modelled: verdict.modelled, redeployed }
    }

    /// Every effect of a seed's runs, without faults and with them, one line each: two processes must have the same.
    pub fn trace(&self, seed: u64) -> Vec<String> {
        let SeedRun { baseline, disturbed, .. } =
            Campaign { seeds: self.seeds.clone(), shrink_tries: 0, ..*self }.seed(seed);
        baseline.trace.iter().chain(&disturbed.trace).map(ToString::to_string).collect()
    }

    fn failed(&self, seed: u64, scenario: &Scenario, failures: &[Failure]) -> Found {
        let signs: Vec<String> = failures.iter().map(Failure::sign).collect();
        let mut fails = |candidate: &Scenario| {
            let (_, _, failures) = check(candidate, self.subject);
            failures.iter().any(|failure| signs.contains(&failure.sign()))
        };
        let small = shrink(scenario, self.shrink_tries, &mut fails).scenario;
        let (baseline, run, failures) = check(&small, self.subject);
        Found {
            seed,
            failures: failures.iter().map(ToString::to_string).collect(),
            scenario: small.to_toml(),
            page: page::text(&small, &run, &baseline, &failures, &format!("wavetank sim --seed {seed}")),
            picture: crate::picture::svg(&small, &run),
        }
    }
}

/// The scenario with the faults that are drawn for its seed, from the names of its undisturbed run.
pub fn with_drawn_faults(scenario: &Scenario, subject: &dyn Subject) -> Scenario {
    scenario.with_faults(draw::faults(scenario.seed, &run(scenario, subject).trace))
}

/// Runs a scenario without and with its faults; the runs, and what is wrong.
pub fn check(scenario: &Scenario, subject: &dyn Subject) -> (Run, Run, Vec<Failure>) {
    let baseline = run(&scenario.undisturbed(), subject);
    let verdict = judge_alone(scenario, &baseline, subject);
    if scenario.faults.is_empty() || !verdict.failures.is_empty() {
        return (baseline.clone(), baseline, verdict.failures);
    }
    let run = run(scenario, subject);
    let verdict = judge_against(scenario, &run, &baseline, subject);
    (baseline, run, verdict.failures)
}

fn judge_alone(scenario: &Scenario, run: &Run, subject: &dyn Subject) -> Verdict {
    let mut failures = judge(run, run);
    let (said, modelled) = followed(subject.oracle(scenario, run));
    if run.failures.is_empty() {
        failures.extend(said);
    }
    Verdict { failures, modelled }
}

fn followed(judged: Judged) -> (Vec<Failure>, bool) {
    match judged {
        Judged::Followed(failures) => (failures, true),
        Judged::Beyond(_) => (Vec::new(), false),
    }
}

/// Judges a run by the model; where that cannot follow, by the undisturbed run, or by one with the same interruptions.
fn judge_against(scenario: &Scenario, disturbed: &Run, undisturbed: &Run, subject: &dyn Subject) -> Verdict {
    let alone = judge_alone(scenario, disturbed, subject);
    if alone.modelled || !alone.failures.is_empty() {
        return alone;
    }
    let failures = if disturbed.interruptions.is_empty() {
        judge(disturbed, undisturbed)
    } else {
        judge(disturbed, &run(&baseline_of(scenario, disturbed), subject))
    };
    Verdict { failures, modelled: false }
}

impl Report {
    /// Things that should happen sometimes, and have not happened.
    pub fn missing(&self) -> Vec<&str> {
        self.marks.iter().filter(|(_, count)| **count == 0).map(|(mark, _)| mark.as_str()).collect()
    }

    /// The report as JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}"))
    }

    fn add(&mut self, seed: u64, done: SeedRun) {
        let SeedRun { baseline, disturbed, found, modelled, redeployed } = done;
        for (mark, reached) in
            [("the model could follow", modelled), ("a query was changed between two runs", redeployed)]
        {
            *self.marks.entry(mark.to_owned()).or_default() += u64::from(reached);
        }
        self.progress.seeds_count += 1;
        self.progress.failures_count += u64::from(found.is_some());
        for run in [&baseline, &disturbed] {
            self.progress.runs_count += 1;
            self.progress.effects_count += run.trace.len() as u64;
            for effect in &run.trace {
                let [seen, died] = self.reached.entry(kind_of(&effect.name)).or_default();
                *seen += 1;
                *died += u64::from(matches!(effect.outcome, Outcome::DiedBefore | Outcome::DiedAfter));
                self.progress.batches_count += u64::from(is_done_entry(&effect.name));
            }
            self.mark(run);
        }
        self.progress.crashes_count += crashes(&disturbed) as u64;
        self.digests.insert(seed, baseline.digest.rotate_left(1) ^ disturbed.digest);
        self.failures.extend(found);
    }

    fn mark(&mut self, run: &Run) {
        let mut mark =
            |name: &str, happened: bool| *self.marks.entry(name.to_owned()).or_default() += u64::from(happened);
        mark("two crashes in one run", crashes(run) > 1);
        mark("a crash inside a recovery", crash_in_recovery(run));
        mark("a query failed and was started again", run.lives.iter().any(|end| matches!(end, LifeEnd::Error(_))));
        mark("a graceful restart", run.lives.contains(&LifeEnd::Restarted));
        mark("a purge of the logs", run.trace.iter().any(|e| is_purge(&e.name)));
        mark("a compacted log", run.trace.iter().any(|e| e.name.contains(".compact")));
        mark("a snapshot of state", run.trace.iter().any(|e| e.name.contains(".snapshot")));
        mark("a batch ran again", has_rerun(run));
        let operators = || run.reports.values().flat_map(BTreeMap::values).flat_map(|report| &report.operators);
        mark("late rows were dropped", operators().any(|operator| operator.late > 0));
        mark(
            "a batch had no data",
            run.reports.values().flat_map(BTreeMap::values).any(|report| report.input_rows == 0),
        );
        let remote = |part: &str| run.trace.iter().any(|e| SimBlob::key(&e.name).is_some_and(|key| key.contains(part)));
        mark("a checkpoint in an object store", remote("/commits/"));
        mark("a sink in an object store", remote("/_spark_metadata/"));
        mark("a source in an object store", [".json get", ".parquet get", ".txt get"].iter().any(|part| remote(part)));
        for format in ["json", "parquet", "csv", "txt"] {
            let read = |e: &Effect| matches!(e.op, Op::Read | Op::Get) && e.name.contains(&format!(".{format} "));
            mark(&format!("a file .{format} was read"), run.trace.iter().any(|e| e.name.contains("in/") && read(e)));
            let written =
                |e: &Effect| e.op.changes() && e.name.contains("out/part-") && file_of(&e.name).ends_with(format);
            mark(&format!("a file .{format} was written"), run.trace.iter().any(written));
        }
        mark("a table in memory or on a terminal", run.observed.sinks.values().any(|seen| seen.forgets));
        let ended = |why: &str| run.lives.iter().any(|end| matches!(end, LifeEnd::Error(text) if text.contains(why)));
        mark("another writer was met", ended("CONCURRENT_STREAM_LOG_UPDATE"));
        mark("a file was gone when it was read", ended("FAILED_READ_FILE"));
        for sink in ["/_spark_metadata/", "witness/", "foreach/", "foreachBatch/"] {
            mark(&format!("a sink {sink}"), run.trace.iter().any(|e| e.name.contains(sink)));
        }
        for name in OPERATORS {
            mark(&format!("operator {name}"), operators().any(|operator| operator.name == name));
        }
    }
}

/// The file of an effect.
fn file_of(name: &str) -> &str {
    name.rsplit_once(' ').map_or(name, |(file, _)| file)
}

/// The stateful operators, by Spark's names.
const OPERATORS: [&str; 6] = [
    "stateStoreSave",
    "sessionWindowStateStoreSaveExec",
    "dedupe",
    "dedupeWithinWatermark",
    "globalLimit",
    "symmetricHashJoin",
];

fn no_marks() -> BTreeMap<String, u64> {
    BTreeMap::new()
}

fn is_done_entry(name: &str) -> bool {
    name.contains("/commits/") && (name.ends_with(" link") || name.ends_with(" put"))
}

fn is_purge(name: &str) -> bool {
    name.contains("/offsets/") && name.ends_with(" unlink") && !name.contains(".tmp")
}

fn crashes(run: &Run) -> usize {
    run.lives.iter().filter(|end| matches!(end, LifeEnd::Crashed { .. })).count()
}

/// A life that died before it committed anything, after one that died too.
fn crash_in_recovery(run: &Run) -> bool {
    let died = |life: usize| matches!(run.lives.get(life), Some(LifeEnd::Crashed { .. }));
    (1..run.lives.len()).any(|life| {
        let committed = run.trace.iter().any(|e| e.life as usize == life && is_done_entry(&e.name));
        died(life - 1) && died(life) && !committed
    })
}

/// The same batch was staged in two lives.
fn has_rerun(run: &Run) -> bool {
    let mut first: BTreeMap<&str, u32> = BTreeMap::new();
    run.trace.iter().filter(|e| e.name.ends_with(" stage")).any(|e| *first.entry(&e.name).or_insert(e.life) != e.life)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mini::{Bug, Mini};

    /// Drawn rows and steps for the smallest engine: one column.
    fn small(seed: u64) -> Scenario {
        let mut scenario = draw::scenario(seed);
        for step in &mut scenario.steps {
            if let Step::Drop { rows, .. } = step {
                *step = Step::Add { tape: "events".into(), rows: std::mem::take(rows) };
            }
            if let Some(rows) = step.rows_mut() {
                let values = 0..rows.len();
                *rows = values.map(|value| format!("{{\"v\":\"{value}\"}}")).collect();
            }
        }
        scenario.settings.clear();
        scenario
    }

    fn campaign(bug: Bug, seeds: Range<u64>, jobs: usize) -> Report {
        Campaign {
            seeds,
            jobs,
            shrink_tries: 300,
            scenario: &small,
            subject: &Mini { bug },
            stop_at_failure: false,
            progress: &|_| true,
        }
        .run()
    }

    #[test]
    fn a_campaign_that_is_told_to_stop_reports_what_it_has_done() {
        let report = Campaign {
            seeds: 0..1_000,
            jobs: 1,
            shrink_tries: 0,
            scenario: &small,
            subject: &Mini { bug: Bug::None },
            stop_at_failure: false,
            progress: &|done| done.progress.seeds_count < 3,
        }
        .run();
        assert_eq!((report.progress.seeds_count, report.digests.len()), (3, 3));
    }

    #[test]
    fn an_honest_engine_raises_no_alarm_and_jobs_do_not_matter() {
        let (one, two) = (campaign(Bug::None, 0..60, 1), campaign(Bug::None, 0..60, 2));
        assert!(one.failures.is_empty(), "{}", one.failures[0].page);
        assert_eq!((&one.digests, &one.progress), (&two.digests, &two.progress));
        assert!(one.progress.crashes_count > 30, "{:?}", one.progress);
        assert!(one.marks["a batch ran again"] > 0 && one.marks["two crashes in one run"] > 0, "{:?}", one.marks);
    }

    #[test]
    fn planted_bugs_are_found_within_a_few_seeds_and_shrunk() {
        for bug in [Bug::DoneBeforeSink, Bug::PromiseIsDone, Bug::ReleaseBeforeSink, Bug::Hangs] {
            let report = campaign(bug, 0..100, 2);
            let found = report.failures.first().unwrap_or_else(|| panic!("{bug:?} was not found"));
            let small = Scenario::from_toml(&found.scenario).expect("a written scenario reads back");
            assert!(small.faults.len() <= 2 && small.rows_count() <= 2, "{bug:?}: {}", found.page);
        }
    }
}
