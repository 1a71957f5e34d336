//! A table with a column of every type that clauses know, an enum and one that they do not know.

use std::sync::Arc;
use walfan::{Column, Fragment, Lsn, Relation, TableName, TransactionBuilder, Value};

pub const COLUMNS: [(&str, u32); 28] = [
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
    ("un", 600),
];

pub fn table() -> Arc<Relation> {
    let columns = COLUMNS.map(|(name, oid)| Column {
        is_enum: name == "en",
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
