//! Sealed indexes: a log with them reads and is recovered as one without; one that is missing,
//! damaged or another's is built anew; and what they are for: neither who reads a quiet shape nor a
//! start reads the segments that they tell of.

use super::super::device::{Device, ReadAt, Storage};
use super::super::files::index_name;
use super::super::header::Identity;
use super::super::segments::Segments;
use super::super::{ReadLimits, Recovered, RecoveredShape, read_shape, recover};
use super::disk::{Contents, Disk};
use super::paging::check_pages;
use super::quiet::{BLOCK_BYTES, QUIET, Writer, read_all};
use super::world::{Op, World, op};
use crate::sync::{AtomicU64, Ordering};
use crate::words::{Offset, Slot};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use std::io;
use std::sync::Arc;
use std::time::Duration;

const IDENTITY: Identity = Identity { directory: 9, shard: 1, shards: 2 };

fn new_disk() -> Disk {
    Disk::holding(&[("shard-001.log".to_owned(), IDENTITY.header().to_vec())].into())
}

fn open(storage: Arc<dyn Storage>, segment_bytes: u64, block_bytes: usize) -> Recovered {
    let segments = Segments::open(storage, IDENTITY, segment_bytes).unwrap();
    recover(Box::new(segments), &IDENTITY, block_bytes).unwrap()
}

fn indexes(contents: &Contents) -> Vec<String> {
    contents.keys().filter(|name| name.ends_with(".idx")).cloned().collect()
}

fn segments(contents: &Contents) -> usize {
    contents.keys().filter(|name| name.ends_with(".log")).count()
}

/// What became of the indexes between two lives.
#[derive(Clone, Debug)]
enum Loss {
    Nothing,
    Gone(prop::sample::Index),
    Damaged(prop::sample::Index, prop::sample::Index),
    All,
}

fn loss() -> impl Strategy<Value = Loss> {
    prop_oneof![
        3 => Just(Loss::Nothing),
        1 => any::<prop::sample::Index>().prop_map(Loss::Gone),
        2 => any::<(prop::sample::Index, prop::sample::Index)>()
            .prop_map(|(file, at)| Loss::Damaged(file, at)),
        1 => Just(Loss::All),
    ]
}

