//! Thin: old files of the logs are thinned beside everything else (R15), and what a shape loses by
//! that is checked: it is the older part of it, no more than its quota demands, nothing that is
//! owed, and nothing while its initial rows are to come.

use super::oracle::Rng;
use super::{Known, Sim};
use crate::engine::builder::Builder;
use std::sync::Arc;
use std::time::Duration;

/// Longer than a thinner rests after a failure.
const LONG: Duration = Duration::from_secs(11);
/// When runs begin, since 1970.
const BEGINNING: Duration = Duration::from_secs(1 << 30);

/// What a run keeps of its logs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Keeps {
    /// Nothing is thinned without a limit.
    bytes_max: Option<u64>,
    age_max: Option<Duration>,
    pub(super) quota: u64,
}

impl Keeps {
    pub(super) fn random(rng: &mut Rng) -> Keeps {
        let bytes_max = [None, Some(1), Some(2_000), Some(6_000)][rng.below(4) as usize];
        let age_max = (rng.below(4) == 0).then(|| Duration::from_millis(1 + rng.below(500)));
        let quota = [0, 40, 150, 600][rng.below(4) as usize];
        Keeps { bytes_max, age_max, quota }
    }

    pub(super) fn settings(self, mut builder: Builder) -> Builder {
        if let Some(bytes) = self.bytes_max {
            builder = builder.log_bytes_max(bytes);
        }
        if let Some(age) = self.age_max {
            builder = builder.log_age_max(age);
        }
        builder.shape_quota_bytes(self.quota)
    }
}

impl Sim {
    /// The time since 1970.
    pub(super) fn since_1970(&self) -> Duration {
        BEGINNING + (self.now - self.began)
    }

    /// Some steps of the thread that thins.
    pub(super) fn thin(&mut self) {
        if self.rng.below(4) == 0 {
            // Its rest after a failure is longer than a run: nobody else looks at this clock.
            self.ahead += LONG;
        }
        let (now, since_1970) = (self.now + self.ahead, self.since_1970());
        let steps = 1 + self.rng.below(12);
        let life = self.life();
        let freed = |life: &super::Life| {
            life.inner.control.counters.iter().map(|c| c.log_bytes_freed.get()).sum::<u64>()
        };
        let before = freed(life);
        let Some(retainer) = &mut life.retainer else { return };
        for _ in 0..steps {
            if !retainer.step(now, since_1970) {
                break;
            }
        }
        let thinned = freed(life) > before;
        self.outcome.thinned += u64::from(thinned);
        self.check_starts();
    }

    /// Where each shape's log begins by now.
    pub(super) fn check_starts(&mut self) {
        let inner = Arc::clone(&self.life().inner);
        for (handle, known) in &self.shapes {
            let place = inner.control.registry.place(*handle);
            let Some(place) = place.filter(|_| !matches!(known, Known::Gone)) else { continue };
            let log = &inner.shards[place.shard as usize].log;
            let start = log.start_of(place.slot);
            self.world.begins_after(*handle, start, log.durable_commit(), self.keeps.quota);
        }
    }
}
