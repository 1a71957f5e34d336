//! Publishing: the one way in (R2). What does not follow is refused and changes nothing, what is
//! sent again is dropped (INV8), and who waits is woken (R16).

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use crossbeam_channel::bounded;
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use support::*;
use walfan::{
    Ack, ConsumerSpec, Engine, Failure, Fragment, Handle, Lsn, Offset, PublishError, Publisher,
    Relation, TransactionBuilder, TryPublishError, WaitError,
};

/// A transaction of one row a fragment; the commit comes with the last one.
fn pieces(items: &Arc<Relation>, commit: u64, rows: u64) -> Vec<Arc<Fragment>> {
    let mut transaction = TransactionBuilder::new(commit as u32, Lsn::new(commit));
    let mut fragments = Vec::new();
    for id in 0..rows {
        if id > 0 {
            fragments.push(Arc::new(transaction.cut()));
        }
        insert(&mut transaction, items, id, "a");
    }
    fragments.push(Arc::new(transaction.commit(Lsn::new(commit + 1))));
    fragments
}

fn offsets(commit: u64, rows: u64) -> Vec<Offset> {
    (0..rows).map(|row| Offset::new(Lsn::new(commit), row * 2)).collect()
}

/// An engine on disk, the handle of a whole-table log shape and what a consumer of all saw.
fn world() -> (Engine, Publisher, Handle, Seen, Arc<Relation>, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let (engine, publisher) = small().directory(dir.path()).start().unwrap();
    let items = items();
    engine.learn(Arc::clone(&items));
    let seen = Seen::default();
    let spec = recorder(Placement::Mailbox, Ack::Consumer, &seen, reports());
    engine.add_shape(shape(""), spec).unwrap();
    let log = engine.add_shape(shape(""), ConsumerSpec::Log).unwrap();
    (engine, publisher, log, seen, items, dir)
}

fn ends_with(engine: &Engine, log: Handle, seen: &Seen, expected: &[Offset]) {
    let last = expected.last().unwrap().commit;
    assert_eq!(engine.wait_flushed(last, LONG).unwrap(), last);
    assert_eq!(log_of(engine, log), expected);
    assert_eq!(joined(seen), expected);
    let times = seen.lock().unwrap().iter().filter(|(_, o, _)| !o.is_commit_mark()).count();
    assert_eq!(times, expected.len(), "something was seen twice");
}

#[test]
fn r02_what_does_not_follow_is_refused_and_changes_nothing() {
    let (engine, mut publisher, log, seen, items, _dir) = world();
    let ten = pieces(&items, 10, 3);
    let no_begin = publisher.publish(Arc::clone(&ten[1])).unwrap_err();
    assert_eq!(no_begin, PublishError::NoBegin { commit: Lsn::new(10) });
    let lone_commit = publisher.publish(Arc::clone(&ten[2])).unwrap_err();
    assert_eq!(lone_commit, PublishError::NoBegin { commit: Lsn::new(10) });
    for commit in [0, u64::MAX] {
        let nowhere = TransactionBuilder::new(1, Lsn::new(commit)).commit(Lsn::MAX);
        let refused = publisher.publish(nowhere).unwrap_err();
        assert_eq!(refused, PublishError::NoPosition { commit: Lsn::new(commit) });
    }
    publisher.publish(Arc::clone(&ten[0])).unwrap();
    let (open, found) = (Lsn::new(10), Lsn::new(11));
    let other = publisher.publish(inserts(&items, 11, &[(1, "a")])).unwrap_err();
    assert_eq!(other, PublishError::OtherOpen { open, found });
    let other = publisher.publish(Arc::clone(&pieces(&items, 11, 2)[1])).unwrap_err();
    assert_eq!(other, PublishError::OtherOpen { open, found });
    publisher.publish(Arc::clone(&ten[1])).unwrap();
    let falls = publisher.publish(Arc::clone(&ten[1])).unwrap_err();
    let at = Offset::new(Lsn::new(10), 2);
    assert_eq!(falls, PublishError::OffsetsFall { last: at, found: at });
    let again = publisher.try_publish(Arc::clone(&ten[1])).unwrap_err();
    let TryPublishError::Refused { error, fragment } = again else { panic!("{again}") };
    assert_eq!(error, falls);
    assert!(Arc::ptr_eq(&fragment, &ten[1]));
    publisher.publish(Arc::clone(&ten[2])).unwrap();
    assert!(!publisher.is_open());
    ends_with(&engine, log, &seen, &offsets(10, 3));
}

