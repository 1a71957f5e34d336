//! Segments: one shard's log as a row of files, seen as one run of bytes. A new file is begun where
//! a block begins and the last one is large enough; what is in the ones before was synced before
//! that, and is never written again.
//!
//! The order that a power cut demands: the new file's header is synced under another name, then it
//! gets its own, then the folder is synced, and only then is a batch written to it. So a file that
//! has its name has its header, and where there is a next file, this one is whole.

use super::device::{Device, ReadAt, Storage};
use super::header::{HeaderError, Identity, SEGMENT_HEADER_BYTES};
use super::recover::RecoverError;
use parking_lot::{Mutex, RwLock};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

/// So many files of a shard are kept open to read, however many there are.
const OPEN_MAX: usize = 16;
/// What is written under another name first.
const NEW: &str = ".new";

/// The writing end.
pub(crate) struct Segments {
    storage: Arc<dyn Storage>,
    identity: Identity,
    row: Arc<Row>,
    /// The file that is written to.
    last: Box<dyn Device>,
    /// A file is large enough when it has passed this many bytes.
    segment_bytes_max: u64,
}

/// The reading end. `segments` is locked for a look-up, and for a push when a file is begun; `open`
/// by readers alone.
struct Row {
    storage: Arc<dyn Storage>,
    shard: u32,
    name: String,
    /// Never empty.
    segments: RwLock<Vec<Segment>>,
    /// The files that were read last, the last one last.
    open: Mutex<VecDeque<(u32, Arc<dyn ReadAt>)>>,
}

#[derive(Clone)]
struct Segment {
    number: u32,
    /// What an operator knows it by.
    name: Arc<str>,
    /// The position of its first byte, and how many bytes of the file lie before that.
    first: u64,
    head: u64,
}

impl Segment {
    fn new(device: &dyn Device, number: u32, first: u64) -> Segment {
        let head = if number == 0 { 0 } else { SEGMENT_HEADER_BYTES as u64 };
        Segment { number, name: device.reader().name().into(), first, head }
    }
}

/// The name of a shard's file. The first one's header is a part of the run, and is made with the
/// directory.
pub(super) fn file_name(shard: u32, number: u32) -> String {
    match number {
        0 => format!("shard-{shard:03}.log"),
        number => format!("shard-{shard:03}-{number:06}.log"),
    }
}

fn file_number(shard: u32, name: &str) -> Option<u32> {
    let digits = name.strip_prefix(&format!("shard-{shard:03}-"))?.strip_suffix(".log")?;
    digits.parse().ok().filter(|&number| file_name(shard, number) == name)
}

impl Segments {
    /// Opens the files of a shard, which must be a row without a gap. Nothing is changed.
    pub(crate) fn open(
        storage: Arc<dyn Storage>,
        identity: Identity,
        segment_bytes_max: u64,
    ) -> Result<Segments, RecoverError> {
        let shard = identity.shard;
        let file = storage.path_of(&file_name(shard, 0));
        let names = storage.names().map_err(|source| RecoverError::Read { file, source })?;
        let mut numbers: Vec<_> =
            names.iter().filter_map(|name| file_number(shard, name)).collect();
        numbers.sort_unstable();
        let open = |number| {
            let name = file_name(shard, number);
            let read = |source| RecoverError::Read { file: storage.path_of(&name), source };
            storage.open(&name).map_err(read)
        };
        let mut last = open(0)?;
        let name = last.reader().name().to_owned();
        let mut segments = vec![Segment::new(&*last, 0, 0)];
        for (expected, number) in (1..).zip(numbers) {
            if number != expected {
                let file = storage.path_of(&file_name(shard, expected));
                let source = io::ErrorKind::NotFound.into();
                return Err(RecoverError::Read { file, source });
            }
            let end =
                segments.last().map_or(0, |segment| segment.first + last.len() - segment.head);
            let next = open(number)?;
            check_header(&*next, &identity, number, end)?;
            segments.push(Segment::new(&*next, number, end));
            last = next;
        }
        let (segments, open) = (RwLock::new(segments), Mutex::default());
        let row = Row { storage: Arc::clone(&storage), shard, name, segments, open };
        let row = Arc::new(row);
        Ok(Segments { storage, identity, row, last, segment_bytes_max })
    }

    fn last_segment(&self) -> Segment {
        self.row.segments.read().last().expect("there is always one").clone()
    }
}

