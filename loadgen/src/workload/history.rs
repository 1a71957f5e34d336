//! History: which transactions were committed, in which order and where. The oracle and the figures
//! go by it.
//!
//! Loadgen's own transactions are committed in the order of their numbers, at the workload's own
//! LSNs. What several connections write into a server is committed in an order that only the server
//! knows; its history is read from its WAL, past the engine.

use super::Workload;
use walfan::Lsn;

/// A transaction that a server has committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(feature = "postgres"), allow(dead_code, reason = "only a server's are recorded"))]
pub(crate) struct Commit {
    pub(crate) lsn: Lsn,
    /// The workload's number.
    pub(crate) transaction: u64,
    /// When its writing began, in microseconds of the run's clock.
    pub(crate) sent_us: u64,
    /// Changes of the commits before it.
    pub(crate) changes_before: u64,
}

/// See the file's head. Commits are counted from 0.
#[derive(Clone, Debug)]
pub(crate) struct History {
    workload: Workload,
    transactions: u64,
    /// In the order of their LSNs; `None`: in the order of their numbers.
    recorded: Option<Vec<Commit>>,
}

impl History {
    /// The first `transactions` transactions of `workload`, in the order of their numbers.
    pub(crate) fn numbered(workload: &Workload, transactions: u64) -> History {
        History { workload: workload.clone(), transactions, recorded: None }
    }

    /// What a server has committed, in the order of the LSNs. Sets how many changes came before.
    #[cfg_attr(not(feature = "postgres"), allow(dead_code, reason = "a server's history"))]
    pub(crate) fn recorded(workload: &Workload, mut commits: Vec<Commit>) -> History {
        let mut changes = 0;
        for commit in &mut commits {
            commit.changes_before = changes;
            changes += u64::from(workload.changes_of(commit.transaction));
        }
        let transactions = commits.len() as u64;
        History { workload: workload.clone(), transactions, recorded: Some(commits) }
    }

    pub(crate) fn workload(&self) -> &Workload {
        &self.workload
    }

    /// How many transactions were committed.
    pub(crate) fn transactions(&self) -> u64 {
        self.transactions
    }

    /// What a server has committed; `None` for loadgen's own transactions.
    pub(crate) fn as_recorded(&self) -> Option<&[Commit]> {
        self.recorded.as_deref()
    }

    /// The LSN of commit number `commit`, and the number of its transaction.
    pub(crate) fn commit(&self, commit: u64) -> (Lsn, u64) {
        match &self.recorded {
            None => (Workload::lsn(commit), commit),
            Some(commits) => {
                let commit = commits[commit as usize];
                (commit.lsn, commit.transaction)
            }
        }
    }

    /// The LSN of the last commit; zero if there is none.
    pub(crate) fn last(&self) -> Lsn {
        self.transactions.checked_sub(1).map_or(Lsn::ZERO, |last| self.commit(last).0)
    }

    /// Changes of the first `commits` commits.
    pub(crate) fn changes_through(&self, commits: u64) -> u64 {
        let Some(recorded) = &self.recorded else {
            return self.workload.changes_through(commits);
        };
        match recorded.get(commits as usize) {
            Some(next) => next.changes_before,
            None => recorded.last().map_or(0, |last| {
                last.changes_before + u64::from(self.workload.changes_of(last.transaction))
            }),
        }
    }

    /// The commit of change number `change` of the whole run, and the change's index in it.
    pub(crate) fn place_of(&self, change: u64) -> (u64, u32) {
        let Some(recorded) = &self.recorded else { return self.workload.place_of(change) };
        // The first commit begins with change 0, so that there is one before the point.
        let after = recorded.partition_point(|commit| commit.changes_before <= change);
        let commit = after.saturating_sub(1);
        (commit as u64, (change - recorded[commit].changes_before) as u32)
    }
}

/// How many of `commits` lie at or below `lsn`.
pub(crate) fn commits_through(commits: &[Commit], lsn: Lsn) -> u64 {
    commits.partition_point(|commit| commit.lsn <= lsn) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Scenario;

    #[test]
    fn changes_are_found_in_the_order_of_commits() {
        let workload = Workload { scenario: Scenario::Crash, shapes: 10, seed: 1, changes: 1 };
        // Transaction 7 is a large one.
        let commit = |(lsn, transaction)| {
            let lsn = Lsn::new(lsn);
            Commit { lsn, transaction, sent_us: 0, changes_before: 0 }
        };
        let commits = [(10, 1), (30, 7), (31, 0)].map(commit);
        let history = History::recorded(&workload, commits.to_vec());
        assert_eq!(history.transactions(), 3);
        assert_eq!((0..4).map(|n| history.changes_through(n)).collect::<Vec<_>>(), [0, 1, 3, 4]);
        let places: Vec<_> = (0..4).map(|change| history.place_of(change)).collect();
        assert_eq!(places, [(0, 0), (1, 0), (1, 1), (2, 0)]);
        assert_eq!((history.commit(1), history.last()), ((Lsn::new(30), 7), Lsn::new(31)));
        let commits = history.as_recorded().unwrap();
        let through: Vec<_> =
            [9, 10, 30, 99].map(|lsn| commits_through(commits, Lsn::new(lsn))).into();
        assert_eq!(through, [0, 1, 2, 3]);
    }

    #[test]
    fn loadgen_s_own_transactions_are_committed_as_they_are_numbered() {
        let workload = Workload { scenario: Scenario::Crash, shapes: 10, seed: 1, changes: 2 };
        let history = History::numbered(&workload, 20);
        assert_eq!(history.last(), Workload::lsn(19));
        assert_eq!(history.changes_through(20), 42);
        assert_eq!(history.place_of(41), (19, 1));
        assert_eq!(History::numbered(&workload, 0).last(), Lsn::ZERO);
    }
}
