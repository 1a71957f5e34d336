//! Door: where snapshots are begun, read and cleared away. What a crash left half-done is told from
//! what is complete when it is opened, by the names of the files alone.

use super::chunk::{ChunkId, SnapshotDamage, rows_of, snapshot_of};
use super::files::{Found, name, parse};
use super::loading::{Loading, remove_all};
use super::page::Room;
use super::{PgSnapshot, Snapshot, SnapshotPage, SnapshotPosition, SnapshotRow};
use crate::log::{Malformed, ReadLimits, Storage};
use crate::sync::{AtomicU64, Ordering};
use crate::words::{Fragment, Handle, Lsn, Relation, View};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::sync::Arc;

/// Chunks that are kept decoded: readers who go through a snapshot in small pages, or in step.
const CHUNKS_KEPT: usize = 8;

/// Why initial rows cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadFailure {
    #[error(
        "{file}: reading failed: {source}; see to the disk, or restore the directory from a copy"
    )]
    Disk { file: String, source: io::Error },
    #[error(transparent)]
    Damaged(#[from] SnapshotDamage),
    #[error("there is no row {position:?}")]
    Beyond { position: SnapshotPosition },
}

/// The files that there are when a directory is opened.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    names: Vec<(String, Found)>,
    /// By handle and attempt: the number of the last chunk where that has its name, and how many
    /// others there are.
    attempts: BTreeMap<(Handle, u64), (Option<u32>, u32)>,
}

/// See the file's head.
pub(crate) struct Door {
    folder: Arc<dyn Storage>,
    /// Checksums start from it: it is drawn from the directory's id.
    seed: u32,
    next_attempt: AtomicU64,
    /// Shapes whose snapshot is being loaded; as many as the embedder loads at a time.
    loading: Mutex<BTreeSet<Handle>>,
    kept: Mutex<VecDeque<(ChunkId, Arc<Fragment>)>>,
}

impl Door {
    pub(crate) fn open(folder: Arc<dyn Storage>, seed: u32) -> io::Result<(Door, Listing)> {
        let mut listing = Listing::default();
        let mut highest = 0;
        for name in folder.names()? {
            let Some(found) = parse(&name) else { continue };
            match found {
                Found::Chunk { id, last } => {
                    let attempt = listing.attempts.entry((id.handle, id.attempt)).or_default();
                    match last {
                        true => attempt.0 = Some(id.number),
                        false => attempt.1 += 1,
                    }
                    highest = highest.max(id.attempt);
                }
                Found::New { attempt } => highest = highest.max(attempt),
            }
            listing.names.push((name, found));
        }
        let next_attempt = AtomicU64::new(highest + 1);
        let (loading, kept) = (Mutex::default(), Mutex::default());
        Ok((Door { folder, seed, next_attempt, loading, kept }, listing))
    }

    /// The complete snapshot of a shape for which nobody else knows one: the youngest.
    pub(crate) fn complete(
        &self,
        listing: &Listing,
        handle: Handle,
    ) -> Result<Option<Snapshot>, ReadFailure> {
        let attempts = listing.attempts.range((handle, 0)..=(handle, u64::MAX)).rev();
        let complete = attempts.filter_map(|((_, attempt), (last, others))| {
            let number = last.filter(|last| last == others)?;
            Some(ChunkId { handle, attempt: *attempt, number })
        });
        let Some(id) = complete.into_iter().next() else { return Ok(None) };
        let bytes = self.bytes(id, true)?;
        snapshot_of(&bytes, id, self.seed).map(Some).map_err(|reason| self.damage(id, true, reason))
    }

    /// Deletes every file that belongs to no complete snapshot. `complete` says which attempt is a
    /// living shape's.
    pub(crate) fn clear_up(&self, listing: Listing, complete: impl Fn(Handle) -> Option<u64>) {
        for (name, found) in listing.names {
            let stays = match found {
                Found::Chunk { id, .. } => complete(id.handle) == Some(id.attempt),
                Found::New { .. } => false,
            };
            if !stays && let Err(error) = self.folder.remove(&name) {
                let file = self.folder.path_of(&name);
                tracing::warn!(file, %error, "what is left of a snapshot was not deleted");
            }
        }
    }