fn check_header(
    device: &dyn Device,
    identity: &Identity,
    number: u32,
    first: u64,
) -> Result<(), RecoverError> {
    let reader = device.reader();
    let file = reader.name().to_owned();
    let mut header = [0; SEGMENT_HEADER_BYTES];
    if device.len() < header.len() as u64 {
        return Err(RecoverError::Header { file, source: HeaderError::Magic });
    }
    if let Err(source) = reader.read_at(&mut header, 0) {
        return Err(RecoverError::Read { file, source });
    }
    let checked = identity.check_segment(&header, number, first);
    checked.map_err(|source| RecoverError::Header { file, source })
}

impl Device for Segments {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.last.append(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.last.sync()
    }

    fn len(&self) -> u64 {
        let Segment { first, head, .. } = self.last_segment();
        first + self.last.len() - head
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        let Segment { first, head, .. } = self.last_segment();
        let Some(kept) = len.checked_sub(first) else {
            return Err(io::Error::other("only the last file of a log can be cut"));
        };
        self.last.truncate(head + kept)
    }

    fn reader(&self) -> Arc<dyn ReadAt> {
        self.row.clone()
    }

    fn begin_block(&mut self) -> io::Result<()> {
        let Segment { first, .. } = self.last_segment();
        let end = self.len();
        if end - first < self.segment_bytes_max {
            return Ok(());
        }
        let number = self.row.segments.read().len() as u32;
        let name = file_name(self.identity.shard, number);
        let new = format!("{name}{NEW}");
        let mut file = self.storage.create(&new)?;
        file.append(&self.identity.segment_header(number, end))?;
        file.sync()?;
        self.storage.rename(&new, &name)?;
        self.storage.sync()?;
        // Under its own name, which is what errors say.
        self.last = self.storage.open(&name)?;
        self.row.segments.write().push(Segment::new(&*self.last, number, end));
        Ok(())
    }

    fn cut_from(&self) -> u64 {
        self.last_segment().first
    }
}

impl Row {
    /// The file that holds byte `position`, and where the next one begins.
    fn find(&self, position: u64) -> (Segment, Option<u64>) {
        let segments = self.segments.read();
        let next = segments.partition_point(|segment| segment.first <= position).max(1);
        let found = segments.get(next - 1).expect("there is always one, which begins at 0");
        (found.clone(), segments.get(next).map(|segment| segment.first))
    }

    /// The bytes of file `number`.
    fn bytes(&self, number: u32) -> io::Result<Arc<dyn ReadAt>> {
        let mut open = self.open.lock();
        let known = open.iter().position(|(known, _)| *known == number);
        let entry = match known.and_then(|index| open.remove(index)) {
            Some(entry) => entry,
            None => (number, self.storage.open(&file_name(self.shard, number))?.reader()),
        };
        if open.len() == OPEN_MAX {
            open.pop_front();
        }
        let bytes = Arc::clone(&entry.1);
        open.push_back(entry);
        Ok(bytes)
    }
}

impl ReadAt for Row {
    fn name(&self) -> &str {
        &self.name
    }

    fn place(&self, position: u64) -> (String, u64) {
        let (Segment { name, first, head, .. }, _) = self.find(position);
        (name.to_string(), position - first + head)
    }

    fn read_at(&self, mut into: &mut [u8], mut position: u64) -> io::Result<()> {
        while !into.is_empty() {
            let (Segment { number, first, head, .. }, next) = self.find(position);
            let held = next.map_or(u64::MAX, |next| next - position);
            let len = usize::try_from(held).map_or(into.len(), |held| held.min(into.len()));
            let (front, rest) = into.split_at_mut(len);
            self.bytes(number)?.read_at(front, position - first + head)?;
            (into, position) = (rest, position + len as u64);
        }
        Ok(())
    }

    fn release(&self, _position: u64) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::super::device::Folder;
    use super::*;

    #[test]
    fn many_files_are_read_and_few_are_open() {
        let dir = tempfile::tempdir().unwrap();
        let identity = Identity { directory: 7, shard: 0, shards: 1 };
        std::fs::write(dir.path().join(file_name(0, 0)), identity.header()).unwrap();
        let open = || Segments::open(Arc::new(Folder::new(dir.path())), identity, 0).unwrap();
        let mut segments = open();
        let mut written = identity.header().to_vec();
        for number in 0..3 * OPEN_MAX as u8 {
            segments.begin_block().unwrap();
            segments.append(&[number; 10]).unwrap();
            segments.sync().unwrap();
            written.extend([number; 10]);
        }
        for segments in [segments, open()] {
            assert_eq!(segments.len(), written.len() as u64);
            for _ in 0..2 {
                let mut read = vec![0; written.len()];
                segments.reader().read_at(&mut read, 0).unwrap();
                assert_eq!(read, written);
            }
            assert_eq!(segments.row.open.lock().len(), OPEN_MAX);
            assert!(segments.reader().read_at(&mut [0; 2], segments.len() - 1).is_err());
        }
    }
}
