//! Record: the payloads of relations, fragment heads and the shapes' lifecycle (R3), to bytes and
//! back. Sets are left to `dictionary` and `decode`, a fragment's changes to `encode` and `decode`.

use super::span::FragmentHead;
use super::wire::{Malformed, Reader, put_bytes, put_number, put_offset};
use crate::words::{
    Column, Handle, Lsn, Offset, Relation, Replica, ShapeDefinition, Slot, TableName,
};
use std::sync::Arc;

const BEGIN: u8 = 1;
const COMMIT: u8 = 2;
const OPENS: u8 = 4;

/// What a shape's definition has.
const CLAUSE: u8 = 1;
const COLUMNS: u8 = 2;
const FULL: u8 = 4;
const PARAMS: u8 = 8;
/// And whether it is to be given initial rows.
const AWAITS: u8 = 16;

/// What a column is.
const KEY: u8 = 1;
const ENUM: u8 = 2;
/// Whose OID follows.
const ENUM_ARRAY: u8 = 4;

/// A shape that came, went or was condemned, as the log says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Lifecycle {
    /// `relation` is the number that the block knows the shape's table by.
    Add {
        slot: Slot,
        handle: Handle,
        first: Offset,
        relation: u32,
        definition: ShapeDefinition,
        awaits_snapshot: bool,
    },
    Remove {
        slot: Slot,
        handle: Handle,
        at: Offset,
    },
    Invalidate {
        slot: Slot,
        handle: Handle,
        at: Offset,
        cause: Box<str>,
    },
}

pub(super) fn put_add(
    out: &mut Vec<u8>,
    (slot, handle): (Slot, Handle),
    first: Offset,
    relation: u32,
    (definition, awaits_snapshot): (&ShapeDefinition, bool),
) {
    put_end(out, slot, handle, first);
    put_number(out, relation.into());
    put_flagged(out, definition, if awaits_snapshot { AWAITS } else { 0 });
}

/// What a shape is. It takes all that is left of its record.
pub(crate) fn put_definition(out: &mut Vec<u8>, definition: &ShapeDefinition) {
    put_flagged(out, definition, 0);
}

fn put_flagged(out: &mut Vec<u8>, definition: &ShapeDefinition, flags: u8) {
    put_table(out, &definition.table);
    let ShapeDefinition { table: _, where_clause, params, columns, replica } = definition;
    let flag = |set: bool, flag: u8| if set { flag } else { 0 };
    out.push(
        flags
            | flag(where_clause.is_some(), CLAUSE)
            | flag(columns.is_some(), COLUMNS)
            | flag(*replica == Replica::Full, FULL)
            | flag(!params.is_empty(), PARAMS),
    );
    if let Some(columns) = columns {
        put_number(out, columns.len() as u64);
        columns.iter().for_each(|name| put_bytes(out, name.as_bytes()));
    }
    if !params.is_empty() {
        put_number(out, params.len() as u64);
        for value in params {
            out.push(u8::from(value.is_some()));
            value.iter().for_each(|text| put_bytes(out, text.as_bytes()));
        }
    }
    out.extend_from_slice(where_clause.as_deref().unwrap_or("").as_bytes());
}

/// A removal, and the front of the other two.
pub(super) fn put_end(out: &mut Vec<u8>, slot: Slot, handle: Handle, at: Offset) {
    put_number(out, slot.as_u32().into());
    put_number(out, handle.as_u64());
    put_offset(out, at);
}

pub(super) fn read_add(payload: &[u8]) -> Result<Lifecycle, Malformed> {
    let mut reader = Reader::new(payload);
    let (slot, handle, first) = read_end(&mut reader)?;
    let relation = reader.number_u32()?;
    let (definition, awaits_snapshot) = read_definition(reader)?;
    Ok(Lifecycle::Add { slot, handle, first, relation, definition, awaits_snapshot })
}

fn read_definition(mut reader: Reader<'_>) -> Result<(ShapeDefinition, bool), Malformed> {
    let table = read_table(&mut reader)?;
    let flags = reader.byte()?;
    if flags & !(CLAUSE | COLUMNS | FULL | PARAMS | AWAITS) != 0 {
        return Err(Malformed("a shape's definition has flags that are unknown"));
    }
    let columns = match flags & COLUMNS {
        0 => None,
        _ => Some((0..reader.count()?).map(|_| reader.text()).collect::<Result<Arc<[_]>, _>>()?),
    };
    let replica = if flags & FULL == 0 { Replica::Default } else { Replica::Full };
    let params = match flags & PARAMS {
        0 => Box::default(),
        _ => (0..reader.count()?).map(|_| read_param(&mut reader)).collect::<Result<_, _>>()?,
    };
    let where_clause = match flags & CLAUSE {
        0 => {
            reader.end()?;
            None
        }
        _ => {
            let clause = std::str::from_utf8(reader.rest());
            Some(clause.map_err(|_| Malformed("a WHERE clause is not UTF-8"))?.into())
        }
    };
    let definition = ShapeDefinition { table, where_clause, params, columns, replica };
    Ok((definition, flags & AWAITS != 0))
}

