//! The map in memory: the committed entries, and over them what the running batch has staged.
//!
//! A key has one slot, found by one hash look-up, whether it is committed or new in this batch. The first change of a
//! slot in a batch makes a `Staged` record; reads look at the record first. The two indexes (expiry, prefix) always
//! show what is there *now*, staged changes included. So commit and abort cost what the batch touched, and reading
//! never merges two things.
//!
//! Order: committed entries stand in the order in which they were first committed, new ones in the order in which the
//! batch first touched them. That is a function of the deltas alone, so a table that was loaded from files has the
//! order of the one that wrote them. Slot numbers have no such property and never reach an output.

use hashbrown::HashTable;

use crate::error::{Error, Result};
use crate::state::arena::{Arena, Block};
use crate::state::index::{ExpiryIndex, Prefix, PrefixIndex};
use crate::state::links::{Ends, Links, NONE};
use crate::state::store::Until;

/// The bytes of a key with its hash, and its prefix where the store has a prefix index.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key<'a> {
    pub(super) hash: u64,
    pub(super) bytes: &'a [u8],
    pub(super) prefix: Option<Prefix<'a>>,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    hash: u64,
    /// Meant only with `HAS_EXPIRY`.
    expiry: i64,
    key: Block,
    /// The committed value; meant only with `COMMITTED`.
    value: Block,
    /// Index into `Table::staged`, or `NONE`.
    staged: u32,
    flags: u8,
}

/// The slot holds a key.
const USED: u8 = 1;
/// The version that is open has an entry here.
const COMMITTED: u8 = 2;
/// There is an entry here now, staged changes included.
const PRESENT: u8 = 4;
/// The entry (or, when it was removed in this batch, the last one) has an expiry.
const HAS_EXPIRY: u8 = 8;

impl Slot {
    fn is(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    fn expiry(&self) -> Option<i64> {
        self.is(HAS_EXPIRY).then_some(self.expiry)
    }

    fn set_expiry(&mut self, expiry: Option<i64>) {
        self.expiry = expiry.unwrap_or(0);
        self.flags = if expiry.is_some() { self.flags | HAS_EXPIRY } else { self.flags & !HAS_EXPIRY };
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    /// Reserved, but nothing was put (or what was put was removed again).
    Nothing,
    Put,
    Remove,
}

#[derive(Debug)]
struct Staged {
    slot: u32,
    change: Change,
    /// Where in `Table::staged_bytes` the value last put in this batch lies.
    value: Option<(usize, usize)>,
    committed_expiry: Option<i64>,
}

/// Staging buffers larger than this are given back after the batch.
const KEEP_STAGED_BYTES: usize = 1 << 20;

/// Key bytes to value bytes, with expiry, insertion order and one batch of staged changes.
#[derive(Debug, Default)]
pub(super) struct Table {
    slots: Vec<Slot>,
    free: Vec<u32>,
    index: HashTable<u32>,
    arena: Arena,
    order_links: Links,
    order: Ends,
    expiry: ExpiryIndex,
    prefix: Option<PrefixIndex>,
    staged: Vec<Staged>,
    staged_bytes: Vec<u8>,
    present: usize,
    /// Of the present entries those with an expiry.
    expiring: usize,
}

impl Table {
    /// An empty table, with a prefix index or without.
    pub(super) fn new(with_prefix: bool) -> Self {
        Self { prefix: with_prefix.then(PrefixIndex::default), ..Self::default() }
    }

    /// Entries that are there now.
    pub(super) fn len(&self) -> usize {
        self.present
    }

    /// Prefixes of which there are entries now.
    pub(super) fn prefixes(&self) -> usize {
        self.prefix.as_ref().map_or(0, PrefixIndex::present_groups)
    }

    /// The slot of a key, if it has one (which does not mean that an entry is there).
    pub(super) fn find(&self, key: Key<'_>) -> Option<u32> {
        let same = |slot: &u32| self.arena.bytes(self.slots[*slot as usize].key) == key.bytes;
        self.index.find(key.hash, same).copied()
    }

    /// The slot of a key; a key without one gets one, until the end of the batch if nothing is put there.
    pub(super) fn reserve(&mut self, key: Key<'_>) -> Result<u32> {
        if let Some(slot) = self.find(key) {
            return Ok(slot);
        }
        let slot = self.new_slot(key)?;
        self.staged_of(slot);
        Ok(slot)
    }

    fn new_slot(&mut self, key: Key<'_>) -> Result<u32> {
        let block = self.arena.store(key.bytes)?;
        let new = Slot { hash: key.hash, expiry: 0, key: block, value: Block::EMPTY, staged: NONE, flags: USED };
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[slot as usize] = new;
                slot
            }
            None => {
                let slot = u32::try_from(self.slots.len()).ok().filter(|slot| *slot != NONE);
                self.slots.push(new);
                slot.ok_or_else(|| Error::analysis("One partition of state has more than 4 billion keys."))?
            }
        };
        if let Some(index) = &mut self.prefix {
            let Some(prefix) = key.prefix.filter(|prefix| key.bytes.starts_with(prefix.bytes)) else {
                return Err(Error::internal("the row bytes of a key do not start with those of its first columns"));
            };
            index.join(&mut self.arena, slot, prefix)?;
        }
        let slots = &self.slots;
        self.index.insert_unique(key.hash, slot, |slot| slots[*slot as usize].hash);
        Ok(slot)
    }

