//! Arrays: their text form, and their order. Elements are values of one type, or NULL.

use super::{Datum, InputError, input};
use crate::predicate::types::Scalar;
use smallvec::SmallVec;
use std::cmp::Ordering;

/// The most elements of an array that clauses look at. Postgres's own bound is higher; an array
/// beyond this one is an evaluation error of the shapes that read it.
pub(crate) const ITEMS_MAX: usize = 1 << 20;
/// Postgres's bound of dimensions.
const DIMENSIONS_MAX: usize = 6;

/// An array; empty ones have no dimension.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Array {
    /// In row-major order.
    pub(crate) items: Box<[Option<Datum<'static>>]>,
    /// Length and lower bound of each dimension.
    pub(crate) dimensions: SmallVec<[(i32, i32); 1]>,
}

impl Array {
    /// A one-dimensional array that counts from 1.
    pub(crate) fn of(items: Vec<Option<Datum<'static>>>) -> Array {
        let mut dimensions = SmallVec::new();
        if !items.is_empty() {
            dimensions.push((items.len() as i32, 1));
        }
        Array { items: items.into(), dimensions }
    }

    /// The element at `indexes`, one a dimension; `None` outside and for NULL.
    pub(crate) fn get(&self, indexes: &[i64]) -> Option<&Datum<'static>> {
        if indexes.len() != self.dimensions.len() || indexes.is_empty() {
            return None;
        }
        let mut place = 0_i64;
        for (index, (length, lower)) in indexes.iter().zip(&self.dimensions) {
            let inside = index.checked_sub(i64::from(*lower))?;
            if !(0..i64::from(*length)).contains(&inside) {
                return None;
            }
            place = place * i64::from(*length) + inside;
        }
        self.items.get(usize::try_from(place).ok()?)?.as_ref()
    }

    /// Whether each element of `other` that is not NULL is here; one that is NULL is nowhere.
    pub(crate) fn contains(&self, other: &Array) -> bool {
        other.items.iter().all(|item| item.is_some() && self.items.contains(item))
    }

    /// Whether some element that is not NULL is in both.
    pub(crate) fn overlaps(&self, other: &Array) -> bool {
        self.items.iter().any(|item| item.is_some() && other.items.contains(item))
    }

    /// Reads Postgres's text form.
    pub(super) fn parse(scalar: Scalar, text: &[u8]) -> Result<Array, InputError> {
        let mut parser =
            Parser { scalar, text, place: 0, items: Vec::new(), lengths: SmallVec::new() };
        parser.blanks();
        let bounds = parser.bounds()?;
        parser.list(0)?;
        parser.blanks();
        if parser.place != text.len() {
            return Err(InputError::Invalid);
        }
        let Parser { items, lengths, .. } = parser;
        if items.is_empty() {
            return Ok(Array::of(items));
        }
        let mut dimensions: SmallVec<[(i32, i32); 1]> = SmallVec::new();
        for (index, length) in lengths.iter().enumerate() {
            let length = i32::try_from(length.unwrap_or(0)).map_err(|_| InputError::Invalid)?;
            let lower = match &bounds {
                None => 1,
                Some(bounds) => match bounds.get(index) {
                    Some((lower, declared)) if *declared == length => *lower,
                    _ => return Err(InputError::Invalid),
                },
            };
            dimensions.push((length, lower));
        }
        if bounds.is_some_and(|bounds| bounds.len() != dimensions.len()) {
            return Err(InputError::Invalid);
        }
        Ok(Array { items: items.into(), dimensions })
    }
}

impl PartialOrd for Array {
    fn partial_cmp(&self, other: &Array) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Array {
    /// Element by element, NULL being greatest; then the number of elements; then dimensions.
    fn cmp(&self, other: &Array) -> Ordering {
        for (a, b) in self.items.iter().zip(&other.items) {
            let order = match (a, b) {
                (Some(a), Some(b)) => a.cmp(b),
                (a, b) => a.is_none().cmp(&b.is_none()),
            };
            if order != Ordering::Equal {
                return order;
            }
        }
        let lengths = |array: &Array| array.dimensions.iter().map(|d| d.0).collect::<Vec<_>>();
        let lowers = |array: &Array| array.dimensions.iter().map(|d| d.1).collect::<Vec<_>>();
        self.items
            .len()
            .cmp(&other.items.len())
            .then_with(|| self.dimensions.len().cmp(&other.dimensions.len()))
            .then_with(|| lengths(self).cmp(&lengths(other)))
            .then_with(|| lowers(self).cmp(&lowers(other)))
    }
}

struct Parser<'a> {
    scalar: Scalar,
    text: &'a [u8],
    place: usize,
    items: Vec<Option<Datum<'static>>>,
    /// The length of each dimension, as the first list of it showed.
    lengths: SmallVec<[Option<usize>; 2]>,
}

