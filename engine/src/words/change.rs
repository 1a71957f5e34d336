//! Change: one insert, update or delete of a row, or the truncate of a relation, as it lies in its
//! fragment. Rows hold Postgres's text values; all values of a fragment share one buffer.

use super::fragment::Fragment;
use super::offset::Offset;
use super::relation::Relation;
use std::fmt;
use std::sync::Arc;

/// What a change did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// A row came.
    Insert,
    /// A row changed.
    Update,
    /// A row went.
    Delete,
    /// All rows of a relation went.
    Truncate,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Operation::Insert => "insert",
            Operation::Update => "update",
            Operation::Delete => "delete",
            Operation::Truncate => "truncate",
        })
    }
}

/// One column's value in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Value<'a> {
    /// SQL's NULL.
    Null,
    /// The value in Postgres's text form.
    Text(&'a [u8]),
    /// A large value that the update left as it was and that Postgres therefore did not send.
    Unchanged,
}

/// Where a value lies in its fragment's buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cell {
    pub(crate) start: u32,
    /// The length in bytes, or one of the two marks below.
    pub(crate) len: u32,
}

impl Cell {
    pub(crate) const NULL: Cell = Cell { start: 0, len: u32::MAX };
    pub(crate) const UNCHANGED: Cell = Cell { start: 0, len: u32::MAX - 1 };

    /// The length of its value.
    pub(crate) fn bytes(self) -> usize {
        if self == Cell::NULL || self == Cell::UNCHANGED { 0 } else { self.len as usize }
    }
}

/// Which of its fragment's cells make a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RowSpan {
    pub(crate) first: u32,
    pub(crate) len: u32,
}

/// A change as its fragment stores it; [`ChangeRef`] is how it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) op: u64,
    pub(crate) operation: Operation,
    /// Index into the fragment's relations.
    pub(crate) relation: u32,
    pub(crate) old: Option<RowSpan>,
    pub(crate) new: Option<RowSpan>,
}

/// One change of a [`Fragment`].
#[derive(Clone, Copy)]
pub struct ChangeRef<'a> {
    fragment: &'a Fragment,
    change: &'a Change,
}

impl<'a> ChangeRef<'a> {
    pub(super) fn new(fragment: &'a Fragment, change: &'a Change) -> ChangeRef<'a> {
        ChangeRef { fragment, change }
    }

    /// The change's position in the stream.
    pub fn offset(&self) -> Offset {
        Offset::new(self.fragment.commit_lsn(), self.change.op)
    }

    /// What it did.
    pub fn operation(&self) -> Operation {
        self.change.operation
    }

    /// The table that it did it to.
    pub fn relation(&self) -> &'a Arc<Relation> {
        &self.fragment.relations()[self.change.relation as usize]
    }

    /// The row before: of an update or a delete.
    pub fn old_row(&self) -> Option<RowRef<'a>> {
        self.change.old.map(|span| RowRef { fragment: self.fragment, span, before: None })
    }

    /// The row after: of an insert or an update.
    pub fn new_row(&self) -> Option<RowRef<'a>> {
        self.change.new.map(|span| RowRef { fragment: self.fragment, span, before: None })
    }

    /// The row after, for who does not know the row before: what the update left unchanged is in
    /// it.
    pub(crate) fn whole_new_row(&self) -> Option<RowRef<'a>> {
        let span = self.change.new?;
        Some(RowRef { fragment: self.fragment, span, before: self.change.old })
    }
}

impl fmt::Debug for ChangeRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChangeRef")
            .field("offset", &self.offset())
            .field("operation", &self.operation())
            .field("relation", &self.relation().table)
            .field("old", &self.old_row())
            .field("new", &self.new_row())
            .finish()
    }
}

/// A row: one value a column, in the relation's order.
#[derive(Clone, Copy)]
pub struct RowRef<'a> {
    fragment: &'a Fragment,
    span: RowSpan,
    /// Where values that were left unchanged are taken from.
    before: Option<RowSpan>,
}

impl<'a> RowRef<'a> {
    /// The number of values.
    pub fn len(&self) -> usize {
        self.span.len as usize
    }

    /// Whether the row has no values at all (a table without columns).
    pub fn is_empty(&self) -> bool {
        self.span.len == 0
    }

    /// The bytes of all its values.
    pub(crate) fn bytes(&self) -> usize {
        (0..self.len()).filter_map(|index| self.cell(index)).map(Cell::bytes).sum()
    }

    /// The value of column `index`, or `None` beyond the last column.
    pub fn get(&self, index: usize) -> Option<Value<'a>> {
        Some(match self.cell(index)? {
            Cell::NULL => Value::Null,
            Cell::UNCHANGED => Value::Unchanged,
            Cell { start, len } => {
                Value::Text(&self.fragment.data()[start as usize..(start + len) as usize])
            }
        })
    }

    fn cell(&self, index: usize) -> Option<Cell> {
        let of = |span: RowSpan| {
            let cell = span.first as usize + index;
            if index < span.len as usize { self.fragment.cells().get(cell).copied() } else { None }
        };
        match (of(self.span)?, self.before) {
            (Cell::UNCHANGED, Some(before)) => of(before).or(Some(Cell::UNCHANGED)),
            (cell, _) => Some(cell),
        }
    }

    /// All values, in order.
    pub fn values(&self) -> impl Iterator<Item = Value<'a>> + use<'a> {
        let row = *self;
        (0..row.len()).filter_map(move |index| row.get(index))
    }
}

impl fmt::Debug for RowRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.values()).finish()
    }
}
