//! Oracle: the stream that a run publishes, and by a few lines what of it belongs to whom. It
//! shares no code with routing, delivery or the log.

use crate::words::{
    Column, Fragment, FragmentLimits, Lsn, Offset, Relation, ShapeDefinition, TableName,
    TransactionBuilder, Value,
};
use std::sync::Arc;

/// A small generator: splitmix64.
#[derive(Debug)]
pub(super) struct Rng(u64);

impl Rng {
    pub(super) fn new(seed: u64) -> Rng {
        Rng(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ z >> 31
    }

    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

/// The one table.
pub(super) fn items() -> Arc<Relation> {
    let columns = vec![Column::new("id", 20, true), Column::new("kind", 20, false)];
    Arc::new(Relation::new(16_384, table(), columns))
}

fn table() -> TableName {
    TableName::new("public", "items")
}

/// One transaction of inserts `(id, kind)`.
#[derive(Debug)]
pub(super) struct Transaction {
    pub(super) commit: Lsn,
    rows: Vec<(u64, u64)>,
}

impl Transaction {
    pub(super) fn stream(rng: &mut Rng, count: usize) -> Vec<Transaction> {
        let mut commit = 100;
        let transactions = (0..count).map(|_| {
            // Sometimes right at the end of the one before.
            commit += 1 + rng.below(3);
            let rows = (0..rng.below(6)).map(|_| (rng.below(12), rng.below(3))).collect();
            Transaction { commit: Lsn::new(commit), rows }
        });
        transactions.collect()
    }

    pub(super) fn end(&self) -> Lsn {
        self.commit.next()
    }

    /// The transaction, `changes_max` rows a fragment.
    pub(super) fn fragments(&self, changes_max: usize) -> Vec<Arc<Fragment>> {
        let limits = FragmentLimits { changes_max, ..FragmentLimits::default() };
        let mut builder = TransactionBuilder::new(7, self.commit).with_limits(limits);
        let (items, mut fragments) = (items(), Vec::new());
        for (id, kind) in &self.rows {
            if builder.is_full() {
                fragments.push(Arc::new(builder.cut()));
            }
            let (id, kind) = (id.to_string(), kind.to_string());
            let row = [Value::Text(id.as_bytes()), Value::Text(kind.as_bytes())];
            builder.insert(&items, row).unwrap();
        }
        // Now and then the commit comes alone.
        if builder.is_full() {
            fragments.push(Arc::new(builder.cut()));
        }
        fragments.push(Arc::new(builder.commit(self.end())));
        fragments
    }

    /// The offsets of the rows that `clause` takes.
    pub(super) fn offsets(&self, clause: Clause) -> impl Iterator<Item = Offset> {
        let taken = self.rows.iter().enumerate().filter(move |(_, row)| clause.takes(**row));
        taken.map(|(index, _)| Offset::new(self.commit, index as u64 * 2))
    }
}

/// A shape's clause.
#[derive(Clone, Copy, Debug)]
pub(super) enum Clause {
    All,
    Kind(u64),
    KindOrId(u64, u64),
}

impl Clause {
    pub(super) fn random(rng: &mut Rng) -> Clause {
        match rng.below(3) {
            0 => Clause::All,
            1 => Clause::Kind(rng.below(4)),
            _ => Clause::KindOrId(rng.below(3), rng.below(12)),
        }
    }

    fn takes(self, (id, kind): (u64, u64)) -> bool {
        match self {
            Clause::All => true,
            Clause::Kind(wanted) => kind == wanted,
            Clause::KindOrId(wanted, or) => kind == wanted || id == or,
        }
    }

    pub(super) fn definition(self) -> ShapeDefinition {
        let table = table();
        match self {
            Clause::All => ShapeDefinition::table(table),
            Clause::Kind(kind) => ShapeDefinition::filtered(table, &format!("kind = {kind}")),
            Clause::KindOrId(kind, id) => {
                ShapeDefinition::filtered(table, &format!("kind = {kind} OR id = {id}"))
            }
        }
    }
}
