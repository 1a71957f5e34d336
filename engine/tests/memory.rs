//! The memory store: it keeps what somebody still needs and no more than its bound (R14).

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use support::*;
use walfan::{
    Ack, AddError, ConsumerSpec, Engine, Event, Fragment, Lsn, Offset, PublishError, ReadError,
    ReadLimits, Relation, Start, Started, TransactionBuilder, Value,
};

static NOTE: [u8; 64 << 10] = [b'x'; 64 << 10];

/// A row with 64 KiB in it.
fn large(items: &Arc<Relation>, commit: u64, rows: usize) -> Fragment {
    let mut transaction = TransactionBuilder::new(1, Lsn::new(commit));
    for _ in 0..rows {
        let row = [Value::Text(b"0"), Value::Text(b"large"), Value::Text(&NOTE)];
        transaction.insert(items, row).unwrap();
    }
    transaction.commit(Lsn::new(commit + 1))
}

/// A shape that was quiet while the store let go of what lies behind needs nothing of that when its
/// consumer dies.
#[test]
fn r14_a_quiet_shapes_consumer_is_replayed_although_the_log_was_cut() {
    for placement in PLACEMENTS {
        for ack in [Ack::Consumer, Ack::Log] {
            let (engine, mut publisher) = Engine::builder().shards(1).runners(2).start().unwrap();
            let items = items();
            engine.learn(Arc::clone(&items));
            let (seen, never) = (Seen::default(), Seen::default());
            let spec = |seen, at| {
                let died = AtomicUsize::new(0);
                let script: Script = Arc::new(move |delivery, _| {
                    let here = delivery.commit_lsn() == Lsn::new(at);
                    assert!(!here || died.fetch_add(1, Ordering::Relaxed) > 0, "as the test wants");
                    Ok(Report::Yes)
                });
                recorder(placement, ack, seen, script)
            };
            engine.add_shape(shape("kind = 'quiet'"), spec(&seen, 90)).unwrap();
            engine.add_shape(shape("kind = 'never'"), spec(&never, 91)).unwrap();
            let busy = engine.add_shape(shape("kind = 'large'"), ConsumerSpec::Log).unwrap();
            publish_rows(&mut publisher, &items, 1..2, "quiet");
            for commit in 2..66 {
                publisher.publish(large(&items, commit, 1)).unwrap();
            }
            assert_eq!(engine.wait_flushed(Lsn::new(65), LONG).unwrap(), Lsn::new(65));
            // The next sync lets go of what was flushed before it.
            publish_rows(&mut publisher, &items, 66..67, "other");
            publisher.publish(large(&items, 67, 1)).unwrap();
            engine.wait_flushed(Lsn::new(67), LONG).unwrap();
            let cut = engine.read(busy, Offset::ZERO, ReadLimits::default());
            assert!(matches!(cut, Err(ReadError::BelowStart { .. })), "{cut:?}");
            publish_rows(&mut publisher, &items, 90..91, "quiet");
            publish_rows(&mut publisher, &items, 91..92, "never");
            publish_rows(&mut publisher, &items, 92..93, "quiet");
            wait_until("both are back", || engine.metrics().restarts == 2);
            wait_until("they have all", || {
                engine.metrics().invalidated > 0
                    || (joined(&seen).len() == 3 && joined(&never).len() == 1)
            });
            assert_eq!(engine.metrics().invalidated, 0, "{placement:?} {ack:?}");
            assert_eq!(joined(&seen), [firsts(1..2), firsts(90..91), firsts(92..93)].concat());
            assert_eq!(joined(&never), firsts(91..92));
            assert_eq!(engine.wait_flushed(Lsn::new(92), LONG).unwrap(), Lsn::new(92));
        }
    }
}

