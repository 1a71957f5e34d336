//! Death: consumers die in every way and at every moment; the others go on, the flushed LSN moves,
//! and the dead one is replayed without a gap or durably invalidated. It is what walfan is for.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use support::*;
use walfan::{
    Ack, Builder, ConsumerError, ConsumerSpec, Context, Engine, Event, Handle, Lsn, Offset,
    Publisher, Relation, Start, TransactionBuilder,
};

/// How a handler ends its incarnation.
#[derive(Clone, Copy, Debug)]
enum End {
    Panic,
    Error,
    Exit,
}

const ENDS: [End; 3] = [End::Panic, End::Error, End::Exit];

/// One engine with a victim and bystanders, on disk or in memory.
struct World {
    items: Arc<Relation>,
    engine: Engine,
    publisher: Publisher,
    bystanders: Vec<Seen>,
    _dir: Option<tempfile::TempDir>,
}

impl World {
    fn each(mut test: impl FnMut(World)) {
        for on_disk in [false, true] {
            test(World::new(on_disk, small()));
        }
    }

    fn new(on_disk: bool, builder: Builder) -> World {
        let dir = on_disk.then(|| tempfile::tempdir().unwrap());
        let builder = match &dir {
            Some(dir) => builder.directory(dir.path()),
            None => builder,
        };
        let (engine, publisher) = builder.start().unwrap();
        let items = items();
        engine.learn(Arc::clone(&items));
        let bystanders = (0..4).map(|number| {
            let seen = Seen::default();
            let placement = PLACEMENTS[number % 2];
            engine
                .add_shape(shape(""), recorder(placement, Ack::Consumer, &seen, reports()))
                .unwrap();
            seen
        });
        let bystanders = bystanders.collect();
        World { items, engine, publisher, bystanders, _dir: dir }
    }

    fn publish(&mut self, commits: std::ops::Range<u64>, kind: &str) {
        publish_rows(&mut self.publisher, &self.items, commits, kind);
    }

    /// Everything through the last commit is flushed, and every bystander saw all of it.
    fn check(&self, commits: std::ops::Range<u64>) {
        let last = Lsn::new(commits.end - 1);
        assert_eq!(self.engine.wait_flushed(last, LONG).unwrap(), last);
        for seen in &self.bystanders {
            assert_eq!(joined(seen), firsts(commits.clone()));
            assert!(seen.lock().unwrap().iter().all(|(incarnation, ..)| *incarnation == 1));
        }
    }

    fn died(&self, handle: Handle) {
        wait_for(
            &self.engine,
            |event| matches!(event, Event::Died { handle: who, .. } if *who == handle),
        );
    }
}

/// Ends an incarnation in the way `end`.
fn ends(end: End, context: &mut Context<'_>) -> Result<(), ConsumerError> {
    match end {
        End::Panic => panic!("as the test wants"),
        End::Error => return Err("as the test wants".into()),
        End::Exit => context.exit(),
    }
    Ok(())
}

/// Ends its incarnation in the way `end` at the first sight of the change at `commit`.
fn dies_at(commit: u64, end: End) -> Script {
    let died = AtomicUsize::new(0);
    Arc::new(move |delivery, context| {
        let here = delivery.commit_lsn() == Lsn::new(commit);
        if here && died.fetch_add(1, Ordering::Relaxed) == 0 {
            ends(end, context)?;
        }
        Ok(Report::Yes)
    })
}

#[test]
fn a01_dies_during_a_delivery() {
    for end in ENDS {
        for placement in PLACEMENTS {
            World::each(|mut world| {
                let seen = Seen::default();
                let victim = recorder(placement, Ack::Consumer, &seen, dies_at(30, end));
                let victim = world.engine.add_shape(shape(""), victim).unwrap();
                world.publish(1..60, "a");
                world.check(1..60);
                assert_eq!(joined(&seen), firsts(1..60), "{end:?} {placement:?}");
                assert_eq!(seen.lock().unwrap().last().unwrap().0, 2);
                world.died(victim);
                let metrics = world.engine.metrics();
                assert_eq!((metrics.deaths, metrics.restarts), (1, 1));
                assert_eq!(metrics.undeliverable, 0);
            });
        }
    }
}

