//! Reports: what a consumer has said counts, from wherever and whenever it says it, and nothing
//! that it did not say counts against it (R5, R6, INV4).

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use crossbeam_channel::{Receiver, unbounded};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;
use support::*;
use walfan::{
    Ack, Consumer, ConsumerError, Context, Delivery, Engine, Event, Handle, Lsn, Offset, Publisher,
    Relation, ReportError, Reporter, Start, Started, TransactionBuilder,
};

/// A deadline that some of the tests wait for.
const DEADLINE: Duration = Duration::from_millis(200);

fn world(deadline: Duration) -> (Engine, Publisher, Arc<Relation>) {
    let (engine, publisher) = small().consumer_deadline(deadline).start().unwrap();
    let items = items();
    engine.learn(Arc::clone(&items));
    (engine, publisher, items)
}

/// A report counts, also if its handler panics, fails or exits after it (R6).
#[test]
fn r06_what_was_reported_before_a_death_is_not_seen_again() {
    for placement in PLACEMENTS {
        for end in 0..3 {
            let (engine, mut publisher, items) = world(LONG);
            let seen = Seen::default();
            let handled = Arc::clone(&seen);
            let script: Script = Arc::new(move |delivery, context| {
                let Some(commit) = delivery.commit() else { return Ok(Report::Yes) };
                let at = (context.incarnation(), delivery.offset(), true);
                handled.lock().unwrap().push(at);
                context.flushed(commit)?;
                match end {
                    0 => panic!("as the test wants"),
                    1 => Err("as the test wants".into()),
                    _ => {
                        context.exit();
                        Ok(Report::No)
                    }
                }
            });
            // What the script did not write down itself goes nowhere.
            let spec = recorder(placement, Ack::Consumer, &Seen::default(), script);
            engine.add_shape(shape(""), spec).unwrap();
            // More ends than condemn a consumer that makes no progress.
            publish_rows(&mut publisher, &items, 1..9, "a");
            assert_eq!(engine.wait_flushed(Lsn::new(8), LONG).unwrap(), Lsn::new(8));
            wait_until("the last death", || engine.metrics().deaths == 8);
            assert_eq!(engine.metrics().undeliverable, 0);
            assert_eq!(joined(&seen), firsts(1..9), "{placement:?} {end}");
            assert_eq!(seen.lock().unwrap().len(), 8, "{placement:?} {end}: seen again");
        }
    }
}

/// Adds a consumer that is silent, and waits until it is given up at its deadline: who was silent
/// for longer would have been, too.
fn a_deadline_passes(engine: &Engine, publisher: &mut Publisher, items: &Arc<Relation>, at: u64) {
    let script: Script = Arc::new(|_, _| Ok(Report::No));
    let spec = recorder(Placement::Mailbox, Ack::Consumer, &Seen::default(), script);
    let witness = engine.add_shape(shape("kind = 'witness'"), spec).unwrap();
    publish_rows(publisher, items, at..at + 1, "witness");
    let event = wait_for(engine, |e| matches!(e, Event::Undeliverable { .. }));
    assert!(matches!(event, Event::Undeliverable { handle, .. } if handle == witness), "{event:?}");
}

/// Who reports late, in the middle of a later transaction, owes nothing after that; nor does who
/// could report from elsewhere, and does it here.
#[test]
fn a09_a_late_report_in_the_middle_of_a_transaction_counts() {
    for (placement, takes_reporter) in PLACEMENTS.into_iter().flat_map(|p| [(p, false), (p, true)])
    {
        let (engine, mut publisher, items) = world(DEADLINE);
        let seen = Seen::default();
        let script: Script = Arc::new(|delivery, context| {
            let offset = delivery.offset();
            if offset == Offset::new(Lsn::new(5), 0) {
                return Ok(Report::No);
            }
            if offset == Offset::new(Lsn::new(6), 2) {
                context.flushed(Lsn::new(5))?;
            }
            Ok(Report::Yes)
        });
        let inner = recorder(placement, Ack::Consumer, &seen, script);
        let factory = move |start: &Start<'_>| {
            let _reporter = takes_reporter.then(|| start.reporter());
            start_of(&inner, start)
        };
        let spec = placed(placement, Ack::Consumer, factory);
        let handle = engine.add_shape(shape("kind = 'a'"), spec).unwrap();
        wait_until("it runs", || engine.metrics().lagging == 0);
        publish_rows(&mut publisher, &items, 1..6, "a");
        publisher.publish(inserts(&items, 6, &[(1, "a"), (2, "a"), (3, "a")])).unwrap();
        assert_eq!(engine.wait_flushed(Lsn::new(6), LONG).unwrap(), Lsn::new(6));
        a_deadline_passes(&engine, &mut publisher, &items, 7);
        assert_eq!(engine.metrics().undeliverable, 1);
        assert!(engine.shapes().iter().any(|(living, _)| *living == handle), "{placement:?}");
    }
}

