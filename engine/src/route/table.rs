//! The index of one table: the shapes that take every row, and an index for each column that some
//! clause compares. Rows come in; out come the sets that they match.

use super::column::ColumnIndex;
use super::path::{self, PathIndex};
use super::slots::{SetIds, SlotSet};
use super::split::{keep_common, tidy};
use super::visit::{Clauses, Findings, Visit};
use crate::predicate::{Clause, KeyKind, Path, Predicate, Probe, RowView, ValueError};
use crate::words::{Slot, Targets};
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use std::sync::Arc;

/// The shapes of one table.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// Every shape, also those that no row matches.
    all: SlotSet,
    /// The shapes that take every row.
    whole: SlotSet,
    /// No two for the same column and kind.
    columns: Vec<ColumnIndex>,
    /// The other clauses, by the probes of their paths.
    paths: HashMap<Vec<Probe>, PathIndex, RandomState>,
    clauses: Clauses,
    /// What the paths of clauses do not say, with the number of paths that have it: one copy, so
    /// that a rest that many share is near when it is asked.
    rests: HashMap<Arc<Clause>, usize, RandomState>,
}

impl Table {
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub(super) fn insert(&mut self, slot: Slot, predicate: &Predicate, ids: &mut SetIds) {
        self.all.insert(slot, ids);
        let terms = match predicate {
            Predicate::Clause(None) => return self.whole.insert(slot, ids),
            Predicate::Clause(Some(clause)) => return self.insert_clause(slot, clause, ids),
            Predicate::AnyOf(terms) => terms,
        };
        for term in terms {
            let (column, key) = (term.column(), term.key());
            let index = self.position(column, key.kind()).unwrap_or_else(|| {
                self.columns.push(ColumnIndex::new(column, key.kind()));
                self.columns.len() - 1
            });
            self.columns[index].insert(key, slot, ids);
        }
    }

    pub(super) fn remove(&mut self, slot: Slot, predicate: &Predicate) {
        self.all.remove(slot);
        let terms = match predicate {
            Predicate::Clause(None) => return self.whole.remove(slot),
            Predicate::Clause(Some(clause)) => return self.remove_clause(slot, clause),
            Predicate::AnyOf(terms) => terms,
        };
        for term in terms {
            let Some(index) = self.position(term.column(), term.key().kind()) else { continue };
            self.columns[index].remove(term.key(), slot);
            if self.columns[index].is_empty() {
                self.columns.swap_remove(index);
            }
        }
    }

    fn insert_clause(&mut self, slot: Slot, clause: &Arc<Clause>, ids: &mut SetIds) {
        if self.clauses.insert(slot, Arc::clone(clause)).is_some() {
            return;
        }
        for path in clause.paths() {
            let mut rest = rest(&path, clause);
            if path::is_shared(&path) {
                rest = rest.map(|rest| self.share(rest));
            }
            let index = self.paths.entry_ref(&path.probes[..]);
            let index = index.or_insert_with(|| PathIndex::new(path.probes[..].into()));
            index.insert(path, slot, rest.as_ref(), ids);
        }
    }

    fn remove_clause(&mut self, slot: Slot, clause: &Arc<Clause>) {
        if self.clauses.remove(&slot).is_none() {
            return;
        }
        for path in clause.paths() {
            let rest = rest(&path, clause);
            if let Some(index) = self.paths.get_mut(&path.probes[..]) {
                index.remove(&path, slot, rest.as_ref());
                if index.is_empty() {
                    self.paths.remove(&path.probes[..]);
                }
            }
            if let Some(rest) = rest
                && path::is_shared(&path)
            {
                self.let_go(rest);
            }
        }
    }

    /// The one copy of `rest`.
    fn share(&mut self, rest: Arc<Clause>) -> Arc<Clause> {
        let mut entry = self.rests.entry(rest).or_insert_entry(0);
        *entry.get_mut() += 1;
        Arc::clone(entry.key())
    }

    fn let_go(&mut self, rest: Arc<Clause>) {
        if let Entry::Occupied(mut entry) = self.rests.entry(rest) {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }

    /// What `row` matches by clauses that are no list of equalities.
    fn visit<'a>(
        &'a self,
        row: &RowView<'a>,
        targets: &mut Targets,
        findings: &mut Findings,
    ) -> Result<(), ValueError> {
        for index in self.paths.values() {
            let clauses = &self.clauses;
            index.visit(&mut Visit { row, clauses, targets, findings })?;
        }
        Ok(())
    }

    fn position(&self, column: usize, kind: KeyKind) -> Option<usize> {
        self.columns.iter().position(|index| index.column == column && index.kind == kind)
    }

    /// Adds every shape of the table to `targets`.
    pub(super) fn all(&self, targets: &mut Targets) {
        self.all.nominate(targets);
    }

    /// Puts the shapes that `row` belongs to into `targets`.
    pub(super) fn matches<'a>(
        &'a self,
        row: &RowView<'a>,
        targets: &mut Targets,
        findings: &mut Findings,
    ) -> Result<(), ValueError> {
        self.whole.nominate(targets);
        for index in &self.columns {
            nominate(index, row, targets)?;
        }
        if !self.paths.is_empty() {
            self.visit(row, targets, findings)?;
        }
        tidy(targets);
        Ok(())
    }

    /// Divides what matches an update's rows: `kept` gets the shapes that match by something that
    /// the update left as it was, `left` those that match the old row by what it changed, `entered`
    /// those that match the new row by it. A shape may be in several.
    pub(super) fn compare<'a>(
        &'a self,
        old: &RowView<'a>,
        new: &RowView<'a>,
        kept: &mut Targets,
        left: &mut Targets,
        entered: &mut Targets,
        findings: &mut Findings,
    ) -> Result<(), ValueError> {
        self.whole.nominate(kept);
        for index in &self.columns {
            if old.text(index.column)? == new.text(index.column)? {
                nominate(index, new, kept)?;
            } else {
                nominate(index, old, left)?;
                nominate(index, new, entered)?;
            }
        }
        if !self.paths.is_empty() {
            self.visit(old, left, findings)?;
            self.visit(new, entered, findings)?;
            keep_common(kept, left, entered);
        }
        [kept, left, entered].into_iter().for_each(tidy);
        Ok(())
    }
}

/// What is asked of a row that `path` finds. Whoever is found by a range is asked as a whole.
fn rest(path: &Path, clause: &Arc<Clause>) -> Option<Arc<Clause>> {
    (path.range.is_none() && !path.is_exact()).then(|| path.rest(clause))
}

#[inline]
fn nominate(
    index: &ColumnIndex,
    row: &RowView<'_>,
    targets: &mut Targets,
) -> Result<(), ValueError> {
    if let Some(key) = row.key(index.column, index.kind)? {
        index.nominate(key, targets);
    }
    Ok(())
}
