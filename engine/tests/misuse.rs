//! Misuse: every call in a state in which it cannot do what it says: settings out of range, an
//! engine that has ended or was dropped, shapes that are not there. Each is an error of its own
//! kind, at once, and the engine goes on as it was.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use support::*;
use walfan::{
    Ack, AddError, Builder, ConsumerSpec, Engine, Failure, Handle, Lsn, Offset, PgSnapshot,
    PublishError, Publisher, ReadError, ReadLimits, RemoveError, Reporter, SnapshotError,
    SnapshotPosition, StartError, Started, TransactionBuilder, TryPublishError, WaitError,
};

/// What no engine can be started with, and the setting that says so.
fn bad_settings() -> Vec<(&'static str, Builder)> {
    let small = Engine::builder;
    vec![
        ("shards", small().shards(0)),
        ("shards", small().shards(257)),
        ("runners", small().runners(0)),
        ("runners", small().runners(1_025)),
        ("mailbox_places", small().mailbox_places(0)),
        ("mailbox_places", small().mailbox_places(65_537)),
        ("fragment_credits", small().fragment_credits(0)),
        ("fragment_credits", small().fragment_credits(usize::MAX)),
        ("lifecycle_credits", small().lifecycle_credits(0)),
        ("lifecycle_credits", small().lifecycle_credits(65_537)),
        ("restarts_per_second", small().restarts_per_second(0)),
        ("consumer_bytes_max", small().consumer_bytes_max(0)),
        ("memory_bytes_max", small().memory_bytes_max(0)),
        ("log_bytes_max", small().log_bytes_max(0)),
    ]
}

#[test]
fn a_setting_out_of_its_range_is_named_and_nothing_is_made() {
    let parent = tempfile::tempdir().unwrap();
    for (named, builder) in bad_settings() {
        let path = parent.path().join("never");
        let error = builder.directory(&path).start().unwrap_err();
        let StartError::Setting { setting, .. } = &error else { panic!("{error}") };
        assert_eq!(*setting, named, "{error}");
        assert!(!path.exists());
    }
}

/// A shape with a row, one that was removed, and one whose rows are awaited.
struct World {
    _dir: tempfile::TempDir,
    engine: Engine,
    publisher: Publisher,
    lives: Handle,
    gone: Handle,
    awaits: Handle,
}

impl World {
    fn new() -> World {
        let _dir = tempfile::tempdir().unwrap();
        let (engine, mut publisher) = small().directory(_dir.path()).start().unwrap();
        engine.learn(items());
        let [lives, gone] = [(); 2].map(|()| {
            let spec = recorder(Placement::Mailbox, Ack::Consumer, &Seen::default(), reports());
            engine.add_shape(shape(""), spec).unwrap()
        });
        let awaits = engine.add_shape_with_snapshot(shape(""), ConsumerSpec::Log).unwrap();
        engine.remove_shape(gone).unwrap();
        publish_rows(&mut publisher, &items(), 1..3, "a");
        assert_eq!(engine.wait_flushed(Lsn::new(2), LONG).unwrap(), Lsn::new(2));
        World { _dir, engine, publisher, lives, gone, awaits }
    }
}

fn load(engine: &Engine, handle: Handle) -> SnapshotError {
    let shown = PgSnapshot::new(10, 10, []).unwrap();
    engine.load_snapshot(handle, shown, Lsn::new(100)).unwrap_err()
}

