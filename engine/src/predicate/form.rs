//! Forms: what is left of clauses that differ in their integers only. A form is evaluated for many
//! such clauses at once: what depends on the row alone once, the rest for a whole array of
//! constants. Clauses that an index cannot find are asked this way.

use super::clause::Clause;
use super::error::EvalError;
use super::eval::{RowView, Value, eval, ints};
use super::expr::{Arith, Comparison, E, Expr, Number};
use super::value::Datum;
use std::borrow::Cow;
use std::sync::Arc;

/// A clause with places for its integers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Form {
    alternatives: Box<[Box<[E]>]>,
}

/// The integers of many clauses of one form: for each place an array, as long as there are clauses.
#[derive(Debug, Default)]
pub(crate) struct Constants {
    places: Vec<Vec<i64>>,
    /// Of each place, whether all clauses have the same.
    same: Vec<bool>,
}

/// Clauses that are evaluated at once: their intermediate values fit the first level cache.
const LANES: usize = 512;

impl Clause {
    /// The form of this clause, and its integers; `None` if it can only be asked by itself.
    pub(crate) fn form(&self) -> Option<(Form, Vec<i64>)> {
        let mut integers = Vec::new();
        let mut conditions = |conditions: &[E]| {
            conditions.iter().map(|condition| abstracted(condition, &mut integers)).collect()
        };
        let alternatives: Option<Box<[Box<[E]>]>> =
            self.alternatives.iter().map(|alternative| conditions(alternative)).collect();
        let alternatives = alternatives?;
        (!integers.is_empty()).then_some((Form { alternatives }, integers))
    }
}

/// `expr` with places for its integers; `None` if it is no comparison or arithmetic of them.
fn abstracted(expr: &E, integers: &mut Vec<i64>) -> Option<E> {
    let mut part = |part: &E| abstracted(part, integers);
    Some(Arc::new(match &**expr {
        Expr::Const(Some(Datum::Int(value))) => {
            integers.push(*value);
            Expr::Place(integers.len() - 1)
        }
        Expr::Compare(op, left, right) => Expr::Compare(*op, part(left)?, part(right)?),
        Expr::Arith(op, number, left, right) if number.scalar().is_int() => {
            Expr::Arith(*op, *number, part(left)?, part(right)?)
        }
        // Depends on the row alone; constants inside are part of the form.
        _ => return Some(Arc::clone(expr)),
    }))
}

impl Constants {
    /// The number of clauses.
    pub(crate) fn len(&self) -> usize {
        self.places.first().map_or(0, Vec::len)
    }

    /// Adds a clause's integers behind the others.
    pub(crate) fn push(&mut self, integers: &[i64]) {
        if self.places.is_empty() {
            self.places = vec![Vec::new(); integers.len()];
            self.same = vec![true; integers.len()];
        }
        for ((place, same), integer) in self.places.iter_mut().zip(&mut self.same).zip(integers) {
            *same &= place.first().is_none_or(|first| first == integer);
            place.push(*integer);
        }
    }

    /// The integers of the clause at `index`.
    pub(crate) fn get(&self, index: usize) -> impl Iterator<Item = i64> {
        self.places.iter().map(move |place| place[index])
    }

    /// Takes the clause at `index` out; the last one takes its place.
    pub(crate) fn swap_remove(&mut self, index: usize) {
        self.places.iter_mut().for_each(|place| {
            place.swap_remove(index);
        });
    }
}

/// Why a form cannot be evaluated for many clauses at once, for this row.
enum Stop {
    /// Some clause has an error, or needs more than is done here.
    OneByOne,
    Value(EvalError),
}

/// One value for all clauses, or one for each.
enum Lanes<'a, 'c> {
    Same(Value<'a>),
    Ints(Cow<'c, [i64]>),
    Bools(Vec<bool>),
}

impl Form {
    /// Calls `found` with the index of each clause that the row belongs to. `Ok(false)` if the
    /// clauses must be asked one by one instead: `found` may have been called all the same.
    ///
    /// # Errors
    /// When a value of the row cannot be read.
    pub(crate) fn matches<'a>(
        &'a self,
        row: &RowView<'a>,
        constants: &Constants,
        mut found: impl FnMut(usize),
    ) -> Result<bool, EvalError> {
        let mut start = 0;
        while start < constants.len() {
            let end = constants.len().min(start + LANES);
            let chunk = Chunk { row, constants, start, end };
            match chunk.alternatives(&self.alternatives) {
                Ok(holds) => {
                    let holding = holds.iter().enumerate().filter(|(_, holds)| **holds);
                    holding.for_each(|(index, _)| found(start + index));
                }
                Err(Stop::OneByOne) => return Ok(false),
                Err(Stop::Value(error)) => return Err(error),
            }
            start = end;
        }
        Ok(true)
    }
}

struct Chunk<'v, 'a, 'c> {
    row: &'v RowView<'a>,
    constants: &'c Constants,
    start: usize,
    end: usize,
}

