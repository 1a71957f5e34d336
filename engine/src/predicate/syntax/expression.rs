//! Expressions: operators by Postgres's table of precedences. What has a form of its own (CASE,
//! functions, types, literals) is `special`'s part.

use super::special;
use super::tokens::Tokens;
use super::tree::{Ast, BinaryOp, Kind, LikeKind, Test, highest};
use crate::predicate::error::{Position, WhereError};
use sqlparser::tokenizer::Token;

/// Postgres's levels of precedence, from the loosest.
mod level {
    pub(super) const OR: u8 = 1;
    pub(super) const AND: u8 = 2;
    pub(super) const NOT: u8 = 3;
    pub(super) const IS: u8 = 4;
    pub(super) const COMPARISON: u8 = 5;
    pub(super) const RANGE: u8 = 6;
    pub(super) const OTHER: u8 = 7;
    pub(super) const SUM: u8 = 8;
    pub(super) const PRODUCT: u8 = 9;
    pub(super) const SIGN: u8 = 13;
    pub(super) const SUBSCRIPT: u8 = 14;
    pub(super) const CAST: u8 = 15;
}

/// A whole expression.
pub(super) fn expression(tokens: &mut Tokens) -> Result<Ast, WhereError> {
    tokens.nested(|tokens| at_level(tokens, level::OR))
}

/// An expression of operators that bind at least as tightly as `min`.
fn at_level(tokens: &mut Tokens, min: u8) -> Result<Ast, WhereError> {
    let mut left = prefix(tokens, min)?;
    while let Some(operator) = infix(tokens)? {
        if operator.level() < min {
            break;
        }
        left = apply(tokens, left, operator)?;
    }
    Ok(left)
}

fn prefix(tokens: &mut Tokens, min: u8) -> Result<Ast, WhereError> {
    let at = tokens.place();
    if tokens.are_words(0, &["not"]) {
        if min > level::NOT {
            return Err(tokens.syntax("NOT needs brackets here".into()));
        }
        tokens.advance();
        let arg = tokens.nested(|tokens| at_level(tokens, level::NOT))?;
        let below = arg.height();
        return Ast::new(Kind::Not(Box::new(arg)), at, below);
    }
    let negative = match tokens.peek() {
        Some(Token::Minus) => true,
        Some(Token::Plus) => false,
        _ => return special::primary(tokens),
    };
    tokens.advance();
    let arg = tokens.nested(|tokens| at_level(tokens, level::SIGN))?;
    let below = arg.height();
    let arg = Box::new(arg);
    Ast::new(if negative { Kind::Negate(arg) } else { Kind::Plus(arg) }, at, below)
}

/// What may follow an operand.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Infix {
    Or,
    And,
    Is,
    IsNull { negated: bool },
    Binary(BinaryOp),
    Between { negated: bool },
    In { negated: bool },
    Like(LikeKind),
    Subscript,
    Cast,
}

impl Infix {
    fn level(self) -> u8 {
        match self {
            Infix::Or => level::OR,
            Infix::And => level::AND,
            Infix::Is | Infix::IsNull { .. } => level::IS,
            Infix::Binary(op) => binary_level(op),
            Infix::Between { .. } | Infix::In { .. } | Infix::Like(_) => level::RANGE,
            Infix::Subscript => level::SUBSCRIPT,
            Infix::Cast => level::CAST,
        }
    }
}

fn binary_level(op: BinaryOp) -> u8 {
    match op {
        BinaryOp::Eq
        | BinaryOp::NotEq
        | BinaryOp::Less
        | BinaryOp::LessEq
        | BinaryOp::Greater
        | BinaryOp::GreaterEq => level::COMPARISON,
        BinaryOp::Plus | BinaryOp::Minus => level::SUM,
        BinaryOp::Times | BinaryOp::Divide | BinaryOp::Modulo => level::PRODUCT,
        BinaryOp::Concat
        | BinaryOp::Contains
        | BinaryOp::Contained
        | BinaryOp::Overlap
        | BinaryOp::Match { .. } => level::OTHER,
    }
}

/// The operator that follows, which is not taken yet; `None` where an expression may end.
fn infix(tokens: &Tokens) -> Result<Option<Infix>, WhereError> {
    let Some(token) = tokens.peek() else { return Ok(None) };
    if let Some(op) = binary(token) {
        return Ok(Some(Infix::Binary(op)));
    }
    Ok(match token {
        Token::DoubleColon => Some(Infix::Cast),
        Token::LBracket => Some(Infix::Subscript),
        Token::RParen | Token::RBracket | Token::Comma | Token::SemiColon => None,
        Token::Word(word) if word.quote_style.is_none() => word_operator(tokens)?,
        Token::Number(..) | Token::SingleQuotedString(_) | Token::LParen | Token::Word(_) => None,
        Token::Placeholder(_) => None,
        other => return Err(tokens.unsupported(&format!("the operator {other}"))),
    })
}

