//! Thinning: what shapes keep and lose of old files equals what a list says; a power cut and a
//! failure at each operation of the disk leave a log that is whole; readers beside it miss nothing.

mod again;

use super::super::header::Identity;
use super::super::segments::Segments;
use super::super::{
    LogError, ReadLimits, Recovered, Retention, Step, Thinner, read_shape, recover,
};
use super::disk::{Contents, Disk};
use super::world::{Op, Seen, World, op, show};
use crate::words::{Lsn, Offset, Slot};
use proptest::prelude::*;
use roaring::RoaringBitmap;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const IDENTITY: Identity = Identity { directory: 7, shard: 0, shards: 1 };
const BLOCK_BYTES: usize = 300;
const SEGMENT_BYTES: u64 = 500;
/// Shapes in slots from here on do not live.
const LIVING: u32 = 350;
/// Files are old then.
const LATER: Duration = Duration::from_secs(1_000);

/// Everything that can be is thinned.
fn all(shape_bytes: u64) -> Retention {
    Retention { bytes_max: 0, age_max: None, shape_bytes, loading_bytes: u64::MAX }
}

struct Kept {
    disk: Disk,
    world: World,
    thinner: Thinner,
    retention: Retention,
}

fn open(disk: &Disk, retention: Retention) -> (Recovered, Thinner) {
    let segments = Segments::open(Arc::new(disk.clone()), IDENTITY, SEGMENT_BYTES).unwrap();
    let files = segments.files();
    let found = recover(Box::new(segments), &IDENTITY, BLOCK_BYTES).unwrap();
    let thinner = Thinner::new(Arc::clone(&found.log), files, retention, BLOCK_BYTES);
    (found, thinner)
}

impl Kept {
    fn new(retention: Retention) -> Kept {
        let start = [("shard-000.log".to_owned(), IDENTITY.header().to_vec())].into();
        let disk = Disk::holding(&start);
        let (found, thinner) = open(&disk, retention);
        Kept { disk, world: World::new(found.parts()), thinner, retention }
    }

    /// The same shard in its next life, on `disk`.
    fn reopened(self, disk: Disk) -> Kept {
        let (found, thinner) = open(&disk, self.retention);
        assert_eq!(found.shapes, self.world.shapes);
        assert_eq!(found.last_commit, found.log.durable_commit());
        // A commit of which nothing was logged is not in there.
        assert!(found.last_commit <= self.world.durable_through);
        assert!(found.next_slot.as_u32() <= self.world.next_slot);
        check_given(&self.world, &found);
        let world = self.world.restarted(found.parts());
        Kept { disk, world, thinner, ..self }
    }

    fn apply(&mut self, ops: &[Op]) {
        ops.iter().for_each(|op| self.world.apply(op));
        self.world.sync();
        self.live();
    }

    /// Shapes live that were never added, so that what the world delivers is kept.
    fn live(&self) {
        let mut living: RoaringBitmap = (0..LIVING).collect();
        living.remove_range(..self.world.next_slot);
        living.extend(self.world.shapes.iter().map(|shape| shape.slot.as_u32()));
        self.world.log.claims().set_living(living);
        self.world.log.claims().keep_above(self.world.durable_through);
    }

    /// Only what is sealed is thinned.
    fn seal(&self) {
        while self.world.log.seal().is_ok_and(|sealed| sealed) {}
    }

    /// Steps until there is nothing to do; how often something was freed.
    fn thin(&mut self) -> Result<usize, LogError> {
        let mut freed = 0;
        self.seal();
        loop {
            match self.thinner.step(LATER)? {
                Step::Rest => return Ok(freed),
                Step::More => {}
                Step::Freed(_) => freed += 1,
            }
        }
    }

    fn by_slot(&self) -> BTreeMap<u32, Vec<&Seen>> {
        let mut by_slot: BTreeMap<u32, Vec<&Seen>> = BTreeMap::new();
        let living = self.world.log.claims().shapes().0;
        for seen in &self.world.durable {
            let slot = seen.slot.map(Slot::as_u32).filter(|slot| living.contains(*slot));
            slot.into_iter().for_each(|slot| by_slot.entry(slot).or_default().push(seen));
        }
        by_slot
    }

