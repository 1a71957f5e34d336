//! Oracle: the stream that a run publishes, and by a few lines what of it belongs to whom. It
//! shares no code with routing, delivery or the log.

use crate::words::{
    Column, Fragment, FragmentLimits, Lsn, Offset, Operation, Relation, ShapeDefinition, TableName,
    TransactionBuilder, Value,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A truncate, or a table that was altered, must leave the other table's shapes alone.
pub(super) const TABLES: usize = 2;
/// Few keys, so that they are used again.
const KEYS: u64 = 12;

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

/// `table`, after it was altered so often.
pub(super) fn relation(table: usize, version: u32) -> Arc<Relation> {
    let columns = vec![
        Column::new("id", 20, true),
        Column::new("kind", 20, false),
        Column::new(&format!("note_{version}"), 20, false),
    ];
    Arc::new(Relation::new(16_384 + table as u32, table_name(table), columns))
}

fn table_name(table: usize) -> TableName {
    TableName::new("public", &format!("table_{table}"))
}

/// A row: key, kind, note.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Row([u64; 3]);

#[derive(Clone, Copy, Debug)]
enum What {
    Insert(Row),
    Update(Row, Row),
    Delete(Row),
    Truncate,
}

#[derive(Debug)]
struct Change {
    table: usize,
    version: u32,
    relation: Arc<Relation>,
    what: What,
}

#[derive(Debug)]
pub(super) struct Transaction {
    pub(super) commit: Lsn,
    /// Numbers are given out at the beginning, and in no order of the commits.
    pub(super) xid: u64,
    changes: Vec<Change>,
}

/// A table while the stream is made up.
struct Table {
    version: u32,
    relation: Arc<Relation>,
    rows: BTreeMap<u64, Row>,
}

impl Table {
    /// A change that goes where the one before it went, as a rule.
    fn touch(&mut self) -> What {
        let old = self.rows.get(&0).copied();
        let Row([_, kind, note]) = old.unwrap_or(Row([0; 3]));
        let new = Row([0, kind, 1 - note]);
        self.rows.insert(0, new);
        old.map_or(What::Insert(new), |old| What::Update(old, new))
    }

    fn change(&mut self, rng: &mut Rng) -> What {
        let free: Vec<u64> = (0..KEYS).filter(|key| !self.rows.contains_key(key)).collect();
        let rows: Vec<Row> = self.rows.values().copied().collect();
        let new = |rng: &mut Rng, key| Row([key, rng.below(3), rng.below(2)]);
        let any = |rng: &mut Rng, all: usize| rng.below(all as u64) as usize;
        if rng.below(250) == 0 {
            self.rows.clear();
            return What::Truncate;
        }
        let kind = rng.below(8);
        if rows.is_empty() || (kind < 3 && !free.is_empty()) {
            let key = free[any(rng, free.len())];
            let row = new(rng, key);
            self.rows.insert(row.0[0], row);
            return What::Insert(row);
        }
        let old = rows[any(rng, rows.len())];
        self.rows.remove(&old.0[0]);
        if kind == 3 {
            return What::Delete(old);
        }
        let moves = kind == 4 && !free.is_empty();
        let key = if moves { free[any(rng, free.len())] } else { old.0[0] };
        let row = new(rng, key);
        self.rows.insert(key, row);
        What::Update(old, row)
    }
}

impl Transaction {
    pub(super) fn stream(rng: &mut Rng, count: usize) -> Vec<Transaction> {
        let new = |table| {
            let (version, rows) = (0, BTreeMap::new());
            Table { version, relation: relation(table, version), rows }
        };
        let mut tables: Vec<Table> = (0..TABLES).map(new).collect();
        // Sometimes right at the end of the one before.
        let gaps: Vec<u64> = (0..count).map(|_| 1 + rng.below(3)).collect();
        // From the first LSN that there is, or up to the last.
        let mut commit = match rng.below(4) {
            0 => 0,
            1 => u64::MAX - 1 - gaps.iter().sum::<u64>(),
            _ => 100,
        };
        let xids = xids(rng, count);
        let transactions = gaps.into_iter().zip(xids).map(|(gap, xid)| {
            commit += gap;
            // Several of one change each, to the same shapes, are handed over as one.
            let alike = rng.below(3) == 0;
            let changes = (0..if alike { 1 } else { rng.below(9) }).map(|_| {
                let table = if alike { 0 } else { rng.below(TABLES as u64) as usize };
                let altered = &mut tables[table];
                if rng.below(300) == 0 {
                    altered.version += 1;
                    altered.relation = relation(table, altered.version);
                }
                let what = if alike { altered.touch() } else { altered.change(rng) };
                let (version, relation) = (altered.version, Arc::clone(&altered.relation));
                Change { table, version, relation, what }
            });
            Transaction { commit: Lsn::new(commit), xid, changes: changes.collect() }
        });
        transactions.collect()
    }

    pub(super) fn end(&self) -> Lsn {
        self.commit.next()
    }

    /// The transaction, `changes_max` changes a fragment.
    pub(super) fn fragments(&self, changes_max: usize) -> Vec<Arc<Fragment>> {
        let limits = FragmentLimits { changes_max, ..FragmentLimits::default() };
        let mut builder = TransactionBuilder::new(self.xid as u32, self.commit).with_limits(limits);
        let mut fragments = Vec::new();
        for Change { relation, what, .. } in &self.changes {
            if builder.is_full() {
                fragments.push(Arc::new(builder.cut()));
            }
            let texts = |row: &Row| row.0.map(|value| value.to_string());
            match what {
                What::Insert(row) => builder.insert(relation, values(&texts(row))),
                What::Update(old, new) => {
                    builder.update(relation, values(&texts(old)), values(&texts(new)))
                }
                What::Delete(row) => builder.delete(relation, values(&texts(row))),
                What::Truncate => {
                    builder.truncate(relation);
                    Ok(())
                }
            }
            .unwrap();
        }
        // Now and then the commit comes alone.
        if builder.is_full() {
            fragments.push(Arc::new(builder.cut()));
        }
        fragments.push(Arc::new(builder.commit(self.end())));
        fragments
    }

    /// What `wanted` sees of it, and as what.
    pub(super) fn seen_by(&self, wanted: Wanted) -> impl Iterator<Item = (Offset, Operation)> {
        let changes = self.changes.iter().enumerate().filter(move |(_, c)| c.table == wanted.table);
        changes.flat_map(move |(index, change)| {
            let at = |after| Offset::new(self.commit, index as u64 * Offset::OP_STEP + after);
            let seen = match change.what {
                What::Truncate => [None, None],
                What::Insert(row) => {
                    [wanted.takes(row).then_some((at(0), Operation::Insert)), None]
                }
                What::Delete(row) => {
                    [wanted.takes(row).then_some((at(0), Operation::Delete)), None]
                }
                What::Update(old, new) => {
                    let [deletes, inserts] = [wanted.takes(old), wanted.takes(new)];
                    let moves = old.0[0] != new.0[0];
                    let delete = deletes && (moves || !inserts);
                    let insert = inserts && (moves || !deletes);
                    let update = !moves && deletes && inserts && wanted.differ(old, new);
                    let delete = delete.then_some((at(0), Operation::Delete));
                    let update = update.then_some((at(0), Operation::Update));
                    // The insert that a change of the key ends in has an offset of its own.
                    let insert = insert.then_some((at(u64::from(moves)), Operation::Insert));
                    [delete.or(update), insert]
                }
            };
            seen.into_iter().flatten()
        })
    }

    /// The bytes of the values of its change at `offset`, and 16 for the change.
    pub(super) fn weight(&self, offset: Offset) -> u64 {
        let bytes =
            |Row(values): Row| values.map(|v| v.to_string().len() as u64).iter().sum::<u64>();
        let index = (offset.op / Offset::OP_STEP) as usize;
        let what = self.changes.get(index).map(|change| change.what);
        let values = match what {
            Some(What::Insert(row) | What::Delete(row)) => bytes(row),
            Some(What::Update(old, new)) if old.0[0] == new.0[0] => bytes(old) + bytes(new),
            // Taken apart.
            Some(What::Update(old, _)) if offset.op.is_multiple_of(Offset::OP_STEP) => bytes(old),
            Some(What::Update(_, new)) => bytes(new),
            Some(What::Truncate) | None => 0,
        };
        values + 16
    }

    /// Where shapes of `table` end that were compiled against its `version`.
    pub(super) fn end_of(&self, table: usize, version: u32) -> Option<Offset> {
        let index = self.changes.iter().position(|change| {
            let truncates = matches!(change.what, What::Truncate);
            change.table == table && (truncates || change.version != version)
        });
        index.map(|index| Offset::new(self.commit, index as u64 * Offset::OP_STEP))
    }

    /// The last version of `table` that it shows.
    pub(super) fn version(&self, table: usize) -> Option<u32> {
        let last = self.changes.iter().rfind(|change| change.table == table);
        last.map(|change| change.version)
    }
}

/// Numbers of transactions, of which 32 bits are in the stream: sometimes these begin anew.
fn xids(rng: &mut Rng, count: usize) -> Vec<u64> {
    let first = [3, (5 << 32) - rng.below(40)][rng.below(2) as usize];
    let mut xids: Vec<u64> = (first..).take(count).collect();
    (1..count).filter(|_| rng.below(3) == 0).for_each(|index| xids.swap(index - 1, index));
    xids
}

fn values(texts: &[String; 3]) -> [Value<'_>; 3] {
    texts.each_ref().map(|text| Value::Text(text.as_bytes()))
}

/// What a shape wants: rows of a table, and of these all columns or not the note.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    pub(super) table: usize,
    narrow: bool,
    clause: Clause,
}

