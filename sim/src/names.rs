//! The stable names of effects: what is done, to which path without what is drawn at random, and the kind of a name.
//!
//! ```text
//! /w/checkpoint/offsets/.wt-tmp-1f-0-3, Write ──► "offsets/3.tmp write" ──► kind "offsets/N.tmp write"
//! ```

use wavetank_engine::storage::DurableLocal;

/// What is done to a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)] // each is the call of the same name of `Posix`, of an object store, a source or a sink
pub enum Op {
    Write,
    Fsync,
    FsyncDir,
    Rename,
    Link,
    Unlink,
    Mkdir,
    Lock,
    Read,
    Stat,
    List,
    Put,
    Get,
    Head,
    Delete,
    Copy,
    Query,
    Stage,
    Commit,
    Release,
}

impl Op {
    /// The word in the effect's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Write => "write",
            Self::Fsync => "fsync",
            Self::FsyncDir => "fsync-dir",
            Self::Rename => "rename",
            Self::Link => "link",
            Self::Unlink => "unlink",
            Self::Mkdir => "mkdir",
            Self::Lock => "lock",
            Self::Read => "read",
            Self::Stat => "stat",
            Self::List => "list",
            Self::Put => "put",
            Self::Get => "get",
            Self::Head => "head",
            Self::Delete => "delete",
            Self::Copy => "copy",
            Self::Query => "query",
            Self::Stage => "stage",
            Self::Commit => "commit",
            Self::Release => "release",
        }
    }

    /// Whether the effect can change what a later life finds.
    pub fn changes(self) -> bool {
        !matches!(self, Self::Read | Self::Stat | Self::List | Self::Get | Self::Head | Self::Query | Self::Stage)
    }
}

/// A path without what is drawn at random or belongs to one process: every UUID is a `*`, and a temporary file of
/// `DurableLocal` is called after the file it becomes, `offsets/3.tmp`.
pub(crate) fn stable(path: &str) -> String {
    let path = match path.rsplit_once('/').map_or(("", path), |(dir, name)| (dir, name)) {
        (dir, name) if DurableLocal::is_temporary(name) => {
            // .wt-tmp-<tag>-<slot>-<name>
            let name = name.splitn(5, '-').nth(4).unwrap_or(name);
            &if dir.is_empty() { format!("{name}.tmp") } else { format!("{dir}/{name}.tmp") }
        }
        _ => path,
    };
    const UUID_LEN: usize = 36;
    if path.len() < UUID_LEN {
        return path.to_owned();
    }
    let mut name = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(next) = rest.chars().next() {
        if rest.get(..UUID_LEN).is_some_and(is_uuid) {
            name.push('*');
            rest = &rest[UUID_LEN..];
        } else {
            name.push(next);
            rest = &rest[next.len_utf8()..];
        }
    }
    name
}

fn is_uuid(text: &str) -> bool {
    text.bytes().enumerate().all(|(at, byte)| match at {
        8 | 13 | 18 | 23 => byte == b'-',
        _ => byte.is_ascii_hexdigit(),
    })
}

/// The kind of an effect name: every number in it becomes `N`, and the occurrence goes. Coverage counts kinds.
pub fn kind_of(name: &str) -> String {
    let name = name.split('#').next().unwrap_or(name);
    let mut kind = String::with_capacity(name.len());
    for c in name.chars() {
        if !c.is_ascii_digit() {
            kind.push(c);
        } else if !kind.ends_with('N') {
            kind.push('N');
        }
    }
    kind
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_nothing_of_one_process_and_a_kind_no_numbers() {
        for (path, name) in [
            ("offsets/3", "offsets/3"),
            ("offsets/.wt-tmp-1f-0-3", "offsets/3.tmp"),
            (".wt-tmp-1f-0-metadata", "metadata.tmp"),
            ("out/part-0-6ba7b810-9dad-11d1-80b4-00c04fd430c8.json", "out/part-0-*.json"),
            ("out/6ba7b810-9dad-11d1-80b4-00c04fd430cX", "out/6ba7b810-9dad-11d1-80b4-00c04fd430cX"),
            ("out/überall/6ba7b810-9dad-11d1-80b4-00c04fd430c8", "out/überall/*"),
        ] {
            assert_eq!(stable(path), name);
        }
        assert_eq!(kind_of("state/0/11/4.delta write#12"), "state/N/N/N.delta write");
    }
}
