//! Runs a scenario: lives of a subject in one world, the steps of the world outside, and a judgement of what came out.
//!
//! ```text
//! life 0: start ─► step, step, ✗ (a fault kills it) ─► crash image ─► life 1: start ─► the same step again ─► ... ─► stop
//!                                                       logs looked at after every life
//! run(scenario)            what happened                judge(run, baseline)   what is wrong with it
//! ```
//! A step that a crash interrupted is done again by the next life; rows that arrived stay arrived. A query that ends
//! with an error is started again when a fault excuses the error, as an operator would, and is a failure otherwise.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use twox_hash::XxHash64;
use wavetank_engine::environment::Clock;

use crate::blob::SimBlob;
use crate::content::Contents;
use crate::disk::CrashImage;
use crate::effects::{Death, Effect};
use crate::excuse::{is_excused, is_promised_late};
use crate::fault::{Fault, Harm};
use crate::files;
use crate::observe::{Logs, Observed, durable_logs, log_complaints, observe};
use crate::panics;
use crate::plant::EnginePlant;
use crate::promises::taken_over;
use crate::reports::{BatchReport, Reports};
use crate::scenario::{Scenario, Step};
use crate::subject::{Life, Subject};
use crate::tape::Tapes;
use crate::witness::Witnesses;
use crate::world::{Ended, LIFE_EFFECTS_LIMIT, World};

/// More lives than faults and restarts explain mean that the process never gets up again.
const SPARE_LIVES: usize = 3;

/// What happened in a run.
#[derive(Clone, Debug)]
pub struct Run {
    /// Every effect, in order.
    pub trace: Vec<Effect>,
    /// How each life ended.
    pub lives: Vec<LifeEnd>,
    /// What went wrong while it ran; what came out is for [`judge`](crate::judge::judge).
    pub failures: Vec<Failure>,
    /// What could be seen at the end.
    pub observed: Observed,
    /// Which faults struck, by life and name.
    pub fired: BTreeSet<(u32, String)>,
    /// When steps began: virtual time, life, step.
    pub steps: Vec<(i64, u32, usize)>,
    /// One number for the trace and the final disk.
    pub digest: u64,
    /// How much virtual time passed, in microseconds.
    pub virtual_us: u64,
    /// By checkpoint: where each life after the first began.
    pub starts: BTreeMap<String, Vec<Began>>,
    /// What the engine said about its batches, by name of the query.
    pub reports: BTreeMap<String, BTreeMap<u64, BatchReport>>,
    /// Every entry that logs and source logs ever had: path below the home -> text.
    pub history: BTreeMap<String, String>,
    /// Where a run without harm must be interrupted too, to run the same batches: a query that starts again with
    /// nothing promised decides anew whether a batch without data is due (`spec/01`: not before one with data).
    pub interruptions: Vec<Fault>,
    /// The places where it could have died, for [`run_probed`].
    pub points: Vec<Point>,
}

/// Where a life began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Began {
    /// The first batch that is not known to be done.
    pub batch_id: u64,
    /// Whether an earlier life promised it.
    pub promised: bool,
    /// How many steps were done.
    pub steps_done: usize,
}

/// A place where a process can die, before or after an effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Point {
    /// The life.
    pub life: u32,
    /// The effect.
    pub name: String,
    /// Before it, or after it.
    pub before: bool,
    /// By image: a digest of everything that a crash here would leave to the next life. Equal digests, equal futures.
    pub left: Left,
}

/// By image: what a crash leaves, as a digest.
pub type Left = Arc<Vec<(CrashImage, u64)>>;

/// How a life ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LifeEnd {
    /// All steps were done and the query was stopped.
    Done,
    /// It was stopped to be started again.
    Restarted,
    /// It died at an effect.
    Crashed {
        /// The effect's name.
        at: String,
        /// What survived.
        image: CrashImage,
    },
    /// The query ended with this error.
    Error(String),
    /// It was given up.
    GivenUp(String),
}

