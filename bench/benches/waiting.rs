//! Waiting: readers that have little to read and wait for more. What it costs to read the last
//! entries of a quiet shape in a busy log, beside a file of its own; and how long it takes from
//! publishing one change to 300,000 shapes until 10,000 readers that wait are all woken, beside the
//! same change with nobody waiting, and beside a bare channel for each reader.

use criterion::{BenchmarkId, Criterion, Throughput};
use std::fs;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};
use walfan::{ConsumerSpec, Handle, News, Offset, ReadLimits, ShapeDefinition, Value};
use walfan_bench::{World, criterion, one_row, scratch, sized, value_bytes, whole};

/// Changes in the busy log, 300 bytes each, and over how many ids they go in turn: each quiet shape
/// is one id, so that its entries lie evenly over the whole log.
const CHANGES: u64 = 1_000_000;
const CHANGES_TINY: u64 = 2_000;
const IDS: u64 = 10_000;
const IDS_TINY: u64 = 20;
const QUIET: u64 = 100;
const QUIET_TINY: u64 = 5;
/// Changes a transaction, and transactions until the log is waited for.
const BATCH: usize = 100;
const BATCHES_A_SYNC: usize = 16;
/// Shapes that a change goes to, and readers that wait for some of them.
const SHAPES: u64 = 300_000;
const SHAPES_TINY: u64 = 300;
const WAITERS: usize = 10_000;
const WAITERS_TINY: usize = 100;
/// On the disk that holds the build.
const PARENT: &str = env!("CARGO_TARGET_TMPDIR");

fn main() {
    let mut criterion = criterion();
    quiet(&mut criterion);
    waking(&mut criterion);
    criterion.final_summary();
}

fn quiet(criterion: &mut Criterion) {
    let (changes, ids) = (sized(CHANGES, CHANGES_TINY), sized(IDS, IDS_TINY));
    let (shapes, own) = (sized(QUIET, QUIET_TINY), changes / ids);
    let mut group = criterion.benchmark_group("quiet");
    group.throughput(Throughput::Elements(own));
    let name = format!("last {own} of a busy log");
    let folder = scratch(PARENT);
    let mut filled: Option<(World, Vec<Handle>)> = None;
    let mut round = 0;
    group.bench_function(BenchmarkId::new("walfan", &name), |bencher| {
        let (world, handles) = filled.get_or_insert_with(|| {
            let busy = std::iter::once(whole());
            let quiet = (0..shapes).map(one_row);
            let shapes = busy.chain(quiet).map(|shape| (shape, ConsumerSpec::Log)).collect();
            let mut world = World::start(Some(folder.path()), shapes);
            let rows: Vec<u64> = (0..changes).map(|number| number % ids).collect();
            for (number, batch) in rows.chunks(BATCH).enumerate() {
                let last = world.publish(batch);
                if number % BATCHES_A_SYNC == 0 || (number + 1) * BATCH >= rows.len() {
                    world.wait_flushed(last);
                }
            }
            let handles = world.handles().split_off(1);
            (world, handles)
        });
        bencher.iter(|| {
            round += 1;
            let (read, bytes) = read_all(world, handles[round % handles.len()]);
            assert_eq!(read, own);
            bytes
        });
    });
    let file = folder.path().join("own");
    let record = [vec![0; 24], vec![b'x'; 300]].concat();
    fs::write(&file, record.repeat(own as usize)).expect("a file is written");
    group.bench_function(BenchmarkId::new("a file of its own", &name), |bencher| {
        bencher.iter(|| {
            let log = fs::read(&file).expect("a file is read");
            let records = log.chunks(record.len());
            let bytes: u64 = records.map(|r| value_bytes(r.get(24..).map(Value::Text))).sum();
            assert_eq!(bytes, own * 300);
            bytes
        });
    });
}

/// A shape's whole log; its changes, and the bytes of their notes.
fn read_all(world: &World, handle: Handle) -> (u64, u64) {
    let (mut changes, mut bytes, mut after) = (0, 0, Offset::ZERO);
    loop {
        let page = world.engine().read(handle, after, ReadLimits::default()).expect("it is read");
        changes += page.changes.len() as u64;
        let notes = page.changes.iter();
        bytes += notes.map(|c| value_bytes(c.new_row().and_then(|row| row.get(2)))).sum::<u64>();
        after = page.through;
        if page.up_to_date {
            return (changes, bytes);
        }
    }
}

/// Counts down, and unparks a thread at the last.
struct Countdown {
    left: AtomicUsize,
    thread: Thread,
}

impl Countdown {
    fn new(count: usize) -> Arc<Countdown> {
        Arc::new(Countdown { left: AtomicUsize::new(count), thread: thread::current() })
    }

    fn wait(&self) {
        while self.left.load(Ordering::Acquire) > 0 {
            thread::park();
        }
    }
}

impl Wake for Countdown {
    fn wake(self: Arc<Self>) {
        if self.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.thread.unpark();
        }
    }
}

fn waking(criterion: &mut Criterion) {
    let (shapes, count) = (sized(SHAPES, SHAPES_TINY), sized(WAITERS, WAITERS_TINY));
    let hot = |id| {
        let table = whole().table;
        ShapeDefinition::filtered(table, &format!("kind = 'hot' OR id = {id}"))
    };
    let folder = scratch(PARENT);
    let shapes = (0..shapes).map(|id| (hot(id), ConsumerSpec::Log)).collect();
    let mut world = World::start(Some(folder.path()), shapes);
    let handles = world.handles();
    let step = handles.len() / count;
    let waiting: Vec<Handle> = handles.into_iter().step_by(step).take(count).collect();
    let mut last = world.publish(&[0]);
    world.wait_flushed(last);
    let mut group = criterion.benchmark_group("waking");
    group.throughput(Throughput::Elements(count as u64));
    group.bench_function(BenchmarkId::new("walfan, until flushed", "nobody waits"), |bencher| {
        bencher.iter_custom(|rounds| {
            let start = Instant::now();
            for _ in 0..rounds {
                last = world.publish(&[0]);
                world.wait_flushed(last);
            }
            start.elapsed()
        });
    });
    let name = format!("{count} readers");
    group.bench_function(BenchmarkId::new("walfan, until all are woken", &name), |bencher| {
        bencher.iter_custom(|rounds| {
            let mut time = Duration::ZERO;
            for _ in 0..rounds {
                let countdown = Countdown::new(count);
                let waker = Waker::from(Arc::clone(&countdown));
                let after = Offset::commit_mark(last);
                let news = waiting.iter().map(|handle| world.engine().news(*handle, after));
                let mut news: Vec<News> = news.collect();
                for news in &mut news {
                    let polled = Pin::new(news).poll(&mut Context::from_waker(&waker));
                    assert!(matches!(polled, Poll::Pending), "nothing is there yet");
                }
                let start = Instant::now();
                last = world.publish(&[0]);
                countdown.wait();
                time += start.elapsed();
                world.wait_flushed(last);
            }
            time
        });
    });
    let channels: Vec<_> = (0..count).map(|_| crossbeam_channel::bounded(1)).collect();
    group.bench_function(BenchmarkId::new("bare channels, a signal each", &name), |bencher| {
        bencher.iter(|| {
            channels.iter().for_each(|(signal, _)| signal.try_send(()).expect("it is empty"));
            channels.iter().filter(|(_, signals)| signals.try_recv().is_ok()).count()
        });
    });
    assert!(world.engine().failure().is_none());
}
