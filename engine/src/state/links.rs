//! Doubly linked lists threaded through slot numbers: constant-time append and removal without an allocation per entry.

/// No slot.
pub(super) const NONE: u32 = u32::MAX;

/// First and last slot of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ends {
    pub(super) first: u32,
    last: u32,
}

impl Default for Ends {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl Ends {
    pub(super) const EMPTY: Self = Self { first: NONE, last: NONE };

    pub(super) fn is_empty(self) -> bool {
        self.first == NONE
    }
}

/// The neighbours of each slot, for any number of lists of which a slot is in at most one.
#[derive(Debug, Default)]
pub(super) struct Links {
    neighbours: Vec<(u32, u32)>,
}

impl Links {
    /// Appends a slot that is in no list.
    pub(super) fn push_back(&mut self, list: &mut Ends, slot: u32) {
        if self.neighbours.len() <= slot as usize {
            self.neighbours.resize(slot as usize + 1, (NONE, NONE));
        }
        self.neighbours[slot as usize] = (list.last, NONE);
        match list.last {
            NONE => list.first = slot,
            last => self.neighbours[last as usize].1 = slot,
        }
        list.last = slot;
    }

    /// Takes a slot out of the list it is in.
    pub(super) fn unlink(&mut self, list: &mut Ends, slot: u32) {
        let (before, after) = self.neighbours[slot as usize];
        match before {
            NONE => list.first = after,
            before => self.neighbours[before as usize].1 = after,
        }
        match after {
            NONE => list.last = before,
            after => self.neighbours[after as usize].0 = before,
        }
    }

    /// The slots of a list from first to last.
    pub(super) fn iter(&self, list: Ends) -> impl Iterator<Item = u32> + '_ {
        let mut at = list.first;
        std::iter::from_fn(move || {
            let slot = at;
            (slot != NONE).then(|| {
                at = self.neighbours[slot as usize].1;
                slot
            })
        })
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.neighbours.capacity() * size_of::<(u32, u32)>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_keep_the_order_of_appending() {
        let mut links = Links::default();
        let (mut even, mut odd) = (Ends::EMPTY, Ends::EMPTY);
        for slot in [4, 1, 0, 3, 2] {
            links.push_back(if slot % 2 == 0 { &mut even } else { &mut odd }, slot);
        }
        links.unlink(&mut even, 0);
        links.push_back(&mut even, 0);
        links.unlink(&mut even, 4);
        links.unlink(&mut odd, 3);
        assert_eq!(links.iter(even).collect::<Vec<_>>(), [2, 0]);
        assert_eq!(links.iter(odd).collect::<Vec<_>>(), [1]);
        links.unlink(&mut odd, 1);
        assert!(odd.is_empty());
    }
}
