//! Operators that make values of their operands, and comparisons.

use super::{Checker, Operand, Result, Typed, no_operator, node, unsupported};
use crate::predicate::error::Position;
use crate::predicate::expr::{Arith, ArrayTest, Comparison, Expr, Number, TimeOp};
use crate::predicate::syntax::{Ast, BinaryOp, Kind};
use crate::predicate::types::{Scalar, Type};
use std::sync::Arc;

/// An operator as it is written.
pub(super) fn sign(op: BinaryOp) -> &'static str {
    match op {
        BinaryOp::Eq => "=",
        BinaryOp::NotEq => "<>",
        BinaryOp::Less => "<",
        BinaryOp::LessEq => "<=",
        BinaryOp::Greater => ">",
        BinaryOp::GreaterEq => ">=",
        BinaryOp::Plus => "+",
        BinaryOp::Minus => "-",
        BinaryOp::Times => "*",
        BinaryOp::Divide => "/",
        BinaryOp::Modulo => "%",
        BinaryOp::Concat => "||",
        BinaryOp::Contains => "@>",
        BinaryOp::Contained => "<@",
        BinaryOp::Overlap => "&&",
        BinaryOp::Match { ignore_case: false, negated: false } => "~",
        BinaryOp::Match { ignore_case: true, negated: false } => "~*",
        BinaryOp::Match { ignore_case: false, negated: true } => "!~",
        BinaryOp::Match { ignore_case: true, negated: true } => "!~*",
    }
}

/// The comparison that `op` is, if it is one.
pub(super) fn comparison(op: BinaryOp) -> Option<Comparison> {
    Some(match op {
        BinaryOp::Eq => Comparison::Eq,
        BinaryOp::NotEq => Comparison::NotEq,
        BinaryOp::Less => Comparison::Less,
        BinaryOp::LessEq => Comparison::LessEq,
        BinaryOp::Greater => Comparison::Greater,
        BinaryOp::GreaterEq => Comparison::GreaterEq,
        _ => return None,
    })
}

/// Whether values of type `of` can be compared by `op`.
pub(super) fn check_comparison(of: Type, op: Comparison, at: Position) -> Result<()> {
    let equality = matches!(op, Comparison::Eq | Comparison::NotEq);
    match of.scalar {
        Scalar::Json => unsupported("a comparison of json (cast it to text)", at),
        Scalar::Jsonb if !equality || of.array => unsupported("an order of jsonb values", at),
        Scalar::Named(_) if !equality => unsupported("an order of values of a user's type", at),
        _ => Ok(()),
    }
}

/// A number behind any number of minus signs: whether they make it negative, and its digits.
fn signed_number(ast: &Ast) -> Option<(bool, &str)> {
    match &ast.kind {
        Kind::Number(digits) => Some((false, digits)),
        Kind::Negate(arg) => signed_number(arg).map(|(negative, digits)| (!negative, digits)),
        _ => None,
    }
}