/// Something that must not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What kind; a smaller scenario shows the same failure when the kind is the same.
    pub kind: FailureKind,
    /// What exactly.
    pub text: String,
}

/// Kinds of failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FailureKind {
    /// Something panicked.
    Panic,
    /// Nothing could run, or it ran and got nowhere, or it did not get up again.
    Liveness,
    /// The query ended with an error that no fault excuses.
    Error,
    /// A log of the checkpoint is not what it must be.
    Log,
    /// A reader of a sink trips over something.
    Torn,
    /// A sink holds other rows than without faults.
    Rows,
    /// Two runs of the same scenario differ.
    Determinism,
    /// The reference model computes something else.
    Model,
    /// What a user asserts of the output does not hold.
    Assertion,
}

impl Failure {
    /// What a smaller scenario must show to show the same: the kind; of errors the class, of the model what it is about.
    pub fn sign(&self) -> String {
        let class = self.text.split_once('[').and_then(|(_, rest)| rest.split_once(']')).map_or("", |(class, _)| class);
        match self.kind {
            FailureKind::Error => format!("{:?} {class}", self.kind),
            FailureKind::Model => {
                let about = self.text.chars().filter(|c| !c.is_ascii_digit()).take(24);
                format!("{:?} {}", self.kind, about.collect::<String>())
            }
            kind => format!("{kind:?}"),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.text)
    }
}

/// Runs a scenario to its end.
pub fn run(scenario: &Scenario, subject: &dyn Subject) -> Run {
    let _planted = EnginePlant::of(&scenario.plants);
    let mut runner = Runner::new(scenario, subject);
    while runner.live() {}
    runner.finish()
}

/// Runs a scenario to its end, and finds out at each place where it could have died what it would have left behind,
/// under each of these images.
pub fn run_probed(scenario: &Scenario, subject: &dyn Subject, images: &[CrashImage]) -> Run {
    let _planted = EnginePlant::of(&scenario.plants);
    let mut runner = Runner::new(scenario, subject);
    let points = runner.probe(images);
    while runner.live() {}
    let mut run = runner.finish();
    run.points = std::mem::take(&mut *points.lock().unwrap_or_else(PoisonError::into_inner));
    run
}

struct Runner<'a> {
    scenario: &'a Scenario,
    subject: &'a dyn Subject,
    world: Arc<World>,
    tapes: Tapes,
    witnesses: Witnesses,
    contents: Contents,
    progress: RefCell<Progress>,
    /// The step that is being done, for probes.
    step: Arc<AtomicUsize>,
    observed: Observed,
    /// What was durable in the logs when they were last looked at.
    promised: BTreeMap<String, Logs>,
    lives: Vec<LifeEnd>,
    failures: Vec<Failure>,
    interruptions: Vec<Fault>,
    starts: BTreeMap<String, Vec<Began>>,
    reports: Reports,
    /// The life that a run with only these interruptions would be in.
    calm_life: u32,
}

/// How far the steps are; outlives the lives of the process.
#[derive(Default)]
struct Progress {
    step: usize,
    /// The step has begun: what it brings has arrived, or its waiting ends at this moment.
    wait_until_us: Option<i64>,
    steps: Vec<(i64, u32, usize)>,
}

/// Why a life's future returned.
enum Stop {
    Done,
    Restart,
}

impl<'a> Runner<'a> {
    fn new(scenario: &'a Scenario, subject: &'a dyn Subject) -> Self {
        let world = World::new(scenario.seed);
        world.effects().arm(scenario.faults.iter().cloned());
        world.effects().limit(effects_limit(scenario));
        world.effects().plant(scenario.plants.iter().cloned());
        // A pipeline may read a folder before the first file is in it.
        let files = scenario.steps.iter().filter_map(|step| match step {
            Step::Drop { file, .. } | Step::DropLater { file, .. } => Some(file),
            _ => None,
        });
        files.for_each(|file| world.make_folder(file));
        Self {
            scenario,
            subject,
            world: Arc::new(world),
            step: Arc::default(),
            tapes: Tapes::default(),
            witnesses: Witnesses::default(),
            contents: Contents::of(&scenario.script),
            progress: RefCell::default(),
            observed: Observed::default(),
            promised: BTreeMap::new(),
            lives: Vec::new(),
            failures: Vec::new(),
            interruptions: Vec::new(),
            starts: BTreeMap::new(),
            reports: Reports::default(),
            calm_life: 0,
        }
    }

