//! What can be wrong with a clause, and with a row's value: each with its place.

use super::key::{ColumnType, KeyKind};
use std::fmt;

/// A place in a clause's text. Lines and columns count from 1, columns in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The line.
    pub line: u64,
    /// The character in that line.
    pub column: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

/// A WHERE clause that was refused. Nothing was registered; correct the clause and try again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WhereError {
    /// The text is too long.
    #[error("the clause has {bytes} bytes, and at most {bytes_max} are taken: make it shorter")]
    TooLong {
        /// Its length in bytes.
        bytes: usize,
        /// The limit in bytes.
        bytes_max: usize,
    },
    /// The text has too many parts or is nested too deeply.
    #[error("the clause has more than {count_max} {what} at {position}: split it into shapes")]
    TooComplex {
        /// What there is too much of.
        what: &'static str,
        /// How many are taken.
        count_max: usize,
        /// Where the first one too many stands.
        position: Position,
    },
    /// The text is no SQL expression.
    #[error("the clause is no SQL expression at {position}: {message}")]
    Syntax {
        /// What the parser says.
        message: String,
        /// Where.
        position: Position,
    },
    /// The text is SQL that shapes do not support.
    #[error("{what} at {position} is not supported: write `column = constant`, joined with OR")]
    Unsupported {
        /// The kind of thing.
        what: String,
        /// Where it starts.
        position: Position,
    },
    /// The table has no such column.
    #[error("{table} has no column {column:?} (at {position}); unquoted names are lower-cased")]
    UnknownColumn {
        /// The name, folded as Postgres does.
        column: String,
        /// The shape's table, as `schema.name`.
        table: String,
        /// Where.
        position: Position,
    },
    /// A column is qualified with something else than the shape's table.
    #[error("{qualifier:?} at {position} is not the shape's table {table}: use that or no prefix")]
    ForeignTable {
        /// What stands before the column.
        qualifier: String,
        /// The shape's table, as `schema.name`.
        table: String,
        /// Where.
        position: Position,
    },
    /// The column's type cannot be compared.
    #[error(
        "column {column:?} at {position} has type OID {type_oid}, which clauses cannot compare: \
         use a column of type boolean, smallint, integer, bigint, text, varchar or uuid"
    )]
    UnsupportedType {
        /// The column.
        column: String,
        /// Its type's OID.
        type_oid: u32,
        /// Where the column stands.
        position: Position,
    },
    /// The constant is of a type that Postgres would not compare with the column either.
    #[error(
        "column {column:?} is {column_type} and cannot be compared with {constant} at {position}: \
         write the constant in quotes"
    )]
    ConstantType {
        /// The column.
        column: String,
        /// Its type's name.
        column_type: String,
        /// What the constant is.
        constant: &'static str,
        /// Where the constant stands.
        position: Position,
    },
    /// A quoted constant is no value of the column's type.
    #[error("{text:?} at {position} is no {column_type}, the type of column {column:?}")]
    InvalidConstant {
        /// The column.
        column: String,
        /// Its type's name.
        column_type: String,
        /// The constant's text.
        text: String,
        /// Where the constant stands.
        position: Position,
    },
}

/// A row whose value in a column that clauses compare cannot be read. Whether the row matches is
/// then unknown: the caller must treat every shape of that table as having missed it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum ValueError {
    /// The row is shorter than the relation that clauses were compiled against.
    #[error("the row has no column {column}: its table was altered; register its shapes anew")]
    Missing {
        /// The column's index.
        column: usize,
    },
    /// The value was not sent, and there is no old row to take it from.
    #[error("the value of column {column} was not sent: the table needs REPLICA IDENTITY FULL")]
    NotSent {
        /// The column's index.
        column: usize,
    },
    /// The bytes are no value of the type that clauses were compiled against.
    #[error("the value of column {column} is no {kind}: the source sent broken or retyped data")]
    Invalid {
        /// The column's index.
        column: usize,
        /// What was expected.
        kind: KeyKind,
    },
}

impl fmt::Display for KeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeyKind::Bool => ColumnType::Bool.fmt(f),
            KeyKind::Int => ColumnType::Int8.fmt(f),
            KeyKind::Uuid => ColumnType::Uuid.fmt(f),
            KeyKind::Text => ColumnType::Text.fmt(f),
        }
    }
}
