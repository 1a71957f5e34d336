//! Workload: what a run writes, as a pure function of the scenario, the seed and a transaction's
//! number. The source publishes it, and the oracle counts it again from the same numbers; nothing
//! of it comes back from the engine.

mod history;
mod mark;
mod row;

pub(crate) use history::{Commit, History, commits_through};
#[cfg(feature = "postgres")]
pub(crate) use mark::marked_payload;
pub(crate) use mark::read_mark;
pub(crate) use row::RowWriter;

use crate::scenario::Scenario;
use std::sync::Arc;
use walfan::{Column, Lsn, Relation, ShapeDefinition, TableName};

/// Prices of the scatter scenario: so many that hardly two shapes have the same bound.
pub(crate) const PRICES: u32 = 1 << 20;
/// The column of a row's payload.
pub(crate) const PAYLOAD_COLUMN: usize = 4;
/// In the crash scenario each transaction whose number ends a stretch of this many has one change
/// more, in a fragment of its own, so that consumers can die in the middle of a transaction.
const LARGE_EVERY: u64 = 8;
/// Changes of one fragment, where that has no other reason.
const FRAGMENT_CHANGES: usize = 100;
/// The first commit LSN is one step after this.
const LSN_BASE: u64 = 0x1_0000_0000;
/// From one commit LSN to the next.
const LSN_STEP: u64 = 0x100;
/// The length of a commit record.
const COMMIT_RECORD: u64 = 0x30;

/// How the number of a transaction is found from what comes out of the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Numbering {
    /// From its commit LSN, which is the workload's own.
    ByLsn,
    /// From its rows, which are marked with it: LSNs are a server's.
    InRows,
}

/// What the columns of a row hold that definitions look at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Columns {
    pub(crate) id: u64,
    pub(crate) kind: &'static str,
    pub(crate) price: u32,
    pub(crate) name: u32,
}

/// See the file's head.
#[derive(Clone, Debug)]
pub(crate) struct Workload {
    pub(crate) scenario: Scenario,
    pub(crate) shapes: u32,
    pub(crate) seed: u64,
    /// Changes of an ordinary transaction.
    pub(crate) changes: u32,
}

impl Workload {
    /// The name of the one table that all scenarios write to.
    pub(crate) fn table() -> TableName {
        TableName::new("loadgen", "items")
    }

    /// That table.
    pub(crate) fn relation() -> Arc<Relation> {
        const INT8: u32 = 20;
        const INT4: u32 = 23;
        const TEXT: u32 = 25;
        let columns = vec![
            Column::new("id", INT8, true),
            Column::new("kind", TEXT, false),
            Column::new("price", INT4, false),
            Column::new("name", TEXT, false),
            Column::new("payload", TEXT, false),
        ];
        Arc::new(Relation::new(16_384, Workload::table(), columns))
    }

    /// The definition of shape number `shape`.
    pub(crate) fn definition(&self, shape: u32) -> ShapeDefinition {
        let clause = match self.scenario {
            Scenario::Fanout | Scenario::Crash => format!("kind = 'hot' OR id = {shape}"),
            Scenario::Disjoint => format!("name = '{shape}'"),
            Scenario::Scatter => format!("price < {}", self.bound_of(shape)),
        };
        ShapeDefinition::filtered(Workload::table(), &clause)
    }

    /// Shape number `shape` wants what costs less (scatter). Drawn at random, so that those who get
    /// a change lie scattered among all.
    pub(crate) fn bound_of(&self, shape: u32) -> u32 {
        (mix(self.seed ^ 0x7A65 << 40 ^ u64::from(shape)) % u64::from(PRICES)) as u32 + 1
    }

    /// How many changes transaction number `transaction` has.
    pub(crate) fn changes_of(&self, transaction: u64) -> u32 {
        self.changes + u32::from(self.is_large(transaction))
    }

    /// Changes in one fragment of this transaction.
    pub(crate) fn fragment_changes(&self, transaction: u64) -> usize {
        let changes = if self.is_large(transaction) { self.changes as usize } else { usize::MAX };
        changes.min(FRAGMENT_CHANGES)
    }

    /// Changes in one fragment where a server's transactions become fragments: so few that a large
    /// transaction has two.
    #[cfg(feature = "postgres")]
    pub(crate) fn fragment_changes_max(&self) -> usize {
        self.fragment_changes(LARGE_EVERY - 1)
    }

    fn is_large(&self, transaction: u64) -> bool {
        self.scenario == Scenario::Crash && transaction % LARGE_EVERY == LARGE_EVERY - 1
    }

    /// Whether some transaction has more than one change.
    pub(crate) fn has_middles(&self) -> bool {
        self.changes > 1 || self.scenario == Scenario::Crash
    }

