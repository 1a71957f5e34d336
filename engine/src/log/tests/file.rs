//! A directory of one shard, to write, break and recover.

use super::super::recover::RecoverError;
use super::super::{Directory, Encoder, Log, Recovered, Syncer, recover};
use std::path::PathBuf;
use std::sync::Arc;

pub(super) struct Folder {
    _parent: tempfile::TempDir,
    directory: Directory,
    pub(super) log_path: PathBuf,
}

impl Folder {
    /// In memory where the machine has such a place: what is looked at is bytes, and thousands of
    /// recoveries would each wait for a disk.
    pub(super) fn new() -> Folder {
        let parent = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let directory = Directory::open(parent.path(), 1).unwrap();
        let log_path = parent.path().join("shard-000.log");
        Folder { _parent: parent, directory, log_path }
    }

    pub(super) fn recover(&self, block_bytes: usize) -> Result<Recovered, RecoverError> {
        let device = Box::new(self.directory.shard_device(0).unwrap());
        recover(device, &self.directory.identity(0), block_bytes)
    }

    /// What the checksums in the file start from.
    pub(super) fn seed(&self) -> u32 {
        self.directory.identity(0).seed()
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        std::fs::read(&self.log_path).unwrap()
    }

    pub(super) fn overwrite(&self, bytes: &[u8]) {
        std::fs::write(&self.log_path, bytes).unwrap();
    }
}

pub(super) fn reopen(folder: &Folder, block_bytes: usize) -> Recovered {
    folder.recover(block_bytes).unwrap()
}

impl Recovered {
    pub(super) fn parts(self) -> (Encoder, Syncer, Arc<Log>) {
        (self.encoder, self.syncer, self.log)
    }
}
