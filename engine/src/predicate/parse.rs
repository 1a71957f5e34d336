//! Compiling: a clause's text becomes a [`Predicate`]. sqlparser reads more than shapes support
//! and some things otherwise than Postgres does, so only the nodes named here pass; everything
//! else is refused with its kind and its place.
//!
//! The parser's own recursion is limited by itself, but a flat chain of operators becomes a tree
//! as deep as it is long. So bytes and tokens are counted before parsing, the tree is walked
//! without recursion, and it is never cloned or printed.

use super::error::{Position, WhereError};
use super::key::ColumnType;
use super::literal::{Literal, LiteralError};
use super::{Equality, Predicate};
use crate::words::Relation;
use sqlparser::ast::{BinaryOperator, Expr, Ident, UnaryOperator, Value};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer};

/// A clause's longest text.
pub(crate) const CLAUSE_BYTES_MAX: usize = 64 << 10;
/// The most comparisons that OR may join.
pub(crate) const TERMS_MAX: usize = 1_000;
/// The most tokens. `(("schema"."table"."column") = (-7)) OR` has 16; a tree of half as many
/// levels as this is dropped, by recursion, within a thread's stack.
pub(crate) const TOKENS_MAX: usize = 16 * TERMS_MAX;

/// Compiles `clause` against the columns of `relation`; no clause takes every row.
///
/// # Errors
/// When the clause is no SQL, is SQL that shapes do not support, or does not fit the relation.
pub(crate) fn compile(relation: &Relation, clause: Option<&str>) -> Result<Predicate, WhereError> {
    let Some(clause) = clause else { return Ok(Predicate::Always) };
    let parsed = Parsed::new(clause)?;
    let mut terms = Vec::new();
    let mut leaves = 0;
    // Source order: the left side of an OR is taken first.
    let mut stack = vec![&parsed.expr];
    while let Some(expr) = stack.pop() {
        match expr {
            Expr::Nested(inner) => stack.push(inner),
            Expr::BinaryOp { left, op: BinaryOperator::Or, right } => {
                stack.push(right);
                stack.push(left);
            }
            leaf => {
                let start = parsed.term_starts.get(leaves).copied().unwrap_or(parsed.end);
                terms.extend(equality(relation, leaf, start)?);
                leaves += 1;
            }
        }
    }
    Ok(Predicate::any_of(terms))
}

/// A clause that is one SQL expression, within bounds.
struct Parsed {
    expr: Expr,
    /// Where each term of the outermost ORs starts. Exact as long as no term before holds an OR of
    /// its own, and such a term is refused.
    term_starts: Vec<Position>,
    end: Position,
}

impl Parsed {
    fn new(clause: &str) -> Result<Parsed, WhereError> {
        if clause.len() > CLAUSE_BYTES_MAX {
            let bytes = clause.len();
            return Err(WhereError::TooLong { bytes, bytes_max: CLAUSE_BYTES_MAX });
        }
        let dialect = PostgreSqlDialect {};
        let tokens =
            Tokenizer::new(&dialect, clause).tokenize_with_location().map_err(|error| {
                WhereError::Syntax { message: error.message, position: error.location.into() }
            })?;
        let term_starts = term_starts(&tokens)?;
        let end = end_of(clause);
        let mut parser = Parser::new(&dialect).with_tokens_with_locations(tokens);
        let place = |token: &TokenWithSpan| match token.token {
            Token::EOF => end,
            _ => token.span.start.into(),
        };
        let expr = match parser.parse_expr() {
            Ok(expr) => expr,
            Err(error) => return Err(syntax(error, place(parser.get_current_token()), end)),
        };
        let rest = parser.peek_token();
        if rest.token != Token::EOF {
            let message = format!("expected OR or the end, found {}", rest.token);
            return Err(WhereError::Syntax { message, position: place(&rest) });
        }
        Ok(Parsed { expr, term_starts, end })
    }
}

/// Counts tokens and terms, and finds where each term starts: at what follows an OR, brackets left
/// out.
fn term_starts(tokens: &[TokenWithSpan]) -> Result<Vec<Position>, WhereError> {
    let too_many = |what, count_max, token: &TokenWithSpan| WhereError::TooComplex {
        what,
        count_max,
        position: token.span.start.into(),
    };
    let visible = || tokens.iter().filter(|token| !matches!(token.token, Token::Whitespace(_)));
    if let Some(token) = visible().nth(TOKENS_MAX) {
        return Err(too_many("words and signs", TOKENS_MAX, token));
    }
    let mut starts = Vec::new();
    let mut awaits_start = true;
    for token in visible() {
        match &token.token {
            Token::Word(word) if word.keyword == Keyword::OR => awaits_start = true,
            Token::LParen => {}
            _ if awaits_start => {
                if starts.len() == TERMS_MAX {
                    return Err(too_many("terms", TERMS_MAX, token));
                }
                starts.push(token.span.start.into());
                awaits_start = false;
            }
            _ => {}
        }
    }
    Ok(starts)
}

