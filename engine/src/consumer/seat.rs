//! Seat: where a part lies that at most one thread may run at a time, and the word that says who
//! is to run it. Who takes the part runs it, so two runners cannot, by type.
//!
//! Waker: leave the work, `notify`, and queue the seat's owner if told to. Runner: `take`, do all
//! that is there, `park`; what `park` hands back has more to do. While somebody has the part, a
//! wake queues nothing: `park` sees it. So the owner is queued once, however often it is woken. Who
//! is in a hurry queues it once more: the other place in a queue may be behind everybody's mail.
//!
//! Mail is counted: who runs the part takes as much as was announced, and need not ask the channel
//! whether there is more. To ask is to read what the shard has just written.

use crate::sync::{AtomicU32, Ordering, TakeCell};

/// Somebody has the part. Set by who takes it, cleared by who lays it down.
const TAKEN: u32 = 1;
/// Something was left for the part since it was last taken. Set by wakers. Without `TAKEN`, this or
/// mail says that the owner is in a runner's queue.
const WOKEN: u32 = 2;
/// One message more in the part's channel, in the bits from here on. A count that passes them loses
/// nothing but itself: so many come only while an inline part is run, which takes all there is.
const MAIL: u32 = 4;

/// What lies in a seat.
pub(crate) trait Sitter {
    /// So many messages were announced since it was last taken.
    fn announce(&mut self, mails: u32);
}

#[derive(Debug)]
pub(crate) struct Seat<T> {
    word: AtomicU32,
    part: TakeCell<T>,
}

impl<T: Sitter> Seat<T> {
    /// A seat whose part is still being made: it counts as taken until it is parked.
    pub(crate) fn empty() -> Seat<T> {
        Seat { word: AtomicU32::new(TAKEN), part: TakeCell::empty() }
    }

    /// As `notify`, after one message was sent.
    #[must_use]
    pub(crate) fn notify_of_mail(&self) -> bool {
        // As in `notify`. Not `fetch_add`: that waits for the send before it and only then for the
        // word, and the load that an exchange begins with does not.
        let more = |word: u32| Some(word.wrapping_add(MAIL));
        self.word.fetch_update(Ordering::AcqRel, Ordering::Relaxed, more) == Ok(0)
    }

    /// Says that there is something to do. True: the caller queues the seat's owner for a runner.
    #[must_use]
    pub(crate) fn notify(&self) -> bool {
        // Release: pairs with the acquire in `take` and `park`; who clears the bit sees what was
        // left before. A read-modify-write, because a load may run ahead of the store that left it.
        self.word.fetch_or(WOKEN, Ordering::AcqRel) == 0
    }

    /// Says that there is something to do at once. True: the caller queues the seat's owner before
    /// others, also if it is queued already; who comes to it second finds nothing to do.
    #[must_use]
    pub(crate) fn hurry(&self) -> bool {
        // As in `notify`.
        self.word.fetch_or(WOKEN, Ordering::AcqRel) & TAKEN == 0
    }

    /// Whether it waits for a runner.
    pub(crate) fn is_queued(&self) -> bool {
        // Relaxed: a statistic for the sweep, which looks again.
        let seen = self.word.load(Ordering::Relaxed);
        seen != 0 && seen & TAKEN == 0
    }

    /// Takes the part, if nobody has it. Where somebody has, a wake stays, and that one's `park`
    /// sees it: clearing it here would lose it.
    pub(crate) fn take(&self) -> Option<Box<T>> {
        // Relaxed: a guess, which the exchange checks.
        let mut seen = self.word.load(Ordering::Relaxed);
        while seen & TAKEN == 0 {
            // Acquire: pairs with the release in `notify`, and in `park` of who had the part.
            let exchanged =
                self.word.compare_exchange(seen, TAKEN, Ordering::AcqRel, Ordering::Relaxed);
            match exchanged {
                Ok(_) => return self.told(seen),
                Err(now) => seen = now,
            }
        }
        None
    }

    /// The part, which is told of the mail that the word announced.
    fn told(&self, word: u32) -> Option<Box<T>> {
        let mut part = self.part.take()?;
        part.announce(word / MAIL);
        Some(part)
    }

