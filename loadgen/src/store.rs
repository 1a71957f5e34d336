//! Store: the fresh directory that a run's shape log lives in, and the file system under it. A
//! file system in memory keeps nothing through a power cut, so it is refused: figures of a log on
//! it would pass for durable ones.

use crate::cli::Store;
use crate::clock::utc_now;
use rustix::fs::statfs;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A store that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum StoreError {
    #[error("cannot make the store's directory {path}: {error}; give another --store")]
    Make { path: PathBuf, error: io::Error },
    #[error("cannot ask for the file system of {path}: {error}; give another --store")]
    Ask { path: PathBuf, error: io::Error },
    #[error(
        "{path} lies on {name}, which is memory: a log there is not durable. Give a --store on a \
         disk, or --store memory, whose figures say that they are not durable"
    )]
    NotDurable { path: PathBuf, name: &'static str },
}

/// A run's own place in a store. What is in it goes with it.
#[derive(Debug)]
pub(crate) struct Place {
    directory: Option<PathBuf>,
    /// As the report names it.
    pub(crate) filesystem: String,
    kept: bool,
}

impl Place {
    /// Makes a fresh place in `store`.
    pub(crate) fn new(store: &Store) -> Result<Place, StoreError> {
        let Store::Directory(root) = store else {
            return Ok(Place {
                directory: None,
                filesystem: "none (memory store)".into(),
                kept: false,
            });
        };
        let make = |path: &Path| {
            fs::create_dir_all(path)
                .map_err(|error| StoreError::Make { path: path.to_owned(), error })
        };
        make(root)?;
        let ask = |error| StoreError::Ask { path: root.clone(), error };
        let root = root.canonicalize().map_err(ask)?;
        let kind = statfs(&root).map_err(|error| ask(error.into()))?.f_type as u64;
        if let Some(name) = name_in_memory(kind) {
            return Err(StoreError::NotDurable { path: root, name });
        }
        let directory = root.join(format!("run-{}-{}", utc_now(), std::process::id()));
        make(&directory)?;
        Ok(Place { directory: Some(directory), filesystem: name_on_disk(kind), kept: false })
    }

    /// The directory; `None` with the memory store.
    pub(crate) fn directory(&self) -> Option<&Path> {
        self.directory.as_deref()
    }

    /// Leaves what is in it where it is, for who wants to see what went wrong.
    pub(crate) fn keep(&mut self) {
        self.kept = true;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(directory) = self.directory.as_ref().filter(|_| !self.kept)
            && let Err(error) = fs::remove_dir_all(directory)
        {
            eprintln!("cannot remove {}: {error}", directory.display());
        }
    }
}

/// File systems that live in memory, by the number that the kernel gives their kind.
fn name_in_memory(kind: u64) -> Option<&'static str> {
    match kind as u32 {
        0x0102_1994 => Some("tmpfs"),
        0x8584_58F6 => Some("ramfs"),
        _ => None,
    }
}

fn name_on_disk(kind: u64) -> String {
    match kind as u32 {
        0xEF53 => "ext4".into(),
        0x5846_5342 => "xfs".into(),
        0x9123_683E => "btrfs".into(),
        0x2FC1_2FC1 => "zfs".into(),
        0xF2F5_2010 => "f2fs".into(),
        0x794C_7630 => "overlayfs".into(),
        0x6969 => "nfs".into(),
        other => format!("kind {other:#x}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_system_in_memory_is_refused() {
        let shared = Path::new("/dev/shm");
        if !shared.is_dir() {
            return;
        }
        let root = shared.join(format!("loadgen-test-{}", std::process::id()));
        let refused = Place::new(&Store::Directory(root.clone()));
        fs::remove_dir_all(&root).unwrap();
        let text = refused.unwrap_err().to_string();
        assert!(text.contains("tmpfs") && text.contains("not durable"), "{text}");
    }

    #[test]
    fn a_place_is_fresh_and_goes_with_its_run() {
        // Beside the sources, which lie on a disk where /tmp may not.
        let root = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let place = Place::new(&Store::Directory(root.path().join("a/b"))).unwrap();
        let directory = place.directory().unwrap().to_owned();
        fs::write(directory.join("file"), "x").unwrap();
        assert!(!place.filesystem.is_empty());
        drop(place);
        assert!(!directory.exists() && root.path().join("a/b").exists());
    }
}
