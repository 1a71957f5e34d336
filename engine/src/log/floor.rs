//! Floor: the acknowledgement floor (R13). Before Postgres is told that it may forget what lies
//! below an LSN, a floor at or above that LSN is durable here; a slot beyond the floor at the next
//! start is then not ours.

use super::frame::checksum;
use crate::words::Lsn;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

const MAGIC: [u8; 8] = *b"walfan-F";
const SLOT_BYTES: usize = 20;
/// The two slots lie in different pages of any disk: a torn write spoils one of them.
const SLOT_STRIDE: u64 = 4096;
pub(super) const FLOOR_BYTES: usize = SLOT_STRIDE as usize + SLOT_BYTES;

/// The floor's file cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum FloorError {
    /// It cannot be read or synced.
    #[error("{file}: {source}")]
    Io { file: String, source: io::Error },
    /// None of its two slots is whole; a torn write spoils one at most.
    #[error(
        "{file}: damaged, or from another directory; restore the directory from a copy, or start \
         with an empty one"
    )]
    Damaged { file: String },
}

/// An LSN at or above which the floor is durable: it may be told to Postgres. Raising the floor
/// gives it, and nothing else does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RaisedFloor {
    lsn: Lsn,
}

impl RaisedFloor {
    /// What Postgres may be told.
    pub fn lsn(self) -> Lsn {
        self.lsn
    }
}

/// An LSN that only rises and survives a power cut; with the memory store, one that only rises.
pub(crate) struct Floor {
    file: Option<File>,
    seed: u32,
    lsn: Lsn,
    /// The slot that holds `lsn`; the other one is written next.
    slot: u64,
    failed: bool,
}

impl Floor {
    /// The floor of an engine without a directory.
    pub(crate) fn in_memory() -> Floor {
        Floor { file: None, seed: 0, lsn: Lsn::ZERO, slot: 0, failed: false }
    }

    /// A floor that a simulated disk has kept.
    #[cfg(all(any(test, feature = "testing"), not(loom)))]
    pub(crate) fn kept(lsn: Lsn) -> Floor {
        Floor { lsn, ..Floor::in_memory() }
    }

    /// Opens the floor at `path`, of the directory whose files' checksums start from `seed`.
    pub(super) fn open(path: &Path, seed: u32) -> Result<Floor, FloorError> {
        let name = || path.display().to_string();
        let io = |source| FloorError::Io { file: name(), source };
        let file = File::options().read(true).write(true).open(path).map_err(io)?;
        // What a killed process wrote may not be on disk yet, and from here on it counts.
        file.sync_data().map_err(io)?;
        let slots = [0, 1].map(|slot| Some((read_slot(&file, slot, seed)?, slot)));
        let newest = slots.into_iter().flatten().max();
        let (lsn, slot) = newest.ok_or_else(|| FloorError::Damaged { file: name() })?;
        Ok(Floor { file: Some(file), seed, lsn, slot, failed: false })
    }

    /// The highest LSN that Postgres may have been told.
    pub(crate) fn get(&self) -> Lsn {
        self.lsn
    }

    /// Raises the floor to `lsn`; durable when it returns. A lower one is already covered. After an
    /// error it can no longer be raised (INV10).
    pub(crate) fn raise(&mut self, lsn: Lsn) -> io::Result<RaisedFloor> {
        if lsn <= self.lsn {
            return Ok(RaisedFloor { lsn });
        }
        if self.failed {
            return Err(io::Error::other("an earlier write or sync of the floor has failed"));
        }
        let slot = 1 - self.slot;
        if let Some(file) = &self.file {
            self.failed = true;
            file.write_all_at(&slot_bytes(lsn, self.seed), slot * SLOT_STRIDE)?;
            file.sync_data()?;
            self.failed = false;
        }
        (self.lsn, self.slot) = (lsn, slot);
        Ok(RaisedFloor { lsn })
    }
}

/// A new floor's file: both slots hold nothing's LSN.
pub(super) fn new_file(seed: u32) -> [u8; FLOOR_BYTES] {
    let mut bytes = [0; FLOOR_BYTES];
    let slot = slot_bytes(Lsn::ZERO, seed);
    bytes[..SLOT_BYTES].copy_from_slice(&slot);
    bytes[SLOT_STRIDE as usize..].copy_from_slice(&slot);
    bytes
}

/// magic, LSN, crc32c of these.
fn slot_bytes(lsn: Lsn, seed: u32) -> [u8; SLOT_BYTES] {
    let mut bytes = [0; SLOT_BYTES];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..16].copy_from_slice(&lsn.as_u64().to_le_bytes());
    let crc = checksum(&bytes[..16], seed);
    bytes[16..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

fn read_slot(file: &File, slot: u64, seed: u32) -> Option<Lsn> {
    let mut bytes = [0; SLOT_BYTES];
    file.read_exact_at(&mut bytes, slot * SLOT_STRIDE).ok()?;
    let lsn = Lsn::new(u64::from_le_bytes(*bytes[8..].first_chunk()?));
    (bytes == slot_bytes(lsn, seed)).then_some(lsn)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_rises_survives_and_a_torn_write_leaves_the_older_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("floor");
        std::fs::write(&path, new_file(7)).unwrap();
        let mut floor = Floor::open(&path, 7).unwrap();
        for lsn in [5, 9, 7, 12] {
            floor.raise(Lsn::new(lsn)).unwrap();
        }
        assert_eq!(floor.get(), Lsn::new(12));
        let floor = Floor::open(&path, 7).unwrap();
        assert_eq!(floor.get(), Lsn::new(12));
        let whole = std::fs::read(&path).unwrap();
        for at in 0..SLOT_BYTES {
            let mut torn = whole.clone();
            torn[(floor.slot * SLOT_STRIDE) as usize + at] ^= 1;
            std::fs::write(&path, torn).unwrap();
            let mut floor = Floor::open(&path, 7).unwrap();
            assert_eq!(floor.get(), Lsn::new(9), "byte {at}");
            floor.raise(Lsn::new(13)).unwrap();
            assert_eq!(Floor::open(&path, 7).unwrap().get(), Lsn::new(13));
        }
        assert!(matches!(Floor::open(&path, 8), Err(FloorError::Damaged { .. })));
    }

    #[test]
    fn after_a_failed_write_it_stays_and_refuses() {
        let file = File::options().write(true).open("/dev/full").unwrap();
        let mut floor = Floor { file: Some(file), ..Floor::in_memory() };
        let first = floor.raise(Lsn::new(3)).unwrap_err();
        assert_eq!(first.kind(), io::ErrorKind::StorageFull);
        floor.file = None;
        assert!(floor.raise(Lsn::new(4)).is_err() && floor.get() == Lsn::ZERO);
        assert!(floor.raise(Lsn::ZERO).is_ok());
    }

    /// INV10. This file takes what is written to it, and refuses to be synced.
    #[test]
    fn what_cannot_be_synced_is_neither_opened_nor_raised() {
        let path = Path::new("/dev/null");
        let opened = Floor::open(path, 7).map(|floor| floor.get());
        assert!(matches!(opened, Err(FloorError::Io { .. })), "{opened:?}");
        let file = File::options().write(true).open(path).unwrap();
        let mut floor = Floor { file: Some(file), ..Floor::in_memory() };
        let refused = floor.raise(Lsn::new(3)).unwrap_err();
        assert_eq!((refused.kind(), floor.get()), (io::ErrorKind::InvalidInput, Lsn::ZERO));
    }
}
