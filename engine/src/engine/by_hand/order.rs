//! Which message lies before which one in a shard's channel, and what is durable by then.

use super::*;
use crate::engine::StartError;
use crate::log::{BLOCK_BYTES_MAX, Directory, recover};
use crate::words::Slot;
use std::collections::BTreeMap;

/// R3: a shape that ends before its beginning is durable is not there when both are.
#[test]
fn r03_a_shape_that_ends_before_its_record_is_durable_does_not_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut hand = ByHand::open(dir.path());
    let (altered, added) = hand.add();
    hand.publisher.publish(row(&relation(1), 1)).unwrap();
    hand.settle();
    assert_eq!(added.try_recv(), Ok(Ok(1)));
    assert_eq!((hand.living(), hand.shapes()), (vec![], 0), "{altered} is invalidated");
    hand.inner.control.registry.learn(relation(1));
    // The same for a batch that is in sync while its shapes end.
    let definition = ShapeDefinition::table(relation(1).table.clone());
    let handle = Handle::new(hand.inner.take_handles(1));
    let shape = hand.inner.prepare(handle, definition, ConsumerSpec::Log).unwrap();
    let added = hand.send(|reply| Message::Add(vec![shape], None, reply));
    hand.pump.step(hand.now);
    let ended = hand.send(|reply| Message::InvalidateAll("as the test wants".into(), reply));
    hand.pump.step(hand.now);
    hand.settle();
    assert_eq!((added.try_recv(), ended.try_recv()), (Ok(Ok(1)), Ok(Ok(1))));
    assert_eq!((hand.living(), hand.shapes()), (vec![], 0));
}

/// R16: Stop is the last message. What lies behind it is not done, and nobody is told that it was.
#[test]
fn r16_nothing_is_done_behind_stop() {
    let dir = tempfile::tempdir().unwrap();
    let mut hand = ByHand::open(dir.path());
    let (handle, _) = hand.add();
    hand.settle();
    let place = hand.inner.control.registry.place(handle).unwrap();
    hand.publish(1..=1);
    hand.inner.shards[0].messages.send(Message::Stop(hand.now)).unwrap();
    let removed = hand.send(|reply| Message::Remove(handle, place.slot, reply));
    let ended = hand.send(|reply| Message::InvalidateAll("as the test wants".into(), reply));
    let (_, added) = hand.add();
    // Of a table that is another one by now: its shapes cannot be invalidated any more.
    hand.publisher.publish(row(&relation(1), 2)).unwrap();
    hand.settle();
    for answer in [removed, ended, added] {
        assert_eq!(answer.try_recv(), Ok(Err(Refusal::Stopping)));
    }
    assert_eq!(hand.living(), [handle]);
    let end = hand.pump.finish();
    assert_eq!((end.durable, end.flushed), (Lsn::new(1), Lsn::new(1)));
    drop((hand.inner, hand.publisher, hand.syncer, hand.runner, hand.watch, hand.links));
    drop(hand.keeper);
    let again = ByHand::open(dir.path());
    assert_eq!(again.living(), [handle]);
}

/// R3: nothing is answered, and nothing that is owed is forgiven, before the sync that it waits
/// for.
#[test]
fn r03_answers_and_debts_wait_for_the_sync() {
    let dir = tempfile::tempdir().unwrap();
    let mut hand = ByHand::open(dir.path());
    let (_, added) = hand.add();
    let (silent, _) = hand.add_with(mailbox(Ack::Consumer, |_, _| Ok(())));
    hand.pump();
    assert!(added.is_empty() && hand.living().is_empty());
    hand.run();
    assert_eq!((added.try_recv(), hand.living().len()), (Ok(Ok(1)), 2));
    hand.publish(1..=1);
    hand.run();
    assert_eq!(hand.flushed(), 0, "one is silent");
    let removed = hand.remove(silent);
    hand.pump();
    assert_eq!((removed.len(), hand.flushed()), (0, 0));
    hand.run();
    assert_eq!((removed.try_recv(), hand.flushed()), (Ok(Ok(1)), 1));
    hand.publish(2..=2);
    hand.pump();
    assert_eq!(hand.flushed(), 1, "the log owes it");
    hand.run();
    assert_eq!(hand.flushed(), 2);
    let ended = hand.send(|reply| Message::InvalidateAll("as the test wants".into(), reply));
    hand.pump();
    assert!(ended.is_empty());
    assert!(hand.events().iter().all(|event| !matches!(event, Event::Invalidated { .. })));
    hand.run();
    assert_eq!(ended.try_recv(), Ok(Ok(1)));
    assert!(hand.events().iter().any(|event| matches!(event, Event::Invalidated { .. })));
}

