//! Paths: the shapes of one table that are found by the same expressions. A row's values of those
//! are looked up together; behind them stand the shapes that need nothing more, those that want an
//! expression in a range, and those whose clause must be asked.

use super::asked::Asked;
use super::range::RangeIndex;
use super::slots::{SetIds, SlotSet};
use super::visit::Visit;
use crate::predicate::{Clause, Datum, EvalError, Keys, Path, Probe, ProbeKind, ValueError, eval};
use crate::words::{Slot, Targets};
use foldhash::fast::RandomState;
use hashbrown::{HashTable, hash_table::Entry};
use smallvec::SmallVec;
use std::borrow::Cow;
use std::hash::{BuildHasher, Hash, Hasher};
use std::hint::black_box;
use std::sync::Arc;

/// The shapes behind one combination of constants.
#[derive(Debug, Default)]
struct Leaf {
    exact: SlotSet,
    /// Most leaves have none.
    more: Option<Box<More>>,
}

/// The shapes that need more than the constants to be hit.
#[derive(Debug, Default)]
struct More {
    ranges: Vec<RangeIndex>,
    asked: Asked,
}

/// Most keys are held in place: a change that hits one looks at one place in memory.
#[derive(Debug)]
struct Keyed {
    key: Keys<'static>,
    leaf: Leaf,
}

/// See the file's head.
#[derive(Debug)]
pub(super) struct PathIndex {
    probes: Box<[Probe]>,
    leaves: HashTable<Keyed>,
    hasher: RandomState,
    /// The lengths of the prefixes that are looked up, and how many shapes have each.
    lengths: Vec<(usize, usize)>,
}

