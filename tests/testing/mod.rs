//! `wavetank::testing`, tested: the verbs, simulation, and Spark's own suites written with them.

mod example_pipeline;
mod notation;
mod simulate;
mod spark_measured;
mod stream_test;
