//! `wavetank::testing`, tested: the verbs, simulation, and Spark's own suites written with them.

mod example_pipeline;
mod simulate;
mod stream_test;
