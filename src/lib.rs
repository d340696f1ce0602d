//! Spark Structured Streaming in Rust, inside a deterministic simulator.
//!
//! This crate is the front door: a [`Session`] with all connectors registered, and the names that programs need.
//! The engine is `wavetank-engine`, the connectors are `wavetank-sources` and `wavetank-sinks`, the simulator is
//! [`sim`].
//!
//! ```no_run
//! use wavetank::prelude::*;
//!
//! # async fn run() -> wavetank::Result<()> {
//! let session = wavetank::session()?;
//! session
//!     .read_stream()
//!     .format("rate-micro-batch")
//!     .option("rowsPerBatch", 3)
//!     .load()
//!     .await?
//!     .where_("value % 2 = 0")?
//!     .write_stream()
//!     .format("console")
//!     .trigger(Trigger::Once)
//!     .start()
//!     .await?
//!     .await_termination()
//!     .await
//! # }
//! ```

use std::path::PathBuf;

pub use wavetank_engine as engine;
pub use wavetank_engine::environment::Environment;
pub use wavetank_engine::groups;
pub use wavetank_engine::session::{Session, SessionBuilder};
pub use wavetank_engine::{Error, Result};
pub use wavetank_sim as sim;
pub use wavetank_sinks as sinks;
pub use wavetank_sources as sources;

pub mod testing;

/// The names that most programs need.
pub mod prelude {
    pub use wavetank_engine::dataframe::{DataFrame, GroupedData};
    pub use wavetank_engine::microbatch::trigger::Trigger;
    pub use wavetank_engine::query::{StreamingQuery, StreamingQueryListener};
    pub use wavetank_engine::session::Session;
    pub use wavetank_engine::sink::{OutputMode, SaveMode};
    pub use wavetank_sinks::MemoryTables;
    pub use wavetank_sources::MemoryStream;
}

/// A session on this machine: real clock, real disk (relative paths start at the working directory), all connectors,
/// one partition per core.
pub fn session() -> Result<Session> {
    session_builder(Environment::real(working_directory())).parallelism(cores()).build()
}

/// A session in any environment, with all connectors; console output goes to stdout.
pub fn session_builder(environment: Environment) -> SessionBuilder {
    SessionBuilder::new(environment)
        .sources(sources::providers())
        .sinks(sinks::providers(sinks::MemoryTables::default(), sinks::stdout()))
}

fn working_directory() -> PathBuf {
    std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"))
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The README's Rust is compiled and run with the documentation tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
