//! Numerics from text and floats, and to integers and floats.

use super::{BigInt, Coefficient, Dec, Num, NumError, SCALE_MAX, WHOLE_DIGITS_MAX, power};

impl Num {
    /// Reads Postgres's text form, without blanks around it; `None` if it is no number, an error if
    /// it is one beyond the limits.
    pub(crate) fn parse(text: &[u8]) -> Option<Result<Num, NumError>> {
        let (negative, rest) = match text {
            [b'-', rest @ ..] => (true, rest),
            [b'+', rest @ ..] => (false, rest),
            rest => (false, rest),
        };
        if rest.eq_ignore_ascii_case(b"infinity") || rest.eq_ignore_ascii_case(b"inf") {
            return Some(Ok(if negative { Num::NegInfinity } else { Num::Infinity }));
        }
        if text.eq_ignore_ascii_case(b"nan") {
            return Some(Ok(Num::NaN));
        }
        let (mantissa, exponent) = match rest.iter().position(|byte| matches!(byte, b'e' | b'E')) {
            Some(place) => {
                (&rest[..place], crate::predicate::value::input::signed_digits(&rest[place + 1..])?)
            }
            None => (rest, 0),
        };
        let (whole, fraction) = match mantissa.iter().position(|byte| *byte == b'.') {
            Some(place) => (&mantissa[..place], &mantissa[place + 1..]),
            None => (mantissa, &[][..]),
        };
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        if !whole.iter().chain(fraction).all(u8::is_ascii_digit) {
            return None;
        }
        Some(from_digits(negative, whole, fraction, exponent))
    }

    /// Rounded to an integer of 64 bits, if it is in range.
    pub(crate) fn to_int(&self) -> Option<i64> {
        let Num::Finite(value) = self else { return None };
        match (&value.coefficient, value.scale) {
            (Coefficient::Small(small), 0) => Some(*small),
            _ => i64::try_from(&value.rounded(0)).ok(),
        }
    }

    /// The integer of 64 bits that it is, if it is one.
    pub(crate) fn exact_int(&self) -> Option<i64> {
        self.to_int().filter(|int| Num::from(*int) == *self)
    }

    /// The nearest float; `None` if it is out of range.
    pub(crate) fn to_f64(&self) -> Option<f64> {
        match self {
            Num::NegInfinity => Some(f64::NEG_INFINITY),
            Num::Infinity => Some(f64::INFINITY),
            Num::NaN => Some(f64::NAN),
            Num::Finite(_) => {
                crate::predicate::value::input::parse_float8(self.to_string().as_bytes())
            }
        }
    }

    /// The nearest float of 32 bits, as one of 64; `None` if it is out of range.
    pub(crate) fn to_f32(&self) -> Option<f64> {
        match self {
            Num::Finite(_) => {
                crate::predicate::value::input::parse_float4(self.to_string().as_bytes())
            }
            _ => self.to_f64(),
        }
    }

    /// The number that `value` shows as with `digits` significant digits.
    pub(crate) fn from_float(value: f64, digits: usize) -> Result<Num, NumError> {
        if value.is_nan() {
            return Ok(Num::NaN);
        }
        if value.is_infinite() {
            return Ok(Num::infinity(if value < 0.0 { -1 } else { 1 }));
        }
        let text = format!("{value:.precision$e}", precision = digits - 1);
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let mantissa = mantissa.trim_end_matches('0').trim_end_matches('.');
        let text = format!("{mantissa}e{exponent}");
        Num::parse(text.as_bytes()).unwrap_or(Err(NumError::Overflow))
    }
}

fn from_digits(
    negative: bool,
    whole: &[u8],
    fraction: &[u8],
    exponent: i64,
) -> Result<Num, NumError> {
    let digits: Vec<u8> = whole.iter().chain(fraction).copied().collect();
    let scale = (fraction.len() as i64).saturating_sub(exponent);
    let significant = digits.iter().skip_while(|digit| **digit == b'0').count() as i64;
    if scale > SCALE_MAX || significant.saturating_sub(scale) > WHOLE_DIGITS_MAX && significant > 0
    {
        return Err(NumError::Overflow);
    }
    let mut coefficient = if digits.len() <= 18 {
        let text = std::str::from_utf8(&digits).unwrap_or("0");
        BigInt::from(text.parse::<i64>().unwrap_or(0))
    } else {
        BigInt::parse_bytes(&digits, 10).unwrap_or_default()
    };
    if scale < 0 && significant > 0 {
        coefficient *= power(-scale);
    }
    if negative {
        coefficient = -coefficient;
    }
    Ok(Num::Finite(Dec::new(coefficient, scale.max(0))?))
}
