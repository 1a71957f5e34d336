//! Check: names become columns, constants become values, operators find their types, by Postgres's
//! rules for implicit casts. A tree of syntax comes in, a typed expression goes out; whatever the
//! language does not have is refused with its place.

mod coerce;
mod conditions;
mod functions;
mod operators;
mod strings;

use super::error::{Position, WhereError};
use super::eval::{RowView, eval};
use super::expr::{Cast, E, Expr};
use super::syntax::{Ast, Kind, Name, Places, TypeName};
use super::types::{Scalar, Type};
use super::value::{Datum, InputError, Num, input};
use crate::words::Relation;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The most evaluations that one row may cost, counted in nodes. Some forms evaluate an operand
/// several times, so a tree may cost more than its size.
const WEIGHT_MAX: usize = 100_000;

/// An expression with its type.
#[derive(Clone, Debug)]
struct Typed {
    expr: E,
    of: Type,
    at: Position,
    weight: usize,
}

/// An operand: quoted constants and NULL take the type that their neighbours ask for.
#[derive(Clone, Debug)]
enum Operand {
    Unknown(Option<String>, Position),
    Typed(Typed),
}

impl Operand {
    /// Its type, if it has one by itself.
    fn of(&self) -> Option<Type> {
        match self {
            Operand::Unknown(..) => None,
            Operand::Typed(typed) => Some(typed.of),
        }
    }

    /// Its type in words.
    fn name(&self) -> String {
        self.of().map_or("unknown".into(), |of| of.to_string())
    }
}

type Result<T> = std::result::Result<T, WhereError>;

/// The condition that `ast` is, over the columns of `relation`; `places` says where in it there are
/// parameters.
pub(super) fn condition(relation: &Relation, ast: &Ast, places: &Places) -> Result<E> {
    let checker = Checker { relation, places, parameters: RefCell::default() };
    let condition = checker.operand(ast)?;
    Ok(checker.boolean(condition)?.expr)
}

struct Checker<'r> {
    relation: &'r Relation,
    places: &'r Places,
    /// The types of the parameters that were met so far.
    parameters: RefCell<BTreeMap<usize, Type>>,
}

fn no_operator<T>(operation: String, position: Position) -> Result<T> {
    Err(WhereError::NoOperator { operation, position })
}

fn unsupported<T>(what: impl Into<String>, position: Position) -> Result<T> {
    Err(WhereError::Unsupported { what: what.into(), position })
}

/// Builds a node, and evaluates it at once if it depends on no row.
fn node(expr: Expr, of: Type, at: Position, parts: &[&Typed]) -> Result<Typed> {
    let weight = 1 + parts.iter().map(|part| part.weight).sum::<usize>();
    if weight > WEIGHT_MAX {
        let what = "evaluations for one row";
        return Err(WhereError::TooComplex { what, count_max: WEIGHT_MAX, position: at });
    }
    // As in Postgres: what is NULL for a NULL is not evaluated where one is written.
    let null = |part: &&Typed| matches!(*part.expr, Expr::Const(None));
    if is_strict(&expr) && parts.iter().any(null) {
        return Ok(constant(None, of, at));
    }
    let constant = parts.iter().all(|part| matches!(*part.expr, Expr::Const(_)));
    if !constant {
        return Ok(Typed { expr: Arc::new(expr), of, at, weight });
    }
    let value = eval(&expr, &RowView::none()).map(|value| value.map(Datum::into_owned));
    let value = value
        .map_err(|error| WhereError::ConstantError { message: error.to_string(), position: at })?;
    Ok(Typed { expr: Arc::new(Expr::Const(value)), of, at, weight: 1 })
}

/// Whether a NULL among its operands makes the whole NULL.
fn is_strict(expr: &Expr) -> bool {
    matches!(
        expr,
        Expr::Compare(..)
            | Expr::Arith(..)
            | Expr::Negate(..)
            | Expr::Time(..)
            | Expr::NegateInterval(_)
            | Expr::Cast(..)
            | Expr::Concat(..)
            | Expr::Call(..)
            | Expr::ArrayTest(..)
            | Expr::LikeComputed { .. }
    )
}

fn constant(value: Option<Datum<'static>>, of: Type, at: Position) -> Typed {
    Typed { expr: Arc::new(Expr::Const(value)), of, at, weight: 1 }
}

