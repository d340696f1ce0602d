//! What operators remember between batches: versioned tables of keys and values, hot in memory and cold on disk.
//!
//! ```text
//! operator.rs      OperatorState: all stores of one operator        metadata.rs  which operators and schemas a checkpoint has
//!                                                                   evolution.rs stores that come, go and change
//!     |
//! store.rs         trait StateStore: begin(N) .. get put remove scan evict .. commit() -> N+1, batch-wise, no references
//!     |
//! hot.rs           HotStateStore: the implementation that keeps the whole partition in memory
//!     |-- schema.rs rows.rs     columns <-> row bytes, and the types that files have
//!     |-- table.rs              hash map + what the running batch staged over it; arena.rs links.rs index.rs below it
//!     `-- files.rs load.rs      <v>.delta, <v>.snapshot: write, clean, load; frame.rs content.rs are their bytes
//!
//! changes.rs       what one version changed, for readers
//! partitioning.rs  which partition a key belongs to (Spark's xxhash64)      normalise.rs  -0.0 and NaN in keys
//! ```
//!
//! A store is written to by one task, batch after batch: what a batch stages can be read back in that batch, becomes
//! version N+1 by `commit`, and is gone after `abort` or another `begin`. Cost follows the batch: nothing but loading,
//! a full scan and (now and then, amortised) a snapshot is proportional to the state.
//!
//! Absent from here: when a batch commits (`microbatch/` says so), what keys and values mean (`operators/`), watermarks
//! (callers turn them into an expiry per entry), clocks, threads, and state larger than memory (a later implementation
//! of the same trait).

mod arena;
mod changes;
mod content;
mod evolution;
mod files;
mod frame;
mod hot;
mod index;
mod links;
mod load;
mod metadata;
mod normalise;
mod operator;
mod partitioning;
mod rows;
mod schema;
mod store;
mod table;

#[cfg(test)]
mod contract;
#[cfg(test)]
mod corruption;

pub use changes::{Changes, Entries, read_changes};
pub use evolution::{EndedStore, Evolution, Reconciled};
pub use files::SnapshotPolicy;
pub use hot::HotStateStore;
pub use metadata::{
    RecordedOperator, check_operators, read_operators, record_operator, record_operators, settle_operators,
};
pub use normalise::normalise_keys;
pub use operator::{DEFAULT_STORE, OperatorSpec, OperatorState, SharedStore, StoreIdentity, StoreSpec};
pub use partitioning::{partition_of, xxhash64};
pub use schema::StateSchema;
pub use store::{
    CHUNK_ROWS, CommitReport, Cursor, Found, MaintainReport, PrefixMatches, Reserved, SlotRef, StateRows, StateStore,
    StoreMetrics, Until,
};
