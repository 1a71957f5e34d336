//! The index of one column: from each constant that some clause compares it with to the slots of
//! those shapes. Keys come in, sets go out; which row a key is from is the router's to know.

use super::slots::{SetIds, SlotSet};
use crate::predicate::{Key, KeyKind};
use crate::words::Slot;
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
/// is most of the index. Keys are what users write, hence a seeded hash.
#[derive(Debug)]
enum Keys {
    Bool([SlotSet; 2]),
    Int(HashMap<i64, SlotSet, RandomState>),
    Uuid(HashMap<[u8; 16], SlotSet, RandomState>),
    Text(HashMap<Text, SlotSet, RandomState>),
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
    pub(super) fn get(&self, key: Key<'_>) -> Option<&SlotSet> {
        match (&self.keys, key) {
            (Keys::Bool(sets), Key::Bool(key)) => Some(&sets[usize::from(key)]),
            (Keys::Int(map), Key::Int(key)) => map.get(&key),
            (Keys::Uuid(map), Key::Uuid(key)) => map.get(&key),
            (Keys::Text(map), Key::Text(key)) => map.get(key),
            _ => None,
        }
    }

    /// Adds `slot` to the shapes of `key`, which is of this index's kind.
    pub(super) fn insert(&mut self, key: Key<'_>, slot: Slot, ids: &mut SetIds) {
        match (&mut self.keys, key) {
            (Keys::Bool(sets), Key::Bool(key)) => sets[usize::from(key)].insert(slot, ids),
            (Keys::Int(map), Key::Int(key)) => map.entry(key).or_default().insert(slot, ids),
            (Keys::Uuid(map), Key::Uuid(key)) => map.entry(key).or_default().insert(slot, ids),
            (Keys::Text(map), Key::Text(key)) => match map.get_mut(key) {
                Some(set) => set.insert(slot, ids),
                None => {
                    map.insert(key.into(), SlotSet::One(slot));
                }
            },
            _ => debug_assert!(false, "a key of another kind"),
        }
    }

    /// Takes `slot` out of the shapes of `key`; an entry that is empty then goes.
    pub(super) fn remove(&mut self, key: Key<'_>, slot: Slot) {
        match (&mut self.keys, key) {
            (Keys::Bool(sets), Key::Bool(key)) => sets[usize::from(key)].remove(slot),
            (Keys::Int(map), Key::Int(key)) => remove(map, &key, slot),
            (Keys::Uuid(map), Key::Uuid(key)) => remove(map, &key, slot),
            (Keys::Text(map), Key::Text(key)) => remove(map, key, slot),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_found_by_its_bytes_short_or_long() {
        let mut ids = SetIds::default();
        let mut index = ColumnIndex::new(0, KeyKind::Text);
        let longest = [b'x'; 2 * SHORT_BYTES];
        let texts = || (0..=longest.len()).map(|len| &longest[..len]);
        for (slot, text) in texts().enumerate() {
            index.insert(&Key::Text(text.into()), Slot::new(slot as u32), &mut ids);
        }
        for (slot, text) in texts().enumerate() {
            let mut found = crate::words::Targets::default();
            index.get(KeyRef::Text(text)).unwrap().nominate(&mut found);
            assert_eq!(*found.slots, [Slot::new(slot as u32)]);
        }
        assert!(index.get(KeyRef::Text(b"xy")).is_none());
        for (slot, text) in texts().enumerate() {
            index.remove(&Key::Text(text.into()), Slot::new(slot as u32));
            assert!(index.get(KeyRef::Text(text)).is_none());
        }
        assert!(index.is_empty());
    }
}
