//! Where a `StreamTest` happens: a world with a virtual clock, the lives of the process in it, and one step at a time.
//!
//! ```text
//! streams, sink, clock, disk      outside the process: they outlive stops and crashes
//! life 0: start ─ add ─ check ─ stop ─ start ─ check ─ ✗ crash ─► life 1: start ─ ...
//! ```
//! Time passes only while a step waits for the query, and with a manual clock not even then: the step that waits for
//! "nothing more to do" is itself the first alarm of the clock, which rings when all tasks are asleep. Absent: what the
//! verbs are called (`stream_test.rs`), how a failure is told (`report.rs`).

use std::collections::BTreeMap;
use std::future::Future;
use std::path::Path;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};

use futures::channel::oneshot;
use futures::future::{Either, select};
use serde_json::Value;
use wavetank_engine::dataframe::DataFrame;
use wavetank_engine::environment::{Clock, Environment};
use wavetank_engine::progress::StreamingQueryProgress;
use wavetank_engine::query::{StreamingQuery, StreamingQueryListener};
use wavetank_engine::sink::OutputMode;
use wavetank_engine::storage::Posix;
use wavetank_engine::{Error, Result};
use wavetank_sim::clock::EPOCH_US;
use wavetank_sim::world::HOME;
use wavetank_sim::{CrashImage, Ended, SimDisk, VirtualClock, World};
use wavetank_sources::MemoryStream;

use super::collected::{Collected, Kept};
use super::job::Job;
use super::report::{describe, report};
use super::row::{Difference, cells_of, difference, record_batch, same_row, shown_row, time_text, time_us};
use super::stream_test::{Action, Check, Start, StateRows, StreamTest};
use super::transcript::{Batch, Transcript};

/// How long a step waits for the query, in virtual time.
const PATIENCE_US: i64 = 60_000_000;
/// The checkpoint that all starts share unless they say otherwise.
const CHECKPOINT: &str = "checkpoint";

/// A test that is running.
pub(super) struct Stage {
    job: Job,
    manual_clock: bool,
    clock: VirtualClock,
    disk: SimDisk,
    streams: BTreeMap<String, MemoryStream>,
    collected: Collected,
    reports: Arc<Mutex<Vec<StreamingQueryProgress>>>,
    query: Option<StreamingQuery>,
    /// A start that was refused, until a step expects it.
    refused: Option<Error>,
    /// Whether the job sorts its rows.
    pub(super) sorts: bool,
    /// The newest batch that a check has seen.
    checked_batch: Option<u64>,
    /// How many reports a check of state has seen.
    checked_reports: usize,
}

/// Keeps the report of every batch.
struct Listener(Arc<Mutex<Vec<StreamingQueryProgress>>>);

impl StreamingQueryListener for Listener {
    fn on_query_progress(&self, progress: &StreamingQueryProgress) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(progress.clone());
    }
}

/// Why a life ends.
enum Pause {
    Done,
    Crash(CrashImage),
}

impl Stage {
    /// Runs a test: what happened, or a report of the step that does not hold.
    pub(super) fn run(test: StreamTest) -> std::result::Result<Transcript, String> {
        let StreamTest { job, manual_clock, starts_at, mut steps } = test;
        if !begins_with_a_start(&steps) {
            steps.insert(0, Action::Start(Box::default()));
        }
        let told: Vec<String> = steps.iter().map(describe).collect();
        let world = World::new(0);
        if let Some(text) = &starts_at {
            let us = time_us(text).ok_or_else(|| format!("starting_at: {text} is not a time"))?;
            world.clock().step_wall_us(us - EPOCH_US);
        }
        let mut stage = Self::new(job, manual_clock, &world);
        let mut steps = steps.into_iter();
        let mut at = 0;
        let failure = loop {
            match world.run(|environment| stage.life(environment, &mut steps, &mut at)) {
                Ended::Finished(Ok(Pause::Done)) => break None,
                Ended::Finished(Ok(Pause::Crash(image))) => {
                    world.crash(image);
                    world.reboot();
                    stage.query = None;
                }
                Ended::Finished(Err(failure)) => break Some(failure),
                Ended::Died(death) => break Some(format!("the process died: {death:?}")),
                Ended::Stuck => break Some("nothing can run any more, and nothing waits for a moment".to_owned()),
                Ended::OutOfTime => break Some("a day passed in the world of the test".to_owned()),
            }
        };
        let transcript = stage.transcript();
        match failure {
            None => Ok(transcript),
            Some(failure) => Err(report(&told, at, &failure, &transcript, stage.query.as_ref())),
        }
    }

