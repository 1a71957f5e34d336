//! Predicate: a shape's WHERE clause, compiled against its table. Text and relation come in; out
//! comes a small value that says exactly which rows belong to the shape. Finding the shapes of a
//! row without asking each one is the router's part.
//!
//! The language is `column = constant` joined with OR. With three-valued logic a comparison with
//! NULL is never true, so a clause is true of a row, or it is not; without NOT there is no need to
//! tell false from unknown.

mod error;
mod key;
mod literal;
mod parse;

pub use error::{Position, WhereError};

pub(crate) use error::ValueError;
pub(crate) use key::{Key, KeyKind, KeyRef};
pub(crate) use parse::compile;

use crate::words::{RowRef, Value};

/// Which rows of its table a shape takes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Predicate {
    /// Every row.
    Always,
    /// The rows for which one of these holds; none at all when it is empty. Sorted, no two alike,
    /// so that clauses with the same meaning are equal.
    AnyOf(Box<[Equality]>),
}

/// `column = constant`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Equality {
    /// The column's index in the relation.
    pub(crate) column: usize,
    pub(crate) key: Key,
}

impl Predicate {
    /// The rows for which one of `terms` holds.
    pub(crate) fn any_of(mut terms: Vec<Equality>) -> Predicate {
        terms.sort_unstable();
        terms.dedup();
        Predicate::AnyOf(terms.into())
    }

    /// The exact rule: whether `row` belongs to the shape. The index knows it all today: this is
    /// what tests hold it against.
    ///
    /// # Errors
    /// When a value that decides cannot be read.
    #[cfg(test)]
    pub(crate) fn matches(&self, row: FullRow<'_>) -> Result<bool, ValueError> {
        let Predicate::AnyOf(terms) = self else { return Ok(true) };
        for term in terms {
            if row.key(term.column, term.key.kind())? == Some(term.key.as_ref()) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// A row in which values that an update left as they were are looked up in the row before.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FullRow<'a> {
    row: RowRef<'a>,
    before: Option<RowRef<'a>>,
}

impl<'a> FullRow<'a> {
    /// `row` of a change whose old row is `before`.
    pub(crate) fn new(row: RowRef<'a>, before: Option<RowRef<'a>>) -> FullRow<'a> {
        FullRow { row, before }
    }

    /// The text of `column`, or `None` for NULL.
    pub(crate) fn text(&self, column: usize) -> Result<Option<&'a [u8]>, ValueError> {
        let value = match self.row.get(column) {
            Some(Value::Unchanged) => self.before.and_then(|before| before.get(column)),
            value => Some(value.ok_or(ValueError::Missing { column })?),
        };
        match value {
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(Value::Null) => Ok(None),
            Some(Value::Unchanged) | None => Err(ValueError::NotSent { column }),
        }
    }

    /// The value of `column` as a key, or `None` for NULL.
    pub(crate) fn key(
        &self,
        column: usize,
        kind: KeyKind,
    ) -> Result<Option<KeyRef<'a>>, ValueError> {
        let Some(text) = self.text(column)? else { return Ok(None) };
        KeyRef::decode(kind, text).map(Some).ok_or(ValueError::Invalid { column, kind })
    }
}

#[cfg(test)]
mod tests;
