//! Delivery sets: which slots of a shard a change was routed to. The router makes them, the log
//! writes them once, the consumers' side walks them. And what a change looks like to whom it
//! reaches.

use super::change::{ChangeRef, Operation, RowRef};
use super::fragment::Fragment;
use super::shape::Slot;
use roaring::RoaringBitmap;
use smallvec::SmallVec;
use std::borrow::Cow;
use std::sync::Arc;

/// As what a change reaches a shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Form {
    /// As what it is.
    AsIs = 0,
    /// An update that enters the shape: as the insert of its new row.
    Insert = 1,
    /// An update that leaves the shape: as the delete of its old row.
    Delete = 2,
}

/// A change as one shape sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Formed<'a> {
    change: ChangeRef<'a>,
    form: Form,
}

impl<'a> Formed<'a> {
    /// The change at `index` of `fragment`, or `None` beyond the last.
    pub(crate) fn new(fragment: &'a Fragment, (index, form): (u32, Form)) -> Option<Formed<'a>> {
        Some(Formed { change: fragment.get(index as usize)?, form })
    }

    /// The change as it happened.
    pub(crate) fn change(&self) -> ChangeRef<'a> {
        self.change
    }

    /// What the shape sees: an update that enters it is an insert, one that leaves it a delete.
    pub(crate) fn operation(&self) -> Operation {
        match self.form {
            Form::AsIs => self.change.operation(),
            Form::Insert => Operation::Insert,
            Form::Delete => Operation::Delete,
        }
    }

    /// The row before, where the shape knew it.
    pub(crate) fn old_row(&self) -> Option<RowRef<'a>> {
        if self.form == Form::Insert { None } else { self.change.old_row() }
    }

    /// The row after, where the shape keeps it. A shape that the row enters never saw its values,
    /// so for it none is left out as unchanged.
    pub(crate) fn new_row(&self) -> Option<RowRef<'a>> {
        match self.form {
            Form::AsIs => self.change.new_row(),
            Form::Insert => self.change.whole_new_row(),
            Form::Delete => None,
        }
    }
}

/// One state of a set of slots that many changes share.
///
/// A change of the set makes a new bitmap behind another pointer while somebody holds this one, so
/// equal pointers mean equal contents.
#[derive(Clone, Debug)]
pub(crate) struct SharedSet {
    /// Names the set across its states; unique in its shard while the engine is open.
    pub(crate) id: u64,
    pub(crate) slots: Arc<RoaringBitmap>,
}

/// The union of some shared sets and some single slots.
#[derive(Clone, Debug, Default)]
pub(crate) struct Targets {
    /// May overlap one another.
    pub(crate) sets: SmallVec<[SharedSet; 1]>,
    /// Strictly rising, and in none of `sets`.
    pub(crate) slots: SmallVec<[Slot; 4]>,
}

impl Targets {
    /// Whether nobody is meant.
    pub(crate) fn is_empty(&self) -> bool {
        self.slots.is_empty() && self.sets.iter().all(|set| set.slots.is_empty())
    }

    /// Whether `slot` is meant.
    pub(crate) fn contains(&self, slot: Slot) -> bool {
        self.slots.binary_search(&slot).is_ok()
            || self.sets.iter().any(|set| set.slots.contains(slot.as_u32()))
    }

    /// The number of slots meant.
    pub(crate) fn len(&self) -> u64 {
        let shared = match self.sets.as_slice() {
            [] => 0,
            [only] => only.slots.len(),
            several => union(several).len(),
        };
        shared + self.slots.len() as u64
    }

    /// The shared sets as one, without who is not `among` these.
    pub(crate) fn set(&self, among: Option<&RoaringBitmap>) -> Option<Cow<'_, RoaringBitmap>> {
        let all = match self.sets.as_slice() {
            [] => return None,
            [only] => Cow::Borrowed(&*only.slots),
            several => Cow::Owned(union(several)),
        };
        Some(match among {
            Some(among) => Cow::Owned(&*all & among),
            None => all,
        })
    }

    /// Calls `visit` once for each slot meant.
    pub(crate) fn for_each(&self, mut visit: impl FnMut(Slot)) {
        match self.sets.as_slice() {
            [] => {}
            [only] => only.slots.iter().for_each(|slot| visit(Slot::new(slot))),
            several => union(several).iter().for_each(|slot| visit(Slot::new(slot))),
        }
        self.slots.iter().copied().for_each(visit);
    }
}

fn union(sets: &[SharedSet]) -> RoaringBitmap {
    sets.iter().fold(RoaringBitmap::new(), |all, set| all | &*set.slots)
}

/// Where one change of a fragment goes in one shard. The three targets are disjoint.
#[derive(Clone, Debug, Default)]
pub(crate) struct Routed {
    /// The change's index in its fragment.
    pub(crate) change: u32,
    pub(crate) as_is: Targets,
    pub(crate) as_insert: Targets,
    pub(crate) as_delete: Targets,
}

impl Routed {
    /// Whether the change goes nowhere.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.as_is.is_empty() && self.as_insert.is_empty() && self.as_delete.is_empty()
    }

    /// As what the change reaches `slot`, if it does.
    pub(crate) fn form_for(&self, slot: Slot) -> Option<Form> {
        self.forms().into_iter().find(|(_, targets)| targets.contains(slot)).map(|(form, _)| form)
    }

    /// The targets, each with the form that the change has for them.
    pub(crate) fn forms(&self) -> [(Form, &Targets); 3] {
        [
            (Form::AsIs, &self.as_is),
            (Form::Insert, &self.as_insert),
            (Form::Delete, &self.as_delete),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::{Column, Lsn, Relation, TableName, TransactionBuilder, Value};

    #[test]
    fn a_row_that_enters_a_shape_brings_what_its_update_left_unchanged() {
        let columns = vec![Column::new("id", 20, true), Column::new("note", 25, false)];
        let items = Arc::new(Relation::new(1, TableName::new("public", "items"), columns));
        let mut transaction = TransactionBuilder::new(1, Lsn::new(1));
        let (one, large) = (Value::Text(b"1"), Value::Text(b"large"));
        transaction.update(&items, [one, large], [one, Value::Unchanged]).unwrap();
        let fragment = transaction.commit(Lsn::new(2));
        let new = |form| {
            let row = Formed::new(&fragment, (0, form)).unwrap().new_row();
            row.map(|row| (row.values().collect::<Vec<_>>(), row.bytes()))
        };
        assert_eq!(new(Form::AsIs), Some((vec![one, Value::Unchanged], 1)));
        assert_eq!(new(Form::Insert), Some((vec![one, large], 6)));
        assert_eq!(new(Form::Delete), None);
    }
}
