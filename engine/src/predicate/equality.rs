//! Equality: a column compared with a constant, which is what most clauses are made of. There are
//! one or two a shape, so its size matters more than its looks.

use super::key::Key;
use std::cmp::Ordering;

/// `column = constant`. The column, an index in the relation, stands in each kind because there it
/// takes no place of its own. Made by [`Equality::new`] alone, so that equal ones are alike.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Equality {
    Bool(u32, bool),
    Int(u32, i64),
    Uuid(u32, Box<[u8; 16]>),
    /// A text of so many of these bytes; the others are 0.
    Short(u32, u8, [u8; SHORT_MAX]),
    /// A longer one.
    Text(u32, Box<Box<[u8]>>),
}

/// Texts up to so many bytes lie in place, as most that name a kind or a state do.
const SHORT_MAX: usize = 8;

const _: () = assert!(size_of::<Equality>() <= 16, "there are some of it a shape");

impl Equality {
    pub(crate) fn new(column: u32, key: Key<'_>) -> Equality {
        match key {
            Key::Bool(value) => Equality::Bool(column, value),
            Key::Int(value) => Equality::Int(column, value),
            Key::Uuid(value) => Equality::Uuid(column, Box::new(value)),
            Key::Text(value) if value.len() <= SHORT_MAX => {
                let mut bytes = [0; SHORT_MAX];
                bytes[..value.len()].copy_from_slice(value);
                Equality::Short(column, value.len() as u8, bytes)
            }
            Key::Text(value) => Equality::Text(column, Box::new(value.into())),
        }
    }

    /// The column's index in the relation.
    pub(crate) fn column(&self) -> usize {
        let (Equality::Bool(column, _)
        | Equality::Int(column, _)
        | Equality::Uuid(column, _)
        | Equality::Short(column, ..)
        | Equality::Text(column, _)) = self;
        *column as usize
    }

    pub(crate) fn key(&self) -> Key<'_> {
        match self {
            Equality::Bool(_, value) => Key::Bool(*value),
            Equality::Int(_, value) => Key::Int(*value),
            Equality::Uuid(_, value) => Key::Uuid(**value),
            Equality::Short(_, length, bytes) => Key::Text(&bytes[..usize::from(*length)]),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_and_a_key_come_out_as_they_went_in_and_sort_by_column_first() {
        let texts = ["", "hot", "\0", "hot\0", "eight888", "nine99999", "hot and cold"];
        let texts = texts.map(|text| Key::Text(text.as_bytes()));
        let others = [Key::Bool(true), Key::Int(i64::MIN), Key::Uuid([7; 16])];
        let mut all = Vec::new();
        for column in [u32::MAX, 0, 1_599] {
            for key in texts.into_iter().chain(others) {
                let term = Equality::new(column, key);
                assert_eq!((term.column(), term.key()), (column as usize, key));
                assert_eq!(term, Equality::new(column, key));
                all.push((column as usize, key, term));
            }
        }
        let mut by_terms = all.clone();
        by_terms.sort_by(|(.., a), (.., b)| a.cmp(b));
        all.sort_by_key(|(column, key, _)| (*column, *key));
        assert_eq!(by_terms, all);
        by_terms.dedup_by(|(.., a), (.., b)| a == b);
        assert_eq!(by_terms.len(), 30);
    }
}
