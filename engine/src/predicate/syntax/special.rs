//! What has a form of its own: literals, names, brackets, CASE, functions, arrays, types.

use super::expression::expression;
use super::tokens::Tokens;
use super::tree::{Ast, Kind, TypeName, highest};
use crate::predicate::error::{Position, WhereError};
use crate::predicate::types::Scalar;
use sqlparser::tokenizer::Token;

/// Postgres's reserved words, which name no column unless quoted, and what they would begin.
const RESERVED: [(&str, &str); 27] = [
    ("select", "a subquery"),
    ("exists", "a subquery"),
    ("with", "a subquery"),
    ("user", "the function USER"),
    ("current_user", "the function CURRENT_USER"),
    ("session_user", "the function SESSION_USER"),
    ("current_role", "the function CURRENT_ROLE"),
    ("current_date", "the function CURRENT_DATE"),
    ("current_time", "the function CURRENT_TIME"),
    ("current_timestamp", "the function CURRENT_TIMESTAMP"),
    ("current_catalog", "the function CURRENT_CATALOG"),
    ("localtime", "the function LOCALTIME"),
    ("localtimestamp", "the function LOCALTIMESTAMP"),
    ("row", "a row"),
    ("default", "DEFAULT"),
    ("and", ""),
    ("or", ""),
    ("in", ""),
    ("is", ""),
    ("like", ""),
    ("ilike", ""),
    ("when", ""),
    ("then", ""),
    ("else", ""),
    ("end", ""),
    ("from", ""),
    ("where", ""),
];

/// An operand.
pub(super) fn primary(tokens: &mut Tokens) -> Result<Ast, WhereError> {
    let at = tokens.place();
    match tokens.peek() {
        Some(Token::Number(digits, false)) if is_number(digits) => {
            Ok(Ast::leaf(Kind::Number(tokens.take_text()), at))
        }
        Some(Token::Number(..)) => {
            Err(tokens.unsupported("a number that is not plain decimal digits"))
        }
        Some(Token::SingleQuotedString(_)) => Ok(Ast::leaf(Kind::Text(tokens.take_text()), at)),
        Some(Token::LParen) => brackets(tokens),
        Some(Token::Word(word)) if word.quote_style.is_some() => name(tokens),
        Some(Token::Word(word)) => {
            let word = word.value.to_ascii_lowercase();
            word_primary(tokens, &word)
        }
        Some(Token::Placeholder(name)) => {
            let name = name.clone();
            Ok(Ast::leaf(tokens.parameter(&name)?, at))
        }
        Some(
            Token::EscapedStringLiteral(_)
            | Token::UnicodeStringLiteral(_)
            | Token::HexStringLiteral(_)
            | Token::NationalStringLiteral(_)
            | Token::SingleQuotedByteStringLiteral(_)
            | Token::DollarQuotedString(_),
        ) => Err(tokens.unsupported("a literal that is not in plain single quotes")),
        _ => Err(tokens.unexpected("an expression")),
    }
}

/// `12`, `1.5`, `.5`, `1.`, `1e-5`.
fn is_number(text: &str) -> bool {
    let plain = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
    if plain(text) {
        return !text.is_empty();
    }
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    plain(whole)
        && plain(fraction)
        && plain(exponent)
        && !exponent.is_empty()
        && whole.len() + fraction.len() > 0
}

fn brackets(tokens: &mut Tokens) -> Result<Ast, WhereError> {
    tokens.advance();
    if tokens.are_words(0, &["select"]) || tokens.are_words(0, &["with"]) {
        return Err(tokens.unsupported("a subquery"));
    }
    let inner = expression(tokens)?;
    if tokens.peek() == Some(&Token::Comma) {
        return Err(tokens.unsupported("a row of several values"));
    }
    tokens.expect(&Token::RParen)?;
    Ok(inner)
}

