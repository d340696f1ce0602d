//! [`PatientStore`]: a remote store whose passing faults are waited out, and whose short answers are not believed.
//!
//! | what the store does | what the caller sees |
//! |---|---|
//! | fails, for a while (429, 503, a cut connection) | nothing: the request is made again, six times in all |
//! | does it, and the reply is lost | nothing, for what may be done twice; a conditional put may conflict with itself |
//! | sends fewer bytes than it announced, or fails in mid-stream | nothing: the rest is asked for, of the same version |
//! | goes on like that | the store's error, never a part of the bytes |
//!
//! Which conflicts are our own is not decided here: [`Folder::put_new`](super::Folder::put_new) reads back and compares.
//!
//! The full version has to handle: errors that do not pass (missing, denied, exists: given on at once); an object that is
//! replaced while it is read (an error: no mixture of two); an object that grows or is empty; a listing that fails in its
//! middle (begun again: entries that were given out twice would be files read twice); deletes whose reply was lost (the
//! second finds nothing, and that is fine). Absent: parts of multipart uploads (asking again makes another part; the
//! upload fails as a whole, and no file is seen), `PutMode::Update` (nobody could say whose conflict it was).

use std::fmt::{self, Display};
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetRange, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

use crate::environment::Clock;
use crate::planted::planted;

/// How often a request is made before its error is believed.
pub(crate) const TRIES: u32 = 6;
/// How long the first wait is; each is twice the one before.
const FIRST_WAIT_US: i64 = 100_000;

/// See the module.
#[derive(Clone, Debug)]
pub struct PatientStore {
    inner: Arc<dyn ObjectStore>,
    clock: Arc<dyn Clock>,
}

impl PatientStore {
    /// Patience with `inner`; the waits between two tries are measured by `clock`.
    pub fn new(inner: Arc<dyn ObjectStore>, clock: Arc<dyn Clock>) -> Self {
        Self { inner, clock }
    }

    fn patience(&self) -> Patience {
        Patience { clock: Arc::clone(&self.clock), tries: 1 }
    }

    /// Makes a request until it gives something else than a passing error, or patience ends. `make` is told whether
    /// it was made before: it may have been done then.
    async fn ask<T, F: Future<Output = Result<T>>>(&self, make: impl Fn(bool) -> F) -> Result<T> {
        let mut patience = self.patience();
        loop {
            match make(patience.tries > 1).await {
                Err(error) if patience.is_left_after(&error).await => {}
                answer => return answer,
            }
        }
    }

    async fn collected(
        &self,
        list: impl Fn(&dyn ObjectStore) -> BoxStream<'static, Result<ObjectMeta>>,
    ) -> Result<Vec<ObjectMeta>> {
        self.ask(|_| list(self.inner.as_ref()).try_collect()).await
    }
}

/// What is left of the patience with one request.
struct Patience {
    clock: Arc<dyn Clock>,
    tries: u32,
}

impl Patience {
    /// Waits, if the error may pass and tries are left.
    async fn is_left_after(&mut self, error: &Error) -> bool {
        // The one class that connections, timeouts, 429 and 5xx are in.
        if !matches!(error, Error::Generic { .. }) || self.tries >= TRIES {
            return false;
        }
        tracing::debug!("a request to the store failed and is made again: {error}");
        let wait_us = FIRST_WAIT_US << (self.tries - 1);
        self.tries += 1;
        self.clock.sleep_until_us(self.clock.now_us().saturating_add(wait_us)).await;
        true
    }
}

