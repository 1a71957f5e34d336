//! Floor: the acknowledgement floor (R13). Before Postgres is told that it may forget what lies
//! below an LSN, a floor at or above that LSN is durable here; a slot beyond the floor at the next
//! start is then not ours. Beside it lies who was told: it means nothing to another server (INV11).

use super::frame::checksum;
use crate::words::{Lsn, ServerId};
use std::fs::File;
use std::io;
use std::num::NonZeroU32;
use std::os::unix::fs::FileExt;
use std::path::Path;

const MAGIC: [u8; 8] = *b"walfan-F";
const SLOT_BYTES: usize = 40;
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

/// What the file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Told {
    lsn: Lsn,
    /// Whom, if that was said.
    server: Option<ServerId>,
}

/// An LSN that only rises and survives a power cut, and the server that it was told to; with the
/// memory store, one that only rises.
pub(crate) struct Floor {
    file: Option<File>,
    seed: u32,
    told: Told,
    /// How often it was written. The slots take turns, and the higher number counts.
    writes: u64,
    failed: bool,
}

impl Floor {
    /// The floor of an engine without a directory.
    pub(crate) fn in_memory() -> Floor {
        let told = Told { lsn: Lsn::ZERO, server: None };
        Floor { file: None, seed: 0, told, writes: 0, failed: false }
    }

    /// A floor that a simulated disk has kept.
    #[cfg(all(any(test, feature = "testing"), not(loom)))]
    pub(crate) fn kept(lsn: Lsn) -> Floor {
        Floor { told: Told { lsn, server: None }, ..Floor::in_memory() }
    }

    /// Opens the floor at `path`, of the directory whose files' checksums start from `seed`.
    pub(super) fn open(path: &Path, seed: u32) -> Result<Floor, FloorError> {
        let name = || path.display().to_string();
        let io = |source| FloorError::Io { file: name(), source };
        let file = File::options().read(true).write(true).open(path).map_err(io)?;
        // What a killed process wrote may not be on disk yet, and from here on it counts.
        file.sync_data().map_err(io)?;
        let slots = [0, 1].map(|slot| read_slot(&file, slot, seed));
        let newest = slots.into_iter().flatten().max_by_key(|(writes, _)| *writes);
        let (writes, told) = newest.ok_or_else(|| FloorError::Damaged { file: name() })?;
        Ok(Floor { file: Some(file), seed, told, writes, failed: false })
    }

    /// The highest LSN that Postgres may have been told.
    pub(crate) fn get(&self) -> Lsn {
        self.told.lsn
    }

    /// The server that is told.
    pub(crate) fn server(&self) -> Option<ServerId> {
        self.told.server
    }

    /// Raises the floor to `lsn`; durable when it returns. A lower one is already covered. After an
    /// error it can no longer be raised (INV10).
    pub(crate) fn raise(&mut self, lsn: Lsn) -> io::Result<RaisedFloor> {
        if lsn > self.told.lsn {
            self.write(Told { lsn, ..self.told })?;
        }
        Ok(RaisedFloor { lsn })
    }

    /// Says whom it is told to from here on; durable when it returns. Errors as in `raise`.
    pub(crate) fn set_server(&mut self, server: ServerId) -> io::Result<()> {
        let told = Told { server: Some(server), ..self.told };
        if told == self.told { Ok(()) } else { self.write(told) }
    }

    fn write(&mut self, told: Told) -> io::Result<()> {
        if self.failed {
            return Err(io::Error::other("an earlier write or sync of the floor has failed"));
        }
        let writes = self.writes + 1;
        if let Some(file) = &self.file {
            self.failed = true;
            let slot = self.writes % 2;
            file.write_all_at(&slot_bytes(writes, told, self.seed), slot * SLOT_STRIDE)?;
            file.sync_data()?;
            self.failed = false;
        }
        (self.told, self.writes) = (told, writes);
        Ok(())
    }
}

