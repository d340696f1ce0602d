//! Crash images: which of the un-synced effects a rebooted machine finds, and in what shape.
//!
//! A directory entry is one effect, the content of a `write` is one effect, a rename is one effect (journals make it
//! atomic). Every image starts from what was synced and adds a choice of the rest.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::tree::{Ino, Node, Tree};

/// What survives of the effects that were not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum CrashImage {
    /// Only the process died (SIGKILL): the kernel goes on and everything survives, still un-synced.
    Kill,
    /// Nothing survives.
    Strict,
    /// The first effects survive, the rest does not: this many, or as many as the entropy says.
    Prefix(Option<u32>),
    /// Names survive in order (as many as said, or as the entropy says), and new content that was written before the
    /// last of them; overwritten content does not (ext4 `data=ordered`).
    Ordered(Option<u32>),
    /// Names and sizes survive; content that was not synced is zeros (ext4 `data=writeback`, xfs).
    Writeback,
    /// Names survive; files whose content was not synced are empty (delayed allocation).
    Empty,
    /// Names survive; un-synced content survives up to a multiple of 512 bytes, then ends or is zeros.
    Torn512,
    /// Names survive; un-synced content survives up to a multiple of 4 KiB, then ends or is zeros.
    Torn4096,
    /// Everything survives, except that what was unlinked is back.
    UndoneUnlink,
    /// Everything survives, except that what was renamed has its old name (and what was replaced is back).
    UndoneRename,
    /// Each effect survives or not, each content whole, torn, zeros or empty, as the entropy says.
    Chaos,
}

impl CrashImage {
    /// Every kind of image, with choices left to the entropy.
    pub const ALL: [Self; 11] = [
        Self::Kill,
        Self::Strict,
        Self::Prefix(None),
        Self::Ordered(None),
        Self::Writeback,
        Self::Empty,
        Self::Torn512,
        Self::Torn4096,
        Self::UndoneUnlink,
        Self::UndoneRename,
        Self::Chaos,
    ];

    fn word(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Strict => "strict",
            Self::Prefix(_) => "prefix",
            Self::Ordered(_) => "ordered",
            Self::Writeback => "writeback",
            Self::Empty => "empty",
            Self::Torn512 => "torn-512",
            Self::Torn4096 => "torn-4096",
            Self::UndoneUnlink => "undone-unlink",
            Self::UndoneRename => "undone-rename",
            Self::Chaos => "chaos",
        }
    }
}

impl fmt::Display for CrashImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Prefix(Some(survive)) | Self::Ordered(Some(survive)) => write!(f, "{}:{survive}", self.word()),
            _ => f.write_str(self.word()),
        }
    }
}

impl From<CrashImage> for String {
    fn from(image: CrashImage) -> Self {
        image.to_string()
    }
}

impl TryFrom<String> for CrashImage {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl FromStr for CrashImage {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (word, survive) = match text.split_once(':') {
            Some((word, count)) => (word, Some(count.parse().map_err(|_| format!("'{count}' is not a count"))?)),
            None => (text, None),
        };
        let image = Self::ALL.into_iter().find(|image| image.word() == word).ok_or_else(|| {
            let known: Vec<_> = Self::ALL.iter().map(|image| image.word()).collect();
            format!("'{text}' is no crash image. The images are: {}.", known.join(", "))
        })?;
        match (image, survive) {
            (_, None) => Ok(image),
            (Self::Prefix(_), _) => Ok(Self::Prefix(survive)),
            (Self::Ordered(_), _) => Ok(Self::Ordered(survive)),
            _ => Err(format!("'{text}': only prefix and ordered take a count")),
        }
    }
}

/// One effect on the tree that was not synced.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    /// Effects of one call carry one number: the two halves of a rename.
    pub(super) call: u64,
    pub(super) at_us: i64,
    pub(super) change: Change,
}

#[derive(Clone, Debug)]
pub(super) enum Change {
    /// The file's whole content is this now.
    Content { ino: Ino, data: Bytes },
    /// The name leads to this inode now. `is_dir` is what to make when the inode itself was never synced.
    Name { dir: Ino, name: String, ino: Ino, is_dir: bool, verb: Verb },
    /// The name is gone.
    Gone { dir: Ino, name: String, ino: Ino, verb: Verb },
}

/// Which call changed a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Create,
    Link,
    Mkdir,
    Rename,
    Unlink,
}

impl Pending {
    /// The directory whose fsync makes this durable; `None` for content.
    pub(super) fn dir(&self) -> Option<Ino> {
        match &self.change {
            Change::Name { dir, .. } | Change::Gone { dir, .. } => Some(*dir),
            Change::Content { .. } => None,
        }
    }

    pub(super) fn is_content_of(&self, file: Ino) -> bool {
        matches!(&self.change, Change::Content { ino, .. } if *ino == file)
    }

    pub(super) fn ino(&self) -> Ino {
        match &self.change {
            Change::Content { ino, .. } | Change::Name { ino, .. } | Change::Gone { ino, .. } => *ino,
        }
    }

    fn verb(&self) -> Option<Verb> {
        match &self.change {
            Change::Name { verb, .. } | Change::Gone { verb, .. } => Some(*verb),
            Change::Content { .. } => None,
        }
    }

