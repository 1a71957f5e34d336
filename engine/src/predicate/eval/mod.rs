//! Evaluation: an expression's value for one row, by Postgres's rules: three-valued logic, NULL in
//! and NULL out, errors where Postgres has them. The recursion is as deep as the tree, which the
//! compiler bounds.

mod arith;
mod cast;
mod like;
mod pattern;
mod row;
mod text;
mod time;

pub(crate) use arith::ints;
pub(crate) use cast::exists as cast_exists;
pub(crate) use like::{LikePattern, Rest};
pub(crate) use pattern::Pattern;
#[cfg(test)]
pub(crate) use row::READS;
pub(crate) use row::RowView;

use super::error::EvalError;
use super::expr::{ArrayTest, Cast, Comparison, E, Expr, Function};
use super::types::Scalar;
use super::value::{Array, Datum};
use std::cmp::Ordering;
use std::sync::Arc;

/// A value, or NULL.
pub(crate) type Value<'a> = Option<Datum<'a>>;

type Result<T> = std::result::Result<T, EvalError>;

/// The value of `expr` for `row`.
pub(crate) fn eval<'a>(expr: &'a Expr, row: &RowView<'a>) -> Result<Value<'a>> {
    match expr {
        Expr::Const(value) => Ok(value.as_ref().map(Datum::borrowed)),
        Expr::Place(_) => Ok(None),
        Expr::Column(index, of) => row.value(*index, *of),
        Expr::Not(_)
        | Expr::And(_)
        | Expr::Or(_)
        | Expr::IsNull(_)
        | Expr::IsBool(..)
        | Expr::Compare(..)
        | Expr::Distinct(..)
        | Expr::In(..)
        | Expr::Quantified { .. }
        | Expr::Like(..)
        | Expr::LikeComputed { .. }
        | Expr::Match(..)
        | Expr::ArrayTest(..) => Ok(truth(expr, row)?.map(Datum::Bool)),
        Expr::Case(branches, otherwise) => case(branches, otherwise, row),
        Expr::Coalesce(items) => coalesce(items, row),
        Expr::Extreme { greatest, items, compared_as } => {
            extreme(*greatest, items, *compared_as, row)
        }
        Expr::NullIf(equal, value) => match truth(equal, row)? {
            Some(true) => Ok(None),
            _ => eval(value, row),
        },
        Expr::Arith(op, number, left, right) => {
            let Some((left, right)) = both(left, right, row)? else { return Ok(None) };
            arith::arith(*op, *number, &left, &right).map(Some)
        }
        Expr::Negate(number, arg) => {
            eval(arg, row)?.map(|value| arith::negate(*number, &value)).transpose()
        }
        Expr::Time(op, left, right) => {
            let Some((left, right)) = both(left, right, row)? else { return Ok(None) };
            time::time(*op, &left, &right).map(Some)
        }
        Expr::NegateInterval(arg) => eval(arg, row)?.map(|v| time::negate(&v)).transpose(),
        Expr::Cast(cast, arg) => eval(arg, row)?.map(|value| cast::apply(*cast, value)).transpose(),
        Expr::Concat(left, right) => {
            let Some((left, right)) = both(left, right, row)? else { return Ok(None) };
            Ok(Some(Datum::owned([bytes(&left), bytes(&right)].concat())))
        }
        Expr::Call(function, args) => call(*function, args, row),
        Expr::Array(items) => {
            let value = |item: &'a E| Ok(eval(item, row)?.map(Datum::into_owned));
            let items = items.iter().map(value).collect::<Result<Vec<_>>>()?;
            Ok(Some(Datum::Array(Arc::new(Array::of(items)))))
        }
        Expr::Subscript(array, indexes) => subscript(array, indexes, row),
    }
}

/// The value of a condition.
pub(crate) fn truth<'a>(expr: &'a Expr, row: &RowView<'a>) -> Result<Option<bool>> {
    match expr {
        Expr::Not(arg) => Ok(truth(arg, row)?.map(|value| !value)),
        Expr::And(items) => junction(items, row, false),
        Expr::Or(items) => junction(items, row, true),
        Expr::IsNull(arg) => Ok(Some(eval(arg, row)?.is_none())),
        Expr::IsBool(arg, expected) => Ok(Some(truth(arg, row)? == Some(*expected))),
        Expr::Compare(op, left, right) => {
            let Some((left, right)) = both(left, right, row)? else { return Ok(None) };
            Ok(Some(op.holds(left.cmp(&right))))
        }
        Expr::Distinct(left, right) => Ok(Some(eval(left, row)? != eval(right, row)?)),
        Expr::In(arg, set, null) => {
            let Some(value) = eval(arg, row)? else { return Ok(None) };
            let found = set.binary_search_by(|item| item.cmp(&value)).is_ok();
            Ok(if found { Some(true) } else { (!null).then_some(false) })
        }
        Expr::Quantified { op, all, left, right } => quantified(*op, *all, left, right, row),
        Expr::Like(arg, pattern) => Ok(eval(arg, row)?.map(|text| pattern.matches(bytes(&text)))),
        Expr::LikeComputed { arg, pattern, escape, ignore_case } => {
            let Some((arg, pattern)) = both(arg, pattern, row)? else { return Ok(None) };
            let pattern = LikePattern::new(bytes(&pattern), *escape, *ignore_case);
            let pattern = pattern.ok_or(EvalError::PatternEnd)?;
            Ok(Some(pattern.matches(bytes(&arg))))
        }
        Expr::Match(arg, pattern) => Ok(eval(arg, row)?.map(|text| pattern.matches(bytes(&text)))),
        Expr::ArrayTest(test, left, right) => {
            let Some((left, right)) = both(left, right, row)? else { return Ok(None) };
            let (Datum::Array(left), Datum::Array(right)) = (left, right) else { return Ok(None) };
            Ok(Some(match test {
                ArrayTest::Contains => left.contains(&right),
                ArrayTest::Overlaps => left.overlaps(&right),
            }))
        }
        other => Ok(match eval(other, row)? {
            Some(Datum::Bool(value)) => Some(value),
            _ => None,
        }),
    }
}

