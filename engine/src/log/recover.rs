//! Recovery: one pass over a shard's file when it is opened. It trusts nothing but the bytes: it
//! cuts a torn tail, refuses damage and foreign files without touching them, passes over what a
//! crash left of an open transaction, and tells which shapes live.

use super::device::Device;
use super::encode::{Encoder, Resume};
use super::frame::{BatchHead, Frame, Kind};
use super::header::{HEADER_BYTES, HeaderError, Identity};
use super::index::Index;
use super::record::{
    Lifecycle, read_add, read_fragment_head, read_invalidate, read_relation, read_remove,
    split_relation,
};
use super::scan::{Scanner, Step};
use super::span::Tracker;
use super::store::{Log, Syncer};
use super::wire::{Malformed, Reader};
use crate::words::{Handle, Lsn, Offset, Relation, ShapeDefinition, Slot};
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

/// Why a shard's file cannot be opened. The file is as it was, except after `Cut` and `Sync`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum RecoverError {
    /// It cannot be read.
    #[error("{file}: reading failed: {source}")]
    Read { file: String, source: io::Error },
    /// It is not the file of this shard.
    #[error("{file}: {source}; open the directory that it belongs to, or put the right file there")]
    Header { file: String, source: HeaderError },
    /// Bytes that were durable are not what was written.
    #[error(
        "{file}: damaged at byte {position}: {reason}; nothing was changed; restore the directory \
         from a copy, or start with an empty one"
    )]
    Damaged { file: String, position: u64, reason: String },
    /// The torn tail cannot be cut.
    #[error("{file}: cutting the torn tail at byte {position} failed: {source}")]
    Cut { file: String, position: u64, source: io::Error },
    /// What was found cannot be made durable.
    #[error("{file}: sync failed: {source}")]
    Sync { file: String, source: io::Error },
}

/// A shape that lives according to the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RecoveredShape {
    pub(crate) slot: Slot,
    pub(crate) handle: Handle,
    /// Everything after it is the shape's.
    pub(crate) first: Offset,
    /// Its table as it was when the shape was added. Equal ones share one pointer.
    pub(crate) relation: Arc<Relation>,
    pub(crate) definition: ShapeDefinition,
}

/// A shard's log as it was found, and the parts that go on with it.
pub(crate) struct Recovered {
    /// The living shapes, by rising slot.
    pub(crate) shapes: Vec<RecoveredShape>,
    /// The lowest slot that was never given out (R8).
    pub(crate) next_slot: Slot,
    /// The highest handle that was ever given out in this shard.
    pub(crate) max_handle: Option<Handle>,
    /// The last commit in the log.
    pub(crate) last_commit: Lsn,
    /// The bytes of a torn tail that were cut off, if there was one.
    pub(crate) cut: Option<u64>,
    pub(crate) encoder: Encoder,
    pub(crate) syncer: Syncer,
    pub(crate) log: Arc<Log>,
}

/// Reads the log on `device` and makes it ready. New blocks are closed when they pass
/// `block_bytes_max`.
pub(crate) fn recover(
    mut device: Box<dyn Device>,
    identity: &Identity,
    block_bytes_max: usize,
) -> Result<Recovered, RecoverError> {
    let reader = device.reader();
    let file = reader.name().to_owned();
    let read = |source| RecoverError::Read { file: file.clone(), source };
    check_header(&*device, identity)?;
    let seed = identity.seed();
    let mut scanner = Scanner::new(&*reader, seed, HEADER_BYTES as u64, device.len());
    let mut pass = Pass::default();
    let damaged = |position, reason| {
        let (file, position) = reader.place(position);
        RecoverError::Damaged { file, position, reason }
    };
    let torn = loop {
        match scanner.next().map_err(read)? {
            Step::End => break false,
            Step::Bad => break true,
            Step::Frame(position, frame) => pass
                .frame(position, frame)
                .map_err(|reason| damaged(position, reason.to_string()))?,
        }
    };
    let end = scanner.position();
    let cut = if torn { Some(device.len() - end) } else { None };
    if torn {
        // A batch is written only after the one before it was synced, so what lies before a whole
        // batch was durable once, and a wrong byte in it is no torn write.
        if let Some((at, seq)) = scanner.find_batch_above(pass.seq).map_err(read)? {
            let reason =
                format!("no record here, but batch {seq} behind it, at byte {at}, is whole");
            return Err(damaged(end, reason));
        }
        if end < device.cut_from() {
            let reason = "no record here, but another file of the log follows".to_owned();
            return Err(damaged(end, reason));
        }
        let cut = device.truncate(end);
        cut.map_err(|source| {
            let (file, position) = reader.place(end);
            RecoverError::Cut { file, position, source }
        })?;
    }
    // A process that was killed may have written what it never synced; from here on it counts.
    let synced = device.sync();
    synced.map_err(|source| RecoverError::Sync { file: file.clone(), source })?;
    let recovered = pass.finish(device, seed, block_bytes_max, cut);
    if let Some(bytes) = recovered.cut {
        tracing::info!(file, position = end, bytes, "a torn tail was cut off");
    }
    Ok(recovered)
}