    fn new(job: Job, manual_clock: bool, world: &World) -> Self {
        let disk = world.disk().clone();
        for (path, content) in &job.files {
            put_file(&disk, path, content);
        }
        Self {
            job,
            manual_clock,
            clock: world.clock().clone(),
            disk,
            streams: BTreeMap::new(),
            collected: Collected::default(),
            reports: Arc::default(),
            query: None,
            refused: None,
            sorts: false,
            checked_batch: None,
            checked_reports: 0,
        }
    }

    /// The steps that are left, up to the next crash.
    async fn life(
        &mut self,
        environment: Environment,
        steps: &mut std::vec::IntoIter<Action>,
        at: &mut usize,
    ) -> std::result::Result<Pause, String> {
        for step in steps {
            *at += 1;
            if self.refused.is_some() && !matches!(step, Action::ExpectFailure(_)) {
                *at -= 1;
                return Err(format!("the query did not start: {}", self.refused.take().expect("it is there")));
            }
            if let Action::Crash(image) = step {
                self.running()?;
                return Ok(Pause::Crash(image));
            }
            self.step(step, &environment).await?;
        }
        if let Some(error) = self.refused.take() {
            return Err(format!("the query did not start: {error}"));
        }
        match self.query.clone() {
            None => Ok(Pause::Done),
            Some(query) => {
                let _ = query.stop().await;
                query.exception().map_or(Ok(Pause::Done), |error| Err(format!("the query failed: {error}")))
            }
        }
    }

    async fn step(&mut self, step: Action, environment: &Environment) -> std::result::Result<(), String> {
        match step {
            Action::Add(arrivals) => self.add(arrivals).await,
            Action::Check(check, rows) => {
                self.settle().await?;
                self.check(check, &rows)
            }
            Action::CheckBy(about, holds) => {
                self.settle().await?;
                let rows = self.answer(Check::All);
                self.checked();
                holds(&rows).then_some(()).ok_or_else(|| format!("not so: {about}\n{}", lines("got", &rows)))
            }
            Action::State(rows) => {
                self.settle().await?;
                self.check_state(&rows)
            }
            Action::Watermark(time) => {
                self.settle().await?;
                self.check_watermark(&time)
            }
            Action::LastBatch(id) => {
                self.settle().await?;
                let got = self.collected.now().batches.keys().next_back().copied();
                (got == Some(id)).then_some(()).ok_or_else(|| format!("expected batch {id}, got {got:?}"))
            }
            Action::Start(start) => self.start(*start, environment).await,
            Action::Stop => self.stop().await,
            Action::Crash(_) => Err("a crash ends a life".to_owned()),
            Action::Advance(time) => {
                self.idle().await;
                self.clock.advance_us(u64::try_from(time.as_micros()).map_err(|error| error.to_string())?);
                self.idle().await;
                Ok(())
            }
            Action::ProcessAll => self.settle().await,
            Action::AwaitTermination => {
                let query = self.running()?;
                self.patiently(query.await_termination()).await?.map_err(|error| format!("the query failed: {error}"))
            }
            Action::ExpectFailure(what) => self.expect_failure(&what).await,
            Action::OnQuery(about, holds) => {
                let query = self.query.clone().ok_or("no query was started yet")?;
                self.idle().await;
                holds(&query).then_some(()).ok_or_else(|| format!("not so: {about}"))
            }
            Action::Outside(_, act) => {
                act();
                Ok(())
            }
            Action::File(path, content) => {
                put_file(&self.disk, &path, &content);
                Ok(())
            }
        }
    }

