//! Index: where each block lies in the log and through which offset it can be read. The syncer adds
//! to it after each sync; readers look places up. Of a segment whose own index is sealed beside it
//! nothing is kept here but where it lies and through where it can be read.

use super::decode::Limit;
use super::span::Summary;
use super::survey::{Carried, Head};
use crate::words::{Lsn, Offset};
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

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
    /// The first segments, without a gap from segment 0 on.
    sealed: Vec<Sealed>,
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
        self.begins.front().map(|_| self.sealed.len() as u32)
    }

    #[cfg(test)]
    pub(super) fn kept_segments(&self) -> usize {
        self.begins.len() + 1
    }

    /// Drops the blocks of segment `number`, which lies from byte `position` on: its index was
    /// sealed. The number of the first block that is left.
    pub(super) fn seal(&mut self, number: u32, position: u64) -> Option<u64> {
        if self.to_seal() != Some(number) {
            return None;
        }
        let (before, block) = (self.before(), self.first);
        let next = self.begins.pop_front()?;
        let last = self.blocks.drain(..(next - self.first) as usize).next_back();
        let through = last.map_or(before, |block| block.through);
        let end = last.map_or(position, |block| block.position + block.len);
        self.sealed.push(Sealed { block, position, end, through });
        self.first = next;
        Some(next)
    }

    /// Where the first block with something readable after `after` lies.
    pub(super) fn place(&self, after: Offset) -> Option<Place> {
        let index = self.sealed.partition_point(|sealed| sealed.through <= after);
        if let Some(sealed) = self.sealed.get(index) {
            let before = index.checked_sub(1).and_then(|before| self.sealed.get(before));
            return Some(Place::Sealed(SealedView {
                segment: index as u32,
                block: sealed.block,
                from: before.map_or(self.start, |sealed| sealed.through),
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
            from: before.map_or(self.before(), |block| block.through),
            through: block.through,
            closed: index + 1 < self.blocks.len(),
            is_sealed: false,
            limit: self.limit.clone(),
        }))
    }

    /// The last position before the blocks that are kept here.
    fn before(&self) -> Offset {
        self.sealed.last().map_or(self.start, |sealed| sealed.through)
    }

    /// The last position that can be read.
    pub(super) fn end(&self) -> Offset {
        self.blocks.back().map_or(self.before(), |block| block.through)
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

    /// Whether block `number` was not dropped.
    pub(super) fn holds(&self, number: u64) -> bool {
        !self.sealed.is_empty() || number >= self.first
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
        end.zip(first).map_or(0, |(end, first)| end - first)
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
mod tests {
    use super::*;
    use std::iter;
    use std::ops::Range;

    fn commits(lsn: u64) -> Summary {
        let commits = Some((Lsn::new(lsn), Lsn::new(lsn)));
        Summary { commits, through: Lsn::new(lsn), ..Summary::default() }
    }

    fn opens(lsn: u64, op: u64) -> Summary {
        Summary { open: Some(Offset::new(Lsn::new(lsn), op)), ..Summary::default() }
    }

    fn block_after(index: &Index, lsn: u64, op: u64) -> Option<u64> {
        match index.place(Offset::new(Lsn::new(lsn), op)) {
            Some(Place::Block(view)) => Some(view.number),
            Some(Place::Sealed(_)) => panic!("nothing was sealed"),
            None => None,
        }
    }

    #[test]
    fn a_transaction_over_blocks_becomes_readable_in_all_of_them_at_its_commit() {
        let mut index = Index::default();
        index.publish(0, 10, true, &commits(5));
        index.publish(10, 10, false, &opens(9, 6));
        index.publish(20, 10, true, &Summary::default());
        index.publish(30, 10, true, &opens(9, 20));
        assert_eq!(block_after(&index, 5, u64::MAX), None);
        index.publish(40, 10, true, &commits(9));
        assert_eq!(block_after(&index, 5, u64::MAX), Some(0));
        assert_eq!(block_after(&index, 9, 5), Some(0));
        assert_eq!(block_after(&index, 9, 6), Some(2));
        assert_eq!(block_after(&index, 9, 20), Some(3));
        assert_eq!(block_after(&index, 9, u64::MAX), None);
    }

    #[test]
    fn trimming_keeps_the_last_block_and_the_open_transaction() {
        let mut index = Index::default();
        index.publish(0, 10, true, &commits(5));
        index.publish(10, 10, true, &commits(6));
        index.publish(20, 10, false, &opens(9, 6));
        index.publish(30, 10, true, &opens(9, 8));
        assert_eq!(index.trim(Lsn::new(8)), Some((1, 10)));
        assert_eq!((index.start(), index.bytes()), (Offset::commit_mark(Lsn::new(5)), 30));
        index.publish(40, 10, false, &commits(9));
        assert_eq!(index.trim(Lsn::new(8)), Some((1, 10)));
        assert_eq!(index.trim(Lsn::new(9)), Some((2, 30)));
        assert_eq!(index.bytes(), 20);
    }

    #[test]
    fn trimming_forgets_what_was_void_in_dropped_blocks_only() {
        let mut index = Index::default();
        let void =
            |from, lsn| Summary { void: iter::once(from..from + 5).collect(), ..commits(lsn) };
        index.publish(0, 10, true, &void(0, 5));
        index.publish(10, 10, true, &void(12, 6));
        index.publish(20, 10, true, &void(25, 7));
        index.trim(Lsn::new(4));
        assert_eq!(*index.limit.void, [0..5, 12..17, 25..30]);
        index.trim(Lsn::new(5));
        assert_eq!(*index.limit.void, [12..17, 25..30]);
        index.trim(Lsn::new(9));
        assert_eq!(*index.limit.void, [Range { start: 25, end: 30 }]);
    }
}
