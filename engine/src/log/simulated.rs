//! Simulated: a disk in memory for the simulator. It knows what was synced, loses the rest in a
//! power cut, in any part, and fails at the operation that it is told to.

use super::device::{Device, ReadAt, Storage};
use super::files::file_name;
use super::header::Identity;
use super::recover::{RecoverError, Recovered, recover};
use super::segments::Segments;
use super::thin::{Retention, Thinner};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// What a disk writes as a whole. Real ones write 512 bytes at least; our batches are small.
const SECTOR_BYTES: usize = 32;
/// So small that a run of a few hundred steps goes over several blocks and files.
const BLOCK_BYTES_MAX: usize = 200;
const SEGMENT_BYTES_MAX: u64 = 600;

type Names = BTreeMap<String, usize>;

#[derive(Debug, Default)]
struct Content {
    bytes: Vec<u8>,
    /// How many of them a power cut leaves.
    synced: usize,
    /// When it was written to last.
    modified: Duration,
}

#[derive(Debug, Default)]
struct State {
    files: Vec<Content>,
    names: Names,
    /// The names after each operation on them since they were synced, the first as synced.
    names_then: Vec<Names>,
    /// After so many operations more, one fails.
    left: Option<usize>,
    /// The time since 1970.
    now: Duration,
}

/// See the file's head. Clones are the same disk.
#[derive(Clone, Debug, Default)]
pub(crate) struct SimulatedDisk {
    state: Arc<Mutex<State>>,
}

impl SimulatedDisk {
    /// The disk of an engine with `shards` shards that was never opened.
    pub(crate) fn new(shards: u32) -> SimulatedDisk {
        let disk = SimulatedDisk::default();
        let mut state = disk.state.lock();
        for shard in 0..shards {
            let bytes = identity(shard, shards).header().to_vec();
            state.names.insert(file_name(shard, 0), shard as usize);
            let (synced, modified) = (bytes.len(), Duration::ZERO);
            state.files.push(Content { bytes, synced, modified });
        }
        state.names_then = vec![state.names.clone()];
        drop(state);
        disk
    }

    /// A folder in which nothing is.
    pub(crate) fn empty() -> SimulatedDisk {
        let disk = SimulatedDisk::default();
        disk.state.lock().names_then = vec![Names::new()];
        disk
    }

    /// Opens the log of `shard`, as after a start of the process; and what thins it, if anything
    /// is to.
    pub(crate) fn recover(
        &self,
        shard: u32,
        shards: u32,
        retention: Option<Retention>,
    ) -> Result<(Recovered, Option<Thinner>), RecoverError> {
        let identity = identity(shard, shards);
        let segments = Segments::open(Arc::new(self.clone()), identity, SEGMENT_BYTES_MAX)?;
        let files = segments.files();
        let found = recover(Box::new(segments), &identity, BLOCK_BYTES_MAX)?;
        let log = Arc::clone(&found.log);
        let thinner = retention.map(|it| Thinner::new(log, files, it, BLOCK_BYTES_MAX));
        Ok((found, thinner))
    }

    /// From here on files are written to at `now`, since 1970.
    pub(crate) fn set_time(&self, now: Duration) {
        self.state.lock().now = now;
    }

    /// The operation after `operations` more fails; with `None` none does.
    pub(crate) fn fail_after(&self, operations: Option<usize>) {
        self.state.lock().left = operations;
    }

    /// Cuts the power: of what was not synced, `draw(n)`, a number below `n`, says what is left.
    pub(crate) fn cut(&self, mut draw: impl FnMut(u64) -> u64) {
        let state = &mut *self.state.lock();
        for file in &mut state.files {
            let kept = draw((file.bytes.len() - file.synced) as u64 + 1) as usize;
            file.bytes.truncate(file.synced + kept);
            let torn = file.bytes.get_mut(file.synced..).unwrap_or_default();
            for sector in torn.chunks_mut(SECTOR_BYTES) {
                // Sectors are written in any order.
                if draw(8) == 0 {
                    sector.fill(0);
                }
            }
            file.synced = file.bytes.len();
        }
        // A folder's operations reach the disk in their order.
        let kept = draw(state.names_then.len() as u64) as usize;
        state.names.clone_from(&state.names_then[kept]);
        state.names_then = vec![state.names.clone()];
    }

