//! pgoutput: decodes one message of Postgres's logical replication protocol, version 1.
//!
//! Bytes in, borrowed [`Message`]s out: nothing is copied and nothing is allocated for a row. Any
//! bytes give a message or an error, never a panic. What the messages mean together is the
//! assembler's business.

mod error;
mod read;
#[cfg(test)]
mod tests;
mod tuple;

pub use error::DecodeError;

pub(crate) use tuple::Tuple;

use crate::words::Lsn;
use read::Reader;

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Message<'a> {
    /// A transaction begins; its commit LSN is known already.
    Begin { commit_lsn: Lsn, xid: u32 },
    /// It ends.
    Commit { commit_lsn: Lsn, end_lsn: Lsn },
    /// It came here from another server.
    Origin { name: &'a str },
    /// How the rows that follow look.
    Relation(RelationMessage<'a>),
    /// A type that is not built in, by name.
    Type { oid: u32 },
    /// A row came.
    Insert { relation: u32, new: Tuple<'a> },
    /// A row changed.
    Update { relation: u32, old: Option<OldTuple<'a>>, new: Tuple<'a> },
    /// A row went.
    Delete { relation: u32, old: OldTuple<'a> },
    /// All rows of some relations went.
    Truncate { relations: Oids<'a> },
}

/// What Postgres sent of the row before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum OldTuple<'a> {
    /// Its key only; the other columns are NULL here.
    Key(Tuple<'a>),
    /// All of it: the table has REPLICA IDENTITY FULL.
    Full(Tuple<'a>),
}

/// A table, as it looks to the rows that follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RelationMessage<'a> {
    pub(crate) oid: u32,
    pub(crate) schema: &'a str,
    pub(crate) name: &'a str,
    pub(crate) columns: Vec<ColumnMessage<'a>>,
}

/// One column of a [`RelationMessage`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ColumnMessage<'a> {
    pub(crate) name: &'a str,
    pub(crate) type_oid: u32,
}

/// A list of relation OIDs as it lies in the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Oids<'a>(&'a [u8]);

impl<'a> Oids<'a> {
    /// The OIDs, in order.
    pub(crate) fn iter(self) -> impl Iterator<Item = u32> + use<'a> {
        self.0.chunks_exact(4).filter_map(|oid| Some(u32::from_be_bytes(*oid.first_chunk()?)))
    }
}

/// Decodes the one message that `bytes` hold.
pub(crate) fn decode(bytes: &[u8]) -> Result<Message<'_>, DecodeError> {
    let mut reader = Reader::new(bytes);
    let message = match reader.tag()? {
        b'B' => begin(&mut reader)?,
        b'C' => commit(&mut reader)?,
        b'O' => origin(&mut reader)?,
        b'R' => Message::Relation(relation(&mut reader)?),
        b'Y' => type_name(&mut reader)?,
        b'I' => insert(&mut reader)?,
        b'U' => update(&mut reader)?,
        b'D' => delete(&mut reader)?,
        b'T' => truncate(&mut reader)?,
        tag => return Err(DecodeError::UnknownMessage { tag: tag.into() }),
    };
    reader.finish()?;
    Ok(message)
}

fn begin<'a>(reader: &mut Reader<'a>) -> Result<Message<'a>, DecodeError> {
    let commit_lsn = Lsn::new(reader.u64("commit LSN")?);
    reader.u64("commit time")?;
    Ok(Message::Begin { commit_lsn, xid: reader.u32("xid")? })
}

fn commit<'a>(reader: &mut Reader<'a>) -> Result<Message<'a>, DecodeError> {
    reader.u8("flags")?;
    let commit_lsn = Lsn::new(reader.u64("commit LSN")?);
    let end_lsn = Lsn::new(reader.u64("end LSN")?);
    reader.u64("commit time")?;
    Ok(Message::Commit { commit_lsn, end_lsn })
}

fn origin<'a>(reader: &mut Reader<'a>) -> Result<Message<'a>, DecodeError> {
    reader.u64("origin LSN")?;
    Ok(Message::Origin { name: reader.text("origin name")? })
}

fn type_name<'a>(reader: &mut Reader<'a>) -> Result<Message<'a>, DecodeError> {
    let oid = reader.u32("type OID")?;
    reader.text("type schema")?;
    reader.text("type name")?;
    Ok(Message::Type { oid })
}

fn relation<'a>(reader: &mut Reader<'a>) -> Result<RelationMessage<'a>, DecodeError> {
    let oid = reader.u32("relation OID")?;
    // Postgres leaves the schema out where it is the system's.
    let schema = match reader.text("schema")? {
        "" => "pg_catalog",
        schema => schema,
    };
    let name = reader.text("table name")?;
    reader.u8("replica identity")?;
    let count = reader.u16("number of columns")?;
    let columns = (0..count).map(|_| column(reader)).collect::<Result<_, _>>()?;
    Ok(RelationMessage { oid, schema, name, columns })
}

fn column<'a>(reader: &mut Reader<'a>) -> Result<ColumnMessage<'a>, DecodeError> {
    reader.u8("column flags")?;
    let name = reader.text("column name")?;
    let type_oid = reader.u32("column type")?;
    reader.u32("type modifier")?;
    Ok(ColumnMessage { name, type_oid })
}

fn insert<'a>(reader: &mut Reader<'a>) -> Result<Message<'a>, DecodeError> {
    let relation = reader.u32("relation OID")?;
    new_marker(reader.u8("tuple kind")?)?;
    Ok(Message::Insert { relation, new: Tuple::read(reader)? })
}

fn update<'a>(reader: &mut Reader<'a>) -> Result<Message<'a>, DecodeError> {
    let relation = reader.u32("relation OID")?;
    let old = match reader.u8("tuple kind")? {
        b'N' => None,
        kind => {
            let old = old_tuple(reader, kind)?;
            new_marker(reader.u8("tuple kind")?)?;
            Some(old)
        }
    };
    Ok(Message::Update { relation, old, new: Tuple::read(reader)? })
}

fn delete<'a>(reader: &mut Reader<'a>) -> Result<Message<'a>, DecodeError> {
    let relation = reader.u32("relation OID")?;
    let kind = reader.u8("tuple kind")?;
    Ok(Message::Delete { relation, old: old_tuple(reader, kind)? })
}

fn old_tuple<'a>(reader: &mut Reader<'a>, kind: u8) -> Result<OldTuple<'a>, DecodeError> {
    match kind {
        b'K' => Ok(OldTuple::Key(Tuple::read(reader)?)),
        b'O' => Ok(OldTuple::Full(Tuple::read(reader)?)),
        kind => Err(DecodeError::UnknownTuple { kind: kind.into() }),
    }
}

fn new_marker(kind: u8) -> Result<(), DecodeError> {
    if kind == b'N' { Ok(()) } else { Err(DecodeError::UnknownTuple { kind: kind.into() }) }
}

fn truncate<'a>(reader: &mut Reader<'a>) -> Result<Message<'a>, DecodeError> {
    let count = reader.u32("number of relations")?;
    reader.u8("truncate options")?;
    let length = (count as usize).saturating_mul(4);
    Ok(Message::Truncate { relations: Oids(reader.bytes(length, "relation OIDs")?) })
}
