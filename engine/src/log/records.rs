//! Records: what one slot has in a block, without the rest of the block: the records that its
//! postings name are read and decoded, one by one.

use super::decode::{Chunk, Damage, Decoder};
use super::frame::{self, Kind, Parsed};
use super::index::View;
use super::record::{read_relation, split_relation};
use super::store::{Log, LogError};
use super::wire::Malformed;
use crate::words::{Relation, Slot};
use roaring::RoaringBitmap;
use std::sync::Arc;

/// So much is read at once, or as much as the last record of the slot took, if that is not too much
/// either: most records are smaller, or as large as others of their log.
const READ_BYTES: u64 = 4 << 10;
const READ_BYTES_MAX: u64 = 64 << 10;
/// And of a relation: most have few columns.
const READ_BYTES_RELATION: u64 = 512;

/// What a call that reads in many blocks carries from one to the next.
#[derive(Default)]
pub(super) struct Scratch {
    /// As long as the longest that was read.
    bytes: Vec<u8>,
    /// The length of the last fragment record.
    last_len: u64,
    /// The last relation, and its record's payload without its number: most blocks have the same.
    relation: Option<(Box<[u8]>, Arc<Relation>)>,
}

impl Scratch {
    /// Reads `len` bytes at `position`.
    fn fill(&mut self, log: &Log, position: u64, len: u64) -> Result<&[u8], LogError> {
        let len = len as usize;
        if self.bytes.len() < len {
            self.bytes.resize(len, 0);
        }
        log.fill(&mut self.bytes[..len], position)?;
        Ok(&self.bytes[..len])
    }
}

/// Reads what the block of `view`, whose relations lie at `known_relations`, holds for `slot` at
/// `places`, as far as it can be read.
pub(super) fn read(
    log: &Log,
    view: &View,
    known_relations: &[u32],
    slot: Slot,
    places: &[u32],
    scratch: &mut Scratch,
) -> Result<Chunk, LogError> {
    let mut relations = Vec::with_capacity(known_relations.len());
    // The block may have grown since it was looked up: what is behind its end then is readable
    // later.
    let held = |place: &&u32| u64::from(**place) < view.len;
    for (number, &place) in known_relations.iter().take_while(held).enumerate() {
        let mut last = scratch.relation.take();
        let what = (place, Kind::Relation, READ_BYTES_RELATION);
        let (relation, _) = record(log, view, what, scratch, |payload| {
            let (known, bytes) = split_relation(payload)?;
            if known as usize != number {
                return Err(Malformed("relation numbers do not rise by 1"));
            }
            match last.take() {
                Some(last) if *last.0 == *bytes => Ok(last),
                _ => Ok((bytes.into(), Arc::new(read_relation(bytes)?))),
            }
        })?;
        relations.push(Arc::clone(&relation.1));
        scratch.relation = Some(relation);
    }
    let decoder = Decoder::with_relations(relations);
    let (mut entries, mut bytes) = (Vec::new(), 0);
    for &place in places.iter().take_while(held) {
        if view.limit.is_void(view.position + u64::from(place)) {
            continue;
        }
        let expected = scratch.last_len.clamp(READ_BYTES, READ_BYTES_MAX);
        let what = (place, Kind::Fragment, expected);
        let (logged, len) = record(log, view, what, scratch, |payload| {
            decoder.fragment_for(payload, view.limit.readable, slot)
        })?;
        scratch.last_len = len;
        bytes += len;
        // In order: what follows cannot be read either.
        let Some(logged) = logged else { break };
        entries.push(logged);
    }
    let touched = RoaringBitmap::from_iter([slot.as_u32()]);
    Ok(Chunk { entries, from: view.from, through: view.through, touched, bytes })
}

/// Reads the record of `kind` at `place` in the block, which is `expected` bytes long at most as it
/// seems, and its length.
fn record<T>(
    log: &Log,
    view: &View,
    (place, kind, expected): (u32, Kind, u64),
    scratch: &mut Scratch,
    read: impl FnOnce(&[u8]) -> Result<T, Malformed>,
) -> Result<(T, u64), LogError> {
    let position = view.position + u64::from(place);
    let damaged = |reason| log.damaged(Damage { position, reason });
    let left = view.len.saturating_sub(place.into());
    let mut bytes = scratch.fill(log, position, left.min(expected))?;
    let len = frame::frame_len(bytes).unwrap_or_default();
    if len > left {
        return Err(damaged(Malformed("a record passes the end of its block")));
    }
    if len > bytes.len() as u64 {
        bytes = scratch.fill(log, position, len)?;
    }
    let Parsed::Frame(frame) = frame::parse(bytes, log.seed()) else {
        return Err(damaged(Malformed("the checksum of a record is wrong")));
    };
    if frame.kind().map_err(damaged)? != kind {
        return Err(damaged(Malformed("a record is not of the kind that was written there")));
    }
    Ok((read(frame.payload).map_err(damaged)?, frame.len() as u64))
}
