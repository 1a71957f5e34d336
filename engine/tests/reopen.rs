//! Reopen: a directory is opened again, with what it held and nothing else, and the stream goes on
//! without a loss and without a repetition (R9, R13, INV8).

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use support::*;
use walfan::{
    Ack, Builder, ConsumerSpec, Engine, Event, Handle, Lsn, Offset, OpenError, Publisher, Relation,
    ServerId, Start, StartError, Started,
};

type World = (Engine, Publisher, Arc<Relation>);

fn open(dir: &Path, builder: Builder) -> World {
    let (engine, publisher) = builder.directory(dir).start().unwrap();
    let items = items();
    engine.learn(Arc::clone(&items));
    (engine, publisher, items)
}

/// Stops as a deploy does, or as a crash: without waiting for anything.
fn close((engine, publisher, _): World, gracefully: bool) {
    if gracefully {
        engine.shutdown(LONG).unwrap();
    }
    drop((engine, publisher));
}

/// Publishes rows of kind `a` and waits for them.
fn publish((engine, publisher, items): &mut World, commits: std::ops::Range<u64>) {
    let last = Lsn::new(commits.end - 1);
    publish_rows(publisher, items, commits, "a");
    assert_eq!(engine.wait_flushed(last, LONG).unwrap(), last);
}

fn handles(engine: &Engine) -> Vec<Handle> {
    engine.shapes().into_iter().map(|(handle, _)| handle).collect()
}

/// Consumers that keep what they have flushed, by handle, from one life to the next.
#[derive(Clone, Default)]
struct Kept {
    seen: Arc<Mutex<BTreeMap<Handle, Seen>>>,
    /// Where the next incarnation resumes, if not after its last report.
    resume: Arc<Mutex<Option<Offset>>>,
    told: Arc<Mutex<Vec<Option<Lsn>>>>,
}

impl Kept {
    fn of(&self, handle: Handle) -> Seen {
        Arc::clone(self.seen.lock().unwrap().entry(handle).or_default())
    }

    fn spec(&self, placement: Placement, ack: Ack) -> ConsumerSpec {
        let kept = self.clone();
        placed(placement, ack, move |start: &Start<'_>| {
            let seen = kept.of(start.handle());
            kept.told.lock().unwrap().push(start.last_reported());
            let last = seen.lock().unwrap().iter().map(|(_, o, _)| o.commit).max();
            let resume = last.map_or(start.first(), Offset::commit_mark);
            let resume = kept.resume.lock().unwrap().unwrap_or(resume).max(start.first());
            Ok(Started::new(recording(&seen, reports()), resume))
        })
    }

    /// Settings under which each shape of a directory gets its consumer again.
    fn builder(&self, placement: Placement, ack: Ack) -> Builder {
        let kept = self.clone();
        small().consumers(move |_, _| kept.spec(placement, ack))
    }

    fn handled(&self, handle: Handle) -> Vec<Offset> {
        self.of(handle).lock().unwrap().iter().map(|(_, offset, _)| *offset).collect()
    }
}

#[test]
fn c14_e03_shapes_and_logs_are_found_again_and_handles_never_used_again() {
    let dir = tempfile::tempdir().unwrap();
    let clauses = ["", "kind = 'a'", "id = 3 OR kind = 'b'", "id = 5"];
    let mut world = open(dir.path(), small());
    let shapes = clauses.map(|clause| (shape(clause), ConsumerSpec::Log));
    let stay = world.0.add_shapes(shapes.to_vec()).unwrap();
    let gone = world.0.add_shapes(shapes.to_vec()).unwrap();
    let dies = placed(Placement::Mailbox, Ack::Log, |_| Err("as the test wants".into()));
    let condemned = world.0.add_shape(shape(""), dies).unwrap();
    publish(&mut world, 1..10);
    wait_for(&world.0, |event| matches!(event, Event::Undeliverable { .. }));
    gone.iter().for_each(|handle| world.0.remove_shape(*handle).unwrap());
    close(world, true);
    let mut world = open(dir.path(), small());
    let found: Vec<_> = world.0.shapes();
    assert_eq!(found.iter().map(|(handle, _)| *handle).collect::<Vec<_>>(), stay);
    for ((_, definition), clause) in found.iter().zip(clauses) {
        assert_eq!(**definition, shape(clause));
    }
    assert_eq!(world.0.metrics().shapes, 4, "counted before anything is served (E03)");
    let expected = [firsts(1..10), firsts(1..10), firsts(3..4), firsts(5..6)];
    for (handle, expected) in stay.iter().zip(expected) {
        assert_eq!(log_of(&world.0, *handle), expected);
    }
    let new = world.0.add_shape(shape(""), ConsumerSpec::Log).unwrap();
    assert!(new > condemned && gone.iter().all(|handle| new > *handle), "used again");
    publish(&mut world, 10..12);
    assert_eq!(log_of(&world.0, new), firsts(10..12));
    assert_eq!(log_of(&world.0, stay[0]), firsts(1..12));
    // Also the highest that is gone, and the only trace of it.
    world.0.remove_shape(new).unwrap();
    close(world, true);
    let world = open(dir.path(), small());
    assert!(world.0.add_shape(shape(""), ConsumerSpec::Log).unwrap() > new);
}

