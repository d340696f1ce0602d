//! A machine's disk in memory: what is durable, what is only visible, and what a power cut leaves of the difference.
//!
//! ```text
//! SimPosix (a process's handle) ──► Effects (name, fault, trace) ──► live tree      what processes see
//!                                                              └──► pending        un-synced effects, in order
//! fsync_file, fsync_dir: pending ──► durable tree
//! SimDisk::crash(image):  live = durable = durable + what the image keeps of pending     (image.rs)
//! ```
//! tree.rs holds inodes and names; image.rs chooses what survives. Absent from here: which paths mean what, and any
//! fault by position; `effects.rs` binds faults to names. Symbolic links and permissions do not exist on this disk.
//!
//! Where a real file system would be kinder than the contract of `Posix`, this one is not: fsync of a file does not
//! sync its name, fsync of one directory does not sync the other half of a rename, and after an fsync that failed
//! the content may never become durable, though later fsyncs succeed.

mod image;
mod posix;
mod tree;

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use twox_hash::XxHash64;
use wavetank_engine::environment::{Clock, Entropy};
use wavetank_engine::storage::posix::Stat;

use crate::clock::VirtualClock;
use crate::effects::{Effects, Injected};
pub use image::CrashImage;
use image::{Change, Pending, Verb, survive};
pub use posix::SimPosix;
use tree::{Ino, Node, ROOT, Tree, refuse};

/// Nameless inodes are swept out after this many names went.
const SWEEP_AFTER: u32 = 1024;

/// One machine's disk. Cheap to clone; clones are the same disk. It outlives the processes that use it.
#[derive(Clone)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
    clock: VirtualClock,
}

struct State {
    live: Tree,
    durable: Tree,
    pending: Vec<Pending>,
    inodes_count: Ino,
    calls_count: u64,
    syncs_count: u64,
    capacity_bytes: Option<u64>,
    /// Locked inode -> its holder.
    locks: BTreeMap<Ino, u64>,
    holders_count: u64,
    gone_count: u32,
    history: BTreeMap<String, Bytes>,
    /// For planted bugs: calls that are done late, and answers that are given again.
    deferred: Vec<Deferred>,
    first_reads: BTreeMap<PathBuf, Bytes>,
}

type Deferred = Box<dyn FnOnce(&mut State) + Send>;

/// Names of files whose every content is remembered, for oracles: entries of logs and of source logs.
const REMEMBERED: [&str; 2] = ["/offsets/", "/sources/"];

