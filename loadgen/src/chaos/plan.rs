//! Plan: what a round is to be, drawn from its seed, and what one life of the engine's process is
//! told, as a line of JSON on its standard input.

use crate::scenario::Scenario;
use crate::workload::{Workload, mix};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;

/// How an engine's process is brought down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// Killed under load, several times in a row, also while it opens.
    Kill,
    /// Asked to end under load.
    Terminate,
    /// Its file system is full.
    FullDisk,
    /// It gets no file handle any more.
    NoHandles,
    /// Consumers wedge as many runners as there are, or more than are ever replaced.
    Wedged,
}

impl Kind {
    /// The kinds of rounds one after another; every second one kills.
    pub(crate) const CYCLE: [Kind; 8] = [
        Kind::Kill,
        Kind::Terminate,
        Kind::FullDisk,
        Kind::Kill,
        Kind::NoHandles,
        Kind::Wedged,
        Kind::Kill,
        Kind::Terminate,
    ];

    /// The kind of the round with this seed.
    pub(crate) fn of(seed: u64) -> Kind {
        Kind::CYCLE[(seed % Kind::CYCLE.len() as u64) as usize]
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Kill => "kill",
            Kind::Terminate => "terminate",
            Kind::FullDisk => "full-disk",
            Kind::NoHandles => "no-handles",
            Kind::Wedged => "wedged",
        }
    }
}

/// Draws numbers from a seed.
#[derive(Clone, Debug)]
pub(crate) struct Draw(u64);

impl Draw {
    pub(crate) fn new(seed: u64) -> Draw {
        Draw(mix(seed ^ 0xC4A0_5EED))
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 = mix(self.0);
        (self.0 >> 16) % end.max(1)
    }

    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// What a shape's consumer is. The numbers are the shape's own, so every life finds the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// The log alone.
    Log,
    /// Behind a mailbox; `true`: the flushed LSN waits for it.
    Mailbox(bool),
    /// On the shard's thread.
    Inline(bool),
}

impl Role {
    pub(crate) fn of(shape: u32) -> Role {
        match shape % 8 {
            0 => Role::Log,
            1..=3 => Role::Mailbox(true),
            4 => Role::Mailbox(false),
            5 | 6 => Role::Inline(true),
            _ => Role::Inline(false),
        }
    }

    /// Whether the flushed LSN waits for its report.
    pub(crate) fn acknowledges(self) -> bool {
        matches!(self, Role::Mailbox(true) | Role::Inline(true))
    }
}

/// What a life does.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Task {
    /// Makes the directory, adds the shapes, and stops in good order.
    Found,
    /// Loads until it is brought down.
    Load(Load),
    /// Publishes through this many transactions, at least through all that is durable anywhere,
    /// waits until everybody has everything, checks the logs of `sample`, and stops.
    Settle { through: u64, sample: Vec<u32> },
}

/// How a life under load is.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Load {
    /// One in so many deliveries kills its consumer; 0: none does.
    pub(crate) deaths: u64,
    /// Transactions that may be published and not flushed.
    pub(crate) window: u64,
    /// Shapes whose consumers wedge.
    pub(crate) wedge: Vec<u32>,
    /// How many file handles the process may have open, from its start.
    pub(crate) handles_max: Option<u64>,
    /// When this is `true`, it gets no more of them once it runs.
    pub(crate) no_more_handles: bool,
    /// How large a file may become, beyond what the largest is at the start.
    pub(crate) file_growth_max: Option<u64>,
}

/// What a life is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) directory: PathBuf,
    pub(crate) journal: PathBuf,
    pub(crate) scenario: Scenario,
    pub(crate) shapes: u32,
    pub(crate) seed: u64,
    /// Changes of a transaction.
    pub(crate) changes: u32,
    pub(crate) shards: usize,
    pub(crate) runners: usize,
    pub(crate) deadline_ms: u64,
    /// How long a stop in good order may take.
    pub(crate) stop_ms: u64,
    /// By shape number; empty before the shapes are added.
    pub(crate) handles: Vec<u64>,
    pub(crate) task: Task,
}

impl Plan {
    pub(crate) fn workload(&self) -> Workload {
        let Plan { scenario, shapes, seed, changes, .. } = *self;
        Workload { scenario, shapes, seed, changes }
    }

    pub(crate) fn stop(&self) -> Duration {
        Duration::from_millis(self.stop_ms)
    }

    pub(crate) fn load(&self) -> Option<&Load> {
        match &self.task {
            Task::Load(load) => Some(load),
            Task::Found | Task::Settle { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_and_every_role_comes_up() {
        for kind in [Kind::Kill, Kind::Terminate, Kind::FullDisk, Kind::NoHandles, Kind::Wedged] {
            assert!((0..8).any(|seed| Kind::of(seed) == kind), "{kind:?}");
        }
        let acknowledging = (0..8).filter(|shape| Role::of(*shape).acknowledges()).count();
        assert_eq!(acknowledging, 5);
    }

    #[test]
    fn draws_stay_within_their_bounds_and_repeat_with_their_seed() {
        let (mut one, mut other) = (Draw::new(3), Draw::new(3));
        for _ in 0..100 {
            let number = one.between(5, 9);
            assert!((5..=9).contains(&number));
            assert_eq!(number, other.between(5, 9));
        }
        assert!(Draw::new(1).one_in(1));
    }
}
