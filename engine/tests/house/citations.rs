//! Citations: the rules (R1), invariants (INV1) and sections (3.6) that code cites by number are
//! written down in ARCHITECTURE.md, each as a line that begins with `**R1 `, `**INV1 ` or `3.6`.

use super::code::Source;
use std::collections::BTreeSet;

/// Citations of what is not written down.
pub(crate) fn broken_citations(source: &Source, architecture: &str) -> Vec<String> {
    let known = written(architecture);
    let mut broken = Vec::new();
    for (index, line) in source.text.lines().enumerate().filter(|(_, line)| is_comment(line)) {
        for cited in cited(line) {
            if !known.contains(&cited) {
                broken.push(format!(
                    "{}:{}: {cited} is not written in ARCHITECTURE.md: write it there, or cite \
                     what is",
                    source.path,
                    index + 1
                ));
            }
        }
    }
    broken
}

fn is_comment(line: &str) -> bool {
    line.contains("//") || line.contains("\"")
}

/// What ARCHITECTURE.md writes down: what stands first in a line, bold or as a heading.
pub(crate) fn written(architecture: &str) -> BTreeSet<String> {
    let firsts = architecture.lines().map(|line| {
        let line = line.trim_start_matches(['#', '*', '-', '|', ' ']);
        line.split([' ', '*', '|']).next().unwrap_or_default().trim_end_matches('.').to_owned()
    });
    firsts.filter(|first| is_rule(first) || is_section(first)).collect()
}

fn cited(line: &str) -> Vec<String> {
    let words: Vec<_> =
        line.split(|c: char| !c.is_alphanumeric() && c != '.').map(trimmed).collect();
    let rules = words.iter().filter(|word| is_rule(word)).map(|word| (*word).to_owned());
    let sections = words
        .windows(2)
        .filter(|two| ["section", "sections"].contains(&two[0]) && is_section(two[1]));
    rules.chain(sections.map(|two| two[1].to_owned())).collect()
}

fn trimmed(word: &str) -> &str {
    word.trim_end_matches('.')
}

fn is_rule(word: &str) -> bool {
    let number = word.strip_prefix("INV").or_else(|| word.strip_prefix('R'));
    number.is_some_and(is_number)
}

fn is_section(word: &str) -> bool {
    !word.is_empty() && word.split('.').all(is_number)
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.len() <= 2 && text.chars().all(|c| c.is_ascii_digit())
}
