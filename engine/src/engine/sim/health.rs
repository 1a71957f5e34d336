//! Health: what who asks is told, beside what the run knows. While the flushed LSN stands still for
//! longer than anybody may hold it, or a sync hangs, nobody is told that all is well; and what is
//! said to be wrong is (INV12).

use super::super::metrics::Health;
use super::consumer::World;
use super::life::{DEADLINE, LEASE_MAX};
use super::{SHARDS, Sim};
use crate::consumer::Ack;
use crate::control::Holder;
use crate::words::Lsn;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A sync that takes longer is said to hang, give or take what two clocks differ by.
const SYNC_MAX: Duration = Duration::from_secs(10);
const SLACK: Duration = Duration::from_secs(1);
const STUCK: &str = "the flushed LSN stands at ";

/// As the watch saw it last.
#[derive(Clone, Copy)]
pub(super) struct Held {
    /// Something durable is not flushed, and something published: since when.
    durable: Option<(Lsn, Instant)>,
    published: Option<(Lsn, Instant)>,
}

impl Held {
    pub(super) const NOT: Held = Held { durable: None, published: None };
}

impl Sim {
    /// The watch has looked.
    pub(super) fn check_health(&mut self) {
        let inner = Arc::clone(&self.life().inner);
        let flushed = inner.control.flushed.global();
        let (now, bound) = (self.now, DEADLINE.max(LEASE_MAX));
        let durable = (0..SHARDS).map(|shard| inner.shards[shard].link.durable_through());
        let durable = durable.min().unwrap_or(Lsn::ZERO);
        let go_on = |held: Option<(Lsn, Instant)>, through: Lsn| {
            let same = held.filter(|(lsn, _)| *lsn == flushed);
            (through > flushed).then(|| same.unwrap_or((flushed, now)))
        };
        self.held.durable = go_on(self.held.durable, durable);
        self.held.published = go_on(self.held.published, self.published);
        let still = |held: Option<(Lsn, Instant)>| held.is_some_and(|(_, s)| now - s > bound);
        let must = self.naps && still(self.held.durable);
        let slow = self.life().slow_sync;
        let hangs = |for_| slow.is_some_and(|(_, since)| now - since > for_);
        if let Some(holder) = inner.control.vitals.holder() {
            self.outcome.named += 1;
            self.world.check_holder(&holder, self.published);
            let shard = inner.control.registry.place(holder.handle).map(|place| place.shard.into());
            let last = inner.control.flushed.shard(holder.shard);
            assert_eq!((shard, last), (Some(holder.shard), flushed), "{holder:?}");
        }
        let health = inner.health();
        let Health::Red { cause } = health else {
            assert!(!must, "{flushed} is held, and health is green: {:?}", self.held.durable);
            assert!(!hangs(SYNC_MAX + SLACK), "a sync hangs, and health is green");
            return;
        };
        self.outcome.red += 1;
        if let Some(stuck) = cause.strip_prefix(STUCK) {
            assert!(still(self.held.published), "health is red for nothing: {cause}");
            assert!(stuck.starts_with(&format!("{flushed} ")), "{cause}, and it is {flushed}");
        } else {
            let (shard, _) = slow.expect("nothing else can be wrong");
            assert!(hangs(SYNC_MAX - SLACK), "health is red for nothing: {cause}");
            assert!(cause.starts_with(&format!("the sync of shard {shard} ")), "{cause}");
        }
    }

    /// A sync may hang for a while, or go on to. Whether it does.
    pub(super) fn is_slow(&mut self, shard: usize) -> bool {
        let (now, slow) = (self.now, self.life().slow_sync);
        match slow {
            Some((slow, _)) if slow == shard => {
                if self.rng.below(2) == 0 {
                    self.end_slow_sync();
                    return false;
                }
                self.pass(SYNC_MAX / 2 + SLACK);
                true
            }
            None if self.rng.below(60) == 0 => {
                self.life().inner.control.vitals.sync_began(shard, now);
                self.life().slow_sync = Some((shard, now));
                true
            }
            _ => false,
        }
    }

    pub(super) fn end_slow_sync(&mut self) {
        if let Some((shard, _)) = self.life().slow_sync.take() {
            self.life().inner.control.vitals.sync_ended(shard);
        }
    }
}

impl World {
    /// Who is said to hold the flushed LSN owes something.
    fn check_holder(&self, holder: &Holder, published: Lsn) {
        self.with(holder.handle, |seen| {
            let owed = self.told(seen).find(|(offset, _)| offset.commit > seen.reported);
            let owes = owed.is_some_and(|(offset, _)| offset.commit <= published);
            let waits = seen.spec.ack == Ack::Consumer;
            assert!(waits && owes, "{holder:?} is said to hold the flushed LSN: {seen:?}");
        });
    }
}
