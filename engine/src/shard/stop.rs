//! Stop: the end of a shard. The open transaction is dropped, the batch synced; then the living
//! may flush what they owe until the deadline. Nothing is restarted and nothing invalidated (R16).

use super::Shard;
use super::slots::{Lifecycle, Port};
use crate::consumer::{Ack, drop_contained};
use crate::words::{Handle, Lsn};
use std::time::{Duration, Instant};

/// How often a stopping shard looks whether one that lives still owes.
const LOOK: Duration = Duration::from_millis(10);

/// See the file's head.
pub(super) struct Stopping {
    deadline: Instant,
    next_look: Instant,
    /// Nobody who lives owes anything.
    settled: bool,
}

/// Where a shard ended.
#[derive(Clone, Debug)]
pub(crate) struct ShardEnd {
    /// The last commit that is durable in its log.
    pub(crate) durable: Lsn,
    /// Its frontier.
    pub(crate) flushed: Lsn,
    /// Shapes that the flushed LSN still waits for.
    pub(crate) owing: Vec<Handle>,
}

impl Shard {
    /// Takes the last message.
    pub(super) fn handle_stop(&mut self, deadline: Instant, now: Instant) {
        self.stopping = Some(Stopping { deadline, next_look: now, settled: false });
        // It is sent again when the engine is opened again.
        self.abandon_open();
    }

    /// Whether it has got the last message.
    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.is_some()
    }

    /// Whether a stopping shard has nothing more to wait for.
    pub(crate) fn is_done(&mut self, now: Instant) -> bool {
        let Some(stopping) = &self.stopping else { return false };
        if now >= stopping.deadline {
            return true;
        }
        if !self.is_synced() {
            return false;
        }
        if self.owed.consumers.root().is_none() {
            return true;
        }
        if now >= stopping.next_look {
            // A walk over all shapes, once in a while and only at the end.
            let settled = !self.slots.all().into_iter().any(|slot| {
                let entry = self.slots.get_mut(slot);
                entry.is_some_and(|entry| {
                    entry.ack == Ack::Consumer
                        && entry.owed.owes()
                        && entry.state != Lifecycle::Dead
                })
            });
            if let Some(stopping) = &mut self.stopping {
                stopping.settled = settled;
                stopping.next_look = now + LOOK;
            }
        }
        self.stopping.as_ref().is_some_and(|stopping| stopping.settled)
    }

    /// Lets every consumer go, and says where the shard ended.
    pub(crate) fn finish(mut self) -> ShardEnd {
        let owing = self.let_go();
        self.show_tally();
        ShardEnd {
            durable: self.log.durable_commit().max(self.commit.durable),
            flushed: self.owed.consumers.frontier(),
            owing,
        }
    }

    /// Takes every shape out, and has its consumer dropped. The shapes that the flushed LSN still
    /// waits for.
    fn let_go(&mut self) -> Vec<Handle> {
        let mut owing = Vec::new();
        for slot in self.slots.all() {
            let Some(entry) = self.slots.remove(slot) else { continue };
            if entry.ack == Ack::Consumer && entry.owed.owes() {
                owing.push(entry.cold.shape.handle);
            }
            if let Port::Inline(consumer) = entry.port {
                drop_contained(consumer);
            } else if let Some(mailbox) = entry.mailbox {
                mailbox.close();
                self.wakes.wake(&mailbox);
            }
        }
        self.wakes.flush(&self.pool);
        owing
    }
}

impl Drop for Shard {
    /// Also of a shard that has failed: a consumer that keeps its reporter keeps the mailbox in
    /// which it lies, so neither goes by itself.
    fn drop(&mut self) {
        drop(self.let_go());
    }
}
