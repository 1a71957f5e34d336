//! Consumers of the simulator: each checks every delivery against the oracle and, while the run is
//! not calm, dies, fails to start, withholds reports and takes them back.

use super::oracle::{Clause, Rng, Transaction};
use crate::consumer::{
    Ack, Consumer, ConsumerError, ConsumerSpec, Context, Delivery, Reporter, Start, Started,
};
use crate::words::{Handle, Lsn, Offset};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::sync::Arc;

/// Deaths without progress that condemn a shape.
const DEATHS_MAX: u32 = 3;

#[derive(Clone, Copy, Debug)]
pub(super) struct Spec {
    pub(super) clause: Clause,
    pub(super) ack: Ack,
    pub(super) inline: bool,
    /// It dies at each delivery, until the run is calm.
    pub(super) doomed: bool,
}

/// What a shape's consumer has seen and said, over all its incarnations.
#[derive(Debug)]
struct Seen {
    spec: Spec,
    first: Offset,
    /// It is not served any more, or not in this life of the process.
    gone: bool,
    alive: bool,
    was_alive: bool,
    doomed: bool,
    at: Offset,
    /// The last report, and the highest one ever.
    reported: Lsn,
    reported_max: Lsn,
    deaths: u32,
    /// What a dead incarnation reported before its successor started.
    last_words: Lsn,
    /// Of the living incarnation, and of a dead one.
    reporter: Option<Reporter>,
    zombie: Option<Reporter>,
}

/// See the file's head.
pub(super) struct World {
    pub(super) transactions: Vec<Transaction>,
    shapes: Mutex<BTreeMap<Handle, Seen>>,
    /// Chance, and whether there are still deaths.
    chance: Mutex<(Rng, bool)>,
    /// What consumers found wrong. A panic of theirs would be a death like any other.
    faults: Mutex<Vec<String>>,
}

impl World {
    pub(super) fn new(transactions: Vec<Transaction>, seed: u64) -> World {
        let chance = Mutex::new((Rng::new(seed), true));
        World { transactions, shapes: Mutex::default(), chance, faults: Mutex::default() }
    }

    pub(super) fn add(&self, handle: Handle, spec: Spec, first: Offset) {
        let seen = Seen {
            spec,
            first,
            gone: false,
            alive: false,
            was_alive: false,
            doomed: false,
            at: Offset::ZERO,
            reported: first.commit,
            reported_max: first.commit,
            deaths: 0,
            last_words: Lsn::ZERO,
            reporter: None,
            zombie: None,
        };
        self.shapes.lock().insert(handle, seen);
    }

    /// The shape is there after a restart.
    pub(super) fn lives(&self, handle: Handle, first: Offset) {
        self.with(handle, |seen| {
            assert_eq!(seen.first, first, "{handle}");
            seen.gone = false;
        });
    }

    pub(super) fn gone(&self, handle: Handle) {
        self.with(handle, |seen| seen.gone = true);
    }

    /// The process is gone, and every consumer with it.
    pub(super) fn all_dead(&self) {
        for seen in self.shapes.lock().values_mut() {
            // Dropping it at the end of the process counted as one.
            let deaths = seen.deaths - u32::from(std::mem::take(&mut seen.was_alive));
            seen.doomed = deaths >= DEATHS_MAX;
            (seen.alive, seen.deaths) = (false, 0);
        }
    }

    /// Whether it may have been condemned: the process may have died before it said so.
    pub(super) fn is_condemned(&self, handle: Handle) -> bool {
        self.with(handle, |seen| seen.gone || seen.doomed)
    }

    /// The process is about to be killed.
    pub(super) fn before_crash(&self) {
        let mut held = Vec::new();
        for seen in self.shapes.lock().values_mut() {
            seen.was_alive = seen.alive;
            held.extend([seen.reporter.take(), seen.zombie.take()]);
        }
        // Outside the lock: what they hold may be the last of a consumer.
        drop(held);
    }

