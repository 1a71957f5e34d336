//! Device: where a log's bytes lie, a file in a folder or memory. One writer appends and syncs; any
//! number of readers read what is there already. What the bytes mean is left to the others.

use super::segments::Row;
use parking_lot::RwLock;
use std::collections::VecDeque;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

/// The writing end, owned by the syncer.
pub(crate) trait Device: Send {
    /// Writes `bytes` at the end. Not durable before [`Device::sync`].
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Makes all that was appended durable. A failure is final (INV10).
    fn sync(&mut self) -> io::Result<()>;
    /// The bytes appended so far.
    fn len(&self) -> u64;
    /// Cuts everything from byte `len` on, durably. For recovery only.
    fn truncate(&mut self, len: u64) -> io::Result<()>;
    /// A reading end.
    fn reader(&self) -> Arc<dyn ReadAt>;
    /// What is appended next begins a block, and everything before it is synced: a log of several
    /// files may begin a new one here, and says so. A failure is final.
    fn begin_block(&mut self) -> io::Result<bool> {
        Ok(false)
    }
    /// Its files, where it has several.
    fn row(&self) -> Option<Arc<Row>> {
        None
    }
    /// Everything was understood: removes what is left over from work that was cut off.
    fn tidy(&mut self) {}
}

/// The reading end, shared by all readers.
pub(crate) trait ReadAt: Send + Sync {
    /// What an operator knows it by.
    fn name(&self) -> &str;
    /// The file that holds byte `position`, and where in it.
    fn place(&self, position: u64) -> (String, u64) {
        (self.name().to_owned(), position)
    }
    /// Fills `into` from byte `position` on, wholly.
    fn read_at(&self, into: &mut [u8], position: u64) -> io::Result<()>;
    /// Forgets everything below byte `position`, if this device can; says whether it can.
    fn release(&self, position: u64) -> bool;
}

/// A folder of files. What is done to names survives a power cut once it was synced.
pub(crate) trait Storage: Send + Sync {
    /// All names in it.
    fn names(&self) -> io::Result<Vec<String>>;
    /// What an operator knows the file `name` by.
    fn path_of(&self, name: &str) -> String;
    /// Opens a file that exists.
    fn open(&self, name: &str) -> io::Result<Box<dyn Device>>;
    /// Makes an empty file, in the place of one that may have the name.
    fn create(&self, name: &str) -> io::Result<Box<dyn Device>>;
    /// Gives a file another name, in the place of the file that may have it: the name is the one's
    /// or the other's, at any moment.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Takes a file's name away. Who has it open can still read it.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// When a file was written to last, as the time since 1970.
    fn modified(&self, name: &str) -> io::Result<Duration>;
    /// Makes the names durable.
    fn sync(&self) -> io::Result<()>;
}

/// A folder of the file system.
pub(crate) struct Folder {
    path: PathBuf,
}

impl Folder {
    pub(crate) fn new(path: &Path) -> Folder {
        Folder { path: path.to_owned() }
    }
}

impl Storage for Folder {
    fn names(&self) -> io::Result<Vec<String>> {
        let name = |entry: fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
        fs::read_dir(&self.path)?.map(|entry| entry.map(name)).collect()
    }

    fn path_of(&self, name: &str) -> String {
        self.path.join(name).display().to_string()
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn Device>> {
        Ok(Box::new(FileDevice::open(&self.path.join(name))?))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn Device>> {
        let path = self.path.join(name);
        drop(File::create(&path)?);
        Ok(Box::new(FileDevice::open(&path)?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))
    }

    fn modified(&self, name: &str) -> io::Result<Duration> {
        let modified = fs::metadata(self.path.join(name))?.modified()?;
        Ok(modified.duration_since(UNIX_EPOCH).unwrap_or_default())
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }
}

/// A file that is only appended to.
pub(crate) struct FileDevice {
    bytes: Arc<FileBytes>,
    len: u64,
    failed: bool,
}

struct FileBytes {
    file: File,
    name: String,
}

impl FileDevice {
    /// Opens the file at `path`, which exists, for reading and writing.
    pub(crate) fn open(path: &Path) -> io::Result<FileDevice> {
        let file = File::options().read(true).write(true).open(path)?;
        let len = file.metadata()?.len();
        let bytes = Arc::new(FileBytes { file, name: path.display().to_string() });
        Ok(FileDevice { bytes, len, failed: false })
    }

    /// Runs `step` unless an earlier one has failed. What the file holds after a failure is not
    /// known, and a second sync may succeed without having written anything (INV10).
    fn once(&mut self, step: impl FnOnce(&File) -> io::Result<()>) -> io::Result<()> {
        if self.failed {
            return Err(io::Error::other("an earlier write or sync of this file has failed"));
        }
        let result = step(&self.bytes.file);
        self.failed = result.is_err();
        result
    }
}

impl Device for FileDevice {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let position = self.len;
        self.once(|file| file.write_all_at(bytes, position))?;
        self.len += bytes.len() as u64;
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.once(File::sync_data)
    }

    fn len(&self) -> u64 {
        self.len
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.once(|file| file.set_len(len).and_then(|()| file.sync_all()))?;
        self.len = len;
        Ok(())
    }

    fn reader(&self) -> Arc<dyn ReadAt> {
        self.bytes.clone()
    }
}

impl ReadAt for FileBytes {
    fn name(&self) -> &str {
        &self.name
    }

