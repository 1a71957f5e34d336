//! Log and Syncer: the shared reading end of one shard's log, and the end that makes batches
//! durable. The syncer's thread calls `commit`; any thread reads; a shard does neither.

use super::cache::Cache;
use super::claims::Claims;
use super::decode::{Chunk, Damage};
use super::device::{Device, MemoryDevice, ReadAt};
use super::encode::{Batch, Encoder, Resume};
use super::index::{Index, Place, SealedView, View};
use super::postings::{Found, Growing, Postings};
use super::records;
use super::shelf::{SealError, Shelf, Trail};
use super::span::Summary;
use crate::sync::{AtomicU64, Ordering};
use crate::words::{Lsn, Offset, Slot, Touched};
use parking_lot::RwLock;
use std::fmt;
use std::io;
use std::sync::Arc;

/// Why the log could not be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum LogError {
    /// A write, a sync, or the beginning of a file failed. Final (INV10).
    #[error(
        "{file}: {what} failed at byte {position}: {source}; what it covered is not durable; \
         restart when the disk is well"
    )]
    Disk { file: String, what: &'static str, position: u64, source: io::Error },
    /// The same, because there is no room. Final too: what was written in part is cut at the next
    /// start.
    #[error(
        "{file}: {what} failed at byte {position}: {source}; there is no room: make some, then \
         restart; nothing that was durable is lost"
    )]
    Full { file: String, what: &'static str, position: u64, source: io::Error },
    /// Refused, because an earlier write or sync failed (INV10).
    #[error(
        "{file}: refused, because an earlier write or sync failed; restart when the disk is well"
    )]
    Failed { file: String },
    /// A batch that does not follow the one before it: a fault in the engine.
    #[error("{file}: a batch for byte {found} came, but the log ends at byte {expected}")]
    OutOfOrder { file: String, expected: u64, found: u64 },
    /// Bytes that are durable cannot be read.
    #[error("{file}: reading at byte {position} failed: {source}")]
    Read { file: String, position: u64, source: io::Error },
    /// Bytes that are durable are not what was written. Nothing was changed.
    #[error("{file}: damaged at byte {position}: {reason}; restore the directory from a copy")]
    Damaged { file: String, position: u64, reason: String },
    /// Old files could not be thinned; they are as they were.
    #[error(
        "{file}: {what} the file that would take the place of it and others failed: {source}; \
         nothing is lost, and more room is taken than was asked for; see to the disk"
    )]
    NotThinned { file: String, what: &'static str, source: io::Error },
    /// The position was dropped: who reads there must start over.
    #[error("{after} was asked for, but the log holds only what follows {start}; start over")]
    BelowStart { after: Offset, start: Offset },
}

/// What one slot has in a block, as far as the block can be read.
pub(super) struct Known {
    pub(super) through: Offset,
    /// With the changes of this slot alone.
    pub(super) chunk: Option<Chunk>,
}

/// The reading end, for many threads.
pub(crate) struct Log {
    bytes: Arc<dyn ReadAt>,
    seed: u32,
    index: RwLock<Index>,
    cache: Cache,
    /// Of a log of several files.
    shelf: Option<Shelf>,
    /// The highest commit LSN such that every commit at or below it is durable in this log, or has
    /// nothing in it. Written by the syncer, read by all.
    durable_commit: AtomicU64,
    claims: Claims,
}

impl Log {
    /// Every commit at or below it is durable and readable here, or has nothing in this log (R4).
    pub(crate) fn durable_commit(&self) -> Lsn {
        // Acquire pairs with the syncer's Release: who sees a commit finds it in the index.
        Lsn::new(self.durable_commit.load(Ordering::Acquire))
    }

    /// Everything at or below it was dropped (memory store).
    #[cfg(test)]
    pub(crate) fn start(&self) -> Offset {
        self.index.read().start()
    }

    /// How many shapes were cut of those that lived when files were thinned last.
    pub(crate) fn cut_shapes(&self) -> u64 {
        self.index.read().cuts().len()
    }

    /// Everything of `slot` at or below it was dropped, and nothing above.
    pub(crate) fn start_of(&self, slot: Slot) -> Offset {
        self.index.read().start_of(slot)
    }

