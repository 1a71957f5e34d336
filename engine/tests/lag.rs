//! Lag: consumers that are far behind are fed from the log and catch up, while new traffic flows
//! (R4); who is behind for good is given up, and a pool that is behind is waited for (R17).

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use crossbeam_channel::{Receiver, bounded};
use std::sync::Arc;
use std::time::Duration;
use support::*;
use walfan::{
    Ack, Engine, Event, Fragment, Lsn, Offset, Publisher, Relation, TransactionBuilder,
    TryPublishError, Value,
};

/// Waits inside the delivery at `commit` until the gate is gone.
fn held_at(commit: u64, gate: &Receiver<()>) -> Script {
    let gate = gate.clone();
    Arc::new(move |delivery, _| {
        if delivery.commit_lsn() == Lsn::new(commit) {
            let _ = gate.recv();
        }
        Ok(Report::Yes)
    })
}

#[test]
fn f11_r04_many_far_behind_catch_up_while_new_traffic_flows() {
    for on_disk in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let builder = Engine::builder().shards(2).runners(10).mailbox_places(2);
        let builder = if on_disk { builder.directory(dir.path()) } else { builder };
        let (engine, mut publisher) = builder.start().unwrap();
        let items = items();
        engine.learn(Arc::clone(&items));
        let (go, gate) = bounded::<()>(0);
        let add = |clause: &str, script| {
            let seen = Seen::default();
            let spec = recorder(Placement::Mailbox, Ack::Log, &seen, script);
            engine.add_shape(shape(clause), spec).unwrap();
            seen
        };
        let behind: Vec<_> = (1..9).map(|at| add("", held_at(at * 10, &gate))).collect();
        let rare = add("id = 15 OR id = 2500", held_at(15, &gate));
        let up_to_date = add("", reports());
        publish_rows(&mut publisher, &items, 1..1_000, "a");
        assert_eq!(engine.wait_flushed(Lsn::new(999), LONG).unwrap(), Lsn::new(999));
        drop(go);
        publish_rows(&mut publisher, &items, 1_000..2_000, "a");
        // They catch up in the middle of a transaction, too.
        let mut transaction = TransactionBuilder::new(1, Lsn::new(2_000));
        for id in 0..300 {
            insert(&mut transaction, &items, id, "a");
            publisher.publish(transaction.cut()).unwrap();
        }
        publisher.publish(transaction.commit(Lsn::new(2_001))).unwrap();
        publish_rows(&mut publisher, &items, 2_001..3_000, "a");
        let large = (0..300).map(|row| Offset::new(Lsn::new(2_000), row * 2)).collect();
        let all = [firsts(1..2_000), large, firsts(2_001..3_000)].concat();
        for seen in behind.iter().chain([&up_to_date]) {
            wait_until("it catches up", || joined(seen).len() == all.len());
            assert_eq!(joined(seen), all);
            let times = seen.lock().unwrap().iter().filter(|(_, o, _)| !o.is_commit_mark()).count();
            assert_eq!(times, all.len(), "something was seen twice");
        }
        wait_until("all run", || engine.metrics().lagging == 0);
        let in_large = vec![Offset::new(Lsn::new(2_000), 30)];
        assert_eq!(joined(&rare), [firsts(15..16), in_large, firsts(2_500..2_501)].concat());
        let metrics = engine.metrics();
        assert_eq!((metrics.deaths, metrics.undeliverable, metrics.invalidated), (0, 0, 0));
        assert!(metrics.overflows >= 8 && metrics.replayed > 5_000, "{metrics:?}");
    }
}

/// A row of 1 KiB.
fn large(items: &Arc<Relation>, commit: u64) -> Arc<Fragment> {
    let mut transaction = TransactionBuilder::new(1, Lsn::new(commit));
    let row = [Value::Text(b"0"), Value::Text(b"a"), Value::Text(&[b'x'; 1024])];
    transaction.insert(items, row).unwrap();
    Arc::new(transaction.commit(Lsn::new(commit + 1)))
}

const PINNED_MAX: u64 = 64 << 10;

