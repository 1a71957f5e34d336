//! Snapshots: initial rows for shapes. A shape is added to be given some; then rows are read from
//! Postgres under a snapshot and handed in; and when they are complete, they are read page by page,
//! with the shape's log behind them. What the rows show is not told again.

use super::error::{AddError, ReadError};
use super::{Engine, Inner};
use crate::catalog::{Change, Entry};
use crate::consumer::ConsumerSpec;
use crate::control::{Failure, Place, Shape};
use crate::log::ReadLimits;
use crate::shard::{Given, Message, Refusal};
use crate::snapshot::{
    Door, Initial, LoadFailure, Loading, PgSnapshot, ReadFailure, Snapshot, SnapshotPage,
    SnapshotPosition,
};
use crate::words::{Handle, Lsn, Offset, ShapeDefinition, Value};
use crossbeam_channel::{Receiver, bounded};
use std::sync::{Arc, Weak};

/// What a shard says to a snapshot.
type Answer = Receiver<Result<usize, Refusal>>;

/// Initial rows that were not taken. The shape is as it was, and another snapshot may be loaded for
/// it, except where it is said otherwise.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// There is no such shape: removed or invalidated, perhaps while its rows were loaded.
    #[error("there is no shape {handle}: it was removed or invalidated, or never was")]
    Unknown {
        /// The handle.
        handle: Handle,
    },
    /// The shape begins with its log.
    #[error(
        "shape {handle} was not added to be given initial rows: use add_shape_with_snapshot for \
         another one"
    )]
    NotAwaited {
        /// The handle.
        handle: Handle,
    },
    /// The shape has its initial rows.
    #[error("shape {handle} has its initial rows already")]
    Complete {
        /// The handle.
        handle: Handle,
    },
    /// Somebody is loading them.
    #[error("the initial rows of shape {handle} are being loaded: finish or drop that loader")]
    Loading {
        /// The handle.
        handle: Handle,
    },
    /// The snapshot was taken before the shape was added: what committed in between would be
    /// neither in the rows nor in the log.
    #[error(
        "the snapshot was taken at {taken_at}, but the log of shape {handle} begins after {first}: \
         take a snapshot once the shape is added"
    )]
    TooOld {
        /// The handle.
        handle: Handle,
        /// Where the WAL ended when the rows were read.
        taken_at: Lsn,
        /// Everything after it is in the shape's log.
        first: Offset,
    },
    /// A transaction had come before the shape was added, or may have, and others in Postgres did
    /// not see it yet when the snapshot was taken: it may be neither in the rows nor in the log.
    /// Most often it has ended by now. One that goes on to run, and is older than the source's
    /// first connection, has others wait for its end.
    #[error(
        "transaction {xid} came before shape {handle} was added, or may have, and the snapshot \
         does not show it: take another one when it has ended"
    )]
    Unshown {
        /// The handle.
        handle: Handle,
        /// The transaction.
        xid: u32,
    },
    /// Somebody has to say which transactions came before this engine was opened: of a shape that
    /// was added behind them they may be neither in the rows nor in the log.
    #[error(
        "which transactions came before the directory of shape {handle} was opened is not known: \
         start the source, or tell Engine::note_earlier_xids, then load the snapshot"
    )]
    Untold {
        /// The handle.
        handle: Handle,
    },
    /// A row is not as its table has them. It was not taken; the others stay.
    #[error("{cause}")]
    Row {
        /// What is wrong.
        cause: String,
    },
    /// There is no room on the disk. What was loaded is deleted.
    #[error("{cause}; there is no room: make some, then load another snapshot")]
    Full {
        /// The file, and what was tried.
        cause: String,
    },
    /// The disk refused. What was loaded is deleted.
    #[error("{cause}; see to the disk, then load another snapshot")]
    Disk {
        /// The file, and what was tried.
        cause: String,
    },
    /// The loader has failed before.
    #[error("the rows that were loaded for shape {handle} are deleted: load another snapshot")]
    Abandoned {
        /// The handle.
        handle: Handle,
    },
    /// The engine has failed or stopped. If it did so in [`SnapshotLoader::finish`], the rows may
    /// be complete all the same when it is opened again.
    #[error(transparent)]
    Failed(#[from] Failure),
}

