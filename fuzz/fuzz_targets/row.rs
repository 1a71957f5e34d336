//! Any bytes as a row's values, for clauses over every type: routed, or an error.

#![no_main]

#[path = "table.rs"]
mod table;

use libfuzzer_sys::fuzz_target;
use std::cell::RefCell;
use walfan::ClauseIndex;

/// Written for a column `@` of each type.
const OF_ANY: [&str; 3] = ["@ IS NULL", "@ IS DISTINCT FROM @", "@ = @"];
const CLAUSES: [&str; 22] = [
    "i4 / i2 > i8 % 3",
    "nu * nu / 3 > round(nu, 2)",
    "nu BETWEEN -1.5 AND 1e10",
    "f8::numeric < f4",
    "f8::int4 = nu::int8",
    "tx::numeric = tx::int8",
    "tx LIKE 'a%' AND vc ILIKE '%b_'",
    "tx LIKE vc",
    "tx ~ '^a.*[bc]$'",
    "lower(tx) || upper(vc) = trim(bp)",
    "substring(tx, i4, i2) = left(vc, i4)",
    "bp = vc OR bp = tx",
    "ts + iv > ts - iv OR da - da > i4",
    "tz - tz < iv",
    "ai @> '{1}' OR ai && '{2,3}' OR 3 = ANY (ai)",
    "at @> ARRAY['a'] OR at <@ '{a,b}'",
    "an[1] > 0 OR ai[i4] = 1",
    "jb = '{}' OR jb::text = '{}'",
    "js::text = '{}'",
    "en = 'ok' OR en IN ('a', 'b')",
    "f8::text = f4::text OR da::text = ts::text",
    "uu::text = bi::text",
];

thread_local! {
    static INDEX: RefCell<ClauseIndex> = RefCell::new(index());
}

fn index() -> ClauseIndex {
    let mut index = ClauseIndex::new(table::table());
    // Some types know no equality, and one is not known at all.
    for (column, _) in table::COLUMNS {
        for clause in OF_ANY {
            let _ = index.add(Some(&clause.replace('@', column)));
        }
    }
    for clause in CLAUSES {
        index.add(Some(clause)).expect(clause);
    }
    index
}

fuzz_target!(|bytes: &[u8]| {
    let table = table::table();
    let texts = bytes.split(|byte| *byte == 0).map(|text| Some(text.to_vec()));
    let fragment = table::changes(&table, texts);
    INDEX.with_borrow_mut(|index| {
        for change in fragment.changes() {
            let asked = index.ask_each(change).map(|matches| matches.slots());
            let routed = index.route(change).map(|matches| (matches.slots(), matches.failed().len()));
            if let (Ok(asked), Ok((routed, 0))) = (asked, routed) {
                assert_eq!(asked, routed);
            }
        }
    });
});
