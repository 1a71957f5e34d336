//! Power cuts and failing disks: a run over several files is cut before and after each operation of
//! the disk and inside every write, with any part of what was not synced, and fails at each
//! operation; what recovery finds is compared with what was acknowledged until then.

use super::super::header::Identity;
use super::super::segments::Segments;
use super::super::{Log, LogError, ReadLimits, Recovered, RecoveredShape, read_shape, recover};
use super::disk::{Contents, Disk};
use super::world::{Op, Seen, World, op};
use crate::words::{Offset, Slot};
use proptest::prelude::*;
use std::sync::Arc;

const IDENTITY: Identity = Identity { directory: 7, shard: 0, shards: 1 };
const BLOCK_BYTES: usize = 400;

fn recovered(disk: &Disk, segment_bytes: u64) -> Recovered {
    let segments = Segments::open(Arc::new(disk.clone()), IDENTITY, segment_bytes).unwrap();
    recover(Box::new(segments), &IDENTITY, BLOCK_BYTES).unwrap()
}

/// How far a run was at some moment.
#[derive(Clone, Copy, Debug, Default)]
struct Mark {
    /// How much of what it ever made readable a reader would get.
    readable: usize,
    /// How many lifecycle records it wrote.
    lifecycle: usize,
}

/// A batch: the disk's events before it and after it, and what was acknowledged with it.
type Synced = (usize, usize, Mark);

/// A run, which may have ended with a failure of its disk.
struct Run {
    disk: Disk,
    segment_bytes: u64,
    batches: Vec<Synced>,
    readable: Vec<Seen>,
    /// The living shapes and the last slot given out, by the number of lifecycle records.
    shapes: Vec<(Vec<RecoveredShape>, Option<Slot>)>,
    failed: bool,
}

fn run(ops: &[Op], segment_bytes: u64, fails_after: Option<usize>) -> Run {
    let start = [("shard-000.log".to_owned(), IDENTITY.header().to_vec())].into();
    let disk = Disk::holding(&start);
    let mut world = World::new(recovered(&disk, segment_bytes).parts());
    fails_after.into_iter().for_each(|operations| disk.fail_after(operations));
    let mut shapes = vec![(Vec::new(), None)];
    let (mut batches, mut failed) = (Vec::new(), false);
    for op in ops.iter().chain([&Op::Sync, &Op::Seal]) {
        let (before, slot) = shapes.last().cloned().unwrap();
        if !matches!(op, Op::Sync) {
            world.apply(op);
            if world.shapes != before {
                let slot = slot.max(world.shapes.last().map(|shape| shape.slot));
                shapes.push((world.shapes.clone(), slot));
            }
            continue;
        }
        let events = disk.events();
        let batch = world.take();
        let synced = world.syncer.commit(&batch);
        let mark = |readable| Mark { readable, lifecycle: shapes.len() - 1 };
        match synced {
            Ok(()) => {
                world.synced();
                batches.push((events, disk.events(), mark(world.durable.len())));
            }
            Err(error) => {
                // Refused for good, and nothing of it can be read here.
                assert!(matches!(error, LogError::Full { .. }), "{error}");
                let again = world.syncer.commit(&world.encoder.take(Vec::new()));
                assert!(matches!(again, Err(LogError::Failed { .. })));
                assert_eq!(world.read(Offset::ZERO), world.durable);
                // It may be on the disk all the same.
                world.synced();
                batches.push((events, usize::MAX, mark(world.durable.len())));
                failed = true;
                break;
            }
        }
    }
    Run { disk, segment_bytes, batches, readable: world.durable, shapes, failed }
}

impl Run {
    /// What must be found, and what may be found, after `events` of the disk's events.
    fn bounds(&self, events: usize) -> (Mark, Mark) {
        let last = |counts: &dyn Fn(&&Synced) -> bool| {
            self.batches.iter().rev().find(counts).map(|batch| batch.2).unwrap_or_default()
        };
        // A batch that is being written when the disk is cut may be there.
        (last(&|batch| batch.1 <= events), last(&|batch| batch.0 <= events))
    }