    /// Loses the index beside one of a log's files, or spoils it; whether there was one.
    pub(crate) fn spoil_index(&self, mut draw: impl FnMut(u64) -> u64) -> bool {
        let state = &mut *self.state.lock();
        let indexes = state.names.iter().filter(|(name, _)| name.ends_with(".idx"));
        let indexes: Vec<_> = indexes.map(|(name, id)| (name.clone(), *id)).collect();
        let chosen = draw(indexes.len().max(1) as u64) as usize;
        let Some((name, id)) = indexes.get(chosen) else { return false };
        let bytes = &mut state.files[*id].bytes;
        let at = draw(bytes.len().max(1) as u64) as usize;
        match draw(3) {
            0 => {
                state.names.remove(name);
                state.names_then = vec![state.names.clone()];
            }
            1 => bytes.truncate(at),
            // A power cut may have left nothing of it.
            _ => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << draw(8)),
        }
        state.files[*id].synced = state.files[*id].bytes.len();
        true
    }

    /// A disk of its own that holds the same, all of it synced.
    pub(super) fn copy(&self) -> SimulatedDisk {
        let state = self.state.lock();
        let file = |file: &Content| Content {
            bytes: file.bytes.clone(),
            synced: file.bytes.len(),
            modified: file.modified,
        };
        let files = state.files.iter().map(file).collect();
        let (names, names_then) = (state.names.clone(), vec![state.names.clone()]);
        let copied = State { files, names, names_then, left: None, now: state.now };
        SimulatedDisk { state: Arc::new(Mutex::new(copied)) }
    }

    /// The bytes of a file, if it is there.
    pub(super) fn contents(&self, name: &str) -> Option<Vec<u8>> {
        let state = self.state.lock();
        let id = state.names.get(name)?;
        Some(state.files[*id].bytes.clone())
    }

    /// Gives the file `name`, which is there, other bytes.
    pub(super) fn overwrite(&self, name: &str, bytes: &[u8]) {
        let state = &mut *self.state.lock();
        let id = state.names[name];
        let modified = state.files[id].modified;
        state.files[id] = Content { bytes: bytes.to_vec(), synced: bytes.len(), modified };
    }

    /// Does `step`, unless this operation is the one that fails.
    fn step<T>(&self, step: impl FnOnce(&mut State) -> T) -> io::Result<T> {
        let mut state = self.state.lock();
        if let Some(left) = state.left {
            let Some(left) = left.checked_sub(1) else {
                state.left = None;
                return Err(io::ErrorKind::StorageFull.into());
            };
            state.left = Some(left);
        }
        Ok(step(&mut state))
    }
}

pub(super) fn identity(shard: u32, shards: u32) -> Identity {
    Identity { directory: 7, shard, shards }
}

impl Storage for SimulatedDisk {
    fn names(&self) -> io::Result<Vec<String>> {
        self.step(|state| state.names.keys().cloned().collect())
    }

    fn path_of(&self, name: &str) -> String {
        format!("simulated/{name}")
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn Device>> {
        let id = self.step(|state| state.names.get(name).copied())?;
        let id = id.ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(SimulatedFile { disk: self.clone(), id, name: name.to_owned() }))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn Device>> {
        let id = self.step(|state| {
            state.files.push(Content::default());
            let id = state.files.len() - 1;
            state.names.insert(name.to_owned(), id);
            state.names_then.push(state.names.clone());
            id
        })?;
        Ok(Box::new(SimulatedFile { disk: self.clone(), id, name: name.to_owned() }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.step(|state| {
            let id = state.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
            state.names.insert(to.to_owned(), id);
            state.names_then.push(state.names.clone());
            Ok(())
        })?
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.step(|state| {
            state.names.remove(name).ok_or(io::ErrorKind::NotFound)?;
            state.names_then.push(state.names.clone());
            Ok(())
        })?
    }

    fn modified(&self, name: &str) -> io::Result<Duration> {
        let modified = self.step(|state| {
            let id = state.names.get(name)?;
            state.files.get(*id).map(|file| file.modified)
        })?;
        modified.ok_or(io::ErrorKind::NotFound.into())
    }

    fn sync(&self) -> io::Result<()> {
        self.step(|state| state.names_then = vec![state.names.clone()])
    }
}

struct SimulatedFile {
    disk: SimulatedDisk,
    id: usize,
    name: String,
}

impl Device for SimulatedFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let id = self.id;
        let whole = self.disk.step(|state| {
            let file = &mut state.files[id];
            file.bytes.extend_from_slice(bytes);
            file.modified = state.now;
        });
        if whole.is_err() {
            // A disk that fills takes a part of it.
            self.disk.state.lock().files[id].bytes.extend_from_slice(&bytes[..bytes.len() / 2]);
        }
        whole
    }

    fn sync(&mut self) -> io::Result<()> {
        let id = self.id;
        self.disk.step(|state| state.files[id].synced = state.files[id].bytes.len())
    }

    fn len(&self) -> u64 {
        self.disk.state.lock().files[self.id].bytes.len() as u64
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        let id = self.id;
        self.disk.step(|state| {
            let file = &mut state.files[id];
            file.bytes.truncate(len as usize);
            file.synced = file.synced.min(len as usize);
        })
    }

    fn reader(&self) -> Arc<dyn ReadAt> {
        let (disk, id, name) = (self.disk.clone(), self.id, self.name.clone());
        Arc::new(SimulatedFile { disk, id, name })
    }
}

impl ReadAt for SimulatedFile {
    fn name(&self) -> &str {
        &self.name
    }

    fn read_at(&self, into: &mut [u8], position: u64) -> io::Result<()> {
        let state = self.disk.state.lock();
        let rest = state.files[self.id].bytes.get(position as usize..);
        let held = rest.and_then(|rest| rest.get(..into.len()));
        into.copy_from_slice(held.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn release(&self, _position: u64) -> bool {
        false
    }
}