/// Whatever needs an engine that runs says that it does not; what is durable is still read.
#[test]
fn r16_whatever_is_asked_of_an_engine_that_has_ended_is_refused_as_stopped() {
    let World { _dir, engine, mut publisher, lives, gone, awaits } = World::new();
    let mut subscription = engine.subscribe(lives, Offset::ZERO).unwrap();
    engine.shutdown(LONG).unwrap();
    for _ in 0..2 {
        assert_eq!(engine.failure(), Some(Failure::Stopped));
        let added = engine.add_shape(shape(""), ConsumerSpec::Log).unwrap_err();
        assert!(matches!(added, AddError::Failed(Failure::Stopped)), "{added}");
        let added = engine.add_shape_with_snapshot(shape(""), ConsumerSpec::Log).unwrap_err();
        assert!(matches!(added, AddError::Failed(Failure::Stopped)), "{added}");
        for handle in [lives, gone] {
            let removed = engine.remove_shape(handle).unwrap_err();
            assert!(matches!(removed, RemoveError::Failed(Failure::Stopped)), "{removed}");
        }
        assert_eq!(engine.invalidate_all("no"), Err(Failure::Stopped));
        let loaded = load(&engine, awaits);
        assert!(matches!(loaded, SnapshotError::Failed(Failure::Stopped)), "{loaded}");
        let waited = engine.wait_flushed(Lsn::new(3), LONG).unwrap_err();
        assert!(matches!(waited, WaitError::Failed(Failure::Stopped)), "{waited}");
        let waited = engine.wait(lives, Offset::commit_mark(Lsn::new(2)), LONG).unwrap_err();
        assert!(matches!(waited, ReadError::Failed(Failure::Stopped)), "{waited}");
        assert_eq!(engine.shutdown(LONG), Err(Failure::Stopped));
        let stopped = PublishError::Failed(Failure::Stopped);
        let refused = publisher.publish(inserts(&items(), 3, &[])).unwrap_err();
        assert_eq!(refused, stopped);
        let refused = publisher.try_publish(Arc::new(inserts(&items(), 3, &[]))).unwrap_err();
        let TryPublishError::Refused { error, .. } = refused else { panic!("{refused}") };
        assert_eq!(error, stopped);
    }
    // What it had is there, and then its reader is told.
    assert_eq!(log_of(&engine, lives), firsts(1..3));
    assert_eq!(engine.wait_flushed(Lsn::new(2), LONG).unwrap(), Lsn::new(2));
    let page = subscription.next(ReadLimits::default(), LONG).unwrap().unwrap();
    assert_eq!(page.changes.len(), 2);
    let ended = subscription.next(ReadLimits::default(), LONG).unwrap_err();
    assert!(matches!(ended, ReadError::Failed(Failure::Stopped)), "{ended}");
    // Its source may still say what it was told (R13).
    engine.raise_floor(Lsn::new(3)).unwrap();
}

/// What outlives its engine says so.
#[test]
fn r16_what_outlives_its_engine_is_told_that_it_has_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, mut publisher) = small().directory(dir.path()).start().unwrap();
    engine.learn(items());
    let reporter: Arc<std::sync::Mutex<Option<Reporter>>> = Arc::default();
    let taken = Arc::clone(&reporter);
    let spec = placed(Placement::Mailbox, Ack::Consumer, move |start| {
        *taken.lock().unwrap() = Some(start.reporter());
        let script: Script = Arc::new(|_, _| Ok(Report::No));
        Ok(Started::new(recording(&Seen::default(), script), start.resume()))
    });
    let handle = engine.add_shape(shape(""), spec).unwrap();
    let awaits = engine.add_shape_with_snapshot(shape(""), ConsumerSpec::Log).unwrap();
    let shown = PgSnapshot::new(10, 10, []).unwrap();
    let loader = engine.load_snapshot(awaits, shown, Lsn::new(100)).unwrap();
    let mut subscription = engine.subscribe(handle, Offset::ZERO).unwrap();
    wait_until("it runs", || engine.metrics().lagging == 0);
    drop(engine);
    let stopped = |error: &ReadError| matches!(error, ReadError::Failed(Failure::Stopped));
    // While the publisher is there, so is what there was to read.
    let ended = subscription.next(ReadLimits::default(), LONG).unwrap_err();
    assert!(stopped(&ended), "{ended}");
    let refused = publisher.publish(inserts(&items(), 3, &[])).unwrap_err();
    assert_eq!(refused, PublishError::Failed(Failure::Stopped));
    drop(publisher);
    let ended = subscription.try_next(ReadLimits::default()).unwrap_err();
    assert!(stopped(&ended), "{ended}");
    let finished = loader.finish().unwrap_err();
    assert!(matches!(finished, SnapshotError::Failed(Failure::Stopped)), "{finished}");
    let reporter = reporter.lock().unwrap().take().unwrap();
    // Nobody listens any more, and it is as wrong as before.
    assert!(reporter.flushed(Lsn::ZERO).is_ok() && reporter.flushed(Lsn::new(9)).is_err());
}

