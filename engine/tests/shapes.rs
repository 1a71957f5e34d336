//! Shapes come and go: in the middle of transactions, all or none, while consumers hang, die or
//! have mail, and leave nothing behind (R3, R8, R12, INV5).

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use crossbeam_channel::bounded;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;
use support::*;
use walfan::{
    Ack, AddError, Consumer, ConsumerError, ConsumerSpec, Context, Delivery, Engine, Event, Handle,
    Lsn, Offset, Publisher, Relation, RemoveError, ShapeDefinition, Start, Started, TableName,
    TransactionBuilder,
};

fn world(dir: &tempfile::TempDir) -> (Engine, Publisher, Arc<Relation>) {
    let (engine, publisher) = small().directory(dir.path()).start().unwrap();
    let items = items();
    engine.learn(Arc::clone(&items));
    (engine, publisher, items)
}

fn handles(engine: &Engine) -> Vec<Handle> {
    engine.shapes().into_iter().map(|(handle, _)| handle).collect()
}

fn removed(engine: &Engine, handle: Handle) {
    wait_for(engine, |event| matches!(event, Event::Removed { handle: who } if *who == handle));
}

#[test]
fn d17_r03_shapes_added_in_the_middle_of_a_transaction_start_with_the_next_one() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, mut publisher, items) = world(&dir);
    let mut added = Vec::new();
    let mut transaction = TransactionBuilder::new(1, Lsn::new(10));
    for id in 0..6 {
        insert(&mut transaction, &items, id, "a");
        publisher.publish(transaction.cut()).unwrap();
        for placement in PLACEMENTS {
            let seen = Seen::default();
            let spec = recorder(placement, Ack::Consumer, &seen, reports());
            let handle = engine.add_shape(shape("kind = 'a'"), spec).unwrap();
            added.push((handle, Some(seen)));
        }
        // One for each shard.
        let log = vec![(shape("kind = 'a'"), ConsumerSpec::Log); 2];
        added.extend(engine.add_shapes(log).unwrap().into_iter().map(|handle| (handle, None)));
    }
    insert(&mut transaction, &items, 9, "a");
    publisher.publish(transaction.commit(Lsn::new(11))).unwrap();
    publish_rows(&mut publisher, &items, 11..20, "a");
    let last = Lsn::new(19);
    assert_eq!(engine.wait_flushed(last, LONG).unwrap(), last);
    for (handle, seen) in &added {
        assert_eq!(log_of(&engine, *handle), firsts(11..20));
        assert!(seen.as_ref().is_none_or(|seen| joined(seen) == firsts(11..20)));
    }
    assert_eq!(handles(&engine), added.iter().map(|(handle, _)| *handle).collect::<Vec<_>>());
}

/// Also while the transaction never ends in this life: what comes again is not theirs either.
#[test]
fn g11_r03_shapes_added_in_a_transaction_that_comes_again_do_not_get_it() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, mut publisher, items) = world(&dir);
    publish_rows(&mut publisher, &items, 1..10, "a");
    let mut transaction = TransactionBuilder::new(1, Lsn::new(10));
    insert(&mut transaction, &items, 1, "a");
    publisher.publish(transaction.cut()).unwrap();
    let added = engine.add_shapes(vec![(shape(""), ConsumerSpec::Log); 4]).unwrap();
    engine.shutdown(LONG).unwrap();
    drop((engine, publisher));
    let (engine, mut publisher, items) = world(&dir);
    publish_rows(&mut publisher, &items, 8..13, "a");
    assert_eq!(engine.wait_flushed(Lsn::new(12), LONG).unwrap(), Lsn::new(12));
    for handle in added {
        assert_eq!(log_of(&engine, handle), firsts(11..13));
    }
}

