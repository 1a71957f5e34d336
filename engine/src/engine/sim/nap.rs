//! Nap: a handler that does not return for a while, as its runner sees it: the runner is inside, on
//! a thread of its own, and that thread and the run's never go at the same time. It goes on in the
//! same life, at once or when its shape was given up long ago (3.8); or is killed with the process.

use super::Sim;
use super::consumer::World;
use super::life::{DEADLINE, LEASE_MAX};
use crate::log::LogError;
use crate::run::Runner;
use crate::words::Handle;
use crossbeam_channel::{Receiver, Sender, bounded};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// What a handler needs to hang.
pub(super) struct Nap {
    /// Whose handler hangs; nobody's, when the runner is done without.
    hangs: Sender<Option<Handle>>,
    /// Whether its shape has ended meanwhile.
    goes_on: Receiver<bool>,
}

/// What is known of a shape whose consumer may hang.
#[derive(Debug, Default)]
pub(super) struct Naps {
    pub(super) hangs: bool,
    /// It hung for longer than its deadline.
    pub(super) overslept: bool,
}

type Ran = (Runner, Result<(), LogError>);

/// A runner that hangs in a handler. Its thread ends with it.
pub(super) struct Napper {
    handle: Handle,
    /// Its shape was there: its consumer may run before that is durable.
    was_there: bool,
    since: Instant,
    /// When the watch looked first and last.
    looked: Option<(Instant, Instant)>,
    goes_on: Option<Sender<bool>>,
    thread: Option<JoinHandle<Ran>>,
}

impl Napper {
    /// Lets the handler go on, or kills it, until its runner is done with what it does.
    fn wake(&mut self, goes_on: Option<bool>) -> Option<Ran> {
        let sender = self.goes_on.take();
        if let (Some(sender), Some(late)) = (&sender, goes_on) {
            sender.send(late).expect("it waits for this");
        }
        drop(sender);
        let ended = self.thread.take().map(JoinHandle::join);
        ended.and_then(Result::ok)
    }
}

impl Drop for Napper {
    fn drop(&mut self) {
        self.wake(None);
    }
}

impl World {
    /// A handler is called: it may hang here. True: its shape has ended meanwhile.
    pub(super) fn naps(&self, handle: Handle) -> bool {
        let nap = self.nap.lock().take();
        nap.is_some_and(|nap| {
            self.with(handle, |seen| seen.naps.hangs = true);
            nap.hangs.send(Some(handle)).expect("the run waits for this");
            let killed = |_| resume_unwind(Box::new("is killed"));
            let late = nap.goes_on.recv().unwrap_or_else(killed);
            self.with(handle, |seen| seen.naps.hangs = false);
            late
        })
    }
}

impl Sim {
    /// A runner does what there is, and hangs in the first handler that it calls.
    pub(super) fn nap(&mut self) {
        let Some(mut runner) = self.life().runners.pop() else { return };
        let (hangs, hung) = bounded(2);
        let (wakes, goes_on) = bounded(1);
        *self.world.nap.lock() = Some(Nap { hangs: hangs.clone(), goes_on });
        let world = Arc::clone(&self.world);
        let thread = thread::spawn(move || {
            let mut run = || {
                while runner.run_one()? && world.nap.lock().is_some() {}
                Ok(())
            };
            let ran = catch_unwind(AssertUnwindSafe(&mut run));
            drop(world);
            // Nobody may listen any more.
            let _ = hangs.send(None);
            (runner, ran.unwrap_or_else(|panic| resume_unwind(panic)))
        });
        let since = self.now;
        let mut napper = Napper {
            handle: Handle::new(0),
            was_there: false,
            since,
            looked: None,
            goes_on: Some(wakes),
            thread: Some(thread),
        };
        if let Some(handle) = hung.recv().expect("it says when it is done") {
            self.outcome.naps += 1;
            napper.handle = handle;
            napper.was_there = self.life().inner.control.registry.place(handle).is_some();
            return self.life().naps.push(napper);
        }
        self.world.nap.lock().take();
        let ran = napper.wake(None);
        self.ran(ran);
    }

    /// The runner is done.
    fn ran(&mut self, ran: Option<Ran>) {
        let (runner, ran) = ran.expect("a runner does not panic");
        // Whose place was taken ends.
        if !runner.shared().is_replaced() {
            self.life().runners.push(runner);
        }
        if let Err(error) = ran {
            self.fail(&error.to_string());
        }
    }

    /// The watch is about to look.
    pub(super) fn look_at_naps(&mut self) {
        let (now, world) = (self.now, Arc::clone(&self.world));
        for nap in &mut self.life().naps {
            nap.looked = Some((nap.looked.map_or(now, |(first, _)| first), now));
            if now - nap.since > DEADLINE {
                world.with(nap.handle, |seen| seen.naps.overslept = true);
            }
        }
    }

    /// A handler that hangs returns.
    pub(super) fn wake_up(&mut self) {
        let naps = self.life().naps.len();
        let place = self.rng.below(naps as u64) as usize;
        let mut nap = self.life().naps.swap_remove(place);
        let inner = Arc::clone(&self.life().inner);
        let registry = &inner.control.registry;
        let slept = nap.looked.map_or(Duration::ZERO, |(first, last)| last - first);
        if slept >= LEASE_MAX.max(DEADLINE) && inner.control.state.check().is_ok() {
            // The watch has seen it hang for as long as it may (INV2).
            let now = self.now;
            for pump in &mut self.life().pumps {
                pump.step(now);
            }
            assert!(registry.place(nap.handle).is_none(), "{} hangs, and lives", nap.handle);
        }
        let late = nap.was_there && registry.place(nap.handle).is_none();
        self.outcome.overslept += u64::from(late);
        let ran = nap.wake(Some(late));
        self.ran(ran);
    }
}
