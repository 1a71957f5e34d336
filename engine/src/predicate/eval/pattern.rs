//! Regular expressions: those of Postgres's that the `regex` crate reads the same way. The two
//! differ in back references, look-around, character classes by name, word boundaries, options in
//! the pattern, and in what an odd brace or bracket means: such patterns are refused. Whether a
//! text matches does not depend on greediness. Case is that of ASCII letters only.

use regex::{Regex, RegexBuilder};
use std::cmp::Ordering;
use std::hash::{Hash, Hasher};

/// A compiled pattern's most bytes of memory.
const COMPILED_BYTES_MAX: usize = 1 << 20;
/// How deep brackets may stand in one another.
const NESTING_MAX: u32 = 50;
/// Postgres's bound of `{m,n}`.
const REPEAT_MAX: u32 = 255;

/// A compiled pattern; two are equal if their texts are.
#[derive(Clone, Debug)]
pub(crate) struct Pattern {
    regex: Regex,
    text: Box<str>,
}

/// Why a pattern is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PatternError(pub(crate) &'static str);

impl Pattern {
    /// Compiles `pattern`.
    pub(crate) fn new(pattern: &str, ignore_case: bool) -> Result<Pattern, PatternError> {
        let text =
            Translator { rest: pattern.chars().collect(), place: 0, ignore_case }.pattern()?;
        let regex = RegexBuilder::new(&text)
            .dot_matches_new_line(true)
            .size_limit(COMPILED_BYTES_MAX)
            .nest_limit(NESTING_MAX)
            .build()
            .map_err(|_| PatternError("a regular expression that is invalid or too large"))?;
        Ok(Pattern { regex, text: text.into() })
    }

    /// Whether `text` matches somewhere.
    pub(crate) fn matches(&self, text: &[u8]) -> bool {
        std::str::from_utf8(text).is_ok_and(|text| self.regex.is_match(text))
    }
}

struct Translator {
    rest: Vec<char>,
    place: usize,
    ignore_case: bool,
}

impl Translator {
    fn peek(&self) -> Option<char> {
        self.rest.get(self.place).copied()
    }

    fn next(&mut self) -> Option<char> {
        let next = self.peek();
        self.place += usize::from(next.is_some());
        next
    }

    fn pattern(mut self) -> Result<String, PatternError> {
        let mut out = String::new();
        let mut open = 0;
        // Whether something stands before that a quantifier may follow.
        let mut atom = false;
        let mut empty = true;
        while let Some(character) = self.next() {
            let was_empty = std::mem::replace(&mut empty, false);
            match character {
                '(' => {
                    self.group()?;
                    out.push_str("(?:");
                    open += 1;
                    (atom, empty) = (false, true);
                }
                ')' | '|' if was_empty => {
                    return Err(PatternError("an empty branch of a regular expression"));
                }
                ')' if open > 0 => {
                    out.push(')');
                    open -= 1;
                    atom = true;
                }
                ')' => return Err(PatternError("an unmatched ) in a regular expression")),
                '|' => {
                    out.push('|');
                    (atom, empty) = (false, true);
                }
                '^' => {
                    out.push_str("\\A");
                    atom = false;
                }
                '$' => {
                    out.push_str("\\z");
                    atom = false;
                }
                '*' | '+' | '?' | '{' => {
                    if !atom {
                        return Err(PatternError("a quantifier of nothing"));
                    }
                    self.quantifier(character, &mut out)?;
                    atom = false;
                }
                '.' => {
                    out.push('.');
                    atom = true;
                }
                '[' => {
                    self.bracket(&mut out)?;
                    atom = true;
                }
                '\\' => {
                    self.escape(&mut out)?;
                    atom = true;
                }
                literal => {
                    self.literal(literal, &mut out);
                    atom = true;
                }
            }
        }
        if open > 0 || (empty && !out.is_empty()) {
            return Err(PatternError("an unfinished regular expression"));
        }
        Ok(out)
    }

    /// What follows an opening bracket.
    fn group(&mut self) -> Result<(), PatternError> {
        if self.peek() == Some('?') {
            self.place += 1;
            if self.next() != Some(':') {
                return Err(PatternError("(? in a regular expression"));
            }
        }
        if self.peek() == Some('*') {
            return Err(PatternError("(* in a regular expression"));
        }
        Ok(())
    }

