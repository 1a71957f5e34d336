//! What goes on while something else waits, what is held back meanwhile, and what costs nothing
//! while nothing happens.

use super::*;
use crate::engine::publisher::TryPublishError;
use crate::sync::Ordering;

/// Many shapes of the table, of every kind; the number of them.
fn many(hand: &mut ByHand) -> u64 {
    for number in 0..240 {
        match number % 3 {
            0 => hand.add_with(mailbox(Ack::Consumer, reports)),
            1 => hand.add_with(mailbox(Ack::Log, reports)),
            _ => hand.add(),
        };
        // Before the channel has no place for one more.
        if number % 40 == 39 {
            hand.run();
        }
    }
    240
}

/// What is routed and handed over does not wait for a sync, what is flushed does.
#[test]
fn c17_deliveries_do_not_wait_for_a_slow_disk() {
    let dir = tempfile::tempdir().unwrap();
    let mut hand = ByHand::open(dir.path());
    let seen = Commits::default();
    hand.add_with(recording(&seen, Ack::Consumer));
    hand.run();
    for commit in 1..=40 {
        hand.publish(commit..=commit);
        // No sync ends: the first of these is in the disk's hands, and the others wait behind it.
        while hand.pump.step(hand.now) | hand.runner.run_one().unwrap() {}
    }
    assert_eq!(*seen.lock(), (1..=40).collect::<Vec<u64>>());
    assert_eq!(hand.flushed(), 0);
    hand.run();
    assert_eq!(hand.flushed(), 40);
}

/// Shapes that come have places of their own in a shard's channel, and so does the stream.
#[test]
fn c12_newcomers_and_the_stream_do_not_take_each_others_places() {
    let dir = tempfile::tempdir().unwrap();
    let builder = Engine::builder().directory(dir.path());
    let mut hand = ByHand::with(builder.lifecycle_credits(3).fragment_credits(2));
    let mut answers: Vec<_> = (0..3).map(|_| hand.add().1).collect();
    for commit in 1..=2 {
        hand.publisher.try_publish(Arc::new(row(&relation(2), commit))).unwrap();
    }
    let full = hand.publisher.try_publish(Arc::new(row(&relation(2), 3)));
    assert!(matches!(full, Err(TryPublishError::Full(_))), "{full:?}");
    hand.run();
    hand.publish(3..=4);
    answers.extend((0..3).map(|_| hand.add().1));
    hand.run();
    assert!(answers.iter().all(|answer| answer.try_recv() == Ok(Ok(1))));
    assert_eq!((hand.shapes(), hand.flushed()), (6, 4));
}

/// Of a transaction that is larger than everything only so much is held as a channel, one batch in
/// sync and one that is filled take; the rest waits where it comes from.
#[test]
fn f01_a_transaction_without_end_is_held_in_pieces() {
    let dir = tempfile::tempdir().unwrap();
    let builder = Engine::builder().directory(dir.path()).fragment_credits(4);
    let mut hand = ByHand::with(builder);
    hand.add();
    hand.run();
    let large = vec![b'1'; 1 << 20];
    let mut transaction = TransactionBuilder::new(1, Lsn::new(1));
    for _ in 0..3 {
        let mut taken = 0;
        loop {
            transaction.insert(&relation(2), [Value::Text(b"1"), Value::Text(&large)]).unwrap();
            let piece = Arc::new(transaction.cut());
            match hand.publisher.try_publish(Arc::clone(&piece)) {
                Ok(()) => taken += 1,
                Err(TryPublishError::Full(_)) => {
                    // The disk has done something, and there is room again.
                    hand.settle();
                    hand.publisher.try_publish(piece).unwrap();
                    break;
                }
                Err(error) => panic!("{error}"),
            }
            assert!(taken < 20, "{taken} MiB are held while nothing is synced");
            hand.pump();
        }
    }
    hand.publisher.publish(transaction.commit(Lsn::new(2))).unwrap();
    hand.run();
    assert_eq!(hand.flushed(), 1);
}

