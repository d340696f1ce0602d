//! `StreamTest`: a job, and the steps of a test of it, written down in order and then run.
//!
//! The verbs are those of Spark's own test DSL (`spec/09` section 2). What they do is in `stage.rs`.

use std::time::Duration;

use wavetank_engine::microbatch::trigger::Trigger;
use wavetank_engine::query::StreamingQuery;
use wavetank_sim::CrashImage;

use super::job::Job;
use super::row::Row;
use super::stage::Stage;
use super::transcript::Transcript;

/// A test of a streaming job: rows in, answers compared, stops, crashes and time in between.
///
/// The job runs in a world of its own with a virtual clock, a simulated disk and a checkpoint that survives stops and
/// crashes; nothing sleeps, nothing is left behind, and the same test does the same thing every time. It is an ordinary
/// `#[test]`:
///
/// ```
/// use wavetank::testing::{NO_ROWS, StreamTest, Job, StateRows};
///
/// let job = Job::sql(
///     "SELECT window.start AS start, count(*) AS n
///      FROM STREAM events WATERMARK ts DELAY OF INTERVAL 10 SECONDS
///      GROUP BY window(ts, '5 seconds')",
/// )
/// .source("events", "ts TIMESTAMP");
///
/// StreamTest::new(job)
///     .add_data("events", ["2024-01-01 00:00:10", "2024-01-01 00:00:11"])
///     .check_new_answer(NO_ROWS) // the window is still open
///     .add_data("events", ["2024-01-01 00:00:25"])
///     .check_new_answer([("2024-01-01 00:00:10", 2)]) // the watermark is at :15
///     .stop()
///     .start()
///     .add_data("events", ["2024-01-01 00:00:14"]) // late
///     .check_new_answer(NO_ROWS)
///     .check_state(StateRows::total([1]).dropped([1]))
///     .run();
/// ```
///
/// # How the steps wait
/// * Every `check_*` first lets the query take everything there is, batches without data included. With
///   [`StreamTest::manual_clock`] it waits only until the query waits for its next trigger.
/// * The first start is implicit, as in Spark, unless a start comes before the first step that needs a query.
/// * All starts share one checkpoint, so a start after a stop is a recovery.
#[must_use = "a test that is not run tests nothing"]
pub struct StreamTest {
    pub(super) job: Job,
    pub(super) manual_clock: bool,
    pub(super) starts_at: Option<String>,
    pub(super) steps: Vec<Action>,
}

/// One step of a test.
pub(super) enum Action {
    Add(Vec<(String, Vec<Row>)>),
    Check(Check, Vec<Row>),
    CheckBy(String, AnswerTest),
    State(StateRows),
    Watermark(String),
    LastBatch(u64),
    Start(Box<Start>),
    Stop,
    Crash(CrashImage),
    Advance(Duration),
    ProcessAll,
    AwaitTermination,
    ExpectFailure(String),
    OnQuery(String, Box<dyn FnOnce(&StreamingQuery) -> bool + Send>),
    Outside(String, Box<dyn FnOnce() + Send>),
    File(String, Vec<u8>),
}

/// A user's own look at an answer: rows as cells that are shown, in the order of the sink.
pub(super) type AnswerTest = Box<dyn FnOnce(&[Vec<serde_json::Value>]) -> bool + Send>;

/// Which rows are compared with the expected ones, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Check {
    All,
    Contains,
    New,
    Last,
    LastSorted,
}

/// How a query is started: [`StreamTest::start_with`].
#[derive(Clone, Debug, Default)]
pub struct Start {
    pub(super) trigger: Trigger,
    pub(super) conf: Vec<(String, String)>,
    pub(super) checkpoint: Option<String>,
    pub(super) job: Option<Job>,
}

impl Start {
    /// As fast as possible, with the job's settings, on the checkpoint of the test.
    pub fn new() -> Self {
        Self::default()
    }

    /// When batches run.
    pub fn trigger(mut self, trigger: Trigger) -> Self {
        self.trigger = trigger;
        self
    }

    /// A setting of this start and of those after it.
    pub fn conf(mut self, key: &str, value: impl ToString) -> Self {
        self.conf.push((key.to_owned(), value.to_string()));
        self
    }

