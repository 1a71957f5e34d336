//! Log: one change to N shapes that are nothing but their logs, until it is durable in all of them
//! and the LSN is flushed. Beside it what one would write instead: a file and a sync a shape, a
//! copy a shape in one file that is synced once, and two embedded databases keyed by shape and
//! offset with one durable commit. These write the change's bytes only: no checksum, no recovery.
//! Figures are for their own N: where a way is too slow for an N, there is none.

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput};
use fjall::{Keyspace, KeyspaceCreateOptions, PersistMode};
use redb::{Database, ReadableDatabase, ReadableTableMetadata, TableDefinition};
use std::fs::File;
use std::io::{Seek, Write};
use std::path::Path;
use std::sync::Arc;
use walfan::{ConsumerSpec, Fragment, Handle, Lsn, Offset, ReadLimits, Relation};
use walfan_bench::{World, criterion, inserts, items, scratch, sized, whole};

const SHAPES: &[usize] = &[10, 1_000, 30_000];
const SHAPES_TINY: &[usize] = &[3];
/// One sync after another: more files take seconds a change.
const FILES_MAX: usize = 1_000;
/// The file of copies is begun anew when it has passed this many bytes, as segments would be.
const SEGMENT_BYTES_MAX: u64 = 64 << 20;
/// On the disk that holds the build.
const PARENT: &str = env!("CARGO_TARGET_TMPDIR");

type Group<'a> = BenchmarkGroup<'a, WallTime>;

fn main() {
    let mut criterion = criterion();
    log(&mut criterion);
    criterion.final_summary();
}

fn log(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("log");
    for &shapes in sized(SHAPES, SHAPES_TINY) {
        group.throughput(Throughput::Elements(shapes as u64));
        walfan(&mut group, shapes);
        baseline(&mut group, "copies, one sync", shapes, Copies::open);
        baseline(&mut group, "redb", shapes, Redb::open);
        baseline(&mut group, "fjall", shapes, Fjall::open);
        if shapes <= FILES_MAX {
            baseline(&mut group, "files, a sync each", shapes, Files::open);
        }
    }
}

fn walfan(group: &mut Group<'_>, shapes: usize) {
    let folder = scratch(PARENT);
    let mut world = None;
    group.bench_function(BenchmarkId::new("walfan", shapes), |bencher| {
        let world = world.get_or_insert_with(|| {
            World::start(Some(folder.path()), vec![(whole(), ConsumerSpec::Log); shapes])
        });
        bencher.iter(|| {
            let lsn = world.publish(&[0]);
            world.wait_flushed(lsn);
        });
    });
    let Some(world) = world else { return };
    let last = world.handles().into_iter().next_back().expect("there are shapes");
    let read = changes_of(&world, last);
    let (transactions, metrics) = world.finish();
    assert_eq!(metrics.logged, transactions * shapes as u64, "each shape's log has each change");
    assert_eq!(read, transactions, "and gives it back");
}

/// The changes in the log of one shape.
fn changes_of(world: &World, handle: Handle) -> u64 {
    let (mut changes, mut after) = (0, Offset::ZERO);
    loop {
        let page = world.engine().read(handle, after, ReadLimits::default()).expect("it is read");
        changes += page.changes.len() as u64;
        after = page.through;
        if page.up_to_date {
            return changes;
        }
    }
}

/// Another way to keep the logs of some shapes.
trait Baseline {
    /// Writes a change to every shape's log, durably.
    fn write(&mut self, offset: Offset, change: &[u8]);

    /// Checks that the logs have what `writes` changes of `bytes` bytes leave.
    fn check(&self, writes: u64, bytes: usize);
}

fn baseline<B: Baseline>(
    group: &mut Group<'_>,
    name: &str,
    shapes: usize,
    open: impl Fn(&Path, usize) -> B,
) {
    let folder = scratch(PARENT);
    let items = items();
    let (mut store, mut writes, mut bytes) = (None, 0, 0);
    group.bench_function(BenchmarkId::new(name, shapes), |bencher| {
        let store = store.get_or_insert_with(|| open(folder.path(), shapes));
        bencher.iter(|| {
            writes += 1;
            let (offset, change) = change(&items, writes);
            bytes = change.len();
            store.write(offset, &change);
        });
    });
    if let Some(store) = store {
        store.check(writes, bytes);
    }
}

/// The same change that walfan is given, as the bytes that a log needs.
fn change(items: &Arc<Relation>, number: u64) -> (Offset, Vec<u8>) {
    let fragment: Fragment = inserts(items, Lsn::new(number), &[0]);
    let change = fragment.get(0).expect("it has one change");
    let mut bytes = Vec::new();
    for value in change.new_row().into_iter().flat_map(|row| row.values().collect::<Vec<_>>()) {
        if let walfan::Value::Text(text) = value {
            bytes.extend_from_slice(&(text.len() as u32).to_le_bytes());
            bytes.extend_from_slice(text);
        }
    }
    (change.offset(), bytes)
}

/// Bytes of a record beside the change: shape, commit, op, length.
const HEAD_BYTES: usize = 4 + 8 + 8 + 4;

