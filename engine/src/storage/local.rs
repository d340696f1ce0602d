//! [`Storage`] for the location texts that users write: local paths over any [`Posix`], other schemes over registered stores.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use object_store::ObjectStore;
use object_store::path::Path;

use crate::clock::SystemClock;
use crate::environment::Clock;
use crate::error::{Error, Result};
use crate::storage::durable::DurableLocal;
use crate::storage::{Folder, Lock, PatientStore, Posix, Storage, uri};

/// How URIs of local files start, before the path's own `/`.
const LOCAL_ROOT: &str = "file://";
/// The file in a locked folder that carries the lock. It stays there, empty; only the lock on it means something.
const LOCK_FILE: &str = ".wavetank.lock";

/// Local paths, and the schemes that were given a store.
///
/// | location | meaning |
/// |---|---|
/// | `/data/a b` | the absolute path, taken literally |
/// | `data/in`, `./in`, `../in` | relative to the base directory |
/// | `file:///data/a%20b`, `file:/data/a%20b` | the absolute path `/data/a b`: a URI is percent-decoded |
/// | `s3://bucket/in` | what [`LocalStorage::with_store`] registered for `s3://bucket` or `s3` |
#[derive(Clone, Debug)]
pub struct LocalStorage {
    base_dir: String,
    local: Arc<DurableLocal>,
    stores: BTreeMap<String, Remote>,
    clock: Arc<dyn Clock>,
}

/// A registered store.
#[derive(Clone, Debug)]
struct Remote {
    store: Arc<dyn ObjectStore>,
    /// Whether its passing faults are waited out.
    patient: bool,
}

impl LocalStorage {
    /// Local storage over `posix`. Relative locations start at `base_dir`, an absolute path. `tag` keeps the
    /// temporary files of this process apart from those of every other process that is writing at the same time.
    pub fn new(posix: Arc<dyn Posix>, base_dir: impl Into<PathBuf>, tag: u64) -> Self {
        let base_dir: PathBuf = base_dir.into();
        Self {
            base_dir: base_dir.to_string_lossy().into_owned(),
            local: Arc::new(DurableLocal::new(posix, "/", tag)),
            stores: BTreeMap::new(),
            clock: Arc::new(SystemClock::new()),
        }
    }

    /// The clock that waits for remote stores are measured by; the machine's own without this.
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Registers a store for a scheme (`s3`: every authority) or for one authority of it (`s3://bucket`). The store's
    /// paths are what follows the authority. What fails for a while is asked again ([`PatientStore`]).
    pub fn with_store(self, scheme: impl Into<String>, store: Arc<dyn ObjectStore>) -> Self {
        self.register(scheme.into(), Remote { store, patient: true })
    }

    /// As [`LocalStorage::with_store`], for a store whose every error is to be believed at once.
    pub fn with_impatient_store(self, scheme: impl Into<String>, store: Arc<dyn ObjectStore>) -> Self {
        self.register(scheme.into(), Remote { store, patient: false })
    }

    fn register(mut self, scheme: String, remote: Remote) -> Self {
        self.stores.insert(scheme.trim_end_matches('/').to_string(), remote);
        self
    }

    fn local_folder(&self, absolute: &str, location: &str) -> Result<Folder> {
        let path = Path::parse(normalized(absolute)).map_err(|error| unusable(location, &error.to_string()))?;
        Ok(Folder { store: self.local.clone(), path, uri_root: LOCAL_ROOT.to_string() })
    }

    fn file_uri(&self, rest: &str, location: &str) -> Result<Folder> {
        let path = match rest.strip_prefix("//") {
            Some(after) => after.strip_prefix("localhost").filter(|p| p.starts_with('/')).unwrap_or(after),
            None => rest,
        };
        if !path.starts_with('/') {
            return Err(unusable(
                location,
                "a file URI names no other machine and no relative path; write file:///absolute/path",
            ));
        }
        let decoded = uri::decode(path)
            .ok_or_else(|| unusable(location, "its percent-encoded bytes are not UTF-8; write the path itself"))?;
        self.local_folder(&decoded, location)
    }

    fn remote_folder(&self, scheme: &str, rest: &str, location: &str) -> Result<Folder> {
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let root = format!("{scheme}://{authority}");
        let Some(remote) = self.stores.get(&root).or_else(|| self.stores.get(scheme)) else {
            let known: Vec<_> = self.stores.keys().map(|name| format!(", {name}")).collect();
            return Err(Error::analysis(format!(
                "No storage is registered for '{location}'. Known are local paths, file:/{}. Write one of these, or \
                 register an object store for '{scheme}'.",
                known.concat()
            )));
        };
        let decoded = uri::decode(path)
            .ok_or_else(|| unusable(location, "its percent-encoded bytes are not UTF-8; write the path itself"))?;
        let path = Path::parse(normalized(&decoded)).map_err(|error| unusable(location, &error.to_string()))?;
        let store: Arc<dyn ObjectStore> = match remote.patient {
            true => Arc::new(PatientStore::new(remote.store.clone(), self.clock.clone())),
            false => remote.store.clone(),
        };
        Ok(Folder { store, path, uri_root: root })
    }
}

