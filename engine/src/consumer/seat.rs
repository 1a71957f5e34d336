//! Seat: where a part lies that at most one thread may run at a time, and the flag that says that
//! there is something for it to do. Who takes the part runs it, so two runners cannot, by type.
//!
//! Waker: leave the work, `notify`, and queue the seat's owner if told to. Runner: `take`, do all
//! that is there, `park`; what `park` hands back has more to do.

use crate::sync::{AtomicBool, Ordering, TakeCell};

#[derive(Debug)]
pub(crate) struct Seat<T> {
    /// Something was left for the part since it was last taken. Set by wakers, cleared by who
    /// takes the part.
    notified: AtomicBool,
    part: TakeCell<T>,
}

impl<T> Seat<T> {
    pub(crate) fn empty() -> Seat<T> {
        Seat { notified: AtomicBool::new(false), part: TakeCell::empty() }
    }

    /// Says that there is something to do. True: the caller queues the seat's owner for a runner.
    #[must_use]
    pub(crate) fn notify(&self) -> bool {
        // Release: pairs with the acquire in `take` and `park`; who clears or reads the flag sees
        // what was left before. A swap, because a load may run ahead of the store that left it.
        !self.notified.swap(true, Ordering::AcqRel)
    }

    /// Whether it waits for a runner.
    pub(crate) fn is_notified(&self) -> bool {
        // Relaxed: a statistic for the sweep, which looks again.
        self.notified.load(Ordering::Relaxed)
    }

    /// Takes the part, if nobody has it. Where somebody has, the flag stays, and that one's `park`
    /// sees it: clearing it here would lose the wake.
    pub(crate) fn take(&self) -> Option<Box<T>> {
        let part = self.part.take()?;
        // Acquire: pairs with the release in `notify`.
        self.notified.swap(false, Ordering::AcqRel);
        Some(part)
    }

    /// Lays the part down. It comes back when there is something to do that came meanwhile.
    #[must_use]
    pub(crate) fn park(&self, part: Box<T>) -> Option<Box<T>> {
        drop(self.part.replace(part));
        // Acquire: pairs with the release in `notify`. A waker whose runner found the cell empty
        // did so before `put` in the cell's own order, and both are read-modify-writes of it, so
        // its flag is visible here.
        if self.notified.load(Ordering::Acquire) { self.take() } else { None }
    }

    /// Lays the part down although there is more to do. True: the caller queues the owner.
    #[must_use]
    pub(crate) fn yield_to_others(&self, part: Box<T>) -> bool {
        drop(self.part.replace(part));
        self.notify()
    }
}

#[cfg(all(test, loom))]
mod tests {
    use super::*;
    use crate::sync::AtomicU64;
    use loom::thread;
    use std::sync::Arc;

    struct Model {
        seat: Seat<u64>,
        /// What was left to do, and how many runners want to look.
        left: AtomicU64,
        queued: AtomicU64,
    }

    fn run(model: &Model) {
        while model.queued.load(Ordering::Acquire) > 0 {
            model.queued.fetch_sub(1, Ordering::AcqRel);
            let mut next = model.seat.take();
            while let Some(mut part) = next {
                *part += model.left.swap(0, Ordering::AcqRel);
                next = model.seat.park(part);
            }
        }
    }

    #[test]
    fn loom_a_wake_is_never_lost_and_the_part_never_runs_twice_at_once() {
        loom::model(|| {
            let model = Arc::new(Model {
                seat: Seat::empty(),
                left: AtomicU64::new(0),
                queued: AtomicU64::new(0),
            });
            assert!(model.seat.park(Box::new(0)).is_none());
            let wakers: Vec<_> = (0..2)
                .map(|_| {
                    let model = Arc::clone(&model);
                    thread::spawn(move || {
                        model.left.fetch_add(1, Ordering::Relaxed);
                        if model.seat.notify() {
                            model.queued.fetch_add(1, Ordering::AcqRel);
                            run(&model);
                        }
                    })
                })
                .collect();
            for waker in wakers {
                waker.join().unwrap();
            }
            run(&model);
            let part = model.seat.take().expect("parked at the end");
            assert_eq!(*part, 2, "work was left behind");
        });
    }
}
