//! Reading: the log of one shape, page by page, from its first change to its last; round after
//! round another shape. Writing a change once for all shapes moves its cost here, and this is what
//! it comes to: where each change went to every shape, and where each went to one of many, so that
//! little of what a reader passes is its own. Beside it what the copies buy: a file a shape, read
//! whole. All of it lies in the operating system's cache.

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput};
use std::fs;
use std::path::{Path, PathBuf};
use walfan::{ConsumerSpec, Handle, LoggedChange, Lsn, Offset, ReadLimits, ShapeDefinition};
use walfan_bench::{
    Random, World, criterion, inserts, items, one_row, scratch, sized, value_bytes, whole,
};

/// Changes in the log: 60 MB, several times what the engine keeps decoded, so that each round
/// decodes what it reads.
const CHANGES: u64 = 200_000;
const CHANGES_TINY: u64 = 300;
/// Shapes where each change goes to one of them.
const SCATTERED: u64 = 1_000;
const SCATTERED_TINY: u64 = 10;
/// Shapes where each change goes to all of them; each has a file of all changes beside it.
const SHARED: u64 = 2;
/// Changes a transaction.
const BATCH: usize = 100;
/// Transactions until the log is waited for: one sync covers no more, so that a block of the log
/// stays small and few of them are not all of it.
const BATCHES_A_SYNC: u64 = 16;
const SEED: u64 = 13;
/// On the disk that holds the build.
const PARENT: &str = env!("CARGO_TARGET_TMPDIR");

type Group<'a> = BenchmarkGroup<'a, WallTime>;

/// Which changes are in the log of which shape.
struct Case {
    name: &'static str,
    shapes: u64,
    /// Each change's row.
    ids: Vec<u64>,
    define: fn(u64) -> ShapeDefinition,
    /// Whether the row with an id is in a shape.
    has: fn(u64, u64) -> bool,
}

fn main() {
    let mut criterion = criterion();
    reading(&mut criterion);
    criterion.final_summary();
}

fn reading(criterion: &mut Criterion) {
    let changes = sized(CHANGES, CHANGES_TINY);
    let scattered = sized(SCATTERED, SCATTERED_TINY);
    let mut random = Random::new(SEED);
    let cases = [
        Case {
            name: "every change",
            shapes: SHARED,
            ids: (0..changes).map(|_| random.below(scattered)).collect(),
            define: |_| whole(),
            has: |_, _| true,
        },
        Case {
            name: "one change in many",
            shapes: scattered,
            // Each shape has as many, so that each round reads as many.
            ids: (0..changes).map(|number| number % scattered).collect(),
            define: one_row,
            has: |shape, id| shape == id,
        },
    ];
    let mut group = criterion.benchmark_group("reading");
    for case in &cases {
        let own = case.ids.iter().filter(|id| (case.has)(0, **id)).count() as u64;
        group.throughput(Throughput::Elements(own));
        walfan(&mut group, case, own);
        files(&mut group, case, own);
    }
}

fn walfan(group: &mut Group<'_>, case: &Case, own: u64) {
    let folder = scratch(PARENT);
    let mut filled: Option<(World, Vec<Handle>)> = None;
    let mut round = 0;
    group.bench_function(BenchmarkId::new("walfan, pages", case.name), |bencher| {
        let (world, handles) = filled.get_or_insert_with(|| {
            let world = fill(folder.path(), case);
            let handles = world.handles();
            (world, handles)
        });
        bencher.iter(|| {
            round += 1;
            let (changes, bytes) = read_pages(world, handles[round % handles.len()]);
            assert_eq!(changes, own);
            bytes
        });
    });
}

fn fill(folder: &Path, case: &Case) -> World {
    let shapes = (0..case.shapes).map(|shape| ((case.define)(shape), ConsumerSpec::Log));
    let mut world = World::start(Some(folder), shapes.collect());
    let mut last = Lsn::ZERO;
    for (number, batch) in (1..).zip(case.ids.chunks(BATCH)) {
        last = world.publish(batch);
        if number % BATCHES_A_SYNC == 0 {
            world.wait_flushed(last);
        }
    }
    world.wait_flushed(last);
    world
}

/// Reads a shape's whole log; its changes, and the bytes of their notes.
fn read_pages(world: &World, handle: Handle) -> (u64, u64) {
    let (mut changes, mut bytes, mut after) = (0, 0, Offset::ZERO);
    loop {
        let page = world.engine().read(handle, after, ReadLimits::default()).expect("it is read");
        changes += page.changes.len() as u64;
        bytes += page.changes.iter().map(note_bytes).sum::<u64>();
        after = page.through;
        if page.up_to_date {
            return (changes, bytes);
        }
    }
}

fn note_bytes(change: &LoggedChange) -> u64 {
    value_bytes(change.new_row().and_then(|row| row.get(2)))
}

fn files(group: &mut Group<'_>, case: &Case, own: u64) {
    let folder = scratch(PARENT);
    let mut paths = None;
    let mut round = 0;
    group.bench_function(BenchmarkId::new("a file a shape", case.name), |bencher| {
        let paths = paths.get_or_insert_with(|| write_files(folder.path(), case));
        bencher.iter(|| {
            round += 1;
            let (changes, bytes) = read_file(&paths[round % paths.len()]);
            assert_eq!(changes, own);
            bytes
        });
    });
}

/// The columns of a row in a file.
const COLUMNS: usize = 3;

/// A file a shape, with a record for each change: commit, op, and its values with their lengths.
fn write_files(folder: &Path, case: &Case) -> Vec<PathBuf> {
    let items = items();
    let mut logs: Vec<Vec<u8>> = (0..case.shapes).map(|_| Vec::new()).collect();
    for (number, batch) in (1..).zip(case.ids.chunks(BATCH)) {
        let fragment = inserts(&items, Lsn::new(number), batch);
        for (change, &id) in fragment.changes().zip(batch) {
            let offset = change.offset();
            let mut record = Vec::new();
            record.extend_from_slice(&offset.commit.as_u64().to_le_bytes());
            record.extend_from_slice(&offset.op.to_le_bytes());
            for index in 0..COLUMNS {
                if let Some(walfan::Value::Text(text)) = change.new_row().and_then(|r| r.get(index))
                {
                    record.extend_from_slice(&(text.len() as u32).to_le_bytes());
                    record.extend_from_slice(text);
                }
            }
            let of = logs.iter_mut().zip(0..).filter(|(_, shape)| (case.has)(*shape, id));
            of.for_each(|(log, _)| log.extend_from_slice(&record));
        }
    }
    let write = |(log, shape): (Vec<u8>, u64)| {
        let path = folder.join(format!("{shape}.log"));
        fs::write(&path, log).expect("a file is written");
        path
    };
    logs.into_iter().zip(0..).map(write).collect()
}

/// Reads a shape's file; its changes, and the bytes of their notes.
fn read_file(path: &Path) -> (u64, u64) {
    let log = fs::read(path).expect("a file is read");
    let (mut changes, mut bytes) = (0, 0);
    let mut rest = log.as_slice();
    while let Some((_offset, values)) = rest.split_first_chunk::<16>() {
        rest = values;
        let mut note = 0;
        for _ in 0..COLUMNS {
            let (len, text) = rest.split_first_chunk::<4>().expect("a value has a length");
            note = u32::from_le_bytes(*len) as usize;
            rest = text.get(note..).expect("a value is whole");
        }
        changes += 1;
        bytes += note as u64;
    }
    (changes, bytes)
}
