//! Rewrite: what is kept of the old part of a log, as one new file. Blocks come in from the oldest
//! to the newest; whole blocks go out, with the same changes for the same shapes in the same order,
//! less those that their shapes do not keep.

use super::decode::{Damage, Decoder, Limit, Logged};
use super::device::Device;
use super::encode::{EncodeError, Encoder, Resume};
use super::frame::{self, BatchHead, Kind, Parsed};
use super::header::{HEADER_BYTES, Identity};
use super::index::Index;
use super::record::{Lifecycle, read_add};
use super::thinned::{Starts, Thinned, put_starts};
use super::wire::Malformed;
use crate::words::{Lsn, Relation, Routed, SharedSet, Slot, Targets};
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use roaring::RoaringBitmap;
use smallvec::SmallVec;
use std::io;
use std::sync::Arc;

/// A set of which so few are left is written as single slots, which have postings.
const FEW: u64 = 8;

/// What a block holds, in order.
pub(super) enum Item {
    Entry(Logged),
    /// A shape that was added, and its table.
    Add(Lifecycle, Arc<Relation>),
}

/// Reads a block whole, and notes in `front` what must outlive it.
pub(super) fn items(
    bytes: &[u8],
    position: u64,
    seed: u32,
    limit: &Limit,
    front: &mut Thinned,
) -> Result<Vec<Item>, Damage> {
    let mut decoder = Decoder::default();
    let (mut items, mut taken) = (Vec::new(), 0);
    while let Some(rest) = bytes.get(taken..).filter(|rest| !rest.is_empty()) {
        let at = position + taken as u64;
        let damage = |reason| Damage { position: at, reason };
        let Parsed::Frame(frame) = frame::parse(rest, seed) else {
            return Err(damage(Malformed("the checksum of a record is wrong")));
        };
        match frame.kind().map_err(damage)? {
            Kind::Batch => {
                front.seq = front.seq.max(BatchHead::read(frame.payload).map_err(damage)?.seq);
            }
            Kind::AddShape => {
                let add = read_add(frame.payload).map_err(damage)?;
                if let Lifecycle::Add { slot, handle, relation, .. } = &add {
                    front.next_slot = front.next_slot.max(slot.as_u32().saturating_add(1));
                    front.max_handle = front.max_handle.max(Some(*handle));
                    let relation = Arc::clone(decoder.relation(*relation).map_err(damage)?);
                    items.push(Item::Add(add, relation));
                }
            }
            _ => items.extend(decoder.take(frame, at, limit).map_err(damage)?.map(Item::Entry)),
        }
        taken += frame.len();
    }
    Ok(items)
}

/// The new file. It never grows beyond `front.next`, where the next one's bytes begin.
pub(super) struct Rewrite {
    file: Box<dyn Device>,
    seed: u32,
    front: Thinned,
    encoder: Encoder,
    /// A block is closed when it has passed this many bytes.
    block_bytes_max: usize,
    index: Index,
    blocks: u64,
}

/// Why a rewrite ended.
#[derive(Debug)]
pub(super) enum Stopped {
    /// The new file would be larger than what it stands for.
    NothingGained,
    Io(io::Error),
}

impl From<io::Error> for Stopped {
    fn from(error: io::Error) -> Stopped {
        Stopped::Io(error)
    }
}

impl From<EncodeError> for Stopped {
    fn from(error: EncodeError) -> Stopped {
        Stopped::Io(io::Error::other(error))
    }
}

impl Rewrite {
    /// Begins `file`, which is empty.
    pub(super) fn new(
        mut file: Box<dyn Device>,
        identity: &Identity,
        front: Thinned,
        starts: &Starts,
        block_bytes_max: usize,
    ) -> Result<Rewrite, Stopped> {
        let seed = identity.seed();
        let mut bytes = identity.header().to_vec();
        debug_assert_eq!(bytes.len(), HEADER_BYTES);
        front.put(&mut bytes, seed).map_err(too_large)?;
        put_starts(&mut bytes, starts, seed).map_err(too_large)?;
        let position = bytes.len() as u64;
        if position > front.next {
            return Err(Stopped::NothingGained);
        }
        file.append(&bytes)?;
        let resume = Resume { seed, position, next_seq: 1, through: Lsn::ZERO, block_bytes: 0 };
        let (encoder, index) = (Encoder::new(resume), Index::default());
        Ok(Rewrite { file, seed, front, encoder, block_bytes_max, index, blocks: 0 })
    }

