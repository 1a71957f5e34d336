//! Values: what clauses compute with, one variant for each way in which Postgres compares. Texts
//! come in through `input`, go out through `output`. Which type a value has is known from the
//! expression that made it, not from the value.

mod array;
mod date;
mod input;
mod interval;
mod json;
mod num;
mod output;
mod rank;

pub(crate) use array::Array;
pub(crate) use date::{
    DAY_MICROS, INFINITY_DATE, INFINITY_TIME, in_timestamp_range, shift_months, valid_date,
};
pub(crate) use input::{InputError, input};
pub(crate) use interval::Interval;
pub(crate) use num::{Num, NumError};
pub(crate) use output::output;

use std::borrow::Cow;
use std::cmp::Ordering;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// A value that is not NULL. Its order and equality are those of Postgres's default operator class
/// for its type; values of different types are never compared.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Datum<'a> {
    Bool(bool),
    /// The integers; days since 2000 of a date; microseconds of a time, or since 2000 of a
    /// timestamp.
    Int(i64),
    Float(Float),
    Num(Num),
    /// Text and bytes, compared bytewise; jsonb in canonical form; an enum's label.
    Bytes(Cow<'a, [u8]>),
    Uuid([u8; 16]),
    Interval(Interval),
    Array(Arc<Array>),
}

impl<'a> Datum<'a> {
    /// The same value, holding on to nothing.
    pub(crate) fn into_owned(self) -> Datum<'static> {
        match self {
            Datum::Bool(value) => Datum::Bool(value),
            Datum::Int(value) => Datum::Int(value),
            Datum::Float(value) => Datum::Float(value),
            Datum::Num(value) => Datum::Num(value),
            Datum::Bytes(value) => Datum::Bytes(Cow::Owned(value.into_owned())),
            Datum::Uuid(value) => Datum::Uuid(value),
            Datum::Interval(value) => Datum::Interval(value),
            Datum::Array(value) => Datum::Array(value),
        }
    }

    /// The same value, borrowed where that saves a copy.
    pub(crate) fn borrowed(&'a self) -> Datum<'a> {
        match self {
            Datum::Bytes(value) => Datum::Bytes(Cow::Borrowed(value)),
            other => other.clone(),
        }
    }

    /// A float.
    pub(crate) fn float(value: f64) -> Datum<'a> {
        Datum::Float(Float(value))
    }

    /// Bytes of one's own.
    pub(crate) fn owned(bytes: Vec<u8>) -> Datum<'a> {
        Datum::Bytes(Cow::Owned(bytes))
    }
}

/// A float in Postgres's order: NaN equals NaN and is greater than everything else.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Float(pub(crate) f64);

impl PartialEq for Float {
    fn eq(&self, other: &Float) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Float {}

impl PartialOrd for Float {
    fn partial_cmp(&self, other: &Float) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Float {
    fn cmp(&self, other: &Float) -> Ordering {
        let nan = || self.0.is_nan().cmp(&other.0.is_nan());
        self.0.partial_cmp(&other.0).unwrap_or_else(nan)
    }
}

impl Hash for Float {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let value = if self.0.is_nan() {
            f64::NAN
        } else if self.0 == 0.0 {
            0.0
        } else {
            self.0
        };
        value.to_bits().hash(state);
    }
}
