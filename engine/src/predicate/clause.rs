//! Clauses in their normal form: an OR of ANDs, as far as the top of the tree goes. What is nothing
//! but `column = constant` joined with OR becomes a list of those, which the router looks up
//! without evaluating anything.

use super::access::{self, Path};
use super::error::EvalError;
use super::eval::{RowView, truth};
use super::expr::{Comparison, E, Expr};
use super::key::{Key, KeyKind};
use super::types::Scalar;
use super::value::Datum;
use super::{Equality, Predicate, TERMS_MAX};
use crate::words::Relation;
use smallvec::SmallVec;
use std::sync::Arc;

/// Most clauses have one alternative, and many of these one condition, which lie in place: who adds
/// or removes a clause reads less of memory.
pub(super) type Alternatives = SmallVec<[SmallVec<[E; 1]>; 1]>;

/// A condition that is true of a row, or not, or has no answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Clause {
    /// Each holds if all of its conditions do; the clause holds if one of them does.
    pub(super) alternatives: Alternatives,
}

impl Clause {
    /// Whether the row belongs to the shape: [`holds`] of the clause as a whole.
    ///
    /// # Errors
    /// When an error is left that nothing decides over.
    pub(crate) fn matches<'a>(&'a self, row: &RowView<'a>) -> Result<bool, EvalError> {
        let all =
            |conditions: &'a [E]| decided(conditions.iter().map(|one| holds(one, row)), false);
        decided(self.alternatives.iter().map(|conditions| all(conditions)), true)
    }

    /// Whether it is `conditions`, joined with AND.
    pub(super) fn is_all(&self, conditions: &[E]) -> bool {
        matches!(&*self.alternatives, [only] if **only == *conditions)
    }

    /// How the rows that it takes can be found: each is found by one of these at least.
    pub(crate) fn paths(&self) -> Vec<Path> {
        access::paths(&self.alternatives)
    }
}

/// Whether `condition` is true. An AND of which a part is not true is not true, and an OR of which
/// one is true is true, whatever error is in another part, and however deep they stand in one
/// another. An index finds by one part and does not look at the others where that is not true; so
/// the answer depends on no order, and an index gives the same.
fn holds<'a>(condition: &'a Expr, row: &RowView<'a>) -> Result<bool, EvalError> {
    match condition {
        Expr::And(items) => decided(items.iter().map(|item| holds(item, row)), false),
        Expr::Or(items) => decided(items.iter().map(|item| holds(item, row)), true),
        // Below NOT and the like it matters whether a part is false or NULL: evaluated in order.
        _ => Ok(truth(condition, row)? == Some(true)),
    }
}

/// `by` if one of `parts` is that, else the first error, else the other value.
fn decided(
    parts: impl Iterator<Item = Result<bool, EvalError>>,
    by: bool,
) -> Result<bool, EvalError> {
    let mut error = None;
    for part in parts {
        match part {
            Ok(value) if value == by => return Ok(by),
            Ok(_) => {}
            Err(found) => error = error.or(Some(found)),
        }
    }
    error.map_or(Ok(!by), Err)
}

/// What the OR that a condition is at its top joins.
pub(super) struct Terms {
    pub(super) alternatives: Alternatives,
    /// The same as a list of `column = constant`, if it is nothing else.
    pub(super) equalities: Option<Vec<Equality>>,
    always: bool,
}

impl Terms {
    /// What is bounded by [`TERMS_MAX`].
    pub(super) fn count(&self) -> usize {
        self.equalities.as_ref().map_or(self.alternatives.len(), Vec::len)
    }
}

pub(super) fn terms(relation: &Relation, condition: &E) -> Terms {
    let mut terms =
        Terms { alternatives: Alternatives::new(), equalities: Some(Vec::new()), always: false };
    for condition in flattened(condition, true) {
        if let Expr::Const(value) = &*condition {
            terms.always |= *value == Some(Datum::Bool(true));
            continue;
        }
        if let Some(list) = &mut terms.equalities {
            match equalities_of(relation, &condition) {
                Some(more) => list.extend(more),
                None => terms.equalities = None,
            }
        }
        let mut conditions: SmallVec<[E; 1]> = flattened(&condition, false).into();
        conditions.shrink_to_fit();
        terms.alternatives.push(conditions);
    }
    terms
}