    /// Changes in the first `transactions` transactions.
    pub(crate) fn changes_through(&self, transactions: u64) -> u64 {
        let ordinary = transactions * u64::from(self.changes);
        if self.scenario == Scenario::Crash {
            ordinary + transactions / LARGE_EVERY
        } else {
            ordinary
        }
    }

    /// The transaction and the index in it of change number `change` of the whole run.
    pub(crate) fn place_of(&self, change: u64) -> (u64, u32) {
        let ordinary = u64::from(self.changes);
        if self.scenario != Scenario::Crash {
            return (change / ordinary, (change % ordinary) as u32);
        }
        let stretch = self.changes_through(LARGE_EVERY);
        let (before, in_stretch) = (change / stretch * LARGE_EVERY, change % stretch);
        let transaction = (in_stretch / ordinary).min(LARGE_EVERY - 1);
        (before + transaction, (in_stretch - transaction * ordinary) as u32)
    }

    /// The price (scatter), or the shape (disjoint), that change `index` of a transaction is for.
    pub(crate) fn target(&self, transaction: u64, index: u32) -> u32 {
        let targets = match self.scenario {
            Scenario::Fanout | Scenario::Crash => return 0,
            Scenario::Scatter => PRICES,
            Scenario::Disjoint => self.shapes,
        };
        (self.draw(transaction, index) % u64::from(targets)) as u32
    }

    /// The `id` that change `index` of a transaction inserts.
    pub(crate) fn id(&self, transaction: u64, index: u32) -> u64 {
        // The high bits: the target took the low ones.
        (self.draw(transaction, index) >> 32) % u64::from(self.shapes)
    }

    /// What change `index` of a transaction inserts, beside its payload.
    pub(crate) fn columns(&self, transaction: u64, index: u32) -> Columns {
        let target = self.target(transaction, index);
        Columns {
            id: self.id(transaction, index),
            kind: if self.scenario.matches_all() { "hot" } else { "cold" },
            price: if self.scenario == Scenario::Scatter { target } else { 0 },
            name: target,
        }
    }

    fn draw(&self, transaction: u64, index: u32) -> u64 {
        mix(self.seed ^ mix(transaction << 8 ^ u64::from(index)))
    }

    /// The commit LSN of transaction number `transaction`.
    pub(crate) fn lsn(transaction: u64) -> Lsn {
        Lsn::new(LSN_BASE + (transaction + 1) * LSN_STEP)
    }

    /// The end LSN of transaction number `transaction`.
    pub(crate) fn end_lsn(transaction: u64) -> Lsn {
        Lsn::new(Self::lsn(transaction).as_u64() + COMMIT_RECORD)
    }

    /// How many transactions commit at or below `lsn`; the last of them has this number minus one.
    pub(crate) fn transactions_through(lsn: Lsn) -> u64 {
        lsn.as_u64().saturating_sub(LSN_BASE) / LSN_STEP
    }
}

/// A well-mixed function of `value` (splitmix64).
pub(crate) fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let value = (value ^ value >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let value = (value ^ value >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ value >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workload(scenario: Scenario) -> Workload {
        Workload { scenario, shapes: 1_000, seed: 7, changes: 1 }
    }

    #[test]
    fn numbers_and_lsns_are_each_other_s_inverse() {
        assert_eq!(Workload::transactions_through(Lsn::ZERO), 0);
        for transaction in [0, 1, 77, 1 << 30] {
            let lsn = Workload::lsn(transaction);
            assert_eq!(Workload::transactions_through(lsn), transaction + 1);
            assert_eq!(
                Workload::transactions_through(Workload::end_lsn(transaction)),
                transaction + 1
            );
            let before = Lsn::new(lsn.as_u64() - 1);
            assert_eq!(Workload::transactions_through(before), transaction);
        }
    }

    #[test]
    fn shapes_of_scatter_have_bounds_of_their_own_over_all_prices() {
        let workload = workload(Scenario::Scatter);
        let mut bounds: Vec<u32> = (0..1_000).map(|shape| workload.bound_of(shape)).collect();
        let below_half = bounds.iter().filter(|bound| **bound <= PRICES / 2).count();
        assert!((400..600).contains(&below_half), "{below_half}");
        bounds.sort_unstable();
        bounds.dedup();
        assert!(bounds.len() > 990 && (1..=PRICES).contains(&bounds[0]));
        let clause = workload.definition(3).where_clause.unwrap();
        assert_eq!(&*clause, format!("price < {}", workload.bound_of(3)));
    }

    #[test]
    fn changes_are_counted_as_they_come() {
        for scenario in Scenario::ALL {
            let workload = workload(scenario);
            let mut sum = 0;
            for transaction in 0..100 {
                assert_eq!(workload.changes_through(transaction), sum);
                for index in 0..workload.changes_of(transaction) {
                    assert_eq!(workload.place_of(sum), (transaction, index));
                    sum += 1;
                }
            }
        }
    }
}
