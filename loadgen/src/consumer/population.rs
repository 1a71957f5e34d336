//! Population: all consumers of a run, as what outlives an incarnation. A byte a shape says what
//! the consumer is to do; it alone is looked at on every delivery. The rest is touched at births
//! and deaths.

use super::kill::{KillKind, Kills, Order};
use super::storm::Storm;
use crate::clock::Clock;
use crate::latency::Latency;
use crate::source::Schedule;
use crate::workload::{Numbering, PAYLOAD_COLUMN, Workload, read_mark};
use parking_lot::Mutex;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use walfan::{Delivery, Lsn, Value};

/// About so many consumers time their deliveries, where every change reaches many.
const TIMED: u32 = 1_024;
/// Histograms, so that two threads seldom want the same one.
const HISTOGRAMS: usize = 8;
/// Complaints that are kept; more are counted.
const COMPLAINTS_MAX: usize = 20;

/// How long a consumer may wait for its queue to fill, and between two looks.
const AWAIT_MAX: Duration = Duration::from_millis(20);
const AWAIT_STEP: Duration = Duration::from_micros(200);

/// What a consumer has reported, over all its incarnations: through which commit, how many changes,
/// and the sum of their traces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Prefix {
    pub(crate) through: Lsn,
    pub(crate) changes: u32,
    pub(crate) traces: u64,
}

/// A shape's [`Prefix`], as its last incarnation left it, and its death.
#[derive(Debug, Default)]
struct Deposit {
    through: AtomicU64,
    traces: AtomicU64,
    /// Microseconds of the run's clock, and in the two lowest bits the kind; 0: nobody died, or the
    /// successor has reported again.
    died: AtomicU64,
    changes: AtomicU32,
    incarnations: AtomicU32,
}

/// See the file's head.
#[derive(Debug)]
pub(crate) struct Population {
    pub(crate) clock: Clock,
    numbering: Numbering,
    pub(crate) kills: Kills,
    orders: Box<[AtomicU8]>,
    deposits: Box<[Deposit]>,
    /// Set when the load begins.
    schedule: OnceLock<Schedule>,
    /// Every how many shapes one times its deliveries.
    timed_every: u32,
    /// Handled and not reported when the consumer died: it is handled again.
    lost: AtomicU64,
    /// Counted by consumers that are dropped; all of them at the end.
    handled: AtomicU64,
    started: AtomicU64,
    /// Whoever is at a commit below this one has two commits or more in its mailbox.
    queued_from: AtomicU64,
    /// A consumer waits for its queue to fill.
    awaits: AtomicBool,
    /// By kind of death.
    recovery: [Mutex<Latency>; 4],
    delivered: [Mutex<Latency>; HISTOGRAMS],
    complaints: Mutex<Vec<String>>,
    complained: AtomicU64,
    storm: Option<Storm>,
}

impl Population {
    /// `all_timed`: each change reaches few, so every delivery is timed.
    pub(crate) fn new(
        shapes: u32,
        clock: Clock,
        all_timed: bool,
        numbering: Numbering,
    ) -> Population {
        Population {
            clock,
            numbering,
            kills: Kills::default(),
            orders: (0..shapes).map(|_| AtomicU8::new(Order::LIVE)).collect(),
            deposits: (0..shapes).map(|_| Deposit::default()).collect(),
            schedule: OnceLock::new(),
            timed_every: if all_timed { 1 } else { (shapes / TIMED).max(1) },
            lost: AtomicU64::new(0),
            handled: AtomicU64::new(0),
            started: AtomicU64::new(0),
            queued_from: AtomicU64::new(0),
            awaits: AtomicBool::new(false),
            recovery: Default::default(),
            delivered: Default::default(),
            complaints: Mutex::default(),
            complained: AtomicU64::new(0),
            storm: None,
        }
    }

    /// The same, and this fraction of them is killed at once.
    pub(crate) fn with_storm(mut self, fraction: f64, seed: u64) -> Population {
        let timed = self.shapes().div_ceil(self.timed_every) as usize;
        self.storm = Some(Storm::new(fraction, seed, self.shapes(), timed));
        self
    }