#[async_trait]
impl ObjectStore for PatientStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        if matches!(options.mode, PutMode::Update(_)) {
            return self.inner.put_opts(location, payload, options).await;
        }
        self.ask(|again| {
            let mut options = options.clone();
            if again && planted("a-put-made-again-forgets-its-condition") {
                options.mode = PutMode::Overwrite;
            }
            self.inner.put_opts(location, payload.clone(), options)
        })
        .await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.ask(|_| self.inner.put_multipart_opts(location, options.clone())).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let got = self.ask(|_| self.inner.get_opts(location, options.clone())).await?;
        if options.head {
            return Ok(got);
        }
        let GetResult { payload, meta, range, attributes } = got;
        let stream = match payload {
            GetResultPayload::Stream(stream) => stream,
            // A file of this machine: its reader finds out by itself.
            file => return Ok(GetResult { payload: file, meta, range, attributes }),
        };
        let options = GetOptions { if_match: meta.e_tag.clone(), version: meta.version.clone(), ..options };
        let patience = self.patience();
        let whole = Whole {
            store: Arc::clone(&self.inner),
            location: location.clone(),
            options,
            left: range.clone(),
            stream,
            patience,
        };
        let payload = stream::try_unfold(whole, Whole::next).boxed();
        Ok(GetResult { payload: GetResultPayload::Stream(payload), meta, range, attributes })
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        locations
            .and_then(move |location| {
                let store = store.clone();
                async move {
                    let delete = async |again| match store.inner.delete(&location).await {
                        Err(Error::NotFound { .. }) if again => Ok(()),
                        answer => answer,
                    };
                    store.ask(delete).await?;
                    Ok(location)
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (store, prefix) = (self.clone(), prefix.cloned());
        let listed = async move { store.collected(|inner| inner.list(prefix.as_ref())).await };
        stream::once(listed).map_ok(|found| stream::iter(found).map(Ok)).try_flatten().boxed()
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        let (store, prefix, offset) = (self.clone(), prefix.cloned(), offset.clone());
        let listed = async move { store.collected(|inner| inner.list_with_offset(prefix.as_ref(), &offset)).await };
        stream::once(listed).map_ok(|found| stream::iter(found).map(Ok)).try_flatten().boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.ask(|_| self.inner.list_with_delimiter(prefix)).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.ask(|_| self.inner.copy_opts(from, to, options.clone())).await
    }
}

impl Display for PatientStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

/// The bytes of an answer that are still to come.
struct Whole {
    store: Arc<dyn ObjectStore>,
    location: Path,
    /// How the rest is asked for: the same version, nothing else.
    options: GetOptions,
    left: Range<u64>,
    stream: BoxStream<'static, Result<Bytes>>,
    patience: Patience,
}

impl Whole {
    async fn next(mut self) -> Result<Option<(Bytes, Self)>> {
        while !self.left.is_empty() {
            let error = match self.stream.next().await {
                Some(Ok(bytes)) if bytes.len() as u64 <= self.left.end - self.left.start => {
                    self.left.start += bytes.len() as u64;
                    return Ok(Some((bytes, self)));
                }
                Some(Ok(_)) => return Err(self.odd("more bytes than it announced")),
                Some(Err(error)) => error,
                None if planted("a-short-answer-is-believed") => return Ok(None),
                None => self.odd("fewer bytes than it announced"),
            };
            self.resume(error).await?;
        }
        Ok(None)
    }

    /// Asks for what is left, after a mishap.
    async fn resume(&mut self, mut error: Error) -> Result<()> {
        loop {
            if !self.patience.is_left_after(&error).await {
                return Err(error);
            }
            let range = Some(GetRange::Bounded(self.left.clone()));
            let rest = self.store.get_opts(&self.location, GetOptions { range, ..self.options.clone() }).await;
            match rest {
                Ok(rest) => {
                    self.stream = rest.into_stream();
                    return Ok(());
                }
                Err(again) => error = again,
            }
        }
    }

    fn odd(&self, what: &str) -> Error {
        let source = format!(
            "{} was sent with {what}: {} bytes are missing. Start the query again; if this stays, look for what is \
             between it and the store",
            self.location,
            self.left.end - self.left.start
        );
        Error::Generic { store: "remote", source: source.into() }
    }
}

#[cfg(test)]
#[path = "patient_tests.rs"]
pub(super) mod tests;
