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
use crate::scenario::Scenario;
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
    set(&session, &life.settings)?;
    let run = session.run_script(life.script).await?;
    Ok(Box::new(Queries::new(run.queries)))
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
