//! Pump: what a shard's thread does in each round: synced batches, marks, messages, the tick, and
//! then the batch and the frontier. It sleeps on all of these together (R5).

use super::Shard;
use super::message::Message;
use super::stop::ShardEnd;
use crate::log::Batch;
use crate::report::Sleeper;
use crossbeam_channel::{Receiver, Select};
use std::time::{Duration, Instant};

/// Messages that are taken in one round before marks are looked at again.
const MESSAGES_MAX: usize = 16;
/// The time between two ticks, and while something waits for the clock.
const TICK: Duration = Duration::from_millis(100);
const TICK_IN_NEED: Duration = Duration::from_millis(5);

/// Slices that go out without a wait after one that was in vain. A wave to 150,000 mailboxes has
/// some 150, and so takes a thirtieth of a second longer where the runners do nothing at all.
const HURRIES: u32 = 8;

/// Where things come from.
pub(crate) struct Inbox {
    pub(crate) messages: Receiver<Message>,
    /// Room for one lifecycle message more, for each that was taken.
    pub(crate) lifecycle_credits: Receiver<()>,
    pub(crate) synced: Receiver<Batch>,
    pub(crate) sleeper: Sleeper,
}

/// See the file's head.
pub(crate) struct Pump {
    shard: Shard,
    inbox: Inbox,
    ticked: Instant,
    /// So many times more it does not wait for its runners.
    hurries: u32,
}

impl Pump {
    pub(crate) fn new(shard: Shard, inbox: Inbox, now: Instant) -> Pump {
        Pump { shard, inbox, ticked: now, hurries: 0 }
    }

    /// One round. Whether there may be more to do at once.
    pub(crate) fn step(&mut self, now: Instant) -> bool {
        let mut worked = false;
        while let Ok(batch) = self.inbox.synced.try_recv() {
            self.shard.handle_synced(batch, now);
            worked = true;
        }
        if self.shard.has_marks() {
            self.shard.drain_marks(now);
            worked = true;
        }
        for _ in 0..MESSAGES_MAX {
            if !self.take_message(now) {
                break;
            }
            worked = true;
        }
        worked |= self.shard.move_held(self.inbox.messages.is_empty(), now);
        worked |= self.shard.continue_wave(now);
        if now.duration_since(self.ticked) >= self.tick() {
            self.ticked = now;
            self.shard.tick(now);
        }
        // Also in the middle of a wave: its records are there, and who dies of it is fed from them.
        let idle = self.inbox.messages.is_empty() || !self.shard.takes_more();
        worked |= self.shard.close_batch(idle, now);
        self.shard.publish();
        worked
    }

    /// Whether the shard has stopped and has nothing more to wait for.
    pub(crate) fn is_done(&mut self, now: Instant) -> bool {
        self.shard.is_done(now)
    }

    /// Waits for runners that are far behind, before more goes into mailboxes. Not for long, and
    /// where that was in vain, seldom: they are wedged, or slow, and who needs no runner is not to
    /// wait for that.
    pub(crate) fn keep_pace(&mut self) {
        if !self.shard.sends_mail() || self.inbox.messages.is_empty() && !self.shard.is_sending() {
            return;
        }
        if self.hurries > 0 {
            self.hurries -= 1;
        } else if !self.shard.pool.await_runners() {
            self.hurries = HURRIES;
        }
    }

    /// Sleeps until there is something to do.
    pub(crate) fn sleep(&self) {
        let sleeper = &self.inbox.sleeper;
        sleeper.prepare();
        let takes = self.shard.takes_more() && !self.shard.is_stopping();
        let messages = takes && !self.inbox.messages.is_empty();
        if !messages && self.inbox.synced.is_empty() && !self.shard.has_marks() {
            let mut select = Select::new();
            select.recv(sleeper.receiver());
            if takes {
                select.recv(&self.inbox.messages);
            }
            // A time-out is a tick, and a signal is taken so that it does not end the next sleep
            // too.
            let _ready = select.ready_timeout(self.tick());
            let _signal = sleeper.receiver().try_recv();
        }
        sleeper.cancel();
    }

    /// The shard's end.
    pub(crate) fn finish(self) -> ShardEnd {
        self.shard.finish()
    }

    /// Whether it does not wait for its runners now.
    #[cfg(all(test, not(loom)))]
    pub(crate) fn hurries(&self) -> bool {
        self.hurries > 0
    }

    /// How many meanings of tables the shard's shapes go by.
    #[cfg(all(test, not(loom)))]
    pub(crate) fn versions(&self) -> usize {
        self.shard.versions()
    }

    fn tick(&self) -> Duration {
        if self.shard.waits_for_the_clock() { TICK_IN_NEED } else { TICK }
    }

    fn take_message(&mut self, now: Instant) -> bool {
        if !self.shard.takes_more() || !self.shard.wave_has_room() {
            return false;
        }
        let Ok(message) = self.inbox.messages.try_recv() else { return false };
        match &message {
            Message::Fragment(_) => self.shard.control.gate.leave(self.shard.number),
            Message::Stop(_) => {}
            // There is one, because the sender has put it there.
            _ => {
                let _credit = self.inbox.lifecycle_credits.try_recv();
            }
        }
        self.shard.handle(message, now);
        true
    }
}

impl Shard {
    /// Takes one message, in stream order.
    pub(crate) fn handle(&mut self, message: Message, now: Instant) {
        if !matches!(message, Message::Fragment(_)) {
            self.release_held(now);
            self.deliver_wave(now);
        }
        match message {
            // Shutdown and the publisher crossed: its source sends it again.
            Message::Fragment(_) if self.is_stopping() => {}
            Message::Fragment(fragment) => self.take_fragment(fragment, now),
            Message::Add(shapes, placed, reply) => self.handle_add(shapes, placed, reply),
            Message::Remove(handle, slot, reply) => self.handle_remove(handle, slot, reply),
            Message::InvalidateAll(cause, reply) => self.handle_invalidate_all(&cause, reply),
            Message::CheckSnapshot(first, shown, reply) => {
                self.handle_check_snapshot(first, &shown, &reply);
            }
            Message::Snapshot(given) => self.handle_snapshot(given),
            Message::EarlierXids(through) => self.stream.xids.unknown_through(through),
            Message::Stop(deadline) => self.handle_stop(deadline, now),
        }
    }

    /// What is done by the clock.
    pub(crate) fn tick(&mut self, now: Instant) {
        self.restart_paced(now);
        self.sweep(now);
        self.check_trailing();
    }

    fn waits_for_the_clock(&self) -> bool {
        self.pacing.is_waiting()
            || self.is_stopping()
            || self.owed.consumers.unflushed_bytes() > self.limits.consumer_bytes_max
    }
}
