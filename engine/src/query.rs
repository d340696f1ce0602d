//! A running query as its user sees it: who it is, what it did last, how to wait for it and how to stop it.
//!
//! The full version has to handle: stopping at once (the batch under way is abandoned and run again by the next
//! start) and stopping after the batch under way, waiting for all data that was there at the call, waiting for the
//! end, a failure (kept, and told to everyone who waits), progress reports of batches and of idle triggers, and
//! listeners.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::future::{Either, select};
use tokio::sync::watch;

use crate::environment::Clock;
use crate::error::{Error, Result};
use crate::microbatch::driver::{Driver, Identity, Triggered};
use crate::microbatch::trigger::Trigger;
use crate::progress::StreamingQueryProgress;

/// How long a trigger as fast as possible waits when there was nothing to do (`spark.sql.streaming.pollingDelay`).
const POLLING_DELAY_US: i64 = 10_000;
/// How often an idle query reports (`spark.sql.streaming.noDataProgressEventInterval`).
const IDLE_REPORT_US: i64 = 10_000_000;

/// What a query is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamingQueryStatus {
    /// In Spark's words, for example `Waiting for data to arrive`.
    pub message: String,
    /// Whether the batch under way has data.
    pub is_data_available: bool,
    /// Whether a trigger is under way.
    pub is_trigger_active: bool,
}

/// Told about the queries of a session. Called between batches, on the query's task: answer quickly.
pub trait StreamingQueryListener: Send + Sync {
    /// A query has started.
    fn on_query_started(&self, query: &Identity) {
        let _ = query;
    }
    /// A batch has ended.
    fn on_query_progress(&self, progress: &StreamingQueryProgress) {
        let _ = progress;
    }
    /// No batch ran for a while.
    fn on_query_idle(&self, query: &Identity) {
        let _ = query;
    }
    /// A query has ended, with this error if it failed.
    fn on_query_terminated(&self, query: &Identity, error: Option<&Error>) {
        let _ = (query, error);
    }
}

/// What was asked of a query. Later ones are stronger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Wish {
    Run,
    StopAfterBatch,
    StopNow,
}

/// How far a query is, for those who wait.
#[derive(Clone, Debug, Default)]
struct Reached {
    /// Triggers begun.
    begun: u64,
    /// The newest trigger that found nothing to do.
    idle: u64,
    terminated: bool,
}

struct Shared {
    identity: Identity,
    clock: Arc<dyn Clock>,
    wish: watch::Sender<Wish>,
    reached: watch::Sender<Reached>,
    told: Mutex<Told>,
    listeners: Vec<Arc<dyn StreamingQueryListener>>,
    reports_kept: usize,
    explained: String,
}

#[derive(Default)]
struct Told {
    reports: VecDeque<Arc<StreamingQueryProgress>>,
    status: String,
    is_data_available: bool,
    is_trigger_active: bool,
    failure: Option<Arc<Error>>,
    last_report_us: Option<i64>,
}

/// A handle on a query that runs. Dropping it does not stop the query.
#[derive(Clone)]
pub struct StreamingQuery {
    shared: Arc<Shared>,
}

impl fmt::Debug for StreamingQuery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamingQuery").field("identity", &self.shared.identity).finish()
    }
}

/// What a query is started with, beside its driver.
pub(crate) struct QuerySetup {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) trigger: Trigger,
    pub(crate) listeners: Vec<Arc<dyn StreamingQueryListener>>,
    pub(crate) reports_kept: usize,
    pub(crate) explained: String,
}

