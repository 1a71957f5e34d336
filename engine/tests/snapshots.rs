//! Snapshots: initial rows, and then what they do not show: nothing is lost and nothing told twice.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use support::*;
use walfan::{
    Ack, AddError, Builder, ConsumerSpec, Engine, Event, Failure, Handle, Lsn, Offset, PgSnapshot,
    Publisher, ReadError, ReadLimits, RemoveError, ShapeDefinition, SnapshotError, SnapshotLoader,
    SnapshotPosition, SnapshotRow, Start, Started, TransactionBuilder, Value,
};

type World = (Engine, Publisher);

fn open(dir: &Path, builder: Builder) -> World {
    let (engine, publisher) = builder.directory(dir).start().unwrap();
    engine.learn(items());
    (engine, publisher)
}

/// Everything below `xmax` but the `running`. Transactions here have their commit's number.
fn shown(xmax: u64, running: &[u64]) -> PgSnapshot {
    PgSnapshot::new(running.first().copied().unwrap_or(xmax), xmax, running.iter().copied())
        .unwrap()
}

fn push(loader: &mut SnapshotLoader, id: u64, kind: &str) -> Result<(), SnapshotError> {
    let id = id.to_string();
    loader.push([Value::Text(id.as_bytes()), Value::Text(kind.as_bytes()), Value::Null])
}

/// Gives the shape rows of these ids.
fn give(engine: &Engine, handle: Handle, (shown, at): (PgSnapshot, u64), ids: &[u64]) {
    let mut loader = engine.load_snapshot(handle, shown, Lsn::new(at)).unwrap();
    ids.iter().for_each(|id| push(&mut loader, *id, "a").unwrap());
    assert_eq!(loader.finish().unwrap().rows(), ids.len() as u64);
}

fn rows(engine: &Engine, handle: Handle, limits: ReadLimits) -> Vec<SnapshotRow> {
    let (mut rows, mut from) = (Vec::new(), SnapshotPosition::START);
    loop {
        let page = engine.read_snapshot(handle, from, limits).unwrap();
        rows.extend(page.rows);
        from = page.next;
        if page.is_last {
            return rows;
        }
    }
}

fn ids(engine: &Engine, handle: Handle) -> Vec<u64> {
    let id = |row: &SnapshotRow| match row.row().get(0) {
        Some(Value::Text(text)) => String::from_utf8(text.to_vec()).unwrap().parse().unwrap(),
        _ => 0,
    };
    rows(engine, handle, ReadLimits::default()).iter().map(id).collect()
}

fn commits(offsets: &[Offset]) -> Vec<u64> {
    offsets.iter().map(|offset| offset.commit.as_u64()).collect()
}

/// The files of initial rows in a directory.
fn files(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir.join("snapshots")).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn flush(engine: &Engine, commit: u64) {
    engine.wait_flushed(Lsn::new(commit), LONG).unwrap();
}

#[test]
fn rows_come_first_and_then_what_they_do_not_show() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, mut publisher) = open(dir.path(), small());
    let items = items();
    publish_rows(&mut publisher, &items, 1..5, "a");
    flush(&engine, 4);
    let plain = engine.add_shape(shape(""), ConsumerSpec::Log).unwrap();
    let handle = engine.add_shape_with_snapshot(shape(""), ConsumerSpec::Log).unwrap();
    publish_rows(&mut publisher, &items, 5..9, "a");
    // 6 and 8 were running, 9 and later had not begun.
    let mut loader = engine.load_snapshot(handle, shown(9, &[6, 8]), Lsn::new(12)).unwrap();
    [1, 2, 3, 4, 5, 7].iter().for_each(|id| push(&mut loader, *id, "a").unwrap());
    publish_rows(&mut publisher, &items, 9..12, "a");
    flush(&engine, 11);
    // Not an empty page: what the log holds is not told from what the rows hold.
    let read = engine.read(handle, Offset::ZERO, ReadLimits::default());
    assert!(matches!(read, Err(ReadError::SnapshotIncomplete { .. })), "{read:?}");
    let read = engine.read_snapshot(handle, SnapshotPosition::START, ReadLimits::default());
    assert!(matches!(read, Err(ReadError::SnapshotIncomplete { .. })), "{read:?}");
    assert!(engine.snapshot(handle).unwrap().is_none());
    let snapshot = loader.finish().unwrap();
    assert_eq!((snapshot.rows(), snapshot.taken_at()), (6, Lsn::new(12)));
    assert_eq!(engine.snapshot(handle).unwrap(), Some(snapshot));
    publish_rows(&mut publisher, &items, 12..14, "a");
    flush(&engine, 13);
    assert_eq!(ids(&engine, handle), [1, 2, 3, 4, 5, 7]);
    assert_eq!(commits(&log_of(&engine, handle)), [6, 8, 9, 10, 11, 12, 13]);
    assert_eq!(log_of(&engine, plain), firsts(5..14));
    // Numbers of transactions come again: beyond where the rows were read nothing is compared.
    let mut transaction = TransactionBuilder::new(5, Lsn::new(14));
    insert(&mut transaction, &items, 14, "a");
    publisher.publish(transaction.commit(Lsn::new(15))).unwrap();
    flush(&engine, 14);
    assert_eq!(commits(&log_of(&engine, handle)).last(), Some(&14));
    drop((engine, publisher));
}