/// What an earlier life has left comes a block at a time, as for everybody who is far behind.
#[test]
fn f11_a_backlog_of_an_earlier_life_is_fed_in_pieces() {
    const COMMITS: u64 = 400;
    let dir = tempfile::tempdir().unwrap();
    let mut hand = ByHand::open(dir.path());
    hand.add();
    for commit in 1..=COMMITS {
        hand.publish(commit..=commit);
        hand.settle();
    }
    drop(hand);
    let seen = Commits::default();
    let sees = Arc::clone(&seen);
    let builder = Engine::builder()
        .directory(dir.path())
        .consumers(move |_, _| recording(&sees, Ack::Consumer));
    let mut hand = ByHand::with(builder);
    let (mut had, mut most) = (0, 0);
    while hand.pump.step(hand.now) | hand.sync() | hand.runner.run_one().unwrap() {
        let has = seen.lock().len();
        (had, most) = (has, most.max(has - had));
    }
    assert_eq!(*seen.lock(), (1..=COMMITS).collect::<Vec<u64>>());
    assert!(most < 40, "{most} commits at once");
    assert_eq!(hand.flushed(), COMMITS);
}

/// What was held for a burst is let go of when it is flushed.
#[test]
fn f03_nothing_of_a_burst_is_held_once_it_is_flushed() {
    let mut hand = ByHand::with(Engine::builder());
    hand.add_with(mailbox(Ack::Consumer, reports));
    // Nobody reports for these, and nobody waits for that.
    take_slots(&hand);
    hand.run();
    let held = |hand: &ByHand| {
        let shard = &hand.inner.shards[0];
        (shard.link.gauges.unflushed_bytes.load(Ordering::Relaxed), shard.log.bytes())
    };
    let large = vec![b'1'; 2 << 20];
    let publish = |hand: &mut ByHand, commit| {
        let mut transaction = TransactionBuilder::new(1, Lsn::new(commit));
        transaction.insert(&relation(2), [Value::Text(b"1"), Value::Text(&large)]).unwrap();
        hand.publisher.publish(transaction.commit(Lsn::new(commit + 1))).unwrap();
    };
    // With more than half of its mailbox taken publish would wait for a runner.
    for commit in 1..=7 {
        publish(&mut hand, commit);
        hand.settle();
    }
    let (unflushed, log) = held(&hand);
    assert!(unflushed >= 14 << 20 && log >= 14 << 20, "{unflushed} {log}");
    hand.run();
    // The next sync lets go of what was flushed before it.
    publish(&mut hand, 8);
    hand.run();
    let (unflushed, log) = held(&hand);
    assert!(unflushed == 0 && log < 6 << 20, "{unflushed} {log}");
}

/// INV9: one write and one sync cover a change, however many shapes it goes to.
#[test]
fn f13_one_sync_covers_a_change_for_all_its_shapes() {
    let dir = tempfile::tempdir().unwrap();
    let mut hand = ByHand::open(dir.path());
    let shapes = many(&mut hand);
    let counts = |hand: &ByHand| (hand.counters().syncs.get(), hand.counters().logged.get());
    for commit in 1..=3 {
        let (syncs, logged) = counts(&hand);
        hand.publish(commit..=commit);
        hand.run();
        assert_eq!(counts(&hand), (syncs + 1, logged + shapes));
        assert_eq!(hand.flushed(), commit);
    }
}

/// Nothing is done for shapes to which nothing happens: no mail, no run of a consumer, no sync.
#[test]
fn a21_idle_shapes_wake_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let mut hand = ByHand::open(dir.path());
    many(&mut hand);
    hand.publish(1..=3);
    hand.run();
    for _ in 0..100 {
        hand.watch(Duration::from_secs(1));
        let did = [hand.pump.step(hand.now), hand.sync(), hand.runner.run_one().unwrap()];
        assert_eq!(did, [false; 3]);
    }
    assert_eq!((hand.flushed(), hand.living().len()), (3, 240));
}

