//! Retention: the log in a directory stays within its limit; a quiet shape keeps everything while
//! busy ones are cut, who is below a shape's start is told so, and what is owed stays (R15).

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::path::Path;
use std::sync::{Arc, Mutex};
use support::*;
use walfan::{
    Ack, ConsumerSpec, Engine, Event, Handle, Lsn, Offset, Publisher, ReadError, ReadLimits,
    Relation, TransactionBuilder, Value,
};

const LIMIT: u64 = 1 << 20;
/// One transaction's bytes, about: so many are far beyond the limit.
const NOTE: [u8; 1_000] = [b'x'; 1_000];
const COMMITS: u64 = 6_000;

fn open(dir: &Path) -> (Engine, Publisher, Arc<Relation>) {
    let builder = small().shards(1).directory(dir).log_bytes_max(LIMIT);
    let (engine, publisher) = builder.start().unwrap();
    let items = items();
    engine.learn(Arc::clone(&items));
    (engine, publisher, items)
}

/// Transactions of one long row each, of kind `quiet` every 1,000th time and else `busy`.
fn publish(publisher: &mut Publisher, items: &Arc<Relation>, commits: std::ops::Range<u64>) {
    for commit in commits {
        let mut transaction = TransactionBuilder::new(1, Lsn::new(commit));
        let kind: &[u8] = if commit % 1_000 == 7 { b"quiet" } else { b"busy" };
        let row = [Value::Text(b"1"), Value::Text(kind), Value::Text(&NOTE)];
        transaction.insert(items, row).unwrap();
        publisher.publish(transaction.commit(Lsn::new(commit + 1))).unwrap();
    }
}

fn bytes_in(dir: &Path) -> u64 {
    let files = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    let logs = files.filter(|file| file.file_name().to_string_lossy().starts_with("shard-"));
    // One may be removed in between.
    logs.filter_map(|file| file.metadata().ok()).map(|metadata| metadata.len()).sum()
}

fn start_of(engine: &Engine, handle: Handle) -> Option<Offset> {
    match engine.read(handle, Offset::ZERO, ReadLimits::default()) {
        Err(ReadError::BelowStart { start, .. }) => Some(start),
        Ok(_) => None,
        Err(error) => panic!("{error}"),
    }
}

/// The commits of all changes after `after`.
fn commits_of(engine: &Engine, handle: Handle, after: Offset) -> Vec<u64> {
    let (mut found, mut after) = (Vec::new(), after);
    loop {
        let page = engine.read(handle, after, ReadLimits::default()).unwrap();
        found.extend(page.changes.iter().map(|change| change.commit_lsn().as_u64()));
        after = page.through;
        if page.up_to_date {
            return found;
        }
    }
}

#[test]
fn r15_a_quiet_shape_keeps_everything_while_busy_ones_are_cut() {
    let dir = scratch();
    let (engine, mut publisher, items) = open(dir.path());
    let clauses = ["kind = 'quiet'", "kind = 'busy'", "", "kind = 'gone'"];
    let shapes = clauses.map(|clause| (shape(clause), ConsumerSpec::Log));
    let handles = engine.add_shapes(shapes.to_vec()).unwrap();
    engine.remove_shape(handles[3]).unwrap();
    publish(&mut publisher, &items, 1..COMMITS);
    engine.wait_flushed(Lsn::new(COMMITS - 1), LONG).unwrap();
    // A file that is written to, and what is not thinned yet of the last one.
    wait_until("the limit is kept", || bytes_in(dir.path()) < LIMIT + LIMIT / 4);
    // It is counted right after.
    wait_until("it is counted", || engine.metrics().log_bytes_freed > 3 * LIMIT);
    let metrics = engine.metrics();
    assert!(metrics.log_bytes_freed > 3 * LIMIT, "{metrics:?}");
    assert!(metrics.log_bytes_held < LIMIT + LIMIT / 4, "{metrics:?}");
    assert_eq!(metrics.cut_shapes, 2);
    let check = |engine: &Engine| {
        let quiet: Vec<_> = (0..COMMITS).filter(|commit| commit % 1_000 == 7).collect();
        assert_eq!(commits_of(engine, handles[0], Offset::ZERO), quiet);
        let starts = [1, 2].map(|shape| start_of(engine, handles[shape]).expect("it was cut"));
        let all = |start: Offset| start.commit.as_u64() + 1..COMMITS;
        let busy: Vec<_> = all(starts[0]).filter(|commit| commit % 1_000 != 7).collect();
        assert_eq!(commits_of(engine, handles[1], starts[0]), busy);
        assert_eq!(commits_of(engine, handles[2], starts[1]), all(starts[1]).collect::<Vec<_>>());
        // How many depends on how the commits fell into files and blocks, and so on how busy the
        // machine was.
        assert!(!busy.is_empty(), "what is newer than the limit is there");
        starts
    };
    let before = check(&engine);
    drop((engine, publisher));
    let (engine, ..) = open(dir.path());
    assert_eq!(engine.shapes().len(), 3);
    let after = check(&engine);
    assert!(after >= before);
}

/// What the LSN waits for is kept, whatever the limit; who trails for itself alone and comes back
/// below the start is told to start over (R9).
#[test]
fn r15_who_owes_pins_and_who_trails_beyond_the_quota_is_invalidated() {
    let dir = scratch();
    let (engine, mut publisher, items) = open(dir.path());
    let holds = Arc::new(Mutex::new(true));
    let silent = Arc::clone(&holds);
    let script: Script =
        Arc::new(move |_, _| Ok(if *silent.lock().unwrap() { Report::No } else { Report::Yes }));
    let seen = Seen::default();
    let owes = recorder(Placement::Mailbox, Ack::Consumer, &seen, script);
    let owes = engine.add_shape(shape("kind = 'busy'"), owes).unwrap();
    let dies = placed(Placement::Mailbox, Ack::Log, |start| {
        // Its state is lost at each restart.
        let dies: Script = Arc::new(|delivery, _| match delivery.commit_lsn().as_u64() {
            5_999 => Err("as the test wants".into()),
            _ => Ok(Report::Yes),
        });
        Ok(walfan::Started::new(recording(&Seen::default(), dies), start.first()))
    });
    let trails = engine.add_shape(shape("kind = 'busy'"), dies).unwrap();
    publish(&mut publisher, &items, 1..3_000);
    wait_until("all is handled", || seen.lock().unwrap().len() >= 2_996);
    assert!(bytes_in(dir.path()) > 2 * LIMIT, "nothing of it may go");
    assert_eq!(commits_of(&engine, owes, Offset::ZERO).first(), Some(&1));
    *holds.lock().unwrap() = false;
    publish(&mut publisher, &items, 3_000..5_999);
    engine.wait_flushed(Lsn::new(5_998), LONG).unwrap();
    wait_until("the limit is kept", || bytes_in(dir.path()) < LIMIT + LIMIT / 4);
    assert!(start_of(&engine, trails).is_some());
    publish(&mut publisher, &items, 5_999..6_000);
    let gone = wait_for(&engine, |event| matches!(event, Event::Invalidated { .. }));
    let Event::Invalidated { handle, cause, .. } = gone else { panic!("{gone:?}") };
    assert!(handle == trails && cause.contains("the log begins after"), "{cause}");
    assert!(matches!(
        engine.read(trails, Offset::ZERO, ReadLimits::default()),
        Err(ReadError::Unknown { .. })
    ));
    engine.wait_flushed(Lsn::new(5_999), LONG).unwrap();
}
