//! Segments: one shard's log as a row of files, seen as one run of bytes. A new file is begun where
//! a block begins and the last one is large enough; what is in the ones before was synced before
//! that, and is never written again. The first one may stand in the place of several that were
//! thinned: it then holds fewer bytes than lie before the next one, and behind them there are none.
//!
//! The order that a power cut demands: the new file's header is synced under another name, then it
//! gets its own, then the folder is synced, and only then is a batch written to it. So a file that
//! has its name has its header, and where there is a next file, this one is whole. A first file
//! that takes the place of others is synced under another name too, is given theirs, the folder is
//! synced, and only then are the others removed: what a power cut leaves of these is passed over.

use super::device::{Device, ReadAt, Storage};
use super::files::{OpenFiles, file_name, file_number, index_name, index_number};
use super::frame::{self, Kind, Parsed};
use super::header::{HEADER_BYTES, HeaderError, Identity, SEGMENT_HEADER_BYTES};
use super::recover::RecoverError;
use super::sealed::Owner;
use super::thinned::Thinned;
use parking_lot::{Mutex, RwLock};
use std::io;
use std::iter;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// What is written under another name first.
const NEW: &str = ".new";
/// The record of a thinned file is shorter.
const THINNED_BYTES_MAX: u64 = 128;

/// The writing end.
pub(crate) struct Segments {
    storage: Arc<dyn Storage>,
    identity: Identity,
    row: Arc<Row>,
    /// The file that is written to.
    last: Box<dyn Device>,
    /// A file is large enough when it has passed this many bytes.
    segment_bytes_max: u64,
    /// Files that nobody needs any more.
    left_over: Vec<String>,
}

/// The reading end, and the indexes beside it. `segments` is locked for a look-up, and for a push
/// when a file is begun or the first ones are thinned; `open` and `open_indexes` by readers alone.
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

#[derive(Clone)]
struct Segment {
    number: u32,
    /// What an operator knows it by.
    name: Arc<str>,
    /// The position of its first byte, and how many bytes of the file lie before that.
    first: u64,
    head: u64,
    /// The first file, which another one may take the name of: who has looked it up reads this one.
    bytes: Option<Arc<dyn ReadAt>>,
    /// What it says of itself and where its bytes end, if it was thinned.
    thinned: Option<(Thinned, u64)>,
}

impl Segment {
    fn new(device: &dyn Device, number: u32, first: u64) -> Segment {
        let head = if number == 0 { 0 } else { SEGMENT_HEADER_BYTES as u64 };
        let bytes = (number == 0).then(|| device.reader());
        Segment { number, name: device.reader().name().into(), first, head, bytes, thinned: None }
    }
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
        let missing = |number| RecoverError::Read {
            file: storage.path_of(&file_name(shard, number)),
            source: io::ErrorKind::NotFound.into(),
        };
        let mut last = open(0)?;
        let name = last.reader().name().to_owned();
        let mut segments = vec![Segment::new(&*last, 0, 0)];
        let thinned = thinned(&*last, identity.seed());
        let thinned =
            thinned.map_err(|source| RecoverError::Read { file: name.clone(), source })?;
        let new = |number| format!("{}{NEW}", file_name(shard, number));
        let mut left_over = vec![new(0)];
        let (mut first, mut next_first) = (1, last.len());
        if let Some(found @ Thinned { last: replaced, next, .. }) = thinned {
            segments.iter_mut().for_each(|front| front.thinned = Some((found, last.len())));
            numbers.retain(|number| *number > replaced);
            left_over.extend(replaced_by(shard, &names, replaced));
            (first, next_first) = (replaced.saturating_add(1), next);
            // There is always one behind it.
            if numbers.is_empty() {
                return Err(missing(first));
            }
        }
        for (expected, number) in (first..).zip(numbers) {
            if number != expected {
                return Err(missing(expected));
            }
            let next = open(number)?;
            check_header(&*next, &identity, number, next_first)?;
            segments.push(Segment::new(&*next, number, next_first));
            next_first += next.len() - SEGMENT_HEADER_BYTES as u64;
            last = next;
        }
        if segments.len() > 1 {
            // A process that was killed, or whose disk failed, may have given the last file its
            // name, or the first one another's, and not made that durable; from here on batches in
            // the one count, and what the other stands for is removed.
            let name = segments.last().map_or_else(String::new, |last| last.name.to_string());
            let unsynced = |source| RecoverError::Sync { file: name, source };
            storage.sync().map_err(unsynced)?;
        }
        left_over.retain(|name| names.contains(name));
        let row = Arc::new(Row {
            storage: Arc::clone(&storage),
            identity,
            name,
            segments: RwLock::new(segments),
            open: Mutex::default(),
            open_indexes: Mutex::default(),
        });
        Ok(Segments { storage, identity, row, last, segment_bytes_max, left_over })
    }

    /// The same files, for who thins them.
    pub(crate) fn files(&self) -> Files {
        Files { row: Arc::clone(&self.row) }
    }

    fn last_segment(&self) -> Segment {
        self.row.segments.read().last().expect("there is always one").clone()
    }
}