    async fn add(&mut self, arrivals: Vec<(String, Vec<super::Row>)>) -> std::result::Result<(), String> {
        if self.manual_clock {
            // Rows never slip into a batch that is under way.
            self.idle().await;
        }
        for (source, rows) in arrivals {
            let Some(stream) = self.stream(&source) else {
                let names: Vec<_> = self.job.sources.keys().map(String::as_str).collect();
                return Err(format!("there is no source {source}; there are: {}", names.join(", ")));
            };
            let batch = record_batch(&stream.schema(), &rows).map_err(|error| format!("source {source}: {error}"))?;
            stream.add_data(batch).map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// The stream of a source, from its first use to the end of the test.
    fn stream(&mut self, name: &str) -> Option<MemoryStream> {
        let schema = self.job.sources.get(name)?;
        let made = || MemoryStream::new(Arc::clone(schema)).named(name);
        Some(self.streams.entry(name.to_owned()).or_insert_with(made).clone())
    }

    async fn start(&mut self, start: Start, environment: &Environment) -> std::result::Result<(), String> {
        if self.query.as_ref().is_some_and(StreamingQuery::is_active) {
            return Err("the query is running; stop() it first".to_owned());
        }
        if let Some(job) = start.job {
            self.job = job;
        }
        self.job.conf.extend(start.conf);
        let location = start.checkpoint.unwrap_or_else(|| CHECKPOINT.to_owned());
        match self.started(start.trigger, &location, environment.clone()).await {
            Ok(query) => self.query = Some(query),
            Err(error) => self.refused = Some(error),
        }
        Ok(())
    }

    async fn started(
        &mut self,
        trigger: wavetank_engine::microbatch::trigger::Trigger,
        location: &str,
        environment: Environment,
    ) -> Result<StreamingQuery> {
        let session = crate::session_builder(environment).parallelism(self.job.parallelism).build()?;
        session.streams().add_listener(Arc::new(Listener(Arc::clone(&self.reports))));
        for (name, schema) in self.job.sources.clone() {
            let stream = self.stream(&name).expect("the job has this source");
            if stream.schema() != schema {
                return Err(Error::analysis(format!("Source {name} had other columns before. Keep them.")));
            }
            let frame = session.stream_of(&name, Arc::new(stream), Default::default()).await?;
            frame.create_or_replace_temp_view(&name)?;
        }
        self.job.furnish(&session)?;
        let frame = self.job.build(&session).await?;
        self.sorts = sorts(&frame);
        frame
            .write_stream()
            .sink(Arc::new(self.collected.clone()))
            .output_mode(self.job.mode()?)
            .trigger(trigger)
            .option("checkpointLocation", location)
            .start()
            .await
    }

    async fn stop(&mut self) -> std::result::Result<(), String> {
        let query = self.running()?;
        if self.manual_clock {
            self.idle().await;
        }
        query.stop().await.map_err(|error| error.to_string())?;
        query.exception().map_or(Ok(()), |error| Err(format!("the query failed: {error}")))
    }

    async fn expect_failure(&mut self, what: &str) -> std::result::Result<(), String> {
        let error = match self.refused.take() {
            Some(error) => error,
            None => {
                let query = self.query.clone().ok_or("no query was started yet")?;
                if self.manual_clock {
                    self.idle().await;
                } else {
                    let _ = self.patiently(query.await_termination()).await;
                }
                let failed = query.exception().ok_or_else(|| format!("expected a failure with {what}; none came"))?;
                self.query = None;
                failed
            }
        };
        let fits = class_of(&error).is_some_and(|class| class == what) || error.to_string().contains(what);
        fits.then_some(()).ok_or_else(|| format!("expected a failure with {what}, got: {error}"))
    }

    /// Lets the query take everything there is; with a manual clock, everything that is due.
    async fn settle(&mut self) -> std::result::Result<(), String> {
        let query = self.query.clone().ok_or("the query is not running; start() it")?;
        let settled = match self.manual_clock {
            true => {
                self.idle().await;
                query.exception().map_or(Ok(()), Err)
            }
            false => self.patiently(query.process_all_available()).await?,
        };
        settled.map_err(|error| format!("the query failed: {error}"))
    }

    fn running(&self) -> std::result::Result<StreamingQuery, String> {
        let query = self.query.clone().ok_or("the query is not running; start() it")?;
        match query.exception() {
            Some(error) => Err(format!("the query failed: {error}")),
            None => Ok(query),
        }
    }

    /// Waits until everybody sleeps, at this moment of the clock.
    async fn idle(&self) {
        let (rings, asleep) = oneshot::channel::<()>();
        self.clock.at(self.clock.now_us(), move || drop(rings));
        let _ = asleep.await;
    }

    async fn patiently<T>(&self, wait: impl Future<Output = T>) -> std::result::Result<T, String> {
        let limit = self.clock.sleep_until_us(self.clock.now_us().saturating_add(PATIENCE_US));
        match select(pin!(wait), limit).await {
            Either::Left((value, _)) => Ok(value),
            Either::Right(_) => Err("the query did not get there within a minute of its world's time".to_owned()),
        }
    }

    /// The rows that a check is about.
    fn answer(&self, check: Check) -> Vec<Vec<Value>> {
        let Kept { batches, mode, .. } = self.collected.now();
        let last = batches.keys().next_back().copied();
        let first = match (check, mode) {
            (Check::New, _) if last <= self.checked_batch => return vec![],
            (Check::Last | Check::LastSorted, _) | (_, OutputMode::Complete) => last.unwrap_or_default(),
            (Check::New, _) => self.checked_batch.map_or(0, |checked| checked + 1),
            (Check::All | Check::Contains, _) => 0,
        };
        batches.range(first..).flat_map(|(_, rows)| cells_of(rows)).collect()
    }

    fn checked(&mut self) {
        self.checked_batch = self.collected.now().batches.keys().next_back().copied();
    }

    fn check(&mut self, check: Check, rows: &[super::Row]) -> std::result::Result<(), String> {
        let schema = self.collected.now().schema.ok_or("no query was started yet")?;
        let expected = rows.iter().map(|row| row.cells(&schema)).collect::<std::result::Result<Vec<_>, _>>();
        let expected = expected.map_err(|error| format!("the expected rows do not fit the answer: {error}"))?;
        let got = self.answer(check);
        self.checked();
        let Difference { missing, surplus } = difference(&expected, &got);
        let in_order = expected.len() == got.len() && expected.iter().zip(&got).all(|(a, b)| same_row(a, b));
        let holds = match check {
            Check::Contains => missing.is_empty(),
            Check::LastSorted => in_order,
            Check::All | Check::New | Check::Last => missing.is_empty() && surplus.is_empty(),
        };
        if holds {
            return Ok(());
        }
        let mut text = String::new();
        if check == Check::LastSorted && missing.is_empty() && surplus.is_empty() {
            text.push_str("the rows are there, but in another order\n");
        }
        text.push_str(&lines("expected", &expected));
        text.push_str(&lines("got", &got));
        if check != Check::LastSorted {
            text.push_str(&lines("missing", &missing));
        }
        if check != Check::Contains && check != Check::LastSorted {
            text.push_str(&lines("not expected", &surplus));
        }
        Err(text.trim_end().to_owned())
    }

    fn reports(&self) -> Vec<StreamingQueryProgress> {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn check_state(&mut self, expected: &StateRows) -> std::result::Result<(), String> {
        let reports = self.reports();
        let since = self.checked_reports.min(reports.len());
        self.checked_reports = reports.len();
        let last = reports.last().ok_or("no batch has run yet")?;
        let operators = last.state_operators.len();
        let sum = |of: fn(&wavetank_engine::progress::StateOperatorProgress) -> u64| -> Vec<u64> {
            let of_operator =
                |at: usize| reports[since..].iter().filter_map(|r| r.state_operators.get(at)).map(of).sum();
            (0..operators).map(of_operator).collect()
        };
        let total: Vec<u64> = last.state_operators.iter().map(|operator| operator.num_rows_total).collect();
        let found = [
            ("total", Some(&expected.total), total),
            ("updated", expected.updated.as_ref(), sum(|operator| operator.num_rows_updated)),
            ("removed", expected.removed.as_ref(), sum(|operator| operator.num_rows_removed)),
            ("dropped", expected.dropped.as_ref(), sum(|operator| operator.num_rows_dropped_by_watermark)),
        ];
        let wrong = found.iter().filter(|(_, expected, got)| expected.is_some_and(|expected| expected != got));
        let wrong: Vec<String> = wrong
            .map(|(what, expected, got)| format!("{what}: expected {:?}, got {got:?}", expected.expect("some")))
            .collect();
        if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
    }

    fn check_watermark(&self, expected: &str) -> std::result::Result<(), String> {
        let expected = time_us(expected).ok_or_else(|| format!("{expected} is not a time"))?;
        let reports = self.reports();
        let last = reports.last().ok_or("no batch has run yet")?;
        let got = last.event_time.get("watermark").and_then(|text| time_us(text));
        match got {
            Some(got) if got == expected => Ok(()),
            Some(got) => Err(format!("expected {}, got {}", time_text(expected), time_text(got))),
            None => Err("the query has no watermark".to_owned()),
        }
    }

    fn transcript(&self) -> Transcript {
        let Kept { schema, batches, .. } = self.collected.now();
        let reports = self.reports();
        let columns: Vec<String> =
            schema.iter().flat_map(|schema| schema.fields().iter().map(|field| field.name().clone())).collect();
        let batches = batches.iter().map(|(id, rows)| {
            let mut batch = Batch { id: *id, columns: columns.clone(), rows: cells_of(rows), ..Batch::default() };
            if !self.sorts {
                batch.rows.sort_by_cached_key(|row| shown_row(row));
            }
            // A batch that ran again is told as it ran first.
            if let Some(report) = reports.iter().find(|report| report.batch_id == *id) {
                batch.of_progress(report);
            }
            batch
        });
        Transcript { batches: batches.collect() }
    }
}

/// Whether a start comes before the first step that needs a query.
fn begins_with_a_start(steps: &[Action]) -> bool {
    let outside = |step: &&Action| matches!(step, Action::Add(_) | Action::Outside(..) | Action::File(..));
    let advance = |step: &&Action| matches!(step, Action::Advance(_));
    matches!(steps.iter().find(|step| !outside(step) && !advance(step)), Some(Action::Start(_)))
}

/// The class of an error, or of what caused it.
fn class_of(error: &Error) -> Option<&str> {
    match error {
        Error::StreamFailed { cause, .. } => class_of(cause),
        other => other.class(),
    }
}

/// Whether the order of a frame's rows means something.
fn sorts(frame: &DataFrame) -> bool {
    use datafusion::logical_expr::LogicalPlan;
    let mut plan = frame.plan();
    loop {
        plan = match plan {
            LogicalPlan::Sort(_) => return true,
            LogicalPlan::Projection(projection) => &projection.input,
            LogicalPlan::SubqueryAlias(alias) => &alias.input,
            LogicalPlan::Limit(limit) => &limit.input,
            _ => return false,
        };
    }
}

fn lines(what: &str, rows: &[Vec<Value>]) -> String {
    if rows.is_empty() {
        return format!("{what}: no rows\n");
    }
    let mut shown: Vec<String> = rows.iter().map(|row| format!("  {}\n", shown_row(row))).collect();
    if what != "got" && what != "expected" {
        shown.sort();
    }
    format!("{what}:\n{}", shown.concat())
}

/// Puts a file on the disk as the world outside does: whole and durable.
fn put_file(disk: &SimDisk, path: &str, content: &[u8]) {
    let outside = disk.outside();
    let path = Path::new(HOME).join(path.trim_start_matches('/'));
    let folders: Vec<&Path> = path.ancestors().skip(1).collect();
    for folder in folders.iter().rev() {
        // Most are there already.
        let _ = outside.mkdir(folder);
    }
    outside.write(&path, content).expect("the world outside has room");
    outside.fsync_file(&path).expect("the file was just written");
    folders.iter().for_each(|folder| outside.fsync_dir(folder).expect("the folders were just made"));
}
