//! Where the bytes of keys and values lie: pages cut into blocks of a few sizes, with a free list per size.
//!
//! One entry of state costs no heap allocation of its own. Freed blocks are used again for bytes of about the same
//! length; pages are given back only when the whole table is rebuilt ([`crate::state::table::Table::shrunk`]).

use crate::error::{Error, Result};

/// Blocks are multiples of this many bytes, and addresses count in them.
const UNIT: usize = 8;
/// Units of a page: 256 KiB.
const PAGE_UNITS: usize = 1 << 15;
/// The most units a block in a page may have (32 KiB); longer bytes live by themselves.
const SMALL_UNITS: usize = 1 << 12;
/// The first page starts with this many bytes and doubles, so that small stores stay small.
const FIRST_BYTES: usize = 1024;

/// The address of some bytes in an [`Arena`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Block {
    at: u32,
    len: u32,
}

impl Block {
    /// No bytes.
    pub(super) const EMPTY: Self = Self { at: 0, len: 0 };

    pub(super) fn len(self) -> usize {
        self.len as usize
    }
}

/// Pages of blocks.
#[derive(Debug, Default)]
pub(super) struct Arena {
    pages: Vec<Vec<u8>>,
    /// First unused unit of the last page.
    next_unit: usize,
    free: Vec<Vec<u32>>,
    large: Vec<Vec<u8>>,
    large_free: Vec<u32>,
    large_bytes: usize,
}

impl Arena {
    /// Copies the bytes in.
    pub(super) fn store(&mut self, bytes: &[u8]) -> Result<Block> {
        let len = u32::try_from(bytes.len())
            .map_err(|_| Error::analysis("A key or value of state has more than 4 GiB. Keep less in one group."))?;
        if len == 0 {
            return Ok(Block::EMPTY);
        }
        let units = bytes.len().div_ceil(UNIT);
        if units > SMALL_UNITS {
            return self.store_large(bytes, len);
        }
        let (class, units) = size_class(units);
        let at = match self.free.get_mut(class).and_then(Vec::pop) {
            Some(at) => at,
            None => self.cut(units)?,
        };
        let block = Block { at, len };
        self.bytes_mut(block).copy_from_slice(bytes);
        Ok(block)
    }

    fn store_large(&mut self, bytes: &[u8], len: u32) -> Result<Block> {
        self.large_bytes += bytes.len();
        if let Some(at) = self.large_free.pop() {
            self.large[at as usize] = bytes.to_vec();
            return Ok(Block { at, len });
        }
        let at = u32::try_from(self.large.len()).map_err(|_| too_big())?;
        self.large.push(bytes.to_vec());
        Ok(Block { at, len })
    }

    /// The address of `units` fresh units.
    fn cut(&mut self, units: usize) -> Result<u32> {
        if self.pages.is_empty() || self.next_unit + units > PAGE_UNITS {
            self.pages.push(Vec::new());
            self.next_unit = 0;
        }
        let first_page = self.pages.len() == 1;
        let (at, end) = (self.next_unit, (self.next_unit + units) * UNIT);
        let number = self.pages.len() - 1;
        let page = &mut self.pages[number];
        if page.len() < end {
            let wanted = if first_page { (page.len() * 2).max(end).max(FIRST_BYTES) } else { PAGE_UNITS * UNIT };
            let wanted = wanted.min(PAGE_UNITS * UNIT);
            page.reserve_exact(wanted - page.len());
            page.resize(wanted, 0);
        }
        self.next_unit += units;
        u32::try_from(number * PAGE_UNITS + at).map_err(|_| too_big())
    }

    /// Gives the block back; it must not be used again.
    pub(super) fn free(&mut self, block: Block) {
        let units = block.len().div_ceil(UNIT);
        if units == 0 {
            return;
        }
        if units > SMALL_UNITS {
            self.large_bytes -= block.len();
            self.large[block.at as usize] = Vec::new();
            self.large_free.push(block.at);
            return;
        }
        let (class, _) = size_class(units);
        if self.free.len() <= class {
            self.free.resize_with(class + 1, Vec::new);
        }
        self.free[class].push(block.at);
    }

