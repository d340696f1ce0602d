//! The micro-batch engine of Wavetank: a plan becomes micro-batches, a micro-batch becomes a commit.
//!
//! The folders stand in the order in which data meets them: [`session`] and [`dataframe`] build a logical plan,
//! [`sql`] and [`functions`] give it Spark's language, [`plan`] turns it into a physical plan once per query,
//! [`microbatch`] runs that plan once per batch, [`operators`] are its nodes that remember, [`state`] is what they
//! remember, [`checkpoint`] is the log of what was promised and done, [`storage`] is where bytes become durable.
//!
//! Absent from this crate: connectors (they live in `wavetank-sources` and `wavetank-sinks`), and every direct use of
//! a clock, of randomness, of the file system, of threads. What is not deterministic comes in through
//! [`environment::Environment`].

pub mod checkpoint;
pub mod clock;
pub mod conf;
pub mod dataframe;
pub mod environment;
pub mod error;
pub mod frame_writer;
pub mod functions;
pub mod groups;
mod inspect;
pub mod manager;
pub mod microbatch;
pub mod operators;
pub mod options;
pub mod plan;
pub mod planted;
pub mod progress;
pub mod query;
pub mod reader;
mod rows;
pub mod script;
pub mod session;
pub mod sink;
pub mod source;
pub mod sql;
mod start;
pub mod state;
pub mod storage;
mod verbs;
pub mod writer;

pub use error::{Error, Result};
pub use verbs::PivotedData;