    /// The storm that it goes through, if any.
    pub(crate) fn storm(&self) -> Option<&Storm> {
        self.storm.as_ref()
    }

    pub(crate) fn shapes(&self) -> u32 {
        self.orders.len() as u32
    }

    /// The load begins.
    pub(crate) fn begin(&self, schedule: Schedule) {
        // A population serves one run, so nobody was first.
        let _first = self.schedule.set(schedule);
    }

    // Orders are relaxed: a byte alone, that nothing else hangs on.

    #[inline]
    pub(crate) fn order_byte(&self, shape: u32) -> u8 {
        self.orders[shape as usize].load(Ordering::Relaxed)
    }

    pub(crate) fn set_order(&self, shape: u32, order: Order) {
        self.orders[shape as usize].store(order.byte(), Ordering::Relaxed);
    }

    /// Arms the consumer; false if it is armed already.
    pub(crate) fn arm(&self, shape: u32, order: Order) -> bool {
        let place = &self.orders[shape as usize];
        let (live, byte) = (Order::LIVE, order.byte());
        place.compare_exchange(live, byte, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Nobody dies any more. A factory that was to fail still does.
    pub(crate) fn disarm(&self) {
        let fail_start = Order::FailStart.byte();
        for place in &self.orders {
            let keep = |byte| (byte != fail_start).then_some(Order::LIVE);
            // What is not updated is to be kept.
            let _kept = place.fetch_update(Ordering::Relaxed, Ordering::Relaxed, keep);
        }
    }

    /// What the shape's consumers had reported when the last one was dropped.
    pub(crate) fn prefix(&self, shape: u32) -> Prefix {
        let deposit = &self.deposits[shape as usize];
        // Acquire: pairs with the release in `deposit`.
        let through = Lsn::new(deposit.through.load(Ordering::Acquire));
        let changes = deposit.changes.load(Ordering::Relaxed);
        Prefix { through, changes, traces: deposit.traces.load(Ordering::Relaxed) }
    }

    /// A consumer was dropped: what it had reported, how much it handled, and how much of that was
    /// not reported.
    pub(crate) fn deposit(&self, shape: u32, prefix: Prefix, handled: u32, unreported: u32) {
        let deposit = &self.deposits[shape as usize];
        deposit.changes.store(prefix.changes, Ordering::Relaxed);
        deposit.traces.store(prefix.traces, Ordering::Relaxed);
        // Release: pairs with the acquire in `prefix`.
        deposit.through.store(prefix.through.as_u64(), Ordering::Release);
        // Relaxed: statistics.
        self.handled.fetch_add(handled.into(), Ordering::Relaxed);
        self.lost.fetch_add(unreported.into(), Ordering::Relaxed);
    }

    /// An incarnation begins; how many there were before.
    pub(crate) fn born(&self, shape: u32) -> u32 {
        // Relaxed: statistics; incarnations of one shape follow one another.
        self.started.fetch_add(1, Ordering::Relaxed);
        self.deposits[shape as usize].incarnations.fetch_add(1, Ordering::Relaxed)
    }

    /// Incarnations that began so far.
    pub(crate) fn started(&self) -> u64 {
        self.started.load(Ordering::Relaxed)
    }

    /// A consumer dies now.
    pub(crate) fn died(&self, shape: u32, kind: KillKind) {
        let died = self.clock.now_us().max(1) << 2 | kind as u64;
        self.deposits[shape as usize].died.store(died, Ordering::Relaxed);
    }

    /// A consumer that is not the first of its shape has reported: it has recovered.
    pub(crate) fn recovered(&self, shape: u32) {
        let died = self.deposits[shape as usize].died.swap(0, Ordering::Relaxed);
        if died > 0 {
            let now_us = self.clock.now_us();
            if let Some(storm) = &self.storm {
                storm.recovered(shape, now_us);
            }
            let us = now_us.saturating_sub(died >> 2);
            self.recovery[died as usize % 4].lock().record(us);
        }
    }

    /// Whether this shape's consumer times its deliveries.
    pub(crate) fn is_timed(&self, shape: u32) -> bool {
        shape.is_multiple_of(self.timed_every)
    }

    /// A change was handled by a consumer that is timed.
    pub(crate) fn delivered(&self, shape: u32, delivery: &Delivery<'_>) {
        let (place, now_us) = ((shape / self.timed_every) as usize, self.clock.now_us());
        let schedule = self.schedule.get();
        let intended_us = |schedule: &Schedule| schedule.intended_us(self.number(delivery)?);
        let due_us = schedule.and_then(intended_us);
        if let Some(storm) = &self.storm {
            storm.delivered(shape, place, due_us.unwrap_or(0), now_us);
        }
        let (Some(schedule), Some(due_us)) = (schedule, due_us) else { return };
        if due_us >= schedule.measure_us {
            self.delivered[place % HISTOGRAMS].lock().record(now_us.saturating_sub(due_us));
        }
    }

    /// The number of the delivery's transaction.
    fn number(&self, delivery: &Delivery<'_>) -> Option<u64> {
        if self.numbering == Numbering::ByLsn {
            return Workload::transactions_through(delivery.commit_lsn()).checked_sub(1);
        }
        match delivery.new_row()?.get(PAYLOAD_COLUMN)? {
            Value::Text(payload) => read_mark(payload).map(|(transaction, _)| transaction),
            _ => None,
        }
    }

    /// Whether a consumer that has handled `commit` has two commits or more in its mailbox.
    pub(crate) fn is_queued(&self, commit: Lsn) -> bool {
        // Relaxed: it only rises, and seeing it late kills somebody later.
        self.queued_from.load(Ordering::Relaxed) > commit.as_u64()
    }

    /// Whether that is so within a moment. One consumer at a time is slow like this, and only until
    /// one has died so: where mailboxes are always drained, nobody would otherwise.
    pub(crate) fn awaits_queue(&self, commit: Lsn) -> bool {
        if self.is_queued(commit) {
            return true;
        }
        // Relaxed: who finds it taken does not wait.
        if self.kills.done(KillKind::Queued) > 0 || self.awaits.swap(true, Ordering::Relaxed) {
            return false;
        }
        let start = Instant::now();
        while !self.is_queued(commit) && start.elapsed() < AWAIT_MAX {
            thread::sleep(AWAIT_STEP);
        }
        self.awaits.store(false, Ordering::Relaxed);
        self.is_queued(commit)
    }

    /// Whoever is at a commit below `from` has two commits or more in its mailbox.
    pub(crate) fn queued(&self, from: Lsn) {
        self.queued_from.fetch_max(from.as_u64(), Ordering::Relaxed);
    }

    /// Something that must never be. The run fails.
    #[cold]
    pub(crate) fn complain(&self, complaint: String) {
        self.complained.fetch_add(1, Ordering::Relaxed);
        let mut complaints = self.complaints.lock();
        if complaints.len() < COMPLAINTS_MAX {
            complaints.push(complaint);
        }
    }

    /// The first complaints, and how many there were.
    pub(crate) fn complaints(&self) -> (Vec<String>, u64) {
        (self.complaints.lock().clone(), self.complained.load(Ordering::Relaxed))
    }

    /// Deliveries that were handled and not reported when their consumer died.
    pub(crate) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Handler calls for a change, counted by the consumers that are dropped.
    pub(crate) fn handled(&self) -> u64 {
        self.handled.load(Ordering::Relaxed)
    }

    /// From a death of this kind to the first report of the next incarnation.
    pub(crate) fn recovery(&self, kind: KillKind) -> Latency {
        let mut recovery = Latency::default();
        recovery.add(&self.recovery[kind as usize].lock());
        recovery
    }

    /// From the intended send time to the handler's return, in the consumers that are timed.
    pub(crate) fn delivery_latency(&self) -> Latency {
        let mut all = Latency::default();
        self.delivered.iter().for_each(|one| all.add(&one.lock()));
        all
    }
}
