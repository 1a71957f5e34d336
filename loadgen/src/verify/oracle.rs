//! Oracle: which shape was to get which changes, counted again from the workload's numbers and the
//! history of commits alone. Changes are numbered through the whole run, in the order of commits; a
//! shape's changes are a rising list of numbers.

use crate::consumer::trace;
use crate::scenario::Scenario;
use crate::workload::{History, PRICES, Workload};
use walfan::{Lsn, Offset};

/// Changes that many shapes, or one, are to get: how many, and the sum of their traces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Share {
    pub(crate) changes: u64,
    pub(crate) traces: u64,
    /// The last commit with one of them.
    pub(crate) last: Lsn,
}

impl Share {
    fn add(&mut self, other: Share) {
        self.changes += other.changes;
        self.traces = self.traces.wrapping_add(other.traces);
        self.last = self.last.max(other.last);
    }
}

/// See the file's head.
#[derive(Debug)]
pub(crate) struct Oracle {
    history: History,
    changes: u64,
    /// By target: the only one (fanout), a price, with all lower ones (scatter),
    /// a shape (disjoint).
    shares: Vec<Share>,
    /// Each change's price (scatter).
    prices: Vec<u32>,
    /// The changes of each target, one after another, and where each target's begin (disjoint).
    by_shape: Vec<u32>,
    starts: Vec<usize>,
}

impl Oracle {
    /// Counts what `history` has.
    pub(crate) fn new(history: History) -> Oracle {
        let workload = history.workload().clone();
        let targets = match workload.scenario {
            Scenario::Fanout | Scenario::Crash => 1,
            Scenario::Scatter => PRICES as usize,
            Scenario::Disjoint => workload.shapes as usize,
        };
        let mut shares = vec![Share::default(); targets];
        let mut list = Vec::new();
        for commit in 0..history.transactions() {
            let (lsn, transaction) = history.commit(commit);
            for index in 0..workload.changes_of(transaction) {
                let target = workload.target(transaction, index);
                let share = Share { changes: 1, traces: trace(offset(lsn, index)), last: lsn };
                shares[target as usize].add(share);
                if !workload.scenario.matches_all() {
                    list.push(target);
                }
            }
        }
        let changes = history.changes_through(history.transactions());
        let (prices, by_shape, starts) = (Vec::new(), Vec::new(), Vec::new());
        let mut oracle = Oracle { history, changes, shares, prices, by_shape, starts };
        match workload.scenario {
            Scenario::Scatter => {
                let mut sum = Share::default();
                for share in &mut oracle.shares {
                    sum.add(*share);
                    *share = sum;
                }
                oracle.prices = list;
            }
            Scenario::Disjoint => oracle.sort_by_shape(&list),
            Scenario::Fanout | Scenario::Crash => {}
        }
        oracle
    }

    /// Sorts change numbers by their shape, by counting.
    fn sort_by_shape(&mut self, list: &[u32]) {
        let mut next = 0;
        for share in &self.shares {
            self.starts.push(next);
            next += share.changes as usize;
        }
        self.starts.push(next);
        let mut places = self.starts.clone();
        self.by_shape = vec![0; list.len()];
        for (change, shape) in list.iter().enumerate() {
            let place = &mut places[*shape as usize];
            // A run has far less than 2^32 changes: an hour at a million a second.
            self.by_shape[*place] = change as u32;
            *place += 1;
        }
    }

    /// The commits that it goes by.
    pub(crate) fn history(&self) -> &History {
        &self.history
    }

    fn workload(&self) -> &Workload {
        self.history.workload()
    }

    /// What shape number `shape` was to get.
    pub(crate) fn share(&self, shape: u32) -> Share {
        match self.workload().scenario {
            Scenario::Fanout | Scenario::Crash => self.shares[0],
            Scenario::Disjoint => self.shares[shape as usize],
            Scenario::Scatter => self.shares[self.workload().bound_of(shape) as usize - 1],
        }
    }

    /// How many deliveries there were to be.
    pub(crate) fn deliveries(&self) -> u64 {
        match self.workload().scenario {
            Scenario::Fanout | Scenario::Crash => self.changes * u64::from(self.workload().shapes),
            Scenario::Disjoint => self.changes,
            Scenario::Scatter => {
                let shapes = 0..self.workload().shapes;
                shapes.map(|shape| self.share(shape).changes).sum()
            }
        }
    }

    /// What shape number `shape` was to get, in order, one after another.
    pub(crate) fn walk(&self, shape: u32) -> Walk {
        Walk { shape, bound: self.workload().bound_of(shape), next: 0 }
    }
}

/// A change that a shape was to get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Expected {
    pub(crate) offset: Offset,
    pub(crate) id: u64,
}

/// Where somebody is in what a shape was to get.
#[derive(Clone, Debug)]
pub(crate) struct Walk {
    shape: u32,
    /// What it wants costs less (scatter).
    bound: u32,
    /// A change's number, or in disjoint a place in the shape's own list.
    next: u64,
}

impl Walk {
    /// The next change, or `None` after the last.
    pub(crate) fn next(&mut self, oracle: &Oracle) -> Option<Expected> {
        let workload = oracle.workload();
        if workload.scenario == Scenario::Scatter {
            let rest = oracle.prices.get(self.next as usize..)?;
            let skipped = rest.iter().position(|price| *price < self.bound)?;
            self.next += skipped as u64;
        }
        let change = if workload.scenario == Scenario::Disjoint {
            let shape = self.shape as usize;
            let own = &oracle.by_shape[oracle.starts[shape]..oracle.starts[shape + 1]];
            u64::from(*own.get(self.next as usize)?)
        } else if self.next < oracle.changes {
            self.next
        } else {
            return None;
        };
        self.next += 1;
        let (commit, index) = oracle.history.place_of(change);
        let (lsn, transaction) = oracle.history.commit(commit);
        Some(Expected { offset: offset(lsn, index), id: workload.id(transaction, index) })
    }
}

/// Positions in a transaction go in steps of two.
fn offset(commit: Lsn, index: u32) -> Offset {
    Offset::new(commit, 2 * u64::from(index))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn oracle(scenario: Scenario) -> Oracle {
        let workload = Workload { scenario, shapes: 50, seed: 3, changes: 2 };
        Oracle::new(History::numbered(&workload, 200))
    }

    #[test]
    fn sums_and_walks_agree_in_each_scenario() {
        for scenario in Scenario::ALL {
            let oracle = oracle(scenario);
            let mut deliveries = 0;
            for shape in 0..50 {
                let mut walk = oracle.walk(shape);
                let mut sum = Share::default();
                let mut before = Offset::ZERO;
                while let Some(expected) = walk.next(&oracle) {
                    assert!(expected.offset > before, "{scenario:?}");
                    before = expected.offset;
                    let (traces, last) = (trace(before), before.commit);
                    sum.add(Share { changes: 1, traces, last });
                }
                assert_eq!(sum, oracle.share(shape), "{scenario:?}");
                deliveries += sum.changes;
            }
            assert_eq!(deliveries, oracle.deliveries(), "{scenario:?}");
        }
    }

    #[test]
    fn each_scenario_reaches_as_many_shapes_as_it_says() {
        assert_eq!(oracle(Scenario::Fanout).deliveries(), 400 * 50);
        assert_eq!(oracle(Scenario::Crash).deliveries(), (200 * 2 + 25) * 50);
        assert_eq!(oracle(Scenario::Disjoint).deliveries(), 400);
        let half = oracle(Scenario::Scatter).deliveries();
        assert!((400 * 20..400 * 30).contains(&half), "{half}");
    }
}
