//! A query's batches, one after the other, each exactly once.
//!
//! ```text
//! choose   ask each source how far it can go, cut to its limits       choose.rs    nothing durable yet
//! promise  offsets/N: this batch reads exactly these ranges           promise.rs   written before anything runs
//! release  sources may forget what batch N-1 read                     promise.rs
//! run      scan -> ... -> stateful operators -> sink's staged output  execute.rs   state staged as version N+1
//! commit   state version N+1, then the sink makes batch N visible     commit.rs    sink.commit(N) twice = once
//! done     commits/N with the watermark of the next batch             commit.rs
//! ```
//! [`driver::Driver::trigger`] is these lines as code; `recover.rs` answers a crash between any two of them, from the
//! two logs alone. Absent from here: when a trigger fires (`query.rs` does, by the rules of `trigger.rs`), tasks and
//! threads, and what the rows mean.

mod choose;
mod commit;
pub mod driver;
mod execute;
mod measure;
mod promise;
pub mod recover;
pub mod trigger;
pub mod watermarks;