/// A15, D01: what is durable comes again, whole, cut otherwise and from below, and changes nothing.
#[test]
fn a15_d01_replay_of_what_is_durable_repeats_nothing() {
    for placement in PLACEMENTS {
        let dir = tempfile::tempdir().unwrap();
        let kept = Kept::default();
        let mut world = open(dir.path(), small());
        let spec = kept.spec(placement, Ack::Consumer);
        let consumer = world.0.add_shape(shape(""), spec).unwrap();
        let log = world.0.add_shape(shape(""), ConsumerSpec::Log).unwrap();
        publish(&mut world, 1..20);
        for life in 0..3 {
            close(world, life == 0);
            world = open(dir.path(), kept.builder(placement, Ack::Consumer));
            publish(&mut world, 1..20);
        }
        publish(&mut world, 15..25);
        assert_eq!(log_of(&world.0, log), firsts(1..25));
        assert_eq!(log_of(&world.0, consumer), firsts(1..25));
        assert_eq!(kept.handled(consumer), firsts(1..25), "{placement:?}");
    }
}

/// R13: until its factory has answered, a consumer that owns its acknowledgement owes everything
/// above the floor; A17: and when it has, the LSN moves without any traffic.
#[test]
fn r13_a_consumer_owes_from_the_floor_until_its_factory_has_answered() {
    for placement in PLACEMENTS {
        let dir = tempfile::tempdir().unwrap();
        let kept = Kept::default();
        let mut world = open(dir.path(), small());
        // One in each shard: a shard without any waits for the replay.
        let spec = kept.spec(placement, Ack::Consumer);
        let handles = world.0.add_shapes(vec![(shape(""), spec); 2]).unwrap();
        publish(&mut world, 1..10);
        world.0.raise_floor(Lsn::new(6)).unwrap();
        // A lower one changes nothing.
        world.0.raise_floor(Lsn::new(2)).unwrap();
        close(world, true);
        let (release, gate) = crossbeam_channel::bounded::<()>(0);
        let inner = kept.clone();
        let builder = small().consumers(move |_, _| {
            let (spec, gate) = (inner.spec(placement, Ack::Consumer), gate.clone());
            placed(placement, Ack::Consumer, move |start| {
                let _ = gate.recv();
                start_of(&spec, start)
            })
        });
        let world = open(dir.path(), builder);
        assert_eq!((world.0.floor(), world.0.flushed_lsn()), (Lsn::new(6), Lsn::new(5)));
        let new = world.0.add_shape(shape(""), ConsumerSpec::Log).unwrap();
        assert_eq!(world.0.flushed_lsn(), Lsn::new(5), "nobody but the factory settles it");
        drop(release);
        assert_eq!(world.0.wait_flushed(Lsn::new(9), LONG).unwrap(), Lsn::new(9));
        let told = [None, None, Some(Lsn::new(5)), Some(Lsn::new(5))];
        assert_eq!(*kept.told.lock().unwrap(), told);
        for handle in handles {
            assert_eq!(kept.handled(handle), firsts(1..10), "it had all");
        }
        assert_eq!(log_of(&world.0, new), []);
    }
}

/// A17: with the log alone, all that is durable is flushed at once.
#[test]
fn a17_an_idle_restart_stands_at_the_last_durable_commit() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = open(dir.path(), small());
    world.0.add_shapes(vec![(shape(""), ConsumerSpec::Log); 2]).unwrap();
    publish(&mut world, 1..10);
    close(world, true);
    let kept = Kept::default();
    let world = open(dir.path(), kept.builder(Placement::Mailbox, Ack::Log));
    assert_eq!(world.0.flushed_lsn(), Lsn::new(9), "an Ack::Log consumer holds nothing");
    wait_until("they have the log", || {
        handles(&world.0).iter().all(|handle| kept.handled(*handle) == firsts(1..10))
    });
}

