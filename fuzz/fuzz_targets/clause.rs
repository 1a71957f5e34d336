//! Any text as a clause: it is taken or refused, and what is taken has an answer for a row, or an
//! error; with an index and without, the same.

#![no_main]

#[allow(dead_code)]
#[path = "table.rs"]
mod table;

use libfuzzer_sys::fuzz_target;
use walfan::ClauseIndex;

/// In the order of the table's columns.
const ROW: [&str; 28] = [
    "7",
    "t",
    "-1",
    "42",
    "1.50",
    "0.1",
    "-2.5",
    "abc",
    "Abc",
    "ab  ",
    "\\x6162",
    "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
    "2024-02-29",
    "12:30:00",
    "2024-02-29 12:30:00",
    "2024-02-29 12:30:00+00",
    "1 mon -1 days",
    "{\"a\": 1}",
    "{\"a\": 1}",
    "{1,NULL,3}",
    "{a,\"b c\"}",
    "{1.0,2.50}",
    "{2024-02-29}",
    "{\"\\\\x61\"}",
    "{\"1 day\"}",
    "{\"{}\"}",
    "ok",
    "(1,2)",
];

fuzz_target!(|clause: &str| {
    let table = table::table();
    let mut index = ClauseIndex::new(table.clone());
    if index.add(Some(clause)).is_err() {
        return;
    }
    let texts = ROW.iter().map(|text| Some(text.as_bytes().to_vec()));
    for change in table::changes(&table, texts).changes() {
        let asked = index.ask_each(change).map(|matches| matches.slots());
        let routed = index.route(change).map(|matches| (matches.slots(), matches.failed().len()));
        if let (Ok(asked), Ok((routed, 0))) = (asked, routed) {
            assert_eq!(asked, routed, "{clause}");
        }
    }
});
