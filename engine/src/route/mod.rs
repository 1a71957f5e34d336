//! Route: which shapes of a shard a change goes to, and as what. Predicates come in when shapes
//! are registered, changes when they are published; out come sets of slots. What a slot's shape
//! does with a change is for others to know.
//!
//! Each alternative of a clause is an entry in an index, found by what it compares with constants,
//! so a change costs what it matches, never what is registered (INV9). Where an entry does not say
//! all that the clause says, it nominates, and the clause decides. A clause that has no answer for
//! a row (it divides by zero, say) is its own shape's trouble, nobody else's.

mod alone;
mod asked;
mod column;
mod cuts;
mod intervals;
mod path;
mod range;
mod selecting;
mod slots;
mod split;
mod table;
mod visit;

#[cfg(test)]
mod clauses;
#[cfg(test)]
mod tests;

pub use alone::{ClauseIndex, CompiledClause, MatchError, Matches};

use crate::predicate::{EvalError, FullRow, Predicate, RowView, ValueError};
use crate::words::{ChangeRef, ColumnSet, Operation, Routed, Slot, TableName, Targets};
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use selecting::{Selecting, clear_targets};
use slots::SetIds;
use table::Table;
use visit::Findings;

/// A change of which it cannot be told where it goes. The router stays as it was, and nothing was
/// routed: the caller must invalidate every shape of that relation ([`Router::slots_of`]), or rows
/// are lost in silence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum RouteError {
    /// A change came without the row that decides.
    #[error("{operation} of {table} came without its {row} row: set REPLICA IDENTITY FULL on it")]
    MissingRow {
        /// The table.
        table: TableName,
        /// What the change did.
        operation: Operation,
        /// Which row: `old` or `new`.
        row: &'static str,
    },
    /// A value that decides cannot be read.
    #[error("cannot route a change of {table}: {error}")]
    Value {
        /// The table.
        table: TableName,
        /// What is wrong with which value.
        error: ValueError,
    },
}

/// A shard's routing index. Owned by one thread.
#[derive(Debug, Default)]
pub(crate) struct Router {
    /// The shapes that select every column, by the OID of the relation.
    tables: HashMap<u32, Table, RandomState>,
    /// Those that select some, by the same.
    selecting: HashMap<u32, Selecting, RandomState>,
    ids: SetIds,
    findings: Findings,
}

impl Router {
    /// Registers the shape in `slot`: the rows of relation `relation_oid` that `predicate` takes,
    /// and of these the `columns`; `None` is all of them.
    pub(crate) fn insert(
        &mut self,
        slot: Slot,
        relation_oid: u32,
        columns: Option<&ColumnSet>,
        predicate: &Predicate,
    ) {
        let ids = &mut self.ids;
        match columns {
            None => self.tables.entry(relation_oid).or_default().insert(slot, predicate, ids),
            Some(columns) => {
                let selecting = self.selecting.entry(relation_oid).or_default();
                selecting.insert(slot, columns, predicate, ids);
            }
        }
    }

    /// Takes out what [`insert`](Router::insert) put in with the same arguments. Doing it twice is
    /// doing it once (INV5).
    pub(crate) fn remove(
        &mut self,
        slot: Slot,
        relation_oid: u32,
        columns: Option<&ColumnSet>,
        predicate: &Predicate,
    ) {
        if let Some(columns) = columns {
            let Some(selecting) = self.selecting.get_mut(&relation_oid) else { return };
            selecting.remove(slot, columns, predicate);
            if selecting.is_empty() {
                self.selecting.remove(&relation_oid);
            }
            return;
        }
        let Some(table) = self.tables.get_mut(&relation_oid) else { return };
        table.remove(slot, predicate);
        if table.is_empty() {
            self.tables.remove(&relation_oid);
        }
    }

    /// Every shape of the relation, whatever its predicate.
    pub(crate) fn slots_of(&self, relation_oid: u32) -> Targets {
        let mut targets = Targets::default();
        if let Some(table) = self.tables.get(&relation_oid) {
            table.all(&mut targets);
        }
        if let Some(selecting) = self.selecting.get(&relation_oid) {
            selecting.all(&mut targets);
            split::tidy(&mut targets);
        }
        targets
    }

