//! Scenarios: every test that the table in engine/tests/README.md names is there, and a scenario
//! without one says why.

use super::code::Source;

/// Words that a sentence has at least.
const WORDS_MIN: usize = 8;

/// What of the table is not so.
pub(crate) fn broken_scenarios(table: &str, sources: &[Source]) -> Vec<String> {
    let mut broken = Vec::new();
    let mut seen = Vec::new();
    for line in table.lines() {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        let [_, id, holds, shown, _] = cells.as_slice() else { continue };
        if !is_id(id) {
            continue;
        }
        if seen.contains(id) {
            broken.push(format!("{id} is there twice"));
        }
        seen.push(*id);
        let tests: Vec<_> = shown.split('`').filter_map(|test| test.split_once("::")).collect();
        if tests.is_empty() && holds.split(' ').count() < WORDS_MIN {
            broken.push(format!("{id} names no test: name one, or say why there is none"));
        }
        for (file, name) in tests {
            let path = format!("engine/{file}");
            let function = format!("fn {name}(");
            if !sources.iter().any(|s| s.path == path && s.text.contains(&function)) {
                broken.push(format!("{id}: there is no {name} in {path}: name its test anew"));
            }
        }
    }
    if seen.is_empty() {
        broken.push("the table has no scenario".to_owned());
    }
    broken
}

/// A letter and two digits.
fn is_id(text: &str) -> bool {
    let mut signs = text.chars();
    text.len() == 3
        && signs.next().is_some_and(|sign| sign.is_ascii_uppercase())
        && signs.all(|sign| sign.is_ascii_digit())
}

#[test]
fn a_scenario_without_its_test_is_found() {
    let sources = [Source::new("engine/tests/a.rs", "#[test]\nfn a01_is_there() {}")];
    let broken = |rows: &str| broken_scenarios(rows, &sources).join("\n");
    assert_eq!(broken("| A01 | it holds | `tests/a.rs::a01_is_there` |"), "");
    assert_eq!(broken("| A02 | it does not apply, and this says in full why | |"), "");
    let says = |rows: &str, what: &str| assert!(broken(rows).contains(what), "{}", broken(rows));
    says("| A01 | it holds | `tests/a.rs::a01_is` |", "there is no a01_is in engine/tests/a.rs");
    says("| A01 | it holds | `tests/b.rs::a01_is_there` |", "in engine/tests/b.rs");
    says("| A01 | it holds | |", "names no test");
    let row = "| A01 | it holds | `tests/a.rs::a01_is_there` |";
    let twice = [row, row].join("\n");
    says(&twice, "twice");
    says("| id | what holds | shown by |", "no scenario");
}
