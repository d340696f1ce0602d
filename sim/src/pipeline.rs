//! The real engine as a subject: a session with every connector, and the pipeline of the scenario's script in it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use futures::FutureExt;
use futures::future::{LocalBoxFuture, join_all};
use wavetank_engine::Result;
use wavetank_engine::query::StreamingQuery;
use wavetank_engine::session::SessionBuilder;
use wavetank_sinks::MemoryTables;

use crate::oracle::{Judged, judge_by_model};
use crate::runner::Run;
use crate::scenario::{Keep, Scenario};
use crate::subject::{Life, Running, Subject};
use crate::user::GivenProvider;

/// The engine that users run, with the scenario's script.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pipeline;

/// The queries of a life.
pub struct Queries {
    queries: Vec<StreamingQuery>,
}

impl Queries {
    /// These queries as what is running.
    pub fn new(queries: Vec<StreamingQuery>) -> Self {
        Self { queries }
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
        };
        session.register_view(&view.name, &frame)?;
    }
    let run = session.run_script(queries).await?;
    Ok(Box::new(Queries::new(run.queries)))
}

/// A script in two parts, the second from its first streaming table on; all of it in the second if it is not to be cut.
fn parted(script: &str, cut: bool) -> (&str, &str) {
    let at = if cut { script.find("CREATE STREAMING TABLE").unwrap_or(script.len()) } else { 0 };
    script.split_at(at)
}

fn set(session: &wavetank_engine::session::Session, settings: &BTreeMap<String, String>) -> Result<()> {
    settings.iter().try_for_each(|(key, value)| session.set_conf(key, value))
}

impl Running for Queries {
    fn settle(&self) -> LocalBoxFuture<'_, Result<()>> {
        async move {
            for query in &self.queries {
                query.process_all_available().await?;
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
