//! Records: what one slot has in a block, without the rest of the block: the records that its
//! postings name are read and decoded, one by one.

use super::decode::{Chunk, Damage, Decoder};
use super::frame::{self, Kind, Parsed};
use super::index::View;
use super::record::{read_relation, split_relation};
use super::store::{Log, LogError};
use super::wire::Malformed;
use crate::words::Slot;
use roaring::RoaringBitmap;
use std::sync::Arc;

/// So much is read at once: most records are smaller.
const READ_BYTES: u64 = 4 << 10;

/// Reads what the block of `view`, whose relations lie at `known_relations`, holds for `slot` at
/// `places`, as far as it can be read.
pub(super) fn read(
    log: &Log,
    view: &View,
    known_relations: &[u32],
    slot: Slot,
    places: &[u32],
) -> Result<Chunk, LogError> {
    let mut relations = Vec::with_capacity(known_relations.len());
    // The block may have grown since it was looked up: what is behind its end then is readable
    // later.
    let held = |place: &&u32| u64::from(**place) < view.len;
    for (number, &place) in known_relations.iter().take_while(held).enumerate() {
        let relation = record(log, view, place, Kind::Relation, |payload| {
            let (known, bytes) = split_relation(payload)?;
            match known as usize == number {
                true => read_relation(bytes),
                false => Err(Malformed("relation numbers do not rise by 1")),
            }
        })?;
        relations.push(Arc::new(relation.0));
    }
    let decoder = Decoder::with_relations(relations);
    let (mut entries, mut bytes) = (Vec::new(), 0);
    for &place in places.iter().take_while(held) {
        if view.limit.is_void(view.position + u64::from(place)) {
            continue;
        }
        let (logged, len) = record(log, view, place, Kind::Fragment, |payload| {
            decoder.fragment_for(payload, view.limit.readable, slot)
        })?;
        bytes += len;
        // In order: what follows cannot be read either.
        let Some(logged) = logged else { break };
        entries.push(logged);
    }
    let touched = RoaringBitmap::from_iter([slot.as_u32()]);
    Ok(Chunk { entries, from: view.from, through: view.through, touched, bytes })
}

/// Reads the record of `kind` at `place` in the block, and its length.
fn record<T>(
    log: &Log,
    view: &View,
    place: u32,
    kind: Kind,
    read: impl FnOnce(&[u8]) -> Result<T, Malformed>,
) -> Result<(T, u64), LogError> {
    let position = view.position + u64::from(place);
    let damaged = |reason| log.damaged(Damage { position, reason });
    let left = view.len.saturating_sub(place.into());
    let mut bytes = log.bytes_at(position, left.min(READ_BYTES))?;
    let len = frame::frame_len(&bytes).unwrap_or_default();
    if len > left {
        return Err(damaged(Malformed("a record passes the end of its block")));
    }
    if len > bytes.len() as u64 {
        bytes = log.bytes_at(position, len)?;
    }
    let Parsed::Frame(frame) = frame::parse(&bytes, log.seed()) else {
        return Err(damaged(Malformed("the checksum of a record is wrong")));
    };
    if frame.kind().map_err(damaged)? != kind {
        return Err(damaged(Malformed("a record is not of the kind that was written there")));
    }
    Ok((read(frame.payload).map_err(damaged)?, frame.len() as u64))
}
