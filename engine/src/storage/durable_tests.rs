//! Tests of durable local storage.

#![expect(clippy::disallowed_methods, reason = "a stranger's files are put there behind the storage's back")]

use std::io::{self, ErrorKind};
use std::ops::Range;
use std::path::Path as FsPath;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};

use object_store::memory::InMemory;

use super::*;
use crate::storage::LockGuard;
use crate::storage::disk::READ_CHUNK_BYTES;
use crate::storage::{Folder, LocalStorage, PutNew, RealPosix, Storage, contract};

/// A real disk that writes down what it was asked to change, and can be told to be full or to forget how to block.
#[derive(Debug, Default)]
struct Noted {
    real: RealPosix,
    base: Mutex<String>,
    calls: Mutex<Vec<String>>,
    full: AtomicBool,
}

impl Noted {
    fn note(&self, call: &str, path: &FsPath) {
        let path = path.display().to_string();
        let base = lock(&self.base).clone();
        // Folders above the test's own are whatever this machine has.
        let shown = match path.strip_prefix(&base) {
            Some(rest) => format!(".{rest}"),
            None => return,
        };
        lock(&self.calls).push(format!("{call} {shown}"));
    }

    fn taken(&self) -> Vec<String> {
        std::mem::take(&mut *lock(&self.calls))
    }
}

impl Posix for Noted {
    fn write(&self, path: &FsPath, bytes: &[u8]) -> io::Result<()> {
        self.note("write", path);
        if self.full.load(Ordering::Relaxed) {
            self.real.write(path, &bytes[..bytes.len() / 2])?;
            return Err(ErrorKind::StorageFull.into());
        }
        self.real.write(path, bytes)
    }
    fn fsync_file(&self, path: &FsPath) -> io::Result<()> {
        self.note("fsync", path);
        Ok(())
    }
    fn fsync_dir(&self, path: &FsPath) -> io::Result<()> {
        self.note("fsync", path);
        Ok(())
    }
    fn rename(&self, from: &FsPath, to: &FsPath) -> io::Result<()> {
        self.note("rename", to);
        self.real.rename(from, to)
    }
    fn link(&self, from: &FsPath, to: &FsPath) -> io::Result<()> {
        self.note("link", to);
        self.real.link(from, to)
    }
    fn unlink(&self, path: &FsPath) -> io::Result<()> {
        let done = self.real.unlink(path);
        if done.is_ok() {
            self.note("unlink", path);
        }
        done
    }
    fn mkdir(&self, path: &FsPath) -> io::Result<()> {
        self.note("mkdir", path);
        self.real.mkdir(path)
    }
    fn read(&self, path: &FsPath, range: Option<Range<u64>>) -> io::Result<Bytes> {
        self.real.read(path, range)
    }
    fn stat(&self, path: &FsPath) -> io::Result<Stat> {
        self.real.stat(path)
    }
    fn list(&self, path: &FsPath) -> io::Result<Vec<String>> {
        self.real.list(path)
    }
    fn lock(&self, path: &FsPath) -> io::Result<Box<dyn LockGuard>> {
        self.real.lock(path)
    }
    fn blocks(&self) -> bool {
        false
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap()
}

fn noted() -> (tempfile::TempDir, Arc<Noted>, Folder) {
    let dir = tempfile::tempdir().unwrap();
    let posix = Arc::new(Noted::default());
    *lock(&posix.base) = dir.path().display().to_string();
    let storage = LocalStorage::new(posix.clone(), dir.path(), 0xa);
    let folder = storage.folder("q").unwrap();
    (dir, posix, folder)
}

fn real(dir: &tempfile::TempDir, tag: u64) -> LocalStorage {
    LocalStorage::new(Arc::new(RealPosix), dir.path(), tag)
}

#[tokio::test]
async fn a_real_disk_keeps_the_contract() {
    let dir = tempfile::tempdir().unwrap();
    contract::check_storage(&real(&dir, 1), "with space/100%").await;
    contract::check_folder(&real(&dir, 1).folder("b").unwrap()).await;
}

#[test]
fn a_real_disk_keeps_the_contract_without_a_runtime() {
    let dir = tempfile::tempdir().unwrap();
    futures::executor::block_on(contract::check_storage(&real(&dir, 1), "x"));
}

#[tokio::test]
async fn object_stores_keep_the_contract() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(crate::storage::patient::tests::JumpingClock::default());
    let storage = real(&dir, 1).with_clock(clock).with_store("mem", Arc::new(InMemory::new()));
    contract::check_storage(&storage, "mem://bucket/some/where").await;
    let storage = real(&dir, 1).with_impatient_store("mem", Arc::new(InMemory::new()));
    contract::check_storage(&storage, "mem://bucket").await;
}

