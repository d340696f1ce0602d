//! Files that are damaged, missing, foreign, left behind or not writable: what loading says, and that nothing is lost.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult,
};

use crate::error::Error;
use crate::state::contract::{EARLY, Entry, Row, get, identity, key_columns, memory, put, scan, spec};
use crate::state::files::SnapshotPolicy;
use crate::state::hot::HotStateStore;
use crate::state::operator::StoreIdentity;
use crate::state::store::StateStore;
use crate::storage::Folder;

const NEVER: SnapshotPolicy = SnapshotPolicy { min_deltas: u64::MAX, growth_percent: 0, max_deltas: u64::MAX };

fn store(folder: &Folder, policy: SnapshotPolicy) -> HotStateStore {
    HotStateStore::new(folder.clone(), &identity(), &spec(), policy).unwrap()
}

async fn batch(store: &mut HotStateStore, version: u64, entries: &[Entry]) {
    store.begin(version).await.unwrap();
    put(store, entries);
    store.commit().await.unwrap();
}

/// Four versions; with `EARLY` a snapshot of version 3.
async fn four_versions(policy: SnapshotPolicy) -> (Folder, Vec<Row>) {
    let folder = memory();
    let mut store = store(&folder, policy);
    batch(&mut store, 0, &[(("a", 1), 1, Some(7)), (("b", 1), 2, None)]).await;
    store.begin(1).await.unwrap();
    store.remove(&key_columns(&[("a", 1)])).unwrap();
    put(&mut store, &[(("c", 1), 3, None)]);
    store.commit().await.unwrap();
    batch(&mut store, 2, &[(("b", 1), 20, None)]).await;
    store.maintain(100).await.unwrap();
    batch(&mut store, 3, &[(("d", 1), 4, None)]).await;
    (folder, scan(&store))
}

async fn open(folder: &Folder, version: u64) -> Result<HotStateStore, Error> {
    let mut store = store(folder, NEVER);
    store.begin(version).await?;
    Ok(store)
}

async fn file(folder: &Folder, name: &str) -> Bytes {
    folder.get(name).await.unwrap().unwrap()
}

/// The file with every byte changed, one at a time, and cut to every length.
fn damages(file: &Bytes) -> impl Iterator<Item = Vec<u8>> + '_ {
    let flipped = (0..file.len()).map(|at| {
        let mut bytes = file.to_vec();
        bytes[at] ^= 1 << (at % 8);
        bytes
    });
    flipped.chain((0..file.len()).map(|len| file[..len].to_vec()))
}

#[tokio::test]
async fn a_damaged_delta_is_named_wherever_the_damage_is() {
    let (folder, _) = four_versions(NEVER).await;
    for name in ["2.delta", "4.delta"] {
        let whole = file(&folder, name).await;
        for bytes in damages(&whole) {
            folder.put(name, bytes.into()).await.unwrap();
            let error = open(&folder, 4).await.map(drop).unwrap_err();
            assert_eq!(error.class(), Some("CANNOT_LOAD_STATE_STORE.UNCATEGORIZED"));
            let text = error.to_string();
            assert!(text.contains(&format!("memory:///state/0/3/{name}: the file is damaged")), "{text}");
            assert!(text.ends_with("start the query with a new checkpointLocation."), "{text}");
        }
        folder.put(name, whole).await.unwrap();
    }
    open(&folder, 4).await.unwrap();
}

#[tokio::test]
async fn a_damaged_snapshot_is_made_up_for_by_the_deltas() {
    let (folder, rows) = four_versions(EARLY).await;
    assert_eq!(open(&folder, 4).await.unwrap().metrics().last_snapshot, Some(3));
    for bytes in damages(&file(&folder, "3.snapshot").await) {
        folder.put("3.snapshot", bytes.into()).await.unwrap();
        let store = open(&folder, 4).await.unwrap();
        assert_eq!(scan(&store), rows);
        assert_eq!((store.metrics().snapshots_repaired, store.metrics().last_snapshot), (1, None));
    }
    folder.delete("1.delta").await.unwrap();
    let error = open(&folder, 4).await.map(drop).unwrap_err();
    assert_eq!(error.class(), Some("CANNOT_LOAD_STATE_STORE.CANNOT_READ_DELTA_FILE_NOT_EXISTS"));
    let text = error.to_string();
    assert!(text.contains("1.delta") && text.contains("3.snapshot: its checksum is"), "{text}");
}