    /// Recovers from `contents`, at least `least` of which must be found, and at most `most`.
    fn check(&self, contents: &Contents, (least, most): (Mark, Mark)) -> Disk {
        let disk = Disk::holding(contents);
        let found = recovered(&disk, self.segment_bytes);
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
        let world = World::new(found.parts());
        let read = world.read(Offset::ZERO);
        check_slots(&world.log, &read);
        assert!(read.len() >= least.readable && read.len() <= most.readable);
        assert!(self.readable.starts_with(&read));
        // Whole transactions: what is read ends with a commit.
        assert!(read.last().is_none_or(|last| last.slot.is_none()));
        disk
    }

    /// Goes on after a cut, and is not cut again.
    fn go_on(&self, disk: &Disk, ops: &[Op]) {
        let found = recovered(disk, self.segment_bytes);
        let next_slot = found.next_slot.as_u32();
        let mut world = World::new(found.parts());
        (world.lsn, world.next_slot) = (1_000_000, next_slot);
        let mut expected = world.read(Offset::ZERO);
        ops.iter().for_each(|op| world.apply(op));
        world.sync();
        expected.append(&mut world.durable);
        assert_eq!(world.read(Offset::ZERO), expected);
        let again = World::new(recovered(disk, self.segment_bytes).parts());
        assert_eq!(again.read(Offset::ZERO), expected);
    }
}

/// Who reads one slot's log gets what lies in the whole one.
fn check_slots(log: &Log, all: &[Seen]) {
    for slot in all.iter().filter_map(|seen| seen.slot).take(3) {
        let own = all.iter().filter(|seen| seen.slot == Some(slot));
        let own: Vec<_> = own.map(|seen| seen.offset).collect();
        let page = read_shape(log, slot, Offset::ZERO, ReadLimits::default()).unwrap();
        let read: Vec<_> = page.changes.iter().map(|change| change.offset()).collect();
        assert_eq!(read, own);
    }
}

/// What lies beside a segment under its name is whole.
fn check_indexes(contents: &Contents, written: &Contents) {
    for (name, bytes) in contents.iter().filter(|(name, _)| name.ends_with(".idx")) {
        assert_eq!(Some(bytes), written.get(name), "{name}");
    }
}

/// Files of one block or a few, or one that is never left.
fn segment_bytes() -> impl Strategy<Value = u64> {
    prop::sample::select(vec![0, 300, 1_000, u64::MAX])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn what_was_acknowledged_survives_a_power_cut_at_any_moment(
        ops in prop::collection::vec(op(), 1..30), after in prop::collection::vec(op(), 1..12),
        segment_bytes in segment_bytes(), masks: [u64; 3], every in 1usize..40,
        cut in any::<prop::sample::Index>(),
    ) {
        let run = run(&ops, segment_bytes, None);
        for events in 0..=run.disk.events() {
            let states = run.disk.cut(events, &masks, every);
            let goes_on = cut.index(states.len());
            for (index, contents) in states.iter().enumerate() {
                check_indexes(contents, &run.disk.contents());
                let disk = run.check(contents, run.bounds(events));
                if index == goes_on {
                    run.go_on(&disk, &after);
                }
            }
        }
        let files = run.disk.contents().len();
        prop_assert!(files == 1 || segment_bytes < u64::MAX);
    }

    #[test]
    fn a_disk_that_fails_at_any_operation_loses_nothing_that_was_acknowledged(
        ops in prop::collection::vec(op(), 1..30), after in prop::collection::vec(op(), 1..12),
        segment_bytes in segment_bytes(), masks: [u64; 2],
    ) {
        for operations in 0.. {
            let run = run(&ops, segment_bytes, Some(operations));
            if !run.failed {
                break;
            }
            let events = run.disk.events();
            // Started again as it is, and after a power cut on top of it.
            let mut states = run.disk.cut(events, &masks, 1);
            states.push(run.disk.contents());
            for contents in &states {
                run.go_on(&run.check(contents, run.bounds(events)), &after);
            }
        }
    }
}
