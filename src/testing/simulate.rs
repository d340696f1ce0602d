//! `simulate`: a job in many simulated worlds, one a seed, with crashes, failing disks, restarts and late rows in them.
//!
//! ```text
//! seed ─► rows and steps ─► faultless run ─► checks hold? ─► faults drawn ─► run ─► same output? checks hold?
//!                                                                                     │ no
//!                                       one line that replays it, one page ◄─ shrink ◄┘
//! ```
//! Absent: what a world is and what can go wrong in it (`wavetank_sim`); what the job is (`job.rs`).

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use rand::{Rng, RngCore};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;
use wavetank_sim::judge::{baseline_of, judge};
use wavetank_sim::runner::{Failure, FailureKind, LifeEnd, Run, run};
use wavetank_sim::user::{Hints, RowDrawers, Stream, UserScript, create_tape, scenario_with};
use wavetank_sim::{Scenario, Step, draw, page, picture, saved, shrink};

use super::job::Job;
use super::quietly::quietly;
use super::row::Row;
use super::subject::{OUTPUT, Simulated};

/// The random stream that a test's own rows are drawn from; the seed decides it.
pub type Random = ChaCha8Rng;

/// How many seeds run unless the test or `WAVETANK_RUNS` says otherwise.
const RUNS: u64 = 50;
/// How many runs may be spent on making a failure small.
const SHRINK_TRIES: usize = 200;

type MakeRows = Arc<dyn Fn(&mut Random, usize) -> Vec<Row> + Send + Sync>;
type CheckRun = Arc<dyn Fn(&SimulatedRun<'_>) + Send + Sync>;

/// Simulates a job: see [`Simulation`].
pub fn simulate(job: impl Into<Job>) -> Simulation {
    Simulation {
        job: job.into(),
        runs: None,
        supplies: BTreeMap::new(),
        checks: vec![],
        ignored: vec![],
        compares: true,
        shrink_tries: SHRINK_TRIES,
        kept_in: None,
    }
}

/// A job in many simulated worlds. Each seed draws rows, how they arrive, restarts, and what goes wrong: crashes before
/// and after any write, power cuts that lose, tear or reorder what was not synced, full and failing disks, jumping
/// clocks. After every run the output must be that of the same run without faults, the logs of the checkpoint must be
/// whole, and the test's own checks must hold.
///
/// ```
/// use wavetank::prelude::*;
/// use wavetank::testing::{Job, simulate};
///
/// let counts = Job::sql("SELECT k, count(*) AS n FROM STREAM events GROUP BY k")
///     .source("events", "k STRING")
///     .output_mode(OutputMode::Update);
///
/// simulate(counts)
///     .runs(5)
///     .check("every row is counted once", |run| {
///         let counted: i64 = run.latest_by(&["k"]).iter().map(|row| row["n"].as_i64().unwrap()).sum();
///         assert_eq!(counted as usize, run.input("events").len());
///     })
///     .run();
/// ```
///
/// A failure is made small and printed as one line that replays it (`WAVETANK_SEED=17 cargo test name_of_the_test`) and
/// one page: the rows, the steps, the fault, what the job did in which order, and what was expected and got.
///
/// | variable | meaning |
/// |---|---|
/// | `WAVETANK_SEED` | run exactly this seed |
/// | `WAVETANK_RUNS` | run so many seeds, from 0 |
/// | `WAVETANK_JOBS` | on so many threads; 1 unless given. The findings do not depend on it |
#[must_use = "a simulation that is not run tests nothing"]
pub struct Simulation {
    job: Job,
    runs: Option<u64>,
    supplies: BTreeMap<String, Supply>,
    checks: Vec<(String, CheckRun)>,
    ignored: Vec<String>,
    compares: bool,
    shrink_tries: usize,
    kept_in: Option<PathBuf>,
}

/// Where the rows of a source come from, when they are not drawn from its columns.
#[derive(Clone)]
enum Supply {
    Made(MakeRows),
    /// These, all of them, in order; the seed decides where blocks end.
    Given(Arc<Vec<Row>>),
}

/// One run of a job in a simulated world, for the checks of a test.
pub struct SimulatedRun<'a> {
    scenario: &'a Scenario,
    run: &'a Run,
}

/// What a simulation did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SimulationReport {
    /// Seeds that were run.
    pub seeds: u64,
    /// Runs, with faults and without.
    pub runs: u64,
    /// Processes that died, or lost their machine.
    pub crashes: u64,
    /// Graceful restarts.
    pub restarts: u64,
    /// Queries that failed for a fault and were started again.
    pub failed_queries: u64,
    /// Rows that arrived, in the runs without faults.
    pub rows_in: u64,
    /// Rows that were written, in the runs without faults.
    pub rows_out: u64,
}

