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
use parking_lot::RwLock;
use std::io;
use std::sync::Arc;

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

/// The reading end. Its lock is held for a look-up, and for a push when a file is begun.
struct Row {
    name: String,
    /// Never empty.
    segments: RwLock<Vec<Segment>>,
}

#[derive(Clone)]
struct Segment {
    /// The position of its first byte, and how many bytes of the file lie before that.
    first: u64,
    head: u64,
    bytes: Arc<dyn ReadAt>,
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
        let mut segments = vec![Segment { first: 0, head: 0, bytes: last.reader() }];
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
            let head = SEGMENT_HEADER_BYTES as u64;
            segments.push(Segment { first: end, head, bytes: next.reader() });
            last = next;
        }
        let row = Arc::new(Row { name, segments: RwLock::new(segments) });
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
        let head = SEGMENT_HEADER_BYTES as u64;
        let segment = Segment { first: end, head, bytes: self.last.reader() };
        self.row.segments.write().push(segment);
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
}

impl ReadAt for Row {
    fn name(&self) -> &str {
        &self.name
    }

    fn place(&self, position: u64) -> (String, u64) {
        let (Segment { first, head, bytes }, _) = self.find(position);
        (bytes.name().to_owned(), position - first + head)
    }

    fn read_at(&self, mut into: &mut [u8], mut position: u64) -> io::Result<()> {
        while !into.is_empty() {
            let (Segment { first, head, bytes }, next) = self.find(position);
            let held = next.map_or(u64::MAX, |next| next - position);
            let len = usize::try_from(held).map_or(into.len(), |held| held.min(into.len()));
            let (front, rest) = into.split_at_mut(len);
            bytes.read_at(front, position - first + head)?;
            (into, position) = (rest, position + len as u64);
        }
        Ok(())
    }

    fn release(&self, _position: u64) -> bool {
        false
    }
}
