//! Chunk: the bytes of one of a snapshot's files, to rows and back. It trusts nothing: a chunk is
//! whole and of this shape, attempt and number, or it is damage.

use super::{PgSnapshot, Snapshot};
use crate::log::{Malformed, Reader, checksum, put_number};
use crate::words::{
    Cell, Change, Fragment, FragmentParts, Handle, Lsn, Operation, Relation, RowSpan, Value,
};
use std::sync::Arc;

const MAGIC: [u8; 8] = *b"walfan-R";
const VERSION: u64 = 1;
const CRC_BYTES: usize = 4;
const HEAD_BYTES: usize = MAGIC.len() + CRC_BYTES;

/// A value's number: these two as in a log's rows, else its length and 2.
const NULL_CELL: u64 = 0;
const TEXT_CELL: u64 = 2;

/// Bytes that were durable and are not what was written.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{file}: {reason}; nothing was changed; restore the directory from a copy")]
pub(crate) struct SnapshotDamage {
    pub(crate) file: String,
    pub(crate) reason: Malformed,
}

/// Which file it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct ChunkId {
    pub(super) handle: Handle,
    pub(super) attempt: u64,
    pub(super) number: u32,
}

/// Appends one value.
pub(super) fn put_value(out: &mut Vec<u8>, value: Option<&[u8]>) {
    match value {
        None => put_number(out, NULL_CELL),
        Some(text) => {
            put_number(out, TEXT_CELL + text.len() as u64);
            out.extend_from_slice(text);
        }
    }
}

/// A chunk of `rows` rows whose values are `values`. `last`: with what the last one says of all.
pub(super) fn to_bytes(
    id: ChunkId,
    seed: u32,
    (rows, values): (u32, &[u8]),
    last: Option<&Snapshot>,
) -> Vec<u8> {
    let mut out = Vec::with_capacity(values.len() + 128);
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&[0; CRC_BYTES]);
    put_number(&mut out, VERSION);
    put_number(&mut out, id.handle.as_u64());
    put_number(&mut out, id.attempt);
    put_number(&mut out, id.number.into());
    put_number(&mut out, rows.into());
    out.push(u8::from(last.is_some()));
    if let Some(snapshot) = last {
        put_snapshot(&mut out, snapshot);
    }
    out.extend_from_slice(values);
    let crc = checksum(&out[HEAD_BYTES..], seed).to_le_bytes();
    out[MAGIC.len()..HEAD_BYTES].copy_from_slice(&crc);
    out
}

/// What is known of a complete snapshot.
pub(crate) fn put_snapshot(out: &mut Vec<u8>, snapshot: &Snapshot) {
    put_number(out, snapshot.attempt);
    put_number(out, snapshot.chunks.into());
    put_number(out, snapshot.rows);
    put_number(out, snapshot.bytes);
    put_number(out, snapshot.taken_at.as_u64());
    let shown = &snapshot.shown;
    put_number(out, shown.xmin());
    put_number(out, shown.xmax());
    put_number(out, shown.running().len() as u64);
    shown.running().iter().for_each(|xid| put_number(out, *xid));
}

pub(crate) fn read_snapshot(reader: &mut Reader<'_>) -> Result<Snapshot, Malformed> {
    let attempt = reader.number()?;
    let chunks = reader.number_u32()?;
    let (rows, bytes) = (reader.number()?, reader.number()?);
    let taken_at = reader.lsn()?;
    let (xmin, xmax) = (reader.number()?, reader.number()?);
    let running = (0..reader.count()?).map(|_| reader.number()).collect::<Result<Vec<_>, _>>()?;
    let shown = PgSnapshot::new(xmin, xmax, running);
    let shown = shown.map_err(|_| Malformed("it names a Postgres snapshot that cannot be"))?;
    Ok(Snapshot { shown: Arc::new(shown), taken_at, rows, bytes, attempt, chunks })
}

