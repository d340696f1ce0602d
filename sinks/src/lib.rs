//! Where the results of Wavetank's queries go: one module per sink, each a [`SinkProvider`] and the sink it makes.
//!
//! [`memory`] and [`noop`] are for tests and measurements, [`console`] is for people, [`foreach`] and
//! [`foreach_batch`] hand rows to the user's own code, [`mod@file`] writes folders that Spark reads exactly once. `values`
//! spells values as Spark does, for all of them.
//!
//! Absent: Kafka (it lives with its client), and every direct use of a clock, of randomness, of the file system:
//! what is not deterministic comes in through [`SinkContext::environment`](wavetank_engine::sink::SinkContext).

use std::sync::Arc;

use wavetank_engine::sink::SinkProvider;

pub mod console;
pub mod file;
pub mod foreach;
pub mod foreach_batch;
pub mod memory;
pub mod noop;
mod rows;
mod values;

pub use console::{ConsoleProvider, Terminal};
pub use file::{FileFormat, FileSinkProvider};
pub use foreach::{ForeachProvider, ForeachRow, ForeachWriter};
pub use foreach_batch::{ForeachBatch, ForeachBatchProvider, UserError};
pub use memory::{MemoryProvider, MemoryTable, MemoryTables};
pub use noop::NoopProvider;

/// The sinks that have a name: what `format(..)` and `USING` can mean. Memory tables appear in `tables`, the console
/// prints to `terminal` (usually [`stdout`]).
pub fn providers(tables: MemoryTables, terminal: Terminal) -> Vec<Arc<dyn SinkProvider>> {
    let mut providers: Vec<Arc<dyn SinkProvider>> =
        vec![Arc::new(ConsoleProvider::new(terminal)), Arc::new(MemoryProvider::new(tables)), Arc::new(NoopProvider)];
    for format in FileFormat::ALL {
        providers.push(Arc::new(FileSinkProvider::new(format)));
    }
    providers
}

/// Standard output, as a terminal for [`providers`].
pub fn stdout() -> Terminal {
    Arc::new(std::sync::Mutex::new(std::io::stdout()))
}

#[cfg(test)]
mod contract;
#[cfg(test)]
mod testing;
