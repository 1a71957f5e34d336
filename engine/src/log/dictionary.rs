//! Dictionary: which relations and sets the block being written already holds, and under which
//! number. What is not known yet, or has changed, is written in front of its first use (R8).

use super::frame::{self, Kind};
use super::postings::Entries;
use super::record::put_relation;
use super::wire::put_number;
use crate::words::{Relation, SharedSet, Touched};
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use roaring::RoaringBitmap;
use std::sync::Arc;

/// So many deltas in a row, then the set is written whole: a reader that enters at the last of them
/// has as many steps at most.
const DELTAS_MAX: u8 = 16;
/// A delta is written if it is so many times smaller than the set.
const DELTA_GAIN: usize = 2;

struct KnownSet {
    number: u32,
    written: Arc<RoaringBitmap>,
    deltas: u8,
    /// The last fragment that names this number.
    fragment: u64,
    /// The last batch that touches the slots in `written`.
    batch: u64,
}

/// What the open block knows.
#[derive(Default)]
pub(super) struct Dictionary {
    /// By the relation's address; the relation is held, so that no other can get that address.
    relations: HashMap<usize, (Arc<Relation>, u32), RandomState>,
    /// The same relation may come behind another pointer, after a reconnect for one.
    by_content: HashMap<Arc<Relation>, u32, RandomState>,
    sets: HashMap<u64, KnownSet, RandomState>,
    next_set: u32,
    fragment: u64,
    batch: u64,
    /// To whom the batch being filled delivers something.
    pub(super) touched: Touched,
    /// What the batch being filled writes for whom.
    pub(super) entries: Entries,
}

impl Dictionary {
    /// A new block knows nothing.
    pub(super) fn clear(&mut self) {
        self.relations.clear();
        self.by_content.clear();
        self.sets.clear();
        self.next_set = 0;
    }

    /// The numbers handed out from now on belong to another fragment.
    pub(super) fn next_fragment(&mut self) {
        self.fragment += 1;
    }

    /// To whom the batch delivers something, and where; what comes now belongs to the next one.
    pub(super) fn next_batch(&mut self) -> (Touched, Entries) {
        self.batch += 1;
        (std::mem::take(&mut self.touched), std::mem::take(&mut self.entries))
    }

    /// The number of `relation`, written to `out` if it is new. An error is the length of a record
    /// that passes 4 GiB.
    pub(super) fn relation(
        &mut self,
        out: &mut Vec<u8>,
        seed: u32,
        relation: &Arc<Relation>,
    ) -> Result<u32, u64> {
        let address = Arc::as_ptr(relation).addr();
        if let Some((_, number)) = self.relations.get(&address) {
            return Ok(*number);
        }
        let number = match self.by_content.get(relation) {
            Some(&number) => number,
            None => {
                let number = self.by_content.len() as u32;
                let start = frame::open(out);
                put_relation(out, number, relation);
                frame::close(out, start, Kind::Relation, seed)?;
                self.entries.add_relation(start);
                self.by_content.insert(Arc::clone(relation), number);
                number
            }
        };
        self.relations.insert(address, (Arc::clone(relation), number));
        Ok(number)
    }

    /// The number of `set` in its present state, written to `out` if that is new.
    pub(super) fn set(
        &mut self,
        out: &mut Vec<u8>,
        seed: u32,
        set: &SharedSet,
    ) -> Result<u32, u64> {
        let (fragment, batch) = (self.fragment, self.batch);
        let known = match self.sets.entry(set.id) {
            Entry::Vacant(entry) => {
                let number = self.next_set;
                write_set(out, seed, number, &set.slots, Kind::Set)?;
                self.next_set += 1;
                let written = Arc::clone(&set.slots);
                self.touched.add_set(&written);
                self.entries.add_set(&written);
                entry.insert(KnownSet { number, written, deltas: 0, fragment, batch });
                return Ok(number);
            }
            Entry::Occupied(entry) => entry.into_mut(),
        };
        if !Arc::ptr_eq(&known.written, &set.slots) {
            if known.fragment == fragment && *known.written != *set.slots {
                // The fragment's record follows all of its sets: the number that an earlier change
                // of it uses must not change its meaning.
                let number = self.next_set;
                write_set(out, seed, number, &set.slots, Kind::Set)?;
                self.next_set += 1;
                (known.number, known.deltas) = (number, 0);
            } else {
                known.rewrite(out, seed, &set.slots)?;
            }
            known.written = Arc::clone(&set.slots);
            self.touched.add_set(&set.slots);
            self.entries.add_set(&set.slots);
        } else if known.batch != batch {
            self.touched.add_set(&set.slots);
        }
        (known.fragment, known.batch) = (fragment, batch);
        Ok(known.number)
    }
}