/// R9: nothing of a shape lies below its first offset, so there its consumer begins at the latest,
/// also where the log was cut long before the shape came.
#[test]
fn r09_who_resumes_before_its_shape_began_begins_with_it() {
    let (engine, mut publisher) = Engine::builder().shards(1).runners(1).start().unwrap();
    let items = items();
    engine.learn(Arc::clone(&items));
    let busy = engine.add_shape(shape(""), ConsumerSpec::Log).unwrap();
    let mut commits = 1..900;
    while engine.read(busy, Offset::ZERO, ReadLimits::default()).is_ok() {
        let commit = commits.next().expect("the log is cut");
        publisher.publish(large(&items, commit, 1)).unwrap();
        engine.wait_flushed(Lsn::new(commit), LONG).unwrap();
    }
    let seen = Seen::default();
    let record = Arc::clone(&seen);
    let spec = placed(Placement::Mailbox, Ack::Consumer, move |_: &Start<'_>| {
        Ok(Started::new(recording(&record, reports()), Offset::ZERO))
    });
    let late = engine.add_shape(shape("kind = 'late'"), spec).unwrap();
    publish_rows(&mut publisher, &items, 900..902, "late");
    assert_eq!(engine.wait_flushed(Lsn::new(901), LONG).unwrap(), Lsn::new(901));
    assert_eq!(joined(&seen), firsts(900..902));
    let living: Vec<_> = engine.shapes().into_iter().map(|(handle, _)| handle).collect();
    assert_eq!(living, [busy, late]);
}

/// R9: it says itself that it has not got what the log let go of, because it had reported it.
#[test]
fn r09_who_resumes_below_the_start_of_the_log_is_invalidated() {
    for placement in PLACEMENTS {
        for ack in [Ack::Consumer, Ack::Log] {
            let (engine, mut publisher) = Engine::builder().shards(1).runners(2).start().unwrap();
            let items = items();
            engine.learn(Arc::clone(&items));
            let (seen, follows) = (Seen::default(), Seen::default());
            let record = Arc::clone(&seen);
            let spec = placed(placement, ack, move |start: &Start<'_>| {
                let script: Script = Arc::new(|delivery, context| {
                    let at = delivery.commit_lsn();
                    assert!(context.incarnation() > 1 || at < Lsn::new(900), "as the test wants");
                    Ok(Report::Yes)
                });
                // The first one's state is lost.
                Ok(Started::new(recording(&record, script), start.first()))
            });
            let loses = engine.add_shape(shape("kind = 'quiet'"), spec).unwrap();
            let spec = recorder(placement, ack, &follows, reports());
            let stays = engine.add_shape(shape("kind = 'quiet'"), spec).unwrap();
            let busy = engine.add_shape(shape("kind = 'large'"), ConsumerSpec::Log).unwrap();
            publish_rows(&mut publisher, &items, 1..3, "quiet");
            wait_until("both report", || joined(&seen).len() + joined(&follows).len() == 4);
            // Each sync lets go of whole blocks that were flushed before it.
            let mut commits = 3..900;
            while engine.read(busy, Offset::ZERO, ReadLimits::default()).is_ok() {
                let commit = commits.next().expect("the log is cut");
                publisher.publish(large(&items, commit, 1)).unwrap();
                engine.wait_flushed(Lsn::new(commit), LONG).unwrap();
            }
            publish_rows(&mut publisher, &items, 900..902, "quiet");
            let ended = wait_for(&engine, |event| {
                matches!(event, Event::Invalidated { .. } | Event::Undeliverable { .. })
            });
            let Event::Invalidated { handle, cause, .. } = ended else { panic!("{ended:?}") };
            assert_eq!(handle, loses);
            assert!(cause.contains("but the log begins after"), "{cause}");
            assert_eq!(engine.wait_flushed(Lsn::new(901), LONG).unwrap(), Lsn::new(901));
            wait_until("the other one", || joined(&follows).len() == 4);
            let living: Vec<_> = engine.shapes().into_iter().map(|(handle, _)| handle).collect();
            assert_eq!(living, [stays, busy]);
            let metrics = engine.metrics();
            assert_eq!((metrics.deaths, metrics.invalidated, metrics.lagging), (1, 1, 0));
            assert_eq!(joined(&seen), firsts(1..3), "{placement:?} {ack:?}");
        }
    }
}

