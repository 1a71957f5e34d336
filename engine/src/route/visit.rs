//! Visit: one row on its way through a table's index. What the index finds is gathered here, and
//! whom it cannot be sure of is asked here: a clause that fails fails alone.

use super::slots::SlotSet;
use crate::predicate::{Clause, EvalError, RowView, ValueError};
use crate::words::{Slot, Targets};
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use std::sync::Arc;

/// The clauses that are no list of equalities, by their slots.
pub(super) type Clauses = HashMap<Slot, Arc<Clause>, RandomState>;

/// What outlives a visit.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// Who has no answer for a row, and why.
    pub(super) failed: Vec<(Slot, EvalError)>,
    /// Clauses that were asked.
    pub(super) evaluations: u64,
}

/// See the file's head.
pub(super) struct Visit<'v, 'a> {
    pub(super) row: &'v RowView<'a>,
    pub(super) clauses: &'a Clauses,
    pub(super) targets: &'v mut Targets,
    pub(super) findings: &'v mut Findings,
}

impl<'a> Visit<'_, 'a> {
    /// Asks `rest`, which is all that is open of the clauses of `slots`.
    pub(super) fn ask(&mut self, rest: &'a Clause, slots: &SlotSet) -> Result<(), ValueError> {
        self.findings.evaluations += 1;
        match rest.matches(self.row) {
            Ok(true) => slots.nominate(self.targets),
            Ok(false) => {}
            Err(EvalError::Value(error)) => return Err(error),
            // Another alternative may hold all the same.
            Err(_) => {
                let mut candidates = Targets::default();
                slots.nominate(&mut candidates);
                return self.ask_each(&candidates);
            }
        }
        Ok(())
    }

    /// Asks the whole clause of each of `candidates` by itself.
    pub(super) fn ask_each(&mut self, candidates: &Targets) -> Result<(), ValueError> {
        let mut result = Ok(());
        candidates.for_each(|slot| {
            if result.is_ok()
                && let Some(clause) = self.clauses.get(&slot)
            {
                result = self.ask_whole(slot, clause);
            }
        });
        result
    }

    fn ask_whole(&mut self, slot: Slot, clause: &'a Clause) -> Result<(), ValueError> {
        self.findings.evaluations += 1;
        match clause.matches(self.row) {
            Ok(true) => self.targets.slots.push(slot),
            Ok(false) => {}
            Err(EvalError::Value(error)) => return Err(error),
            Err(error) => self.findings.failed.push((slot, error)),
        }
        Ok(())
    }
}