#[test]
fn a_waiter_is_told_of_what_the_rows_do_not_show_only() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, mut publisher) = open(dir.path(), small());
    let items = items();
    let handle = engine.add_shape_with_snapshot(shape(""), ConsumerSpec::Log).unwrap();
    let waited = engine.wait(handle, Offset::ZERO, LONG);
    assert!(matches!(waited, Err(ReadError::SnapshotIncomplete { .. })), "{waited:?}");
    give(&engine, handle, (shown(6, &[4]), 10), &[1, 2, 3, 5]);
    publish_rows(&mut publisher, &items, 1..4, "a");
    flush(&engine, 3);
    assert!(!engine.wait(handle, Offset::ZERO, Duration::from_millis(20)).unwrap());
    publish_rows(&mut publisher, &items, 4..6, "a");
    assert!(engine.wait(handle, Offset::ZERO, LONG).unwrap());
    flush(&engine, 5);
    let after = Offset::commit_mark(Lsn::new(4));
    assert!(!engine.wait(handle, after, Duration::from_millis(20)).unwrap());
    drop((engine, publisher));
}

#[test]
fn rows_are_told_as_the_log_tells_them() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, mut publisher) = open(dir.path(), small());
    let items = items();
    let definition = ShapeDefinition::table(items.table.clone()).with_columns(["note"]);
    let handle = engine.add_shape_with_snapshot(definition, ConsumerSpec::Log).unwrap();
    let mut loader = engine.load_snapshot(handle, shown(1, &[]), Lsn::new(1)).unwrap();
    push(&mut loader, 7, "hot").unwrap();
    let large = vec![b'x'; 3 << 20];
    loader.push([Value::Text(b"8"), Value::Null, Value::Text(&large)]).unwrap();
    loader.push([Value::Text(b"9"), Value::Null, Value::Text(b"a\"b")]).unwrap();
    assert_eq!(loader.finish().unwrap().rows(), 3);
    publish_rows(&mut publisher, &items, 7..8, "hot");
    flush(&engine, 7);
    let line = |write: &dyn Fn(&mut Vec<u8>)| {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    };
    let key =
        |id: u64| format!(r#"{{"key":"\"public\".\"items\"/\"{id}\"","value":{{"id":"{id}","#);
    let expected = format!("{}{}\n", key(7), r#""note":null},"headers":{"operation":"insert"}}"#);
    let found = rows(&engine, handle, ReadLimits::default());
    assert_eq!(line(&|out| found[0].write_json_line(out)), expected);
    let page = engine.read(handle, Offset::ZERO, ReadLimits::default()).unwrap();
    let logged = line(&|out| page.write_json_lines(out));
    let (front, _) = expected.split_at(expected.find("}}").unwrap());
    assert!(logged.starts_with(front), "{logged} does not begin as {expected}");
    let told: Vec<_> = found[2].selected().map(|told| (told.index, told.value)).collect();
    assert_eq!(told, [(0, Value::Text(b"9")), (2, Value::Text(b"a\"b"))]);
    // A row that is larger than a page, and than a piece, is a page; no row is left out.
    let small = ReadLimits { changes_max: 2, bytes_max: 10 };
    assert_eq!(rows(&engine, handle, small).len(), 3);
    let page = engine.read_snapshot(handle, SnapshotPosition::START, small).unwrap();
    assert_eq!((page.rows.len(), page.is_last), (1, false));
    let beyond = SnapshotPosition { chunk: 9, row: 0 };
    let read = engine.read_snapshot(handle, beyond, small);
    assert!(matches!(read, Err(ReadError::BeyondSnapshot { .. })), "{read:?}");
    drop((engine, publisher));
}

#[test]
fn what_cannot_be_is_refused_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, mut publisher) = open(dir.path(), small());
    let items = items();
    publish_rows(&mut publisher, &items, 1..10, "a");
    flush(&engine, 9);
    let plain = engine.add_shape(shape(""), ConsumerSpec::Log).unwrap();
    let handle = engine.add_shape_with_snapshot(shape(""), ConsumerSpec::Log).unwrap();
    let load = |handle, shown, at| engine.load_snapshot(handle, shown, Lsn::new(at));
    let error = load(plain, shown(10, &[]), 20).unwrap_err();
    assert!(matches!(error, SnapshotError::NotAwaited { .. }), "{error}");
    let error = load(Handle::new(99), shown(10, &[]), 20).unwrap_err();
    assert!(matches!(error, SnapshotError::Unknown { .. }), "{error}");
    let error = load(handle, shown(10, &[]), 9).unwrap_err();
    assert!(matches!(error, SnapshotError::TooOld { .. }), "{error}");
    // Transaction 8 was in the stream before the shape came, and the rows do not have it.
    let error = load(handle, shown(10, &[8]), 20).unwrap_err();
    assert!(matches!(error, SnapshotError::Unshown { xid: 8, .. }), "{error}");
    let mut loader = load(handle, shown(10, &[]), 20).unwrap();
    let error = load(handle, shown(10, &[]), 20).unwrap_err();
    assert!(matches!(error, SnapshotError::Loading { .. }), "{error}");
    let error = loader.push([Value::Null]).unwrap_err();
    assert!(matches!(error, SnapshotError::Row { .. }), "{error}");
    drop(loader);
    assert!(files(dir.path()).is_empty());
    // Another one may come, until one is complete.
    give(&engine, handle, (shown(10, &[]), 20), &[1, 2]);
    let error = load(handle, shown(10, &[]), 20).unwrap_err();
    assert!(matches!(error, SnapshotError::Complete { .. }), "{error}");
    assert_eq!(ids(&engine, handle), [1, 2]);
    let read = engine.read_snapshot(plain, SnapshotPosition::START, ReadLimits::default());
    assert!(matches!(read, Err(ReadError::NoSnapshot { .. })), "{read:?}");
    let (memory, _publisher) = small().start().unwrap();
    memory.learn(items);
    let error = memory.add_shape_with_snapshot(shape(""), ConsumerSpec::Log).unwrap_err();
    assert!(matches!(error, AddError::NoDirectory { .. }), "{error}");
    drop((engine, publisher));
}