    /// Does it to a tree.
    pub(super) fn apply(&self, tree: &mut Tree) {
        match &self.change {
            Change::Content { ino, data } => {
                tree.put_node(*ino, Node::File { data: data.clone(), modified_us: self.at_us });
            }
            Change::Name { dir, name, ino, is_dir, .. } => {
                if tree.node(*ino).is_none() {
                    let node = match is_dir {
                        true => Node::Dir { names: Default::default(), modified_us: self.at_us },
                        false => Node::File { data: Bytes::new(), modified_us: self.at_us },
                    };
                    tree.put_node(*ino, node);
                }
                tree.set_name(*dir, name, *ino, self.at_us);
            }
            Change::Gone { dir, name, ino, .. } => tree.remove_name(*dir, name, *ino, self.at_us),
        }
    }

    fn with_data(&self, data: Bytes) -> Self {
        match &self.change {
            Change::Content { ino, .. } => Self { change: Change::Content { ino: *ino, data }, ..self.clone() },
            _ => self.clone(),
        }
    }
}

/// What a rebooted machine finds: `durable` and a choice of `pending`, in their order.
pub(super) fn survive(durable: &Tree, pending: &[Pending], image: CrashImage, random: &mut ChaCha8Rng) -> Tree {
    let mut tree = durable.clone();
    match image {
        CrashImage::Strict => {}
        CrashImage::Kill => pending.iter().for_each(|effect| effect.apply(&mut tree)),
        CrashImage::Prefix(count) => {
            let calls = calls(pending, |_| true);
            let keep = first_calls(&calls, count, random);
            pending.iter().filter(|e| keep.contains(&e.call)).for_each(|effect| effect.apply(&mut tree));
        }
        CrashImage::Ordered(count) => ordered(&mut tree, pending, count, random),
        CrashImage::Writeback => with_contents(&mut tree, pending, |data| zeros(data.len())),
        CrashImage::Empty => with_contents(&mut tree, pending, |_| Bytes::new()),
        CrashImage::Torn512 => with_contents(&mut tree, pending, |data| torn(data, 512, random)),
        CrashImage::Torn4096 => with_contents(&mut tree, pending, |data| torn(data, 4096, random)),
        CrashImage::UndoneUnlink => without(&mut tree, pending, Verb::Unlink),
        CrashImage::UndoneRename => without(&mut tree, pending, Verb::Rename),
        CrashImage::Chaos => chaos(&mut tree, pending, random),
    }
    let reachable = tree.reachable();
    tree.sweep(&reachable);
    tree
}

/// The numbers of the calls whose effects pass `which`, in order.
fn calls(pending: &[Pending], which: impl Fn(&Pending) -> bool) -> BTreeSet<u64> {
    pending.iter().filter(|effect| which(effect)).map(|effect| effect.call).collect()
}

fn first_calls(calls: &BTreeSet<u64>, count: Option<u32>, random: &mut ChaCha8Rng) -> BTreeSet<u64> {
    let count = count.map_or_else(|| random.random_range(0..=calls.len()), |count| count as usize);
    calls.iter().take(count).copied().collect()
}

fn ordered(tree: &mut Tree, pending: &[Pending], count: Option<u32>, random: &mut ChaCha8Rng) {
    let names = calls(pending, |effect| effect.dir().is_some());
    let keep = first_calls(&names, count, random);
    let last = keep.last().copied().unwrap_or(0);
    for effect in pending {
        let survives = match effect.dir() {
            Some(_) => keep.contains(&effect.call),
            None => effect.call < last && tree.data(effect.ino()).is_empty(),
        };
        if survives {
            effect.apply(tree);
        }
    }
}

/// All names survive; contents survive as `shape` makes them.
fn with_contents(tree: &mut Tree, pending: &[Pending], mut shape: impl FnMut(&Bytes) -> Bytes) {
    for effect in pending {
        match &effect.change {
            Change::Content { data, .. } => effect.with_data(shape(data)).apply(tree),
            _ => effect.apply(tree),
        }
    }
}

/// Everything survives except what `verb` did to names.
fn without(tree: &mut Tree, pending: &[Pending], verb: Verb) {
    pending.iter().filter(|effect| effect.verb() != Some(verb)).for_each(|effect| effect.apply(tree));
}

fn chaos(tree: &mut Tree, pending: &[Pending], random: &mut ChaCha8Rng) {
    let keep: BTreeSet<u64> = calls(pending, |_| true).into_iter().filter(|_| random.random()).collect();
    for effect in pending.iter().filter(|effect| keep.contains(&effect.call)) {
        match &effect.change {
            Change::Content { data, .. } => {
                let data = match random.random_range(0..4) {
                    0 => data.clone(),
                    1 => zeros(data.len()),
                    2 => Bytes::new(),
                    _ => torn(data, 512, random),
                };
                effect.with_data(data).apply(tree);
            }
            _ => effect.apply(tree),
        }
    }
}

fn zeros(len: usize) -> Bytes {
    Bytes::from(vec![0; len])
}

/// The first blocks of `data`; what follows is missing, or zeros.
fn torn(data: &Bytes, block_bytes: usize, random: &mut ChaCha8Rng) -> Bytes {
    let blocks = data.len() / block_bytes;
    let kept_bytes = random.random_range(0..=blocks) * block_bytes;
    let mut torn = data[..kept_bytes].to_vec();
    if random.random() {
        torn.resize(data.len(), 0);
    }
    torn.into()
}