/// R9: where a consumer says that it resumes counts, below its last report and beyond the log.
#[test]
fn d02_r09_a_consumer_resumes_where_it_says() {
    for (placement, ack) in PLACEMENTS.into_iter().flat_map(|p| [(p, Ack::Consumer), (p, Ack::Log)])
    {
        let dir = tempfile::tempdir().unwrap();
        let kept = Kept::default();
        let mut world = open(dir.path(), small());
        let handle = world.0.add_shape(shape(""), kept.spec(placement, ack)).unwrap();
        publish(&mut world, 1..10);
        wait_until("it has all", || kept.handled(handle).len() == 9);
        close(world, true);
        // It has lost some of it.
        *kept.resume.lock().unwrap() = Some(Offset::commit_mark(Lsn::new(4)));
        kept.of(handle).lock().unwrap().clear();
        let mut world = open(dir.path(), kept.builder(placement, ack));
        publish(&mut world, 1..13);
        wait_until("it has the rest", || kept.handled(handle).len() == 8);
        assert_eq!(kept.handled(handle), firsts(5..13));
        close(world, true);
        // It has more than the log, as after a power cut.
        *kept.resume.lock().unwrap() = Some(Offset::commit_mark(Lsn::new(16)));
        kept.of(handle).lock().unwrap().clear();
        let mut world = open(dir.path(), kept.builder(placement, ack));
        publish(&mut world, 10..20);
        wait_until("it has the rest", || kept.handled(handle).len() == 3);
        assert_eq!(kept.handled(handle), firsts(17..20), "{placement:?} {ack:?}");
        assert_eq!(log_of(&world.0, handle), firsts(1..20));
    }
}

/// R13: a transaction may commit right where the record of the one before ends.
#[test]
fn r13_a_commit_at_the_floor_is_not_lost() {
    for spec in [ConsumerSpec::Log, Kept::default().spec(Placement::Mailbox, Ack::Consumer)] {
        let dir = tempfile::tempdir().unwrap();
        let mut world = open(dir.path(), small());
        let handles = world.0.add_shapes(vec![(shape(""), spec); 2]).unwrap();
        // Each of them ends where the next one commits.
        publish(&mut world, 1..6);
        for last in 6..12 {
            // The end of the last flushed commit's record.
            world.0.raise_floor(Lsn::new(last)).unwrap();
            close(world, last % 2 == 0);
            let found = Kept::default();
            world = open(dir.path(), found.builder(Placement::Mailbox, Ack::Consumer));
            publish(&mut world, last..last + 1);
            assert!(handles.iter().all(|handle| log_of(&world.0, *handle) == firsts(1..last + 1)));
        }
    }
}

/// D03: what was not committed when the process died is not there, and comes again.
#[test]
fn d03_a_transaction_that_was_cut_off_comes_again_whole() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = open(dir.path(), small());
    let handles = world.0.add_shapes(vec![(shape(""), ConsumerSpec::Log); 2]).unwrap();
    publish(&mut world, 1..5);
    for kept in 1..4 {
        let mut transaction = walfan::TransactionBuilder::new(1, Lsn::new(5));
        for id in 0..kept {
            insert(&mut transaction, &world.2, id, "a");
            world.1.publish(transaction.cut()).unwrap();
        }
        // An addition is synced behind it, so its beginning is in the file.
        world.0.add_shapes(vec![(shape("kind = 'no'"), ConsumerSpec::Log); 2]).unwrap();
        assert!(handles.iter().all(|handle| log_of(&world.0, *handle) == firsts(1..5)));
        close(world, kept % 2 == 0);
        world = open(dir.path(), small());
        assert!(handles.iter().all(|handle| log_of(&world.0, *handle) == firsts(1..5)));
    }
    publish(&mut world, 5..8);
    assert!(handles.iter().all(|handle| log_of(&world.0, *handle) == firsts(1..8)));
}

fn contents(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(dir).unwrap().map(Result::unwrap);
    // Initial rows lie in a folder of their own, and there are none.
    let files = entries.filter(|entry| entry.path().is_file());
    files
        .map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            (name, std::fs::read(entry.path()).unwrap())
        })
        .collect()
}