    fn free_slot(&mut self, slot: u32) {
        let Slot { hash, key, .. } = self.slots[slot as usize];
        if let Ok(entry) = self.index.find_entry(hash, |other| *other == slot) {
            entry.remove();
        }
        if let Some(index) = &mut self.prefix {
            index.leave(&mut self.arena, slot);
        }
        self.arena.free(key);
        self.slots[slot as usize].flags = 0;
        self.free.push(slot);
    }

    fn staged_of(&mut self, slot: u32) -> &mut Staged {
        let found = &mut self.slots[slot as usize];
        if found.staged == NONE {
            found.staged = self.staged.len() as u32;
            let committed_expiry = found.expiry();
            self.staged.push(Staged { slot, change: Change::Nothing, value: None, committed_expiry });
        }
        &mut self.staged[found.staged as usize]
    }

    /// Fails unless the slot was handed out in this batch for a key that still has it.
    pub(super) fn check_slot(&self, slot: u32) -> Result<()> {
        match self.slots.get(slot as usize) {
            Some(found) if found.is(USED) => Ok(()),
            _ => Err(Error::internal("a slot of state was used after the batch that it was reserved in")),
        }
    }

    /// Makes what is in the indexes fit the new presence and expiry of a slot.
    fn show(&mut self, slot: u32, present: bool, expiry: Option<i64>) {
        let found = &mut self.slots[slot as usize];
        let (was, old) = (found.is(PRESENT), found.expiry());
        if was
            && !(present && old == expiry)
            && let Some(old) = old
        {
            self.expiry.remove(slot, old);
            self.expiring -= 1;
        }
        if present
            && !(was && old == expiry)
            && let Some(new) = expiry
        {
            self.expiry.insert(slot, new);
            self.expiring += 1;
        }
        found.set_expiry(expiry);
        if was == present {
            return;
        }
        found.flags ^= PRESENT;
        match present {
            true => self.present += 1,
            false => self.present -= 1,
        }
        match (&mut self.prefix, present) {
            (Some(index), true) => index.insert(slot),
            (Some(index), false) => index.remove(slot),
            (None, _) => (),
        }
    }

    /// Stages a value for a slot.
    pub(super) fn put(&mut self, slot: u32, value: &[u8], expiry: Option<i64>) {
        let old = self.staged_of(slot).value;
        let place = match old {
            Some((start, len)) if len == value.len() => {
                self.staged_bytes[start..start + len].copy_from_slice(value);
                (start, len)
            }
            _ => {
                let start = self.staged_bytes.len();
                self.staged_bytes.extend_from_slice(value);
                (start, value.len())
            }
        };
        let staged = self.staged_of(slot);
        staged.value = Some(place);
        staged.change = Change::Put;
        self.show(slot, true, expiry);
    }

