//! Readers: whoever reads a shape's log beside its writer, its removal or the engine's end gets a
//! page without a gap, or is told, at once.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use support::*;
use walfan::{
    ConsumerSpec, Engine, Handle, Lsn, Offset, Page, Publisher, ReadError, ReadLimits, Relation,
    RemoveError,
};

fn world(dir: &tempfile::TempDir) -> (Engine, Publisher, Arc<Relation>) {
    let (engine, publisher) = small().directory(dir.path()).start().unwrap();
    let items = items();
    engine.learn(Arc::clone(&items));
    (engine, publisher, items)
}

/// A small page.
fn page(engine: &Engine, handle: Handle, after: Offset) -> Result<Page, ReadError> {
    engine.read(handle, after, ReadLimits { changes_max: 7, ..ReadLimits::default() })
}

/// Reads until `done`, and then to the end: all offsets.
fn follow(engine: &Engine, handle: Handle, done: &AtomicBool) -> Vec<Offset> {
    let (mut found, mut after) = (Vec::new(), Offset::ZERO);
    loop {
        // Before the read: what it then does not find was not there when all was written.
        let last = done.load(Ordering::SeqCst);
        let page = page(engine, handle, after).unwrap();
        found.extend(page.changes.iter().map(|change| change.offset()));
        after = page.through;
        if last && page.up_to_date {
            return found;
        }
    }
}

/// Between any two steps of the writer, which makes blocks and forgets what it had in memory.
#[test]
fn d08_readers_beside_the_writer_miss_and_repeat_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, mut publisher, items) = world(&dir);
    let shapes = ["", "kind = 'a'", "id = 700 OR id = 30"];
    let shapes = shapes.map(|clause| (shape(clause), ConsumerSpec::Log));
    let handles = engine.add_shapes(shapes.to_vec()).unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let reads = |&handle| {
            scope.spawn({
                let (engine, done) = (&engine, &done);
                move || follow(engine, handle, done)
            })
        };
        let readers: Vec<_> = handles.iter().chain(&handles).map(reads).collect();
        for commit in (1..1_500).step_by(10) {
            publish_rows(&mut publisher, &items, commit..commit + 10, "a");
        }
        let last = Lsn::new(1_500);
        assert_eq!(engine.wait_flushed(last, LONG).unwrap(), last);
        done.store(true, Ordering::SeqCst);
        let found: Vec<_> = readers.into_iter().map(|reader| reader.join().unwrap()).collect();
        let some = [firsts(30..31), firsts(700..701)].concat();
        for half in found.chunks(3) {
            assert_eq!(half, [firsts(1..1_501), firsts(1..1_501), some.clone()]);
        }
    });
}

/// What readers share is there as long as a reader is: beside a stop, and after it.
#[test]
fn d09_readers_beside_a_stop_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, mut publisher, items) = world(&dir);
    let handle = engine.add_shape(shape(""), ConsumerSpec::Log).unwrap();
    publish_rows(&mut publisher, &items, 1..60, "a");
    assert_eq!(engine.wait_flushed(Lsn::new(59), LONG).unwrap(), Lsn::new(59));
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let (engine, done) = (&engine, &done);
        let readers: Vec<_> =
            (0..4).map(|_| scope.spawn(move || follow(engine, handle, done))).collect();
        assert!(engine.shutdown(LONG).unwrap().wedged.is_empty());
        done.store(true, Ordering::SeqCst);
        for reader in readers {
            assert_eq!(reader.join().unwrap(), firsts(1..60));
        }
    });
    assert_eq!(log_of(&engine, handle), firsts(1..60));
}

/// A shape that is gone, or never was, is an answer, whoever asks and however often.
#[test]
fn g04_whatever_is_asked_of_a_shape_that_is_gone_is_answered_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, mut publisher, items) = world(&dir);
    let gone = engine.add_shape(shape(""), ConsumerSpec::Log).unwrap();
    let never = Handle::new(9_999);
    publish_rows(&mut publisher, &items, 1..3, "a");
    assert_eq!(engine.wait_flushed(Lsn::new(2), LONG).unwrap(), Lsn::new(2));
    engine.remove_shape(gone).unwrap();
    let answers = |engine: &Engine| {
        for handle in [gone, never] {
            for _ in 0..2 {
                let read = page(engine, handle, Offset::ZERO).unwrap_err();
                assert!(matches!(read, ReadError::Unknown { handle: named } if named == handle));
                let removed = engine.remove_shape(handle).unwrap_err();
                let unknown = matches!(removed, RemoveError::Unknown { handle: h } if h == handle);
                assert!(unknown, "{removed}");
            }
        }
    };
    answers(&engine);
    engine.shutdown(LONG).unwrap();
    drop((engine, publisher));
    answers(&world(&dir).0);
}
