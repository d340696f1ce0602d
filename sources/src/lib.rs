//! The sources of Wavetank: where the rows of a stream come from, each behind the engine's `Source` trait.
//!
//! [`memory`] holds rows that a test hands in, [`rate`] and [`rate_micro_batch`] make rows up from a clock or from
//! nothing, [`mod@file`] reads the files of a folder (`format` turns their bytes into rows).
//!
//! Absent from this crate: Kafka and sockets, the batch loop (it calls, the sources answer), and every direct use of a
//! clock, of randomness or of the file system: those come through the engine's `Environment`.

use std::sync::Arc;

use wavetank_engine::source::SourceProvider;

pub mod file;
pub mod memory;
pub mod rate;
pub mod rate_micro_batch;

mod blocks;
mod format;
mod ramp;
#[cfg(test)]
mod test_world;

pub use file::{FileFormat, FileProvider};
pub use format::csv::parse_csv_lines;
pub use format::json::parse_json_lines;
pub use memory::MemoryStream;
pub use rate::RateProvider;
pub use rate_micro_batch::RateMicroBatchProvider;

/// Every source that has a short name of its own, ready to be registered in a session.
pub fn providers() -> Vec<Arc<dyn SourceProvider>> {
    let files = FileFormat::ALL.map(|format| Arc::new(FileProvider::new(format)) as Arc<dyn SourceProvider>);
    let rates: [Arc<dyn SourceProvider>; 2] = [Arc::new(RateProvider), Arc::new(RateMicroBatchProvider)];
    files.into_iter().chain(rates).collect()
}
