//! Thinned: what the first file of a log says of itself when it stands in the place of several that
//! were thinned, and where the log of each shape begins that has lost something by that.

use super::decode::Damage;
use super::device::ReadAt;
use super::frame::{self, Kind};
use super::header::HEADER_BYTES;
use super::scan::{Scanner, Step};
use super::survey::Flaw;
use super::wire::{Malformed, Reader, put_number, put_offset};
use crate::words::{Handle, Lsn, Offset, Slot};
use roaring::RoaringBitmap;
use std::collections::BTreeMap;
use std::ops::Range;

/// The record at the front of the file. The same record is its last one: a file without it was cut
/// short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Thinned {
    /// The last of the files in whose place it stands, and the position where the next one begins.
    pub(super) last: u32,
    pub(super) next: u64,
    /// The number of the last batch of these.
    pub(super) seq: u64,
    /// The last commit in them.
    pub(super) last_commit: Lsn,
    /// The lowest slot that was not given out in them, and the highest handle that was.
    pub(super) next_slot: u32,
    pub(super) max_handle: Option<Handle>,
}

impl Thinned {
    /// Appends the record.
    pub(super) fn put(&self, out: &mut Vec<u8>, seed: u32) -> Result<(), u64> {
        let start = frame::open(out);
        put_number(out, self.last.into());
        put_number(out, self.next);
        put_number(out, self.seq);
        put_number(out, self.last_commit.as_u64());
        put_number(out, self.next_slot.into());
        out.push(u8::from(self.max_handle.is_some()));
        self.max_handle.iter().for_each(|handle| put_number(out, handle.as_u64()));
        frame::close(out, start, Kind::Thinned, seed)
    }

    pub(super) fn read(payload: &[u8]) -> Result<Thinned, Malformed> {
        let mut reader = Reader::new(payload);
        let (last, next) = (reader.number_u32()?, reader.number()?);
        let (seq, last_commit) = (reader.number()?, reader.lsn()?);
        let next_slot = reader.number_u32()?;
        let max_handle = match reader.byte()? {
            0 => None,
            1 => Some(Handle::new(reader.number()?)),
            _ => return Err(Malformed("a thinned file has flags that are unknown")),
        };
        reader.end()?;
        Ok(Thinned { last, next, seq, last_commit, next_slot, max_handle })
    }
}

/// By where their log begins, the slots that were cut. A slot is in one set at most.
pub(super) type Starts = BTreeMap<Offset, RoaringBitmap>;

/// Where the log of each shape begins that was cut: everything of it at or below its start is gone,
/// and everything above is there. Eight bytes for a shape that was cut, and 16 for each start.
#[derive(Debug, Default)]
pub(super) struct Cuts {
    /// By slot; the index of its start.
    slots: Box<[(u32, u32)]>,
    starts: Box<[Offset]>,
}

impl Cuts {
    pub(super) fn new(starts: &Starts) -> Cuts {
        let mut slots = Vec::new();
        for (index, set) in starts.values().enumerate() {
            slots.extend(set.iter().map(|slot| (slot, index as u32)));
        }
        slots.sort_unstable();
        Cuts { slots: slots.into(), starts: starts.keys().copied().collect() }
    }

    /// Where the log of `slot` begins, if it was cut.
    pub(super) fn start_of(&self, slot: Slot) -> Option<Offset> {
        let found = self.slots.binary_search_by_key(&slot.as_u32(), |(slot, _)| *slot).ok()?;
        let (_, start) = self.slots.get(found)?;
        self.starts.get(*start as usize).copied()
    }

    /// The number of shapes that were cut.
    pub(super) fn len(&self) -> u64 {
        self.slots.len() as u64
    }

    /// The sets of those of `living` that `newly` does not cut again, with `newly`.
    pub(super) fn with(&self, newly: Starts, living: &RoaringBitmap) -> Starts {
        let again: RoaringBitmap = newly.values().flatten().collect();
        let mut starts = newly;
        for &(slot, start) in &self.slots {
            if let Some(&start) = self.starts.get(start as usize)
                && living.contains(slot)
                && !again.contains(slot)
            {
                starts.entry(start).or_default().insert(slot);
            }
        }
        starts
    }
}

/// What lies around the blocks of a thinned file.
pub(super) struct Front {
    pub(super) starts: Starts,
    /// Where its blocks lie.
    pub(super) bytes: Range<u64>,
}

