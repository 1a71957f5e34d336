//! Series: how a run goes over time, for the chart and the progress bar.

use super::published::Published;
use crate::consumer::Population;
use crate::workload::{Commit, Numbering, Workload, commits_through};
use std::sync::Arc;
use walfan::{Engine, Lsn};

/// One look at the run.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Point {
    /// Microseconds of the run's clock.
    pub(crate) at_us: u64,
    /// Transactions published so far.
    pub(crate) published: u64,
    /// Transactions flushed so far; of a server's, about, until the look is settled.
    pub(crate) flushed: u64,
    pub(crate) flushed_lsn: Lsn,
    /// Handler calls that returned so far.
    pub(crate) handled: u64,
    /// Of these, what died before it was reported: it is handled again.
    pub(crate) lost: u64,
    /// Set members that went into the log so far.
    pub(crate) logged: u64,
    pub(crate) log_bytes: u64,
    pub(crate) killed: u64,
    /// The age of the oldest transaction that is published and not flushed.
    pub(crate) lag_us: u64,
}

impl Point {
    /// Deliveries handled that did not have to be handled again.
    pub(crate) fn kept(&self) -> u64 {
        self.handled.saturating_sub(self.lost)
    }

    /// Says what was flushed at the time of the look, where `commits` is what was committed.
    pub(crate) fn settle(&mut self, commits: &[Commit]) {
        self.flushed = commits_through(commits, self.flushed_lsn);
        let oldest = commits.get(self.flushed as usize);
        self.lag_us = oldest.map_or(0, |oldest| self.at_us.saturating_sub(oldest.sent_us));
    }
}

/// Takes the looks.
pub(crate) struct Sampler {
    pub(crate) engine: Arc<Engine>,
    pub(crate) published: Arc<Published>,
    pub(crate) population: Arc<Population>,
    pub(crate) numbering: Numbering,
}

impl Sampler {
    pub(crate) fn look(&self) -> Point {
        // What was lost is read last: it may count more than `handled` does, never less, so that
        // nobody takes a run for drained too early.
        let metrics = self.engine.metrics();
        let lost = self.population.lost();
        let flushed_lsn = self.engine.flushed_lsn();
        let flushed = match self.numbering {
            Numbering::ByLsn => Workload::transactions_through(flushed_lsn),
            Numbering::InRows => metrics.transactions,
        };
        let published = self.published.count();
        let at_us = self.published.clock().now_us();
        let waits = published > flushed && self.numbering == Numbering::ByLsn;
        let oldest_us = if waits { self.published.sent_us(flushed) } else { at_us };
        Point {
            at_us,
            published,
            flushed,
            flushed_lsn,
            handled: metrics.handled,
            lost,
            logged: metrics.logged,
            log_bytes: metrics.log_bytes,
            killed: self.population.kills.total(),
            lag_us: at_us.saturating_sub(oldest_us),
        }
    }
}
