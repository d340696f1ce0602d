//! Where bytes become durable: `location text -> Storage -> Folder -> ObjectStore (-> DurableLocal -> Posix)`.
//!
//! Everything that the engine, its sources and its sinks keep goes through a [`Folder`]. Absent from here: what the
//! bytes mean (`checkpoint/` and `state/` know that), and any use of `std::fs` outside the real `Posix`.

use std::fmt::Debug;
use std::sync::Arc;

use object_store::ObjectStore;
use object_store::path::Path;

use crate::error::Result;

/// Turns the location texts that users write (`/data/in`, `data/in`, `file:///data/in`, `s3://bucket/in`) into folders.
pub trait Storage: Debug + Send + Sync {
    /// The folder (or file, for a source path) at this location. Nothing is created or checked.
    fn folder(&self, location: &str) -> Result<Folder>;
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

pub mod posix;
pub use posix::Posix;