impl Simulation {
    /// How many seeds are run; `WAVETANK_RUNS` wins.
    pub fn runs(mut self, seeds: u64) -> Self {
        self.runs = Some(seeds);
        self
    }

    /// Rows of a source that the test makes itself: from the random stream of the seed, for the how many-eth block.
    ///
    /// ```
    /// use rand::Rng;
    /// use wavetank::testing::{Job, simulate};
    ///
    /// let job = Job::sql("SELECT v FROM STREAM numbers WHERE v % 2 = 0").source("numbers", "v INT");
    /// simulate(job)
    ///     .rows_with("numbers", |random, block| (0..block).map(|_| random.random_range(0..100)).collect::<Vec<i32>>())
    ///     .runs(3)
    ///     .run();
    /// ```
    pub fn rows_with<R, I>(
        mut self,
        source: &str,
        make: impl Fn(&mut Random, usize) -> I + Send + Sync + 'static,
    ) -> Self
    where
        R: Into<Row>,
        I: IntoIterator<Item = R>,
    {
        let make: MakeRows = Arc::new(move |random, block| make(random, block).into_iter().map(Into::into).collect());
        self.supplies.insert(source.to_owned(), Supply::Made(make));
        self
    }

    /// Rows of a source drawn from a proptest strategy.
    ///
    /// ```
    /// use proptest::prelude::*;
    /// use wavetank::testing::{Job, simulate};
    ///
    /// let job = Job::sql("SELECT v FROM STREAM numbers WHERE v % 2 = 0").source("numbers", "k STRING, v INT");
    /// simulate(job).rows_from("numbers", ("[a-c]", 0..100_i32)).runs(3).run();
    /// ```
    pub fn rows_from<S>(self, source: &str, strategy: S) -> Self
    where
        S: Strategy + Send + Sync + 'static,
        S::Value: Into<Row>,
    {
        self.rows_with(source, move |random, _| {
            let mut seed = [0; 32];
            random.fill_bytes(&mut seed);
            let count = random.random_range(0..6);
            let mut runner =
                TestRunner::new_with_rng(Config::default(), TestRng::from_seed(RngAlgorithm::ChaCha, &seed));
            // A strategy that rejects everything gives no row.
            (0..count)
                .filter_map(|_| strategy.new_tree(&mut runner).ok())
                .map(|tree| tree.current().into())
                .collect::<Vec<Row>>()
        })
    }

    /// Exactly these rows of a source, in this order; the seed decides how they are cut into blocks.
    pub fn rows_of<R: Into<Row>>(mut self, source: &str, rows: impl IntoIterator<Item = R>) -> Self {
        let rows = Arc::new(rows.into_iter().map(Into::into).collect());
        self.supplies.insert(source.to_owned(), Supply::Given(rows));
        self
    }

