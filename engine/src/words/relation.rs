//! Relation: the identity of a table and its columns, as the source announced them.

use std::fmt;

/// A table's schema and name. Text form: `public.items`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableName {
    /// The schema.
    pub schema: Box<str>,
    /// The table's name inside the schema.
    pub name: Box<str>,
}

impl TableName {
    /// The table `name` in `schema`; both as Postgres stores them (case kept, no quotes).
    pub fn new(schema: &str, name: &str) -> TableName {
        TableName { schema: schema.into(), name: name.into() }
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.name)
    }
}

/// One column of a relation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Column {
    /// The column's name.
    pub name: Box<str>,
    /// The OID of its type, as in `pg_type`.
    pub type_oid: u32,
    /// Whether it is part of the primary key.
    pub key: bool,
    /// The OID of the enum that its type is, or is an array of: the OID of a type that a user made
    /// does not tell what it is.
    pub enum_oid: Option<u32>,
}

impl Column {
    /// A column of the type with OID `type_oid`, which is no enum and no array of one.
    pub fn new(name: &str, type_oid: u32, key: bool) -> Column {
        Column { name: name.into(), type_oid, key, enum_oid: None }
    }

    /// A column of the enum with OID `type_oid`.
    pub fn of_enum(name: &str, type_oid: u32, key: bool) -> Column {
        Column { enum_oid: Some(type_oid), ..Column::new(name, type_oid, key) }
    }

    /// A column of the type with OID `type_oid`, the array of the enum with OID `enum_oid`.
    pub fn of_enum_array(name: &str, type_oid: u32, enum_oid: u32, key: bool) -> Column {
        Column { enum_oid: Some(enum_oid), ..Column::new(name, type_oid, key) }
    }
}

/// A table as the source sees it. Two relations of the same OID that are not equal mean that the
/// table was altered in between.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Relation {
    /// The table's OID, its identity: a table that is dropped and made again has another one.
    pub oid: u32,
    /// Its schema and name.
    pub table: TableName,
    /// Its columns, in the order in which rows carry their values.
    pub columns: Box<[Column]>,
}

impl Relation {
    /// A relation from its parts.
    pub fn new(oid: u32, table: TableName, columns: Vec<Column>) -> Relation {
        Relation { oid, table, columns: columns.into() }
    }

    /// Whether it has a primary key.
    pub(crate) fn has_key(&self) -> bool {
        self.columns.iter().any(|column| column.key)
    }

    /// The index of the column `name`, if there is one.
    pub fn column_index(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| &*column.name == name)
    }
}