impl Engine {
    /// Adds a shape that is to be given initial rows: see [`Engine::load_snapshot`]. From its first
    /// offset on its changes are logged, as any shape's. Until the rows are complete that is all:
    /// its log cannot be read, the flushed LSN does not wait for its consumer, and its consumer is
    /// not made. Then its factory is told of the rows, with
    /// [`Start::snapshot`](crate::Start::snapshot), and its consumer gets what they do not show.
    ///
    /// When a directory is opened again, the consumer of such a shape is told of no report
    /// ([`Start::last_reported`](crate::Start::last_reported)): the flushed LSN may have passed it
    /// while its rows were loaded.
    ///
    /// # Errors
    /// Those of [`Engine::add_shape`]; and without a directory.
    pub fn add_shape_with_snapshot(
        &self,
        definition: ShapeDefinition,
        consumer: ConsumerSpec,
    ) -> Result<Handle, AddError> {
        let handles = self.add_shapes_with_snapshot(vec![(definition, consumer)])?;
        handles.first().copied().ok_or(AddError::Failed(Failure::Stopped))
    }

    /// Adds many shapes that are to be given initial rows, all or none; the handles, in the order
    /// of `shapes`.
    ///
    /// # Errors
    /// The first that is found; then none of the shapes exists.
    pub fn add_shapes_with_snapshot(
        &self,
        shapes: Vec<(ShapeDefinition, ConsumerSpec)>,
    ) -> Result<Vec<Handle>, AddError> {
        match shapes.first() {
            Some((shape, _)) if self.inner.door.is_none() => {
                Err(AddError::NoDirectory { definition: shape.to_string() })
            }
            _ => self.add_all(shapes, &Initial::Awaited),
        }
    }

    /// Begins to load the initial rows of a shape: those of its table for which its clause is true,
    /// read under the snapshot `shown`, when the WAL ended at `taken_at`. In Postgres:
    ///
    /// ```sql
    /// BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
    /// SELECT pg_current_snapshot(), pg_current_wal_insert_lsn();
    /// SELECT id::text, kind::text FROM items WHERE kind = 'hot';
    /// ```
    ///
    /// The shape is added before that. All that the snapshot shows was committed below `taken_at`,
    /// so that beyond it nothing need be compared with it any more.
    ///
    /// # Errors
    /// When there is no such shape, it is not to be given rows or has them, the snapshot does not
    /// go together with the beginning of its log, or the engine has failed or stopped.
    pub fn load_snapshot(
        &self,
        handle: Handle,
        shown: PgSnapshot,
        taken_at: Lsn,
    ) -> Result<SnapshotLoader, SnapshotError> {
        let inner = &self.inner;
        inner.control.state.check()?;
        let Some(door) = &inner.door else { return Err(SnapshotError::NotAwaited { handle }) };
        let shown = Arc::new(shown);
        let (place, answer) = inner.ask_of_snapshot(handle, &shown, taken_at)?;
        match inner.wait_for(&answer)? {
            Err(Refusal::Unshown(xid)) => return Err(SnapshotError::Unshown { handle, xid }),
            Err(Refusal::Untold) => return Err(SnapshotError::Untold { handle }),
            Err(_) => return Err(Failure::Stopped.into()),
            Ok(_) => {}
        }
        let loading = door.begin(handle, Arc::clone(&place.relation), (shown, taken_at));
        let loading = loading.ok_or(SnapshotError::Loading { handle })?;
        let (inner, door) = (Arc::downgrade(inner), Arc::clone(door));
        let loader = SnapshotLoader { inner, door, handle, loading: Some(loading) };
        // It may have been given others since it was looked up.
        self.inner.awaiting(handle)?;
        Ok(loader)
    }

    /// Says that transactions through `xid` may have committed before what is published from now
    /// on, and may never come: snapshots that do not show them are refused, as one of them may be
    /// in the WAL for long before others in Postgres see it. The Postgres source tells it by
    /// itself; another one does when it connects for the first time after a start, when its slot is
    /// new or was moved, and when a table is newly published. In Postgres: `SELECT txid_current()`,
    /// the lower 32 bits, asked once the slot is there.
    ///
    /// # Errors
    /// When the engine has failed or stopped.
    pub fn note_earlier_xids(&self, xid: u32) -> Result<(), Failure> {
        self.inner.control.state.check()?;
        self.inner.note_earlier_xids(xid)
    }

