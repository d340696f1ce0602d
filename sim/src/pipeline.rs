//! The real engine as a subject: a session with every connector, and the pipeline of the scenario's script in it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use futures::FutureExt;
use futures::future::{LocalBoxFuture, join_all, select};
use wavetank_engine::Result;
use wavetank_engine::environment::Clock;
use wavetank_engine::progress::StreamingQueryProgress;
use wavetank_engine::query::StreamingQuery;
use wavetank_engine::session::SessionBuilder;
use wavetank_sinks::MemoryTables;

use crate::groups::Timing;
use crate::oracle::{Judged, judge_by_model};
use crate::runner::Run;
use crate::scenario::{Keep, Scenario, View};
use crate::subject::{Life, Running, Subject};
use crate::user::GivenProvider;

/// The engine that users run, with the scenario's script.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pipeline;

/// The queries of a life.
pub struct Queries {
    queries: Vec<StreamingQuery>,
    /// For those that run a batch at every trigger, with data or without.
    clock: Option<Arc<dyn Clock>>,
}

impl Queries {
    /// These queries as what is running.
    pub fn new(queries: Vec<StreamingQuery>) -> Self {
        Self { queries, clock: None }
    }
}

impl Subject for Pipeline {
    fn start<'a>(&'a self, life: Life<'a>) -> LocalBoxFuture<'a, Result<Box<dyn Running>>> {
        start(life).boxed_local()
    }

    fn oracle(&self, scenario: &Scenario, run: &Run) -> Judged {
        judge_by_model(scenario, run)
    }
}

async fn start(life: Life<'_>) -> Result<Box<dyn Running>> {
    let is_clocked = |view: &View| matches!(view.keep, Keep::Groups(job) if job.timing() == Timing::Clock);
    let clock = life.views.iter().any(is_clocked).then(|| Arc::clone(&life.environment.clock));
    let nowhere = Arc::new(Mutex::new(std::io::sink()));
    let session = SessionBuilder::new(life.environment)
        .sources(wavetank_sources::providers())
        .sources(life.sources)
        .sources([Arc::new(GivenProvider) as _])
        .sinks(wavetank_sinks::providers(MemoryTables::new(), nowhere))
        .sinks(life.sinks)
        .build()?;
    session.streams().add_listener(life.reports.listener());
    set(&session, &life.settings)?;
    let (tables, queries) = parted(life.script, !life.views.is_empty());
    session.run_script(tables).await?;
    for view in life.views {
        let columns: Vec<&str> = view.columns.iter().map(String::as_str).collect();
        let from = session.sql(format!("SELECT * FROM STREAM {}", view.from).as_str()).await?;
        let frame = match view.keep {
            Keep::DropDuplicates => from.drop_duplicates(&columns)?,
            Keep::DropDuplicatesWithinWatermark => from.drop_duplicates_within_watermark(&columns)?,
            Keep::Groups(job) => job.over(&session, &from, &columns).await?,
        };
        session.register_view(&view.name, &frame)?;
    }
    let run = session.run_script(queries).await?;
    Ok(Box::new(Queries { queries: run.queries, clock }))
}

/// A script in two parts, the second from its first streaming table on; all of it in the second if it is not to be cut.
fn parted(script: &str, cut: bool) -> (&str, &str) {
    let at = if cut { script.find("CREATE STREAMING TABLE").unwrap_or(script.len()) } else { 0 };
    script.split_at(at)
}

fn set(session: &wavetank_engine::session::Session, settings: &BTreeMap<String, String>) -> Result<()> {
    settings.iter().try_for_each(|(key, value)| session.set_conf(key, value))
}

/// A query that runs a batch at every trigger is never idle: it has taken all there is when a batch that began after now
/// had no data.
async fn settle_by_clock(query: &StreamingQuery, clock: &dyn Clock) -> Result<()> {
    let last = |query: &StreamingQuery| query.last_progress().map_or(-1, |report| report.batch_id as i64);
    // One may be under way that asked its sources before now.
    let under_way = last(query) + 1;
    let without_data = async {
        loop {
            // Not by its rows: a file may have none.
            let read_nothing = |report: &StreamingQueryProgress| {
                report.sources.iter().all(|source| source.start_offset == source.end_offset)
            };
            let report = query.last_progress();
            if report.is_some_and(|report| report.batch_id as i64 > under_way && read_nothing(&report)) {
                return Ok(());
            }
            clock.sleep_until_us(clock.now_us() + 100_000).await;
        }
    };
    select(Box::pin(query.process_all_available()), Box::pin(without_data)).await.factor_first().0
}

impl Running for Queries {
    fn settle(&self) -> LocalBoxFuture<'_, Result<()>> {
        async move {
            for query in &self.queries {
                match &self.clock {
                    None => query.process_all_available().await?,
                    Some(clock) => settle_by_clock(query, clock.as_ref()).await?,
                }
            }
            Ok(())
        }
        .boxed_local()
    }

    fn stop(&self) -> LocalBoxFuture<'_, Result<()>> {
        async move {
            self.queries.iter().for_each(StreamingQuery::stop_after_batch);
            join_all(self.queries.iter().map(StreamingQuery::await_termination)).await.into_iter().collect()
        }
        .boxed_local()
    }
}