/// What lies in front of a chunk's values.
struct Head<'a> {
    rows: u32,
    last: Option<Snapshot>,
    values: Reader<'a>,
}

fn head(bytes: &[u8], id: ChunkId, seed: u32) -> Result<Head<'_>, Malformed> {
    let (&magic, rest) = bytes.split_first_chunk().ok_or(Malformed("it is too short"))?;
    let (&crc, rest) = rest.split_first_chunk().ok_or(Malformed("it is too short"))?;
    if magic != MAGIC {
        return Err(Malformed("it is no file of a snapshot"));
    }
    if checksum(rest, seed) != u32::from_le_bytes(crc) {
        return Err(Malformed("its checksum is wrong, or it is from another directory"));
    }
    let mut reader = Reader::new(rest);
    if reader.number()? != VERSION {
        return Err(Malformed("another version of walfan made it"));
    }
    let handle = Handle::new(reader.number()?);
    if id != (ChunkId { handle, attempt: reader.number()?, number: reader.number_u32()? }) {
        return Err(Malformed("it has the name of another one"));
    }
    let rows = reader.number_u32()?;
    let last = match reader.byte()? {
        0 => None,
        1 => Some(read_snapshot(&mut reader)?),
        _ => Err(Malformed("it has flags that are unknown"))?,
    };
    Ok(Head { rows, last, values: reader })
}

/// What a last chunk says of its snapshot.
pub(super) fn snapshot_of(bytes: &[u8], id: ChunkId, seed: u32) -> Result<Snapshot, Malformed> {
    let snapshot = head(bytes, id, seed)?.last.ok_or(Malformed("it is not the last one"))?;
    let is_its = (snapshot.attempt, snapshot.chunks) == (id.attempt, id.number.wrapping_add(1));
    is_its.then_some(snapshot).ok_or(Malformed("it speaks of another snapshot"))
}

/// The rows, as the inserts of a fragment that belongs to no transaction.
pub(super) fn rows_of(
    bytes: &[u8],
    id: ChunkId,
    seed: u32,
    relation: &Arc<Relation>,
) -> Result<Fragment, Malformed> {
    let Head { rows, mut values, .. } = head(bytes, id, seed)?;
    let columns = relation.columns.len();
    let mut parts = FragmentParts { relations: vec![Arc::clone(relation)], ..Default::default() };
    // A row of a table without columns takes no byte; nothing is reserved for it.
    for row in 0..rows {
        let first = parts.cells.len() as u32;
        for _ in 0..columns {
            parts.cells.push(read_value(&mut values, &mut parts.data)?);
        }
        let new = Some(RowSpan { first, len: columns as u32 });
        let (operation, op) = (Operation::Insert, u64::from(row));
        parts.changes.push(Change { op, operation, relation: 0, old: None, new });
    }
    values.end()?;
    Ok(Fragment::from_parts(FragmentParts { commit_lsn: Lsn::ZERO, ..parts }))
}

fn read_value(values: &mut Reader<'_>, data: &mut Vec<u8>) -> Result<Cell, Malformed> {
    let number = values.number()?;
    let Some(len) = number.checked_sub(TEXT_CELL) else {
        return if number == NULL_CELL {
            Ok(Cell::NULL)
        } else {
            Err(Malformed("a value is left out"))
        };
    };
    let len = usize::try_from(len).map_err(|_| Malformed("a length passes the record's end"))?;
    let (start, text) = (data.len() as u32, values.take(len)?);
    data.extend_from_slice(text);
    match data.len() < Cell::UNCHANGED.len as usize {
        true => Ok(Cell { start, len: len as u32 }),
        false => Err(Malformed("its values pass 4 GiB")),
    }
}

/// The text of a value that a row may have.
pub(super) fn text_of(value: Value<'_>) -> Result<Option<&[u8]>, ()> {
    match value {
        Value::Null => Ok(None),
        Value::Text(text) => Ok(Some(text)),
        Value::Unchanged => Err(()),
    }
}
