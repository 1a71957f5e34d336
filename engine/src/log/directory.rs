//! Directory: the folder that holds an engine's durable state, one log a shard and the floor. It is
//! made whole or not at all, is open in one process at a time, and is never touched when it is not
//! ours to read.
//!
//! Its meta file is written last and never again, so where it lies everything else lies too.

use super::device::{Folder, Storage};
use super::files::file_name;
use super::floor::{FLOOR_BYTES, Floor, FloorError, new_file, was_never_written};
use super::frame::checksum;
use super::header::{HEADER_BYTES, Identity};
use super::recover::RecoverError;
use super::segments::Segments;
use std::fs::{self, File, TryLockError};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const META: &str = "walfan.meta";
const META_NEW: &str = "walfan.meta.new";
const LOCK: &str = "LOCK";
const FLOOR: &str = "floor";
const SNAPSHOTS: &str = "snapshots";
const MAGIC: [u8; 8] = *b"walfan-D";
const VERSION: u32 = 5;
const META_BYTES: usize = 36;

/// Why a directory cannot be opened. Nothing in it was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The operating system refused.
    #[error("{path}: {what} failed: {source}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// The system's reason.
        source: io::Error,
    },
    /// Another process (or another engine of this one) has it open.
    #[error("{path} is in use by another engine; stop that one first")]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// It holds other things and no walfan.
    #[error(
        "{path} is no walfan directory, and not empty ({found} lies there); name an empty or a new \
         one"
    )]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// Something that lies in it.
        found: String,
    },
    /// Its meta file cannot be understood.
    #[error("{path} is damaged; restore the directory from a copy")]
    DamagedMeta {
        /// The meta file.
        path: PathBuf,
    },
    /// It was made by another version of walfan.
    #[error(
        "{path} has format version {found}, and this walfan reads version {expected}; use the \
         walfan that made it"
    )]
    Version {
        /// The directory.
        path: PathBuf,
        /// The directory's version.
        found: u32,
        /// The version that is read.
        expected: u32,
    },
    /// It was made for another number of shards.
    #[error(
        "{path} was made with {found} shards, not {expected}; open it with {found}, or use an \
         empty one"
    )]
    Shards {
        /// The directory.
        path: PathBuf,
        /// The directory's number of shards.
        found: u32,
        /// The number that was asked for.
        expected: u32,
    },
}

/// An open directory. The lock is held for as long as this lives.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    id: u128,
    shards: u32,
    lock: File,
}

impl Drop for Directory {
    fn drop(&mut self) {
        // Closing the file is not enough: a child process that another thread is starting has a
        // copy of it until it executes its program, and keeps the lock so long. A file that cannot
        // be unlocked is closed all the same.
        let _ = self.lock.unlock();
    }
}

impl Directory {
    /// Opens the directory at `path`, or makes it, for `shards` shards.
    pub(crate) fn open(path: &Path, shards: u32) -> Result<Directory, OpenError> {
        if !path.join(META).exists() {
            refuse_foreign(path)?;
            make_folder(path)?;
            let lock = lock(path)?;
            // Who had the lock until now may have made it.
            if !path.join(META).exists() {
                refuse_foreign(path)?;
                make(path, shards)?;
            }
            return check_meta(path, shards, lock);
        }
        read_meta(path, shards)?;
        let lock = lock(path)?;
        check_meta(path, shards, lock)
    }

    /// Whose file the log of `shard` must be.
    pub(crate) fn identity(&self, shard: u32) -> Identity {
        Identity { directory: self.id, shard, shards: self.shards }
    }

    /// What tells it from every other directory.
    pub(crate) fn id(&self) -> u128 {
        self.id
    }

    /// The number of shards that it was made for.
    pub(crate) fn shards(&self) -> u32 {
        self.shards
    }

    /// Its files.
    pub(crate) fn folder(&self) -> Arc<dyn Storage> {
        Arc::new(Folder::new(&self.path))
    }

    /// The files of the shapes' initial rows, in a folder of their own: there may be more of them
    /// than of all others. It is made when the directory is opened for the first time.
    pub(crate) fn snapshots(&self) -> Result<(Arc<dyn Storage>, u32), OpenError> {
        let path = self.path.join(SNAPSHOTS);
        if !path.exists() {
            fs::create_dir(&path).map_err(io_error(&path, "making the directory"))?;
            sync_folder(&self.path)?;
        }
        Ok((Arc::new(Folder::new(&path)), floor_seed(self.id)))
    }

    /// The files of `shard`'s log, as large as they are by default.
    #[cfg(test)]
    pub(crate) fn shard_device(&self, shard: u32) -> Result<Segments, RecoverError> {
        self.segments(shard, super::SEGMENT_BYTES_MAX)
    }

    /// Opens the files of `shard`'s log, for [`recover`](super::recover()). New ones are closed
    /// when they pass `bytes_max`.
    pub(crate) fn segments(&self, shard: u32, bytes_max: u64) -> Result<Segments, RecoverError> {
        let folder = Arc::new(Folder::new(&self.path));
        Segments::open(folder, self.identity(shard), bytes_max)
    }

    /// Opens the acknowledgement floor (R13). Once: it has one writer.
    pub(crate) fn floor(&self) -> Result<Floor, FloorError> {
        Floor::open(&self.path.join(FLOOR), floor_seed(self.id))
    }
}

