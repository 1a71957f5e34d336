//! Paths: every path that a file names, as `std::thread::spawn`. Trees of `use` are spread out, so
//! that `use std::{fs, thread}` names both in full.

use super::code::Token;

/// A path, where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Path {
    pub(crate) line: usize,
    pub(crate) segments: Vec<String>,
    /// A macro's call.
    pub(crate) is_macro: bool,
    /// Imported under another name, which hides what is called.
    pub(crate) is_renamed: bool,
    pub(crate) test: bool,
}

impl Path {
    /// Whether the segments of `piece` stand in it, one after another.
    pub(crate) fn contains(&self, piece: &str) -> bool {
        let piece: Vec<_> = piece.split("::").collect();
        self.segments.windows(piece.len()).any(|window| window == piece)
    }
}

/// All paths of a file, single names too.
pub(crate) fn paths(tokens: &[Token]) -> Vec<Path> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if tokens[at].is("use") {
            at = tree(tokens, at + 1, &[], &mut found);
        } else if tokens[at].is_word() {
            let (segments, end) = segments(tokens, at);
            let sign = |ahead: usize, text: &str| {
                tokens.get(end + ahead).is_some_and(|token| token.is(text))
            };
            let is_macro = sign(0, "!") && ["(", "[", "{"].iter().any(|open| sign(1, open));
            found.push(Path { segments, is_macro, ..path(&tokens[at]) });
            at = end;
        } else {
            at += 1;
        }
    }
    found
}

fn path(token: &Token) -> Path {
    let Token { line, test, .. } = *token;
    Path { line, segments: Vec::new(), is_macro: false, is_renamed: false, test }
}

/// Whether `::` stands at `at`.
fn is_joined(tokens: &[Token], at: usize) -> bool {
    tokens.get(at..at + 2).is_some_and(|two| two.iter().all(|token| token.is(":")))
}

fn segments(tokens: &[Token], mut at: usize) -> (Vec<String>, usize) {
    let mut segments = vec![tokens[at].text.clone()];
    at += 1;
    while is_joined(tokens, at) && tokens.get(at + 2).is_some_and(Token::is_word) {
        segments.push(tokens[at + 2].text.clone());
        at += 3;
    }
    (segments, at)
}

/// Spreads out the tree at `at`; the index after it.
fn tree(tokens: &[Token], mut at: usize, prefix: &[String], found: &mut Vec<Path>) -> usize {
    let mut own = prefix.to_vec();
    let start = at;
    while at < tokens.len() {
        if is_joined(tokens, at) {
            at += 2;
        } else if tokens[at].is("{") {
            at += 1;
            while at < tokens.len() && !tokens[at].is("}") {
                at = tree(tokens, at, &own, found);
                at += usize::from(tokens.get(at).is_some_and(|token| token.is(",")));
            }
            return at + 1;
        } else if tokens[at].is("as") {
            found.push(Path { segments: own, is_renamed: true, ..path(&tokens[at]) });
            return at + 2;
        } else if tokens[at].is("*") || tokens[at].is_word() {
            if !tokens[at].is("self") || own.is_empty() {
                own.push(tokens[at].text.clone());
            }
            at += 1;
        } else {
            break;
        }
    }
    if at > start {
        found.push(Path { segments: own, ..path(&tokens[start]) });
        return at;
    }
    // Nothing of a `use`: the captures of an opaque type, say.
    at + 1
}