/// `current` is the token that the parser took last, `end` the end of the text.
fn syntax(error: ParserError, current: Position, end: Position) -> WhereError {
    let text = match error {
        ParserError::RecursionLimitExceeded => {
            let what = "levels of nesting";
            return WhereError::TooComplex { what, count_max: NESTING_MAX, position: current };
        }
        ParserError::ParserError(text) | ParserError::TokenizerError(text) => text,
    };
    // The parser puts the place of what it found, which it need not have taken, into its text; at
    // the end of the clause it has none.
    if let Some((message, place)) = text.rsplit_once(" at Line: ") {
        let numbers = place.split_once(", Column: ");
        let numbers = numbers.and_then(|(l, c)| Some((l.parse().ok()?, c.parse().ok()?)));
        let position = numbers.map_or(current, |(line, column)| Position { line, column });
        return WhereError::Syntax { message: message.to_owned(), position };
    }
    let position = if text.ends_with("found: EOF") { end } else { current };
    WhereError::Syntax { message: text, position }
}

/// The parser's own limit, as it documents it.
const NESTING_MAX: usize = 50;

fn end_of(clause: &str) -> Position {
    let (before, last) = clause.rsplit_once('\n').map_or(("", clause), |split| split);
    let line = if last.len() == clause.len() { 1 } else { before.matches('\n').count() as u64 + 2 };
    Position { line, column: last.chars().count() as u64 + 1 }
}

impl From<Location> for Position {
    fn from(location: Location) -> Position {
        Position { line: location.line, column: location.column }
    }
}

/// One side of a comparison.
enum Operand<'a> {
    Column(&'a [Ident]),
    Constant(Literal<'a>, Position),
    Other,
}

/// Compiles one term; `None` if it can never be true.
fn equality(
    relation: &Relation,
    expr: &Expr,
    start: Position,
) -> Result<Option<Equality>, WhereError> {
    let unsupported = |what: String| WhereError::Unsupported { what, position: start };
    let Expr::BinaryOp { left, op: BinaryOperator::Eq, right } = expr else {
        return Err(unsupported(kind_of(expr)));
    };
    match (operand(left)?, operand(right)?) {
        (Operand::Column(column), Operand::Constant(literal, position))
        | (Operand::Constant(literal, position), Operand::Column(column)) => {
            compare(relation, column, literal, position)
        }
        (Operand::Column(_), Operand::Column(_)) => {
            Err(unsupported("a comparison of two columns".into()))
        }
        (Operand::Constant(..), Operand::Constant(..)) => {
            Err(unsupported("a comparison of two constants".into()))
        }
        (Operand::Other, _) => Err(unsupported(format!("{} beside =", kind_of(left)))),
        (_, Operand::Other) => Err(unsupported(format!("{} beside =", kind_of(right)))),
    }
}

fn compare(
    relation: &Relation,
    name: &[Ident],
    literal: Literal<'_>,
    position: Position,
) -> Result<Option<Equality>, WhereError> {
    let index = resolve(relation, name)?;
    let column = &relation.columns[index];
    let name_position = place_of(name);
    let column_type =
        ColumnType::of(column.type_oid).ok_or_else(|| WhereError::UnsupportedType {
            column: column.name.to_string(),
            type_oid: column.type_oid,
            position: name_position,
        })?;
    let key = literal.key_for(column_type).map_err(|error| {
        let (column, column_type) = (column.name.to_string(), column_type.to_string());
        match (error, literal) {
            (LiteralError::InvalidText, Literal::Quoted(text)) => {
                WhereError::InvalidConstant { column, column_type, text: text.to_owned(), position }
            }
            _ => {
                WhereError::ConstantType { column, column_type, constant: literal.name(), position }
            }
        }
    })?;
    Ok(key.map(|key| Equality { column: index, key }))
}

/// The index of the column that `name` means: alone, or after the table, or after schema and table.
fn resolve(relation: &Relation, name: &[Ident]) -> Result<usize, WhereError> {
    let position = place_of(name);
    let parts: Vec<String> = name.iter().map(fold).collect();
    let (column, qualifier) = parts.split_last().map_or(("", &[][..]), |(c, q)| (c.as_str(), q));
    let ours = [&*relation.table.schema, &*relation.table.name];
    let table = || relation.table.to_string();
    if qualifier.len() > ours.len()
        || !qualifier.iter().rev().eq(ours.iter().rev().take(qualifier.len()))
    {
        let qualifier = qualifier.join(".");
        return Err(WhereError::ForeignTable { qualifier, table: table(), position });
    }
    let index = relation.column_index(column);
    index.ok_or_else(|| WhereError::UnknownColumn {
        column: column.into(),
        table: table(),
        position,
    })
}

/// A name as Postgres stores it: without quotes it is lower-cased (ASCII only, in UTF-8).
fn fold(ident: &Ident) -> String {
    match ident.quote_style {
        Some(_) => ident.value.clone(),
        None => ident.value.to_ascii_lowercase(),
    }
}

fn place_of(name: &[Ident]) -> Position {
    name.first().map_or(Position { line: 1, column: 1 }, |ident| ident.span.start.into())
}

fn operand(expr: &Expr) -> Result<Operand<'_>, WhereError> {
    let mut expr = expr;
    let mut sign = None;
    loop {
        match expr {
            Expr::Nested(inner) => expr = inner,
            Expr::UnaryOp { op: UnaryOperator::Minus, expr: inner } => {
                sign = Some(!sign.unwrap_or(false));
                expr = inner;
            }
            Expr::UnaryOp { op: UnaryOperator::Plus, expr: inner } => {
                sign = Some(sign.unwrap_or(false));
                expr = inner;
            }
            _ => break,
        }
    }
    Ok(match expr {
        Expr::Identifier(ident) if sign.is_none() => Operand::Column(std::slice::from_ref(ident)),
        Expr::CompoundIdentifier(parts) if sign.is_none() => Operand::Column(parts),
        Expr::Value(value) => {
            let position = value.span.start.into();
            Operand::Constant(literal(&value.value, sign, position)?, position)
        }
        _ => Operand::Other,
    })
}