impl SimDisk {
    /// An empty disk whose files are dated by `clock`.
    pub fn new(clock: VirtualClock) -> Self {
        let tree = Tree::new(clock.now_us());
        let state = State {
            live: tree.clone(),
            durable: tree,
            pending: Vec::new(),
            inodes_count: ROOT,
            calls_count: 0,
            syncs_count: 0,
            capacity_bytes: None,
            locks: BTreeMap::new(),
            holders_count: 0,
            gone_count: 0,
            history: BTreeMap::new(),
            deferred: Vec::new(),
            first_reads: BTreeMap::new(),
        };
        Self { state: Arc::new(Mutex::new(state)), clock }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The disk as the process in this life sees it: each call is an effect, and fails when that life is over.
    pub fn process(&self, effects: &Effects, life: u32) -> SimPosix {
        SimPosix { disk: self.clone(), seam: Some((effects.clone(), life)) }
    }

    /// The disk as anything else sees it (droppers of files, readers of a sink): no effects, no faults.
    pub fn outside(&self) -> SimPosix {
        SimPosix { disk: self.clone(), seam: None }
    }

    /// How many bytes the disk holds; `None` (as it begins) is without end.
    pub fn set_capacity(&self, capacity_bytes: Option<u64>) {
        self.state().capacity_bytes = capacity_bytes;
    }

    /// The process ends in peace: what planted bugs have put off is done.
    pub(crate) fn do_deferred(&self) {
        self.state().do_deferred();
    }

    /// Makes everything durable, as `sync` does.
    pub fn sync_all(&self) {
        let mut state = self.state();
        let pending = std::mem::take(&mut state.pending);
        pending.iter().for_each(|effect| effect.apply(&mut state.durable));
        state.sweep();
    }

    /// Somebody outside dates a file otherwise, durably.
    pub fn date(&self, path: &Path, modified_us: i64) {
        let mut state = self.state();
        let Ok(ino) = state.live.find(path) else { return };
        state.live.date(ino, modified_us);
        state.durable.date(ino, modified_us);
    }

    /// How many calls have effects that are not synced.
    pub fn unsynced_count(&self) -> usize {
        let state = self.state();
        state.pending.iter().map(|effect| effect.call).collect::<std::collections::BTreeSet<_>>().len()
    }

    /// Ends the process, and unless the image is [`CrashImage::Kill`] the power too: locks are free, and a rebooted
    /// machine sees what `image` says. Choices that the image leaves open are drawn from `entropy`.
    pub fn crash(&self, image: CrashImage, entropy: Entropy) {
        let mut state = self.state();
        state.locks.clear();
        state.deferred.clear();
        state.first_reads.clear();
        if image == CrashImage::Kill {
            return;
        }
        let mut random = entropy.fork(&image.to_string()).stream();
        let tree = survive(&state.durable, &state.pending, image, &mut random);
        state.live = tree.clone();
        state.durable = tree;
        state.pending.clear();
    }

    /// The newest content that files in `offsets` and `sources` folders were ever given, whatever became of them.
    pub fn history(&self) -> BTreeMap<String, Bytes> {
        self.state().history.clone()
    }

    /// What [`SimDisk::files`] would give after the power failed now and nothing survived that was not synced.
    pub fn durable_files(&self) -> Vec<(String, Option<Bytes>)> {
        self.state().durable.files()
    }

    /// The [`SimDisk::digest`] that the disk would have after such a crash.
    pub fn digest_after(&self, image: CrashImage, entropy: Entropy) -> u64 {
        let state = self.state();
        let mut random = entropy.fork(&image.to_string()).stream();
        digest(&survive(&state.durable, &state.pending, image, &mut random).files())
    }

    /// A number that changes whenever what is visible or what is durable may have changed.
    pub fn version(&self) -> u64 {
        let state = self.state();
        state.calls_count + state.syncs_count
    }

    /// A digest of every file and directory that is visible, with their names and contents; times do not count.
    pub fn digest(&self) -> u64 {
        digest(&self.files())
    }

    /// Every visible path (no content for directories), in order.
    pub fn files(&self) -> Vec<(String, Option<Bytes>)> {
        self.state().live.files()
    }
}

fn digest(files: &[(String, Option<Bytes>)]) -> u64 {
    files.iter().fold(0, |hash, (path, data)| {
        let hash = XxHash64::oneshot(hash, path.as_bytes());
        data.as_ref().map_or(hash, |data| XxHash64::oneshot(hash ^ 1, data))
    })
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        write!(f, "SimDisk({} inodes, {} un-synced)", state.live.reachable().len(), state.pending.len())
    }
}

impl State {
    fn do_deferred(&mut self) {
        for call in std::mem::take(&mut self.deferred) {
            call(self);
        }
    }

    fn new_inode(&mut self) -> Ino {
        self.inodes_count += 1;
        self.inodes_count
    }

    fn change(&mut self, call: u64, at_us: i64, change: Change) {
        let effect = Pending { call, at_us, change };
        effect.apply(&mut self.live);
        self.pending.push(effect);
    }

    fn new_call(&mut self) -> u64 {
        self.calls_count += 1;
        self.calls_count
    }

    fn sync(&mut self, which: impl Fn(&Pending) -> bool) {
        if self.pending.iter().any(&which) {
            self.syncs_count += 1;
            let (synced, rest) = std::mem::take(&mut self.pending).into_iter().partition(|effect| which(effect));
            self.pending = rest;
            let synced: Vec<Pending> = synced;
            synced.iter().for_each(|effect| effect.apply(&mut self.durable));
        }
    }

    /// Now and then forgets inodes that no name, no un-synced effect and no lock leads to.
    fn name_went(&mut self) {
        self.gone_count += 1;
        if self.gone_count >= SWEEP_AFTER {
            self.sweep();
        }
    }

    fn sweep(&mut self) {
        self.gone_count = 0;
        let mut keep = self.live.reachable();
        keep.extend(self.durable.reachable());
        keep.extend(self.pending.iter().map(Pending::ino));
        keep.extend(self.pending.iter().filter_map(Pending::dir));
        keep.extend(self.locks.keys());
        self.live.sweep(&keep);
        self.durable.sweep(&keep);
    }