/// After a reconnect the open transaction comes again from its beginning.
#[test]
fn r02_an_open_transaction_that_is_sent_again_resumes() {
    let (engine, mut publisher, log, seen, items, _dir) = world();
    publish_rows(&mut publisher, &items, 1..5, "a");
    let ten = pieces(&items, 10, 6);
    for stopped_after in 1..6 {
        for fragment in &ten[..stopped_after] {
            publisher.publish(Arc::clone(fragment)).unwrap();
        }
    }
    assert_eq!(publisher.unfinished(), Some(Lsn::new(10)));
    for fragment in &ten {
        publisher.publish(Arc::clone(fragment)).unwrap();
    }
    assert_eq!(publisher.unfinished(), None);
    ends_with(&engine, log, &seen, &[firsts(1..5), offsets(10, 6)].concat());
}

/// The source begins below the open transaction, and comes to it again; cut in other places.
#[test]
fn r02_a_lower_replay_is_dropped_and_then_the_open_transaction_resumes() {
    let (engine, mut publisher, log, seen, items, _dir) = world();
    publish_rows(&mut publisher, &items, 1..9, "a");
    let ten = pieces(&items, 10, 4);
    publisher.publish(Arc::clone(&ten[0])).unwrap();
    publisher.publish(Arc::clone(&ten[1])).unwrap();
    publish_rows(&mut publisher, &items, 4..6, "a");
    let skips = publisher.publish(inserts(&items, 11, &[(1, "a")])).unwrap_err();
    assert!(matches!(skips, PublishError::OtherOpen { .. }), "{skips}");
    publish_rows(&mut publisher, &items, 6..9, "a");
    assert_eq!(publisher.unfinished(), Some(Lsn::new(10)));
    let whole = inserts(&items, 10, &[(0, "a"), (1, "a"), (2, "a"), (3, "a")]);
    publisher.publish(whole).unwrap();
    publish_rows(&mut publisher, &items, 11..13, "a");
    let expected = [firsts(1..9), offsets(10, 4), firsts(11..13)].concat();
    ends_with(&engine, log, &seen, &expected);
}

/// What is flushed need not come again, also where it was coming again.
#[test]
fn r02_a_replay_of_what_is_flushed_may_end_half_way() {
    let (engine, mut publisher, log, seen, items, _dir) = world();
    let ten = pieces(&items, 10, 3);
    ten.iter().for_each(|fragment| publisher.publish(Arc::clone(fragment)).unwrap());
    assert_eq!(engine.wait_flushed(Lsn::new(10), LONG).unwrap(), Lsn::new(10));
    publisher.publish(Arc::clone(&ten[0])).unwrap();
    assert_eq!(publisher.unfinished(), Some(Lsn::new(10)));
    publish_rows(&mut publisher, &items, 11..13, "a");
    assert_eq!(publisher.unfinished(), None);
    ends_with(&engine, log, &seen, &[offsets(10, 3), firsts(11..13)].concat());
}

/// Nothing is lost around fragments that hold no change, wherever they come.
#[test]
fn r02_fragments_without_changes_hide_nothing() {
    let (engine, mut publisher, log, seen, items, _dir) = world();
    let mut transaction = TransactionBuilder::new(1, Lsn::new(10));
    publisher.publish(transaction.cut()).unwrap();
    for id in 0..3 {
        insert(&mut transaction, &items, id, "a");
        publisher.publish(transaction.cut()).unwrap();
        publisher.publish(transaction.cut()).unwrap();
    }
    publisher.publish(transaction.commit(Lsn::new(11))).unwrap();
    let empty = TransactionBuilder::new(2, Lsn::new(11)).commit(Lsn::new(12));
    publisher.publish(empty).unwrap();
    publish_rows(&mut publisher, &items, 12..13, "a");
    ends_with(&engine, log, &seen, &[offsets(10, 3), firsts(12..13)].concat());
}