/// A new floor's file: both slots hold nothing's LSN, and no server.
pub(super) fn new_file(seed: u32) -> [u8; FLOOR_BYTES] {
    let mut bytes = [0; FLOOR_BYTES];
    let slot = slot_bytes(0, Told { lsn: Lsn::ZERO, server: None }, seed);
    bytes[..SLOT_BYTES].copy_from_slice(&slot);
    bytes[SLOT_STRIDE as usize..].copy_from_slice(&slot);
    bytes
}

/// Whether a floor's file, also of a directory that is not known, is as it was made: each write
/// makes its slots differ.
pub(super) fn was_never_written(file: &[u8]) -> bool {
    file.get(..SLOT_BYTES) == file.get(SLOT_STRIDE as usize..)
}

/// magic, number of the write, LSN, the server's system identifier and timeline (0: not said),
/// crc32c of these.
fn slot_bytes(writes: u64, told: Told, seed: u32) -> [u8; SLOT_BYTES] {
    let server = told.server.map(|server| (server.system, server.timeline.get()));
    let (system, timeline) = server.unwrap_or_default();
    let mut bytes = [0; SLOT_BYTES];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..16].copy_from_slice(&writes.to_le_bytes());
    bytes[16..24].copy_from_slice(&told.lsn.as_u64().to_le_bytes());
    bytes[24..32].copy_from_slice(&system.to_le_bytes());
    bytes[32..36].copy_from_slice(&timeline.to_le_bytes());
    let crc = checksum(&bytes[..36], seed);
    bytes[36..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

fn read_slot(file: &File, slot: u64, seed: u32) -> Option<(u64, Told)> {
    let mut bytes = [0; SLOT_BYTES];
    file.read_exact_at(&mut bytes, slot * SLOT_STRIDE).ok()?;
    let number = |at: usize| Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
    let (writes, lsn, system) = (number(8)?, Lsn::new(number(16)?), number(24)?);
    let timeline = NonZeroU32::new(u32::from_le_bytes(*bytes[32..].first_chunk()?));
    let told = Told { lsn, server: timeline.map(|timeline| ServerId { system, timeline }) };
    (bytes == slot_bytes(writes, told, seed)).then_some((writes, told))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(timeline: u32) -> ServerId {
        ServerId { system: u64::MAX, timeline: NonZeroU32::new(timeline).unwrap() }
    }

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
            torn[((floor.writes - 1) % 2 * SLOT_STRIDE) as usize + at] ^= 1;
            std::fs::write(&path, torn).unwrap();
            let mut floor = Floor::open(&path, 7).unwrap();
            assert_eq!(floor.get(), Lsn::new(9), "byte {at}");
            floor.raise(Lsn::new(13)).unwrap();
            assert_eq!(Floor::open(&path, 7).unwrap().get(), Lsn::new(13));
        }
        assert!(matches!(Floor::open(&path, 8), Err(FloorError::Damaged { .. })));
    }

    #[test]
    fn inv11_it_says_whom_it_was_told_to_whichever_was_written_last() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("floor");
        std::fs::write(&path, new_file(7)).unwrap();
        let reopened = || Floor::open(&path, 7).unwrap();
        assert_eq!(reopened().server(), None);
        for timeline in [1, 2, 1] {
            let server = server(timeline);
            reopened().set_server(server).unwrap();
            assert_eq!((reopened().server(), reopened().writes % 2), (Some(server), 1));
            reopened().raise(Lsn::new(9 + reopened().writes)).unwrap();
            assert_eq!((reopened().server(), reopened().writes % 2), (Some(server), 0));
            // What is said already is not written again.
            reopened().set_server(server).unwrap();
            assert_eq!(reopened().writes % 2, 0);
        }
    }

    #[test]
    fn after_a_failed_write_it_stays_and_refuses() {
        let file = File::options().write(true).open("/dev/full").unwrap();
        let mut floor = Floor { file: Some(file), ..Floor::in_memory() };
        let first = floor.raise(Lsn::new(3)).unwrap_err();
        assert_eq!(first.kind(), io::ErrorKind::StorageFull);
        floor.file = None;
        assert!(floor.raise(Lsn::new(4)).is_err() && floor.get() == Lsn::ZERO);
        assert!(floor.set_server(server(1)).is_err());
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