/// R3: what the log let go of before a shape began was never its own, whoever asks for it.
#[test]
fn r03_a_shape_that_begins_where_the_log_was_cut_needs_nothing_from_before() {
    for placement in PLACEMENTS {
        let (engine, mut publisher) = Engine::builder().shards(1).runners(2).start().unwrap();
        let items = items();
        engine.learn(Arc::clone(&items));
        let busy = engine.add_shape(shape("kind = 'large'"), ConsumerSpec::Log).unwrap();
        let mut commits = 1..900;
        while engine.read(busy, Offset::ZERO, ReadLimits::default()).is_ok() {
            let commit = commits.next().expect("the log is cut");
            publisher.publish(large(&items, commit, 1)).unwrap();
            engine.wait_flushed(Lsn::new(commit), LONG).unwrap();
        }
        let seen = Seen::default();
        let record = Arc::clone(&seen);
        let spec = placed(placement, Ack::Consumer, move |_: &Start<'_>| {
            Ok(Started::new(recording(&record, reports()), Offset::ZERO))
        });
        let new = engine.add_shape(shape(""), spec).unwrap();
        assert_eq!(log_of(&engine, new), []);
        publish_rows(&mut publisher, &items, 900..903, "a");
        assert_eq!(engine.wait_flushed(Lsn::new(902), LONG).unwrap(), Lsn::new(902));
        assert_eq!((joined(&seen), log_of(&engine, new)), (firsts(900..903), firsts(900..903)));
        assert_eq!((engine.metrics().invalidated, engine.metrics().deaths), (0, 0));
    }
}

/// A consumer that trails, and lives, finds all that it needs while there is room for it.
#[test]
fn r14_what_a_living_consumer_has_not_flushed_is_kept() {
    for placement in PLACEMENTS {
        let (engine, mut publisher) = Engine::builder().shards(1).runners(2).start().unwrap();
        let items = items();
        engine.learn(Arc::clone(&items));
        let (dies, seen) = (AtomicUsize::new(0), Seen::default());
        let script: Script = Arc::new(move |delivery, _| {
            let at = delivery.commit_lsn();
            // It reports nothing after this, until it has died.
            assert!(at < Lsn::new(60) || dies.swap(1, Ordering::SeqCst) > 0, "as the test wants");
            let trails = at > Lsn::new(2) && dies.load(Ordering::SeqCst) == 0;
            Ok(if trails { Report::No } else { Report::Yes })
        });
        engine.add_shape(shape(""), recorder(placement, Ack::Log, &seen, script)).unwrap();
        for commit in 1..60 {
            publisher.publish(large(&items, commit, 1)).unwrap();
            engine.wait_flushed(Lsn::new(commit), LONG).unwrap();
        }
        wait_until("it has seen all", || joined(&seen) == firsts(1..60));
        publish_rows(&mut publisher, &items, 60..62, "a");
        wait_until("it is back", || joined(&seen) == firsts(1..62));
        let replayed = seen.lock().unwrap().iter().filter(|(life, ..)| *life == 2).count();
        assert_eq!(replayed, 59, "what it had not reported came again");
        assert_eq!((engine.metrics().invalidated, engine.metrics().deaths), (0, 1));
    }
}

/// A consumer that trails too far behind loses its part of the store, and everybody else nothing.
#[test]
fn r14_a_trailing_consumer_goes_first_when_the_store_is_full() {
    let builder = Engine::builder().shards(1).runners(2).memory_bytes_max(4 << 20);
    let (engine, mut publisher) = builder.start().unwrap();
    let items = items();
    engine.learn(Arc::clone(&items));
    let (trails, follows) = (Seen::default(), Seen::default());
    let (go, gate) = crossbeam_channel::bounded::<()>(0);
    let script: Script = Arc::new(move |delivery, _| {
        if delivery.commit_lsn() == Lsn::new(3) {
            let _ = gate.recv();
        }
        Ok(Report::Yes)
    });
    let spec = recorder(Placement::Mailbox, Ack::Log, &trails, script);
    let trailing = engine.add_shape(shape(""), spec).unwrap();
    let spec = recorder(Placement::Mailbox, Ack::Consumer, &follows, reports());
    engine.add_shape(shape(""), spec).unwrap();
    for commit in 1..160 {
        publisher.publish(large(&items, commit, 1)).unwrap();
        if commit % 15 == 0 {
            // In step, so that nobody but the one who trails is far behind.
            engine.wait_flushed(Lsn::new(commit), LONG).unwrap();
            assert!(commit > 30 || engine.metrics().invalidated == 0, "there is room for it yet");
        }
    }
    assert_eq!(engine.wait_flushed(Lsn::new(159), LONG).unwrap(), Lsn::new(159));
    drop(go);
    let event = wait_for(&engine, |e| matches!(e, Event::Invalidated { .. }));
    let Event::Invalidated { handle, cause, .. } = event else { unreachable!() };
    assert_eq!(handle, trailing);
    assert!(cause.contains("the log begins after"), "{cause}");
    assert_eq!(joined(&follows), firsts(1..160));
    let metrics = engine.metrics();
    assert_eq!((metrics.undeliverable, metrics.deaths, metrics.shapes), (0, 0, 1));
    let seen = joined(&trails);
    assert_eq!(seen, firsts(1..seen.len() as u64 + 1), "no gap before its end");
}