impl<'a, 'c> Chunk<'_, 'a, 'c> {
    fn alternatives(&self, alternatives: &'a [Box<[E]>]) -> Result<Vec<bool>, Stop> {
        let mut holds = vec![false; self.end - self.start];
        for conditions in alternatives {
            let mut all: Option<Vec<bool>> = None;
            let mut never = false;
            for condition in conditions {
                match self.lanes(condition)? {
                    Lanes::Same(Some(Datum::Bool(true))) => {}
                    Lanes::Same(_) => never = true,
                    Lanes::Bools(more) => match &mut all {
                        None => all = Some(more),
                        Some(all) => all.iter_mut().zip(more).for_each(|(all, more)| *all &= more),
                    },
                    Lanes::Ints(_) => return Err(Stop::OneByOne),
                }
            }
            match all {
                _ if never => {}
                None => holds.fill(true),
                Some(all) => holds.iter_mut().zip(all).for_each(|(holds, all)| *holds |= all),
            }
        }
        Ok(holds)
    }

    fn lanes(&self, expr: &'a Expr) -> Result<Lanes<'a, 'c>, Stop> {
        match expr {
            Expr::Place(place) => Ok(self.place(*place)),
            Expr::Compare(op, left, right) => {
                let (left, right) = (self.lanes(left)?, self.lanes(right)?);
                self.compare(*op, left, right)
            }
            Expr::Arith(op, number, left, right) if number.scalar().is_int() => {
                let (left, right) = (self.lanes(left)?, self.lanes(right)?);
                self.arith(*op, *number, left, right)
            }
            row_only => match eval(row_only, self.row) {
                Ok(value) => Ok(Lanes::Same(value)),
                Err(error @ EvalError::Value(_)) => Err(Stop::Value(error)),
                Err(_) => Err(Stop::OneByOne),
            },
        }
    }

    fn place(&self, place: usize) -> Lanes<'a, 'c> {
        let values = &self.constants.places[place][self.start..self.end];
        match self.constants.same[place] {
            true => Lanes::Same(values.first().map(|value| Datum::Int(*value))),
            false => Lanes::Ints(Cow::Borrowed(values)),
        }
    }

    fn compare(
        &self,
        op: Comparison,
        left: Lanes<'a, 'c>,
        right: Lanes<'a, 'c>,
    ) -> Result<Lanes<'a, 'c>, Stop> {
        let holds = |a: i64, b: i64| op.holds(a.cmp(&b));
        Ok(match (left, right) {
            (Lanes::Same(None), _) | (_, Lanes::Same(None)) => Lanes::Same(None),
            (Lanes::Same(Some(a)), Lanes::Same(Some(b))) => {
                Lanes::Same(Some(Datum::Bool(op.holds(a.cmp(&b)))))
            }
            (Lanes::Same(Some(Datum::Int(a))), Lanes::Ints(b)) => {
                Lanes::Bools(compared(op.mirrored(), &b, a))
            }
            (Lanes::Ints(a), Lanes::Same(Some(Datum::Int(b)))) => Lanes::Bools(compared(op, &a, b)),
            (Lanes::Ints(a), Lanes::Ints(b)) => {
                Lanes::Bools(a.iter().zip(&*b).map(|(a, b)| holds(*a, *b)).collect())
            }
            _ => return Err(Stop::OneByOne),
        })
    }

    fn arith(
        &self,
        op: Arith,
        number: Number,
        left: Lanes<'a, 'c>,
        right: Lanes<'a, 'c>,
    ) -> Result<Lanes<'a, 'c>, Stop> {
        let apply = |a, b| ints(op, number, a, b).map_err(|_| Stop::OneByOne);
        Ok(match (left, right) {
            (Lanes::Same(None), _) | (_, Lanes::Same(None)) => Lanes::Same(None),
            (Lanes::Same(Some(Datum::Int(a))), Lanes::Same(Some(Datum::Int(b)))) => {
                Lanes::Same(Some(Datum::Int(apply(a, b)?)))
            }
            (Lanes::Same(Some(Datum::Int(a))), Lanes::Ints(b)) => {
                Lanes::Ints(b.iter().map(|b| apply(a, *b)).collect::<Result<_, _>>()?)
            }
            (Lanes::Ints(a), Lanes::Same(Some(Datum::Int(b)))) => {
                Lanes::Ints(a.iter().map(|a| apply(*a, b)).collect::<Result<_, _>>()?)
            }
            (Lanes::Ints(a), Lanes::Ints(b)) => {
                let pairs = a.iter().zip(&*b);
                Lanes::Ints(pairs.map(|(a, b)| apply(*a, *b)).collect::<Result<_, _>>()?)
            }
            _ => return Err(Stop::OneByOne),
        })
    }
}

/// Each of `values` compared with `with`; the operator is settled outside of the loop.
fn compared(op: Comparison, values: &[i64], with: i64) -> Vec<bool> {
    match op {
        Comparison::Eq => values.iter().map(|value| *value == with).collect(),
        Comparison::NotEq => values.iter().map(|value| *value != with).collect(),
        Comparison::Less => values.iter().map(|value| *value < with).collect(),
        Comparison::LessEq => values.iter().map(|value| *value <= with).collect(),
        Comparison::Greater => values.iter().map(|value| *value > with).collect(),
        Comparison::GreaterEq => values.iter().map(|value| *value >= with).collect(),
    }
}
