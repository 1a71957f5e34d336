//! Flush: N consumers each report one commit, in a seeded order and from two threads, until the
//! flushed LSN moves. Only that is timed: the commit was handed to all of them before. Beside it
//! what one would write instead: commits and how many consumers owe each, in a map behind one
//! lock.

use criterion::{BenchmarkId, Criterion, Throughput};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use walfan::{
    Ack, Consumer, ConsumerError, ConsumerSpec, Context, Delivery, Handle, Lsn, Reporter, Start,
    Started,
};
use walfan_bench::{Random, World, criterion, sized, whole};

const CONSUMERS: &[usize] = &[1_000, 30_000];
const CONSUMERS_TINY: &[usize] = &[20];
const SEED: u64 = 7;
/// Threads that report.
const REPORTERS: usize = 2;

fn main() {
    let mut criterion = criterion();
    flush(&mut criterion);
    criterion.final_summary();
}

fn flush(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("flush");
    for &consumers in sized(CONSUMERS, CONSUMERS_TINY) {
        group.throughput(Throughput::Elements(consumers as u64));
        let mut reporting = None;
        group.bench_function(BenchmarkId::new("walfan", consumers), |bencher| {
            let reporting = reporting.get_or_insert_with(|| Reporting::start(consumers));
            bencher.iter_custom(|rounds| (0..rounds).map(|_| reporting.round()).sum());
        });
        let order = Random::new(SEED).shuffled(consumers);
        let tracker = LockedTracker::new(consumers);
        let mut lsn = 0;
        group.bench_function(BenchmarkId::new("map behind a lock", consumers), |bencher| {
            bencher.iter_custom(|rounds| {
                (0..rounds).map(|_| locked_round(&tracker, &order, &mut lsn)).sum()
            });
        });
    }
}

/// Has `report` called with each of `all`, from [`REPORTERS`] threads, and then `moved`; how long
/// that took. Starting the threads does not count.
fn timed<T: Sync>(all: &[T], report: impl Fn(&T) + Sync, moved: impl FnOnce()) -> Duration {
    let barrier = Barrier::new(REPORTERS);
    let mut parts = all.chunks(all.len().div_ceil(REPORTERS));
    let own = parts.next().unwrap_or_default();
    let start = thread::scope(|scope| {
        for number in 1..REPORTERS {
            let (part, barrier, report) = (parts.next().unwrap_or_default(), &barrier, &report);
            let name = format!("reporter-{number}");
            let run = move || {
                barrier.wait();
                part.iter().for_each(report);
            };
            thread::Builder::new().name(name).spawn_scoped(scope, run).expect("a thread starts");
        }
        barrier.wait();
        let start = Instant::now();
        own.iter().for_each(&report);
        start
    });
    moved();
    start.elapsed()
}

/// An engine whose consumers report from outside their handlers.
struct Reporting {
    world: World,
    reporters: Vec<Reporter>,
    handled: Arc<AtomicU64>,
}

impl Reporting {
    fn start(consumers: usize) -> Reporting {
        let (handled, reporters) = (Arc::default(), Reporters::default());
        let factory = factory(Arc::clone(&handled), Arc::clone(&reporters));
        let consumer = ConsumerSpec::Mailbox { factory: Arc::new(factory), ack: Ack::Consumer };
        let world = World::start(None, vec![(whole(), consumer); consumers]);
        let mut reporting = Reporting { world, reporters: Vec::new(), handled };
        // Every consumer was started when it has handled something.
        let lsn = reporting.hand_out(consumers as u64);
        let reporters = lock(&reporters);
        reporters.values().for_each(|reporter| reporter.flushed(lsn).expect("it was handed over"));
        reporting.world.wait_flushed(lsn);
        let in_order: Vec<&Reporter> = reporters.values().collect();
        let order = Random::new(SEED).shuffled(consumers);
        reporting.reporters = order.into_iter().map(|index| in_order[index].clone()).collect();
        reporting
    }