impl StreamingQuery {
    /// The handle, and the future that is the query: whoever polls it drives the query.
    pub(crate) fn new(driver: Driver, setup: QuerySetup) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let shared = Arc::new(Shared {
            identity: driver.identity().clone(),
            clock: setup.clock,
            wish: watch::Sender::new(Wish::Run),
            reached: watch::Sender::new(Reached::default()),
            told: Mutex::new(Told { status: "Initializing sources".into(), ..Told::default() }),
            listeners: setup.listeners,
            reports_kept: setup.reports_kept,
            explained: setup.explained,
        });
        for listener in &shared.listeners {
            listener.on_query_started(&shared.identity);
        }
        (Self { shared: Arc::clone(&shared) }, live(shared, driver, setup.trigger))
    }

    /// The query's id: the same over restarts of one checkpoint.
    pub fn id(&self) -> &str {
        &self.shared.identity.id
    }

    /// The run's id: new at every start.
    pub fn run_id(&self) -> &str {
        &self.shared.identity.run_id
    }

    /// The query's name, if it has one.
    pub fn name(&self) -> Option<&str> {
        self.shared.identity.name.as_deref()
    }

    /// Whether the query has not ended.
    pub fn is_active(&self) -> bool {
        !self.shared.reached.borrow().terminated
    }

    /// What the query is doing.
    pub fn status(&self) -> StreamingQueryStatus {
        let told = self.shared.told();
        StreamingQueryStatus {
            message: told.status.clone(),
            is_data_available: told.is_data_available,
            is_trigger_active: told.is_trigger_active,
        }
    }

    /// The newest report, if there is one.
    pub fn last_progress(&self) -> Option<Arc<StreamingQueryProgress>> {
        self.shared.told().reports.back().cloned()
    }

    /// The newest reports, oldest first.
    pub fn recent_progress(&self) -> Vec<Arc<StreamingQueryProgress>> {
        self.shared.told().reports.iter().cloned().collect()
    }

    /// The plan that every batch runs.
    pub fn explain(&self) -> &str {
        &self.shared.explained
    }

    /// The error the query ended with, if it failed.
    pub fn exception(&self) -> Option<Error> {
        self.shared.told().failure.as_ref().map(|cause| self.failed(cause))
    }

    /// Waits until a trigger that began after this call found nothing to do. Never returns for an endless source.
    pub async fn process_all_available(&self) -> Result<()> {
        let mut reached = self.shared.reached.subscribe();
        let begun = reached.borrow().begun;
        // The channel lives as long as `self.shared`.
        let _ = reached.wait_for(|reached| reached.idle > begun || reached.terminated).await;
        self.exception().map_or(Ok(()), Err)
    }

    /// Waits until the query has ended; its failure is the answer.
    pub async fn await_termination(&self) -> Result<()> {
        let mut reached = self.shared.reached.subscribe();
        let _ = reached.wait_for(|reached| reached.terminated).await;
        self.exception().map_or(Ok(()), Err)
    }

    /// Stops the query at once and waits until it has: a batch under way is abandoned, and run again by the next start.
    pub async fn stop(&self) -> Result<()> {
        self.wish(Wish::StopNow);
        let mut reached = self.shared.reached.subscribe();
        let _ = reached.wait_for(|reached| reached.terminated).await;
        Ok(())
    }

    /// Asks the query to end after the batch under way; [`StreamingQuery::await_termination`] waits for that.
    pub fn stop_after_batch(&self) {
        self.wish(Wish::StopAfterBatch);
    }

    fn wish(&self, wish: Wish) {
        self.shared.wish.send_if_modified(|current| {
            let stronger = wish > *current;
            *current = wish.max(*current);
            stronger
        });
    }

    fn failed(&self, cause: &Arc<Error>) -> Error {
        let Identity { id, run_id, .. } = &self.shared.identity;
        Error::StreamFailed { id: id.clone(), run_id: run_id.clone(), cause: Arc::clone(cause) }
    }
}

impl Shared {
    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn say(&self, status: &str, is_trigger_active: bool) {
        let mut told = self.told();
        told.status = status.to_owned();
        told.is_trigger_active = is_trigger_active;
    }

