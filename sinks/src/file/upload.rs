//! Bytes become one file in the store: small files in one put, large ones part by part in bounded memory.

use std::sync::{Arc, Mutex, PoisonError};

use object_store::{MultipartUpload, ObjectStoreExt, PutPayload};
use wavetank_engine::checkpoint::SinkFile;
use wavetank_engine::environment::Entropy;
use wavetank_engine::storage::{Folder, PutNew};
use wavetank_engine::{Error, Result};

use super::abandoned::Mark;

/// Size of all parts but the last; object stores want at least 5 MiB.
const PART_BYTES: usize = 8 << 20;

/// The name of a data file: `k=v/part-00000-<uuid>.c000.json`.
///
/// The uuid is drawn for the batch, the place and the attempt, and begins with the batch's [`Mark`]. A name that is taken by other bytes is left alone and
/// the next attempt's name is used: a file that a committed entry may point to is never replaced, even when two runs
/// that should not both be there draw the same random numbers. A re-run that writes the same bytes finds its own
/// orphan and adopts it.
pub(crate) struct FileName {
    /// Random names for this batch.
    pub entropy: Entropy,
    /// What the names of this batch share.
    pub mark: Mark,
    /// The folder of the partition values, or the empty text.
    pub partition: Arc<str>,
    /// The input partition.
    pub task: usize,
    /// What follows the uuid.
    pub ending: Arc<str>,
}

impl FileName {
    fn attempt(&self, number: u64) -> String {
        let Self { partition, task, .. } = self;
        let uuid = self.mark.put_on(self.entropy.uuid(&format!("{partition}/{task} attempt {number}")));
        let (slash, dash) = if partition.is_empty() { ("", "-") } else { ("/", ".") };
        format!("{partition}{slash}part-{task:05}-{uuid}{dash}c000{}", self.ending)
    }
}

/// A file that is being written.
pub(crate) struct Upload {
    folder: Folder,
    name: FileName,
    /// Bytes that are not in a part yet.
    buffer: Vec<u8>,
    size: u64,
    multipart: Option<(String, Box<dyn MultipartUpload>)>,
}

impl Upload {
    /// A file in `folder`; nothing is there before [`Upload::finish`].
    pub(crate) fn new(folder: Folder, name: FileName) -> Self {
        Self { folder, name, buffer: Vec::new(), size: 0, multipart: None }
    }

    /// Appends bytes.
    pub(crate) async fn push(&mut self, bytes: Vec<u8>) -> Result<()> {
        self.size += bytes.len() as u64;
        if self.buffer.is_empty() {
            self.buffer = bytes;
        } else {
            self.buffer.extend_from_slice(&bytes);
        }
        while self.buffer.len() > PART_BYTES {
            let rest = self.buffer.split_off(PART_BYTES);
            let part = std::mem::replace(&mut self.buffer, rest);
            self.put_part(part).await?;
        }
        Ok(())
    }

    async fn put_part(&mut self, part: Vec<u8>) -> Result<()> {
        let (_, upload) = match &mut self.multipart {
            Some(begun) => begun,
            none => {
                let mut attempt = 0;
                let mut name = self.name.attempt(attempt);
                while self.folder.head(&name).await?.is_some() {
                    attempt += 1;
                    name = self.name.attempt(attempt);
                }
                let upload = self.folder.store.put_multipart(&self.folder.file(&name)).await?;
                none.insert((name, upload))
            }
        };
        Ok(upload.put_part(PutPayload::from(part)).await?)
    }

    /// Makes the file durable under its name, notes the name in `written`, and answers the file's entry.
    pub(crate) async fn finish(mut self, written: &Mutex<Vec<String>>) -> Result<SinkFile> {
        let name = match self.multipart.is_some() {
            true => self.put_last().await?,
            false => self.put_whole().await?,
        };
        written.lock().unwrap_or_else(PoisonError::into_inner).push(name.clone());
        let uri = self.folder.uri(&name);
        match self.folder.head(&name).await? {
            Some(meta) if meta.size == self.size => {
                Ok(SinkFile::added(uri, meta.size, meta.last_modified.timestamp_millis()))
            }
            found => Err(Error::checkpoint(
                uri,
                format!(
                    "the file was written with {} bytes, but the storage shows {}. Is something else writing to this \
                     folder? Start the query again: the batch will be written again.",
                    self.size,
                    found.map_or("no file".to_owned(), |meta| format!("{} bytes", meta.size))
                ),
            )),
        }
    }

    async fn put_last(&mut self) -> Result<String> {
        let last = std::mem::take(&mut self.buffer);
        let sent = if last.is_empty() { Ok(()) } else { self.put_part(last).await };
        let Some((name, mut upload)) = self.multipart.take() else {
            return Err(Error::internal("a multipart upload was completed that never began"));
        };
        let completed = match sent {
            Ok(()) => upload.complete().await.map(|_| ()).map_err(Error::from),
            failed => failed,
        };
        if completed.is_err() {
            let _ = upload.abort().await; // the first error is the one to tell
        }
        completed.map(|()| name)
    }

    async fn put_whole(&mut self) -> Result<String> {
        let bytes = bytes::Bytes::from(std::mem::take(&mut self.buffer));
        let mut attempt = 0;
        loop {
            let name = self.name.attempt(attempt);
            match self.folder.put_new(&name, bytes.clone()).await? {
                PutNew::Written => return Ok(name),
                PutNew::AlreadyThere(_) => attempt += 1,
            }
        }
    }

    /// Gives up: what was uploaded so far is thrown away.
    pub(crate) async fn abort(self) {
        if let Some((_, mut upload)) = self.multipart {
            let _ = upload.abort().await; // the file has no name yet; the store forgets the parts in time
        }
    }
}
