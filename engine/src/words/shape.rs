//! Shape: what a client subscribed to, and the two names it has: a handle for ever and everywhere,
//! a slot inside its shard.

use super::relation::TableName;
use super::view::Replica;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

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

/// What a shape is: a table, which of its rows, which of their columns, and how much it is told.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ShapeDefinition {
    /// The root table.
    pub table: TableName,
    /// A condition in SQL; `None` takes every row.
    pub where_clause: Option<Box<str>>,
    /// What `$1`, `$2` and so on in the condition are: values in Postgres's text form, `None` for
    /// NULL. Each means what its text in quotes would mean at that place.
    pub params: Box<[Option<Box<str>>]>,
    /// The selected columns, named as Postgres stores them (case kept, no quotes); the primary key
    /// is selected beside them. `None` selects every column.
    pub columns: Option<Arc<[Box<str>]>>,
    /// How much of a change it is told.
    pub replica: Replica,
}

impl ShapeDefinition {
    /// Every row of `table`.
    pub fn table(table: TableName) -> ShapeDefinition {
        let (params, replica) = (Box::default(), Replica::Default);
        ShapeDefinition { table, where_clause: None, params, columns: None, replica }
    }

    /// The rows of `table` for which `clause` is true.
    pub fn filtered(table: TableName, clause: &str) -> ShapeDefinition {
        let where_clause = Some(clause.into());
        ShapeDefinition { where_clause, ..ShapeDefinition::table(table) }
    }

    /// The same with these values for the parameters `$1`, `$2` and so on of its condition.
    pub fn with_params<'v>(
        self,
        values: impl IntoIterator<Item = Option<&'v str>>,
    ) -> ShapeDefinition {
        let params = values.into_iter().map(|value| value.map(Box::from)).collect();
        ShapeDefinition { params, ..self }
    }

    /// The same with these columns of its rows, and the primary key. A change of none of them is
    /// nothing to the shape.
    pub fn with_columns<'n>(self, names: impl IntoIterator<Item = &'n str>) -> ShapeDefinition {
        ShapeDefinition { columns: Some(names.into_iter().map(Box::from).collect()), ..self }
    }

    /// The same in another replica mode.
    pub fn with_replica(self, replica: Replica) -> ShapeDefinition {
        ShapeDefinition { replica, ..self }
    }
}

impl fmt::Display for ShapeDefinition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.table)?;
        if let Some(columns) = &self.columns {
            write!(f, " ({})", columns.join(", "))?;
        }
        if self.replica == Replica::Full {
            write!(f, " REPLICA FULL")?;
        }
        if let Some(clause) = &self.where_clause {
            write!(f, " WHERE {clause}")?;
        }
        for (index, value) in self.params.iter().enumerate() {
            let (mark, number) = (if index == 0 { ": " } else { ", " }, index + 1);
            match value {
                Some(value) => write!(f, "{mark}${number} = '{value}'")?,
                None => write!(f, "{mark}${number} = NULL")?,
            }
        }
        Ok(())
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
