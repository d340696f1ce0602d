//! What can be done with a folder: read, create once, replace, delete and list the files in it, by name.

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{GetOptions, ObjectMeta, ObjectStoreExt, PutMode, PutOptions, PutPayload};

use crate::error::{Error, Result};
use crate::planted::planted;
use crate::storage::{Folder, uri};

/// The answer to [`Folder::put_new`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PutNew {
    /// The file holds our bytes now: written by this call, or by an earlier try whose reply was lost.
    Written,
    /// The file was there before with these other bytes, and still is.
    AlreadyThere(Bytes),
}

impl Folder {
    /// The folder with this name (or relative path, `a/b`) in this one. Nothing is created.
    pub fn child(&self, name: &str) -> Self {
        Self { store: self.store.clone(), path: self.file(name), uri_root: self.uri_root.clone() }
    }

    /// The path in the store of the file with this name (or relative path) in this folder; the empty name is the
    /// folder itself. Names are taken as they are (spaces, `%`, unicode); what no store can hold (`..`, control
    /// characters) is percent-encoded.
    pub fn file(&self, name: &str) -> Path {
        let joined = if self.path.is_root() { name.to_string() } else { format!("{}/{name}", self.path) };
        Path::parse(&joined).unwrap_or_else(|_| {
            name.split('/').filter(|part| !part.is_empty()).fold(self.path.clone(), |path, part| {
                Path::parse(format!("{path}/{part}")).unwrap_or_else(|_| path.join(part))
            })
        })
    }

    /// The URI of the file with this name in this folder (of the folder itself for the empty name), encoded as Spark
    /// encodes the paths in its logs: `file:///data/a%20b`.
    pub fn uri(&self, name: &str) -> String {
        uri::join(&self.uri_root, &self.file(name))
    }

    /// The file's bytes, all of them, or `None` when it is not there.
    pub async fn get(&self, name: &str) -> Result<Option<Bytes>> {
        let found = match self.store.get(&self.file(name)).await {
            Ok(found) => found,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let announced = found.range.end - found.range.start;
        let bytes = found.bytes().await?;
        if bytes.len() as u64 != announced && !planted("a-short-answer-is-believed") {
            // A log that seems to end early would be believed.
            return Err(Error::checkpoint(
                self.uri(name),
                format!(
                    "the storage announced {announced} bytes of it and sent {}. Start the query again; if this stays, \
                     look for what is between it and the storage.",
                    bytes.len()
                ),
            ));
        }
        Ok(Some(bytes))
    }

    /// Size and time of the file, or `None` when it is not there.
    pub async fn head(&self, name: &str) -> Result<Option<ObjectMeta>> {
        let options = GetOptions { head: true, ..GetOptions::default() };
        match self.store.get_opts(&self.file(name), options).await {
            Ok(found) => Ok(Some(found.meta)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Creates a file that must not be there yet, atomically.
    ///
    /// The storage's "already exists" may be about our own earlier try whose reply was lost (a client that retries),
    /// so the file is read back: the same bytes are [`PutNew::Written`].
    pub async fn put_new(&self, name: &str, bytes: Bytes) -> Result<PutNew> {
        let path = self.file(name);
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        let conflict = match self.store.put_opts(&path, PutPayload::from_bytes(bytes.clone()), options).await {
            Ok(_) => return Ok(PutNew::Written),
            Err(error @ object_store::Error::AlreadyExists { .. }) => error,
            Err(error) => return Err(error.into()),
        };
        match self.get(name).await? {
            Some(_) if planted("another-writer-is-taken-for-oneself") => Ok(PutNew::Written),
            Some(there) if planted("a-self-conflict-is-another-writer") => Ok(PutNew::AlreadyThere(there)),
            Some(there) if there == bytes => Ok(PutNew::Written),
            Some(there) => Ok(PutNew::AlreadyThere(there)),
            // Taken by something that is no file, or deleted since.
            None => Err(conflict.into()),
        }
    }

    /// Writes a file, atomically replacing one that is there.
    pub async fn put(&self, name: &str, bytes: Bytes) -> Result<()> {
        self.store.put(&self.file(name), PutPayload::from_bytes(bytes)).await?;
        Ok(())
    }

    /// Deletes a file; one that is not there is fine. On local storage a power cut may undo a delete until the next
    /// write to the same folder.
    pub async fn delete(&self, name: &str) -> Result<()> {
        match self.store.delete(&self.file(name)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The files directly in this folder, ordered by path; none when the folder is not there.
    pub async fn list(&self) -> Result<Vec<ObjectMeta>> {
        let mut files = self.store.list_with_delimiter(Some(&self.path)).await?.objects;
        files.sort_unstable_by(|a, b| a.location.cmp(&b.location));
        Ok(files)
    }

    /// The names of the folders directly in this folder, in order.
    pub async fn list_folders(&self) -> Result<Vec<String>> {
        let folders = self.store.list_with_delimiter(Some(&self.path)).await?.common_prefixes;
        let mut names: Vec<_> = folders.iter().filter_map(|path| path.filename()).map(String::from).collect();
        names.sort_unstable();
        Ok(names)
    }

    /// The files in this folder and in all folders below, ordered by path.
    pub async fn list_recursive(&self) -> Result<Vec<ObjectMeta>> {
        let mut files: Vec<_> = self.store.list(Some(&self.path)).try_collect().await?;
        files.sort_unstable_by(|a, b| a.location.cmp(&b.location));
        Ok(files)
    }

    /// Whether there is neither a file nor a folder in it (or the folder is not there).
    pub async fn is_empty(&self) -> Result<bool> {
        let listed = self.store.list_with_delimiter(Some(&self.path)).await?;
        Ok(listed.objects.is_empty() && listed.common_prefixes.is_empty())
    }
}