/// What was handled and not reported is seen again by the next incarnation, and the LSN waits: also
/// when it ends in good order.
#[test]
fn a03_dies_with_a_report_outstanding() {
    for end in ENDS {
        for placement in PLACEMENTS {
            World::each(|mut world| {
                let seen = Seen::default();
                let script: Script = Arc::new(move |delivery, context| {
                    // The first incarnation stops reporting at 20, and ends at 25.
                    if context.incarnation() > 1 || delivery.commit_lsn() < Lsn::new(20) {
                        return Ok(Report::Yes);
                    }
                    if delivery.commit_lsn() == Lsn::new(25) {
                        ends(end, context)?;
                    }
                    Ok(Report::No)
                });
                let victim = recorder(placement, Ack::Consumer, &seen, script);
                world.engine.add_shape(shape(""), victim).unwrap();
                world.publish(1..25, "a");
                wait_until("the first incarnation", || joined(&seen).len() == 24);
                assert!(world.engine.flushed_lsn() < Lsn::new(20));
                world.publish(25..40, "a");
                world.check(1..40);
                let second: Vec<_> =
                    seen.lock().unwrap().iter().filter(|s| s.0 == 2).cloned().collect();
                let unreported = Offset::new(Lsn::new(20), 0);
                assert_eq!(second[0].1, unreported, "what was not reported comes again");
                assert_eq!(second.len(), 20);
            });
        }
    }
}

/// At every fragment of a transaction, and on its commit mark.
#[test]
fn a23_dies_in_the_middle_of_a_transaction() {
    for placement in PLACEMENTS {
        for at in 0..6 {
            World::each(|mut world| {
                let seen = Seen::default();
                let died = AtomicUsize::new(0);
                let script: Script = Arc::new(move |delivery, _| {
                    let offset = delivery.offset();
                    let here = offset.commit == Lsn::new(10)
                        && (offset.op == at * 2 || (at == 5 && offset.is_commit_mark()));
                    if here && died.fetch_add(1, Ordering::Relaxed) == 0 {
                        panic!("as the test wants");
                    }
                    Ok(Report::Yes)
                });
                let victim = recorder(placement, Ack::Consumer, &seen, script);
                let victim = world.engine.add_shape(shape("kind = 'x'"), victim).unwrap();
                world.publish(1..10, "x");
                // One that lags would see the transaction after its commit.
                wait_until("everybody runs", || world.engine.metrics().lagging == 0);
                let mut transaction = TransactionBuilder::new(10, Lsn::new(10));
                for id in 0..5 {
                    insert(&mut transaction, &world.items, id, "x");
                    world.publisher.publish(transaction.cut()).unwrap();
                    if id == at {
                        world.died(victim);
                    }
                }
                // A change that is not the victim's, and the commit.
                insert(&mut transaction, &world.items, 9, "y");
                world.publisher.publish(transaction.commit(Lsn::new(11))).unwrap();
                world.publish(11..20, "x");
                assert_eq!(world.engine.wait_flushed(Lsn::new(19), LONG).unwrap(), Lsn::new(19));
                let middle = (0..5).map(|id| Offset::new(Lsn::new(10), id * 2)).collect();
                let expected = [firsts(1..10), middle, firsts(11..20)].concat();
                assert_eq!(joined(&seen), expected);
                let last =
                    seen.lock().unwrap().iter().rfind(|s| s.1.commit == Lsn::new(10)).cloned();
                assert!(
                    last.is_some_and(|(_, offset, commits)| commits && offset.is_commit_mark())
                );
            });
        }
    }
}

/// The death is met with nothing else to do, and no later traffic on its table.
#[test]
fn a02_dies_on_a_table_that_then_goes_quiet() {
    for placement in PLACEMENTS {
        for end in ENDS {
            World::each(|mut world| {
                let seen = Seen::default();
                let victim = recorder(placement, Ack::Consumer, &seen, dies_at(9, end));
                world.engine.add_shape(shape("kind = 'rare'"), victim).unwrap();
                world.publish(1..9, "a");
                world.publish(9..10, "rare");
                world.check(1..10);
                assert_eq!(joined(&seen), firsts(9..10));
            });
        }
    }
}