/// A factory that hangs for ever has failed; the incarnation that took its place is not condemned
/// for it (R9, R10).
#[test]
fn r10_a_hung_factory_is_not_held_against_its_successor() {
    let (release, wedge) = crossbeam_channel::bounded::<()>(0);
    let builder = small().consumer_deadline(Duration::from_millis(200));
    let (engine, mut publisher) =
        builder.factory_timeout(Duration::from_millis(100)).start().unwrap();
    let items = items();
    engine.learn(Arc::clone(&items));
    let seen = Seen::default();
    let inner = recorder(Placement::Mailbox, Ack::Consumer, &seen, reports());
    let factory = move |start: &Start<'_>| {
        if start.incarnation() == 1 {
            let _ = wedge.recv();
        }
        start_of(&inner, start)
    };
    let spec = placed(Placement::Mailbox, Ack::Consumer, factory);
    let handle = engine.add_shape(shape("kind = 'a'"), spec).unwrap();
    publish_rows(&mut publisher, &items, 1..6, "a");
    assert_eq!(engine.wait_flushed(Lsn::new(5), LONG).unwrap(), Lsn::new(5));
    a_deadline_passes(&engine, &mut publisher, &items, 6);
    publish_rows(&mut publisher, &items, 7..9, "a");
    assert_eq!(engine.wait_flushed(Lsn::new(8), LONG).unwrap(), Lsn::new(8));
    assert!(engine.shapes().iter().any(|(living, _)| *living == handle));
    let metrics = engine.metrics();
    assert_eq!((metrics.deaths, metrics.undeliverable), (1, 1));
    assert_eq!(joined(&seen), firsts(1..6).into_iter().chain(firsts(7..9)).collect::<Vec<_>>());
    drop(release);
}

struct Outside {
    handed: crossbeam_channel::Sender<Lsn>,
}

impl Consumer for Outside {
    fn handle(
        &mut self,
        delivery: &Delivery<'_>,
        context: &mut Context<'_>,
    ) -> Result<(), ConsumerError> {
        if let Some(commit) = delivery.commit() {
            let beyond = context.flushed(Lsn::new(commit.as_u64() + 1)).unwrap_err();
            assert!(matches!(beyond, ReportError::PastHanded { handed, .. } if handed == commit));
            self.handed.send(commit)?;
        }
        Ok(())
    }
}

impl Outside {
    fn add(
        engine: &Engine,
        placement: Placement,
    ) -> (Handle, Arc<Mutex<Option<Reporter>>>, Receiver<Lsn>) {
        let (handed, takes) = unbounded();
        let reporter = Arc::new(Mutex::new(None));
        let given = Arc::clone(&reporter);
        let factory = move |start: &Start<'_>| {
            *given.lock().unwrap() = Some(start.reporter());
            let consumer = Outside { handed: handed.clone() };
            Ok(Started::new(Box::new(consumer), start.resume()))
        };
        let spec = placed(placement, Ack::Consumer, factory);
        (engine.add_shape(shape("kind = 'a'"), spec).unwrap(), reporter, takes)
    }
}

