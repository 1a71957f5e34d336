//! One set of slots of the index: a few are held in place, many in a bitmap that is shared with
//! everybody a change was routed for. What the set stands for is its owner's to know.

use crate::words::{SharedSet, Slot, Targets};
use roaring::RoaringBitmap;
use smallvec::SmallVec;
use std::sync::Arc;

/// From how many slots on a set is a shared bitmap. In unit tests the few shapes of the simulator
/// are to make some.
pub(super) const SHARED_MIN: usize = if cfg!(test) { 3 } else { 32 };
/// At how many slots a bitmap is given up again; lower, so that a set at the border stays as it is.
const SHARED_KEEP_MIN: u64 = if cfg!(test) { 2 } else { 16 };
const _: () = assert!((SHARED_KEEP_MIN as usize) < SHARED_MIN);

/// How many changes of a bitmap pay for compressing it once. The time that takes grows with the
/// bitmap, so the number does too, and the cost of a change stays constant (INV9).
const COMPRESS_EVERY_MIN: u64 = 1_024;
const COMPRESS_EVERY_PART: u64 = 64;

/// The numbers of shared sets: never one twice.
#[derive(Debug, Default)]
pub(super) struct SetIds {
    next: u64,
}

impl SetIds {
    pub(super) fn take(&mut self) -> u64 {
        let id = self.next;
        self.next += 1;
        id
    }
}

/// A set of slots. 16 bytes, and nothing else while it holds one: most sets do.
#[derive(Debug, Default)]
pub(super) enum SlotSet {
    #[default]
    Empty,
    One(Slot),
    /// Rising, at most `SHARED_MIN - 1`.
    Few(Box<SmallVec<[Slot; 4]>>),
    Shared(Box<Shared>),
}

#[derive(Debug)]
pub(super) struct Shared {
    id: u64,
    slots: Arc<RoaringBitmap>,
    /// How many slots are in; the bitmap would count them.
    len: u64,
    /// Slots that came or went since the bitmap was last compressed.
    changes: u64,
}

impl SlotSet {
    pub(super) fn is_empty(&self) -> bool {
        matches!(self, SlotSet::Empty)
    }

    /// Adds `slot`; no effect if it is in.
    pub(super) fn insert(&mut self, slot: Slot, ids: &mut SetIds) {
        match self {
            SlotSet::Empty => *self = SlotSet::One(slot),
            SlotSet::One(only) if *only == slot => {}
            SlotSet::One(only) => {
                let pair = [slot.min(*only), slot.max(*only)];
                *self = SlotSet::Few(Box::new(SmallVec::from_slice(&pair)));
            }
            SlotSet::Few(few) => {
                let Err(place) = few.binary_search(&slot) else { return };
                few.insert(place, slot);
                if few.len() >= SHARED_MIN {
                    let slots = few.iter().map(|slot| slot.as_u32()).collect();
                    *self = SlotSet::Shared(Box::new(Shared::new(ids, slots)));
                }
            }
            SlotSet::Shared(shared) => shared.insert(slot),
        }
    }

    /// Takes `slot` out; no effect if it is not in (INV5).
    pub(super) fn remove(&mut self, slot: Slot) {
        match self {
            SlotSet::Empty => {}
            SlotSet::One(only) => {
                if *only == slot {
                    *self = SlotSet::Empty;
                }
            }
            SlotSet::Few(few) => {
                if let Ok(place) = few.binary_search(&slot) {
                    few.remove(place);
                }
                match few.as_slice() {
                    [] => *self = SlotSet::Empty,
                    [only] => *self = SlotSet::One(*only),
                    _ => {}
                }
            }
            SlotSet::Shared(shared) => {
                shared.remove(slot);
                if shared.len <= SHARED_KEEP_MIN {
                    let few = shared.slots.iter().map(Slot::new).collect();
                    *self = SlotSet::Few(Box::new(few));
                }
            }
        }
    }

    /// Adds all slots of `other`.
    pub(super) fn extend(&mut self, other: &SlotSet, ids: &mut SetIds) {
        match other {
            SlotSet::Empty => {}
            SlotSet::One(slot) => self.insert(*slot, ids),
            SlotSet::Few(few) => few.iter().for_each(|slot| self.insert(*slot, ids)),
            SlotSet::Shared(other) => {
                if let SlotSet::Shared(shared) = self {
                    *Arc::make_mut(&mut shared.slots) |= &*other.slots;
                    shared.len = shared.slots.len();
                    return;
                }
                let mut slots = RoaringBitmap::clone(&other.slots);
                let mut mine = Targets::default();
                self.nominate(&mut mine);
                slots.extend(mine.slots.iter().map(|slot| slot.as_u32()));
                *self = SlotSet::Shared(Box::new(Shared::new(ids, slots)));
            }
        }
    }

