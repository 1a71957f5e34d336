//! Any bytes as a row's values, for clauses over every type: routed, or an error.

#![no_main]

#[path = "table.rs"]
mod table;

use libfuzzer_sys::fuzz_target;
use std::cell::RefCell;
use walfan::ClauseIndex;

thread_local! {
    static INDEX: RefCell<ClauseIndex> = RefCell::new(index());
}

fn index() -> ClauseIndex {
    let mut index = ClauseIndex::new(table::table());
    // Some types know no equality, and one is not known at all.
    for clause in table::clauses_of_any() {
        let _ = index.add(Some(&clause));
    }
    for clause in table::CLAUSES {
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
            let routed = index.route(change).map(|found| (found.slots(), found.failed().len()));
            if let (Ok(asked), Ok((routed, 0))) = (asked, routed) {
                assert_eq!(asked, routed);
            }
        }
    });
});
