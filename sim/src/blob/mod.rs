//! An object store in memory, like S3: a put is seen whole or not at all, and by everybody once it is acknowledged.
//!
//! ```text
//! engine ─► LocalStorage("blob://bucket/...") ─► PatientStore (the engine's own) ─► Bucket (store.rs)
//!               one request = one effect: "blob://bucket/checkpoint/offsets/3 put" ─► Effects (name, fault, trace)
//!               refused | a storm | done and the reply lost | done later | cut short (request.rs) ─► SimBlob: objects
//! ```
//! What is done is durable: no crash takes an object away, and a request that was sent is done when its moment comes,
//! whoever died meanwhile. A listing comes in pages of [`PAGE`] keys, each an effect of its own; between two pages others
//! may write. Times are whole seconds, as S3 gives them. Absent: versions, tags, attributes, `PutMode::Update`, and
//! folders (a prefix with nothing below it is not there).

mod request;
mod store;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use twox_hash::XxHash64;

use crate::clock::VirtualClock;
use crate::effects::{Effects, Op};
pub use store::Bucket;

/// How the locations of this store begin.
pub const ROOT: &str = "blob://bucket";
/// Folders whose entries nobody may replace.
const LOGS: [&str; 3] = ["/offsets/", "/commits/", "/_spark_metadata/"];
/// How many keys a page of a listing has.
pub const PAGE: usize = 3;

/// The object store of one world. Cheap to clone; clones are the same store. It outlives the processes that use it.
#[derive(Clone)]
pub struct SimBlob {
    state: Arc<Mutex<State>>,
    clock: VirtualClock,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Object>,
    /// Every change there ever was.
    changes_count: u64,
    /// Digests of requests that were sent and are not done yet.
    under_way: BTreeMap<u64, u64>,
    sent_count: u64,
    /// For planted bugs: requests that are sent late, and answers that are given again.
    deferred: Vec<Deferred>,
    first_reads: BTreeMap<String, Object>,
    /// Whatever was put into logs and source logs.
    history: BTreeMap<String, Bytes>,
    /// Entries of logs that were replaced by other ones, and names that were used again after their deletion.
    replaced: Vec<String>,
    /// What processes have asked to delete.
    deletions: BTreeSet<String>,
}

type Deferred = Box<dyn FnOnce(&mut State) + Send>;

#[derive(Clone)]
struct Object {
    data: Bytes,
    /// Whole seconds.
    modified_us: i64,
    e_tag: u64,
}

/// What can go wrong with a change by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    NotFound,
    AlreadyExists,
}

impl SimBlob {
    /// An empty store whose objects are dated by `clock`.
    pub fn new(clock: VirtualClock) -> Self {
        Self { state: Arc::default(), clock }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The store as the process in this life sees it: each request is an effect, and fails when that life is over.
    pub fn process(&self, effects: &Effects, life: u32) -> Bucket {
        Bucket { blob: self.clone(), seam: Some((effects.clone(), life)) }
    }

    /// The store as anybody else sees it: no effects, no faults.
    pub fn outside(&self) -> Bucket {
        Bucket { blob: self.clone(), seam: None }
    }

    /// The key of a location in this store (`blob://bucket/in/a.json`); `None` for other locations.
    pub fn key(location: &str) -> Option<&str> {
        location.strip_prefix(ROOT)?.strip_prefix('/')
    }

    /// Somebody outside puts an object, dated at this moment.
    pub fn put(&self, key: &str, data: Bytes, modified_us: i64) {
        self.state().put(key, data, modified_us);
    }

    /// Somebody outside puts what is there again, long ago.
    pub fn date(&self, key: &str, modified_us: i64) {
        let mut state = self.state();
        if let Some(data) = state.objects.get(key).map(|object| object.data.clone()) {
            state.put(key, data, modified_us);
        }
    }

    /// Somebody outside deletes an object.
    pub fn delete(&self, key: &str) {
        self.state().delete(key);
    }

    /// Every object by its location, in order.
    pub fn files(&self) -> Vec<(String, Option<Bytes>)> {
        let state = self.state();
        state.objects.iter().map(|(key, object)| (format!("{ROOT}/{key}"), Some(object.data.clone()))).collect()
    }

    /// By location, the newest content that objects in `offsets` and `sources` folders ever had.
    pub fn history(&self) -> BTreeMap<String, Bytes> {
        self.state().history.iter().map(|(key, data)| (format!("{ROOT}/{key}"), data.clone())).collect()
    }

    /// Entries of logs that were replaced by other ones since this was asked last, and objects that were put after a
    /// process had asked to delete one of their name: that request may still be under way, and would delete the new one.
    pub fn take_replaced(&self) -> Vec<String> {
        std::mem::take(&mut self.state().replaced)
    }

    /// A number that changes whenever an object may have changed.
    pub fn version(&self) -> u64 {
        let state = self.state();
        state.changes_count + state.sent_count
    }

    /// A digest of every object and of what is under way; times do not count.
    pub fn digest(&self) -> u64 {
        let state = self.state();
        let objects = state
            .objects
            .iter()
            .fold(0, |hash, (key, object)| XxHash64::oneshot(XxHash64::oneshot(hash, key.as_bytes()), &object.data));
        state.under_way.values().fold(objects, |hash, sent| XxHash64::oneshot(hash, &sent.to_le_bytes()))
    }

    /// The process ends in peace: what planted bugs have put off is sent.
    pub(crate) fn do_deferred(&self) {
        self.state().do_deferred();
    }

    /// The process died: what planted bugs have put off was never sent.
    pub(crate) fn forget_deferred(&self) {
        let mut state = self.state();
        state.deferred.clear();
        state.first_reads.clear();
    }
}

impl fmt::Debug for SimBlob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimBlob({} objects)", self.state().objects.len())
    }
}

