//! Splitting an update: from the shapes that its old row matches and those that its new row
//! matches to who gets it as it is, as an insert, as a delete. Sets come in and go out; shared
//! sets that fall wholly into one class go through as they are.

use super::slots::{SHARED_MIN, SetIds};
use crate::words::{Routed, SharedSet, Slot, Targets};
use roaring::RoaringBitmap;
use std::sync::Arc;

/// Makes `targets` what its type promises: slots strictly rising and in none of the sets.
#[inline]
pub(super) fn tidy(targets: &mut Targets) {
    let Targets { sets, slots } = targets;
    if !sets.is_empty() && !slots.is_empty() {
        slots.retain(|slot| !in_sets(sets, *slot));
    }
    if slots.len() > 1 && !slots.is_sorted_by(|a, b| a < b) {
        slots.sort_unstable();
        slots.dedup();
    }
}

/// Moves the sets that `left` and `entered` both have, in one state, to `kept`.
pub(super) fn keep_common(kept: &mut Targets, left: &mut Targets, entered: &mut Targets) {
    left.sets.retain(|set| {
        let same = |other: &SharedSet| Arc::ptr_eq(&set.slots, &other.slots);
        let Some(place) = entered.sets.iter().position(same) else { return true };
        kept.sets.push(entered.sets.swap_remove(place));
        false
    });
}

fn in_sets(sets: &[SharedSet], slot: Slot) -> bool {
    sets.iter().any(|set| set.slots.contains(slot.as_u32()))
}

/// Divides the shapes of an update among the classes of `out`. `out.as_is` holds those that match
/// both rows by something unchanged, `left` those that match the old row by something changed,
/// `entered` those that match the new row by something changed; all three are tidy.
pub(super) fn classify(ids: &mut SetIds, left: Targets, entered: Targets, out: &mut Routed) {
    if left.is_empty() && entered.is_empty() {
        return;
    }
    out.as_delete = minus(ids, &left, &[&out.as_is, &entered]);
    out.as_insert = minus(ids, &entered, &[&out.as_is, &left]);
    let both = common(ids, &left, &entered);
    out.as_is.sets.extend(both.sets);
    out.as_is.slots.extend(both.slots);
    tidy(&mut out.as_is);
}

/// What is in `all` and in none of `others`.
fn minus(ids: &mut SetIds, all: &Targets, others: &[&Targets; 2]) -> Targets {
    let mut rest = Targets::default();
    for set in &all.sets {
        let apart = others.iter().all(|other| {
            other.sets.iter().all(|other| set.slots.is_disjoint(&other.slots))
                && other.slots.iter().all(|slot| !set.slots.contains(slot.as_u32()))
        });
        if apart {
            rest.sets.push(set.clone());
            continue;
        }
        let mut slots = RoaringBitmap::clone(&set.slots);
        for other in others {
            other.sets.iter().for_each(|other| slots -= &*other.slots);
            other.slots.iter().for_each(|slot| {
                slots.remove(slot.as_u32());
            });
        }
        add(ids, slots, &mut rest);
    }
    let absent = |slot: &&Slot| others.iter().all(|other| !other.contains(**slot));
    rest.slots.extend(all.slots.iter().filter(absent).copied());
    tidy(&mut rest);
    rest
}

/// What is in both.
fn common(ids: &mut SetIds, a: &Targets, b: &Targets) -> Targets {
    let mut both = Targets::default();
    for set in &a.sets {
        for other in &b.sets {
            if !set.slots.is_disjoint(&other.slots) {
                add(ids, &*set.slots & &*other.slots, &mut both);
            }
        }
    }
    both.slots.extend(a.slots.iter().filter(|slot| b.contains(**slot)).copied());
    both.slots.extend(b.slots.iter().filter(|slot| a.contains(**slot)).copied());
    both
}

/// Adds `slots` to `targets`, as a shared set of its own if there are many.
fn add(ids: &mut SetIds, mut slots: RoaringBitmap, targets: &mut Targets) {
    if slots.len() < SHARED_MIN as u64 {
        targets.slots.extend(slots.iter().map(Slot::new));
    } else {
        slots.optimize();
        targets.sets.push(SharedSet { id: ids.take(), slots: Arc::new(slots) });
    }
}
