//! Quota: which shapes keep what they have in the old part of a log. Its blocks come in from the
//! newest to the oldest; a shape whose changes pass its quota in one of them loses what it has in
//! that block and in those before. What a set was delivered is counted once for all its members.

use super::decode::Logged;
use super::thinned::Starts;
use crate::words::{ChangeRef, Fragment, Offset, RowRef, SharedSet, Slot};
use foldhash::fast::RandomState;
use hashbrown::{HashMap, HashSet};
use roaring::RoaringBitmap;
use std::sync::Arc;

/// What a change counts beside its values.
const CHANGE_BYTES: u64 = 16;

/// See the file's head.
#[derive(Debug)]
pub(super) struct Quota {
    bytes_max: u64,
    /// Shapes that have another quota: their initial rows are not complete.
    exempt: (RoaringBitmap, u64),
    /// Shapes that live and were not cut: all others keep nothing of what comes.
    keeping: RoaringBitmap,
    /// What they have so far.
    held: HashMap<u32, u64, RandomState>,
    /// Who was cut in each block, the newest first.
    cut: Vec<RoaringBitmap>,
    starts: Starts,
}

impl Quota {
    /// Those of `living` that are among `exempt` have the quota beside these.
    pub(super) fn new(
        living: RoaringBitmap,
        bytes_max: u64,
        exempt: (RoaringBitmap, u64),
    ) -> Quota {
        let (held, cut, starts) = Default::default();
        Quota { bytes_max, exempt, keeping: living, held, cut, starts }
    }

    /// Takes a block, which is older than the one before.
    pub(super) fn block(&mut self, entries: &[Logged]) {
        let mut touched = RoaringBitmap::new();
        let mut sets: HashMap<u64, Member, RandomState> = HashMap::default();
        let mut overlaps = Overlaps::default();
        for entry in entries {
            for routed in entry.routed.iter() {
                let bytes = weight(&entry.fragment, routed.change);
                for (_, targets) in routed.forms() {
                    if targets.sets.len() > 1 {
                        let sets = targets.sets.iter().map(|set| Arc::clone(&set.slots));
                        let key = targets.sets.iter().map(|set| Arc::as_ptr(&set.slots)).collect();
                        overlaps.entry(key).or_insert_with(|| (sets.collect(), 0)).1 += bytes;
                    }
                    for set in &targets.sets {
                        let known = sets.entry(set.id).or_insert_with(|| Member::new(set));
                        self.count_set(known, set, bytes, &mut touched);
                    }
                    for slot in targets.slots.iter().map(|slot| slot.as_u32()) {
                        if self.keeping.contains(slot) {
                            touched.insert(slot);
                            self.add(slot, bytes);
                        }
                    }
                }
            }
        }
        for Member { slots, bytes } in sets.into_values() {
            let slots = &*slots & &self.keeping;
            slots.iter().for_each(|slot| self.add(slot, bytes));
            touched |= slots;
        }
        overlaps.into_values().for_each(|(sets, bytes)| self.count_once(&sets, bytes));
        let (exempt, awaiting_max) = &self.exempt;
        let quota = |slot| if exempt.contains(slot) { *awaiting_max } else { self.bytes_max };
        let beyond = |slot: &u32| self.held.get(slot).is_some_and(|held| *held > quota(*slot));
        let cut: RoaringBitmap = touched.iter().filter(beyond).collect();
        for slot in &cut {
            self.held.remove(&slot);
        }
        self.keeping -= &cut;
        find_starts(&mut self.starts, entries, cut.clone());
        self.cut.push(cut);
    }

    /// Who keeps what it has in all blocks, who was cut in each block (the oldest is the last), and
    /// where the logs of these begin.
    pub(super) fn finish(self) -> (RoaringBitmap, Vec<RoaringBitmap>, Starts) {
        (self.keeping, self.cut, self.starts)
    }

    /// Counts a change for a set. A state of it that is another than before differs by few slots,
    /// which leave with what was counted until now, or come without it.
    fn count_set(
        &mut self,
        known: &mut Member,
        set: &SharedSet,
        bytes: u64,
        touched: &mut RoaringBitmap,
    ) {
        if !Arc::ptr_eq(&known.slots, &set.slots) {
            let differ = (&*known.slots ^ &*set.slots) & &self.keeping;
            for slot in &differ {
                let comes = set.slots.contains(slot);
                let counted = if comes { known.bytes.wrapping_neg() } else { known.bytes };
                self.add(slot, counted);
            }
            *touched |= differ;
            known.slots = Arc::clone(&set.slots);
        }
        known.bytes += bytes;
    }

    /// `bytes` were counted for each of `sets`: takes back what was counted again for who is in
    /// several of them.
    fn count_once(&mut self, sets: &[Arc<RoaringBitmap>], bytes: u64) {
        let mut seen = RoaringBitmap::new();
        for set in sets {
            let again = &seen & &**set & &self.keeping;
            again.iter().for_each(|slot| self.add(slot, bytes.wrapping_neg()));
            seen |= &**set;
        }
    }

    /// Wraps around: who comes into a set starts below nothing until the block's end.
    fn add(&mut self, slot: u32, bytes: u64) {
        let held = self.held.entry(slot).or_default();
        *held = held.wrapping_add(bytes);
    }
}

/// The sets that changes went to together, by their pointers, and the bytes of these changes.
type Overlaps = HashMap<Vec<*const RoaringBitmap>, (Vec<Arc<RoaringBitmap>>, u64), RandomState>;

/// A set of a block, as it was named last, and the bytes of all changes that named it.
struct Member {
    slots: Arc<RoaringBitmap>,
    bytes: u64,
}

impl Member {
    fn new(set: &SharedSet) -> Member {
        Member { slots: Arc::clone(&set.slots), bytes: 0 }
    }
}

fn weight(fragment: &Fragment, change: u32) -> u64 {
    let bytes = |change: ChangeRef<'_>| {
        let rows = [change.old_row(), change.new_row()];
        rows.iter().flatten().map(RowRef::bytes).sum::<usize>() as u64
    };
    fragment.get(change as usize).map_or(0, bytes) + CHANGE_BYTES
}

/// Adds the last change in `entries` of each of the slots in `left`.
fn find_starts(starts: &mut Starts, entries: &[Logged], mut left: RoaringBitmap) {
    // A state of a set that was met has no more of them in it.
    let mut met = HashSet::with_hasher(RandomState::default());
    for entry in entries.iter().rev() {
        for routed in entry.routed.iter().rev() {
            if left.is_empty() {
                return;
            }
            let mut found = RoaringBitmap::new();
            for (_, targets) in routed.forms() {
                let slots = targets.slots.iter().map(|slot: &Slot| slot.as_u32());
                found.extend(slots.filter(|slot| left.contains(*slot)));
                for set in &targets.sets {
                    if met.insert(Arc::as_ptr(&set.slots)) {
                        found |= &left & &*set.slots;
                    }
                }
            }
            if found.is_empty() {
                continue;
            }
            left -= &found;
            let change = entry.fragment.get(routed.change as usize);
            let at = change.map_or(Offset::ZERO, |change| change.offset());
            *starts.entry(at).or_default() |= found;
        }
    }
}