fn append_record(to: &mut Vec<u8>, shape: usize, offset: Offset, change: &[u8]) {
    to.extend_from_slice(&(shape as u32).to_le_bytes());
    to.extend_from_slice(&offset.commit.as_u64().to_le_bytes());
    to.extend_from_slice(&offset.op.to_le_bytes());
    to.extend_from_slice(&(change.len() as u32).to_le_bytes());
    to.extend_from_slice(change);
}

/// A file a shape, each synced.
struct Files {
    files: Vec<File>,
}

impl Files {
    fn open(folder: &Path, shapes: usize) -> Files {
        let create = |shape| File::create(folder.join(format!("{shape}.log")));
        Files { files: (0..shapes).map(create).collect::<Result<_, _>>().expect("files are made") }
    }
}

impl Baseline for Files {
    fn write(&mut self, offset: Offset, change: &[u8]) {
        let mut record = Vec::with_capacity(HEAD_BYTES + change.len());
        for (shape, file) in self.files.iter_mut().enumerate() {
            record.clear();
            append_record(&mut record, shape, offset, change);
            file.write_all(&record).and_then(|()| file.sync_data()).expect("the disk takes it");
        }
    }

    fn check(&self, writes: u64, bytes: usize) {
        for file in &self.files {
            assert_eq!(len_of(file), writes * (HEAD_BYTES + bytes) as u64);
        }
    }
}

/// One file, with a copy of each change a shape.
struct Copies {
    file: File,
    buffer: Vec<u8>,
    shapes: usize,
    /// Bytes in the file, and of the last write.
    bytes: u64,
}

impl Copies {
    fn open(folder: &Path, shapes: usize) -> Copies {
        let file = File::create(folder.join("shapes.log")).expect("a file is made");
        Copies { file, buffer: Vec::new(), shapes, bytes: 0 }
    }
}

impl Baseline for Copies {
    fn write(&mut self, offset: Offset, change: &[u8]) {
        self.buffer.clear();
        for shape in 0..self.shapes {
            append_record(&mut self.buffer, shape, offset, change);
        }
        if self.bytes > SEGMENT_BYTES_MAX {
            self.file.set_len(0).and_then(|()| self.file.rewind()).expect("a file is cut");
            self.bytes = 0;
        }
        let written = self.file.write_all(&self.buffer).and_then(|()| self.file.sync_data());
        written.expect("the disk takes it");
        self.bytes += self.buffer.len() as u64;
    }

    fn check(&self, _: u64, bytes: usize) {
        assert_eq!(self.buffer.len(), self.shapes * (HEAD_BYTES + bytes));
        assert_eq!(len_of(&self.file), self.bytes);
    }
}

fn len_of(file: &File) -> u64 {
    file.metadata().expect("a file has a length").len()
}

/// Shape, commit, op; the change.
const LOGS: TableDefinition<'_, (u32, u64, u64), &[u8]> = TableDefinition::new("logs");

/// An embedded database, one durable commit a change.
struct Redb {
    database: Database,
    shapes: usize,
}

impl Redb {
    fn open(folder: &Path, shapes: usize) -> Redb {
        let database = Database::create(folder.join("shapes.redb")).expect("a database is made");
        Redb { database, shapes }
    }

    fn try_write(&self, offset: Offset, change: &[u8]) -> Result<(), redb::Error> {
        let transaction = self.database.begin_write()?;
        let mut logs = transaction.open_table(LOGS)?;
        for shape in 0..self.shapes {
            logs.insert((shape as u32, offset.commit.as_u64(), offset.op), change)?;
        }
        drop(logs);
        Ok(transaction.commit()?)
    }

    fn count(&self) -> Result<u64, redb::Error> {
        Ok(self.database.begin_read()?.open_table(LOGS)?.len()?)
    }
}

impl Baseline for Redb {
    fn write(&mut self, offset: Offset, change: &[u8]) {
        self.try_write(offset, change).expect("the database takes it");
    }

    fn check(&self, writes: u64, _: usize) {
        let count = self.count().expect("the database is read");
        assert_eq!(count, writes * self.shapes as u64);
    }
}

/// Another one, made for many writes.
struct Fjall {
    database: fjall::Database,
    logs: Keyspace,
    shapes: usize,
}

impl Fjall {
    fn open(folder: &Path, shapes: usize) -> Fjall {
        let database = fjall::Database::builder(folder).open().expect("a database is made");
        let logs = database.keyspace("logs", KeyspaceCreateOptions::default).expect("it is made");
        Fjall { database, logs, shapes }
    }
}

impl Baseline for Fjall {
    fn write(&mut self, offset: Offset, change: &[u8]) {
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncData));
        let offset = [offset.commit.as_u64().to_be_bytes(), offset.op.to_be_bytes()].concat();
        for shape in 0..self.shapes as u32 {
            let key = [&shape.to_be_bytes()[..], &offset].concat();
            batch.insert(&self.logs, key, change);
        }
        batch.commit().expect("the database takes it");
    }

    fn check(&self, writes: u64, _: usize) {
        let count = self.logs.len().expect("the database is read") as u64;
        assert_eq!(count, writes * self.shapes as u64);
    }
}
