//! Initial: shapes that are given initial rows. Until these are complete a shape's changes are
//! logged, and that is all: it holds no LSN, and its consumer does not run. From then on it is a
//! shape like any other, but for the transactions that its rows show, which do not reach it.

use super::Shard;
use super::commit::OnSync;
use super::message::{Entering, Given, Refusal, Reply};
use super::slots::{Entry, Lifecycle};
use super::xids::Missing;
use crate::consumer::Ack;
use crate::flush::Owed;
use crate::snapshot::{Initial, PgSnapshot};
use crate::words::{Fragment, Offset};

/// So many shapes whose consumers have begun late are looked at in a tick.
const TRAILING_LOOKED_AT: usize = 1_024;

impl Entry {
    /// Whether what the fragment brings is in the initial rows that the shape was given.
    #[cold]
    pub(super) fn hides(&mut self, fragment: &Fragment) -> bool {
        let Some(snapshot) = self.cold.initial().complete() else { return false };
        // Commits rise: from here on nothing is in them.
        self.filters = fragment.commit_lsn() < snapshot.taken_at;
        snapshot.hides(fragment.commit_lsn(), fragment.xid())
    }
}

impl Shard {
    /// Says whether all that came here through `first`, which is none of a shape's that begins
    /// there, is in rows that were read under `shown`.
    pub(super) fn handle_check_snapshot(&self, first: Offset, shown: &PgSnapshot, reply: &Reply) {
        drop(reply.send(match self.stream.xids.missing(first.commit, shown) {
            None => Ok(1),
            Some(Missing::Xid(xid)) => Err(Refusal::Unshown(xid)),
            Some(Missing::Untold) => Err(Refusal::Untold),
        }));
    }

    /// Gives a shape its initial rows, between two transactions: of one that has begun its consumer
    /// would not see the beginning.
    pub(super) fn handle_snapshot(&mut self, given: Given) {
        match self.stream.open {
            Some(_) => self.stream.given.push(given),
            None => self.give_snapshot(given),
        }
    }

    pub(super) fn give_snapshot(&mut self, given: Given) {
        let Given { handle, slot, snapshot, reply } = given;
        if self.is_stopping() {
            drop(reply.send(Err(Refusal::Stopping)));
            return;
        }
        let awaits = |entry: &&mut Entry| {
            entry.cold.shape.handle == handle && entry.cold.initial().is_awaited()
        };
        let Some(entry) = self.slots.get_mut(slot).filter(awaits) else {
            // It has ended: gone for good is it with the record that says so.
            self.commit.when_durable(OnSync::Answer(reply, Err(Refusal::Unknown)));
            return;
        };
        entry.cold.beside.get_or_insert_default().initial = Initial::Complete(snapshot.clone());
        entry.filters = true;
        let (ack, first) = (entry.ack, entry.cold.shape.first);
        if entry.cold.attended().is_none() {
            self.log.claims().release(slot);
        } else {
            let owed = self.owed_since_first(ack, first);
            if let Some(entry) = self.slots.get_mut(slot) {
                entry.owed = owed;
                entry.taken_back = true;
                entry.state = Lifecycle::Dead;
            }
            self.trailing.push_back(slot);
            self.attended.insert(slot.as_u32());
            self.counters().lagging.add(1);
            self.start_consumer(slot);
        }
        self.control.registry.give_snapshot(handle, snapshot);
        drop(reply.send(Ok(1)));
    }

    /// What a consumer owes that has seen nothing of its shape: everything, though the LSN waits
    /// only for what it has not passed yet.
    pub(super) fn owed_since_first(&mut self, ack: Ack, first: Offset) -> Owed {
        let mut owed = Owed::new(first.complete_through());
        let frontier = self.owed.of(ack).frontier();
        let since = first.complete_through().max(frontier);
        let processed = self.stream.processed;
        owed.sent = owed.sent.max(processed);
        if processed > since {
            // From the first position above; the consumer's first report settles it.
            owed.from = since.next();
            self.owed.of(ack).owe(owed.from, 1);
        }
        owed
    }

    /// A shape that had its initial rows when the directory was opened. How far its consumer was is
    /// not known: the LSN may have passed it while the rows were being loaded.
    pub(super) fn enter_given(&mut self, owed: Owed, entering: Entering) {
        let slot = entering.shape.slot;
        self.enter_slot(owed, entering);
        if let Some(entry) = self.slots.get_mut(slot) {
            entry.taken_back = true;
        }
        self.log.claims().hold(slot);
        self.trailing.push_back(slot);
    }

    /// A consumer that began after the LSN had passed changes of its shape has had them: they may
    /// be thinned as any others.
    pub(super) fn check_trailing(&mut self) {
        for _ in 0..TRAILING_LOOKED_AT.min(self.trailing.len()) {
            let Some(slot) = self.trailing.pop_front() else { return };
            let trails = |entry: &mut Entry| {
                let is_level = entry.ack == Ack::Log && entry.state == Lifecycle::Running;
                entry.taken_back && entry.owed.flushed < entry.owed.sent && !is_level
            };
            if self.slots.get_mut(slot).is_some_and(trails) {
                self.trailing.push_back(slot);
            } else {
                self.log.claims().release(slot);
            }
        }
    }
}
