//! LIKE and ILIKE. `_` is a character of UTF-8; case is that of ASCII letters only.

use super::text::char_len;

/// A pattern, taken apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct LikePattern {
    parts: Box<[Part]>,
    ignore_case: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Part {
    /// Lower-case where case is ignored.
    Text(Box<[u8]>),
    /// `_`
    One,
    /// `%`
    Any,
}

impl LikePattern {
    /// Takes `pattern` apart; `None` if it ends with its escape character.
    pub(crate) fn new(
        pattern: &[u8],
        escape: Option<char>,
        ignore_case: bool,
    ) -> Option<LikePattern> {
        let mut utf8 = [0; 4];
        let escape = escape.map(|character| character.encode_utf8(&mut utf8).as_bytes().to_vec());
        let mut parts = Vec::new();
        let mut text = Vec::new();
        let mut rest = pattern;
        let flush = |text: &mut Vec<u8>, parts: &mut Vec<Part>| {
            if !text.is_empty() {
                if ignore_case {
                    text.make_ascii_lowercase();
                }
                parts.push(Part::Text(std::mem::take(text).into()));
            }
        };
        while !rest.is_empty() {
            let (character, after) = rest.split_at(char_len(rest));
            rest = after;
            if escape.as_deref() == Some(character) {
                if rest.is_empty() {
                    return None;
                }
                let (literal, after) = rest.split_at(char_len(rest));
                text.extend(literal);
                rest = after;
            } else if character == b"%" {
                flush(&mut text, &mut parts);
                if parts.last() != Some(&Part::Any) {
                    parts.push(Part::Any);
                }
            } else if character == b"_" {
                flush(&mut text, &mut parts);
                parts.push(Part::One);
            } else {
                text.extend(character);
            }
        }
        flush(&mut text, &mut parts);
        Some(LikePattern { parts: parts.into(), ignore_case })
    }

    /// Whether case is ignored.
    pub(crate) fn ignores_case(&self) -> bool {
        self.ignore_case
    }

    /// What a matching text begins with, lower-case where case is ignored, and what may follow.
    pub(crate) fn prefix(&self) -> (&[u8], Rest) {
        match &*self.parts {
            [] => (&[], Rest::Nothing),
            [Part::Text(text)] => (text, Rest::Nothing),
            [Part::Text(text), Part::Any] => (text, Rest::Anything),
            [Part::Text(text), ..] => (text, Rest::Something),
            [Part::Any] => (&[], Rest::Anything),
            _ => (&[], Rest::Something),
        }
    }

    /// Whether `text` matches. Never worse than the product of both lengths: only the last `%` is
    /// gone back to.
    pub(crate) fn matches(&self, text: &[u8]) -> bool {
        let (mut part, mut place) = (0, 0);
        // Where to go on when something does not match: behind the last `%`, one character later.
        let mut retry: Option<(usize, usize)> = None;
        loop {
            let step = match self.parts.get(part) {
                None if place == text.len() => return true,
                None => None,
                Some(Part::Any) => {
                    if part + 1 == self.parts.len() {
                        return true;
                    }
                    retry = Some((part + 1, place));
                    Some(0)
                }
                Some(Part::One) => (place < text.len()).then(|| char_len(&text[place..])),
                Some(Part::Text(literal)) => self.literal(literal, &text[place..]),
            };
            match (step, retry) {
                (Some(step), _) => {
                    place += step;
                    part += 1;
                }
                (None, Some((after, from))) if from < text.len() => {
                    let from = from + char_len(&text[from..]);
                    retry = Some((after, from));
                    (part, place) = (after, from);
                }
                (None, _) => return false,
            }
        }
    }

    fn literal(&self, literal: &[u8], text: &[u8]) -> Option<usize> {
        let front = text.get(..literal.len())?;
        let same = match self.ignore_case {
            true => front.iter().zip(literal).all(|(a, b)| a.to_ascii_lowercase() == *b),
            false => front == literal,
        };
        same.then_some(literal.len())
    }
}

/// What may stand behind a pattern's prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rest {
    Nothing,
    Anything,
    /// Some texts only.
    Something,
}
