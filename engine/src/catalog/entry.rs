//! Entry: what the catalog holds of one shape, to bytes and back.

use crate::log::{Malformed, Reader, checksum, put_definition, put_number, put_offset};
use crate::words::{Offset, ShapeDefinition, Slot};

/// Its log is all that it needs.
const PLAIN: u8 = 0;

/// What is known of a living shape.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry<'a> {
    pub(crate) shard: u32,
    pub(crate) slot: Slot,
    /// Everything after it is the shape's.
    pub(crate) first: Offset,
    pub(crate) definition: &'a ShapeDefinition,
}

impl Entry<'_> {
    /// crc32 of what follows, shard, slot, first offset, state, definition.
    pub(super) fn to_bytes(self) -> Vec<u8> {
        let mut out = vec![0; CRC_BYTES];
        put_number(&mut out, self.shard.into());
        put_number(&mut out, self.slot.as_u32().into());
        put_offset(&mut out, self.first);
        out.push(PLAIN);
        put_definition(&mut out, self.definition);
        let crc = checksum(&out[CRC_BYTES..], 0).to_le_bytes();
        out[..CRC_BYTES].copy_from_slice(&crc);
        out
    }
}

const CRC_BYTES: usize = 4;

/// Whether `bytes` are an entry's, unchanged.
pub(super) fn check(bytes: &[u8]) -> Result<(), Malformed> {
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
        PLAIN => Ok(()),
        _ => Err(Malformed("an entry's state is unknown")),
    }
}
