//! The ranges in which clauses want one expression to lie. A value comes in, slots go out.

use super::cuts::{Cut, Cuts, Sought};
use super::intervals::{Interval, Intervals};
use super::slots::SetIds;
use crate::predicate::{Datum, E, Range};
use crate::words::{Slot, Targets};

/// The ranges of one expression.
#[derive(Debug)]
pub(super) struct RangeIndex {
    pub(super) expr: E,
    /// Whether who is found needs no further question.
    pub(super) exact: bool,
    /// `expr < constant` and `<=`.
    below: Cuts,
    /// `expr > constant` and `>=`.
    above: Cuts,
    between: Intervals,
}

/// A range by its cuts.
enum Sides {
    Below(Cut),
    Above(Cut),
    Between(Interval),
}

fn sides(range: &Range) -> Option<Sides> {
    let low = range.low.as_ref().map(|(value, inclusive)| Cut::new(value.clone(), !inclusive));
    let high = range.high.as_ref().map(|(value, inclusive)| Cut::new(value.clone(), *inclusive));
    match (low, high) {
        (None, None) => None,
        (None, Some(high)) => Some(Sides::Below(high)),
        (Some(low), None) => Some(Sides::Above(low)),
        (Some(low), Some(high)) => Some(Sides::Between(Interval { low, high })),
    }
}

impl RangeIndex {
    pub(super) fn new(expr: E, exact: bool) -> RangeIndex {
        RangeIndex {
            expr,
            exact,
            below: Cuts::default(),
            above: Cuts::default(),
            between: Intervals::default(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.below.is_empty() && self.above.is_empty() && self.between.is_empty()
    }

    pub(super) fn insert(&mut self, range: &Range, slot: Slot, ids: &mut SetIds) {
        match sides(range) {
            Some(Sides::Below(cut)) => self.below.insert(&cut, slot, ids),
            Some(Sides::Above(cut)) => self.above.insert(&cut, slot, ids),
            Some(Sides::Between(interval)) => self.between.insert(&interval, slot),
            None => {}
        }
    }

    pub(super) fn remove(&mut self, range: &Range, slot: Slot) {
        match sides(range) {
            Some(Sides::Below(cut)) => self.below.remove(&cut, slot),
            Some(Sides::Above(cut)) => self.above.remove(&cut, slot),
            Some(Sides::Between(interval)) => self.between.remove(&interval, slot),
            None => {}
        }
    }

    /// Adds the slots in whose range `value` lies.
    pub(super) fn nominate(&self, value: &Datum<'_>, targets: &mut Targets) {
        let value = Sought::new(value);
        self.below.nominate(value, true, targets);
        self.above.nominate(value, false, targets);
        self.between.nominate(value, targets);
    }

    /// Adds every slot.
    pub(super) fn all(&self, targets: &mut Targets) {
        self.below.all(targets);
        self.above.all(targets);
        self.between.all(targets);
    }
}