fn word_primary(tokens: &mut Tokens, word: &str) -> Result<Ast, WhereError> {
    let at = tokens.place();
    let constant = match word {
        "null" => Some(Kind::Null),
        "true" => Some(Kind::Bool(true)),
        "false" => Some(Kind::Bool(false)),
        _ => None,
    };
    if let Some(kind) = constant {
        tokens.advance();
        return Ok(Ast::leaf(kind, at));
    }
    match (word, tokens.peek_at(1)) {
        ("case", _) => return case(tokens),
        ("array", Some(Token::LBracket)) => {
            tokens.advance();
            return array(tokens, at);
        }
        ("array", Some(Token::LParen)) => return Err(tokens.unsupported("a subquery")),
        ("cast", Some(Token::LParen)) => return cast(tokens),
        ("substring", Some(Token::LParen)) => return substring(tokens),
        ("trim", Some(Token::LParen)) => return trim(tokens),
        _ => {}
    }
    if let Some((_, what)) = RESERVED.iter().find(|(reserved, _)| *reserved == word) {
        return Err(match *what {
            "" => tokens.unexpected("an expression"),
            what => tokens.unsupported(what),
        });
    }
    if let Some(typed) = typed_literal(tokens)? {
        return Ok(typed);
    }
    match tokens.peek_at(1) {
        Some(Token::LParen) => call(tokens, word),
        _ => name(tokens),
    }
}

/// `a`, `table.a`, `schema.table.a`; without quotes names are lower-cased (ASCII only, in UTF-8).
fn name(tokens: &mut Tokens) -> Result<Ast, WhereError> {
    let at = tokens.place();
    let mut parts = Vec::new();
    loop {
        match tokens.peek() {
            Some(Token::Word(word)) => parts.push(match word.quote_style {
                Some(_) => word.value.clone(),
                None => word.value.to_ascii_lowercase(),
            }),
            _ => return Err(tokens.unexpected("a name")),
        }
        tokens.advance();
        if !tokens.take(&Token::Period) {
            break;
        }
    }
    if tokens.peek() == Some(&Token::LParen) {
        let what = format!("the function {}", parts.join("."));
        return Err(WhereError::Unsupported { what, position: at });
    }
    Ok(Ast::leaf(Kind::Column(parts), at))
}

/// Expressions between commas, and what ends them. None at all is an error.
pub(super) fn list(tokens: &mut Tokens, end: &Token) -> Result<Vec<Ast>, WhereError> {
    if tokens.are_words(0, &["select"]) || tokens.are_words(0, &["with"]) {
        return Err(tokens.unsupported("a subquery"));
    }
    let mut items = Vec::new();
    loop {
        items.push(expression(tokens)?);
        if !tokens.take(&Token::Comma) {
            break;
        }
    }
    tokens.expect(end)?;
    Ok(items)
}

fn call(tokens: &mut Tokens, word: &str) -> Result<Ast, WhereError> {
    let at = tokens.place();
    tokens.advance();
    tokens.advance();
    let args = match tokens.take(&Token::RParen) {
        true => Vec::new(),
        false if tokens.peek() == Some(&Token::Mul) => {
            return Err(tokens.unsupported("an aggregate"));
        }
        false => list(tokens, &Token::RParen)?,
    };
    if tokens.are_words(0, &["over"]) || tokens.are_words(0, &["filter"]) {
        return Err(tokens.unsupported("a window or an aggregate"));
    }
    let below = highest(&args);
    Ast::new(Kind::Call(word.to_owned(), args), at, below)
}

fn case(tokens: &mut Tokens) -> Result<Ast, WhereError> {
    let at = tokens.place();
    tokens.advance();
    let operand = match tokens.are_words(0, &["when"]) {
        true => None,
        false => Some(Box::new(expression(tokens)?)),
    };
    let mut branches = Vec::new();
    while tokens.take_word("when") {
        let condition = expression(tokens)?;
        tokens.expect_word("THEN")?;
        branches.push((condition, expression(tokens)?));
    }
    if branches.is_empty() {
        return Err(tokens.unexpected("WHEN"));
    }
    let otherwise = match tokens.take_word("else") {
        true => Some(Box::new(expression(tokens)?)),
        false => None,
    };
    tokens.expect_word("END")?;
    let parts = branches.iter().flat_map(|(condition, value)| [condition, value]);
    let below = highest(parts.chain(operand.as_deref()).chain(otherwise.as_deref()));
    Ast::new(Kind::Case { operand, branches, otherwise }, at, below)
}

