//! Remote stores in many moods: what passes is waited out, what is short is not believed, conflicts are told apart.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, Ordering};

use futures::FutureExt;
use futures::future::BoxFuture;
use object_store::memory::InMemory;

use super::*;
use crate::storage::{Folder, PutNew};

/// A clock that a sleeper moves.
#[derive(Debug, Default)]
pub(crate) struct JumpingClock(AtomicI64);

impl Clock for JumpingClock {
    fn now_us(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }

    fn monotonic_us(&self) -> u64 {
        self.now_us().unsigned_abs()
    }

    fn sleep_until_us(&self, deadline_us: i64) -> BoxFuture<'static, ()> {
        self.0.fetch_max(deadline_us, Ordering::Relaxed);
        async {}.boxed()
    }
}

/// What a request comes to.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mood {
    Fine,
    Busy,
    LostReply,
    /// Only so many bytes, and then an error, or nothing.
    Cut(usize, bool),
}
use Mood::*;

/// A store in memory whose next requests come to this.
#[derive(Debug, Default)]
struct Moody {
    inner: InMemory,
    moods: Mutex<VecDeque<Mood>>,
}

impl Moody {
    fn next(&self) -> Mood {
        self.moods.lock().unwrap().pop_front().unwrap_or(Fine)
    }

    async fn request<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        match self.next() {
            Busy => Err(busy()),
            LostReply => work.await.and_then(|_| Err(busy())),
            _ => work.await,
        }
    }
}

fn busy() -> Error {
    Error::Generic { store: "moody", source: "503 slow down".into() }
}

impl Display for Moody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("moody")
    }
}

#[async_trait]
impl ObjectStore for Moody {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.request(self.inner.put_opts(location, payload, options)).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.request(self.inner.put_multipart_opts(location, options)).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let mood = self.next();
        if mood == Busy {
            return Err(busy());
        }
        let got = self.inner.get_opts(location, options).await?;
        let Cut(bytes, loud) = mood else { return Ok(got) };
        let (meta, range, attributes) = (got.meta.clone(), got.range.clone(), got.attributes.clone());
        let sent = got.bytes().await?;
        let mut parts = vec![Ok(sent.slice(..bytes.min(sent.len())))];
        if loud {
            parts.push(Err(busy()));
        }
        let payload = GetResultPayload::Stream(stream::iter(parts).boxed());
        Ok(GetResult { payload, meta, range, attributes })
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let mood = self.next();
        let deleted = self.inner.delete_stream(locations);
        if mood == Fine { deleted } else { deleted.map(|_| Err(busy())).boxed() }
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let whole = self.inner.list(prefix);
        match self.next() {
            Cut(entries, _) => whole.take(entries).chain(stream::once(async { Err(busy()) })).boxed(),
            _ => whole,
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.request(self.inner.list_with_delimiter(prefix)).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.request(self.inner.copy_opts(from, to, options)).await
    }
}

fn moody() -> (Arc<Moody>, Arc<JumpingClock>, Folder) {
    let (store, clock) = (Arc::new(Moody::default()), Arc::new(JumpingClock::default()));
    let patient = Arc::new(PatientStore::new(store.clone(), clock.clone()));
    (store, clock, Folder { store: patient, path: "q".into(), uri_root: "moody://b".into() })
}

fn moods(store: &Moody, moods: &[Mood]) {
    *store.moods.lock().unwrap() = moods.iter().copied().collect();
}

const TEXT: &str = "0123456789";

#[tokio::test]
async fn a_storm_is_waited_out_and_one_without_end_is_told() {
    let (store, clock, folder) = moody();
    moods(&store, &[Busy; TRIES as usize - 1]);
    folder.put("a", TEXT.into()).await.unwrap();
    assert_eq!(clock.now_us(), 3_100_000, "five waits, each twice the one before");
    moods(&store, &[Busy; TRIES as usize]);
    let error = folder.get("a").await.unwrap_err().to_string();
    assert!(error.contains("503"), "{error}");
    assert_eq!(folder.get("a").await.unwrap(), Some(TEXT.into()), "the storm is over");
    let waited_us = clock.now_us();
    assert_eq!(folder.get("nowhere").await.unwrap(), None);
    assert_eq!(clock.now_us(), waited_us, "what is missing is not asked for again");
}