fn word_operator(tokens: &Tokens) -> Result<Option<Infix>, WhereError> {
    let is = |words: &[&str]| tokens.are_words(0, words);
    let like = |ignore_case, negated| Some(Infix::Like(LikeKind { ignore_case, negated }));
    for (words, what) in [
        (&["similar"][..], "SIMILAR TO"),
        (&["not", "similar"], "SIMILAR TO"),
        (&["collate"], "COLLATE"),
        (&["at", "time"], "AT TIME ZONE"),
        (&["overlaps"], "OVERLAPS"),
        (&["operator"], "OPERATOR"),
    ] {
        if is(words) {
            return Err(tokens.unsupported(what));
        }
    }
    Ok(if is(&["or"]) {
        Some(Infix::Or)
    } else if is(&["and"]) {
        Some(Infix::And)
    } else if is(&["is"]) {
        Some(Infix::Is)
    } else if is(&["isnull"]) || is(&["notnull"]) {
        Some(Infix::IsNull { negated: is(&["notnull"]) })
    } else if is(&["between"]) || is(&["not", "between"]) {
        Some(Infix::Between { negated: is(&["not"]) })
    } else if is(&["in"]) || is(&["not", "in"]) {
        Some(Infix::In { negated: is(&["not"]) })
    } else if is(&["like"]) || is(&["not", "like"]) {
        like(false, is(&["not"]))
    } else if is(&["ilike"]) || is(&["not", "ilike"]) {
        like(true, is(&["not"]))
    } else {
        None
    })
}

fn binary(token: &Token) -> Option<BinaryOp> {
    let matches = |ignore_case, negated| BinaryOp::Match { ignore_case, negated };
    Some(match token {
        Token::Eq => BinaryOp::Eq,
        Token::Neq => BinaryOp::NotEq,
        Token::Lt => BinaryOp::Less,
        Token::LtEq => BinaryOp::LessEq,
        Token::Gt => BinaryOp::Greater,
        Token::GtEq => BinaryOp::GreaterEq,
        Token::Plus => BinaryOp::Plus,
        Token::Minus => BinaryOp::Minus,
        Token::Mul => BinaryOp::Times,
        Token::Div => BinaryOp::Divide,
        Token::Mod => BinaryOp::Modulo,
        Token::StringConcat => BinaryOp::Concat,
        Token::AtArrow => BinaryOp::Contains,
        Token::ArrowAt => BinaryOp::Contained,
        Token::Overlap => BinaryOp::Overlap,
        Token::Tilde => matches(false, false),
        Token::TildeAsterisk => matches(true, false),
        Token::ExclamationMarkTilde => matches(false, true),
        Token::ExclamationMarkTildeAsterisk => matches(true, true),
        _ => return None,
    })
}

fn apply(tokens: &mut Tokens, left: Ast, operator: Infix) -> Result<Ast, WhereError> {
    let at = left.at;
    let level = operator.level();
    match operator {
        Infix::And | Infix::Or => chain(tokens, left, operator),
        Infix::Is => {
            tokens.advance();
            is(tokens, left)
        }
        Infix::IsNull { negated } => {
            tokens.advance();
            let below = left.height();
            Ast::new(Kind::Is { arg: Box::new(left), test: Test::Null, negated }, at, below)
        }
        Infix::Binary(op) => {
            tokens.advance();
            let tree = binary_operands(tokens, left, op)?;
            if level == level::COMPARISON {
                not_chained(tokens, level)?;
            }
            Ok(tree)
        }
        Infix::Between { negated } => {
            skip_not(tokens, negated);
            let tree = between(tokens, left, negated)?;
            not_chained(tokens, level)?;
            Ok(tree)
        }
        Infix::In { negated } => {
            skip_not(tokens, negated);
            in_list(tokens, left, negated)
        }
        Infix::Like(kind) => {
            skip_not(tokens, kind.negated);
            let tree = like(tokens, left, kind)?;
            not_chained(tokens, level)?;
            Ok(tree)
        }
        Infix::Subscript => {
            tokens.advance();
            special::subscript(tokens, left)
        }
        Infix::Cast => {
            tokens.advance();
            let name = special::type_name(tokens)?;
            let below = left.height();
            Ast::new(Kind::Cast(Box::new(left), name), at, below)
        }
    }
}

/// Takes an operator's word, and the NOT before it.
fn skip_not(tokens: &mut Tokens, negated: bool) {
    tokens.advance();
    if negated {
        tokens.advance();
    }
}

