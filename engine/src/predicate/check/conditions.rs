//! Conditions: logic, IS, BETWEEN, IN, ANY and ALL, CASE.

use super::coerce::exprs;
use super::operators::{check_comparison, comparison, sign};
use super::{Checker, Operand, Result, Typed, no_operator, node, read, unsupported};
use crate::predicate::error::Position;
use crate::predicate::expr::{Comparison, Expr};
use crate::predicate::syntax::{Ast, BinaryOp, Kind, Test};
use crate::predicate::types::{Scalar, Type};
use crate::predicate::value::Datum;
use std::sync::Arc;

const BOOL: Type = Scalar::Bool.plain();

fn negated(typed: Typed, negated: bool) -> Result<Typed> {
    if !negated {
        return Ok(typed);
    }
    let at = typed.at;
    node(Expr::Not(Arc::clone(&typed.expr)), BOOL, at, &[&typed])
}

impl Checker<'_> {
    pub(super) fn condition_node(&self, ast: &Ast) -> Result<Typed> {
        let at = ast.at;
        match &ast.kind {
            Kind::Not(arg) => {
                let arg = self.boolean(self.operand(arg)?)?;
                node(Expr::Not(Arc::clone(&arg.expr)), BOOL, at, &[&arg])
            }
            Kind::And(items) => self.junction(items, false, at),
            Kind::Or(items) => self.junction(items, true, at),
            Kind::Is { arg, test, negated: not } => self.is(arg, *test, *not, at),
            Kind::Distinct { left, right, negated: not } => {
                let (left, right) = (self.operand(left)?, self.operand(right)?);
                let (left, right, of) = self.pair(left, right, "IS DISTINCT FROM", at)?;
                check_comparison(of, Comparison::Eq, at)?;
                let expr = Expr::Distinct(Arc::clone(&left.expr), Arc::clone(&right.expr));
                negated(node(expr, BOOL, at, &[&left, &right])?, *not)
            }
            Kind::Between { arg, low, high, negated: not, symmetric } => {
                self.between([arg, low, high], *not, *symmetric, at)
            }
            Kind::In { arg, items, negated: not } => negated(self.in_list(arg, items, at)?, *not),
            Kind::Quantified { op, all, left, right } => {
                self.quantified(*op, *all, left, right, at)
            }
            Kind::Like { arg, pattern, escape, kind } => {
                let like = self.like(arg, pattern, escape.as_deref(), kind.ignore_case, at)?;
                negated(like, kind.negated)
            }
            _ => unsupported("this expression", at),
        }
    }

    fn junction(&self, items: &[Ast], or: bool, at: Position) -> Result<Typed> {
        let item = |item: &Ast| self.boolean(self.operand(item)?);
        let items = items.iter().map(item).collect::<Result<Vec<_>>>()?;
        join(items, or, at)
    }

    fn is(&self, arg: &Ast, test: Test, not: bool, at: Position) -> Result<Typed> {
        let operand = self.operand(arg)?;
        let arg = match (test, operand) {
            // Any type will do.
            (Test::Null, Operand::Unknown(None, at)) => {
                super::constant(None, Scalar::Text.plain(), at)
            }
            (Test::Null, Operand::Unknown(Some(text), at)) => {
                read(&text, Scalar::Text.plain(), at)?
            }
            (Test::Null, Operand::Typed(typed)) => typed,
            (_, operand) => self.boolean(operand)?,
        };
        let expr = Arc::clone(&arg.expr);
        let expr = match test {
            Test::Null | Test::Unknown => Expr::IsNull(expr),
            Test::True => Expr::IsBool(expr, true),
            Test::False => Expr::IsBool(expr, false),
        };
        negated(node(expr, BOOL, at, &[&arg])?, not)
    }

    fn between(
        &self,
        [arg, low, high]: [&Ast; 3],
        not: bool,
        symmetric: bool,
        at: Position,
    ) -> Result<Typed> {
        let (arg, low, high) = (self.operand(arg)?, self.operand(low)?, self.operand(high)?);
        let inside = |low: &Operand, high: &Operand| {
            let above = self.compare(Comparison::GreaterEq, ">=", arg.clone(), low.clone(), at)?;
            let below = self.compare(Comparison::LessEq, "<=", arg.clone(), high.clone(), at)?;
            join(vec![above, below], false, at)
        };
        let mut range = inside(&low, &high)?;
        if symmetric {
            range = join(vec![range, inside(&high, &low)?], true, at)?;
        }
        negated(range, not)
    }

    /// As Postgres does: two or more items without columns become one list of one type; all others
    /// are compared one by one.
    fn in_list(&self, arg: &Ast, items: &[Ast], at: Position) -> Result<Typed> {
        let arg = self.operand(arg)?;
        let mut operands = Vec::with_capacity(items.len());
        for item in items {
            operands.push(self.operand(item)?);
        }
        let is_constant = |item: &Operand| match item {
            Operand::Unknown(..) => true,
            Operand::Typed(typed) => matches!(*typed.expr, Expr::Const(_)),
        };
        let count = operands.iter().filter(|operand| is_constant(operand)).count();
        let mut terms = Vec::new();
        let mut single = operands;
        if count > 1 && !arg.of().is_some_and(|of| of.array) {
            let others = single.extract_if(.., |operand| !is_constant(operand)).collect();
            let constants = std::mem::replace(&mut single, others);
            terms.push(self.in_constants(arg.clone(), constants, at)?);
        }
        for item in single {
            terms.push(self.compare(Comparison::Eq, "=", arg.clone(), item, at)?);
        }
        if let [_] = terms[..] {
            return terms.pop().map_or_else(|| unsupported("an empty list", at), Ok);
        }
        join(terms, true, at)
    }

    fn in_constants(&self, arg: Operand, items: Vec<Operand>, at: Position) -> Result<Typed> {
        let operands = [arg.clone()].into_iter().chain(items).collect();
        let (items, of) = self.unified(operands, "IN", at)?;
        let compared = match arg.of() {
            None => Some(of),
            Some(left) => super::coerce::comparable(left, of),
        };
        let Some(compared) = compared else {
            return no_operator(format!("{} IN (… {of} …)", arg.name()), at);
        };
        check_comparison(compared, Comparison::Eq, at)?;
        let arg = self.compared(arg, compared)?;
        let (mut set, mut null) = (Vec::with_capacity(items.len()), false);
        // The first is `arg` itself.
        for item in items.into_iter().skip(1) {
            let item = self.compared(Operand::Typed(item), compared)?;
            match &*item.expr {
                Expr::Const(Some(value)) => set.push(value.clone()),
                _ => null = true,
            }
        }
        set.sort_unstable();
        set.dedup();
        node(Expr::In(Arc::clone(&arg.expr), set.into(), null), BOOL, at, &[&arg])
    }

    fn quantified(
        &self,
        op: BinaryOp,
        all: bool,
        left: &Ast,
        right: &Ast,
        at: Position,
    ) -> Result<Typed> {
        let word = if all { "ALL" } else { "ANY" };
        let Some(comparison) = comparison(op) else {
            return unsupported(format!("{} {word}", sign(op)), at);
        };
        let (left, right) = (self.operand(left)?, self.operand(right)?);
        let names = || format!("{} {} {word} ({})", left.name(), sign(op), right.name());
        let of = match (left.of(), right.of()) {
            (Some(of), None) if !of.array => of,
            (None, None) => Scalar::Text.plain(),
            (None, Some(of)) => match of.element() {
                Some(element) => element,
                None => return no_operator(names(), at),
            },
            (Some(of), Some(array)) => {
                let element = array.element();
                match element.and_then(|element| super::coerce::comparable(of, element)) {
                    Some(of) if !of.array => of,
                    _ => return no_operator(names(), at),
                }
            }
            _ => return no_operator(names(), at),
        };
        check_comparison(of, comparison, at)?;
        let left = self.compared(left, of)?;
        let right = self.elements(right, of, at)?;
        let (l, r) = (Arc::clone(&left.expr), Arc::clone(&right.expr));
        let expr = Expr::Quantified { op: comparison, all, left: l, right: r };
        node(expr, BOOL, at, &[&left, &right])
    }

    /// `operand` as an array whose elements can be compared as an `of`.
    fn elements(&self, operand: Operand, of: Type, at: Position) -> Result<Typed> {
        let to = of.scalar.array();
        let array = match operand {
            Operand::Typed(typed) => super::coerce::explicit(typed, to, None, at)?,
            unknown => self.coerced(unknown, to)?,
        };
        let Some(cast) = super::coerce::compared_as(to) else { return Ok(array) };
        super::cast_node(&array, cast, cast.to.array(), at)
    }

    pub(super) fn case(
        &self,
        operand: Option<&Ast>,
        branches: &[(Ast, Ast)],
        otherwise: Option<&Ast>,
        at: Position,
    ) -> Result<Typed> {
        let operand = match operand.map(|operand| self.operand(operand)).transpose()? {
            Some(unknown @ Operand::Unknown(..)) => {
                Some(Operand::Typed(self.coerced(unknown, Scalar::Text.plain())?))
            }
            operand => operand,
        };
        let mut conditions = Vec::new();
        let mut values = Vec::new();
        for (condition, value) in branches {
            let checked = self.operand(condition)?;
            conditions.push(match &operand {
                None => self.boolean(checked)?,
                Some(left) => {
                    self.compare(Comparison::Eq, "=", left.clone(), checked, condition.at)?
                }
            });
            values.push(self.operand(value)?);
        }
        // Postgres looks at ELSE first when it settles the type, which makes no difference here.
        values.push(match otherwise {
            Some(value) => self.operand(value)?,
            None => Operand::Unknown(None, at),
        });
        let (values, of) = self.unified(values, "CASE", at)?;
        case_node(conditions, values, of, at)
    }
}

