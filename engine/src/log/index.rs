//! Index: where each block lies in the log and through which offset it can be read. The syncer adds
//! to it after each sync; readers look places up. Of a segment whose own index is sealed beside it
//! nothing is kept here but where it lies and through where it can be read.

use super::decode::Limit;
use super::span::Summary;
use super::survey::{Carried, Head};
use super::thinned::{Cuts, Thinned};
use crate::words::{Lsn, Offset, Slot};
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

/// The number of the first block of a log that can be thinned. Those below are for blocks of the
/// thinned file.
const ROOM: u64 = 1 << 62;

/// One block: whole batches that decode without anything before them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Block {
    position: u64,
    /// What is synced of it, in bytes.
    len: u64,
    /// The last position in it, or before it, that can be read.
    through: Offset,
}

/// A block, as one reader sees it.
#[derive(Clone, Debug)]
pub(super) struct View {
    pub(super) number: u64,
    pub(super) position: u64,
    pub(super) len: u64,
    /// The last position before the block.
    pub(super) from: Offset,
    /// The last position in it that can be read.
    pub(super) through: Offset,
    /// Whether nothing more is written to it.
    pub(super) closed: bool,
    /// Whether the sealed index of its segment tells what is in it.
    pub(super) is_sealed: bool,
    pub(super) limit: Limit,
}

/// A segment whose blocks are not kept here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sealed {
    /// The number of its first block.
    block: u64,
    position: u64,
    end: u64,
    /// The last position in it, or before it, that can be read.
    through: Offset,
}

/// The same, as one reader sees it.
#[derive(Clone, Debug)]
pub(super) struct SealedView {
    /// The segment's number.
    pub(super) segment: u32,
    /// The number of its first block.
    pub(super) block: u64,
    /// The last position before it.
    pub(super) from: Offset,
    /// The last position in it that can be read.
    pub(super) through: Offset,
    pub(super) limit: Limit,
}

/// Where something lies.
pub(super) enum Place {
    Block(View),
    Sealed(SealedView),
}

/// All blocks of one log, oldest first.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// The blocks of the first file, if it was thinned, and the number of the first of them. It was
    /// never another's, and is lower than all that follow.
    front: Vec<Block>,
    front_first: u64,
    cuts: Cuts,
    /// The first segments behind that, without a gap from segment `sealed_first` on.
    sealed: Vec<Sealed>,
    sealed_first: u32,
    /// The blocks behind them.
    blocks: VecDeque<Block>,
    /// The number of the first of them.
    first: u64,
    /// The numbers of the blocks at which further segments begin.
    begins: VecDeque<u64>,
    /// Everything at or below it was dropped.
    start: Offset,
    limit: Limit,
    /// The open transaction: the blocks that hold a part of it, and its last position in each (of a
    /// sealed segment, in the last of them).
    open: Vec<(u64, Offset)>,
}

impl Index {
    /// Adds a batch of `len` bytes at byte `position` that is durable.
    pub(super) fn publish(&mut self, position: u64, len: u64, new_block: bool, batch: &Summary) {
        if len > 0 && (new_block || self.blocks.is_empty()) {
            let through = self.end();
            self.blocks.push_back(Block { position, len: 0, through });
        }
        let last = self.last();
        if let Some(block) = self.blocks.back_mut() {
            block.len += len;
        }
        if !batch.void.is_empty() {
            self.limit.void = self.limit.void.iter().chain(&batch.void).cloned().collect();
        }
        if batch.voids_earlier {
            self.open.clear();
        }
        if let Some((_, commit)) = batch.commits {
            self.commit(commit);
        }
        match (batch.open, self.open.last_mut()) {
            (Some(offset), Some((block, known))) if *block == last => *known = offset,
            (Some(offset), _) => self.open.push((last, offset)),
            (None, _) => {}
        }
    }

    /// The block that is published next begins a segment.
    pub(super) fn begin_segment(&mut self) {
        self.begins.push_back(self.next());
    }

    /// The number of the next block.
    pub(super) fn next(&self) -> u64 {
        self.first + self.blocks.len() as u64
    }

