//! A seed becomes a world; the unmodified engine lives in it; what it does is watched, and a failure replays.
//!
//! ```text
//! clock.rs     virtual time: idle time is skipped            world.rs   one seed's world: lives, crashes, reboots
//! effects.rs   the seam: stable names, faults, the trace     disk/      a disk with un-synced effects, crash images
//! ```
//! The engine knows nothing of this crate: it is given an `Environment`, and a simulated one differs from a real one
//! only in what is behind it. Absent from here: threads, real time, and the real disk.

pub mod clock;
pub mod disk;
pub mod effects;
pub mod world;

pub use clock::VirtualClock;
pub use disk::{CrashImage, SimDisk, SimPosix};
pub use effects::{Death, Effect, Effects, Fault, Harm, Outcome};
pub use world::{Ended, World};