#[tokio::test]
async fn a_missing_delta_is_named() {
    let (folder, rows) = four_versions(EARLY).await;
    folder.delete("2.delta").await.unwrap();
    assert_eq!(scan(&open(&folder, 4).await.unwrap()), rows);
    for (version, missing) in [(2, "2.delta"), (5, "5.delta")] {
        let error = open(&folder, version).await.map(drop).unwrap_err();
        assert_eq!(error.class(), Some("CANNOT_LOAD_STATE_STORE.CANNOT_READ_DELTA_FILE_NOT_EXISTS"));
        assert!(error.to_string().contains(&format!("Error reading delta file memory:///state/0/3/{missing}")));
    }
}

#[tokio::test]
async fn files_of_another_place_are_not_taken() {
    let (folder, _) = four_versions(NEVER).await;
    let third = file(&folder, "3.delta").await;
    folder.put("4.delta", third).await.unwrap();
    let error = open(&folder, 4).await.map(drop).unwrap_err().to_string();
    assert!(error.contains("it is the delta of version 3 of state 0/3/default, not of version 4"), "{error}");
    let elsewhere = StoreIdentity { partition: 4, ..identity() };
    let mut store = HotStateStore::new(folder.clone(), &elsewhere, &spec(), NEVER).unwrap();
    let error = store.begin(1).await.unwrap_err().to_string();
    assert!(error.contains("state 0/3/default, not of version 1 of 0/4/default"), "{error}");
}

#[tokio::test]
async fn a_delta_of_another_history_does_not_fit() {
    let (folder, _) = four_versions(NEVER).await;
    let (third, fourth) = (file(&folder, "3.delta").await, file(&folder, "4.delta").await);
    let mut store = open(&folder, 2).await.unwrap();
    batch(&mut store, 2, &[(("x", 1), 1, None)]).await;
    batch(&mut store, 3, &[(("y", 1), 1, None)]).await;
    folder.put("3.delta", third).await.unwrap();
    let error = open(&folder, 4).await.map(drop).unwrap_err().to_string();
    assert!(error.contains("4.delta: the file is damaged: it does not continue the delta before it"), "{error}");
    folder.put("4.delta", fourth).await.unwrap();
    open(&folder, 4).await.unwrap();
}

#[tokio::test]
async fn a_snapshot_of_an_abandoned_try_is_not_taken() {
    let folder = memory();
    let mut first = store(&folder, EARLY);
    for version in 0..3 {
        batch(&mut first, version, &[(("abandoned", version as i64), 1, None)]).await;
    }
    // The process dies after the snapshot of version 3, before batch 2 is logged as done; it is run again, differently.
    assert!(first.maintain(100).await.unwrap().snapshot_bytes.is_some());
    let mut again = open(&folder, 2).await.unwrap();
    batch(&mut again, 2, &[(("kept", 2), 1, None)]).await;
    let rows = scan(&again);
    for version in [3, 4] {
        if version == 4 {
            batch(&mut again, 3, &[]).await;
        }
        let loaded = open(&folder, version).await.unwrap();
        assert_eq!(scan(&loaded), rows, "version {version}");
        assert_eq!(loaded.metrics().snapshots_repaired, 1);
    }
}

#[tokio::test]
async fn state_of_other_types_is_refused_by_class() {
    let (folder, _) = four_versions(EARLY).await;
    for (part, class) in [(0, "STATE_STORE_KEY_SCHEMA_NOT_COMPATIBLE"), (1, "STATE_STORE_VALUE_SCHEMA_NOT_COMPATIBLE")]
    {
        let mut other = spec();
        if part == 0 {
            other.schema.key = other.schema.value.clone();
        } else {
            other.schema.value = other.schema.key.clone();
        }
        let mut store = HotStateStore::new(folder.clone(), &identity(), &other, NEVER).unwrap();
        assert_eq!(store.begin(4).await.unwrap_err().class(), Some(class));
    }
}

#[tokio::test]
async fn a_newer_format_is_told_apart_from_damage() {
    let (folder, _) = four_versions(NEVER).await;
    let whole = file(&folder, "1.delta").await;
    let mut newer = whole[..whole.len() - 4].to_vec();
    newer[8] = 9;
    newer.extend(crc32fast::hash(&newer).to_le_bytes());
    folder.put("1.delta", newer.into()).await.unwrap();
    let error = open(&folder, 4).await.map(drop).unwrap_err().to_string();
    assert!(error.contains("1.delta: the file has format 9, which a newer Wavetank wrote"), "{error}");
}