fn read_param(reader: &mut Reader<'_>) -> Result<Option<Box<str>>, Malformed> {
    match reader.byte()? {
        0 => Ok(None),
        1 => reader.text().map(Some),
        _ => Err(Malformed("a parameter has flags that are unknown")),
    }
}

pub(super) fn read_remove(payload: &[u8]) -> Result<Lifecycle, Malformed> {
    let mut reader = Reader::new(payload);
    let (slot, handle, at) = read_end(&mut reader)?;
    reader.end()?;
    Ok(Lifecycle::Remove { slot, handle, at })
}

pub(super) fn read_invalidate(payload: &[u8]) -> Result<Lifecycle, Malformed> {
    let mut reader = Reader::new(payload);
    let (slot, handle, at) = read_end(&mut reader)?;
    let cause = reader.text()?;
    reader.end()?;
    Ok(Lifecycle::Invalidate { slot, handle, at, cause })
}

fn read_end(reader: &mut Reader<'_>) -> Result<(Slot, Handle, Offset), Malformed> {
    let slot = Slot::new(reader.number_u32()?);
    Ok((slot, Handle::new(reader.number()?), reader.offset()?))
}

fn put_table(out: &mut Vec<u8>, table: &TableName) {
    put_bytes(out, table.schema.as_bytes());
    put_bytes(out, table.name.as_bytes());
}

fn read_table(reader: &mut Reader<'_>) -> Result<TableName, Malformed> {
    Ok(TableName { schema: reader.text()?, name: reader.text()? })
}

pub(super) fn put_relation(out: &mut Vec<u8>, number: u32, relation: &Relation) {
    put_number(out, number.into());
    put_number(out, relation.oid.into());
    put_table(out, &relation.table);
    put_number(out, relation.columns.len() as u64);
    for column in &relation.columns {
        put_bytes(out, column.name.as_bytes());
        put_number(out, column.type_oid.into());
        let key = if column.key { KEY } else { 0 };
        match column.enum_oid {
            None => out.push(key),
            Some(enum_oid) if enum_oid == column.type_oid => out.push(key | ENUM),
            Some(enum_oid) => {
                out.push(key | ENUM_ARRAY);
                put_number(out, enum_oid.into());
            }
        }
    }
}

/// The number of a relation, and the bytes of the relation itself.
pub(super) fn split_relation(payload: &[u8]) -> Result<(u32, &[u8]), Malformed> {
    let mut reader = Reader::new(payload);
    Ok((reader.number_u32()?, reader.rest()))
}

/// The relation in the bytes that follow its number.
pub(super) fn read_relation(bytes: &[u8]) -> Result<Relation, Malformed> {
    let mut reader = Reader::new(bytes);
    let oid = reader.number_u32()?;
    let table = read_table(&mut reader)?;
    let columns = (0..reader.count()?).map(|_| read_column(&mut reader)).collect::<Result<_, _>>();
    let columns = columns?;
    reader.end()?;
    Ok(Relation { oid, table, columns })
}

fn read_column(reader: &mut Reader<'_>) -> Result<Column, Malformed> {
    let name = reader.text()?;
    let type_oid = reader.number_u32()?;
    let flags = reader.byte()?;
    let enum_oid = match flags & !KEY {
        0 => None,
        ENUM => Some(type_oid),
        ENUM_ARRAY => Some(reader.number_u32()?),
        _ => return Err(Malformed("a column has flags that are unknown")),
    };
    Ok(Column { name, type_oid, key: flags & KEY != 0, enum_oid })
}

pub(super) fn put_fragment_head(out: &mut Vec<u8>, head: &FragmentHead) {
    let flag = |set: bool, flag: u8| if set { flag } else { 0 };
    out.push(
        flag(head.begin, BEGIN) | flag(head.opens, OPENS) | flag(head.end_lsn.is_some(), COMMIT),
    );
    put_number(out, head.xid.into());
    put_number(out, head.commit.as_u64());
    if let Some(end) = head.end_lsn {
        // The end follows the commit closely: one byte, nearly always.
        put_number(out, end.as_u64().wrapping_sub(head.commit.as_u64()));
    }
    put_number(out, head.changes.into());
    if head.changes > 0 {
        put_number(out, head.last_op);
    }
}

