//! Engine: the façade. It opens the store, starts the threads, and carries what an embedder says to
//! the shards and back. It decides nothing about a delivery.

mod builder;
mod error;
mod keeper;
mod metrics;
mod news;
mod open;
mod publisher;
mod read;
mod retain;
mod shapes;
mod snapshots;
mod stop;
mod threads;

#[cfg(all(test, not(loom)))]
mod by_hand;
#[cfg(all(any(test, feature = "testing"), not(loom)))]
pub mod sim;

pub use crate::log::RaisedFloor;
pub use builder::Builder;
pub use error::{
    AddError, DefinitionError, FloorRaiseError, ReadError, RemoveError, StartError, WaitError,
};
pub use metrics::{Health, Metrics, ShardMetrics};
pub use news::{News, Subscription};
pub use publisher::{PublishError, Publisher, TryPublishError};
pub use snapshots::{SnapshotError, SnapshotLoader};
pub use stop::{ShardReport, ShutdownReport};

use crate::catalog::Catalog;
use crate::consumer::ShardLink;
use crate::control::{Control, Event, Failure};
use crate::log::{Directory, Floor, Log};
use crate::run::Pool;
use crate::shard::Message;
use crate::snapshot::Door;
use crate::sync::{AtomicU64, Ordering};
use crate::words::{Handle, Lsn, Relation, ServerId, ShapeDefinition};
use crossbeam_channel::{Receiver, Sender};
use parking_lot::{Mutex, RwLock};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};
use threads::Threads;

/// Fans committed transactions out to shapes.
///
/// Made by a [`Builder`], together with the one [`Publisher`]. All methods may be called from any
/// thread; none of them is on a delivery's way.
pub struct Engine {
    inner: Arc<Inner>,
    threads: Mutex<Option<Threads>>,
}

/// What the façade's parts share.
struct Inner {
    control: Arc<Control>,
    pool: Arc<Pool>,
    shards: Box<[ShardDoor]>,
    next_handle: AtomicU64,
    floor: Mutex<Floor>,
    /// Which shapes there are; `None` with the memory store.
    catalog: Option<Arc<Catalog>>,
    /// Their initial rows; `None` with the memory store.
    door: Option<Arc<Door>>,
    /// Held for as long as the engine lives, and a thread of it that may write; `None` with the
    /// memory store.
    directory: Option<Arc<Directory>>,
    /// Set when the source forgets what is flushed: from then on nothing may be acknowledged by a
    /// log that is only memory (R14). Adding shapes reads it, setting it waits for them.
    durable_only: RwLock<bool>,
    limits: EngineLimits,
}

/// Where the façade reaches a shard.
struct ShardDoor {
    messages: Sender<Message>,
    /// Lifecycle messages have places of their own in the channel: one is taken here before each.
    lifecycle_credits: Sender<()>,
    link: Arc<ShardLink>,
    log: Arc<Log>,
}

/// What the whole engine keeps to.
#[derive(Clone, Copy, Debug)]
struct EngineLimits {
    /// Bytes of commits that are not flushed, over all shards, at which publish may wait (R17).
    unflushed_bytes_soft_max: u64,
    /// Bytes of one transaction that the store of a shard can hold at all.
    transaction_bytes_max: u64,
}

impl Engine {
    /// Settings for a new engine.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Announces a table, so that shapes on it can be added. Announcing it again replaces what was
    /// known; shapes that exist notice an altered table when its next change comes.
    ///
    /// An altered table is best announced between the fragments with its last change in the old
    /// form and its first in the new one: a shape that is added before a change in the old form
    /// ends there.
    pub fn learn(&self, relation: Arc<Relation>) {
        self.inner.control.registry.learn(relation);
    }

    /// The living shapes, by handle.
    pub fn shapes(&self) -> Vec<(Handle, Arc<ShapeDefinition>)> {
        let all = self.inner.control.registry.all();
        all.iter().map(|shape| (shape.handle, shape.definition())).collect()
    }

    /// The last commit LSN at or below which everything is flushed: every transaction up to it is
    /// durable in the log of each shape that it was routed to and reported by each consumer that
    /// owns its acknowledgement, or the shape is durably invalidated. Never goes back.
    pub fn flushed_lsn(&self) -> Lsn {
        self.inner.control.flushed.global()
    }

