//! A large log: what is sealed beside its segments is what this is about. The last entries of a
//! quiet shape, in a log that was just written and in the same log opened again; the log of a shape
//! that got everything, in a row; how long an engine takes to open what one leaves that is killed
//! while it writes, with many shapes; and, as a line, what memory that one took on its way.
//! `WALFAN_BENCH_LOG_MIB` and `WALFAN_BENCH_SHAPES` make it larger: 10240 and 300000, say.

use criterion::{BenchmarkId, Criterion, Throughput};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use walfan::{ConsumerSpec, Handle, Lsn, Offset, ReadLimits};
use walfan_bench::{
    NOTE_BYTES, World, anonymous_bytes, criterion, from_environment, one_row, scratch, sized,
    value_bytes, whole,
};

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

/// Names the folder to the process that writes and is killed.
const WRITER: &str = "WALFAN_BENCH_LARGE_WRITER";
/// Begins the line in which it says that it has written all, and where the last entries begin.
const WRITTEN: &str = "written, read after ";
/// It goes on writing until it is killed, or for so long.
const ALIVE: Duration = Duration::from_secs(60);

fn main() {
    let mut criterion = criterion();
    match std::env::var_os(WRITER) {
        Some(folder) => write(&mut criterion, Path::new(&folder)),
        None => large(&mut criterion),
    }
    criterion.final_summary();
}

/// The shapes beside the one that gets everything, the bytes of the log, and the entries at its end
/// that are read.
fn sizes() -> (u64, u64, u64) {
    let bytes = from_environment("WALFAN_BENCH_LOG_MIB", sized(LOG_MIB, LOG_MIB_TINY)) << 20;
    let shapes = from_environment("WALFAN_BENCH_SHAPES", sized(SHAPES, SHAPES_TINY));
    (shapes, bytes, sized(LAST, LAST_TINY))
}

/// Ids over which changes go in turn. Each comes `last` times in the last tenth, so that what is
/// read is spread over that.
fn ids() -> u64 {
    let (_, bytes, last) = sizes();
    (bytes / CHANGE_BYTES / 10 / last).max(1)
}

/// The shapes of these ids.
fn quiet(world: &World) -> Vec<Handle> {
    let (shapes, ..) = sizes();
    world.handles().into_iter().skip(1).take(ids().min(shapes) as usize).collect()
}

/// A shape that gets everything, and one for each of the first ids. Returns the position behind
/// which each of these has `last` entries.
fn fill(folder: &Path) -> (World, Offset) {
    let (shapes, bytes, last) = sizes();
    let all = std::iter::once(whole()).chain((0..shapes).map(one_row));
    let mut world = World::start(Some(folder), all.map(|one| (one, ConsumerSpec::Log)).collect());
    let ids = ids();
    let turns = bytes / CHANGE_BYTES / ids;
    let (mut number, mut after, mut lsn) = (0, Lsn::ZERO, Lsn::ZERO);
    for turn in 0..turns {
        if turn % (turns / 10).max(1) == 0 {
            let mib = anonymous_bytes() >> 20;
            eprintln!("large: {mib} MiB of memory after {turn} of {turns} turns");
        }
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
    eprintln!("large: {} MiB of memory when all was written", anonymous_bytes() >> 20);
    (world, Offset::commit_mark(after))
}

/// Writes a log, reads in it, and goes on writing until somebody ends it. What it writes then is
/// nobody's but the shape's that gets everything.
fn write(criterion: &mut Criterion, folder: &Path) {
    let (mut world, after) = fill(folder);
    let (_, _, last) = sizes();
    last_entries(criterion, "as it was written", &world, &quiet(&world), (after, last));
    println!("{WRITTEN}{after}");
    let began = Instant::now();
    while began.elapsed() < ALIVE {
        let lsn = world.publish(&[u64::MAX >> 1; BATCH]);
        world.wait_flushed(lsn);
    }
}

/// Has another process write a log in `folder`, and kills it. Where the last entries begin.
fn written_and_killed(folder: &Path) -> Offset {
    let mut command = Command::new(std::env::current_exe().expect("a process has a file"));
    command.args(std::env::args_os().skip(1)).env(WRITER, folder).stdout(Stdio::piped());
    let mut writer = command.spawn().expect("a process starts");
    let said = BufReader::new(writer.stdout.take().expect("it is piped"));
    let mut after = None;
    for line in said.lines() {
        let line = line.expect("it says text");
        match line.strip_prefix(WRITTEN) {
            Some(offset) => {
                after = Some(offset.parse().expect("it says an offset"));
                break;
            }
            None => println!("{line}"),
        }
    }
    // In the middle of what it goes on to write.
    std::thread::sleep(Duration::from_millis(50));
    writer.kill().and_then(|()| writer.wait()).expect("it is killed");
    after.expect("it has written all")
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
    let (shapes, _, last) = sizes();
    let folder = scratch(PARENT);
    let after = written_and_killed(folder.path());
    opening(criterion, folder.path(), shapes);
    let world = World::reopen(folder.path());
    last_entries(criterion, "opened again", &world, &quiet(&world), (after, last));
    let busy = world.handles()[0];
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

/// How long it takes until the engine runs: the first time after the kill, which is told as a line,
/// and later ones.
fn opening(criterion: &mut Criterion, folder: &Path, shapes: u64) {
    let mut group = criterion.benchmark_group("large");
    let name = format!("open, {shapes} shapes");
    let mut is_first = true;
    group.bench_function(name, |bencher| {
        bencher.iter_custom(|rounds| {
            let mut took = Duration::ZERO;
            for _ in 0..rounds {
                let began = Instant::now();
                let world = World::reopen(folder);
                took += began.elapsed();
                if std::mem::take(&mut is_first) {
                    eprintln!("large: opened in {took:?} after the kill");
                }
                assert_eq!(world.handles().len() as u64, shapes + 1);
                world.finish();
            }
            took
        });
    });
}
