//! Wake: how a shard sleeps without missing what others store for it.
//!
//! Calls from reporters and the syncer flow in, each after its own store; at most one pending
//! signal flows out to the shard that sleeps. The sleeper: `prepare`, look at everything once more,
//! then wait, or `cancel`. What is looked at is the callers'; so is the waiting, which also ends at
//! a message and at a tick.

use crate::sync::{Arc, AtomicBool, Ordering, fence};
use crossbeam::utils::CachePadded;
use crossbeam_channel::{Receiver, Sender, bounded};

/// What ends a sleep. Raising it twice is raising it once, and it never blocks.
pub(crate) trait Signal {
    fn raise(&self);
}

impl Signal for Sender<()> {
    fn raise(&self) {
        // Full: a signal is pending, and it ends the sleep. Disconnected: nobody sleeps any more.
        let _ = self.try_send(());
    }
}

/// The side of those who have something for the shard. Shared.
#[derive(Debug)]
pub(crate) struct Wake<S = Sender<()>> {
    /// Whether the shard sleeps or is about to. Set by the shard, taken by who wakes it. Padded,
    /// because every reporter reads it, and while the shard works nobody should be slowed by that.
    sleeping: CachePadded<AtomicBool>,
    signal: S,
}

impl<S: Signal> Wake<S> {
    fn new(signal: S) -> Wake<S> {
        Wake { sleeping: CachePadded::new(AtomicBool::new(false)), signal }
    }

    /// Wakes the shard if it sleeps. To be called after what it is to find was stored.
    pub(crate) fn notify(&self) {
        self.notify_with(|| fence(Ordering::SeqCst));
    }

    /// `notify` with the barrier as an argument, so that a model can show what it is for.
    fn notify_with(&self, barrier: impl FnOnce()) {
        // Partner: the fence in `prepare`. Whichever comes first, either this finds `sleeping` set,
        // or the sleeper's second look finds what was stored before this. Without it both can miss.
        barrier();
        // Relaxed: the fences order it. Read before it is swapped, so that a shard that works costs
        // its reporters no write to a line that they share.
        if self.sleeping.load(Ordering::Relaxed) && self.sleeping.swap(false, Ordering::Relaxed) {
            self.signal.raise();
        }
    }
}

/// The shard's side: one thread's.
#[derive(Debug)]
pub(crate) struct Sleeper {
    wake: Arc<Wake>,
    receiver: Receiver<()>,
}

impl Sleeper {
    /// A sleeper, and what wakes it.
    pub(crate) fn new() -> (Sleeper, Arc<Wake>) {
        let (sender, receiver) = bounded(1);
        let wake = Arc::new(Wake::new(sender));
        (Sleeper { wake: wake.clone(), receiver }, wake)
    }

    /// From here on every `notify` signals. Then look again, and wait only if there is nothing.
    pub(crate) fn prepare(&self) {
        self.wake.prepare_with(|| fence(Ordering::SeqCst));
    }

    /// Awake again, for whatever reason: after each `prepare`, also when it was not slept.
    pub(crate) fn cancel(&self) {
        self.wake.cancel();
    }

    /// What to wait on. A signal may be a late one, and mean nothing.
    pub(crate) fn receiver(&self) -> &Receiver<()> {
        &self.receiver
    }
}

impl<S> Wake<S> {
    fn prepare_with(&self, barrier: impl FnOnce()) {
        // Relaxed: the fence orders it. A swap, and one in `cancel`: all writes of this word are
        // then read-modify-writes, whose order is total, also for the checker.
        self.sleeping.swap(true, Ordering::Relaxed);
        // Partner: the fence in `notify_with`.
        barrier();
    }

    fn cancel(&self) {
        // Relaxed: nothing hangs on it. Who misses it signals once too often.
        self.sleeping.swap(false, Ordering::Relaxed);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn only_a_sleeper_is_signalled_and_once() {
        let (sleeper, wake) = Sleeper::new();
        wake.notify();
        assert!(sleeper.receiver().is_empty());
        sleeper.prepare();
        wake.notify();
        wake.notify();
        assert_eq!(sleeper.receiver().len(), 1);
        sleeper.prepare();
        wake.notify();
        assert_eq!(sleeper.receiver().len(), 1);
        sleeper.receiver().recv().unwrap();
        sleeper.prepare();
        sleeper.cancel();
        wake.notify();
        assert!(sleeper.receiver().is_empty());
    }
}

#[cfg(all(test, loom))]
pub(super) mod models {
    use super::*;
    use crate::sync::model;

    /// A signal that says whether it was raised.
    #[derive(Debug)]
    pub(in crate::report) struct Token(AtomicBool);

    impl Signal for Token {
        fn raise(&self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    impl Wake<Token> {
        pub(in crate::report) fn model() -> Arc<Wake<Token>> {
            Arc::new(Wake::new(Token(AtomicBool::new(false))))
        }

        /// Prepares and looks again. Whether it goes to sleep: `empty` says there is nothing.
        pub(in crate::report) fn sleeps(&self, empty: impl FnOnce() -> bool) -> bool {
            self.prepare_with(|| fence(Ordering::SeqCst));
            let empty = empty();
            if !empty {
                self.cancel();
            }
            empty
        }

        pub(in crate::report) fn is_raised(&self) -> bool {
            self.signal.0.load(Ordering::Relaxed)
        }
    }

    /// Two who report at once, a sleeper who was awake and sleeps, and then silence.
    fn report_and_sleep(notify: impl Fn(&Wake<Token>) + Send + Sync + Copy + 'static) {
        model::check(move || {
            let wake = Wake::model();
            let reports = Arc::new([0, 1].map(|_| AtomicBool::new(false)));
            let threads = [0, 1].map(|reporter| {
                let (wake, reports) = (wake.clone(), reports.clone());
                model::spawn(move || {
                    reports[reporter].store(true, Ordering::Relaxed);
                    notify(&wake);
                })
            });
            let seen = || reports.each_ref().map(|report| report.load(Ordering::Relaxed));
            let mut looked = [false; 2];
            let mut slept = false;
            for _ in 0..2 {
                slept = slept
                    || wake.sleeps(|| {
                        let now = seen();
                        let empty = now == looked;
                        looked = now;
                        empty
                    });
            }
            threads.into_iter().for_each(|thread| thread.join().unwrap());
            let missed = slept && looked != seen();
            assert!(!missed || wake.is_raised(), "asleep on a report");
        });
    }

    #[test]
    fn loom_a_sleeper_is_woken_or_finds_the_report() {
        report_and_sleep(|wake| wake.notify());
    }

    #[test]
    #[should_panic(expected = "asleep on a report")]
    fn loom_without_the_fence_a_wake_is_lost() {
        report_and_sleep(|wake| wake.notify_with(|| ()));
    }
}