    /// What must hold after every run, with faults and without; a panic of `check` (an `assert!`) says that it does not.
    pub fn check(mut self, about: &str, check: impl Fn(&SimulatedRun<'_>) + Send + Sync + 'static) -> Self {
        self.checks.push((about.to_owned(), Arc::new(check)));
        self
    }

    /// Leaves columns out of the comparison with the faultless run: those that depend on when a batch ran.
    pub fn ignoring(mut self, columns: &[&str]) -> Self {
        self.ignored.extend(columns.iter().map(|column| (*column).to_owned()));
        self
    }

    /// Does not compare with the faultless run: for jobs whose rows depend on how the input is cut into batches.
    pub fn without_comparison(mut self) -> Self {
        self.compares = false;
        self
    }

    /// How many runs may be spent on making a failure small; 200 unless given.
    pub fn shrink_tries(mut self, tries: usize) -> Self {
        self.shrink_tries = tries;
        self
    }

    /// Keeps failures in this folder (relative to the package, where `cargo test` runs): the small scenario, its page and
    /// its picture. The scenarios that are there run before any seed, so that what failed once is looked at first, and a
    /// failure worth keeping is committed with the test. Files of other tests are passed over: the name says the test.
    pub fn keep_failures_in(mut self, folder: impl Into<PathBuf>) -> Self {
        self.kept_in = Some(folder.into());
        self
    }

    /// Runs the seeds.
    ///
    /// # Panics
    /// When one fails: with the line that replays it and the page.
    #[track_caller]
    pub fn run(self) -> SimulationReport {
        self.try_run().unwrap_or_else(|failure| panic!("\n{failure}"))
    }

    /// Runs the seeds, and answers the failure instead of panicking.
    pub fn try_run(self) -> Result<SimulationReport, String> {
        let seeds = match (number("WAVETANK_SEED")?, number("WAVETANK_RUNS")?.or(self.runs).unwrap_or(RUNS)) {
            (Some(seed), _) => seed..seed.saturating_add(1),
            (None, runs) => 0..runs,
        };
        let jobs = number("WAVETANK_JOBS")?.unwrap_or(1).max(1);
        let script = self.script()?;
        let test = std::thread::current().name().filter(|name| *name != "main").map(str::to_owned);
        self.kept(test.as_deref())?;
        self.seeds(seeds, jobs, &script, test.as_deref())
    }

    /// What the files of kept failures of this test are called, before the seed.
    fn kept_name(test: Option<&str>) -> String {
        format!("{}-seed-", test.unwrap_or("simulation").replace("::", "-"))
    }

    /// Runs the failures that were kept.
    fn kept(&self, test: Option<&str>) -> Result<(), String> {
        let Some(folder) = &self.kept_in else { return Ok(()) };
        let (own, subject) = (Self::kept_name(test), Simulated { job: &self.job });
        for (path, scenario) in saved::saved(folder)? {
            if !path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&own)) {
                continue;
            }
            let (baseline, run, failures) = self.tried(&scenario, &subject);
            if !failures.is_empty() {
                let replay = format!("cargo test {} (kept in {})", test.unwrap_or_default(), path.display());
                return Err(page::text(&scenario, &run, &baseline, &failures, replay.trim_end()));
            }
        }
        Ok(())
    }

    fn seeds(
        &self,
        seeds: Range<u64>,
        jobs: u64,
        script: &UserScript,
        test: Option<&str>,
    ) -> Result<SimulationReport, String> {
        let next = AtomicU64::new(seeds.start);
        let ended = Mutex::new((SimulationReport::default(), None::<(u64, String)>));
        std::thread::scope(|scope| {
            for _ in 0..jobs {
                scope.spawn(|| {
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= seeds.end {
                            return;
                        }
                        let done = self.seed(seed, script, test);
                        let mut ended = ended.lock().unwrap_or_else(PoisonError::into_inner);
                        match done {
                            Ok(report) => ended.0.add(&report),
                            Err(failure) => {
                                // The first seed that fails is the answer, however many threads there are.
                                if ended.1.as_ref().is_none_or(|(first, _)| seed < *first) {
                                    ended.1 = Some((seed, failure));
                                }
                                next.store(u64::MAX / 2, Ordering::Relaxed);
                            }
                        }
                    }
                });
            }
        });
        match ended.into_inner().unwrap_or_else(PoisonError::into_inner) {
            (report, None) => Ok(report),
            (_, Some((_, failure))) => Err(failure),
        }
    }

    /// The job's text in the simulated world.
    fn script(&self) -> Result<UserScript, String> {
        if let Some(unknown) = self.supplies.keys().find(|name| !self.job.sources.contains_key(*name)) {
            let names: Vec<_> = self.job.sources.keys().map(String::as_str).collect();
            return Err(format!("there is no source {unknown}; there are: {}", names.join(", ")));
        }
        if self.job.sources.is_empty() {
            return Err("the job has no source; declare its streams with source(name, columns)".to_owned());
        }
        let mut text = String::new();
        let mut streams = vec![];
        for (name, schema) in &self.job.sources {
            text.push_str(&format!("{};\n", create_tape(name, schema)));
            streams.push(Stream { name: name.clone(), schema: Arc::clone(schema) });
        }
        let mode = self.job.mode().map_err(|error| error.to_string())?;
        let hints = match self.job.text().map_err(|error| error.to_string())? {
            Some((prelude, query)) => {
                text.push_str(&format!(
                    "{prelude}CREATE STREAMING TABLE {OUTPUT} USING witness\n  OPTIONS (outputMode '{mode}', \
                     checkpointLocation 'checkpoint')\n  AS {query};\n"
                ));
                Hints::of(&format!("{prelude} {query}"))
            }
            None => {
                text.push_str("-- the query is built in Rust\n");
                Hints::default()
            }
        };
        Ok(UserScript { name: OUTPUT.to_owned(), text, streams, hints })
    }

    /// The scenario of a seed, without faults.
    fn scenario(&self, seed: u64, script: &UserScript) -> Result<Scenario, String> {
        let drawers = RowDrawers::new(script);
        let given: Mutex<BTreeMap<String, usize>> = Mutex::default();
        let wrong: Mutex<Option<String>> = Mutex::default();
        let to_json = |stream: &Stream, rows: &[Row]| -> Vec<String> {
            let json = rows.iter().map(|row| row.to_json(&stream.schema).map(|row| row.to_string()));
            json.collect::<Result<Vec<_>, _>>().unwrap_or_else(|error| {
                let error = format!("source {}: {error}", stream.name);
                *wrong.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                vec![]
            })
        };
        let mut scenario =
            scenario_with(seed, script, &|stream, random, block| match self.supplies.get(&stream.name) {
                None => drawers.block(stream, random),
                Some(Supply::Made(make)) => to_json(stream, &make(random, block)),
                Some(Supply::Given(rows)) => {
                    let mut given = given.lock().unwrap_or_else(PoisonError::into_inner);
                    let from = given.entry(stream.name.clone()).or_default();
                    let to = rows.len().min(*from + random.random_range(0..=rows.len().div_ceil(3)));
                    to_json(stream, &rows[std::mem::replace(from, to)..to])
                }
            });
        // What no block has taken arrives before the last settling.
        let given = given.into_inner().unwrap_or_else(PoisonError::into_inner);
        for stream in &script.streams {
            if let Some(Supply::Given(rows)) = self.supplies.get(&stream.name) {
                let rest = &rows[given.get(&stream.name).copied().unwrap_or_default()..];
                if !rest.is_empty() {
                    let rows = to_json(stream, rest);
                    scenario.steps.insert(scenario.steps.len() - 1, Step::Add { tape: stream.name.clone(), rows });
                }
            }
        }
        match wrong.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Err(error),
            None => Ok(scenario),
        }
    }

    /// One seed: the run without faults, then the run with them.
    fn seed(&self, seed: u64, script: &UserScript, test: Option<&str>) -> Result<SimulationReport, String> {
        let subject = Simulated { job: &self.job };
        let calm = self.scenario(seed, script)?;
        let (_, calm_run, failures) = self.tried(&calm, &subject);
        if !failures.is_empty() {
            return Err(self.failed(seed, &calm, &failures, &subject, test));
        }
        let disturbed = calm.with_faults(draw::faults(seed, &calm_run.trace));
        let (_, disturbed_run, failures) = self.tried(&disturbed, &subject);
        if !failures.is_empty() {
            return Err(self.failed(seed, &disturbed, &failures, &subject, test));
        }
        let ends = |wanted: fn(&LifeEnd) -> bool| disturbed_run.lives.iter().filter(|end| wanted(end)).count() as u64;
        Ok(SimulationReport {
            seeds: 1,
            runs: 2,
            crashes: ends(|end| matches!(end, LifeEnd::Crashed { .. })),
            restarts: ends(|end| matches!(end, LifeEnd::Restarted)),
            failed_queries: ends(|end| matches!(end, LifeEnd::Error(_))),
            rows_in: calm.rows_count() as u64,
            rows_out: calm_run.observed.sinks.values().map(|seen| seen.all_rows().len() as u64).sum(),
        })
    }

    /// Runs a scenario; what it is compared with, what happened, what is wrong.
    fn tried(&self, scenario: &Scenario, subject: &Simulated<'_>) -> (Run, Run, Vec<Failure>) {
        let done = run(scenario, subject);
        let baseline = match scenario.faults.is_empty() {
            true => done.clone(),
            false => run(&baseline_of(scenario, &done), subject),
        };
        let mut failures = judge(&self.comparable(&done), &self.comparable(&baseline));
        if !self.compares {
            failures.retain(|failure| failure.kind != FailureKind::Rows);
        }
        if done.failures.is_empty() {
            let looked_at = SimulatedRun { scenario, run: &done };
            for (about, check) in &self.checks {
                if let Err(panic) = quietly(|| catch_unwind(AssertUnwindSafe(|| check(&looked_at)))) {
                    failures
                        .push(Failure { kind: FailureKind::Assertion, text: format!("{about}: {}", said(&*panic)) });
                }
            }
        }
        (baseline, done, failures)
    }

    /// A run as it is compared: without the columns that do not count.
    fn comparable(&self, run: &Run) -> Run {
        let mut run = run.clone();
        if self.ignored.is_empty() {
            return run;
        }
        for seen in run.observed.sinks.values_mut() {
            for rows in seen.batches.values_mut() {
                for row in rows.iter_mut() {
                    if let Ok(Value::Object(mut cells)) = serde_json::from_str(row) {
                        cells.retain(|name, _| !self.ignored.contains(name));
                        *row = Value::Object(cells).to_string();
                    }
                }
                rows.sort_unstable();
            }
        }
        run
    }

    /// The failure, made small: one line that replays it, and the page.
    fn failed(
        &self,
        seed: u64,
        scenario: &Scenario,
        failures: &[Failure],
        subject: &Simulated<'_>,
        test: Option<&str>,
    ) -> String {
        // A smaller scenario shows the same failure when the kind is the same, and the check.
        let what = |failure: &Failure| match failure.kind {
            FailureKind::Assertion => (failure.kind, failure.text.split(':').next().unwrap_or_default().to_owned()),
            kind => (kind, String::new()),
        };
        let same = failures.iter().map(what).collect::<Vec<_>>();
        let mut fails = |candidate: &Scenario| {
            let (_, _, failures) = quietly(|| self.tried(candidate, subject));
            failures.iter().any(|failure| same.contains(&what(failure)))
        };
        let small = shrink::shrink(scenario, self.shrink_tries, &mut fails).scenario;
        let (baseline, run, failures) = self.tried(&small, subject);
        let replay = format!("WAVETANK_SEED={seed} cargo test {}", test.unwrap_or_default());
        let page = page::text(&small, &run, &baseline, &failures, replay.trim_end());
        let Some(folder) = &self.kept_in else { return page };
        let name = format!("{}{seed}", Self::kept_name(test));
        match saved::save(folder, &name, &small.to_toml(), &page, &picture::svg(&small, &run)) {
            Ok(path) => format!("{page}\n  kept as {}", path.display()),
            Err(error) => format!("{page}\n  could not be kept in {}: {error}", folder.display()),
        }
    }
}