#[tokio::test]
async fn the_same_changes_make_the_same_bytes() {
    let (a, _) = four_versions(EARLY).await;
    let (b, _) = four_versions(EARLY).await;
    for name in ["1.delta", "2.delta", "3.delta", "3.snapshot", "4.delta"] {
        assert_eq!(file(&a, name).await, file(&b, name).await, "{name}");
    }
}

/// An object store that refuses to write or to delete while told so.
#[derive(Debug, Default)]
struct Refusing {
    inner: InMemory,
    refuses: AtomicBool,
}

impl Refusing {
    fn check(&self) -> object_store::Result<()> {
        let source = "no space left on device".into();
        match self.refuses.load(Ordering::Relaxed) {
            true => Err(object_store::Error::Generic { store: "refusing", source }),
            false => Ok(()),
        }
    }
}

impl fmt::Display for Refusing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "refusing")
    }
}

#[async_trait]
impl ObjectStore for Refusing {
    async fn put_opts(&self, path: &Path, payload: PutPayload, opts: PutOptions) -> object_store::Result<PutResult> {
        self.check()?;
        self.inner.put_opts(path, payload, opts).await
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        opts: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(path, opts).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> object_store::Result<GetResult> {
        self.inner.get_opts(path, options).await
    }

    async fn get_ranges(&self, path: &Path, ranges: &[Range<u64>]) -> object_store::Result<Vec<Bytes>> {
        self.inner.get_ranges(path, ranges).await
    }

    fn delete_stream(
        &self,
        paths: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        match self.check() {
            Ok(()) => self.inner.delete_stream(paths),
            Err(error) => Box::pin(futures::stream::iter([Err(error)])),
        }
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> object_store::Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

#[tokio::test]
async fn a_commit_that_fails_can_be_repeated_or_aborted() {
    let refusing = Arc::new(Refusing::default());
    let folder = Folder { store: refusing.clone(), ..memory() };
    let mut store = store(&folder, EARLY);
    batch(&mut store, 0, &[(("a", 1), 1, None)]).await;
    store.begin(1).await.unwrap();
    put(&mut store, &[(("a", 1), 2, None), (("b", 1), 3, None)]);
    refusing.refuses.store(true, Ordering::Relaxed);
    let error = store.commit().await.unwrap_err().to_string();
    assert!(error.contains("no space left"), "{error}");
    assert_eq!((store.version(), get(&store, &[("a", 1), ("b", 1)])), (Some(1), vec![Some(2), Some(3)]));
    refusing.refuses.store(false, Ordering::Relaxed);
    assert_eq!(store.commit().await.unwrap().version, 2);
    assert_eq!(scan(&open(&folder, 2).await.unwrap()).len(), 2);
    store.begin(2).await.unwrap();
    put(&mut store, &[(("a", 1), 9, None)]);
    refusing.refuses.store(true, Ordering::Relaxed);
    assert!(store.commit().await.is_err());
    store.abort();
    assert_eq!(get(&store, &[("a", 1)]), [Some(2)]);
}

#[tokio::test]
async fn maintenance_that_fails_is_reported_and_tried_again() {
    let refusing = Arc::new(Refusing::default());
    let folder = Folder { store: refusing.clone(), ..memory() };
    let mut store = store(&folder, EARLY);
    for version in 0..3 {
        batch(&mut store, version, &[(("a", 1), version as i64, None)]).await;
    }
    refusing.refuses.store(true, Ordering::Relaxed);
    let report = store.maintain(1).await.unwrap();
    assert!(report.snapshot_bytes.is_none() && report.problems[0].contains("no space left"), "{report:?}");
    refusing.refuses.store(false, Ordering::Relaxed);
    assert!(store.maintain(1).await.unwrap().snapshot_bytes.is_some());
    batch(&mut store, 3, &[(("a", 1), 3, None)]).await;
    refusing.refuses.store(true, Ordering::Relaxed);
    let report = store.maintain(1).await.unwrap();
    assert_eq!((report.deleted_files, report.problems.len()), (0, 2), "{report:?}");
    refusing.refuses.store(false, Ordering::Relaxed);
    assert_eq!(store.maintain(1).await.unwrap().deleted_files, 2);
    assert_eq!(get(&open(&folder, 4).await.unwrap(), &[("a", 1)]), [Some(3)]);
}