/// Comparisons and ranges do not associate: `a = b = c` is an error in Postgres too.
fn not_chained(tokens: &Tokens, level: u8) -> Result<(), WhereError> {
    match infix(tokens)? {
        Some(next) if next.level() == level => {
            Err(tokens.syntax("comparisons cannot be chained: use brackets".into()))
        }
        _ => Ok(()),
    }
}

/// `a AND b AND c` is one node.
fn chain(tokens: &mut Tokens, first: Ast, operator: Infix) -> Result<Ast, WhereError> {
    let at = first.at;
    let mut parts = vec![first];
    let word = if operator == Infix::And { "and" } else { "or" };
    while tokens.take_word(word) {
        parts.push(tokens.nested(|tokens| at_level(tokens, operator.level() + 1))?);
    }
    let below = highest(&parts);
    Ast::new(if operator == Infix::And { Kind::And(parts) } else { Kind::Or(parts) }, at, below)
}

fn right_of(tokens: &mut Tokens, level: u8) -> Result<Ast, WhereError> {
    tokens.nested(|tokens| at_level(tokens, level + 1))
}

fn binary_operands(tokens: &mut Tokens, left: Ast, op: BinaryOp) -> Result<Ast, WhereError> {
    let at = left.at;
    for (word, all) in [("any", false), ("some", false), ("all", true)] {
        if tokens.are_words(0, &[word]) && tokens.peek_at(1) == Some(&Token::LParen) {
            tokens.advance();
            tokens.advance();
            let right = expression(tokens)?;
            tokens.expect(&Token::RParen)?;
            let below = left.height().max(right.height());
            let (left, right) = (Box::new(left), Box::new(right));
            return Ast::new(Kind::Quantified { op, all, left, right }, at, below);
        }
    }
    let right = right_of(tokens, binary_level(op))?;
    let below = left.height().max(right.height());
    Ast::new(Kind::Binary(op, Box::new(left), Box::new(right)), at, below)
}

fn is(tokens: &mut Tokens, left: Ast) -> Result<Ast, WhereError> {
    let at: Position = left.at;
    let negated = tokens.take_word("not");
    if tokens.are_words(0, &["distinct", "from"]) {
        tokens.advance();
        tokens.advance();
        let right = right_of(tokens, level::IS)?;
        let below = left.height().max(right.height());
        let (left, right) = (Box::new(left), Box::new(right));
        return Ast::new(Kind::Distinct { left, right, negated }, at, below);
    }
    let tests = [
        ("null", Test::Null),
        ("true", Test::True),
        ("false", Test::False),
        ("unknown", Test::Unknown),
    ];
    let Some((_, test)) = tests.into_iter().find(|(word, _)| tokens.take_word(word)) else {
        return Err(tokens.unexpected("NULL, TRUE, FALSE, UNKNOWN or DISTINCT FROM"));
    };
    let below = left.height();
    Ast::new(Kind::Is { arg: Box::new(left), test, negated }, at, below)
}

fn between(tokens: &mut Tokens, arg: Ast, negated: bool) -> Result<Ast, WhereError> {
    let at = arg.at;
    let symmetric = tokens.take_word("symmetric");
    if !symmetric {
        tokens.take_word("asymmetric");
    }
    let low = right_of(tokens, level::RANGE)?;
    tokens.expect_word("AND")?;
    let high = right_of(tokens, level::RANGE)?;
    let below = highest([&arg, &low, &high]);
    let (arg, low, high) = (Box::new(arg), Box::new(low), Box::new(high));
    Ast::new(Kind::Between { arg, low, high, negated, symmetric }, at, below)
}

fn in_list(tokens: &mut Tokens, arg: Ast, negated: bool) -> Result<Ast, WhereError> {
    let at = arg.at;
    tokens.expect(&Token::LParen)?;
    let items = special::list(tokens, &Token::RParen)?;
    let below = arg.height().max(highest(&items));
    Ast::new(Kind::In { arg: Box::new(arg), items, negated }, at, below)
}

fn like(tokens: &mut Tokens, arg: Ast, kind: LikeKind) -> Result<Ast, WhereError> {
    let at = arg.at;
    if tokens.are_words(0, &["any"]) || tokens.are_words(0, &["all"]) {
        return Err(tokens.unsupported("LIKE ANY and LIKE ALL"));
    }
    let pattern = right_of(tokens, level::RANGE)?;
    let escape = match tokens.take_word("escape") {
        true => Some(Box::new(right_of(tokens, level::RANGE)?)),
        false => None,
    };
    let below = highest([&arg, &pattern].into_iter().chain(escape.as_deref()));
    let (arg, pattern) = (Box::new(arg), Box::new(pattern));
    Ast::new(Kind::Like { arg, pattern, escape, kind }, at, below)
}
