//! Syntax: a clause's text becomes a tree in which each node knows its place. sqlparser cuts the
//! text into tokens; the tree is built here, because sqlparser's own reads some operators with
//! another precedence than Postgres does, has no place for many of its nodes, and takes far more
//! than clauses may say. What the names mean is `check`'s part.

mod expression;
mod print;
mod special;
mod tokens;
mod tree;

pub(crate) use print::{quoted, text as print};
pub(crate) use tokens::Places;
#[cfg(test)]
pub(crate) use tokens::{CLAUSE_BYTES_MAX, NESTING_MAX, TOKENS_MAX};
pub(crate) use tree::{Ast, BinaryOp, Kind, Name, Test, TypeName};

use super::Params;
use super::error::WhereError;
use tokens::Tokens;

/// The tree of `clause`, in which parameters are constants, and where they stand.
///
/// # Errors
/// When it is no expression, or one beyond a bound or outside of the language; or when a parameter
/// is not given, or not used.
pub(crate) fn parse(clause: &str, params: &Params) -> Result<(Ast, Places), WhereError> {
    let mut tokens = Tokens::new(clause, params)?;
    let tree = expression::expression(&mut tokens)?;
    Ok((tree, tokens.end()?))
}
