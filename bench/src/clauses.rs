//! Clauses of every kind that the index finds in another way, with rows of which it is known how
//! many of the clauses they match.

use std::sync::Arc;
use walfan::{ClauseIndex, Column, Fragment, Lsn, Relation, TableName, TransactionBuilder, Value};

/// Clauses of one form, one for each number below a count.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// What benches call it.
    pub name: &'static str,
    /// The clause numbered so, of so many.
    pub clause: fn(u64, u64) -> String,
    /// Of these columns the row for a number has this text: the others are NULL.
    pub row: fn(u64) -> Vec<(&'static str, String)>,
    /// How many clauses the row of a number in the middle matches, of so many.
    pub matches: fn(u64, u64) -> u64,
    /// How many clauses may be evaluated for it, of so many.
    pub evaluations_max: fn(u64) -> u64,
}

const fn one(_: u64, _: u64) -> u64 {
    1
}

const fn none(_: u64) -> u64 {
    0
}

/// Columns of the table, with the OIDs of their types.
const COLUMNS: [(&str, u32); 9] = [
    ("id", 20),
    ("a", 20),
    ("b", 25),
    ("x", 23),
    ("name", 25),
    ("email", 1043),
    ("price", 1700),
    ("tags", 1009),
    ("deleted_at", 1184),
];

/// What is found in another way each.
pub const CASES: [Case; 10] = [
    Case {
        name: "equality",
        clause: |i, _| format!("a = {i}"),
        row: |k| vec![("a", k.to_string())],
        matches: one,
        evaluations_max: none,
    },
    Case {
        name: "equality, 20 matches",
        clause: |i, _| format!("a = {}", i / 20),
        row: |k| vec![("a", (k / 20).to_string())],
        matches: |_, _| 20,
        evaluations_max: none,
    },
    Case {
        name: "ILIKE 'x%'",
        clause: |i, _| format!("name ILIKE 'Item{i:07}%'"),
        row: |k| vec![("name", format!("iTEM{k:07} and more"))],
        matches: one,
        evaluations_max: none,
    },
    Case {
        name: "lower(email) = c",
        clause: |i, _| format!("lower(email) = 'user{i}@example.com'"),
        row: |k| vec![("email", format!("User{k}@Example.com"))],
        matches: one,
        evaluations_max: none,
    },
    Case {
        name: "price BETWEEN a AND b, 10 matches",
        clause: |i, _| format!("price BETWEEN {i}.25 AND {}.75", i + 9),
        row: |k| vec![("price", format!("{k}.50"))],
        matches: |_, _| 10,
        evaluations_max: none,
    },
    Case {
        name: "tags @> ARRAY[c]",
        clause: |i, _| format!("tags @> ARRAY['t{i}']"),
        row: |k| vec![("tags", format!("{{new,t{k},sale}}"))],
        matches: one,
        evaluations_max: none,
    },
    Case {
        name: "a = c AND b LIKE '%z%'",
        clause: |i, _| format!("a = {i} AND b LIKE '%z%'"),
        row: |k| vec![("a", k.to_string()), ("b", "a lazy dog".into())],
        matches: one,
        evaluations_max: |_| 1,
    },
    Case {
        name: "x IN (5) AND deleted_at IS NULL",
        clause: |i, of| {
            let [b, c, d, e] = [1, 2, 3, 4].map(|part| i + part * of);
            format!("x IN ({i}, {b}, {c}, {d}, {e}) AND deleted_at IS NULL")
        },
        row: |k| vec![("x", k.to_string())],
        matches: one,
        evaluations_max: none,
    },
    Case {
        name: "price < c",
        clause: |i, _| format!("price < {i}"),
        row: |k| vec![("price", format!("{k}.50"))],
        matches: |k, of| of - k - 1,
        evaluations_max: none,
    },
    Case {
        name: "length(name) % 7919 = c + 0 * id",
        clause: |i, _| format!("length(name) % 7919 = {i} + 0 * id"),
        row: |k| vec![("id", k.to_string()), ("name", "x".repeat(7))],
        matches: one,
        evaluations_max: |of| of,
    },
];

/// The case called so.
pub fn case(name: &str) -> Option<Case> {
    CASES.into_iter().find(|case| case.name == name)
}

/// The table.
pub fn products() -> Arc<Relation> {
    let columns = COLUMNS.map(|(name, oid)| Column::new(name, oid, name == "id"));
    Arc::new(Relation::new(16_385, TableName::new("public", "products"), columns.into()))
}

impl Case {
    /// An index of `count` clauses, in an order of its own: no user adds them sorted.
    pub fn index(&self, products: &Arc<Relation>, order: &[usize]) -> ClauseIndex {
        let mut index = ClauseIndex::new(Arc::clone(products));
        for &number in order {
            let clause = (self.clause)(number as u64, order.len() as u64);
            index.add(Some(&clause)).expect("the clause is in the language");
        }
        index
    }

    /// A transaction that inserts the row of a number.
    pub fn insert(&self, products: &Arc<Relation>, number: u64) -> Fragment {
        let texts = (self.row)(number);
        let value = |(name, _): &(&str, u32)| {
            let text = texts.iter().find(|(column, _)| column == name);
            text.map_or(Value::Null, |(_, text)| Value::Text(text.as_bytes()))
        };
        let mut transaction = TransactionBuilder::new(1, Lsn::new(1));
        let row = COLUMNS.iter().map(value);
        transaction.insert(products, row).expect("a row has the table's columns");
        transaction.commit(Lsn::new(2))
    }
}
