//! The index of one column: from each constant that some clause compares it with to the slots of
//! those shapes. Keys come in, sets go out; which row a key is from is the router's to know.

use super::slots::{SetIds, SlotSet};
use crate::predicate::{Key, KeyKind};
use crate::words::{Slot, Targets};
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use std::borrow::Borrow;
use std::hash::{Hash, Hasher};

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
/// is most of the index.
#[derive(Debug)]
enum Keys {
    Bool([SlotSet; 2]),
    Int(Map<i64>),
    Uuid(Map<[u8; 16]>),
    Text(Map<Text>),
}

/// What a short text takes at most to lie in its entry, so that comparing it reads no other memory.
const SHORT_BYTES: usize = 14;

/// A text of 16 bytes, and more elsewhere if it is long. Hashed and compared as its bytes are.
#[derive(Debug)]
enum Text {
    Short(u8, [u8; SHORT_BYTES]),
    Long(Box<Long>),
}

/// Behind one pointer: the length is not worth a place in each entry.
#[derive(Debug)]
struct Long(Box<[u8]>);

const _: () = assert!(size_of::<Text>() == 16);

impl From<&[u8]> for Text {
    fn from(bytes: &[u8]) -> Text {
        let mut short = [0; SHORT_BYTES];
        match short.get_mut(..bytes.len()) {
            Some(held) => {
                held.copy_from_slice(bytes);
                Text::Short(bytes.len() as u8, short)
            }
            None => Text::Long(Box::new(Long(bytes.into()))),
        }
    }
}

impl Borrow<[u8]> for Text {
    #[inline]
    fn borrow(&self) -> &[u8] {
        match self {
            Text::Short(len, bytes) => bytes.get(..usize::from(*len)).unwrap_or_default(),
            Text::Long(long) => &long.0,
        }
    }
}

impl Hash for Text {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Borrow::<[u8]>::borrow(self).hash(state);
    }
}

impl PartialEq for Text {
    fn eq(&self, other: &Text) -> bool {
        Borrow::<[u8]>::borrow(self) == Borrow::<[u8]>::borrow(other)
    }
}

impl Eq for Text {}

impl ColumnIndex {
    pub(super) fn new(column: usize, kind: KeyKind) -> ColumnIndex {
        let keys = match kind {
            KeyKind::Bool => Keys::Bool(Default::default()),
            KeyKind::Int => Keys::Int(Map::default()),
            KeyKind::Uuid => Keys::Uuid(Map::default()),
            KeyKind::Text => Keys::Text(Map::default()),
        };
        ColumnIndex { column, kind, keys }
    }

    pub(super) fn is_empty(&self) -> bool {
        match &self.keys {
            Keys::Bool(sets) => sets.iter().all(SlotSet::is_empty),
            Keys::Int(map) => map.found.is_empty(),
            Keys::Uuid(map) => map.found.is_empty(),
            Keys::Text(map) => map.found.is_empty(),
        }
    }

    /// Adds the shapes that compare the column with `key` to `targets`.
    #[inline]
    pub(super) fn nominate(&self, key: Key<'_>, targets: &mut Targets) {
        match (&self.keys, key) {
            (Keys::Bool(sets), Key::Bool(key)) => sets[usize::from(key)].nominate(targets),
            (Keys::Int(map), Key::Int(key)) => map.nominate(&key, targets),
            (Keys::Uuid(map), Key::Uuid(key)) => map.nominate(&key, targets),
            (Keys::Text(map), Key::Text(key)) => map.nominate(key, targets),
            _ => {}
        }
    }

    /// Adds `slot` to the shapes of `key`, which is of this index's kind.
    pub(super) fn insert(&mut self, key: Key<'_>, slot: Slot, ids: &mut SetIds) {
        match (&mut self.keys, key) {
            (Keys::Bool(sets), Key::Bool(key)) => sets[usize::from(key)].insert(slot, ids),
            (Keys::Int(map), Key::Int(key)) => map.insert(&key, || key, slot, ids),
            (Keys::Uuid(map), Key::Uuid(key)) => map.insert(&key, || key, slot, ids),
            (Keys::Text(map), Key::Text(key)) => map.insert(key, || key.into(), slot, ids),
            _ => debug_assert!(false, "a key of another kind"),
        }
    }

    /// Takes `slot` out of the shapes of `key`; an entry that is empty then goes.
    pub(super) fn remove(&mut self, key: Key<'_>, slot: Slot) {
        match (&mut self.keys, key) {
            (Keys::Bool(sets), Key::Bool(key)) => sets[usize::from(key)].remove(slot),
            (Keys::Int(map), Key::Int(key)) => map.remove(&key, slot),
            (Keys::Uuid(map), Key::Uuid(key)) => map.remove(&key, slot),
            (Keys::Text(map), Key::Text(key)) => map.remove(key, slot),
            _ => debug_assert!(false, "a key of another kind"),
        }
    }
}

/// A map is shrunk when it has room for this many times what is in it.
const SPARSE: usize = 8;

