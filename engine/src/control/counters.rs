//! Counters: what a shard counts since the start. Each is written by its shard alone, and read by
//! who asks for metrics.

use crate::sync::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// See the file's head.
        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $($(#[$doc])* pub(crate) $name: Count,)*
        }
    };
}

counters! {
    /// Transactions whose commit was processed.
    transactions,
    /// Fragments processed.
    fragments,
    /// Changes processed.
    changes,
    /// Set members of the changes that went into the log.
    logged,
    /// Deliveries sent into mailboxes or handed over inline.
    sent,
    /// Deliveries handled inline, on the shard's thread.
    handled_inline,
    /// Of the deliveries handled on the shard's thread, those from the log.
    replayed_inline,
    /// Messages that the shard's thread took out of mailboxes.
    mail_taken,
    /// Consumers that ended, failed factories too.
    deaths,
    /// Consumers started again.
    restarts,
    /// Deliveries that found their channel disconnected and are replayed.
    retries,
    /// Shapes invalidated because of their consumer.
    undeliverable,
    /// Shapes invalidated for other reasons.
    invalidated,
    /// Times that a mailbox overflowed.
    overflows,
    /// Shapes that live (a gauge).
    shapes,
    /// Shapes whose consumer is not running (a gauge).
    lagging,
    /// Commits that are processed and not flushed (a gauge).
    unflushed_commits,
    /// Bytes handed to the log.
    log_bytes,
    /// Batches synced.
    syncs,
    /// Bytes of old files that were given back. Written by who thins.
    log_bytes_freed,
}

/// A number with one writer.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    /// Adds; by the one writer.
    pub(crate) fn add(&self, n: u64) {
        // Relaxed: a statistic with one writer, so a load and a store are enough.
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// Subtracts; by the one writer.
    pub(crate) fn sub(&self, n: u64) {
        self.add(n.wrapping_neg());
    }

    /// Sets; by the one writer.
    pub(crate) fn set(&self, n: u64) {
        // Relaxed: see `add`.
        self.0.store(n, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        // Relaxed: see `add`.
        self.0.load(Ordering::Relaxed)
    }
}
