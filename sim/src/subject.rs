//! What lives in the world: something that is started from a script, takes all there is, and stops.
//!
//! The engine is one subject (`pipeline.rs`); tests of the simulator bring small ones of their own, with bugs in them.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::LocalBoxFuture;
use wavetank_engine::Result;
use wavetank_engine::environment::Environment;
use wavetank_engine::sink::SinkProvider;
use wavetank_engine::source::SourceProvider;

use crate::oracle::Judged;
use crate::reports::Reports;
use crate::runner::Run;
use crate::scenario::{Scenario, View};

/// A kind of process that can be started in a world.
pub trait Subject {
    /// Starts it, in one life: what is running afterwards goes on until it is stopped or dies.
    fn start<'a>(&'a self, life: Life<'a>) -> LocalBoxFuture<'a, Result<Box<dyn Running>>>;

    /// What a model of this kind of process says about a finished run.
    fn oracle(&self, scenario: &Scenario, run: &Run) -> Judged {
        let _ = (scenario, run);
        Judged::Beyond("there is no model of it".to_owned())
    }
}

/// What is running in one life of the process.
pub trait Running {
    /// Returns when all input there is has been taken, or with the error that ended the query.
    fn settle(&self) -> LocalBoxFuture<'_, Result<()>>;

    /// Stops gracefully: what runs is finished.
    fn stop(&self) -> LocalBoxFuture<'_, Result<()>>;
}

/// What a life begins with.
pub struct Life<'a> {
    /// 0 is the first.
    pub number: u32,
    /// Clock, storage, entropy of this life.
    pub environment: Environment,
    /// The pipeline.
    pub script: &'a str,
    /// Views to make before the pipeline's streaming tables.
    pub views: &'a [View],
    /// Where progress reports go.
    pub reports: Reports,
    /// Settings of this life.
    pub settings: BTreeMap<String, String>,
    /// The sources outside the process: tapes.
    pub sources: Vec<Arc<dyn SourceProvider>>,
    /// The sinks outside the process: witnesses.
    pub sinks: Vec<Arc<dyn SinkProvider>>,
}
