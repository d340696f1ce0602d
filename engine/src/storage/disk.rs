//! The synchronous half of [`DurableLocal`](super::DurableLocal): each operation as a sequence of posix calls, in the
//! order that makes it durable.
//!
//! Absent: everything asynchronous, and the choice of the thread that waits for the disk.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::path::{Path as FsPath, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use chrono::DateTime;
use object_store::path::Path;
use object_store::{Error, GetOptions, ListResult, ObjectMeta, PutMode, PutResult, RenameTargetMode, Result};

use crate::storage::Lock;
use crate::storage::posix::{Posix, Stat};

pub(super) const STORE: &str = "DurableLocal";
/// Names that start so are ours, unfinished, and shown to nobody.
pub(super) const TEMP_PREFIX: &str = ".wt-tmp-";
/// A longer target name is replaced by its hash in the temporary name (file systems end at 255 bytes).
const TEMP_NAME_BYTES: usize = 200;
/// What is larger is read in pieces of this size.
pub(super) const READ_CHUNK_BYTES: u64 = 8 << 20;
/// A write that finds its folder or temporary file gone (somebody cleans up) starts over this often.
const WRITE_TRIES: usize = 3;

#[derive(Debug)]
pub(super) struct Disk {
    pub(super) posix: Arc<dyn Posix>,
    pub(super) root: PathBuf,
    tag: u64,
    /// Folders whose names, and whose parents' names, are known to be synced.
    durable_dirs: Mutex<BTreeSet<PathBuf>>,
    /// Temporary files that a put of this process is using now.
    busy: Mutex<BTreeSet<PathBuf>>,
    idle: Condvar,
}

impl Disk {
    pub(super) fn new(posix: Arc<dyn Posix>, root: PathBuf, tag: u64) -> Self {
        let (durable_dirs, busy) = (Mutex::default(), Mutex::default());
        Self { posix, root, tag, durable_dirs, busy, idle: Condvar::new() }
    }

    pub(super) fn fs_path(&self, location: &Path) -> PathBuf {
        self.root.join(location.as_ref())
    }

    /// Makes the folder and its missing parents, and makes sure that every name on the way to it is synced: also the
    /// names that were there, since the process that made them may have been killed before it synced them. Once per
    /// folder and process.
    fn make_dir_durable(&self, dir: &FsPath) -> io::Result<()> {
        let mut missing = Vec::new();
        let mut there = dir;
        while !lock(&self.durable_dirs).contains(there) {
            match self.posix.stat(there) {
                Ok(stat) if stat.is_dir => break,
                Ok(_) => return Err(ErrorKind::NotADirectory.into()),
                Err(error) if error.kind() == ErrorKind::NotFound => missing.push(there),
                Err(error) => return Err(error),
            }
            there = there.parent().ok_or(ErrorKind::NotFound)?;
        }
        self.sync_names_to(there)?;
        for new in missing.into_iter().rev() {
            match self.posix.mkdir(new) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
            if let Some(parent) = new.parent() {
                self.posix.fsync_dir(parent)?;
            }
            lock(&self.durable_dirs).insert(new.to_path_buf());
        }
        Ok(())
    }

    /// Syncs the names of a folder that is there, and of its parents.
    fn sync_names_to(&self, dir: &FsPath) -> io::Result<()> {
        for dir in dir.ancestors() {
            if lock(&self.durable_dirs).contains(dir) {
                break;
            }
            match dir.parent().map(|parent| self.posix.fsync_dir(parent)) {
                // We could not have made anything in a folder that we may not even open.
                Some(Err(error)) if error.kind() != ErrorKind::PermissionDenied => return Err(error),
                _ => {}
            }
            lock(&self.durable_dirs).insert(dir.to_path_buf());
        }
        Ok(())
    }