    /// The bytes of a block.
    pub(super) fn bytes(&self, block: Block) -> &[u8] {
        if block.len == 0 {
            return &[];
        }
        if block.len() > SMALL_UNITS * UNIT {
            return &self.large[block.at as usize];
        }
        let start = block.at as usize % PAGE_UNITS * UNIT;
        &self.pages[block.at as usize / PAGE_UNITS][start..start + block.len()]
    }

    fn bytes_mut(&mut self, block: Block) -> &mut [u8] {
        if block.len() > SMALL_UNITS * UNIT {
            return &mut self.large[block.at as usize];
        }
        let start = block.at as usize % PAGE_UNITS * UNIT;
        &mut self.pages[block.at as usize / PAGE_UNITS][start..start + block.len()]
    }

    /// The block for new bytes in place of `block`: the same one when the length is the same.
    pub(super) fn replace(&mut self, block: Block, bytes: &[u8]) -> Result<Block> {
        if block.len() == bytes.len() && !bytes.is_empty() {
            self.bytes_mut(block).copy_from_slice(bytes);
            return Ok(block);
        }
        let new = self.store(bytes)?;
        self.free(block);
        Ok(new)
    }

    /// Bytes held, used or free.
    pub(super) fn memory_bytes(&self) -> usize {
        let pages: usize = self.pages.iter().map(Vec::capacity).sum();
        let free: usize = self.free.iter().map(|list| list.capacity() * size_of::<u32>()).sum();
        pages + free + self.large_bytes + self.large.capacity() * size_of::<Vec<u8>>()
    }
}

/// The class of a block of this many units, and the units that blocks of the class have: every size up to 16 units,
/// then four sizes per doubling.
fn size_class(units: usize) -> (usize, usize) {
    if units <= 16 {
        return (units - 1, units);
    }
    let log = (units - 1).ilog2() as usize;
    let step = 1 << (log - 2);
    let quarters = units.div_ceil(step);
    (16 + (log - 4) * 4 + quarters - 5, quarters * step)
}

fn too_big() -> Error {
    Error::analysis(
        "One partition of state has outgrown 32 GiB of memory. Run the query from a new checkpoint with more \
         partitions (spark.sql.shuffle.partitions), or bound its state with a watermark.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_hold_what_is_put_into_them_and_waste_at_most_a_quarter() {
        let mut last = None;
        for units in 1..=SMALL_UNITS {
            let (class, size) = size_class(units);
            assert!(size >= units && size <= units + units / 4, "{units} -> {size}");
            assert_eq!(size_class(size), (class, size));
            if let Some((before, before_size)) = last {
                assert!(class == before && size == before_size || class == before + 1 && size > before_size);
            }
            last = Some((class, size));
        }
    }

    #[test]
    fn blocks_keep_their_bytes_through_frees_and_replacements() {
        let mut arena = Arena::default();
        let content = |n: usize| vec![(n % 251) as u8; n * 37 % 70_000];
        let mut blocks: Vec<(usize, Block)> = (0..3_000).map(|n| (n, arena.store(&content(n)).unwrap())).collect();
        for (n, block) in blocks.iter_mut().step_by(3) {
            *n += 10_000;
            *block = arena.replace(*block, &content(*n)).unwrap();
        }
        let (freed, kept): (Vec<_>, Vec<_>) = blocks.into_iter().partition(|(n, _)| n % 2 == 0);
        freed.into_iter().for_each(|(_, block)| arena.free(block));
        let more: Vec<_> = (20_000..21_000).map(|n| (n, arena.store(&content(n)).unwrap())).collect();
        for (n, block) in kept.into_iter().chain(more) {
            assert_eq!(arena.bytes(block), content(n));
        }
    }

    #[test]
    fn freed_blocks_are_used_again() {
        let mut arena = Arena::default();
        for round in 0..50 {
            let blocks: Vec<_> = (0..1_000).map(|n| arena.store(&vec![1; 1 + n % 200]).unwrap()).collect();
            blocks.into_iter().for_each(|block| arena.free(block));
            assert!(arena.memory_bytes() < 512 * 1024, "round {round}: {} bytes", arena.memory_bytes());
        }
    }
}