/// Three deaths in one place: the shape is given up, durably, and everybody else goes on.
#[test]
fn c11_dies_in_each_restart() {
    for placement in PLACEMENTS {
        World::each(|mut world| {
            let seen = Seen::default();
            let script: Script = Arc::new(|delivery, _| {
                assert!(delivery.commit_lsn() != Lsn::new(9), "as the test wants");
                Ok(Report::Yes)
            });
            let victim = recorder(placement, Ack::Consumer, &seen, script);
            let victim = world.engine.add_shape(shape(""), victim).unwrap();
            world.publish(1..30, "a");
            world.check(1..30);
            assert_eq!(joined(&seen), firsts(1..9));
            let event = wait_for(&world.engine, |e| matches!(e, Event::Undeliverable { .. }));
            let Event::Undeliverable { handle, offset, cause } = event else { unreachable!() };
            assert_eq!((handle, offset), (victim, Offset::new(Lsn::new(9), 0)));
            assert!(cause.contains("as the test wants"), "{cause}");
            let metrics = world.engine.metrics();
            assert_eq!((metrics.deaths, metrics.restarts, metrics.undeliverable), (3, 2, 1));
            assert!(world.engine.shapes().iter().all(|(handle, _)| *handle != victim));
        });
    }
}

/// A consumer that makes progress between its deaths may die as often as it likes.
#[test]
fn a24_deaths_with_progress_in_between_condemn_nobody() {
    for placement in PLACEMENTS {
        World::each(|mut world| {
            let seen = Seen::default();
            let last = AtomicU64::new(0);
            // Dies twice at every tenth commit.
            let deaths = AtomicUsize::new(0);
            let script: Script = Arc::new(move |delivery, _| {
                let commit = delivery.commit_lsn().as_u64();
                if last.swap(commit, Ordering::Relaxed) != commit {
                    deaths.store(0, Ordering::Relaxed);
                }
                if commit % 10 == 0 && deaths.fetch_add(1, Ordering::Relaxed) < 2 {
                    panic!("as the test wants");
                }
                Ok(Report::Yes)
            });
            let victim = recorder(placement, Ack::Consumer, &seen, script);
            world.engine.add_shape(shape(""), victim).unwrap();
            world.publish(1..100, "a");
            world.check(1..100);
            assert_eq!(joined(&seen), firsts(1..100));
            assert!(world.engine.metrics().deaths >= 9);
            assert_eq!(world.engine.metrics().undeliverable, 0);
        });
    }
}

#[test]
fn a_factory_that_panics_or_fails_is_a_death_like_any_other() {
    for placement in PLACEMENTS {
        for panics in [true, false] {
            for good_at in [3, 4] {
                World::each(|mut world| {
                    let seen = Seen::default();
                    let attempts = AtomicUsize::new(0);
                    let inner = recorder(placement, Ack::Consumer, &seen, reports());
                    let factory = move |start: &Start<'_>| {
                        if attempts.fetch_add(1, Ordering::Relaxed) + 1 < good_at {
                            assert!(!panics, "as the test wants");
                            return Err("as the test wants".into());
                        }
                        let (ConsumerSpec::Mailbox { factory, .. }
                        | ConsumerSpec::Inline { factory, .. }) = &inner
                        else {
                            unreachable!()
                        };
                        factory.start(start)
                    };
                    let victim = placed(placement, Ack::Consumer, factory);
                    world.engine.add_shape(shape(""), victim).unwrap();
                    world.publish(1..30, "a");
                    world.check(1..30);
                    let expected = if good_at == 3 { firsts(1..30) } else { Vec::new() };
                    wait_until("the victim's end", || {
                        world.engine.metrics().deaths == good_at as u64 - 1
                    });
                    assert_eq!(joined(&seen), expected);
                    assert_eq!(world.engine.metrics().undeliverable, u64::from(good_at == 4));
                });
            }
        }
    }
}

