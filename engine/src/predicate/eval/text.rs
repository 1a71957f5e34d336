//! Functions of texts. Texts are UTF-8 and collation is "C": only ASCII letters have another case.

use super::{Result, bytes};
use crate::predicate::error::EvalError;
use crate::predicate::expr::Function;
use crate::predicate::value::Datum;

/// The bytes of the character that starts at the front of `text`, which is not empty.
pub(super) fn char_len(text: &[u8]) -> usize {
    let len = match text.first() {
        Some(0xF0..) => 4,
        Some(0xE0..) => 3,
        Some(0xC0..) => 2,
        _ => 1,
    };
    len.min(text.len())
}

/// Where the first `count` characters end, and how many of them there are.
pub(super) fn prefix(text: &[u8], count: usize) -> (usize, usize) {
    let (mut end, mut found) = (0, 0);
    while found < count && end < text.len() {
        end += char_len(&text[end..]);
        found += 1;
    }
    (end, found)
}

fn chars(text: &[u8]) -> i64 {
    prefix(text, usize::MAX).1 as i64
}

/// An integer; the compiler lets nothing else come here.
pub(super) fn int(datum: &Datum<'_>) -> i64 {
    match datum {
        Datum::Int(value) => *value,
        _ => 0,
    }
}

/// The first `count` characters, as bytes.
fn first(text: &[u8], count: i64) -> usize {
    prefix(text, usize::try_from(count.max(0)).unwrap_or(usize::MAX)).0
}

pub(super) fn call<'a>(function: Function, args: &[Datum<'_>]) -> Result<Datum<'a>> {
    let text = args.first().map_or(&[][..], bytes);
    let number = |index: usize| args.get(index).map(int);
    Ok(match function {
        Function::Lower => Datum::owned(text.to_ascii_lowercase()),
        Function::Upper => Datum::owned(text.to_ascii_uppercase()),
        Function::Length => Datum::Int(chars(text)),
        Function::Octets => Datum::Int(text.len() as i64),
        Function::Trim { left, right } => {
            let set = args.get(1).map_or(&b" "[..], bytes);
            Datum::owned(trim(text, set, left, right).to_vec())
        }
        Function::Substring => {
            let start = number(1).unwrap_or(1);
            let end = match number(2) {
                Some(count) if count < 0 => return Err(EvalError::NegativeLength),
                Some(count) => start + count,
                None => i64::MAX,
            };
            let (from, to) = (first(text, start - 1), first(text, end - 1));
            Datum::owned(text[from..to.max(from)].to_vec())
        }
        Function::Left => {
            let count = number(1).unwrap_or(0);
            let count = if count < 0 { chars(text) + count } else { count };
            Datum::owned(text[..first(text, count)].to_vec())
        }
        Function::Right => {
            let count = number(1).unwrap_or(0);
            let skipped = if count < 0 { -count } else { chars(text) - count };
            Datum::owned(text[first(text, skipped)..].to_vec())
        }
        Function::Abs(_) | Function::RoundFloat | Function::RoundNumeric => Datum::Int(0),
    })
}

/// Takes characters that are in `set` off the ends.
fn trim<'t>(mut text: &'t [u8], set: &[u8], left: bool, right: bool) -> &'t [u8] {
    let in_set = |character: &[u8]| {
        let mut rest = set;
        while !rest.is_empty() {
            let (candidate, after) = rest.split_at(char_len(rest));
            if candidate == character {
                return true;
            }
            rest = after;
        }
        false
    };
    while left && !text.is_empty() && in_set(&text[..char_len(text)]) {
        text = &text[char_len(text)..];
    }
    while right && !text.is_empty() {
        let continues = |byte: &u8| byte & 0xC0 != 0x80;
        let start = text.iter().rposition(continues).unwrap_or(0);
        if !in_set(&text[start..]) {
            break;
        }
        text = &text[..start];
    }
    text
}
