//! The state of a checkpoint as tables: `statestore` and `state-metadata`, with Spark's columns and options.
//!
//! ```text
//! options.rs   what the user asked for: batch, operator, store or side of a join, changes
//! store.rs     statestore: key, value, partition_id; or batch_id, change_type, key, value, partition_id
//! joins.rs     the stores of a join under Spark's four names
//! variables.rs the variables and timers of transformWithState
//! metadata.rs  state-metadata: one row a store
//! ```
//! Readers own nothing: no lock is taken, nothing is written or made durable, and what a running query does meanwhile is
//! not seen (it may delete the files of an old batch while they are read; that is an error here, never there).
//! Absent: streams of state.

use std::sync::Arc;

use crate::checkpoint::committed_batches;
use crate::environment::Environment;
use crate::error::{Error, Result};
use crate::options::Options;
use crate::source::SourceProvider;
use crate::storage::Folder;

mod joins;
mod metadata;
mod options;
mod store;
mod variables;

/// The formats of this folder; every session has them.
pub(crate) fn providers() -> Vec<Arc<dyn SourceProvider>> {
    vec![Arc::new(store::StateStoreProvider), Arc::new(metadata::StateMetadataProvider)]
}

/// The checkpoint's folder: option `path`, or `checkpointLocation`.
fn checkpoint_folder(options: &Options, environment: &Environment) -> Result<Folder> {
    let path = options.get("path").or_else(|| options.get("checkpointLocation")).ok_or_else(|| {
        Error::analysis_class(
            "STDS_REQUIRED_OPTION_UNSPECIFIED",
            "'path' must be specified. Give the checkpoint's folder as option 'path'.",
        )
    })?;
    environment.storage.folder(path)
}

/// The first and the last committed batch whose entry is there.
async fn committed(folder: &Folder) -> Result<(u64, u64)> {
    committed_batches(folder).await?.ok_or_else(|| {
        Error::checkpoint_class(
            "STDS_COMMITTED_BATCH_UNAVAILABLE",
            folder.uri(""),
            "No committed batch found. Ensure that the query has run and committed any microbatch before stopping, and \
             that this is its checkpointLocation.",
        )
    })
}

fn only_static(name: &str) -> Error {
    Error::analysis(format!(
        "Source '{name}' cannot be read as a stream. Read it with session.read(), or CREATE TABLE t USING {name} and SELECT \
         .. FROM t."
    ))
}