/// Those of `names` in whose place the first file stands, which replaced those through `last`. What
/// lies beside them, and beside itself, is not looked at any more, whatever it is.
fn replaced_by(shard: u32, names: &[String], last: u32) -> impl Iterator<Item = String> {
    let is_replaced = move |name: &&String| {
        let number = file_number(shard, name).or(index_number(shard, name));
        number.is_some_and(|number| number <= last)
    };
    names.iter().filter(is_replaced).cloned()
}

/// What the first file of a log says of itself, if it was thinned.
fn thinned(device: &dyn Device, seed: u32) -> io::Result<Option<Thinned>> {
    let len = device.len().saturating_sub(HEADER_BYTES as u64).min(THINNED_BYTES_MAX);
    let mut bytes = vec![0; len as usize];
    device.reader().read_at(&mut bytes, HEADER_BYTES as u64)?;
    // What is no whole record is found out when the file is read.
    let Parsed::Frame(frame) = frame::parse(&bytes, seed) else { return Ok(None) };
    if frame.kind() != Ok(Kind::Thinned) {
        return Ok(None);
    }
    Thinned::read(frame.payload).map(Some).map_err(io::Error::other)
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
        let number = self.last_segment().number + 1;
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

    fn tidy(&mut self) {
        self.row.remove(std::mem::take(&mut self.left_over));
    }
}

/// A log's files, as who thins them sees them.
pub(crate) struct Files {
    row: Arc<Row>,
}

/// A file that is not written to any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Whole {
    pub(super) number: u32,
    /// Where the next one begins.
    pub(super) next: u64,
}

impl Files {
    pub(super) fn identity(&self) -> &Identity {
        &self.row.identity
    }

    /// What an operator knows the first file by.
    pub(super) fn name(&self) -> String {
        self.row.name.clone()
    }

    /// The files that can be thinned, the oldest first: those that were not yet, and are whole.
    pub(super) fn whole(&self) -> Vec<Whole> {
        let segments = self.row.segments.read();
        let nexts = segments.iter().skip(1).map(|segment| segment.first);
        let whole = segments.iter().zip(nexts).filter(|(segment, _)| segment.thinned.is_none());
        whole.map(|(segment, next)| Whole { number: segment.number, next }).collect()
    }

    /// What the first file says of itself and how many bytes it has, if it was thinned.
    pub(super) fn front(&self) -> Option<(Thinned, u64)> {
        self.row.front()
    }

    /// When the file `number` was written to last, as the time since 1970.
    pub(super) fn modified(&self, number: u32) -> io::Result<Duration> {
        self.row.storage.modified(&file_name(self.row.identity.shard, number))
    }

    fn new_name(&self) -> String {
        format!("{}{NEW}", file_name(self.row.identity.shard, 0))
    }

    /// A new file, which may take the first ones' place.
    pub(super) fn create(&self) -> io::Result<Box<dyn Device>> {
        self.row.storage.create(&self.new_name())
    }

    /// Removes it again.
    pub(super) fn discard(&self) {
        self.row.remove(vec![self.new_name()]);
    }