fn hash_of(hasher: &RandomState, key: &[Datum<'_>]) -> u64 {
    let mut state = hasher.build_hasher();
    key.iter().for_each(|part| part.hash(&mut state));
    state.finish()
}

/// Whether the rest behind `path` may stand behind other constants too. Behind none there is one
/// place, which has each rest once by itself.
pub(super) fn is_shared(path: &Path) -> bool {
    !path.probes.is_empty()
}

impl PathIndex {
    pub(super) fn new(probes: Box<[Probe]>) -> PathIndex {
        let (leaves, hasher) = (HashTable::new(), RandomState::default());
        PathIndex { probes, leaves, hasher, lengths: Vec::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.leaves.is_empty()
    }

    /// Adds `slot`, whose clause has `path`, which has the probes of this index; `rest` is what the
    /// path does not say.
    pub(super) fn insert(
        &mut self,
        mut path: Path,
        slot: Slot,
        rest: Option<&Arc<Clause>>,
        ids: &mut SetIds,
    ) {
        let hashes = self.hashes(&path);
        for (key, hash) in std::mem::take(&mut path.keys).into_iter().zip(hashes) {
            if let Some(length) = self.prefix_length(&key) {
                match self.lengths.binary_search_by_key(&length, |(length, _)| *length) {
                    Ok(place) => self.lengths[place].1 += 1,
                    Err(place) => self.lengths.insert(place, (length, 1)),
                }
            }
            let rehash = |keyed: &Keyed| hash_of(&self.hasher, &keyed.key);
            let leaf = match self.leaves.entry(hash, |keyed| keyed.key == key, rehash) {
                Entry::Occupied(entry) => &mut entry.into_mut().leaf,
                Entry::Vacant(entry) => {
                    let keyed = Keyed { key, leaf: Leaf::default() };
                    &mut entry.insert(keyed).into_mut().leaf
                }
            };
            leaf.insert(&path, slot, rest, ids);
        }
    }

    /// Takes out what [`insert`](PathIndex::insert) put in with the same arguments.
    pub(super) fn remove(&mut self, path: &Path, slot: Slot, rest: Option<&Arc<Clause>>) {
        for (key, hash) in path.keys.iter().zip(self.hashes(path)) {
            self.remove_key((key, hash), path, slot, rest);
        }
    }

    /// The hashes of the path's keys. Their places in the table are read here one after another:
    /// a change of one key waits for memory, and here all wait together.
    fn hashes(&self, path: &Path) -> SmallVec<[u64; 8]> {
        let hash = |key: &Keys<'_>| hash_of(&self.hasher, key);
        let hashes: SmallVec<[u64; 8]> = path.keys.iter().map(hash).collect();
        if hashes.len() > 1 {
            let first = |hash: &u64| self.leaves.find(*hash, |_| true);
            // The sum has no meaning; it keeps the reads.
            black_box(hashes.iter().filter_map(first).map(|keyed| keyed.key.len()).sum::<usize>());
        }
        hashes
    }

    fn remove_key(
        &mut self,
        (key, hash): (&Keys<'static>, u64),
        path: &Path,
        slot: Slot,
        rest: Option<&Arc<Clause>>,
    ) {
        let Ok(mut entry) = self.leaves.find_entry(hash, |keyed| keyed.key == *key) else {
            return;
        };
        let leaf = &mut entry.get_mut().leaf;
        leaf.remove(path, slot, rest);
        if leaf.is_empty() {
            entry.remove();
            if self.leaves.capacity() > 8 * self.leaves.len().max(8) {
                let hasher = &self.hasher;
                self.leaves.shrink_to(self.leaves.len() * 2, |keyed| hash_of(hasher, &keyed.key));
            }
        }
        if let Some(length) = self.prefix_length(key)
            && let Ok(place) = self.lengths.binary_search_by_key(&length, |(length, _)| *length)
        {
            self.lengths[place].1 -= 1;
            if self.lengths[place].1 == 0 {
                self.lengths.remove(place);
            }
        }
    }

    fn prefix_length(&self, key: &[Datum<'_>]) -> Option<usize> {
        self.probes.iter().zip(key).find_map(|(probe, key)| match (probe.kind, key) {
            (ProbeKind::Prefix | ProbeKind::PrefixIgnoringCase, Datum::Bytes(text)) => {
                Some(text.len())
            }
            _ => None,
        })
    }

    /// Finds the shapes that the visit's row belongs to.
    pub(super) fn visit<'a>(&'a self, visit: &mut Visit<'_, 'a>) -> Result<(), ValueError> {
        let mut keys = Keys::new();
        let mut many = None;
        for (index, probe) in self.probes.iter().enumerate() {
            match eval(&probe.expr, visit.row) {
                Ok(Some(value)) if probe.kind == ProbeKind::Value => keys.push(value),
                Ok(Some(value)) => {
                    many = Some((index, probe.kind, value));
                    keys.push(Datum::Bool(false));
                }
                Ok(None) => return Ok(()),
                Err(EvalError::Value(error)) => return Err(error),
                // Whoever is here may have this error, unless something else decides.
                Err(_) => return self.ask_all(visit),
            }
        }
        match many {
            None => self.look_up(&keys, visit),
            Some((place, ProbeKind::Element, Datum::Array(array))) => {
                let mut items: Vec<&Datum<'static>> = array.items.iter().flatten().collect();
                items.sort_unstable();
                items.dedup();
                for item in items {
                    keys[place] = item.clone();
                    self.look_up(&keys, visit)?;
                }
                Ok(())
            }
            Some((place, kind, Datum::Bytes(text))) => {
                let text = match kind {
                    ProbeKind::PrefixIgnoringCase => Cow::Owned(text.to_ascii_lowercase()),
                    _ => text,
                };
                self.look_up_prefixes(&keys, place, &text, visit)
            }
            Some(_) => Ok(()),
        }
    }

    fn look_up_prefixes<'a>(
        &'a self,
        keys: &Keys<'_>,
        place: usize,
        text: &[u8],
        visit: &mut Visit<'_, 'a>,
    ) -> Result<(), ValueError> {
        let mut keys: Keys<'_> = keys.iter().map(Datum::borrowed).collect();
        for (length, _) in &self.lengths {
            let Some(prefix) = text.get(..*length) else { break };
            keys[place] = Datum::Bytes(Cow::Borrowed(prefix));
            self.look_up(&keys, visit)?;
        }
        Ok(())
    }

    fn look_up<'a>(
        &'a self,
        keys: &[Datum<'_>],
        visit: &mut Visit<'_, 'a>,
    ) -> Result<(), ValueError> {
        let hash = hash_of(&self.hasher, keys);
        match self.leaves.find(hash, |keyed| *keyed.key == *keys) {
            Some(keyed) => keyed.leaf.visit(visit),
            None => Ok(()),
        }
    }

    /// Asks every shape of the index.
    fn ask_all<'a>(&'a self, visit: &mut Visit<'_, 'a>) -> Result<(), ValueError> {
        for keyed in &self.leaves {
            let leaf = &keyed.leaf;
            let mut candidates = Targets::default();
            leaf.exact.nominate(&mut candidates);
            if let Some(more) = &leaf.more {
                more.ranges.iter().for_each(|range| range.all(&mut candidates));
                more.asked.all(&mut candidates);
            }
            visit.ask_each(&candidates)?;
        }
        Ok(())
    }
}

impl Leaf {
    fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.more.is_none()
    }

    fn insert(&mut self, path: &Path, slot: Slot, rest: Option<&Arc<Clause>>, ids: &mut SetIds) {
        match (&path.range, rest) {
            (None, None) => self.exact.insert(slot, ids),
            _ => self.more.get_or_insert_default().insert(path, slot, rest, ids),
        }
    }

    fn remove(&mut self, path: &Path, slot: Slot, rest: Option<&Arc<Clause>>) {
        match (&path.range, rest, &mut self.more) {
            (None, None, _) => self.exact.remove(slot),
            (_, _, Some(more)) => {
                more.remove(path, slot, rest);
                if more.ranges.is_empty() && more.asked.is_empty() {
                    self.more = None;
                }
            }
            (_, _, None) => {}
        }
    }

    fn visit<'a>(&'a self, visit: &mut Visit<'_, 'a>) -> Result<(), ValueError> {
        self.exact.nominate(visit.targets);
        self.more.as_ref().map_or(Ok(()), |more| more.visit(visit))
    }
}

