//! Span: where the log's transactions lie in its bytes. The encoder and the recovery feed the same
//! machine with each fragment record; it tells which commits a batch completes, which part of an
//! open transaction it ends with, and which bytes a transaction that began again has made void.

use super::wire::Malformed;
use crate::words::{Lsn, Offset};
use std::ops::Range;

/// The head of a fragment record: all that matters to its place in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FragmentHead {
    pub(super) xid: u32,
    pub(super) commit: Lsn,
    /// Whether the source's fragment began its transaction.
    pub(super) begin: bool,
    /// Whether this is the first record of its transaction since the log was opened; the parts that
    /// an earlier process left of it are void then. (`begin` does not tell: the first fragment may
    /// have gone to nobody, and then it is not logged.)
    pub(super) opens: bool,
    /// The end of the commit record, if this is the transaction's last fragment.
    pub(super) end_lsn: Option<Lsn>,
    pub(super) changes: u32,
    /// The op index of the last change, if there is one.
    pub(super) last_op: u64,
}

impl FragmentHead {
    /// Where a reader stands that has taken the fragment.
    pub(super) fn last(&self) -> Offset {
        match self.end_lsn {
            Some(_) => Offset::commit_mark(self.commit),
            None => Offset::new(self.commit, self.last_op),
        }
    }
}

/// What a batch adds to the index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Summary {
    /// The first and the last commit of which the batch holds the commit record.
    pub(super) commits: Option<(Lsn, Lsn)>,
    /// The last position of the transaction that is open at the batch's end, if it is in the batch.
    pub(super) open: Option<Offset>,
    /// The bytes of fragments to skip. Rarely any.
    pub(super) void: Vec<Range<u64>>,
    /// Whether the transaction that was open before the batch is void.
    pub(super) voids_earlier: bool,
    /// Every commit at or below it is in the log through this batch, or has nothing in the log.
    pub(super) through: Lsn,
}

#[derive(Clone, Copy, Debug)]
struct Open {
    commit: Lsn,
    /// Where its first record starts.
    start: u64,
}

/// Follows the fragment records of one log.
#[derive(Debug, Default)]
pub(super) struct Tracker {
    open: Option<Open>,
    batch: Summary,
}

impl Tracker {
    /// Whether a record of this transaction is the first one. A source's second `begin` is none: an
    /// open transaction that is sent again goes on where it was (R2).
    pub(super) fn opens(&self, commit: Lsn) -> bool {
        self.open.is_none_or(|open| open.commit != commit)
    }

    /// What comes goes on with a transaction that was open before; nothing else is known of it.
    pub(super) fn carry(&mut self, commit: Lsn, start: u64) {
        self.open = Some(Open { commit, start });
    }

    /// Where the open transaction's first record starts.
    pub(super) fn open_from(&self) -> Option<u64> {
        self.open.map(|open| open.start)
    }

    /// The open transaction's commit LSN.
    pub(super) fn open_commit(&self) -> Option<Lsn> {
        self.open.map(|open| open.commit)
    }

    /// Takes the fragment record that starts at byte `position`.
    pub(super) fn record(&mut self, position: u64, head: &FragmentHead) -> Result<(), Malformed> {
        if head.opens {
            self.abandon(position);
            self.open = Some(Open { commit: head.commit, start: position });
        }
        if self.open.is_none_or(|open| open.commit != head.commit) {
            return Err(Malformed("a fragment goes on with a transaction that is not open"));
        }
        if head.end_lsn.is_some() {
            let first = self.batch.commits.map_or(head.commit, |(first, _)| first);
            self.batch.commits = Some((first, head.commit));
            self.passed(head.commit);
            self.open = None;
            self.batch.open = None;
        } else {
            self.batch.open = Some(head.last());
        }
        Ok(())
    }

    /// Voids what there is of the open transaction up to byte `end`.
    pub(super) fn abandon(&mut self, end: u64) {
        let Some(open) = self.open.take() else { return };
        self.batch.void.push(open.start..end);
        // Whether it was open when the batch began: nothing can have been completed since then.
        self.batch.voids_earlier |= self.batch.commits.is_none();
        self.batch.open = None;
    }

    /// Notes a commit of which nothing is in the log.
    pub(super) fn passed(&mut self, commit: Lsn) {
        self.batch.through = self.batch.through.max(commit);
    }

    /// The open transaction is committed, by a record that another tracker took.
    pub(super) fn committed(&mut self) {
        self.open = None;
    }

    /// What the batch adds; the next record belongs to the next batch.
    pub(super) fn take(&mut self) -> Summary {
        let next = Summary { through: self.batch.through, ..Summary::default() };
        std::mem::replace(&mut self.batch, next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(commit: u64, opens: bool, commits: bool) -> FragmentHead {
        let commit = Lsn::new(commit);
        let end_lsn = commits.then(|| commit.next());
        FragmentHead { xid: 1, commit, begin: false, opens, end_lsn, changes: 1, last_op: 4 }
    }

    #[test]
    fn an_opening_record_voids_the_open_transaction_and_nothing_else() {
        let mut tracker = Tracker::default();
        tracker.record(10, &head(5, true, true)).unwrap();
        tracker.record(20, &head(7, true, false)).unwrap();
        assert!(tracker.opens(Lsn::new(8)) && !tracker.opens(Lsn::new(7)));
        let first = tracker.take();
        assert_eq!(first.commits, Some((Lsn::new(5), Lsn::new(5))));
        assert_eq!(first.open, Some(Offset::new(Lsn::new(7), 4)));
        tracker.record(30, &head(7, true, false)).unwrap();
        tracker.record(40, &head(7, false, true)).unwrap();
        let second = tracker.take();
        assert_eq!(
            (second.void, second.voids_earlier),
            ([Range { start: 20, end: 30 }].into(), true)
        );
        assert_eq!((second.open, second.through), (None, Lsn::new(7)));
        assert!(tracker.record(50, &head(7, false, true)).is_err());
    }

    #[test]
    fn a_transaction_voided_in_its_own_batch_leaves_earlier_ones() {
        let mut tracker = Tracker::default();
        tracker.record(10, &head(7, true, false)).unwrap();
        tracker.take();
        tracker.record(20, &head(7, false, true)).unwrap();
        tracker.record(30, &head(9, true, false)).unwrap();
        tracker.record(40, &head(10, true, true)).unwrap();
        let batch = tracker.take();
        assert_eq!(
            (batch.void, batch.voids_earlier),
            ([Range { start: 30, end: 40 }].into(), false)
        );
    }
}
