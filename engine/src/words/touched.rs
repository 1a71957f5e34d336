//! Touched: to whom something was delivered, gathered at the price of a pointer a set. Targets flow
//! in while the log is written; who of those that wait is meant flows out.

use super::shape::Slot;
use roaring::RoaringBitmap;
use std::sync::Arc;

/// So many sets and single slots are kept as they came, then all become one bitmap: what is
/// gathered may wait for a long transaction's commit, and old states of sets with it.
const SETS_MAX: usize = 1_024;
const SLOTS_MAX: usize = 65_536;

/// See the file's head.
#[derive(Clone, Debug, Default)]
pub(crate) struct Touched {
    sets: Vec<Arc<RoaringBitmap>>,
    slots: Vec<Slot>,
    /// What was too much to be kept as it came.
    folded: RoaringBitmap,
}

impl Touched {
    pub(crate) fn is_empty(&self) -> bool {
        self.sets.is_empty() && self.slots.is_empty() && self.folded.is_empty()
    }

    /// A set that was not added just before is to be added once only, as far as the caller knows.
    pub(crate) fn add_set(&mut self, set: &Arc<RoaringBitmap>) {
        if !self.sets.last().is_some_and(|last| Arc::ptr_eq(last, set)) {
            self.sets.push(Arc::clone(set));
            self.keep_small();
        }
    }

    pub(crate) fn add_slots(&mut self, slots: &[Slot]) {
        self.slots.extend_from_slice(slots);
        self.keep_small();
    }

    /// Takes what `other` has.
    pub(crate) fn append(&mut self, mut other: Touched) {
        if self.is_empty() {
            *self = other;
            return;
        }
        self.sets.append(&mut other.sets);
        self.slots.append(&mut other.slots);
        self.folded |= other.folded;
        self.keep_small();
    }

    /// Who of `waiting` is among them. It costs what `waiting` has, not what was touched.
    pub(crate) fn among(&self, waiting: &RoaringBitmap) -> RoaringBitmap {
        let mut found = waiting & &self.folded;
        for set in &self.sets {
            if found.len() == waiting.len() {
                return found;
            }
            found |= waiting & &**set;
        }
        let single = self.slots.iter().map(|slot| slot.as_u32());
        found.extend(single.filter(|slot| waiting.contains(*slot)));
        found
    }

    fn keep_small(&mut self) {
        if self.sets.len() > SETS_MAX {
            self.sets.drain(..).for_each(|set| self.folded |= &*set);
        }
        if self.slots.len() > SLOTS_MAX {
            self.folded.extend(self.slots.drain(..).map(Slot::as_u32));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_it_is_kept_as_who_waits_is_found_and_nobody_else() {
        let mut touched = Touched::default();
        let mut other = Touched::default();
        for number in 0..SETS_MAX as u32 + 10 {
            let set = Arc::new(RoaringBitmap::from_iter([number, number + 100_000]));
            touched.add_set(&set);
            touched.add_set(&set);
        }
        for number in 0..SLOTS_MAX as u32 + 10 {
            other.add_slots(&[Slot::new(200_000 + number % 20)]);
        }
        assert!(touched.sets.len() <= SETS_MAX && other.slots.len() <= SLOTS_MAX);
        touched.append(other);
        let waiting = RoaringBitmap::from_iter([0, 1_033, 1_034, 101_033, 200_019, 200_020]);
        let found = RoaringBitmap::from_iter([0, 1_033, 101_033, 200_019]);
        assert_eq!(touched.among(&waiting), found);
        assert!(touched.among(&RoaringBitmap::new()).is_empty());
        assert!(Touched::default().is_empty() && !touched.is_empty());
    }
}
