//! Acks: how far the server may be told to forget.
//!
//! In: what was published, what the server says of its own position, and the engine's flushed LSN.
//! Out: one LSN that only rises. It is the end LSN of the last flushed commit, never more (INV1),
//! but for idle WAL (R13): where nothing published is unflushed and no transaction is open, it is
//! what the server's last keepalive named, since nothing of ours lies below that. Whoever sends it
//! raises the acknowledgement floor first.

use crate::words::Lsn;
use std::collections::VecDeque;

/// Commits that are remembered one by one. At more, every second one is forgotten: its LSN is then
/// acknowledged with its successor's, late and never early. 1 MiB.
const PENDING_MAX: usize = 65_536;

#[derive(Clone, Copy, Debug)]
struct Published {
    commit_lsn: Lsn,
    end_lsn: Lsn,
}

/// See the file's head.
#[derive(Debug)]
pub(crate) struct Acks {
    /// Rising; the newest published commit is always among them until it is flushed.
    pending: VecDeque<Published>,
    /// A transaction has begun whose commit is not published.
    open: bool,
    /// The highest position that the server named in this connection.
    idle: Lsn,
    /// The last commit that was published.
    newest: Lsn,
    allowed: Lsn,
}

impl Acks {
    /// Nothing but `confirmed`, which the server has been told before, is acknowledged.
    pub(crate) fn new(confirmed: Lsn) -> Acks {
        Acks {
            pending: VecDeque::new(),
            open: false,
            idle: Lsn::ZERO,
            newest: Lsn::ZERO,
            allowed: confirmed,
        }
    }

    /// A new connection starts at what the server has confirmed. A transaction that was open comes
    /// again, and so does the server's position.
    pub(crate) fn connected(&mut self, confirmed: Lsn) {
        self.open = false;
        self.idle = Lsn::ZERO;
        self.allowed = self.allowed.max(confirmed);
    }

    /// A transaction was received in part.
    pub(crate) fn begun(&mut self) {
        self.open = true;
    }

    /// The engine has accepted a transaction's commit.
    pub(crate) fn published(&mut self, commit_lsn: Lsn, end_lsn: Lsn) {
        self.open = false;
        // What is sent again after a reconnect is pending already.
        if self.pending.back().is_some_and(|newest| newest.commit_lsn >= commit_lsn) {
            return;
        }
        self.newest = self.newest.max(commit_lsn);
        if self.pending.len() >= PENDING_MAX {
            self.thin();
        }
        self.pending.push_back(Published { commit_lsn, end_lsn });
    }

    /// The server has sent everything that it has before `wal_end`.
    pub(crate) fn keepalive(&mut self, wal_end: Lsn) {
        self.idle = self.idle.max(wal_end);
    }

    /// What may be acknowledged when everything through the commit at `flushed` is flushed.
    pub(crate) fn allowed(&mut self, flushed: Lsn) -> Lsn {
        while let Some(oldest) = self.pending.front()
            && oldest.commit_lsn <= flushed
        {
            self.allowed = self.allowed.max(oldest.end_lsn);
            self.pending.pop_front();
        }
        if self.pending.is_empty() && !self.open {
            self.allowed = self.allowed.max(self.idle);
        }
        self.allowed
    }

    /// Commits that are published and not known to be flushed, about.
    pub(crate) fn pending(&self) -> usize {
        self.pending.len()
    }

    /// The last commit that was published.
    pub(crate) fn newest(&self) -> Lsn {
        self.newest
    }

    /// How far the server said that it has come.
    pub(crate) fn server(&self) -> Lsn {
        self.idle
    }