impl KnownSet {
    /// Writes the new state: as what changed, if that is small.
    fn rewrite(&mut self, out: &mut Vec<u8>, seed: u32, slots: &RoaringBitmap) -> Result<(), u64> {
        let delta = &*self.written ^ slots;
        if delta.is_empty() {
            return Ok(());
        }
        let small = delta.serialized_size() * DELTA_GAIN <= slots.serialized_size();
        if small && self.deltas < DELTAS_MAX {
            self.deltas += 1;
            write_set(out, seed, self.number, &delta, Kind::SetDelta)
        } else {
            self.deltas = 0;
            write_set(out, seed, self.number, slots, Kind::Set)
        }
    }
}

fn write_set(
    out: &mut Vec<u8>,
    seed: u32,
    number: u32,
    slots: &RoaringBitmap,
    kind: Kind,
) -> Result<(), u64> {
    let start = frame::open(out);
    put_number(out, number.into());
    slots.serialize_into(&mut *out).expect("a Vec takes all that is written to it");
    frame::close(out, start, kind, seed)
}

#[cfg(test)]
mod tests {
    use super::super::frame::{HEAD_BYTES, Parsed, frame_len, parse};
    use super::*;

    fn kinds(mut out: &[u8]) -> Vec<Kind> {
        let mut kinds = Vec::new();
        while let Some(len) = frame_len(out) {
            let Parsed::Frame(frame) = parse(out, 0) else { panic!("not a frame") };
            kinds.push(frame.kind().unwrap());
            out = &out[len as usize..];
        }
        kinds
    }

    fn state(slots: impl IntoIterator<Item = u32>) -> SharedSet {
        SharedSet { id: 9, slots: Arc::new(slots.into_iter().collect()) }
    }

    #[test]
    fn a_set_is_written_once_then_as_small_deltas_and_whole_again_after_many() {
        let mut dictionary = Dictionary::default();
        let mut out = Vec::new();
        let mut write = |set: &SharedSet| {
            out.clear();
            dictionary.next_fragment();
            assert_eq!(dictionary.set(&mut out, 0, set), Ok(0));
            kinds(&out)
        };
        let set = state(0..10_000);
        assert_eq!(write(&set), [Kind::Set]);
        assert_eq!(write(&set), []);
        assert_eq!(write(&state(0..10_000)), [], "an equal state behind another pointer");
        for round in 0..u32::from(DELTAS_MAX) {
            assert_eq!(write(&state(0..10_001 + round)), [Kind::SetDelta]);
        }
        assert_eq!(write(&state(0..9_999)), [Kind::Set], "a small change, but enough of these");
        assert_eq!(write(&state(0..9_998)), [Kind::SetDelta]);
        assert_eq!(write(&state(5..300)), [Kind::Set], "the delta is larger than the set");
    }

    #[test]
    fn two_states_of_a_set_in_one_fragment_have_two_numbers() {
        let mut dictionary = Dictionary::default();
        let mut out = Vec::new();
        dictionary.next_fragment();
        assert_eq!(dictionary.set(&mut out, 0, &state(0..100)), Ok(0));
        assert_eq!(dictionary.set(&mut out, 0, &state(0..101)), Ok(1));
        assert_eq!(kinds(&out), [Kind::Set, Kind::Set]);
        dictionary.next_fragment();
        assert_eq!(dictionary.set(&mut out, 0, &state(0..102)), Ok(1));
    }

    #[test]
    fn a_relation_is_written_once_whatever_pointer_it_comes_behind() {
        let relation = |oid| {
            let name = crate::words::TableName::new("s", "t");
            Arc::new(Relation::new(oid, name, Vec::new()))
        };
        let mut dictionary = Dictionary::default();
        let mut out = Vec::new();
        let first = relation(1);
        assert_eq!(dictionary.relation(&mut out, 0, &first), Ok(0));
        assert_eq!(dictionary.relation(&mut out, 0, &relation(2)), Ok(1));
        let written = out.len();
        assert!(written > 2 * HEAD_BYTES);
        assert_eq!(dictionary.relation(&mut out, 0, &relation(1)), Ok(0));
        assert_eq!(dictionary.relation(&mut out, 0, &first), Ok(0));
        assert_eq!(out.len(), written);
        dictionary.clear();
        assert_eq!(dictionary.relation(&mut out, 0, &relation(2)), Ok(0));
    }
}