    /// A page of a shape's initial rows, in the order in which they were given. Go on from
    /// [`SnapshotPage::next`]; after the last page follows the shape's log, from
    /// [`Offset::ZERO`](crate::Offset) on.
    ///
    /// # Errors
    /// When the shape is gone, has no initial rows, or not all of them yet, or they cannot be read.
    pub fn read_snapshot(
        &self,
        handle: Handle,
        from: SnapshotPosition,
        limits: ReadLimits,
    ) -> Result<SnapshotPage, ReadError> {
        let inner = &self.inner;
        let place = inner.control.registry.place(handle).ok_or(ReadError::Unknown { handle })?;
        let (Some(door), Some(snapshot)) = (&inner.door, place.initial.complete()) else {
            return Err(match place.initial.is_awaited() {
                true => ReadError::SnapshotIncomplete { handle },
                false => ReadError::NoSnapshot { handle },
            });
        };
        let page = door.read((handle, snapshot), (&place.relation, &place.view), from, limits);
        page.map_err(|error| match error {
            // Its files went while they were being read.
            _ if inner.control.registry.place(handle).is_none() => ReadError::Unknown { handle },
            ReadFailure::Beyond { position } => ReadError::BeyondSnapshot { handle, position },
            error => ReadError::Log { cause: error.to_string() },
        })
    }

    /// The initial rows of a shape; `None` while they are not complete.
    ///
    /// # Errors
    /// When the shape is gone, or was not added to be given any.
    pub fn snapshot(&self, handle: Handle) -> Result<Option<Arc<Snapshot>>, ReadError> {
        let place = self.inner.control.registry.place(handle);
        match place.ok_or(ReadError::Unknown { handle })?.initial {
            Initial::None => Err(ReadError::NoSnapshot { handle }),
            Initial::Awaited => Ok(None),
            Initial::Complete(snapshot) => Ok(Some(snapshot)),
        }
    }
}

impl Inner {
    /// The place of a shape that awaits its initial rows.
    fn awaiting(&self, handle: Handle) -> Result<Place, SnapshotError> {
        let place = self.control.registry.place(handle);
        let place = place.ok_or(SnapshotError::Unknown { handle })?;
        match place.initial {
            Initial::None => Err(SnapshotError::NotAwaited { handle }),
            Initial::Complete(_) => Err(SnapshotError::Complete { handle }),
            Initial::Awaited => Ok(place),
        }
    }

    /// A snapshot that is asked of afterwards is asked of behind it, in each shard.
    pub(super) fn note_earlier_xids(&self, xid: u32) -> Result<(), Failure> {
        (0..self.shards.len()).try_for_each(|shard| self.send(shard, Message::EarlierXids(xid)))
    }

    /// Asks a shape's shard whether a snapshot goes together with the beginning of its log.
    pub(super) fn ask_of_snapshot(
        &self,
        handle: Handle,
        shown: &Arc<PgSnapshot>,
        taken_at: Lsn,
    ) -> Result<(Place, Answer), SnapshotError> {
        let place = self.awaiting(handle)?;
        let first = place.first;
        if taken_at <= first.commit {
            return Err(SnapshotError::TooOld { handle, taken_at, first });
        }
        let (reply, answer) = bounded(1);
        let message = Message::CheckSnapshot(first, Arc::clone(shown), reply);
        self.send(place.shard as usize, message)?;
        Ok((place, answer))
    }

    /// Tells the catalog and the shard that a shape's rows are complete, as they durably are.
    fn give(&self, handle: Handle, snapshot: &Arc<Snapshot>) -> Result<(), SnapshotError> {
        let answer = self.tell_of_snapshot(handle, snapshot)?;
        match self.wait_for(&answer)? {
            Ok(_) => Ok(()),
            Err(Refusal::Stopping) => Err(Failure::Stopped.into()),
            Err(_) => {
                // Who clears up after it may have come before the entry.
                if let Some(catalog) = &self.catalog {
                    self.write_catalog(catalog, vec![Change::Take(handle)])?;
                }
                Err(SnapshotError::Unknown { handle })
            }
        }
    }