impl Loss {
    fn strike(&self, disk: &Disk) {
        let contents = disk.contents();
        let names = indexes(&contents);
        match self {
            _ if names.is_empty() => {}
            Loss::Nothing => {}
            Loss::Gone(file) => disk.remove(file.get::<String>(&names)),
            Loss::Damaged(file, at) => {
                let name = file.get::<String>(&names);
                disk.damage(name, at.index(contents[name].len()));
            }
            Loss::All => names.iter().for_each(|name| disk.remove(name)),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn pages_are_what_was_delivered_while_segments_roll_are_sealed_and_found_again(
        lives in prop::collection::vec((prop::collection::vec(op(), 1..25), loss()), 1..4),
        segment_bytes in prop::sample::select(vec![0u64, 300, 1_000, 4_000]),
        block_bytes in 100usize..1_500,
    ) {
        let disk = new_disk();
        let open = || open(Arc::new(disk.clone()), segment_bytes, block_bytes);
        let mut world = World::new(open().parts());
        for (life, loss) in &lives {
            life.iter().for_each(|op| world.apply(op));
            world.sync();
            check_pages(&world);
            world.apply(&Op::Seal);
            let contents = disk.contents();
            prop_assert_eq!(indexes(&contents).len(), segments(&contents) - 1);
            prop_assert!(world.log.kept_segments() == 1);
            check_pages(&world);
            world.check();
            loss.strike(&disk);
            check_pages(&world);
            let found = open();
            prop_assert_eq!(&found.shapes, &world.shapes);
            prop_assert!(found.next_slot.as_u32() <= world.next_slot);
            world = world.restarted(found.parts());
            check_pages(&world);
            world.check();
            world.send_again();
        }
        world.sync();
        check_pages(&world);
    }
}

/// A log of some segments, all sealed, and all that can be read of it.
fn written() -> (Contents, World) {
    let disk = new_disk();
    let mut world = World::new(open(Arc::new(disk.clone()), 2_000, 600).parts());
    let mut runner = TestRunner::deterministic();
    while segments(&disk.contents()) < 5 {
        world.apply(&op().new_tree(&mut runner).unwrap().current());
    }
    world.sync();
    world.apply(&Op::Seal);
    (disk.contents(), world)
}

/// Opens `contents` with what is wrong in them; reads the same, and leaves the right index.
fn heals(contents: &Contents, right: &Contents, world: World, seals: bool) -> World {
    let disk = Disk::holding(contents);
    let found = open(Arc::new(disk.clone()), 2_000, 600);
    assert_eq!(found.shapes, world.shapes);
    let world = world.restarted(found.parts());
    if seals {
        while world.log.seal().unwrap() {}
    }
    // Every page is looked at: damage in one is met then.
    for slot in (0..400).step_by(40).chain((0..70_000).step_by(1_024)) {
        let limits = ReadLimits { changes_max: usize::MAX, bytes_max: usize::MAX };
        let page = read_shape(&world.log, Slot::new(slot), Offset::ZERO, limits).unwrap();
        let read: Vec<_> = page.changes.iter().map(|change| change.offset()).collect();
        let own = world.durable.iter().filter(|seen| seen.slot == Some(Slot::new(slot)));
        assert_eq!(read, own.map(|seen| seen.offset).collect::<Vec<_>>());
    }
    if seals {
        let left = disk.contents();
        for (name, bytes) in right {
            let differs = bytes.iter().zip(&left[name]).position(|(one, other)| one != other);
            assert!(left[name] == *bytes, "{name} of {} bytes: {differs:?}", bytes.len());
        }
    }
    world
}

#[test]
fn an_index_that_is_missing_damaged_or_anothers_is_built_anew() {
    let (right, mut world) = written();
    let name = index_name(1, 2);
    let len = right[&name].len();
    let mut wrong = Vec::new();
    let mut with = |change: &dyn Fn(&mut Contents)| {
        let mut contents = right.clone();
        change(&mut contents);
        assert!(contents != right);
        wrong.push(contents);
    };
    with(&|files| drop(files.remove(&name)));
    for at in (0..len).step_by(3) {
        with(&|files| files.get_mut(&name).unwrap()[at] ^= 16);
    }
    for kept in [0, 1, 40, 80, len / 2, len - 1] {
        with(&|files| files.get_mut(&name).unwrap().truncate(kept));
    }
    with(&|files| files.get_mut(&name).unwrap().push(0));
    // Another segment's.
    with(&|files| drop(files.insert(name.clone(), right[&index_name(1, 1)].clone())));
    for (number, contents) in wrong.iter().enumerate() {
        world = heals(contents, &right, world, true);
        if number % 16 == 0 {
            world = heals(contents, &right, world, false);
        }
    }
}

/// The same history in another directory, or in another shard: every byte but the identity's.
#[test]
fn the_index_of_another_directory_is_not_taken() {
    let (right, world) = written();
    let name = index_name(1, 1);
    let mut foreign = right.clone();
    for at in 12..36 {
        foreign.get_mut(&name).unwrap()[at] ^= 1;
        let header = foreign[&name][..72].to_vec();
        let directory = u128::from_le_bytes(header[20..36].try_into().unwrap());
        let number = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().unwrap());
        let identity = Identity { directory, shard: number(12), shards: number(16) };
        let crc = super::super::frame::checksum(&header, identity.seed());
        foreign.get_mut(&name).unwrap()[72..76].copy_from_slice(&crc.to_le_bytes());
    }
    heals(&foreign, &right, world, true);
}

/// A disk that counts what is read of logs and of indexes.
struct Counted {
    disk: Disk,
    logs: Arc<AtomicU64>,
    indexes: Arc<AtomicU64>,
}

struct CountedFile {
    file: Box<dyn Device>,
    read: Arc<AtomicU64>,
}

struct CountedBytes {
    bytes: Arc<dyn ReadAt>,
    read: Arc<AtomicU64>,
}

impl Storage for Counted {
    fn names(&self) -> io::Result<Vec<String>> {
        self.disk.names()
    }

    fn path_of(&self, name: &str) -> String {
        self.disk.path_of(name)
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn Device>> {
        let read = if name.ends_with(".log") { &self.logs } else { &self.indexes };
        Ok(Box::new(CountedFile { file: self.disk.open(name)?, read: Arc::clone(read) }))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn Device>> {
        self.disk.create(name)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        Storage::remove(&self.disk, name)
    }

    fn modified(&self, name: &str) -> io::Result<Duration> {
        self.disk.modified(name)
    }

    fn sync(&self) -> io::Result<()> {
        Storage::sync(&self.disk)
    }
}

impl Device for CountedFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.append(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync()
    }

    fn len(&self) -> u64 {
        self.file.len()
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.file.truncate(len)
    }

    fn reader(&self) -> Arc<dyn ReadAt> {
        Arc::new(CountedBytes { bytes: self.file.reader(), read: Arc::clone(&self.read) })
    }
}

impl ReadAt for CountedBytes {
    fn name(&self) -> &str {
        self.bytes.name()
    }

