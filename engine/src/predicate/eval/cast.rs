//! Casts between types whose values differ.

use super::arith::{in_range, numeric_error};
use super::{Result, out_of_range};
use crate::predicate::error::EvalError;
use crate::predicate::expr::Cast;
use crate::predicate::types::Scalar;
use crate::predicate::value::{
    Array, DAY_MICROS, Datum, INFINITY_DATE, INFINITY_TIME, InputError, Num, in_timestamp_range,
    input, output,
};
use std::borrow::Cow;
use std::sync::Arc;

/// Digits of a float that its numeric has.
const FLOAT4_DIGITS: usize = 6;
const FLOAT8_DIGITS: usize = 15;

/// The value of `value` after `cast`.
pub(crate) fn apply(cast: Cast, value: Datum<'_>) -> Result<Datum<'_>> {
    match value {
        Datum::Array(array) if cast.array => {
            let one = Cast { array: false, ..cast };
            let item = |item: &Option<Datum<'static>>| {
                item.clone().map(|item| apply(one, item).map(Datum::into_owned)).transpose()
            };
            let items = array.items.iter().map(item).collect::<Result<Vec<_>>>()?;
            let dimensions = array.dimensions.clone();
            Ok(Datum::Array(Arc::new(Array { items: items.into(), dimensions })))
        }
        value => limited(cast, scalar(cast, value)?),
    }
}

