//! Where bytes become durable: `location text -> Storage -> Folder -> ObjectStore (-> DurableLocal -> Posix)`.
//!
//! Everything that the engine, its sources and its sinks keep goes through a [`Folder`]. Local paths go through
//! [`DurableLocal`], which syncs what it acknowledges; other schemes go through whatever `object_store` offers for
//! them, whose acknowledged objects are durable by themselves, behind a [`PatientStore`] that waits out what passes. Two things that object stores do not have are asked of
//! [`Storage`]: a lock that dies with its holder, and [`Storage::settle`].
//!
//! ```text
//! mod.rs         Storage, Folder: the seam                  folder.rs      what a Folder can do
//! local.rs       location texts -> folders                  uri.rs         paths <-> the URIs Spark writes
//! durable.rs     ObjectStore over Posix, with fsync         disk.rs        its operations as posix calls in order
//! posix.rs       the calls that needs                       real_posix.rs  those calls on a real disk
//! patient.rs     remote stores: retries, whole answers      contract.rs    one test suite for every implementation
//! ```
//!
//! Absent from here: what the bytes mean (`checkpoint/` and `state/` know that), any use of `std::fs` outside
//! `real_posix.rs`, and locks on remote stores: two runs on one checkpoint are found out by the logs' conditional puts.

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use object_store::ObjectStore;
use object_store::path::Path;

use crate::error::Result;

pub mod contract;
mod disk;
mod durable;
mod folder;
mod local;
mod patient;
pub mod posix;
mod real_posix;
pub mod uri;

pub use durable::DurableLocal;
pub use folder::PutNew;
pub use local::LocalStorage;
pub use patient::PatientStore;
pub use posix::{LockGuard, Posix};
pub use real_posix::RealPosix;

/// Turns the location texts that users write (`/data/in`, `data/in`, `file:///data/in`, `s3://bucket/in`) into folders.
#[async_trait]
pub trait Storage: Debug + Send + Sync {
    /// The folder (or file, for a source path) at this location. Nothing is created or checked. The answer of
    /// [`Folder::uri`] is a location too, and leads back to the same place.
    fn folder(&self, location: &str) -> Result<Folder>;

    /// Asks for this folder exclusively, against every other holder in this process and in others. The folder is
    /// made when it is missing. The lock ends when its guard is dropped or its process dies, however it dies.
    async fn lock(&self, folder: &Folder) -> Result<Lock> {
        let _ = folder;
        Ok(Lock::Unsupported)
    }

    /// Makes durable what can be seen directly in this folder now, and clears away what an unfinished write left.
    ///
    /// Who acts on what it found in a folder (a log that decides how a query goes on) calls this before it looks: the
    /// process that wrote an entry may have been killed after the entry became visible and before its name was
    /// synced; the entry is then seen now, but gone after a power cut. Stores whose visible objects are durable have
    /// nothing to do.
    async fn settle(&self, folder: &Folder) -> Result<()> {
        let _ = folder;
        Ok(())
    }
}

/// The answer to [`Storage::lock`].
#[derive(Debug)]
pub enum Lock {
    /// It is ours until the guard is dropped.
    Held(Box<dyn LockGuard>),
    /// Somebody else has it.
    Taken,
    /// This kind of storage knows no locks (object stores).
    Unsupported,
}

/// A place in an object store: a store and a prefix. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Folder {
    /// The store that holds the folder.
    pub store: Arc<dyn ObjectStore>,
    /// The folder's path in the store.
    pub path: Path,
    /// How the folder's URI starts: `uri_root` + `/` + a path of the store is a URI that others can open, for example
    /// `file://` for local files.
    pub uri_root: String,
}