/// A transaction that is open when a shape is added is none of its own; so the rows must show it.
#[test]
fn g11_a_transaction_that_the_shape_came_in_must_be_in_its_rows() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, mut publisher) = open(dir.path(), small());
    let items = items();
    let mut transaction = TransactionBuilder::new(5, Lsn::new(5));
    insert(&mut transaction, &items, 1, "a");
    publisher.publish(transaction.cut()).unwrap();
    let handle = engine.add_shape_with_snapshot(shape(""), ConsumerSpec::Log).unwrap();
    insert(&mut transaction, &items, 2, "a");
    publisher.publish(transaction.commit(Lsn::new(6))).unwrap();
    let error = engine.load_snapshot(handle, shown(6, &[5]), Lsn::new(10)).unwrap_err();
    assert!(matches!(error, SnapshotError::Unshown { xid: 5, .. }), "{error}");
    give(&engine, handle, (shown(6, &[]), 10), &[1, 2]);
    publish_rows(&mut publisher, &items, 6..8, "a");
    flush(&engine, 7);
    assert_eq!(log_of(&engine, handle), firsts(6..8));
    drop((engine, publisher));
}

/// What came in an earlier life may not come again.
#[test]
fn g11_a_transaction_of_an_earlier_life_must_be_in_the_rows_too() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, mut publisher) = open(dir.path(), small());
    publish_rows(&mut publisher, &items(), 1..10, "a");
    flush(&engine, 9);
    engine.raise_floor(Lsn::new(10)).unwrap();
    drop((engine, publisher));
    let (engine, mut publisher) = open(dir.path(), small());
    let handle = engine.add_shape_with_snapshot(shape(""), ConsumerSpec::Log).unwrap();
    let load = |running: &[u64]| engine.load_snapshot(handle, shown(12, running), Lsn::new(20));
    let error = load(&[]).unwrap_err();
    assert!(matches!(error, SnapshotError::Untold { .. }), "{error}");
    engine.note_earlier_xids(10).unwrap();
    // 8 waits for its standby, and 10 runs: of neither is anything known.
    for running in [8, 10] {
        let error = load(&[running]).unwrap_err();
        assert!(matches!(error, SnapshotError::Unshown { xid, .. } if u64::from(xid) == running));
    }
    give(&engine, handle, (shown(12, &[11]), 20), &[1, 2]);
    publish_rows(&mut publisher, &items(), 11..12, "a");
    flush(&engine, 11);
    assert_eq!(commits(&log_of(&engine, handle)), [11]);
    drop((engine, publisher));
}