pub(super) fn read_fragment_head(reader: &mut Reader<'_>) -> Result<FragmentHead, Malformed> {
    let flags = reader.byte()?;
    if flags & !(BEGIN | COMMIT | OPENS) != 0 {
        return Err(Malformed("a fragment has flags that are unknown"));
    }
    let xid = reader.number_u32()?;
    let commit = reader.lsn()?;
    let end_lsn = match flags & COMMIT {
        0 => None,
        _ => Some(Lsn::new(commit.as_u64().wrapping_add(reader.number()?))),
    };
    let changes = reader.number_u32()?;
    let last_op = if changes > 0 { reader.number()? } else { 0 };
    let (begin, opens) = (flags & BEGIN != 0, flags & OPENS != 0);
    Ok(FragmentHead { xid, commit, begin, opens, end_lsn, changes, last_op })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn offset() -> impl Strategy<Value = Offset> {
        (any::<u64>(), any::<u64>()).prop_map(|(commit, op)| Offset::new(Lsn::new(commit), op))
    }

    fn ids() -> impl Strategy<Value = (Slot, Handle)> {
        (any::<u32>(), any::<u64>()).prop_map(|(s, h)| (Slot::new(s), Handle::new(h)))
    }

    proptest! {
        #[test]
        fn lifecycle_records_round_trip(
            (slot, handle) in ids(), at in offset(), schema: String, name: String,
            relation: u32, clause: Option<String>, columns: Option<Vec<String>>, full: bool,
            params: Vec<Option<String>>, cause: String, awaits_snapshot: bool,
        ) {
            let table = TableName::new(&schema, &name);
            let where_clause = clause.map(Into::into);
            let columns = columns.map(|names| names.into_iter().map(Into::into).collect());
            let replica = if full { Replica::Full } else { Replica::Default };
            let params = params.into_iter().map(|value| value.map(Into::into)).collect();
            let definition = ShapeDefinition { table, where_clause, params, columns, replica };
            let mut out = Vec::new();
            put_add(&mut out, (slot, handle), at, relation, (&definition, awaits_snapshot));
            let first = at;
            let add =
                Lifecycle::Add { slot, handle, first, relation, definition, awaits_snapshot };
            prop_assert_eq!(read_add(&out), Ok(add));
            out.clear();
            put_end(&mut out, slot, handle, at);
            prop_assert_eq!(read_remove(&out), Ok(Lifecycle::Remove { slot, handle, at }));
            put_bytes(&mut out, cause.as_bytes());
            let cause = cause.into();
            let invalidate = Lifecycle::Invalidate { slot, handle, at, cause };
            prop_assert_eq!(read_invalidate(&out), Ok(invalidate));
        }

        #[test]
        fn relations_and_fragment_heads_round_trip(
            number: u32, oid: u32, name: String, columns: Vec<(String, u32, bool, u8)>,
            xid: u32, lsns: (u64, Option<u64>), flags: (bool, bool), counts: (u32, u64),
        ) {
            let column = |(name, oid, key, kind): &(String, u32, bool, u8)| match kind % 3 {
                0 => Column::new(name, *oid, *key),
                1 => Column::of_enum(name, *oid, *key),
                _ => Column::of_enum_array(name, *oid, number, *key),
            };
            let columns = columns.iter().map(column).collect();
            let relation = Relation::new(oid, TableName::new("s", &name), columns);
            let mut out = Vec::new();
            put_relation(&mut out, number, &relation);
            let (known, bytes) = split_relation(&out).unwrap();
            prop_assert_eq!((known, read_relation(bytes)), (number, Ok(relation)));
            let head = FragmentHead {
                xid,
                commit: Lsn::new(lsns.0),
                begin: flags.0,
                opens: flags.1,
                end_lsn: lsns.1.map(Lsn::new),
                changes: counts.0,
                last_op: if counts.0 > 0 { counts.1 } else { 0 },
            };
            out.clear();
            put_fragment_head(&mut out, &head);
            let mut reader = Reader::new(&out);
            prop_assert_eq!(read_fragment_head(&mut reader), Ok(head));
            prop_assert_eq!(reader.end(), Ok(()));
        }
    }
}
