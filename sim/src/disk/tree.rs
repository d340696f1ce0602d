//! Inodes and names: what a disk holds at one moment.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::path::{Component, Path};

use bytes::Bytes;

/// The number of an inode.
pub(super) type Ino = u64;
/// The inode of `/`.
pub(super) const ROOT: Ino = 0;
/// The longest name, in bytes, as on ext4 and xfs.
const NAME_MAX: usize = 255;

#[derive(Clone, Debug)]
pub(super) enum Node {
    File { data: Bytes, modified_us: i64 },
    Dir { names: BTreeMap<String, Ino>, modified_us: i64 },
}

/// Nodes by number. Names lead to nodes; a node without a name is kept until [`Tree::sweep`].
#[derive(Clone, Debug)]
pub(super) struct Tree {
    nodes: BTreeMap<Ino, Node>,
}

impl Tree {
    pub(super) fn new(now_us: i64) -> Self {
        Self { nodes: BTreeMap::from([(ROOT, Node::Dir { names: BTreeMap::new(), modified_us: now_us })]) }
    }

    pub(super) fn node(&self, ino: Ino) -> Option<&Node> {
        self.nodes.get(&ino)
    }

    pub(super) fn is_dir(&self, ino: Ino) -> bool {
        matches!(self.nodes.get(&ino), Some(Node::Dir { .. }))
    }

    pub(super) fn put_node(&mut self, ino: Ino, node: Node) {
        self.nodes.insert(ino, node);
    }

    /// The content of a file; empty when the node is not there.
    pub(super) fn data(&self, ino: Ino) -> Bytes {
        match self.nodes.get(&ino) {
            Some(Node::File { data, .. }) => data.clone(),
            _ => Bytes::new(),
        }
    }

    pub(super) fn names(&self, dir: Ino) -> Option<&BTreeMap<String, Ino>> {
        match self.nodes.get(&dir) {
            Some(Node::Dir { names, .. }) => Some(names),
            _ => None,
        }
    }

    pub(super) fn set_name(&mut self, dir: Ino, name: &str, ino: Ino, now_us: i64) {
        let node = self.nodes.entry(dir).or_insert_with(|| Node::Dir { names: BTreeMap::new(), modified_us: now_us });
        if let Node::Dir { names, modified_us } = node {
            names.insert(name.to_owned(), ino);
            *modified_us = now_us;
        }
    }

    /// Dates a file otherwise.
    pub(super) fn date(&mut self, ino: Ino, at_us: i64) {
        if let Some(Node::File { modified_us, .. }) = self.nodes.get_mut(&ino) {
            *modified_us = at_us;
        }
    }

    /// Removes the name if it (still) leads to `ino`.
    pub(super) fn remove_name(&mut self, dir: Ino, name: &str, ino: Ino, now_us: i64) {
        if let Some(Node::Dir { names, modified_us }) = self.nodes.get_mut(&dir)
            && names.get(name) == Some(&ino)
        {
            names.remove(name);
            *modified_us = now_us;
        }
    }

    /// Sum of the sizes of all files that have a name, in bytes.
    pub(super) fn used_bytes(&self) -> u64 {
        self.reachable().into_iter().map(|ino| self.data(ino).len() as u64).sum()
    }

    /// The inodes that names lead to, from the root.
    pub(super) fn reachable(&self) -> BTreeSet<Ino> {
        let mut seen = BTreeSet::from([ROOT]);
        let mut open = vec![ROOT];
        while let Some(dir) = open.pop() {
            for ino in self.names(dir).into_iter().flat_map(BTreeMap::values) {
                if seen.insert(*ino) && self.is_dir(*ino) {
                    open.push(*ino);
                }
            }
        }
        seen
    }

    /// Every path from the root (no content for directories), in order.
    pub(super) fn files(&self) -> Vec<(String, Option<Bytes>)> {
        let mut found = Vec::new();
        let mut open = vec![(String::new(), ROOT)];
        while let Some((prefix, dir)) = open.pop() {
            for (name, ino) in self.names(dir).into_iter().flatten() {
                let path = format!("{prefix}/{name}");
                if self.is_dir(*ino) {
                    found.push((path.clone(), None));
                    open.push((path, *ino));
                } else {
                    found.push((path, Some(self.data(*ino))));
                }
            }
        }
        found.sort_unstable();
        found
    }

    /// Forgets every node that is not in `keep`.
    pub(super) fn sweep(&mut self, keep: &BTreeSet<Ino>) {
        self.nodes.retain(|ino, _| keep.contains(ino));
    }

    /// The inode at `path`.
    pub(super) fn find(&self, path: &Path) -> io::Result<Ino> {
        Ok(self.trail(path)?.last().copied().unwrap_or(ROOT))
    }

    /// The inodes from the root down to `path`.
    pub(super) fn trail(&self, path: &Path) -> io::Result<Vec<Ino>> {
        if path.as_os_str().is_empty() {
            return Err(refuse(ErrorKind::NotFound, path));
        }
        let mut trail = vec![ROOT];
        for component in path.components() {
            let here = trail.last().copied().unwrap_or(ROOT);
            match component {
                Component::RootDir | Component::Prefix(_) => {}
                Component::CurDir => self.must_be_dir(here, path)?,
                Component::ParentDir => {
                    self.must_be_dir(here, path)?;
                    if trail.len() > 1 {
                        trail.pop();
                    }
                }
                Component::Normal(name) => trail.push(self.child(here, name.to_str(), path)?),
            }
        }
        Ok(trail)
    }

    /// The directory that holds (or would hold) the last name of `path`, and that name.
    pub(super) fn place<'a>(&self, path: &'a Path) -> io::Result<(Ino, &'a str)> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            let kind = if path.as_os_str().is_empty() { ErrorKind::NotFound } else { ErrorKind::IsADirectory };
            return Err(refuse(kind, path));
        };
        let dir = if parent.as_os_str().is_empty() { ROOT } else { self.find(parent)? };
        self.must_be_dir(dir, path)?;
        let name = name.to_str().ok_or_else(|| refuse(ErrorKind::InvalidFilename, path))?;
        if name.len() > NAME_MAX {
            return Err(refuse(ErrorKind::InvalidFilename, path));
        }
        Ok((dir, name))
    }

    /// What the name leads to, if anything.
    pub(super) fn lookup(&self, dir: Ino, name: &str) -> Option<Ino> {
        self.names(dir)?.get(name).copied()
    }

    fn must_be_dir(&self, ino: Ino, path: &Path) -> io::Result<()> {
        if self.is_dir(ino) { Ok(()) } else { Err(refuse(ErrorKind::NotADirectory, path)) }
    }

    fn child(&self, dir: Ino, name: Option<&str>, path: &Path) -> io::Result<Ino> {
        self.must_be_dir(dir, path)?;
        let name = name.ok_or_else(|| refuse(ErrorKind::InvalidFilename, path))?;
        if name.len() > NAME_MAX {
            return Err(refuse(ErrorKind::InvalidFilename, path));
        }
        self.lookup(dir, name).ok_or_else(|| refuse(ErrorKind::NotFound, path))
    }
}

pub(super) fn refuse(kind: ErrorKind, path: &Path) -> io::Error {
    io::Error::new(kind, format!("{}: {kind}", path.display()))
}
