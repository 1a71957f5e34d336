//! Entry: what the catalog holds of one shape, to bytes and back.

use crate::log::{Malformed, Reader, checksum, put_definition, put_number, put_offset};
use crate::snapshot::{Initial, Snapshot, put_snapshot, read_snapshot};
use crate::words::{Offset, ShapeDefinition, Slot};

/// It begins with its log; its initial rows are not complete; they are.
const PLAIN: u8 = 0;
const AWAITED: u8 = 1;
const COMPLETE: u8 = 2;

/// What is known of a living shape.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry<'a> {
    pub(crate) shard: u32,
    pub(crate) slot: Slot,
    /// Everything after it is the shape's.
    pub(crate) first: Offset,
    pub(crate) definition: &'a ShapeDefinition,
    pub(crate) initial: &'a Initial,
}

impl Entry<'_> {
    /// CRC32C of what follows, shard, slot, first offset, state, the snapshot where the state is
    /// that it is complete, definition.
    pub(super) fn to_bytes(self) -> Vec<u8> {
        let mut out = vec![0; CRC_BYTES];
        put_number(&mut out, self.shard.into());
        put_number(&mut out, self.slot.as_u32().into());
        put_offset(&mut out, self.first);
        match self.initial {
            Initial::None => out.push(PLAIN),
            Initial::Awaited => out.push(AWAITED),
            Initial::Complete(snapshot) => {
                out.push(COMPLETE);
                put_snapshot(&mut out, snapshot);
            }
        }
        put_definition(&mut out, self.definition);
        let crc = checksum(&out[CRC_BYTES..], 0).to_le_bytes();
        out[..CRC_BYTES].copy_from_slice(&crc);
        out
    }
}

const CRC_BYTES: usize = 4;

/// The complete snapshot that an entry names, if `bytes` are an entry's, unchanged.
pub(super) fn read(bytes: &[u8]) -> Result<Option<Snapshot>, Malformed> {
    let (&crc, rest) =
        bytes.split_first_chunk::<CRC_BYTES>().ok_or(Malformed("an entry is too short"))?;
    if checksum(rest, 0) != u32::from_le_bytes(crc) {
        return Err(Malformed("the checksum of an entry is wrong"));
    }
    let mut reader = Reader::new(rest);
    reader.number_u32()?;
    reader.number_u32()?;
    reader.offset()?;
    match reader.byte()? {
        PLAIN | AWAITED => Ok(None),
        COMPLETE => read_snapshot(&mut reader).map(Some),
        _ => Err(Malformed("an entry's state is unknown")),
    }
}