/// What a source forgets when it is flushed must not lie in memory alone.
#[test]
fn r14_a_log_in_memory_may_not_acknowledge() {
    let (engine, _publisher) = small().start().unwrap();
    engine.learn(items());
    let trails = recorder(Placement::Mailbox, Ack::Log, &Seen::default(), reports());
    let owns = recorder(Placement::Mailbox, Ack::Consumer, &Seen::default(), reports());
    engine.add_shape(shape(""), owns.clone()).unwrap();
    let log = engine.add_shape(shape(""), ConsumerSpec::Log).unwrap();
    assert_eq!(engine.require_durable(), Err(log));
    for spec in [ConsumerSpec::Log, trails.clone()] {
        let both = vec![(shape(""), owns.clone()), (shape("id = 1"), spec)];
        let refused = engine.add_shapes(both).unwrap_err();
        let AddError::NotDurable { definition } = &refused else { panic!("{refused}") };
        assert_eq!(*definition, shape("id = 1").to_string());
    }
    engine.remove_shape(log).unwrap();
    assert_eq!(engine.require_durable(), Ok(()));
    engine.add_shape(shape(""), owns).unwrap();
    assert_eq!(engine.shapes().len(), 2);
    let dir = tempfile::tempdir().unwrap();
    let (engine, _publisher) = small().directory(dir.path()).start().unwrap();
    engine.learn(items());
    assert_eq!(engine.require_durable(), Ok(()));
    engine.add_shape(shape(""), trails).unwrap();
}

#[test]
fn r14_a_transaction_larger_than_the_store_is_refused() {
    let mib = 1 << 20;
    let builder = small().shards(2).memory_bytes_max(2 * mib);
    let (engine, mut publisher) = builder.start().unwrap();
    let items = items();
    engine.learn(Arc::clone(&items));
    let log = engine.add_shape(shape(""), ConsumerSpec::Log).unwrap();
    let refused = publisher.publish(large(&items, 1, 20)).unwrap_err();
    // Each shard keeps its own copy, and has half of the room.
    let too_large = PublishError::TransactionTooLarge { commit: Lsn::new(1), bytes_max: mib };
    assert_eq!(refused, too_large);
    // In pieces it is as large as whole.
    let mut transaction = TransactionBuilder::new(1, Lsn::new(1));
    let mut taken = 0;
    let refused = loop {
        let row = [Value::Text(b"0"), Value::Text(b"large"), Value::Text(&NOTE)];
        transaction.insert(&items, row).unwrap();
        match publisher.publish(transaction.cut()) {
            Ok(()) => taken += 1,
            Err(refused) => break refused,
        }
    };
    assert_eq!((refused, taken), (too_large, 15));
    // The engine goes on as it was: the transaction may end there.
    let mut end = TransactionBuilder::new(1, Lsn::new(1));
    let _begins = end.cut();
    publisher.publish(end.commit(Lsn::new(2))).unwrap();
    publish_rows(&mut publisher, &items, 2..4, "a");
    assert_eq!(engine.wait_flushed(Lsn::new(3), LONG).unwrap(), Lsn::new(3));
    let first = (0..15).map(|row| Offset::new(Lsn::new(1), row * 2)).collect();
    assert_eq!(log_of(&engine, log), [first, firsts(2..4)].concat());
}
