//! Functions, and the forms that look like them.

use super::coerce::exprs;
use super::operators::check_comparison;
use super::{Checker, Operand, Result, Typed, no_operator, node, unsupported};
use crate::predicate::error::Position;
use crate::predicate::expr::{Comparison, Expr, Function, Number};
use crate::predicate::syntax::Ast;
use crate::predicate::types::{Scalar, Type};
use std::sync::Arc;

const TEXT: Type = Scalar::Text.plain();
const INT: Type = Scalar::Int4.plain();

impl Checker<'_> {
    pub(super) fn call(&self, name: &str, args: &[Ast], at: Position) -> Result<Typed> {
        let args = args.iter().map(|arg| self.operand(arg)).collect::<Result<Vec<_>>>()?;
        let trim = |left, right| Function::Trim { left, right };
        match (name, args.len()) {
            ("coalesce", 1..) => {
                let (args, of) = self.unified(args, "COALESCE", at)?;
                coalesce(args, of, at)
            }
            ("greatest" | "least", 1..) => self.extreme(name == "greatest", args, at),
            ("nullif", 2) => self.null_if(args, at),
            ("lower", 1) => self.function(Function::Lower, args, &[TEXT], TEXT, at),
            ("upper", 1) => self.function(Function::Upper, args, &[TEXT], TEXT, at),
            ("length" | "char_length" | "character_length" | "octet_length", 1) => {
                self.length(name, args, at)
            }
            ("btrim", 1 | 2) => self.function(trim(true, true), args, &[TEXT, TEXT], TEXT, at),
            ("ltrim", 1 | 2) => self.function(trim(true, false), args, &[TEXT, TEXT], TEXT, at),
            ("rtrim", 1 | 2) => self.function(trim(false, true), args, &[TEXT, TEXT], TEXT, at),
            ("abs", 1) => self.abs(args, at),
            ("round", 1 | 2) => self.round(args, at),
            ("substring" | "substr", 2 | 3) => {
                let kinds = [TEXT, INT, INT];
                self.function(Function::Substring, args, &kinds, TEXT, at)
            }
            ("left", 2) => self.function(Function::Left, args, &[TEXT, INT], TEXT, at),
            ("right", 2) => self.function(Function::Right, args, &[TEXT, INT], TEXT, at),
            _ => {
                let types: Vec<String> = args.iter().map(Operand::name).collect();
                unsupported(format!("the function {name}({})", types.join(", ")), at)
            }
        }
    }

    fn function(
        &self,
        function: Function,
        args: Vec<Operand>,
        types: &[Type],
        result: Type,
        at: Position,
    ) -> Result<Typed> {
        let args = args.into_iter().zip(types).map(|(arg, of)| match (&arg, *of) {
            // Postgres would take the text for a pattern.
            (Operand::Unknown(Some(_), at), of) if of == INT => {
                unsupported("a quoted number as an argument", *at)
            }
            _ => self.coerced(arg, *of),
        });
        let args = args.collect::<Result<Vec<_>>>()?;
        let parts: Vec<&Typed> = args.iter().collect();
        node(Expr::Call(function, exprs(&args)), result, at, &parts)
    }

    fn length(&self, name: &str, args: Vec<Operand>, at: Position) -> Result<Typed> {
        let bytes = args.first().and_then(Operand::of) == Some(Scalar::Bytea.plain());
        match (bytes, name) {
            (true, "length" | "octet_length") => {
                self.function(Function::Octets, args, &[Scalar::Bytea.plain()], INT, at)
            }
            (false, "octet_length") => {
                // Of a `character`, blanks at the end count here and nowhere else.
                let padded = args.first().and_then(Operand::of) == Some(Scalar::Bpchar.plain());
                let of = if padded { Scalar::Bpchar.plain() } else { TEXT };
                self.function(Function::Octets, args, &[of], INT, at)
            }
            _ => self.function(Function::Length, args, &[TEXT], INT, at),
        }
    }

    fn extreme(&self, greatest: bool, args: Vec<Operand>, at: Position) -> Result<Typed> {
        let word = if greatest { "GREATEST" } else { "LEAST" };
        let (args, of) = self.unified(args, word, at)?;
        check_comparison(of, Comparison::Less, at)?;
        let parts: Vec<&Typed> = args.iter().collect();
        let (items, compared_as) = (exprs(&args), super::coerce::compared_as(of));
        node(Expr::Extreme { greatest, items, compared_as }, of, at, &parts)
    }

    fn null_if(&self, args: Vec<Operand>, at: Position) -> Result<Typed> {
        let Ok([left, right]) = <[Operand; 2]>::try_from(args) else {
            return unsupported("NULLIF of other than two", at);
        };
        let equal = self.compare(Comparison::Eq, "=", left.clone(), right.clone(), at)?;
        let of = match (left.of(), right.of()) {
            (Some(left), Some(right)) if left == right => left,
            (Some(left), Some(right)) => {
                // There are operators between different integers, and between different floats;
                // else the left side is cast before it is compared.
                let alike = |l: Scalar, r: Scalar| {
                    (l.is_int() && r.is_int()) || (l.is_float() && r.is_float())
                };
                match alike(left.scalar, right.scalar) {
                    true => left,
                    false => super::coerce::comparable(left, right).unwrap_or(left),
                }
            }
            (Some(of), None) | (None, Some(of)) => of,
            (None, None) => TEXT,
        };
        let value = self.coerced(left, of)?;
        let expr = Expr::NullIf(Arc::clone(&equal.expr), Arc::clone(&value.expr));
        node(expr, of, at, &[&equal, &value])
    }

    fn abs(&self, mut args: Vec<Operand>, at: Position) -> Result<Typed> {
        match args.pop() {
            Some(Operand::Typed(typed)) if !typed.of.array => {
                let Some(number) = Number::of(typed.of.scalar) else {
                    return no_operator(format!("abs({})", typed.of), at);
                };
                let call = Expr::Call(Function::Abs(number), Box::new([Arc::clone(&typed.expr)]));
                node(call, typed.of, at, &[&typed])
            }
            other => {
                let name = other.map_or_else(String::new, |other| other.name());
                no_operator(format!("abs({name})"), at)
            }
        }
    }

    fn round(&self, args: Vec<Operand>, at: Position) -> Result<Typed> {
        let numeric = Scalar::Numeric.plain();
        let float = Scalar::Float8.plain();
        let first = args.first().and_then(Operand::of);
        let rank = first.and_then(|of| if of.array { None } else { of.scalar.number_rank() });
        match (rank, args.len(), first.map(|of| of.scalar)) {
            (Some(_), 1, Some(Scalar::Numeric)) => {
                self.function(Function::RoundNumeric, args, &[numeric], numeric, at)
            }
            // Postgres prefers the float to the numeric for an integer.
            (Some(_), 1, _) => self.function(Function::RoundFloat, args, &[float], float, at),
            (Some(_), 2, Some(scalar)) if !scalar.is_float() => {
                self.function(Function::RoundNumeric, args, &[numeric, INT], numeric, at)
            }
            _ => {
                let types: Vec<String> = args.iter().map(Operand::name).collect();
                no_operator(format!("round({})", types.join(", ")), at)
            }
        }
    }
}

/// As in Postgres, constants are decided at once: a NULL is passed over, and what stands behind a
/// value is never evaluated.
fn coalesce(mut args: Vec<Typed>, of: Type, at: Position) -> Result<Typed> {
    args.retain(|arg| !matches!(*arg.expr, Expr::Const(None)));
    if let Some(place) = args.iter().position(|arg| matches!(*arg.expr, Expr::Const(_))) {
        args.truncate(place + 1);
    }
    match &args[..] {
        [] => Ok(super::constant(None, of, at)),
        [only] => Ok(Typed { at, ..only.clone() }),
        _ => {
            let parts: Vec<&Typed> = args.iter().collect();
            node(Expr::Coalesce(exprs(&args)), of, at, &parts)
        }
    }
}
