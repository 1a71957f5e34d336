//! Encoder: the shard thread's end of the log. Fragments with their targets and lifecycle records
//! flow in, batches flow out; what writes and syncs them is left to the `Syncer`.

use super::dictionary::Dictionary;
use super::frame::{self, BATCH_FRAME_BYTES, BatchHead, Kind};
use super::postings::Entries;
use super::record::{put_add, put_end, put_fragment_head};
use super::span::{FragmentHead, Summary, Tracker};
use super::wire::{put_bytes, put_number};
use crate::words::{
    Cell, Change, Fragment, Handle, Lsn, Offset, Operation, Relation, Routed, RowSpan,
    ShapeDefinition, Slot, Targets, Touched,
};
use std::sync::Arc;

pub(super) const OLD: u8 = 1 << 2;
pub(super) const NEW: u8 = 1 << 3;
/// The bit of the first of the three targets, in the order of `Routed::forms`.
pub(super) const FIRST_FORM: u8 = 1 << 4;
/// A cell is one number: null, unchanged, or the text's length + 2 and then the text.
pub(super) const NULL_CELL: u64 = 0;
pub(super) const UNCHANGED_CELL: u64 = 1;
pub(super) const TEXT_CELL: u64 = 2;

/// Why something could not be written into a batch. The batch is as it was before.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum EncodeError {
    /// One record passes 4 GiB.
    #[error(
        "a record of {bytes} bytes does not fit the log, whose records hold 4 GiB at most; \
         cut the transaction into smaller fragments"
    )]
    TooLarge {
        /// The record's length.
        bytes: u64,
    },
}

fn too_large(bytes: u64) -> EncodeError {
    EncodeError::TooLarge { bytes }
}

/// What one write and one sync bring to disk.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(super) bytes: Vec<u8>,
    /// Where it goes in the file.
    pub(super) position: u64,
    pub(super) head_seq: u64,
    pub(super) new_block: bool,
    pub(super) summary: Summary,
    /// To whom it delivers something.
    pub(super) touched: Touched,
    /// Where in it.
    pub(super) entries: Entries,
    /// The slots of shapes that it adds and ends, in order, and whether they live then.
    pub(super) lives: Vec<(u32, bool)>,
}

impl Batch {
    /// When the batch is synced, every commit at or below this one is durable in this shard.
    pub(crate) fn through(&self) -> Lsn {
        self.summary.through
    }

    /// The bytes to be written.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there is nothing to write: only [`Batch::through`] moves.
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The buffer, for [`Encoder::take`] to fill again.
    pub(crate) fn into_buffer(self) -> Vec<u8> {
        self.bytes
    }
}

/// Where an encoder goes on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Resume {
    pub(super) seed: u32,
    pub(super) position: u64,
    pub(super) next_seq: u64,
    pub(super) through: Lsn,
    pub(super) block_bytes: usize,
}

/// Fills batches. Owned by the shard thread.
pub(crate) struct Encoder {
    seed: u32,
    bytes: Vec<u8>,
    position: u64,
    next_seq: u64,
    new_block: bool,
    /// A block is closed when it has passed this many bytes.
    block_bytes_max: usize,
    block_bytes: usize,
    dictionary: Dictionary,
    tracker: Tracker,
    /// The numbers that the fragment being written uses, in the order in which it names them.
    numbers: Vec<u32>,
    /// See [`Batch::lives`].
    lives: Vec<(u32, bool)>,
}

impl Encoder {
    /// The first batch opens a block: what an earlier process wrote is not known here.
    pub(super) fn new(resume: Resume) -> Encoder {
        let mut tracker = Tracker::default();
        tracker.passed(resume.through);
        Encoder {
            seed: resume.seed,
            bytes: Vec::new(),
            position: resume.position,
            next_seq: resume.next_seq,
            new_block: true,
            block_bytes_max: resume.block_bytes,
            block_bytes: usize::MAX,
            dictionary: Dictionary::default(),
            tracker,
            numbers: Vec::new(),
            lives: Vec::new(),
        }
    }

