//! Appends: rows of 256 bytes, each to the log of one shape of many, in turn, until all of them are
//! durable: what one sync acknowledges is a burst of them. Beside it two embedded databases keyed
//! by shape and offset, with one durable commit a burst, and a file a shape with a sync each, for a
//! smaller burst, as it is slow. `WALFAN_BENCH_APPEND_SHAPES` names other counts: 10000,1000000.

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput};
use fjall::{KeyspaceCreateOptions, PersistMode};
use redb::{Database, TableDefinition};
use std::fs::File;
use std::io::Write;
use walfan::ConsumerSpec;
use walfan_bench::{World, criterion, one_row, scratch, sized};

const SHAPES: &[u64] = &[10_000, 100_000];
const SHAPES_TINY: &[u64] = &[50];
/// Appends that are acknowledged together.
const BURST: u64 = 20_000;
const BURST_TINY: u64 = 40;
/// The same for files.
const FILES: u64 = 100;
const FILES_TINY: u64 = 4;
/// Changes a transaction.
const BATCH: usize = 100;
const ROW: [u8; 256] = [b'x'; 256];
/// On the disk that holds the build.
const PARENT: &str = env!("CARGO_TARGET_TMPDIR");

type Group<'a> = BenchmarkGroup<'a, WallTime>;

fn main() {
    let mut criterion = criterion();
    appends(&mut criterion);
    criterion.final_summary();
}

fn appends(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("appends");
    let set = std::env::var("WALFAN_BENCH_APPEND_SHAPES").ok();
    let counts = match set {
        Some(text) => text.split(',').map(|one| one.parse().expect("it is a number")).collect(),
        None => sized(SHAPES, SHAPES_TINY).to_vec(),
    };
    for shapes in counts {
        let burst = sized(BURST, BURST_TINY);
        group.throughput(Throughput::Elements(burst));
        walfan(&mut group, shapes, burst);
        redb(&mut group, shapes, burst);
        fjall(&mut group, shapes, burst);
        let burst = sized(FILES, FILES_TINY);
        group.throughput(Throughput::Elements(burst));
        files(&mut group, shapes, burst);
    }
}

/// The shapes of the next burst: all in turn.
struct Turns {
    shapes: u64,
    next: u64,
}

impl Turns {
    fn take(&mut self, burst: u64) -> Vec<u64> {
        let from = self.next;
        self.next += burst;
        (from..self.next).map(|number| number % self.shapes).collect()
    }
}

fn walfan(group: &mut Group<'_>, shapes: u64, burst: u64) {
    let folder = scratch(PARENT);
    let mut turns = Turns { shapes, next: 0 };
    let mut world = None;
    group.bench_function(BenchmarkId::new("walfan", shapes), |bencher| {
        let world = world.get_or_insert_with(|| {
            let shapes = (0..shapes).map(|id| (one_row(id), ConsumerSpec::Log)).collect();
            World::start(Some(folder.path()), shapes)
        });
        bencher.iter(|| {
            let ids = turns.take(burst);
            let last = ids.chunks(BATCH).map(|batch| world.publish(batch)).last();
            world.wait_flushed(last.expect("a burst is not empty"));
        });
    });
    if let Some(world) = world {
        let (_, metrics) = world.finish();
        assert_eq!(metrics.logged, turns.next, "each append is in one shape's log");
    }
}

/// Shape, offset; the row.
const LOGS: TableDefinition<'_, (u64, u64), &[u8]> = TableDefinition::new("logs");

fn redb(group: &mut Group<'_>, shapes: u64, burst: u64) {
    let folder = scratch(PARENT);
    let mut turns = Turns { shapes, next: 0 };
    let database = Database::create(folder.path().join("logs.redb")).expect("it is made");
    group.bench_function(BenchmarkId::new("redb", shapes), |bencher| {
        bencher.iter(|| {
            let from = turns.next;
            let mut write = || -> Result<(), redb::Error> {
                let transaction = database.begin_write()?;
                let mut logs = transaction.open_table(LOGS)?;
                for (shape, offset) in turns.take(burst).into_iter().zip(from..) {
                    logs.insert((shape, offset), &ROW[..])?;
                }
                drop(logs);
                Ok(transaction.commit()?)
            };
            write().expect("the database takes it");
        });
    });
}

fn fjall(group: &mut Group<'_>, shapes: u64, burst: u64) {
    let folder = scratch(PARENT);
    let mut turns = Turns { shapes, next: 0 };
    let database = fjall::Database::builder(folder.path()).open().expect("it is made");
    let logs = database.keyspace("logs", KeyspaceCreateOptions::default).expect("it is made");
    group.bench_function(BenchmarkId::new("fjall", shapes), |bencher| {
        bencher.iter(|| {
            let from = turns.next;
            let mut batch = database.batch().durability(Some(PersistMode::SyncData));
            for (shape, offset) in turns.take(burst).into_iter().zip(from..) {
                let key = [shape.to_be_bytes(), offset.to_be_bytes()].concat();
                batch.insert(&logs, key, &ROW[..]);
            }
            batch.commit().expect("the database takes it");
        });
    });
}

/// As many files as a burst has appends: opening more is another matter.
fn files(group: &mut Group<'_>, shapes: u64, burst: u64) {
    let folder = scratch(PARENT);
    let create = |shape| File::create(folder.path().join(format!("{shape}.log")));
    let mut files: Vec<File> =
        (0..burst.min(shapes)).map(create).collect::<Result<_, _>>().expect("files are made");
    group.bench_function(BenchmarkId::new("a file and a sync a shape", shapes), |bencher| {
        bencher.iter(|| {
            for file in &mut files {
                file.write_all(&ROW).and_then(|()| file.sync_data()).expect("the disk takes it");
            }
        });
    });
}