#[async_trait]
impl Storage for LocalStorage {
    fn folder(&self, location: &str) -> Result<Folder> {
        if location.trim().is_empty() {
            return Err(Error::analysis("Can not create a Path from an empty string. Write a path."));
        }
        match scheme(location) {
            Some(("file", rest)) => self.file_uri(rest, location),
            Some((scheme, rest)) if rest.starts_with("//") => self.remote_folder(scheme, &rest[2..], location),
            _ if location.starts_with('/') => self.local_folder(location, location),
            _ => self.local_folder(&format!("{}/{location}", self.base_dir), location),
        }
    }

    async fn lock(&self, folder: &Folder) -> Result<Lock> {
        if folder.uri_root != LOCAL_ROOT {
            return Ok(Lock::Unsupported);
        }
        Ok(self.local.lock(&folder.file(LOCK_FILE)).await?)
    }

    async fn settle(&self, folder: &Folder) -> Result<()> {
        if folder.uri_root == LOCAL_ROOT {
            self.local.settle(&folder.path).await?;
        }
        Ok(())
    }
}

/// Splits `scheme:rest`; a text without a scheme (also a path with a colon in it) gives `None`.
fn scheme(location: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = location.split_once(':')?;
    let starts_well = scheme.starts_with(|c: char| c.is_ascii_alphabetic());
    let goes_on_well = scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'));
    (starts_well && goes_on_well).then_some((scheme, rest))
}

/// Without `.`, `..`, empty parts and the outer slashes, as Hadoop's `Path` does it: by text, not by following links.
fn normalized(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

fn unusable(location: &str, why: &str) -> Error {
    Error::analysis(format!("The location '{location}' cannot be used: {why}."))
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;

    use super::*;
    use crate::storage::RealPosix;

    fn storage() -> LocalStorage {
        LocalStorage::new(Arc::new(RealPosix), "/base/dir", 1)
            .with_store("mem", Arc::new(InMemory::new()))
            .with_store("s3://bucket/", Arc::new(InMemory::new()))
    }

    #[test]
    fn locations_lead_to_folders_and_uris_lead_back() {
        for (location, path, uri) in [
            ("/data/in", "data/in", "file:///data/in"),
            ("/data//in/", "data/in", "file:///data/in"),
            ("data/in", "base/dir/data/in", "file:///base/dir/data/in"),
            ("./a/../b", "base/dir/b", "file:///base/dir/b"),
            ("../../../..", "", "file:///"),
            ("/", "", "file:///"),
            ("a:b/c", "base/dir/a:b/c", "file:///base/dir/a:b/c"),
            ("2020-01-01T00:00/x", "base/dir/2020-01-01T00:00/x", "file:///base/dir/2020-01-01T00:00/x"),
            ("file:/data/in", "data/in", "file:///data/in"),
            ("file:///data/a%20b", "data/a b", "file:///data/a%20b"),
            ("file://localhost/x", "x", "file:///x"),
            ("/data/a b/100%/ü#?", "data/a b/100%/ü#?", "file:///data/a%20b/100%25/ü%23%3F"),
            ("/data/a%20b", "data/a%20b", "file:///data/a%2520b"),
            ("mem://any/x/y", "x/y", "mem://any/x/y"),
            ("s3://bucket/x%20y", "x y", "s3://bucket/x%20y"),
            ("s3://bucket", "", "s3://bucket/"),
        ] {
            let folder = storage().folder(location).unwrap();
            assert_eq!((folder.path.as_ref(), folder.uri("").as_str()), (path, uri), "{location}");
            let back = storage().folder(&folder.uri("")).unwrap();
            assert_eq!((back.path, back.uri_root), (folder.path, folder.uri_root), "{location}");
        }
    }

    #[test]
    fn locations_that_cannot_be_used_are_explained() {
        for (location, why) in [
            ("", "empty string"),
            ("s3://other/x", "Known are local paths, file:/, mem, s3://bucket."),
            ("file://host/x", "names no other machine"),
            ("file:x", "no relative path"),
            ("/a\u{1}b", "cannot be used"),
            ("file:///%ff", "not UTF-8"),
        ] {
            let error = storage().folder(location).unwrap_err().to_string();
            assert!(error.contains(why), "{location}: {error}");
        }
    }
}