#[test]
fn d07_d14_a_directory_that_is_not_ours_to_open_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = open(dir.path(), small());
    let log = world.0.add_shape(shape(""), ConsumerSpec::Log).unwrap();
    publish(&mut world, 1..10);
    let refused = |shards| {
        let before = contents(dir.path());
        let error = Engine::builder().shards(shards).directory(dir.path()).start().unwrap_err();
        assert_eq!(contents(dir.path()), before);
        let text = error.to_string();
        assert!(text.contains(&dir.path().display().to_string()), "{text}");
        let StartError::Directory(error) = error else { panic!("{error}") };
        error
    };
    assert!(matches!(refused(2), OpenError::InUse { .. }));
    publish(&mut world, 10..12);
    close(world, true);
    assert!(matches!(refused(3), OpenError::Shards { found: 2, expected: 3, .. }));
    assert!(matches!(refused(1), OpenError::Shards { found: 2, expected: 1, .. }));
    let meta = dir.path().join("walfan.meta");
    let ours = std::fs::read(&meta).unwrap();
    let mut newer = ours.clone();
    newer[8] += 1;
    std::fs::write(&meta, newer).unwrap();
    let version = u32::from(ours[8]);
    let refusal = refused(2);
    let OpenError::Version { found, expected, .. } = refusal else { panic!("{refusal}") };
    assert_eq!((found, expected), (version + 1, version));
    std::fs::write(&meta, &ours[..20]).unwrap();
    assert!(matches!(refused(2), OpenError::DamagedMeta { .. }));
    std::fs::write(&meta, ours).unwrap();
    // A log that is not what was written: the engine does not start, and touches nothing.
    let shard = dir.path().join("shard-000.log");
    let good = std::fs::read(&shard).unwrap();
    let mut bad = good.clone();
    bad[good.len() / 3] ^= 1;
    std::fs::write(&shard, &bad).unwrap();
    let before = contents(dir.path());
    let error = small().directory(dir.path()).start().unwrap_err();
    assert!(matches!(&error, StartError::Log { shard: 0, .. }), "{error}");
    assert_eq!(contents(dir.path()), before);
    std::fs::write(&shard, good).unwrap();
    let world = open(dir.path(), small());
    assert_eq!(log_of(&world.0, log), firsts(1..12));
}

/// R3: what comes again from before a shape began is not its own, wherever its consumer resumes.
#[test]
fn r03_what_comes_again_from_before_a_shape_began_is_not_its_own() {
    for placement in PLACEMENTS {
        for ack in [Ack::Consumer, Ack::Log] {
            let dir = tempfile::tempdir().unwrap();
            let mut world = open(dir.path(), small());
            // Nobody's: nothing of it is logged.
            publish(&mut world, 1..8);
            let shapes = ["", "kind = 'a'"].map(|clause| (shape(clause), ConsumerSpec::Log));
            let added = world.0.add_shapes(shapes.to_vec()).unwrap();
            close(world, false);
            let seen: Arc<Mutex<BTreeMap<Handle, Seen>>> = Arc::default();
            let kept = Arc::clone(&seen);
            let builder = small().consumers(move |handle, _| {
                let seen = Arc::clone(kept.lock().unwrap().entry(handle).or_default());
                placed(placement, ack, move |_| {
                    Ok(Started::new(recording(&seen, reports()), Offset::ZERO))
                })
            });
            let mut world = open(dir.path(), builder);
            publish(&mut world, 1..12);
            wait_until("all run", || world.0.metrics().lagging == 0);
            for handle in added {
                let seen = Arc::clone(&seen.lock().unwrap()[&handle]);
                wait_until("it has all", || joined(&seen).last() == firsts(11..12).last());
                assert_eq!(joined(&seen), firsts(8..12));
                assert_eq!(log_of(&world.0, handle), firsts(8..12));
            }
        }
    }
}