    /// Waits until everything through `lsn` is flushed; the flushed LSN then.
    ///
    /// # Errors
    /// After `timeout`, or when the engine has failed or stopped before that.
    pub fn wait_flushed(&self, lsn: Lsn, timeout: Duration) -> Result<Lsn, WaitError> {
        let control = &self.inner.control;
        let failed = || control.state.check().is_err();
        let flushed = control.flushed.wait(lsn, after(timeout), failed);
        if flushed >= lsn {
            return Ok(flushed);
        }
        control.state.check()?;
        Err(WaitError::TimedOut { lsn, flushed })
    }

    /// The highest LSN that the source may have been told it can forget (R13).
    pub fn floor(&self) -> Lsn {
        self.inner.floor.lock().get()
    }

    /// Raises the floor; durable when it returns. To be called before `lsn`, the end of a flushed
    /// commit's record or a position that has nothing below it that is not flushed, is told to the
    /// source. A lower one changes nothing. What it gives says that this was done: let whatever
    /// sends status updates take that alone.
    ///
    /// # Errors
    /// When it cannot be made durable, or the engine has failed: then `lsn` must not be told.
    pub fn raise_floor(&self, lsn: Lsn) -> Result<RaisedFloor, FloorRaiseError> {
        self.write_floor(|floor| floor.raise(lsn))
    }

    /// The server that the floor is told to, as it was last said; `None` if it never was.
    pub fn server(&self) -> Option<ServerId> {
        self.inner.floor.lock().server()
    }

    /// Says whose changes are published from here on; durable when it returns. An engine that has
    /// another server's changes, or those of a history that this one does not share, goes on with
    /// neither (INV11): to be called after [`Engine::server`] was looked at, and whatever the new
    /// one does not continue was ended.
    ///
    /// # Errors
    /// When it cannot be made durable, or the engine has failed: then nothing may be published.
    pub fn set_server(&self, server: ServerId) -> Result<(), FloorRaiseError> {
        self.write_floor(|floor| floor.set_server(server))
    }

    fn write_floor<T>(
        &self,
        write: impl FnOnce(&mut Floor) -> io::Result<T>,
    ) -> Result<T, FloorRaiseError> {
        let control = &self.inner.control;
        if let Some(cause) = control.state.poisoned() {
            return Err(Failure::Poisoned { cause: cause.to_owned() }.into());
        }
        write(&mut self.inner.floor.lock()).map_err(|source| {
            control.poison(&format!("writing the acknowledgement floor failed: {source}"));
            FloorRaiseError::Io { source }
        })
    }

    /// What happens to shapes and consumers. Events are bounded; what nobody takes in time is
    /// dropped and counted, and each is also a rate-limited `tracing` event.
    pub fn events(&self) -> Receiver<Event> {
        self.inner.control.events.receiver()
    }

    /// Why the engine takes nothing more, if so.
    pub fn failure(&self) -> Option<Failure> {
        self.inner.control.state.check().err()
    }

    /// Whether what is logged survives a power cut: not with the memory store.
    pub fn is_durable(&self) -> bool {
        self.inner.directory.is_some()
    }
}

/// For who has a sync of the floor take its time: none ends until `meanwhile` has.
#[cfg(all(test, feature = "postgres"))]
impl Engine {
    pub(crate) fn while_no_floor_rises<T>(&self, meanwhile: impl FnOnce() -> T) -> T {
        let _held = self.inner.floor.lock();
        meanwhile()
    }
}

/// `timeout` from now. What no clock can say is so far off that nobody sees it.
fn after(timeout: Duration) -> Instant {
    const FAR_OFF: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
    Instant::now() + timeout.min(FAR_OFF)
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine")
            .field("shards", &self.inner.shards.len())
            .field("flushed_lsn", &self.flushed_lsn())
            .field("failure", &self.failure())
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner").finish_non_exhaustive()
    }
}

impl Inner {
    /// Handles that were never given out.
    fn take_handles(&self, count: usize) -> u64 {
        // Relaxed: only that no two callers get the same.
        self.next_handle.fetch_add(count as u64, Ordering::Relaxed)
    }

    /// No handle from this one on was given out by now.
    fn next_handle(&self) -> Handle {
        // Relaxed: see `take_handles`; who asks has taken its own before.
        Handle::new(self.next_handle.load(Ordering::Relaxed))
    }
}
