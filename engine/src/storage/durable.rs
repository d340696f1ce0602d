//! [`DurableLocal`]: an `ObjectStore` on a file system whose acknowledged writes survive a power cut.
//!
//! A put is: make missing folders (each synced into its parent), write a temporary file next to the target, sync it,
//! give it the target's name (`rename` to replace, `link` to create, both atomic), sync the folder. So a reader sees
//! the whole old or the whole new content, and what was acknowledged is on disk. Nothing is synced twice.
//!
//! Deletes are not synced by themselves: a power cut may undo one until the next put in the same folder. Temporary
//! files of a killed process are invisible to list and are cleared away by [`DurableLocal::settle`] and by the next
//! put that takes the same temporary name.
//!
//! Absent: `PutMode::Update`, object attributes and tags (nothing on a file system holds them), and empty folders as
//! things that can be deleted.

use std::fmt::{self, Display};
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{FutureExt, StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    Attributes, CopyMode, CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload,
    ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult,
    RenameOptions, Result, UploadPart,
};

use crate::storage::Lock;
use crate::storage::disk::{Disk, STORE, TEMP_PREFIX};
use crate::storage::posix::{Posix, Stat};

/// A local file system as an object store: an acknowledged put survives a power cut, and is seen whole or not at all.
///
/// A delete may be undone by a power cut until the next put in the same folder.
#[derive(Clone, Debug)]
pub struct DurableLocal {
    disk: Arc<Disk>,
}

impl DurableLocal {
    /// A store of the files below `root` (an absolute path). `tag` must differ from that of every other process that
    /// writes to the same folders at the same time; it may repeat that of a dead one.
    pub fn new(posix: Arc<dyn Posix>, root: impl Into<PathBuf>, tag: u64) -> Self {
        Self { disk: Arc::new(Disk::new(posix, root.into(), tag)) }
    }

    /// Locks a file, which is made when missing.
    pub async fn lock(&self, location: &Path) -> Result<Lock> {
        let location = location.clone();
        self.run(move |disk| disk.lock(&disk.fs_path(&location))).await
    }

    /// Makes durable what is visible directly in this folder and the folder's own name, waits for puts of this
    /// process that are still on their way there (their caller may have gone), and removes left temporary files.
    /// A folder that is not there is fine.
    pub async fn settle(&self, folder: &Path) -> Result<()> {
        let folder = folder.clone();
        self.run(move |disk| disk.settle(&disk.fs_path(&folder))).await
    }

    /// Whether a file name is one of our temporary ones.
    pub fn is_temporary(name: &str) -> bool {
        name.starts_with(TEMP_PREFIX)
    }

    /// Runs the posix work of one operation, all of it in one blocking task where blocking would hold up others.
    #[expect(clippy::disallowed_methods, reason = "the one place that does: a disk's fsync may take long")]
    async fn run<T: Send + 'static>(&self, work: impl FnOnce(&Disk) -> Result<T> + Send + 'static) -> Result<T> {
        let disk = self.disk.clone();
        if !disk.posix.blocks() || tokio::runtime::Handle::try_current().is_err() {
            return work(&disk);
        }
        let mut task = AbortOnDrop(tokio::task::spawn_blocking(move || work(&disk)));
        match (&mut task.0).await {
            Ok(answer) => answer,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(cancelled) => Err(cancelled.into()),
            },
        }
    }
}

/// A blocking task that has not begun when its caller goes away must not begin later.
struct AbortOnDrop<T>(tokio::task::JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[async_trait]
impl ObjectStore for DurableLocal {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        if matches!(options.mode, PutMode::Update(_)) {
            return Err(not_implemented("put_opts with PutMode::Update"));
        }
        if !options.attributes.is_empty() {
            return Err(not_implemented("put_opts with attributes"));
        }
        let location = location.clone();
        self.run(move |disk| disk.put(&disk.fs_path(&location), &Bytes::from(payload), &options.mode)).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        if !options.attributes.is_empty() {
            return Err(not_implemented("put_multipart_opts with attributes"));
        }
        Ok(Box::new(Upload { store: self.clone(), location: location.clone(), parts: Vec::new() }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let wanted = location.clone();
        let (meta, range, first) = self.run(move |disk| disk.get(wanted, &options)).await?;
        let stat = Stat { len: meta.size, modified_us: meta.last_modified.timestamp_micros(), is_dir: false };
        let rest = range.start + first.len() as u64..range.end;
        let payload = if first.is_empty() || rest.is_empty() {
            stream::once(async { Ok(first) }).boxed()
        } else {
            let (store, location) = (self.clone(), location.clone());
            let later = stream::try_unfold(rest, move |rest| {
                let (store, location) = (store.clone(), location.clone());
                async move {
                    if rest.is_empty() {
                        return Ok(None);
                    }
                    let piece = rest.clone();
                    let bytes =
                        store.run(move |disk| disk.read_piece(&disk.fs_path(&location), &piece, &stat, true)).await?;
                    let rest = rest.start + bytes.len() as u64..rest.end;
                    Ok(Some((bytes, rest)))
                }
            });
            stream::once(async { Ok(first) }).chain(later).boxed()
        };
        Ok(GetResult { payload: GetResultPayload::Stream(payload), meta, range, attributes: Attributes::default() })
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        locations
            .and_then(move |location| {
                let store = store.clone();
                async move {
                    store
                        .run(move |disk| {
                            disk.delete(&location)?;
                            Ok(location)
                        })
                        .await
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (store, prefix) = (self.clone(), prefix.cloned().unwrap_or_default());
        async move { store.run(move |disk| disk.list_below(&prefix)).await }
            .map(|found| match found {
                Ok(found) => stream::iter(found).map(Ok).boxed(),
                Err(error) => stream::once(async { Err(error) }).boxed(),
            })
            .flatten_stream()
            .boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let prefix = prefix.cloned().unwrap_or_default();
        self.run(move |disk| disk.list_one_level(&prefix)).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let (from, to) = (from.clone(), to.clone());
        let mode = match options.mode {
            CopyMode::Overwrite => PutMode::Overwrite,
            CopyMode::Create => PutMode::Create,
        };
        self.run(move |disk| disk.copy(&from, &to, &mode)).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        let (from, to) = (from.clone(), to.clone());
        self.run(move |disk| disk.rename(&from, &to, &options.target_mode)).await
    }
}

impl Display for DurableLocal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{STORE}({})", self.disk.root.display())
    }
}

/// A multipart upload: the parts are kept in memory and become one put.
#[derive(Debug)]
struct Upload {
    store: DurableLocal,
    location: Path,
    parts: Vec<Bytes>,
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        self.parts.extend(data);
        futures::future::ready(Ok(())).boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let payload = PutPayload::from_iter(std::mem::take(&mut self.parts));
        self.store.put(&self.location, payload).await
    }

    async fn abort(&mut self) -> Result<()> {
        self.parts.clear();
        Ok(())
    }
}

fn not_implemented(operation: &str) -> Error {
    Error::NotImplemented { operation: operation.to_string(), implementer: STORE.to_string() }
}

#[cfg(test)]
#[path = "durable_tests.rs"]
mod tests;