#[tokio::test]
async fn a_put_syncs_each_thing_once() {
    let (_dir, posix, folder) = noted();
    let offsets = folder.child("offsets");
    offsets.put_new("0", Bytes::from("x")).await.unwrap();
    assert_eq!(
        posix.taken(),
        [
            // The folder that is there; its name may not be synced yet. (Its parents' names: not shown.)
            "mkdir ./q",
            "fsync .",
            "mkdir ./q/offsets",
            "fsync ./q",
            "write ./q/offsets/.wt-tmp-a-0-0",
            "fsync ./q/offsets/.wt-tmp-a-0-0",
            "link ./q/offsets/0",
            "unlink ./q/offsets/.wt-tmp-a-0-0",
            "fsync ./q/offsets",
        ]
    );
    offsets.put("1", Bytes::from("y")).await.unwrap();
    assert_eq!(
        posix.taken(),
        [
            "write ./q/offsets/.wt-tmp-a-0-1",
            "fsync ./q/offsets/.wt-tmp-a-0-1",
            "rename ./q/offsets/1",
            "fsync ./q/offsets",
        ]
    );
    offsets.delete("1").await.unwrap();
    assert_eq!(posix.taken(), ["unlink ./q/offsets/1"]);
}

#[tokio::test]
async fn a_folder_that_was_there_is_synced_into_its_parent_once() {
    let (dir, posix, folder) = noted();
    std::fs::create_dir_all(dir.path().join("q/commits")).unwrap();
    folder.child("commits").put("0", Bytes::new()).await.unwrap();
    assert_eq!(posix.taken()[..2], ["fsync ./q", "fsync ."]);
    folder.child("commits").put("1", Bytes::new()).await.unwrap();
    assert_eq!(posix.taken().len(), 4);
}

#[tokio::test]
async fn finding_a_file_there_makes_its_name_durable() {
    let (_dir, posix, folder) = noted();
    folder.put("0", Bytes::from("x")).await.unwrap();
    posix.taken();
    assert_eq!(folder.put_new("0", Bytes::from("x")).await.unwrap(), PutNew::Written);
    assert_eq!(posix.taken().last().unwrap(), "fsync ./q");
}

#[tokio::test]
async fn settling_makes_durable_what_is_seen() {
    let (dir, posix, folder) = noted();
    std::fs::create_dir_all(dir.path().join("q/offsets")).unwrap();
    let storage = LocalStorage::new(posix.clone(), dir.path(), 0xa);
    storage.settle(&folder.child("offsets")).await.unwrap();
    assert_eq!(posix.taken(), ["fsync ./q", "fsync .", "fsync ./q/offsets"]);
    storage.settle(&folder.child("absent")).await.unwrap();
    assert_eq!(posix.taken(), [""; 0]);
}

#[tokio::test]
async fn a_full_disk_is_an_error_and_leaves_the_old_content() {
    let (_dir, posix, folder) = noted();
    folder.put("n", Bytes::from("old")).await.unwrap();
    posix.full.store(true, Ordering::Relaxed);
    for answer in [folder.put("n", Bytes::from("new content")).await, folder.put("m", Bytes::from("new")).await] {
        let error = answer.unwrap_err().to_string();
        assert!(error.contains("/q/") && error.contains("Free some space there"), "{error}");
    }
    posix.full.store(false, Ordering::Relaxed);
    assert_eq!(folder.get("n").await.unwrap(), Some(Bytes::from("old")));
    assert_eq!(folder.list().await.unwrap().len(), 1);
    assert_eq!(posix.real.list(&_dir.path().join("q")).unwrap(), ["n"], "no temporary file is left either");
}

