//! Equality: a column compared with a constant, which is what most clauses are made of. There are one
//! or two a shape, so its size matters more than its looks.

use super::key::Key;
use std::cmp::Ordering;

/// `column = constant`. The column, an index in the relation, stands in each kind because there it
/// takes no place of its own.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Equality {
    Bool(u32, bool),
    Int(u32, i64),
    Uuid(u32, Box<[u8; 16]>),
    Text(u32, Box<Box<[u8]>>),
}

const _: () = assert!(size_of::<Equality>() <= 16, "there are some of it a shape");

impl Equality {
    pub(crate) fn new(column: u32, key: Key<'_>) -> Equality {
        match key {
            Key::Bool(value) => Equality::Bool(column, value),
            Key::Int(value) => Equality::Int(column, value),
            Key::Uuid(value) => Equality::Uuid(column, Box::new(value)),
            Key::Text(value) => Equality::Text(column, Box::new(value.into())),
        }
    }

    /// The column's index in the relation.
    pub(crate) fn column(&self) -> usize {
        let (Equality::Bool(column, _)
        | Equality::Int(column, _)
        | Equality::Uuid(column, _)
        | Equality::Text(column, _)) = self;
        *column as usize
    }

    pub(crate) fn key(&self) -> Key<'_> {
        match self {
            Equality::Bool(_, value) => Key::Bool(*value),
            Equality::Int(_, value) => Key::Int(*value),
            Equality::Uuid(_, value) => Key::Uuid(**value),
            Equality::Text(_, value) => Key::Text(value),
        }
    }
}

impl PartialOrd for Equality {
    fn partial_cmp(&self, other: &Equality) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// By column, whatever the kinds.
impl Ord for Equality {
    fn cmp(&self, other: &Equality) -> Ordering {
        (self.column(), self.key()).cmp(&(other.column(), other.key()))
    }
}
