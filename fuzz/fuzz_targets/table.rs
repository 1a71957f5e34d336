//! A table with a column of every type that clauses know, an enum, an array of it, and one
//! that they do not know.

use std::sync::Arc;
use walfan::{Column, Fragment, Lsn, Relation, TableName, TransactionBuilder, Value};

pub const COLUMNS: [(&str, u32); 29] = [
    ("i8", 20),
    ("bo", 16),
    ("i2", 21),
    ("i4", 23),
    ("nu", 1700),
    ("f4", 700),
    ("f8", 701),
    ("tx", 25),
    ("vc", 1043),
    ("bp", 1042),
    ("bi", 17),
    ("uu", 2950),
    ("da", 1082),
    ("ti", 1083),
    ("ts", 1114),
    ("tz", 1184),
    ("iv", 1186),
    ("js", 114),
    ("jb", 3802),
    ("ai", 1007),
    ("at", 1009),
    ("an", 1231),
    ("ad", 1182),
    ("ab", 1001),
    ("av", 1187),
    ("aj", 3807),
    ("en", 16_500),
    ("ae", 16_499),
    ("un", 600),
];

/// Written for a column `@` of each type.
const OF_ANY: [&str; 3] = ["@ IS NULL", "@ IS DISTINCT FROM @", "@ = @"];
/// Of every operator.
pub const CLAUSES: [&str; 23] = [
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
    "ae @> ARRAY[en] OR en = ANY (ae) OR ae[1] = 'ok'",
    "f8::text = f4::text OR da::text = ts::text",
    "uu::text = bi::text",
];

/// What is asked of a column of any type.
pub fn clauses_of_any() -> impl Iterator<Item = String> {
    COLUMNS.iter().flat_map(|(column, _)| OF_ANY.map(|clause| clause.replace('@', column)))
}

pub fn table() -> Arc<Relation> {
    let columns = COLUMNS.map(|(name, oid)| Column {
        enum_oid: matches!(name, "en" | "ae").then_some(16_500),
        ..Column::new(name, oid, name == "i8")
    });
    Arc::new(Relation::new(1, TableName::new("public", "t"), columns.into()))
}

fn values(row: &[Option<Vec<u8>>]) -> Vec<Value<'_>> {
    row.iter().map(|text| text.as_deref().map_or(Value::Null, Value::Text)).collect()
}

/// An insert and an update whose values are these texts, in order; the others are NULL.
pub fn changes(
    table: &Arc<Relation>,
    mut texts: impl Iterator<Item = Option<Vec<u8>>>,
) -> Fragment {
    let mut row =
        || -> Vec<Option<Vec<u8>>> { COLUMNS.iter().map(|_| texts.next().flatten()).collect() };
    let rows = [row(), row()];
    let mut transaction = TransactionBuilder::new(1, Lsn::new(1));
    let (old, new) = (values(&rows[0]), values(&rows[1]));
    transaction.insert(table, old.clone()).expect("a row has the table's columns");
    transaction.update(table, old, new).expect("a row has the table's columns");
    transaction.commit(Lsn::new(2))
}
