//! Row: the values of one row, each read at most once however many expressions ask for it.

use crate::predicate::error::{EvalError, ValueError};
use crate::predicate::types::Type;
use crate::predicate::value::{Datum, input};
use crate::predicate::{FullRow, Key, KeyKind};
use std::cell::OnceCell;

type Cell<'a> = OnceCell<(Type, Result<Option<Datum<'a>>, EvalError>)>;

/// A row, or none while constants are evaluated.
#[derive(Debug)]
pub(crate) struct RowView<'a> {
    row: Option<FullRow<'a>>,
    cells: Box<[Cell<'a>]>,
}

impl<'a> RowView<'a> {
    /// A view of `row`.
    pub(crate) fn new(row: FullRow<'a>) -> RowView<'a> {
        let cells = (0..row.columns()).map(|_| OnceCell::new()).collect();
        RowView { row: Some(row), cells }
    }

    /// No row at all.
    pub(crate) fn none() -> RowView<'a> {
        RowView { row: None, cells: Box::default() }
    }

    /// The value of `column` as a key, or `None` for NULL.
    pub(crate) fn key(&self, column: usize, kind: KeyKind) -> Result<Option<Key<'a>>, ValueError> {
        self.row.ok_or(ValueError::Missing { column })?.key(column, kind)
    }

    /// The value of `column`, read as a value of type `of`.
    pub(crate) fn value(&self, column: usize, of: Type) -> Result<Option<Datum<'a>>, EvalError> {
        let Some(cell) = self.cells.get(column) else {
            return Err(ValueError::Missing { column }.into());
        };
        let (read_as, value) = cell.get_or_init(|| (of, self.read(column, of)));
        if *read_as == of { value.clone() } else { self.read(column, of) }
    }

    fn read(&self, column: usize, of: Type) -> Result<Option<Datum<'a>>, EvalError> {
        let row = self.row.ok_or(ValueError::Missing { column })?;
        let Some(text) = row.text(column)? else { return Ok(None) };
        // Who does not look at this column loses nothing by it.
        input(of, text).map(Some).map_err(|_| EvalError::Unread { column, expected: of })
    }
}