/// A consumer that says of each start whether it was told of rows, and how many.
fn told(placement: Placement, ack: Ack, seen: &Seen, starts: &Starts) -> ConsumerSpec {
    let (seen, starts) = (Arc::clone(seen), Arc::clone(starts));
    placed(placement, ack, move |start: &Start<'_>| {
        let rows = start.snapshot().map(|snapshot| snapshot.rows());
        starts.lock().unwrap().push((rows, start.last_reported()));
        Ok(Started::new(recording(&seen, reports()), start.resume()))
    })
}

type Starts = Arc<Mutex<Vec<(Option<u64>, Option<Lsn>)>>>;

#[test]
fn a_consumer_is_made_when_the_rows_are_complete_and_gets_what_they_do_not_show() {
    for placement in PLACEMENTS {
        for ack in [Ack::Log, Ack::Consumer] {
            let dir = tempfile::tempdir().unwrap();
            let (engine, mut publisher) = open(dir.path(), small());
            let items = items();
            let (seen, starts) = (Seen::default(), Starts::default());
            let spec = told(placement, ack, &seen, &starts);
            let handle = engine.add_shape_with_snapshot(shape(""), spec).unwrap();
            publish_rows(&mut publisher, &items, 1..20, "a");
            let shown = shown(18, &[4, 15]);
            let mut loader = engine.load_snapshot(handle, shown, Lsn::new(40)).unwrap();
            push(&mut loader, 1, "a").unwrap();
            // The LSN does not wait for a shape whose rows are being loaded.
            flush(&engine, 19);
            assert!(starts.lock().unwrap().is_empty());
            loader.finish().unwrap();
            // Some that the rows show come only now.
            let late = |xid, commit: u64| {
                let mut transaction = TransactionBuilder::new(xid, Lsn::new(commit));
                insert(&mut transaction, &items, commit, "a");
                transaction.commit(Lsn::new(commit + 1))
            };
            for commit in 20..40 {
                let xid = if commit % 3 == 0 { 3 } else { commit as u32 };
                publisher.publish(late(xid, commit)).unwrap();
            }
            publisher.publish(late(3, 40)).unwrap();
            publisher.publish(late(41, 41)).unwrap();
            flush(&engine, 41);
            let expected: Vec<u64> = [4, 15, 18, 19]
                .into_iter()
                .chain((20..40).filter(|commit| commit % 3 > 0))
                .chain([40, 41])
                .collect();
            wait_until("all of it", || joined(&seen).len() >= expected.len());
            assert_eq!(commits(&joined(&seen)), expected, "{placement:?} {ack:?}");
            assert_eq!(commits(&log_of(&engine, handle)), expected);
            assert_eq!(*starts.lock().unwrap(), [(Some(1), None)]);
            let metrics = engine.metrics();
            assert_eq!((metrics.deaths, metrics.undeliverable), (0, 0));
            drop((engine, publisher));
        }
    }
}

