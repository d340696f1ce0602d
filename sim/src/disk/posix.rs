//! The file system calls of a process on a [`SimDisk`]: each passes the seam, with its faults and planted bugs.

use std::io;
use std::ops::Range;
use std::path::Path;

use bytes::Bytes;
use twox_hash::XxHash64;
use wavetank_engine::environment::Clock;
use wavetank_engine::storage::posix::Stat;
use wavetank_engine::storage::{LockGuard, Posix};

use super::tree::Ino;
use super::{SimDisk, State};
use crate::effects::{Effects, Injected, Op};
use crate::plant::{Bug, rewritten};

/// A handle to a [`SimDisk`]: [`Posix`] for one life of a process, or for the world outside of it.
#[derive(Clone, Debug)]
pub struct SimPosix {
    pub(super) disk: SimDisk,
    pub(super) seam: Option<(Effects, u32)>,
}

impl SimPosix {
    /// A call that answers something.
    fn ask<T>(
        &self,
        op: Op,
        path: &Path,
        digest: impl FnOnce(&T) -> u64,
        act: impl FnOnce(&mut State, i64, Option<&Bug>) -> io::Result<T>,
    ) -> io::Result<T> {
        let now_us = self.disk.clock.now_us();
        let Some((effects, life)) = &self.seam else { return act(&mut self.disk.state(), now_us, None) };
        effects.perform(*life, op, &path.to_string_lossy(), digest, |begun| {
            begun.check()?;
            let mut state = self.disk.state();
            state.do_deferred();
            act(&mut state, now_us, begun.bug.as_ref())
        })
    }

    /// A call that only does something. `act` gets the error that is injected; it decides what the error leaves.
    fn call(
        &self,
        op: Op,
        path: &Path,
        digest: u64,
        act: impl Fn(&mut State, i64, Option<Injected>) -> io::Result<()> + Send + 'static,
    ) -> io::Result<()> {
        let now_us = self.disk.clock.now_us();
        let Some((effects, life)) = &self.seam else { return act(&mut self.disk.state(), now_us, None) };
        effects.perform(
            *life,
            op,
            &path.to_string_lossy(),
            |()| digest,
            |begun| {
                let mut state = self.disk.state();
                let late = std::mem::take(&mut state.deferred);
                let done = match begun.bug {
                    Some(Bug::NoSync | Bug::Skip) => Ok(()),
                    Some(Bug::Late) => {
                        state.deferred.push(Box::new(move |state| drop(act(state, now_us, None))));
                        Ok(())
                    }
                    Some(Bug::Hold { ref until }) => {
                        let (disk, dir) = (self.disk.clone(), path.parent().map(Path::to_owned));
                        let act_later = move || {
                            let mut state = disk.state();
                            // Whoever was told that it is done relies on it: nobody learns of an error.
                            let _ = act(&mut state, now_us, None);
                            let _ = dir.map(|dir| state.fsync_dir(&dir));
                        };
                        effects.hold(until, Box::new(act_later));
                        Ok(())
                    }
                    Some(Bug::Twice) => act(&mut state, now_us, begun.injected).inspect(|()| {
                        let _ = act(&mut state, now_us, None);
                    }),
                    _ => act(&mut state, now_us, begun.injected),
                };
                for call in late {
                    call(&mut state);
                }
                done
            },
        )
    }
}

/// For effects that an injected error prevents altogether.
fn unless(injected: Option<Injected>) -> io::Result<()> {
    injected.map_or(Ok(()), |injected| Err(injected.into()))
}

fn hash_names(names: &[String]) -> u64 {
    names.iter().fold(0, |hash, name| XxHash64::oneshot(hash, name.as_bytes()))
}