    /// Makes everything through `commit` readable; its commit record is in the last block.
    fn commit(&mut self, commit: Lsn) {
        self.limit.readable = commit;
        self.settle();
        if let Some(block) = self.blocks.back_mut() {
            block.through = Offset::commit_mark(commit);
        }
    }

    /// The open transaction is committed: what there is of it can be read.
    fn settle(&mut self) {
        let open = std::mem::take(&mut self.open);
        let Some(&(first_open, _)) = open.first() else { return };
        // A block between may hold lifecycle records alone: it is through where the one before it
        // is, so that positions never fall from block to block. The same of segments.
        let mut open = open.into_iter().peekable();
        let mut through = Offset::ZERO;
        let skip = self.sealed.partition_point(|sealed| sealed.block <= first_open);
        for index in skip.saturating_sub(1)..self.sealed.len() {
            let end = self.sealed.get(index + 1).map_or(self.first, |next| next.block);
            while let Some((_, offset)) = open.next_if(|(open, _)| *open < end) {
                through = offset;
            }
            let sealed = &mut self.sealed[index];
            sealed.through = sealed.through.max(through);
        }
        let skip = first_open.saturating_sub(self.first) as usize;
        for (number, block) in (self.first + skip as u64..).zip(self.blocks.iter_mut().skip(skip)) {
            if let Some((_, offset)) = open.next_if(|(open, _)| *open == number) {
                through = offset;
            }
            block.through = block.through.max(through);
        }
    }

    /// Adds a segment that recovery found, in which what was open before was `carried`. With its
    /// `survey` its blocks are kept here, and so is whatever follows.
    pub(super) fn join(&mut self, bytes: Range<u64>, head: &Head, survey: Option<Index>) {
        match head.carried {
            Carried::Open => {}
            Carried::Committed => self.settle(),
            Carried::Void(_) => self.open.clear(),
        }
        self.limit.readable = head.last_commit.unwrap_or(self.limit.readable);
        let before = self.end();
        let next = self.next();
        if let Some(survey) = survey {
            let risen = |block: Block| Block { through: block.through.max(before), ..block };
            self.blocks.extend(survey.blocks.into_iter().map(risen));
            self.open.extend(survey.open.into_iter().map(|(block, at)| (next + block, at)));
        } else {
            let through = head.through.max(before);
            let Range { start: position, end } = bytes;
            self.sealed.push(Sealed { block: next, position, end, through });
            self.first = next + u64::from(head.blocks);
            self.open.extend(head.tail.map(|tail| (self.first.saturating_sub(1), tail.last)));
        }
    }

    /// Nothing of the open transaction is ever read.
    pub(super) fn abandon(&mut self) {
        self.open.clear();
    }

    /// Fragments that start in these bytes are skipped.
    pub(super) fn set_void(&mut self, void: Arc<[Range<u64>]>) {
        self.limit.void = void;
    }

    /// The number of the first segment whose blocks are here, if another one follows it.
    pub(super) fn to_seal(&self) -> Option<u32> {
        self.begins.front().map(|_| self.sealed_first + self.sealed.len() as u32)
    }

    #[cfg(test)]
    pub(super) fn kept_segments(&self) -> usize {
        self.begins.len() + 1
    }

    /// Drops the blocks of segment `number`, which lies from byte `position` on: its index was
    /// sealed. The numbers of these blocks.
    pub(super) fn seal(&mut self, number: u32, position: u64) -> Option<Range<u64>> {
        if self.to_seal() != Some(number) {
            return None;
        }
        let (before, block) = (self.sealed_through(), self.first);
        let next = self.begins.pop_front()?;
        let last = self.blocks.drain(..(next - self.first) as usize).next_back();
        let through = last.map_or(before, |block| block.through);
        let end = last.map_or(position, |block| block.position + block.len);
        self.sealed.push(Sealed { block, position, end, through });
        self.first = next;
        Some(block..next)
    }