    /// Forgets every second commit, never the newest.
    fn thin(&mut self) {
        let newest = self.pending.len() - 1;
        let mut index = 0;
        self.pending.retain(|_| {
            let keep = (newest - index).is_multiple_of(2);
            index += 1;
            keep
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lsn(position: u64) -> Lsn {
        Lsn::new(position)
    }

    #[test]
    fn a_flushed_commit_s_end_is_acknowledged_and_nothing_beyond_it() {
        let mut acks = Acks::new(lsn(5));
        assert_eq!(acks.allowed(Lsn::ZERO), lsn(5));
        for commit in [10, 20, 30] {
            acks.begun();
            acks.published(lsn(commit), lsn(commit + 3));
        }
        assert_eq!(acks.allowed(lsn(9)), lsn(5));
        assert_eq!(acks.allowed(lsn(20)), lsn(23));
        assert_eq!(acks.allowed(lsn(29)), lsn(23));
        assert_eq!(acks.allowed(lsn(1000)), lsn(33));
    }

    #[test]
    fn b01_a_keepalive_between_commit_and_flush_acknowledges_nothing() {
        let mut acks = Acks::new(lsn(5));
        acks.begun();
        acks.keepalive(lsn(40));
        assert_eq!(acks.allowed(lsn(5)), lsn(5), "a transaction is open");
        acks.published(lsn(50), lsn(53));
        acks.keepalive(lsn(60));
        assert_eq!(acks.allowed(lsn(49)), lsn(5), "its commit is not flushed");
        assert_eq!(acks.allowed(lsn(50)), lsn(60), "now the idle WAL after it goes too");
    }

    #[test]
    fn b02_idle_wal_is_acknowledged_when_nothing_is_owed() {
        let mut acks = Acks::new(lsn(5));
        acks.keepalive(lsn(100));
        acks.keepalive(lsn(90));
        assert_eq!(acks.allowed(Lsn::ZERO), lsn(100));
    }

    #[test]
    fn a_new_connection_forgets_the_open_transaction_and_the_server_s_position() {
        let mut acks = Acks::new(lsn(5));
        acks.published(lsn(10), lsn(13));
        acks.begun();
        acks.keepalive(lsn(30));
        acks.connected(lsn(5));
        acks.published(lsn(10), lsn(13));
        assert_eq!(acks.pending(), 1);
        assert_eq!(acks.allowed(lsn(10)), lsn(13));
        acks.begun();
        acks.connected(lsn(13));
        acks.keepalive(lsn(40));
        assert_eq!(acks.allowed(lsn(10)), lsn(40), "of a new slot it may never come again");
    }

    proptest! {
        /// Whatever is forgotten to save memory: never early, and complete in the end.
        #[test]
        fn it_never_passes_an_unflushed_commit(
            steps in prop::collection::vec((0..4_u8, 1..9_u64), 1..200),
        ) {
            let (mut acks, mut all) = (Acks::new(Lsn::ZERO), Vec::new());
            let (mut position, mut open, mut flushed) = (1, false, 0);
            for (kind, by) in steps {
                match kind {
                    0 => { acks.begun(); open = true; }
                    1 => {
                        position += by;
                        acks.published(lsn(position), lsn(position + 1));
                        all.push(position);
                        (open, position) = (false, position + 1);
                    }
                    2 => { position += by; acks.keepalive(lsn(position)); }
                    _ => flushed += by,
                }
                if flushed % 3 == 0 { acks.thin_for_test(); }
                let allowed = acks.allowed(lsn(flushed)).as_u64();
                if let Some(owed) = all.iter().find(|&&commit| commit > flushed) {
                    prop_assert!(allowed <= *owed, "{} passes {}", allowed, owed);
                }
                prop_assert!(allowed <= position);
            }
            let newest = all.last().map_or(0, |commit| commit + 1);
            let allowed = acks.allowed(Lsn::MAX).as_u64();
            prop_assert!(allowed >= newest && (open || acks.pending() == 0));
        }
    }

    impl Acks {
        fn thin_for_test(&mut self) {
            if !self.pending.is_empty() {
                self.thin();
            }
        }
    }

    #[test]
    fn memory_is_bounded_and_the_newest_commit_is_kept() {
        let mut acks = Acks::new(Lsn::ZERO);
        let count = PENDING_MAX as u64 * 3;
        for commit in 1..=count {
            acks.published(lsn(commit * 2), lsn(commit * 2 + 1));
        }
        assert!(acks.pending() <= PENDING_MAX);
        assert!(acks.allowed(lsn(count)) <= lsn(count + 1));
        assert_eq!(acks.allowed(lsn(count * 2)), lsn(count * 2 + 1));
    }
}
