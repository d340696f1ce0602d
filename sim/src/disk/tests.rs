//! Tests of the simulated disk.

use std::path::PathBuf;

use rand::Rng;
use rand::seq::IndexedRandom;
use wavetank_engine::storage::{LockGuard, Posix, RealPosix};

use super::*;

/// A call of [`Posix`] on paths below a root.
#[derive(Clone, Debug)]
enum Call {
    Write(&'static str, usize),
    FsyncFile(&'static str),
    FsyncDir(&'static str),
    Rename(&'static str, &'static str),
    Link(&'static str, &'static str),
    Unlink(&'static str),
    Mkdir(&'static str),
    Read(&'static str, Option<Range<u64>>),
    Stat(&'static str),
    List(&'static str),
    Lock(&'static str),
    Unlock,
}

/// Few paths, so that calls meet: files, directories, things below files, things that are not there.
const PATHS: [&str; 12] = ["a", "b", "c", "d", "d/a", "d/b", "d/d", "d/d/a", "a/x", "e/x", "d/../b", "."];

fn draw(random: &mut impl Rng) -> Call {
    let path = *PATHS.choose(random).unwrap();
    let other = *PATHS.choose(random).unwrap();
    match random.random_range(0..20) {
        0..=3 => Call::Write(path, random.random_range(0..9000)),
        4 => Call::FsyncFile(path),
        5 => Call::FsyncDir(path),
        6..=8 => Call::Rename(path, other),
        9 => Call::Link(path, other),
        10 => Call::Unlink(path),
        11..=13 => Call::Mkdir(path),
        14 => Call::Read(path, None),
        15 => {
            let start = random.random_range(0..9000);
            Call::Read(path, Some(start..start + random.random_range(0..150)))
        }
        16 => Call::Stat(path),
        17 => Call::List(path),
        18 => Call::Lock(path),
        _ => Call::Unlock,
    }
}

/// Makes the call and writes down the answer: values, or the kind of the error.
fn answer(posix: &dyn Posix, root: &Path, call: &Call, locks: &mut Vec<Box<dyn LockGuard>>) -> String {
    let at = |path: &str| -> PathBuf { if path == "." { root.to_path_buf() } else { root.join(path) } };
    let said = match call {
        Call::Write(path, len) => {
            let bytes: Vec<u8> = (0..*len).map(|i| (i % 251) as u8).collect();
            posix.write(&at(path), &bytes).map(|()| String::new())
        }
        Call::FsyncFile(path) => posix.fsync_file(&at(path)).map(|()| String::new()),
        Call::FsyncDir(path) => posix.fsync_dir(&at(path)).map(|()| String::new()),
        Call::Rename(from, to) => posix.rename(&at(from), &at(to)).map(|()| String::new()),
        Call::Link(from, to) => posix.link(&at(from), &at(to)).map(|()| String::new()),
        Call::Unlink(path) => posix.unlink(&at(path)).map(|()| String::new()),
        Call::Mkdir(path) => posix.mkdir(&at(path)).map(|()| String::new()),
        Call::Read(path, range) => posix.read(&at(path), range.clone()).map(|bytes| format!("{bytes:?}")),
        Call::Stat(path) => posix.stat(&at(path)).map(|stat| format!("{} {}", stat.len, stat.is_dir)),
        Call::List(path) => posix.list(&at(path)).map(|mut names| {
            names.sort();
            names.join(" ")
        }),
        Call::Lock(path) => posix.lock(&at(path)).map(|guard| {
            locks.push(guard);
            String::new()
        }),
        Call::Unlock => {
            locks.pop();
            Ok(String::new())
        }
    };
    said.unwrap_or_else(|error| format!("{:?}", error.kind()))
}

fn new_disk() -> (SimDisk, SimPosix) {
    let disk = SimDisk::new(VirtualClock::new(0));
    let posix = disk.outside();
    (disk, posix)
}

#[test]
fn the_same_scripts_give_the_same_answers_on_this_disk_and_on_a_real_one() {
    for seed in 0..150 {
        let mut random = Entropy::from_seed(seed).fork("posix script").stream();
        let real_root = tempfile::tempdir().unwrap();
        let (_, sim) = new_disk();
        sim.mkdir(Path::new("/root")).unwrap();
        let (mut real_locks, mut sim_locks) = (Vec::new(), Vec::new());
        let mut before = Vec::new();
        for _ in 0..60 {
            let call = draw(&mut random);
            let real = answer(&RealPosix, real_root.path(), &call, &mut real_locks);
            let simulated = answer(&sim, Path::new("/root"), &call, &mut sim_locks);
            assert_eq!(real, simulated, "seed {seed}: {call:?} after {before:?}");
            before.push(call);
        }
    }
}

/// What `/` holds after a crash that leaves `image`: names and contents.
fn after(disk: &SimDisk, image: CrashImage, seed: u64) -> Vec<(String, Option<Bytes>)> {
    disk.crash(image, Entropy::from_seed(seed));
    disk.files()
}

fn file(name: &str, data: &'static [u8]) -> (String, Option<Bytes>) {
    (name.to_owned(), Some(Bytes::from_static(data)))
}

/// `/old` is durable; then, un-synced: a new content of it, a new file, and a rename of the new file.
fn half_done() -> SimDisk {
    let (disk, posix) = new_disk();
    posix.write(Path::new("/old"), b"old").unwrap();
    disk.sync_all();
    posix.write(Path::new("/old"), b"changed").unwrap();
    posix.write(Path::new("/tmp"), b"new").unwrap();
    posix.rename(Path::new("/tmp"), Path::new("/new")).unwrap();
    disk
}

#[test]
fn each_image_keeps_what_it_says() {
    let zeros = file("/new", &[0; 3]);
    for (image, expected) in [
        (CrashImage::Kill, vec![file("/new", b"new"), file("/old", b"changed")]),
        (CrashImage::Strict, vec![file("/old", b"old")]),
        (CrashImage::Prefix(Some(0)), vec![file("/old", b"old")]),
        (CrashImage::Prefix(Some(1)), vec![file("/old", b"changed")]),
        (CrashImage::Prefix(Some(2)), vec![file("/old", b"changed"), file("/tmp", b"")]),
        (CrashImage::Prefix(Some(3)), vec![file("/old", b"changed"), file("/tmp", b"new")]),
        (CrashImage::Prefix(Some(4)), vec![file("/new", b"new"), file("/old", b"changed")]),
        (CrashImage::Ordered(Some(0)), vec![file("/old", b"old")]),
        (CrashImage::Ordered(Some(1)), vec![file("/old", b"old"), file("/tmp", b"")]),
        (CrashImage::Ordered(Some(2)), vec![file("/new", b"new"), file("/old", b"old")]),
        (CrashImage::Writeback, vec![zeros, file("/old", &[0; 7])]),
        (CrashImage::Empty, vec![file("/new", b""), file("/old", b"")]),
        (CrashImage::UndoneRename, vec![file("/old", b"changed"), file("/tmp", b"new")]),
    ] {
        assert_eq!(after(&half_done(), image, 0), expected, "{image}");
    }
}

#[test]
fn a_torn_content_ends_or_turns_to_zeros_at_a_block() {
    let (mut ended, mut zeroed) = (0, 0);
    for seed in 0..40 {
        let (disk, posix) = new_disk();
        posix.write(Path::new("/a"), &[7; 2000]).unwrap();
        let files = after(&disk, CrashImage::Torn512, seed);
        let data = files[0].1.as_ref().unwrap();
        let kept = data.iter().take_while(|byte| **byte == 7).count();
        assert!(kept % 512 == 0 && data[kept..].iter().all(|byte| *byte == 0), "{kept} of {}", data.len());
        if data.len() == 2000 { zeroed += 1 } else { ended += 1 }
    }
    assert!(ended > 0 && zeroed > 0);
}

#[test]
fn an_unlink_that_was_not_synced_may_come_undone() {
    let (disk, posix) = new_disk();
    posix.write(Path::new("/a"), b"a").unwrap();
    disk.sync_all();
    posix.unlink(Path::new("/a")).unwrap();
    assert_eq!(after(&disk, CrashImage::UndoneUnlink, 0), [file("/a", b"a")]);
    posix.unlink(Path::new("/a")).unwrap();
    posix.fsync_dir(Path::new("/")).unwrap();
    assert_eq!(after(&disk, CrashImage::UndoneUnlink, 0), []);
}

#[test]
fn only_both_syncs_make_a_file_durable() {
    for (fsync_file, fsync_dir, expected) in [
        (false, false, vec![]),
        (true, false, vec![]),
        (false, true, vec![file("/a", b"")]),
        (true, true, vec![file("/a", b"bytes")]),
    ] {
        let (disk, posix) = new_disk();
        posix.write(Path::new("/a"), b"bytes").unwrap();
        if fsync_file {
            posix.fsync_file(Path::new("/a")).unwrap();
        }
        if fsync_dir {
            posix.fsync_dir(Path::new("/")).unwrap();
        }
        assert_eq!(after(&disk, CrashImage::Strict, 0), expected, "{fsync_file} {fsync_dir}");
    }
}

#[test]
fn a_rename_across_directories_never_loses_the_file() {
    for synced in ["/from", "/to"] {
        let (disk, posix) = new_disk();
        posix.mkdir(Path::new("/from")).unwrap();
        posix.mkdir(Path::new("/to")).unwrap();
        posix.write(Path::new("/from/a"), b"a").unwrap();
        disk.sync_all();
        posix.rename(Path::new("/from/a"), Path::new("/to/a")).unwrap();
        posix.fsync_dir(Path::new(synced)).unwrap();
        let left = after(&disk, CrashImage::Strict, 0);
        assert!(left.contains(&file("/to/a", b"a")), "{synced} {left:?}");
    }
}

#[test]
fn what_a_prefix_leaves_open_is_drawn_from_the_entropy_and_repeats() {
    let left: Vec<_> = (0..30).map(|seed| after(&half_done(), CrashImage::Chaos, seed)).collect();
    let again: Vec<_> = (0..30).map(|seed| after(&half_done(), CrashImage::Chaos, seed)).collect();
    assert_eq!(left, again);
    assert!(left.iter().collect::<std::collections::BTreeSet<_>>().len() > 8, "chaos is not chaotic");
}

#[test]
fn after_an_fsync_that_failed_no_later_fsync_helps() {
    let clock = VirtualClock::new(0);
    let effects = Effects::new(clock.clone());
    let disk = SimDisk::new(clock);
    let harm = crate::fault::Harm::Eio;
    effects.arm([crate::fault::Fault { life: 0, at: "a fsync".into(), harm }]);
    let posix = disk.process(&effects, 0);
    posix.write(Path::new("/a"), b"a").unwrap();
    assert!(posix.fsync_file(Path::new("/a")).is_err());
    posix.fsync_file(Path::new("/a")).unwrap();
    posix.fsync_dir(Path::new("/")).unwrap();
    assert_eq!(posix.read(Path::new("/a"), None).unwrap(), b"a".as_slice(), "still visible");
    assert_eq!(after(&disk, CrashImage::Strict, 0), [file("/a", b"")]);
}

#[test]
fn a_full_disk_takes_a_part_and_says_so() {
    let (disk, posix) = new_disk();
    disk.set_capacity(Some(10));
    posix.write(Path::new("/a"), b"1234").unwrap();
    let error = posix.write(Path::new("/b"), b"1234567890").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    assert_eq!(posix.read(Path::new("/b"), None).unwrap(), b"123456".as_slice());
    posix.unlink(Path::new("/b")).unwrap();
    posix.write(Path::new("/a"), b"1234567890").unwrap();
}

#[test]
fn locks_end_with_their_process_and_old_guards_do_not_free_new_locks() {
    let (disk, posix) = new_disk();
    let path = Path::new("/lock");
    let old = posix.lock(path).unwrap();
    assert_eq!(posix.lock(path).unwrap_err().kind(), ErrorKind::WouldBlock);
    disk.crash(CrashImage::Kill, Entropy::from_seed(0));
    let _new = posix.lock(path).unwrap();
    drop(old);
    assert_eq!(posix.lock(path).unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[test]
fn inodes_that_nothing_leads_to_are_forgotten() {
    let (disk, posix) = new_disk();
    for _ in 0..5000 {
        posix.write(Path::new("/a"), b"a").unwrap();
        posix.fsync_file(Path::new("/a")).unwrap();
        posix.unlink(Path::new("/a")).unwrap();
        posix.fsync_dir(Path::new("/")).unwrap();
    }
    let state = disk.state();
    assert!(format!("{:?}", state.live).matches("File").count() <= SWEEP_AFTER as usize);
    assert!(format!("{:?}", state.durable).matches("File").count() <= SWEEP_AFTER as usize);
}

#[test]
fn images_have_names_that_read_back() {
    for image in CrashImage::ALL.into_iter().chain([CrashImage::Prefix(Some(3)), CrashImage::Ordered(Some(0))]) {
        assert_eq!(image.to_string().parse(), Ok(image));
    }
    assert!("strict:1".parse::<CrashImage>().is_err());
    assert!("lenient".parse::<CrashImage>().unwrap_err().contains("torn-4096"));
}