#[test]
fn r03_shapes_are_added_all_or_none() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, mut publisher, items) = world(&dir);
    let good = engine.add_shape(shape(""), ConsumerSpec::Log).unwrap();
    let starts = Arc::new(AtomicUsize::new(0));
    let spec = || {
        let starts = Arc::clone(&starts);
        placed(Placement::Mailbox, Ack::Consumer, move |_| {
            starts.fetch_add(1, Ordering::SeqCst);
            Err("nobody is to start it".into())
        })
    };
    let unknown = ShapeDefinition::table(TableName::new("public", "nowhere"));
    let bad = [shape("id = "), shape("nothing = 1"), shape("id = 'x'"), unknown];
    for bad in bad {
        let shapes = vec![(shape(""), spec()), (bad.clone(), spec()), (shape(""), spec())];
        let error = engine.add_shapes(shapes).unwrap_err();
        match error {
            AddError::UnknownTable { table } => assert_eq!(table, bad.table),
            AddError::Where { definition, .. } => assert_eq!(definition, bad.to_string()),
            error => panic!("{error}"),
        }
        assert_eq!(handles(&engine), [good]);
    }
    assert_eq!(engine.add_shapes(Vec::new()).unwrap(), []);
    publish_rows(&mut publisher, &items, 1..3, "a");
    assert_eq!(engine.wait_flushed(Lsn::new(2), LONG).unwrap(), Lsn::new(2));
    let metrics = engine.metrics();
    assert_eq!((metrics.shapes, metrics.lagging, metrics.deaths), (1, 0, 0));
    assert_eq!(starts.load(Ordering::SeqCst), 0);
}

/// Says when it is dropped.
struct Told {
    inner: Box<dyn FnMut(&Delivery<'_>) + Send>,
    dropped: Arc<AtomicBool>,
}

impl Consumer for Told {
    fn handle(
        &mut self,
        delivery: &Delivery<'_>,
        _context: &mut Context<'_>,
    ) -> Result<(), ConsumerError> {
        (self.inner)(delivery);
        Ok(())
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        self.dropped.store(true, Ordering::SeqCst);
    }
}

/// R12: what it owed is nobody's concern, what is queued is dropped, and the event comes when its
/// consumer is gone, which may be long after.
#[test]
fn r12_removal_drops_what_is_queued_and_says_so_when_the_consumer_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, mut publisher, items) = world(&dir);
    let (entered, inside) = bounded(1);
    let (release, gate) = bounded::<()>(0);
    let (dropped, handled) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let (drops, handles_it) = (Arc::clone(&dropped), Arc::clone(&handled));
    let factory = move |start: &Start<'_>| {
        let (gate, entered) = (gate.clone(), entered.clone());
        let handled = Arc::clone(&handles_it);
        let inner = Box::new(move |_: &Delivery<'_>| {
            handled.fetch_add(1, Ordering::SeqCst);
            entered.send(()).unwrap();
            let _ = gate.recv();
        });
        let told = Told { inner, dropped: Arc::clone(&drops) };
        Ok(Started::new(Box::new(told), start.resume()))
    };
    let spec = placed(Placement::Mailbox, Ack::Consumer, factory);
    let handle = engine.add_shape(shape(""), spec).unwrap();
    publish_rows(&mut publisher, &items, 1..9, "a");
    inside.recv().unwrap();
    engine.remove_shape(handle).unwrap();
    // It holds the LSN no longer, although it is still inside its handler.
    assert_eq!(engine.wait_flushed(Lsn::new(8), LONG).unwrap(), Lsn::new(8));
    assert!(matches!(engine.remove_shape(handle), Err(RemoveError::Unknown { .. })));
    let metrics = engine.metrics();
    assert_eq!((metrics.shapes, metrics.lagging), (0, 0));
    assert!(!dropped.load(Ordering::SeqCst));
    assert!(engine.events().try_iter().all(|event| !matches!(event, Event::Removed { .. })));
    drop(release);
    removed(&engine, handle);
    assert!(dropped.load(Ordering::SeqCst));
    assert_eq!(handled.load(Ordering::SeqCst), 1, "what was queued is dropped");
    assert_eq!(engine.metrics().deaths, 0);
}

/// The inline consumer lies with its shard, which drops it there and then.
#[test]
fn r12_an_inline_consumer_is_dropped_with_its_removal() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, mut publisher, items) = world(&dir);
    let dropped = Arc::new(AtomicBool::new(false));
    let drops = Arc::clone(&dropped);
    let factory = move |start: &Start<'_>| {
        let told = Told { inner: Box::new(|_| ()), dropped: Arc::clone(&drops) };
        Ok(Started::new(Box::new(told), start.resume()))
    };
    let handle = engine.add_shape(shape(""), placed(Placement::Inline, Ack::Log, factory)).unwrap();
    publish_rows(&mut publisher, &items, 1..9, "a");
    engine.wait_flushed(Lsn::new(8), LONG).unwrap();
    engine.remove_shape(handle).unwrap();
    removed(&engine, handle);
    assert!(dropped.load(Ordering::SeqCst));
    assert_eq!(engine.metrics().shapes, 0);
}

