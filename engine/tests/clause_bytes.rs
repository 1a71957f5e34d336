//! Whatever text comes as a clause and whatever bytes come as values: no panic, no endless
//! recursion, and with an index the same answer as without. The fuzz targets take it further, with
//! the same table and the same clauses.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../../fuzz/fuzz_targets/table.rs"]
#[allow(unreachable_pub, reason = "a module of several tests")]
mod table;

use proptest::prelude::*;
use walfan::ClauseIndex;

/// What clauses are made of.
const WORDS: [&str; 97] = [
    "i8",
    "bo",
    "i2",
    "i4",
    "nu",
    "f4",
    "f8",
    "tx",
    "vc",
    "bp",
    "bi",
    "uu",
    "da",
    "ti",
    "ts",
    "tz",
    "iv",
    "js",
    "jb",
    "ai",
    "at",
    "an",
    "en",
    "ae",
    "un",
    "1",
    "0",
    "-1",
    "2.5",
    "1e400",
    "'a'",
    "''",
    "'{1}'",
    "'{'",
    "NULL",
    "TRUE",
    "FALSE",
    "'2024-02-29'",
    "99999999999",
    "=",
    "<>",
    "<",
    "<=",
    ">",
    ">=",
    "+",
    "-",
    "*",
    "/",
    "%",
    "||",
    "@>",
    "<@",
    "&&",
    "~",
    "~*",
    "!~",
    "LIKE",
    "ILIKE",
    "NOT",
    "AND",
    "OR",
    "IS",
    "IN",
    "BETWEEN",
    "SYMMETRIC",
    "ANY",
    "ALL",
    "DISTINCT",
    "FROM",
    "UNKNOWN",
    "ESCAPE",
    "CASE",
    "WHEN",
    "THEN",
    "ELSE",
    "END",
    "COALESCE",
    "NULLIF",
    "GREATEST",
    "lower",
    "length",
    "substring",
    "round",
    "abs",
    "left",
    "ARRAY",
    "(",
    ")",
    "[",
    "]",
    ",",
    "::",
    "text",
    "numeric",
    "int4",
    "CAST",
];

/// Like conditions, so that many are taken.
const CONDITIONS: [&str; 12] = [
    "(# = #)",
    "(# < #)",
    "(# BETWEEN # AND #)",
    "(# IN (#, #))",
    "(# IS DISTINCT FROM #)",
    "(# LIKE #)",
    "(# / # > #)",
    "(# + # = # * #)",
    "(# @> #)",
    "(#::numeric > #)",
    "(coalesce(#, #) = #)",
    "(substring(# from # for #) || # = #)",
];

fn soup() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(&WORDS[..]), 1..30).prop_map(|words| words.join(" "))
}

fn conditions() -> impl Strategy<Value = String> {
    let condition = (prop::sample::select(&CONDITIONS[..]), prop::collection::vec(0..38_usize, 5));
    let condition = condition.prop_map(|(condition, picks)| {
        picks.iter().fold(condition.to_owned(), |text, pick| text.replacen('#', WORDS[*pick], 1))
    });
    let join = prop::sample::select(&[" AND ", " OR ", " AND NOT "][..]);
    (prop::collection::vec(condition, 1..4), join).prop_map(|(all, join)| all.join(join))
}

/// A number, a list, a time, json: or nearly.
const FORMS: [&str; 4] = [
    "[-+]?[0-9]{0,25}(\\.[0-9]{0,25})?(e[-+]?[0-9]{1,6})?",
    "\\{[{}\", a0-9\\\\]{0,20}\\}",
    "-?[0-9]{1,6}-[0-9]{1,2}-[0-9]{1,2}( [0-9]{2}:[0-9]{2}:[0-9]{2}(\\.[0-9]{1,9})?)?( BC)?",
    "[{}\\[\\]:,\"a0-9 ]{0,20}",
];

/// A value of some type, or bytes that are none.
fn value() -> impl Strategy<Value = Option<Vec<u8>>> {
    let form = |form: &'static str| form.prop_map(|text| Some(text.into_bytes()));
    let [number, list, time, json] = FORMS.map(form);
    let bytes = any::<Vec<u8>>().prop_map(Some);
    prop_oneof![1 => Just(None), 2 => bytes, 3 => number, 2 => list, 2 => time, 1 => json]
}

fn check(clauses: &[String], values: Vec<Option<Vec<u8>>>) {
    let table = table::table();
    let mut index = ClauseIndex::new(table.clone());
    for clause in clauses {
        let _ = index.add(Some(clause));
    }
    for change in table::changes(&table, values.into_iter()).changes() {
        let asked = index.ask_each(change);
        let routed = index.route(change);
        match (asked, routed) {
            (Ok(asked), Ok(routed)) => {
                // Of who failed, nothing else is said.
                let failed: Vec<_> = routed.failed().iter().map(|(slot, _)| *slot).collect();
                let without = |mut slots: Vec<_>| {
                    slots.retain(|slot| !failed.contains(slot));
                    slots
                };
                assert_eq!(without(routed.slots()), without(asked.slots()), "{clauses:?}");
            }
            (_, Err(_)) => {}
            (Err(error), Ok(_)) => panic!("{error}: {clauses:?}"),
        }
    }
}

#[test]
fn the_clauses_of_every_operator_are_taken() {
    let mut index = ClauseIndex::new(table::table());
    for clause in table::CLAUSES {
        index.add(Some(clause)).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]
    #[test]
    fn no_clause_and_no_value_makes_routing_panic(
        clauses in prop::collection::vec(prop_oneof![1 => soup(), 4 => conditions()], 1..6),
        values in prop::collection::vec(value(), 2 * table::COLUMNS.len()),
    ) {
        check(&clauses, values);
    }

    #[test]
    fn no_value_makes_a_clause_of_any_operator_panic(
        values in prop::collection::vec(value(), 2 * table::COLUMNS.len()),
    ) {
        let clauses = table::CLAUSES.iter().map(|clause| (*clause).to_owned());
        check(&clauses.chain(table::clauses_of_any()).collect::<Vec<_>>(), values);
    }

    #[test]
    fn no_text_makes_the_compiler_panic(clause: String, printable in "[ -~]{0,60}") {
        check(&[clause, printable], Vec::new());
    }
}
