//! Index: where each block lies in the file and through which offset it can be read. The syncer
//! adds to it after each sync; readers look places up.

use super::decode::Limit;
use super::span::Summary;
use crate::words::{Lsn, Offset};
use std::collections::VecDeque;

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
    pub(super) limit: Limit,
}

/// All blocks of one log, oldest first.
#[derive(Debug, Default)]
pub(super) struct Index {
    blocks: VecDeque<Block>,
    /// The number of the first of them.
    first: u64,
    /// Everything at or below it was dropped.
    start: Offset,
    limit: Limit,
    /// The open transaction: the blocks that hold a part of it, and its last position in each.
    open: Vec<(u64, Offset)>,
}

impl Index {
    /// Adds a batch of `len` bytes at byte `position` that is durable.
    pub(super) fn publish(&mut self, position: u64, len: u64, new_block: bool, batch: &Summary) {
        if len > 0 && (new_block || self.blocks.is_empty()) {
            let through = self.blocks.back().map_or(self.start, |block| block.through);
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

    /// Makes everything through `commit` readable; its commit record is in the last block.
    fn commit(&mut self, commit: Lsn) {
        self.limit.readable = commit;
        let mut open = std::mem::take(&mut self.open).into_iter().peekable();
        if let Some(&(first_open, _)) = open.peek() {
            let mut through = Offset::ZERO;
            let skip = (first_open - self.first) as usize;
            for (number, block) in (first_open..).zip(self.blocks.iter_mut().skip(skip)) {
                // A block between may hold lifecycle records alone: it is through where the one
                // before it is, so that positions never fall from block to block.
                if let Some((_, offset)) = open.next_if(|(open, _)| *open == number) {
                    through = offset;
                }
                block.through = block.through.max(through);
            }
        }
        if let Some(block) = self.blocks.back_mut() {
            block.through = Offset::commit_mark(commit);
        }
    }

    /// The first block with something readable after `after`.
    pub(super) fn view(&self, after: Offset) -> Option<View> {
        let index = self.blocks.partition_point(|block| block.through <= after);
        let block = self.blocks.get(index)?;
        let before = index.checked_sub(1).and_then(|before| self.blocks.get(before));
        Some(View {
            number: self.first + index as u64,
            position: block.position,
            len: block.len,
            from: before.map_or(self.start, |block| block.through),
            through: block.through,
            closed: index + 1 < self.blocks.len(),
            limit: self.limit.clone(),
        })
    }

    /// The number of the last block, if there is any.
    pub(super) fn last(&self) -> u64 {
        (self.first + self.blocks.len() as u64).saturating_sub(1)
    }

    /// The last commit in the log.
    pub(super) fn readable(&self) -> Lsn {
        self.limit.readable
    }

    /// Whether block `number` was not dropped.
    pub(super) fn holds(&self, number: u64) -> bool {
        number >= self.first
    }

    /// Everything at or below it was dropped.
    pub(super) fn start(&self) -> Offset {
        self.start
    }

    /// The bytes from the first block that is kept to the end.
    pub(super) fn bytes(&self) -> u64 {
        self.blocks.iter().map(|block| block.len).sum()
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
        index.view(Offset::new(Lsn::new(lsn), op)).map(|view| view.number)
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
