//! Metrics: what the engine has counted since it was started, and how it is, for who asks. Nothing
//! here is on a delivery's way: each number has one writer, and they are summed when asked for.

use super::{Engine, Inner};
use crate::control::{Counters, Holder};
use crate::sync::Ordering;
use crate::words::Lsn;

/// Counts since the start, over all shards, and gauges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metrics {
    /// Transactions whose commit every shard has processed.
    pub transactions: u64,
    /// Changes that every shard has processed.
    pub changes: u64,
    /// Logged deliveries: set members of the changes in the log.
    pub logged: u64,
    /// Deliveries sent into mailboxes or handed to inline consumers.
    pub sent: u64,
    /// Handled deliveries: calls of consumers' handlers, for a change, that returned.
    pub handled: u64,
    /// Of these, from the log.
    pub replayed: u64,
    /// Incarnations of consumers that ended, failed factories too.
    pub deaths: u64,
    /// Incarnations that took the place of an earlier one.
    pub restarts: u64,
    /// Deliveries that found their consumer's channel disconnected, and are replayed.
    pub retries: u64,
    /// Shapes invalidated because of their consumer.
    pub undeliverable: u64,
    /// Shapes invalidated for other reasons.
    pub invalidated: u64,
    /// Times that a mailbox was full and its consumer went to the log.
    pub overflows: u64,
    /// Shapes that live.
    pub shapes: u64,
    /// Shapes whose consumer is not running: restarting, or fed from the log.
    pub lagging: u64,
    /// Bytes handed to the log.
    pub log_bytes: u64,
    /// Bytes of log that are held.
    pub log_bytes_held: u64,
    /// Bytes of old files of the log that were given back: [`Builder::log_bytes_max`].
    ///
    /// [`Builder::log_bytes_max`]: crate::Builder::log_bytes_max
    pub log_bytes_freed: u64,
    /// Shapes whose log was cut, because they had more than their quota in old files.
    pub cut_shapes: u64,
    /// Batches that were made durable.
    pub syncs: u64,
    /// Bytes of commits that are processed and not flushed.
    pub unflushed_bytes: u64,
    /// Who holds the flushed LSN while it stands still, as it was seen last; `None` where it moves,
    /// nothing is owed, or no consumer was seen to owe it.
    pub holder: Option<Holder>,
    /// Events that nobody took in time.
    pub events_dropped: u64,
    /// Warnings that were held back by their rate limit.
    pub warnings_held_back: u64,
    /// Each shard's own positions.
    pub shards: Vec<ShardMetrics>,
}

/// Where one shard is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShardMetrics {
    /// The last commit at or below which it owes nothing.
    pub frontier: Lsn,
    /// The last commit at or below which everything is durable in its log.
    pub durable: Lsn,
    /// Shapes that live in it.
    pub shapes: u64,
}

/// How the engine is, at the durable boundary (INV12).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Health {
    /// Nothing is wrong that the engine knows of.
    Green,
    /// Somebody has to look.
    Red {
        /// What is wrong.
        cause: String,
    },
}

impl Engine {
    /// Counts since the start, and gauges.
    pub fn metrics(&self) -> Metrics {
        self.inner.metrics()
    }

    /// Whether somebody has to look: the engine has failed, a sync hangs, handlers have taken all
    /// the runners, an inline consumer blocks its shard, or the flushed LSN is stuck.
    pub fn health(&self) -> Health {
        self.inner.health()
    }
}

impl Inner {
    pub(super) fn metrics(&self) -> Metrics {
        let counters = &self.control.counters;
        let sum = |count: fn(&Counters) -> u64| counters.iter().map(|c| count(c)).sum::<u64>();
        let least = |count: fn(&Counters) -> u64| counters.iter().map(|c| count(c)).min();
        let mut metrics = Metrics {
            transactions: least(|c| c.transactions.get()).unwrap_or(0),
            changes: least(|c| c.changes.get()).unwrap_or(0),
            logged: sum(|c| c.logged.get()),
            sent: sum(|c| c.sent.get()),
            handled: sum(|c| c.handled_inline.get()),
            replayed: sum(|c| c.replayed_inline.get()),
            deaths: sum(|c| c.deaths.get()),
            restarts: sum(|c| c.restarts.get()),
            retries: sum(|c| c.retries.get()),
            undeliverable: sum(|c| c.undeliverable.get()),
            invalidated: sum(|c| c.invalidated.get()),
            overflows: sum(|c| c.overflows.get()),
            shapes: sum(|c| c.shapes.get()),
            lagging: sum(|c| c.lagging.get()),
            log_bytes: sum(|c| c.log_bytes.get()),
            log_bytes_freed: sum(|c| c.log_bytes_freed.get()),
            syncs: sum(|c| c.syncs.get()),
            holder: self.control.vitals.holder(),
            ..Metrics::default()
        };
        let tally = self.pool.tally();
        metrics.handled += tally.handled;
        metrics.replayed += tally.replayed;
        (metrics.events_dropped, metrics.warnings_held_back) = self.control.events.lost();
        for (number, shard) in self.shards.iter().enumerate() {
            metrics.log_bytes_held += shard.log.bytes();
            metrics.cut_shapes += shard.log.cut_shapes();
            // Relaxed: a gauge.
            metrics.unflushed_bytes += shard.link.gauges.unflushed_bytes.load(Ordering::Relaxed);
            metrics.shards.push(ShardMetrics {
                frontier: self.control.flushed.shard(number),
                durable: shard.link.durable_through(),
                shapes: counters.get(number).map_or(0, |counters| counters.shapes.get()),
            });
        }
        metrics
    }

    pub(super) fn health(&self) -> Health {
        let control = &self.control;
        let cause = control.state.poisoned().map(str::to_owned).or_else(|| control.vitals.red());
        cause.map_or(Health::Green, |cause| Health::Red { cause })
    }
}
