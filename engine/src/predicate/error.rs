//! What can be wrong with a clause, and with a row's value: each with its place.

use super::types::Type;
use std::fmt;

/// A place in a clause's text. Lines and columns count from 1, columns in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The line.
    pub line: u64,
    /// The character in that line.
    pub column: u64,
}

impl Position {
    /// Where every text begins.
    pub(super) const START: Position = Position { line: 1, column: 1 };
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
    #[error("{what} at {position} is not supported in a shape's clause")]
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
    /// The column's type is not known to clauses.
    #[error(
        "column {column:?} at {position} has type OID {type_oid}, which clauses cannot read: leave \
         it out of the clause (of types that users made, they read enums that the source names, \
         and arrays of these)"
    )]
    UnsupportedType {
        /// The column.
        column: String,
        /// Its type's OID.
        type_oid: u32,
        /// Where the column stands.
        position: Position,
    },
    /// An operator or a function does not take operands of these types.
    #[error("there is no {operation} (at {position}): cast an operand, or quote a constant")]
    NoOperator {
        /// The operation with its operands' types.
        operation: String,
        /// Where it starts.
        position: Position,
    },
    /// A quoted constant is no value of the type that it must have here.
    #[error("{text:?} at {position} is no {type_name}, or not in the form that clauses read")]
    InvalidConstant {
        /// The type's name.
        type_name: String,
        /// The constant's text.
        text: String,
        /// Where the constant stands.
        position: Position,
    },
    /// A parameter is no value of the type that it must have at a place where it is used.
    #[error("${number} at {position} is {text:?}, which is no {type_name}, or not in a form read")]
    InvalidParameter {
        /// The parameter's number, from 1.
        number: usize,
        /// The type's name.
        type_name: String,
        /// The parameter's text.
        text: String,
        /// Where it is used.
        position: Position,
    },
    /// A parameter would have another type here than where it stands first.
    #[error(
        "${number} at {position} is a {type_name}, and {first} where it stands first: cast it at \
         each place to one type, as in ${number}::{first}, or pass it as two parameters"
    )]
    ParameterTypes {
        /// The parameter's number, from 1.
        number: usize,
        /// The type's name.
        type_name: String,
        /// The name of the type that it has at its first place.
        first: String,
        /// Where it is used once more.
        position: Position,
    },
    /// A parameter is used and not given.
    #[error("${number} at {position} is not given: there are {given} parameters, from $1 on")]
    UnknownParameter {
        /// The parameter's number.
        number: usize,
        /// How many are given.
        given: usize,
        /// Where it is used.
        position: Position,
    },
    /// A parameter is given and not used.
    #[error(
        "${number} is given, but nowhere in the clause, which ends at {position}: leave it out"
    )]
    UnusedParameter {
        /// The parameter's number, from 1.
        number: usize,
        /// Where the clause ends.
        position: Position,
    },
    /// An expression of constants has no value.
    #[error("the expression at {position} has no value: {message}")]
    ConstantError {
        /// Why.
        message: String,
        /// Where it starts.
        position: Position,
    },
    /// What must be true or false is something else.
    #[error("a condition is expected at {position}, and this is of type {type_name}")]
    NotBoolean {
        /// The type that it has.
        type_name: String,
        /// Where it starts.
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
    #[error(
        "the value of column {column} is no {expected}: the source sent broken or retyped data"
    )]
    Invalid {
        /// The column's index.
        column: usize,
        /// What was expected.
        expected: Type,
    },
}

/// Why a clause has no answer for a row. All but [`EvalError::Value`] concern only the shapes that
/// have this clause.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum EvalError {
    /// A value of the row cannot be read.
    #[error(transparent)]
    Value(#[from] ValueError),
    /// A value of the row is in a form that is not read here.
    #[error("the value of column {column} is no {expected} in the form that clauses read")]
    Unread {
        /// The column's index.
        column: usize,
        /// What was expected.
        expected: Type,
    },
    /// As it says.
    #[error("division by zero")]
    DivisionByZero,
    /// A result that its type cannot hold.
    #[error("{0} out of range")]
    OutOfRange(Type),
    /// A text that a cast cannot read.
    #[error("invalid input for type {0}: {1:?}")]
    InvalidText(Type, String),
    /// A pattern that was computed ends in its escape character.
    #[error("a LIKE pattern must not end with its escape character")]
    PatternEnd,
    /// As it says.
    #[error("negative substring length")]
    NegativeLength,
}
