//! Handler of the simulator's consumers: each delivery is checked against the oracle. It runs on
//! the engine's runners and shards, which are to stand whatever it does.

use super::consumer::{Seen, World};
use crate::consumer::{Consumer, ConsumerError, Context, Delivery};
use crate::words::{Handle, Lsn, Offset};
use std::panic::resume_unwind;
use std::sync::Arc;
use std::time::Duration;

/// Longer than any run.
const LEASE: Duration = Duration::from_secs(300);

/// One incarnation.
pub(super) struct Simulated {
    world: Arc<World>,
    handle: Handle,
    /// It has seen a part of a transaction.
    open: bool,
    /// It came after it was given up, and is to be handed nothing.
    is_stray: bool,
}

impl Simulated {
    pub(super) fn new(world: Arc<World>, handle: Handle) -> Simulated {
        Simulated { world, handle, open: false, is_stray: false }
    }

    pub(super) fn stray(world: Arc<World>, handle: Handle) -> Simulated {
        Simulated { world, handle, open: false, is_stray: true }
    }

    /// What comes is what is to come next.
    fn see(&mut self, delivery: &Delivery<'_>, seen: &mut Seen) {
        let Simulated { world, handle, .. } = self;
        let offset = delivery.offset();
        if let Some(operation) = delivery.operation() {
            let (expected, found) = (world.next(seen), (offset, operation));
            world.must(expected == Some(found), || {
                format!("{handle}: {found:?} came, not {expected:?}: {seen:?}")
            });
            seen.at = offset;
            self.open = true;
        }
        let Some(commit) = delivery.commit() else { return };
        let Simulated { world, handle, open, .. } = self;
        world.must(*open, || format!("{handle}: a commit of nothing: {seen:?}"));
        let left = world.next(seen).filter(|(offset, _)| offset.commit <= commit);
        world.must(left.is_none(), || format!("{handle}: {commit} before {left:?}"));
    }

    /// Reports what it was not handed: all of it is refused.
    fn lie(&self, delivery: &Delivery<'_>, context: &mut Context<'_>, seen: &Seen) {
        let commit = delivery.commit_lsn();
        let mut lies = vec![commit.next(), Lsn::MAX];
        if let Some((next, _)) = self.world.next(seen).filter(|(next, _)| next.commit > commit) {
            lies.push(next.commit);
        }
        if delivery.commit().is_none() {
            // The open transaction, of which more is to come.
            lies.push(commit);
        }
        let taken = lies.into_iter().find(|lie| context.flushed(*lie).is_ok());
        self.world.must(taken.is_none(), || format!("{}: took {taken:?}: {seen:?}", self.handle));
    }
}

impl Consumer for Simulated {
    fn handle(
        &mut self,
        delivery: &Delivery<'_>,
        context: &mut Context<'_>,
    ) -> Result<(), ConsumerError> {
        let world = Arc::clone(&self.world);
        let late = world.naps(self.handle);
        // Also while the run is calm: what is reported outside the handler may lose its mark.
        let (dies, withholds) = (world.strikes(40), world.draw(3) == 0);
        let (lies, mute) = (world.strikes(20), world.strikes(6));
        let defers = world.strikes(3);
        world.must(!self.is_stray, || format!("{}: a stray is handed something", self.handle));
        world.with(self.handle, |seen| {
            self.see(delivery, seen);
            if lies {
                self.lie(delivery, context, seen);
            }
            if dies || (seen.spec.doomed && world.strikes(1)) {
                match world.draw(3) {
                    0 => return Err("dies".into()),
                    1 => context.exit(),
                    _ => resume_unwind(Box::new("panics")),
                }
                return Ok(());
            }
            let Some(commit) = delivery.commit() else { return Ok(()) };
            (seen.at, self.open) = (Offset::commit_mark(commit), false);
            // Who has no reporter reports now or with a later commit, or is silent until its
            // deadline.
            let withholds = withholds && (seen.reporter.is_some() || mute);
            if seen.spec.prompt || !withholds {
                context.flushed(commit)?;
                if late {
                    // Its shape has ended meanwhile: this is nobody's business.
                    return Ok(());
                }
                if commit > seen.reported {
                    (seen.deaths, seen.deferred) = (0, false);
                }
                seen.reported = seen.reported.max(commit);
                seen.reported_max = seen.reported_max.max(commit);
            } else if seen.reporter.is_some() && defers {
                context.defer(LEASE);
                seen.deferred = !world.leases_end;
            }
            Ok(())
        })
    }
}

impl Drop for Simulated {
    fn drop(&mut self) {
        self.world.with(self.handle, |seen| {
            if self.is_stray {
                seen.strays -= 1;
                return;
            }
            (seen.alive, seen.deferred) = (false, false);
            seen.deaths += 1;
            seen.zombie = seen.reporter.take().or(seen.zombie.take());
        });
    }
}
