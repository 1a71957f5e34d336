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
        let moved = self.frontiers.publish(shard, frontier).is_some();
        if moved && self.is_waited_for(|| fence(Ordering::SeqCst)) {
            self.wake_all();
        }
    }

    /// Whether somebody waits. The barrier is an argument so that a model can show what it is for.
    fn is_waited_for(&self, barrier: impl FnOnce()) -> bool {
        // Pairs with the fence in `enter`: this load sees the waiter, or it sees the new LSN.
        barrier();
        // Relaxed: the fence orders it.
        self.waiters.load(Ordering::Relaxed) > 0
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
        self.enter();
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

    /// From here on who moves the LSN wakes. Then look, and sleep only if it is too low.
    fn enter(&self) {
        // Relaxed: the fence orders it.
        self.waiters.fetch_add(1, Ordering::Relaxed);
        // Pairs with the fence in `is_waited_for`.
        fence(Ordering::SeqCst);
    }

    /// Has every waiter look again.
    pub(crate) fn wake_all(&self) {
        // The lock, so that nobody is between its look and its sleep.
        drop(self.lock.lock());
        self.moved.notify_all();
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use crate::sync::{Arc, model};

    /// Two shards publish at once, and somebody waits for both.
    fn publish_and_wait(barrier: fn()) {
        model::check(move || {
            let flushed = Arc::new(Flushed::new([1, 1].map(Lsn::new)));
            let shards = [0, 1].map(|shard| {
                let flushed = Arc::clone(&flushed);
                model::spawn(move || {
                    // As `publish` does it.
                    let moved = flushed.frontiers.publish(shard, Lsn::new(2)).is_some();
                    moved && flushed.is_waited_for(barrier)
                })
            });
            flushed.enter();
            let found = flushed.global() == Lsn::new(2);
            let woken = shards.map(|shard| shard.join().unwrap());
            assert!(found || woken.contains(&true), "asleep on what is flushed");
        });
    }

    #[test]
    fn loom_who_waits_for_the_flushed_lsn_is_woken_or_finds_it() {
        publish_and_wait(|| fence(Ordering::SeqCst));
    }

    #[test]
    #[should_panic(expected = "asleep on what is flushed")]
    fn loom_without_the_fence_who_waits_sleeps_on_what_is_flushed() {
        publish_and_wait(|| ());
    }
}