/// A consumer that lives, owes and is silent holds the LSN until its deadline and no longer; one
/// that defers holds it as long as its lease, and is not condemned.
#[test]
fn a05_a07_a_silent_consumer_is_given_up_and_one_that_defers_is_not() {
    let deadline = Duration::from_millis(200);
    for placement in PLACEMENTS {
        let mut world = World::new(true, small().consumer_deadline(deadline));
        let (silent, defers) = (Seen::default(), Seen::default());
        let script: Script = Arc::new(|_, _| Ok(Report::No));
        let victim = recorder(placement, Ack::Consumer, &silent, script);
        let victim = world.engine.add_shape(shape(""), victim).unwrap();
        let script: Script = Arc::new(|delivery, context| {
            context.defer(Duration::from_secs(300));
            Ok(if delivery.commit_lsn() < Lsn::new(9) { Report::No } else { Report::Yes })
        });
        let defers_spec = recorder(placement, Ack::Consumer, &defers, script);
        world.engine.add_shape(shape(""), defers_spec).unwrap();
        world.publish(1..9, "a");
        let event = wait_for(&world.engine, |e| matches!(e, Event::Undeliverable { .. }));
        assert!(matches!(event, Event::Undeliverable { handle, .. } if handle == victim));
        assert_eq!(world.engine.flushed_lsn(), Lsn::ZERO, "the one that defers is waited for");
        world.publish(9..10, "a");
        world.check(1..10);
        assert_eq!(world.engine.metrics().undeliverable, 1);
    }
}

/// A handler that never returns takes a runner, and nothing else: its shape is given up, another
/// runner takes its place, and everybody goes on (R10).
#[test]
fn a06_a_wedged_handler_stops_nobody() {
    let (release, wedge) = crossbeam_channel::bounded::<()>(0);
    let mut world =
        World::new(true, small().runners(1).consumer_deadline(Duration::from_millis(300)));
    let seen = Seen::default();
    let script: Script = Arc::new(move |delivery, _| {
        if delivery.commit_lsn() == Lsn::new(5) {
            let _ = wedge.recv();
        }
        Ok(Report::Yes)
    });
    let victim = recorder(Placement::Mailbox, Ack::Consumer, &seen, script);
    let victim = world.engine.add_shape(shape(""), victim).unwrap();
    world.publish(1..20, "a");
    world.check(1..20);
    let event = wait_for(&world.engine, |e| matches!(e, Event::Undeliverable { .. }));
    assert!(matches!(event, Event::Undeliverable { handle, .. } if handle == victim));
    world.publish(20..30, "a");
    world.check(1..30);
    drop(release);
    let report = world.engine.shutdown(LONG).unwrap();
    assert!(report.wedged.is_empty(), "{report:?}");
}

/// A factory that never answers is a failed attempt (R9).
#[test]
fn a_factory_that_hangs_times_out() {
    let (release, wedge) = crossbeam_channel::bounded::<()>(0);
    let mut world = World::new(true, small().factory_timeout(Duration::from_millis(100)));
    let seen = Seen::default();
    let inner = recorder(Placement::Mailbox, Ack::Consumer, &seen, reports());
    let factory = move |start: &Start<'_>| {
        if start.incarnation() == 1 {
            let _ = wedge.recv();
        }
        let ConsumerSpec::Mailbox { factory, .. } = &inner else { unreachable!() };
        factory.start(start)
    };
    let victim = placed(Placement::Mailbox, Ack::Consumer, factory);
    world.engine.add_shape(shape(""), victim).unwrap();
    world.publish(1..20, "a");
    world.check(1..20);
    assert_eq!(joined(&seen), firsts(1..20));
    drop(release);
    assert_eq!(world.engine.metrics().deaths, 1);
}

/// A slow consumer is not a dead one: its mailbox overflows, the log feeds it, and nobody waits.
#[test]
fn a_full_mailbox_is_lag_and_no_death() {
    World::each(|mut world| {
        let seen = Seen::default();
        let (go, gate) = crossbeam_channel::bounded::<()>(0);
        let script: Script = Arc::new(move |delivery, _| {
            if delivery.commit_lsn() == Lsn::new(3) {
                let _ = gate.recv();
            }
            Ok(Report::Yes)
        });
        let slow = recorder(Placement::Mailbox, Ack::Log, &seen, script);
        world.engine.add_shape(shape(""), slow).unwrap();
        world.publish(1..400, "a");
        world.check(1..400);
        assert!(joined(&seen).len() < 3);
        drop(go);
        wait_until("the slow one", || joined(&seen).len() == 399);
        assert_eq!(joined(&seen), firsts(1..400));
        let metrics = world.engine.metrics();
        assert_eq!((metrics.deaths, metrics.undeliverable), (0, 0));
        assert!(metrics.overflows >= 1 && metrics.replayed > 0);
    });
}
