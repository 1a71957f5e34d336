//! Hands: what a thread brings along that runs handlers, and what it shows of that: whom it is
//! inside of, and how much it has done.

use super::mailbox::Mailbox;
use super::recent::FragmentCache;
use crate::sync::{AtomicU64, Ordering};
use crate::words::{Lsn, Offset, Slot};
use std::sync::Arc;

/// What a thread that runs handlers shows to the watchdog. One writer, who writes at each delivery,
/// and so keeps away from what others write.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Pulse {
    /// Moves with every handler call; on a shard's thread, whenever slots may come again.
    count: AtomicU64,
    /// What is being run: 0 nothing, else the shard in the high and slot + 1 in the low half.
    running: AtomicU64,
    /// Which incarnation, on a runner.
    incarnation: AtomicU64,
}

/// What a thread is inside of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Inside {
    pub(crate) shard: usize,
    pub(crate) slot: u32,
    /// Of a mailbox consumer, or its factory.
    pub(crate) incarnation: u64,
}

impl Pulse {
    pub(crate) fn beat(&self) {
        // Relaxed, as all of Pulse: one writer; the watchdog compares looks that lie far apart.
        self.count.store(self.count.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    pub(crate) fn enter(&self, mailbox: &Mailbox) {
        self.incarnation.store(mailbox.name().incarnation, Ordering::Relaxed);
        self.beat();
        self.enter_slot(mailbox.link().shard, mailbox.name().slot);
    }

    /// Without a beat: that is the caller's, whenever it begins with the slots anew.
    #[inline]
    pub(crate) fn enter_slot(&self, shard: usize, slot: Slot) {
        let slot = u64::from(slot.as_u32()) + 1;
        self.running.store((shard as u64) << 40 | slot, Ordering::Relaxed);
    }

    pub(crate) fn leave(&self) {
        self.running.store(0, Ordering::Relaxed);
    }

    /// The beat count, and what is being run.
    pub(crate) fn look(&self) -> (u64, Option<Inside>) {
        let running = self.running.load(Ordering::Relaxed);
        let incarnation = self.incarnation.load(Ordering::Relaxed);
        let inside = (running & 0xFF_FFFF_FFFF).checked_sub(1).map(|slot| Inside {
            shard: (running >> 40) as usize,
            slot: slot as u32,
            incarnation,
        });
        (self.count.load(Ordering::Relaxed), inside)
    }
}

/// What a thread counts while it runs handlers.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    /// Handler calls for a change.
    pub(crate) handled: u64,
    /// Of these, from the log.
    pub(crate) replayed: u64,
    /// Commits handed over, alone or with a change.
    pub(crate) commits: u64,
    /// Messages that left a mailbox.
    pub(crate) mail_taken: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, other: Tally) {
        self.handled += other.handled;
        self.replayed += other.replayed;
        self.commits += other.commits;
        self.mail_taken += other.mail_taken;
    }
}

/// What a thread that runs handlers brings along.
#[derive(Debug)]
pub(crate) struct Hands {
    /// One a shard.
    pub(crate) caches: Vec<FragmentCache>,
    pub(crate) tally: Tally,
    pub(crate) pulse: Arc<Pulse>,
    /// The position that was handled last, for who asks after a death.
    pub(super) at: Offset,
    /// What the handler that was called last has reported; it counts also if that ends in a panic.
    pub(super) reported: Lsn,
}

impl Hands {
    pub(crate) fn new(shards: usize, pulse: Arc<Pulse>) -> Hands {
        let caches = (0..shards).map(|_| FragmentCache::default()).collect();
        Hands { caches, tally: Tally::default(), pulse, at: Offset::ZERO, reported: Lsn::ZERO }
    }
}