#[test]
fn a_shape_that_goes_takes_its_rows_along_wherever_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, mut publisher) = open(dir.path(), small());
    let items = items();
    let add = || engine.add_shape_with_snapshot(shape(""), ConsumerSpec::Log).unwrap();
    let [complete, loading, finishing] = [add(), add(), add()];
    give(&engine, complete, (shown(1, &[]), 1), &[1, 2]);
    let load = |handle| engine.load_snapshot(handle, shown(1, &[]), Lsn::new(1)).unwrap();
    let (mut loader, finisher) = (load(loading), load(finishing));
    let large = vec![b'x'; 2 << 20];
    loader.push([Value::Text(b"1"), Value::Null, Value::Text(&large)]).unwrap();
    assert_eq!(files(dir.path()).len(), 2);
    for handle in [complete, loading, finishing] {
        engine.remove_shape(handle).unwrap();
        let read = engine.read_snapshot(handle, SnapshotPosition::START, ReadLimits::default());
        assert!(matches!(read, Err(ReadError::Unknown { .. })), "{read:?}");
        assert!(matches!(engine.remove_shape(handle), Err(RemoveError::Unknown { .. })));
    }
    let error = loader.push([Value::Text(b"1"), Value::Null, Value::Text(&large)]).unwrap_err();
    assert!(matches!(error, SnapshotError::Unknown { .. }), "{error}");
    let error = push(&mut loader, 1, "a").unwrap_err();
    assert!(matches!(error, SnapshotError::Abandoned { .. }), "{error}");
    let error = finisher.finish().unwrap_err();
    assert!(matches!(error, SnapshotError::Unknown { .. }), "{error}");
    wait_until("the end of its files", || files(dir.path()).is_empty());
    // The same for one that is invalidated.
    let ended = add();
    give(&engine, ended, (shown(1, &[]), 1), &[1, 2]);
    let mut transaction = TransactionBuilder::new(3, Lsn::new(3));
    transaction.truncate(&items);
    publisher.publish(transaction.commit(Lsn::new(4))).unwrap();
    wait_for(&engine, |event| matches!(event, Event::Invalidated { .. }));
    wait_until("the end of its files", || files(dir.path()).is_empty());
    drop((engine, publisher));
}

#[test]
fn opened_again_what_was_complete_is_there_and_what_was_not_is_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let (seen, starts) = (Seen::default(), Starts::default());
    let builder = || {
        let (seen, starts) = (Arc::clone(&seen), Arc::clone(&starts));
        small().consumers(move |handle, _| match handle.as_u64() {
            0 | 1 => told(Placement::Mailbox, Ack::Consumer, &seen, &starts),
            _ => ConsumerSpec::Log,
        })
    };
    let (engine, mut publisher) = open(dir.path(), builder());
    let items = items();
    let spec = || told(Placement::Mailbox, Ack::Consumer, &seen, &starts);
    let shapes = (0..3).map(|_| (shape(""), spec())).collect();
    let [complete, begun, unbegun] = engine.add_shapes_with_snapshot(shapes).unwrap()[..] else {
        panic!("three shapes")
    };
    publish_rows(&mut publisher, &items, 1..5, "a");
    give(&engine, complete, (shown(4, &[2]), 10), &[1, 3]);
    let mut loader = engine.load_snapshot(begun, shown(4, &[2]), Lsn::new(10)).unwrap();
    let large = vec![b'x'; 2 << 20];
    loader.push([Value::Text(b"1"), Value::Null, Value::Text(&large)]).unwrap();
    flush(&engine, 4);
    wait_until("the consumer", || joined(&seen).len() == 2);
    assert_eq!(files(dir.path()).len(), 2);
    engine.raise_floor(Lsn::new(5)).unwrap();
    engine.shutdown(LONG).unwrap();
    let error = loader.push([Value::Text(b"1"), Value::Null, Value::Text(&large)]).unwrap_err();
    assert!(matches!(error, SnapshotError::Failed(Failure::Stopped)), "{error}");
    drop((engine, publisher));
    drop(loader);
    for catalog in [true, false, true] {
        if !catalog {
            fs::remove_file(dir.path().join("catalog.redb")).unwrap();
        }
        seen.lock().unwrap().clear();
        starts.lock().unwrap().clear();
        let (engine, mut publisher) = open(dir.path(), builder());
        assert_eq!(files(dir.path()).len(), 1);
        assert_eq!(ids(&engine, complete), [1, 3]);
        for awaits in [begun, unbegun] {
            let read = engine.read(awaits, Offset::ZERO, ReadLimits::default());
            assert!(matches!(read, Err(ReadError::SnapshotIncomplete { .. })), "{read:?}");
        }
        publish_rows(&mut publisher, &items, 1..6, "a");
        flush(&engine, 5);
        assert_eq!(commits(&log_of(&engine, complete)), [2, 4, 5]);
        wait_until("the consumer", || joined(&seen).len() == 3);
        // How far it was is not known: the LSN did not wait for it from the beginning.
        assert_eq!(*starts.lock().unwrap(), [(Some(2), None)]);
        drop((engine, publisher));
    }
    // And one that was cut off is loaded again.
    let (engine, publisher) = open(dir.path(), builder());
    engine.note_earlier_xids(4).unwrap();
    give(&engine, begun, (shown(5, &[]), 10), &[1, 2, 3, 4]);
    assert_eq!(commits(&log_of(&engine, begun)), [5]);
    drop((engine, publisher));
}

