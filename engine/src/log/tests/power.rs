//! Power cuts: a run is cut at every sync and inside every write, at every byte and with holes, and
//! what recovery finds is compared with what was acknowledged until then.

use super::super::device::{Device, ReadAt};
use super::super::header::Identity;
use super::super::{Recovered, RecoveredShape, recover};
use super::world::{Op, Seen, World, op};
use crate::words::{Offset, Slot};
use parking_lot::Mutex;
use proptest::prelude::*;
use std::io;
use std::sync::Arc;

const IDENTITY: Identity = Identity { directory: 7, shard: 0, shards: 1 };
const BLOCK_BYTES: usize = 400;
/// What a disk writes as a whole. Real ones write 512 bytes at least; our batches are small.
const SECTOR_BYTES: usize = 32;

#[derive(Clone)]
enum Event {
    Append(Vec<u8>),
    Sync,
}

/// A disk that remembers in which order it was written to and synced.
#[derive(Clone, Default)]
struct Disk {
    bytes: Arc<Mutex<Vec<u8>>>,
    events: Arc<Mutex<Vec<Event>>>,
}

impl Disk {
    fn holding(bytes: Vec<u8>) -> Disk {
        Disk { bytes: Arc::new(Mutex::new(bytes)), ..Disk::default() }
    }

    fn recover(&self) -> Recovered {
        recover(Box::new(self.clone()), &IDENTITY, BLOCK_BYTES).unwrap()
    }
}

impl Device for Disk {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.bytes.lock().extend(bytes);
        self.events.lock().push(Event::Append(bytes.to_vec()));
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.events.lock().push(Event::Sync);
        Ok(())
    }

    fn len(&self) -> u64 {
        self.bytes.lock().len() as u64
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.bytes.lock().truncate(len as usize);
        Ok(())
    }

    fn reader(&self) -> Arc<dyn ReadAt> {
        Arc::new(self.clone())
    }
}

impl ReadAt for Disk {
    fn name(&self) -> &str {
        "disk"
    }