#[tokio::test]
async fn a_conditional_put_that_conflicts_with_itself_is_our_own_and_one_with_another_is_not() {
    let (store, _, folder) = moody();
    moods(&store, &[LostReply]);
    assert_eq!(folder.put_new("0", "ours".into()).await.unwrap(), PutNew::Written);
    assert_eq!(folder.put_new("0", "theirs".into()).await.unwrap(), PutNew::AlreadyThere("ours".into()));
    moods(&store, &[LostReply, Fine, Cut(2, false)]);
    assert_eq!(folder.put_new("1", "ours".into()).await.unwrap(), PutNew::Written, "compared with all of it");
}

#[tokio::test]
async fn a_short_answer_is_never_believed() {
    let (store, _, folder) = moody();
    folder.put("a", TEXT.into()).await.unwrap();
    for loud in [true, false] {
        moods(&store, &[Cut(0, loud)]);
        assert_eq!(folder.get("a").await.unwrap(), Some(TEXT.into()));
        moods(&store, &[Cut(3, loud), Busy, Cut(4, loud)]);
        assert_eq!(folder.get("a").await.unwrap(), Some(TEXT.into()));
        moods(&store, &[Cut(2, loud)]);
        let range = folder.store.get_range(&folder.file("a"), 1..8).await.unwrap();
        assert_eq!(range, "1234567");
        moods(&store, &[Cut(1, loud); 20]);
        let error = folder.get("a").await.unwrap_err().to_string();
        assert_eq!(error.contains("4 bytes are missing"), !loud, "{error}");
        moods(&store, &[]);
    }
}

#[tokio::test]
async fn a_short_answer_without_patience_is_an_error_too() {
    let (store, _, folder) = moody();
    folder.put("a", TEXT.into()).await.unwrap();
    moods(&store, &[Cut(3, false)]);
    let error = Folder { store, ..folder }.get("a").await.unwrap_err().to_string();
    assert!(error.contains("moody://b/q/a") && error.contains("10 bytes") && error.contains("sent 3"), "{error}");
}

#[tokio::test]
async fn an_object_that_is_replaced_while_it_is_read_is_no_mixture() {
    let (store, _, folder) = moody();
    folder.put("a", TEXT.into()).await.unwrap();
    moods(&store, &[Cut(3, false)]);
    let got = folder.store.get(&folder.file("a")).await.unwrap();
    folder.put("a", "abcdefghij".into()).await.unwrap();
    let error = got.bytes().await.unwrap_err();
    assert!(matches!(error, Error::Precondition { .. }), "{error}");
}

#[tokio::test]
async fn a_listing_that_broke_off_is_begun_again_and_names_nothing_twice() {
    let (store, _, folder) = moody();
    for name in ["a", "b", "c"] {
        folder.put(name, TEXT.into()).await.unwrap();
    }
    moods(&store, &[Cut(2, true)]);
    assert_eq!(folder.list_recursive().await.unwrap().len(), 3);
    moods(&store, &[Busy, Busy]);
    assert_eq!(folder.list().await.unwrap().len(), 3);
    moods(&store, &[Cut(0, true)]);
    let after = folder.store.list_with_offset(Some(&folder.path), &folder.file("a"));
    assert_eq!(after.try_collect::<Vec<_>>().await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_delete_whose_reply_was_lost_is_done() {
    let (store, _, folder) = moody();
    folder.put("a", TEXT.into()).await.unwrap();
    moods(&store, &[LostReply]);
    folder.store.delete(&folder.file("a")).await.unwrap();
    assert_eq!(folder.get("a").await.unwrap(), None);
}
