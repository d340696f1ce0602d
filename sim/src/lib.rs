//! A seed becomes a world; the unmodified engine lives in it; what it does is watched, and a failure replays.
//!
//! ```text
//! world:      clock.rs    virtual time, idle time is skipped     world.rs    one seed's world: lives, crashes, reboots
//!             blob/       an object store, like S3               droppers.rs what is on both, for those outside
//!             effects.rs  the seam, the trace                    names.rs    its stable names
//!             disk/       a disk with un-synced effects, crash images
//!             fault.rs    what goes wrong, bound to a name       tape.rs, witness.rs   a source and a sink outside
//!             ends.rs     foreach, foreachBatch, memory and console, and who is at their far end
//! run:        scenario.rs a run written down                     subject.rs  what lives in the world
//!             pipeline.rs the engine, as that                    runner.rs   runs a scenario and judges it
//!             judge.rs    what is wrong with a run
//!             observe.rs  what readers of sinks and logs see     reports.rs  what the engine says of its batches
//!             excuse.rs   when a query may end with an error    promises.rs what the trace says of who promised a batch
//! reference:  model/      a naive interpreter of the same queries, sharing no code with the engine
//!             oracle.rs   that model against a run, batch by batch   files.rs   a run over files that change
//! itself:     plant.rs    bugs planted at the seam               bugs.rs     all of them, by name
//!             barriers.rs is each sync, and each order, needed?
//! failure:    sweep.rs    every crash point of a scenario        exhaust.rs  of these scenarios
//!             shrink.rs   makes a failing scenario small
//!             page.rs     a failure as text                      picture.rs  its timeline as SVG
//!             saved.rs    failures on disk, which run first the next time
//! many:       draw/       a seed becomes a scenario              shapes.rs   of one of these pipelines
//!             groups/     user functions over groups, by name
//!             campaign.rs many seeds, and what they reached
//! users:      user/       a user's own script in the world, with rows drawn from its schemas
//! ```
//! The engine knows nothing of this crate: it is given an `Environment`, and a simulated one differs from a real one
//! only in what is behind it. Absent from here: real time and the real disk; threads
//! only take different runs, never parts of one.

pub mod barriers;
pub mod blob;
pub mod bugs;
pub mod campaign;
pub mod clock;
mod content;
pub mod disk;
pub mod draw;
mod droppers;
pub mod effects;
pub mod ends;
mod excuse;
pub mod exhaust;
pub mod fault;
mod files;
pub mod groups;
mod inputs;
pub mod judge;
#[cfg(test)]
mod mini;
pub mod model;
mod names;
pub mod observe;
pub mod oracle;
mod outputs;
pub mod page;
mod panics;
pub mod picture;
pub mod pipeline;
pub mod plant;
mod promises;
pub mod reports;
pub mod runner;
pub mod saved;
pub mod scenario;
pub mod shapes;
pub mod shrink;
pub mod subject;
pub mod sweep;
pub mod tape;
pub mod user;
pub mod witness;
pub mod world;

pub use blob::SimBlob;
pub use clock::VirtualClock;
pub use disk::{CrashImage, SimDisk, SimPosix};
pub use effects::{Death, Effect, Effects, Outcome};
pub use fault::{Fault, Harm};
pub use judge::judge;
pub use runner::{Failure, FailureKind, Run, run};
pub use scenario::{Scenario, Step};
pub use subject::{Life, Running, Subject};
pub use world::{Ended, World};
