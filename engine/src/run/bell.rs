//! Bell: how threads that have looked for something in vain sleep until somebody has made it so.
//! Who makes it so rings; that costs a barrier and a load where nobody sleeps.

use crate::sync::{AtomicUsize, Ordering, fence};
use crossbeam::utils::CachePadded;
use crossbeam_channel::{Receiver, Sender};
use std::fmt;
use std::time::Duration;

/// See the file's head.
pub(super) struct Bell {
    /// Threads that look a last time, or sleep.
    idle: CachePadded<AtomicUsize>,
    bell: Sender<()>,
    rest: Receiver<()>,
}

impl fmt::Debug for Bell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bell").field("idle", &self.idle).finish_non_exhaustive()
    }
}

impl Bell {
    /// A bell for so many threads. One ring each is enough: more would wake nobody else.
    pub(super) fn new(threads: usize) -> Bell {
        let (bell, rest) = crossbeam_channel::bounded(threads.max(1));
        Bell { idle: CachePadded::default(), bell, rest }
    }

    /// Whether a thread rests, as a hint.
    pub(super) fn is_rested(&self) -> bool {
        // Relaxed: where it is more than a hint, a fence orders it.
        self.idle.load(Ordering::Relaxed) > 0
    }

    /// Wakes one, if one rests.
    pub(super) fn ring(&self) {
        if self.is_rested_in(|| fence(Ordering::SeqCst)) {
            // Full: as many wakes as there are threads are on their way.
            let _ = self.bell.try_send(());
        }
    }

    /// Whether one rests, to ring for. The barrier is an argument so that a model can show what it
    /// is for.
    fn is_rested_in(&self, barrier: impl FnOnce()) -> bool {
        // Pairs with the fence in `say_resting`: either the last look of who rests finds what was
        // made, or this load sees that it rests.
        barrier();
        self.is_rested()
    }

    /// Wakes all, to look again.
    pub(super) fn ring_all(&self) {
        while self.bell.try_send(()).is_ok() {}
    }

    /// Sleeps until it rings, but no longer than `limit`; `look` is asked a last time before.
    /// False: there was neither.
    pub(super) fn rest(&self, limit: Duration, look: impl FnOnce() -> bool) -> bool {
        self.say_resting();
        let found = look() || self.rest.recv_timeout(limit).is_ok();
        self.idle.fetch_sub(1, Ordering::Relaxed);
        found
    }

    /// From here on each `ring` rings. Then look, and sleep only if there is nothing.
    fn say_resting(&self) {
        // Relaxed: the fence orders it.
        self.idle.fetch_add(1, Ordering::Relaxed);
        // Pairs with the fence in `is_rested_in`.
        fence(Ordering::SeqCst);
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use crate::sync::{Arc, AtomicBool, model};

    /// Two push at once while a runner goes to rest. A flag stands for each queue.
    fn push_and_rest(barrier: fn()) {
        model::check(move || {
            let bell = Arc::new(Bell::new(1));
            let queues = Arc::new([0, 1].map(|_| AtomicBool::new(false)));
            let pushers = [0, 1].map(|queue| {
                let (bell, queues) = (Arc::clone(&bell), Arc::clone(&queues));
                model::spawn(move || {
                    queues[queue].store(true, Ordering::Relaxed);
                    bell.is_rested_in(barrier)
                })
            });
            bell.say_resting();
            let found = queues.iter().any(|queue| queue.load(Ordering::Relaxed));
            let rung = pushers.map(|pusher| pusher.join().unwrap());
            assert!(found || rung.contains(&true), "all rest, and there is work");
        });
    }

    #[test]
    fn loom_a_runner_that_goes_to_rest_is_woken_or_finds_the_work() {
        push_and_rest(|| fence(Ordering::SeqCst));
    }

    #[test]
    #[should_panic(expected = "all rest, and there is work")]
    fn loom_without_the_fence_all_runners_rest_on_work() {
        push_and_rest(|| ());
    }
}
