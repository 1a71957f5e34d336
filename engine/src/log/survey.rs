//! Survey: one pass over a segment's bytes, which knows nothing of the segments around it. Frames
//! flow in; out comes where its blocks lie and through where they can be read, what each has for
//! whom, what recovery needs of it (`Head`), and where its bytes stop making sense. Sealing, and
//! recovery where nothing was sealed, start from it.

use super::decode::Damage;
use super::frame::{BatchHead, Frame, Kind};
use super::gather::Gathering;
use super::index::Index;
use super::postings::Postings;
use super::scan::{Scanner, Step};
use super::span::{FragmentHead, Tracker};
use super::wire::Malformed;
use crate::words::{Lsn, Offset};
use std::io;
use std::ops::Range;

/// What a segment says of the transaction that was open when it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Carried {
    /// It goes on behind the segment.
    #[default]
    Open,
    Committed,
    /// Another one began at this byte, or the same one anew.
    Void(u64),
}

/// The first fragment record of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct First {
    pub(super) position: u64,
    pub(super) opens: bool,
    pub(super) commit: Lsn,
}

/// The transaction that is open where a segment ends, if a part of it lies in the segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tail {
    /// Where its first record in this segment starts.
    pub(super) start: u64,
    pub(super) last: Offset,
    /// Whether it was open before the segment.
    pub(super) is_carried: bool,
}

/// Lifecycle records in a row, and the relations that they name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    /// The block's number in the segment.
    pub(super) block: u32,
    pub(super) bytes: Range<u64>,
}

/// What recovery needs of a segment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Head {
    /// The numbers of its first and last batch.
    pub(super) batches: Option<(u64, u64)>,
    pub(super) blocks: u32,
    pub(super) first: Option<First>,
    pub(super) carried: Carried,
    pub(super) tail: Option<Tail>,
    pub(super) last_commit: Option<Lsn>,
    /// The last position in it that can be read, whatever became of its tail.
    pub(super) through: Offset,
    /// The bytes of fragments to skip; rising and disjoint.
    pub(super) void: Vec<Range<u64>>,
    pub(super) extents: Vec<Extent>,
}

/// One block of a segment.
#[derive(Debug)]
pub(super) struct Surveyed {
    pub(super) len: u64,
    /// The last position in it, or before it in the segment, that can be read.
    pub(super) through: Offset,
    /// The last position that can be read if the segment's tail is committed.
    pub(super) tail: Option<Offset>,
    pub(super) postings: Option<Postings>,
}

/// What a segment holds.
pub(super) struct Survey {
    pub(super) head: Head,
    /// Its blocks, numbered from 0, as far as the segment itself tells.
    pub(super) index: Index,
    /// Whom each block has something for.
    pub(super) postings: Vec<Option<Postings>>,
    /// Where its frames end, and whether something else follows.
    pub(super) end: u64,
    pub(super) is_torn: bool,
}

/// Why a segment cannot be surveyed.
#[derive(Debug)]
pub(super) enum Flaw {
    Read(io::Error),
    Damaged(Damage),
}

impl Survey {
    /// Walks the rest of `scanner`, which stands where a segment's frames begin.
    pub(super) fn scan(scanner: &mut Scanner<'_>) -> Result<Survey, Flaw> {
        let mut pass = Pass { start: scanner.position(), ..Pass::default() };
        let is_torn = loop {
            match scanner.next().map_err(Flaw::Read)? {
                Step::End => break false,
                Step::Bad => break true,
                Step::Frame(position, frame) => pass
                    .frame(position, frame)
                    .map_err(|reason| Flaw::Damaged(Damage { position, reason }))?,
            }
        };
        Ok(pass.finish(scanner.position(), is_torn))
    }

    /// Its blocks.
    pub(super) fn into_blocks(self) -> (Head, Vec<Surveyed>) {
        let mut open = self.index.open_parts().peekable();
        let mut blocks = Vec::with_capacity(self.postings.len());
        for (number, (block, postings)) in (0..).zip(self.index.blocks().zip(self.postings)) {
            let (_, len, through) = block;
            let tail = open.next_if(|(open, _)| *open == number).map(|(_, offset)| offset);
            blocks.push(Surveyed { len, through, tail, postings });
        }
        drop(open);
        (self.head, blocks)
    }
}