    fn write(&mut self, path: &Path, bytes: &Bytes, now_us: i64, mut full: bool) -> io::Result<()> {
        let (dir, name) = self.live.place(path)?;
        let there = self.live.lookup(dir, name);
        if there.is_some_and(|ino| self.live.is_dir(ino)) {
            return Err(refuse(ErrorKind::IsADirectory, path));
        }
        let freed_bytes = there.map_or(0, |ino| self.live.data(ino).len() as u64);
        let mut written_bytes = if full { bytes.len() / 2 } else { bytes.len() };
        if let Some(capacity_bytes) = self.capacity_bytes {
            let free_bytes = capacity_bytes.saturating_sub(self.live.used_bytes() - freed_bytes);
            if free_bytes < written_bytes as u64 {
                full = true;
                written_bytes = usize::try_from(free_bytes).unwrap_or(usize::MAX);
            }
        }
        let ino = there.unwrap_or_else(|| self.new_inode());
        let call = self.new_call();
        if there.is_none() {
            let name = name.to_owned();
            self.change(call, now_us, Change::Name { dir, name, ino, is_dir: false, verb: Verb::Create });
        }
        // The name and the content of a new file are two effects: a crash may keep either.
        let call = self.new_call();
        let data = bytes.slice(..written_bytes);
        self.change(call, now_us, Change::Content { ino, data });
        if full { Err(Injected::NoSpace.into()) } else { Ok(()) }
    }

    fn rename(&mut self, from: &Path, to: &Path, now_us: i64) -> io::Result<()> {
        let (from_dir, from_name) = self.live.place(from)?;
        let (to_dir, to_name) = self.live.place(to)?;
        let ino = self.live.lookup(from_dir, from_name).ok_or_else(|| refuse(ErrorKind::NotFound, from))?;
        let is_dir = self.live.is_dir(ino);
        if is_dir && self.is_inside(to, ino) {
            return Err(refuse(ErrorKind::InvalidInput, to));
        }
        if let Some(replaced) = self.live.lookup(to_dir, to_name) {
            if replaced == ino {
                return Ok(()); // POSIX: two names of one file stay as they are
            }
            match (is_dir, self.live.names(replaced)) {
                (true, None) => return Err(refuse(ErrorKind::NotADirectory, to)),
                (false, Some(names)) if names.is_empty() => return Err(refuse(ErrorKind::IsADirectory, to)),
                (false, Some(_)) => {
                    let kind = if self.is_inside(from, replaced) {
                        ErrorKind::DirectoryNotEmpty
                    } else {
                        ErrorKind::IsADirectory
                    };
                    return Err(refuse(kind, to));
                }
                (true, Some(names)) if !names.is_empty() => return Err(refuse(ErrorKind::DirectoryNotEmpty, to)),
                _ => {}
            }
        }
        let call = self.new_call();
        let verb = Verb::Rename;
        self.change(call, now_us, Change::Name { dir: to_dir, name: to_name.to_owned(), ino, is_dir, verb });
        self.change(call, now_us, Change::Gone { dir: from_dir, name: from_name.to_owned(), ino, verb });
        self.name_went();
        self.remember(to, ino);
        Ok(())
    }

    fn remember(&mut self, path: &Path, ino: Ino) {
        let path = path.to_string_lossy();
        if REMEMBERED.iter().any(|part| path.contains(part)) && !self.live.is_dir(ino) {
            self.history.insert(path.into_owned(), self.live.data(ino));
        }
    }

    /// Whether `path` lies in the directory `dir`, at any depth.
    fn is_inside(&self, path: &Path, dir: Ino) -> bool {
        path.parent().and_then(|parent| self.live.trail(parent).ok()).is_some_and(|trail| trail.contains(&dir))
    }

    fn link(&mut self, from: &Path, to: &Path, now_us: i64) -> io::Result<()> {
        let ino = self.live.find(from)?;
        self.link_inode(ino, to, now_us)
    }

    fn link_inode(&mut self, ino: Ino, to: &Path, now_us: i64) -> io::Result<()> {
        let (dir, name) = self.live.place(to)?;
        if self.live.lookup(dir, name).is_some() {
            return Err(refuse(ErrorKind::AlreadyExists, to));
        }
        if self.live.is_dir(ino) {
            return Err(refuse(ErrorKind::PermissionDenied, to));
        }
        let (call, name) = (self.new_call(), name.to_owned());
        self.change(call, now_us, Change::Name { dir, name, ino, is_dir: false, verb: Verb::Link });
        self.remember(to, ino);
        Ok(())
    }