fn check_header(device: &dyn Device, identity: &Identity) -> Result<(), RecoverError> {
    let reader = device.reader();
    let file = reader.name().to_owned();
    let mut header = [0; HEADER_BYTES];
    // A header is synced before its directory is complete: a short one is not a torn one.
    if device.len() < HEADER_BYTES as u64 {
        return Err(RecoverError::Header { file, source: HeaderError::Magic });
    }
    if let Err(source) = reader.read_at(&mut header, 0) {
        return Err(RecoverError::Read { file, source });
    }
    identity.check(&header).map_err(|source| RecoverError::Header { file, source })
}

/// What one pass gathers.
#[derive(Default)]
struct Pass {
    /// The number of the last batch.
    seq: u64,
    /// Where the last batch starts, and whether it opens a block.
    batch: Option<(u64, bool)>,
    tracker: Tracker,
    index: Index,
    relations: Relations,
    shapes: BTreeMap<Slot, RecoveredShape>,
    next_slot: u32,
    max_handle: Option<Handle>,
}

impl Pass {
    fn frame(&mut self, position: u64, frame: Frame<'_>) -> Result<(), Malformed> {
        let kind = frame.kind()?;
        if self.batch.is_none() && kind != Kind::Batch {
            return Err(Malformed("a record lies in front of the first batch"));
        }
        match kind {
            Kind::Batch => self.batch(position, BatchHead::read(frame.payload)?),
            Kind::Relation => self.relations.record(frame.payload),
            Kind::Set | Kind::SetDelta => Ok(()),
            Kind::Fragment => {
                let head = read_fragment_head(&mut Reader::new(frame.payload))?;
                self.tracker.record(position, &head)
            }
            Kind::AddShape => self.lifecycle(read_add(frame.payload)?),
            Kind::RemoveShape => self.lifecycle(read_remove(frame.payload)?),
            Kind::Invalidate => self.lifecycle(read_invalidate(frame.payload)?),
        }
    }

    fn batch(&mut self, position: u64, head: BatchHead) -> Result<(), Malformed> {
        if head.seq != self.seq + 1 {
            return Err(Malformed("the numbers of batches do not rise by 1"));
        }
        if self.seq == 0 && !head.new_block {
            return Err(Malformed("the first batch opens no block"));
        }
        self.close_batch(position);
        if head.new_block {
            self.relations.in_block.clear();
        }
        self.seq = head.seq;
        self.batch = Some((position, head.new_block));
        Ok(())
    }

    fn close_batch(&mut self, end: u64) {
        if let Some((start, new_block)) = self.batch.take() {
            self.index.publish(start, end - start, new_block, &self.tracker.take());
        }
    }

    fn lifecycle(&mut self, record: Lifecycle) -> Result<(), Malformed> {
        match record {
            Lifecycle::Add { slot, handle, first, relation, definition } => {
                let relation = self.relations.in_block.get(relation as usize);
                let relation = relation.ok_or(Malformed("a shape's relation is unknown"))?.clone();
                if slot.as_u32() < self.next_slot {
                    return Err(Malformed("a slot is given out again"));
                }
                self.next_slot = slot.as_u32().saturating_add(1);
                self.max_handle = self.max_handle.max(Some(handle));
                let shape = RecoveredShape { slot, handle, first, relation, definition };
                self.shapes.insert(slot, shape);
            }
            // Ending a shape twice is legal: removal can be retried (INV5).
            Lifecycle::Remove { slot, handle, .. } | Lifecycle::Invalidate { slot, handle, .. } => {
                if self.shapes.get(&slot).is_some_and(|shape| shape.handle == handle) {
                    self.shapes.remove(&slot);
                }
            }
        }
        Ok(())
    }

    fn finish(
        mut self,
        device: Box<dyn Device>,
        seed: u32,
        block_bytes: usize,
        cut: Option<u64>,
    ) -> Recovered {
        let position = device.len();
        // The source sends an open transaction again, from its beginning.
        self.tracker.abandon(position);
        self.close_batch(position);
        let last_commit = self.index.readable();
        let next_seq = self.seq + 1;
        let log = Log::new(device.reader(), seed, self.index, last_commit);
        let resume = Resume { seed, position, next_seq, through: last_commit, block_bytes };
        Recovered {
            shapes: self.shapes.into_values().collect(),
            next_slot: Slot::new(self.next_slot),
            max_handle: self.max_handle,
            last_commit,
            cut,
            encoder: Encoder::new(resume),
            syncer: Syncer::new(device, Arc::clone(&log), next_seq),
            log,
        }
    }
}

/// The relations that the log names.
#[derive(Default)]
struct Relations {
    /// By the number that the block being read gives them.
    in_block: Vec<Arc<Relation>>,
    /// By their bytes: every block names the same few again, and each is read and held once.
    known: HashMap<Box<[u8]>, Arc<Relation>, RandomState>,
}

impl Relations {
    fn record(&mut self, payload: &[u8]) -> Result<(), Malformed> {
        let (number, bytes) = split_relation(payload)?;
        if number as usize != self.in_block.len() {
            return Err(Malformed("relation numbers do not rise by 1"));
        }
        let relation = match self.known.get(bytes) {
            Some(known) => Arc::clone(known),
            None => {
                let relation = Arc::new(read_relation(bytes)?);
                self.known.insert(bytes.into(), Arc::clone(&relation));
                relation
            }
        };
        self.in_block.push(relation);
        Ok(())
    }
}