fn literal(
    value: &Value,
    sign: Option<bool>,
    position: Position,
) -> Result<Literal<'_>, WhereError> {
    let what = match value {
        Value::Number(digits, false) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            return Ok(Literal::Integer { negative: sign == Some(true), digits });
        }
        Value::Number(..) => "a number that is not plain decimal digits",
        _ if sign.is_some() => "a sign before what is no number",
        Value::SingleQuotedString(text) => return Ok(Literal::Quoted(text)),
        Value::Boolean(value) => return Ok(Literal::Bool(*value)),
        Value::Null => return Ok(Literal::Null),
        Value::Placeholder(_) => "a parameter",
        _ => "a literal that is not in plain single quotes",
    };
    Err(WhereError::Unsupported { what: what.into(), position })
}

/// What an expression is, in words. Looks at its top only: trees may be deep.
fn kind_of(expr: &Expr) -> String {
    let what = match expr {
        Expr::BinaryOp { op, .. } => return format!("the operator {op}"),
        Expr::UnaryOp { op, .. } => return format!("the operator {op}"),
        Expr::Nested(_) => "an expression in brackets",
        Expr::Identifier(_) | Expr::CompoundIdentifier(_) => "a column alone",
        Expr::Value(_) => "a constant alone",
        Expr::IsNull(_) | Expr::IsNotNull(_) => "IS NULL",
        Expr::IsTrue(_) | Expr::IsNotTrue(_) | Expr::IsFalse(_) | Expr::IsNotFalse(_) => {
            "IS TRUE or IS FALSE"
        }
        Expr::IsDistinctFrom(..) | Expr::IsNotDistinctFrom(..) => "IS DISTINCT FROM",
        Expr::In { .. } => "IN",
        Expr::Between { .. } => "BETWEEN",
        Expr::Like { .. } | Expr::ILike { .. } | Expr::SimilarTo { .. } => "LIKE",
        Expr::Case { .. } => "CASE",
        Expr::Cast { .. } | Expr::TypedString(_) => "a cast",
        Expr::Function(_) => "a function",
        Expr::Subquery(_) | Expr::Exists { .. } => "a subquery",
        _ => "this kind of expression",
    };
    what.into()
}
