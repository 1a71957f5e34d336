//! Journal: what each consumer has flushed, in a file that outlives a killed process. A consumer
//! writes its own place before it reports to the engine, as an embedder's would; the next
//! incarnation, of this process or a later one, goes on from there.

use crate::consumer::Prefix;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use walfan::Lsn;

/// A shape's place: where it is flushed, the traces of that, and how many changes it was; and as
/// much more that no place lies in two pages.
const PLACE_BYTES: usize = 32;
const WORDS_BYTES: usize = 24;
const _: () = assert!(4_096_usize.is_multiple_of(PLACE_BYTES) && WORDS_BYTES <= PLACE_BYTES);

/// See the file's head. Each place has one writer at a time: its shape's consumer.
#[derive(Debug)]
pub(crate) struct Journal {
    file: File,
}

impl Journal {
    /// Makes the journal of `shapes` shapes that have flushed nothing.
    pub(crate) fn make(path: &Path, shapes: u32) -> io::Result<()> {
        File::create_new(path)?.set_len(u64::from(shapes) * PLACE_BYTES as u64)
    }

    pub(crate) fn open(path: &Path) -> io::Result<Journal> {
        Ok(Journal { file: File::options().read(true).write(true).open(path)? })
    }

    pub(crate) fn read(&self, shape: u32) -> io::Result<Prefix> {
        let mut bytes = [0; WORDS_BYTES];
        self.file.read_exact_at(&mut bytes, place(shape))?;
        let word = |at: usize| std::array::from_fn(|index| bytes[at + index]);
        Ok(Prefix {
            through: Lsn::new(u64::from_le_bytes(word(0))),
            traces: u64::from_le_bytes(word(8)),
            changes: u64::from_le_bytes(word(16)) as u32,
        })
    }

    /// One write of a few bytes in one page: a kill leaves all of it or nothing.
    pub(crate) fn write(&self, shape: u32, prefix: Prefix) -> io::Result<()> {
        let mut bytes = [0; WORDS_BYTES];
        bytes[..8].copy_from_slice(&prefix.through.as_u64().to_le_bytes());
        bytes[8..16].copy_from_slice(&prefix.traces.to_le_bytes());
        bytes[16..].copy_from_slice(&u64::from(prefix.changes).to_le_bytes());
        self.file.write_all_at(&bytes, place(shape))
    }
}

fn place(shape: u32) -> u64 {
    u64::from(shape) * PLACE_BYTES as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_kept_apart_and_outlive_who_wrote_them() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        Journal::make(&path, 3).unwrap();
        let prefix = Prefix { through: Lsn::new(7 << 40), changes: 9, traces: u64::MAX - 1 };
        Journal::open(&path).unwrap().write(1, prefix).unwrap();
        let journal = Journal::open(&path).unwrap();
        let read = [0, 1, 2].map(|shape| journal.read(shape).unwrap());
        assert_eq!(read, [Prefix::default(), prefix, Prefix::default()]);
        assert!(Journal::make(&path, 3).is_err() && journal.read(3).is_err());
    }
}