    /// Notes every place where the process could die.
    fn probe(&mut self, images: &[CrashImage]) -> Arc<Mutex<Vec<Point>>> {
        let points: Arc<Mutex<Vec<Point>>> = Arc::default();
        let (noted, world, images) = (Arc::clone(&points), Arc::clone(&self.world), images.to_vec());
        let (tapes, witnesses, step) = (self.tapes.clone(), self.witnesses.clone(), Arc::clone(&self.step));
        let last: Mutex<Option<(Vec<u64>, Left)>> = Mutex::default();
        let timeless = self.scenario.is_repeatable();
        self.world.effects().set_probe(Some(Arc::new(move |life, name: &str, before| {
            let step = step.load(Ordering::Relaxed) as u64;
            let time = if timeless { 0 } else { world.clock().monotonic_us() };
            let version = vec![u64::from(life), step, world.version(), tapes.version(), witnesses.version(), time];
            let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
            let left = match &*last {
                Some((known, left)) if *known == version => Arc::clone(left),
                _ => {
                    let outside = [u64::from(life), step, tapes.version(), witnesses.version(), time];
                    let outside = outside.iter().fold(0, |hash, n| XxHash64::oneshot(hash, &n.to_le_bytes()));
                    let left = images.iter().map(|image| {
                        // A kill leaves what is not synced to a later power cut.
                        let unsynced =
                            if *image == CrashImage::Kill { world.disk().unsynced_count() as u64 } else { 0 };
                        (*image, XxHash64::oneshot(outside ^ unsynced, &world.digest_after(*image).to_le_bytes()))
                    });
                    Arc::new(left.collect())
                }
            };
            *last = Some((version, Arc::clone(&left)));
            let point = Point { life, name: name.to_owned(), before, left };
            noted.lock().unwrap_or_else(PoisonError::into_inner).push(point);
        })));
        points
    }

    /// One life, and what comes after it; `false` when it was the last one.
    fn live(&mut self) -> bool {
        let (ended, panic) = panics::catch(|| self.world.run(|_| self.life()));
        let end = match ended {
            Some(Ended::Finished(Ok(Stop::Done))) => LifeEnd::Done,
            Some(Ended::Finished(Ok(Stop::Restart))) => LifeEnd::Restarted,
            Some(Ended::Finished(Err(error))) => LifeEnd::Error(error.to_string()),
            Some(Ended::Died(Death::Crash { at, image })) => LifeEnd::Crashed { at, image },
            Some(Ended::Died(Death::Runaway { effects_count })) => {
                LifeEnd::GivenUp(format!("it had {effects_count} effects and did not end"))
            }
            Some(Ended::Stuck) => LifeEnd::GivenUp("nothing can run and nothing waits for any moment".to_owned()),
            Some(Ended::OutOfTime) => LifeEnd::GivenUp("a day passed and it did not end".to_owned()),
            None => LifeEnd::GivenUp("it panicked".to_owned()),
        };
        if let Some(panic) = panic {
            let life = self.world.effects().life();
            self.fail(FailureKind::Panic, format!("life {life}: {panic}"));
        }
        let goes_on = self.after(&end);
        self.look();
        if goes_on {
            self.note_interruption(&end);
        }
        self.lives.push(end);
        if goes_on {
            let spare = self.scenario.steps.iter().filter(|step| step.restarts()).count() + SPARE_LIVES;
            if self.lives.len() > self.scenario.faults.len() + spare + files::disturbances(self.scenario) {
                let text = format!("after {} lives it still does not end: {:?}", self.lives.len(), self.lives.last());
                self.fail(FailureKind::Liveness, text);
                return false;
            }
            self.world.reboot();
        }
        goes_on
    }