/// Reports come from another thread, and none may be past what the consumer was handed.
#[test]
fn r05_reports_come_from_any_thread_and_none_past_what_was_handed() {
    for placement in PLACEMENTS {
        let (engine, mut publisher, items) = world(DEADLINE);
        let (handle, reporter, takes) = Outside::add(&engine, placement);
        let last = Lsn::new(50);
        let reports = thread::spawn(move || {
            for commit in &takes {
                let reporter = reporter.lock().unwrap().clone().unwrap();
                reporter.flushed(commit).unwrap();
                // Cumulative: an older one changes nothing.
                reporter.flushed(Lsn::new(1)).unwrap();
                if commit == last {
                    return reporter;
                }
            }
            unreachable!()
        });
        publish_rows(&mut publisher, &items, 1..51, "a");
        assert_eq!(engine.wait_flushed(last, LONG).unwrap(), last);
        let reporter = reports.join().unwrap();
        let past = reporter.flushed(Lsn::new(51)).unwrap_err();
        let (reported, handed) = (Lsn::new(51), last);
        assert_eq!(past, ReportError::PastHanded { handle, reported, handed });
        assert_eq!(engine.metrics().deaths, 0);
        a_deadline_passes(&engine, &mut publisher, &items, 51);
        assert_eq!(engine.metrics().undeliverable, 1);
    }
}

/// A zombie's report is nobody's: neither its successor's nor, after a removal, anybody else's.
#[test]
fn r06_reports_of_the_dead_are_ignored() {
    for placement in PLACEMENTS {
        let (engine, mut publisher, items) = world(DEADLINE);
        let first = Arc::new(Mutex::new(None));
        let starts = Arc::new(AtomicUsize::new(0));
        let (given, counted) = (Arc::clone(&first), Arc::clone(&starts));
        let (handed, takes) = unbounded();
        let factory = move |start: &Start<'_>| {
            let reporter = start.reporter();
            given.lock().unwrap().get_or_insert_with(|| reporter.clone());
            counted.fetch_add(1, Ordering::SeqCst);
            let handed = handed.clone();
            let handler = Handler(move |delivery: &Delivery<'_>, context: &mut Context<'_>| {
                if context.incarnation() == 1 {
                    context.exit();
                }
                handed.send(delivery.commit())?;
                // Who defers is waited for.
                context.defer(LONG);
                Ok(())
            });
            Ok(Started::new(Box::new(handler), start.resume()))
        };
        engine.add_shape(shape("kind = 'a'"), placed(placement, Ack::Consumer, factory)).unwrap();
        publish_rows(&mut publisher, &items, 1..2, "a");
        assert_eq!(takes.recv().unwrap(), Some(Lsn::new(1)));
        wait_until("the successor", || starts.load(Ordering::SeqCst) == 2);
        assert_eq!(takes.recv().unwrap(), Some(Lsn::new(1)));
        let zombie = first.lock().unwrap().clone().unwrap();
        assert_eq!(zombie.flushed(Lsn::new(1)), Ok(()));
        let mut transaction = TransactionBuilder::new(1, Lsn::new(2));
        insert(&mut transaction, &items, 1, "b");
        publisher.publish(transaction.commit(Lsn::new(3))).unwrap();
        wait_until("the next one", || engine.metrics().transactions == 2);
        assert_eq!(zombie.flushed(Lsn::new(1)), Ok(()));
        a_deadline_passes(&engine, &mut publisher, &items, 3);
        assert_eq!(engine.flushed_lsn(), Lsn::ZERO, "{placement:?}");
    }
}

struct Handler<F>(F);

impl<F> Consumer for Handler<F>
where
    F: FnMut(&Delivery<'_>, &mut Context<'_>) -> Result<(), ConsumerError> + Send,
{
    fn handle(
        &mut self,
        delivery: &Delivery<'_>,
        context: &mut Context<'_>,
    ) -> Result<(), ConsumerError> {
        (self.0)(delivery, context)
    }
}

/// A consumer that takes a while to be dropped, and says when it is.
struct Lingers(Arc<AtomicUsize>);

impl Consumer for Lingers {
    fn handle(&mut self, _: &Delivery<'_>, _: &mut Context<'_>) -> Result<(), ConsumerError> {
        Err("as the test wants".into())
    }
}