    /// Another checkpoint than the one of the test: a query without history, unless this one was used before.
    pub fn checkpoint(mut self, name: &str) -> Self {
        self.checkpoint = Some(name.to_owned());
        self
    }

    /// Another version of the job, on what the one before left behind. Its streams go on where they were.
    pub fn job(mut self, job: impl Into<Job>) -> Self {
        self.job = Some(job.into());
        self
    }
}

/// What a batch did to state: a number for every stateful operator, the last of the pipeline first.
///
/// `total` is what there is after the last batch; the others are sums over the batches since the previous
/// [`StreamTest::check_state`], because a batch with data and the batch without data after it belong together. What is
/// not given is not checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StateRows {
    pub(super) total: Vec<u64>,
    pub(super) updated: Option<Vec<u64>>,
    pub(super) removed: Option<Vec<u64>>,
    pub(super) dropped: Option<Vec<u64>>,
}

impl StateRows {
    /// So many rows in the state of each operator.
    pub fn total(rows: impl Into<Vec<u64>>) -> Self {
        Self { total: rows.into(), ..Self::default() }
    }

    /// So many were put.
    pub fn updated(mut self, rows: impl Into<Vec<u64>>) -> Self {
        self.updated = Some(rows.into());
        self
    }

    /// So many were removed.
    pub fn removed(mut self, rows: impl Into<Vec<u64>>) -> Self {
        self.removed = Some(rows.into());
        self
    }

    /// So many came too late.
    pub fn dropped(mut self, rows: impl Into<Vec<u64>>) -> Self {
        self.dropped = Some(rows.into());
        self
    }
}

impl StreamTest {
    /// A test of this job.
    pub fn new(job: impl Into<Job>) -> Self {
        Self { job: job.into(), manual_clock: false, starts_at: None, steps: vec![] }
    }

    /// The clock stands still but for [`StreamTest::advance_clock`].
    pub fn manual_clock(mut self) -> Self {
        self.manual_clock = true;
        self
    }

    /// When the test's world begins, for example `"2024-03-31 00:59:00"`; 2024-01-01 unless given.
    pub fn starting_at(mut self, time: &str) -> Self {
        self.starts_at = Some(time.to_owned());
        self
    }

    fn then(mut self, step: Action) -> Self {
        self.steps.push(step);
        self
    }

    /// Rows arrive on a stream, as one block. What arrives before the query looks lands in one batch.
    pub fn add_data<R: Into<Row>>(self, source: &str, rows: impl IntoIterator<Item = R>) -> Self {
        self.then(Action::Add(vec![(source.to_owned(), rows.into_iter().map(Into::into).collect())]))
    }

