//! Syntax: a clause's text becomes a tree in which each node knows its place. sqlparser cuts the
//! text into tokens; the tree is built here, because sqlparser's own reads some operators with
//! another precedence than Postgres does, has no place for many of its nodes, and takes far more
//! than clauses may say. What the names mean is `check`'s part.

mod expression;
mod special;
mod tokens;
mod tree;

#[cfg(test)]
pub(crate) use tokens::{CLAUSE_BYTES_MAX, NESTING_MAX, TOKENS_MAX};
pub(crate) use tree::{Ast, BinaryOp, Kind, Name, Test, TypeName};

use super::error::WhereError;
use tokens::Tokens;

/// The tree of `clause`.
///
/// # Errors
/// When it is no expression, or one beyond a bound or outside of the language.
pub(crate) fn parse(clause: &str) -> Result<Ast, WhereError> {
    let mut tokens = Tokens::new(clause)?;
    let tree = expression::expression(&mut tokens)?;
    tokens.end()?;
    Ok(tree)
}