    /// Where the first block with something readable after `after` lies.
    pub(super) fn place(&self, after: Offset) -> Option<Place> {
        let index = self.front.partition_point(|block| block.through <= after);
        if let Some(block) = self.front.get(index) {
            let before = index.checked_sub(1).and_then(|before| self.front.get(before));
            return Some(Place::Block(View {
                number: self.front_first + index as u64,
                position: block.position,
                len: block.len,
                from: before.map_or(self.start, |block| block.through),
                through: block.through,
                closed: true,
                is_sealed: false,
                limit: self.limit.clone(),
            }));
        }
        let index = self.sealed.partition_point(|sealed| sealed.through <= after);
        if let Some(sealed) = self.sealed.get(index) {
            let before = index.checked_sub(1).and_then(|before| self.sealed.get(before));
            return Some(Place::Sealed(SealedView {
                segment: self.sealed_first + index as u32,
                block: sealed.block,
                from: before.map_or(self.front_through(), |sealed| sealed.through),
                through: sealed.through,
                limit: self.limit.clone(),
            }));
        }
        let index = self.blocks.partition_point(|block| block.through <= after);
        let block = self.blocks.get(index)?;
        let before = index.checked_sub(1).and_then(|before| self.blocks.get(before));
        Some(Place::Block(View {
            number: self.first + index as u64,
            position: block.position,
            len: block.len,
            from: before.map_or(self.sealed_through(), |block| block.through),
            through: block.through,
            closed: index + 1 < self.blocks.len(),
            is_sealed: false,
            limit: self.limit.clone(),
        }))
    }

    /// The last position before the blocks that are kept here.
    fn sealed_through(&self) -> Offset {
        self.sealed.last().map_or(self.front_through(), |sealed| sealed.through)
    }

    /// The last position in the thinned file that can be read.
    fn front_through(&self) -> Offset {
        self.front.last().map_or(self.start, |block| block.through)
    }

    /// The last position that can be read.
    pub(super) fn end(&self) -> Offset {
        self.blocks.back().map_or(self.sealed_through(), |block| block.through)
    }

    /// The number of the last block, if there is any.
    pub(super) fn last(&self) -> u64 {
        self.next().saturating_sub(1)
    }

    /// The blocks that are kept here: where each lies, its length, through where it can be read.
    pub(super) fn blocks(&self) -> impl Iterator<Item = (u64, u64, Offset)> {
        self.blocks.iter().map(|block| (block.position, block.len, block.through))
    }

    /// The blocks that hold a part of the open transaction, and its last position in each.
    pub(super) fn open_parts(&self) -> impl Iterator<Item = (u64, Offset)> {
        self.open.iter().copied()
    }

    /// The last commit in the log.
    pub(super) fn readable(&self) -> Lsn {
        self.limit.readable
    }

    /// Whether block `number` is as it was: not dropped, and not thinned.
    pub(super) fn holds(&self, number: u64) -> bool {
        let front = self.front_first..self.front_first + self.front.len() as u64;
        number >= self.first_behind_front() || front.contains(&number)
    }

    /// The number of the first block that was not thinned.
    pub(super) fn first_behind_front(&self) -> u64 {
        self.sealed.first().map_or(self.first, |sealed| sealed.block)
    }

    /// Everything at or below it was dropped.
    pub(super) fn start(&self) -> Offset {
        self.start
    }

    /// The bytes from the first block that is kept to the end.
    pub(super) fn bytes(&self) -> u64 {
        let sealed = self.sealed.first().map(|sealed| sealed.position);
        let first = sealed.or(self.blocks.front().map(|block| block.position));
        let end = self.blocks.back().map(|block| block.position + block.len);
        let end = end.or(self.sealed.last().map(|sealed| sealed.end));
        let front: u64 = self.front.iter().map(|block| block.len).sum();
        front + end.zip(first).map_or(0, |(end, first)| end - first)
    }

    /// Leaves numbers for blocks that were thinned. To be called while there is none.
    pub(super) fn make_room(&mut self) {
        self.first = ROOM;
    }

    /// Everything of `slot` at or below it was dropped, and nothing above.
    pub(super) fn start_of(&self, slot: Slot) -> Offset {
        self.cuts.start_of(slot).map_or(self.start, |start| start.max(self.start))
    }

    pub(super) fn cuts(&self) -> &Cuts {
        &self.cuts
    }

