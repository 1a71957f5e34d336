//! Implicit casts: which type several operands share, and how each gets there.

use super::{Checker, Operand, Result, Typed, cast_node, no_operator};
use crate::predicate::error::Position;
use crate::predicate::expr::Cast;
use crate::predicate::types::{Scalar, Type};
use std::sync::Arc;

/// Whether a value of `from` is one of `to` as it is.
fn is_same_value(from: Scalar, to: Scalar) -> bool {
    from == to
        || matches!((from, to), (Scalar::Float4, Scalar::Float8))
        || matches!((from, to), (Scalar::Text | Scalar::Varchar, Scalar::Text | Scalar::Varchar))
        || matches!((from, to), (Scalar::Text | Scalar::Varchar, Scalar::Bpchar))
        || (from.is_int() && to.is_int() && from.number_rank() <= to.number_rank())
}

/// Whether Postgres casts `from` to `to` without being asked.
fn is_implicit(from: Scalar, to: Scalar) -> bool {
    match (from.number_rank(), to.number_rank()) {
        (Some(from), Some(to)) => from <= to,
        _ => {
            from == to
                || (from.is_string() && to.is_string())
                || (from == Scalar::Date && to == Scalar::Timestamp)
        }
    }
}

/// `typed` as a `to`, by whatever cast there is.
pub(super) fn explicit(
    typed: Typed,
    to: Type,
    limit: Option<(u16, u16)>,
    at: Position,
) -> Result<Typed> {
    if limit.is_none() && is_same_value(typed.of.scalar, to.scalar) {
        return Ok(Typed { of: to, ..typed });
    }
    let cast = Cast { from: typed.of.scalar, to: to.scalar, array: to.array, limit };
    cast_node(&typed, cast, to, at)
}

/// What makes of a value of type `of` what is compared, where that is another one: a `character`
/// without the blanks at its end, an array of these without theirs.
pub(super) fn compared_as(of: Type) -> Option<Cast> {
    let cast = Cast { from: Scalar::Bpchar, to: Scalar::Text, array: of.array, limit: None };
    (of.scalar == cast.from).then_some(cast)
}

/// The type in which values of both are compared.
pub(super) fn comparable(left: Type, right: Type) -> Option<Type> {
    if left.array || right.array {
        return (left == right).then_some(left);
    }
    let (left, right) = (left.scalar, right.scalar);
    let common = match (left.number_rank(), right.number_rank()) {
        (Some(_), Some(_)) if left == right => left,
        (Some(_), Some(_)) if left.is_float() || right.is_float() => Scalar::Float8,
        (Some(l), Some(r)) => {
            if l > r {
                left
            } else {
                right
            }
        }
        // Postgres has no operators of varchar. Beside a text it is one, and so is a `character`;
        // these two together are compared as `character`s, without blanks at their ends.
        _ if left.is_string() && right.is_string() => {
            let has = |scalar| left == scalar || right == scalar;
            if has(Scalar::Bpchar) && !has(Scalar::Text) { Scalar::Bpchar } else { Scalar::Text }
        }
        _ if left == right => left,
        _ => match (left, right) {
            (Scalar::Date, Scalar::Timestamp) | (Scalar::Timestamp, Scalar::Date) => {
                Scalar::Timestamp
            }
            _ => return None,
        },
    };
    Some(common.plain())
}

/// The type that CASE, COALESCE, ARRAY and the like give to operands of both.
fn common(left: Type, right: Type) -> Option<Type> {
    if left == right {
        return Some(left);
    }
    if left.array || right.array {
        return None;
    }
    let (left, right) = (left.scalar, right.scalar);
    let common = match (left.number_rank(), right.number_rank()) {
        (Some(l), Some(r)) => {
            if l > r {
                left
            } else {
                right
            }
        }
        // Beside a `character`, the result would depend on the order.
        _ if left == Scalar::Bpchar || right == Scalar::Bpchar => return None,
        _ if left.is_string() && right.is_string() => Scalar::Text,
        (None, None) if is_implicit(left, right) => right,
        (None, None) if is_implicit(right, left) => left,
        _ => return None,
    };
    Some(common.plain())
}

impl Checker<'_> {
    /// `operand` as a `to`, by implicit casts only.
    pub(super) fn coerced(&self, operand: Operand, to: Type) -> Result<Typed> {
        let typed = match operand {
            Operand::Unknown(text, at) => return self.settled(text.as_deref(), to, at),
            Operand::Typed(typed) => typed,
        };
        let at = typed.at;
        if typed.of == to {
            return Ok(typed);
        }
        if typed.of.array != to.array || typed.of.array || !is_implicit(typed.of.scalar, to.scalar)
        {
            return no_operator(format!("implicit cast from {} to {to}", typed.of), at);
        }
        explicit(typed, to, None, at)
    }

    /// The same for a value to be compared: blanks at the end of a `character` do not count, nor in
    /// an array of these.
    pub(super) fn compared(&self, operand: Operand, to: Type) -> Result<Typed> {
        let typed = self.coerced(operand, to)?;
        let Some(cast) = compared_as(typed.of) else { return Ok(typed) };
        cast_node(&typed, cast, Type { scalar: cast.to, array: cast.array }, typed.at)
    }

    /// Both operands in the type in which they are compared.
    pub(super) fn pair(
        &self,
        left: Operand,
        right: Operand,
        operation: &str,
        at: Position,
    ) -> Result<(Typed, Typed, Type)> {
        let of = match (left.of(), right.of()) {
            (None, None) => Some(Scalar::Text.plain()),
            (Some(of), None) | (None, Some(of)) => Some(of),
            (Some(left), Some(right)) => comparable(left, right),
        };
        let Some(of) = of else {
            return no_operator(format!("{} {operation} {}", left.name(), right.name()), at);
        };
        Ok((self.compared(left, of)?, self.compared(right, of)?, of))
    }

    /// All operands in one type; text if none has any.
    pub(super) fn unified(
        &self,
        operands: Vec<Operand>,
        what: &str,
        at: Position,
    ) -> Result<(Vec<Typed>, Type)> {
        let mut of: Option<Type> = None;
        for operand in &operands {
            let Some(next) = operand.of() else { continue };
            of = match of {
                None => Some(next),
                Some(so_far) => match common(so_far, next) {
                    Some(of) => Some(of),
                    None => return no_operator(format!("{what} of {so_far} and {next}"), at),
                },
            };
        }
        let of = of.unwrap_or(Scalar::Text.plain());
        let mut typed = Vec::with_capacity(operands.len());
        for operand in operands {
            typed.push(self.coerced(operand, of)?);
        }
        Ok((typed, of))
    }
}

/// The expressions of several operands.
pub(super) fn exprs(typed: &[Typed]) -> Box<[crate::predicate::expr::E]> {
    typed.iter().map(|typed| Arc::clone(&typed.expr)).collect()
}
