//! News: readers that wait for something new in a shape's log, blocked in a thread, by a channel,
//! and as futures of a runtime that is not there. Nobody misses a change, sees one twice, or waits
//! for an engine that has ended.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::sync::Arc;
use std::thread;
use std::time::Duration;
use support::*;
use walfan::{
    ConsumerSpec, Engine, Failure, Handle, Lsn, Offset, ReadError, ReadLimits, Subscription,
};

const FEW: ReadLimits = ReadLimits { changes_max: 3, bytes_max: 1 << 20 };
const COMMITS: u64 = 400;

/// Everything that a subscription gives until it has `last`.
fn follow(mut subscription: Subscription, last: Offset) -> Vec<Offset> {
    let mut seen = Vec::new();
    while seen.last() != Some(&last) {
        let page = subscription.next(FEW, LONG).unwrap().expect("it comes");
        assert!(!page.changes.is_empty() && page.through == subscription.position());
        seen.extend(page.changes.iter().map(|change| change.offset()));
    }
    seen
}

/// The same by waiting and reading.
fn wait_and_read(engine: &Engine, handle: Handle, last: Offset) -> Vec<Offset> {
    let (mut seen, mut after) = (Vec::new(), Offset::ZERO);
    while seen.last() != Some(&last) {
        assert!(engine.wait(handle, after, LONG).unwrap());
        let page = engine.read(handle, after, FEW).unwrap();
        seen.extend(page.changes.iter().map(|change| change.offset()));
        after = page.through;
    }
    seen
}

#[test]
fn readers_that_wait_get_every_change_once_while_it_is_written() {
    for durable in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let builder = if durable { small().directory(dir.path()) } else { small() };
        let (engine, mut publisher) = builder.start().unwrap();
        let items = items();
        engine.learn(Arc::clone(&items));
        let clauses = ["", "kind = 'a'", "kind = 'b'", "id = 77"];
        let own: [fn(u64) -> bool; 4] = [|_| true, |n| n % 2 == 0, |n| n % 2 == 1, |n| n == 77];
        let handles =
            clauses.map(|clause| engine.add_shape(shape(clause), ConsumerSpec::Log).unwrap());
        thread::scope(|scope| {
            let mut readers = Vec::new();
            for (handle, own) in handles.into_iter().zip(own) {
                let expected: Vec<_> = (1..=COMMITS).filter(|n| own(*n)).collect();
                let offset = |commit: &u64| Offset::new(Lsn::new(10 * commit), 0);
                let expected: Vec<_> = expected.iter().map(offset).collect();
                let last = *expected.last().unwrap();
                let subscription = engine.subscribe(handle, Offset::ZERO).unwrap();
                let engine = &engine;
                let follows = scope.spawn(move || follow(subscription, last));
                let waits = scope.spawn(move || wait_and_read(engine, handle, last));
                readers.push((expected, [follows, waits]));
            }
            for n in 1..=COMMITS {
                let kind = if n % 2 == 0 { "a" } else { "b" };
                publisher.publish(inserts(&items, 10 * n, &[(n, kind)])).unwrap();
            }
            for (expected, readers) in readers {
                for reader in readers {
                    assert_eq!(reader.join().unwrap(), expected);
                }
            }
        });
    }
}

#[test]
fn nothing_comes_to_who_waits_for_a_quiet_shape_and_the_time_is_kept() {
    let (engine, mut publisher) = small().start().unwrap();
    let items = items();
    engine.learn(Arc::clone(&items));
    let quiet = engine.add_shape(shape("kind = 'quiet'"), ConsumerSpec::Log).unwrap();
    let mut subscription = engine.subscribe(quiet, Offset::ZERO).unwrap();
    assert!(subscription.signals().try_recv().is_ok(), "there may be something from the start");
    assert!(subscription.try_next(FEW).unwrap().is_none());
    publish_rows(&mut publisher, &items, 1..50, "busy");
    engine.wait_flushed(Lsn::new(49), LONG).unwrap();
    let short = Duration::from_millis(5);
    assert!(!engine.wait(quiet, Offset::ZERO, short).unwrap());
    assert!(subscription.next(FEW, short).unwrap().is_none());
    assert!(subscription.signals().is_empty());
    publish_rows(&mut publisher, &items, 50..51, "quiet");
    subscription.signals().recv_timeout(LONG).unwrap();
    let page = subscription.try_next(FEW).unwrap().unwrap();
    assert_eq!(page.changes.len(), 1);
    assert!(engine.wait(quiet, Offset::ZERO, Duration::ZERO).unwrap());
}

#[test]
fn r16_who_waits_is_told_when_the_shape_goes_and_when_the_engine_stops() {
    let (engine, _publisher) = small().start().unwrap();
    engine.learn(items());
    let shapes = ["", "kind = 'a'"];
    let [gone, stays] =
        shapes.map(|clause| engine.add_shape(shape(clause), ConsumerSpec::Log).unwrap());
    thread::scope(|scope| {
        let waits = |handle| {
            let engine = &engine;
            let mut subscription = engine.subscribe(handle, Offset::ZERO).unwrap();
            [
                scope.spawn(move || engine.wait(handle, Offset::ZERO, LONG).map(drop)),
                scope.spawn(move || subscription.next(FEW, LONG).map(drop)),
            ]
        };
        let [removed, stopped] = [gone, stays].map(waits);
        engine.remove_shape(gone).unwrap();
        for waits in removed {
            let told = waits.join().unwrap().unwrap_err();
            assert!(matches!(told, ReadError::Unknown { handle } if handle == gone), "{told}");
        }
        engine.shutdown(LONG).unwrap();
        for waits in stopped {
            let told = waits.join().unwrap().unwrap_err();
            assert!(matches!(told, ReadError::Failed(Failure::Stopped)), "{told}");
        }
    });
    assert!(engine.subscribe(gone, Offset::ZERO).is_err());
    assert!(engine.wait(stays, Offset::ZERO, LONG).is_err());
}

#[test]
fn pages_are_written_as_lines_of_json() {
    let (engine, mut publisher) = small().start().unwrap();
    let items = items();
    engine.learn(Arc::clone(&items));
    let selects = shape("kind = 'a'").with_columns(["kind"]);
    let handles = [shape(""), selects].map(|s| engine.add_shape(s, ConsumerSpec::Log).unwrap());
    publisher.publish(inserts(&items, 0x10, &[(1, "a"), (2, "b")])).unwrap();
    engine.wait_flushed(Lsn::new(0x10), LONG).unwrap();
    let lines = |handle| {
        let page = engine.read(handle, Offset::ZERO, ReadLimits::default()).unwrap();
        let mut out = Vec::new();
        page.write_json_lines(&mut out);
        String::from_utf8(out).unwrap()
    };
    let line = |id: u64, value: &str, op: u64, last: &str| {
        let key = format!(r#""key":"\"public\".\"items\"/\"{id}\"""#);
        let headers = format!(r#""operation":"insert","offset":"0/10_{op}","txids":[16]{last}"#);
        format!("{{{key},\"value\":{{\"id\":\"{id}\",{value}}},\"headers\":{{{headers}}}}}\n")
    };
    let whole = line(1, r#""kind":"a","note":null"#, 0, "")
        + &line(2, r#""kind":"b","note":null"#, 2, r#","last":true"#);
    assert_eq!(lines(handles[0]), whole);
    assert_eq!(lines(handles[1]), line(1, r#""kind":"a""#, 0, r#","last":true"#));
}
