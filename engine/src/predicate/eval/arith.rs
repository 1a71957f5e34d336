//! Arithmetic, with Postgres's ranges and errors.

use super::{Result, out_of_range};
use crate::predicate::error::EvalError;
use crate::predicate::expr::{Arith, Number};
use crate::predicate::types::Scalar;
use crate::predicate::value::{Datum, NumError};

/// `left op right`, both being `number`s.
pub(super) fn arith<'a>(
    op: Arith,
    number: Number,
    left: &Datum<'_>,
    right: &Datum<'_>,
) -> Result<Datum<'a>> {
    match (left, right) {
        (Datum::Int(left), Datum::Int(right)) => ints(op, number, *left, *right).map(Datum::Int),
        (Datum::Num(left), Datum::Num(right)) => match op {
            Arith::Add => left.add(right),
            Arith::Subtract => left.subtract(right),
            Arith::Multiply => left.multiply(right),
            Arith::Divide => left.divide(right),
            Arith::Modulo => left.remainder(right),
        }
        .map(Datum::Num)
        .map_err(numeric_error),
        (Datum::Float(left), Datum::Float(right)) => match number {
            Number::Float4 => floats4(op, left.0 as f32, right.0 as f32).map(Datum::float),
            _ => floats8(op, left.0, right.0).map(Datum::float),
        },
        _ => Err(out_of_range(number.scalar())),
    }
}

/// The same for integers.
#[inline]
pub(crate) fn ints(op: Arith, number: Number, left: i64, right: i64) -> Result<i64> {
    let divides = matches!(op, Arith::Divide | Arith::Modulo);
    if divides && right == 0 {
        return Err(EvalError::DivisionByZero);
    }
    let result = match op {
        Arith::Add => left.checked_add(right),
        Arith::Subtract => left.checked_sub(right),
        Arith::Multiply => left.checked_mul(right),
        Arith::Divide => left.checked_div(right),
        Arith::Modulo => Some(left.wrapping_rem(right)),
    };
    let fits = |value: &i64| in_range(number.scalar(), *value);
    result.filter(fits).ok_or_else(|| out_of_range(number.scalar()))
}

/// Whether an integer type holds `value`.
#[inline]
pub(super) fn in_range(scalar: Scalar, value: i64) -> bool {
    match scalar {
        Scalar::Int2 => i16::try_from(value).is_ok(),
        Scalar::Int4 => i32::try_from(value).is_ok(),
        _ => true,
    }
}

pub(super) fn numeric_error(error: NumError) -> EvalError {
    match error {
        NumError::Overflow => out_of_range(Scalar::Numeric),
        NumError::DivisionByZero => EvalError::DivisionByZero,
    }
}

macro_rules! floats {
    ($name:ident, $float:ty, $scalar:expr) => {
        /// Overflow and underflow are errors; infinite operands are not.
        fn $name(op: Arith, left: $float, right: $float) -> Result<f64> {
            if op == Arith::Divide && right == 0.0 && !left.is_nan() {
                return Err(EvalError::DivisionByZero);
            }
            let value = match op {
                Arith::Add => left + right,
                Arith::Subtract => left - right,
                Arith::Multiply => left * right,
                Arith::Divide => left / right,
                Arith::Modulo => return Err(out_of_range($scalar)),
            };
            let overflow = value.is_infinite() && !left.is_infinite() && !right.is_infinite();
            let underflow = value == 0.0
                && match op {
                    Arith::Multiply => left != 0.0 && right != 0.0,
                    Arith::Divide => left != 0.0 && !right.is_infinite(),
                    _ => false,
                };
            if overflow || underflow {
                return Err(out_of_range($scalar));
            }
            Ok(f64::from(value))
        }
    };
}

floats!(floats4, f32, Scalar::Float4);
floats!(floats8, f64, Scalar::Float8);

/// The negative.
pub(super) fn negate<'a>(number: Number, value: &Datum<'_>) -> Result<Datum<'a>> {
    match value {
        Datum::Int(value) => ints(Arith::Subtract, number, 0, *value).map(Datum::Int),
        Datum::Num(value) => Ok(Datum::Num(value.negate())),
        Datum::Float(value) => Ok(Datum::float(-value.0)),
        _ => Err(out_of_range(number.scalar())),
    }
}

/// The absolute value.
pub(super) fn abs<'a>(number: Number, value: &Datum<'_>) -> Result<Datum<'a>> {
    match value {
        Datum::Int(int) if *int >= 0 => Ok(Datum::Int(*int)),
        Datum::Int(_) => negate(number, value),
        Datum::Num(value) => Ok(Datum::Num(value.abs())),
        Datum::Float(value) => Ok(Datum::float(value.0.abs())),
        _ => Err(out_of_range(number.scalar())),
    }
}
