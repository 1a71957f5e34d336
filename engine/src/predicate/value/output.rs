//! Output: from a value to its type's text form, as Postgres prints it.

use super::date::{format_date, format_time, format_timestamp};
use super::{Datum, Float};
use crate::predicate::types::Scalar;
use std::borrow::Cow;

/// The text of `datum`, a value of type `scalar`; `None` if that type's text form is not written
/// here. Blanks at the end of a `character` go, as in Postgres's cast to text.
pub(crate) fn output<'a>(scalar: Scalar, datum: Datum<'a>) -> Option<Cow<'a, [u8]>> {
    let text = match (scalar, datum) {
        (Scalar::Bool, Datum::Bool(value)) => if value { "true" } else { "false" }.to_owned(),
        (Scalar::Int2 | Scalar::Int4 | Scalar::Int8, Datum::Int(value)) => value.to_string(),
        (Scalar::Numeric, Datum::Num(value)) => value.to_string(),
        (Scalar::Float8, Datum::Float(Float(value))) => float(value, &format!("{value:e}"), 15),
        (Scalar::Float4, Datum::Float(Float(value))) => {
            float(value, &format!("{:e}", value as f32), 6)
        }
        (Scalar::Date, Datum::Int(value)) => format_date(value),
        (Scalar::Time, Datum::Int(value)) => format_time(value),
        (Scalar::Timestamp, Datum::Int(value)) => format_timestamp(value),
        (Scalar::Uuid, Datum::Uuid(value)) => uuid(value),
        (Scalar::Bytea, Datum::Bytes(value)) => {
            let digits = value.iter().flat_map(|byte| [byte >> 4, byte & 15]);
            let digits = digits.filter_map(|digit| char::from_digit(digit.into(), 16));
            "\\x".chars().chain(digits).collect()
        }
        (Scalar::Bpchar, Datum::Bytes(value)) => return Some(without_blanks(value)),
        (Scalar::Text | Scalar::Varchar | Scalar::Json | Scalar::Named(_), Datum::Bytes(value)) => {
            return Some(value);
        }
        _ => return None,
    };
    Some(Cow::Owned(text.into_bytes()))
}

fn without_blanks(text: Cow<'_, [u8]>) -> Cow<'_, [u8]> {
    let end = text.iter().rposition(|byte| *byte != b' ').map_or(0, |last| last + 1);
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(&text[..end]),
        Cow::Owned(mut text) => {
            text.truncate(end);
            Cow::Owned(text)
        }
    }
}

/// The shortest digits that give the same float again, from `scientific`, in Postgres's layout:
/// with an exponent below -4 and from `digits` on.
fn float(value: f64, scientific: &str, digits: i32) -> String {
    if value.is_nan() {
        return "NaN".into();
    }
    if value.is_infinite() {
        return if value < 0.0 { "-Infinity" } else { "Infinity" }.into();
    }
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if exponent < -4 || exponent >= digits {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{mantissa}e{sign}{:02}", exponent.abs());
    }
    let (sign, mantissa) = match mantissa.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", mantissa),
    };
    let all: String = mantissa.chars().filter(|c| *c != '.').collect();
    if exponent < 0 {
        let zeros = "0".repeat((-exponent - 1) as usize);
        return format!("{sign}0.{zeros}{all}");
    }
    let whole = exponent as usize + 1;
    if all.len() <= whole {
        return format!("{sign}{all:0<whole$}");
    }
    let (whole, fraction) = all.split_at(whole);
    format!("{sign}{whole}.{fraction}")
}

fn uuid(value: [u8; 16]) -> String {
    let mut text = String::with_capacity(36);
    for (index, byte) in value.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}