    /// The bytes in the batch being filled.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether the batch being filled holds nothing to write.
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Logs the changes of `fragment` that `routed` names, with where they went. A commit of which
    /// nothing was logged is only noted; of one that was logged in part the commit mark is written
    /// also when `routed` is empty (R7).
    pub(crate) fn fragment(
        &mut self,
        fragment: &Fragment,
        routed: &[Routed],
    ) -> Result<(), EncodeError> {
        let Some(head) = self.head(fragment, routed) else { return Ok(()) };
        self.open_batch();
        self.introduce(fragment, routed).map_err(too_large)?;
        let start = frame::open(&mut self.bytes);
        put_fragment_head(&mut self.bytes, &head);
        let mut numbers = self.numbers.iter().copied();
        let mut op = 0;
        for routed in routed {
            for (_, targets) in routed.forms() {
                self.dictionary.entries.add_slots(&targets.slots, start);
            }
            let change = &fragment.raw_changes()[routed.change as usize];
            put_change(&mut self.bytes, fragment, change, op, routed, &mut numbers);
            op = change.op;
        }
        frame::close(&mut self.bytes, start, Kind::Fragment, self.seed).map_err(too_large)?;
        self.tracker
            .record(self.position + start as u64, &head)
            .expect("a record opens its transaction unless that is open");
        Ok(())
    }

    /// Logs that a shape of the table `relation` was added; everything after `first` is its own
    /// (R3). The table goes with it, so that recovery can understand the definition by itself.
    pub(crate) fn add_shape(
        &mut self,
        slot: Slot,
        handle: Handle,
        first: Offset,
        relation: &Arc<Relation>,
        // Whether it is to be given initial rows.
        definition: (&ShapeDefinition, bool),
    ) -> Result<(), EncodeError> {
        self.open_batch();
        let number = self.dictionary.relation(&mut self.bytes, self.seed, relation);
        let number = number.map_err(too_large)?;
        self.lifecycle(Kind::AddShape, slot, |out| {
            put_add(out, (slot, handle), first, number, definition);
        })
    }

    /// Logs that a shape was removed; `at` is the last position that may be its own.
    pub(crate) fn remove_shape(
        &mut self,
        slot: Slot,
        handle: Handle,
        at: Offset,
    ) -> Result<(), EncodeError> {
        self.lifecycle(Kind::RemoveShape, slot, |out| put_end(out, slot, handle, at))
    }

    /// Logs that a shape was invalidated, and why.
    pub(crate) fn invalidate(
        &mut self,
        slot: Slot,
        handle: Handle,
        at: Offset,
        cause: &str,
    ) -> Result<(), EncodeError> {
        self.lifecycle(Kind::Invalidate, slot, |out| {
            put_end(out, slot, handle, at);
            put_bytes(out, cause.as_bytes());
        })
    }

    /// Hands over what was filled and goes on with the buffer `spare`.
    pub(crate) fn take(&mut self, spare: Vec<u8>) -> Batch {
        let mut spare = spare;
        spare.clear();
        let mut bytes = std::mem::replace(&mut self.bytes, spare);
        let (summary, (touched, entries)) = (self.tracker.take(), self.dictionary.next_batch());
        let (position, head_seq, new_block) = (self.position, self.next_seq, self.new_block);
        if let Some(head) = bytes.first_chunk_mut::<BATCH_FRAME_BYTES>() {
            *head = BatchHead { seq: head_seq, new_block }.frame(self.seed);
            self.next_seq += 1;
            self.position += bytes.len() as u64;
            self.block_bytes += bytes.len();
        }
        let lives = std::mem::take(&mut self.lives);
        Batch { bytes, position, head_seq, new_block, summary, touched, entries, lives }
    }

    /// The head of the record for `fragment`, if one is to be written.
    fn head(&mut self, fragment: &Fragment, routed: &[Routed]) -> Option<FragmentHead> {
        let commit = fragment.commit_lsn();
        let opens = self.tracker.opens(commit);
        let last_op = match routed.last() {
            Some(last) => fragment.raw_changes()[last.change as usize].op,
            None if fragment.commits() && !opens => 0,
            None => {
                if fragment.commits() {
                    self.tracker.passed(commit);
                }
                return None;
            }
        };
        Some(FragmentHead {
            xid: fragment.xid(),
            commit,
            begin: fragment.begins(),
            opens,
            end_lsn: fragment.end_lsn(),
            changes: routed.len() as u32,
            last_op,
        })
    }