    /// What of it must stay when its old part is thinned.
    pub(crate) fn claims(&self) -> &Claims {
        &self.claims
    }

    /// The bytes held.
    pub(crate) fn bytes(&self) -> u64 {
        self.index.read().bytes()
    }

    /// The number of the block that holds what follows `after`, to group readers by; `None` at the
    /// readable end.
    pub(crate) fn locate(&self, after: Offset) -> Option<u64> {
        match self.place(after).ok()?? {
            Place::Block(view) => Some(view.number),
            // Who cannot be placed better is told by the read that follows.
            Place::Sealed(segment) => {
                let view = self.shelf().view(&segment, after);
                Some(view.map_or(segment.block, |view| view.number))
            }
        }
    }

    /// The chunk that holds what follows `after`; `None` at the readable end. Its first entries may
    /// lie at or below `after`.
    pub(crate) fn read(&self, after: Offset) -> Result<Option<Arc<Chunk>>, LogError> {
        loop {
            let Some(view) = self.view(after)? else { return Ok(None) };
            let block = self.cache.block(view.number);
            let chunk = block.lock().read(self, &view, after);
            // Else dropped or thinned while we were on the way to it, and what was read there may
            // be another block's: look again.
            if self.holds(&view) {
                return chunk.map(Some);
            }
        }
    }

    /// What is known without decoding it of the block that holds what follows `after`, or of more
    /// blocks behind that: that they hold nothing for `slot` (`None`), or all that they do. `trail`
    /// is for further calls with the same slot.
    pub(super) fn known(
        &self,
        after: Offset,
        slot: Slot,
        trail: &mut Trail,
    ) -> Result<Option<Known>, LogError> {
        loop {
            let view = match self.place(after)? {
                Some(Place::Block(view)) => view,
                Some(Place::Sealed(segment)) => {
                    let known = self.known_sealed(&segment, after, slot, trail);
                    if self.index.read().holds(segment.block) {
                        return known;
                    }
                    *trail = Trail::default();
                    continue;
                }
                None => return Ok(None),
            };
            let through = view.through;
            let records = match self.cache.find(&view, slot) {
                (_, Found::Nothing) => return Ok(Some(Known { through, chunk: None })),
                (Some(postings), Found::Records(places)) => {
                    let scratch = &mut trail.scratch;
                    records::read(self, &view, &postings.relations, slot, &places, scratch)
                }
                _ => return Ok(None),
            };
            // Else dropped or thinned while we were on the way to it: look again.
            if self.holds(&view) {
                return records.map(|chunk| Some(Known { through, chunk: Some(chunk) }));
            }
        }
    }

    fn known_sealed(
        &self,
        segment: &SealedView,
        after: Offset,
        slot: Slot,
        trail: &mut Trail,
    ) -> Result<Option<Known>, LogError> {
        let (table, own, scratch) = self.shelf().find(segment.segment, slot, trail)?;
        let first = segment.first_after(table, after);
        let Some((number, found)) = own.next(first) else {
            return Ok(Some(Known { through: segment.through, chunk: None }));
        };
        let block = table.blocks.get(number as usize).zip(segment.view(table, number));
        let (block, view) = block.ok_or_else(|| self.shelf().unlike(segment))?;
        match found {
            Found::Records(places) => {
                let chunk = records::read(self, &view, &block.relations, slot, places, scratch)?;
                Ok(Some(Known { through: view.through, chunk: Some(chunk) }))
            }
            _ if number > first => Ok(Some(Known { through: view.from, chunk: None })),
            _ => Ok(None),
        }
    }

    /// Seals the index of the oldest segment that has none and is never written again; false where
    /// there is no such segment. What fails is tried again by the next call.
    pub(crate) fn seal(&self) -> Result<bool, SealError> {
        let Some(shelf) = &self.shelf else { return Ok(false) };
        if shelf.restore_missing()? {
            return Ok(true);
        }
        let Some(number) = self.index.read().to_seal() else { return Ok(false) };
        let position = shelf.seal(number)?;
        let first = self.index.write().seal(number, position);
        first.into_iter().for_each(|sealed| self.cache.forget_sealed(sealed));
        Ok(true)
    }