    /// Says where `change` goes: fills the targets of `out`, whatever was in them.
    ///
    /// An update of a row that a shape keeps, like an insert and a delete, goes to it as it is,
    /// unless it changes none of the columns that the shape selects; an update that brings a row
    /// into a shape goes as its insert, one that takes it out as its delete.
    ///
    /// # Errors
    /// When that cannot be told; `out` is empty then.
    pub(crate) fn route(
        &mut self,
        change: ChangeRef<'_>,
        out: &mut Routed,
    ) -> Result<(), RouteError> {
        clear(out);
        let Router { tables, selecting, ids, findings } = self;
        findings.failed.clear();
        let oid = change.relation().oid;
        let selecting = if selecting.is_empty() { None } else { selecting.get_mut(&oid) };
        let rows = Rows::of(change, selecting.is_some());
        let mut routed = Ok(());
        if let Some(table) = tables.get(&oid) {
            routed = route_in(table, change, &rows, out, ids, findings);
            if !out.as_is.is_empty()
                && change.operation() == Operation::Update
                && !change.changes_something()
            {
                clear_targets(&mut out.as_is);
            }
        }
        if let Some(selecting) = selecting
            && routed.is_ok()
        {
            routed = selecting.route(change, &rows, out, ids, findings);
        }
        routed.inspect_err(|_| {
            clear(out);
            findings.failed.clear();
        })
    }
}

impl Router {
    /// The shapes whose clauses had no answer for the change that was routed last, and why. The
    /// caller must invalidate them; whether the change was routed to them too says nothing.
    pub(crate) fn take_failed(&mut self) -> Vec<(Slot, EvalError)> {
        std::mem::take(&mut self.findings.failed)
    }

    /// How many clauses were evaluated so far because an index alone could not tell.
    pub(crate) fn evaluations(&self) -> u64 {
        self.findings.evaluations
    }
}

/// The rows of a change: one view of each for all indexes that it is looked up in.
struct Rows<'a> {
    old: Option<RowView<'a>>,
    new: Option<RowView<'a>>,
}

impl<'a> Rows<'a> {
    /// `several` says whether more than one index looks for their keys.
    fn of(change: ChangeRef<'a>, several: bool) -> Rows<'a> {
        let before = change.old_row();
        let view = |row, before| match FullRow::new(row, before) {
            row if several => RowView::shared(row),
            row => RowView::new(row),
        };
        let old = before.map(|row| view(row, None));
        Rows { old, new: change.new_row().map(|row| view(row, before)) }
    }
}

/// Fills the targets of `out`, which are empty, with the shapes of `table` that `change` goes to.
fn route_in<'a>(
    table: &'a Table,
    change: ChangeRef<'a>,
    rows: &Rows<'a>,
    out: &mut Routed,
    ids: &mut SetIds,
    findings: &mut Findings,
) -> Result<(), RouteError> {
    let relation = change.relation();
    let operation = change.operation();
    let missing = |row| RouteError::MissingRow { table: relation.table.clone(), operation, row };
    let old = || rows.old.as_ref().ok_or_else(|| missing("old"));
    let new = || rows.new.as_ref().ok_or_else(|| missing("new"));
    let routed = match operation {
        Operation::Insert => table.matches(new()?, &mut out.as_is, findings),
        Operation::Delete => table.matches(old()?, &mut out.as_is, findings),
        Operation::Update => update(table, ids, old()?, new()?, out, findings),
        Operation::Truncate => {
            table.all(&mut out.as_is);
            Ok(())
        }
    };
    routed.map_err(|error| RouteError::Value { table: relation.table.clone(), error })
}

fn update<'a>(
    table: &'a Table,
    ids: &mut SetIds,
    old: &RowView<'a>,
    new: &RowView<'a>,
    out: &mut Routed,
    findings: &mut Findings,
) -> Result<(), ValueError> {
    let (mut left, mut entered) = (Targets::default(), Targets::default());
    table.compare(old, new, &mut out.as_is, &mut left, &mut entered, findings)?;
    split::classify(ids, left, entered, out);
    Ok(())
}

fn clear(out: &mut Routed) {
    [&mut out.as_is, &mut out.as_insert, &mut out.as_delete].into_iter().for_each(clear_targets);
}
