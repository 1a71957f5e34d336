//! Cache: the blocks that were read last, decoded. Readers that sit in the same block share one
//! decode, and a block that still grows is decoded on from where its last reader stopped. Of many
//! more blocks it is kept whom they hold something for.

use super::decode::{Chunk, Damage, Decoder};
use super::index::View;
use super::postings::{Found, Postings};
use super::store::{Log, LogError};
use super::wire::Malformed;
use crate::words::{Offset, Slot};
use parking_lot::Mutex;
use roaring::RoaringBitmap;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

/// So many blocks are kept decoded. A block is 1 MiB as it is written, and some times that decoded.
pub(super) const BLOCKS_MAX: usize = 8;
/// Of so many blocks the slots that they touch are kept: those of a GiB, about.
const TOUCHED_BLOCKS_MAX: usize = 1024;
/// So many bytes of postings are kept, of the newest blocks.
const POSTINGS_BYTES_MAX: usize = 32 << 20;
/// If they fit in so many bytes each. A block that touches more slots is passed over by few.
const TOUCHED_BYTES_MAX: usize = 1 << 14;
/// A reader that follows the end gets what is new as a chunk of its own, but chunks with fewer
/// entries than this grow instead: else a block would fall into as many as it had reads.
const CHUNK_ENTRIES_MIN: usize = 256;

/// Its lock is held for a look-up only.
#[derive(Default)]
pub(super) struct Cache {
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    /// The decoded blocks, the last used last.
    blocks: VecDeque<(u64, Arc<Mutex<Block>>)>,
    /// Of closed blocks, by number; the newest are kept.
    touched: BTreeMap<u64, Touched>,
    /// Of closed blocks, by number; the newest are kept.
    postings: BTreeMap<u64, Arc<Postings>>,
    postings_bytes: usize,
    /// The blocks below this one were dropped: nothing of them is kept.
    first: u64,
}

/// What was used last, by number, within a bound of bytes; the last one used last.
pub(super) struct Recent<T> {
    bytes_max: usize,
    bytes: usize,
    kept: VecDeque<(u32, T, usize)>,
}

impl<T: Clone> Recent<T> {
    pub(super) fn new(bytes_max: usize) -> Recent<T> {
        Recent { bytes_max, bytes: 0, kept: VecDeque::new() }
    }

    pub(super) fn get(&mut self, number: u32) -> Option<T> {
        let index = self.kept.iter().position(|(known, ..)| *known == number)?;
        let entry = self.kept.remove(index)?;
        let value = entry.1.clone();
        self.kept.push_back(entry);
        Some(value)
    }

    /// Keeps `value`, in the place of what is kept by its number.
    pub(super) fn put(&mut self, number: u32, value: T, bytes: usize) {
        if self.get(number).is_some() {
            self.bytes -= self.kept.pop_back().map_or(0, |(.., bytes)| bytes);
        }
        self.bytes += bytes;
        self.kept.push_back((number, value, bytes));
        while self.bytes > self.bytes_max && self.kept.len() > 1 {
            self.bytes -= self.kept.pop_front().map_or(0, |(.., bytes)| bytes);
        }
    }
}

/// Whom one block holds something for.
struct Touched {
    /// As far as the block could be read then. More of it may have become readable since.
    through: Offset,
    slots: RoaringBitmap,
}

impl Cache {
    /// The block `number`, to be locked while it is read.
    pub(super) fn block(&self, number: u64) -> Arc<Mutex<Block>> {
        let mut held = self.held.lock();
        if number < held.first {
            return Arc::default();
        }
        let blocks = &mut held.blocks;
        let known = blocks.iter().position(|(known, _)| *known == number);
        let entry = match known.and_then(|index| blocks.remove(index)) {
            Some(entry) => entry,
            None => (number, Arc::default()),
        };
        if blocks.len() == BLOCKS_MAX {
            blocks.pop_front();
        }
        let block = Arc::clone(&entry.1);
        blocks.push_back(entry);
        block
    }

    /// What is known of what the block of `view` holds for `slot`, and from what.
    pub(super) fn find(&self, view: &View, slot: Slot) -> (Option<Arc<Postings>>, Found) {
        let held = self.held.lock();
        if let Some(postings) = held.postings.get(&view.number) {
            let postings = Arc::clone(postings);
            drop(held);
            let found = postings.find(slot);
            return (Some(postings), found);
        }
        let quiet = held.touched.get(&view.number).is_some_and(|touched| {
            touched.through == view.through && !touched.slots.contains(slot.as_u32())
        });
        (None, if quiet { Found::Nothing } else { Found::Much })
    }

    /// Keeps what the closed block `number` has for whom.
    pub(super) fn know(&self, number: u64, postings: Postings) {
        let mut held = self.held.lock();
        if number < held.first {
            return;
        }
        held.postings_bytes += postings.bytes();
        held.postings.insert(number, Arc::new(postings));
        while held.postings_bytes > POSTINGS_BYTES_MAX {
            let Some((_, oldest)) = held.postings.pop_first() else { break };
            held.postings_bytes -= oldest.bytes();
        }
    }