/// `[…]` behind ARRAY, or inside such.
fn array(tokens: &mut Tokens, at: Position) -> Result<Ast, WhereError> {
    tokens.expect(&Token::LBracket)?;
    if tokens.take(&Token::RBracket) {
        return Ok(Ast::leaf(Kind::Array(Vec::new()), at));
    }
    if tokens.peek() == Some(&Token::LBracket) || tokens.are_words(0, &["array"]) {
        return Err(tokens.unsupported("an array of arrays: write it as '{{…}}'"));
    }
    let items = list(tokens, &Token::RBracket)?;
    let below = highest(&items);
    Ast::new(Kind::Array(items), at, below)
}

/// What stands in the brackets behind an operand; the first is taken.
pub(super) fn subscript(tokens: &mut Tokens, left: Ast) -> Result<Ast, WhereError> {
    let at = left.at;
    let index = match tokens.peek() {
        Some(Token::Colon) => return Err(tokens.unsupported("a slice of an array")),
        _ => expression(tokens)?,
    };
    if tokens.peek() == Some(&Token::Colon) {
        return Err(tokens.unsupported("a slice of an array"));
    }
    tokens.expect(&Token::RBracket)?;
    let below = left.height().max(index.height());
    Ast::new(Kind::Subscript(Box::new(left), Box::new(index)), at, below)
}

fn cast(tokens: &mut Tokens) -> Result<Ast, WhereError> {
    let at = tokens.place();
    tokens.advance();
    tokens.advance();
    let arg = expression(tokens)?;
    tokens.expect_word("AS")?;
    let name = type_name(tokens)?;
    tokens.expect(&Token::RParen)?;
    let below = arg.height();
    Ast::new(Kind::Cast(Box::new(arg), name), at, below)
}

/// `substring(text FROM start FOR count)`, either left out, or with commas.
fn substring(tokens: &mut Tokens) -> Result<Ast, WhereError> {
    let at = tokens.place();
    tokens.advance();
    tokens.advance();
    let mut args = vec![expression(tokens)?];
    if tokens.peek() == Some(&Token::Comma) {
        while tokens.take(&Token::Comma) {
            args.push(expression(tokens)?);
        }
    } else {
        let from = match tokens.take_word("from") {
            true => expression(tokens)?,
            false => Ast::leaf(Kind::Number("1".into()), tokens.place()),
        };
        args.push(from);
        if tokens.take_word("for") {
            args.push(expression(tokens)?);
        }
    }
    tokens.expect(&Token::RParen)?;
    let below = highest(&args);
    Ast::new(Kind::Call("substring".into(), args), at, below)
}

/// `trim([BOTH | LEADING | TRAILING] [characters] [FROM] text)`.
fn trim(tokens: &mut Tokens) -> Result<Ast, WhereError> {
    let at = tokens.place();
    tokens.advance();
    tokens.advance();
    let function = if tokens.take_word("leading") {
        "ltrim"
    } else if tokens.take_word("trailing") {
        "rtrim"
    } else {
        tokens.take_word("both");
        "btrim"
    };
    let mut args = Vec::new();
    if tokens.take_word("from") {
        args.push(expression(tokens)?);
    } else {
        args.push(expression(tokens)?);
        if tokens.take_word("from") {
            args.insert(0, expression(tokens)?);
        }
    }
    while tokens.take(&Token::Comma) {
        args.push(expression(tokens)?);
    }
    tokens.expect(&Token::RParen)?;
    let below = highest(&args);
    Ast::new(Kind::Call(function.into(), args), at, below)
}

/// The most words of a type's name.
const TYPE_WORDS_MAX: usize = 4;