    fn unlink(&mut self, path: &Path, now_us: i64) -> io::Result<()> {
        let (dir, name) = self.live.place(path)?;
        let ino = self.live.lookup(dir, name).ok_or_else(|| refuse(ErrorKind::NotFound, path))?;
        if self.live.is_dir(ino) {
            return Err(refuse(ErrorKind::IsADirectory, path));
        }
        let (call, name) = (self.new_call(), name.to_owned());
        self.change(call, now_us, Change::Gone { dir, name, ino, verb: Verb::Unlink });
        self.name_went();
        Ok(())
    }

    fn mkdir(&mut self, path: &Path, now_us: i64) -> io::Result<()> {
        let Ok((dir, name)) = self.live.place(path) else {
            // `/` and `a/..` have no last name of their own; they are there, or their parents are not.
            return match (path.file_name(), self.live.find(path)) {
                (None, Ok(_)) => Err(refuse(ErrorKind::AlreadyExists, path)),
                _ => self.live.place(path).map(|_| ()),
            };
        };
        if self.live.lookup(dir, name).is_some() {
            return Err(refuse(ErrorKind::AlreadyExists, path));
        }
        let (call, ino, name) = (self.new_call(), self.new_inode(), name.to_owned());
        self.change(call, now_us, Change::Name { dir, name, ino, is_dir: true, verb: Verb::Mkdir });
        Ok(())
    }

    fn fsync_file(&mut self, path: &Path, eio: bool) -> io::Result<()> {
        let ino = self.live.find(path)?;
        if eio {
            // The kernel marks the pages clean: they are visible, and no later fsync writes them.
            self.syncs_count += 1;
            self.pending.retain(|effect| !effect.is_content_of(ino));
            return Err(Injected::Eio.into());
        }
        self.sync(|effect| effect.is_content_of(ino));
        Ok(())
    }

    fn fsync_dir(&mut self, path: &Path) -> io::Result<()> {
        let dir = self.live.find(path)?;
        // A journal never loses the file: whoever syncs the end of the old name syncs the new name too.
        let ended: Vec<u64> = self
            .pending
            .iter()
            .filter(|effect| effect.dir() == Some(dir) && matches!(effect.change, Change::Gone { .. }))
            .map(|effect| effect.call)
            .collect();
        self.sync(|effect| effect.dir() == Some(dir) || (effect.dir().is_some() && ended.contains(&effect.call)));
        Ok(())
    }

    fn read(&self, path: &Path, range: Option<Range<u64>>) -> io::Result<Bytes> {
        let ino = self.live.find(path)?;
        let Some(Node::File { data, .. }) = self.live.node(ino) else {
            return Err(refuse(ErrorKind::IsADirectory, path));
        };
        Ok(match range {
            None => data.clone(),
            Some(range) => {
                let end = range.end.min(data.len() as u64) as usize;
                let start = range.start.min(end as u64) as usize;
                data.slice(start..end)
            }
        })
    }

    fn stat(&self, path: &Path) -> io::Result<Stat> {
        let ino = self.live.find(path)?;
        match self.live.node(ino) {
            Some(Node::File { data, modified_us }) => {
                Ok(Stat { len: data.len() as u64, modified_us: *modified_us, is_dir: false })
            }
            Some(Node::Dir { modified_us, .. }) => Ok(Stat { len: 0, modified_us: *modified_us, is_dir: true }),
            None => Err(refuse(ErrorKind::NotFound, path)),
        }
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let dir = self.live.find(path)?;
        let names = self.live.names(dir).ok_or_else(|| refuse(ErrorKind::NotADirectory, path))?;
        Ok(names.keys().cloned().collect())
    }

    fn lock(&mut self, path: &Path, now_us: i64) -> io::Result<(Ino, u64)> {
        let (dir, name) = self.live.place(path)?;
        let ino = match self.live.lookup(dir, name) {
            Some(ino) if self.live.is_dir(ino) => return Err(refuse(ErrorKind::IsADirectory, path)),
            Some(ino) => ino,
            None => {
                let (call, ino, name) = (self.new_call(), self.new_inode(), name.to_owned());
                self.change(call, now_us, Change::Name { dir, name, ino, is_dir: false, verb: Verb::Create });
                ino
            }
        };
        if self.locks.contains_key(&ino) {
            return Err(refuse(ErrorKind::WouldBlock, path));
        }
        self.holders_count += 1;
        self.locks.insert(ino, self.holders_count);
        Ok((ino, self.holders_count))
    }
}

#[cfg(test)]
mod tests;