    /// Lays the part down. It comes back when there is something to do that came meanwhile.
    #[must_use]
    pub(crate) fn park(&self, part: Box<T>) -> Option<Box<T>> {
        drop(self.part.replace(part));
        // Release: pairs with the acquire in `take`; the next one finds the part. Acquire on
        // failure: pairs with the release in `notify`.
        let idle = self.word.compare_exchange(TAKEN, 0, Ordering::AcqRel, Ordering::Acquire);
        if idle.is_ok() {
            return None;
        }
        // Woken, and still ours. Acquire: a wake that came since the look above is taken with it.
        let seen = self.word.swap(TAKEN, Ordering::AcqRel);
        self.told(seen)
    }

    /// Lays the part down although there is more to do. The caller queues the owner.
    pub(crate) fn yield_to_others(&self, part: Box<T>) {
        drop(self.part.replace(part));
        // Release: pairs with the acquire in `take`. A wake that came meanwhile has queued nothing,
        // and is answered by the caller's queueing; its mail stays counted.
        let queued = |word: u32| Some(word & !TAKEN | WOKEN);
        let _was = self.word.fetch_update(Ordering::AcqRel, Ordering::Relaxed, queued);
    }
}

#[cfg(all(test, loom))]
mod tests {
    use super::*;
    use crate::sync::{Arc, AtomicU64, model};

    impl Sitter for u64 {
        fn announce(&mut self, _: u32) {}
    }

    #[derive(Default)]
    struct Counting {
        taken: u64,
        announced: u32,
    }

    impl Sitter for Counting {
        fn announce(&mut self, mails: u32) {
            self.announced += mails;
        }
    }

    struct Model {
        seat: Seat<Counting>,
        /// What was left to do, the mail that was sent, and how often the owner lies in the queue.
        left: AtomicU64,
        mails: AtomicU64,
        queued: AtomicU64,
    }

    impl Model {
        fn queue(&self) {
            self.queued.fetch_add(1, Ordering::AcqRel);
        }

        fn dequeue(&self) -> bool {
            let one_less = |queued: u64| queued.checked_sub(1);
            self.queued.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_less).is_ok()
        }

        /// Lays the part down without a look at who has woken it meanwhile.
        fn park_blindly(&self, part: Box<Counting>) {
            drop(self.seat.part.replace(part));
            self.seat.word.swap(0, Ordering::AcqRel);
        }

        /// Runs what is queued; the first time it goes to the back of the queue half-way.
        fn run(&self, mut yields: bool, blind: bool) {
            while self.dequeue() {
                let mut next = self.seat.take();
                while let Some(mut part) = next {
                    part.taken += self.left.swap(0, Ordering::AcqRel);
                    for _ in 0..std::mem::take(&mut part.announced) {
                        let sent = self.mails.fetch_sub(1, Ordering::AcqRel);
                        assert!(sent > 0, "mail was announced that is not there");
                        part.taken += 1;
                    }
                    if std::mem::take(&mut yields) {
                        self.seat.yield_to_others(part);
                        self.queue();
                        break;
                    }
                    if blind {
                        self.park_blindly(part);
                        break;
                    }
                    next = self.seat.park(part);
                }
            }
        }
    }

    /// One sends mail, the other leaves something else and may be in a hurry.
    fn wake_and_run_at_once(yields: bool, blind: bool) {
        model::check(move || {
            let model = Arc::new(Model {
                seat: Seat::empty(),
                left: AtomicU64::new(0),
                mails: AtomicU64::new(0),
                queued: AtomicU64::new(0),
            });
            assert!(model.seat.park(Box::default()).is_none());
            let wakers = [true, false].map(|sends| {
                let model = Arc::clone(&model);
                model::spawn(move || {
                    let seat = &model.seat;
                    let left = if sends { &model.mails } else { &model.left };
                    left.fetch_add(1, Ordering::Relaxed);
                    let queue = if sends { seat.notify_of_mail() } else { seat.hurry() };
                    if queue {
                        model.queue();
                    }
                    model.run(yields, blind);
                })
            });
            for waker in wakers {
                waker.join().unwrap();
            }
            model.run(false, blind);
            let part = model.seat.take().expect("parked at the end");
            assert_eq!(part.taken, 2, "work was left behind");
        });
    }

    #[test]
    fn loom_a_wake_is_never_lost_and_the_part_never_runs_twice_at_once() {
        wake_and_run_at_once(false, false);
    }

    #[test]
    #[should_panic(expected = "work was left behind")]
    fn loom_without_the_second_look_a_wake_is_lost() {
        wake_and_run_at_once(false, true);
    }

    #[test]
    fn loom_a_part_that_goes_to_the_back_of_the_queue_is_never_lost() {
        wake_and_run_at_once(true, false);
    }
}
