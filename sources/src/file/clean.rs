//! What is done with files that were read: nothing, delete, or move into an archive (`cleanSource`).
//!
//! It happens when the batch after theirs was logged, so always one batch late. A file that cannot be deleted or moved
//! is only logged: its rows were processed, and its name stays in the list of files seen.

use object_store::ObjectStoreExt;
use wavetank_engine::storage::{Folder, Storage};
use wavetank_engine::{Error, Result};

use crate::file::glob::Glob;
use crate::file::options::CleanSource;

/// Cleans up after a batch.
#[derive(Debug)]
pub(crate) enum Cleaner {
    Delete,
    Archive(Folder),
}

impl Cleaner {
    /// `None` when there is nothing to do.
    pub(crate) fn new(how: &CleanSource, storage: &dyn Storage, source: &str) -> Result<Option<Self>> {
        match how {
            CleanSource::Off => Ok(None),
            CleanSource::Delete => Ok(Some(Self::Delete)),
            CleanSource::Archive(location) => {
                let archive = storage.folder(location)?;
                check_archive(&archive, storage, source)?;
                Ok(Some(Self::Archive(archive)))
            }
        }
    }

    /// Deletes or moves a file.
    pub(crate) async fn clean(&self, file: &Folder) {
        let done = match self {
            Self::Delete => file.store.delete(&file.path).await,
            Self::Archive(archive) => {
                let target = archive.file(file.path.as_ref());
                file.store.rename(&file.path, &target).await
            }
        };
        match done {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
            Err(error) => tracing::warn!("Fail to clean up {} after it was read: {error}", file.uri("")),
        }
    }
}

/// Refuses an archive whose files the source could read again.
fn check_archive(archive: &Folder, storage: &dyn Storage, source: &str) -> Result<()> {
    let plain = storage.folder(source)?;
    if archive.uri_root != plain.uri_root {
        return Err(Error::analysis(format!(
            "Base archive path is located on a different file system than the source files. source path: {}, base \
             archive path: {}. Write a sourceArchiveDir on the file system of the source.",
            plain.uri(""),
            archive.uri("")
        )));
    }
    let source_parts: Vec<_> = plain.path.parts().collect();
    let archive_parts: Vec<_> = archive.path.parts().collect();
    let mut matched = true;
    for (pattern, name) in source_parts.iter().zip(&archive_parts) {
        matched &= Glob::new(pattern.as_ref())?.matches(name.as_ref());
    }
    if matched {
        return Err(Error::analysis(
            "Base archive path cannot be set to the path where archived path can possibly match with source pattern. \
             Ensure the base archive path doesn't match with source pattern in depth, where the depth is minimum of \
             depth on both paths.",
        ));
    }
    Ok(())
}
