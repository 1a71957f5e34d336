//! Control: what all the threads of one engine share beside the data: its state, the registry of
//! shapes, the flushed LSN and who waits for it, who waits for news of a shape's log, the
//! publisher's credits, events and counters. Nothing here decides anything; cold paths may lock,
//! hot paths only touch their own atomics.

mod counters;
mod events;
mod flushed;
mod gate;
mod registry;
mod shape;
mod state;
mod vitals;
mod waiters;

pub use events::Event;
pub use state::Failure;
pub use vitals::{Holder, HolderState};

pub(crate) use counters::Counters;
pub(crate) use events::Events;
pub(crate) use flushed::Flushed;
pub(crate) use gate::Gate;
pub(crate) use registry::{Known, Place, Registry};
pub(crate) use shape::{Definition, Shape};
pub(crate) use state::{Phase, State};
pub(crate) use vitals::Vitals;
pub(crate) use waiters::{Seated, Waiters};

use crate::words::Lsn;
use crossbeam::utils::CachePadded;
use std::sync::Arc;
use std::time::Instant;

/// See the file's head.
#[derive(Debug)]
pub(crate) struct Control {
    pub(crate) state: State,
    pub(crate) events: Events,
    pub(crate) registry: Registry,
    pub(crate) flushed: Flushed,
    pub(crate) gate: Gate,
    pub(crate) waiters: Arc<Waiters>,
    /// One a shard, written by it alone.
    pub(crate) counters: Box<[CachePadded<Counters>]>,
    pub(crate) vitals: Vitals,
}

impl Control {
    /// For shards whose frontiers stand at `frontiers`.
    pub(crate) fn new(frontiers: Vec<Lsn>, fragment_credits: usize) -> Control {
        let shards = frontiers.len();
        let now = Instant::now();
        let waiters = Arc::new(Waiters::new(shards));
        Control {
            state: State::new(),
            events: Events::new(now),
            registry: Registry::new(Arc::clone(&waiters)),
            flushed: Flushed::new(frontiers),
            gate: Gate::new(shards, fragment_credits),
            waiters,
            counters: (0..shards).map(|_| CachePadded::default()).collect(),
            vitals: Vitals::new(shards, now),
        }
    }

    /// Records that the engine has failed, and wakes everyone who waits (R16).
    pub(crate) fn poison(&self, cause: &str) {
        if self.state.poison(cause) {
            let event = Event::Poisoned { cause: cause.to_owned() };
            self.events.say(event, Instant::now());
        }
        self.wake_all();
    }

    /// Whether a shard has processed a commit that is not flushed. A hint.
    pub(crate) fn owes(&self) -> bool {
        self.counters.iter().any(|counters| counters.unflushed_commits.get() > 0)
    }

    /// Wakes everyone who waits, to look at the state.
    pub(crate) fn wake_all(&self) {
        self.flushed.wake_all();
        self.gate.wake();
        self.waiters.ring();
    }
}
