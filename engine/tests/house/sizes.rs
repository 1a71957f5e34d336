//! Sizes: how long things may get, and what every file has.

use super::code::{Source, Token, after_closing};

const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;
const COLUMNS_MAX: usize = 100;

/// What is too long, or missing.
pub(crate) fn broken_sizes(source: &Source) -> Vec<String> {
    let mut broken = Vec::new();
    let mut say = |line: usize, what: String| {
        broken.push(format!("{}:{line}: {what}", source.path));
    };
    if !source.text.starts_with("//!") {
        say(
            1,
            "no head: open with `//!`: what it is, what flows in and out, what it leaves".into(),
        );
    }
    let lines = source.text.lines().count();
    if lines > FILE_LINES_MAX {
        say(lines, format!("{lines} lines: split the file by role at {FILE_LINES_MAX}"));
    }
    for (index, line) in source.text.lines().enumerate() {
        let columns = line.chars().count();
        if columns > COLUMNS_MAX {
            say(index + 1, format!("{columns} columns: break the line at {COLUMNS_MAX}"));
        }
    }
    for (line, name, lines) in functions(&source.tokens) {
        if lines > FUNCTION_LINES_MAX {
            say(line, format!("`{name}` has {lines} lines: name its steps and call them"));
        }
    }
    for line in unreasoned(&source.tokens) {
        say(line, "a lint is switched off without a reason: `reason = \"..\"`".into());
    }
    broken
}

/// Where each function begins, its name, and its lines.
fn functions(tokens: &[Token]) -> Vec<(usize, String, usize)> {
    let mut found = Vec::new();
    for (index, two) in tokens.windows(2).enumerate() {
        if !two[0].is("fn") || !two[1].is_word() {
            continue;
        }
        let mut at = index + 2;
        while at < tokens.len() && !tokens[at].is(";") && !tokens[at].is("{") {
            let opens = tokens[at].is("(") || tokens[at].is("[");
            at = if opens { after_closing(tokens, at) } else { at + 1 };
        }
        if tokens.get(at).is_some_and(|token| token.is("{")) {
            let last = &tokens[after_closing(tokens, at) - 1];
            found.push((two[0].line, two[1].text.clone(), last.line + 1 - two[0].line));
        }
    }
    found
}

/// `#[allow(..)]` and `#[expect(..)]` that do not say why.
fn unreasoned(tokens: &[Token]) -> Vec<usize> {
    let mut lines = Vec::new();
    for (at, token) in tokens.iter().enumerate().filter(|(_, token)| token.is("#")) {
        let open = at + 1 + usize::from(tokens.get(at + 1).is_some_and(|token| token.is("!")));
        if !tokens.get(open).is_some_and(|token| token.is("[")) {
            continue;
        }
        let inner = &tokens[open + 1..after_closing(tokens, open)];
        let off = inner.first().is_some_and(|word| word.is("allow") || word.is("expect"));
        if off && !inner.iter().any(|word| word.is("reason")) {
            lines.push(token.line);
        }
    }
    lines
}
