//! Input: from a type's text form to its value, for constants and for what rows carry. Integers,
//! floats, booleans, numerics, UUIDs, texts and arrays of them are read as Postgres reads them;
//! dates, times and intervals in the form that Postgres prints with `DateStyle = ISO`.

use super::array::Array;
use super::date::{parse_date, parse_time, parse_timestamp};
use super::interval::Interval;
use super::json::canonical;
use super::num::Num;
use super::{Datum, Float};
use crate::predicate::key::{parse_int, parse_uuid};
use crate::predicate::types::{Scalar, Type};
use std::borrow::Cow;
use std::sync::Arc;

/// Why a text is no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InputError {
    /// It is no value of the type.
    Invalid,
    /// It is beyond the type's range.
    OutOfRange,
    /// It may be one, in a form that is not read here.
    Unread,
}

/// C's isspace, which is what Postgres's input functions skip.
pub(super) fn trimmed(text: &[u8]) -> &[u8] {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t'..=b'\r');
    let start = text.iter().position(|byte| !blank(byte)).unwrap_or(text.len());
    let end = text.iter().rposition(|byte| !blank(byte)).map_or(start, |last| last + 1);
    &text[start..end]
}

/// Reads `text` as a value of type `of`.
pub(crate) fn input<'a>(of: Type, text: &'a [u8]) -> Result<Datum<'a>, InputError> {
    if of.array {
        return Array::parse(of.scalar, text).map(|array| Datum::Array(Arc::new(array)));
    }
    let int = |range: std::ops::RangeInclusive<i64>| {
        let text = trimmed(text);
        let value = match parse_int(text) {
            Some(value) => value,
            None if signed_digits(text).is_some() => return Err(InputError::OutOfRange),
            None => return Err(InputError::Invalid),
        };
        if range.contains(&value) { Ok(Datum::Int(value)) } else { Err(InputError::OutOfRange) }
    };
    let float = |value: Option<f64>| match value {
        Some(value) => Ok(Datum::Float(Float(value))),
        None => Err(InputError::Invalid),
    };
    let time = |value: Option<i64>| value.map(Datum::Int).ok_or(InputError::Unread);
    match of.scalar {
        Scalar::Bool => parse_bool(trimmed(text)).map(Datum::Bool).ok_or(InputError::Invalid),
        Scalar::Int2 => int(i16::MIN.into()..=i16::MAX.into()),
        Scalar::Int4 => int(i32::MIN.into()..=i32::MAX.into()),
        Scalar::Int8 => int(i64::MIN..=i64::MAX),
        Scalar::Numeric => match Num::parse(trimmed(text)) {
            Some(Ok(value)) => Ok(Datum::Num(value)),
            Some(Err(_)) => Err(InputError::OutOfRange),
            None => Err(InputError::Invalid),
        },
        Scalar::Float4 => float(parse_float4(trimmed(text))),
        Scalar::Float8 => float(parse_float8(trimmed(text))),
        Scalar::Text | Scalar::Varchar | Scalar::Bpchar | Scalar::Json | Scalar::Named(_) => {
            Ok(Datum::Bytes(Cow::Borrowed(text)))
        }
        Scalar::Jsonb => canonical(text).map(Datum::owned).ok_or(InputError::Invalid),
        Scalar::Bytea => parse_bytea(text).map(Datum::owned).ok_or(InputError::Unread),
        Scalar::Uuid => parse_uuid(text).map(Datum::Uuid).ok_or(InputError::Invalid),
        Scalar::Date => time(parse_date(trimmed(text))),
        Scalar::Time => time(parse_time(trimmed(text))),
        Scalar::Timestamp => time(parse_timestamp(trimmed(text), false)),
        Scalar::Timestamptz => time(parse_timestamp(trimmed(text), true)),
        Scalar::Interval => Interval::parse(text).map(Datum::Interval).ok_or(InputError::Unread),
    }
}

/// An optional sign and at least one digit; what is beyond 64 bits is the nearest that fits.
pub(super) fn signed_digits(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let value = digits.iter().fold(0_i64, |value, digit| {
        value.saturating_mul(10).saturating_add(i64::from(digit - b'0'))
    });
    Some(if negative { -value } else { value })
}

/// Postgres's `boolin`: any unambiguous beginning of true, false, yes, no, on, off; or 1 or 0.
pub(super) fn parse_bool(text: &[u8]) -> Option<bool> {
    let text = text.to_ascii_lowercase();
    let begins = |word: &[u8], shortest: usize| text.len() >= shortest && word.starts_with(&text);
    if begins(b"true", 1) || begins(b"yes", 1) || begins(b"on", 2) || text == b"1" {
        Some(true)
    } else if begins(b"false", 1) || begins(b"no", 1) || begins(b"off", 2) || text == b"0" {
        Some(false)
    } else {
        None
    }
}

/// Whether `text` has the form of a decimal float, a zero one, or is one of the words.
fn float_form(text: &[u8]) -> Option<bool> {
    let text = std::str::from_utf8(text).ok()?;
    let plain =
        text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-'));
    let rest = text.trim_start_matches(['+', '-']);
    let word = ["infinity", "inf", "nan"].iter().any(|word| rest.eq_ignore_ascii_case(word));
    let mantissa = text.split(['e', 'E']).next().unwrap_or_default();
    (plain || word).then(|| word || mantissa.bytes().all(|byte| !matches!(byte, b'1'..=b'9')))
}

/// Reads a float of 64 bits; `None` if it is none or, as in Postgres, out of range.
pub(super) fn parse_float8(text: &[u8]) -> Option<f64> {
    let exact = float_form(text)?;
    let value: f64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    (exact || (value.is_finite() && value != 0.0)).then_some(value)
}

/// The same of 32 bits, as one of 64.
pub(super) fn parse_float4(text: &[u8]) -> Option<f64> {
    let exact = float_form(text)?;
    let value: f32 = std::str::from_utf8(text).ok()?.parse().ok()?;
    (exact || (value.is_finite() && value != 0.0)).then_some(f64::from(value))
}

/// `\x` and pairs of hexadecimal digits. The other form, of escapes, is not read.
fn parse_bytea(text: &[u8]) -> Option<Vec<u8>> {
    let (pairs, odd) = text.strip_prefix(b"\\x")?.as_chunks::<2>();
    if !odd.is_empty() {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    pairs.iter().map(|&[high, low]| Some(digit(high)? << 4 | digit(low)?)).collect()
}
