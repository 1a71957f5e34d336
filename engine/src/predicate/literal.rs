//! Literals: a constant as it stands in a clause, and what it means beside a column, by Postgres's
//! own rules: a quoted literal takes the column's type, a bare one has a type of its own.

use super::key::{ColumnType, Key, parse_int, parse_uuid};

/// A constant as it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Literal<'a> {
    Null,
    Bool(bool),
    /// Decimal digits, as many as the text has.
    Integer {
        negative: bool,
        digits: &'a str,
    },
    Quoted(&'a str),
}

/// Why a literal cannot stand beside a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LiteralError {
    /// Postgres has no such comparison.
    WrongType,
    /// The quoted text is no value of the column's type.
    InvalidText,
}

impl Literal<'_> {
    /// What it is, in words.
    pub(super) fn name(self) -> &'static str {
        match self {
            Literal::Null => "NULL",
            Literal::Bool(_) => "a boolean",
            Literal::Integer { .. } => "an integer",
            Literal::Quoted(_) => "a string",
        }
    }

    /// The key that `column = literal` looks for; `None` if that can never be true: beside NULL,
    /// and beside an integer that the column cannot hold (Postgres promotes both sides).
    pub(super) fn key_for(self, column: ColumnType) -> Result<Option<Key>, LiteralError> {
        match (self, column) {
            (Literal::Null, _) => Ok(None),
            (Literal::Bool(value), ColumnType::Bool) => Ok(Some(Key::Bool(value))),
            (
                Literal::Integer { negative, digits },
                ColumnType::Int2 | ColumnType::Int4 | ColumnType::Int8,
            ) => Ok(integer(negative, digits).filter(|value| fits(*value, column)).map(Key::Int)),
            (Literal::Bool(_) | Literal::Integer { .. }, _) => Err(LiteralError::WrongType),
            (Literal::Quoted(text), _) => {
                quoted(text, column).map(Some).ok_or(LiteralError::InvalidText)
            }
        }
    }
}

fn integer(negative: bool, digits: &str) -> Option<i64> {
    let value: i128 = digits.parse().ok()?;
    i64::try_from(if negative { -value } else { value }).ok()
}

fn fits(value: i64, column: ColumnType) -> bool {
    match column {
        ColumnType::Int2 => i16::try_from(value).is_ok(),
        ColumnType::Int4 => i32::try_from(value).is_ok(),
        _ => true,
    }
}

/// The input functions of Postgres's types.
fn quoted(text: &str, column: ColumnType) -> Option<Key> {
    // C's isspace, which is what Postgres's input functions skip.
    let trimmed = text.trim_matches([' ', '\t', '\n', '\x0b', '\x0c', '\r']);
    match column {
        ColumnType::Bool => parse_bool(trimmed).map(Key::Bool),
        ColumnType::Int2 | ColumnType::Int4 | ColumnType::Int8 => {
            parse_int(trimmed.as_bytes()).filter(|value| fits(*value, column)).map(Key::Int)
        }
        ColumnType::Uuid => parse_uuid(text.as_bytes()).map(Key::Uuid),
        ColumnType::Text | ColumnType::Varchar => Some(Key::Text(text.as_bytes().into())),
    }
}

/// Postgres's `boolin`: any unambiguous beginning of true, false, yes, no, on, off; or 1 or 0.
fn parse_bool(text: &str) -> Option<bool> {
    let text = text.to_ascii_lowercase();
    let begins = |word: &str, shortest: usize| text.len() >= shortest && word.starts_with(&text);
    if begins("true", 1) || begins("yes", 1) || begins("on", 2) || text == "1" {
        Some(true)
    } else if begins("false", 1) || begins("no", 1) || begins("off", 2) || text == "0" {
        Some(false)
    } else {
        None
    }
}