    /// Adds this set to `targets`: single slots at the end of its slots, in whatever order that
    /// gives; a bitmap as one more pointer to it, as it is now.
    #[inline]
    pub(super) fn nominate(&self, targets: &mut Targets) {
        match self {
            SlotSet::Empty => {}
            SlotSet::One(slot) => targets.slots.push(*slot),
            SlotSet::Few(few) => targets.slots.extend_from_slice(few),
            SlotSet::Shared(shared) => {
                let slots = Arc::clone(&shared.slots);
                targets.sets.push(SharedSet { id: shared.id, slots });
            }
        }
    }
}

impl Shared {
    fn new(ids: &mut SetIds, slots: RoaringBitmap) -> Shared {
        Shared { id: ids.take(), len: slots.len(), slots: Arc::new(slots), changes: 0 }
    }

    fn insert(&mut self, slot: Slot) {
        let slot = slot.as_u32();
        let came = match Arc::get_mut(&mut self.slots) {
            Some(slots) => slots.insert(slot),
            // Somebody holds the set, so `make_mut` copies it; do not pay that for nothing.
            None => !self.slots.contains(slot) && Arc::make_mut(&mut self.slots).insert(slot),
        };
        if came {
            self.len += 1;
            self.changed();
        }
    }

    fn remove(&mut self, slot: Slot) {
        let slot = slot.as_u32();
        let went = match Arc::get_mut(&mut self.slots) {
            Some(slots) => slots.remove(slot),
            None => self.slots.contains(slot) && Arc::make_mut(&mut self.slots).remove(slot),
        };
        if went {
            self.len -= 1;
            self.changed();
        }
    }

    /// Slots are given out in rising order, so shapes that are registered together become runs,
    /// which take next to no memory; holes that removals leave make runs dear. Roaring decides
    /// neither by itself.
    fn changed(&mut self) {
        self.changes += 1;
        if self.changes >= COMPRESS_EVERY_MIN.max(self.len / COMPRESS_EVERY_PART) {
            self.changes = 0;
            Arc::make_mut(&mut self.slots).optimize();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn contents(set: &SlotSet) -> (Vec<u32>, Option<SharedSet>) {
        let mut targets = Targets::default();
        set.nominate(&mut targets);
        let mut slots = Vec::new();
        targets.for_each(|slot| slots.push(slot.as_u32()));
        (slots, targets.sets.first().cloned())
    }

    #[test]
    fn f05_a_set_is_small_in_memory() {
        assert_eq!(size_of::<SlotSet>(), 16);
    }

    #[test]
    fn a_snapshot_stays_as_it_was_and_a_set_that_became_shared_again_has_another_id() {
        let (mut set, mut ids) = (SlotSet::default(), SetIds::default());
        let fill = |set: &mut SlotSet, ids: &mut SetIds| {
            (0..40).for_each(|slot| set.insert(Slot::new(slot), ids));
        };
        fill(&mut set, &mut ids);
        let (_, before) = contents(&set);
        set.insert(Slot::new(40), &mut ids);
        let (_, after) = contents(&set);
        let (before, after) = (before.unwrap(), after.unwrap());
        assert_eq!((before.slots.len(), after.slots.len()), (40, 41));
        assert_eq!(before.id, after.id);
        let keep = SHARED_KEEP_MIN as usize;
        (keep as u32..41).for_each(|slot| set.remove(Slot::new(slot)));
        assert!(matches!(&set, SlotSet::Few(few) if few.len() == keep));
        fill(&mut set, &mut ids);
        assert_ne!(contents(&set).1.unwrap().id, before.id);
    }

    #[test]
    fn slots_that_rise_without_holes_are_kept_as_runs() {
        let (mut set, mut ids) = (SlotSet::default(), SetIds::default());
        (0..200_000).for_each(|slot| set.insert(Slot::new(slot), &mut ids));
        let slots = contents(&set).1.unwrap().slots;
        assert!(slots.serialized_size() < 20_000, "{}", slots.serialized_size());
        (0..200_000).step_by(2).for_each(|slot| set.remove(Slot::new(slot)));
        let slots = contents(&set).1.unwrap().slots;
        assert!(slots.serialized_size() < 50_000, "{}", slots.serialized_size());
    }

    proptest! {
        #[test]
        fn a_set_is_a_set(steps in prop::collection::vec((any::<bool>(), 0..60_u32), 0..300)) {
            let (mut set, mut ids) = (SlotSet::default(), SetIds::default());
            let mut oracle = BTreeSet::new();
            for (insert, slot) in steps {
                if insert {
                    set.insert(Slot::new(slot), &mut ids);
                    oracle.insert(slot);
                } else {
                    set.remove(Slot::new(slot));
                    oracle.remove(&slot);
                }
                let expected: Vec<u32> = oracle.iter().copied().collect();
                prop_assert_eq!(contents(&set).0, expected);
                prop_assert_eq!(set.is_empty(), oracle.is_empty());
            }
        }
    }
}
