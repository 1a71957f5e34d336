//! Group commit: one batch in sync, one filling. What waits for a record to be durable waits with
//! the batch that holds it, and moves when that batch is synced (R3).

use super::Shard;
use super::message::{Refusal, Reply};
use crate::consumer::Ack;
use crate::control::{Event, Place};
use crate::log::Batch;
use crate::sync::Ordering;
use crate::words::{Lsn, Slot};
use crossbeam_channel::Sender;
use std::time::{Duration, Instant};

/// While more comes in, a batch is closed at this size or age: a sync is worth some waiting when
/// there is other work, and none when there is not.
const BATCH_BYTES_WORTH_A_SYNC: usize = 256 << 10;
const BATCH_AGE_MAX: Duration = Duration::from_micros(500);
/// The filling batch takes no more than this while another one is in sync: then the shard waits.
const BATCH_BYTES_MAX: usize = 4 << 20;

/// A buffer is used again if it takes no more than a full batch and the fragment that filled it.
const SPARE_BYTES_MAX: usize = 2 * BATCH_BYTES_MAX;

/// What happens when a batch is durable.
pub(super) enum OnSync {
    /// A shape is gone durably, and with it what it owed.
    Settle(Ack, Lsn),
    /// Shapes are added durably.
    Enter(Vec<Place>),
    Say(Event),
    /// The record of this shape's end.
    Left(Slot),
    Answer(Reply, Result<usize, Refusal>),
}

/// See the file's head.
pub(super) struct GroupCommit {
    to_sync: Sender<Batch>,
    /// What waits for the batch in sync; `None` while there is none.
    syncing: Option<Vec<OnSync>>,
    /// What waits for the batch being filled.
    filling: Vec<OnSync>,
    /// When the shard first saw that the batch being filled holds something.
    filled_since: Option<Instant>,
    spare: Vec<u8>,
    /// Every commit at or below it is processed and durable.
    pub(super) durable: Lsn,
}

impl GroupCommit {
    pub(super) fn new(to_sync: Sender<Batch>, durable: Lsn) -> GroupCommit {
        GroupCommit {
            to_sync,
            syncing: None,
            filling: Vec::new(),
            filled_since: None,
            spare: Vec::new(),
            durable,
        }
    }

    /// Has `what` happen when everything that was written until now is durable.
    pub(super) fn when_durable(&mut self, what: OnSync) {
        self.filling.push(what);
    }
}

impl Shard {
    /// Whether the filling batch takes more. If not, the shard waits for the sync (section 5).
    pub(crate) fn takes_more(&self) -> bool {
        self.commit.syncing.is_none() || self.encoder.len() < BATCH_BYTES_MAX
    }

    /// Whether nothing waits for a sync.
    pub(super) fn is_synced(&self) -> bool {
        self.commit.syncing.is_none()
            && self.commit.filling.is_empty()
            && self.encoder.is_empty()
            && self.commit.durable >= self.stream.processed
    }

    /// Hands the filled batch over if none is in sync and it is worth it; `idle`: nothing else
    /// waits. True if there was anything to do.
    pub(crate) fn close_batch(&mut self, idle: bool, now: Instant) -> bool {
        if self.commit.syncing.is_some() {
            return false;
        }
        if self.encoder.is_empty() && self.commit.filling.is_empty() {
            // Nothing of the last commits is this shard's: they are complete as they are.
            let moved = self.commit.durable < self.stream.processed;
            if moved {
                self.move_durable(self.stream.processed);
            }
            return moved;
        }
        let since = *self.commit.filled_since.get_or_insert(now);
        let worth = self.encoder.len() >= BATCH_BYTES_WORTH_A_SYNC
            || now.duration_since(since) >= BATCH_AGE_MAX;
        if !idle && !worth {
            return false;
        }
        self.commit.filled_since = None;
        let batch = self.encoder.take(std::mem::take(&mut self.commit.spare));
        self.commit.syncing = Some(std::mem::take(&mut self.commit.filling));
        // Never full: there is no batch in sync. Disconnected: the syncing thread has poisoned.
        drop(self.commit.to_sync.try_send(batch));
        true
    }

    /// Takes a batch back that is durable now.
    pub(crate) fn handle_synced(&mut self, batch: Batch, now: Instant) {
        let through = batch.through();
        let buffer = batch.into_buffer();
        // What many shapes at once have made large is not kept for ever.
        self.commit.spare = if buffer.capacity() <= SPARE_BYTES_MAX { buffer } else { Vec::new() };
        let waited = self.commit.syncing.take().unwrap_or_default();
        for what in waited {
            self.on_sync(what, now);
        }
        self.counters().syncs.add(1);
        self.move_durable(through.max(self.commit.durable));
    }

    fn on_sync(&mut self, what: OnSync, now: Instant) {
        match what {
            OnSync::Settle(ack, from) => self.owed.of(ack).settle(from),
            OnSync::Enter(mut shapes) => {
                self.counters().shapes.add(shapes.len() as u64);
                // Who has left meanwhile would never leave again.
                shapes.retain(|place| self.slots.get_mut(place.slot).is_some());
                self.control.registry.enter(shapes);
            }
            OnSync::Say(event) => self.control.events.say(event, now),
            OnSync::Left(slot) => self.left_durably(slot, now),
            // Who asked may have given up; what was done stays done.
            OnSync::Answer(reply, answer) => drop(reply.send(answer)),
        }
    }

    fn move_durable(&mut self, durable: Lsn) {
        self.commit.durable = durable;
        if self.link.set_durable_through(durable) {
            self.pool.wake_feeder(self.number);
        }
        if self.limits.memory_bytes_max.is_some() {
            self.trim();
        }
    }

    /// Publishes how far everything is flushed.
    pub(crate) fn publish(&mut self) {
        let durable = self.commit.durable;
        self.owed.trail.advance(durable);
        if let Some(frontier) = self.owed.consumers.advance(durable) {
            self.control.flushed.publish(self.number, frontier);
            self.log.claims().keep_above(frontier);
        }
        let unflushed = self.owed.consumers.unflushed_bytes();
        let gauge = &self.link.gauges.unflushed_bytes;
        // What an earlier life left owed has no bytes, and is owed (INV12).
        let commits = self.owed.consumers.unflushed_commits();
        self.counters().unflushed_commits.set(commits);
        // Relaxed: one writer; a hint for the publisher (R17).
        if gauge.load(Ordering::Relaxed) != unflushed {
            gauge.store(unflushed, Ordering::Relaxed);
            self.control.gate.wake();
        }
    }

    /// The memory store keeps what is above the frontier, and what living `Ack::Log` consumers
    /// have not flushed; beyond its bound the latter goes first (R14).
    fn trim(&mut self) {
        let Some(bytes_max) = self.limits.memory_bytes_max else { return };
        let flushed = self.owed.consumers.frontier();
        if self.log.trim(flushed.min(self.owed.trail.frontier())) > bytes_max {
            self.log.trim(flushed);
        }
    }
}
