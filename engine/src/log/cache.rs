//! Cache: the blocks that were read last, decoded. Readers that sit in the same block share one
//! decode, and a block that still grows is decoded on from where its last reader stopped. Of many
//! more blocks it is kept whom they hold something for.

use super::decode::{Chunk, Damage, Decoder};
use super::index::View;
use super::store::{Log, LogError};
use super::wire::Malformed;
use crate::words::{Offset, Slot};
use parking_lot::Mutex;
use roaring::RoaringBitmap;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// So many blocks are kept decoded. A block is 1 MiB as it is written, and some times that decoded.
pub(super) const BLOCKS_MAX: usize = 8;
/// Of so many blocks the slots that they touch are kept: those of a GiB, about.
const TOUCHED_BLOCKS_MAX: usize = 1024;
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
    /// The blocks below this one were dropped: nothing of them is kept.
    first: u64,
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

    /// Whether it is known that the block of `view` holds nothing for `slot`.
    pub(super) fn is_quiet(&self, view: &View, slot: Slot) -> bool {
        let held = self.held.lock();
        held.touched.get(&view.number).is_some_and(|touched| {
            touched.through == view.through && !touched.slots.contains(slot.as_u32())
        })
    }

    /// Drops what lies below block `number`, for good.
    pub(super) fn forget_below(&self, number: u64) {
        let mut held = self.held.lock();
        held.first = held.first.max(number);
        held.blocks.retain(|(known, _)| *known >= number);
        held.touched = held.touched.split_off(&number);
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
        if let ([chunk], true) = (self.chunks.as_slice(), view.closed) {
            log.cache().note(view, chunk);
        }
        Ok(())
    }
}
