//! Gate: how many fragments each shard's channel may still take, and how the one publisher (R2)
//! waits when it may not publish. Lifecycle messages have credits of their own, so that neither
//! kind can shut the other out.

use crate::sync::{AtomicBool, AtomicUsize, Ordering, fence};
use crossbeam::sync::{Parker, Unparker};
use crossbeam::utils::CachePadded;
use parking_lot::Mutex;
use std::time::Duration;

/// How long the publisher parks before it looks again by itself: the bounds that it waits for under
/// R17 are not all signalled.
const LOOK: Duration = Duration::from_millis(5);

/// See the file's head.
#[derive(Debug)]
pub(crate) struct Gate {
    /// Fragments in each shard's channel. Raised by the publisher, lowered by the shard.
    queued: Box<[CachePadded<AtomicUsize>]>,
    /// Fragments that a shard's channel may hold.
    pub(crate) fragment_credits: usize,
    /// The publisher is parked or about to be. Written by it, read by shards.
    waiting: CachePadded<AtomicBool>,
    unparker: Unparker,
    /// For the publisher to take when it is made.
    parker: Mutex<Option<Parker>>,
}

impl Gate {
    pub(crate) fn new(shards: usize, fragment_credits: usize) -> Gate {
        let parker = Parker::new();
        Gate {
            queued: (0..shards).map(|_| CachePadded::default()).collect(),
            fragment_credits,
            waiting: CachePadded::default(),
            unparker: parker.unparker().clone(),
            parker: Mutex::new(Some(parker)),
        }
    }

    /// The publisher's place to wait at; there is one.
    pub(crate) fn take_parker(&self) -> Option<Parker> {
        self.parker.lock().take()
    }

    /// Whether every shard's channel takes one more fragment.
    pub(crate) fn has_room(&self) -> bool {
        // Relaxed: the channel itself hands the fragments over; only the publisher raises these.
        self.queued.iter().all(|queued| queued.load(Ordering::Relaxed) < self.fragment_credits)
    }

    /// The publisher sends `shard` a fragment.
    pub(crate) fn enter(&self, shard: usize) {
        // Relaxed: see `has_room`.
        self.queued[shard].fetch_add(1, Ordering::Relaxed);
    }

    /// `shard` has taken a fragment.
    pub(crate) fn leave(&self, shard: usize) {
        // Relaxed: the fence of `wake` orders it for a publisher that parks.
        self.queued[shard].fetch_sub(1, Ordering::Relaxed);
        self.wake();
    }

    /// Wakes the publisher if it waits; to be called after something that it waits for has moved.
    pub(crate) fn wake(&self) {
        if self.is_waited_at(|| fence(Ordering::SeqCst)) {
            self.unparker.unpark();
        }
    }

    /// Whether the publisher waits. The barrier is an argument so that a model can show what it is
    /// for.
    fn is_waited_at(&self, barrier: impl FnOnce()) -> bool {
        // Pairs with the fence in `say_waiting`: this load sees that it waits, or its look sees the
        // move.
        barrier();
        // Relaxed: the fence orders it.
        self.waiting.load(Ordering::Relaxed)
    }

    /// Parks the publisher until `ready`.
    pub(crate) fn wait(&self, parker: &Parker, ready: impl Fn() -> bool) {
        self.say_waiting();
        while !ready() {
            parker.park_timeout(LOOK);
        }
        self.waiting.store(false, Ordering::Relaxed);
    }

    /// From here on each `wake` unparks. Then look, and park only if it is not ready.
    fn say_waiting(&self) {
        // Relaxed: the fence orders it.
        self.waiting.store(true, Ordering::Relaxed);
        // Pairs with the fence in `is_waited_at`.
        fence(Ordering::SeqCst);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// R2: a fragment goes to all shards or to none, so one full channel is enough to wait for.
    #[test]
    fn r02_there_is_room_where_every_channel_has_room() {
        let gate = Gate::new(3, 2);
        assert!(gate.has_room());
        for full in 0..3 {
            gate.enter(full);
            assert!(gate.has_room());
            gate.enter(full);
            assert!(!gate.has_room(), "shard {full} takes no more");
            gate.leave(full);
            assert!(gate.has_room());
            gate.leave(full);
        }
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::super::state::{Phase, State};
    use super::*;
    use crate::sync::{Arc, model};

    /// What the publisher waits for: the room that a shard makes, or the engine's end (R16).
    #[derive(Clone, Copy)]
    enum Awaits {
        Room,
        End,
    }

    /// The publisher waits while what it waits for comes, and then there is silence.
    fn move_and_wait(awaits: Awaits, barrier: fn()) {
        model::check(move || {
            let both = Arc::new((Gate::new(1, 1), State::new()));
            let (gate, state) = &*both;
            gate.enter(0);
            let mover = {
                let both = Arc::clone(&both);
                model::spawn(move || {
                    let (gate, state) = &*both;
                    match awaits {
                        // As `leave` does it.
                        Awaits::Room => {
                            gate.queued[0].fetch_sub(1, Ordering::Relaxed);
                        }
                        Awaits::End => state.advance(Phase::Stopping),
                    }
                    gate.is_waited_at(barrier)
                })
            };
            gate.say_waiting();
            let ready = gate.has_room() || state.phase() != Phase::Running;
            let is_woken = mover.join().unwrap();
            assert!(ready || is_woken, "publish waits for nothing");
        });
    }

    #[test]
    fn loom_publish_is_woken_by_room_and_by_the_end() {
        move_and_wait(Awaits::Room, || fence(Ordering::SeqCst));
        move_and_wait(Awaits::End, || fence(Ordering::SeqCst));
    }

    #[test]
    #[should_panic(expected = "publish waits for nothing")]
    fn loom_without_the_fence_publish_waits_for_room_that_is_there() {
        move_and_wait(Awaits::Room, || ());
    }

    #[test]
    #[should_panic(expected = "publish waits for nothing")]
    fn loom_without_the_fence_publish_waits_for_an_engine_that_has_ended() {
        move_and_wait(Awaits::End, || ());
    }
}