fn scalar(cast: Cast, value: Datum<'_>) -> Result<Datum<'_>> {
    let Cast { from, to, .. } = cast;
    let error = || out_of_range(to);
    if from == to {
        return Ok(value);
    }
    match (value, to) {
        (value, Scalar::Text | Scalar::Varchar | Scalar::Bpchar) => {
            output(from, value).map(Datum::Bytes).ok_or_else(error)
        }
        (Datum::Int(value), Scalar::Int2 | Scalar::Int4 | Scalar::Int8) => {
            in_range(to, value).then_some(Datum::Int(value)).ok_or_else(error)
        }
        (Datum::Int(value), Scalar::Bool) => Ok(Datum::Bool(value != 0)),
        (Datum::Bool(value), Scalar::Int4) => Ok(Datum::Int(value.into())),
        (Datum::Int(value), Scalar::Numeric) => Ok(Datum::Num(Num::from(value))),
        (Datum::Int(value), Scalar::Float4) => Ok(Datum::float(f64::from(value as f32))),
        (Datum::Int(value), Scalar::Float8) => Ok(Datum::float(value as f64)),
        (Datum::Num(value), Scalar::Int2 | Scalar::Int4 | Scalar::Int8) => {
            let value = value.to_int().filter(|value| in_range(to, *value));
            value.map(Datum::Int).ok_or_else(error)
        }
        (Datum::Num(value), Scalar::Float4) => value.to_f32().map(Datum::float).ok_or_else(error),
        (Datum::Num(value), Scalar::Float8) => value.to_f64().map(Datum::float).ok_or_else(error),
        (Datum::Float(value), _) => float(from, to, value.0),
        (Datum::Int(days), Scalar::Timestamp) => timestamp(days),
        (Datum::Int(micros), Scalar::Date) => Ok(Datum::Int(match micros {
            micros if micros == INFINITY_TIME.0 => INFINITY_DATE.0,
            micros if micros == INFINITY_TIME.1 => INFINITY_DATE.1,
            micros => micros.div_euclid(DAY_MICROS),
        })),
        (Datum::Bytes(text), _) => read(to, text),
        _ => Err(error()),
    }
}

fn timestamp<'a>(days: i64) -> Result<Datum<'a>> {
    Ok(Datum::Int(match days {
        days if days == INFINITY_DATE.0 => INFINITY_TIME.0,
        days if days == INFINITY_DATE.1 => INFINITY_TIME.1,
        days => {
            let micros = days.checked_mul(DAY_MICROS).filter(|micros| in_timestamp_range(*micros));
            micros.ok_or_else(|| out_of_range(Scalar::Timestamp))?
        }
    }))
}

fn float<'a>(from: Scalar, to: Scalar, value: f64) -> Result<Datum<'a>> {
    let error = || out_of_range(to);
    match to {
        Scalar::Float8 => Ok(Datum::float(value)),
        Scalar::Float4 => {
            let narrow = value as f32;
            let lost =
                narrow.is_infinite() != value.is_infinite() || (narrow == 0.0) != (value == 0.0);
            if lost { Err(error()) } else { Ok(Datum::float(f64::from(narrow))) }
        }
        Scalar::Numeric => {
            let digits = if from == Scalar::Float4 { FLOAT4_DIGITS } else { FLOAT8_DIGITS };
            Num::from_float(value, digits).map(Datum::Num).map_err(numeric_error)
        }
        Scalar::Int2 | Scalar::Int4 | Scalar::Int8 => {
            let rounded = value.round_ties_even();
            // 2^63 itself is out of range, and the highest float below it is in.
            let fits = rounded >= -(2_f64.powi(63)) && rounded < 2_f64.powi(63);
            let int = fits.then_some(rounded as i64).filter(|int| in_range(to, *int));
            int.map(Datum::Int).ok_or_else(error)
        }
        _ => Err(error()),
    }
}

/// A text, or JSON, by the input function of `to`.
fn read(to: Scalar, text: Cow<'_, [u8]>) -> Result<Datum<'_>> {
    let failed = |error, text: &[u8]| match error {
        InputError::OutOfRange => out_of_range(to),
        InputError::Invalid | InputError::Unread => {
            EvalError::InvalidText(to.plain(), String::from_utf8_lossy(text).into_owned())
        }
    };
    match text {
        Cow::Borrowed(text) => input(to.plain(), text).map_err(|error| failed(error, text)),
        Cow::Owned(text) => {
            let value = input(to.plain(), &text).map(Datum::into_owned);
            value.map_err(|error| failed(error, &text))
        }
    }
}

/// Cuts or pads a text to its length, rounds a numeric to its precision.
fn limited(cast: Cast, value: Datum<'_>) -> Result<Datum<'_>> {
    let Some((size, scale)) = cast.limit else { return Ok(value) };
    match value {
        Datum::Num(Num::NaN) => Ok(Datum::Num(Num::NaN)),
        Datum::Num(value) => value.limited(size, scale).map(Datum::Num).map_err(numeric_error),
        Datum::Bytes(text) => {
            let (end, count) = super::text::prefix(&text, usize::from(size));
            let mut text = text.into_owned();
            text.truncate(end);
            if cast.to == Scalar::Bpchar {
                text.resize(text.len() + usize::from(size) - count, b' ');
            }
            Ok(Datum::owned(text))
        }
        value => Ok(value),
    }
}

/// Whether there is such a cast, written out by the user.
pub(crate) fn exists(from: Scalar, to: Scalar) -> bool {
    let number = |scalar: Scalar| scalar.number_rank().is_some();
    match (from, to) {
        (from, to) if from == to => true,
        (from, to) if number(from) && number(to) => true,
        (Scalar::Bool, Scalar::Int4) | (Scalar::Int4, Scalar::Bool) => true,
        (Scalar::Date, Scalar::Timestamp) | (Scalar::Timestamp, Scalar::Date) => true,
        (Scalar::Json, Scalar::Jsonb) => true,
        (Scalar::Interval | Scalar::Timestamptz | Scalar::Jsonb, _) => false,
        (from, to) if to.is_string() => from.is_string() || output_is_exact(from),
        (from, to) if from.is_string() => input_is_exact(to),
        _ => false,
    }
}

/// Types whose text form is written here as Postgres writes it.
fn output_is_exact(scalar: Scalar) -> bool {
    !matches!(scalar, Scalar::Interval | Scalar::Timestamptz | Scalar::Jsonb)
}

/// Types whose every text form is read here.
fn input_is_exact(scalar: Scalar) -> bool {
    scalar.number_rank().is_some() || matches!(scalar, Scalar::Bool | Scalar::Uuid | Scalar::Jsonb)
}