    fn note_interruption(&mut self, end: &LifeEnd) {
        let effects = self.world.effects();
        let steps_done = self.progress.borrow().step;
        for (root, logs) in &self.observed.logs {
            let batch_id = logs.commits.keys().next_back().map_or(0, |done| done + 1);
            let promised =
                logs.offsets.contains_key(&batch_id) || is_promised_late(self.scenario, effects, root, batch_id);
            self.starts.entry(root.clone()).or_default().push(Began { batch_id, promised, steps_done });
        }
        if *end == LifeEnd::Restarted {
            self.calm_life += 1;
            return;
        }
        let mut noted = false;
        for (root, logs) in &self.observed.logs {
            let (promised, done) = (logs.offsets.keys().next_back(), logs.commits.keys().next_back());
            let Some(done) = done.filter(|done| promised == Some(*done)) else { continue };
            let op = if SimBlob::key(root).is_some() { "put" } else { "link" };
            let at = format!("{root}/commits/{done} {op}");
            if !self.interruptions.iter().any(|known| known.at == at) {
                let harm = Harm::CrashAfter { image: CrashImage::Kill };
                self.interruptions.push(Fault { life: self.calm_life, at, harm });
                noted = true;
            }
        }
        self.calm_life += u32::from(noted);
    }

    /// Does to the world what the end of a life means; whether another life follows.
    fn after(&mut self, end: &LifeEnd) -> bool {
        match end {
            LifeEnd::Done => false,
            LifeEnd::Restarted => true,
            LifeEnd::Crashed { image, .. } => {
                self.world.crash(*image);
                true
            }
            LifeEnd::Error(text) => {
                let life = self.world.effects().life();
                let excused = is_excused(self.scenario, self.world.effects(), life, text);
                if !excused {
                    self.fail(FailureKind::Error, format!("life {life}: {text}"));
                }
                excused
            }
            LifeEnd::GivenUp(text) => {
                if !self.failures.iter().any(|failure| failure.kind == FailureKind::Panic) {
                    let life = self.world.effects().life();
                    self.fail(FailureKind::Liveness, format!("life {life}: {text}"));
                }
                false
            }
        }
    }

    fn fail(&mut self, kind: FailureKind, text: String) {
        self.failures.push(Failure { kind, text });
    }

    /// Looks at the world from outside and judges the logs.
    fn look(&mut self) {
        if self.world.effects().death().is_none() {
            self.world.do_deferred();
            self.world.effects().do_held();
        }
        let now = observe(&self.world, &self.witnesses);
        let mut complaints = log_complaints(&self.promised, &now, unlinks_float(self.scenario));
        complaints.extend(self.world.blob().take_replaced());
        for complaint in complaints {
            self.fail(FailureKind::Log, complaint);
        }
        self.observed = now;
        self.promised = durable_logs(&self.world);
    }

    /// One life as a future: starts the subject and does the steps that are left.
    async fn life(&self) -> wavetank_engine::Result<Stop> {
        let effects = self.world.effects();
        let number = effects.life();
        let settings = self.scenario.settings.range(..=number).next_back().map(|(_, set)| set.clone());
        let script = self.scenario.script_at(self.progress.borrow().step);
        let running = self
            .subject
            .start(Life {
                number,
                environment: self.world.environment(),
                script,
                views: &self.scenario.views,
                reports: self.reports.clone(),
                settings: settings.unwrap_or_default(),
                sources: vec![self.tapes.provider(effects, number)],
                sinks: self.witnesses.providers(effects, number),
            })
            .await?;
        loop {
            let at = self.progress.borrow().step;
            self.step.store(at, Ordering::Relaxed);
            let Some(step) = self.scenario.steps.get(at) else { break };
            self.progress.borrow_mut().steps.push((self.world.clock().now_us(), number, at));
            match step {
                Step::Settle => running.settle().await?,
                Step::Restart | Step::Redeploy { .. } => {
                    running.stop().await?;
                    self.step_done();
                    return Ok(Stop::Restart);
                }
                Step::Wait { ms } => self.wait(*ms).await,
                arrival => self.arrive(arrival),
            }
            if self.world.effects().death().is_some() {
                // The dead have not seen the step through. The world takes this future away.
                std::future::pending::<()>().await;
            }
            self.step_done();
        }
        running.stop().await?;
        Ok(Stop::Done)
    }