    /// Drops whole blocks that hold nothing above `through`, on a device that can (R14). Returns
    /// the bytes that are still held.
    pub(crate) fn trim(&self, through: Lsn) -> u64 {
        if !self.bytes.release(0) {
            return self.bytes();
        }
        let (first, bytes) = {
            let mut index = self.index.write();
            (index.trim(through), index.bytes())
        };
        if let Some((number, position)) = first {
            self.bytes.release(position);
            self.cache.forget_below(number);
        }
        bytes
    }

    pub(super) fn new(
        bytes: Arc<dyn ReadAt>,
        seed: u32,
        index: Index,
        durable: Lsn,
        shelf: Option<Shelf>,
    ) -> Arc<Log> {
        Arc::new(Log {
            bytes,
            seed,
            index: RwLock::new(index),
            cache: Cache::default(),
            shelf,
            durable_commit: AtomicU64::new(durable.as_u64()),
            claims: Claims::default(),
        })
    }

    pub(super) fn index(&self) -> &RwLock<Index> {
        &self.index
    }

    fn place(&self, after: Offset) -> Result<Option<Place>, LogError> {
        let index = self.index.read();
        if after < index.start() {
            return Err(LogError::BelowStart { after, start: index.start() });
        }
        Ok(index.place(after))
    }

    pub(super) fn view(&self, after: Offset) -> Result<Option<View>, LogError> {
        loop {
            match self.place(after)? {
                Some(Place::Block(view)) => return Ok(Some(view)),
                Some(Place::Sealed(segment)) => {
                    let view = self.shelf().view(&segment, after);
                    // Else it was thinned while we were on the way to it: look again.
                    if self.index.read().holds(segment.block) {
                        return view.map(Some);
                    }
                }
                None => return Ok(None),
            }
        }
    }

    /// Where the blocks of segment `number` lie, whose index is sealed, and how long they are.
    pub(super) fn sealed_blocks(&self, number: u32) -> Result<Vec<(u64, u64)>, LogError> {
        self.shelf().blocks(number)
    }

    fn shelf(&self) -> &Shelf {
        self.shelf.as_ref().expect("only a log of several files has sealed segments")
    }

    /// Keeps what the closed block `number` has for whom.
    pub(super) fn know(&self, number: u64, postings: Postings) {
        self.cache.know(number, postings);
    }

    pub(super) fn cache(&self) -> &Cache {
        &self.cache
    }

    pub(super) fn seed(&self) -> u32 {
        self.seed
    }

    pub(super) fn bytes_at(&self, position: u64, len: u64) -> Result<Vec<u8>, LogError> {
        let mut bytes = vec![0; len as usize];
        self.fill(&mut bytes, position)?;
        Ok(bytes)
    }

    /// Reads from byte `position` on as much as `into` takes.
    pub(super) fn fill(&self, into: &mut [u8], position: u64) -> Result<(), LogError> {
        self.bytes.read_at(into, position).map_err(|source| {
            let (file, position) = self.bytes.place(position);
            LogError::Read { file, position, source }
        })
    }

    pub(super) fn damaged(&self, damage: Damage) -> LogError {
        damage.within(&*self.bytes)
    }

    /// How many segments' blocks are in memory.
    #[cfg(test)]
    pub(super) fn kept_segments(&self) -> usize {
        self.index.read().kept_segments()
    }

    fn name(&self) -> String {
        self.bytes.name().to_owned()
    }

    fn holds(&self, view: &View) -> bool {
        self.index.read().holds(view.number)
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log")
            .field("name", &self.bytes.name())
            .field("durable_commit", &self.durable_commit())
            .finish_non_exhaustive()
    }
}

/// Makes batches durable, one after another, and readable. Owned by the thread that syncs.
pub(crate) struct Syncer {
    device: Box<dyn Device>,
    log: Arc<Log>,
    next_seq: u64,
    failed: bool,
    /// To whom the batches of the open transaction deliver something, and commits that became
    /// readable since it was asked for.
    open: Touched,
    news: Touched,
    /// What the block that is being written has for whom.
    growing: Growing,
    has_to_seal: bool,
}

impl Syncer {
    pub(super) fn new(device: Box<dyn Device>, log: Arc<Log>, next_seq: u64) -> Syncer {
        let (open, news, growing) = Default::default();
        let (failed, has_to_seal) = (false, false);
        Syncer { device, log, next_seq, failed, open, news, growing, has_to_seal }
    }

