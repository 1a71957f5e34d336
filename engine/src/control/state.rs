//! State: whether the engine runs, stops, or has failed (R16).

use crate::sync::{AtomicU8, Ordering};
use std::sync::OnceLock;

/// Where an engine is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Phase {
    Running = 0,
    /// Nothing new is taken. Nothing is restarted, nothing invalidated (R16).
    Stopping = 1,
    /// The shards are done; runners and the watch end.
    Ended = 2,
}

/// Why the engine takes nothing more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// `shutdown` was called, or the engine was dropped.
    #[error("the engine is stopped: start another one")]
    Stopped,
    /// A thread of the engine panicked, or a write or sync failed. Nothing is acknowledged beyond
    /// what was durable.
    #[error("the engine has failed ({cause}): stop the process, see to the cause, start again")]
    Poisoned {
        /// The first failure.
        cause: String,
    },
}

/// See the file's head.
#[derive(Debug)]
pub(crate) struct State {
    /// A [`Phase`]. It only rises. Written by who stops, read by all.
    phase: AtomicU8,
    /// The first failure. Set at most once, by the thread that failed.
    poison: OnceLock<String>,
}

impl State {
    pub(crate) fn new() -> State {
        State { phase: AtomicU8::new(Phase::Running as u8), poison: OnceLock::new() }
    }

    pub(crate) fn phase(&self) -> Phase {
        // Acquire: pairs with the release in `advance`.
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Running,
            1 => Phase::Stopping,
            _ => Phase::Ended,
        }
    }

    pub(crate) fn advance(&self, phase: Phase) {
        // Release: pairs with the acquire in `phase`; what was sent before is there to be found.
        self.phase.fetch_max(phase as u8, Ordering::Release);
    }

    /// True if this is the first failure.
    pub(crate) fn poison(&self, cause: &str) -> bool {
        self.poison.set(cause.to_owned()).is_ok()
    }

    pub(crate) fn poisoned(&self) -> Option<&str> {
        self.poison.get().map(String::as_str)
    }

    /// An error unless the engine runs.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        match (self.poisoned(), self.phase()) {
            (Some(cause), _) => Err(Failure::Poisoned { cause: cause.to_owned() }),
            (None, Phase::Running) => Ok(()),
            (None, _) => Err(Failure::Stopped),
        }
    }

    /// Why something that should have been answered was not.
    pub(crate) fn failure(&self) -> Failure {
        self.check().err().unwrap_or(Failure::Stopped)
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use crate::sync::{Arc, AtomicBool, model};

    /// A shard leaves something for the runners and ends, and then the engine has ended; a runner
    /// looks for work, and asks for the end before that or after it.
    fn leave_and_look(asks_first: bool) {
        model::check(move || {
            let both = Arc::new((State::new(), AtomicBool::new(false)));
            let stopper = {
                let both = Arc::clone(&both);
                model::spawn(move || {
                    let (state, left) = &*both;
                    left.store(true, Ordering::Relaxed);
                    state.advance(Phase::Ended);
                })
            };
            let (state, left) = &*both;
            let has_ended = || state.phase() == Phase::Ended;
            let ended = asks_first && has_ended();
            let found = left.load(Ordering::Relaxed);
            let ends = ended || (!asks_first && has_ended());
            assert!(!ends || found, "the last runner has ended, and something is left");
            stopper.join().unwrap();
        });
    }

    #[test]
    fn loom_who_asks_for_the_end_before_it_looks_leaves_nothing_behind() {
        leave_and_look(true);
    }

    #[test]
    #[should_panic(expected = "something is left")]
    fn loom_who_looks_before_it_asks_for_the_end_leaves_something_behind() {
        leave_and_look(false);
    }
}
