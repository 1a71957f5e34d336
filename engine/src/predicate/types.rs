//! Types: which of Postgres's types clauses know, by the OIDs of `pg_type`, and how users write
//! their names. What values of a type look like is `value`'s part.

use crate::words::Column;
use std::fmt;

/// A type that is no array.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Scalar {
    Bool,
    Int2,
    Int4,
    Int8,
    Numeric,
    Float4,
    Float8,
    Text,
    Varchar,
    Bpchar,
    Bytea,
    Uuid,
    Date,
    Time,
    Timestamp,
    Timestamptz,
    Interval,
    Json,
    Jsonb,
    /// An enum, by its OID: its labels are equal or not.
    Named(u32),
}

/// A type, or the array of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Type {
    pub(crate) scalar: Scalar,
    pub(crate) array: bool,
}

/// OIDs of the types and of their arrays, with the name that Postgres prints.
const KNOWN: [(Scalar, u32, u32, &str); 19] = [
    (Scalar::Bool, 16, 1000, "boolean"),
    (Scalar::Int2, 21, 1005, "smallint"),
    (Scalar::Int4, 23, 1007, "integer"),
    (Scalar::Int8, 20, 1016, "bigint"),
    (Scalar::Numeric, 1700, 1231, "numeric"),
    (Scalar::Float4, 700, 1021, "real"),
    (Scalar::Float8, 701, 1022, "double precision"),
    (Scalar::Text, 25, 1009, "text"),
    (Scalar::Varchar, 1043, 1015, "character varying"),
    (Scalar::Bpchar, 1042, 1014, "character"),
    (Scalar::Bytea, 17, 1001, "bytea"),
    (Scalar::Uuid, 2950, 2951, "uuid"),
    (Scalar::Date, 1082, 1182, "date"),
    (Scalar::Time, 1083, 1183, "time without time zone"),
    (Scalar::Timestamp, 1114, 1115, "timestamp without time zone"),
    (Scalar::Timestamptz, 1184, 1185, "timestamp with time zone"),
    (Scalar::Interval, 1186, 1187, "interval"),
    (Scalar::Json, 114, 199, "json"),
    (Scalar::Jsonb, 3802, 3807, "jsonb"),
];

impl Scalar {
    /// The type itself.
    pub(crate) const fn plain(self) -> Type {
        Type { scalar: self, array: false }
    }

    /// The array of it.
    pub(crate) const fn array(self) -> Type {
        Type { scalar: self, array: true }
    }

    /// The type that a user's name for it means: one word or several, lower case.
    pub(crate) fn named(words: &str) -> Option<Scalar> {
        Some(match words {
            "bool" | "boolean" => Scalar::Bool,
            "int2" | "smallint" => Scalar::Int2,
            "int4" | "int" | "integer" => Scalar::Int4,
            "int8" | "bigint" => Scalar::Int8,
            "numeric" | "decimal" | "dec" => Scalar::Numeric,
            "float4" | "real" => Scalar::Float4,
            "float8" | "float" | "double precision" => Scalar::Float8,
            "text" => Scalar::Text,
            "varchar" | "character varying" | "char varying" => Scalar::Varchar,
            "bpchar" | "char" | "character" => Scalar::Bpchar,
            "bytea" => Scalar::Bytea,
            "uuid" => Scalar::Uuid,
            "date" => Scalar::Date,
            "time" | "time without time zone" => Scalar::Time,
            "timestamp" | "timestamp without time zone" => Scalar::Timestamp,
            "timestamptz" | "timestamp with time zone" => Scalar::Timestamptz,
            "interval" => Scalar::Interval,
            "json" => Scalar::Json,
            "jsonb" => Scalar::Jsonb,
            _ => return None,
        })
    }

    /// Whether it is one of the three integers.
    pub(crate) fn is_int(self) -> bool {
        matches!(self, Scalar::Int2 | Scalar::Int4 | Scalar::Int8)
    }

    /// Whether it is a floating-point number.
    pub(crate) fn is_float(self) -> bool {
        matches!(self, Scalar::Float4 | Scalar::Float8)
    }

    /// Where it stands among the numbers: the lower is implicitly cast to the higher.
    pub(crate) fn number_rank(self) -> Option<u8> {
        Some(match self {
            Scalar::Int2 => 0,
            Scalar::Int4 => 1,
            Scalar::Int8 => 2,
            Scalar::Numeric => 3,
            Scalar::Float4 => 4,
            Scalar::Float8 => 5,
            _ => return None,
        })
    }

    /// Whether it is text in the wider sense.
    pub(crate) fn is_string(self) -> bool {
        matches!(self, Scalar::Text | Scalar::Varchar | Scalar::Bpchar)
    }
}

impl Type {
    /// The type of `column`, if clauses know it. Of types that users made they know enums and
    /// arrays of them only: what equality means to a domain or to an extension's type, its OID
    /// does not tell.
    pub(crate) fn of(column: &Column) -> Option<Type> {
        let type_oid = column.type_oid;
        if let Some(enum_oid) = column.enum_oid {
            return Some(Type { scalar: Scalar::Named(enum_oid), array: enum_oid != type_oid });
        }
        KNOWN.iter().find_map(|&(scalar, oid, array_oid, _)| match type_oid {
            found if found == oid => Some(scalar.plain()),
            found if found == array_oid => Some(scalar.array()),
            _ => None,
        })
    }

    /// The type of an array's elements.
    pub(crate) fn element(self) -> Option<Type> {
        self.array.then_some(self.scalar.plain())
    }
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Scalar::Named(oid) = self {
            return write!(f, "the type with OID {oid}");
        }
        let name = KNOWN.iter().find(|(scalar, ..)| scalar == self);
        f.write_str(name.map_or("unknown", |(.., name)| name))
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let brackets = if self.array { "[]" } else { "" };
        write!(f, "{}{brackets}", self.scalar)
    }
}