/// While runners are idle publish waits for nobody: who pins more than its bound is given up.
#[test]
fn r17_who_pins_too_much_while_runners_are_idle_is_given_up() {
    for placement in PLACEMENTS {
        let dir = tempfile::tempdir().unwrap();
        let builder = small().directory(dir.path()).consumer_bytes_max(PINNED_MAX);
        let (engine, mut publisher) = builder.start().unwrap();
        let items = items();
        engine.learn(Arc::clone(&items));
        let (pins, follows) = (Seen::default(), Seen::default());
        let script: Script = Arc::new(|delivery, context| {
            // Neither death nor deadline: it says that it lives.
            context.defer(LONG);
            Ok(if delivery.commit_lsn() < Lsn::new(3) { Report::Yes } else { Report::No })
        });
        let spec = recorder(placement, Ack::Consumer, &pins, script);
        let pinned = engine.add_shape(shape(""), spec).unwrap();
        let spec = recorder(placement, Ack::Log, &follows, reports());
        engine.add_shape(shape(""), spec).unwrap();
        for commit in 1..41 {
            publisher.publish(large(&items, commit)).unwrap();
        }
        wait_until("it has all", || joined(&pins).len() == 40);
        assert_eq!(engine.metrics().undeliverable, 0, "there is room yet");
        assert_eq!(engine.wait_flushed(Lsn::new(2), LONG).unwrap(), Lsn::new(2));
        for commit in 41..90 {
            publisher.publish(large(&items, commit)).unwrap();
        }
        let event = wait_for(&engine, |event| matches!(event, Event::Undeliverable { .. }));
        let Event::Undeliverable { handle, offset, cause } = event else { unreachable!() };
        assert_eq!((handle, offset), (pinned, Offset::commit_mark(Lsn::new(2))));
        assert!(cause.contains("65536"), "{cause}");
        assert_eq!(engine.wait_flushed(Lsn::new(89), LONG).unwrap(), Lsn::new(89));
        wait_until("the other one", || joined(&follows).len() == 89);
    }
}

/// One runner, and a consumer that takes its time: never so long that it counts as wedged.
fn one_busy_runner(
    places: usize,
) -> (Engine, Publisher, Arc<Relation>, Seen, crossbeam_channel::Sender<()>) {
    let builder = Engine::builder().shards(1).runners(1).mailbox_places(places);
    let (engine, mut publisher) = builder.consumer_bytes_max(PINNED_MAX).start().unwrap();
    let items = items();
    engine.learn(Arc::clone(&items));
    let seen = Seen::default();
    let (go, gate) = bounded::<()>(0);
    let (entered, inside) = bounded(1);
    let script: Script = Arc::new(move |_, _| {
        let _ = entered.try_send(());
        let _ = gate.recv_timeout(Duration::from_millis(700));
        Ok(Report::Yes)
    });
    let spec = recorder(Placement::Mailbox, Ack::Consumer, &seen, script);
    engine.add_shape(shape(""), spec).unwrap();
    wait_until("it runs", || engine.metrics().lagging == 0);
    publisher.publish(large(&items, 1)).unwrap();
    inside.recv().unwrap();
    (engine, publisher, items, seen, go)
}

/// Overload is not death: while no runner is idle, publish waits before it begins a transaction.
#[test]
fn c16_r17_publish_waits_for_a_pool_that_is_behind_and_condemns_nobody() {
    // So many places that they are no bound.
    let (engine, mut publisher, items, seen, go) = one_busy_runner(1_000);
    let mut commit = 2;
    let refused = loop {
        match publisher.try_publish(large(&items, commit)) {
            Ok(()) => commit += 1,
            Err(TryPublishError::Full(_)) if engine.metrics().transactions < commit - 1 => {
                std::thread::yield_now();
            }
            Err(error) => break error,
        }
        assert!(commit < 100, "twice the soft bound was taken");
    };
    // All that was taken is processed: it is not the channel that is full.
    assert!(matches!(refused, TryPublishError::Full(_)), "{refused}");
    assert!(engine.metrics().unflushed_bytes > PINNED_MAX / 2);
    drop(go);
    for commit in commit..200 {
        publisher.publish(large(&items, commit)).unwrap();
    }
    assert_eq!(engine.wait_flushed(Lsn::new(199), LONG).unwrap(), Lsn::new(199));
    assert_eq!(joined(&seen), firsts(1..200));
    assert_eq!((engine.metrics().undeliverable, engine.metrics().deaths), (0, 0));
}

/// The same for mailboxes that are half full, and never in the middle of a transaction.
#[test]
fn r17_publish_waits_before_a_begin_only() {
    let (engine, mut publisher, items, seen, go) = one_busy_runner(4);
    let mut transaction = TransactionBuilder::new(1, Lsn::new(2));
    for id in 0..20 {
        insert(&mut transaction, &items, id, "a");
        publisher.try_publish(Arc::new(transaction.cut())).unwrap();
        if id == 10 {
            // From here on more than half of all places are taken.
            wait_until("the mailbox is full", || engine.metrics().overflows == 1);
        }
    }
    publisher.try_publish(Arc::new(transaction.commit(Lsn::new(3)))).unwrap();
    wait_until("it is taken", || engine.metrics().transactions == 2);
    let begins = publisher.try_publish(large(&items, 3)).unwrap_err();
    assert!(matches!(begins, TryPublishError::Full(_)), "{begins}");
    drop(go);
    publisher.publish(large(&items, 3)).unwrap();
    assert_eq!(engine.wait_flushed(Lsn::new(3), LONG).unwrap(), Lsn::new(3));
    let middle = (0..20).map(|row| Offset::new(Lsn::new(2), row * 2)).collect();
    assert_eq!(joined(&seen), [firsts(1..2), middle, firsts(3..4)].concat());
}
