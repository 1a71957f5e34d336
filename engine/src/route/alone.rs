//! The index by itself, without log and consumers: for who wants to know which clauses take a row,
//! or what finding them costs. A shard routes with the same one.

use super::{RouteError, Router};
use crate::predicate::{EvalError, FullRow, Predicate, RowView, WhereError, compile_with};
use crate::words::{ChangeRef, Relation, Routed, Slot};
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use std::sync::Arc;

/// Many WHERE clauses over one table, indexed as a shard indexes those of its shapes.
///
/// ```
/// use std::sync::Arc;
/// use walfan::{ClauseIndex, Column, Lsn, Relation, TableName, TransactionBuilder, Value};
///
/// let columns = vec![Column::new("id", 20, true), Column::new("name", 25, false)];
/// let items = Arc::new(Relation::new(16_384, TableName::new("public", "items"), columns));
/// let mut index = ClauseIndex::new(Arc::clone(&items));
/// let by_name = index.add(Some("name LIKE 'a%' AND id > 3"))?;
/// index.add(Some("id IN (1, 2, 3)"))?;
///
/// let mut transaction = TransactionBuilder::new(1, Lsn::new(1));
/// transaction.insert(&items, [Value::Text(b"7"), Value::Text(b"abc")])?;
/// let fragment = transaction.commit(Lsn::new(2));
/// for change in fragment.changes() {
///     assert_eq!(index.route(change)?.slots(), [by_name]);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct ClauseIndex {
    relation: Arc<Relation>,
    router: Router,
    clauses: HashMap<Slot, Predicate, RandomState>,
    next: u32,
    found: Matches,
}

/// A clause compiled against a table, to be added as often as one likes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompiledClause {
    relation_oid: u32,
    predicate: Predicate,
}

/// A change for which the index has no answer for any clause of the table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct MatchError(String);

/// Whom one change concerns.
#[derive(Debug, Default)]
pub struct Matches {
    routed: Routed,
    failed: Vec<(Slot, String)>,
}

impl Matches {
    /// The number of clauses that take the change's old row, its new row or both.
    pub fn count(&self) -> u64 {
        self.routed.forms().iter().map(|(_, targets)| targets.len()).sum()
    }

    /// Those clauses, rising.
    pub fn slots(&self) -> Vec<Slot> {
        let mut slots = Vec::new();
        for (_, targets) in self.routed.forms() {
            targets.for_each(|slot| slots.push(slot));
        }
        slots.sort_unstable();
        slots
    }

    /// The clauses that have no answer for the change, and why. What else is said of them counts
    /// for nothing.
    pub fn failed(&self) -> &[(Slot, String)] {
        &self.failed
    }
}

impl From<RouteError> for MatchError {
    fn from(error: RouteError) -> MatchError {
        MatchError(error.to_string())
    }
}

impl ClauseIndex {
    /// An index without clauses.
    pub fn new(relation: Arc<Relation>) -> ClauseIndex {
        let clauses = HashMap::default();
        let (router, found) = (Router::default(), Matches::default());
        ClauseIndex { relation, router, clauses, next: 0, found }
    }

    /// Compiles `clause`; none takes every row.
    ///
    /// # Errors
    /// When the clause is no SQL, is outside of the language, or does not fit the table.
    pub fn compile(&self, clause: Option<&str>) -> Result<CompiledClause, WhereError> {
        let predicate = compile_with(&self.relation, clause, &[])?;
        Ok(CompiledClause { relation_oid: self.relation.oid, predicate })
    }

    /// Compiles `clause` and adds it; the number that stands for it from now on.
    ///
    /// # Errors
    /// As [`compile`](ClauseIndex::compile).
    pub fn add(&mut self, clause: Option<&str>) -> Result<Slot, WhereError> {
        self.compile(clause).map(|compiled| self.add_compiled(&compiled))
    }

    /// Adds what was compiled by an index of the same table.
    pub fn add_compiled(&mut self, clause: &CompiledClause) -> Slot {
        debug_assert_eq!(clause.relation_oid, self.relation.oid, "a clause of another table");
        let slot = Slot::new(self.next);
        self.next += 1;
        self.router.insert(slot, self.relation.oid, None, &clause.predicate);
        self.clauses.insert(slot, clause.predicate.clone());
        slot
    }

    /// Takes a clause out; whether it was in.
    pub fn remove(&mut self, slot: Slot) -> bool {
        let Some(predicate) = self.clauses.remove(&slot) else { return false };
        self.router.remove(slot, self.relation.oid, None, &predicate);
        true
    }

    /// The clauses that `change`, a change of this table, concerns.
    ///
    /// # Errors
    /// When that cannot be told, because a value is missing or cannot be read.
    pub fn route(&mut self, change: ChangeRef<'_>) -> Result<&Matches, MatchError> {
        self.found.failed.clear();
        self.router.route(change, &mut self.found.routed)?;
        let failed = self.router.take_failed().into_iter();
        self.found.failed.extend(failed.map(|(slot, error)| (slot, error.to_string())));
        Ok(&self.found)
    }

    /// The same without an index: each clause is asked for both rows.
    ///
    /// # Errors
    /// As [`route`](ClauseIndex::route).
    pub fn ask_each(&self, change: ChangeRef<'_>) -> Result<Matches, MatchError> {
        let mut found = Matches::default();
        let old = change.old_row().map(|row| RowView::new(FullRow::new(row, None)));
        let before = change.old_row();
        let new = change.new_row().map(|row| RowView::new(FullRow::new(row, before)));
        for (&slot, predicate) in &self.clauses {
            let takes =
                |row: &Option<_>| row.as_ref().map(|row| predicate.matches(row)).transpose();
            let targets = match (takes(&old), takes(&new)) {
                (Err(EvalError::Value(error)), _) | (_, Err(EvalError::Value(error))) => {
                    return Err(MatchError(error.to_string()));
                }
                (Err(error), _) | (_, Err(error)) => {
                    found.failed.push((slot, error.to_string()));
                    continue;
                }
                (Ok(Some(true)), Ok(Some(false))) => &mut found.routed.as_delete,
                (Ok(Some(false)), Ok(Some(true))) => &mut found.routed.as_insert,
                (Ok(old), Ok(new)) if old != Some(false) && new != Some(false) => {
                    &mut found.routed.as_is
                }
                _ => continue,
            };
            targets.slots.push(slot);
        }
        let Routed { as_is, as_insert, as_delete, .. } = &mut found.routed;
        [as_is, as_insert, as_delete].into_iter().for_each(|of| of.slots.sort_unstable());
        Ok(found)
    }

    /// How many clauses were evaluated so far, by [`route`](ClauseIndex::route), because the index
    /// alone could not tell.
    pub fn evaluations(&self) -> u64 {
        self.router.evaluations()
    }
}