/// Whether they are removed or altered, and in the middle of a transaction too.
#[test]
fn nothing_is_kept_of_a_table_whose_last_shape_has_left() {
    let dir = tempfile::tempdir().unwrap();
    let mut hand = ByHand::open(dir.path());
    let shapes = [hand.add().0, hand.add().0];
    hand.run();
    assert_eq!(hand.pump.versions(), 1);
    let mut transaction = TransactionBuilder::new(1, Lsn::new(1));
    let values = [Value::Text(b"1"), Value::Null];
    transaction.insert(&relation(2), values).unwrap();
    hand.publisher.publish(transaction.cut()).unwrap();
    let (newcomer, _) = hand.add();
    hand.run();
    for handle in shapes {
        hand.remove(handle);
    }
    hand.run();
    assert_eq!(hand.pump.versions(), 0, "nobody routes to who begins later");
    hand.publisher.publish(transaction.commit(Lsn::new(2))).unwrap();
    hand.publish(2..=2);
    hand.run();
    assert_eq!((hand.living(), hand.pump.versions()), (vec![newcomer], 1));
    hand.publisher.publish(row(&relation(1), 3)).unwrap();
    hand.run();
    assert_eq!((hand.living(), hand.pump.versions()), (vec![], 0));
}

/// A table may be announced ahead of the stream: what comes in the old form ends who came for the
/// new one, and nobody is refused any more when the stream is there.
#[test]
fn c18_a_table_that_is_announced_too_early_takes_shapes_again_when_it_is_so() {
    let mut hand = ByHand::with(Engine::builder());
    let alters = |commit: u64| {
        let mut transaction = TransactionBuilder::new(1, Lsn::new(commit));
        transaction.insert(&relation(1), [Value::Text(b"1")]).unwrap();
        let old = transaction.cut();
        transaction.insert(&relation(2), [Value::Text(b"1"), Value::Null]).unwrap();
        (old, transaction.commit(Lsn::new(commit + 1)))
    };
    let (early, _) = hand.add();
    hand.run();
    let (old, new) = alters(1);
    hand.publisher.publish(old).unwrap();
    hand.pump();
    let definition = ShapeDefinition::table(relation(2).table.clone());
    let add = |hand: &ByHand| {
        let handle = Handle::new(hand.inner.take_handles(1));
        hand.inner.prepare(handle, definition.clone(), ConsumerSpec::Log).map(|_| ())
    };
    let refused = add(&hand).unwrap_err();
    assert!(matches!(refused, AddError::Altered { .. }), "{refused}");
    hand.publisher.publish(new).unwrap();
    hand.run();
    assert!(add(&hand).is_ok(), "the stream is as far as what is known, and {early} has ended");
    // Nor is who comes between the announcement and what it was about.
    let (old, new) = alters(2);
    hand.publisher.publish(old).unwrap();
    hand.publisher.publish(new).unwrap();
    let (late, added) = hand.add();
    hand.publish(3..=3);
    hand.run();
    assert_eq!((added.try_recv(), hand.living()), (Ok(Ok(1)), vec![late]));
    assert_eq!(hand.counters().logged.get(), 1);
    // Who announces nothing is told so, until there is a change as was announced.
    hand.publisher.publish(row(&relation(1), 4)).unwrap();
    hand.run();
    assert!(add(&hand).is_err());
    hand.publish(5..=5);
    hand.run();
    assert!(add(&hand).is_ok());
}