    fn publish(&self, triggered: &Triggered) {
        let now_us = self.clock.now_us();
        match triggered {
            Triggered::Ran(report) => {
                self.keep(report, now_us);
                for listener in &self.listeners {
                    listener.on_query_progress(report);
                }
            }
            Triggered::Idle(report) => {
                let last = self.told().last_report_us;
                let due = last.is_none_or(|last| now_us.saturating_sub(last) >= IDLE_REPORT_US);
                if due {
                    self.keep(report, now_us);
                    // The very first report of a run is kept, but is no event.
                    if last.is_some() {
                        for listener in &self.listeners {
                            listener.on_query_idle(&self.identity);
                        }
                    }
                }
            }
        }
    }

    fn keep(&self, report: &StreamingQueryProgress, now_us: i64) {
        let mut told = self.told();
        told.reports.push_back(Arc::new(report.clone()));
        // Spark keeps one less than the setting says (`spec/01` section 8).
        while told.reports.len() >= self.reports_kept.max(2) {
            told.reports.pop_front();
        }
        told.last_report_us = Some(now_us);
        told.is_data_available = report.num_input_rows > 0;
    }
}

/// The life of a query, from its first trigger to its end.
async fn live(shared: Arc<Shared>, mut driver: Driver, trigger: Trigger) {
    let ended = {
        let mut wish = shared.wish.subscribe();
        let stopped = Box::pin(async move {
            let _ = wish.wait_for(|wish| *wish == Wish::StopNow).await;
        });
        match select(stopped, Box::pin(triggers(&shared, &mut driver, trigger))).await {
            // Dropping the other future abandons its batch, as a crash would: the logs know what to do.
            Either::Left(_) => Ok(()),
            Either::Right((ended, _)) => ended,
        }
    };
    let ended = ended.and(driver.stop().await);
    // The checkpoint's lock goes with the driver, before anybody is told that the query has ended.
    drop(driver);
    let failure = ended.err().filter(|error| !matches!(error, Error::Stopped)).map(Arc::new);
    {
        let mut told = shared.told();
        told.status = match &failure {
            Some(error) => format!("Terminated with exception: {error}"),
            None => "Stopped".into(),
        };
        told.is_data_available = false;
        told.is_trigger_active = false;
        told.failure = failure.clone();
    }
    for listener in &shared.listeners {
        listener.on_query_terminated(&shared.identity, failure.as_deref());
    }
    shared.reached.send_modify(|reached| reached.terminated = true);
}

/// Triggers until the trigger's kind or a wish says that it is enough.
async fn triggers(shared: &Shared, driver: &mut Driver, trigger: Trigger) -> Result<()> {
    let mut wish = shared.wish.subscribe();
    while *wish.borrow_and_update() == Wish::Run {
        let started_us = shared.clock.now_us();
        shared.reached.send_modify(|reached| reached.begun += 1);
        shared.say("Processing new data", true);
        let triggered = driver.trigger().await?;
        shared.publish(&triggered);
        let idle = matches!(triggered, Triggered::Idle(_));
        shared.say(if idle { "Waiting for data to arrive" } else { "Waiting for next trigger" }, false);
        if idle {
            shared.reached.send_modify(|reached| reached.idle = reached.begun);
        }
        let next_us = match trigger {
            Trigger::Once => return Ok(()),
            Trigger::AvailableNow if idle || driver.one_batch_only() => return Ok(()),
            Trigger::AvailableNow => continue,
            Trigger::ProcessingTime(0) if idle => shared.clock.now_us() + POLLING_DELAY_US,
            Trigger::ProcessingTime(_) => trigger.next_us(started_us),
        };
        if next_us > shared.clock.now_us() {
            // Whichever comes first: the next trigger's time, or a wish to stop.
            let wished = Box::pin(async {
                let _ = wish.wait_for(|wish| *wish != Wish::Run).await;
            });
            select(shared.clock.sleep_until_us(next_us), wished).await;
        }
    }
    Ok(())
}