    /// Drops what lies below block `number`: what is there now has other numbers.
    pub(super) fn forget_thinned(&self, number: u64) {
        let mut held = self.held.lock();
        held.blocks.retain(|(known, _)| *known >= number);
        drop(held);
        self.forget_sealed(0..number);
    }

    /// Drops what lies below block `number`, for good.
    pub(super) fn forget_below(&self, number: u64) {
        let mut held = self.held.lock();
        held.first = held.first.max(number);
        held.blocks.retain(|(known, _)| *known >= number);
        drop(held);
        self.forget_sealed(0..number);
    }

    /// Forgets what these blocks have for whom: their segment's index tells it.
    pub(super) fn forget_sealed(&self, numbers: Range<u64>) {
        let mut held = self.held.lock();
        held.touched.retain(|number, _| !numbers.contains(number));
        held.postings.retain(|number, _| !numbers.contains(number));
        held.postings_bytes = held.postings.values().map(|postings| postings.bytes()).sum();
    }

    /// Keeps whom the block of `view` touches, which is `chunk` as far as it can be read.
    fn note(&self, view: &View, chunk: &Chunk) {
        let mut slots = chunk.touched.clone();
        slots.optimize();
        if slots.serialized_size() > TOUCHED_BYTES_MAX {
            return;
        }
        let mut held = self.held.lock();
        if view.number >= held.first {
            held.touched.insert(view.number, Touched { through: chunk.through, slots });
        }
        if held.touched.len() > TOUCHED_BLOCKS_MAX {
            held.touched.pop_first();
        }
    }
}

/// One block, decoded as far as somebody has read.
#[derive(Default)]
pub(super) struct Block {
    decoder: Decoder,
    /// How many of the block's bytes the decoder has taken.
    taken: u64,
    /// In order, without a gap.
    chunks: Vec<Arc<Chunk>>,
}

impl Block {
    /// The chunk that holds what follows `after`, which lies in this block according to the index.
    pub(super) fn read(
        &mut self,
        log: &Log,
        view: &View,
        after: Offset,
    ) -> Result<Arc<Chunk>, LogError> {
        if self.chunk_after(after).is_none() {
            let extended = self.extend(log, view);
            if extended.is_err() {
                // Half decoded is worth nothing.
                *self = Block::default();
            }
            extended?;
        }
        self.chunk_after(after).cloned().ok_or_else(|| {
            let reason = Malformed("the block does not hold what it held when it was written");
            log.damaged(Damage { position: view.position, reason })
        })
    }

    fn chunk_after(&self, after: Offset) -> Option<&Arc<Chunk>> {
        self.chunks.get(self.chunks.partition_point(|chunk| chunk.through <= after))
    }

    /// Decodes what has become readable.
    fn extend(&mut self, log: &Log, view: &View) -> Result<(), LogError> {
        let position = view.position + self.taken;
        let bytes = log.bytes_at(position, view.len.saturating_sub(self.taken))?;
        let mut entries = Vec::new();
        let taken = self.decoder.decode(&bytes, position, log.seed(), &view.limit, &mut entries);
        let taken = taken.map_err(|damage| log.damaged(damage))? as u64;
        self.taken += taken;
        let from = self.chunks.last().map_or(view.from, |chunk| chunk.through);
        let small = |chunk: &mut Arc<Chunk>| chunk.entries.len() < CHUNK_ENTRIES_MIN;
        let grows = if entries.is_empty() { None } else { self.chunks.pop_if(small) };
        self.chunks.extend(Chunk::new(from, grows.as_deref(), entries, taken).map(Arc::new));
        if let ([chunk], true) = (self.chunks.as_slice(), view.closed && !view.is_sealed) {
            log.cache().note(view, chunk);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::postings::{Entries, Growing};
    use super::*;

    fn postings(count: u32) -> Postings {
        let mut entries = Entries::default();
        (0..count).for_each(|slot| entries.add_slots(&[Slot::new(slot)], 0));
        let mut growing = Growing::default();
        growing.add(0, true, &entries);
        growing.add(9, true, &Entries::default()).unwrap()
    }

    #[test]
    fn postings_of_the_newest_blocks_are_kept_within_the_bound_and_none_of_dropped_ones() {
        let cache = Cache::default();
        cache.forget_below(5);
        cache.know(4, postings(1));
        assert!(cache.held.lock().postings.is_empty());
        let one = postings(60_000).bytes();
        let fit = (POSTINGS_BYTES_MAX / one) as u64;
        (5..5 + 2 * fit).for_each(|number| cache.know(number, postings(60_000)));
        let kept: Vec<_> = cache.held.lock().postings.keys().copied().collect();
        assert_eq!(kept, (5 + fit..5 + 2 * fit).collect::<Vec<_>>());
        cache.forget_below(3 + 2 * fit);
        let held = cache.held.lock();
        assert_eq!((held.postings.len(), held.postings_bytes), (2, 2 * one));
    }
}