impl Front {
    /// Reads what is around the blocks of the thinned file at the front of `log`, which says
    /// `thinned` of itself and has `len` bytes.
    pub(super) fn read(
        log: &dyn ReadAt,
        seed: u32,
        thinned: &Thinned,
        len: u64,
    ) -> Result<Front, Flaw> {
        let damaged = |position, reason| Flaw::Damaged(Damage { position, reason });
        let mut record = Vec::new();
        thinned.put(&mut record, seed).map_err(|_| damaged(0, Malformed("it is too large")))?;
        let first = HEADER_BYTES as u64 + record.len() as u64;
        let end = len.checked_sub(record.len() as u64).filter(|end| *end >= first);
        let missing = Malformed("the file was thinned, and its end is missing");
        let end = end.ok_or_else(|| damaged(len, missing))?;
        let mut found = vec![0; record.len()];
        log.read_at(&mut found, end).map_err(Flaw::Read)?;
        if found != record {
            return Err(damaged(end, missing));
        }
        let (mut starts, mut scanner) = (Starts::new(), Scanner::new(log, seed, first, end));
        let start = loop {
            let position = scanner.position();
            match scanner.next().map_err(Flaw::Read)? {
                Step::Frame(position, frame) if frame.kind() == Ok(Kind::Cut) => {
                    let cut =
                        read_cut(frame.payload).map_err(|reason| damaged(position, reason))?;
                    starts.extend([cut]);
                }
                // What it is instead is found out by who reads on there.
                Step::Frame(..) | Step::End | Step::Bad => break position,
            }
        };
        Ok(Front { starts, bytes: start..end })
    }
}

/// Appends a record for each start.
pub(super) fn put_starts(out: &mut Vec<u8>, starts: &Starts, seed: u32) -> Result<(), u64> {
    for (start, slots) in starts {
        let frame = frame::open(out);
        put_offset(out, *start);
        slots.serialize_into(&mut *out).expect("a Vec takes all that is written to it");
        frame::close(out, frame, Kind::Cut, seed)?;
    }
    Ok(())
}

pub(super) fn read_cut(payload: &[u8]) -> Result<(Offset, RoaringBitmap), Malformed> {
    let mut reader = Reader::new(payload);
    let start = reader.offset()?;
    let mut bytes = reader.rest();
    let slots = RoaringBitmap::deserialize_from(&mut bytes)
        .map_err(|_| Malformed("a set of cut slots is no roaring bitmap"))?;
    Reader::new(bytes).end()?;
    Ok((start, slots))
}

#[cfg(test)]
mod tests {
    use super::super::frame::{Parsed, parse};
    use super::*;
    use proptest::prelude::*;

    fn start(commit: u64) -> Offset {
        Offset::new(Lsn::new(commit), 2)
    }

    #[test]
    fn a_slot_that_is_cut_again_leaves_its_set_and_one_that_is_gone_too() {
        let first = Starts::from([
            (start(5), RoaringBitmap::from_iter([1, 2, 3])),
            (start(6), RoaringBitmap::from_iter([4])),
        ]);
        let cuts = Cuts::new(&first);
        let newly = Starts::from([(start(9), RoaringBitmap::from_iter([2, 4, 70_000]))]);
        let all = cuts.with(newly, &RoaringBitmap::from_iter([1, 2, 4, 70_000]));
        let expected = Starts::from([
            (start(5), RoaringBitmap::from_iter([1])),
            (start(9), RoaringBitmap::from_iter([2, 4, 70_000])),
        ]);
        assert_eq!(all, expected);
        let cuts = Cuts::new(&all);
        let found = [0, 1, 2, 3, 4, 70_000].map(|slot| cuts.start_of(Slot::new(slot)));
        let (five, nine) = (Some(start(5)), Some(start(9)));
        assert_eq!((found, cuts.len()), ([None, five, nine, None, nine, nine], 4));
        let mut out = Vec::new();
        put_starts(&mut out, &all, 7).unwrap();
        let mut read = Starts::new();
        while let Parsed::Frame(frame) = parse(&out, 7) {
            assert_eq!(frame.kind(), Ok(Kind::Cut));
            read.extend([read_cut(frame.payload).unwrap()]);
            out.drain(..frame.len());
        }
        assert_eq!(read, all);
    }

    proptest! {
        #[test]
        fn the_record_of_a_front_round_trips(
            last: u32, numbers: [u64; 3], next_slot: u32, handle: Option<u64>,
        ) {
            let [next, seq, last_commit] = numbers;
            let (last_commit, max_handle) = (Lsn::new(last_commit), handle.map(Handle::new));
            let thinned = Thinned { last, next, seq, last_commit, next_slot, max_handle };
            let mut out = Vec::new();
            thinned.put(&mut out, 7).unwrap();
            let Parsed::Frame(frame) = parse(&out, 7) else { panic!("not a frame") };
            prop_assert_eq!(Thinned::read(frame.payload), Ok(thinned));
            let cut = |len| Thinned::read(&frame.payload[..len]) != Ok(thinned);
            prop_assert!((0..frame.payload.len()).all(cut));
        }

        #[test]
        fn no_bytes_make_it_panic(payload: Vec<u8>) {
            let _ = (Thinned::read(&payload), read_cut(&payload));
        }
    }
}