/// A quoted text as a constant of type `of`.
fn read(text: &str, of: Type, at: Position) -> Result<Typed> {
    let invalid = || WhereError::InvalidConstant {
        type_name: of.to_string(),
        text: text.to_owned(),
        position: at,
    };
    match input(of, text.as_bytes()) {
        Ok(value) => Ok(constant(Some(value.into_owned()), of, at)),
        Err(InputError::Invalid | InputError::OutOfRange | InputError::Unread) => Err(invalid()),
    }
}

impl Checker<'_> {
    fn operand(&self, ast: &Ast) -> Result<Operand> {
        let at = ast.at;
        let typed = match &ast.kind {
            Kind::Null => return Ok(Operand::Unknown(None, at)),
            Kind::Text(text) => return Ok(Operand::Unknown(Some(text.clone()), at)),
            Kind::Column(name) => self.column(name, at),
            Kind::Bool(value) => Ok(constant(Some(Datum::Bool(*value)), Scalar::Bool.plain(), at)),
            Kind::Number(digits) => number(digits, at),
            Kind::Typed(name, text) => {
                self.cast(Operand::Unknown(Some(text.clone()), at), name, at)
            }
            Kind::Negate(arg) => self.negate(arg, at),
            Kind::Plus(arg) => self.plus(arg, at),
            Kind::Binary(op, left, right) => self.binary(*op, left, right, at),
            Kind::Case { operand, branches, otherwise } => {
                self.case(operand.as_deref(), branches, otherwise.as_deref(), at)
            }
            Kind::Call(name, args) => self.call(name, args, at),
            Kind::Cast(arg, name) => self.cast(self.operand(arg)?, name, at),
            Kind::Array(items) => self.array(items, at),
            Kind::Subscript(array, index) => self.subscript(array, index, at),
            Kind::Not(_)
            | Kind::And(_)
            | Kind::Or(_)
            | Kind::Quantified { .. }
            | Kind::Is { .. }
            | Kind::Distinct { .. }
            | Kind::Between { .. }
            | Kind::In { .. }
            | Kind::Like { .. } => self.condition_node(ast),
        };
        typed.map(Operand::Typed)
    }

    /// The constant `text` at `at`, which becomes a `to`. In Postgres a parameter has one type,
    /// which its first use decides; one that would need another elsewhere is refused here.
    fn settled(&self, text: Option<&str>, to: Type, at: Position) -> Result<Typed> {
        if let Some(number) = self.places.number(at) {
            // Beside a varchar, too, Postgres makes a text of it.
            let of = if to == Scalar::Varchar.plain() { Scalar::Text.plain() } else { to };
            let first = *self.parameters.borrow_mut().entry(number).or_insert(of);
            if first != of {
                let (type_name, first) = (of.to_string(), first.to_string());
                return Err(WhereError::ParameterTypes { number, type_name, first, position: at });
            }
        }
        text.map_or_else(|| Ok(constant(None, to, at)), |text| read(text, to, at))
    }

    /// `operand` as a condition.
    fn boolean(&self, operand: Operand) -> Result<Typed> {
        match operand {
            Operand::Typed(typed) if typed.of != Scalar::Bool.plain() => {
                Err(WhereError::NotBoolean { type_name: typed.of.to_string(), position: typed.at })
            }
            operand => self.coerced(operand, Scalar::Bool.plain()),
        }
    }

    /// The column that `name` means: alone, or after the table, or after schema and table.
    fn column(&self, name: &[Name], position: Position) -> Result<Typed> {
        let relation = self.relation;
        let (column, qualifier) = name.split_last().map_or(("", &[][..]), |(c, q)| (c.as_str(), q));
        let ours = [&*relation.table.schema, &*relation.table.name];
        let table = || relation.table.to_string();
        if qualifier.len() > ours.len()
            || !qualifier.iter().rev().eq(ours.iter().rev().take(qualifier.len()))
        {
            let qualifier = qualifier.join(".");
            return Err(WhereError::ForeignTable { qualifier, table: table(), position });
        }
        let index = relation.column_index(column).ok_or_else(|| WhereError::UnknownColumn {
            column: column.into(),
            table: table(),
            position,
        })?;
        let of = Type::of(&relation.columns[index]);
        let of = of.ok_or_else(|| WhereError::UnsupportedType {
            column: column.into(),
            type_oid: relation.columns[index].type_oid,
            position,
        })?;
        Ok(Typed { expr: Arc::new(Expr::Column(index, of)), of, at: position, weight: 1 })
    }

    /// An explicit cast.
    fn cast(&self, operand: Operand, name: &TypeName, at: Position) -> Result<Typed> {
        let to = Type { scalar: name.scalar, array: name.array };
        let limit = match name.modifiers[..] {
            [] => None,
            [size] => Some((size, 0)),
            [size, scale, ..] => Some((size, scale)),
        };
        let typed = match operand {
            Operand::Unknown(text, place) => {
                let typed = self.settled(text.as_deref(), to, place)?;
                if text.is_none() {
                    return Ok(typed);
                }
                typed
            }
            Operand::Typed(typed) => typed,
        };
        let of = typed.of;
        let (from, array) = (of.scalar, of.array);
        // A jsonb column is sent in the very form that its cast to text has.
        let json = match &*typed.expr {
            Expr::Column(index, _) if of == Scalar::Jsonb.plain() && to.scalar.is_string() => {
                Some(Typed {
                    expr: Arc::new(Expr::Column(*index, Scalar::Text.plain())),
                    ..typed.clone()
                })
            }
            _ => None,
        };
        if let Some(text) = json {
            return coerce::explicit(Typed { of: Scalar::Text.plain(), ..text }, to, limit, at);
        }
        if array != to.array || !super::eval::cast_exists(from, to.scalar) {
            return no_operator(format!("cast from {of} to {to}"), at);
        }
        coerce::explicit(typed, to, limit, at)
    }

    fn array(&self, items: &[Ast], at: Position) -> Result<Typed> {
        let items = items.iter().map(|item| self.operand(item)).collect::<Result<Vec<_>>>()?;
        if items.is_empty() {
            return unsupported("an ARRAY without elements (write '{}')", at);
        }
        let mixed = |scalar: Scalar| items.iter().any(|item| item.of() == Some(scalar.plain()));
        if mixed(Scalar::Text) && mixed(Scalar::Varchar) {
            return unsupported("an ARRAY of both text and character varying", at);
        }
        let (items, of) = self.unified(items, "ARRAY", at)?;
        if of.array {
            return unsupported("an array of arrays: write it as '{{…}}'", at);
        }
        let parts: Vec<&Typed> = items.iter().collect();
        let expr = Expr::Array(items.iter().map(|item| Arc::clone(&item.expr)).collect());
        node(expr, of.scalar.array(), at, &parts)
    }

    fn subscript(&self, array: &Ast, index: &Ast, at: Position) -> Result<Typed> {
        // `a[1][2]` is one access with two indexes, not one into the result of another.
        let (mut array, mut indexes) = (array, vec![index]);
        while let Kind::Subscript(inner, index) = &array.kind {
            indexes.push(index);
            array = inner;
        }
        let array = match self.operand(array)? {
            Operand::Typed(typed) if typed.of.array => typed,
            other => return no_operator(format!("subscript of {}", other.name()), at),
        };
        let int = Scalar::Int4.plain();
        let index = |ast: &&Ast| match self.operand(ast)? {
            Operand::Typed(typed) if typed.of == Scalar::Int8.plain() => {
                no_operator("subscript of type bigint".into(), typed.at)
            }
            operand => self.coerced(operand, int),
        };
        let indexes = indexes.iter().rev().map(index).collect::<Result<Vec<_>>>()?;
        let exprs = indexes.iter().map(|index| Arc::clone(&index.expr)).collect();
        let parts: Vec<&Typed> = indexes.iter().chain([&array]).collect();
        let expr = Expr::Subscript(Arc::clone(&array.expr), exprs);
        node(expr, array.of.scalar.plain(), at, &parts)
    }
}

/// A bare number: an integer of the smallest type of at least 32 bits that holds it, else numeric.
fn number(digits: &str, at: Position) -> Result<Typed> {
    if let Ok(value) = digits.parse::<i64>() {
        let scalar = if i32::try_from(value).is_ok() { Scalar::Int4 } else { Scalar::Int8 };
        return Ok(constant(Some(Datum::Int(value)), scalar.plain(), at));
    }
    let value = Num::parse(digits.as_bytes()).and_then(std::result::Result::ok);
    let value = value.ok_or_else(|| WhereError::InvalidConstant {
        type_name: Scalar::Numeric.to_string(),
        text: digits.to_owned(),
        position: at,
    })?;
    Ok(constant(Some(Datum::Num(value)), Scalar::Numeric.plain(), at))
}

/// A cast that changes the value, as a node.
fn cast_node(typed: &Typed, cast: Cast, of: Type, at: Position) -> Result<Typed> {
    node(Expr::Cast(cast, Arc::clone(&typed.expr)), of, at, &[typed])
}
