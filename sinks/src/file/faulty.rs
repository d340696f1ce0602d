//! A store in memory whose calls can fail on command, before or after their effect, and whose clock stands still.

use std::fmt::{self, Display};
use std::ops::Range;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::*;

/// When a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing happened.
    Before,
    /// It happened, but the reply was lost.
    After,
}

#[derive(Debug, Default)]
pub(crate) struct FaultyStore {
    inner: InMemory,
    /// The time of all files, in ms since 1970.
    pub(crate) modified_ms: Mutex<i64>,
    /// How many calls still work, and how the next one fails. All calls after that work again.
    pub(crate) fault: Mutex<Option<(usize, Fault)>>,
}

impl FaultyStore {
    /// Answers whether the call may have its effect, and then whether its reply arrives.
    fn strike(&self) -> Option<Fault> {
        let mut fault = self.fault.lock().unwrap();
        match fault.as_mut() {
            Some((0, how)) => {
                let how = *how;
                *fault = None;
                Some(how)
            }
            Some((left, _)) => {
                *left -= 1;
                None
            }
            None => None,
        }
    }

    async fn call<T>(&self, effect: impl Future<Output = Result<T>>) -> Result<T> {
        let broken = || Error::Generic { store: "Faulty", source: "the wire was cut".into() };
        match self.strike() {
            Some(Fault::Before) => Err(broken()),
            Some(Fault::After) => effect.await.and_then(|_| Err(broken())),
            None => effect.await,
        }
    }

    fn dated(&self, meta: ObjectMeta) -> ObjectMeta {
        let at = DateTime::<Utc>::from_timestamp_millis(*self.modified_ms.lock().unwrap()).unwrap();
        ObjectMeta { last_modified: at, ..meta }
    }
}

impl Display for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Faulty")
    }
}

#[async_trait]
impl ObjectStore for FaultyStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.call(self.inner.put_opts(location, payload, options)).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.call(self.inner.put_multipart_opts(location, options)).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let mut found = self.call(self.inner.get_opts(location, options)).await?;
        found.meta = self.dated(found.meta);
        Ok(found)
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.call(self.inner.get_ranges(location, ranges)).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let modified_ms = *self.modified_ms.lock().unwrap();
        let at = DateTime::<Utc>::from_timestamp_millis(modified_ms).unwrap();
        self.inner.list(prefix).map_ok(move |meta| ObjectMeta { last_modified: at, ..meta }).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let mut found = self.call(self.inner.list_with_delimiter(prefix)).await?;
        found.objects = found.objects.into_iter().map(|meta| self.dated(meta)).collect();
        Ok(found)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.call(self.inner.copy_opts(from, to, options)).await
    }
}

/// A store that is shared by the tests and the sinks under test.
pub(crate) fn faulty_store() -> Arc<FaultyStore> {
    Arc::new(FaultyStore { modified_ms: Mutex::new(1_700_000_000_000), ..FaultyStore::default() })
}
