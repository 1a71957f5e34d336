//! Page: a piece of a shape's initial rows.

use crate::log::{ReadLimits, write_initial_line};
use crate::words::{ColumnValue, Form, Formed, Fragment, Relation, RowRef, View};
use std::fmt;
use std::sync::Arc;

/// Where a reader stands in a shape's initial rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SnapshotPosition {
    /// Which of the pieces that the rows are kept in.
    pub chunk: u32,
    /// Which row of that is the next.
    pub row: u32,
}

impl SnapshotPosition {
    /// Before the first row.
    pub const START: SnapshotPosition = SnapshotPosition { chunk: 0, row: 0 };
}

/// A piece of a shape's initial rows.
#[derive(Clone, Debug)]
pub struct SnapshotPage {
    /// In the order in which they were given.
    pub rows: Vec<SnapshotRow>,
    /// Where to go on.
    pub next: SnapshotPosition,
    /// Whether there are no more: then the shape's log follows, from its beginning.
    pub is_last: bool,
}

impl SnapshotPage {
    /// Appends each row as a line of JSON: [`SnapshotRow::write_json_line`].
    pub fn write_json_lines(&self, out: &mut Vec<u8>) {
        self.rows.iter().for_each(|row| row.write_json_line(out));
    }
}

/// A row that a shape begins with.
#[derive(Clone)]
pub struct SnapshotRow {
    pub(super) chunk: Arc<Fragment>,
    pub(super) index: u32,
    pub(super) view: View,
}

impl SnapshotRow {
    /// The row, whole.
    pub fn row(&self) -> RowRef<'_> {
        self.formed().new_row().expect("a chunk's changes are inserts")
    }

    /// The columns that the shape selects.
    pub fn selected(&self) -> impl Iterator<Item = ColumnValue<'_>> {
        self.formed().told(&self.view)
    }

    /// The row's table, as it was when the shape was added.
    pub fn relation(&self) -> &Arc<Relation> {
        self.formed().change().relation()
    }

    /// Appends the row as a line of JSON, in the form of
    /// [`LoggedChange::write_json_line`](crate::LoggedChange::write_json_line):
    ///
    /// ```json
    /// {"key":"\"public\".\"items\"/\"7\"","value":{"id":"7","kind":"hot"},"headers":
    /// {"operation":"insert"}}
    /// ```
    ///
    /// (without the line break in it). It has no offset and no transaction: it is before all that
    /// the log has.
    pub fn write_json_line(&self, out: &mut Vec<u8>) {
        write_initial_line(self.formed(), &self.view, out);
    }

    pub(super) fn bytes(&self) -> usize {
        self.row().bytes()
    }

    fn formed(&self) -> Formed<'_> {
        Formed::new(&self.chunk, (self.index, Form::AsIs)).expect("a page numbers a chunk's rows")
    }
}

impl fmt::Debug for SnapshotRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SnapshotRow").field("row", &self.row()).finish_non_exhaustive()
    }
}

/// What a page may still grow by; at least one row is always given.
pub(super) struct Room {
    pub(super) left: ReadLimits,
    pub(super) is_empty: bool,
}

impl Room {
    pub(super) fn take(&mut self, bytes: usize) -> bool {
        let ReadLimits { changes_max, bytes_max } = &mut self.left;
        let fits = self.is_empty || (*changes_max > 0 && *bytes_max >= bytes);
        *changes_max = changes_max.saturating_sub(1);
        *bytes_max = bytes_max.saturating_sub(bytes);
        self.is_empty = false;
        fits
    }
}