    /// Takes a block, of which only shapes in `living` have something, and those in `keeping` keep
    /// what they have.
    pub(super) fn block(
        &mut self,
        items: &[Item],
        living: &RoaringBitmap,
        keeping: &RoaringBitmap,
    ) -> Result<(), Stopped> {
        self.blocks += 1;
        let mut reduce = Reduce { block: self.blocks, keeping, known: HashMap::default() };
        for item in items {
            match item {
                Item::Add(add, relation) => {
                    let Lifecycle::Add { slot, handle, first, definition, awaits_snapshot, .. } =
                        add
                    else {
                        continue;
                    };
                    if living.contains(slot.as_u32()) {
                        let definition = (definition, *awaits_snapshot);
                        self.encoder.add_shape(*slot, *handle, *first, relation, definition)?;
                    }
                }
                Item::Entry(logged) => {
                    let routed: Vec<_> =
                        logged.routed.iter().filter_map(|routed| reduce.routed(routed)).collect();
                    self.encoder.fragment(&logged.fragment, &routed)?;
                }
            }
            if self.encoder.len() > self.block_bytes_max {
                self.flush()?;
            }
        }
        Ok(())
    }

    /// Closes the file and makes it durable. What it holds, and its length.
    pub(super) fn finish(mut self) -> Result<(Box<dyn Device>, Index, u64), Stopped> {
        self.flush()?;
        let mut end = Vec::new();
        self.front.put(&mut end, self.seed).map_err(too_large)?;
        self.append(&end)?;
        self.file.sync()?;
        let len = self.file.len();
        Ok((self.file, self.index, len))
    }

    /// Each batch is a block.
    fn flush(&mut self) -> Result<(), Stopped> {
        if self.encoder.is_empty() {
            return Ok(());
        }
        let batch = self.encoder.take(Vec::new());
        self.append(&batch.bytes)?;
        self.index.publish(batch.position, batch.len() as u64, batch.new_block, &batch.summary);
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), Stopped> {
        if self.file.len() + bytes.len() as u64 > self.front.next {
            return Err(Stopped::NothingGained);
        }
        Ok(self.file.append(bytes)?)
    }
}

fn too_large(bytes: u64) -> Stopped {
    Stopped::Io(io::Error::other(format!("a record of {bytes} bytes does not fit the log")))
}

/// Takes those out of the targets of one block who do not keep what they have.
struct Reduce<'a> {
    /// Numbers of sets hold inside a block only.
    block: u64,
    keeping: &'a RoaringBitmap,
    /// What is left of each set, by its pointer; the block holds it for as long as this lives.
    known: HashMap<*const RoaringBitmap, Left, RandomState>,
}

#[derive(Clone)]
enum Left {
    Few(SmallVec<[Slot; FEW as usize]>),
    Set(Arc<RoaringBitmap>),
}

impl Reduce<'_> {
    fn routed(&mut self, routed: &Routed) -> Option<Routed> {
        let Routed { change, as_is, as_insert, as_delete } = routed;
        let [as_is, as_insert, as_delete] =
            [as_is, as_insert, as_delete].map(|targets| self.targets(targets));
        let is_empty = as_is.is_empty() && as_insert.is_empty() && as_delete.is_empty();
        (!is_empty).then_some(Routed { change: *change, as_is, as_insert, as_delete })
    }

    fn targets(&mut self, targets: &Targets) -> Targets {
        let mut left = Targets::default();
        let keeps = |slot: &Slot| self.keeping.contains(slot.as_u32());
        left.slots.extend(targets.slots.iter().copied().filter(keeps));
        let alone = left.slots.len();
        for set in &targets.sets {
            match self.set(&set.slots) {
                Left::Few(slots) => left.slots.extend(slots),
                Left::Set(slots) => {
                    left.sets.push(SharedSet { id: self.block << 32 | set.id, slots });
                }
            }
        }
        if left.slots.len() > alone {
            left.slots.sort_unstable();
            left.slots.dedup();
            let sets = &left.sets;
            let is_single = |slot: &Slot| !sets.iter().any(|s| s.slots.contains(slot.as_u32()));
            left.slots.retain(|slot| is_single(slot));
        }
        left
    }

    fn set(&mut self, slots: &Arc<RoaringBitmap>) -> Left {
        let keeping = self.keeping;
        let left = self.known.entry(Arc::as_ptr(slots)).or_insert_with(|| {
            let left = &**slots & keeping;
            match left.len() {
                ..=FEW => Left::Few(left.iter().map(Slot::new).collect()),
                len if len == slots.len() => Left::Set(Arc::clone(slots)),
                _ => Left::Set(Arc::new(left)),
            }
        });
        left.clone()
    }
}