/// Transactions that overlapped come in the order of their commits, whatever their numbers; a
/// change has no position beside the one that its commit gives it (INV7).
#[test]
fn b06_transactions_that_overlapped_are_ordered_by_their_commits() {
    let (engine, mut publisher, log, seen, items, _dir) = world();
    let mut open: Vec<_> =
        (1..=32).map(|n| TransactionBuilder::new(99 - n, Lsn::new(n.into()))).collect();
    // Their rows were written in turns.
    for id in 0..3 {
        open.iter_mut().for_each(|transaction| insert(transaction, &items, id, "a"));
    }
    for (commit, transaction) in (1..).zip(open) {
        publisher.publish(transaction.commit(Lsn::new(commit + 1))).unwrap();
    }
    let expected: Vec<_> = (1..=32).flat_map(|commit| offsets(commit, 3)).collect();
    ends_with(&engine, log, &seen, &expected);
}

/// A world of two shards, `count` of which are inside a handler that waits for `release`.
fn blocked(
    count: usize,
) -> (Engine, Publisher, Arc<Relation>, Vec<Seen>, crossbeam_channel::Sender<()>) {
    let (engine, mut publisher) = small().fragment_credits(2).start().unwrap();
    let items = items();
    engine.learn(Arc::clone(&items));
    let (release, gate) = bounded::<()>(0);
    let (entered, inside) = bounded(2);
    let all = (0..2).map(|number| {
        let seen = Seen::default();
        let (gate, entered) = (gate.clone(), entered.clone());
        let script: Script = Arc::new(move |delivery, _| {
            if number < count && delivery.commit_lsn() == Lsn::new(1) {
                entered.send(())?;
                // Disconnected: released.
                let _ = gate.recv();
            }
            Ok(Report::Yes)
        });
        let spec = recorder(Placement::Inline, Ack::Consumer, &seen, script);
        engine.add_shape(shape(""), spec).unwrap();
        seen
    });
    let all = all.collect();
    wait_until("they run inline", || engine.metrics().lagging == 0);
    publish_rows(&mut publisher, &items, 1..2, "a");
    (0..count).for_each(|_| inside.recv().unwrap());
    (engine, publisher, items, all, release)
}

#[test]
fn r02_a_full_channel_hands_the_fragment_back_and_no_shard_has_it() {
    for count in 1..=2 {
        let (engine, mut publisher, items, all, release) = blocked(count);
        publish_rows(&mut publisher, &items, 2..4, "a");
        let fragment = Arc::new(inserts(&items, 4, &[(4, "a")]));
        for _ in 0..3 {
            let full = publisher.try_publish(Arc::clone(&fragment)).unwrap_err();
            let TryPublishError::Full(back) = full else { panic!("{full}") };
            assert!(Arc::ptr_eq(&back, &fragment));
        }
        assert_eq!((publisher.is_open(), publisher.committed()), (false, Lsn::new(3)));
        // Another one in its place: had a shard kept the first, it would drop this one.
        drop((fragment, release));
        let other = Arc::new(inserts(&items, 4, &[(4, "a"), (5, "a")]));
        wait_until("room", || engine.metrics().transactions == 3);
        publisher.try_publish(other).unwrap();
        assert_eq!(engine.wait_flushed(Lsn::new(4), LONG).unwrap(), Lsn::new(4));
        let expected = [firsts(1..4), offsets(4, 2)].concat();
        all.iter().for_each(|seen| assert_eq!(joined(seen), expected));
    }
}

/// R16: who waits in publish, and who waits for a position, is woken when the engine stops,
/// although the shards are still inside handlers.
#[test]
fn r16_who_waits_wakes_when_the_engine_stops() {
    let (engine, mut publisher, items, _all, release) = blocked(2);
    publish_rows(&mut publisher, &items, 2..4, "a");
    thread::scope(|scope| {
        let publishing = scope.spawn(|| {
            let waited = publisher.publish(inserts(&items, 4, &[(4, "a")]));
            (waited, publisher.publish(inserts(&items, 4, &[(4, "a")])))
        });
        let waiting = scope.spawn(|| engine.wait_flushed(Lsn::new(9), Duration::MAX));
        let stopping = scope.spawn(|| engine.shutdown(LONG));
        let stopped = PublishError::Failed(Failure::Stopped);
        let (waited, after) = publishing.join().unwrap();
        assert_eq!((waited, after), (Err(stopped.clone()), Err(stopped)));
        let waited = waiting.join().unwrap();
        assert!(matches!(waited, Err(WaitError::Failed(Failure::Stopped))), "{waited:?}");
        // They were woken first: only now can the shards stop.
        drop(release);
        assert!(stopping.join().unwrap().unwrap().wedged.is_empty());
    });
    assert_eq!(engine.shutdown(LONG), Err(Failure::Stopped));
}