    fn read_at(&self, into: &mut [u8], position: u64) -> io::Result<()> {
        self.read.fetch_add(into.len() as u64, Ordering::Relaxed);
        self.bytes.read_at(into, position)
    }

    fn release(&self, position: u64) -> bool {
        self.bytes.release(position)
    }
}

#[test]
fn neither_a_start_nor_a_quiet_shape_s_reader_reads_what_is_sealed() {
    let disk = new_disk();
    let segment_bytes = 4 * BLOCK_BYTES as u64;
    let found = open(Arc::new(disk.clone()), segment_bytes, BLOCK_BYTES);
    let (encoder, syncer, log) = found.parts();
    let mut writer = Writer::new(encoder, syncer);
    let mut quiet = Vec::new();
    while log.bytes() < 60 * BLOCK_BYTES as u64 {
        let own: &[u32] = if writer.lsn % 12_000 == 5_000 { &[QUIET, 300] } else { &[300] };
        let offset = Offset::new(writer.commit(own, false), 2);
        quiet.extend((own.len() > 1).then_some(offset));
    }
    assert!(quiet.len() > 5);
    while log.seal().unwrap() {}
    assert_eq!(log.kept_segments(), 1);
    drop((writer, log));
    let counted =
        Arc::new(Counted { disk: disk.clone(), logs: Arc::default(), indexes: Arc::default() });
    let read = |counter: &AtomicU64| counter.swap(0, Ordering::Relaxed);
    let found = open(Arc::clone(&counted) as Arc<dyn Storage>, segment_bytes, BLOCK_BYTES);
    // The last segment, and the headers of all.
    assert!(read(&counted.logs) < 3 * segment_bytes / 2);
    assert!(found.log.kept_segments() == 1);
    assert!(read(&counted.indexes) < segment_bytes / 4);
    // Its records and their table's, each by itself: also of what lies in the last segment.
    let (offsets, _) = read_all(&found.log, &counted.logs, QUIET);
    assert_eq!(offsets, quiet);
    assert!(read(&counted.logs) <= quiet.len() as u64 * 2 * 4_096);
    assert!(read(&counted.indexes) < segment_bytes / 4);
    let (offsets, _) = read_all(&found.log, &counted.logs, 50);
    assert_eq!((offsets, read(&counted.logs)), (Vec::new(), 0));
}

/// What a shape is lies in a sealed segment as it lies in any other.
#[test]
fn shapes_that_await_their_rows_are_found_in_a_sealed_segment() {
    let disk = new_disk();
    let mut world = World::new(open(Arc::new(disk.clone()), 300, 100).parts());
    let awaits =
        |shapes: &[RecoveredShape]| shapes.iter().filter(|shape| shape.awaits_snapshot).count();
    while awaits(&world.shapes) < 2 {
        world.apply(&Op::AddShape(None));
        world.apply(&Op::Passed);
    }
    world.sync();
    let mut runner = TestRunner::deterministic();
    while segments(&disk.contents()) < 4 {
        match op().new_tree(&mut runner).unwrap().current() {
            Op::AddShape(_) | Op::EndShape(..) => {}
            op => world.apply(&op),
        }
    }
    world.sync();
    world.apply(&Op::Seal);
    let found = open(Arc::new(disk.clone()), 300, 100);
    assert_eq!(found.log.kept_segments(), 1);
    assert_eq!(found.shapes, world.shapes);
    assert!((1..found.shapes.len()).contains(&awaits(&found.shapes)));
}

/// What cannot be written is used all the same, and so is what is damaged while the log is open.
#[test]
fn an_index_that_cannot_be_written_is_used_from_memory() {
    let (mut contents, world) = written();
    contents.remove(&index_name(1, 1));
    let disk = Disk::holding(&contents);
    let found = open(Arc::new(disk.clone()), 2_000, 600);
    let world = world.restarted(found.parts());
    disk.fail_after(0);
    check_pages(&world);
    assert!(disk.contents() == contents);
}
