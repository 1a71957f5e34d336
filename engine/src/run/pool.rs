//! Pool: the queues between shards and runners. Wakes come in batches, everything stays stealable,
//! and factories, replays and drops have a lane of their own that goes first.

use super::runner::RunnerShared;
use crate::consumer::{Factory, Foreign, Mail, Mailbox, Part, Seat, Tally, drop_contained};
use crate::feed::Feeder;
use crate::sync::{AtomicUsize, Ordering, fence};
use crate::words::{Lsn, Offset};
use crossbeam::deque::{Injector, Steal, Stealer, Worker};
use crossbeam::utils::CachePadded;
use crossbeam_channel::{Receiver, Sender};
use parking_lot::RwLock;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// How long a runner without work sleeps before it looks again by itself. No wake is lost; this
/// bounds what a bug in that claim would cost.
const REST: Duration = Duration::from_millis(500);

/// A consumer to be made.
pub(crate) struct StartJob {
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) receiver: Receiver<Mail>,
    pub(crate) factory: Foreign<Arc<dyn Factory>>,
    pub(crate) first: Offset,
    pub(crate) last_reported: Option<Lsn>,
    pub(crate) inline: bool,
}

/// Work that goes before ordinary deliveries.
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
    /// Runners that look for work a last time, or sleep.
    idle: CachePadded<AtomicUsize>,
    bell: Sender<()>,
    rest: Receiver<()>,
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
        f.debug_struct("Pool").field("idle", &self.idle).finish_non_exhaustive()
    }
}

impl Pool {
    pub(crate) fn new(feeders: Vec<Feeder>, runners: usize) -> Pool {
        // One ring a runner is enough: more would wake nobody else.
        let (bell, rest) = crossbeam_channel::bounded(runners.max(1));
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
            idle: CachePadded::default(),
            bell,
            rest,
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
        // Relaxed: a hint.
        self.idle.load(Ordering::Relaxed) == 0
    }

    /// Queues mailboxes whose seats were notified.
    pub(crate) fn run_batch(&self, batch: Vec<Arc<Mailbox>>) {
        self.batches.push(batch);
        self.ring();
    }

    /// Has the part of `mailbox` run soon: before all that only has mail, also where it is among
    /// those.
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
        if self.is_rested_in(|| fence(Ordering::SeqCst)) {
            // Full: as many wakes as there are runners are on their way.
            let _ = self.bell.try_send(());
        }
    }

    /// Whether a runner rests. The barrier is an argument so that a model can show what it is for.
    fn is_rested_in(&self, barrier: impl FnOnce()) -> bool {
        // Pairs with the fence in `say_resting`: either the runner's last look finds what was
        // pushed, or this load sees that it rests.
        barrier();
        // Relaxed: the fence orders it.
        self.idle.load(Ordering::Relaxed) > 0
    }

    /// Wakes all runners, to look at the engine's state.
    pub(crate) fn ring_all(&self) {
        while self.bell.try_send(()).is_ok() {}
    }

    /// Sleeps until there is work; `look` is asked a last time before.
    pub(crate) fn rest(&self, look: impl FnOnce() -> bool) {
        self.say_resting();
        if !look() {
            // A time-out is no error: look again.
            let _ = self.rest.recv_timeout(REST);
        }
        self.idle.fetch_sub(1, Ordering::Relaxed);
    }

    /// From here on each `ring` rings. Then look, and sleep only if there is nothing.
    fn say_resting(&self) {
        // Relaxed: the fence orders it.
        self.idle.fetch_add(1, Ordering::Relaxed);
        // Pairs with the fence in `is_rested_in`.
        fence(Ordering::SeqCst);
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

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use crate::sync::{AtomicBool, model};

    /// Two push at once while a runner goes to rest. A flag stands for each queue.
    fn push_and_rest(barrier: fn()) {
        model::check(move || {
            let pool = Arc::new(Pool::new(Vec::new(), 1));
            let queues = Arc::new([0, 1].map(|_| AtomicBool::new(false)));
            let pushers = [0, 1].map(|queue| {
                let (pool, queues) = (Arc::clone(&pool), Arc::clone(&queues));
                model::spawn(move || {
                    queues[queue].store(true, Ordering::Relaxed);
                    pool.is_rested_in(barrier)
                })
            });
            pool.say_resting();
            let found = queues.iter().any(|queue| queue.load(Ordering::Relaxed));
            let rung = pushers.map(|pusher| pusher.join().unwrap());
            assert!(found || rung.contains(&true), "all rest, and there is work");
        });
    }

    #[test]
    fn loom_a_runner_that_goes_to_rest_is_woken_or_finds_the_work() {
        push_and_rest(|| fence(Ordering::SeqCst));
    }

    #[test]
    #[should_panic(expected = "all rest, and there is work")]
    fn loom_without_the_fence_all_runners_rest_on_work() {
        push_and_rest(|| ());
    }
}
