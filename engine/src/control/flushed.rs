//! Flushed: the shards' frontiers, the global flushed LSN, and who waits for it.

use crate::flush::Frontiers;
use crate::sync::{AtomicUsize, Ordering, fence};
use crate::words::Lsn;
use parking_lot::{Condvar, Mutex};
use std::time::{Duration, Instant};

/// How long a waiter sleeps before it looks again by itself; no wake is lost, and this bounds what
/// a bug in that claim would cost.
const LOOK: Duration = Duration::from_millis(100);

/// See the file's head.
#[derive(Debug)]
pub(crate) struct Flushed {
    frontiers: Frontiers,
    /// Threads in `wait`. Raised and lowered by them; read by shards, so that with nobody waiting a
    /// shard takes no lock.
    waiters: AtomicUsize,
    lock: Mutex<()>,
    moved: Condvar,
}

impl Flushed {
    pub(crate) fn new(frontiers: impl IntoIterator<Item = Lsn>) -> Flushed {
        Flushed {
            frontiers: Frontiers::new(frontiers),
            waiters: AtomicUsize::new(0),
            lock: Mutex::new(()),
            moved: Condvar::new(),
        }
    }

    /// Publishes the frontier of `shard`, by its own thread.
    pub(crate) fn publish(&self, shard: usize, frontier: Lsn) {
        if self.frontiers.publish(shard, frontier).is_some() {
            // Pairs with the fence in `wait`: this load sees the waiter, or it sees the new LSN.
            fence(Ordering::SeqCst);
            // Relaxed: the fence orders it.
            if self.waiters.load(Ordering::Relaxed) > 0 {
                self.wake_all();
            }
        }
    }

    /// The global flushed LSN.
    pub(crate) fn global(&self) -> Lsn {
        self.frontiers.global()
    }

    pub(crate) fn shard(&self, shard: usize) -> Lsn {
        self.frontiers.shard(shard)
    }

    /// Waits until the flushed LSN is at least `lsn`, `ended` says so, or `until`. The LSN then.
    pub(crate) fn wait(&self, lsn: Lsn, until: Instant, ended: impl Fn() -> bool) -> Lsn {
        self.waiters.fetch_add(1, Ordering::Relaxed);
        // Pairs with the fence in `publish`.
        fence(Ordering::SeqCst);
        let mut guard = self.lock.lock();
        while self.global() < lsn && !ended() {
            let now = Instant::now();
            if now >= until {
                break;
            }
            self.moved.wait_until(&mut guard, until.min(now + LOOK));
        }
        drop(guard);
        self.waiters.fetch_sub(1, Ordering::Relaxed);
        self.global()
    }

    /// Has every waiter look again.
    pub(crate) fn wake_all(&self) {
        // The lock, so that nobody is between its look and its sleep.
        drop(self.lock.lock());
        self.moved.notify_all();
    }
}
