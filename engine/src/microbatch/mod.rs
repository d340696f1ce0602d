//! The batch loop: choose, promise, run, commit, release.
//!
//! `recover.rs` decides from the two logs alone where a run begins. It does no I/O.

pub mod recover;