    /// Begins a snapshot. `None`: one of this shape is being loaded.
    pub(crate) fn begin(
        &self,
        handle: Handle,
        relation: Arc<Relation>,
        taken: (Arc<PgSnapshot>, Lsn),
    ) -> Option<Loading> {
        if !self.loading.lock().insert(handle) {
            return None;
        }
        // Relaxed: only that no two attempts get the same.
        let attempt = self.next_attempt.fetch_add(1, Ordering::Relaxed);
        let folder = Arc::clone(&self.folder);
        Some(Loading::new(folder, self.seed, (handle, attempt), relation, taken))
    }

    /// What was begun is complete or abandoned.
    pub(crate) fn end(&self, handle: Handle) {
        self.loading.lock().remove(&handle);
    }

    /// Deletes a complete snapshot.
    pub(crate) fn remove(&self, handle: Handle, snapshot: &Snapshot) {
        let id = ChunkId { handle, attempt: snapshot.attempt, number: 0 };
        self.kept.lock().retain(|(kept, _)| kept.handle != handle);
        remove_all(&*self.folder, id, snapshot.chunks.saturating_sub(1));
    }

    /// A page of a complete snapshot.
    pub(crate) fn read(
        &self,
        (handle, snapshot): (Handle, &Snapshot),
        (relation, view): (&Arc<Relation>, &View),
        from: SnapshotPosition,
        limits: ReadLimits,
    ) -> Result<SnapshotPage, ReadFailure> {
        let mut page = SnapshotPage { rows: Vec::new(), next: from, is_last: false };
        let mut room = Room { left: limits, is_empty: true };
        let beyond = ReadFailure::Beyond { position: from };
        let end = SnapshotPosition { chunk: snapshot.chunks, row: 0 };
        if from > end {
            return Err(beyond);
        }
        while page.next < end {
            let attempt = snapshot.attempt;
            let id = ChunkId { handle, attempt, number: page.next.chunk };
            let last = page.next.chunk + 1 == snapshot.chunks;
            let chunk = self.chunk(id, last, relation)?;
            if page.next.row as usize > chunk.len() {
                return Err(beyond);
            }
            for index in page.next.row..chunk.len() as u32 {
                let row = SnapshotRow { chunk: Arc::clone(&chunk), index, view: view.clone() };
                if !room.take(row.bytes()) {
                    return Ok(page);
                }
                page.rows.push(row);
                page.next.row = index + 1;
            }
            page.next = SnapshotPosition { chunk: page.next.chunk + 1, row: 0 };
        }
        page.is_last = true;
        Ok(page)
    }

    fn chunk(
        &self,
        id: ChunkId,
        last: bool,
        relation: &Arc<Relation>,
    ) -> Result<Arc<Fragment>, ReadFailure> {
        let known = self.kept.lock().iter().find(|(kept, _)| *kept == id).cloned();
        if let Some((_, chunk)) = known {
            return Ok(chunk);
        }
        let bytes = self.bytes(id, last)?;
        let rows = rows_of(&bytes, id, self.seed, relation);
        let chunk = Arc::new(rows.map_err(|reason| self.damage(id, last, reason))?);
        let mut kept = self.kept.lock();
        kept.push_back((id, Arc::clone(&chunk)));
        if kept.len() > CHUNKS_KEPT {
            kept.pop_front();
        }
        Ok(chunk)
    }

    fn bytes(&self, id: ChunkId, last: bool) -> Result<Vec<u8>, ReadFailure> {
        let name = name(id, last);
        let read = || {
            let file = self.folder.open(&name)?;
            let mut bytes = vec![0; file.len() as usize];
            file.reader().read_at(&mut bytes, 0)?;
            Ok(bytes)
        };
        read().map_err(|source| ReadFailure::Disk { file: self.folder.path_of(&name), source })
    }

    fn damage(&self, id: ChunkId, last: bool, reason: Malformed) -> ReadFailure {
        SnapshotDamage { file: self.folder.path_of(&name(id, last)), reason }.into()
    }
}

impl std::fmt::Debug for Door {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Door").finish_non_exhaustive()
    }
}