impl More {
    fn range(&self, path: &Path) -> Option<usize> {
        let range = path.range.as_ref()?;
        let same = |index: &RangeIndex| index.exact == path.is_exact() && index.expr == range.expr;
        self.ranges.iter().position(same)
    }

    fn insert(&mut self, path: &Path, slot: Slot, rest: Option<&Arc<Clause>>, ids: &mut SetIds) {
        if let Some(range) = &path.range {
            let place = self.range(path).unwrap_or_else(|| {
                self.ranges.push(RangeIndex::new(Arc::clone(&range.expr), path.is_exact()));
                self.ranges.len() - 1
            });
            self.ranges[place].insert(range, slot, ids);
        } else if let Some(rest) = rest {
            self.asked.insert(slot, rest, ids);
        }
    }

    fn remove(&mut self, path: &Path, slot: Slot, rest: Option<&Arc<Clause>>) {
        if let Some(range) = &path.range {
            let Some(place) = self.range(path) else { return };
            self.ranges[place].remove(range, slot);
            if self.ranges[place].is_empty() {
                self.ranges.swap_remove(place);
            }
        } else if let Some(rest) = rest {
            self.asked.remove(slot, rest);
        }
    }

    fn visit<'a>(&'a self, visit: &mut Visit<'_, 'a>) -> Result<(), ValueError> {
        for range in &self.ranges {
            let mut candidates = Targets::default();
            match eval(&range.expr, visit.row) {
                Ok(None) => continue,
                Ok(Some(value)) if range.exact => {
                    range.nominate(&value, visit.targets);
                    continue;
                }
                Ok(Some(value)) => range.nominate(&value, &mut candidates),
                Err(EvalError::Value(error)) => return Err(error),
                Err(_) => range.all(&mut candidates),
            }
            visit.ask_each(&candidates)?;
        }
        self.asked.visit(visit)
    }
}