    fn starts(&self) -> BTreeMap<u32, Offset> {
        let start = |slot| (slot, self.world.log.start_of(Slot::new(slot)));
        self.world.log.claims().shapes().0.iter().map(start).collect()
    }

    /// Every shape has everything after its start, and is refused below it; who is within the
    /// quota in what was thinned begins at the beginning, and nobody else does.
    fn check(&self) {
        let thinned = self.thinner.front().map_or(Lsn::ZERO, |front| front.last_commit);
        for (slot, all) in self.by_slot() {
            let start = self.world.log.start_of(Slot::new(slot));
            check_shape(&self.world, slot, &all);
            let old = all.iter().take_while(|seen| seen.offset.commit <= thinned);
            let weight = old.clone().map(|seen| seen.weight).sum::<u64>();
            let kept = old.filter(|seen| seen.offset > start).map(|seen| seen.weight);
            assert!(kept.sum::<u64>() <= self.retention.shape_bytes);
            let is_cut = start > Offset::ZERO;
            assert_eq!(is_cut, weight > self.retention.shape_bytes, "{slot}: {weight}");
            assert!(!is_cut || all.iter().any(|seen| seen.offset == start));
        }
    }
}

/// R8: what was given out once is not given out again, also where all of it is gone.
fn check_given(world: &World, found: &Recovered) {
    let Some((slot, handle)) = world.given else { return };
    assert!(found.next_slot > slot, "{slot} would be given out again");
    assert!(found.max_handle >= Some(handle), "{handle} would be given out again");
}

/// What can be read of a shape that was delivered `all`.
fn check_shape(world: &World, slot: u32, all: &[&Seen]) {
    let slot = Slot::new(slot);
    let start = world.log.start_of(slot);
    let limits = ReadLimits { changes_max: 5, ..ReadLimits::default() };
    let befores = all.iter().map(|seen| seen.offset).filter(|offset| *offset < start);
    for after in befores.chain((start > Offset::ZERO).then_some(Offset::ZERO)) {
        let refused = read_shape(&world.log, slot, after, limits).unwrap_err();
        let LogError::BelowStart { after: asked, start: told } = refused else {
            panic!("{refused}")
        };
        assert_eq!((asked, told), (after, start));
    }
    let mut rest = all.iter().filter(|seen| seen.offset > start);
    let mut at = start;
    loop {
        let page = read_shape(&world.log, slot, at, limits).unwrap();
        for change in &page.changes {
            let seen = rest.next().expect("nothing else was delivered");
            let (old, new) = (change.old_row(), change.new_row());
            let shown = show(change.operation(), &old, &new, change.relation(), change.xid());
            assert_eq!((change.offset(), shown), (seen.offset, seen.shown.clone()), "{slot}");
        }
        at = page.through;
        if page.up_to_date {
            break;
        }
    }
    assert_eq!(rest.next(), None, "{slot} after {start}");
}