    /// The blocks of the thinned file were found, before all others. The last commit may have
    /// nothing in them any more.
    pub(super) fn found_thinned(&mut self, front: &Thinned, found: Index, cuts: Cuts) {
        self.front = found.blocks.into();
        self.sealed_first = front.last + 1;
        self.limit.readable = front.last_commit;
        self.cuts = cuts;
    }

    /// Where the last block ends.
    pub(super) fn end_byte(&self) -> u64 {
        let last = self.blocks.back().map(|block| block.position + block.len);
        last.or(self.sealed.last().map(|sealed| sealed.end)).unwrap_or(0)
    }

    /// Whether segment `number`, which ends at byte `end`, and all before it are sealed, readable
    /// and at or below `mark`, and nothing of it goes on behind.
    pub(super) fn is_complete(&self, number: u32, end: u64, mark: Lsn) -> bool {
        let index = number.checked_sub(self.sealed_first).map(|index| index as usize);
        let Some((index, last)) = index.and_then(|at| Some((at, self.sealed.get(at)?))) else {
            return false;
        };
        let next = self.sealed.get(index + 1).map_or(self.first, |next| next.block);
        let open = self.open.first().map_or(u64::MAX, |&(block, _)| block);
        let goes_on = |range: &Range<u64>| range.start < end && range.end > end;
        (last.through.is_commit_mark() || last.through == self.start)
            && last.through.commit <= mark
            && next <= open
            && !self.limit.void.iter().any(goes_on)
    }

    /// The blocks of the thinned file, their positions and lengths; the last commit through segment
    /// `number`; and how all that is read.
    pub(super) fn before(&self, number: u32) -> (Vec<(u64, u64)>, Lsn, Limit) {
        let index = number.checked_sub(self.sealed_first);
        let last = index.and_then(|index| self.sealed.get(index as usize));
        let through = last.map_or(self.front_through(), |sealed| sealed.through);
        let front = self.front.iter().map(|block| (block.position, block.len)).collect();
        (front, through.commit, self.limit.clone())
    }

    /// Puts the blocks of `found`, which is what `front` tells of, in the place of those of the
    /// segments that it stands for.
    pub(super) fn replace(&mut self, front: &Thinned, found: Index, cuts: Cuts) {
        let gone = (front.last + 1).saturating_sub(self.sealed_first) as usize;
        let last = self.sealed.drain(..gone.min(self.sealed.len())).next_back();
        let last = last.map_or(self.front_through(), |sealed| sealed.through);
        self.sealed_first = front.last + 1;
        self.front_first += self.front.len() as u64;
        self.front = found.blocks.into();
        let now = self.front_through();
        // What holds nothing to be read is through where what is before it is.
        let sealed = self.sealed.iter_mut().take_while(|sealed| sealed.through == last);
        let lowered = sealed.map(|sealed| sealed.through = now).count();
        if lowered == self.sealed.len() {
            let empty = self.blocks.iter_mut().take_while(|block| block.through == last);
            empty.for_each(|block| block.through = now);
        }
        let left = self.limit.void.iter().filter(|range| range.end > front.next).cloned();
        self.limit.void = left.collect();
        self.cuts = cuts;
    }

    /// Forgets the blocks that hold nothing above `through`. The last block stays, and so does one
    /// that holds a part of the open transaction. Returns the number of the first block that is
    /// left, and where it starts.
    pub(super) fn trim(&mut self, through: Lsn) -> Option<(u64, u64)> {
        let open = self.open.first().map_or(u64::MAX, |&(block, _)| block);
        let end = Offset::commit_mark(through);
        let droppable = |block: &Block, number: u64| block.through <= end && number < open;
        while self.blocks.len() > 1 && droppable(self.blocks.front()?, self.first) {
            // A block that ends inside a transaction: its rest, in the next block, goes with it or
            // is cut off from its beginning. Either way nothing at or below is promised any more.
            self.start = self.start.max(self.blocks.pop_front()?.through);
            self.first += 1;
        }
        let (first, position) = self.blocks.front().map(|block| (self.first, block.position))?;
        if self.limit.void.first().is_some_and(|range| range.end <= position) {
            let left = self.limit.void.iter().filter(|range| range.end > position);
            self.limit.void = left.cloned().collect();
        }
        Some((first, position))
    }
}

#[cfg(test)]
mod tests;
