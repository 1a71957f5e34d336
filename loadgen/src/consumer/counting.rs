//! Counting consumer: what runs 300,000 times. It counts changes and sums their traces, checks
//! their order, and reports every commit. It fits a cache line, and looks at one byte of shared
//! memory a delivery.

use super::kill::{KillKind, Order, kill};
use super::population::{Population, Prefix};
use crate::workload::mix;
use std::sync::Arc;
use walfan::{Consumer, ConsumerError, Context, Delivery, Lsn, Offset};

/// A number that stands for the change at `offset` in sums: changes that sum up to the same are
/// the same changes, but for a chance of 2^-64.
#[inline]
pub(crate) fn trace(offset: Offset) -> u64 {
    mix(offset.commit.as_u64() ^ offset.op << 56 ^ offset.op >> 8)
}

/// Where a consumer is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    /// It has not reported yet.
    Born,
    /// It is not the first of its shape, and has not reported yet.
    Reborn,
    /// It has reported: it may be killed.
    Flushed,
    /// It keeps back a report, and dies at the next delivery.
    Withholding,
}

/// See the file's head.
pub(crate) struct Counting {
    population: Arc<Population>,
    last: Offset,
    traces: u64,
    reported_traces: u64,
    reported: Lsn,
    changes: u32,
    reported_changes: u32,
    shape: u32,
    life: Life,
    timed: bool,
}

impl Counting {
    /// The consumer of shape number `shape` that goes on after `resume`, where `prefix` was
    /// reported by those before it.
    pub(crate) fn new(
        population: Arc<Population>,
        shape: u32,
        resume: Offset,
        prefix: Prefix,
        incarnation: u32,
    ) -> Counting {
        let timed = population.is_timed(shape);
        Counting {
            population,
            last: resume,
            traces: prefix.traces,
            reported_traces: prefix.traces,
            reported: prefix.through,
            changes: prefix.changes,
            reported_changes: prefix.changes,
            shape,
            life: if incarnation == 0 { Life::Born } else { Life::Reborn },
            timed,
        }
    }

    #[inline]
    fn count(&mut self, delivery: &Delivery<'_>) {
        let offset = delivery.offset();
        if offset <= self.last {
            self.complain_of_order(offset);
        }
        self.last = offset;
        if !offset.is_commit_mark() {
            self.changes += 1;
            self.traces = self.traces.wrapping_add(trace(offset));
            if self.timed {
                self.population.delivered(self.shape, delivery);
            }
        }
    }

    #[inline]
    fn report(&mut self, commit: Lsn, context: &mut Context<'_>) -> Result<(), ConsumerError> {
        self.last = Offset::commit_mark(commit);
        context.flushed(commit)?;
        self.reported = commit;
        self.reported_changes = self.changes;
        self.reported_traces = self.traces;
        if self.life != Life::Flushed {
            if self.life == Life::Reborn {
                self.population.recovered(self.shape);
            }
            self.life = Life::Flushed;
        }
        Ok(())
    }

    /// Dies, if it is armed and this is the place. True: the report of this commit is kept back.
    #[cold]
    fn obey(&mut self, delivery: &Delivery<'_>) -> bool {
        let byte = self.population.order_byte(self.shape);
        // Who has not reported since it was born is not killed again: three deaths in one place
        // would condemn its shape.
        let Order::Die(kind) = Order::from_byte(byte) else { return false };
        let offset = delivery.offset();
        match (kind, self.life) {
            (KillKind::Handler | KillKind::Factory, Life::Flushed) => self.die(kind),
            (KillKind::MidTransaction, Life::Flushed) => {
                let in_middle = self.last.commit == offset.commit && !self.last.is_commit_mark();
                if in_middle && !offset.is_commit_mark() {
                    self.die(kind)
                }
                false
            }
            (KillKind::Queued, Life::Withholding) => self.die(kind),
            (KillKind::Queued, Life::Flushed) => {
                // The next transaction's messages and the one's after it are in the mailbox: the
                // first brings the death, the others are still there then.
                delivery.commit().is_some() && self.population.awaits_queue(offset.commit)
            }
            _ => false,
        }
    }

    #[cold]
    fn die(&self, kind: KillKind) -> ! {
        let order = if kind == KillKind::Factory { Order::FailStart } else { Order::Live };
        self.population.set_order(self.shape, order);
        self.population.kills.die(kind);
        self.population.died(self.shape, kind);
        kill(kind)
    }

    #[cold]
    fn complain_of_order(&self, offset: Offset) {
        self.population.complain(format!(
            "shape {}: the consumer was handed {offset} after {}, so twice or out of order",
            self.shape, self.last
        ));
    }
}

impl Consumer for Counting {
    #[inline]
    fn handle(
        &mut self,
        delivery: &Delivery<'_>,
        context: &mut Context<'_>,
    ) -> Result<(), ConsumerError> {
        let armed = self.population.order_byte(self.shape) != Order::LIVE;
        let withhold = armed && self.obey(delivery);
        self.count(delivery);
        match delivery.commit() {
            Some(commit) if withhold => {
                self.last = Offset::commit_mark(commit);
                self.life = Life::Withholding;
                Ok(())
            }
            Some(commit) => self.report(commit, context),
            None => Ok(()),
        }
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        let before = self.population.prefix(self.shape);
        let prefix = Prefix {
            through: self.reported,
            changes: self.reported_changes,
            traces: self.reported_traces,
        };
        let handled = self.changes - before.changes;
        let unreported = self.changes - self.reported_changes;
        self.population.deposit(self.shape, prefix, handled, unreported);
    }
}

// What 300,000 of them cost: one cache line each, on top of what the engine keeps.
const _: () = assert!(size_of::<Counting>() <= 72);