impl Posix for SimPosix {
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let (owned, bytes) = (path.to_owned(), self.planted_bytes(path, bytes));
        let digest = XxHash64::oneshot(0, &bytes);
        self.call(Op::Write, path, digest, move |state, now_us, injected| match injected {
            Some(Injected::NoSpace) => state.write(&owned, &bytes, now_us, true),
            _ => unless(injected).and_then(|()| state.write(&owned, &bytes, now_us, false)),
        })
    }

    fn fsync_file(&self, path: &Path) -> io::Result<()> {
        let owned = path.to_owned();
        self.call(Op::Fsync, path, 0, move |state, _, injected| match injected {
            Some(Injected::Eio) => state.fsync_file(&owned, true),
            _ => unless(injected).and_then(|()| state.fsync_file(&owned, false)),
        })
    }

    fn fsync_dir(&self, path: &Path) -> io::Result<()> {
        let owned = path.to_owned();
        self.call(Op::FsyncDir, path, 0, move |state, _, injected| {
            unless(injected).and_then(|()| state.fsync_dir(&owned))
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from, owned) = (from.to_owned(), to.to_owned());
        self.call(Op::Rename, to, 0, move |state, now_us, injected| {
            unless(injected).and_then(|()| state.rename(&from, &owned, now_us))
        })
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from, owned) = (from.to_owned(), to.to_owned());
        let bug = self.planted(Op::Link, to);
        let replaces = bug == Some(Bug::Replace);
        // By then the name that it is linked from is gone.
        let held = matches!(bug, Some(Bug::Hold { .. })).then(|| self.disk.state().live.find(&from)).transpose()?;
        self.call(Op::Link, to, 0, move |state, now_us, injected| {
            unless(injected)?;
            if replaces && state.live.find(&owned).is_ok() {
                state.unlink(&owned, now_us)?;
            }
            match held {
                Some(ino) => state.link_inode(ino, &owned, now_us),
                None => state.link(&from, &owned, now_us),
            }
        })
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        let owned = path.to_owned();
        self.call(Op::Unlink, path, 0, move |state, now_us, injected| {
            unless(injected).and_then(|()| state.unlink(&owned, now_us))
        })
    }

    fn mkdir(&self, path: &Path) -> io::Result<()> {
        let owned = path.to_owned();
        self.call(Op::Mkdir, path, 0, move |state, now_us, injected| {
            unless(injected).and_then(|()| state.mkdir(&owned, now_us))
        })
    }

    fn read(&self, path: &Path, range: Option<Range<u64>>) -> io::Result<Bytes> {
        self.ask(
            Op::Read,
            path,
            |bytes: &Bytes| XxHash64::oneshot(0, bytes),
            |state, _, bug| {
                let bytes = state.read(path, range)?;
                Ok(match bug {
                    Some(Bug::Stale) => state.first_reads.entry(path.to_owned()).or_insert(bytes).clone(),
                    _ => bytes,
                })
            },
        )
    }

    fn stat(&self, path: &Path) -> io::Result<Stat> {
        self.ask(Op::Stat, path, |stat: &Stat| stat.len, |state, _, _| state.stat(path))
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        self.ask(Op::List, path, |names: &Vec<String>| hash_names(names), |state, _, _| state.list(path))
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn LockGuard>> {
        let (ino, holder) = self.ask(Op::Lock, path, |_| 0, |state, now_us, _| state.lock(path, now_us))?;
        Ok(Box::new(Held { disk: self.disk.clone(), ino, holder }))
    }

    fn blocks(&self) -> bool {
        false
    }
}

impl SimPosix {
    fn planted(&self, op: Op, path: &Path) -> Option<Bug> {
        self.seam.as_ref().and_then(|(effects, _)| effects.planted(op, &path.to_string_lossy()))
    }

    /// What is written, when a bug that writes something else is planted at it.
    fn planted_bytes(&self, path: &Path, bytes: &[u8]) -> Bytes {
        match (self.planted(Op::Write, path), std::str::from_utf8(bytes)) {
            (Some(Bug::Rewrite { from, to }), Ok(text)) => rewritten(text, &from, &to).into(),
            _ => Bytes::copy_from_slice(bytes),
        }
    }
}

#[derive(Debug)]
struct Held {
    disk: SimDisk,
    ino: Ino,
    holder: u64,
}

impl LockGuard for Held {}

impl Drop for Held {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        // A guard that outlived a crash must not free the lock of the next life.
        if state.locks.get(&self.ino) == Some(&self.holder) {
            state.locks.remove(&self.ino);
        }
    }
}