    /// Keeps the place of the batch frame, and starts a new block when the last one is large.
    fn open_batch(&mut self) {
        if !self.bytes.is_empty() {
            return;
        }
        self.new_block = self.block_bytes >= self.block_bytes_max;
        if self.new_block {
            self.block_bytes = 0;
            self.dictionary.clear();
        }
        self.bytes.resize(BATCH_FRAME_BYTES, 0);
    }

    fn lifecycle(
        &mut self,
        kind: Kind,
        slot: Slot,
        put: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), EncodeError> {
        self.open_batch();
        let start = frame::open(&mut self.bytes);
        put(&mut self.bytes);
        frame::close(&mut self.bytes, start, kind, self.seed).map_err(too_large)?;
        self.lives.push((slot.as_u32(), kind == Kind::AddShape));
        Ok(())
    }

    /// Writes what the fragment names and the block does not know yet.
    fn introduce(&mut self, fragment: &Fragment, routed: &[Routed]) -> Result<(), u64> {
        self.dictionary.next_fragment();
        self.numbers.clear();
        for routed in routed {
            let change = &fragment.raw_changes()[routed.change as usize];
            let relation = &fragment.relations()[change.relation as usize];
            let number = self.dictionary.relation(&mut self.bytes, self.seed, relation)?;
            self.numbers.push(number);
            for (_, targets) in routed.forms() {
                self.dictionary.touched.add_slots(&targets.slots);
                for set in &targets.sets {
                    self.numbers.push(self.dictionary.set(&mut self.bytes, self.seed, set)?);
                }
            }
        }
        Ok(())
    }
}

fn put_change(
    out: &mut Vec<u8>,
    fragment: &Fragment,
    change: &Change,
    op_before: u64,
    routed: &Routed,
    numbers: &mut impl Iterator<Item = u32>,
) {
    let mut flags = operation_bits(change.operation);
    flags |= if change.old.is_some() { OLD } else { 0 };
    flags |= if change.new.is_some() { NEW } else { 0 };
    for (form, targets) in routed.forms() {
        flags |= if targets_named(targets) { FIRST_FORM << form as u8 } else { 0 };
    }
    out.push(flags);
    put_number(out, change.op.wrapping_sub(op_before));
    put_number(out, numbers.next().expect("each change's relation has a number").into());
    for row in [change.old, change.new].into_iter().flatten() {
        put_row(out, fragment, row);
    }
    for (_, targets) in routed.forms() {
        if targets_named(targets) {
            put_targets(out, targets, numbers);
        }
    }
}

fn operation_bits(operation: Operation) -> u8 {
    match operation {
        Operation::Insert => 0,
        Operation::Update => 1,
        Operation::Delete => 2,
        Operation::Truncate => 3,
    }
}

fn targets_named(targets: &Targets) -> bool {
    !targets.sets.is_empty() || !targets.slots.is_empty()
}

fn put_row(out: &mut Vec<u8>, fragment: &Fragment, row: RowSpan) {
    put_number(out, row.len.into());
    let cells = &fragment.cells()[row.first as usize..][..row.len as usize];
    for &cell in cells {
        match cell {
            Cell::NULL => put_number(out, NULL_CELL),
            Cell::UNCHANGED => put_number(out, UNCHANGED_CELL),
            Cell { start, len } => {
                put_number(out, u64::from(len) + TEXT_CELL);
                out.extend_from_slice(&fragment.data()[start as usize..][..len as usize]);
            }
        }
    }
}

fn put_targets(out: &mut Vec<u8>, targets: &Targets, numbers: &mut impl Iterator<Item = u32>) {
    put_number(out, targets.sets.len() as u64);
    for _ in &targets.sets {
        put_number(out, numbers.next().expect("each set has a number").into());
    }
    put_number(out, targets.slots.len() as u64);
    let mut next = 0;
    for slot in &targets.slots {
        // Slots rise: the gap to the lowest that could follow is small.
        put_number(out, u64::from(slot.as_u32()).wrapping_sub(next));
        next = u64::from(slot.as_u32()) + 1;
    }
}
