//! Retention: what a limit of the log costs. Appends to shapes in turn, without a limit and with
//! one that keeps the old files' thinning at work. And one pass over a log that is over its limit:
//! many quiet shapes, each with a few entries among those of a busy one, all of which stay; how
//! long it takes and what memory, as lines. `WALFAN_BENCH_LOG_MIB` and `WALFAN_BENCH_SHAPES` make
//! it larger: 1024 and 300000, say.

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Throughput};
use std::path::Path;
use std::time::{Duration, Instant};
use walfan::{Builder, ConsumerSpec, Engine, Handle, Metrics, Offset, ReadLimits};
use walfan_bench::{
    NOTE_BYTES, RUNNERS, SHARDS, World, anonymous_bytes, criterion, from_environment, one_row,
    scratch, sized, whole,
};

const SHAPES: u64 = 10_000;
const SHAPES_TINY: u64 = 50;
const LOG_MIB: u64 = 256;
const LOG_MIB_TINY: u64 = 4;
/// The limit is this part of the log that a pass begins with.
const LIMIT_PART: u64 = 4;
/// A limit that appends pass again and again, and what it leaves to a shape.
const APPENDS_LIMIT: u64 = 32 << 20;
const APPENDS_QUOTA: u64 = 1 << 10;
const BURST: u64 = 20_000;
const BURST_TINY: u64 = 40;
/// Changes a transaction, and transactions until the log is waited for.
const BATCH: usize = 100;
const BATCHES_A_SYNC: usize = 16;
/// A quiet shape has so many entries.
const ENTRIES: u64 = 2;
/// What a change takes in the log, about.
const CHANGE_BYTES: u64 = NOTE_BYTES as u64 + 30;
/// A pass that takes longer has failed.
const PASS_MAX: Duration = Duration::from_secs(600);
/// On the disk that holds the build.
const PARENT: &str = env!("CARGO_TARGET_TMPDIR");

fn main() {
    let mut criterion = criterion();
    let mut group = criterion.benchmark_group("retention");
    appends(&mut group, "no limit", |builder| builder);
    appends(&mut group, "a limit", |builder| {
        builder.log_bytes_max(APPENDS_LIMIT).shape_quota_bytes(APPENDS_QUOTA)
    });
    drop(group);
    pass();
    criterion.final_summary();
}

fn builder(folder: &Path) -> Builder {
    Engine::builder().shards(SHARDS).runners(RUNNERS).directory(folder)
}

fn appends(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, limit: fn(Builder) -> Builder) {
    let folder = scratch(PARENT);
    let (shapes, burst) = (sized(SHAPES, SHAPES_TINY), sized(BURST, BURST_TINY));
    let (mut world, mut next) = (None, 0);
    group.throughput(Throughput::Elements(burst));
    group.bench_function(BenchmarkId::new("appends", name), |bencher| {
        let world = world.get_or_insert_with(|| {
            let shapes = (0..shapes).map(|id| (one_row(id), ConsumerSpec::Log)).collect();
            World::start_with(limit(builder(folder.path())), shapes)
        });
        bencher.iter(|| {
            let ids: Vec<u64> = (next..next + burst).map(|number| number % shapes).collect();
            next += burst;
            let last = ids.chunks(BATCH).map(|batch| world.publish(batch)).last();
            world.wait_flushed(last.expect("a burst is not empty"));
        });
    });
    if let Some(world) = world {
        let (_, metrics) = world.finish();
        assert_eq!(metrics.logged, next, "each append is in one shape's log");
        let Metrics { log_bytes_held, log_bytes_freed, cut_shapes, .. } = metrics;
        eprintln!(
            "retention: appends, {name}: {} MiB kept, {} MiB given back, {cut_shapes} shapes cut",
            log_bytes_held >> 20,
            log_bytes_freed >> 20,
        );
    }
}

/// A log that was written without a limit, opened with one.
fn pass() {
    let folder = scratch(PARENT);
    let bytes = from_environment("WALFAN_BENCH_LOG_MIB", sized(LOG_MIB, LOG_MIB_TINY)) << 20;
    let shapes = from_environment("WALFAN_BENCH_SHAPES", sized(SHAPES, SHAPES_TINY));
    let mut world = World::start_with(builder(folder.path()), all(shapes));
    fill(&mut world, shapes, bytes / CHANGE_BYTES);
    let quiet: Vec<Handle> = world.handles().into_iter().skip(1).collect();
    world.finish();
    let limited = builder(folder.path()).log_bytes_max(bytes / LIMIT_PART);
    let (engine, publisher) = limited.start().expect("the directory is opened");
    let (began, before) = (Instant::now(), anonymous_bytes());
    let mut most = before;
    let (mut freed, mut last_freed) = (0, Duration::ZERO);
    // A pass of a shard is one step of what is given back.
    while last_freed.is_zero() || began.elapsed() < 2 * last_freed + Duration::from_secs(2) {
        std::thread::sleep(Duration::from_millis(20));
        most = most.max(anonymous_bytes());
        let now = engine.metrics().log_bytes_freed;
        if now > freed {
            (freed, last_freed) = (now, began.elapsed());
        }
        assert!(began.elapsed() < PASS_MAX, "nothing is thinned");
    }
    let Metrics { log_bytes_held, cut_shapes, .. } = engine.metrics();
    eprintln!(
        "retention: {} MiB with {shapes} quiet shapes became {} MiB in {last_freed:?}; \
         {} MiB of memory before, {} at most; {cut_shapes} shapes cut",
        bytes >> 20,
        log_bytes_held >> 20,
        before >> 20,
        most >> 20,
    );
    for handle in quiet.iter().step_by((quiet.len() / 100).max(1)) {
        let page = engine.read(*handle, Offset::ZERO, ReadLimits::default()).expect("it is whole");
        assert_eq!(page.changes.len() as u64, ENTRIES, "a quiet shape keeps everything");
    }
    drop(publisher);
    engine.shutdown(PASS_MAX).expect("the engine stops");
}

/// A shape that gets everything, and the quiet ones.
fn all(quiet: u64) -> Vec<(walfan::ShapeDefinition, ConsumerSpec)> {
    let all = std::iter::once(whole()).chain((0..quiet).map(one_row));
    all.map(|shape| (shape, ConsumerSpec::Log)).collect()
}

/// `changes` rows or so, among which each quiet shape has its entries, all in the first half.
fn fill(world: &mut World, quiet: u64, changes: u64) {
    let changes = changes.max(2 * ENTRIES * quiet);
    let every = changes / (2 * ENTRIES * quiet);
    let (mut number, mut ids) = (0, Vec::with_capacity(BATCH));
    for change in 0..changes {
        let own = change / every;
        let is_own = change % every == 0 && own < ENTRIES * quiet;
        ids.push(if is_own { own % quiet } else { u64::MAX >> 1 });
        if ids.len() == BATCH || change + 1 == changes {
            let lsn = world.publish(&ids);
            number += 1;
            if number % BATCHES_A_SYNC == 0 || change + 1 == changes {
                world.wait_flushed(lsn);
            }
            ids.clear();
        }
    }
}
