//! Catalog: which shapes there are, in a file beside the logs: of each its handle, shard, slot,
//! first offset, state and definition. Entries flow in from who adds shapes and from who clears up
//! after those that went; what it holds flows out once, when a directory is opened.
//!
//! The logs win over it (R3): it says nothing that they, and the snapshots' files, do not say too.
//! So one that is missing or damaged is made anew, and what differs is put right at each opening.
//! It is off every shard's thread.

mod aside;
mod entry;
mod error;
mod store;

pub(crate) use entry::Entry;
pub(crate) use error::CatalogError;

use crate::log::Directory;
use crate::snapshot::Snapshot;
use crate::words::Handle;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use store::{Store, opened};

/// What a catalog held when it was opened.
#[derive(Debug, Default)]
pub(crate) struct Held {
    /// By handle.
    shapes: BTreeMap<u64, Box<[u8]>>,
    /// Those that are complete.
    snapshots: BTreeMap<u64, Arc<Snapshot>>,
    next_handle: u64,
}

impl Held {
    /// The complete initial rows of a shape, as far as the catalog knows.
    pub(crate) fn snapshot(&self, handle: Handle) -> Option<&Arc<Snapshot>> {
        self.snapshots.get(&handle.as_u64())
    }

    /// No handle from here on was ever given out, as far as the catalog knows.
    pub(crate) fn next_handle(&self) -> Handle {
        Handle::new(self.next_handle)
    }

    /// The shapes that it knows.
    #[cfg(all(test, not(loom)))]
    pub(crate) fn handles(&self) -> Vec<Handle> {
        self.shapes.keys().map(|handle| Handle::new(*handle)).collect()
    }
}

/// What was different in a catalog from what the logs say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mended {
    /// Shapes that it did not know, or knew otherwise.
    pub(crate) put: usize,
    /// Shapes that are gone, or never came to be.
    pub(crate) taken: usize,
}

/// One change of the catalog.
#[derive(Debug)]
pub(crate) enum Change {
    Put(Handle, Vec<u8>),
    Take(Handle),
}

impl Change {
    fn handle(&self) -> Handle {
        match self {
            Change::Put(handle, _) | Change::Take(handle) => *handle,
        }
    }

    pub(crate) fn put(handle: Handle, entry: &Entry<'_>) -> Change {
        Change::Put(handle, entry.to_bytes())
    }
}

/// See the file's head. Callers that come at the same time share one commit.
#[derive(Debug)]
pub(crate) struct Catalog {
    waiting: Mutex<Waiting>,
    /// Held while somebody commits.
    written: Mutex<Written>,
    /// Nobody else opens the directory before the store is closed.
    _directory: Arc<Directory>,
}

/// Changes that nobody has taken yet, and how many callers have left some.
#[derive(Debug, Default)]
struct Waiting {
    changes: Vec<Change>,
    callers: u64,
    /// The highest that any of them has said.
    next_handle: u64,
}

#[derive(Debug)]
struct Written {
    store: Store,
    /// What this many callers left is committed.
    callers: u64,
    failed: bool,
}

impl Catalog {
    /// Opens the directory's catalog, or makes one.
    pub(crate) fn open(directory: &Arc<Directory>) -> Result<(Catalog, Held), CatalogError> {
        let of = (directory.id(), directory.shards());
        let (store, held) = opened(&*directory.folder(), of)?;
        let written = Mutex::new(Written { store, callers: 0, failed: false });
        let (waiting, _directory) = (Mutex::default(), Arc::clone(directory));
        Ok((Catalog { waiting, written, _directory }, held))
    }

    /// Makes the catalog, which held `held`, say what the logs say: all the living shapes, in any
    /// order, and the first handle that was never given out.
    pub(crate) fn reconcile<'a>(
        &self,
        held: Held,
        shapes: impl Iterator<Item = (Handle, Entry<'a>)>,
        next_handle: Handle,
    ) -> Result<Mended, CatalogError> {
        let Held { shapes: mut rest, .. } = held;
        let mut changes = Vec::new();
        for (handle, entry) in shapes {
            let entry = entry.to_bytes();
            if rest.remove(&handle.as_u64()).as_deref() != Some(&entry) {
                changes.push(Change::Put(handle, entry));
            }
        }
        let mended = Mended { put: changes.len(), taken: rest.len() };
        changes.extend(rest.into_keys().map(|handle| Change::Take(Handle::new(handle))));
        if !changes.is_empty() {
            self.write(changes, next_handle)?;
        }
        Ok(mended)
    }

    /// Makes changes, all of them or none, durable when it returns; handles from `next_handle` on
    /// were not given out before the call. An error is final (INV10).
    pub(crate) fn write(
        &self,
        changes: Vec<Change>,
        next_handle: Handle,
    ) -> Result<(), CatalogError> {
        let caller = {
            let mut waiting = self.waiting.lock();
            waiting.changes.extend(changes);
            waiting.callers += 1;
            // Who commits does so for others too, who may know of higher ones.
            waiting.next_handle = waiting.next_handle.max(next_handle.as_u64());
            waiting.callers
        };
        let mut written = self.written.lock();
        if written.callers >= caller {
            return Ok(());
        }
        if written.failed {
            return Err(CatalogError::Failed { file: written.store.file().to_owned() });
        }
        let (mut changes, callers, next_handle) = {
            let mut waiting = self.waiting.lock();
            let next_handle = Handle::new(waiting.next_handle);
            (std::mem::take(&mut waiting.changes), waiting.callers, next_handle)
        };
        // Pages are then filled one after another; what is said twice of a shape keeps its order.
        changes.sort_by_key(Change::handle);
        written.failed = true;
        written.store.commit(&changes, next_handle)?;
        (written.failed, written.callers) = (false, callers);
        Ok(())
    }

    /// All that it holds now.
    #[cfg(test)]
    pub(crate) fn held(&self) -> Held {
        self.written.lock().store.held().unwrap()
    }
}

#[cfg(test)]
mod tests;