/// The predicate that `condition` is; `None` if it has too many terms.
pub(super) fn predicate(relation: &Relation, condition: &E) -> Option<Predicate> {
    let terms = terms(relation, condition);
    if terms.always {
        return Some(Predicate::ALWAYS);
    }
    if terms.count() > TERMS_MAX {
        return None;
    }
    Some(match terms.equalities {
        Some(list) => Predicate::any_of(list),
        None => {
            let mut alternatives = terms.alternatives;
            alternatives.shrink_to_fit();
            Predicate::Clause(Some(Arc::new(Clause { alternatives })))
        }
    })
}

/// The parts of nested ORs, or of nested ANDs, in order.
pub(super) fn flattened(condition: &E, or: bool) -> Vec<E> {
    let mut parts = Vec::new();
    let mut stack = SmallVec::<[&E; 8]>::from_slice(&[condition]);
    while let Some(next) = stack.pop() {
        match (&**next, or) {
            (Expr::Or(items), true) | (Expr::And(items), false) => stack.extend(items.iter().rev()),
            _ => parts.push(Arc::clone(next)),
        }
    }
    parts
}

/// `condition` as comparisons of columns with constants; none if it is never true.
fn equalities_of(relation: &Relation, condition: &Expr) -> Option<Vec<Equality>> {
    let term = |column: &E, value: &Datum<'_>| equality(relation, column, value);
    match condition {
        Expr::Compare(Comparison::Eq, left, right) => match (&**left, &**right) {
            (Expr::Const(None), _) | (_, Expr::Const(None)) => Some(Vec::new()),
            (_, Expr::Const(Some(value))) => term(left, value),
            (Expr::Const(Some(value)), _) => term(right, value),
            _ => None,
        },
        Expr::In(column, set, _) => {
            let terms = set.iter().map(|value| term(column, value)).collect::<Option<Vec<_>>>()?;
            Some(terms.into_iter().flatten().collect())
        }
        Expr::Not(column) => term(column, &Datum::Bool(false)).filter(|_| is_bool(column)),
        Expr::IsBool(column, value) => term(column, &Datum::Bool(*value)),
        Expr::Column(index, of) if *of == Scalar::Bool.plain() => {
            Some(vec![Equality::new(u32::try_from(*index).ok()?, Key::Bool(true))])
        }
        _ => None,
    }
}

fn is_bool(expr: &Expr) -> bool {
    matches!(expr, Expr::Column(_, of) if *of == Scalar::Bool.plain())
}

/// `column = value`; none if the column's type cannot hold it.
fn equality(relation: &Relation, column: &Expr, value: &Datum<'_>) -> Option<Vec<Equality>> {
    // An integer column beside a numeric constant, which is what a very large integer is too.
    if let (Expr::Cast(cast, column), Datum::Num(value)) = (column, value)
        && cast.from.is_int()
        && cast.to == Scalar::Numeric
    {
        return match value.exact_int() {
            Some(value) => equality(relation, column, &Datum::Int(value)),
            // Never true; but what is computed may have no answer.
            None => matches!(**column, Expr::Column(..)).then(Vec::new),
        };
    }
    let Expr::Column(index, of) = column else { return None };
    let key = match (KeyKind::of(*of)?, value) {
        (KeyKind::Bool, Datum::Bool(value)) => Key::Bool(*value),
        (KeyKind::Int, Datum::Int(value)) => Key::Int(*value),
        (KeyKind::Uuid, Datum::Uuid(value)) => Key::Uuid(*value),
        (KeyKind::Text, Datum::Bytes(value)) => Key::Text(value),
        _ => return None,
    };
    // A jsonb column that is cast to text is read as text too.
    let declared = super::types::Type::of(relation.columns.get(*index)?)?;
    let holds = match (declared.scalar, key) {
        (Scalar::Int2, Key::Int(value)) => i16::try_from(value).is_ok(),
        (Scalar::Int4, Key::Int(value)) => i32::try_from(value).is_ok(),
        _ => true,
    };
    let column = u32::try_from(*index).ok()?;
    Some(if holds { vec![Equality::new(column, key)] } else { Vec::new() })
}