    pub(super) fn condemned(&self, handle: Handle, cause: &str) {
        self.with(handle, |seen| {
            assert!(seen.deaths >= DEATHS_MAX, "{handle} was condemned for nothing: {cause}");
            seen.gone = true;
        });
    }

    pub(super) fn calm(&self) {
        self.chance.lock().1 = false;
    }

    /// Reports from outside the handlers: some of what was withheld, and of the dead, who are to be
    /// ignored (R6).
    pub(super) fn report_late(&self) {
        for seen in self.shapes.lock().values_mut() {
            if self.strikes(4) {
                continue;
            }
            let through = seen.at.complete_through();
            if let Some(zombie) = &seen.zombie {
                // Until its shard has noticed the death that counts, and later nobody listens.
                if zombie.flushed(through).is_ok() && !seen.alive {
                    seen.last_words = through;
                    seen.reported_max = seen.reported_max.max(through);
                }
            }
            let reporter = seen.reporter.as_ref().filter(|_| through > seen.reported);
            if reporter.is_some_and(|reporter| reporter.flushed(through).is_ok()) {
                (seen.reported, seen.deaths) = (through, 0);
                seen.reported_max = seen.reported_max.max(through);
            }
        }
    }

    fn must(&self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.faults.lock().push(what());
        }
    }

    pub(super) fn check_consumers(&self) {
        let faults = self.faults.lock();
        assert!(faults.is_empty(), "{faults:#?}");
    }

    /// INV1: what is flushed was reported by everyone whom the flushed LSN waits for.
    pub(super) fn check_flushed(&self, flushed: Lsn) {
        for (handle, seen) in self.shapes.lock().iter() {
            if seen.gone || seen.spec.ack != Ack::Consumer {
                continue;
            }
            let owed = self.offsets(seen).take_while(|o| o.commit <= flushed).last();
            let covered = owed.is_none_or(|offset| offset.commit <= seen.reported_max);
            assert!(covered, "flushed {flushed}, but {handle} reported {}", seen.reported_max);
        }
    }

    /// A consumer that has not handled everything through `last`.
    pub(super) fn unfinished(&self, last: Lsn) -> Option<String> {
        let shapes = self.shapes.lock();
        let unfinished = shapes.iter().find(|(_, seen)| {
            let end = self.offsets(seen).take_while(|offset| offset.commit <= last).last();
            !seen.gone && end.is_some_and(|end| seen.at < end || !seen.alive)
        });
        unfinished.map(|(handle, seen)| format!("{handle}: {seen:?}"))
    }

    /// Everything that belongs to the shape.
    pub(super) fn expected(&self, handle: Handle) -> Vec<Offset> {
        self.with(handle, |seen| self.offsets(seen).collect())
    }

    fn offsets<'a>(&'a self, seen: &Seen) -> impl Iterator<Item = Offset> + use<'a> {
        let (clause, first) = (seen.spec.clause, seen.first);
        let after = self.transactions.partition_point(|t| t.commit <= first.commit);
        self.transactions[after..].iter().flat_map(move |t| t.offsets(clause))
    }

    fn with<T>(&self, handle: Handle, f: impl FnOnce(&mut Seen) -> T) -> T {
        f(self.shapes.lock().get_mut(&handle).expect("only shapes that were added are asked for"))
    }

    fn draw(&self, end: u64) -> u64 {
        self.chance.lock().0.below(end)
    }

    /// One in `n`, while there are deaths.
    fn strikes(&self, n: u64) -> bool {
        let mut chance = self.chance.lock();
        chance.1 && chance.0.below(n) == 0
    }

    pub(super) fn spec(self: &Arc<World>, handle: Handle) -> ConsumerSpec {
        let Spec { ack, inline, .. } = self.with(handle, |seen| seen.spec);
        let world = Arc::clone(self);
        let factory = Arc::new(move |start: &Start<'_>| world.start(start));
        match inline {
            true => ConsumerSpec::Inline { factory, ack },
            false => ConsumerSpec::Mailbox { factory, ack },
        }
    }

    fn start(self: &Arc<World>, start: &Start<'_>) -> Result<Started, ConsumerError> {
        let handle = start.handle();
        let fails = self.strikes(10);
        let takes_back = self.strikes(12);
        let takes_reporter = !self.strikes(2);
        self.with(handle, |seen| {
            self.must(!seen.alive, || format!("{handle}: the predecessor is not dropped (R6)"));
            self.must(start.first() == seen.first, || format!("{handle}: {start:?} {seen:?}"));
            if fails {
                seen.deaths += 1;
                return match self.strikes(2) {
                    true => resume_unwind(Box::new("panics at its start")),
                    false => Err("fails to start".into()),
                };
            }
            // It may be told of more than it reported, where there is nothing of its own.
            let told = start.last_reported().unwrap_or(Lsn::ZERO);
            let said = seen.reported.max(std::mem::take(&mut seen.last_words));
            let unreported = self.offsets(seen).find(|offset| offset.commit > said);
            self.must(unreported.is_none_or(|offset| offset.commit > told), || {
                format!("{handle} was told of {told}: {seen:?}")
            });
            let mut resume = start.resume().max(Offset::commit_mark(seen.reported)).max(seen.first);
            if takes_back && seen.spec.ack == Ack::Log {
                // Its state is lost: it begins again.
                resume = seen.first;
            }
            (seen.at, seen.reported, seen.alive) = (resume, resume.commit, true);
            seen.reporter = takes_reporter.then(|| start.reporter());
            let consumer = Simulated { world: Arc::clone(self), handle, open: false };
            Ok(Started::new(Box::new(consumer), resume))
        })
    }
}