    /// Gives the new file, which is synced, the first one's name, durably.
    pub(super) fn rename(&self) -> io::Result<()> {
        self.row.storage.rename(&self.new_name(), &file_name(self.row.identity.shard, 0))?;
        self.row.storage.sync()
    }

    /// From here on `bytes`, `len` of them, are the first file, for who looks it up after this. The
    /// files that are not needed any more.
    pub(super) fn replace(
        &self,
        bytes: Arc<dyn ReadAt>,
        len: u64,
        thinned: Thinned,
    ) -> Vec<String> {
        let mut segments = self.row.segments.write();
        let gone = segments.partition_point(|segment| segment.first < thinned.next);
        let gone: Vec<_> = segments.drain(1.min(gone)..gone).collect();
        if let Some(front) = segments.first_mut() {
            (front.bytes, front.thinned) = (Some(bytes), Some((thinned, len)));
        }
        let shard = self.row.identity.shard;
        let names = gone.iter().map(|segment| file_name(shard, segment.number));
        let indexes = iter::once(0).chain(gone.iter().map(|segment| segment.number));
        names.chain(indexes.map(|number| index_name(shard, number))).collect()
    }

    pub(super) fn remove(&self, names: Vec<String>) {
        let shard = self.row.identity.shard;
        let files: Vec<_> = names.iter().filter_map(|name| file_number(shard, name)).collect();
        let indexes: Vec<_> = names.iter().filter_map(|name| index_number(shard, name)).collect();
        self.row.remove(names);
        // What is open takes its room on the disk. Nobody can open one of them again.
        files.into_iter().for_each(|number| self.row.open.lock().close(number));
        indexes.into_iter().for_each(|number| self.row.open_indexes.lock().close(number));
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

    /// Removes files that nobody needs. One that stays is passed over, and removed at the next
    /// start.
    fn remove(&self, names: Vec<String>) {
        for name in names {
            match self.storage.remove(&name) {
                Ok(()) => {}
                // An index may never have been written.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    let file = self.storage.path_of(&name);
                    tracing::warn!(file, %error, "a file that is not needed any more stays");
                }
            }
        }
    }

    /// The bytes of `segment`.
    fn bytes(&self, segment: Segment) -> io::Result<Arc<dyn ReadAt>> {
        if let Some(bytes) = segment.bytes {
            return Ok(bytes);
        }
        let name = file_name(self.identity.shard, segment.number);
        let open = || Ok(self.storage.open(&name)?.reader());
        self.open.lock().get(segment.number, open)
    }

    /// What the first file says of itself and how many bytes it has, if it was thinned.
    pub(super) fn front(&self) -> Option<(Thinned, u64)> {
        self.segments.read().first().and_then(|segment| segment.thinned)
    }

    /// The numbers of the files that are whole and were not thinned, the oldest first.
    pub(super) fn whole(&self) -> Range<u32> {
        let segments = self.segments.read();
        let first = segments.iter().find(|segment| segment.thinned.is_none());
        let number = |segment: Option<&Segment>| segment.map_or(0, |segment| segment.number);
        number(first)..number(segments.last())
    }

    /// Whose index it is that lies beside file `number`: where its frames begin, and where the next
    /// file does. The last one has none, nor has one that was thinned, or is gone by that.
    pub(super) fn owner(&self, number: u32) -> Option<Owner> {
        let segments = self.segments.read();
        let found = segments.binary_search_by_key(&number, |segment| segment.number).ok()?;
        let [this, next] = segments.get(found..)?.first_chunk()?;
        // The first file's header is a part of the run.
        let header = if number == 0 { HEADER_BYTES as u64 } else { 0 };
        let bytes = this.first + header..next.first;
        this.thinned.is_none().then_some(Owner { identity: self.identity, number, bytes })
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
            let (segment, next) = self.find(position);
            let Segment { first, head, .. } = segment;
            let held = next.map_or(u64::MAX, |next| next - position);
            let len = usize::try_from(held).map_or(into.len(), |held| held.min(into.len()));
            let (front, rest) = into.split_at_mut(len);
            self.bytes(segment)?.read_at(front, position - first + head)?;
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
    use super::super::files::OPEN_MAX;
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