impl SimulatedRun<'_> {
    /// The seed.
    pub fn seed(&self) -> u64 {
        self.scenario.seed
    }

    /// How often the process died.
    pub fn crashes(&self) -> usize {
        self.run.lives.iter().filter(|end| matches!(end, LifeEnd::Crashed { .. })).count()
    }

    /// Every row that arrived on a source, as JSON objects, in order.
    pub fn input(&self, source: &str) -> Vec<Value> {
        let rows = self.scenario.steps.iter().filter_map(|step| match step {
            Step::Add { tape, rows } if tape == source => Some(rows),
            _ => None,
        });
        rows.flatten().map(|row| parsed(row)).collect()
    }

    /// The rows of every batch, by its id, as JSON objects; times are texts such as `2024-01-01T00:00:10Z`. A batch has
    /// its rows sorted.
    pub fn batches(&self) -> BTreeMap<u64, Vec<Value>> {
        let seen = self.run.observed.sinks.get(OUTPUT);
        let batches = seen.iter().flat_map(|seen| &seen.batches);
        batches.map(|(id, rows)| (*id, rows.iter().map(|row| parsed(row)).collect())).collect()
    }

    /// All rows that were written, batch after batch.
    pub fn rows(&self) -> Vec<Value> {
        self.batches().into_values().flatten().collect()
    }

    /// The rows of the last batch: in complete mode, the result.
    pub fn last_batch(&self) -> Vec<Value> {
        self.batches().into_values().next_back().unwrap_or_default()
    }

    /// The last row that was written for each combination of these columns: in update mode, the result.
    pub fn latest_by(&self, key: &[&str]) -> Vec<Value> {
        let mut latest: BTreeMap<String, Value> = BTreeMap::new();
        for row in self.rows() {
            let key: Vec<&Value> = key.iter().map(|column| &row[*column]).collect();
            latest.insert(serde_json::to_string(&key).unwrap_or_default(), row.clone());
        }
        latest.into_values().collect()
    }
}

impl SimulationReport {
    fn add(&mut self, other: &Self) {
        self.seeds += other.seeds;
        self.runs += other.runs;
        self.crashes += other.crashes;
        self.restarts += other.restarts;
        self.failed_queries += other.failed_queries;
        self.rows_in += other.rows_in;
        self.rows_out += other.rows_out;
    }
}

impl fmt::Display for SimulationReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seeds, runs, crashes, restarts, failed_queries, rows_in, rows_out } = self;
        write!(
            f,
            "{seeds} seeds, {runs} runs, {crashes} crashes, {restarts} restarts, {failed_queries} failed queries, \
             {rows_in} rows in, {rows_out} rows out"
        )
    }
}

fn parsed(row: &str) -> Value {
    serde_json::from_str(row).unwrap_or_else(|_| Value::String(row.to_owned()))
}

fn said(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("it panicked").to_owned()
}

/// A number from the environment of the test run.
fn number(name: &str) -> Result<Option<u64>, String> {
    match std::env::var(name) {
        Err(_) => Ok(None),
        Ok(text) => text.trim().parse().map(Some).map_err(|_| format!("{name}={text} is not a number")),
    }
}
