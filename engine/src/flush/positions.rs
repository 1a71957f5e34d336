//! Positions: a counted min-heap of the positions from which something is owed.
//!
//! Counts flow in and out by position; the lowest position with a count above zero flows out. What
//! a position means, and what follows from the lowest, is the tracker's.

use crate::words::Lsn;
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Below this many vacant positions the heap is not worth tidying.
const VACANT_MIN: usize = 64;

/// No position: its place is one that no `counts` has.
const NOWHERE: (Lsn, u32) = (Lsn::ZERO, u32::MAX);

/// Distinct positions, each with how many shapes owe from there.
///
/// A position whose count falls to zero stays in the heap as *vacant*, until it is the lowest or
/// vacant ones are the majority: a fan-out that is owed again and again then costs no heap step.
#[derive(Debug)]
pub(super) struct Positions {
    /// Each position once, with its place in `counts`.
    heap: BinaryHeap<Reverse<(Lsn, u32)>>,
    /// Position to place; the same positions as in the heap.
    places: HashMap<Lsn, u32, RandomState>,
    counts: Vec<u32>,
    free: Vec<u32>,
    vacant: usize,
    /// The last two looked up. Two, because a report settles one position and owes from another,
    /// and the next shape's report does the same.
    recent: [(Lsn, u32); 2],
}

impl Positions {
    pub(super) fn new() -> Positions {
        Positions {
            heap: BinaryHeap::new(),
            places: HashMap::default(),
            counts: Vec::new(),
            free: Vec::new(),
            vacant: 0,
            recent: [NOWHERE; 2],
        }
    }

    /// `shapes` more owe from `at`.
    pub(super) fn add(&mut self, at: Lsn, shapes: u32) {
        if shapes == 0 {
            return;
        }
        let place = self.find(at).unwrap_or_else(|| self.insert(at));
        let count = &mut self.counts[place as usize];
        self.vacant -= usize::from(*count == 0);
        *count += shapes;
    }

    /// One shape less owes from `at`. Panics when none did: a tracker that has lost count must not
    /// go on to confirm anything.
    pub(super) fn remove(&mut self, at: Lsn) {
        let place = self.find(at).expect("a position is settled only while it is owed");
        let count = &mut self.counts[place as usize];
        *count = count.checked_sub(1).expect("a position is settled once for each shape");
        if *count == 0 {
            self.vacant += 1;
            if self.vacant >= VACANT_MIN && self.vacant > self.heap.len() / 2 {
                self.tidy();
            }
        }
    }

    /// The lowest position from which a shape owes.
    pub(super) fn lowest(&mut self) -> Option<Lsn> {
        while let Some(&Reverse((at, place))) = self.heap.peek() {
            if self.counts[place as usize] != 0 {
                return Some(at);
            }
            self.heap.pop();
            self.places.remove(&at);
            self.free.push(place);
            self.vacant -= 1;
            for recent in &mut self.recent {
                if recent.0 == at {
                    *recent = NOWHERE;
                }
            }
        }
        None
    }

    /// How many positions are kept, vacant ones included.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.heap.len()
    }

    #[inline]
    fn find(&mut self, at: Lsn) -> Option<u32> {
        let [first, second] = self.recent;
        if first.0 == at && first != NOWHERE {
            return Some(first.1);
        }
        if second.0 == at && second != NOWHERE {
            return Some(second.1);
        }
        let place = *self.places.get(&at)?;
        self.recent = [(at, place), first];
        Some(place)
    }

    fn insert(&mut self, at: Lsn) -> u32 {
        let place = self.free.pop().unwrap_or_else(|| {
            self.counts.push(0);
            u32::try_from(self.counts.len() - 1).expect("there are fewer positions than slots")
        });
        self.heap.push(Reverse((at, place)));
        self.places.insert(at, place);
        self.vacant += 1;
        self.recent = [(at, place), self.recent[0]];
        place
    }

    /// Drops the vacant positions. They were the majority, so a settled position pays for it;
    /// without it one shape that owes for long would make the heap grow with every commit after it.
    #[cold]
    fn tidy(&mut self) {
        let (counts, places, free) = (&self.counts, &mut self.places, &mut self.free);
        self.heap.retain(|&Reverse((at, place))| {
            let owed = counts[place as usize] != 0;
            if !owed {
                places.remove(&at);
                free.push(place);
            }
            owed
        });
        self.vacant = 0;
        self.recent = [NOWHERE; 2];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a22_one_that_owes_for_long_does_not_make_the_heap_grow() {
        let mut positions = Positions::new();
        positions.add(Lsn::new(1), 1);
        for at in 2..10_000 {
            positions.add(Lsn::new(at), 3);
            (0..3).for_each(|_| positions.remove(Lsn::new(at)));
            assert_eq!(positions.lowest(), Some(Lsn::new(1)));
        }
        assert!(positions.len() <= 2 * VACANT_MIN, "{} are kept", positions.len());
        assert!(positions.counts.len() <= 2 * VACANT_MIN);
    }

    #[test]
    fn a_position_that_was_dropped_can_be_owed_from_again() {
        let mut positions = Positions::new();
        for _ in 0..3 {
            positions.add(Lsn::new(5), 1);
            assert_eq!(positions.lowest(), Some(Lsn::new(5)));
            positions.remove(Lsn::new(5));
            assert_eq!(positions.lowest(), None);
        }
    }

    #[test]
    #[should_panic(expected = "settled once for each shape")]
    fn settling_twice_is_refused() {
        let mut positions = Positions::new();
        positions.add(Lsn::new(5), 1);
        positions.remove(Lsn::new(5));
        positions.remove(Lsn::new(5));
    }
}