impl State {
    /// A process sends a request that makes an object, or deletes it.
    fn sends(&mut self, op: Op, key: &str) {
        if op == Op::Delete {
            self.deletions.insert(key.to_owned());
        } else if self.deletions.contains(key) {
            self.replaced.push(format!("{ROOT}/{key} was put after a request to delete it, which may come late"));
        }
    }

    fn do_deferred(&mut self) {
        for request in std::mem::take(&mut self.deferred) {
            request(self);
        }
    }

    fn put(&mut self, key: &str, data: Bytes, modified_us: i64) -> u64 {
        self.changes_count += 1;
        let second_us = modified_us - modified_us.rem_euclid(1_000_000);
        if key.contains("/offsets/") || key.contains("/sources/") {
            // A late request may bring back an old promise that has been purged; what was promised is what came first.
            self.history.entry(key.to_owned()).or_insert_with(|| data.clone());
        }
        if LOGS.iter().any(|log| key.contains(log)) && self.objects.get(key).is_some_and(|there| there.data != data) {
            self.replaced.push(format!("{ROOT}/{key} was replaced by something else"));
        }
        self.objects.insert(key.to_owned(), Object { data, modified_us: second_us, e_tag: self.changes_count });
        self.changes_count
    }

    fn create(&mut self, key: &str, data: Bytes, modified_us: i64) -> Result<u64, Refusal> {
        if self.objects.contains_key(key) {
            return Err(Refusal::AlreadyExists);
        }
        Ok(self.put(key, data, modified_us))
    }

    fn delete(&mut self, key: &str) {
        self.changes_count += u64::from(self.objects.remove(key).is_some());
    }

    fn copy(&mut self, from: &str, to: &str, create: bool, modified_us: i64) -> Result<u64, Refusal> {
        let data = self.objects.get(from).ok_or(Refusal::NotFound)?.data.clone();
        if create { self.create(to, data, modified_us) } else { Ok(self.put(to, data, modified_us)) }
    }

    /// A page of the keys below `prefix` (which ends in `/` unless it is empty) that come after `token`: objects, and
    /// with `delimited` the folders directly below; where the next page begins.
    fn page(&self, prefix: &str, token: Option<&str>, delimited: bool) -> Page {
        let mut page = Page::default();
        let mut next = token.unwrap_or(prefix).to_owned();
        loop {
            let found = self
                .objects
                .range::<str, _>((std::ops::Bound::Excluded(next.as_str()), std::ops::Bound::Unbounded))
                .next();
            let Some((key, object)) = found.filter(|(key, _)| key.starts_with(prefix)) else { return page };
            if page.objects.len() + page.folders.len() == PAGE {
                page.token = Some(next);
                return page;
            }
            match key[prefix.len()..].split_once('/').filter(|_| delimited) {
                Some((folder, _)) => {
                    page.folders.push(format!("{prefix}{folder}"));
                    // After everything that is in it.
                    next = format!("{prefix}{folder}/{}", char::MAX);
                }
                None => {
                    page.objects.push((key.clone(), object.clone()));
                    next = key.clone();
                }
            }
        }
    }
}

/// A page of a listing.
#[derive(Default)]
struct Page {
    objects: Vec<(String, Object)>,
    folders: Vec<String>,
    /// Where the next page begins, if there is one.
    token: Option<String>,
}

#[cfg(test)]
mod tests;