fn rounds() -> impl Strategy<Value = Vec<(Vec<Op>, bool)>> {
    let round = (prop::collection::vec(op(), 1..50), any::<bool>());
    prop::collection::vec(round, 1..6)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_shape_has_what_it_keeps_through_rolls_thinning_and_restarts(
        rounds in rounds(), shape_bytes in prop::sample::select(vec![0, 60, 300, 2_000]),
    ) {
        let mut kept = Kept::new(all(shape_bytes));
        for (ops, reopens) in &rounds {
            kept.apply(ops);
            kept.thin().unwrap();
            kept.check();
            if *reopens {
                let starts = kept.starts();
                let disk = kept.disk.clone();
                kept = kept.reopened(disk);
                kept.live();
                prop_assert_eq!(kept.starts(), starts);
                kept.check();
                kept.world.send_again();
            }
        }
    }

}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4))]

    /// What the disk holds after a cut is the old log or the new one, whole, and it goes on.
    #[test]
    fn a_power_cut_at_any_moment_of_a_thinning_loses_nothing_that_is_kept(
        first in prop::collection::vec(op(), 20..60), second in prop::collection::vec(op(), 10..40),
        after in prop::collection::vec(op(), 1..30),
        shape_bytes in prop::sample::select(vec![0, 100, 600]), masks: [u64; 2],
    ) {
        let mut kept = Kept::new(all(shape_bytes));
        kept.apply(&first);
        kept.thin().unwrap();
        let disk = Disk::holding(&kept.disk.contents());
        kept = kept.reopened(disk);
        kept.world.send_again();
        kept.apply(&second);
        let before = (kept.disk.events(), kept.starts());
        kept.thin().unwrap();
        let starts = [before.1, kept.starts()];
        for events in before.0..=kept.disk.events() {
            let states = kept.disk.cut(events, &masks, 31);
            for (index, contents) in states.iter().enumerate() {
                let ops = (index == events % states.len()).then_some(&*after);
                check_cut(&kept, contents, &starts, ops);
            }
        }
    }

    /// The old log stays, here and on the disk; when the disk is well again it is thinned.
    #[test]
    fn a_disk_that_fails_at_any_operation_of_a_thinning_leaves_the_log_as_it_was(
        ops in prop::collection::vec(op(), 20..60), after in prop::collection::vec(op(), 1..30),
        shape_bytes in prop::sample::select(vec![0, 100, 600]), masks: [u64; 2],
    ) {
        for operations in 0.. {
            let mut kept = Kept::new(all(shape_bytes));
            kept.apply(&ops);
            kept.seal();
            let (whole, events) = (kept.starts(), kept.disk.events());
            kept.disk.fail_after(operations);
            let result = kept.thin();
            let failed = result.is_err();
            if let Err(error) = &result {
                let told = matches!(error, LogError::NotThinned { .. });
                prop_assert!(told, "{}", error);
                prop_assert_eq!(&kept.starts(), &whole);
            }
            let starts = [whole, kept.starts()];
            for (slot, all) in kept.by_slot() {
                check_shape(&kept.world, slot, &all);
            }
            kept.disk.heal();
            if failed {
                let mut states = kept.disk.cut(kept.disk.events(), &masks, 1);
                states.push(kept.disk.contents());
                // After the last of them the new log may be there.
                let new = thinned(&kept);
                let starts = [starts[0].clone(), new];
                for (index, contents) in states.iter().enumerate() {
                    let ops = (index == operations % states.len()).then_some(&*after);
                    check_cut(&kept, contents, &starts, ops);
                }
            }
            kept.apply(&after);
            let freed = kept.thin().unwrap();
            // What has which name on the disk is not known.
            let unnamed = matches!(&result, Err(LogError::NotThinned { what: "renaming", .. }));
            prop_assert!(!unnamed || freed == 0);
            for (slot, all) in kept.by_slot() {
                check_shape(&kept.world, slot, &all);
            }
            if kept.disk.events() - events <= operations {
                break;
            }
        }
    }
}

/// Where shapes begin when the log of `kept` is thinned.
fn thinned(kept: &Kept) -> BTreeMap<u32, Offset> {
    let (found, mut thinner) = open(&Disk::holding(&kept.disk.contents()), kept.retention);
    found.log.claims().set_living(kept.world.log.claims().shapes().0);
    found.log.claims().keep_above(kept.world.log.claims().owed_above());
    while found.log.seal().unwrap() {}
    while thinner.step(LATER).unwrap() != Step::Rest {}
    let start = |slot| (slot, found.log.start_of(Slot::new(slot)));
    found.log.claims().shapes().0.iter().map(start).collect()
}