/// The pass itself.
#[derive(Default)]
struct Pass {
    /// Where the segment's frames begin.
    start: u64,
    head: Head,
    /// Where the last batch starts, and whether it opens a block.
    batch: Option<(u64, bool)>,
    /// Where the last block starts.
    block: u64,
    tracker: Tracker,
    index: Index,
    gathering: Gathering,
    postings: Vec<Option<Postings>>,
    /// The relations of the block that lie in no extent yet: they count once a shape is added.
    relations: Vec<Range<u64>>,
    /// Whether the transaction that is open was open before the segment.
    is_carried: bool,
}

impl Pass {
    fn frame(&mut self, position: u64, frame: Frame<'_>) -> Result<(), Malformed> {
        let kind = frame.kind()?;
        let bytes = position..position + frame.len() as u64;
        if kind == Kind::Batch {
            return self.batch(position, BatchHead::read(frame.payload)?);
        }
        if self.batch.is_none() {
            return Err(Malformed("a record lies in front of the first batch"));
        }
        let fragment = self.gathering.frame(kind, frame.payload, position - self.block)?;
        if let Some(head) = fragment {
            self.fragment(position, &head)?;
        }
        match kind {
            Kind::Relation => self.relations.push(bytes),
            Kind::AddShape => {
                let relations = std::mem::take(&mut self.relations);
                relations.into_iter().for_each(|relation| self.extent(relation));
                self.extent(bytes);
            }
            Kind::RemoveShape | Kind::Invalidate => self.extent(bytes),
            _ => {}
        }
        Ok(())
    }

    fn batch(&mut self, position: u64, head: BatchHead) -> Result<(), Malformed> {
        match &mut self.head.batches {
            None if !head.new_block => return Err(Malformed("the first batch opens no block")),
            None => self.head.batches = Some((head.seq, head.seq)),
            Some((_, last)) if last.checked_add(1) == Some(head.seq) => *last = head.seq,
            Some(_) => return Err(Malformed("the numbers of batches do not rise by 1")),
        }
        self.close_batch(position);
        if head.new_block {
            self.close_block();
            self.block = position;
            self.head.blocks += 1;
        }
        self.batch = Some((position, head.new_block));
        Ok(())
    }

    fn fragment(&mut self, position: u64, head: &FragmentHead) -> Result<(), Malformed> {
        let FragmentHead { opens, commit, end_lsn, .. } = *head;
        if self.head.first.is_none() {
            self.head.first = Some(First { position, opens, commit });
            self.is_carried = !opens;
            if opens {
                self.head.carried = Carried::Void(position);
            } else {
                self.tracker.carry(commit, self.start);
            }
        }
        self.tracker.record(position, head)?;
        if self.is_carried && opens {
            self.head.carried = Carried::Void(position);
        } else if self.is_carried && end_lsn.is_some() {
            self.head.carried = Carried::Committed;
        }
        self.is_carried &= !opens && end_lsn.is_none();
        if end_lsn.is_some() {
            self.head.last_commit = Some(commit);
        }
        Ok(())
    }

    fn extent(&mut self, bytes: Range<u64>) {
        let block = self.head.blocks - 1;
        match self.head.extents.last_mut() {
            Some(last) if last.block == block && last.bytes.end == bytes.start => {
                last.bytes.end = bytes.end;
            }
            _ => self.head.extents.push(Extent { block, bytes }),
        }
    }

    fn close_batch(&mut self, end: u64) {
        if let Some((start, new_block)) = self.batch.take() {
            let summary = self.tracker.take();
            self.head.void.extend(summary.void.iter().cloned());
            self.index.publish(start, end - start, new_block, &summary);
        }
    }

    fn close_block(&mut self) {
        if self.head.blocks > 0 {
            self.postings.push(std::mem::take(&mut self.gathering).close());
        }
        self.relations.clear();
    }

    fn finish(mut self, end: u64, is_torn: bool) -> Survey {
        self.close_batch(end);
        self.close_block();
        let last = self.index.open_parts().last().map(|(_, offset)| offset);
        let is_carried = self.is_carried;
        let tail = self.tracker.open_from().zip(last);
        self.head.tail = tail.map(|(start, last)| Tail { start, last, is_carried });
        self.head.through = self.index.end();
        let Pass { head, index, postings, .. } = self;
        Survey { head, index, postings, end, is_torn }
    }
}