    /// Publishes a change and waits until all consumers have handled it.
    fn hand_out(&mut self, consumers: u64) -> Lsn {
        // Relaxed: it stands still, see below.
        let before = self.handled.load(Ordering::Relaxed);
        let lsn = self.world.publish(&[0]);
        // Acquire: pairs with the handler's release; the handler's engine then takes the report.
        while self.handled.load(Ordering::Acquire) < before + consumers {
            thread::sleep(Duration::from_micros(100));
        }
        lsn
    }

    fn round(&mut self) -> Duration {
        let lsn = self.hand_out(self.reporters.len() as u64);
        assert!(self.world.engine().flushed_lsn() < lsn, "nobody has reported yet");
        let report = |reporter: &Reporter| reporter.flushed(lsn).expect("it was handed over");
        timed(&self.reporters, report, || self.world.wait_flushed(lsn))
    }
}

type Reporters = Arc<Mutex<BTreeMap<Handle, Reporter>>>;

fn factory(
    handled: Arc<AtomicU64>,
    reporters: Reporters,
) -> impl Fn(&Start<'_>) -> Result<Started, ConsumerError> + Send + Sync {
    move |start| {
        lock(&reporters).insert(start.handle(), start.reporter());
        let consumer = Silent { handled: Arc::clone(&handled) };
        Ok(Started::new(Box::new(consumer), start.resume()))
    }
}

/// Counts, and leaves reporting to others.
struct Silent {
    handled: Arc<AtomicU64>,
}

impl Consumer for Silent {
    fn handle(&mut self, _: &Delivery<'_>, _: &mut Context<'_>) -> Result<(), ConsumerError> {
        // Release: pairs with the acquire in `hand_out`.
        self.handled.fetch_add(1, Ordering::Release);
        Ok(())
    }
}

/// What each consumer has flushed and how many owe each commit, behind one lock.
struct LockedTracker {
    owed: Mutex<Owed>,
}

struct Owed {
    /// By consumer: reports are cumulative, and may come twice.
    flushed: Vec<u64>,
    /// How many consumers owe each commit.
    owing: BTreeMap<u64, usize>,
    last: u64,
}

impl LockedTracker {
    fn new(consumers: usize) -> LockedTracker {
        let owed = Owed { flushed: vec![0; consumers], owing: BTreeMap::new(), last: 0 };
        LockedTracker { owed: Mutex::new(owed) }
    }

    /// Every consumer owes the commit at `lsn`.
    fn owe(&self, lsn: u64) {
        let mut owed = lock(&self.owed);
        let consumers = owed.flushed.len();
        owed.owing.insert(lsn, consumers);
        owed.last = lsn;
    }

    fn report(&self, consumer: usize, lsn: u64) {
        let mut owed = lock(&self.owed);
        let Owed { flushed, owing, .. } = &mut *owed;
        let Some(flushed) = flushed.get_mut(consumer).filter(|flushed| **flushed < lsn) else {
            return;
        };
        for (_, consumers) in owing.range_mut(*flushed + 1..=lsn) {
            *consumers -= 1;
        }
        *flushed = lsn;
        while owing.first_key_value().is_some_and(|(_, consumers)| *consumers == 0) {
            owing.pop_first();
        }
    }

    fn flushed(&self) -> u64 {
        let owed = lock(&self.owed);
        owed.owing.first_key_value().map_or(owed.last, |(oldest, _)| oldest - 1)
    }
}

fn locked_round(tracker: &LockedTracker, order: &[usize], lsn: &mut u64) -> Duration {
    *lsn += 1;
    let lsn = *lsn;
    tracker.owe(lsn);
    assert_eq!(tracker.flushed(), lsn - 1, "nobody has reported yet");
    let moved = || assert_eq!(tracker.flushed(), lsn, "all have reported");
    timed(order, |&consumer| tracker.report(consumer, lsn), moved)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