/// Opens what a cut left of the log of `kept`, in which shapes begin at one or the other of
/// `starts`, and goes on with `ops`, if there are any.
fn check_cut(
    kept: &Kept,
    contents: &Contents,
    starts: &[BTreeMap<u32, Offset>],
    ops: Option<&[Op]>,
) {
    let disk = Disk::holding(contents);
    let (found, thinner) = open(&disk, kept.retention);
    let world = &kept.world;
    assert_eq!(found.shapes, world.shapes);
    assert_eq!(found.last_commit, world.log.durable_commit().min(found.last_commit));
    check_given(world, &found);
    found.log.claims().set_living(world.log.claims().shapes().0);
    let of = |slot: &u32| (*slot, found.log.start_of(Slot::new(*slot)));
    let now: BTreeMap<_, _> = starts[0].keys().map(of).collect();
    assert!(starts.contains(&now), "{now:?} is none of {starts:?}");
    let next_slot = world.next_slot.max(found.next_slot.as_u32());
    let mut again = World::new(found.parts());
    (again.lsn, again.next_slot) = (1_000_000, next_slot);
    again.durable = world.durable.clone();
    again.shapes = world.shapes.clone();
    again.durable_through = again.log.durable_commit();
    again.committed_through = again.durable_through;
    let mut again = Kept { disk: disk.clone(), world: again, thinner, retention: kept.retention };
    again.live();
    for (slot, all) in again.by_slot() {
        check_shape(&again.world, slot, &all);
    }
    let Some(ops) = ops else { return };
    again.apply(ops);
    again.thin().unwrap();
    again.check();
    let files = disk.contents().len();
    let again = again.reopened(disk.clone());
    again.live();
    again.check();
    // What the cut left of removed files is gone.
    assert!(disk.contents().len() <= files);
    let names = disk.contents();
    assert!(names.keys().all(|name| !name.ends_with(".new")), "{:?}", names.keys());
}

/// Transactions are 10 apart and one row each, to slot 0, and every 20th to slot 1 too, which is
/// within its quota and is never told to start over.
#[test]
fn readers_beside_one_who_thins_see_neither_gap_nor_error() {
    const LAST: u64 = 3_000;
    let mut kept = Kept::new(all(30_000));
    let log = Arc::clone(&kept.world.log);
    log.claims().set_living((0..2).collect());
    let (writes, written) = crossbeam_channel::bounded::<()>(0);
    let follow = |slot: u32, every: u64, written: crossbeam_channel::Receiver<()>| {
        let (mut at, mut seen, mut started_over) = (Offset::ZERO, 0, 0);
        loop {
            let last = written.try_recv() == Err(crossbeam_channel::TryRecvError::Disconnected);
            match read_shape(&log, Slot::new(slot), at, ReadLimits::default()) {
                Ok(page) => {
                    for change in &page.changes {
                        assert_eq!(change.commit_lsn(), Lsn::new(10 * every * (seen + 1)));
                        seen += 1;
                    }
                    at = page.through;
                    if last && page.up_to_date {
                        return (seen, started_over);
                    }
                }
                Err(LogError::BelowStart { after, start }) => {
                    assert!(after == at && start > at);
                    (at, seen) = (start, start.commit.as_u64() / (10 * every));
                    started_over += 1;
                }
                Err(error) => panic!("{error}"),
            }
        }
    };
    let follow = &follow;
    std::thread::scope(|scope| {
        let readers = [(0, 1), (1, 20), (0, 1), (1, 20)].map(|(slot, every)| {
            let written = written.clone();
            scope.spawn(move || follow(slot, every, written))
        });
        for n in 1..=LAST {
            kept.world.deliver(10 * n, if n % 20 == 0 { &[0, 1] } else { &[0] });
            kept.world.log.claims().keep_above(Lsn::new(10 * n));
            kept.thin().unwrap();
        }
        drop(writes);
        for (index, reader) in readers.into_iter().enumerate() {
            let (seen, started_over) = reader.join().unwrap();
            let every = if index % 2 == 0 { 1 } else { 20 };
            assert_eq!(seen, LAST / every);
            assert!(index % 2 == 0 || started_over == 0);
        }
    });
    assert!(kept.world.log.start_of(Slot::new(0)) > Offset::ZERO);
    assert_eq!(kept.world.log.start_of(Slot::new(1)), Offset::ZERO);
}

/// What follows initial rows stays until these are complete, within a bound of its own.
#[test]
fn a_shape_whose_rows_are_being_loaded_keeps_what_follows_them() {
    for (loading_bytes, stays) in [(u64::MAX, true), (300, false)] {
        let mut kept = Kept::new(Retention { loading_bytes, ..all(100) });
        let log = Arc::clone(&kept.world.log);
        log.claims().set_living((0..2).collect());
        log.claims().hold(Slot::new(1));
        let mut more = |commits: std::ops::Range<u64>| {
            for n in commits {
                kept.world.deliver(10 * n, &[0, 1]);
                log.claims().keep_above(Lsn::new(10 * n));
            }
            kept.thin().unwrap();
            [0, 1].map(|slot| log.start_of(Slot::new(slot)) > Offset::ZERO)
        };
        assert_eq!(more(1..200), [true, !stays]);
        log.claims().release(Slot::new(1));
        assert_eq!(more(200..400), [true, true]);
    }
}