/// The log's files are about 64 MiB, and of one that is whole a start reads little.
#[test]
fn shapes_of_a_sealed_segment_await_their_rows_or_have_them() {
    let dir = tempfile::tempdir().unwrap();
    let builder = || small().shards(1);
    let (engine, mut publisher) = open(dir.path(), builder());
    let items = items();
    let add = || engine.add_shape_with_snapshot(shape(""), ConsumerSpec::Log).unwrap();
    let (complete, awaiting) = (add(), add());
    let plain = engine.add_shape(shape(""), ConsumerSpec::Log).unwrap();
    give(&engine, complete, (shown(3, &[]), 10), &[1, 2]);
    let large = vec![b'x'; 1 << 20];
    let last = 80;
    for commit in 1..=last {
        let mut transaction = TransactionBuilder::new(commit as u32, Lsn::new(commit));
        let id = commit.to_string();
        let row = [Value::Text(id.as_bytes()), Value::Null, Value::Text(&large)];
        transaction.insert(&items, row).unwrap();
        publisher.publish(transaction.commit(Lsn::new(commit + 1))).unwrap();
        if commit % 10 == 0 {
            // So the last ten begin behind the 64 MiB: there another file is begun.
            flush(&engine, commit);
        }
    }
    engine.raise_floor(Lsn::new(last)).unwrap();
    wait_until("the sealed index", || dir.path().join("shard-000-000000.idx").exists());
    engine.shutdown(LONG).unwrap();
    drop((engine, publisher));
    for catalog in [true, false, true] {
        if !catalog {
            fs::remove_file(dir.path().join("catalog.redb")).unwrap();
        }
        let (engine, publisher) = open(dir.path(), builder());
        assert_eq!(ids(&engine, complete), [1, 2]);
        assert_eq!(commits(&log_of(&engine, complete)), Vec::from_iter(3..=last));
        assert_eq!(log_of(&engine, plain), firsts(1..last + 1));
        let read = engine.read(awaiting, Offset::ZERO, ReadLimits::default());
        assert!(matches!(read, Err(ReadError::SnapshotIncomplete { .. })), "{read:?}");
        drop((engine, publisher));
    }
    let (engine, publisher) = open(dir.path(), builder());
    engine.note_earlier_xids(4).unwrap();
    give(&engine, awaiting, (shown(last, &[5]), last + 1), &[1, 2, 3]);
    assert_eq!(commits(&log_of(&engine, awaiting)), [5, last]);
    drop((engine, publisher));
}

#[test]
fn who_loads_is_told_when_the_engine_fails_and_a_spoiled_file_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, publisher) = open(dir.path(), small());
    let add = || engine.add_shape_with_snapshot(shape(""), ConsumerSpec::Log).unwrap();
    let (handle, other) = (add(), add());
    give(&engine, handle, (shown(1, &[]), 1), &[1, 2]);
    let [name] = &files(dir.path())[..] else { panic!("one file") };
    let path = dir.path().join("snapshots").join(name);
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&path, &bytes).unwrap();
    let read = engine.read_snapshot(handle, SnapshotPosition::START, ReadLimits::default());
    assert!(matches!(&read, Err(ReadError::Log { cause }) if cause.contains(name)), "{read:?}");
    let loader = engine.load_snapshot(other, shown(1, &[]), Lsn::new(1)).unwrap();
    drop((engine, publisher));
    let error = loader.finish().unwrap_err();
    assert!(matches!(error, SnapshotError::Failed(Failure::Stopped)), "{error}");
    // The catalog knows it, so it is opened, and told when it is read; without it, at once.
    let (engine, publisher) = open(dir.path(), small());
    let read = engine.read_snapshot(handle, SnapshotPosition::START, ReadLimits::default());
    assert!(matches!(&read, Err(ReadError::Log { cause }) if cause.contains(name)), "{read:?}");
    drop((engine, publisher));
    fs::remove_file(dir.path().join("catalog.redb")).unwrap();
    let error = small().directory(dir.path()).start().unwrap_err();
    assert!(error.to_string().contains(name), "{error}");
    assert_eq!(fs::read(&path).unwrap(), bytes);
}
