//! Keeper: clears up after shapes whose end is durable: takes them out of the catalog, and deletes
//! their initial rows. A machine; it has a thread of its own, because it waits for the disk.

use crate::catalog::{Catalog, CatalogError, Change};
use crate::log::Directory;
use crate::shard::Gone;
use crate::snapshot::Door;
use crate::words::Handle;
use crossbeam_channel::Receiver;
use std::sync::Arc;

/// Shapes that one commit takes out of the catalog.
const GONE_MAX: usize = 65_536;

/// See the file's head.
pub(super) struct Keeper {
    gone: Receiver<Gone>,
    catalog: Arc<Catalog>,
    door: Arc<Door>,
    /// Nobody else opens the directory while this may write to it: also when it is left behind.
    _directory: Arc<Directory>,
}

impl Keeper {
    pub(super) fn new(
        gone: Receiver<Gone>,
        (catalog, door): (Arc<Catalog>, Arc<Door>),
        directory: Arc<Directory>,
    ) -> Keeper {
        Keeper { gone, catalog, door, _directory: directory }
    }

    /// Waits for shapes that are gone, and clears up after them. False: the shards have ended, and
    /// there will be no more. An error is final for the engine.
    pub(super) fn step(&self) -> Result<bool, CatalogError> {
        let Ok(first) = self.gone.recv() else { return Ok(false) };
        let gone = std::iter::once(first).chain(self.gone.try_iter()).take(GONE_MAX);
        let mut changes = Vec::new();
        for Gone { handle, snapshot } in gone {
            changes.push(Change::Take(handle));
            if let Some(snapshot) = snapshot {
                self.door.remove(handle, &snapshot);
            }
        }
        self.catalog.write(changes, Handle::new(0))?;
        Ok(true)
    }

    /// Whether a step would wait.
    #[cfg(all(test, not(loom)))]
    pub(super) fn is_idle(&self) -> bool {
        self.gone.is_empty()
    }
}
