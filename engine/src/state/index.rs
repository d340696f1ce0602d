//! Two ways to find entries without looking at all of them: by time of expiry, and by the first columns of the key.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher};

use foldhash::quality::FixedState;
use hashbrown::HashTable;

use crate::error::Result;
use crate::state::arena::{Arena, Block};
use crate::state::links::{Ends, Links, NONE};
use crate::state::store::Until;

/// The seed of the hash of key bytes. It only has to be the same in every run: the hash never reaches an output.
const HASH: FixedState = FixedState::with_seed(0x7761_7665_7461_6e6b);

/// The hash of row bytes.
pub(super) fn hash_bytes(bytes: &[u8]) -> u64 {
    let mut hasher = HASH.build_hasher();
    hasher.write(bytes);
    hasher.finish()
}

/// Slots by time of expiry. Holds exactly the entries that are there now, so no stale ones pile up.
#[derive(Debug, Default)]
pub(super) struct ExpiryIndex {
    links: Links,
    buckets: BTreeMap<i64, Ends>,
}

impl ExpiryIndex {
    pub(super) fn insert(&mut self, slot: u32, expiry: i64) {
        self.links.push_back(self.buckets.entry(expiry).or_insert(Ends::EMPTY), slot);
    }

    pub(super) fn remove(&mut self, slot: u32, expiry: i64) {
        if let Some(bucket) = self.buckets.get_mut(&expiry) {
            self.links.unlink(bucket, slot);
            if bucket.is_empty() {
                self.buckets.remove(&expiry);
            }
        }
    }

    /// The slots of each time that has come, in order of time, each time's slots in no useful order.
    pub(super) fn due(&self, until: Until) -> impl Iterator<Item = impl Iterator<Item = u32> + '_> + '_ {
        let range = match until {
            Until::AtOrBefore(time) => self.buckets.range(..=time),
            Until::Before(time) => self.buckets.range(..time),
        };
        range.map(|(_, bucket)| self.links.iter(*bucket))
    }

    pub(super) fn memory_bytes(&self) -> usize {
        // A B-tree node of 11 entries is on average two thirds full.
        self.links.memory_bytes() + self.buckets.len() * (size_of::<i64>() + size_of::<Ends>()) * 3 / 2
    }
}

/// The bytes of the first columns of a key, with their hash.
#[derive(Clone, Copy, Debug)]
pub(super) struct Prefix<'a> {
    pub(super) hash: u64,
    pub(super) bytes: &'a [u8],
}

/// Keys that start with the same columns. It lives as long as slots belong to it, present or not.
#[derive(Debug)]
struct Group {
    hash: u64,
    prefix: Block,
    slots: u32,
    present: Ends,
}

/// Slots by the first columns of their keys.
#[derive(Debug, Default)]
pub(super) struct PrefixIndex {
    groups: Vec<Group>,
    free: Vec<u32>,
    index: HashTable<u32>,
    group_of: Vec<u32>,
    links: Links,
    /// Groups of which something is present.
    present_groups: usize,
}

impl PrefixIndex {
    pub(super) fn present_groups(&self) -> usize {
        self.present_groups
    }

    fn find(&self, arena: &Arena, prefix: Prefix<'_>) -> Option<u32> {
        let same = |group: &u32| arena.bytes(self.groups[*group as usize].prefix) == prefix.bytes;
        self.index.find(prefix.hash, same).copied()
    }

    /// A new slot belongs to the group of this prefix.
    pub(super) fn join(&mut self, arena: &mut Arena, slot: u32, prefix: Prefix<'_>) -> Result<()> {
        let group = match self.find(arena, prefix) {
            Some(group) => group,
            None => self.new_group(arena, prefix)?,
        };
        self.groups[group as usize].slots += 1;
        if self.group_of.len() <= slot as usize {
            self.group_of.resize(slot as usize + 1, NONE);
        }
        self.group_of[slot as usize] = group;
        Ok(())
    }

    fn new_group(&mut self, arena: &mut Arena, prefix: Prefix<'_>) -> Result<u32> {
        let new = Group { hash: prefix.hash, prefix: arena.store(prefix.bytes)?, slots: 0, present: Ends::EMPTY };
        let group = match self.free.pop() {
            Some(group) => {
                self.groups[group as usize] = new;
                group
            }
            None => {
                self.groups.push(new);
                (self.groups.len() - 1) as u32
            }
        };
        let groups = &self.groups;
        self.index.insert_unique(prefix.hash, group, |group| groups[*group as usize].hash);
        Ok(group)
    }

    /// A slot that is not present goes away.
    pub(super) fn leave(&mut self, arena: &mut Arena, slot: u32) {
        let number = self.group_of[slot as usize];
        let group = &mut self.groups[number as usize];
        group.slots -= 1;
        if group.slots == 0 {
            arena.free(group.prefix);
            if let Ok(entry) = self.index.find_entry(group.hash, |other| *other == number) {
                entry.remove();
            }
            self.free.push(number);
        }
    }

    /// The entry of a slot is there from now on.
    pub(super) fn insert(&mut self, slot: u32) {
        let present = &mut self.groups[self.group_of[slot as usize] as usize].present;
        self.present_groups += usize::from(present.is_empty());
        self.links.push_back(present, slot);
    }

    /// The entry of a slot is not there any more.
    pub(super) fn remove(&mut self, slot: u32) {
        let present = &mut self.groups[self.group_of[slot as usize] as usize].present;
        self.links.unlink(present, slot);
        self.present_groups -= usize::from(present.is_empty());
    }

    /// The bytes of the prefix of a slot.
    pub(super) fn prefix_of<'a>(&self, arena: &'a Arena, slot: u32) -> Prefix<'a> {
        let group = &self.groups[self.group_of[slot as usize] as usize];
        Prefix { hash: group.hash, bytes: arena.bytes(group.prefix) }
    }

    /// The slots that are there for a prefix, in no useful order.
    pub(super) fn members(&self, arena: &Arena, prefix: Prefix<'_>) -> impl Iterator<Item = u32> + '_ {
        let present = self.find(arena, prefix).map_or(Ends::EMPTY, |group| self.groups[group as usize].present);
        self.links.iter(present)
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.links.memory_bytes()
            + self.group_of.capacity() * size_of::<u32>()
            + self.groups.capacity() * size_of::<Group>()
            + self.free.capacity() * size_of::<u32>()
            + self.index.allocation_size()
    }
}
