//! Gap: how a shard says that it has stopped sending to a mailbox, because that is full (R4). The
//! runner drains what was sent before, which is a gapless run, and goes back to the feeder.
//!
//! Shard: `set`, then wake the part. Runner: look, and only then drain.

use crate::sync::{AtomicBool, Ordering};

/// See the file's head. Set and cleared by the shard.
#[derive(Debug)]
pub(super) struct Gap(AtomicBool);

impl Gap {
    pub(super) fn none() -> Gap {
        Gap(AtomicBool::new(false))
    }

    pub(super) fn is_there(&self) -> bool {
        // Acquire: pairs with the release in `set`; who sees the gap, and only then drains, drains
        // all that was sent before it.
        self.0.load(Ordering::Acquire)
    }

    pub(super) fn set(&self, gap: bool) {
        // Release: pairs with the acquire in `is_there`.
        self.0.store(gap, Ordering::Release);
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::super::seat::Seat;
    use super::*;
    use crate::sync::{Arc, AtomicU64, model};

    /// Places of the mailbox, and mails that are to be sent.
    const PLACES: u64 = 1;
    const MAILS: u64 = 3;

    struct Model {
        /// Its part is how many mails were taken.
        seat: Seat<u64>,
        gap: Gap,
        /// The channel: what was sent, and what was taken out.
        sent: AtomicU64,
        taken: AtomicU64,
        queued: AtomicU64,
        /// With how many mails it went back to the feeder, and 1.
        back: AtomicU64,
    }

    impl Model {
        fn wake(&self) {
            if self.seat.notify() {
                self.queued.fetch_add(1, Ordering::AcqRel);
            }
        }

        /// What a shard does in a fan-out; `tells`: it wakes whom it has no place for.
        fn send(&self, tells: bool) {
            for mail in 1..=MAILS {
                // Acquire and release, as the channel orders its two ends.
                let full = mail - self.taken.load(Ordering::Acquire) > PLACES;
                if full {
                    self.gap.set(true);
                } else {
                    self.sent.store(mail, Ordering::Release);
                }
                if !full || tells {
                    self.wake();
                }
                if full {
                    return;
                }
            }
        }

        /// What a runner does with its part; `late`: it looks for a gap after it has drained.
        fn run(&self, late: bool) {
            let one_less = |queued: u64| queued.checked_sub(1);
            while self.queued.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_less).is_ok() {
                let mut next = self.seat.take();
                while let Some(mut part) = next {
                    if self.back.load(Ordering::Relaxed) > 0 {
                        // It is fed, and takes no mail.
                        next = self.seat.park(part);
                        continue;
                    }
                    let gap = !late && self.gap.is_there();
                    while *part < self.sent.load(Ordering::Acquire) {
                        *part += 1;
                        self.taken.store(*part, Ordering::Release);
                    }
                    if gap || (late && self.gap.is_there()) {
                        self.back.store(*part + 1, Ordering::Relaxed);
                    }
                    next = self.seat.park(part);
                }
            }
        }
    }

    fn send_and_run(tells: bool, late: bool) {
        model::check(move || {
            let none = || AtomicU64::new(0);
            let (sent, taken, queued, back) = (none(), none(), none(), none());
            let (seat, gap) = (Seat::empty(), Gap::none());
            let model = Arc::new(Model { seat, gap, sent, taken, queued, back });
            assert!(model.seat.park(Box::new(0)).is_none());
            let shard = {
                let model = Arc::clone(&model);
                model::spawn(move || model.send(tells))
            };
            model.run(late);
            // It went back by now: then all that was sent is taken.
            let back = model.back.load(Ordering::Relaxed);
            shard.join().unwrap();
            let sent = model.sent.load(Ordering::Relaxed);
            assert!(back == 0 || back == sent + 1, "mail was left behind");
            model.run(late);
            let back = model.back.load(Ordering::Relaxed);
            let expected = if model.gap.is_there() { sent + 1 } else { 0 };
            assert_eq!(back, expected, "it lags, and never went back to the feeder");
            assert_eq!(model.taken.load(Ordering::Relaxed), sent);
        });
    }

    #[test]
    fn loom_who_lags_drains_all_that_was_sent_and_goes_back_to_the_feeder() {
        send_and_run(true, false);
    }

    #[test]
    #[should_panic(expected = "mail was left behind")]
    fn loom_a_gap_that_is_looked_for_after_draining_leaves_mail_behind() {
        send_and_run(true, true);
    }

    #[test]
    #[should_panic(expected = "never went back to the feeder")]
    fn loom_who_lags_and_is_not_woken_waits_for_ever() {
        send_and_run(false, false);
    }
}
