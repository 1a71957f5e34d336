//! Asked: what of clauses no index tells. A few such rests are asked one after another; of many,
//! those of one form are asked together. Where a rest has no answer, the whole clause decides.

use super::slots::{SetIds, SlotSet};
use super::visit::Visit;
use crate::predicate::{Clause, Constants, EvalError, Form, ValueError};
use crate::words::{Slot, Targets};
use foldhash::fast::RandomState;
use hashbrown::{HashMap, HashTable};
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;

/// So many clauses are asked one after another before forms are looked for. Most places have one.
const FEW_MAX: usize = if cfg!(test) { 2 } else { 8 };

/// See the file's head. Equal clauses are there once, with the slots of all.
#[derive(Debug)]
pub(super) enum Asked {
    Few(Vec<(Arc<Clause>, SlotSet)>),
    Many(Box<Many>),
}

#[derive(Debug, Default)]
pub(super) struct Many {
    forms: HashMap<Form, Group, RandomState>,
    others: HashMap<Arc<Clause>, SlotSet, RandomState>,
}

/// The clauses of one form. Two of them are the same if their integers are.
#[derive(Debug, Default)]
struct Group {
    constants: Constants,
    /// In the order of their constants.
    members: Vec<(Arc<Clause>, SlotSet)>,
    /// Where each is, by its integers.
    places: HashTable<usize>,
    hasher: RandomState,
}

impl Default for Asked {
    fn default() -> Asked {
        Asked::Few(Vec::new())
    }
}

impl Asked {
    pub(super) fn is_empty(&self) -> bool {
        match self {
            Asked::Few(few) => few.is_empty(),
            Asked::Many(many) => many.forms.is_empty() && many.others.is_empty(),
        }
    }

    pub(super) fn insert(&mut self, slot: Slot, clause: &Arc<Clause>, ids: &mut SetIds) {
        match self {
            Asked::Few(few) => {
                if let Some((_, set)) = few.iter_mut().find(|(known, _)| known == clause) {
                    return set.insert(slot, ids);
                }
                few.push((Arc::clone(clause), SlotSet::One(slot)));
                if few.len() > FEW_MAX {
                    let mut many = Many::default();
                    for (clause, set) in std::mem::take(few) {
                        *many.set(&clause) = set;
                    }
                    *self = Asked::Many(Box::new(many));
                }
            }
            Asked::Many(many) => many.set(clause).insert(slot, ids),
        }
    }

    /// Doing it twice is doing it once (INV5).
    pub(super) fn remove(&mut self, slot: Slot, clause: &Arc<Clause>) {
        match self {
            Asked::Few(few) => {
                let Some(place) = few.iter().position(|(known, _)| known == clause) else { return };
                few[place].1.remove(slot);
                if few[place].1.is_empty() {
                    few.swap_remove(place);
                }
            }
            Asked::Many(many) => many.remove(slot, clause),
        }
    }

    /// Adds every slot.
    pub(super) fn all(&self, targets: &mut Targets) {
        match self {
            Asked::Few(few) => few.iter().for_each(|(_, set)| set.nominate(targets)),
            Asked::Many(many) => {
                let members = many.forms.values().flat_map(|group| &group.members);
                members.for_each(|(_, set)| set.nominate(targets));
                many.others.values().for_each(|set| set.nominate(targets));
            }
        }
    }

    /// Asks all of them.
    pub(super) fn visit<'a>(&'a self, visit: &mut Visit<'_, 'a>) -> Result<(), ValueError> {
        match self {
            Asked::Few(few) => ask(few, visit),
            Asked::Many(many) => {
                for (form, group) in &many.forms {
                    group.visit(form, visit)?;
                }
                many.others.iter().try_for_each(|(clause, set)| visit.ask(clause, set))
            }
        }
    }
}

fn ask<'a>(
    members: &'a [(Arc<Clause>, SlotSet)],
    visit: &mut Visit<'_, 'a>,
) -> Result<(), ValueError> {
    members.iter().try_for_each(|(clause, set)| visit.ask(clause, set))
}

impl Many {
    /// The slots of `clause`, which are none at first.
    fn set(&mut self, clause: &Arc<Clause>) -> &mut SlotSet {
        let Some((form, integers)) = clause.form() else {
            return self.others.entry(Arc::clone(clause)).or_default();
        };
        let group = self.forms.entry(form).or_default();
        let place = group.place(&integers).unwrap_or_else(|| group.push(&integers, clause));
        &mut group.members[place].1
    }

    fn remove(&mut self, slot: Slot, clause: &Arc<Clause>) {
        let Some((form, integers)) = clause.form() else {
            if let Some(set) = self.others.get_mut(clause) {
                set.remove(slot);
                if set.is_empty() {
                    self.others.remove(clause);
                }
            }
            return;
        };
        let Some(group) = self.forms.get_mut(&form) else { return };
        let Some(place) = group.place(&integers) else { return };
        group.members[place].1.remove(slot);
        if group.members[place].1.is_empty() {
            group.remove(place);
            if group.members.is_empty() {
                self.forms.remove(&form);
            }
        }
    }
}

fn hash_of(hasher: &RandomState, integers: impl Iterator<Item = i64>) -> u64 {
    let mut state = hasher.build_hasher();
    integers.for_each(|integer| integer.hash(&mut state));
    state.finish()
}

impl Group {
    /// Where the clause with these integers is.
    fn place(&self, integers: &[i64]) -> Option<usize> {
        let hash = hash_of(&self.hasher, integers.iter().copied());
        let same = |place: &usize| self.constants.get(*place).eq(integers.iter().copied());
        self.places.find(hash, same).copied()
    }

    /// Adds a clause that is not in, without slots; where it is.
    fn push(&mut self, integers: &[i64], clause: &Arc<Clause>) -> usize {
        let place = self.members.len();
        self.constants.push(integers);
        self.members.push((Arc::clone(clause), SlotSet::Empty));
        let hash = |place: &usize| hash_of(&self.hasher, self.constants.get(*place));
        self.places.insert_unique(hash(&place), place, hash);
        place
    }

    /// Takes the clause at `place` out; the last one takes its place.
    fn remove(&mut self, place: usize) {
        let last = self.members.len() - 1;
        for (from, to) in [(place, None), (last, Some(place))] {
            let hash = hash_of(&self.hasher, self.constants.get(from));
            match (self.places.find_entry(hash, |known| *known == from), to) {
                (Ok(entry), None) => {
                    entry.remove();
                }
                (Ok(mut entry), Some(to)) => *entry.get_mut() = to,
                (Err(_), _) => {}
            }
        }
        self.constants.swap_remove(place);
        self.members.swap_remove(place);
    }

    fn visit<'a>(&'a self, form: &'a Form, visit: &mut Visit<'_, 'a>) -> Result<(), ValueError> {
        let mut found = Vec::new();
        let together = form.matches(visit.row, &self.constants, |index| found.push(index));
        match together {
            Ok(true) => {
                visit.findings.evaluations += self.members.len() as u64;
                let sets = found.iter().filter_map(|index| self.members.get(*index));
                sets.for_each(|(_, set)| set.nominate(visit.targets));
                Ok(())
            }
            Ok(false) => ask(&self.members, visit),
            Err(EvalError::Value(error)) => Err(error),
            Err(_) => ask(&self.members, visit),
        }
    }
}