impl Drop for Lingers {
    fn drop(&mut self) {
        // Long enough for a successor that does not wait to be made meanwhile.
        std::thread::sleep(Duration::from_millis(50));
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[test]
fn r06_the_dead_is_dropped_before_its_successor_is_made() {
    for placement in PLACEMENTS {
        let (engine, mut publisher, items) = world(LONG);
        let (living, together) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (lives, met) = (Arc::clone(&living), Arc::clone(&together));
        let spec = placed(placement, Ack::Consumer, move |start: &Start<'_>| {
            let before = lives.fetch_add(1, Ordering::SeqCst);
            met.fetch_max(before, Ordering::SeqCst);
            Ok(Started::new(Box::new(Lingers(Arc::clone(&lives))), start.resume()))
        });
        engine.add_shape(shape(""), spec).unwrap();
        wait_until("it runs", || engine.metrics().lagging == 0);
        publish_rows(&mut publisher, &items, 1..2, "a");
        wait_for(&engine, |event| matches!(event, Event::Undeliverable { .. }));
        wait_until("the last one's end", || living.load(Ordering::SeqCst) == 0);
        assert_eq!(together.load(Ordering::SeqCst), 0, "{placement:?}");
    }
}

/// A shape that only the beginning of a transaction touched has flushed it when its commit has
/// come, also if that brings nothing for it and nothing follows (R7).
#[test]
fn a11_a_commit_that_brings_nothing_for_a_shape_is_its_commit_too() {
    for placement in PLACEMENTS {
        let (engine, mut publisher, items) = world(LONG);
        let seen = Seen::default();
        let spec = recorder(placement, Ack::Consumer, &seen, reports());
        engine.add_shape(shape("kind = 'a'"), spec).unwrap();
        let log = engine.add_shape(shape("kind = 'a'"), walfan::ConsumerSpec::Log).unwrap();
        wait_until("it runs", || engine.metrics().lagging == 0);
        let mut transaction = TransactionBuilder::new(1, Lsn::new(7));
        insert(&mut transaction, &items, 1, "a");
        publisher.publish(transaction.cut()).unwrap();
        wait_until("it has its row", || joined(&seen).len() == 1);
        insert(&mut transaction, &items, 2, "b");
        publisher.publish(transaction.cut()).unwrap();
        assert_eq!(engine.flushed_lsn(), Lsn::ZERO);
        publisher.publish(transaction.commit(Lsn::new(8))).unwrap();
        assert_eq!(engine.wait_flushed(Lsn::new(7), LONG).unwrap(), Lsn::new(7), "{placement:?}");
        assert_eq!(log_of(&engine, log), firsts(7..8));
        let mark = Offset::commit_mark(Lsn::new(7));
        assert_eq!(seen.lock().unwrap().last(), Some(&(1, mark, true)));
    }
}

/// What is received, durable and flushed are three positions, and what is on its way is counted
/// while it is, not when it has arrived.
#[test]
fn j02_j03_what_is_on_its_way_is_seen_while_it_is() {
    let (engine, mut publisher, items) = world(LONG);
    let (release, gate) = crossbeam_channel::bounded::<()>(0);
    let script: Script = Arc::new(move |delivery, _| {
        if delivery.commit_lsn() == Lsn::new(3) {
            // Disconnected: released.
            let _ = gate.recv();
        }
        Ok(Report::Yes)
    });
    let spec = recorder(Placement::Mailbox, Ack::Consumer, &Seen::default(), script);
    engine.add_shape(shape(""), spec).unwrap();
    wait_until("it runs", || engine.metrics().lagging == 0);
    publish_rows(&mut publisher, &items, 1..6, "a");
    let last = Lsn::new(5);
    wait_until("all is durable", || engine.metrics().shards.iter().all(|s| s.durable == last));
    assert_eq!(engine.wait_flushed(Lsn::new(2), LONG).unwrap(), Lsn::new(2));
    let metrics = engine.metrics();
    assert_eq!((publisher.committed(), metrics.transactions), (last, 5));
    let mut frontiers = metrics.shards.iter().map(|shard| shard.frontier).collect::<Vec<_>>();
    frontiers.sort();
    assert_eq!(frontiers, [Lsn::new(2), last], "of the one that holds it, and of the other");
    assert!(metrics.unflushed_bytes > 0);
    drop(release);
    assert_eq!(engine.wait_flushed(last, LONG).unwrap(), last);
    wait_until("nothing is on its way", || engine.metrics().unflushed_bytes == 0);
}