fn io_error(path: &Path, what: &'static str) -> impl FnOnce(io::Error) -> OpenError {
    move |source| OpenError::Io { path: path.to_owned(), what, source }
}

fn shard_path(path: &Path, shard: u32) -> PathBuf {
    path.join(file_name(shard, 0))
}

fn floor_seed(id: u128) -> u32 {
    checksum(&id.to_le_bytes(), 0)
}

/// Refuses a directory without a meta file that holds anything but what a creation that was cut
/// off leaves: files of ours in which nothing was ever written.
fn refuse_foreign(path: &Path) -> Result<(), OpenError> {
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(io_error(path, "listing"))?,
    };
    for entry in entries {
        let entry = entry.map_err(io_error(path, "listing"))?;
        let metadata = entry.metadata().map_err(io_error(path, "listing"))?;
        let found = entry.file_name().to_string_lossy().into_owned();
        if !metadata.is_file() || !is_left_over(path, &found, metadata.len()) {
            return Err(OpenError::Foreign { path: path.to_owned(), found });
        }
    }
    Ok(())
}

fn is_left_over(path: &Path, name: &str, len: u64) -> bool {
    let log = name.strip_prefix("shard-").and_then(|rest| rest.strip_suffix(".log"));
    match name {
        LOCK => len == 0,
        META_NEW => len <= META_BYTES as u64,
        FLOOR if len == FLOOR_BYTES as u64 => {
            fs::read(path.join(name)).is_ok_and(|bytes| was_never_written(&bytes))
        }
        FLOOR => len < FLOOR_BYTES as u64,
        _ => log.is_some() && len <= HEADER_BYTES as u64,
    }
}

fn make_folder(path: &Path) -> Result<(), OpenError> {
    fs::create_dir_all(path).map_err(io_error(path, "making the directory"))?;
    // The directory's own name must survive too.
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    sync_folder(parent.unwrap_or(Path::new(".")))
}

fn sync_folder(path: &Path) -> Result<(), OpenError> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(io_error(path, "syncing"))
}

fn lock(path: &Path) -> Result<File, OpenError> {
    let file_path = path.join(LOCK);
    let file = File::options().create(true).truncate(false).write(true).open(&file_path);
    let file = file.map_err(io_error(&file_path, "opening"))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse { path: path.to_owned() }),
        Err(TryLockError::Error(source)) => Err(io_error(&file_path, "locking")(source)),
    }
}

/// Makes everything, the meta file last: after a crash in between there is none.
fn make(path: &Path, shards: u32) -> Result<(), OpenError> {
    let id = u128::from(random()) << 64 | u128::from(random());
    for shard in 0..shards {
        let header = Identity { directory: id, shard, shards }.header();
        write_synced(&shard_path(path, shard), &header)?;
    }
    write_synced(&path.join(FLOOR), &new_file(floor_seed(id)))?;
    let new = path.join(META_NEW);
    write_synced(&new, &meta_bytes(id, shards))?;
    sync_folder(path)?;
    fs::rename(&new, path.join(META)).map_err(io_error(&new, "renaming"))?;
    sync_folder(path)
}

/// The standard library draws its hash keys from the system's randomness.
fn random() -> u64 {
    RandomState::new().hash_one(std::process::id())
}

fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), OpenError> {
    let mut file = File::create(path).map_err(io_error(path, "creating"))?;
    file.write_all(bytes).map_err(io_error(path, "writing"))?;
    file.sync_all().map_err(io_error(path, "syncing"))
}

/// magic, version, shards, id, crc32c of these.
fn meta_bytes(id: u128, shards: u32) -> [u8; META_BYTES] {
    let mut meta = [0; META_BYTES];
    meta[..8].copy_from_slice(&MAGIC);
    meta[8..12].copy_from_slice(&VERSION.to_le_bytes());
    meta[12..16].copy_from_slice(&shards.to_le_bytes());
    meta[16..32].copy_from_slice(&id.to_le_bytes());
    let crc = checksum(&meta[..32], 0);
    meta[32..].copy_from_slice(&crc.to_le_bytes());
    meta
}

fn check_meta(path: &Path, shards: u32, lock: File) -> Result<Directory, OpenError> {
    let id = read_meta(path, shards)?;
    Ok(Directory { path: path.to_owned(), id, shards, lock })
}

/// The directory's id, if it is ours and has `expected` shards.
fn read_meta(path: &Path, expected: u32) -> Result<u128, OpenError> {
    let meta_path = path.join(META);
    let meta = fs::read(&meta_path).map_err(io_error(&meta_path, "reading"))?;
    let number = |at: usize| meta.get(at..)?.first_chunk().copied().map(u32::from_le_bytes);
    let known = || {
        let id = meta.get(16..)?.first_chunk().copied().map(u128::from_le_bytes);
        Some((number(8)?, number(12)?, id?))
    };
    let damaged = || OpenError::DamagedMeta { path: meta_path.clone() };
    if !meta.starts_with(&MAGIC) {
        let found = META.to_owned();
        return Err(OpenError::Foreign { path: path.to_owned(), found });
    }
    let (version, found, id) = known().ok_or_else(damaged)?;
    let path = path.to_owned();
    if version != VERSION {
        Err(OpenError::Version { path, found: version, expected: VERSION })
    } else if meta != meta_bytes(id, found) {
        Err(damaged())
    } else if found != expected {
        Err(OpenError::Shards { path, found, expected })
    } else {
        Ok(id)
    }
}

#[cfg(test)]
mod tests;
