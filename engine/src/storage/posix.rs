//! The few calls of a POSIX file system that durability needs, as a trait: real disks and simulated ones implement it.

use std::fmt::Debug;
use std::io;
use std::ops::Range;
use std::path::Path;

use bytes::Bytes;

/// What a file or directory says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Size in bytes; 0 for a directory.
    pub len: u64,
    /// When the content last changed: microseconds since 1970.
    pub modified_us: i64,
    /// Whether it is a directory.
    pub is_dir: bool,
}

/// Holds a lock until dropped (or until the process dies).
pub trait LockGuard: Debug + Send + Sync {}

/// The calls of a POSIX file system.
///
/// # Contract
/// * Only what was synced survives a power cut: a file's content by `fsync_file`, its name (creation, rename, link,
///   unlink, mkdir) by `fsync_dir` of the directory that holds the name. Everything else may survive in part.
/// * Errors carry the usual [`io::ErrorKind`]: `NotFound`, `AlreadyExists`, `StorageFull`, `PermissionDenied`, ...
/// * After `fsync_*` failed, nothing may be assumed about what it should have synced.
pub trait Posix: Debug + Send + Sync + 'static {
    /// Creates the file, or truncates it, and writes these bytes. The directory must be there. Syncs nothing.
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;
    /// Makes the file's content durable.
    fn fsync_file(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in this directory durable.
    fn fsync_dir(&self, path: &Path) -> io::Result<()>;
    /// Gives a file another name, replacing what had that name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Gives a file a second name; `AlreadyExists` when the name is taken.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a name.
    fn unlink(&self, path: &Path) -> io::Result<()>;
    /// Makes a directory; `AlreadyExists` when the name is taken. The parent must be there.
    fn mkdir(&self, path: &Path) -> io::Result<()>;
    /// Reads a file, or the part of it that `range` (bytes) covers; a range past the end gives what there is.
    fn read(&self, path: &Path, range: Option<Range<u64>>) -> io::Result<Bytes>;
    /// Size, time and kind; follows symbolic links.
    fn stat(&self, path: &Path) -> io::Result<Stat>;
    /// The names in a directory, in no promised order.
    fn list(&self, path: &Path) -> io::Result<Vec<String>>;
    /// Locks the file (created when missing) against every other holder, in this process and others;
    /// `WouldBlock` when somebody has it.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn LockGuard>>;
    /// Whether calls may take long enough (a real disk) that they belong on a blocking thread.
    fn blocks(&self) -> bool;
}
