//! Expressions: a clause after its names and types are settled. A tree of immutable nodes, equal
//! where clauses mean the same, so that what clauses have in common can be found and evaluated
//! once. How a node gets its value is `eval`'s part.

use super::eval::{LikePattern, Pattern};
use super::types::{Scalar, Type};
use super::value::Datum;
use std::sync::Arc;

/// A shared expression.
pub(crate) type E = Arc<Expr>;

/// An expression with a value for each row, NULL included.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Expr {
    Const(Option<Datum<'static>>),
    /// Where a form has had an integer: it has no value by itself.
    Place(usize),
    /// A column's index, and the type to read it as.
    Column(usize, Type),
    Not(E),
    And(Box<[E]>),
    Or(Box<[E]>),
    IsNull(E),
    /// `IS TRUE` or `IS FALSE`.
    IsBool(E, bool),
    Compare(Comparison, E, E),
    Distinct(E, E),
    /// Rising, no two alike; whether NULL is listed too.
    In(E, Box<[Datum<'static>]>, bool),
    /// `left op ANY(right)`, or ALL.
    Quantified {
        op: Comparison,
        all: bool,
        left: E,
        right: E,
    },
    Like(E, LikePattern),
    /// LIKE with a pattern that depends on the row.
    LikeComputed {
        arg: E,
        pattern: E,
        escape: Option<char>,
        ignore_case: bool,
    },
    Match(E, Pattern),
    /// Conditions with their values, and what stands behind ELSE.
    Case(Box<[(E, E)]>, E),
    Coalesce(Box<[E]>),
    /// GREATEST, or LEAST, of values that may be compared as others.
    Extreme {
        greatest: bool,
        items: Box<[E]>,
        compared_as: Option<Cast>,
    },
    /// NULL where the first is true, else the second.
    NullIf(E, E),
    Arith(Arith, Number, E, E),
    Negate(Number, E),
    Time(TimeOp, E, E),
    NegateInterval(E),
    Cast(Cast, E),
    Concat(E, E),
    Call(Function, Box<[E]>),
    Array(Box<[E]>),
    Subscript(E, Box<[E]>),
    ArrayTest(ArrayTest, E, E),
}

/// How two values are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Comparison {
    Eq,
    NotEq,
    Less,
    LessEq,
    Greater,
    GreaterEq,
}

impl Comparison {
    /// The same with its operands exchanged.
    pub(crate) fn mirrored(self) -> Comparison {
        match self {
            Comparison::Less => Comparison::Greater,
            Comparison::LessEq => Comparison::GreaterEq,
            Comparison::Greater => Comparison::Less,
            Comparison::GreaterEq => Comparison::LessEq,
            same => same,
        }
    }

    /// Whether it holds of two values in this order.
    pub(crate) fn holds(self, order: std::cmp::Ordering) -> bool {
        match self {
            Comparison::Eq => order.is_eq(),
            Comparison::NotEq => order.is_ne(),
            Comparison::Less => order.is_lt(),
            Comparison::LessEq => order.is_le(),
            Comparison::Greater => order.is_gt(),
            Comparison::GreaterEq => order.is_ge(),
        }
    }
}

/// An arithmetic operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Arith {
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
}

/// The numbers that arithmetic is done in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Number {
    Int2,
    Int4,
    Int8,
    Numeric,
    Float4,
    Float8,
}

impl Number {
    /// The number that `scalar` is.
    pub(crate) fn of(scalar: Scalar) -> Option<Number> {
        Some(match scalar {
            Scalar::Int2 => Number::Int2,
            Scalar::Int4 => Number::Int4,
            Scalar::Int8 => Number::Int8,
            Scalar::Numeric => Number::Numeric,
            Scalar::Float4 => Number::Float4,
            Scalar::Float8 => Number::Float8,
            _ => return None,
        })
    }

    /// Its type.
    pub(crate) fn scalar(self) -> Scalar {
        match self {
            Number::Int2 => Scalar::Int2,
            Number::Int4 => Scalar::Int4,
            Number::Int8 => Scalar::Int8,
            Number::Numeric => Scalar::Numeric,
            Number::Float4 => Scalar::Float4,
            Number::Float8 => Scalar::Float8,
        }
    }
}

/// Arithmetic of dates and times; the name says what is on the left and what on the right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum TimeOp {
    DatePlusDays,
    DateMinusDays,
    DateMinusDate,
    TimestampPlusInterval,
    TimestampMinusInterval,
    TimestampMinusTimestamp,
    IntervalPlusInterval,
    IntervalMinusInterval,
}

/// A cast that changes the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Cast {
    pub(crate) from: Scalar,
    pub(crate) to: Scalar,
    /// Whether it is done to each element of an array.
    pub(crate) array: bool,
    /// Length of a text, or precision and scale of a numeric.
    pub(crate) limit: Option<(u16, u16)>,
}

/// A function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Function {
    Lower,
    Upper,
    /// In characters.
    Length,
    /// In bytes.
    Octets,
    Trim {
        left: bool,
        right: bool,
    },
    Abs(Number),
    /// Half to even.
    RoundFloat,
    RoundNumeric,
    Substring,
    Left,
    Right,
}

/// How two arrays are compared as sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum ArrayTest {
    Contains,
    Overlaps,
}
