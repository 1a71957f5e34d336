//! Segments: one shard's log as a row of files, seen as one run of bytes. A new file is begun where
//! a block begins and the last one is large enough; what is in the ones before was synced before
//! that, and is never written again.
//!
//! The order that a power cut demands: the new file's header is synced under another name, then it
//! gets its own, then the folder is synced, and only then is a batch written to it. So a file that
//! has its name has its header, and where there is a next file, this one is whole.

use super::device::{Device, ReadAt, Storage};
use super::header::{HEADER_BYTES, HeaderError, Identity, SEGMENT_HEADER_BYTES};
use super::recover::RecoverError;
use super::sealed::Owner;
use parking_lot::{Mutex, RwLock};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

/// So many files of a shard are kept open to read, however many there are; and so many indexes.
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

/// The reading end, and the indexes beside it. `segments` is locked for a look-up, and for a push
/// when a file is begun; `open` and `open_indexes` by readers alone.
pub(crate) struct Row {
    storage: Arc<dyn Storage>,
    identity: Identity,
    name: String,
    /// Never empty.
    segments: RwLock<Vec<Segment>>,
    open: Mutex<OpenFiles<Arc<dyn ReadAt>>>,
    /// With their lengths.
    open_indexes: Mutex<OpenFiles<(Arc<dyn ReadAt>, u64)>>,
}

/// The files that were read last, by their segment's number; the last one last.
struct OpenFiles<T> {
    files: VecDeque<(u32, T)>,
}

impl<T> Default for OpenFiles<T> {
    fn default() -> OpenFiles<T> {
        OpenFiles { files: VecDeque::new() }
    }
}

impl<T: Clone> OpenFiles<T> {
    fn get(&mut self, number: u32, open: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let known = self.files.iter().position(|(known, _)| *known == number);
        let entry = match known.and_then(|index| self.files.remove(index)) {
            Some(entry) => entry,
            None => (number, open()?),
        };
        if self.files.len() == OPEN_MAX {
            self.files.pop_front();
        }
        let file = entry.1.clone();
        self.files.push_back(entry);
        Ok(file)
    }

    fn close(&mut self, number: u32) {
        self.files.retain(|(known, _)| *known != number);
    }
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

/// The name of the index that lies beside segment `number`.
pub(super) fn index_name(shard: u32, number: u32) -> String {
    format!("shard-{shard:03}-{number:06}.idx")
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
        if segments.len() > 1 {
            // A process that was killed, or whose disk failed, may have given the last file its
            // name and not made that durable; from here on batches in it count.
            let name = file_name(shard, segments.len() as u32 - 1);
            let unsynced = |source| RecoverError::Sync { file: storage.path_of(&name), source };
            storage.sync().map_err(unsynced)?;
        }
        let row = Arc::new(Row {
            storage: Arc::clone(&storage),
            identity,
            name,
            segments: RwLock::new(segments),
            open: Mutex::default(),
            open_indexes: Mutex::default(),
        });
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

    fn begin_block(&mut self) -> io::Result<bool> {
        let Segment { first, .. } = self.last_segment();
        let end = self.len();
        if end - first < self.segment_bytes_max {
            return Ok(false);
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
        Ok(true)
    }

    fn row(&self) -> Option<Arc<Row>> {
        Some(Arc::clone(&self.row))
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
        let name = file_name(self.identity.shard, number);
        let open = || Ok(self.storage.open(&name)?.reader());
        self.open.lock().get(number, open)
    }

    /// The number of the last file.
    pub(super) fn last(&self) -> u32 {
        self.segments.read().len() as u32 - 1
    }

    /// Whose index it is that lies beside file `number`: where its frames begin, and where the next
    /// file does. The last one has none.
    pub(super) fn owner(&self, number: u32) -> Option<Owner> {
        let segments = self.segments.read();
        let [this, next] = segments.get(number as usize..)?.first_chunk()?;
        // The first file's header is a part of the run.
        let header = if number == 0 { HEADER_BYTES as u64 } else { 0 };
        Some(Owner { identity: self.identity, number, bytes: this.first + header..next.first })
    }

    /// The index beside file `number`, and its length.
    pub(super) fn index(&self, number: u32) -> io::Result<(Arc<dyn ReadAt>, u64)> {
        let name = index_name(self.identity.shard, number);
        let open = || self.storage.open(&name).map(|file| (file.reader(), file.len()));
        self.open_indexes.lock().get(number, open)
    }

    /// Writes the index beside file `number`, in the place of one that may be there. After a power
    /// cut it is there whole, or as it was before.
    pub(super) fn write_index(&self, number: u32, image: &[u8]) -> io::Result<()> {
        let name = index_name(self.identity.shard, number);
        let new = format!("{name}{NEW}");
        let mut file = self.storage.create(&new)?;
        file.append(image)?;
        file.sync()?;
        self.storage.rename(&new, &name)?;
        self.storage.sync()?;
        self.open_indexes.lock().close(number);
        Ok(())
    }

    /// What an operator knows the index beside file `number` by.
    pub(super) fn index_path(&self, number: u32) -> String {
        self.storage.path_of(&index_name(self.identity.shard, number))
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
            assert_eq!(segments.row.open.lock().files.len(), OPEN_MAX);
            assert!(segments.reader().read_at(&mut [0; 2], segments.len() - 1).is_err());
        }
    }
}