#[tokio::test]
async fn left_temporary_files_are_invisible_harmless_and_cleared() {
    let dir = tempfile::tempdir().unwrap();
    let storage = real(&dir, 0xa);
    let folder = storage.folder("q").unwrap();
    folder.put("0", Bytes::from("committed")).await.unwrap();
    // Killed between link and unlink: the temporary name is a second name of the committed file.
    std::fs::hard_link(dir.path().join("q/0"), dir.path().join("q/.wt-tmp-a-0-0")).unwrap();
    std::fs::write(dir.path().join("q/.wt-tmp-b-0-7"), "half").unwrap();
    assert_eq!(folder.list().await.unwrap().len(), 1);
    assert_eq!(folder.list_recursive().await.unwrap().len(), 1);
    assert_eq!(folder.put_new("0", Bytes::from("other")).await.unwrap(), PutNew::AlreadyThere("committed".into()));
    assert_eq!(folder.get("0").await.unwrap(), Some("committed".into()));
    storage.settle(&folder).await.unwrap();
    assert_eq!(RealPosix.list(&dir.path().join("q")).unwrap(), ["0"]);
    assert!(folder.put(".wt-tmp-x", Bytes::new()).await.is_err(), "the prefix is ours");
}

#[tokio::test]
async fn a_folder_that_somebody_deleted_is_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let folder = real(&dir, 1).folder("q/deep").unwrap();
    folder.put("0", Bytes::from("x")).await.unwrap();
    std::fs::remove_dir_all(dir.path().join("q")).unwrap();
    folder.put("1", Bytes::from("y")).await.unwrap();
    assert_eq!(folder.list().await.unwrap().len(), 1);
}

#[tokio::test]
async fn files_in_the_way_and_folders_in_the_way_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    let folder = real(&dir, 1).folder("q").unwrap();
    folder.put("file", Bytes::from("x")).await.unwrap();
    let error = folder.put("file/below", Bytes::new()).await.unwrap_err().to_string();
    assert!(error.contains("A part of this path is a file"), "{error}");
    assert_eq!(folder.get("file/below").await.unwrap(), None);
    folder.put("dir/x", Bytes::new()).await.unwrap();
    assert!(folder.put("dir", Bytes::new()).await.is_err());
    assert!(folder.put_new("dir", Bytes::new()).await.is_err());
    assert_eq!(folder.get("dir").await.unwrap(), None, "a folder is not an object");
    std::os::unix::fs::symlink(dir.path().join("nothing"), dir.path().join("q/dangling")).unwrap();
    assert_eq!(folder.list().await.unwrap().len(), 1, "a link to nothing is nothing");
    std::os::unix::fs::symlink(dir.path().join("q"), dir.path().join("q/loop")).unwrap();
    let error = folder.list_recursive().await.unwrap_err().to_string();
    assert!(error.contains("symbolic link"), "{error}");
}

#[tokio::test]
async fn a_file_that_changes_while_it_is_read_in_pieces_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let folder = real(&dir, 1).folder("q").unwrap();
    folder.put("big", vec![1; 3 * READ_CHUNK_BYTES as usize].into()).await.unwrap();
    let mut pieces = folder.store.get(&folder.file("big")).await.unwrap().into_stream();
    assert_eq!(pieces.next().await.unwrap().unwrap().len() as u64, READ_CHUNK_BYTES);
    folder.put("big", vec![2; 3 * READ_CHUNK_BYTES as usize + 1].into()).await.unwrap();
    let error = pieces.next().await.unwrap().unwrap_err().to_string();
    assert!(error.contains("changed while it was read"), "{error}");
}
