//! Selecting: the shapes of one table that select some of its columns. An update that changes none
//! of them is nothing to a shape whose row it leaves in. Shapes with the same columns have an index
//! of their own, so that this is decided once for all of them; columns that few shapes select share
//! one, in which it is decided for each match.

use super::slots::SetIds;
use super::split::tidy;
use super::table::Table;
use super::visit::Findings;
use super::{RouteError, Rows, clear, route_in};
use crate::predicate::Predicate;
use crate::words::{ChangeRef, ColumnSet, Operation, Routed, Slot, Targets};
use foldhash::fast::RandomState;
use hashbrown::HashMap;

/// The most indexes of one table beside that of its whole rows. Each change of the table asks every
/// one of them.
const SELECTIONS_MAX: usize = if cfg!(test) { 3 } else { 16 };

/// See the file's head.
#[derive(Debug, Default)]
pub(super) struct Selecting {
    selections: Vec<(ColumnSet, Table)>,
    /// The shapes that came while there were as many of those as there may be.
    rest: Table,
    rest_columns: HashMap<Slot, ColumnSet, RandomState>,
    /// A buffer that is kept.
    found: Routed,
}

impl Selecting {
    pub(super) fn is_empty(&self) -> bool {
        self.selections.is_empty() && self.rest.is_empty()
    }

    pub(super) fn insert(
        &mut self,
        slot: Slot,
        columns: &ColumnSet,
        predicate: &Predicate,
        ids: &mut SetIds,
    ) {
        match self.position(columns) {
            Some(place) => self.selections[place].1.insert(slot, predicate, ids),
            None if self.selections.len() < SELECTIONS_MAX => {
                let mut table = Table::default();
                table.insert(slot, predicate, ids);
                self.selections.push((columns.clone(), table));
            }
            None => {
                self.rest.insert(slot, predicate, ids);
                self.rest_columns.insert(slot, columns.clone());
            }
        }
    }

    pub(super) fn remove(&mut self, slot: Slot, columns: &ColumnSet, predicate: &Predicate) {
        if self.rest_columns.remove(&slot).is_some() {
            return self.rest.remove(slot, predicate);
        }
        let Some(place) = self.position(columns) else { return };
        let (_, table) = &mut self.selections[place];
        table.remove(slot, predicate);
        if table.is_empty() {
            self.selections.swap_remove(place);
        }
    }

    fn position(&self, columns: &ColumnSet) -> Option<usize> {
        self.selections.iter().position(|(known, _)| known == columns)
    }

    /// Adds every shape.
    pub(super) fn all(&self, targets: &mut Targets) {
        self.selections.iter().for_each(|(_, table)| table.all(targets));
        self.rest.all(targets);
    }

    /// Adds where `change` goes to `out`.
    pub(super) fn route<'a>(
        &'a mut self,
        change: ChangeRef<'a>,
        rows: &Rows<'a>,
        out: &mut Routed,
        ids: &mut SetIds,
        findings: &mut Findings,
    ) -> Result<(), RouteError> {
        let updates = change.operation() == Operation::Update;
        let changed = if updates { change.changed() } else { ColumnSet::default() };
        let Selecting { selections, rest, rest_columns, found } = self;
        let rest: &'a Table = rest;
        for (columns, table) in selections.iter() {
            clear(found);
            route_in(table, change, rows, found, ids, findings)?;
            if updates && !columns.intersects(&changed) {
                clear_targets(&mut found.as_is);
            }
            join(found, out);
        }
        if !rest.is_empty() {
            clear(found);
            route_in(rest, change, rows, found, ids, findings)?;
            if updates {
                keep(&mut found.as_is, |slot| {
                    let columns = rest_columns.get(&slot);
                    columns.is_some_and(|columns| columns.intersects(&changed))
                });
            }
            join(found, out);
        }
        for targets in [&mut out.as_is, &mut out.as_insert, &mut out.as_delete] {
            tidy(targets);
        }
        Ok(())
    }
}

/// Moves what was found to `out`; no shape is in both.
fn join(found: &mut Routed, out: &mut Routed) {
    for (found, out) in [
        (&mut found.as_is, &mut out.as_is),
        (&mut found.as_insert, &mut out.as_insert),
        (&mut found.as_delete, &mut out.as_delete),
    ] {
        out.sets.append(&mut found.sets);
        out.slots.append(&mut found.slots);
    }
}

/// Leaves only the slots that are `wanted`, each by itself.
fn keep(targets: &mut Targets, wanted: impl Fn(Slot) -> bool) {
    let mut kept = Targets::default();
    targets.for_each(|slot| {
        if wanted(slot) {
            kept.slots.push(slot);
        }
    });
    *targets = kept;
}

pub(super) fn clear_targets(targets: &mut Targets) {
    targets.sets.clear();
    targets.slots.clear();
}