    fn step_done(&self) {
        let mut progress = self.progress.borrow_mut();
        progress.step += 1;
        progress.wait_until_us = None;
    }

    async fn wait(&self, ms: u64) {
        let clock = self.world.clock();
        let until_us =
            *self.progress.borrow_mut().wait_until_us.get_or_insert(clock.now_us().saturating_add_unsigned(ms * 1000));
        clock.sleep_until_us(until_us).await;
    }

    fn arrive(&self, step: &Step) {
        match step {
            Step::Add { tape, rows } => self.tapes.add(tape, rows.clone()),
            Step::Drop { file, rows, torn } => self.world.drop_file(file, self.contents.bytes(file, rows, *torn)),
            Step::DropLater { ms, file, rows, torn } => {
                let (file, data) = (file.clone(), self.contents.bytes(file, rows, *torn));
                self.world.later(*ms, move |world| world.drop_file(&file, data));
            }
            Step::Remove { file } => self.world.remove_file(file),
            Step::RemoveLater { ms, file } => {
                let file = file.clone();
                self.world.later(*ms, move |world| world.remove_file(&file));
            }
            Step::Touch { file, modified_ms } => self.world.date_file(file, *modified_ms),
            Step::Settle | Step::Wait { .. } | Step::Restart | Step::Redeploy { .. } => {}
        }
    }

    fn finish(mut self) -> Run {
        self.world.effects().set_probe(None); // it holds the world
        for complaint in taken_over(&self.world.effects().trace()) {
            self.fail(FailureKind::Log, complaint);
        }
        files::forgive(self.scenario, &mut self.observed);
        let effects = self.world.effects();
        let history = self.world.history().into_iter();
        let history = history.map(|(path, data)| (path, String::from_utf8_lossy(&data).into_owned())).collect();
        Run {
            digest: effects.trace_digest() ^ self.world.digest(),
            trace: effects.take_trace(),
            lives: self.lives,
            failures: self.failures,
            observed: self.observed,
            fired: effects.fired(),
            steps: self.progress.into_inner().steps,
            virtual_us: self.world.clock().monotonic_us(),
            points: Vec::new(),
            interruptions: self.interruptions,
            starts: self.starts,
            reports: self.reports.all(),
            history,
        }
    }
}

/// More effects than a life of this scenario needs. While a wall clock that was set back catches up, queries go on asking
/// for what is new, a hundred times a second.
fn effects_limit(scenario: &Scenario) -> u64 {
    const EFFECTS_A_SECOND: u64 = 10_000;
    let back_us = |fault: &Fault| if let Harm::StepWall { us } = fault.harm { us.min(0).unsigned_abs() } else { 0 };
    let back_us: u64 = scenario.faults.iter().map(back_us).sum();
    LIFE_EFFECTS_LIMIT + back_us.div_ceil(1_000_000) * EFFECTS_A_SECOND
}

/// Whether a crash of this scenario may bring back what was unlinked.
fn unlinks_float(scenario: &Scenario) -> bool {
    scenario.faults.iter().any(|fault| match fault.harm.crash_image() {
        Some(image) => !matches!(image, CrashImage::Kill),
        // A late put finds no entry where one has been purged, and puts it back.
        None => matches!(fault.harm, Harm::Late { .. }),
    })
}
