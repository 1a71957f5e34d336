//! A large log: what is sealed beside its segments is what this is about. The last entries of a
//! quiet shape, in a log that was just written and in the same log opened again; the log of a shape
//! that got everything, in a row; and how long an engine takes to open what a killed one leaves,
//! with many shapes. `WALFAN_BENCH_LOG_MIB` and `WALFAN_BENCH_SHAPES` make it larger: 10240 and
//! 300000, say, on a disk that has the room twice.

use criterion::{BenchmarkId, Criterion, Throughput};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};
use walfan::{ConsumerSpec, Handle, Lsn, Offset, ReadLimits};
use walfan_bench::{NOTE_BYTES, World, criterion, one_row, scratch, sized, value_bytes, whole};

const LOG_MIB: u64 = 256;
const LOG_MIB_TINY: u64 = 1;
const SHAPES: u64 = 1_000;
const SHAPES_TINY: u64 = 20;
/// The entries that a reader of a quiet shape is behind.
const LAST: u64 = 100;
const LAST_TINY: u64 = 5;
/// Changes a transaction, and transactions until the log is waited for.
const BATCH: usize = 100;
const BATCHES_A_SYNC: usize = 16;
/// What a change takes in the log, about.
const CHANGE_BYTES: u64 = NOTE_BYTES as u64 + 30;
/// On the disk that holds the build.
const PARENT: &str = env!("CARGO_TARGET_TMPDIR");

fn main() {
    let mut criterion = criterion();
    large(&mut criterion);
    criterion.final_summary();
}

fn from_environment(name: &str, otherwise: u64) -> u64 {
    let set = std::env::var(name).ok();
    set.map_or(otherwise, |text| text.parse().expect("it is a number"))
}

/// A shape that gets everything, and one for each of the first ids, over which changes go in turn.
/// Returns each quiet shape's handle, and the position behind which it has `last` entries.
fn fill(folder: &Path, shapes: u64, bytes: u64, last: u64) -> (World, Vec<Handle>, Offset) {
    let all = std::iter::once(whole()).chain((0..shapes).map(one_row));
    let mut world = World::start(Some(folder), all.map(|one| (one, ConsumerSpec::Log)).collect());
    // Each id comes `last` times in the last tenth, so that what is read is spread over that.
    let changes = bytes / CHANGE_BYTES;
    let ids = (changes / 10 / last).max(1);
    let turns = changes / ids;
    let (mut number, mut after, mut lsn) = (0, Lsn::ZERO, Lsn::ZERO);
    for turn in 0..turns {
        if turn + last == turns {
            after = lsn;
        }
        let rows: Vec<u64> = (0..ids).collect();
        for batch in rows.chunks(BATCH) {
            lsn = world.publish(batch);
            number += 1;
            if number % BATCHES_A_SYNC == 0 {
                world.wait_flushed(lsn);
            }
        }
    }
    world.wait_flushed(lsn);
    let quiet = world.handles().into_iter().skip(1).take(ids.min(shapes) as usize).collect();
    (world, quiet, Offset::commit_mark(after))
}

/// Reads what `handle` has after `after`: entries, and the bytes of their notes.
fn read(world: &World, handle: Handle, mut after: Offset) -> (u64, u64) {
    let (mut changes, mut bytes) = (0, 0);
    loop {
        let page = world.engine().read(handle, after, ReadLimits::default()).expect("it is read");
        changes += page.changes.len() as u64;
        for change in &page.changes {
            bytes += value_bytes(change.new_row().and_then(|row| row.get(2)));
        }
        after = page.through;
        if page.up_to_date {
            return (changes, bytes);
        }
    }
}

fn large(criterion: &mut Criterion) {
    let bytes = from_environment("WALFAN_BENCH_LOG_MIB", sized(LOG_MIB, LOG_MIB_TINY)) << 20;
    let shapes = from_environment("WALFAN_BENCH_SHAPES", sized(SHAPES, SHAPES_TINY));
    let last = sized(LAST, LAST_TINY);
    let (folder, copy) = (scratch(PARENT), scratch(PARENT));
    let (world, quiet, after) = fill(folder.path(), shapes, bytes, last);
    let busy = world.handles()[0];
    last_entries(criterion, "as it was written", &world, &quiet, (after, last));
    copy_of(folder.path(), copy.path());
    world.finish();
    opening(criterion, copy.path(), shapes);
    let world = World::reopen(copy.path());
    last_entries(criterion, "opened again", &world, &quiet, (after, last));
    let mut group = criterion.benchmark_group("large");
    let (_, notes) = read(&world, busy, Offset::ZERO);
    group.throughput(Throughput::Bytes(notes));
    group.bench_function("in a row, of a shape that got everything", |bencher| {
        bencher.iter(|| assert_eq!(read(&world, busy, Offset::ZERO).1, notes));
    });
    drop(group);
    world.finish();
}

fn last_entries(
    criterion: &mut Criterion,
    name: &str,
    world: &World,
    quiet: &[Handle],
    (after, last): (Offset, u64),
) {
    let mut group = criterion.benchmark_group("large");
    let mut round = 0;
    group.bench_function(
        BenchmarkId::new(format!("last {last} of a quiet shape"), name),
        |bench| {
            bench.iter(|| {
                round += 1;
                let (changes, _) = read(world, quiet[round % quiet.len()], after);
                assert_eq!(changes, last);
            });
        },
    );
}

/// What lies in `from` while its engine runs: what a killed process would leave.
fn copy_of(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).expect("the folder is listed") {
        let entry = entry.expect("the folder is listed");
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if source.is_dir() {
            fs::create_dir_all(&target).expect("a folder is made");
            copy_of(&source, &target);
        } else {
            fs::copy(source, target).expect("a file is copied");
        }
    }
}

fn opening(criterion: &mut Criterion, folder: &Path, shapes: u64) {
    let mut group = criterion.benchmark_group("large");
    let name = format!("open, {shapes} shapes");
    group.bench_function(name, |bencher| {
        bencher.iter_custom(|rounds| {
            let mut took = Duration::ZERO;
            for _ in 0..rounds {
                let began = Instant::now();
                let world = World::reopen(folder);
                took += began.elapsed();
                assert_eq!(world.handles().len() as u64, shapes + 1);
                world.finish();
            }
            took
        });
    });
}
