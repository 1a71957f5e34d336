//! Pool: the queues between shards and runners. Wakes come in batches, everything stays stealable,
//! and factories, replays and drops have a lane of their own that goes first, in turns.

use super::bell::Bell;
use super::runner::RunnerShared;
use crate::consumer::{Factory, Foreign, Mail, Mailbox, Part, Seat, Tally, drop_contained};
use crate::feed::Feeder;
use crate::words::{Lsn, Offset};
use crossbeam::deque::{Injector, Steal, Stealer, Worker};
use crossbeam_channel::Receiver;
use parking_lot::RwLock;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// How long a runner without work sleeps before it looks again by itself. No wake is lost; this
/// bounds what a bug in that claim would cost.
const REST: Duration = Duration::from_millis(500);

/// Batches that may wait for each runner before shards wait for the runners. What a shard has sent
/// is in the cache still when a runner comes to it, and consumers have flushed one wave before the
/// next has gone out: without a bound the flushed LSN moves only once for all that is in flight.
const BACKLOG_PER_RUNNER: usize = 1;
/// How long a shard waits for runners that do not come near.
const BREATH: Duration = Duration::from_millis(2);

/// A consumer to be made.
pub(crate) struct StartJob {
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) receiver: Receiver<Mail>,
    pub(crate) factory: Foreign<Arc<dyn Factory>>,
    pub(crate) first: Offset,
    pub(crate) last_reported: Option<Lsn>,
    pub(crate) inline: bool,
}

/// Work that goes before ordinary deliveries, in turns with their batches.
pub(super) enum Urgent {
    Start(Box<StartJob>),
    Run(Arc<Mailbox>),
    Feed(usize),
}

/// The queues. Bounded by what is queued in them: a feeder and a start job lie in at most one place
/// each, a consumer in one, and in one more for each feed that was laid down for it.
pub(crate) struct Pool {
    urgent: Injector<Urgent>,
    batches: Injector<Vec<Arc<Mailbox>>>,
    /// Written when a runner starts or ends; read by runners that found nothing else to do.
    roster: RwLock<Roster>,
    /// Runners that find no work.
    runners: Bell,
    /// Shards that find the runners far behind.
    shards: Bell,
    /// So many batches are that.
    backlog_max: usize,
    pub(super) feeders: Box<[Seat<Feeder>]>,
}

/// The runners.
#[derive(Default)]
struct Roster {
    /// By rising number.
    runners: Vec<Enrolled>,
    /// How many there ever were.
    numbers: usize,
    /// What those did that are gone.
    gone: Tally,
}

struct Enrolled {
    shared: Arc<RunnerShared>,
    /// What it took as a batch and has not run yet.
    stealer: Stealer<Arc<Mailbox>>,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("runners", &self.runners).finish_non_exhaustive()
    }
}

impl Pool {
    pub(crate) fn new(feeders: Vec<Feeder>, runners: usize) -> Pool {
        let seated = |feeder| {
            let seat = Seat::empty();
            let none = seat.park(Box::new(feeder));
            debug_assert!(none.is_none(), "nobody knows the seat yet");
            seat
        };
        Pool {
            urgent: Injector::new(),
            batches: Injector::new(),
            roster: RwLock::default(),
            runners: Bell::new(runners),
            shards: Bell::new(feeders.len()),
            backlog_max: BACKLOG_PER_RUNNER * runners,
            feeders: feeders.into_iter().map(seated).collect(),
        }
    }

    /// Enrols a runner: its queue becomes stealable, its counters visible.
    pub(super) fn enrol(&self, local: &Worker<Arc<Mailbox>>) -> Arc<RunnerShared> {
        let mut roster = self.roster.write();
        let shared = Arc::new(RunnerShared::new(roster.numbers));
        roster.numbers += 1;
        roster.runners.push(Enrolled { shared: Arc::clone(&shared), stealer: local.stealer() });
        shared
    }

    /// Lets a runner go: others do what it had before it, and what it counted still counts.
    pub(super) fn dismiss(&self, local: &Worker<Arc<Mailbox>>, shared: &RunnerShared) {
        let mut roster = self.roster.write();
        roster.runners.retain(|runner| runner.shared.number() != shared.number());
        roster.gone.add(shared.tally());
        drop(roster);
        let left: Vec<_> = std::iter::from_fn(|| local.pop()).collect();
        if !left.is_empty() {
            self.run_batch(left);
        }
    }

    /// Hands what the runner of this number took and has not run to the others. They take it from
    /// there only where they find nothing else to do, and that may be never.
    pub(super) fn relieve(&self, number: usize) {
        let roster = self.roster.read();
        let is_it = |runner: &&Enrolled| runner.shared.number() == number;
        let Some(runner) = roster.runners.iter().find(is_it) else { return };
        let left: Vec<_> = std::iter::from_fn(|| steal(|| runner.stealer.steal())).collect();
        drop(roster);
        if !left.is_empty() {
            self.run_batch(left);
        }
    }

    /// The runners, by rising number.
    pub(super) fn runners(&self) -> Vec<Arc<RunnerShared>> {
        self.roster.read().runners.iter().map(|runner| Arc::clone(&runner.shared)).collect()
    }

    /// What all runners did, also those that are gone.
    pub(crate) fn tally(&self) -> Tally {
        let roster = self.roster.read();
        let mut all = roster.gone;
        roster.runners.iter().for_each(|runner| all.add(runner.shared.tally()));
        all
    }

    /// Whether no runner is idle: what waits, waits for the engine and not for a consumer (R17).
    pub(crate) fn is_busy(&self) -> bool {
        !self.runners.is_rested()
    }

