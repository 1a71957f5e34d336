//! Print: a tree as text again, one spelling for all that the tree does not tell apart: blanks,
//! brackets, the case of words, quotes around names, which table a column is said to be of, `!=`
//! and `::`. The text means what the tree means.

use super::tree::{Ast, BinaryOp, Kind, LikeKind, Test, TypeName};
use crate::predicate::types::Scalar;
use std::fmt::{self, Display, Formatter, Write};

/// `tree` as text.
pub(crate) fn text(tree: &Ast) -> String {
    Printed(tree).to_string()
}

/// `name` in double quotes, as Postgres takes it.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

struct Printed<'a>(&'a Ast);

fn p(tree: &Ast) -> Printed<'_> {
    Printed(tree)
}

/// Several, with something between.
struct Joined<'a>(Vec<&'a Ast>, &'static str);

impl Display for Joined<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.0.iter().enumerate().try_for_each(|(index, tree)| {
            let between = if index == 0 { "" } else { self.1 };
            write!(f, "{between}{}", p(tree))
        })
    }
}

fn list(trees: &[Ast]) -> Joined<'_> {
    Joined(trees.iter().collect(), ", ")
}

/// The parts of an AND in an AND, and of an OR in an OR.
fn chain<'a>(tree: &'a Ast, word: &'static str) -> Joined<'a> {
    let (mut parts, mut stack) = (Vec::new(), vec![tree]);
    while let Some(next) = stack.pop() {
        match (&next.kind, word) {
            (Kind::And(inner), " and ") | (Kind::Or(inner), " or ") => {
                stack.extend(inner.iter().rev());
            }
            _ => parts.push(next),
        }
    }
    Joined(parts, word)
}

fn not(negated: bool) -> &'static str {
    if negated { "not " } else { "" }
}

impl Display for Printed<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.0.kind {
            Kind::Column(parts) => f.write_str(&quoted(parts.last().map_or("", String::as_str))),
            Kind::Null => f.write_str("null"),
            Kind::Bool(value) => write!(f, "{value}"),
            Kind::Number(digits) => f.write_str(&digits.to_ascii_lowercase()),
            Kind::Text(text) => literal(f, text),
            Kind::Typed(name, text) => {
                f.write_str("cast(")?;
                literal(f, text)?;
                write!(f, " as {})", Named(name))
            }
            Kind::Cast(arg, name) => write!(f, "cast({} as {})", p(arg), Named(name)),
            Kind::Not(arg) => write!(f, "(not {})", p(arg)),
            Kind::Negate(arg) => write!(f, "(- {})", p(arg)),
            Kind::Plus(arg) => write!(f, "(+ {})", p(arg)),
            Kind::And(_) => write!(f, "({})", chain(self.0, " and ")),
            Kind::Or(_) => write!(f, "({})", chain(self.0, " or ")),
            Kind::Binary(op, left, right) => {
                write!(f, "({} {} {})", p(left), operator(*op), p(right))
            }
            Kind::Quantified { op, all, left, right } => {
                let word = if *all { "all" } else { "any" };
                write!(f, "({} {} {word} ({}))", p(left), operator(*op), p(right))
            }
            Kind::Is { arg, test, negated } => {
                write!(f, "({} is {}{})", p(arg), not(*negated), tested(*test))
            }
            Kind::Distinct { left, right, negated } => {
                write!(f, "({} is {}distinct from {})", p(left), not(*negated), p(right))
            }
            Kind::Between { arg, low, high, negated, symmetric } => {
                let word = if *symmetric { "symmetric " } else { "" };
                write!(f, "({} {}between {word}", p(arg), not(*negated))?;
                write!(f, "{} and {})", p(low), p(high))
            }
            Kind::In { arg, items, negated } => {
                write!(f, "({} {}in ({}))", p(arg), not(*negated), list(items))
            }
            Kind::Like { arg, pattern, escape, kind: LikeKind { ignore_case, negated } } => {
                let word = if *ignore_case { "ilike" } else { "like" };
                write!(f, "({} {}{word} {}", p(arg), not(*negated), p(pattern))?;
                escape.iter().try_for_each(|escape| write!(f, " escape {}", p(escape)))?;
                f.write_char(')')
            }
            Kind::Case { operand, branches, otherwise } => {
                f.write_str("case")?;
                operand.iter().try_for_each(|operand| write!(f, " {}", p(operand)))?;
                for (when, then) in branches {
                    write!(f, " when {} then {}", p(when), p(then))?;
                }
                otherwise.iter().try_for_each(|value| write!(f, " else {}", p(value)))?;
                f.write_str(" end")
            }
            Kind::Call(name, args) => write!(f, "{name}({})", list(args)),
            Kind::Array(items) => write!(f, "array[{}]", list(items)),
            Kind::Subscript(array, index) => write!(f, "{}[{}]", p(array), p(index)),
        }
    }
}

/// In plain quotes a backslash is a backslash.
fn literal(f: &mut Formatter<'_>, text: &str) -> fmt::Result {
    write!(f, "'{}'", text.replace('\'', "''"))
}

fn operator(op: BinaryOp) -> &'static str {
    match op {
        BinaryOp::Eq => "=",
        BinaryOp::NotEq => "<>",
        BinaryOp::Less => "<",
        BinaryOp::LessEq => "<=",
        BinaryOp::Greater => ">",
        BinaryOp::GreaterEq => ">=",
        BinaryOp::Plus => "+",
        BinaryOp::Minus => "-",
        BinaryOp::Times => "*",
        BinaryOp::Divide => "/",
        BinaryOp::Modulo => "%",
        BinaryOp::Concat => "||",
        BinaryOp::Contains => "@>",
        BinaryOp::Contained => "<@",
        BinaryOp::Overlap => "&&",
        BinaryOp::Match { ignore_case: false, negated: false } => "~",
        BinaryOp::Match { ignore_case: true, negated: false } => "~*",
        BinaryOp::Match { ignore_case: false, negated: true } => "!~",
        BinaryOp::Match { ignore_case: true, negated: true } => "!~*",
    }
}

fn tested(test: Test) -> &'static str {
    match test {
        Test::Null => "null",
        Test::True => "true",
        Test::False => "false",
        Test::Unknown => "unknown",
    }
}

struct Named<'a>(&'a TypeName);

impl Display for Named<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let TypeName { scalar, array, modifiers } = self.0;
        match (scalar, modifiers[..].len()) {
            // Under its other names it has a length, and if that is 1 it need not be said.
            (Scalar::Bpchar, 0) => f.write_str("bpchar")?,
            _ => write!(f, "{scalar}")?,
        }
        match modifiers[..] {
            [] => {}
            [size] => write!(f, "({size})")?,
            [size, scale, ..] => write!(f, "({size}, {scale})")?,
        }
        f.write_str(if *array { "[]" } else { "" })
    }
}
