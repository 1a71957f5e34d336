//! Texts: `||`, LIKE and regular expressions.

use super::{Checker, Operand, Result, Typed, no_operator, node, unsupported};
use crate::predicate::error::{Position, WhereError};
use crate::predicate::eval::{LikePattern, Pattern};
use crate::predicate::expr::Expr;
use crate::predicate::syntax::Ast;
use crate::predicate::types::{Scalar, Type};
use crate::predicate::value::Datum;
use std::sync::Arc;

const TEXT: Type = Scalar::Text.plain();
const BOOL: Type = Scalar::Bool.plain();

/// A constant text.
fn constant_text(typed: &Typed) -> Option<Option<&[u8]>> {
    match &*typed.expr {
        Expr::Const(None) => Some(None),
        Expr::Const(Some(Datum::Bytes(text))) => Some(Some(text)),
        _ => None,
    }
}

impl Checker<'_> {
    pub(super) fn concat(&self, left: Operand, right: Operand, at: Position) -> Result<Typed> {
        let names = format!("{} || {}", left.name(), right.name());
        let (l, r) = (left.of(), right.of());
        if l.is_some_and(|of| of.array) || r.is_some_and(|of| of.array) {
            return unsupported(names, at);
        }
        let bytea = Some(Scalar::Bytea.plain());
        let is_text = |of: Option<Type>| of.is_none_or(|of| of.scalar.is_string());
        let (left, right, of) =
            if l == bytea && (r == bytea || r.is_none()) || r == bytea && l.is_none() {
                let of = Scalar::Bytea.plain();
                (self.coerced(left, of)?, self.coerced(right, of)?, of)
            } else if is_text(l) || is_text(r) {
                if [l, r].iter().flatten().any(|of| of.scalar == Scalar::Jsonb) {
                    return unsupported(names, at);
                }
                (self.text_of(left, &names)?, self.text_of(right, &names)?, TEXT)
            } else {
                return no_operator(names, at);
            };
        let expr = Expr::Concat(Arc::clone(&left.expr), Arc::clone(&right.expr));
        node(expr, of, at, &[&left, &right])
    }

    /// `operand` as a text, by its output function if it is no text.
    fn text_of(&self, operand: Operand, names: &str) -> Result<Typed> {
        match operand {
            Operand::Typed(typed) if !typed.of.scalar.is_string() => {
                let at = typed.at;
                if typed.of.array
                    || !crate::predicate::eval::cast_exists(typed.of.scalar, Scalar::Text)
                {
                    return unsupported(names, at);
                }
                super::coerce::explicit(typed, TEXT, None, at)
            }
            operand => self.coerced(operand, TEXT),
        }
    }

    /// The left side of a pattern match. Of a `character`, blanks at the end count.
    fn subject(&self, operand: Operand, names: &str, at: Position) -> Result<Typed> {
        match operand.of() {
            Some(of) if of == Scalar::Bpchar.plain() => self.coerced(operand, of),
            Some(of) if of.array || !of.scalar.is_string() => {
                no_operator(format!("{of} {names}"), at)
            }
            _ => self.coerced(operand, TEXT),
        }
    }

    /// The right side of one, always a text: of a `character`, blanks at the end do not count.
    fn pattern(&self, operand: Operand, names: &str, at: Position) -> Result<Typed> {
        match operand.of() {
            Some(of) if of.array || !of.scalar.is_string() => {
                no_operator(format!("{names} {of}"), at)
            }
            _ => self.coerced(operand, TEXT),
        }
    }

    pub(super) fn like(
        &self,
        arg: &Ast,
        pattern: &Ast,
        escape: Option<&Ast>,
        ignore_case: bool,
        at: Position,
    ) -> Result<Typed> {
        let name = if ignore_case { "ILIKE" } else { "LIKE" };
        let arg = self.subject(self.operand(arg)?, name, at)?;
        let pattern = self.pattern(self.operand(pattern)?, name, at)?;
        let escape = match escape {
            None => Some('\\'),
            Some(escape) => self.escape(escape)?,
        };
        let (a, p) = (Arc::clone(&arg.expr), Arc::clone(&pattern.expr));
        let Some(text) = constant_text(&pattern) else {
            let expr = Expr::LikeComputed { arg: a, pattern: p, escape, ignore_case };
            return node(expr, BOOL, at, &[&arg, &pattern]);
        };
        let Some(text) = text else { return Ok(super::constant(None, BOOL, at)) };
        let like = LikePattern::new(text, escape, ignore_case);
        let like = like.ok_or_else(|| WhereError::Unsupported {
            what: "a pattern that ends with its escape character".into(),
            position: pattern.at,
        })?;
        node(Expr::Like(a, like), BOOL, at, &[&arg])
    }

    /// The escape character; `None` if there is to be none.
    fn escape(&self, escape: &Ast) -> Result<Option<char>> {
        let typed = self.coerced(self.operand(escape)?, TEXT)?;
        let text = constant_text(&typed).flatten().and_then(|text| std::str::from_utf8(text).ok());
        let mut characters = text.map(str::chars);
        let first = characters.as_mut().and_then(Iterator::next);
        match characters.as_mut().map(Iterator::next) {
            Some(None) => Ok(first),
            _ => unsupported("an ESCAPE that is not one constant character", escape.at),
        }
    }

    pub(super) fn regex(
        &self,
        arg: Operand,
        pattern: Operand,
        ignore_case: bool,
        negated: bool,
        at: Position,
    ) -> Result<Typed> {
        let arg = self.subject(arg, "~", at)?;
        let pattern = self.pattern(pattern, "~", at)?;
        let text = match constant_text(&pattern) {
            None => return unsupported("a regular expression that is not constant", pattern.at),
            Some(None) => return Ok(super::constant(None, BOOL, at)),
            Some(Some(text)) => std::str::from_utf8(text).unwrap_or_default(),
        };
        let regex = Pattern::new(text, ignore_case).map_err(|error| WhereError::Unsupported {
            what: error.0.into(),
            position: pattern.at,
        })?;
        let matched = node(Expr::Match(Arc::clone(&arg.expr), regex), BOOL, at, &[&arg])?;
        match negated {
            true => node(Expr::Not(Arc::clone(&matched.expr)), BOOL, at, &[&matched]),
            false => Ok(matched),
        }
    }
}