/// What is owed is not thinned, whatever the limit; what is young neither.
#[test]
fn what_is_owed_or_young_stays() {
    let retention = Retention { bytes_max: u64::MAX, age_max: Some(LATER), ..all(0) };
    let mut kept = Kept::new(retention);
    kept.world.log.claims().set_living((0..1).collect());
    (1..=200).for_each(|n| kept.world.deliver(10 * n, &[0]));
    let start = |kept: &Kept| kept.world.log.start_of(Slot::new(0)).commit.as_u64();
    kept.world.log.claims().keep_above(Lsn::new(1_000));
    kept.seal();
    while kept.thinner.step(LATER - Duration::from_secs(1)).unwrap() != Step::Rest {}
    assert_eq!(start(&kept), 0);
    kept.thin().unwrap();
    assert!(start(&kept) > 800 && start(&kept) <= 1_000, "{}", start(&kept));
    kept.world.log.claims().keep_above(Lsn::new(2_000));
    kept.thin().unwrap();
    assert!(start(&kept) > 1_800, "{}", start(&kept));
}

/// A log of two shapes, of which the first has most.
fn filled(shape_bytes: u64) -> Kept {
    let mut kept = Kept::new(all(shape_bytes));
    kept.world.log.claims().set_living((0..2).collect());
    for n in 1..=60 {
        kept.world.deliver(10 * n, if n % 10 == 0 { &[0, 1] } else { &[0] });
        kept.world.log.claims().keep_above(Lsn::new(10 * n));
    }
    kept.seal();
    kept
}

/// Who was cut takes no room but for its quota, however often it was cut.
#[test]
fn what_was_cut_takes_no_room() {
    let bytes = |kept: &Kept| kept.disk.contents().values().map(Vec::len).sum::<usize>();
    for shape_bytes in [0, 100] {
        let mut kept = filled(shape_bytes);
        let before = bytes(&kept);
        assert!(kept.thin().unwrap() > 0);
        let after = bytes(&kept);
        assert!(after < before / 3, "{before} bytes, and {after} when thinned");
        assert!(kept.world.log.start_of(Slot::new(0)) > Offset::commit_mark(Lsn::new(400)));
    }
}

/// A cut may keep the new file's name and files that it stands for.
#[test]
fn what_is_left_of_replaced_files_goes_at_the_next_start() {
    let mut kept = filled(100);
    let mut left = kept.disk.contents();
    assert!(kept.thin().unwrap() > 0);
    let after = kept.disk.contents();
    left.extend(after.clone());
    assert!(left.len() > after.len());
    let disk = Disk::holding(&left);
    let (found, _) = open(&disk, kept.retention);
    assert_eq!(found.last_commit, kept.world.log.durable_commit());
    assert!(disk.contents().keys().eq(after.keys()));
}

/// What was synced before it was renamed has its end: without it, wherever it was cut, something is
/// missing.
#[test]
fn a_thinned_file_that_was_cut_short_is_damaged() {
    let mut kept = filled(1_000);
    assert!(kept.thin().unwrap() > 0);
    let contents = kept.disk.contents();
    let whole = contents["shard-000.log"].len();
    let recovered = |len| {
        let mut contents = contents.clone();
        contents.get_mut("shard-000.log").unwrap().truncate(len);
        let disk = Arc::new(Disk::holding(&contents));
        let segments = Segments::open(disk, IDENTITY, SEGMENT_BYTES)?;
        recover(Box::new(segments), &IDENTITY, BLOCK_BYTES).map(|found| found.last_commit)
    };
    assert_eq!(recovered(whole).unwrap(), kept.world.log.durable_commit());
    (IDENTITY.header().len()..whole).for_each(|len| assert!(recovered(len).is_err(), "{len}"));
}