    fn read_at(&self, into: &mut [u8], position: u64) -> io::Result<()> {
        self.file.read_exact_at(into, position)
    }

    fn release(&self, _position: u64) -> bool {
        false
    }
}

/// Memory whose front can be dropped (R14).
#[derive(Default)]
pub(crate) struct MemoryDevice {
    bytes: Arc<MemoryBytes>,
    len: u64,
}

/// The lock is held for a look-up or a push, never while bytes are copied. It is taken by the
/// syncer and by readers; no shard wants it.
#[derive(Default)]
struct MemoryBytes {
    pieces: RwLock<VecDeque<Piece>>,
}

/// What one append brought.
#[derive(Clone)]
struct Piece {
    position: u64,
    bytes: Arc<[u8]>,
}

impl Piece {
    fn end(&self) -> u64 {
        self.position + self.bytes.len() as u64
    }
}

impl Device for MemoryDevice {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let piece = Piece { position: self.len, bytes: bytes.into() };
        self.len = piece.end();
        self.bytes.pieces.write().push_back(piece);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn len(&self) -> u64 {
        self.len
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        let mut pieces = self.bytes.pieces.write();
        pieces.retain(|piece| piece.position < len);
        if let Some(last) = pieces.back_mut().filter(|last| last.end() > len) {
            last.bytes = last.bytes.iter().copied().take((len - last.position) as usize).collect();
        }
        self.len = len;
        Ok(())
    }

    fn reader(&self) -> Arc<dyn ReadAt> {
        self.bytes.clone()
    }
}

impl MemoryBytes {
    /// The piece that holds byte `position`.
    fn piece(&self, position: u64) -> Option<Piece> {
        let pieces = self.pieces.read();
        let index = pieces.partition_point(|piece| piece.end() <= position);
        pieces.get(index).filter(|piece| piece.position <= position).cloned()
    }
}

impl ReadAt for MemoryBytes {
    fn name(&self) -> &str {
        "memory store"
    }

    fn read_at(&self, mut into: &mut [u8], mut position: u64) -> io::Result<()> {
        while !into.is_empty() {
            let piece = self.piece(position).ok_or_else(|| {
                io::Error::new(io::ErrorKind::NotFound, format!("byte {position} is not held"))
            })?;
            let bytes = &piece.bytes[(position - piece.position) as usize..];
            let len = bytes.len().min(into.len());
            let (front, rest) = into.split_at_mut(len);
            front.copy_from_slice(&bytes[..len]);
            (into, position) = (rest, position + len as u64);
        }
        Ok(())
    }

    fn release(&self, position: u64) -> bool {
        let mut pieces = self.pieces.write();
        while pieces.front().is_some_and(|piece| piece.end() <= position) {
            pieces.pop_front();
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(device: &dyn Device, position: u64, len: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        device.reader().read_at(&mut bytes, position)?;
        Ok(bytes)
    }

    fn appends_and_cuts(device: &mut dyn Device) {
        device.append(b"abc").unwrap();
        device.append(b"defg").unwrap();
        device.sync().unwrap();
        assert_eq!(read(device, 1, 5).unwrap(), b"bcdef");
        assert!(read(device, 5, 3).is_err());
        device.truncate(5).unwrap();
        device.append(b"xyz").unwrap();
        assert_eq!((device.len(), read(device, 0, 8).unwrap()), (8, b"abcdexyz".to_vec()));
    }

    #[test]
    fn both_devices_append_read_and_cut() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        std::fs::write(&path, b"").unwrap();
        appends_and_cuts(&mut FileDevice::open(&path).unwrap());
        assert_eq!(FileDevice::open(&path).unwrap().len(), 8);
        appends_and_cuts(&mut MemoryDevice::default());
    }

    #[test]
    fn memory_drops_its_front() {
        let mut device = MemoryDevice::default();
        device.append(b"abc").unwrap();
        device.append(b"def").unwrap();
        assert!(device.reader().release(4));
        assert_eq!(read(&device, 2, 1).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(read(&device, 3, 3).unwrap(), b"def");
    }

    #[test]
    fn a_file_that_failed_once_refuses_everything() {
        let mut device = FileDevice::open(Path::new("/dev/full")).unwrap();
        device.len = 0;
        assert_eq!(device.append(b"a").unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(device.sync().unwrap_err().kind(), io::ErrorKind::Other);
        assert_eq!(
            (device.append(b"").unwrap_err().kind(), device.len()),
            (io::ErrorKind::Other, 0)
        );
    }
}
