//! Keys: the canonical form in which a constant of a clause and a row's value are compared. Text
//! that Postgres holds equal becomes equal keys. Which column and which shape they belong to is
//! for others to know.

use super::types::{Scalar, Type};

/// What a key is made of. Types that Postgres compares by promotion share one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum KeyKind {
    Bool,
    Int,
    Uuid,
    Text,
}

impl KeyKind {
    /// The kind of key that values of type `of` become, if they do.
    pub(crate) fn of(of: Type) -> Option<KeyKind> {
        match (of.array, of.scalar) {
            (false, Scalar::Bool) => Some(KeyKind::Bool),
            (false, Scalar::Int2 | Scalar::Int4 | Scalar::Int8) => Some(KeyKind::Int),
            (false, Scalar::Text | Scalar::Varchar) => Some(KeyKind::Text),
            (false, Scalar::Uuid) => Some(KeyKind::Uuid),
            _ => None,
        }
    }

    /// The widest type whose values become such keys.
    pub(crate) fn widest(self) -> Type {
        match self {
            KeyKind::Bool => Scalar::Bool,
            KeyKind::Int => Scalar::Int8,
            KeyKind::Uuid => Scalar::Uuid,
            KeyKind::Text => Scalar::Text,
        }
        .plain()
    }
}

/// A constant of a clause, or a row's value. It borrows from either, so that a change allocates
/// nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Key<'a> {
    Bool(bool),
    Int(i64),
    Uuid([u8; 16]),
    Text(&'a [u8]),
}

impl<'a> Key<'a> {
    /// Reads what Postgres sends as a value's text. `None` if it is no value of that kind.
    pub(crate) fn decode(kind: KeyKind, text: &'a [u8]) -> Option<Key<'a>> {
        match kind {
            KeyKind::Bool => match text {
                b"t" | b"true" => Some(Key::Bool(true)),
                b"f" | b"false" => Some(Key::Bool(false)),
                _ => None,
            },
            KeyKind::Int => parse_int(text).map(Key::Int),
            KeyKind::Uuid => parse_uuid(text).map(Key::Uuid),
            KeyKind::Text => Some(Key::Text(text)),
        }
    }

    pub(crate) fn kind(self) -> KeyKind {
        match self {
            Key::Bool(_) => KeyKind::Bool,
            Key::Int(_) => KeyKind::Int,
            Key::Uuid(_) => KeyKind::Uuid,
            Key::Text(_) => KeyKind::Text,
        }
    }
}

/// Decimal digits with an optional sign, in the range of `i64`.
pub(super) fn parse_int(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if digits.is_empty() {
        return None;
    }
    // Downwards, because the lowest value has no positive counterpart.
    let mut value: i64 = 0;
    for byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value.checked_mul(10)?.checked_sub(i64::from(digit))?;
    }
    if negative { Some(value) } else { value.checked_neg() }
}

/// Postgres's `uuid_in`: 32 hexadecimal digits, a hyphen allowed after every fourth, braces
/// allowed around.
pub(super) fn parse_uuid(text: &[u8]) -> Option<[u8; 16]> {
    let mut rest = match text {
        [b'{', inner @ .., b'}'] => inner,
        plain => plain,
    };
    let mut uuid = [0; 16];
    for (index, byte) in uuid.iter_mut().enumerate() {
        let [high, low, after @ ..] = rest else { return None };
        *byte = hex_digit(*high)? << 4 | hex_digit(*low)?;
        rest = match after {
            [b'-', after @ ..] if index % 2 == 1 && index < 15 => after,
            after => after,
        };
    }
    rest.is_empty().then_some(uuid)
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).map(|digit| digit as u8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn integers_are_read_over_their_whole_range_and_nothing_else_is() {
        for value in [0, 1, -1, 42, i64::MAX, i64::MIN] {
            assert_eq!(parse_int(value.to_string().as_bytes()), Some(value));
        }
        for text in ["", "-", "+", "--1", "1 ", "1.0", "9223372036854775808", "1e3", "\u{661}"] {
            assert_eq!(parse_int(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn a_uuid_has_the_forms_that_postgres_reads() {
        let uuid = Some(*b"\xa0\xee\xbc\x99\x9c\x0b\x4e\xf8\xbb\x6d\x6b\xb9\xbd\x38\x0a\x11");
        for text in [
            "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
            "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11",
            "{a0eebc99-9c0b4ef8-bb6d6bb9-bd380a11}",
            "a0eebc999c0b4ef8bb6d6bb9bd380a11",
            "a0ee-bc99-9c0b-4ef8-bb6d-6bb9-bd38-0a11",
        ] {
            assert_eq!(parse_uuid(text.as_bytes()), uuid, "{text}");
        }
        for text in [
            "",
            "{a0eebc999c0b4ef8bb6d6bb9bd380a11",
            "a0eebc999c0b4ef8bb6d6bb9bd380a1",
            "a0eebc999c0b4ef8bb6d6bb9bd380a11-",
            "a0-eebc999c0b4ef8bb6d6bb9bd380a11",
            "a0eebc999c0b4ef8bb6d6bb9bd380a1g",
        ] {
            assert_eq!(parse_uuid(text.as_bytes()), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_decoding_panic(bytes: Vec<u8>) {
            for kind in [KeyKind::Bool, KeyKind::Int, KeyKind::Uuid, KeyKind::Text] {
                let key = Key::decode(kind, &bytes);
                prop_assert!(key.is_none_or(|key| key.kind() == kind));
            }
        }
    }
}
