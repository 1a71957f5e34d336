//! Hang: factories that do not answer for a while, some until they are given up (R9). What these
//! answer then is nobody's business: their consumers are handed nothing, and dropped. And handlers
//! that do not return, some until their shape is given up (3.8).

use super::Sim;
use super::consumer::{Seen, World};
use super::handler::Simulated;
use super::life::FACTORY_TIMEOUT;
use crate::consumer::{ConsumerError, Started};
use crate::words::{Handle, Lsn, Offset};
use std::sync::Arc;
use std::time::Duration;

/// More than a consumer's deadline, and than what makes a runner wedged.
const LONG_NAP: Duration = Duration::from_millis(1_100);

impl Sim {
    /// A runner takes up what goes first, and hangs in it if that is a factory; or in a handler.
    pub(super) fn hang(&mut self) {
        if self.naps && self.rng.below(5) > 0 {
            return self.nap();
        }
        let life = self.life();
        let Some(mut runner) = life.runners.pop() else { return };
        match runner.run_or_hang() {
            Ok(Some(job)) => life.hung.push((runner, job)),
            Ok(None) => life.runners.push(runner),
            Err(error) => {
                drop(runner);
                self.fail(&error.to_string());
            }
        }
    }

    /// A factory that hangs answers, or a handler returns, or more time passes without that.
    pub(super) fn hung(&mut self) {
        if !self.hangs() {
            return;
        }
        let naps = !self.life().naps.is_empty();
        match self.rng.below(3) {
            0 => self.come_back(),
            // Long enough for a deadline, or for another runner in its place.
            1 if naps => self.pass(LONG_NAP),
            _ => self.pass(FACTORY_TIMEOUT * 3 / 5),
        }
    }

    /// Whether somebody hangs.
    pub(super) fn hangs(&mut self) -> bool {
        let life = self.life();
        !life.hung.is_empty() || !life.naps.is_empty()
    }

    /// Time passes, and the watch looks before and after.
    pub(super) fn pass(&mut self, time: Duration) {
        self.watch();
        self.now += time;
        self.watch();
    }

    /// The watch looks, and has runners started in the place of those that hang.
    pub(super) fn watch(&mut self) {
        let now = self.now;
        self.look_at_naps();
        let life = self.life();
        let replaced = life.watch.tick(now);
        for _ in 0..replaced {
            let runner = life.runner();
            life.runners.push(runner);
        }
        self.outcome.replaced += replaced as u64;
        self.check_health();
    }

    pub(super) fn come_back(&mut self) {
        let life = self.life();
        if life.hung.is_empty() || (!life.naps.is_empty() && self.rng.below(2) == 0) {
            return self.wake_up();
        }
        let hung = self.life().hung.len();
        let place = self.rng.below(hung as u64) as usize;
        let life = self.life();
        let (mut runner, job) = life.hung.swap_remove(place);
        runner.come_back(*job);
        // Whose place was taken ends.
        if !runner.shared().is_replaced() {
            life.runners.push(runner);
        }
    }

    /// The shape's consumer was given up before it was there: the last that hangs.
    pub(super) fn timed_out(&mut self, handle: Handle) {
        self.outcome.timed_out += 1;
        let hung = self.life().hung.iter().map(|(_, job)| job.mailbox.name());
        let last = hung.filter(|name| name.handle == handle).map(|name| name.incarnation).max();
        self.world.timed_out(handle, last.expect("a factory of its hangs"));
    }

    /// The shape has left nothing behind (R12).
    pub(super) fn removed(&mut self, handle: Handle) {
        let hangs = self.life().hung.iter().any(|(_, job)| job.mailbox.name().handle == handle);
        assert!(!hangs, "{handle} is said to be removed, and a factory of its hangs");
        self.world.removed(handle);
    }
}

impl World {
    /// The factory of this incarnation was given up.
    pub(super) fn timed_out(&self, handle: Handle, incarnation: u64) {
        self.with(handle, |seen| {
            assert!(incarnation > seen.given_up, "{handle} was given up twice: {seen:?}");
            (seen.given_up, seen.deaths) = (incarnation, seen.deaths + 1);
        });
    }

    /// It is told that nothing is left of the shape.
    pub(super) fn removed(&self, handle: Handle) {
        self.with(handle, |seen| {
            assert!(!seen.alive && seen.strays == 0, "{handle} has a consumer: {seen:?}");
        });
    }

    /// It was given up, and answers after all: with what would be wrong from who was not.
    pub(super) fn start_late(
        self: &Arc<World>,
        handle: Handle,
        fails: bool,
        seen: &mut Seen,
    ) -> Result<Started, ConsumerError> {
        if fails {
            return Err("fails to start, too late".into());
        }
        seen.strays += 1;
        let stray = Box::new(Simulated::stray(Arc::clone(self), handle));
        let last = self.transactions.last().map_or(Lsn::ZERO, |last| last.commit);
        Ok(Started::new(stray, Offset::commit_mark(last)))
    }
}
