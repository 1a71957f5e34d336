//! Tracker: a shard's sum of what its shapes owe, and the frontier that follows from it.
//!
//! Positions that are owed and settled flow in, with each commit that the shard has processed and
//! the log's durable bound; the frontier flows out. It is one thread's. It leaves to others which
//! shapes owe ([`super::Owed`]), the log's own debt (the bound that is handed in), and publishing
//! ([`super::Frontiers`]).

use super::owed::Moved;
use super::positions::Positions;
use crate::words::Lsn;
use std::collections::VecDeque;

/// Room for this many commits is never given back.
const COMMITS_KEPT: usize = 4096;

/// A commit that was processed.
#[derive(Clone, Copy, Debug)]
struct Commit {
    at: Lsn,
    /// Bytes of all commits up to and with this one, since the tracker was made.
    bytes_through: u64,
}

/// What a shard owes, and its frontier: the last commit at or below which it owes nothing.
///
/// The frontier never goes back. It is late by at most the next report of the shape at the root,
/// never early (INV1).
#[derive(Debug)]
pub(crate) struct Tracker {
    frontier: Lsn,
    owed: Positions,
    /// The processed commits above the frontier, rising: 16 bytes each. What bounds the bytes that
    /// are not flushed bounds their number.
    commits: VecDeque<Commit>,
    newest: Lsn,
    bytes_processed: u64,
    bytes_flushed: u64,
}

impl Tracker {
    /// Nothing is owed, and everything through `frontier` is flushed.
    pub(crate) fn new(frontier: Lsn) -> Tracker {
        Tracker {
            frontier,
            owed: Positions::new(),
            commits: VecDeque::new(),
            newest: frontier,
            bytes_processed: 0,
            bytes_flushed: 0,
        }
    }

    /// `shapes` more owe from `at`. To be called before what they owe can be reported.
    pub(crate) fn owe(&mut self, at: Lsn, shapes: u32) {
        self.owed.add(at, shapes);
    }

    /// One shape no longer owes from `at`. Panics when none did.
    pub(crate) fn settle(&mut self, at: Lsn) {
        self.owed.remove(at);
    }

    /// What a step of a shape's [`super::Owed`] changes here.
    pub(crate) fn apply(&mut self, moved: Moved) {
        match moved {
            Moved::Nothing => {}
            Moved::Settled(from) => self.settle(from),
            Moved::Owes(to) => self.owe(to, 1),
            Moved::Shifted { from, to } => {
                self.settle(from);
                self.owe(to, 1);
            }
        }
    }

    /// The oldest position that is owed.
    pub(crate) fn root(&mut self) -> Option<Lsn> {
        self.owed.lowest()
    }

    /// The shard has processed `commit`, of `bytes`: everything of it that is owed has been added.
    /// One at or below the newest is a replay, complete already, and changes nothing (INV8).
    pub(crate) fn processed(&mut self, commit: Lsn, bytes: u64) {
        if commit <= self.newest {
            return;
        }
        self.newest = commit;
        self.bytes_processed += bytes;
        self.commits.push_back(Commit { at: commit, bytes_through: self.bytes_processed });
    }

    /// Moves the frontier to the last processed commit below the root and at or below `bound`, the
    /// log's durable commit. The new frontier, if it moved.
    ///
    /// With nothing owed it is the last commit *processed*, never `bound` itself (R13).
    pub(crate) fn advance(&mut self, bound: Lsn) -> Option<Lsn> {
        let limit = self.owed.lowest().map_or(bound, |root| bound.min(root.previous()));
        if self.commits.front()?.at > limit {
            return None;
        }
        let reached = self.commits.partition_point(|commit| commit.at <= limit);
        let last = self.commits.drain(..reached).next_back()?;
        self.frontier = last.at;
        self.bytes_flushed = last.bytes_through;
        if self.commits.capacity() > COMMITS_KEPT.max(8 * self.commits.len()) {
            self.commits.shrink_to(COMMITS_KEPT.max(2 * self.commits.len()));
        }
        Some(last.at)
    }

    /// The last commit at or below which the shard owes nothing.
    pub(crate) fn frontier(&self) -> Lsn {
        self.frontier
    }

    /// Bytes of the processed commits above the frontier.
    pub(crate) fn unflushed_bytes(&self) -> u64 {
        self.bytes_processed - self.bytes_flushed
    }

    /// The number of processed commits above the frontier.
    pub(crate) fn unflushed_commits(&self) -> u64 {
        self.commits.len() as u64
    }

    /// Bytes of the processed commits at or above `from` and above the frontier: what a shape pins
    /// that owes from there.
    pub(crate) fn pinned_bytes(&self, from: Lsn) -> u64 {
        let below = self.commits.partition_point(|commit| commit.at < from);
        let before = match below.checked_sub(1) {
            Some(last) => self.commits[last].bytes_through,
            None => self.bytes_flushed,
        };
        self.bytes_processed - before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lsn(n: u64) -> Lsn {
        Lsn::new(n)
    }

    #[test]
    fn a13_the_frontier_is_the_last_processed_commit_below_root_and_bound() {
        let mut tracker = Tracker::new(lsn(10));
        assert_eq!(tracker.advance(Lsn::MAX), None);
        tracker.owe(lsn(30), 2);
        for at in [20, 30, 40] {
            tracker.processed(lsn(at), at);
        }
        assert_eq!(tracker.advance(lsn(19)), None);
        assert_eq!(tracker.advance(Lsn::MAX), Some(lsn(20)));
        assert_eq!((tracker.unflushed_bytes(), tracker.pinned_bytes(lsn(31))), (70, 40));
        tracker.settle(lsn(30));
        assert_eq!(tracker.advance(Lsn::MAX), None);
        tracker.settle(lsn(30));
        assert_eq!(tracker.root(), None);
        assert_eq!(tracker.advance(lsn(35)), Some(lsn(30)));
        assert_eq!(tracker.advance(Lsn::MAX), Some(lsn(40)));
        assert_eq!((tracker.frontier(), tracker.unflushed_bytes()), (lsn(40), 0));
    }

    #[test]
    fn a_replayed_commit_changes_nothing() {
        let mut tracker = Tracker::new(lsn(10));
        tracker.processed(lsn(10), 5);
        tracker.processed(lsn(20), 5);
        tracker.processed(lsn(20), 5);
        assert_eq!(tracker.unflushed_bytes(), 5);
        assert_eq!(tracker.advance(Lsn::MAX), Some(lsn(20)));
    }

    #[test]
    fn f12_room_for_commits_is_given_back() {
        let mut tracker = Tracker::new(Lsn::ZERO);
        tracker.owe(lsn(1), 1);
        (1..200_000).for_each(|at| tracker.processed(lsn(at), 1));
        assert_eq!(tracker.advance(Lsn::MAX), None);
        tracker.settle(lsn(1));
        assert_eq!(tracker.advance(Lsn::MAX), Some(lsn(199_999)));
        assert!(tracker.commits.capacity() <= 2 * COMMITS_KEPT);
    }
}