impl Checker<'_> {
    pub(super) fn binary(
        &self,
        op: BinaryOp,
        left: &Ast,
        right: &Ast,
        at: Position,
    ) -> Result<Typed> {
        let (left, right) = (self.operand(left)?, self.operand(right)?);
        if let Some(comparison) = comparison(op) {
            return self.compare(comparison, sign(op), left, right, at);
        }
        match op {
            BinaryOp::Concat => self.concat(left, right, at),
            BinaryOp::Match { ignore_case, negated } => {
                self.regex(left, right, ignore_case, negated, at)
            }
            BinaryOp::Contains => self.array_test(ArrayTest::Contains, op, left, right, at),
            BinaryOp::Contained => self.array_test(ArrayTest::Contains, op, right, left, at),
            BinaryOp::Overlap => self.array_test(ArrayTest::Overlaps, op, left, right, at),
            _ => self.arith(op, left, right, at),
        }
    }

    pub(super) fn compare(
        &self,
        op: Comparison,
        sign: &str,
        left: Operand,
        right: Operand,
        at: Position,
    ) -> Result<Typed> {
        let (left, right, of) = self.pair(left, right, sign, at)?;
        check_comparison(of, op, at)?;
        let expr = Expr::Compare(op, Arc::clone(&left.expr), Arc::clone(&right.expr));
        node(expr, Scalar::Bool.plain(), at, &[&left, &right])
    }

    fn array_test(
        &self,
        test: ArrayTest,
        op: BinaryOp,
        left: Operand,
        right: Operand,
        at: Position,
    ) -> Result<Typed> {
        let of = match (left.of(), right.of()) {
            (Some(of), None) | (None, Some(of)) if of.array => of,
            (Some(left), Some(right)) if left == right && left.array => left,
            _ => {
                let (left, right, sign) = (left.name(), right.name(), sign(op));
                return no_operator(format!("{left} {sign} {right}"), at);
            }
        };
        if of.scalar == Scalar::Json {
            return unsupported(format!("{} of {of}", sign(op)), at);
        }
        let (left, right) = (self.compared(left, of)?, self.compared(right, of)?);
        let expr = Expr::ArrayTest(test, Arc::clone(&left.expr), Arc::clone(&right.expr));
        node(expr, Scalar::Bool.plain(), at, &[&left, &right])
    }

    fn arith(&self, op: BinaryOp, left: Operand, right: Operand, at: Position) -> Result<Typed> {
        let arith = match op {
            BinaryOp::Plus => Arith::Add,
            BinaryOp::Minus => Arith::Subtract,
            BinaryOp::Times => Arith::Multiply,
            BinaryOp::Divide => Arith::Divide,
            _ => Arith::Modulo,
        };
        let names = format!("{} {} {}", left.name(), sign(op), right.name());
        let number = |of: Type| if of.array { None } else { of.scalar.number_rank() };
        let of = match (left.of(), right.of()) {
            (Some(of), None) | (None, Some(of)) if number(of).is_some() => of,
            (Some(l), Some(r)) if number(l).is_some() && number(r).is_some() => {
                match super::coerce::comparable(l, r) {
                    Some(of) => of,
                    None => return no_operator(names, at),
                }
            }
            _ => return self.time_arith(op, left, right, names, at),
        };
        let Some(number) = Number::of(of.scalar) else { return no_operator(names, at) };
        if arith == Arith::Modulo && of.scalar.is_float() {
            return no_operator(names, at);
        }
        let (left, right) = (self.coerced(left, of)?, self.coerced(right, of)?);
        let expr = Expr::Arith(arith, number, Arc::clone(&left.expr), Arc::clone(&right.expr));
        node(expr, of, at, &[&left, &right])
    }

    fn time_arith(
        &self,
        op: BinaryOp,
        left: Operand,
        right: Operand,
        names: String,
        at: Position,
    ) -> Result<Typed> {
        use Scalar::{Date, Int2, Int4, Interval, Timestamp, Timestamptz};
        let scalar = |operand: &Operand| match operand.of() {
            Some(of) if of.array => Err(()),
            of => Ok(of.map(|of| of.scalar)),
        };
        let (Ok(l), Ok(r)) = (scalar(&left), scalar(&right)) else { return no_operator(names, at) };
        let plus = op == BinaryOp::Plus;
        if !plus && op != BinaryOp::Minus {
            return no_operator(names, at);
        }
        let same = |scalar| l.is_none_or(|l| l == scalar) && r.is_none_or(|r| r == scalar);
        let (time, left_of, right_of, result, swapped) = match (l, r) {
            (Some(Date), Some(Int2 | Int4)) => {
                let time = if plus { TimeOp::DatePlusDays } else { TimeOp::DateMinusDays };
                (time, Date, Int4, Date, false)
            }
            (Some(Int2 | Int4), Some(Date)) if plus => {
                (TimeOp::DatePlusDays, Int4, Date, Date, true)
            }
            _ if !plus && same(Date) => (TimeOp::DateMinusDate, Date, Date, Int4, false),
            (Some(Date | Timestamp), Some(Interval)) | (Some(Timestamp), None) if plus => {
                (TimeOp::TimestampPlusInterval, Timestamp, Interval, Timestamp, false)
            }
            (Some(Date | Timestamp), Some(Interval)) => {
                (TimeOp::TimestampMinusInterval, Timestamp, Interval, Timestamp, false)
            }
            (Some(Interval), Some(Date | Timestamp)) if plus => {
                (TimeOp::TimestampPlusInterval, Interval, Timestamp, Timestamp, true)
            }
            (Some(Timestamp), Some(Date)) | (Some(Date), Some(Timestamp)) if !plus => {
                (TimeOp::TimestampMinusTimestamp, Timestamp, Timestamp, Interval, false)
            }
            _ if !plus && same(Timestamp) => {
                (TimeOp::TimestampMinusTimestamp, Timestamp, Timestamp, Interval, false)
            }
            _ if !plus && same(Timestamptz) => {
                (TimeOp::TimestampMinusTimestamp, Timestamptz, Timestamptz, Interval, false)
            }
            _ if same(Interval) && plus => {
                (TimeOp::IntervalPlusInterval, Interval, Interval, Interval, false)
            }
            _ if same(Interval) => {
                (TimeOp::IntervalMinusInterval, Interval, Interval, Interval, false)
            }
            (Some(Timestamptz), _) | (_, Some(Timestamptz)) => {
                return unsupported(format!("{names}, which depends on a time zone,"), at);
            }
            _ => return no_operator(names, at),
        };
        if l.is_none() && r.is_none() {
            return no_operator(names, at);
        }
        let left = self.coerced(left, left_of.plain())?;
        let right = self.coerced(right, right_of.plain())?;
        let (first, second) = if swapped { (&right, &left) } else { (&left, &right) };
        let expr = Expr::Time(time, Arc::clone(&first.expr), Arc::clone(&second.expr));
        node(expr, result.plain(), at, &[first, second])
    }

    pub(super) fn negate(&self, arg: &Ast, at: Position) -> Result<Typed> {
        if let Some((negative, digits)) = signed_number(arg) {
            // The sign is part of the number, and decides its type.
            let sign = if negative { "" } else { "-" };
            return super::number(&format!("{sign}{digits}"), at);
        }
        let typed = match self.operand(arg)? {
            Operand::Typed(typed) if !typed.of.array => typed,
            other => return no_operator(format!("- {}", other.name()), at),
        };
        let arg = Arc::clone(&typed.expr);
        match (Number::of(typed.of.scalar), typed.of.scalar) {
            (Some(number), _) => node(Expr::Negate(number, arg), typed.of, at, &[&typed]),
            (None, Scalar::Interval) => node(Expr::NegateInterval(arg), typed.of, at, &[&typed]),
            _ => no_operator(format!("- {}", typed.of), at),
        }
    }

    pub(super) fn plus(&self, arg: &Ast, at: Position) -> Result<Typed> {
        match self.operand(arg)? {
            Operand::Typed(typed) if !typed.of.array && typed.of.scalar.number_rank().is_some() => {
                Ok(Typed { at, ..typed })
            }
            other => no_operator(format!("+ {}", other.name()), at),
        }
    }
}