    fn read_at(&self, into: &mut [u8], position: u64) -> io::Result<()> {
        let bytes = self.bytes.lock();
        let held = bytes.get(position as usize..).and_then(|rest| rest.get(..into.len()));
        into.copy_from_slice(held.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn release(&self, _position: u64) -> bool {
        false
    }
}

/// How far a run was at some moment.
#[derive(Clone, Copy, Default)]
struct Mark {
    /// How much of what it ever made readable a reader would get.
    readable: usize,
    /// How many lifecycle records it wrote.
    lifecycle: usize,
}

/// A run that was not cut.
struct Run {
    /// What the file held before, and what was written and synced then.
    start: Vec<u8>,
    events: Vec<Event>,
    /// By batch: what was acknowledged with it.
    acknowledged: Vec<Mark>,
    readable: Vec<Seen>,
    /// The living shapes and the last slot given out, by the number of lifecycle records.
    shapes: Vec<(Vec<RecoveredShape>, Option<Slot>)>,
}

fn run(ops: &[Op]) -> Run {
    let start = IDENTITY.header().to_vec();
    let disk = Disk::holding(start.clone());
    let mut world = World::new(disk.recover().parts());
    disk.events.lock().clear();
    let mut shapes = vec![(Vec::new(), None)];
    let mut acknowledged = Vec::new();
    for op in ops.iter().chain([&Op::Sync]) {
        let (before, slot) = shapes.last().cloned().unwrap();
        if !matches!(op, Op::Sync) {
            world.apply(op);
            if world.shapes != before {
                let slot = slot.max(world.shapes.last().map(|shape| shape.slot));
                shapes.push((world.shapes.clone(), slot));
            }
            continue;
        }
        let batch = world.take();
        world.syncer.commit(&batch).unwrap();
        world.synced();
        if !batch.is_empty() {
            let (readable, lifecycle) = (world.durable.len(), shapes.len() - 1);
            acknowledged.push(Mark { readable, lifecycle });
        }
    }
    let events = disk.events.lock().clone();
    Run { start, events, acknowledged, readable: world.durable, shapes }
}

impl Run {
    /// Recovers from a disk that holds `bytes`, at least `least` of which must be found, and at
    /// most `most`.
    fn check(&self, bytes: Vec<u8>, synced: &[u8], least: Mark, most: Mark) -> Disk {
        let disk = Disk::holding(bytes);
        let found = disk.recover();
        assert!(disk.bytes.lock().starts_with(synced), "what was synced stays");
        assert_eq!(found.last_commit, found.log.durable_commit());
        let expected = self.shapes.get(least.lifecycle..=most.lifecycle).unwrap();
        let next_slot = found.next_slot;
        assert!(
            expected.iter().any(|(shapes, last)| {
                *shapes == found.shapes && last.is_none_or(|last| last < next_slot)
            }),
            "{:?} is none of {expected:?}",
            found.shapes
        );
        let read = World::new(found.parts()).read(Offset::ZERO);
        assert!(read.len() >= least.readable && read.len() <= most.readable);
        assert!(self.readable.starts_with(&read));
        // Whole transactions: what is read ends with a commit.
        assert!(read.last().is_none_or(|last| last.slot.is_none()));
        disk
    }

    /// Goes on after a cut, and is not cut again.
    fn go_on(disk: &Disk, ops: &[Op]) {
        let found = disk.recover();
        let next_slot = found.next_slot.as_u32();
        let mut world = World::new(found.parts());
        (world.lsn, world.next_slot) = (1_000_000, next_slot);
        let mut expected = world.read(Offset::ZERO);
        ops.iter().for_each(|op| world.apply(op));
        world.sync();
        expected.append(&mut world.durable);
        assert_eq!(world.read(Offset::ZERO), expected);
        let again = World::new(disk.recover().parts());
        assert_eq!(again.read(Offset::ZERO), expected);
    }
}

/// `bytes` after `synced`, of which the disk wrote only the sectors that `mask` names.
fn with_holes(synced: &[u8], bytes: &[u8], mask: u64) -> Vec<u8> {
    let mut disk = [synced, bytes].concat();
    for (at, byte) in disk.iter_mut().enumerate().skip(synced.len()) {
        if mask >> (at / SECTOR_BYTES % 64) & 1 == 0 {
            *byte = 0;
        }
    }
    disk
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn what_was_acknowledged_survives_a_power_cut_at_any_moment(
        ops in prop::collection::vec(op(), 1..40), after in prop::collection::vec(op(), 1..12),
        masks: [u64; 6], cut in any::<prop::sample::Index>(),
    ) {
        let run = run(&ops);
        let (mut synced, mut pending) = (run.start.clone(), Vec::new());
        let mut batches = run.acknowledged.iter();
        let (mut least, mut most) = (Mark::default(), Mark::default());
        for event in &run.events {
            match event {
                Event::Append(bytes) => {
                    most = *batches.next().unwrap();
                    for len in 0..=bytes.len() {
                        let torn = [&synced[..], &bytes[..len]].concat();
                        let disk = run.check(torn, &synced, least, most);
                        if len == cut.index(bytes.len() + 1) {
                            Run::go_on(&disk, &after);
                        }
                    }
                    for mask in masks {
                        let torn = with_holes(&synced, bytes, mask);
                        Run::go_on(&run.check(torn, &synced, least, most), &after);
                    }
                    pending.extend(bytes);
                }
                Event::Sync => {
                    // From here on the batch may be acknowledged, so it must be there.
                    synced.append(&mut pending);
                    least = most;
                    Run::go_on(&run.check(synced.clone(), &synced, least, most), &after);
                }
            }
        }
        prop_assert_eq!(least.readable, run.readable.len());
        prop_assert!(batches.next().is_none());
    }
}