#[derive(Clone, Copy, Debug)]
enum Clause {
    All,
    Kind(u64),
    KindOrId(u64, u64),
}

impl Wanted {
    pub(super) fn random(rng: &mut Rng) -> Wanted {
        let clause = match rng.below(3) {
            0 => Clause::All,
            1 => Clause::Kind(rng.below(4)),
            _ => Clause::KindOrId(rng.below(3), rng.below(KEYS)),
        };
        let table = rng.below(TABLES as u64) as usize;
        Wanted { table, narrow: rng.below(4) == 0, clause }
    }

    fn takes(self, Row([id, kind, _]): Row) -> bool {
        match self.clause {
            Clause::All => true,
            Clause::Kind(wanted) => kind == wanted,
            Clause::KindOrId(wanted, or) => kind == wanted || id == or,
        }
    }

    /// Whether a column that it selects differs.
    fn differ(self, Row(old): Row, Row(new): Row) -> bool {
        let columns = if self.narrow { 2 } else { 3 };
        old[..columns] != new[..columns]
    }

    pub(super) fn definition(self) -> ShapeDefinition {
        let table = table_name(self.table);
        let whole = match self.clause {
            Clause::All => ShapeDefinition::table(table),
            Clause::Kind(kind) => ShapeDefinition::filtered(table, &format!("kind = {kind}")),
            Clause::KindOrId(kind, id) => {
                ShapeDefinition::filtered(table, &format!("kind = {kind} OR id = {id}"))
            }
        };
        if self.narrow { whole.with_columns(["id", "kind"]) } else { whole }
    }
}
