//! The index of one column: from each constant that some clause compares it with to the slots of
//! those shapes. Keys come in, sets go out; which row a key is from is the router's to know.

use super::slots::{SetIds, SlotSet};
use crate::predicate::{Key, KeyKind, KeyRef};
use crate::words::Slot;
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use std::borrow::Borrow;
use std::hash::Hash;

/// What clauses of one kind of key compare one column with.
#[derive(Debug)]
pub(super) struct ColumnIndex {
    /// The column's index in its relation.
    pub(super) column: usize,
    /// The kind of its keys. A column that was retyped has, for a moment, an index for each.
    pub(super) kind: KeyKind,
    keys: Keys,
}

/// A map a kind, so that an entry is no larger than its kind of key needs: at 300,000 entries that
/// is most of the index. Keys are what users write, hence a seeded hash.
#[derive(Debug)]
enum Keys {
    Bool([SlotSet; 2]),
    Int(HashMap<i64, SlotSet, RandomState>),
    Uuid(HashMap<[u8; 16], SlotSet, RandomState>),
    Text(HashMap<Box<[u8]>, SlotSet, RandomState>),
}

impl ColumnIndex {
    pub(super) fn new(column: usize, kind: KeyKind) -> ColumnIndex {
        let keys = match kind {
            KeyKind::Bool => Keys::Bool(Default::default()),
            KeyKind::Int => Keys::Int(HashMap::default()),
            KeyKind::Uuid => Keys::Uuid(HashMap::default()),
            KeyKind::Text => Keys::Text(HashMap::default()),
        };
        ColumnIndex { column, kind, keys }
    }

    pub(super) fn is_empty(&self) -> bool {
        match &self.keys {
            Keys::Bool(sets) => sets.iter().all(SlotSet::is_empty),
            Keys::Int(map) => map.is_empty(),
            Keys::Uuid(map) => map.is_empty(),
            Keys::Text(map) => map.is_empty(),
        }
    }

    /// The shapes that compare the column with `key`.
    #[inline]
    pub(super) fn get(&self, key: KeyRef<'_>) -> Option<&SlotSet> {
        match (&self.keys, key) {
            (Keys::Bool(sets), KeyRef::Bool(key)) => Some(&sets[usize::from(key)]),
            (Keys::Int(map), KeyRef::Int(key)) => map.get(&key),
            (Keys::Uuid(map), KeyRef::Uuid(key)) => map.get(&key),
            (Keys::Text(map), KeyRef::Text(key)) => map.get(key),
            _ => None,
        }
    }

    /// Adds `slot` to the shapes of `key`, which is of this index's kind.
    pub(super) fn insert(&mut self, key: &Key, slot: Slot, ids: &mut SetIds) {
        match (&mut self.keys, key) {
            (Keys::Bool(sets), Key::Bool(key)) => sets[usize::from(*key)].insert(slot, ids),
            (Keys::Int(map), Key::Int(key)) => map.entry(*key).or_default().insert(slot, ids),
            (Keys::Uuid(map), Key::Uuid(key)) => map.entry(*key).or_default().insert(slot, ids),
            (Keys::Text(map), Key::Text(key)) => match map.get_mut(&**key) {
                Some(set) => set.insert(slot, ids),
                None => {
                    map.insert(key.clone(), SlotSet::One(slot));
                }
            },
            _ => debug_assert!(false, "a key of another kind"),
        }
    }

    /// Takes `slot` out of the shapes of `key`; an entry that is empty then goes.
    pub(super) fn remove(&mut self, key: &Key, slot: Slot) {
        match (&mut self.keys, key) {
            (Keys::Bool(sets), Key::Bool(key)) => sets[usize::from(*key)].remove(slot),
            (Keys::Int(map), Key::Int(key)) => remove(map, key, slot),
            (Keys::Uuid(map), Key::Uuid(key)) => remove(map, key, slot),
            (Keys::Text(map), Key::Text(key)) => remove(map, &**key, slot),
            _ => debug_assert!(false, "a key of another kind"),
        }
    }
}

/// A map is shrunk when it has room for this many times what is in it.
const SPARSE: usize = 8;

fn remove<K, Q>(map: &mut HashMap<K, SlotSet, RandomState>, key: &Q, slot: Slot)
where
    K: Hash + Eq + Borrow<Q>,
    Q: Hash + Eq + ?Sized,
{
    let Some(set) = map.get_mut(key) else { return };
    set.remove(slot);
    if set.is_empty() {
        map.remove(key);
        // Half full afterwards, so that it takes as many removals as entries to get here again.
        if map.capacity() > SPARSE * map.len().max(SPARSE) {
            map.shrink_to(map.len() * 2);
        }
    }
}