/// A removal waits for no factory. One that comes back late makes a consumer that sees nothing, and
/// only then is the shape gone.
#[test]
fn r12_removal_while_its_factory_hangs() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, mut publisher, items) = world(&dir);
    for succeeds in [true, false] {
        let (entered, inside) = bounded(1);
        let (release, gate) = bounded::<()>(0);
        let dropped = Arc::new(AtomicBool::new(false));
        let drops = Arc::clone(&dropped);
        let factory = move |start: &Start<'_>| {
            entered.send(())?;
            let _ = gate.recv();
            let handles = |_: &Delivery<'_>| panic!("it is removed");
            let told = Told { inner: Box::new(handles), dropped: Arc::clone(&drops) };
            if !succeeds {
                return Err("as the test wants".into());
            }
            Ok(Started::new(Box::new(told), start.resume()))
        };
        let spec = placed(Placement::Mailbox, Ack::Consumer, factory);
        let handle = engine.add_shape(shape(""), spec).unwrap();
        inside.recv().unwrap();
        let from = engine.metrics().transactions + 1;
        publish_rows(&mut publisher, &items, from..from + 3, "a");
        engine.remove_shape(handle).unwrap();
        let last = Lsn::new(from + 2);
        assert_eq!(engine.wait_flushed(last, LONG).unwrap(), last);
        assert!(engine.events().try_iter().all(|event| !matches!(event, Event::Removed { .. })));
        drop(release);
        removed(&engine, handle);
        assert!(dropped.load(Ordering::SeqCst));
        let metrics = engine.metrics();
        assert_eq!((metrics.shapes, metrics.lagging, metrics.deaths), (0, 0, 0));
    }
}

/// R12: an earlier factory that was given up is still somewhere, and may still make a consumer.
#[test]
fn r12_removal_waits_for_earlier_factories_that_hang() {
    let builder = small().shards(1).runners(3).factory_timeout(Duration::from_millis(100));
    let (engine, mut publisher) = builder.start().unwrap();
    let items = items();
    engine.learn(Arc::clone(&items));
    for hangs in [1, 2, 3] {
        let (release, gate) = bounded::<()>(0);
        let dropped: Vec<_> = (0..3).map(|_| Arc::new(AtomicBool::new(false))).collect();
        let drops = dropped.clone();
        let spec = placed(Placement::Mailbox, Ack::Log, move |start: &Start<'_>| {
            if start.incarnation() <= hangs {
                let _ = gate.recv();
            }
            let dropped = Arc::clone(&drops[start.incarnation() as usize - 1]);
            let told = Told { inner: Box::new(|_| ()), dropped };
            Ok(Started::new(Box::new(told), start.resume()))
        });
        let handle = engine.add_shape(shape(""), spec).unwrap();
        let from = engine.metrics().transactions + 1;
        publish_rows(&mut publisher, &items, from..from + 3, "a");
        if hangs < 3 {
            wait_until("it runs", || engine.metrics().lagging == 0);
            engine.remove_shape(handle).unwrap();
            wait_until("its end", || dropped[hangs as usize].load(Ordering::SeqCst));
        } else {
            wait_for(&engine, |event| matches!(event, Event::Undeliverable { .. }));
        }
        // What was to be said of it by now is said before this.
        let spec = recorder(Placement::Mailbox, Ack::Log, &Seen::default(), reports());
        let other = engine.add_shape(shape(""), spec).unwrap();
        engine.remove_shape(other).unwrap();
        let event = wait_for(&engine, |event| matches!(event, Event::Removed { .. }));
        assert_eq!(event, Event::Removed { handle: other }, "{hangs} factories hang");
        drop(release);
        if hangs < 3 {
            removed(&engine, handle);
            assert!(dropped[..=hangs as usize].iter().all(|d| d.load(Ordering::SeqCst)));
        }
    }
}

/// Consumers that die all the time are removed at whatever point of it.
#[test]
fn r12_removal_during_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, mut publisher, items) = world(&dir);
    let mut commit = 1;
    for round in 0..40 {
        let placement = PLACEMENTS[round % 2];
        let script: Script = Arc::new(|_, context| {
            context.exit();
            Ok(Report::Yes)
        });
        let spec = recorder(placement, Ack::Consumer, &Seen::default(), script);
        let handle = engine.add_shape(shape(""), spec).unwrap();
        let rows = 1 + round as u64 % 5;
        publish_rows(&mut publisher, &items, commit..commit + rows, "a");
        commit += rows;
        engine.remove_shape(handle).unwrap();
        removed(&engine, handle);
    }
    let last = Lsn::new(commit - 1);
    assert_eq!(engine.wait_flushed(last, LONG).unwrap(), last);
    let metrics = engine.metrics();
    assert_eq!((metrics.shapes, metrics.lagging, metrics.undeliverable), (0, 0, 0));
    wait_until("nothing is pinned", || engine.metrics().unflushed_bytes == 0);
}