impl Parser<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.place).copied()
    }

    fn blanks(&mut self) {
        while self.peek().is_some_and(|byte| matches!(byte, b' ' | b'\t'..=b'\r')) {
            self.place += 1;
        }
    }

    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.place += usize::from(found);
        found
    }

    /// `[2:3][1:2]=` in front: lower bound and length of each dimension.
    fn bounds(&mut self) -> Result<Option<Vec<(i32, i32)>>, InputError> {
        let mut bounds = Vec::new();
        while self.take(b'[') {
            let rest = &self.text[self.place..];
            let end = rest.iter().position(|byte| *byte == b']').ok_or(InputError::Invalid)?;
            let text = std::str::from_utf8(&rest[..end]).map_err(|_| InputError::Invalid)?;
            let (lower, upper) = text.split_once(':').ok_or(InputError::Unread)?;
            let bound = |text: &str| text.parse::<i32>().map_err(|_| InputError::Invalid);
            let (lower, upper) = (bound(lower)?, bound(upper)?);
            let length = upper.checked_sub(lower).and_then(|length| length.checked_add(1));
            bounds.push((lower, length.ok_or(InputError::Invalid)?));
            self.place += end + 1;
        }
        if bounds.is_empty() {
            return Ok(None);
        }
        if self.take(b'=') { Ok(Some(bounds)) } else { Err(InputError::Invalid) }
    }

    /// `{…}`; nested at most as deep as arrays may be.
    fn list(&mut self, level: usize) -> Result<(), InputError> {
        if level >= DIMENSIONS_MAX || !self.take(b'{') {
            return Err(InputError::Invalid);
        }
        if self.lengths.len() == level {
            self.lengths.push(None);
        }
        self.blanks();
        let mut count = 0;
        if !(level == 0 && self.take(b'}')) {
            loop {
                self.blanks();
                if self.peek() == Some(b'{') {
                    self.list(level + 1)?;
                } else if self.lengths.len() > level + 1 {
                    return Err(InputError::Invalid);
                } else {
                    let item = self.item()?;
                    self.items.push(item);
                    if self.items.len() > ITEMS_MAX {
                        return Err(InputError::Unread);
                    }
                }
                count += 1;
                self.blanks();
                if self.take(b'}') {
                    break;
                }
                if !self.take(b',') {
                    return Err(InputError::Invalid);
                }
            }
        }
        // Items beside lists, and lists of different lengths, make no rectangle.
        let deepest = self.lengths.len() - 1;
        let known = *self.lengths[level].get_or_insert(count);
        if known != count || (level < deepest && count == 0) {
            return Err(InputError::Invalid);
        }
        let expected: usize =
            self.lengths[level..].iter().map(|length| length.unwrap_or(0)).product();
        if level == 0 && self.items.len() != expected {
            return Err(InputError::Invalid);
        }
        Ok(())
    }

    fn item(&mut self) -> Result<Option<Datum<'static>>, InputError> {
        let mut bytes = Vec::new();
        let quoted = self.take(b'"');
        // What was escaped is neither blank at the end nor NULL.
        let mut kept = 0;
        loop {
            match self.peek().ok_or(InputError::Invalid)? {
                b'"' if quoted => {
                    self.place += 1;
                    break;
                }
                b'\\' => {
                    self.place += 1;
                    bytes.push(self.peek().ok_or(InputError::Invalid)?);
                    kept = bytes.len();
                }
                b'"' | b'{' if !quoted => return Err(InputError::Invalid),
                b',' | b'}' if !quoted => break,
                byte => bytes.push(byte),
            }
            self.place += 1;
        }
        if !quoted {
            while bytes.len() > kept
                && bytes.last().is_some_and(|b| matches!(b, b' ' | b'\t'..=b'\r'))
            {
                bytes.pop();
            }
            if bytes.is_empty() {
                return Err(InputError::Invalid);
            }
            if kept == 0 && bytes.eq_ignore_ascii_case(b"null") {
                return Ok(None);
            }
        }
        input(self.scalar.plain(), &bytes).map(|datum| Some(datum.into_owned()))
    }
}
