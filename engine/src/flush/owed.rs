//! Owed: what one shape has been sent, has flushed, and owes from.
//!
//! Commits and reports flow in; what the shard's tracker is to count flows out. A shape is counted
//! once, at one position (`from`), however many commits it owes. Whether it counts at all (a shape
//! whose log alone owes does not) is the caller's business: these words are kept in either case.

use crate::words::Lsn;

/// What a step of [`Owed`] changes in the tracker. Hand it to `Tracker::apply`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a change that does not reach the tracker freezes the LSN or lets it pass too early"]
pub(crate) enum Moved {
    /// The count stays as it is.
    Nothing,
    /// The shape owed from here, and owes nothing now.
    Settled(Lsn),
    /// The shape owed nothing, and owes from here now.
    Owes(Lsn),
    /// The shape owed from `from`, and owes from `to` now.
    Shifted { from: Lsn, to: Lsn },
}

/// A shape's place between what it was sent and what it has flushed. Kept in every state of its
/// consumer: death and lag change nothing here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Owed {
    /// The last commit that was routed to the shape.
    pub(crate) sent: Lsn,
    /// Through where its consumer has reported; it may be beyond `sent`.
    pub(crate) flushed: Lsn,
    /// From where it owes: never above its oldest unflushed commit. [`Lsn::ZERO`] owes nothing.
    pub(crate) from: Lsn,
}

impl Owed {
    /// A shape that has flushed everything through `start`.
    pub(crate) fn new(start: Lsn) -> Owed {
        Owed { sent: start, flushed: start, from: Lsn::ZERO }
    }

    /// Whether the shape owes anything.
    pub(crate) fn owes(&self) -> bool {
        self.from != Lsn::ZERO
    }

    /// `commit` is routed to the shape. True: it newly owes from there, and the caller adds it to
    /// its one `Tracker::owe(commit, n)` before the delivery can be reported.
    #[inline]
    #[must_use]
    pub(crate) fn sent(&mut self, commit: Lsn) -> bool {
        self.sent = self.sent.max(commit);
        let newly = !self.owes() && self.flushed < commit;
        if newly {
            self.from = commit;
        }
        newly
    }

    /// The consumer has flushed everything through `flushed`. Reports are cumulative, and may come
    /// early, late or twice: only the highest counts, and caught up is `>=` (INV4).
    #[inline]
    pub(crate) fn report(&mut self, flushed: Lsn) -> Moved {
        self.flushed = self.flushed.max(flushed);
        if !self.owes() || self.flushed < self.from {
            return Moved::Nothing;
        }
        // The next commit that was sent is somewhere above; this is a lower bound of it, so never
        // early, and late by at most this shape's next report.
        self.owe_from(if self.flushed >= self.sent { Lsn::ZERO } else { self.flushed.next() })
    }

    /// A new incarnation resumes after `resume`. That is a report; one below the last report takes
    /// it back (R9), down to `frontier`: what was already confirmed can no longer be owed.
    pub(crate) fn take_back(&mut self, resume: Lsn, frontier: Lsn) -> Moved {
        if resume >= self.flushed {
            return self.report(resume);
        }
        self.flushed = resume;
        let complete = resume.max(frontier);
        self.owe_from(if self.sent > complete { complete.next() } else { Lsn::ZERO })
    }

    /// The shape is removed or invalidated: what it owed passes to the batch that holds the record,
    /// whose sync settles it in the tracker (R3).
    #[must_use = "the batch that holds the record settles this position"]
    pub(crate) fn release(&mut self) -> Option<Lsn> {
        let from = std::mem::replace(&mut self.from, Lsn::ZERO);
        (from != Lsn::ZERO).then_some(from)
    }

    fn owe_from(&mut self, to: Lsn) -> Moved {
        let from = std::mem::replace(&mut self.from, to);
        match (from, to) {
            _ if from == to => Moved::Nothing,
            (Lsn::ZERO, to) => Moved::Owes(to),
            (from, Lsn::ZERO) => Moved::Settled(from),
            (from, to) => Moved::Shifted { from, to },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lsn(n: u64) -> Lsn {
        Lsn::new(n)
    }

    #[test]
    fn a08_a_report_in_between_leaves_a_lower_bound_and_one_past_the_end_settles() {
        let mut owed = Owed::new(lsn(5));
        assert!(owed.sent(lsn(10)) && !owed.sent(lsn(20)) && !owed.sent(lsn(30)));
        assert_eq!(owed.report(lsn(9)), Moved::Nothing);
        assert_eq!(owed.report(lsn(10)), Moved::Shifted { from: lsn(10), to: lsn(11) });
        assert_eq!(owed.report(lsn(10)), Moved::Nothing);
        assert_eq!(owed.report(lsn(31)), Moved::Settled(lsn(11)));
        assert!(!owed.owes());
    }

    #[test]
    fn what_was_reported_early_is_never_owed() {
        let mut owed = Owed::new(Lsn::ZERO);
        assert_eq!(owed.report(lsn(15)), Moved::Nothing);
        assert!(!owed.sent(lsn(15)) && owed.sent(lsn(16)));
    }

    #[test]
    fn a_resume_offset_below_the_last_report_takes_it_back_but_not_below_the_frontier() {
        let mut owed = Owed::new(Lsn::ZERO);
        assert!(owed.sent(lsn(10)) && !owed.sent(lsn(20)));
        assert_eq!(owed.report(lsn(20)), Moved::Settled(lsn(10)));
        let reported = owed;
        assert_eq!(owed.take_back(lsn(20), lsn(4)), Moved::Nothing);
        assert_eq!(owed.take_back(lsn(12), lsn(4)), Moved::Owes(lsn(13)));
        assert_eq!(owed.take_back(lsn(3), lsn(4)), Moved::Shifted { from: lsn(13), to: lsn(5) });
        assert_eq!(owed.flushed, lsn(3));
        let mut owed = reported;
        assert_eq!(owed.take_back(lsn(3), lsn(20)), Moved::Nothing);
        assert_eq!(owed.release(), None);
    }

    #[test]
    fn release_hands_the_position_over_once() {
        let mut owed = Owed::new(Lsn::ZERO);
        assert!(owed.sent(lsn(10)));
        assert_eq!(owed.release(), Some(lsn(10)));
        assert_eq!(owed.release(), None);
    }
}
