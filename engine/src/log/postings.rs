//! Postings: where in a block a slot has something, for slots that a change names one by one. What
//! the encoder wrote flows in batch by batch; when a block is closed, who reads one shape asks here
//! which of its records to look at, and need not decode the rest. Slots that have something by a
//! set are known as such: what they have in the block is not little.

use crate::words::Slot;
use roaring::RoaringBitmap;
use std::sync::Arc;

/// A block with more postings is one that is better decoded, whoever asks.
pub(super) const POSTINGS_MAX: usize = 1 << 16;
/// A slot with more records in one block has the block decoded: others then share that.
pub(super) const RECORDS_MAX: usize = 256;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Posting {
    pub(super) slot: u32,
    /// Where its record starts, from the start of the block.
    pub(super) at: u32,
}

/// What a batch adds to its block. Places are from the batch's start.
#[derive(Debug, Default)]
pub(super) struct Entries {
    postings: Vec<Posting>,
    sets: Vec<Arc<RoaringBitmap>>,
    relations: Vec<u32>,
    /// Whether something did not fit.
    lost: bool,
}

impl Entries {
    pub(super) fn add_slots(&mut self, slots: &[Slot], at: usize) {
        let Some(at) = self.place(at) else { return };
        if self.postings.len() + slots.len() > POSTINGS_MAX {
            self.lost = true;
            self.postings.clear();
        }
        if !self.lost {
            self.postings.extend(slots.iter().map(|slot| Posting { slot: slot.as_u32(), at }));
        }
    }

    /// A state of a set was written.
    pub(super) fn add_set(&mut self, set: &Arc<RoaringBitmap>) {
        self.sets.push(Arc::clone(set));
    }

    /// A relation was written; its number is how many were before it in the block.
    pub(super) fn add_relation(&mut self, at: usize) {
        let place = self.place(at);
        self.relations.extend(place);
    }

    fn place(&mut self, at: usize) -> Option<u32> {
        let place = u32::try_from(at).ok();
        self.lost |= place.is_none();
        place
    }
}

/// What the block that is being written has.
#[derive(Debug, Default)]
pub(super) struct Growing {
    entries: Entries,
    /// The position of its first byte; `None`: there is no such block.
    start: Option<u64>,
}

impl Growing {
    /// Takes what a batch at byte `position` brings. The block before, if this one is a new one.
    pub(super) fn add(
        &mut self,
        position: u64,
        new_block: bool,
        batch: &Entries,
    ) -> Option<Postings> {
        let closed = if new_block { std::mem::take(self).close() } else { None };
        if new_block {
            self.start = Some(position);
        }
        // A block that another process began, say, of which not all is known.
        let start = self.start?;
        let Entries { postings, sets, relations, lost } = &mut self.entries;
        let from = u32::try_from(position - start);
        let fits = postings.len() + batch.postings.len() <= POSTINGS_MAX;
        *lost |= batch.lost || from.is_err() || !fits;
        let moved = |at: u32| at.checked_add(*from.as_ref().ok()?);
        if *lost {
            postings.clear();
            return closed;
        }
        for posting in &batch.postings {
            let at = moved(posting.at);
            *lost |= at.is_none();
            postings.push(Posting { at: at.unwrap_or_default(), ..*posting });
        }
        for &at in &batch.relations {
            *lost |= moved(at).is_none();
            relations.extend(moved(at));
        }
        sets.extend(batch.sets.iter().cloned());
        closed
    }

    fn close(self) -> Option<Postings> {
        let Entries { mut postings, sets, relations, lost } = self.entries;
        if lost || self.start.is_none() {
            return None;
        }
        postings.sort_unstable();
        postings.dedup();
        let sets = sets.iter().fold(RoaringBitmap::new(), |all, set| all | &**set);
        Some(Postings { postings: postings.into(), sets, relations: relations.into() })
    }
}