/// From each key to its shapes. Keys are what users write, hence a seeded hash.
#[derive(Debug)]
struct Map<K> {
    found: HashMap<K, Found, RandomState>,
    /// Of keys that several shapes have. They lie here because few do, while the map has room for
    /// up to twice its keys.
    sets: Vec<SlotSet>,
    /// The places in `sets` that are empty.
    free: Vec<u32>,
}

/// The shapes of a key.
#[derive(Clone, Copy, Debug)]
enum Found {
    One(Slot),
    /// Those in the set at this place of `sets`: there is one as long as a key says so, and no more
    /// than there are slots, which have 32 bits.
    Many(u32),
}

const _: () = assert!(size_of::<(i64, Found)>() <= 16, "an index is bound by what a look-up reads");

impl<K> Default for Map<K> {
    fn default() -> Map<K> {
        Map { found: HashMap::default(), sets: Vec::new(), free: Vec::new() }
    }
}

impl<K: Hash + Eq> Map<K> {
    #[inline]
    fn nominate<Q>(&self, key: &Q, targets: &mut Targets)
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        match self.found.get(key) {
            None => {}
            Some(Found::One(slot)) => targets.slots.push(*slot),
            Some(Found::Many(place)) => self.sets[*place as usize].nominate(targets),
        }
    }

    fn insert<Q>(&mut self, key: &Q, owned: impl FnOnce() -> K, slot: Slot, ids: &mut SetIds)
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let Some(found) = self.found.get_mut(key) else {
            self.found.insert(owned(), Found::One(slot));
            return;
        };
        let place = match *found {
            Found::One(only) if only == slot => return,
            Found::One(only) => {
                let place = self.free.pop().unwrap_or_else(|| {
                    self.sets.push(SlotSet::Empty);
                    self.sets.len() as u32 - 1
                });
                self.sets[place as usize].insert(only, ids);
                *found = Found::Many(place);
                place
            }
            Found::Many(place) => place,
        };
        self.sets[place as usize].insert(slot, ids);
    }

    fn remove<Q>(&mut self, key: &Q, slot: Slot)
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let Some(found) = self.found.get_mut(key) else { return };
        match *found {
            Found::One(only) if only == slot => {
                self.found.remove(key);
                // Half full afterwards, so that it takes as many removals as entries to get here
                // again.
                if self.found.capacity() > SPARSE * self.found.len().max(SPARSE) {
                    self.found.shrink_to(self.found.len() * 2);
                }
            }
            Found::One(_) => {}
            Found::Many(place) => {
                let set = &mut self.sets[place as usize];
                set.remove(slot);
                if let SlotSet::One(only) = *set {
                    *found = Found::One(only);
                    self.set_free(place);
                }
            }
        }
    }

    fn set_free(&mut self, place: u32) {
        self.sets[place as usize] = SlotSet::Empty;
        self.free.push(place);
        if self.free.len() == self.sets.len() {
            (self.sets, self.free) = Default::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_one_shape_and_of_several_change_places_and_sets_are_used_again() {
        let (mut map, mut ids) = (Map::<i64>::default(), SetIds::default());
        let slots_of = |map: &Map<i64>, key| {
            let mut targets = Targets::default();
            map.nominate(&key, &mut targets);
            targets.slots.to_vec()
        };
        let [a, b, c] = [1, 2, 3].map(Slot::new);
        for key in 0..4 {
            [a, b, b, a].into_iter().for_each(|slot| map.insert(&key, || key, slot, &mut ids));
        }
        assert_eq!((map.sets.len(), slots_of(&map, 3)), (4, vec![a, b]));
        // A slot that is not in, twice one that is (INV5).
        [c, b, b].into_iter().for_each(|slot| map.remove(&1, slot));
        assert_eq!((slots_of(&map, 1), slots_of(&map, 2)), (vec![a], vec![a, b]));
        map.insert(&9, || 9, b, &mut ids);
        map.insert(&9, || 9, c, &mut ids);
        assert_eq!((map.sets.len(), slots_of(&map, 9)), (4, vec![b, c]));
        for key in [0, 1, 2, 3, 9] {
            [a, b, c].into_iter().for_each(|slot| map.remove(&key, slot));
        }
        assert!(map.found.is_empty() && map.sets.is_empty() && map.free.is_empty());
    }

    #[test]
    fn a_text_is_found_by_its_bytes_short_or_long() {
        let mut ids = SetIds::default();
        let mut index = ColumnIndex::new(0, KeyKind::Text);
        let longest = [b'x'; 2 * SHORT_BYTES];
        let found = |index: &ColumnIndex, text: &[u8]| {
            let mut targets = Targets::default();
            index.nominate(Key::Text(text), &mut targets);
            targets.slots.to_vec()
        };
        let texts = || (0..=longest.len()).map(|len| &longest[..len]);
        for (slot, text) in texts().enumerate() {
            index.insert(Key::Text(text), Slot::new(slot as u32), &mut ids);
        }
        for (slot, text) in texts().enumerate() {
            assert_eq!(found(&index, text), [Slot::new(slot as u32)]);
        }
        assert!(found(&index, b"xy").is_empty());
        for (slot, text) in texts().enumerate() {
            index.remove(Key::Text(text), Slot::new(slot as u32));
            assert!(found(&index, text).is_empty());
        }
        assert!(index.is_empty());
    }
}
