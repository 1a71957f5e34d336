//! The tree of a clause. A node's height is known and bounded, so that whoever walks the tree may
//! recurse, and dropping it needs no more stack than that.

use crate::predicate::error::{Position, WhereError};
use crate::predicate::types::Scalar;

/// The most levels of a tree. A chain of AND or of OR is one level.
pub(crate) const HEIGHT_MAX: usize = 100;

/// A node.
#[derive(Debug)]
pub(crate) struct Ast {
    pub(crate) kind: Kind,
    pub(crate) at: Position,
    height: usize,
}

/// A part of a column's name, folded as Postgres does.
pub(crate) type Name = String;

/// A type as a cast names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TypeName {
    pub(crate) scalar: Scalar,
    pub(crate) array: bool,
    /// What stands in brackets behind the name: length, or precision and scale.
    pub(crate) modifiers: Vec<u16>,
}

/// An operator between two operands, AND and OR left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum BinaryOp {
    Eq,
    NotEq,
    Less,
    LessEq,
    Greater,
    GreaterEq,
    Plus,
    Minus,
    Times,
    Divide,
    Modulo,
    Concat,
    Contains,
    Contained,
    Overlap,
    /// `~`, `~*`, `!~`, `!~*`.
    Match {
        ignore_case: bool,
        negated: bool,
    },
}

/// Which of its forms a LIKE has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LikeKind {
    pub(crate) ignore_case: bool,
    pub(crate) negated: bool,
}

/// What IS asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Test {
    Null,
    True,
    False,
    Unknown,
}

/// What a node is.
#[derive(Debug)]
pub(crate) enum Kind {
    Column(Vec<Name>),
    Null,
    Bool(bool),
    /// As it was written.
    Number(String),
    Text(String),
    /// `date '2024-01-01'`.
    Typed(TypeName, String),
    Not(Box<Ast>),
    Negate(Box<Ast>),
    Plus(Box<Ast>),
    And(Vec<Ast>),
    Or(Vec<Ast>),
    Binary(BinaryOp, Box<Ast>, Box<Ast>),
    /// `left op ANY (right)`, or ALL.
    Quantified {
        op: BinaryOp,
        all: bool,
        left: Box<Ast>,
        right: Box<Ast>,
    },
    Is {
        arg: Box<Ast>,
        test: Test,
        negated: bool,
    },
    Distinct {
        left: Box<Ast>,
        right: Box<Ast>,
        negated: bool,
    },
    Between {
        arg: Box<Ast>,
        low: Box<Ast>,
        high: Box<Ast>,
        negated: bool,
        symmetric: bool,
    },
    In {
        arg: Box<Ast>,
        items: Vec<Ast>,
        negated: bool,
    },
    Like {
        arg: Box<Ast>,
        pattern: Box<Ast>,
        escape: Option<Box<Ast>>,
        kind: LikeKind,
    },
    Case {
        operand: Option<Box<Ast>>,
        branches: Vec<(Ast, Ast)>,
        otherwise: Option<Box<Ast>>,
    },
    /// A function by its lower-case name; the special forms of COALESCE and so on too.
    Call(String, Vec<Ast>),
    Cast(Box<Ast>, TypeName),
    Array(Vec<Ast>),
    Subscript(Box<Ast>, Box<Ast>),
}

impl Ast {
    /// A node at `at` whose children are as high as `below` says.
    pub(crate) fn new(kind: Kind, at: Position, below: usize) -> Result<Ast, WhereError> {
        let height = below + 1;
        if height > HEIGHT_MAX {
            let (what, count_max) = ("levels of nesting", HEIGHT_MAX);
            return Err(WhereError::TooComplex { what, count_max, position: at });
        }
        Ok(Ast { kind, at, height })
    }

    /// A node without children.
    pub(crate) fn leaf(kind: Kind, at: Position) -> Ast {
        Ast { kind, at, height: 1 }
    }

    pub(crate) fn height(&self) -> usize {
        self.height
    }

    /// The parts of nested ORs, in the order of the text; a node that is none is its only one.
    pub(crate) fn alternatives(&self) -> Vec<&Ast> {
        let (mut parts, mut stack) = (Vec::new(), vec![self]);
        while let Some(next) = stack.pop() {
            match &next.kind {
                Kind::Or(items) => stack.extend(items.iter().rev()),
                _ => parts.push(next),
            }
        }
        parts
    }
}

/// The height of the highest of `nodes`.
pub(super) fn highest<'a>(nodes: impl IntoIterator<Item = &'a Ast>) -> usize {
    nodes.into_iter().map(Ast::height).max().unwrap_or(0)
}