    fn literal(&self, literal: char, out: &mut String) {
        let mut utf8 = [0; 4];
        if self.ignore_case && literal.is_ascii_alphabetic() {
            out.extend(['[', literal.to_ascii_lowercase(), literal.to_ascii_uppercase(), ']']);
        } else {
            out.push_str(&regex::escape(literal.encode_utf8(&mut utf8)));
        }
    }

    fn escape(&mut self, out: &mut String) -> Result<(), PatternError> {
        match self.next() {
            Some('d') => out.push_str("[0-9]"),
            Some('D') => out.push_str("[^0-9]"),
            Some(literal) if literal.is_ascii_punctuation() => self.literal(literal, out),
            _ => return Err(PatternError("this escape in a regular expression")),
        }
        Ok(())
    }

    /// `*`, `+`, `?` or `{m,n}`, and a `?` behind it.
    fn quantifier(&mut self, character: char, out: &mut String) -> Result<(), PatternError> {
        if character == '{' {
            let refused = PatternError("a brace in a regular expression");
            let end = self.rest[self.place..].iter().position(|c| *c == '}');
            let end = end.ok_or_else(|| refused.clone())?;
            let inner: String = self.rest[self.place..self.place + end].iter().collect();
            self.place += end + 1;
            let bound = |text: &str| {
                let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
                plain.then(|| text.parse::<u32>().ok()).flatten().filter(|n| *n <= REPEAT_MAX)
            };
            let valid = match inner.split_once(',') {
                None => bound(&inner).is_some(),
                Some((low, "")) => bound(low).is_some(),
                Some((low, high)) => bound(low).zip(bound(high)).is_some_and(|(l, h)| l <= h),
            };
            if !valid {
                return Err(refused);
            }
            out.push('{');
            out.push_str(&inner);
            out.push('}');
        } else {
            out.push(character);
        }
        if self.peek() == Some('?') {
            self.place += 1;
            out.push('?');
        }
        match self.peek() {
            Some('*' | '+' | '?' | '{') => Err(PatternError("a quantifier of a quantifier")),
            _ => Ok(()),
        }
    }

    /// `[…]` of plain characters and ranges of them.
    fn bracket(&mut self, out: &mut String) -> Result<(), PatternError> {
        let refused = PatternError("this bracket expression");
        out.push('[');
        if self.peek() == Some('^') {
            self.place += 1;
            out.push('^');
        }
        let mut count = 0;
        loop {
            let low = self.next().ok_or_else(|| refused.clone())?;
            match low {
                ']' if count > 0 => break,
                ']' | '[' | '\\' | '-' => return Err(refused),
                _ => {}
            }
            let mut high = low;
            if self.peek() == Some('-') {
                self.place += 1;
                high = self.next().ok_or_else(|| refused.clone())?;
                if matches!(high, ']' | '[' | '\\' | '-') || high < low {
                    return Err(refused);
                }
            }
            push_range(low, high, out);
            if self.ignore_case {
                both_cases(low, high, out);
            }
            count += 1;
        }
        out.push(']');
        Ok(())
    }
}

fn push_range(low: char, high: char, out: &mut String) {
    for (index, end) in [low, high].into_iter().enumerate() {
        if index > 0 {
            out.push('-');
        }
        out.push_str(&format!("\\x{{{:x}}}", u32::from(end)));
    }
}

/// The other case of what a range has of the ASCII letters.
fn both_cases(low: char, high: char, out: &mut String) {
    let (upper, lower) = ('A'..='Z', 'a'..='z');
    for (range, shift) in [(upper, 32_i32), (lower, -32)] {
        let (from, to) = (low.max(*range.start()), high.min(*range.end()));
        if from <= to {
            let other =
                |c: char| char::from_u32((c as u32).wrapping_add_signed(shift)).unwrap_or(c);
            push_range(other(from), other(to), out);
        }
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Pattern) -> bool {
        self.text == other.text
    }
}

impl Eq for Pattern {}

impl PartialOrd for Pattern {
    fn partial_cmp(&self, other: &Pattern) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Pattern {
    fn cmp(&self, other: &Pattern) -> Ordering {
        self.text.cmp(&other.text)
    }
}

impl Hash for Pattern {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}
