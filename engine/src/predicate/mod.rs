//! Predicate: a shape's WHERE clause, compiled against its table. Text and relation come in; out
//! comes a value that says exactly which rows belong to the shape, and by what of a row they can be
//! found. Finding the shapes of a row without asking each one is the router's part.
//!
//! The language is Postgres's, as far as it depends on the row alone: no subqueries, nothing that
//! depends on a time zone or on the time. Texts are compared bytewise and only ASCII letters have
//! another case, as in collation "C". Of types that users made only enums are known, whose labels
//! are equal or not. Where a clause is an AND or an OR at its top, or these stand in one another,
//! what decides wins over an error in another part, so that no order of evaluation matters.

mod access;
mod canonical;
mod check;
mod clause;
mod equality;
mod error;
mod eval;
mod expr;
mod form;
mod key;
mod syntax;
mod types;
mod value;

pub use error::{Position, WhereError};

pub(crate) use access::{Keys, Path, Probe, ProbeKind, Range};
pub(crate) use canonical::canonical;
pub(crate) use clause::Clause;
pub(crate) use equality::Equality;
pub(crate) use error::{EvalError, ValueError};
#[cfg(test)]
pub(crate) use eval::READS;
pub(crate) use eval::{RowView, eval};
pub(crate) use expr::E;
pub(crate) use form::{Constants, Form};
pub(crate) use key::{Key, KeyKind};
pub(crate) use syntax::quoted;
pub(crate) use value::Datum;

use crate::words::{Relation, RowRef, Value};
use std::sync::Arc;
use syntax::Ast;

/// The most terms that the OR of a clause may join.
pub(crate) const TERMS_MAX: usize = 1_000;

/// Which rows of its table a shape takes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Predicate {
    /// The rows for which one of these holds; none at all when it is empty. Sorted, no two alike,
    /// so that clauses with the same meaning are equal.
    AnyOf(Box<[Equality]>),
    /// The rows for which this is true; every row where there is no clause.
    Clause(Option<Arc<Clause>>),
}

// Every row as a variant of its own would make it 24.
const _: () = assert!(size_of::<Predicate>() <= 16, "it is there once a shape");

/// What the parameters `$1`, `$2` and so on of a clause are: texts as they would stand in quotes,
/// or NULL.
pub(crate) type Params = [Option<Box<str>>];

/// Compiles `clause` against the columns of `relation`; no clause takes every row. A parameter
/// means what its text in quotes would mean at that place.
///
/// # Errors
/// When the clause is no SQL, is SQL that shapes do not support, does not fit the relation, or does
/// not fit the parameters.
pub(crate) fn compile_with(
    relation: &Relation,
    clause: Option<&str>,
    params: &Params,
) -> Result<Predicate, WhereError> {
    parsed(relation, clause, params).map(|(predicate, _)| predicate)
}

/// The predicate that `clause` is, and its tree if there is one.
fn parsed(
    relation: &Relation,
    clause: Option<&str>,
    params: &Params,
) -> Result<(Predicate, Option<Ast>), WhereError> {
    let Some(clause) = clause else {
        return match params.is_empty() {
            true => Ok((Predicate::ALWAYS, None)),
            false => Err(WhereError::UnusedParameter { number: 1, position: Position::START }),
        };
    };
    let (tree, places) = syntax::parse(clause, params)?;
    let condition = check::condition(relation, &tree, &places);
    let condition = condition.map_err(|error| places.named(error))?;
    let predicate = clause::predicate(relation, &condition);
    let predicate = predicate.ok_or_else(|| WhereError::TooComplex {
        what: "terms",
        count_max: TERMS_MAX,
        position: first_too_many(relation, &tree, &places),
    })?;
    Ok((predicate, Some(tree)))
}

/// Where in the OR `tree` the part stands with which its terms are too many.
fn first_too_many(relation: &Relation, tree: &Ast, places: &syntax::Places) -> Position {
    let parts = tree.alternatives().into_iter();
    let checked = parts.filter_map(|part| {
        let condition = check::condition(relation, part, places).ok()?;
        Some((part.at, clause::terms(relation, &condition)))
    });
    let checked: Vec<_> = checked.collect();
    let lists = checked.iter().all(|(_, terms)| terms.equalities.is_some());
    let mut count = 0;
    let beyond = checked.iter().find(|(_, terms)| {
        count += if lists { terms.count() } else { terms.alternatives.len() };
        count > TERMS_MAX
    });
    beyond.map_or(tree.at, |(position, _)| *position)
}

impl Predicate {
    /// Every row.
    pub(crate) const ALWAYS: Predicate = Predicate::Clause(None);

    /// The rows for which one of `terms` holds.
    pub(crate) fn any_of(mut terms: Vec<Equality>) -> Predicate {
        terms.sort_unstable();
        terms.dedup();
        // Copied: an allocator may leave what is shrunk where it is, and there is one a shape.
        Predicate::AnyOf(terms.drain(..).collect())
    }

    /// The exact rule: whether `row` belongs to the shape.
    ///
    /// # Errors
    /// When a value that decides cannot be read, or the clause has no answer for this row.
    pub(crate) fn matches<'a>(&'a self, row: &RowView<'a>) -> Result<bool, EvalError> {
        let terms = match self {
            Predicate::Clause(None) => return Ok(true),
            Predicate::Clause(Some(clause)) => return clause.matches(row),
            Predicate::AnyOf(terms) => terms,
        };
        for term in terms {
            let key = term.key();
            if row.key(term.column(), key.kind())? == Some(key) {
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

    /// The number of its columns.
    pub(crate) fn columns(&self) -> usize {
        self.row.len()
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
    pub(crate) fn key(&self, column: usize, kind: KeyKind) -> Result<Option<Key<'a>>, ValueError> {
        let Some(text) = self.text(column)? else { return Ok(None) };
        let invalid = || ValueError::Invalid { column, expected: kind.widest() };
        Key::decode(kind, text).map(Some).ok_or_else(invalid)
    }
}

/// The same without parameters.
#[cfg(test)]
pub(crate) fn compile(relation: &Relation, clause: Option<&str>) -> Result<Predicate, WhereError> {
    compile_with(relation, clause, &[])
}

#[cfg(all(test, feature = "postgres"))]
mod oracle;
#[cfg(test)]
mod tests;