    pub(super) fn put(&self, path: &FsPath, bytes: &[u8], mode: &PutMode) -> Result<PutResult> {
        let (Some(dir), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
            return Err(refused("writing", path, ErrorKind::IsADirectory.into()));
        };
        if name.starts_with(TEMP_PREFIX) {
            let text = format!("names that start with {TEMP_PREFIX} are kept for unfinished files; use another name");
            return Err(refused("writing", path, io::Error::new(ErrorKind::InvalidInput, text)));
        }
        let mut tries = 0;
        let written = loop {
            tries += 1;
            match self.make_dir_durable(dir).and_then(|()| self.write_and_name(dir, name, bytes, mode)) {
                Err(error) if error.kind() == ErrorKind::NotFound && tries < WRITE_TRIES => {
                    // Rare: somebody deleted a folder that we knew, this one or one above it.
                    lock(&self.durable_dirs).clear();
                }
                written => break written,
            }
        };
        written.map_err(|error| refused("writing", path, error))?;
        Ok(PutResult { e_tag: None, version: None })
    }

    fn write_and_name(&self, dir: &FsPath, name: &str, bytes: &[u8], mode: &PutMode) -> io::Result<()> {
        let temp = self.take_temp(dir, name);
        let named = self.write_temp_and_name(&temp, &dir.join(name), bytes, mode);
        if named.is_err() {
            // Whatever went wrong is what the caller must hear, not that tidying failed too.
            let _ = self.posix.unlink(&temp);
        }
        lock(&self.busy).remove(&temp);
        self.idle.notify_all();
        match named {
            // Who acts on "it is there" (our own lost try, perhaps) must be able to rely on it: sync its name too.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                self.posix.fsync_dir(dir)?;
                Err(error)
            }
            Err(error) => Err(error),
            Ok(()) => self.posix.fsync_dir(dir),
        }
    }

    fn write_temp_and_name(&self, temp: &FsPath, path: &FsPath, bytes: &[u8], mode: &PutMode) -> io::Result<()> {
        // A left temporary file may share its content with a file that was linked to it: never write into it.
        match self.posix.unlink(temp) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        self.posix.write(temp, bytes)?;
        self.posix.fsync_file(temp)?;
        match mode {
            PutMode::Create => {
                self.posix.link(temp, path)?;
                self.posix.unlink(temp)
            }
            PutMode::Overwrite | PutMode::Update(_) => self.posix.rename(temp, path),
        }
    }

    /// A temporary name that no other put of this process is using: the same one for the same file whenever it is free.
    fn take_temp(&self, dir: &FsPath, name: &str) -> PathBuf {
        let hashed;
        let name = if name.len() <= TEMP_NAME_BYTES {
            name
        } else {
            hashed = format!("{:016x}", twox_hash::XxHash64::oneshot(0, name.as_bytes()));
            &hashed
        };
        let mut busy = lock(&self.busy);
        let mut slot = 0;
        loop {
            let temp = dir.join(format!("{TEMP_PREFIX}{:x}-{slot}-{name}", self.tag));
            if busy.insert(temp.clone()) {
                return temp;
            }
            slot += 1;
        }
    }

    pub(super) fn settle(&self, dir: &FsPath) -> Result<()> {
        self.settle_dir(dir).map_err(|error| refused("settling the folder", dir, error))
    }

    fn settle_dir(&self, dir: &FsPath) -> io::Result<()> {
        let mut busy = lock(&self.busy);
        while busy.iter().any(|temp| temp.parent() == Some(dir)) {
            busy = self.idle.wait(busy).unwrap_or_else(PoisonError::into_inner);
        }
        drop(busy);
        match self.posix.list(dir) {
            Ok(names) => {
                let mut left: Vec<_> = names.into_iter().filter(|name| name.starts_with(TEMP_PREFIX)).collect();
                left.sort_unstable();
                for name in left {
                    match self.posix.unlink(&dir.join(name)) {
                        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                        _ => {}
                    }
                }
                self.sync_names_to(dir)?;
                self.posix.fsync_dir(dir)
            }
            Err(error) if is_absent(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }

    pub(super) fn lock(&self, path: &FsPath) -> Result<Lock> {
        if let Some(dir) = path.parent() {
            self.make_dir_durable(dir).map_err(|error| refused("making the folder", dir, error))?;
        }
        match self.posix.lock(path) {
            Ok(guard) => Ok(Lock::Held(guard)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(Lock::Taken),
            // Some network file systems have no locks.
            Err(error) if error.kind() == ErrorKind::Unsupported => Ok(Lock::Unsupported),
            Err(error) => Err(refused("locking", path, error)),
        }
    }

    /// Size and time of a file; a folder is not found, as it is no object.
    fn file_stat(&self, path: &FsPath) -> Result<Stat> {
        match self.posix.stat(path) {
            Ok(stat) if stat.is_dir => Err(refused("reading", path, ErrorKind::NotFound.into())),
            Ok(stat) => Ok(stat),
            Err(error) if is_absent(&error) => Err(refused("reading", path, ErrorKind::NotFound.into())),
            Err(error) => Err(refused("reading", path, error)),
        }
    }

    /// Meta data, range and the first piece of what `options` asks for.
    pub(super) fn get(&self, location: Path, options: &GetOptions) -> Result<(ObjectMeta, Range<u64>, Bytes)> {
        let path = self.fs_path(&location);
        let stat = self.file_stat(&path)?;
        let mut meta = meta(location, stat);
        options.check_preconditions(&meta)?;
        let range = match &options.range {
            Some(range) => range
                .as_range(stat.len)
                .map_err(|error| refused("reading", &path, io::Error::new(ErrorKind::InvalidInput, error)))?,
            None => 0..stat.len,
        };
        if options.head {
            return Ok((meta, range, Bytes::new()));
        }
        if options.range.is_none() && stat.len <= READ_CHUNK_BYTES {
            // In one call and without a size: what another process renames into place meanwhile is read whole.
            let bytes = self.posix.read(&path, None).map_err(|error| refused("reading", &path, error))?;
            meta.size = bytes.len() as u64;
            return Ok((meta, 0..bytes.len() as u64, bytes));
        }
        let first = self.read_piece(&path, &range, &stat, false)?;
        // Who asks for one version must not get bytes of another one that came since it was looked at.
        if options.if_match.is_some() && self.file_stat(&path)? != stat {
            return Err(changed(&path));
        }
        Ok((meta, range, first))
    }

    /// The first piece of a range, of a file that still looks as it did.
    pub(super) fn read_piece(&self, path: &FsPath, range: &Range<u64>, stat: &Stat, look: bool) -> Result<Bytes> {
        if look && self.file_stat(path)? != *stat {
            return Err(changed(path));
        }
        let piece = range.start..range.end.min(range.start + READ_CHUNK_BYTES);
        let bytes = self.posix.read(path, Some(piece.clone())).map_err(|error| refused("reading", path, error))?;
        if bytes.len() as u64 != piece.end - piece.start {
            return Err(changed(path));
        }
        Ok(bytes)
    }

    pub(super) fn delete(&self, location: &Path) -> Result<()> {
        let path = self.fs_path(location);
        match self.posix.unlink(&path) {
            Err(error) if is_absent(&error) => Err(refused("deleting", &path, ErrorKind::NotFound.into())),
            Err(error) => Err(refused("deleting", &path, error)),
            Ok(()) => Ok(()),
        }
    }

    /// Names, with size and time, directly in a folder, in order; none when it is not there.
    fn entries(&self, dir: &FsPath) -> Result<Vec<(String, Stat)>> {
        let mut names = match self.posix.list(dir) {
            Ok(names) => names,
            Err(error) if is_absent(&error) => return Ok(Vec::new()),
            Err(error) => return Err(refused("listing", dir, error)),
        };
        names.retain(|name| !name.starts_with(TEMP_PREFIX));
        names.sort_unstable();
        let mut entries = Vec::with_capacity(names.len());
        for name in names {
            let path = dir.join(&name);
            match self.posix.stat(&path) {
                Ok(stat) => entries.push((name, stat)),
                // Gone since it was listed, or a symbolic link to nothing.
                Err(error) if is_absent(&error) => {}
                Err(error) => return Err(refused("listing", &path, error)),
            }
        }
        Ok(entries)
    }

    pub(super) fn list_below(&self, prefix: &Path) -> Result<Vec<ObjectMeta>> {
        let mut found = Vec::new();
        let mut folders = vec![prefix.clone()];
        while let Some(folder) = folders.pop() {
            for (name, stat) in self.entries(&self.fs_path(&folder))? {
                let location = below(&folder, &name)?;
                if stat.is_dir {
                    folders.push(location);
                } else {
                    found.push(meta(location, stat));
                }
            }
        }
        found.sort_unstable_by(|a, b| a.location.cmp(&b.location));
        Ok(found)
    }

    pub(super) fn list_one_level(&self, prefix: &Path) -> Result<ListResult> {
        let mut listed = ListResult { common_prefixes: Vec::new(), objects: Vec::new() };
        for (name, stat) in self.entries(&self.fs_path(prefix))? {
            let location = below(prefix, &name)?;
            if stat.is_dir {
                listed.common_prefixes.push(location);
            } else {
                listed.objects.push(meta(location, stat));
            }
        }
        Ok(listed)
    }

    pub(super) fn copy(&self, from: &Path, to: &Path, mode: &PutMode) -> Result<()> {
        let from = self.fs_path(from);
        self.file_stat(&from)?;
        let bytes = self.posix.read(&from, None).map_err(|error| refused("reading", &from, error))?;
        self.put(&self.fs_path(to), &bytes, mode)?;
        Ok(())
    }

    /// Gives a file another name, durably: the new name is on disk before the old one is taken away.
    pub(super) fn rename(&self, from: &Path, to: &Path, mode: &RenameTargetMode) -> Result<()> {
        let (from, to) = (self.fs_path(from), self.fs_path(to));
        self.file_stat(&from)?;
        let (Some(from_dir), Some(to_dir)) = (from.parent(), to.parent()) else {
            return Err(refused("renaming", &from, ErrorKind::IsADirectory.into()));
        };
        let renamed = (|| {
            self.make_dir_durable(to_dir)?;
            match mode {
                RenameTargetMode::Overwrite => {
                    self.posix.rename(&from, &to)?;
                    self.posix.fsync_dir(to_dir)?;
                }
                RenameTargetMode::Create => {
                    self.posix.link(&from, &to)?;
                    self.posix.fsync_dir(to_dir)?;
                    self.posix.unlink(&from)?;
                }
            }
            if from_dir != to_dir || *mode == RenameTargetMode::Create {
                self.posix.fsync_dir(from_dir)
            } else {
                Ok(())
            }
        })();
        renamed.map_err(|error| refused("renaming to", &to, error))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // The sets are right after every single change, so a panic elsewhere leaves nothing half done in them.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn below(folder: &Path, name: &str) -> Result<Path> {
    Ok(Path::parse(if folder.is_root() { name.to_string() } else { format!("{folder}/{name}") })?)
}

fn changed(path: &FsPath) -> Error {
    let text = "the file changed while it was read; files must be moved into place whole";
    refused("reading", path, io::Error::other(text))
}

fn meta(location: Path, stat: Stat) -> ObjectMeta {
    ObjectMeta {
        location,
        last_modified: DateTime::from_timestamp_micros(stat.modified_us).unwrap_or_default(),
        size: stat.len,
        e_tag: Some(format!("{:x}-{:x}", stat.modified_us, stat.len)),
        version: None,
    }
}

/// Not there, or below something that is a file.
fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

/// A refusal of the file system, with what was being done, where, and what can be done about it.
pub(super) fn refused(doing: &str, path: &FsPath, error: io::Error) -> Error {
    let kind = error.kind();
    let advice = match kind {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            " Free some space there, then start the query again: nothing that was committed is lost."
        }
        ErrorKind::ReadOnlyFilesystem => " Choose a place that can be written to.",
        ErrorKind::PermissionDenied => " Give this user the right to do that, or choose another place.",
        ErrorKind::NotADirectory => " A part of this path is a file; choose another place, or move that file away.",
        ErrorKind::InvalidFilename => " Choose a shorter name.",
        _ => "",
    };
    let shown = path.display().to_string();
    let source = Box::new(io::Error::new(kind, format!("{doing} {shown}: {error}.{advice}")));
    match kind {
        ErrorKind::NotFound => Error::NotFound { path: shown, source },
        ErrorKind::AlreadyExists => Error::AlreadyExists { path: shown, source },
        ErrorKind::PermissionDenied => Error::PermissionDenied { path: shown, source },
        _ => Error::Generic { store: STORE, source },
    }
}