struct Simulated {
    world: Arc<World>,
    handle: Handle,
    open: bool,
}

impl Consumer for Simulated {
    fn handle(
        &mut self,
        delivery: &Delivery<'_>,
        context: &mut Context<'_>,
    ) -> Result<(), ConsumerError> {
        let (offset, commit) = (delivery.offset(), delivery.commit());
        let (dies, withholds) = (self.world.strikes(40), self.world.strikes(3));
        let lies = self.world.strikes(20);
        let world = Arc::clone(&self.world);
        let next = |seen: &Seen| world.offsets(seen).find(|offset| *offset > seen.at);
        world.with(self.handle, |seen| {
            if delivery.operation().is_some() {
                let expected = next(seen);
                world.must(expected == Some(offset), || {
                    format!("{}: {offset} came, not {expected:?}: {seen:?}", self.handle)
                });
                (seen.at, self.open) = (offset, true);
            }
            if lies {
                // Past what was sent; and the open transaction, of which more is to come.
                let past = context.flushed(Lsn::new(u64::MAX - 1)).is_err();
                let early = commit.is_some() || context.flushed(offset.commit).is_err();
                world.must(past && early, || format!("{}: took a lie: {seen:?}", self.handle));
            }
            if dies || (seen.spec.doomed && world.strikes(1)) {
                match world.draw(3) {
                    0 => return Err("dies".into()),
                    1 => context.exit(),
                    _ => resume_unwind(Box::new("panics")),
                }
                return Ok(());
            }
            let Some(commit) = commit else { return Ok(()) };
            world.must(self.open, || format!("{}: a commit of nothing: {seen:?}", self.handle));
            let left = next(seen).filter(|offset| offset.commit <= commit);
            world.must(left.is_none(), || format!("{}: {commit} before {left:?}", self.handle));
            (seen.at, self.open) = (Offset::commit_mark(commit), false);
            // Who has no reporter reports now or is silent until its deadline.
            if !withholds || seen.reporter.is_none() {
                context.flushed(commit)?;
                if commit > seen.reported {
                    seen.deaths = 0;
                }
                seen.reported = seen.reported.max(commit);
                seen.reported_max = seen.reported_max.max(commit);
            }
            Ok(())
        })
    }
}

impl Drop for Simulated {
    fn drop(&mut self) {
        self.world.with(self.handle, |seen| {
            seen.alive = false;
            seen.deaths += 1;
            seen.zombie = seen.reporter.take().or(seen.zombie.take());
        });
    }
}