    /// Writes it to the catalog, and has the shard answer when it knows.
    pub(super) fn tell_of_snapshot(
        &self,
        handle: Handle,
        snapshot: &Arc<Snapshot>,
    ) -> Result<Answer, SnapshotError> {
        let place = self.awaiting(handle)?;
        let Shape { shard, slot, first, .. } = *place.shape;
        let definition = &place.definition();
        let initial = &Initial::Complete(Arc::clone(snapshot));
        let entry = Entry { shard: shard.into(), slot, first, definition, initial };
        if let Some(catalog) = &self.catalog {
            self.write_catalog(catalog, vec![Change::put(handle, &entry)])?;
        }
        let (reply, answer) = bounded(1);
        let snapshot = Arc::clone(snapshot);
        let given = Given { handle, slot, snapshot, reply };
        self.send(shard.into(), Message::Snapshot(given))?;
        Ok(answer)
    }
}

/// Takes the initial rows of one shape: see [`Engine::load_snapshot`]. What was taken is deleted if
/// it is dropped before [`SnapshotLoader::finish`].
pub struct SnapshotLoader {
    inner: Weak<Inner>,
    door: Arc<Door>,
    handle: Handle,
    /// `None` when it has failed, or is finished.
    loading: Option<Loading>,
}

impl SnapshotLoader {
    /// The shape.
    pub fn handle(&self) -> Handle {
        self.handle
    }

    /// Takes a row: one value for each column of the shape's table, in the table's order, whatever
    /// the shape selects. Rows are written in pieces of about 1 MiB, so some calls wait for the
    /// disk.
    ///
    /// # Errors
    /// When the row is not as its table has them: then it alone is not taken. When the disk
    /// refuses, the shape is gone, or the engine has failed or stopped: then all is given up.
    pub fn push<'v>(
        &mut self,
        row: impl IntoIterator<Item = Value<'v>>,
    ) -> Result<(), SnapshotError> {
        let handle = self.handle;
        let loading = self.loading.as_mut().ok_or(SnapshotError::Abandoned { handle })?;
        let is_full = loading.push(row).map_err(failed)?;
        if is_full {
            let written = self.check().and_then(|_| match &mut self.loading {
                Some(loading) => loading.write().map_err(failed),
                None => Err(SnapshotError::Abandoned { handle }),
            });
            return written.inspect_err(|_| self.abandon());
        }
        Ok(())
    }

    /// Says that these were all rows. They are complete and durable when this returns, and the
    /// shape's consumer is being made.
    ///
    /// # Errors
    /// When the disk refuses, the shape is gone, or the engine has failed or stopped.
    pub fn finish(mut self) -> Result<Arc<Snapshot>, SnapshotError> {
        let handle = self.handle;
        let inner = self.check()?;
        let loading = self.loading.as_mut().ok_or(SnapshotError::Abandoned { handle })?;
        let snapshot = Arc::new(loading.finish().map_err(failed)?);
        match inner.give(handle, &snapshot) {
            Ok(()) => {}
            // They stay, for when the engine is opened again.
            Err(SnapshotError::Failed(failure)) => {
                self.loading = None;
                return Err(failure.into());
            }
            Err(error) => return Err(error),
        }
        self.loading = None;
        Ok(snapshot)
    }

    /// The engine, if it runs and has the shape.
    fn check(&self) -> Result<Arc<Inner>, SnapshotError> {
        let inner = self.inner.upgrade().ok_or(Failure::Stopped)?;
        inner.control.state.check()?;
        inner.awaiting(self.handle)?;
        Ok(inner)
    }

    fn abandon(&mut self) {
        if let Some(loading) = self.loading.take()
            // An engine that is gone clears up when it is opened again.
            && let Some(_inner) = self.inner.upgrade()
        {
            loading.abandon();
        }
    }
}

impl Drop for SnapshotLoader {
    fn drop(&mut self) {
        self.abandon();
        self.door.end(self.handle);
    }
}

impl std::fmt::Debug for SnapshotLoader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SnapshotLoader").field("handle", &self.handle).finish_non_exhaustive()
    }
}

fn failed(failure: LoadFailure) -> SnapshotError {
    let cause = failure.to_string();
    match failure {
        _ if failure.is_of_row() => SnapshotError::Row { cause },
        _ if failure.is_full() => SnapshotError::Full { cause },
        _ => SnapshotError::Disk { cause },
    }
}
