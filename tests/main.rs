//! The tests of the whole product, in one program: `cargo test --test all restarts::` runs those of one file.
//!
//! The conformance cases have a program of their own (`conformance.rs`), with one test a case.

mod aggregates;
mod duplicates_and_limits;
mod examples;
mod fuzz_corpus;
mod group_state;
mod grouping_sets;
mod matrix;
mod restarts;
mod smoke;
mod state_tables;
mod static_writes;
mod testing;
mod tidy;
mod transform_with_state;
mod unsupported;
mod user_functions;
mod windows;
mod your_job;

#[allow(dead_code, reason = "the conformance cases need more of it")]
mod support;