/// The bytes of a text; the compiler lets nothing else come here.
pub(crate) fn bytes<'d>(datum: &'d Datum<'_>) -> &'d [u8] {
    match datum {
        Datum::Bytes(bytes) => bytes,
        _ => &[],
    }
}

/// Both values, or `None` if either is NULL. Both are evaluated, as in Postgres.
fn both<'a>(
    left: &'a Expr,
    right: &'a Expr,
    row: &RowView<'a>,
) -> Result<Option<(Datum<'a>, Datum<'a>)>> {
    let (left, right) = (eval(left, row)?, eval(right, row)?);
    Ok(left.zip(right))
}

/// AND (which `false` decides) or OR (which `true` does), from left to right.
fn junction<'a>(items: &'a [E], row: &RowView<'a>, decides: bool) -> Result<Option<bool>> {
    let mut result = Some(!decides);
    for item in items {
        match truth(item, row)? {
            Some(value) if value == decides => return Ok(Some(decides)),
            Some(_) => {}
            None => result = None,
        }
    }
    Ok(result)
}

fn quantified<'a>(
    op: Comparison,
    all: bool,
    left: &'a E,
    right: &'a E,
    row: &RowView<'a>,
) -> Result<Option<bool>> {
    let (left, right) = (eval(left, row)?, eval(right, row)?);
    let Some(Datum::Array(array)) = right else { return Ok(None) };
    if array.items.is_empty() {
        return Ok(Some(all));
    }
    let Some(left) = left else { return Ok(None) };
    let mut result = Some(all);
    for item in &array.items {
        match item {
            None => result = None,
            Some(item) if op.holds(left.cmp(item)) != all => return Ok(Some(!all)),
            Some(_) => {}
        }
    }
    Ok(result)
}

fn case<'a>(branches: &'a [(E, E)], otherwise: &'a E, row: &RowView<'a>) -> Result<Value<'a>> {
    for (condition, value) in branches {
        if truth(condition, row)? == Some(true) {
            return eval(value, row);
        }
    }
    eval(otherwise, row)
}

fn coalesce<'a>(items: &'a [E], row: &RowView<'a>) -> Result<Value<'a>> {
    for item in items {
        if let Some(value) = eval(item, row)? {
            return Ok(Some(value));
        }
    }
    Ok(None)
}

fn extreme<'a>(
    greatest: bool,
    items: &'a [E],
    compared_as: Option<Cast>,
    row: &RowView<'a>,
) -> Result<Value<'a>> {
    let wanted = if greatest { Ordering::Greater } else { Ordering::Less };
    let mut best: Value<'a> = None;
    for item in items {
        let Some(value) = eval(item, row)? else { continue };
        let order = match (&best, compared_as) {
            (None, _) => wanted,
            (Some(best), None) => value.cmp(best),
            (Some(best), Some(cast)) => {
                cast::apply(cast, value.clone())?.cmp(&cast::apply(cast, best.clone())?)
            }
        };
        if order == wanted {
            best = Some(value);
        }
    }
    Ok(best)
}

fn subscript<'a>(array: &'a E, indexes: &'a [E], row: &RowView<'a>) -> Result<Value<'a>> {
    let array = eval(array, row)?;
    let mut places = Vec::with_capacity(indexes.len());
    for index in indexes {
        match eval(index, row)? {
            Some(Datum::Int(index)) => places.push(index),
            _ => return Ok(None),
        }
    }
    let Some(Datum::Array(array)) = array else { return Ok(None) };
    Ok(array.get(&places).cloned())
}

fn call<'a>(function: Function, args: &'a [E], row: &RowView<'a>) -> Result<Value<'a>> {
    let mut values = smallvec::SmallVec::<[Datum<'a>; 3]>::new();
    let mut null = false;
    for arg in args {
        match eval(arg, row)? {
            Some(value) => values.push(value),
            None => null = true,
        }
    }
    if null {
        return Ok(None);
    }
    match function {
        Function::Abs(number) => arith::abs(number, &values[0]).map(Some),
        Function::RoundFloat => match &values[0] {
            Datum::Float(value) => Ok(Some(Datum::float(value.0.round_ties_even()))),
            _ => Ok(None),
        },
        Function::RoundNumeric => match (&values[0], values.get(1)) {
            (Datum::Num(value), places) => {
                let places = places.map_or(0, text::int);
                let rounded = value.round(places);
                rounded.map(|value| Some(Datum::Num(value))).map_err(arith::numeric_error)
            }
            _ => Ok(None),
        },
        _ => text::call(function, &values).map(Some),
    }
}

/// The error that a value does not fit `scalar`.
pub(super) fn out_of_range(scalar: Scalar) -> EvalError {
    EvalError::OutOfRange(scalar.plain())
}