    /// Queues mailboxes whose seats were notified.
    pub(crate) fn run_batch(&self, batch: Vec<Arc<Mailbox>>) {
        self.batches.push(batch);
        self.ring();
    }

    /// Has the part of `mailbox` run soon: before most that only has mail, also where it is
    /// among those.
    pub(crate) fn wake(&self, mailbox: &Arc<Mailbox>) {
        if mailbox.seat().hurry() {
            self.push(Urgent::Run(Arc::clone(mailbox)));
        }
    }

    pub(crate) fn start(&self, job: StartJob) {
        self.push(Urgent::Start(Box::new(job)));
    }

    /// Lays a part down that was taken; if something came for it meanwhile, it runs.
    pub(crate) fn park(&self, mailbox: &Arc<Mailbox>, part: Box<Part>) {
        if let Some(part) = mailbox.seat().park(part) {
            mailbox.seat().yield_to_others(part);
            self.push(Urgent::Run(Arc::clone(mailbox)));
        }
    }

    /// Has the feeder of `shard` run.
    pub(crate) fn wake_feeder(&self, shard: usize) {
        if self.feeders[shard].notify() {
            self.push(Urgent::Feed(shard));
        }
    }

    pub(super) fn push(&self, task: Urgent) {
        self.urgent.push(task);
        self.ring();
    }

    /// Wakes a runner, if one rests.
    pub(crate) fn ring(&self) {
        self.runners.ring();
    }

    /// Wakes all runners, to look at the engine's state.
    pub(crate) fn ring_all(&self) {
        self.runners.ring_all();
    }

    /// A runner sleeps until there is work; `look` is asked a last time before.
    pub(crate) fn rest(&self, look: impl FnOnce() -> bool) {
        // A time-out is no error: look again.
        let _found = self.runners.rest(REST, look);
    }

    /// A shard that wants to send more sleeps until the runners have little left to do, but not for
    /// long. False: they have not come near.
    pub(crate) fn await_runners(&self) -> bool {
        if !self.has_backlog() {
            return true;
        }
        // A ring may be one for a shard that has gone on: then this one goes on a slice too early.
        let rung = self.shards.rest(BREATH, || !self.has_backlog());
        let near = !self.has_backlog();
        if near {
            // The runner that took the batch has woken one of those that wait.
            self.shards.ring();
        }
        rung || near
    }

    fn has_backlog(&self) -> bool {
        self.batches.len() > self.backlog_max
    }

    pub(super) fn has_work(&self) -> bool {
        !self.urgent.is_empty()
            || !self.batches.is_empty()
            || self.roster.read().runners.iter().any(|runner| !runner.stealer.is_empty())
    }

    pub(super) fn steal_urgent(&self) -> Option<Urgent> {
        steal(|| self.urgent.steal())
    }

    /// Fills `local` with a batch, or takes from another runner.
    pub(super) fn steal_run(&self, local: &Worker<Arc<Mailbox>>) -> Option<Arc<Mailbox>> {
        if let Some(batch) = steal(|| self.batches.steal()) {
            if !self.has_backlog() {
                self.shards.ring();
            }
            std::hint::black_box(batch.iter().map(|mailbox| mailbox.fetch_run()).sum::<usize>());
            batch.into_iter().for_each(|mailbox| local.push(mailbox));
            if !local.is_empty() {
                return local.pop();
            }
        }
        let roster = self.roster.read();
        roster.runners.iter().find_map(|runner| steal(|| runner.stealer.steal()))
    }
}

impl Drop for Pool {
    /// Nobody is left to run what is queued. What was let go is dropped here: a consumer that keeps
    /// its reporter would keep itself.
    fn drop(&mut self) {
        let urgent = std::iter::from_fn(|| self.steal_urgent()).filter_map(|task| match task {
            Urgent::Run(mailbox) => Some(mailbox),
            Urgent::Start(_) | Urgent::Feed(_) => None,
        });
        let batches = std::iter::from_fn(|| steal(|| self.batches.steal())).flatten();
        urgent.chain(batches).for_each(|mailbox| drop_contained(mailbox.seat().take()));
    }
}

fn steal<T>(mut attempt: impl FnMut() -> Steal<T>) -> Option<T> {
    loop {
        match attempt() {
            Steal::Success(found) => return Some(found),
            Steal::Empty => return None,
            Steal::Retry => {}
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::thread;

    /// Batches count, whatever they hold.
    fn pool_with(batches: usize) -> Pool {
        let pool = Pool::new(Vec::new(), 1);
        (0..batches).for_each(|_| pool.run_batch(Vec::new()));
        pool
    }

    #[test]
    fn a_shard_does_not_wait_for_runners_that_are_near() {
        let pool = pool_with(BACKLOG_PER_RUNNER);
        assert!(!pool.has_backlog() && pool.await_runners());
    }

    #[test]
    fn a_shard_waits_for_runners_that_are_far_behind_and_come_nearer() {
        let pool = pool_with(BACKLOG_PER_RUNNER + 2);
        thread::scope(|scope| {
            scope.spawn(|| {
                let local = Worker::new_fifo();
                (0..2).for_each(|_| assert!(pool.steal_run(&local).is_none()));
            });
            while !pool.await_runners() {}
        });
        assert_eq!(pool.batches.len(), BACKLOG_PER_RUNNER);
    }

    #[test]
    fn a_shard_goes_on_where_they_do_not() {
        let pool = pool_with(BACKLOG_PER_RUNNER + 1);
        assert!(!pool.await_runners());
        assert!(!pool.shards.is_rested());
    }
}