/// INV9: what comes while a sync is in the way shares the next one, however much that is; and what
/// is followed by more is not worth a sync of its own until it is old enough.
#[test]
fn inv9_what_waits_together_shares_one_sync() {
    let dir = tempfile::tempdir().unwrap();
    let mut hand = ByHand::open(dir.path());
    hand.add();
    hand.run();
    let before = hand.counters().syncs.get();
    let syncs = |hand: &ByHand| hand.counters().syncs.get() - before;
    hand.publish(1..=1);
    hand.pump();
    // The first is in the disk's hands.
    hand.publish(2..=41);
    hand.settle();
    assert_eq!((syncs(&hand), hand.flushed()), (2, 41));
    // More than a round takes.
    hand.publish(42..=81);
    hand.pump.step(hand.now);
    assert!(hand.syncer.batches.is_empty(), "there is more to come");
    hand.settle();
    assert_eq!((syncs(&hand), hand.flushed()), (3, 81));
    hand.publish(82..=121);
    hand.pump.step(hand.now);
    hand.now += Duration::from_millis(1);
    hand.pump.step(hand.now);
    assert!(!hand.syncer.batches.is_empty(), "it has waited long enough");
    hand.settle();
    assert_eq!((syncs(&hand), hand.flushed()), (5, 121));
}

/// Gives the first 2,500 slots to shapes that owe nothing.
fn take_slots(hand: &ByHand) {
    for _ in 0..5 {
        let definition = ShapeDefinition::table(relation(2).table.clone());
        let shapes = (0..500).map(|_| {
            let handle = Handle::new(hand.inner.take_handles(1));
            hand.inner.prepare(handle, definition.clone(), ConsumerSpec::Log).unwrap()
        });
        let shapes = shapes.collect();
        hand.send(|reply| Message::Add(shapes, None, reply));
    }
}

/// INV9: while somebody pins too much a tick looks at more of the slots, and not at all of them.
#[test]
fn inv9_in_need_a_tick_looks_at_a_larger_slice() {
    let mut hand = ByHand::with(Engine::builder().consumer_bytes_max(1_000));
    take_slots(&hand);
    hand.add_with(mailbox(Ack::Consumer, |_, _| Ok(())));
    hand.run();
    hand.publish(1..=16);
    hand.run();
    // It is the 2,501st, and is looked at while a runner rests.
    for flushed in [0, 16] {
        hand.now += Duration::from_secs(1);
        let pool = Arc::clone(&hand.inner.pool);
        pool.rest(|| {
            hand.settle();
            true
        });
        assert_eq!(hand.flushed(), flushed);
    }
}

/// INV9: a tick looks at some of the slots, however many there are, and comes to all of them in
/// time.
#[test]
fn inv9_a_tick_looks_at_a_bounded_slice_of_the_slots() {
    let mut hand = ByHand::with(Engine::builder());
    take_slots(&hand);
    let reporter: Arc<Mutex<Option<Reporter>>> = Arc::default();
    let hands_out = Arc::clone(&reporter);
    let factory = move |start: &Start<'_>| {
        *hands_out.lock() = Some(start.reporter());
        Ok(Started::new(
            Box::new(Handler(|_: &Delivery<'_>, _: &mut Context<'_>| Ok(()))),
            start.resume(),
        ))
    };
    hand.add_with(ConsumerSpec::Mailbox { factory: Arc::new(factory), ack: Ack::Consumer });
    hand.run();
    hand.publish(1..=1);
    hand.run();
    // Its mark is lost: the shard finds the report when it comes to its slot, the 2,501st.
    reporter.lock().as_ref().unwrap().mailbox().report(Lsn::new(1)).unwrap();
    for tick in 1..=3 {
        assert_eq!(hand.flushed(), 0, "before tick {tick}");
        hand.now += Duration::from_secs(1);
        hand.pump();
    }
    assert_eq!(hand.flushed(), 1);
}