/// A CASE whose last value is that of ELSE. A constant condition is decided at once, as in
/// Postgres.
fn case_node(
    conditions: Vec<Typed>,
    mut values: Vec<Typed>,
    of: Type,
    at: Position,
) -> Result<Typed> {
    let Some(mut otherwise) = values.pop() else { return unsupported("an empty CASE", at) };
    let mut branches = Vec::new();
    for (condition, value) in conditions.into_iter().zip(values) {
        match &*condition.expr {
            Expr::Const(Some(Datum::Bool(true))) => {
                otherwise = value;
                break;
            }
            Expr::Const(_) => {}
            _ => branches.push((condition, value)),
        }
    }
    if branches.is_empty() {
        return Ok(Typed { of, at, ..otherwise });
    }
    let pair = |(condition, value): &(Typed, Typed)| {
        (Arc::clone(&condition.expr), Arc::clone(&value.expr))
    };
    let pairs = branches.iter().map(pair).collect();
    let parts = branches.iter().flat_map(|(condition, value)| [condition, value]);
    let parts: Vec<&Typed> = parts.chain([&otherwise]).collect();
    node(Expr::Case(pairs, Arc::clone(&otherwise.expr)), of, at, &parts)
}

/// AND, or OR. A constant that decides does so, and one that cannot is left out.
fn join(mut items: Vec<Typed>, or: bool, at: Position) -> Result<Typed> {
    let is = |item: &Typed, value| match &*item.expr {
        Expr::Const(Some(Datum::Bool(constant))) => *constant == value,
        _ => false,
    };
    if items.iter().any(|item| is(item, or)) {
        return Ok(super::constant(Some(Datum::Bool(or)), BOOL, at));
    }
    items.retain(|item| !is(item, !or));
    match &items[..] {
        [] => return Ok(super::constant(Some(Datum::Bool(!or)), BOOL, at)),
        [only] => return Ok(Typed { at, ..only.clone() }),
        _ => {}
    }
    let parts: Vec<&Typed> = items.iter().collect();
    let list = exprs(&items);
    node(if or { Expr::Or(list) } else { Expr::And(list) }, BOOL, at, &parts)
}
