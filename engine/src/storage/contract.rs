//! What every folder of every storage must do, as one suite that runs on each implementation, real and simulated.
//!
//! Call [`check_folder`] with an empty folder. It panics at the first broken promise and says which.

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::{
    Error as StoreError, GetOptions, GetRange, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload,
};

use crate::error::Error;
use crate::storage::{Folder, Lock, PutNew, Storage};

/// File names that must survive: written, listed, read back under exactly this name.
pub const ODD_NAMES: &[&str] = &[
    "a b",
    "100%",
    "a%20b",
    "ü日本",
    "k=v",
    "x:y",
    "#1",
    "q?",
    "[x]{y}",
    "~t",
    "back\\slash",
    ".hidden",
    "..two",
    "_meta",
    "a+b&c;d,e'f\"g",
    "<p>|*",
    "trailing.",
    "-",
];

/// Everything a [`Folder`] and its store promise. The folder must be empty; it is left with files in it.
pub async fn check_folder(folder: &Folder) {
    absent_things(folder).await;
    create_and_replace(folder).await;
    names_survive(folder).await;
    listing(folder).await;
    ranges(folder).await;
    copy_and_rename(folder).await;
    concurrent_creates(folder).await;
    multipart(folder).await;
}

/// What a [`Storage`] promises for a location that can be written to and has nothing in it yet: [`check_folder`], and
/// that URIs lead back to what they name.
pub async fn check_storage(storage: &dyn Storage, location: &str) {
    let folder = storage.folder(location).expect("the location is usable");
    check_folder(&folder).await;
    for name in ODD_NAMES {
        let odd = folder.child("uris");
        odd.put(name, bytes(name)).await.unwrap();
        let back = storage.folder(&odd.uri(name)).unwrap_or_else(|e| panic!("the URI of {name}: {e}"));
        assert_eq!(back.path, odd.file(name), "the URI of {name}");
        assert_eq!(back.get("").await.unwrap(), Some(bytes(name)), "the URI of {name}");
    }
    storage.settle(&folder).await.expect("a folder can be settled");
    storage.settle(&folder.child("nowhere")).await.expect("a missing folder has nothing to settle");
    check_lock(storage, &folder.child("locked")).await;
}