/// The type whose name starts at the next token, and how many words that has.
fn named_type(tokens: &Tokens) -> Option<(Scalar, usize)> {
    let words: Vec<String> = (0..TYPE_WORDS_MAX)
        .map_while(|ahead| match tokens.peek_at(ahead) {
            Some(Token::Word(word)) if word.quote_style.is_none() => {
                Some(word.value.to_ascii_lowercase())
            }
            _ => None,
        })
        .collect();
    (1..=words.len())
        .rev()
        .find_map(|count| Scalar::named(&words[..count].join(" ")).map(|scalar| (scalar, count)))
}

/// The name of a type.
pub(super) fn type_name(tokens: &mut Tokens) -> Result<TypeName, WhereError> {
    let at = tokens.place();
    let Some((scalar, words)) = named_type(tokens) else {
        return Err(match tokens.peek() {
            Some(Token::Word(word)) => tokens.unsupported(&format!("the type {}", word.value)),
            _ => tokens.unexpected("a type"),
        });
    };
    // `char` is `char(1)`; `bpchar` has no length.
    let bare = scalar == Scalar::Bpchar && !tokens.are_words(0, &["bpchar"]);
    (0..words).for_each(|_| tokens.advance());
    let mut modifiers = Vec::new();
    if tokens.take(&Token::LParen) {
        loop {
            match tokens.peek() {
                Some(Token::Number(digits, false)) => match digits.parse() {
                    Ok(number) => modifiers.push(number),
                    Err(_) => return Err(tokens.unsupported("this number in a type")),
                },
                _ => return Err(tokens.unexpected("a number")),
            }
            tokens.advance();
            if !tokens.take(&Token::Comma) {
                break;
            }
        }
        tokens.expect(&Token::RParen)?;
    }
    if bare && modifiers.is_empty() {
        modifiers.push(1);
    }
    check_modifiers(scalar, &modifiers, at)?;
    let array = tokens.take(&Token::LBracket);
    if array {
        tokens.expect(&Token::RBracket)?;
    }
    if array && !modifiers.is_empty() {
        let what = "a length in the type of an array".into();
        return Err(WhereError::Unsupported { what, position: at });
    }
    Ok(TypeName { scalar, array, modifiers })
}

/// Digits of a numeric, and characters of a text, that a type may ask for.
const PRECISION_MAX: u16 = 1_000;

fn check_modifiers(scalar: Scalar, modifiers: &[u16], at: Position) -> Result<(), WhereError> {
    let valid = match (scalar, modifiers) {
        (_, []) => true,
        (Scalar::Varchar | Scalar::Bpchar, [length]) => *length > 0,
        (Scalar::Numeric, [precision]) => (1..=PRECISION_MAX).contains(precision),
        (Scalar::Numeric, [precision, scale]) => {
            (1..=PRECISION_MAX).contains(precision) && scale <= precision
        }
        _ => false,
    };
    let what = || format!("this length or precision of {scalar}");
    if valid { Ok(()) } else { Err(WhereError::Unsupported { what: what(), position: at }) }
}

/// `date '2024-01-01'`, if that is what follows.
fn typed_literal(tokens: &mut Tokens) -> Result<Option<Ast>, WhereError> {
    let at = tokens.place();
    // Few operands are followed by a text: look for that before names are looked up.
    let is_word = |ahead: &usize| matches!(tokens.peek_at(*ahead), Some(Token::Word(_)));
    let before = (0..=TYPE_WORDS_MAX).take_while(is_word).count();
    let Some(Token::SingleQuotedString(text)) = tokens.peek_at(before).cloned() else {
        return Ok(None);
    };
    let Some((scalar, words)) = named_type(tokens) else { return Ok(None) };
    if words != before {
        return Ok(None);
    }
    (0..=words).for_each(|_| tokens.advance());
    let name = TypeName { scalar, array: false, modifiers: Vec::new() };
    Ok(Some(Ast::leaf(Kind::Typed(name, text), at)))
}