#[test]
fn g04_a_handle_that_names_nothing_is_unknown_to_every_call() {
    let World { _dir, engine, gone, lives, awaits, .. } = World::new();
    for handle in [gone, Handle::new(9_999)] {
        let is_unknown =
            |error: ReadError| matches!(error, ReadError::Unknown { handle: h } if h == handle);
        let (limits, start) = (ReadLimits::default(), SnapshotPosition::START);
        assert!(is_unknown(engine.read(handle, Offset::ZERO, limits).unwrap_err()));
        assert!(is_unknown(
            engine.read(handle, Offset::commit_mark(Lsn::MAX), limits).unwrap_err()
        ));
        assert!(is_unknown(engine.wait(handle, Offset::ZERO, LONG).unwrap_err()));
        assert!(is_unknown(engine.subscribe(handle, Offset::ZERO).unwrap_err()));
        assert!(is_unknown(engine.read_snapshot(handle, start, limits).unwrap_err()));
        assert!(is_unknown(engine.snapshot(handle).unwrap_err()));
        let loaded = load(&engine, handle);
        assert!(matches!(loaded, SnapshotError::Unknown { handle: h } if h == handle), "{loaded}");
        let removed = engine.remove_shape(handle).unwrap_err();
        assert!(matches!(removed, RemoveError::Unknown { handle: h } if h == handle), "{removed}");
    }
    // Beyond everything there is nothing, and that is no error.
    let beyond = Offset::commit_mark(Lsn::new(1_000));
    let page = engine.read(lives, beyond, ReadLimits::default()).unwrap();
    assert!(page.changes.is_empty() && page.up_to_date && page.through >= beyond);
    assert!(!engine.wait(lives, beyond, Duration::from_millis(5)).unwrap());
    assert!(matches!(load(&engine, lives), SnapshotError::NotAwaited { .. }));
    let awaited = engine.read(awaits, Offset::ZERO, ReadLimits::default()).unwrap_err();
    assert!(matches!(awaited, ReadError::SnapshotIncomplete { .. }), "{awaited}");
    assert_eq!(engine.shapes().len(), 2);
}

/// Nothing that is to be logged as one record may be larger than one.
#[test]
fn a_fragment_of_too_many_changes_is_refused_and_smaller_ones_go_on() {
    let World { _dir, engine, mut publisher, lives, .. } = World::new();
    const TOO_MANY: usize = (1 << 21) - 1;
    let other = Arc::new(walfan::Relation::new(
        7,
        walfan::TableName::new("public", "other"),
        vec![walfan::Column::new("id", 20, true)],
    ));
    let mut transaction = TransactionBuilder::new(3, Lsn::new(3));
    (0..TOO_MANY).for_each(|_| transaction.truncate(&other));
    let refused = publisher.publish(transaction.commit(Lsn::new(4))).unwrap_err();
    assert!(
        matches!(refused, PublishError::FragmentTooLarge { changes: TOO_MANY, .. }),
        "{refused}"
    );
    assert!(!publisher.is_open());
    publish_rows(&mut publisher, &items(), 3..4, "a");
    assert_eq!(engine.wait_flushed(Lsn::new(3), LONG).unwrap(), Lsn::new(3));
    assert_eq!(log_of(&engine, lives), firsts(1..4));
}

/// Code of the embedder's that panics in the middle of a start: the panic is its caller's, and the
/// directory is as it was.
#[test]
fn a_panic_of_who_finds_consumers_leaves_the_directory_to_the_next_start() {
    let World { _dir: dir, engine, publisher, lives, awaits, .. } = World::new();
    drop((engine, publisher));
    let panics = AtomicBool::new(true);
    let builder = small().directory(dir.path()).consumers(move |handle, _| {
        assert!(handle != lives || !panics.swap(false, Ordering::SeqCst), "as the test wants");
        ConsumerSpec::Log
    });
    let again = builder.clone();
    assert!(catch_unwind(AssertUnwindSafe(|| again.start())).is_err());
    let (engine, _publisher) = builder.start().unwrap();
    let living: Vec<_> = engine.shapes().into_iter().map(|(handle, _)| handle).collect();
    assert_eq!(living, [lives, awaits]);
    assert_eq!(log_of(&engine, lives), firsts(1..3));
}

/// A floor that cannot be read is no floor of nothing: the slot would be taken for somebody else's.
#[test]
fn r13_a_damaged_floor_is_refused_by_name_and_left_alone() {
    let World { _dir: dir, engine, publisher, lives, .. } = World::new();
    engine.raise_floor(Lsn::new(2)).unwrap();
    drop((engine, publisher));
    let file = dir.path().join("floor");
    let good = fs::read(&file).unwrap();
    let bad: Vec<u8> = good.iter().map(|byte| byte ^ 1).collect();
    for bad in [bad, Vec::new(), good[..10].to_vec()] {
        fs::write(&file, &bad).unwrap();
        let error = small().directory(dir.path()).start().unwrap_err();
        let StartError::Floor { cause } = &error else { panic!("{error}") };
        assert!(cause.contains(&file.display().to_string()), "{error}");
        assert_eq!(fs::read(&file).unwrap(), bad);
    }
    fs::write(&file, good).unwrap();
    let (engine, _publisher) = small().directory(dir.path()).start().unwrap();
    assert_eq!(engine.floor(), Lsn::new(2));
    assert_eq!(log_of(&engine, lives), firsts(1..3));
}
