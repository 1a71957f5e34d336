//! Pool: the queues between shards and runners. Wakes come in batches, everything stays stealable,
//! and factories, replays and drops have a lane of their own that goes first.

use super::runner::RunnerShared;
use crate::consumer::{Factory, Foreign, Mail, Mailbox, Part, Seat};
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

/// The queues. Bounded by what is queued in them: a consumer, a feeder and a start job lie in at
/// most one place each.
pub(crate) struct Pool {
    urgent: Injector<Urgent>,
    batches: Injector<Vec<Arc<Mailbox>>>,
    /// What runners took as a batch and have not run yet. Written when a runner starts; read by
    /// runners that found nothing else to do.
    stealers: RwLock<Vec<Stealer<Arc<Mailbox>>>>,
    runners: RwLock<Vec<Arc<RunnerShared>>>,
    /// Runners that look for work a last time, or sleep.
    idle: CachePadded<AtomicUsize>,
    bell: Sender<()>,
    rest: Receiver<()>,
    pub(super) feeders: Box<[Seat<Feeder>]>,
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
            stealers: RwLock::new(Vec::new()),
            runners: RwLock::new(Vec::new()),
            idle: CachePadded::default(),
            bell,
            rest,
            feeders: feeders.into_iter().map(seated).collect(),
        }
    }

    /// Enrols a runner: its queue becomes stealable, its counters visible.
    pub(super) fn enrol(&self, local: &Worker<Arc<Mailbox>>, shared: &Arc<RunnerShared>) {
        self.stealers.write().push(local.stealer());
        self.runners.write().push(Arc::clone(shared));
    }

    /// All runners that ever ran, retired ones too: their counts still count.
    pub(crate) fn runners(&self) -> Vec<Arc<RunnerShared>> {
        self.runners.read().clone()
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

    /// Has the part of `mailbox` run soon.
    pub(crate) fn wake(&self, mailbox: &Arc<Mailbox>) {
        if mailbox.seat().notify() {
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
        // Pairs with the fence in `rest`: either the runner's last look finds what was pushed, or
        // this load sees that it rests.
        fence(Ordering::SeqCst);
        // Relaxed: the fence orders it.
        if self.idle.load(Ordering::Relaxed) > 0 {
            // Full: as many wakes as there are runners are on their way.
            let _ = self.bell.try_send(());
        }
    }

    /// Wakes all runners, to look at the engine's state.
    pub(crate) fn ring_all(&self) {
        while self.bell.try_send(()).is_ok() {}
    }

    /// Sleeps until there is work; `look` is asked a last time before.
    pub(super) fn rest(&self, look: impl FnOnce() -> bool) {
        self.idle.fetch_add(1, Ordering::Relaxed);
        // Pairs with the fence in `ring`.
        fence(Ordering::SeqCst);
        if !look() {
            // A time-out is no error: look again.
            let _ = self.rest.recv_timeout(REST);
        }
        self.idle.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn has_work(&self) -> bool {
        !self.urgent.is_empty()
            || !self.batches.is_empty()
            || self.stealers.read().iter().any(|stealer| !stealer.is_empty())
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
        let stealers = self.stealers.read();
        stealers.iter().find_map(|stealer| steal(|| stealer.steal()))
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
