//! Published: what the source has sent, and when, for who measures.

use crate::clock::Clock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// How many transactions' send times are kept. More than these are only in flight when an open
/// loop is far beyond what the engine can do.
const TIMES: usize = 1 << 18;

/// See the file's head. Written by the source alone. Where several connections write, transactions
/// do not end in the order of their numbers, and `count` says only how many there are.
#[derive(Debug)]
pub(crate) struct Published {
    clock: Clock,
    /// Transactions that were published whole.
    count: AtomicU64,
    /// When the publishing of a transaction began, by its number modulo [`TIMES`].
    times_us: Box<[AtomicU64]>,
    ended: AtomicBool,
}

impl Published {
    pub(crate) fn new(clock: Clock) -> Published {
        let times_us = (0..TIMES).map(|_| AtomicU64::new(0)).collect();
        Published { clock, count: AtomicU64::new(0), times_us, ended: AtomicBool::new(false) }
    }

    pub(crate) fn clock(&self) -> Clock {
        self.clock
    }

    /// The source is about to publish transaction number `transaction`.
    pub(crate) fn sends(&self, transaction: u64) {
        // Relaxed: read after the engine has flushed it, or after `count` says that it is out.
        self.times_us[transaction as usize % TIMES].store(self.clock.now_us(), Ordering::Relaxed);
    }

    /// `count` transactions are published whole.
    pub(crate) fn sent(&self, count: u64) {
        // Release: pairs with the acquire in `count`; who sees the count sees the send times.
        self.count.store(count, Ordering::Release);
    }

    /// One transaction more is published whole.
    #[cfg(feature = "postgres")]
    pub(crate) fn one_more(&self) {
        // Release: as in `sent`.
        self.count.fetch_add(1, Ordering::Release);
    }

    /// Transactions that were published whole.
    pub(crate) fn count(&self) -> u64 {
        // Acquire: pairs with the release in `sent`.
        self.count.load(Ordering::Acquire)
    }

    /// When the publishing of transaction number `transaction` began.
    pub(crate) fn sent_us(&self, transaction: u64) -> u64 {
        // Relaxed: see `sends`.
        self.times_us[transaction as usize % TIMES].load(Ordering::Relaxed)
    }

    /// The run is drained: watchers end.
    pub(crate) fn end(&self) {
        // Release: pairs with the acquire in `has_ended`.
        self.ended.store(true, Ordering::Release);
    }

    pub(crate) fn has_ended(&self) -> bool {
        // Acquire: pairs with the release in `end`.
        self.ended.load(Ordering::Acquire)
    }
}
