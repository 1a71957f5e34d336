//! Shape: what a client subscribed to, and the two names it has: a handle for ever and everywhere,
//! a slot inside its shard.

use super::relation::TableName;
use std::fmt;
use std::str::FromStr;

/// The name of a shape. Never used again for another shape. Text form: 16 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Handle(u64);

impl Handle {
    /// The handle numbered `number`.
    pub const fn new(number: u64) -> Handle {
        Handle(number)
    }

    /// The handle's number.
    pub const fn as_u64(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A text that is no handle.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no shape handle: expected 16 hexadecimal digits")]
pub struct ParseHandleError {
    text: String,
}

impl FromStr for Handle {
    type Err = ParseHandleError;

    fn from_str(text: &str) -> Result<Handle, ParseHandleError> {
        let digits = text.len() == 16
            && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        digits
            .then(|| u64::from_str_radix(text, 16).ok())
            .flatten()
            .map(Handle)
            .ok_or_else(|| ParseHandleError { text: text.to_owned() })
    }
}

/// The number of a shape inside its shard. Given out in rising order and never used again (R8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(u32);

impl Slot {
    /// The slot numbered `number`.
    pub const fn new(number: u32) -> Slot {
        Slot(number)
    }

    /// The slot's number.
    pub const fn as_u32(self) -> u32 {
        self.0
    }

    /// The slot's number, to index with.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// What a shape is: a table, and which of its rows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ShapeDefinition {
    /// The root table.
    pub table: TableName,
    /// A condition in SQL; `None` takes every row.
    pub where_clause: Option<Box<str>>,
}

impl ShapeDefinition {
    /// Every row of `table`.
    pub fn table(table: TableName) -> ShapeDefinition {
        ShapeDefinition { table, where_clause: None }
    }

    /// The rows of `table` for which `clause` is true.
    pub fn filtered(table: TableName, clause: &str) -> ShapeDefinition {
        ShapeDefinition { table, where_clause: Some(clause.into()) }
    }
}

impl fmt::Display for ShapeDefinition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.where_clause {
            Some(clause) => write!(f, "{} WHERE {clause}", self.table),
            None => write!(f, "{}", self.table),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_s_text_round_trips_and_nothing_else_is_taken() {
        let handle = Handle::new(0xBEEF);
        assert_eq!(handle.to_string(), "000000000000beef");
        assert_eq!("000000000000beef".parse(), Ok(handle));
        for text in ["", "beef", "000000000000BEEF", "000000000000bee+", "+00000000000beef"] {
            assert!(text.parse::<Handle>().is_err(), "{text}");
        }
    }
}