/// What a closed block has for whom.
#[derive(Debug)]
pub(super) struct Postings {
    /// By slot, and then by place.
    pub(super) postings: Box<[Posting]>,
    pub(super) sets: RoaringBitmap,
    /// Where the block's relations are written, by number.
    pub(super) relations: Box<[u32]>,
}

/// What one slot has in a block.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    Nothing,
    /// In the records at these places alone.
    Records(Vec<u32>),
    /// More: decode the block.
    Much,
}

impl Postings {
    pub(super) fn find(&self, slot: Slot) -> Found {
        let slot = slot.as_u32();
        if self.sets.contains(slot) {
            return Found::Much;
        }
        let first = self.postings.partition_point(|posting| posting.slot < slot);
        let own = self.postings.get(first..).unwrap_or_default();
        let own = own.iter().take_while(|posting| posting.slot == slot);
        let records: Vec<_> = own.map(|posting| posting.at).take(RECORDS_MAX + 1).collect();
        match records.len() {
            0 => Found::Nothing,
            len if len > RECORDS_MAX => Found::Much,
            _ => Found::Records(records),
        }
    }

    /// The memory that it takes, about.
    pub(super) fn bytes(&self) -> usize {
        size_of::<Postings>()
            + size_of_val(&*self.postings)
            + size_of_val(&*self.relations)
            + self.sets.serialized_size()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots(numbers: &[u32]) -> Vec<Slot> {
        numbers.iter().copied().map(Slot::new).collect()
    }

    #[test]
    fn a_closed_block_tells_what_each_slot_has() {
        let mut growing = Growing::default();
        let mut first = Entries::default();
        first.add_relation(20);
        first.add_slots(&slots(&[7, 9]), 50);
        first.add_slots(&slots(&[7]), 50);
        let mut second = Entries::default();
        second.add_set(&Arc::new(RoaringBitmap::from_iter([9, 11])));
        second.add_slots(&slots(&[7, 8]), 40);
        assert!(growing.add(1_000, true, &first).is_none(), "there is none before");
        assert!(growing.add(1_100, false, &second).is_none());
        let closed = growing.add(1_300, true, &Entries::default()).unwrap();
        assert_eq!(closed.find(Slot::new(6)), Found::Nothing);
        assert_eq!(closed.find(Slot::new(7)), Found::Records(vec![50, 140]));
        assert_eq!(closed.find(Slot::new(8)), Found::Records(vec![140]));
        assert_eq!([9, 11].map(|slot| closed.find(Slot::new(slot))), [Found::Much, Found::Much]);
        assert_eq!(*closed.relations, [20]);
    }

    #[test]
    fn a_block_that_is_not_known_whole_or_has_too_many_says_nothing() {
        let mut batch = Entries::default();
        batch.add_slots(&slots(&[1]), 10);
        let mut growing = Growing::default();
        growing.add(500, false, &batch);
        assert!(growing.add(600, true, &batch).is_none(), "its beginning is not known");
        let mut many = Entries::default();
        (0..POSTINGS_MAX).for_each(|at| many.add_slots(&slots(&[at as u32 % 300]), at));
        growing.add(700, false, &many);
        assert!(growing.add(800, true, &many).is_none(), "one too many");
        growing.add(900, false, &Entries::default());
        let closed = growing.add(1_000, true, &batch).unwrap();
        assert_eq!(closed.find(Slot::new(300)), Found::Nothing);
        assert!(matches!(closed.find(Slot::new(0)), Found::Records(_)));
        let mut far = Entries::default();
        far.add_slots(&slots(&[1]), 1 << 33);
        growing.add(2_000, false, &far);
        assert!(growing.add(3_000, true, &batch).is_none(), "a place beyond 32 bits");
        let mut busy = Entries::default();
        (0..=RECORDS_MAX).for_each(|at| busy.add_slots(&slots(&[5]), at));
        growing.add(4_000, false, &busy);
        assert_eq!(growing.add(5_000, true, &batch).unwrap().find(Slot::new(5)), Found::Much);
    }
}
