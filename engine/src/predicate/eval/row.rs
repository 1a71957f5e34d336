//! Row: the values of one row, each read at most once however many shapes ask for it.

use crate::predicate::error::{EvalError, ValueError};
use crate::predicate::types::Type;
use crate::predicate::value::{Datum, input};
use crate::predicate::{FullRow, Key, KeyKind};
use std::cell::OnceCell;

#[cfg(test)]
thread_local! {
    /// How many values this thread has read from text.
    pub(crate) static READS: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

fn note_read() {
    #[cfg(test)]
    READS.with(|reads| reads.set(reads.get() + 1));
}

/// What was read of a column.
#[derive(Debug, Default)]
struct Cell<'a> {
    key: OnceCell<(KeyKind, Result<Option<Key<'a>>, ValueError>)>,
    value: OnceCell<(Type, Result<Option<Datum<'a>>, EvalError>)>,
}

/// A row, or none while constants are evaluated.
#[derive(Debug)]
pub(crate) struct RowView<'a> {
    row: Option<FullRow<'a>>,
    /// Several indexes look for the same keys.
    keeps_keys: bool,
    /// One a column, from when something is kept: most rows are looked up by a key and no more.
    cells: OnceCell<Box<[Cell<'a>]>>,
}

impl<'a> RowView<'a> {
    /// A view of `row` for one index, which asks for a key once.
    pub(crate) fn new(row: FullRow<'a>) -> RowView<'a> {
        RowView { row: Some(row), keeps_keys: false, cells: OnceCell::new() }
    }

    /// A view of `row` for several indexes.
    pub(crate) fn shared(row: FullRow<'a>) -> RowView<'a> {
        RowView { keeps_keys: true, ..RowView::new(row) }
    }

    /// No row at all.
    pub(crate) fn none() -> RowView<'a> {
        RowView { row: None, keeps_keys: false, cells: OnceCell::new() }
    }

    /// The text of `column`, or `None` for NULL.
    #[inline]
    pub(crate) fn text(&self, column: usize) -> Result<Option<&'a [u8]>, ValueError> {
        self.row.ok_or(ValueError::Missing { column })?.text(column)
    }

    /// The value of `column` as a key, or `None` for NULL.
    #[inline]
    pub(crate) fn key(&self, column: usize, kind: KeyKind) -> Result<Option<Key<'a>>, ValueError> {
        let read = || {
            note_read();
            self.row.ok_or(ValueError::Missing { column })?.key(column, kind)
        };
        if !self.keeps_keys {
            return read();
        }
        let (read_as, key) = self.cell(column)?.key.get_or_init(|| (kind, read()));
        if *read_as == kind { key.clone() } else { read() }
    }

    /// The value of `column`, read as a value of type `of`.
    pub(crate) fn value(&self, column: usize, of: Type) -> Result<Option<Datum<'a>>, EvalError> {
        let cell = &self.cell(column)?.value;
        let (read_as, value) = cell.get_or_init(|| (of, self.read(column, of)));
        if *read_as == of { value.clone() } else { self.read(column, of) }
    }

    fn cell(&self, column: usize) -> Result<&Cell<'a>, ValueError> {
        let cells = self.cells.get_or_init(|| {
            let columns = self.row.map_or(0, |row| row.columns());
            (0..columns).map(|_| Cell::default()).collect()
        });
        cells.get(column).ok_or(ValueError::Missing { column })
    }

    fn read(&self, column: usize, of: Type) -> Result<Option<Datum<'a>>, EvalError> {
        let row = self.row.ok_or(ValueError::Missing { column })?;
        let Some(text) = row.text(column)? else { return Ok(None) };
        note_read();
        // Who does not look at this column loses nothing by it.
        input(of, text).map(Some).map_err(|_| EvalError::Unread { column, expected: of })
    }
}