async fn check_lock(storage: &dyn Storage, folder: &Folder) {
    let Lock::Held(guard) = storage.lock(folder).await.unwrap() else { return };
    assert!(matches!(storage.lock(folder).await.unwrap(), Lock::Taken), "a held lock cannot be had again");
    assert!(matches!(storage.lock(&folder.child("x")).await.unwrap(), Lock::Held(_)), "locks are per folder");
    drop(guard);
    assert!(matches!(storage.lock(folder).await.unwrap(), Lock::Held(_)), "a dropped lock can be had again");
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn create() -> PutOptions {
    PutOptions { mode: PutMode::Create, ..PutOptions::default() }
}

async fn names(folder: &Folder) -> Vec<String> {
    let files = folder.list().await.expect("a folder can be listed");
    files.iter().map(|meta| meta.location.filename().unwrap_or_default().to_string()).collect()
}

async fn absent_things(folder: &Folder) {
    assert!(folder.is_empty().await.unwrap(), "the suite starts with an empty folder");
    let nowhere = folder.child("no").child("where");
    assert!(nowhere.is_empty().await.unwrap());
    assert_eq!(nowhere.list().await.unwrap(), vec![]);
    assert_eq!(nowhere.list_recursive().await.unwrap(), vec![]);
    assert_eq!(nowhere.list_folders().await.unwrap(), Vec::<String>::new());
    assert_eq!(nowhere.get("x").await.unwrap(), None);
    assert_eq!(nowhere.head("x").await.unwrap(), None);
    nowhere.delete("x").await.expect("deleting what is not there is fine");
    assert!(matches!(folder.store.get(&folder.file("x")).await, Err(StoreError::NotFound { .. })));
    assert!(matches!(folder.store.head(&folder.file("x")).await, Err(StoreError::NotFound { .. })));
    let copied = folder.store.copy(&folder.file("x"), &folder.file("y")).await;
    assert!(matches!(copied, Err(StoreError::NotFound { .. })), "copying what is not there: {copied:?}");
    assert!(folder.is_empty().await.unwrap(), "looking makes nothing");
}

async fn create_and_replace(folder: &Folder) {
    let f = folder.child("deep/er").child("still");
    assert_eq!(f.put_new("n", bytes("one")).await.unwrap(), PutNew::Written);
    assert_eq!(f.put_new("n", bytes("one")).await.unwrap(), PutNew::Written, "our own earlier try");
    assert_eq!(f.put_new("n", bytes("two")).await.unwrap(), PutNew::AlreadyThere(bytes("one")));
    assert_eq!(f.get("n").await.unwrap(), Some(bytes("one")), "a refused create changes nothing");
    let refused = f.store.put_opts(&f.file("n"), PutPayload::from_bytes(bytes("one")), create()).await;
    assert!(matches!(refused, Err(StoreError::AlreadyExists { .. })), "{refused:?}");
    f.put("n", bytes("three")).await.unwrap();
    assert_eq!(f.get("n").await.unwrap(), Some(bytes("three")));
    f.put("n", Bytes::new()).await.unwrap();
    assert_eq!(f.get("n").await.unwrap(), Some(Bytes::new()), "an empty file is a file");
    assert_eq!(f.put_new("n", Bytes::new()).await.unwrap(), PutNew::Written);
    assert_eq!(names(&f).await, ["n"], "nothing but the file is seen");
    f.delete("n").await.unwrap();
    assert_eq!(f.get("n").await.unwrap(), None);
    assert_eq!(f.put_new("n", bytes("again")).await.unwrap(), PutNew::Written);
    f.delete("n").await.unwrap();
    let long = "x".repeat(255);
    f.put(&long, bytes("long")).await.expect("a name of 255 bytes");
    assert_eq!(f.get(&long).await.unwrap(), Some(bytes("long")));
    f.delete(&long).await.unwrap();
}

async fn names_survive(folder: &Folder) {
    let odd = folder.child("odd names %/ü=#?");
    for name in ODD_NAMES {
        assert_eq!(odd.put_new(name, bytes(name)).await.unwrap(), PutNew::Written, "{name}");
    }
    let mut expected = ODD_NAMES.to_vec();
    expected.sort_unstable();
    assert_eq!(names(&odd).await, expected);
    for meta in odd.list().await.unwrap() {
        let content = odd.store.get(&meta.location).await.unwrap().bytes().await.unwrap();
        assert_eq!(content, meta.location.filename().unwrap().as_bytes());
    }
    for name in ODD_NAMES {
        assert_eq!(odd.get(name).await.unwrap(), Some(bytes(name)), "{name}");
    }
    for outside in ["..", ".", "a/../../b", "line\nbreak"] {
        let path = odd.file(outside);
        assert!(path.prefix_matches(&odd.path), "{outside} stays inside: {path}");
    }
}

async fn listing(folder: &Folder) {
    let f = folder.child("listing");
    for name in ["2", "10", "b/x", "a/y/z", "b.c/w", "1"] {
        f.put(name, bytes(name)).await.unwrap();
    }
    assert_eq!(names(&f).await, ["1", "10", "2"]);
    assert_eq!(f.list_folders().await.unwrap(), ["a", "b", "b.c"]);
    assert!(!f.is_empty().await.unwrap() && !f.child("a").is_empty().await.unwrap());
    let all: Vec<_> = f.list_recursive().await.unwrap();
    let listed: Vec<_> =
        all.iter().map(|meta| meta.location.as_ref()[f.path.as_ref().len() + 1..].to_string()).collect();
    assert_eq!(listed, ["1", "10", "2", "a/y/z", "b.c/w", "b/x"]);
    assert!(all.iter().zip(&listed).all(|(meta, name)| meta.size == name.len() as u64));
    assert_eq!(f.child("1").list().await.unwrap(), vec![], "a file has nothing in it");
    assert_eq!(f.child("1").list_recursive().await.unwrap(), vec![], "a file has nothing in it");
    assert_eq!(f.child("b").list_recursive().await.unwrap().len(), 1, "b is not a prefix of b.c");
    let after: Vec<_> =
        f.store.list_with_offset(Some(&f.path), &f.file("2")).map_ok(|meta| meta.location).try_collect().await.unwrap();
    assert!(!after.contains(&f.file("2")) && after.contains(&f.file("b/x")), "{after:?}");
    let head = f.head("10").await.unwrap().expect("it is there");
    assert_eq!((head.location.clone(), head.size), (f.file("10"), 2));
    let listed = f.list().await.unwrap().into_iter().find(|meta| meta.location == head.location);
    assert_eq!(listed, Some(head), "list and head say the same");
}

async fn ranges(folder: &Folder) {
    let f = folder.child("ranges");
    f.put("digits", bytes("0123456789")).await.unwrap();
    let path = f.file("digits");
    for (range, expected) in [
        (GetRange::Bounded(0..3), "012"),
        (GetRange::Bounded(8..100), "89"),
        (GetRange::Offset(7), "789"),
        (GetRange::Suffix(2), "89"),
        (GetRange::Suffix(100), "0123456789"),
    ] {
        let options = GetOptions { range: Some(range.clone()), ..GetOptions::default() };
        let got = f.store.get_opts(&path, options).await.unwrap();
        assert_eq!(got.range.end - got.range.start, expected.len() as u64, "{range:?}");
        assert_eq!(got.meta.size, 10, "{range:?}");
        assert_eq!(got.bytes().await.unwrap(), expected.as_bytes(), "{range:?}");
    }
    let past = GetOptions { range: Some(GetRange::Offset(10)), ..GetOptions::default() };
    assert!(f.store.get_opts(&path, past).await.is_err(), "a range that starts past the end is refused");
    assert_eq!(f.store.get_ranges(&path, &[1..2, 5..7]).await.unwrap(), [bytes("1"), bytes("56")]);
    let e_tag = f.store.head(&path).await.unwrap().e_tag;
    let same = GetOptions { if_match: e_tag.clone(), ..GetOptions::default() };
    assert!(f.store.get_opts(&path, same).await.is_ok(), "if_match its own tag");
    let other = GetOptions { if_none_match: e_tag, ..GetOptions::default() };
    assert!(matches!(f.store.get_opts(&path, other).await, Err(StoreError::NotModified { .. })));
    // More than any store reads in one piece.
    let large: Bytes = (0..20_000_000u32).map(|i| (i % 251) as u8).collect::<Vec<_>>().into();
    f.put("large", large.clone()).await.unwrap();
    assert!(f.get("large").await.unwrap() == Some(large.clone()), "a large file comes back whole");
    let part = f.store.get_range(&f.file("large"), 1_000_000..19_000_001).await.unwrap();
    assert!(part == large.slice(1_000_000..19_000_001), "a large range");
    f.delete("large").await.unwrap();
}

async fn copy_and_rename(folder: &Folder) {
    let f = folder.child("moves");
    f.put("a", bytes("a")).await.unwrap();
    f.put("b", bytes("b")).await.unwrap();
    let (a, b, c) = (f.file("a"), f.file("b"), f.file("new/c"));
    let refused = f.store.copy_if_not_exists(&a, &b).await;
    assert!(matches!(refused, Err(StoreError::AlreadyExists { .. })), "{refused:?}");
    let refused = f.store.rename_if_not_exists(&a, &b).await;
    assert!(matches!(refused, Err(StoreError::AlreadyExists { .. })), "{refused:?}");
    assert_eq!((f.get("a").await.unwrap(), f.get("b").await.unwrap()), (Some(bytes("a")), Some(bytes("b"))));
    f.store.copy(&a, &b).await.unwrap();
    assert_eq!((f.get("a").await.unwrap(), f.get("b").await.unwrap()), (Some(bytes("a")), Some(bytes("a"))));
    f.put("a", bytes("changed")).await.unwrap();
    assert_eq!(f.get("b").await.unwrap(), Some(bytes("a")), "a copy is independent");
    f.store.rename(&a, &c).await.unwrap();
    assert_eq!((f.get("a").await.unwrap(), f.get("new/c").await.unwrap()), (None, Some(bytes("changed"))));
    f.store.rename(&c, &b).await.unwrap();
    assert_eq!(f.get("b").await.unwrap(), Some(bytes("changed")), "rename replaces");
    f.store.rename_if_not_exists(&b, &a).await.unwrap();
    assert_eq!(names(&f).await, ["a"]);
}

async fn concurrent_creates(folder: &Folder) {
    let f = folder.child("race");
    let tries = (0..8).map(|i| {
        let f = f.clone();
        async move { f.put_new("one", Bytes::from(format!("try {i}"))).await.unwrap() }
    });
    let answers: Vec<_> = futures::stream::iter(tries).buffer_unordered(8).collect().await;
    let content = f.get("one").await.unwrap().expect("one of them was written");
    let won = answers.iter().filter(|answer| **answer == PutNew::Written).count();
    assert_eq!(won, 1, "exactly one create wins: {answers:?}");
    let told = answers.iter().filter(|answer| **answer == PutNew::AlreadyThere(content.clone())).count();
    assert_eq!(told, 7, "the others are told what is there: {answers:?}");
    assert_eq!(names(&f).await, ["one"]);
    let many = (0..32).map(|i| {
        let f = f.clone();
        async move { f.put("two", Bytes::from(vec![b'a' + (i % 8) as u8; 1000])).await }
    });
    futures::stream::iter(many).buffer_unordered(8).try_collect::<Vec<_>>().await.map_err(|e: Error| e).unwrap();
    let content = f.get("two").await.unwrap().expect("it was written");
    assert!(content.len() == 1000 && content.iter().all(|b| *b == content[0]), "one whole content, no mixture");
}

async fn multipart(folder: &Folder) {
    let f = folder.child("parts");
    let mut upload = f.store.put_multipart(&f.file("m")).await.unwrap();
    upload.put_part("first ".into()).await.unwrap();
    upload.put_part("second".into()).await.unwrap();
    assert_eq!(f.get("m").await.unwrap(), None, "nothing is seen before complete");
    upload.complete().await.unwrap();
    assert_eq!(f.get("m").await.unwrap(), Some(bytes("first second")));
    let mut upload = f.store.put_multipart(&f.file("gone")).await.unwrap();
    upload.put_part("x".into()).await.unwrap();
    upload.abort().await.unwrap();
    assert_eq!(f.get("gone").await.unwrap(), None);
}
