//! Tests of streaming jobs for `cargo test`: step by step, in many simulated worlds, and as snapshots.
//!
//! ```text
//! Job          what is tested: a SELECT, a pipeline script, or Rust that builds a frame       job.rs
//!   ├─► StreamTest  add_data ─ check_answer ─ stop ─ start ─ crash ─ advance_clock ─ ...      stream_test.rs
//!   │        │      runs on a stage: virtual clock, simulated disk, one step at a time        stage.rs, collected.rs
//!   │        ├─► a report when a step does not hold                                           report.rs
//!   │        └─► Transcript: every batch as text, for snapshots                               transcript.rs
//!   └─► simulate()  many seeds: rows, crashes, restarts, late data            simulate.rs, subject.rs, quietly.rs
//! Row          rows as Rust values, compared as SQL values                                    row.rs
//! ```
//! Nothing here sleeps, reads the real clock or leaves files behind. `docs/TESTING.md` shows the whole way, and
//! `tests/your_job.rs` is a file to copy. Absent: real brokers and real disks; a test of those is a program of its own.

mod collected;
mod job;
mod quietly;
mod report;
mod row;
mod simulate;
mod stage;
mod stream_test;
mod subject;
mod transcript;

pub use job::Job;
pub use row::{NO_ROWS, NULL, Row};
pub use simulate::{Random, SimulatedRun, Simulation, SimulationReport, simulate};
pub use stream_test::{Start, StateRows, StreamTest};
pub use transcript::{Batch, OperatorState, Transcript};

#[doc(inline)]
pub use crate::rows;