/// A14: 10,000 shapes of every kind come and go while there is traffic, and nothing is left.
#[test]
fn a14_c13_shapes_that_come_and_go_leave_nothing_behind() {
    let dir = scratch();
    let (engine, mut publisher, items) = world(&dir);
    let stays = engine.add_shape(shape("kind = 'a'"), ConsumerSpec::Log).unwrap();
    let mut commit = 1;
    let mut last = stays;
    for round in 0..20 {
        let of = |number: u64| {
            let clause = [String::new(), "kind = 'a'".into(), format!("id = {number}")];
            let seen = Seen::default();
            let spec = match number % 4 {
                0 => ConsumerSpec::Log,
                1 => recorder(Placement::Inline, Ack::Consumer, &seen, reports()),
                2 => recorder(Placement::Mailbox, Ack::Log, &seen, reports()),
                _ => recorder(Placement::Mailbox, Ack::Consumer, &seen, reports()),
            };
            (shape(&clause[number as usize % 3]), spec)
        };
        let added = engine.add_shapes((round * 500..round * 500 + 500).map(of).collect()).unwrap();
        publish_rows(&mut publisher, &items, commit..commit + 3, "a");
        commit += 3;
        assert!(added.iter().all(|handle| *handle > last), "a handle was used again");
        last = *added.last().unwrap();
        let (half, rest) = added.split_at(250);
        // From two threads at once.
        thread::scope(|scope| {
            scope.spawn(|| half.iter().for_each(|handle| engine.remove_shape(*handle).unwrap()));
            rest.iter().for_each(|handle| engine.remove_shape(*handle).unwrap());
        });
    }
    let mut gone = 0;
    while gone < 10_000 {
        wait_for(&engine, |event| matches!(event, Event::Removed { .. }));
        gone += 1;
    }
    let flushed = Lsn::new(commit - 1);
    assert_eq!(engine.wait_flushed(flushed, LONG).unwrap(), flushed);
    let metrics = engine.metrics();
    assert_eq!((metrics.shapes, metrics.lagging), (1, 0));
    wait_until("nothing is pinned", || engine.metrics().unflushed_bytes == 0);
    assert_eq!((metrics.deaths, metrics.undeliverable, metrics.events_dropped), (0, 0, 0));
    assert_eq!(handles(&engine), [stays]);
    assert_eq!(log_of(&engine, stays), firsts(1..commit));
    drop((engine, publisher));
    let (engine, _publisher, _) = world(&dir);
    assert_eq!(handles(&engine), [stays]);
    assert!(engine.add_shape(shape(""), ConsumerSpec::Log).unwrap() > last);
}

/// The deadline of a removed shape's consumer is nobody's any more.
#[test]
fn inv3_a_removed_consumer_that_stays_in_its_handler_condemns_nobody() {
    let builder = small().runners(1).consumer_deadline(Duration::from_millis(500));
    let (engine, mut publisher) = builder.start().unwrap();
    let items = items();
    engine.learn(Arc::clone(&items));
    let (entered, inside) = bounded(1);
    let (release, gate) = bounded::<()>(0);
    let script: Script = Arc::new(move |_, _| {
        entered.send(())?;
        let _ = gate.recv();
        Ok(Report::Yes)
    });
    let spec = recorder(Placement::Mailbox, Ack::Consumer, &Seen::default(), script);
    let wedged = engine.add_shape(shape(""), spec).unwrap();
    publish_rows(&mut publisher, &items, 1..2, "a");
    inside.recv().unwrap();
    engine.remove_shape(wedged).unwrap();
    let seen = Seen::default();
    let spec = recorder(Placement::Mailbox, Ack::Consumer, &seen, reports());
    engine.add_shape(shape(""), spec).unwrap();
    publish_rows(&mut publisher, &items, 2..20, "a");
    // Another runner takes the wedged one's place.
    assert_eq!(engine.wait_flushed(Lsn::new(19), LONG).unwrap(), Lsn::new(19));
    assert_eq!(joined(&seen), firsts(2..20));
    assert_eq!(engine.metrics().undeliverable, 0);
    drop(release);
    removed(&engine, wedged);
    let last = seen.lock().unwrap().last().copied();
    assert_eq!(last, Some((1, Offset::new(Lsn::new(19), 0), true)));
}