/// Whatever was killed in the middle of many rows that commit together, each of them is there once.
#[test]
fn b09_a_kill_in_the_middle_of_many_rows_of_one_transaction_loses_and_repeats_none() {
    let dir = tempfile::tempdir().unwrap();
    let kept = Kept::default();
    let mut world = open(dir.path(), small());
    let spec = kept.spec(Placement::Mailbox, Ack::Consumer);
    let handle = world.0.add_shape(shape(""), spec).unwrap();
    publish(&mut world, 1..3);
    // Each life of the consumer has what was committed, and the last one goes on to the end.
    *kept.resume.lock().unwrap() = Some(Offset::commit_mark(Lsn::new(2)));
    for pieces in [1, 4, 9, 10] {
        // One that lags would see the transaction after its commit.
        wait_until("it runs", || world.0.metrics().lagging == 0);
        kept.of(handle).lock().unwrap().clear();
        let mut transaction = walfan::TransactionBuilder::new(1, Lsn::new(3));
        for piece in 0..pieces {
            (0..100).for_each(|row| insert(&mut transaction, &world.2, row, "a"));
            if piece < 9 {
                world.1.publish(transaction.cut()).unwrap();
            }
        }
        if pieces < 10 {
            wait_until("it has a part", || kept.handled(handle).len() > 10);
            close(world, false);
            world = open(dir.path(), kept.builder(Placement::Mailbox, Ack::Consumer));
        } else {
            world.1.publish(transaction.commit(Lsn::new(4))).unwrap();
        }
    }
    assert_eq!(world.0.wait_flushed(Lsn::new(3), LONG).unwrap(), Lsn::new(3));
    let rows = (0..1_000).map(|row| Offset::new(Lsn::new(3), row * 2)).collect::<Vec<_>>();
    assert_eq!(kept.handled(handle), rows);
    assert_eq!(log_of(&world.0, handle), [firsts(1..3), rows].concat());
}

/// Stopped in good order or not, again and again: what was there is served before anything is
/// written, and what is written is served with it.
#[test]
fn d10_d19_restarts_of_every_kind_lose_and_repeat_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = open(dir.path(), small());
    let shapes = ["", "kind = 'a'"].map(|clause| (shape(clause), ConsumerSpec::Log));
    let handles = world.0.add_shapes(shapes.to_vec()).unwrap();
    for life in 1..9 {
        let written = life * 5;
        // The source begins below what is there.
        publish(&mut world, (written.max(8) - 7)..written);
        close(world, life % 3 == 0);
        world = open(dir.path(), small());
        assert_eq!(self::handles(&world.0), handles, "in life {life}");
        for &handle in &handles {
            assert_eq!(log_of(&world.0, handle), firsts(1..written));
        }
    }
}

/// One shape whose consumer cannot be made when a directory is opened costs nobody else anything.
#[test]
fn c15_a_consumer_that_cannot_be_made_at_the_start_holds_up_nobody() {
    for placement in PLACEMENTS {
        let dir = tempfile::tempdir().unwrap();
        let kept = Kept::default();
        let mut world = open(dir.path(), small());
        let shapes = (0..6).map(|_| (shape(""), kept.spec(placement, Ack::Consumer)));
        let handles = world.0.add_shapes(shapes.collect()).unwrap();
        publish(&mut world, 1..5);
        close(world, true);
        let (bad, inner) = (handles[2], kept.clone());
        let builder = small().consumers(move |handle, _| match handle == bad {
            true => placed(placement, Ack::Consumer, |_| Err("as the test wants".into())),
            false => inner.spec(placement, Ack::Consumer),
        });
        let mut world = open(dir.path(), builder);
        publish(&mut world, 1..9);
        let living: Vec<_> = handles.into_iter().filter(|handle| *handle != bad).collect();
        assert_eq!(self::handles(&world.0), living);
        assert!(living.iter().all(|handle| kept.handled(*handle) == firsts(1..9)));
        let metrics = world.0.metrics();
        assert_eq!((metrics.deaths, metrics.undeliverable), (3, 1));
    }
}

/// INV11: whose changes the directory has, and through which, also where nobody was told yet that
/// they are here.
#[test]
fn inv11_the_directory_knows_its_server_and_the_last_commit_that_it_has() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = open(dir.path(), small());
    world.0.add_shape(shape(""), ConsumerSpec::Log).unwrap();
    assert_eq!((world.0.server(), world.1.committed()), (None, Lsn::ZERO));
    let timeline = std::num::NonZeroU32::new(3).unwrap();
    let server = ServerId { system: 7_420_000_000_000_000_001, timeline };
    world.0.set_server(server).unwrap();
    publish(&mut world, 1..6);
    close(world, false);
    let (engine, publisher, _) = open(dir.path(), small());
    assert_eq!((engine.server(), publisher.committed()), (Some(server), Lsn::new(5)));
    assert_eq!(engine.floor(), Lsn::ZERO);
    engine.shutdown(LONG).unwrap();
}