    /// Stages the removal of what is in a slot; answers whether something was.
    pub(super) fn remove(&mut self, slot: u32) -> bool {
        let found = self.slots[slot as usize];
        if !found.is(PRESENT) {
            return false;
        }
        self.staged_of(slot).change = if found.is(COMMITTED) { Change::Remove } else { Change::Nothing };
        self.show(slot, false, found.expiry());
        true
    }

    /// The value that is in a slot now.
    pub(super) fn value(&self, slot: u32) -> Option<&[u8]> {
        self.slots[slot as usize].is(PRESENT).then(|| self.last_value(slot)).flatten()
    }

    /// The value that is in a slot, or was when it was removed in this batch.
    pub(super) fn last_value(&self, slot: u32) -> Option<&[u8]> {
        let found = &self.slots[slot as usize];
        let staged = self.staged.get(found.staged as usize).and_then(|staged| staged.value);
        match staged {
            Some((start, len)) => Some(&self.staged_bytes[start..start + len]),
            None => found.is(COMMITTED).then(|| self.arena.bytes(found.value)),
        }
    }

    /// The expiry of the entry that is in a slot, or was when it was removed in this batch.
    pub(super) fn expiry(&self, slot: u32) -> Option<i64> {
        self.slots[slot as usize].expiry()
    }

    /// The key bytes of a slot.
    pub(super) fn key(&self, slot: u32) -> &[u8] {
        self.arena.bytes(self.slots[slot as usize].key)
    }

    /// All slots with an entry, in the order of the table.
    pub(super) fn scan(&self) -> Vec<u32> {
        let present = |slot: &u32| self.slots[*slot as usize].is(PRESENT);
        let is_new = |slot: &u32| !self.slots[*slot as usize].is(COMMITTED);
        let mut slots = Vec::with_capacity(self.present);
        slots.extend(self.order_links.iter(self.order).filter(present));
        slots.extend(self.staged.iter().map(|staged| staged.slot).filter(|slot| present(slot) && is_new(slot)));
        slots
    }

    /// The slots of entries that never expire, in the order of the table.
    pub(super) fn without_expiry(&self) -> Vec<u32> {
        if self.expiring == self.present {
            return Vec::new();
        }
        let mut slots = self.scan();
        slots.retain(|slot| !self.slots[*slot as usize].is(HAS_EXPIRY));
        slots
    }

    /// The slots whose time has come, ordered by time and then by key.
    pub(super) fn due(&self, until: Until) -> Vec<u32> {
        let mut slots = Vec::new();
        for bucket in self.expiry.due(until) {
            let start = slots.len();
            slots.extend(bucket);
            self.sort_by_key(&mut slots[start..]);
        }
        slots
    }

    /// The slots whose keys start with these columns, ordered by key.
    pub(super) fn members(&self, prefix: Prefix<'_>) -> Vec<u32> {
        let mut slots: Vec<u32> = match &self.prefix {
            Some(index) => index.members(&self.arena, prefix).collect(),
            None => Vec::new(),
        };
        self.sort_by_key(&mut slots);
        slots
    }

    fn sort_by_key(&self, slots: &mut [u32]) {
        slots.sort_by(|a, b| self.key(*a).cmp(self.key(*b)));
    }

    /// Slots that the running batch puts a value into, in order.
    pub(super) fn staged_puts(&self) -> Vec<u32> {
        self.staged_slots(Change::Put)
    }

    /// Slots whose committed entry the running batch removes, in order.
    pub(super) fn staged_removes(&self) -> Vec<u32> {
        self.staged_slots(Change::Remove)
    }

    fn staged_slots(&self, change: Change) -> Vec<u32> {
        self.staged.iter().filter(|staged| staged.change == change).map(|staged| staged.slot).collect()
    }

