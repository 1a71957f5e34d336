//! Killer: draws victims among the consumers at the rate that was asked for, and arms them. They
//! die by themselves, at the next delivery that fits the way in which they are to die.

use super::kill::{KillKind, Order};
use super::population::Population;
use crate::cli::Consumers;
use crate::config::Config;
use crate::watch::Published;
use crate::workload::{Numbering, Workload, mix};
use std::sync::Arc;
use std::time::Duration;
use walfan::{Engine, Lsn};

const TICK: Duration = Duration::from_millis(1);
/// Victims of one kind that wait for their moment: about this long's worth of that kind, so that
/// what was saved up does not die in one stroke.
const WAITING_S_MAX: f64 = 1.0;
/// At least so many may wait.
const WAITING_MIN: u64 = 8;

/// See the file's head.
pub(crate) struct Killer {
    engine: Arc<Engine>,
    published: Arc<Published>,
    population: Arc<Population>,
    kinds: Vec<KillKind>,
    inline: bool,
    numbering: Numbering,
    /// The last two commits through which all was seen to be queued.
    seen: [Lsn; 2],
    per_second: f64,
    draw: u64,
    start_us: u64,
    end_us: u64,
}

impl Killer {
    /// A killer for the time from `start_us` to `end_us`.
    pub(crate) fn new(
        engine: Arc<Engine>,
        published: Arc<Published>,
        population: Arc<Population>,
        config: &Config,
        (start_us, end_us): (u64, u64),
    ) -> Killer {
        let per_second = config.crash_rate * f64::from(config.shapes);
        let draw = mix(config.seed ^ 0xDEAD);
        Killer {
            engine,
            published,
            population,
            kinds: kinds(config),
            inline: config.consumers == Consumers::Inline,
            numbering: config.numbering(),
            seen: [Lsn::ZERO; 2],
            per_second,
            draw,
            start_us,
            end_us,
        }
    }

    /// Arms victims until the end, then lets the others live.
    pub(crate) fn run(mut self) {
        let clock = self.published.clock();
        let waiting_max = (self.per_second * WAITING_S_MAX / self.kinds.len() as f64) as u64;
        let waiting_max = waiting_max.max(WAITING_MIN);
        let mut armed = 0;
        while clock.now_us() < self.end_us && !self.published.has_ended() {
            self.look_at_queues();
            let elapsed_us = clock.now_us().saturating_sub(self.start_us);
            let due = (self.per_second * elapsed_us as f64 / 1e6) as u64;
            while armed < due {
                self.arm(armed, waiting_max);
                armed += 1;
            }
            std::thread::sleep(TICK);
        }
        self.population.disarm();
    }

    /// What a shard has made durable, it has sent to its mailboxes before. The mailbox of an inline
    /// consumer is its shard's channel, so there what is published is queued.
    fn look_at_queues(&mut self) {
        if !self.kinds.contains(&KillKind::Queued) {
            return;
        }
        let queued = if self.inline {
            self.published.count().checked_sub(1).map(Workload::lsn)
        } else {
            self.engine.metrics().shards.iter().map(|shard| shard.durable).min()
        };
        let queued = queued.unwrap_or(Lsn::ZERO);
        let from = match self.numbering {
            // The last but one.
            Numbering::ByLsn => {
                Workload::transactions_through(queued).checked_sub(2).map(Workload::lsn)
            }
            // Commits are seen as they become durable, and perhaps not all of them: between two
            // that were seen there may be more, never fewer.
            Numbering::InRows => Some(self.seen_before(queued)),
        };
        self.population.queued(from.unwrap_or(Lsn::ZERO));
    }

    /// The commit that was seen before `queued`.
    fn seen_before(&mut self, queued: Lsn) -> Lsn {
        if queued > self.seen[1] {
            self.seen = [self.seen[1], queued];
        }
        self.seen[0]
    }

    /// Arms one victim. Who is armed already lives on for now, and this turn is over.
    fn arm(&mut self, turn: u64, waiting_max: u64) {
        self.draw = mix(self.draw);
        let shape = (self.draw >> 16) % u64::from(self.population.shapes());
        let kills = &self.population.kills;
        let kind = self.kinds[(turn % self.kinds.len() as u64) as usize];
        let waits = kills.waiting(kind) >= waiting_max;
        let kind = if waits { KillKind::Handler } else { kind };
        if kills.waiting(kind) < waiting_max && self.population.arm(shape as u32, Order::Die(kind))
        {
            kills.arm(kind);
        }
    }
}

/// The ways in which consumers can be killed under `config`.
pub(crate) fn kinds(config: &Config) -> Vec<KillKind> {
    let mut kinds = vec![KillKind::Handler, KillKind::Factory];
    if config.workload().has_middles() {
        kinds.push(KillKind::MidTransaction);
    }
    // Only where each transaction matches every shape does a consumer know that what comes next is
    // in its own mailbox; and what is on its way from a server to a shard, nobody sees.
    let on_its_way =
        config.consumers == Consumers::Inline && config.numbering() == Numbering::InRows;
    if config.scenario.matches_all() && !on_its_way {
        kinds.push(KillKind::Queued);
    }
    kinds
}
