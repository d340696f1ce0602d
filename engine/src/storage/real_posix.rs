//! [`Posix`] on a real disk: the one file of the engine that may use `std::fs`.
#![expect(clippy::disallowed_methods, reason = "this is what everything else is told to use instead of std::fs")]

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::Path;
use std::time::UNIX_EPOCH;

use bytes::Bytes;

use crate::storage::posix::{LockGuard, Posix, Stat};

/// The disk of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealPosix;

/// An open, locked file. The lock belongs to the open file, so the kernel ends it when the process dies.
#[derive(Debug)]
struct LockedFile {
    _file: File,
}

impl LockGuard for LockedFile {}

impl Posix for RealPosix {
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        File::create(path)?.write_all(bytes)
    }

    fn fsync_file(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn fsync_dir(&self, path: &Path) -> io::Result<()> {
        match File::open(path)?.sync_all() {
            // Some file systems (SMB, some FUSE) cannot sync a directory and say so this way; there is nothing to be
            // done about it then.
            Err(error) if matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported) => Ok(()),
            answer => answer,
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::hard_link(from, to)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn mkdir(&self, path: &Path) -> io::Result<()> {
        fs::create_dir(path)
    }

    fn read(&self, path: &Path, range: Option<Range<u64>>) -> io::Result<Bytes> {
        let mut file = File::open(path)?;
        let mut bytes = Vec::new();
        match range {
            None => {
                bytes.reserve(usize::try_from(file.metadata()?.len()).unwrap_or(0));
                file.read_to_end(&mut bytes)?;
            }
            Some(range) => {
                file.seek(SeekFrom::Start(range.start))?;
                file.take(range.end.saturating_sub(range.start)).read_to_end(&mut bytes)?;
            }
        }
        Ok(bytes.into())
    }

    fn stat(&self, path: &Path) -> io::Result<Stat> {
        let metadata = fs::metadata(path)?;
        let modified_us = match metadata.modified()?.duration_since(UNIX_EPOCH) {
            Ok(after) => i64::try_from(after.as_micros()).unwrap_or(i64::MAX),
            Err(before) => i64::try_from(before.duration().as_micros()).map_or(i64::MIN, |us| -us),
        };
        let is_dir = metadata.is_dir();
        Ok(Stat { len: if is_dir { 0 } else { metadata.len() }, modified_us, is_dir })
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(path)? {
            names.push(entry?.file_name().into_string().map_err(|name| {
                let text = format!(
                    "the name {name:?} in {} is not valid UTF-8; rename it or move it elsewhere",
                    path.display()
                );
                io::Error::new(ErrorKind::InvalidData, text)
            })?);
        }
        Ok(names)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn LockGuard>> {
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Box::new(LockedFile { _file: file })),
            Err(TryLockError::WouldBlock) => Err(ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn blocks(&self) -> bool {
        true
    }
}