    /// Rows arrive on several streams and land in the same batch: `add_all([("left", rows![1]), ("right", rows![2])])`.
    pub fn add_all<'a>(self, arrivals: impl IntoIterator<Item = (&'a str, Vec<Row>)>) -> Self {
        self.then(Action::Add(arrivals.into_iter().map(|(source, rows)| (source.to_owned(), rows)).collect()))
    }

    /// All rows that were ever written, in any order; in complete mode those of the last batch.
    pub fn check_answer<R: Into<Row>>(self, rows: impl IntoIterator<Item = R>) -> Self {
        self.check(Check::All, rows)
    }

    /// These rows are among all that were ever written.
    pub fn check_answer_contains<R: Into<Row>>(self, rows: impl IntoIterator<Item = R>) -> Self {
        self.check(Check::Contains, rows)
    }

    /// The rows written since the last check, in any order: of several batches, if several ran.
    pub fn check_new_answer<R: Into<Row>>(self, rows: impl IntoIterator<Item = R>) -> Self {
        self.check(Check::New, rows)
    }

    /// The rows of the last batch, in any order.
    pub fn check_last_batch<R: Into<Row>>(self, rows: impl IntoIterator<Item = R>) -> Self {
        self.check(Check::Last, rows)
    }

    /// The rows of the last batch, in this order.
    pub fn check_last_batch_sorted<R: Into<Row>>(self, rows: impl IntoIterator<Item = R>) -> Self {
        self.check(Check::LastSorted, rows)
    }

    fn check<R: Into<Row>>(self, check: Check, rows: impl IntoIterator<Item = R>) -> Self {
        self.then(Action::Check(check, rows.into_iter().map(Into::into).collect()))
    }

    /// All rows that were ever written are as `holds` wants them. `about` says what that is, for the report.
    pub fn check_answer_by(
        self,
        about: &str,
        holds: impl FnOnce(&[Vec<serde_json::Value>]) -> bool + Send + 'static,
    ) -> Self {
        self.then(Action::CheckBy(about.to_owned(), Box::new(holds)))
    }

    /// The rows in state, and what the batches since the previous such check did to them.
    pub fn check_state(self, rows: StateRows) -> Self {
        self.then(Action::State(rows))
    }

    /// The watermark that the last batch ran with, as a time: `"1970-01-01 00:00:15"`, `"1970-01-01 00:00:01.999"`.
    pub fn check_watermark(self, time: &str) -> Self {
        self.then(Action::Watermark(time.to_owned()))
    }

    /// The id of the last batch.
    pub fn check_last_batch_id(self, id: u64) -> Self {
        self.then(Action::LastBatch(id))
    }

    /// Starts the query; it must not be running.
    pub fn start(self) -> Self {
        self.start_with(Start::new())
    }

    /// Starts the query with a trigger, settings, a checkpoint or another version of the job.
    pub fn start_with(self, start: Start) -> Self {
        self.then(Action::Start(Box::new(start)))
    }

    /// Stops the query; it must be running, and must not have failed.
    pub fn stop(self) -> Self {
        self.then(Action::Stop)
    }

    /// The process is killed, and all of its memory is gone; what it wrote is on the disk. The next start recovers.
    pub fn crash(self) -> Self {
        self.then(Action::Crash(CrashImage::Kill))
    }

    /// The machine loses power: nothing that was not synced survives. The next start recovers.
    pub fn power_cut(self) -> Self {
        self.then(Action::Crash(CrashImage::Strict))
    }

    /// Time passes, and what comes due happens.
    pub fn advance_clock(self, time: Duration) -> Self {
        self.then(Action::Advance(time))
    }

    /// The query takes everything there is.
    pub fn process_all_available(self) -> Self {
        self.then(Action::ProcessAll)
    }

    /// The query ends by itself: triggers `Once` and `AvailableNow`.
    pub fn await_termination(self) -> Self {
        self.then(Action::AwaitTermination)
    }

    /// The query fails, or the start just before was refused, with this error class (or with a message that has this
    /// text in it).
    pub fn expect_failure(self, class_or_text: &str) -> Self {
        self.then(Action::ExpectFailure(class_or_text.to_owned()))
    }

    /// The query (running, or the last one) is as `holds` wants it. `about` says what that is, for the report.
    pub fn assert_on_query(self, about: &str, holds: impl FnOnce(&StreamingQuery) -> bool + Send + 'static) -> Self {
        self.then(Action::OnQuery(about.to_owned(), Box::new(holds)))
    }

    /// Something happens outside the query.
    pub fn execute(self, about: &str, act: impl FnOnce() + Send + 'static) -> Self {
        self.then(Action::Outside(about.to_owned(), Box::new(act)))
    }

    /// A file appears on the simulated disk, whole, as if moved into place.
    pub fn add_file(self, path: &str, content: impl Into<Vec<u8>>) -> Self {
        self.then(Action::File(path.to_owned(), content.into()))
    }

    /// Runs the test. The transcript shows what every batch did; snapshot it, or leave it.
    ///
    /// # Panics
    /// When a step does not hold: with a report of the step, what was expected and what was got, the steps so far,
    /// the batches, and the plan.
    #[track_caller]
    pub fn run(self) -> Transcript {
        self.try_run().unwrap_or_else(|report| panic!("\n{report}"))
    }

    /// Runs the test and answers the report instead of panicking.
    pub fn try_run(self) -> Result<Transcript, String> {
        // The world brings a runtime of its own, which cannot run inside another one (`#[tokio::test]`).
        std::thread::scope(|scope| {
            let builder = std::thread::Builder::new();
            let builder = match std::thread::current().name() {
                Some(name) => builder.name(name.to_owned()),
                None => builder,
            };
            let running = builder.spawn_scoped(scope, || Stage::run(self)).expect("a thread");
            running.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}