/// R3: one shard takes its part, the other one has no slot left to give.
#[test]
fn r03_what_one_shard_took_goes_if_another_one_refuses() {
    let dir = tempfile::tempdir().unwrap();
    let directory = Directory::open(dir.path(), 2).unwrap();
    let device = Box::new(directory.shard_device(1).unwrap());
    let found = recover(device, &directory.identity(1), BLOCK_BYTES_MAX).unwrap();
    let (mut encoder, mut syncer) = (found.encoder, found.syncer);
    let (slot, handle) = (Slot::new(u32::MAX - 3), Handle::new(1));
    let definition = ShapeDefinition::table(relation(2).table.clone());
    encoder.add_shape(slot, handle, Offset::ZERO, &relation(2), (&definition, false)).unwrap();
    encoder.remove_shape(slot, handle, Offset::ZERO).unwrap();
    syncer.commit(&encoder.take(Vec::new())).unwrap();
    drop((encoder, syncer, found.log, directory));
    let (engine, mut publisher) =
        Engine::builder().shards(2).runners(1).directory(dir.path()).start().unwrap();
    engine.learn(relation(2));
    let spec = || {
        let factory = Arc::new(|_: &Start<'_>| Err("its shape is taken out again".into()));
        ConsumerSpec::Mailbox { factory, ack: Ack::Consumer }
    };
    let shapes = (0..6).map(|_| (definition.clone(), spec())).collect();
    let refused = engine.add_shapes(shapes).unwrap_err();
    assert!(matches!(refused, AddError::SlotsExhausted), "{refused}");
    assert_eq!(engine.shapes(), []);
    publisher.publish(row(&relation(2), 1)).unwrap();
    let last = Lsn::new(1);
    assert_eq!(engine.wait_flushed(last, Duration::from_secs(60)).unwrap(), last);
    let metrics = engine.metrics();
    assert_eq!((metrics.shapes, metrics.lagging, metrics.invalidated), (0, 0, 0));
}

/// INV5: whatever of a removal was done when the process died, doing it again completes it.
#[test]
fn a18_a_removal_that_was_cut_off_is_completed_by_doing_it_again() {
    // In the channel, in a batch, durable, and known to be.
    for steps in 0..4 {
        let dir = tempfile::tempdir().unwrap();
        let mut hand = ByHand::open(dir.path());
        let (gone, _) = hand.add_with(mailbox(Ack::Consumer, |_, _| Ok(())));
        let (stays, _) = hand.add();
        hand.run();
        hand.publish(1..=1);
        hand.run();
        assert_eq!(hand.flushed(), 0, "it owes");
        hand.remove(gone);
        if steps > 0 {
            hand.pump();
        }
        if steps > 1 {
            assert!(hand.sync());
        }
        if steps > 2 {
            hand.run();
            assert_eq!(hand.flushed(), 1);
        }
        drop(hand);
        let mut hand = ByHand::open(dir.path());
        assert_eq!(hand.living().contains(&gone), steps < 2, "after {steps} steps");
        if steps < 2 {
            hand.remove(gone);
        }
        hand.publish(1..=2);
        hand.run();
        assert_eq!((hand.living(), hand.flushed()), (vec![stays], 2));
        assert!(hand.inner.control.registry.place(gone).is_none(), "once more is no harm");
    }
}

/// A shape and its log are in one file: neither can be there without the other.
#[test]
fn d15_a_shape_is_there_once_its_record_is_durable_and_not_before() {
    for durable in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let mut hand = ByHand::open(dir.path());
        let (handle, answer) = hand.add();
        hand.pump();
        if durable {
            assert!(hand.sync());
        }
        assert!(answer.is_empty(), "nobody was told of it");
        drop(hand);
        let mut hand = ByHand::open(dir.path());
        let expected = if durable { vec![handle] } else { vec![] };
        assert_eq!((hand.living(), hand.shapes()), (expected.clone(), u64::from(durable)));
        hand.publish(1..=1);
        hand.run();
        assert_eq!(hand.counters().logged.get(), expected.len() as u64);
        assert_eq!(hand.flushed(), 1);
    }
}

/// The text of a shape that another version took, and this one does not understand, is not taken
/// for another shape: the directory is refused, and left to that version.
#[test]
fn d07_a_shape_that_is_not_understood_any_more_is_named_and_the_directory_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let mut hand = ByHand::open(dir.path());
    hand.add();
    let handle = Handle::new(hand.inner.take_handles(1));
    let table = relation(2).table.clone();
    let plain = ShapeDefinition::table(table.clone());
    let mut shape = hand.inner.prepare(handle, plain, ConsumerSpec::Log).unwrap();
    shape.definition = Arc::new(ShapeDefinition::filtered(table, "kind <=> 1"));
    hand.send(|reply| Message::Add(vec![shape], None, reply));
    hand.publish(1..=3);
    hand.run();
    drop(hand);
    let held = || {
        let entries = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path());
        let files = entries.filter(|path| path.is_file());
        files.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect::<BTreeMap<_, _>>()
    };
    let before = held();
    let error = Engine::builder().shards(1).directory(dir.path()).start().unwrap_err();
    assert!(matches!(&error, StartError::Shape { handle: named, .. } if *named == handle));
    let text = error.to_string();
    for said in [&*handle.to_string(), "line 1, column 6", "use the walfan that made it"] {
        assert!(text.contains(said), "{text} does not say {said}");
    }
    assert!(held() == before);
}

/// INV8: what was accepted last and comes again is dropped like all before it.
#[test]
fn inv8_the_last_transaction_that_comes_again_is_not_processed_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut hand = ByHand::open(dir.path());
    hand.add();
    hand.run();
    for _ in 0..2 {
        hand.publish(1..=2);
        hand.run();
        let counters = hand.counters();
        assert_eq!((counters.transactions.get(), counters.logged.get()), (2, 2));
    }
}