    /// For whom something became readable since this was called last. A batch that ends inside a
    /// transaction may name some for whom nothing did.
    pub(crate) fn take_news(&mut self) -> Touched {
        std::mem::take(&mut self.news)
    }

    /// Writes and syncs `batch`, then publishes it. An error is final: every later call is refused,
    /// and nothing of this batch is ever readable or durable in this process (INV10).
    pub(crate) fn commit(&mut self, batch: &Batch) -> Result<(), LogError> {
        if self.failed {
            return Err(LogError::Failed { file: self.log.name() });
        }
        self.failed = true;
        let begins_segment = if batch.is_empty() { false } else { self.write(batch)? };
        self.failed = false;
        let len = batch.len() as u64;
        let summary = &batch.summary;
        let closed = match len {
            0 => None,
            _ => self.growing.add(batch.position, batch.new_block, &batch.entries),
        };
        let last = {
            let mut index = self.log.index.write();
            if begins_segment {
                index.begin_segment();
            }
            index.publish(batch.position, len, batch.new_block, summary);
            index.last()
        };
        self.log.claims.live(&batch.lives);
        // Of the block before; a reader that comes first decodes it.
        closed.into_iter().for_each(|closed| self.log.cache.know(last - 1, closed));
        // Release pairs with the Acquire in `durable_commit`: the index first, then the mark.
        self.log.durable_commit.store(batch.through().as_u64(), Ordering::Release);
        self.tell(batch);
        Ok(())
    }

    /// Notes for whom a batch that is readable now has something.
    fn tell(&mut self, batch: &Batch) {
        let Summary { commits, open, .. } = &batch.summary;
        if commits.is_some() {
            self.news.append(std::mem::take(&mut self.open));
            self.news.append(batch.touched.clone());
        }
        if open.is_some() {
            self.open.append(batch.touched.clone());
        }
    }

    /// Writes and syncs; whether the batch begins a segment.
    fn write(&mut self, batch: &Batch) -> Result<bool, LogError> {
        let (position, found) = (self.device.len(), batch.position);
        if position != found || self.next_seq != batch.head_seq {
            return Err(LogError::OutOfOrder { file: self.log.name(), expected: position, found });
        }
        let begun = if batch.new_block { self.device.begin_block() } else { Ok(false) };
        let begun = begun.map_err(|source| self.failure("beginning a file", source))?;
        let written = self.device.append(&batch.bytes);
        written.map_err(|source| self.failure("writing", source))?;
        self.device.sync().map_err(|source| self.failure("sync", source))?;
        self.next_seq += 1;
        self.has_to_seal |= begun;
        Ok(begun)
    }

    /// Whether a segment is whole since this was asked last: its index can be sealed.
    pub(crate) fn take_to_seal(&mut self) -> bool {
        std::mem::take(&mut self.has_to_seal)
    }

    /// Where the log ends.
    #[cfg(test)]
    pub(super) fn end(&self) -> u64 {
        self.device.len()
    }

    fn failure(&self, what: &'static str, source: io::Error) -> LogError {
        let (file, position) = self.log.bytes.place(self.device.len());
        match source.kind() {
            io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::FileTooLarge => LogError::Full { file, what, position, source },
            _ => LogError::Disk { file, what, position, source },
        }
    }
}

/// An empty log in memory, whose blocks are closed when they pass `block_bytes_max`.
pub(crate) fn in_memory(block_bytes_max: usize) -> (Encoder, Syncer, Arc<Log>) {
    on_empty(Box::new(MemoryDevice::default()), block_bytes_max)
}

/// An empty log without a header on `device`, which is empty.
pub(super) fn on_empty(device: Box<dyn Device>, block_bytes: usize) -> (Encoder, Syncer, Arc<Log>) {
    let log = Log::new(device.reader(), 0, Index::default(), Lsn::ZERO, None);
    let resume = Resume { seed: 0, position: 0, next_seq: 1, through: Lsn::ZERO, block_bytes };
    (Encoder::new(resume), Syncer::new(device, Arc::clone(&log), 1), log)
}