    /// Makes the staged changes the committed state.
    pub(super) fn commit(&mut self) -> Result<()> {
        let staged = std::mem::take(&mut self.staged);
        let bytes = std::mem::take(&mut self.staged_bytes);
        for change in &staged {
            let slot = change.slot;
            self.slots[slot as usize].staged = NONE;
            match (change.change, change.value) {
                (Change::Put, Some((start, len))) => self.commit_value(slot, &bytes[start..start + len])?,
                (Change::Remove, _) => self.commit_removal(slot),
                _ if !self.slots[slot as usize].is(COMMITTED) => self.free_slot(slot),
                _ => (),
            }
        }
        self.reuse_staging(staged, bytes);
        Ok(())
    }

    fn commit_value(&mut self, slot: u32, value: &[u8]) -> Result<()> {
        let found = &mut self.slots[slot as usize];
        found.value = self.arena.replace(found.value, value)?;
        if !found.is(COMMITTED) {
            found.flags |= COMMITTED;
            self.order_links.push_back(&mut self.order, slot);
        }
        Ok(())
    }

    fn commit_removal(&mut self, slot: u32) {
        self.order_links.unlink(&mut self.order, slot);
        self.arena.free(self.slots[slot as usize].value);
        self.free_slot(slot);
    }

    /// Forgets the staged changes.
    pub(super) fn abort(&mut self) {
        let staged = std::mem::take(&mut self.staged);
        let bytes = std::mem::take(&mut self.staged_bytes);
        for change in &staged {
            let committed = self.slots[change.slot as usize].is(COMMITTED);
            self.slots[change.slot as usize].staged = NONE;
            self.show(change.slot, committed, change.committed_expiry);
            if !committed {
                self.free_slot(change.slot);
            }
        }
        self.reuse_staging(staged, bytes);
    }

    fn reuse_staging(&mut self, mut staged: Vec<Staged>, mut bytes: Vec<u8>) {
        if staged.capacity() * size_of::<Staged>() + bytes.capacity() <= KEEP_STAGED_BYTES {
            staged.clear();
            bytes.clear();
            (self.staged, self.staged_bytes) = (staged, bytes);
        }
    }

    /// Loading: a committed entry, new or in place of the old one of the same key. Nothing may be staged.
    pub(super) fn load_put(&mut self, key: Key<'_>, value: &[u8], expiry: Option<i64>) -> Result<()> {
        let slot = match self.find(key) {
            Some(slot) => slot,
            None => self.new_slot(key)?,
        };
        self.show(slot, true, expiry);
        self.commit_value(slot, value)
    }

    /// Loading: a committed entry goes away; answers whether there was one.
    pub(super) fn load_remove(&mut self, key: Key<'_>) -> bool {
        let Some(slot) = self.find(key) else { return false };
        self.show(slot, false, None);
        self.commit_removal(slot);
        true
    }

    /// Bytes of memory held.
    pub(super) fn memory_bytes(&self) -> usize {
        self.slots.capacity() * size_of::<Slot>()
            + self.free.capacity() * size_of::<u32>()
            + self.index.allocation_size()
            + self.arena.memory_bytes()
            + self.order_links.memory_bytes()
            + self.expiry.memory_bytes()
            + self.prefix.as_ref().map_or(0, PrefixIndex::memory_bytes)
            + self.staged.capacity() * size_of::<Staged>()
            + self.staged_bytes.capacity()
    }

    /// A copy without the room that removed entries left behind, when that is most of the table. Nothing may be
    /// staged. A copy costs what is left, and as much must have been removed before it pays: amortised it is free.
    pub(super) fn shrunk(&self) -> Result<Option<Self>> {
        if self.slots.len() < 4096 || self.present > self.slots.len() / 8 {
            return Ok(None);
        }
        let mut small = Self::new(self.prefix.is_some());
        for slot in self.scan() {
            let Slot { hash, key, value, .. } = self.slots[slot as usize];
            let prefix = self.prefix.as_ref().map(|index| index.prefix_of(&self.arena, slot));
            let key = Key { hash, bytes: self.arena.bytes(key), prefix };
            small.load_put(key, self.arena.bytes(value), self.expiry(slot))?;
        }
        Ok(Some(small))
    }
}
